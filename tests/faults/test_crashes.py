"""A recorder that is killed, starved and contested loses nothing that it acknowledged; broken ones
are caught by the same tests.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devpipe.errors import DevpipeError, RecorderError, RunLocked
from devpipe.record.events import RunFinished, Warned
from devpipe.record.reader import Recording
from devpipe.record.recorder import Recorder
from tests.faults.harness import NOTES, Job, Notes, Nursery, notes_fd, points, traced, violations
from tests.faults.writer import REDACT, RUN_ID, NoLock, spelled, started

pytestmark = pytest.mark.faults

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "EACCES")
PATIENCE_S = 60.0
ERROR_TYPES = {"ENOSPC": {"RecorderFull"}, "EDQUOT": {"RecorderFull"}}


MOMENTS = 20  # a writer is killed after so many acknowledgements at most


def wait(seconds: float) -> None:
    select.select([], [], [], seconds)


def killed_at_random(nursery: Nursery, folder: Path, seed: int, recorder: str = "Recorder") -> Job:
    """A writer killed at a random moment after a random acknowledgement: by its own progress, which
    a busy machine only delays.
    """
    draw = random.Random(seed)
    acknowledged = 1 + draw.randrange(MOMENTS)
    with nursery.job(folder, "endless", recorder=recorder, seed=seed) as job:
        until = time.monotonic() + PATIENCE_S
        while said(folder / NOTES) < acknowledged and time.monotonic() < until:
            wait(0.001)
        wait(draw.uniform(0, 0.003))  # the next act takes about as long
        os.kill(job.pid, signal.SIGKILL)
    assert job.killed and said(folder / NOTES) >= acknowledged
    return job


def said(notes: Path) -> int:
    """How often a writer has said that something is on disk."""
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


def test_200_kills_at_random_lose_nothing(nursery: Nursery, tmp_path: Path) -> None:
    """R1: after `kill -9` at any time all acknowledged events and files are there, nothing is torn,
    and the run can go on.
    """
    acknowledged = 0
    for seed in range(200):
        job = killed_at_random(nursery, tmp_path / str(seed), seed)
        notes = job.notes
        acknowledged += len(notes.events)
        assert not violations(job.run, notes), seed
    assert acknowledged > 2000


def kill_points(
    nursery: Nursery, folder: Path, act: str, recorder: str = "Recorder"
) -> dict[str, list[str]]:
    """What is wrong after a kill before each call that changes something; every kill is known to
    have happened.
    """
    job, log = traced(nursery, prepared(nursery, folder / "whole", act), act, recorder=recorder)
    assert job.notes.ended, job.notes
    wrong: dict[str, list[str]] = {}
    found = points(log, notes_fd(log))
    assert len(found) >= 20
    for name, nth in found:
        where = prepared(nursery, folder / f"{name}{nth}", act)
        job, _ = traced(
            nursery, where, act, recorder=recorder, inject=f"{name}:signal=KILL:when={nth}"
        )
        assert job.killed, (name, nth)
        if bad := violations(job.run, job.notes):
            wrong[f"{name} {nth}"] = bad
    return wrong


def prepared(nursery: Nursery, folder: Path, act: str) -> Path:
    """For a `resume`: a run that was killed in the middle of a line, with files that no event names
    and a lost text.
    """
    folder.mkdir(parents=True)
    if act == "resume":
        with nursery.job(folder, "whole") as job:
            pass
        events = job.run / "events.jsonl"
        lines = events.read_bytes().splitlines(keepends=True)
        keep = max(n for n, line in enumerate(lines) if b"attempt_started" in line) + 1
        events.write_bytes(b"".join(lines[:keep]) + lines[keep][:40])
        (job.run / "run.json").unlink()
        (job.run / "03_interception.txt").write_bytes(b"")
        notes = [spelled(one) for one in Recording(job.run).events]
        (folder / NOTES).write_text(
            f'{{"events": {str(notes).replace(chr(39), chr(34))}, "durable": true}}\n'
        )
    return folder


@pytest.mark.parametrize("act", ["whole", "resume"])
def test_a_kill_before_every_call_loses_nothing(
    nursery: Nursery, tmp_path: Path, strace: None, act: str
) -> None:
    """R2: killed before each single call that changes something, until the run ends, the recording
    is whole and goes on.
    """
    assert kill_points(nursery, tmp_path, act) == {}


def starved(
    nursery: Nursery, folder: Path, act: str, *, recorder: str = "Recorder", only: str = ""
) -> tuple[int, dict[str, list[str]]]:
    """What is wrong after each error of each call, and how many were tried."""
    _, log = traced(nursery, prepared(nursery, folder / "whole", act), act, recorder=recorder)
    wrong: dict[str, list[str]] = {}
    count = 0
    for name, nth in points(log, notes_fd(log)):
        for error in ERRORS if only in ("", name) else ():
            where = prepared(nursery, folder / f"{name}{nth}{error}", act)
            job, log = traced(
                nursery, where, act, recorder=recorder, inject=f"{name}:error={error}:when={nth}"
            )
            assert any("(INJECTED)" in line for line in log), (name, nth, error)
            count += 1
            if bad := untyped(name, error, job.notes) + violations(job.run, job.notes):
                wrong[f"{name} {nth} {error}"] = bad
    return count, wrong


def untyped(name: str, error: str, notes: Notes) -> list[str]:
    allowed = ERROR_TYPES.get(
        error, {"RecorderPoisoned"} if name in ("fsync", "fdatasync") else {"RecorderError"}
    )
    allowed = {*allowed, "RecorderError"} if name == "openat" else allowed  # of a file that is read
    found = (
        []
        if notes.error in allowed
        else [f"{notes.error or 'no error'} where {allowed} is due: {notes.said}"]
    )
    found += [] if notes.again is None else ["acknowledged an event after the fault"]
    says = any(
        words in notes.said
        for words in ("set DEVPIPE_RECORDINGS", "`devpipe resume", "`ulimit -n`")
    )
    return found + (
        []
        if notes.ours and RUN_ID[:8] in notes.said.replace("-", "") and says
        else [f"does not say what to do: {notes.said}"]
    )


@pytest.mark.parametrize("act", ["whole", "resume"])
def test_every_error_of_every_call_is_ours_and_loses_nothing(
    nursery: Nursery, tmp_path: Path, strace: None, act: str
) -> None:
    """R3: a full disk, a quota, bad sectors, no rights, no descriptors: a typed error, then no more
    acknowledgements, then recovery.
    """
    count, wrong = starved(nursery, tmp_path, act)
    assert wrong == {}
    assert count >= 100


@pytest.mark.parametrize("broken", ["InPlace", "AcknowledgesFirst"])
def test_kills_catch_a_broken_recorder(
    nursery: Nursery, tmp_path: Path, strace: None, broken: str
) -> None:
    """R5: one that writes in place, and one that acknowledges before it writes, are caught by a
    kill before some call.
    """
    assert kill_points(nursery, tmp_path, "whole", broken)


@pytest.mark.parametrize("broken", ["InPlace", "AcknowledgesFirst"])
def test_random_kills_catch_a_broken_recorder(
    nursery: Nursery, tmp_path: Path, broken: str
) -> None:
    """R5: the random kills see them too."""
    assert any(
        violations(job.run, job.notes)
        for seed in range(60)
        for job in [killed_at_random(nursery, tmp_path / str(seed), seed, broken)]
    )


@pytest.mark.parametrize(("broken", "call"), [("TriesFsyncAgain", "fsync"), ("GoesOn", "write")])
def test_errors_catch_a_broken_recorder(
    nursery: Nursery, tmp_path: Path, strace: None, broken: str, call: str
) -> None:
    """R5: one that tries a failed fsync again, and one that goes on after a failed write, are
    caught by an injected error.
    """
    assert starved(nursery, tmp_path, "whole", recorder=broken, only=call)[1]


RACE = """
import sys
import time
from pathlib import Path
from devpipe.errors import RunLocked
from devpipe.record.events import Warned
from tests.faults.writer import RECORDERS, REDACT
kind = RECORDERS[sys.argv[1]]
for line in sys.stdin:
    try:
        recorder = kind.resume(Path(line.strip()), redact=REDACT)
    except RunLocked as error:
        print("locked", error, flush=True)
    else:
        for n in range(20):
            recorder.record(Warned(message=f"the other {n}"))
        recorder.close()
        print("wrote", flush=True)
"""


def races(tmp_path: Path, kind: type[Recorder], count: int) -> tuple[list[str], int]:
    """What another process answers when it wants to write a run that is being written, and how many
    recordings were harmed.
    """
    answers, harmed = [], 0
    other = subprocess.Popen(
        [sys.executable, "-c", RACE, kind.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert other.stdin and other.stdout
    with other:
        for number in range(count):
            recorder = kind.create(tmp_path / str(number), RUN_ID, redact=REDACT)
            recorder.record(started())
            other.stdin.write(f"{recorder.folder}\n")
            written = 1
            while not select.select([other.stdout], [], [], 0)[0] or written < 20:
                recorder.record(Warned(message=f"ours {written}"))
                written += 1
            answers.append(other.stdout.readline())
            recorder.record(RunFinished(outcome="completed"))
            recorder.close()
            recording = Recording(recorder.folder)
            harmed += bool(recording.damage) or len(recording.events) != written + 1
        other.stdin.close()
    return answers, harmed


def test_a_second_writer_is_refused_100_times(tmp_path: Path) -> None:
    """R8: who wants to write a run that is being written is told by whom, and harms nothing."""
    answers, harmed = races(tmp_path, Recorder, 100)
    assert harmed == 0
    assert all(
        answer.startswith("locked")
        and f"process {os.getpid()} on " in answer
        and " since 20" in answer
        for answer in answers
    )
    assert len(answers) == 100


def test_races_catch_a_recorder_without_lock(tmp_path: Path) -> None:
    """R5: without the lock the same race harms recordings."""
    assert races(tmp_path, NoLock, 10)[1] > 0


def test_two_that_create_the_same_run(tmp_path: Path) -> None:
    """R9: an id belongs to one recorder; the second gets an error, never the folder."""
    with_id = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    with pytest.raises(RecorderError, match="already"):
        Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    with_id.close()
    with pytest.raises(DevpipeError):
        Recorder.create(tmp_path, "../../etc", redact=REDACT)
    assert issubclass(RunLocked, RecorderError)
