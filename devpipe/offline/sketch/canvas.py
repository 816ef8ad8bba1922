"""The surface: anti-aliased filling, strokes, glows, hatching, lettering and grain, in pixels of a
sheet larger than the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from devpipe.offline.sketch.forms import Part, Points, turn
from devpipe.offline.sketch.palette import RGB

Box = tuple[float, float, float, float]
Stop = tuple[float, RGB]


class Canvas:
    """A sheet drawn `over` times as large as the picture; `finished` brings it to size, which
    smooths every edge.
    """

    def __init__(self, width: int, height: int, over: int, ground: RGB) -> None:
        self.over = over
        self.w, self.h = width * over, height * over
        self.u = float(min(self.w, self.h))
        self.image = Image.new("RGB", (self.w, self.h), ground)
        self.pen = ImageDraw.Draw(self.image)
        self.glaze = ImageDraw.Draw(self.image, "RGBA")

    def _ink(self, rgb: RGB, alpha: float) -> tuple[ImageDraw.ImageDraw, tuple[int, ...]]:
        return (self.pen, rgb) if alpha >= 1 else (self.glaze, (*rgb, round(255 * alpha)))

    def polygon(self, points: Points, rgb: RGB, alpha: float = 1.0) -> None:
        if len(points) > 2 and alpha > 0:
            pen, ink = self._ink(rgb, alpha)
            pen.polygon(points.ravel().tolist(), fill=ink)

    def stroke(
        self, points: Points, rgb: RGB, width: float, *, closed: bool = False, alpha: float = 1.0
    ) -> None:
        """A line with round ends and joints.

        Pillow's own `joint="curve"` takes 20 times as long: discs go only where a gap would show.
        """
        spacing = float(np.abs(points[1:] - points[:-1]).sum()) / max(1, len(points))
        thin = (
            points[:: max(1, int(0.3 * width / max(0.1, spacing)))] if len(points) > 12 else points
        )
        line = np.concatenate([thin, thin[:2] if closed else points[-1:]])
        pen, ink = self._ink(rgb, alpha)
        pen.line(line.ravel().tolist(), fill=ink, width=max(1, round(width)))
        if width > 3 and alpha >= 1:
            a, b = line[1:-1] - line[:-2], line[2:] - line[1:-1]
            bend = np.abs(np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(axis=1)))
            r, ends = width / 2 - 0.5, line[[]] if closed else line[[0, -1]]
            for x, y in (*line[1:-1][bend * r > 1.2], *ends):
                pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def part(self, part: Part, rgb: RGB, alpha: float = 1.0) -> None:
        if part.width:
            self.stroke(part.points, rgb, part.width, closed=part.closed, alpha=alpha)
        else:
            self.polygon(part.points, rgb, alpha)

    def line(
        self, x0: float, y0: float, x1: float, y1: float, rgb: RGB, width: float, alpha: float = 1.0
    ) -> None:
        self.stroke(np.array([(x0, y0), (x1, y1)]), rgb, width, alpha=alpha)

    def disc(self, x: float, y: float, r: float, rgb: RGB, alpha: float = 1.0) -> None:
        pen, ink = self._ink(rgb, alpha)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def rectangle(self, box: Box, rgb: RGB, alpha: float = 1.0) -> None:
        self.polygon(_corners(*box), rgb, alpha)

    def frame(self, box: Box, rgb: RGB, width: float) -> None:
        self.stroke(_corners(*box), rgb, width, closed=True)

    def gradient(self, stops: Sequence[Stop], box: Box | None = None) -> None:
        """Colours from top (0) to bottom (1) of the box, the whole sheet if none."""
        x0, y0, x1, y1 = (round(v) for v in box or (0, 0, self.w, self.h))
        if x1 <= x0 or y1 <= y0:
            return
        at, rows = [s[0] for s in stops], np.linspace(0, 1, y1 - y0)
        column = np.stack(
            [np.interp(rows, at, [s[1][c] for s in stops]) for c in range(3)], axis=-1
        )
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
        inside, lines = (Image.new("1", (int(size[0]), int(size[1]))) for _ in range(2))
        ImageDraw.Draw(inside).polygon((points - low).ravel().tolist(), fill=1)
        pen, reach = ImageDraw.Draw(lines), float(np.hypot(*size))
        for offset in np.arange(-reach / 2, reach / 2, max(2.0, gap)):
            ends = turn(np.array([(-reach, offset), (reach, offset)]), degrees) + size / 2
            pen.line(ends.ravel().tolist(), fill=1, width=max(1, round(width)))
        self.image.paste(
            rgb, (round(low[0]), round(low[1])), Image.composite(lines, inside, inside)
        )

    def text(
        self, words: str, x: float, y: float, size: float, rgb: RGB, degrees: float = 0.0
    ) -> None:
        self.stamp(lettering(words, size, degrees), x, y, rgb)

    def stamp(self, mask: Image.Image | None, x: float, y: float, rgb: RGB) -> None:
        if mask is not None:
            self.image.paste(rgb, (round(x - mask.width / 2), round(y - mask.height / 2)), mask)

    def picture(self, other: Image.Image, x: float, y: float) -> None:
        self.image.paste(other, (round(x), round(y)))

    def finished(self) -> Image.Image:
        return self.image.reduce(self.over) if self.over > 1 else self.image


def _corners(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


_WITHOUT_DOTS = str.maketrans("äöüÄÖÜ", "aouAOU")


def lettering(words: str, size: float, degrees: float = 0.0) -> Image.Image | None:
    """A mask of the words in the typeface that comes with Pillow, None where it has not one of
    their letters.
    """
    one_line = "".join(" " if c.isspace() else c for c in words.replace("ß", "ss"))
    words = "".join(c for c in one_line if (c.isascii() and c.isprintable()) or c in "äöüÄÖÜ")
    if not words.strip() or not features.check("freetype2"):
        return None
    font, bare, head = _font(max(6, round(size))), words.translate(_WITHOUT_DOTS), round(0.2 * size)
    left, top, right, bottom = font.getbbox(bare)
    mask = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top)) + 2 * head))
    pen = ImageDraw.Draw(mask)
    pen.text((-left, head - top), bare, fill=255, font=font)
    for i, letter in enumerate(words):  # the typeface has no umlauts: two dots make them
        x0, y0, x1, _ = font.getbbox(bare[i]) if letter in "äöüÄÖÜ" else (0, 0, 0, 0)
        for part in (0.28, 0.72) if x1 else ():
            u, v, r = (
                x0 + part * (x1 - x0) - left + font.getlength(bare[:i]),
                head - top + y0 - 0.1 * size,
                0.055 * size,
            )
            pen.ellipse((u - r, v - r, u + r, v + r), fill=255)
    return mask.rotate(degrees, Image.Resampling.BILINEAR, expand=True) if degrees else mask


@cache
def _fading(peak: int) -> Image.Image:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    soft = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray(np.rint(peak * soft**1.5).astype(np.uint8))


_font = lru_cache(64)(ImageFont.load_default)


def grain(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """The picture on paper: grey noise of so many levels, the same for all channels, so that no hue
    moves.
    """
    tile = np.rint(rng.standard_normal((256, 256), dtype=np.float32) * np.float32(strength)).astype(
        np.int16
    )
    pixels = np.asarray(image).astype(np.int16)
    pixels += np.tile(tile, (math.ceil(image.height / 256), math.ceil(image.width / 256)))[
        : image.height, : image.width, None
    ]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


def vignette(image: Image.Image, strength: float, rgb: RGB = (0, 0, 0)) -> Image.Image:
    """The picture darkened towards its corners."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    mask = Image.fromarray(
        np.rint(255 * strength * np.clip((np.hypot(x, y) - 0.45) / 0.97, 0, 1) ** 1.6).astype(
            np.uint8
        )
    )
    image.paste(rgb, (0, 0), mask.resize(image.size, Image.Resampling.BILINEAR))
    return image
