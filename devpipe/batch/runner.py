"""Runs a plan: as many at a time as asked, Stages 1 and 2 once per text, nothing twice, never over the budget.

What was done is read from the recordings alone, so a plan that is run again after any kind of end goes on where it was.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.batch.plan import Item, Plan
from devpipe.errors import DevpipeError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from devpipe.engine import Engine
    from devpipe.run import Run

_OVER = ("completed", "blocked")  # a blocked cell is a result; failed and cancelled ones are tried again
LABEL = "item"


@dataclass
class Row:
    """What became of one cell. `outcome`: that of its run, or not_started (budget, or the batch was stopped)."""

    item: Item
    run_id: str = ""
    outcome: str = "not_started"
    error: str = ""
    earlier: bool = False  # done by an earlier try


@dataclass
class Report:
    """What became of a plan, cell by cell."""

    batch: str
    rows: list[Row] = field(default_factory=list)
    spent_usd: float = 0.0

    @property
    def counts(self) -> Counter[str]:
        return Counter(row.outcome for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every cell has a result."""
        return all(row.outcome in _OVER for row in self.rows)

    def table(self) -> pd.DataFrame:
        """One row per cell, in the plan's order."""
        import pandas as pd

        return pd.DataFrame(self.to_json()["rows"])

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"run_id": row.run_id, "outcome": row.outcome, "prompt": row.item.prompt, "pipeline": row.item.pipeline, "output": row.item.output}
            | {"seed": row.item.seed, "text_seed": row.item.text_seed, **row.item.parameters, "error": row.error, "earlier": row.earlier}
            for row in self.rows
        ]
        return {"batch": self.batch, "complete": self.complete, "counts": dict(self.counts), "spent_usd": self.spent_usd, "rows": rows}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts.items()))
        earlier = sum(row.earlier for row in self.rows)
        errors = [f"  {count} x {error}" for error, count in Counter(row.error for row in self.rows if row.error).items()]
        head = f"batch {self.batch}: {len(self.rows)} runs: {counts}" + (f" ({earlier} of them earlier)" if earlier else "")
        return "\n".join([head, *errors])


@dataclass(frozen=True)
class Forecast:
    """What a plan would do: before anything costs."""

    runs: int
    interceptions: int
    done: int
    cost_usd: float | None  # None: the price of an output is unknown

    def to_json(self) -> dict[str, Any]:
        return {"runs": self.runs, "interceptions": self.interceptions, "done": self.done, "cost_usd": self.cost_usd}

    def __str__(self) -> str:
        cost = "price unknown" if self.cost_usd is None else f"{self.cost_usd:.2f} USD"
        return f"{self.runs} runs from {self.interceptions} interceptions, {self.done} done already, {cost}"


def forecast(engine: Engine, plan: Plan) -> Forecast:
    """How many runs and interceptions, what is done already, what it would cost."""
    items = plan.items()
    over = {key for key, (_, state) in _earlier(engine, plan).items() if state in _OVER}
    left = [item for item in items if item.key not in over]
    prices = [price(engine, item.output) for item in left]
    cost = None if any(one is None for one in prices) else sum(one for one in prices if one is not None)
    return Forecast(len(items), len({item.interception for item in left}), len(items) - len(left), cost)


def price(engine: Engine, output: str) -> float | None:
    """What one generation costs in USD by our table; None where nobody knows."""
    config = engine.catalogue.output(output)
    return config.price_usd if engine.backends[config.backend].paid else 0.0


class _Budget:
    """Reserve before spending; what is reserved counts as spent until the run tells its cost."""

    def __init__(self, limit: float | None) -> None:
        self.limit, self.spent = limit, 0.0

    def reserve(self, usd: float) -> bool:
        if self.limit is not None and self.spent + usd > self.limit + 1e-9:
            return False
        self.spent += usd
        return True


async def run_plan(
    engine: Engine, source: Plan | Any, *, concurrency: int, budget_usd: float | None, on_row: Callable[[Row], None] = lambda row: None
) -> Report:
    """Every cell of the plan that has no result yet. Raises UsageError before anything starts; a failed cell does not stop the others."""
    plan = Plan.read(source)
    if concurrency < 1:
        raise UsageError(f"Concurrency {concurrency} is not possible.", hint="Give 1 or more.")
    rows = [Row(item) for item in plan.items()]
    _requests_possible(engine, plan, rows)
    limit = budget_usd if budget_usd is not None else engine.settings.budget_usd
    if limit is not None and (unknown := {row.item.output for row in rows if price(engine, row.item.output) is None}):
        raise UsageError(f"The price of {', '.join(sorted(unknown))} is unknown, so no budget can hold.", hint="Set price_usd, or no budget.")
    batch = _Batch(engine, plan, asyncio.Semaphore(concurrency), _Budget(limit), on_row)
    earlier = _earlier(engine, plan)
    groups = itertools.groupby(sorted(rows, key=lambda row: repr(row.item.interception)), key=lambda row: row.item.interception)
    await _all_or_cancel([batch.group(list(group), earlier) for _, group in groups])
    return Report(plan.batch, rows, batch.budget.spent)


def _requests_possible(engine: Engine, plan: Plan, rows: Iterable[Row]) -> None:
    """Everything wrong with any cell is known before the first one starts."""
    seen = set()
    for row in rows:
        what = (row.item.prompt, row.item.pipeline, row.item.output, tuple(row.item.parameters.items()), row.item.image)
        if what not in seen:
            engine.request(row.item.prompt, **_how(plan, row.item))
            seen.add(what)


def _how(plan: Plan, item: Item) -> dict[str, Any]:
    return {
        "pipeline": item.pipeline, "output": item.output, "seed": item.seed, "text_seed": item.text_seed,
        "parameters": dict(item.parameters), "safety": plan.safety, "image": Path(item.image) if item.image else None,
        "labels": plan.labels | {LABEL: item.key}, "batch": plan.batch,
    }  # fmt: skip


def _earlier(engine: Engine, plan: Plan) -> dict[str, tuple[str, str]]:
    """(run id, state) of what earlier tries made of each cell, by its key; a result counts before a later failure."""
    found: dict[str, tuple[str, str]] = {}
    for run_id, state, key in engine.recordings.of_batch(plan.batch, LABEL):
        if found.get(key, ("", ""))[1] not in _OVER:
            found[key] = (run_id, state)
    return found


async def _all_or_cancel(works: list[Any]) -> None:
    """Await all; where the caller is cancelled, every one of them is, and writes its ending first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@dataclass
class _Batch:
    engine: Engine
    plan: Plan
    slots: asyncio.Semaphore
    budget: _Budget
    on_row: Callable[[Row], None]

    async def group(self, rows: list[Row], earlier: dict[str, tuple[str, str]]) -> None:
        """All cells that share one interception: the first makes it, the others take it over."""
        source = ""
        left = []
        for row in rows:
            run_id, state = earlier.get(row.item.key, ("", ""))
            if state in _OVER:
                row.run_id, row.outcome, row.earlier = run_id, state, True
                source = source or run_id
                self.on_row(row)
            else:
                left.append(row)
        while left and not source:
            first = left.pop(0)
            await self._cell(first, earlier, "")
            source = first.run_id if first.outcome in _OVER else ""
        await _all_or_cancel([self._cell(row, earlier, source) for row in left])

    async def _cell(self, row: Row, earlier: dict[str, tuple[str, str]], source: str) -> None:
        usd = price(self.engine, row.item.output) or 0.0
        async with self.slots:
            if not self.budget.reserve(usd):
                row.error = f"budget of {self.budget.limit} USD reached"
                self.on_row(row)
                return
            try:
                run = await self._started(row, earlier, source)
                row.run_id, row.outcome = run.id, run.outcome or "failed"
                self.budget.spent += (run.summary.cost_usd or usd) - usd
            except DevpipeError as error:
                row.outcome, row.error = "failed", error.message
        self.on_row(row)

    async def _started(self, row: Row, earlier: dict[str, tuple[str, str]], source: str) -> Run:
        run_id, state = earlier.get(row.item.key, ("", ""))
        if state == "interrupted":
            return await self.engine.start_resumed(run_id)
        how = _how(self.plan, row.item)
        return await (self.engine.start_shared(row.item.prompt, source, **how) if source else self.engine.start(row.item.prompt, **how))
