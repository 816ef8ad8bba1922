"""Would a server take our graphs, with what we would put in? Asked of what it says of its nodes,
and of the server itself, which runs nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

from devpipe.backends.base import Health
from devpipe.backends.registry import Backends
from devpipe.backends.streams import fields
from devpipe.comfyui.checker import (
    filled,
    input_of,
    inputs_of,
    is_link,
    problems,
    slots_of,
    value_problem,
)
from devpipe.config.catalogue import Catalogue
from devpipe.config.models import OutputConfig
from devpipe.config.workflow import Nodes, title_of
from devpipe.errors import DevpipeError, UsageError
from devpipe.files import read_plain
from devpipe.values import MAX_SEED, MediaRequest, Scalar

NODES_S = 20.0  # a server with many custom nodes has megabytes to say of them
PATIENCE_S = 8.0
UNTOLD = "the server did not say whether it takes the graph."
_PICTURE = {
    "class_type": "EmptyImage",
    "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
}
MAX_INFO_BYTES = 64_000_000  # a server with hundreds of custom nodes says some MB
_MASK = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}}
STAND_INS: Mapping[
    str, Sequence[dict[str, Any]]
] = {  # for pictures that are there only when a run begins: one for each slot
    "LoadImage": (_PICTURE, _MASK),
    "LoadImageMask": (_MASK,),
}


@runtime_checkable
class RunsGraphs(Protocol):
    """A backend that can say of a graph whether it would run it."""

    async def object_info(self) -> dict[str, Any]:
        """What its server says of all nodes."""

    async def dry_run(self, graph: Mapping[str, Any]) -> list[str]:
        """What its server would refuse in the graph."""


def saved_info(file: str | None) -> dict[str, Any] | None:
    """What a server's /object_info said, from a file. Raises UsageError for another file."""
    if file is None:
        return None
    try:
        told = json.loads(read_plain(Path(file), MAX_INFO_BYTES))
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error
    except (ValueError, RecursionError):
        told = None
    inside = (
        told.values() if isinstance(told, dict) else ()
    )  # some save it with a note of whose it is
    found = [dict(one) for one in (told, *inside) if _tells_of_nodes(one)]
    if not found:
        raise UsageError(
            f"{file} is no object_info.",
            hint="Save it: curl http://127.0.0.1:8188/object_info > object_info.json",
        )
    return found[0]


def _tells_of_nodes(told: Any) -> bool:
    return (
        isinstance(told, dict)
        and bool(told)
        and all(
            isinstance(one, dict) and isinstance(one.get("input"), dict) and "output" in one
            for one in told.values()
        )
    )


async def unready(
    catalogue: Catalogue,
    backends: Backends,
    healths: Mapping[str, Health],
    saved: Nodes | None = None,
) -> dict[str, Sequence[str]]:
    """The outputs that cannot be used now, and why.

    `saved`: what a server said of its nodes, instead of asking one.
    """
    outputs = [catalogue.outputs[name] for name in sorted(catalogue.outputs)]
    down = {
        one.name: [f"backend {one.backend} is not ready."]
        for one in outputs
        if not healths[one.backend].ready and not (saved and one.nodes)
    }
    graphs = [one for one in outputs if one.nodes and one.name not in down]
    told = {
        name: saved or await server_nodes(backends[name])
        for name in {one.backend for one in graphs}
    }
    found = {one.name: _faults(catalogue, one, told[one.backend]) for one in graphs}
    if not saved:
        found |= await _refusals(
            {
                one.name: (one.backend, trial(catalogue, one))
                for one in graphs
                if not found[one.name]
            },
            backends,
        )
    return {name: reasons for name, reasons in sorted((down | found).items()) if reasons}


def unnamed_models(catalogue: Catalogue) -> list[str]:
    """The model files of outputs that stand nowhere in their graphs: somebody would download them
    for nothing.
    """
    graphs = {
        output.name: json.dumps(output.nodes, ensure_ascii=False)
        for output in catalogue.outputs.values()
        if output.models
    }
    return [
        f"output_configs/{name}.json, models: no node of the graph names {one.file}. Delete the"
        " entry, or name it where it is loaded."
        for name, graph in sorted(graphs.items())
        for one in catalogue.outputs[name].models
        if PurePosixPath(one.file.replace("\\", "/")).name not in graph
    ]


async def server_nodes(backend: object) -> Nodes | None:
    """What the backend's server says of its nodes; None where there is none, or it does not
    answer.
    """
    with contextlib.suppress(DevpipeError, TimeoutError):
        return (
            await asyncio.wait_for(backend.object_info(), NODES_S)
            if isinstance(backend, RunsGraphs)
            else None
        )
    return None


async def _refusals(
    graphs: Mapping[str, tuple[str, Nodes]], backends: Backends
) -> dict[str, list[str]]:
    """What the servers refuse, one graph after another, so that each has its own time; one that
    keeps silent is not asked again.
    """
    found, silent = dict[str, list[str]](), dict[str, list[str]]()
    for name, (backend, graph) in graphs.items():
        found[name] = silent.get(backend) or await _refused(backends[backend], graph)
        if found[name][:1] and found[name][0].startswith(UNTOLD):
            silent[backend] = found[name]
    return found


async def _refused(backend: object, graph: Nodes) -> list[str]:
    assert isinstance(backend, RunsGraphs)
    try:
        return await asyncio.wait_for(backend.dry_run(graph), PATIENCE_S)
    except (DevpipeError, TimeoutError) as error:
        return [f"{UNTOLD} {error}".strip()]


def trial(catalogue: Catalogue, output: OutputConfig) -> dict[str, Any]:
    """The graph of an output as it would be sent by default, its pictures made of nothing."""
    workflow = output.workflow()
    assert workflow is not None
    request = MediaRequest(
        output.medium,
        dict.fromkeys(catalogue.media_pipeline(output.pipeline).texts, "-"),
        parameters=output.resolve({}),
    )
    pictures = dict.fromkeys(catalogue.required_images(output), "picture.png")
    graph = filled(workflow, request, images=pictures, prefix="devpipe")
    for loader in dict.fromkeys(one.node for name in pictures for one in workflow.bindings[name]):
        for slot, stand_in in enumerate(STAND_INS.get(graph[loader]["class_type"], ())):
            graph = _stood_in(graph, loader, slot, stand_in)
    return graph


def _stood_in(
    graph: dict[str, Any], loader: str, slot: int, stand_in: Mapping[str, Any]
) -> dict[str, Any]:
    """The graph with another node for one slot of a loader: the first takes its place, the others
    are added where they are used.
    """
    if not slot:
        return {**graph, loader: {**graph[loader], **stand_in}}
    new = f"{loader}, slot {slot}"
    linked = {
        number: {
            **node,
            "inputs": {
                name: [new, 0] if value == [loader, slot] else value
                for name, value in node["inputs"].items()
            },
        }
        for number, node in graph.items()
    }
    return graph if linked == graph else {**linked, new: {**graph[loader], **stand_in}}


def _faults(catalogue: Catalogue, output: OutputConfig, object_info: Nodes | None) -> list[str]:
    """What is wrong with an output, as far as the server's words tell."""
    if not object_info:
        return [UNTOLD]
    try:
        return list(_wrong(catalogue, output, object_info))
    except (
        Exception
    ) as error:  # anybody's node may say anything of itself: that must not hide the other outputs
        return [f"its graph could not be checked: {type(error).__name__}: {error}."]


def _wrong(catalogue: Catalogue, output: OutputConfig, object_info: Nodes) -> Iterator[str]:
    """What the server's words say against an output: of its graph, and of the values that its
    parameters may have.
    """
    yield from map(
        str,
        problems(
            trial(catalogue, output),
            object_info,
            sources={one.file: one.from_ for one in output.models if one.from_},
        ),
    )
    file = f"output_configs/{output.name}.json"
    for name, parameter in output.parameters.items():
        step = parameter.multiple_of or (1 if parameter.type == "integer" else 0)
        low = parameter.minimum
        values = [
            parameter.cast(one)
            for one in (
                low,
                None if low is None else low + step,
                parameter.maximum,
                *parameter.choices,
            )
            if one
        ]
        for problem in _refused_values(output, name, values, object_info):
            yield (
                f"the parameter {name} {problem} Narrow its minimum, maximum, multiple_of or"
                f" choices in {file}."
            )
    for problem in _refused_values(output, "seed", [1, MAX_SEED], object_info):
        yield f"the seed {problem} Bind it to another input in {file}."


def _refused_values(
    output: OutputConfig, name: str, values: Sequence[Scalar], object_info: Nodes
) -> Iterator[str]:
    """Which of these values the inputs would not take that they are bound to."""
    for one in output.bindings.get(name, ()):
        told = input_of(object_info, output.nodes[one.node]["class_type"], one.input)
        for value in values if told and told.kind in ("INT", "FLOAT") else ():
            if told and (problem := value_problem(told.kind, told.limits, value)):
                yield f"may be {value:g}, but {one.input} of node {one.node} {problem}"


SENTINEL = ["no", "link", "at all"]
_PREFIX = {"filename_prefix": SENTINEL}
_SAVERS: Mapping[
    str, tuple[str, str, Mapping[str, object]]
] = {  # what takes such a thing and is refused: node, input, what else it needs
    "IMAGE": ("SaveImage", "images", _PREFIX),
    "LATENT": ("SaveLatent", "samples", _PREFIX),
    "AUDIO": ("SaveAudio", "audio", _PREFIX),
    "VIDEO": ("SaveVideo", "video", {**_PREFIX, "format": "auto", "codec": "auto"}),
    "STRING": ("SaveImage", "filename_prefix", {"images": SENTINEL}),
    "MASK": ("MaskToImage", "mask", {}),
}


def sentinels(graph: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The graph with all its outputs such that the server refuses them in the end.

    What an output would have got by the input that is spoilt goes to a saver beside it. An output
    that takes nothing is left out.
    """
    found, left_out, savers = (
        dict(graph),
        set[str](),
        {kind for kind, one in _SAVERS.items() if one[0] in known},
    )
    for number, node in graph.items():
        if not fields(known.get(node["class_type"])).get("output_node"):
            continue
        kinds = {
            name: _brought(graph, node, name, known)
            for name in inputs_of(known, node["class_type"])
        }
        if name := _spoilt(
            node,
            {name: kind in savers for name, kind in kinds.items() if not kind.startswith("COMFY_")},
        ):
            found[number] = {**node, "inputs": {**node["inputs"], name: SENTINEL}}
            if is_link(link := node["inputs"].get(name)) and kinds[name] in savers:
                found |= _witness(f"{number}, {name}", title_of(node), kinds[name], link)
        else:
            left_out.add(number)
    return _without(found, left_out)


def _without(graph: Mapping[str, Any], left_out: set[str]) -> dict[str, Any]:
    """The graph without these nodes and all that hangs on them."""
    found = dict(graph)
    while left_out:
        found = {number: node for number, node in found.items() if number not in left_out}
        left_out = {
            number
            for number, node in found.items()
            if any(is_link(one) and one[0] in left_out for one in node["inputs"].values())
        }
    return found


def _brought(
    graph: Mapping[str, Any], node: Mapping[str, Any], name: str, known: Mapping[str, Any]
) -> str:
    """What kind of thing an input takes; where it takes anything, the kind that its link brings."""
    told, value = input_of(known, node["class_type"], name), node["inputs"].get(name)
    kind = told.kind if told else ""
    if kind in _SAVERS or not is_link(value) or value[0] not in graph:
        return kind
    slots = slots_of(known, graph[value[0]]["class_type"])
    return slots[value[1]] if 0 <= value[1] < len(slots) else kind


def _spoilt(node: Mapping[str, Any], saved: Mapping[str, bool]) -> str:
    """The input of an output node whose loss hides the least; empty where there is none.

    `saved`: whether a saver could take it.
    """

    def hides(name: str) -> tuple[bool, bool, bool, bool]:
        given, linked = name in node["inputs"], is_link(node["inputs"].get(name))
        return name != "filename_prefix", not (linked and saved[name]), not given, linked

    return min(saved, key=hides, default="")


def _witness(number: str, title: str, kind: str, link: Sequence[Any]) -> dict[str, Any]:
    """A saver of what a link brings, so that all before it is checked."""
    node, name, more = _SAVERS[kind]
    found = {
        number: {"class_type": node, "inputs": {**more, name: link}, "_meta": {"title": title}}
    }
    return (
        found | _witness(f"{number} as a picture", title, "IMAGE", [number, 0])
        if kind == "MASK"
        else found
    )


def without_sentinels(node_errors: Mapping[str, Any]) -> dict[str, Any]:
    """The errors that are the graph's own."""
    return {
        node: {
            "errors": [
                one
                for one in told.get("errors", ())
                if fields(one.get("extra_info")).get("received_value") != SENTINEL
            ]
        }
        for node, told in node_errors.items()
    }
