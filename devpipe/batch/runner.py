"""Runs a plan: as many at a time as asked, Stages 1 and 2 once per text, nothing twice, never over
the budget.

What was done is read from the recordings alone, so a plan that is run again after any kind of end
goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devpipe.backends.chain import opened
from devpipe.batch.plan import Item, Plan
from devpipe.config.chains import Chain
from devpipe.errors import ConfigError, DevpipeError, Fault, Parked, RecorderError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from devpipe.engine.engine import Engine
    from devpipe.engine.run import Run
    from devpipe.record.summary import RunSummary

_OVER = (
    "completed",
    "blocked",
)  # a blocked cell is a result; failed and cancelled ones are tried again
LABEL = "item"


@dataclass(slots=True)
class Row:
    """What became of one cell.

    `outcome`: that of its run, or not_started (budget, or the batch was stopped).
    """

    item: Item
    run_id: str = ""
    outcome: str = "not_started"
    error: str = ""
    earlier: bool = False  # done by an earlier try

    def to_json(self) -> dict[str, Any]:
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
            **item.images,
            **item.parameters,
            "error": self.error,
            "earlier": self.earlier,
        }


@dataclass
class Report:
    """What became of a plan, cell by cell."""

    batch: str
    rows: list[Row] = field(default_factory=list)
    spent_usd: float = 0.0  # by this and earlier tries, as told by the backends, else by our prices

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

        return pd.DataFrame([row.to_json() for row in self.rows])

    def to_json(self) -> dict[str, Any]:
        rows = [row.to_json() for row in self.rows]
        return {
            "batch": self.batch,
            "complete": self.complete,
            "counts": dict(self.counts),
            "spent_usd": self.spent_usd,
            "rows": rows,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts.items()))
        earlier = sum(row.earlier for row in self.rows)
        errors = [
            f"  {count} x {error}"
            for error, count in Counter(row.error for row in self.rows if row.error).most_common()
        ]
        return "\n".join(
            [
                f"batch {self.batch}: {counts}"
                + (f" ({earlier} of them earlier)" if earlier else ""),
                *errors,
            ]
        )

    __repr__ = __str__


@dataclass(frozen=True)
class Forecast:
    """What a plan would do: before anything costs."""

    runs: int
    interceptions: int
    done: int
    cost_usd: float | None  # None: the price of an output is unknown

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "interceptions": self.interceptions,
            "done": self.done,
            "cost_usd": self.cost_usd,
        }

    def __str__(self) -> str:
        cost = "price unknown" if self.cost_usd is None else f"{self.cost_usd:.2f} USD"
        return (
            f"{self.runs} runs from {self.interceptions} interceptions; {self.done} done already;"
            f" the others: {cost}"
        )


@dataclass
class _Group:
    """Cells that share one interception: one makes it, the others wait for it and take it over from
    `source`.
    """

    waiting: deque[Row] = field(default_factory=deque)
    source: str = ""

    def ready(self) -> list[Row]:
        """Those that may go now."""
        count = len(self.waiting) if self.source else min(1, len(self.waiting))
        return [self.waiting.popleft() for _ in range(count)]


class Batch:
    """One try of a plan. `report` is true at any time, also after a cancellation.

    Raises UsageError (ConfigError with all faults) before anything is started. `on_row` is told of
    every cell that has its outcome.
    `budget_usd` is for the whole batch: what earlier tries have cost counts.
    """

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        *,
        concurrency: int = 4,
        budget_usd: float | None = None,
        on_row: Callable[[Row], object] = lambda row: None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"Concurrency {concurrency} is not possible.", hint="Give 1 or more.")
        self.engine, self.plan, self.concurrency, self.on_row = engine, plan, concurrency, on_row
        self.report = Report(plan.batch, [Row(item) for item in plan.items()])
        self._check_requests()
        self._prices = {name: price(engine, name) for name in plan.outputs}
        self._budget = self._limit(budget_usd)
        self._spent = 0.0  # what is reserved counts as spent until the run tells its cost
        self._earlier = self._seen_before()
        self._groups = self._grouped()

    def _check_requests(self) -> None:
        """Everything wrong with any cell, all at once: each text once, each combination of the rest
        once.
        """
        faults: dict[str, Fault] = {}
        seen = set()
        for item in (row.item for row in self.report.rows):
            for what in (
                item.prompt,
                (item.pipeline, item.output, *item.parameters.items(), *item.images.items()),
            ):
                if what in seen:
                    continue
                seen.add(what)
                try:
                    self.engine.request(item.prompt, **self.plan.asked(item))
                except UsageError as error:
                    where = f"{item.pipeline} > {item.output}, {item.prompt[:40]!r}"
                    faults[str(error)] = Fault(f"plan {self.plan.name}", where, str(error))
        if faults:
            raise ConfigError(
                list(faults.values()),
                hint="Mend the plan; `devpipe list outputs` says what there is.",
            )

    def _limit(self, budget_usd: float | None) -> float | None:
        """The budget. Raises UsageError for one that nobody could keep."""
        limit = budget_usd if budget_usd is not None else self.engine.settings.budget_usd
        if limit is None:
            return None
        if not (math.isfinite(limit) and limit >= 0):
            raise UsageError(f"A budget of {limit} USD is not possible.", hint="Give 0 or more.")
        unknown = [name for name, usd in self._prices.items() if usd is None]
        chains = [Chain.read(models) for models in self.engine.settings.models.values()]
        asked = {candidate for chain in chains for candidate in chain.candidates}
        unknown += sorted(
            str(candidate)
            for candidate in asked
            if opened(self.engine.backends, candidate.backend).paid
        )
        if unknown:
            raise UsageError(
                f"The price of {', '.join(unknown)} is unknown, so no budget can hold.",
                hint="Set price_usd, or no budget.",
            )
        return limit

    def _seen_before(self) -> dict[str, Row]:
        """What earlier tries made of each cell; a result counts more than a later failure.

        Raises UsageError while another try goes on.
        """
        items = {row.item.key: row.item for row in self.report.rows}
        found: dict[str, Row] = {}
        for run in self._recorded():
            item = items.get(run[f"labels.{LABEL}"])
            if item is None or (item.pipeline, item.output, item.seed) != (
                run["pipeline"],
                run["output"],
                run["seed"],
            ):
                continue  # of a regenerated run, that has the labels of its parent
            if run["state"] == "running":
                raise UsageError(
                    f"Batch {self.plan.batch} is under way (run {run['run_id']}).",
                    hint="Wait for it, or end that process.",
                )
            cost = (
                run["cost_usd"] if run["cost_usd"] == run["cost_usd"] else self._prices[item.output]
            )  # NaN: unknown
            self._spent += cost or 0.0
            if item.key not in found or found[item.key].outcome not in _OVER:
                found[item.key] = Row(item, run["run_id"], run["state"], earlier=True)
        return found

    def _recorded(self) -> list[dict[Hashable, Any]]:
        """All runs of this batch, oldest first, from the index beside the recordings."""
        runs = self.engine.recordings.runs()
        if f"labels.{LABEL}" not in runs:
            return []
        wanted = ["run_id", "state", "pipeline", "output", "seed", "cost_usd", f"labels.{LABEL}"]
        return runs.loc[runs["batch"] == self.plan.batch, wanted].to_dict("records")

    def _grouped(self) -> dict[object, _Group]:
        """The cells without a result by their interception; the others get theirs here."""
        groups: dict[object, _Group] = {}
        for row in self.report.rows:
            group = groups.setdefault(row.item.interception, _Group())
            earlier = self._earlier.get(row.item.key)
            if (
                earlier
                and not group.source
                and _has_texts(self.engine.recordings.find(earlier.run_id).summary)
            ):
                group.source = earlier.run_id
            if earlier and earlier.outcome in _OVER:
                row.run_id, row.outcome, row.earlier = earlier.run_id, earlier.outcome, True
            else:
                group.waiting.append(row)
        return groups

    @property
    def forecast(self) -> Forecast:
        """How many runs and interceptions, what is done already, what the others would cost."""
        left = [row for row in self.report.rows if not row.earlier]
        prices = [self._prices[row.item.output] for row in left]
        cost = (
            None
            if any(one is None for one in prices)
            else sum(one for one in prices if one is not None)
        )
        texts = sum(bool(group.waiting) and not group.source for group in self._groups.values())
        return Forecast(len(self.report.rows), texts, len(self.report.rows) - len(left), cost)

    async def run(self) -> Report:
        """Every cell that has no result yet.

        A cell that fails or is blocked does not stop the others; cancelling cancels all runs.
        """
        ready: asyncio.Queue[tuple[_Group, Row]] = asyncio.Queue()
        for group in self._groups.values():
            for row in group.ready():
                ready.put_nowait((group, row))
        workers = [
            asyncio.ensure_future(self._work(ready))
            for _ in range(min(self.concurrency, len(self.report.rows)))
        ]
        joined = asyncio.ensure_future(ready.join())
        try:
            await asyncio.wait([joined, *workers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (joined, *workers):
                task.cancel()
            ended = await asyncio.gather(*workers, return_exceptions=True)
            self.report.spent_usd = self._spent
        for fault in (one for one in ended if isinstance(one, Exception)):
            raise fault  # a worker ends by itself only where devpipe has a fault
        return self.report

    async def _work(self, ready: asyncio.Queue[tuple[_Group, Row]]) -> None:
        while True:
            group, row = await ready.get()
            if await self._cell(row, group.source) and not group.source:
                group.source = row.run_id
            for other in group.ready():
                ready.put_nowait((group, other))
            self.on_row(row)
            ready.task_done()

    async def _cell(self, row: Row, source: str) -> bool:
        """One run, if the budget allows it. Says whether others can take its texts over."""
        usd = self._prices[row.item.output] or 0.0
        if self._budget is not None and usd > 0 and self._spent + usd > self._budget + 1e-9:
            row.error = (
                f"Budget of {self._budget} USD reached. Run the plan again with a higher one."
            )
            return False
        self._spent += usd
        run = None
        try:
            run = self._started(row, source)
            await run
        except DevpipeError as error:
            row.outcome, row.error = "failed", str(error)
        except (
            Exception
        ) as error:  # a fault of the backend's or ours: this cell failed, and the others go on
            row.outcome, row.error = "failed", f"{type(error).__name__}: {error}"
        finally:
            summary = run.summary if run else None
            cost = summary.cost_usd if summary else 0.0
            self._spent += 0.0 if cost is None else cost - usd
            if run and summary:
                row.run_id, row.outcome = run.id, summary.outcome or row.outcome
        return summary is not None and _has_texts(summary)

    def _started(self, row: Row, source: str) -> Run:
        earlier = self._earlier.get(row.item.key)
        asked: dict[str, Any] = self.plan.asked(row.item)
        asked["labels"] = {**asked["labels"], LABEL: row.item.key}
        try:
            if earlier and earlier.outcome == "interrupted":
                return self.engine.start_resumed(earlier.run_id)
            if source:
                return self.engine.start_shared(row.item.prompt, source, **asked)
        except Parked:
            raise
        except (UsageError, RecorderError):
            # what was there cannot be taken up: its files changed or are gone, so the cell begins
            # anew
            pass
        run: Run = self.engine.start(row.item.prompt, **asked)
        return run


def _has_texts(summary: RunSummary) -> bool:
    """Whether another run can take Stages 1 and 2 over."""
    return summary.stages["interception"].outcome == "completed"


def price(engine: Engine, output: str) -> float | None:
    """What one generation costs in USD by our table; None where nobody knows."""
    config = engine.catalogue.output(output)
    return config.price_usd if engine.backends[config.backend].paid else 0.0
