"""What kind of file is this, and what is it made of? Told from its bytes, nothing decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_STILL_BRANDS = (
    b"avif",
    b"avis",
    b"heic",
    b"heix",
    b"hevc",
    b"mif1",
    b"msf1",
)  # pictures in an MP4 box


def sniff(data: bytes) -> str:
    """The media type that the bytes themselves show, whatever a name or a header says of them."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "application/octet-stream")
    if data[4:8] == b"ftyp" and data[8:12] not in _STILL_BRANDS:
        return "video/mp4"
    if data[:4] == b"\x1aE\xdf\xa3" and b"webm" in data[:64]:
        return "video/webm"
    if _is_mpeg_audio(data):
        return "audio/mpeg"
    return "application/octet-stream"


def _is_mpeg_audio(data: bytes) -> bool:
    """Whether an MPEG audio frame begins here; AAC has the same sync word but layer 0."""
    return (
        len(data) >= 4
        and data[0] == 0xFF
        and data[1] & 0xE0 == 0xE0
        and data[1] & 0x06 != 0
        and data[2] >> 4 != 15
    )


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk of a RIFF file (WEBP, WAV) as name, start and length of its content, never past
    the end of the data.
    """
    at = 12
    while at + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], at + 8, min(size, len(data) - at - 8)
        at += 8 + size + (size & 1)


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the header of a PNG, JPEG or WEBP says them, nothing decoded; (0, 0)
    where it says none.
    """
    width = height = 0
    try:
        match sniff(data):
            case "image/png":
                width, height = struct.unpack_from(">II", data, 16)
            case "image/jpeg":
                width, height = _jpeg_size(data)
            case "image/webp":
                width, height = _webp_size(data)
    except (struct.error, IndexError):  # cut off in its header
        pass
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        if data[at] != 0xFF:
            return 0, 0
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (
            0xC4,
            0xC8,
            0xCC,
        ):  # a start of frame, not a table
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]


def _webp_size(data: bytes) -> tuple[int, int]:
    kind, at = data[12:16], 20
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at + i : at + i + 3], "little") + 1 for i in (4, 7))
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, at + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def seconds_of(data: bytes) -> float | None:
    """How long a WAV or an animated WEBP, PNG or GIF plays, in seconds; None for everything
    else.
    """
    kind = sniff(data)
    if kind == "image/gif" or (kind == "image/png" and b"acTL" in data[: data.find(b"IDAT")]):
        return _playing_s(data)
    if kind == "image/webp":
        frames = [
            int.from_bytes(data[at + 12 : at + 15], "little")
            for name, at, size in riff_chunks(data)
            if name == b"ANMF"
        ]
        return sum(frames) / 1000 if frames else None
    if kind != "audio/wav":
        return None
    chunks = {name: (at, size) for name, at, size in riff_chunks(data)}
    if b"fmt " not in chunks or b"data" not in chunks or chunks[b"fmt "][1] < 16:
        return None
    bytes_per_second = int(struct.unpack_from("<I", data, chunks[b"fmt "][0] + 8)[0])
    return chunks[b"data"][1] / bytes_per_second if bytes_per_second else None


def _playing_s(data: bytes) -> float | None:
    """The sum of the pauses that an animated PNG or GIF names; nothing is decoded."""
    if data.startswith(b"GIF"):
        pauses = [
            int.from_bytes(data[start + 4 : start + 6], "little") / 100
            for start, _ in gif_blocks(data)
            if data[start : start + 2] == b"!\xf9"
        ]
    else:
        frames = [match.end() for match in re.finditer(b"\0\0\0\x1afcTL", data)]
        pauses = [
            _of(*struct.unpack(">HH", data[at + 20 : at + 24]))
            for at in frames
            if at + 24 <= len(data)
        ]
    return round(sum(pauses), 3) if len(pauses) > 1 else None


def _of(parts: int, whole: int) -> float:
    return parts / (whole or 100)


def gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole block of a GIF behind its header: extensions (0x21) and pictures
    (0x2C).
    """
    at = gif_head(data)
    while at + 10 < len(data) and data[at] in (0x21, 0x2C):
        start, at = at, at + 2 if data[at] == 0x21 else at + 11 + _colours(data[at + 9])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if at > len(data):
            return
        yield start, at


def gif_head(data: bytes) -> int:
    """How many bytes come before the first block."""
    return 13 + (_colours(data[10]) if len(data) > 12 else 0)


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _pieces(data: bytes, at: int, length: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Start and end of each whole piece from `at` on; `length` says how long the one there is, 0
    where none can be.
    """
    while (size := length(at)) and at + size <= len(data):
        yield at, at + size
        at += size


def png_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole chunk."""
    return _pieces(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))


def riff(kind: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)
        for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + kind + body


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Those before the picture itself."""

    def length(at: int) -> int:
        begins = at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xDA, 0xD9)
        return 2 + int.from_bytes(data[at + 2 : at + 4], "big") if begins else 0

    return _pieces(data, 2, length)


def mp4_boxes(data: bytes) -> Iterator[tuple[int, int]]:
    """Those at the top."""

    def length(at: int) -> int:
        size = int.from_bytes(data[at : at + 4], "big")
        size = (
            int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        )
        return size if size >= 8 else 0

    return _pieces(data, 0, length)
