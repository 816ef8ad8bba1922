"""`devpipe batch PLAN`: many runs from one plan."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from devpipe.cli.exits import EXIT_COMPLETED, status_of_outcome, worst
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import complain, say, say_result
from devpipe.cli.workspace import engine_of, unsynced

if TYPE_CHECKING:
    from devpipe.batch.report import Report, Row

HELP = "Run a plan: prompts x pipelines x outputs x seeds x parameters."
SHOWN_PROMPT = 40  # characters of a prompt in a line of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The plan, and how far and how fast to go."""
    parser.add_argument("plan", metavar="PLAN.{yaml,json,csv,xlsx,txt}")
    parser.add_argument(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="runs at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="USD",
        help="stop before the batch, with all its tries, has cost more",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an earlier try (the default: nothing is done twice)",
    )
    parser.add_argument(
        "--join",
        action="store_true",
        help="work beside another process that runs this plan: each cell is made once",
    )
    parser.add_argument(
        "--keep-duplicates",
        action="store_true",
        help="make each of several equal prompts (the default: one of them)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and end")


def execute(arguments: Arguments) -> int:
    """The report of the batch, also of one that was stopped; with --dry-run the forecast."""
    from devpipe.batch.plan import Plan
    from devpipe.batch.runner import Batch

    with engine_of(arguments) as engine:
        plan = Plan.read(arguments.plan)
        if arguments.keep_duplicates:
            plan = plan.model_copy(update={"keep_duplicates": True})
        batch = Batch(
            engine,
            plan,
            concurrency=arguments.concurrency,
            budget_usd=arguments.budget,
            join=arguments.join,
            on_row=lambda row: _print_progress(batch.report, row),
        )
        if arguments.dry_run:
            say_result(batch.forecast, json=arguments.json)
            return EXIT_COMPLETED
        for note in unsynced(engine.settings.recordings):
            complain(note)
        try:
            arguments.stops.wait(batch.run())
        finally:
            if batch.begun:
                say_result(batch.report, json=arguments.json)
    return worst([status_of_outcome(outcome) for outcome in batch.report.counts])


def _print_progress(report: Report, row: Row) -> None:
    """One line per finished run, on a terminal."""
    if not sys.stderr.isatty():
        return
    over = len(report.rows) - report.counts["not_started"]
    item = row.item
    prompt = " ".join(item.prompt.split())[:SHOWN_PROMPT]
    cell = f"{item.pipeline} > {item.output}, seed {item.seed}: {prompt}"
    line = f"{over}/{len(report.rows)}  {row.outcome:<11} {row.run_id or row.error}  {cell}"
    say(line, out=sys.stderr)
