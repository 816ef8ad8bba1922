"""Where things stand: layout systems that give each thing a place and a size, with what the text
itself demands on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from devpipe.offline.sketch.reading import Thing

PHI = (1 + math.sqrt(5)) / 2
MAX_PLACED = 26


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing at its place: x, y in 0..1 of the picture, size as half extent in units of its
    shorter side.
    """

    thing: Thing
    index: int  # of the thing in the reading, for its colour
    x: float
    y: float
    size: float
    nth: int = 0  # of all that is placed
    flip: bool = False
    lean: float = 0.0  # degrees


Spot = tuple[float, float, float]  # x, y, size


def _thirds(n: int, rng: np.random.Generator) -> list[Spot]:
    crossings = [(x / 3, y / 3) for x in (1, 2) for y in (1, 2)]
    spots = [(*crossings[i], 0.34 if k == 0 else 0.2) for k, i in enumerate(rng.permutation(4)[:n])]
    return spots + [(rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), 0.11) for _ in range(n - 4)]


def _golden(n: int, rng: np.random.Generator) -> list[Spot]:
    side, start = float(rng.choice([-1.0, 1.0])), rng.uniform(0, math.tau)
    cx, cy = 0.5 + side * (1 / PHI - 0.5), 0.5 + float(rng.choice([-1.0, 1.0])) * 0.06
    spots = [(cx, cy, 0.36)]
    for i in range(1, n):
        r, angle = 0.30 + 0.22 * math.sqrt(i / max(1, n)), start + i * math.tau / PHI**2
        spots.append(
            (
                0.5 + (0.5 - cx) * 0.6 + r * math.cos(angle),
                cy + r * math.sin(angle),
                0.24 * PHI ** (-i / 3),
            )
        )
    return spots


def _radial(n: int, rng: np.random.Generator) -> list[Spot]:
    start = rng.uniform(0, math.tau)
    angles = [start + i * math.tau / (n - 1) for i in range(n - 1)]
    return [
        (0.5, 0.5, 0.36 if n < 2 else 0.24),
        *((0.5 + 0.34 * math.cos(a), 0.5 + 0.34 * math.sin(a), 0.15) for a in angles),
    ]


def _grid(n: int, rng: np.random.Generator) -> list[Spot]:
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    cells = [((i + 0.5) / columns, (j + 0.5) / rows) for j in range(rows) for i in range(columns)]
    size = 0.42 / max(columns, rows)
    return [(x, y, size * rng.uniform(0.8, 1.05)) for x, y in cells[:n]]


def _horizon(n: int, rng: np.random.Generator) -> list[Spot]:
    base, order = rng.uniform(0.58, 0.68), rng.permutation(n)
    sizes = [rng.uniform(0.7, 1.2) * 0.42 / max(1.6, n * 0.72) for _ in range(n)]
    return [
        ((int(order[i]) + 0.5 + rng.uniform(-0.15, 0.15)) / n, base - sizes[i] * 0.4, sizes[i])
        for i in range(n)
    ]


def _scatter(n: int, rng: np.random.Generator) -> list[Spot]:
    """Best of ten candidates each time, the farthest from all others: Poisson-like spacing
    (Mitchell 1991).
    """
    spots: list[Spot] = []
    for i in range(n):
        tries = rng.uniform(0.14, 0.86, (10, 2))
        others = np.array([s[:2] for s in spots] or [(0.5, 1.4)])
        gap = np.linalg.norm(tries[:, None] - others[None], axis=2).min(axis=1)
        x, y = tries[int(gap.argmax())]
        spots.append((float(x), float(y), 0.34 / math.sqrt(max(1.4, n)) * (1.35 - 0.7 * i / n)))
    return spots


def _frieze(n: int, rng: np.random.Generator) -> list[Spot]:
    rows = 1 if n < 6 else 2 if n < 14 else 3
    per = math.ceil(n / rows)
    size = 0.40 / max(2.0, per * 0.95)
    shift = rng.uniform(-0.05, 0.05)
    return [
        ((i % per + 0.5) / per, 0.5 + shift + (i // per - (rows - 1) / 2) * 0.3, size)
        for i in range(n)
    ]


SYSTEMS: Mapping[str, Callable[[int, np.random.Generator], list[Spot]]] = {
    "thirds": _thirds,
    "golden": _golden,
    "radial": _radial,
    "grid": _grid,
    "horizon": _horizon,
    "scatter": _scatter,
    "frieze": _frieze,
}


def arrange(
    things: tuple[Thing, ...], rng: np.random.Generator, *, system: str = "", aspect: float = 1.0
) -> tuple[Placed, ...]:
    """Every thing as often as the text wants it, placed; the text's own left, right, above and
    below win over the system.
    """
    fit = min(1.0, MAX_PLACED / max(1, sum(t.count for t in things)))
    wanted = [(i, t) for i, t in enumerate(things) for _ in range(max(1, round(t.count * fit)))]
    few, some, many = (
        "golden thirds radial",
        "golden thirds horizon scatter radial",
        "scatter grid frieze radial",
    )
    suited = (few if len(wanted) < 3 else some if len(wanted) < 7 else many).split()
    spots = SYSTEMS[system or suited[rng.integers(len(suited))]](len(wanted), rng) if wanted else []
    wide, tall = max(1.0, aspect), max(1.0, 1 / aspect)
    placed: list[Placed] = []
    for (index, thing), (x, y, size) in zip(wanted, spots, strict=True):
        size = min(
            0.27 if thing.place else 0.46, size * thing.size ** (0.8 if thing.motif else 0.5)
        )
        if system != "grid":
            spread, where = rng.uniform(-0.05, 0.05), thing.place
            x = (
                0.25 + spread
                if "left" in where
                else 0.75 + spread
                if "right" in where
                else 0.5
                if "centre" in where
                else x
            )
            y = (
                0.24 + spread
                if "top" in where
                else 0.74 + spread
                if "bottom" in where
                else 0.5
                if "centre" in where
                else y
            )
        x, y = _inside(x, size, wide), _inside(y, size, tall)
        placed.append(
            Placed(
                thing, index, x, y, size, len(placed), bool(rng.random() < 0.5), rng.uniform(-6, 6)
            )
        )
    return tuple(_loosened(placed, wide, tall))


def _inside(at: float, size: float, stretch: float) -> float:
    margin = min(0.5, (size + 0.03) / stretch)
    return min(1 - margin, max(margin, at))


def _loosened(placed: list[Placed], wide: float, tall: float) -> list[Placed]:
    """The same, smaller where two would cover each other by more than half."""
    out = []
    for p in placed:
        gaps = [
            math.hypot((p.x - q.x) * wide, (p.y - q.y) * tall) / (p.size + q.size)
            for q in placed
            if q is not p
        ]
        near = min(gaps, default=1.0) / (
            1.08 if p.thing.habitat == "shape" and p.thing.motif else 0.8
        )
        out.append(replace(p, size=p.size * max(0.5, min(1.0, near))))
    return out
