"""The command line: which commands there are, and what all of them take."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol, cast

from devpipe.cli.stops import Stops
from devpipe.config.workspace import find_home, is_workspace
from devpipe.errors import UsageError

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


class Command(Protocol):
    """What a module in commands/ holds.

    Importing it must be quick, since the help imports all of them: what a command needs beyond the
    parser is imported where it acts.
    """

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """What this command takes beside --json and --home."""

    def execute(self, arguments: Arguments) -> int:
        """Do it; gives back the exit status."""


class Parser(argparse.ArgumentParser):
    """Wrong usage is an error like any other: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        if "PROMPT" in message or "unrecognized" in message:
            hint = "Several words stand in quotes; what begins with - goes to the end, after --."
        raise UsageError(
            f"{message[:1].upper()}{message[1:].removesuffix('.')}.",
            hint=f"See `{self.prog} --help`. {hint}".strip(),
        )


def command_of(name: str) -> Command:
    """The command of that name in the shell."""
    return cast(Command, importlib.import_module(f"devpipe.cli.commands.{COMMANDS[name]}"))


def parser() -> Parser:
    """The whole command line."""
    about = "Prompt interception: four stages, and a recording of everything that happened."
    top = Parser(prog="devpipe", description=about, allow_abbrev=False)
    top.add_argument("--version", action="store_true", help="print the version and end")
    _add_home(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        command = command_of(name)
        its_parser = commands.add_parser(
            name, help=command.HELP, description=command.HELP, allow_abbrev=False
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
