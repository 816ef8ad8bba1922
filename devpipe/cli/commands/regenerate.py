"""`devpipe regenerate RUN`: a new run from an old one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from devpipe.cli.parser import Arguments
from devpipe.cli.run_options import add_run_options, parameters_of, run_options
from devpipe.cli.workspace import engine_of

if TYPE_CHECKING:
    from devpipe.config.models import OutputConfig
    from devpipe.engine.engine import Engine
    from devpipe.record.reader import Recording

HELP = "A new run from an old one, from the first stage that the changes touch."
EXAMPLES = (
    "devpipe regenerate 20261122-141503-k3v9x2ma --seed 8",
    "devpipe regenerate k3v9x2ma -p bauhaus",
    'devpipe regenerate k3v9x2ma --text "a cat made of glass"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The old run, and what may be changed of it."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("-p", "--pipeline", help="another interception")
    parser.add_argument("-o", "--output", help="another output config")
    parser.add_argument("--prompt", help="another prompt")
    parser.add_argument("--text", help="your own wording of Stage 2's result")
    parser.add_argument(
        "--today",
        action="store_true",
        help="pipeline and output as their files say now, not as the recording keeps them",
    )
    add_run_options(parser)


def execute(arguments: Arguments) -> int:
    """The new run, followed."""
    from devpipe.cli.readiness import require_reachable
    from devpipe.cli.runs import show_runs

    with engine_of(arguments) as engine:
        source = engine.recordings.find(arguments.run)
        changes = run_options(arguments) | {
            "pipeline": arguments.pipeline,
            "output": arguments.output,
            "prompt": arguments.prompt,
            "text": arguments.text,
            "today": arguments.today,
        }
        if arguments.set:
            output = _output_of(engine, source, arguments.output)
            changes["parameters"] = parameters_of(output, arguments.set)
        wanted = arguments.output or (source.summary.started and source.summary.started.output)
        if arguments.output or wanted in engine.catalogue.outputs:
            require_reachable(arguments, engine, [str(wanted)])
        return show_runs(arguments, lambda: [engine.start_again(source.id, **changes)])


def _output_of(engine: Engine, source: Recording, name: str | None) -> OutputConfig:
    """The output config of the new run: the named one, else as the recording keeps it."""
    from devpipe.engine.request import recorded_configs

    if name is None:
        return recorded_configs(source).output
    return engine.catalogue.output(name)
