"""A plan: the grid of prompts x pipelines x outputs x seeds x parameters, from YAML, CSV or Python
values.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from devpipe.config.faults import faults_of
from devpipe.errors import ConfigError, UnknownName, UsageError
from devpipe.values import MAX_SEED, Scalar, canonical_sha256, derived_seed

MAX_ITEMS = 100_000
MAX_BYTES = 16_000_000


def _plain(name: str) -> str:
    if not re.fullmatch(r"[\w-]{1,64}", name):
        raise ValueError(f"must be of at most 64 letters, digits, '-' and '_', not {name[:80]!r}.")
    return name


Name = Annotated[str, AfterValidator(_plain)]
Seed = Annotated[int, Field(ge=1, le=MAX_SEED, strict=True)]
Pictures = dict[Literal["image", "mask", "control"], str]
_COLUMNS = {
    name: f"{name}s" for name in ("prompt", "pipeline", "output", "seed", "text_seed", "image")
}  # of a CSV: as of one cell


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

    @property
    def key(self) -> str:
        """Names the cell in the recordings, so that a second try finds what the first has done."""
        parts = [
            self.prompt,
            self.pipeline,
            self.output,
            self.seed,
            self.text_seed,
            dict(self.parameters),
            dict(self.images),
            self.repeat,
        ]
        return canonical_sha256(parts)[:16]


class Plan(BaseModel):
    """The product of its lists, unless zipped. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(
        description="Names the batch; the same plan run again goes on where it ended."
    )
    prompts: list[str] = Field(
        min_length=1, description="Texts, or a CSV file with a column `prompt`."
    )
    pipelines: list[str] = Field(["passthrough"], min_length=1)
    outputs: list[str] = Field(["sketch"], min_length=1)
    seeds: list[Seed] = Field(
        [1], min_length=1, description="Of the medium: the same ones in every cell."
    )
    text_seeds: list[Seed] = Field([1], min_length=1, description="Of Stages 1 and 2.")
    parameters: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = {}
    images: list[str | Pictures] = Field(
        [],
        description="Paths, or {image: ..., mask: ..., control: ...}; seen from the plan's file.",
    )
    zip: list[list[str]] = Field(
        [], description="Groups of lists to go through side by side instead of crossing them."
    )
    exclude: list[dict[str, Scalar]] = Field(
        [], description="Cells to leave out: those that agree with every value given."
    )
    repeats: int = Field(1, ge=1, le=1000)
    safety: str | None = None
    labels: dict[str, str] = {}
    _folder: Path = PrivateAttr(Path("."))

    @classmethod
    def read(cls, source: Plan | Mapping[str, Any] | str | Path) -> Plan:
        """A plan from Python values, a .yaml or .json file, or a .csv with one row per prompt.

        Raises UsageError, ConfigError.
        """
        if isinstance(source, Plan):
            return source
        if isinstance(source, Mapping):
            return cls._valid(dict(source), "plan", Path("."))
        path = Path(source)
        text = _text(path)
        return cls._valid(
            _from_csv(path, text) if path.suffix.lower() == ".csv" else _from_yaml(path, text),
            path.name,
            path.parent,
        )

    @classmethod
    def _valid(cls, values: dict[str, Any], file: str, folder: Path) -> Plan:
        if isinstance(prompts := values.get("prompts"), str) and prompts.endswith(".csv"):
            path = folder / prompts
            values["prompts"] = [row["prompt"] for row in _rows(path, _text(path))]
        try:
            plan = cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(faults_of(error, cls, file), hint="Mend the plan.") from error
        plan._folder = folder
        plan.items()
        return plan

    @property
    def batch(self) -> str:
        """The batch's name in the recordings: the plan's, however its grid grows."""
        return self.name

    def items(self) -> list[Item]:
        """Every cell of the grid. Raises UsageError where the plan does not say one."""
        axes: dict[str, Sequence[Any]] = {
            "prompts": self.prompts,
            "pipelines": self.pipelines,
            "text_seeds": self.text_seeds,
            "outputs": self.outputs,
            "seeds": self.seeds,
            "images": self.images or [""],
            **self.parameters,
        }
        found = [
            self._item(chosen, repeat)
            for chosen in self._chosen(axes)
            for repeat in range(self.repeats)
        ]
        if not found:
            raise UsageError(f"Plan {self.name!r} has no cell left.", hint="Exclude less.")
        if len({item.key for item in found}) < len(found):
            raise UsageError(
                f"Plan {self.name!r} has the same cell twice.",
                hint="Delete what stands twice in a list; `repeats` repeats.",
            )
        return found

    def asked(self, item: Item) -> dict[str, Any]:
        """The keywords of `engine.start` for one cell, without its prompt."""
        images = {name: self._folder / path for name, path in item.images.items()}
        return {
            "pipeline": item.pipeline,
            "output": item.output,
            "seed": item.seed,
            "text_seed": item.text_seed,
            "parameters": dict(item.parameters),
            "safety": self.safety,
            "labels": self.labels,
            "batch": self.batch,
            **images,
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

    def _chosen(self, axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """One value of each axis, in every combination that is not excluded."""
        for name in (name for rule in self.exclude for name in rule):
            if _COLUMNS.get(name, name) not in axes:
                raise UnknownName(
                    f"list to exclude by in plan {self.name!r}:",
                    name,
                    [*_COLUMNS, *self.parameters],
                )
        groups = self._zipped(axes)
        size = self.repeats * math.prod(len(axes[group[0]]) for group in groups)
        if size > MAX_ITEMS:
            raise UsageError(
                f"Plan {self.name!r} has {size:,} cells; at most {MAX_ITEMS:,} are possible.",
                hint="Split it.",
            )
        for indices in itertools.product(*(range(len(axes[group[0]])) for group in groups)):
            chosen = {
                name: axes[name][index]
                for group, index in zip(groups, indices, strict=True)
                for name in group
            }
            if not any(
                rule
                and all(chosen[_COLUMNS.get(name, name)] == value for name, value in rule.items())
                for rule in self.exclude
            ):
                yield chosen

    def _item(self, chosen: Mapping[str, Any], repeat: int) -> Item:
        seed, images = chosen["seeds"], chosen["images"]
        return Item(
            chosen["prompts"],
            chosen["pipelines"],
            chosen["outputs"],
            derived_seed(seed, "repeat", repeat) if repeat else seed,
            chosen["text_seeds"],
            {name: chosen[name] for name in self.parameters},
            images if isinstance(images, dict) else {"image": images} if images else {},
            repeat,
        )


class _NoAliases(yaml.SafeLoader):
    """YAML without anchors: a few hundred bytes of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def _from_yaml(path: Path, text: str) -> dict[str, Any]:
    try:
        values = (
            json.loads(text)
            if path.suffix.lower() == ".json"
            else yaml.load(text, Loader=_NoAliases)
        )
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(
            f"Plan {path} is not valid: {' '.join(str(error).split())}.", hint="Mend it."
        ) from error
    if not isinstance(values, dict):
        raise UsageError(
            f"Plan {path} is not a table of names and values.", hint="Begin with `name: ...`."
        )
    return {"name": _name(path)} | {str(name): value for name, value in values.items()}


def _from_csv(path: Path, text: str) -> dict[str, Any]:
    """One row, one cell: the columns prompt, pipeline, output, seed, text_seed and image go side by
    side.
    """
    rows = _rows(path, text)
    for column in rows[0]:
        if column not in _COLUMNS:
            raise UnknownName(f"column of a plan ({path.name}):", column, _COLUMNS)
    values: dict[str, Any] = {_COLUMNS[column]: [row[column] for row in rows] for column in rows[0]}
    for name in values.keys() & {"seeds", "text_seeds"}:
        values[name] = [
            int(value) if re.fullmatch(r"\s*\d{1,10}\s*", value) else value
            for value in values[name]
        ]
    return {"name": _name(path), **values, "zip": [list(values)]}


def _rows(path: Path, text: str) -> list[dict[str, str]]:
    first = text.partition("\n")[0]
    try:
        rows = list(
            csv.DictReader(
                io.StringIO(text, newline=""),
                delimiter=";" if ";" in first and "," not in first else ",",
            )
        )
    except csv.Error as error:
        raise UsageError(f"{path} is not CSV: {error}.", hint="Save it as CSV in UTF-8.") from error
    if not rows or "prompt" not in rows[0]:
        raise UsageError(
            f"{path} has no column `prompt`.",
            hint="Its first line names the columns, the others hold one prompt each.",
        )
    return [{name: value or "" for name, value in row.items() if name} for row in rows]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes.", hint="Split it.")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.", hint="Give a .yaml, .json or .csv file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 at byte {error.start}.", hint="Save it as UTF-8."
        ) from error


def _name(path: Path) -> str:
    return re.sub(r"[^\w-]+", "-", path.stem)[:64]
