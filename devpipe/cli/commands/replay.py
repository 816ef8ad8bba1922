"""`devpipe replay RUN`: the same request again, and what is equal."""

from __future__ import annotations

import argparse

from devpipe.cli.exits import EXIT_COMPLETED, EXIT_FAILED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import say_result
from devpipe.cli.workspace import engine_of

HELP = "Make the same request again and say what is equal."
EXAMPLES = (
    "devpipe replay 20261122-141503-k3v9x2ma",
    "devpipe replay k3v9x2ma --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run."""
    parser.add_argument("run", metavar="RUN")


def execute(arguments: Arguments) -> int:
    """The comparison; failed where not everything is equal."""
    with engine_of(arguments) as engine:
        replay = arguments.stops.wait(engine.replay(arguments.run))
    say_result(replay, json=arguments.json)
    return EXIT_COMPLETED if replay.equal else EXIT_FAILED
