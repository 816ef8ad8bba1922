"""What leads where in a ComfyUI graph: which of its inputs take our texts, pictures and numbers?

Found by following links from the samplers and loaders, never by the numbers of nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devpipe.comfyui.checker import input_of, is_link
from devpipe.config.workflow import SEEDS, Nodes, title_of

Spot = tuple[str, str]  # node, input
Group = tuple[Spot, ...]
TEXTS = re.compile(
    r".*(text|prompt|string|caption).*|value|tags|lyrics|clip_[lg]|(mt5|t5|bert|llama).*|positive|"
    r"negative|description",
    re.IGNORECASE,
)
CHOICES = re.compile(  # no texts, whatever else they are called
    r"(option|mode|model|type|format|name|style|colou?r|font|align|language|path|file|url|device|"
    r"delimiter|width|height)$|system|instruct|preset",
    re.IGNORECASE,
)
SHOWS = re.compile(
    "show|preview|display", re.IGNORECASE
)  # nodes that keep a text which went through them once
# links that bring what shall appear and what shall not in one
BOTH = r".*pipe|.*_tuple|(text|prompt|hyvid)_embeds"
TO_TEXTS = re.compile(
    rf".*(text|prompt|string|cond|positive|negative).*|pos|neg|value|tags|lyrics|clip_[lg]|t5xxl|"
    rf"input\d*|guider|any.*|[ab]|{BOTH}",
    re.IGNORECASE,
)
TO_ANYTHING = re.compile(  # but the models, pictures and sounds
    r"(?!(.*model|clip|vae|.*(image|latent|mask|audio|video|control).*|pixels|samples?|seed|steps|"
    r"noise|sigmas|sampler)\d*$).+",
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
    r"[\W_]*((your|the|input|user|my|main|insert|enter|positive|negative|placeholder|param|text|"
    r"prompt|here)[\W_]*)+",
    re.IGNORECASE,
)
TO_LATENT = re.compile(r"latent.*|samples?|latents|positive|guider|input\d*")
ADJUSTS = re.compile("ImageInvert|ImageScale.*|ImageBlur")


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


@dataclass(frozen=True, slots=True)
class Guess:
    """Where one of our values probably goes, and where else it might."""

    name: str
    best: Group
    others: tuple[Group, ...] = ()


def behind(graph: Nodes, number: str, through: re.Pattern[str]) -> list[str]:
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


@dataclass(frozen=True, slots=True)
class Reader:
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
        users = {self.graph[one]["class_type"] for one in behind(self.graph, number, ADJUSTS)}
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
