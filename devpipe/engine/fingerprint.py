"""What makes a result what it is: one identity, computed here and nowhere else.

Batch ("this cell is done"), regenerate ("this stage is untouched"), replay ("the same again"),
resume and a cache ask it, and nothing else. Names, paths and titles are never part of it: an edited
pipeline file is another pipeline, a renamed one is the same. Level, policy and judge are not part
of it either: they are the verdict's own identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devpipe.config.chains import Chain
from devpipe.config.models import InterceptionPipeline
from devpipe.engine.lineage import own_wording
from devpipe.record.summary import RunSummary
from devpipe.stages.request import RunRequest
from devpipe.values import STAGES, Stage, Task, canonical_sha256

# Raise a stage's number where a change of ours alters what it makes of equal values.
STAGE_VERSIONS: Mapping[Stage, int] = {
    "input": 2,
    "interception": 3,
    "pre_output": 1,
    "generation": 1,
}
Parts = Mapping[str, Any]  # JSON values by their names


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The parts of which each stage's result was made, by stage."""

    parts: Mapping[Stage, Parts]

    def by_stage(self) -> dict[str, str]:
        """The hash of each stage, of its parts and of the stages before: what a recording keeps.

        A stage of which a part is not known (a seed that is not drawn yet) has none, nor have
        those after it.
        """
        hashes: dict[str, str] = {}
        before = ""
        for stage in STAGES:
            parts = self.parts[stage]
            if UNKNOWN in parts.values():
                break
            before = canonical_sha256([before, dict(parts)])
            hashes[stage] = before
        return hashes

    def sha256(self) -> str | None:
        """The hash of the whole run; None where a part of it is unknown."""
        return self.by_stage().get("generation")

    def differences(self, other: Fingerprint) -> dict[Stage, tuple[str, ...]]:
        """The names of the parts that differ, by stage; of what one side does not know, none."""
        found: dict[Stage, tuple[str, ...]] = {}
        for stage in STAGES:
            mine, theirs = self.parts[stage], other.parts[stage]
            names = [
                name
                for name, part in mine.items()
                if part is not UNKNOWN and theirs.get(name) not in (UNKNOWN, part)
            ]
            if names:
                found[stage] = tuple(names)
        return found

    def without_models(self) -> Fingerprint:
        """The same, whoever would be asked: for a derived run, which reads what was recorded."""
        parts = {
            stage: {name: value for name, value in values.items() if name not in MODEL_PARTS}
            for stage, values in self.parts.items()
        }
        return Fingerprint(parts)


_TASKS: tuple[Task, ...] = ("translate", "interception", "judge", "split")
MODEL_PARTS = frozenset({"translator", "models", "output_translator"})
UNKNOWN = None  # the value of a part that a recording does not tell


def fingerprint_of(request: RunRequest, chains: Mapping[Task, str] | None) -> Fingerprint:
    """The fingerprint of what a request asks; `chains` are the text models by task.

    Without chains, who would be asked is unknown.
    """
    pipeline = request.pipeline
    readies = pipeline.translate or pipeline.correct
    return Fingerprint(
        {
            "input": {
                "version": STAGE_VERSIONS["input"],
                "texts": dict(request.texts) or UNKNOWN,  # of an open run they come step by step
                "instruction": request.instruction,
                "translate": pipeline.translate,
                "correct": pipeline.correct,
                "translator": _translator(chains, readies),
                "translation_seed": request.text_seed if readies else 0,
            },
            "interception": {
                "version": STAGE_VERSIONS["interception"],
                "pipeline": pipeline.rewriting_sha256,
                "text_seed": request.text_seed if pipeline.steps else 0,
                "models": _rewriters(chains, pipeline),
                "edited": dict(request.edited) or _inherited_wording(request),
            },
            "pre_output": {
                "version": STAGE_VERSIONS["pre_output"],
                "style": pipeline.style,
                "output": [output.making_sha256 for output in request.outputs],
                "takes": list(request.media_pipeline.texts),
                "parameters": dict(request.parameters),
                "images": {name: image.sha256 for name, image in request.images.items()},
                "output_translator": _translator(chains, bool(request.output.translate_to)),
            },
            "generation": {"version": STAGE_VERSIONS["generation"], "seed": request.seed},
        }
    )


def chains_of(request: RunRequest, today: Mapping[Task, str]) -> Mapping[Task, str] | None:
    """Who makes the texts of a run, by task: the models of today, or those of its source.

    None where the run takes texts over from a recording that does not say who made them.
    """
    source = request.source
    if source is None or source.started is None or STAGES.index(request.first_stage) < 2:
        return today
    return recorded_chains(source)


def recorded_chains(summary: RunSummary) -> Mapping[Task, str] | None:
    """The text models that a recording names; None in those of a time before they were named."""
    started = summary.started
    if started is None or not started.models:
        return None
    return {"judge": "", **{task: started.models.get(task, "") for task in _TASKS}}


def _inherited_wording(request: RunRequest) -> dict[str, str]:
    """The person's own wording that comes with the texts taken over from the source."""
    source = request.source
    if source is None or STAGES.index(request.first_stage) < 2:
        return {}
    return own_wording(source)


def _translator(chains: Mapping[Task, str] | None, needed: bool) -> str | None:
    if not needed:
        return ""
    return UNKNOWN if chains is None else str(Chain.read(chains["translate"]))


def _rewriters(
    chains: Mapping[Task, str] | None, pipeline: InterceptionPipeline
) -> dict[str, str] | None:
    """Who would rewrite the text, by task."""
    if chains is None:
        return UNKNOWN
    tasks: list[Task] = ["split" if step.parts else "interception" for step in pipeline.steps]
    return {task: str(Chain.read(chains[task])) for task in tasks}
