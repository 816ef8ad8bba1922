"""The door to the four stages: run, start, open, regenerate, replay, resume, batch."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from devpipe.aio import CLOSING_S
from devpipe.backends.base import Backend
from devpipe.backends.registry import Backends
from devpipe.config.catalogue import Catalogue, load_catalogue
from devpipe.config.settings import Settings
from devpipe.config.workspace import find_home
from devpipe.engine.loop import Fsyncs, LoopThread
from devpipe.engine.request import Asker, Prompt, Relation, RunRequest
from devpipe.engine.run import OpenRun, Run
from devpipe.engine.session import Work
from devpipe.errors import DevpipeError, UsageError
from devpipe.record.reader import Recordings, run_folder
from devpipe.safety.rules import shipped_rules
from devpipe.values import draw_seed

if TYPE_CHECKING:
    from devpipe.analysis.replay import Replay
    from devpipe.analysis.tables import Tables
    from devpipe.batch.runner import Forecast, Report

Acts = Callable[[], Coroutine[Any, Any, object]]
AnyRun = TypeVar("AnyRun", bound=Run)
T = TypeVar("T")


class Engine:
    """The four stages as calls, for notebooks, scripts and dashboards.

    `home` is the workspace: given, or $DEVPIPE_HOME, or the nearest folder upwards with pipelines/
    and output_configs/.
    `backends` adds backend objects by name, for tests and experiments. Everything happens in one
    thread of the engine's own
    (see loop.py); it starts with the first run and ends with `close()` or the process.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        backends: Mapping[str, Backend] | None = None,
    ) -> None:
        self.settings = settings or Settings.load(Path(home) if home is not None else find_home())
        self.backends = Backends(self.settings, backends)
        self._thread = LoopThread("devpipe-engine")
        self._fsyncs = Fsyncs()
        self._folders = [
            str(self.settings.home / name)
            for name in ("pipelines", "output_configs", "output_configs/graphs")
        ]
        self._catalogue: tuple[object, Catalogue] | None = None
        self._unfinished: dict[str, Run] = {}
        atexit.register(_close_at_exit, weakref.ref(self))

    def __repr__(self) -> str:
        return f"Engine({str(self.settings.home)!r}, safety {self.settings.safety})"

    # What there is.

    @property
    def catalogue(self) -> Catalogue:
        """Pipelines and output configs as the files say now; read again when one changed."""
        signature = [state for folder in self._folders for state in _files(folder)]
        if self._catalogue is None or self._catalogue[0] != signature:
            self._catalogue = (
                signature,
                load_catalogue(self.settings.home, backends=self.backends.names()),
            )
        return self._catalogue[1]

    @property
    def recordings(self) -> Tables:
        """All recordings of the workspace: `.find(run_id)`, and pandas tables `.runs()`,
        `.stages()`, `.events()`, ...
        """
        from devpipe.analysis.tables import Tables

        return Tables(self.settings.recordings)

    @property
    def _stored(self) -> Recordings:
        """The recordings without tables."""
        return Recordings(self.settings.recordings)

    @property
    def _asker(self) -> Asker:
        return Asker(self.catalogue, self.settings.safety)

    # Whole runs.

    @overload
    def start(
        self, prompt: Prompt, *, pipeline: str = ..., output: str = ..., **how: Any
    ) -> Run: ...
    @overload
    def start(
        self, prompt: Prompt, *, pipeline: str = ..., output: Sequence[str], **how: Any
    ) -> list[Run]: ...
    def start(
        self,
        prompt: Prompt,
        *,
        pipeline: str = "passthrough",
        output: str | Sequence[str] = "sketch",
        **how: Any,
    ) -> Run | list[Run]:
        """Start all four stages and give back the run at once: await it, iterate its events, cancel
        it.

        Keywords: `seed` (of the medium) and `text_seed` (of Stages 1 and 2), 1..2**31-1, drawn
        where absent; `image`, `mask`,
        `control` (path, bytes or PIL image); `instruction` for pipelines that take the user's own;
        `safety`, never looser than
        the workspace's; `labels`, `batch`; `parameters={"width": 512}` or directly `width=512`.
        Several outputs make one run each; Stages 1 and 2 happen once and are shared.
        Raises UsageError (ConfigError, UnknownName) before anything is started.
        """
        names = [output] if isinstance(output, str) else list(output)
        if prompt is None:
            raise UsageError("There is no prompt.", hint="Give a text.")
        if not names:
            raise UsageError(
                "There is no output.", hint="Name at least one: `devpipe list outputs`."
            )
        first, *others = [self._asker.request(prompt, pipeline, name, **how) for name in names]
        work = self._work(first)
        run = self._launch(work, lambda: work.all_stages(first.seed or draw_seed()))
        if isinstance(output, str):
            return run
        return [run, *(self._start_sibling(other, work) for other in others)]

    async def run(
        self,
        prompt: Prompt,
        *,
        pipeline: str = "passthrough",
        output: str | Sequence[str] = "sketch",
        **how: Any,
    ) -> Any:
        """All four stages; gives back the ended run, or a list of them for a list of outputs.

        Keywords as in `start`.

        One run that fails raises its error. Of several, each keeps its own `outcome` and `error`.
        """
        runs = self.start(prompt, pipeline=pipeline, output=output, **how)
        if isinstance(runs, Run):
            return await runs
        ended = await asyncio.gather(*runs, return_exceptions=True)
        for unknown in (
            one
            for one in ended
            if isinstance(one, BaseException) and not isinstance(one, DevpipeError)
        ):
            raise unknown
        return runs

    def open(self, *, pipeline: str = "passthrough", output: str = "sketch", **how: Any) -> OpenRun:
        """A run to take step by step, with edits between the stages: input, intercept, check,
        generate. Keywords as in `start`.
        """
        request = self._asker.request(None, pipeline, output, **how)
        work = self._work(request)
        run = OpenRun(work, self._thread, self._folder(request))
        return self._known(run)

    # Again.

    def start_again(self, run_id: str, **changes: Any) -> Run:
        """Start `regenerate` and give back the run at once."""
        request = self._asker.again(self._stored.find(run_id), **changes)
        work = self._work(request)
        return self._launch(work, lambda: work.all_stages(request.seed or draw_seed()))

    async def regenerate(self, run_id: str, **changes: Any) -> Run:
        """A new run from the first stage that the changes touch; earlier stages are reused, its
        recording names its parent.

        Changes: `seed` (a new one is drawn where absent), `parameters`, `output`, `text` (own
        wording of Stage 2's result),
        `text_seed`, `pipeline`, `instruction`, `prompt`, `safety`. Stage 3's verdict is reused only
        for the same text, level
        and policy; otherwise Stage 3 runs again.
        """
        return await self.start_again(run_id, **changes)

    async def replay(self, run_id: str) -> Replay:
        """The same request again, by the configs as recorded; says what is equal, bit for bit, or
        how far apart.
        """
        from devpipe.analysis.replay import Replay

        source = self._stored.find(run_id)
        request = self._asker.replayed(source)
        work = self._work(request)
        run = await self._launch(work, lambda: work.all_stages(request.seed or draw_seed()))
        return Replay.of(source, run.recording)

    def start_resumed(self, run_id: str) -> Run:
        """Start `resume` and give back the run at once."""
        source = self._stored.find(run_id)
        if source.finished:
            raise UsageError(
                f"Run {source.id} has ended ({source.state}).",
                hint=f"Start from it anew: `devpipe regenerate {source.id}`.",
            )
        request = self._asker.resumed(source, self._stored)
        work = self._work(request)
        return self._launch(work, lambda: work.rest(request.seed or draw_seed()), resumes=True)

    async def resume(self, run_id: str) -> Run:
        """Go on with a run whose process died, in the same recording, at its first unfinished
        stage.
        """
        return await self.start_resumed(run_id)

    async def batch(
        self, plan: Any, *, concurrency: int = 4, budget_usd: float | None = None
    ) -> Report:
        """All runs of a plan (Plan, dict, YAML or CSV path); what an earlier try has done is not
        done again.
        """
        from devpipe.batch.plan import Plan
        from devpipe.batch.runner import Batch

        batch = await asyncio.to_thread(
            lambda: Batch(self, Plan.read(plan), concurrency=concurrency, budget_usd=budget_usd)
        )
        return await batch.run()

    def forecast(self, plan: Any) -> Forecast:
        """What a plan would do and cost, before it does."""
        from devpipe.batch.plan import Plan
        from devpipe.batch.runner import Batch

        return Batch(self, Plan.read(plan)).forecast

    def request(self, prompt: Prompt, *, pipeline: str, output: str, **how: Any) -> RunRequest:
        """What `start` would ask, checked and not started. Raises UsageError."""
        return self._asker.request(prompt, pipeline, output, **how)

    def start_shared(
        self, prompt: Prompt, source_id: str, *, pipeline: str, output: str, **how: Any
    ) -> Run:
        """A run that takes Stages 1 and 2 over from another one of the same prompt and pipeline."""
        request = self._asker.shared(self._stored.find(source_id), prompt, pipeline, output, **how)
        work = self._work(request)
        return self._launch(work, lambda: work.all_stages(request.seed or draw_seed()))

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

    def _folder(self, request: RunRequest) -> Path:
        return run_folder(self.settings.recordings, request.run_id)

    def _work(self, request: RunRequest) -> Work:
        # raises where a term list is missing or broken: nothing starts without them
        shipped_rules()
        return Work(request, settings=self.settings, backends=self.backends, fsyncs=self._fsyncs)

    def _known(self, run: AnyRun) -> AnyRun:
        """Remember a run until it ends, so that closing the engine ends it."""
        self._unfinished[run.id] = run
        run.when_ended(lambda: self._unfinished.pop(run.id, None))
        return run

    def _launch(self, work: Work, acts: Acts, *, resumes: bool = False) -> Run:
        """A run whose acts are under way in the engine's thread."""
        run = self._known(Run(work, self._thread, self._folder(work.request)))
        run.launch(work.resume if resumes else work.open, acts)
        return run

    def _start_sibling(self, request: RunRequest, leader: Work) -> Run:
        """A run that shares Stages 1 and 2 with the leader's."""
        shared: Relation = "shared"
        request = replace(
            request,
            text_seed=leader.request.text_seed,
            parent=leader.request.run_id,
            relation=shared,
            first_stage="pre_output",
        )
        work = self._work(request)
        return self._launch(work, lambda: work.after(leader, request.seed or draw_seed()))


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
