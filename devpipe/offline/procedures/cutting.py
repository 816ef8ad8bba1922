"""Procedures that cut a text up and put it together otherwise: scissors, dictionary, missing
letter, chain, folded paper.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise, zip_longest

from devpipe.offline.procedures.grammar import Found, find_adjective, nouns
from devpipe.offline.procedures.scene import bare, parts, pieces, things
from devpipe.offline.procedures.swapping import swap
from devpipe.offline.procedures.words import (
    Page,
    Token,
    capital,
    ends,
    phrases,
    sentence,
    substitute,
    table,
    tidy,
    tokens,
    words,
    wordset,
)


def cut_up(page: Page) -> str:
    """The words of the text drawn from a bag, with scraps of other papers (Tristan Tzara, "Pour
    faire un poème dadaïste", 1920).

    Tzara cuts out word by word; here the scissors often slip, so that a colour may stay on its
    thing.
    """
    snippets = page.dice.shuffled(_snippets(page))
    shown = [snippet.upper() if page.dice.chance(0.2) else snippet for snippet in snippets]
    if len(shown) > 1 and " ".join(snippets).casefold() == page.text.casefold():
        shown = shown[1:] + shown[:1]
    scraps = ", ".join(page.some("cut_up.scraps", 2 + page.dice.below(2)))
    return f"{capital(' / '.join(shown))}. {page.phrase('cut_up.glue', scraps=scraps)}"


def _snippets(page: Page) -> list[str]:
    """The text cut into pieces of one to three words."""
    snippets: list[list[str]] = []
    for word in words(page.text):
        sticks = (
            snippets and find_adjective(snippets[-1][-1], page.language) and page.dice.chance(0.8)
        )
        if snippets and len(snippets[-1]) < 3 and (sticks or page.dice.chance(0.3)):
            snippets[-1].append(word)
        else:
            snippets.append([word])
    return [" ".join(snippet) for snippet in snippets]


def n_plus_7(page: Page) -> str:
    """Every noun replaced by the seventh after it in a dictionary (Jean Lescure, "La méthode S+7",
    Oulipo, 1961).

    The result depends on the dictionary: the seed chooses which one lies open. In German it is the
    seventh of the same gender.
    """
    shelf = {gender: _dictionary(page, gender) for gender in ("m", "f", "n", "")}

    def seventh(found: Found) -> str:
        free = page.language == "en" or found.plural or found.head == "?"
        entries = shelf["" if free else found.noun.gender.replace("p", "")]
        word = found.noun.name(page.language).casefold()
        return entries[(bisect_right(entries, word, key=str.casefold) + 6) % len(entries)]

    return swap(page, lambda word: None, seventh, guess=True)[0]


def _dictionary(page: Page, gender: str) -> list[str]:
    fit = [
        noun
        for noun in nouns()
        if noun.plural
        and noun.gender != "p"
        and not noun.weak
        and (not gender or noun.gender == gender)
    ]
    names = {noun.name(page.language) for noun in fit if " " not in noun.en}
    names = {name for name in names if name.casefold() not in wordset(page.language, "unsaid")}
    return sorted(page.dice.shuffled(sorted(names))[: len(names) * 2 // 3], key=str.casefold)


def lipogram(page: Page) -> str:
    """The text without one of its letters, other words taking the place of those that hold it
    (Georges Perec, "La Disparition", 1969).

    A word for which there is no other loses the letter.
    """
    known, letter = table(page.language, "near"), _missing_letter(page)

    def near(word: str) -> str | None:
        fit = [
            other
            for other in known.get(word, ())
            if letter in word and letter not in other.casefold()
        ]
        return page.dice.pick(fit) if fit else None

    def without(word: str) -> str:
        kept = "".join(c for c in word if c.casefold() != letter)
        return kept if letter not in word.casefold() or any(c.isalnum() for c in kept) else "…"

    return tidy(substitute(swap(page, near)[0], lambda line: map(without, line)))


_LATIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzäöü"
)  # a letter less in a script of syllables is a word less


def _missing_letter(page: Page) -> str:
    """A letter of the text, drawn from those that cost it the fewest words."""
    low = [token.text.casefold() for token in tokens(page.text) if token.kind == "word"]
    near = table(page.language, "near")
    letters = sorted({c for word in low for c in word if c in _LATIN})
    if not letters:
        return "e"

    def loss(letter: str) -> tuple[int, int]:
        hit = [word for word in low if letter in word]
        rescued = sum(
            any(letter not in other.casefold() for other in near.get(word, ())) for word in hit
        )
        return len(hit) - rescued, -rescued

    return page.dice.pick(sorted(letters, key=loss)[:6])


def markov(page: Page) -> str:
    """A chain in which each word is drawn by the two before it (Andrei Markov, 1913, on the letters
    of "Onegin").

    The chain has read the text three times and a small corpus of our own once; of several walks the
    one that keeps most of the text stays.
    """
    chain, read = _chain(page), _stream(page.text)
    own = {word.casefold() for word in read} - wordset(page.language, "stopwords")
    openings = [_stream(line)[:2] for line in phrases(page.language, "markov.corpus")]
    walks = [_walk(page, chain, [read[:2], *openings], 14 + len(read)) for _ in range(12)]
    best = max(
        walks,
        key=lambda walk: (
            len(own & {word.casefold() for word in walk}),
            len({w.casefold() for w in walk}),
        ),
    )
    return re.sub(
        r"(?<=[.!?] )\w", lambda found: found.group().upper(), sentence(tidy(" ".join(best)))
    )


def _stream(text: str) -> list[str]:
    """Words and the marks between them, as a chain reads them; of a long text its beginning."""
    return [token.text for token in tokens(text) if token.counts or token.text in ",.!?"][:80]


Chain = dict[tuple[str, ...], list[str]]


def _chain(page: Page) -> Chain:
    chain: Chain = {}
    for line in [
        *phrases(page.language, "markov.corpus"),
        *[page.text + "." * (not ends(page.text))] * 3,
    ]:
        read = _stream(line)
        for at, word in enumerate(read[1:], 1):
            for context in (
                (read[at - 1].casefold(),),
                tuple(w.casefold() for w in read[max(0, at - 2) : at]),
            ):
                chain.setdefault(context, []).append(word)
    return chain


def _walk(page: Page, chain: Chain, openings: Sequence[list[str]], limit: int) -> list[str]:
    """One walk; where two words know only one way on and the last of them may join anything, it
    alone decides.
    """
    walk = list(openings[0])
    while (len(walk) < limit or walk[-1] not in ".!?") and len(walk) < limit * 3:
        context = tuple(word.casefold() for word in walk[-2:])
        following = chain.get(context, [])
        binds = context[-1] in wordset(page.language, "articles") or find_adjective(
            walk[-1], page.language
        )
        if len(set(following[:20])) < 2 and not binds and page.dice.chance(0.5):
            following = chain.get(context[-1:], following)
        if walk[-1] in ".!?" or not following:
            walk += page.dice.pick(openings[1:])
        else:
            walk.append(page.dice.pick(following))
    return walk


def exquisite(page: Page) -> str:
    """A being put together on folded paper by players who do not see each other's part (cadavre
    exquis, Paris, 1925).
    """
    found = parts(page)
    solid = dict.fromkeys(things(found))
    named = page.dice.shuffled(bare(part, page.language) for part in solid)
    rest = [part.text for part in found if part not in solid]
    strips = (
        page.some("exquisite.bodies", 2)
        if len(named) == 1
        else [page.phrase("exquisite.bodies"), ", ".join(named[1:])]
    )
    head, body, feet = page.dice.shuffled([named[0], *strips])
    folded = page.phrase("exquisite.folds", head=head, body=body, feet=feet)
    return " ".join([folded, sentence(", ".join(rest)), page.phrase("exquisite.close")]).replace(
        "  ", " "
    )


def keep(page: Page) -> str:
    """The text as it is: the ready-made, chosen and not changed (Marcel Duchamp's gesture
    of 1913).
    """
    return page.text


_JOINTS = {
    "\n": 0,
    "|": 0,
    ";": 0,
    ".": 1,
    "!": 1,
    "?": 1,
    "…": 1,
    ",": 2,
    ":": 2,
    "—": 2,
    "–": 2,
}  # the loosest first


def split(page: Page, names: Sequence[str]) -> dict[str, str]:
    """The text in as many parts as are named, cut where its joints are loosest; every word in
    exactly one part.
    """
    runs = pieces(page.text, page.language)
    if len(runs) < len(names):
        runs = _single(page.text)
    texts = [
        "".join(token.text for _, run in runs[a:b] for token in run)
        for a, b in pairwise([0, *_cuts(runs, len(names), page), None])
    ]
    return {
        name: part.strip().strip(",;|").strip()
        for name, part in zip_longest(names, texts, fillvalue="")
    }


def _single(text: str) -> list[tuple[str, list[Token]]]:
    """Runs of one word each, marks and spaces with the word before."""
    runs: list[tuple[str, list[Token]]] = [("", [])]
    for token in tokens(text):
        if token.counts and any(t.counts for t in runs[-1][1]):
            runs.append(("", []))
        runs[-1][1].append(token)
    return runs


def _cuts(runs: Sequence[tuple[str, list[Token]]], count: int, page: Page) -> list[int]:
    """Where to cut: the loosest joints, the most even halves; chance only among equals."""
    size = [sum(token.counts for token in run) for _, run in runs]
    before, cuts = list(accumulate(size, initial=0)), list[int]()
    order = page.dice.shuffled(range(1, len(runs)))
    tightness = _JOINTS | dict.fromkeys(wordset(page.language, "conjunctions"), 2)
    for number in range(1, min(count, len(runs))):
        goal = before[-1] * number / count
        free = [at for at in order if at not in cuts]
        cuts.append(
            min(free, key=lambda at: (tightness.get(runs[at][0], 4), abs(before[at] - goal)))
        )
    return sorted(cuts)
