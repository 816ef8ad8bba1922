"""What the widgets say, in English and German: the table is words.json."""

from __future__ import annotations

import json
import locale
from collections.abc import Callable, Mapping
from pathlib import Path

WORDS: Mapping[str, list[str]] = json.loads(
    (Path(__file__).parent / "words.json").read_text("utf-8")
)


def words(language: str = "") -> Callable[..., str]:
    """A function from a key (and what goes into its gaps) to what is said; "" means the language of
    this machine.
    """
    language = language or (locale.getlocale()[0] or "en")[:2]
    column = 1 if language == "de" else 0

    def say(key: str, *gaps: object) -> str:
        return WORDS[key][column].format(*gaps)

    return say
