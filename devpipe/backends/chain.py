"""Who stands in where a backend cannot be reached: a chain of backends is a backend itself.

It holds for texts and for media alike: the boundary that no request leaves, and when money forbids
a next try, are decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from devpipe.backends.attempts import Attempts
from devpipe.backends.base import Answer, Backend, Emit, Journal, Wrapper
from devpipe.backends.registry import Backends
from devpipe.backends.retrying import Retrying, too_late
from devpipe.config.chains import Candidate, Chain, outside
from devpipe.errors import BackendError, RateLimited, Rejected, Unavailable
from devpipe.values import Boundary, MediaRequest, MediaResult, TextRequest, TextResult

# Around each backend of a chain, the innermost first. To count, cache or pay: a class of your own.
WRAPPERS: tuple[Wrapper, ...] = (Attempts, Retrying)


@dataclass(frozen=True, slots=True)
class Link:
    """One backend of a chain, wrapped, under the name and model that it is asked by."""

    candidate: Candidate
    backend: Backend


class Chained(Backend):
    """Asks its links in order; the next one only where the one before could not be reached."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        backends: Backends,
        journal: Journal,
        *,
        otherwise: Rejected,
    ) -> None:
        found = [opened(backends, candidate.backend) for candidate in candidates]
        reasons = [backend.why for backend in found if isinstance(backend, UnavailableBackend)]
        self.links = tuple(
            Link(candidate, wrapped(backend, candidate, backends, journal))
            for candidate, backend in zip(candidates, found, strict=True)
        )
        self.journal = journal
        self.otherwise = otherwise  # raised where no link may be asked
        # why not one of them can be loaded
        self.missing = reasons[0] if reasons and len(reasons) == len(found) else None

    @property
    def depicts(self) -> bool:
        """Whether any link can depict freely: rules alone may then allow nothing to the young."""
        return not all(link.backend.procedural for link in self.links)

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The first answer. Raises the last error, with all that was tried."""

        def ask(place: int) -> Awaitable[TextResult]:
            link = self.links[place]
            return link.backend.write(replace(request, model=link.candidate.model), emit)

        return await self._first(ask, request)

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        """The first files; those who stand in are asked what `request.fallback` says for each."""
        requests = (request, *request.fallback)

        async def ask(place: int) -> MediaResult:
            result = await self.links[place].backend.make(requests[place], emit)
            return replace(result, place=place) if place else result

        return await self._first(ask, request)

    async def _first(
        self, ask: Callable[[int], Awaitable[Answer]], request: TextRequest | MediaRequest
    ) -> Answer:
        tried: list[tuple[Candidate, BackendError]] = []
        for place, link in enumerate(self.links):
            if self._beyond(link, request.boundary):
                continue
            if tried:
                if too_late(request.deadline):
                    break
                before, error = tried[-1]
                self.journal.warn(f"{link.candidate} stands in for {before}: {error.message}")
            try:
                return await ask(place)
            except BackendError as error:
                tried.append((link.candidate, error))
                if not may_hop(error, paid=link.backend.paid):
                    raise
        raise exhausted(tried) if tried else self.otherwise

    def _beyond(self, link: Link, boundary: Boundary) -> bool:
        """Whether a link may not be asked; then the recording says so."""
        location = link.backend.boundary(link.candidate.model)
        if not outside(location, boundary):
            return False
        self.journal.warn(
            f"{link.candidate} was not asked: the text may go no further than {boundary!r}, "
            f"and would go to {location!r}."
        )
        return True


class UnavailableBackend(Backend):
    """Stands where a backend cannot be loaded: who asks it is told why, and the chain goes on."""

    def __init__(self, why: Unavailable) -> None:
        self.why = why

    def boundary(self, model: str) -> Boundary:
        return "local"

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        raise self.why

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        raise self.why


def opened(backends: Backends, name: str) -> Backend:
    """The backend of this name, or what stands in its place where a package is missing."""
    try:
        return backends[name]
    except Unavailable as why:
        return UnavailableBackend(why)


def wrapped(
    backend: Backend, candidate: Candidate, backends: Backends, journal: Journal
) -> Backend:
    """The backend inside all its wrappers: its attempts are written to the journal."""
    for wrapper in (*backends.wrappers, *WRAPPERS):
        backend = wrapper(backend, candidate, journal)
    return backend


def text_chain(task: str, chain: Chain, backends: Backends, journal: Journal) -> Chained:
    """The text models of a task, as the settings chain them."""
    within = f" within the boundary {chain.boundary!r}" if chain.candidates else ""
    return Chained(
        chain.candidates,
        backends,
        journal,
        otherwise=Rejected(
            f"There is no text model to {task}{within}.",
            hint=f"Set DEVPIPE_MODEL_{task.upper()}, or its line in devpipe.toml.",
        ),
    )


def media_chain(candidates: Sequence[Candidate], backends: Backends, journal: Journal) -> Chained:
    """The backend of an output, and those who stand in for it."""
    return Chained(
        candidates,
        backends,
        journal,
        otherwise=Rejected(
            f"None of {', '.join(map(str, candidates))} lies within the boundary that texts may not"
            " leave.",
            hint="Choose an output that is made here, or widen DEVPIPE_BOUNDARY.",
        ),
    )


def may_hop(error: BackendError, *, paid: bool | None) -> bool:
    """Whether the next one may be asked.

    Never after a fault of the request, nor where this one may be charged all the same.
    """
    return isinstance(error, Unavailable | RateLimited) and not (paid and error.sent)


def exhausted(tried: Sequence[tuple[Candidate, BackendError]]) -> BackendError:
    """The last error, with all that was tried where that was more than one."""
    error = tried[-1][1]
    if len({candidate for candidate, _ in tried}) > 1:
        names = [f"{candidate} ({type(failed).__name__})" for candidate, failed in tried]
        listed = ", ".join(dict.fromkeys(names))
        error.hint = f"{error.hint} Tried in this order: {listed}.".strip()
    return error
