"""The commands that make something happen, each a few calls of the Engine; and the one place where
errors become lines.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.cli import (
    EXIT_BLOCKED,
    EXIT_COMPLETED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Asked,
    looking,
)
from devpipe.cli.printing import complain, plain, say, say_json
from devpipe.cli.screen import Screen
from devpipe.errors import ConfigError, DevpipeError, UsageError
from devpipe.values import MAX_PROMPT_CHARACTERS, Scalar
from devpipe.version import __version__

if TYPE_CHECKING:
    from devpipe.batch.runner import Report, Row
    from devpipe.engine.engine import Engine
    from devpipe.engine.run import Run

_EXITS = {"completed": EXIT_COMPLETED, "blocked": EXIT_BLOCKED, "cancelled": EXIT_INTERRUPTED}
_WORST = (EXIT_INTERRUPTED, EXIT_USAGE, EXIT_FAILED, EXIT_BLOCKED, EXIT_COMPLETED)
TOUR = (
    "ein roter Kreis über einem stillen blauen See",
    "three small birds above a yellow house in the rain",
)
Start = Callable[[], "Sequence[Run]"]


def act(parse: Callable[[], Asked], *, json: bool) -> int:
    """Do what was asked; every error of ours is a line on stderr, with --json also an object on
    stdout.
    """
    try:
        asked = parse()
        return _version() if asked.version else _COMMANDS[asked.command](asked)
    except SystemExit as ended:  # argparse, after --help
        return int(ended.code or EXIT_COMPLETED)
    except KeyboardInterrupt:
        complain("interrupted. What was done is recorded.")
        return EXIT_INTERRUPTED
    except DevpipeError as error:
        return _refused(error, json=json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refused(
            DevpipeError(f"{where}{error.strerror or error}.", hint="Check the path and the disk."),
            json=json,
        )


def _version() -> int:
    say(f"devpipe {__version__}")
    return EXIT_COMPLETED


def _refused(error: DevpipeError, *, json: bool) -> int:
    if json:
        say_json({"run_id": None, "outcome": None, "error": error_json(error)})
    complain(str(error))
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def error_json(error: DevpipeError) -> dict[str, object]:
    told: dict[str, object] = {
        "type": type(error).__name__,
        "message": error.message.strip(),
        "hint": error.hint,
    }
    if isinstance(error, ConfigError):
        told["faults"] = [
            {"file": fault.file, "path": fault.path, "message": fault.message}
            for fault in error.faults
        ]
    return told


@contextlib.contextmanager
def _engine(asked: Asked) -> Iterator[Engine]:
    from devpipe.engine.engine import Engine

    engine = Engine(asked.workspace())
    try:
        yield engine
    finally:
        engine.close()


def _show_runs(asked: Asked, *starts: Start, several: bool = False) -> int:
    """Start runs, one `start` after the other; follow them on the screen, or print JSON.

    Gives back the worst exit status.
    """
    runs: list[Run] = []
    screens: list[Screen] = []

    async def follow() -> None:
        try:
            for start in starts:
                for run in started(start):
                    if not asked.json:
                        screens.append(Screen(run.folder))
                        run.follow(screens[-1])
                    with contextlib.suppress(
                        DevpipeError, OSError
                    ):  # told below; anything else is a fault of ours
                        await run
        except (
            BaseException
        ):  # a signal, or a fault of ours: every run writes its ending before anybody looks
            for run in runs:
                run.cancel()
            for run in runs:
                run.settled(10)
            raise

    def started(start: Start) -> Sequence[Run]:
        new = start()
        runs.extend(new)
        return new

    try:
        asked.wait(follow())
    finally:
        if asked.json and runs:
            told = [_told(run) for run in runs]
            say_json(told if several else told[0])
    for error in (screen.failed for screen in screens if screen.failed):
        raise error
    return _worst([_ended(run) for run in runs])


def _told(run: Run) -> dict[str, Any]:
    """The run as JSON; where its ending could not be written, with the error that the recording
    lacks.
    """
    told = run.summary.to_json(str(run.folder)) | {"run_id": run.id}
    return told | {"error": error_json(run.failure)} if run.failure and not told["error"] else told


def _worst(statuses: Sequence[int]) -> int:
    return min(statuses, key=_WORST.index, default=EXIT_FAILED)


def _ended(run: Run) -> int:
    """Exit status of a run; what made it fail or blocked it goes to stderr in one line."""
    if (failure := run.failure) is not None:
        complain(str(failure))
        return EXIT_USAGE if isinstance(failure, UsageError) else EXIT_FAILED
    if run.error is not None:
        complain(f"{run.error.message} {run.error.hint}")
    return _EXITS.get(run.outcome or "", EXIT_FAILED)


def _how(asked: Asked) -> dict[str, Any]:
    """The options that `run` and `regenerate` share."""
    names = ("seed", "text_seed", "safety", "instruction", "image", "mask", "control")
    return {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}


def _parameters(engine: Engine, output: str, settings: Sequence[str]) -> Mapping[str, Scalar]:
    """--set NAME=VALUE, each value read by the type that the output config declares."""
    parameters = {}
    for setting in settings:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or not name:
            raise UsageError(
                f"--set {setting!r} has no {'value' if name else 'name'}.",
                hint="Write --set NAME=VALUE.",
            )
        parameters[name] = engine.catalogue.output(output).parse(name, value)
    return parameters


def _from_stdin() -> str:
    """The prompt from standard input, in UTF-8 whatever the terminal speaks."""
    data = b""
    while (
        sys.stdin
        and len(data) <= 4 * MAX_PROMPT_CHARACTERS
        and (piece := os.read(sys.stdin.fileno(), 65536))
    ):
        data += piece  # piece by piece: within one long read, Python would not hear a signal
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) > 4 * MAX_PROMPT_CHARACTERS:
            return "x" * len(data)  # too long, whatever it says
        raise UsageError(
            f"Standard input is not UTF-8 at byte {error.start}.", hint="Save the prompt as UTF-8."
        ) from error
    return text


def _run(asked: Asked) -> int:
    prompt = _from_stdin() if asked.prompt == "-" else asked.prompt
    prompts = prompt if asked.prompt_2 is None else {"prompt": prompt, "prompt_2": asked.prompt_2}
    outputs = list(dict.fromkeys(asked.output or ["sketch"]))
    with _engine(asked) as engine:
        how = _how(asked) | {
            "pipeline": asked.pipeline,
            "parameters": _parameters(engine, outputs[0], asked.set),
        }
        return _show_runs(
            asked, lambda: engine.start(prompts, output=outputs, **how), several=len(outputs) > 1
        )


def _regenerate(asked: Asked) -> int:
    with _engine(asked) as engine:
        source = engine.recordings.find(asked.run)
        changes = _how(asked) | {
            name: getattr(asked, name) for name in ("pipeline", "output", "prompt", "text")
        }
        if asked.set:
            output = asked.output or (
                source.summary.started.output if source.summary.started else "sketch"
            )
            changes["parameters"] = _parameters(engine, output, asked.set)
        return _show_runs(asked, lambda: [engine.start_again(source.id, **changes)])


def _tour(asked: Asked) -> int:
    last: list[Run] = []

    def start(engine: Engine, prompt: str, pipeline: str) -> Start:
        def one() -> Sequence[Run]:
            last[:] = [engine.start(prompt, pipeline=pipeline, seed=7)]
            return last

        return one

    with _engine(asked) as engine:
        status = _show_runs(
            asked,
            *(start(engine, prompt, name) for prompt in TOUR for name in ("dada", "bauhaus")),
            several=True,
        )
    if not asked.json and status == EXIT_COMPLETED:
        command, lab = (
            (".venv/bin/devpipe", "make lab")
            if Path("Makefile").exists()
            else ("devpipe", "devpipe lab")
        )
        say(f"picture    {last[0].files[0]}\nrecording  {last[0].folder}\n")
        say(f'Your own:  {command} run "a cat in the rain" -p dada   or   {lab}')
    return status


def _resume(asked: Asked) -> int:
    with _engine(asked) as engine:
        return _show_runs(asked, lambda: [engine.start_resumed(asked.run)])


def _replay(asked: Asked) -> int:
    with _engine(asked) as engine:
        replay = asked.wait(engine.replay(asked.run))
    say_json(replay.to_json()) if asked.json else say(str(replay))
    return EXIT_COMPLETED if replay.equal else EXIT_FAILED


def _batch(asked: Asked) -> int:
    from devpipe.batch.plan import Plan
    from devpipe.batch.runner import Batch

    with _engine(asked) as engine:
        plan = Plan.read(asked.plan)
        batch = Batch(
            engine,
            plan,
            concurrency=asked.concurrency,
            budget_usd=asked.budget,
            on_row=lambda row: _progress(batch.report, row),
        )
        if asked.dry_run:
            say_json(batch.forecast.to_json()) if asked.json else say(str(batch.forecast))
            return EXIT_COMPLETED
        try:
            asked.wait(batch.run())
        finally:
            say_json(batch.report.to_json()) if asked.json else say(str(batch.report))
    return _worst([_EXITS.get(outcome, EXIT_FAILED) for outcome in batch.report.counts])


def _progress(report: Report, row: Row) -> None:
    """One line per finished run, on a terminal."""
    if sys.stderr.isatty():
        over, item = len(report.rows) - report.counts["not_started"], row.item
        said = (
            f"{item.pipeline} > {item.output}, seed {item.seed}:"
            f" {' '.join(item.prompt.split())[:40]}"
        )
        say(
            f"{over}/{len(report.rows)}  {row.outcome:<11} {row.run_id or row.error}  {said}",
            out=sys.stderr,
        )


def _safety_report(asked: Asked) -> int:
    from devpipe.safety.report import report

    with _engine(asked) as engine:
        done = asked.wait(
            report(engine, asked.labelled, level=asked.level, concurrency=max(1, asked.concurrency))
        )
    if asked.out:
        done.write(asked.out)
    say_json(done.to_json()) if asked.json else say(plain(str(done)))
    return EXIT_COMPLETED


def _init(asked: Asked) -> int:
    from devpipe.config.workspace import create

    made = create(Path(asked.dir))
    if asked.json:
        say_json({"home": str(made)})
    else:
        say(
            f'{made} is a workspace now. Next:\n  cd {shlex.quote(asked.dir)}\n  devpipe run "a cat'
            ' in the rain" -p dada'
        )
    return EXIT_COMPLETED


def _adopt(asked: Asked) -> int:
    from devpipe.cli.adopt import command

    return command(asked)


_COMMANDS: Mapping[str, Callable[[Asked], int]] = {
    "run": _run,
    "regenerate": _regenerate,
    "tour": _tour,
    "resume": _resume,
    "replay": _replay,
    "batch": _batch,
    "init": _init,
    "show": looking.show,
    "verify": looking.verify,
    "list": looking.names,
    "check": looking.check,
    "export": looking.export,
    "lab": looking.lab,
    "safety-report": _safety_report,
    "adopt": _adopt,
}
