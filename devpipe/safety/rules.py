"""Word rules: whole words and phrases after Unicode normalisation, from the lists in `terms/`.

A rule can only block. It cannot tell that a text is harmless: that takes a judge.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from devpipe.errors import UsageError
from devpipe.values import LEVELS, Level, canonical_sha256

TERMS = Path(__file__).parent / "terms"
LANGUAGES = ("en", "de")
_WORD = re.compile(r"[^\W\d_]+")


class Category(BaseModel):
    """Terms that block at the level `from` and at all stricter ones, and the sentence a child reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    loosest: Level = Field(alias="from")
    reason: str = Field(min_length=1)
    terms: tuple[str, ...] = Field(min_length=1)


class TermList(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    language: str
    categories: dict[str, Category] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Hit:
    category: str
    term: str
    language: str


def normalise(text: str) -> str:
    """The form in which words are compared: NFKD, case folded, without marks and format characters, words single-spaced."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    visible = "".join(c for c in folded if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    return " ".join(_WORD.findall(visible))


@dataclass(frozen=True)
class Rules:
    """The term lists of all languages, ready to match. `policy` names their exact content."""

    lists: dict[str, TermList]
    phrases: tuple[tuple[str, Hit, Level], ...]  # normalised, between spaces
    policy: str

    @classmethod
    def load(cls, folder: Path = TERMS) -> Rules:
        """Raises UsageError where a list is missing or broken: without lists nothing may start."""
        try:
            raw = {language: json.loads((folder / f"{language}.json").read_text("utf-8")) for language in LANGUAGES}
            lists = {language: TermList.model_validate(value) for language, value in raw.items()}
        except (OSError, ValueError) as error:
            raise UsageError(
                f"A safety term list cannot be read: {str(error).splitlines()[0]}.",
                hint="Install devpipe again; nothing runs without its lists.",
            ) from error
        phrases = tuple(
            (f" {normalise(term)} ", Hit(name, term, language), category.loosest)
            for language, terms in lists.items()
            for name, category in terms.categories.items()
            for term in category.terms
        )
        return cls(lists, phrases, f"rules-{canonical_sha256(raw)[:12]}")

    @cached_property
    def _by_first_word(self) -> dict[str, list[tuple[str, Hit, Level]]]:
        found: dict[str, list[tuple[str, Hit, Level]]] = {}
        for phrase in self.phrases:
            found.setdefault(phrase[0].split()[0], []).append(phrase)
        return found

    def hits(self, text: str, level: Level) -> list[Hit]:
        """Every term of every language that blocks this text at this level."""
        padded = f" {normalise(text)} "
        strictness = LEVELS.index(level)
        candidates = [phrase for word in dict.fromkeys(padded.split()) for phrase in self._by_first_word.get(word, ())]
        return [hit for phrase, hit, loosest in candidates if strictness <= LEVELS.index(loosest) and phrase in padded]

    def reason(self, category: str, language: str) -> str:
        """The sentence for the person in front of the screen, in their language (English where we have no other)."""
        return self.lists[language if language in self.lists else "en"].categories[category].reason


@lru_cache(maxsize=1)
def shipped_rules() -> Rules:
    return Rules.load()
