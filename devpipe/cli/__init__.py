"""How is devpipe used from a shell? `main` parses; commands.py acts; screen.py prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, EXIT_BLOCKED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(prog="devpipe", description="Prompt interception: four stages, and a recording of everything that happened.")
    top.add_argument("--version", action="store_true", help="print the version and end")
    top.add_argument("--home", metavar="DIR", help="the workspace; else $DEVPIPE_HOME, or the nearest folder upwards with pipelines/")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else")
        return added

    _run(command("run", "Take a prompt through all four stages."))
    _again(command("regenerate", "A new run from an old one, from the first stage that the changes touch."))
    listed = command("list", "What there is.")
    listed.add_argument("what", nargs="?", choices=["pipelines", "outputs", "backends", "recordings"], default="pipelines")
    command("check", "Are all configs valid, all backends there? Says what is missing and how to get it.")
    command("show", "Show a recording.").add_argument("run", metavar="RUN", help="id of a run, or its beginning or end")
    verify = command("verify", "Check every byte of a recording against its events.")
    verify.add_argument("run", metavar="RUN", nargs="?")
    verify.add_argument("--all", action="store_true", help="every recording of the workspace")
    command("replay", "Make the same request again and say what is equal.").add_argument("run", metavar="RUN")
    command("resume", "Go on with a run whose process died.").add_argument("run", metavar="RUN")
    _batch(command("batch", "Run a plan: prompts x pipelines x outputs x seeds x parameters."))
    export = command("export", "Write the recordings as a table or as a self-contained archive.")
    export.add_argument("out", metavar="OUT.{csv,xlsx,parquet,zip}")
    export.add_argument("--runs", nargs="*", default=[], metavar="RUN", help="only these; else all")
    command("init", "Make a workspace: pipelines, output configs, notebooks, settings.").add_argument("dir", metavar="DIR")
    lab = command("lab", "Open JupyterLab on the workspace's notebooks.")
    lab.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to JupyterLab")
    command("tour", "The main job: a German and an English prompt, dada and bauhaus, all four stages.")
    return top


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument("prompt", metavar="PROMPT", help="the prompt; - reads it from standard input")
    run.add_argument("-p", "--pipeline", default="passthrough", help="interception (default: %(default)s)")
    run.add_argument("-o", "--output", action="append", metavar="OUTPUT", help="output config (default: sketch); may be given several times")
    run.add_argument("--prompt-2", metavar="TEXT", help="second text, for outputs that take two")
    run.add_argument("--instruction", default="", metavar="TEXT", help="your own instruction, for the pipeline user_defined")
    _common(run)


def _common(one: argparse.ArgumentParser) -> None:
    one.add_argument("--seed", metavar="N", help="of the medium; drawn where absent")
    one.add_argument("--text-seed", metavar="N", help="of Stages 1 and 2; drawn where absent")
    one.add_argument("--safety", metavar="LEVEL", help="kids, youth, adult or research; never looser than the workspace's")
    for name in ("image", "mask", "control"):
        one.add_argument(f"--{name}", metavar="FILE", help="a PNG, JPEG or WEBP" + (": white is where to change" if name == "mask" else ""))
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, e.g. width=512; may be given several times")


def _again(again: argparse.ArgumentParser) -> None:
    again.add_argument("run", metavar="RUN")
    again.add_argument("-p", "--pipeline", help="another interception")
    again.add_argument("-o", "--output", help="another output config")
    again.add_argument("--prompt", help="another prompt")
    again.add_argument("--text", help="your own wording of Stage 2's result")
    _common(again)


def _batch(batch: argparse.ArgumentParser) -> None:
    batch.add_argument("plan", metavar="PLAN.{yaml,csv}")
    batch.add_argument("--concurrency", type=int, default=4, metavar="N", help="runs at a time (default: %(default)s)")
    batch.add_argument("--budget", type=float, metavar="USD", help="stop before spending more")
    batch.add_argument("--resume", action="store_true", help="go on with an earlier try of this plan (also the default: nothing is done twice)")
    batch.add_argument("--dry-run", action="store_true", help="say what would be done, and end")


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Gives back the exit status of DESIGN: 0 completed, 3 blocked, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        asked = parser().parse_args(arguments)
        if asked.version:
            import devpipe

            print(f"devpipe {devpipe.__version__}")
            return EXIT_COMPLETED
        if not asked.command:
            parser().print_help()
            return EXIT_USAGE
        from devpipe.cli import commands

        return commands.act(asked)
    except KeyboardInterrupt:
        print("\ndevpipe: interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `devpipe list | head`
        sys.stderr.close()
        return EXIT_COMPLETED
