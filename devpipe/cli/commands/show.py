"""`devpipe show RUN`: a recording, as it was shown when it happened."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import complain, say_json
from devpipe.cli.workspace import how_to_go_on, recordings_of

if TYPE_CHECKING:
    from devpipe.record.reader import Recording

HELP = "Show a recording."
EXAMPLES = (
    "devpipe show 20261122-141503-k3v9x2ma",
    "devpipe show k3v9x2ma --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which recording."""
    parser.add_argument("run", metavar="RUN", help="id of a run, or its beginning or end")


def execute(arguments: Arguments) -> int:
    """Its events, then what is odd about it."""
    from devpipe.cli.screen import Screen

    recording = recordings_of(arguments).find(arguments.run)
    if arguments.json:
        say_json(recording.summary.to_json(str(recording.folder)) | {"run_id": recording.id})
    else:
        screen = Screen(recording.folder, drawn=_drawn(recording))
        for recorded in recording.events:
            screen(recorded)
        screen.say_notes()
    if recording.damage:
        complain(recording.damage)
    for note in recording.notes:
        complain(note, home=arguments.home)
    if not recording.finished:
        complain(f"{recording.id} is {recording.state}{how_to_go_on(recording, arguments)}.")
    return EXIT_COMPLETED


def _drawn(recording: Recording) -> str:
    """What there is to say of a seed that nobody gave."""
    seed = recording.summary.seed
    if seed is not None:
        return f"{seed} (drawn)"
    return "not drawn" if recording.finished else "to be drawn"
