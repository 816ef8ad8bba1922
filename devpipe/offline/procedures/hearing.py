"""A text whispered from ear to ear: words taken for others that sound alike, through the habits of
another language.
"""

from __future__ import annotations

from functools import lru_cache

from devpipe.offline.procedures.grammar import all_adjectives, find_adjective, known_noun, nouns
from devpipe.offline.procedures.swapping import swap
from devpipe.offline.procedures.words import Page, data, tokens, words, wordset

_VOWELS = frozenset("aeiouyäöü")
_KIN = frozenset(
    map(
        frozenset,
        [
            "bp",
            "dt",
            "gk",
            "fv",
            "vw",
            "sz",
            "mn",
            "lr",
            "Ss",
            "xk",
            "Td",
            "Tf",
            "Ts",
            "rh",
            "xh",
            "CS",
        ],
    )
)


def chinese_whispers(page: Page) -> str:
    """The text as the next in the circle understands it (the parlour game; Wolfgang Köhler's and
    Bartlett's chains of retelling, 1932).

    The speaker pronounces it after the sound habits of `output_language`; the listener writes down
    the nearest words that exist.
    """
    accent = page.output_language[:2].casefold()
    wanted = min(1 + len(words(page.text)) // 7, 8)
    heard: dict[str, str] = {}
    for base, kind in _audible(page)[: 3 * wanted]:
        near = [
            other
            for other in misheard(base, kind, page.language, accent)
            if other.casefold() not in page.text.casefold()
        ]
        if near and len(heard) < wanted:
            heard[base] = page.dice.pick(near)
    text, changed = swap(
        page, lambda word: heard.get(word), lambda found: heard.get(found.noun.name(page.language))
    )
    return text if changed else _stumble(page)


def _audible(page: Page) -> list[tuple[str, str]]:
    """The words that may be misheard, as (base form, kind), in the order in which it happens:
    colours are the clearest.
    """
    found: dict[tuple[str, str], None] = {}
    named = words(page.text)[:400]
    for at, word in enumerate(named):
        noun, adjective = known_noun(named, at, page.language), find_adjective(word, page.language)
        if noun:
            found[noun.noun.name(page.language), "noun"] = None
        elif adjective:
            found[adjective[0], "adjective"] = None
    colours = wordset(page.language, "colours")
    return sorted(
        page.dice.shuffled(found),
        key=lambda entry: entry[0] in colours and not page.dice.chance(0.3),
    )


@lru_cache(maxsize=4096)
def misheard(word: str, kind: str, language: str, accent: str) -> tuple[str, ...]:
    """Up to four words that sound most like this one as spoken with the accent."""
    spoken = sounds(word, language)
    for old, new in data("sounds").get(accent, []):
        spoken = spoken.replace(old, new)
    others = [
        (other, heard) for other, heard in _lexicon(language, kind) if other.casefold() != word
    ]
    near = sorted(
        (distance(spoken, heard), other)
        for other, heard in others
        if abs(len(heard) - len(spoken)) <= 2
    )[:4]
    limit = min(0.6 * len(spoken), max(near[0][0] + 0.6, 0.4 * len(spoken))) if near else 0.0
    return tuple(other for far, other in near if far <= limit)


@lru_cache(maxsize=4)
def _lexicon(language: str, kind: str) -> tuple[tuple[str, str], ...]:
    strong = {noun.name(language) for noun in nouns() if noun.gender != "p" and not noun.weak}
    names, unsaid = (
        all_adjectives(language) if kind == "adjective" else strong,
        wordset(language, "unsaid"),
    )
    return tuple(
        (name, sounds(name, language))
        for name in sorted(names)
        if " " not in name and name.casefold() not in unsaid
    )


_SPELLING = {
    "en": (
        "ph f,ck k,sh S,tch C,ch C,th T,kn n,wh w,gh ,qu kw,x ks,ce se,ci si,c k,ee i,ea i,oo u,ou"
        " u,ow au,igh ai,y i,j C"
    ),
    "de": (
        "sch S,ch x,ck k,ph f,th t,qu kw,x ks,z ts,v f,w v,ß s,ie i,ih i,ah a,eh e,oh o,uh u,äu"
        " oi,eu oi,ei ai,ä e,ü i,ö e,y i"
    ),
}


def sounds(word: str, language: str) -> str:
    """A word roughly as it sounds, one sign per sound."""
    spoken = word.lower()
    for rule in _SPELLING["de" if language == "de" else "en"].split(","):
        old, _, new = rule.partition(" ")
        spoken = spoken.replace(old, new)
    spoken = "".join(c for at, c in enumerate(spoken) if not at or c != spoken[at - 1])
    if language == "de":
        return spoken[:-1] + {"d": "t", "b": "p", "g": "k"}.get(spoken[-1:], spoken[-1:])
    return spoken.removesuffix("e") if len(spoken) > 2 else spoken


def distance(one: str, two: str) -> float:
    """How far apart two words sound: a step per sound, half a step between sounds of a kind."""
    row = [float(at) for at in range(len(two) + 1)]
    for at, a in enumerate(one, 1):
        corner, row[0] = row[0], float(at)
        for place, b in enumerate(two, 1):
            step = (
                0
                if a == b
                else (
                    0.5
                    if a in _VOWELS and b in _VOWELS
                    else 0.4
                    if frozenset((a, b)) in _KIN
                    else 1
                )
            )
            corner, row[place] = row[place], min(corner + step, row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _stumble(page: Page) -> str:
    """Where no word has a neighbour: two words that follow each other change places."""
    pieces = tokens(page.text)
    texts, places = (
        [token.text for token in pieces],
        [at for at, token in enumerate(pieces) if token.counts],
    )
    if len(places) > 1:
        at = page.dice.below(len(places) - 1)
        one, two = places[at : at + 2]
        texts[one], texts[two] = texts[two], texts[one]
    return "".join(texts)
