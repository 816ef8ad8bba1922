"""What may a pipeline and an output config say? Typed fields, checked as strictly as they can be.

A file says what: no placeholders, conditions or routing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from operator import not_
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema

from devpipe.config.backends import PROCEDURES
from devpipe.config.faults import Strict, excerpt, summary_of
from devpipe.config.spelling import (
    GRAPH,
    LANGUAGE,
    LANGUAGE_OR_NONE,
    LANGUAGE_OR_SAME,
    NAME,
    STYLE,
    SYNONYMS,
)
from devpipe.config.strict_json import MAX_GRAPH_BYTES, read_object
from devpipe.config.workflow import shape_fault
from devpipe.errors import UsageError, nearest, offer
from devpipe.values import (
    MAX_PROMPT_CHARACTERS,
    Binding,
    Scalar,
    Workflow,
    canonical_json,
    canonical_sha256,
)

MAX_NUMBER = 2**63
_ROUNDING = 1e-9  # of a number that is to be a multiple of another
_TYPES: Mapping[str, type] = {"integer": Integral, "number": Real, "string": str, "boolean": bool}
_CASTS: Mapping[str, type[Scalar]] = {
    "integer": int,
    "number": float,
    "string": str,
    "boolean": bool,
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What one file is checked against: its own name and what it may refer to."""

    stem: str
    names: frozenset[str]  # of all files in its folder
    media: Mapping[str, MediaPipeline]  # the usable ones
    broken: Mapping[str, str]  # the files of pipelines with faults, by stem
    backends: Collection[str]
    graphs: Path


def _in_workspace(check: Callable[[Any, Surroundings], None]) -> AfterValidator:
    """Check a file's value against what is around it; a recorded config has nothing around it."""

    def checked(value: object, info: ValidationInfo) -> object:
        if info.context:
            check(value, info.context)
        return value

    return AfterValidator(checked)


@_in_workspace
def _own_name(name: str, around: Surroundings) -> None:
    if name == around.stem:
        return
    if name in around.names:
        problem = f"{name!r} is the name of {name}.json already"
    else:
        problem = f"{name!r} is not the name of the file"
    raise ValueError(f"{problem}. Allowed: {around.stem!r}; or rename the file.")


def _own_spelling(name: str) -> str:
    if name in SYNONYMS:
        raise ValueError(f"{name!r} is a vendor's spelling: write {SYNONYMS[name]!r}.")
    if name == "seed":
        raise ValueError("every run has its seed: it is not declared here. Delete it.")
    return name


@_in_workspace
def _procedure(name: str, around: Surroundings) -> None:
    _check_known("procedure", name, PROCEDURES)


@_in_workspace
def _backend(name: str, around: Surroundings) -> None:
    _check_known("backend", name, around.backends)


@_in_workspace
def _media_pipeline(name: str, around: Surroundings) -> None:
    if name in around.media:
        return
    if name in around.broken:
        problem = f"{around.broken[name]} has faults"
    else:
        problem = f"{name!r} is no media pipeline"
    raise ValueError(f"{problem}; {offer(name, around.media)}")


@_in_workspace
def _graph(name: str, around: Surroundings) -> None:
    """Check that the graph is there, and one that a server would read."""
    if not name:
        return
    present = sorted(path.name for path in around.graphs.glob("[A-Za-z0-9]*.json"))
    if name not in present:
        raise ValueError(
            f"there is no graph {name!r} in output_configs/graphs; {offer(name, present)}"
        )
    nodes, faults = read_object(around.graphs / name, limit=MAX_GRAPH_BYTES)
    if faults:
        place, message = faults[0]
        raise ValueError(f"the graph {name!r} is broken: {place}: {message}")
    fault = shape_fault(nodes or {})
    if fault:
        raise ValueError(f"the graph {name!r} {fault}")


@_in_workspace
def _nodes(nodes: Mapping[str, Any], around: Surroundings) -> None:
    raise ValueError("stands in a file of its own, which `graph` names. Delete it here.")


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; {offer(name, known)}")


def _scalar(value: object) -> object:
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not isinstance(value, Scalar) or not is_finite:
        raise ValueError("must be a text, a finite number, true or false.")
    return value


Text = Annotated[str, Field(pattern=r"\S")]
Language = Annotated[str, Field(pattern=LANGUAGE)]
Name = Annotated[str, Field(pattern=NAME, max_length=64)]
OwnName = Annotated[Name, _own_name]
ParameterName = Annotated[Name, AfterValidator(_own_spelling)]
ProcedureName = Annotated[Name, _procedure]
BackendName = Annotated[Name, _backend]
MediaPipelineName = Annotated[Name, _media_pipeline]
GraphName = Annotated[str, Field(pattern=GRAPH), _graph]
Nodes = Annotated[SkipJsonSchema[dict[str, Any]], _nodes]
Value = Annotated[Scalar, BeforeValidator(_scalar)]
Picture = Literal["image", "mask", "control"]
OutputMedium = Literal["image", "video", "sound"]  # a text is no output: Stages 1 to 3 write it
ParameterType = Literal["integer", "number", "string", "boolean"]


class Model(Strict):
    """Base of configurations, and of their parts; a recording keeps them as a snapshot."""

    def snapshot(self) -> dict[str, Any]:
        """The configuration as JSON values, as a recording keeps it."""
        return self.model_dump(mode="json", by_alias=True, exclude={"schema_"})

    @cached_property
    def spelled(self) -> str:
        """The snapshot's canonical JSON."""
        return canonical_json(self.snapshot())

    @classmethod
    def restore(cls, snapshot: object, *, run_id: str = "", name: str = "$") -> Self:
        """The configuration that a recording kept, whatever the files say today.

        Raises one UsageError for a snapshot that is missing (None) or that this version cannot
        read; it names the run, and the config by `name`.
        """
        if isinstance(snapshot, Mapping):
            try:
                return cls.model_validate_json(json.dumps(dict(snapshot)))
            except ValidationError as error:
                problem = summary_of(error, cls, name)
        elif snapshot is None:
            problem = f"{name}: is missing"
        else:
            problem = f"{name}: must be an object, not {excerpt(snapshot)}"
        run = f"Run {run_id}" if run_id else "A run"
        raise UsageError(
            f"{run} was made with a config that this version cannot read: {problem}.",
            hint="It can be looked at, but not made again: use the version that recorded it.",
        )


class Words(Model):
    """A text in English and in German."""

    en: Text = Field(description="English.")
    de: Text = Field(description="German.")

    def in_(self, language: str) -> str:
        """German for `de`, English for every other language."""
        return self.de if language == "de" else self.en


class Length(Model):
    """How long a step's answer may be, and what becomes of one that is cut there."""

    tokens: int = Field(1024, ge=16, le=32_768, description="Tokens that every answer may have.")
    per_character: int = Field(
        0,
        ge=0,
        le=8,
        description="And as many more for each character of the text that the step begins with.",
    )
    cut: Literal["sentence", "refuse"] = Field(
        "refuse",
        description="An answer that is cut there ends at its last whole sentence (else line, else"
        " word), or is refused.",
    )

    def of(self, text: str) -> int:
        """The tokens that the answer to a text may have."""
        return self.tokens + self.per_character * len(text)


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
    length: Length = Field(
        Length(),
        exclude_if=lambda length: length == Length(),
        description="How long the answer may be.",
    )


class Titled(Model):
    schema_: str = Field("", alias="$schema", description="The schema of this file, for editors.")
    name: OwnName = Field(description="The name of the file without .json.")
    version: int = Field(ge=1, description="Raise it when a change alters what comes out.")
    title: Words = Field(description="What people read in a list.")
    description: Words = Field(description="One sentence.")


class InterceptionPipeline(Titled):
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
        exclude_if=not_,
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
        names = Counter(step.name for step in steps)
        faults = [f"two steps are named {name!r}" for name in sorted(names) if names[name] > 1]
        faults += _faults_of_answers(steps)
        if info.context and steps and steps[-1].parts:
            faults += _faults_of_parts(steps[-1], info.context.media)
        if faults:
            raise ValueError("; ".join(faults) + ".")
        return steps


def _faults_of_answers(steps: tuple[Step, ...]) -> Iterator[str]:
    """Check that only the last step answers in parts, and none is cut within them."""
    for step in steps[:-1]:
        if step.parts:
            yield f"step {step.name!r} answers in parts, which only the last may"
    for step in steps:
        if step.parts and step.length.cut == "sentence":
            problem = "answers in parts, which no sentence ends: refuse one that is cut"
            yield f"step {step.name!r} {problem}"


def _faults_of_parts(step: Step, media: Mapping[str, MediaPipeline]) -> list[str]:
    """Check that the parts of a step are the texts of some media pipeline."""
    allowed = [pipeline.texts for pipeline in media.values()]
    if step.parts in allowed:
        return []
    spelled = sorted(str(list(texts)) for texts in allowed if len(texts) > 1)
    return [
        f"the parts of step {step.name!r} are the texts of no media pipeline. Allowed:"
        f" {' or '.join(spelled) or 'none'}"
    ]


class MediaPipeline(Titled):
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
        if limit is None:
            return None
        type_ = info.data.get("type")
        if type_ in ("string", "boolean"):
            raise ValueError(f"a {type_} has no {info.field_name}. Delete it.")
        lowest = info.data.get("minimum")
        if info.field_name == "maximum" and lowest is not None and limit < lowest:
            raise ValueError(f"is below the minimum. Allowed: {lowest:g} or more.")
        return limit

    @field_validator("choices", "default")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        if "type" not in info.data:
            return value  # that is the fault
        declared = cls.model_construct(**info.data)
        for scalar in value if isinstance(value, tuple) else (value,):
            problem = declared.problem(scalar)
            if problem:
                raise ValueError(f"{problem}, not {excerpt(scalar)}.")
        return value

    def cast(self, value: Scalar) -> Scalar:
        """Spell a value that has no problem in the one way of its type.

        Equal values are recorded, hashed and sent alike.
        """
        return _CASTS[self.type](value)

    def problem(self, value: Scalar) -> str:
        """What is wrong with a value for this parameter; empty where nothing is."""
        if not _is_of_type(value, self.type):
            article = "an" if self.type == "integer" else "a"
            return f"must be {article} {self.type}"
        if self.choices and value not in self.choices:
            return f"must be {' or '.join(map(excerpt, self.choices))}"
        if not isinstance(value, str):
            return self._problem_of_size(value)
        if len(value) > MAX_PROMPT_CHARACTERS:
            return f"must have at most {MAX_PROMPT_CHARACTERS:,} characters"
        return ""

    def _problem_of_size(self, value: float) -> str:
        is_below = self.minimum is not None and value < self.minimum
        is_above = self.maximum is not None and value > self.maximum
        if is_below or is_above:
            lowest = "" if self.minimum is None else f"{self.minimum:g}"
            highest = "" if self.maximum is None else f"{self.maximum:g}"
            return f"must be {lowest}..{highest}"
        if self.multiple_of:
            quotient = value / self.multiple_of
            if abs(quotient - round(quotient)) > _ROUNDING:
                return f"must be a multiple of {self.multiple_of:g}"
        return ""


def _is_of_type(value: Scalar, type_: ParameterType) -> bool:
    if not isinstance(value, _TYPES[type_]):
        return False
    if isinstance(value, bool):
        return type_ == "boolean"  # to Python it is a number, too
    return isinstance(value, str) or abs(value) < MAX_NUMBER  # neither NaN nor infinity is


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


class OutputConfig(Titled):
    """Which medium, by which backend, model and parameters, at which price."""

    pipeline: MediaPipelineName = Field(
        description="The media pipeline whose texts and pictures it takes."
    )
    images: tuple[Picture, ...] = Field(
        (), description="The media pipeline's pictures that this output needs; none: as it says."
    )
    medium: OutputMedium = Field(description="What comes out.")
    backend: BackendName = Field(description="Who makes it.")
    model: str = Field("", max_length=256, description="The backend's name of the model.")
    translate_to: str = Field(
        "", pattern=LANGUAGE_OR_NONE, description="Stage 3 translates the text to this language."
    )
    graph: GraphName = Field("", description="A ComfyUI API export in output_configs/graphs.")
    bindings: dict[Name, tuple[Bound, ...]] = Field(
        {},
        exclude_if=not_,
        description="Which inputs of the graph take a text, a picture, the seed or a parameter.",
    )  # none of the three is in snapshots where unset: those of older recordings stay equal
    models: tuple[ModelFile, ...] = Field(
        (), exclude_if=not_, description="The files that the graph needs on the server."
    )
    nodes: Nodes = Field({}, exclude_if=not_)  # the graph itself: recordings keep it
    fallback: tuple[Name, ...] = Field(
        (),
        max_length=8,
        exclude_if=not_,
        description="Outputs that stand in, in this order, where this one cannot be reached.",
    )
    price_usd: float | None = Field(
        None, ge=0, description="Price of one generation; null: unknown or nothing."
    )
    parameters: dict[ParameterName, Parameter] = Field({}, description="What can be set.")

    @field_validator("images")
    @classmethod
    def _images_of_pipeline(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = info.context.media if info.context else {}
        media = known.get(info.data.get("pipeline"))
        if media:
            possible = (*media.images, *media.optional_images)
            for name in names:
                _check_known(f"picture of {media.name}", name, possible)
        return names

    @cached_property
    def making_sha256(self) -> str:
        """Hash of what makes the medium, without names and what people only read or is checked."""
        making = self.model_dump(include={"version", "medium", "backend", "model", "translate_to"})
        workflow = self.workflow()
        making["workflow"] = workflow.described() if workflow else None
        return canonical_sha256(making)

    def workflow(self) -> Workflow | None:
        """The graph and where our values go in it; None without one."""
        if not self.nodes:
            return None
        bindings = {
            name: tuple(Binding(**dict(bound)) for bound in inputs)
            for name, inputs in self.bindings.items()
        }
        return Workflow(self.nodes, bindings)

    def resolve(self, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """All parameters to send: the given ones, checked, and the defaults.

        Raises one UsageError that names every fault.
        """
        faults = [self._unknown(name) for name in parameters if name not in self.parameters]
        values = {}
        for name, declared in self.parameters.items():
            value = parameters.get(name, declared.default)
            problem = declared.problem(value)
            if problem:
                faults.append(f"{name} {problem}, not {excerpt(value)}")
            else:
                values[name] = declared.cast(value)
        if faults:
            said = "; ".join(faults)
            end = "" if said.endswith("?") else "."
            takes = ", ".join(self.parameters) or "no parameters"
            raise UsageError(f"Output {self.name!r}: {said}{end}", hint=f"It takes: {takes}.")
        return values

    def _unknown(self, name: str) -> str:
        """What to say of a name that no parameter of this output has."""
        ours = SYNONYMS.get(name, "")
        if "seed" in (name, ours):
            return f"{name!r} is no parameter: give the seed as seed=N"
        if ours in self.parameters:
            return f"there is no parameter {name!r}: here it is {ours!r}"
        near = nearest(name, self.parameters, count=1)
        if near:
            return f"there is no parameter {name!r}, did you mean {near[0]!r}?"
        return f"there is no parameter {name!r}"
