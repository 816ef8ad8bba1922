"""What must a ComfyUI graph and an output config's bindings be like, before any server is asked?

A graph is an API export: {node number: {"class_type", "inputs", "_meta": {"title"}}}; an input is a
value, or a link [node, slot].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from devpipe.errors import few, offer
from devpipe.values import Binding, Workflow, canonical_json

Nodes = Mapping[str, Any]
Located = tuple[tuple[str | int, ...], str]  # a place in a config file, and what is wrong there
HOW_TO_EXPORT = (
    "Open it in ComfyUI and choose Workflow > Export (API); older versions: Settings > Enable Dev"
    " mode, then Save (API Format)."
)
SEEDS = ("seed", "noise_seed", "seed_num", "rand_seed")


def shape_fault(graph: Mapping[str, Any]) -> str:
    """What makes this no graph in API format; empty where it is one."""
    if isinstance(graph.get("nodes"), list):
        return f"is in the UI format, which no server runs. {HOW_TO_EXPORT}"
    if not graph:
        return "has no nodes."
    for number, node in graph.items():
        if not _is_node(node):
            return (
                f"is no API export: {number!r} is no node with class_type and inputs."
                f" {HOW_TO_EXPORT}"
            )
    try:
        canonical_json(graph).encode()
    except ValueError:
        return (
            "has a number that is NaN or infinite, or half a character. Correct it in ComfyUI and"
            " export again."
        )
    return ""


def _is_node(node: object) -> bool:
    if not isinstance(node, dict):
        return False
    return isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def title_of(node: Mapping[str, Any]) -> str:
    """What people call a node: its title, else its class."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else ""
    return str(title or node["class_type"])


def binding_faults(
    workflow: Workflow, kinds: Mapping[str, str], parameters: Mapping[str, object]
) -> Iterator[Located]:
    """Check an output config's bindings; `kinds`: what each of our values is."""
    nodes = workflow.nodes
    owners: dict[tuple[str, str], str] = {}
    for name, inputs in workflow.bindings.items():
        if name not in kinds:
            known = f"is no text, picture or parameter of this output; {offer(name, kinds)}"
            message = f"{known} Or declare it under parameters, or delete the binding."
            yield ("bindings", name), message
        for index, bound in enumerate(inputs):
            key, message = _binding_fault(bound, nodes, kinds.get(name, ""))
            if message:
                yield ("bindings", name, index, key), message
                continue
            owner = owners.setdefault((bound.node, bound.input), name)
            if owner != name:
                yield ("bindings", name, index), f"takes {owner!r} already. Delete one of the two."
    for name in kinds:
        if not workflow.bindings.get(name):
            yield from _unbound(name, nodes, parameters)


def _unbound(name: str, nodes: Nodes, parameters: Mapping[str, object]) -> Iterator[Located]:
    """Name the fault of a value that is bound nowhere.

    A graph without seeds needs none.
    """
    where = "an input of the graph"
    if name == "seed":
        where = " and ".join(_seeds(nodes))
    if not where:
        return
    remedy = f"is bound nowhere: it would change nothing. Bind it to {where}"
    if name in parameters:
        yield ("parameters", name), f"{remedy}, or delete it."
    else:
        yield ("bindings", name), f"{remedy}."


def _seeds(nodes: Nodes) -> list[str]:
    """The inputs that take a seed."""
    return [
        f"{name!r} of node {number!r}"
        for number, node in nodes.items()
        for name in SEEDS
        if _kind(node["inputs"].get(name)) == "integer"
    ]


def _binding_fault(bound: Binding, nodes: Nodes, kind: str) -> tuple[str, str]:
    """The wrong key of a binding and what is wrong with it; empty where nothing is."""
    node = nodes.get(bound.node)
    if node is None:
        return "node", f"the graph has no node {bound.node!r}; {_offered_nodes(bound, nodes)}"
    title = title_of(node)
    inputs = node["inputs"]
    if bound.input not in inputs:
        known = offer(bound.input, inputs)
        return "input", f"node {bound.node!r} ({title}) has no input {bound.input!r}; {known}"
    if bound.title not in ("", title):
        problem = f"node {bound.node!r} is {title!r}, not {bound.title!r}."
        return "title", f"{problem} Is it another node now? Correct one of the two."
    return "input", _input_problem(bound.input, inputs[bound.input], kind)


def _offered_nodes(bound: Binding, nodes: Nodes) -> str:
    """Offer the node of the same title, else the nearest number."""
    named = [f"{number} ({title_of(node)})" for number, node in nodes.items()]
    alike = [number for number, node in nodes.items() if title_of(node) == bound.title]
    if bound.title and alike:
        return f"did you mean {alike[0]!r}? Allowed: {', '.join(few(alike[0], named))}."
    return offer(bound.node, named)


def _input_problem(name: str, value: object, kind: str) -> str:
    """Why an input cannot take a value of ours; empty where it can."""
    if name == "filename_prefix":
        return (
            "'filename_prefix' is ours: the files of each run get a name of their own. Bind another"
            " input."
        )
    if isinstance(value, list):
        return f"{name!r} comes from node {value[0]!r} by a link: bind an input of that node."
    theirs = _kind(value)
    if kind not in ("", theirs) and {kind, theirs} != {"integer", "number"}:
        return f"{name!r} takes {theirs} values such as {str(value)[:40]!r}, not a {kind}."
    return ""


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), type(value).__name__)
