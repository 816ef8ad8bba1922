"""What a file says of itself: made by a procedure or a model, by which, and from which request.

One XMP packet is spliced into the bytes; pixels and samples are not encoded again. It carries
neither a run's id
nor a time, so that equal requests give equal files. The terms are those of IPTC, which browsers,
exiftool and
image search read: https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape

from devpipe.errors import Unavailable
from devpipe.media.containers import (
    gif_blocks,
    gif_head,
    jpeg_segments,
    mp4_boxes,
    png_chunks,
    riff,
    riff_chunks,
    size_of,
    sniff,
)

BY_PROCEDURE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MAX_REQUEST_BYTES = 256 * 1024
MAX_DEPTH = 32

_MAX_PACKET = 1_000_000
_MAX_JPEG_PACKET = 65_502  # one APP1 segment
_PNG_KEY = b"iTXtXML:com.adobe.xmp\0"
_JPEG_KEY = b"http://ns.adobe.com/xap/1.0/\0"
_MP4_KEY = b"uuid" + bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_SPACES = {
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "devpipe": "urn:devpipe:provenance:1",
}
_FIELDS = {
    f"{_SPACES['Iptc4xmpExt']} DigitalSourceType": "source_type",
    f"{_SPACES['xmp']} CreatorTool": "made_by",
    f"{_SPACES['dc']} description": "note",
    f"{_SPACES['devpipe']} request": "request",
}
_PNG_KEPT = re.compile(rb"[A-Z]|tRNS|gAMA|cHRM|sRGB|iCCP|sBIT|bKGD|pHYs|cICP|acTL|fcTL|fdAT")
_JPEG_WORDS = {0xFE, *range(0xE1, 0xF0)} - {
    0xE2,
    0xEE,
}  # comments and applications' own, but colours
_GIF_KEPT = (
    b",",
    b"!\xf9",
    b"!\xff\x0bNETSCAPE2.0",
)  # pictures, their pauses, how often they are repeated
_RIFF_KEPT = (
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
    b"ANMF",
    b"ICCP",
    b"fmt ",
    b"fact",
    b"data",
)
_CONTAINERS = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made a file, from what.

    `request` is JSON, None where the workspace writes the mark alone.
    """

    source_type: str  # BY_PROCEDURE or BY_MODEL
    made_by: str  # e.g. devpipe procedural/sketch
    note: str = ""  # for people
    request: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in (
            "source_type",
            "made_by",
            "note",
        ):  # our own sentences: what XML cannot carry is no loss there
            object.__setattr__(self, name, _NOT_XML.sub("\ufffd", getattr(self, name)))


def stamp(data: bytes, media_type: str, provenance: Provenance) -> bytes:
    """The same file, saying where it comes from; an earlier stamp is replaced.

    PNG, JPEG, WEBP, WAV and MP4 can carry it; other bytes come back as they are. A request too long
    for the
    file (256 KB, 64 KB in a JPEG) is left out, the mark stays.
    """
    if media_type not in _KINDS or sniff(data) != media_type:
        return data
    packet = _packet(provenance)
    if len(packet) > (_MAX_JPEG_PACKET if media_type == "image/jpeg" else _MAX_PACKET):
        packet = _packet(replace(provenance, request=None))
    return _KINDS[media_type][0](data, packet)


def read(data: bytes) -> Provenance | None:
    """What a file says of itself; None where it says nothing, or nothing that can be read
    safely.
    """
    kind = sniff(data)
    packet = _KINDS[kind][1](data) if kind in _KINDS else None
    if packet is None or len(packet) > _MAX_PACKET:
        return None
    try:
        fields = _parsed(packet)
    except (expat.ExpatError, ValueError, LookupError):  # the last two: unknown encodings, too
        return None
    if not fields.get("source_type"):
        return None
    return Provenance(
        fields["source_type"],
        fields.get("made_by", ""),
        fields.get("note", ""),
        _request(fields.get("request", "")),
    )


def bare(data: bytes) -> bytes:
    """The same picture, film or sound without what others wrote into it: no texts, tags or
    comments. Nothing is encoded again.

    A server's note holds the prompt and the name of its job: it would carry a child's text out, and
    equal requests would not give
    equal files. Films and sounds but WAV need PyAV, else Unavailable; so are those that it cannot
    read.
    """
    match kind := sniff(data):
        case "image/png":
            return data[:8] + b"".join(
                data[start:end]
                for start, end in png_chunks(data)
                if _PNG_KEPT.match(data, start + 4)
            )
        case "image/jpeg":
            found = list(jpeg_segments(data))
            kept = b"".join(
                data[start:end] for start, end in found if data[start + 1] not in _JPEG_WORDS
            )
            return data[:2] + kept + data[max(found, default=(0, 2))[1] :]
        case "image/webp" | "audio/wav":
            chunks = [
                (name, data[at : at + size])
                for name, at, size in riff_chunks(data)
                if name in _RIFF_KEPT
            ]
            plain = [
                (name, bytes([one[0] & ~0x0C]) + one[1:] if name == b"VP8X" else one)
                for name, one in chunks
            ]  # no EXIF, no XMP
            return riff(data[8:12], plain)
        case "image/gif":
            blocks = [data[start:end] for start, end in gif_blocks(data)]
            return (
                data[: gif_head(data)]
                + b"".join(one for one in blocks if one.startswith(_GIF_KEPT))
                + b";"
            )
    return _remuxed(data, _CONTAINERS[kind]) if kind in _CONTAINERS else data


def _remuxed(data: bytes, container: str) -> bytes:
    """The same packets in a new container of the same kind."""
    av, out = remuxer(), io.BytesIO()
    try:
        with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container) as target:
            target.flags |= av.container.Flags.bitexact.value  # no time, no random number
            seen = [one for one in source.streams if one.type in ("video", "audio")]
            streams = {one.index: target.add_stream_from_template(one, opaque=True) for one in seen}
            for stream in streams.values():
                stream.metadata.clear()
            for packet in source.demux():
                if packet.stream.index in streams and packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise Unavailable(
            f"What is written into this {container} file cannot be taken out: {error}.",
            hint="Make pictures instead.",
        ) from error
    if not out.getvalue():
        raise Unavailable(
            f"This {container} file holds nothing that can be played.", hint="Try again."
        )
    return out.getvalue()


def plays(data: bytes) -> bool:
    """Whether a film or a sound can be opened and holds something; True where nobody can tell for
    want of PyAV.
    """
    try:
        av = remuxer()
    except Unavailable:
        return True
    try:
        with av.open(io.BytesIO(data)) as file:
            return any(packet.size for packet in file.demux())
    except (av.FFmpegError, ValueError):
        return False


def remuxer() -> Any:
    """PyAV. Raises Unavailable that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise Unavailable(
            "Films and sounds without their makers' notes need PyAV.",
            hint="Run `pip install devpipe[video]`.",
        ) from error
    return av


def _packet(provenance: Provenance) -> bytes:
    names = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in _SPACES.items())
    note = f'<rdf:Alt><rdf:li xml:lang="x-default">{_text(provenance.note)}</rdf:li></rdf:Alt>'
    request = _json(provenance.request)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description'
        f' rdf:about=""{names}>\n'
        f"<Iptc4xmpExt:DigitalSourceType>{_text(provenance.source_type)}</Iptc4xmpExt:DigitalSourceType>\n"
        f"<xmp:CreatorTool>{_text(provenance.made_by)}</xmp:CreatorTool>\n"
        f"<dc:description>{note}</dc:description>\n"
        + (f"<devpipe:request>{_text(request)}</devpipe:request>\n" if request else "")
        + '</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    ).encode()


def _text(value: str) -> str:
    return escape(value, {"\r": "&#13;"})


def _json(request: dict[str, Any] | None) -> str:
    if request is None:
        return ""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # JSON's own escapes carry what XML forbids: lone surrogates, U+FFFE (control characters are
    # escaped already).
    text = _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if len(text.encode()) <= MAX_REQUEST_BYTES else ""


def _refused(*_: object) -> NoReturn:
    """JSON knows no NaN, XMP no document type: only an attack on the parser has one."""
    raise ValueError


def _parsed(packet: bytes) -> dict[str, str]:
    """Our fields of an XMP packet, whether written as elements or (exiftool does so) as
    attributes.
    """
    fields: dict[str, str] = {}
    path: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        fields.update({_FIELDS[key]: value for key, value in attributes.items() if key in _FIELDS})

    def text(value: str) -> None:
        owner = path[-3] if path[-1] == f"{_RDF} li" and len(path) > 2 else path[-1]
        field = _FIELDS.get(owner)
        if field and (field == "note") == (
            owner != path[-1]
        ):  # a description's text stands in its list item
            fields[field] = fields.get(field, "") + value

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = (
        start,
        text,
        _refused,
    )
    parser.EndElementHandler = lambda name: path.pop()
    parser.buffer_text = True
    parser.Parse(packet, True)
    return fields


def _request(text: str) -> dict[str, Any] | None:
    if not text or len(text.encode("utf-8", "replace")) > MAX_REQUEST_BYTES:
        return None
    try:
        value = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):  # ValueError also for integers of thousands of digits
        return None
    return value if isinstance(value, dict) and _shallow(value, MAX_DEPTH) else None


def _shallow(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_shallow(item, depth - 1) for item in inner)


def _write_png(data: bytes, packet: bytes) -> bytes:
    body = _PNG_KEY + b"\0\0\0\0" + packet
    ours = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    pieces, end = [data[:8]], 8
    for start, end in png_chunks(data):
        if data.startswith(b"IDAT", start + 4) and ours:
            pieces.append(ours)
            ours = b""
        if not data.startswith(_PNG_KEY, start + 4):
            pieces.append(data[start:end])
    return b"".join([*pieces, data[end:]])


def _read_png(data: bytes) -> bytes | None:
    for start, end in png_chunks(data):
        at = start + 4 + len(_PNG_KEY)
        if data.startswith(_PNG_KEY, start + 4) and data[at] == 0:  # a compressed one is not ours
            return data[at + 2 : end - 4].split(b"\0", 2)[-1]
    return None


def _riff_without(data: bytes, dropped: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, data[at : at + size]) for name, at, size in riff_chunks(data) if name != dropped]


def _write_webp(data: bytes, packet: bytes) -> bytes:
    chunks = _riff_without(data, b"XMP ")
    if not chunks or len(chunks[0][1]) < 5 or 0 in size_of(data):
        return data
    if chunks[0][0] != b"VP8X":
        has_alpha = chunks[0][0] == b"VP8L" and chunks[0][1][4] & 0x10  # its header's bit 28
        sides = b"".join((side - 1).to_bytes(3, "little") for side in size_of(data))
        chunks.insert(0, (b"VP8X", bytes([0x10 if has_alpha else 0, 0, 0, 0]) + sides))
    flags = chunks[0][1]
    chunks[0] = (b"VP8X", bytes([flags[0] | 0x04]) + flags[1:])
    return riff(b"WEBP", [*chunks, (b"XMP ", packet)])


def _write_wav(data: bytes, packet: bytes) -> bytes:
    return riff(b"WAVE", [*_riff_without(data, b"_PMX"), (b"_PMX", packet)])


def _read_riff(data: bytes) -> bytes | None:
    return next(
        (
            data[at : at + size]
            for name, at, size in riff_chunks(data)
            if name in (b"XMP ", b"_PMX")
        ),
        None,
    )


def _write_jpeg(data: bytes, packet: bytes) -> bytes:
    ours = b"\xff\xe1" + struct.pack(">H", len(_JPEG_KEY) + len(packet) + 2) + _JPEG_KEY + packet
    leading: list[bytes] = [data[:2]]
    rest: list[bytes] = []
    end = 2
    for start, end in jpeg_segments(data):
        if data.startswith(_JPEG_KEY, start + 4):
            continue
        # JFIF and Exif must stay in front of it.
        first = not rest and (data[start + 1] == 0xE0 or data.startswith(b"Exif\0", start + 4))
        (leading if first else rest).append(data[start:end])
    return b"".join([*leading, ours, *rest, data[end:]])


def _read_jpeg(data: bytes) -> bytes | None:
    at = 4 + len(_JPEG_KEY)
    return next(
        (
            data[start + at : end]
            for start, end in jpeg_segments(data)
            if data.startswith(_JPEG_KEY, start + 4)
        ),
        None,
    )


def _write_mp4(data: bytes, packet: bytes) -> bytes:
    last = max(mp4_boxes(data), default=(0, 0))
    if (
        last[1] != len(data) or data[last[0] : last[0] + 4] == b"\0\0\0\0"
    ):  # cut off, or open-ended: nothing can follow
        return data
    # Only a box at the end may go: offsets into the film would shift behind any other.
    film = data[: last[0]] if data.startswith(_MP4_KEY, last[0] + 4) else data
    return film + struct.pack(">I", 24 + len(packet)) + _MP4_KEY + packet


def _read_mp4(data: bytes) -> bytes | None:
    found = [
        data[start + 24 : end]
        for start, end in mp4_boxes(data)
        if data.startswith(_MP4_KEY, start + 4)
    ]
    return found[-1] if found else None


_KINDS: Mapping[str, tuple[Callable[[bytes, bytes], bytes], Callable[[bytes], bytes | None]]] = {
    "image/png": (_write_png, _read_png),
    "image/webp": (_write_webp, _read_riff),
    "image/jpeg": (_write_jpeg, _read_jpeg),
    "audio/wav": (_write_wav, _read_riff),
    "video/mp4": (_write_mp4, _read_mp4),
}
