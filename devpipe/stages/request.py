"""All that is asked of one run, as values: what the four stages are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from devpipe.config.models import InterceptionPipeline, MediaPipeline, OutputConfig
from devpipe.record.summary import RunSummary
from devpipe.values import Attachment, Boundary, Level, Scalar, Stage, new_run_id

Words = Mapping[str, str]  # by the names of the texts
Parameters = Mapping[str, Scalar]
Relation = Literal["regenerated", "replayed", "shared"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """All that is asked of one run.

    `source` is the run whose stages before `first_stage` are reused; `fallbacks` are the outputs
    that stand in, in this order, where the backend of `output` cannot be reached.
    """

    pipeline: InterceptionPipeline
    output: OutputConfig
    media_pipeline: MediaPipeline
    level: Level
    text_seed: int
    run_id: str = field(default_factory=new_run_id)
    texts: Words = field(default_factory=dict)
    images: Mapping[str, Attachment] = field(default_factory=dict)
    asked: Parameters = field(default_factory=dict)  # parameters as asked
    parameters: Parameters = field(default_factory=dict)  # all of them, resolved
    fallbacks: tuple[OutputConfig, ...] = ()
    seed: int | None = None
    instruction: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    batch: str = ""
    parent: str | None = None
    relation: Relation | None = None
    first_stage: Stage = "input"
    source: RunSummary | None = None
    # the person's own wording of Stage 2's result
    edited: Words = field(default_factory=dict)
    provenance: Literal["full", "mark"] = "full"
    boundary: Boundary = "world"  # how far texts and pictures may travel
    notes: tuple[str, ...] = ()  # what a reader of the recording should know of the request

    @property
    def outputs(self) -> tuple[OutputConfig, ...]:
        """The output, then those that stand in for it."""
        return (self.output, *self.fallbacks)
