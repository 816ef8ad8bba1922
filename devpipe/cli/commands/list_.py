"""`devpipe list`: what there is, one line each."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import plain, say, say_json
from devpipe.cli.workspace import recordings_of

HELP = "What there is."
EXAMPLES = (
    "devpipe list",
    "devpipe list outputs --ready",
    "devpipe list recordings --limit 20 --match bauhaus",
)
WIDEST = 100  # characters of one value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which list."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=["pipelines", "outputs", "backends", "recordings"],
        default="pipelines",
    )


def execute(arguments: Arguments) -> int:
    """The list as columns, or as JSON."""
    rows = _recordings(arguments) if arguments.what == "recordings" else _configs(arguments)
    if arguments.json:
        say_json(rows)
    else:
        _print_columns(rows)
    return EXIT_COMPLETED


def _recordings(arguments: Arguments) -> list[dict[str, Any]]:
    """All runs, newest first, from the index beside them."""
    columns = ["run_id", "state", "pipeline", "output", "prompt"]
    newest_first = recordings_of(arguments).runs()[columns].iloc[::-1]
    known = newest_first.astype(object).where(newest_first.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def _configs(arguments: Arguments) -> list[dict[str, Any]]:
    from devpipe.engine.engine import Engine
    from devpipe.text.messages import machine_language

    engine = Engine(arguments.workspace())
    if arguments.what == "backends":
        return [{"name": name} for name in engine.backends.names()]
    language = machine_language()
    if arguments.what == "outputs":
        return [
            {
                "name": name,
                "medium": output.medium,
                "backend": output.backend,
                "about": output.description.in_(language),
            }
            for name, output in sorted(engine.catalogue.outputs.items())
        ]
    return [
        {"name": name, "about": pipeline.description.in_(language)}
        for name, pipeline in sorted(engine.catalogue.interceptions.items())
    ]


def _print_columns(rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [[_shown(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        say("  ".join(cells).rstrip())


def _shown(value: object) -> str:
    """A value on one line, cut where it is too long."""
    text = " ".join(plain(str(value)).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
