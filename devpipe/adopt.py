"""A ComfyUI graph that somebody brings becomes an output config: which of its inputs take our texts, pictures and numbers?

Found by following links from the samplers and loaders, never by the numbers of nodes. What is found is a guess, and is shown.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devpipe.errors import UsageError
from devpipe.graphs import HOW_TO_EXPORT, SEEDS, Nodes, input_of, is_link, model_files, shape_fault, title_of, upstream

Spot = tuple[str, str]  # node, input
Group = tuple[Spot, ...]
MAX_FILE = 64_000_000  # bytes
TEXTS = re.compile(r".*(text|prompt|string|caption).*|value|tags|lyrics|clip_[lg]|t5xxl|llama|positive|negative", re.IGNORECASE)
CHOICES = re.compile("(option|mode|type|format|name)$")  # no texts, whatever else they are called
TO_TEXTS = re.compile(r".*(text|prompt|string|cond|positive|negative|pipe).*|value|tags|lyrics|clip_[lg]|t5xxl|input\d*|guider|any.*|[ab]")
TO_LATENT = re.compile(r"latent.*|samples?|latents|positive|guider|input\d*")
VIDEO, SOUND = re.compile(r"Save(Video|WEBM|Animated)|VideoCombine"), re.compile(r"(Save|Preview)Audio")


@dataclass(frozen=True, slots=True)
class Known:
    """How one of our parameters is called elsewhere, what people read of it (English | German), and sensible limits."""

    inputs: tuple[str, ...]
    through: re.Pattern[str]  # the links that lead to it from a sampler
    title: str
    description: str
    type: str = "integer"
    limits: tuple[float, float] = (1, 8)


TO_STEPS = re.compile("sigmas|guider")
LENGTHS = ("length", "num_frames", "video_frames", "frames")
PARAMETERS: Mapping[str, Known] = {
    "width": Known(("width",), TO_LATENT, "Width|Breite", "Width in pixels.|Breite in Pixeln.", limits=(64, 2048)),
    "height": Known(("height",), TO_LATENT, "Height|Höhe", "Height in pixels.|Höhe in Pixeln.", limits=(64, 2048)),
    "frames": Known(LENGTHS, TO_LATENT, "Frames|Bilder", "How many pictures the film has.|Wie viele Bilder der Film hat.", limits=(1, 257)),
    "seconds": Known(("seconds",), TO_LATENT, "Length|Länge", "Seconds that it lasts.|Sekunden, die es dauert.", "number", (1, 600)),
    "strength": Known(("denoise",), TO_STEPS, "Strength|Stärke", "How far from the picture.|Wie weit vom Bild weg.", "number", (0, 1)),
    "steps": Known(("steps",), TO_STEPS, "Steps|Schritte", "How often it is refined.|Wie oft verfeinert wird.", limits=(1, 150)),
    "guidance_scale": Known(
        ("guidance", "cfg"),
        TO_TEXTS,
        "Guidance|Führung",
        "How closely it follows the text.|Wie genau es dem Text folgt.",
        "number",
        (0, 30),
    ),
    "count": Known(("batch_size",), TO_LATENT, "Number|Anzahl", "How many are made at once.|Wie viele auf einmal entstehen."),
}
NEGATIVE = Known((), TO_TEXTS, "Without|Ohne", "What shall not appear.|Was nicht vorkommen soll.", "string")


@dataclass(frozen=True, slots=True)
class Guess:
    """Where one of our values probably goes, and where else it might."""

    name: str
    best: Group
    others: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Adoption:
    """A graph with a guess for each of our values; what a person should know of it stands in `notes`."""

    graph: Nodes
    guesses: tuple[Guess, ...]
    notes: tuple[str, ...] = ()
    medium: str = "image"
    limits: Mapping[Spot, Mapping[str, Any]] = field(default_factory=dict)

    def chosen(self, choose: Callable[[Guess], Group]) -> Adoption:
        """The same with only one place for each value; `choose` is asked where two are possible."""
        return replace(self, guesses=tuple(Guess(one.name, choose(one) if one.others else one.best) for one in self.guesses))

    def config(self, name: str) -> dict[str, Any]:
        """The output config, as its file holds it."""
        bound = {one.name: [self._binding(spot) for spot in one.best] for one in self.guesses if one.best}
        images = [name for name in ("image", "mask", "control") if name in bound]
        pipeline = "image_text" if images else "dual_text" if "prompt_2" in bound else "single_text"
        if images:
            bound.pop("prompt_2", None)
        words = _words(*[name.replace("_", " ").title()] * 2)
        about = _words(f"The ComfyUI graph {name}.json.", f"Der ComfyUI-Graph {name}.json.")
        return {
            "$schema": "../schemas/output_config.schema.json", "name": name, "version": 1, "title": words, "description": about,
            "pipeline": f"{pipeline}_media_generation", "images": images, "medium": self.medium, "backend": "comfyui", "model": name,
            "graph": f"{name}.json", "bindings": bound,
            "models": [{"file": file, "folder": folder} for file, folder in model_files(self.graph).items()],
            "parameters": {one.name: self._parameter(one) for one in self.guesses if one.name in (*PARAMETERS, "negative_prompt")},
        }  # fmt: skip

    def _binding(self, spot: Spot) -> dict[str, str]:
        return {"node": spot[0], "input": spot[1], "title": title_of(self.graph[spot[0]])}

    def _parameter(self, guess: Guess) -> dict[str, Any]:
        value = self.graph[guess.best[0][0]]["inputs"][guess.best[0][1]]
        known, told = PARAMETERS.get(guess.name, NEGATIVE), self.limits.get(guess.best[0], {})
        words = {"title": _words(*known.title.split("|")), "description": _words(*known.description.split("|"))}
        if known.type == "string":
            return {"type": known.type, **words, "default": value}
        value = int(value) if known.type == "integer" else float(value)
        low, high = max(known.limits[0], told.get("min", 0)), min(known.limits[1], told.get("max", known.limits[1]))
        fits: dict[str, Any] = {"minimum": min(low, value), "maximum": max(high, value)}
        step = int(told.get("step", 1)) if known.type == "integer" else 1
        if step > 1 and not (value % step or told.get("min", 0) % step):
            fits |= {"minimum": min(-(-low // step) * step, value), "multiple_of": step}
        elif step > 1:  # one more than a multiple: no limits can say that
            fits = {"choices": sorted({int(value), *range(int(value % step), int(value * 2), step * -(-int(value) // (step * 6)))} - {0})}
        return {"type": known.type, **words, "default": value, **fits}


def _words(english: str, german: str) -> dict[str, str]:
    return {"en": english, "de": german}


def read(path: Path) -> dict[str, Any]:
    """The graph in a file: an API export, also inside a request, or a PNG that ComfyUI wrote. Raises UsageError that says what to do."""
    if path.exists() and (not path.is_file() or path.stat().st_size > MAX_FILE):
        raise UsageError(f"{path} is no file, or larger than {MAX_FILE // 1_000_000} MB.", hint=HOW_TO_EXPORT)
    data = path.read_bytes()
    try:
        graph = json.loads(_prompt_of(data) if data.startswith(b"\x89PNG") else data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} holds no graph that can be read: {error}.", hint=HOW_TO_EXPORT) from error
    while isinstance(graph, dict) and shape_fault(graph):
        inner = [graph[key] for key in ("prompt", "workflow", "input") if isinstance(graph.get(key), dict)]
        if not inner:
            break
        graph = inner[0]
    if isinstance(graph, dict):  # older servers note there what had changed, as NaN
        graph = {
            number: {**node, "is_changed": None} if isinstance(node, dict) and "is_changed" in node else node
            for number, node in graph.items()
        }
    fault = shape_fault(graph) if isinstance(graph, dict) else f"holds no graph. {HOW_TO_EXPORT}"
    if fault:
        raise UsageError(f"{path} {fault}")
    return dict(graph)


def _prompt_of(data: bytes) -> str:
    """The graph that ComfyUI left in a PNG. Raises ValueError where there is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return str(image.info["prompt"])
    except (KeyError, OSError, SyntaxError) as error:
        raise ValueError("the PNG carries none; ComfyUI did not write it, or somebody took it out") from error


def adopt(graph: Nodes, object_info: Nodes | None = None) -> Adoption:
    """The graph with a guess for each of our values. Raises UsageError where no text goes into it."""
    graph, notes = _with_masks(graph)
    notes += _filled_up(graph, object_info or {})
    reader = _Reader(graph)
    prompts = reader.texts("positive")
    if not prompts:
        raise UsageError("This graph takes no text, and every output of devpipe does.", hint="Choose a graph with a prompt.")
    guesses = [*_of_texts(reader, prompts), Guess("seed", reader.seeds()), *reader.pictures()]
    has_image = any(one.name == "image" for one in guesses)
    guesses += [one for name in PARAMETERS if (one := reader.parameter(name)).best and (name != "strength" or has_image)]
    guesses = _apart(guesses)
    classes = [node["class_type"] for node in graph.values()]
    medium = "video" if any(map(VIDEO.search, classes)) else "sound" if any(map(SOUND.search, classes)) else "image"
    spots = {spot for guess in guesses for spot in guess.best}
    told = {spot: input_of(object_info or {}, graph[spot[0]]["class_type"], spot[1]) for spot in spots}
    limits = {spot: one.limits for spot, one in told.items() if one}
    loaders = [(number, node["inputs"].get("image")) for number, node in graph.items() if node["class_type"].startswith("LoadImage")]
    notes += [f"node {number}: its picture {file} must lie on the server." for number, file in loaders if (number, "image") not in spots]
    return Adoption(graph, tuple(guesses), (*notes, *_needs(graph, object_info)), medium, limits)


def _apart(guesses: Sequence[Guess]) -> list[Guess]:
    """The guesses without the inputs that another one before has taken: a square's width and height may be one number."""
    taken, kept = set[Spot](), []
    for guess in guesses:
        best = tuple(spot for spot in guess.best if spot not in taken)
        taken.update(best)
        kept += [replace(guess, best=best)] if best else []
    return kept


def _of_texts(reader: _Reader, prompts: list[Group]) -> Iterator[Guess]:
    """The first text, the second where a node takes two, and what shall not appear."""
    lyrics = [spot for group in prompts for spot in group if spot[1] == "lyrics"]
    groups = [kept for group in prompts if (kept := tuple(spot for spot in group if spot not in lyrics))] or prompts
    yield Guess("prompt", groups[0], tuple(groups[1:]))
    if lyrics:
        yield Guess("prompt_2", tuple(lyrics))
    taken = {spot for group in prompts for spot in group}
    negatives = [kept for group in reader.texts("negative") if (kept := tuple(spot for spot in group if spot not in taken))]
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
        modules = {one: str(object_info[one].get("python_module", "")) for one in classes if one in object_info}
        if custom := [
            f"{one} ({module.removeprefix('custom_nodes.')})" for one, module in modules.items() if module.startswith("custom_nodes")
        ]:
            yield f"custom nodes: {', '.join(custom)}."
    yield from (f"model file: models/{folder}/{file}" for file, folder in model_files(graph).items())


def _with_masks(graph: Nodes) -> tuple[dict[str, Any], list[str]]:
    """The graph with masks as we send them: pictures of their own, white where to change, not the alpha of another."""
    found, notes = {number: {**node, "inputs": dict(node["inputs"])} for number, node in graph.items()}, []
    for number, node in graph.items():
        if node["class_type"] == "LoadImageMask" and node["inputs"].get("channel") != "red":
            found[number]["inputs"]["channel"] = "red"
            notes.append(f"node {number}: the mask is read from its brightness now, white is where to change.")
        alphas = [(one, name) for one, other in graph.items() for name, value in other["inputs"].items() if value == [number, 1]]
        if node["class_type"] == "LoadImage" and alphas:
            new = f"{number}_mask"
            inputs = {"image": node["inputs"].get("image", "mask.png"), "channel": "red"}
            found[new] = {"inputs": inputs, "class_type": "LoadImageMask", "_meta": {"title": "Mask"}}
            for one, name in alphas:
                found[one]["inputs"][name] = [new, 0]
            notes.append(f"node {new} was added: the mask is a picture of its own, not the transparency of node {number}.")
    return found, notes


def _filled_up(graph: dict[str, Any], object_info: Nodes) -> Iterator[str]:
    """Give nodes from older servers the inputs that this one asks for besides, with its own defaults."""
    for number, node in graph.items():
        for name in object_info.get(node["class_type"], {}).get("input", {}).get("required", {}):
            told = input_of(object_info, node["class_type"], name)
            if name not in node["inputs"] and told and (value := told.limits.get("default", (told.options or [None])[0])) is not None:
                node["inputs"][name] = value
                yield f"node {number}: {name} = {value} was added, which this server asks for."


@dataclass(frozen=True, slots=True)
class _Reader:
    """Follows the links of one graph."""

    graph: Nodes

    def samplers(self) -> list[str]:
        """The nodes that sample, those first that depend on the fewest others."""
        found = [number for number, node in self.graph.items() if _samples(node["inputs"])]
        found = found or [number for number, node in self.graph.items() if is_link(node["inputs"].get("positive"))]
        return sorted(found, key=lambda number: len(self._above(number)))

    def _above(self, number: str) -> set[str]:
        above, left = set[str](), [number]
        while left:
            new = [one for one in upstream(self.graph, left.pop()) if one not in above]
            above.update(new)
            left += new
        return above

    # Texts.

    def texts(self, role: str) -> list[Group]:
        """Groups of inputs that take a text in this role, the likeliest first. Equal texts are one, as are those of chained samplers."""
        first, rest = list[Spot](), list[Spot]()
        for sampler in self.samplers():
            found = self._ranked([spot for link in self._roots(sampler, role) for spot in self._texts(link, role, set())])
            first += found[:1]
            rest += found[1:]
        if not first and role == "positive" and not self.samplers():
            first, rest = [], self._ranked([spot for number in self.graph for spot in self._own(number, role)])
            first, rest = rest[:1], rest[1:]
        words = {self._text(spot) for spot in first} - {""}
        mates = [spot for spot in rest if self._text(spot) in words or any(self._encodes_together(spot, one) for one in first)]
        best = tuple(dict.fromkeys([*first, *mates]))
        return [best, *[(spot,) for spot in dict.fromkeys(rest) if spot not in best]] if best else []

    def _ranked(self, spots: Sequence[Spot]) -> list[Spot]:
        titles = {spot: title_of(self.graph[spot[0]]).lower() for spot in spots}
        return sorted(dict.fromkeys(spots), key=lambda spot: ("prompt" not in titles[spot], -len(self._text(spot).strip())))

    def _encodes_together(self, one: Spot, other: Spot) -> bool:
        """Whether two texts go into one encoder, each for a part of it."""
        return one[0] == other[0] and "clip" in self.graph[one[0]]["inputs"] and one[1] != "lyrics"

    def _text(self, spot: Spot) -> str:
        return str(self.graph[spot[0]]["inputs"][spot[1]])

    def _roots(self, sampler: str, role: str) -> list[Any]:
        inputs = self.graph[sampler]["inputs"]
        names = ("positive", "conditioning", "cond1") if role == "positive" else ("negative", "neg_conditioning")
        guider = self.graph.get(inputs["guider"][0], {"inputs": {}})["inputs"] if is_link(inputs.get("guider")) else {}
        return [link for name in names for link in (inputs.get(name), guider.get(name)) if is_link(link)]

    def _texts(self, link: Sequence[Any], role: str, seen: set[str]) -> Iterator[Spot]:
        number = str(link[0])
        if number in seen or number not in self.graph or self.graph[number]["class_type"] == "ConditioningZeroOut":
            return
        seen.add(number)
        yield from self._own(number, role)
        other = "negative" if role == "positive" else "positive"
        for name, value in self.graph[number]["inputs"].items():
            if is_link(value) and TO_TEXTS.fullmatch(name) and other not in name:
                yield from self._texts(value, role, seen)

    def _own(self, number: str, role: str) -> list[Spot]:
        inputs = self.graph[number]["inputs"]
        names = [name for name, value in inputs.items() if isinstance(value, str) and TEXTS.fullmatch(name) and not CHOICES.search(name)]
        against = [name for name in names if "neg" in name.lower()]
        return [(number, name) for name in (against if role == "negative" and against else [n for n in names if n not in against])]

    # Numbers.

    def seeds(self) -> Group:
        """Every seed of the graph: one run has one seed."""
        places = [(number, name) for number, node in self.graph.items() for name in SEEDS if name in node["inputs"]]
        return tuple(dict.fromkeys(spot for place in places if (spot := self._origin(*place, (int,)))))

    def parameter(self, name: str) -> Guess:
        """Where a parameter goes: at the first sampler that has it, and wherever else the same value stands in its place."""
        if name == "steps" and any("end_at_step" in node["inputs"] for node in self.graph.values()):
            return Guess(name, ())  # samplers that share their steps name parts of them
        known, spots = PARAMETERS[name], list[Spot]()
        for sampler in self.samplers():
            for input_ in known.inputs:
                if spot := self._nearest(sampler, input_, known.through):
                    spots.append(spot)
                    break
        values = [self.graph[number]["inputs"][input_] for number, input_ in spots]
        if not values or (name in ("guidance_scale", "strength") and values[0] == 1):
            return Guess(name, ())
        return Guess(name, tuple(dict.fromkeys(spot for spot, value in zip(spots, values, strict=True) if value == values[0])))

    def _nearest(self, number: str, name: str, through: re.Pattern[str]) -> Spot | None:
        """The nearest input of this name on the way up from a node."""
        left, seen = [number], {number}
        while left:
            inputs = self.graph[(one := left.pop(0))]["inputs"]
            if (
                name in inputs
                and (name not in ("width", "height") or "clip" not in inputs)
                and (spot := self._origin(one, name, (int, float)))
            ):
                return spot
            links = [value[0] for key, value in inputs.items() if is_link(value) and through.fullmatch(key) and value[0] in self.graph]
            left += [link for link in links if link not in seen]
            seen.update(links)
        return None

    def _origin(self, number: str, name: str, kinds: tuple[type, ...]) -> Spot | None:
        """The input that holds the value itself, behind primitives."""
        for _ in self.graph:
            value = self.graph[number]["inputs"].get(name)
            if not is_link(value):
                return (number, name) if type(value) in kinds else None
            if value[0] not in self.graph:
                return None
            number, inputs = value[0], self.graph[value[0]]["inputs"]
            held = [key for key, one in inputs.items() if type(one) in kinds] or [key for key, one in inputs.items() if is_link(one)]
            if len(held) != 1:
                return None
            name = held[0]
        return None

    # Pictures.

    def pictures(self) -> Iterator[Guess]:
        """The loaders of pictures by what becomes of them: the picture itself, a mask, a guide for a ControlNet."""
        found: dict[str, list[Group]] = {}
        for number, node in self.graph.items():
            if node["class_type"].startswith("LoadImage") and isinstance(node["inputs"].get("image"), str):
                found.setdefault(self._role(number), []).append(((number, "image"),))
        return (Guess(name, groups[0], tuple(groups[1:])) for name, groups in found.items())

    def _role(self, number: str) -> str:
        users = [node for node in self.graph.values() if any(value[:1] == [number] for value in node["inputs"].values() if is_link(value))]
        if self.graph[number]["class_type"] == "LoadImageMask" or (users and all(node["class_type"] == "ImageToMask" for node in users)):
            return "mask"
        guides = [
            node["inputs"]["image"][0]
            for node in self.graph.values()
            if "control_net" in node["inputs"] and is_link(node["inputs"].get("image"))
        ]
        encoded = [node["inputs"]["pixels"][0] for node in self.graph.values() if is_link(node["inputs"].get("pixels"))]
        return "control" if self._leads(number, guides) and not self._leads(number, encoded) else "image"

    def _leads(self, number: str, ends: Sequence[str]) -> bool:
        return any(number == end or number in self._above(end) for end in ends)


def _samples(inputs: Mapping[str, Any]) -> bool:
    led = any(is_link(inputs.get(name)) for name in ("positive", "guider", "conditioning"))
    return led and any(name in inputs for name in ("latent_image", "steps", "noise_seed", "noise"))
