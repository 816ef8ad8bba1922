"""What does one JSON file hold? Read strictly: UTF-8, no key twice, limits of size and depth."""

from __future__ import annotations

import json
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from devpipe.config.faults import excerpt, json_path

Raw = dict[str, Any]
Findings = list[tuple[str, str]]  # JSON paths, and what is wrong there
MAX_FILE_BYTES = 256 * 1024
MAX_GRAPH_BYTES = 512 * 1024  # an event of a recording holds 1 MB
MAX_DEPTH = 32
_TEXT = re.compile(r'("(?:[^"\\]|\\.)*)"')


def read_object(path: Path, *, limit: int = MAX_FILE_BYTES) -> tuple[Raw | None, Findings]:
    """Read a file's JSON object, and its faults as (JSON path, message).

    The object is None where the file holds none.
    """
    try:
        return parse_object(_text(path, limit))
    except OSError as error:
        message = f"cannot be read: {error.strerror}. Mend its permissions."
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 at byte {error.start}. Save it as UTF-8."
    except json.JSONDecodeError as error:
        message = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}."
    except ValueError as error:
        message = f"{error}."
    return None, [("$", message)]


def _text(path: Path, limit: int) -> str:
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("is a link, folder or device. Put the file itself there")
    if state.st_size > limit:
        raise ValueError(f"has {state.st_size:,} bytes. Allowed: {limit:,}")
    return path.read_bytes().decode("utf-8-sig")


def parse_object(text: str) -> tuple[Raw, Findings]:
    """Parse a JSON object, and find the keys that stand there twice.

    Python would take the last without a word. Raises ValueError where the text holds no object.
    """
    depth = _depth(text)
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested {depth} deep. Allowed: {MAX_DEPTH}")
    lost: list[int] = []

    def object_of(pairs: list[tuple[str, Any]]) -> Raw:
        made = dict(pairs)
        lost.append(len(pairs) - len(made))
        return made

    raw = json.loads(text, object_pairs_hook=object_of, parse_int=whole)
    if not isinstance(raw, dict):
        raise ValueError(f"must be an object in braces, not {excerpt(raw)}")
    return raw, _keys_twice(text) if any(lost) else []


def whole(digits: str) -> int | float:
    """A whole number; beyond what a float holds (1.8e308) it is infinite, as 1e999 is."""
    return int(digits) if len(digits) <= 308 else float(digits)


def _keys_twice(text: str) -> Findings:
    """Find the keys that stand there twice: with the number of its line behind each text."""
    numbered = (
        _TEXT.sub(rf'\1\\u0000{number}"', line) for number, line in enumerate(text.split("\n"), 1)
    )
    return list(
        _faults_of_keys(
            json.loads("\n".join(numbered), object_pairs_hook=tuple, parse_int=str), "$"
        )
    )


def _depth(text: str) -> int:
    brackets = re.findall(r"[\[\]{}]", _TEXT.sub("", text))
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)


def _faults_of_keys(value: object, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, tuple):  # an object's keys and values
        lines = defaultdict(list)
        for key, child in value:
            name, _, line = key.rpartition("\0")
            lines[name].append(line)
            yield from _faults_of_keys(child, json_path(at, name))
        for name, found in lines.items():
            if len(found) > 1:
                where = f"in lines {', '.join(found[:-1])} and {found[-1]}"
                yield json_path(at, name), f"stands there twice, {where}. Delete one."
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _faults_of_keys(child, json_path(at, index))
