"""Whether the instructions of the interceptions are good ones: what `devpipe check` says beyond
"the file is valid".

An instruction says how, the input says what: a role with a viewpoint, operations, prohibitions, the
form of the answer; in English and in
German, both originals.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from devpipe.config.models import Catalogue, Step
from devpipe.errors import Fault

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = ("en", "de")
WORDS = range(150, 401)
ROLE_WORDS = 25  # a role that has a viewpoint takes more than its name
OPERATIONS = 3


@lru_cache(maxsize=1)
def _rules() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("lint.toml").read_text("utf-8"))


def lint(catalogue: Catalogue) -> list[Fault]:
    """What could be better about each instruction; passthrough has none, and where the user writes
    it theirs is not judged.
    """
    return [
        Fault(
            f"pipelines/{pipeline.name}.json", f"$.steps[{index}].instruction{place}", f"{message}."
        )
        for pipeline in catalogue.interceptions.values()
        if not pipeline.user_instruction
        for index, step in enumerate(pipeline.steps)
        for place, message in _step(step)
    ]


def _step(step: Step) -> Iterator[tuple[str, str]]:
    if step.instruction.en.split() == step.instruction.de.split():
        yield "", "is the same in both languages: write two originals"
    for language in LANGUAGES:
        yield from (
            (f".{language}", message) for message in _text(step.instruction.in_(language), language)
        )


def _text(text: str, language: Language) -> Iterator[str]:
    negated, plain = _sentences(text, language)
    if (words := len(text.split())) not in WORDS:
        yield f"has {words} words; allowed: {WORDS.start} to {WORDS.stop - 1}"
    if len(text.partition("\n")[0].split()) < ROLE_WORDS:
        yield (
            f"has a role without a viewpoint: its first paragraph has fewer than {ROLE_WORDS} words"
        )
    if len(re.findall(r"^\s*(\d+[.)]|[-*•])\s", text, re.MULTILINE)) < OPERATIONS:
        yield f"names fewer than {OPERATIONS} operations: one numbered line each"
    yield from (
        rule["message"] for rule in _rules()["needed"] if not re.search(rule[language], text)
    )
    yield from (
        rule["message"]
        for rule in _rules()["forbids"]
        if not re.search(rule[language], negated, re.IGNORECASE)
    )
    yield from (rule["message"] for rule in _rules()["avoided"] if re.search(rule[language], text))
    if re.search(_rules()["better"][language], plain, re.IGNORECASE):
        yield "asks for something better: say which operation makes it different"


def _sentences(text: str, language: Language) -> tuple[str, str]:
    """The sentences that forbid something, and the others."""
    sides: tuple[list[str], list[str]] = ([], [])
    for sentence in re.split(r"(?<=[.!?])\s|\n", text):
        sides[
            0 if re.search(_rules()["negation"][language], sentence, re.IGNORECASE) else 1
        ].append(sentence)
    return "\n".join(sides[0]), "\n".join(sides[1])
