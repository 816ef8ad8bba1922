"""After a power loss at any moment all that had to be durable is there, and nothing is named that
is not.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devpipe.record.reader import run_folder
from tests.faults.harness import NOTES, Notes, Nursery, notes_fd, traced, violations
from tests.faults.simfs import Disk, materialise
from tests.faults.test_crashes import prepared
from tests.faults.writer import RUN_ID

pytestmark = pytest.mark.faults


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that needs no disk: thousands of them are made and thrown away."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def outcomes(
    nursery: Nursery, folder: Path, act: str, recorder: str, each: int
) -> Iterator[tuple[Notes, dict[str, bytes | None]]]:
    """Disks that a power loss may leave after each call of a run, with what had been acknowledged
    by then.
    """
    prepared(nursery, folder, act)
    disk = Disk(folder)
    disk.load()
    before = (folder / NOTES).read_bytes().splitlines() if (folder / NOTES).exists() else []
    _, log = traced(nursery, folder, act, recorder=recorder, whole=True)
    chance = random.Random(f"{act} {recorder}")
    disk.notes_fd = notes_fd(log)
    for _ in disk.replay(log):
        notes = Notes.of([*before, *disk.notes])
        for _ in range(each):
            yield notes, disk.outcome(chance)


def losses(
    nursery: Nursery,
    folder: Path,
    memory: Path,
    act: str,
    recorder: str = "Recorder",
    *,
    each: int = 150,
) -> tuple[int, list[str]]:
    """How many outcomes were looked at, and what is wrong with them. Equal ones are opened once."""
    count, wrong = 0, list[str]()
    seen = set[int]()
    for notes, left in outcomes(nursery, folder, act, recorder, each):
        count += 1
        known = hash((notes.durable, len(notes.files), frozenset(left.items())))
        if known not in seen:
            seen.add(known)
            base = memory / str(count)
            materialise(left, base)
            wrong += violations(run_folder(base / "recordings", RUN_ID), notes, power_loss=True)
            shutil.rmtree(base)
    assert len(seen) > 100, "the model left nothing to chance"
    return count, wrong


@pytest.mark.parametrize("act", ["whole", "resume"])
def test_a_power_loss_after_every_call_loses_nothing_durable(
    nursery: Nursery, tmp_path: Path, memory: Path, strace: None, act: str
) -> None:
    """R4: 10,000 disks: every durable event and file is there, no event names a file that is not,
    and the run goes on.
    """
    count, wrong = losses(nursery, tmp_path / "job", memory, act)
    assert wrong == []
    assert count >= 5_000


@pytest.mark.parametrize(
    "broken", ["NoFolderFsync", "NoFileFsync", "EventBeforeFile", "InPlace", "AcknowledgesFirst"]
)
def test_power_losses_catch_a_broken_recorder(
    nursery: Nursery, tmp_path: Path, memory: Path, strace: None, broken: str
) -> None:
    """R5: what no `kill -9` can see: a missing fsync of a folder, of a file, or of a file before
    the event that names it.
    """
    assert losses(nursery, tmp_path / "job", memory, "whole", broken, each=20)[1]
