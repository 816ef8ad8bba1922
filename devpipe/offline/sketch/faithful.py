"""The faithful manner: a landscape where the text names one, else a poster of its forms on a
ground.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from devpipe.offline.sketch.forms import ngon, smooth, turn, unit
from devpipe.offline.sketch.layout import Placed
from devpipe.offline.sketch.palette import (
    RGB,
    WHITE,
    apart,
    hexed,
    mix,
    named,
    recolour,
    shade,
    tint,
)
from devpipe.offline.sketch.reading import Thing, vocabulary
from devpipe.offline.sketch.scene import Scene, daylight, one_tone


def faithful(s: Scene) -> None:
    """What the text says, without a manner."""
    r = s.reading
    scenic = any((r.light, r.season, r.weather, r.setting)) or any(
        t.habitat != "shape" for t in r.known
    )
    grounded = r.of("ground") and r.setting != "sky"
    manner = (
        landscape if scenic and not grounded and (r.abstraction < 0.6 or not r.known) else poster
    )
    manner(s)


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
        p = (
            p
            if s.reading.known
            else replace(
                p, size=min(0.4, p.size * (1.5 if p.nth == 0 else 1.15)), lean=360 * rng.random()
            )
        )
        parts, tones = s.parts(p), s.tones(apart(s.colour(p), ground), p)
        s.shadow(parts, 0.012, 0.02, shade(ground, 0.55), 0.28)
        s.paint(parts, tones)
        if len(parts) == 1 and not parts[0].width:
            c.hatch(
                parts[0].points,
                shade(tones["m"], 0.07),
                gap=c.u * 0.011,
                width=c.u * 0.0035,
                degrees=-35 + 70 * (p.index % 2),
            )
    weather(s)


def _planes(s: Scene, rng: np.random.Generator) -> None:
    """Large quiet areas in tints of the ground, which give the sheet a direction."""
    c, ground = s.canvas, s.palette.ground
    light, dark = tint(ground, 0.12), shade(ground, 0.12)
    x, y, kind = rng.uniform(0.1, 0.9) * c.w, rng.uniform(0.1, 0.9) * c.h, int(rng.integers(4))
    if kind == 0:
        for i in range(4):
            c.disc(x, y, c.u * (0.95 - 0.21 * i), (dark, light)[i % 2], 0.5)
    elif kind == 1:
        band = np.array([[-2, -0.28], [2, -0.28], [2, 0.22], [-2, 0.22]]) * c.u
        for i, rgb in enumerate((light, dark)):
            c.polygon(turn(band, rng.uniform(-50, 50) + 70 * i, (x, y)), rgb, 0.55)
    elif kind == 2:
        split = rng.uniform(0.58, 0.72)
        c.rectangle((0, c.h * split, c.w, c.h), dark, 0.8)
        c.disc(x, c.h * split, c.u * 0.62, light, 0.45)
    else:
        for i in range(9):
            c.stroke(
                ngon(72) * c.u * (0.18 + 0.13 * i) + (x, y),
                light,
                c.u * 0.012,
                closed=True,
                alpha=0.65,
            )


def _counterpoint(s: Scene, rng: np.random.Generator, placed: tuple[Placed, ...]) -> None:
    """Lines, arcs and rows of dots between the forms, so that an abstract sheet has tension and
    rhythm.
    """
    c, colours = s.canvas, s.palette.accents
    at = np.array([(p.x * c.w, p.y * c.h) for p in placed])
    c.disc(float(at[0, 0]), float(at[0, 1]), c.u * 0.3, mix(colours[-1], s.palette.ground, 0.6))
    for k in range(7):
        start, through = rng.random(2) * (c.w, c.h), at[k % len(at)] + rng.normal(0, 0.05, 2) * c.u
        ends = (
            np.array([start - 3 * (through - start), start + 3 * (through - start)])
            if k % 2
            else np.array([start, through])
        )
        c.stroke(ends, s.palette.ink, c.u * float(rng.choice([0.0025, 0.004, 0.009])), alpha=0.85)
    for k in range(3):
        begin = rng.uniform(0, 6)
        arc = (
            unit(np.linspace(begin, begin + rng.uniform(1, 2.6), 40))
            * c.u
            * rng.uniform(0.15, 0.42)
        )
        c.stroke(
            arc + at[k % len(at)], colours[(k + 1) % len(colours)], c.u * rng.uniform(0.008, 0.03)
        )
    step, here = (
        turn(np.array([[0.062, 0.0]]), rng.uniform(0, 360))[0] * c.u,
        rng.uniform(0.25, 0.75, 2) * (c.w, c.h),
    )
    for k in range(8):
        c.disc(
            float(here[0] + step[0] * k),
            float(here[1] + step[1] * k),
            c.u * 0.022 * 0.84**k,
            colours[k % 2],
        )


def _echoes(s: Scene, rng: np.random.Generator) -> None:
    """The words that are not shown as things, as small forms in the colour of the ground."""
    ground, unknown = s.palette.ground, tuple(t for t in s.reading.things if not t.motif)
    if not s.reading.known:
        unknown += s.reading.free
    for i, thing in enumerate(unknown):
        spot = Placed(
            thing,
            i,
            rng.uniform(0.06, 0.94),
            rng.uniform(0.06, 0.94),
            rng.uniform(0.05, 0.13),
            lean=rng.uniform(0, 360),
        )
        s.paint(
            s.parts(spot),
            s.tones((shade, tint)[i % 2](ground, 0.2), spot, accent=shade(ground, 0.3)),
            alpha=0.8,
        )


def sky_of(s: Scene) -> tuple[RGB, RGB, RGB]:
    """Top, middle and foot of the sky under this light, weather and mood."""
    r = s.reading
    stops = map(hexed, vocabulary()["skies"][daylight(r)])
    for ground in map(named, r.of("ground")):
        return shade(ground, 0.12), ground, tint(ground, 0.35)
    grey = {"rain": 0.6, "fog": 0.7, "storm": 0.75, "snow": 0.45}.get(r.weather, 0.0)
    mood = {"joy": 1.25, "sad": 0.55, "anger": 1.4, "fear": 0.7, "tender": 0.8}.get(r.mood, 1.0)
    turned = s.rng("sky").uniform(-18, 18)
    dull = (98, 106, 116) if daylight(r) != "night" else (34, 38, 50)
    top, middle, foot = (
        mix(recolour(c, chroma=mood, turn=turned), dull, grey * 0.75) for c in stops
    )
    return top, middle, foot


def landscape(s: Scene) -> None:
    """Sky, hills in aerial perspective, and the things on the ground, in the air or on the
    water.
    """
    c, rng, sky = s.canvas, s.rng("land"), sky_of(s)
    horizon = rng.uniform(0.56, 0.68)
    c.gradient(
        [
            (0, sky[0]),
            (0.55 * horizon / 0.6, sky[1]),
            (min(1.0, horizon + 0.06), sky[2]),
            (1, sky[2]),
        ]
    )
    _heavens(s, rng, sky, horizon)
    for i, thing in enumerate(
        t for t in s.reading.things if not t.motif
    ):  # words without a picture hang in the sky as forms
        x, y, size = (
            rng.uniform(0.08, 0.92),
            rng.uniform(0.08, 0.5) * horizon / 0.6,
            rng.uniform(0.09, 0.2),
        )
        spot = Placed(thing, i, x, y, size, lean=360 * rng.random())
        s.paint(
            s.parts(spot),
            s.tones(mix(sky[1], tint(sky[2], 0.5), 0.6), spot, accent=sky[0]),
            alpha=0.34,
        )
    earth = _earth(s, sky, horizon, rng)
    night = daylight(s.reading) == "night"
    for p in stand(s, horizon):
        x, y, r, main = p.x * c.w, p.y * c.h, p.size * c.u, s.colour(p)
        if night and not p.thing.colours and p.thing.motif not in ("moon", "star", "lamp"):
            main = mix(main, (40, 52, 96), 0.35)
        main = apart(main, sky[1] if p.thing.habitat == "air" else earth)
        if p.thing.motif in ("sun", "moon", "star", "lamp", "flame"):
            c.glow(x, y, r * 2.4, r * 2.4, tint(main, 0.3), 0.65)
        if p.thing.habitat == "ground" or p.thing.motif in ("boat", "ship"):
            c.glow(
                x + 0.2 * p.size * c.u, y + r * 0.98, r * 1.15, r * 0.16, shade(earth, 0.7), 0.75
            )
        s.paint(s.parts(p), s.tones(main, p))
    weather(s)


def _heavens(s: Scene, rng: np.random.Generator, sky: tuple[RGB, RGB, RGB], horizon: float) -> None:
    c, known = s.canvas, {t.motif for t in s.reading.known}
    light = daylight(s.reading)
    if light == "night":
        for x, y, r in rng.random((90, 3)):
            c.disc(
                x * c.w,
                y * c.h * horizon,
                c.u * (0.001 + 0.003 * r**3),
                tint(sky[2], 0.6),
                0.35 + 0.6 * r,
            )
    if not known & {"sun", "moon"} and s.reading.weather not in ("rain", "storm", "fog"):
        x, y = (
            rng.uniform(0.15, 0.85) * c.w,
            horizon * c.h * float(rng.uniform(0.25, 0.8) if light in ("day", "night") else 0.9),
        )
        disc = tint(sky[2], 0.45)
        c.glow(x, y, c.u * 0.42, c.u * 0.42, disc, 0.7)
        c.disc(x, y, c.u * (0.05 if light in ("day", "night") else 0.09), tint(disc, 0.4))
    for _ in range(int(rng.integers(2, 5)) if light != "night" else 1):
        x, y, wide = (
            rng.uniform(0, 1) * c.w,
            rng.uniform(0.08, horizon * 0.75) * c.h,
            rng.uniform(0.12, 0.3) * c.u,
        )
        for i in range(3):
            c.glow(
                x + (i - 1) * wide * 0.7,
                y + i * c.u * 0.012,
                wide,
                wide * 0.16,
                tint(sky[2], 0.35),
                0.4,
            )


def _earth(s: Scene, sky: tuple[RGB, RGB, RGB], horizon: float, rng: np.random.Generator) -> RGB:
    """Paint what things stand on; returns its colour."""
    c, r, earths = s.canvas, s.reading, vocabulary()["earths"]
    shore = any(t.habitat == "ground" for t in r.known)
    base = (
        named(r.of("setting")[0])
        if r.of("setting")
        else hexed(earths.get(r.setting or r.season, earths[""]))
    )
    if r.weather == "snow" or (r.season == "winter" and r.setting != "sea"):
        base = hexed(earths["winter"])
    earth = (
        mix(base, (20, 26, 56), 0.62)
        if daylight(r) == "night"
        else mix(base, sky[1], 0.25 if daylight(r) == "dusk" else 0.08)
    )
    water = r.setting == "sea" or any(t.habitat == "water" for t in r.known)
    if r.setting in ("room", "street") or water:
        _flat(
            s,
            earth if not water else mix(hexed(earths["sea"]), sky[1], 0.35),
            sky,
            horizon,
            rng,
            water=water,
        )
        if not (water and shore):
            return earth
        earth = mix(
            (206, 180, 128) if r.season != "winter" else hexed(earths["winter"]),
            sky[0],
            0.55 if daylight(r) == "night" else 0.15,
        )
    else:
        _woods(s, mix(earth, sky[1], 0.5), horizon, rng)
    for i in range(3 if water else 0, 4):
        depth, swell, xs = (
            (1, 0.6, 0.3, 0.0)[i],
            (0.075, 0.06, 0.045, 0.03)[i],
            np.linspace(-0.05, 1.05, 9),
        )
        crest = np.stack(
            [xs * c.w, (horizon + (0, 0.03, 0.09, 0.19)[i] - swell * rng.random(9)) * c.h], axis=-1
        )
        top = smooth(crest, closed=False, steps=8)
        hill = mix(earth, sky[2], depth * 0.68)
        c.polygon(np.concatenate([top, [(1.1 * c.w, c.h + 2), (-0.1 * c.w, c.h + 2)]]), hill)
        for x, dy, long in rng.random((26 if i > 1 else 0, 3)):
            x, y = x * c.w, (horizon + 0.1 + (i - 2) * 0.12 + 0.25 * dy) * c.h
            c.line(
                x,
                y,
                x + c.u * 0.06 * (long - 0.5),
                y - c.u * 0.012 * (1 + long),
                shade(hill, 0.12),
                c.u * 0.003,
                0.6,
            )
    return earth


def _woods(s: Scene, rgb: RGB, horizon: float, rng: np.random.Generator) -> None:
    """Far firs, church spires or poplars along the horizon, here and there."""
    c, start, long = s.canvas, rng.uniform(-0.2, 0.7), rng.uniform(0.2, 0.6)
    for x, r, wide in rng.random((34, 3)):
        foot, high = (horizon + 0.03) * c.h, c.u * (0.02 + 0.075 * r)
        x, half = (start + long * x) * c.w, c.u * (0.008 + 0.012 * wide)
        c.polygon(
            np.array([(x - half, foot), (x, foot - high), (x + half, foot)]), shade(rgb, 0.1 * wide)
        )


def _flat(
    s: Scene,
    rgb: RGB,
    sky: tuple[RGB, RGB, RGB],
    horizon: float,
    rng: np.random.Generator,
    *,
    water: bool,
) -> None:
    c, y0 = s.canvas, horizon * s.canvas.h
    c.gradient([(0, mix(rgb, sky[2], 0.55)), (0.25, rgb), (1, shade(rgb, 0.3))], (0, y0, c.w, c.h))
    if not water:
        for i in range(-7, 8):
            c.line(
                c.w * (0.5 + i * 0.06),
                y0,
                c.w * (0.5 + i * 0.32),
                c.h,
                shade(rgb, 0.25),
                c.u * 0.003,
                0.6,
            )
        return
    for t, x, long in rng.random((70, 3)):
        y = y0 + (c.h - y0) * t**1.6
        half = c.u * (0.015 + 0.09 * t) * (0.4 + long)
        c.line(
            x * c.w - half,
            y,
            x * c.w + half,
            y,
            tint(sky[2], 0.3) if long > 0.45 else shade(rgb, 0.3),
            c.u * (0.0015 + 0.005 * t),
            0.5,
        )


def stand(s: Scene, horizon: float) -> list[Placed]:
    """The things of a landscape: what flies above the horizon, what stands below it, the far before
    the near.
    """
    out: list[Placed] = []
    motifs, usual = (
        vocabulary()["motifs"],
        vocabulary()["usual"].get(s.reading.setting or s.reading.season, "tree").split(),
    )
    things = s.reading.known or tuple(
        Thing(
            name,
            name,
            4 if name in ("flower", "leaf", "pine") else 1,
            motifs[name][4],
            habitat=motifs[name][2],
        )
        for name in usual
    )
    for p in s.placed("horizon" if sum(t.count for t in things) < 9 else "scatter", things):
        rng, far = (
            s.rng(f"stand{len(out)}"),
            p.thing.motif in ("mountain", "volcano", "city", "rainbow", "bridge", "castle"),
        )
        size, half = min(0.44, p.size * 1.12), s.canvas.u / s.canvas.h
        if p.thing.habitat == "air" and p.thing.motif != "rainbow":
            y = rng.uniform(0.13, max(0.2, horizon - 0.2))
        elif p.thing.habitat == "shape":
            y = horizon - 0.12
        else:
            near = 0.16 if p.thing.habitat == "ground" and s.reading.setting == "sea" else 0.1
            y = horizon + (0.05 if far else rng.uniform(near, 0.27)) - size * half
        if "top" in p.thing.place and p.thing.habitat in ("air", "shape"):
            y = min(y, 0.28)
        low = size * half + 0.02
        out.append(replace(p, y=max(low, min(y, 1 - low)), size=size))
    return sorted(out, key=lambda p: p.y + p.size * s.canvas.u / s.canvas.h)


def weather(s: Scene) -> None:
    """Rain, snow, fog, storm or wind over the whole picture."""
    c, rng, kind = s.canvas, s.rng("weather"), s.reading.weather
    if kind in ("rain", "storm"):
        slant, count = (0.035 if kind == "rain" else 0.11), (170 if kind == "rain" else 260)
        for x, y, r in rng.random((count, 3)):
            x, y, long = (
                x * 1.2 * c.w - 0.1 * c.w,
                y * 1.1 * c.h - 0.05 * c.h,
                c.u * (0.04 + 0.06 * r),
            )
            c.line(
                x,
                y,
                x - long * slant * 8,
                y + long,
                (226, 234, 242),
                c.u * (0.0015 + 0.002 * r),
                0.25 + 0.4 * r,
            )
    if kind == "storm":
        bolt = Placed(Thing("", "lightning"), 0, rng.uniform(0.15, 0.85), 0.2, 0.2)
        c.glow(bolt.x * c.w, 0.2 * c.h, 0.4 * c.u, 0.4 * c.u, WHITE, 0.5)
        s.paint(s.parts(bolt), one_tone((255, 246, 196)))
    elif kind == "snow":
        for x, y, r in rng.random((190, 3)):
            c.disc(x * c.w, y * c.h, c.u * (0.0025 + 0.009 * r**2), WHITE, 0.55 + 0.4 * r)
    elif kind == "fog":
        for x, y, r in rng.random((9, 3)):
            c.glow(
                x * c.w,
                (0.35 + 0.5 * y) * c.h,
                c.w * (0.35 + 0.4 * r),
                c.h * 0.09,
                (232, 234, 236),
                0.75,
            )
    elif kind == "wind":
        for x, y, r in rng.random((14, 3)):
            gust = np.array([(0, 0), (0.1, -0.012), (0.2, 0.008), (0.32, -0.01)]) * c.u * (
                0.5 + r
            ) + (x * c.w - 0.1 * c.w, y * c.h)
            c.stroke(smooth(gust, closed=False), WHITE, c.u * 0.004, alpha=0.5)
