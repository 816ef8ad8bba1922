"""The command line: which commands there are, and what all of them take."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from devpipe.cli.stops import Stops
from devpipe.config.workspace import find_home, is_workspace
from devpipe.errors import UsageError, few, nearest

_EXAMPLES = "Examples:"  # the beginning of a text that keeps its lines

# By its name in the shell, in the order of the help: the module in devpipe/cli/commands.
COMMANDS: Mapping[str, str] = {
    "run": "run",
    "regenerate": "regenerate",
    "list": "list_",
    "check": "check",
    "adopt": "adopt",
    "show": "show",
    "verify": "verify",
    "replay": "replay",
    "resume": "resume",
    "batch": "batch",
    "export": "export",
    "init": "init",
    "lab": "lab",
    "safety-report": "safety_report",
    "tour": "tour",
}


EXAMPLES = (
    'devpipe run "a cat in the rain" -p dada',
    "devpipe list outputs --ready",
    "devpipe batch plan.yaml --dry-run",
    "devpipe check",
)


class Arguments(argparse.Namespace):
    """What a command line says; each command adds its own."""

    command: str | None = None
    version: bool = False
    json: bool = False
    home: str | None = None

    def __init__(self, stops: Stops) -> None:
        super().__init__()
        self.stops = stops

    def workspace(self) -> Path:
        """The workspace of this command. Raises UsageError where there is none."""
        if not self.home:
            return find_home()
        if not is_workspace(Path(self.home)):
            raise UsageError(
                f"--home {self.home!r} is no workspace.",
                hint=f"Correct it, or run `devpipe init {self.home}`.",
            )
        return Path(self.home)

    def next_line(self, *words: str, **instead: str) -> str:
        """A command line that goes on from this one: with the DEVPIPE_* and --home as given."""
        from devpipe.cli.hints import command_as_given

        return command_as_given(" ".join(map(_quoted, words)), self.home, **instead)


class Command(Protocol):
    """What a module in commands/ holds.

    Importing it must be quick, since the help imports all of them: what a command needs beyond the
    parser is imported where it acts.
    """

    HELP: str
    EXAMPLES: Sequence[str]  # command lines that a person may type as they are

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """What this command takes beside --json and --home."""

    def execute(self, arguments: Arguments) -> int:
        """Do it; gives back the exit status."""


class HelpText(argparse.HelpFormatter):
    """The usual help; the examples at its end stay lines of their own."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES):
            return text
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Wrong usage is an error like any other: one line, exit status 2."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Of many possible words, those that were probably meant."""
        choices = [str(one) for one in action.choices or ()]
        if action.choices is None or value in choices:
            return
        raise UsageError(
            f"There is no {action.dest} {value!r}.",
            hint=f"{_offered(value, choices)} See `{self.prog} --help`.",
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual; of a misspelt option the nearest one is named."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            its_parser = self._parser_of(parsed.command)
            known = its_parser._option_string_actions
            near = nearest(unknown[0].partition("=")[0], known, count=1)
            if near:
                raise UsageError(
                    f"There is no option {unknown[0]!r}.",
                    hint=f"Did you mean {near[0]!r}? See `{its_parser.prog} --help`.",
                )
            its_parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed

    def _parser_of(self, command: str | None) -> Parser:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and command in action.choices:
                return cast(Parser, action.choices[command])
        return self

    def error(self, message: str) -> NoReturn:
        hint = ""
        if "PROMPT" in message or "unrecognized" in message:
            hint = "Several words stand in quotes; what begins with - goes to the end, after --."
        raise UsageError(
            f"{message[:1].upper()}{message[1:].removesuffix('.')}.",
            hint=f"See `{self.prog} --help`. {hint}".strip(),
        )


def _quoted(word: str) -> str:
    """A word as people type it: in double quotes, where that is the same in any shell."""
    if re.fullmatch(r"[\w ,.]+", word) and " " in word:
        return f'"{word}"'
    return shlex.quote(word)


def _offered(word: str, known: Sequence[str]) -> str:
    """What may stand in the place of a word: the nearest, else all."""
    near = nearest(word, known)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"There are: {', '.join(few(word, known))}."


def _examples(lines: Iterable[str]) -> str:
    return "\n  ".join([_EXAMPLES, *lines])


def command_of(name: str) -> Command:
    """The command of that name in the shell."""
    return cast(Command, importlib.import_module(f"devpipe.cli.commands.{COMMANDS[name]}"))


def parser() -> Parser:
    """The whole command line."""
    about = "Prompt interception: four stages, and a recording of everything that happened."
    top = Parser(
        prog="devpipe",
        description=about,
        epilog=_examples(EXAMPLES),
        formatter_class=HelpText,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print the version and end")
    _add_home(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        command = command_of(name)
        its_parser = commands.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            epilog=_examples(command.EXAMPLES),
            formatter_class=HelpText,
            allow_abbrev=False,
        )
        its_parser.add_argument(
            "--json", action="store_true", help="print JSON on stdout and nothing else"
        )
        _add_home(its_parser, default=argparse.SUPPRESS)  # else it would undo one before COMMAND
        command.add_arguments(its_parser)
    return top


def _add_home(parser: Parser, default: str | None = None) -> None:
    parser.add_argument(
        "--home",
        metavar="DIR",
        default=default,
        help="the workspace; else $DEVPIPE_HOME, or the nearest folder upwards with pipelines/",
    )
