"""Ctrl-C, SIGTERM and a closed terminal, at any moment: no traceback, nothing lost, one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LINE = b"devpipe: interrupted.\n"
JSON = (
    b'{"run_id": null, "outcome": null, "error": {"type": "Interrupted", "message": "Nothing was'
    b' started.", "hint": ""}}\n'
)


class Stops:
    """What a signal does: before `wait` it ends the process at once, within it cancels the work,
    after it the work is over.

    Cancelled work writes its endings first. A second signal ends the process at once: recordings
    survive that.
    `last`: the process ends with this object, so signals stay ignored while the interpreter winds
    up.
    """

    def __init__(self, *, json: bool, last: bool) -> None:
        self._json, self._last = json, last
        self._cancel: Callable[[], object] | None = None
        self._begun = self._stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stops:
        if threading.current_thread() is threading.main_thread():  # the only one that may
            wanted = [
                number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
            ]  # nohup, and `&` in a script
            self._before = {
                number: signal.signal(number, self._on) or signal.SIG_DFL for number in wanted
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._last else handler)

    def wait(self, work: Coroutine[Any, Any, T], *, only_looks: bool = False) -> T:
        """The result of the work; KeyboardInterrupt where a signal cancelled it, once it
        has ended.

        `only_looks`: nothing is begun by it, so a signal may still end the process at once.
        """

        import asyncio  # a third of the time that a help text takes

        async def guarded() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            self._begun = self._begun or not only_looks
            try:
                return await task
            finally:
                self._cancel = None

        try:
            return asyncio.run(guarded())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def _on(self, number: int, frame: FrameType | None) -> None:
        if self._stopped or not self._begun:
            self._leave()
        self._stopped = True
        if self._cancel is not None:
            self._cancel()

    def _leave(self) -> None:
        """End here and now, without unwinding: that would show a traceback from wherever the signal
        came.
        """
        try:
            os.write(2, LINE)
            if self._json and not self._begun:
                os.write(1, JSON)
        finally:
            os._exit(EXIT_INTERRUPTED)
