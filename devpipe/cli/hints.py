"""What can a person do about it in a shell? Hints in its words, in their language.

What they say is found in show/wording.py. A command in a hint is one that can be typed as it
stands: with the DEVPIPE_* and the --home that this one was given.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from devpipe.show.wording import in_words

# A command inside a sentence; a help, or a workspace that is still to be made, lies in none.
_COMMAND = re.compile(r"`devpipe ((?!init\b)[a-z][^`]*)(?<!--help)`")
_VARIABLE = re.compile(r"DEVPIPE_\w+")
_PRIVATE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|@")  # nobody prints such a value


def in_words_of_the_shell(text: str, language: str = "") -> str:
    """What an error or a note says, with hints that can be followed in a shell."""
    return in_words("shell", text, language)


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
