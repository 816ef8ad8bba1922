"""How far is a batch? One line every few seconds, wherever nobody can look at a bar."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from devpipe.batch.report import OVER, Report

EVERY_S = 5.0


@dataclass
class Progress:
    """Says how far a batch is, once in `every_s` seconds and whenever `add` finds it due.

    `say` gets each line, `clock` tells the time in seconds.
    """

    say: Callable[[str], object]
    every_s: float = EVERY_S
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.clock()

    def add(self, report: Report) -> None:
        """A cell has its outcome, or time has gone by: say so, if a line is due."""
        if self.clock() - self._said >= self.every_s:
            self._said = self.clock()
            self.say(line_of(report, self.clock() - self._began))

    @contextmanager
    def ticking(self, report: Report) -> Iterator[None]:
        """Look at the clock by itself meanwhile: one long cell is no reason for silence."""
        task = asyncio.ensure_future(self._tick(report))
        try:
            yield
        finally:
            task.cancel()

    async def _tick(self, report: Report) -> None:
        while True:
            await asyncio.sleep(max(self.every_s, 1.0))
            self.add(report)


def line_of(report: Report, seconds: float) -> str:
    """How many cells are done, how many of those blocked, and when the others may be.

    `seconds`: how long this try has been at work.
    """
    counts = report.counts
    over = len(report.rows) - counts["not_started"]
    parts = [f"{over} of {len(report.rows)} done"]
    parts += [
        f"{counts[outcome]} {outcome}"
        for outcome in ("blocked", "failed", "cancelled")
        if counts[outcome]
    ]
    made = sum(row.outcome in (*OVER, "failed") and not row.earlier for row in report.rows)
    left = counts["not_started"]
    if left and made:
        parts.append(f"about {_duration(seconds / made * left)} left")
    elif left:
        parts.append("nobody knows yet how long it will take")
    return f"batch {report.batch}: {', '.join(parts)}"


def _duration(seconds: float) -> str:
    """A duration as people say it.

    >>> _duration(42), _duration(150), _duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60 + 0.4:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
