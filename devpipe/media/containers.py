"""What kind of file is this, and what is it made of? Told from its bytes, nothing decoded."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from devpipe.values import Media

UNKNOWN = "application/octet-stream"
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "image/gif": "gif",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "text/plain": "txt",
}

_FITTING = {
    "image": ("image/",),
    "video": ("video/", "image/webp", "image/gif"),
    "sound": ("audio/",),
}  # they may move

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
)
_RIFF_KINDS = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
# Pictures in an MP4 box.
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
# Markers of JPEG (ITU T.81, table B.1).
_START_OF_FRAME = range(0xC0, 0xD0)
_TABLES_AMONG_THEM = (0xC4, 0xC8, 0xCC)
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
# What begins a block of a GIF.
_EXTENSION = 0x21
_PICTURE = 0x2C


def sniff(data: bytes) -> str:
    """The media type that the bytes themselves show, whatever a name or a header says of them."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF":
        return _RIFF_KINDS.get(data[8:12], UNKNOWN)
    if data[4:8] == b"ftyp" and data[8:12] not in _STILL_BRANDS:
        return "video/mp4"
    if data[:4] == b"\x1aE\xdf\xa3" and b"webm" in data[:64]:
        return "video/webm"
    if _is_mpeg_audio(data):
        return "audio/mpeg"
    return UNKNOWN


def kind_of(media: Media) -> str:
    """The media type that the bytes say; the backend's word alone counts for a text only."""
    found = sniff(media.data)
    if media.media_type == "text/plain" and found == UNKNOWN:
        with suppress(UnicodeDecodeError):
            media.data.decode()
            return "text/plain"
    return found


def is_of(media: Media, medium: str) -> bool:
    """Whether a file is of that medium, by its media type; an animated picture is a film, too."""
    kind = media.media_type
    moves = medium == "video" and kind.startswith("image/") and seconds_of(media.data) is not None
    return kind in EXTENSIONS and (moves or kind.startswith(_FITTING.get(medium, ())))


def measured(media: Media, data: bytes) -> Media:
    """The file with these bytes, its size and length read from them where they say it."""
    seconds = media.seconds if media.seconds is not None else seconds_of(data)
    if not media.media_type.startswith("image/"):
        return replace(media, data=data, seconds=seconds)
    width, height = size_of(data)
    return replace(media, data=data, width=width, height=height, seconds=seconds)


def _is_mpeg_audio(data: bytes) -> bool:
    """Whether an MPEG audio frame begins here; AAC has the same sync word but layer 0."""
    if len(data) < 4:
        return False
    in_step = data[0] == 0xFF and data[1] & 0xE0 == 0xE0
    layer = data[1] & 0x06
    bitrate = data[2] >> 4
    return in_step and layer != 0 and bitrate != 15


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG, JPEG or WEBP.

    (0, 0) where it says none.
    """
    try:
        match sniff(data):
            case "image/png":
                width, height = struct.unpack_from(">II", data, 16)
                return width, height
            case "image/jpeg":
                return _jpeg_size(data)
            case "image/webp":
                return _webp_size(data)
    except (struct.error, IndexError):  # cut off in its header
        pass
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME and marker not in _TABLES_AMONG_THEM:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == 0xFF:  # a byte that only fills
            at += 1
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + length
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    at = 20
    if kind == b"VP8X":
        width = int.from_bytes(data[at + 4 : at + 7], "little")
        height = int.from_bytes(data[at + 7 : at + 10], "little")
        return width + 1, height + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, at + 1)
        width = bits & 0x3FFF
        height = bits >> 14 & 0x3FFF
        return width + 1, height + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def seconds_of(data: bytes) -> float | None:
    """Seconds that a WAV or an animated WEBP, PNG or GIF plays; None for everything else."""
    match sniff(data):
        case "image/gif":
            return _gif_seconds(data)
        case "image/png":
            return _png_seconds(data)
        case "image/webp":
            return _webp_seconds(data)
        case "audio/wav":
            return _wav_seconds(data)
    return None


def _gif_seconds(data: bytes) -> float | None:
    pauses = []
    for start, _ in gif_blocks(data):
        if data.startswith(b"!\xf9", start):
            hundredths = int.from_bytes(data[start + 4 : start + 6], "little")
            pauses.append(hundredths / 100)
    return _together(pauses)


def _png_seconds(data: bytes) -> float | None:
    """The sum of the pauses in the frame controls (APNG)."""
    if b"acTL" not in data[: data.find(b"IDAT")]:
        return None
    pauses = []
    # Found by their head alone: a film that is cut off still tells.
    for head in re.finditer(b"\0\0\0\x1afcTL", data):
        pause = data[head.end() + 20 : head.end() + 24]
        if len(pause) == 4:
            numerator, denominator = struct.unpack(">HH", pause)
            pauses.append(numerator / (denominator or 100))
    return _together(pauses)


def _together(pauses: list[float]) -> float | None:
    return round(sum(pauses), 3) if len(pauses) > 1 else None


def _webp_seconds(data: bytes) -> float | None:
    milliseconds = [
        int.from_bytes(data[at + 12 : at + 15], "little")
        for name, at, _ in riff_chunks(data)
        if name == b"ANMF"
    ]
    return sum(milliseconds) / 1000 if milliseconds else None


def _wav_seconds(data: bytes) -> float | None:
    bytes_per_second = None
    samples = None
    for name, at, size in riff_chunks(data):
        if name == b"fmt ":
            bytes_per_second = struct.unpack_from("<I", data, at + 8)[0] if size >= 16 else None
        elif name == b"data":
            samples = size
    if not bytes_per_second or samples is None:
        return None
    return float(samples / bytes_per_second)


def png_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole chunk of a PNG: length, name, content, checksum."""
    return _pieces(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))


def png_text(data: bytes, keyword: bytes, *, limit: int) -> str | None:
    """The text that a PNG carries under a keyword; None where there is none.

    At most `limit` bytes of a compressed one are read. Raises ValueError for one that cannot be
    unpacked or decoded.
    """
    for start, end in png_chunks(data):
        kind = data[start + 4 : start + 8]
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        name, _, content = data[start + 8 : end - 4].partition(b"\0")
        if name == keyword:
            return _png_text(kind, content, limit)
    return None


def _png_text(kind: bytes, content: bytes, limit: int) -> str:
    """What stands in a text chunk behind its keyword."""
    if kind == b"tEXt":
        return content.decode("latin-1")
    if kind == b"zTXt":
        return _unpacked(content[1:], limit).decode("latin-1")
    packed = content[:1] == b"\1"
    body = content[2:].split(b"\0", 2)[-1]  # behind the language, and the keyword in it
    return (_unpacked(body, limit) if packed else body).decode()


def _unpacked(body: bytes, limit: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(body, limit)
    except zlib.error as error:
        raise ValueError("what the PNG carries cannot be unpacked") from error


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole segment of a JPEG before the picture itself."""

    def length(at: int) -> int:
        if at + 4 > len(data) or data[at] != 0xFF:
            return 0
        if data[at + 1] in (_START_OF_SCAN, _END_OF_IMAGE):
            return 0
        return 2 + int.from_bytes(data[at + 2 : at + 4], "big")

    return _pieces(data, 2, length)


def mp4_boxes(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole box at the top of an MP4."""

    def length(at: int) -> int:
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:  # too long for four bytes
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:  # to the end of the file
            size = len(data) - at
        return size if size >= 8 else 0

    return _pieces(data, 0, length)


def _pieces(data: bytes, at: int, length: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Start and end of each whole piece from `at` on.

    `length` says how long the one there is, 0 where none can be.
    """
    size = length(at)
    while size and at + size <= len(data):
        yield at, at + size
        at += size
        size = length(at)


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk of a RIFF file (WEBP, WAV): name, start and length of its content.

    The length of one that is cut off ends with the data.
    """
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from("<I", data, at + 4)
        at += 8
        yield name, at, min(size, len(data) - at)
        at += _even(size)


def riff(kind: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A RIFF file of these chunks, each a name and its content."""
    body = bytearray()
    for name, content in chunks:
        body += name + struct.pack("<I", len(content))
        body += content.ljust(_even(len(content)), b"\0")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + kind + bytes(body)


def _even(size: int) -> int:
    return size + size % 2


def gif_head(data: bytes) -> int:
    """How many bytes of a GIF come before its first block."""
    return 13 + (_palette(data[10]) if len(data) > 12 else 0)


def gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole block of a GIF behind its header: extensions and pictures."""
    start = gif_head(data)
    while start + 10 < len(data) and data[start] in (_EXTENSION, _PICTURE):
        end = _gif_block_end(data, start)
        if end > len(data):
            return
        yield start, end
        start = end


def _gif_block_end(data: bytes, start: int) -> int:
    at = start + 2
    if data[start] == _PICTURE:
        at = start + 11 + _palette(data[start + 9])
    while at < len(data) and data[at]:  # sub-blocks, each behind its length, up to an empty one
        at += 1 + data[at]
    return at + 1


def _palette(flags: int) -> int:
    """How many bytes the colours take that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
