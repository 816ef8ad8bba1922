"""Manners that are made of several pictures: swapped tiles, whispered copies, a told sequence, two halves."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from devpipe.sketch.faithful import faithful
from devpipe.sketch.forms import Part
from devpipe.sketch.layout import empty_things
from devpipe.sketch.palette import BLACK, RGB, WHITE, apart, mix, oklch, recolour, tint
from devpipe.sketch.reading import Reading
from devpipe.sketch.scene import Scene


def swapped(s: Scene) -> None:
    """The picture in tiles: the first tile of each row goes to its end, as the first letter of a word does, and some are mirrored."""
    c, rng = s.canvas, s.rng("tiles")
    whole = s.panel(c.w, c.h, faithful)
    n = int(rng.integers(4, 6))
    w, h = c.w / n, c.h / n
    letters = "".join(x for word in s.reading.words for x in (word[1:] + word[:1] + "ay")) or "ayay"
    c.rectangle((0, 0, c.w, c.h), mix(s.palette.ground, BLACK, 0.6))
    gap = c.u * 0.006
    for j in range(n):
        for i in range(n):
            source = (i + 1) % n
            tile = whole.crop((round(source * w), round(j * h), round((source + 1) * w), round((j + 1) * h))).resize(
                (round(w - gap), round(h - gap))
            )
            turned = rng.random()
            tile = ImageOps.mirror(tile) if turned < 0.35 else ImageOps.flip(tile) if turned < 0.45 else tile
            c.picture(tile, i * w + gap / 2, j * h + gap / 2)
            if (i + 2 * j) % 4 == 3:
                rgb = s.palette.accents[(i + j) % len(s.palette.accents)]
                c.rectangle((i * w + gap / 2, j * h + gap / 2, (i + 1) * w - gap / 2, (j + 1) * h - gap / 2), rgb)
                c.text(letters[(i + n * j) % len(letters)].upper(), (i + 0.5) * w, (j + 0.5) * h, min(w, h) * 0.7, apart(WHITE, rgb))


def whispered(s: Scene) -> None:
    """Eight panels: each copies the one before and gets it a little wrong, until little is left."""
    c = s.canvas
    columns, rows = (4, 2) if c.w > 1.5 * c.h else (2, 4) if c.h > 1.5 * c.w else (3, 3)  # the ninth stays empty
    paper = (240, 235, 224)
    c.rectangle((0, 0, c.w, c.h), paper)
    gap = c.u * 0.018
    w, h = (c.w - gap * (columns + 1)) / columns, (c.h - gap * (rows + 1)) / rows
    for k in range(8):
        x, y = gap + (k % columns) * (w + gap), gap + (k // columns) * (h + gap)
        c.picture(s.panel(w, h, partial(_copy, k=k, paper=paper)), x, y)


def _copy(s: Scene, k: int, paper: RGB) -> None:
    c, far = s.canvas, k / 7
    ground = mix(recolour(s.palette.ground, turn=24 * k), paper, 0.75 * far)
    c.gradient([(0, tint(ground, 0.08)), (1, mix(ground, BLACK, 0.08))])
    things = s.reading.known or s.reading.things or empty_things(s.reading)
    for i, p in enumerate(
        s.placed("scatter" if len(things) > 1 else "radial", tuple(replace(t, count=min(t.count, 3)) for t in things[:4]))
    ):
        p = replace(p, x=p.x + 0.03 * far * math.sin(9 * k + i), lean=p.lean + 17 * far * math.sin(k + i), size=min(0.42, p.size * 1.2))
        main = mix(recolour(s.colour(p), turn=31 * k), ground, 0.62 * far)
        parts = s.parts(p, partial(_misheard, k=k))
        s.paint(parts, {tone: mix(rgb, ground, 0.55 * far) for tone, rgb in s.tones(apart(main, ground), p).items()})


def _misheard(part: Part, k: int) -> Part:
    """The outline after k retellings: waves run through it and its points get fewer."""
    amount, x, y = 0.016 * k, part.points[:, 0], part.points[:, 1]
    bent = np.stack([x + amount * np.sin(5 * y + k) + amount * np.sin(11 * y), y + amount * np.cos(6 * x + 2 * k)], axis=-1)
    return replace(part, points=bent[:: 1 + k // 2] if len(bent) > 12 + 3 * k else bent)


def told(s: Scene) -> None:
    """A page of panels: the place, the characters one by one, a close look, the end."""
    c, rng = s.canvas, s.rng("page")
    c.rectangle((0, 0, c.w, c.h), (250, 248, 240))
    gap, line = c.u * 0.022, c.u * 0.008
    split, middle = float(rng.uniform(0.36, 0.46)), float(rng.uniform(0.4, 0.6))
    boxes = [
        (0.0, 0.0, 1.0, split),
        (0.0, split, middle, 0.74),
        (middle, split, 1.0, 0.74),
        (0.0, 0.74, 1 - middle, 1.0),
        (1 - middle, 0.74, 1.0, 1.0),
    ]
    things = s.reading.known or s.reading.things or empty_things(s.reading)
    lights = ("dawn", "day", "day", "dusk", "night")
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        x, y, w, h = gap / 2 + x0 * (c.w - gap), gap / 2 + y0 * (c.h - gap), (x1 - x0) * (c.w - gap) - gap, (y1 - y0) * (c.h - gap) - gap
        x, y = x + gap / 2, y + gap / 2
        one = things[(k - 1) % len(things)]
        shown = things if k in (0, 4) else (replace(one, count=1, size=(1.3, 1.3, 2.2, 3.0, 1)[k], place=("centre",)),)
        part = replace(s.reading, things=shown, light=lights[k], abstraction=0.0 if s.reading.known else 1.0)
        c.picture(s.panel(w, h, faithful, seed=k + 1, reading=part), x, y)
        c.stroke(np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]), BLACK, line, closed=True)
        if k in (1, 3):
            _balloon(s, x + w * 0.7, y + h * 0.24, min(w, h) * 0.2, "?" if k == 1 else "!")


def _balloon(s: Scene, x: float, y: float, r: float, mark: str) -> None:
    c = s.canvas
    for grow, rgb in ((0.008 * c.u, BLACK), (0.0, WHITE)):
        c.pen.ellipse((x - r * 1.4 - grow, y - r - grow, x + r * 1.4 + grow, y + r + grow), fill=rgb)
        c.polygon(np.array([(x - r * 0.7, y + r * 0.5), (x - r * 0.1, y + r * 0.7), (x - r * 1.1 - grow, y + r * 1.7 + grow)]), rgb)
    c.text(mark, x, y, r * 1.3, BLACK)


def halved(s: Scene) -> None:
    """Two pictures of the text's two halves, joined along a torn seam."""
    c, rng = s.canvas, s.rng("seam")
    left, right = _halves(s.reading)
    one, two = s.panel(c.w, c.h, faithful, seed=1, reading=left), s.panel(c.w, c.h, faithful, seed=2, reading=right)
    hue = int(s.reading.key[:3] or "0", 16) % 360
    one = Image.blend(one, ImageOps.colorize(ImageOps.grayscale(one), oklch(0.2, 0.06, hue), oklch(0.97, 0.05, hue + 40)), 0.35)
    two = Image.blend(two, ImageOps.colorize(ImageOps.grayscale(two), oklch(0.24, 0.08, hue + 180), oklch(0.95, 0.07, hue + 220)), 0.35)
    n, tilt = 17, float(rng.uniform(-0.16, 0.16))
    ys = np.linspace(-0.02, 1.02, n)
    xs = 0.5 + tilt * (ys - 0.5) * 2 + rng.uniform(-0.025, 0.025, n)
    seam = np.stack([xs * c.w, ys * c.h], axis=-1)
    mask = Image.new("L", (c.w, c.h))
    ImageDraw.Draw(mask).polygon([*seam.ravel().tolist(), c.w + 2, c.h + 2, c.w + 2, -2], fill=255)
    c.picture(Image.composite(two, one, mask), 0, 0)
    c.stroke(seam + c.u * 0.004, BLACK, c.u * 0.016, alpha=0.3)
    c.stroke(seam, (250, 246, 236), c.u * 0.012)


def _halves(r: Reading) -> tuple[Reading, Reading]:
    things = r.known or r.things or empty_things(r)
    half = max(1, len(things) // 2)
    first, second = things[:half], things[half:] or things
    return replace(r, things=tuple(replace(t, place=("left",)) for t in first), key=r.key[::-1]), replace(
        r, things=tuple(replace(t, place=("right",)) for t in second), light="dusk" if r.light != "dusk" else "day"
    )
