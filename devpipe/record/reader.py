"""What is on disk of the runs? Read, checked and found again.

A line of events.jsonl is `{"v":1,"seq":0,"at":"...Z","type":"...",...,"crc":"<8 hex>"}`; the crc is
CRC-32 of the bytes before `,"crc"`.
What follows the first line that is not whole, or out of order, is not believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

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
from devpipe.record.files import is_locked, open_to_read
from devpipe.record.summary import RunSummary

EVENTS, SUMMARY, SUMMARY_PART = "events.jsonl", "run.json", ".run.json.part"
DERIVED = ".index"  # the folder beside the days for what is made from recordings: safe to delete
MAX_LINE = 1_000_000  # bytes
MAX_FILE = 2**30  # bytes: no recording of ours holds a larger file
_RUN_ID = re.compile(r"(\d{4})(\d\d)(\d\d)-\d{6}-[0-9a-z]{8}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,99}")
# the files of a run besides its events: what a person opens is numbered
OWN_FILES = re.compile(r"\d\d+_[0-9a-z_]+\.[0-9a-z]+|run\.json|\.run\.json\.part")
_HEAD = re.compile(
    rb'\{"v":(\d{1,9}),"seq":(\d{1,15}),"at":"([0-9TZ:.+-]{1,40})","type":"([^"\\]{1,100})"'
)
_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
# the next try will not find it either
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_TAIL_LENGTH = len(',"crc":"01234567"}')

# unknown: it ended in a way that only a later version can read
State = Literal["completed", "blocked", "failed", "cancelled", "interrupted", "running", "unknown"]


class UnknownEvent(Event):
    """A whole line that only another, most likely later, version can read."""

    why: str = ""


def parse_line(line: bytes) -> Recorded:
    """The event of one line (without its newline).

    Raises RecordingDamaged, saying how, if it is not the line that was written.
    """
    if len(line) > MAX_LINE:
        raise RecordingDamaged("longer than a line may be")
    head = _HEAD.match(line)
    tail = _TAIL.fullmatch(line[-_TAIL_LENGTH:])
    if not head or not tail:
        raise RecordingDamaged("not a whole line")
    if zlib.crc32(line[:-_TAIL_LENGTH]) != int(tail[1], 16):
        raise RecordingDamaged("checksum")
    version, seq, at, kind = head.groups()
    event = _event(line, version=int(version), kind=kind.decode("utf-8", "replace"))
    return Recorded(int(seq), at.decode(), event)


def _event(line: bytes, *, version: int, kind: str) -> Event:
    try:
        return EVENT.validate_json(line)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        what = kind if version == SCHEMA_VERSION else f"{kind} of schema version {version}"
        why = (what, ".".join(map(str, error["loc"])), error["msg"])
        return UnknownEvent(type=kind, why=": ".join(filter(None, why)))


@dataclass(frozen=True, slots=True)
class Prefix:
    """The part of an events.jsonl that can be believed, and what ended it."""

    lines: tuple[Recorded, ...]
    size: int
    damage: str = ""  # "" or "line 7: checksum"
    rest: tuple[Recorded, ...] = ()  # whole lines behind the damage

    @property
    def torn(self) -> bool:
        """Whether the damage may be that of a power loss.

        Then what stands behind it gives no proof that it was ever durable.

        Proof is an ending, or a durable event and one of a later write (those of one write share
        `at`).
        """
        last = self.rest[-1].at if self.rest else ""
        return not any(
            _is_ending(recorded.event) or (recorded.event.durable and recorded.at != last)
            for recorded in self.rest
        )


def read_prefix(data: bytes) -> Prefix:
    """The valid prefix of the bytes of an events.jsonl; never an exception."""
    lines: list[Recorded] = []
    size = 0
    while size < len(data):
        end = data.find(b"\n", size)
        line = data[size:end] if end >= 0 else b""
        try:
            recorded = parse_line(line)
            if recorded.seq != len(lines):
                raise RecordingDamaged(f"has number {recorded.seq} where {len(lines)} is due")
        except RecordingDamaged as exc:
            damage = f"line {len(lines) + 1}: {exc}"
            return Prefix(tuple(lines), size, damage, tuple(_whole_lines(data[size:])))
        lines.append(recorded)
        size = end + 1
    return Prefix(tuple(lines), size)


def _whole_lines(data: bytes) -> Iterator[Recorded]:
    for line in data.split(b"\n"):
        with suppress(RecordingDamaged):
            yield parse_line(line)


def _is_ending(event: Event) -> bool:
    """Whether a run ends with it, known or not to this version."""
    return event.type == "run_finished"


class Recording:
    """One run as it stands on disk.

    What is read once is kept; open a new Recording to see what was added since.
    """

    def __init__(self, folder: Path, *, prefix: Prefix | None = None) -> None:
        self.folder = folder
        self.id = folder.name
        if prefix:  # as its writer has read it
            self.prefix = prefix

    def __repr__(self) -> str:
        damaged = ", damaged" if self.damage else ""
        return f"<Recording {self.id} {self.state}, {len(self.events)} events{damaged}>"

    @cached_property
    def prefix(self) -> Prefix:
        """The lines that can be believed, and what ended them."""
        try:
            return read_prefix(read_file(self.folder, EVENTS))
        except RecordingDamaged as exc:
            return Prefix((), 0, exc.message)

    @cached_property
    def events(self) -> tuple[Recorded, ...]:
        """The events up to the first damage that this version can read.

        `notes` names the others.
        """
        return tuple(
            recorded
            for recorded in self.prefix.lines
            if not isinstance(recorded.event, UnknownEvent)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each whole line that was skipped."""
        return tuple(
            f"line {recorded.seq + 1}: skipped: {recorded.event.why}"
            for recorded in self.prefix.lines
            if isinstance(recorded.event, UnknownEvent)
        )

    @property
    def beginning(self) -> RunStarted | UnknownEvent | None:
        """The first event, if a run can begin with it.

        Also one that only a later version can read.
        """
        first = self.prefix.lines[0].event if self.prefix.lines else None
        return first if isinstance(first, RunStarted | UnknownEvent) else None

    @property
    def damage(self) -> str:
        """Empty, or where the valid part ends and why: "line 7: checksum"."""
        return self.prefix.damage

    @property
    def finished(self) -> bool:
        """Whether it has its ending, known or not to this version."""
        return any(_is_ending(recorded.event) for recorded in self.prefix.lines)

    @property
    def state(self) -> State:
        """How the run ended, or whether a process still writes it."""
        for recorded in reversed(self.prefix.lines):
            if isinstance(recorded.event, RunFinished):
                return recorded.event.outcome
            if _is_ending(recorded.event):
                return "unknown"
        return "running" if is_locked(self.folder / EVENTS) else "interrupted"

    @cached_property
    def summary(self) -> RunSummary:
        """The run folded into one value, by the same fold that follows it live."""
        return RunSummary.of(self.events)

    @cached_property
    def files(self) -> dict[str, tuple[str, int | None]]:
        """The files that the events name, with sha256 and size.

        The size is None where the event does not say it.
        """
        named: dict[str, tuple[str, int | None]] = {}
        for recorded in self.events:
            event = recorded.event
            if isinstance(event, ArtifactWritten | AttachmentWritten):
                named[event.path] = (event.sha256, event.bytes)
            elif isinstance(event, TextWritten) and event.path:
                sha256 = event.sha256 or hashlib.sha256(event.text.encode()).hexdigest()
                named[event.path] = (sha256, None)
        return named

    def path(self, name: str) -> Path:
        """Where a file of this run lies.

        Refuses what is not a plain file inside the folder.
        """
        os.close(_open(self.folder, name))
        return self.folder / name

    def read(self, name: str) -> bytes:
        """The bytes of a file that an event names.

        Raises RecordingDamaged if they are not those that were recorded.
        """
        if name not in self.files:
            raise UnknownName(f"file of run {self.id}", name, self.files)
        sha256, size = self.files[name]
        data = read_file(self.folder, name)
        if size not in (None, len(data)) or hashlib.sha256(data).hexdigest() != sha256:
            raise RecordingDamaged(
                f"{name} of run {self.id} is not what was recorded.",
                hint="Restore it from a backup.",
            )
        return data


class Recordings:
    """All runs below one folder, found by id."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        ids = (
            run_id
            for day in _folders(self.root, _DATE)
            for run_id in _folders(self.root / day, _RUN_ID)
        )
        return sorted(ids, reverse=True)

    def __iter__(self) -> Iterator[Recording]:
        return (Recording(run_folder(self.root, run_id)) for run_id in self.ids())

    def find(self, name: str) -> Recording:
        """Find the run of this id, or the only one beginning or ending so."""
        if _RUN_ID.fullmatch(name) and _is_folder(run_folder(self.root, name)):
            return Recording(run_folder(self.root, name))
        ids = self.ids()
        matching = [id_ for id_ in ids if name and (id_.startswith(name) or id_.endswith(name))]
        if len(matching) > 1:
            raise UsageError(
                f"{len(matching)} runs are called {name!r}.",
                hint=f"Say more of the id: {', '.join(matching[:5])} ...",
            )
        if not matching:
            # those of its day first; to compare more than that many takes seconds
            raise UnknownName("run", name, sorted(ids, key=lambda id_: id_[:8] != name[:8])[:1000])
        return Recording(run_folder(self.root, matching[0]))


def run_folder(root: Path, run_id: str) -> Path:
    """Where a run of this id lies: below the day its id names."""
    match = _RUN_ID.fullmatch(run_id)
    if not match:
        raise UsageError(
            f"{run_id!r} is no run id.", hint="One looks like 20261122-141503-k3v9x2ma."
        )
    year, month, day = match.groups()
    return root / f"{year}-{month}-{day}" / run_id


def is_file_name(name: str) -> bool:
    """Whether a file of a recording may be called so."""
    return _FILE_NAME.fullmatch(name) is not None and name not in (EVENTS, SUMMARY)


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


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of a file of a recording, whatever they are. Raises RecorderError."""
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
        kind = RecordingDamaged if exc.errno in _GONE else RecorderError
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
