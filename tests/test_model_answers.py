"""Answers as models really give them: thoughts and marks of every family, foreign endings, no end.

All at the wire: a server of this machine says what the models say.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import engine_in

from devpipe import Engine
from devpipe.backends.base import Delta, Emit
from devpipe.backends.chat import Writing
from devpipe.errors import CutOff, Rejected
from devpipe.record.events import TextStreamed, TextWritten, Warned
from devpipe.testing import Answer, Loopback
from devpipe.text import chatter
from devpipe.text.chatter import ending_of, marks_in, whole_sentences, without_thoughts
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
}  # fmt: skip


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
            assert THOUGHT[:9] not in "".join(shown) and not marks_in("".join(shown))


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


@pytest.mark.parametrize("text", ["Regen,", "```\nRegen zerschnitten."])
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
    assert ending_of(word) == ending_of(word.upper()) == TABLES["endings"][word] in ("whole", "cut")


# How long an answer may be

LIMITS = {"ollama": "num_predict", "openai_compatible": "max_tokens", "openrouter": "max_tokens"}
ENDLESS = "Eine Katze liest. Der Regen zählt bis drei. Und dann"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("pipeline", "tokens"), [("dada", 768), ("stille_post", 148), ("translate_en", 276)]
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
    assert any("cut at 768 tokens" in message for message in warned)


@pytest.mark.parametrize(
    ("pipeline", "answer"),
    [
        ("translate_en", ENDLESS),
        ("pig_latin", ENDLESS),
        ("dada", "eine Katze ohne Punkt und"),
        ("dada", "<think>Eine Katze liest. Der Regen"),
        ("split_and_combine", '{"prompt": "eine Katze", "prompt_2": "im Regen"}'),
    ],
)
def test_an_answer_that_is_cut_is_refused_elsewhere(
    engine: Callable[..., Engine], pipeline: str, answer: str
) -> None:
    """Where its step says so, and where no sentence has ended: what came is kept, nothing made."""
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
        ("Am 3. Mai z. B. regnet", ""),
        ("猫が来る。雨が", "猫が来る。"),
        ("क्या हुआ। फिर", "क्या हुआ।"),
        ("ماذا؟ ثم", "ماذا؟"),
        ("One. Two!", "One. Two!"),
        ("", ""),
    ],
)
def test_the_last_whole_sentence_is_found(text: str, kept: str) -> None:
    """In scripts with and without spaces; numbers and single letters end none."""
    assert whole_sentences(text) == kept
