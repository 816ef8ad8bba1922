"""Runs a plan: as many at a time as asked, Stages 1 and 2 once per text, nothing twice, never over
the budget.

What was done is read from the recordings alone, so a plan that is run again after any kind of end
goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from devpipe.backends.chain import opened
from devpipe.batch.plan import Item, Plan
from devpipe.config.chains import Chain
from devpipe.errors import ConfigError, DevpipeError, Fault, Parked, RecorderError, UsageError
from devpipe.values import LEVELS, Level

if TYPE_CHECKING:
    import pandas as pd

    from devpipe.analysis.tables import Tables
    from devpipe.backends.registry import Backends
    from devpipe.config.catalogue import Catalogue
    from devpipe.config.settings import Settings
    from devpipe.record.summary import RunSummary
    from devpipe.stages.request import RunRequest

_OVER = (
    "completed",
    "blocked",
)  # a blocked cell is a result; failed and cancelled ones are tried again
LABEL = "item"


@dataclass(slots=True)
class Row:
    """What became of one cell.

    `outcome` is that of its run, or not_started (budget, or the batch was stopped).
    """

    item: Item
    run_id: str = ""
    outcome: str = "not_started"
    error: str = ""
    earlier: bool = False  # done by an earlier try
    unverified: bool = False  # equal as far as can be known: its model cannot be asked now
    stale: str = ""  # why what an earlier try made of this cell is another result

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
        return "\n".join([line, *_remarks(self.rows), *self.remarks, *lines])

    __repr__ = __str__


def _remarks(rows: Sequence[Row]) -> list[str]:
    """What a person should know of results of earlier tries, a line each."""
    lines = []
    for why, count in Counter(row.stale for row in rows if row.stale).most_common():
        lines.append(f"  {count} stale, made anew: {why} changed since an earlier try")
    unverified = sum(row.unverified for row in rows)
    if unverified:
        lines.append(f"  {unverified} unverified: their model cannot be asked now which it is")
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


class RunsCells(Protocol):
    """An engine, as far as a batch asks it."""

    settings: Settings
    backends: Backends

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def recordings(self) -> Tables: ...
    @property
    def request(self) -> Callable[..., RunRequest]: ...
    @property
    def start(self) -> Callable[..., Any]: ...
    @property
    def start_shared(self) -> Callable[..., Any]: ...
    @property
    def start_resumed(self) -> Callable[..., Any]: ...
    @property
    def fingerprint(self) -> Callable[..., Any]: ...
    @property
    def recorded_fingerprint(self) -> Callable[..., Any]: ...
    @property
    def digests(self) -> Callable[..., Mapping[tuple[str, str], str]]: ...
    @property
    def match_weights(self) -> Callable[..., Any]: ...


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell: what its run is asked, and what its result would be made of."""

    row: Row
    request: RunRequest
    fingerprint: Any
    sha256: str
    text_sha256: str


@dataclass
class _Group:
    """Cells that share one interception: one makes it, the others take it over from `source`."""

    waiting: deque[_Cell] = field(default_factory=deque)
    source: str = ""

    def ready(self) -> list[_Cell]:
        """Those that may go now."""
        count = len(self.waiting) if self.source else min(1, len(self.waiting))
        return [self.waiting.popleft() for _ in range(count)]


class Batch:
    """One try of a plan. `report` is true at any time, also after a cancellation.

    Raises UsageError (ConfigError with all faults) before anything is started. `on_row` is told of
    every cell that has its outcome. `budget_usd` is for the whole batch: what earlier tries have
    cost counts.
    """

    def __init__(
        self,
        engine: RunsCells,
        plan: Plan,
        *,
        concurrency: int = 4,
        budget_usd: float | None = None,
        on_row: Callable[[Row], object] = lambda row: None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"Concurrency {concurrency} is not possible.", hint="Give 1 or more.")
        self.engine = engine
        self.plan = plan
        self.concurrency = concurrency
        self.on_row = on_row
        rows = [Row(item) for item in plan.items()]
        self.report = Report(plan.batch, rows, remarks=plan.remarks)
        self._cells = self._requested()
        self._by_sha256: dict[str, list[_Cell]] = {}
        for cell in self._cells:
            self._by_sha256.setdefault(cell.sha256, []).append(cell)
        self._prices = {name: price(engine, name) for name in plan.outputs}
        self._budget = self._limit(budget_usd)
        self._spent = 0.0  # what is reserved counts as spent until the run tells its cost
        # By the fingerprint of Stage 2 and the level: a run that has that text.
        self._text_sources: dict[tuple[str, str], str] = {}
        self._interrupted: dict[str, str] = {}  # by the cell's key: a run whose process died
        self._take_in_earlier_tries()
        self._groups = self._grouped()

    # What is asked.

    def _requested(self) -> list[_Cell]:
        """Every cell with its request.

        Each text and each combination of the rest is checked once; everything wrong with any of
        them is raised at once.
        """
        faults: dict[tuple[str, str], Fault] = {}
        texts: dict[object, RunRequest] = {}
        rests: dict[object, RunRequest] = {}
        cells = []
        for row in self.report.rows:
            item = row.item
            said = (item.prompt, item.wording.get("prompt_2"))
            rest = (
                item.pipeline,
                item.output,
                *item.parameters.items(),
                *item.images.items(),
                *item.wording.items(),
            )
            try:
                if said not in texts or rest not in rests:
                    request = self.engine.request(item.texts, **self.plan.asked(item))
                    texts.setdefault(said, request)
                    rests.setdefault(rest, request)
            except UsageError as error:
                fault = self.plan.fault(item, error)
                faults.setdefault((fault.file, fault.message), fault)
                continue
            request = replace(
                rests[rest],
                run_id="",
                texts=texts[said].texts,
                seed=item.seed,
                text_seed=item.text_seed,
            )
            cells.append(self._cell_of(row, request))
        if faults:
            raise ConfigError(
                list(faults.values()),
                hint="Mend the plan; `devpipe list outputs` says what there is.",
            )
        return cells

    def _cell_of(self, row: Row, request: RunRequest) -> _Cell:
        fingerprint = self.engine.fingerprint(request)
        hashes = fingerprint.by_stage()
        return _Cell(row, request, fingerprint, hashes["generation"], hashes["interception"])

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

    # What earlier tries have made.

    def _take_in_earlier_tries(self) -> None:
        """Give each cell the result that an earlier run has of it: by fingerprint, nothing else.

        Each run serves one cell: the one it was made for, else another that is equal. A run at a
        looser level than the cell's is no result of it. Raises UsageError while another try goes
        on.
        """
        runs = self._recorded()
        if not runs:
            return
        weights = _Weights(self.engine, self._cells)
        by_key = {cell.row.item.key: cell for cell in self._cells}
        left = []
        for run in runs:
            named = by_key.get(run[f"labels.{LABEL}"])
            if named is None or not self._is_result(named, run):
                left.append(run)
                continue
            self._take_in(named, run, weights)
        for run in left:
            self._offer(run, by_key.get(run[f"labels.{LABEL}"]), weights)
        for run in runs:
            if run["run_id"] not in self._interrupted.values():
                self._count_cost(run)  # of a run that goes on, what it spends is counted then
            if run["text_fingerprint"]:
                source = (run["text_fingerprint"], run["safety"])
                self._text_sources.setdefault(source, run["run_id"])

    def _is_result(self, cell: _Cell, run: Mapping[Hashable, Any]) -> bool:
        """Whether a run made what this cell would be made of, at no looser level."""
        if _is_looser(run["safety"], cell.request.level):
            return False
        if run["fingerprint"]:
            return bool(run["fingerprint"] == cell.sha256)
        return self._equals_old_run(cell, run["run_id"])

    def _offer(self, run: Mapping[Hashable, Any], named: _Cell | None, weights: _Weights) -> None:
        """Let a run that its own cell has no use for serve an equal one that has no result."""
        for cell in self._by_sha256.get(run["fingerprint"] or "", ()):
            is_free = not cell.row.run_id and cell.row.item.key not in self._interrupted
            if is_free and self._is_result(cell, run):
                self._take_in(cell, run, weights)
                return
        if named is not None and not named.row.run_id:
            self._note_stale(named, run)

    def _recorded(self) -> list[dict[Hashable, Any]]:
        """All runs of this batch, oldest first, from the index beside the recordings.

        Before there were fingerprints, a batch was named after its plan and a hash of its grid.
        """
        runs = self.engine.recordings.runs()
        label = f"labels.{LABEL}"
        if label not in runs:
            return []
        batch = runs["batch"].fillna("")
        older = batch.str.fullmatch(rf"{re.escape(self.plan.name)}-[0-9a-f]{{8}}")
        ours = runs.loc[(batch == self.plan.batch) | (older & runs["fingerprint"].isna())]
        ours = ours.loc[~ours["relation"].isin(["regenerated", "replayed"])]
        return ours.astype(object).where(ours.notna(), None).to_dict("records")

    def _count_cost(self, run: Mapping[Hashable, Any]) -> None:
        cost = run["cost_usd"]
        if cost is None:
            cost = self._prices.get(run["output"])
        self._spent += cost or 0.0

    def _equals_old_run(self, cell: _Cell, run_id: str) -> bool:
        """Whether a run of a time before fingerprints differs in nothing that it tells."""
        try:
            recorded = self.engine.recorded_fingerprint(run_id)
        except (UsageError, RecorderError):
            return False
        return not cell.fingerprint.differences(recorded)

    def _note_stale(self, cell: _Cell, run: Mapping[Hashable, Any]) -> None:
        if _is_looser(run["safety"], cell.request.level):
            cell.row.stale = "the safety level"
            return
        try:
            recorded = self.engine.recorded_fingerprint(run["run_id"])
            differences = cell.fingerprint.differences(recorded)
        except (UsageError, RecorderError):
            differences = {}
        names = [name for parts in differences.values() for name in parts]
        cell.row.stale = ", ".join(dict.fromkeys(names)) or "what it was made of"

    def _take_in(self, cell: _Cell, run: Mapping[Hashable, Any], weights: _Weights) -> None:
        row = cell.row
        run_id = str(run["run_id"])
        if run["state"] == "running":
            raise UsageError(
                f"Batch {self.plan.batch} is under way (run {run_id}).",
                hint="Wait for it, or end that process.",
            )
        match = weights.match(cell, run)
        if match == "stale":
            row.stale = "the model's weights"
            return
        if run["state"] == "interrupted":
            self._interrupted[row.item.key] = run_id
        if row.outcome in _OVER or run["state"] not in _OVER:
            return
        row.run_id = run_id
        row.outcome = str(run["state"])
        row.earlier = True
        row.stale = ""
        row.unverified = match == "unverified" or not run["fingerprint"]

    def _grouped(self) -> dict[str, _Group]:
        """The cells without a result, by the interception that they share."""
        groups: dict[str, _Group] = {}
        for cell in self._cells:
            source = self._text_sources.get((cell.text_sha256, cell.request.level), "")
            group = groups.setdefault(cell.text_sha256, _Group(source=source))
            if not cell.row.earlier:
                group.waiting.append(cell)
        return groups

    @property
    def forecast(self) -> Forecast:
        """How many runs and interceptions, what is done already, what the others would cost."""
        rows = self.report.rows
        left = [row for row in rows if not row.earlier]
        prices = [self._prices[row.item.output] for row in left]
        known = [usd for usd in prices if usd is not None]
        texts = [group for group in self._groups.values() if group.waiting and not group.source]
        return Forecast(
            runs=len(rows),
            interceptions=len(texts),
            done=len(rows) - len(left),
            cost_usd=sum(known) if len(known) == len(prices) else None,
            stale=sum(bool(row.stale) for row in rows),
            unverified=sum(row.unverified for row in rows),
            remarks=(*_remarks(rows), *self.plan.remarks),
        )

    # The work.

    async def run(self) -> Report:
        """Every cell that has no result yet.

        A cell that fails or is blocked does not stop the others; cancelling cancels all runs.
        """
        ready: asyncio.Queue[tuple[_Group, _Cell]] = asyncio.Queue()
        for group in self._groups.values():
            for cell in group.ready():
                ready.put_nowait((group, cell))
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

    async def _work(self, ready: asyncio.Queue[tuple[_Group, _Cell]]) -> None:
        while True:
            group, cell = await ready.get()
            if await self._made(cell, group.source) and not group.source:
                group.source = cell.row.run_id
            for other in group.ready():
                ready.put_nowait((group, other))
            self.on_row(cell.row)
            ready.task_done()

    async def _made(self, cell: _Cell, source: str) -> bool:
        """One run, if the budget allows it. Says whether others can take its texts over."""
        row = cell.row
        usd = self._prices[row.item.output] or 0.0
        if self._budget is not None and usd > 0 and self._spent + usd > self._budget + 1e-9:
            row.error = (
                f"Budget of {self._budget} USD reached. Run the plan again with a higher one."
            )
            return False
        self._spent += usd
        run = None
        try:
            run = self._started(cell, source)
            await run
        except DevpipeError as error:
            row.outcome = "failed"
            row.error = str(error)
        except Exception as error:  # a fault of the backend's or ours: the other cells go on
            row.outcome = "failed"
            row.error = f"{type(error).__name__}: {error}"
        finally:
            summary: RunSummary | None = run.summary if run else None
            cost = summary.cost_usd if summary else 0.0
            self._spent += 0.0 if cost is None else cost - usd
            if run and summary:
                row.run_id = run.id
                row.outcome = summary.outcome or row.outcome
        return summary is not None and _has_texts(summary)

    def _started(self, cell: _Cell, source: str) -> Any:
        item = cell.row.item
        asked: dict[str, Any] = self.plan.asked(item)
        asked["labels"] = {**asked["labels"], LABEL: item.key}
        try:
            if item.key in self._interrupted:
                return self.engine.start_resumed(self._interrupted[item.key])
            if source:
                return self.engine.start_shared(item.texts, source, **asked)
        except Parked:
            raise
        except (UsageError, RecorderError):
            pass  # what was there cannot be taken up: the cell begins anew
        return self.engine.start(item.texts, **asked)


class _Weights:
    """Whether earlier runs met the weights that these cells would meet now."""

    def __init__(self, engine: RunsCells, cells: Sequence[_Cell]) -> None:
        self._engine = engine
        requests = {(cell.row.item.pipeline, cell.row.item.output): cell.request for cell in cells}
        self._today = engine.digests(requests.values())
        self._only_procedures = all(backend == "procedural" for backend, _ in self._today)

    def match(self, cell: _Cell, run: Mapping[Hashable, Any]) -> str:
        """same, unverified or stale."""
        if self._only_procedures:  # the table tells, and no recording is opened
            output = cell.request.output
            now = self._today.get((output.backend, output.model), "")
            return "stale" if run["digest"] and now and run["digest"] != now else "same"
        match = self._engine.match_weights(cell.request, str(run["run_id"]), self._today)
        return str(match.value)


def _is_looser(level: str, than: Level) -> bool:
    """Whether a recorded level is looser than this one; one that nobody knows is."""
    return level not in LEVELS or LEVELS.index(level) > LEVELS.index(than)


def _has_texts(summary: RunSummary) -> bool:
    """Whether another run can take Stages 1 and 2 over."""
    return summary.stages["interception"].outcome == "completed"


def price(engine: RunsCells, output: str) -> float | None:
    """What one generation costs at most, in USD by our table; None where nobody knows.

    Those that stand in for an output count: any of them may be the one that makes it.
    """
    config = engine.catalogue.output(output)
    prices = []
    for one in (config, *(engine.catalogue.output(name) for name in config.fallback)):
        paid = opened(engine.backends, one.backend).paid
        prices.append(one.price_usd if paid else 0.0)
    known = [usd for usd in prices if usd is not None]
    return max(known) if len(known) == len(prices) else None
