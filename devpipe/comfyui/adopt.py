"""A ComfyUI graph that somebody brings becomes an output config.

Where our texts, pictures and numbers go is a guess (trace.py), and is shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devpipe.comfyui.checker import (
    input_of,
    inputs_of,
    is_custom,
    is_link,
    model_files,
    pack_of,
    unknown_inputs,
)
from devpipe.comfyui.trace import (
    PARAMETERS,
    TO_TEXTS,
    Group,
    Guess,
    Known,
    Reader,
    Spot,
    behind,
)
from devpipe.config.strict_json import MAX_GRAPH_BYTES, parse_object
from devpipe.config.workflow import HOW_TO_EXPORT, SEEDS, Nodes, shape_fault, title_of
from devpipe.errors import UsageError
from devpipe.files import read_plain
from devpipe.media import provenance
from devpipe.media.containers import png_text

MAX_FILE = 64_000_000  # bytes: a PNG has its pixels, too
SMALLER = "Split it in ComfyUI, or load from files what stands in its nodes."
NUMBERS: Mapping[str, float] = {  # for inputs that hold no number yet, where no server says better
    **dict.fromkeys(SEEDS, 0),
    "steps": 20,
    "cfg": 7.0,
    "denoise": 1.0,
    "width": 1024,
    "height": 1024,
    "batch_size": 1,
    "length": 81,
}
SAVES = re.compile(
    "Save(?!Text)|Preview(?!Any|Text)|Combine$|Output|Export|Send|Upload|Display|Write"
)  # in the names of nodes
INVERTERS = {"InvertMask": "mask", "ImageInvert": "image"}
SHAPES = re.compile(
    r"(Grow|Feather|Threshold|Crop|Resize|Scale|Blur)Mask.*|MaskToImage|ImageToMask|ImageScale.*|"
    r"ImageBlur|.*Preview.*"
)
MASKED = {
    "VAEEncodeForInpaint",
    "SetLatentNoiseMask",
    "InpaintModelConditioning",
}  # they change where the mask is white
VIDEO, SOUND = (
    re.compile(r"Save(Video|WEBM|Animated)|VideoCombine"),
    re.compile(r"(Save|Preview)Audio"),
)


NEGATIVE = Known(
    (), TO_TEXTS, "Without|Ohne", "What shall not appear.|Was nicht vorkommen soll.", "string"
)


@dataclass(frozen=True, slots=True)
class Adoption:
    """A graph with a guess for each of our values."""

    graph: Nodes
    guesses: tuple[Guess, ...]
    changes: tuple[str, ...] = ()  # what was set right in it
    needs: tuple[str, ...] = ()  # custom nodes and model files
    medium: str = "image"
    object_info: Nodes = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it."""
        return *self.changes, *_of_pictures(self), *self.needs

    def chosen(self, choose: Callable[[Guess], Group]) -> Adoption:
        """The same with only one place for each value; `choose` is asked where two are possible."""
        return replace(
            self,
            guesses=tuple(
                Guess(one.name, choose(one) if one.others else one.best) for one in self.guesses
            ),
        )

    def config(self, name: str) -> dict[str, Any]:
        """The output config, as its file holds it."""
        bound = {
            one.name: [self._binding(spot) for spot in one.best] for one in self.guesses if one.best
        }
        images = [name for name in ("image", "mask", "control") if name in bound]
        pipeline = "image_text" if images else "dual_text" if "prompt_2" in bound else "single_text"
        if images:
            bound.pop("prompt_2", None)  # said in the notes
        words = _words(*[name.replace("_", " ").title()] * 2)
        about = _words(f"The ComfyUI graph {name}.json.", f"Der ComfyUI-Graph {name}.json.")
        return {
            "$schema": "../schemas/output_config.schema.json",
            "name": name,
            "version": 1,
            "title": words,
            "description": about,
            "pipeline": f"{pipeline}_media_generation",
            "images": images,
            "medium": self.medium,
            "backend": "comfyui",
            "model": name,
            "graph": f"{name}.json",
            "bindings": bound,
            "models": [
                {"file": file, "folder": folder} for file, folder in model_files(self.graph).items()
            ],
            "parameters": {
                one.name: self._parameter(one)
                for one in self.guesses
                if one.name in (*PARAMETERS, "negative_prompt")
            },
        }

    def _binding(self, spot: Spot) -> dict[str, str]:
        return {"node": spot[0], "input": spot[1], "title": title_of(self.graph[spot[0]])}

    def _limits(self, guess: Guess) -> Mapping[str, Any]:
        number, name = guess.best[0]
        told = input_of(self.object_info, self.graph[number]["class_type"], name)
        return told.limits if told else {"min": 0, "max": 1} if guess.name == "alpha" else {}

    def _parameter(self, guess: Guess) -> dict[str, Any]:
        value = self.graph[guess.best[0][0]]["inputs"][guess.best[0][1]]
        known, told = PARAMETERS.get(guess.name, NEGATIVE), self._limits(guess)
        words = {
            "title": _words(*known.title.split("|")),
            "description": _words(*known.description.split("|")),
        }
        if known.type == "string":
            return {"type": known.type, **words, "default": value}
        with suppress(
            OverflowError
        ):  # a number of hundreds of digits: the config's own check refuses it
            value = int(value) if known.type == "integer" else float(value)
        low, high = (
            max(known.limits[0], told.get("min", 0)),
            min(known.limits[1], told.get("max", known.limits[1])),
        )
        fits: dict[str, Any] = {"minimum": min(low, value), "maximum": max(high, value)}
        usual = (
            next(one for one in (16, 8, 1) if value % one == 0)
            if guess.name in ("width", "height")
            else 1
        )  # where no server says
        step = int(told.get("step", usual)) if known.type == "integer" else 1
        if step > 1 and not (value % step or told.get("min", 0) % step):
            fits |= {"minimum": min(-(-low // step) * step, value), "multiple_of": step}
        elif step > 1:  # one more than a multiple: no limits can say that
            steps = range(
                int(value % step), int(value * 2), step * max(1, -(-int(value) // (step * 6)))
            )
            fits = {
                "choices": sorted(
                    {int(value), *(one for one in steps if max(low, 1) <= one <= high)}
                )
            }
        return {"type": known.type, **words, "default": value, **fits}


def _words(english: str, german: str) -> dict[str, str]:
    return {"en": english, "de": german}


def read(path: Path) -> dict[str, Any]:
    """The graph in a file: an API export, also inside a request, or a PNG that ComfyUI wrote.

    Raises UsageError that says what to do.
    """
    try:
        data = read_plain(path, MAX_FILE)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Name the graph's file: a graph has some kB.",
        ) from error
    try:
        graph = _of_png(data) if data.startswith(b"\x89PNG") else _of_json(data)
    except ValueError as error:
        raise UsageError(
            f"{path} holds no graph that can be read: {_why(data, error)}.", hint=HOW_TO_EXPORT
        ) from error
    while isinstance(graph, dict) and shape_fault(graph):
        inner = [
            graph[key]
            for key in ("prompt", "workflow", "input")
            if isinstance(graph.get(key), dict)
        ]
        if not inner:
            break
        graph = inner[0]
    if isinstance(graph, dict):  # older servers note there what had changed, as NaN
        graph = {
            number: (
                {**node, "is_changed": None}
                if isinstance(node, dict) and "is_changed" in node
                else node
            )
            for number, node in graph.items()
        }
    fault = shape_fault(graph) if isinstance(graph, dict) else f"holds no graph. {HOW_TO_EXPORT}"
    if fault:
        raise UsageError(f"{path} {fault}")
    if (size := len(written(graph).encode())) > MAX_GRAPH_BYTES:
        raise UsageError(
            f"The graph in {path} has {size // 1024} kB, an output's may have"
            f" {MAX_GRAPH_BYTES // 1024}.",
            hint=SMALLER,
        )
    return dict(graph)


def written(value: Mapping[str, Any]) -> str:
    """A graph or an output config as its file holds it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _why(data: bytes, error: Exception) -> str:
    """What kept a file from being read, for people who know no codecs."""
    if not data.strip():
        return "it is empty"
    if isinstance(error, UnicodeDecodeError):
        return "it is neither JSON nor a PNG of ComfyUI; other pictures lose the graph"
    return (
        f"its JSON breaks off or is wrong: {error}"
        if isinstance(error, json.JSONDecodeError)
        else str(error)
    )


def _of_json(data: bytes) -> Any:
    """The graph in a JSON text. Raises ValueError where there is none, or a part would be lost."""
    graph, faults = parse_object(data.decode("utf-8-sig"))
    for path, message in faults:
        raise ValueError(f"{path} {message.removesuffix('.')}")
    return graph


def _of_png(data: bytes) -> Any:
    """The graph that ComfyUI left in a PNG, or we; its pixels are not looked at.

    Raises ValueError where there is none.
    """
    theirs = png_text(data, b"prompt", limit=MAX_FILE)
    if theirs is not None:
        return _of_json(theirs.encode())
    ours = provenance.read(data)
    if ours and ours.request and isinstance(workflow := ours.request.get("workflow"), dict):
        return workflow.get("nodes")
    raise ValueError(
        "the PNG carries none that can be run; ComfyUI did not write it, or somebody took it out"
    )


def adopt(graph: Nodes, object_info: Nodes | None = None) -> Adoption:
    """The graph with a guess for each of our values.

    Raises UsageError where no text goes into it.
    """
    info = object_info or {}
    graph, changes = _with_masks(graph)
    changes += [*_corrected(graph, info), *_filled_up(graph, info)]
    reader = Reader(graph, info)
    prompts = reader.texts("positive")
    if not prompts:
        raise UsageError(
            "This graph takes no text, and every output of devpipe does.",
            hint="Choose a graph with a prompt.",
        )
    guesses = [*_of_texts(reader, prompts), Guess("seed", reader.seeds()), *reader.pictures()]
    changes += (
        []
        if reader.seeds()
        else ["there is no seed in the graph: the same text gives the same result."]
    )
    changes += [
        note
        for one in guesses
        if one.name == "mask"
        for group in (one.best, *one.others)
        for note in _turned(graph, group[0][0])
    ]
    has_image = any(one.name == "image" for one in guesses)
    guesses += [
        one
        for name in PARAMETERS
        if (one := reader.parameter(name)).best and (name != "strength" or has_image)
    ]
    classes = [node["class_type"] for node in graph.values()]
    medium = (
        "video"
        if any(map(VIDEO.search, classes))
        else "sound"
        if any(map(SOUND.search, classes))
        else "image"
    )
    return Adoption(
        graph,
        tuple(_apart(guesses)),
        tuple(changes),
        tuple(_needs(graph, object_info)),
        medium,
        info,
    )


def _of_pictures(adopted: Adoption) -> Iterator[str]:
    """What becomes of the pictures that stand in the graph, and of a second text beside them."""
    graph, pictures = (
        adopted.graph,
        [one for one in adopted.guesses if one.name in ("image", "mask", "control")],
    )
    spots = {spot for guess in adopted.guesses for spot in guess.best}
    for number, node in graph.items():
        if node["class_type"].startswith("LoadImage") and (number, "image") not in spots:
            yield (
                f"node {number}: its picture {node['inputs'].get('image')} must lie on the server."
            )
    for one in adopted.guesses if pictures else ():
        if one.name == "prompt_2":
            yield (
                f"node {one.best[0][0]}: its text stays as it is, an output with a picture takes"
                " one."
            )
    for one in pictures:
        yield from (
            f"node {number} takes the same picture: it named {graph[number]['inputs'][name]}."
            for number, name in one.best[1:]
        )


def _apart(guesses: Sequence[Guess]) -> list[Guess]:
    """The guesses without the inputs that another one before has taken: a square's width and height
    may be one number.
    """
    taken, kept = set[Spot](), []
    for guess in guesses:
        best = tuple(spot for spot in guess.best if spot not in taken)
        taken.update(best)
        kept += [replace(guess, best=best)] if best else []
    return kept


def _of_texts(reader: Reader, prompts: list[Group]) -> Iterator[Guess]:
    """The first text, the second where a node takes two, and what shall not appear."""
    if blend := reader.blend():
        yield from blend
        yield from _negative(reader, prompts)
        return
    lyrics = [spot for group in prompts for spot in group if spot[1] == "lyrics"]
    groups = [
        kept for group in prompts if (kept := tuple(spot for spot in group if spot not in lyrics))
    ] or prompts
    yield Guess("prompt", groups[0], tuple(groups[1:]))
    if lyrics:
        yield Guess("prompt_2", tuple(lyrics))
    yield from _negative(reader, prompts)


def _negative(reader: Reader, prompts: list[Group]) -> Iterator[Guess]:
    """What shall not appear: what is no prompt as well."""
    taken = {spot for group in prompts for spot in group}
    negatives = [
        kept
        for group in reader.texts("negative")
        if (kept := tuple(spot for spot in group if spot not in taken))
    ]
    if negatives:
        yield Guess("negative_prompt", negatives[0], tuple(negatives[1:]))


def _needs(graph: Nodes, object_info: Nodes | None) -> Iterator[str]:
    """Which nodes are not ComfyUI's own, and which files it loads."""
    classes = sorted({node["class_type"] for node in graph.values()})
    if object_info is None:
        yield "custom nodes: unknown without a server; set COMFYUI_URL, or give --object-info FILE."
    else:
        if missing := [one for one in classes if one not in object_info]:
            yield f"nodes that the server lacks: {', '.join(missing)}."
            if packs := sorted({pack for one in missing if (pack := pack_of(one))}):
                yield f"some of them come with: {', '.join(f'github.com/{one}' for one in packs)}."
        custom = [one for one in classes if is_custom(object_info, one)]
        if named := [
            f"{one} ({object_info[one]['python_module'].removeprefix('custom_nodes.')})"
            for one in custom
        ]:
            yield f"custom nodes: {', '.join(named)}."
    if not any(map(SAVES.search, classes)):
        yield (
            "no node seems to save a picture, film or sound: add one that does, such as SaveImage."
        )
    yield from (
        f"model file: models/{folder}/{file}" for file, folder in model_files(graph).items()
    )


def _with_masks(graph: Nodes) -> tuple[dict[str, Any], list[str]]:
    """The graph with masks as we send them: pictures of their own, white where to change, not the
    alpha of another.
    """
    found, notes = (
        {number: {**node, "inputs": dict(node["inputs"])} for number, node in graph.items()},
        [],
    )
    for number, node in graph.items():
        if node["class_type"] == "LoadImageMask" and node["inputs"].get("channel") != "red":
            found[number]["inputs"]["channel"] = "red"
            notes.append(
                f"node {number}: the mask is read from its brightness now, white is where to"
                " change."
            )
        alphas = [
            (one, name)
            for one, other in graph.items()
            for name, value in other["inputs"].items()
            if value == [number, 1]
        ]
        if node["class_type"] == "LoadImage" and alphas:
            new = f"{number}_mask"
            inputs = {"image": node["inputs"].get("image", "mask.png"), "channel": "red"}
            found[new] = {
                "inputs": inputs,
                "class_type": "LoadImageMask",
                "_meta": {"title": "Mask"},
            }
            for one, name in alphas:
                found[one]["inputs"][name] = [new, 0]
            notes.append(
                f"node {new} was added: the mask is a picture of its own, not the transparency of"
                f" node {number}."
            )
    return found, notes


def _turned(graph: dict[str, Any], loader: str) -> Iterator[str]:
    """Take inverters of a mask out of the way, where all of it goes through one to be what is
    changed: ours is white there.
    """
    uses, inverters = _users(graph, loader)
    behind = [one for inverter in inverters for one in _users(graph, inverter)[0]]
    plain = not uses and any(graph[one]["class_type"] in MASKED for one in behind)
    for inverter in inverters:
        source = graph[inverter]["inputs"].get(INVERTERS[graph[inverter]["class_type"]])
        for node in graph.values() if plain else ():
            node["inputs"].update(
                {
                    name: source
                    for name, value in node["inputs"].items()
                    if is_link(value) and value[0] == inverter
                }
            )
        told = "the mask goes past it now" if plain else "it turns the mask round; look at a result"
        yield (
            f"node {inverter} ({title_of(graph[inverter])}): {told}: what is sent is white where to"
            " change."
        )


def _users(graph: Nodes, number: str) -> tuple[list[str], list[str]]:
    """The nodes that use a mask, and those that invert it first; also behind nodes that only shape
    it.
    """
    ends = behind(graph, number, SHAPES)
    return [one for one in ends if graph[one]["class_type"] not in INVERTERS], [
        one for one in ends if graph[one]["class_type"] in INVERTERS
    ]


def _corrected(graph: dict[str, Any], object_info: Nodes) -> Iterator[str]:
    """Numbers where a program would put them, {{seed}}; folders with the strokes that this server
    writes; no values that it ignores.

    Links stay, which servers pass on, and all that stands in custom nodes.
    """
    for number, node in graph.items():
        unknown = unknown_inputs(node, object_info)
        if is_custom(object_info, node["class_type"]):
            names = ", ".join(unknown)
            yield from (
                [
                    f"node {number} ({title_of(node)}) does not declare {names}: custom nodes may"
                    " take more than that."
                ]
                if names
                else ()
            )
            continue
        for name in unknown:
            if not isinstance(node["inputs"][name], list | dict):
                del node["inputs"][name]
                yield f"node {number}: {name} was left out, which this server does not know."
        yield from _set_right(number, node, object_info)


def _set_right(number: str, node: dict[str, Any], object_info: Nodes) -> Iterator[str]:
    """Give a node the values in the way that this server takes them."""
    for name, value in node["inputs"].items():
        told = input_of(object_info, node["class_type"], name)
        new = _correct(
            name,
            value,
            told.kind if told else "",
            told.limits if told else {},
            (told and told.options) or (),
        )
        if new != value:
            node["inputs"][name] = new
            yield f"node {number}: {name} was {value!r}, it is {new!r} now."


def _correct(
    name: str, value: Any, kind: str, limits: Mapping[str, Any], options: Sequence[Any]
) -> Any:
    """The value as this server takes it; the same where it does, or nothing better is known."""
    if isinstance(value, str):
        slashed = value.replace("\\", "/")
        return (
            slashed
            if value not in options and slashed in options
            else _number_for(name, value, kind, limits)
        )
    low, step = limits.get("min") or 0, limits.get("step") or 1
    whole = (
        kind == "INT"
        and type(value) is int
        and isinstance(step, int)
        and isinstance(low, int)
        and value > low
    )
    return value - (value - low) % step if whole else value


def _number_for(name: str, text: str, kind: str, limits: Mapping[str, Any]) -> Any:
    """The number for a text that stands where one belongs; else the text."""
    if kind not in ("INT", "FLOAT") and (kind or name not in NUMBERS):
        return text
    try:
        number = int(text) if text.strip().lstrip("+-").isdigit() else float(text)
        return number if math.isfinite(number) else text
    except ValueError:
        return (
            limits.get("default", NUMBERS.get(name, limits.get("min", 0)))
            if kind or not re.search(r"\d", text)
            else text
        )


def _filled_up(graph: dict[str, Any], object_info: Nodes) -> Iterator[str]:
    """Give nodes from older servers the inputs that this one asks for besides, with its own
    defaults.
    """
    for number, node in graph.items():
        for name in inputs_of(object_info, node["class_type"], "required"):
            told = input_of(object_info, node["class_type"], name)
            if (
                name not in node["inputs"]
                and told
                and (value := told.limits.get("default", (told.options or [None])[0])) is not None
            ):
                custom = is_custom(object_info, node["class_type"])
                node["inputs"].update({} if custom else {name: value})
                yield f"node {number}: " + (
                    f"it lacks {name}, which this server asks for; usual is {value}."
                    if custom
                    else f"{name} = {value} was added, which this server asks for."
                )
