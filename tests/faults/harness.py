"""What the fault tests share: jobs that can be killed and traced, and the check of what is left on
disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devpipe.analysis.verify import verify
from devpipe.errors import RecorderError, RecordingDamaged, UsageError
from devpipe.record.events import RunFinished
from devpipe.record.reader import EVENTS, SUMMARY, Recording, run_folder
from devpipe.record.recorder import Recorder
from tests.faults.writer import REDACT, RUN_ID, spelled

STRACE = shutil.which("strace")
CHANGES = "mkdir,openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,fchmod,chmod,flock"
NOTES, GATE = "notes.jsonl", "gate"


@dataclass
class Notes:
    """What a writer said before it ended."""

    events: list[str] = field(default_factory=list)  # acknowledged, in order
    durable: int = 0  # so many of them at least survive power loss
    files: dict[str, str] = field(default_factory=dict)
    error: str = ""
    ours: bool = False
    said: str = ""
    again: list[str] | None = None
    refused: str = ""
    ended: bool = False

    @classmethod
    def read(cls, path: Path) -> Notes:
        return cls.of(path.read_bytes().splitlines() if path.exists() else [])

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Notes:
        notes = cls()
        for line in lines:
            notes.add(json.loads(line))
        return notes

    def add(self, said: dict[str, Any]) -> None:
        self.events += said.pop("events", [])
        self.durable = len(self.events) if said.pop("durable", False) else self.durable
        self.files |= said.pop("files", {})
        for name, value in said.items():
            setattr(self, name, value)


class Nursery:
    """Forks writers that have everything imported already."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    @contextmanager
    def job(
        self,
        folder: Path,
        act: str,
        *,
        recorder: str = "Recorder",
        gated: bool = False,
        **more: Any,
    ) -> Iterator[Job]:
        """A writer at work in `folder`; the test may trace or kill it, and then waits for it."""
        folder.mkdir(parents=True, exist_ok=True)
        asked = {
            "act": act,
            "recorder": recorder,
            "recordings": str(folder / "recordings"),
            "notes": str(folder / NOTES),
            **more,
        }
        asked["folder"] = str(run_folder(folder / "recordings", RUN_ID))
        if gated:
            os.mkfifo(folder / GATE)
            asked["gate"] = str(folder / GATE)
        self._stdin.write(json.dumps(asked) + "\n")
        job = Job(folder, int(self._stdout.readline()))
        try:
            yield job
        finally:
            job.status = int(self._stdout.readline())

    def close(self) -> None:
        self._stdin.close()
        self._process.wait()
        self._stdout.close()


@dataclass
class Job:
    folder: Path
    pid: int
    status: int = -1

    @property
    def run(self) -> Path:
        return run_folder(self.folder / "recordings", RUN_ID)

    @property
    def notes(self) -> Notes:
        return Notes.read(self.folder / NOTES)

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


def traced(
    nursery: Nursery, folder: Path, act: str, *, inject: str = "", whole: bool = False, **more: Any
) -> tuple[Job, list[str]]:
    """A job run under strace, with one fault injected if asked, and the log of its calls that
    change something.
    """
    assert STRACE
    log = folder / "strace.log"
    with nursery.job(folder, act, gated=True, **more) as job:
        command = [
            STRACE,
            "-p",
            str(job.pid),
            "-o",
            str(log),
            "-e",
            f"trace={CHANGES}{',close' if whole else ''}",
        ]
        command += ["-xx", "-s", "10000000"] if whole else ["-s", "0"]
        command += ["-e", f"inject={inject}"] if inject else []
        gate = os.open(
            folder / GATE, os.O_WRONLY
        )  # waits until the writer has opened it: what it does before is not traced
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr
            said = strace.stderr.readline()
            assert "attached" in said, f"strace cannot trace here: {said}"
            os.write(gate, b"g")
            os.close(gate)
            strace.communicate()
    return job, log.read_text().splitlines()


def points(log: Sequence[str], notes_fd: int) -> list[tuple[str, int]]:
    """The calls of a log that the recorder made, each by name and by its number among those of its
    name.
    """
    found, count = [], dict[str, int]()
    for line in log:
        match = re.match(r"(\w+)\((\d*)", line)
        if match:
            name, fd = match.groups()
            count[name] = count.get(name, 0) + 1
            if not (name == "write" and fd == str(notes_fd)):
                found.append((name, count[name]))
    return found


def notes_fd(log: Sequence[str]) -> int:
    """The descriptor that the notes go to: the one written to most often last."""
    return int(re.findall(r"^write\((\d+),", "\n".join(log), re.MULTILINE)[-1])


def violations(run: Path, notes: Notes, *, power_loss: bool = False) -> list[str]:
    """What was promised for a dead writer's run and does not hold, before and after it is opened
    again.
    """
    must = notes.events[: notes.durable] if power_loss else notes.events
    if not run.exists():
        return [f"the run is gone with {len(must)} events"] if must else []
    try:
        found = _as_left(run, must, notes)
        return found or _resumed(run, must, power_loss=power_loss)
    except Exception as error:  # any: a reader never raises anything else than what is caught here
        return [f"{type(error).__name__}: {error}"]


def _as_left(run: Path, must: list[str], notes: Notes) -> list[str]:
    try:
        recording = Recording(run)
        left = [spelled(one) for one in recording.events]
    except RecordingDamaged:
        return ["events.jsonl is gone"] if must else []
    found = [f"lost: {one}" for one in must if one not in left]
    found += [f"{name} is not what the events say" for name in _wrong(recording)]
    for name, sha256 in notes.files.items():
        path = run / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            found.append(f"{name} was acknowledged and is not there")
    return found


def _wrong(recording: Recording) -> list[str]:
    """Files that events name and that are not so; a text may wait for `resume`, which has its words
    in the event.
    """
    wrong = []
    for name in recording.files:
        try:
            recording.read(name)
        except RecorderError:
            if recording.finished or not name.endswith(".txt"):
                wrong.append(name)
    return wrong


def _resumed(run: Path, must: list[str], *, power_loss: bool) -> list[str]:
    if Recording(
        run
    ).finished:  # run.json is derived: it is never torn by a kill, and may be by a power loss
        return [
            problem
            for problem in verify(Recording(run))
            if not (power_loss and problem.startswith(SUMMARY))
        ]
    try:
        recorder = Recorder.resume(run, redact=REDACT)
    except RecorderError:
        if (
            not must or b'"type":"run_finished"' in (run / EVENTS).read_bytes()
        ):  # what looks ended is left to a person
            return []
        return [f"cannot be resumed with {len(must)} events"]
    recorder.record(RunFinished(outcome="cancelled"))
    recorder.close(json.dumps(Recording(run).summary.to_json()).encode())
    left = [spelled(one) for one in Recording(run).events]
    try:
        Recorder.resume(run, redact=REDACT)
    except UsageError:
        return [f"lost in resume: {one}" for one in must if one not in left] + verify(
            Recording(run)
        )
    return ["a finished run was opened again"]
