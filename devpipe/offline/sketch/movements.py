"""Manners from the history of art: each with its ground, its colours, its way to cut and place a
form.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from PIL import ImageChops

from devpipe.offline.sketch.forms import Part, Points, angular, ngon, primitive, smooth, turn, unit
from devpipe.offline.sketch.layout import Placed
from devpipe.offline.sketch.palette import (
    BLACK,
    RGB,
    WHITE,
    luminance,
    mix,
    nearest,
    oklch,
    recolour,
    shade,
)
from devpipe.offline.sketch.scene import Scene, Tones, one_tone

_BAUHAUS: tuple[RGB, ...] = ((206, 46, 36), (240, 190, 32), (30, 74, 152), (24, 24, 26))
_IVORY: RGB = (238, 229, 208)
_DISSONANT: tuple[RGB, ...] = (
    (214, 56, 40),
    (30, 124, 108),
    (236, 178, 34),
    (76, 44, 128),
    (232, 104, 136),
    (28, 78, 160),
)
_INK: RGB = (34, 32, 36)
_INKS: Tones = {
    tone: (g, g, g)
    for tone, g in zip("mdlakwsgb#", (92, 48, 176, 70, 24, 236, 214, 120, 56, 92), strict=True)
}
_RICE: RGB = (240, 232, 214)
_BLUEPRINT: RGB = (22, 66, 134)


def bauhaus(s: Scene) -> None:
    """Primary colours, circle, square and triangle on a visible grid, everything flat."""
    c, rng = s.canvas, s.rng("bauhaus")
    c.rectangle((0, 0, c.w, c.h), _IVORY)
    n = int(rng.integers(4, 7))
    cell, left = c.u / n, int(rng.integers(1, n - 1))
    colours = [_BAUHAUS[int(i)] for i in rng.permutation(4)]
    c.rectangle((left * cell, 0, (left + 1) * cell, c.h), colours[0])
    c.disc(
        cell * float(rng.integers(1, n)),
        cell * float(rng.integers(1, n)),
        cell * (1.0 + float(rng.integers(0, 2)) * 0.5),
        colours[1],
    )
    corner = np.array([(c.w, c.h), (c.w - 2 * cell, c.h), (c.w, c.h - 2 * cell)])
    c.polygon(corner, colours[2])
    for i in range(1, math.ceil(c.w / cell)):
        c.line(i * cell, 0, i * cell, c.h, _INK, c.u * 0.002, 0.45)
    for i in range(1, math.ceil(c.h / cell)):
        c.line(0, i * cell, c.w, i * cell, _INK, c.u * 0.002, 0.45)
    bar = turn(
        np.array([[-2, -0.012], [2, -0.012], [2, 0.012], [-2, 0.012]]) * c.u,
        45 * float(rng.choice([-1, 1])),
        (c.w / 2, c.h / 2),
    )
    c.polygon(bar, _BAUHAUS[3])
    things = s.placed("grid")
    for p in things:
        x, y = (p.x, p.y) if len(things) > 1 else (float(rng.choice([0.38, 0.62])), 0.45)
        p = replace(p, lean=0.0, size=min(0.3, p.size * 1.05), x=x, y=y)
        main = nearest(s.colour(p), _BAUHAUS)
        others = [rgb for rgb in _BAUHAUS if rgb != main]
        tones = {
            **one_tone(main),
            "d": others[p.index % 2],
            "a": others[(p.index + 1) % 3],
            "s": others[1],
        }
        tones |= {"w": _IVORY, "l": _IVORY, "k": _INK, "b": _INK}
        parts = s.parts(p, primitive)
        frame = (ngon(90) * 1.2, turn(ngon(4), 45) * 1.55, ngon(90) * 1.2)[
            (p.nth + left) % 3
        ] * p.size * c.u + (p.x * c.w, p.y * c.h)
        c.polygon(frame, _IVORY)
        c.stroke(frame, _INK, c.u * 0.006, closed=True)
        s.paint(parts, tones)


def dada(s: Scene) -> None:
    """Torn papers, pieces of things and cut-out letters, glued askew."""
    c, rng = s.canvas, s.rng("dada")
    c.rectangle((0, 0, c.w, c.h), (206, 196, 172))
    papers: list[RGB] = [
        (233, 225, 203),
        (196, 62, 44),
        (30, 30, 32),
        (222, 186, 92),
        (120, 142, 140),
        (214, 206, 186),
    ]
    for i, (x, y, r) in enumerate(rng.random((8, 3))):
        _torn(
            s, x * c.w, y * c.h, c.u * (0.18 + 0.2 * r), papers[i % 6], rng, print_lines=i % 3 == 0
        )
    for i, p in enumerate(s.placed("scatter")):
        size = min(0.42, p.size * 1.3)
        p = replace(p, size=size, lean=rng.uniform(-28, 28))
        paper = papers[(i + 1) % 6] if i % 2 else papers[0]
        _torn(s, p.x * c.w, p.y * c.h, size * c.u * 1.2, paper, rng, print_lines=i % 2 == 0)
        tones = s.tones(recolour(s.colour(p), chroma=0.75), p)
        s.paint(
            s.parts(p), one_tone((40, 38, 38)) if i % 3 == 1 and luminance(paper) > 0.5 else tones
        )
    _sliced(s, rng.uniform(0.4, 0.62), float(rng.choice([-0.07, 0.06, 0.09])))
    _cut_letters(s, rng)


def _sliced(s: Scene, at: float, shift: float) -> None:
    """A strip of the sheet cut out and glued back beside its place."""
    c, high = s.canvas, round(s.canvas.h * 0.13)
    y = round(at * c.h)
    strip = c.image.crop((0, y, c.w, y + high))
    c.rectangle((0, y + c.u * 0.012, c.w, y + high + c.u * 0.012), BLACK, 0.3)
    c.picture(strip, shift * c.u, y)
    c.picture(
        strip.crop((0, 0, max(1, round(abs(shift) * c.u)), high)),
        0 if shift > 0 else c.w - abs(shift) * c.u,
        y,
    )
    for edge in (y, y + high):
        c.line(0, edge, c.w, edge + c.u * 0.004, (248, 244, 234), c.u * 0.007)


def _torn(
    s: Scene,
    x: float,
    y: float,
    size: float,
    rgb: RGB,
    rng: np.random.Generator,
    *,
    print_lines: bool,
) -> None:
    """A piece of paper with a ragged white edge, perhaps printed."""
    c, n = s.canvas, 44
    angles, flat = np.linspace(0, math.tau, n, endpoint=False), rng.uniform(0.55, 0.95)
    box = 1 / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)) / flat)
    edge = turn(
        unit(angles) * (box * (0.92 + 0.05 * rng.random(n)))[:, None] * size * 0.8,
        rng.uniform(-30, 30),
    )
    c.polygon(edge * 1.05 + (x + c.u * 0.008, y + c.u * 0.012), BLACK, 0.3)
    c.polygon(edge * (1.04 + 0.03 * rng.random((n, 1))) + (x, y), (246, 242, 232))
    c.polygon(np.add(edge, (x, y)), rgb)
    if print_lines:
        ink = mix(rgb, BLACK if luminance(rgb) > 0.4 else WHITE, 0.4)
        c.hatch(
            edge * 0.86 + (x, y),
            ink,
            gap=c.u * 0.022,
            width=c.u * 0.006,
            degrees=rng.uniform(-14, 14),
        )


def _cut_letters(s: Scene, rng: np.random.Generator) -> None:
    c = s.canvas
    for row, word in enumerate(s.lettered("da da")[:3]):
        big = (1.0, 1.0, 0.62)[row]
        x, y = (
            (0.09 + 0.4 * max(0.0, 1 - 0.12 * len(word)) * rng.random()) * c.w,
            c.h * ((0.1, 0.9, 0.8)[row] + rng.uniform(-0.02, 0.02)),
        )
        for letter in word[:9]:
            size = c.u * rng.uniform(0.075, 0.13) * big
            dark = rng.random() < 0.4
            tile = turn(
                np.array([[-0.55, -0.62], [0.55, -0.58], [0.58, 0.6], [-0.52, 0.64]]) * size,
                rng.uniform(-12, 12),
                (x, y),
            )
            c.polygon(tile + c.u * 0.006, BLACK, 0.35)
            c.polygon(
                tile,
                (28, 26, 28) if dark else (244, 238, 222) if rng.random() < 0.7 else (204, 60, 44),
            )
            c.text(
                letter.upper() if rng.random() < 0.5 else letter,
                x,
                y,
                size,
                (246, 240, 226) if dark else BLACK,
                rng.uniform(-16, 16),
            )
            x += size * 1.12


def expressionism(s: Scene) -> None:
    """Thick angular strokes, bent space, colours that quarrel."""
    c, rng = s.canvas, s.rng("strokes")
    pool = [_DISSONANT[int(i)] for i in rng.permutation(6)]
    c.rectangle((0, 0, c.w, c.h), shade(pool[0], 0.45))
    cx, cy = rng.uniform(0.3, 0.7) * c.w, rng.uniform(0.25, 0.6) * c.h
    for x, y, r in rng.random((210, 3)):
        x, y = x * c.w, y * c.h
        angle = math.degrees(math.atan2(y - cy, x - cx)) + (90 if y < cy else 55) + 30 * (r - 0.5)
        blade = (
            np.array([[-1, -0.14], [0.3, -0.22], [1, 0.04], [-0.2, 0.2]]) * c.u * (0.05 + 0.1 * r)
        )
        rgb = pool[(0 if y < 0.55 * c.h else 2) + int(3 * r * r)]
        c.polygon(turn(blade, angle, (x, y)), mix(rgb, BLACK, 0.35 * rng.random()), 0.9)
    lean, ink = float(rng.choice([-1, 1])) * rng.uniform(0.16, 0.3), (18, 14, 20)
    for p in s.placed("horizon" if sum(t.count for t in s.reading.things) < 6 else "scatter"):
        p = replace(p, size=min(0.48, p.size * 1.45), y=0.5 + (p.y - 0.5) * 0.6)
        bent = s.parts(p, partial(_hewn, lean=lean, rng=s.rng(f"cut{p.nth}")))
        main = pool[(p.index + 3) % 6] if not p.thing.colours else recolour(s.colour(p), chroma=1.2)
        s.shadow(bent, 0.02, 0.015, BLACK, 0.6)
        tones = {**s.tones(main, p, accent=pool[(p.index + 1) % 6]), "s": (226, 190, 70)}
        tones |= {"l": pool[(p.index + 2) % 6], "d": shade(pool[(p.index + 4) % 6], 0.3)}
        s.paint(bent, tones, line=ink, width=c.u * 0.014)
        largest = max(bent, key=lambda q: np.ptp(q.points, axis=0).prod())
        c.hatch(
            largest.points, ink, gap=c.u * 0.03, width=c.u * 0.005, degrees=50 if lean > 0 else -50
        )


def _hewn(part: Part, lean: float, rng: np.random.Generator) -> Part:
    points = (
        angular(part.points, rng, keep=9, jitter=0.035) if len(part.points) > 10 else part.points
    )
    x, y = points[:, 0], points[:, 1]
    return replace(
        part,
        points=np.stack([x * (1 - 0.22 * y) + lean * (1 - y), y * 1.08 + 0.1 * x], axis=-1),
        width=part.width * 1.3,
    )


def surrealization(s: Scene) -> None:
    """A plain without end, long shadows, things afloat at the wrong size."""
    c, rng = s.canvas, s.rng("dream")
    hue = rng.uniform(20, 90)
    top, mid, low = (
        oklch(0.45, 0.09, hue + 190),
        oklch(0.74, 0.07, hue + 250),
        oklch(0.92, 0.07, hue),
    )
    horizon = rng.uniform(0.6, 0.72)
    c.gradient(
        [
            (0, top),
            (horizon * 0.7, mid),
            (horizon, low),
            (horizon + 0.004, oklch(0.7, 0.07, hue)),
            (1, oklch(0.5, 0.08, hue - 20)),
        ]
    )
    side = float(rng.choice([-1, 1]))
    c.glow(
        c.w * (0.5 - 0.42 * side), c.h * horizon * 0.85, c.u * 0.6, c.u * 0.6, (255, 246, 214), 0.75
    )
    for _ in range(int(rng.integers(3, 6))):
        x, w = c.w * rng.uniform(0, 1), c.u * rng.uniform(0.1, 0.3)
        ridge = smooth(
            np.array([[-1, 0.02], [-0.5, -0.12], [-0.1, -0.3], [0.3, -0.14], [1, 0.02]]) * w
            + (x, c.h * horizon)
        )
        c.polygon(ridge, mix(mid, top, 0.35), 0.7)
    _doorway(
        s,
        c.w * (0.5 + 0.34 * side),
        c.h * (horizon + 0.1),
        c.u * rng.uniform(0.1, 0.17),
        (top, mid, low),
        side,
    )
    for x, y, r in rng.random((5, 3)):
        sphere(
            s,
            x * c.w,
            y * horizon * c.h,
            c.u * (0.008 + 0.035 * r * r),
            s.palette.accents[int(r * 4)],
        )
    for k, p in enumerate(sorted(s.placed("scatter"), key=lambda q: q.size)):
        odd = (1.35, 0.42, 0.8, 0.3, 0.6)[(p.index + k) % 5]
        afloat = p.thing.habitat != "ground" or k % 2 == 1
        size = min(0.36, max(0.08, p.size * odd)) if p.nth else min(0.36, max(0.24, p.size))
        y = (
            rng.uniform(0.16, 0.42)
            if afloat
            else horizon + 0.1 + rng.uniform(0, 0.14) - size * c.u / c.h
        )
        p = replace(p, size=size, y=y)
        foot = horizon + 0.12 + 0.12 * rng.random() if afloat else y + size * c.u / c.h
        _long_shadow(s, p, foot, side, oklch(0.36, 0.06, hue - 40))
        main = mix(s.colour(p), low, 0.12)
        s.paint(s.parts(p, partial(melting, much=0.07 * (k % 3))), s.tones(main, p))


def _doorway(
    s: Scene, x: float, foot: float, size: float, sky: tuple[RGB, RGB, RGB], side: float
) -> None:
    """A door in the middle of nowhere, open upon another sky."""
    c, w, h = s.canvas, size * 0.55, size * 2.1
    light = [
        (x - w, foot),
        (x + w, foot),
        (x + w - side * h * 0.9, foot + h * 0.1),
        (x - w - side * h * 0.9, foot + h * 0.1),
    ]
    c.polygon(np.array(light), shade(sky[2], 0.6), 0.5)
    c.rectangle((x - w * 1.16, foot - h * 1.05, x + w * 1.16, foot), (92, 62, 48))
    beyond = [
        (0, shade(sky[0], 0.55)),
        (0.7, recolour(sky[1], turn=140, lightness=0.8)),
        (1, recolour(sky[2], turn=120)),
    ]
    c.gradient(beyond, (x - w, foot - h, x + w, foot))
    c.disc(x, foot - h * 0.66, w * 0.42, (250, 238, 206))
    hinge, edge = x - side * w, x - side * w * 1.9
    c.polygon(
        np.array(
            [(hinge, foot - h), (edge, foot - h * 0.92), (edge, foot + h * 0.07), (hinge, foot)]
        ),
        (128, 88, 64),
    )


def melting(part: Part, much: float) -> Part:
    x, y = part.points[:, 0], part.points[:, 1]
    return replace(
        part,
        points=np.stack(
            [x + much * np.sin(3.4 * y), y + much * (1 + y) * np.sin(5 * x + 1)], axis=-1
        ),
    )


def _long_shadow(s: Scene, p: Placed, foot: float, side: float, rgb: RGB) -> None:
    c = s.canvas
    for part in s.parts(p):
        if not part.width:
            x, y = part.points[:, 0] - p.x * c.w, part.points[:, 1] - (p.y * c.h + p.size * c.u)
            c.polygon(
                np.stack([p.x * c.w + x - y * 1.1 * side, foot * c.h + y * 0.11], axis=-1),
                rgb,
                0.55,
            )


def sphere(s: Scene, x: float, y: float, r: float, rgb: RGB) -> None:
    s.canvas.disc(x, y, r, shade(rgb, 0.35))
    for k in (0.85, 0.65, 0.42, 0.2):
        s.canvas.disc(
            x - r * 0.3 * (1 - k),
            y - r * 0.35 * (1 - k),
            r * k,
            mix(rgb, WHITE, 0.65 * (1 - k)),
            0.75,
        )


def renaissance(s: Scene) -> None:
    """A vaulted hall in central perspective, warm glazes, a far valley behind the arch, the main
    thing in the golden section.
    """
    c, rng = s.canvas, s.rng("hall")
    x0, y0 = c.w * float(rng.choice([0.45, 0.5, 0.55])), c.h * 0.5
    c.gradient([(0, (74, 50, 36)), (0.5, (132, 92, 60)), (1, (92, 62, 44))])
    valley = s.panel(c.u * 0.62, c.u * 0.62, _valley)
    inner = type(c)(valley.width, valley.height, 1, BLACK)
    arch = (
        np.array([*(unit(np.linspace(math.pi, math.tau, 40)) * 0.5 + (0.5, 0.5)), (1, 1), (0, 1)])
        * c.u
        * 0.62
    )
    inner.polygon(arch, WHITE)
    at = (round(x0 - c.u * 0.31), round(y0 - c.u * 0.43))
    for k, rgb in ((1.2, (98, 68, 46)), (1.12, (206, 170, 120)), (1.04, (112, 78, 52))):
        c.polygon((arch - c.u * 0.31) * k + (at[0] + c.u * 0.31, at[1] + c.u * 0.31), rgb)
    c.image.paste(valley, at, inner.image.convert("L"))
    _tiles(s, x0, y0, at[1] + c.u * 0.62)
    for sign in (-1, 1):
        for i in range(3):
            px, wide = x0 + sign * c.u * (0.42 + 0.16 * i * (1 + 0.5 * i)), c.u * (0.02 + 0.018 * i)
            foot, head = y0 + (px - x0) * sign * 0.42, y0 - (px - x0) * sign * 0.62
            c.rectangle(
                (px - wide, head, px + wide, foot), (196 - 26 * i, 160 - 26 * i, 118 - 24 * i)
            )
            c.rectangle(
                (px + wide * 0.2, head, px + wide, foot),
                (112 - 14 * i, 80 - 12 * i, 56 - 10 * i),
                0.7,
            )
            for y, h in ((head, 0.35), (foot, -0.4)):
                c.rectangle(
                    (px - wide * 1.5, y, px + wide * 1.5, y + h * wide * 1.6),
                    (214 - 24 * i, 180 - 24 * i, 136 - 24 * i),
                )
    for p in s.placed("horizon"):
        size, air = min(0.33, p.size * 1.05), p.thing.habitat == "air"
        p = replace(
            p,
            size=size,
            x=0.5 + (p.x - 0.5) * 0.72,
            y=0.3 if air else 0.9 - 0.06 * (p.index % 2) - size * c.u / c.h,
        )
        main = mix(recolour(s.colour(p), chroma=0.8, lightness=0.9), (150, 84, 40), 0.25)
        x, y, r = p.x * c.w, p.y * c.h, size * c.u
        c.glow(x + r * 0.15, y + r * 0.97, r * 1.2, r * 0.16, (40, 22, 14), 0.8 if not air else 0)
        s.paint(
            s.parts(p), s.tones(main, p, accent=(158, 44, 34)), line=(58, 32, 22), width=c.u * 0.003
        )
        c.glow(x - r * 0.3, y - r * 0.35, r * 0.7, r * 0.8, (255, 222, 160), 0.28)
    c.glow(c.w * 0.2, 0, c.u * 0.9, c.u * 0.9, (255, 214, 140), 0.3)


def _valley(s: Scene) -> None:
    c, rng = s.canvas, s.rng("valley")
    c.gradient([(0, (112, 146, 160)), (0.6, (228, 208, 160)), (1, (120, 128, 84))])
    for i in range(4):
        xs = np.linspace(-0.1, 1.1, 8)
        top = np.stack([xs, 0.5 + 0.11 * i - 0.12 * rng.random(8) * (1 - i * 0.15)], axis=-1) * (
            c.w,
            c.h,
        )
        hill = np.concatenate([smooth(top, closed=False), [(c.w * 1.2, c.h), (-c.w * 0.2, c.h)]])
        c.polygon(hill, mix((150, 170, 168), (84, 92, 52), i / 3))
    river = np.array(
        [
            (0.5, 0.72),
            (0.42, 0.8),
            (0.6, 0.9),
            (0.45, 1.02),
            (0.7, 1.02),
            (0.72, 0.9),
            (0.5, 0.8),
            (0.52, 0.72),
        ]
    ) * (c.w, c.h)
    c.polygon(smooth(river), (196, 206, 190))


def _tiles(s: Scene, x0: float, y0: float, top: float) -> None:
    c = s.canvas
    c.rectangle((0, top, c.w, c.h), (160, 120, 82))
    rows = [top + (c.h - top) * (k / 7) ** 1.7 for k in range(8)]
    for j, (far, near) in enumerate(pairwise(rows)):
        for i in range(-8 - j % 2, 9, 2):  # every second one is dark
            corners = (i, far), (i + 1, far), (i + 1, near), (i, near)
            c.polygon(
                np.array([(x0 + k * c.u * 0.17 * (y - y0) / (c.h - y0), y) for k, y in corners]),
                (104, 64, 44),
            )


def literati(s: Scene) -> None:
    """Ink on a hanging scroll: far mountains, mist, much emptiness, a red seal."""
    c, rng = s.canvas, s.rng("ink")
    c.gradient([(0, (196, 184, 158)), (1, (178, 164, 138))])
    wide = min(c.w * 0.86, c.h * 0.62)
    left, top, right, bottom = c.w / 2 - wide / 2, c.h * 0.04, c.w / 2 + wide / 2, c.h * 0.96
    c.rectangle(
        (left + c.u * 0.008, top + c.u * 0.012, right + c.u * 0.008, bottom + c.u * 0.012),
        BLACK,
        0.25,
    )
    c.gradient(
        [(0, shade(_RICE, 0.04)), (0.5, _RICE), (1, shade(_RICE, 0.07))], (left, top, right, bottom)
    )
    scroll = s.panel(wide, bottom - top, _wash)
    at = round(left), round(top)
    c.picture(
        ImageChops.multiply(
            c.image.crop((*at, at[0] + scroll.width, at[1] + scroll.height)), scroll
        ),
        *at,
    )
    seal, x, y = (
        c.u * 0.062,
        right - c.u * 0.1 if rng.random() < 0.5 else left + c.u * 0.04,
        bottom - c.u * 0.16,
    )
    c.rectangle((x, y, x + seal, y + seal), (176, 36, 28))
    for i, bit in enumerate(bin(int(s.reading.key[:4] or "a5f", 16) | 1 << 12)[-9:]):
        if bit == "1":
            u, v = x + seal * (0.14 + 0.26 * (i % 3)), y + seal * (0.14 + 0.26 * (i // 3))
            c.rectangle((u, v, u + seal * 0.18, v + seal * 0.18), _RICE)


def _wash(s: Scene) -> None:
    """The painting itself in greys on white, to be multiplied with the paper."""
    c, rng = s.canvas, s.rng("wash")
    c.rectangle((0, 0, c.w, c.h), WHITE)
    for i in range(3):
        x, peak, base = rng.uniform(-0.1, 0.8), 0.14 + 0.1 * i, 0.42 + 0.08 * i
        rise = [math.sin(math.pi * k / 9) ** 2 for k in range(10)]
        ridge = np.array(
            [
                (x + 0.75 * k / 9, base - (base - peak) * up * rng.uniform(0.65, 1.0))
                for k, up in enumerate(rise)
            ]
        )
        _ink_fall(s, smooth(ridge * (c.w, c.h), closed=False), base * c.h, 206 - 26 * i)
    for x, y in rng.random((5, 2)):
        c.glow(x * c.w, (0.36 + 0.16 * y) * c.h, c.w * 0.6, c.h * 0.05, WHITE, 0.9)
    for p in s.placed("horizon")[:6]:
        size = min(0.24, p.size * 1.05)
        y = (
            0.3 * p.y + 0.06
            if p.thing.habitat == "air"
            else 0.82 + 0.03 * (p.index % 2) - size * c.u / c.h
        )
        p = replace(p, size=size, lean=0.0, x=0.5 + (p.x - 0.5) * 0.75, y=y)
        s.paint(s.parts(p, partial(_trembling, rng=s.rng(f"brush{p.nth}"))), _INKS, alpha=0.86)
    for k in range(3):
        x, y = rng.uniform(0, 0.5) * c.w, c.h * (0.84 + 0.02 * k)
        shore = np.array(
            [(x, y), (x + c.w * 0.2, y - c.h * 0.012), (x + c.w * 0.5, y + c.h * 0.006)]
        )
        c.stroke(smooth(shore, closed=False), (150, 150, 150), c.u * 0.012, alpha=0.6)
    side = float(rng.choice([0.1, 0.9]))
    for k in range(int(rng.integers(6, 10))):
        sign = np.array(
            [(side, 0.07 + 0.028 * k), (side + 0.016 * rng.normal(), 0.082 + 0.028 * k)]
        )
        c.stroke(sign * (c.w, c.h), (60, 60, 60), c.u * 0.014)


def _trembling(part: Part, rng: np.random.Generator) -> Part:
    return replace(part, points=part.points + rng.normal(0, 0.012, part.points.shape))


def _ink_fall(s: Scene, ridge: Points, base: float, level: int) -> None:
    """A mountain as a wash: dark at its ridge, dissolving downwards."""
    c, grey = s.canvas, (level, level, level)
    for k in range(10):
        sunk = np.add(ridge, (0, (base - ridge[:, 1].min()) * 0.1 * k))
        c.polygon(
            np.concatenate([sunk, [(ridge[-1, 0], base), (ridge[0, 0], base)]]),
            mix(grey, WHITE, 0.1 * k) if k else grey,
        )
    c.stroke(ridge, (96, 96, 96), c.u * 0.008, alpha=0.7)


def technical_drawing(s: Scene) -> None:
    """A blueprint: white lines, grid, centre lines, measures, title block."""
    c, rng, white = s.canvas, s.rng("plan"), (226, 238, 252)
    c.gradient([(0, _BLUEPRINT), (1, shade(_BLUEPRINT, 0.18))])
    step = c.u / 24
    for i in range(1, math.ceil(max(c.w, c.h) / step)):
        wide, alpha = (c.u * 0.0022, 0.3) if i % 4 == 0 else (c.u * 0.0012, 0.17)
        c.line(i * step, 0, i * step, c.h, white, wide, alpha)
        c.line(0, i * step, c.w, i * step, white, wide, alpha)
    m = c.u * 0.03
    c.frame((m, m, c.w - m, c.h - m), white, c.u * 0.005)
    grid = s.placed("grid")
    alone = len(grid) == 1  # one thing is shown twice: from the front and from the side
    for p in (grid[0], replace(grid[0], nth=1)) if alone else grid:
        x, y = (
            (0.76 if p.nth else 0.33, 0.43)
            if alone
            else (0.48 + (p.x - 0.5) * 0.9, 0.43 + (p.y - 0.5) * 0.74)
        )
        p = replace(
            p, lean=0.0, flip=False, x=x, y=y, size=min(0.26 if alone else 0.3, p.size * 0.85)
        )
        parts = s.parts(p, partial(_squeezed, wide=0.45 if alone and p.nth else 1.0))
        for k, part in enumerate(parts):
            (
                c.hatch(part.points, white, gap=c.u * 0.014, width=c.u * 0.0018, degrees=45)
                if part.tone in "da" and not part.width
                else None
            )
            c.stroke(
                part.points,
                white,
                c.u * (0.0055 if k == 0 or part.tone == "m" else 0.0032),
                closed=part.closed,
            )
        _measures(s, p, parts, white, rng)
    box = (c.w - m - c.u * 0.42, c.h - m - c.u * 0.13, c.w - m, c.h - m)
    c.rectangle(box, _BLUEPRINT)
    c.frame(box, white, c.u * 0.004)
    c.line(box[0], box[1] + c.u * 0.07, box[2], box[1] + c.u * 0.07, white, c.u * 0.003)
    title = " ".join(s.lettered("plan")[:2])[:16].upper()
    c.text(title, (box[0] + box[2]) / 2, box[1] + c.u * 0.036, c.u * 0.034, white)
    c.text(
        f"1:{int(rng.choice([2, 5, 10, 20, 50]))}   No {s.seed % 1000}",
        (box[0] + box[2]) / 2,
        box[1] + c.u * 0.1,
        c.u * 0.03,
        white,
    )


def _squeezed(part: Part, wide: float) -> Part:
    return replace(part, points=part.points * (wide, 1.0))


def _measures(s: Scene, p: Placed, parts: list[Part], white: RGB, rng: np.random.Generator) -> None:
    """Centre lines through a part and its dimensions below and beside it."""
    c, points = s.canvas, np.concatenate([q.points for q in parts])
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    gap, thin, size = c.u * 0.035, c.u * 0.0025, max(c.u * 0.026, 11)
    for k in range(16):
        a, b = k / 16, (k + (0.7 if k % 2 else 0.25)) / 16
        c.line(
            x0 - gap + (x1 - x0 + 2 * gap) * a,
            (y0 + y1) / 2,
            x0 - gap + (x1 - x0 + 2 * gap) * b,
            (y0 + y1) / 2,
            white,
            thin,
            0.6,
        )
        c.line(
            (x0 + x1) / 2,
            y0 - gap + (y1 - y0 + 2 * gap) * a,
            (x0 + x1) / 2,
            y0 - gap + (y1 - y0 + 2 * gap) * b,
            white,
            thin,
            0.6,
        )
    for ax, ay, bx, by in ((x0, y1 + gap, x1, y1 + gap), (x1 + gap, y0, x1 + gap, y1)):
        c.line(ax, ay, bx, by, white, thin)
        for x, y in ((ax, ay), (bx, by)):
            c.line(x - gap * 0.2, y + gap * 0.2, x + gap * 0.2, y - gap * 0.2, white, thin * 1.6)
        x, y = (
            (ax + bx) / 2 + (gap * 0.55 if ax == bx else 0),
            (ay + by) / 2 + (gap * 0.5 if ay == by else 0),
        )
        c.text(
            str(round(math.hypot(bx - ax, by - ay) / c.u * 1000)),
            x,
            y,
            size,
            white,
            90 if ax == bx else 0,
        )
