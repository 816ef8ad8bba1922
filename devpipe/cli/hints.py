"""What can a person do about it in a shell? Hints in its words, in their language.

An error says what to do with a hint for any place: `Give mask=... (--mask FILE in the shell).`
hints.json lists those that a shell says otherwise: how they are raised, with an example, and what
is said here, in its languages. A command in a hint is one that can be typed as it stands: with the
DEVPIPE_* and the --home that this one was given.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from devpipe.text.messages import Messages, machine_language

HINTS = Path(__file__).with_name("hints.json")
# A command inside a sentence; a help, or a workspace that is still to be made, lies in none.
_COMMAND = re.compile(r"`devpipe ((?!init\b)[a-z][^`]*)(?<!--help)`")
_VARIABLE = re.compile(r"DEVPIPE_\w+")
_PRIVATE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|@")  # nobody prints such a value


@dataclass(frozen=True, slots=True)
class Hints:
    """Hints by how they are raised, and what a shell says in their place."""

    raised: Mapping[str, re.Pattern[str]]
    sentences: Messages

    @classmethod
    def read(cls, file: Path) -> Hints:
        """The hints in a file."""
        entries = json.loads(file.read_text("utf-8"))
        raised = {name: _pattern(entry["raised"]) for name, entry in entries.items()}
        return cls(raised, Messages(entries))

    def said(self, text: str, language: str) -> str:
        """A text for people, each hint in it in the words of the shell."""
        for name, pattern in self.raised.items():
            for found in pattern.finditer(text):
                sentence = self.sentences.message(name, language, **found.groupdict())
                text = text.replace(found[0], sentence)
        return text


def in_words_of_the_shell(text: str, language: str = "") -> str:
    """What an error or a note says, with hints that can be followed in a shell.

    >>> in_words_of_the_shell("It needs one. Give mask=... (--mask FILE in the shell).", "en")
    'It needs one. Give --mask FILE.'
    """
    return _shipped().said(text, language or machine_language())


def commands_as_given(text: str, home: str | None) -> str:
    """The commands in a text, so that they find what this one found."""

    def as_given(found: re.Match[str]) -> str:
        return f"`{command_as_given(found[1], home)}`"

    return _COMMAND.sub(as_given, text)


def command_as_given(words: str, home: str | None, **instead: str) -> str:
    """A command line that goes on from this one: its DEVPIPE_*, its program, its --home.

    `instead` replaces variables that would lead elsewhere.
    """
    given = {
        name: value
        for name, value in sorted(os.environ.items())
        if _VARIABLE.fullmatch(name) and not _PRIVATE.search(name + value)
    }
    given |= {name: value for name, value in instead.items() if name in given}
    line = [f"{name}={shlex.quote(value)}" for name, value in given.items()]
    line += [_program(), words]
    if home:
        line += ["--home", shlex.quote(home)]
    return " ".join(line)


def _program() -> str:
    """The program, by its path where a shell would not find it by its name."""
    typed = Path(sys.argv[0])
    known = shutil.which(typed.name)
    if typed.name != "devpipe" or (known and typed.absolute() == Path(known).absolute()):
        return "devpipe"
    return shlex.quote(str(typed.absolute()))


@lru_cache(maxsize=1)
def _shipped() -> Hints:
    return Hints.read(HINTS)


def _pattern(raised: str) -> re.Pattern[str]:
    """A hint as a pattern: a gap stands for a word."""
    parts = re.split(r"\{(\w+)\}", raised)
    for at, part in enumerate(parts):
        parts[at] = rf"(?P<{part}>[\w-]+)" if at % 2 else re.escape(part)
    return re.compile("".join(parts))
