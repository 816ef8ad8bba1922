"""The commands, each a few calls of the Engine or of the recordings."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.cli import EXIT_BLOCKED, EXIT_COMPLETED, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from devpipe.errors import DevpipeError, UsageError
from devpipe.values import Scalar

if TYPE_CHECKING:
    from devpipe.engine import Engine
    from devpipe.run import Run

_EXITS = {"completed": EXIT_COMPLETED, "blocked": EXIT_BLOCKED, "cancelled": EXIT_INTERRUPTED}


def act(asked: argparse.Namespace) -> int:
    """Do what was asked; every error of ours is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a test's own stream
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return _COMMANDS[asked.command](asked)
    except DevpipeError as error:
        if asked.json:
            print(json.dumps({"run_id": None, "outcome": None, "error": error_json(error)}, ensure_ascii=False))
        print(f"devpipe: {str(error).strip()}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def error_json(error: DevpipeError) -> dict[str, str]:
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def _home(asked: argparse.Namespace) -> Path:
    from devpipe.workspace import find_home

    return Path(asked.home) if asked.home else find_home()


@contextlib.contextmanager
def _engine(asked: argparse.Namespace) -> Any:
    from devpipe.engine import Engine

    engine = Engine(_home(asked))
    try:
        yield engine
    finally:
        engine.close()


def _wait(work: Awaitable[Any]) -> Any:
    """Run until done; Ctrl-C and SIGTERM cancel it, and what it writes last is on disk when they are raised."""

    async def guarded() -> Any:
        task = asyncio.ensure_future(work)
        with contextlib.suppress(NotImplementedError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _print(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str))


# Runs.


def _show_runs(asked: argparse.Namespace, start: Callable[[], list[Run]]) -> int:
    """Start runs, follow them on the screen (or wait and print JSON), give back the worst exit status."""
    from devpipe.cli.screen import Screen

    runs: list[Run] = []

    async def follow() -> None:
        runs.extend(start())
        for run in runs:
            if not asked.json:
                run.follow(Screen(run.folder))
            with contextlib.suppress(DevpipeError):
                await run

    try:
        _wait(follow())
    finally:
        if asked.json and runs:
            told = [run.summary.to_json(str(run.folder)) for run in runs]
            _print(told[0] if len(told) == 1 else told)
    return max((_ended(run) for run in runs), default=EXIT_FAILED)


def _ended(run: Run) -> int:
    """Exit status of a run; what made it fail goes to stderr in one line."""
    if (failure := run.failure) is not None:
        print(f"devpipe: {failure}", file=sys.stderr)
        return EXIT_USAGE if isinstance(failure, UsageError) else EXIT_FAILED
    return _EXITS.get(run.outcome or "", EXIT_FAILED)


def _how(asked: argparse.Namespace) -> dict[str, Any]:
    """The options that `run` and `regenerate` share."""
    names = ("seed", "text_seed", "safety", "image", "mask", "control")
    return {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}


def _parameters(engine: Engine, output: str, settings: list[str]) -> Mapping[str, Scalar]:
    """--set NAME=VALUE, each value read by the type that the output config declares."""
    parameters = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} has no value.", hint="Write --set NAME=VALUE.")
        parameters[name.strip()] = engine.catalogue.output(output).parse(name.strip(), value)
    return parameters


def _run(asked: argparse.Namespace) -> int:
    prompt = sys.stdin.read() if asked.prompt == "-" else asked.prompt
    prompts = {"prompt": prompt, "prompt_2": asked.prompt_2} if asked.prompt_2 else prompt
    outputs = asked.output or ["sketch"]
    with _engine(asked) as engine:
        how = _how(asked) | {"pipeline": asked.pipeline, "instruction": asked.instruction}
        how["parameters"] = _parameters(engine, outputs[0], asked.set)
        return _show_runs(asked, lambda: engine.start(prompts, output=outputs, **how))


def _regenerate(asked: argparse.Namespace) -> int:
    with _engine(asked) as engine:
        source = engine.recordings.find(asked.run)
        changes = _how(asked) | {name: getattr(asked, name) for name in ("pipeline", "output", "prompt", "text")}
        output = asked.output or (source.summary.started.output if source.summary.started else "sketch")
        if asked.set:
            changes["parameters"] = _parameters(engine, output, asked.set)
        return _show_runs(asked, lambda: [engine.start_again(source.id, **changes)])


def _tour(asked: argparse.Namespace) -> int:
    prompts = ("ein roter Kreis über einem stillen blauen See", "three small birds above a yellow house in the rain")
    runs: list[Run] = []
    with _engine(asked) as engine:
        for prompt in prompts:
            for pipeline in ("dada", "bauhaus"):
                status = _show_runs(asked, lambda p=prompt, i=pipeline: runs.append(engine.start(p, pipeline=i, seed=7)) or runs[-1:])  # type: ignore[misc]
                if status != EXIT_COMPLETED:
                    return status
    if not asked.json:
        print(f"picture    {runs[-1].files[0]}\nrecording  {runs[-1].folder}\n")
        print("Your own: .venv/bin/devpipe run \"...\" -p dada   or   make lab" if Path("Makefile").exists() else 'Your own: devpipe run "..." -p dada')
    return EXIT_COMPLETED


def _resume(asked: argparse.Namespace) -> int:
    with _engine(asked) as engine:
        return _show_runs(asked, lambda: [engine.start_resumed(asked.run)])


def _replay(asked: argparse.Namespace) -> int:
    with _engine(asked) as engine:
        replay = _wait(engine.replay(asked.run))
    if asked.json:
        _print(replay.to_json())
    else:
        print(replay)
    return EXIT_COMPLETED if replay.equal else EXIT_FAILED


def _batch(asked: argparse.Namespace) -> int:
    from devpipe.batch.plan import Plan

    with _engine(asked) as engine:
        plan = Plan.read(asked.plan)
        if asked.dry_run:
            forecast = engine.forecast(plan)
            _print(forecast.to_json()) if asked.json else print(forecast)
            return EXIT_COMPLETED
        report = _wait(engine.batch(plan, concurrency=asked.concurrency, budget_usd=asked.budget))
    if asked.json:
        _print(report.to_json())
    else:
        print(report)
    return EXIT_COMPLETED if report.complete else EXIT_FAILED


# Looking.


def _tables(asked: argparse.Namespace) -> Any:
    from devpipe.analysis.tables import Tables
    from devpipe.settings import Settings

    return Tables(Settings.load(_home(asked)).recordings)


def _show(asked: argparse.Namespace) -> int:
    from devpipe.cli.screen import Screen

    recording = _tables(asked).find(asked.run)
    if asked.json:
        _print(recording.summary.to_json(str(recording.folder)))
        return EXIT_COMPLETED
    screen = Screen(recording.folder)
    for recorded in recording.events:
        screen(recorded)
    if recording.damage:
        print(f"damaged: {recording.damage}", file=sys.stderr)
    if not recording.finished:
        print(f"{recording.state}" + (f": devpipe resume {recording.id}" if recording.state == "interrupted" else ""))
    return EXIT_COMPLETED


def _verify(asked: argparse.Namespace) -> int:
    tables = _tables(asked)
    if not asked.all and not asked.run:
        raise UsageError("Verify what?", hint="Give a run, or --all.")
    problems = {recording.id: recording.verify() for recording in (tables if asked.all else [tables.find(asked.run)])}
    if asked.json:
        _print({"ok": not any(problems.values()), "runs": problems})
    else:
        for run_id, found in problems.items():
            print(f"{run_id}  " + ("ok" if not found else "\n  ".join(["DAMAGED", *found])))
    return EXIT_FAILED if any(problems.values()) else EXIT_COMPLETED


def _list(asked: argparse.Namespace) -> int:
    if asked.what == "recordings":
        rows = [
            {"run_id": one.id, "state": one.state, "pipeline": started.pipeline, "output": started.output, "prompt": started.texts.get("prompt", "")}
            for one in _tables(asked)
            if (started := one.summary.started)
        ]
    else:
        with _engine(asked) as engine:
            rows = _names(engine, asked.what)
    if asked.json:
        _print(rows)
        return EXIT_COMPLETED
    from devpipe.cli.screen import plain

    for row in rows:
        first, *rest = [plain(str(value)).replace("\n", " ")[:100] for value in row.values()]
        print(f"{first:<30} " + "  ".join(rest))
    return EXIT_COMPLETED


def _names(engine: Engine, what: str) -> list[dict[str, str]]:
    language = "de" if os.environ.get("LC_ALL", os.environ.get("LANG", "")).startswith("de") else "en"
    if what == "backends":
        return [{"name": name} for name in engine.backends.names()]
    if what == "outputs":
        found: Any = engine.catalogue.outputs
        return [{"name": n, "medium": o.medium, "backend": o.backend, "about": o.description.in_(language)} for n, o in sorted(found.items())]
    return [{"name": n, "about": p.description.in_(language)} for n, p in sorted(engine.catalogue.interceptions.items())]


def _check(asked: argparse.Namespace) -> int:
    from devpipe.cli.check import checked

    with _engine(asked) as engine:
        report = _wait(checked(engine))
    if asked.json:
        _print(report.to_json())
    else:
        print(report)
    return EXIT_USAGE if report.faults else EXIT_COMPLETED


def _export(asked: argparse.Namespace) -> int:
    from devpipe.analysis.export import export

    written = export(_tables(asked), Path(asked.out), runs=asked.runs)
    _print([str(path) for path in written]) if asked.json else print("\n".join(map(str, written)))
    return EXIT_COMPLETED


def _init(asked: argparse.Namespace) -> int:
    from devpipe.workspace import create

    home = create(Path(asked.dir))
    _print({"home": str(home)}) if asked.json else print(f'{home} is a workspace now. Next: cd {asked.dir}; devpipe run "a cat in the rain" -p dada')
    return EXIT_COMPLETED


def _lab(asked: argparse.Namespace) -> int:
    home = _home(asked).resolve()
    arguments = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={home}", "--LabApp.default_url=/lab/tree/notebooks", *asked.arguments]
    try:
        import jupyterlab  # noqa: F401  # only to say what is missing
    except ImportError as error:
        raise UsageError("JupyterLab is not installed.", hint="Run `pip install devpipe[lab]`.") from error
    os.execv(sys.executable, arguments)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run, "regenerate": _regenerate, "tour": _tour, "resume": _resume, "replay": _replay, "batch": _batch,
    "show": _show, "verify": _verify, "list": _list, "check": _check, "export": _export, "init": _init, "lab": _lab,
}  # fmt: skip
