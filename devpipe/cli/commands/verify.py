"""`devpipe verify`: every byte of one recording, or of all, against its events."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from devpipe.cli.exits import EXIT_COMPLETED, EXIT_FAILED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import plain, say, say_json
from devpipe.cli.workspace import how_to_go_on, recordings_of
from devpipe.errors import UsageError

if TYPE_CHECKING:
    from devpipe.record.reader import Recording

HELP = "Check every byte of a recording against its events."
EXAMPLES = (
    "devpipe verify k3v9x2ma",
    "devpipe verify --all",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which recording, or all."""
    parser.add_argument("run", metavar="RUN", nargs="?")
    parser.add_argument("--all", action="store_true", help="every recording of the workspace")


def execute(arguments: Arguments) -> int:
    """A line for each recording; failed where one is damaged."""
    from devpipe.analysis.verify import remarks, verify

    if bool(arguments.run) == arguments.all:
        raise UsageError("Verify what?", hint="Give a run, or --all.")
    recordings = recordings_of(arguments)
    problems: dict[str, Sequence[str]] = {}
    notes: dict[str, Sequence[str]] = {}
    for recording in recordings if arguments.all else [recordings.find(arguments.run)]:
        problems[recording.id] = verify(recording)
        notes[recording.id] = remarks(recording)
        if not arguments.json:
            say(f"{recording.id}  {_state(recording, problems[recording.id], arguments)}")
            for note in notes[recording.id]:
                say(f"  {plain(note)}")
    damaged = [run_id for run_id, its_problems in problems.items() if its_problems]
    if arguments.json:
        say_json({"ok": not damaged, "runs": problems, "notes": notes})
    elif arguments.all:
        say(f"{len(problems)} recordings, {len(damaged) or 'none'} damaged")
    return EXIT_FAILED if damaged else EXIT_COMPLETED


def _state(recording: Recording, problems: Sequence[str], arguments: Arguments) -> str:
    if problems:
        return "\n  ".join(["DAMAGED", *map(plain, problems)])
    if recording.finished:
        return "ok"
    return f"ok, {recording.state}{how_to_go_on(recording, arguments)}"
