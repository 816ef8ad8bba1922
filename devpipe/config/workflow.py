"""What must a ComfyUI graph and an output config's bindings be like, before any server is asked?

A graph is an API export: {node number: {"class_type", "inputs", "_meta": {"title"}}}; an input is a
value, or a link [node, slot].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devpipe.errors import offer
from devpipe.values import canonical_json

Nodes = Mapping[str, Any]
Place = tuple[str | int, ...]  # in a config file
HOW_TO_EXPORT = (
    "Open it in ComfyUI and choose Workflow > Export (API); older versions: Settings > Enable Dev"
    " mode, then Save (API Format). In ComfyUI öffnen und Workflow > Exportieren (API) wählen."
)
SEEDS = ("seed", "noise_seed", "seed_num", "rand_seed")


def shape_fault(graph: Mapping[str, Any]) -> str:
    """What makes this no graph in API format; empty where it is one."""
    if isinstance(graph.get("nodes"), list):
        return f"is in the UI format, which no server runs. {HOW_TO_EXPORT}"
    if not graph:
        return "has no nodes."
    for number, node in graph.items():
        if not (
            isinstance(node, dict)
            and isinstance(node.get("class_type"), str)
            and isinstance(node.get("inputs"), dict)
        ):
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


def title_of(node: Mapping[str, Any]) -> str:
    """What people call a node: its title, else its class."""
    meta = node.get("_meta")
    return str((meta.get("title") if isinstance(meta, Mapping) else "") or node["class_type"])


def is_link(value: object) -> bool:
    """Whether an input comes from another node."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and type(value[1]) is int
    )


# What of a run goes where.


def binding_faults(
    bindings: Mapping[str, Sequence[Mapping[str, str]]],
    nodes: Nodes,
    kinds: Mapping[str, str],
    parameters: Mapping[str, object],
) -> Iterator[tuple[Place, str]]:
    """What is wrong with an output config's bindings, as (place in the file, message).

    `kinds`: what each of our values is.
    """
    if not nodes:
        yield ("bindings",), "bind inputs of a graph: name one as `graph`."
        return
    taken: dict[tuple[str, str], str] = {}
    for name, some in bindings.items():
        if name not in kinds:
            what = f"is no text, picture or parameter of this output; {offer(name, kinds)}"
            yield (
                ("bindings", name),
                f"{what} Or declare it under parameters, or delete the binding.",
            )
        for index, one in enumerate(some):
            if fault := _binding_fault(one, nodes, kinds.get(name, "")):
                yield ("bindings", name, index, fault[0]), fault[1]
            elif (owner := taken.setdefault((one["node"], one["input"]), name)) != name:
                yield ("bindings", name, index), f"takes {owner!r} already. Delete one of the two."
    for name in kinds:
        if not bindings.get(name) and (name != "seed" or (seeds := _seeds(nodes))):
            where = " and ".join(seeds) if name == "seed" else "an input of the graph"
            what = (
                f"Bind it to {where}, or delete it."
                if name in parameters
                else f"Bind it to {where}."
            )
            yield (
                ("parameters" if name in parameters else "bindings", name),
                f"is bound nowhere: it would change nothing. {what}",
            )


def _seeds(nodes: Nodes) -> list[str]:
    """The inputs that take a seed."""
    places = [
        (number, name)
        for number, node in nodes.items()
        for name in SEEDS
        if _kind(node["inputs"].get(name)) == "integer"
    ]
    return [f"{name!r} of node {number!r}" for number, name in places]


def _binding_fault(one: Mapping[str, str], nodes: Nodes, kind: str) -> tuple[str, str] | None:
    """The wrong key of a binding and what is wrong with it."""
    if (node := nodes.get(one["node"])) is None:
        alike = [
            number
            for number, other in nodes.items()
            if one["title"] and title_of(other) == one["title"]
        ]
        named = [f"{number} ({title_of(other)})" for number, other in nodes.items()]
        near = (
            f"did you mean {alike[0]!r}? Allowed: {', '.join(named)}."
            if alike
            else offer(one["node"], named)
        )
        return "node", f"the graph has no node {one['node']!r}; {near}"
    if one["input"] not in node["inputs"]:
        return (
            "input",
            (
                f"node {one['node']!r} ({title_of(node)}) has no input {one['input']!r};"
                f" {offer(one['input'], node['inputs'])}"
            ),
        )
    if one["title"] and one["title"] != title_of(node):
        return (
            "title",
            (
                f"node {one['node']!r} is {title_of(node)!r}, not {one['title']!r}. Is it another"
                " node now? Correct one of the two."
            ),
        )
    value = node["inputs"][one["input"]]
    if one["input"] == "filename_prefix":
        return (
            "input",
            (
                "'filename_prefix' is ours: the files of each run get a name of their own. Bind"
                " another input."
            ),
        )
    if isinstance(value, list):
        return (
            "input",
            f"{one['input']!r} comes from node {value[0]!r} by a link: bind an input of that node.",
        )
    if kind and not _alike(kind, _kind(value)):
        return (
            "input",
            (
                f"{one['input']!r} takes {_kind(value)} values such as {str(value)[:40]!r}, not a"
                f" {kind}."
            ),
        )
    return None


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), type(value).__name__)


def _alike(ours: str, theirs: str) -> bool:
    return ours == theirs or {ours, theirs} == {"integer", "number"}
