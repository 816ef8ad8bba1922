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
from typing import TYPE_CHECKING, ClassVar

from devpipe.errors import Rejected
from devpipe.values import Boundary, MediaRequest, MediaResult, TextRequest, TextResult

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
    """The vendor has `position` other jobs to do before ours; `seconds`: how long they may take,
    None where nobody knows.
    """

    position: int
    seconds: float | None = None


Piece = Delta | Progress | Preview | Queued
Emit = Callable[[Piece], None]


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

    by_rule: ClassVar[bool] = (
        False  # True: draws by our own rules and cannot depict what they do not know
    )
    paid: bool = (
        False  # True: a request may cost money; where that hangs on the host, set it in __init__
    )

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
