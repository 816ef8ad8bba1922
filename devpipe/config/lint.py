"""Are the instructions of the interceptions good ones, beyond being valid?

An instruction says how, the input says what: a role with a viewpoint, operations, prohibitions, the
form of the answer; in English and in
German, both originals.
"""

from __future__ import annotations

import itertools
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
        for message in _faults_of_text(step.instruction.in_(language), language):
            yield f".{language}", message


def _faults_of_text(text: str, language: Language) -> Iterator[str]:
    words = len(text.split())
    if words not in WORDS:
        yield f"has {words} words; allowed: {WORDS.start} to {WORDS.stop - 1}"
    parts = {"text": text, **_sentences(text, language)}
    for rule in rules()["rules"]:
        stands_there = re.search(rule[language], parts[rule["part"]]) is not None
        if stands_there != rule["needed"]:
            yield rule["message"]


def _sentences(text: str, language: Language) -> dict[str, str]:
    """The sentences that forbid something, and the others."""
    forbids = re.compile(rules()["negation"][language])
    sentences = re.split(r"(?<=[.!?])\s|\n", text)
    return {
        "prohibitions": "\n".join(filter(forbids.search, sentences)),
        "others": "\n".join(itertools.filterfalse(forbids.search, sentences)),
    }
