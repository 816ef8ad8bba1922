"""Which pipelines and outputs are there, and what is wrong with the others?

Read from `pipelines/*.json` and `output_configs/*.json`; a broken file never stops the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter, methodcaller
from pathlib import Path, PurePath
from typing import TypeVar

from pydantic import ValidationError

from devpipe.config.backends import known
from devpipe.config.faults import faults_of, json_path
from devpipe.config.models import (
    InterceptionPipeline,
    MediaPipeline,
    OutputConfig,
    Surroundings,
    Titled,
)
from devpipe.config.strict_json import MAX_GRAPH_BYTES, Raw, read_object
from devpipe.config.workflow import Located, binding_faults
from devpipe.debris import is_debris
from devpipe.errors import ConfigError, Fault, UnknownName, UsageError, few, offer

GRAPHS = "output_configs/graphs"
_CONFIG_LIKE = (".json", ".jsonc", ".json5", ".yaml", ".yml", ".toml")  # a slip, not a readme
_M = TypeVar("_M", bound=Titled)


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
        if name in self.media:
            raise UsageError(
                f"{name!r} is a media pipeline.",
                hint=f"Choose an interception: {', '.join(few(name, self.interceptions))}.",
            )
        return self._usable("pipeline", "pipelines", name, self.interceptions)

    def media_pipeline(self, name: str) -> MediaPipeline:
        """The media pipeline of this name.

        Raises ConfigError where its file is broken, UnknownName where there is none.
        """
        return self._usable("media pipeline", "pipelines", name, self.media)

    def output(self, name: str) -> OutputConfig:
        """The output of this name.

        Raises ConfigError where its file, pipeline or graph is broken, UnknownName where there is
        none.
        """
        return self._usable("output", "output_configs", name, self.outputs)

    def required_images(self, output: OutputConfig) -> tuple[str, ...]:
        """Name the pictures that a run to this output must bring.

        Those the output names, else those of its media pipeline.
        """
        return output.images or self.media_pipeline(output.pipeline).images

    def _usable(self, kind: str, folder: str, name: str, models: Mapping[str, _M]) -> _M:
        if name in models:
            return models[name]
        file = PurePath(folder, f"{name}.json")
        # also of a file that nobody reads: who wrote x.yaml asks for x
        faults = [one for one in self.faults if PurePath(one.file).with_suffix(".json") == file]
        if faults:
            raise ConfigError(faults)
        raise UnknownName(kind, name, models)


def load_catalogue(home: Path, *, backends: Iterable[str] = ()) -> Catalogue:
    """Load all usable pipelines and outputs of a workspace, and all faults.

    `backends` are known besides the registered ones.
    """
    files = _Files(home)
    pipelines = files.objects("pipelines")
    outputs = files.objects("output_configs")
    around = Surroundings(
        stem="",
        names=frozenset(pipelines),
        media={},
        broken={},
        backends={*known(), *backends},
        graphs=home / GRAPHS,
    )
    by_kind: dict[str, dict[str, Raw]] = {"media": {}, "interception": {}}
    for stem, raw in pipelines.items():
        by_kind[_kind_of(raw)][stem] = raw
    media = files.valid(MediaPipeline, "pipelines", by_kind["media"], around)
    around = replace(around, media=media)
    interceptions = files.valid(InterceptionPipeline, "pipelines", by_kind["interception"], around)
    broken = {
        stem: file for stem, file in files.broken("pipelines").items() if stem not in interceptions
    }
    around = replace(around, names=frozenset(outputs), broken=broken)
    complete = {}
    for name, output in files.valid(OutputConfig, "output_configs", outputs, around).items():
        output = files.with_graph(output)
        if files.are_sound(name, _binding_faults(output, media[output.pipeline])):
            complete[name] = output
    usable = {}
    for name, output in complete.items():
        if files.are_sound(name, _fallback_faults(output, complete)):
            usable[name] = output
    faults = sorted(files.faults, key=attrgetter("file"))
    return Catalogue(interceptions, media, usable, tuple(faults))


class _Files:
    """The files of one workspace, read one after the other; `faults` grows."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.faults: list[Fault] = []

    def objects(self, folder: str) -> dict[str, Raw]:
        """The JSON objects of a folder, by file stem.

        A file that holds none is a fault.
        """
        try:
            entries = sorted(
                path for path in (self.home / folder).iterdir() if not is_debris(path.name)
            )
        except OSError as error:
            hint = "Run `devpipe init DIR` for a complete workspace."
            self.faults.append(
                Fault(f"{folder}/", "$", f"cannot be read: {error.strerror}. {hint}")
            )
            return {}
        objects = {}
        for path in entries:
            file = f"{folder}/{path.name}"
            if path.suffix == ".json":
                raw, faults = read_object(path)
                self.faults.extend(Fault(file, at, message) for at, message in faults)
                if raw is not None:
                    objects[path.stem] = raw
            elif path.suffix.lower() in _CONFIG_LIKE:
                self.faults.append(
                    Fault(file, "$", "is not read. Allowed: file names that end in .json.")
                )
        return objects

    def valid(
        self,
        model: type[_M],
        folder: str,
        raws: Mapping[str, Raw],
        around: Surroundings,
    ) -> dict[str, _M]:
        """The files without any fault as models."""
        models = {}
        broken = {fault.file for fault in self.faults}
        for stem, raw in raws.items():
            file = f"{folder}/{stem}.json"
            context = replace(around, stem=stem)
            try:
                config = model.model_validate_json(json.dumps(raw), context=context)
            except ValidationError as error:
                self.faults.extend(faults_of(error, model, file))
                continue
            if file not in broken:
                models[stem] = config
        return models

    def broken(self, folder: str) -> dict[str, str]:
        """The files of a folder that have faults, by stem; of several, the one that is read."""
        files = [fault.file for fault in self.faults if fault.file.startswith(f"{folder}/")]
        return {
            PurePath(file).stem: file
            for file in sorted(files, key=methodcaller("endswith", ".json"))
        }

    def with_graph(self, output: OutputConfig) -> OutputConfig:
        """The output with its graph inside.

        Its model has checked that the graph is there and whole.
        """
        if not output.graph:
            return output
        nodes, _ = read_object(self.home / GRAPHS / output.graph, limit=MAX_GRAPH_BYTES)
        return output.model_copy(update={"nodes": nodes or {}})

    def are_sound(self, name: str, found: Iterable[Located]) -> bool:
        """Add what was found wrong with an output; True where nothing was."""
        file = f"output_configs/{name}.json"
        faults = [Fault(file, json_path("$", *place), message) for place, message in found]
        self.faults += faults
        return not faults


def _binding_faults(output: OutputConfig, media: MediaPipeline) -> Iterator[Located]:
    """Check that the output's bindings fit its graph, texts, pictures and parameters."""
    workflow = output.workflow()
    if workflow:
        yield from binding_faults(workflow, _kinds(output, media), output.parameters)
    elif output.bindings:
        yield ("bindings",), "bind inputs of a graph: name one as `graph`."
    if output.backend == "comfyui" and not workflow:
        message = "is missing: ComfyUI runs graphs. Name a file in output_configs/graphs."
        yield ("graph",), message


def _fallback_faults(
    output: OutputConfig, outputs: Mapping[str, OutputConfig]
) -> Iterator[Located]:
    """Check that those who stand in are there, and make the same of the same."""
    for place, name in enumerate(output.fallback):
        message = _fallback_fault(output, name, outputs)
        if message:
            yield ("fallback", place), message


def _fallback_fault(output: OutputConfig, name: str, outputs: Mapping[str, OutputConfig]) -> str:
    """What is wrong with an output that is to stand in for another; empty where nothing is."""
    if name == output.name:
        return "an output cannot stand in for itself. Delete it."
    if name not in outputs:
        alike = [one.name for one in outputs.values() if _alike(one, output)]
        return f"there is no usable output {name!r}; {offer(name, alike)}"
    other = outputs[name]
    if not _alike(other, output):
        return (
            f"{name!r} makes {other.medium} by {other.pipeline!r}, and {output.name!r}"
            f" {output.medium} by {output.pipeline!r}: both must be the same."
        )
    if other.fallback:
        return f"{name!r} has a fallback of its own. Name its outputs here, in their order."
    return ""


def _alike(one: OutputConfig, other: OutputConfig) -> bool:
    """Whether one output can stand in for another: the same medium of the same texts, pictures."""
    makes = attrgetter("medium", "pipeline", "images")
    return makes(one) == makes(other) and one.name != other.name


def _kinds(output: OutputConfig, media: MediaPipeline) -> dict[str, str]:
    """What each value that can be bound is: a type of parameter."""
    declared = {name: parameter.type for name, parameter in output.parameters.items()}
    texts = dict.fromkeys((*media.texts, *(output.images or media.images)), "string")
    return declared | texts | {"seed": "integer"}


def _kind_of(raw: Raw) -> str:
    """Read the kind of a pipeline file, or guess it from its keys.

    A kind that is none of ours is then one fault among the others.
    """
    if raw.get("kind") in ("media", "interception"):
        return str(raw["kind"])
    return "media" if "texts" in raw else "interception"
