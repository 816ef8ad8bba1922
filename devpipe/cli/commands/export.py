"""`devpipe export OUT`: the recordings as a file for others."""

from __future__ import annotations

import argparse
from pathlib import Path

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import say, say_json
from devpipe.cli.workspace import recordings_of

HELP = "Write the recordings as a table or as a self-contained archive."
EXAMPLES = (
    "devpipe export runs.csv",
    "devpipe export two.zip --runs k3v9x2ma,p8d0q1zz",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and which runs."""
    parser.add_argument("out", metavar="OUT.{csv,xlsx,parquet,zip}")
    parser.add_argument(
        "--runs",
        action="append",
        default=[],
        metavar="RUN[,RUN]",
        help="only these; else all. May be given several times",
    )


def execute(arguments: Arguments) -> int:
    """The paths of what was written."""
    from devpipe.analysis.export import export

    runs = [run for listed in arguments.runs for run in listed.split(",")]
    written = [
        str(path) for path in export(recordings_of(arguments), Path(arguments.out), runs=runs)
    ]
    if arguments.json:
        say_json(written)
    else:
        say("\n".join(written))
    return EXIT_COMPLETED
