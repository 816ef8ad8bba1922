"""The Engine: four stages as calls, from any thread and any loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import engine_in, settings_in, small_media, small_picture

from devpipe import Engine, OpenRun, UsageError
from devpipe.analysis.verify import verify
from devpipe.backends.base import Emit
from devpipe.config.models import InterceptionPipeline, OutputConfig
from devpipe.errors import CutOff, NotAllowed, RecorderError, Rejected, Unavailable, UnknownName
from devpipe.record.events import AttemptStarted, RunStarted, StageReused, TextWritten, VerdictGiven
from devpipe.record.reader import Recording
from devpipe.testing import ScriptedBackend
from devpipe.values import MediaRequest, MediaResult, TextResult

SMALL = {"width": 64, "height": 64}
PROMPT = "ein roter Kreis auf blauem Grund"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = engine_in(tmp_path)
    yield made
    made.close()


def tasks(recording: Recording) -> list[str]:
    """What backends were asked for in this recording."""
    return [one.event.task for one in recording.events if isinstance(one.event, AttemptStarted)]


async def test_a_prompt_goes_through_four_stages_to_a_picture_and_a_recording(
    engine: Engine,
) -> None:
    """Every stage leaves its text or verdict, and the recording accounts for every byte."""
    run = await engine.run(PROMPT, pipeline="dada", seed=7, **SMALL)
    assert run.outcome == "completed" and run.seed == 7
    assert run.texts["input"] == {"prompt": PROMPT}
    assert run.texts["interception"]["prompt"] not in ("", PROMPT)
    assert [verdict.stage for verdict in run.verdicts] == ["input", "pre_output"]
    assert run.files[0].read_bytes().startswith(b"\x89PNG")
    assert verify(run.recording) == []
    assert (run.folder / "01_input.txt").read_text("utf-8") == PROMPT


async def test_live_and_stored_runs_are_the_same(engine: Engine) -> None:
    """What a panel saw is what the recording says, through one fold."""
    run = await engine.run(PROMPT, pipeline="bauhaus", **SMALL)
    assert run.recording.events == run.events
    assert run.recording.summary == run.summary
    assert json.loads((run.folder / "run.json").read_text("utf-8")) == run.summary.to_json()


async def test_equal_requests_give_equal_bytes_and_another_seed_another_picture(
    engine: Engine,
) -> None:
    """The seed is honoured, and nothing else is random."""
    first, second, other = [
        await engine.run(PROMPT, seed=seed, text_seed=3, **SMALL) for seed in (7, 7, 8)
    ]
    assert (
        first.files[0].read_bytes() == second.files[0].read_bytes() != other.files[0].read_bytes()
    )


async def test_seeds_are_drawn_once_and_recorded(engine: Engine) -> None:
    """Absent seeds are drawn in the range every backend takes, and two runs draw differently."""
    runs = [await engine.run("a cat", pipeline="dada", **SMALL) for _ in range(2)]
    for run in runs:
        assert run.seed and 1 <= run.seed < 2**31
        assert run.summary.started and 1 <= run.summary.started.text_seed < 2**31
    assert runs[0].seed != runs[1].seed


async def test_several_outputs_share_one_interception(tmp_path: Path) -> None:
    """Stages 1 and 2 happen once; Stages 3 and 4 once per output; each output has its own
    recording.
    """
    text = ScriptedBackend(["a drawn cat"])
    engine = engine_in(tmp_path, backends={"script": text}, DEVPIPE_MODEL_INTERCEPTION="script/x")
    runs = await engine.run(
        "a cat", pipeline="dada", output=["sketch", "sketch_fusion", "sketch_sound"], seed=5
    )
    assert [run.outcome for run in runs] == ["completed"] * 3
    assert len(text.requests) == 1
    assert [run.texts["interception"]["prompt"] for run in runs] == ["a drawn cat"] * 3
    assert [run.summary.started.parent for run in runs[1:] if run.summary.started] == [
        runs[0].id
    ] * 2
    assert all(verify(run.recording) == [] for run in runs)
    engine.close()


async def test_a_failed_output_does_not_stop_its_siblings(tmp_path: Path) -> None:
    """One output rejects, the other completes; the list tells both."""
    media = ScriptedBackend(
        [
            lambda request: (
                Rejected("no.", hint="so.") if request.model == "sketch" else small_media()
            )
        ]
    )
    engine = engine_in(tmp_path, backends={"procedural": media})
    runs = await engine.run("a cat", output=["sketch", "sketch_fusion"])
    assert [run.outcome for run in runs] == ["failed", "completed"]
    assert runs[0].error and runs[0].error.type == "Rejected"
    engine.close()


async def test_regenerate_asks_no_text_backend_and_names_its_parent(engine: Engine) -> None:
    """Stage 4 alone: texts and verdict are the parent's, the picture is new."""
    run = await engine.run(PROMPT, pipeline="dada", seed=7, **SMALL)
    again = await engine.regenerate(run.id, seed=8)
    assert again.outcome == "completed" and again.seed == 8
    started = again.events[0].event
    assert (
        isinstance(started, RunStarted)
        and started.parent == run.id
        and started.relation == "regenerated"
    )
    assert tasks(again.recording) == ["media"]
    assert again.texts["interception"] == run.texts["interception"]
    assert [one.event.stage for one in again.events if isinstance(one.event, StageReused)] == [
        "input",
        "interception",
        "pre_output",
    ]
    assert again.files[0].read_bytes() != run.files[0].read_bytes()
    assert verify(again.recording) == []
    third = await engine.regenerate(again.id)
    assert third.texts["interception"] == run.texts["interception"] and third.seed not in (7, 8)


async def test_regenerate_with_another_pipeline_begins_at_stage_2(engine: Engine) -> None:
    """The input is reused, the interception is made anew, and the verdict is given again."""
    run = await engine.run(PROMPT, pipeline="dada", seed=7, **SMALL)
    branch = await engine.regenerate(run.id, pipeline="bauhaus", seed=7)
    assert tasks(branch.recording) == ["interception", "media"]
    assert branch.texts["input"] == run.texts["input"]
    assert branch.texts["interception"] != run.texts["interception"]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"parameters": {"width": 96}}, ["media"]),
        ({"output": "sketch_fusion"}, ["media"]),
        ({"text": "ein gelbes Dreieck"}, ["media"]),
        ({"text_seed": 99}, ["interception", "media"]),
        ({"prompt": "eine Katze"}, ["interception", "media"]),
        ({"safety": "kids"}, ["interception", "media"]),
    ],
)
async def test_each_change_begins_where_it_touches(
    engine: Engine, changes: dict[str, object], asked: list[str]
) -> None:
    """Nothing before the touched stage is done again, and Stage 3 gives a verdict of its own."""
    run = await engine.run(PROMPT, pipeline="dada", seed=7, **SMALL)
    again = await engine.regenerate(run.id, **changes)
    assert again.outcome == "completed"
    assert tasks(again.recording) == asked
    verdicts = [
        one.event
        for one in again.events
        if isinstance(one.event, VerdictGiven) and one.event.stage == "pre_output"
    ]
    assert len(verdicts) == 1 and not verdicts[0].source


async def test_replay_is_bit_equal_for_every_procedural_output(
    engine: Engine, tmp_path: Path
) -> None:
    """The same request by the recorded configs gives the same texts and the same bytes."""
    picture, mask = small_picture(), small_picture((255, 255, 255))
    needs = {
        "sketch_inpaint": {"image": picture, "mask": mask},
        "sketch_control": {"control": picture},
        "sketch_sound": {"seconds": 1},
    }
    needs["sketch_video"] = {"width": 64, "height": 64, "frames": 8}
    for output in (
        name for name, config in engine.catalogue.outputs.items() if config.backend == "procedural"
    ):
        run = await engine.run("a red cat", pipeline="dada", output=output, **needs.get(output, {}))
        proof = await engine.replay(run.id)
        assert proof.equal, (output, proof.differences)


async def test_replay_repeats_a_persons_edit(engine: Engine) -> None:
    """A run that was edited between the stages is replayed with that edit."""
    opened = engine.open(pipeline="dada", **SMALL)
    await opened.input("a cat")
    await opened.intercept()
    await opened.check("a blue dog")
    await opened.generate(seed=3)
    proof = await engine.replay(opened.id)
    assert proof.equal, proof.differences


async def test_step_by_step_with_an_edit(engine: Engine) -> None:
    """The person may reword Stage 2's result; the edit is recorded as theirs, checked, and
    drawn.
    """
    run = engine.open(pipeline="dada", output="sketch", **SMALL)
    assert isinstance(run, OpenRun)
    await run.input("Eine Katze im Regen")
    assert run.texts["input"]["prompt"] == "Eine Katze im Regen"
    await run.intercept()
    await run.check("ein grünes Dreieck")
    assert run.outcome is None and not run.artifacts
    await run.generate(seed=7)
    assert run.outcome == "completed" and run.seed == 7
    edits = [
        one.event
        for one in run.events
        if isinstance(one.event, TextWritten) and one.event.by == "user"
    ]
    assert [(edit.stage, edit.text) for edit in edits] == [
        ("input", "Eine Katze im Regen"),
        ("interception", "ein grünes Dreieck"),
    ]
    sent = next(
        one.event
        for one in run.events
        if isinstance(one.event, AttemptStarted) and one.event.task == "media"
    )
    assert sent.request["texts"] == {"prompt": "ein grünes Dreieck"}
    assert verify(run.recording) == []


async def test_steps_out_of_order_are_refused_and_leave_the_run_open(engine: Engine) -> None:
    """Stage 4 before Stage 3 says what to do first, and the run can go on."""
    run = engine.open(**SMALL)
    with pytest.raises(UsageError, match="Stage 2 has no text"):
        await run.intercept()
    await run.input("a cat")
    with pytest.raises((UsageError, NotAllowed), match="check"):
        await run.generate()
    await run.check()
    await run.generate()
    assert run.outcome == "completed"
    with pytest.raises(UsageError, match="is over"):
        await run.check("another")


async def test_a_closed_engine_ends_its_open_runs(tmp_path: Path) -> None:
    """A run that waits for its next step is cancelled, on disk, when the engine closes."""
    engine = engine_in(tmp_path)
    run = engine.open(**SMALL)
    await run.input("a cat")
    await asyncio.to_thread(engine.close)
    assert run.recording.state == "cancelled"


async def test_a_blocked_prompt_is_an_outcome_and_asks_nobody(tmp_path: Path) -> None:
    """Nothing is called after the block; the child reads the reason, the adult the cause."""
    media = ScriptedBackend([small_media()])
    engine = engine_in(tmp_path, backends={"procedural": media})
    run = await engine.run("ein Hakenkreuz", pipeline="dada")
    assert run.outcome == "blocked"
    assert media.requests == []
    verdict = run.verdicts[-1]
    assert (
        not verdict.allowed
        and verdict.categories == ["extremism"]
        and "Hass" in verdict.reason
        and "hakenkreuz" in verdict.cause
    )
    engine.close()


async def test_what_stage_2_adds_is_checked_in_stage_3(tmp_path: Path) -> None:
    """A model that writes something forbidden into a harmless prompt does not reach Stage 4."""
    text, media = ScriptedBackend(["a swastika"]), ScriptedBackend([small_media()])
    engine = engine_in(
        tmp_path,
        backends={"script": text, "procedural": media},
        DEVPIPE_MODEL_INTERCEPTION="script/x",
    )
    run = await engine.run("a flag", pipeline="dada")
    assert run.outcome == "blocked" and run.summary.stages["pre_output"].outcome == "blocked"
    assert media.requests == []
    engine.close()


async def test_an_edit_is_checked_as_input(engine: Engine) -> None:
    """Rewording Stage 2's result is no way round Stage 1."""
    run = engine.open(**SMALL)
    await run.input("a flag")
    await run.intercept()
    await run.check("a swastika")
    assert run.outcome == "blocked"


async def test_stage_4_refuses_text_without_a_verdict_of_its_own(engine: Engine) -> None:
    """A verdict for another text, or none, is not enough."""
    run = engine.open(**SMALL)
    await run.input("a cat")
    await run.check()
    work = run._session
    assert work.media_request is not None
    from dataclasses import replace

    work.media_request = replace(work.media_request, texts={"prompt": "another"})
    with pytest.raises(NotAllowed, match="another text"):
        await run.generate()
    assert not run.artifacts
    await run.close()


async def test_a_run_may_be_stricter_never_looser(engine: Engine) -> None:
    """The workspace's level is the loosest one."""
    with pytest.raises(UsageError, match="looser"):
        await engine.run("a cat", safety="adult")
    run = await engine.run("a cat", safety="kids", **SMALL)
    assert run.summary.started and run.summary.started.safety == "kids"


async def test_a_picture_model_without_a_judge_is_refused_at_youth(tmp_path: Path) -> None:
    """Rules alone may allow drawings by rule, not a model that can depict anything; the cause says
    what to set.
    """
    media = ScriptedBackend([small_media()], procedural=False)
    engine = engine_in(tmp_path, backends={"procedural": media})
    run = await engine.run("a cat")
    assert run.outcome == "blocked" and "DEVPIPE_MODEL_JUDGE" in run.verdicts[-1].cause
    assert media.requests == []
    engine.close()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("SAFE", "completed"),
        ("UNSAFE: violence", "blocked"),
        ("", "blocked"),
        ("safe", "blocked"),
        ("SAFE\nUNSAFE: violence", "blocked"),
        ("**UNSAFE**", "blocked"),
        ("Verdict: SAFE", "blocked"),
        ('{"safe": true', "blocked"),
        (TextResult("SAFE", finish_reason="length"), "blocked"),
        (Unavailable("down."), "blocked"),
    ],
)
async def test_only_the_judges_exact_word_allows(
    tmp_path: Path, answer: object, outcome: str
) -> None:
    """Everything but SAFE blocks, also a judge that is not there."""
    judge, media = ScriptedBackend([answer]), ScriptedBackend([small_media()], procedural=False)
    engine = engine_in(
        tmp_path, backends={"judge": judge, "procedural": media}, DEVPIPE_MODEL_JUDGE="judge/x"
    )
    run = await engine.run("a cat")
    assert run.outcome == outcome
    assert len(media.requests) == (outcome == "completed")
    engine.close()


async def test_a_refusal_of_the_backend_is_an_outcome(tmp_path: Path) -> None:
    """The vendor's no is a blocked run with its words, not an exception."""
    engine = engine_in(
        tmp_path, backends={"procedural": ScriptedBackend([MediaResult((), refused="not this")])}
    )
    run = await engine.run("a cat")
    assert run.outcome == "blocked" and run.summary.stages["generation"].reason == "not this"
    engine.close()


@pytest.mark.parametrize(
    "error",
    [Unavailable("down.", hint="start it."), Rejected("bad.", hint="mend it."), ValueError("ours")],
)
async def test_an_error_closes_the_recording_and_is_raised(
    tmp_path: Path, error: Exception
) -> None:
    """Awaiting a failed run raises what stopped it, after the ending was written."""
    engine = engine_in(tmp_path, backends={"procedural": ScriptedBackend([error])})
    run = engine.start("a cat")
    with pytest.raises(type(error)):
        await run
    assert run.recording.state == "failed" and run.error and run.error.type == type(error).__name__
    assert verify(run.recording) == []
    engine.close()


async def test_a_file_that_is_not_what_it_claims_is_rejected(tmp_path: Path) -> None:
    """HTML with an image's media type is no artifact."""
    from devpipe.values import Media

    engine = engine_in(
        tmp_path, backends={"procedural": ScriptedBackend([Media(b"<html>", "image/png", alt="x")])}
    )
    run = engine.start("a cat")
    with pytest.raises(Rejected):
        await run
    assert not run.artifacts and verify(run.recording) == []
    engine.close()


def hanging(reached: threading.Event) -> object:
    """An answer that never comes."""

    def answer(request: object) -> object:
        reached.set()
        return asyncio.Event().wait()

    return answer


async def test_cancel_stops_the_backend_and_is_on_disk(tmp_path: Path) -> None:
    """The backend's task is cancelled, and the recording has its ending."""
    reached = threading.Event()
    media = ScriptedBackend([hanging(reached)])
    engine = engine_in(tmp_path, backends={"procedural": media})
    run = engine.start("a cat")
    await asyncio.to_thread(reached.wait, 60)
    run.cancel()
    assert (await run).outcome == "cancelled"
    assert media.cancelled == 1 and run.recording.state == "cancelled"
    assert verify(run.recording) == []
    engine.close()


async def test_cancelling_who_awaits_cancels_the_run(tmp_path: Path) -> None:
    """An interrupted cell leaves no run behind."""
    reached = threading.Event()
    engine = engine_in(tmp_path, backends={"procedural": ScriptedBackend([hanging(reached)])})
    run = engine.start("a cat")
    waiting = asyncio.ensure_future(run._wait())
    await asyncio.to_thread(reached.wait, 60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert run.recording.state == "cancelled"
    engine.close()


async def test_a_run_can_be_cancelled_before_it_began(engine: Engine) -> None:
    """Cancelled at once, or just too late: it ends either way."""
    run = engine.start("a cat", **SMALL)
    run.cancel()
    assert (await run).outcome in ("cancelled", "completed", None)


async def test_events_are_followed_live_and_from_the_start(engine: Engine) -> None:
    """Iterating a run gives every stored event once, in order, also for one who comes late."""
    run = engine.start("a cat in the rain", pipeline="dada", **SMALL)
    live = [one async for one in run]
    late = [one async for one in run]
    stored = [one for one in live if hasattr(one, "seq")]
    assert [one.seq for one in stored] == list(range(len(stored))) and stored == late
    assert any(getattr(one, "type", "") == "text_streamed" for one in live)


async def test_a_follower_that_fails_does_not_stop_the_run(engine: Engine) -> None:
    """A broken panel is dropped."""
    calls: list[object] = []

    def broken(happening: object) -> None:
        calls.append(happening)
        raise RuntimeError("a panel's fault")

    run = engine.start("a cat", **SMALL)
    with contextlib.suppress(
        RuntimeError
    ):  # raised to whoever follows late: the replay of what happened runs in their own thread
        run.follow(broken)
    assert (await run).outcome == "completed"
    assert len(calls) <= 1


def test_a_run_can_be_waited_for_without_a_loop(engine: Engine) -> None:
    """A magic waits synchronously."""
    assert engine.start("a cat", **SMALL).wait(120).outcome == "completed"


def test_one_engine_serves_several_loops(engine: Engine) -> None:
    """Cells, callbacks and magics live in different loops; nothing is bound to any of them."""
    outcomes = [asyncio.run(engine.run("a cat", **SMALL)).outcome for _ in range(3)]
    assert outcomes == ["completed"] * 3


def test_the_thread_starts_with_the_first_run_and_ends_with_close(tmp_path: Path) -> None:
    """Making an Engine starts nothing."""

    def alive() -> list[str]:
        return [
            thread.name for thread in threading.enumerate() if thread.name.startswith("devpipe-")
        ]

    engine = engine_in(tmp_path)
    assert not alive()
    asyncio.run(engine.run("a cat", **SMALL))
    assert alive()
    engine.close()
    engine.close()
    assert not alive()
    assert asyncio.run(engine.run("a cat", **SMALL)).outcome == "completed"
    engine.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": " \n\u200b\ufeff "}, "empty"),
        ({"prompt": "\x00\x07"}, "empty"),
        ({"prompt": "x" * 50_000}, "50000 characters"),
        ({"prompt": "a\udcff"}, "not valid Unicode"),
        ({"prompt": "a", "pipeline": "dadda"}, "dada"),
        ({"prompt": "a", "output": "skech"}, "sketch"),
        ({"prompt": "a", "output": []}, "no output"),
        ({"prompt": "a", "widht": 64}, "width"),
        ({"prompt": "a", "cfg": 4}, "no parameter 'cfg'"),
        ({"prompt": "a", "width": 63}, "64"),
        ({"prompt": "a", "width": "wide"}, "width"),
        ({"prompt": "a", "seed": "seven"}, "no integer"),
        ({"prompt": "a", "seed": 1.5}, "no integer"),
        ({"prompt": "a", "seed": 0}, "out of range"),
        ({"prompt": "a", "seed": 2**31}, "out of range"),
        ({"prompt": "a", "safety": "yuoth"}, "youth"),
        ({"prompt": "a", "image": b"\x89PNG"}, "takes no image"),
        ({"prompt": "a", "output": "sketch_control"}, "needs a picture"),
        ({"prompt": "a", "output": "sketch_control", "control": b"no picture"}, "control"),
        (
            {"prompt": "a", "output": "sketch_control", "control": "/nowhere/x.png"},
            "cannot be read",
        ),
        ({"prompt": "a", "pipeline": "user_defined"}, "needs your instruction"),
        ({"prompt": "a", "instruction": "be loud"}, "takes no instruction"),
        ({"prompt": {"promt": "a"}}, "prompt"),
    ],
)
async def test_bad_input_is_one_line_and_starts_nothing(
    engine: Engine, tmp_path: Path, call: dict[str, object], message: str
) -> None:
    """The message names what is wrong and what to do; no recording is begun."""
    prompt = call.pop("prompt")
    with pytest.raises(UsageError, match=message) as caught:
        await engine.run(prompt, **call)
    assert caught.value.hint
    assert not list(tmp_path.glob("20*"))


@pytest.mark.parametrize(
    "prompt",
    [
        "🐱🌧️",
        "قطة حمراء تحت المطر",
        "a\tcat\r\nwith\x07bell",
        "👩‍👩‍👧 family",
        "1 2 3",
        "é" * 9_000,
    ],
)
async def test_unusual_prompts_are_drawn(engine: Engine, prompt: str) -> None:
    """Emoji, right-to-left writing, control characters and long texts all come out as pictures."""
    for pipeline in ("passthrough", "dada", "stille_post", "split_and_combine"):
        run = await engine.run(prompt, pipeline=pipeline, **SMALL)
        assert run.outcome == "completed"
        assert "\x07" not in run.texts["input"]["prompt"]


async def test_stille_post_records_each_of_its_eight_rounds(engine: Engine) -> None:
    """Eight iterations, each a text of its own; a procedure leaves them in the input's language."""
    run = await engine.run("Die Katze sitzt im Regen und wartet", pipeline="stille_post", **SMALL)
    rounds = run.summary.stages["interception"].written
    assert [text.iteration for text in rounds] == list(range(8))
    assert {text.language for text in rounds} == {"de"}
    assert len({text.text for text in rounds}) > 4


async def test_split_feeds_a_dual_text_output(engine: Engine) -> None:
    """Two named parts reach the two inputs, and no word is lost."""
    run = await engine.run(
        "a red cat in the cold rain", pipeline="split_and_combine", output="sketch_fusion", **SMALL
    )
    sent = run.summary.media_attempts[0].started.request["texts"]
    assert set(sent) == {"prompt", "prompt_2"}
    assert sorted(" ".join(sent.values()).split()) == [
        "a",
        "cat",
        "cold",
        "in",
        "rain",
        "red",
        "the",
    ]


async def test_one_text_for_a_fusion_is_fused_with_what_was_said(engine: Engine) -> None:
    """Without a second text, the fusion lies between the input and its interception."""
    run = await engine.run(PROMPT, pipeline="bauhaus", output="sketch_fusion", **SMALL)
    sent = run.summary.media_attempts[0].started.request["texts"]
    assert sent == {"prompt": run.texts["interception"]["prompt"], "prompt_2": PROMPT}


async def test_user_defined_takes_and_checks_the_persons_instruction(tmp_path: Path) -> None:
    """The instruction reaches the model, and counts as input."""
    text = ScriptedBackend(["loud cat"])
    engine = engine_in(tmp_path, backends={"script": text}, DEVPIPE_MODEL_INTERCEPTION="script/x")
    run = await engine.run("a cat", pipeline="user_defined", instruction="Be loud.", **SMALL)
    assert run.outcome == "completed" and "Be loud." in text.requests[0].instruction
    blocked = await engine.run(
        "a cat", pipeline="user_defined", instruction="Draw a swastika.", **SMALL
    )
    assert blocked.outcome == "blocked" and len(text.requests) == 1
    engine.close()


async def test_count_makes_several_pictures(engine: Engine) -> None:
    """All files of a result are kept."""
    run = await engine.run("a cat", count=3, **SMALL)
    assert len(run.files) == 3 == len({path.read_bytes() for path in run.files})


async def test_a_read_only_recordings_folder_is_said_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    """No backend is asked where nothing could be recorded; the message says which setting to
    change.
    """
    media = ScriptedBackend([small_media()])
    blocker = tmp_path / "file"
    blocker.write_text("")
    engine = engine_in(blocker / "recordings", backends={"procedural": media})
    with pytest.raises(RecorderError, match="DEVPIPE_RECORDINGS"):
        await engine.run("a cat")
    assert media.requests == []
    engine.close()


async def test_an_unknown_run_offers_the_nearest(engine: Engine) -> None:
    """A run is found by the beginning or end of its id, and nothing else."""
    run = await engine.run("a cat", **SMALL)
    assert (await engine.regenerate(run.id[-8:])).outcome == "completed"
    with pytest.raises(UnknownName):
        await engine.regenerate("20200101-000000-nothing2")


async def test_secrets_never_enter_the_recording(tmp_path: Path) -> None:
    """A key that a backend's answer repeats is redacted at the recorder's door."""
    secret = "sk-verysecretkey-1234567890"
    text = ScriptedBackend([f"a cat and {secret}"])
    engine = engine_in(
        tmp_path,
        backends={"script": text},
        DEVPIPE_MODEL_INTERCEPTION="script/x",
        OPENAI_API_KEY=secret,
    )
    run = await engine.run("a cat", pipeline="dada", **SMALL)
    assert all(
        secret.encode() not in path.read_bytes()
        for path in run.folder.iterdir()
        if path.suffix in (".jsonl", ".txt", ".json")
    )
    assert verify(run.recording) == []
    engine.close()


def with_negative(engine: Engine) -> None:
    """Let the output `sketch` take a negative prompt."""
    spec = engine.catalogue.outputs["sketch"].snapshot()
    spec["parameters"]["negative_prompt"] = {
        "type": "string",
        "default": "",
        "description": {"en": "What not.", "de": "Was nicht."},
    }
    engine.catalogue.outputs["sketch"] = OutputConfig.restore(spec)  # type: ignore[index]


async def test_the_negative_prompt_of_the_verdict_reaches_stage_4(tmp_path: Path) -> None:
    """Where the output takes one, the level's negative prompt is sent with the person's own, and
    covered by the verdict.
    """
    media = ScriptedBackend([small_media()])
    settings = settings_in(tmp_path, backends={"procedural": media})
    engine = Engine(settings=settings, backends={"procedural": media})
    with_negative(engine)
    run = await engine.run("a cat", negative_prompt="fog")
    sent = media.requests[0]
    assert "fog" in str(sent.parameters["negative_prompt"]) and "violent" in str(
        sent.parameters["negative_prompt"]
    )
    assert run.verdicts[-1].sha256 == sent.sha256()
    engine.close()


@pytest.mark.skipif(os.name != "posix", reason="forks")
async def test_a_run_whose_process_died_goes_on_in_its_own_recording(tmp_path: Path) -> None:
    """After kill -9 in Stage 4, resume finishes the same run without asking the text
    backend again.
    """
    import signal
    import subprocess
    import sys

    script = (
        "import sys, os, signal, asyncio; sys.path.insert(0, 'tests');from pathlib import Path;"
        " from engines import engine_in, small_media; from devpipe.testing import"
        " ScriptedBackend;die = lambda request: os.kill(os.getpid(), signal.SIGKILL);engine ="
        f" engine_in(Path({str(tmp_path)!r}), backends={{'procedural': ScriptedBackend(['a drawn"
        " cat', die])});asyncio.run(engine.run('a cat', pipeline='dada', seed=7, width=64,"
        " height=64))"
    )
    died = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[1], check=False
    )
    assert died.returncode == -signal.SIGKILL
    engine = engine_in(tmp_path)
    (recording,) = list(engine.recordings)
    assert recording.state == "interrupted"
    run = await engine.resume(recording.id)
    assert run.outcome == "completed" and run.id == recording.id and run.seed == 7
    assert tasks(run.recording) == ["interception", "media", "media"]
    assert run.texts["interception"]["prompt"] == "a drawn cat"
    assert verify(run.recording) == []
    with pytest.raises(UsageError, match="has ended"):
        await engine.resume(run.id)
    engine.close()


async def test_a_model_that_refuses_to_rewrite_ends_the_run_as_blocked(tmp_path: Path) -> None:
    """A refusal is an outcome, with the vendor's words, and never a text."""
    text, media = (
        ScriptedBackend([TextResult("", refused="I cannot")]),
        ScriptedBackend([small_media()]),
    )
    engine = engine_in(
        tmp_path,
        backends={"script": text, "procedural": media},
        DEVPIPE_MODEL_INTERCEPTION="script/x",
    )
    run = await engine.run("a cat", pipeline="dada")
    assert run.outcome == "blocked" and run.summary.stages["interception"].reason == "I cannot"
    assert media.requests == [] and verify(run.recording) == []
    engine.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (TextResult("hal", finish_reason="length"), CutOff),
        ("", Rejected),
        (" \x00 ", Rejected),
        ("x" * 200_000, Rejected),
        (b"bytes", Rejected),
    ],
)
async def test_what_is_no_answer_is_never_taken_for_one(
    tmp_path: Path, answer: object, error: type[Exception]
) -> None:
    """Cut off, empty, endless: the run fails with one of our errors, and the picture is not asked
    for.
    """
    text = ScriptedBackend([(lambda request: answer) if isinstance(answer, bytes) else answer])
    if isinstance(answer, bytes):
        text.write = lambda request, emit: asyncio.sleep(0, answer)  # type: ignore[method-assign]
    media = ScriptedBackend([small_media()])
    engine = engine_in(
        tmp_path,
        backends={"script": text, "procedural": media},
        DEVPIPE_MODEL_INTERCEPTION="script/x",
    )
    run = engine.start("a cat", pipeline="dada")
    with pytest.raises(error):
        await run
    assert media.requests == [] and verify(run.recording) == []
    partial = [
        one.event for one in run.events if isinstance(one.event, TextWritten) and one.event.partial
    ]
    assert [one.text for one in partial] == (["hal"] if error is CutOff else [])
    engine.close()


async def test_a_split_answers_only_the_parts_asked_for(tmp_path: Path) -> None:
    """A name that a model invents never becomes a file name."""
    text = ScriptedBackend([TextResult("", parts={"prompt": "a cat", "../x": "evil"}, model="m")])
    engine = engine_in(tmp_path, backends={"script": text}, DEVPIPE_MODEL_SPLIT="script/x")
    run = await engine.run("a cat", pipeline="split_and_combine", **SMALL)
    assert run.texts["interception"] == {"prompt": "a cat"}
    engine.close()


async def test_an_open_run_that_never_began_can_be_closed(tmp_path: Path) -> None:
    """Nothing was recorded, nothing hangs."""
    engine = engine_in(tmp_path)
    run = engine.open(**SMALL)
    await asyncio.wait_for(run.close(), 5)
    assert run.done and not list(tmp_path.glob("20*"))
    engine.open(**SMALL)
    await asyncio.wait_for(asyncio.to_thread(engine.close), 5)


async def test_a_follower_may_look_at_the_run_it_follows(engine: Engine) -> None:
    """A callback that asks for the summary does not lock itself out."""
    seen: list[object] = []
    run = engine.start("a cat", **SMALL)
    await run
    run.follow(lambda _: seen.append(run.outcome))
    assert seen and set(seen) == {"completed"}


async def test_a_run_without_a_text_cannot_be_taken_up(engine: Engine) -> None:
    """An open run that ended before Stage 1 says so, in one line."""
    run = engine.open(**SMALL)
    with pytest.raises(UsageError):
        await run.intercept()
    await run.close()
    for take_up in (engine.regenerate, engine.replay):
        with pytest.raises(UsageError, match="before it had a text"):
            await take_up(run.id)


async def test_sharing_is_for_the_same_prompt_only(engine: Engine) -> None:
    """Another prompt, pipeline or text seed is another interception."""
    run = await engine.run("a cat", pipeline="dada", text_seed=3, **SMALL)
    again = await engine.start_shared(
        "a cat", run.id, pipeline="dada", output="sketch", text_seed=3, seed=2, **SMALL
    )
    assert again.outcome == "completed" and tasks(again.recording) == ["media"]
    for prompt, pipeline, text_seed in (
        ("a dog", "dada", 3),
        ("a cat", "bauhaus", 3),
        ("a cat", "dada", 4),
    ):
        with pytest.raises(UsageError, match="has not this prompt"):
            engine.start_shared(
                prompt, run.id, pipeline=pipeline, output="sketch", text_seed=text_seed
            )


async def test_what_the_new_pipeline_or_output_has_no_use_for_is_left_behind(
    engine: Engine,
) -> None:
    """An instruction or a picture of the old run does not stand in the way of the new one."""
    run = await engine.run(
        "a cat",
        pipeline="user_defined",
        instruction="Be loud.",
        output="sketch_control",
        control=small_picture(),
        **SMALL,
    )
    again = await engine.regenerate(run.id, pipeline="dada", output="sketch")
    assert again.outcome == "completed" and not again.summary.attachments
    kept = await engine.regenerate(run.id, seed=3)
    assert kept.summary.attachments and tasks(kept.recording) == ["media"]


async def test_the_persons_own_negative_prompt_is_checked(tmp_path: Path) -> None:
    """What the person adds to the negative prompt is a text like any other."""
    media = ScriptedBackend([small_media()])
    engine = engine_in(tmp_path, backends={"procedural": media})
    with_negative(engine)
    run = await engine.run("a cat", negative_prompt="heil hitler")
    assert run.outcome == "blocked" and media.requests == []
    engine.close()


async def test_a_key_in_the_prompt_does_not_travel_in_the_picture(tmp_path: Path) -> None:
    """Redaction holds for what is written into the file, too."""
    secret = "sk-abcdef1234567890"
    engine = engine_in(tmp_path, OPENAI_API_KEY=secret)
    run = await engine.run(f"a cat {secret}", **SMALL)
    assert all(secret.encode() not in path.read_bytes() for path in run.folder.iterdir())
    engine.close()


async def test_no_model_translates_what_may_not_go_on(tmp_path: Path) -> None:
    """The original is checked before a translator sees it."""
    text = ScriptedBackend(["a translation"])
    engine = engine_in(tmp_path, backends={"script": text}, DEVPIPE_MODEL_TRANSLATE="script/x")
    snapshot = engine.catalogue.interceptions["passthrough"].snapshot() | {"translate": True}
    engine.catalogue.interceptions["passthrough"] = InterceptionPipeline.restore(snapshot)  # type: ignore[index]
    assert (await engine.run("ein Hakenkreuz im Gras", **SMALL)).outcome == "blocked"
    assert text.requests == []
    run = await engine.run("eine Katze im Gras", **SMALL)
    assert run.outcome == "completed" and run.texts["input"]["prompt"] == "a translation"
    engine.close()


async def edited(engine: Engine, wording: str) -> OpenRun:
    run = engine.open(pipeline="dada", **SMALL)
    await run.input("a red cat")
    await run.intercept()
    await run.check(wording)
    return await run.generate(seed=3)


async def test_own_wording_lasts_until_what_it_words_changes(engine: Engine) -> None:
    """Kept by a stricter level, also in the second generation; gone with another prompt."""
    run = await edited(engine, "a purple cat")
    child = await engine.regenerate(run.id, seed=8)
    for source in (run, child):
        strict = await engine.regenerate(source.id, safety="kids")
        assert strict.texts["interception"]["prompt"] == "a purple cat"
    other = await engine.regenerate(run.id, prompt="a blue house")
    assert "purple" not in other.texts["interception"]["prompt"]
    assert run.summary.stages["input"].verdict and child.summary.stages["input"].verdict
    assert (
        run.summary.stages["input"].verdict.sha256 == child.summary.stages["input"].verdict.sha256
    )


async def test_a_step_taken_again_undoes_what_followed(engine: Engine) -> None:
    """A new input is never drawn from the old one's checked text."""
    run = engine.open(pipeline="dada", **SMALL)
    for prompt in ("a red cat", "a blue house"):
        await run.input(prompt)
        await run.intercept()
        if prompt == "a red cat":
            await run.check()
    with pytest.raises(UsageError, match="no checked text"):
        await run.generate()
    await run.check()
    await run.generate()
    assert run.summary.media_attempts[0].started.request["texts"] == run.texts["interception"]


async def test_steps_do_not_run_at_once(engine: Engine) -> None:
    """A double click takes one step."""
    run = engine.open(**SMALL)
    first, second = await asyncio.gather(run.input("a"), run.input("b"), return_exceptions=True)
    assert first is run and isinstance(second, UsageError)
    await run.close()


@pytest.mark.parametrize(
    "texts", [{}, {"../x": "y", "prompt": "cat"}, {"prompt": "cat", "foo": "dog"}, {"prompt": 5}]
)
async def test_an_open_run_takes_only_the_texts_of_its_output(
    engine: Engine, texts: dict[str, str]
) -> None:
    """Anything else is said, and the run stays open."""
    run = engine.open(**SMALL)
    with pytest.raises(UsageError):
        await run.input(texts)
    await run.input("a cat")
    await run.close()


@pytest.mark.parametrize(
    "changes",
    [{"prompt": ""}, {"text": ""}, {"text": {"nope": "x"}}, {"text": 5}, {"parameters": "x"}],
)
async def test_bad_changes_start_nothing(
    engine: Engine, tmp_path: Path, changes: dict[str, object]
) -> None:
    """One line, and no recording."""
    run = await engine.run("a cat", **SMALL)
    with pytest.raises(UsageError):
        await engine.regenerate(run.id, **changes)
    assert len(list(tmp_path.glob("*/*"))) == 1


@pytest.mark.parametrize(
    "call",
    [
        {"labels": {"a": 1}},
        {"labels": "x"},
        {"batch": 5},
        {"safety": 5},
        {"pipeline": None},
        {"output": [None]},
        {"parameters": "x"},
    ],
)
async def test_values_of_a_wrong_type_are_one_line(engine: Engine, call: dict[str, object]) -> None:
    """No traceback of a library."""
    with pytest.raises(UsageError):
        await engine.run("a cat", **call)
    with pytest.raises(UsageError):
        await engine.run(None)  # type: ignore[arg-type]


async def test_a_run_cancelled_at_once_has_both_ends(tmp_path: Path) -> None:
    """Its recording says that it was cancelled."""
    engine = engine_in(tmp_path)
    run = engine.start("a cat", **SMALL)
    run.cancel()
    await run
    assert run.outcome in ("cancelled", "completed") and run.recording.state == run.outcome
    engine.close()


async def test_given_backends_outlast_a_close(tmp_path: Path) -> None:
    """A later run starts the engine again, with the same backends."""
    media = ScriptedBackend([small_media()])
    engine = engine_in(tmp_path, backends={"procedural": media})
    for _ in range(2):
        assert (await engine.run("a cat")).outcome == "completed"
        await asyncio.to_thread(engine.close)
    assert len(media.requests) == 2


async def test_two_followers_are_two(engine: Engine) -> None:
    """The same callback may follow twice; ending one leaves the other."""
    seen: list[object] = []
    run = engine.open(**SMALL)
    end = run.follow(seen.append)
    run.follow(seen.append)
    end()
    await run.input("a cat")
    assert seen
    await run.close()


async def test_a_resumed_run_keeps_the_wording_it_was_asked_with(tmp_path: Path) -> None:
    """regenerate(text=...) that died before Stage 3 goes on with that text."""
    engine = engine_in(tmp_path)
    run = await engine.run("a red cat", pipeline="dada", **SMALL)
    again = await engine.regenerate(run.id, text="a green fish")
    log = again.folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    kept = (
        next(
            i for i, line in enumerate(lines) if b'"stage_finished","stage":"interception"' in line
        )
        + 1
    )
    for path in again.folder.iterdir():
        if path.name not in ("events.jsonl", "01_input.txt", "02_interception.txt"):
            path.unlink()
    log.write_bytes(b"".join(lines[:kept]))
    resumed = await engine.resume(again.id)
    assert resumed.summary.media_attempts[0].started.request["texts"] == {"prompt": "a green fish"}
    engine.close()


async def test_a_stricter_workspace_takes_old_runs_up_at_its_level(tmp_path: Path) -> None:
    """A youth run is regenerated and replayed at kids where the workspace has become stricter."""
    engine = engine_in(tmp_path)
    run = await engine.run("a cat", **SMALL)
    engine.close()
    strict = engine_in(tmp_path, DEVPIPE_SAFETY="kids")
    for again in (
        await strict.regenerate(run.id),
        strict._stored.find((await strict.replay(run.id)).run_id),
    ):
        assert again.summary.started and again.summary.started.safety == "kids"
    strict.close()


async def test_a_dual_run_regenerates_into_a_single_output(engine: Engine) -> None:
    """The second text is left behind like any other thing the new output does not take."""
    run = await engine.run(
        {"prompt": "a cat", "prompt_2": "the sea"}, output="sketch_fusion", **SMALL
    )
    assert (await engine.regenerate(run.id, output="sketch")).outcome == "completed"


async def test_the_text_seed_decides_the_text(engine: Engine) -> None:
    """The same one gives the same words under any medium's seed, another one other words."""
    texts = [
        (await engine.run(PROMPT, pipeline="dada", seed=seed, text_seed=text_seed, **SMALL)).texts[
            "interception"
        ]["prompt"]
        for seed, text_seed in ((1, 5), (2, 5), (1, 6))
    ]
    assert texts[0] == texts[1] != texts[2]


async def test_a_new_input_takes_the_old_verdict_away(engine: Engine) -> None:
    """Without Stage 3 on the new text nothing is drawn."""
    run = engine.open(**SMALL)
    await run.input("a red cat")
    await run.check()
    await run.input("a blue house")
    with pytest.raises(UsageError, match="no checked text"):
        await run.generate()
    await run.close()


async def test_cancelling_who_iterates_cancels_the_run(tmp_path: Path) -> None:
    """An interrupted `async for` leaves no run behind."""
    reached = threading.Event()
    engine = engine_in(tmp_path, backends={"procedural": ScriptedBackend([hanging(reached)])})
    run = engine.start("a cat")

    async def iterate() -> None:
        async for _ in run:
            pass

    iterating = asyncio.ensure_future(iterate())
    await asyncio.to_thread(reached.wait, 60)
    iterating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await iterating
    assert (await run).outcome == "cancelled" and run.recording.state == "cancelled"
    engine.close()


async def test_a_run_with_own_wording_is_replayed_with_all_its_texts(engine: Engine) -> None:
    """Also where the text it replaces was taken over from another run."""
    source = await engine.run(PROMPT, pipeline="dada", text_seed=3, **SMALL)
    edited = await engine.regenerate(source.id, text="Drei rote Kreise tanzen.", seed=5)
    for run in (source, edited):
        replay = await engine.replay(run.id)
        assert replay.equal, replay.differences


async def test_a_stopped_run_lets_no_other_step_in(tmp_path: Path) -> None:
    """While its ending is written, a second step would ask, and pay, for what nobody keeps."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(ScriptedBackend):
        async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
            self.requests.append(request)
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:  # as one that tells its server to stop
                await asyncio.to_thread(go_on.wait, 60)
            raise AssertionError("nobody wakes it")

    slow = Slow([small_media()])
    engine = engine_in(tmp_path, backends={"procedural": slow})
    run = engine.open(**SMALL)
    await run.input(PROMPT)
    await run.check()
    making = asyncio.ensure_future(run.generate(seed=1))
    assert await asyncio.to_thread(begun.wait, 60)
    run.cancel()
    engine.submit(asyncio.sleep(0)).result(60)  # the engine's thread has heard of it
    with pytest.raises(UsageError, match="being stopped"):
        await run.generate(seed=2)
    go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await making
    assert len(slow.requests) == 1 and run.outcome == "cancelled"
    assert verify(run.recording) == []
    await asyncio.to_thread(engine.close)


EVERYTHING_WRONG: dict[str, Any] = {
    "seed": True,
    "labels": [1],
    "safety": "bogus",
    "parameters": {"width": -1},
    "nonsense": 1,
}


def test_every_fault_of_a_call_is_named_at_once(engine: Engine) -> None:
    """Whatever is wrong beside it: types, names, values, in one error of one line each."""
    with pytest.raises(UsageError) as caught:
        engine.start(PROMPT, pipeline="dada", **EVERYTHING_WRONG)
    for said in ("seed", "labels", "'bogus'", "width", "'nonsense'"):
        assert said in str(caught.value), said
    with pytest.raises(UsageError) as caught:
        engine.start(PROMPT, pipeline="nada", output=["nope", "sketch", "nay"], **EVERYTHING_WRONG)
    for said in ("'nada'", "'nope'", "'nay'", "seed", "labels", "'bogus'"):
        assert said in str(caught.value), said


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: engine.start("x", output=3),
        lambda engine: engine.start("x", output={"sketch": 1}),
        lambda engine: engine.start({1: "x"}),
        lambda engine: engine.start("x", parameters=3),
    ],
)
def test_what_is_of_another_kind_is_said_in_one_line(
    engine: Engine, call: Callable[[Engine], object]
) -> None:
    """No traceback of Python's own."""
    with pytest.raises(UsageError) as caught:
        call(engine)
    assert "\n" not in str(caught.value)


async def test_a_step_that_gets_no_text_says_so(engine: Engine) -> None:
    """And leaves the run open."""
    run = engine.open(**SMALL)
    for wrong in (None, 3, {}):
        with pytest.raises(UsageError):
            await run.input(wrong)  # type: ignore[arg-type]
    await run.input(PROMPT)
    for wrong in (3, [1], b"x"):
        with pytest.raises(UsageError):
            await run.check(wrong)  # type: ignore[arg-type]
    await run.check()
    assert run.outcome is None
    await run.close()
