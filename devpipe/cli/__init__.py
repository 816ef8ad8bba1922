"""How is devpipe used from a shell? One file per command in commands/, and what they share.

parser.py knows the commands; dispatch.py carries one out and turns errors into lines; runs.py
follows runs; printing.py and screen.py print; stops.py hears signals.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from devpipe.cli.stops import Stops


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script.

    Gives back the exit status: 0 completed, 3 blocked, 1 failed, 2 wrong usage, 130
    interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    json = "--json" in options
    with Stops(json=json, last=arguments is None) as stops:
        from devpipe.cli.dispatch import dispatch  # a signal during its import ends in one line

        return dispatch(given, stops, json=json)


__all__ = ["main"]
