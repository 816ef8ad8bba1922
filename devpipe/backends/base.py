"""What a backend is: our request in, the vendor's protocol, our text or media or one of our errors
out.

A backend knows nothing of runs, recordings or other backends. Override `write`, `make`, or both:

    class Shout(Backend):
        async def write(self, request, emit):
            return TextResult(request.text.upper(), model="shout", cost=LOCAL_COST)

Then add one line to `config/backends.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from devpipe.config.chains import Candidate
from devpipe.errors import Rejected
from devpipe.record.events import AttemptFinished, AttemptStarted, JsonObject
from devpipe.values import Boundary, MediaRequest, MediaResult, Task, TextRequest, TextResult

if TYPE_CHECKING:
    from devpipe.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a text that is being written."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Step `step` of `steps`."""

    step: int
    steps: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture on its way; the latest wins, none is stored."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The vendor has `position` other jobs to do before ours.

    `seconds`: how long they may take, None where nobody knows.
    """

    position: int
    seconds: float | None = None


Piece = Delta | Progress | Preview | Queued
Emit = Callable[[Piece], None]
Answer = TypeVar("Answer", TextResult, MediaResult)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a backend can be used now, and what to do where not."""

    ready: bool
    detail: str = ""
    models: tuple[str, ...] = ()
    hint: str = ""
    version: str = ""


class Backend:
    """Base of all backends; made once per Engine, closed with it.

    Cancelling the task in which `write` or `make` runs cancels the work, also the vendor's: clean
    up in `finally`.
    """

    # Output is limited to built-in shapes: rules alone may allow it at kids and youth.
    procedural: bool = False
    # Whether a request may cost money: True, or False where none ever does, however it ends. None:
    # nobody says, and what was broken off elsewhere may be charged. Where that hangs on the host,
    # set it in __init__.
    paid: bool | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """One text for one request. Raises Unavailable, RateLimited, Rejected or CutOff."""
        raise Rejected(
            f"{type(self).__name__} makes no text.",
            hint="Choose a text backend: `devpipe list backends`.",
        )

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        """All files of one request. Raises Unavailable, RateLimited or Rejected."""
        raise Rejected(
            f"{type(self).__name__} makes no media.",
            hint="Choose a media backend: `devpipe list backends`.",
        )

    def boundary(self, model: str) -> Boundary:
        """How far a request for this model would travel.

        A backend that stays on this machine or in its network says so.
        """
        return "world"

    async def digest(self, model: str) -> str:
        """The identity of the model's weights now; empty where nobody can tell cheaply."""
        return ""

    async def check(self) -> Health:
        """Whether it is there, within a second or two; never spends money."""
        return Health(ready=True)

    async def close(self) -> None:
        """Release what it holds."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be asked of whom: what an attempt is written down with before it is made."""

    task: Task | Literal["media"]
    backend: str
    model: str
    seed: int
    request: JsonObject
    request_id: str
    sha256: str = ""  # of a medium's request, as the verdict names it
    paid: bool = False
    free: bool = False  # by the backend's own word: neither of the two where it says nothing
    location: Boundary = "local"  # how far it travels


class Journal(Protocol):
    """Where the attempts at one place of a run are written down."""

    async def begin(self, intent: Intent) -> AttemptStarted:
        """The intent with its number; it is on disk when this returns."""

    def end(self, finished: AttemptFinished) -> None:
        """A good ending: written with the events that follow from it."""

    async def fail(self, finished: AttemptFinished, partial: str) -> None:
        """A bad ending, and what had come of a text; on disk when this returns."""

    def warn(self, message: str) -> None:
        """What a reader of the recording should know; written with the next event."""

    async def pause(self, seconds: float) -> None:
        """Write what is due, then wait."""


class Wrapping(Backend):
    """A backend around another one: it passes on what it does not change.

    One is made for each request: what it counts or remembers sits in an object that it is given.
    `candidate` is whom it wraps, under the name and model that the chain says. To add one: its
    class, and its place in `WRAPPERS` of `chain.py`.
    """

    def __init__(self, inner: Backend, candidate: Candidate, journal: Journal) -> None:
        self.inner = inner
        self.candidate = candidate
        self.journal = journal
        self.procedural = inner.procedural
        self.paid = inner.paid

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        return await self.inner.write(request, emit)

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        return await self.inner.make(request, emit)

    def boundary(self, model: str) -> Boundary:
        return self.inner.boundary(model)

    async def digest(self, model: str) -> str:
        return await self.inner.digest(model)

    async def check(self) -> Health:
        return await self.inner.check()


# Makes the wrapper of one backend for one request: the class of a Wrapping, or a call like it.
Wrapper = Callable[[Backend, Candidate, Journal], Backend]
