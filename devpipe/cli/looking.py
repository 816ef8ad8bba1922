"""The commands that look at what is there: configs, backends, recordings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.cli import EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, Asked
from devpipe.cli.printing import complain, plain, say, say_json
from devpipe.cli.screen import Screen
from devpipe.errors import UsageError

if TYPE_CHECKING:
    from devpipe.analysis.tables import Tables
    from devpipe.record.reader import Recording

_WIDTH = 100  # characters of one value in a list


def _tables(asked: Asked) -> Tables:
    from devpipe.analysis.tables import Tables
    from devpipe.config.settings import Settings

    return Tables(Settings.load(asked.workspace()).recordings)


def show(asked: Asked) -> int:
    """The events of a recording as they were shown when they happened."""
    recording = _tables(asked).find(asked.run)
    if asked.json:
        say_json(recording.summary.to_json(str(recording.folder)) | {"run_id": recording.id})
    else:
        screen = Screen(recording.folder)
        for recorded in recording.events:
            screen(recorded)
    for note in (*([recording.damage] if recording.damage else []), *recording.notes):
        complain(note)
    if not recording.finished:
        complain(f"{recording.id} is {recording.state}{_go_on(recording)}.")
    return EXIT_COMPLETED


def verify(asked: Asked) -> int:
    """Every byte of one recording, or of all."""
    if bool(asked.run) == asked.all:
        raise UsageError("Verify what?", hint="Give a run, or --all.")
    tables, wrong, told = _tables(asked), 0, {}
    for recording in tables if asked.all else [tables.find(asked.run)]:
        problems = recording.verify()
        wrong += bool(problems)
        told[recording.id] = problems
        if not asked.json:
            say(f"{recording.id}  {_verified(recording, problems)}")
    if asked.json:
        say_json({"ok": not wrong, "runs": told})
    elif asked.all:
        say(f"{len(told)} recordings, {wrong or 'none'} damaged")
    return EXIT_FAILED if wrong else EXIT_COMPLETED


def _verified(recording: Recording, problems: Iterable[str]) -> str:
    if problems:
        return "\n  ".join(["DAMAGED", *map(plain, problems)])
    return "ok" if recording.finished else f"ok, {recording.state}{_go_on(recording)}"


def _go_on(recording: Recording) -> str:
    return (
        f": devpipe resume {recording.id}"
        if recording.state == "interrupted" and recording.events
        else ""
    )


def names(asked: Asked) -> int:
    """What there is, one line each."""
    rows = _recordings(asked) if asked.what == "recordings" else _configs(asked)
    if asked.json:
        say_json(rows)
        return EXIT_COMPLETED
    texts = [[" ".join(plain(str(value)).split()) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cut = [text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..." for text in row]
        say(
            "  ".join(
                text.ljust(min(width, _WIDTH)) for text, width in zip(cut, widths, strict=True)
            ).rstrip()
        )
    return EXIT_COMPLETED


def _recordings(asked: Asked) -> list[dict[str, Any]]:
    """All runs, newest first, from the index beside them."""
    wanted = ["run_id", "state", "pipeline", "output", "prompt"]
    runs = _tables(asked).runs()[wanted].iloc[::-1]
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in runs.to_dict("records")
    ]


def _configs(asked: Asked) -> list[dict[str, Any]]:
    from devpipe.engine.engine import Engine

    engine = Engine(asked.workspace())
    language = (
        "de" if os.environ.get("LC_ALL", os.environ.get("LANG", "")).startswith("de") else "en"
    )
    if asked.what == "backends":
        return [{"name": name} for name in engine.backends.names()]
    if asked.what == "outputs":
        outputs = sorted(engine.catalogue.outputs.items())
        return [
            {
                "name": n,
                "medium": o.medium,
                "backend": o.backend,
                "about": o.description.in_(language),
            }
            for n, o in outputs
        ]
    return [
        {"name": n, "about": p.description.in_(language)}
        for n, p in sorted(engine.catalogue.interceptions.items())
    ]


def check(asked: Asked) -> int:
    """Configs, settings and backends: what is usable, what is not, and what to do."""
    from devpipe.cli.check import checked
    from devpipe.comfyui.doctor import saved_info

    report = asked.wait(checked(asked.workspace(), saved_info(asked.object_info)))
    say_json(report.to_json()) if asked.json else say(plain(str(report)))
    return EXIT_USAGE if report.faults else EXIT_COMPLETED


def export(asked: Asked) -> int:
    """The recordings as a file for others."""
    from devpipe.analysis.export import export as write

    written = write(
        _tables(asked),
        Path(asked.out),
        runs=[run for runs in asked.runs for run in runs.split(",")],
    )
    say_json([str(path) for path in written]) if asked.json else say("\n".join(map(str, written)))
    return EXIT_COMPLETED


def lab(asked: Asked) -> int:
    """JupyterLab in place of this process."""
    place = asked.workspace().resolve()
    try:
        import jupyterlab  # noqa: F401  # only to say what is missing
    except ImportError as error:
        raise UsageError(
            "JupyterLab is not installed.", hint="Run `pip install devpipe[lab]`."
        ) from error
    options = [
        f"--ServerApp.root_dir={place}",
        "--LabApp.default_url=/lab/tree/notebooks",
        *asked.arguments,
    ]
    environment: Mapping[str, str] = os.environ | {"DEVPIPE_HOME": str(place)}
    os.execve(sys.executable, [sys.executable, "-m", "jupyter", "lab", *options], environment)
