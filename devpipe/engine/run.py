"""A run as people hold it: await it, iterate its events, stop it, look at it - from any thread and
any event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from devpipe.aio import CLOSING_S, HEARTBEAT_S, await_elsewhere, finish_even_if_cancelled
from devpipe.engine.events import LiveEvent, LiveEvents
from devpipe.engine.loop import LoopThread
from devpipe.engine.request import texts_of
from devpipe.engine.session import RunSession
from devpipe.errors import DevpipeError, NotAllowed, UsageError
from devpipe.record.events import ArtifactWritten, Problem, Recorded, VerdictGiven
from devpipe.record.reader import Recording
from devpipe.record.summary import RunSummary
from devpipe.stages.services import Refused
from devpipe.text.clean import clean
from devpipe.values import Outcome, seed_in_range


class RunState(Enum):
    """Where a run is, as the handle sees it."""

    WAITING = "waiting"  # an open run, for its next step
    ACTING = "acting"  # a step of an open run is under way
    LAUNCHED = "launched"  # a whole run is under way, from its beginning to its end
    STOPPING = "stopping"  # somebody cancelled it; its ending is being written
    ENDED = "ended"


class Run:
    """One prompt through the stages to one output.

    `await run` waits for its end; `async for event in run` follows it from its first event;
    `run.cancel()` stops it. A run that was blocked or cancelled is returned like any other: look at
    `run.outcome`.
    """

    def __init__(
        self, session: RunSession, events: LiveEvents, thread: LoopThread, folder: Path
    ) -> None:
        self.id = session.request.run_id
        self.folder = folder
        self._session = session
        self._events = events
        self._thread = thread
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._state = RunState.WAITING
        # In the engine's thread: the act under way, and what ends a run that waits for a step.
        self._task: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None

    # What happened so far.

    @property
    def events(self) -> tuple[Recorded, ...]:
        """All stored events so far."""
        return self._events.stored

    @property
    def summary(self) -> RunSummary:
        """What the events say, by the same fold that reads a stored recording."""
        return RunSummary.of(self.events)

    @property
    def outcome(self) -> Outcome | None:
        return self.summary.outcome

    @property
    def texts(self) -> dict[str, dict[str, str]]:
        """The resulting texts by stage and part: `run.texts["interception"]["prompt"]`."""
        return {
            name: dict(stage.texts) for name, stage in self.summary.stages.items() if stage.texts
        }

    @property
    def verdicts(self) -> list[VerdictGiven]:
        return [one.event for one in self.events if isinstance(one.event, VerdictGiven)]

    @property
    def artifacts(self) -> list[ArtifactWritten]:
        return self.summary.artifacts

    @property
    def seed(self) -> int | None:
        return self.summary.seed

    @property
    def error(self) -> Problem | None:
        return self.summary.error

    @property
    def files(self) -> list[Path]:
        """Where the artifacts lie."""
        return [self.folder / artifact.path for artifact in self.artifacts]

    @property
    def failure(self) -> DevpipeError | None:
        """The error of ours that a failed run raises when awaited."""
        error = self._ended.exception() if self._ended.done() else None
        return error if isinstance(error, DevpipeError) else None

    @property
    def recording(self) -> Recording:
        """The recording on disk."""
        return Recording(self.folder)

    @property
    def done(self) -> bool:
        return self._ended.done()

    # Waiting and following.

    def __await__(self) -> Generator[Any, None, Run]:
        return self._wait().__await__()

    async def _wait(self) -> Run:
        await await_elsewhere(self._ended, on_cancel=self.cancel)
        return self

    def wait(self, timeout: float | None = None) -> Run:
        """Wait in a thread without an event loop, as a magic does; Ctrl-C cancels the run.

        Raises TimeoutError.
        """
        until = None if timeout is None else time.monotonic() + timeout
        try:
            # In slices: an interrupt that another thread of the process takes does not wake a lock.
            while not self.settled(HEARTBEAT_S) and (until is None or time.monotonic() < until):
                pass
            self._ended.result(0)
        except KeyboardInterrupt:
            self.cancel()
            concurrent.futures.wait([self._ended], timeout=10)
            raise
        return self

    def cancel(self) -> None:
        """Stop the run and what its backend is doing; its recording gets the outcome
        `cancelled`.
        """
        if not self._thread.call(self._stop):
            self._end()  # its thread never started, so nothing has begun

    def follow(self, callback: Callable[[LiveEvent], None]) -> Callable[[], None]:
        """Call back for every stored event so far, then for everything that happens, in the
        engine's thread.

        Gives back a function that ends the following. A callback must be quick; one that raises is
        not called again.
        """
        return self._events.follow(callback)

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue()

        def put(event: LiveEvent | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        def put_end(_: object) -> None:
            if not loop.is_closed():
                put(None)

        unfollow = self.follow(put)
        getting = asyncio.ensure_future(queue.get())
        self._ended.add_done_callback(put_end)
        try:
            while True:
                # wait_for can swallow a cancellation before Python 3.12
                await asyncio.wait({getting}, timeout=HEARTBEAT_S)
                if not getting.done():
                    continue
                event = getting.result()
                if event is None:
                    return
                getting = asyncio.ensure_future(queue.get())
                yield event
        except asyncio.CancelledError:
            self.cancel()
            # As for `await run`: the ending is on disk before anybody goes on.
            await asyncio.to_thread(self.settled, CLOSING_S)
            raise
        finally:
            unfollow()
            getting.cancel()

    def settled(self, timeout: float) -> bool:
        """Wait, up to `timeout` seconds, until the run is over, whatever its end."""
        return bool(concurrent.futures.wait([self._ended], timeout=timeout).done)

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call back once the run is over, in the engine's thread."""
        self._ended.add_done_callback(lambda _: callback())

    # In the engine's thread.

    def launch(
        self, begin: Callable[[], Awaitable[None]], acts: Callable[[], Awaitable[object]]
    ) -> None:
        """Take the run from its beginning to its end there."""

        async def whole() -> None:
            await finish_even_if_cancelled(begin())
            if self._state is RunState.STOPPING:
                raise asyncio.CancelledError
            await acts()

        self._state = RunState.LAUNCHED
        self._thread.submit(self._guarded(whole, ends=True))

    async def _guarded(self, act: Callable[[], Awaitable[object]], *, ends: bool) -> None:
        """Await an act; whatever happens, the recording gets its ending, and those who wait are
        woken.

        An error is raised to them after that. A usage error in one step of an open run leaves the
        run open.
        """
        self._task = asyncio.current_task()
        error: Exception | None = None
        try:
            await act()
        except asyncio.CancelledError:
            ends = True
            error = await self._session.end("cancelled")
        except Refused:
            ends = True
            error = await self._session.end("blocked")
        except Exception as raised:  # ours or not: the recording is closed, then it is raised
            error = raised
            ends = ends or not isinstance(raised, UsageError | NotAllowed)
            if ends:
                await self._session.end("failed", raised)
        finally:
            self._task = None
            if ends or self._session.summary.finished:
                self._end(error)
        if error is not None:
            raise error

    def _stop(self) -> None:
        if self._state in (RunState.STOPPING, RunState.ENDED):
            return  # a second cancellation would cut off what the first one writes
        launched = self._state is RunState.LAUNCHED  # then its beginning sees that it is stopped
        self._state = RunState.STOPPING
        if self._task is not None:
            self._task.cancel()
        elif not launched:
            self._closing = asyncio.ensure_future(self._guarded(_stopped, ends=True))

    def _end(self, error: BaseException | None = None) -> None:
        """Wake everybody who waits."""
        self._state = RunState.ENDED
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    # How it shows itself.

    def __repr__(self) -> str:
        summary = self.summary
        name = (
            f"{summary.started.pipeline} > {summary.started.output}"
            if summary.started
            else "not started"
        )
        state: str = summary.outcome or ("interrupted" if self.done else "running")
        return f"Run({name}, seed {summary.seed}, {state}, {self.id})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from devpipe.show.html import run_html

        return {"text/plain": repr(self), "text/html": run_html(self.summary, self.folder)}


async def _stopped() -> None:
    """The act of a run that is stopped while it waits for its next step."""
    raise asyncio.CancelledError


class OpenRun(Run):
    """A run taken step by step; the person may edit between the stages. Use `engine.open(...)`."""

    async def input(self, prompt: str | Mapping[str, str]) -> OpenRun:
        """Stage 1 on this text, or on several by their input names."""
        texts = texts_of(prompt, self._session.request.media_pipeline)
        if not texts:
            raise UsageError("There is no prompt.", hint="Give a text.")
        return await self._act(lambda: self._session.input(texts))

    async def intercept(self) -> OpenRun:
        """Stage 2."""
        return await self._act(self._session.intercept)

    async def check(self, text: str | Mapping[str, str] | None = None) -> OpenRun:
        """Stage 3, on the person's own wording where one is given.

        That counts as input and is checked as such, too.
        """
        edited = _worded(text)
        return await self._act(lambda: self._session.check(edited))

    async def generate(self, seed: int | None = None) -> OpenRun:
        """Stage 4 with this seed (drawn where absent); the run ends with it."""
        chosen = seed_in_range(seed)
        return await self._act(lambda: self._session.generate(chosen))

    async def close(self) -> OpenRun:
        """End the run where it is; without a finished Stage 4 its outcome is `cancelled`."""
        if not self.done:
            self.cancel()
            await await_elsewhere(self._ended, on_cancel=self.cancel)
        return self

    async def _act(self, act: Callable[[], Awaitable[object]]) -> OpenRun:
        if self.done:
            raise UsageError(
                f"Run {self.id} is over ({self.outcome}).",
                hint="Open another one: `engine.open(...)`.",
            )
        if self._state is RunState.ACTING:
            raise UsageError(
                f"A step of run {self.id} is under way.", hint="Await it before the next one."
            )
        if self._state is RunState.STOPPING:
            raise UsageError(
                f"Run {self.id} is being stopped.", hint="Open another one: `engine.open(...)`."
            )

        async def step() -> None:
            # Stopped before this step began: by a thread that came first, or while it waited.
            if self._closing is not None:
                await asyncio.wait({self._closing})
                raise asyncio.CancelledError
            if self._state is RunState.STOPPING:
                raise asyncio.CancelledError
            if not self._session.journal.opened:
                await finish_even_if_cancelled(self._session.open())
            await act()

        self._state = RunState.ACTING
        try:
            guarded = self._thread.submit(self._guarded(step, ends=False))
            await await_elsewhere(guarded, on_cancel=self.cancel)
        finally:
            if self._state is RunState.ACTING:
                self._state = RunState.WAITING
        return self


def _worded(text: str | Mapping[str, str] | None) -> dict[str, str]:
    """The person's own wording by part."""
    if text is None:
        return {}
    if isinstance(text, Mapping):
        return {str(part): clean(words, what=f"text {part}") for part, words in text.items()}
    return {"prompt": clean(text, what="text")}
