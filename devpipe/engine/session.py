"""One run on the engine's thread: its acts in order, its recording, its ending.

`Work` belongs to the engine's event loop. What people hold is a `Run` (run.py), which asks the
engine to act here.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from importlib import metadata

from pydantic_core import to_json

from devpipe.aio import finish_even_if_cancelled, in_thread
from devpipe.backends.registry import Backends
from devpipe.config.models import Model
from devpipe.config.settings import Settings
from devpipe.engine.request import RunRequest
from devpipe.errors import BackendError, RecorderError, UsageError
from devpipe.record.events import (
    AttachmentWritten,
    Event,
    JsonObject,
    Recorded,
    RunFinished,
    RunStarted,
    StageFinished,
    StageReused,
    StageStarted,
    VerdictGiven,
)
from devpipe.record.reader import Recording, run_folder
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.record.summary import RunSummary, StageSummary
from devpipe.stages import generation, interception, pre_output
from devpipe.stages import input as input_stage
from devpipe.stages.context import Context, Refused, problem_of
from devpipe.stages.input import Texts, final_text
from devpipe.text.clean import clean
from devpipe.values import STAGES, Attachment, MediaRequest, Outcome, Stage, canonical_sha256

Publish = Callable[[Recorded | Event], None]


def started_event(request: RunRequest, settings: Settings) -> RunStarted:
    """The first event: all that was known before the run."""
    configs = {
        "media_pipeline": request.media_pipeline,
        "output": request.output,
        "pipeline": request.pipeline,
    }
    return RunStarted(
        run_id=request.run_id,
        pipeline=request.pipeline.name,
        output=request.output.name,
        texts=dict(request.texts),
        parent=request.parent,
        relation=request.relation,
        first_stage=request.first_stage,
        seed=request.seed,
        text_seed=request.text_seed,
        parameters=dict(request.asked),
        safety=request.level,
        instruction=request.instruction,
        config={name: config.snapshot() for name, config in configs.items()},
        config_sha256=_sha256_of(configs),
        software=software(),
        labels=dict(request.labels),
        batch=request.batch,
        provenance=settings.provenance,
        edited=dict(request.edited),
    )


def _sha256_of(configs: Mapping[str, Model]) -> str:
    """canonical_sha256 of all their snapshots, from spellings that are made once."""
    spelled = ",".join(f'"{name}":{configs[name].spelled}' for name in sorted(configs))
    return hashlib.sha256(f"{{{spelled}}}".encode()).hexdigest()


@lru_cache(maxsize=1)
def software() -> dict[str, str]:
    """Versions that a later reader may need."""
    versions = {name: metadata.version(name) for name in ("devpipe", "pillow", "numpy")}
    return versions | {"python": platform.python_version(), "platform": platform.platform()}


class Work:
    """The acts of one run.

    Each act may be awaited alone (step by step) or in order by `all_stages`.
    """

    def __init__(
        self,
        request: RunRequest,
        *,
        settings: Settings,
        backends: Backends,
        fsyncs: Executor | None = None,
    ) -> None:
        self.request = request
        self._fsyncs = fsyncs
        self.settings = settings
        self.publish: Publish = _nobody
        self.summary = RunSummary()
        self.interception_done: asyncio.Event = asyncio.Event()
        self.original: Texts | None = None
        self.texts: Texts | None = None
        self.verdict: VerdictGiven | None = None
        self.media_request: MediaRequest | None = None
        self._recorder: Recorder | None = None
        self._held: list[Event] = []
        self._writing = asyncio.Lock()
        self._began = time.perf_counter()
        models = settings.models
        self.context = Context(
            level=request.level,
            text_seed=request.text_seed,
            pipeline=request.pipeline,
            output=request.output,
            media_pipeline=request.media_pipeline,
            backends=backends,
            models=models,
            record=self.record,
            hold=self.hold,
            write_text=self._write_text,
            write_files=self._write_files,
            emit=self._emit,
            redact=self._redacted,
            provenance=settings.provenance,
            judge_seconds=settings.judge_seconds,
        )

    # Recording: one write for all events that belong together; what is shown was written before.

    @property
    def recorder(self) -> Recorder:
        assert self._recorder is not None, "open() comes first"
        return self._recorder

    def hold(self, *events: Event) -> None:
        """Keep these for the next record."""
        self._held.extend(events)

    async def record(self, *events: Event) -> None:
        """Write all held events and these, then show them.

        A cancellation waits until they are written and shown.
        """
        self._held.extend(events)
        if self._writing.locked() or any(event.durable for event in self._held):
            await finish_even_if_cancelled(self._flush())
        elif self._held:  # into the page cache: quicker than a thread, and nothing can come between
            batch, self._held = self._held, []
            self._show(self._written(batch, last=False))

    async def _flush(self, *, last: bool = False) -> None:
        async with self._writing:
            batch, self._held = self._held, []
            if batch:
                self._show(await in_thread(self._written, batch, last))

    def _show(self, recorded: tuple[Recorded, ...]) -> None:
        for one in recorded:
            self.publish(one)

    def _written(self, batch: list[Event], last: bool) -> tuple[Recorded, ...]:
        """Write one batch; with the last one goes the summary file, and the recorder is closed."""
        recorded = self.recorder.record(*batch)
        for one in recorded:
            self.summary.add(one)
        if last:
            self.recorder.close(
                to_json(self.summary.to_json(), indent=1)
            )  # the standard library's indents ten times slower
        return recorded

    async def _write_text(self, name: str, text: str) -> str:
        return self.recorder.write_text(name, text)

    async def _write_files(self, files: Callable[[], list[tuple[str, bytes]]]) -> None:
        await finish_even_if_cancelled(in_thread(lambda: self.recorder.write_files(files())))

    def _redacted(self, value: JsonObject) -> JsonObject:
        clean: JsonObject = Redactor(self.settings.secrets()).value(value)
        return clean

    def _emit(self, event: Event) -> None:
        self.publish(event)

    @property
    def opened(self) -> bool:
        return self._recorder is not None

    async def open(self) -> None:
        """Create the recording and write the first event, both or neither; raises RecorderError
        before anything was done.
        """
        await finish_even_if_cancelled(self._open())

    async def _open(self) -> None:
        redact = Redactor(self.settings.secrets())
        self._recorder = Recorder.create(
            self.settings.recordings, self.request.run_id, redact=redact, pool=self._fsyncs
        )
        self.hold(started_event(self.request, self.settings))
        names = {
            name: self.context.file_name(f"attached_{name}", "png") for name in self.request.images
        }
        if names:
            await self._write_files(
                lambda: [(names[name], image.data) for name, image in self.request.images.items()]
            )
        self.hold(
            *[_attached(name, names[name], image) for name, image in self.request.images.items()]
        )
        await self.record()

    async def resume(self) -> None:
        """Take the recording of a dead process up where it ended."""
        await finish_even_if_cancelled(self._resume())

    async def _resume(self) -> None:
        folder = run_folder(self.settings.recordings, self.request.run_id)
        self._recorder = await in_thread(
            Recorder.resume, folder, redact=Redactor(self.settings.secrets()), pool=self._fsyncs
        )
        recording = Recording(folder)
        for one in recording.events:
            self.summary.add(one)
            self.publish(one)
        self.context.files = sorted(recording.files)
        self.context.attempts = max(self.summary.attempts, default=0)

    # The acts.

    @asynccontextmanager
    async def _stage(self, stage: Stage) -> AsyncIterator[StageFinished]:
        """Between its two events; a failure is written as the stage's ending and goes on to the
        run's.
        """
        began = time.perf_counter()
        self.hold(StageStarted(stage=stage))
        try:
            yield StageFinished(stage=stage, outcome="completed")
        except Refused as refused:
            self._ended(stage, began, refused=str(refused))
            raise
        except Exception:  # any: the stage's ending must be written; it is raised again
            self.hold(
                StageFinished(stage=stage, outcome="failed", seconds=time.perf_counter() - began)
            )
            raise

    def _ended(
        self, stage: Stage, began: float, verdict: VerdictGiven | None = None, *, refused: str = ""
    ) -> bool:
        """Hold the stage's ending; False where the run is blocked."""
        blocked = (verdict is not None and not verdict.allowed) or bool(refused)
        reason = refused or (verdict.reason if verdict and blocked else "")
        seconds = time.perf_counter() - began
        self.hold(
            StageFinished(
                stage=stage,
                outcome="blocked" if blocked else "completed",
                reason=reason,
                seconds=seconds,
            )
        )
        return not blocked

    async def input(self, texts: Mapping[str, str]) -> bool:
        """Stage 1. False: blocked, and the run is over."""
        began = time.perf_counter()
        self.texts = self.media_request = self.verdict = None
        async with self._stage("input"):
            self.original, verdict = await input_stage.run(
                self.context, texts, instruction=self.request.instruction
            )
            self.texts = self.original
            allowed = self._ended("input", began, verdict)
        await (self.record() if allowed else self.finish("blocked"))
        return allowed

    async def intercept(self) -> None:
        """Stage 2."""
        began = time.perf_counter()
        if self.original is None:
            raise UsageError(
                "Stage 2 has no text yet.", hint='Begin with `await run.input("...")`.'
            )
        self.media_request = self.verdict = None
        async with self._stage("interception"):
            self.texts = await interception.run(
                self.context, self.original, instruction=self.request.instruction
            )
            self._ended("interception", began)
        await self.record()
        self.interception_done.set()

    async def edit(self, texts: Mapping[str, str]) -> bool:
        """The person's own wording of Stage 2's result: an input, so it is checked as one.

        False: blocked.
        """
        began = time.perf_counter()
        if self.texts is None:
            raise UsageError(
                "There is no text to edit yet.", hint='Begin with `await run.input("...")`.'
            )
        current = dict(self.texts.by_part)
        edited = {part: clean(text) for part, text in texts.items() if text != current.get(part)}
        if unknown := set(edited) - {*current, *self.request.media_pipeline.texts}:
            raise UsageError(
                f"There is no text named {sorted(unknown)[0]!r}.",
                hint=f"There are: {', '.join(current)}.",
            )
        if not edited:
            return True
        self.media_request = self.verdict = None
        verdict = await self.context.verdict(
            edited, stage="interception", sha256=canonical_sha256(edited), needs_judge=False
        )
        languages = dict(self.texts.languages)
        languages |= {part: languages.get(part, self.context.language) for part in edited}
        for part, text in edited.items():
            self.hold(
                await final_text(
                    self.context,
                    "interception",
                    part,
                    text,
                    languages[part],
                    by="user",
                    step="edit",
                )
            )
        self.texts = Texts(current | edited, languages)
        self.hold(verdict)
        if verdict.allowed:
            return True
        self._ended("interception", began, verdict)
        await self.finish("blocked")
        return False

    async def check(
        self, *, ready: Texts | None = None, reuse: VerdictGiven | None = None, flush: bool = True
    ) -> bool:
        """Stage 3.

        False: blocked, and the run is over. `ready`: the texts as an earlier run fitted and
        translated them.
        """
        began = time.perf_counter()
        if self.texts is None or self.original is None:
            raise UsageError(
                "Stage 3 has no text yet.", hint='Begin with `await run.input("...")`.'
            )
        async with self._stage("pre_output"):
            self.media_request, self.verdict = await pre_output.run(
                self.context,
                self.texts,
                original=self.original,
                images=self.request.images,
                parameters=self.request.parameters,
                ready=ready,
                reuse=reuse,
            )
            if reuse is not None and self.verdict.source:
                self.hold(StageReused(stage="pre_output", run_id=self.verdict.source))
            allowed = self._ended("pre_output", began, self.verdict)
        if not allowed:
            await self.finish("blocked")
        elif flush:
            await self.record()
        return allowed

    async def generate(self, seed: int) -> None:
        """Stage 4, and the run's ending."""
        began = time.perf_counter()
        if self.media_request is None:
            raise UsageError(
                "Stage 4 has no checked text yet.", hint="Check it first: `await run.check()`."
            )
        async with self._stage("generation"):
            result = await generation.run(
                self.context, self._begun(replace(self.media_request, seed=seed)), self.verdict
            )
            made = self._ended("generation", began, refused=result.refused)
        await self.finish("completed" if made else "blocked")

    def _begun(self, request: MediaRequest) -> MediaRequest:
        """The request under the name of the job that a dead process may have left at the
        backend.
        """
        asked = request.sha256(), request.seed
        for attempt in reversed(self.summary.media_attempts):
            if attempt.finished is None and asked == (attempt.started.sha256, attempt.started.seed):
                return replace(request, request_id=attempt.started.request_id, sent_before=True)
        return request

    async def all_stages(self, seed: int) -> None:
        """The whole way, beginning with the first stage that is not reused."""
        first, taken = STAGES.index(self.request.first_stage), self.request.source
        if taken and first == 1 and not await self._counts_today(taken.stages["input"]):
            first = 0
        if taken and first and not await self._reuse(taken, first):
            return
        if first == 0 and not await self.input(self.request.texts):
            return
        if first <= 1:
            await self.intercept()
        if self.request.edited and not await self.edit(self.request.edited):
            return
        source = self.request.source if first == 3 else None
        before = source.stages["pre_output"] if source else None
        ready = Texts(before.texts, before.languages) if before and before.texts else None
        reuse = _from_source(before.verdict, self.request.source) if before else None
        if await self.check(ready=ready, reuse=reuse, flush=False):
            await self.generate(seed)

    async def after(self, leader: Work, seed: int) -> None:
        """The stages that are this run's own, once the leader's shared ones are done."""
        await leader.interception_done.wait()
        if leader.summary.outcome == "cancelled":
            await self.finish("cancelled")
            return
        stages = leader.summary.stages
        if stages["interception"].outcome != "completed" and stages["input"].outcome != "blocked":
            raise BackendError(
                "The shared interception failed.", hint=f"See run {leader.request.run_id}."
            )
        self.request = replace(self.request, source=leader.summary)
        await self.all_stages(seed)

    async def rest(self, seed: int) -> None:
        """What a dead process left undone: from the first unfinished stage to the end."""
        stages = self.summary.stages
        if "blocked" in (stage.outcome for stage in stages.values()):
            await self.finish("blocked")
            return
        left = stages["interception"].outcome != "completed"
        if stages["input"].outcome != "completed":
            await self.all_stages(seed)
            return
        if left and not await self._counts_today(stages["input"]):
            if await self.input(self.request.texts):
                await self._from_interception(seed)
            return
        self.original = self.texts = Texts(stages["input"].texts, stages["input"].languages)
        self.context.language = next(iter(self.original.languages.values()), "en")
        if left:
            await self._from_interception(seed)
            return
        self.texts = Texts(stages["interception"].texts, stages["interception"].languages)
        await self._from_pre_output(seed, stages["pre_output"].verdict)

    async def _from_interception(self, seed: int) -> None:
        await self.intercept()
        await self._from_pre_output(seed, None)

    async def _from_pre_output(self, seed: int, reuse: VerdictGiven | None) -> None:
        if self.request.edited and not await self.edit(self.request.edited):
            return
        if await self.check(reuse=reuse, flush=False):
            await self.generate(seed)

    async def _counts_today(self, told: StageSummary) -> bool:
        """Whether Stage 1's verdict on texts taken over still holds: no text model sees them by
        another level, list or judge.
        """
        texts, instruction = told.texts, self.request.instruction
        hashes = {
            canonical_sha256(input_stage.checked(texts, words)) for words in ("", instruction)
        }
        return any(
            [await pre_output.still_valid(self.context, told.verdict, sha256) for sha256 in hashes]
        )

    async def _reuse(self, source: RunSummary, first: int) -> bool:
        """Take the texts and verdicts of the stages before `first` over into this recording.

        False: the source was blocked there.
        """
        assert source.started is not None
        for stage in STAGES[: min(first, 2)]:
            told = source.stages[stage]
            self.hold(StageReused(stage=stage, run_id=source.started.run_id))
            for part, text in told.texts.items():
                written = next(
                    one for one in reversed(told.written) if one.final and one.part == part
                )
                self.hold(
                    await final_text(
                        self.context,
                        stage,
                        part,
                        text,
                        written.language,
                        by=written.by,
                        step=written.step,
                    )
                )
            if verdict := _from_source(told.verdict, source):
                self.hold(verdict)
            self.hold(
                StageFinished.model_validate(
                    {"stage": stage, "outcome": told.outcome or "completed", "reason": told.reason}
                )
            )
            taken = Texts(told.texts, told.languages)
            self.original, self.texts = (self.original or taken), taken
            if told.outcome == "blocked":
                await self.finish("blocked")
                return False
        assert self.original is not None
        self.context.language = next(iter(self.original.languages.values()), "en")
        await self.record()
        return True

    # The ending.

    async def end(self, outcome: Outcome, error: Exception | None = None) -> RecorderError | None:
        """Write the ending of a run that was stopped.

        Gives back the error where the disk refuses even that.
        """
        try:
            await self.finish(outcome, error)
        except RecorderError as refused:
            if self._recorder is not None:  # what was acknowledged stays readable
                await in_thread(self._recorder.close)
            return refused
        finally:
            self.interception_done.set()
        return None

    async def finish(self, outcome: Outcome, error: Exception | None = None) -> None:
        """The last event and the summary file.

        Does nothing where the run has its ending already.
        """
        if self.summary.finished is None and self._recorder is not None:
            await finish_even_if_cancelled(self._finish(outcome, error))

    async def _finish(self, outcome: Outcome, error: Exception | None) -> None:
        seconds = time.perf_counter() - self._began
        self._held.append(
            RunFinished(
                outcome=outcome, error=problem_of(error) if error else None, seconds=seconds
            )
        )
        await self._flush(last=True)
        self.interception_done.set()


def _from_source(verdict: VerdictGiven | None, source: RunSummary | None) -> VerdictGiven | None:
    """The verdict, with the run that it was first given in."""
    if verdict is None or source is None or source.started is None:
        return None
    return verdict.model_copy(update={"source": verdict.source or source.started.run_id})


def _nobody(_: Recorded | Event) -> None:
    """Nobody follows yet."""


def _attached(name: str, path: str, image: Attachment) -> AttachmentWritten:
    return AttachmentWritten(
        name=name,
        path=path,
        media_type=image.media_type,
        sha256=image.sha256,
        bytes=len(image.data),
        width=image.width,
        height=image.height,
    )
