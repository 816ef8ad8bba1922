"""Which text model stands in where one cannot be reached: chains, the boundary that they never
leave, and when money forbids a next try.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from devpipe.backends.base import Backend, Emit
from devpipe.backends.registry import Backends
from devpipe.errors import BackendError, RateLimited, Unavailable
from devpipe.values import BOUNDARIES, Boundary, TextRequest, TextResult

LONGEST_WAIT_S = 20.0
UNSAID_WAIT_S = 2.0
_PREFIX = re.compile(rf"\s*({'|'.join(BOUNDARIES)})\s*:\s*(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text model of a chain."""

    backend: str
    model: str = ""

    @property
    def by_procedure(self) -> bool:
        return self.backend == "procedural"

    def __str__(self) -> str:
        return f"{self.backend}/{self.model}" if self.model else self.backend


@dataclass(frozen=True, slots=True)
class Chain:
    """Text models in the order in which they are asked, and the boundary that no request
    may leave.
    """

    candidates: tuple[Candidate, ...] = ()
    boundary: Boundary = "world"

    @classmethod
    @lru_cache(maxsize=64)
    def read(cls, text: str) -> Chain:
        """The chain that a setting spells: `a/x`, or `local: a/x, b/y`; none for an empty text.

        >>> Chain.read("eu: ollama/llama3:8b, procedural").candidates[0]
        Candidate(backend='ollama', model='llama3:8b')
        """
        prefix = _PREFIX.fullmatch(text)
        rest = prefix["rest"] if prefix else text
        spelled = [one.strip().partition("/") for one in rest.split(",")] if rest.strip() else []
        candidates = tuple(Candidate(backend, model) for backend, _, model in spelled)
        return cls(
            candidates, next(one for one in BOUNDARIES if one == prefix[1]) if prefix else "world"
        )

    def within(self, boundary: Boundary) -> Chain:
        """This chain, where another boundary holds besides its own: the stricter one counts."""
        return Chain(self.candidates, min(self.boundary, boundary, key=BOUNDARIES.index))

    @property
    def by_model(self) -> bool:
        """Whether a model is asked first: no candidate, or a procedure alone, is none."""
        return bool(self.candidates) and not self.candidates[0].by_procedure

    def __str__(self) -> str:
        prefix = f"{self.boundary}: " if self.boundary != "world" and self.by_model else ""
        return prefix + ", ".join(map(str, self.candidates))


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


def leaves(place: Boundary, boundary: Boundary) -> bool:
    """Whether a request that travels so far leaves the boundary; a place that nobody knows is the
    whole world.
    """
    return place != boundary != "world" and (
        place not in BOUNDARIES or BOUNDARIES.index(place) > BOUNDARIES.index(boundary)
    )


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
