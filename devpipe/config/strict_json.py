"""What does one JSON file hold? Read strictly: UTF-8, no key twice, limits of size and depth."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devpipe.config.faults import excerpt, json_path

MAX_FILE_BYTES = 256 * 1024
MAX_GRAPH_BYTES = 512 * 1024  # an event of a recording holds 1 MB
MAX_DEPTH = 32


def read_object(
    path: Path, *, limit: int = MAX_FILE_BYTES
) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """A file's JSON object (None where it has none), and its faults as (JSON path, message)."""
    try:
        raw = _parsed(path, limit)
        return raw, list(_doubled(raw, "$"))
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
    if (depth := _depth(text)) > MAX_DEPTH:
        raise ValueError(f"is nested {depth} deep. Allowed: {MAX_DEPTH}")
    raw = json.loads(text, object_pairs_hook=_Pairs)
    if not isinstance(raw, _Pairs):
        raise ValueError(f"must be an object in braces, not {excerpt(raw)}")
    return raw


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which keys it had twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.twice = (
            sorted({name for name in names if names.count(name) > 1})
            if len(self) < len(names)
            else []
        )


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _doubled(value: object, at: str) -> Iterator[tuple[str, str]]:
    """The keys that stand there twice: Python would take the last without a word."""
    if isinstance(value, _Pairs):
        yield from (
            (json_path(at, name), "stands there twice. Delete one.") for name in value.twice
        )
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in children:
        yield from _doubled(child, json_path(at, key))
