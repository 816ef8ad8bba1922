"""Manners of our own procedures: too much, too plain, too sweet, on a wall, from orbit, upside down, on old film."""

# ruff: noqa: RUF005  (points + (x, y) is numpy addition)

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from devpipe.sketch.canvas import grain, lettering, vignette
from devpipe.sketch.forms import Part, ngon, rounded, smooth, turn, unit
from devpipe.sketch.layout import Placed
from devpipe.sketch.movements import sphere
from devpipe.sketch.palette import BLACK, RGB, WHITE, mix, oklch, recolour, shade, tint
from devpipe.sketch.scene import Scene

_NEON: tuple[RGB, ...] = ((255, 0, 110), (0, 229, 255), (255, 230, 0), (120, 0, 255), (0, 255, 120), (255, 90, 0))


def overdrive(s: Scene) -> None:
    """Everything more: exploding rays, neon, every thing many times."""
    c, rng = s.canvas, s.rng("rays")
    pool = [_NEON[int(i)] for i in rng.permutation(6)]
    x0, y0, n = c.w * float(rng.uniform(0.38, 0.62)), c.h * float(rng.uniform(0.38, 0.62)), int(rng.integers(22, 34)) * 2
    edges = unit(np.cumsum(rng.uniform(0.4, 1.6, n)) * math.tau / n) * (c.w + c.h) + (x0, y0)
    for i in range(n):
        c.polygon(np.array([(x0, y0), edges[i], edges[(i + 1) % n]]), pool[i % 3] if i % 2 else shade(pool[(i // 2) % 3 + 1], 0.55))
    for r, k in ((0.46, 0), (0.34, 3), (0.24, 1)):
        burst = ngon(36) * np.resize([1.0, 0.72], 36)[:, None] * c.u * r + (x0, y0)
        c.polygon(burst, pool[k])
        c.stroke(burst, BLACK, c.u * 0.008, closed=True)
    things = s.placed("radial")
    for ring, (radius, size, count) in enumerate(((0.62, 0.11, 11), (0.4, 0.14, 7), (0.0, 0.26, 1))):
        for i in range(count):
            p, angle = things[(i + ring) % len(things)], math.tau * i / count + ring
            p = replace(p, x=(x0 + radius * c.u * math.cos(angle)) / c.w, y=(y0 + radius * c.u * math.sin(angle)) / c.h, size=size)
            parts = s.parts(p)
            s.silhouette(parts, BLACK, c.u * 0.028 * (0.4 + size * 2))
            s.paint(parts, {**s.tones(recolour(s.colour(p), chroma=2.2), p, accent=pool[(i + 1) % 6]), "l": pool[(i + 2) % 6]})
    for x, y, r in rng.random((40, 3)):
        c.polygon(ngon(8) * np.resize([1.0, 0.2], 8)[:, None] * c.u * 0.03 * r + (x * c.w, y * c.h), WHITE)


def opposite(s: Scene, image: Image.Image) -> Image.Image:
    """Light for dark, each colour's complement, what was above below, left right."""
    return grain(ImageOps.invert(image).transpose(Image.Transpose.ROTATE_180), s.rng("grain"), 3)


def uncliched(s: Scene) -> None:
    """One plain look from beside: a detail, near and cut off, in quiet colours, with room."""
    c, rng = s.canvas, s.rng("look")
    tone = float(rng.uniform(0, 360))
    wall, floor = oklch(0.83, 0.014, tone), oklch(0.7, 0.02, tone + 30)
    edge = float(rng.uniform(0.62, 0.8))
    c.gradient([(0, shade(wall, 0.04)), (edge, wall), (edge + 0.003, floor), (1, shade(floor, 0.08))])
    side = float(rng.choice([-1.0, 1.0]))
    light = np.array([(0.5 + side * 0.1, -0.1), (0.5 + side * 0.42, -0.1), (0.5 + side * 0.02, edge), (0.5 - side * 0.34, edge)]) * (
        c.w,
        c.h,
    )
    c.polygon(light, WHITE, 0.16)
    for k, p in enumerate(s.placed("thirds")[:3]):
        size = (0.6, 0.1, 0.07)[k]
        x, y = (
            (0.5 + side * 0.34, 0.07 + size * float(rng.uniform(0.9, 1.1)))
            if k == 0
            else (0.5 - side * (0.18 + 0.16 * k), edge + 0.03 - size)
        )
        p = replace(p, x=x, y=y, size=size, lean=0.0)
        main = recolour(s.colour(p), chroma=0.4)
        s.shadow(s.parts(p), 0.03 * -side, 0.01, BLACK, 0.08)
        s.paint(s.parts(p), {tone: mix(rgb, wall, 0.18) for tone, rgb in s.tones(main, p, accent=shade(main, 0.2)).items()})


def harmonizer(s: Scene) -> None:
    """Soft, round and even: pastel rings and every thing beside its mirror image."""
    c, hue = s.canvas, int(s.reading.key[:3] or "0", 16) % 360
    c.gradient([(0, oklch(0.9, 0.06, hue)), (1, oklch(0.83, 0.08, hue + 50))])
    for i in range(6):
        c.disc(c.w / 2, c.h / 2, c.u * (0.62 - 0.095 * i), oklch(0.88 + 0.016 * i, 0.07, hue + 26 * i), 0.8)
    for i in range(16):
        angle = math.tau * i / 16
        x, y = c.w / 2 + math.cos(angle) * c.u * 0.455, c.h / 2 + math.sin(angle) * c.u * 0.455
        c.disc(x, y, c.u * (0.016 if i % 2 else 0.026), oklch(0.72, 0.11, hue + 26 * (i % 4)), 0.9)
    things = s.placed("radial")
    for k, p in enumerate(things[1:7]):
        for flip in (False, True):
            at = (0.27 if flip else 0.73, 0.5 + 0.2 * (k - (min(len(things), 7) - 2) / 2))
            _softly(s, replace(p, x=0.5 + (at[0] - 0.5) * (1 + 0.2 * (k % 2)), y=at[1], size=min(0.12, p.size), flip=flip, lean=0.0), hue)
    _softly(s, replace(things[0], x=0.5, y=0.5, size=0.27, lean=0.0), hue)
    c.glow(c.w / 2, c.h / 2, c.u * 0.75, c.u * 0.75, WHITE, 0.25)


def _softly(s: Scene, p: Placed, hue: float) -> None:
    def soft(part: Part) -> Part:
        return part if part.width or len(part.points) > 40 else replace(part, points=rounded(part.points))

    main = mix(recolour(s.colour(p), chroma=0.8), oklch(0.85, 0.07, hue), 0.3)
    tones = {tone: mix(rgb, WHITE, 0.1) for tone, rgb in s.tones(main, p, accent=oklch(0.8, 0.09, hue + 60)).items()}
    s.paint(s.parts(p, soft), {**tones, "d": shade(main, 0.12)})


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
            dx = float(rng.uniform(-0.1, 0.1)) * c.u
            c.line(x * c.w + dx, y * c.h, x * c.w + dx, y * c.h + c.u * float(rng.uniform(0.1, 0.34)), pool[i % 6], c.u * 0.009)
    for word, y in zip(s.lettered("yo!")[:2], (0.13, 0.9), strict=False):
        size = min(0.16, 0.95 / max(4, len(word))) * c.u * 1.35
        mask = lettering(word.upper(), size, 7.0 if y < 0.5 else -5.0)
        for off, rgb in ((0.022, BLACK), (0.012, pool[4]), (0.0, WHITE)):
            c.stamp(mask, c.w / 2 + off * c.u, c.h * y + off * c.u, rgb)
    for i, p in enumerate(s.placed("scatter")):
        p = replace(p, size=min(0.36, p.size * 1.2), lean=float(rng.uniform(-16, 16)), y=0.5 + (p.y - 0.5) * 0.6)
        parts = s.parts(p)
        s.shadow(parts, 0.014, 0.022, BLACK, 0.5)
        s.silhouette(parts, WHITE, c.u * 0.04)
        s.paint(parts, s.tones(recolour(s.colour(p), chroma=1.6), p, accent=pool[i % 6]), line=BLACK, width=c.u * 0.005)


def planetarizer(s: Scene) -> None:
    """The same, seen from an orbit: a planet that carries the things on its rim."""
    c, rng = s.canvas, s.rng("orbit")
    c.gradient([(0, (8, 10, 26)), (1, (22, 18, 44))])
    for x, y, r in rng.random((150, 3)):
        c.disc(x * c.w, y * c.h, c.u * (0.0012 + 0.0035 * r**4), WHITE, 0.3 + 0.6 * r)
    x0, y0, radius = c.w * float(rng.uniform(0.44, 0.56)), c.h * float(rng.uniform(0.5, 0.56)), c.u * 0.27
    hue = int(s.reading.key[:3] or "0", 16) % 360
    sea, land = oklch(0.5, 0.1, hue), oklch(0.68, 0.11, hue + 100)
    c.glow(x0, y0, radius * 1.75, radius * 1.75, tint(sea, 0.4), 0.75)
    for k in range(3):
        orbit = turn(ngon(120) * (radius * (1.75 + 0.4 * k), radius * (0.5 + 0.14 * k)), -18 + 12 * k) + (x0, y0)
        c.stroke(orbit, tint(sea, 0.6), c.u * 0.003, closed=True, alpha=0.5)
        moon = orbit[int(rng.integers(120))]
        sphere(s, float(moon[0]), float(moon[1]), c.u * (0.018 + 0.012 * k), s.palette.accents[k])
    globe = s.panel(2 * radius, 2 * radius, lambda inner: _continents(inner, sea, land))
    c.image.paste(globe, (round(x0 - radius), round(y0 - radius)), _disc_mask(globe.width))
    things = s.placed("radial")
    count = max(5, min(11, len(things)))
    for i in range(count):
        p, angle = things[i % len(things)], 360 * i / count + float(rng.uniform(-8, 8))
        size = min(0.13, 0.6 / count) * (1.15 if i == 0 else 0.9)
        reach = radius + size * c.u * (0.94 if p.thing.habitat in ("ground", "water") else 1.4)
        x, y = turn(np.array([[0, -reach]]), angle)[0] + (x0, y0)
        p = replace(p, x=float(x) / c.w, y=float(y) / c.h, size=size, lean=0.0)
        middle = np.array([x, y])
        spun = [replace(part, points=turn(part.points - middle, angle) + middle) for part in s.parts(p)]
        s.paint(spun, s.tones(s.colour(p), p))


def _disc_mask(size: int) -> Image.Image:
    inner = Image.new("L", (size, size))
    ImageDraw.Draw(inner).ellipse((0, 0, size - 1, size - 1), fill=255)
    return inner


def _continents(s: Scene, sea: RGB, land: RGB) -> None:
    c, rng = s.canvas, s.rng("continents")
    c.gradient([(0, tint(sea, 0.2)), (1, shade(sea, 0.35))])
    for x, y, r in rng.random((6, 3)):
        n = 11
        coast = smooth(ngon(n) * rng.uniform(0.5, 1.1, (n, 1)) * c.u * (0.12 + 0.14 * r) + (x * c.w, y * c.h))
        c.polygon(coast, mix(land, WHITE, 0.25 * r))
    for x, y, r in rng.random((7, 3)):
        c.glow(x * c.w, y * c.h, c.u * 0.3 * r, c.u * 0.03, WHITE, 0.8)
    c.glow(c.w * 0.28, c.h * 0.22, c.u * 0.6, c.u * 0.6, WHITE, 0.35)


def photographed(s: Scene, image: Image.Image) -> Image.Image:
    """An old print: soft, faded, warm, grainy, dark at the corners, with a white border."""
    rng, (w, h) = s.rng("print"), image.size
    soft = image.filter(ImageFilter.GaussianBlur(min(w, h) / 420))
    grey = ImageOps.colorize(ImageOps.autocontrast(ImageOps.grayscale(soft), cutoff=1), (44, 30, 26), (250, 236, 206), mid=(158, 124, 92))
    faded = Image.blend(soft, grey, float(rng.uniform(0.62, 0.9)))
    glow = Image.new("L", (32, 32))
    glow.putdata([max(0, round(150 - 16 * math.hypot(i % 32, i // 32 - 12))) for i in range(1024)])
    faded.paste((255, 150, 70), (0, 0), glow.resize((w, h), Image.Resampling.BICUBIC))
    old = grain(vignette(faded, 0.62, (24, 14, 10)), s.rng("grain"), 11)
    edge = max(2, min(w, h) // 22)
    frame = Image.new("RGB", (w, h), (244, 240, 230))
    frame.paste(old.crop((edge, edge, w - edge, h - 2 * edge)), (edge, edge))
    return frame
