"""`devpipe safety-report LABELLED.csv`: how often the check is right."""

from __future__ import annotations

import argparse

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import say_result
from devpipe.cli.workspace import engine_of

HELP = "Run labelled texts through the check and say how often it is right."
EXAMPLES = (
    "devpipe safety-report labelled.csv",
    "devpipe safety-report labelled.csv --level kids -o verdicts.csv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The labelled texts, and at which level they are checked."""
    parser.add_argument(
        "labelled",
        metavar="LABELLED.csv",
        help="columns text,label (safe or unsafe) and, if you like, category",
    )
    parser.add_argument(
        "--level",
        metavar="LEVEL",
        help="kids, youth, adult or research; never looser than the workspace's",
    )
    parser.add_argument("-o", "--out", metavar="OUT.csv", help="write what was said of each text")
    parser.add_argument(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="texts at a time (default: %(default)s)",
    )


def execute(arguments: Arguments) -> int:
    """The report, and with -o a verdict for each text in a file."""
    from devpipe.safety.report import report

    with engine_of(arguments) as engine:
        done = arguments.stops.wait(
            report(
                engine,
                arguments.labelled,
                level=arguments.level,
                concurrency=max(1, arguments.concurrency),
            )
        )
    if arguments.out:
        done.write(arguments.out)
    say_result(done, json=arguments.json)
    return EXIT_COMPLETED
