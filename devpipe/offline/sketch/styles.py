"""From words to a picture, `compose(text)`, or `draw(reading)` where the reading is there; and the
table of manners it is drawn in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
from PIL import Image

from devpipe.offline.sketch import attitudes, movements
from devpipe.offline.sketch.canvas import grain, vignette
from devpipe.offline.sketch.faithful import faithful
from devpipe.offline.sketch.forms import Part, angular, ngon, primitive
from devpipe.offline.sketch.layout import SYSTEMS, Placed
from devpipe.offline.sketch.movements import melting
from devpipe.offline.sketch.palette import BLACK, RGB, WHITE, mix, oklch
from devpipe.offline.sketch.reading import Reading, read
from devpipe.offline.sketch.scene import Bend, Paint, Scene

Finish = Callable[
    [Scene, Image.Image], Image.Image
]  # what happens to the picture at its final size
_INK: RGB = (34, 32, 36)


def compose(
    text: str, *, seed: int, width: int, height: int, style: str = "", language: str = ""
) -> Image.Image:
    """A picture of the text, RGB, the same bytes for the same arguments.

    >>> compose("ein roter Kreis auf blauem Grund", seed=7, width=64, height=64).size
    (64, 64)
    """
    return draw(read(text, language), seed=seed, width=width, height=height, style=style)


def draw(reading: Reading, *, seed: int, width: int, height: int, style: str = "") -> Image.Image:
    """A picture of what was read, in a manner of `STYLES`; a name unknown there gets a manner from
    its letters.
    """
    paint, finish = STYLES.get(style) or manner_of(style)
    scene = Scene.of(
        reading, seed=seed, width=width, height=height, over=3 if max(width, height) <= 200 else 2
    )
    paint(scene)
    return finish(scene, scene.canvas.finished())


def on_paper(s: Scene, image: Image.Image) -> Image.Image:
    return grain(
        image,
        s.rng("grain"),
        {"rough": 8.0, "woven": 6.0, "smooth": 1.0, "soft": 2.0}.get(s.reading.texture, 3.2),
    )


def grained(strength: float) -> Finish:
    return lambda s, image: grain(image, s.rng("grain"), strength)


def manner_of(name: str) -> tuple[Paint, Finish]:
    """A manner for a style nobody described: ground, line, filling and layout are picked by the
    name's letters.
    """
    h = hashlib.sha256(name.casefold().encode("utf-8", "replace")).digest()
    systems = sorted(SYSTEMS)

    def paint(s: Scene) -> None:
        c, hue = s.canvas, h[0] * 360 / 255
        dark = h[1] % 3 == 0
        ground = oklch(0.26 if dark else 0.91, 0.05, hue)
        c.gradient([(0, ground), (1, oklch(0.36 if dark else 0.82, 0.08, hue + 40))])
        _ground_pattern(s, h, mix(ground, WHITE if dark else BLACK, 0.13))
        pool = [
            oklch((0.74 if dark else 0.56) + 0.09 * (k % 2), 0.15, hue + turned)
            for k, turned in enumerate((150, 30, 200, 90, 300))
        ]
        for p in s.placed(systems[h[2] % len(systems)]):
            _in_manner(s, p, h, pool, WHITE if dark else _INK)

    return paint, on_paper


def _ground_pattern(s: Scene, h: bytes, rgb: RGB) -> None:
    c, kind, step = s.canvas, h[3] % 5, s.canvas.u / (7 + h[4] % 8)
    for k in range(math.ceil((c.w + c.h) / step)):
        if kind == 0:
            c.line(k * step, 0, k * step - c.h * 0.5, c.h, rgb, step * 0.2)
        elif kind == 1:
            c.stroke(
                ngon(80) * step * k + (c.w * h[5] / 255, c.h * h[6] / 255),
                rgb,
                step * 0.16,
                closed=True,
            )
        elif kind == 2:
            xs = np.linspace(0, c.w, 60)
            c.stroke(
                np.stack([xs, k * step + 0.4 * step * np.sin(xs / step + k * h[5])], axis=-1),
                rgb,
                step * 0.14,
            )
        elif kind == 3:
            for i in range(math.ceil(c.w / step)):
                c.disc((i + 0.5 * (k % 2)) * step, k * step, step * 0.14, rgb)
        else:
            c.line(0, k * step, c.w, k * step, rgb, step * 0.07)
            c.line(k * step, 0, k * step, c.h, rgb, step * 0.07)


def _in_manner(s: Scene, p: Placed, h: bytes, pool: list[RGB], ink: RGB) -> None:
    c, cut = s.canvas, s.rng(f"manner{p.index}")

    def hewn(part: Part) -> Part:
        return (
            replace(part, points=angular(part.points, cut, keep=8, jitter=0.02))
            if len(part.points) > 9
            else part
        )

    bends: tuple[Bend | None, ...] = (None, primitive, hewn, partial(melting, much=0.09))
    parts = s.parts(replace(p, size=min(0.45, p.size * 1.1)), bends[h[7] % 4])
    main = mix(s.colour(p), pool[p.index % 5], 0.65 if not p.thing.colours else 0.0)
    tones = s.tones(main, p, accent=pool[(p.index + 1) % 5])
    if h[8] % 3 == 0:
        for part in parts:
            (
                c.hatch(part.points, main, gap=c.u * 0.014, width=c.u * 0.006, degrees=float(h[9]))
                if not part.width
                else None
            )
            c.stroke(
                part.points, main if part.tone != "k" else ink, c.u * 0.006, closed=part.closed
            )
    elif h[8] % 3 == 1:
        s.shadow(parts, 0.02, 0.02, pool[(p.index + 2) % 5], 0.9)
        s.paint(parts, tones)
    else:
        s.paint(parts, tones, line=ink, width=c.u * 0.008)


STYLES: Mapping[str, tuple[Paint, Finish]] = MappingProxyType(
    {
        "": (faithful, on_paper),
        "bauhaus": (movements.bauhaus, on_paper),
        "dada": (movements.dada, grained(7)),
        "expressionism": (movements.expressionism, grained(7)),
        "surrealization": (movements.surrealization, on_paper),
        "renaissance": (
            movements.renaissance,
            lambda s, image: grained(6)(s, vignette(image, 0.75, (26, 14, 8))),
        ),
        "confucian_literati": (movements.literati, grained(5)),
        "technical_drawing": (movements.technical_drawing, grained(2)),
        "overdrive": (attitudes.overdrive, lambda s, image: image),
        "the_opposite": (faithful, attitudes.opposite),
        "cliche_filter": (attitudes.uncliched, on_paper),
        "harmonizer": (attitudes.harmonizer, grained(2)),
        "youth_slang": (attitudes.youth_slang, on_paper),
        "pig_latin": (attitudes.swapped, on_paper),
        "stille_post": (attitudes.whispered, on_paper),
        "tell_a_story": (attitudes.told, on_paper),
        "planetarizer": (attitudes.planetarizer, grained(2)),
        "split_and_combine": (attitudes.halved, on_paper),
        "analog_photography": (faithful, attitudes.photographed),
    }
)
