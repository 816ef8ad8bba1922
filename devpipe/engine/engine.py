"""The door to the four stages: run, start, open, regenerate, replay, resume, batch."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from devpipe.aio import CLOSING_S
from devpipe.backends.base import Backend, Wrapper
from devpipe.backends.registry import Backends
from devpipe.config.catalogue import Catalogue, load_catalogue
from devpipe.config.settings import Settings
from devpipe.config.workspace import find_home
from devpipe.engine.arguments import Changes, Prompt, RunOptions
from devpipe.engine.events import LiveEvents
from devpipe.engine.fingerprint import Fingerprint, chains_of, fingerprint_of
from devpipe.engine.loop import Fsyncs, LoopThread
from devpipe.engine.request import RequestBuilder
from devpipe.engine.run import OpenRun, Run
from devpipe.engine.session import RunSession
from devpipe.errors import DevpipeError, UsageError
from devpipe.record.events import VerdictGiven
from devpipe.record.reader import Recordings, run_folder
from devpipe.safety.rules import shipped_rules
from devpipe.stages.request import RunRequest

if TYPE_CHECKING:
    from devpipe.analysis.replay import Replay
    from devpipe.analysis.tables import Tables
    from devpipe.batch.report import Forecast, Report

AnyRun = TypeVar("AnyRun", bound=Run)
T = TypeVar("T")


class Engine:
    """The four stages as calls, for notebooks, scripts and dashboards.

    `home` is the workspace: given, or $DEVPIPE_HOME, or the nearest folder upwards with pipelines/
    and output_configs/.
    `settings` stands in for those of the workspace, `backends` adds backend objects by name, and
    `wrappers` go around each backend, the first innermost: for tests and experiments.

    Everything happens in one thread of the engine's own (see loop.py); it starts with the first
    run and ends with `close()` or the process.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        backends: Mapping[str, Backend] | None = None,
        wrappers: Sequence[Wrapper] = (),
    ) -> None:
        self.settings = settings or Settings.load(Path(home) if home is not None else find_home())
        self.backends = Backends(self.settings, backends, wrappers)
        self._thread = LoopThread("devpipe-engine")
        self._fsyncs = Fsyncs()
        self._folders = [
            str(self.settings.home / name)
            for name in ("pipelines", "output_configs", "output_configs/graphs")
        ]
        self._catalogue: tuple[object, Catalogue] | None = None
        self._unfinished: dict[str, Run] = {}
        self._own: set[str] = set()  # the ids of all runs that began here
        atexit.register(_close_at_exit, weakref.ref(self))

    def __repr__(self) -> str:
        return f"Engine({str(self.settings.home)!r}, safety {self.settings.safety})"

    # What there is.

    @property
    def catalogue(self) -> Catalogue:
        """Pipelines and output configs as the files say now; read again when one changed."""
        files = [_files(folder) for folder in self._folders]
        if self._catalogue is None or self._catalogue[0] != files:
            catalogue = load_catalogue(self.settings.home, backends=self.backends.names())
            self._catalogue = (files, catalogue)
        return self._catalogue[1]

    @property
    def recordings(self) -> Tables:
        """All recordings of the workspace: `.find(run_id)`, and pandas tables `.runs()`,
        `.stages()`, `.events()`, ...

        In a page that others visit, too (Voila), only those of this engine's own runs.
        """
        from devpipe.analysis.tables import recordings_for

        return recordings_for(self.settings.recordings, self._own, self.settings.environment)

    @property
    def _stored(self) -> Recordings:
        """The recordings without tables."""
        return Recordings(self.settings.recordings)

    @property
    def _requests(self) -> RequestBuilder:
        return RequestBuilder(self.catalogue, self.settings)

    # Whole runs.

    @overload
    def start(
        self,
        prompt: Prompt,
        *,
        pipeline: str = ...,
        output: str = ...,
        **options: Unpack[RunOptions],
    ) -> Run: ...
    @overload
    def start(
        self,
        prompt: Prompt,
        *,
        pipeline: str = ...,
        output: list[str] | tuple[str, ...],
        **options: Unpack[RunOptions],
    ) -> list[Run]: ...
    def start(
        self,
        prompt: Prompt,
        *,
        pipeline: str = "passthrough",
        output: str | list[str] | tuple[str, ...] = "sketch",
        **options: Unpack[RunOptions],
    ) -> Run | list[Run]:
        """Start all four stages and give back the run at once.

        Await it, iterate its events, cancel it. The keywords are those of `RunOptions`: seeds,
        pictures, an instruction, a stricter safety level, labels, and parameters in `parameters` or
        directly (`width=512`). Several outputs make one run each; Stages 1 and 2 happen once and
        are shared.

        Raises UsageError (ConfigError, UnknownName) with all that is wrong, before anything starts.
        """
        if prompt is None:
            raise UsageError("There is no prompt.", hint="Give a text.")
        first, *others = self._requests.requests(prompt, pipeline, output, options)
        session, leader = self._new_run(first, Run)
        leader.launch(session.open, session.run_to_end)
        if isinstance(output, str):
            return leader
        return [leader, *(self._begin_sibling(other, session) for other in others)]

    async def run(
        self,
        prompt: Prompt,
        *,
        pipeline: str = "passthrough",
        output: str | list[str] | tuple[str, ...] = "sketch",
        **options: Unpack[RunOptions],
    ) -> Any:
        """All four stages; gives back the ended run, or a list of them for a list of outputs.

        Keywords as in `start`. One run that fails raises its error. Of several, each keeps its own
        `outcome` and `error`.
        """
        runs = self.start(prompt, pipeline=pipeline, output=output, **options)
        if isinstance(runs, Run):
            return await runs
        ended = await asyncio.gather(*runs, return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException) and not isinstance(one, DevpipeError):
                raise one
        return runs

    def open(
        self,
        *,
        pipeline: str = "passthrough",
        output: str = "sketch",
        **options: Unpack[RunOptions],
    ) -> OpenRun:
        """A run to take step by step, with edits between the stages.

        Its steps are input, intercept, check, generate. Keywords as in `start`.
        """
        request = self._requests.request(None, pipeline, output, options)
        _, run = self._new_run(request, OpenRun)
        return run

    # Again.

    def start_again(self, run_id: str, **changes: Unpack[Changes]) -> Run:
        """Start `regenerate` and give back the run at once."""
        return self._begin(self._requests.regenerated(self._stored.find(run_id), changes))

    async def regenerate(self, run_id: str, **changes: Unpack[Changes]) -> Run:
        """A new run from the first stage that the changes touch; earlier stages are reused.

        Its recording names its parent. Changes: `seed` (a new one is drawn where absent),
        `parameters`, `output`, `text` (own wording of Stage 2's result), `text_seed`, `pipeline`,
        `instruction`, `prompt`, `safety`. What is not changed is read from the recording, also
        where a file was edited or deleted since; `today=True` reads the files as they are now.
        Stage 3's verdict is reused only for the same text, level and policy; otherwise Stage 3 runs
        again.
        """
        return await self.start_again(run_id, **changes)

    async def replay(self, run_id: str) -> Replay:
        """The same request again, by the configs as recorded; says what is equal, bit for bit, or
        how far apart.
        """
        from devpipe.analysis.replay import Replay

        source = self._stored.find(run_id)
        run = await self._begin(self._requests.replayed(source))
        return Replay.of(source, run.recording)

    def start_resumed(self, run_id: str) -> Run:
        """Start `resume` and give back the run at once."""
        source = self._stored.find(run_id)
        if source.finished:
            raise UsageError(
                f"Run {source.id} has ended ({source.state}).",
                hint=f"Start from it anew: `devpipe regenerate {source.id}`.",
            )
        session, run = self._new_run(self._requests.resumed(source, self._stored), Run)
        run.launch(session.resume, session.run_to_end)
        return run

    async def resume(self, run_id: str) -> Run:
        """Go on with a run whose process died, in the same recording, at its first unfinished
        stage.
        """
        return await self.start_resumed(run_id)

    async def batch(
        self,
        plan: Any,
        *,
        concurrency: int = 4,
        budget_usd: float | None = None,
        join: bool = False,
    ) -> Report:
        """All runs of a plan (Plan, dict, YAML or CSV path); what is done is not done again.

        Raises UsageError where the batch is under way, unless this is to `join` its runners.
        """
        from devpipe.batch.runner import Batch

        batch = await asyncio.to_thread(
            Batch, self, plan, concurrency=concurrency, budget_usd=budget_usd, join=join
        )
        return await batch.run()

    def forecast(self, plan: Any) -> Forecast:
        """What a plan would do and cost, before it does."""
        from devpipe.batch.runner import Batch

        return Batch(self, plan).forecast

    def request(
        self, prompt: Prompt, *, pipeline: str, output: str, **options: Unpack[RunOptions]
    ) -> RunRequest:
        """What `start` would ask, checked and not started. Raises UsageError."""
        return self._requests.request(prompt, pipeline, output, options)

    def start_shared(
        self,
        prompt: Prompt,
        source_id: str,
        *,
        pipeline: str,
        output: str,
        **options: Unpack[RunOptions],
    ) -> Run:
        """A run that takes Stages 1 and 2 over from another one of the same prompt and pipeline."""
        return self._begin(
            self._requests.shared(self._stored.find(source_id), prompt, pipeline, output, options)
        )

    # What makes a result what it is.

    def fingerprint(self, request: RunRequest) -> Fingerprint:
        """All that the result of a request would be made of, by the settings of today."""
        return fingerprint_of(request, chains_of(request, self.settings.models))

    def recorded_fingerprint(self, run_id: str) -> Fingerprint:
        """All that a recorded result was made of. Raises UsageError where nobody can tell."""
        return self._requests.fingerprint(self._stored.find(run_id))

    async def check_text(self, text: str, *, safety: str | None = None) -> VerdictGiven:
        """The verdict of Stage 1 on a text, which is recorded nowhere."""
        from devpipe.batch.text_check import check_text

        return await check_text(self, text, safety=safety)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the engine's thread: how a widget's callback takes a step without
        blocking the kernel.
        """
        return self._thread.submit(work)

    def close(self) -> None:
        """Cancel what still runs, write its endings, release the backends, end the thread.

        A later run starts it again.
        """
        for run in list(self._unfinished.values()):
            run.cancel()
        for run in list(self._unfinished.values()):
            run.settled(CLOSING_S)
        if self._thread.running:
            self._thread.submit(self.backends.close()).result(CLOSING_S)
        self._thread.close()
        self._fsyncs.shutdown()
        self._fsyncs = Fsyncs()

    # The engine's thread.

    def _new_run(self, request: RunRequest, handle: type[AnyRun]) -> tuple[RunSession, AnyRun]:
        """A run that nobody has launched yet; closing the engine ends it."""
        shipped_rules()  # raises where a term list is broken: nothing starts without them
        events = LiveEvents()
        session = RunSession(
            request,
            settings=self.settings,
            backends=self.backends,
            publish=events.publish,
            fsyncs=self._fsyncs,
        )
        folder = run_folder(self.settings.recordings, request.run_id)
        run = handle(session, events, self._thread, folder)
        self._unfinished[run.id] = run
        self._own.add(run.id)
        run.when_ended(lambda: self._unfinished.pop(run.id, None))
        return session, run

    def _begin(self, request: RunRequest) -> Run:
        """A run that is under way in the engine's thread, from its beginning to its end."""
        session, run = self._new_run(request, Run)
        run.launch(session.open, session.run_to_end)
        return run

    def _begin_sibling(self, request: RunRequest, leader: RunSession) -> Run:
        """A run that shares Stages 1 and 2 with the leader's."""
        request = replace(
            request,
            text_seed=leader.request.text_seed,
            parent=leader.request.run_id,
            relation="shared",
            first_stage="pre_output",
        )
        session, run = self._new_run(request, Run)
        run.launch(session.open, lambda: session.run_after(leader))
        return run


def _files(folder: str) -> list[tuple[str, int, int]]:
    """Name, time and size of each file of a folder now; a link that leads nowhere is itself."""
    found = []
    try:
        for entry in os.scandir(folder):
            state = entry.stat(follow_symlinks=False)
            found.append((entry.name, state.st_mtime_ns, state.st_size))
    except (
        FileNotFoundError
    ):  # no such folder, or a file removed since it was listed: another state than any before
        found.append(("", -1, len(found)))
    return sorted(found)


def _close_at_exit(engine: weakref.ref[Engine]) -> None:
    if (found := engine()) is not None:
        found.close()
