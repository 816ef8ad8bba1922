"""Whatever breaks in the check, nothing is shown; and what is sent is what was checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from engines import REPOSITORY, engine_in, small_media, small_picture

from devpipe import Engine
from devpipe.config.models import OutputConfig
from devpipe.engine.run import Run
from devpipe.errors import BackendError, CutOff, RateLimited, Rejected, Unavailable
from devpipe.record.events import AttemptStarted, Previewed, StageFinished
from devpipe.safety import judge
from devpipe.safety.policy import NEGATIVE
from devpipe.testing import DROP, HANG, Answer, Loopback, ScriptedBackend
from devpipe.values import LOCAL_COST, MediaRequest, MediaResult, TextRequest, TextResult, Workflow

LEVELS = ("kids", "youth")
SMALL = {"width": 64, "height": 64}
STAGES = ("input", "pre_output")
PATIENCE_S = "2"  # for a judge who never answers: until then, a busy machine has asked it


async def hang(_: object) -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def late(_: object) -> TextResult:
    """Says SAFE after it was called off."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return TextResult("SAFE")
    raise AssertionError


class Odd(ScriptedBackend):
    """Answers with what its script says, also where that is no answer."""

    async def write(self, request: TextRequest, emit: object) -> TextResult:
        answer = await self._next(request)
        return TextResult("SAFE", model="script", cost=LOCAL_COST) if answer == "SAFE" else answer  # type: ignore[return-value]


SAYINGS = {
    "empty": "", "blank": " \n\t ", "bold unsafe": "**UNSAFE**", "verdict unsafe": "Verdict: unsafe", "verdict safe": "Verdict: SAFE",
    "half JSON": '{"verdict": "SAFE', "JSON": '{"safe": true}', "two verdicts": "SAFE\nUNSAFE: violence",
    "two verdicts turned": "UNSAFE: violence\nSAFE", "other language": "SICHER", "small letters": "safe", "bold safe": "**SAFE**",
    "with reasons": "SAFE, because it is only a cat.",
    "a sentence": "This text is safe for children.", "a refusal in words": "I cannot help with that.", "the other family": "unsafe\nS1",
    "an unknown category": "UNSAFE: cats", "negated": "NOT SAFE", "thinking aloud": "<think>a cat</think>SAFE",
}  # fmt: skip


def _odd(*answers: object) -> ScriptedBackend:
    return Odd([answers[-1]] if len(answers) == 1 else answers)  # type: ignore[arg-type,list-item]


SCRIPTED: dict[str, Callable[[], object]] = {
    **{name: (lambda text=text: text) for name, text in SAYINGS.items()},
    "cut off": lambda: TextResult("SAFE", finish_reason="length"), "filtered": lambda: TextResult("SAFE", finish_reason="content_filter"),
    "refused": lambda: TextResult("SAFE", refused="not by me"), "unavailable": lambda: Unavailable("down.", hint="start it."),
    "stream lost": lambda: CutOff("lost.", partial="SAFE"), "rejected": lambda: Rejected("no."), "a bug": lambda: ZeroDivisionError("ours"),
    "no answer at all": lambda: Odd, "a picture": lambda: MediaResult((small_media(),)),
    "no text inside": lambda: TextResult(None),  # type: ignore[arg-type]
    "slow": lambda: hang, "too late": lambda: late,
}  # fmt: skip


@dataclass(frozen=True)
class Wire:
    """A fault of a server, met by the backend that speaks its protocol."""

    backend: str
    answer: Answer
    slow: bool = False


WIRE = {
    "ollama drops": Wire("ollama", DROP),
    "ollama hangs": Wire("ollama", HANG, slow=True),
    "ollama 500": Wire("ollama", Answer(status=500, error="out of memory")),
    "ollama not pulled": Wire("ollama", Answer(status=404, error="model 'test' not found")),
    "ollama stops in the middle": Wire("ollama", Answer(["SAFE", " "], ending="cut", after=1)),
    "ollama fails in the middle": Wire("ollama", Answer(["SAFE", " "], ending="error", after=1)),
    "ollama at its limit": Wire("ollama", Answer("SAFE", finish="length")),
    "ollama not JSON": Wire("ollama", Answer(raw=b"<html>SAFE</html>")),
    "openai 401": Wire("openai_compatible", Answer(status=401, error="bad key")),
    "openai 503": Wire("openai_compatible", Answer(status=503, error="loading")),
    "openai filters": Wire("openai_compatible", Answer("SAFE", finish="content_filter")),
    "openai refuses": Wire("openai_compatible", Answer(refusal="SAFE")),
    "openrouter 402": Wire("openrouter", Answer(status=402, error="no credit")),
    "openrouter fails inside a 200": Wire(
        "openrouter", Answer("SAFE", ending="error", after=1, error="overloaded")
    ),
    "openrouter says nothing": Wire("openrouter", Answer("")),
    "openrouter 429": Wire(
        "openrouter", Answer(status=429, error="too many", headers={"Retry-After": "600"})
    ),
}
LISTS = ("missing", "cut in half", "emptied", "a folder in its place")


def test_there_are_at_least_forty_ways_to_fail() -> None:
    """Twelve and more of them at the wire; with two levels and two stages, 160 cases and more."""
    assert len(SCRIPTED) + len(WIRE) + len(LISTS) >= 40 and len(WIRE) >= 12


def nothing_was_shown(run: Run, media: ScriptedBackend, stage: str, level: str) -> None:
    """The run is blocked at this stage with a friendly sentence and a cause, and no picture was
    asked for or written.
    """
    assert run.outcome == "blocked" and run.summary.stages[stage].outcome == "blocked"
    assert media.requests == [] and not run.artifacts and not list(run.folder.glob("*.png"))
    assert not [one for one in run.events if isinstance(one.event, Previewed)]
    verdict = run.verdicts[-1]
    assert not verdict.allowed and verdict.level == level and verdict.stage == stage
    assert "Das kann ich gerade nicht prüfen" in verdict.reason or verdict.categories != [
        "unchecked"
    ]
    assert verdict.cause and "\n" not in verdict.cause and verdict.cause != verdict.reason


async def blocked_run(
    folder: Path, judging: ScriptedBackend | None, stage: str, level: str, **environ: str
) -> Run:
    """A run whose judge fails at this stage, with pictures by a model that could show anything."""
    media = ScriptedBackend([small_media()], procedural=False)
    backends = {"procedural": media} | ({"judge": judging} if judging else {})
    engine = engine_in(
        folder,
        backends=backends,
        DEVPIPE_SAFETY=level,
        **{"DEVPIPE_MODEL_JUDGE": "judge/x"} | environ,
    )
    try:
        run: Run = await engine.run("Eine Katze sitzt im Garten unter dem Apfelbaum und schläft")
    finally:
        await asyncio.to_thread(engine.close)
    nothing_was_shown(run, media, stage, level)
    return run


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("fault", SCRIPTED)
async def test_a_judge_that_fails_lets_nothing_pass(
    tmp_path: Path, fault: str, level: str, stage: str
) -> None:
    """Each way to fail, when the input and when the output is checked: blocked, and the judge was
    really asked.
    """
    answer = SCRIPTED[fault]()
    answer = None if answer is Odd else answer
    judging = _odd("SAFE", answer) if stage == "pre_output" else _odd(answer)
    run = await blocked_run(
        tmp_path,
        judging,
        stage,
        level,
        DEVPIPE_JUDGE_SECONDS=PATIENCE_S if fault in ("slow", "too late") else "30",
    )
    assert len(judging.requests) == 1 + STAGES.index(stage)
    assert run.verdicts[-1].method == "rules+judge"


@pytest.mark.loopback
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("fault", WIRE)
async def test_a_judge_that_fails_at_the_wire_lets_nothing_pass(
    tmp_path: Path, fault: str, level: str, stage: str
) -> None:
    """The same through the real backends: the server was asked, and nothing passed."""
    wire = WIRE[fault]
    with Loopback(["SAFE", wire.answer] if stage == "pre_output" else [wire.answer]) as server:
        environ = server.environment(wire.backend, tasks=["judge"]) | {
            "DEVPIPE_JUDGE_SECONDS": PATIENCE_S if wire.slow else "30"
        }
        await blocked_run(tmp_path, None, stage, level, **environ)
        assert len(server.chats) >= 1 + STAGES.index(stage)
        messages = server.chats[-1].body["messages"]
        assert [one["role"] for one in messages] == ["system", "user"] and "Apfelbaum" in messages[
            1
        ]["content"]


@pytest.mark.loopback
@pytest.mark.parametrize("backend", ["ollama", "openai_compatible", "openrouter"])
async def test_the_same_judge_without_a_fault_lets_a_cat_pass(tmp_path: Path, backend: str) -> None:
    """What the cases above block is blocked by their faults alone; Llama Guard gets the text
    without any of our words.
    """
    for model, word in (("test", "SAFE"), ("llama-guard3:8b", "\n\nsafe")):
        with Loopback([word], models=("test", "llama-guard3:8b")) as server:
            media = ScriptedBackend([small_media()], procedural=False)
            engine = engine_in(
                tmp_path,
                backends={"procedural": media},
                **server.environment(backend, tasks=["judge"], model=model),
            )
            run = await engine.run("a cat")
            await asyncio.to_thread(engine.close)
            assert (
                run.outcome == "completed" and len(media.requests) == 1 and len(server.chats) == 2
            ), run.verdicts
            if word != "SAFE":
                assert server.chats[0].body["messages"] == [{"role": "user", "content": "a cat"}]


def careless(result: TextResult) -> bool:
    """How a judge must not be read."""
    return result.text.strip().upper().startswith("SAFE")


def more_careless(result: TextResult) -> bool:
    """Nor so."""
    return "unsafe" not in result.text


@pytest.mark.parametrize("reader", [careless, more_careless])
def test_a_careless_reader_fails_this_corpus(reader: Callable[[TextResult], bool]) -> None:
    """The answers above tell a careless reader from an exact one: he lets several pass,
    ours none.
    """
    answers = [
        *map(TextResult, SAYINGS.values()),
        TextResult("SAFE", finish_reason="length"),
        TextResult("SAFE", refused="no"),
    ]
    assert sum(map(reader, answers)) >= 5
    for answer in answers:
        with contextlib.suppress(BackendError):
            assert not judge.read_answer(answer)[0]


LIST_SCRIPT = """
import asyncio, json, pathlib, shutil, sys
sys.path[:0] = [sys.argv[1], sys.argv[2] + "/tests"]
import devpipe
assert devpipe.__file__.startswith(sys.argv[1])
from engines import engine_in, small_media
from devpipe.errors import UsageError
from devpipe.safety.rules import TERMS
from devpipe.testing import ScriptedBackend

def fail(file, how):
    kept = file.read_bytes()
    file.unlink()
    if how == "cut in half":
        file.write_bytes(kept[: len(kept) // 2])
    elif how == "emptied":
        file.write_text("{}")
    elif how == "a folder in its place":
        file.mkdir()
    return kept

async def tried(level, run_id):
    media, judging = ScriptedBackend([small_media()], procedural=False), ScriptedBackend(["SAFE"])
    engine = engine_in(pathlib.Path(sys.argv[3]), backends={"procedural": media, "judge": judging},
                       DEVPIPE_MODEL_JUDGE="judge/x", DEVPIPE_SAFETY=level)
    try:
        await (engine.regenerate(run_id, width=64) if run_id else engine.run("a cat"))
        error = ""
    except UsageError as refused:
        error = str(refused)
    engine.close()
    return {"error": error, "asked": len(media.requests) + len(judging.requests), "level": level, "again": bool(run_id)}

told = []
for file in sorted(path for path in TERMS.rglob("*.json")):
    for how in sys.argv[5:]:
        if (file.name, how) == ("innocent.json", "emptied"):
            continue  # exceptions to the rules: without them more is blocked, not less
        kept = fail(file, how)
        for level in ("kids", "youth"):
            for run_id in ("", json.loads(sys.argv[4])[level]):
                told.append({"file": file.name, "how": how} | asyncio.run(tried(level, run_id)))
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        file.write_bytes(kept)
told.append(asyncio.run(tried("youth", "")))
print(json.dumps(told))
"""


async def test_without_its_lists_nothing_is_asked(tmp_path: Path) -> None:
    """Each list missing or broken, at both levels, from the start and from Stage 3 of an earlier
    run: refused, nobody asked.
    """
    import shutil

    copy, recordings, ids = tmp_path / "package", tmp_path / "recordings", {}
    shutil.copytree(
        REPOSITORY / "devpipe", copy / "devpipe", ignore=shutil.ignore_patterns("__pycache__")
    )
    for level in LEVELS:
        media, judging = (
            ScriptedBackend([small_media()], procedural=False),
            ScriptedBackend(["SAFE"]),
        )
        backends = {"procedural": media, "judge": judging}
        engine = engine_in(
            recordings, backends=backends, DEVPIPE_MODEL_JUDGE="judge/x", DEVPIPE_SAFETY=level
        )
        ids[level] = (await engine.run("a cat")).id
        await asyncio.to_thread(engine.close)
    arguments = [str(copy), str(REPOSITORY), str(recordings), json.dumps(ids), *LISTS]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LIST_SCRIPT, *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *broken, healthy = json.loads(done.stdout)
    assert len(broken) >= 2 * len(LISTS) * 4
    for one in broken:
        assert "term list" in one["error"] and one["asked"] == 0, one
    assert (
        healthy["error"] == "" and healthy["asked"] == 3
    )  # the judge twice and the picture: it was the lists that stopped the others


# Checked is sent.

WORDS = (
    "Katze",
    "rain",
    "Häuser",
    "ñandú",
    "雨",
    "кот",
    "blau",
    "[Turm]",
    "7",
    "🙂",
    "e\u0301",
    "“so”",
    "a,b;c",
    "<b>",
    "\\n",
    "{x}",
    "%20",
)


class Watcher:
    """A judge that keeps what it read, and says no to one text in eight."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, request: TextRequest | MediaRequest) -> str:
        assert isinstance(request, TextRequest)
        self.read.append(request.text)
        return "UNSAFE: violence" if "nein" in request.text else "SAFE"


def some_text(chance: random.Random) -> str:
    """Words of many scripts under a word that no other text has."""
    words = [f"x{chance.randrange(10**12):012d}", *chance.choices(WORDS, k=chance.randint(1, 9))]
    words += ["nein"] if chance.random() < 0.06 else []
    chance.shuffle(words)
    return chance.choice((" ", "\n", " \t")).join(words)


async def some_run(engine: Engine, chance: random.Random, before: list[str]) -> Run:
    """A run in any of the ways in which a person can ask for one."""
    how: dict[str, object] = {"negative_prompt": some_text(chance)} if chance.random() < 0.5 else {}
    if chance.random() < 0.5:
        how |= {"width": 64 * chance.randint(1, 8), "height": 64 * chance.randint(1, 8)}
    picture = small_picture((chance.randrange(256), 9, 9))
    match chance.randrange(8 if before else 6):
        case 0:
            return await engine.run(some_text(chance), **how)
        case 1:
            return await engine.run(
                some_text(chance), pipeline="user_defined", instruction=some_text(chance), **how
            )
        case 2:
            how.pop("negative_prompt", None)
            return await engine.run(
                {"prompt": some_text(chance), "prompt_2": some_text(chance)},
                output="sketch_fusion",
                **how,
            )
        case 3:
            how.pop("negative_prompt", None)
            return await engine.run(
                some_text(chance),
                output="sketch_inpaint",
                image=picture,
                mask=small_picture((255, 255, 255)),
            )
        case 4:
            return await engine.run(some_text(chance), pipeline="dada", **how)
        case 5:
            run = engine.open(pipeline="dada", **how)
            if await acted(run.input(some_text(chance)), run) and await acted(run.intercept(), run):
                await acted(run.check(some_text(chance)), run)
            if run.outcome is None:
                await run.generate(seed=chance.randint(1, 99))
            return run
        case 6:
            return await engine.regenerate(chance.choice(before), text=some_text(chance), **how)
        case _:
            return await engine.regenerate(chance.choice(before), **how)


async def acted(step: object, run: Run) -> bool:
    await step  # type: ignore[misc]
    return run.outcome is None


def user_strings(sent: MediaRequest) -> list[str]:
    """Every text in a request that is not of ours."""
    ours = NEGATIVE["youth"]
    words = [
        value.removesuffix(ours).removesuffix(", ")
        for value in sent.parameters.values()
        if isinstance(value, str)
    ]
    return [text for text in (*sent.texts.values(), *words) if text]


@pytest.mark.parametrize("many", [100, pytest.param(1_000, marks=pytest.mark.faults)])
async def test_what_is_sent_is_what_was_checked(tmp_path: Path, many: int) -> None:
    """So many runs of every kind: the allowing verdict has the hash of all that was sent, and the
    judge had read every word of it.
    """
    chance, watcher, runs = random.Random(20261130), Watcher(), list[Run]()
    media = ScriptedBackend([small_media()], procedural=False)
    text = ScriptedBackend([lambda _: some_text(chance)])
    backends = {"procedural": media, "judge": ScriptedBackend([watcher]), "text": text}
    environ = {"DEVPIPE_MODEL_JUDGE": "judge/x", "DEVPIPE_MODEL_INTERCEPTION": "text/x"}
    engine = engine_in(tmp_path, backends=backends, **environ)
    let_take_negative(engine, "sketch")
    known: list[str] = []
    while len(runs) < many:
        new = await asyncio.gather(*[some_run(engine, chance, known[-40:]) for _ in range(25)])
        known += [
            run.id
            for run in new
            if run.outcome == "completed" and run._session.request.output.name == "sketch"
        ]
        runs += new
    await asyncio.to_thread(engine.close)
    sent = [request for request in media.requests if isinstance(request, MediaRequest)]
    of_verdict = {
        verdict.sha256
        for run in runs
        for verdict in run.verdicts
        if verdict.stage == "pre_output" and verdict.allowed
    }
    intents = [
        one.event
        for run in runs
        for one in run.events
        if isinstance(one.event, AttemptStarted) and one.event.task == "media"
    ]
    assert len(sent) == len(intents) == sum(run.outcome == "completed" for run in runs) > many // 2
    assert sorted(one.sha256 for one in intents) == sorted(request.sha256() for request in sent)
    for request in sent:
        assert request.sha256() in of_verdict
        strings = user_strings(request)
        assert any(all(string in read for string in strings) for read in watcher.read), request
        assert not any("nein" in string for string in strings)
    assert all(run.outcome in ("completed", "blocked") for run in runs) and any(
        run.outcome == "blocked" for run in runs
    )
    blocked = [
        one.event
        for run in runs
        for one in run.events
        if isinstance(one.event, StageFinished) and one.event.outcome == "blocked"
    ]
    assert {event.stage for event in blocked} >= {"input", "pre_output"}


def let_take_negative(engine: Engine, name: str) -> None:
    spec = engine.catalogue.outputs[name].snapshot()
    spec["parameters"]["negative_prompt"] = {
        "type": "string",
        "default": "",
        "description": {"en": "What not.", "de": "Was nicht."},
    }
    engine.catalogue.outputs[name] = OutputConfig.restore(spec)  # type: ignore[index]


def test_the_hash_covers_every_field_but_the_seed_and_how_the_request_travels() -> None:
    """A field that is added to the request cannot be forgotten: each one changes the hash."""
    request = MediaRequest("image", {"prompt": "a"}, workflow=Workflow({}, {}))
    deciding = {field.name for field in fields(MediaRequest) if field.compare}
    assert set(request.described()) == deciding - {"seed", "fallback"}
    travels = {field.name for field in fields(MediaRequest)} - deciding
    assert travels == {
        *("boundary", "level", "deadline", "request_id", "idempotency_key", "sent_before")
    }
    other = replace(request, texts={"prompt": "b"})
    assert replace(request, fallback=(other,)).sha256() not in (request.sha256(), other.sha256())


@pytest.mark.parametrize(
    ("first", "then"), [("SAFE", "SAFE"), ("SAFE", RateLimited("wait.", retry_after=99.0))]
)
async def test_a_verdict_is_given_anew_where_the_judges_weights_changed(
    tmp_path: Path, first: object, then: object
) -> None:
    """The same text, level and policy, but another digest: the judge is asked again, and where it
    cannot answer, nothing is made.
    """
    judging, media = (
        Weighed([first, first, then]),
        ScriptedBackend([small_media()], procedural=False),
    )
    engine = engine_in(
        tmp_path, backends={"judge": judging, "procedural": media}, DEVPIPE_MODEL_JUDGE="judge/x"
    )
    run = await engine.run("a cat")
    same = await engine.regenerate(run.id)
    assert same.outcome == "completed" and len(judging.requests) == 2
    judging.weights = "other"
    again = await engine.regenerate(run.id)
    await asyncio.to_thread(engine.close)
    assert len(judging.requests) == 3 and again.outcome == (
        "completed" if then == "SAFE" else "blocked"
    )
    assert len(media.requests) == 2 + (then == "SAFE")


class Weighed(ScriptedBackend):
    """A judge whose weights can be replaced."""

    def __init__(self, answers: Iterable[object]) -> None:
        super().__init__(answers)  # type: ignore[arg-type]
        self.weights = "first"

    async def digest(self, model: str) -> str:
        return self.weights

    async def write(self, request: TextRequest, emit: object) -> TextResult:
        said = await self._next(request)
        return TextResult(str(said), model="x", digest=self.weights, cost=LOCAL_COST)


# Texts of another day.


async def of_a_looser_day(folder: Path) -> str:
    """A run at adult of what kids may not see, and from it one whose Stage 1 was taken over."""
    adults = engine_in(folder, DEVPIPE_SAFETY="adult")
    first = await adults.run("Pornografie", **SMALL)
    again = await adults.regenerate(first.id, pipeline="dada")
    adults.close()
    assert (first.outcome, again.outcome) == ("completed", "completed")
    return again.id


@pytest.mark.parametrize("act", ["replay", "resume"])
async def test_a_text_of_a_looser_day_is_checked_before_a_model_sees_it(
    tmp_path: Path, act: str
) -> None:
    """Stage 1's verdict of another level does not count: the run is blocked, and no text model is
    asked.
    """
    run_id = await of_a_looser_day(tmp_path)
    model = ScriptedBackend(["a drawing"])
    kids = engine_in(
        tmp_path,
        backends={"near": model},
        DEVPIPE_SAFETY="kids",
        DEVPIPE_MODEL_INTERCEPTION="near/x",
    )
    if act == "replay":
        outcome = kids.recordings.find((await kids.replay(run_id)).run_id).summary.outcome
    else:
        events = kids.recordings.find(run_id).folder / "events.jsonl"
        lines = events.read_bytes().splitlines(keepends=True)
        ends = next(
            n for n, line in enumerate(lines) if b'"stage_finished","stage":"input"' in line
        )
        events.write_bytes(b"".join(lines[: ends + 1]))
        outcome = (await kids.resume(run_id)).outcome
    kids.close()
    assert outcome == "blocked" and model.requests == []


async def test_a_verdict_by_rules_does_not_count_for_a_model_that_depicts(tmp_path: Path) -> None:
    """The same backend name draws by rule no longer: it needs a judge, also where an earlier
    verdict allows the text.
    """
    drawn, depicted = (
        ScriptedBackend([small_media()], procedural=procedural) for procedural in (True, False)
    )
    first = engine_in(tmp_path, backends={"procedural": drawn})
    run = await first.run("a cat", **SMALL)
    first.close()
    second = engine_in(tmp_path, backends={"procedural": depicted})
    again = await second.regenerate(run.id, seed=5)
    second.close()
    assert run.outcome == "completed" and again.outcome == "blocked" and depicted.requests == []
