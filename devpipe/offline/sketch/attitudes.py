"""Manners of our own procedures: too much, too plain, too sweet, upside down, from orbit, on old
film, and in several pictures.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from devpipe.offline.sketch.canvas import grain, lettering, vignette
from devpipe.offline.sketch.faithful import faithful
from devpipe.offline.sketch.forms import Part, ngon, rounded, smooth, spiked, turn, unit
from devpipe.offline.sketch.layout import Placed
from devpipe.offline.sketch.movements import sphere
from devpipe.offline.sketch.palette import (
    BLACK,
    RGB,
    WHITE,
    apart,
    mix,
    oklch,
    recolour,
    shade,
    tint,
)
from devpipe.offline.sketch.scene import Scene

_NEON: tuple[RGB, ...] = (
    (255, 0, 110),
    (0, 229, 255),
    (255, 230, 0),
    (120, 0, 255),
    (0, 255, 120),
    (255, 90, 0),
)


def overdrive(s: Scene) -> None:
    """Everything more: exploding rays, neon, every thing many times."""
    c, rng = s.canvas, s.rng("rays")
    pool = [_NEON[int(i)] for i in rng.permutation(6)]
    x0, y0, n = (
        c.w * rng.uniform(0.38, 0.62),
        c.h * rng.uniform(0.38, 0.62),
        int(rng.integers(22, 34)) * 2,
    )
    edges = unit(np.cumsum(rng.uniform(0.4, 1.6, n)) * math.tau / n) * (c.w + c.h) + (x0, y0)
    for i in range(n):
        c.polygon(
            np.array([(x0, y0), edges[i], edges[(i + 1) % n]]),
            pool[i % 3] if i % 2 else shade(pool[(i // 2) % 3 + 1], 0.55),
        )
    for r, k in ((0.46, 0), (0.34, 3), (0.24, 1)):
        burst = spiked(18, 1.0, 0.72) * c.u * r + (x0, y0)
        c.polygon(burst, pool[k])
        c.stroke(burst, BLACK, c.u * 0.008, closed=True)
    things = s.placed("radial")
    for ring, (radius, size, count) in enumerate(
        ((0.62, 0.11, 11), (0.4, 0.14, 7), (0.0, 0.26, 1))
    ):
        for i in range(count):
            p, angle = things[(i + ring) % len(things)], math.tau * i / count + ring
            p = replace(
                p,
                x=(x0 + radius * c.u * math.cos(angle)) / c.w,
                y=(y0 + radius * c.u * math.sin(angle)) / c.h,
                size=size,
            )
            parts = s.parts(p)
            s.silhouette(parts, BLACK, c.u * 0.028 * (0.4 + size * 2))
            s.paint(
                parts,
                {
                    **s.tones(recolour(s.colour(p), chroma=2.2), p, accent=pool[(i + 1) % 6]),
                    "l": pool[(i + 2) % 6],
                },
            )
    for x, y, r in rng.random((40, 3)):
        c.polygon(spiked(4, 1.0, 0.2) * c.u * 0.03 * r + (x * c.w, y * c.h), WHITE)


def opposite(s: Scene, image: Image.Image) -> Image.Image:
    """Light for dark, each colour's complement, what was above below, left right."""
    return grain(ImageOps.invert(image).transpose(Image.Transpose.ROTATE_180), s.rng("grain"), 3)


def uncliched(s: Scene) -> None:
    """One plain look from beside: a detail, near and cut off, in quiet colours, with room."""
    c, rng = s.canvas, s.rng("look")
    hue, edge = rng.uniform(0, 360), rng.uniform(0.62, 0.8)
    wall, floor = oklch(0.83, 0.014, hue), oklch(0.7, 0.02, hue + 30)
    c.gradient(
        [(0, shade(wall, 0.04)), (edge, wall), (edge + 0.003, floor), (1, shade(floor, 0.08))]
    )
    side = float(rng.choice([-1.0, 1.0]))
    light = np.array(
        [
            (0.5 + side * 0.1, -0.1),
            (0.5 + side * 0.42, -0.1),
            (0.5 + side * 0.02, edge),
            (0.5 - side * 0.34, edge),
        ]
    )
    c.polygon(light * (c.w, c.h), WHITE, 0.16)
    for k, p in enumerate(s.placed("thirds")[:3]):
        size = (0.6, 0.1, 0.07)[k]
        x, y = (
            (0.5 + side * 0.34, 0.07 + size * rng.uniform(0.9, 1.1))
            if k == 0
            else (0.5 - side * (0.18 + 0.16 * k), edge + 0.03 - size)
        )
        p = replace(p, x=x, y=y, size=size, lean=0.0)
        main = recolour(s.colour(p), chroma=0.4)
        s.shadow(s.parts(p), 0.03 * -side, 0.01, BLACK, 0.08)
        s.paint(
            s.parts(p),
            {
                tone: mix(rgb, wall, 0.18)
                for tone, rgb in s.tones(main, p, accent=shade(main, 0.2)).items()
            },
        )


def harmonizer(s: Scene) -> None:
    """Soft, round and even: pastel rings and every thing beside its mirror image."""
    c, hue = s.canvas, s.reading.hue
    c.gradient([(0, oklch(0.9, 0.06, hue)), (1, oklch(0.83, 0.08, hue + 50))])
    for i in range(6):
        c.disc(
            c.w / 2,
            c.h / 2,
            c.u * (0.62 - 0.095 * i),
            oklch(0.88 + 0.016 * i, 0.07, hue + 26 * i),
            0.8,
        )
    for i in range(16):
        angle = math.tau * i / 16
        x, y = c.w / 2 + math.cos(angle) * c.u * 0.455, c.h / 2 + math.sin(angle) * c.u * 0.455
        c.disc(x, y, c.u * (0.016 if i % 2 else 0.026), oklch(0.72, 0.11, hue + 26 * (i % 4)), 0.9)
    things = s.placed("radial")
    for k, p in enumerate(things[1:7]):
        for flip in (False, True):
            x, y = (
                0.5 + ((0.27 if flip else 0.73) - 0.5) * (1 + 0.2 * (k % 2)),
                0.5 + 0.2 * (k - (min(len(things), 7) - 2) / 2),
            )
            _softly(s, replace(p, x=x, y=y, size=min(0.12, p.size), flip=flip, lean=0.0), hue)
    _softly(s, replace(things[0], x=0.5, y=0.5, size=0.27, lean=0.0), hue)
    c.glow(c.w / 2, c.h / 2, c.u * 0.75, c.u * 0.75, WHITE, 0.25)


def _softly(s: Scene, p: Placed, hue: float) -> None:
    main = mix(recolour(s.colour(p), chroma=0.8), oklch(0.85, 0.07, hue), 0.3)
    tones = {
        tone: mix(rgb, WHITE, 0.1)
        for tone, rgb in s.tones(main, p, accent=oklch(0.8, 0.09, hue + 60)).items()
    }
    parts = s.parts(
        p, lambda part: part if part.width or len(part.points) > 40 else part.moved(rounded)
    )
    s.paint(parts, {**tones, "d": shade(main, 0.12)})


def youth_slang(s: Scene) -> None:
    """Stickers and spray on a wall."""
    c, rng = s.canvas, s.rng("wall")
    pool = [_NEON[int(i)] for i in rng.permutation(6)]
    c.rectangle((0, 0, c.w, c.h), (46, 44, 56))
    high = c.u / 11
    for j in range(math.ceil(c.h / high)):
        for i in range(-1, math.ceil(c.w / (2 * high))):
            x, y, g = (2 * i + j % 2) * high, j * high, int(rng.integers(-7, 8))
            c.rectangle((x + 2, y + 2, x + 2 * high - 2, y + high - 2), (62 + g, 58 + g, 72 + g))
    for i, (x, y, r) in enumerate(rng.random((5, 3))):
        c.glow(x * c.w, y * c.h, c.u * (0.2 + 0.25 * r), c.u * (0.2 + 0.25 * r), pool[i % 6], 0.95)
        for _ in range(3):
            dx = rng.uniform(-0.1, 0.1) * c.u
            c.line(
                x * c.w + dx,
                y * c.h,
                x * c.w + dx,
                y * c.h + c.u * rng.uniform(0.1, 0.34),
                pool[i % 6],
                c.u * 0.009,
            )
    for word, y in zip(s.lettered("yo!")[:2], (0.13, 0.9), strict=False):
        size = min(0.16, 0.95 / max(4, len(word))) * c.u * 1.35
        mask = lettering(word.upper(), size, 7.0 if y < 0.5 else -5.0)
        for off, rgb in ((0.022, BLACK), (0.012, pool[4]), (0.0, WHITE)):
            c.stamp(mask, c.w / 2 + off * c.u, c.h * y + off * c.u, rgb)
    for i, p in enumerate(s.placed("scatter")):
        p = replace(
            p, size=min(0.36, p.size * 1.2), lean=rng.uniform(-16, 16), y=0.5 + (p.y - 0.5) * 0.6
        )
        parts = s.parts(p)
        s.shadow(parts, 0.014, 0.022, BLACK, 0.5)
        s.silhouette(parts, WHITE, c.u * 0.04)
        s.paint(
            parts,
            s.tones(recolour(s.colour(p), chroma=1.6), p, accent=pool[i % 6]),
            line=BLACK,
            width=c.u * 0.005,
        )


def planetarizer(s: Scene) -> None:
    """The same, seen from an orbit: a planet that carries the things on its rim."""
    c, rng = s.canvas, s.rng("orbit")
    c.gradient([(0, (8, 10, 26)), (1, (22, 18, 44))])
    for x, y, r in rng.random((150, 3)):
        c.disc(x * c.w, y * c.h, c.u * (0.0012 + 0.0035 * r**4), WHITE, 0.3 + 0.6 * r)
    x0, y0, radius = c.w * rng.uniform(0.44, 0.56), c.h * rng.uniform(0.5, 0.56), c.u * 0.27
    hue = s.reading.hue
    sea, land = oklch(0.5, 0.1, hue), oklch(0.68, 0.11, hue + 100)
    c.glow(x0, y0, radius * 1.75, radius * 1.75, tint(sea, 0.4), 0.75)
    for k in range(3):
        orbit = turn(
            ngon(120) * (radius * (1.75 + 0.4 * k), radius * (0.5 + 0.14 * k)),
            -18 + 12 * k,
            (x0, y0),
        )
        c.stroke(orbit, tint(sea, 0.6), c.u * 0.003, closed=True, alpha=0.5)
        moon = orbit[int(rng.integers(120))]
        sphere(s, float(moon[0]), float(moon[1]), c.u * (0.018 + 0.012 * k), s.palette.accents[k])
    globe = s.panel(2 * radius, 2 * radius, lambda inner: _continents(inner, sea, land))
    disc = Image.new("L", globe.size)
    ImageDraw.Draw(disc).ellipse((0, 0, globe.width - 1, globe.width - 1), fill=255)
    c.image.paste(globe, (round(x0 - radius), round(y0 - radius)), disc)
    things = s.placed("radial")
    count = max(5, min(11, len(things)))
    for i in range(count):
        p, angle = things[i % len(things)], 360 * i / count + rng.uniform(-8, 8)
        size = min(0.13, 0.6 / count) * (1.15 if i == 0 else 0.9)
        reach = radius + size * c.u * (0.94 if p.thing.habitat in ("ground", "water") else 1.4)
        middle = turn(np.array([[0, -reach]]), angle)[0] + (x0, y0)
        p = replace(p, x=float(middle[0]) / c.w, y=float(middle[1]) / c.h, size=size, lean=0.0)
        spun = [
            replace(part, points=turn(part.points - middle, angle) + middle) for part in s.parts(p)
        ]
        s.paint(spun, s.tones(s.colour(p), p))


def _continents(s: Scene, sea: RGB, land: RGB) -> None:
    c, rng = s.canvas, s.rng("continents")
    c.gradient([(0, tint(sea, 0.2)), (1, shade(sea, 0.35))])
    for x, y, r in rng.random((6, 3)):
        coast = smooth(
            ngon(11) * rng.uniform(0.5, 1.1, (11, 1)) * c.u * (0.12 + 0.14 * r) + (x * c.w, y * c.h)
        )
        c.polygon(coast, mix(land, WHITE, 0.25 * r))
    for x, y, r in rng.random((7, 3)):
        c.glow(x * c.w, y * c.h, c.u * 0.3 * r, c.u * 0.03, WHITE, 0.8)
    c.glow(c.w * 0.28, c.h * 0.22, c.u * 0.6, c.u * 0.6, WHITE, 0.35)


def photographed(s: Scene, image: Image.Image) -> Image.Image:
    """An old print: soft, faded, warm, grainy, dark at the corners, with a white border."""
    rng, (w, h) = s.rng("print"), image.size
    soft = image.filter(ImageFilter.GaussianBlur(min(w, h) / 420))
    grey = ImageOps.colorize(
        ImageOps.autocontrast(ImageOps.grayscale(soft), cutoff=1),
        (44, 30, 26),
        (250, 236, 206),
        mid=(158, 124, 92),
    )
    faded = Image.blend(soft, grey, rng.uniform(0.62, 0.9))
    glow = Image.new("L", (32, 32))
    glow.putdata([max(0, round(150 - 16 * math.hypot(i % 32, i // 32 - 12))) for i in range(1024)])
    faded.paste((255, 150, 70), (0, 0), glow.resize((w, h), Image.Resampling.BICUBIC))
    old = grain(vignette(faded, 0.62, (24, 14, 10)), s.rng("grain"), 11)
    edge = max(2, min(w, h) // 22)
    frame = Image.new("RGB", (w, h), (244, 240, 230))
    frame.paste(old.crop((edge, edge, w - edge, h - 2 * edge)), (edge, edge))
    return frame


def swapped(s: Scene) -> None:
    """The picture in tiles: the first tile of each row goes to its end, as the first letter of a
    word does, and some are mirrored.
    """
    c, rng = s.canvas, s.rng("tiles")
    whole = s.panel(c.w, c.h, faithful)
    n = int(rng.integers(4, 6))
    w, h = c.w / n, c.h / n
    letters = "".join(x for word in s.reading.words for x in word[1:] + word[:1] + "ay") or "ayay"
    c.rectangle((0, 0, c.w, c.h), mix(s.palette.ground, BLACK, 0.6))
    gap = c.u * 0.006
    for j in range(n):
        for i in range(n):
            source = (i + 1) % n
            tile = whole.crop(
                (round(source * w), round(j * h), round((source + 1) * w), round((j + 1) * h))
            )
            tile, turned = tile.resize((round(w - gap), round(h - gap))), rng.random()
            tile = (
                ImageOps.mirror(tile)
                if turned < 0.35
                else ImageOps.flip(tile)
                if turned < 0.45
                else tile
            )
            c.picture(tile, i * w + gap / 2, j * h + gap / 2)
            if (i + 2 * j) % 4 == 3:
                rgb = s.accent(i + j)
                c.rectangle(
                    (
                        i * w + gap / 2,
                        j * h + gap / 2,
                        (i + 1) * w - gap / 2,
                        (j + 1) * h - gap / 2,
                    ),
                    rgb,
                )
                c.text(
                    letters[(i + n * j) % len(letters)].upper(),
                    (i + 0.5) * w,
                    (j + 0.5) * h,
                    min(w, h) * 0.7,
                    apart(WHITE, rgb),
                )


def whispered(s: Scene) -> None:
    """Eight panels: each copies the one before and gets it a little wrong, until little is left."""
    c = s.canvas
    columns, rows = (
        (4, 2) if c.w > 1.5 * c.h else (2, 4) if c.h > 1.5 * c.w else (3, 3)
    )  # the ninth stays empty
    gap, paper = c.u * 0.018, (240, 235, 224)
    c.rectangle((0, 0, c.w, c.h), paper)
    w, h = (c.w - gap * (columns + 1)) / columns, (c.h - gap * (rows + 1)) / rows
    for k in range(8):
        x, y = gap + (k % columns) * (w + gap), gap + (k // columns) * (h + gap)
        c.picture(s.panel(w, h, partial(_copy, k=k, paper=paper)), x, y)


def _copy(s: Scene, k: int, paper: RGB) -> None:
    c, far = s.canvas, k / 7
    ground = mix(recolour(s.palette.ground, turn=24 * k), paper, 0.75 * far)
    c.gradient([(0, tint(ground, 0.08)), (1, mix(ground, BLACK, 0.08))])
    things = tuple(replace(t, count=min(t.count, 3)) for t in s.reading.shown[:4])
    for i, p in enumerate(s.placed("scatter" if len(things) > 1 else "radial", things)):
        p = replace(
            p,
            x=p.x + 0.03 * far * math.sin(9 * k + i),
            lean=p.lean + 17 * far * math.sin(k + i),
            size=min(0.42, p.size * 1.2),
        )
        main = mix(recolour(s.colour(p), turn=31 * k), ground, 0.62 * far)
        parts = s.parts(p, partial(_misheard, k=k))
        s.paint(
            parts,
            {
                tone: mix(rgb, ground, 0.55 * far)
                for tone, rgb in s.tones(apart(main, ground), p).items()
            },
        )


def _misheard(part: Part, k: int) -> Part:
    """The outline after k retellings: waves run through it and its points get fewer."""
    amount, x, y = 0.016 * k, part.points[:, 0], part.points[:, 1]
    bent = np.stack(
        [
            x + amount * np.sin(5 * y + k) + amount * np.sin(11 * y),
            y + amount * np.cos(6 * x + 2 * k),
        ],
        axis=-1,
    )
    return replace(part, points=bent[:: 1 + k // 2] if len(bent) > 12 + 3 * k else bent)


def told(s: Scene) -> None:
    """A page of panels: the place, the characters one by one, a close look, the end."""
    c, rng = s.canvas, s.rng("page")
    c.rectangle((0, 0, c.w, c.h), (250, 248, 240))
    gap, line = c.u * 0.022, c.u * 0.008
    split, middle = rng.uniform(0.36, 0.46), rng.uniform(0.4, 0.6)
    left, right = (0.0, split, middle, 0.74), (middle, split, 1.0, 0.74)
    boxes = [
        (0.0, 0.0, 1.0, split),
        left,
        right,
        (0.0, 0.74, 1 - middle, 1.0),
        (1 - middle, 0.74, 1.0, 1.0),
    ]
    things = s.reading.shown
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        x, y = gap / 2 + x0 * (c.w - gap) + gap / 2, gap / 2 + y0 * (c.h - gap) + gap / 2
        w, h = (x1 - x0) * (c.w - gap) - gap, (y1 - y0) * (c.h - gap) - gap
        one = replace(
            things[(k - 1) % len(things)],
            count=1,
            size=(1.3, 1.3, 2.2, 3.0, 1)[k],
            place=("centre",),
        )
        light = ("dawn", "day", "day", "dusk", "night")[k]
        shown = things if k in (0, 4) else (one,)
        part = replace(
            s.reading, things=shown, light=light, abstraction=0.0 if s.reading.known else 1.0
        )
        c.picture(s.panel(w, h, faithful, seed=k + 1, reading=part), x, y)
        c.frame((x, y, x + w, y + h), BLACK, line)
        if k in (1, 3):
            _balloon(s, x + w * 0.7, y + h * 0.24, min(w, h) * 0.2, "?" if k == 1 else "!")


def _balloon(s: Scene, x: float, y: float, r: float, mark: str) -> None:
    c = s.canvas
    for grow, rgb in ((0.008 * c.u, BLACK), (0.0, WHITE)):
        c.pen.ellipse(
            (x - r * 1.4 - grow, y - r - grow, x + r * 1.4 + grow, y + r + grow), fill=rgb
        )
        c.polygon(
            np.array(
                [
                    (x - r * 0.7, y + r * 0.5),
                    (x - r * 0.1, y + r * 0.7),
                    (x - r * 1.1 - grow, y + r * 1.7 + grow),
                ]
            ),
            rgb,
        )
    c.text(mark, x, y, r * 1.3, BLACK)


def halved(s: Scene) -> None:
    """Two pictures of the text's two halves, joined along a torn seam."""
    c, rng = s.canvas, s.rng("seam")
    r, hue = s.reading, s.reading.hue
    half = max(1, len(r.shown) // 2)
    left, right = (
        tuple(replace(t, place=(at,)) for t in some)
        for at, some in (("left", r.shown[:half]), ("right", r.shown[half:] or r.shown))
    )
    one = s.panel(c.w, c.h, faithful, seed=1, reading=replace(r, things=left, key=r.key[::-1]))
    two = s.panel(
        c.w,
        c.h,
        faithful,
        seed=2,
        reading=replace(r, things=right, light="dusk" if r.light != "dusk" else "day"),
    )
    one = Image.blend(
        one,
        ImageOps.colorize(
            ImageOps.grayscale(one), oklch(0.2, 0.06, hue), oklch(0.97, 0.05, hue + 40)
        ),
        0.35,
    )
    two = Image.blend(
        two,
        ImageOps.colorize(
            ImageOps.grayscale(two), oklch(0.24, 0.08, hue + 180), oklch(0.95, 0.07, hue + 220)
        ),
        0.35,
    )
    n, tilt = 17, rng.uniform(-0.16, 0.16)
    ys = np.linspace(-0.02, 1.02, n)
    xs = 0.5 + tilt * (ys - 0.5) * 2 + rng.uniform(-0.025, 0.025, n)
    seam = np.stack([xs * c.w, ys * c.h], axis=-1)
    mask = Image.new("L", (c.w, c.h))
    ImageDraw.Draw(mask).polygon([*seam.ravel().tolist(), c.w + 2, c.h + 2, c.w + 2, -2], fill=255)
    c.picture(Image.composite(two, one, mask), 0, 0)
    c.stroke(seam + c.u * 0.004, BLACK, c.u * 0.016, alpha=0.3)
    c.stroke(seam, (250, 246, 236), c.u * 0.012)
