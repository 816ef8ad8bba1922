"""The process that the fault tests kill, starve and cut off: it records runs and says on a side
channel what was acknowledged.

Started once (`python -m tests.faults.writer`), it forks a child for each job that it reads from its
input, so that a job costs no import.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import stat
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from devpipe.errors import DevpipeError, RunLocked
from devpipe.record.events import (
    ArtifactWritten,
    AttachmentWritten,
    AttemptStarted,
    Event,
    Recorded,
    RunFinished,
    RunStarted,
    StageStarted,
    TextWritten,
    VerdictGiven,
    Warned,
)
from devpipe.record.reader import EVENTS, read_prefix
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.record.summary import RunSummary

RUN_ID = "20261122-141503-k3v2x2ma"
REDACT = Redactor(["sk-not-for-disk-123"])


class NoFolderFsync(Recorder):
    """Broken: the names of new files and folders may be gone after a power loss."""

    def _sync(self, *fds: int) -> None:
        self._unsynced = [fd for fd in self._unsynced if not stat.S_ISDIR(os.fstat(fd).st_mode)]
        super()._sync(*fds)


class NoFileFsync(Recorder):
    """Broken: makes names durable, but not the bytes."""

    def _sync(self, *fds: int) -> None:
        self._unsynced = [fd for fd in self._unsynced if stat.S_ISDIR(os.fstat(fd).st_mode)]
        super()._sync()


class EventBeforeFile(Recorder):
    """Broken: a file may be named by an event while its bytes are still on their way."""

    def write_files(self, files: Sequence[tuple[str, bytes]]) -> None:
        for name, data in files:
            self._unsynced.append(self._new_file(name, data))


class InPlace(Recorder):
    """Broken: writes the whole file anew for each event, as the predecessor did."""

    def _append(self, data: bytes) -> None:
        before = (self.folder / EVENTS).read_bytes()
        os.ftruncate(self._events, 0)
        os.write(self._events, before + data)
        self._size += len(data)


class AcknowledgesFirst(Recorder):
    """Broken: says that events are written, and writes them with the next ones."""

    late = b""

    def _append(self, data: bytes) -> None:
        super()._append(self.late)
        self.late = data


class TriesFsyncAgain(Recorder):
    """Broken: takes the success of a second fsync for the truth."""

    def _sync(self, *fds: int) -> None:
        waiting = list(self._unsynced)
        try:
            super()._sync(*fds)
        except OSError:
            self._unsynced = [fd for fd in waiting if fd in self._open]
            super()._sync(*fds)


class GoesOn(Recorder):
    """Broken: an error of the disk is no reason to stop."""

    def _append(self, data: bytes) -> None:
        try:
            super()._append(data)
        except OSError:
            self._size += len(data)


class NoLock(Recorder):
    """Broken: anybody may write."""

    def __init__(
        self, folder: Path, *, redact: Redactor, flags: int, pool: Executor | None
    ) -> None:
        super().__init__(folder, redact=redact, flags=flags, pool=pool)
        fcntl.flock(self._events, fcntl.LOCK_UN)


RECORDERS: dict[str, type[Recorder]] = {
    broken.__name__: broken
    for broken in (
        Recorder, NoFolderFsync, NoFileFsync, EventBeforeFile, InPlace, AcknowledgesFirst, TriesFsyncAgain, GoesOn, NoLock,
    )
}  # fmt: skip


class Witness:
    """A recorder under watch: whatever it acknowledges is noted in a file that no fault touches."""

    def __init__(self, recorder: Recorder, notes: int) -> None:
        self.recorder = recorder
        self.notes = notes
        self.recorded: list[Recorded] = []

    def record(self, *events: Event) -> None:
        recorded = self.recorder.record(*events)
        self.recorded += recorded
        self._note(
            events=[spelled(one) for one in recorded],
            durable=any(event.durable for event in events),
        )

    def write_files(self, *files: tuple[str, bytes]) -> None:
        self.recorder.write_files(files)
        self._note(files={name: hashlib.sha256(data).hexdigest() for name, data in files})

    def text(self, name: str, text: str, *, final: bool = False) -> Event:
        sha256 = self.recorder.write_text(name, text)
        return TextWritten(stage="interception", text=text, path=name, sha256=sha256, final=final)

    def _note(self, **said: Any) -> None:
        note(self.notes, **said)


def spelled(recorded: Recorded) -> str:
    """An event as a short name for what it says."""
    return (
        f"{recorded.seq}"
        f" {hashlib.sha256(recorded.event.model_dump_json().encode()).hexdigest()[:16]}"
    )


def note(notes: int, **said: Any) -> None:
    os.write(notes, json.dumps(said).encode() + b"\n")


def started(run_id: str = RUN_ID) -> Event:
    return RunStarted(
        run_id=run_id,
        pipeline="dada",
        output="sketch",
        texts={"prompt": "Eine Katze im Regen"},
        text_seed=7,
        safety="kids",
    )


def verdict() -> Event:
    return VerdictGiven(
        stage="input", allowed=True, sha256="0" * 64, level="kids", policy="1", method="rules"
    )


def artifact(name: str, data: bytes) -> Event:
    return ArtifactWritten(
        path=name, media_type="image/png", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)
    )


def picture(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def whole_run(witness: Witness) -> None:
    """A run as the engine writes it: attachment, texts, verdicts, intent, artifact, ending,
    summary.
    """
    image = picture(3000, 1)
    witness.write_files(("01_image.png", image))
    attached = AttachmentWritten(
        name="image",
        path="01_image.png",
        media_type="image/png",
        sha256=hashlib.sha256(image).hexdigest(),
        bytes=3000,
        width=1,
        height=1,
    )
    witness.record(started(), attached)
    witness.record(
        StageStarted(stage="input"),
        witness.text("02_input.txt", "Eine Katze im Regen"),
        verdict(),
        intent(),
    )
    witness.record(Warned(message="nothing that must survive a power loss"))
    witness.record(witness.text("03_interception.txt", "KATZE regen KATZE"), verdict(), intent())
    finish(witness, "04_image.png")


def finish(witness: Witness, name: str, before: Sequence[Recorded] = ()) -> None:
    image = picture(9000, 2)
    witness.write_files((name, image))
    witness.record(
        witness.text("09_last.txt", "the end", final=True),
        artifact(name, image),
        RunFinished(outcome="completed"),
    )
    witness.recorder.close(
        json.dumps(RunSummary.of([*before, *witness.recorded]).to_json()).encode()
    )


def intent() -> Event:
    return AttemptStarted(
        attempt=1, stage="generation", task="media", backend="openai", seed=7, paid=True
    )


def endless(witness: Witness, seed: int) -> None:
    """Records without pause until it is killed."""
    chance = random.Random(seed)
    witness.record(started())
    for number in range(1_000_000):
        name = f"{number:06d}_image.png"
        if chance.random() < 0.3:
            data = picture(chance.randrange(1, 60_000), number)
            witness.write_files((name, data))
            witness.record(artifact(name, data))
        elif chance.random() < 0.5:
            witness.record(
                witness.text(f"{number:06d}_text.txt", "Wörter " * chance.randrange(1000)),
                StageStarted(stage="input"),
            )
        else:
            witness.record(
                *[
                    Warned(message=f"{number} {n} " * chance.randrange(1, 200))
                    for n in range(chance.randrange(1, 5))
                ],
                intent(),
            )


def do(job: dict[str, Any], notes: int) -> None:
    """One job; an error is noted, and whether the recorder says so when it is asked again."""
    kind = RECORDERS[job["recorder"]]
    recorder = None
    try:
        if job["act"] == "resume":
            recorder = kind.resume(Path(job["folder"]), redact=REDACT)
            finish(Witness(recorder, notes), "08_image.png", before=job["before"])
        else:
            recorder = kind.create(Path(job["recordings"]), RUN_ID, redact=REDACT)
            fork(recorder) if job["act"] == "fork" else None
            (
                endless(Witness(recorder, notes), job["seed"])
                if job["act"] == "endless"
                else whole_run(Witness(recorder, notes))
            )
        note(notes, ended=True)
    except Exception as error:  # any: the test asks which
        note(
            notes, error=type(error).__name__, ours=isinstance(error, DevpipeError), said=str(error)
        )
        if recorder is not None:
            try_again(recorder, notes)


def try_again(recorder: Recorder, notes: int) -> None:
    try:
        note(notes, again=[spelled(one) for one in recorder.record(Warned(message="once more"))])
    except DevpipeError as error:
        note(notes, refused=type(error).__name__)


def fork(recorder: Recorder) -> None:
    """What a data loader does: copies the process with its open recorder.

    The copy must not write, and must not hold the lock.
    """
    pid = os.fork()
    if not pid:
        try:
            recorder.record(Warned(message="from the copy"))
        except RunLocked:
            recorder.close(b"{}")
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def child(job: dict[str, Any]) -> None:
    notes = os.open(job["notes"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if job["act"] == "resume":
        job["before"] = read_prefix(Path(job["folder"], EVENTS).read_bytes()).lines
    if job.get("gate"):  # wait until the tracer is there
        gate = os.open(job["gate"], os.O_RDWR)
        os.read(gate, 1)
    try:
        do(job, notes)
    finally:
        os._exit(0)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(json.loads(line))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
