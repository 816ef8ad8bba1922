"""What is on disk of the runs: read, checked and found again, without a backend, a key, a network
or the engine.

A line of events.jsonl is `{"v":1,"seq":0,"at":"...Z","type":"...",...,"crc":"<8 hex>"}`; the crc is
CRC-32 of the bytes before `,"crc"`.
What follows the first line that is not whole, or out of order, is not believed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from devpipe.errors import RecorderError, RecordingDamaged, UnknownName, UsageError
from devpipe.record.events import (
    EVENT,
    SCHEMA_VERSION,
    ArtifactWritten,
    AttachmentWritten,
    Event,
    Recorded,
    RunFinished,
    RunStarted,
    TextWritten,
)
from devpipe.record.files import is_locked, is_open_to_others, open_to_read

if TYPE_CHECKING:
    from devpipe.record.summary import RunSummary

EVENTS, SUMMARY, SUMMARY_PART = "events.jsonl", "run.json", ".run.json.part"
DERIVED = ".index"  # the folder beside the days for what is made from recordings: safe to delete
MAX_LINE = 1_000_000  # bytes
MAX_FILE = 2**30  # bytes: no recording of ours holds a larger file
_RUN_ID = re.compile(r"(\d{4})(\d\d)(\d\d)-\d{6}-[0-9a-z]{8}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,99}")
_HEAD = re.compile(
    rb'\{"v":(\d{1,9}),"seq":(\d{1,15}),"at":"([0-9TZ:.+-]{1,40})","type":"([^"\\]{1,100})"'
)
_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_TAIL_LENGTH = len(',"crc":"01234567"}')

State = Literal["completed", "blocked", "failed", "cancelled", "interrupted", "running"]


class UnknownEvent(Event):
    """A whole line that this version cannot read as an event, most likely written by a
    later one.
    """

    type: str
    why: str = ""


def parse_line(line: bytes) -> Recorded:
    """The event of one line (without its newline).

    Raises RecordingDamaged, saying how, if it is not the line that was written.
    """
    if len(line) > MAX_LINE:
        raise RecordingDamaged("longer than a line may be")
    head, tail = _HEAD.match(line), _TAIL.fullmatch(line[-_TAIL_LENGTH:])
    if not head or not tail:
        raise RecordingDamaged("not a whole line")
    if zlib.crc32(line[:-_TAIL_LENGTH]) != int(tail[1], 16):
        raise RecordingDamaged("checksum")
    return Recorded(
        int(head[2]),
        head[3].decode(),
        _event(line, version=int(head[1]), kind=head[4].decode("utf-8", "replace")),
    )


def _event(line: bytes, *, version: int, kind: str) -> Event:
    try:
        return EVENT.validate_json(line)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        later = f" of schema version {version}" if version != SCHEMA_VERSION else ""
        where = ".".join(map(str, error["loc"]))
        return UnknownEvent(
            type=kind, why=f"{kind}{later}: {where}{': ' if where else ''}{error['msg']}"
        )


@dataclass(frozen=True, slots=True)
class Prefix:
    """The part of an events.jsonl that can be believed: its lines, its length in bytes, and what
    ended it.
    """

    lines: tuple[Recorded, ...]
    size: int
    damage: str = ""  # "" or "line 7: checksum"
    rest: tuple[Recorded, ...] = ()  # whole lines behind the damage

    @property
    def torn(self) -> bool:
        """Whether the damage may be that of a power loss: what stands behind it gives no proof that
        it was ever durable.

        Proof is an ending, or a durable event and one of a later write (those of one write share
        `at`).
        """
        last = self.rest[-1].at if self.rest else ""
        return not any(
            isinstance(one.event, RunFinished) or (one.event.durable and one.at != last)
            for one in self.rest
        )


def read_prefix(data: bytes) -> Prefix:
    """The valid prefix of the bytes of an events.jsonl; never an exception."""
    lines: list[Recorded] = []
    size = 0
    while size < len(data):
        end = data.find(b"\n", size)
        try:
            lines.append(_in_order(data[size:end] if end >= 0 else b"", len(lines)))
        except RecordingDamaged as exc:
            return Prefix(
                tuple(lines), size, f"line {len(lines) + 1}: {exc}", tuple(_whole(data[size:]))
            )
        size = end + 1
    return Prefix(tuple(lines), size)


def _in_order(line: bytes, seq: int) -> Recorded:
    recorded = parse_line(line)
    if recorded.seq != seq:
        raise RecordingDamaged(f"has number {recorded.seq} where {seq} is due")
    return recorded


def _whole(data: bytes) -> Iterator[Recorded]:
    for line in data.split(b"\n"):
        with suppress(RecordingDamaged):
            yield parse_line(line)


class Recording:
    """One run as it stands on disk.

    What is read once is kept; open a new Recording to see what was added since.
    """

    def __init__(self, folder: Path, *, prefix: Prefix | None = None) -> None:
        self.folder = folder
        self.id = folder.name
        if prefix:  # as its writer has read it
            self._prefix = prefix

    def __repr__(self) -> str:
        return (
            f"<Recording {self.id} {self.state}, {len(self.events)}"
            f" events{', damaged' if self.damage else ''}>"
        )

    @cached_property
    def _prefix(self) -> Prefix:
        try:
            return read_prefix(_read(self.folder, EVENTS))
        except RecordingDamaged as exc:
            return Prefix((), 0, exc.message)

    @cached_property
    def events(self) -> tuple[Recorded, ...]:
        """The events up to the first damage, without those that only a later version can read (see
        `notes`).
        """
        return tuple(
            recorded
            for recorded in self._prefix.lines
            if not isinstance(recorded.event, UnknownEvent)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each whole line that was skipped."""
        unknown = ((recorded.seq, recorded.event) for recorded in self._prefix.lines)
        return tuple(
            f"line {seq + 1}: skipped: {event.why}"
            for seq, event in unknown
            if isinstance(event, UnknownEvent)
        )

    @property
    def damage(self) -> str:
        """Empty, or where the valid part ends and why: "line 7: checksum"."""
        return self._prefix.damage

    @property
    def finished(self) -> bool:
        return any(isinstance(recorded.event, RunFinished) for recorded in self.events)

    @property
    def state(self) -> State:
        """How the run ended; if it has no end, whether a process still writes it."""
        for recorded in reversed(self.events):
            if isinstance(recorded.event, RunFinished):
                return recorded.event.outcome
        return "running" if is_being_written(self.folder) else "interrupted"

    @cached_property
    def summary(self) -> RunSummary:
        """The run folded into one value, by the same fold that follows it live."""
        from devpipe.record.summary import RunSummary  # the fold is of use to those who ask for it

        return RunSummary.of(self.events)

    @cached_property
    def files(self) -> dict[str, tuple[str, int | None]]:
        """The files that the events name, with sha256 and size (None where the event does
        not say).
        """
        named: dict[str, tuple[str, int | None]] = {}
        for event in (recorded.event for recorded in self.events):
            if isinstance(event, ArtifactWritten | AttachmentWritten):
                named[event.path] = (event.sha256, event.bytes)
            elif isinstance(event, TextWritten) and event.path:
                named[event.path] = (
                    event.sha256 or hashlib.sha256(event.text.encode()).hexdigest(),
                    None,
                )
        return named

    def path(self, name: str) -> Path:
        """Where a file of this run lies; refuses what is not a plain file inside the folder."""
        os.close(_open(self.folder, name))
        return self.folder / name

    def read(self, name: str) -> bytes:
        """The bytes of a file that an event names.

        Raises RecordingDamaged if they are not those that were recorded.
        """
        if name not in self.files:
            raise UnknownName(f"file of run {self.id}", name, self.files)
        sha256, size = self.files[name]
        data = _read(self.folder, name)
        if (size is not None and len(data) != size) or hashlib.sha256(data).hexdigest() != sha256:
            raise RecordingDamaged(
                f"{name} of run {self.id} is not what was recorded.",
                hint="Restore it from a backup.",
            )
        return data

    def verify(self) -> list[str]:
        """Everything that is wrong with the recording, each in a sentence; empty if every byte is
        as its events say.

        What a dead writer left after its last acknowledged event, a torn tail or a file without
        event, is not wrong: `resume` clears it.
        """
        problems = [f"{EVENTS}: {self.damage}"] if self.damage and not self._ends_open else []
        if not self.folder.is_dir():
            return problems
        if self._unborn:
            return self._strangers()
        started = self._prefix.lines[0].event if self._prefix.lines else None
        if not isinstance(started, RunStarted | UnknownEvent):
            problems.append(f"{EVENTS}: does not begin with run_started")
        elif isinstance(started, RunStarted) and started.run_id != self.id:
            problems.append(f"{EVENTS}: is of run {started.run_id}")
        problems += [
            f"{EVENTS}: goes on after the end of the run"
            for r in self.events[:-1]
            if isinstance(r.event, RunFinished)
        ]
        return problems + self._wrong_files() + self._wrong_summary() + self._strangers()

    @property
    def _ends_open(self) -> bool:
        """Whether there is no ending, and at most a torn tail in its place."""
        missing = self.damage and not self.damage.startswith("line ")
        return not (self.finished or self._prefix.rest or missing)

    @property
    def _unborn(self) -> bool:
        """Whether the writer died before its first event was acknowledged."""
        left = {entry.name for entry in os.scandir(self.folder)}
        return not left or (not self._prefix.lines and self._ends_open and SUMMARY not in left)

    def _wrong_files(self) -> list[str]:
        problems = []
        for name in self.files:
            try:
                self.read(name)
            except RecorderError as exc:
                problems.append(str(exc))
        return problems

    def _wrong_summary(self) -> list[str]:
        if not os.path.lexists(self.folder / SUMMARY):
            return []
        try:
            if self.finished and _holds(
                json.loads(json.dumps(self.summary.to_json())),
                json.loads(_read(self.folder, SUMMARY)),
            ):
                return []
        except (RecorderError, ValueError):
            pass
        return [f"{SUMMARY}: is not what the events say. It is derived from them: delete it."]

    def _strangers(self) -> list[str]:
        """Files nobody named, and modes that let others read."""
        problems = []
        if is_open_to_others(self.folder.stat()):
            problems.append("the folder can be read by others")
        for entry in os.scandir(self.folder):
            if entry.name not in {*self.files, EVENTS, SUMMARY, SUMMARY_PART}:
                problems += [] if self._ends_open else [f"{entry.name}: no event names it"]
            elif is_open_to_others(entry.stat(follow_symlinks=False)):
                problems.append(f"{entry.name}: can be read by others")
        return problems


def _holds(now: object, written: object) -> bool:
    """Whether a summary says all that an older one said; fields are added in time."""
    if isinstance(now, dict) and isinstance(written, dict):
        return all(key in now and _holds(now[key], value) for key, value in written.items())
    if isinstance(now, list) and isinstance(written, list):
        return len(now) == len(written) and all(map(_holds, now, written))
    return now == written


class Recordings:
    """All runs below one folder, found by id."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        days = _folders(self.root, _DATE)
        return sorted(
            (name for day in days for name in _folders(self.root / day, _RUN_ID)), reverse=True
        )

    def __iter__(self) -> Iterator[Recording]:
        return (Recording(run_folder(self.root, run_id)) for run_id in self.ids())

    def find(self, name: str) -> Recording:
        """The run of this id, or the only one whose id begins or ends so."""
        if _RUN_ID.fullmatch(name) and _is_folder(run_folder(self.root, name)):
            return Recording(run_folder(self.root, name))
        ids = self.ids()
        found = [
            run_id for run_id in ids if name and (run_id.startswith(name) or run_id.endswith(name))
        ]
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} runs are called {name!r}.",
                hint=f"Say more of the id: {', '.join(found[:5])} ...",
            )
        if not found:
            raise UnknownName("run", name, ids[:1000])
        return Recording(run_folder(self.root, found[0]))


def run_folder(root: Path, run_id: str) -> Path:
    """Where a run of this id lies: below the day its id names."""
    match = _RUN_ID.fullmatch(run_id)
    if not match:
        raise UsageError(
            f"{run_id!r} is no run id.", hint="One looks like 20261122-141503-k3v9x2ma."
        )
    return root / f"{match[1]}-{match[2]}-{match[3]}" / run_id


def is_file_name(name: str) -> bool:
    """Whether a file of a recording may be called so."""
    return _FILE_NAME.fullmatch(name) is not None and name not in (EVENTS, SUMMARY)


def is_being_written(folder: Path) -> bool:
    """Whether a process has the run open for writing: the kernel says so, and forgets it with the
    process.
    """
    try:
        events = open_to_read(folder / EVENTS)
    except OSError:
        return False
    try:
        return is_locked(events)
    finally:
        os.close(events)


def _open(folder: Path, name: str) -> int:
    if not (name in (EVENTS, SUMMARY) or is_file_name(name)):
        raise RecordingDamaged(
            f"{name!r} is no file of a recording.",
            hint="Names hold letters, digits, '_', '-' and '.'.",
        )
    with _typed(folder / name):
        fd = open_to_read(folder / name)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RecordingDamaged(
            f"{folder / name} is no plain file.", hint="Restore it from a backup."
        )
    return fd


def _read(folder: Path, name: str) -> bytes:
    fd = _open(folder, name)
    with _typed(folder / name), open(fd, "rb") as file:
        if os.fstat(fd).st_size > MAX_FILE:
            raise RecordingDamaged(
                f"{folder / name} is larger than any file of ours.",
                hint="Restore it from a backup.",
            )
        return file.read()


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        gone = exc.errno in (
            errno.ENOENT,
            errno.ENOTDIR,
            errno.ELOOP,
            errno.ENXIO,
        )  # the next try will not find it either
        kind = RecordingDamaged if gone else RecorderError
        raise kind(
            f"{path} cannot be read: {exc.strerror}.",
            hint="Mend it, or set DEVPIPE_RECORDINGS to another folder.",
        ) from exc


def _folders(parent: Path, pattern: re.Pattern[str]) -> list[str]:
    if not parent.exists():
        return []
    with _typed(parent), os.scandir(parent) as entries:
        return [
            entry.name
            for entry in entries
            if pattern.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.parent.is_symlink()
