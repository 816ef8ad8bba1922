"""What all procedures share: the words of a text, word lists read when first needed, dice that fall
the same everywhere.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Literal, TypeVar

from devpipe.text.clean import visible
from devpipe.values import derived_seed

Language = Literal["de", "en"]
Item = TypeVar("Item")

_MARKS = r"\s.,;:!?…\"“”„‚‘’'«»‹›()\[\]{}<>/\\|—–\-_*#~+=&@،؛؟。、！？"
_TOKEN = re.compile(
    # weights, tags: never cut
    r"(?P<whole>\((?:[^()]|\([^()]*+\))*+\)|\[[^\[\]]*+\]|\{[^{}]*+\}|<[^<>]*+>)"
    rf"|(?P<word>[^{_MARKS}]++(?:(?:['’\-_]|(?<=\d)[.,:/](?=\d))[^{_MARKS}]++)*+)|(?P<space>\s++)|"
    rf"(?P<mark>.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text: a word, a bracketed expression (`whole`), white space or a punctuation
    mark.
    """

    text: str
    kind: str

    @property
    def counts(self) -> bool:
        """True for what a reader would count as a word."""
        return self.kind in ("word", "whole")


def tokens(text: str) -> list[Token]:
    """The text in pieces; joined again they are the text."""
    return [Token(found.group(), found.lastgroup or "mark") for found in _TOKEN.finditer(text)]


def words(text: str) -> list[str]:
    """The words of a text, without punctuation; a bracketed expression is one word."""
    return [token.text for token in tokens(text) if token.counts]


def substitute(text: str, change: Callable[[list[str]], Iterable[str]]) -> str:
    """The text with its words changed, all in one line of them, and everything else where
    it was.
    """
    pieces = tokens(text)
    changed = iter(change([token.text for token in pieces if token.kind == "word"]))
    return "".join(next(changed) if token.kind == "word" else token.text for token in pieces)


def clean(text: str) -> str:
    """The text in composed characters, control characters and tabs turned into spaces."""
    return visible(unicodedata.normalize("NFC", text)).replace("\t", " ").strip()


def tidy(text: str) -> str:
    """The text with the doubled spaces and stops of joined phrases removed."""
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +(?=[,.;:!?…](?:\s|$))", "", text)
    text = re.sub(r"([.!?…])[.,;:](?=\s|$)", r"\1", text)
    return re.sub(r"[,;:]{1,3}([.,;:!?])(?=\s|$)", r"\1", text).strip()


def capital(text: str) -> str:
    """The text with its first letter large, as at the start of a sentence."""
    return text[:1].upper() + text[1:] if text[:1] not in "ßŉ" else text


def like(word: str, model: str) -> str:
    """The word in the case of another: "cat", "Cat" or "CAT"."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return capital(word) if model[:1].isupper() else word


class Dice:
    """Chance that falls the same for the same seed everywhere: `Random.random` is the one call
    Python promises to keep.
    """

    def __init__(self, seed: int, *names: object) -> None:
        self._random = Random(derived_seed(seed, *names))

    def below(self, limit: int) -> int:
        return int(self._random.random() * limit)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        return [
            item
            for _, _, item in sorted(
                (self._random.random(), place, item) for place, item in enumerate(items)
            )
        ]


@cache
def data(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        files(__package__).joinpath("data", f"{name}.json").read_text("utf-8")
    )
    return loaded


def phrases(language: str, key: str) -> list[str]:
    """A list of phrases or words of a language."""
    found: list[str] = data(language)["phrases"][key]
    return found


def table(language: str, key: str) -> Mapping[str, Any]:
    """A word list of a language whose words lead to others."""
    found: Mapping[str, Any] = data(language)["tables"][key]
    return found


@cache
def wordset(language: str, *keys: str) -> frozenset[str]:
    """Lists of words to look into, as one."""
    return frozenset(word for key in keys for word in phrases(language, key))


@dataclass(frozen=True, slots=True)
class Page:
    """A text on the table of a procedure: cleaned, with at least one word in it, and the dice
    beside it.
    """

    text: str
    language: Language
    dice: Dice
    output_language: str = ""

    def phrase(self, key: str, **slots: object) -> str:
        """One of the phrases of this language, its slots filled."""
        chosen = self.dice.pick(phrases(self.language, key))
        return chosen.format(**slots) if slots else chosen

    def some(self, key: str, count: int) -> list[str]:
        """Up to so many different ones, in the order drawn."""
        return self.dice.shuffled(phrases(self.language, key))[:count]


def ends(text: str) -> bool:
    return text.rstrip("\"'”“»)")[-1:] in set(".!?…。！？")


def sentence(text: str) -> str:
    """The text as a sentence: large first letter, an ending mark."""
    text = text.strip().rstrip(",;:–—-").strip()
    return capital(text if ends(text) else f"{text}.") if text else ""
