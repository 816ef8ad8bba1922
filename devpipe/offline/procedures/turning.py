"""Procedures that keep a text's order and turn its words: into opposite, utmost, gentle, precise or
secret ones, or into English.
"""

from __future__ import annotations

import re

from devpipe.offline.procedures import grammar
from devpipe.offline.procedures.grammar import (
    all_adjectives,
    fix_articles,
    inflect,
    known_noun,
    lower_start,
)
from devpipe.offline.procedures.swapping import Choose, swap
from devpipe.offline.procedures.words import (
    Page,
    capital,
    data,
    like,
    phrases,
    sentence,
    substitute,
    table,
    tokens,
    wordset,
)


def _from(page: Page, name: str) -> Choose:
    """Another word out of one of our lists, drawn by the dice."""
    known = table(page.language, name)
    return lambda word: page.dice.pick(known[word]) if word in known else None


def antonyms(page: Page) -> str:
    """The world turned round: each word for which there is an opposite becomes it (the world upside
    down of 16th-century broadsheets).
    """
    text, turned = swap(page, _from(page, "opposites"))
    if not turned:
        text = capital(
            page.phrase("antonyms.frame", text=lower_start(page.text.rstrip("."), page.language))
        )
    return f"{sentence(text)} {page.phrase('antonyms.close')}"


def amplify(page: Page) -> str:
    """Everything at its utmost: hyperbole, the oldest figure of exaggeration (Quintilian,
    "Institutio oratoria" VIII 6, about 95).
    """
    bigger, colours = _from(page, "bigger"), wordset(page.language, "colours")
    grown, changed = swap(
        page,
        lambda word: (
            bigger(word) or (f"{page.phrase('amplify.very')} {word}" if word in colours else None)
        ),
    )
    text = substitute(grown, lambda line: [_enlarged(line, at, page) for at in range(len(line))])
    if text == grown and not changed:
        text = page.phrase("amplify.open", text=lower_start(text, page.language))
    return (
        f"{sentence(fix_articles(text) if page.language == 'en' else text)}"
        f" {page.phrase('amplify.close')}"
    )


def _enlarged(line: list[str], at: int, page: Page) -> str:
    """A noun that follows its article directly, with a great adjective before it."""
    word, low = line[at], line[at - 1].casefold() if at else ""
    noun = (
        known_noun(line, at, page.language) if low in wordset(page.language, "indefinite") else None
    )
    if not noun:
        return word
    size = page.phrase("amplify.size")
    endings = {"ein": "es" if noun.gender == "n" else "er", "eine": "e"}
    return (
        f"{size} {word}"
        if page.language == "en"
        else f"{inflect(size, endings.get(low, 'en'))} {word}"
    )


def harmonize(page: Page) -> str:
    """What clashes is brought into accord (the doctrine of harmony through contrast: Goethe, "Zur
    Farbenlehre", 1810).
    """
    text = lower_start(swap(page, _from(page, "gentle"))[0].rstrip("."), page.language)
    return (
        f"{sentence(capital(page.phrase('harmonize.open', text=text, Text=capital(text))))}"
        f" {page.phrase('harmonize.close')}"
    )


def uncliche(page: Page) -> str:
    """Worn images replaced by observed ones (Viktor Shklovsky, "Art as Technique", 1917: make the
    stone stony again).
    """
    fluff = "|".join(re.escape(word) for word in phrases(page.language, "uncliche.fluff"))
    bare = re.sub(rf"(?i)(?<!\w)(?:{fluff})(?!\w)[ ,]*", "", page.text).strip(" ,")
    text, _ = swap(Page(bare or page.text, page.language, page.dice), _from(page, "worn"))
    return f"{sentence(text)} {page.phrase('uncliche.detail')}"


def slang(page: Page) -> str:
    """The text as told in the schoolyard: speech of the street as material of art (Bakhtin's
    heteroglossia, 1934).
    """
    hip, very = _from(page, "slang"), page.phrase("slang.very")
    vivid = wordset(page.language, "colours") & all_adjectives(page.language)
    text, _ = swap(page, lambda word: hip(word) or (f"{very} {word}" if word in vivid else None))
    opened = page.phrase("slang.open", text=lower_start(text.rstrip(".!"), page.language))
    return f"{opened if page.language == 'en' else capital(opened)} – {page.phrase('slang.close')}"


def pig_latin(page: Page) -> str:
    """A secret language of children: Pig Latin in English, B language or spoon language in German
    (playground tradition, 19th century).
    """
    if page.language == "en":
        vowel_ending = page.dice.pick(("way", "yay", "hay"))
        return substitute(page.text, lambda line: [_pig(word, vowel_ending) for word in line])
    middle = page.dice.pick(("b", "lew", "b", "nef"))
    return substitute(page.text, lambda line: [_doubled(word, middle) for word in line])


def _pig(word: str, vowel_ending: str) -> str:
    if "-" in word:
        return "-".join(_pig(part, vowel_ending) for part in word.split("-"))
    found = re.fullmatch(
        r"(?i)((?:qu|[bcdfghj-np-tv-z]qu|y(?=[aeiou])|[b-df-hj-np-tv-xz])*)([a-z][a-z'’]*)", word
    )
    if not found:
        return word
    onset, rest = found.groups()
    return like(
        (rest.lower() + onset.lower() + "ay") if onset else word.lower() + vowel_ending, word
    )


def _doubled(word: str, middle: str) -> str:
    """Every vowel sound twice, a syllable slipped in between: "Haus" becomes "Haubaus" or
    "Haulewaus".
    """
    vowel = r"(?i)aa|ee|oo|ie|ei|ai|au|eu|äu|ey|ay|[aeiouäöü]|(?<=[^aeiouäöü])y"
    turned = re.sub(vowel, lambda found: found.group() + middle + found.group().lower(), word)
    return turned.upper() if len(word) > 1 and word.isupper() else turned


_AFTER_NOUN = {
    "der": "of the",
    "einer": "of a",
    "eines": "of a",
    "meiner": "of my",
    "seiner": "of his",
    "ihrer": "of her",
}
_IDIOMS = (
    (r"\b(in|at|on|of) the (?:the|a) ", r"\1 the "),
    (r"(?i)\bat the (morning|evening|background|foreground)\b", r"in the \1"),
    (r"(?i)\bat (an? (?:\w+ )?(?:morning|evening|day))\b", r"on \1"),
    (r"\bin the (winter|summer|spring|autumn)\b", r"in \1"),
    (r"(?i)\bnear (sunset|sunrise|night|noon|day)\b", r"at \1"),
)


def translate_en(page: Page) -> str:
    """The text word by word in English, in the order it stands (the interlinear glosses of medieval
    scribes); unknown words stay.
    """
    if page.language == "en":
        return page.text
    pieces = tokens(page.text)
    places = [at for at, token in enumerate(pieces) if token.kind == "word"]
    line, texts = [pieces[at].text for at in places], [token.text for token in pieces]
    for rank, at in enumerate(places):
        between = texts[places[rank - 1] + 1 : at] if rank else ["."]
        fresh = any(mark in ".!?" for mark in between)
        texts[at] = like(_english(line, rank, close=between == [" "]), line[rank] if fresh else "x")
    text = "".join(texts)
    for idiom, better in _IDIOMS:
        text = re.sub(idiom, better, text)
    return fix_articles(text)


def _english(line: list[str], at: int, *, close: bool) -> str:
    """One German word in English; `close` says that the word before stands right beside it."""
    word, low = line[at], line[at].lower()
    function, adjectives = data("glossary")["function"], data("glossary")["adjectives"]
    if close and low in _AFTER_NOUN and known_noun(line, at - 1, "de"):
        return _AFTER_NOUN[low]
    if low in function:
        return str(function[low])
    if found := known_noun(line, at, "de"):
        name = (
            grammar.english_plural(found.noun.en)
            if found.plural and found.noun.gender != "p"
            else found.noun.en
        )
        return _front(found.head) + name
    if low in grammar.verb_forms("de"):
        return grammar.verb_forms("de")[low]
    if (adjective := grammar.find_adjective(word, "de")) and adjective[0] in adjectives:
        return str(adjectives[adjective[0]])
    return (
        "-".join(_english([part], 0, close=False) for part in word.split("-"))
        if "-" in word
        else word
    )


def _front(head: str) -> str:
    """The front of a German compound in English: "Garten" of "Gartenhaus", without the sound that
    joins them.
    """
    adjectives: dict[str, str] = data("glossary")["adjectives"]
    for joint in ("", "s", "n", "en", "es", "e", "er"):
        stem = head.removesuffix(joint)
        if head.endswith(joint) and len(stem) > 2:
            if known := grammar.find_noun(stem, "de"):
                return f"{_front(known.head)}{known.noun.en} "
            if stem.lower() in adjectives:
                return adjectives[stem.lower()] + " "
    return f"{head.lower()} " if head else ""
