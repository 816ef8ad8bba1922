"""Each try of one backend, written down: the intent before anything is sent, then how it ended."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import fields, replace

from devpipe.backends.base import Answer, Delta, Emit, Intent, Piece, Wrapping
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
# Of a text request; the others are fields of attempt_started itself, or only say how it travels.
_DESCRIBED = [
    one.name
    for one in fields(TextRequest)
    if one.compare and one.name not in ("task", "model", "seed")
]
# What an answer tells about itself, of a text or of a medium.
_TOLD = (
    "digest",
    "refused",
    "finish_reason",
    "input_tokens",
    "output_tokens",
    "queue_s",
    "compute_s",
)


class Attempts(Wrapping):
    """Writes down every try of the backend it wraps, of a text or of a medium."""

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The inner answer; what streamed before a bad ending is kept as a partial text."""
        request = replace(request, request_id=str(uuid.uuid4()))
        started = await self.journal.begin(
            Intent(
                request.task,
                self.candidate.backend,
                request.model,
                request.seed,
                described(request),
                request.request_id,
                paid=bool(self.inner.paid),
                free=self.inner.paid is False,
                location=self.inner.boundary(request.model),
            )
        )
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
        started = await self.journal.begin(
            Intent(
                "media",
                self.candidate.backend,
                request.model,
                request.seed,
                {**values, "seed": request.seed},
                request.request_id,
                sha256=request.sha256_of(values),
                paid=bool(self.inner.paid),
                free=self.inner.paid is False,
                location=self.inner.boundary(request.model),
            )
        )
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
                raise Rejected(
                    f"Backend {started.backend!r} answered with {type(result).__name__}.",
                    hint="It must be a TextResult or MediaResult.",
                )
        except asyncio.CancelledError:
            await asyncio.shield(
                self.journal.fail(_finished(started, "cancelled", began), "".join(streamed))
            )
            raise
        except Exception as error:  # written down, then raised again: the engine decides
            await self.journal.fail(
                _finished(started, "failed", began, error=problem_of(error)),
                getattr(error, "partial", "") or "".join(streamed),
            )
            raise
        outcome = "refused" if result.refused else "completed"
        self.journal.end(_finished(started, outcome, began, **_facts(result)))
        return result


def described(request: TextRequest) -> JsonObject:
    """A text request as JSON values: what was asked, without what is empty."""
    values = {name: getattr(request, name) for name in _DESCRIBED}
    if request.boundary == "world":
        del values["boundary"]
    return {name: value for name, value in values.items() if value not in ("", (), None)}


def _finished(
    started: AttemptStarted, outcome: str, began: float, **facts: object
) -> AttemptFinished:
    return AttemptFinished.model_validate(
        {
            "attempt": started.attempt,
            "stage": started.stage,
            "backend": started.backend,
            "model": started.model,
            "outcome": outcome,
            "seconds": time.perf_counter() - began,
            **facts,
        }
    )


def _facts(result: TextResult | MediaResult) -> dict[str, object]:
    """What an answer says about itself, as fields of attempt_finished."""
    facts = {name: getattr(result, name) for name in _TOLD if hasattr(result, name)}
    if result.model:
        facts["model"] = result.model
    return facts | {
        "cost_usd": result.cost.usd,
        "cost_source": result.cost.source,
        "sent": _small(result.sent),
    }


def _small(sent: Mapping[str, object]) -> dict[str, object]:
    """The vendor's spelling of the request, if an event can hold it."""
    spelled = canonical_json(dict(sent))
    if len(spelled) <= LONGEST_SENT:
        return dict(sent)
    return {"omitted": f"{len(spelled)} characters", "sha256": canonical_sha256(dict(sent))}
