"""Build and validate run requests: new, regenerated, shared, resumed, replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from devpipe.config.catalogue import Catalogue
from devpipe.config.models import (
    InterceptionPipeline,
    MediaPipeline,
    Model,
    OutputConfig,
)
from devpipe.config.settings import Settings
from devpipe.engine.arguments import Faults, Prompt, RunArguments, of_kind
from devpipe.engine.attachments import read_attachments, recorded_attachments
from devpipe.engine.fingerprint import (
    Fingerprint,
    chains_of,
    fingerprint_of,
    recorded_chains,
)
from devpipe.engine.lineage import own_wording
from devpipe.errors import Parked, UnknownName, UsageError
from devpipe.record.events import RunStarted
from devpipe.record.reader import Recording, Recordings
from devpipe.record.summary import Attempt, RunSummary
from devpipe.stages.request import RunRequest
from devpipe.text.clean import clean
from devpipe.values import LEVELS, STAGES, Level, Stage, draw_seed

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Configs:
    """The files that say how a run is made: as they are now, or as a recording keeps them."""

    pipeline: InterceptionPipeline
    output: OutputConfig
    media_pipeline: MediaPipeline
    fallbacks: tuple[OutputConfig, ...] = ()

    @property
    def needed_images(self) -> tuple[str, ...]:
        """The pictures a run must bring: those of the output, else of its media pipeline."""
        return self.output.images or self.media_pipeline.images

    @property
    def optional_images(self) -> tuple[str, ...]:
        """The pictures a run may bring besides; a graph uses exactly those that it needs."""
        return () if self.output.nodes else self.media_pipeline.optional_images


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """Turns a call's arguments into requests, by the workspace's configs and safety level."""

    catalogue: Catalogue
    settings: Settings

    # New runs.

    def request(
        self, prompt: Prompt | None, pipeline: str, output: str, options: Mapping[str, Any]
    ) -> RunRequest:
        """One checked request by the files as they are now.

        Raises UsageError (ConfigError, UnknownName) with everything that is wrong.
        """
        faults = Faults()
        arguments = RunArguments.read(options, faults)
        configs = self._configs(pipeline, output, faults)
        return self._request(prompt, configs, arguments, faults)

    def requests(
        self, prompt: Prompt, pipeline: str, output: object, options: Mapping[str, Any]
    ) -> list[RunRequest]:
        """One request for each output. Raises UsageError with what is wrong with any of them."""
        given = of_kind("output", output, str | list | tuple, "a name, or a list of names")
        names = [given] if isinstance(given, str) else given
        if not names:
            raise UsageError(
                "There is no output.", hint="Name at least one: `devpipe list outputs`."
            )
        faults = Faults()
        found = [faults.attempt(self.request, prompt, pipeline, name, options) for name in names]
        faults.raise_any()
        return [request for request in found if request is not None]

    def _configs(self, pipeline: object, output: object, faults: Faults) -> Configs | None:
        """Today's files of these names; None where something is wrong with them."""
        interception = faults.attempt(self._interception, pipeline)
        chosen = faults.attempt(self._output, output)
        if interception is None or chosen is None:
            return None
        return self._configs_today(interception, chosen)

    def _interception(self, name: object) -> InterceptionPipeline:
        return self.catalogue.interception(of_kind("pipeline", name, str, "text"))

    def _output(self, name: object) -> OutputConfig:
        return self.catalogue.output(of_kind("output", name, str, "text"))

    def _configs_today(self, pipeline: InterceptionPipeline, output: OutputConfig) -> Configs:
        """With what an output of today's files refers to; the catalogue saw that it is there."""
        media_pipeline = self.catalogue.media_pipeline(output.pipeline)
        fallbacks = tuple(self.catalogue.output(name) for name in output.fallback)
        return Configs(pipeline, output, media_pipeline, fallbacks)

    def _request(
        self,
        prompt: Prompt | None,
        configs: Configs | None,
        arguments: RunArguments,
        faults: Faults,
    ) -> RunRequest:
        """The request of these arguments by these configs; None where these have faults."""
        level = faults.attempt(self.level, arguments.safety)
        if configs is None:
            raise faults.error()
        texts = faults.attempt(texts_of, prompt, configs.media_pipeline)
        images = faults.attempt(
            read_attachments,
            arguments.pictures,
            output=configs.output.name,
            needed=configs.needed_images,
            optional=configs.optional_images,
        )
        asked = arguments.asked
        parameters = faults.attempt(configs.output.resolve, asked)
        instruction = faults.attempt(_instruction, configs.pipeline, arguments.instruction)
        faults.raise_any()
        return RunRequest(
            configs.pipeline,
            configs.output,
            configs.media_pipeline,
            level or self.settings.safety,
            arguments.text_seed or draw_seed(),
            texts=texts or {},
            images=images or {},
            asked=asked,
            parameters=parameters or {},
            fallbacks=configs.fallbacks,
            seed=arguments.seed,
            instruction=instruction or "",
            labels=arguments.labels,
            batch=arguments.batch,
            provenance=self.settings.provenance,
            boundary=self.settings.boundary,
        )

    def level(self, safety: str | None) -> Level:
        """The level of a run: the workspace's, or a stricter one. Raises UsageError."""
        allowed = self.settings.safety
        if safety is None:
            return allowed
        if safety not in LEVELS:
            raise UnknownName("safety level", str(safety), LEVELS)
        if LEVELS.index(safety) > LEVELS.index(allowed):
            raise UsageError(
                f"Safety {safety!r} is looser than this workspace's {allowed!r}.",
                hint='An adult can change the line `safety = "..."` in devpipe.toml.',
            )
        return safety

    def _stricter(self, recorded: Level) -> Level:
        """The level of a recorded run, or the workspace's where that has become stricter."""
        return min(recorded, self.settings.safety, key=LEVELS.index)

    # Runs that begin with what a recording holds.

    def regenerated(self, source: Recording, changes: Mapping[str, Any]) -> RunRequest:
        """The request of a recorded run with changes, from the first stage that they touch.

        What is not changed is read from the recording, whatever has become of the files; with
        `today` the files are read as they are now.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        wording = given.pop("text", None)
        today = bool(given.pop("today", False))
        recorded = self._recorded(source)
        faults = Faults()
        configs, notes = self._derived_configs(source, recorded, given, today, faults)
        if configs is None:
            faults.attempt(self.level, given.get("safety"))
            raise faults.error()
        prompt = given.pop("prompt", None)
        if prompt is None:
            _require_texts(recorded, source)
            taken = configs.media_pipeline.texts
            prompt = {name: text for name, text in recorded.texts.items() if name in taken}
        options = _kept_options(recorded, configs, given, faults)
        options.setdefault("safety", self._stricter(_started(source).safety))
        arguments = RunArguments.read(options, faults)
        request = self._request(prompt, configs, arguments, faults)
        return self._derived(request, source, recorded, wording, today=today, notes=notes)

    def _derived_configs(
        self,
        source: Recording,
        recorded: RunRequest,
        given: dict[str, Any],
        today: bool,
        faults: Faults,
    ) -> tuple[Configs | None, tuple[str, ...]]:
        """The recording's configs, but for those that are named or to be read as they are now.

        With them comes a note of each file that has changed since.
        """
        started = _started(source)
        named_pipeline = given.pop("pipeline", started.pipeline if today else None)
        named_output = given.pop("output", started.output if today else None)
        pipeline: InterceptionPipeline | None = recorded.pipeline
        output: OutputConfig | None = recorded.output
        notes = []
        if named_pipeline is not None:
            pipeline = faults.attempt(self._interception, named_pipeline)
        elif _differs(self.catalogue.interceptions.get(started.pipeline), recorded.pipeline):
            notes.append(_changed_since(f"pipelines/{started.pipeline}.json"))
        if named_output is not None:
            output = faults.attempt(self._output, named_output)
        elif _differs(self.catalogue.outputs.get(started.output), recorded.output):
            notes.append(_changed_since(f"output_configs/{started.output}.json"))
        if pipeline is None or output is None:
            return None, ()
        if named_output is not None:
            return self._configs_today(pipeline, output), tuple(notes)
        configs = Configs(pipeline, output, recorded.media_pipeline, recorded.fallbacks)
        return configs, tuple(notes)

    def _derived(
        self,
        request: RunRequest,
        source: Recording,
        recorded: RunRequest,
        wording: Prompt | None,
        *,
        today: bool,
        notes: tuple[str, ...],
    ) -> RunRequest:
        """The request as a child of the source, beginning where it differs from it."""
        summary = source.summary
        touched = self._touched(request, recorded, summary, today=today)
        first = _first_stage(request, summary, touched)
        edited: Mapping[str, str] = {}
        if wording is not None:
            edited = texts_of(wording, request.media_pipeline, partly=True)
            first = min(first, "pre_output", key=STAGES.index)
        elif not {"input", "interception"} & touched and first in ("input", "interception"):
            edited = own_wording(summary)
        return replace(
            request,
            parent=source.id,
            relation="regenerated",
            first_stage=first,
            source=summary if first != "input" else None,
            edited=edited,
            notes=notes,
        )

    def _touched(
        self, request: RunRequest, recorded: RunRequest, summary: RunSummary, *, today: bool
    ) -> set[Stage]:
        """The stages whose result would be made of something else than in the recording."""
        wanted = fingerprint_of(request, self.settings.models)
        before = recorded_fingerprint(recorded, summary)
        if not today:  # a derived run reads the recording: who would be asked now is no change
            wanted = wanted.without_models()
        return set(wanted.differences(before))

    def shared(
        self,
        source: Recording,
        prompt: Prompt,
        pipeline: str,
        output: str,
        options: Mapping[str, Any],
    ) -> RunRequest:
        """A request that takes Stages 1 and 2 over from a run of the same text and pipeline."""
        request = self.request(prompt, pipeline, output, options)
        touched = self._touched(request, self._recorded(source), source.summary, today=True)
        first = _first_stage(request, source.summary, touched)
        if STAGES.index(first) < STAGES.index("pre_output"):
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
        started = _started(source)
        request = self.replayed(source)
        summary = source.summary
        for attempt in summary.attempts.values():
            if attempt.started.paid and _would_be_repeated(attempt, summary):
                raise Parked(
                    f"Run {source.id} died while a paid request was under way: it may have been"
                    " charged.",
                    hint=(
                        "Look at the provider's account; then"
                        f" `devpipe regenerate {source.id}` pays once more."
                    ),
                )
        return replace(
            request,
            run_id=source.id,
            parent=started.parent,
            relation=started.relation,
            source=_parent_needed(source, recordings),
            edited={} if own_wording(summary) else started.edited,
            batch=started.batch,
            seed=summary.seed,
            notes=self._asked_otherwise(request, summary),
        )

    def _asked_otherwise(self, request: RunRequest, summary: RunSummary) -> tuple[str, ...]:
        """A note where what is left would be made by others than those the recording names."""
        wanted = fingerprint_of(request, chains_of(request, self.settings.models))
        before = recorded_fingerprint(request, summary)
        parts = [name for names in wanted.differences(before).values() for name in names]
        if not parts:
            return ()
        return (f"Resumed with another {', '.join(parts)} than the run began with.",)

    def replayed(self, source: Recording) -> RunRequest:
        """The very same request, by the configs as they were recorded."""
        started = _started(source)
        summary = source.summary
        request = self._recorded(source)
        _require_texts(request, source)
        return replace(
            request,
            parent=source.id,
            relation="replayed",
            first_stage=started.first_stage,
            source=summary if started.first_stage != "input" else None,
            edited=own_wording(summary),
        )

    def fingerprint(self, source: Recording) -> Fingerprint:
        """What a recorded result was made of. Raises UsageError where nobody can tell."""
        summary = source.summary
        request = replace(self._recorded(source), edited=own_wording(summary))
        return recorded_fingerprint(request, summary)

    def _recorded(self, source: Recording) -> RunRequest:
        """What a recorded run was asked. Raises UsageError where that cannot be understood."""
        started = _started(source)
        configs = recorded_configs(source)
        return RunRequest(
            configs.pipeline,
            configs.output,
            configs.media_pipeline,
            self._stricter(started.safety),
            started.text_seed,
            # all at once, or step by step; none where it had none
            texts=started.texts or source.summary.stages["input"].texts,
            images=recorded_attachments(source),
            asked=started.parameters,
            parameters=configs.output.resolve(started.parameters),
            fallbacks=configs.fallbacks,
            seed=source.summary.seed,
            instruction=started.instruction,
            labels=started.labels,
            batch=started.batch,
            provenance=self.settings.provenance,
            boundary=self.settings.boundary,
        )


def _differs(today: Model | None, recorded: Model) -> bool:
    return today is None or today.spelled != recorded.spelled


def _changed_since(file: str) -> str:
    return (
        f"{file} is not what it was when this run's source was made: its recording was used."
        " Name it, or say today=True, to take the file as it is now."
    )


def _kept_options(
    recorded: RunRequest, configs: Configs, given: Mapping[str, Any], faults: Faults
) -> dict[str, Any]:
    """What a new request takes over from a recorded one, and what is given instead.

    What its pipeline or output has no use for stays behind.
    """
    kept: dict[str, Any] = {
        "text_seed": recorded.text_seed,
        "labels": recorded.labels,
        "batch": recorded.batch,
    }
    if configs.pipeline.user_instruction:
        kept["instruction"] = recorded.instruction
    parameters = RunArguments.read({"parameters": given.get("parameters")}, faults).parameters
    if configs.output.name == recorded.output.name:
        parameters = {**recorded.asked, **parameters}
    taken = {*configs.needed_images, *configs.optional_images}
    kept |= {name: image for name, image in recorded.images.items() if name in taken}
    return {**kept, **given, "parameters": parameters}


def _first_stage(request: RunRequest, summary: RunSummary, touched: set[Stage]) -> Stage:
    """The first stage that has to act again: touched, or without a result in the source."""
    started = summary.started
    if started is None or request.level != started.safety:
        return "input"
    for stage in STAGES[:3]:
        if stage in touched or summary.stages[stage].outcome != "completed":
            return stage
    return "generation"


def texts_of(
    prompt: Prompt | None, media_pipeline: MediaPipeline, *, partly: bool = False
) -> dict[str, str]:
    """The prompt as texts by input name, cleaned. None: they come later, step by step.

    `partly`: the first text may be missing.
    """
    if prompt is None:
        return {}
    texts: dict[Any, Any] = dict(prompt) if isinstance(prompt, Mapping) else {"prompt": prompt}
    for name in map(str, texts):
        if name not in media_pipeline.texts:
            raise UnknownName(f"text of {media_pipeline.name}", name, media_pipeline.texts)
    if "prompt" not in texts and not partly:
        raise UsageError("The text `prompt` is missing.", hint='Give at least {"prompt": "..."}.')
    return {name: clean(text, what=name) for name, text in texts.items()}


def _instruction(pipeline: InterceptionPipeline, instruction: str) -> str:
    if instruction and not pipeline.user_instruction:
        raise UsageError(
            f"Pipeline {pipeline.name!r} takes no instruction of yours.",
            hint="Use the pipeline user_defined.",
        )
    if pipeline.user_instruction and not instruction:
        raise UsageError(
            f"Pipeline {pipeline.name!r} needs your instruction.",
            hint='Give instruction="...".',
        )
    return clean(instruction, what="instruction") if instruction else ""


# What a recording says.


def _started(source: Recording) -> RunStarted:
    started = source.summary.started
    if started is None:
        raise UsageError(
            f"Recording {source.id} has no beginning.",
            hint="Choose another run: `devpipe list recordings`.",
        )
    return started


def recorded_configs(source: Recording) -> Configs:
    """The configs that a recording keeps. Raises UsageError where one cannot be understood."""
    snapshots = _started(source).config
    fallbacks = [name for name in sorted(snapshots) if name.startswith("fallback_")]
    return Configs(
        _restored(InterceptionPipeline, "pipeline", source),
        _restored(OutputConfig, "output", source),
        _restored(MediaPipeline, "media_pipeline", source),
        tuple(_restored(OutputConfig, name, source) for name in fallbacks),
    )


def _restored(model: type[M], name: str, source: Recording) -> M:
    return model.restore(_started(source).config.get(name), run_id=source.id, name=name)


def recorded_fingerprint(recorded: RunRequest, summary: RunSummary) -> Fingerprint:
    """The fingerprint of a recorded run, with the text models that its recording names."""
    return fingerprint_of(recorded, recorded_chains(summary))


def _require_texts(recorded: RunRequest, source: Recording) -> None:
    if not recorded.texts:
        raise UsageError(f"Run {source.id} ended before it had a text.", hint="Start another one.")


def _would_be_repeated(attempt: Attempt, summary: RunSummary) -> bool:
    """Whether a resumed run would ask again for what may have been done, and charged, already."""
    if summary.stages[attempt.started.stage].outcome == "completed":
        return False
    return attempt.finished is None or attempt.finished.outcome in ("failed", "cancelled")


def _parent_needed(source: Recording, recordings: Recordings) -> RunSummary | None:
    """The run whose stages a resumed one still has to take over; None where it has them.

    Raises UsageError where that run has none yet: both died together.
    """
    started = _started(source)
    stages = source.summary.stages
    is_whole = started.first_stage == "input" or stages["interception"].outcome == "completed"
    if is_whole or not started.parent:
        return None
    parent = recordings.find(started.parent).summary
    if stages["input"].outcome == "completed":
        return parent
    needed = STAGES[: min(STAGES.index(started.first_stage), 2)]
    lacks = any(parent.stages[stage].outcome != "completed" for stage in needed)
    if lacks and parent.stages["input"].outcome != "blocked":
        hint = "Start another one."
        if parent.outcome is None:
            hint = f"First `devpipe resume {started.parent}`."
        raise UsageError(
            f"Run {source.id} takes its texts from run {started.parent}, which has none.",
            hint=hint,
        )
    return parent
