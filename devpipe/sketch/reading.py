"""What a text asks to be seen: its things, colours, counts, light and mood, read by rule from German or English words."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

MAX_CHARACTERS = 10_000
MAX_KNOWN, MAX_UNKNOWN = 7, 5
_TOKEN = re.compile(r"[^\W_]+(?:-[^\W_]+)*|[.,;:!?\n]")
_ENDINGS = ("", "e", "n", "en", "er", "em", "es", "s", "ern", "ere", "eren", "erer", "ne", "nen", "chen", "lein", "ing")
_SINGULAR_ENDINGS = ("", "chen", "lein")
_TRAITS = ("settings", "light", "season", "weather", "mood", "texture", "abstract")
_LINKS = ("", "s", "n", "en", "es", "er", "e")

Role = Literal["thing", "ground", "setting", "free"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A colour the text names, and whom it belongs to: a thing, the ground, the setting or nobody."""

    colour: str  # "red", "dark red", "light red"
    role: Role


@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of thing to be shown: a motif we can draw, or (`motif == ""`) a word whose letters decide the form."""

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
    """What `read` found in a text; `key` is the hash of the whole text, so that different texts look different."""

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


def read(text: str, language: str = "") -> Reading:
    """What the text asks to be seen. Never fails: words it does not know become forms of their own.

    >>> [m.colour + "/" + m.role for m in read("ein roter Kreis auf blauem Grund").colours]
    ['red/thing', 'blue/ground']
    """
    text = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS])
    tokens = [t for t in _TOKEN.findall(text) if len(t) <= 60]
    language = language or _language(tokens)
    parser = _Parser(language=language, key=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest())
    for token in tokens:
        parser.take(token)
    return parser.reading()


@cache
def vocabulary() -> dict[str, Any]:
    """The word lists of words.json."""
    data: dict[str, Any] = json.loads(files(__package__).joinpath("words.json").read_text("utf-8"))
    return data


@dataclass(frozen=True, slots=True)
class Hit:
    """What one word means: its kind (colour, motif, number, ...), its value, and whether the form is a plural."""

    kind: str
    value: str
    plural: bool = False
    extra: tuple[Hit, ...] = ()  # what the first half of a compound adds: Winterwald is a forest in winter


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
    yield from ((Hit("colour", name), f"{name} {de} {words}") for name, (_, de, words) in v["colours"].items())
    for name, entry in v["motifs"].items():
        one, many = entry[0].split("|") if " " not in entry[0] else ("", "")
        one_de, many_de = entry[1].split(" ", 1)[1].split("|")
        german = [f"de:{w}" if w in _AMBIGUOUS else w for w in (one_de.lower(), many_de.lower())]
        yield Hit("motif", name, plural=True), " ".join([many, german[1]] if one != many else [])
        yield Hit("motif", name), " ".join([one, german[0], entry[5]])
    yield from ((Hit("motif", name, plural=True, extra=(Hit("numbers", "8"),)), words) for name, words in v["many"].items())
    for kind in _TRAITS:
        yield from ((Hit(kind, value), words) for value, words in v[kind].items())
    yield from ((Hit("plain", ""), v[name]) for name in ("plain_de", "plain_en"))


_AMBIGUOUS = frozenset(("stern", "boot", "hut", "kind", "wal", "uhr"))  # German nouns that mean something else in English


def _language(tokens: list[str]) -> str:
    v = vocabulary()
    german, english = frozenset(v["plain_de"].split()), frozenset(v["plain_en"].split())
    score = 0
    for token in (t.casefold() for t in tokens[:400]):
        score += (token in german) - (token in english) + (not token.isascii() and any(c in "äöüß" for c in token))
    return "de" if score > 0 else "en"


def _look_up(word: str, language: str) -> Hit | None:
    """What a word in any of its forms means, or None."""
    lexicon, folded = _lexicon(language), fold(word)
    direct = _inflected(folded, word, lexicon)
    if direct or len(folded) < 7:
        return direct
    if "-" in folded:
        return next(filter(None, (_look_up(part, language) for part in reversed(word.split("-")))), None)
    for cut in range(3, len(folded) - 3):
        tail = _inflected(folded[cut:], word[cut:], lexicon)
        if tail and tail.kind in ("motif", "colour", "settings", "weather", "light", "season", "grounds"):
            return _compound(folded[:cut], tail, lexicon)
    return None


def _inflected(folded: str, word: str, lexicon: dict[str, tuple[Hit, str]]) -> Hit | None:
    for ending in _ENDINGS:
        stem = folded.removesuffix(ending) if folded.endswith(ending) else ""
        if len(stem) < 2 or (ending and len(stem) < 3):
            continue
        found = lexicon.get(stem)
        if found:
            hit, lemma = found
            moved = lemma.isascii() != word.isascii()  # Vogel, Vögel
            plural = hit.plural or (hit.kind == "motif" and (ending not in _SINGULAR_ENDINGS or moved))
            return replace(hit, plural=plural)
    return None


def _compound(head: str, tail: Hit, lexicon: dict[str, tuple[Hit, str]]) -> Hit:
    """Tail with what its first half adds (Nachthimmel, Rotkehlchen do; Apfelbaum stays a tree)."""
    for link in _LINKS:
        found = lexicon.get(head.removesuffix(link) if link else head)
        if found and found[0].kind in ("colour", "shades", "light", "season", "weather", "settings", "sizes", "mood", "numbers"):
            return replace(tail, extra=(*tail.extra, found[0]))
    return tail


@dataclass
class _Parser:
    """Reads word by word: adjectives wait for their noun; a comma or full stop gives them to the noun before."""

    language: str
    key: str
    things: list[Thing] = field(default_factory=list)
    colours: list[Mention] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    cache: dict[str, Hit | None] = field(default_factory=dict)
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
        if token not in self.cache:
            self.cache[token] = _look_up(token, self.language)
        if token in ("and", "und") and self.place and self.clause and not self.waiting:
            self.flush()  # "a house on the left and a tree": left is the house's
        hit = self.cache[token]
        if hit is None:
            self.unknown(token)
            return
        if hit.kind in (*_TRAITS, "motif", "colour"):
            self.words.append(token)
        for extra in hit.extra:
            self.note(extra, token)
        self.note(hit, token)

    def note(self, hit: Hit, token: str) -> None:
        if hit.kind == "colour":
            self.waiting.append(f"{self.shade} {hit.value}".strip())
            self.shade = ""
        elif hit.kind == "motif":
            self.thing(hit, token)
        elif hit.kind == "grounds":
            self.ground(hit.value)
        elif hit.kind in _TRAITS:
            self.trait(hit)
        else:
            self.modifier(hit)

    def modifier(self, hit: Hit) -> None:
        if hit.kind == "numbers":
            self.count = int(hit.value)
        elif hit.kind == "sizes":
            self.size = float(hit.value)
        elif hit.kind == "shades":
            self.shade = hit.value
        elif hit.kind == "places":
            self.place.append(hit.value)
        elif hit.kind == "not":
            self.negated = True
        elif hit.kind == "over":
            self.relate(hit.value)
        elif hit.kind == "on":
            if self.place and self.clause and not self.waiting:
                self.flush()  # "a square on the left on a blue ground"
            self.on_ground = True

    def relate(self, relation: str) -> None:
        """`A over B`: A goes to the top, and the next thing, B, to the bottom; `under` the other way round."""
        if self.things and not self.things[-1].place:
            self.things[-1] = replace(self.things[-1], place=("top" if relation == "over" else "bottom",))
            self.relation = "bottom" if relation == "over" else "top"

    def thing(self, hit: Hit, token: str) -> None:
        if not self.negated:
            entry = vocabulary()["motifs"][hit.value]
            count = self.count if self.count > 1 or (self.count == 1 and not hit.extra) else (3 if hit.plural else 1)
            place = tuple(self.place) or ((self.relation,) if self.relation else ())
            self.add(Thing(token, hit.value, count, self.size * entry[4], tuple(self.waiting), place, entry[2]))
            self.colours += [Mention(c, "thing") for c in self.waiting]
        self.reset()

    def add(self, thing: Thing) -> None:
        for i, old in enumerate(self.things):
            if old.motif == thing.motif and (thing.motif or old.word == thing.word) and (not thing.colours or thing.colours == old.colours):
                self.things[i] = replace(old, count=max(old.count, thing.count), weight=old.weight + 1, place=old.place or thing.place)
                self.clause.append(i)
                return
        self.things.append(thing)
        self.clause.append(len(self.things) - 1)

    def ground(self, kind: str) -> None:
        if kind == "sky":
            self.found.setdefault("settings", "sky")
        self.colours += [Mention(c, "ground") for c in self.waiting]
        self.reset()

    def trait(self, hit: Hit) -> None:
        if not self.negated:
            self.found.setdefault(hit.kind, hit.value)
        if hit.kind == "settings":
            self.colours += [Mention(c, "setting") for c in self.waiting]
            self.reset()

    def unknown(self, token: str) -> None:
        if token.isdigit():
            self.count = min(int(token[:3]), 12) or 12
            return
        self.words.append(token)
        noun = self.language != "de" or token[:1].isupper()
        if len(token) >= 4 or not token.isascii():
            colours = tuple(self.waiting) if noun and self.language == "de" else ()
            self.add(Thing(token, "", max(self.count, 1) if noun else 1, self.size, colours, tuple(self.place)))
            if colours:
                self.colours += [Mention(c, "thing") for c in colours]
                self.reset()

    def reset(self) -> None:
        self.waiting, self.place, self.shade, self.relation = [], [], "", ""
        self.count, self.size, self.on_ground, self.negated = 0, 1.0, False, False

    def flush(self) -> None:
        """End of a clause: what still waits belongs to the ground (`on blue`), to the last thing, or to nobody."""
        bare = [i for i in (self.clause or range(len(self.things))[-1:]) if not self.things[i].colours]
        known = [i for i in bare if self.things[i].motif] or bare
        if self.waiting and self.on_ground:
            self.colours += [Mention(c, "ground") for c in self.waiting]
        elif self.waiting and known:
            self.things[known[-1]] = replace(self.things[known[-1]], colours=tuple(self.waiting))
            self.colours += [Mention(c, "thing") for c in self.waiting]
        else:
            self.colours += [Mention(c, "free") for c in self.waiting]
        if self.place and self.things and not self.things[-1].place:
            self.things[-1] = replace(self.things[-1], place=tuple(self.place))
        self.reset()
        self.clause = []

    def reading(self) -> Reading:
        self.flush()
        by_weight = sorted(self.things, key=lambda t: -t.weight)  # stable: the first named comes first
        kept = [t for t in by_weight if t.motif][:MAX_KNOWN] + [t for t in by_weight if not t.motif][:MAX_UNKNOWN]
        things = tuple(t for t in self.things if t in kept)
        known = [t for t in things if t.motif]
        formal = sum(t.habitat == "shape" for t in known)
        abstraction = 1.0 if "abstract" in self.found or not known else round(formal / len(known), 2)
        f = self.found
        return Reading(
            things, tuple(dict.fromkeys(self.colours)), f.get("light", ""), f.get("season", ""), f.get("weather", ""), f.get("mood", ""),
            f.get("texture", ""), f.get("settings", ""), abstraction, tuple(self.words[:200]), self.language, self.key,
        )  # fmt: skip
