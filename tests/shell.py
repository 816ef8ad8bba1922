"""devpipe as people call it: `here(...)` in this process, `shell(...)` as a process of
its own.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from forked import Forker

from devpipe.analysis.verify import verify
from devpipe.cli import main
from devpipe.record.reader import Recording, Recordings

REPOSITORY = Path(__file__).parents[1]
DEVPIPE = [sys.executable, "-m", "devpipe.cli"]
SMALL = ["--set", "width=64", "--set", "height=64"]
PATIENCE_S = 120


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout; fails where there is anything else."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line on stderr; fails where there is more, or none."""
        (line,) = self.err.splitlines()
        assert line.startswith("devpipe: ") and "Traceback" not in line
        return line


def environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment with the repository's workspace, and recordings in `folder`."""
    return os.environ | {"DEVPIPE_HOME": str(REPOSITORY), "DEVPIPE_RECORDINGS": str(folder)} | more


@cache
def forker() -> Forker:
    """The one of this process, until it ends."""
    made = Forker()
    atexit.register(made.close)
    return made


def shell(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    before: str = "",
    cwd: Path | None = None,
    **more: str,
) -> Done:
    """A process of its own; `before` is shell text that runs before it, such as `ulimit -f 8`.

    Forked from one that has imported devpipe, where nothing is asked of the interpreter's start.
    """
    environ = environment(folder, **more)
    if not before and forker().starts_alike(environ):
        forked = forker().run(arguments, environ, cwd or Path.cwd(), stdin, PATIENCE_S)
        return Done(forked.returncode, forked.stdout.decode(), forked.stderr.decode())
    command = [*DEVPIPE, *arguments]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        env=environ,
        cwd=cwd,
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def started(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """A real process at work, to be stopped by the test."""
    return subprocess.Popen(
        [*DEVPIPE, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        env=environment(folder, **more),
    )  # fmt: skip


def recordings(folder: Path) -> list[Recording]:
    """All of them, newest first; those of one second in any order."""
    return list(Recordings(folder))


def _has_parent(recording: Recording) -> bool:
    started = recording.summary.started
    return started is not None and started.parent is not None


def here(folder: Path) -> Callable[..., Done]:
    """The console script in this process: quicker, where no signal is meant."""

    def call(*arguments: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setenv("DEVPIPE_HOME", str(REPOSITORY))
            patch.setenv("DEVPIPE_RECORDINGS", str(folder))
            return Done(main(arguments), out.getvalue(), err.getvalue())

    return call


def strike(
    process: subprocess.Popen[str], number: int, *, lines: int = 0, delay: float = 0.0
) -> Done:
    """Send a signal once so many lines were printed and so many seconds have gone by after them."""
    assert process.stdout
    for _ in range(lines):
        process.stdout.readline()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    return Done(process.returncode, out, err)


def faults_after_stop(done: Done, folder: Path, number: int) -> list[str]:
    """What is not as promised after Ctrl-C or SIGTERM: the status, one line at most, every
    recording with its ending.
    """
    if done.status in (-number, 1) and "in main\n" not in done.err and not recordings(folder):
        return []  # the interpreter was starting, and nothing of ours ran
    found = [] if done.status in (0, 130) else [f"status {done.status}"]
    found += (
        [f"said: {done.err}"] if len(done.err.splitlines()) > 1 or "Traceback" in done.err else []
    )
    for recording in recordings(folder):
        found += verify(recording)
        if recording.state not in ("completed", "cancelled"):
            found.append(f"{recording.id} is {recording.state} with {len(recording.events)} events")
    return found


def faults_after_kill(folder: Path, command: Callable[..., Done]) -> list[str]:
    """What is not as promised after `kill -9`: all that was acknowledged verifies, and every
    interrupted run can be finished.
    """
    told = command("verify", "--all")
    found = [] if told.status == 0 else [told.out]
    # as the message of a refusal asks for
    for recording in sorted(recordings(folder), key=_has_parent):
        if recording.state == "interrupted" and recording.events:
            resumed = command("resume", recording.id)
            found += [] if resumed.status == 0 else [f"{recording.id}: {resumed.err}"]
            state = Recording(recording.folder).state
            found += [] if state == "completed" else [f"{recording.id} is {state} after resume"]
    told = command("verify", "--all")
    return found + ([] if told.status == 0 else [told.out])
