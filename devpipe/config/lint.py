"""Are the instructions of the interceptions good ones, beyond being valid?

An instruction says how, the input says what: a role with a viewpoint, operations, prohibitions, the
form of the answer; in English and in
German, both originals.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from devpipe.config.catalogue import Catalogue
from devpipe.config.models import Step
from devpipe.errors import Fault

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = ("en", "de")
WORDS = range(150, 401)
ROLE_WORDS = 25  # a role that has a viewpoint takes more than its name
OPERATIONS = 3


@cache
def rules() -> dict[str, Any]:
    """Read lint.toml: patterns of good instructions, in both languages."""
    return tomllib.loads(Path(__file__).with_name("lint.toml").read_text("utf-8"))


def lint(catalogue: Catalogue) -> list[Fault]:
    """List what could be better about each instruction.

    Those that the user writes are not judged.
    """
    faults = []
    for pipeline in catalogue.interceptions.values():
        if pipeline.user_instruction:
            continue
        file = f"pipelines/{pipeline.name}.json"
        for index, step in enumerate(pipeline.steps):
            for place, message in _faults_of_step(step):
                path = f"$.steps[{index}].instruction{place}"
                faults.append(Fault(file, path, f"{message}."))
    return faults


def _faults_of_step(step: Step) -> Iterator[tuple[str, str]]:
    if step.instruction.en.split() == step.instruction.de.split():
        yield "", "is the same in both languages: write two originals"
    for language in LANGUAGES:
        text = step.instruction.in_(language)
        for message in (*_faults_of_form(text), *_faults_of_content(text, language)):
            yield f".{language}", message


def _faults_of_form(text: str) -> Iterator[str]:
    words = len(text.split())
    if words not in WORDS:
        yield f"has {words} words; allowed: {WORDS.start} to {WORDS.stop - 1}"
    role = text.partition("\n")[0]
    if len(role.split()) < ROLE_WORDS:
        yield (
            f"has a role without a viewpoint: its first paragraph has fewer than {ROLE_WORDS} words"
        )
    numbered = re.findall(r"^\s*(\d+[.)]|[-*•])\s", text, re.MULTILINE)
    if len(numbered) < OPERATIONS:
        yield f"names fewer than {OPERATIONS} operations: one numbered line each"


def _faults_of_content(text: str, language: Language) -> Iterator[str]:
    forbidding, others = _sentences(text, language)
    for rule in rules()["needed"]:
        if not re.search(rule[language], text):
            yield rule["message"]
    for rule in rules()["forbids"]:
        if not re.search(rule[language], forbidding, re.IGNORECASE):
            yield rule["message"]
    for rule in rules()["avoided"]:
        if re.search(rule[language], text):
            yield rule["message"]
    if re.search(rules()["better"][language], others, re.IGNORECASE):
        yield "asks for something better: say which operation makes it different"


def _sentences(text: str, language: Language) -> tuple[str, str]:
    """The sentences that forbid something, and the others."""
    negation = rules()["negation"][language]
    forbidding = []
    others = []
    for sentence in re.split(r"(?<=[.!?])\s|\n", text):
        if re.search(negation, sentence, re.IGNORECASE):
            forbidding.append(sentence)
        else:
            others.append(sentence)
    return "\n".join(forbidding), "\n".join(others)
