"""A stage's services without an engine: what is recorded and streamed lies in lists, and nobody
really waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from devpipe.backends.base import Backend, Delta, Emit
from devpipe.backends.registry import Backends
from devpipe.config.catalogue import load_catalogue
from devpipe.record.events import Event, JsonObject, TextStreamed
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Services
from devpipe.testing import ScriptedBackend, settings_for_tests
from devpipe.values import Boundary, Level, TextRequest, TextResult

REPOSITORY = Path(__file__).parents[1]
ALL_PROCEDURAL = {
    "translate": "procedural",
    "interception": "procedural",
    "judge": "",
    "split": "procedural",
}
E = TypeVar("E", bound=Event)


class Written(ScriptedBackend):
    """A scripted text backend that says where it is and whether it costs; an answer may also be
    (streamed pieces, then this).
    """

    def __init__(
        self, *answers: Any, place: Boundary | str = "local", paid: bool = False, digest: str = ""
    ) -> None:
        super().__init__(answers or ["an answer"])
        self.place, self.weights = place, digest
        self.paid = paid
        self.digests = 0

    def boundary(self, model: str) -> Boundary:
        return self.place  # type: ignore[return-value]  # tests also say what is no place

    async def digest(self, model: str) -> str:
        self.digests += 1
        return self.weights

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        if isinstance(self.answers[0], Streamed):
            streamed = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.requests.append(request)
            for piece in streamed.pieces:
                emit(Delta(piece))
            if streamed.then is None:
                await asyncio.Event().wait()
            if isinstance(streamed.then, BaseException):
                raise streamed.then
            return streamed.then
        return await super().write(request, emit)

    @property
    def asked(self) -> list[TextRequest]:
        return [request for request in self.requests if isinstance(request, TextRequest)]


class Streamed:
    """Some pieces of an answer, and how it ends; None: it never does."""

    def __init__(self, *pieces: str, then: TextResult | BaseException | None = None) -> None:
        self.pieces, self.then = pieces, then


class Desk:
    """The services of one run without an engine, and what came of them.

    `events` are those committed, in their order, `waits` in seconds, `before_wait` what was on disk
    when the last one began.
    """

    def __init__(
        self,
        models: Mapping[str, str] | None = None,
        *,
        pipeline: str = "dada",
        output: str = "sketch",
        change: Callable[[Any], Any] = lambda config: config,
        level: Level = "youth",
        **backends: Backend,
    ) -> None:
        catalogue = load_catalogue(REPOSITORY)
        self.events: list[Event] = []
        self.kept: list[Event] = []
        self.emitted: list[Event] = []
        self.waits: list[float] = []
        self.before_wait: list[Event] = []
        self.texts: dict[str, str] = {}
        self.backends = Backends(settings_for_tests(REPOSITORY), backends)
        config = catalogue.output(output)
        media_pipeline = catalogue.media_pipeline(config.pipeline)
        self.request = RunRequest(
            change(catalogue.interception(pipeline)), config, media_pipeline, level, text_seed=7
        )
        self._models = ALL_PROCEDURAL | dict(models or {})
        self._attempts = self._files = 0
        self.services = self._services()

    def _services(self) -> Services:
        return Services(
            self.request,
            self._models,  # type: ignore[arg-type]
            self.backends,
            self,
            judge_seconds=8.0,
        )

    def asked(self, **changes: Any) -> None:
        """Ask for something else than before."""
        self.request = replace(self.request, **changes)
        self.services = self._services()

    # The journal.

    def add(self, *happened: Event) -> None:
        self.kept.extend(happened)

    async def commit(self, *happened: Event) -> None:
        self.events += [*self.kept, *happened]
        self.kept.clear()

    def emit(self, event: Event) -> None:
        self.emitted.append(event)

    def file_name(self, kind: str, extension: str) -> str:
        self._files += 1
        return f"{self._files:02d}_{kind}.{extension}"

    def next_attempt(self) -> int:
        self._attempts += 1
        return self._attempts

    def redact(self, value: JsonObject) -> JsonObject:
        return value

    async def write_text(self, name: str, text: str) -> str:
        self.texts[name] = text
        return hashlib.sha256(text.encode()).hexdigest()

    async def write_files(self, make: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        raise AssertionError("no test of texts writes files")

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.before_wait = list(self.events)

    # What came of it.

    def all(self, kind: type[E]) -> list[E]:
        """Events of one kind, committed or about to be."""
        return [event for event in [*self.events, *self.kept] if isinstance(event, kind)]

    @property
    def seen(self) -> str:
        """What a follower shows who obeys the restarts."""
        shown = ""
        for event in self.emitted:
            if isinstance(event, TextStreamed):
                shown = event.text if event.restarted else shown + event.text
        return shown
