"""Whatever has to be stripped, decoded, joined or chosen before it is the allowing answer blocks."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import unicodedata
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import engine_in, small_media

from devpipe.errors import BackendError
from devpipe.safety.check import check
from devpipe.safety.families import Family, shipped_families
from devpipe.testing import Answer, Loopback, ScriptedBackend
from devpipe.values import Level, Stage, TextResult

BLANKS = {  # all that some function of some library takes away
    f"U+{ord(blank):04X}": blank
    for blank in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029"
    "\u202f\u205f\u3000\ufeff\u200b\u200c\u200d\u2060\u00ad\u180e\u200e\u202e\x00\x07\x08\x1b "
}
THOUGHTS = (
    "<think>Hm.</think>{0}", "<think></think>\n\n{0}", "<think>a</think><think>b</think>{0}", "<think>UNSAFE: violence</think>{0}",
    "<thinking>Hm.</thinking>{0}", "<reasoning>Hm.</reasoning>{0}", "Hm.</think>{0}", "[THINK]Hm.[/THINK]{0}", "{0}<think>Hm.</think>",
    "◁think▷Hm.◁/think▷{0}", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{0}",
    "assistantanalysisHm.assistantfinal{0}", "Thinking...\nHm.\n...done thinking.\n\n{0}",
)  # fmt: skip
AROUND = (
    "**{0}**", "*{0}*", "`{0}`", "```\n{0}\n```", "# {0}", "- {0}", "> {0}", "1. {0}", '"{0}"', "'{0}'", "„{0}“", "«{0}»", "({0})", "[{0}]",
    "<answer>{0}</answer>", "<b>{0}</b>", "\\boxed{{{0}}}", "${0}$", "{0}.", "{0}!", "{0},", "{0};", "{0}:", "...{0}", "{0}...", "({0}", "{0})",
    "Answer: {0}", "Verdict: {0}", "assistant: {0}", "The answer is {0}", "{0} because it is a cat", "It is {0}", "not {0}", "NOT {0}",
    "{0} {0}", "{0}\n{0}", "{0}, {0}", "{0}/{0}", "{0}?", "{0} (mostly)", "✅ {0}", "{0} ✅", "{0}<|eot_id|>", "{0}</s>", "<s>{0}", "{0}<|im_end|>",
    "[INST]{0}[/INST]", "{0}<end_of_turn>", "SAFE or UNSAFE? {0}", "{0}\nUNSAFE: violence", "UNSAFE: violence\n{0}", "{0} UNSAFE", "UN{0}", "un{0}",
)  # fmt: skip


def _lookalikes(answer: str) -> str:
    return answer.translate(str.maketrans("SAFEafeNo", "ЅАҒЕаfеΝо"))


def _wide(answer: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in answer)


def inexact(answer: str) -> Iterator[tuple[str, str]]:
    """What is nearly the answer, each with what was done to it."""
    for name, blank in BLANKS.items():
        yield f"{name} before", blank + answer
        yield f"{name} behind", answer + blank
        yield f"{name} inside", answer[:1] + blank + answer[1:]
    for form in (*THOUGHTS, *AROUND):
        yield form, form.format(answer)
    yield "small", answer.lower()
    yield "large", answer.upper()
    yield "turned", answer.swapcase()
    yield "half", answer[: len(answer) // 2]
    yield "all but its end", answer[:-1]
    yield "one more letter", answer + answer[-1]
    yield "spaced", " ".join(answer)
    yield "turned round", answer[::-1]
    yield "wide", _wide(answer)
    yield "lookalikes", _lookalikes(answer)
    yield "accents", unicodedata.normalize("NFD", answer.replace("a", "á").replace("A", "Á"))
    yield "a mark on it", answer + "\u0332"
    yield "entities", "".join(f"&#{ord(one)};" for one in answer)
    yield "escaped HTML", html.escape(f"<i>{answer}</i>")
    yield "a link", urllib.parse.quote(answer, safe="").replace("S", "%53").replace("N", "%4E")
    yield "base64", base64.b64encode(answer.encode()).decode()
    yield "hex", answer.encode().hex()
    yield "a JSON text", json.dumps(answer)
    yield "a JSON object", json.dumps({"verdict": answer})
    yield "a JSON list", json.dumps([answer])
    yield "escapes", "".join(f"\\u{ord(one):04x}" for one in answer)
    yield "bytes", repr(answer.encode())
    yield "nothing", ""
    yield "of another script", "БЕЗОПАСНО"
    yield "in German", "SICHER"


FAMILIES = shipped_families()
ALLOWING = [(family, answer) for family in FAMILIES for answer in family.examples["allows"]]
IDS = [f"{family.name} {answer!r}" for family, answer in ALLOWING]
MODELS = {
    "ours": "ollama/test",
    "llama_guard": "ollama/llama-guard3:8b",
    "qwen3_guard": "ollama/qwen3guard:4b",
    "shieldgemma": "ollama/shieldgemma:2b",
    "granite_guardian": "ollama/granite3-guardian:8b",
}


def test_each_family_has_a_model_here() -> None:
    assert list(MODELS) == [family.name for family in FAMILIES]


@pytest.mark.parametrize(("family", "answer"), ALLOWING, ids=IDS)
def test_nothing_but_the_exact_answer_allows(family: Family, answer: str) -> None:
    """More than 150 ways for each family to be nearly right; the answers of other families, too."""
    tried = [*inexact(answer), *[(name, other) for name, other in _of_others(family)]]
    allowed = []
    for how, said in tried:
        if said in family.examples["allows"]:
            continue  # e.g. the line ends that are Llama Guard's own form
        try:
            if family.read(TextResult(said))[0]:
                allowed.append((how, said))
        except BackendError:
            pass
    assert allowed == [] and len(tried) > 150
    assert family.read(TextResult(answer)) == (True, ())  # the control


def _of_others(family: Family) -> Iterator[tuple[str, str]]:
    for other in FAMILIES:
        if other is not family:
            yield from ((other.name, answer) for answer in other.examples["allows"])


@pytest.mark.parametrize("level", ["kids", "youth"])
@pytest.mark.parametrize("stage", ["input", "pre_output"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_an_inexact_judge_blocks_at_each_level_and_stage(
    family: Family, stage: Stage, level: Level
) -> None:
    """Through the check itself: blocked, with a sentence for the child and the cause for adults."""

    async def allowed(said: str) -> bool:
        async def ask(instruction: str, message: str) -> TextResult:
            return TextResult(said, model="stub")

        verdict = await check(
            {"prompt": "a cat in the rain"},
            stage=stage,
            level=level,
            sha256="0",
            language="de",
            ask_judge=ask,
            needs_judge=True,
            judge_model=MODELS[family.name],
        )
        assert verdict.allowed or (verdict.reason and verdict.cause)
        return verdict.allowed

    answers = family.examples["allows"]
    for _, said in inexact(answers[0]):
        assert said in answers or not await allowed(said), said
    for exact in answers:
        assert await allowed(exact)


def _ollama(*messages: str, done: str = ', "done": true, "done_reason": "stop"') -> bytes:
    lines = [f'{{"model": "test", "message": {one}, "done": false}}' for one in messages]
    return "\n".join([*lines, f'{{"model": "test"{done}}}', ""]).encode()


def _openai(*choices: str, finish: str = "stop") -> bytes:
    events = [f'data: {{"choices": [{one}]}}' for one in choices]
    end = f'data: {{"choices": [{{"index": 0, "delta": {{}}, "finish_reason": "{finish}"}}]}}'
    return "\n\n".join([*events, end, "data: [DONE]", ""]).encode()


SAFE = '{"role": "assistant", "content": "SAFE"}'
DELTA = '{"index": 0, "delta": {"content": "SAFE"}}'
WIRE: dict[str, tuple[str, Answer]] = {
    "a part of an answer": ("ollama", Answer(raw=_ollama(SAFE), status=206)),
    "a part of a stream": ("openai_compatible", Answer(raw=_openai(DELTA), status=206)),
    "from a cache that may be old": ("ollama", Answer(raw=_ollama(SAFE), status=203)),
    "less than was promised": (
        "ollama",
        Answer(raw=_ollama(SAFE), headers={"Content-Length": "4096"}, ending="cut"),
    ),
    "a stream that lost its end": (
        "openai_compatible",
        Answer(raw=_openai(DELTA)[:-14], headers={"Content-Length": "4096"}, ending="cut"),
    ),
    "a key twice": ("ollama", Answer(raw=_ollama('{"content": "UNSAFE", "content": "SAFE"}'))),
    "two messages in one line": (
        "ollama",
        Answer(raw=b'{"message": {"content": "UNSAFE"}, ' + _ollama(SAFE)[1:]),
    ),
    "two choices": ("openai_compatible", Answer(raw=_openai(f"{DELTA}, {DELTA}"))),
    "another's choice": ("openai_compatible", Answer(raw=_openai(DELTA.replace("0", "1", 1)))),
    "a thought": ("ollama", Answer(["<think>Hm.</think>", "SAFE"])),
    "two thoughts": ("ollama", Answer(["<think>a</think>", "<think>b</think>", "SAFE"])),
    "a thought of another spelling": ("openai_compatible", Answer(["[THINK]Hm.[/THINK]", "SAFE"])),
    "a tab": ("ollama", Answer(["\tSAFE"])),
    "a no-break space": ("openai_compatible", Answer(["\u00a0", "SAFE"])),
    "a byte order mark": ("openai_compatible", Answer(["\ufeffSAFE"])),
    "a line end": ("ollama", Answer(["SAFE", "\n"])),
    "a blank": ("ollama", Answer([" ", "SAFE"])),
    "a tool's message": ("ollama", Answer(raw=_ollama(SAFE.replace("assistant", "tool")))),
    "the prompt again": ("ollama", Answer(raw=_ollama(SAFE.replace("assistant", "user")))),
    "another word for the end": ("openai_compatible", Answer(raw=_openai(DELTA, finish="eos"))),
    "half a character": ("ollama", Answer(raw=_ollama('{"content": "SAFE\\ud83d"}'))),
    "parts": (
        "openai_compatible",
        Answer(raw=_openai('{"delta": {"content": [{"type": "text", "text": "SAFE"}]}}')),
    ),
    "a refusal beside it": (
        "openai_compatible",
        Answer(raw=_openai('{"delta": {"content": "SAFE", "refusal": "No."}}')),
    ),
}


@pytest.mark.loopback
@pytest.mark.parametrize("level", ["kids", "youth"])
@pytest.mark.parametrize("fault", WIRE)
async def test_a_judge_that_is_not_exact_on_the_wire_lets_nothing_pass(
    tmp_path: Path, fault: str, level: str
) -> None:
    """Through the real backends and all of a run: nothing is asked of the picture's backend."""
    backend, answer = WIRE[fault]
    for script, asked, expected in (([answer], 1, "blocked"), (["SAFE", answer], 2, "blocked")):
        with Loopback(script) as server:
            media = ScriptedBackend([small_media()], procedural=False)
            environ = server.environment(backend, tasks=["judge"])
            engine = engine_in(
                tmp_path, backends={"procedural": media}, DEVPIPE_SAFETY=level, **environ
            )
            run = await engine.run("a cat in the rain")
            await asyncio.to_thread(engine.close)
            assert run.outcome == expected, run.verdicts
            assert media.requests == [] and not run.artifacts
            assert len(server.chats) >= asked, "the fault was really met"


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("backend", "raw"), [("ollama", _ollama(SAFE)), ("openai_compatible", _openai(DELTA))]
)
async def test_the_same_answers_without_a_fault_are_allowing(
    tmp_path: Path, backend: str, raw: bytes
) -> None:
    """The control: what the cases above block is blocked by their faults alone."""
    with Loopback([Answer(raw=raw)]) as server:
        media = ScriptedBackend([small_media()], procedural=False)
        environ = server.environment(backend, tasks=["judge"])
        engine = engine_in(tmp_path, backends={"procedural": media}, **environ)
        run = await engine.run("a cat in the rain")
        await asyncio.to_thread(engine.close)
    assert run.outcome == "completed" and len(media.requests) == 1, run.verdicts


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_reader_that_strips_fails_this_corpus(family: Family) -> None:
    """How a judge must not be read: with blanks taken away, or whatever the case."""
    answer = family.examples["allows"][0]
    stripped = [said for _, said in inexact(answer) if said.strip() == answer]
    folded = [said for _, said in inexact(answer) if said.lower() == answer.lower()]
    assert len(stripped) >= 20 and len(folded) >= 2
