"""What a stage may do: record, stream, ask a text backend, ask for a verdict. The engine fills it, tests can too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeVar

from devpipe.backends.base import Backend, Delta, Emit, Preview, Progress
from devpipe.backends.registry import Backends
from devpipe.config import InterceptionPipeline, MediaPipeline, OutputConfig
from devpipe.errors import CutOff, DevpipeError, Rejected
from devpipe.events import (
    AttemptFinished,
    AttemptStarted,
    Event,
    JsonObject,
    Previewed,
    Problem,
    Progressed,
    TextStreamed,
    TextWritten,
    VerdictGiven,
)
from devpipe.safety.check import check
from devpipe.stages.prompts import visible
from devpipe.values import Level, MediaRequest, MediaResult, Stage, Task, TextRequest, TextResult, canonical_json, canonical_sha256


def problem_of(error: BaseException) -> Problem:
    """An error as data for the recording."""
    if isinstance(error, DevpipeError):
        return Problem(type=type(error).__name__, message=error.message, hint=error.hint)
    return Problem(
        type=type(error).__name__, message=str(error) or type(error).__name__, hint="This is a fault of devpipe: please report it."
    )


Answer = TypeVar("Answer", TextResult, MediaResult)
MAX_ANSWER = 100_000  # characters; a longer text is no prompt, and an event holds 1 MB


class Refused(Exception):
    """A vendor's no, in its own words: it ends the run as `blocked`."""


def _facts(result: TextResult | MediaResult) -> dict[str, object]:
    """What an answer tells about itself, as fields of attempt_finished."""
    facts: dict[str, object] = {
        "digest": result.digest, "refused": result.refused,
        "cost_usd": result.cost.usd, "cost_source": result.cost.source,
    }  # fmt: skip
    if result.model:
        facts["model"] = result.model
    if isinstance(result, TextResult):
        facts |= {"finish_reason": result.finish_reason, "input_tokens": result.input_tokens, "output_tokens": result.output_tokens}
    else:
        facts |= {"queue_s": result.queue_s, "compute_s": result.compute_s, "sent": _small(result.sent)}
    return facts


def _small(sent: Mapping[str, object]) -> dict[str, object]:
    """The vendor's spelling of the request, if an event can hold it."""
    spelled = canonical_json(dict(sent))
    return dict(sent) if len(spelled) <= MAX_ANSWER else {"omitted": f"{len(spelled)} characters", "sha256": canonical_sha256(dict(sent))}


def _described(request: TextRequest) -> dict[str, object]:
    """A text request as JSON values: what was asked, without what is empty."""
    return {key: value for key, value in asdict(request).items() if value not in ("", (), None) and key not in ("task", "model", "seed")}


@dataclass(frozen=True, slots=True)
class Where:
    """Which text of a run is meant."""

    stage: Stage
    step: str = ""
    iteration: int = 0
    part: str = "prompt"


@dataclass
class Context:
    """One run's access to everything outside the stages."""

    level: Level
    text_seed: int
    pipeline: InterceptionPipeline
    output: OutputConfig
    media_pipeline: MediaPipeline
    backends: Backends
    models: Mapping[Task, str]  # by task: backend/model
    record: Callable[..., Awaitable[None]]  # these events and all held ones: on disk when it returns
    hold: Callable[..., None]  # events to be written, and shown, with the next record: one write, one fsync
    write_text: Callable[[str, str], Awaitable[str]]  # (file name, text) -> sha256
    write_files: Callable[[Callable[[], list[tuple[str, bytes]]]], Awaitable[None]]  # makes and writes them in one worker thread
    emit: Callable[[Event], None]  # transient events
    redact: Callable[[JsonObject], JsonObject]  # what leaves in a picture holds no secret either
    provenance: str = "full"
    attempts: int = 0
    language: str = "en"  # of the person, for sentences they read
    files: list[str] = field(default_factory=list)  # names given so far

    def file_name(self, kind: str, extension: str) -> str:
        """The next numbered name: 01_input.txt, 02_interception.txt, ..."""
        name = f"{len(self.files) + 1:02d}_{kind}.{extension}"
        self.files.append(name)
        return name

    def model_for(self, task: Task) -> tuple[Backend, str, str]:
        """(backend, its name, model) that the settings name for a task."""
        backend, _, model = self.models[task].partition("/")
        return self.backends[backend], backend, model

    def follow(self, where: Where) -> Emit:
        """An emit for a backend whose pieces reach the run's followers."""

        def emit(piece: Delta | Progress | Preview) -> None:
            match piece:
                case Delta(text):
                    self.emit(TextStreamed(stage=where.stage, step=where.step, iteration=where.iteration, part=where.part, text=text))
                case Progress(step, steps, message):
                    self.emit(Progressed(stage=where.stage, step=step, steps=steps, message=message))
                case Preview(data, media_type):
                    self.emit(Previewed(data=data, media_type=media_type))

        return emit

    async def write(self, request: TextRequest, where: Where) -> TextResult:
        """Ask the text backend of the request's task; the attempt is on disk before and after."""
        backend, name, model = self.model_for(request.task)
        request = replace(request, model=model)
        started = self._attempt(where.stage, request.task, name, model, request.seed, _described(request))
        await self.record(started)
        result = await self._finish(started, backend.write(request, self.follow(where)))
        return result if request.task == "judge" else self._accepted(result, request, where)

    def _accepted(self, result: TextResult, request: TextRequest, where: Where) -> TextResult:
        """The answer, if it is one: whole, not empty, only of the parts asked for, without control characters."""
        if result.refused:
            raise Refused(result.refused)
        if result.finish_reason != "stop":
            partial = TextWritten(
                stage=where.stage, step=where.step, iteration=where.iteration, part=where.part,
                text=visible(result.text[:MAX_ANSWER]), by="model", partial=True,
            )  # fmt: skip
            self.hold(partial)
            raise CutOff(f"The model's answer ended early ({result.finish_reason}).", hint="Try again, or allow longer answers.")
        text, parts = visible(result.text), {name: visible(result.parts[name]) for name in request.parts if name in result.parts}
        if not (any(parts.values()) if request.parts else text.strip()):
            raise Rejected("The model answered with nothing.", hint="Try again, or another model.")
        if len(text) + sum(map(len, parts.values())) > MAX_ANSWER:
            raise Rejected(f"The model answered with more than {MAX_ANSWER} characters.", hint="Try again, or another model.")
        return replace(result, text=text, parts=parts, raw=result.raw[:MAX_ANSWER])

    async def make(self, backend: Backend, request: MediaRequest, started: AttemptStarted) -> MediaResult:
        """Ask a media backend; `started` must be on disk already."""
        return await self._finish(started, backend.make(request, self.follow(Where("generation"))))

    def media_attempt(self, request: MediaRequest) -> AttemptStarted:
        """The intent to ask a media backend, to be recorded before `make`."""
        described = {**request.described(), "seed": request.seed}
        started = self._attempt("generation", "media", self.output.backend, request.model, request.seed, described)
        return started.model_copy(update={"sha256": request.sha256()})

    def _attempt(
        self, stage: Stage, task: Task | Literal["media"], backend: str, model: str, seed: int, request: dict[str, object]
    ) -> AttemptStarted:
        self.attempts += 1
        paid = self.backends[backend].paid
        return AttemptStarted(
            attempt=self.attempts, stage=stage, task=task, backend=backend, model=model, seed=seed, request=request, paid=paid
        )

    async def _finish(self, started: AttemptStarted, asked: Awaitable[Answer]) -> Answer:
        """Wait for the answer and record how the attempt ended; a good ending is written with the events that follow from it."""
        began = time.perf_counter()

        def finished(outcome: str, **fields: object) -> AttemptFinished:
            return AttemptFinished.model_validate(
                {"attempt": started.attempt, "stage": started.stage, "backend": started.backend, "outcome": outcome}
                | {"model": started.model, "seconds": time.perf_counter() - began}
                | fields
            )

        try:
            result = await asked
        except asyncio.CancelledError:
            await asyncio.shield(self.record(finished("cancelled")))
            raise
        except Exception as error:  # recorded, then raised again: the engine decides what it means
            await self.record(finished("failed", error=problem_of(error)))
            raise
        if not isinstance(result, TextResult | MediaResult):
            wrong = Rejected(
                f"Backend {started.backend!r} answered with {type(result).__name__}.", hint="It must be a TextResult or MediaResult."
            )
            self.hold(finished("failed", error=problem_of(wrong)))
            raise wrong
        ended = finished("refused" if result.refused else "completed", **_facts(result))
        self.hold(ended)
        return result

    async def verdict(self, texts: Mapping[str, str], *, stage: Stage, sha256: str, needs_judge: bool) -> VerdictGiven:
        """The verdict on these texts, not yet recorded: the stage records it with what follows from it."""

        async def ask(policy: str, fenced: str) -> TextResult:
            request = TextRequest("judge", fenced, instruction=policy, language="en", seed=self.text_seed, temperature=0.0)
            return await self.write(request, Where(stage, step="judge"))

        return await check(
            texts,
            stage=stage,
            level=self.level,
            sha256=sha256,
            language=self.language,
            ask_judge=ask if self.models["judge"] else None,
            needs_judge=needs_judge,
        )
