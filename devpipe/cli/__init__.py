"""How is devpipe used from a shell? `main` parses; commands.py acts, looking.py shows; screen.py
prints; stops.py hears signals.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

from devpipe.cli.stops import EXIT_INTERRUPTED, Stops
from devpipe.config.workspace import find_home, is_workspace
from devpipe.errors import UsageError

EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, EXIT_BLOCKED = 0, 1, 2, 3


class Asked(argparse.Namespace):
    """What the command line asks for."""

    command: str
    json: bool = False
    home: str | None = None
    wait: Callable[[Coroutine[Any, Any, Any]], Any]

    def workspace(self) -> Path:
        """The workspace of this command. Raises UsageError where there is none."""
        if not self.home:
            return find_home()
        if not is_workspace(Path(self.home)):
            raise UsageError(
                f"--home {self.home!r} is no workspace.",
                hint=f"Correct it, or run `devpipe init {self.home}`.",
            )
        return Path(self.home)


class _Parser(argparse.ArgumentParser):
    """Wrong usage is an error like any other: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        if "PROMPT" in message or "unrecognized" in message:
            hint = "Several words stand in quotes; what begins with - goes to the end, after --."
        raise UsageError(
            f"{message[:1].upper()}{message[1:].removesuffix('.')}.",
            hint=f"See `{self.prog} --help`. {hint}".strip(),
        )


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    about = "Prompt interception: four stages, and a recording of everything that happened."
    top = _Parser(prog="devpipe", description=about, allow_abbrev=False)
    top.add_argument("--version", action="store_true", help="print the version and end")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    home = {
        "metavar": "DIR",
        "help": "the workspace; else $DEVPIPE_HOME, or the nearest folder upwards with pipelines/",
    }
    top.add_argument("--home", **home)  # type: ignore[arg-type]

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.add_argument(
            "--json", action="store_true", help="print JSON on stdout and nothing else"
        )
        added.add_argument("--home", default=argparse.SUPPRESS, **home)  # type: ignore[arg-type]
        return added

    _run(command("run", "Take a prompt through all four stages."))
    _again(
        command(
            "regenerate", "A new run from an old one, from the first stage that the changes touch."
        )
    )
    listed = command("list", "What there is.")
    listed.add_argument(
        "what",
        nargs="?",
        choices=["pipelines", "outputs", "backends", "recordings"],
        default="pipelines",
    )
    checking = command(
        "check",
        "Are all configs valid, all backends there? Says what is missing and how to get it.",
    )
    adopting = command(
        "adopt",
        "Make an output config of a ComfyUI graph: an API export, or a PNG that ComfyUI wrote.",
    )
    adopting.add_argument("graph", metavar="GRAPH.{json,png}")
    adopting.add_argument("--name", metavar="NAME", help="of the output; else that of the file")
    adopting.add_argument(
        "--yes",
        action="store_true",
        help="take the likeliest place for each value, and ask nothing",
    )
    for one in (checking, adopting):
        one.add_argument(
            "--object-info",
            metavar="FILE",
            help="what a ComfyUI server said of its nodes (its /object_info), to ask none",
        )
    command("show", "Show a recording.").add_argument(
        "run", metavar="RUN", help="id of a run, or its beginning or end"
    )
    verify = command("verify", "Check every byte of a recording against its events.")
    verify.add_argument("run", metavar="RUN", nargs="?")
    verify.add_argument("--all", action="store_true", help="every recording of the workspace")
    command("replay", "Make the same request again and say what is equal.").add_argument(
        "run", metavar="RUN"
    )
    command("resume", "Go on with a run whose process died.").add_argument("run", metavar="RUN")
    _batch(command("batch", "Run a plan: prompts x pipelines x outputs x seeds x parameters."))
    export = command("export", "Write the recordings as a table or as a self-contained archive.")
    export.add_argument("out", metavar="OUT.{csv,xlsx,parquet,zip}")
    export.add_argument(
        "--runs",
        action="append",
        default=[],
        metavar="RUN[,RUN]",
        help="only these; else all. May be given several times",
    )
    command(
        "init", "Make a workspace: pipelines, output configs, notebooks, settings."
    ).add_argument("dir", metavar="DIR")
    lab = command("lab", "Open JupyterLab on the workspace's notebooks.")
    lab.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="passed on to JupyterLab")
    _report(
        command(
            "safety-report", "Run labelled texts through the check and say how often it is right."
        )
    )
    command(
        "tour", "The main job: a German and an English prompt, dada and bauhaus, all four stages."
    )
    return top


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "prompt",
        metavar="PROMPT",
        help="the prompt; - reads it from standard input; one that begins with - goes after --",
    )
    run.add_argument(
        "-p", "--pipeline", default="passthrough", help="interception (default: %(default)s)"
    )
    run.add_argument(
        "-o",
        "--output",
        action="append",
        metavar="OUTPUT",
        help="output config (default: sketch); may be repeated",
    )
    run.add_argument("--prompt-2", metavar="TEXT", help="second text, for outputs that take two")
    _common(run)


def _common(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--instruction", metavar="TEXT", help="your own instruction, for the pipeline user_defined"
    )
    one.add_argument("--seed", metavar="N", help="of the medium; drawn where absent")
    one.add_argument("--text-seed", metavar="N", help="of Stages 1 and 2; drawn where absent")
    one.add_argument(
        "--safety",
        metavar="LEVEL",
        help="kids, youth, adult or research; never looser than the workspace's",
    )
    for name in ("image", "mask", "control"):
        one.add_argument(
            f"--{name}",
            metavar="FILE",
            help="a PNG, JPEG or WEBP" + (": white is where to change" if name == "mask" else ""),
        )
    one.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, e.g. width=512; may be repeated",
    )


def _again(again: argparse.ArgumentParser) -> None:
    again.add_argument("run", metavar="RUN")
    again.add_argument("-p", "--pipeline", help="another interception")
    again.add_argument("-o", "--output", help="another output config")
    again.add_argument("--prompt", help="another prompt")
    again.add_argument("--text", help="your own wording of Stage 2's result")
    _common(again)


def _batch(batch: argparse.ArgumentParser) -> None:
    batch.add_argument("plan", metavar="PLAN.{yaml,csv}")
    batch.add_argument(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="runs at a time (default: %(default)s)",
    )
    batch.add_argument(
        "--budget",
        type=float,
        metavar="USD",
        help="stop before the batch, with all its tries, has cost more",
    )
    batch.add_argument(
        "--resume",
        action="store_true",
        help="go on with an earlier try (the default: nothing is done twice)",
    )
    batch.add_argument("--dry-run", action="store_true", help="say what would be done, and end")


def _report(report: argparse.ArgumentParser) -> None:
    report.add_argument(
        "labelled",
        metavar="LABELLED.csv",
        help="columns text,label (safe or unsafe) and, if you like, category",
    )
    report.add_argument(
        "--level",
        metavar="LEVEL",
        help="kids, youth, adult or research; never looser than the workspace's",
    )
    report.add_argument("-o", "--out", metavar="OUT.csv", help="write what was said of each text")
    report.add_argument(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="texts at a time (default: %(default)s)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script.

    Gives back the exit status of DESIGN: 0 completed, 3 blocked, 1 failed, 2 wrong usage, 130
    interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    with Stops(json="--json" in options, last=arguments is None) as stops:
        _usable_streams()
        from devpipe.cli.commands import act

        status = act(lambda: _asked(given, stops), json="--json" in options)
        _flush()
        return status


def _asked(given: list[str], stops: Stops) -> Asked:
    asked = parser().parse_args(given, namespace=Asked())
    asked.wait = stops.wait
    if not (asked.command or asked.version):
        raise UsageError("No command is given.", hint="See `devpipe --help`.")
    return asked


def _usable_streams() -> None:
    """A closed stream becomes one that swallows; a character that a terminal cannot show becomes a
    question mark.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # open as long as the process
        with contextlib.suppress(AttributeError):  # a test's own stream
            getattr(sys, name).reconfigure(errors="replace")


def _flush() -> None:
    """Send out what argparse printed; the interpreter would complain at its end where nobody reads
    it.
    """
    from devpipe.cli.printing import nowhere

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere(stream)


__all__ = [
    "EXIT_BLOCKED",
    "EXIT_COMPLETED",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "Asked",
    "main",
    "parser",
]
