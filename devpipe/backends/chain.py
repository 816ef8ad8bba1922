"""Which text model stands in where one cannot be reached: chains, the boundary that they never
leave, and when money forbids a next try.
"""

from __future__ import annotations

from collections.abc import Sequence

from devpipe.backends.base import Backend, Emit
from devpipe.backends.registry import Backends
from devpipe.config.chains import Candidate
from devpipe.errors import BackendError, RateLimited, Unavailable
from devpipe.values import Boundary, TextRequest, TextResult

LONGEST_WAIT_S = 20.0
UNSAID_WAIT_S = 2.0


class Missing(Backend):
    """Stands where a backend cannot be loaded: whoever asks it is told why, and the chain
    goes on.
    """

    def __init__(self, why: Unavailable) -> None:
        self.why = why

    def boundary(self, model: str) -> Boundary:
        return "local"

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        raise self.why


def opened(backends: Backends, name: str) -> Backend:
    """The backend of this name, or what stands in its place where a package is missing."""
    try:
        return backends[name]
    except Unavailable as why:
        return Missing(why)


def wait_for(error: BackendError) -> float | None:
    """Seconds after which the same model may be asked once more; None: not worth waiting."""
    if not isinstance(error, RateLimited):
        return None
    asked = UNSAID_WAIT_S if error.retry_after is None else error.retry_after
    return max(0.0, asked) if asked <= LONGEST_WAIT_S else None


def may_hop(error: BackendError, *, paid: bool) -> bool:
    """Whether the next model may be asked: never after a fault of the request, nor where this one
    may be charged all the same.
    """
    return isinstance(error, Unavailable | RateLimited) and not (paid and error.sent)


def exhausted(tried: Sequence[tuple[Candidate, BackendError]]) -> BackendError:
    """The last error, with all that was tried where that was more than one."""
    error = tried[-1][1]
    names = list(
        dict.fromkeys(f"{candidate} ({type(failed).__name__})" for candidate, failed in tried)
    )
    if len({candidate for candidate, _ in tried}) > 1:
        error.hint = f"{error.hint} Tried in this order: {', '.join(names)}.".strip()
    return error
