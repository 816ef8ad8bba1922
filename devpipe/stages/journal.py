"""Where a stage writes down what happens: the run's journal, and one place in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

from devpipe.backends.base import Delta, Intent, Piece, Preview, Progress, Queued
from devpipe.record import events
from devpipe.record.events import (
    AttemptFinished,
    AttemptStarted,
    Event,
    JsonObject,
    Previewed,
    Progressed,
    TextStreamed,
    TextWritten,
    Warned,
)
from devpipe.text.clean import visible
from devpipe.values import Stage

LONGEST_TEXT = 100_000  # characters; a longer text is no prompt, and an event holds 1 MB
Files = list[tuple[str, bytes]]


class Journal(Protocol):
    """What one run writes down and shows, in its order."""

    def add(self, *happened: Event) -> None:
        """Keep these for the next commit: one write, one fsync."""

    async def commit(self, *happened: Event) -> None:
        """All kept events and these: on disk when it returns, and only then shown."""

    def emit(self, event: Event) -> None:
        """Show a transient event; it is stored nowhere."""

    def file_name(self, kind: str, extension: str) -> str:
        """The next numbered name: 01_input.txt, 02_interception.txt, ..."""

    async def write_text(self, name: str, text: str) -> str:
        """Make a text file; gives back the sha256 of its bytes."""

    async def write_files(self, make: Callable[[], Files]) -> None:
        """Make files and write them durably, both in one worker thread."""

    def next_attempt(self) -> int:
        """The number of the next attempt, from 1."""

    def redact(self, value: JsonObject) -> JsonObject:
        """The value without secrets: what leaves in a picture holds none either."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""


class Where(NamedTuple):
    """Which text of a run is meant."""

    stage: Stage
    step: str = ""
    iteration: int = 0
    part: str = "prompt"


@dataclass(slots=True)
class Growing:
    """The text that the followers of one run see growing."""

    where: Where | None = None


@dataclass(frozen=True, slots=True)
class PlacedJournal:
    """The journal at one place of the run: what backends report their attempts to.

    A silent one shows no texts and keeps no partial ones: what a judge says of a text is not for
    those who wrote it.
    """

    journal: Journal
    where: Where
    growing: Growing
    silent: bool = False

    def show(self, piece: Piece) -> None:
        """Let the run's followers see what comes of an answer: an `Emit`."""
        stage = self.where.stage
        match piece:
            case Delta(text):
                if not self.silent:
                    self.growing.where = self.where
                    self.journal.emit(TextStreamed(**self.where._asdict(), text=text))
            case Progress(step, steps, message):
                self.journal.emit(Progressed(stage=stage, step=step, steps=steps, message=message))
            case Preview(data, media_type):
                self.journal.emit(Previewed(data=data, media_type=media_type))
            case Queued(position, seconds):
                self.journal.emit(events.Queued(stage=stage, position=position, seconds=seconds))

    async def begin(self, intent: Intent) -> AttemptStarted:
        if self.growing.where == self.where and not self.silent:
            # what followers saw of an earlier try is void
            self.journal.emit(TextStreamed(**self.where._asdict(), text="", restarted=True))
        asked = {one.name: getattr(intent, one.name) for one in fields(intent)}
        started = AttemptStarted(
            attempt=self.journal.next_attempt(), stage=self.where.stage, **asked
        )
        await self.journal.commit(started)
        return started

    def end(self, finished: AttemptFinished) -> None:
        self.journal.add(finished)

    async def fail(self, finished: AttemptFinished, partial: str) -> None:
        if not self.silent:
            add_partial(self.journal, self.where, partial)
        await self.journal.commit(finished)

    def warn(self, message: str) -> None:
        self.journal.add(Warned(stage=self.where.stage, message=message))

    async def pause(self, seconds: float) -> None:
        await self.journal.commit()
        await self.journal.sleep(seconds)


def add_partial(journal: Journal, where: Where, text: str) -> None:
    """Keep what came of a text, never as a result."""
    kept = visible(text[:LONGEST_TEXT])
    if kept:
        journal.add(TextWritten(**where._asdict(), text=kept, by="model", partial=True))
