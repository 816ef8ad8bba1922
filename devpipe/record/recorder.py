"""Writes one run down, event by event, on disk before it is shown.

What `record` and `write_files` have returned for is there.

Acknowledged events survive the death of the process, durable ones and files also power loss.
Everything is appended or new; the one thing ever cut is the torn tail that a dead writer left.
After any failed write or fsync the recorder is poisoned: an fsync that is tried again may report
success for pages that the kernel has thrown away (Rebello et al., "Can Applications Recover from
fsync Failures?", USENIX ATC 2020).
What a file system does not know at all, such as the fsync of a folder on some shares, is no
failure: the run says once, with its next event, that a power cut may take files there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from devpipe.errors import (
    RecorderError,
    RecorderFull,
    RecorderPoisoned,
    RecordingDamaged,
    RunLocked,
    UsageError,
)
from devpipe.record.events import (
    EVENT,
    SCHEMA_VERSION,
    Event,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
    TextWritten,
    Warned,
)
from devpipe.record.files import (
    NO_LINK,
    SyncError,
    begin_to_write,
    check_system,
    lock_exclusive,
    sync,
)
from devpipe.record.reader import (
    EVENTS,
    MAX_LINE,
    OWN_FILES,
    SUMMARY,
    SUMMARY_PART,
    Prefix,
    Recording,
    is_file_name,
    read_prefix,
    run_folder,
)
from devpipe.record.redaction import Redactor

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | NO_LINK
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNSYNCED = Warned(
    message="This file system cannot make folders durable, as some shares: after a power cut, files"
    " of a run may be missing. To be safe, set DEVPIPE_RECORDINGS to a folder on a local disk."
)
# for the lock: a reader that asks whether a run is being written holds it for some microseconds
_TRIES = 5
_HINTS = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Mend the rights of that folder, or set DEVPIPE_RECORDINGS to one that can be written.",
    ),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        "Too many files are open: end some runs, or raise the limit (`ulimit -n`).",
    ),
    **dict.fromkeys(
        (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
        "This file system cannot lock files, or keep them private: set DEVPIPE_RECORDINGS to a"
        " folder on a local disk.",
    ),
}


class Recorder:
    """The one writer of a run.

    Its methods block; they may be called from any thread.
    """

    def __init__(
        self, folder: Path, *, redact: Redactor, flags: int, pool: Executor | None
    ) -> None:
        """Use `create` or `resume`."""
        self.folder = folder
        self.run_id = folder.name
        self._redact = redact
        self._pool = pool
        self._busy = threading.Lock()
        self._pid = os.getpid()
        self._open: list[int] = []
        self._seq = 0
        self._size = 0
        self._finished = False
        self._poison = ""
        self._durable = True  # until the file system cannot do all that is asked of it
        self._said = False  # whether the recording says that it cannot
        try:
            self._folder = self._keep(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            day = self._keep(os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY))
            # folders and texts whose bytes the next durable event makes durable too
            self._unsynced = [self._folder, day]
            self._events = self._keep(
                os.open(EVENTS, flags | os.O_APPEND, 0o600, dir_fd=self._folder)
            )
            _lock(self._events, folder)
            os.fchmod(self._events, 0o600)
        except BaseException:
            self._release()
            raise

    @classmethod
    def create(
        cls, recordings: Path, run_id: str, *, redact: Redactor, pool: Executor | None = None
    ) -> Recorder:
        """The recorder of a new run, in recordings/<date>/<run_id>.

        Raises RecorderError where that folder cannot be made or exists.

        With a `pool` of threads, which must serve nothing else, fsyncs that do not depend on each
        other happen at once.
        """
        folder = run_folder(recordings, run_id)
        check_system()
        with _typed(folder):
            _make_day(folder.parent)
            try:
                _make_folder(folder)
            except FileExistsError as exc:
                raise RecorderError(
                    f"There is a run {run_id} already.",
                    hint="Ask for a new id with `new_run_id()`.",
                ) from exc
            return cls(folder, redact=redact, flags=_NEW, pool=pool)

    @classmethod
    def resume(cls, folder: Path, *, redact: Redactor, pool: Executor | None = None) -> Recorder:
        """Go on with a run whose process died.

        Its torn tail is cut off, unfinished files go, lost text files come back.

        Raises RunLocked if the run is being written, UsageError if it has its ending,
        RecordingDamaged if more than a tail is wrong.
        """
        check_system()
        with _typed(folder):
            recorder = cls(folder, redact=redact, flags=os.O_RDWR | NO_LINK, pool=pool)
            try:
                recorder._heal()
            except BaseException:
                recorder.close()
                raise
            return recorder

    def record(self, *events: Event) -> tuple[Recorded, ...]:
        """Write these events, with one write, and one fsync if any is durable.

        On return they are acknowledged.
        """
        for event in events:
            if not event.stored:
                raise TypeError(f"{type(event).__name__} is shown, never stored")
        ending = RunFinished in map(type, events)
        durable = True in [event.durable for event in events]
        with self._busy:
            self._check()
            if ending:  # a finished run is never healed: what it names must be there first
                with self._poisoning():
                    self._sync()
            if self._seq and not (self._durable or self._said):  # a killed run has no later place
                events = (UNSYNCED, *events)
                self._said = True
            placed = self._placed(events)
            data = b"".join([_line(recorded, body) for recorded, body in placed])
            with self._poisoning():
                self._append(data)
                if durable:
                    self._sync(self._events)
                self._seq += len(placed)
            self._finished = ending
            return tuple([recorded for recorded, _ in placed])

    def write_files(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Make these files, durably.

        When it returns they are complete on disk, and an event may name them.
        """
        with self._busy:
            self._check()
            _check_names([name for name, _ in files])
            with self._poisoning():
                self._unsynced = [
                    *(self._new_file(name, data) for name, data in files),
                    *self._unsynced,
                    self._folder,
                ]
                self._sync()

    def write_text(self, name: str, text: str) -> str:
        """Make a text file and return the sha256 of its bytes.

        It becomes durable with the next durable event.
        """
        data = _encoded(self._redact(text))
        with self._busy:
            self._check()
            _check_names([name])
            with self._poisoning():
                self._unsynced += [self._new_file(name, data), self._folder]
        return hashlib.sha256(data).hexdigest()

    def close(self, summary: bytes | None = None) -> None:
        """Write run.json if given, and let the run go. A second call does nothing."""
        with self._busy:
            if not self._open:
                return
            try:
                if summary is not None and not self._poison and os.getpid() == self._pid:
                    self._write_summary(summary)
            finally:
                self._release()

    def _write_summary(self, summary: bytes) -> None:
        with self._poisoning():
            self._new_file(SUMMARY_PART, self._redact(summary))
            os.rename(SUMMARY_PART, SUMMARY, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _heal(self) -> None:
        """Bring what a dead writer left to the state that its acknowledged events describe."""
        data = os.pread(self._events, os.fstat(self._events).st_size, 0)
        prefix = read_prefix(data)
        recording = Recording(self.folder, prefix=prefix)
        self._check_healable(prefix, recording)
        self._seq = len(prefix.lines)
        self._size = prefix.size
        self._said = UNSYNCED.message in recording.summary.notes
        self._drop_unnamed(recording)
        self._restore_texts(recording)
        os.ftruncate(self._events, prefix.size)
        self.record(RunResumed(cut_bytes=len(data) - prefix.size))

    def _check_healable(self, prefix: Prefix, recording: Recording) -> None:
        """Raises RecordingDamaged or UsageError for a run that cannot go on."""
        if (prefix.damage and not prefix.torn) or recording.beginning is None:
            problem = prefix.damage or f"{EVENTS} does not begin with run_started"
            raise RecordingDamaged(
                f"Run {self.run_id} cannot go on: {problem}.",
                hint="What is whole stays readable; start a new run.",
            )
        if recording.finished:
            raise UsageError(
                f"Run {self.run_id} has its ending already.",
                hint=f"Use `devpipe regenerate {self.run_id}`.",
            )
        if recording.notes:
            raise UsageError(
                f"Run {self.run_id} cannot go on here: {recording.notes[0]}.",
                hint="Resume it with the version that made it.",
            )

    def _drop_unnamed(self, recording: Recording) -> None:
        """Delete the files of ours that no event names.

        They were never acknowledged; they may be torn, and their names are needed.
        """
        for name in os.listdir(self._folder):
            if OWN_FILES.fullmatch(name) and name not in recording.files:
                os.unlink(name, dir_fd=self._folder)

    def _restore_texts(self, recording: Recording) -> None:
        texts = {
            recorded.event.path: recorded.event.text
            for recorded in recording.events
            if isinstance(recorded.event, TextWritten) and recorded.event.path
        }
        for name in recording.files:
            try:
                recording.read(name)
            except RecordingDamaged:
                if name not in texts:
                    raise
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._folder)
                self._unsynced.append(self._new_file(name, _encoded(texts[name])))

    def _signed(self, event: Event) -> Event:
        """Sign a beginning with who writes from there on.

        That is whom a second writer is told of.
        """
        if not isinstance(event, RunStarted | RunResumed):
            return event
        return event.model_copy(update={"writer": f"process {self._pid} on {socket.gethostname()}"})

    def _placed(self, events: Sequence[Event]) -> list[tuple[Recorded, str]]:
        """The events as they stand from now on in the run, each with its JSON, without secrets.

        Nearly always there is none: that is asked once for all of them.
        """
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spelled = [_spelled(self._signed(event)) for event in events]
        if self._redact.may_touch("\n".join([body for _, body in spelled])):
            spelled = [self._redacted(event, body) for event, body in spelled]
        numbered = enumerate(spelled, self._seq)
        return [(Recorded(seq, at, event), body) for seq, (event, body) in numbered]

    def _redacted(self, event: Event, body: str) -> tuple[Event, str]:
        values = json.loads(body)
        clean = self._redact.value(values)
        if clean == values:
            return event, body
        if isinstance(event, TextWritten) and event.path and clean["text"] != event.text:
            clean["sha256"] = hashlib.sha256(_encoded(clean["text"])).hexdigest()
        try:
            event = EVENT.validate_python(clean)
        except ValidationError as exc:
            raise RecorderError(
                "A secret of the settings is spelled like a word of the recording.",
                hint="Change that secret.",
            ) from exc
        return event, event.model_dump_json()

    def _append(self, data: bytes) -> None:
        try:
            done = os.write(self._events, data)
            if done < len(data):  # a disk that is full says so only to the next write
                done += os.write(self._events, data[done:])
            if done < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._events, self._size)
            raise
        self._size += len(data)

    def _new_file(self, name: str, data: bytes) -> int:
        fd = self._keep(os.open(name, _NEW, 0o600, dir_fd=self._folder))
        os.fchmod(fd, 0o600)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        return fd

    def _sync(self, *fds: int) -> None:
        """Make these durable, and all that waits for it."""
        waiting = list(dict.fromkeys([*fds, *self._unsynced]))
        begin_to_write(waiting)
        at_once = self._pool.map if self._pool and len(waiting) > 1 else map
        # all are tried, and what any of them raises is raised
        self._durable = all(list(at_once(sync, waiting))) and self._durable
        for fd in {*waiting} - {self._events, self._folder}:
            self._open.remove(fd)
            os.close(fd)
        self._unsynced = []

    def _keep(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def _release(self) -> None:
        for fd in self._open:
            with suppress(OSError):
                os.close(fd)
        self._open = []

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise RunLocked(
                f"Run {self.run_id} is written by process {self._pid}, not by its fork.",
                hint="Start a run of your own.",
            )
        if self._poison:
            raise RecorderPoisoned(
                f"Run {self.run_id} is not written further: {self._poison}",
                hint=f"Use `devpipe resume {self.run_id}`.",
            )
        if not self._open or self._finished:
            raise RecorderError(
                f"The recording of run {self.run_id} is closed.", hint="Start a new run."
            )

    @contextmanager
    def _poisoning(self) -> Iterator[None]:
        """Acknowledge nothing more once something has interrupted the block.

        It leaves the file in doubt.
        """
        try:
            with _typed(self.folder):
                yield
        except BaseException as exc:
            self._poison = str(exc) or type(exc).__name__
            raise


@contextmanager
def _typed(folder: Path) -> Iterator[None]:
    """Turns what the system says into one of our errors, with what to do."""
    try:
        yield
    except OSError as exc:
        said = f"{folder}: {exc.strerror or exc}."
        if exc.errno in _FULL:
            raise RecorderFull(
                said,
                hint=(
                    f"Free some space, then `devpipe resume {folder.name}`, or set"
                    " DEVPIPE_RECORDINGS."
                ),
            ) from exc
        if isinstance(exc, SyncError):
            raise RecorderPoisoned(
                f"{said} Its last bytes may be lost.", hint=f"Then `devpipe resume {folder.name}`."
            ) from exc
        raise RecorderError(
            f"The recording cannot be written: {said}",
            hint=_HINTS.get(
                exc.errno or 0, "Check the disk, or set DEVPIPE_RECORDINGS to a folder on another."
            ),
        ) from exc


def _make_day(day: Path) -> None:
    """The folder of a day.

    Durable at once: the runs of the day rely on it and do not look again.
    """
    if day.is_dir():
        return
    day.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        _make_folder(day)
    for folder in (day.parent, day.parent.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync(fd)
        finally:
            os.close(fd)


def _make_folder(folder: Path) -> None:
    os.mkdir(folder, 0o700)
    os.chmod(folder, 0o700)  # whatever the umask took away


def _lock(events: int, folder: Path) -> None:
    """Takes the run for this process; the kernel frees it with the process.

    Raises RunLocked that names who has it.
    """
    for left in reversed(range(_TRIES)):
        try:
            return lock_exclusive(events)
        except BlockingIOError as exc:
            if not left:
                raise RunLocked(
                    f"Run {folder.name} is being written by {_holder(folder)}.",
                    hint="Wait for it, or end that process.",
                ) from exc
            time.sleep(0.01)


def _holder(folder: Path) -> str:
    for recorded in reversed(Recording(folder).events):
        if isinstance(recorded.event, RunStarted | RunResumed):
            return f"{recorded.event.writer} since {recorded.at}"
    return "another process"


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not is_file_name(name):
            raise RecorderError(
                f"{name!r} is no name for a file of a recording.",
                hint="Use letters, digits, '_', '-' and '.'.",
            )


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a character, as a cut-off answer may end in
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _line(recorded: Recorded, body: str) -> bytes:
    head = f'{{"v":{SCHEMA_VERSION},"seq":{recorded.seq},"at":"{recorded.at}",'
    line = f"{head}{body[1:-1]}".encode()
    line += b',"crc":"%08x"}\n' % zlib.crc32(line)
    if len(line) > MAX_LINE:
        raise RecorderError(
            f"{type(recorded.event).__name__} takes {len(line)} bytes; an event holds {MAX_LINE}.",
            hint="Put its bytes in a file of the run.",
        )
    return line


def _spelled(event: Event) -> tuple[Event, str]:
    """Spell the event as JSON.

    If it holds what JSON cannot spell, the nearest event that can be.
    """
    try:
        return event, event.model_dump_json()
    except (PydanticSerializationError, UnicodeError) as exc:
        problem = exc
    try:
        spelled = json.dumps(event.model_dump(), ensure_ascii=False, default=to_jsonable_python)
    except (PydanticSerializationError, UnicodeError, TypeError):
        raise RecorderError(
            f"{type(event).__name__} cannot be written as JSON: {problem}.",
            hint="Give it plain JSON values.",
        ) from problem
    event = EVENT.validate_json(_encoded(spelled))
    return event, event.model_dump_json()
