"""Which colours a picture has: named ones as the text wants them, the others in harmony with them
(OKLCH).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from devpipe.offline.sketch.reading import Reading, vocabulary

RGB = tuple[int, int, int]

WHITE: RGB = (255, 255, 255)
BLACK: RGB = (16, 15, 18)
_SCHEMES = (
    (0, 32, -32, 180, 205),
    (0, 150, 210, 30, 180),
    (0, 120, 240, 30, 150),
    (0, 25, 50, 190, 220),
    (0, 180, 20, 200, 90),
)
_MOODS = {  # hue of the ground, lightness of the ground, chroma factor
    "": (None, 0.90, 1.0),
    "calm": (215, 0.90, 0.75),
    "joy": (85, 0.92, 1.35),
    "sad": (255, 0.62, 0.5),
    "anger": (25, 0.42, 1.4),
    "fear": (300, 0.26, 0.8),
    "dream": (300, 0.72, 0.95),
    "tender": (10, 0.93, 0.7),
}
_LIGHTS = {"night": 0.24, "dusk": 0.55, "dawn": 0.86, "day": 0.93}


@dataclass(frozen=True, slots=True)
class Palette:
    ground: RGB
    ink: RGB
    paper: RGB
    accents: tuple[RGB, ...]
    named: bool = False  # the text itself said which colours


def oklch(lightness: float, chroma: float, hue: float) -> RGB:
    """The nearest sRGB colour, with less chroma where sRGB has not that much (Ottosson 2020, "A
    perceptual color space").
    """
    for _ in range(24):
        rgb = _linear(lightness, chroma, hue)
        if all(-0.001 <= c <= 1.001 for c in rgb):
            break
        chroma *= 0.92
    clipped = (min(1.0, max(0.0, c)) for c in rgb)
    red, green, blue = (
        round(255 * (1.055 * c ** (1 / 2.4) - 0.055 if c > 0.0031308 else 12.92 * c))
        for c in clipped
    )
    return red, green, blue


def _linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    mid = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * mid + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * mid - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * mid + 1.7076147010 * short,
    )


def to_oklch(rgb: RGB) -> tuple[float, float, float]:
    """Lightness, chroma and hue in degrees of an sRGB colour."""
    r, g, b = ((c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    mid = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    a = 1.9779984951 * long - 2.4285922050 * mid + 0.4505937099 * short
    bb = 0.0259040371 * long + 0.7827717662 * mid - 0.8086757660 * short
    lightness = 0.2104542553 * long + 0.7936177850 * mid - 0.0040720468 * short
    return lightness, math.hypot(a, bb), math.degrees(math.atan2(bb, a)) % 360


def hexed(code: str) -> RGB:
    red, green, blue = bytes.fromhex(code[1:])
    return red, green, blue


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """`a` at t=0, `b` at t=1; mixing with black or white keeps the HSV hue, which named colours
    need.
    """
    return (
        round(a[0] + (b[0] - a[0]) * t),
        round(a[1] + (b[1] - a[1]) * t),
        round(a[2] + (b[2] - a[2]) * t),
    )


def tint(rgb: RGB, t: float) -> RGB:
    return mix(rgb, WHITE, t)


def shade(rgb: RGB, t: float) -> RGB:
    return mix(rgb, (0, 0, 0), t)


def luminance(rgb: RGB) -> float:
    return (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255


def apart(rgb: RGB, ground: RGB) -> RGB:
    """The colour, made lighter or darker where it would vanish on this ground."""
    if sum(abs(a - b) for a, b in zip(rgb, ground, strict=True)) > 120:
        return rgb
    return shade(rgb, 0.45) if luminance(ground) > 0.45 else tint(rgb, 0.5)


def recolour(rgb: RGB, *, lightness: float = 1.0, chroma: float = 1.0, turn: float = 0.0) -> RGB:
    """The colour with its OKLCH lightness and chroma multiplied and its hue turned."""
    light, c, hue = to_oklch(rgb)
    return oklch(min(1.0, light * lightness), c * chroma, hue + turn)


def nearest(rgb: RGB, choices: tuple[RGB, ...]) -> RGB:
    """The choice that looks most like the colour; hue counts more than lightness."""
    light, chroma, hue = to_oklch(rgb)

    def far(other: RGB) -> float:
        other_light, other_chroma, other_hue = to_oklch(other)
        turn = (
            2 * math.sqrt(chroma * other_chroma) * abs(math.sin(math.radians(hue - other_hue) / 2))
        )
        return 0.5 * (light - other_light) ** 2 + (chroma - other_chroma) ** 2 + 3 * turn**2

    return min(choices, key=far)


def named(colour: str) -> RGB:
    """The colour of a name of the vocabulary, e.g. "red" or "dark blue"."""
    level, _, name = colour.rpartition(" ")
    rgb = hexed(vocabulary()["colours"][name][0])
    return shade(rgb, 0.45) if level == "dark" else tint(rgb, 0.5) if level == "light" else rgb


def palette(reading: Reading, rng: np.random.Generator) -> Palette:
    """Ground, ink, paper and five accents for a reading."""
    own = [named(c) for c in dict.fromkeys((*reading.of("thing"), *reading.of("free")))]
    grounds = [named(c) for c in (*reading.of("ground"), *reading.of("setting"))]
    mood_hue, lightness, chroma = _MOODS[reading.mood]
    base = int(reading.key[:4] or "0", 16) % 360 + rng.uniform(-25, 25)
    lightness = _LIGHTS.get(reading.light, lightness) if not grounds else lightness
    ground = grounds[0] if grounds else _free_ground(own, mood_hue, base, lightness, rng)
    contrast = (
        to_oklch(ground)[2] + 180 if grounds else base if mood_hue is None else mood_hue + 180
    )
    if own and len(own) + len(grounds) > 1:  # no hue is added: the text named what it wants
        extra = [tint(own[0], 0.45), shade(own[-1], 0.4), tint(ground, 0.4), shade(ground, 0.4)]
        accents = tuple([*own, *extra][: max(5, len(own))])
    else:
        accents = _harmony(own, contrast, chroma, rng)
    both = oklch(0.2, 0.03, base), oklch(0.96, 0.02, 85)
    ink, paper = both[::-1] if luminance(ground) < 0.4 else both
    return Palette(ground, ink, paper, tuple(apart(a, ground) for a in accents), bool(own))


def _free_ground(
    own: list[RGB], hue: float | None, base: float, lightness: float, rng: np.random.Generator
) -> RGB:
    if own:  # one named thing stands best on a ground of nearly no colour
        light = 0.93 if luminance(own[0]) < 0.7 and lightness > 0.5 else 0.32
        return oklch(light, 0.018, to_oklch(own[0])[2] + 60)
    if (
        hue is None and lightness > 0.8
    ):  # no mood and no light named: pale, strong or dark, as it comes
        lightness = float(rng.choice([0.93, 0.88, 0.78, 0.7, 0.28]))
    return oklch(
        lightness + rng.uniform(-0.04, 0.02),
        0.04 if lightness > 0.85 else 0.085,
        base if hue is None else hue,
    )


def _harmony(
    own: list[RGB], base: float, chroma: float, rng: np.random.Generator
) -> tuple[RGB, ...]:
    if own:
        quiet = [
            recolour(own[0], chroma=0.5, lightness=k, turn=t)
            for k, t in ((1.25, 20), (0.7, -20), (1.4, 40), (0.55, 0))
        ]
        return (own[0], *quiet)
    scheme = _SCHEMES[int(rng.integers(len(_SCHEMES)))]
    levels = rng.permutation([0.52, 0.62, 0.70, 0.78, 0.44])
    return tuple(
        oklch(float(light), 0.15 * chroma, base + turn)
        for light, turn in zip(levels, scheme, strict=True)
    )
