"""Which recorded runs are results of a plan's cells, and which are not any more?

By fingerprint and level, from the recordings alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from devpipe.batch.plan import LABEL
from devpipe.batch.report import OVER, Row
from devpipe.batch.weights import Match, Weights
from devpipe.errors import RecorderError, UsageError
from devpipe.values import LEVELS, Level

if TYPE_CHECKING:
    from devpipe.analysis.tables import Tables
    from devpipe.backends.registry import Backends
    from devpipe.batch.plan import Plan
    from devpipe.config.catalogue import Catalogue
    from devpipe.config.settings import Settings
    from devpipe.record.summary import RunSummary
    from devpipe.stages.request import RunRequest

RecordedRun = Mapping[Hashable, Any]  # a row of `recordings.runs()`


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
    def submit(self) -> Callable[..., Any]: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what its run is asked, and what its result would be made of."""

    row: Row
    request: RunRequest
    fingerprint: Any
    sha256: str
    text_sha256: str

    @property
    def key(self) -> str:
        return self.row.item.key


@dataclass
class Found:
    """What the last look at the recordings found."""

    states: dict[str, str] = field(default_factory=dict)  # of every run of the batch, by its id
    errors: dict[str, str] = field(default_factory=dict)  # of those that failed, by their ids
    running: dict[str, str] = field(default_factory=dict)  # by a cell's key: who makes it now
    interrupted: dict[str, str] = field(default_factory=dict)  # by a cell's key: its process died
    spent_usd: float = 0.0  # by all that have ended


class Results:
    """What was made of these cells. `look` reads the recordings, and fills in the cells' rows."""

    def __init__(
        self,
        engine: RunsCells,
        plan: Plan,
        cells: Sequence[Cell],
        prices: Mapping[str, float | None],
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._cells = cells
        self._prices = prices
        self._by_key = {cell.key: cell for cell in cells}
        self._by_sha256: dict[str, list[Cell]] = {}
        for cell in cells:
            self._by_sha256.setdefault(cell.sha256, []).append(cell)
        self._weights: Weights | None = None
        # By the fingerprint of Stage 2 and the level: a run that has that text.
        self._texts: dict[tuple[str, str], str] = {}
        self.found = Found()

    def text_source(self, cell: Cell) -> str:
        """A run whose Stages 1 and 2 this cell can take over; empty where there is none."""
        return self._texts.get((cell.text_sha256, cell.request.level), "")

    @property
    def ended(self) -> set[str]:
        """The runs that had ended when the recordings were looked at."""
        going_on = ("running", "interrupted")
        return {run for run, state in self.found.states.items() if state not in going_on}

    def look(self) -> None:
        """Give each cell without a result the one that a recorded run has of it.

        Each run serves one cell: the one it was made for, else another that is equal. A run at a
        looser level than the cell's is no result of it.
        """
        self.found = Found()
        serving = {cell.row.run_id for cell in self._cells if cell.row.outcome in OVER}
        runs = [run for run in self._recorded() if run["run_id"] not in serving]
        self.found.states = dict.fromkeys(serving, OVER[0])
        if not runs:
            return
        if self._weights is None:
            requests = {
                (one.row.item.pipeline, one.row.item.output): one.request for one in self._cells
            }
            self._weights = Weights(self._engine, requests.values())
        left = []
        for run in runs:
            self.found.states[run["run_id"]] = run["state"]
            self.found.errors[run["run_id"]] = run["error_message"] or ""
            named = self._by_key.get(run[f"labels.{LABEL}"])
            if named is None or not self._is_result(named, run):
                left.append(run)
            else:
                self._take_in(named, run)
        for run in left:
            self._offer(run)
        self._count(runs)

    def _count(self, runs: Sequence[RecordedRun]) -> None:
        """Add up what they have cost, and remember who has which text."""
        going_on = {*self.found.interrupted.values(), *self.found.running.values()}
        for run in runs:
            if run["run_id"] not in going_on:  # what these spend is counted when they end
                self.found.spent_usd += self._cost(run)
            if run["text_fingerprint"]:
                source = (run["text_fingerprint"], run["safety"])
                self._texts.setdefault(source, run["run_id"])

    def _is_result(self, cell: Cell, run: RecordedRun) -> bool:
        """Whether a run made what this cell would be made of, at no looser level."""
        if _is_looser(run["safety"], cell.request.level):
            return False
        if run["fingerprint"]:
            return bool(run["fingerprint"] == cell.sha256)
        return self._equals_old_run(cell, run["run_id"])

    def _offer(self, run: RecordedRun) -> None:
        """Let a run that its own cell has no use for serve an equal one that has no result."""
        named = self._by_key.get(run[f"labels.{LABEL}"])
        for cell in self._by_sha256.get(run["fingerprint"] or "", ()):
            is_free = not cell.row.run_id and cell.key not in self.found.interrupted
            if is_free and self._is_result(cell, run):
                self._take_in(cell, run)
                return
        if named is not None and not named.row.run_id:
            self._note_stale(named, run)

    def _recorded(self) -> list[dict[Hashable, Any]]:
        """All runs of this batch, oldest first, from the index beside the recordings.

        Before there were fingerprints, a batch was named after its plan and a hash of its grid.
        """
        runs = self._engine.recordings.runs()
        label = f"labels.{LABEL}"
        if label not in runs:
            return []
        batch = runs["batch"].fillna("")
        older = batch.str.fullmatch(rf"{re.escape(self._plan.name)}-[0-9a-f]{{8}}")
        ours = runs.loc[(batch == self._plan.batch) | (older & runs["fingerprint"].isna())]
        ours = ours.loc[~ours["relation"].isin(["regenerated", "replayed"])]
        return ours.astype(object).where(ours.notna(), None).to_dict("records")

    def _cost(self, run: RecordedRun) -> float:
        """What a run has cost, in USD; where nobody knows, its price."""
        cost = run["cost_usd"]
        if cost is None:
            cost = self._prices.get(run["output"])
        return cost or 0.0

    def _equals_old_run(self, cell: Cell, run_id: str) -> bool:
        """Whether a run of a time before fingerprints differs in nothing that it tells."""
        try:
            recorded = self._engine.recorded_fingerprint(run_id)
        except (UsageError, RecorderError):
            return False
        return not cell.fingerprint.differences(recorded)

    def _note_stale(self, cell: Cell, run: RecordedRun) -> None:
        if _is_looser(run["safety"], cell.request.level):
            cell.row.stale = "the safety level"
            return
        try:
            recorded = self._engine.recorded_fingerprint(run["run_id"])
            differences = cell.fingerprint.differences(recorded)
        except (UsageError, RecorderError):
            differences = {}
        names = [name for parts in differences.values() for name in parts]
        cell.row.stale = ", ".join(dict.fromkeys(names)) or "what it was made of"

    def _take_in(self, cell: Cell, run: RecordedRun) -> None:
        row = cell.row
        run_id = str(run["run_id"])
        match = Match.SAME if self._weights is None else self._weights.match(cell.request, run)
        if match is Match.STALE:
            row.stale = "the model's weights"
            return
        if run["state"] == "running":
            self.found.running[cell.key] = run_id
        if run["state"] == "interrupted":
            self.found.interrupted[cell.key] = run_id
        if row.outcome in OVER or run["state"] not in OVER:
            return
        row.run_id = run_id
        row.outcome = str(run["state"])
        row.error = ""
        row.earlier = True
        row.stale = ""
        if cell.request.fallbacks:
            row.stand_in = stand_in(self._engine.recordings.find(run_id).summary, cell.request)
        row.unverified = match is Match.UNVERIFIED or not run["fingerprint"]


def stand_in(summary: RunSummary, request: RunRequest) -> str:
    """Who made a run's files in place of the output's own backend; empty where it was that."""
    output = request.output
    for attempt in summary.media_attempts:
        made = (attempt.started.backend, attempt.started.model)
        completed = attempt.finished is not None and attempt.finished.outcome == "completed"
        if completed and made != (output.backend, output.model):
            return "/".join(made)
    return ""


def _is_looser(level: str, than: Level) -> bool:
    """Whether a recorded level is looser than this one; one that nobody knows is."""
    return level not in LEVELS or LEVELS.index(level) > LEVELS.index(than)
