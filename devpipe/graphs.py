"""ComfyUI graphs as data: where our values go in one, what would be sent, and what a server would not take.

A graph is an API export: {node number: {"class_type", "inputs", "_meta": {"title"}}}; an input is a value, or a link [node, slot].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devpipe.errors import Rejected, offer
from devpipe.values import MediaRequest, Workflow, canonical_json

Nodes = Mapping[str, Any]
Place = tuple[str | int, ...]  # in a config file
HOW_TO_EXPORT = (
    "Open it in ComfyUI and choose Workflow > Export (API); older versions: Settings > Enable Dev mode, then Save (API Format). "
    "In ComfyUI öffnen und Workflow > Exportieren (API) wählen."
)
SEEDS = ("seed", "noise_seed")


def shape_fault(graph: Mapping[str, Any]) -> str:
    """What makes this no graph in API format; empty where it is one."""
    if isinstance(graph.get("nodes"), list):
        return f"is in the UI format, which no server runs. {HOW_TO_EXPORT}"
    if not graph:
        return "has no nodes."
    for number, node in graph.items():
        if not (isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)):
            return f"is no API export: {number!r} is no node with class_type and inputs. {HOW_TO_EXPORT}"
    try:
        canonical_json(graph).encode()
    except ValueError:
        return "has a number that is NaN or infinite, or half a character. Correct it in ComfyUI and export again."
    return ""


def title_of(node: Mapping[str, Any]) -> str:
    """What people call a node: its title, else its class."""
    meta = node.get("_meta")
    return str((meta.get("title") if isinstance(meta, Mapping) else "") or node["class_type"])


def is_link(value: object) -> bool:
    """Whether an input comes from another node."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


# What of a run goes where.


def binding_faults(
    bindings: Mapping[str, Sequence[Mapping[str, str]]], nodes: Nodes, kinds: Mapping[str, str], parameters: Mapping[str, object]
) -> Iterator[tuple[Place, str]]:
    """What is wrong with an output config's bindings, as (place in the file, message). `kinds`: what each of our values is."""
    if not nodes:
        yield ("bindings",), "bind inputs of a graph: name one as `graph`."
        return
    taken: dict[tuple[str, str], str] = {}
    for name, some in bindings.items():
        if name not in kinds:
            yield ("bindings", name), f"is no text, picture or parameter of this output; {offer(name, kinds)}"
        for index, one in enumerate(some):
            if fault := _binding_fault(one, nodes, kinds.get(name, "")):
                yield ("bindings", name, index, fault[0]), fault[1]
            elif (owner := taken.setdefault((one["node"], one["input"]), name)) != name:
                yield ("bindings", name, index), f"takes {owner!r} already. Delete one of the two."
    for name in kinds:
        if not bindings.get(name) and (name != "seed" or (seeds := _seeds(nodes))):
            what = f"Bind it to {' and '.join(seeds)}." if name == "seed" else "Bind it to an input of the graph, or delete it."
            yield ("parameters" if name in parameters else "bindings", name), f"is bound nowhere: it would change nothing. {what}"


def _seeds(nodes: Nodes) -> list[str]:
    """The inputs that take a seed."""
    places = [(number, name) for number, node in nodes.items() for name in SEEDS if _kind(node["inputs"].get(name)) == "integer"]
    return [f"{name!r} of node {number!r}" for number, name in places]


def _binding_fault(one: Mapping[str, str], nodes: Nodes, kind: str) -> tuple[str, str] | None:
    """The wrong key of a binding and what is wrong with it."""
    if (node := nodes.get(one["node"])) is None:
        alike = [number for number, other in nodes.items() if one["title"] and title_of(other) == one["title"]]
        named = [f"{number} ({title_of(other)})" for number, other in nodes.items()]
        near = f"did you mean {alike[0]!r}? Allowed: {', '.join(named)}." if alike else offer(one["node"], named)
        return "node", f"the graph has no node {one['node']!r}; {near}"
    if one["input"] not in node["inputs"]:
        return "input", f"node {one['node']!r} ({title_of(node)}) has no input {one['input']!r}; {offer(one['input'], node['inputs'])}"
    if one["title"] and one["title"] != title_of(node):
        return "title", f"node {one['node']!r} is {title_of(node)!r}, not {one['title']!r}. Is it another node now? Correct one of the two."
    value = node["inputs"][one["input"]]
    if isinstance(value, list):
        return "input", f"{one['input']!r} comes from node {value[0]!r} by a link: bind an input of that node."
    if kind and not _alike(kind, _kind(value)):
        return "input", f"{one['input']!r} takes {_kind(value)} values such as {str(value)[:40]!r}, not a {kind}."
    return None


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), type(value).__name__)


def _alike(ours: str, theirs: str) -> bool:
    return ours == theirs or {ours, theirs} == {"integer", "number"}


def filled(workflow: Workflow, request: MediaRequest, *, images: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """The graph to send: the request's values put in, `images` by their names on the server, files under the prefix.

    Raises Rejected for a value that the graph does not take, or one that it needs and nobody gave.
    """
    values = {**request.texts, **request.parameters, **images, "seed": request.seed}
    for name in values:
        if name not in workflow.bindings and name != "seed":
            raise Rejected(f"The graph takes no {name!r}: it is bound to none of its inputs.", hint="Mend the output config's bindings.")
    graph = {number: {**node, "inputs": dict(node["inputs"])} for number, node in workflow.nodes.items()}
    for name, bindings in workflow.bindings.items():
        if name not in values:
            raise Rejected(f"The graph needs {name!r}, which nobody gave.", hint=f"Give {name}=...")
        for one in bindings:
            if one.input not in graph.get(one.node, {"inputs": {}})["inputs"]:
                raise Rejected(f"The graph has no input {one.input!r} of a node {one.node!r}.", hint=f"Mend the binding of {name!r}.")
            graph[one.node]["inputs"][one.input] = values[name]
    for number, node in graph.items():
        if "filename_prefix" in node["inputs"]:  # one for each node: files of two would be numbered in one row
            node["inputs"]["filename_prefix"] = f"{prefix}_{re.sub(r'[^A-Za-z0-9]', '-', number)}"
    return graph
