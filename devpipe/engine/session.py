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
from typing import Literal

from devpipe.aio import finish_even_if_cancelled
from devpipe.backends.registry import Backends
from devpipe.config.models import Model
from devpipe.config.settings import Settings
from devpipe.engine.fingerprint import chains_of, fingerprint_of
from devpipe.engine.journal import Publish, RunJournal
from devpipe.engine.lineage import Remaining, final_texts, remaining, reused, with_known_job
from devpipe.errors import BackendError, RecorderError, UsageError
from devpipe.record.events import (
    AttachmentWritten,
    RunFinished,
    RunStarted,
    StageFinished,
    StageReused,
    StageStarted,
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
    STAGES,
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
        self.media_request: MediaRequest | None = None  # of Stage 3, with its verdict
        self.verdict: VerdictGiven | None = None
        self._began = time.perf_counter()

    @property
    def summary(self) -> RunSummary:
        """What is on disk, folded."""
        return self.journal.summary

    # The beginning.

    async def open(self) -> None:
        """Create the recording and write the first event, both or neither.

        Raises RecorderError before anything was done. No cancellation may cut it off.
        """
        images = self.request.images
        self.journal.create()
        self.journal.add(started_event(self.request, self.settings))
        attached = [
            AttachmentWritten(
                name=name,
                path=self.journal.file_name(f"attached_{name}", "png"),
                media_type=image.media_type,
                sha256=image.sha256,
                bytes=len(image.data),
                width=image.width,
                height=image.height,
            )
            for name, image in images.items()
        ]
        if attached:
            files = [(one.path, images[one.name].data) for one in attached]
            await self.journal.write_files(lambda: files)
        self.journal.add(*attached, *self._notes())
        await self.journal.commit()

    async def resume(self) -> None:
        """Take the recording of a dead process up where it ended; not to be cut off either."""
        await self.journal.resume()
        self.journal.add(*self._notes())

    def _notes(self) -> list[Warned]:
        return [Warned(message=note) for note in self.request.notes]

    # The acts.

    async def input(self, texts: Mapping[str, str]) -> None:
        """Stage 1."""
        self.texts = None
        self.media_request = None
        async with self._stage("input") as ending:
            self.original, verdict = await input_stage.run(self.request, self.services, texts)
            self.texts = self.original
            ending.judge(verdict)
        await self.journal.commit()

    async def intercept(self) -> None:
        """Stage 2."""
        if self.original is None:
            raise UsageError(
                "Stage 2 has no text yet.", hint='Begin with `await run.input("...")`.'
            )
        self.media_request = None
        async with self._stage("interception"):
            self.texts = await interception.run(self.request, self.services, self.original)
        await self.journal.commit()
        self.interception_done.set()

    async def _edit(self, texts: Mapping[str, str]) -> None:
        """The person's own wording of Stage 2's result, which is an input and checked as one."""
        began = time.perf_counter()
        if self.texts is None:
            raise UsageError(
                "There is no text to edit yet.", hint='Begin with `await run.input("...")`.'
            )
        current = self.texts
        person_language = (self.original or current).person_language
        edited = self._changed(current, texts)
        if not edited:
            return
        self.media_request = None
        verdict = await self.services.safety.verdict(
            edited,
            stage="interception",
            sha256=canonical_sha256(edited),
            language=person_language,
        )
        guessed = await input_stage.guessed(edited)
        reworded = {}
        for part, text in guessed.parts.items():
            if not text.known_language:  # then it is in the language of what it replaces
                before = current.parts.get(part, replace(text, language=person_language))
                text = replace(before, words=text.words)
            reworded[part] = text
        changed = current.overlaid(reworded)
        for part in reworded:
            written = changed.written(part, "interception", "user")
            written = written.model_copy(update={"step": "edit"})
            self.journal.add(await final_text(self.journal, written))
        self.texts = changed
        self.journal.add(verdict)
        if not verdict.allowed:
            self.journal.add(_stage_finished("interception", began, "blocked", verdict.reason))
            await self.finish("blocked")

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

    async def check(
        self,
        edited: Mapping[str, str],
        *,
        before: Before = NOTHING_BEFORE,
        commit: bool = True,
    ) -> None:
        """Stage 3, on the person's own wording of these texts."""
        if edited:
            await self._edit(edited)
        if self.summary.finished:
            return
        if self.texts is None or self.original is None:
            raise UsageError(
                "Stage 3 has no text yet.", hint='Begin with `await run.input("...")`.'
            )
        async with self._stage("pre_output") as ending:
            self.media_request, self.verdict = await pre_output.run(
                self.request, self.services, self.texts, original=self.original, before=before
            )
            source = self.verdict.source
            if before.verdict is not None and source:
                self.journal.add(StageReused(stage="pre_output", run_id=source))
            ending.judge(self.verdict)
        if commit:
            await self.journal.commit()

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
            ending.blocked_by = result.refused or None
        await self.finish("completed")

    @asynccontextmanager
    async def _stage(self, stage: Stage) -> AsyncIterator[_Ending]:
        """Between its two events; a failure is written as the stage's ending, then raised again.

        Where the stage is blocked, the run is over.
        """
        ending = _Ending()
        began = time.perf_counter()
        self.journal.add(StageStarted(stage=stage))
        try:
            yield ending
        except Refused as refused:
            self.journal.add(_stage_finished(stage, began, "blocked", str(refused)))
            raise
        except Exception:  # any: the stage's ending must be written
            self.journal.add(_stage_finished(stage, began, "failed"))
            raise
        if ending.blocked_by is None:
            self.journal.add(_stage_finished(stage, began, "completed"))
        else:
            self.journal.add(_stage_finished(stage, began, "blocked", ending.blocked_by))
            await self.finish("blocked")

    # The whole way, or what is left of it.

    async def run_to_end(self) -> None:
        """Everything that this run has still to do, from its first stage or where it was left."""
        plan = remaining(self.request, self.summary)
        if plan.trusts is not None and not await self._verdict_still_holds(plan.trusts):
            plan = Remaining(STAGES)
        if plan.blocked:
            await self.finish("blocked")
            return
        if "input" not in plan.acts:
            await self._take_over(plan)
        for stage in plan.acts:
            if not self.summary.finished:
                await self._act(stage, plan)

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
        return (await input_stage.guessed(texts)).person_language

    async def _act(self, stage: Stage, plan: Remaining) -> None:
        """One stage of the whole way."""
        match stage:
            case "input":
                await self.input(self.request.texts)
            case "interception":
                await self.intercept()
            case "pre_output":
                await self.check(self.request.edited, before=plan.before, commit=False)
            case "generation":
                await self.generate()

    async def _take_over(self, plan: Remaining) -> None:
        """The texts that this recording holds already, then what it inherits from its source.

        Where the source was blocked in that, so is the run.
        """
        spoken = await self._spoken()
        for stage in STAGES[:2]:
            recorded = self.summary.stages[stage]
            if recorded.outcome == "completed":
                self.texts = Texts.of(final_texts(recorded).values(), spoken)
                self.original = self.original or self.texts
        source = self.request.source
        if source is None or source.started is None or not plan.inherited:
            return
        for stage in plan.inherited:
            recorded = source.stages[stage]
            await self._inherit_stage(recorded, source.started.run_id, spoken)
            self.original = self.original or self.texts
            if recorded.outcome == "blocked":
                await self.finish("blocked")
                return
        await self.journal.commit()

    async def _inherit_stage(self, recorded: StageSummary, run_id: str, spoken: str) -> None:
        """Write a stage of the source's down as taken over, and go on with its texts."""
        request = self.request
        is_edited = recorded.stage == "interception" and bool(request.edited)
        edits_again = is_edited and request.relation == "replayed"  # in place of these texts
        self.journal.add(StageReused(stage=recorded.stage, run_id=run_id))
        final = final_texts(recorded, before_edit=edits_again)
        self.journal.add(*interception.unused_instruction(request, final.values()))
        for text in final.values():
            again = text.model_copy(update={"raw": ""})
            self.journal.add(await final_text(self.journal, again))
        self.texts = Texts.of(final.values(), spoken)
        if recorded.verdict is not None and not edits_again:
            self.journal.add(reused(recorded.verdict, run_id))
        outcome = recorded.outcome or "completed"
        finished = {"stage": recorded.stage, "outcome": outcome, "reason": recorded.reason}
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


@dataclass
class _Ending:
    """How a stage ends: completed, unless somebody says why it is blocked."""

    blocked_by: str | None = None

    def judge(self, verdict: VerdictGiven) -> None:
        """Blocked unless the verdict allows."""
        if not verdict.allowed:
            self.blocked_by = verdict.reason


def _stage_finished(
    stage: Stage,
    began: float,
    outcome: Literal["completed", "blocked", "failed"],
    reason: str = "",
) -> StageFinished:
    seconds = time.perf_counter() - began
    return StageFinished(stage=stage, outcome=outcome, reason=reason, seconds=seconds)


def started_event(request: RunRequest, settings: Settings) -> RunStarted:
    """The first event: all that was known before the run."""
    configs: dict[str, Model] = {
        "media_pipeline": request.media_pipeline,
        "output": request.output,
        "pipeline": request.pipeline,
        **{f"fallback_{place}": one for place, one in enumerate(request.fallbacks, start=1)},
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
        provenance=request.provenance,
        edited=dict(request.edited),
        models={task: chain for task, chain in settings.models.items() if chain},
        fingerprint=fingerprint_of(request, chains_of(request, settings.models)).by_stage(),
    )


def _sha256_of(configs: Mapping[str, Model]) -> str:
    """canonical_sha256 of all their snapshots, from spellings that are made once."""
    spelled = ",".join(f'"{name}":{configs[name].spelled}' for name in sorted(configs))
    return hashlib.sha256(f"{{{spelled}}}".encode()).hexdigest()


@lru_cache(maxsize=1)
def software() -> dict[str, str]:
    """Versions that a later reader may need."""
    return {
        "devpipe": __version__,
        "pillow": _installed("pillow"),
        "numpy": _installed("numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # it runs from a folder that nobody installed
        return "unknown"
