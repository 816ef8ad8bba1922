"""A prompt read as a picture: its things and places, one phrase each, in the order they
were named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devpipe.offline.procedures.grammar import (
    Found,
    find_adjective,
    known_noun,
    listed,
    lower_start,
    nominative,
    stem_in,
    verb_forms,
)
from devpipe.offline.procedures.words import Page, Token, table, tokens, words, wordset

_BREAKS = frozenset(".,;:!?…|/\n—–。，؛،")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One phrase of a prompt: "a red cat" or "in the rain"."""

    text: str  # as it stands, without the joining "and"
    lead: str  # the preposition it begins with, or empty
    at: int  # where its head word stands
    noun: str  # its head word, as in a list
    lemma: str  # the head word's base form where we know it
    kind: str  # thing, or time, season, weather, ground: what its noun speaks of
    colours: tuple[str, ...] = ()
    count: str = ""  # the number word or digits as written
    plural: bool = False
    link: str = ""  # what joined it to the part before: a mark, a conjunction, or empty


def parts(page: Page) -> list[Part]:
    """The phrases of a prompt; cut before prepositions, at punctuation and at an "and" that joins
    things.
    """
    return [
        part
        for link, piece in pieces(page.text, page.language)
        if (part := _read(link, piece, page.language))
    ]


def pieces(text: str, language: str) -> list[tuple[str, list[Token]]]:
    """Runs of tokens that belong together, each with what joins it to the one before; together they
    are the text.
    """
    found: list[tuple[str, list[Token]]] = [("", [])]
    pending, filled = "", False
    for token in tokens(text):
        current = found[-1][1]
        if (token.kind == "mark" and token.text in _BREAKS) or (
            token.kind == "space" and "\n" in token.text
        ):
            pending = token.text.strip() or "\n"
            current.append(token)
        elif token.kind == "word" and filled and (pending or _opens(token.text, current, language)):
            link = token.text.casefold()
            found.append(
                (pending or (link if link in wordset(language, "conjunctions") else ""), [token])
            )
            pending = ""
        else:
            current.append(token)
        filled = filled or token.counts
    return found


def _opens(word: str, current: Sequence[Token], language: str) -> bool:
    """True where a word begins a new phrase after what stands already."""
    low, last = word.casefold(), next(t.text for t in reversed(current) if t.counts)
    function = last.casefold() in wordset(language, "stopwords", "prepositions")
    if low in wordset(language, "prepositions"):
        return not function or last.casefold() in wordset(language, "pronouns")
    return (
        low in wordset(language, "conjunctions")
        and not function
        and not find_adjective(last, language)
    )


def _read(link: str, piece: Sequence[Token], language: str) -> Part | None:
    kept = list(piece)
    while kept and not kept[-1].counts:
        kept.pop()
    while kept and (
        not kept[0].counts
        or (len(kept) > 1 and kept[0].text.casefold() in wordset(language, "conjunctions"))
    ):
        kept.pop(0)
    named = [t.text for t in kept if t.counts]
    if not named:
        return None
    text = lower_start("".join(t.text for t in kept), language)
    low = [word.casefold() for word in named]
    lead = (
        "in front"
        if low[:3] == ["in", "front", "of"]
        else low[0]
        if low[0] in wordset(language, "prepositions")
        else ""
    )
    at = _head(named, language)
    found = known_noun(named, at, language)
    base = found.noun.name(language) if found else named[at]
    kind = next(
        (kind for kind, members in table(language, "kinds").items() if base.casefold() in members),
        "thing",
    )
    count = next(
        (w for w in named if w.isdecimal() or w.casefold() in wordset(language, "numbers")), ""
    )
    label, colours = _label(named[at], found, language), colours_in(named, language)
    return Part(
        text, lead, at, label, base, kind, colours, count, bool(found and found.plural), link
    )


def _label(word: str, found: Found | None, language: str) -> str:
    if found and language == "de":
        return listed(found)
    return word if not found or word.isupper() else word.casefold()


def _head(named: Sequence[str], language: str) -> int:
    """Where the word stands that the phrase is about: its last noun before an "of", or its last
    word that says something.
    """
    end = next((at for at in range(1, len(named)) if _ended(named, at, language)), len(named))
    known = [at for at in range(end) if known_noun(named, at, language)]
    if known:
        return known[-1]
    large = (
        [at for at in range(end) if named[at][:1].isupper() and (at or len(named) == 1)]
        if language == "de"
        else []
    )
    small = wordset(language, "stopwords", "prepositions", "numbers", "pronouns")
    says = [at for at in range(end) if named[at].casefold() not in small]
    solid = [
        at
        for at in says
        if not named[at].endswith("ing") and named[at].casefold() not in verb_forms(language)
    ]
    return (large or solid or says or [len(named) - 1])[-1]


def _ended(named: Sequence[str], at: int, language: str) -> bool:
    """True where a verb begins to say what the noun before it does, or a word what it belongs to:
    "of", "des", or "einer".
    """
    word, low = named[at], named[at].casefold()
    if low in wordset(language, "genitives"):
        return named[at - 1].casefold() not in wordset(language, "measures")
    says = (
        word in verb_forms(language)
        or word in wordset(language, "verbs")
        or (language == "de" and low in ("der", "einer"))
    )
    return says and bool(known_noun(named, at - 1, language))


def bare(part: Part, language: str) -> str:
    """A part without its preposition, as in a list: "on a blue ground" is "a blue ground"; as it
    stands where we cannot tell.
    """
    named = words(part.text)
    if not part.lead or " ".join(named) != part.text or named[-1] == named[0]:
        return part.text
    if language == "en":
        skip = 3 if part.lead == "in front" else 2 if named[1] in ("to", "of") else 1
        return (
            part.text
            if named[1] in wordset("en", "pronouns")
            else " ".join(named[skip:]) or part.text
        )
    return " ".join(nominative(named, part.at) or [part.text])


def joined(found: Sequence[Part]) -> str:
    """Parts in one line: a comma before things, none before a preposition."""
    return "".join(
        (" " if part.lead and not part.link else ", ") * bool(place) + part.text
        for place, part in enumerate(found)
    )


def colours_in(named: Sequence[str], language: str) -> tuple[str, ...]:
    """The colours named, in their base form."""
    return tuple(
        hit[0] for word in named if (hit := stem_in(word, wordset(language, "colours"), language))
    )


def of_kind(found: Sequence[Part], kind: str) -> Part | None:
    return next((part for part in found if part.kind == kind), None)


def things(found: Sequence[Part]) -> list[Part]:
    """The parts that are things rather than light, season or weather; all of them where none is."""
    return [
        part
        for part in found
        if part.kind == "thing" or (part.kind == "ground" and (part.colours or not part.lead))
    ] or list(found)
