"""One word for another: the swap all substituting procedures share, with the articles and endings
put right around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devpipe.offline.procedures import grammar
from devpipe.offline.procedures.grammar import Found, Noun, find_adjective, find_noun, phrase_start
from devpipe.offline.procedures.words import Page, like, substitute, tidy, wordset

Choose = Callable[[str], str | None]  # a base form in, another one out, or None to leave the word
ChooseNoun = Callable[[Found], str | None]


def swap(
    page: Page, choose: Choose, choose_noun: ChooseNoun | None = None, *, guess: bool = False
) -> tuple[str, int]:
    """The text with every word swapped for which `choose` knows another, and how many were.

    `choose` gets base forms ("rot" for "roten"); `choose_noun`, where given, decides on nouns
    instead of it;
    `guess` lets it also decide on words that only stand where a noun stands.
    """
    language, count = page.language, 0

    def swapped(line: list[str]) -> list[str]:
        nonlocal count
        nouns = _swap_nouns(
            line,
            choose_noun or (lambda found: choose(found.noun.name(language).casefold())),
            language,
            guess=guess,
        )
        rest = [
            _swap_other(word, choose, language) if at not in nouns else None
            for at, word in enumerate(line)
        ]
        count = len(nouns) + sum(new is not None for new in rest)
        return [word if new is None else new for new, word in zip(rest, line, strict=True)]

    text = tidy(substitute(page.text, swapped))
    return (grammar.fix_articles(text) if language == "en" else text), count


def _swap_nouns(out: list[str], choose: ChooseNoun, language: str, *, guess: bool) -> set[int]:
    """Nouns swapped in place; answers which positions are settled."""
    done: set[int] = set()
    for at in range(len(out)):
        found = grammar.known_noun(out, at, language) or (
            _guessed(out, at, language) if guess else None
        )
        new = choose(found) if found else None
        if found and new is not None and _put(out, at, found, new, language):
            done.add(at)
    return done


def _guessed(out: Sequence[str], at: int, language: str) -> Found | None:
    """An unknown word taken for a noun because of where it stands."""
    word, function = (
        out[at],
        wordset(language, "stopwords", "prepositions", "conjunctions", "numbers"),
    )
    if language == "de":
        start = phrase_start(out, at)
        if (
            not at
            or not word[:1].isupper()
            or word.casefold() in function
            or find_adjective(word, "de")
        ):
            return None
        fits = grammar.fitting_gender(out[start:at], out[start - 1] if start else "")
        return (
            None
            if fits is None
            else Found(
                Noun(word, fits.strip("p") or "m", "", word), fits == "p", head="" if fits else "?"
            )
        )
    after = out[at + 1].casefold() if at + 1 < len(out) else ""
    before = out[at - 1] if at else ""
    led = before.casefold() in wordset("en", "articles", "numbers") or find_adjective(before, "en")
    if (
        word.casefold() in function
        or find_adjective(word, "en")
        or not led
        or (after and after not in function)
    ):
        return None
    return Found(
        Noun(word.casefold(), "n", "", word.casefold()),
        word.endswith("s") and not word.endswith("ss"),
    )


def _put(out: list[str], at: int, found: Found, new: str, language: str) -> bool:
    """The noun at `at` replaced by `new`; False where its article could not follow."""
    if language == "en":
        head, gap, tail = new.partition(" of ")
        known = find_noun(new, "en")
        plural = found.plural and found.noun.gender != "p" and not (known and known.plural)
        out[at] = like((grammar.english_plural(head) if plural else head) + gap + tail, out[at])
        return True
    target = find_noun(new.split(" ")[-1], "de")  # uninflected words may stand before it
    if not target or not new.endswith(target.noun.de):
        return False
    start = phrase_start(out, at)
    led, gender = out[start - 1] if start else "", "p" if found.plural else target.noun.gender
    before = grammar.agree(out[start:at], found.gender, gender, led)
    if before is None:
        return False
    case = grammar.case_of(out[start:at], found.gender, led) or "nom"
    if (
        before
        and (one := grammar.MERGED.get((led.casefold(), before[0].casefold())))
        and before[0] != out[start]
    ):
        out[start - 1], before[0] = like(one, led), ""
    out[start:at] = before
    out[at] = new.removesuffix(target.noun.de) + grammar.german_form(
        target.noun, plural=found.plural, case=case
    )
    return True


def _swap_other(word: str, choose: Choose, language: str) -> str | None:
    """Another word for anything but a noun, in the same form; None where there is none."""
    low = word.casefold() if language == "en" else word.lower()
    if known := choose(low):
        return like(known, word)
    adjective = (
        find_adjective(word, language)
        if language == "de" and not (word.istitle() and find_noun(word, "de"))
        else None
    )
    if not adjective or not (new := choose(adjective[0])):
        return None
    front, gap, last = new.rpartition(" ")
    return like(front + gap + grammar.inflect(last, adjective[1]), word)
