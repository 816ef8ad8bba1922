"""`devpipe list`: what there is, what is ready, and what was made."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from devpipe.cli.exits import EXIT_COMPLETED
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import complain, plain, say, say_json
from devpipe.cli.workspace import engine_of, recordings_of
from devpipe.errors import UnknownName, UsageError

HELP = "What there is, what of it is ready, and what was made."
EXAMPLES = (
    "devpipe list",
    "devpipe list outputs --ready",
    "devpipe list recordings --limit 20 --match bauhaus",
    "devpipe list recordings --state blocked",
)
LONGEST_PROMPT = 100  # characters of a prompt in a table
STATES = ("completed", "blocked", "failed", "cancelled", "interrupted", "running", "damaged")

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which list, and what of it."""
    parser.add_argument(
        "list",
        nargs="?",
        choices=["pipelines", "outputs", "backends", "recordings"],
        default="pipelines",
        help="pipelines (the default), outputs, backends or recordings, newest first",
    )
    parser.add_argument("--limit", metavar="N", help="no more than the first N")
    parser.add_argument("--match", metavar="TEXT", help="only those that say this somewhere")
    parser.add_argument("--ready", action="store_true", help="only what can be used now")
    parser.add_argument("--state", metavar="STATE", help=f"of recordings: {', '.join(STATES)}")


def execute(arguments: Arguments) -> int:
    """The list as columns, or as JSON."""
    limit = _limit_of(arguments)
    rows = _recordings(arguments) if arguments.list == "recordings" else _configs(arguments)
    chosen = [row for row in rows if _is_chosen(row, arguments)]
    if arguments.json:
        say_json(chosen[:limit])
        return EXIT_COMPLETED
    _print(chosen[:limit])
    if not chosen:
        complain(f"there are no {arguments.list}{' like that' if rows else ''}.")
    elif limit is not None and limit < len(chosen):
        complain(f"{limit} of {len(chosen)} {arguments.list}.")
    return EXIT_COMPLETED


def _limit_of(arguments: Arguments) -> int | None:
    """--limit as a number. Raises UsageError for what is none, or goes with another list."""
    is_recordings = arguments.list == "recordings"
    if arguments.state is not None and arguments.state not in STATES:
        raise UnknownName("state", arguments.state, STATES)
    if arguments.state is not None and not is_recordings:
        raise UsageError("--state is for recordings.", hint="See `devpipe list --help`.")
    if arguments.ready and is_recordings:
        raise UsageError("--ready is not for recordings.", hint="--state completed is.")
    limit: str | None = arguments.limit
    if limit is None:
        return None
    if not (limit.isascii() and limit.isdecimal() and int(limit[:10])):
        raise UsageError(f"--limit {limit!r} is no number of lines.", hint="Give 1 or more.")
    return int(limit[:10])


def _is_chosen(row: Row, arguments: Arguments) -> bool:
    wanted = (arguments.match or "").casefold()
    says = wanted in " ".join(map(str, row.values())).casefold()
    is_ready = not arguments.ready or row["ready"]
    return says and is_ready and arguments.state in (None, row.get("state"))


def _recordings(arguments: Arguments) -> list[Row]:
    """All runs, newest first, from the index beside them."""
    columns = ["run_id", "state", "pipeline", "output", "prompt"]
    newest_first = recordings_of(arguments).runs()[columns].iloc[::-1]
    known = newest_first.astype(object).where(newest_first.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def _configs(arguments: Arguments) -> list[Row]:
    if arguments.list == "backends":
        return _backends(arguments)
    return _outputs(arguments) if arguments.list == "outputs" else _pipelines(arguments)


def _backends(arguments: Arguments) -> list[Row]:
    from devpipe.cli.readiness import healths

    found = healths(arguments)
    return [
        {"name": name, "ready": health.ready, "about": f"{health.detail} {health.hint}".strip()}
        for name, health in found.items()
    ]


def _outputs(arguments: Arguments) -> list[Row]:
    from devpipe.cli.readiness import unready_outputs
    from devpipe.text.messages import machine_language

    unready = unready_outputs(arguments)
    with engine_of(arguments) as engine:
        return [
            {
                "name": name,
                "ready": name not in unready,
                "medium": output.medium,
                "backend": output.backend,
                "about": output.description.in_(machine_language()),
                "why": list(unready.get(name, ())),
            }
            for name, output in sorted(engine.catalogue.outputs.items())
        ]


def _pipelines(arguments: Arguments) -> list[Row]:
    from devpipe.cli.readiness import unready_pipelines
    from devpipe.text.messages import machine_language

    with engine_of(arguments) as engine:
        unready = unready_pipelines(engine)
        return [
            {
                "name": name,
                "ready": name not in unready,
                "about": pipeline.description.in_(machine_language()),
                "why": list(unready.get(name, ())),
            }
            for name, pipeline in sorted(engine.catalogue.interceptions.items())
        ]


def _print(rows: Sequence[Row]) -> None:
    """The table, then why what is not ready is not: once for all that share a reason."""
    from devpipe.cli.columns import table, terminal_width, wrapped
    from devpipe.cli.hints import in_words_of_the_shell

    width = terminal_width()
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for reason in row.get("why", ()):
            reasons.setdefault(reason, []).append(row["name"])
    for line in table([_cells(row) for row in rows], width):
        say(line)
    for reason, names in reasons.items():
        text = plain(in_words_of_the_shell(f"not ready: {', '.join(names)}: {reason}"))
        say("\n".join(wrapped(text, width)) if width else text)


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: _shown(name, value) for name, value in row.items() if name != "why"}


def _shown(name: str, value: object) -> str:
    """A value on one line."""
    if name == "ready":
        return "yes" if value else "no"
    text = "" if value is None else " ".join(plain(str(value)).split())
    if name == "prompt" and len(text) > LONGEST_PROMPT:
        return f"{text[: LONGEST_PROMPT - 3]}..."
    return text
