"""What does an error say where it is read? In the words of that place, in the person's language.

Errors and notes are raised in English, with hints in the words of Python: `Give mask=FILE.`
hints.json lists what another place says otherwise: how it is raised, an example, and what is said
in a `shell`, in a `cell` (%%intercept) or on a `page`. sentences.json lists sentences by how they
are raised, or said there, with what other languages say. A message has one language: where one of
its sentences is in none of the lists, all of it stays English.

In a list, {gap} stands for anything on one line, {rest} for all that follows on it, and {said...}
for sentences that are looked up as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from devpipe.text.messages import FALLBACK, machine_language, primary

Place = Literal["shell", "cell", "page"]

HINTS = Path(__file__).with_name("hints.json")
SENTENCES = Path(__file__).with_name("sentences.json")
NESTED = "said"  # the beginning of the names of gaps that hold sentences
_NUMBERS = ("at", "bytes", "cells", "column", "count", "depth", "least", "line", "most", "number")
_NAMES = ("file", "folder", "path", "who")
_ANYTHING = r"(?:(?![.?!] [A-Z`]).)+?"  # but no end of a sentence
GAPS = {  # what stands in a gap of that name, where that is less than anything
    "rest": ".*",
    **dict.fromkeys(_NUMBERS, r"[-+\d.,e]+"),
    **dict.fromkeys(_NAMES, r"(?!(?:A|It|The|This|There) )(?:(?![.?!] [A-Z`])[^:])+?"),
}
BETWEEN = "; "  # of several things in one gap
KEPT = 4096  # lines and ends of lines whose translation is remembered
_GAP = re.compile(r"\{(\w+)\}")
_ENDS = re.compile(r"(?=\s)|$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it is raised, and what is said in its place: by language, or by place."""

    begin: str  # what stands before its first gap
    pattern: re.Pattern[str]
    said: Mapping[str, str]

    @classmethod
    def of(cls, raised: str, said: Mapping[str, str]) -> Sentence:
        """The sentence of an entry in a file."""
        parts = _GAP.split(raised)
        spelled = [re.escape(part) for part in parts]
        for at in range(1, len(parts), 2):
            # a gap that stands there twice holds the same twice
            is_again = parts[at] in parts[1:at:2]
            inside = GAPS.get(parts[at], _ANYTHING)
            spelled[at] = f"(?P={parts[at]})" if is_again else f"(?P<{parts[at]}>{inside})"
        return cls(parts[0], re.compile("".join(spelled)), said)


def in_words(place: Place, text: str, language: str = "") -> str:
    """What an error or a note says in that place; without a language, in that of this machine.

    >>> in_words("shell", "It needs one. Give mask=FILE.", "en")
    'It needs one. Give --mask FILE.'
    >>> in_words("shell", "The prompt is empty. Write at least one word.", "de")
    'Der Prompt ist leer. Schreibe mindestens ein Wort.'
    """
    placed = _in_place(place, text)
    spoken = primary(language) if language else machine_language()
    if spoken == FALLBACK:
        return placed
    lines = [_line(line, spoken) for line in placed.split("\n")]
    return "\n".join(line for line in lines if line is not None) if None not in lines else placed


def _in_place(place: Place, text: str) -> str:
    """The same in English, its hints in the words of the place."""
    for hint in _hints():
        if place in hint.said and hint.begin in text:
            text = hint.pattern.sub(partial(_filled, hint.said[place]), text)
    return text


def _filled(sentence: str, found: re.Match[str]) -> str:
    return sentence.format(**found.groupdict())


def _line(line: str, language: str) -> str | None:
    """All of a line in another language; None where one of its sentences is not known there."""
    indent = line[: len(line) - len(line.lstrip())]
    said = _sentences_said(line.strip(), language)
    return None if said is None else indent + said


@lru_cache(maxsize=KEPT)
def _sentences_said(text: str, language: str) -> str | None:
    """The sentences that a text consists of; the shortest that is known comes first."""
    if not text:
        return ""
    known = [one for one in _sentences() if language in one.said and text.startswith(one.begin)]
    ends = [found.start() for found in _ENDS.finditer(text)]
    for end in ends if known else ():
        for sentence in known:
            said = _said(sentence, text[:end], language)
            rest = None if said is None else _sentences_said(text[end:].lstrip(), language)
            if rest is not None:
                return f"{said} {rest}".rstrip()
    return None


def _said(sentence: Sentence, text: str, language: str) -> str | None:
    """What a sentence says in that language; None where the text is another one."""
    found = sentence.pattern.fullmatch(text)
    if found is None:
        return None
    values: dict[str, str] = {}
    for gap, value in found.groupdict().items():
        said = _nested(value, language) if gap.startswith(NESTED) else value
        if said is None:
            return None
        values[gap] = said
    return sentence.said[language].format(**values)


def _nested(value: str, language: str) -> str | None:
    """What one gap of a sentence says: one thing, or several."""
    whole = _sentences_said(value, language)
    if whole is not None or BETWEEN not in value:
        return whole
    said = [_sentences_said(one, language) for one in value.split(BETWEEN)]
    return None if None in said else BETWEEN.join(filter(None, said))


@lru_cache(maxsize=1)
def _hints() -> tuple[Sentence, ...]:
    entries = json.loads(HINTS.read_text("utf-8"))
    return tuple(Sentence.of(entry["raised"], entry) for entry in entries.values())


@lru_cache(maxsize=1)
def _sentences() -> tuple[Sentence, ...]:
    entries = json.loads(SENTENCES.read_text("utf-8"))
    # what says most itself comes first: `{name}: {said}` fits nearly anything
    raised = sorted(entries, key=lambda one: len(_GAP.sub("", one)), reverse=True)
    return tuple(Sentence.of(one, entries[one]) for one in raised)
