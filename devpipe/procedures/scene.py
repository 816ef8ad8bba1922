"""A prompt read as a picture: its things and places, one phrase each, in the order they were named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devpipe.procedures.grammar import find_adjective, find_noun, known_noun, lower_start, nominative, stem_in
from devpipe.procedures.words import Page, Token, table, tokens, words, wordset

_BREAKS = frozenset(".,;:!?…|/\n—–。，؛،")


@dataclass(frozen=True, slots=True)
class Part:
    """One phrase of a prompt: "a red cat" or "in the rain"."""

    text: str  # as it stands, without the joining "and"
    lead: str  # the preposition it begins with, or empty
    noun: str  # its head word
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
    pending = ""
    for token in tokens(text):
        current = found[-1][1]
        filled = any(t.counts for t in current)
        if token.kind == "mark" and token.text in _BREAKS or token.kind == "space" and "\n" in token.text:
            pending = token.text.strip() or "\n"
            current.append(token)
        elif token.kind == "word" and filled and (pending or _opens(token.text, current, language)):
            found.append((pending or _link(token.text, language), [token]))
            pending = ""
        else:
            current.append(token)
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
    lead = named[0].casefold() if named[0].casefold() in wordset(language, "prepositions") else ""
    head = _head(named, language)
    found = find_noun(head, language)
    base = (found.noun.de if language == "de" else found.noun.en) if found else head
    return Part(text, lead, head, base, _kind(base, language), colours_in(named, language), _count(named, language), bool(found and found.plural), link)


def _head(named: Sequence[str], language: str) -> str:
    """The word the phrase is about: its last noun before "of", or its last word that says something."""
    genitives, measures = wordset(language, "genitives"), wordset(language, "measures")
    of = next((at for at, word in enumerate(named) if at and word.casefold() in genitives and named[at - 1].casefold() not in measures), len(named))
    known = [word for word in named[:of] if known_noun(word, language)]
    if known:
        return known[-1]
    if language == "de":
        large = [word for word in named[1:of] if word[:1].isupper()] or [word for word in named[:1] if word[:1].isupper() and len(named) == 1]
        if large:
            return large[-1]
    says = [w for w in named[:of] if w.casefold() not in wordset(language, "stopwords") and w.casefold() not in wordset(language, "prepositions")]
    solid = [w for w in says if not w.endswith("ing") and w.casefold() not in wordset(language, "verbs")] or says
    return solid[-1] if solid else named[-1]


def bare(part: Part, language: str) -> str:
    """A part without its preposition, as in a list: "on a blue ground" is "a blue ground"; as it stands where we cannot tell."""
    named = words(part.text)
    if not part.lead or " ".join(named) != part.text or named[-1] == named[0]:
        return part.text
    if language == "en":
        skip = 3 if named[1:3] == ["front", "of"] else 2 if named[1] in ("to", "of") else 1
        return " ".join(named[skip:]) or part.text
    return " ".join(nominative(named, named.index(part.noun)) or [part.text])


def joined(found: Sequence[Part]) -> str:
    """Parts in one line: a comma before things, none before a preposition."""
    return "".join((" " if part.lead else ", ") * bool(place) + part.text for place, part in enumerate(found))


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
    return [part for part in found if part.kind in ("thing", "ground")] or list(found)
