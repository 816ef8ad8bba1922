"""What do we say to people? The sentences of pages, stages and refusals, in their languages.

They lie in messages.json, a key for each: `"panel.idle": {"en": "Ready.", "de": "Bereit."}`.
English is there for every key; where another language lacks a sentence, that one is said in
English. A sentence with gaps carries an example of what goes into them. Error messages are English
and stand where they are raised; titles and instructions of pipelines stand in their files.
"""

from __future__ import annotations

import json
import locale
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FALLBACK = "en"
EXAMPLE = "example"  # what stands beside the languages of a sentence with gaps
MESSAGES = Path(__file__).with_name("messages.json")


@dataclass(frozen=True, slots=True)
class Messages:
    """The sentences of one file: by their key, in each language."""

    sentences: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, file: Path) -> Messages:
        """The sentences in a file."""
        entries: dict[str, dict[str, str]] = json.loads(file.read_text("utf-8"))
        for entry in entries.values():
            entry.pop(EXAMPLE, None)
        return cls(entries)

    def message(self, key: str, language: str, **values: object) -> str:
        """The sentence of that key, its gaps filled. Raises KeyError for an unknown key."""
        sentence = self.sentences[key]
        return sentence.get(primary(language), sentence[FALLBACK]).format(**values)


def message(key: str, language: str, **values: object) -> str:
    """What people read, in that language, else in English; the values go into the gaps.

    >>> message("panel.progress", "de", step=4, steps=20)
    '4 von 20'

    Raises KeyError for a key, or a gap, of which nobody knows.
    """
    return _shipped().message(key, language, **values)


@lru_cache(maxsize=1)
def _shipped() -> Messages:
    return Messages.read(MESSAGES)


def primary(language: str) -> str:
    """The code of a language without its country and encoding.

    >>> primary("de_AT.UTF-8"), primary("pt-BR")
    ('de', 'pt')
    """
    return re.split(r"[-_.@]", language)[0].lower()


def machine_language() -> str:
    """The language that DEVPIPE_LANGUAGE names, else that of the environment or the locale."""
    environ = os.environ.get
    variables = ("DEVPIPE_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    named = next(filter(None, map(environ, variables)), "")
    return primary(named or locale.getlocale()[0] or FALLBACK)
