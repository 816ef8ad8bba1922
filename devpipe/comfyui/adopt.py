"""A ComfyUI graph that somebody brings becomes an output config: which of its inputs take our
texts, pictures and numbers?

Found by following links from the samplers and loaders, never by the numbers of nodes. What is found
is a guess, and is shown.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devpipe.comfyui.checker import (
    input_of,
    inputs_of,
    is_custom,
    model_files,
    pack_of,
    unknown_inputs,
)
from devpipe.config.strict_json import MAX_GRAPH_BYTES
from devpipe.config.workflow import HOW_TO_EXPORT, SEEDS, Nodes, is_link, shape_fault, title_of
from devpipe.errors import UsageError
from devpipe.media import provenance
from devpipe.media.provenance import png_chunks

Spot = tuple[str, str]  # node, input
Group = tuple[Spot, ...]
MAX_FILE = 64_000_000  # bytes: a PNG has its pixels, too
SMALLER = "Split it in ComfyUI, or load from files what stands in its nodes."
TEXTS = re.compile(
    r".*(text|prompt|string|caption).*|value|tags|lyrics|clip_[lg]|(mt5|t5|bert|llama).*|positive|negative|description",
    re.IGNORECASE,
)
CHOICES = re.compile(  # no texts, whatever else they are called
    r"(option|mode|model|type|format|name|style|colou?r|font|align|language|path|file|url|device|delimiter|width|height)$|system|instruct|preset",
    re.IGNORECASE,
)
SHOWS = re.compile(
    "show|preview|display", re.IGNORECASE
)  # nodes that keep a text which went through them once
# links that bring what shall appear and what shall not in one
BOTH = r".*pipe|.*_tuple|(text|prompt|hyvid)_embeds"
TO_TEXTS = re.compile(
    rf".*(text|prompt|string|cond|positive|negative).*|pos|neg|value|tags|lyrics|clip_[lg]|t5xxl|input\d*|guider|any.*|[ab]|{BOTH}",
    re.IGNORECASE,
)
TO_ANYTHING = re.compile(  # but the models, pictures and sounds
    r"(?!(.*model|clip|vae|.*(image|latent|mask|audio|video|control).*|pixels|samples?|seed|steps|noise|sigmas|sampler)\d*$).+",
    re.IGNORECASE,
)
SIDES = {"positive": re.compile("positive|^pos(_|$)"), "negative": re.compile("negative|^neg(_|$)")}
ROOTS = {
    "positive": re.compile("positive|pos|conditioning|cond1"),
    "negative": re.compile("negative|neg|neg_conditioning"),
}
BLENDS = {
    "conditioning_to_strength": ("conditioning_from", "conditioning_to"),
    "alpha": ("conditioning_a", "conditioning_b"),
}
UNTITLED = "clip text encode (prompt)"  # what ComfyUI calls both
INSERT = re.compile(  # a text that says where a program puts the real one: {{prompt}}, PROMPT_HERE
    r"[\W_]*((your|the|input|user|my|main|insert|enter|positive|negative|placeholder|param|text|prompt|here)[\W_]*)+",
    re.IGNORECASE,
)
TO_LATENT = re.compile(r"latent.*|samples?|latents|positive|guider|input\d*")
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
    r"(Grow|Feather|Threshold|Crop|Resize|Scale|Blur)Mask.*|MaskToImage|ImageToMask|ImageScale.*|ImageBlur|.*Preview.*"
)
ADJUSTS = re.compile("ImageInvert|ImageScale.*|ImageBlur")
MASKED = {
    "VAEEncodeForInpaint",
    "SetLatentNoiseMask",
    "InpaintModelConditioning",
}  # they change where the mask is white
VIDEO, SOUND = (
    re.compile(r"Save(Video|WEBM|Animated)|VideoCombine"),
    re.compile(r"(Save|Preview)Audio"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """How one of our parameters is called elsewhere, what people read of it (English | German), and
    sensible limits.
    """

    inputs: tuple[str, ...]
    through: re.Pattern[str]  # the links that lead to it from a sampler
    title: str
    description: str
    type: str = "integer"
    limits: tuple[float, float] = (1, 8)


TO_STEPS = re.compile("sigmas|guider")
LENGTHS = ("length", "num_frames", "video_frames", "frames")
PARAMETERS: Mapping[str, Known] = {
    "width": Known(
        ("width",),
        TO_LATENT,
        "Width|Breite",
        "Width in pixels.|Breite in Pixeln.",
        limits=(64, 2048),
    ),
    "height": Known(
        ("height",),
        TO_LATENT,
        "Height|Höhe",
        "Height in pixels.|Höhe in Pixeln.",
        limits=(64, 2048),
    ),
    "frames": Known(
        LENGTHS,
        TO_LATENT,
        "Frames|Bilder",
        "How many pictures the film has.|Wie viele Bilder der Film hat.",
        limits=(1, 257),
    ),
    "seconds": Known(
        ("seconds",),
        TO_LATENT,
        "Length|Länge",
        "Seconds that it lasts.|Sekunden, die es dauert.",
        "number",
        (1, 600),
    ),
    "strength": Known(
        ("denoise",),
        TO_STEPS,
        "Strength|Stärke",
        "How far from the picture.|Wie weit vom Bild weg.",
        "number",
        (0, 1),
    ),
    "steps": Known(
        ("steps",),
        TO_STEPS,
        "Steps|Schritte",
        "How often it is refined.|Wie oft verfeinert wird.",
        limits=(1, 150),
    ),
    "guidance_scale": Known(
        ("guidance", "cfg"),
        TO_TEXTS,
        "Guidance|Führung",
        "How closely it follows the text.|Wie genau es dem Text folgt.",
        "number",
        (0, 30),
    ),
    "alpha": Known(
        (),
        TO_TEXTS,
        "Blend|Mischung",
        "0 is the first text alone, 1 the second alone.|0 ist nur der erste Text, 1 nur der"
        " zweite.",
        "number",
        (-5, 5),
    ),
    "count": Known(
        ("batch_size",),
        TO_LATENT,
        "Number|Anzahl",
        "How many are made at once.|Wie viele auf einmal entstehen.",
    ),
}
NEGATIVE = Known(
    (), TO_TEXTS, "Without|Ohne", "What shall not appear.|Was nicht vorkommen soll.", "string"
)


@dataclass(frozen=True, slots=True)
class Guess:
    """Where one of our values probably goes, and where else it might."""

    name: str
    best: Group
    others: tuple[Group, ...] = ()


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
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is a folder, and no file.", hint="Name the graph's file.")
    if path.exists() and path.stat().st_size > MAX_FILE:
        raise UsageError(
            f"{path} is larger than {MAX_FILE // 1_000_000} MB.",
            hint="Is it the right file? Graphs have some kB.",
        )
    data = path.read_bytes()
    try:
        graph = _of_png(data) if data.startswith(b"\x89PNG") else json.loads(data)
    except (ValueError, RecursionError) as error:
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


def _of_png(data: bytes) -> Any:
    """The graph that ComfyUI left in a PNG, or we; its pixels are not looked at.

    Raises ValueError where there is none.
    """
    for start, end in png_chunks(data):
        kind, (key, _, text) = (
            data[start + 4 : start + 8],
            data[start + 8 : end - 4].partition(b"\0"),
        )
        if key == b"prompt" and kind in (b"tEXt", b"zTXt", b"iTXt"):
            return json.loads(_text_of(kind, text))
    ours = provenance.read(data)
    if ours and ours.request and isinstance(workflow := ours.request.get("workflow"), dict):
        return workflow.get("nodes")
    raise ValueError(
        "the PNG carries none that can be run; ComfyUI did not write it, or somebody took it out"
    )


def _text_of(kind: bytes, text: bytes) -> str:
    """What stands in a text chunk behind its keyword."""
    if kind == b"tEXt":
        return text.decode("latin-1")
    packed, body = (
        (True, text[1:]) if kind == b"zTXt" else (text[:1] == b"\1", text[2:].split(b"\0", 2)[-1])
    )
    try:
        body = zlib.decompressobj().decompress(body, MAX_FILE) if packed else body
    except zlib.error as error:
        raise ValueError("what the PNG carries cannot be unpacked") from error
    return body.decode("latin-1" if kind == b"zTXt" else "utf-8")


def adopt(graph: Nodes, object_info: Nodes | None = None) -> Adoption:
    """The graph with a guess for each of our values.

    Raises UsageError where no text goes into it.
    """
    info = object_info or {}
    graph, changes = _with_masks(graph)
    changes += [*_corrected(graph, info), *_filled_up(graph, info)]
    reader = _Reader(graph, info)
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


def _of_texts(reader: _Reader, prompts: list[Group]) -> Iterator[Guess]:
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


def _negative(reader: _Reader, prompts: list[Group]) -> Iterator[Guess]:
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
    ends = _behind(graph, number, SHAPES)
    return [one for one in ends if graph[one]["class_type"] not in INVERTERS], [
        one for one in ends if graph[one]["class_type"] in INVERTERS
    ]


def _behind(graph: Nodes, number: str, through: re.Pattern[str]) -> list[str]:
    """The nearest nodes that get something from a node, behind those of the classes `through`."""
    ends, left, seen = list[str](), [number], {number}
    while left:
        source = left.pop()
        users = [
            one
            for one, node in graph.items()
            if any(is_link(v) and v[0] == source for v in node["inputs"].values())
        ]
        for one in users:
            if one not in seen:
                seen.add(one)
                (left if through.fullmatch(graph[one]["class_type"]) else ends).append(one)
    return ends


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


@dataclass(frozen=True, slots=True)
class _Reader:
    """Follows the links of one graph."""

    graph: Nodes
    object_info: Nodes = field(default_factory=dict)

    def samplers(self) -> list[str]:
        """The nodes that sample, those first that depend on the fewest others."""
        found = [number for number, node in self.graph.items() if _samples(node["inputs"])]
        found = found or [
            number for number, node in self.graph.items() if is_link(node["inputs"].get("positive"))
        ]
        return sorted(found, key=lambda number: len(self._above(number)))

    def _above(self, number: str, through: re.Pattern[str] | None = None) -> set[str]:
        """The nodes that one depends on; `through`: only by links of such names."""
        above, left = set[str](), [number] if number in self.graph else []
        while left:
            links = [
                value[0]
                for name, value in self.graph[left.pop()]["inputs"].items()
                if is_link(value)
                and value[0] in self.graph
                and (through is None or through.fullmatch(name))
            ]
            new = [one for one in dict.fromkeys(links) if one not in above]
            above.update(new)
            left += new
        return above

    # Texts.

    def texts(self, role: str) -> list[Group]:
        """Groups of inputs that take a text in this role, the likeliest first.

        Equal texts are one, as are those of chained samplers.
        """
        first, rest = list[Spot](), list[Spot]()
        for through in (TO_TEXTS, TO_ANYTHING):
            if not first and (
                through is TO_TEXTS or not self._by_samplers("positive", TO_TEXTS)[0]
            ):
                first, rest = self._by_samplers(role, through)
        if not first and (
            role == "positive" or not self.samplers()
        ):  # nodes that sample by themselves
            found = self._ranked(
                [spot for number in self.graph for spot in self._own(number, role, decided=False)]
            )
            first, rest = found[:1], found[1:]
        words = {self._text(spot) for spot in first} - {""}
        mates = [
            spot
            for spot in rest
            if self._text(spot) in words or any(self._encodes_together(spot, one) for one in first)
        ]
        best = tuple(dict.fromkeys([*first, *mates]))
        return (
            [best, *[(spot,) for spot in dict.fromkeys(rest) if spot not in best]] if best else []
        )

    def _by_samplers(self, role: str, through: re.Pattern[str]) -> tuple[list[Spot], list[Spot]]:
        """The likeliest text of each sampler, and the others."""
        first, rest, before = list[Spot](), list[Spot](), list[str]()
        for sampler in self.samplers():
            found = self._ranked(
                [
                    spot
                    for root in self._roots(sampler, role)
                    for spot in self._texts(*root, role, through)
                ]
            )
            own = (
                found[:1]
                if found
                and (not first or self._goes_on(sampler, before) or self._alike(found[0], first))
                else []
            )
            first += own
            rest += found[len(own) :]
            before += [sampler] if own else []
        return first, rest

    def _goes_on(self, sampler: str, before: Sequence[str]) -> bool:
        """Whether a sampler works on what others left, or apart from them; else it mends their
        picture and has a text of its own.
        """
        return not self._above(sampler) & {*before} or bool(
            self._above(sampler, TO_LATENT) & {*before}
        )

    def _alike(self, spot: Spot, others: Sequence[Spot]) -> bool:
        """Whether a text says much the same as one of the others."""
        words, *known = ({*re.findall(r"\w+", self._text(one).lower())} for one in (spot, *others))
        return not words or any(
            len(words & other) >= 0.8 * min(len(words), len(other)) for other in known
        )

    def blend(self) -> tuple[Guess, ...]:
        """Two texts whose vectors are mixed, and by how much; empty where there are none."""
        for sampler in self.samplers():
            for link, decided in self._roots(sampler, "positive"):
                for number, _ in self._on_the_way(link, decided, "positive", TO_TEXTS):
                    if found := self._blended(number):
                        return found
        return ()

    def _blended(self, number: str) -> tuple[Guess, ...]:
        inputs = self.graph[number]["inputs"]
        for strength, names in BLENDS.items():
            spot = self._origin(number, strength, (int, float))
            if spot and all(is_link(inputs.get(name)) for name in names):
                first, second = (
                    self._ranked(self._texts(inputs[name], True, "positive", TO_TEXTS))
                    for name in names
                )
                if first and second and first[0] != second[0]:
                    return (
                        Guess("prompt", (first[0],)),
                        Guess("prompt_2", (second[0],)),
                        Guess("alpha", (spot,)),
                    )
        return ()

    def _ranked(self, spots: Iterable[Spot]) -> list[Spot]:
        return sorted(dict.fromkeys(spots), key=self._rank)

    def _rank(self, spot: Spot) -> tuple[bool, bool, int]:
        """Small for a likely prompt: one that waits to be put in, one whose node is called so, a
        long one.
        """
        text, title = (
            self._text(spot).strip(),
            title_of(self.graph[spot[0]]).lower().replace(UNTITLED, ""),
        )
        return (
            not (text and INSERT.fullmatch(text)),
            not any(word in title for word in ("prompt", "positive", "negative")),
            -len(text),
        )

    def _encodes_together(self, one: Spot, other: Spot) -> bool:
        """Whether two texts go into one encoder, each for a part of it."""
        return one[0] == other[0] and "clip" in self.graph[one[0]]["inputs"] and one[1] != "lyrics"

    def _text(self, spot: Spot) -> str:
        return str(self.graph[spot[0]]["inputs"][spot[1]])

    def _roots(self, sampler: str, role: str) -> list[tuple[Any, bool]]:
        """The links that bring a sampler its texts, and whether they bring those of this role
        alone.
        """
        inputs = dict(self.graph[sampler]["inputs"])
        for _ in self.graph:
            guider = inputs.pop("guider", None)
            inputs |= self.graph.get(guider[0], {"inputs": {}})["inputs"] if is_link(guider) else {}
        links = {name: value for name, value in inputs.items() if is_link(value)}
        if any(ROOTS[one].fullmatch(name) for one in ROOTS for name in links):
            return [(value, True) for name, value in links.items() if ROOTS[role].fullmatch(name)]
        return [
            (value, role == "positive") for name, value in links.items() if re.fullmatch(BOTH, name)
        ]

    def _texts(
        self, link: Sequence[Any], decided: bool, role: str, through: re.Pattern[str]
    ) -> Iterator[Spot]:
        for number, known in self._on_the_way(link, decided, role, through):
            yield from self._own(number, role, decided=known)

    def _on_the_way(
        self, link: Sequence[Any], decided: bool, role: str, through: re.Pattern[str]
    ) -> Iterator[tuple[str, bool]]:
        """The nodes that a text may come through or from, and whether what they bring has this role
        for certain.
        """
        own, other = SIDES[role], SIDES["negative" if role == "positive" else "positive"]
        seen, left = set[str](), [(str(link[0]), decided)]
        while left:
            number, decided = left.pop()
            if (
                number in seen
                or number not in self.graph
                or self.graph[number]["class_type"] == "ConditioningZeroOut"
            ):
                continue
            seen.add(number)
            yield number, decided
            links = [
                (name.lower(), value)
                for name, value in self.graph[number]["inputs"].items()
                if is_link(value) and through.fullmatch(name)
            ]
            left += [
                (value[0], decided or bool(own.search(name)))
                for name, value in reversed(links)
                if not other.search(name)
            ]

    def _own(self, number: str, role: str, *, decided: bool) -> list[Spot]:
        """The texts that stand in a node itself."""
        node = self.graph[number]
        if SHOWS.search(node["class_type"]) and any(
            is_link(value) for value in node["inputs"].values()
        ):
            return []
        names = [
            name
            for name, value in node["inputs"].items()
            if isinstance(value, str) and self._takes_text(node["class_type"], name)
        ]
        against = [name for name in names if "neg" in name.lower()]
        wanted = (
            against
            if role == "negative" and (against or not decided)
            else [name for name in names if name not in against]
        )
        return [(number, name) for name in wanted]

    def _takes_text(self, kind: str, name: str) -> bool:
        told = input_of(self.object_info, kind, name)
        return (
            bool(TEXTS.fullmatch(name))
            and not CHOICES.search(name)
            and (told is None or told.kind in ("STRING", "*"))
        )

    # Numbers.

    def seeds(self) -> Group:
        """Every seed of the graph: one run has one seed."""
        places = [
            (number, name)
            for number, node in self.graph.items()
            for name in SEEDS
            if name in node["inputs"]
        ]
        return tuple(
            dict.fromkeys(spot for place in places if (spot := self._origin(*place, (int,))))
        )

    def parameter(self, name: str) -> Guess:
        """Where a parameter goes: at the first sampler that has it, and wherever else the same
        value stands in its place.
        """
        if name == "steps" and any("end_at_step" in node["inputs"] for node in self.graph.values()):
            return Guess(name, ())  # samplers that share their steps name parts of them
        known, spots = PARAMETERS[name], list[Spot]()
        for sampler in self.samplers() or self.graph:
            for input_ in known.inputs:
                if spot := self._nearest(sampler, input_, known.through):
                    spots.append(spot)
                    break
        values = [self.graph[number]["inputs"][input_] for number, input_ in spots]
        if not values or (name in ("guidance_scale", "strength") and values[0] == 1):
            return Guess(name, ())
        return Guess(
            name,
            tuple(
                dict.fromkeys(
                    spot for spot, value in zip(spots, values, strict=True) if value == values[0]
                )
            ),
        )

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
            links = [
                value[0]
                for key, value in inputs.items()
                if is_link(value) and through.fullmatch(key) and value[0] in self.graph
            ]
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
            held = [key for key, one in inputs.items() if type(one) in kinds] or [
                key for key, one in inputs.items() if is_link(one)
            ]
            if len(held) != 1:
                return None
            name = held[0]
        return None

    # Pictures.

    def pictures(self) -> Iterator[Guess]:
        """The loaders of pictures by what becomes of them: the picture itself, a mask, a guide for
        a ControlNet.
        """
        found: dict[str, list[Group]] = {}
        for number, node in self.graph.items():
            if node["class_type"].startswith("LoadImage") and isinstance(
                node["inputs"].get("image"), str
            ):
                found.setdefault(self._role(number), []).append(((number, "image"),))
        for name, (first, *others) in found.items():
            same = [group for group in others if self._text(group[0]) == self._text(first[0])]
            best = tuple(spot for group in (first, *same) for spot in group)
            rest = [group for group in others if group not in same]
            both = (*best, *(group[0] for group in rest if self._absent(group[0])))
            yield Guess(name, best, (*rest, both) if len(both) > len(best) else tuple(rest))

    def _absent(self, spot: Spot) -> bool:
        """Whether the server is known to lack the picture that stands there: the graph would not
        run with it.
        """
        told = input_of(self.object_info, self.graph[spot[0]]["class_type"], spot[1])
        return bool(told and told.options is not None and self._text(spot) not in told.options)

    def _role(self, number: str) -> str:
        users = {self.graph[one]["class_type"] for one in _behind(self.graph, number, ADJUSTS)}
        if self.graph[number]["class_type"] == "LoadImageMask" or users == {"ImageToMask"}:
            return "mask"
        guides = [
            node["inputs"]["image"][0]
            for node in self.graph.values()
            if "control_net" in node["inputs"] and is_link(node["inputs"].get("image"))
        ]
        encoded = [
            node["inputs"]["pixels"][0]
            for node in self.graph.values()
            if is_link(node["inputs"].get("pixels"))
        ]
        return (
            "control"
            if self._leads(number, guides) and not self._leads(number, encoded)
            else "image"
        )

    def _leads(self, number: str, ends: Sequence[str]) -> bool:
        return any(number == end or number in self._above(end) for end in ends)


def _samples(inputs: Mapping[str, Any]) -> bool:
    led = any(
        is_link(value)
        and (name == "guider" or re.fullmatch(f"{ROOTS['positive'].pattern}|{BOTH}", name))
        for name, value in inputs.items()
    )
    return led and any(name in inputs for name in ("latent_image", "steps", "noise_seed", "noise"))
