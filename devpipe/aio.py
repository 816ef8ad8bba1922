"""Waiting without blocking: worker threads, acts no cancellation cuts off, another loop's work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

# an idle event loop does not notice an interrupt (ipython/ipykernel#881); one that wakes does
HEARTBEAT_S = 0.2
CLOSING_S = 10.0

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run something that blocks in a worker thread; right here while the interpreter ends and takes
    no more work.
    """
    if threading.main_thread().is_alive():
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


async def finish_even_if_cancelled(work: Awaitable[T]) -> T:
    """Await `work` to its end; a cancellation that arrives meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        raise


async def await_elsewhere(
    future: concurrent.futures.Future[T], *, on_cancel: Callable[[], object]
) -> T:
    """Await the engine's work in the caller's loop, waking often enough for an interrupt to arrive.

    A cancelled caller calls `on_cancel` and still waits, up to CLOSING_S, until the work has
    written its ending.
    """
    waiting = asyncio.wrap_future(future)
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=HEARTBEAT_S)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait({waiting}, timeout=CLOSING_S)
        if waiting.done() and not waiting.cancelled():
            waiting.exception()  # seen: the cancellation is what the caller hears of
        raise
    return waiting.result()
