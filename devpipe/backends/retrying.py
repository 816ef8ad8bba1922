"""One more try of a backend that was asked too soon: waiting is a backend around another one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from devpipe.backends.base import Answer, Emit, Wrapping
from devpipe.errors import BackendError, RateLimited
from devpipe.values import MediaRequest, MediaResult, TextRequest, TextResult

LONGEST_WAIT_S = 20.0
UNSAID_WAIT_S = 2.0


class Retrying(Wrapping):
    """Waits as long as a rate limit says, then asks once more."""

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        return await self._twice(lambda: self.inner.write(request, emit), request.deadline)

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        return await self._twice(lambda: self.inner.make(request, emit), request.deadline)

    async def _twice(self, ask: Callable[[], Awaitable[Answer]], deadline: float | None) -> Answer:
        try:
            return await ask()
        except RateLimited as error:
            seconds = wait_for(error)
            if seconds is None or too_late(deadline, seconds):
                raise
            self.journal.warn(
                f"{self.candidate} is asked again after {seconds:g} s: {error.message}"
            )
            await self.journal.pause(seconds)
        return await ask()


def wait_for(error: BackendError) -> float | None:
    """Seconds after which the same backend may be asked once more; None: not worth waiting."""
    if not isinstance(error, RateLimited):
        return None
    seconds = UNSAID_WAIT_S if error.retry_after is None else error.retry_after
    return max(0.0, seconds) if seconds <= LONGEST_WAIT_S else None  # NaN, too


def too_late(deadline: float | None, seconds: float = 0.0) -> bool:
    """Whether a deadline is reached in so many seconds."""
    return deadline is not None and time.monotonic() + seconds >= deadline
