"""Which names beside our files are nothing of ours? Left there by file managers and the like."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from pathlib import Path


def is_debris(name: str) -> bool:
    """Whether a file or folder of this name is left by another program, as debris.toml says.

    >>> is_debris(".DS_Store"), is_debris("dada.json")
    (True, False)
    """
    return _debris().fullmatch(name) is not None


@lru_cache(maxsize=1)
def _debris() -> re.Pattern[str]:
    with Path(__file__).with_suffix(".toml").open("rb") as table:
        return re.compile("|".join(tomllib.load(table)), re.DOTALL)
