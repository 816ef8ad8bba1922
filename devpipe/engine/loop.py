"""One event loop in one thread of its own, asked from any other thread and loop.

It is the only pattern that worked on every ipykernel from 6.31 to 7.4: these run widget callbacks
in three different places,
and a lock, client or task that is shared between a cell and a callback fails on some of them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from devpipe.aio import CLOSING_S

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, started with the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._loop is not None

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine there; the future can be waited for in any thread.

        Cancelling it cancels the coroutine.
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop)

    def call(self, function: Callable[[], object]) -> bool:
        """Call a function there soon. False: the thread does not run, and nothing happens."""
        if self._loop is None:
            return False
        self._loop.call_soon_threadsafe(function)
        return True

    def close(self) -> None:
        """Cancel what still runs, wait until it has ended, end the thread.

        May be called twice; a later call starts anew.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(CLOSING_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSING_S)
        if not thread.is_alive():
            loop.close()


async def _cancel_all() -> None:
    await asyncio.sleep(0)  # a task that has not begun yet could not clean up after itself
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Fsyncs(ThreadPoolExecutor):
    """Threads for fsyncs alone: several at once cost one commit of a slow disk's journal.

    A quick disk is served in a row.

    Measured, 12 events and a 50 kB picture: at 3 ms an fsync 1.0x of one fsync at once, 3.4x in a
    row; at 0.2 ms both 2.0x, but
    threads cost a third more CPU.
    """

    QUICK_S = 0.001

    def __init__(self) -> None:
        super().__init__(8, thread_name_prefix="devpipe-fsync")
        self._took = self.QUICK_S  # one fsync, lately

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **more: Any) -> Iterator[T]:
        items = list(zip(*iterables, strict=True))
        at_once = (
            self._took >= self.QUICK_S and threading.main_thread().is_alive()
        )  # else the interpreter ends, and lends no thread
        began = time.perf_counter()
        done = list(
            super().map(lambda item: fn(*item), items, **more)
            if at_once
            else (fn(*item) for item in items)
        )
        self._took = (time.perf_counter() - began) / (1 if at_once else max(len(items), 1))
        return iter(done)
