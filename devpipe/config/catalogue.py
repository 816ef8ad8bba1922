"""Which pipelines and outputs are there? `pipelines/*.json` and `output_configs/*.json`, each fault
named; a broken file never stops the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import ValidationError

from devpipe.config.backends import PROCEDURES, known
from devpipe.config.faults import faults_of, json_path
from devpipe.config.models import (
    InterceptionPipeline,
    MediaPipeline,
    OutputConfig,
    Surroundings,
    Titled,
)
from devpipe.config.strict_json import MAX_GRAPH_BYTES, read_object
from devpipe.config.workflow import binding_faults
from devpipe.errors import ConfigError, Fault, UnknownName, UsageError


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


_M = TypeVar("_M", bound=Titled)


def _named(kind: str, name: str, models: Mapping[str, _M]) -> _M:
    if name not in models:
        raise UnknownName(kind, name, models)
    return models[name]


def load_catalogue(home: Path, *, backends: Iterable[str] = ()) -> Catalogue:
    """All usable pipelines and outputs of a workspace, and all faults of all files; `backends` are
    known besides the registered ones.
    """
    faults: list[Fault] = []
    pipelines, outputs = _folder(home, "pipelines", faults), _folder(home, "output_configs", faults)
    names, graphs = frozenset(pipelines), home / "output_configs" / "graphs"
    around = Surroundings(
        "",
        names,
        {},
        frozenset(),
        PROCEDURES,
        sorted({*known(), *backends}),
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
    nodes = read_object(graphs / config.graph, limit=MAX_GRAPH_BYTES)[0] if config.graph else {}
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
        Fault(f"output_configs/{config.name}.json", json_path("$", *place), message)
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
            raw, broken = read_object(path)
            faults.extend(Fault(file, at, message) for at, message in broken)
            if raw is not None:
                objects[path.stem] = raw
        elif path.suffix.lower() in (".json", ".jsonc", ".json5", ".yaml", ".yml", ".toml"):
            faults.append(Fault(file, "$", "is not read. Allowed: file names that end in .json."))
    return objects


def _valid(
    model: type[_M],
    folder: str,
    raws: Mapping[str, dict[str, Any]],
    around: Surroundings,
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
