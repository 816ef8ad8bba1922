"""One server over HTTP: JSON and streams, or one of our errors; nobody else sees its key.

The only module that imports httpx. Nothing is sent twice and no redirect is followed. Errors of
httpx carry the request with its headers: they end here, and ours are raised outside of the
`except`, so that nothing leads back to them.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import unquote

import httpx

from devpipe.backends.streams import (
    CHECK_ADDRESS,
    TRY_AGAIN,
    NdjsonReader,
    ServerSentEvent,
    SseReader,
    json_object,
    parsed_json,
)
from devpipe.backends.vendor_errors import one_line, vendor_error
from devpipe.errors import (
    BackendError,
    CutOff,
    Rejected,
    Unavailable,
    UsageError,
)
from devpipe.record.redaction import Redactor

# Bytes as they come. Nothing is ever decompressed: 943 bytes can unpack to 2 GB.
MAX_ANSWER = 64 * 2**20
MAX_ERROR = 2**20
ERROR_S = 1.0  # for the words of an error whose status is known
_OWN_NETS = (
    "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 ::1/128 fc00::/7 fe80::/10"
)
# No number: 134744072 is 8.8.8.8.
_OWN_NAMES = re.compile(r"(?i)(?!(\d+|0x[0-9a-f]+)$)[^.]+|.+\.(local|localhost|internal)")
_ANY_OF_OURS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # an address to listen at, and the one to call
_NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
Body = Mapping[str, Any] | tuple[str, bytes] | None  # JSON, or a media type and its bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait: for each next byte (`read`), and for all of it together (`total`)."""

    read: float
    total: float
    connect: float = 5.0
    write: float = 30.0
    pool: float = 5.0


CHAT = Timeouts(120, 600)
COLD = Timeouts(300, 900)  # a local model may have to be loaded first
WHOLE = (200, 201, 202)  # statuses; 203 is somebody's between, 206 a part
QUICK = Timeouts(2, 2.5, connect=1)


class TooLarge(CutOff):
    """More came than was to be read; asked again, it would be as much."""


class Answer:
    """An answer that has begun. Read it once, by one of `ndjson`, `sse` and `json`."""

    def __init__(self, server: Http, response: httpx.Response, deadline: float) -> None:
        self._server = server
        self._response = response
        self._deadline = deadline
        self._bytes = response.aiter_bytes()  # raw: one with an encoding never gets here
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)  # names in small letters

    async def ndjson(self) -> AsyncGenerator[dict[str, Any], None]:
        """Each JSON object when its line has come, or all of what calls itself one.

        Raises CutOff for half of one at the end.
        """
        reader = NdjsonReader(self._server.name)
        if self._is_json:
            body = await self.whole()
            for value in self._values(body, reader):
                yield value
            return
        async for piece in self._pieces():
            for value in reader.feed(piece):
                yield value
        for value in reader.end():
            yield value

    def _values(self, body: bytes, reader: NdjsonReader) -> Iterator[dict[str, Any]]:
        """The objects of a body that calls itself JSON: several lines of them, or one over all."""
        first_line = body.partition(b"\n")[0]
        if isinstance(parsed_json(first_line), dict):
            yield from reader.feed(body)
            yield from reader.end()
        else:
            yield self._object(body)

    async def sse(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Each event when it is complete.

        An answer that is one JSON object instead of a stream comes as one event.
        """
        reader = SseReader(self._server.name)
        body = bytearray()
        is_json = self._is_json
        begun = False
        async for piece in self._pieces():
            if not begun and piece.lstrip().startswith(b"{"):  # no line of a stream begins so
                is_json = True
            begun = begun or bool(piece.strip())
            if is_json:
                body += piece
                continue
            for event in reader.feed(piece):
                yield event
        if is_json:
            yield ServerSentEvent(json.dumps(self._object(bytes(body))))

    async def json(self) -> dict[str, Any]:
        """The whole answer. Raises the vendor's error where it holds one, whatever its status."""
        value = self._object(await self.whole())
        if not value.get("error"):
            return value
        problem = self._server.error(0, self.headers, value)
        value.clear()  # some tracebacks show local values, and it may hold the key
        raise problem

    def end_within(self, seconds: float) -> None:
        """Wait no longer than this for what is still to come."""
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + seconds)

    async def rest(self) -> None:
        """Read what may still come, to the last byte that was promised; raises as reading does."""
        async for _ in self._pieces():
            pass

    async def whole(self, limit: int = MAX_ANSWER) -> bytes:
        """The whole answer, whatever it is. Raises TooLarge beyond `limit` bytes."""
        return b"".join([piece async for piece in self._pieces(limit)])

    @property
    def _is_json(self) -> bool:
        return self.headers.get("content-type", "").startswith("application/json")

    def _object(self, body: bytes) -> dict[str, Any]:
        if body.lstrip().startswith(b"{") and parsed_json(body) is None:
            raise CutOff(f"{self._server.name} ended its answer in the middle.", hint=TRY_AGAIN)
        return json_object(body, name=self._server.name)

    async def _pieces(self, limit: int = MAX_ANSWER) -> AsyncGenerator[bytes, None]:
        """The bytes as they come.

        Raises CutOff where the connection is lost or the time is up, TooLarge beyond the limit.
        """
        size = 0
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    piece = await anext(self._bytes, None)
            except (httpx.HTTPError, OSError) as error:
                ending = "took too long" if _is_slow(error) else "was lost"
                break
            if piece is None:
                return
            if asyncio.get_running_loop().time() > self._deadline:
                ending = "took too long"  # one that is always there is never waited for
                break
            size += len(piece)
            if size > limit:
                raise TooLarge(
                    f"{self._server.name} sent more than {limit // 2**10} KiB.", hint=TRY_AGAIN
                )
            yield piece
        kind = CutOff if size else Unavailable
        raise kind(f"The answer of {self._server.inside} {ending}.", hint=TRY_AGAIN, sent=True)

    async def problem(self) -> BackendError | None:
        """The error that its status or its encoding stands for, if any."""
        is_encoded = self.headers.get("content-encoding", "identity") != "identity"
        if self.status >= 400:
            beginning = b"" if is_encoded else await self._beginning()
            return self._server.error(self.status, self.headers, beginning)
        name = self._server.name
        if self.status >= 300:
            return Rejected(
                f"{name} answered with a redirect ({self.status}), which is never followed.",
                hint="Give its final address: https instead of http, or another path.",
            )
        if self.status not in WHOLE:
            return _unread(f"{name} answered {self.status}, which is no whole answer of its own")
        if is_encoded:
            return _unread(f"{name} encoded its answer, unasked")
        if "text/html" in self.headers.get("content-type", ""):
            return _unread(f"{name} answered with a web page")
        return None

    async def _beginning(self) -> bytes:
        body = bytearray()
        self.end_within(ERROR_S)
        with suppress(BackendError):  # what came is enough
            async for piece in self._pieces(MAX_ERROR):
                body += piece
        return bytes(body)


class Http:
    """One server: its address, and the key that goes there and nowhere else.

    `name` and `key_name` (the variable that holds the key) are for messages, `start` is the hint
    where nobody answers. A user and password in the address become Basic authentication; `url` is
    without them. `direct`: no proxy on the way, as for every private address.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        key: str = "",
        key_name: str = "",
        header: str = "Authorization",
        scheme: str = "Bearer",
        headers: Mapping[str, str] = MappingProxyType({}),
        transport: object | None = None,
        start: str = "Start it, or check its address.",
        direct: bool = False,
    ) -> None:
        given = httpx.URL(base_url(address, 80, variable=f"The address of {name}"))
        self.name = name
        self.url = str(given.copy_with(userinfo=b"")).rstrip("/")
        self._key_name = key_name
        self._start = start
        self._direct = direct
        if not key.isascii() or not key.isprintable():
            key = address = ""  # some tracebacks show local values
            raise UsageError(
                f"{key_name or 'The key'} holds characters that no key has.", hint="Copy it again."
            )
        basic = base64.b64encode(unquote(given.userinfo.decode()).encode()).decode()
        self._headers = {"accept-encoding": "identity", "user-agent": "devpipe", **headers}
        if key:
            self._headers[header] = f"{scheme} {key}".strip()
        if basic:  # whoever wrote it into the address means this host
            self._headers["Authorization"] = f"Basic {basic}"
        self._redact = Redactor([key, basic, unquote(given.password)])
        self._transport = cast("httpx.AsyncBaseTransport | None", transport)
        self._open: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    def __repr__(self) -> str:
        return f"Http({self.name!r}, {self.url!r})"

    @property
    def inside(self) -> str:
        """Its name in the middle of a sentence."""
        return re.sub(r"\AThe ", "the ", self.name)

    @property
    def private(self) -> bool:
        """Whether the host is this machine or stands in its own network, by its address or name."""
        return _is_private(httpx.URL(self.url).host)

    async def get_json(self, path: str, *, timeouts: Timeouts = QUICK) -> dict[str, Any]:
        async with self._asked("GET", path, None, timeouts) as answer:
            return await answer.json()

    async def post_json(
        self, path: str, body: Mapping[str, Any], *, timeouts: Timeouts
    ) -> dict[str, Any]:
        async with self._asked("POST", path, body, timeouts) as answer:
            return await answer.json()

    async def get_bytes(self, path: str, *, limit: int, timeouts: Timeouts) -> bytes:
        """A file.

        Raises Rejected where there is none, TooLarge where it has more than `limit` bytes.
        """
        async with self._asked("GET", path, None, timeouts) as answer:
            return await answer.whole(limit)

    async def post_file(
        self, path: str, name: str, data: bytes, *, fields: Mapping[str, str], timeouts: Timeouts
    ) -> dict[str, Any]:
        """POST a PNG as the field `image` of a form, with other fields."""
        files = {"image": (name, data, "image/png")}
        form = httpx.Request("POST", "http://form", files=files, data=dict(fields))
        body = (form.headers["content-type"], form.read())
        async with self._asked("POST", path, body, timeouts) as answer:
            return await answer.json()

    def websocket(self, path: str) -> tuple[str, dict[str, str]]:
        """The address of a websocket there, and the headers that let us in."""
        headers = dict(self._headers)
        del headers["accept-encoding"]
        return f"ws{self.url.removeprefix('http')}/{path.lstrip('/')}", headers

    def stream(
        self, path: str, body: Mapping[str, Any], *, timeouts: Timeouts
    ) -> AbstractAsyncContextManager[Answer]:
        """POST `body`.

        Raises our error for a status of 300 and more; leaving the block closes the connection,
        which stops the work.
        """
        return self._asked("POST", path, body, timeouts)

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: Body, timeouts: Timeouts
    ) -> AsyncIterator[Answer]:
        deadline = asyncio.get_running_loop().time() + timeouts.total
        response = await self._sent(method, path, body, timeouts, deadline)
        try:
            answer = Answer(self, response, deadline)
            problem = await answer.problem()
            if problem:
                raise problem
            yield answer
        finally:
            with suppress(httpx.HTTPError, OSError):
                await response.aclose()

    async def _sent(
        self, method: str, path: str, body: Body, timeouts: Timeouts, deadline: float
    ) -> httpx.Response:
        """The answer when its head is there. Raises Unavailable where none comes."""
        media_type, content = _encoded(body)
        client = self._client()
        request = client.build_request(
            method,
            f"{self.url}/{path.lstrip('/')}",
            content=content,
            headers=self._headers | {"content-type": media_type},
            timeout=httpx.Timeout(
                connect=timeouts.connect,
                read=timeouts.read,
                write=timeouts.write,
                pool=timeouts.pool,
            ),
        )
        try:
            async with asyncio.timeout_at(deadline):
                return await client.send(request, stream=True, follow_redirects=False)
        except (httpx.HTTPError, OSError) as error:
            problem = self._unanswered(error)
        raise problem

    def _unanswered(self, error: Exception) -> Unavailable:
        if isinstance(error, _NEVER_ARRIVED):
            reason = one_line(self._redact(str(error))) or "it did not answer in time"
            return Unavailable(
                f"{self.name} cannot be reached at {self.url}: {reason}.", hint=self._start
            )
        if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
            return Unavailable(f"{self.name} did not speak HTTP.", hint=CHECK_ADDRESS, sent=True)
        what = "took too long to answer" if _is_slow(error) else "closed the connection"
        return Unavailable(f"{self.name} {what}.", hint=TRY_AGAIN, sent=True)

    def _client(self) -> httpx.AsyncClient:
        """The pool of this event loop.

        Connections of another one can be neither used nor closed here.
        """
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop:
            self._open = (loop, self._new_client())
        return self._open[1]

    def _new_client(self) -> httpx.AsyncClient:
        transport = self._transport
        if transport is None and (self._direct or self.private):
            # One of its own goes past any proxy; reading certificates takes 20 ms.
            transport = httpx.AsyncHTTPTransport(verify=self.url.startswith("https"))
        with suppress(ImportError, ValueError):  # their words may hold the proxy's password
            return httpx.AsyncClient(transport=transport)
        raise UsageError(
            "The proxy named in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used.",
            hint="Name one with http://.",
        )

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes | Mapping[str, Any]
    ) -> BackendError:
        """`vendor_error` of this server, without its key, however it is spelled."""
        return vendor_error(
            self.name, status, headers, body, key_name=self._key_name, redact=self._redact
        )

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        opened = self._open
        self._open = None
        if opened is None:
            return
        loop, client = opened
        if loop is asyncio.get_running_loop():
            await client.aclose()


def _encoded(body: Body) -> tuple[str, bytes | None]:
    """The media type and the bytes of what is sent."""
    if isinstance(body, tuple):
        return body
    json_type = "application/json"
    if body is None:
        return json_type, None
    return json_type, json.dumps(body, allow_nan=False).encode()


def base_url(text: str, default_port: int, *, variable: str = "The address") -> str:
    """The address of a server, from what people write.

    Such as `localhost`, `:11434`, `0.0.0.0:80`, `http://host/path`. `default_port` is for an
    address without a scheme, as Ollama reads OLLAMA_HOST. Raises UsageError that names `variable`.
    """
    written = text.strip()
    scheme, rest = _split_scheme(written)
    authority, _, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    host = _completed(host)
    names_port = "://" in written or re.search(r":\d+$", host)  # httpx forgets a :80
    with suppress(httpx.InvalidURL):
        url = httpx.URL(f"{scheme}://{user}{at}{host}/{path}".rstrip("/"))
        port = url.port if names_port else default_port
        if _is_server(url, port) and not written.isdigit():
            called = _ANY_OF_OURS.get(url.host, url.host)
            return str(url.copy_with(host=called, port=port)).rstrip("/")
    raise UsageError(
        f"{variable} is not the address of a server.",
        hint=f"Write it like http://127.0.0.1:{default_port}.",
    )


def _split_scheme(address: str) -> tuple[str, str]:
    scheme, mark, rest = address.partition("://")
    return (scheme, rest) if mark else ("http", address)


def _completed(host: str) -> str:
    """The host with what people leave out: the brackets of IPv6, and this machine."""
    if host.count(":") > 1 and "[" not in host:
        host = f"[{host}]"
    if not host or host.startswith(":"):
        host = f"127.0.0.1{host}"
    return host


def _is_server(url: httpx.URL, port: int | None) -> bool:
    """Whether an address names a server that HTTP is spoken with, and nothing else."""
    is_odd = url.query or url.fragment or re.search(r"[\s%]", url.host)
    return url.scheme in ("http", "https") and not is_odd and (port or 1) <= 65535


def _is_private(host: str) -> bool:
    """Whether a host is this machine or stands in its own network, by its address or name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(_OWN_NAMES.fullmatch(host))
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ipaddress.ip_network(net) for net in _OWN_NETS.split())


def _unread(what: str) -> Unavailable:
    return Unavailable(f"{what}: it was not read.", hint=CHECK_ADDRESS, sent=True)


def _is_slow(error: Exception) -> bool:
    return isinstance(error, httpx.TimeoutException | TimeoutError)
