"""Which weights would make the cells of a plan today, and were those of earlier runs the same?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from enum import Enum
from typing import Any, Protocol

from devpipe.backends.registry import Backends
from devpipe.config.chains import Chain
from devpipe.config.settings import Settings
from devpipe.errors import BackendError
from devpipe.record.reader import Recordings
from devpipe.record.summary import RunSummary
from devpipe.stages.request import RunRequest
from devpipe.values import Task

DIGEST_S = 3.0  # how long a server may take to say which weights it has
Digests = Mapping[tuple[str, str], str]  # by backend and model: the weights' identity, "" unknown


class Match(Enum):
    """What a comparison with a recorded run says."""

    SAME = "same"
    UNVERIFIED = "unverified"  # equal as far as can be known now
    STALE = "stale"


class AsksWeights(Protocol):
    """An engine, as far as a comparison of weights asks it."""

    settings: Settings
    backends: Backends

    @property
    def recordings(self) -> Recordings: ...
    @property
    def submit(self) -> Callable[..., Future[list[str]]]: ...


class Weights:
    """Whether earlier runs met the weights that these requests would meet now.

    Of a server that is down, or slower than DIGEST_S, nothing is known.
    """

    def __init__(self, engine: AsksWeights, requests: Iterable[RunRequest]) -> None:
        self._engine = engine
        self._chains = engine.settings.models
        asked = sorted({model for one in requests for model in models_asked(one, self._chains)})
        digests = engine.submit(_digests(engine.backends, asked)).result()
        self._today = dict(zip(asked, digests, strict=True))
        self._only_procedures = all(backend == "procedural" for backend, _ in asked)

    def match(self, request: RunRequest, run: Mapping[Hashable, Any]) -> Match:
        """What a row of the table of runs says of this request."""
        if self._only_procedures:  # the table tells, and no recording is opened
            now = self._today.get((request.output.backend, request.output.model), "")
            is_stale = run["digest"] and now and run["digest"] != now
            return Match.STALE if is_stale else Match.SAME
        summary = self._engine.recordings.find(str(run["run_id"])).summary
        if asked_others(summary, self._chains):
            return Match.STALE
        asked = models_asked(request, self._chains)
        return match_digests(asked, digests_of(summary), self._today)


async def _digests(backends: Backends, asked: Iterable[tuple[str, str]]) -> list[str]:
    return await asyncio.gather(*(_digest(backends, *model) for model in asked))


async def _digest(backends: Backends, backend: str, model: str) -> str:
    try:
        async with asyncio.timeout(DIGEST_S):
            return await backends[backend].digest(model)
    except (BackendError, TimeoutError):
        return ""


def models_asked(request: RunRequest, chains: Mapping[Task, str]) -> set[tuple[str, str]]:
    """Backend and model of everybody whose weights decide what a request's result is.

    Of each chain that is the first: the others are asked only where it cannot be reached.
    """
    pipeline = request.pipeline
    tasks: set[Task] = {"split" if step.parts else "interception" for step in pipeline.steps}
    if pipeline.translate or pipeline.correct or request.output.translate_to:
        tasks.add("translate")
    firsts = [Chain.read(chains[task]).candidates[:1] for task in tasks]
    asked = {(one.backend, one.model) for first in firsts for one in first}
    return asked | {(request.output.backend, request.output.model)}


def digests_of(summary: RunSummary) -> dict[tuple[str, str], str]:
    """The weights' identities that a recorded run met, by backend and model as asked for."""
    return {
        (attempt.started.backend, attempt.started.model): attempt.finished.digest
        for attempt in summary.attempts.values()
        if attempt.finished is not None and attempt.finished.outcome == "completed"
    }


def asked_others(summary: RunSummary, chains: Mapping[Task, str]) -> bool:
    """Whether a text of a recorded run was written by one whom these chains do not name.

    So it is where a run was resumed by hand while another model was set.
    """
    for attempt in summary.attempts.values():
        started = attempt.started
        if started.task == "media" or started.task == "judge" or attempt.finished is None:
            continue
        candidates = Chain.read(chains[started.task]).candidates
        named = {(one.backend, one.model) for one in candidates}
        written = attempt.finished.outcome == "completed"
        if written and (started.backend, started.model) not in named:
            return True
    return False


def match_digests(asked: Iterable[tuple[str, str]], recorded: Digests, today: Digests) -> Match:
    """Whether the weights are those of the recording, as far as anybody can tell now."""
    match = Match.SAME
    for model in asked:
        before = recorded.get(model, "")
        now = today.get(model, "")
        if before and now and before != now:
            return Match.STALE
        if before and not now:
            match = Match.UNVERIFIED
    return match
