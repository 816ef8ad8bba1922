"""The table of manners: how the style that an interception names shows in the picture."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from PIL import Image

from devpipe.sketch import attitudes, chains, movements
from devpipe.sketch.canvas import grain, vignette
from devpipe.sketch.faithful import faithful
from devpipe.sketch.forms import Part, angular, ngon, primitive
from devpipe.sketch.layout import SYSTEMS, Placed
from devpipe.sketch.movements import melting
from devpipe.sketch.palette import BLACK, RGB, WHITE, mix, oklch
from devpipe.sketch.scene import Scene

Paint = Callable[[Scene], None]
Finish = Callable[[Scene, Image.Image], Image.Image]
_INK: RGB = (34, 32, 36)


def on_paper(s: Scene, image: Image.Image) -> Image.Image:
    return grain(image, s.rng("grain"), {"rough": 8.0, "woven": 6.0, "smooth": 1.0, "soft": 2.0}.get(s.reading.texture, 3.2))


def clean(s: Scene, image: Image.Image) -> Image.Image:
    return image


@dataclass(frozen=True, slots=True)
class Style:
    """A manner: how the sheet is painted, and what happens to the picture at its final size."""

    paint: Paint
    finish: Finish = on_paper


def manner_of(name: str) -> Style:
    """A manner for a style nobody described: ground, line, filling and layout are picked by the name's letters."""
    h = hashlib.sha256(name.casefold().encode("utf-8", "replace")).digest()
    systems = sorted(SYSTEMS)

    def paint(s: Scene) -> None:
        c, hue = s.canvas, h[0] * 360 / 255
        dark = h[1] % 3 == 0
        ground = oklch(0.26 if dark else 0.91, 0.05, hue)
        c.gradient([(0, ground), (1, oklch(0.36 if dark else 0.82, 0.08, hue + 40))])
        _ground_pattern(s, h, mix(ground, WHITE if dark else BLACK, 0.13))
        pool = [oklch((0.74 if dark else 0.56) + 0.09 * (k % 2), 0.15, hue + turned) for k, turned in enumerate((150, 30, 200, 90, 300))]
        for p in s.placed(systems[h[2] % len(systems)]):
            _in_manner(s, p, h, pool, WHITE if dark else _INK)

    return Style(paint)


def _ground_pattern(s: Scene, h: bytes, rgb: RGB) -> None:
    c, kind, step = s.canvas, h[3] % 5, s.canvas.u / (7 + h[4] % 8)
    for k in range(math.ceil((c.w + c.h) / step)):
        if kind == 0:
            c.line(k * step, 0, k * step - c.h * 0.5, c.h, rgb, step * 0.2)
        elif kind == 1:
            c.stroke(ngon(80) * step * k + (c.w * h[5] / 255, c.h * h[6] / 255), rgb, step * 0.16, closed=True)
        elif kind == 2:
            xs = np.linspace(0, c.w, 60)
            c.stroke(np.stack([xs, k * step + 0.4 * step * np.sin(xs / step + k * h[5])], axis=-1), rgb, step * 0.14)
        elif kind == 3:
            for i in range(math.ceil(c.w / step)):
                c.disc((i + 0.5 * (k % 2)) * step, k * step, step * 0.14, rgb)
        else:
            c.line(0, k * step, c.w, k * step, rgb, step * 0.07)
            c.line(k * step, 0, k * step, c.h, rgb, step * 0.07)


def _in_manner(s: Scene, p: Placed, h: bytes, pool: list[RGB], ink: RGB) -> None:
    c, cut = s.canvas, s.rng(f"manner{p.index}")
    bends: tuple[Callable[[Part], Part], ...] = (
        lambda part: part,
        primitive,
        lambda part: replace(part, points=angular(part.points, cut, keep=8, jitter=0.02) if len(part.points) > 9 else part.points),
        lambda part: melting(part, 0.09),
    )
    parts, main = (
        s.parts(replace(p, size=min(0.45, p.size * 1.1)), bends[h[7] % 4]),
        mix(s.colour(p), pool[p.index % 5], 0.65 if not p.thing.colours else 0.0),
    )
    tones = s.tones(main, p, accent=pool[(p.index + 1) % 5])
    if h[8] % 3 == 0:
        for part in parts:
            c.hatch(part.points, main, gap=c.u * 0.014, width=c.u * 0.006, degrees=float(h[9])) if not part.width else None
            c.stroke(part.points, main if part.tone != "k" else ink, c.u * 0.006, closed=part.closed)
    elif h[8] % 3 == 1:
        s.shadow(parts, 0.02, 0.02, pool[(p.index + 2) % 5], 0.9)
        s.paint(parts, tones)
    else:
        s.paint(parts, tones, line=ink, width=c.u * 0.008)


STYLES: Mapping[str, Style] = MappingProxyType({
    "": Style(faithful),
    "bauhaus": Style(movements.bauhaus),
    "dada": Style(movements.dada, lambda s, image: grain(image, s.rng("grain"), 7)),
    "expressionism": Style(movements.expressionism, lambda s, image: grain(image, s.rng("grain"), 7)),
    "surrealization": Style(movements.surrealization),
    "renaissance": Style(movements.renaissance, lambda s, image: grain(vignette(image, 0.75, (26, 14, 8)), s.rng("grain"), 6)),
    "confucian_literati": Style(movements.literati, lambda s, image: grain(image, s.rng("grain"), 5)),
    "technical_drawing": Style(movements.technical_drawing, lambda s, image: grain(image, s.rng("grain"), 2)),
    "overdrive": Style(attitudes.overdrive, clean),
    "the_opposite": Style(faithful, attitudes.opposite),
    "cliche_filter": Style(attitudes.uncliched),
    "harmonizer": Style(attitudes.harmonizer, lambda s, image: grain(image, s.rng("grain"), 2)),
    "youth_slang": Style(attitudes.youth_slang),
    "pig_latin": Style(chains.swapped),
    "stille_post": Style(chains.whispered),
    "tell_a_story": Style(chains.told),
    "planetarizer": Style(attitudes.planetarizer, lambda s, image: grain(image, s.rng("grain"), 2)),
    "split_and_combine": Style(chains.halved),
    "analog_photography": Style(faithful, attitudes.photographed),
})  # fmt: skip


def style_of(name: str) -> Style:
    return STYLES.get(name) or manner_of(name)
