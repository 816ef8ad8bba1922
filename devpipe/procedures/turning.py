"""Procedures that keep a text's order and turn its words: into their opposite, their utmost, their gentle, precise or secret form."""

from __future__ import annotations

import re

from devpipe.procedures.grammar import find_adjective, fix_articles, inflect, known_noun, lower_start
from devpipe.procedures.swapping import Choose, swap
from devpipe.procedures.words import Page, capital, like, phrases, sentence, substitute, table, tokens, wordset


def _from(page: Page, name: str) -> Choose:
    """Another word out of one of our lists, drawn by the dice."""
    known = table(page.language, name)
    return lambda word: page.dice.pick(known[word]) if word in known else None


def antonyms(page: Page) -> str:
    """The world turned round: each word for which there is an opposite becomes it (the world upside down of 16th-century broadsheets)."""
    text, turned = swap(page, _from(page, "opposites"))
    if not turned:
        text = capital(page.phrase("antonyms.frame").format(text=lower_start(page.text.rstrip("."), page.language)))
    return f"{sentence(text)} {page.phrase('antonyms.close')}"


def amplify(page: Page) -> str:
    """Everything at its utmost: hyperbole, the oldest figure of exaggeration (Quintilian, "Institutio oratoria" VIII 6, about 95)."""
    known = table(page.language, "bigger")
    grown, changed = swap(page, lambda word: page.dice.pick(known[word]) if word in known else _very(page, word))
    named = tokens(grown)
    places = [at for at, token in enumerate(named) if token.kind == "word"]
    line = [named[at].text for at in places]
    pieces = [token.text for token in named]
    for rank, at in enumerate(places):
        pieces[at] = _enlarged(line, rank, page)
    text = "".join(pieces)
    if text == grown and not changed:
        text = page.phrase("amplify.open").format(text=lower_start(text, page.language))
    return f"{sentence(fix_articles(text) if page.language == 'en' else text)} {page.phrase('amplify.close')}"


def _very(page: Page, word: str) -> str | None:
    """A colour or another quality with an adverb that drives it to its limit."""
    return f"{page.phrase('amplify.very')} {word}" if word in wordset(page.language, "colours") else None


def _enlarged(line: list[str], at: int, page: Page) -> str:
    """A noun that follows its article directly, with a great adjective before it."""
    word, low = line[at], line[at - 1].casefold() if at else ""
    noun = known_noun(line, at, page.language) if low in wordset(page.language, "indefinite") else None
    if not noun:
        return word
    size = page.phrase("amplify.size")
    endings = {"ein": "es" if noun.gender == "n" else "er", "eine": "e"}
    return f"{size} {word}" if page.language == "en" else f"{inflect(size, endings.get(low, 'en'))} {word}"


def harmonize(page: Page) -> str:
    """What clashes is brought into accord (the doctrine of harmony through contrast: Goethe, "Zur Farbenlehre", 1810)."""
    text = swap(page, _from(page, "gentle"))[0].rstrip(".")
    text = lower_start(text, page.language)
    return f"{sentence(capital(page.phrase('harmonize.open').format(text=text, Text=capital(text))))} {page.phrase('harmonize.close')}"


def uncliche(page: Page) -> str:
    """Worn images replaced by observed ones (Viktor Shklovsky, "Art as Technique", 1917: make the stone stony again)."""
    fluff = "|".join(re.escape(word) for word in phrases(page.language, "uncliche.fluff"))
    bare = re.sub(rf"(?i)(?<!\w)(?:{fluff})(?!\w)[ ,]*", "", page.text).strip(" ,")
    text, _ = swap(Page(bare or page.text, page.language, page.dice), _from(page, "worn"))
    return f"{sentence(text)} {page.phrase('uncliche.detail')}"


def slang(page: Page) -> str:
    """The text as told in the schoolyard: speech of the street as material of art (Bakhtin's heteroglossia, 1934)."""
    known = table(page.language, "slang")
    very = page.phrase("slang.very")
    text, _ = swap(page, lambda word: page.dice.pick(known[word]) if word in known else f"{very} {word}" if _vivid(word, page) else None)
    text = lower_start(text.rstrip(".!"), page.language)
    opened = page.phrase("slang.open").format(text=text)
    return f"{opened if page.language == 'en' else capital(opened)} – {page.phrase('slang.close')}"


def _vivid(word: str, page: Page) -> bool:
    return bool(word in wordset(page.language, "colours") and find_adjective(word, page.language))


def pig_latin(page: Page) -> str:
    """A secret language of children: Pig Latin in English, B language or spoon language in German (playground tradition, 19th century)."""
    if page.language == "en":
        vowel_ending = page.dice.pick(("way", "yay", "hay"))
        return substitute(page.text, lambda word: _pig(word, vowel_ending))
    middle = page.dice.pick(("b", "lew", "b", "nef"))
    return substitute(page.text, lambda word: _doubled(word, middle))


def _pig(word: str, vowel_ending: str) -> str:
    if "-" in word:
        return "-".join(_pig(part, vowel_ending) for part in word.split("-"))
    found = re.fullmatch(r"(?i)((?:qu|[bcdfghj-np-tv-z]qu|y(?=[aeiou])|[b-df-hj-np-tv-xz])*)([a-z][a-z'’]*)", word)
    if not found:
        return word
    onset, rest = found.groups()
    return like((rest.lower() + onset.lower() + "ay") if onset else word.lower() + vowel_ending, word)


def _doubled(word: str, middle: str) -> str:
    """Every vowel sound twice, a syllable slipped in between: "Haus" becomes "Haubaus" or "Haulewaus"."""

    def twice(found: re.Match[str]) -> str:
        return found.group() + middle + found.group().lower()

    turned = re.sub(r"(?i)aa|ee|oo|ie|ei|ai|au|eu|äu|ey|ay|[aeiouäöü]|(?<=[^aeiouäöü])y", twice, word)
    return turned.upper() if len(word) > 1 and word.isupper() else turned
