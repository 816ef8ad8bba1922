"""`devpipe batch PLAN`: many runs from one plan."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from devpipe.cli.exits import EXIT_COMPLETED, status_of_outcome, worst
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import complain, plain, say, say_result
from devpipe.cli.workspace import engine_of, unsynced
from devpipe.errors import UsageError

if TYPE_CHECKING:
    from devpipe.batch.report import Report, Row
    from devpipe.batch.runner import Batch
    from devpipe.engine.engine import Engine

HELP = "Run a plan: prompts x pipelines x outputs x seeds x parameters."
EXAMPLES = (
    "devpipe batch plan.yaml --dry-run",
    "devpipe batch plan.yaml --concurrency 8 --budget 5",
    "nohup devpipe batch plan.yaml > batch.log 2>&1 &",
)
LONGEST_PAUSE_S = 86400  # between two lines of progress
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
    parser.add_argument(
        "--progress",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how often to say how far it is; 0: after each cell (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and end")


def execute(arguments: Arguments) -> int:
    """The report of the batch, also of one that was stopped; with --dry-run the forecast."""
    from devpipe.batch.plan import Plan
    from devpipe.batch.progress import Progress
    from devpipe.batch.runner import Batch

    if not 0 <= arguments.progress <= LONGEST_PAUSE_S:
        raise UsageError(
            f"--progress {arguments.progress} is not possible.",
            hint=f"Give 0 to {LONGEST_PAUSE_S} seconds.",
        )
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
            progress=Progress(_say_on_stderr, every_s=arguments.progress),
        )
        if arguments.dry_run:
            say_result(batch.forecast, json=arguments.json)
            return EXIT_COMPLETED
        _require_reachable(arguments, engine, batch)
        for note in unsynced(engine.settings.recordings):
            complain(note)
        try:
            arguments.stops.wait(batch.run())
        finally:
            if batch.begun:
                say_result(batch.report, json=arguments.json)
    return worst([status_of_outcome(outcome) for outcome in batch.report.counts])


def _require_reachable(arguments: Arguments, engine: Engine, batch: Batch) -> None:
    """Raises Unavailable where cells are left and nobody who could make one can be reached."""
    from devpipe.cli.readiness import require_reachable

    if batch.forecast.done < len(batch.report.rows):
        left = {row.item.output for row in batch.report.rows if not row.earlier}
        require_reachable(arguments, engine, sorted(left))


def _say_on_stderr(line: str) -> None:
    say(plain(line), out=sys.stderr)


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
