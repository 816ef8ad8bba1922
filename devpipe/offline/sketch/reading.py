"""What a text asks to be seen: its things, colours, counts, light and mood, read by rule from
German or English words.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

MAX_CHARACTERS = 10_000
MAX_KNOWN, MAX_UNKNOWN = 7, 5
_TOKEN = re.compile(r"[^\W_]+(?:-[^\W_]+)*|[.,;:!?\n]")
_ENDINGS = (
    "",
    "e",
    "n",
    "en",
    "er",
    "em",
    "es",
    "s",
    "ern",
    "ere",
    "eren",
    "erer",
    "ne",
    "nen",
    "chen",
    "lein",
    "ing",
)
_SINGULAR_ENDINGS = ("", "chen", "lein")
_TRAITS = ("settings", "light", "season", "weather", "mood", "texture", "abstract")
_LINKS = ("", "s", "n", "en", "es", "er", "e")

Role = Literal["thing", "ground", "setting", "free"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A colour the text names, and whom it belongs to: a thing, the ground, the setting or
    nobody.
    """

    colour: str  # "red", "dark red", "light red"
    role: Role


@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of thing to be shown: a motif we can draw, or (`motif == ""`) a word whose letters
    decide the form.
    """

    word: str
    motif: str = ""
    count: int = 1
    size: float = 1.0
    colours: tuple[str, ...] = ()
    place: tuple[str, ...] = ()  # of left, right, top, bottom, centre
    habitat: str = "shape"  # shape | ground | air | water
    weight: int = 1  # how often the text names it


@dataclass(frozen=True, slots=True)
class Reading:
    """What `read` found in a text; `key` is the hash of the whole text, so that different texts
    look different.
    """

    things: tuple[Thing, ...] = ()
    colours: tuple[Mention, ...] = ()
    light: str = ""  # day | night | dawn | dusk
    season: str = ""
    weather: str = ""
    mood: str = ""
    texture: str = ""
    setting: str = ""  # sea | meadow | desert | street | room | space | sky
    abstraction: float = 0.0  # 0: a scene of things, 1: forms only
    words: tuple[str, ...] = ()  # in the order of the text, for lettering
    language: str = ""
    key: str = ""

    def of(self, role: Role) -> tuple[str, ...]:
        """The colours of one role, in the order of the text."""
        return tuple(m.colour for m in self.colours if m.role == role)

    @property
    def known(self) -> tuple[Thing, ...]:
        return tuple(t for t in self.things if t.motif)

    @property
    def shown(self) -> tuple[Thing, ...]:
        """What we know; where we know nothing the forms of the unknown words, or without a word
        three from the text's hash.
        """
        return self.known or self.things or self.free

    @property
    def free(self) -> tuple[Thing, ...]:
        return tuple(Thing(self.key[i * 8 : i * 8 + 8] or str(i)) for i in range(3))

    @property
    def hue(self) -> int:
        """An angle that is this text's own."""
        return int(self.key[:3] or "0", 16) % 360


def read(text: str, language: str = "") -> Reading:
    """What the text asks to be seen. Never fails: words it does not know become forms of their own.

    >>> [m.colour + "/" + m.role for m in read("ein roter Kreis auf blauem Grund").colours]
    ['red/thing', 'blue/ground']
    """
    text = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS])
    tokens = [t for t in _TOKEN.findall(text) if len(t) <= 60]
    language = language or _language(tokens)
    parser = _Parser(
        language=language, key=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    )
    for token in tokens:
        parser.take(token)
    return parser.reading()


@cache
def vocabulary() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files(__package__).joinpath("words.json").read_text("utf-8"))
    return data


@dataclass(frozen=True, slots=True)
class Hit:
    """What one word means: its kind (colour, motif, number, ...), its value, and whether the form
    is a plural.
    """

    kind: str
    value: str
    plural: bool = False
    extra: tuple[
        Hit, ...
    ] = ()  # what the first half of a compound adds: Winterwald is a forest in winter


def fold(word: str) -> str:
    """The word without case, accents and umlauts: Bäume, BÄUME and baume are one."""
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


@cache
def _lexicon(language: str) -> dict[str, tuple[Hit, str]]:
    """Folded word -> (meaning, the lemma with its umlauts)."""
    found: dict[str, tuple[Hit, str]] = {}
    for hit, words in _entries():
        for word in words.split():
            only, _, bare = word.rpartition(":")
            if not only or only == language:
                found.setdefault(fold(bare), (hit, bare))
    return found


def _entries() -> Iterator[tuple[Hit, str]]:
    v = vocabulary()
    for kind in ("numbers", "sizes", "places", "over", "on", "not", "shades", "grounds"):
        yield from ((Hit(kind, value), words) for value, words in v[kind].items())
    yield from (
        (Hit("colour", name), f"{name} {de} {words}")
        for name, (_, de, words) in v["colours"].items()
    )
    for name, entry in v["motifs"].items():
        one, many = entry[0].split("|") if " " not in entry[0] else ("", "")
        one_de, many_de = entry[1].split(" ", 1)[1].split("|")
        german = [f"de:{w}" if w in _AMBIGUOUS else w for w in (one_de.lower(), many_de.lower())]
        yield Hit("motif", name, plural=True), " ".join([many, german[1]] if one != many else [])
        yield Hit("motif", name), " ".join([one, german[0], entry[5]])
    yield from (
        (Hit("motif", name, plural=True, extra=(Hit("numbers", "8"),)), words)
        for name, words in v["many"].items()
    )
    for kind in _TRAITS:
        yield from ((Hit(kind, value), words) for value, words in v[kind].items())
    yield from ((Hit("plain", ""), v[name]) for name in ("plain_de", "plain_en"))


_AMBIGUOUS = frozenset(
    ("stern", "boot", "hut", "kind", "wal", "uhr")
)  # German nouns that mean something else in English


def _language(tokens: list[str]) -> str:
    v = vocabulary()
    german, english = frozenset(v["plain_de"].split()), frozenset(v["plain_en"].split())
    low = [token.casefold() for token in tokens[:400]]
    return (
        "de"
        if sum((t in german) - (t in english) + any(c in "äöüß" for c in t) for t in low) > 0
        else "en"
    )


@lru_cache(maxsize=8192)
def _look_up(word: str, language: str) -> Hit | None:
    """What a word in any of its forms means, or None."""
    lexicon, folded = _lexicon(language), fold(word)
    direct = _inflected(folded, word, lexicon)
    if direct or len(folded) < 7:
        return direct
    if "-" in folded:
        return next(
            filter(None, (_look_up(part, language) for part in reversed(word.split("-")))), None
        )
    for cut in range(3, len(folded) - 3):
        tail = _inflected(folded[cut:], word[cut:], lexicon)
        if tail and tail.kind in (
            "motif",
            "colour",
            "settings",
            "weather",
            "light",
            "season",
            "grounds",
        ):
            return _compound(folded[:cut], tail, lexicon)
    return None


def _inflected(folded: str, word: str, lexicon: dict[str, tuple[Hit, str]]) -> Hit | None:
    for ending in _ENDINGS:
        stem = folded.removesuffix(ending)
        if folded.endswith(ending) and len(stem) >= (3 if ending else 2) and stem in lexicon:
            hit, lemma = lexicon[stem]
            moved = lemma.isascii() != word.isascii()  # Vogel, Vögel
            return replace(
                hit,
                plural=hit.plural
                or (hit.kind == "motif" and (ending not in _SINGULAR_ENDINGS or moved)),
            )
    return None


def _compound(head: str, tail: Hit, lexicon: dict[str, tuple[Hit, str]]) -> Hit:
    """Tail with what its first half adds (Nachthimmel, Rotkehlchen do; Apfelbaum stays a tree)."""
    for link in _LINKS:
        found = lexicon.get(head.removesuffix(link))
        if found and found[0].kind in (
            "colour",
            "shades",
            "light",
            "season",
            "weather",
            "settings",
            "sizes",
            "mood",
            "numbers",
        ):
            return replace(tail, extra=(*tail.extra, found[0]))
    return tail


@dataclass
class _Parser:
    """Reads word by word: adjectives wait for their noun; a comma or full stop gives them to the
    noun before.
    """

    language: str
    key: str
    things: list[Thing] = field(default_factory=list)
    colours: list[Mention] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    clause: list[int] = field(default_factory=list)
    place: list[str] = field(default_factory=list)
    shade: str = ""
    count: int = 0
    size: float = 1.0
    on_ground: bool = False
    negated: bool = False
    relation: str = ""

    def take(self, token: str) -> None:
        if token in ".,;:!?\n":
            self.flush()
            return
        hit = _look_up(token, self.language)
        if (
            (token in ("and", "und") or (hit and hit.kind == "on"))
            and self.place
            and self.clause
            and not self.waiting
        ):
            # "a house on the left and a tree": left is the house's; "a square on the left on a blue
            # ground"
            self.flush()
        if hit is None:
            self.unknown(token)
            return
        if hit.kind in (*_TRAITS, "motif", "colour"):
            self.words.append(token)
        for one in (*hit.extra, hit):
            self.note(one, token)

    def note(self, hit: Hit, token: str) -> None:
        kind, value = hit.kind, hit.value
        if kind == "colour":
            self.waiting.append(f"{self.shade} {value}".strip())
            self.shade = ""
        elif kind == "motif":
            self.thing(hit, token)
        elif kind == "numbers":
            self.count = int(value)
        elif kind == "sizes":
            self.size = float(value)
        elif kind == "shades":
            self.shade = value
        elif kind == "places":
            self.place.append(value)
        elif kind == "not":
            self.negated = True
        elif kind == "over":
            self.relate(value)
        elif kind == "on":
            self.on_ground = True
        elif kind != "plain":
            self.circumstance(kind, value)

    def relate(self, relation: str) -> None:
        """`A over B`: A goes to the top, and the next thing, B, to the bottom; `under` the other
        way round.
        """
        if self.things and not self.things[-1].place:
            self.things[-1] = replace(
                self.things[-1], place=("top" if relation == "over" else "bottom",)
            )
            self.relation = "bottom" if relation == "over" else "top"

    def thing(self, hit: Hit, token: str) -> None:
        if not self.negated:
            entry = vocabulary()["motifs"][hit.value]
            count = (
                self.count
                if self.count > 1 or (self.count == 1 and not hit.extra)
                else (3 if hit.plural else 1)
            )
            place = tuple(self.place) or ((self.relation,) if self.relation else ())
            self.add(
                Thing(
                    token,
                    hit.value,
                    count,
                    self.size * entry[4],
                    tuple(self.waiting),
                    place,
                    entry[2],
                )
            )
            self.give("thing")
        self.reset()

    def add(self, thing: Thing) -> None:
        for i, old in enumerate(self.things):
            if (
                old.motif == thing.motif
                and (thing.motif or old.word == thing.word)
                and (not thing.colours or thing.colours == old.colours)
            ):
                self.things[i] = replace(
                    old,
                    count=max(old.count, thing.count),
                    weight=old.weight + 1,
                    place=old.place or thing.place,
                )
                self.clause.append(i)
                return
        self.things.append(thing)
        self.clause.append(len(self.things) - 1)

    def circumstance(self, kind: str, value: str) -> None:
        """A trait of the whole picture, or its ground."""
        if value == "sky" or (kind != "grounds" and not self.negated):
            self.found.setdefault("settings" if kind == "grounds" else kind, value)
        if kind in ("grounds", "settings"):
            self.give("ground" if kind == "grounds" else "setting")
            self.reset()

    def give(self, role: Role) -> None:
        self.colours += [Mention(c, role) for c in self.waiting]

    def unknown(self, token: str) -> None:
        if token.isdigit():
            self.count = min(int(token[:3]), 12) or 12
            return
        self.words.append(token)
        noun = self.language != "de" or token[:1].isupper()
        if len(token) >= 4 or not token.isascii():
            colours = tuple(self.waiting) if noun and self.language == "de" else ()
            self.add(
                Thing(
                    token,
                    "",
                    max(self.count, 1) if noun else 1,
                    self.size,
                    colours,
                    tuple(self.place),
                )
            )
            if colours:
                self.give("thing")
                self.reset()

    def reset(self) -> None:
        self.waiting, self.place, self.shade, self.relation = [], [], "", ""
        self.count, self.size, self.on_ground, self.negated = 0, 1.0, False, False

    def flush(self) -> None:
        """End of a clause: what still waits belongs to the ground (`on blue`), to the last thing,
        or to nobody.
        """
        bare = [
            i for i in self.clause or range(len(self.things))[-1:] if not self.things[i].colours
        ]
        known = [i for i in bare if self.things[i].motif] or bare
        if self.waiting and known and not self.on_ground:
            self.things[known[-1]] = replace(self.things[known[-1]], colours=tuple(self.waiting))
        self.give("ground" if self.on_ground else "thing" if known else "free")
        if self.place and self.things and not self.things[-1].place:
            self.things[-1] = replace(self.things[-1], place=tuple(self.place))
        self.reset()
        self.clause = []

    def reading(self) -> Reading:
        self.flush()
        by_weight = sorted(
            self.things, key=lambda t: -t.weight
        )  # stable: the first named comes first
        kept = [t for t in by_weight if t.motif][:MAX_KNOWN] + [
            t for t in by_weight if not t.motif
        ][:MAX_UNKNOWN]
        things = tuple(t for t in self.things if t in kept)
        formal = [t.habitat == "shape" for t in things if t.motif]
        abstraction = (
            1.0 if "abstract" in self.found or not formal else round(sum(formal) / len(formal), 2)
        )
        named = ("light", "season", "weather", "mood", "texture", "settings")
        light, season, weather, mood, texture, setting = (
            self.found.get(kind, "") for kind in named
        )
        colours, words = tuple(dict.fromkeys(self.colours)), tuple(self.words[:200])
        return Reading(
            things,
            colours,
            light,
            season,
            weather,
            mood,
            texture,
            setting,
            abstraction,
            words,
            self.language,
            self.key,
        )
