"""`devpipe resume RUN`: go on with a run whose process died."""

from __future__ import annotations

import argparse

from devpipe.cli.parser import Arguments
from devpipe.cli.workspace import engine_of

HELP = "Go on with a run whose process died."
EXAMPLES = ("devpipe resume 20261122-141503-k3v9x2ma",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run."""
    parser.add_argument("run", metavar="RUN")


def execute(arguments: Arguments) -> int:
    """The rest of the run, followed."""
    from devpipe.cli.runs import show_runs

    with engine_of(arguments) as engine:
        return show_runs(arguments, lambda: [engine.start_resumed(arguments.run)])
