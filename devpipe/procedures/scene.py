"""A prompt read as a picture: its things and places, one phrase each, in the order they were named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devpipe.procedures.grammar import Found, find_adjective, german_form, known_noun, lower_start, nominative, stem_in, verb_forms
from devpipe.procedures.words import Page, Token, table, tokens, words, wordset

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
    """The phrases of a prompt; cut before prepositions, at punctuation and at an "and" that joins things."""
    return [part for link, piece in pieces(page.text, page.language) if (part := _read(link, piece, page.language))]


def pieces(text: str, language: str) -> list[tuple[str, list[Token]]]:
    """Runs of tokens that belong together, each with what joins it to the one before; together they are the text."""
    found: list[tuple[str, list[Token]]] = [("", [])]
    pending, filled = "", False
    for token in tokens(text):
        current = found[-1][1]
        if (token.kind == "mark" and token.text in _BREAKS) or (token.kind == "space" and "\n" in token.text):
            pending = token.text.strip() or "\n"
            current.append(token)
        elif token.kind == "word" and filled and (pending or _opens(token.text, current, language)):
            found.append((pending or _link(token.text, language), [token]))
            pending = ""
        else:
            current.append(token)
        filled = filled or token.counts
    return found


def _link(word: str, language: str) -> str:
    return word.casefold() if word.casefold() in wordset(language, "conjunctions") else ""


def _opens(word: str, current: Sequence[Token], language: str) -> bool:
    """True where a word begins a new phrase after what stands already."""
    low, last = word.casefold(), next(t.text for t in reversed(current) if t.counts)
    function = last.casefold() in wordset(language, "stopwords") or last.casefold() in wordset(language, "prepositions")
    if low in wordset(language, "prepositions"):
        return not function or last.casefold() in wordset(language, "pronouns")
    return low in wordset(language, "conjunctions") and not function and not find_adjective(last, language)


def _read(link: str, piece: Sequence[Token], language: str) -> Part | None:
    kept = list(piece)
    while kept and not kept[-1].counts:
        kept.pop()
    while kept and (not kept[0].counts or (len(kept) > 1 and kept[0].text.casefold() in wordset(language, "conjunctions"))):
        kept.pop(0)
    named = [t.text for t in kept if t.counts]
    if not named:
        return None
    text = lower_start("".join(t.text for t in kept), language)
    lead = _lead(named, language)
    at = _head(named, language)
    found = known_noun(named, at, language)
    base = (found.noun.de if language == "de" else found.noun.en) if found else named[at]
    kind, colours = _kind(base, language), colours_in(named, language)
    return Part(
        text, lead, at, _label(named[at], found, language), base, kind, colours, _count(named, language), bool(found and found.plural), link
    )


def _lead(named: Sequence[str], language: str) -> str:
    if [word.casefold() for word in named[:3]] == ["in", "front", "of"]:
        return "in front"
    return named[0].casefold() if named[0].casefold() in wordset(language, "prepositions") else ""


def _label(word: str, found: Found | None, language: str) -> str:
    """The head word as it would stand in a list."""
    if not found:
        return word
    if language == "en":
        return word if word.isupper() else word.casefold()
    name = german_form(found.noun, plural=found.plural)
    return found.head + name.lower() if found.head else name


def _head(named: Sequence[str], language: str) -> int:
    """Where the word stands that the phrase is about: its last noun before an "of", or its last word that says something."""
    ends = [at for at in range(1, len(named)) if _genitive(named, at, language) or _predicate(named, at, language)]
    end = next(iter(ends), len(named))
    known = [at for at in range(end) if known_noun(named, at, language)]
    if known:
        return known[-1]
    large = [at for at in range(end) if named[at][:1].isupper() and (at or len(named) == 1)] if language == "de" else []
    small = [wordset(language, key) for key in ("stopwords", "prepositions", "numbers", "pronouns")]
    says = [at for at in range(end) if not any(named[at].casefold() in words for words in small)]
    solid = [at for at in says if not named[at].endswith("ing") and named[at].casefold() not in verb_forms(language)]
    return (large or solid or says or [len(named) - 1])[-1]


def _predicate(named: Sequence[str], at: int, language: str) -> bool:
    """True where a verb begins to say what the noun before it does."""
    verb = named[at] in verb_forms(language) or named[at] in wordset(language, "verbs")
    return verb and bool(known_noun(named, at - 1, language))


def _genitive(named: Sequence[str], at: int, language: str) -> bool:
    """True where a word begins what the noun before belongs to: "of", "des", or "einer" after a noun."""
    low = named[at].casefold()
    if low in wordset(language, "genitives"):
        return named[at - 1].casefold() not in wordset(language, "measures")
    return language == "de" and low in ("der", "einer") and bool(known_noun(named, at - 1, "de"))


def bare(part: Part, language: str) -> str:
    """A part without its preposition, as in a list: "on a blue ground" is "a blue ground"; as it stands where we cannot tell."""
    named = words(part.text)
    if not part.lead or " ".join(named) != part.text or named[-1] == named[0]:
        return part.text
    if language == "en":
        skip = 3 if part.lead == "in front" else 2 if named[1] in ("to", "of") else 1
        return part.text if named[1] in wordset("en", "pronouns") else " ".join(named[skip:]) or part.text
    return " ".join(nominative(named, part.at) or [part.text])


def joined(found: Sequence[Part]) -> str:
    """Parts in one line: a comma before things, none before a preposition."""
    return "".join((" " if part.lead and not part.link else ", ") * bool(place) + part.text for place, part in enumerate(found))


def _kind(base: str, language: str) -> str:
    kinds: dict[str, list[str]] = dict(table(language, "kinds"))
    low = base.casefold()
    return next((kind for kind, members in kinds.items() if low in members), "thing")


def colours_in(named: Sequence[str], language: str) -> tuple[str, ...]:
    """The colours named, in their base form."""
    known = wordset(language, "colours")
    found = [stem_in(word, known, language) for word in named]
    return tuple(hit[0] for hit in found if hit)


def _count(named: Sequence[str], language: str) -> str:
    return next((w for w in named if w.isdecimal() or w.casefold() in wordset(language, "numbers")), "")


def of_kind(found: Sequence[Part], kind: str) -> Part | None:
    """The first part of a kind, or None."""
    return next((part for part in found if part.kind == kind), None)


def things(found: Sequence[Part]) -> list[Part]:
    """The parts that are things rather than light, season or weather; all of them where none is."""
    return [part for part in found if part.kind == "thing" or (part.kind == "ground" and (part.colours or not part.lead))] or list(found)
