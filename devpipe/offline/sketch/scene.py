"""One picture in the making: the reading, the colours, the sheet, and what every manner needs of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from devpipe.offline.sketch.canvas import Canvas
from devpipe.offline.sketch.forms import Part, motif, turn, word_form
from devpipe.offline.sketch.layout import Placed, arrange
from devpipe.offline.sketch.palette import (
    RGB,
    Palette,
    apart,
    hexed,
    luminance,
    mix,
    named,
    palette,
    recolour,
    shade,
    tint,
)
from devpipe.offline.sketch.reading import Reading, Thing, vocabulary
from devpipe.values import derived_seed

Tones = dict[str, RGB]
Bend = Callable[[Part], Part]
Paint = Callable[["Scene"], None]
_WINDOWED = frozenset(("house", "city", "tower", "church", "castle", "train", "ship"))
_SKINS: tuple[RGB, ...] = (
    (240, 200, 168),
    (224, 172, 130),
    (190, 132, 92),
    (141, 90, 60),
    (96, 60, 42),
)


@dataclass
class Scene:
    """What a manner paints on and from: the reading, the colours, the sheet, and random numbers by
    name.
    """

    reading: Reading
    palette: Palette
    canvas: Canvas
    seed: int

    @classmethod
    def of(cls, reading: Reading, *, seed: int, width: int, height: int, over: int) -> Scene:
        colours = palette(
            reading, np.random.default_rng(derived_seed(seed, reading.key, "palette"))
        )
        return cls(reading, colours, Canvas(width, height, over, colours.ground), seed)

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng(derived_seed(self.seed, self.reading.key, name))

    def lettered(self, fallback: str) -> list[str]:
        """Words that the typeface can write, those of the things shown first."""
        words = dict.fromkeys([t.word for t in self.reading.known] + list(self.reading.words))
        return [
            w for w in words if all(c.isascii() or c in "äöüÄÖÜß" for c in w)
        ] or fallback.split()

    def panel(
        self,
        width: float,
        height: float,
        paint: Paint,
        *,
        seed: int = 0,
        reading: Reading | None = None,
    ) -> Image.Image:
        """Another picture of the same, to be set into this one."""
        inner = Canvas(max(2, round(width)), max(2, round(height)), 1, self.palette.ground)
        paint(
            Scene(
                reading or self.reading,
                self.palette,
                inner,
                derived_seed(self.seed, "panel", seed) if seed else self.seed,
            )
        )
        return inner.image

    def placed(self, system: str = "", things: tuple[Thing, ...] = ()) -> tuple[Placed, ...]:
        return arrange(
            things or self.reading.shown,
            self.rng("layout"),
            system=system,
            aspect=self.canvas.w / self.canvas.h,
        )

    def parts(self, p: Placed, bend: Bend | None = None) -> list[Part]:
        """The parts of a placed thing, in pixels of the sheet."""
        c, scale = self.canvas, p.size * self.canvas.u
        mirror, at = np.array([-scale if p.flip else scale, scale]), (p.x * c.w, p.y * c.h)
        bent = (
            bend(part) if bend else part
            for part in (motif(p.thing.motif) if p.thing.motif else word_form(p.thing.word))
        )
        lean = p.lean if not p.thing.motif or p.thing.habitat == "shape" else p.lean / 4
        return [part.moved(lambda q: turn(q * mirror, lean, at), scale) for part in bent]

    def colour(self, p: Placed) -> RGB:
        """The main colour of a thing: what the text says, else its natural one, else one of the
        palette.
        """
        if p.thing.colours:
            return named(p.thing.colours[0])
        own = vocabulary()["motifs"][p.thing.motif][3] if p.thing.motif else ""
        if not own:
            return self.accent(p.index + 1 if self.palette.named else p.nth)
        own = "orange" if own == "green" and self.reading.season == "autumn" else own
        rng = self.rng(f"nature{p.nth}")  # no two trees have the same green
        lightness, turned, chroma = (
            rng.uniform(0.86, 1.1),
            rng.uniform(-14, 14),
            rng.uniform(0.8, 1.05),
        )
        return recolour(
            named(own), lightness=lightness, turn=turned * (p.thing.habitat != "air"), chroma=chroma
        )

    def accent(self, index: int) -> RGB:
        return self.palette.accents[index % len(self.palette.accents)]

    def tones(self, main: RGB, p: Placed, accent: RGB | None = None) -> Tones:
        """The colours of a thing's parts, by their letters."""
        if len(p.thing.colours) > 1:
            accent = named(p.thing.colours[1])
        elif not accent and self.palette.named:
            accent = shade(main, 0.5) if luminance(main) > 0.3 else tint(main, 0.5)
        elif not accent:
            accent = apart(mix(self.accent(p.index + 1), (186, 82, 52), 0.6), main)
        dark, light = sorted((self.palette.ink, self.palette.paper), key=luminance)
        if daylight(self.reading) in ("night", "dusk") and p.thing.motif in _WINDOWED:
            light = (255, 226, 140)
        skin = _SKINS[self.rng(f"skin{p.nth}").integers(5)]
        given = (
            main,
            shade(main, 0.32),
            tint(main, 0.34),
            accent,
            dark,
            light,
            skin,
            (84, 130, 66),
            (104, 72, 50),
        )
        return dict(zip("mdlakwsgb", given, strict=True))

    def paint(
        self,
        parts: list[Part],
        tones: Tones,
        *,
        alpha: float = 1.0,
        line: RGB | None = None,
        width: float = 0.0,
    ) -> None:
        """Fill each part with its tone; with `line`, also draw its outline."""
        for part in parts:
            self.canvas.part(part, tones.get(part.tone[0]) or hexed(part.tone), alpha)
            if line is not None and not part.width:
                self.canvas.stroke(part.points, line, width, closed=True)

    def silhouette(self, parts: list[Part], rgb: RGB, width: float) -> None:
        """The large parts with a rim all round, in one colour: what a sticker is cut from."""
        whole = max(float(np.ptp(part.points, axis=0).max()) for part in parts)
        for part in parts:
            if part.width > 0.025 * whole or (
                not part.width and float(np.ptp(part.points, axis=0).max()) > 0.3 * whole
            ):
                self.canvas.part(part, rgb)
                self.canvas.stroke(
                    part.points, rgb, width + part.width, closed=part.closed and not part.width
                )

    def shadow(self, parts: list[Part], dx: float, dy: float, rgb: RGB, alpha: float) -> None:
        u = self.canvas.u
        for part in parts:
            self.canvas.part(part.moved(lambda q: np.add(q, (dx * u, dy * u))), rgb, alpha)


def one_tone(rgb: RGB) -> Tones:
    return dict.fromkeys("mdlakwsgb#", rgb)


def daylight(r: Reading) -> str:
    dark = r.setting == "space" or {t.motif for t in r.known} & {
        "moon",
        "star",
        "owl",
        "planet",
        "rocket",
    }
    return r.light or ("night" if dark else "day")
