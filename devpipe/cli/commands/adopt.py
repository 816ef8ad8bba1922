"""`devpipe adopt GRAPH`: a ComfyUI graph becomes an output of the workspace."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import plain, say, say_json

HELP = "Make an output config of a ComfyUI graph: an API export, or a PNG that ComfyUI wrote."
EXAMPLES = (
    "devpipe adopt graph.json",
    "devpipe adopt picture.png --name my_style --yes",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The graph, and what would else be asked."""
    parser.add_argument("graph", metavar="GRAPH.{json,png}")
    parser.add_argument("--name", metavar="NAME", help="of the output; else that of the file")
    parser.add_argument(
        "--yes",
        action="store_true",
        help="take the likeliest place for each value, and ask nothing",
    )
    parser.add_argument(
        "--object-info",
        metavar="FILE",
        help="what a ComfyUI server said of its nodes (its /object_info), to ask none",
    )


def execute(arguments: Arguments) -> int:
    """An output config and its graph, written into the workspace."""
    from devpipe.cli import adopt

    asks = not (arguments.yes or arguments.json) and sys.stdin is not None and sys.stdin.isatty()
    place = arguments.workspace()
    graph = Path(arguments.graph)
    new = adopt.NewOutput.of(arguments.name or adopt.name_from(graph.stem), place)
    adoption = adopt.adoption_of(graph, arguments.object_info, place, arguments.stops)
    if asks:
        others = []
        adoption = adoption.chosen(lambda guess: adopt.choose(guess, adoption.graph))
    else:
        others = adopt.other_places(adoption)
        adoption = adoption.chosen(lambda guess: guess.best)
    new.write(adoption)
    if arguments.json:
        say_json(new.to_json(adoption) | {"notes": [*others, *adoption.notes]})
    else:
        lines = [
            *adopt.places(adoption),
            *others,
            *adoption.notes,
            *new.next_steps(adoption, arguments.next_line),
        ]
        say(plain("\n".join(lines)))
    return EXIT_COMPLETED
