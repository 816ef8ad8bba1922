"""How words reach a terminal, a pipe or nobody at all."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from typing import Any, Protocol, TextIO

from devpipe.errors import ConfigError, DevpipeError


class Result(Protocol):
    """What shows itself as text, by str(), and as JSON."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""


def plain(text: str) -> str:
    """The text without characters that steer a terminal."""
    return "".join(
        (
            c
            if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf") or c in "\u200c\u200d"
            else "\ufffd"
        )
        for c in text
    )


def say(text: str, *, out: TextIO | None = None, end: str = "\n") -> None:
    """Print. Where nobody reads any more (`| head`), print to nowhere: the work goes on."""
    stream = out or sys.stdout
    try:
        print(text, file=stream, end=end, flush=True)
    except BrokenPipeError:
        nowhere(stream)


def nowhere(stream: TextIO) -> None:
    """Send what is still in the stream, and all that comes, to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def say_json(value: object) -> None:
    """Print one JSON value, in ASCII where the stream knows no more."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, default=str)
    say(text)


def complain(text: str, *, home: str | None = None) -> None:
    """One message for people: in their language, its commands as this one was called.

    `home`: what --home said.
    """
    from devpipe.cli.hints import commands_as_given, in_words_of_the_shell

    told = commands_as_given(in_words_of_the_shell(text), home)
    say(f"devpipe: {plain(told).strip()}", out=sys.stderr)


def say_result(result: Result, *, json: bool) -> None:
    """Print what a command found out, as JSON or for people."""
    if json:
        say_json(result.to_json())
    else:
        say(plain(str(result)))


def error_json(error: DevpipeError) -> dict[str, object]:
    """The error as a JSON object: in English, its hints in the words of the shell."""
    from devpipe.show.wording import in_words

    fields: dict[str, object] = {
        "type": type(error).__name__,
        "message": in_words("shell", error.message.strip(), "en"),
        "hint": in_words("shell", error.hint, "en"),
    }
    if isinstance(error, ConfigError):
        fields["faults"] = [
            {"file": fault.file, "path": fault.path, "message": fault.message}
            for fault in error.faults
        ]
    return fields
