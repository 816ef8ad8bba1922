"""Word-for-word translation between German and English, with the inflections a glossary can know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from devpipe.procedures.grammar import Found, all_adjectives, english_plural, find_adjective, find_noun, fix_articles, noun_phrase
from devpipe.procedures.swapping import known_noun
from devpipe.procedures.words import Page, capital, data, like, substitute, tokens, wordset


def translate_en(page: Page) -> str:
    """The text word by word in English, in the order it stands (the interlinear glosses of medieval scribes); unknown words stay."""
    if page.language == "en":
        return page.text
    text = substitute(page.text, _english)
    text = re.sub(r"(?i)\b(of the|in the|at the|on the) (?:the|a) ", r"\1 ", text)
    return fix_articles(capital(text) if page.text[:1].isupper() else text)


def _english(word: str) -> str:
    low = word.casefold() if "ß" not in word else word.lower()
    function: dict[str, str] = data("glossary")["function"]
    if low in function:
        return like(function[low], word if len(word) > 1 else "")
    found = known_noun(word, "de")
    if found and (word[:1].isupper() or not _verbs().get(low)):
        return _english_noun(found)
    if low in _verbs():
        return like(_verbs()[low], word)
    adjective = find_adjective(word, "de")
    if adjective:
        return like(data("glossary")["adjectives"].get(adjective[0], word), word)
    if "-" in word:
        return "-".join(_english(part) for part in word.split("-"))
    return _english_noun(found) if found else word


def _english_noun(found: Found) -> str:
    plural = found.plural and found.noun.gender != "p"
    name = english_plural(found.noun.en) if plural else found.noun.en
    return f"{_front(found.head)} {name}" if found.head else name


def _front(head: str) -> str:
    """The front of a German compound in English: "Garten" of "Gartenhaus", without the sound that joins them."""
    for joint in ("", "s", "n", "en", "es", "e", "er"):
        if head.endswith(joint) and len(head) - len(joint) > 2:
            known = find_noun(head.removesuffix(joint), "de")
            if known:
                return f"{_front(known.head)} {known.noun.en}" if known.head else known.noun.en
            adjective = find_adjective(head.removesuffix(joint).lower(), "de")
            if adjective:
                return str(data("glossary")["adjectives"].get(adjective[0], head.lower()))
    return head.lower()


@cache
def _verbs() -> dict[str, str]:
    """German verb forms with their English ones: "läuft" runs, "laufen" run, "laufend" running."""
    forms: dict[str, str] = {}
    for line in data("glossary")["verbs"]:
        many, one, english = line.split()
        forms |= {many: english, one: third_person(english)}
        for ending in ("", "e", "er", "es", "en", "em"):
            forms[f"{many}d{ending}"] = ing(english)
    return forms


def third_person(verb: str) -> str:
    """The form that goes with he, she, it."""
    return {"have": "has"}.get(verb) or english_plural(verb)


def ing(verb: str) -> str:
    """The present participle of an English verb."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnpt]", verb) else "") + "ing"


def translate_de(page: Page) -> str:
    """The text word by word in German, articles and adjectives agreeing with the nouns we know; unknown words stay."""
    if page.language == "de":
        return page.text
    pieces = tokens(page.text)
    places = [at for at, token in enumerate(pieces) if token.kind == "word"]
    out = [pieces[at].text for at in places]
    start = 0
    texts = [token.text for token in pieces]
    for at, word in enumerate(out):
        found = known_noun(word, "en")
        if found:
            start = max(start, _phrase_start(out, at))
            _say(out, start, at, found)
            start = at + 1
    for place, word in zip(places, out, strict=True):
        texts[place] = word if word != pieces[place].text else _german(word)
    text = re.sub(r" {2,}", " ", "".join(texts)).strip()
    return capital(text) if page.text[:1].isupper() else text


def _phrase_start(out: Sequence[str], at: int) -> int:
    start = at
    while start and find_adjective(out[start - 1], "en") and not find_noun(out[start - 1], "en"):
        start -= 1
    return start - 1 if start and out[start - 1].casefold() in wordset("en", "articles") else start


def _say(out: list[str], start: int, at: int, found: Found) -> None:
    """An English article, its adjectives and their noun in German, in the case that the preposition before asks for."""
    led = out[start].casefold() if start < at and out[start].casefold() in wordset("en", "articles") else ""
    preposition = _german(out[start - 1]) if start else ""
    adjectives = [_german(word) for word in out[start + bool(led) : at]]
    said = noun_phrase(led, adjectives, found, preposition)
    out[start : at + 1] = [capital(said[0]) if out[start][:1].isupper() else said[0], *said[1:]]


@cache
def _to_german() -> dict[str, str]:
    """English words with German ones, the first of several: function words, adjectives, verbs."""
    pairs: dict[str, str] = {}
    glossary = data("glossary")
    for line in glossary["verbs"]:
        many, one, english = line.split()
        for form, german in ((third_person(english), one), (ing(english), f"{many}d"), (english, many)):
            pairs.setdefault(form, german)
    for german in all_adjectives("de"):
        pairs.setdefault(glossary["adjectives"].get(german, ""), german)
    for german, english in glossary["function"].items():
        pairs.setdefault(english, german)
    return pairs | glossary["back"]


def _german(word: str) -> str:
    return like(_to_german().get(word.casefold(), word), word)
