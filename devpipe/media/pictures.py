"""The one door through which bytes become pictures, and pictures bytes.

Everything that claims to be a picture (a user's upload, a vendor's answer) is opened here and
nowhere else:
three formats, the size read from the header before anything is allocated, one kind of error.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

from PIL import Image, ImageOps

from devpipe.errors import DevpipeError, UsageError
from devpipe.values import Attachment

FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow opens 43 by default; EPS starts Ghostscript
MAX_PIXELS = 33_000_000  # Pillow warns at 89 million only: a 258 kB file may then take 340 MB
MAX_SIDE = 8192
THUMBNAIL_SIDE = 256

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
_KEEP = "Use a PNG, JPEG or WEBP picture."


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


def is_picture(data: bytes) -> bool:
    """Whether a picture, or the first of an animated one, can be seen whole; other bytes may begin
    like one.
    """
    try:
        width, height = (
            struct.unpack_from("<HH", data, 6) if data.startswith(b"GIF") else size_of(data)
        )
        if not 0 < width * height <= MAX_PIXELS:
            return False
        with Image.open(io.BytesIO(data), formats=(*FORMATS, "GIF")) as image:
            image.load()
    except (
        Exception
    ):  # Pillow raises nearly anything on hostile bytes, and here it all means "cannot be seen"
        return False
    return True


def decode(
    data: bytes, *, what: str = "picture", error: type[DevpipeError] = UsageError
) -> Image.Image:
    """The picture, turned upright, in mode L, RGB or RGBA; `error` is raised where it is none or is
    too large.
    """
    image = _open(data, what=what, error=error)
    if (
        image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    ):  # a phone's second picture in a JPEG is no film
        raise error(f"The {what} is animated.", hint="Use one still picture.")
    return _pixels(image, what=what, error=error)


def _open(data: bytes, *, what: str, error: type[DevpipeError]) -> Image.Image:
    width, height = size_of(data)
    if not width or not height:
        raise error(f"The {what} is {_said(data)}, not a picture we open.", hint=_KEEP)
    # Before Pillow sees it: opening a WEBP already allocates its whole canvas twice.
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limits = f"at most {MAX_SIDE} pixels a side and {MAX_PIXELS // 1_000_000} megapixels"
        raise error(
            f"The {what} is too large ({width}x{height}).", hint=f"Make it smaller: {limits}."
        )
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as exc:  # as in _pixels
        raise error(f"The {what} is damaged.", hint=_KEEP) from exc
    if image.size != (width, height):  # two headers that contradict each other
        raise error(f"The {what} is damaged: it names two sizes.", hint=_KEEP)
    return image


def _pixels(image: Image.Image, *, what: str, error: type[DevpipeError]) -> Image.Image:
    try:
        image.load()
        return _plain(ImageOps.exif_transpose(image))
    # Pillow's decoders raise nearly everything on hostile bytes (OSError, SyntaxError, ValueError,
    # struct.error,
    # DecompressionBombError ...): here, and only here, that all means "not a readable picture".
    except Exception as exc:
        raise error(f"The {what} is damaged or cut off.", hint=_KEEP) from exc


def _plain(image: Image.Image) -> Image.Image:
    """The same picture with 8 bits a channel and without a palette or any metadata."""
    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 257).convert(
            "L"
        )  # 16-bit grey: Pillow clips instead of scaling
    elif image.mode in ("P", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    image.info = {}
    return image


def _said(data: bytes) -> str:
    """What to call bytes that are no picture of ours."""
    if not data:
        return "empty"
    kind = sniff(data)
    if kind != "application/octet-stream":
        return kind
    start = data[:256].lstrip().lower()
    return (
        "a web page"
        if start.startswith((b"<!doctype html", b"<html"))
        else "SVG"
        if b"<svg" in start
        else "of an unknown format"
    )


def attachment(data: bytes, *, name: str) -> Attachment:
    """A user's picture as we keep and send it: upright, no metadata, PNG; a mask in grey (white =
    change), others in RGB.

    Transparency lies on black in a mask (not changed) and on white elsewhere.
    """
    image = decode(data, what=name)
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, "black" if name == "mask" else "white")
        image = Image.alpha_composite(ground, image)
    image = image.convert("L" if name == "mask" else "RGB")
    return Attachment(encode_png(image), "image/png", *image.size)


def fitted_mask(mask: Attachment, image: Attachment) -> Attachment:
    """The mask in the size of its picture, without any grey that was not there: a soft rim would
    change pixels outside.
    """
    if (mask.width, mask.height) == (image.width, image.height):
        return mask
    found = decode(mask.data, what="mask").resize(
        (image.width, image.height), Image.Resampling.NEAREST
    )
    return Attachment(encode_png(found), "image/png", *found.size)


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes, equal for equal pixels."""
    out = io.BytesIO()
    # Level 1: 81 ms instead of 609 ms for 1024x1024. A profile in image.info would be written
    # along.
    image.save(out, "PNG", compress_level=1, icc_profile=None)
    return out.getvalue()


def thumbnail(data: bytes) -> bytes:
    """The picture, or the first frame of an animated one, as a WEBP of at most 256 pixels a
    side.
    """
    image = _open(data, what="picture", error=UsageError)
    image.draft(
        "RGB", (THUMBNAIL_SIDE * 2, THUMBNAIL_SIDE * 2)
    )  # a JPEG is then decoded at a fraction of its size
    return encode_small(_pixels(image, what="picture", error=UsageError), THUMBNAIL_SIDE, method=4)


def encode_small(image: Image.Image, side: int, *, method: int) -> bytes:
    """WEBP bytes of at most so many pixels a side; `method` 0 is the quickest, 6 the smallest.

    The picture itself is changed.
    """
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80, method=method)
    return out.getvalue()
