"""`devpipe adopt`, and what `devpipe check` says of graphs: would the server take them, with what
we would put in?
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

from devpipe.backends.base import Health
from devpipe.backends.registry import Backends
from devpipe.cli import EXIT_COMPLETED, Asked
from devpipe.cli.screen import plain, say, say_json
from devpipe.comfyui.adopt import Adoption, Group, Guess, adopt, read, written
from devpipe.comfyui.checker import filled, input_of, problems, value_problem
from devpipe.config.catalogue import Catalogue, load_catalogue
from devpipe.config.models import OutputConfig
from devpipe.config.settings import Settings
from devpipe.config.spelling import NAME
from devpipe.config.workflow import Nodes, title_of
from devpipe.errors import DevpipeError, UsageError
from devpipe.values import MAX_SEED, MediaRequest, Scalar

NODES_S = 20.0  # a server with many custom nodes has megabytes to say of them
PATIENCE_S = 8.0
UNTOLD = "the server did not say whether it takes the graph."
_PICTURE = {
    "class_type": "EmptyImage",
    "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
}
_MASK = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}}
STAND_INS: Mapping[
    str, Sequence[dict[str, Any]]
] = {  # for pictures that are there only when a run begins: one for each slot
    "LoadImage": (_PICTURE, _MASK),
    "LoadImageMask": (_MASK,),
}
UMLAUTS: Mapping[int, str] = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ß"): "ss"}


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
        told = json.loads(Path(file).read_bytes())
    except ValueError:
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
    told = {name: saved or await _told(backends[name]) for name in {one.backend for one in graphs}}
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


async def _told(backend: object) -> Nodes | None:
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


def command(asked: Asked) -> int:
    """`devpipe adopt GRAPH`: an output config and its graph, written into the workspace."""
    place, path = asked.workspace(), Path(asked.graph)
    name = asked.name or named(path.stem)
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"{name!r} cannot be the name of an output.",
            hint=f"Lower-case words joined by _, such as --name {named(name)}.",
        )
    config, nodes = (
        place / "output_configs" / f"{name}.json",
        place / "output_configs" / "graphs" / f"{name}.json",
    )
    if taken := [str(one) for one in (config, nodes) if one.exists()]:
        raise UsageError(f"There is {taken[0]} already.", hint="Choose another name: --name NAME.")
    found = adopt(read(path), saved_info(asked.object_info) or asked.wait(_asked_server(place)))
    asking = not (asked.yes or asked.json) and sys.stdin is not None and sys.stdin.isatty()
    open_ = [] if asking else [(guess.name, one) for guess in found.guesses for one in guess.others]
    others = [f"{name} could also go to: {_group(one, found.graph)}" for name, one in open_]
    found = found.chosen(lambda guess: choose(guess, found.graph) if asking else guess.best)
    if wrong := _faults_of(found, name, place):
        raise UsageError(
            f"Nothing was written, the output would have faults: {' '.join(wrong)}",
            hint="Mend the graph in ComfyUI.",
        )
    _write(found, name, place)
    if asked.json:
        told = {
            "name": name,
            "config": str(config),
            "graph": str(nodes),
            "bindings": found.config(name)["bindings"],
        }
        say_json(told | {"notes": [*others, *found.notes]})
    else:
        lines = [f"{guess.name:<16} {_group(guess.best, found.graph)}" for guess in found.guesses]
        say(
            plain(
                "\n".join(
                    [
                        *lines,
                        *others,
                        *found.notes,
                        f"Wrote {config} and {nodes}.",
                        _next(found.config(name)),
                    ]
                )
            )
        )
    return EXIT_COMPLETED


def _write(found: Adoption, name: str, place: Path) -> None:
    """The output config and its graph, in a workspace."""
    folder = place / "output_configs" / "graphs"
    folder.mkdir(parents=True, exist_ok=True)
    for path, value in [
        (folder / f"{name}.json", found.graph),
        (folder.parent / f"{name}.json", found.config(name)),
    ]:
        path.write_text(written(value), encoding="utf-8")


def _faults_of(found: Adoption, name: str, place: Path) -> list[str]:
    """What would be wrong with the output, tried in a workspace of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if (place / "pipelines").is_dir():
            shutil.copytree(
                place / "pipelines", Path(folder, "pipelines"), ignore_dangling_symlinks=True
            )
        _write(found, name, Path(folder))
        return [
            str(fault)
            for fault in load_catalogue(Path(folder)).faults
            if fault.file == f"output_configs/{name}.json"
        ]


def named(text: str) -> str:
    """The name of an output from any text, such as that of a file: Grünes Blatt (2) becomes
    gruenes_blatt_2.
    """
    latin = unicodedata.normalize("NFKD", text.lower().translate(UMLAUTS))
    words = re.sub(
        r"[^a-z0-9]+", "_", "".join(one for one in latin if not unicodedata.combining(one))
    ).strip("_")
    return words[:60].rstrip("_") if words[:1].isalpha() else f"graph_{words[:54]}".rstrip("_")


def _next(config: Mapping[str, Any]) -> str:
    """What a person can do with a new output."""
    texts = (
        '"a cat" --prompt-2 "a storm"'
        if "prompt_2" in config["bindings"]
        else '"a cat in the rain"'
    )
    pictures = "".join(f" --{name} FILE" for name in config["images"])
    return f"Next:\n  devpipe check\n  devpipe run {texts} -o {config['name']}{pictures}"


async def _asked_server(place: Path) -> Nodes | None:
    backends = Backends(Settings.load(place))
    try:
        return await _told(backends["comfyui"])
    finally:
        await backends.close()


def _group(group: Group, graph: Nodes) -> str:
    value = " ".join(str(graph[group[0][0]]["inputs"][group[0][1]]).split())
    return (
        ", ".join(f"{name} of node {number} ({title_of(graph[number])})" for number, name in group)
        + f": {value[:60]}"
    )


def choose(guess: Guess, graph: Nodes, *, ask: Callable[[str], str] = input) -> Group:
    """The place that the person at the terminal names; the first one where they only press Enter.

    Raises UsageError where they leave.
    """
    places = [guess.best, *guess.others]
    what = (
        "The graph has several texts that could be yours. Which one takes the"
        if guess.name == "prompt"
        else "Which one takes the"
    )
    lines = [f"  {index}  {_group(one, graph)}" for index, one in enumerate(places, 1)]
    say(plain("\n".join([f"{what} {guess.name}? The others stay as they are.", *lines])))
    while True:
        try:
            answer = ask(f"1..{len(places)} (Enter: 1): ").strip() or "1"
        except EOFError as error:
            raise UsageError(
                "Nothing was written: the question was not answered.",
                hint="--yes takes the likeliest place.",
            ) from error
        if answer.isascii() and answer.isdecimal() and 0 < int(answer) <= len(places):
            return places[int(answer) - 1]
        say(f"Please type a number from 1 to {len(places)}.")
