"""ComfyUI graphs as data: what would be sent, and what a server would not take."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devpipe.config.workflow import Nodes, title_of
from devpipe.errors import Rejected, nearest, offer
from devpipe.values import MediaRequest, Workflow


def filled(
    workflow: Workflow, request: MediaRequest, *, images: Mapping[str, str], prefix: str
) -> dict[str, Any]:
    """The graph to send: the request's values put in, `images` by their names on the server, files
    under the prefix.

    Raises Rejected for a value that the graph does not take, or one that it needs and nobody gave.
    """
    values = {**request.texts, **request.parameters, **images, "seed": request.seed}
    for name in values:
        if name not in workflow.bindings and name != "seed":
            raise Rejected(
                f"The graph takes no {name!r}: it is bound to none of its inputs.",
                hint="Mend the output config's bindings.",
            )
    graph = {
        number: {**node, "inputs": dict(node["inputs"])} for number, node in workflow.nodes.items()
    }
    for name, bindings in workflow.bindings.items():
        if name not in values:
            raise Rejected(f"The graph needs {name!r}, which nobody gave.", hint=f"Give {name}=...")
        for one in bindings:
            if one.input not in graph.get(one.node, {"inputs": {}})["inputs"]:
                raise Rejected(
                    f"The graph has no input {one.input!r} of a node {one.node!r}.",
                    hint=f"Mend the binding of {name!r}.",
                )
            graph[one.node]["inputs"][one.input] = values[name]
    for number, node in graph.items():
        if (
            "filename_prefix" in node["inputs"]
        ):  # one for each node: files of two would be numbered in one row
            node["inputs"]["filename_prefix"] = f"{prefix}_{re.sub(r'[^A-Za-z0-9]', '-', number)}"
    return graph


# What a server would not take, by what it says about its nodes (GET /object_info).


@dataclass(frozen=True, slots=True)
class GraphProblem:
    """One thing in a graph that the server would refuse, or take for something else."""

    node: str
    title: str
    input: str
    message: str

    def __str__(self) -> str:
        where = f"node {self.node} ({self.title})" if self.node else "the graph"
        return f"{where}{f', {self.input}' if self.input else ''}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Input:
    """What a node says of one of its inputs."""

    kind: str  # INT, FLOAT, STRING, BOOLEAN, COMBO, or what a link must bring
    limits: Mapping[str, Any]
    options: Sequence[Any] | None  # of a COMBO; None: nobody knows them here

    @classmethod
    def of(cls, told: Any) -> _Input:
        """Both shapes of COMBO are the same: [[...], {}] and ["COMBO", {"options": [...]}]; what
        says no type takes anything.
        """
        told = (told or ["*"]) if isinstance(told, list) else [told]
        limits = {
            name: value
            for name, value in _mapping(told[1] if len(told) > 1 else None).items()
            if name not in LIMITS or _is_number(value)
        }
        if isinstance(told[0], list):
            return cls("COMBO", limits, told[0])
        options = limits.get("options") if told[0] == "COMBO" and "remote" not in limits else None
        return cls(str(told[0]), limits, options if isinstance(options, list) else None)


LIMITS = {"min", "max", "step"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def is_link(value: object) -> bool:
    """Whether an input comes from another node."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    node, slot = value
    return isinstance(node, str) and type(slot) is int


def inputs_of(object_info: Nodes, class_type: str, *parts: str) -> dict[str, Any]:
    """What a server says of a node's inputs, by name: of its required and optional ones, or of
    these `parts`.

    Custom nodes say this of themselves, and not all of them in the right shape: what is none counts
    as nothing.
    """
    told = _mapping(_mapping(object_info.get(class_type)).get("input"))
    return {
        name: one
        for part in parts or ("optional", "required")
        for name, one in _mapping(told.get(part)).items()
    }


def slots_of(object_info: Nodes, class_type: str) -> list[str]:
    """What a node gives, by slot."""
    told = _mapping(object_info.get(class_type)).get("output")
    return [
        "COMBO" if isinstance(one, list) else str(one)
        for one in (told if isinstance(told, list) else ())
    ]


def input_of(object_info: Nodes, class_type: str, name: str) -> _Input | None:
    """What a server says of one input; None where it knows no such node or input."""
    declared = inputs_of(object_info, class_type)
    return _Input.of(declared[name]) if name in declared else None


def is_custom(object_info: Nodes, class_type: str) -> bool:
    """Whether a node is not ComfyUI's own: such a node may take more than it says."""
    return str(_mapping(object_info.get(class_type)).get("python_module", "")).startswith(
        "custom_nodes"
    )


def unknown_inputs(node: Mapping[str, Any], object_info: Nodes) -> list[str]:
    """The inputs of a node that its server does not declare; none where it does not know the node.

    Plain ones are ignored. Links are passed on: nodes that take any number of them declare none.
    """
    known = {
        *inputs_of(object_info, node["class_type"], "required", "optional", "hidden"),
        *FRONTEND,
        *NEWER,
    }
    told = node["class_type"] in object_info
    return [
        name
        for name in node["inputs"]
        if told and name not in known and name.partition(".")[0] not in known
    ]


FRONTEND = {
    "upload",
    "audioUI",
    "control_after_generate",
    "speak_and_recognation",
}  # browsers export them, servers ignore them
NEWER = {
    "resolution_steps"
}  # of ImageScaleToTotalPixels: asked for since 0.8 at the latest, ignored before
FOLDERS: Mapping[str, str] = {  # of the files that a loader names: the folder under models/
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "vae_name": "vae",
    "control_net_name": "controlnet",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "clip_name4": "text_encoders",
    "lora_name": "loras",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "audio_encoder_name": "audio_encoders",
    "photomaker_model_name": "photomaker",
    "CLIPVisionLoader.clip_name": "clip_vision",
    "UpscaleModelLoader.model_name": "upscale_models",
    "ModelPatchLoader.name": "model_patches",
    "text_encoder": "text_encoders",
    "LTXVGemmaCLIPModelLoader.gemma_path": "text_encoders",
}
BUILT_IN = {
    "pixel_space",
    "taesd",
    "taesdxl",
    "taesd3",
    "taef1",
}  # VAEs without a file of their own


PACKS: Mapping[str, str] = {  # how often-used nodes of others are called: where they come from
    r"ai4artsed_.*": "joeriben/ai4artsed_comfyui_nodes",
    r"VHS_.*": "Kosinkadink/ComfyUI-VideoHelperSuite",
    r"ADE_.*": "Kosinkadink/ComfyUI-AnimateDiff-Evolved",
    r"ACN_.*": "Kosinkadink/ComfyUI-Advanced-ControlNet",
    r"easy .*": "yolain/ComfyUI-Easy-Use",
    r"IPAdapter.*": "cubiq/ComfyUI_IPAdapter_plus",
    r".*\(rgthree\)": "rgthree/rgthree-comfy",
    r"Efficient Loader|.*\(Efficient\)|.*\(Eff\.\)": "jags111/efficiency-nodes-comfyui",
    r"WanVideo.*": "kijai/ComfyUI-WanVideoWrapper",
    r"Impact.*|FaceDetailer.*": "ltdrdata/ComfyUI-Impact-Pack",
    r".*KJ(v\d)?": "kijai/ComfyUI-KJNodes",
    r".*\|pysssss": "pythongosssss/ComfyUI-Custom-Scripts",
    r"Layer(Utility|Mask|Color|Filter): .*": "chflame163/ComfyUI_LayerStyle",
    r".*GGUF": "city96/ComfyUI-GGUF",
    r"UltimateSDUpscale.*": "ssitu/ComfyUI_UltimateSDUpscale",
    r".*\+": "cubiq/ComfyUI_essentials",
}


def pack_of(class_type: str) -> str:
    """The repository on GitHub that brings a custom node, as far as its name tells; else empty."""
    return next((source for names, source in PACKS.items() if re.fullmatch(names, class_type)), "")


def folder_of(class_type: str, name: str) -> str:
    """The folder under models/ of the file that this input names; empty where it names none."""
    return FOLDERS.get(f"{class_type}.{name}") or FOLDERS.get(name, "")


def model_files(graph: Nodes) -> dict[str, str]:
    """The model files that a graph loads, with their folders under models/."""
    inputs = [
        (node["class_type"], name, value)
        for node in graph.values()
        for name, value in node["inputs"].items()
    ]
    return {
        value: folder
        for kind, name, value in inputs
        if isinstance(value, str) and value not in BUILT_IN and (folder := folder_of(kind, name))
    }


def problems(
    graph: Nodes,
    object_info: Nodes,
    *,
    sources: Mapping[str, str] | None = None,
    uploaded: Collection[tuple[str, str]] = (),
) -> list[GraphProblem]:
    """Everything a server with these nodes would not take, and what servers overlook: steps, NaN,
    unknown inputs, unused nodes.

    `sources`: where model files come from; `uploaded`: (node, input) pairs whose file is there only
    when a run begins.
    """
    checker = _Checker(graph, object_info, sources or {}, frozenset(uploaded))
    found = [
        GraphProblem(*where, message) for number in graph for where, message in checker.node(number)
    ]
    if not any(
        _mapping(object_info.get(node["class_type"], {"output_node": True})).get("output_node")
        for node in graph.values()
    ):
        found.append(
            GraphProblem(
                "",
                "",
                "",
                "no node writes or shows anything. Add one that does, such as SaveImage.",
            )
        )
    return [*found, *_circles(graph)]


@dataclass(frozen=True, slots=True)
class _Checker:
    """One graph beside what a server says of its nodes."""

    graph: Nodes
    object_info: Nodes
    sources: Mapping[str, str]
    uploaded: frozenset[tuple[str, str]]

    def node(self, number: str) -> Iterator[tuple[tuple[str, str, str], str]]:
        node = self.graph[number]
        kind, title = node["class_type"], title_of(node)
        if kind not in self.object_info:
            yield (
                (number, title, ""),
                f"the server has no node class {kind!r}. {self._how_to_get(kind)}",
            )
            return
        declared = {name: _Input.of(one) for name, one in inputs_of(self.object_info, kind).items()}
        for name in inputs_of(self.object_info, kind, "required"):
            if name not in node["inputs"] and not declared[name].kind.startswith("COMFY_"):
                yield (
                    (number, title, name),
                    f"is missing: the node needs it ({declared[name].kind}).",
                )
        unknown = (
            [] if is_custom(self.object_info, kind) else unknown_inputs(node, self.object_info)
        )
        for name, value in node["inputs"].items():
            if name in declared:
                if (number, name) not in self.uploaded and (
                    message := self._input(kind, name, declared[name], value)
                ):
                    yield (number, title, name), message
            elif name in unknown:
                what = "it may be passed on or fail" if is_link(value) else "it would be ignored"
                yield (
                    (number, title, name),
                    f"is no input of {kind}: {what}; {offer(name, declared)}",
                )

    def _how_to_get(self, kind: str) -> str:
        if pack := pack_of(kind):
            return f"Install the custom nodes {pack} (github.com/{pack}), and restart ComfyUI."
        near = nearest(kind, self.object_info, count=1)
        return "Install the custom node that brings it, or update ComfyUI." + (
            f" Or is {near[0]!r} meant?" if near else ""
        )

    def _input(self, kind: str, name: str, declared: _Input, value: Any) -> str:
        if isinstance(value, list):
            return self._link(declared, value)
        if (
            declared.options is not None
            and value not in declared.options
            and UPLOADS & {*declared.limits}
        ):
            ours = (
                ", or bind this input to a picture of ours"
                if "image_upload" in declared.limits
                else ""
            )
            return (
                f"the file {_shown(value)} is not in the server's folder input/: put it"
                f" there{ours}."
            )
        if declared.options is not None:
            return self._choice(kind, name, declared.options, value)
        if declared.kind in NUMBERS or declared.kind in ("STRING", "BOOLEAN"):
            return value_problem(declared.kind, declared.limits, value)
        made = any(declared.kind in slots_of(self.object_info, one) for one in self.object_info)
        return (
            f"needs a link to a {declared.kind}, not {_shown(value)}."
            if made and declared.kind != "*"
            else ""
        )

    def _link(self, declared: _Input, value: list[Any]) -> str:
        if not is_link(value):
            return f"is a list, and no link [node, slot]: {_shown(value)}."
        if (source := self.graph.get(value[0])) is None:
            return (
                f"is linked to node {value[0]!r}, which is not in the graph;"
                f" {offer(value[0], self.graph)}"
            )
        if source["class_type"] not in self.object_info:
            return ""  # said of that node already
        slots = slots_of(self.object_info, source["class_type"])
        if not 0 <= value[1] < len(slots):
            return (
                f"is linked to slot {value[1]} of node {value[0]!r} ({title_of(source)}). Allowed:"
                f" {_slots(slots)}."
            )
        brought, wanted = (
            {part.strip() for part in one.split(",")} for one in (slots[value[1]], declared.kind)
        )
        if (
            brought & wanted
            or "*" in brought | wanted
            or any(one.startswith("COMFY_") for one in brought | wanted)
        ):
            return ""
        fitting = [index for index, slot in enumerate(slots) if slot in wanted]
        other = f" Slot {fitting[0]} of that node is one." if fitting else ""
        return (
            f"needs {declared.kind}, but slot {value[1]} of node {value[0]!r} ({title_of(source)})"
            f" is {slots[value[1]]}.{other}"
        )

    def _choice(self, kind: str, name: str, options: Sequence[Any], value: Any) -> str:
        if value in options:
            return ""
        words, folder = [str(one) for one in options], folder_of(kind, name)
        near = nearest(str(value), words)
        if folder:
            source = f", from {self.sources[value]}" if value in self.sources else ""
            there = (
                f" Nearest there: {', '.join(near)}."
                if near
                else f" There are {len(words)} others."
                if words
                else ""
            )
            return (
                f"the file {value!r} is missing on the server: put it into"
                f" models/{folder}/{source}.{there}"
            )
        allowed = words if len(words) <= MANY else [*(near or words[:MANY]), "..."]
        return (
            f"cannot be {_shown(value)}; "
            + (f"did you mean {near[0]!r}? " if near else "")
            + f"Allowed: {', '.join(allowed) or 'none'}."
        )


NUMBERS = {"INT": "a whole number", "FLOAT": "a number"}
MANY = 12
UPLOADS = {"image_upload", "audio_upload", "video_upload", "file_upload"}


def value_problem(kind: str, limits: Mapping[str, Any], value: Any) -> str:
    """What is wrong with a value for an INT, FLOAT, STRING or BOOLEAN; empty where nothing is."""
    if kind == "STRING":
        return (
            "" if isinstance(value, str | int | float) else f"must be a text, not {_shown(value)}."
        )
    if kind == "BOOLEAN":
        return (
            ""
            if value in (True, False)
            else f"must be true or false, not {_shown(value)}: servers take any text for true."
        )
    try:
        number = float(value)
    except (TypeError, ValueError):
        return f"must be {NUMBERS[kind]}, not {_shown(value)}."
    except OverflowError:  # an int longer than a float: what counts is compared exactly
        number = 0.0
    low, high, step = limits.get("min"), limits.get("max"), limits.get("step")
    if not math.isfinite(number) or (kind == "INT" and number != int(number)):
        return f"must be {NUMBERS[kind]}, not {_shown(value)}; no server checks that."
    exact = value if isinstance(value, int) else number
    if (low is not None and exact < low) or (high is not None and exact > high):
        return f"must be {low}..{high}, not {_shown(value)}."
    if kind == "INT" and step and step > 1 and (int(exact) - (low or 0)) % step:
        return (
            f"must be {low or 0} or a multiple of {step} more, not {_shown(value)}; no server"
            " checks that."
        )
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _slots(slots: Sequence[str]) -> str:
    return ", ".join(f"{index} ({slot})" for index, slot in enumerate(slots)) or "none"


def upstream(graph: Nodes, number: str) -> Iterator[str]:
    """The nodes that a node gets something from directly."""
    return (
        value[0]
        for value in graph[number]["inputs"].values()
        if is_link(value) and value[0] in graph
    )


def _circles(graph: Nodes) -> Iterator[GraphProblem]:
    """The nodes that wait for themselves; servers refuse them without a word of where."""
    left = {number: set(upstream(graph, number)) for number in graph}
    while free := [number for number, waits in left.items() if not waits]:
        left = {number: waits - set(free) for number, waits in left.items() if number not in free}
    needed = {one for waits in left.values() for one in waits}
    if circle := [number for number in left if number in needed]:
        yield GraphProblem(
            circle[0],
            title_of(graph[circle[0]]),
            "",
            f"the nodes {', '.join(circle)} wait for each other in a circle.",
        )
