"""Finished pictures as arrays: colours in OKLab, their statistics, noise fields, soft masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Field = NDArray[np.float32]  # height x width
Lab = NDArray[np.float32]  # height x width x (L, a, b)

_LINEAR = np.where(
    np.arange(256) <= 10,
    np.arange(256) / 255 / 12.92,
    ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4,
).astype(np.float32)
# Ottosson 2020, "A perceptual color space for image processing"
_TO_LMS = np.array(
    [
        [0.41222147, 0.53633254, 0.05144599],
        [0.21190350, 0.68069955, 0.10739696],
        [0.08830246, 0.28171884, 0.62997870],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.21045426, 0.79361779, -0.00407205],
        [1.97799850, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ],
    np.float32,
)
_FROM_LAB, _FROM_LMS = np.linalg.inv(_TO_LAB), np.linalg.inv(_TO_LMS)


def to_lab(image: Image.Image) -> Lab:
    """The picture in OKLab, where equal steps look equal."""
    lms = _LINEAR[np.asarray(image.convert("RGB"))] @ _TO_LMS.T
    return np.asarray(np.cbrt(lms) @ _TO_LAB.T, np.float32)


def to_image(lab: Lab) -> Image.Image:
    """The nearest sRGB picture."""
    linear = np.clip((lab @ _FROM_LAB.T) ** 3 @ _FROM_LMS.T, 0, 1)
    gamma = np.where(
        linear > 0.0031308, 1.055 * linear ** np.float32(1 / 2.4) - 0.055, 12.92 * linear
    )
    return Image.fromarray(np.rint(gamma * 255).astype(np.uint8))


Statistics = tuple[Lab, Lab]  # mean and spread of each channel


def statistics(lab: Lab, weight: Field | None = None) -> Statistics:
    """Mean and spread of each channel, of a sample of the pixels; `weight` says how much each
    counts.
    """
    flat = lab[::2, ::2].reshape(-1, 3)
    shares = (np.ones(len(flat), np.float32) if weight is None else weight[::2, ::2].ravel())[
        :, None
    ]
    total = shares.sum() + 1e-6
    mean = (flat * shares).sum(axis=0) / total
    return mean, np.sqrt(((flat - mean) ** 2 * shares).sum(axis=0) / total) + np.float32(0.01)


def between(a: Statistics, b: Statistics, t: float) -> Statistics:
    return a[0] + (b[0] - a[0]) * np.float32(t), a[1] + (b[1] - a[1]) * np.float32(t)


def recoloured(lab: Lab, to: Statistics) -> Lab:
    """The picture with the mean and spread of another one's colours (Reinhard et al.

    2001, "Color transfer between images").
    """
    mean, spread = statistics(lab)
    return np.asarray((lab - mean) * np.clip(to[1] / spread, 0.5, 2) + to[0], np.float32)


def noise(
    rng: np.random.Generator, width: int, height: int, *, cells: int, octaves: int = 3
) -> Field:
    """Smooth seeded noise around 0: `cells` waves over the shorter side, each octave half as strong
    and twice as fine.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = min(width, height) / (cells * 2**octave)
        grid = rng.standard_normal(
            (max(2, round(height / step)) + 1, max(2, round(width / step)) + 1)
        ).astype(np.float32)
        total += (
            np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
            / 2**octave
        )
    return total


def blurred(field: Field, radius: float) -> Field:
    """The field (0..1) seen through a soft lens."""
    grey = Image.fromarray(np.rint(np.clip(field, 0, 1) * 255).astype(np.uint8))
    return np.asarray(np.asarray(grey.filter(ImageFilter.GaussianBlur(radius))) / 255, np.float32)


def edges(lab: Lab) -> Field:
    """How strongly the picture changes at each pixel: the Sobel operator over lightness and
    colour.
    """
    padded = np.pad(lab, ((1, 1), (1, 1), (0, 0)), "edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    squares = (rows[:, 2:] - rows[:, :-2]) ** 2 + (columns[2:] - columns[:-2]) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=2)) / 8, np.float32)


def smoothstep(field: NDArray[np.floating[Any]], low: float, high: float) -> Field:
    """0 up to `low`, 1 from `high` on, and soft in between."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def figure(lab: Lab) -> Field:
    """Where a picture shows something: what differs from the margins left and right of it, and
    outlines; 0..1.
    """
    margin = max(1, lab.shape[1] // 12)
    ground = np.median(
        np.concatenate([lab[:, :margin:2], lab[:, -margin::2]], axis=1), axis=1, keepdims=True
    )
    far = np.sqrt(((lab - ground) ** 2).sum(axis=2))
    strength = far + 2 * edges(lab)
    side = min(lab.shape[:2])
    return smoothstep(
        blurred(strength / (np.quantile(strength[::2, ::2], 0.95) + 1e-6), side / 160), 0.15, 0.6
    )


def filled(lab: Lab, known: Field) -> Lab:
    """The picture with its unknown part (`known` 0) filled by the colours around it, the nearest
    most of all.
    """
    height, width = known.shape
    channels = [
        Image.fromarray(channel) for channel in (*np.moveaxis(lab * known[..., None], 2, 0), known)
    ]
    result = np.broadcast_to(statistics(lab, known)[0], lab.shape)
    for cells in (2, 4, 8, 16, 32, 64):
        grid = (
            min(width, max(2, cells * width // max(height, width))),
            min(height, max(2, cells * height // max(height, width))),
        )
        small = [channel.resize(grid, Image.Resampling.BOX) for channel in channels]
        *colours, weight = (
            np.asarray(channel.resize((width, height), Image.Resampling.BILINEAR))
            for channel in small
        )
        colour = np.stack(colours, axis=2) / np.maximum(weight, 1e-6)[..., None]
        result = result + (colour - result) * np.minimum(1, 3 * weight)[..., None]
    return np.asarray(result * (1 - known[..., None]) + lab * known[..., None], np.float32)


def regions(wall: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for each connected area that walls enclose, from 1, the largest first; 0 on
    walls.
    """
    count = wall.size
    label = np.where(wall, count, np.arange(count).reshape(wall.shape)).astype(np.int32)
    while True:
        lowest = np.pad(label, 1, constant_values=count)
        lowest = np.minimum.reduce(
            [
                lowest[1:-1, 1:-1],
                lowest[:-2, 1:-1],
                lowest[2:, 1:-1],
                lowest[1:-1, :-2],
                lowest[1:-1, 2:],
            ]
        )
        leap = np.append(np.where(wall, count, lowest).ravel(), count).astype(
            np.int32
        )  # a label is a pixel: go to that one's label
        after = leap[leap[leap]][:-1].reshape(wall.shape)
        if np.array_equal(after, label):
            break
        label = after
    names, where, areas = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(np.where(names == count, -1, areas))[::-1]
    rank = np.zeros(len(names), np.int64)
    rank[order] = np.arange(1, len(names) + 1)
    rank[names == count] = 0
    return rank[where].reshape(wall.shape)
