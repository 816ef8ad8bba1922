"""Stages 1 to 3 with language models: what they are asked, what is taken from them, and what never
goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import NetworkGuard
from contexts import Desk, Streamed, Written
from engines import REPOSITORY, engine_in, small_media, small_picture

from devpipe import Run
from devpipe.analysis.verify import verify
from devpipe.config.catalogue import load_catalogue
from devpipe.config.lint import lint
from devpipe.config.models import InterceptionPipeline, MediaPipeline, OutputConfig
from devpipe.errors import CutOff, Rejected, Unavailable
from devpipe.record.events import (
    AttemptFinished,
    AttemptStarted,
    TextStreamed,
    TextWritten,
    VerdictGiven,
    Warned,
)
from devpipe.stages import input as input_stage
from devpipe.stages import interception, pre_output
from devpipe.stages.journal import Where
from devpipe.stages.pre_output import Before
from devpipe.stages.texts import Text, Texts
from devpipe.testing import ScriptedBackend
from devpipe.values import Media, MediaRequest, TextRequest, TextResult

GERMAN = "Eine rote Katze sitzt im Regen unter der alten Brücke."
ENGLISH = "A red cat sits in the rain under the old bridge."
SMALL = {"width": 64, "height": 64}


def changed(**fields: Any) -> Callable[[InterceptionPipeline], InterceptionPipeline]:
    """The pipeline with these fields."""
    return lambda config: InterceptionPipeline.restore(config.snapshot() | fields)


def with_step(**fields: Any) -> Callable[[InterceptionPipeline], InterceptionPipeline]:
    """The pipeline with these fields in its first step."""
    return lambda config: InterceptionPipeline.restore(
        config.snapshot()
        | {
            "steps": [
                config.steps[0].model_dump(mode="json") | fields,
                *config.snapshot()["steps"][1:],
            ]
        }
    )


async def stage_1(desk: Desk, **texts: str) -> Texts:
    taken, verdict = await input_stage.run(desk.request, desk.services, texts)
    assert verdict.allowed
    return taken


async def stage_2(
    desk: Desk, text: str = ENGLISH, language: str = "en", instruction: str = "", **more: str
) -> Texts:
    texts = {"prompt": text} | more
    if instruction:
        desk.asked(instruction=instruction)
    given = Texts({part: Text(words, language) for part, words in texts.items()})
    return await interception.run(desk.request, desk.services, given)


# Stage 1.


async def test_a_text_is_corrected_and_translated_by_the_model() -> None:
    """In one request: our instruction apart from the text, the languages named, a seed of its own;
    recorded as a step.
    """
    model = Written("A red cat in the rain.")
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=model)
    taken = await stage_1(desk, prompt=GERMAN)
    assert taken.parts == {"prompt": Text("A red cat in the rain.", "en")}
    (request,) = model.asked
    assert (request.task, request.text, request.language, request.output_language) == (
        "translate",
        GERMAN,
        "de",
        "en",
    )
    assert GERMAN not in request.instruction
    for demanded in ("Correct its spelling", "Translate it", "[square brackets]", "text alone"):
        assert demanded in request.instruction
    step, final = desk.all(TextWritten)
    assert (step.step, step.by, step.language, step.final) == ("translate", "model", "en", False)
    assert (final.by, final.language, final.final, desk.texts[final.path]) == (
        "model",
        "en",
        True,
        step.text,
    )
    assert taken.person_language == "de", "the person's language, for the sentences they read"


async def test_an_english_text_is_not_translated_again() -> None:
    """The model is asked for what is needed only."""
    model = Written("no")
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=model)
    assert (await stage_1(desk, prompt=ENGLISH)).by_part == {"prompt": ENGLISH}
    assert model.requests == [] and desk.all(TextWritten)[0].by == "user"


async def test_a_pipeline_may_ask_for_correction_alone() -> None:
    """The text stays in its language."""
    model = Written("Eine rote Katze sitzt im Regen.")
    desk = Desk({"translate": "near/x"}, change=changed(correct=True), near=model)
    taken = await stage_1(desk, prompt="Eine rohte Kaze sizt im Regen.")
    (taken_prompt,) = taken.parts.values()
    assert (taken_prompt.words, taken_prompt.language) == (
        "Eine rote Katze sitzt im Regen.",
        "de",
    )
    assert model.asked[0].output_language == "de"
    assert "Correct" in model.asked[0].instruction and "Translate" not in model.asked[0].instruction


@pytest.mark.parametrize(
    ("asks", "skipped"),
    [({"translate": True}, "Translation skipped"), ({"correct": True}, "Correction skipped")],
)
async def test_without_a_model_it_is_recorded_as_skipped(
    asks: dict[str, bool], skipped: str
) -> None:
    """The text goes on as it is, and the recording says why."""
    desk = Desk(change=changed(**asks))
    assert (await stage_1(desk, prompt=GERMAN)).by_part == {"prompt": GERMAN}
    (note,) = desk.all(Warned)
    assert skipped in note.message and "DEVPIPE_MODEL_TRANSLATE" in note.message


async def test_a_pipeline_that_asks_for_neither_asks_nobody() -> None:
    """Most of ours work in any language."""
    model = Written("no")
    assert (await stage_1(Desk({"translate": "near/x"}, near=model), prompt=GERMAN)).by_part == {
        "prompt": GERMAN
    }
    assert model.requests == []


async def test_several_texts_are_translated_each_for_itself() -> None:
    """By their own language and seed; those that need nothing stay."""
    model = Written(lambda request: f"translated {request.text}")
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=model)
    taken = await stage_1(
        desk,
        prompt=GERMAN,
        prompt_2=ENGLISH,
        prompt_3="Un chat rouge dort sous le vieux pont de pierre.",
    )
    assert (
        taken.by_part["prompt"] == f"translated {GERMAN}" and taken.by_part["prompt_2"] == ENGLISH
    )
    assert {text.language for text in taken.parts.values()} == {"en"}
    assert [request.language for request in model.asked] == ["de", "fr"]
    assert len({request.seed for request in model.asked}) == 2
    assert [where.part for where in desk.all(TextWritten) if where.step == "translate"] == [
        "prompt",
        "prompt_3",
    ]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("A [Feierabend] mood at the [Späti].", "A [Feierabend] mood at the [Späti]."),
        ("A Feierabend mood at the [Späti].", "A [Feierabend] mood at the [Späti]."),
        (
            'Here is the translation:\n\n"A [Feierabend] mood at the [Späti]."',
            "A [Feierabend] mood at the [Späti].",
        ),
    ],
)
async def test_bracketed_words_are_kept(answer: str, kept: str) -> None:
    """Letter by letter; brackets that the model forgot are put back; what it said is kept raw where
    we changed it.
    """
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=Written(answer))
    assert (
        await stage_1(desk, prompt="Eine [Feierabend] Stimmung am [Späti] an der Ecke.")
    ).by_part == {"prompt": kept}
    step = next(one for one in desk.all(TextWritten) if one.step == "translate")
    assert step.raw == ("" if answer == kept else answer)


async def test_a_lost_bracketed_word_is_asked_for_again() -> None:
    """Once, under another seed that the run's seed fixes; the first answer is recorded as
    partial.
    """
    model = Written("A leisure mood.", "A [Feierabend] mood.")
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=model)
    assert (await stage_1(desk, prompt="Eine [Feierabend] Stimmung am Abend.")).by_part == {
        "prompt": "A [Feierabend] mood."
    }
    first, second = model.asked
    assert first.seed != second.seed and first.text == second.text
    assert [(one.text, one.partial) for one in desk.all(TextWritten) if one.step] == [
        ("A leisure mood.", True),
        ("A [Feierabend] mood.", False),
    ]
    assert desk.seen.strip() == "A [Feierabend] mood."


async def test_a_bracketed_word_is_never_silently_dropped() -> None:
    """After the second try the run fails, and says which words."""
    model = Written("A leisure mood.")
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=model)
    with pytest.raises(Rejected, match=r"\[Feierabend\]"):
        await stage_1(desk, prompt="Eine [Feierabend] Stimmung am Abend.")
    assert len(model.requests) == 2 and not [one for one in desk.all(TextWritten) if one.final]


FAILURES = {
    "down": (Unavailable("Down."), Unavailable), "rejected": (Rejected("No."), Rejected), "cut": (CutOff("Half.", partial="A red"), CutOff),
    "length": (TextResult("A red", finish_reason="length"), CutOff), "empty": ("", Rejected), "bug": (RuntimeError("bug"), RuntimeError),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_original_never_goes_on_where_translation_failed(
    tmp_path: Path, failure: str
) -> None:
    """In Stage 1 and in Stage 3: the run fails, and nothing is made of the text in the other
    language.
    """
    answer, error = FAILURES[failure]
    for stage in ("input", "pre_output"):
        media = ScriptedBackend([small_media()])
        engine = engine_in(
            tmp_path / stage,
            backends={"near": Written(answer), "procedural": media},
            DEVPIPE_MODEL_TRANSLATE="near/x",
        )
        if stage == "input":
            asked = changed(translate=True)(engine.catalogue.interceptions["passthrough"])
            engine.catalogue.interceptions["passthrough"] = asked  # type: ignore[index]
        else:
            spec = engine.catalogue.outputs["sketch"].snapshot() | {"translate_to": "en"}
            engine.catalogue.outputs["sketch"] = OutputConfig.restore(spec)  # type: ignore[index]
        run = engine.start(GERMAN, pipeline="passthrough", output="sketch", **SMALL)
        with pytest.raises(error):
            await run
        assert run.outcome == "failed" and media.requests == [] and verify(run.recording) == []
        assert run.summary.stages[stage].outcome == "failed"
        engine.close()


async def test_a_refused_translation_blocks(tmp_path: Path) -> None:
    """A model's no is an outcome, here as everywhere."""
    media = ScriptedBackend([small_media()])
    near = Written(TextResult("", refused="I will not translate this."))
    engine = engine_in(
        tmp_path, backends={"near": near, "procedural": media}, DEVPIPE_MODEL_TRANSLATE="near/x"
    )
    asked = changed(translate=True)(engine.catalogue.interceptions["passthrough"])
    engine.catalogue.interceptions["passthrough"] = asked  # type: ignore[index]
    run = await engine.run(GERMAN, pipeline="passthrough", **SMALL)
    assert (
        run.outcome == "blocked"
        and run.summary.stages["input"].reason == "I will not translate this."
        and media.requests == []
    )
    engine.close()


async def test_a_translation_is_checked_as_well() -> None:
    """What a model made of a harmless text is not harmless because the text was."""
    desk = Desk(
        {"translate": "near/x"}, change=changed(translate=True), near=Written("Heil Hitler")
    )
    taken, verdict = await input_stage.run(desk.request, desk.services, {"prompt": GERMAN})
    assert not verdict.allowed and taken.by_part == {"prompt": "Heil Hitler"}
    assert [one.allowed for one in desk.all(VerdictGiven)] == [True, False]


# Stage 2.


async def test_the_instruction_and_the_text_stay_apart() -> None:
    """In the language of the text, the person's own instruction after the pipeline's, the text
    alone as what is rewritten.
    """
    model = Written("umgeschrieben")
    desk = Desk({"interception": "near/x"}, near=model)
    await stage_2(desk, GERMAN, "de", instruction="Sei laut.")
    (request,) = model.asked
    own = desk.request.pipeline.steps[0].instruction.de
    assert request.instruction == f"{own}\n\nSei laut." and request.text == GERMAN
    assert (request.language, request.output_language, request.temperature) == ("de", "de", 1.0)
    sent = desk.all(AttemptStarted)[0]
    assert (sent.backend, sent.model, sent.seed, sent.task) == (
        "near",
        "x",
        request.seed,
        "interception",
    )
    assert sent.request["instruction"] == request.instruction and sent.request["temperature"] == 1.0


async def test_who_wrote_a_text_is_who_answered() -> None:
    """A procedure that stood in for a model is recorded as one."""
    for models, by in (
        ("near/x", "model"),
        ("down/x, near/y", "model"),
        ("down/x, procedural", "procedure"),
        ("procedural", "procedure"),
    ):
        desk = Desk(
            {"interception": models}, near=Written("rewritten"), down=Written(Unavailable("Down."))
        )
        await stage_2(desk)
        assert [one.by for one in desk.all(TextWritten)] == [by], models


async def test_a_chain_of_languages_names_each(tmp_path: Path) -> None:
    """Every iteration is asked in the language that the one before wrote, for the next; at the end
    that of the person.
    """
    model = Written(lambda request: f"text in {request.output_language}")
    desk = Desk({"interception": "near/x"}, pipeline="stille_post", language="de", near=model)
    texts = await stage_2(desk, GERMAN, "de")
    asked = model.asked
    assert [request.output_language for request in asked] == [
        "fr",
        "tr",
        "ja",
        "ar",
        "fi",
        "es",
        "sw",
        "de",
    ]
    assert [request.language for request in asked] == [
        "de",
        "fr",
        "tr",
        "ja",
        "ar",
        "fi",
        "es",
        "sw",
    ]
    assert [request.text for request in asked] == [
        GERMAN,
        *(f"text in {one}" for one in ("fr", "tr", "ja", "ar", "fi", "es", "sw")),
    ]
    assert len({request.seed for request in asked}) == 8
    assert texts.parts == {"prompt": Text("text in de", "de")}
    written = desk.all(TextWritten)
    assert [(one.iteration, one.language, one.final) for one in written] == [
        (number, request.output_language, number == 7) for number, request in enumerate(asked)
    ]


async def test_every_token_reaches_every_follower_as_what_it_belongs_to(tmp_path: Path) -> None:
    """Each piece names its stage, step and iteration; together they are the answer."""
    model = Written(Streamed("a ", "drawn ", "cat", then=TextResult("a drawn cat", model="m")))
    engine = engine_in(tmp_path, backends={"near": model}, DEVPIPE_MODEL_INTERCEPTION="near/x")
    followers: list[list[TextStreamed]] = [[], []]
    run = engine.start("a cat", pipeline="stille_post", **SMALL)
    for seen in followers:
        run.follow(
            lambda one, seen=seen: seen.append(one) if isinstance(one, TextStreamed) else None
        )  # type: ignore[misc]
    await run
    for seen in followers:
        for iteration in range(8):
            pieces = [one for one in seen if one.iteration == iteration]
            assert "".join(one.text for one in pieces) == "a drawn cat" and {
                one.step for one in pieces
            } == {"whisper"}
            assert len(pieces) == 3 and not any(one.restarted for one in pieces)
    engine.close()


async def test_chatter_goes_and_what_was_said_is_kept_raw() -> None:
    """The next step reads the text alone."""
    said = 'Sure! Here is your prompt:\n\n"A red cat."\n\nLet me know if you want changes!'
    model = Written(said)
    desk = Desk({"interception": "near/x"}, pipeline="stille_post", near=model)
    await stage_2(desk)
    assert {request.text for request in model.asked[1:]} == {"A red cat."}
    assert {(one.text, one.raw) for one in desk.all(TextWritten)} == {("A red cat.", said)}


async def test_a_backends_own_raw_answer_goes_before_ours() -> None:
    """Where a backend took a model's thoughts away, what it was told is what is kept."""
    desk = Desk(
        {"interception": "near/x"},
        near=Written(TextResult("A red cat.", model="m", raw="<think>hm</think>A red cat.")),
    )
    await stage_2(desk)
    assert [(one.text, one.raw) for one in desk.all(TextWritten)] == [
        ("A red cat.", "<think>hm</think>A red cat.")
    ]


async def test_a_procedures_text_is_never_read_as_chatter() -> None:
    """Cut-up may begin with anything."""
    desk = Desk(pipeline="passthrough", change=with_none)
    await stage_2(desk, "Here is your prompt: a cat")
    desk = Desk()
    desk.asked(pipeline=with_step(procedure="keep")(desk.request.pipeline))
    assert (await stage_2(desk, "Here is your prompt: a cat")).by_part == {
        "prompt": "Here is your prompt: a cat"
    }


def with_none(config: InterceptionPipeline) -> InterceptionPipeline:
    return config


SPLIT = {"prompt": "a red cat", "prompt_2": "sits in the rain under the old bridge"}


def split_desk(*answers: Any, **models: str) -> Desk:
    return Desk({"split": "near/x"} | models, pipeline="split_and_combine", near=Written(*answers))


async def test_a_split_is_read_from_json() -> None:
    """Chatter and fences around it are taken away and kept raw; each part is a text of its own."""
    said = f"Sure! Here you go:\n```json\n{json.dumps(SPLIT)}\n```\nLet me know if you need more."
    desk = split_desk(said)
    assert (await stage_2(desk)).by_part == SPLIT
    assert [(one.part, one.text, one.by, one.raw, one.final) for one in desk.all(TextWritten)] == [
        (name, text, "model", said, True) for name, text in SPLIT.items()
    ]
    (request,) = desk.backends["near"].asked  # type: ignore[attr-defined]
    assert request.parts == ("prompt", "prompt_2") and request.task == "split"


async def test_a_lost_word_is_asked_for_by_name() -> None:
    """The second request says what is missing, under another seed; the first answer is recorded as
    partial.
    """
    short = SPLIT | {"prompt_2": "sits in the rain"}
    desk = split_desk(json.dumps(short), json.dumps(SPLIT))
    assert (await stage_2(desk)).by_part == SPLIT
    first, second = desk.backends["near"].asked  # type: ignore[attr-defined]
    assert "under, old, bridge" in second.instruction and second.instruction.startswith(
        first.instruction
    )
    assert second.seed != first.seed and second.text == first.text
    assert [one.text for one in desk.all(TextWritten) if one.partial] == [json.dumps(short)]
    assert json.loads(desk.seen) == SPLIT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (json.dumps(SPLIT | {"prompt_2": "sits in the rain"}), "under, old, bridge"),
        ("I cannot do that.", "no JSON object"),
        (json.dumps({"prompt": ENGLISH}), "parts are 'prompt'"),
        (json.dumps({"prompt": "", "prompt_2": ""}), "red, cat"),
    ],
)
async def test_a_split_that_stays_wrong_fails_the_run(answer: str, said: str) -> None:
    """After one second chance, with what is wrong; no word of the person's is lost in silence."""
    desk = split_desk(answer)
    with pytest.raises(Rejected) as caught:
        await stage_2(desk)
    assert said in caught.value.message
    assert len(desk.backends["near"].requests) == 2  # type: ignore[attr-defined]
    assert not [one for one in desk.all(TextWritten) if one.final]


async def test_an_empty_part_is_no_second_text() -> None:
    """A text that is all main thing has one part."""
    desk = split_desk(json.dumps({"prompt": ENGLISH, "prompt_2": " "}))
    assert (await stage_2(desk)).by_part == {"prompt": ENGLISH}


async def test_a_split_into_another_language_is_not_counted() -> None:
    """The words of a translation are other words."""
    desk = split_desk(json.dumps({"prompt": "eine rote Katze", "prompt_2": "im Regen"}))
    desk.asked(pipeline=with_step(output_language="de")(desk.request.pipeline))
    texts = await stage_2(desk)
    assert [(part, text.language) for part, text in texts.parts.items()] == [
        ("prompt", "de"),
        ("prompt_2", "de"),
    ]


async def test_the_procedural_split_still_works() -> None:
    """By rule, without any of the above."""
    desk = Desk(pipeline="split_and_combine")
    texts = await stage_2(desk)
    assert set(texts.by_part) == {"prompt", "prompt_2"}
    assert {one.by for one in desk.all(TextWritten)} == {"procedure"} and not any(
        one.raw for one in desk.all(TextWritten)
    )


# Endings.


@pytest.mark.parametrize("told", ["a drawn", ""])
async def test_what_came_of_a_cut_stream_is_kept_as_partial(tmp_path: Path, told: str) -> None:
    """By the backend's word or by what streamed; the run fails, and the partial text is no
    result.
    """
    model = Written(Streamed("a ", "drawn", then=CutOff("The stream ended early.", partial=told)))
    engine = engine_in(tmp_path, backends={"near": model}, DEVPIPE_MODEL_INTERCEPTION="near/x")
    run = engine.start("a cat", pipeline="dada", **SMALL)
    with pytest.raises(CutOff):
        await run
    written = [
        one.event
        for one in run.recording.events
        if isinstance(one.event, TextWritten) and one.event.stage == "interception"
    ]
    assert [(one.text, one.partial, one.final, one.step) for one in written] == [
        ("a drawn", True, False, "cut_up")
    ]
    assert run.summary.to_json()["stages"]["interception"]["iterations"] == []
    assert (
        "interception" not in run.texts and run.outcome == "failed" and verify(run.recording) == []
    )
    engine.close()


async def test_a_cancelled_stream_leaves_its_partial_text(tmp_path: Path) -> None:
    """The attempt is recorded as cancelled, after what had come."""
    model = Written(Streamed("a ", "drawn"))
    engine = engine_in(tmp_path, backends={"near": model}, DEVPIPE_MODEL_INTERCEPTION="near/x")
    run = engine.start("a cat", pipeline="dada", **SMALL)
    streaming = asyncio.Event()
    loop = asyncio.get_running_loop()
    run.follow(
        lambda one: (
            loop.call_soon_threadsafe(streaming.set)
            if isinstance(one, TextStreamed) and one.text == "drawn"
            else None
        )
    )
    await asyncio.wait_for(streaming.wait(), 60)
    run.cancel()
    await asyncio.wait_for(_ended(run), 60)
    events = [one.event for one in run.recording.events]
    (partial,) = [one for one in events if isinstance(one, TextWritten) and one.partial]
    (attempt,) = [one for one in events if isinstance(one, AttemptFinished)]
    assert (
        partial.text == "a drawn"
        and attempt.outcome == "cancelled"
        and events.index(partial) < events.index(attempt)
    )
    assert run.outcome == "cancelled" and verify(run.recording) == []
    engine.close()


async def _ended(run: Run) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_a_judges_words_are_not_shown_to_those_who_wrote_the_text() -> None:
    """It may repeat what it judges: nothing of it streams, and half an answer of it is no text of
    the run.
    """
    desk = Desk({"judge": "near/x"}, near=Written(Streamed("SA", then=CutOff("Cut."))))
    with pytest.raises(CutOff):
        await desk.services.text.judge(TextRequest("judge", "a cat"), Where("input", step="judge"))
    await desk.commit()
    assert desk.emitted == [] and desk.all(TextWritten) == []
    assert [one.outcome for one in desk.all(AttemptFinished)] == ["failed"]


async def test_a_stage_that_begins_again_begins_a_new_text() -> None:
    """The same step of a run taken twice: followers show the second."""
    desk = Desk({"interception": "near/x"}, near=Written("first", "second"))
    for _ in range(2):
        await stage_2(desk)
    assert desk.seen.strip() == "second"


# Stage 3.


def output_with(desk: Desk, **fields: Any) -> None:
    desk.asked(output=OutputConfig.restore(desk.request.output.snapshot() | fields))


async def stage_3(
    desk: Desk, texts: dict[str, str], language: str = "de", **more: Any
) -> tuple[MediaRequest, VerdictGiven]:
    given = Texts({part: Text(words, language) for part, words in texts.items()})
    desk.asked(images=more.pop("images", {}), parameters=more.pop("parameters", {}))
    return await pre_output.run(desk.request, desk.services, given, original=given, **more)


async def test_the_text_is_translated_for_the_output_and_then_checked() -> None:
    """The verdict is on what is sent, not on what it was made from."""
    model = Written("A red cat, [Feierabend].")
    desk = Desk({"translate": "near/x"}, near=model)
    output_with(desk, translate_to="en")
    request, verdict = await stage_3(desk, {"prompt": "Eine rote Katze, [Feierabend]."})
    assert request.texts == {"prompt": "A red cat, [Feierabend]."} and request.languages == {
        "prompt": "en"
    }
    assert verdict.allowed and verdict.sha256 == request.sha256()
    assert (
        "Translate it" in model.asked[0].instruction and "Correct" not in model.asked[0].instruction
    )
    assert [(one.step, one.final, one.by) for one in desk.all(TextWritten)] == [
        ("translate", False, "model"),
        ("", True, "rule"),
    ]


@pytest.mark.parametrize(("language", "noted"), [("de", 1), ("en", 0)])
async def test_an_output_that_gets_another_language_than_its_own_says_so(
    language: str, noted: int
) -> None:
    """Without a model to translate the text goes on as it is, and a reader of the recording
    knows.
    """
    desk = Desk({})
    output_with(desk, translate_to="en")
    request, _ = await stage_3(desk, {"prompt": GERMAN}, language)
    await desk.commit()
    notes = [one.message for one in desk.all(Warned)]
    assert request.texts == {"prompt": GERMAN} and len(notes) == noted
    assert all("skipped" in note and "DEVPIPE_MODEL_TRANSLATE" in note for note in notes)


async def test_a_bad_translation_for_the_output_is_blocked() -> None:
    """The words of the translation decide."""
    desk = Desk({"translate": "near/x"}, near=Written("Heil Hitler"))
    output_with(desk, translate_to="en")
    request, verdict = await stage_3(desk, {"prompt": GERMAN})
    assert not verdict.allowed and verdict.sha256 == request.sha256()


async def test_the_negative_prompt_reaches_stage_4() -> None:
    """What the level adds is in the request that the verdict covers."""
    desk = Desk({"translate": "near/x"}, near=Written("A red cat."))
    negative = {
        "negative_prompt": {"type": "string", "description": {"en": "x", "de": "x"}, "default": ""}
    }
    output_with(
        desk, translate_to="en", parameters=desk.request.output.snapshot()["parameters"] | negative
    )
    request, verdict = await stage_3(
        desk, {"prompt": GERMAN}, parameters={"negative_prompt": "fog"}
    )
    assert request.parameters["negative_prompt"] == f"fog, {verdict.negative_prompt}" != "fog, "
    assert verdict.sha256 == request.sha256()


async def test_a_parameter_named_like_a_text_hides_nothing() -> None:
    """Each word that would be sent is checked under a name of its own."""
    desk = Desk({})
    called_so = {"prompt": {"type": "string", "description": {"en": "x", "de": "x"}, "default": ""}}
    output_with(desk, parameters=desk.request.output.snapshot()["parameters"] | called_so)
    _, verdict = await stage_3(desk, {"prompt": "Pornografie"}, parameters={"prompt": "ein Haus"})
    assert not verdict.allowed


@pytest.mark.parametrize(
    ("given", "now", "asked_again"),
    [
        ("sha256:a", "sha256:a", False),
        ("sha256:a", "sha256:b", True),
        ("sha256:a", "", True),
        ("", "", True),
    ],
)
async def test_a_verdict_is_reused_while_its_judge_is_the_same(
    given: str, now: str, asked_again: bool
) -> None:
    """The weights behind a name change, or nobody can tell: then the judge looks again."""
    judge = Written(lambda request: TextResult("SAFE", model="guard", digest=given), digest=given)
    desk = Desk({"judge": "near/guard"}, near=judge)
    _, verdict = await stage_3(desk, {"prompt": GERMAN})
    assert verdict.allowed and verdict.method == "rules+judge"
    looks = len(judge.requests)
    judge.weights = now
    _, again = await stage_3(
        desk,
        {"prompt": GERMAN},
        before=Before(verdict=verdict.model_copy(update={"source": "earlier"})),
    )
    assert (again.source == "earlier") is not asked_again
    assert (len(judge.requests) > looks) is asked_again


async def test_a_verdict_of_a_judge_that_is_gone_is_not_reused() -> None:
    """Nobody can say whether it would say so again: the check is made anew, and blocks."""

    class Gone(Written):
        async def digest(self, model: str) -> str:
            raise Unavailable("Gone.")

    desk = Desk(
        {"judge": "near/guard"},
        near=Written(TextResult("SAFE", model="guard", digest="d"), digest="d"),
    )
    _, verdict = await stage_3(desk, {"prompt": GERMAN})
    desk = Desk({"judge": "near/guard"}, near=Gone(Unavailable("Gone.")))
    _, again = await stage_3(
        desk,
        {"prompt": GERMAN},
        before=Before(verdict=verdict.model_copy(update={"source": "earlier"})),
    )
    assert verdict.allowed and not again.allowed and not again.source


async def test_the_judges_identity_is_asked_inside_the_boundary_only() -> None:
    """Not even the question which weights a far server has goes out."""
    far, near = Written(place="world", digest="far"), Written(digest="near")
    assert (
        await Desk(
            {"judge": "local: far/x, near/y"}, far=far, near=near
        ).services.text.judge_digest()
        == "near"
    )
    assert await Desk({"judge": "local: far/x"}, far=far).services.text.judge_digest() is None
    assert await Desk().services.text.judge_digest() == ""
    assert far.digests == 0


# All of them.


async def test_several_texts_and_pictures_go_through_all_stages_with_models(tmp_path: Path) -> None:
    """Two texts and a mask, as the media pipeline declares them: translated, rewritten and sent
    under their names.
    """
    translator, writer = (
        Written(lambda request: f"en:{request.text}"),
        Written(lambda request: f"<{request.text}>"),
    )
    media = ScriptedBackend([small_media()])
    engine = engine_in(
        tmp_path,
        backends={"t": translator, "w": writer, "procedural": media},
        DEVPIPE_MODEL_TRANSLATE="t/x",
        DEVPIPE_MODEL_INTERCEPTION="w/y",
    )
    asked = changed(translate=True)(engine.catalogue.interceptions["dada"])
    engine.catalogue.interceptions["dada"] = asked  # type: ignore[index]
    catalogue = engine.catalogue
    spec = catalogue.media["dual_text_media_generation"].snapshot() | {"images": ["image", "mask"]}
    catalogue.media["dual_text_media_generation"] = MediaPipeline.restore(spec)  # type: ignore[index]
    prompts = {
        "prompt": "Eine rote Katze sitzt im Regen.",
        "prompt_2": "Ein alter Hund schläft unter der Brücke.",
    }
    pictures = {"image": small_picture(), "mask": small_picture((255, 255, 255))}
    run = await engine.run(prompts, pipeline="dada", output="sketch_fusion", **pictures)
    assert run.outcome == "completed"
    sent = media.requests[0]
    assert isinstance(sent, MediaRequest)
    assert sent.texts == {part: f"<en:{text}>" for part, text in prompts.items()} and set(
        sent.images
    ) == {"image", "mask"}
    assert verify(run.recording) == []
    engine.close()


async def test_a_model_that_may_depict_anything_is_asked_only_after_its_judge(
    tmp_path: Path,
) -> None:
    """A judge as a chain: the second one decides where the first is down, and both attempts are
    recorded.
    """
    media = ScriptedBackend(
        [Media(small_picture(), "image/png", 64, 64, alt="red")], procedural=False
    )
    judges = {"down": Written(Unavailable("Down.")), "near": Written("SAFE")}
    engine = engine_in(
        tmp_path,
        backends=judges | {"procedural": media},
        DEVPIPE_MODEL_JUDGE="local: down/x, near/y",
    )
    run = await engine.run("a red cat", **SMALL)
    assert run.outcome == "completed" and run.verdicts[-1].method == "rules+judge"
    judged = [
        one.event
        for one in run.events
        if isinstance(one.event, AttemptStarted) and one.event.task == "judge"
    ]
    assert [one.backend for one in judged] == ["down", "near"] * (len(judged) // 2) and judged
    engine.close()


async def test_without_any_judge_inside_the_boundary_nothing_is_made(tmp_path: Path) -> None:
    """A judge that may not be asked gives no verdict, and without one nothing passes."""
    media, far = ScriptedBackend([small_media()]), Written("SAFE", place="world")
    engine = engine_in(
        tmp_path,
        backends={"far": far, "procedural": media},
        DEVPIPE_MODEL_JUDGE="far/x",
        DEVPIPE_BOUNDARY="local",
    )
    run = await engine.run("a red cat", **SMALL)
    assert run.outcome == "blocked" and far.requests == [] and media.requests == []
    engine.close()


def test_the_catalogues_lint_asks_no_model(
    monkeypatch: pytest.MonkeyPatch, network: NetworkGuard
) -> None:
    """With models at hand it stays a matter of rules: no address is looked up, nothing connects."""
    for task in ("TRANSLATE", "INTERCEPTION", "JUDGE", "SPLIT"):
        monkeypatch.setenv(f"DEVPIPE_MODEL_{task}", "ollama/mistral-nemo")
    catalogue = load_catalogue(REPOSITORY)
    worse = changed(
        steps=[
            catalogue.interceptions["dada"].snapshot()["steps"][0]
            | {"instruction": {"en": "Make it better.", "de": "Mach es besser."}}
        ]
    )
    catalogue.interceptions["dada"] = worse(catalogue.interceptions["dada"])  # type: ignore[index]
    assert {fault.file for fault in lint(catalogue)} == {"pipelines/dada.json"}
    assert network.refused == []
