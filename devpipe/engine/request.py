"""What is asked of a run, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devpipe.config.catalogue import Catalogue
from devpipe.config.models import InterceptionPipeline, MediaPipeline, OutputConfig
from devpipe.errors import Parked, UnknownName, UsageError
from devpipe.record.summary import RunSummary
from devpipe.text.clean import clean
from devpipe.values import (
    LEVELS,
    STAGES,
    Attachment,
    Level,
    Scalar,
    Stage,
    draw_seed,
    new_run_id,
    seed_in_range,
)

if TYPE_CHECKING:
    from devpipe.record.reader import Recording, Recordings

Prompt = str | Mapping[str, str]
MAX_FILE = 64_000_000  # bytes
Relation = Literal["regenerated", "replayed", "shared"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """All that is asked of one run.

    `source`: the run whose stages before `first_stage` are reused.
    """

    pipeline: InterceptionPipeline
    output: OutputConfig
    media_pipeline: MediaPipeline
    level: Level
    text_seed: int
    run_id: str = field(default_factory=new_run_id)
    texts: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, Attachment] = field(default_factory=dict)
    asked: Mapping[str, Scalar] = field(default_factory=dict)  # parameters as asked
    parameters: Mapping[str, Scalar] = field(default_factory=dict)  # all of them, resolved
    seed: int | None = None
    instruction: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    batch: str = ""
    parent: str | None = None
    relation: Relation | None = None
    first_stage: Stage = "input"
    source: RunSummary | None = None
    edited: Mapping[str, str] = field(
        default_factory=dict
    )  # the person's own wording of Stage 2's result


@dataclass(frozen=True, slots=True)
class Asker:
    """Turns a call's arguments into requests, by the workspace's configs and safety level."""

    catalogue: Catalogue
    safety: Level

    def request(
        self,
        prompt: Prompt | None,
        pipeline: str,
        output: str,
        *,
        seed: object = None,
        text_seed: object = None,
        image: Any = None,
        mask: Any = None,
        control: Any = None,
        parameters: Mapping[str, Scalar] | None = None,
        safety: str | None = None,
        instruction: str = "",
        labels: Mapping[str, str] | None = None,
        batch: str = "",
        **more: Scalar,
    ) -> RunRequest:
        """One checked request.

        `more` are parameters, too. Raises UsageError, ConfigError or UnknownName.
        """
        _of_type(str, pipeline=pipeline, output=output, instruction=instruction, batch=batch)
        _of_type(Mapping, parameters=parameters or {}, labels=labels or {})
        _of_type(str, **{f"label {name}": value for name, value in (labels or {}).items()})
        chosen = self.catalogue.interception(pipeline), self.catalogue.output(output)
        media_pipeline = self.catalogue.media_pipeline(chosen[1].pipeline)
        asked = {**(parameters or {}), **more}
        return RunRequest(
            *chosen,
            media_pipeline,
            self.level(safety),
            seed_in_range(text_seed, name="text_seed") or draw_seed(),
            texts=texts_of(prompt, media_pipeline),
            images=self._attachments({"image": image, "mask": mask, "control": control}, chosen[1]),
            asked=asked,
            parameters=chosen[1].resolve(asked),
            seed=seed_in_range(seed),
            instruction=_instruction(chosen[0], instruction),
            labels=dict(labels or {}),
            batch=batch,
        )

    def _attachments(self, given: Mapping[str, Any], output: OutputConfig) -> dict[str, Attachment]:
        """The pictures that the output takes.

        Raises UsageError for one missing, one too many, or one that is no picture.
        """
        needed = list(self.catalogue.required_images(output))
        possible = {*needed, *self.catalogue.optional_images(output)}
        present = {name: value for name, value in given.items() if value is not None}
        for name in needed:
            if name not in present:
                raise UsageError(
                    f"Output {output.name!r} needs a picture as {name}.",
                    hint=f"Give {name}=... (--{name} FILE in the shell).",
                )
        for name in present:
            if name not in possible:
                raise UsageError(
                    f"Output {output.name!r} takes no {name}.",
                    hint=f"Leave it out. It takes: {', '.join(sorted(possible)) or 'none'}.",
                )
        found = {name: _attachment(value, name) for name, value in present.items()}
        if {"image", "mask"} <= found.keys():
            from devpipe.media.pictures import fitted_mask

            found["mask"] = fitted_mask(found["mask"], found["image"])
        return found

    def level(self, safety: str | None) -> Level:
        """The level of a run: the workspace's, or a stricter one. Raises UsageError."""
        if safety is None:
            return self.safety
        if safety not in LEVELS:
            raise UnknownName("safety level", str(safety), LEVELS)
        if LEVELS.index(safety) > LEVELS.index(self.safety):
            raise UsageError(
                f"Safety {safety!r} is looser than this workspace's {self.safety!r}.",
                hint='An adult can change the line `safety = "..."` in devpipe.toml.',
            )
        return safety

    def _stricter(self, recorded: Level) -> Level:
        """The level of a recorded run, or the workspace's where that has become stricter."""
        return min(recorded, self.safety, key=LEVELS.index)

    def again(self, source: Recording, **changes: Any) -> RunRequest:
        """The request of a recorded run with changes, beginning at the first stage that
        they touch.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        edited = given.pop("text", None)
        summary, started = source.summary, source.summary.started
        if started is None:
            raise UsageError(
                f"Recording {source.id} has no beginning.",
                hint="Choose another run: `devpipe list recordings`.",
            )
        names = given.pop("pipeline", started.pipeline), given.pop("output", started.output)
        kept = self._kept(source, *names)
        prompt = given.pop("prompt") if "prompt" in given else self._texts_kept(source, names[1])
        _of_type(Mapping, parameters=given.get("parameters", {}))
        parameters = {**kept.pop("parameters", {}), **given.pop("parameters", {})}
        request = self.request(prompt, *names, **{**kept, **given}, parameters=parameters)
        first = _first_touched(request, summary)
        if edited is not None:
            edited = texts_of(edited, request.media_pipeline, partly=True)
            first = first if STAGES.index(first) < STAGES.index("pre_output") else "pre_output"
        elif _same_text(request, summary) and STAGES.index(first) <= 1:
            edited = own_wording(summary)
        return replace(
            request,
            parent=source.id,
            relation="regenerated",
            first_stage=first,
            source=summary if first != "input" else None,
            edited=edited or {},
        )

    def _texts_kept(self, source: Recording, output: str) -> dict[str, str]:
        """The recorded texts that the output takes."""
        taken = self.catalogue.media_pipeline(self.catalogue.output(output).pipeline).texts
        return {name: text for name, text in _prompts(source).items() if name in taken}

    def _kept(self, source: Recording, pipeline: str, output: str) -> dict[str, Any]:
        """What a new request takes over from a recorded one, without what its pipeline or output
        has no use for.
        """
        started = source.summary.started
        assert started is not None
        kept: dict[str, Any] = {
            "text_seed": started.text_seed,
            "labels": started.labels,
            "batch": started.batch,
        }
        kept["safety"] = self._stricter(started.safety)
        if pipeline == started.pipeline:
            kept["instruction"] = started.instruction
        if output == started.output:
            kept["parameters"] = started.parameters
        config = self.catalogue.output(output)
        taken = {*self.catalogue.required_images(config), *self.catalogue.optional_images(config)}
        return kept | {
            name: image for name, image in attachments_of(source).items() if name in taken
        }

    def shared(
        self, source: Recording, prompt: Prompt, pipeline: str, output: str, **how: Any
    ) -> RunRequest:
        """A request that takes Stages 1 and 2 over from a run of the same prompt, pipeline and text
        seed.
        """
        request = self.request(prompt, pipeline, output, **how)
        if STAGES.index(_first_touched(request, source.summary)) < STAGES.index("pre_output"):
            raise UsageError(
                f"Run {source.id} has not this prompt, pipeline and text seed.",
                hint="Start a run of its own.",
            )
        return replace(
            request,
            parent=source.id,
            relation="shared",
            first_stage="pre_output",
            source=source.summary,
        )

    def resumed(self, source: Recording, recordings: Recordings) -> RunRequest:
        """The request of a run whose process died, to go on with in its own recording."""
        request, started = self.replayed(source), source.summary.started
        assert started is not None
        if any(
            attempt.started.paid and attempt.finished is None
            for attempt in source.summary.attempts.values()
        ):
            raise Parked(
                f"Run {source.id} died while a paid request was under way: it may have been"
                " charged.",
                hint=(
                    f"Look at the provider's account; then `devpipe regenerate {source.id}` pays"
                    " once more."
                ),
            )
        left = (
            started.first_stage != "input"
            and source.summary.stages["interception"].outcome != "completed"
        )
        parent = recordings.find(started.parent).summary if started.parent and left else None
        if parent and source.summary.stages["input"].outcome != "completed":
            _check_source(source, parent)
        return replace(
            request,
            run_id=source.id,
            parent=started.parent,
            relation=started.relation,
            source=parent,
            edited={} if own_wording(source.summary) else started.edited,
            batch=started.batch,
            seed=source.summary.seed,
        )

    def replayed(self, source: Recording) -> RunRequest:
        """The very same request, by the configs as they were recorded."""
        summary, started = source.summary, source.summary.started
        if started is None:
            raise UsageError(
                f"Recording {source.id} has no beginning.",
                hint="Choose another run: `devpipe list recordings`.",
            )
        output = OutputConfig.restore(started.config["output"])
        return RunRequest(
            InterceptionPipeline.restore(started.config["pipeline"]),
            output,
            MediaPipeline.restore(started.config["media_pipeline"]),
            self._stricter(started.safety),
            started.text_seed,
            texts=_prompts(source),
            images=attachments_of(source),
            asked=started.parameters,
            parameters=output.resolve(started.parameters),
            seed=summary.seed,
            instruction=started.instruction,
            labels=started.labels,
            parent=source.id,
            relation="replayed",
            first_stage=started.first_stage,
            source=summary if started.first_stage != "input" else None,
            edited=own_wording(summary) if started.first_stage in ("input", "interception") else {},
        )


def texts_of(
    prompt: Prompt | None, media_pipeline: MediaPipeline, *, partly: bool = False
) -> dict[str, str]:
    """The prompt as texts by input name, cleaned.

    None: they come later, step by step. `partly`: the first may be missing.
    """
    if prompt is None:
        return {}
    texts: dict[str, Any] = dict(prompt) if isinstance(prompt, Mapping) else {"prompt": prompt}
    for name in texts:
        if name not in media_pipeline.texts:
            raise UnknownName(f"text of {media_pipeline.name}", name, media_pipeline.texts)
    if "prompt" not in texts and not partly:
        raise UsageError("The text `prompt` is missing.", hint='Give at least {"prompt": "..."}.')
    return {name: clean(text, what=name) for name, text in texts.items()}


def _prompts(source: Recording) -> Mapping[str, str]:
    """The texts a recorded run was asked, all at once or step by step."""
    summary = source.summary
    texts = (summary.started.texts if summary.started else {}) or summary.stages["input"].texts
    if not texts:
        raise UsageError(f"Run {source.id} ended before it had a text.", hint="Start another one.")
    return texts


def _check_source(source: Recording, parent: RunSummary) -> None:
    """Raises UsageError where the run whose texts are to be taken over has none yet: both died
    together.
    """
    needed = STAGES[
        : min(
            STAGES.index(source.summary.started.first_stage if source.summary.started else "input"),
            2,
        )
    ]
    lacks = any(parent.stages[stage].outcome != "completed" for stage in needed)
    if lacks and parent.stages["input"].outcome != "blocked":
        parent_id = parent.started.run_id if parent.started else "?"
        hint = "Start another one." if parent.outcome else f"First `devpipe resume {parent_id}`."
        raise UsageError(
            f"Run {source.id} takes its texts from run {parent_id}, which has none.", hint=hint
        )


def own_wording(summary: RunSummary) -> dict[str, str]:
    """The texts a person put in Stage 2's place, by part."""
    return {
        text.part: text.text
        for text in summary.stages["interception"].written
        if text.step == "edit" and text.by == "user"
    }


def _instruction(pipeline: InterceptionPipeline, instruction: str) -> str:
    if not pipeline.user_instruction:
        if instruction:
            raise UsageError(
                f"Pipeline {pipeline.name!r} takes no instruction of yours.",
                hint="Use the pipeline user_defined.",
            )
        return ""
    if not instruction:
        raise UsageError(
            f"Pipeline {pipeline.name!r} needs your instruction.",
            hint='Give instruction="..." (--instruction in the shell).',
        )
    return clean(instruction, what="instruction")


def _of_type(kind: type, **values: object) -> None:
    """Raises UsageError for the first value of another type."""
    for name, value in values.items():
        if not isinstance(value, kind):
            wanted = "text" if kind is str else "a table of names and values"
            raise UsageError(
                f"{name} is {str(value)[:40]!r}, a {type(value).__name__}.", hint=f"Give {wanted}."
            )


def _same_text(request: RunRequest, summary: RunSummary) -> bool:
    """Whether Stages 1 and 2 are asked for what they were asked for before."""
    started = summary.started
    assert started is not None
    return (
        dict(request.texts) == (started.texts or summary.stages["input"].texts)
        and request.instruction == started.instruction
        and request.text_seed == started.text_seed
        and _acting(request.pipeline.snapshot()) == _acting(started.config["pipeline"])
    )


def _acting(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what people only read."""
    return {
        name: value
        for name, value in snapshot.items()
        if name not in ("$schema", "title", "description")
    }


def _attachment(value: Any, name: str) -> Attachment:
    from devpipe.media.pictures import attachment, encode_png

    if isinstance(value, Attachment):
        return value
    if isinstance(value, bytes):
        return attachment(value, name=name)
    if isinstance(value, str | os.PathLike):
        try:
            return attachment(_read_file(Path(value)), name=name)
        except OSError as error:
            raise UsageError(
                f"The {name} {os.fspath(value)!r} cannot be read: {error.strerror}.",
                hint="Check the path.",
            ) from error
    return attachment(encode_png(value), name=name)


def _read_file(path: Path) -> bytes:
    """The bytes of a plain file of a possible size; a pipe or device would never end."""
    if path.exists() and (not path.is_file() or path.stat().st_size > MAX_FILE):
        raise UsageError(
            f"{str(path)!r} is no file, or larger than {MAX_FILE // 1_000_000} MB.",
            hint="Give a PNG, JPEG or WEBP file.",
        )
    return path.read_bytes()


def attachments_of(recording: Recording) -> dict[str, Attachment]:
    """The pictures that a recorded run was given."""
    return {
        one.name: Attachment(recording.read(one.path), one.media_type, one.width, one.height)
        for one in recording.summary.attachments
    }


def _first_touched(request: RunRequest, summary: RunSummary) -> Stage:
    """The first stage that has to act again: where something changed, or where the source has no
    result.
    """
    started = summary.started
    assert started is not None
    for stage, changed in (
        (
            "input",
            dict(request.texts) != (started.texts or summary.stages["input"].texts)
            or request.level != started.safety,
        ),
        ("input", request.pipeline.translate != started.config["pipeline"].get("translate", False)),
        ("input", request.pipeline.correct != started.config["pipeline"].get("correct", False)),
        ("input", request.instruction != started.instruction),
        (
            "interception",
            _acting(request.pipeline.snapshot()) != _acting(started.config["pipeline"])
            or request.text_seed != started.text_seed,
        ),
        (
            "pre_output",
            _acting(request.output.snapshot()) != _acting(started.config["output"])
            or dict(request.asked) != started.parameters,
        ),
        (
            "pre_output",
            {n: i.sha256 for n, i in request.images.items()}
            != {a.name: a.sha256 for a in summary.attachments},
        ),
    ):
        if changed or summary.stages[stage].outcome != "completed":
            return stage  # type: ignore[return-value]  # the tuple's literals are stages
    return "generation"
