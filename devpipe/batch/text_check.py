"""What does Stage 1 say of a text by itself? For reports on many texts; nothing is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from devpipe.aio import await_elsewhere
from devpipe.backends.registry import Backends
from devpipe.config.settings import Settings
from devpipe.record.events import Event, JsonObject, VerdictGiven
from devpipe.safety.rules import shipped_rules
from devpipe.stages import input as input_stage
from devpipe.stages.journal import Files
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Services

T = TypeVar("T")


class ChecksTexts(Protocol):
    """An engine, as far as the check of a text asks it."""

    settings: Settings
    backends: Backends

    @property
    def request(self) -> Callable[..., RunRequest]: ...
    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]: ...


class NullJournal:
    """A journal that keeps nothing: the check of a text is no run."""

    def __init__(self) -> None:
        self._attempts = 0

    def add(self, *happened: Event) -> None:
        """Nothing is kept."""

    async def commit(self, *happened: Event) -> None:
        """Nothing is written."""

    def emit(self, event: Event) -> None:
        """Nobody looks on."""

    def file_name(self, kind: str, extension: str) -> str:
        return f"{kind}.{extension}"

    async def write_text(self, name: str, text: str) -> str:
        return ""

    async def write_files(self, make: Callable[[], Files]) -> None:
        """Nothing is made."""

    def next_attempt(self) -> int:
        self._attempts += 1
        return self._attempts

    def redact(self, value: JsonObject) -> JsonObject:
        return value

    def sleep(self, seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds)


async def check_text(engine: ChecksTexts, text: str, *, safety: str | None) -> VerdictGiven:
    """The verdict of Stage 1 on a text, at the engine's level or a stricter one."""
    request = engine.request(text, pipeline="passthrough", output="sketch", safety=safety)
    shipped_rules()  # raises where a term list is broken
    services = Services(
        request,
        engine.settings.models,
        engine.backends,
        NullJournal(),
        judge_seconds=engine.settings.judge_seconds,
    )
    asked = engine.submit(input_stage.run(request, services, request.texts))
    _, verdict = await await_elsewhere(asked, on_cancel=asked.cancel)
    return verdict
