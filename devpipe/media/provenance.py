"""What a file says of itself: made by a procedure or a model, by which, and from which request.

One XMP packet is spliced into the bytes; pixels and samples are not encoded again. It carries
neither a run's id nor a time, so that equal requests give equal files. The terms are those of IPTC,
which browsers, exiftool and image search read: https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
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
# Comments and what applications write; not what says how to read the colours (ICC, Adobe).
_JPEG_WORDS = {0xFE, *range(0xE1, 0xF0)} - {0xE2, 0xEE}
# Pictures, their pauses, how often they are repeated.
_GIF_KEPT = (b",", b"!\xf9", b"!\xff\x0bNETSCAPE2.0")
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
# Flags in the head of a WEBP, VP8X.
_WEBP_ALPHA = 0x10
_WEBP_EXIF = 0x08
_WEBP_XMP = 0x04
# The names that PyAV gives to the containers it copies.
_REMUXED = {
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
        # Our own sentences: what XML cannot carry is no loss there.
        for name in ("source_type", "made_by", "note"):
            object.__setattr__(self, name, _NOT_XML.sub("\ufffd", getattr(self, name)))


def stamp(data: bytes, media_type: str, provenance: Provenance) -> bytes:
    """The same file, saying where it comes from; an earlier stamp is replaced.

    PNG, JPEG, WEBP, WAV and MP4 can carry it; other bytes come back as they are. A request too long
    for the file (256 KB, 64 KB in a JPEG) is left out, the mark stays.
    """
    carrier = _CARRIERS.get(media_type)
    if carrier is None or sniff(data) != media_type:
        return data
    packet = _packet(provenance)
    if len(packet) > carrier.longest:
        packet = _packet(replace(provenance, request=None))
    return carrier.write(data, packet)


def read(data: bytes) -> Provenance | None:
    """What a file says of itself; None where it says nothing that can be read safely."""
    carrier = _CARRIERS.get(sniff(data))
    packet = carrier.read(data) if carrier else None
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
    """The same picture, film or sound without what others wrote into it: texts, tags, comments.

    Nothing is encoded again. A server's note holds the prompt and the name of its job: it would
    carry a child's text out, and equal requests would not give equal files. Films and sounds but
    WAV need PyAV, else Unavailable; so are those that it cannot read.
    """
    match kind := sniff(data):
        case "image/png":
            return _bare_png(data)
        case "image/jpeg":
            return _bare_jpeg(data)
        case "image/webp" | "audio/wav":
            return _bare_riff(data)
        case "image/gif":
            return _bare_gif(data)
    if kind in _REMUXED:
        return _remuxed(data, _REMUXED[kind])
    return data


def _bare_png(data: bytes) -> bytes:
    pieces = [data[:8]]
    for start, end in png_chunks(data):
        if _PNG_KEPT.match(data, start + 4):
            pieces.append(data[start:end])
    return b"".join(pieces)


def _bare_jpeg(data: bytes) -> bytes:
    pieces = [data[:2]]
    end = 2
    for start, end in jpeg_segments(data):
        if data[start + 1] not in _JPEG_WORDS:
            pieces.append(data[start:end])
    return b"".join([*pieces, data[end:]])


def _bare_riff(data: bytes) -> bytes:
    chunks = []
    for name, content in _riff_contents(data):
        if name == b"VP8X":
            content = _plain_head(content)
        if name in _RIFF_KEPT:
            chunks.append((name, content))
    return riff(data[8:12], chunks)


def _plain_head(head: bytes) -> bytes:
    """The head of a WEBP without its flags for EXIF and XMP; an empty one stays empty."""
    if not head:
        return head
    flags = head[0] & ~(_WEBP_EXIF | _WEBP_XMP)
    return bytes([flags]) + head[1:]


def _bare_gif(data: bytes) -> bytes:
    blocks = [data[start:end] for start, end in gif_blocks(data)]
    kept = [block for block in blocks if block.startswith(_GIF_KEPT)]
    return data[: gif_head(data)] + b"".join(kept) + b";"


def _remuxed(data: bytes, container: str) -> bytes:
    """The same packets in a new container of the same kind."""
    av = remuxer()
    out = io.BytesIO()
    try:
        with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container) as target:
            target.flags |= av.container.Flags.bitexact.value  # no time, no random number
            _copy_packets(source, target)
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


def _copy_packets(source: Any, target: Any) -> None:
    """Film and sound go from one PyAV container into another; their metadata does not."""
    streams = {}
    for one in source.streams:
        if one.type in ("video", "audio"):
            stream = target.add_stream_from_template(one, opaque=True)
            stream.metadata.clear()
            streams[one.index] = stream
    for packet in source.demux():
        if packet.stream.index in streams and packet.dts is not None:
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


def plays(data: bytes) -> bool:
    """Whether a film or a sound can be opened and holds something; True without PyAV."""
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
            hint='Run `pip install "devpipe-lab[video]"`.',
        ) from error
    return av


def _packet(provenance: Provenance) -> bytes:
    names = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in _SPACES.items())
    note = f'<rdf:Alt><rdf:li xml:lang="x-default">{_text(provenance.note)}</rdf:li></rdf:Alt>'
    request = _json(provenance.request)
    lines = [
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>',
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description'
        f' rdf:about=""{names}>',
        f"<Iptc4xmpExt:DigitalSourceType>{_text(provenance.source_type)}"
        "</Iptc4xmpExt:DigitalSourceType>",
        f"<xmp:CreatorTool>{_text(provenance.made_by)}</xmp:CreatorTool>",
        f"<dc:description>{note}</dc:description>",
    ]
    if request:
        lines.append(f"<devpipe:request>{_text(request)}</devpipe:request>")
    lines.append('</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>')
    return "\n".join(lines).encode()


def _text(value: str) -> str:
    return escape(value, {"\r": "&#13;"})


def _json(request: dict[str, Any] | None) -> str:
    if request is None:
        return ""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # JSON's own escapes carry what XML forbids: lone surrogates, U+FFFE. Control characters are
    # escaped already.
    text = _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if len(text.encode()) <= MAX_REQUEST_BYTES else ""


def _refused(*_: object) -> NoReturn:
    """JSON knows no NaN, XMP no document type: only an attack on the parser has one."""
    raise ValueError


class _Packet:
    """Our fields of an XMP packet, as the parser comes upon them.

    They may be written as elements or, as exiftool does, as attributes.
    """

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._path: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        for attribute, value in attributes.items():
            if attribute in _FIELDS:
                self.fields[_FIELDS[attribute]] = value

    def text(self, value: str) -> None:
        in_list = self._path[-1] == f"{_RDF} li" and len(self._path) > 2
        owner = self._path[-3] if in_list else self._path[-1]
        field = _FIELDS.get(owner)
        if field is None:
            return
        if (field == "note") == in_list:  # a description's text stands in its list item
            self.fields[field] = self.fields.get(field, "") + value

    def end(self, name: str) -> None:
        self._path.pop()


def _parsed(packet: bytes) -> dict[str, str]:
    """Our fields of an XMP packet."""
    found = _Packet()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = found.start
    parser.CharacterDataHandler = found.text
    parser.EndElementHandler = found.end
    parser.StartDoctypeDeclHandler = _refused
    parser.buffer_text = True
    parser.Parse(packet, True)
    return found.fields


def _request(text: str) -> dict[str, Any] | None:
    if not text or len(text.encode("utf-8", "replace")) > MAX_REQUEST_BYTES:
        return None
    try:
        value = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):  # ValueError also for integers of thousands of digits
        return None
    return value if isinstance(value, dict) and _shallow(value, MAX_DEPTH) else None


def _shallow(value: object, depth: int) -> bool:
    """Whether lists and objects are nested less than `depth` times."""
    if depth <= 0:
        return False
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return all(_shallow(item, depth - 1) for item in value)
    return True


def _write_png(data: bytes, packet: bytes) -> bytes:
    """The packet goes before the first piece of the picture."""
    body = _PNG_KEY + b"\0\0\0\0" + packet
    ours = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    pieces = [data[:8]]
    written = False
    end = 8
    for start, end in png_chunks(data):
        if data.startswith(b"IDAT", start + 4) and not written:
            pieces.append(ours)
            written = True
        if not data.startswith(_PNG_KEY, start + 4):
            pieces.append(data[start:end])
    return b"".join([*pieces, data[end:]])


def _read_png(data: bytes) -> bytes | None:
    for start, end in png_chunks(data):
        at = start + 4 + len(_PNG_KEY)
        if data.startswith(_PNG_KEY, start + 4) and data[at] == 0:  # a compressed one is not ours
            return data[at + 2 : end - 4].split(b"\0", 2)[-1]
    return None


def _riff_contents(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for name, at, size in riff_chunks(data):
        yield name, data[at : at + size]


def _riff_without(data: bytes, dropped: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, content) for name, content in _riff_contents(data) if name != dropped]


def _write_webp(data: bytes, packet: bytes) -> bytes:
    """The packet goes to the end; the head, which a plain WEBP lacks, says that it is there."""
    width, height = size_of(data)
    chunks = _riff_without(data, b"XMP ")
    if not chunks or not width or not height:
        return data
    name, content = chunks[0]
    if len(content) < 5:
        return data
    if name == b"VP8X":
        head = content
        chunks = chunks[1:]
    else:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        head = bytes([_webp_alpha(name, content), 0, 0, 0]) + sides
    head = bytes([head[0] | _WEBP_XMP]) + head[1:]
    return riff(b"WEBP", [(b"VP8X", head), *chunks, (b"XMP ", packet)])


def _webp_alpha(name: bytes, content: bytes) -> int:
    """The head's flag for transparency, as the picture itself tells it."""
    is_lossless = name == b"VP8L"
    return _WEBP_ALPHA if is_lossless and content[4] & 0x10 else 0  # bit 28 of its own head


def _write_wav(data: bytes, packet: bytes) -> bytes:
    return riff(b"WAVE", [*_riff_without(data, b"_PMX"), (b"_PMX", packet)])


def _read_riff(data: bytes) -> bytes | None:
    for name, content in _riff_contents(data):
        if name in (b"XMP ", b"_PMX"):
            return content
    return None


def _write_jpeg(data: bytes, packet: bytes) -> bytes:
    """The packet goes behind JFIF and Exif, which must stay in front."""
    length = len(_JPEG_KEY) + len(packet) + 2
    ours = b"\xff\xe1" + struct.pack(">H", length) + _JPEG_KEY + packet
    leading = [data[:2]]
    rest: list[bytes] = []
    end = 2
    for start, end in jpeg_segments(data):
        if data.startswith(_JPEG_KEY, start + 4):
            continue
        is_head = data[start + 1] == 0xE0 or data.startswith(b"Exif\0", start + 4)
        if is_head and not rest:
            leading.append(data[start:end])
        else:
            rest.append(data[start:end])
    return b"".join([*leading, ours, *rest, data[end:]])


def _read_jpeg(data: bytes) -> bytes | None:
    for start, end in jpeg_segments(data):
        if data.startswith(_JPEG_KEY, start + 4):
            return data[start + 4 + len(_JPEG_KEY) : end]
    return None


def _write_mp4(data: bytes, packet: bytes) -> bytes:
    boxes = list(mp4_boxes(data))
    if not boxes:
        return data
    start, end = boxes[-1]
    open_ended = data.startswith(b"\0\0\0\0", start)
    if end != len(data) or open_ended:  # cut off, or nothing can follow
        return data
    # Only a box at the end may go: offsets into the film would shift behind any other.
    film = data[:start] if data.startswith(_MP4_KEY, start + 4) else data
    return film + struct.pack(">I", 24 + len(packet)) + _MP4_KEY + packet


def _read_mp4(data: bytes) -> bytes | None:
    packet = None
    for start, end in mp4_boxes(data):
        if data.startswith(_MP4_KEY, start + 4):
            packet = data[start + 24 : end]
    return packet


@dataclass(frozen=True, slots=True)
class _Carrier:
    """How a kind of file carries a packet: written into its bytes, and read from them."""

    write: Callable[[bytes, bytes], bytes]
    read: Callable[[bytes], bytes | None]
    longest: int = _MAX_PACKET


_CARRIERS: Mapping[str, _Carrier] = {
    "image/png": _Carrier(_write_png, _read_png),
    "image/webp": _Carrier(_write_webp, _read_riff),
    "image/jpeg": _Carrier(_write_jpeg, _read_jpeg, _MAX_JPEG_PACKET),
    "audio/wav": _Carrier(_write_wav, _read_riff),
    "video/mp4": _Carrier(_write_mp4, _read_mp4),
}
