"""`devpipe init DIR`: a new workspace."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import say, say_json

HELP = "Make a workspace: pipelines, output configs, notebooks, settings."
EXAMPLES = ("devpipe init my_workshop",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where."""
    parser.add_argument("dir", metavar="DIR")


def execute(arguments: Arguments) -> int:
    """The workspace, and what to do in it."""
    from devpipe.cli.new_workspace import create

    made = create(Path(arguments.dir))
    arguments.home = None  # of another workspace
    command = arguments.next_line("run", "a cat in the rain", "-p", "dada", DEVPIPE_HOME=str(made))
    if arguments.json:
        say_json({"home": str(made)})
    else:
        say(f"{made} is a workspace now. Next:\n  cd {shlex.quote(arguments.dir)}\n  {command}")
    return EXIT_COMPLETED
