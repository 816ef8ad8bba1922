"""The shapes pictures are made of: motifs from motifs.json as curves and polygons, and forms grown
from a word's letters.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Warp = Callable[[Points], Points]


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a form: a filled outline (`width` 0) or a stroke.

    Tones: m main, d dark, l light, a accent, k ink, w paper,
    s skin, g leaf green, b wood, or #rrggbb."""

    tone: str
    points: Points
    width: float = 0.0
    closed: bool = True

    def moved(self, warp: Warp, scale: float = 1.0) -> Part:
        return replace(self, points=warp(self.points), width=self.width * scale)


@cache
def motif(name: str) -> tuple[Part, ...]:
    """The parts of a motif in the square from -1 to 1, y down; things that stand have their feet at
    y = 1.
    """
    data = json.loads(files(__package__).joinpath("motifs.json").read_text("utf-8"))
    return tuple(_part(line) for line in data[name])


def _part(line: str) -> Part:
    tone, kind, *numbers = line.split()
    n = [float(x) / 100 for x in numbers]
    count = int(float(numbers[-1]))
    if kind in ("p", "s"):
        points = np.array(n).reshape(-1, 2)
        return Part(tone, points if kind == "p" else smooth(points))
    if kind in ("l", "k"):
        points = np.array(n[1:]).reshape(-1, 2)
        return Part(
            tone, points if kind == "l" else smooth(points, closed=False), n[0], closed=False
        )
    if kind == "@":
        t = np.linspace(0.06, 1, 90)
        return Part(tone, n[2] * t[:, None] * unit(t * math.tau * n[1] * 100), n[0], closed=False)
    if kind in ("o2", "q"):
        arc = (
            unit(np.linspace(math.pi, math.tau, 40)) * n[1] + (0, 0.5)
            if kind == "o2"
            else turn(unit(_FULL) * n[1:3], n[3] * 100)
        )
        return Part(tone, arc, n[0], closed=kind == "q")
    if kind == "o":
        return Part(tone, unit(_FULL) * n[3] + n[1:3], n[0])
    return Part(tone, _solid(kind, n, count) + n[:2])


def _solid(kind: str, n: list[float], count: int) -> Points:
    if kind == "c":
        return unit(_FULL) * n[2]
    if kind == "e":
        return turn(unit(_FULL) * n[2:4], n[4] * 100 if len(n) > 4 else 0)
    if kind == "h":
        return unit(np.linspace(math.pi, math.tau, 40)) * n[2]
    if kind == "g":
        return ngon(count) * n[2]
    return (
        spiked(count, *n[2:4]) if kind == "*" else spiked(count, n[2], *n[2:4], n[3])
    )  # a star, or a gear wheel


_FULL = np.linspace(0, math.tau, 49)[:-1]
_SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def unit(angles: Points) -> Points:
    around: Points = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return around


def ngon(n: int) -> Points:
    """A regular polygon of radius 1 with one corner on top."""
    return unit(np.arange(n) * (math.tau / n) - math.pi / 2)


def spiked(n: int, *radii: float) -> Points:
    """A star of so many tips, each with corners at these distances from the middle."""
    star: Points = ngon(n * len(radii)) * np.resize(radii, n * len(radii))[:, None]
    return star


def turn(points: Points, degrees: float, at: tuple[float, float] = (0, 0)) -> Points:
    """The points turned round the origin, which then goes to `at`."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: Points = points @ np.array([[c, s], [-s, c]]) + at
    return turned


def smooth(points: Points, closed: bool = True, steps: int = 6) -> Points:
    """A centripetal-looking Catmull-Rom curve through the points; a point given twice is a
    corner.
    """
    p = (
        np.concatenate([points[-1:], points, points[:2]])
        if closed
        else np.concatenate([points[:1], points, points[-1:]])
    )
    t = (np.arange(steps) / steps)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    flat = curve.transpose(1, 0, 2).reshape(-1, 2)
    return flat if closed else np.concatenate([flat, points[-1:]])


def rounded(points: Points) -> Points:
    """The outline with its corners cut twice (Chaikin 1974)."""
    for _ in range(2):
        after = np.roll(points, -1, axis=0)
        points = np.stack(
            [0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1
        ).reshape(-1, 2)
    return points


def angular(points: Points, rng: np.random.Generator, *, keep: int, jitter: float) -> Points:
    """The outline cut with a few straight blows: every k-th point, knocked about."""
    k = max(1, len(points) // keep)
    cut = points[::k]
    size = float(np.ptp(cut, axis=0).max()) if len(cut) > 1 else 0.0
    return cut + rng.normal(0, jitter * size, cut.shape)


def primitive(part: Part) -> Part:
    """The circle, triangle or rectangle that says the same as this part."""
    low, high = part.points.min(axis=0), part.points.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.01)
    if part.width:
        return (
            replace(part, points=part.points[[0, -1]], closed=False)
            if not part.closed or len(part.points) < 20
            else part
        )
    if len(part.points) <= 4:
        return part
    round_enough = 0.6 < half[0] / half[1] < 1.7 and len(part.points) > 12
    shape = unit(_FULL) if round_enough else _SQUARE
    return replace(part, points=middle + shape * (half.mean() if round_enough else half))


def word_form(word: str) -> tuple[Part, ...]:
    """A form that is this word's own: its letters' hash picks one of eight families and its
    proportions.
    """
    h = hashlib.sha256(word.casefold().encode("utf-8", "replace")).digest()
    return _FAMILIES[h[0] % len(_FAMILIES)](h[1] / 255, h[2] / 255, 3 + h[3] % 5)


def _blob(a: float, b: float, n: int) -> tuple[Part, ...]:
    r = 0.72 + 0.2 * np.sin(_FULL * n + a * 6) * (0.4 + b) * 0.6 + 0.08 * np.sin(_FULL * 2 + b * 6)
    return (
        Part("m", unit(_FULL) * r[:, None]),
        Part("l", unit(_FULL) * 0.22 + (a * 0.5 - 0.25, b * 0.5 - 0.25)),
    )


def _petals(a: float, b: float, n: int) -> tuple[Part, ...]:
    petal = unit(_FULL) * (0.46, 0.16 + 0.1 * a) + (0.5, 0)
    return (
        *(Part("ml"[i % 2], turn(petal, 360 * i / (n + 2) + 90 * b)) for i in range(n + 2)),
        Part("a", unit(_FULL) * 0.2),
    )


def _arcs(a: float, b: float, n: int) -> tuple[Part, ...]:
    def arc(i: int) -> Points:
        start = 6 * b + i * (0.6 * a)
        return unit(np.linspace(start, start + 2.2 + 1.8 * a, 40)) * (0.92 - i * 0.8 / n)

    return tuple(Part("mdal"[i % 4], arc(i), 0.42 / n, closed=False) for i in range(n))


def _shards(a: float, b: float, n: int) -> tuple[Part, ...]:
    base = np.array([[-0.14, 0.1], [0.05 + a * 0.2, -0.95 + 0.3 * b], [0.16, 0.12]])
    return tuple(Part("mdla"[i % 4], turn(base, 360 * i / (n + 1) + 50 * a)) for i in range(n + 1))


def _bars(a: float, b: float, n: int) -> tuple[Part, ...]:
    def bar(i: int) -> Points:
        height = 0.3 + 0.6 * abs(math.sin(3 * a * i + 5 * b))
        return turn(_SQUARE * (0.09, height) + (-0.8 + 1.6 * i / (n - 1), 0), 60 * b - 30)

    return tuple(Part("mdal"[(i + int(4 * a)) % 4], bar(i)) for i in range(n))


def _halves(a: float, b: float, n: int) -> tuple[Part, ...]:
    half = unit(np.linspace(0, math.pi, 30)) * 0.85
    return (
        Part("m", turn(np.add(half, (0.12, 0.04)), 360 * a)),
        Part("d", turn(-half * (0.5 + 0.5 * b), 360 * a)),
        Part("a", ngon(n) * 0.16),
    )


def _nest(a: float, b: float, n: int) -> tuple[Part, ...]:
    return tuple(
        Part("mldaw"[i % 5], turn(ngon(n), i * (10 + 25 * a)) * (0.95 * (0.55 + 0.2 * b) ** i))
        for i in range(4)
    )


def _dots(a: float, b: float, n: int) -> tuple[Part, ...]:
    spots = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if i * i + j * j < 6]
    size = [0.16 * abs(math.sin(1 + (i + 3 * a) * (j + 4 * b) * n * 0.3)) + 0.04 for i, j in spots]
    return tuple(
        Part("mmad"[(i + j + n) % 4], unit(_FULL[::2]) * r + (i * 0.4, j * 0.4))
        for (i, j), r in zip(spots, size, strict=True)
    )


_FAMILIES: Sequence[Callable[[float, float, int], tuple[Part, ...]]] = (
    _blob,
    _petals,
    _arcs,
    _shards,
    _bars,
    _halves,
    _nest,
    _dots,
)
