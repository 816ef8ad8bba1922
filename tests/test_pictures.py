"""The one decoder door: what it lets in, what it refuses, and what it leaves of a file."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import wave
import zlib

import numpy as np
import pytest
from PIL import Image

from devpipe.errors import Rejected, UsageError
from devpipe.media import containers, pictures


def picture(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return (
        Image.fromarray(pixels, "RGBA").convert(mode) if mode != "RGBA" else Image.fromarray(pixels)
    )


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def animated() -> bytes:
    frames = [picture(), picture().transpose(Image.Transpose.ROTATE_180)]
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=[250, 500])


def sized_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )


def tone(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(int(8000 * seconds) * 4))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(picture()), "image/png"),
        (saved(picture(), "JPEG"), "image/jpeg"),
        (saved(picture(), "WEBP"), "image/webp"),
        (saved(picture(), "GIF"), "image/gif"),
        (tone(0.1), "audio/wav"),
        (b"\0\0\0\x18ftypisom" + bytes(12), "video/mp4"),
        (b"\0\0\0\x18ftypavif" + bytes(12), "application/octet-stream"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"OggS\0\x02", "audio/ogg"),
        (b"ID3\x04\0\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "application/octet-stream"),  # AAC
        (b"<html>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_media_type_is_what_the_bytes_show(data: bytes, expected: str) -> None:
    assert containers.sniff(data) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_size_is_read_from_the_header(kind: str, mode: str) -> None:
    """Equal to what Pillow decodes, for every kind of header we meet."""
    image = picture("RGB" if kind == "JPEG" and mode == "RGBA" else mode, (123, 45))
    for options in ({}, {"lossless": True}, {"progressive": True}):
        assert containers.size_of(saved(image, kind, **options)) == (123, 45)
    assert containers.size_of(animated()) == (60, 40)
    assert containers.size_of(b"RIFF\0\0\0\0WEBPVP8L") == (0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_usual_mode_becomes_grey_rgb_or_rgba(mode: str) -> None:
    """With nothing in it but pixels; 16-bit grey is scaled, not clipped."""
    grey = np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16)
    image = Image.fromarray(grey) if mode == "I;16" else picture(mode)
    decoded = pictures.decode(saved(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert decoded.mode in ("L", "RGB", "RGBA") and decoded.size == (60, 40) and decoded.info == {}
    if mode == "I;16":
        assert abs(float(np.asarray(decoded).mean()) - 127) < 2


HOSTILE = {
    "empty": b"",
    "html": b"<!DOCTYPE html><p>Not found",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "gif": saved(picture(), "GIF"),
    "bmp": saved(picture(), "BMP"),
    "tiff": saved(picture(), "TIFF"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "cut png": saved(picture())[:2000],
    "cut webp": saved(picture(), "WEBP", lossless=True)[:900],
    "cut jpeg": saved(picture(), "JPEG")[:700],
    "too wide": sized_png(8193, 1),
    "too many pixels": sized_png(8000, 8000),
    "bomb": sized_png(2**31 - 1, 2**31 - 1),
    "nothing in it": sized_png(0, 10),
    "huge webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2,
    "animated": animated(),
    "sound": tone(0.1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_picture_of_ours_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        pictures.decode(HOSTILE[name], what="mask")
    assert ("too large" in str(caught.value)) == (
        name in ("too wide", "too many pixels", "bomb", "huge webp")
    )
    assert (
        str(caught.value).startswith("The mask is")
        and "\n" not in str(caught.value)
        and caught.value.hint
    )


def test_the_caller_chooses_the_error() -> None:
    """A vendor's broken answer is not the user's mistake."""
    with pytest.raises(Rejected):
        pictures.decode(b"", error=Rejected)


def test_damaged_bytes_never_raise_anything_else() -> None:
    """1,200 mutated files: a picture or our error."""
    rng = random.Random(3)
    for kind in ("PNG", "JPEG", "WEBP"):
        original = saved(picture(), kind)
        for _ in range(400):
            data = bytearray(original[: rng.choice([len(original), rng.randrange(len(original))])])
            for _ in range(rng.randrange(1, 9) if data else 0):
                data[min(int(rng.expovariate(0.02)), len(data) - 1)] = rng.randrange(256)
            with contextlib.suppress(UsageError):
                assert max(pictures.decode(bytes(data)).size) <= pictures.MAX_SIDE


def test_a_phone_photo_loses_its_metadata_and_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SECRETCAM"
    exif.get_ifd(0x8825)[1] = "N"
    data = saved(
        picture(),
        "JPEG",
        exif=exif,
        icc_profile=b"SECRETPROFILE" + bytes(200),
        comment=b"SECRETCOMMENT",
    )
    attachment = pictures.attachment(data, name="image")
    assert (attachment.width, attachment.height) == (40, 60) == containers.size_of(attachment.data)
    assert attachment.media_type == "image/png" == containers.sniff(attachment.data)
    assert (
        b"SECRET" not in attachment.data
        and b"eXIf" not in attachment.data
        and b"iCCP" not in attachment.data
    )


def test_a_phone_photo_with_a_second_picture_is_one_picture() -> None:
    """Phones hide a depth or brightness map behind the photo (MPO)."""
    data = saved(picture(), "MPO", save_all=True, append_images=[picture("L").convert("RGB")])
    assert Image.open(io.BytesIO(data)).n_frames == 2 and pictures.decode(data).size == (60, 40)  # type: ignore[attr-defined]


def test_a_mask_is_grey_and_its_transparent_parts_do_not_change() -> None:
    image = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
    image.putpixel((1, 1), (255, 255, 255, 255))
    mask = pictures.decode(pictures.attachment(saved(image), name="mask").data)
    assert mask.mode == "L" and list(np.flatnonzero(np.asarray(mask))) == [5]
    shown = pictures.decode(
        pictures.attachment(saved(Image.new("RGBA", (4, 2))), name="image").data
    )
    assert shown.mode == "RGB" and shown.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_encoding_loses_no_pixel_and_repeats_itself(mode: str) -> None:
    image = picture(mode)
    image.info["icc_profile"] = b"SECRET" * 30
    data = pictures.encode_png(image)
    assert data == pictures.encode_png(image) and b"SECRET" not in data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert(mode)), np.asarray(image))


@pytest.mark.parametrize("size", [(1000, 400), (40, 900), (30, 20)])
def test_thumbnail_fits_256_pixels_and_keeps_the_shape(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG"):
        width, height = containers.size_of(pictures.thumbnail(saved(picture(size=size), kind)))
        assert (
            max(width, height) <= 256
            and abs(width / height - size[0] / size[1]) < 0.15 * size[0] / size[1]
        )
    assert containers.size_of(pictures.thumbnail(animated())) == (60, 40)


def test_seconds_of_sounds_and_films() -> None:
    assert containers.seconds_of(tone(1.5)) == pytest.approx(1.5)
    assert containers.seconds_of(animated()) == pytest.approx(0.75)
    for data in (
        saved(picture()),
        saved(picture(), "WEBP"),
        tone(1)[:20],
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data",
    ):
        assert containers.seconds_of(data) is None
