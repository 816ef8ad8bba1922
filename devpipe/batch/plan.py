"""A plan: the grid of prompts x pipelines x outputs x seeds x parameters, from YAML, CSV or Python values."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devpipe.config import faults_of
from devpipe.errors import ConfigError, UsageError
from devpipe.values import MAX_SEED, Scalar, canonical_sha256, derived_seed

MAX_ITEMS = 100_000
MAX_BYTES = 16_000_000
Seed = Field(ge=1, le=MAX_SEED)
_ROW_COLUMNS = {"prompt": "prompts", "pipeline": "pipelines", "output": "outputs", "seed": "seeds", "text_seed": "text_seeds", "image": "images"}


@dataclass(frozen=True, slots=True)
class Item:
    """One cell of the grid: what one run is asked."""

    prompt: str
    pipeline: str
    output: str
    seed: int
    text_seed: int
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    image: str = ""
    repeat: int = 0

    @property
    def key(self) -> str:
        """Names the cell in the recordings, so that a second try finds what the first has done."""
        parts = [self.prompt, self.pipeline, self.output, self.seed, self.text_seed, dict(self.parameters), self.image, self.repeat]
        return canonical_sha256(parts)[:16]

    @property
    def interception(self) -> tuple[str, str, int, str]:
        """Cells that agree in this share Stages 1 and 2."""
        return self.prompt, self.pipeline, self.text_seed, self.image


class Plan(BaseModel):
    """The product of its lists, unless zipped. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(pattern=r"^[\w-]{1,64}$", description="Names the batch; the same plan run again goes on where it ended.")
    prompts: list[str] | str = Field(min_length=1, description="Texts, or a CSV file with a column `prompt`.")
    pipelines: list[str] = Field(["passthrough"], min_length=1)
    outputs: list[str] = Field(["sketch"], min_length=1)
    seeds: list[int] = Field([1], min_length=1, description="Of the medium: the same ones in every cell.")
    text_seeds: list[int] = Field([1], min_length=1, description="Of Stages 1 and 2.")
    parameters: dict[str, list[Scalar]] = {}
    images: list[str] = []
    zip: list[list[str]] = Field([], description="Groups of lists to go through side by side instead of crossing them.")
    exclude: list[dict[str, Scalar]] = Field([], description="Cells to leave out: those that agree with every value given.")
    repeats: int = Field(1, ge=1, le=1000)
    safety: str | None = None
    labels: dict[str, str] = {}

    @classmethod
    def read(cls, source: Plan | Mapping[str, Any] | str | Path) -> Plan:
        """A plan from Python values, a .yaml or .json file, or a .csv with one row per prompt. Raises UsageError, ConfigError."""
        if isinstance(source, Plan):
            return source
        if isinstance(source, Mapping):
            return cls._valid(dict(source), "plan", Path("."))
        path = Path(source)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise UsageError(f"Plan {path} is larger than {MAX_BYTES} bytes.", hint="Split it.")
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"Plan {path} cannot be read: {error}.", hint="Give a .yaml, .json or .csv file in UTF-8.") from error
        if path.suffix == ".csv":
            return cls._valid(_from_csv(path, text), str(path), path.parent)
        return cls._valid(_from_yaml(path, text), str(path), path.parent)

    @classmethod
    def _valid(cls, values: dict[str, Any], file: str, folder: Path) -> Plan:
        if isinstance(prompts := values.get("prompts"), str) and prompts.endswith(".csv"):
            path = folder / prompts
            values["prompts"] = [row["prompt"] for row in _rows(path, _text(path))]
        try:
            plan = cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(faults_of(error, cls, file), hint="Mend the plan.") from error
        plan.items()
        return plan

    @property
    def batch(self) -> str:
        """The batch's name in the recordings: of this plan with exactly this grid."""
        return f"{self.name}-{canonical_sha256(self.model_dump(mode='json', exclude={'labels'}))[:8]}"

    def items(self) -> list[Item]:
        """Every cell of the grid. Raises UsageError where the plan does not say one."""
        axes = self._axes()
        groups = self._zipped(axes)
        found = [Item(**cell) for cell in self._cells(axes, groups)]
        if not found:
            raise UsageError(f"Plan {self.name!r} has no cell left.", hint="Exclude less.")
        return found

    def _axes(self) -> dict[str, Sequence[Any]]:
        prompts = [self.prompts] if isinstance(self.prompts, str) else self.prompts
        axes: dict[str, Sequence[Any]] = {
            "prompts": prompts, "pipelines": self.pipelines, "text_seeds": self.text_seeds, "outputs": self.outputs, "seeds": self.seeds,
            "images": self.images or [""],
        }  # fmt: skip
        return axes | {name: values for name, values in self.parameters.items()}

    def _zipped(self, axes: Mapping[str, Sequence[Any]]) -> list[list[str]]:
        """All axes in groups; the axes of a group go side by side."""
        for group in self.zip:
            if unknown := [name for name in group if name not in axes]:
                raise UsageError(f"Plan {self.name!r} zips {unknown[0]!r}, which is no list of it.", hint=f"There are: {', '.join(axes)}.")
            if len({len(axes[name]) for name in group}) > 1:
                raise UsageError(f"Plan {self.name!r} zips lists of different length: {', '.join(group)}.", hint="Make them equally long.")
        named = {name for group in self.zip for name in group}
        return [*self.zip, *([name] for name in axes if name not in named)]

    def _cells(self, axes: Mapping[str, Sequence[Any]], groups: list[list[str]]) -> Iterator[dict[str, Any]]:
        size = self.repeats
        for group in groups:
            size *= len(axes[group[0]])
        if size > MAX_ITEMS:
            raise UsageError(f"Plan {self.name!r} has {size} cells; at most {MAX_ITEMS} are possible.", hint="Split it.")
        for indices in itertools.product(*(range(len(axes[group[0]])) for group in groups)):
            chosen = {name: axes[name][index] for group, index in zip(groups, indices, strict=True) for name in group}
            if not any(all(self._matches(chosen, key, value) for key, value in rule.items()) for rule in self.exclude):
                for repeat in range(self.repeats):
                    yield self._cell(chosen, repeat)

    def _matches(self, chosen: Mapping[str, Any], key: str, value: Scalar) -> bool:
        """Exclusions may name an axis as the plan does (`outputs`) or as a cell does (`output`)."""
        name = _ROW_COLUMNS.get(key, key)
        if name not in chosen:
            raise UsageError(f"Plan {self.name!r} excludes by {key!r}, which is no list of it.", hint=f"There are: {', '.join(chosen)}.")
        return bool(chosen[name] == value)

    def _cell(self, chosen: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        seed = chosen["seeds"] if repeat == 0 else derived_seed(chosen["seeds"], "repeat", repeat)
        return {
            "prompt": chosen["prompts"], "pipeline": chosen["pipelines"], "output": chosen["outputs"], "seed": seed,
            "text_seed": chosen["text_seeds"], "image": chosen["images"], "repeat": repeat,
            "parameters": {name: chosen[name] for name in self.parameters},
        }  # fmt: skip


class _NoAliases(yaml.SafeLoader):
    """YAML without anchors: a few hundred bytes of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def _from_yaml(path: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_NoAliases)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"Plan {path} is not valid: {' '.join(str(error).split())}.", hint="Mend it.") from error
    if not isinstance(values, dict):
        raise UsageError(f"Plan {path} is not a table of names and values.", hint="Begin with `name: ...`.")
    return {"name": path.stem} | values


def _from_csv(path: Path, text: str) -> dict[str, Any]:
    """One row, one cell: the columns prompt, pipeline, output, seed, text_seed and image go side by side."""
    rows = _rows(path, text)
    columns = [column for column in _ROW_COLUMNS if column in rows[0]]
    values: dict[str, Any] = {_ROW_COLUMNS[column]: [row[column] for row in rows] for column in columns}
    for name in ("seeds", "text_seeds"):
        if name in values:
            values[name] = [int(value) if value.strip().isdigit() else value for value in values[name]]
    return {"name": path.stem, **values, "zip": [list(values)] if len(values) > 1 else []}


def _rows(path: Path, text: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    if not rows or "prompt" not in rows[0]:
        raise UsageError(f"{path} has no column `prompt`.", hint="Its first line names the columns, the others hold one prompt each.")
    return [{name: value or "" for name, value in row.items() if name} for row in rows]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Prompts {path} cannot be read: {error}.", hint="Give a CSV file in UTF-8.") from error
