"""What became of a plan, cell by cell, and what one would do before it does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devpipe.batch.plan import Item

if TYPE_CHECKING:
    import pandas as pd

OVER = ("completed", "blocked")  # a blocked cell is a result; others are tried again


@dataclass(slots=True)
class Row:
    """What became of one cell.

    `outcome` is that of its run, or not_started (budget, or the batch was stopped).
    """

    item: Item
    run_id: str = ""
    outcome: str = "not_started"
    error: str = ""
    earlier: bool = False  # made by another try: an earlier one, or a runner beside this one
    unverified: bool = False  # equal as far as can be known: its model cannot be asked now
    stale: str = ""  # why what an earlier try made of this cell is another result
    stand_in: str = ""  # who made it in place of the output's own backend: backend/model

    def to_json(self) -> dict[str, Any]:
        """The row as one JSON object."""
        item = self.item
        return {
            "run_id": self.run_id,
            "outcome": self.outcome,
            "prompt": item.prompt,
            "pipeline": item.pipeline,
            "output": item.output,
            "seed": item.seed,
            "text_seed": item.text_seed,
            "repeat": item.repeat,
            **item.wording,
            **item.images,
            **item.parameters,
            "error": self.error,
            "earlier": self.earlier,
            "unverified": self.unverified,
            "stale": self.stale,
            "stand_in": self.stand_in,
        }


@dataclass
class Report:
    """What became of a plan, cell by cell."""

    batch: str
    rows: list[Row] = field(default_factory=list)
    spent_usd: float = 0.0  # by this and earlier tries, as told by the backends, else by our prices
    remarks: tuple[str, ...] = ()  # of the plan: prompts that are done once

    @property
    def counts(self) -> Counter[str]:
        return Counter(row.outcome for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every cell has a result."""
        return all(row.outcome in OVER for row in self.rows)

    def table(self) -> pd.DataFrame:
        """One row per cell, in the plan's order."""
        import pandas as pd

        return pd.DataFrame([row.to_json() for row in self.rows])

    def to_json(self) -> dict[str, Any]:
        rows = [row.to_json() for row in self.rows]
        return {
            "batch": self.batch,
            "complete": self.complete,
            "counts": dict(self.counts),
            "spent_usd": self.spent_usd,
            "remarks": list(self.remarks),
            "rows": rows,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts.items()))
        line = f"batch {self.batch}: {counts}"
        earlier = sum(row.earlier for row in self.rows)
        if earlier:
            line += f" ({earlier} of them earlier)"
        errors = Counter(row.error for row in self.rows if row.error)
        lines = [f"  {count} x {error}" for error, count in errors.most_common()]
        return "\n".join([line, *remarks_on(self.rows), *self.remarks, *lines])

    __repr__ = __str__


def remarks_on(rows: Sequence[Row]) -> list[str]:
    """What a person should know of results of earlier tries, a line each."""
    lines = []
    for why, count in Counter(row.stale for row in rows if row.stale).most_common():
        lines.append(f"  {count} stale, made anew: {why} changed since an earlier try")
    unverified = sum(row.unverified for row in rows)
    if unverified:
        lines.append(f"  {unverified} unverified: their model cannot be asked now which it is")
    for who, count in Counter(row.stand_in for row in rows if row.stand_in).most_common():
        lines.append(
            f"  {count} made by {who}, which stood in: regenerate them once it can be asked"
        )
    return lines


@dataclass(frozen=True)
class Forecast:
    """What a plan would do: before anything costs."""

    runs: int
    interceptions: int
    done: int
    cost_usd: float | None  # None: the price of an output is unknown
    stale: int = 0  # cells that an earlier try made of something else
    unverified: int = 0  # done as far as can be known
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The forecast as one JSON object."""
        return {
            "runs": self.runs,
            "interceptions": self.interceptions,
            "done": self.done,
            "cost_usd": self.cost_usd,
            "stale": self.stale,
            "unverified": self.unverified,
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        cost = "price unknown" if self.cost_usd is None else f"{self.cost_usd:.2f} USD"
        line = (
            f"{self.runs} runs from {self.interceptions} interceptions; {self.done} done already;"
            f" the others: {cost}"
        )
        return "\n".join([line, *self.remarks])


def remarks_on_running(count: int) -> list[str]:
    """Say how many cells are being made now, if any."""
    return [f"  {count} of the others are being made now"] if count else []
