"""Read what a server sends: lines, events and JSON, each with its limits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from devpipe.errors import CutOff, Unavailable

MAX_LINE = 8 * 2**20  # bytes
CHECK_ADDRESS = "Check its address: is it this server, and nothing in between?"
BYTE_ORDER_MARK = "\ufeff"
TRY_AGAIN = "Try again, or choose another model."
_HALF_CHARACTER = re.compile(r"(?i)\\ud[89a-f]")  # half an emoji, spelled with an escape


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream: what it says, its kind, and its place in the stream."""

    data: str
    event: str = "message"
    id: str = ""


class _Lines:
    """Complete lines out of pieces of any size, none longer than MAX_LINE bytes."""

    ends = re.compile(rb"\n")

    def __init__(self, name: str) -> None:
        self.name = name
        self._rest = bytearray()

    def lines(self, piece: bytes) -> Iterator[bytes]:
        """The lines that this piece completes, without their ends."""
        first, *more = self.ends.split(piece)
        self._rest += first
        for following in more:
            self.check(len(self._rest))
            line = bytes(self._rest)
            self._rest = bytearray(following)
            yield line
        self.check(len(self._rest))

    def check(self, size: int) -> None:
        """Raises CutOff for more bytes than a line may have."""
        if size > MAX_LINE:
            raise CutOff(
                f"{self.name} sent a line of more than {MAX_LINE // 2**20} MiB.", hint=TRY_AGAIN
            )


class NdjsonReader(_Lines):
    """JSON objects, one per line.

    Only b"\\n" ends a line: U+0085 and U+2028 may stand inside a text.
    """

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The objects that this piece completes."""
        for line in self.lines(piece):
            if line.strip():
                yield json_object(line, name=self.name)

    def end(self) -> Iterator[dict[str, Any]]:
        """The last object, where no line end follows it. Raises CutOff for half of one."""
        try:
            yield from self.feed(b"\n")
        except Unavailable as error:
            raise CutOff(
                f"{self.name} ended its answer in the middle of a line.", hint=TRY_AGAIN
            ) from error


class SseReader(_Lines):
    """Server-sent events as the HTML standard reads them, but for those without data.

    An event that no blank line ends is never given: it may be half of one.
    """

    ends = re.compile(rb"\r\n|\r|\n")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._at_start = True
        self._after_cr = False  # a line feed that comes next ends no other line
        self._data: list[str] = []
        self._event = ""
        self._id = ""
        self._size = 0  # of the event's data so far

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """The events that this piece completes."""
        if self._after_cr and piece.startswith(b"\n"):
            self._after_cr = False
            piece = piece[1:]
        if piece:
            self._after_cr = piece.endswith(b"\r")
        for line in self.lines(piece):
            text = line.decode("utf-8", "replace")
            if self._at_start:
                text = text.removeprefix(BYTE_ORDER_MARK)
                self._at_start = False
            if text:
                self._field(text)
            else:
                yield from self._end_event()

    def _end_event(self) -> Iterator[ServerSentEvent]:
        data = "\n".join(self._data)
        event = self._event or "message"
        self._data = []
        self._event = ""
        self._size = 0
        if data.strip():
            yield ServerSentEvent(data, event, self._id)

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")  # a comment has the empty name
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value) + 1
            self.check(self._size)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value


def fields(value: object) -> Mapping[str, Any]:
    """A JSON object that a server sent; empty where it sent something else."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    """A JSON array that a server sent; empty where it sent something else."""
    return value if isinstance(value, list) else []


def whole(value: object) -> int | None:
    """A count that a server told, or None where it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if value >= 0 else None


def json_object(text: str | bytes, *, name: str) -> dict[str, Any]:
    """The JSON object that `text` spells, safe to be written as UTF-8.

    Raises Unavailable where it spells none.
    """
    found = parsed_json(text)
    if not isinstance(found, dict):
        raise Unavailable(
            f"{name} sent something that is not a JSON object.", hint=CHECK_ADDRESS, sent=True
        )
    return found


def parsed_json(text: str | bytes) -> Any:
    """The JSON value that `text` spells, or None where it spells none, or a key twice.

    NaN, infinite numbers and whole ones beyond 64 bits become None: they are no count and no price.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace").removeprefix(BYTE_ORDER_MARK)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda _: None,
            parse_float=number,
            parse_int=_int64,
        )
        return _without_half_characters(value) if _HALF_CHARACTER.search(text) else value
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises ValueError for a key twice: which of the two is meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _without_half_characters(value: Any) -> Any:
    """The JSON value without surrogates that stand alone: no file can hold one."""
    spelled = json.dumps(value, ensure_ascii=False)
    return json.loads(spelled.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _int64(digits: str) -> int | None:
    value = int(digits)
    return value if abs(value) < 2**63 else None


def number(value: object) -> float | None:
    """A finite number that a server told, also in digits; None where it told none."""
    if not isinstance(value, str | int | float):
        return None
    try:
        told = float(value)
    except (ValueError, OverflowError):
        return None
    return told if math.isfinite(told) else None
