"""A batch has one runner, or several that joined: each cell is made once, and there is one budget."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engines import engine_in, small_media

from devpipe import Engine, UsageError
from devpipe.analysis.verify import verify
from devpipe.batch.claims import FOLDER, entering
from devpipe.batch.plan import LABEL, Plan
from devpipe.batch.report import Report
from devpipe.batch.runner import Batch
from devpipe.errors import RecorderError, Rejected
from devpipe.testing import ScriptedBackend
from devpipe.values import Cost, MediaRequest, MediaResult

PLAN = {"name": "p", "prompts": ["a cat", "a dog"], "pipelines": ["dada"], "seeds": [1, 2, 3, 4]}
CELLS = 8


class Gate(ScriptedBackend):
    """A paid backend that says when it is asked, and makes nothing before it is told to."""

    paid = True

    def __init__(self, usd: float = 0.0) -> None:
        super().__init__([self._make])
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self._usd = usd
        self._loop = asyncio.get_running_loop()

    def _make(self, request: MediaRequest) -> Any:
        async def wait() -> MediaResult:
            self._loop.call_soon_threadsafe(self.begun.set)
            opened = asyncio.run_coroutine_threadsafe(self.go.wait(), self._loop)
            await asyncio.wrap_future(opened)
            return MediaResult((small_media(),), model="script", cost=Cost(self._usd, "reported"))

        return wait()


async def under_way(batch: asyncio.Future[Report], media: Gate) -> None:
    """Wait until a batch makes something; raises its error where it ends instead."""
    begun = asyncio.ensure_future(media.begun.wait())
    await asyncio.wait([begun, batch], return_when=asyncio.FIRST_COMPLETED)
    if batch.done():
        raise AssertionError(f"ended before: {batch.result()}")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Engines over one folder of recordings, as processes have."""
    made = []

    def make(media: ScriptedBackend | None = None) -> Engine:
        backends = {
            "script": ScriptedBackend(["rewritten"]),
            "procedural": media or ScriptedBackend([small_media()]),
        }
        model = {
            f"DEVPIPE_MODEL_{task}": "script/x" for task in ("INTERCEPTION", "TRANSLATE", "SPLIT")
        }
        made.append(engine_in(tmp_path, backends=backends, **model))
        return made[-1]

    yield make
    for one in made:
        one.close()


def cells_of(engine: Engine) -> list[str]:
    """The cell of each run on disk."""
    return sorted(run.summary.started.labels[LABEL] for run in engine.recordings)


async def test_a_second_runner_is_refused_and_told_who_is_at_work(
    engine: Callable[..., Engine],
) -> None:
    """Also one of the same process."""
    media = Gate()
    first = asyncio.ensure_future(engine(media).batch(PLAN))
    await under_way(first, media)
    for other in (engine(), engine(media)):
        with pytest.raises(UsageError) as refused:
            await other.batch(PLAN)
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(refused.value)
        assert "join=True" in refused.value.hint
    media.go.set()
    assert (await first).counts == {"completed": CELLS}
    assert len(cells_of(engine())) == CELLS


@pytest.mark.parametrize("together", [2, 3, 5])
async def test_joined_runners_make_each_cell_once(
    engine: Callable[..., Engine], together: int
) -> None:
    """And each of them reports all cells; each text is rewritten once."""
    media = Gate()
    engines = [engine(media) for _ in range(together)]
    tasks = [asyncio.ensure_future(engines[0].batch(PLAN, concurrency=2))]
    await under_way(tasks[0], media)
    tasks += [
        asyncio.ensure_future(one.batch(PLAN, join=True, concurrency=2)) for one in engines[1:]
    ]
    media.go.set()
    reports: list[Report] = await asyncio.gather(*tasks)
    made = cells_of(engines[0])
    assert len(made) == len(set(made)) == CELLS
    for report in reports:
        assert report.counts == {"completed": CELLS}
        assert len({row.run_id for row in report.rows}) == CELLS
    rewritten = sum(len(one.backends["script"].requests) for one in engines)  # type: ignore[attr-defined]
    assert rewritten == len(PLAN["prompts"])
    assert sum(not row.earlier for report in reports for row in report.rows) == CELLS


async def test_joined_runners_share_one_budget(engine: Callable[..., Engine]) -> None:
    """Five of eight pictures at 1 USD, whoever makes them; the budget is the first runner's."""
    media = Gate(usd=1.0)
    engines = [priced(engine(media)) for _ in range(3)]
    tasks = [asyncio.ensure_future(engines[0].batch(PLAN, budget_usd=5, concurrency=2))]
    await under_way(tasks[0], media)
    tasks += [
        asyncio.ensure_future(one.batch(PLAN, join=True, concurrency=2)) for one in engines[1:]
    ]
    with pytest.raises(UsageError, match="a budget of 5"):
        await engines[1].batch(PLAN, join=True, budget_usd=9)
    media.go.set()
    reports = await asyncio.gather(*tasks)
    assert len(media.requests) == 5 and len(cells_of(engines[0])) == 5
    for report in reports:
        assert report.spent_usd <= 5.0
        assert any("Budget of 5" in row.error for row in report.rows)
    assert max(report.spent_usd for report in reports) == 5.0


async def test_a_cell_that_failed_beside_us_is_not_made_again(
    engine: Callable[..., Engine],
) -> None:
    """One run per cell, also of those that fail; a later try takes them up again."""
    media = Gate()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def refuse(request: MediaRequest) -> Any:
        if len(refusing.requests) == 2:  # both dogs
            loop.call_soon_threadsafe(asked.set)
        raise Rejected("no.", hint="never.")

    refusing = ScriptedBackend([refuse])
    plan = PLAN | {"seeds": [1, 2]}
    first = asyncio.ensure_future(engine(media).batch(plan, concurrency=1))
    await under_way(first, media)
    second = asyncio.ensure_future(engine(refusing).batch(plan, join=True))
    await asked.wait()
    media.go.set()
    for report in await asyncio.gather(first, second):
        dogs = [row for row in report.rows if row.item.prompt == "a dog"]
        assert [row.outcome for row in dogs] == ["failed", "failed"]
        assert all("no." in row.error and row.run_id for row in dogs)
    assert len(cells_of(engine())) == 4
    assert (await engine().batch(plan)).counts == {"completed": 4}


def priced(engine: Engine) -> Engine:
    """Its output `sketch` costs 1 USD."""
    sketch = engine.catalogue.outputs["sketch"].model_copy(update={"price_usd": 1.0})
    engine.catalogue.outputs["sketch"] = sketch  # type: ignore[index]
    return engine


async def test_nothing_is_left_when_the_last_runner_has_gone(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """Also after a cancellation, and after a refusal."""
    media = Gate()
    one = engine(media)
    task = asyncio.ensure_future(one.batch(PLAN))
    await under_way(task, media)
    folder = one.settings.recordings / FOLDER
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["p"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    media.go.set()
    assert (await one.batch(PLAN)).complete
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    assert all(verify(run) == [] for run in one.recordings)


async def test_a_file_that_is_edited_meanwhile_makes_no_other_cells(
    engine: Callable[..., Engine],
) -> None:
    """What is left is not started, and says why: no batch mixes two contents in silence."""
    media = Gate()
    one = engine(media)
    first = asyncio.ensure_future(one.batch(PLAN, concurrency=1))
    await under_way(first, media)
    dada = one.catalogue.interceptions["dada"]
    edited = type(dada).restore({**dada.snapshot(), "version": dada.version + 1})
    others = {**one.catalogue.interceptions, "dada": edited}
    files, catalogue = one._catalogue or (None, one.catalogue)
    one._catalogue = (files, replace(catalogue, interceptions=others))
    media.go.set()
    report = await first
    assert report.counts == {"completed": 1, "not_started": CELLS - 1}
    errors = {row.error for row in report.rows if row.outcome == "not_started"}
    assert errors == {"Its pipeline or output was edited while the batch ran. Run the plan again."}


def test_what_a_dead_runner_reserved_is_reserved_once(tmp_path: Path) -> None:
    """It died before there was a run: the next one of the cell takes its place."""
    with entering(tmp_path, "p") as entry:
        runner = entry.join()
        runner.ledger.open(0.0, 1.0)
    assert runner.ledger.reserve("cell", 0.5, goes_on=False)
    assert runner.ledger.reserve("cell", 0.5, goes_on=False)
    runner.ledger.settle("cell", 0.5)
    assert runner.ledger.spent_usd == 0.5 and runner.ledger.reserve("other", 0.5, goes_on=False)
    runner.leave()


def test_a_dead_runner_holds_nothing(tmp_path: Path) -> None:
    """Its file says who it was; nobody has its lock."""
    runners = tmp_path / FOLDER / "p" / "runners"
    runners.mkdir(parents=True)
    (runners / "dead.json").write_text(json.dumps({"host": "h", "process": 1, "since": "then"}))
    (tmp_path / FOLDER / "p" / "claims").mkdir()
    (tmp_path / FOLDER / "p" / "spent.jsonl").write_text('{"spent": 3.0, "bud')
    with entering(tmp_path, "p") as entry:
        assert entry.others == []
        entry.check(join=False, budget_usd=None)
        runner = entry.join()
        runner.ledger.open(0.0, 2.0)
    claim = runner.claim("cell")
    assert claim is not None and runner.claim("cell") is None
    claim.release()
    assert runner.ledger.reserve("cell", 2.0, goes_on=False)
    assert not runner.ledger.reserve("other", 1.0, goes_on=False)
    runner.ledger.settle("cell", 0.5)
    assert runner.ledger.reserve("other", 1.0, goes_on=False)
    runner.leave()
    assert not (tmp_path / FOLDER / "p").exists()


def test_a_line_cut_by_a_death_is_no_entry(tmp_path: Path) -> None:
    """A runner that died while it wrote has reserved nothing; the others read on."""
    with entering(tmp_path, "p") as entry:
        runner = entry.join()
        runner.ledger.open(0.0, 5.0)
    with runner.ledger.path.open("ab") as file:
        file.write(b'{"reserve": "x", "us')
    assert runner.ledger.reserve("cell", 5.0, goes_on=False)
    lines = runner.ledger.path.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines][-1] == {"reserve": "cell", "usd": 5.0}
    runner.leave()


def test_a_share_without_locks_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    import fcntl

    def refuse(fd: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RecorderError, match="cannot be kept") as refused, entering(tmp_path, "p"):
        pass
    assert "local disk" in refused.value.hint


async def test_a_dry_run_looks_at_a_batch_that_is_under_way(
    engine: Callable[..., Engine],
) -> None:
    """It starts nothing, so nobody is in its way."""
    media = Gate()
    one = engine(media)
    first = asyncio.ensure_future(one.batch(PLAN, concurrency=1))
    await under_way(first, media)
    forecast = Batch(engine(), Plan.read(PLAN)).forecast
    assert forecast.done == 0 and "1 of the others are being made now" in str(forecast)
    media.go.set()
    assert (await first).complete
