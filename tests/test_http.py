"""The wire: streams in any pieces, errors in any shape, limits, and a key that goes to one server
only.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gc
import gzip
import json
import logging
import os
import re
import subprocess
import sys
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devpipe import errors
from devpipe.backends.http import (
    CHAT,
    MAX_ANSWER,
    MAX_ERROR,
    QUICK,
    Answer,
    Http,
    Timeouts,
    TooLarge,
    base_url,
)
from devpipe.backends.streams import MAX_LINE, NdjsonReader, ServerSentEvent, SseReader, json_object
from devpipe.backends.vendor_errors import MAX_MESSAGE, retry_after, vendor_error
from devpipe.errors import BackendError, CutOff, RateLimited, Rejected, Unavailable, UsageError

WIRE = Path(__file__).parent / "wire"
SAMPLES: list[dict[str, Any]] = json.loads(WIRE.joinpath("samples.json").read_text("utf-8"))
STREAMS = [
    sample
    for sample in SAMPLES
    if sample["status"] == 200
    and sample["file"].endswith(("json", ".sse"))
    and sample["call"] == "chat"
]
ERRORS = [sample for sample in SAMPLES if sample["status"] >= 400]
KEY = "sk-or-v1-Zq7XhT2mPw9LkRb4"
SOON = Timeouts(0.5, 60)


class Body(httpx.AsyncByteStream):
    """An answer's body in given pieces; an exception among them is raised there, and `closed` says
    whether it was let go.
    """

    def __init__(self, *pieces: bytes | Exception, forever: bytes = b"") -> None:
        self.pieces, self.forever, self.given, self.closed = pieces, forever, 0, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            self.given += 1
            yield piece
        while self.forever:
            await asyncio.sleep(0)
            self.given += 1
            yield self.forever

    async def aclose(self) -> None:
        self.closed = True


class Silent(Body):
    """Pieces, and then nothing more for ever."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in super().__aiter__():
            yield piece
        await asyncio.Event().wait()


class Server:
    """Answers every request alike, and keeps what it was asked."""

    def __init__(
        self, body: Any = b"{}", *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body, self.status, self.headers, self.requests = (
            body,
            status,
            dict(headers or {}),
            list[httpx.Request](),
        )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.body, Exception):
            if isinstance(self.body, httpx.RequestError):
                self.body.request = request
            raise self.body
        body = (
            self.body
            if isinstance(self.body, Body)
            else Body(self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode())
        )
        return httpx.Response(self.status, headers=self.headers, stream=body)


def http(
    server: Callable[[httpx.Request], httpx.Response],
    address: str = "https://models.example/v1",
    **more: Any,
) -> Http:
    return Http(
        address,
        name="Probe",
        transport=httpx.MockTransport(server),
        **{"key": KEY, "key_name": "PROBE_KEY"} | more,
    )


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def outcome(stream: AsyncGenerator[Any, None]) -> list[Any]:
    """All it gives, and the error it ends with."""
    found: list[Any] = []
    async with aclosing(stream):
        try:
            async for one in stream:
                found.append(one)
        except BackendError as error:
            found.append((type(error), str(error), error.sent))
    return found


async def read(sample: Mapping[str, Any], size: int) -> list[Any]:
    """What a sample gives in pieces of `size` bytes."""
    server = Server(
        Body(*pieces(WIRE.joinpath(sample["file"]).read_bytes(), size)), headers=sample["headers"]
    )
    async with http(server).stream("/chat", {}, timeouts=CHAT) as answer:
        return await outcome(answer.ndjson() if sample["file"].endswith("ndjson") else answer.sse())


# ---------------------------------------------------------------- the readers


def test_each_sample_is_listed_once_and_there() -> None:
    """samples.json and the folder say the same."""
    files = sorted(
        path.relative_to(WIRE).as_posix() for path in WIRE.rglob("*/*") if path.is_file()
    )
    assert sorted(sample["file"] for sample in SAMPLES) == files
    assert len(SAMPLES) > 100


@pytest.mark.parametrize("sample", STREAMS, ids=lambda sample: sample["file"])
async def test_a_stream_gives_the_same_in_any_pieces(sample: dict[str, Any]) -> None:
    """Whole, in pieces of seven, byte by byte: the same events and the same ending."""
    whole = await read(sample, 2**20)
    assert await read(sample, 7) == whole
    assert await read(sample, 1) == whole
    assert whole or sample["file"].endswith(
        ("empty.ndjson", "empty.sse", "only.sse", "cut_in_comment.sse")
    )


def spec_events(data: bytes) -> list[ServerSentEvent]:
    """The HTML standard's reading of a whole stream, said in another way."""
    text = (
        data.decode("utf-8", "replace")
        .removeprefix("\ufeff")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )
    found, last = [], ""
    for block in re.split(r"(?:(?<=\n)|\A)\n", text)[:-1]:
        fields: dict[str, list[str]] = {"data": [], "event": [""], "id": []}
        for line in block.split("\n")[: -1 if block.endswith("\n") else None]:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value[1:] if value[:1] == " " else value)
        last = [last, *(one for one in fields["id"] if "\0" not in one)][-1]
        if "".join(fields["data"]).strip():
            found.append(
                ServerSentEvent("\n".join(fields["data"]), fields["event"][-1] or "message", last)
            )
    return found


FRAGMENTS = [
    "data: a", "data:  b ", "data:", "event: e", "id: 7", "id: 8\0", "retry: 3", ": comment", "data", ":", " ", "\n", "\n\n", "\r", "\r\r",
    "\r\n", "\r\n\r\n", "\ufeff", "\u2028", "\u0085", "🦊", "\0",
]  # fmt: skip
CUTS = st.lists(st.integers(0, 5), min_size=1, max_size=40).filter(any)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    found, rest = [], data
    while rest:
        size = sizes[len(found) % len(sizes)]
        found.append(rest[:size])
        rest = rest[size:]
    return found


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["", "\ufeff", "\ufeff\ufeff"]),
    st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join),
    CUTS,
    st.binary(max_size=3),
)
def test_any_splitting_of_any_event_stream_reads_as_the_standard_says(
    mark: str, text: str, sizes: list[int], noise: bytes
) -> None:
    """Also in the middle of a line end, a character or a byte order mark."""
    data = f"{mark}{text}".encode() + noise + b"\ndata: last\n\n"
    reader = SseReader("Probe")
    assert [event for piece in cut(data, sizes) for event in reader.feed(piece)] == spec_events(
        data
    )


VALUES = st.dictionaries(
    st.text(max_size=5), st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(VALUES, max_size=6),
    CUTS,
    st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
    st.booleans(),
)
def test_any_splitting_of_json_lines_gives_the_same_objects(
    values: list[dict[str, str]], sizes: list[int], end: str, ended: bool
) -> None:
    """Texts with any character, line ends of any kind, the last one with or without."""
    text = end.join(json.dumps(value, ensure_ascii=False) for value in values) + (
        end if ended else ""
    )
    reader = NdjsonReader("Probe")
    found = [one for piece in cut(text.encode(), sizes) for one in reader.feed(piece)]
    assert [*found, *reader.end()] == values


def test_an_event_comes_with_the_byte_that_ends_it() -> None:
    """Nothing waits for a next event: also where CR alone ends the line."""
    for end in ("\n", "\r\n", "\r"):
        reader = SseReader("Probe")
        given = list(reader.feed(f"data: a{end}{end[:1]}".encode()))
        assert given == [ServerSentEvent("a")]
        assert list(reader.feed(f"{end[1:]}data: b{end}{end}".encode())) == [ServerSentEvent("b")]


def test_a_line_end_and_a_mark_count_once() -> None:
    """CR and LF in two pieces are one end, and the LF after them another; a byte order mark is one
    at the start only.
    """
    reader = SseReader("Probe")
    data = "\ufeffdata: a\r\n\ndata: b\n\n\ufeffdata: c\n\n\ndata: d\r\n\r\n".encode()
    assert [event.data for byte in data for event in reader.feed(bytes([byte]))] == ["a", "b", "d"]
    assert list(NdjsonReader("Probe").feed(b'\xef\xbb\xbf{"a":1}\n')) == [{"a": 1}]


def test_an_event_that_is_not_ended_is_never_given() -> None:
    """Half an event must not look complete."""
    assert not list(SseReader("Probe").feed(b'data: {"choices":[{"finish_reason":"stop"}]}\n'))


def test_half_an_object_at_the_end_is_cut_off_and_a_whole_one_counts() -> None:
    """A last line without line end is read if it is whole."""
    reader = NdjsonReader("Probe")
    assert not list(reader.feed(b'{"done":true}'))
    assert list(reader.end()) == [{"done": True}]
    reader = NdjsonReader("Probe")
    assert list(reader.feed(b'{"a":1}\n{"done":tr')) == [{"a": 1}]
    with pytest.raises(CutOff, match="middle"):
        list(reader.end())


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"null",
        b"half {",
        b"7",
        b'{"a":}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b"\xff\xfe",
    ],
)
def test_what_is_not_an_object_is_named(line: bytes) -> None:
    """Also lists, deep nests and numbers without end, which Python's reader answers in ways of its
    own.
    """
    reader = NdjsonReader("Probe")
    with pytest.raises(
        Unavailable, match="Probe sent something that is not a JSON object"
    ) as caught:
        list(reader.feed(line + b"\n"))
    assert caught.value.sent


def test_a_json_text_can_always_be_written_again() -> None:
    """Half an emoji becomes U+FFFD, a whole one stays; NaN is no number."""
    found = json_object(
        '{"a": "\\ud83e\\udd8a", "b": "x\\uD83Dy", "c": NaN, "d": "\\\\ud83d"}', name="Probe"
    )
    assert found == {"a": "🦊", "b": "x\ufffdy", "c": None, "d": "\\ud83d"}
    assert json.dumps(found, ensure_ascii=False).encode()
    assert json_object('{"a": "\\uDD8A"}', name="Probe") == {"a": "\ufffd"}


# ---------------------------------------------------------------- limits and time


@pytest.mark.parametrize("reader", [NdjsonReader, SseReader])
@pytest.mark.parametrize("size", [2**16, 2**30])
def test_a_line_without_end_is_not_kept(reader: type[NdjsonReader | SseReader], size: int) -> None:
    """In pieces or at once, ended or not: more than MAX_LINE bytes are refused."""
    line = b"data: " + b"x" * MAX_LINE
    for data in (line, line + b"\n\n"):
        reading = reader("Probe")
        with pytest.raises(CutOff, match="more than 8 MiB"):
            for piece in pieces(data, size):
                list(reading.feed(piece))


def test_an_event_of_many_lines_is_bounded_too() -> None:
    """The limit holds for all data of one event, and begins anew with the next."""
    reader, line = SseReader("Probe"), b"data: " + b"x" * 2**20 + b"\n"
    for _ in range(3):
        assert [len(event.data) for event in reader.feed(line * 7 + b"\n")] == [7 * 2**20 + 6]
    with pytest.raises(CutOff, match="more than 8 MiB"):
        list(reader.feed(line * 9))


async def test_an_answer_without_end_is_left_at_its_limit() -> None:
    """What came before stays; the connection is closed."""
    body = Body(b"data: first\n\n", forever=b": " + b"x" * 2**20 + b"\n")
    async with http(Server(body)).stream("/chat", {}, timeouts=CHAT) as answer:
        found = await outcome(answer.sse())
    assert found == [
        ServerSentEvent("first"),
        (TooLarge, "Probe sent more than 65536 KiB. Try again, or choose another model.", True),
    ]
    assert body.given <= MAX_ANSWER // 2**20 + 2
    assert body.closed


async def test_an_error_page_without_end_is_read_only_in_part() -> None:
    """The status is enough; the first bytes explain it."""
    body = Body(b"out of order ", forever=b"x" * 1000)
    with pytest.raises(Unavailable, match="Probe answered 500: out of order x"):
        await http(Server(body, status=500)).get_json("/models")
    assert body.given <= MAX_ERROR // 1000 + 2
    assert body.closed


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_an_encoded_answer_is_refused_unread(status: int) -> None:
    """We ask for none, and unpack none: a small one may be a bomb."""
    body = Body(gzip.compress(b"x" * 100_000))
    server = Server(body, status=status, headers={"content-encoding": "gzip, gzip"})
    with pytest.raises(BackendError) as caught:
        await http(server).get_json("/models")
    assert isinstance(caught.value, Rejected if status == 400 else Unavailable)
    assert (body.given, body.closed) == (0, True)
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_drip_ends_with_the_total_time() -> None:
    """Bytes that come again and again do not prolong it."""
    body = Body(b"data: first\n\n", forever=b": still here\n\n")
    async with http(Server(body)).stream("/chat", {}, timeouts=Timeouts(60, 0.5)) as answer:
        found = await outcome(answer.sse())
    assert found == [
        ServerSentEvent("first"),
        (CutOff, "The answer of Probe took too long. Try again, or choose another model.", True),
    ]
    assert body.given > 10


@pytest.mark.parametrize(("first", "kind"), [([], Unavailable), ([b"data: a\n\n"], CutOff)])
async def test_silence_ends_with_the_total_time(
    first: list[bytes], kind: type[BackendError]
) -> None:
    """Before the first byte another backend may do it; after it the answer is cut off.

    Both may be charged.
    """
    body = Silent(*first)
    async with http(Server(body)).stream("/chat", {}, timeouts=Timeouts(60, 0.5)) as answer:
        found = await outcome(answer.sse())
    assert found[-1] == (
        kind,
        "The answer of Probe took too long. Try again, or choose another model.",
        True,
    )
    assert body.closed


async def test_the_words_of_an_error_are_not_waited_for_long() -> None:
    """The status is known: a body that stalls after its first words does not keep the run for
    minutes.
    """
    body = Silent(b"over")
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable, match="Probe answered 503: over"):
            await http(Server(body, status=503)).post_json("/chat", {}, timeouts=Timeouts(120, 600))
    assert body.closed


async def test_a_server_that_never_begins_to_answer_ends_with_the_total_time() -> None:
    """The deadline holds before the answer, too."""
    begun = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Unavailable, match="took too long to answer") as caught:
        await Http("http://m", name="Probe", transport=httpx.MockTransport(never)).post_json(
            "/x", {}, timeouts=Timeouts(60, 0.5)
        )
    assert begun.is_set()
    assert caught.value.sent


async def test_times_are_those_of_the_operation() -> None:
    """httpx is told them for each request; its own default of 5 s would cut every slow
    model off.
    """
    server = Server()
    await http(server).post_json(
        "/chat", {}, timeouts=Timeouts(120, 600, connect=4, write=3, pool=2)
    )
    assert server.requests[0].extensions["timeout"] == {
        "connect": 4,
        "read": 120,
        "write": 3,
        "pool": 2,
    }


UNSENT = [
    httpx.ConnectError("[Errno 111] refused"),
    httpx.ConnectTimeout(""),
    httpx.PoolTimeout(""),
    httpx.ProxyError("503 from the proxy"),
]
MAYBE_SENT = [
    httpx.ReadTimeout("slow"), httpx.WriteTimeout("slow"), httpx.ReadError("reset"), httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."), ConnectionResetError(104, "reset"), TimeoutError(),
]  # fmt: skip


@pytest.mark.parametrize("fault", [*UNSENT, *MAYBE_SENT], ids=lambda fault: type(fault).__name__)
async def test_nobody_pays_twice_because_it_is_known_whether_a_request_may_have_left(
    fault: Exception,
) -> None:
    """Before the connection stood, nothing was sent; afterwards it may have been.

    No request is repeated.
    """
    server = Server(fault)
    with pytest.raises(Unavailable) as caught:
        await http(server, start="Run `probe serve`.").post_json("/chat", {"a": 1}, timeouts=CHAT)
    assert caught.value.sent is (fault in MAYBE_SENT)
    assert len(server.requests) == 1
    assert ("cannot be reached at https://models.example/v1" in str(caught.value)) is (
        fault in UNSENT
    )
    assert ("probe serve" in str(caught.value)) is (fault in UNSENT)
    assert ("did not answer in time" in str(caught.value)) is isinstance(
        fault, httpx.ConnectTimeout | httpx.PoolTimeout
    )


@pytest.mark.parametrize(
    "fault",
    [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("incomplete"), ConnectionResetError()],
)
@pytest.mark.parametrize("first", [[], [b"data: a\n\n"]])
async def test_a_lost_answer_is_cut_off_once_it_has_begun(
    fault: Exception, first: list[bytes]
) -> None:
    """What came is given first."""
    body = Body(*first, fault)
    async with http(Server(body)).stream("/chat", {}, timeouts=CHAT) as answer:
        found = await outcome(answer.sse())
    assert found[:-1] == [ServerSentEvent("a")] * len(first)
    assert found[-1][0] is (CutOff if first else Unavailable)
    assert found[-1][2] is True
    assert body.closed


# ---------------------------------------------------------------- one answer


async def test_leaving_the_block_closes_the_connection() -> None:
    """By a break, by an error of the caller, and by a cancel; the caller's error stays what
    it was.
    """
    bodies = [Silent(b"data: a\n\n") for _ in range(3)]
    async with (
        http(Server(bodies[0])).stream("/chat", {}, timeouts=CHAT) as answer,
        aclosing(answer.sse()) as events,
    ):
        assert await anext(events) == ServerSentEvent("a")
        assert not bodies[0].closed
    with pytest.raises(ZeroDivisionError):
        async with http(Server(bodies[1])).stream("/chat", {}, timeouts=CHAT) as answer:
            raise ZeroDivisionError
    reading = asyncio.create_task(take(http(Server(bodies[2])), came := asyncio.Event()))
    await came.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert [body.closed for body in bodies] == [True, True, True]


async def take(server: Http, came: asyncio.Event) -> None:
    async with server.stream("/chat", {}, timeouts=CHAT) as answer:
        async for _ in answer.sse():
            came.set()


async def test_what_is_posted_is_json() -> None:
    """As the body says, also with half an emoji in it; the answer's status and headers are
    there.
    """
    server = Server(Body(b"data: a\n\n"), headers={"X-Generation": "7"})
    async with http(server, headers={"x-title": "devpipe"}).stream(
        "/chat", {"text": "Füchse \ud83d"}, timeouts=CHAT
    ) as answer:
        assert (answer.status, answer.headers["x-generation"]) == (200, "7")
        assert isinstance(answer, Answer)
    sent = server.requests[0]
    assert (sent.method, str(sent.url), json.loads(sent.content)) == (
        "POST",
        "https://models.example/v1/chat",
        {"text": "Füchse \ud83d"},
    )
    assert (sent.headers["content-type"], sent.headers["x-title"]) == (
        "application/json",
        "devpipe",
    )


async def test_one_json_object_instead_of_a_stream_is_one_event() -> None:
    """Some servers cannot stream, and gateways answer so when they fail."""
    server = Server({"choices": []}, headers={"content-type": "application/json; charset=utf-8"})
    async with http(server).stream("/chat", {}, timeouts=CHAT) as answer:
        assert [json.loads(event.data) async for event in answer.sse()] == [{"choices": []}]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error": "no slot"}', Unavailable), (b'{"error": {"code": 400, "message": "no slot"}}', Rejected),
        (b"<html>", Unavailable), (b"", Unavailable), (b"[]", Unavailable), (b'{"models": [', CutOff),
    ],
)  # fmt: skip
async def test_status_200_is_not_success(body: bytes, kind: type[BackendError]) -> None:
    """An error inside, something else than JSON, or half of it."""
    with pytest.raises(kind):
        await http(Server(body)).get_json("/models")
    page = Body(b"<!doctype html><p>Anmeldung")
    with pytest.raises(Unavailable, match="answered with a web page"):
        async with http(Server(page, headers={"content-type": "text/html"})).stream(
            "/chat", {}, timeouts=CHAT
        ):
            raise AssertionError
    assert (page.given, page.closed) == (0, True)
    assert await http(Server(b'{"error": null, "models": []}')).get_json("/models") == {
        "error": None,
        "models": [],
    }


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    """The key and the text would go where nobody meant them to."""
    server = Server(status=status, headers={"location": "https://elsewhere.example/v1/models"})
    with pytest.raises(Rejected, match=r"never followed\. Give its final address"):
        await http(server).get_json("/models")
    assert [request.url.host for request in server.requests] == ["models.example"]


@pytest.mark.parametrize(
    "path",
    [
        "models",
        "/models",
        "//evil.example/x",
        "@evil.example/x",
        "/@evil.example",
        "http://evil.example/x",
        "/../x",
    ],
)
async def test_no_path_leads_to_another_host(path: str) -> None:
    """Whatever a caller asks for is a path on this server."""
    server = Server()
    await http(server, "https://models.example").get_json(path)
    assert str(server.requests[0].url).startswith("https://models.example/")


async def test_the_key_is_sent_as_the_server_wants_it() -> None:
    """By default as a bearer token; a user and password in the address go before it."""
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "authorization", f"Bearer {KEY}"),
        ({"header": "x-goog-api-key", "scheme": ""}, "x-goog-api-key", KEY),
        (
            {"address": "https://ann%40x:p%3Aw-7654321@models.example"},
            "authorization",
            "Basic " + base64.b64encode(b"ann@x:p:w-7654321").decode(),
        ),
    ]
    for more, header, value in cases:
        server = Server()
        await http(server, **more).get_json("/models")
        assert server.requests[0].headers[header] == value
        assert server.requests[0].url.userinfo == b""
    server = Server()
    await http(server, key="").get_json("/models")
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("key", ["sk-ümlaut-1234567", "sk-line\nbreak-123", "sk-nul\0-1234567"])
def test_a_key_that_cannot_be_sent_is_named_without_being_shown(key: str) -> None:
    """A slip when copying it must not end up in an error of the transport."""
    with pytest.raises(UsageError, match="PROBE_KEY holds characters that no key has") as caught:
        http(Server(), key=key)
    assert (
        "sk-" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
        f" {caught.value.__context__!r}"
    )


def test_a_key_that_cannot_be_sent_stays_in_no_frame() -> None:
    """Tracebacks with local values call repr: it works, and shows no key."""
    bad = "sk-line\nbreak-1234567"
    with pytest.raises(UsageError) as caught:
        Http("http://ann:pass-Zq7@models.example", name="Probe", key=bad)
    frames = [
        frame
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_code.co_name == "__init__"
    ]
    seen = repr([frame.f_locals for frame in frames])
    assert (
        "Http('Probe', 'http://models.example')" in seen
        and "break-1234567" not in seen
        and "pass-Zq7" not in seen
    )


async def test_a_server_that_does_not_speak_http_is_named() -> None:
    """It has not closed the connection: something else listens there."""
    with pytest.raises(
        Unavailable, match=r"Probe did not speak HTTP\. Check its address"
    ) as caught:
        await http(Server(httpx.RemoteProtocolError("illegal status line: b'SSH-2.0'"))).get_json(
            "/models"
        )
    assert caught.value.sent


async def test_the_server_has_a_small_letter_inside_of_a_sentence() -> None:
    """Some names begin with an article."""
    probe = Http(
        "http://m",
        name="The server at m",
        transport=httpx.MockTransport(Server(Body(b"{", httpx.ReadError("reset")))),
    )
    with pytest.raises(CutOff, match="The answer of the server at m was lost"):
        await probe.get_json("/a")


def test_a_number_without_end_is_none() -> None:
    """It spells no price, no count and no value of a column."""
    numbers = (
        '{"a": 1e999, "b": -1e999, "c": 99999999999999999999, "d": 1.5, "e": 9007199254740993}'
    )
    assert json_object(numbers, name="Probe") == {
        "a": None,
        "b": None,
        "c": None,
        "d": 1.5,
        "e": 9007199254740993,
    }


def told(error: BaseException) -> str:
    """Everything that can be seen of an error: its chain, attributes, and traceback, with the local
    values of all frames but the tests'.
    """
    found, todo, seen = [], [error], set[int]()
    while todo:
        one: Any = todo.pop()
        if one is None or id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        found.append(repr(one))
        if isinstance(one, BaseException):
            found += [str(one), *traceback.format_exception(one)]
            frames = [
                frame
                for frame, _ in traceback.walk_tb(one.__traceback__)
                if frame.f_code.co_filename != __file__
            ]
            found += [repr(value) for frame in frames for value in frame.f_locals.values()]
            todo += [one.__cause__, one.__context__, *one.args, *vars(one).values()]
        elif dataclasses.is_dataclass(one):
            todo += [getattr(one, item.name) for item in dataclasses.fields(one)]
        elif isinstance(one, httpx.Request | httpx.Response):
            todo += [dict(one.headers), getattr(one, "_request", None)]
    return "\n".join(found)


ECHO = {
    "error": {
        "message": f"Wrong key {KEY}",
        "code": KEY,
        "type": KEY,
        "metadata": {"raw": f"Authorization: Bearer {KEY}", "x-api-key": KEY},
    }
}
SPELLED = {
    "detail": [
        "pass-Zq7XhT2mPw9",
        base64.b64encode(b"ann:pass-Zq7XhT2mPw9").decode(),
        KEY[::-1],
        base64.b64encode(f"a{KEY}".encode()).decode(),
        "".join(f"%{byte:02x}" for byte in KEY.encode()),
        KEY,
    ]
}
LEAKS: dict[str, tuple[Any, int]] = {
    **{type(fault).__name__: (fault, 200) for fault in (*UNSENT, *MAYBE_SENT)},
    "named by the transport": (httpx.ConnectError(f"no route with Bearer {KEY}"), 200),
    "echoed 401": (ECHO, 401), "echoed 200": (ECHO, 200), "echoed 429": (ECHO, 429), "echoed 500": (ECHO, 500),
    "spelled": (SPELLED, 422),
    "text": (f"<h1>Bad key {KEY} or pass-Zq7XhT2mPw9</h1>".encode(), 400), "cut": (Body(b'{"a":', httpx.ReadError("reset")), 200),
    "redirect": (b"", 302),
}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("header", [("Authorization", "Bearer"), ("x-api-key", "")])
async def test_no_error_shows_the_key(
    leak: str, header: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in its chain, its attributes, its traceback with local values, nor in any log; an error
    of httpx would hold the request.
    """
    body, status = LEAKS[leak]
    server = Server(body, status=status, headers={"location": f"https://x.example/?key={KEY}"})
    probe = http(
        server, "https://ann:pass-Zq7XhT2mPw9@models.example/v1", header=header[0], scheme=header[1]
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(BackendError) as caught:
        await probe.get_json("/models", timeouts=CHAT)
    seen = told(caught.value) + repr(probe) + str(probe) + probe.url + caplog.text
    for secret in (
        KEY,
        KEY[::-1],
        KEY[6:20],
        "pass-Zq7",
        base64.b64encode(b"ann:pass-Zq7XhT2mPw9").decode(),
    ):
        assert secret not in seen
    assert "Request" not in "".join(
        repr(one) for one in (caught.value.__cause__, caught.value.__context__)
    )
    assert len(server.requests) == 1
    sent = server.requests[0].headers
    assert KEY in sent.get("x-api-key", KEY)


async def test_told_finds_a_key_that_httpx_would_show() -> None:
    """The search above can fail: an unguarded error of httpx is caught by it."""
    request = httpx.Request("GET", "https://m.example", headers={"x-api-key": KEY})
    try:
        raise Unavailable("x") from httpx.ReadError("y", request=request)
    except Unavailable as error:
        assert KEY in told(error)


# ---------------------------------------------------------------- errors in every shape


@pytest.mark.parametrize("sample", ERRORS, ids=lambda sample: sample["file"])
async def test_each_error_sample_is_the_right_error(sample: dict[str, Any]) -> None:
    """Its class, what it says, how long to wait, and whether it may be charged."""
    data, expect = WIRE.joinpath(sample["file"]).read_bytes(), sample["expect"]
    server = Server(Body(*pieces(data, 7)), status=sample["status"], headers=sample["headers"])
    with pytest.raises(BackendError) as caught:
        async with http(server, key_name="OPENROUTER_API_KEY").stream("/chat", {}, timeouts=CHAT):
            raise AssertionError
    error = caught.value
    assert error.vendor and error.vendor.status == sample["status"]
    assert type(error).__name__ == expect.get("error", "Rejected")
    assert ("refused" in expect) is (error.vendor.kind == "moderation")
    if "pull" not in expect.get("message", ""):  # Ollama's own hint is its backend's
        assert expect.get("message", "") in str(error)
    assert error.sent is expect.get("sent", False)
    assert getattr(error, "retry_after", None) == expect.get("retry_after")
    assert error.hint and "\n" not in str(error)


# status, body, class, a part of its words
SHAPES: dict[str, tuple[int, Any, type[BackendError], str]] = {
    "no body": (502, b"", Unavailable, "Probe answered 502. Try again"),
    "no words": (400, b'{"error": {}}', Rejected, 'Probe answered 400: {"error": {}}. Choose'),
    "list": (400, b"[1]", Rejected, "answered 400: [1]. "),
    "error null": (500, {"error": None, "detail": "lost"}, Unavailable, "500: lost."),
    "swarm": (200, {"error": "Model refused to load", "error_id": "bad_model"}, Unavailable, "Model refused to load"),
    "a1111": (500, {"error": "OutOfMemoryError", "detail": "", "errors": "CUDA out of memory"}, Unavailable, "OutOfMemoryError"),
    "problem": (422, {"title": "Invalid", "detail": "- input: text is missing\n", "status": 422}, Rejected, "- input: text is missing"),
    "title only": (400, {"title": "Input was wrong"}, Rejected, "Input was wrong"),
    "stability": (413, {"id": "1", "name": "payload_too_large", "errors": ["body: big", "text: long"]}, Rejected, "body: big; text: long"),
    "graph": (400, {"errors": [{"message": "no field", "path": ["a"]}, {"message": "no type"}]}, Rejected, "no field; no type"),
    "mixed list": (400, {"detail": [{"msg": "here"}, "plain", 7, {"loc": ["body"], "msg": "x"}]}, Rejected, "here; plain; 7; body: x"),
    "code text": (0, {"error": {"code": "503", "message": "busy"}}, Unavailable, "answered 503: busy."),
    "code word": (0, {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, RateLimited, "answered 429: slow down."),
    "code bool": (0, {"error": {"code": True, "message": "odd"}}, Unavailable, "answered with an error: odd."),
    "code far": (0, {"error": {"code": 1e400, "message": "odd"}}, Unavailable, "answered with an error: odd."),
    "quota word": (0, {"error": {"code": "insufficient_quota", "message": "empty"}}, Rejected, "Add credit"),
    "quota at 500": (500, {"error": {"type": "billing_hard_limit_reached", "message": "empty"}}, Rejected, "Add credit"),
    "overload word": (0, {"error": {"type": "overloaded_error", "message": "full"}}, Unavailable, "answered 529: full."),
    "key word": (0, {"error": {"type": "invalid_api_key", "message": "no"}}, Rejected, "Check PROBE_KEY."),
    "nothing said": (0, {"error": "the runner died"}, Unavailable, "answered with an error: the runner died."),
    "inner status": (0, {"error": {"http_status": 503, "message": "away"}}, Unavailable, "answered 503: away."),
    "outer status wins": (500, {"error": {"code": 400, "message": "x"}}, Unavailable, "answered 500: x."),
    "in choice": (0, {"choices": [{"error": {"code": 429, "message": "pause"}}]}, RateLimited, "answered 429: pause."),
    "choices named": (0, {"choices": {"0": {"error": "x"}}, "message": "odd"}, Unavailable, "odd"),
    "402": (402, {"detail": "You have too little."}, Rejected, "answered 402: You have too little. Add credit"),
    "choices odd": (0, {"choices": ["x"], "message": "odd"}, Unavailable, "odd"),
    "filter": (400, {"error": {"code": "content_filter", "message": "no"}}, Rejected, "Change the text."),
    "stability refusal": (403, {"name": "content_moderation", "errors": ["flagged"]}, Rejected, "Change the text."),
    "403": (403, {"error": "forbidden"}, Rejected, "Check PROBE_KEY."),
    "404": (404, {"error": "no such model"}, Rejected, "`devpipe check` lists the models there."),
    "418": (418, b"", Rejected, "Choose another model."),
    "too long at 500": (500, {"error": {"message": "the request exceeds the available context size"}}, Rejected, "Shorten the text"),
    "context is a thing too": (500, {"error": "failed to create CUDA context"}, Unavailable, "CUDA context"),
    "rate, not length": (429, {"error": "Rate exceeded in this context"}, RateLimited, "Wait"),
    "page": (502, b"<html><style>b {x: y}</style><script>a = '<b>'</script>\n<b>Bad</b>\tgateway", Unavailable, "502: Bad gateway."),
    "not utf-8": (500, b"Fehler: \xfcberlastet", Unavailable, "Fehler: \ufffdberlastet"),
    "escapes": (500, {"error": "red \x1b[31mtext\r\nHTTP/1.1 \u202eevil\x07"}, Unavailable, "red [31mtext HTTP/1.1 evil."),
    "deep list": (429, b'{"errors":' + b"[" * 900 + b"]" * 900 + b"}", RateLimited, "answered 429"),
    "deep": (400, b'{"error":' + b'{"a":[' * 400 + b"1" + b"]}" * 400 + b"}", Rejected, "answered 400"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_of_error_is_read(shape: str) -> None:
    """Codes as numbers, texts, words or not at all; words under any of the names in use."""
    status, body, kind, words = SHAPES[shape]
    error = vendor_error(
        "Probe", status, {}, body if isinstance(body, bytes | dict) else b"", key_name="PROBE_KEY"
    )
    assert type(error) is kind
    assert words in str(error)
    assert error.hint and "\n" not in str(error)
    if isinstance(body, dict):
        again = vendor_error(
            "Probe",
            status,
            {},
            json.dumps(body).replace("Infinity", "1e400").encode(),
            key_name="PROBE_KEY",
        )
        assert (type(again), str(again), again.vendor) == (kind, str(error), error.vendor)


def test_the_vendors_further_words_are_kept() -> None:
    """A backend reads them there: why it refused, how long the text may be."""
    body = {
        "error": {
            "code": 403,
            "message": "no",
            "metadata": {"reasons": ["violence"], "provider_name": "Nord"},
            "n_ctx": 4096,
        }
    }
    vendor = vendor_error("Probe", 403, {}, body).vendor
    assert vendor == errors.VendorAnswer(
        403,
        "403",
        "moderation",
        "no",
        {"reasons": ["violence"], "provider_name": "Nord", "n_ctx": 4096},
    )


def test_a_vendor_that_says_it_is_final_is_believed() -> None:
    """A header or a field tells that waiting does not help; without them the same answer is a
    matter of time.
    """
    final = vendor_error("Probe", 429, {"X-Should-Retry": "false"}, {"error": "enough"})
    assert isinstance(final, Rejected)
    for retryable, kind in ((False, Rejected), (True, RateLimited)):
        error = vendor_error(
            "Probe",
            429,
            {},
            {
                "error": {
                    "message": "enough",
                    "availability": {"code": "gone", "retryable": retryable},
                }
            },
        )
        assert type(error) is kind
        assert error.vendor and error.vendor.code == "gone"


def test_a_long_message_is_cut() -> None:
    """500 characters explain it, or nothing does."""
    error = vendor_error("Probe", 500, {}, b"y" * 3000)
    assert error.vendor and error.vendor.message == "y" * (MAX_MESSAGE - 1) + "…"
    exact = vendor_error("Probe", 500, {}, b"y" * MAX_MESSAGE).vendor
    assert exact and exact.message == "y" * MAX_MESSAGE


@pytest.mark.parametrize(
    "key",
    ["sk-abcdEFGH****wxyz", "hf_AbCdEfGhIjKl", "r8_0123456789ab", "Bearer 0123456789abcdef0123"],
)
def test_what_looks_like_a_key_is_never_shown(key: str) -> None:
    """Also where it is not ours: vendors echo what they were sent, in part."""
    assert key.split()[-1] not in str(
        vendor_error("Probe", 401, {}, {"error": {"message": f"Incorrect key: {key}."}})
    )


NOW = "Tue, 03 Nov 2026 10:00:00 GMT"
WAITS: list[tuple[dict[str, str], Any, float | None]] = [
    ({"Retry-After-Ms": "1500", "Retry-After": "9"}, {}, 1.5),
    ({"Retry-After": "9"}, {"error": {"availability": {"retry_after": 3}}}, 9.0),
    ({"retry-after": "0.5"}, {}, 0.5),
    ({"retry-after": "Tue, 03 Nov 2026 10:00:42 GMT", "date": NOW}, {}, 42.0),
    ({"retry-after": "Tue, 03 Nov 2026 10:00:42 -0000", "Date": NOW}, {}, 42.0),
    ({"retry-after": "Tue, 03 Nov 2026 09:00:00 GMT", "date": NOW}, {}, 0.0),
    ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, {}, 0.0),
    ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, {}, 120.0),
    ({"retry-after": "Fri, 99 Dec 99999 99:99:99 GMT"}, {}, None),
    ({"retry-after": "soon"}, {}, None),
    ({"retry-after": "soon"}, {"error": {"message": "again in 3s"}}, 3.0),
    ({"retry-after": ""}, {}, None),
    ({"retry-after": "-5"}, {}, 0.0),
    ({"retry-after": "nan"}, {}, None),
    ({"retry-after": "inf"}, {}, None),
    ({"retry-after": "1e9"}, {}, 120.0),
    ({"retry-after-ms": "x", "retry-after": "4"}, {}, 4.0),
    ({"retry-after-ms": "0", "retry-after": "4"}, {}, 0.0),
    ({}, {"error": {"availability": {"retry_after": 40}}}, 40.0),
    (
        {},
        {"error": {"availability": {"retry_after": "soon"}, "message": "Retry after 40 seconds."}},
        40.0,
    ),
    ({}, {"error": {"availability": None}}, None),
    ({}, {"detail": "Slow down. Your limit resets in ~30s."}, 30.0),
    ({}, {"error": {"message": "Please try again in 250ms."}}, 0.25),
    ({}, {"error": {"message": "Please try again in 1.5 minutes."}}, 90.0),
    (
        {},
        {
            "errors": ["Over 150 requests within a 10 second period: timed out for 60 seconds."],
            "name": "rate_limit_exceeded",
        },
        60.0,
    ),
    ({}, {"error": "limit of 20 requests per 10 seconds"}, None),
    ({}, b"try again after 7 sec", None),
    ({}, b'{"error": "try again after 7 sec"}', 7.0),
    ({}, b"\xff", None),
    ({}, {"error": {"message": "Please try again in 1m30s."}}, 90.0),
    ({}, {"error": {"message": "Please try again in 1m0.5s. Visit us."}}, 60.5),
    ({}, {"error": {"message": "Please try again in 6m0s"}}, 120.0),
    ({}, {"error": {"message": "Please try again in 7m12.5s"}}, 120.0),
    ({}, {"error": {"message": "Please try again in 5 monkeys"}}, None),
]


@pytest.mark.parametrize(("headers", "body", "seconds"), WAITS)
def test_the_wait_is_read_in_all_its_forms(
    headers: dict[str, str], body: Any, seconds: float | None
) -> None:
    """Milliseconds, seconds, a date, a field, prose; never negative, never above two minutes;
    garbage is nothing.
    """
    assert retry_after(headers, body) == seconds


# ---------------------------------------------------------------- addresses

ADDRESSES = {
    "localhost": "http://localhost:11434", "": "http://127.0.0.1:11434", "0.0.0.0": "http://127.0.0.1:11434", "0.0.0.0:80": "http://127.0.0.1",
    ":1234": "http://127.0.0.1:1234", " gpu:1/ ": "http://gpu:1", "gpu/api/": "http://gpu:11434/api", "::1": "http://[::1]:11434",
    "[::]:5": "http://[::1]:5", "[fd00::7]": "http://[fd00::7]:11434", "http://x/": "http://x", "https://x/v1/": "https://x/v1",
    "http://0.0.0.0:3": "http://127.0.0.1:3", "HTTPS://X.Example/V1": "https://x.example/V1", "http://a:b@x:1/v1": "http://a:b@x:1/v1",
    "a:b:c@x": "http://a:b:c@x:11434",
}  # fmt: skip


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_read_as_people_write_it(text: str) -> None:
    """With or without scheme, host and port; 0.0.0.0 is where a server listens, not where
    one goes.
    """
    assert base_url(text, 11434) == ADDRESSES[text]


WRONG = [
    "ftp://x",
    "a b",
    "8188",
    "http://x?key=1",
    "http://x#y",
    "x:99999",
    "x:y",
    "[zz]",
    "u:secret-word@:x",
    "x\ny",
]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_address_is_named_but_not_shown(text: str) -> None:
    """Its variable is named; a password in it is not."""
    with pytest.raises(
        UsageError,
        match=(
            r"^PROBE_HOST is not the address of a server\. Write it like"
            r" http://127\.0\.0\.1:11434\.$"
        ),
    ) as caught:
        base_url(text, 11434, variable="PROBE_HOST")
    assert "secret" not in str(caught.value)


PRIVATE = [
    "localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1",
    "0.0.0.0", "[::1]", "[fd12::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "gpu", "GPU-7", "7b", "mac.local", "host.docker.internal",
]  # fmt: skip
PUBLIC = [
    "api.openai.com", "8.8.8.8", "172.32.0.1", "172.15.0.1", "192.169.0.1", "11.0.0.1", "100.64.0.1", "198.18.0.1", "[2001:db8::1]", "ai.",
    "[::ffff:8.8.8.8]", "x.locals", "local.example", "localhost.example", "x.local.example", "10.example", "134744072", "0x08080808",
]  # fmt: skip


@pytest.mark.parametrize("host", [*PRIVATE, *PUBLIC])
def test_a_host_is_private_only_where_it_surely_is(host: str) -> None:
    """This machine, the networks of its own kind, and names that no public server has; in doubt it
    is public.
    """
    assert Http(f"http://{host}:8080", name="Probe").private is (host in PRIVATE)


# ---------------------------------------------------------------- connections


@asynccontextmanager
async def listening(answers: Iterator[bytes]) -> AsyncIterator[tuple[int, list[bytes], list[int]]]:
    """A real server on this machine: its port, the heads of the requests it got, and one entry per
    connection.
    """
    heads, connections = list[bytes](), list[int]()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(next(answers))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            connections.append(0)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads, connections
    finally:
        server.close()
        for writer in writers:
            # since Python 3.12 wait_closed waits for these, and a client may keep its own for ever
            writer.close()
        await server.wait_closed()


def forever(body: bytes = b"{}", extra: bytes = b"") -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), extra, body)


@pytest.mark.loopback
async def test_connections_are_kept_and_closed_with_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two requests need one connection; closing twice is fine; a later request opens a new one.

    No log of any depth holds the key.
    """
    with caplog.at_level(logging.DEBUG):
        async with listening(forever()) as (port, heads, connections):
            probe = Http(
                f"http://ann:pass-Zq7XhT2mPw9@127.0.0.1:{port}",
                name="Probe",
                key=KEY,
                header="x-api-key",
                scheme="",
            )
            await probe.get_json("/a")
            await probe.post_json("/b", {"x": 1}, timeouts=QUICK)
            assert connections == [1]
            await probe.close()
            await probe.close()
            async with asyncio.timeout(60):
                while connections != [1, 0]:  # the server sees it end
                    await asyncio.sleep(0)
            await probe.get_json("/c")
            await probe.close()
            assert connections.count(1) == 2
    assert all(KEY.encode() in head for head in heads)
    assert "receive_response_headers" in caplog.text
    assert KEY not in caplog.text and "pass-Zq7" not in caplog.text and "YW5uO" not in caplog.text


@pytest.mark.loopback
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_one_server_serves_one_loop_after_another() -> None:
    """A script that calls asyncio.run twice does not meet connections of a dead loop."""

    async def twice(probe: Http) -> dict[str, Any]:
        async with listening(forever(b'{"a": 1}')) as (port, _, _):
            probe.url = f"http://127.0.0.1:{port}"
            return await probe.get_json("/a")

    probe = Http("http://127.0.0.1", name="Probe")
    assert [asyncio.run(twice(probe)) for _ in range(2)] == [{"a": 1}, {"a": 1}]
    asyncio.run(probe.close())  # what is of another loop is left alone
    gc.collect()


@pytest.mark.loopback
async def test_a_proxy_sees_nothing_that_stays_in_the_house(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A private host is asked directly, whatever the environment says; a public one goes through
    the proxy.
    """
    async with (
        listening(forever(b'{"by": "proxy"}')) as (port, heads, connections),
        listening(forever(b'{"by": "server"}')) as (near, _, _),
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        local, far = (
            Http(f"http://127.0.0.1:{near}", name="Near"),
            Http("http://models.example", name="Far"),
        )
        assert await local.get_json("/a") == {"by": "server"}
        assert connections == []
        assert await far.get_json("/a") == {"by": "proxy"}
        assert heads[0].startswith(b"GET http://models.example/a ")
        await local.close()
        await far.close()


@pytest.mark.parametrize(
    "proxy", ["socks5://ann:pass-Zq7@proxy.example:1", "gopher://ann:pass-Zq7@proxy.example:1"]
)
async def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpx would show it. A private host needs none."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UsageError, match="ALL_PROXY cannot be used") as caught:
        await Http("http://models.example", name="Far").get_json("/a")
    assert "pass-Zq7" not in told(caught.value)


@pytest.mark.loopback
async def test_nobody_listening_is_said_at_once() -> None:
    """With the address, and what to do."""
    async with listening(forever()) as (port, _, _):
        pass
    probe = Http(f"http://127.0.0.1:{port}", name="Probe", start="Run `probe serve`.")
    with pytest.raises(
        Unavailable,
        match=rf"Probe cannot be reached at http://127.0.0.1:{port}: .+ Run `probe serve`\.",
    ) as caught:
        await probe.get_json("/a")
    assert not caught.value.sent
    await probe.close()


@pytest.mark.loopback
async def test_an_answer_that_breaks_off_on_a_real_connection_is_cut_off() -> None:
    """httpx ends quietly where the length is not told; here it is told, and not kept."""
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: a\n\n"])
    async with listening(answers) as (port, _, connections):
        probe = Http(f"http://127.0.0.1:{port}", name="Probe")
        async with probe.stream("/a", {}, timeouts=SOON) as answer:
            found = await outcome(answer.sse())
        assert found == [
            ServerSentEvent("a"),
            (
                CutOff,
                "The answer of Probe took too long. Try again, or choose another model.",
                True,
            ),
        ]
        await probe.close()
        assert connections[0] == 1


def test_importing_devpipe_does_not_import_httpx() -> None:
    """It costs a tenth of a second, and a recording is read without it."""
    code = (
        "import sys, devpipe, devpipe.backends.registry, devpipe.backends.base; print('httpx' in"
        " sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "False"
