"""What a stage may do: record, stream, ask a text backend, ask for a verdict.

The engine fills it, tests can too.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, NamedTuple, TypeVar

from devpipe.backends.base import Backend, Delta, Emit, Piece, Preview, Progress, Queued
from devpipe.backends.chain import exhausted, may_hop, opened, wait_for
from devpipe.backends.registry import Backends
from devpipe.config.chains import Candidate, Chain, outside
from devpipe.config.models import InterceptionPipeline, MediaPipeline, OutputConfig
from devpipe.errors import BackendError, CutOff, DevpipeError, RateLimited, Rejected
from devpipe.record import events
from devpipe.record.events import (
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
    Warned,
)
from devpipe.safety.check import check
from devpipe.text.chatter import without_chatter
from devpipe.text.clean import visible
from devpipe.values import (
    Level,
    MediaRequest,
    MediaResult,
    Stage,
    Task,
    TextRequest,
    TextResult,
    canonical_json,
    canonical_sha256,
)


def problem_of(error: BaseException) -> Problem:
    """An error as data for the recording."""
    if isinstance(error, DevpipeError):
        return Problem(type=type(error).__name__, message=error.message, hint=error.hint)
    return Problem(
        type=type(error).__name__,
        message=str(error) or type(error).__name__,
        hint="This is a fault of devpipe: please report it.",
    )


Answer = TypeVar("Answer", TextResult, MediaResult)
MAX_ANSWER = 100_000  # characters; a longer text is no prompt, and an event holds 1 MB


class Refused(Exception):
    """A vendor's no, in its own words: it ends the run as `blocked`."""


def _facts(result: TextResult | MediaResult) -> dict[str, object]:
    """What an answer tells about itself, as fields of attempt_finished."""
    facts: dict[str, object] = {
        "digest": result.digest,
        "refused": result.refused,
        "cost_usd": result.cost.usd,
        "cost_source": result.cost.source,
        "sent": _small(result.sent),
    }
    if result.model:
        facts["model"] = result.model
    if isinstance(result, TextResult):
        facts |= {
            "finish_reason": result.finish_reason,
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
        }
    else:
        facts |= {"queue_s": result.queue_s, "compute_s": result.compute_s}
    return facts


def _small(sent: Mapping[str, object]) -> dict[str, object]:
    """The vendor's spelling of the request, if an event can hold it."""
    spelled = canonical_json(dict(sent))
    return (
        dict(sent)
        if len(spelled) <= MAX_ANSWER
        else {"omitted": f"{len(spelled)} characters", "sha256": canonical_sha256(dict(sent))}
    )


_ELSEWHERE = ("task", "model", "seed")  # fields of attempt_started
_DESCRIBED = tuple(one.name for one in fields(TextRequest) if one.name not in _ELSEWHERE)


def _described(request: TextRequest) -> dict[str, object]:
    """A text request as JSON values: what was asked, without what is empty."""
    told = {name: getattr(request, name) for name in _DESCRIBED}
    return {
        name: value
        for name, value in told.items()
        if value not in ("", (), None) and (name, value) != ("boundary", "world")
    }


class Where(NamedTuple):
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
    models: Mapping[Task, str]  # by task: a chain of text models, as the settings spell it
    record: Callable[
        ..., Awaitable[None]
    ]  # these events and all held ones: on disk when it returns
    hold: Callable[
        ..., None
    ]  # events to be written, and shown, with the next record: one write, one fsync
    write_text: Callable[[str, str], Awaitable[str]]  # (file name, text) -> sha256
    write_files: Callable[
        [Callable[[], list[tuple[str, bytes]]]], Awaitable[None]
    ]  # makes and writes them in one worker thread
    emit: Callable[[Event], None]  # transient events
    redact: Callable[[JsonObject], JsonObject]  # what leaves in a picture holds no secret either
    provenance: str = "full"
    attempts: int = 0
    language: str = "en"  # of the person, for sentences they read
    files: list[str] = field(default_factory=list)  # names given so far
    judge_seconds: float = 8.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _streaming: Where | None = None  # the text that followers see growing

    def file_name(self, kind: str, extension: str) -> str:
        """The next numbered name: 01_input.txt, 02_interception.txt, ..."""
        name = f"{len(self.files) + 1:02d}_{kind}.{extension}"
        self.files.append(name)
        return name

    def has_model(self, task: Task) -> bool:
        """Whether a language model is there for a task, and not only a procedure."""
        return Chain.read(self.models[task]).by_model

    async def judge_digest(self) -> str | None:
        """The identity of the judge's weights now, empty where there is none or nobody can tell;
        None where the judge cannot be asked.
        """
        chain = Chain.read(self.models["judge"])
        for candidate in chain.candidates:
            backend = opened(self.backends, candidate.backend)
            if not outside(backend.boundary(candidate.model), chain.boundary):
                try:
                    return await backend.digest(candidate.model)
                except BackendError:
                    return None
        return "" if not chain.candidates else None

    def follow(
        self, where: Where, streamed: list[str] | None = None, *, silent: bool = False
    ) -> Emit:
        """An emit for a backend whose pieces reach the run's followers; `streamed` keeps the text,
        a silent one shows none of it.
        """
        place = where._asdict()

        def emit(piece: Piece) -> None:
            match piece:
                case Delta(text):
                    if streamed is not None:
                        streamed.append(text)
                    if not silent:
                        self._streaming = where
                        self.emit(TextStreamed(**place, text=text))
                case Progress(step, steps, message):
                    self.emit(
                        Progressed(stage=where.stage, step=step, steps=steps, message=message)
                    )
                case Preview(data, media_type):
                    self.emit(Previewed(data=data, media_type=media_type))
                case Queued(position, seconds):
                    self.emit(events.Queued(stage=where.stage, position=position, seconds=seconds))

        return emit

    async def write(self, request: TextRequest, where: Where) -> TextResult:
        """The answer of the text model for the request's task, or of the one that stands in
        for it.
        """
        return (await self.ask(request, where))[0]

    async def ask(self, request: TextRequest, where: Where) -> tuple[TextResult, Candidate]:
        """The answer, and who gave it: the models of the task in their order, none outside the
        chain's boundary.

        Each attempt is on disk before and after. The next model is asked only where the one before
        could not be reached.
        """
        chain = Chain.read(self.models[request.task])
        request, tried = (
            replace(request, boundary=chain.boundary),
            list[tuple[Candidate, BackendError]](),
        )
        for candidate in chain.candidates:
            backend = opened(self.backends, candidate.backend)
            place = backend.boundary(candidate.model)
            if outside(place, chain.boundary):
                self._warn(
                    where,
                    f"{candidate} was not asked: the text may go no further than"
                    f" {chain.boundary!r}, and would go to {place!r}.",
                )
                continue
            if tried:
                self._warn(
                    where, f"{candidate} stands in for {tried[-1][0]}: {tried[-1][1].message}"
                )
            try:
                result = await self._patiently(candidate, backend, request, where)
            except BackendError as error:
                tried.append((candidate, error))
                if not may_hop(error, paid=backend.paid):
                    raise
            else:
                return (
                    result
                    if request.task == "judge"
                    else self._accepted(result, request, where, candidate)
                ), candidate
        if tried:
            raise exhausted(tried)
        within = f" within the boundary {chain.boundary!r}" if chain.candidates else ""
        hint = f"Set DEVPIPE_MODEL_{request.task.upper()}, or its line in devpipe.toml."
        raise Rejected(f"There is no text model to {request.task}{within}.", hint=hint)

    def _warn(self, where: Where, message: str) -> None:
        self.hold(Warned(stage=where.stage, message=message))

    async def _patiently(
        self, candidate: Candidate, backend: Backend, request: TextRequest, where: Where
    ) -> TextResult:
        """One attempt, and one more where the first came too soon."""
        try:
            return await self._attempted(candidate, backend, request, where)
        except RateLimited as error:
            if (seconds := wait_for(error)) is None:
                raise
            self._warn(where, f"{candidate} is asked again after {seconds:g} s: {error.message}")
            await self.record()
            await self.sleep(seconds)
        return await self._attempted(candidate, backend, request, where)

    async def _attempted(
        self, candidate: Candidate, backend: Backend, request: TextRequest, where: Where
    ) -> TextResult:
        if self._streaming == where:  # this text was begun before: what followers saw of it is void
            self.emit(TextStreamed(**where._asdict(), text="", restarted=True))
        request, streamed, judging = (
            replace(request, model=candidate.model),
            list[str](),
            request.task == "judge",
        )
        names = candidate.backend, candidate.model
        started = self._attempt(
            where.stage, request.task, *names, request.seed, _described(request), paid=backend.paid
        )
        await self.record(started)
        emit = self.follow(
            where, streamed, silent=judging
        )  # what a judge says of a text is not for those who wrote it
        return await self._finish(
            started, backend.write(request, emit), None if judging else where, streamed
        )

    def partial(self, where: Where, text: str) -> None:
        """Keep what came of a text, never as a result."""
        if text := visible(text[:MAX_ANSWER]):
            self.hold(TextWritten(**where._asdict(), text=text, by="model", partial=True))

    def _accepted(
        self, result: TextResult, request: TextRequest, where: Where, candidate: Candidate
    ) -> TextResult:
        """The answer, if it is one: whole, not empty, only of the parts asked for, without control
        characters and chatter.
        """
        if result.refused:
            raise Refused(result.refused)
        if result.finish_reason != "stop":
            self.partial(where, result.text)
            raise CutOff(
                f"The model's answer ended early ({result.finish_reason}).",
                hint="Try again, or allow longer answers.",
            )
        text, parts = (
            visible(result.text),
            {name: visible(result.parts[name]) for name in request.parts if name in result.parts},
        )
        if not (text.strip() or any(parts.values())):
            raise Rejected("The model answered with nothing.", hint="Try again, or another model.")
        if len(text) + sum(map(len, parts.values())) > MAX_ANSWER:
            raise Rejected(
                f"The model answered with more than {MAX_ANSWER} characters.",
                hint="Try again, or another model.",
            )
        kept = text if candidate.by_procedure or request.parts else without_chatter(text)
        raw = result.raw or (text if kept.strip() != text.strip() else "")
        return replace(result, text=kept, parts=parts, raw=visible(raw[:MAX_ANSWER]))

    async def make(
        self, backend: Backend, request: MediaRequest, started: AttemptStarted
    ) -> MediaResult:
        """Ask a media backend; `started` must be on disk already."""
        request = replace(request, request_id=started.request_id)
        return await self._finish(started, backend.make(request, self.follow(Where("generation"))))

    def media_attempt(self, request: MediaRequest) -> AttemptStarted:
        """The intent to ask a media backend, to be recorded before `make`."""
        described = {**request.described(), "seed": request.seed}
        paid = self.backends[self.output.backend].paid
        started = self._attempt(
            "generation",
            "media",
            self.output.backend,
            request.model,
            request.seed,
            described,
            paid=paid,
        )
        return started.model_copy(
            update={
                "sha256": request.sha256(),
                "request_id": request.request_id or str(uuid.uuid4()),
            }
        )

    def _attempt(
        self,
        stage: Stage,
        task: Task | Literal["media"],
        backend: str,
        model: str,
        seed: int,
        request: dict[str, object],
        *,
        paid: bool,
    ) -> AttemptStarted:
        self.attempts += 1
        return AttemptStarted(
            attempt=self.attempts,
            stage=stage,
            task=task,
            backend=backend,
            model=model,
            seed=seed,
            request=request,
            paid=paid,
        )

    async def _finish(
        self,
        started: AttemptStarted,
        asked: Awaitable[Answer],
        where: Where | None = None,
        streamed: Sequence[str] = (),
    ) -> Answer:
        """Wait for the answer and record how the attempt ended; a good ending is written with the
        events that follow from it.

        What streamed before a bad ending is kept as the partial text of `where`.
        """
        began = time.perf_counter()

        def finished(outcome: str, **fields: object) -> AttemptFinished:
            return AttemptFinished.model_validate(
                {
                    "attempt": started.attempt,
                    "stage": started.stage,
                    "backend": started.backend,
                    "outcome": outcome,
                }
                | {"model": started.model, "seconds": time.perf_counter() - began}
                | fields
            )

        try:
            result = await asked
            if not isinstance(result, TextResult | MediaResult):
                problem = f"Backend {started.backend!r} answered with {type(result).__name__}."
                raise Rejected(problem, hint="It must be a TextResult or MediaResult.")
            ended = finished("refused" if result.refused else "completed", **_facts(result))
        except asyncio.CancelledError:
            if where:
                self.partial(where, "".join(streamed))
            await asyncio.shield(self.record(finished("cancelled")))
            raise
        except Exception as error:  # recorded, then raised again: the engine decides what it means
            if where:
                self.partial(where, getattr(error, "partial", "") or "".join(streamed))
            await self.record(finished("failed", error=problem_of(error)))
            raise
        self.hold(ended)
        return result

    async def verdict(
        self, texts: Mapping[str, str], *, stage: Stage, sha256: str, needs_judge: bool
    ) -> VerdictGiven:
        """The verdict on these texts, not yet recorded: the stage records it with what follows from
        it.
        """

        async def ask(instruction: str, message: str) -> TextResult:
            request = TextRequest(
                "judge",
                message,
                instruction=instruction,
                language="en",
                seed=self.text_seed,
                temperature=0.0,
            )
            return await self.write(request, Where(stage, step="judge"))

        return await check(
            texts,
            stage=stage,
            level=self.level,
            sha256=sha256,
            language=self.language,
            ask_judge=ask if self.models["judge"] else None,
            needs_judge=needs_judge,
            judge_model=self.models["judge"],
            patience_s=self.judge_seconds,
        )
