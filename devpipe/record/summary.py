"""What is a run, by its events? One fold for live and stored ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from devpipe.record.events import (
    ArtifactWritten,
    AttachmentWritten,
    AttemptFinished,
    AttemptStarted,
    Problem,
    Recorded,
    RunFinished,
    RunStarted,
    StageFinished,
    StageReused,
    StageStarted,
    TextWritten,
    VerdictGiven,
    Warned,
)
from devpipe.values import STAGES, Outcome, Stage

StageEvent = StageStarted | StageReused | StageFinished | TextWritten | VerdictGiven
_CHECKING = ("input", "pre_output")  # their verdict's fields are always there, None without one
_VERDICT_FIELDS = ("allowed", "method", "level", "reason", "categories", "cause")
_ANSWERED = ("completed", "refused")  # attempts whose backend says itself what they cost
_ARTIFACT_FIELDS = {"media_type", "sha256", "bytes", "width", "height", "seconds", "alt"}


@dataclass
class StageSummary:
    """One stage: its texts, the verdict given in it, how it ended."""

    stage: Stage
    outcome: str = ""  # "" while it runs, or where its process died
    reason: str = ""
    seconds: float = 0.0
    reused_from: str = ""
    texts: dict[str, str] = field(default_factory=dict)  # final ones, by part
    languages: dict[str, str] = field(default_factory=dict)
    language_sure: dict[str, float] = field(default_factory=dict)
    written: list[TextWritten] = field(default_factory=list)  # all of them, iterations too
    verdict: VerdictGiven | None = None

    def add(self, event: StageEvent) -> None:
        """Take one more event of this stage in."""
        match event:
            case StageStarted():
                self.outcome = ""
            case StageReused():
                self.reused_from = event.run_id
            case StageFinished():
                self.outcome = event.outcome
                self.reason = event.reason
                self.seconds = event.seconds
            case TextWritten():
                self.written.append(event)
                if event.final:
                    self.texts[event.part] = event.text
                    self.languages[event.part] = event.language
                    self.language_sure[event.part] = event.language_sure
            case VerdictGiven():
                self.verdict = event

    def to_json(self) -> dict[str, Any]:
        """Its part of the run's JSON that all stages have."""
        values: dict[str, Any] = {
            "outcome": self.outcome or None,
            "texts": self.texts,
            "reused_from": self.reused_from or None,
        }
        if self.verdict or self.stage in _CHECKING:
            for name in _VERDICT_FIELDS:
                values[name] = getattr(self.verdict, name, None)
        return values


@dataclass
class Attempt:
    """One try of one backend; unfinished where the process died in between."""

    started: AttemptStarted
    finished: AttemptFinished | None = None

    @property
    def model(self) -> str:
        """As the backend named it, else as it was asked for."""
        return self.finished.model if self.finished else self.started.model

    @property
    def cost(self) -> tuple[float | None, str]:
        """In USD, and who says so; None where nobody knows.

        What was broken off here, or where nothing ever costs, is charged by nobody.
        """
        finished = self.finished
        if finished and (finished.cost_source != "unknown" or finished.outcome in _ANSWERED):
            return finished.cost_usd, finished.cost_source
        is_ours = self.started.location == "local" and not self.started.paid
        return (0.0, "local") if is_ours or self.started.free else (None, "unknown")

    def to_json(self) -> dict[str, Any]:
        """Its part of the run's JSON."""
        finished = self.finished
        return {
            "backend": self.started.backend,
            "model": self.started.model,
            "seed": self.started.seed,
            "outcome": finished.outcome if finished else None,
            "seconds": finished.seconds if finished else None,
            "error": finished.error.model_dump() if finished and finished.error else None,
        }


@dataclass
class RunSummary:
    """Everything a panel, a table or a paper says about a run."""

    started: RunStarted | None = None
    finished: RunFinished | None = None
    started_at: str = ""
    finished_at: str = ""
    stages: dict[str, StageSummary] = field(
        default_factory=lambda: {stage: StageSummary(stage) for stage in STAGES}
    )
    attempts: dict[int, Attempt] = field(default_factory=dict)
    artifacts: list[ArtifactWritten] = field(default_factory=list)
    attachments: list[AttachmentWritten] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a reader should know
    events: int = 0

    @classmethod
    def of(cls, recorded: Iterable[Recorded]) -> RunSummary:
        """The state after these events. Order is theirs; a prefix gives a valid state."""
        summary = cls()
        for one in recorded:
            summary.add(one)
        return summary

    def add(self, recorded: Recorded) -> None:
        """Take one more event in."""
        self.events += 1
        match recorded.event:
            case RunStarted() as started:
                self.started = started
                self.started_at = recorded.at
            case RunFinished() as finished:
                self.finished = finished
                self.finished_at = recorded.at
            case StageStarted() | StageReused() | StageFinished() | TextWritten() | VerdictGiven():
                self.stages[recorded.event.stage].add(recorded.event)
            case AttemptStarted() as started_attempt:
                self.attempts[started_attempt.attempt] = Attempt(started_attempt)
            case AttemptFinished() as finished_attempt:
                if finished_attempt.attempt in self.attempts:
                    self.attempts[finished_attempt.attempt].finished = finished_attempt
            case ArtifactWritten() as artifact:
                self.artifacts.append(artifact)
            case AttachmentWritten() as attachment:
                self.attachments.append(attachment)
            case Warned(message=note):
                self.notes.append(note)

    @property
    def outcome(self) -> Outcome | None:
        """None: it runs, or its process died."""
        return self.finished.outcome if self.finished else None

    @property
    def error(self) -> Problem | None:
        return self.finished.error if self.finished else None

    @property
    def media_attempts(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt.started.task == "media"]

    @property
    def seed(self) -> int | None:
        """The seed that was sent for the medium, else the one asked for."""
        sent = self.media_attempts
        if sent:
            return sent[-1].started.seed
        return self.started.seed if self.started else None

    @property
    def cost_usd(self) -> float | None:
        """The sum over all attempts; None if one is unknown."""
        costs = [attempt.cost[0] for attempt in self.attempts.values()]
        known = [usd for usd in costs if usd is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def cost_source(self) -> str:
        sources = {attempt.cost[1] for attempt in self.attempts.values()}
        if "unknown" in sources:
            return "unknown"
        return "+".join(sorted(sources)) or "local"

    @property
    def duration_s(self) -> float:
        if self.finished:
            return self.finished.seconds
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def verdict(self) -> VerdictGiven | None:
        """The latest verdict.

        Of Stage 3, of the person's own wording, or of Stage 1, where it ended there.
        """
        return (
            self.stages["pre_output"].verdict
            or self.stages["interception"].verdict
            or self.stages["input"].verdict
        )

    def to_json(self, recording: str = "") -> dict[str, Any]:
        """The run as one JSON object, as in `--json` and run.json.

        Artifact paths begin with `recording` if given.
        """
        started = self.started
        return {
            "run_id": started.run_id if started else "",
            "outcome": self.outcome,
            "recording": recording,
            "parent": started.parent if started else None,
            "relation": started.relation if started else None,
            "pipeline": started.pipeline if started else "",
            "output": started.output if started else "",
            "seed": self.seed,
            "text_seed": started.text_seed if started else None,
            "safety": started.safety if started else None,
            "stages": self._stages_json(),
            "artifacts": [
                {
                    "path": f"{recording}/{one.path}" if recording else one.path,
                    **one.model_dump(include=_ARTIFACT_FIELDS, exclude_none=True),
                }
                for one in self.artifacts
            ],
            "cost_usd": self.cost_usd,
            "cost_source": self.cost_source,
            "duration_s": round(self.duration_s, 6),
            "started_at": self.started_at,
            "notes": self.notes,
            "error": self.error.model_dump() if self.error else None,
        }

    def _stages_json(self) -> dict[str, Any]:
        stages = {name: stage.to_json() for name, stage in self.stages.items()}
        stages["input"]["language"] = next(iter(self.stages["input"].languages.values()), None)
        stages["interception"]["iterations"] = [
            text.text for text in self.stages["interception"].written if not text.partial
        ]
        stages["generation"] |= self._generation_json()
        return stages

    def _generation_json(self) -> dict[str, Any]:
        attempts = self.media_attempts
        last = attempts[-1] if attempts else None
        finished = last.finished if last else None
        return {
            "backend": last.started.backend if last else None,
            "model": last.model if last else None,
            "sent": last.started.request if last else {},
            "sent_as": finished.sent if finished else {},  # in the vendor's spelling
            "attempts": [attempt.to_json() for attempt in attempts],
        }
