"""The little grammar a rewritten text needs: which noun this is, which endings its article and
adjectives take.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from devpipe.offline.procedures.words import data, like, wordset

_ARTICLE = {  # der, die, das by case; columns: masculine, feminine, neuter, plural
    "nom": ("der", "die", "das", "die"),
    "acc": ("den", "die", "das", "die"),
    "dat": ("dem", "der", "dem", "den"),
    "gen": ("des", "der", "des", "der"),
}
_STRONG = {
    "nom": ("er", "e", "es", "e"),
    "acc": ("en", "e", "es", "e"),
    "dat": ("em", "er", "em", "en"),
    "gen": ("es", "er", "es", "er"),
}
_EIN = _STRONG | {"nom": ("", "e", "", "e"), "acc": ("en", "e", "", "e")}
_ADJECTIVE_END = re.compile(r"\w{2}(e[nmrs]?)$")
_GENDERS = "mfnp"
_CASES = ("nom", "acc", "dat", "gen")
_ENDINGS = ("en", "em", "es", "er", "e")
_CONTRACTED = {
    "im": ("in", "dem"),
    "am": ("an", "dem"),
    "vom": ("von", "dem"),
    "beim": ("bei", "dem"),
    "zum": ("zu", "dem"),
    "zur": ("zu", "der"),
    "ins": ("in", "das"),
    "ans": ("an", "das"),
    "aufs": ("auf", "das"),
}
MERGED = {
    parts: short for short, parts in _CONTRACTED.items()
}  # "in" and "dem" are one word in German
# each form of an article as (kind, stem): "der" words, "dies" words and "ein" words
_DETERMINERS = (
    {
        stem + end: ("dies", stem)
        for stem in ("dies", "jed", "jen", "manch", "welch", "all")
        for end in _ENDINGS
    }
    | {
        stem + end: ("ein", stem)
        for stem in ["ein", "kein", "mein", "dein", "sein", "ihr", "unser", "euer"]
        for end in ("", *_ENDINGS)
    }
    | dict.fromkeys(
        [*_CONTRACTED, *(form for row in _ARTICLE.values() for form in row)], ("der", "")
    )
)
_GOVERNED: dict[str, tuple[str, ...]] = (  # the cases a preposition asks of what follows
    dict.fromkeys(["aus", "bei", "mit", "nach", "seit", "von", "zu", "gegenüber"], ("dat",))
    | dict.fromkeys(["durch", "für", "gegen", "ohne", "um"], ("acc",))
    | dict.fromkeys(
        ["in", "an", "auf", "über", "unter", "vor", "hinter", "neben", "zwischen"], ("dat", "acc")
    )
)


@dataclass(frozen=True, slots=True)
class Noun:
    """A thing with a name in two languages; `plural` is empty where it has none."""

    de: str
    gender: str  # m f n, p: plural only
    plural: str
    en: str
    weak: bool = False  # der Hase, den Hasen

    def name(self, language: str) -> str:
        return self.de if language == "de" else self.en


@dataclass(frozen=True, slots=True)
class Found:
    """A noun met in a text, and in which number."""

    noun: Noun
    plural: bool
    form: str = ""  # what German case added: "n" in "den Häusern", "s" in "des Autos"
    head: str = ""  # the front of a compound: "Garten" in "Gartenhaus"

    @property
    def gender(self) -> str:
        return "p" if self.plural else self.noun.gender


@cache
def nouns() -> tuple[Noun, ...]:
    lines = (line.split(" ", 3) for line in data("glossary")["nouns"])
    return tuple(
        Noun(de, sex.replace("w", "m"), "" if many == "-" else many, en, weak=sex == "w")
        for de, sex, many, en in lines
    )


def english_plural(word: str) -> str:
    many = (
        word[:-1] + "ies"
        if re.search(r"[^aeiou]y$", word)
        else word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")
    )
    return str(data("glossary")["plurals"].get(word, many))


@cache
def _noun_forms(language: str) -> dict[str, Found]:
    forms: dict[str, Found] = {}
    for noun in nouns():
        of_one = [(noun.name(language), Found(noun, noun.gender == "p"))]
        if noun.plural:
            of_one.append(
                (english_plural(noun.en) if language == "en" else noun.plural, Found(noun, True))
            )
        if language == "de" and noun.plural:
            of_one.append((noun.plural + "n", Found(noun, True, "n")))
        if language == "de" and noun.gender in "mn" and not noun.weak:
            of_one += [(noun.de + ending, Found(noun, False, "s")) for ending in ("s", "es")]
        for word, found in of_one:
            forms.setdefault(word.casefold(), found)
    return forms


@lru_cache(maxsize=8192)
def find_noun(word: str, language: str) -> Found | None:
    """The noun a word is, in whatever number; German compounds are known by their last part."""
    forms = _noun_forms(language)
    found = forms.get(word.casefold())
    if found or language != "de" or not word[:1].isupper():
        return found
    for cut in range(3, len(word) - 2):
        tail = forms.get(word[cut:].casefold())
        if tail and word[cut:].islower():
            return replace(tail, head=word[:cut])
    return None


def german_form(noun: Noun, *, plural: bool = False, case: str = "nom") -> str:
    """A German noun in a number and case."""
    if plural:
        many = noun.plural or noun.de
        return many + ("n" if case == "dat" and many[-1] not in "ns" else "")
    if noun.weak and case != "nom":
        return noun.plural or noun.de
    return noun.de + (
        ("es" if noun.de[-1] in "sßxz" or len(noun.de) < 5 else "s")
        if case == "gen" and noun.gender in "mn"
        else ""
    )


@cache
def all_adjectives(language: str) -> frozenset[str]:
    pairs: dict[str, str] = data("glossary")["adjectives"]
    return (frozenset(pairs) if language == "de" else frozenset(pairs.values())) | wordset(
        language, "more_adjectives"
    )


@lru_cache(maxsize=8192)
def find_adjective(word: str, language: str) -> tuple[str, str] | None:
    """An adjective as (base form, ending), or None."""
    if word.casefold() in wordset(language, "prepositions"):
        return None
    return stem_in(word, all_adjectives(language), language)


def stem_in(word: str, known: frozenset[str], language: str) -> tuple[str, str] | None:
    """A word as (known base form, German ending), or None: "roten" is ("rot", "en"), "dunkler"
    ("dunkel", "er").
    """
    low = word.casefold() if language == "en" else word.lower()
    if low in known:
        return low, ""
    for ending in _ENDINGS if language == "de" else ():
        if low.endswith(ending) and len(low) > len(ending) + 1:
            base = low[: -len(ending)]
            options = (
                base,
                {"hoh": "hoch"}.get(base, ""),
                base[:-1] + "el" if base.endswith("l") else "",
            )
            if found := next((option for option in options if option in known), None):
                return found, ending
    return None


def inflect(base: str, ending: str) -> str:
    """A German adjective with an ending."""
    if not ending or base in wordset("de", "uninflected"):
        return base
    return (
        "hoh"
        if base == "hoch"
        else base[:-2] + "l"
        if base.endswith("el")
        else base.removesuffix("e")
    ) + ending


def known_noun(words: Sequence[str], at: int, language: str) -> Found | None:
    """The noun that stands at `at`, unless there it is a small word, a verb or, in German, an
    adjective written small.
    """
    word, low = words[at], words[at].casefold()
    if low in wordset(language, "stopwords", "prepositions"):
        return None
    found = find_noun(word, language)
    if language == "de":
        small = word.islower() and (find_adjective(word, "de") or word in verb_forms("de"))
        return _in_number(words, at, found) if found and not small else None
    verb = (
        low in verb_forms("en")
        and at
        and find_noun(words[at - 1], "en")
        and not find_adjective(words[at - 1], "en")
    )
    return None if verb or low in wordset("en", "verbs") else found


def _in_number(words: Sequence[str], at: int, found: Found) -> Found:
    """A German noun whose form says nothing of its number, in the one that article, adjectives or
    number word ask for.
    """
    noun, start = found.noun, phrase_start(words, at)
    if (
        not noun.plural
        or found.gender == "p" == noun.gender
        or not (noun.weak or noun.plural == noun.de)
    ):
        return found
    if start and words[start - 1].casefold() in wordset("de", "numbers"):
        return replace(found, plural=True)
    led = words[start - 1] if start else ""
    for plural in (found.plural, not found.plural):
        if case_of(words[start:at], "p" if plural else noun.gender, led) and (
            noun.plural == noun.de or plural or words[at] != noun.de
        ):
            return replace(found, plural=plural, form=found.form if plural else "")
    return found


@cache
def verb_forms(language: str) -> dict[str, str]:
    """Verb forms; the German ones with their English: "läuft" runs, "laufen" run, "laufend"
    running.
    """
    forms: dict[str, str] = {}
    for line in data("glossary")["verbs"]:
        many, one, english = line.split()
        if language == "en":
            forms |= {english: english, third_person(english): english}
            continue
        forms |= {many: english, one: third_person(english)}
        forms |= {f"{many}d{ending}": ing(english) for ending in ("", "e", "er", "es", "en", "em")}
    return forms


def third_person(verb: str) -> str:
    """The English form that goes with he, she, it."""
    return "has" if verb == "have" else english_plural(verb)


def ing(verb: str) -> str:
    """The present participle of an English verb."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnpt]", verb) else "") + "ing"


def nominative(words: Sequence[str], at: int) -> list[str] | None:
    """A German prepositional phrase without its preposition: "auf blauem Grund" becomes "blauer
    Grund"; None where we cannot tell.
    """
    found, start = known_noun(words, at, "de"), phrase_start(words, at)
    if not found or start > 1:
        return None
    before = agree(
        words[start:at], found.gender, found.gender, words[0] if start else "", named=True
    )
    if before is None:
        return None
    return [*before, listed(found), *words[at + 1 :]]


def listed(found: Found) -> str:
    name = german_form(found.noun, plural=found.plural)
    return found.head + name.lower() if found.head else name


def phrase_start(words: Sequence[str], at: int) -> int:
    """Where the article and adjectives of the German noun at `at` begin."""
    start = at
    while start and _attribute(words, start - 1):
        start -= 1
    return start - 1 if start and words[start - 1].casefold() in _DETERMINERS else start


def _attribute(words: Sequence[str], at: int) -> bool:
    """True for an adjective written small, and for an unknown word with an adjective's ending where
    one stands.
    """
    word = words[at]
    if not word[:1].islower() or word.casefold() in _DETERMINERS or word in verb_forms("de"):
        return bool(word[:1].islower() and find_adjective(word, "de"))
    if find_adjective(word, "de"):
        return True
    before, small = (
        words[at - 1] if at else "",
        wordset("de", "stopwords", "prepositions", "numbers", "conjunctions"),
    )
    led = (
        before.casefold() in _DETERMINERS
        or find_adjective(before, "de")
        or before.casefold() in wordset("de", "prepositions")
    )
    return bool(led and word not in small and _ADJECTIVE_END.search(word))


def _governed(before: str) -> tuple[str, ...]:
    """The cases a word asks of what follows; after a noun a genitive is likely."""
    likely = (
        ("gen", "nom", "acc", "dat") if before[:1].isupper() and find_noun(before, "de") else _CASES
    )
    return _GOVERNED.get(before.casefold(), likely)


def _article(kind: str, stem: str, case: str, column: int) -> str:
    if kind == "der":
        return _ARTICLE[case][column]
    return stem + (_EIN if kind == "ein" else _STRONG)[case][column]


def _adjective_ending(kind: str, case: str, column: int) -> str:
    if not kind:
        return "en" if case == "gen" and column in (0, 2) else _STRONG[case][column]
    plain = case == "nom" or (case == "acc" and column != 0)
    if column == 3 or not plain:
        return "en"
    return _STRONG[case][column] if kind == "ein" else "e"


def agree(
    before: Sequence[str], old: str, new: str, preposition: str = "", *, named: bool = False
) -> list[str] | None:
    """The article and adjectives of a German noun turned from one gender to another; None where we
    cannot tell how.

    `named` turns them to the nominative instead, as in a list: "im alten Haus" becomes "das alte
    Haus".
    """
    if not before or (old == new and not named):
        return list(before)
    first, contracted = before[0], _CONTRACTED.get(before[0].casefold())
    kind, stem = _DETERMINERS.get(first.casefold(), ("", ""))
    rest = list(before[1:] if kind else before)
    cases = _fitting_cases(before, _GENDERS.index(old), preposition)
    if not cases or (stem == "ein" and new == "p"):
        return None
    case, column = "nom" if named else cases[0], _GENDERS.index(new)
    article, ending = _article(kind, stem, case, column), _adjective_ending(kind, case, column)
    if contracted and not named:
        article = MERGED.get((contracted[0], article), f"{contracted[0]} {article}")
    parted = [(word, *_base_and_ending(word)) for word in rest]
    return ([like(article, first)] if kind else []) + [
        inflect(base, ending) if had else word for word, base, had in parted
    ]


def case_of(before: Sequence[str], gender: str, preposition: str) -> str | None:
    """The case in which a German noun stands, as far as the words before it tell; None where they
    do not fit its gender.
    """
    if not before:
        governed = _governed(preposition)
        return "nom" if "nom" in governed else governed[0]
    return next(iter(_fitting_cases(before, _GENDERS.index(gender), preposition)), None)


def _fitting_cases(before: Sequence[str], column: int, preposition: str) -> list[str]:
    """The cases in which article and adjectives can stand, the likeliest first."""
    kind, stem = _DETERMINERS.get(before[0].casefold(), ("", ""))
    if stem == "ein" and column == 3:
        return []
    contracted = _CONTRACTED.get(before[0].casefold())
    endings = [_base_and_ending(word)[1] for word in (before[1:] if kind else before)]
    article = (contracted[1] if contracted else before[0]).casefold()
    return [
        case
        for case in _governed(contracted[0] if contracted else preposition)
        if (not kind or _article(kind, stem, case, column) == article)
        and all(ending in ("", _adjective_ending(kind, case, column)) for ending in endings)
    ]


def fitting_gender(before: Sequence[str], preposition: str = "") -> str | None:
    """The gender that article and adjectives ask of an unknown noun; empty where any will do, None
    where none fits.
    """
    if not before:
        return ""
    fits = [
        (cases[0], gender)
        for column, gender in enumerate(_GENDERS)
        if (cases := _fitting_cases(before, column, preposition))
    ]
    return min(fits, key=lambda fit: _CASES.index(fit[0]))[1] if fits else None


def _base_and_ending(adjective: str) -> tuple[str, str]:
    found, guess = find_adjective(adjective, "de"), _ADJECTIVE_END.search(adjective)
    return found or ((adjective[: guess.start(1)], guess.group(1)) if guess else (adjective, ""))


def fix_articles(text: str) -> str:
    """English text with "a" and "an" before the right sounds."""

    def right(found: re.Match[str]) -> str:
        article, gap, word = found.groups()
        vowel = bool(
            re.match(r"(?i)[aeio]|u(?!ni|s[aeiu]|k|t[aeio])|ho(?:ur|nest)|honou?r", word)
        ) and not re.match(r"(?i)one|eu", word)
        return like("an" if vowel else "a", article[0]) + gap + word

    return re.sub(r"\b([Aa]n?)(\s+)([A-Za-z]+)", right, text)


def lower_start(text: str, language: str) -> str:
    """A phrase taken from the start of a sentence: its first letter small where the word is no
    name.
    """
    head = re.match(r"[^\W\d_]+", text)
    if not head or not text[0].isupper() or (len(head.group()) > 1 and head.group().isupper()):
        return text
    word = head.group()
    small = word.lower() in wordset(language, "stopwords", "prepositions", "numbers")
    if language == "de":
        common = word.casefold() in _DETERMINERS or bool(
            (small or find_adjective(word, "de")) and not find_noun(word, "de")
        )
    else:
        common = word != "I" and bool(small or find_noun(word, "en") or find_adjective(word, "en"))
    return text[0].lower() + text[1:] if common else text
