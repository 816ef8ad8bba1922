"""Rows as a table for people: a line of headers, as wide as the terminal, nothing left out."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

GAP = "  "
NARROWEST = 24  # columns that the last column needs; where there are fewer, each row is a block


def terminal_width() -> int | None:
    """How many columns fit; None where nobody looks at a terminal: a file has long lines."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None


def table(rows: Sequence[Mapping[str, str]], width: int | None = None) -> list[str]:
    """The lines of a table; its last column is wrapped where the terminal is too narrow.

    >>> table([{"name": "dada", "about": "Cuts the text into scraps."}], 36)
    ['NAME  ABOUT', 'dada  Cuts the text into scraps.']
    """
    if not rows:
        return []
    headers = {name: name.upper().replace("_", " ") for name in rows[0]}
    cells = [list(headers.values()), *([row[name] for name in headers] for row in rows)]
    widths = [max(map(columns_of, column)) for column in zip(*cells, strict=True)]
    left = _left_for_last(widths, width)
    if left < min(NARROWEST, widths[-1]):
        blocks = (_block(row, headers, width or left) for row in rows)
        return list(chain.from_iterable(blocks))
    return list(chain.from_iterable(_lines(row, widths, left) for row in cells))


def _left_for_last(widths: Sequence[int], width: int | None) -> int:
    """How many columns the last column may take."""
    if width is None:
        return widths[-1]
    return min(widths[-1], width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1))


def _lines(row: Sequence[str], widths: Sequence[int], last: int) -> Iterator[str]:
    """A row; what its last cell has more than fits goes below its beginning."""
    padded = [
        text + " " * (size - columns_of(text)) for text, size in zip(row, widths, strict=True)
    ]
    head = "".join(text + GAP for text in padded[:-1])
    for piece in wrapped(row[-1], last) or [""]:
        yield (head + piece).rstrip()
        head = " " * columns_of(head)


def _block(row: Mapping[str, str], headers: Mapping[str, str], width: int) -> Iterator[str]:
    """A row on a very narrow terminal: a line or more for each of its cells."""
    for place, (name, text) in enumerate(row.items()):
        indent = GAP if place else ""
        for piece in wrapped(f"{headers[name]} {text}", max(1, width - len(indent))):
            yield indent + piece


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of so many columns, broken between words, where that is possible.

    >>> wrapped("three small birds", 11)
    ['three small', 'birds']
    """
    lines: list[str] = []
    for word in text.split():
        if lines and columns_of(lines[-1]) + 1 + columns_of(word) <= width:
            lines[-1] += f" {word}"
            continue
        lines += _pieces(word, width)
    return lines


def _pieces(word: str, width: int) -> list[str]:
    """A word, cut where it is wider than a line: Chinese has no spaces."""
    pieces = [""]
    for character in word:
        if pieces[-1] and columns_of(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: two for each Chinese sign, none for accents.

    >>> columns_of("猫 cat")
    6
    """
    return sum(_columns_of_character(character) for character in text)


def _columns_of_character(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
