"""Runs that a command starts: followed on the screen, or told as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devpipe.cli.exits import status_of_error, status_of_outcome, worst
from devpipe.cli.parser import Arguments
from devpipe.cli.printing import complain, error_json, say_json
from devpipe.cli.screen import Screen
from devpipe.errors import DevpipeError

if TYPE_CHECKING:
    from devpipe.engine.run import Run

Start = Callable[[], "Sequence[Run]"]
SETTLED_S = 10.0  # how long a cancelled run may take to write its ending


def show_runs(arguments: Arguments, *starts: Start, several: bool = False) -> int:
    """Start runs, one `start` after the other, and show what becomes of them.

    With --json nothing is shown but one object at the end, or, where there may be `several` runs, a
    list of them. Gives back the worst exit status.
    """
    followed = _Followed(on_screen=not arguments.json)
    try:
        arguments.stops.wait(followed.follow(starts))
    finally:
        if arguments.json and followed.runs:
            objects = [_run_json(run) for run in followed.runs]
            say_json(objects if several else objects[0])
    for screen in followed.screens:
        if screen.failed:
            raise screen.failed
    return worst([_ended_status(run, arguments) for run in followed.runs])


@dataclass
class _Followed:
    """The runs of one command, as far as they have been started."""

    on_screen: bool
    runs: list[Run] = field(default_factory=list)
    screens: list[Screen] = field(default_factory=list)

    async def follow(self, starts: Sequence[Start]) -> None:
        """Start all runs and wait for each of them."""
        try:
            for start in starts:
                started = start()
                self.runs.extend(started)
                for run in started:
                    await self._until_ended(run)
        except BaseException:  # a signal, or a fault of ours: no run stays without its ending
            self._cancel()
            raise

    async def _until_ended(self, run: Run) -> None:
        if self.on_screen:
            screen = Screen(run.folder)
            self.screens.append(screen)
            run.follow(screen)
        # told when all are over; anything else is a fault of ours
        with contextlib.suppress(DevpipeError, OSError):
            await run

    def _cancel(self) -> None:
        for run in self.runs:
            run.cancel()
        for run in self.runs:
            run.settled(SETTLED_S)


def _run_json(run: Run) -> dict[str, Any]:
    """The run as JSON; where its ending could not be written, with the error that the recording
    lacks.
    """
    fields = run.summary.to_json(str(run.folder)) | {"run_id": run.id}
    if run.failure and not fields["error"]:
        fields["error"] = error_json(run.failure)
    return fields


def _ended_status(run: Run, arguments: Arguments) -> int:
    """The exit status of a run; what made it fail or blocked it goes to stderr in one line."""
    if run.failure is not None:
        complain(str(run.failure), home=arguments.home)
        return status_of_error(run.failure)
    if run.error is not None:
        complain(f"{run.error.message} {run.error.hint}", home=arguments.home)
    return status_of_outcome(run.outcome)
