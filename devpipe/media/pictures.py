"""The one door through which bytes become pictures, and pictures bytes.

Everything that claims to be a picture (a user's upload, a vendor's answer) is opened here and
nowhere else: three formats, the size read from the header before anything is allocated, one kind of
error.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from devpipe.errors import DevpipeError, UsageError
from devpipe.files import read_plain
from devpipe.media.containers import size_of, sniff
from devpipe.values import Attachment

FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow opens 43 by default; EPS starts Ghostscript
MAX_PIXELS = 33_000_000  # Pillow warns at 89 million only: a 258 kB file may then take 340 MB
MAX_SIDE = 8192
MAX_FILE_BYTES = 64_000_000
THUMBNAIL_SIDE = 256

_KEEP = "Use a PNG, JPEG or WEBP picture."


def is_picture(data: bytes) -> bool:
    """Whether a picture, or the first of an animated one, can be seen whole.

    Other bytes may begin like one.
    """
    try:
        if data.startswith(b"GIF"):
            width, height = struct.unpack_from("<HH", data, 6)
        else:
            width, height = size_of(data)
        if not 0 < width * height <= MAX_PIXELS:
            return False
        with Image.open(io.BytesIO(data), formats=(*FORMATS, "GIF")) as image:
            image.load()
    except Exception:  # as in _pixels; here it all means "cannot be seen"
        return False
    return True


def decode(
    data: bytes, *, what: str = "picture", error: type[DevpipeError] = UsageError
) -> Image.Image:
    """The picture, turned upright, in mode L, RGB or RGBA.

    `error` is raised where it is none or is too large.
    """
    image = _open(data, what=what, error=error)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's second picture in a JPEG is no film
        raise error(f"The {what} is animated.", hint="Use one still picture.")
    return _pixels(image, what=what, error=error)


def decode_first(
    data: bytes, *, what: str = "picture", error: type[DevpipeError] = UsageError
) -> Image.Image:
    """The pixels of a picture, of an animated one those of its first frame; else as `decode`."""
    return _pixels(_open(data, what=what, error=error), what=what, error=error)


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
    # struct.error, DecompressionBombError ...): here that all means "not a readable picture".
    except Exception as exc:
        raise error(f"The {what} is damaged or cut off.", hint=_KEEP) from exc


def _plain(image: Image.Image) -> Image.Image:
    """The same picture with 8 bits a channel and without a palette or any metadata."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow clips instead of scaling
        image = image.point(lambda value: value / 257).convert("L")
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
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "SVG" if b"<svg" in start else "of an unknown format"


def attachment(data: bytes, *, name: str) -> Attachment:
    """A user's picture as we keep and send it: upright, no metadata, PNG.

    A mask is grey (white = change), others are RGB. Transparency lies on black in a mask (not
    changed) and on white elsewhere.
    """
    mode, ground = ("L", "black") if name == "mask" else ("RGB", "white")
    image = decode(data, what=name)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    image = image.convert(mode)
    return Attachment(encode_png(image), "image/png", *image.size)


def user_picture(value: Any, *, name: str) -> Attachment:
    """A picture as a call gives it - a path, its bytes, a PIL image - as we keep and send it.

    Raises UsageError for what is none, or too large.
    """
    if isinstance(value, Attachment):
        return value
    if isinstance(value, bytes):
        return attachment(value, name=name)
    if isinstance(value, str | os.PathLike):
        try:
            return attachment(read_plain(Path(value), MAX_FILE_BYTES), name=name)
        except OSError as error:
            raise UsageError(
                f"The {name} {os.fspath(value)!r} cannot be read: {error.strerror}.",
                hint="Give a PNG, JPEG or WEBP file.",
            ) from error
    return attachment(encode_png(value), name=name)


def fitted_mask(mask: Attachment, image: Attachment) -> Attachment:
    """The mask in the size of its picture, with no grey that was not there.

    A soft rim would change pixels outside.
    """
    size = (image.width, image.height)
    if (mask.width, mask.height) == size:
        return mask
    fitted = decode(mask.data, what="mask").resize(size, Image.Resampling.NEAREST)
    return Attachment(encode_png(fitted), "image/png", *fitted.size)


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes, equal for equal pixels."""
    out = io.BytesIO()
    # Level 1: 81 ms instead of 609 ms for 1024x1024. A profile in image.info would go along.
    image.save(out, "PNG", compress_level=1, icc_profile=None)
    return out.getvalue()


def thumbnail(data: bytes) -> bytes:
    """A WEBP of at most 256 pixels a side; of an animated picture, its first frame."""
    image = _open(data, what="picture", error=UsageError)
    enough = (THUMBNAIL_SIDE * 2, THUMBNAIL_SIDE * 2)
    image.draft("RGB", enough)  # a JPEG is then decoded at a fraction of its size
    pixels = _pixels(image, what="picture", error=UsageError)
    return encode_small(pixels, THUMBNAIL_SIDE, method=4)


def encode_small(image: Image.Image, side: int, *, method: int) -> bytes:
    """WEBP bytes of at most so many pixels a side; the picture itself is changed.

    `method` 0 is the quickest, 6 the smallest.
    """
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80, method=method)
    return out.getvalue()
