"""Many runners of one batch, killed at any time: each cell is made once, whoever makes it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import DEVPIPE, environment, recordings

from devpipe.batch.plan import LABEL
from devpipe.record.events import RunResumed
from devpipe.record.reader import Recording
from devpipe.testing import Loopback

pytestmark = pytest.mark.faults

KILLS = 500
PAIRS = 12  # of runners without locks
PATIENCE_S = 120.0
STARTING_S = 0.5  # about what a runner takes until its first cell
NEXT_ACT_S = 0.02  # about what a cell takes
PLAN = {
    "prompts": [f"a cat on roof {number}" for number in range(20)],
    "pipelines": ["dada"],
    "seeds": [1, 2, 3],
    "parameters": {"width": [64], "height": [64]},
}
CELLS = 60


class Slot:
    """Starts one runner after the other."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.commands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment(folder / "unused"),
        )
        self.pid = 0

    def start(self, plan: Path, *, recordings: Path, said: Path, locks: bool = True) -> None:
        assert self._process.stdin and self._process.stdout
        environ = {"DEVPIPE_RECORDINGS": str(recordings)}
        job = {
            "arguments": ["batch", str(plan), "--join"],
            "environ": environ,
            "said": str(said),
            "locks": locks,
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self.pid = int(self._process.stdout.readline())

    def ended_within(self, seconds: float) -> bool:
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def end(self) -> int:
        """How it ended, once it has."""
        assert self._process.stdout and self.ended_within(PATIENCE_S)
        self.pid = 0
        return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[list[Slot]]:
    made = [Slot(tmp_path), Slot(tmp_path)]
    yield made
    for slot in made:
        slot.close()


def ended_before(slot: Slot, folder: Path, draw: random.Random) -> bool:
    """Whether a runner has ended before the moment of its kill.

    That is one of its start, or one after a few more runs, which a busy machine only delays.
    """
    if draw.random() < 0.25:
        return slot.ended_within(draw.uniform(0, STARTING_S))
    until = runs_in(folder) + draw.randrange(1, 6)
    while runs_in(folder) < until:
        if slot.ended_within(0.002):
            return True
    return slot.ended_within(draw.uniform(0, NEXT_ACT_S))


def runs_in(folder: Path) -> int:
    return sum(1 for _ in folder.glob("2*/*"))


def begun(folder: Path) -> list[Recording]:
    """Those that say for which cell they are."""
    return [one for one in recordings(folder) if one.beginning is not None]


def cells_made(runs: list[Recording]) -> Counter[str]:
    """How often each cell has a result."""
    labels = [run.summary.started for run in runs if run.state == "completed"]
    return Counter(started.labels[LABEL] for started in labels if started)


def test_500_kills_of_two_joined_runners_make_each_cell_once(
    slots: list[Slot], tmp_path: Path
) -> None:
    """A plan of 60 cells after the other, by two processes that are killed and started at random
    moments: 60 results each, none twice, no run left over.
    """
    draw = random.Random(10)
    kills = resumed = 0
    while kills < KILLS:
        folder = tmp_path / f"plan{kills}"
        folder.mkdir()
        plan = folder / "plan.json"
        plan.write_text(json.dumps(PLAN), "utf-8")
        made, said = folder / "recordings", folder / "said"
        whole = 0
        while not whole:
            for slot in slots:
                if not slot.pid:
                    slot.start(plan, recordings=made, said=said)
            victim = draw.choice(slots)
            if not ended_before(victim, made, draw):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGKILL)
            ended = victim.end()  # it may have come to its end just before
            if ended == 0:
                whole += 1
                continue
            assert ended == -signal.SIGKILL, said.read_text("utf-8")
            kills += 1
        for slot in slots:
            if slot.pid:
                assert slot.end() == 0, said.read_text("utf-8")
        runs = begun(made)
        assert Counter(run.state for run in runs) == {"completed": CELLS}
        assert set(cells_made(runs).values()) == {1} and len(cells_made(runs)) == CELLS
        resumed += sum(isinstance(one.event, RunResumed) for run in runs for one in run.events)
    assert resumed >= KILLS // 20  # so often at least a run was hit, and not only a start


def test_without_locks_cells_are_made_twice(slots: list[Slot], tmp_path: Path) -> None:
    """What the test above would see of runners that do not lock.

    Not of each pair: one may take the other's files away before either has a cell.
    """
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN), "utf-8")
    twice = 0
    for pair in range(PAIRS):
        folder = tmp_path / f"recordings{pair}"
        for slot in slots:
            slot.start(plan, recordings=folder, said=tmp_path / "said", locks=False)
        for slot in slots:
            slot.end()
        twice += 2 in cells_made(begun(folder)).values()
    assert twice > PAIRS // 4


def test_of_four_batches_started_at_once_one_runs(tmp_path: Path) -> None:
    """18 runs of 18 cells; the three others end with status 2 and name who is at work."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN | {"prompts": PLAN["prompts"][:6]}), "utf-8")
    folder = tmp_path / "recordings"
    others_ended = threading.Event()

    def answer(body: object) -> str:
        assert others_ended.wait(PATIENCE_S)
        return "a torn cat"

    with Loopback([answer]) as server:
        processes = [
            subprocess.Popen(
                [*DEVPIPE, "batch", str(plan)],
                env=environment(folder, **server.environment("ollama")),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        left = list(processes)
        while len(left) > 1:
            left = [process for process in left if process.poll() is None]
            select.select([], [], [], 0.01)
        others_ended.set()
        said = [process.communicate(timeout=PATIENCE_S) for process in processes]
    (runner,) = left
    assert runner.returncode == 0 and len(recordings(folder)) == 18
    for process, (out, err) in zip(processes, said, strict=True):
        if process is not runner:
            assert process.returncode == 2 and out == ""
            assert f"is under way: process {runner.pid} on {socket.gethostname()}" in err
            assert "--join" in err
