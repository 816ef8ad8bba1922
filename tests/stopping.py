"""How long runs go on after they were told to stop, whatever else the machine does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from devpipe.record.reader import Recording, Recordings

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Stopped:
    """How runs ended that were told to stop."""

    runs: Sequence[Recording]
    wall_s: float  # from the stop to the last event, by the recordings' own times
    worked_s: float  # what the process has worked since

    @property
    def within_s(self) -> float:
        """The time that the stop took, whatever else the machine did.

        A run that is drawn works until it stops. Where other programs had the processor, more time
        has gone by than it could use.
        """
        return min(self.wall_s, self.worked_s)


class Stop:
    """The runs that a process is at, from the moment at which they are told to stop: now, or when
    `begin` is called.
    """

    def __init__(self, recordings: Path, pid: int) -> None:
        self.folders = [run.folder for run in Recordings(recordings) if run.state == "running"]
        assert self.folders, "nothing runs that could be stopped"
        self.process = psutil.Process(pid)
        self.begin()

    def begin(self) -> None:
        self.worked_before = processor_s(self.process)
        self.at = datetime.now(UTC)

    def over(self) -> Stopped:
        """Wait until the last event of each run is on disk."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            runs = [Recording(folder) for folder in self.folders]
            if all(run.finished for run in runs):
                worked = processor_s(self.process) - self.worked_before
                last = max(datetime.fromisoformat(run.events[-1].at) for run in runs)
                return Stopped(runs, (last - self.at).total_seconds(), worked)
            time.sleep(0.01)
        raise AssertionError("a stopped run goes on")


def processor_s(process: psutil.Process) -> float:
    """Seconds of processor time that a process and its children have used."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(used.user + used.system for used in times)
