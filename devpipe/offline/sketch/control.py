"""A picture whose areas and lines are led by the edges of another picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from devpipe.offline.sketch import pixels
from devpipe.offline.sketch.pixels import Field, Lab
from devpipe.offline.sketch.styles import compose
from devpipe.values import derived_seed

_SHADES, _COLOURS, _APART = (
    32,
    6,
    0.08,
)  # found in the composition, kept of them, and how much they differ (OKLab)
_SIDE = 384  # pixels of the longer side in which areas are found
_LEAST = 0.0006  # share of the picture: smaller areas take what the composition shows there
_WALL = (0.16, 0.45)  # an edge begins, and is certain


def follow(
    control: Image.Image,
    text: str,
    *,
    strength: float,
    seed: int,
    width: int,
    height: int,
    style: str = "",
    language: str = "",
) -> Image.Image:
    """A picture of the text, RGB, drawn along the edges of the control image, which is cropped to
    the size wanted.

    `strength` 0 is the picture of the text alone; at 1 each area that edges enclose has one colour
    of that picture,
    the composition is a texture in it, and the edges are drawn in ink.
    """
    composed = compose(text, seed=seed, width=width, height=height, style=style, language=language)
    if strength <= 0:
        return composed
    guide = pixels.to_lab(
        ImageOps.fit(control.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    )
    line, lab = _lines(guide), pixels.to_lab(composed)
    paints = _paints(composed)
    flat = _areas(guide, line, paints, np.random.default_rng(derived_seed(seed, "control")))
    texture = (lab - lab.mean(axis=(0, 1))) * np.float32(0.35 * (1 - 0.5 * strength))
    known = flat[..., 3:]
    led = (flat[..., :3] + texture) * known + lab * (1 - known)
    mixed = lab + (led - lab) * np.float32(min(1.0, 1.4 * strength))
    ink = (line * strength)[..., None]
    pen = np.array(
        [0.95 if paints[0, 0] < 0.55 else 0.18, 0, 0], np.float32
    )  # what is seen best on the ground
    return pixels.to_image(mixed * (1 - ink) + pen * ink)


def _paints(composed: Image.Image) -> Lab:
    """The main colours of a picture that differ from each other, the most frequent (its ground)
    first.
    """
    few = composed.quantize(_SHADES, Image.Quantize.MEDIANCUT)
    table = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
    counts = np.bincount(np.asarray(few).ravel(), minlength=len(table))[: len(table)]
    shades: Lab = pixels.to_lab(Image.fromarray(table[None]))[0]
    far = np.sqrt(((shades[:, None] - shades) ** 2).sum(axis=2))
    chosen = [
        int(((far < _APART) @ counts * (counts > 0)).argmax())
    ]  # a ground in many like shades is one ground
    while len(chosen) < _COLOURS:
        apart = far[:, chosen].min(axis=1)
        worth = np.where(apart > _APART, apart * counts**0.25, 0)
        if not worth.any():
            break
        chosen.append(int(worth.argmax()))
    return shades[chosen]


def _lines(guide: Lab) -> Field:
    """Where the control image has an edge, 0..1, about as thick as a pen; a drawn line is one line,
    not its two sides.
    """
    side = min(guide.shape[:2])
    soft = np.stack(
        [pixels.blurred(channel / 2 + 0.25, side / 300) for channel in np.moveaxis(guide, 2, 0)],
        axis=2,
    )
    strength = pixels.edges(soft)
    strong = strength / max(0.012, float(np.quantile(strength[::2, ::2], 0.985)))
    return pixels.smoothstep(pixels.blurred(strong, side / 400), *_WALL)


def _areas(guide: Lab, line: Field, paints: Lab, rng: np.random.Generator) -> NDArray[np.float32]:
    """For each pixel the colour of its area, and (fourth) whether it lies in an area worth one."""
    height, width = line.shape
    small = (
        max(8, width * _SIDE // max(width, height)),
        max(8, height * _SIDE // max(width, height)),
    )
    wall = np.asarray(Image.fromarray(line).resize(small, Image.Resampling.BOX)) > 0.22
    names = pixels.regions(wall)
    light = np.asarray(
        Image.fromarray(np.ascontiguousarray(guide[..., 0])).resize(small, Image.Resampling.BOX)
    )
    areas = np.bincount(names.ravel())
    lights = np.bincount(names.ravel(), light.ravel()) / np.maximum(areas, 1)
    table = np.zeros((len(areas), 4), np.float32)
    worthy = [name for name in range(1, len(areas)) if areas[name] >= _LEAST * names.size]
    table[worthy, :3] = paints[_chosen(lights[worthy], paints[:, 0], rng)]
    table[worthy, 3] = 1
    spread = _grown(table[names])
    layers = (Image.fromarray(np.ascontiguousarray(layer)) for layer in np.moveaxis(spread, 2, 0))
    return np.stack(
        [np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR)) for layer in layers],
        axis=2,
    )


def _chosen(
    lights: NDArray[np.float64], paints: NDArray[np.float32], rng: np.random.Generator
) -> list[int]:
    """A paint for each area, the largest first: as light as the area is among the others, and
    rather one seldom used.
    """
    order, uses, chosen = np.argsort(np.argsort(paints)), np.zeros(len(paints)), []
    low, high = (float(lights.min()), float(lights.max())) if len(lights) else (0.0, 1.0)
    for index, light in enumerate(lights):
        rank = (light - low) / (high - low + 0.05) * (len(paints) - 1)
        cost = abs(order - rank) / len(paints) + 0.22 * uses + rng.uniform(0, 0.05, len(paints))
        chosen.append(0 if index == 0 else int(cost.argmin()))  # the largest is the ground
        uses[chosen[-1]] += 1
    return chosen


def _grown(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The areas' colours carried a few pixels onto the walls between them."""
    for step in range(8):
        shifted = np.roll(table, (1, -1)[step % 2], axis=step // 2 % 2)
        table = np.where(table[..., 3:] > 0, table, shifted)
    return table
