"""What a run is, read from its events: one fold for live runs and for stored ones."""

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
)
from devpipe.values import STAGES, Outcome, Stage


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
    written: list[TextWritten] = field(default_factory=list)  # all of them, iterations too
    verdict: VerdictGiven | None = None


@dataclass
class Attempt:
    """One try of one backend; `finished` is None where the process died in between."""

    started: AttemptStarted
    finished: AttemptFinished | None = None


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
                self.started, self.started_at = started, recorded.at
            case RunFinished() as finished:
                self.finished, self.finished_at = finished, recorded.at
            case StageStarted(stage=stage):
                self.stages[stage].outcome = ""
            case StageReused(stage=stage, run_id=run_id):
                self.stages[stage].reused_from = run_id
            case StageFinished(stage=stage) as ended:
                of = self.stages[stage]
                of.outcome, of.reason, of.seconds = ended.outcome, ended.reason, ended.seconds
            case TextWritten(stage=stage) as text:
                self._add_text(self.stages[stage], text)
            case VerdictGiven(stage=stage) as verdict:
                self.stages[stage].verdict = verdict
            case AttemptStarted() as attempt:
                self.attempts[attempt.attempt] = Attempt(attempt)
            case AttemptFinished() as attempt_end if attempt_end.attempt in self.attempts:
                self.attempts[attempt_end.attempt].finished = attempt_end
            case ArtifactWritten() as artifact:
                self.artifacts.append(artifact)
            case AttachmentWritten() as attachment:
                self.attachments.append(attachment)

    @staticmethod
    def _add_text(stage: StageSummary, text: TextWritten) -> None:
        stage.written.append(text)
        if text.final:
            stage.texts[text.part], stage.languages[text.part] = text.text, text.language

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
        """The seed that was sent for the medium, or the one asked for where nothing was sent."""
        sent = self.media_attempts
        return sent[-1].started.seed if sent else self.started.seed if self.started else None

    @property
    def cost_usd(self) -> float | None:
        """The sum over all attempts; None as soon as one of them is unknown."""
        costs = [
            attempt.finished.cost_usd if attempt.finished else None
            for attempt in self.attempts.values()
        ]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def cost_source(self) -> str:
        sources = {
            attempt.finished.cost_source if attempt.finished else "unknown"
            for attempt in self.attempts.values()
        }
        return "unknown" if "unknown" in sources else "+".join(sorted(sources)) or "local"

    @property
    def duration_s(self) -> float:
        if self.finished:
            return self.finished.seconds
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def verdict(self) -> VerdictGiven | None:
        """The latest one: of Stage 3, of the person's own wording, or of Stage 1, where it ended
        there.
        """
        return (
            self.stages["pre_output"].verdict
            or self.stages["interception"].verdict
            or self.stages["input"].verdict
        )

    def to_json(self, recording: str = "") -> dict[str, Any]:
        """The run as one JSON object; the form of `--json` and of run.json.

        Artifact paths begin with `recording` if given.
        """
        started = self.started
        prefix = f"{recording}/" if recording else ""
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
                {"path": prefix + artifact.path}
                | artifact.model_dump(
                    include={"media_type", "sha256", "bytes", "width", "height", "seconds", "alt"},
                    exclude_none=True,
                )
                for artifact in self.artifacts
            ],
            "cost_usd": self.cost_usd,
            "cost_source": self.cost_source,
            "duration_s": round(self.duration_s, 6),
            "started_at": self.started_at,
            "error": self.error.model_dump() if self.error else None,
        }

    def _stages_json(self) -> dict[str, Any]:
        stages: dict[str, Any] = {}
        for name, stage in self.stages.items():
            stages[name] = {
                "outcome": stage.outcome or None,
                "texts": stage.texts,
                "reused_from": stage.reused_from or None,
            }
            if stage.verdict or name in (
                "input",
                "pre_output",
            ):  # without a verdict: None, the fields are always there
                fields = ("allowed", "method", "level", "reason", "categories", "cause")
                stages[name] |= {field: getattr(stage.verdict, field, None) for field in fields}
        stages["input"]["language"] = next(iter(self.stages["input"].languages.values()), None)
        stages["interception"]["iterations"] = [
            text.text for text in self.stages["interception"].written if not text.partial
        ]
        stages["generation"] |= self._generation_json()
        return stages

    def _generation_json(self) -> dict[str, Any]:
        attempts = self.media_attempts
        last = attempts[-1] if attempts else None
        return {
            "backend": last.started.backend if last else None,
            "model": (
                (last.finished.model if last.finished else last.started.model) if last else None
            ),
            "sent": last.started.request if last else {},
            "sent_as": (
                last.finished.sent if last and last.finished else {}
            ),  # in the vendor's spelling
            "attempts": [
                {
                    "backend": one.started.backend,
                    "model": one.started.model,
                    "seed": one.started.seed,
                }
                | {
                    "outcome": one.finished.outcome if one.finished else None,
                    "seconds": one.finished.seconds if one.finished else None,
                }
                | {
                    "error": (
                        one.finished.error.model_dump()
                        if one.finished and one.finished.error
                        else None
                    )
                }
                for one in attempts
            ],
        }
