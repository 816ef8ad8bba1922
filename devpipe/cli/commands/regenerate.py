"""`devpipe regenerate RUN`: a new run from an old one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from devpipe.cli.parser import Arguments
from devpipe.cli.run_options import add_run_options, parameters_of, run_options
from devpipe.cli.workspace import engine_of

if TYPE_CHECKING:
    from devpipe.record.reader import Recording

HELP = "A new run from an old one, from the first stage that the changes touch."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The old run, and what may be changed of it."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("-p", "--pipeline", help="another interception")
    parser.add_argument("-o", "--output", help="another output config")
    parser.add_argument("--prompt", help="another prompt")
    parser.add_argument("--text", help="your own wording of Stage 2's result")
    add_run_options(parser)


def execute(arguments: Arguments) -> int:
    """The new run, followed."""
    from devpipe.cli.runs import show_runs

    with engine_of(arguments) as engine:
        source = engine.recordings.find(arguments.run)
        changes = run_options(arguments) | {
            "pipeline": arguments.pipeline,
            "output": arguments.output,
            "prompt": arguments.prompt,
            "text": arguments.text,
        }
        if arguments.set:
            output = arguments.output or _output_of(source)
            changes["parameters"] = parameters_of(engine, output, arguments.set)
        return show_runs(arguments, lambda: [engine.start_again(source.id, **changes)])


def _output_of(recording: Recording) -> str:
    started = recording.summary.started
    return started.output if started else "sketch"
