"""A backend that follows a script, for tests of whatever asks a backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from devpipe.backends.base import Backend, Delta, Emit, Progress
from devpipe.config.settings import Settings
from devpipe.errors import Rejected
from devpipe.values import (
    LOCAL_COST,
    Boundary,
    Media,
    MediaRequest,
    MediaResult,
    TextRequest,
    TextResult,
)

ScriptedAnswer = (
    str
    | TextResult
    | MediaResult
    | Media
    | BaseException
    | Callable[[TextRequest | MediaRequest], object]
)


def settings_for_tests(home: Path) -> Settings:
    """Settings of an empty environment, with recordings below `home`."""
    return Settings.load(home, environ={})


class ScriptedBackend(Backend):
    """Gives the answers of its script in order; the last one again and again.

    `requests` keeps what it was asked.

    An answer is a text, a TextResult, a Media or MediaResult, an exception to raise, or a function
    of the request (which may
    return a coroutine: that is how a script waits for a test).
    """

    procedural = True

    def __init__(
        self,
        answers: Iterable[ScriptedAnswer],
        *,
        procedural: bool = True,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(settings or settings_for_tests(Path(".")))
        self.answers = list(answers)
        self.procedural = procedural
        self.requests: list[TextRequest | MediaRequest] = []
        self.cancelled = 0
        self.closed = 0

    async def _next(self, request: TextRequest | MediaRequest) -> object:
        self.requests.append(request)
        answer: object = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            if callable(answer):
                answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def boundary(self, model: str) -> Boundary:
        return "local"

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        answer = await self._next(request)
        result = (
            answer
            if isinstance(answer, TextResult)
            else TextResult(str(answer), model="script", cost=LOCAL_COST)
        )
        for word in result.text.split(" "):
            emit(Delta(word + " "))
        return result

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        answer = await self._next(request)
        if isinstance(answer, MediaResult):
            return answer
        if not isinstance(answer, Media):
            raise Rejected(f"The script has no medium but {answer!r}.", hint="Give it a Media.")
        emit(Progress(1, 1))
        return MediaResult((answer,), model="script", cost=LOCAL_COST)

    async def close(self) -> None:
        self.closed += 1
