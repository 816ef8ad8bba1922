"""One word for another: the swap all substituting procedures share, with the articles and endings put right around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devpipe.procedures.grammar import (
    Found,
    Noun,
    agree,
    case_of,
    english_plural,
    find_adjective,
    find_noun,
    fitting_gender,
    fix_articles,
    german_form,
    inflect,
    known_noun,
    merged,
    phrase_start,
)
from devpipe.procedures.words import Page, like, tidy, tokens, wordset

Choose = Callable[[str], str | None]  # a base form in, another one out, or None to leave the word
ChooseNoun = Callable[[Found], str | None]


def swap(page: Page, choose: Choose, choose_noun: ChooseNoun | None = None, *, guess: bool = False) -> tuple[str, int]:
    """The text with every word swapped for which `choose` knows another, and how many were.

    `choose` gets base forms ("rot" for "roten"); `choose_noun`, where given, decides on nouns instead of it;
    `guess` lets it also decide on words that only stand where a noun stands.
    """
    pieces = tokens(page.text)
    places = [at for at, token in enumerate(pieces) if token.kind == "word"]
    out = [pieces[at].text for at in places]
    nouns = _swap_nouns(out, choose_noun or (lambda found: choose(_base(found, page.language).casefold())), page.language, guess=guess)
    rest = [_swap_other(word, choose, page.language) if at not in nouns else None for at, word in enumerate(out)]
    swapped = [new if new is not None else word for new, word in zip(rest, out, strict=True)]
    texts = [token.text for token in pieces]
    for at, word in zip(places, swapped, strict=True):
        texts[at] = word
    text = tidy("".join(texts))
    return (fix_articles(text) if page.language == "en" else text), len(nouns) + sum(new is not None for new in rest)


def _base(found: Found, language: str) -> str:
    return found.noun.de if language == "de" else found.noun.en


def _swap_nouns(out: list[str], choose: ChooseNoun, language: str, *, guess: bool) -> set[int]:
    """Nouns swapped in place; answers which positions are settled."""
    done: set[int] = set()
    for at in range(len(out)):
        found = known_noun(out, at, language) or (_guessed(out, at, language) if guess else None)
        new = choose(found) if found else None
        if found and new is not None and _put(out, at, found, new, language):
            done.add(at)
    return done


def _guessed(out: Sequence[str], at: int, language: str) -> Found | None:
    """An unknown word taken for a noun because of where it stands."""
    word = out[at]
    if language == "de":
        start = phrase_start(out, at)
        small = any(word.casefold() in wordset("de", key) for key in ("stopwords", "prepositions", "numbers", "conjunctions"))
        noun = word[:1].isupper() and at and not small and not find_adjective(word, "de")
        fits = fitting_gender(out[start:at], out[start - 1] if start else "") if noun else None
        return (
            None if fits is None else Found(Noun(word, fits.replace("p", "") or "m", "", word), fits == "p", head="?" if not fits else "")
        )
    function = wordset("en", "stopwords") | wordset("en", "prepositions") | wordset("en", "conjunctions") | wordset("en", "numbers")
    after = out[at + 1].casefold() if at + 1 < len(out) else ""
    before = out[at - 1] if at else ""
    led = before.casefold() in wordset("en", "articles") or find_adjective(before, "en") or before.casefold() in wordset("en", "numbers")
    if word.casefold() in function or find_adjective(word, "en") or not led or (after and after not in function):
        return None
    return Found(Noun(word.casefold(), "n", "", word.casefold()), word.endswith("s") and not word.endswith("ss"))


def _put(out: list[str], at: int, found: Found, new: str, language: str) -> bool:
    """The noun at `at` replaced by `new`; False where its article could not follow."""
    if language == "en":
        head, gap, tail = new.partition(" of ")
        known = find_noun(new, "en")
        plural = found.plural and found.noun.gender != "p" and not (known and known.plural)
        out[at] = like((english_plural(head) if plural else head) + gap + tail, out[at])
        return True
    target = _german_target(new)
    if target is None:
        return False
    start = phrase_start(out, at)
    led, gender = out[start - 1] if start else "", "p" if found.plural else target.noun.gender
    before, case = agree(out[start:at], found.gender, gender, led), case_of(out[start:at], found.gender, led)
    if before is None:
        return False
    if before and (one := merged(led, before[0])) and before[0] != out[start]:
        out[start - 1], before[0] = like(one, led), ""
    out[start:at] = before
    form = german_form(target.noun, plural=found.plural, case=case or "nom")
    out[at] = new[: len(new) - len(target.noun.de)] + form
    return True


def _german_target(new: str) -> Found | None:
    """The noun a German replacement ends in; uninflected words may stand before it."""
    found = find_noun(new.split(" ")[-1], "de")
    return Found(found.noun, found.plural) if found and new.endswith(found.noun.de) else None


def _swap_other(word: str, choose: Choose, language: str) -> str | None:
    """Another word for anything but a noun, in the same form; None where there is none."""
    low = word.casefold() if language == "en" else word.lower()
    if known := choose(low):
        return like(known, word)
    adjective = find_adjective(word, language) if language == "de" and not (word.istitle() and find_noun(word, "de")) else None
    if not adjective:
        return None
    new = choose(adjective[0])
    if not new:
        return None
    front, gap, last = new.rpartition(" ")
    return like(front + gap + inflect(last, adjective[1]), word)
