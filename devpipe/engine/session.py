"""One run on the engine's thread: its acts in order, its recording, its ending.

A `RunSession` belongs to the engine's event loop. What people hold is a `Run` (run.py), which asks
the engine to act here.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata

from devpipe.aio import finish_even_if_cancelled
from devpipe.backends.registry import Backends
from devpipe.config.models import Model
from devpipe.config.settings import Settings
from devpipe.engine.fingerprint import chains_of, fingerprint_of
from devpipe.engine.journal import Publish, RunJournal
from devpipe.engine.lineage import Remaining, remaining, with_known_job
from devpipe.errors import BackendError, RecorderError, UsageError
from devpipe.record.events import (
    AttachmentWritten,
    RunFinished,
    RunStarted,
    StageFinished,
    StageReused,
    StageStarted,
    TextWritten,
    VerdictGiven,
    Warned,
    problem_of,
)
from devpipe.record.summary import RunSummary, StageSummary
from devpipe.stages import generation, interception, pre_output
from devpipe.stages import input as input_stage
from devpipe.stages.pre_output import NOTHING_BEFORE, Before
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Refused, Services
from devpipe.stages.texts import Texts, final_text
from devpipe.text.clean import clean
from devpipe.values import (
    Attachment,
    MediaRequest,
    Outcome,
    Stage,
    canonical_sha256,
    draw_seed,
)
from devpipe.version import __version__


class RunSession:
    """The acts of one run; each may be awaited alone (step by step), or all by `run_to_end`."""

    def __init__(
        self,
        request: RunRequest,
        *,
        settings: Settings,
        backends: Backends,
        publish: Publish,
        fsyncs: Executor | None = None,
    ) -> None:
        self.request = request
        self.settings = settings
        self.journal = RunJournal(
            settings.recordings,
            request.run_id,
            secrets=settings.secrets,
            publish=publish,
            fsyncs=fsyncs,
        )
        self.services = Services(
            request, settings.models, backends, self.journal, judge_seconds=settings.judge_seconds
        )
        self.interception_done = asyncio.Event()
        self.original: Texts | None = None  # of Stage 1
        self.texts: Texts | None = None  # as they are now
        self.verdict: VerdictGiven | None = None
        self.media_request: MediaRequest | None = None
        self._began = time.perf_counter()

    @property
    def summary(self) -> RunSummary:
        """What is on disk, folded."""
        return self.journal.summary

    @property
    def opened(self) -> bool:
        """Whether the recording has begun."""
        return self.journal.opened

    # The beginning.

    async def open(self) -> None:
        """Create the recording and write the first event, both or neither.

        Raises RecorderError before anything was done.
        """
        await finish_even_if_cancelled(self._open())

    async def _open(self) -> None:
        request = self.request
        self.journal.create()
        self.journal.add(started_event(request, self.settings))
        names = {name: self.journal.file_name(f"attached_{name}", "png") for name in request.images}
        if names:
            files = [(names[name], image.data) for name, image in request.images.items()]
            await self.journal.write_files(lambda: files)
        for name, image in request.images.items():
            self.journal.add(_attached(name, names[name], image))
        for note in request.notes:
            self.journal.add(Warned(message=note))
        await self.journal.commit()

    async def resume(self) -> None:
        """Take the recording of a dead process up where it ended."""
        await finish_even_if_cancelled(self._resume())

    async def _resume(self) -> None:
        await self.journal.resume()
        for note in self.request.notes:
            self.journal.add(Warned(message=note))

    # The acts.

    async def input(self, texts: Mapping[str, str]) -> bool:
        """Stage 1. False: blocked, and the run is over."""
        self.texts = None
        self._forget_verdict()
        async with self._stage("input") as ending:
            self.original, verdict = await input_stage.run(self.request, self.services, texts)
            self.texts = self.original
            ending.judge(verdict)
        if ending.blocked:
            await self.finish("blocked")
            return False
        await self.journal.commit()
        return True

    async def intercept(self) -> None:
        """Stage 2."""
        if self.original is None:
            raise UsageError(
                "Stage 2 has no text yet.", hint='Begin with `await run.input("...")`.'
            )
        self._forget_verdict()
        async with self._stage("interception"):
            self.texts = await interception.run(self.request, self.services, self.original)
        await self.journal.commit()
        self.interception_done.set()

    async def edit(self, texts: Mapping[str, str]) -> bool:
        """The person's own wording of Stage 2's result. False: blocked, and the run is over.

        It is an input, so it is checked as one.
        """
        began = time.perf_counter()
        if self.texts is None:
            raise UsageError(
                "There is no text to edit yet.", hint='Begin with `await run.input("...")`.'
            )
        current = self.texts
        edited = self._changed(current, texts)
        if not edited:
            return True
        self._forget_verdict()
        verdict = await self.services.safety.verdict(
            edited,
            stage="interception",
            sha256=canonical_sha256(edited),
            language=self._person_language(),
        )
        languages = dict(current.languages)
        for part, text in edited.items():
            language = languages.setdefault(part, self._person_language())
            written = TextWritten(
                stage="interception",
                part=part,
                text=text,
                language=language,
                by="user",
                step="edit",
            )
            self.journal.add(await final_text(self.journal, written))
        self.texts = Texts({**current.by_part, **edited}, languages, current.spoken)
        self.journal.add(verdict)
        if verdict.allowed:
            return True
        self.journal.add(_stage_finished("interception", began, blocked_by=verdict.reason))
        await self.finish("blocked")
        return False

    def _changed(self, current: Texts, texts: Mapping[str, str]) -> dict[str, str]:
        """The texts that are worded otherwise, cleaned. Raises UsageError for a name of none."""
        edited = {
            part: clean(text) for part, text in texts.items() if text != current.by_part.get(part)
        }
        known = {*current.by_part, *self.request.media_pipeline.texts}
        unknown = sorted(set(edited) - known)
        if unknown:
            raise UsageError(
                f"There is no text named {unknown[0]!r}.",
                hint=f"There are: {', '.join(current.by_part)}.",
            )
        return edited

    async def check(self, *, before: Before = NOTHING_BEFORE, commit: bool = True) -> bool:
        """Stage 3. False: blocked, and the run is over."""
        if self.texts is None or self.original is None:
            raise UsageError(
                "Stage 3 has no text yet.", hint='Begin with `await run.input("...")`.'
            )
        async with self._stage("pre_output") as ending:
            self.media_request, self.verdict = await pre_output.run(
                self.request, self.services, self.texts, original=self.original, before=before
            )
            if before.verdict is not None and self.verdict.source:
                reused = StageReused(stage="pre_output", run_id=self.verdict.source)
                self.journal.add(reused)
            ending.judge(self.verdict)
        if ending.blocked:
            await self.finish("blocked")
            return False
        if commit:
            await self.journal.commit()
        return True

    async def generate(self, seed: int | None = None) -> None:
        """Stage 4 with this seed, the request's, or a new one; then the run's ending."""
        if self.media_request is None:
            raise UsageError(
                "Stage 4 has no checked text yet.", hint="Check it first: `await run.check()`."
            )
        seed = seed or self.request.seed or draw_seed()
        asked = with_known_job(self.media_request, seed, self.summary)
        async with self._stage("generation") as ending:
            result = await generation.run(self.request, self.services, asked, self.verdict)
            if result.refused:
                ending.block(result.refused)
        await self.finish("blocked" if ending.blocked else "completed")

    def _forget_verdict(self) -> None:
        self.media_request = None
        self.verdict = None

    def _person_language(self) -> str:
        texts = self.original or self.texts
        return texts.person_language if texts else "en"

    @asynccontextmanager
    async def _stage(self, stage: Stage) -> AsyncIterator[_Ending]:
        """Between its two events; a failure is written as the stage's ending, then raised again."""
        ending = _Ending()
        began = time.perf_counter()
        self.journal.add(StageStarted(stage=stage))
        try:
            yield ending
        except Refused as refused:
            self.journal.add(_stage_finished(stage, began, blocked_by=str(refused)))
            raise
        except Exception:  # any: the stage's ending must be written
            seconds = time.perf_counter() - began
            self.journal.add(StageFinished(stage=stage, outcome="failed", seconds=seconds))
            raise
        self.journal.add(_stage_finished(stage, began, blocked_by=ending.blocked_by))

    # The whole way, or what is left of it.

    async def run_to_end(self) -> None:
        """Everything that this run has still to do, from its first stage or where it was left."""
        plan = await self._plan()
        if plan.blocked:
            await self.finish("blocked")
            return
        spoken = await self._spoken()
        self._take_up(spoken)
        if not await self._inherit(plan, spoken):
            return
        for stage in plan.acts:
            if not await self._act(stage, plan):
                return

    async def run_after(self, leader: RunSession) -> None:
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
        await self.run_to_end()

    async def _plan(self) -> Remaining:
        """What is left, by what is on disk and by whether Stage 1's verdict is still valid."""
        plan = remaining(self.request, self.summary)
        if plan.trusts is None or await self._verdict_still_holds(plan.trusts):
            return plan
        return plan.from_the_start()

    async def _verdict_still_holds(self, recorded: StageSummary) -> bool:
        """Whether Stage 1's verdict is valid under today's level, rules and judge.

        No text model sees texts that were checked at a looser level or by older lists.
        """
        for instruction in dict.fromkeys(("", self.request.instruction)):
            sha256 = canonical_sha256(input_stage.checked(recorded.texts, instruction))
            if await self.services.safety.verdict_still_holds(recorded.verdict, sha256):
                return True
        return False

    async def _spoken(self) -> str:
        """The person's language, where Stage 1 may have translated what they wrote."""
        texts = self.request.texts
        if not self.request.pipeline.translate or not texts:
            return ""
        languages = await input_stage.languages_of(texts)
        return next(iter(languages.values()))

    def _take_up(self, spoken: str) -> None:
        """The texts that this recording holds already."""
        recorded_input = self.summary.stages["input"]
        recorded_interception = self.summary.stages["interception"]
        if recorded_input.outcome == "completed":
            self.original = Texts(recorded_input.texts, recorded_input.languages, spoken)
            self.texts = self.original
        if recorded_interception.outcome == "completed":
            self.texts = Texts(recorded_interception.texts, recorded_interception.languages, spoken)

    async def _act(self, stage: Stage, plan: Remaining) -> bool:
        """One stage of the whole way. False: the run is over."""
        request = self.request
        if stage == "input":
            return await self.input(request.texts)
        if stage == "interception":
            await self.intercept()
            return True
        if stage == "pre_output":
            if request.edited and not await self.edit(request.edited):
                return False
            return await self.check(before=plan.before, commit=False)
        await self.generate()
        return True

    async def _inherit(self, plan: Remaining, spoken: str) -> bool:
        """Take texts and verdicts over into this recording. False: the source was blocked there."""
        source = self.request.source
        if source is None or source.started is None or not plan.inherited:
            return True
        for stage in plan.inherited:
            recorded = source.stages[stage]
            await self._inherit_stage(stage, recorded, source.started.run_id)
            self.texts = Texts(recorded.texts, recorded.languages, spoken)
            if stage == "interception" and _edits_again(self.request):
                texts = _final_texts(recorded, before_edit=True).values()
                by_part = {one.part: one.text for one in texts}
                languages = {one.part: one.language for one in texts}
                self.texts = Texts(by_part, languages, spoken)
            self.original = self.original or self.texts
            if recorded.outcome == "blocked":
                await self.finish("blocked")
                return False
        await self.journal.commit()
        return True

    async def _inherit_stage(self, stage: Stage, recorded: StageSummary, run_id: str) -> None:
        self.journal.add(StageReused(stage=stage, run_id=run_id))
        rewrites = stage == "interception" and _edits_again(self.request)
        for written in _final_texts(recorded, before_edit=rewrites).values():
            kept = {"text", "part", "stage", "language", "by", "step"}
            again = TextWritten.model_validate(written.model_dump(include=kept))
            self.journal.add(await final_text(self.journal, again))
        if recorded.verdict is not None and not rewrites:
            source = recorded.verdict.source or run_id
            self.journal.add(recorded.verdict.model_copy(update={"source": source}))
        finished = {
            "stage": stage,
            "outcome": recorded.outcome or "completed",
            "reason": recorded.reason,
        }
        self.journal.add(StageFinished.model_validate(finished))

    # The ending.

    async def end(self, outcome: Outcome, error: Exception | None = None) -> RecorderError | None:
        """Write the ending of a run that was stopped.

        Gives back the error where the disk refuses even that.
        """
        try:
            await self.finish(outcome, error)
        except RecorderError as refused:
            await self.journal.abandon()
            return refused
        finally:
            self.interception_done.set()
        return None

    async def finish(self, outcome: Outcome, error: Exception | None = None) -> None:
        """The last event and the summary file; nothing where the run has its ending already."""
        if self.summary.finished is None and self.journal.opened:
            await finish_even_if_cancelled(self._finish(outcome, error))

    async def _finish(self, outcome: Outcome, error: Exception | None) -> None:
        seconds = time.perf_counter() - self._began
        problem = problem_of(error) if error else None
        await self.journal.finish(RunFinished(outcome=outcome, error=problem, seconds=seconds))
        self.interception_done.set()


def _edits_again(request: RunRequest) -> bool:
    """Whether the person's own wording is put in the place of a text that is taken over."""
    return request.relation == "replayed" and bool(request.edited)


def _final_texts(recorded: StageSummary, *, before_edit: bool) -> dict[str, TextWritten]:
    """The resulting texts of a stage by part; those from before the person's edit, if asked for."""
    return {
        text.part: text
        for text in recorded.written
        if text.final and not (before_edit and text.step == "edit")
    }


@dataclass
class _Ending:
    """How a stage ends: completed, unless somebody says why it is blocked."""

    blocked_by: str | None = None

    @property
    def blocked(self) -> bool:
        return self.blocked_by is not None

    def block(self, reason: str) -> None:
        self.blocked_by = reason

    def judge(self, verdict: VerdictGiven) -> None:
        """Blocked unless the verdict allows."""
        if not verdict.allowed:
            self.blocked_by = verdict.reason


def _stage_finished(stage: Stage, began: float, *, blocked_by: str | None) -> StageFinished:
    seconds = time.perf_counter() - began
    if blocked_by is None:
        return StageFinished(stage=stage, outcome="completed", seconds=seconds)
    return StageFinished(stage=stage, outcome="blocked", reason=blocked_by, seconds=seconds)


def started_event(request: RunRequest, settings: Settings) -> RunStarted:
    """The first event: all that was known before the run."""
    configs: dict[str, Model] = {
        "media_pipeline": request.media_pipeline,
        "output": request.output,
        "pipeline": request.pipeline,
    }
    for place, output in enumerate(request.fallbacks, start=1):
        configs[f"fallback_{place}"] = output
    chains = chains_of(request, settings.models)
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
        provenance=request.provenance,
        edited=dict(request.edited),
        models={task: chain for task, chain in settings.models.items() if chain},
        fingerprint=fingerprint_of(request, chains).by_stage(),
    )


def _sha256_of(configs: Mapping[str, Model]) -> str:
    """canonical_sha256 of all their snapshots, from spellings that are made once."""
    spelled = ",".join(f'"{name}":{configs[name].spelled}' for name in sorted(configs))
    return hashlib.sha256(f"{{{spelled}}}".encode()).hexdigest()


@lru_cache(maxsize=1)
def software() -> dict[str, str]:
    """Versions that a later reader may need."""
    versions = {"devpipe": __version__}
    for name in ("pillow", "numpy"):
        versions[name] = _installed(name)
    versions["python"] = platform.python_version()
    versions["platform"] = platform.platform()
    return versions


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # it runs from a folder that nobody installed
        return "unknown"


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
