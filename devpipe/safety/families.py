"""Which answers of a judge count? To the letter, and each family of judges in its own words.

The families, their forms and where these were published stand in judges.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from devpipe.config.chains import Chain
from devpipe.errors import BackendError, CutOff
from devpipe.safety.policy import UNSAFE
from devpipe.values import TextResult

CATEGORIES = tuple(UNSAFE)
OURS = "ours"  # the family of models that are told our policy


@dataclass(frozen=True, slots=True)
class Family:
    """Judges that are asked alike and answer in one form."""

    name: str
    names: str  # regular expression, of backend/model in small letters; empty: of none
    allows: str  # regular expression of the whole allowing answer
    blocks: str  # and of the whole answer that blocks; its group `hazards`: what it names
    hides: Mapping[str, str]  # how its allowing words are spelled in what it reads
    hazards: Mapping[str, str]  # our category of each hazard that it names by a name of its own
    examples: Mapping[str, Any]
    source: str = ""

    @property
    def has_own_policy(self) -> bool:
        """Whether it brings its own policy, and is shown the text alone."""
        return self.name != OURS

    def without_its_word(self, text: str) -> str:
        """The text, so spelled that no repetition of it is the allowing answer."""
        for word, other in self.hides.items():
            text = text.replace(word, other)
        return text

    def read(self, result: TextResult) -> tuple[bool, tuple[str, ...]]:
        """(allowed, categories, the gravest first).

        Raises CutOff or BackendError for all but the exact answers of this family: nothing is
        stripped, decoded or chosen before.
        """
        if result.refused:
            raise BackendError(f"The judge refused: {result.refused[:80]!r}.")
        if result.finish_reason != "stop":
            raise CutOff(
                f"The judge's answer ended early ({result.finish_reason}).", partial=result.text
            )
        answer = result.text
        if re.fullmatch(self.allows, answer):
            return True, ()
        blocking = re.fullmatch(self.blocks, answer)
        if blocking is None:
            raise BackendError(f"The judge answered in none of its forms but {answer[:80]!r}.")
        return False, self._categories(blocking.groupdict().get("hazards") or "")

    def _categories(self, named: str) -> tuple[str, ...]:
        """Our categories of the hazards that an answer names, the gravest first."""
        own = {name: name for name in CATEGORIES} | dict(self.hazards)
        found = {own.get(hazard, "other") for hazard in re.split(", ?", named)}
        return tuple(name for name in CATEGORIES if name in found)


@lru_cache(maxsize=1)
def shipped_families() -> tuple[Family, ...]:
    """The families of judges.toml, ours first."""
    tables = tomllib.loads(Path(__file__).with_name("judges.toml").read_text("utf-8"))
    return tuple(
        Family(name, **{"names": "", "hazards": {}} | table) for name, table in tables.items()
    )


def family_of(models: str) -> Family:
    """The family of a judge as configured: of a chain, that of all its models, else ours.

    A model of another family than its chain gives no exact answer, which blocks.
    """
    ours, *others = shipped_families()
    spelled = [str(candidate).lower() for candidate in Chain.read(models).candidates]
    for family in others:
        if spelled and all(re.search(family.names, model) for model in spelled):
            return family
    return ours
