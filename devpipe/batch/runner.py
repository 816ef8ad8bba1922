"""Runs a plan: as many at a time as asked, Stages 1 and 2 once per text, nothing twice, never over
the budget; alone, or beside other runners that joined.

What was done is read from the recordings alone, so a plan that is run again after any kind of end
goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.backends.chain import opened
from devpipe.batch.claims import Claim, Runner, entering
from devpipe.batch.plan import LABEL, Plan
from devpipe.batch.progress import Progress
from devpipe.batch.report import Forecast, Report, Row, remarks_on, remarks_on_running
from devpipe.batch.results import Cell, Results, RunsCells, stand_in
from devpipe.config.chains import Chain
from devpipe.errors import ConfigError, DevpipeError, Fault, Parked, RecorderError, UsageError

if TYPE_CHECKING:
    from devpipe.record.summary import RunSummary
    from devpipe.stages.request import RunRequest

PAUSE_S = 0.1  # between two looks at a cell that another runner makes


@dataclass
class _Group:
    """Cells that share one interception: one makes it, the others take it over from `source`."""

    waiting: deque[Cell] = field(default_factory=deque)
    source: str = ""

    def ready(self) -> list[Cell]:
        """Those that may go now."""
        count = len(self.waiting) if self.source else min(1, len(self.waiting))
        return [self.waiting.popleft() for _ in range(count)]


class Batch:
    """One try of a plan. `report` is true at any time, also after a cancellation.

    Raises UsageError (ConfigError with all faults) before anything is started. `on_row` is told of
    every cell that has its outcome; `progress` says every few seconds how far it is, else stderr
    does. `budget_usd` is for the whole batch: what earlier tries and
    other runners have cost counts. A batch has one runner, unless another one asks to `join`.
    """

    def __init__(
        self,
        engine: RunsCells,
        plan: Plan | Mapping[str, Any] | str | Path,
        *,
        concurrency: int = 4,
        budget_usd: float | None = None,
        join: bool = False,
        on_row: Callable[[Row], object] = lambda row: None,
        progress: Progress | None = None,
    ) -> None:
        self.plan = Plan.read(plan)
        if concurrency < 1:
            raise UsageError(f"Concurrency {concurrency} is not possible.", hint="Give 1 or more.")
        self.engine = engine
        self.concurrency = concurrency
        self.on_row = on_row
        self.progress = progress or Progress(_say_on_stderr)
        rows = [Row(item) for item in self.plan.items()]
        self.report = Report(self.plan.batch, rows, remarks=self.plan.remarks)
        self.begun = False
        self._join = join
        self._catalogue = engine.catalogue
        self._cells = self._requested()
        self._prices = {name: price(engine, name) for name in self.plan.outputs}
        self._own_budget = budget_usd
        self._budget = self._limit(budget_usd)
        self._results = Results(engine, self.plan, self._cells, self._prices)
        self._looking = asyncio.Lock()

    # What is asked.

    def _requested(self) -> list[Cell]:
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

    def _cell_of(self, row: Row, request: RunRequest) -> Cell:
        fingerprint = self.engine.fingerprint(request)
        hashes = fingerprint.by_stage()
        return Cell(row, request, fingerprint, hashes["generation"], hashes["interception"])

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

    def _grouped(self) -> list[_Group]:
        """The cells without a result, by the interception that they share."""
        groups: dict[str, _Group] = {}
        for cell in self._cells:
            source = self._results.text_source(cell)
            group = groups.setdefault(cell.text_sha256, _Group(source=source))
            if not cell.row.earlier:
                group.waiting.append(cell)
        return list(groups.values())

    @property
    def forecast(self) -> Forecast:
        """How many runs and interceptions, what is done already, what the others would cost."""
        self._results.look()
        rows = self.report.rows
        left = [row for row in rows if not row.earlier]
        prices = [self._prices[row.item.output] for row in left]
        known = [usd for usd in prices if usd is not None]
        texts = [group for group in self._grouped() if group.waiting and not group.source]
        return Forecast(
            runs=len(rows),
            interceptions=len(texts),
            done=len(rows) - len(left),
            cost_usd=sum(known) if len(known) == len(prices) else None,
            stale=sum(bool(row.stale) for row in rows),
            unverified=sum(row.unverified for row in rows),
            remarks=(
                *remarks_on(rows),
                *remarks_on_running(len(self._results.found.running)),
                *self.plan.remarks,
            ),
        )

    # The work.

    async def run(self) -> Report:
        """Every cell that has no result yet.

        A cell that fails or is blocked does not stop the others; cancelling cancels all runs.
        Raises UsageError where another runner makes this batch, and it was not asked to join.
        """
        runner = await self._entered()
        try:
            with self.progress.ticking(self.report):
                await self._run_as(runner)
        finally:
            self.report.spent_usd = runner.ledger.spent_usd
            runner.leave()
        return self.report

    async def _entered(self) -> Runner:
        """Come to the batch. A caller that is cancelled meanwhile has not come."""
        entering = asyncio.ensure_future(asyncio.to_thread(self._enter))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(_leave_again)
            raise

    def _enter(self) -> Runner:
        """Become a runner of the batch, and take in what others have made."""
        with entering(self.engine.settings.recordings, self.plan.batch) as entry:
            entry.check(join=self._join, budget_usd=self._own_budget)
            runner = entry.join()
            try:
                self._results.look()
                self._check_alone()
                if entry.others:
                    runner.ledger.look()
                else:
                    runner.ledger.open(self._results.found.spent_usd, self._budget)
            except BaseException:  # any: a runner that has not come holds nothing
                runner.leave()
                raise
        self.begun = True
        return runner

    def _check_alone(self) -> None:
        """Raises UsageError for a run of this batch that somebody goes on with by hand."""
        running = self._results.found.running
        if running and not self._join:
            raise UsageError(
                f"Batch {self.plan.batch} is under way (run {next(iter(running.values()))}).",
                hint="Wait for it, end that process, or work beside it: join=True.",
            )

    async def _run_as(self, runner: Runner) -> None:
        ready: asyncio.Queue[tuple[_Group, Cell]] = asyncio.Queue()
        for group in self._grouped():
            for cell in group.ready():
                ready.put_nowait((group, cell))
        workers = [
            asyncio.ensure_future(self._work(runner, ready))
            for _ in range(min(self.concurrency, len(self.report.rows)))
        ]
        joined = asyncio.ensure_future(ready.join())
        try:
            await asyncio.wait([joined, *workers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (joined, *workers):
                task.cancel()
            ended = await asyncio.gather(*workers, return_exceptions=True)
        for fault in (one for one in ended if isinstance(one, Exception)):
            raise fault  # a worker ends by itself only where devpipe has a fault

    async def _work(self, runner: Runner, ready: asyncio.Queue[tuple[_Group, Cell]]) -> None:
        def put_back(group: _Group, cell: Cell) -> None:
            ready.put_nowait((group, cell))
            ready.task_done()

        while True:
            group, cell = await ready.get()
            if not await self._settled(runner, group, cell):
                asyncio.get_running_loop().call_later(PAUSE_S, put_back, group, cell)
                continue
            for other in group.ready():
                ready.put_nowait((group, other))
            self.on_row(cell.row)
            self.progress.add(self.report)
            ready.task_done()

    async def _settled(self, runner: Runner, group: _Group, cell: Cell) -> bool:
        """Make one cell, or take over what another runner made of it.

        False while another runner makes it, or the text that it needs.
        """
        with ExitStack() as claims:
            claim = _taken(runner, cell.key, claims)
            if claim is None:
                return False
            await self._catch_up(cell, claim)
            if cell.row.outcome != "not_started":
                return True
            if cell.key in self._results.found.running:
                return False
            text = None
            if not group.source:
                text = _taken(runner, f"text-{cell.request.level}-{cell.text_sha256}", claims)
                if text is None:
                    return False
                group.source = text.runs[-1] if text.runs else ""
            has_texts = await self._made(runner, cell, claim, group.source)
            if text is not None and has_texts and not group.source:
                group.source = cell.row.run_id
                text.name(group.source)
            return True

    async def _catch_up(self, cell: Cell, claim: Claim) -> None:
        """Take in what other runners have done with a cell until now."""
        async with self._looking:
            if cell.key in self._results.found.running or claim.has_news(self._results.ended):
                await asyncio.to_thread(self._results.look)
        found = self._results.found
        if claim.runs and found.states.get(claim.runs[-1]) == "failed":
            cell.row.run_id = claim.runs[-1]
            cell.row.outcome = "failed"
            cell.row.error = found.errors[cell.row.run_id]

    async def _made(self, runner: Runner, cell: Cell, claim: Claim, source: str) -> bool:
        """One run, if the budget allows it. Says whether others can take its texts over."""
        row = cell.row
        ledger = runner.ledger
        if self.engine.catalogue is not self._catalogue and self._is_edited(cell):
            row.error = "Its pipeline or output was edited while the batch ran. Run the plan again."
            return False
        interrupted = self._results.found.interrupted.get(cell.key, "")
        price = self._prices[row.item.output] or 0.0
        if not ledger.reserve(cell.key, price, goes_on=bool(interrupted)):
            row.error = (
                f"Budget of {ledger.budget_usd} USD reached. Run the plan again with a higher one."
            )
            return False
        run = None
        try:
            claim.begin()
            run = self._started(cell, source, interrupted)
            claim.name(run.id)
            await run
        except DevpipeError as error:
            row.outcome = "failed"
            row.error = str(error)
        except Exception as error:  # a fault of the backend's or ours: the other cells go on
            row.outcome = "failed"
            row.error = f"{type(error).__name__}: {error}"
        finally:
            summary: RunSummary | None = run.summary if run else None
            ledger.settle(cell.key, summary.cost_usd if summary else 0.0)
            if run and summary:
                row.run_id = run.id
                row.outcome = summary.outcome or row.outcome
                row.stand_in = stand_in(summary, cell.request)
        return summary is not None and _has_texts(summary)

    def _is_edited(self, cell: Cell) -> bool:
        """Whether this cell would be made of something else by the files as they are now."""
        try:
            request = self.engine.request(cell.row.item.texts, **self.plan.asked(cell.row.item))
        except UsageError:
            return True
        return self._cell_of(cell.row, request).sha256 != cell.sha256

    def _started(self, cell: Cell, source: str, interrupted: str) -> Any:
        item = cell.row.item
        asked: dict[str, Any] = self.plan.asked(item)
        asked["labels"] = {**asked["labels"], LABEL: item.key}
        try:
            if interrupted:
                return self.engine.start_resumed(interrupted)
            if source:
                return self.engine.start_shared(item.texts, source, **asked)
        except Parked:
            raise
        except (UsageError, RecorderError):
            pass  # what was there cannot be taken up: the cell begins anew
        return self.engine.start(item.texts, **asked)


def _say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _taken(runner: Runner, name: str, claims: ExitStack) -> Claim | None:
    """Take a claim until the block ends; None where another runner has it."""
    claim = runner.claim(name)
    if claim is not None:
        claims.callback(claim.release)
    return claim


def _leave_again(entered: asyncio.Future[Runner]) -> None:
    if not entered.cancelled() and entered.exception() is None:
        entered.result().leave()


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
        is_unsaid = paid is None and one.price_usd is None
        prices.append(0.0 if paid is False or is_unsaid else one.price_usd)
    known = [usd for usd in prices if usd is not None]
    return max(known) if len(known) == len(prices) else None
