"""Answers as models really give them: thoughts and marks of every family, foreign endings, no end.

All at the wire: a server of this machine says what the models say.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines import engine_in

from devpipe import Engine
from devpipe.backends.base import Delta, Emit
from devpipe.backends.chat import CHARACTERS_A_TOKEN, Chat, Writing
from devpipe.backends.ollama import Ollama
from devpipe.backends.openai_compatible import OpenAICompatible
from devpipe.backends.openrouter import OpenRouter
from devpipe.config.settings import Settings
from devpipe.errors import BackendError, CutOff, Rejected
from devpipe.record.events import TextStreamed, TextWritten, Warned
from devpipe.testing import Answer, Loopback
from devpipe.text import chatter
from devpipe.text.chatter import (
    ending_of,
    marks_in,
    shortened,
    without_chatter,
    without_thoughts,
)
from devpipe.values import TextRequest

pytestmark = pytest.mark.loopback
BACKENDS = ("ollama", "openai_compatible", "openrouter")
TEXT = "Regen zerschnitten, die Katze als Fahrplan."
THOUGHT = "The user wants a cut-up. Tear the sentence."
TABLES: dict[str, dict[str, str]] = tomllib.loads(
    Path(chatter.__file__).with_name("chatter.toml").read_text("utf-8")
)
THOUGHTS = TABLES["thoughts"] | TABLES["monologues"]
HARMONY = (
    f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>"
)
ANSWERS = {  # as the families' templates spell a whole turn
    "gpt-oss": f"{HARMONY}{TEXT}",
    "gpt-oss, final only": f"<|channel|>final<|message|>{TEXT}",
    "gpt-oss, to its end": f"{HARMONY}{TEXT}<|return|>",
    "gpt-oss, first mark gone": HARMONY.removeprefix("<|channel|>") + TEXT,
    "gpt-oss, all marks gone": f"analysis{THOUGHT}assistantfinal{TEXT}",
    "gpt-oss, with a preamble": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant"
    "<|channel|>commentary<|message|>I will cut.<|end|><|start|>assistant<|channel|>final<|message|>"
    f"{TEXT}<|end|>",
    "gpt-oss, in a form": f"<|channel|>final <|constrain|>text<|message|>{TEXT}<|return|>",
    "Gemma 4": f"<|channel>thought\n{THOUGHT}<channel|>{TEXT}<turn|>",
    "Gemma": f"<start_of_turn>model\n{TEXT}<end_of_turn>\n",
    "Kimi K3": f"<|open|>think<|sep|>{THOUGHT}<|close|>think<|sep|><|open|>response<|sep|>{TEXT}"
    "<|close|>response<|sep|><|close|>message<|sep|>",
    "Kimi VL": f"◁think▷{THOUGHT}◁/think▷{TEXT}",
    "Command A": f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{TEXT}<|END_RESPONSE|>",
    "Apertus": f"<|inner_prefix|>{THOUGHT}<|inner_suffix|>{TEXT}<|assistant_end|>",
    "Hunyuan": f"<think>\n{THOUGHT}\n</think>\n<answer>\n{TEXT}\n</answer>",
    "Ernie": f"<think>\n{THOUGHT}\n</think>\n\n\n<response>\n{TEXT}\n</response>\n",
    "Magistral": f"[THINK]{THOUGHT}[/THINK]{TEXT}</s>",
    "Muse Glimmer": f"to=self<|message|>{THOUGHT}<|eom|><|start|>assistant to=user<|message|>{TEXT}<|eot|>",
    "Granite": f"Here is my thought process:\n{THOUGHT}\nHere is my response:\n{TEXT}",
    "Apriel": f"Here are my reasoning steps:\n{THOUGHT}\n[BEGIN FINAL RESPONSE]\n{TEXT}\n[END FINAL RESPONSE]",
    "OpenThoughts": f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>\n<|begin_of_solution|>{TEXT}<|end_of_solution|>",
    "Solar, begun in the prompt": f"{THOUGHT}<|think:end|>{TEXT}",
    "DeepSeek": f"<think>{THOUGHT}</think>{TEXT}<｜end▁of▁sentence｜>",
    "two thoughts": f"<think>{THOUGHT}</think>\n<think>Again.</think>\n{TEXT}",
    "ChatML": f"<|im_start|>assistant\n{TEXT}<|im_end|>",
    "Llama 3": f"<|start_header_id|>assistant<|end_header_id|>\n\n{TEXT}<|eot_id|>",
    "Granite 4": f"<|start_of_role|>assistant<|end_of_role|>{TEXT}<|end_of_text|>",
    "Mistral": f"[/INST] {TEXT}</s>",
    "Llama 2": f"<s> {TEXT} </s>",
    "Llama 2, twice": f"{TEXT}</s></s><s>",
    "Monarch": f"<s>assistant\n{TEXT}</s>",
    "Alpaca": f"### Response:\n{TEXT}\n\n### Instruction:",
    "Swallow": f"### 応答:\n{TEXT}",
    "Vicuna": f"{TEXT}</s>\nUSER:",
    "Orion": f"{TEXT}\n\nHuman:",
    "OpenChat": f"GPT4 Correct Assistant: {TEXT}<|end_of_turn|>",
    "OpenChatKit": f"<bot>: {TEXT}\n<human>:",
    "MiniCPM": f"<AI>{TEXT}<用户>",
    "Idefics": f"{TEXT}<end_of_utterance>",
    "Alfred": f"<start_assistant>{TEXT}<end_message>",
    "Bakllava": f"<im_start>assistant\n{TEXT}<im_end>",
    "unknown tokens": f"<unk>{TEXT}<unk><unk>",
    "a tag with attributes": f"<think id=1>{THOUGHT}</think>{TEXT}",
    "a tag over two lines": f"<think\n>{THOUGHT}</think\n>{TEXT}",
    "an empty tag": f"<think/>x</think>{TEXT}",
    "Open WebUI": '<details type="reasoning" done="true" duration="5">\n<summary>Thought for 5 seconds'
    f"</summary>\n> {THOUGHT}\n</details>\n{TEXT}",
    "escaped": f"&lt;think&gt;{THOUGHT}&lt;/think&gt;{TEXT}",
    "full width": f"＜think＞{THOUGHT}＜/think＞{TEXT}",
    "half a mark": f"{TEXT}<|im_",
    "half an end": f"{TEXT}</thi",
    "less than half": f"{TEXT}<|",
}  # fmt: skip
# Marks in plain words, which a text may hold, too, are shown as they come.
IN_WORDS = ("Alpaca", "Swallow", "Vicuna", "Orion", "OpenChat", "OpenChatKit")
TURNS = {  # what is in the middle of a text, or all of it: no prompt
    "Llama 2": "Eine Katze.</s>Ein Hund.",
    "Llama 2, its prompt": f"{TEXT} [INST] Und ein Hund? [/INST] Ein Hund.",
    "Mistral's tools": '[TOOL_CALLS][{"name": "draw"}]',
    "Alpaca": f"{TEXT}\n\n### Instruction:\nNoch eins.\n\n### Response:\nEin Hund.",
    "Vicuna": f"{TEXT}\nUSER: Und ein Hund?\nASSISTANT: Ein Hund.",
    "Vicuna, in one line": f"{TEXT} USER: Und ein Hund? ASSISTANT: Ein Hund.",
    "Orion": f"{TEXT}\n\nHuman: Und?\n\nAssistant: Ein Hund.",
    "MiniCPM": f"{TEXT}<用户>Und?<AI>Ein Hund.",
    "a call": '<tool_call>\n{"name": "draw"}\n</tool_call>',
    "a token": "Eine <unk> Katze.",
    "an utterance": "Eine Katze<end_of_utterance> im Regen.",
    "a byte": "Eine Katze<0x0A>im Regen.",
    "an end within a sentence": "Die rote Katze </think> sitzt im Regen.",
    "an end as a word": "The tag </think> ends it.",
    "escaped": "Eine &lt;|im_start|&gt; Katze",
    "full width": "Eine ＜|im_end|＞ Katze",
    "escaped end": "Eine Katze &lt;/s&gt; und mehr",
}
PROSE = [
    "a <| b > c",
    "<|:o>",
    "a |> b <| c",
    "a < b and c > d",
    "I <3 you",
    "user: the person at the screen",
    "User: the person who draws",
    "The assistant: a robot.",
    "Human: hello.\nRobot: hi.",
    "### The cat\nIt rains.",
    "A <b>bold</b> cat <details><summary>x</summary>y</details>",
    "A cat, no <s>dog</s>",
    "<s>A dog</s> a cat, and a <s>mouse</s>",
    "<p>A cat &amp; a dog: 3 &lt; 4</p>",
    "Analysis of a dream: a cat.",
    "Analysis",
    "Thinking... the cat sits.",
    "Thinking...\nthe cat sits",
    "a [mask] on a [pad] of paper",
    "Instruction: none. Response: none.",
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """An engine whose texts a server writes, at the level `research`."""
    made: list[Engine] = []

    def engine(server: Loopback, backend: str) -> Engine:
        folder = tmp_path / f"recordings-{len(made)}"
        tasks = ("interception", "split", "translate")
        made.append(engine_in(folder, **server.environment(backend, tasks=tasks)))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def written(run: Any) -> list[TextWritten]:
    texts = [one.event for one in run.events if isinstance(one.event, TextWritten)]
    return [one for one in texts if one.stage == "interception"]


def emit_to(shown: list[str]) -> Emit:
    """What keeps each piece of a text that is shown."""
    return lambda piece: shown.append(piece.text) if isinstance(piece, Delta) else None


@pytest.mark.parametrize("family", ANSWERS)
def test_the_answer_of_every_family_is_its_text(family: str) -> None:
    """Nothing of thoughts and marks is left, in whatever pieces it comes; none is ever shown."""
    told = ANSWERS[family]
    assert without_thoughts(told) == TEXT and marks_in(TEXT) == []
    for size in (1, 3, 7, len(told)):
        shown: list[str] = []
        writing = Writing(TextRequest("interception", "eine Katze"), emit_to(shown))
        for start in range(0, len(told), size):
            writing.add(told[start : start + size])
        assert without_thoughts(writing.text) == TEXT
        in_words = told[0].isalpha() and size < 4  # of a word's first letters nobody can tell
        if family != "Solar, begun in the prompt" and not in_words:  # nor of what began before
            assert THOUGHT[:9] not in "".join(shown)
            assert not marks_in("".join(shown)) or family in IN_WORDS


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("text", PROSE)
def test_what_only_looks_like_a_mark_is_text(text: str, size: int) -> None:
    """Not a letter goes, in whatever pieces it comes, and nothing is refused."""
    writing = Writing(TextRequest("interception", "eine Katze"), emit_to([]))
    for start in range(0, len(text), size):
        writing.add(text[start : start + size])
    assert writing.text == without_chatter(text) == text and marks_in(text) == []


@pytest.mark.parametrize("turn", TURNS)
def test_what_is_left_of_a_turn_is_seen(turn: str) -> None:
    """Nothing that stood before a mark is dropped in silence, and none is drawn."""
    kept = without_chatter(TURNS[turn])
    assert marks_in(kept) and kept == TURNS[turn]


def test_the_thought_that_ollama_prints_goes_where_it_is_whole() -> None:
    """Its first line alone may begin a poem."""
    assert without_thoughts(f"Thinking...\n{THOUGHT}\n...done thinking.\n\n{TEXT}") == TEXT


@pytest.mark.parametrize("begin", THOUGHTS)
def test_every_thought_of_the_list_is_taken_away(begin: str) -> None:
    """chatter.toml: whole, doubled, empty; where its end alone tells, also without its beginning."""
    end = THOUGHTS[begin]
    for thought in (f"{begin}\n{THOUGHT}\n{end}", f"{begin}{end}", f"{begin}a{end}\n" * 2):
        assert without_thoughts(f"{thought}\n\n{TEXT}") == TEXT
    if begin in TABLES["thoughts"]:
        assert without_thoughts(f"{THOUGHT}\n{end}\n{TEXT}") == TEXT
        for broken in (f"{begin}{THOUGHT}", f"{TEXT}{begin}{THOUGHT}{end}", f"{TEXT}\n{begin}a"):
            assert marks_in(without_thoughts(broken)), "a thought that is left is seen"


@pytest.mark.parametrize("table", ["mark", "stray"])
def test_every_mark_of_the_list_is_seen(table: str) -> None:
    """chatter.toml: each line has an example, which is no part of a prompt."""
    for example in TABLES[table].values():
        assert marks_in(f"Eine Katze {example} im Regen.")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["gpt-oss", "gpt-oss, to its end", "Gemma 4", "Command A"])
def test_a_run_takes_the_answer_and_keeps_the_rest_as_raw(
    engine: Callable[..., Engine], backend: str, family: str
) -> None:
    """The text alone goes on; what was told stays in the recording; no thought was streamed."""
    with Loopback([Answer(ANSWERS[family])]) as server:
        run = engine(server, backend).start("eine Katze im Regen", pipeline="dada")
        streamed: list[str] = []
        run.follow(lambda one: streamed.append(one.text) if isinstance(one, TextStreamed) else None)
        run.wait()
    (text,) = [one for one in written(run) if one.final]
    assert (run.outcome, text.text, text.raw) == ("completed", TEXT, ANSWERS[family])
    assert "".join(streamed).strip() == TEXT


LEFT = {
    "a second turn": f"{TEXT}<|im_end|>\n<|im_start|>user\nAnd now a dog.",
    "a tool call": '<|channel|>commentary to=functions.draw<|message|>{"a": 1}<|call|>',
    "a thought behind it": f"{TEXT}<think>{THOUGHT}</think>",
    "unknown marks": f"Eine <|new_family|> Katze. {TEXT}",
    "a mark within": "Eine Katze <end_of_turn> im Regen.",
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", LEFT)
def test_an_answer_that_still_holds_marks_is_refused(
    engine: Callable[..., Engine], backend: str, case: str
) -> None:
    """Nothing is drawn of it, one line names the server's reasoning parser, it is kept."""
    with Loopback([Answer(LEFT[case])]) as server:
        run = engine(server, backend).start("eine Katze im Regen", pipeline="dada")
        with pytest.raises(Rejected, match=r"reasoning parser .*--reasoning-parser") as refused:
            run.wait()
        assert len(server.chats) == 1, "asked once"
    assert run.outcome == "failed" and not run.artifacts and "\n" not in str(refused.value)
    assert [one.partial for one in written(run)] == [True]


@pytest.mark.parametrize("begin", ["<think>", "[THINK]", "<|channel|>analysis<|message|>"])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_thought_without_its_end_is_no_answer(
    engine: Callable[..., Engine], begin: str, finish: str
) -> None:
    """Also where the limit cut it: it is neither shown nor drawn, and the message says so."""
    with Loopback([Answer(begin + THOUGHT, finish=finish)]) as server:
        run = engine(server, "openai_compatible").start("eine Katze", pipeline="dada")
        with pytest.raises(Rejected, match=r"nothing but thoughts.* switch its thinking off"):
            run.wait()
    assert not run.artifacts and not written(run)


def test_marks_in_an_answer_in_parts_are_refused_too(engine: Callable[..., Engine]) -> None:
    """A thought before the JSON is skipped, whatever stands in it."""
    parts = '{"prompt": "eine Katze", "prompt_2": "im Regen"}'
    maybe = (
        '<|channel|>analysis<|message|>Maybe {"prompt": "no"}?<|end|><|channel|>final<|message|>'
    )
    with Loopback([Answer(maybe + parts), Answer(f'{{"prompt": "<|x|>"}}{parts}')]) as server:
        made = engine(server, "openai_compatible")
        run = made.start(
            "eine Katze im Regen", pipeline="split_and_combine", output="sketch_fusion"
        )
        run.wait()
        assert run.texts["interception"] == {"prompt": "eine Katze", "prompt_2": "im Regen"}
        run = made.start(
            "eine Katze im Regen", pipeline="split_and_combine", output="sketch_fusion"
        )
        with pytest.raises(Rejected, match="reasoning parser"):
            run.wait()


# How servers say that it ended


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "word", ["stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE"]
)
def test_a_foreign_word_for_the_end_ends_an_answer(
    engine: Callable[..., Engine], backend: str, word: str
) -> None:
    """The whole answer counts."""
    with Loopback([Answer(TEXT, finish=word)]) as server:
        run = engine(server, backend).start("eine Katze", pipeline="dada")
        run.wait()
    assert run.outcome == "completed" and run.texts["interception"] == {"prompt": TEXT}


@pytest.mark.parametrize(
    "text", ["Regen,", "```\nRegen zerschnitten.", "A red cat sits, and", "eine (rote Katze"]
)
def test_a_foreign_word_counts_only_for_a_whole_form(
    engine: Callable[..., Engine], text: str
) -> None:
    """With an open fence or a comma at its end the answer is one that was cut."""
    with Loopback([Answer(text, finish="eos_token")]) as server:
        run = engine(server, "openai_compatible").start("eine Katze", pipeline="translate_en")
        with pytest.raises(CutOff):
            run.wait()


@pytest.mark.parametrize("word", ["tool_calls", "function_call", "because"])
def test_an_unknown_word_is_named_as_unknown(engine: Callable[..., Engine], word: str) -> None:
    """Not as an answer that ended early; what came is kept."""
    with Loopback([Answer(TEXT, finish=word)]) as server:
        run = engine(server, "openai_compatible").start("eine Katze", pipeline="dada")
        with pytest.raises(Rejected, match=f"'{word}', a word that devpipe does not know"):
            run.wait()
    assert [(one.text, one.partial) for one in written(run)] == [(TEXT, True)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "answer",
    [
        Answer("SAFE", finish="eos_token"),
        Answer("SAFE", finish="STOP"),
        Answer("<|channel|>final<|message|>SAFE"),
        Answer("<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>SAFE"),
        Answer("[THINK]Hm.[/THINK]SAFE"),
        Answer("SAFE<|im_end|>"),
        Answer("Hm.</think>SAFE"),
        Answer("<think>a</think><think>b</think>SAFE"),
    ],
)
def test_a_judge_is_read_to_the_letter(
    engine: Callable[..., Engine], tmp_path: Path, backend: str, answer: Answer
) -> None:
    """Foreign endings, thoughts and marks are no verdict: all of them block."""
    with Loopback([answer] * 2) as server:
        made = engine_in(tmp_path / "judged", **server.environment(backend, tasks=("judge",)))
        run = made.start("eine Katze", pipeline="dada")
        run.wait()
        made.close()
    assert run.outcome == "blocked" and not run.artifacts


@pytest.mark.parametrize("word", TABLES["endings"])
def test_every_ending_of_the_list_is_known_in_any_case(word: str) -> None:
    """chatter.toml: letters of any size."""
    first, *more = word.split("_")
    spellings = [word, word.upper(), word.replace("_", "-"), word.replace("_", " ")]
    spellings += [first + "".join(map(str.title, more)), f"FinishReason.{word.upper()}"]
    assert {ending_of(one) for one in spellings} == {TABLES["endings"][word]} <= {"whole", "cut"}


# How long an answer may be

LIMITS = {"ollama": "num_predict", "openai_compatible": "max_tokens", "openrouter": "max_tokens"}
WORD = "Katze! "


class Endless(httpx.AsyncByteStream):
    """An answer at the wire that heeds no limit; AssertionError where it is read to its end."""

    def __init__(self, piece: bytes, *, most: int, tick: Callable[[], None] = lambda: None) -> None:
        self.piece, self.most, self.tick = piece, most, tick
        self.given, self.closed = 0, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            assert self.given < self.most, "read far beyond the limit"
            self.given += 1
            self.tick()
            await asyncio.sleep(0)
            yield self.piece

    async def aclose(self) -> None:
        self.closed = True


def spoken(backend: str, **message: Any) -> bytes:
    """A piece of an answer as the server of a backend sends it."""
    if backend == "ollama":
        return json.dumps({"model": "test", "message": message, "done": False}).encode() + b"\n"
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": message}]}).encode() + b"\n\n"


def at_the_wire(backend: str, tmp_path: Path, body: httpx.AsyncByteStream) -> Chat:
    """A backend whose server answers with this body, and knows nothing else."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(("/api/chat", "/chat/completions")):
            return httpx.Response(200, stream=body)
        return httpx.Response(200, json={})

    kind = {"ollama": Ollama, "openai_compatible": OpenAICompatible, "openrouter": OpenRouter}
    settings = Settings.load(tmp_path, environ={"OPENROUTER_API_KEY": "sk-test-0123456789"})
    return kind[backend](settings, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("task", ["interception", "judge"])
async def test_a_server_that_heeds_no_limit_is_left_near_it(
    backend: str, task: Any, tmp_path: Path
) -> None:
    """After eight characters for each token; the connection is closed, the answer is cut."""
    body = Endless(spoken(backend, content=WORD), most=200)
    chat = at_the_wire(backend, tmp_path, body)
    shown: list[str] = []
    request = TextRequest(task, "eine Katze", model="test", max_tokens=100)
    result = await chat.write(request, emit_to(shown))
    await chat.close()
    assert result.finish_reason == "length" and body.closed
    assert result.text == "".join(shown) == (WORD * 200)[: 100 * CHARACTERS_A_TOKEN]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("field", ["thinking", "reasoning", "reasoning_details", "content"])
async def test_thoughts_count_to_the_limit(backend: str, field: str, tmp_path: Path) -> None:
    """As the server counts them, in whatever field they come; once where two fields hold them."""
    said: dict[str, Any] = {field: WORD, "reasoning_content": WORD}
    if field == "reasoning_details":
        said[field] = [{"type": "reasoning.text", "text": WORD, "format": "x" * 500}]
    if field == "content":
        said = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": WORD}]}]}
        said |= {"thinking": WORD} if backend == "ollama" else {}
    body = Endless(spoken(backend, **said), most=200)
    chat = at_the_wire(backend, tmp_path, body)
    request = TextRequest("interception", "eine Katze", model="test", max_tokens=100)
    result = await chat.write(request, emit_to([]))
    await chat.close()
    assert (result.text, result.finish_reason, body.closed) == ("", "length", True)
    assert body.given == 100 * CHARACTERS_A_TOKEN // len(WORD) + 1


async def test_room_for_thoughts_is_none_for_the_answer(tmp_path: Path) -> None:
    """OpenAI is told more, since it counts what is thought: the answer keeps to its step."""
    body = Endless(spoken("openai_compatible", content=WORD), most=200)
    environ = {
        "OPENAI_API_KEY": "sk-test-0123456789",
        "OPENAI_BASE_URL": "https://api.openai.com/v1",
    }
    chat = OpenAICompatible(
        Settings.load(tmp_path, environ=environ),
        transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=body)),
    )
    request = TextRequest("interception", "eine Katze", model="test", max_tokens=100)
    result = await chat.write(request, emit_to([]))
    await chat.close()
    assert len(result.text) == 100 * CHARACTERS_A_TOKEN and body.closed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("piece", [b": still here\n\n", b"\n"])
async def test_a_stream_without_end_is_left_at_its_time(
    backend: str, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps it open: the time of the whole request holds, by the loop's own clock."""
    loop = asyncio.get_running_loop()
    began, late = loop.time(), [0.0]
    monkeypatch.setattr(loop, "time", lambda: began + late[0])

    def tick() -> None:
        late[0] += 50

    body = Endless(b"\n" if backend == "ollama" else piece, most=40, tick=tick)
    chat = at_the_wire(backend, tmp_path, body)
    with pytest.raises(BackendError, match="took too long"):
        await chat.write(TextRequest("interception", "eine Katze", model="test"), emit_to([]))
    await chat.close()
    assert body.closed and body.given < 20


async def test_an_answer_that_has_ended_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that stays open after the reason for the end is left, and the answer counts."""
    loop = asyncio.get_running_loop()
    began, late = loop.time(), [0.0]
    monkeypatch.setattr(loop, "time", lambda: began + late[0])

    def tick() -> None:
        late[0] += 4

    last = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}
    body = Endless(b"data: " + json.dumps(last).encode() + b"\n\n: ping\n\n", most=9, tick=tick)
    body.piece = body.piece.replace(b'""', json.dumps(TEXT).encode(), 1)
    chat = at_the_wire("openai_compatible", tmp_path, body)
    result = await chat.write(TextRequest("interception", "Katze", model="test"), emit_to([]))
    await chat.close()
    assert result.text.startswith(TEXT) and body.closed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_far_too_long_is_cut_as_its_step_says(
    engine: Callable[..., Engine], backend: str, streams: bool
) -> None:
    """Streamed or in one piece, though its server calls it whole: a sentence, or refused."""
    told = "Eine Katze liest im Regen. " * 2000
    message = {"role": "assistant", "content": told}
    whole = {"model": "test", "message": message, "done": True, "done_reason": "stop"}
    if backend != "ollama":
        whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    answer = Answer(told) if streams else Answer(raw=json.dumps(whole).encode())
    with Loopback([answer]) as server:
        made = engine(server, backend)
        run = made.start("eine Katze", pipeline="dada")
        run.wait()
        refused = made.start("eine Katze", pipeline="translate_en")
        with pytest.raises(CutOff, match="tokens"):
            refused.wait()
    (text,) = [one for one in written(run) if one.final]
    assert text.text.endswith("Regen.") and len(text.text) <= 768 * CHARACTERS_A_TOKEN
    warned = [one.event.message for one in run.events if isinstance(one.event, Warned)]
    assert any("cut at 768 tokens (length)" in message for message in warned)


def test_a_whisper_that_no_sentence_ends_is_passed_on(engine: Callable[..., Engine]) -> None:
    """A poem cut at its limit ends at its last whole line, and the game goes on to its last ear."""
    with Loopback([Answer("der Regen fällt\ndie Katze hört\nund dann", finish="length")]) as server:
        run = engine(server, "ollama").start("eine Katze", pipeline="stille_post")
        run.wait()
    assert run.outcome == "completed" and len(written(run)) == 8
    assert {one.text for one in written(run)} == {"der Regen fällt\ndie Katze hört"}
    warned = [one.event.message for one in run.events if isinstance(one.event, Warned)]
    assert sum("ends at its last whole line, after 30 characters" in one for one in warned) == 8


def test_whispers_do_not_grow_without_end(engine: Callable[..., Engine]) -> None:
    """Each may be as long as what was told first allows, however long the one before it was."""
    endless = Answer("Und dann kam noch eine Katze. " * 20, finish="length")
    with Loopback([endless]) as server:
        run = engine(server, "ollama").start("eine Katze", pipeline="stille_post")
        run.wait()
        limits = {one.body["options"]["num_predict"] for one in server.chats}
    assert run.outcome == "completed" and len(written(run)) == 8
    assert limits == {64 + 2 * len("eine Katze")}


ENDLESS = "Eine Katze liest. Der Regen zählt bis drei. Und dann"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("pipeline", "tokens"), [("dada", 768), ("stille_post", 84), ("translate_en", 276)]
)
def test_every_backend_gets_its_limit_from_the_step(
    engine: Callable[..., Engine], backend: str, pipeline: str, tokens: int
) -> None:
    """Fixed, or with so much more for each character of the text."""
    with Loopback([Answer("Zehn Worte")]) as server:
        engine(server, backend).start("zehn Worte", pipeline=pipeline).wait()
        asked = server.chats[0].body
    limits = asked["options"] if backend == "ollama" else asked
    assert limits[LIMITS[backend]] == tokens


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("word", ["length", "max_tokens", "model_length"])
def test_an_answer_that_is_cut_ends_at_its_last_sentence(
    engine: Callable[..., Engine], backend: str, word: str
) -> None:
    """Where its step says so; the recording says that it was cut, and keeps all that was told."""
    with Loopback([Answer(ENDLESS, finish=word)]) as server:
        run = engine(server, backend).start("eine Katze", pipeline="dada")
        run.wait()
    (text,) = [one for one in written(run) if one.final]
    assert (text.text, text.raw) == ("Eine Katze liest. Der Regen zählt bis drei.", ENDLESS)
    warned = [one.event.message for one in run.events if isinstance(one.event, Warned)]
    (said,) = [message for message in warned if "cut at 768 tokens" in message]
    assert said.endswith(f"({word}): it ends at its last whole sentence, after 43 characters.")


@pytest.mark.parametrize(
    ("pipeline", "answer"),
    [
        ("translate_en", ENDLESS),
        ("pig_latin", ENDLESS),
        ("dada", "RegenRegenRegenRegen"),
        ("dada", "<think>Eine Katze liest. Der Regen"),
        ("split_and_combine", '{"prompt": "eine Katze", "prompt_2": "im Regen"}'),
    ],
)
def test_an_answer_that_is_cut_is_refused_elsewhere(
    engine: Callable[..., Engine], pipeline: str, answer: str
) -> None:
    """Where its step says so, and where not even a word has ended: nothing is made."""
    with Loopback([Answer(answer, finish="length")] * 2) as server:
        output = "sketch_fusion" if pipeline == "split_and_combine" else "sketch"
        run = engine(server, "ollama").start(
            "eine Katze im Regen", pipeline=pipeline, output=output
        )
        with pytest.raises((CutOff, Rejected), match=r"tokens|nothing"):
            run.wait()
    assert run.outcome == "failed" and not run.artifacts


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It rains. The cat", "It rains."),
        ("„Komm!“ Die Katze", "„Komm!“"),
        ("Er sagte: “No.” And", "Er sagte: “No.”"),
        ("猫が来る。雨が", "猫が来る。"),
        ("क्या हुआ। फिर", "क्या हुआ।"),
        ("ماذا؟ ثم", "ماذا؟"),
        ("One. Two!", "One. Two!"),
    ],
)
def test_the_last_whole_sentence_is_found(text: str, kept: str) -> None:
    """In scripts with and without spaces."""
    assert shortened(text) == (kept, "sentence")


@pytest.mark.parametrize(
    ("text", "kept", "unit"),
    [
        ("der Regen,\ndie Katze\nund dann", "der Regen,\ndie Katze", "line"),
        ("der Regen,\n\ndie Ka", "der Regen", "line"),
        ("Am 3. Mai z. B. regnet", "Am 3. Mai z. B.", "word"),
        ("eine rote Katze im Re", "eine rote Katze im", "word"),
        ("eine Katze, rot", "eine Katze", "word"),
        ("猫が来る雨が", "猫が来る雨が", "word"),
        ("แมวแดงในสายฝน", "แมวแดงในสายฝน", "word"),
        ("RegenRegenRegen", "", ""),
        ("", "", ""),
    ],
)
def test_without_a_sentence_it_ends_at_a_line_or_word(text: str, kept: str, unit: str) -> None:
    """A poem at a line, else at a word; numbers and single letters end no sentence."""
    assert shortened(text) == (kept, unit)
