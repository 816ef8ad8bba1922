"""Word-for-word translation from German into English, with the inflections a glossary can know."""

from __future__ import annotations

import re

from devpipe.procedures.grammar import Found, english_plural, find_adjective, find_noun, fix_articles, known_noun, verb_forms
from devpipe.procedures.words import Page, data, like, tokens

_AFTER_NOUN = {"der": "of the", "einer": "of a", "eines": "of a", "meiner": "of my", "seiner": "of his", "ihrer": "of her"}
_IDIOMS = (
    (r"\b(in|at|on|of) the (?:the|a) ", r"\1 the "),
    (r"(?i)\bat the (morning|evening|background|foreground)\b", r"in the \1"),
    (r"(?i)\bat (an? (?:\w+ )?(?:morning|evening|day))\b", r"on \1"),
    (r"\bin the (winter|summer|spring|autumn)\b", r"in \1"),
    (r"(?i)\bnear (sunset|sunrise|night|noon|day)\b", r"at \1"),
)


def translate_en(page: Page) -> str:
    """The text word by word in English, in the order it stands (the interlinear glosses of medieval scribes); unknown words stay."""
    if page.language == "en":
        return page.text
    pieces = tokens(page.text)
    places = [at for at, token in enumerate(pieces) if token.kind == "word"]
    line, texts, fresh = [pieces[at].text for at in places], [token.text for token in pieces], True
    for rank, at in enumerate(places):
        between = texts[places[rank - 1] + 1 : at] if rank else []
        fresh = not rank or any(mark in ".!?" for mark in between)
        texts[at] = like(_english(line, rank, close=between == [" "]), line[rank] if fresh else "x")
    text = "".join(texts)
    for idiom, better in _IDIOMS:
        text = re.sub(idiom, better, text)
    return fix_articles(text)


def _english(line: list[str], at: int, *, close: bool) -> str:
    """One German word in English; `close` says that the word before stands right beside it."""
    word, low = line[at], line[at].lower()
    function: dict[str, str] = data("glossary")["function"]
    if close and low in _AFTER_NOUN and known_noun(line, at - 1, "de"):
        return _AFTER_NOUN[low]
    if low in function:
        return function[low]
    if found := known_noun(line, at, "de"):
        return _english_noun(found)
    if low in verb_forms("de"):
        return verb_forms("de")[low]
    adjectives: dict[str, str] = data("glossary")["adjectives"]
    adjective = find_adjective(word, "de")
    if adjective and adjective[0] in adjectives:
        return adjectives[adjective[0]]
    return "-".join(_english([part], 0, close=False) for part in word.split("-")) if "-" in word else word


def _english_noun(found: Found) -> str:
    plural = found.plural and found.noun.gender != "p"
    name = english_plural(found.noun.en) if plural else found.noun.en
    return f"{_front(found.head)} {name}" if found.head else name


def _front(head: str) -> str:
    """The front of a German compound in English: "Garten" of "Gartenhaus", without the sound that joins them."""
    adjectives: dict[str, str] = data("glossary")["adjectives"]
    for joint in ("", "s", "n", "en", "es", "e", "er"):
        stem = head.removesuffix(joint)
        if head.endswith(joint) and len(stem) > 2:
            if known := find_noun(stem, "de"):
                return f"{_front(known.head)} {known.noun.en}" if known.head else known.noun.en
            if stem.lower() in adjectives:
                return adjectives[stem.lower()]
    return head.lower()
