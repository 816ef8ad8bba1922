"""A plan: the grid of prompts x pipelines x outputs x seeds x parameters, from YAML, CSV or Python
values.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from devpipe.batch.documents import SUFFIXES, Document, read_document
from devpipe.batch.prompts import AXES, TEXTS, in_words_of_a_plan, plan_of, prompts_of
from devpipe.config.faults import faults_of, json_path
from devpipe.errors import ConfigError, Fault, UnknownName, UsageError
from devpipe.media.sheets import Place, is_sheet, of_another_kind, read_sheet, said
from devpipe.text.clean import clean, visible
from devpipe.values import MAX_SEED, Scalar, canonical_sha256, derived_seed

MAX_ITEMS = 100_000
SHOWN_TEXT = 60  # characters of a prompt in a remark
SHOWN_REMARKS = 10
LARGEST = 10**308  # about what a float holds
TOO_LARGE = "must be a number of at most 308 digits."


def _plain(name: str) -> str:
    if not re.fullmatch(r"[\w-]{1,64}", name):
        raise ValueError(f"must be of at most 64 letters, digits, '-' and '_', not {name[:80]!r}.")
    return name


def _whole(value: object) -> object:
    """7.0 as 7: so tables and other programs write whole numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(TOO_LARGE)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unicode(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"is not valid Unicode (character {error.start}).") from error
    return word


def _unicode_paths(picture: str | dict[str, str]) -> str | dict[str, str]:
    for path in _pictures(picture).values():
        _unicode(path)
    return picture


def _free(label: str) -> str:
    """A label that a plan may give."""
    if label == LABEL:
        raise ValueError("is the label by which a batch finds its cells. Call yours otherwise.")
    return label


def _usable(value: Any) -> Any:
    """A text or number that can be sent."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"holds a NUL, which no text holds: {value[:SHOWN_TEXT]!r}.")
        _unicode(value)
    elif isinstance(value, float | int) and not abs(value) < LARGEST:
        raise ValueError(TOO_LARGE)
    return value


Name = Annotated[str, AfterValidator(_plain)]
Word = Annotated[str, AfterValidator(_unicode)]
Label = Annotated[Word, AfterValidator(_free)]
Text = Annotated[str, AfterValidator(_usable)]
Value = Annotated[Scalar, AfterValidator(_usable)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MAX_SEED, strict=True)]
Pictures = dict[Literal["image", "mask", "control"], str]
WORDING = ("instruction", "prompt_2", "negative_prompt")
SEED_AXES = ("seeds", "text_seeds")
LABEL = "item"  # of a cell's runs: the cell's key
TEXT_AXES = tuple(AXES[name] for name in TEXTS)


@dataclass(frozen=True, slots=True)
class Item:
    """One cell of the grid: what one run is asked."""

    prompt: str
    pipeline: str
    output: str
    seed: int
    text_seed: int
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    images: Mapping[str, str] = field(
        default_factory=dict
    )  # paths by what they are: image, mask, control
    repeat: int = 0
    wording: Mapping[str, str] = field(
        default_factory=dict
    )  # what else is said, where it is: instruction, prompt_2, negative_prompt
    copy: int = 0  # of equal cells that are all made: which one

    @property
    def texts(self) -> str | dict[str, str]:
        """The prompt, with the second one where there is one."""
        if "prompt_2" not in self.wording:
            return self.prompt
        return {"prompt": self.prompt, "prompt_2": self.wording["prompt_2"]}

    @property
    def key(self) -> str:
        """Names the cell in the recordings, so that a second try finds what the first has done."""
        parts: list[Any] = [
            self.prompt,
            self.pipeline,
            self.output,
            self.seed,
            self.text_seed,
            dict(self.parameters),
            dict(self.images),
            self.repeat,
        ]
        if self.wording or self.copy:  # others have the keys they had before there were these
            parts += [dict(self.wording), self.copy]
        return canonical_sha256(parts)[:16]


class Plan(BaseModel):
    """The product of its lists, unless zipped. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(
        description="Names the batch; the same plan run again goes on where it ended."
    )
    prompts: list[Text] = Field(
        min_length=1,
        description="Texts, or a file: .csv or .xlsx with a column `prompt`, .txt with one a line.",
    )
    prompts_2: list[Text] = Field([], description="Second texts, for outputs that take two.")
    instructions: list[Text] = Field(
        [], description="Your own, for pipelines that take one: user_defined."
    )
    negative_prompts: list[Text] = Field([], description="What must not appear.")
    pipelines: list[Word] = Field(["passthrough"], min_length=1)
    outputs: list[Word] = Field(["sketch"], min_length=1)
    seeds: list[Seed] = Field(
        [1], min_length=1, description="Of the medium: the same ones in every cell."
    )
    text_seeds: list[Seed] = Field([1], min_length=1, description="Of Stages 1 and 2.")
    parameters: dict[Word, Annotated[list[Value], Field(min_length=1)]] = {}
    images: list[Annotated[str | Pictures, AfterValidator(_unicode_paths)]] = Field(
        [],
        description="Paths, or {image: ..., mask: ..., control: ...}; seen from the plan's file.",
    )
    zip: list[list[Word]] = Field(
        [], description="Groups of lists to go through side by side instead of crossing them."
    )
    exclude: list[dict[Word, Value]] = Field(
        [], description="Cells to leave out: those that agree with every value given."
    )
    repeats: int = Field(1, ge=1, le=1000)
    safety: Word | None = None
    labels: dict[Label, Text] = {}
    keep_duplicates: bool = Field(
        False, description="Make each of several equal prompts, instead of one of them."
    )
    _folder: Path = PrivateAttr(Path("."))
    _places: Mapping[str, Place] = PrivateAttr({})  # by JSON path

    @classmethod
    def read(cls, source: Plan | Mapping[str, Any] | str | Path) -> Plan:
        """A plan from Python values or a file.

        .yaml and .json say a plan, .csv and .xlsx one cell a row, .txt one prompt a line. Raises
        UsageError, ConfigError.
        """
        if isinstance(source, Plan):
            return source
        if isinstance(source, Mapping):
            return cls._valid(Document(dict(source), {}), "plan", Path("."))
        path = Path(source)
        if is_sheet(path):
            document = plan_of(read_sheet(path, needed=("prompt",)), cls._unwritten())
        elif path.suffix.lower() in (*SUFFIXES, ""):
            document = read_document(path)
        else:
            raise UsageError(
                f"Plan {path} is of a kind that nobody reads.",
                hint=of_another_kind(path) or "Give a .yaml, .json, .csv, .txt or .xlsx file.",
            )
        named = replace(document, values={"name": _name(path)} | document.values)
        return cls._valid(named, path.name, path.parent)

    @classmethod
    def _unwritten(cls) -> dict[str, Any]:
        """What each list says of a cell where nothing is written."""
        defaults = {axis: cls.model_fields[axis].default for axis in AXES.values()}
        return {
            axis: values[0] if isinstance(values, list) and values else ""
            for axis, values in defaults.items()
        }

    @classmethod
    def _valid(cls, document: Document, file: str, folder: Path) -> Plan:
        values = dict(document.values)
        places = dict(document.places)
        prompts = values.get("prompts")
        hint = of_another_kind(Path(prompts)) if isinstance(prompts, str) else ""
        if hint:
            fault = Fault(file, "$.prompts", f"{prompts} is of a kind that nobody reads.")
            raise ConfigError([_placed(fault, places)], hint=hint)
        if isinstance(prompts, str) and is_sheet(Path(prompts)):
            values["prompts"], found = prompts_of(folder / prompts)
            for index, place in enumerate(found):
                places[f"$.prompts[{index}]"] = place
        try:
            plan = cls.model_validate(values)
        except ValidationError as error:
            raise _unfit(error, cls, file, places) from error
        if plan.negative_prompts and "negative_prompt" in plan.parameters:
            raise UsageError(
                f"Plan {plan.name!r} has both negative_prompts and parameters.negative_prompt.",
                hint="Delete one.",
            )
        plan._folder = folder
        plan._places = places
        plan.items()
        return plan

    @property
    def batch(self) -> str:
        """The batch's name in the recordings: the plan's, however its grid grows."""
        return self.name

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of the plan, a line each: prompts that are done once."""
        if self.keep_duplicates:
            return ()
        axes = self._axes()
        (group,) = (group for group in self._zipped(axes) if "prompts" in group)
        lines = []
        for indices in _equals(group, axes):
            text = " ".join(self.prompts[indices[0]].split())
            lines.append(f"  done once: {text:.{SHOWN_TEXT}} ({self._where('prompts', indices)})")
        if len(lines) > SHOWN_REMARKS:
            lines[SHOWN_REMARKS:] = [f"  and {len(lines) - SHOWN_REMARKS} more of such"]
        if lines:
            lines.insert(
                0, "equal prompts; --keep-duplicates (`keep_duplicates: true`) makes each:"
            )
        return tuple(lines)

    def where(self, prompt: str) -> str:
        """Where a prompt stands, as people say it."""
        return self._where("prompts", [n for n, text in enumerate(self.prompts) if text == prompt])

    def _where(self, axis: str, indices: Sequence[int]) -> str:
        paths = [json_path("$", axis, index) for index in indices]
        places = [self._places[path] for path in paths if path in self._places]
        return said(places) if places else ", ".join(paths)

    def fault(self, item: Item, error: UsageError) -> Fault:
        """What is wrong with a cell: where its prompt stands, if it is that which is wrong."""
        file = f"plan {self.name}"
        try:
            clean(item.prompt)
        except UsageError:
            file = f"{file}, {self.where(item.prompt)}"
        where = f"{item.pipeline} > {item.output}, {item.prompt[:40]!r}"
        return Fault(file, where, in_words_of_a_plan(str(error)))

    def items(self) -> list[Item]:
        """Every cell of the grid. Raises UsageError where the plan does not say one."""
        found = [
            self._item(chosen, repeat, copy)
            for chosen, copy in self._chosen(self._axes())
            for repeat in range(self.repeats)
        ]
        if not found:
            raise UsageError(f"Plan {self.name!r} has no cell left.", hint="Exclude less.")
        return found

    def asked(self, item: Item) -> dict[str, Any]:
        """The keywords of `engine.start` for one cell, without its texts."""
        images = {name: self._folder / path for name, path in item.images.items()}
        parameters = dict(item.parameters)
        if "negative_prompt" in item.wording:
            parameters["negative_prompt"] = item.wording["negative_prompt"]
        return {
            "pipeline": item.pipeline,
            "output": item.output,
            "seed": item.seed,
            "text_seed": item.text_seed,
            "instruction": item.wording.get("instruction"),
            "parameters": parameters,
            "safety": self.safety,
            "labels": self.labels,
            "batch": self.batch,
            **images,
        }

    def _axes(self) -> dict[str, Sequence[Any]]:
        return {
            "prompts": self.prompts,
            "prompts_2": self.prompts_2 or [""],
            "instructions": self.instructions or [""],
            "pipelines": self.pipelines,
            "text_seeds": self.text_seeds,
            "outputs": self.outputs,
            "negative_prompts": self.negative_prompts or [""],
            "seeds": self.seeds,
            "images": self.images or [""],
            **self.parameters,
        }

    def _zipped(self, axes: Mapping[str, Sequence[Any]]) -> list[list[str]]:
        """All axes in groups; the axes of a group go side by side."""
        named = [name for group in self.zip for name in group]
        for name in named:
            if name not in axes:
                raise UnknownName(f"list to zip in plan {self.name!r}:", name, axes)
            if named.count(name) > 1:
                raise UsageError(
                    f"Plan {self.name!r} zips {name!r} twice.", hint="Name each list once."
                )
        for group in self.zip:
            if len({len(axes[name]) for name in group}) > 1:
                raise UsageError(
                    f"Plan {self.name!r} zips lists of different length: {', '.join(group)}.",
                    hint="Make them equally long.",
                )
        return [
            *(group for group in self.zip if group),
            *([name] for name in axes if name not in named),
        ]

    def _chosen(self, axes: Mapping[str, Sequence[Any]]) -> Iterator[tuple[dict[str, Any], int]]:
        """One value of each axis, in every combination that is not excluded.

        With it comes which one of several equal combinations it is.
        """
        self._refuse_unknown_rules(axes)
        groups = self._zipped(axes)
        size = self.repeats * math.prod(len(axes[group[0]]) for group in groups)
        if size > MAX_ITEMS:
            raise UsageError(
                f"Plan {self.name!r} has {size:,} cells; at most {MAX_ITEMS:,} are possible.",
                hint="Split it.",
            )
        for positions in itertools.product(*(self._positions(group, axes) for group in groups)):
            chosen = {
                name: axes[name][position.index]
                for group, position in zip(groups, positions, strict=True)
                for name in group
            }
            if not any(_agrees(rule, chosen) for rule in self.exclude):
                yield chosen, sum(position.copy for position in positions)

    def _refuse_unknown_rules(self, axes: Mapping[str, Sequence[Any]]) -> None:
        """Refuse rules that can leave nothing out. Raises UsageError."""
        rules = enumerate(self.exclude)
        for index, name, value in ((n, *pair) for n, rule in rules for pair in rule.items()):
            axis = AXES.get(name, name)
            if axis not in axes:
                known = [*AXES, *self.parameters]
                raise UnknownName(f"list to exclude by in plan {self.name!r}:", name, known)
            if not any(_is_same(value, one, axis) for one in axes[axis]):
                path = json_path("$", "exclude", index, name)
                message = f"{value!r} is not in {axis}, so it leaves nothing out."
                fault = _placed(Fault(f"plan {self.name}", path, message), self._places)
                raise ConfigError([fault], hint="Mend the plan.")

    def _positions(self, group: list[str], axes: Mapping[str, Sequence[Any]]) -> list[_Position]:
        """The places along one group of lists; of equal ones the first, unless each is made.

        Raises UsageError where another list than the prompts says the same twice.
        """
        copies = {}
        for indices in _equals(group, axes):
            if "prompts" not in group:
                raise UsageError(
                    f"Plan {self.name!r} has the same cell twice: {' and '.join(group)} say"
                    f" {axes[group[0]][indices[0]]!r} twice ({self._where(group[0], indices)}).",
                    hint="Delete one; `repeats` repeats.",
                )
            copies.update({index: copy for copy, index in enumerate(indices)})
        return [
            _Position(index, copies.get(index, 0))
            for index in range(len(axes[group[0]]))
            if self.keep_duplicates or not copies.get(index)
        ]

    def _item(self, chosen: Mapping[str, Any], repeat: int, copy: int) -> Item:
        seed = chosen["seeds"]
        return Item(
            chosen["prompts"],
            chosen["pipelines"],
            chosen["outputs"],
            derived_seed(seed, "repeat", repeat) if repeat else seed,
            chosen["text_seeds"],
            {name: chosen[name] for name in self.parameters},
            _pictures(chosen["images"]),
            repeat,
            {name: chosen[AXES[name]] for name in WORDING if chosen[AXES[name]]},
            copy,
        )


@dataclass(frozen=True, slots=True)
class _Position:
    """One step along lists that go side by side."""

    index: int
    copy: int  # of equal ones: which one


def _equals(group: Sequence[str], axes: Mapping[str, Sequence[Any]]) -> list[list[int]]:
    """Where lists that go side by side say the same as somewhere else."""
    indices: dict[str, list[int]] = {}
    for index in range(len(axes[group[0]])):
        values = [_identity(name, axes[name][index]) for name in group]
        indices.setdefault(canonical_sha256(values), []).append(index)
    return [found for found in indices.values() if len(found) > 1]


def _identity(axis: str, value: Any) -> Any:
    """What tells a value of a list from the others: of a text, what would be asked."""
    if axis == "images":
        return _pictures(value)
    if axis in TEXT_AXES:
        return visible(value).strip()
    return value


def _pictures(value: str | dict[str, str]) -> dict[str, str]:
    if isinstance(value, str):
        return {"image": value} if value else {}
    return value


def _agrees(rule: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    """Whether a combination has every value of a rule; an empty rule says nothing."""
    if not rule:
        return False
    pairs = [(AXES.get(name, name), value) for name, value in rule.items()]
    return all(_is_same(value, chosen[axis], axis) for axis, value in pairs)


def _is_same(wanted: Scalar, value: object, axis: str) -> bool:
    """Whether a rule's value is that of a list; `true` is not 1, which Python takes for equal."""
    if axis in SEED_AXES:
        wanted = _whole(wanted)  # type: ignore[assignment]  # a Scalar stays one
    return type(wanted) is type(value) and wanted == value


def _unfit(
    error: ValidationError, model: type[BaseModel], file: str, places: Mapping[str, Place]
) -> UsageError:
    """What is wrong with a plan, each fault with its line."""
    try:
        faults = [_placed(fault, places) for fault in faults_of(error, model, file)]
    except (RecursionError, ValueError):  # Python values: no message can show them
        return UsageError(
            f"Plan {file} is nested too deep, or has a number of too many digits.", hint="Mend it."
        )
    return ConfigError(faults, hint="Mend the plan.")


def _placed(fault: Fault, places: Mapping[str, Place]) -> Fault:
    """The fault with the line of its value, or of what holds that."""
    ends = [match.start() for match in re.finditer(r"[.\[]|\Z", fault.path)]
    for end in reversed(ends):
        if fault.path[:end] in places:
            return replace(fault, file=str(places[fault.path[:end]]))
    return fault


def _name(path: Path) -> str:
    return re.sub(r"[^\w-]+", "-", path.stem)[:64]
