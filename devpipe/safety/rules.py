"""Word rules: terms, combinations and personal data, found through spelling tricks, from the lists
in `terms/`.

A rule can only block. It cannot tell that a text is harmless: that takes a judge.

How terms are written in the lists: `word` is found with its endings and in compounds with the
listed heads and modifiers, `=word` only so,
`word*`, `*word` and `*word*` also as the beginning, end or any part of a longer word; several words
one after another are one term.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from devpipe.errors import UsageError
from devpipe.safety import normalise
from devpipe.text.messages import message
from devpipe.values import LEVELS, Level, canonical_sha256

VERSION = "rules-3"  # of what this file does with the lists
TERMS = Path(__file__).parent / "terms"
LANGUAGES = ("en", "de")
PATTERNED = frozenset({"personal_data", "encoded"})  # categories found by form, not by word
_LESSON, _TOPIC = (
    10,
    6,
    # words to either side in which a lesson, and a word of the category's context, tells how a term
    # is
    # meant
)
_NEAR = 6  # words this long are also found with one letter wrong
_LINKS = ("", "s", "n", "es", "en")
_CAMEL = re.compile(r"(?<=[a-zäöüß])(?=[A-ZÄÖÜ][a-zäöüß]{2})")
_DOUBLED = re.compile(r"(.)\1+")
_PAIRS = re.compile(r"(.)\1")
_LONG = re.compile(r"(.)\1{2,}")
_SPELLINGS = (
    str.maketrans({"ß": "ss"}),
    str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}),
    str.maketrans({"ß": "sz"}),
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")


class Group(BaseModel):
    """Terms that count at the level `from` and at all stricter ones.

    `lesson`: beside a word of context they mean something else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    loosest: Level = Field(alias="from")
    hard: bool
    lesson: bool = False
    terms: tuple[str, ...] = Field(min_length=1)


class Category(BaseModel):
    """Terms of one kind, and the words beside which a soft term means something else."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    context: tuple[str, ...] = ()
    before: tuple[str, ...] = ()  # only right before the term
    after: tuple[str, ...] = ()
    groups: tuple[Group, ...]


class Combination(BaseModel):
    """Words of several sets near each other mean what none of them means alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    category: str
    loosest: Level = Field(alias="from")
    hard: bool
    of: tuple[str, str]
    within: int = Field(gt=0)
    unless: str = ""


class TermList(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    language: str
    endings: tuple[str, ...]
    context: tuple[str, ...]
    heads: tuple[str, ...]
    modifiers: tuple[str, ...]
    sets: dict[str, tuple[str, ...]]
    categories: dict[str, Category] = Field(min_length=1)
    combinations: tuple[Combination, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> TermList:
        empty = [
            name
            for name, category in self.categories.items()
            if not category.groups and name not in PATTERNED
        ]
        unknown = [
            c.category
            for c in self.combinations
            if c.category not in self.categories or {*c.of, c.unless or c.of[0]} - set(self.sets)
        ]
        if empty or unknown or not set(self.categories) >= PATTERNED:
            raise ValueError(
                f"categories without terms: {empty}; combinations of nothing: {unknown}"
            )
        return self


@dataclass(frozen=True, slots=True)
class Hit:
    """A term found.

    Soft (`hard` is False): it has an innocent meaning too, and nothing near it tells which.
    """

    category: str
    term: str
    language: str
    hard: bool = True


class Entry(NamedTuple):
    """A term as it is looked for, or a word with another `role`: "piece" (of a term), "set:child",
    "context:drugs".
    """

    hit: Hit
    loosest: int
    lesson: bool
    role: str
    text: str  # folded, without spaces
    how: str  # "", "=" (exactly so), "<" (also as an end), ">" (also as a beginning), "<>"
    phrase: bool


@dataclass(frozen=True, eq=False)
class Rules:
    """The term lists of all languages, ready to match. `policy` names everything that decides."""

    lists: dict[str, TermList]
    innocent: frozenset[str]  # ordinary words that lie one letter, or one reading, beside a term
    personal: list[re.Pattern[str]]
    policy: str
    _whole: dict[str, list[Entry]] = field(default_factory=dict, repr=False)
    _starts: dict[str, list[Entry]] = field(
        default_factory=dict, repr=False
    )  # by the first four letters
    _near: dict[str, list[Entry]] = field(
        default_factory=dict, repr=False
    )  # by the term with one letter left out
    _by_ear: dict[str, list[Entry]] = field(
        default_factory=dict, repr=False
    )  # by the term as it sounds
    _phrases: dict[str, list[tuple[list[str], Entry]]] = field(
        default_factory=dict, repr=False
    )  # by their first word
    _memo: dict[str, tuple[Entry, ...]] = field(default_factory=dict, repr=False)
    _texts: dict[str, tuple[tuple[Hit, int], ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path = TERMS) -> Rules:
        """Raises UsageError where a list is missing or broken: without lists nothing may start."""
        try:
            normalise.lookalikes()
            raw = {
                name: json.loads((folder / f"{name}.json").read_text("utf-8"))
                for name in (*LANGUAGES, "innocent", "personal")
            }
            lists = {language: TermList.model_validate(raw[language]) for language in LANGUAGES}
            _matching(lists)
            innocent = " ".join(
                chain(*TypeAdapter(dict[str, list[str]]).validate_python(raw["innocent"]).values())
            )
            personal = [
                _pattern(**entry)
                for entry in TypeAdapter(list[dict[str, str]]).validate_python(raw["personal"])
            ]
            if not (innocent and personal):
                raise ValueError("a list is empty")
            policy = _policy(raw)
        except (OSError, ValueError, LookupError, TypeError, RecursionError, re.error) as error:
            raise UsageError(
                f"A safety term list cannot be read: {(str(error).splitlines() or ['empty'])[0]}.",
                hint="Install devpipe again; nothing runs without its lists.",
            ) from error
        rules = cls(
            lists,
            frozenset(innocent.split()),
            personal,
            policy,
        )
        for entry in _entries(lists):
            rules._add(entry)
        return rules

    def _add(self, entry: Entry) -> None:
        text = entry.text
        self._whole.setdefault(text, []).append(entry)
        if len(text) >= 4:
            self._starts.setdefault(text[:4], []).append(entry)
        if entry.role not in ("term", "piece"):
            return
        self._by_ear.setdefault(normalise.by_ear(text), []).append(entry)
        if len(text) >= _NEAR - 1 and entry.how != "=" and not entry.phrase:
            for n in range(len(text)):
                self._near.setdefault(text[:n] + text[n + 1 :], []).append(entry)
        if entry.phrase:
            first, *others = entry.hit.term.split()
            self._phrases.setdefault(first, []).append((others, entry))
            for disguised in (text[::-1], normalise.rot13(text)):
                self._whole.setdefault(disguised, []).append(entry._replace(how="="))
                self._starts.setdefault(disguised[:4], [])

    @cached_property
    def _endings(self) -> tuple[str, ...]:
        return tuple({ending: "" for terms in self.lists.values() for ending in terms.endings})

    @cached_property
    def _heads(self) -> frozenset[str]:
        return frozenset(
            normalise.fold(head) for terms in self.lists.values() for head in terms.heads
        )

    @cached_property
    def _modifiers(self) -> frozenset[str]:
        return frozenset(
            normalise.fold(word) for terms in self.lists.values() for word in terms.modifiers
        )

    @cached_property
    def _spelled(self) -> dict[tuple[int, str], list[str]]:
        """All terms, and words of terms, by their length and first letter, and by their length
        alone.
        """
        found: dict[tuple[int, str], list[str]] = {}
        for text in filter(self._sought, self._whole):
            found.setdefault((len(text), text[0]), []).append(text)
            found.setdefault((len(text), "."), []).append(text)
        return found

    def _sought(self, text: str) -> bool:
        return any(
            entry.role in ("term", "piece") and (entry.hit.hard or len(text) > 3)
            for entry in self._whole[text]
        )

    def hits(self, text: str, level: Level) -> list[Hit]:
        """What blocks this text at this level, in all languages: hard hits first, then soft ones
        that no context resolves.
        """
        if (
            known := self._texts.get(text)
        ) is None:  # a batch asks of the same text again and again
            if len(self._texts) >= 200:
                self._texts.clear()
            known = self._texts[text] = tuple(self._hits(text, 0))
        strictness = LEVELS.index(level)
        found = dict.fromkeys(hit for hit, loosest in known if strictness <= loosest)
        return sorted(found, key=lambda hit: not hit.hard)

    def _hits(self, text: str, depth: int) -> Iterator[tuple[Hit, int]]:
        folded = normalise.fold(text)
        for reading in normalise.readings(folded):
            yield from self._scan(reading)
        for apart in (_CAMEL.sub(" ", text), normalise.parted(text)):
            if apart != text:
                yield from self._scan(normalise.words(normalise.fold(apart)))
        if unmasked := normalise.masked(folded, self._unmasked):
            yield from self._scan(unmasked)
        youth = LEVELS.index("youth")
        if personal := self._personal(text):
            yield Hit("personal_data", personal, "", True), youth
        if depth == 0 and (opaque := normalise.looks_encoded(text)):
            yield Hit("encoded", opaque, "", False), youth
        if depth < 2:
            for part in dict.fromkeys(normalise.decoded(text)):
                if part != text and sum(map(str.isalpha, part)) >= 3:
                    yield from self._hits(part, depth + 1)

    def _scan(self, words: list[str]) -> Iterator[tuple[Hit, int]]:
        found = [(n, entry) for n, word in enumerate(words) for entry in self._word(word)]
        pieces: list[set[str]] = [set() for _ in words]
        for n, entry in found:
            if entry.role == "piece":
                pieces[n].add(entry.hit.term)
        found += self._spoken(words, pieces)
        for longest, shortest in ((1, 3), (2, 6)):
            found += [
                (n, entry)
                for n, run in normalise.runs(words, longest)
                for entry in self._within(run, shortest)
            ]
        places: dict[str, list[int]] = {}
        for n, entry in found:
            places.setdefault(entry.role, []).append(n)
        for n, entry in found:
            if entry.role == "term" and not (
                entry.lesson
                and _resolved(n, places, entry.hit.category, entry.hit.term.count(" ") + 1)
            ):
                yield entry.hit, entry.loosest
        yield from self._combined(places)

    def _combined(self, places: Mapping[str, list[int]]) -> Iterator[tuple[Hit, int]]:
        for language, terms in self.lists.items():
            for rule in terms.combinations:
                first, second = (f"set:{name}" for name in rule.of)
                for n in places.get(first, ()):
                    if not _close(n, rule.within, places, second) or _close(
                        n, rule.within, places, f"set:{rule.unless}"
                    ):
                        continue
                    if rule.hard or not _resolved(n, places, rule.category):
                        yield (
                            Hit(rule.category, " + ".join(rule.of), language, rule.hard),
                            LEVELS.index(rule.loosest),
                        )

    def _spoken(self, words: list[str], pieces: list[set[str]]) -> Iterator[tuple[int, Entry]]:
        """Terms of several words, and terms written in pieces or backwards."""
        for n, firsts in enumerate(pieces):
            for first in firsts:
                for others, entry in self._phrases.get(first, ()):
                    following = pieces[n + 1 : n + 1 + len(others)]
                    if len(following) == len(others) and all(
                        map(operator.contains, following, others)
                    ):
                        yield n, entry
            pair = "".join(words[n : n + 2])
            if (
                pair[:4] not in self._starts
                or "+".join(words[n : n + 2]) in self.innocent
                or len(pair) > 40
            ):
                continue
            found = self._direct(pair, self._bases(pair)) + self._whole.get(
                "".join(words[n : n + 3]), []
            )
            yield from (
                (n, e)
                for e in found
                if e.phrase
                or (e.role == "term" and len(e.text) > max(4 - (e.text == pair), len(words[n])))
            )

    def _word(self, word: str) -> tuple[Entry, ...]:
        if (found := self._memo.get(word)) is None:
            if len(self._memo) > 20_000:
                self._memo.clear()
            found = self._memo[word] = tuple(self._find(word[:200]))
        return found

    def _find(self, word: str) -> list[Entry]:
        bases = self._bases(word)
        found = self._direct(word, bases)
        if word in self.innocent:
            return [entry for entry in found if entry.text == word or entry.role != "term"]
        if not _terms(found) and self.innocent.isdisjoint(bases):
            found += [
                *self._compounds(word),
                *self._doubled(word),
                *self._misspelt(bases),
                *self._turned(word),
                *self._respelt(word, bases),
            ]
        return found

    def _direct(self, word: str, bases: list[str]) -> list[Entry]:
        found = [
            entry
            for base in bases
            for entry in self._whole.get(base, ())
            if entry.how != "=" or base == word
        ]
        return found + list(self._opened(word, bases))

    def _bases(self, word: str) -> list[str]:
        """The word, and what is left of it without an ending."""
        bases = [word]
        for ending in self._endings:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                base = word[: -len(ending)]
                bases += [base, base + "e"] if ending[0] in "eiy" else [base]
        if word[:2] == "xx" or word[-2:] == "xx":
            bases.append(word.strip("x"))
        return bases

    def _opened(self, word: str, bases: list[str]) -> Iterator[Entry]:
        for n in range(len(word) - 3):
            for entry in self._starts.get(word[n : n + 4], ()):
                begins, ends = (
                    n == 0 or "<" in entry.how,
                    ">" in entry.how or (entry.how == "<" and word[:n] + entry.text in bases),
                )
                if begins and ends and word.startswith(entry.text, n):
                    yield entry

    def _within(self, run: str, shortest: int) -> list[Entry]:
        found = _terms(self._whole.get(run, ())) if shortest == 3 else []
        for n in range(len(run) - 3):
            found += [
                entry
                for entry in _terms(self._starts.get(run[n : n + 4], ()))
                if len(entry.text) >= shortest and run.startswith(entry.text, n)
            ]
        return found or self._doubled(run)

    def _compounds(self, word: str) -> list[Entry]:
        """A term before a listed head (with a linking s, n, es, en or none) or behind a listed
        modifier.
        """
        found: list[Entry] = []
        for n in range(3, len(word) - 2):
            left, right = word[:n], word[n:]
            if right in self._heads:
                found += [
                    e
                    for stem in (left, left[:-1], left[:-2])
                    if left[len(stem) :] in _LINKS
                    for e in _terms(self._whole.get(stem, ()))
                ]
            if left in self._modifiers:
                found += [
                    entry
                    for base in self._bases(right)
                    for entry in _terms(self._whole.get(base, ()))
                ]
        return [
            entry
            for entry in found
            if entry.how != "=" and not entry.phrase and len(entry.text) >= 4
        ]

    def _doubled(self, word: str) -> list[Entry]:
        """Terms some or all of whose letters were doubled or drawn out."""
        if not _DOUBLED.search(word):
            return []
        others = {
            _DOUBLED.sub(r"\1", word),
            _PAIRS.sub(r"\1", word),
            _LONG.sub(r"\1\1", word),
            _LONG.sub(r"\1", word),
        } - {word}
        found = [entry for other in others for entry in self._direct(other, self._bases(other))]
        return [
            e
            for e in found
            if e.role == "piece"
            or (e.role == "term" and (len(e.text) > 3 or len(word) >= 2 * len(e.text)))
        ]

    def _misspelt(self, bases: list[str]) -> list[Entry]:
        """Terms from which a base differs by one letter left out, put in, changed or swapped with
        its neighbour.
        """
        found: list[Entry] = []
        for base in bases:
            if not (_NEAR if base is not bases[0] else _NEAR - 1) <= len(base) <= 40:
                continue
            found += self._near.get(base, ())
            for n in range(len(base)):
                shorter = base[:n] + base[n + 1 :]
                found += (
                    entry
                    for entry in self._whole.get(shorter, ())
                    if entry.role in ("term", "piece") and not entry.phrase
                )
                found += (
                    entry for entry in self._near.get(shorter, ()) if _one_change(entry.text, base)
                )
        return [
            e
            for e in found
            if e.how != "="
            and (len(e.text) >= _NEAR or any(_swapped(e.text, base) for base in bases))
        ]

    def _turned(self, word: str) -> list[Entry]:
        """Terms written backwards, with swapped halves or in rot13."""
        if not 4 <= len(word) <= 40:
            return []
        half = len(word) // 2
        others = [word[::-1], normalise.rot13(word)]
        if len(word) > 4:
            others += [word[half:] + word[:half], word[-half:] + word[:-half]]
        found = [
            entry for other in others for entry in _terms(self._direct(other, self._bases(other)))
        ]
        return [
            entry
            for entry in found
            if len(entry.text) >= max(len(word) - 4, 4 if entry.hit.hard else 5)
        ]

    def _respelt(self, word: str, bases: list[str]) -> list[Entry]:
        """Terms written by ear: ph for f, x for ck, k for c, z for s, v for u."""
        if not 3 <= len(word) <= 40:
            return []
        found = [
            entry
            for base in bases
            for entry in self._by_ear.get(normalise.by_ear(base), ())
            if entry.how != "=" or base == word
        ]
        others = (
            {
                word.replace(*pair)
                for pair in (("ph", "f"), ("x", "ck"), ("k", "c"), ("z", "s"), ("v", "u"))
            }
            - {word}
            - self.innocent
        )
        found += [entry for other in others for entry in self._direct(other, [other])]
        return [
            e
            for e in found
            if e.role == "piece" or (e.role == "term" and len(e.text) >= (4 if e.hit.hard else 5))
        ]

    def _unmasked(self, pattern: str) -> str:
        """The word that fits one in which signs stand for letters: "." for a strong sign (* #), "-"
        for any other.
        """
        weak, known = "-" in pattern, sum(map(str.isalpha, pattern))
        if (
            known * 2 < len(pattern)
            or known < (4 if weak else 2)
            or (weak and not (pattern[0].isalpha() and pattern[-1].isalpha()))
        ):
            return ""
        fitting = (
            text
            for base in self._bases(pattern)
            for text in self._spelled.get((len(base), base[0]), ())
            if all(sign in (letter, ".", "-") for sign, letter in zip(base, text, strict=True))
        )
        return next(fitting, "")

    def _personal(self, text: str) -> str:
        """The first address, number or contact in the text, or nothing."""
        for pattern in self.personal:
            if match := pattern.search(text):
                return match[0]
        for match in _IBAN.finditer(text):
            account = match[0].replace(" ", "")
            if (
                15 <= len(account) <= 34
                and int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1
            ):
                return match[0]
        return ""


def _matching(lists: Mapping[str, TermList]) -> None:
    """Raises ValueError where a list is of another language than its name says, or two lists know
    other categories.
    """
    if wrong := [name for name, terms in lists.items() if terms.language != name]:
        raise ValueError(f"the list of another language stands under {wrong}")
    if len({frozenset(terms.categories) for terms in lists.values()}) > 1:
        raise ValueError("the lists know different categories")


def _policy(raw: Mapping[str, Any]) -> str:
    """The hash of all that decides, and of what a person is then told.

    The sentences count as they did when they stood in the lists, so that verdicts of that time stay
    valid. Raises LookupError for a category without one: nobody is refused without a word.
    """
    lists = dict(raw)
    for language in LANGUAGES:
        categories = {
            name: {**category, "reason": message(f"refusal.{name}", language)}
            for name, category in raw[language]["categories"].items()
        }
        lists[language] = {**raw[language], "categories": categories}
    return f"rules-{canonical_sha256([lists, VERSION, normalise.VERSION])[:12]}"


def _pattern(what: str, pattern: str, example: str) -> re.Pattern[str]:
    """Raises ValueError where the pattern fits nothing at all: not even its own example, or every
    text.
    """
    compiled = re.compile(pattern)
    if compiled.search("") or not compiled.search(example):
        raise ValueError(f"the pattern for {what} does not find its example")
    return compiled


def _entries(lists: Mapping[str, TermList]) -> Iterator[Entry]:
    for language, terms in lists.items():
        roles = [("context:", terms.context)] + [
            (f"set:{name}", words) for name, words in terms.sets.items()
        ]
        for name, category in terms.categories.items():
            roles += [
                (f"context:{name}", category.context),
                (f"before:{name}", category.before),
                (f"after:{name}", category.after),
            ]
            for group in category.groups:
                loosest, lesson = LEVELS.index(group.loosest), group.lesson or not group.hard
                for term in group.terms:
                    yield from _entry(
                        term,
                        Hit(name, term.strip("*="), language, group.hard),
                        loosest,
                        lesson,
                        "term",
                    )
                roles.append(
                    (
                        "piece",
                        tuple(
                            piece for term in group.terms if " " in term for piece in term.split()
                        ),
                    )
                )
        for role, words in roles:
            for word in dict.fromkeys(words):
                yield from _entry(
                    word, Hit(role, word.strip("*="), language, False), 0, False, role
                )


def _entry(term: str, hit: Hit, loosest: int, lesson: bool, role: str) -> Iterator[Entry]:
    """The term in all spellings of its umlauts."""
    how = "=" if term[0] == "=" else "<" * (term[0] == "*") + ">" * (term[-1] == "*")
    bare = term.strip("*=")
    spelled = (
        [bare]
        if bare.isascii()
        else dict.fromkeys(normalise.fold(bare.translate(table)) for table in _SPELLINGS)
    )
    for text in spelled:
        yield Entry(hit, loosest, lesson, role, text.replace(" ", ""), how, " " in term)


def _terms(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.role == "term"]


def _close(place: int, reach: int, places: Mapping[str, list[int]], *roles: str) -> bool:
    return any(
        abs(place - n) <= reach and (place != n or role[:4] != "set:")
        for role in roles
        for n in places.get(role, ())
    )


def _resolved(place: int, places: Mapping[str, list[int]], category: str, width: int = 1) -> bool:
    beside = place - 1 in places.get(f"before:{category}", ()) or place + width in places.get(
        f"after:{category}", ()
    )
    return (
        beside
        or _close(place, _LESSON, places, "context:")
        or _close(place, _TOPIC, places, f"context:{category}")
    )


def _one_change(term: str, word: str) -> bool:
    return len(term) == len(word) and (
        sum(map(operator.ne, term, word)) == 1 or _swapped(term, word)
    )


def _swapped(term: str, word: str) -> bool:
    return (
        any(
            term[:n] + term[n + 1 : n + 2] + term[n] + term[n + 2 :] == word
            for n in range(len(term) - 1)
        )
        and term != word
    )


@lru_cache(maxsize=1)
def shipped_rules() -> Rules:
    return Rules.load()
