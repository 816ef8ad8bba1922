"""What can happen in a run: small typed events, named in the past tense, stored one per line.

Fields are added with a default, never renamed or removed. Durable events survive power loss, all
stored
events survive the death of the process; transient ones (progress, text as it streams, previews) are
shown and
never stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from devpipe.errors import DevpipeError
from devpipe.values import Level, Outcome, Scalar, Stage, Task

SCHEMA_VERSION = 1

JsonObject = dict[str, Any]  # a vendor's or a config file's own words, kept verbatim


class Event(BaseModel):
    """Base of all events.

    The recorder adds `v`, `seq`, `at` and `crc` around these fields.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    type: str
    stored: ClassVar[bool] = True

    @property
    def durable(self) -> bool:
        """Whether this event must survive power loss once it is acknowledged."""
        return False


class DurableEvent(Event):
    """An event that always survives power loss."""

    @property
    def durable(self) -> bool:
        return True


class TransientEvent(Event):
    """An event that is shown and never stored."""

    stored: ClassVar[bool] = False


class Problem(BaseModel):
    """An error as data: our class name, one line, and what to do."""

    model_config = ConfigDict(frozen=True)
    type: str
    message: str
    hint: str = ""


def problem_of(error: BaseException) -> Problem:
    """An error as data for the recording."""
    name = type(error).__name__
    if isinstance(error, DevpipeError):
        return Problem(type=name, message=error.message, hint=error.hint)
    return Problem(
        type=name,
        message=str(error) or name,
        hint="This is a fault of devpipe: please report it.",
    )


class RunStarted(Event):
    """All that was known before the run began."""

    type: Literal["run_started"] = "run_started"
    run_id: str
    pipeline: str
    output: str
    texts: dict[
        str, str
    ] = {}  # what the user asked for, by input name; empty where it comes step by step
    parent: str | None = None
    relation: Literal["regenerated", "replayed", "shared"] | None = (
        None  # what this run is to its parent
    )
    first_stage: Stage = "input"  # earlier stages are reused from the parent
    seed: int | None = None  # as asked; the one used stands in attempt_started
    text_seed: int
    parameters: dict[str, Scalar] = {}  # as asked; all that were sent stand in attempt_started
    safety: Level
    instruction: str = ""  # the user's own, for pipelines that take one
    edited: dict[
        str, str
    ] = {}  # the user's own wording of Stage 2's result, where it was given with the request
    config: JsonObject = {}  # {"pipeline": {...}, "output": {...}}: snapshots
    config_sha256: str = ""
    software: dict[str, str] = {}
    labels: dict[str, str] = {}
    batch: str = ""
    provenance: str = "full"
    models: dict[str, str] = {}  # by task: the chain of text models that would be asked
    fingerprint: dict[str, str] = {}  # by stage: the hash of all that its result was made of
    writer: str = ""  # the process that has the recording, filled in by the recorder


class AttachmentWritten(DurableEvent):
    """A picture the user brought, as we decoded and encoded it."""

    type: Literal["attachment_written"] = "attachment_written"
    name: str  # image, mask, control
    path: str
    media_type: str
    sha256: str
    bytes: int
    width: int
    height: int


class StageStarted(Event):
    type: Literal["stage_started"] = "stage_started"
    stage: Stage


class StageReused(Event):
    """What follows, up to stage_finished, was made by another run."""

    type: Literal["stage_reused"] = "stage_reused"
    stage: Stage
    run_id: str


class TextWritten(Event):
    """One text: of an input, step, iteration or part, or a final one."""

    type: Literal["text_written"] = "text_written"
    stage: Stage
    text: str
    part: str = "prompt"
    step: str = ""
    iteration: int = 0
    final: bool = False  # the stage's result for this part
    by: Literal["user", "model", "procedure", "rule"] = "rule"
    language: str = ""
    language_sure: float = 1.0  # 0 to 1 of a language that was guessed; 1: it was asked for
    partial: bool = False  # an answer that was cut off; never a result
    raw: str = ""
    path: str = ""  # final texts also lie in a file that a person opens
    sha256: str = ""


class AttemptStarted(Event):
    """The intent to ask a backend, on disk before anything is sent."""

    type: Literal["attempt_started"] = "attempt_started"
    attempt: int
    stage: Stage
    task: Task | Literal["media"]
    backend: str
    model: str = ""
    seed: int | None = None
    request: JsonObject = {}
    request_id: str = ""  # the name of the job at a backend that lets us choose it
    sha256: str = ""  # of the request, as the verdict names it
    paid: bool = False
    free: bool = False  # by the backend's own word; older recordings do not say
    location: str = "local"  # how far the request travels; older recordings do not say

    @property
    def durable(self) -> bool:
        return self.paid


class AttemptFinished(Event):
    type: Literal["attempt_finished"] = "attempt_finished"
    attempt: int
    stage: Stage
    outcome: Literal["completed", "refused", "failed", "cancelled"]
    backend: str = ""
    model: str = ""
    digest: str = ""
    error: Problem | None = None
    refused: str = ""
    finish_reason: str = ""
    seconds: float = 0.0
    queue_s: float | None = None
    compute_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    cost_source: str = "unknown"
    sent: JsonObject = {}

    @property
    def durable(self) -> bool:
        return self.cost_usd != 0.0  # a charge, or one that nobody told us


class VerdictGiven(Event):
    """The result of a safety check, bound to the hash of what was checked.

    A verdict that blocks is durable at once. One that allows becomes so before anything is acted
    on: it stands in the file
    before the intent to spend and before the artifact, and those are synced with all that precedes
    them.
    """

    type: Literal["verdict_given"] = "verdict_given"
    stage: Stage
    allowed: bool
    sha256: str
    level: Level
    policy: str
    method: str  # rules | judge | rules+judge
    categories: list[str] = []
    reason: str = ""  # for the person in front of the screen, in their language
    cause: str = ""  # for the adult: what stopped it
    negative_prompt: str = ""
    judge: str = ""
    digest: str = ""
    seconds: float = 0.0
    source: str = ""  # the run it was first given in, where reused

    @property
    def durable(self) -> bool:
        return not self.allowed


class ArtifactWritten(DurableEvent):
    """A file that the run made, complete on disk when this event is."""

    type: Literal["artifact_written"] = "artifact_written"
    path: str
    media_type: str
    sha256: str
    bytes: int
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    alt: str = ""
    attempt: int | None = None


class StageFinished(Event):
    type: Literal["stage_finished"] = "stage_finished"
    stage: Stage
    outcome: Literal["completed", "blocked", "failed"]
    reason: str = ""
    seconds: float = 0.0


class Warned(Event):
    """Something a reader of the recording should know; the run went on."""

    type: Literal["warned"] = "warned"
    message: str
    stage: Stage | None = None


class RunResumed(DurableEvent):
    """A recording was opened again after its writer died.

    A torn tail of `cut_bytes` was cut off.
    """

    type: Literal["run_resumed"] = "run_resumed"
    cut_bytes: int = 0
    writer: str = ""  # as in run_started


class RunFinished(DurableEvent):
    """What only the end could tell."""

    type: Literal["run_finished"] = "run_finished"
    outcome: Outcome
    error: Problem | None = None
    seconds: float = 0.0


class Progressed(TransientEvent):
    type: Literal["progressed"] = "progressed"
    stage: Stage
    step: int
    steps: int
    message: str = ""


class TextStreamed(TransientEvent):
    """A piece of a text while it is being written."""

    type: Literal["text_streamed"] = "text_streamed"
    stage: Stage
    text: str
    part: str = "prompt"
    step: str = ""
    iteration: int = 0
    restarted: bool = (
        False  # the text begins anew with this piece: what was shown of it before is void
    )


class Previewed(TransientEvent):
    """A picture on its way; the latest wins."""

    type: Literal["previewed"] = "previewed"
    data: bytes
    media_type: str


class Queued(TransientEvent):
    """The vendor has `position` other jobs to do before this one.

    `seconds`: how long they may take, where anybody knows.
    """

    type: Literal["queued"] = "queued"
    stage: Stage
    position: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place in the run.

    Order is by `seq`; `at` is what the clock said, and clocks may go backwards.
    """

    seq: int
    at: str  # 2026-11-22T14:15:03.123456Z
    event: Event


StoredEvent = (
    RunStarted
    | AttachmentWritten
    | StageStarted
    | StageReused
    | TextWritten
    | AttemptStarted
    | AttemptFinished
    | VerdictGiven
    | ArtifactWritten
    | StageFinished
    | Warned
    | RunResumed
    | RunFinished
)
EVENT: TypeAdapter[StoredEvent] = TypeAdapter(Annotated[StoredEvent, Field(discriminator="type")])
