"""The faithful manner: a landscape where the text names one, else a poster of its forms on a ground."""

# ruff: noqa: RUF005  (points + (x, y) is numpy addition)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from devpipe.sketch import layout
from devpipe.sketch.forms import ngon, smooth, turn, unit
from devpipe.sketch.layout import Placed
from devpipe.sketch.palette import RGB, WHITE, apart, mix, named, recolour, shade, tint
from devpipe.sketch.reading import Reading, Thing, vocabulary
from devpipe.sketch.scene import Scene, daylight, one_tone

_SKIES: dict[str, tuple[RGB, RGB, RGB]] = {
    "day": ((96, 160, 208), (176, 212, 226), (244, 232, 206)),
    "dawn": ((122, 134, 184), (236, 176, 164), (252, 222, 176)),
    "dusk": ((52, 46, 92), (186, 84, 98), (248, 172, 92)),
    "night": ((12, 16, 42), (28, 40, 82), (62, 80, 120)),
}
_EARTHS: dict[str, RGB] = {
    "": (112, 144, 84), "winter": (226, 232, 238), "spring": (130, 174, 92), "summer": (122, 156, 70), "autumn": (178, 122, 58),
    "desert": (222, 176, 112), "street": (124, 120, 122), "sea": (44, 104, 136), "room": (150, 108, 76), "space": (40, 34, 62),
}  # fmt: skip
_USUAL: dict[str, tuple[str, ...]] = {
    "": ("tree",), "spring": ("tree", "flower"), "summer": ("sun", "tree"), "autumn": ("tree", "leaf"), "winter": ("pine", "house"),
    "sea": ("boat",), "desert": ("palm",), "street": ("house", "lamp"), "space": ("planet", "moon"), "room": ("window", "chair", "lamp"),
}  # fmt: skip


def faithful(s: Scene) -> None:
    """What the text says, without a manner."""
    r = s.reading
    scenic = any((r.light, r.season, r.weather, r.setting)) or any(t.habitat != "shape" for t in r.known)
    named_ground = r.of("ground") and r.setting != "sky"
    if scenic and not named_ground and (r.abstraction < 0.6 or not r.known):
        landscape(s)
    else:
        poster(s)


def poster(s: Scene) -> None:
    """Forms on a ground of tonal planes."""
    c, ground, rng = s.canvas, s.palette.ground, s.rng("ground")
    c.gradient([(0, tint(ground, 0.05)), (1, shade(ground, 0.1))])
    _planes(s, rng)
    placed = s.placed()
    _echoes(s, rng)
    if not s.reading.known:
        _counterpoint(s, rng, placed)
    for p in placed:
        p = p if s.reading.known else replace(p, size=min(0.4, p.size * (1.5 if p.nth == 0 else 1.15)), lean=360 * float(rng.random()))
        parts, tones = s.parts(p), s.tones(apart(s.colour(p), ground), p)
        s.shadow(parts, 0.012, 0.02, shade(ground, 0.55), 0.28)
        s.paint(parts, tones)
        if len(parts) == 1 and not parts[0].width:
            c.hatch(parts[0].points, shade(tones["m"], 0.07), gap=c.u * 0.011, width=c.u * 0.0035, degrees=-35 + 70 * (p.index % 2))
    weather(s)


def _planes(s: Scene, rng: np.random.Generator) -> None:
    """Large quiet areas in tints of the ground, which give the sheet a direction."""
    c, ground = s.canvas, s.palette.ground
    light, dark = tint(ground, 0.12), shade(ground, 0.12)
    x, y, kind = float(rng.uniform(0.1, 0.9)) * c.w, float(rng.uniform(0.1, 0.9)) * c.h, int(rng.integers(4))
    if kind == 0:
        for i in range(4):
            c.disc(x, y, c.u * (0.95 - 0.21 * i), (dark, light)[i % 2], 0.5)
    elif kind == 1:
        band = np.array([[-2, -0.28], [2, -0.28], [2, 0.22], [-2, 0.22]]) * c.u
        for i, rgb in enumerate((light, dark)):
            c.polygon(turn(band, float(rng.uniform(-50, 50)) + 70 * i) + (x, y), rgb, 0.55)
    elif kind == 2:
        split = float(rng.uniform(0.58, 0.72))
        c.rectangle((0, c.h * split, c.w, c.h), dark, 0.8)
        c.disc(x, c.h * split, c.u * 0.62, light, 0.45)
    else:
        for i in range(9):
            ring = turn(ngon(72), 0) * c.u * (0.18 + 0.13 * i) + (x, y)
            c.stroke(ring, light, c.u * 0.012, closed=True, alpha=0.65)


def _counterpoint(s: Scene, rng: np.random.Generator, placed: tuple[Placed, ...]) -> None:
    """Lines, arcs and rows of dots between the forms, so that an abstract sheet has tension and rhythm."""
    c, colours = s.canvas, s.palette.accents
    at = np.array([(p.x * c.w, p.y * c.h) for p in placed])
    c.disc(float(at[0, 0]), float(at[0, 1]), c.u * 0.3, mix(colours[-1], s.palette.ground, 0.6))
    for k in range(7):
        start, through = rng.random(2) * (c.w, c.h), at[k % len(at)] + rng.normal(0, 0.05, 2) * c.u
        ends = np.array([start - 3 * (through - start), start + 3 * (through - start)]) if k % 2 else np.array([start, through])
        c.stroke(ends, s.palette.ink, c.u * float(rng.choice([0.0025, 0.004, 0.009])), alpha=0.85)
    for k in range(3):
        begin = float(rng.uniform(0, 6))
        arc = unit(np.linspace(begin, begin + float(rng.uniform(1, 2.6)), 40)) * c.u * float(rng.uniform(0.15, 0.42))
        c.stroke(arc + at[k % len(at)], colours[(k + 1) % len(colours)], c.u * float(rng.uniform(0.008, 0.03)))
    step, here = turn(np.array([[0.062, 0.0]]), float(rng.uniform(0, 360)))[0] * c.u, rng.uniform(0.25, 0.75, 2) * (c.w, c.h)
    for k in range(8):
        c.disc(float(here[0] + step[0] * k), float(here[1] + step[1] * k), c.u * 0.022 * 0.84**k, colours[k % 2])


def _echoes(s: Scene, rng: np.random.Generator) -> None:
    """The words that are not shown as things, as small forms in the colour of the ground."""
    ground, unknown = s.palette.ground, tuple(t for t in s.reading.things if not t.motif)
    if not s.reading.known:
        unknown = unknown + layout.empty_things(s.reading)
    for i, thing in enumerate(unknown):
        spot = Placed(
            thing,
            i,
            float(rng.uniform(0.06, 0.94)),
            float(rng.uniform(0.06, 0.94)),
            float(rng.uniform(0.05, 0.13)),
            lean=float(rng.uniform(0, 360)),
        )
        s.paint(s.parts(spot), s.tones((shade, tint)[i % 2](ground, 0.2), spot, accent=shade(ground, 0.3)), alpha=0.8)


def sky_of(s: Scene) -> tuple[RGB, RGB, RGB]:
    """Top, middle and foot of the sky under this light, weather and mood."""
    r = s.reading
    stops = _SKIES[daylight(r)]
    grounds = r.of("ground")
    if grounds:
        g = named(grounds[0])
        return shade(g, 0.12), g, tint(g, 0.35)
    grey = {"rain": 0.6, "fog": 0.7, "storm": 0.75, "snow": 0.45}.get(r.weather, 0.0)
    mood = {"joy": 1.25, "sad": 0.55, "anger": 1.4, "fear": 0.7, "tender": 0.8}.get(r.mood, 1.0)
    turned = float(s.rng("sky").uniform(-18, 18))
    dull = (98, 106, 116) if daylight(r) != "night" else (34, 38, 50)
    top, middle, foot = (mix(recolour(c, chroma=mood, turn=turned), dull, grey * 0.75) for c in stops)
    return top, middle, foot


def landscape(s: Scene) -> None:
    """Sky, hills in aerial perspective, and the things on the ground, in the air or on the water."""
    c, rng, sky = s.canvas, s.rng("land"), sky_of(s)
    horizon = float(rng.uniform(0.56, 0.68))
    c.gradient([(0, sky[0]), (0.55 * horizon / 0.6, sky[1]), (min(1.0, horizon + 0.06), sky[2]), (1, sky[2])])
    _heavens(s, rng, sky, horizon)
    for i, thing in enumerate(t for t in s.reading.things if not t.motif):  # words without a picture hang in the sky as forms
        spot = Placed(
            thing,
            i,
            float(rng.uniform(0.08, 0.92)),
            float(rng.uniform(0.08, 0.5)) * horizon / 0.6,
            float(rng.uniform(0.09, 0.2)),
            lean=360 * rng.random(),
        )
        s.paint(s.parts(spot), s.tones(mix(sky[1], tint(sky[2], 0.5), 0.6), spot, accent=sky[0]), alpha=0.34)
    earth = _earth(s, sky, horizon, rng)
    night = daylight(s.reading) == "night"
    for p in stand(s, horizon):
        parts, main = s.parts(p), s.colour(p)
        main = (
            main if p.thing.colours or not night else mix(main, (40, 52, 96), 0.35 if p.thing.motif not in ("moon", "star", "lamp") else 0)
        )
        main = apart(main, sky[1] if p.thing.habitat == "air" else earth)
        if p.thing.motif in ("sun", "moon", "star", "lamp", "flame"):
            c.glow(p.x * c.w, p.y * c.h, p.size * c.u * 2.4, p.size * c.u * 2.4, tint(main, 0.3), 0.65)
        if p.thing.habitat == "ground" or p.thing.motif in ("boat", "ship"):
            _foot_shadow(s, p, earth)
        s.paint(parts, s.tones(main, p))
    weather(s)


def _heavens(s: Scene, rng: np.random.Generator, sky: tuple[RGB, RGB, RGB], horizon: float) -> None:
    c, known = s.canvas, {t.motif for t in s.reading.known}
    light = daylight(s.reading)
    if light == "night":
        for x, y, r in rng.random((90, 3)):
            c.disc(x * c.w, y * c.h * horizon, c.u * (0.001 + 0.003 * r**3), tint(sky[2], 0.6), 0.35 + 0.6 * r)
    if not known & {"sun", "moon"} and s.reading.weather not in ("rain", "storm", "fog"):
        x, y = float(rng.uniform(0.15, 0.85)) * c.w, horizon * c.h * float(rng.uniform(0.25, 0.8) if light in ("day", "night") else 0.9)
        disc = tint(sky[2], 0.45)
        c.glow(x, y, c.u * 0.42, c.u * 0.42, disc, 0.7)
        c.disc(x, y, c.u * (0.05 if light in ("day", "night") else 0.09), tint(disc, 0.4))
    for _ in range(int(rng.integers(2, 5)) if light != "night" else 1):
        x, y, wide = float(rng.uniform(0, 1)) * c.w, float(rng.uniform(0.08, horizon * 0.75)) * c.h, float(rng.uniform(0.12, 0.3)) * c.u
        for i in range(3):
            c.glow(x + (i - 1) * wide * 0.7, y + i * c.u * 0.012, wide, wide * 0.16, tint(sky[2], 0.35), 0.4)


def _earth(s: Scene, sky: tuple[RGB, RGB, RGB], horizon: float, rng: np.random.Generator) -> RGB:
    """Paint what things stand on; returns its colour."""
    c, r = s.canvas, s.reading
    shore = any(t.habitat == "ground" for t in r.known)
    base = named(r.of("setting")[0]) if r.of("setting") else _EARTHS.get(r.setting or r.season, _EARTHS[""])
    if r.weather == "snow" or (r.season == "winter" and r.setting != "sea"):
        base = _EARTHS["winter"]
    earth = mix(base, (20, 26, 56), 0.62) if daylight(r) == "night" else mix(base, sky[1], 0.25 if daylight(r) == "dusk" else 0.08)
    water = r.setting == "sea" or any(t.habitat == "water" for t in r.known)
    if r.setting in ("room", "street") or water:
        _flat(s, earth if not water else mix(_EARTHS["sea"], sky[1], 0.35), sky, horizon, rng, water=water)
        if not (water and shore):
            return earth
        earth = mix((206, 180, 128) if r.season != "winter" else _EARTHS["winter"], sky[0], 0.55 if daylight(r) == "night" else 0.15)
    else:
        _woods(s, mix(earth, sky[1], 0.5), horizon, rng)
    for i in range(3 if water else 0, 4):
        depth = (1, 0.6, 0.3, 0.0)[i]
        xs = np.linspace(-0.05, 1.05, 9)
        swell = (0.075, 0.06, 0.045, 0.03)[i]
        top = smooth(
            np.stack([xs * c.w, (horizon + (0, 0.03, 0.09, 0.19)[i] - swell * rng.random(9)) * c.h], axis=-1), closed=False, steps=8
        )
        hill = mix(earth, sky[2], depth * 0.68)
        c.polygon(np.concatenate([top, [(1.1 * c.w, c.h + 2), (-0.1 * c.w, c.h + 2)]]), hill)
        for x, dy, long in rng.random((26 if i > 1 else 0, 3)):
            x, y = x * c.w, (horizon + 0.1 + (i - 2) * 0.12 + 0.25 * dy) * c.h
            c.line(x, y, x + c.u * 0.06 * (long - 0.5), y - c.u * 0.012 * (1 + long), shade(hill, 0.12), c.u * 0.003, 0.6)
    return earth


def _woods(s: Scene, rgb: RGB, horizon: float, rng: np.random.Generator) -> None:
    """Far firs, church spires or poplars along the horizon, here and there."""
    c, start, long = s.canvas, float(rng.uniform(-0.2, 0.7)), float(rng.uniform(0.2, 0.6))
    for x, r, wide in rng.random((34, 3)):
        foot, high = (horizon + 0.03) * c.h, c.u * (0.02 + 0.075 * r)
        x, half = (start + long * x) * c.w, c.u * (0.008 + 0.012 * wide)
        c.polygon(np.array([(x - half, foot), (x, foot - high), (x + half, foot)]), shade(rgb, 0.1 * wide))


def _flat(s: Scene, rgb: RGB, sky: tuple[RGB, RGB, RGB], horizon: float, rng: np.random.Generator, *, water: bool) -> None:
    c, y0 = s.canvas, horizon * s.canvas.h
    c.gradient([(0, mix(rgb, sky[2], 0.55)), (0.25, rgb), (1, shade(rgb, 0.3))], (0, y0, c.w, c.h))
    if not water:
        for i in range(-7, 8):
            c.line(c.w * (0.5 + i * 0.06), y0, c.w * (0.5 + i * 0.32), c.h, shade(rgb, 0.25), c.u * 0.003, 0.6)
        return
    for t, x, long in rng.random((70, 3)):
        y = y0 + (c.h - y0) * t**1.6
        half = c.u * (0.015 + 0.09 * t) * (0.4 + long)
        c.line(x * c.w - half, y, x * c.w + half, y, tint(sky[2], 0.3) if long > 0.45 else shade(rgb, 0.3), c.u * (0.0015 + 0.005 * t), 0.5)


def _usual(r: Reading) -> Iterator[Thing]:
    """What one expects where the text names only a season, a light or a place."""
    for name in _USUAL.get(r.setting or r.season, _USUAL[""]):
        entry = vocabulary()["motifs"][name]
        yield Thing(name, name, 4 if name in ("flower", "leaf", "pine") else 1, entry[4], habitat=entry[2])


def stand(s: Scene, horizon: float) -> list[Placed]:
    """The things of a landscape: what flies above the horizon, what stands below it, the far before the near."""
    out: list[Placed] = []
    things = s.reading.known or tuple(_usual(s.reading))
    for p in s.placed("horizon" if sum(t.count for t in things) < 9 else "scatter", things):
        rng, far = s.rng(f"stand{len(out)}"), p.thing.motif in ("mountain", "volcano", "city", "rainbow", "bridge", "castle")
        size, half = min(0.44, p.size * 1.12), s.canvas.u / s.canvas.h
        if p.thing.habitat == "air" and p.thing.motif != "rainbow":
            y = float(rng.uniform(0.13, max(0.2, horizon - 0.2)))
        elif p.thing.habitat == "shape":
            y = horizon - 0.12
        else:
            near = 0.16 if p.thing.habitat == "ground" and s.reading.setting == "sea" else 0.1
            y = horizon + (0.05 if far else float(rng.uniform(near, 0.27))) - size * half
        x, low = p.x, size * half + 0.02
        if "top" in p.thing.place and p.thing.habitat in ("air", "shape"):
            y = min(y, 0.28)
        out.append(replace(p, x=x, y=max(low, min(y, 1 - low)), size=size))
    return sorted(out, key=lambda p: p.y + p.size * s.canvas.u / s.canvas.h)


def _foot_shadow(s: Scene, p: Placed, earth: RGB) -> None:
    c = s.canvas
    c.glow(
        p.x * c.w + 0.2 * p.size * c.u, p.y * c.h + p.size * c.u * 0.98, p.size * c.u * 1.15, p.size * c.u * 0.16, shade(earth, 0.7), 0.75
    )


def weather(s: Scene) -> None:
    """Rain, snow, fog, storm or wind over the whole picture."""
    c, rng, kind = s.canvas, s.rng("weather"), s.reading.weather
    if kind in ("rain", "storm"):
        slant, count = (0.035 if kind == "rain" else 0.11), (170 if kind == "rain" else 260)
        for x, y, r in rng.random((count, 3)):
            x, y, long = x * 1.2 * c.w - 0.1 * c.w, y * 1.1 * c.h - 0.05 * c.h, c.u * (0.04 + 0.06 * r)
            c.line(x, y, x - long * slant * 8, y + long, (226, 234, 242), c.u * (0.0015 + 0.002 * r), 0.25 + 0.4 * r)
    if kind == "storm":
        bolt = Placed(Thing("", "lightning"), 0, float(rng.uniform(0.15, 0.85)), 0.2, 0.2)
        c.glow(bolt.x * c.w, 0.2 * c.h, 0.4 * c.u, 0.4 * c.u, WHITE, 0.5)
        s.paint(s.parts(bolt), one_tone((255, 246, 196)))
    elif kind == "snow":
        for x, y, r in rng.random((190, 3)):
            c.disc(x * c.w, y * c.h, c.u * (0.0025 + 0.009 * r**2), WHITE, 0.55 + 0.4 * r)
    elif kind == "fog":
        for x, y, r in rng.random((9, 3)):
            c.glow(x * c.w, (0.35 + 0.5 * y) * c.h, c.w * (0.35 + 0.4 * r), c.h * 0.09, (232, 234, 236), 0.75)
    elif kind == "wind":
        for x, y, r in rng.random((14, 3)):
            curve = smooth(
                np.array([(0, 0), (0.1, -0.012), (0.2, 0.008), (0.32, -0.01)]) * c.u * (0.5 + r) + (x * c.w - 0.1 * c.w, y * c.h),
                closed=False,
            )
            c.stroke(curve, WHITE, c.u * 0.004, alpha=0.5)
