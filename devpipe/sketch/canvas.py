"""The surface: anti-aliased filling, strokes, glows, hatching, lettering and grain, in pixels of a sheet larger than the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from devpipe.sketch.forms import Part, Points, turn
from devpipe.sketch.palette import RGB

Box = tuple[float, float, float, float]
Stop = tuple[float, RGB]


class Canvas:
    """A sheet drawn `over` times as large as the picture; `finished` brings it to size, which smooths every edge."""

    def __init__(self, width: int, height: int, over: int, ground: RGB) -> None:
        self.over = over
        self.w, self.h = width * over, height * over
        self.u = float(min(self.w, self.h))
        self.image = Image.new("RGB", (self.w, self.h), ground)
        self.pen = ImageDraw.Draw(self.image)
        self.glaze = ImageDraw.Draw(self.image, "RGBA")

    def polygon(self, points: Points, rgb: RGB, alpha: float = 1.0) -> None:
        if len(points) > 2 and alpha > 0:
            (self.pen if alpha >= 1 else self.glaze).polygon(points.ravel().tolist(), fill=rgb if alpha >= 1 else (*rgb, round(255 * alpha)))

    def stroke(self, points: Points, rgb: RGB, width: float, *, closed: bool = False, alpha: float = 1.0) -> None:
        line = np.concatenate([points, points[:2]]) if closed else points
        pen, ink = (self.pen, rgb) if alpha >= 1 else (self.glaze, (*rgb, round(255 * alpha)))
        pen.line(line.ravel().tolist(), fill=ink, width=max(1, round(width)), joint="curve")
        if not closed and alpha >= 1 and width > 3:
            for x, y in (points[0], points[-1]):
                r = width / 2 - 0.5
                pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def part(self, part: Part, rgb: RGB, alpha: float = 1.0) -> None:
        if part.width:
            self.stroke(part.points, rgb, part.width, closed=part.closed, alpha=alpha)
        else:
            self.polygon(part.points, rgb, alpha)

    def line(self, x0: float, y0: float, x1: float, y1: float, rgb: RGB, width: float, alpha: float = 1.0) -> None:
        self.stroke(np.array([(x0, y0), (x1, y1)]), rgb, width, alpha=alpha)

    def disc(self, x: float, y: float, r: float, rgb: RGB, alpha: float = 1.0) -> None:
        (self.pen if alpha >= 1 else self.glaze).ellipse((x - r, y - r, x + r, y + r), fill=rgb if alpha >= 1 else (*rgb, round(255 * alpha)))

    def rectangle(self, box: Box, rgb: RGB, alpha: float = 1.0) -> None:
        x0, y0, x1, y1 = box
        self.polygon(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), rgb, alpha)

    def gradient(self, stops: Sequence[Stop], box: Box | None = None) -> None:
        """Colours from top (0) to bottom (1) of the box, the whole sheet if none."""
        x0, y0, x1, y1 = (round(v) for v in box or (0, 0, self.w, self.h))
        if x1 <= x0 or y1 <= y0:
            return
        at, rows = [s[0] for s in stops], np.linspace(0, 1, y1 - y0)
        column = np.stack([np.interp(rows, at, [s[1][c] for s in stops]) for c in range(3)], axis=-1)
        strip = Image.fromarray(np.rint(column).astype(np.uint8)[:, None, :])
        self.image.paste(strip.resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST), (x0, y0))

    def glow(self, x: float, y: float, rx: float, ry: float, rgb: RGB, alpha: float = 1.0) -> None:
        """A disc that fades to its rim."""
        size = (max(2, round(2 * rx)), max(2, round(2 * ry)))
        mask = _fading(round(255 * min(1.0, alpha))).resize(size, Image.Resampling.BILINEAR)
        self.image.paste(rgb, (round(x - rx), round(y - ry)), mask)

    def hatch(self, points: Points, rgb: RGB, *, gap: float, width: float, degrees: float) -> None:
        """Parallel lines inside an outline."""
        low, high = points.min(axis=0), points.max(axis=0)
        size = np.ceil(high - low).astype(int) + 1
        if size.min() < 2 or size.max() > 3 * max(self.w, self.h):
            return
        inside, lines = Image.new("1", (int(size[0]), int(size[1]))), Image.new("1", (int(size[0]), int(size[1])))
        ImageDraw.Draw(inside).polygon((points - low).ravel().tolist(), fill=1)
        pen, reach = ImageDraw.Draw(lines), float(np.hypot(*size))
        for offset in np.arange(-reach / 2, reach / 2, max(2.0, gap)):
            ends = turn(np.array([(-reach, offset), (reach, offset)]), degrees) + size / 2
            pen.line(ends.ravel().tolist(), fill=1, width=max(1, round(width)))
        mask = Image.composite(lines, inside, inside)
        self.image.paste(rgb, (round(low[0]), round(low[1])), mask)

    def text(self, words: str, x: float, y: float, size: float, rgb: RGB, degrees: float = 0.0) -> tuple[float, float]:
        """Lettering centred on x, y in the typeface that comes with Pillow; returns its width and height, 0 where it has no such letters."""
        words = "".join(c for c in words if c.isascii() or c in "äöüÄÖÜßéèàçñ")
        if not words.strip() or not features.check("freetype2"):
            return 0.0, 0.0
        font = _font(max(6, round(size)))
        left, top, right, bottom = font.getbbox(words)
        mask = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
        ImageDraw.Draw(mask).text((-left, -top), words, fill=255, font=font)
        rotated = mask.rotate(degrees, Image.Resampling.BICUBIC, expand=True) if degrees else mask
        self.image.paste(rgb, (round(x - rotated.width / 2), round(y - rotated.height / 2)), rotated)
        return float(mask.width), float(mask.height)

    def picture(self, other: Image.Image, x: float, y: float) -> None:
        self.image.paste(other, (round(x), round(y)))

    def finished(self) -> Image.Image:
        return self.image.reduce(self.over) if self.over > 1 else self.image


@cache
def _fading(peak: int) -> Image.Image:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    soft = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray(np.rint(peak * soft**1.5).astype(np.uint8))


@lru_cache(64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def grain(image: Image.Image, rng: np.random.Generator, strength: float, *, coarse: int = 1) -> Image.Image:
    """The picture on paper: grey noise of so many levels, the same for all channels, so that no hue moves."""
    tile = rng.normal(0, strength, (256 // coarse, 256 // coarse)).repeat(coarse, 0).repeat(coarse, 1)
    return _added(image, tile)


def vignette(image: Image.Image, strength: float, rgb: RGB = (0, 0, 0)) -> Image.Image:
    """The picture darkened towards its corners."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    mask = Image.fromarray(np.rint(255 * strength * np.clip((np.hypot(x, y) - 0.45) / 0.97, 0, 1) ** 1.6).astype(np.uint8))
    image.paste(rgb, (0, 0), mask.resize(image.size, Image.Resampling.BILINEAR))
    return image


def _added(image: Image.Image, tile: NDArray[np.float64]) -> Image.Image:
    pixels = np.asarray(image).astype(np.int16)
    height, width = pixels.shape[:2]
    noise = np.rint(tile).astype(np.int16)
    pixels += np.tile(noise, (math.ceil(height / 256), math.ceil(width / 256)))[:height, :width, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
