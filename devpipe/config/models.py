"""Which pipelines and outputs there are: `pipelines/*.json` and `output_configs/*.json`, read
strictly, each fault named.

A file says what, in typed fields: no placeholders, conditions or routing. A broken file never stops
the others. The JSON Schemas in
`schemas/` come from these models: `python -m devpipe.config.models` writes them.
"""

from __future__ import annotations

import json
import math
import operator
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from devpipe.comfyui.checker import binding_faults, shape_fault
from devpipe.errors import ConfigError, Fault, UnknownName, UsageError, nearest, offer
from devpipe.values import (
    MAX_PROMPT_CHARACTERS,
    Binding,
    Scalar,
    Workflow,
    canonical_json,
    canonical_sha256,
)

MAX_FILE_BYTES = 256 * 1024
MAX_GRAPH_BYTES = 512 * 1024  # an event of a recording holds 1 MB
MAX_DEPTH = 32
MAX_NUMBER = 2**63
NAME = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
STYLE = r"^([a-z][a-z0-9]*(_[a-z0-9]+)*)?$"
LANGUAGE = r"^[a-z]{2}$"
LANGUAGE_OR_NONE = r"^([a-z]{2})?$"
LANGUAGE_OR_SAME = r"^(same|[a-z]{2})$"
GRAPH = r"^([A-Za-z0-9][A-Za-z0-9_-]*\.json)?$"
PATTERNS: Mapping[str, str] = {
    NAME: "lower-case words joined by _, e.g. stille_post",
    STYLE: "empty, or lower-case words joined by _",
    LANGUAGE: "a language code of two letters, e.g. de",
    LANGUAGE_OR_NONE: "empty, or a language code of two letters, e.g. en",
    LANGUAGE_OR_SAME: "'same', or a language code of two letters, e.g. de",
    GRAPH: "the name of a .json file in output_configs/graphs, without folders",
    r"\S": "text that is not empty",
}
SYNONYMS: Mapping[str, str] = {  # vendors' spellings of our parameters
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "scale": "guidance_scale",
    "num_inference_steps": "steps",
    "inference_steps": "steps",
    "num_steps": "steps",
    "sampling_steps": "steps",
    "denoise": "strength",
    "denoising_strength": "strength",
    "image_strength": "strength",
    "prompt_strength": "strength",
    "num_frames": "frames",
    "frame_count": "frames",
    "length": "frames",
    "frame_rate": "fps",
    "framerate": "fps",
    "duration": "seconds",
    "duration_seconds": "seconds",
    "seconds_total": "seconds",
    "audio_length": "seconds",
    "n": "count",
    "num_images": "count",
    "num_outputs": "count",
    "batch_size": "count",
    "samples": "count",
    "negative": "negative_prompt",
    "neg_prompt": "negative_prompt",
    "noise_seed": "seed",
    "random_seed": "seed",
}


@dataclass(frozen=True, slots=True)
class _Around:
    """What one file is checked against: its own name and what it may refer to."""

    stem: str
    names: frozenset[str]  # of all files in its folder
    media: Mapping[str, MediaPipeline]  # the usable ones
    broken: frozenset[str]  # pipelines with faults
    procedures: Sequence[str]
    backends: Sequence[str]
    graphs: Path


def _own_name(name: str, info: ValidationInfo) -> str:
    around: _Around | None = info.context
    if around and name != around.stem:
        owner = (
            f"{name!r} is the name of {name}.json already"
            if name in around.names
            else f"{name!r} is not the name of the file"
        )
        raise ValueError(f"{owner}. Allowed: {around.stem!r}; or rename the file.")
    return name


def _own_spelling(name: str) -> str:
    if name in SYNONYMS:
        raise ValueError(f"{name!r} is a vendor's spelling: write {SYNONYMS[name]!r}.")
    if name == "seed":
        raise ValueError("every run has its seed: it is not declared here. Delete it.")
    return name


def _procedure(name: str, info: ValidationInfo) -> str:
    return _one_of("procedure", name, info.context.procedures if info.context else (name,))


def _backend(name: str, info: ValidationInfo) -> str:
    return _one_of("backend", name, info.context.backends if info.context else (name,))


def _one_of(kind: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; {offer(name, known)}")
    return name


def _scalar(value: object) -> object:
    if not isinstance(value, str | int | float | bool) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError("must be a text, a finite number, true or false.")
    return value


Text = Annotated[str, Field(pattern=r"\S")]
Language = Annotated[str, Field(pattern=LANGUAGE)]
Name = Annotated[str, Field(pattern=NAME, max_length=64)]
OwnName = Annotated[Name, AfterValidator(_own_name)]
ParameterName = Annotated[Name, AfterValidator(_own_spelling)]
ProcedureName = Annotated[Name, AfterValidator(_procedure)]
BackendName = Annotated[Name, AfterValidator(_backend)]
Value = Annotated[Scalar, BeforeValidator(_scalar)]
Picture = Literal["image", "mask", "control"]
OutputMedium = Literal["image", "video", "sound"]  # a text is no output: Stages 1 to 3 write it
ParameterType = Literal["integer", "number", "string", "boolean"]


class Model(BaseModel):
    """Base of what a configuration file holds: unknown keys and wrong types are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def snapshot(self) -> dict[str, Any]:
        """The configuration as JSON values, as a recording keeps it."""
        return self.model_dump(mode="json", by_alias=True, exclude={"schema_"})

    @cached_property
    def spelled(self) -> str:
        """The snapshot's canonical JSON."""
        return canonical_json(self.snapshot())

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """The configuration that a recording kept, whatever the files say today."""
        return cls.model_validate_json(json.dumps(dict(snapshot)))


class Words(Model):
    """A text in English and in German."""

    en: Text = Field(description="English.")
    de: Text = Field(description="German.")

    def in_(self, language: str) -> str:
        """German for `de`, English for every other language."""
        return self.de if language == "de" else self.en


class Step(Model):
    """One rewriting of the text."""

    name: Name = Field(description="Unique in the file.")
    instruction: Words = Field(
        description="What the language model is told: 150 to 400 words each."
    )
    procedure: ProcedureName = Field(
        description="The procedure that stands in where no language model is configured."
    )
    iterations: int = Field(
        1,
        ge=1,
        le=32,
        description="How often the step is repeated on its own result; each is recorded.",
    )
    languages: tuple[Language, ...] = Field(
        (), max_length=32, description="Iteration i is written in languages[i % n]."
    )
    output_language: str = Field(
        "same",
        pattern=LANGUAGE_OR_SAME,
        description="Language of the result; same: that of the input.",
    )
    parts: tuple[Name, ...] = Field(
        (),
        max_length=8,
        description="Names of the parts to answer with: the texts of a media pipeline.",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="Of the language model; null: its own default."
    )


class _Titled(Model):
    schema_: str = Field("", alias="$schema", description="The schema of this file, for editors.")
    name: OwnName = Field(description="The name of the file without .json.")
    version: int = Field(ge=1, description="Raise it when a change alters what comes out.")
    title: Words = Field(description="What people read in a list.")
    description: Words = Field(description="One sentence.")


class InterceptionPipeline(_Titled):
    """How a text is rewritten."""

    kind: Literal["interception"] = Field(description="What kind of pipeline this is.")
    style: str = Field(
        "", pattern=STYLE, description="The manner in which backends that draw by rule show it."
    )
    user_instruction: bool = Field(
        False, description="True: the user's own words are the instruction."
    )
    translate: bool = Field(
        False,
        description="True: Stage 1 translates the input to English where a text model is there.",
    )
    correct: bool = Field(
        False,
        exclude_if=operator.not_,
        description="True: Stage 1 corrects spelling and grammar where a text model is there.",
    )  # not in snapshots where unset: those of older recordings stay equal
    steps: tuple[Step, ...] = Field(
        max_length=16, description="In this order; none: the text stays as it is."
    )

    @cached_property
    def rewriting_sha256(self) -> str:
        """Hash of how a text is rewritten, without names and what people only read."""
        snapshot = self.snapshot()
        return canonical_sha256({"steps": snapshot["steps"], "version": snapshot["version"]})

    @field_validator("steps")
    @classmethod
    def _steps_fit(cls, steps: tuple[Step, ...], info: ValidationInfo) -> tuple[Step, ...]:
        names = [step.name for step in steps]
        faults = [
            f"two steps are named {name!r}"
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        faults += [
            f"step {step.name!r} answers in parts, which only the last may"
            for step in steps[:-1]
            if step.parts
        ]
        around: _Around | None = info.context
        allowed = [media.texts for media in around.media.values()] if around else []
        if around and steps and steps[-1].parts and steps[-1].parts not in allowed:
            texts = " or ".join(sorted(str(list(a)) for a in allowed if len(a) > 1)) or "none"
            faults.append(
                f"the parts of step {names[-1]!r} are the texts of no media pipeline. Allowed:"
                f" {texts}"
            )
        if faults:
            raise ValueError("; ".join(faults) + ".")
        return steps


class MediaPipeline(_Titled):
    """Which texts and pictures a generation takes."""

    kind: Literal["media"] = Field(description="What kind of pipeline this is.")
    texts: tuple[Name, ...] = Field(
        min_length=1, max_length=8, description="Names of the texts: prompt, prompt_2."
    )
    images: tuple[Picture, ...] = Field(
        (), description="Pictures a generation needs where the output names none."
    )
    optional_images: tuple[Picture, ...] = Field(
        (), description="Pictures that an output may need or take."
    )


class Parameter(Model):
    """One thing that can be set for an output."""

    type: ParameterType = Field(description="What kind of value.")
    title: Words | None = Field(None, description="What people read beside the control.")
    description: Words = Field(description="One sentence: what it changes, in which unit.")
    minimum: float | None = Field(None, description="Smallest value, for integer and number.")
    maximum: float | None = Field(None, description="Largest value, for integer and number.")
    multiple_of: float | None = Field(
        None, gt=0, description="The value is a multiple of it, for integer and number."
    )
    choices: tuple[Value, ...] = Field((), description="The only values, where given.")
    default: Value = Field(description="The value where nobody says one.")

    @field_validator("minimum", "maximum", "multiple_of")
    @classmethod
    def _numeric(cls, limit: float | None, info: ValidationInfo) -> float | None:
        if limit is not None and info.data.get("type") in ("string", "boolean"):
            raise ValueError(f"a {info.data['type']} has no {info.field_name}. Delete it.")
        lowest = info.data.get("minimum")
        if (
            info.field_name == "maximum"
            and limit is not None
            and lowest is not None
            and limit < lowest
        ):
            raise ValueError(f"is below the minimum. Allowed: {lowest:g} or more.")
        return limit

    @field_validator("choices", "default")
    @classmethod
    def _fits(
        cls, value: Scalar | tuple[Scalar, ...], info: ValidationInfo
    ) -> Scalar | tuple[Scalar, ...]:
        minimum, maximum, multiple_of = (
            info.data.get(limit) for limit in ("minimum", "maximum", "multiple_of")
        )
        for one in value if isinstance(value, tuple) else (value,):
            problem = "type" in info.data and _problem(
                one, info.data["type"], minimum, maximum, multiple_of, info.data.get("choices", ())
            )
            if problem:
                raise ValueError(f"{problem}, not {_shown(one)}.")
        return value

    def problem(self, value: Scalar) -> str:
        """What is wrong with a value for this parameter; empty where nothing is."""
        return _problem(
            value, self.type, self.minimum, self.maximum, self.multiple_of, self.choices
        )

    def cast(self, value: Scalar) -> Scalar:
        """The one spelling of a value that has no problem: equal values are recorded, hashed and
        sent alike.
        """
        kinds: Mapping[str, type[Scalar]] = {
            "integer": int,
            "number": float,
            "string": str,
            "boolean": bool,
        }
        return kinds[self.type](value)

    def parse(self, text: str) -> Scalar:
        """The value that a text from the command line means; the text itself where it means none of
        this type.
        """
        if self.type == "integer" and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            return int(text)
        if self.type == "number" and re.fullmatch(
            r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text
        ):
            return float(text)
        return (
            {"true": True, "false": False}.get(text.lower(), text)
            if self.type == "boolean"
            else text
        )


class Bound(Model):
    """An input of a node of the graph."""

    node: Text = Field(description="The node's number in the graph.")
    input: Text = Field(description="The name of its input.")
    title: str = Field(
        "", description="The node's title, where it is to be the one with this title; checked."
    )


class ModelFile(Model):
    """A file that the graph needs on the server."""

    file: Text = Field(description="Its name, as the graph has it.")
    folder: Text = Field(description="The folder under ComfyUI's models/ in which it belongs.")
    from_: str = Field(
        "",
        alias="from",
        description="Where it comes from: a repository on Hugging Face, or an address.",
    )


class OutputConfig(_Titled):
    """Which medium, by which backend, model and parameters, at which price."""

    pipeline: Name = Field(description="The media pipeline whose texts and pictures it takes.")
    images: tuple[Picture, ...] = Field(
        (), description="The media pipeline's pictures that this output needs; none: as it says."
    )
    medium: OutputMedium = Field(description="What comes out.")
    backend: BackendName = Field(description="Who makes it.")
    model: str = Field("", max_length=256, description="The backend's name of the model.")
    translate_to: str = Field(
        "", pattern=LANGUAGE_OR_NONE, description="Stage 3 translates the text to this language."
    )
    graph: str = Field(
        "", pattern=GRAPH, description="A ComfyUI API export in output_configs/graphs."
    )
    bindings: dict[Name, tuple[Bound, ...]] = Field(
        {},
        exclude_if=operator.not_,
        description="Which inputs of the graph take a text, a picture, the seed or a parameter.",
    )  # none of the three is in snapshots where unset: those of older recordings stay equal
    models: tuple[ModelFile, ...] = Field(
        (), exclude_if=operator.not_, description="The files that the graph needs on the server."
    )
    nodes: SkipJsonSchema[dict[str, Any]] = Field(
        {}, exclude_if=operator.not_
    )  # the graph itself: recordings keep it
    fallback: tuple[Name, ...] = Field(
        (),
        max_length=8,
        exclude_if=operator.not_,
        description="Outputs that stand in, in this order, where this one cannot be reached.",
    )
    price_usd: float | None = Field(
        None, ge=0, description="Price of one generation; null: unknown or nothing."
    )
    parameters: dict[ParameterName, Parameter] = Field({}, description="What can be set.")

    @field_validator("pipeline")
    @classmethod
    def _media_pipeline(cls, name: str, info: ValidationInfo) -> str:
        around: _Around | None = info.context
        if around and name not in around.media:
            problem = (
                f"pipelines/{name}.json has faults"
                if name in around.broken
                else f"{name!r} is no media pipeline"
            )
            raise ValueError(f"{problem}; {offer(name, around.media)}")
        return name

    @field_validator("images")
    @classmethod
    def _images_of_pipeline(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        around: _Around | None = info.context
        if around and (media := around.media.get(info.data.get("pipeline", ""))):
            for name in names:
                _one_of(f"picture of {media.name}", name, (*media.images, *media.optional_images))
        return names

    @field_validator("graph")
    @classmethod
    def _graph(cls, name: str, info: ValidationInfo) -> str:
        around: _Around | None = info.context
        if around and name:
            present = sorted(path.name for path in around.graphs.glob("*.json"))
            if name not in present:
                raise ValueError(
                    f"there is no graph {name!r} in output_configs/graphs; {offer(name, present)}"
                )
            nodes, broken = _read(around.graphs / name, limit=MAX_GRAPH_BYTES)
            if broken:
                raise ValueError(f"the graph {name!r} is broken: {broken[0][0]}: {broken[0][1]}")
            if fault := shape_fault(nodes or {}):
                raise ValueError(f"the graph {name!r} {fault}")
        return name

    @field_validator("nodes")
    @classmethod
    def _nodes_of_graph(cls, nodes: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if info.context:
            raise ValueError("stands in a file of its own, which `graph` names. Delete it here.")
        return nodes

    @cached_property
    def making_sha256(self) -> str:
        """Hash of what makes the medium, without names and what people only read or is checked."""
        workflow = self.workflow()
        return canonical_sha256(
            {
                "version": self.version,
                "medium": self.medium,
                "backend": self.backend,
                "model": self.model,
                "translate_to": self.translate_to,
                "workflow": workflow.described() if workflow else None,
            }
        )

    def workflow(self) -> Workflow | None:
        """The graph and where our values go in it; None where the output has none."""
        bound = {
            name: tuple(Binding(one.node, one.input, one.title) for one in some)
            for name, some in self.bindings.items()
        }
        return Workflow(self.nodes, bound) if self.nodes else None

    def resolve(self, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """All parameters to send: the given ones, checked, and the defaults.

        Raises one UsageError that names every fault.
        """
        faults = [self._unknown(name) for name in parameters if name not in self.parameters]
        for name, declared in self.parameters.items():
            if name in parameters and (problem := declared.problem(parameters[name])):
                faults.append(f"{name} {problem}, not {_shown(parameters[name])}")
        if faults:
            takes, said = ", ".join(self.parameters) or "no parameters", "; ".join(faults)
            raise UsageError(
                f"Output {self.name!r}: {said}{'' if said.endswith('?') else '.'}",
                hint=f"It takes: {takes}.",
            )
        return {
            name: declared.cast(parameters.get(name, declared.default))
            for name, declared in self.parameters.items()
        }

    def parse(self, name: str, text: str) -> Scalar:
        """The value that a text from the command line means for this parameter."""
        return self.parameters[name].parse(text) if name in self.parameters else text

    def _unknown(self, name: str) -> str:
        if name == "seed" or SYNONYMS.get(name) == "seed":
            return f"{name!r} is no parameter: give the seed as seed (--seed)"
        ours = SYNONYMS.get(name, "")
        if ours in self.parameters:
            return f"there is no parameter {name!r}: here it is {ours!r}"
        near = nearest(name, self.parameters, count=1)
        return f"there is no parameter {name!r}" + (f", did you mean {near[0]!r}?" if near else "")


def _problem(
    value: Scalar,
    kind: ParameterType,
    low: float | None,
    high: float | None,
    multiple_of: float | None,
    choices: Sequence[Scalar],
) -> str:
    number = (
        isinstance(value, Real) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
    )  # neither NaN nor infinity
    whole = number and isinstance(value, Integral)
    fits = {
        "integer": whole,
        "number": number,
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
    }
    if not fits[kind]:
        return f"must be {'an' if kind == 'integer' else 'a'} {kind}"
    if choices and value not in choices:
        return f"must be {' or '.join(map(_shown, choices))}"
    if isinstance(value, str):
        return (
            f"must have at most {MAX_PROMPT_CHARACTERS:,} characters"
            if len(value) > MAX_PROMPT_CHARACTERS
            else ""
        )
    if (low is not None and value < low) or (high is not None and value > high):
        return f"must be {'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
    if multiple_of and abs(value / multiple_of - round(value / multiple_of)) > 1e-9:
        return f"must be a multiple of {multiple_of:g}"
    return ""


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The usable pipelines and outputs by name, and what is wrong with the others."""

    interceptions: Mapping[str, InterceptionPipeline]
    media: Mapping[str, MediaPipeline]
    outputs: Mapping[str, OutputConfig]
    faults: tuple[Fault, ...]

    def interception(self, name: str) -> InterceptionPipeline:
        """The interception of this name.

        Raises ConfigError where its file is broken, UnknownName where there is none.
        """
        self._refuse_broken("pipelines", name)
        if name in self.media:
            raise UsageError(
                f"{name!r} is a media pipeline.",
                hint=f"Choose an interception: {', '.join(sorted(self.interceptions))}.",
            )
        return _named("pipeline", name, self.interceptions)

    def media_pipeline(self, name: str) -> MediaPipeline:
        """The media pipeline of this name.

        Raises ConfigError where its file is broken, UnknownName where there is none.
        """
        self._refuse_broken("pipelines", name)
        return _named("media pipeline", name, self.media)

    def output(self, name: str) -> OutputConfig:
        """The output of this name.

        Raises ConfigError where its file, pipeline or graph is broken, UnknownName where there is
        none.
        """
        self._refuse_broken("output_configs", name)
        return _named("output", name, self.outputs)

    def required_images(self, output: OutputConfig) -> tuple[str, ...]:
        """The pictures a run to this output must bring: those the output names, else those of its
        media pipeline.
        """
        return output.images or self.media_pipeline(output.pipeline).images

    def optional_images(self, output: OutputConfig) -> tuple[str, ...]:
        """The pictures a run to this output may bring besides; a graph uses exactly those that it
        needs.
        """
        return () if output.nodes else self.media_pipeline(output.pipeline).optional_images

    def _refuse_broken(self, folder: str, name: str) -> None:
        if faults := [fault for fault in self.faults if fault.file == f"{folder}/{name}.json"]:
            raise ConfigError(faults)


_M = TypeVar("_M", bound=_Titled)


def _named(kind: str, name: str, models: Mapping[str, _M]) -> _M:
    if name not in models:
        raise UnknownName(kind, name, models)
    return models[name]


def load_catalogue(home: Path, *, backends: Iterable[str] = ()) -> Catalogue:
    """All usable pipelines and outputs of a workspace, and all faults of all files; `backends` are
    known besides the registered ones.
    """
    from devpipe.backends import registry
    from devpipe.offline.procedures import PROCEDURES

    faults: list[Fault] = []
    pipelines, outputs = _folder(home, "pipelines", faults), _folder(home, "output_configs", faults)
    names, graphs = frozenset(pipelines), home / "output_configs" / "graphs"
    around = _Around(
        "",
        names,
        {},
        frozenset(),
        sorted(PROCEDURES),
        sorted({*registry.known(), *backends}),
        graphs,
    )
    media = _valid(MediaPipeline, "pipelines", _of_kind("media", pipelines), around, faults)
    around = replace(around, media=media)
    interceptions = _valid(
        InterceptionPipeline, "pipelines", _of_kind("interception", pipelines), around, faults
    )
    broken = frozenset(
        PurePath(fault.file).stem for fault in faults if fault.file.startswith("pipelines/")
    )
    valid = _valid(
        OutputConfig,
        "output_configs",
        outputs,
        replace(around, names=frozenset(outputs), broken=broken),
        faults,
    )
    found = {
        stem: config
        for stem, one in valid.items()
        if (config := _with_graph(one, media[one.pipeline], graphs, faults))
    }
    return Catalogue(
        interceptions, media, found, tuple(sorted(faults, key=lambda fault: fault.file))
    )


def _with_graph(
    config: OutputConfig, media: MediaPipeline, graphs: Path, faults: list[Fault]
) -> OutputConfig | None:
    """The output with its graph inside; None where its bindings have faults."""
    nodes = _read(graphs / config.graph, limit=MAX_GRAPH_BYTES)[0] if config.graph else {}
    config = config.model_copy(update={"nodes": nodes or {}})
    kinds: dict[str, str] = {name: parameter.type for name, parameter in config.parameters.items()}
    kinds |= dict.fromkeys((*media.texts, *(config.images or media.images)), "string") | {
        "seed": "integer"
    }
    bound = {name: [one.model_dump() for one in some] for name, some in config.bindings.items()}
    found = (
        list(binding_faults(bound, config.nodes, kinds, config.parameters))
        if config.graph or bound
        else []
    )
    if config.backend == "comfyui" and not config.graph:
        found.append(
            (("graph",), "is missing: ComfyUI runs graphs. Name a file in output_configs/graphs.")
        )
    faults.extend(
        Fault(f"output_configs/{config.name}.json", _path("$", *place), message)
        for place, message in found
    )
    return None if found else config


def _of_kind(kind: str, raws: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The files of a kind; where the kind is wrong, those that look like it: it is then one fault
    among the others.
    """
    return {
        stem: raw
        for stem, raw in raws.items()
        if kind
        == (
            raw["kind"]
            if raw.get("kind") in ("media", "interception")
            else "media"
            if "texts" in raw
            else "interception"
        )
    }


def _folder(home: Path, folder: str, faults: list[Fault]) -> dict[str, dict[str, Any]]:
    """The JSON objects of a folder by file stem; a file that is none is a fault."""
    try:
        entries = sorted((home / folder).iterdir())
    except OSError as error:
        faults.append(
            Fault(
                f"{folder}/",
                "$",
                f"cannot be read: {error.strerror}. Run `devpipe init DIR` for a complete"
                " workspace.",
            )
        )
        return {}
    objects = {}
    for path in entries:
        file = f"{folder}/{path.name}"
        if path.suffix == ".json":
            raw, broken = _read(path)
            faults.extend(Fault(file, at, message) for at, message in broken)
            if raw is not None:
                objects[path.stem] = raw
        elif path.suffix.lower() in (".json", ".jsonc", ".json5", ".yaml", ".yml", ".toml"):
            faults.append(Fault(file, "$", "is not read. Allowed: file names that end in .json."))
    return objects


def _read(
    path: Path, *, limit: int = MAX_FILE_BYTES
) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """A file's JSON object (None where it has none), and its faults as (JSON path, message)."""
    try:
        raw = _parsed(path, limit)
        return raw, list(_doubled(raw, "$"))
    except OSError as error:
        message = f"cannot be read: {error.strerror}. Mend its permissions."
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 at byte {error.start}. Save it as UTF-8."
    except json.JSONDecodeError as error:
        message = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}."
    except ValueError as error:
        message = f"{error}."
    return None, [("$", message)]


def _parsed(path: Path, limit: int) -> _Pairs:
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("is a link, folder or device. Put the file itself there")
    if state.st_size > limit:
        raise ValueError(f"has {state.st_size:,} bytes. Allowed: {limit:,}")
    text = path.read_bytes().decode("utf-8-sig")
    if (depth := _depth(text)) > MAX_DEPTH:
        raise ValueError(f"is nested {depth} deep. Allowed: {MAX_DEPTH}")
    raw = json.loads(text, object_pairs_hook=_Pairs)
    if not isinstance(raw, _Pairs):
        raise ValueError(f"must be an object in braces, not {_shown(raw)}")
    return raw


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which keys it had twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.twice = (
            sorted({name for name in names if names.count(name) > 1})
            if len(self) < len(names)
            else []
        )


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _doubled(value: object, at: str) -> Iterator[tuple[str, str]]:
    """The keys that stand there twice: Python would take the last without a word."""
    if isinstance(value, _Pairs):
        yield from ((_path(at, name), "stands there twice. Delete one.") for name in value.twice)
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in children:
        yield from _doubled(child, _path(at, key))


def _path(at: str, *loc: int | str) -> str:
    for key in loc:
        if key != "[key]":  # pydantic's mark for the key itself
            at += (
                f"[{key}]"
                if isinstance(key, int)
                else f".{key}"
                if re.fullmatch(r"[$\w]+", key)
                else f"[{json.dumps(key)}]"
            )
    return at


def _valid(
    model: type[_M],
    folder: str,
    raws: Mapping[str, dict[str, Any]],
    around: _Around,
    faults: list[Fault],
) -> dict[str, _M]:
    """The files without any fault as models; the faults of the others are added to `faults`."""
    models = {}
    broken = {fault.file for fault in faults}
    for stem, raw in raws.items():
        file = f"{folder}/{stem}.json"
        try:
            found = model.model_validate_json(json.dumps(raw), context=replace(around, stem=stem))
        except ValidationError as error:
            faults.extend(faults_of(error, model, file))
            continue
        if file not in broken:
            models[stem] = found
    return models


def faults_of(error: ValidationError, model: type[BaseModel], file: str) -> list[Fault]:
    """Pydantic's findings in our words: where, what is wrong, what is allowed, the nearest right
    name.
    """
    return [
        Fault(file, _path("$", *detail["loc"]), _message(detail, model))
        for detail in error.errors(include_url=False)
    ]


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    fields = _keys(_holder(model, detail["loc"][:-1]))
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "extra_forbidden":
        return f"is no key known here; {offer(key, fields)}"
    if kind == "missing":
        return f"is missing: {fields[key].description or key}"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    shown = _shown(detail["input"])
    if kind == "literal_error":
        return (
            f"cannot be {shown};"
            f" {offer(str(detail['input']), re.findall(r'[a-z_]{3,}', context['expected']))}"
        )
    if kind == "model_type":
        return (
            f"must be an object with {', '.join(_keys(_holder(model, detail['loc'])))}, not"
            f" {shown}."
        )
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERNS[context['pattern']]}, not {shown}."
    return f"{detail['msg'].removeprefix('Input ')}, not {shown}."


def _holder(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The model that holds the key at this place: of each field's type, the model inside it."""
    for key in loc:
        if field := _keys(model).get(str(key)):
            model = next(_models(field.annotation), model)
    return model


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of the two kinds of files, by file name."""
    pipeline: TypeAdapter[Any] = TypeAdapter(
        Annotated[InterceptionPipeline | MediaPipeline, Field(discriminator="kind")]
    )
    found = {
        "pipeline": pipeline.json_schema(by_alias=True),
        "output_config": OutputConfig.model_json_schema(by_alias=True),
    }
    return {
        f"{name}.schema.json": {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        for name, schema in found.items()
    }


def write_schemas(folder: Path) -> None:
    """Write `schemas()` into a folder, as they are committed."""
    for name, schema in schemas().items():
        (folder / name).write_text(
            json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    write_schemas(Path(__file__).parents[2] / "schemas")
