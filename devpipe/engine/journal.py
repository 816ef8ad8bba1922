"""The journal of one run: writes events and files through the recorder first, then shows them.

It belongs to the engine's event loop. Events that belong together go with one write and one fsync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path

from pydantic_core import to_json

from devpipe.aio import finish_even_if_cancelled, in_thread
from devpipe.errors import RecorderError
from devpipe.record.events import Event, JsonObject, Recorded
from devpipe.record.reader import Recording, run_folder
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.record.summary import RunSummary
from devpipe.stages.journal import Files

Publish = Callable[[Recorded | Event], None]


class RunJournal:
    """What one run writes down and shows; `summary` is the fold of all that is on disk."""

    def __init__(
        self,
        recordings: Path,
        run_id: str,
        *,
        secrets: Callable[[], tuple[str, ...]],
        publish: Publish,
        fsyncs: Executor | None = None,
    ) -> None:
        self.summary = RunSummary()
        self._recordings = recordings
        self._run_id = run_id
        self._secrets = secrets
        self._publish = publish
        self._fsyncs = fsyncs
        self._recorder: Recorder | None = None
        self._kept: list[Event] = []
        self._writing = asyncio.Lock()
        self._names: list[str] = []
        self._attempts = 0

    @property
    def opened(self) -> bool:
        """Whether there is a recording to write to."""
        return self._recorder is not None

    @property
    def recorder(self) -> Recorder:
        """The writer of the recording. It is there from `create` or `resume` on."""
        if self._recorder is None:
            raise RecorderError(f"Run {self._run_id} has no recording yet.", hint="Start it first.")
        return self._recorder

    def create(self) -> None:
        """Make the recording. Raises RecorderError where that cannot be done."""
        redact = Redactor(self._secrets())
        self._recorder = Recorder.create(
            self._recordings, self._run_id, redact=redact, pool=self._fsyncs
        )

    async def resume(self) -> None:
        """Take the recording of a dead process up where it ended, and show what it holds."""
        folder = run_folder(self._recordings, self._run_id)
        redact = Redactor(self._secrets())
        self._recorder = await in_thread(Recorder.resume, folder, redact=redact, pool=self._fsyncs)
        recording = Recording(folder)
        for recorded in recording.events:
            self.summary.add(recorded)
            self._publish(recorded)
        self._names = sorted(recording.files)
        self._attempts = max(self.summary.attempts, default=0)

    # What a stage asks for.

    def add(self, *happened: Event) -> None:
        """Keep these for the next commit."""
        self._kept.extend(happened)

    async def commit(self, *happened: Event) -> None:
        """Write all kept events and these, then show them; a cancellation waits for that."""
        self._kept.extend(happened)
        if self._writing.locked() or True in [event.durable for event in self._kept]:
            await finish_even_if_cancelled(self._flush())
        elif self._kept:
            # Into the page cache: quicker than a thread, and nothing can come between.
            self._show(self._written(self._taken()))

    def emit(self, event: Event) -> None:
        """Show a transient event."""
        self._publish(event)

    def file_name(self, kind: str, extension: str) -> str:
        """The next numbered name: 01_input.txt, 02_interception.txt, ..."""
        name = f"{len(self._names) + 1:02d}_{kind}.{extension}"
        self._names.append(name)
        return name

    async def write_text(self, name: str, text: str) -> str:
        """Make a text file; gives back the sha256 of its bytes."""
        return self.recorder.write_text(name, text)

    async def write_files(self, make: Callable[[], Files]) -> None:
        """Make files and write them durably, both in one worker thread."""
        recorder = self.recorder
        await finish_even_if_cancelled(in_thread(lambda: recorder.write_files(make())))

    def next_attempt(self) -> int:
        """The number of the next attempt, from 1."""
        self._attempts += 1
        return self._attempts

    def redact(self, value: JsonObject) -> JsonObject:
        """The value without secrets."""
        clean: JsonObject = Redactor(self._secrets()).value(value)
        return clean

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
        return asyncio.sleep(seconds)

    # The end.

    async def finish(self, *happened: Event) -> None:
        """Write the last events and the summary file, and close the recording."""
        self._kept.extend(happened)
        async with self._writing:
            self._show(await in_thread(self._written_last, self._taken()))

    async def abandon(self) -> None:
        """Let the recording go as it is: what was acknowledged stays readable."""
        if self._recorder is not None:
            await in_thread(self._recorder.close)

    # Inside.

    def _taken(self) -> list[Event]:
        batch = self._kept
        self._kept = []
        return batch

    async def _flush(self) -> None:
        async with self._writing:
            batch = self._taken()
            if batch:
                self._show(await in_thread(self._written, batch))

    def _written(self, batch: list[Event]) -> tuple[Recorded, ...]:
        recorded = self.recorder.record(*batch)
        for one in recorded:
            self.summary.add(one)
        return recorded

    def _written_last(self, batch: list[Event]) -> tuple[Recorded, ...]:
        """Write the last batch; with it goes the summary file, and the recorder is closed."""
        recorded = self._written(batch)
        # The standard library's indents ten times slower.
        self.recorder.close(to_json(self.summary.to_json(), indent=1))
        return recorded

    def _show(self, recorded: tuple[Recorded, ...]) -> None:
        for one in recorded:
            self._publish(one)
