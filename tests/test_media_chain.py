"""Outputs that stand in for one another: the same chain as for texts, and one verdict for all."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contexts import Written
from engines import settings_in, small_media

from devpipe import Engine
from devpipe.analysis.verify import verify
from devpipe.backends.base import Backend, Emit, Wrapping
from devpipe.config.catalogue import load_catalogue
from devpipe.config.models import OutputConfig
from devpipe.errors import BackendError, RateLimited, Rejected, Unavailable
from devpipe.record.events import ArtifactWritten, AttemptFinished, AttemptStarted, Warned
from devpipe.testing import ScriptedBackend
from devpipe.values import Boundary, Cost, MediaRequest, MediaResult, TextRequest, TextResult

DOWN = Unavailable("It is down.", hint="Start it.")
Made = Callable[..., Engine]


class Painter(ScriptedBackend):
    """A scripted media backend that depicts freely, says where it stands, and whether it costs."""

    def __init__(self, *answers: Any, place: Boundary = "local", paid: bool | None = False) -> None:
        super().__init__(list(answers) or [small_media()], procedural=False)
        self.place = place
        self.paid = paid

    def boundary(self, model: str) -> Boundary:
        return self.place


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Made]:
    made: list[Engine] = []

    def make(
        fallback: tuple[str, ...] = ("sketch",),
        *,
        wrappers: tuple[type[Wrapping], ...] = (),
        judge: bool = True,
        environ: dict[str, str] | None = None,
        **backends: Backend,
    ) -> Engine:
        """An engine with the output `painted`, for which others stand in."""
        if judge:
            backends["judge"] = Written("SAFE")
            environ = {"DEVPIPE_MODEL_JUDGE": "judge/x"} | (environ or {})
        settings = settings_in(tmp_path / str(len(made)), backends=backends, **(environ or {}))
        made.append(Engine(settings=settings, backends=backends, wrappers=wrappers))
        outputs: Any = made[-1].catalogue.outputs
        sketch = outputs["sketch"].snapshot()
        for name in ("painter", "other"):
            spec = {**sketch, "name": f"{name}_output", "backend": name, "model": f"{name}-1"}
            outputs[spec["name"]] = OutputConfig.restore(spec)
        painted = {**outputs["painter_output"].snapshot(), "name": "painted"}
        outputs["painted"] = OutputConfig.restore({**painted, "fallback": list(fallback)})
        return made[-1]

    yield make
    for one in made:
        one.close()


def attempts(run: Any) -> list[tuple[str, str]]:
    """Who was asked for the medium, and how it ended."""
    started = [one.event for one in run.events if isinstance(one.event, AttemptStarted)]
    ended = {
        one.event.attempt: one.event.outcome
        for one in run.events
        if isinstance(one.event, AttemptFinished)
    }
    return [(one.backend, ended[one.attempt]) for one in started if one.task == "media"]


def notes(run: Any) -> list[str]:
    return [one.event.message for one in run.events if isinstance(one.event, Warned)]


async def painted(engine: Engine, **how: Any) -> Any:
    run = engine.start("a cat", output="painted", seed=1, width=64, height=64, **how)
    try:
        return await run
    except BackendError:
        return run


async def test_an_output_stands_in_for_one_that_is_down(engine: Made) -> None:
    """Both attempts are recorded; the file says who made it, and by which request."""
    run = await painted(engine(painter=Painter(DOWN)))
    assert run.outcome == "completed"
    assert attempts(run) == [("painter", "failed"), ("procedural", "completed")]
    assert any("procedural/sketch stands in for painter/painter-1" in note for note in notes(run))
    (artifact,) = [one.event for one in run.events if isinstance(one.event, ArtifactWritten)]
    assert artifact.attempt == max(run.summary.attempts)
    assert b"trainedAlgorithmicMedia" not in run.files[0].read_bytes()  # it was drawn, not depicted
    assert verify(run.recording) == [] and run.seed == 1


async def test_a_batch_says_which_cells_a_stand_in_made(engine: Made) -> None:
    """Also when it is run again and the output's own backend is back: the cell counts as done."""
    plan = {
        "name": "p",
        "prompts": ["a cat"],
        "outputs": ["painted"],
        "parameters": {"width": [64], "height": [64]},
    }
    one = engine(painter=Painter(DOWN, small_media()))
    for earlier in (False, True):
        report = await one.batch(plan)
        assert report.rows[0].earlier is earlier
        assert report.complete and report.rows[0].stand_in == "procedural/sketch"
        assert "1 made by procedural/sketch, which stood in" in str(report)
        assert report.to_json()["rows"][0]["stand_in"] == "procedural/sketch"
    fresh = await one.batch(plan | {"prompts": ["a dog"]})
    assert fresh.complete and fresh.rows[0].stand_in == "" and "stood in" not in str(fresh)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize(
    ("place", "paid", "known"),
    [
        ("local", False, True),
        ("local", None, True),
        ("eu", False, True),
        ("world", False, True),
        ("world", None, False),
        ("eu", None, False),
        ("local", True, False),
        ("world", True, False),
    ],
)
async def test_a_batch_keeps_nothing_back_for_a_failed_try_that_is_free(
    engine: Made, place: Boundary, paid: bool | None, known: bool, sent: bool
) -> None:
    """By the backend's own word, or made here; where neither holds, the full price stays."""
    down = Unavailable("It is down.", hint="Start it.", sent=sent and not paid)
    bought = MediaResult((small_media(),), model="other", cost=Cost(0.25, "reported"))
    one = engine(
        ("other_output",),
        painter=Painter(down, place=place, paid=paid),
        other=Painter(bought, place="world", paid=True),
    )
    outputs: Any = one.catalogue.outputs
    for name in ("painted", "other_output"):
        spec = {**outputs[name].snapshot(), "price_usd": 1.0}
        outputs[name] = OutputConfig.restore(spec)
    size = {"width": [64], "height": [64]}
    plan = {"name": "p", "prompts": ["a", "b"], "outputs": ["painted"], "parameters": size}
    report = await one.batch(plan, budget_usd=2, concurrency=1)
    assert report.counts == {"completed": 2}
    assert report.spent_usd == (0.5 if known else 2.0)
    costs = one.recordings.runs()["cost_usd"]
    assert costs.notna().all() if known else costs.isna().all()


@pytest.mark.parametrize(
    ("failure", "paid", "second"),
    [
        (DOWN, False, True),
        (DOWN, True, True),
        (RateLimited("Busy.", retry_after=99), False, True),
        (Rejected("Wrong."), False, False),
        (Unavailable("Lost.", sent=True), False, True),
        (Unavailable("Lost.", sent=True), True, False),
        (MediaResult((), refused="I will not."), False, False),
    ],
    ids=["down", "down paid", "busy", "rejected", "lost", "lost and paid", "refused"],
)
async def test_typed_errors_decide_who_is_asked_next(
    engine: Made, failure: Any, paid: bool, second: bool
) -> None:
    """A paid backend's error of unknown fate ends the chain: money is never spent twice."""
    other = Painter()
    run = await painted(engine(("other_output",), painter=Painter(failure, paid=paid), other=other))
    assert bool(other.requests) is second
    assert run.outcome == ("completed" if second else "blocked" if paid is None else run.outcome)
    assert (run.outcome == "completed") is second


async def test_a_rate_limit_is_waited_out_for_media_too(engine: Made) -> None:
    """Once, as long as was said; then the same backend is asked again."""
    busy = Painter(RateLimited("Busy.", retry_after=0), small_media())
    run = await painted(engine((), painter=busy))
    assert run.outcome == "completed"
    assert attempts(run) == [("painter", "failed"), ("painter", "completed")]


async def test_no_text_leaves_the_boundary_for_a_picture(engine: Made) -> None:
    """A prompt is a text: who stands further away is not asked, and the recording says so."""
    far = Painter(place="world")
    run = await painted(engine(painter=far, environ={"DEVPIPE_BOUNDARY": "local"}))
    assert run.outcome == "completed" and far.requests == []
    assert attempts(run) == [("procedural", "completed")]
    assert any("was not asked" in note for note in notes(run))
    alone = await painted(engine((), painter=far, environ={"DEVPIPE_BOUNDARY": "local"}))
    assert alone.outcome == "failed" and far.requests == []
    assert alone.error is not None and "boundary" in alone.error.message


async def test_what_stands_in_is_covered_by_the_verdict(engine: Made) -> None:
    """The hash is of all that may be sent, to whomever."""
    first, second = Painter(DOWN), Painter()
    run = await painted(engine(("other_output",), painter=first, other=second))
    asked, stood_in = first.requests[0], second.requests[0]
    assert isinstance(asked, MediaRequest) and isinstance(stood_in, MediaRequest)
    verdict = run.summary.stages["pre_output"].verdict
    assert verdict.sha256 == asked.sha256() != stood_in.sha256()
    assert asked.fallback == (stood_in,) and (stood_in.model, stood_in.seed) == ("other-1", 1)


@pytest.mark.parametrize("order", ["painted", "sketch first"])
async def test_a_chain_with_one_that_depicts_needs_a_judge(engine: Made, order: str) -> None:
    """Whoever comes first: at youth rules alone allow nothing that a model might depict."""
    made = engine(("sketch",), judge=False, painter=Painter(DOWN))
    if order == "sketch first":
        outputs: Any = made.catalogue.outputs
        sketch = {**outputs["sketch"].snapshot(), "name": "painted", "fallback": ["painter_output"]}
        outputs["painted"] = OutputConfig.restore(sketch)
    run = await painted(made)
    assert run.outcome == "blocked" and attempts(run) == []


async def test_requests_carry_level_boundary_and_keys(engine: Made) -> None:
    """For a text and for a picture: each attempt has an id, each act a key of its own."""
    text, painter = Written("umgeschrieben"), Painter()
    environ = {"DEVPIPE_MODEL_INTERCEPTION": "local: text/x"}
    made = engine((), painter=painter, text=text, environ=environ)
    run = await painted(made, pipeline="dada")
    words, picture = text.requests[0], painter.requests[0]
    assert isinstance(words, TextRequest) and isinstance(picture, MediaRequest)
    assert (words.level, words.boundary) == ("youth", "local") and picture.level == "youth"
    recorded = [one.event for one in run.events if isinstance(one.event, AttemptStarted)]
    ids = [one.request_id for one in recorded]
    assert {words.request_id, picture.request_id} <= set(ids) and len(set(ids)) == len(ids)
    assert words.idempotency_key and picture.idempotency_key
    assert words.idempotency_key != picture.idempotency_key


class Counting(Wrapping):
    """Counts what its backend is asked, and answers a text it has seen from memory."""

    asked: Counter[str] = Counter()
    known: dict[str, TextResult] = {}

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        self.asked[str(self.candidate)] += 1
        if request.text not in self.known:
            self.known[request.text] = await super().write(request, emit)
        return self.known[request.text]

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        self.asked[str(self.candidate)] += 1
        return await super().make(request, emit)


async def test_a_wrapper_of_a_few_lines_goes_between_and_no_stage_knows(engine: Made) -> None:
    """A ledger or a cache is a backend around a backend, for texts and media alike."""
    Counting.asked.clear()
    Counting.known.clear()
    text = Written("umgeschrieben")
    environ = {"DEVPIPE_MODEL_INTERCEPTION": "text/x"}
    made = engine(
        painter=Painter(DOWN), text=text, environ=environ, wrappers=(Counting,), judge=True
    )
    for _ in range(2):
        run = await painted(made, pipeline="dada", text_seed=1)
        assert run.outcome == "completed"
    assert len(text.requests) == 1, "the second text came from memory"
    assert Counting.asked["text/x"] == 2 and Counting.asked["painter/painter-1"] == 2
    assert Counting.asked["procedural/sketch"] == 2
    assert [outcome for _, outcome in attempts(run)] == ["failed", "completed"]


async def test_a_cancelled_run_asks_nobody_else(engine: Made) -> None:
    """The chain ends with the run."""

    begun = threading.Event()

    class Slow(Painter):
        async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody wakes it")

    slow, other = Slow(), Painter()
    made = engine(("other_output",), painter=slow, other=other)
    run = made.start("a cat", output="painted", width=64, height=64)
    assert await asyncio.to_thread(begun.wait, 60)
    run.cancel()
    await run
    assert run.outcome == "cancelled" and other.requests == []
    assert attempts(run) == [("painter", "cancelled")]


FAULTY = {
    "nowhere": ("there is no usable output 'nowhere'", ["nowhere"]),
    "itself": ("cannot stand in for itself", ["sketch"]),
    "another medium": ("both must be the same", ["sketch_sound"]),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_fallback_that_cannot_stand_in_is_a_fault_of_the_file(tmp_path: Path, case: str) -> None:
    """Said by `devpipe check` with its place, before anything runs."""
    import json
    import shutil

    from engines import REPOSITORY

    for name in ("pipelines", "output_configs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    said, fallback = FAULTY[case]
    file = tmp_path / "output_configs" / "sketch.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"fallback": fallback}))
    faults = load_catalogue(tmp_path).faults
    (fault,) = [one for one in faults if one.file == "output_configs/sketch.json"]
    assert fault.path == "$.fallback[0]" and said in fault.message
