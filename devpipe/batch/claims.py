"""Who makes which cell of a batch, where several processes (or tasks of one) make them?

Below `recordings/.batches` lie, while a batch is under way:

    gate                        locked while a runner comes or goes
    NAME/runners/ID.json        locked by a runner as long as it lives; says host and process
    NAME/claims/CELL            locked by the runner that makes the cell; names the runs it began
    NAME/spent.jsonl            the budget, and what is reserved and spent; locked for each look

All locks are the kernel's (flock): they end with their process, so what a dead runner held is free
at once, and no clock is asked. What was made is known from the recordings alone; the folder of a
batch is thrown away when its last runner goes, or by the next one that comes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from devpipe.errors import RecorderError, UsageError
from devpipe.record.files import check_system, is_locked, lock_exclusive

FOLDER = ".batches"
GATE = "gate"
_ROUNDING_USD = 1e-9  # sums of prices are floats
_BEGUN = b"begun\n"


class Runner:
    """One runner of a batch, from `enter` to `leave`."""

    def __init__(self, folder: Path, file: Path, fd: int, ledger: Ledger) -> None:
        """Use `entering`."""
        self._folder = folder
        self._file = file
        self._fd = fd
        self.ledger = ledger

    def claim(self, name: str) -> Claim | None:
        """Take what this name stands for; None while another runner has it."""
        path = self._folder / "claims" / name
        with _typed(path):
            fd = _open(path)
            try:
                lock_exclusive(fd)
                return Claim(path, fd)
            except BlockingIOError:
                os.close(fd)
                return None
            except BaseException:  # any: the file is closed, and it is raised again
                os.close(fd)
                raise

    def leave(self) -> None:
        """Go; the last one takes the folder of the batch along."""
        self._file.unlink(missing_ok=True)
        os.close(self._fd)
        with suppress(OSError), _opened(self._folder.parent / GATE) as gate:
            lock_exclusive(gate)  # where it is held, somebody comes, and cleans up
            if not _others(self._folder):
                shutil.rmtree(self._folder)


class Claim:
    """A name that this runner has until `release`: of a cell, or of a text that cells share."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        lines = os.pread(fd, os.fstat(fd).st_size, 0).split()
        self._begun = lines[-1:] == [_BEGUN.strip()]
        self.runs = [line.decode() for line in lines if line != _BEGUN.strip()]

    def has_news(self, known: set[str]) -> bool:
        """Whether a runner began a run under this name that is not among those known."""
        return self._begun or any(run not in known for run in self.runs)

    def begin(self) -> None:
        """Say that a run begins: until `name` tells which, another runner has to look for it."""
        self._write(_BEGUN)

    def name(self, run_id: str) -> None:
        """Say which run began, or which one has the text."""
        self._write(f"{run_id}\n".encode())

    def release(self) -> None:
        """Let others have it."""
        os.close(self._fd)

    def _write(self, line: bytes) -> None:
        with _typed(self._path):
            os.write(self._fd, line)


@dataclass
class Ledger:
    """What a batch has spent, and what its running cells may still spend, over all its runners.

    A line is an entry: the first tells the budget and what earlier tries have cost, `reserve` takes
    the price of a cell before it begins, `settle` puts what it has cost in its place.
    """

    path: Path
    budget_usd: float | None = None
    spent_usd: float = 0.0
    _reserved: dict[str, float] = field(default_factory=dict)
    _read: int = 0  # bytes

    def open(self, spent_usd: float, budget_usd: float | None) -> None:
        """Begin the books of a batch that nobody else makes now."""
        with self._locked() as fd:
            self._write(fd, {"spent": spent_usd, "budget": budget_usd})

    def look(self) -> None:
        """Read what others have entered."""
        with self._locked():
            pass

    def reserve(self, cell: str, usd: float, *, goes_on: bool) -> bool:
        """Reserve the price of a cell. False where that would break the budget.

        A cell that `goes_on` where a dead runner left it has its price reserved already.
        """
        with self._locked() as fd:
            if goes_on and cell in self._reserved:
                return True
            limit = self.budget_usd
            spent = self.spent_usd - self._reserved.get(cell, 0.0)
            if limit is not None and usd > 0 and spent + usd > limit + _ROUNDING_USD:
                return False
            self._write(fd, {"reserve": cell, "usd": usd})
            return True

    def settle(self, cell: str, usd: float | None) -> None:
        """Enter what a cell has cost; where nobody knows (None), its price stays."""
        with self._locked() as fd:
            reserved = self._reserved.get(cell, 0.0)
            self._write(fd, {"settle": cell, "usd": reserved if usd is None else usd})

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file for this runner alone, with all its entries read."""
        with _typed(self.path), _opened(self.path) as fd:
            lock_exclusive(fd, wait=True)
            data = os.pread(fd, os.fstat(fd).st_size - self._read, self._read)
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):  # a runner died while it wrote
                os.ftruncate(fd, self._read + len(whole))
            for line in whole.splitlines():
                self._enter(json.loads(line))
            self._read += len(whole)
            yield fd

    def _write(self, fd: int, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        os.write(fd, line)
        self._read += len(line)
        self._enter(entry)

    def _enter(self, entry: dict[str, Any]) -> None:
        if "reserve" in entry:  # again: who had reserved it died before there was a run
            self.spent_usd += entry["usd"] - self._reserved.get(entry["reserve"], 0.0)
            self._reserved[entry["reserve"]] = entry["usd"]
        elif "settle" in entry:
            self.spent_usd += entry["usd"] - self._reserved.pop(entry["settle"], 0.0)
        else:
            self.spent_usd = entry["spent"]
            self.budget_usd = entry["budget"]


class Entry:
    """A runner that comes, while nobody else can come or go.

    `others`: who makes the batch now.
    """

    def __init__(self, folder: Path, batch: str) -> None:
        self._folder = folder
        self._batch = batch
        self.others = _others(folder)

    def check(self, *, join: bool, budget_usd: float | None) -> None:
        """Raises UsageError where the batch is under way and must not, or cannot so, be joined."""
        if not self.others:
            return
        other = self.others[0]
        if not join:
            raise UsageError(
                f"Batch {self._batch} is under way: process {other['process']} on {other['host']},"
                f" since {other['since']}.",
                hint="Wait for it, end that process, or work beside it: join=True.",
            )
        ledger = self._ledger()
        ledger.look()
        if budget_usd is not None and budget_usd != ledger.budget_usd:
            agreed = "no budget"
            if ledger.budget_usd is not None:
                agreed = f"a budget of {ledger.budget_usd} USD"
            raise UsageError(
                f"Batch {self._batch} is under way with {agreed}, not {budget_usd} USD.",
                hint="A batch has one: join without a budget of your own.",
            )

    def join(self) -> Runner:
        """Begin to be a runner, the first one in an empty folder."""
        if not self.others:
            shutil.rmtree(self._folder, ignore_errors=True)
        for name in ("runners", "claims"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        file = self._folder / "runners" / f"{secrets.token_hex(8)}.json"
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            lock_exclusive(fd)
            now = datetime.now().astimezone().isoformat(" ", "seconds")
            who = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
            os.write(fd, json.dumps(who).encode())
        except BaseException:  # any: the file is closed, and it is raised again
            os.close(fd)
            raise
        return Runner(self._folder, file, fd, self._ledger())

    def _ledger(self) -> Ledger:
        return Ledger(self._folder / "spent.jsonl")


@contextmanager
def entering(recordings: Path, batch: str) -> Iterator[Entry]:
    """Come to a batch: nobody else comes or goes while the block runs.

    Raises RecorderError where the folder of the recordings cannot be written or locked.
    """
    place = recordings / FOLDER
    check_system()
    with ExitStack() as stack:
        with _typed(place):
            place.mkdir(parents=True, exist_ok=True)
            gate = stack.enter_context(_opened(place / GATE))
            lock_exclusive(gate, wait=True)
        yield Entry(place / batch, batch)


def _others(folder: Path) -> list[dict[str, Any]]:
    """Who makes this batch now: those whose file is locked."""
    found = []
    for file in sorted((folder / "runners").glob("*.json")):
        with suppress(FileNotFoundError):  # it has just gone
            if is_locked(file):
                found.append(json.loads(file.read_text("utf-8")))
    return found


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A file of ours; closing it frees its lock."""
    fd = _open(path)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    """Turns what the system says into one of our errors, with what to do."""
    try:
        yield
    except OSError as error:
        raise RecorderError(
            f"The batch cannot be kept: {path}: {error.strerror or error}.",
            hint="Set DEVPIPE_RECORDINGS to a folder on a local disk that can be written.",
        ) from error
