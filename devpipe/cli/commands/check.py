"""`devpipe check`: configs, settings and backends: what is usable, what is not, what to do."""

from __future__ import annotations

import argparse

from devpipe.cli.exits import EXIT_COMPLETED, EXIT_USAGE
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import say_result

HELP = "Are all configs valid, all backends there? Says what is missing and how to get it."
EXAMPLES = (
    "devpipe check",
    "devpipe check --json",
    "devpipe check --object-info object_info.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a server said of its nodes, to ask none."""
    parser.add_argument(
        "--object-info",
        metavar="FILE",
        help="what a ComfyUI server said of its nodes (its /object_info), to ask none",
    )


def execute(arguments: Arguments) -> int:
    """The report; wrong usage where a file has a fault."""
    from devpipe.cli.check import checked
    from devpipe.comfyui.doctor import saved_info

    nodes = saved_info(arguments.object_info)
    report = arguments.stops.wait(checked(arguments.workspace(), nodes))
    say_result(report, json=arguments.json)
    return EXIT_USAGE if report.faults else EXIT_COMPLETED
