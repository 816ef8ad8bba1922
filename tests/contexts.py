"""A stage's context without an engine: what is recorded and streamed lies in lists, and nobody
really waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from devpipe.backends.base import Backend, Delta, Emit
from devpipe.backends.registry import Backends
from devpipe.config.catalogue import load_catalogue
from devpipe.record.events import Event, TextStreamed
from devpipe.stages.context import Context
from devpipe.testing import ScriptedBackend, settings_for_tests
from devpipe.values import Boundary, TextRequest, TextResult

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
    """A context, and what came of it: `events` in their order, `waits` in seconds, `before_wait`
    what was on disk when the last began.
    """

    def __init__(
        self, models: Mapping[str, str] | None = None, *, pipeline: str = "dada", output: str = "sketch", language: str = "en",
        change: Callable[[Any], Any] = lambda config: config, level: str = "youth", **backends: Backend,
    ) -> None:  # fmt: skip
        catalogue = load_catalogue(REPOSITORY)
        self.events: list[Event] = []
        self.held: list[Event] = []
        self.emitted: list[Event] = []
        self.waits: list[float] = []
        self.before_wait: list[Event] = []
        self.texts: dict[str, str] = {}
        config = catalogue.output(output)
        self.context = Context(
            level=level, text_seed=7, pipeline=change(catalogue.interception(pipeline)), output=config,
            media_pipeline=catalogue.media_pipeline(config.pipeline), backends=Backends(settings_for_tests(REPOSITORY), backends),
            models=ALL_PROCEDURAL | dict(models or {}), record=self.record, hold=self.hold, write_text=self.write_text,
            write_files=self.write_files, emit=self.emitted.append, redact=lambda value: value, language=language, sleep=self.sleep,
        )  # type: ignore[arg-type]  # fmt: skip

    def hold(self, *events: Event) -> None:
        self.held.extend(events)

    async def record(self, *events: Event) -> None:
        self.events += [*self.held, *events]
        self.held.clear()

    async def write_text(self, name: str, text: str) -> str:
        self.texts[name] = text
        return hashlib.sha256(text.encode()).hexdigest()

    async def write_files(self, files: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        raise AssertionError("no test of texts writes files")

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.before_wait = list(self.events)

    def all(self, kind: type[E]) -> list[E]:
        """Events of one kind, recorded or about to be."""
        return [event for event in [*self.events, *self.held] if isinstance(event, kind)]

    @property
    def seen(self) -> str:
        """What a follower shows who obeys the restarts."""
        shown = ""
        for event in self.emitted:
            if isinstance(event, TextStreamed):
                shown = event.text if event.restarted else shown + event.text
        return shown
