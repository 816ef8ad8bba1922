"""What does one JSON file hold? Read strictly: UTF-8, no key twice, limits of size and depth."""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from devpipe.config.faults import excerpt, json_path

Raw = dict[str, Any]
MAX_FILE_BYTES = 256 * 1024
MAX_GRAPH_BYTES = 512 * 1024  # an event of a recording holds 1 MB
MAX_DEPTH = 32


def read_object(
    path: Path, *, limit: int = MAX_FILE_BYTES
) -> tuple[Raw | None, list[tuple[str, str]]]:
    """Read a file's JSON object, and its faults as (JSON path, message).

    The object is None where the file holds none.
    """
    try:
        raw = _parsed(path, limit)
        message = "stands there twice. Delete one."
        return raw, [(json_path("$", *place), message) for place in _twice(raw)]
    except OSError as error:
        message = f"cannot be read: {error.strerror}. Mend its permissions."
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 at byte {error.start}. Save it as UTF-8."
    except json.JSONDecodeError as error:
        message = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}."
    except ValueError as error:
        message = f"{error}."
    return None, [("$", message)]


def _parsed(path: Path, limit: int) -> _Pairs:
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("is a link, folder or device. Put the file itself there")
    if state.st_size > limit:
        raise ValueError(f"has {state.st_size:,} bytes. Allowed: {limit:,}")
    text = path.read_bytes().decode("utf-8-sig")
    depth = _depth(text)
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested {depth} deep. Allowed: {MAX_DEPTH}")
    raw = json.loads(text, object_pairs_hook=_Pairs)
    if not isinstance(raw, _Pairs):
        raise ValueError(f"must be an object in braces, not {excerpt(raw)}")
    return raw


class _Pairs(Raw):
    """A JSON object that remembers which keys it had twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: list[str] = []
        if len(self) < len(pairs):
            names = Counter(name for name, _ in pairs)
            self.twice = sorted(name for name in names if names[name] > 1)


def _depth(text: str) -> int:
    without_strings = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    brackets = re.findall(r"[\[\]{}]", without_strings)
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)


def _twice(value: object, *place: str | int) -> Iterator[tuple[str | int, ...]]:
    """The places of keys that stand there twice.

    Python would take the last without a word.
    """
    if isinstance(value, _Pairs):
        for name in value.twice:
            yield *place, name
        for key, child in value.items():
            yield from _twice(child, *place, key)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _twice(child, *place, index)
