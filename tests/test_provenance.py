"""What a file says of itself survives in every format, changes no pixel, and cannot hurt the
reader.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
import struct
import wave
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from devpipe.errors import Unavailable
from devpipe.media.containers import riff_chunks, seconds_of, size_of, sniff
from devpipe.media.provenance import (
    BY_MODEL,
    BY_PROCEDURE,
    MAX_REQUEST_BYTES,
    Provenance,
    bare,
    read,
    stamp,
)

MARK = Provenance(
    BY_PROCEDURE, "devpipe procedural/sketch", "A sketch drawn by rules, not by a diffusion model."
)
FULL = Provenance(
    BY_MODEL,
    "devpipe comfyui/sd35",
    "Grüße: <a> & \"b\" 'c'",
    {"texts": {"prompt": "ein <roter> & Kreis\x00\x1b\r\n"}, "n": [1, 0.5, None]},
)


def picture(mode: str, kind: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (41, 61, 4), dtype=np.uint8)
    image, out = Image.fromarray(pixels).convert(mode), io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def film(kind: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(
        out, kind, save_all=True, append_images=frames[1:], duration=100, loop=0, **options
    )
    return out.getvalue()


def mp4() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(5):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((48, 64, 3), shade * 50, np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(stream.encode())
    return out.getvalue()


def sound(width: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, width, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(255)) * width)
    return out.getvalue()


FILES = {
    "png": picture("RGB", "PNG"),
    "png with palette": picture("P", "PNG"),
    "png animated": film("PNG"),
    "jpeg": picture("RGB", "JPEG"),
    "jpeg with exif": picture("RGB", "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "webp lossy": picture("RGB", "WEBP"),
    "webp lossless": picture("RGB", "WEBP", lossless=True),
    "webp lossless with alpha": picture("RGBA", "WEBP", lossless=True, exact=True),
    "webp lossy with alpha": picture("RGBA", "WEBP"),
    "webp animated": film("WEBP"),
    "webp with exif": picture("RGB", "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "wav 16 bit": sound(2),
    "wav of odd length": sound(1),
    "mp4": mp4(),
}


SECRET = "Lena Meier, 4b"


def words() -> PngImagePlugin.PngInfo:
    """As ComfyUI writes its graph: a text chunk, and behind the picture one of its own kind."""
    found = PngImagePlugin.PngInfo()
    found.add_text("prompt", f'{{"1": "{SECRET}"}}', zip=False)
    found.add_itxt("workflow", SECRET)
    found.add(b"comf", f"prompt\0{SECRET}".encode(), after_idat=True)
    return found


def played(container: str, codec: str) -> bytes:
    """A film or a sound whose tags hold the graph."""
    out = io.BytesIO()
    with av.open(
        out,
        "w",
        format=container,
        options={"movflags": "use_metadata_tags"} if container == "mp4" else {},
    ) as file:
        file.metadata["prompt"] = file.metadata["comment"] = SECRET
        if codec in ("libx264", "libvpx-vp9"):
            film = file.add_stream(codec, rate=10)
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
            film.metadata["title"] = SECRET
            frames = [
                av.VideoFrame.from_ndarray(
                    np.full((48, 64, 3), shade * 50, np.uint8), format="rgb24"
                )
                for shade in range(5)
            ]
        else:
            film = file.add_stream(codec, rate=48000)
            film.layout = "mono"
            frames = [
                av.AudioFrame(
                    format=film.format.name,
                    layout="mono",
                    samples=film.codec_context.frame_size or 960,
                )
                for _ in range(9)
            ]
            for at, frame in enumerate(frames):
                frame.sample_rate, frame.pts = 48000, at * frame.samples
                frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for frame in frames:
            file.mux(film.encode(frame))
        file.mux(film.encode())
    return out.getvalue()


# five frames in a WEBM whose tags hold the text; its encoder is slow to start
AV1 = base64.b64decode(
    "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibUKHgQJChYECGFOAZwEAAAAAAAKPEU2bdLpNu4tTq4QVSalmU6yBoU27i1OrhBZUrmtTrIHYTbuMU6uEElTD"
    "Z1OsggE/TbuMU6uEHFO7a1OsggJ57AEAAAAAAABZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVSalmsirXsYMPQkBNgI1MYXZmNjIuMTIuMTAyV0GNTGF2ZjYyLjEyLjEwMkSJiEB/QAAAAAAAFlSua+Ku"
    "AQAAAAAAAFnXgQFzxYi14Xq1F7v2J5yBAFNujkxlbmEgTWVpZXIsIDRiIrWcg3VuZIiBAIaFVl9BVjGDgQEj44OEBfXhAOCGsIFAuoEwY6KQgQAMAAoKAAAA"
    "Aq/3gF8ACBJUw2dAk3Nz22PAgGfImkWjhlBST01QVESHjkxlbmEgTWVpZXIsIDRiZ8ibRaOHQ09NTUVOVESHjkxlbmEgTWVpZXIsIDRiZ8iaRaOHRU5DT0RF"
    "UkSHjUxhdmY2Mi4xMi4xMDJzc7JjwItjxYi14Xq1F7v2J2fIoUWjiERVUkFUSU9ORIeTMDA6MDA6MDAuNTAwMDAwMDAwAB9DtnVAm+eBAKOhgQAAgAoKAAAA"
    "Aq/3jV8gCDIPEACWgBBAggAAEAAo0f2Uo8aBAGQAMhUoBAAkkkk9TwBBAggQADAAAAQCmbgyFCgCAQSSAD14AGGDDBAAGAAAFND0MhMwAwAJJMM7GAAAAgAD"
    "AAAhHCO4o4eBAMgAGgG4o5mBASwAMhMwBgANNgA7GAAAAgADAAAhHCO4o4eBAZAAGgGIHFO7a5G7j7OBALeK94EB8YIB2PCBAw=="
)

TOLD = {
    "png": picture("RGB", "PNG", pnginfo=words()),
    "png animated": film("PNG", pnginfo=words()),
    "jpeg": picture(
        "RGB", "JPEG", comment=SECRET, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + SECRET.encode()
    ),
    "webp": picture("RGBA", "WEBP", lossless=True, exact=True, exif=b"Exif\0\0" + SECRET.encode()),
    "webp animated": film("WEBP", exif=b"Exif\0\0" + SECRET.encode()),
    "gif": film("GIF", comment=SECRET),
    "av1": AV1,
    "wav": sound(2) + b"LIST" + struct.pack("<I", len(SECRET)) + SECRET.encode(),
    "mp4": played("mp4", "libx264"),
    "webm": played("webm", "libvpx-vp9"),
    "flac": played("flac", "flac"),
    "mp3": played("mp3", "libmp3lame"),
    "ogg": played("ogg", "libopus"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_bare_file_holds_no_word_of_its_maker_and_the_same_content(name: str) -> None:
    data = TOLD[name]
    assert SECRET.encode() in data
    found = bare(data)
    assert SECRET.encode() not in found and sniff(found) == sniff(data) and bare(data) == found
    assert content(found) == content(data) == content(bare(found))


@pytest.mark.parametrize("name", ["png", "webp", "wav", "jpeg with exif", "mp4"])
def test_what_is_cut_off_or_odd_is_bared_or_said_to_be_unreadable(name: str) -> None:
    """Whatever the bytes: no other error."""
    data = (TOLD | FILES)[name]
    for end in range(0, len(data), max(1, len(data) // 60)):
        with contextlib.suppress(Unavailable):
            assert (
                SECRET.encode() not in bare(data[:end])
                or sniff(data[:end]) == "application/octet-stream"
            )


def test_a_sound_with_an_empty_head_of_a_picture_is_bared() -> None:
    """A WAV may hold any chunk, also one that only a WEBP would fill."""
    odd = sound(2) + b"VP8X" + struct.pack("<I", 0)
    assert content(bare(odd)) == content(sound(2))


def content(data: bytes) -> list[bytes]:
    """Everything a viewer or player gets from a file."""
    kind = sniff(data)
    if kind == "audio/wav":
        with wave.open(io.BytesIO(data)) as file:
            return [repr(file.getparams()).encode(), file.readframes(10**6)]
    if kind.startswith(("video/", "audio/")):
        with av.open(io.BytesIO(data)) as container:
            return [
                frame.to_ndarray().tobytes() for frame in container.decode(container.streams[0])
            ]
    image, frames = Image.open(io.BytesIO(data)), []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        frames.append(
            f"{image.mode} {image.size} {image.info.get('duration')}".encode() + image.tobytes()
        )
    return frames


@pytest.mark.parametrize("provenance", [MARK, FULL], ids=["mark", "full"])
@pytest.mark.parametrize("name", FILES)
def test_a_stamp_is_read_back_and_changes_no_content(name: str, provenance: Provenance) -> None:
    data = FILES[name]
    stamped = stamp(data, sniff(data), provenance)
    assert read(data) is None and read(stamped) == provenance
    assert content(stamped) == content(data)
    assert (size_of(stamped), seconds_of(stamped), sniff(stamped)) == (
        size_of(data),
        seconds_of(data),
        sniff(data),
    )


@pytest.mark.parametrize("name", FILES)
def test_stamping_twice_leaves_the_last_stamp_alone(name: str) -> None:
    data = FILES[name]
    kind = sniff(data)
    once = stamp(data, kind, MARK)
    assert stamp(stamp(data, kind, FULL), kind, MARK) == once == stamp(once, kind, MARK)
    assert once.count(b"CreatorTool>devpipe") == 1 and b"Kreis" not in once


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.text(st.characters(codec=None), max_size=30),
    st.text(st.characters(codec=None), max_size=60),
    st.none() | st.dictionaries(st.text(st.characters(codec=None)), JSON, max_size=3),
)
def test_any_text_survives(
    name: str, made_by: str, note: str, request: dict[str, Any] | None
) -> None:
    """Control characters, lone surrogates and markup included; our own sentences lose at most what
    XML cannot carry.
    """
    provenance = Provenance(BY_PROCEDURE, made_by, note, request)
    assert read(stamp(FILES[name], sniff(FILES[name]), provenance)) == provenance


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("webp")])
def test_a_webp_says_in_its_header_what_it_carries(name: str) -> None:
    """XMP always, alpha where there is some: browsers believe the flags."""
    stamped = stamp(FILES[name], "image/webp", MARK)
    assert (
        stamped[12:16] == b"VP8X"
        and stamped[20] & 0x04
        and bool(stamped[20] & 0x10) == ("alpha" in name)
    )


@pytest.mark.parametrize("name", FILES)
def test_other_programs_find_the_packet(name: str) -> None:
    """It is XML with IPTC's term, where the format's owner says XMP lies."""
    data = stamp(FILES[name], sniff(FILES[name]), FULL)
    if sniff(data) in ("image/png", "image/jpeg", "image/webp"):
        packet = Image.open(io.BytesIO(data)).info.get("xmp")
        packet = packet.encode() if isinstance(packet, str) else packet
    elif sniff(data) == "audio/wav":
        packet = next(
            data[at : at + size] for chunk, at, size in riff_chunks(data) if chunk == b"_PMX"
        )
        assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    else:
        at = data.rindex(bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC"))
        packet = data[at + 16 :]
        assert struct.unpack_from(">I", data, at - 8)[0] == len(data) - at + 8
    found = ElementTree.fromstring(packet).find(
        ".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    )
    assert found is not None and found.text == BY_MODEL


def test_the_order_of_keys_changes_no_byte() -> None:
    a, b = (
        Provenance(BY_MODEL, "m", "", {"a": 1, "b": 2}),
        Provenance(BY_MODEL, "m", "", {"b": 2, "a": 1}),
    )
    assert stamp(FILES["png"], "image/png", a) == stamp(FILES["png"], "image/png", b)


@pytest.mark.parametrize("name", ["png", "jpeg", "mp4"])
def test_a_request_too_long_for_the_file_leaves_the_mark(name: str) -> None:
    long = Provenance(BY_MODEL, "m", "n", {"prompt": "&" * MAX_REQUEST_BYTES})
    stamped = stamp(FILES[name], sniff(FILES[name]), long)
    assert read(stamped) == Provenance(BY_MODEL, "m", "n") and content(stamped) == content(
        FILES[name]
    )
    fits = Provenance(
        BY_MODEL, "m", "n", {"prompt": "ü" * 25_000, "prompt_2": "\U0001f600" * 5_000}
    )
    expected = None if name == "jpeg" else fits.request
    assert (
        getattr(read(stamp(FILES[name], sniff(FILES[name]), fits)), "request", "lost") == expected
    )


def test_what_cannot_carry_a_stamp_comes_back_as_it_is() -> None:
    for data, kind in (
        (b"fLaC....", "audio/flac"),
        (b"<html>", "image/png"),
        (FILES["png"], "image/jpeg"),
        (b"", ""),
    ):
        assert stamp(data, kind, FULL) == data
    open_ended = FILES["mp4"][:-4] + b"\xff"
    assert stamp(open_ended, "video/mp4", FULL) == open_ended


def packet_in_png(inner: str, *, doctype: str = "") -> bytes:
    spaces = (
        'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:d="urn:devpipe:provenance:1"'
    )
    xml = (
        f'{doctype}<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        f" {spaces}>{inner}</r:RDF>"
    )
    body = b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + xml.encode()
    return (
        FILES["png"][:33]
        + struct.pack(">I", len(body) - 4)
        + body
        + b"\0\0\0\0"
        + FILES["png"][33:]
    )


def test_attributes_say_the_same_as_elements() -> None:
    """Other programs rewrite XMP in its short form."""
    data = packet_in_png(
        f'<r:Description i:DigitalSourceType="{BY_MODEL}" d:request="{{&quot;a&quot;:1}}"/>'
    )
    assert read(data) == Provenance(BY_MODEL, "", "", {"a": 1})


BILLION = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "data",
    [
        packet_in_png(f"<i:DigitalSourceType>{BY_MODEL}&b;</i:DigitalSourceType>", doctype=BILLION),
        packet_in_png("<i:DigitalSourceType>", doctype='<!DOCTYPE x SYSTEM "file:///etc/passwd">'),
        packet_in_png(f"<i:DigitalSourceType>{BY_MODEL}"),
        packet_in_png("<a>" * 100_000),
        packet_in_png(" " * 1_000_001),
        packet_in_png("", doctype='<?xml version="1.0" encoding="nonsense"?>'),
        packet_in_png("nothing of ours"),
        b"RIFF\xff\xff\xff\xffWEBPXMP \xff\xff\xff\xff<",
        b"\xff\xd8\xff\xe1\xff\xffhttp://ns.adobe.com/xap/1.0/\0",
        b"\0\0\0\x01ftypisom\0\0\0\0\0\0\0\0",
        b"",
    ],
)
def test_hostile_packets_say_nothing(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    "request_text",
    [
        "[" * 200_000,
        '{"a":' * 40 + "1" + "}" * 40,
        "[1]",
        "NaN",
        '{"a": NaN}',
        '{"a": ' + "1" * 6000 + "}",
        "{",
        '{"a": "' + "x" * MAX_REQUEST_BYTES + '"}',
    ],
)
def test_a_hostile_request_is_not_believed(request_text: str) -> None:
    """Too deep, too long, no object, no JSON: the mark is read, the request is not."""
    escaped = request_text.replace('"', "&quot;")
    data = packet_in_png(
        f"<i:DigitalSourceType>{BY_MODEL}</i:DigitalSourceType><d:request>{escaped}</d:request>"
    )
    assert read(data) == Provenance(BY_MODEL, "")


def test_damaged_files_never_raise() -> None:
    """4,200 mutated files: a provenance or None, from reading; bytes, from stamping."""
    rng = random.Random(5)
    for data in FILES.values():
        kind = sniff(data)
        stamped = stamp(data, kind, FULL)
        for _ in range(300):
            damaged = bytearray(stamped[: rng.choice([len(stamped), rng.randrange(len(stamped))])])
            for _ in range(rng.randrange(1, 12) if damaged else 0):
                damaged[min(int(rng.expovariate(0.01)), len(damaged) - 1)] = rng.randrange(256)
            found = read(bytes(damaged))
            assert found is None or json.dumps(found.request) is not None
            assert isinstance(stamp(bytes(damaged), kind, MARK), bytes)
