"""Read what a server sends: lines, events and JSON, each with its limits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from devpipe.errors import CutOff, Unavailable

MAX_LINE = 8 * 2**20
CHECK_ADDRESS = "Check its address: is it this server, and nothing in between?"
TRY_AGAIN = "Try again, or choose another model."


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    data: str
    event: str = "message"
    id: str = ""


class _Lines:
    """Complete lines out of pieces of any size, none longer than MAX_LINE bytes."""

    ends = re.compile(rb"\n")

    def __init__(self, name: str) -> None:
        self.name, self._rest = name, bytearray()

    def lines(self, piece: bytes) -> Iterator[bytes]:
        first, *more = self.ends.split(piece)
        self._rest += first
        for following in more:
            self.check(len(self._rest))
            line, self._rest = bytes(self._rest), bytearray(following)
            yield line
        self.check(len(self._rest))

    def check(self, size: int) -> None:
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
        yield from (json_object(line, name=self.name) for line in self.lines(piece) if line.strip())

    def end(self) -> Iterator[dict[str, Any]]:
        """The last object, where no line end follows it. Raises CutOff for half of one."""
        try:
            yield from self.feed(b"\n")
        except Unavailable as error:
            raise CutOff(
                f"{self.name} ended its answer in the middle of a line.", hint=TRY_AGAIN
            ) from error


class SseReader(_Lines):
    """Server-sent events as the HTML standard reads them, except that those without data are left
    out.

    An event that no blank line ends is never given: it may be half of one.
    """

    ends = re.compile(rb"\r\n|\r|\n")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._mark, self._after_cr = "\ufeff", False
        self._data: list[str] = []
        self._event = self._id = ""
        self._size = 0  # of the event's data so far

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """The events that this piece completes."""
        if self._after_cr and piece[:1] == b"\n":
            piece, self._after_cr = piece[1:], False
        self._after_cr = piece.endswith(b"\r") if piece else self._after_cr
        for line in self.lines(piece):
            text, self._mark = line.decode("utf-8", "replace").removeprefix(self._mark), ""
            if text:
                self._field(text)
                continue
            data, event, self._data, self._event, self._size = (
                "\n".join(self._data),
                self._event,
                [],
                "",
                0,
            )
            if data.strip():
                yield ServerSentEvent(data, event or "message", self._id)

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
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


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
    """The value, or None where there is none."""
    text = (
        text.decode("utf-8", "replace").removeprefix("\ufeff") if isinstance(text, bytes) else text
    )
    try:
        value = json.loads(
            text, parse_constant=lambda _: None, parse_float=number, parse_int=_whole
        )  # NaN is not JSON, and no price
        if re.search(r"(?i)\\ud[89a-f]", text):  # half an emoji cannot be written to any file
            value = json.loads(
                json.dumps(value, ensure_ascii=False)
                .encode("utf-16", "surrogatepass")
                .decode("utf-16", "replace")
            )
    except (ValueError, RecursionError):
        return None
    return value


def _whole(text: str) -> int | None:
    """A whole number that fits into 64 bits: a longer one is no count, no price and no column's
    value.
    """
    number = int(text)
    return number if abs(number) < 2**63 else None


def number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
