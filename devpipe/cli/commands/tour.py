"""`devpipe tour`: the main job, on two prompts and two interceptions."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import say
from devpipe.cli.workspace import engine_of

if TYPE_CHECKING:
    from devpipe.cli.runs import Start
    from devpipe.engine.run import Run

HELP = "The main job: a German and an English prompt, dada and bauhaus, all four stages."
EXAMPLES = (
    "devpipe tour",
    "devpipe tour --json",
)
PROMPTS = (
    "ein roter Kreis über einem stillen blauen See",
    "three small birds above a yellow house in the rain",
)
PIPELINES = ("dada", "bauhaus")
SEED = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def execute(arguments: Arguments) -> int:
    """Four runs, one after the other, and where the last picture lies."""
    from devpipe.cli.runs import show_runs

    started: list[Run] = []
    with engine_of(arguments) as engine:

        def starting(prompt: str, pipeline: str) -> Start:
            def start() -> list[Run]:
                started.append(engine.start(prompt, pipeline=pipeline, seed=SEED))
                return started[-1:]

            return start

        starts = [starting(*pair) for pair in itertools.product(PROMPTS, PIPELINES)]
        status = show_runs(arguments, *starts, several=True)
    if status == EXIT_COMPLETED and not arguments.json:
        _print_next_steps(started[-1].files[0], started[-1].folder, arguments)
    return status


def _print_next_steps(picture: Path, recording: Path, arguments: Arguments) -> None:
    in_repository = Path("Makefile").exists()
    lab = "make lab" if in_repository else "devpipe lab"
    say(f"picture    {picture}\nrecording  {recording}\n")
    command = arguments.next_line("run", "a cat in the rain", "-p", "dada")
    say(f"Your own:  {command}   or   {lab}")
