"""`devpipe adopt`, and what `devpipe check` says of graphs: would the server take them, with what we would put in?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from devpipe.adopt import Group, Guess, adopt, read
from devpipe.backends.base import Health
from devpipe.backends.registry import Backends
from devpipe.cli import EXIT_COMPLETED, Asked
from devpipe.cli.screen import plain, say, say_json
from devpipe.config import NAME, Catalogue, OutputConfig, load_catalogue
from devpipe.errors import DevpipeError, UsageError
from devpipe.graphs import Nodes, filled, input_of, is_link, problems, title_of, value_problem
from devpipe.settings import Settings
from devpipe.values import MAX_SEED, MediaRequest, Scalar

NODES_S = 20.0  # a server with many custom nodes has megabytes to say of them
PATIENCE_S = 8.0
UNTOLD = "the server did not say whether it takes the graph."
STAND_INS: Mapping[str, dict[str, Any]] = {  # for pictures that are there only when a run begins
    "LoadImage": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "LoadImageMask": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}},
}
UMLAUTS: Mapping[int, str] = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ß"): "ss"}
SAVERS: Mapping[str, tuple[str, str, dict[str, str]]] = {  # what saves such a thing under a name: node, input, what else it needs
    "IMAGE": ("SaveImage", "images", {}),
    "LATENT": ("SaveLatent", "samples", {}),
    "AUDIO": ("SaveAudio", "audio", {}),
    "VIDEO": ("SaveVideo", "video", {"format": "auto", "codec": "auto"}),
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
        told = json.loads(Path(file).read_bytes())
    except ValueError:
        told = None
    inside = told.values() if isinstance(told, dict) else ()  # some save it with a note of whose it is
    found = [dict(one) for one in (told, *inside) if _tells_of_nodes(one)]
    if not found:
        raise UsageError(f"{file} is no object_info.", hint="Save it: curl http://127.0.0.1:8188/object_info > object_info.json")
    return found[0]


def _tells_of_nodes(told: Any) -> bool:
    return (
        isinstance(told, dict)
        and bool(told)
        and all(isinstance(one, dict) and isinstance(one.get("input"), dict) and "output" in one for one in told.values())
    )


async def unready(
    catalogue: Catalogue, backends: Backends, healths: Mapping[str, Health], saved: Nodes | None = None
) -> dict[str, Sequence[str]]:
    """The outputs that cannot be used now, and why. `saved`: what a server said of its nodes, instead of asking one."""
    outputs = [catalogue.outputs[name] for name in sorted(catalogue.outputs)]
    down = {
        one.name: [f"backend {one.backend} is not ready."]
        for one in outputs
        if not healths[one.backend].ready and not (saved and one.nodes)
    }
    graphs = [one for one in outputs if one.nodes and one.name not in down]
    told = {name: saved or await _told(backends[name]) for name in {one.backend for one in graphs}}
    found = {one.name: list(_wrong(catalogue, one, told[one.backend] or {})) if told[one.backend] else [UNTOLD] for one in graphs}
    if not saved:
        sound = {one.name: witnessed(trial(catalogue, one), told[one.backend] or {}) for one in graphs if not found[one.name]}
        found |= await _refusals({name: (catalogue.outputs[name].backend, graph) for name, graph in sound.items() if graph}, backends)
    return {name: reasons for name, reasons in sorted((down | found).items()) if reasons}


async def _told(backend: object) -> Nodes | None:
    """What the backend's server says of its nodes; None where there is none, or it does not answer."""
    with contextlib.suppress(DevpipeError, TimeoutError):
        return await asyncio.wait_for(backend.object_info(), NODES_S) if isinstance(backend, RunsGraphs) else None
    return None


async def _refusals(graphs: Mapping[str, tuple[str, Nodes]], backends: Backends) -> dict[str, list[str]]:
    """What the servers refuse, one graph after another, so that each has its own time; one that keeps silent is not asked again."""
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
        output.medium, dict.fromkeys(catalogue.media_pipeline(output.pipeline).texts, "-"), parameters=output.resolve({})
    )
    pictures = dict.fromkeys(catalogue.required_images(output), "picture.png")
    graph = filled(workflow, request, images=pictures, prefix="devpipe")
    loaders = {one.node for name in pictures for one in workflow.bindings[name]}
    return {number: {**node, **STAND_INS.get(node["class_type"], {})} if number in loaders else node for number, node in graph.items()}


def witnessed(graph: Nodes, object_info: Nodes) -> dict[str, Any]:
    """The graph with a saver beside each output that writes no file by a name of ours, so that a dry run reaches what leads to it.

    Empty where nothing can be saved, as with texts: there only what the server says of its nodes is looked at.
    """
    found = dict(graph)
    for number, node in graph.items():
        told = object_info.get(node["class_type"], {})
        for name, link in node["inputs"].items() if told.get("output_node") and not _names_files(node, object_info) else ():
            slots = object_info.get(graph[link[0]]["class_type"], {}).get("output", ()) if is_link(link) and link[0] in graph else ()
            kind = str(slots[link[1]]) if slots and 0 <= link[1] < len(slots) else ""
            if kind in SAVERS and SAVERS[kind][0] in object_info:
                saver, input_, more = SAVERS[kind]
                found[f"{number}_{name}"] = {"class_type": saver, "inputs": {input_: link, "filename_prefix": "devpipe", **more}}
    return found if any(_names_files(node, object_info) for node in found.values()) else {}


def _names_files(node: Mapping[str, Any], object_info: Nodes) -> bool:
    return input_of(object_info, node["class_type"], "filename_prefix") is not None


def _wrong(catalogue: Catalogue, output: OutputConfig, object_info: Nodes) -> Iterator[str]:
    """What the server's words say against an output: of its graph, and of the values that its parameters may have."""
    yield from map(
        str, problems(trial(catalogue, output), object_info, sources={one.file: one.from_ for one in output.models if one.from_})
    )
    file = f"output_configs/{output.name}.json"
    for name, parameter in output.parameters.items():
        step = parameter.multiple_of or (1 if parameter.type == "integer" else 0)
        low = parameter.minimum
        values = [parameter.cast(one) for one in (low, None if low is None else low + step, parameter.maximum, *parameter.choices) if one]
        for problem in _refused_values(output, name, values, object_info):
            yield f"the parameter {name} {problem} Narrow its minimum, maximum, multiple_of or choices in {file}."
    for problem in _refused_values(output, "seed", [1, MAX_SEED], object_info):
        yield f"the seed {problem} Bind it to another input in {file}."


def _refused_values(output: OutputConfig, name: str, values: Sequence[Scalar], object_info: Nodes) -> Iterator[str]:
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
        raise UsageError(f"{name!r} cannot be the name of an output.", hint=f"Lower-case words joined by _, such as --name {named(name)}.")
    config, nodes = place / "output_configs" / f"{name}.json", place / "output_configs" / "graphs" / f"{name}.json"
    if taken := [str(one) for one in (config, nodes) if one.exists()]:
        raise UsageError(f"There is {taken[0]} already.", hint="Choose another name: --name NAME.")
    found = adopt(read(path), saved_info(asked.object_info) or asked.wait(_asked_server(place)))
    asking = not (asked.yes or asked.json) and sys.stdin is not None and sys.stdin.isatty()
    open_ = [] if asking else [(guess.name, one) for guess in found.guesses for one in guess.others]
    others = [f"{name} could also go to: {_group(one, found.graph)}" for name, one in open_]
    found = found.chosen(lambda guess: choose(guess, found.graph) if asking else guess.best)
    nodes.parent.mkdir(exist_ok=True)
    nodes.write_text(json.dumps(found.graph, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    config.write_text(json.dumps(found.config(name), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = [str(fault) for fault in load_catalogue(place).faults if fault.file == f"output_configs/{name}.json"]
    if asked.json:
        told = {"name": name, "config": str(config), "graph": str(nodes), "bindings": found.config(name)["bindings"]}
        say_json(told | {"notes": [*others, *found.notes], "faults": wrong})
    else:
        lines = [f"{guess.name:<16} {_group(guess.best, found.graph)}" for guess in found.guesses]
        say(plain("\n".join([*lines, *others, *found.notes, *wrong, f"Wrote {config} and {nodes}.", _next(found.config(name))])))
    return EXIT_COMPLETED


def named(text: str) -> str:
    """The name of an output from any text, such as that of a file: Grünes Blatt (2) becomes gruenes_blatt_2."""
    latin = unicodedata.normalize("NFKD", text.lower().translate(UMLAUTS))
    words = re.sub(r"[^a-z0-9]+", "_", "".join(one for one in latin if not unicodedata.combining(one))).strip("_")
    return words[:60].rstrip("_") if words[:1].isalpha() else f"graph_{words[:54]}".rstrip("_")


def _next(config: Mapping[str, Any]) -> str:
    """What a person can do with a new output."""
    texts = '"a cat" --prompt-2 "a storm"' if "prompt_2" in config["bindings"] else '"a cat in the rain"'
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
    return ", ".join(f"{name} of node {number} ({title_of(graph[number])})" for number, name in group) + f": {value[:60]}"


def choose(guess: Guess, graph: Nodes, *, ask: Callable[[str], str] = input) -> Group:
    """The place that the person at the terminal names; the first one where they only press Enter. Raises UsageError where they leave."""
    places = [guess.best, *guess.others]
    what = "The graph has several texts that could be yours. Which one takes the" if guess.name == "prompt" else "Which one takes the"
    lines = [f"  {index}  {_group(one, graph)}" for index, one in enumerate(places, 1)]
    say(plain("\n".join([f"{what} {guess.name}? The others stay as they are.", *lines])))
    while True:
        try:
            answer = ask(f"1..{len(places)} (Enter: 1): ").strip() or "1"
        except EOFError as error:
            raise UsageError("Nothing was written: the question was not answered.", hint="--yes takes the likeliest place.") from error
        if answer.isascii() and answer.isdecimal() and 0 < int(answer) <= len(places):
            return places[int(answer) - 1]
        say(f"Please type a number from 1 to {len(places)}.")
