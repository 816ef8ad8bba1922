"""Each try of one backend, written down: the intent before anything is sent, then how it ended."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

from devpipe.backends.base import Delta, Emit, Intent, Piece, Wrapping
from devpipe.errors import Rejected
from devpipe.record.events import AttemptFinished, AttemptStarted, JsonObject, problem_of
from devpipe.values import (
    MediaRequest,
    MediaResult,
    TextRequest,
    TextResult,
    canonical_json,
    canonical_sha256,
)

LONGEST_SENT = 100_000  # characters of the vendor's spelling that an event keeps: it holds 1 MB
_ELSEWHERE = frozenset({"task", "model", "seed"})  # fields of attempt_started itself
_DESCRIBED = tuple(
    one.name for one in fields(TextRequest) if one.compare and one.name not in _ELSEWHERE
)

Answer = TypeVar("Answer", TextResult, MediaResult)
Outcome = Literal["completed", "refused", "failed", "cancelled"]


class Attempts(Wrapping):
    """Writes down every try of the backend it wraps, of a text or of a medium."""

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The inner answer; what streamed before a bad ending is kept as a partial text."""
        request = replace(request, request_id=str(uuid.uuid4()))
        intent = Intent(
            request.task,
            self.candidate.backend,
            request.model,
            request.seed,
            described(request),
            request.request_id,
            paid=self.inner.paid,
        )
        started = await self.journal.begin(intent)
        streamed: list[str] = []

        def kept(piece: Piece) -> None:
            if isinstance(piece, Delta):
                streamed.append(piece.text)
            emit(piece)

        result = await self._ended(started, self.inner.write(request, kept), TextResult, streamed)
        return replace(result, backend=self.candidate.backend)

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        """The inner files, with the number of the attempt that made them."""
        request = replace(request, request_id=request.request_id or str(uuid.uuid4()))
        values = request.described()
        intent = Intent(
            "media",
            self.candidate.backend,
            request.model,
            request.seed,
            {**values, "seed": request.seed},
            request.request_id,
            sha256=request.sha256_of(values),
            paid=self.inner.paid,
        )
        started = await self.journal.begin(intent)
        result = await self._ended(started, self.inner.make(request, emit), MediaResult, [])
        return replace(result, attempt=started.attempt)

    async def _ended(
        self,
        started: AttemptStarted,
        asked: Awaitable[Answer],
        kind: type[Answer],
        streamed: list[str],
    ) -> Answer:
        """Wait for the answer; whatever comes of it, the attempt gets its ending."""
        began = time.perf_counter()
        try:
            result = await asked
            if not isinstance(result, kind):
                problem = f"Backend {started.backend!r} answered with {type(result).__name__}."
                raise Rejected(problem, hint="It must be a TextResult or MediaResult.")
        except asyncio.CancelledError:
            cancelled = _finished(started, "cancelled", began)
            await asyncio.shield(self.journal.fail(cancelled, "".join(streamed)))
            raise
        except Exception as error:  # written down, then raised again: the engine decides
            failed = _finished(started, "failed", began, error=problem_of(error))
            partial = getattr(error, "partial", "") or "".join(streamed)
            await self.journal.fail(failed, partial)
            raise
        outcome: Outcome = "refused" if result.refused else "completed"
        self.journal.end(_finished(started, outcome, began, **_facts(result)))
        return result


def described(request: TextRequest) -> JsonObject:
    """A text request as JSON values: what was asked, without what is empty."""
    values = {name: getattr(request, name) for name in _DESCRIBED}
    if request.boundary == "world":
        del values["boundary"]
    return {name: value for name, value in values.items() if value not in ("", (), None)}


def _finished(
    started: AttemptStarted, outcome: Outcome, began: float, **facts: Any
) -> AttemptFinished:
    common = {
        "attempt": started.attempt,
        "stage": started.stage,
        "backend": started.backend,
        "model": started.model,
        "outcome": outcome,
        "seconds": time.perf_counter() - began,
    }
    return AttemptFinished.model_validate(common | facts)


def _facts(result: TextResult | MediaResult) -> dict[str, object]:
    """What an answer says about itself, as fields of attempt_finished."""
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
        facts["finish_reason"] = result.finish_reason
        facts["input_tokens"] = result.input_tokens
        facts["output_tokens"] = result.output_tokens
    else:
        facts["queue_s"] = result.queue_s
        facts["compute_s"] = result.compute_s
    return facts


def _small(sent: Mapping[str, object]) -> dict[str, object]:
    """The vendor's spelling of the request, if an event can hold it."""
    spelled = canonical_json(dict(sent))
    if len(spelled) <= LONGEST_SENT:
        return dict(sent)
    return {"omitted": f"{len(spelled)} characters", "sha256": canonical_sha256(dict(sent))}
