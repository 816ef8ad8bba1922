"""Word-for-word translation from German into English, with the inflections a glossary can know."""

from __future__ import annotations

import re
from functools import cache

from devpipe.procedures.grammar import Found, english_plural, find_adjective, find_noun, fix_articles, known_noun
from devpipe.procedures.words import Page, capital, data, like, substitute


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
