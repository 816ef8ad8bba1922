"""devpipe as people call it: `command(...)` in this process, `shell(...)` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devpipe.recordings import Recording, Recordings

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


def shell(folder: Path, *arguments: str, stdin: bytes = b"", before: str = "", cwd: Path | None = None, **more: str) -> Done:
    """A real process; `before` is shell text that runs before it, such as `ulimit -f 8`."""
    command = [*DEVPIPE, *arguments]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=environment(folder, **more), cwd=cwd, timeout=PATIENCE_S, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def started(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """A real process at work, to be stopped by the test."""
    return subprocess.Popen(
        [*DEVPIPE, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        env=environment(folder, **more),
    )  # fmt: skip


def recordings(folder: Path) -> list[Recording]:
    return list(Recordings(folder))
