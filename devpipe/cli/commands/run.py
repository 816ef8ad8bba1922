"""`devpipe run PROMPT`: take a prompt through all four stages."""

from __future__ import annotations

import argparse
import os
import sys

from devpipe.cli.parser import Arguments
from devpipe.cli.run_options import add_run_options, parameters_of, run_options
from devpipe.cli.workspace import engine_of
from devpipe.errors import UsageError
from devpipe.values import MAX_PROMPT_CHARACTERS

HELP = "Take a prompt through all four stages."
EXAMPLES = (
    'devpipe run "a cat in the rain" -p dada',
    'devpipe run "a cat" -p bauhaus -o sketch -o sketch_sound --seed 7',
    'devpipe run "a cat" -p user_defined --instruction "turn it into a question"',
    "cat prompt.txt | devpipe run - --set width=512 --json",
)
MOST_BYTES = 4 * MAX_PROMPT_CHARACTERS  # UTF-8 takes up to four a character
PIECE = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A prompt, where it goes, and the options of any run."""
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        help="the prompt; - reads it from standard input; one that begins with - goes after --",
    )
    parser.add_argument(
        "-p", "--pipeline", default="passthrough", help="interception (default: %(default)s)"
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        metavar="OUTPUT",
        help="output config (default: sketch); may be repeated",
    )
    parser.add_argument("--prompt-2", metavar="TEXT", help="second text, for outputs that take two")
    add_run_options(parser)


def execute(arguments: Arguments) -> int:
    """One run per output, the interception being shared."""
    from devpipe.cli.readiness import require_reachable
    from devpipe.cli.runs import show_runs

    prompt = _prompt_from_stdin() if arguments.prompt == "-" else arguments.prompt
    if arguments.prompt_2 is not None:
        prompt = {"prompt": prompt, "prompt_2": arguments.prompt_2}
    outputs = list(dict.fromkeys(arguments.output or ["sketch"]))
    with engine_of(arguments) as engine:
        options = run_options(arguments) | {
            "pipeline": arguments.pipeline,
            "parameters": parameters_of(engine.catalogue.output(outputs[0]), arguments.set),
        }
        require_reachable(arguments, engine, outputs)
        return show_runs(
            arguments,
            lambda: engine.start(prompt, output=outputs, **options),
            several=len(outputs) > 1,
        )


def _prompt_from_stdin() -> str:
    """The prompt from standard input, in UTF-8 whatever the terminal speaks."""
    data = b""
    while sys.stdin and len(data) <= MOST_BYTES:
        # piece by piece: within one long read, Python would not hear a signal
        piece = os.read(sys.stdin.fileno(), PIECE)
        if not piece:
            break
        data += piece
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) > MOST_BYTES:
            return "x" * len(data)  # too long, whatever it says
        raise UsageError(
            f"Standard input is not UTF-8 at byte {error.start}.", hint="Save the prompt as UTF-8."
        ) from error
