"""What a run takes over from what is on disk: stages of another run, its own after a crash."""

from __future__ import annotations

from dataclasses import dataclass, replace

from devpipe.record.events import TextWritten, VerdictGiven
from devpipe.record.summary import RunSummary, StageSummary
from devpipe.stages.pre_output import NOTHING_BEFORE, Before
from devpipe.stages.request import RunRequest
from devpipe.stages.texts import Texts
from devpipe.values import STAGES, MediaRequest, Stage


@dataclass(frozen=True, slots=True)
class Remaining:
    """What of a run is still to be done, and what it takes over from another one.

    `trusts` is the Stage 1 whose verdict must still be valid for that; where it is not, the run
    begins from its start.
    """

    acts: tuple[Stage, ...]
    inherited: tuple[Stage, ...] = ()  # taken over from the request's source
    before: Before = NOTHING_BEFORE  # of Stage 3
    trusts: StageSummary | None = None
    blocked: bool = False  # this recording has a blocked stage: only its ending is missing


def remaining(request: RunRequest, own: RunSummary) -> Remaining:
    """What is left of a run whose recording holds `own`; of a new one that is everything."""
    if any(stage.outcome == "blocked" for stage in own.stages.values()):
        return Remaining((), blocked=True)
    if own.stages["input"].outcome == "completed":
        return _left_over(own)
    return _not_inherited(request)


def _left_over(own: RunSummary) -> Remaining:
    """What a process that died after Stage 1 has left undone."""
    if own.stages["interception"].outcome == "completed":
        return Remaining(STAGES[2:], before=Before(verdict=own.stages["pre_output"].verdict))
    return Remaining(STAGES[1:], trusts=own.stages["input"])


def _not_inherited(request: RunRequest) -> Remaining:
    """The stages that a run does not take over from its source."""
    source = request.source
    first = STAGES.index(request.first_stage)
    if source is None or first == 0:
        return Remaining(STAGES)
    inherited = STAGES[: min(first, 2)]
    acts = STAGES[len(inherited) :]
    if request.first_stage == "interception":
        return Remaining(acts, inherited, trusts=source.stages["input"])
    if request.first_stage == "generation":
        return Remaining(acts, inherited, before=_before(source))
    return Remaining(acts, inherited)


def _before(source: RunSummary) -> Before:
    """Stage 3 of another run: its texts as fitted, its verdict with the run it was given in."""
    recorded = source.stages["pre_output"]
    texts = Texts.of(final_texts(recorded).values(), "") if recorded.texts else None
    verdict = recorded.verdict
    if verdict is None or source.started is None:
        return Before(texts)
    return Before(texts, reused(verdict, source.started.run_id))


def reused(verdict: VerdictGiven, run_id: str) -> VerdictGiven:
    """The verdict of another run, with the run it was first given in."""
    return verdict.model_copy(update={"source": verdict.source or run_id})


def with_known_job(request: MediaRequest, seed: int, own: RunSummary) -> MediaRequest:
    """The request with its seed, and the request id of an unfinished attempt.

    So a resumed run finds the job that a dead process may have left at the backend.
    """
    unfinished = {
        (attempt.started.sha256, attempt.started.seed): attempt.started.request_id
        for attempt in own.media_attempts
        if attempt.finished is None
    }
    fallback = tuple(with_known_job(one, seed, own) for one in request.fallback)
    request = replace(request, seed=seed, fallback=fallback)
    if not unfinished:
        return request
    request_id = unfinished.get((request.sha256(), seed))
    if request_id is None:
        return request
    return replace(request, request_id=request_id, sent_before=True)


def final_texts(stage: StageSummary, *, before_edit: bool = False) -> dict[str, TextWritten]:
    """The resulting texts of a stage by part; those from before the person's edit, if asked for."""
    return {
        text.part: text
        for text in stage.written
        if text.final and not (before_edit and text.step == "edit")
    }


def own_wording(summary: RunSummary) -> dict[str, str]:
    """The texts that a person put in Stage 2's place and that stand there at the end, by part."""
    last = final_texts(summary.stages["interception"])
    return {
        part: text.text for part, text in last.items() if text.step == "edit" and text.by == "user"
    }
