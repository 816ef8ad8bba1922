"""One server spoken to over HTTP: JSON and streams in, one of our errors out, and its key seen by
nobody else.

The only module that imports httpx. Nothing is sent twice and no redirect is followed. Errors of
httpx carry the request with its
headers: they end here, and ours are raised outside of the `except`, so that nothing leads back to
them.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import unquote

import httpx

from devpipe.errors import (
    BackendError,
    CutOff,
    RateLimited,
    Rejected,
    Unavailable,
    UsageError,
    VendorAnswer,
)
from devpipe.record.redaction import Redactor

MAX_ANSWER = (
    64 * 2**20
)  # bytes as they come; nothing is ever decompressed: 943 bytes can unpack to 2 GB
MAX_LINE = 8 * 2**20
MAX_ERROR = 2**20
MAX_MESSAGE = 500  # characters
ERROR_S = 1.0  # for the words of an error whose status is known
LONGEST_WAIT = 120.0  # seconds
_OWN_NETS = (
    "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 ::1/128 fc00::/7 fe80::/10"
)
_OWN_NAMES = re.compile(
    r"(?i)(?!(\d+|0x[0-9a-f]+)$)[^.]+|.+\.(local|localhost|internal)"
)  # no number: 134744072 is 8.8.8.8
_KEYLIKE = re.compile(r"\b(?:sk|pk|hf|r8|gsk)[-_][\w*.-]{8,}")
_MARKUP = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>")
_TIME = r"(\d+(?:\.\d+)?)\s*(ms|h(?:ours?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)(?![a-z])\s*"
_IN_PROSE = re.compile(rf"(?i)(?:\bin|\bafter|\bfor|~)\s*~?((?:{_TIME})+)")
_SECONDS = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}
_TOO_LONG = re.compile(r"(?i)exceed[a-z_]*.{0,40}context|context.{0,40}exceed|maximum context")
_UNPAID = re.compile(r"(?i)insufficient_(quota|credit)|billing|payment_required")
_BY_WORD = (  # where nobody said a status
    (_UNPAID, 402),
    (re.compile(r"(?i)rate_?limit"), 429),
    (re.compile(r"(?i)overload"), 529),
    (re.compile(r"(?i)api_key|auth"), 401),
    (re.compile(r"(?i)not_?found"), 404),
    (re.compile(r"(?i)invalid_?request|bad_?request|context_(length|size)"), 400),
)
_Body = Mapping[str, Any] | tuple[str, bytes] | None  # JSON, or a media type and its bytes
_ADDRESS = "Check its address: is it this server, and nothing in between?"
_AGAIN = "Try again, or choose another model."


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for each next byte (`read`), and for all of it together
    (`total`).
    """

    read: float
    total: float
    connect: float = 5.0
    write: float = 30.0
    pool: float = 5.0


CHAT = Patience(120, 600)
COLD = Patience(300, 900)  # a local model may have to be loaded first
QUICK = Patience(2, 2.5, connect=1)


class TooLarge(CutOff):
    """More came than was to be read; asked again, it would be as much."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    data: str
    event: str = "message"
    id: str = ""


class _Lines:
    """Complete lines out of pieces of any size, none longer than MAX_LINE bytes."""

    ends = re.compile(rb"\n")

    def __init__(self, name: str) -> None:
        self.name, self._rest = name, bytearray()

    def lines(self, piece: bytes) -> Iterator[bytes]:
        first, *more = self.ends.split(piece)
        self._rest += first
        for following in more:
            self.check(len(self._rest))
            line, self._rest = bytes(self._rest), bytearray(following)
            yield line
        self.check(len(self._rest))

    def check(self, size: int) -> None:
        if size > MAX_LINE:
            raise CutOff(
                f"{self.name} sent a line of more than {MAX_LINE // 2**20} MiB.", hint=_AGAIN
            )


class NdjsonReader(_Lines):
    """JSON objects, one per line.

    Only b"\\n" ends a line: U+0085 and U+2028 may stand inside a text.
    """

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The objects that this piece completes."""
        yield from (json_object(line, name=self.name) for line in self.lines(piece) if line.strip())

    def end(self) -> Iterator[dict[str, Any]]:
        """The last object, where no line end follows it. Raises CutOff for half of one."""
        try:
            yield from self.feed(b"\n")
        except Unavailable as error:
            raise CutOff(
                f"{self.name} ended its answer in the middle of a line.", hint=_AGAIN
            ) from error


class SseReader(_Lines):
    """Server-sent events as the HTML standard reads them, except that those without data are left
    out.

    An event that no blank line ends is never given: it may be half of one.
    """

    ends = re.compile(rb"\r\n|\r|\n")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._mark, self._after_cr = "\ufeff", False
        self._data: list[str] = []
        self._event = self._id = ""
        self._size = 0  # of the event's data so far

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """The events that this piece completes."""
        if self._after_cr and piece[:1] == b"\n":
            piece, self._after_cr = piece[1:], False
        self._after_cr = piece.endswith(b"\r") if piece else self._after_cr
        for line in self.lines(piece):
            text, self._mark = line.decode("utf-8", "replace").removeprefix(self._mark), ""
            if text:
                self._field(text)
                continue
            data, event, self._data, self._event, self._size = (
                "\n".join(self._data),
                self._event,
                [],
                "",
                0,
            )
            if data.strip():
                yield ServerSentEvent(data, event or "message", self._id)

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")  # a comment has the empty name
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value) + 1
            self.check(self._size)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value


def fields(value: object) -> Mapping[str, Any]:
    """A JSON object that a server sent; empty where it sent something else."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    """A JSON array that a server sent; empty where it sent something else."""
    return value if isinstance(value, list) else []


def whole(value: object) -> int | None:
    """A count that a server told, or None where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def json_object(text: str | bytes, *, name: str) -> dict[str, Any]:
    """The JSON object that `text` spells, safe to be written as UTF-8.

    Raises Unavailable where it spells none.
    """
    found = _json(text)
    if not isinstance(found, dict):
        raise Unavailable(
            f"{name} sent something that is not a JSON object.", hint=_ADDRESS, sent=True
        )
    return found


def _json(text: str | bytes) -> Any:
    """The value, or None where there is none."""
    text = (
        text.decode("utf-8", "replace").removeprefix("\ufeff") if isinstance(text, bytes) else text
    )
    try:
        value = json.loads(
            text, parse_constant=lambda _: None, parse_float=_number, parse_int=_whole
        )  # NaN is not JSON, and no price
        if re.search(r"(?i)\\ud[89a-f]", text):  # half an emoji cannot be written to any file
            value = json.loads(
                json.dumps(value, ensure_ascii=False)
                .encode("utf-16", "surrogatepass")
                .decode("utf-16", "replace")
            )
    except (ValueError, RecursionError):
        return None
    return value


def _whole(text: str) -> int | None:
    """A whole number that fits into 64 bits: a longer one is no count, no price and no column's
    value.
    """
    number = int(text)
    return number if abs(number) < 2**63 else None


class Answer:
    """An answer that has begun. Read it once, by one of `ndjson`, `sse` and `json`."""

    def __init__(self, server: Http, response: httpx.Response, deadline: float) -> None:
        self._server, self._response, self._deadline = server, response, deadline
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)  # names in small letters

    async def ndjson(self) -> AsyncGenerator[dict[str, Any], None]:
        """Each JSON object when its line has come, or all of what calls itself one.

        Raises CutOff for half of one at the end.
        """
        reader = NdjsonReader(self._server.name)
        if self._is_json:
            body = await self.whole()
            several = isinstance(_json(body.partition(b"\n")[0]), dict)
            for found in (*reader.feed(body), *reader.end()) if several else [self._object(body)]:
                yield found
            return
        async for piece in self._pieces():
            for found in reader.feed(piece):
                yield found
        for found in reader.end():
            yield found

    async def sse(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Each event when it is complete; an answer that is one JSON object instead of a stream
        comes as one event.
        """
        reader, body, is_json, begun = (
            SseReader(self._server.name),
            bytearray(),
            self._is_json,
            False,
        )
        async for piece in self._pieces():
            is_json = is_json or (
                not begun and piece.lstrip()[:1] == b"{"
            )  # no line of a stream begins so
            begun = begun or bool(piece.strip())
            body += piece if is_json else b""
            for event in () if is_json else reader.feed(piece):
                yield event
        if is_json:
            yield ServerSentEvent(json.dumps(self._object(bytes(body))))

    async def json(self) -> dict[str, Any]:
        """The whole answer. Raises the vendor's error where it holds one, whatever its status."""
        found = self._object(await self.whole())
        if not found.get("error"):
            return found
        problem = self._server.error(0, self.headers, found)
        found.clear()  # some tracebacks show local values, and it may hold the key
        raise problem

    async def whole(self, limit: int = MAX_ANSWER) -> bytes:
        """The whole answer, whatever it is. Raises TooLarge beyond `limit` bytes."""
        return b"".join([piece async for piece in self._pieces(limit)])

    @property
    def _is_json(self) -> bool:
        return self.headers.get("content-type", "").startswith("application/json")

    def _object(self, body: bytes) -> dict[str, Any]:
        if body.lstrip()[:1] == b"{" and _json(body) is None:
            raise CutOff(f"{self._server.name} ended its answer in the middle.", hint=_AGAIN)
        return json_object(body, name=self._server.name)

    async def _pieces(self, limit: int = MAX_ANSWER) -> AsyncGenerator[bytes, None]:
        """The bytes as they come.

        Raises CutOff where the connection is lost or the time is up, TooLarge beyond the limit.
        """
        pieces, size = (
            self._response.aiter_bytes(),
            0,
        )  # raw ones: an answer with an encoding never gets here
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    piece = await anext(pieces, None)
            except (httpx.HTTPError, OSError) as error:
                problem = (
                    f"The answer of {self._server.inside}"
                    f" {'took too long' if _is_slow(error) else 'was lost'}."
                )
                break
            if piece is None:
                return
            size += len(piece)
            if size > limit:
                raise TooLarge(
                    f"{self._server.name} sent more than {limit // 2**10} KiB.", hint=_AGAIN
                )
            yield piece
        raise (CutOff if size else Unavailable)(problem, hint=_AGAIN, sent=True)

    async def problem(self) -> BackendError | None:
        """The error that its status or its encoding stands for, if any."""
        encoded = self.headers.get("content-encoding", "identity") != "identity"
        if self.status < 300 and (encoded or "text/html" in self.headers.get("content-type", "")):
            what = "encoded its answer, unasked" if encoded else "answered with a web page"
            return Unavailable(
                f"{self._server.name} {what}: it was not read.", hint=_ADDRESS, sent=True
            )
        if 300 <= self.status < 400:
            problem = (
                f"{self._server.name} answered with a redirect ({self.status}), which is never"
                " followed."
            )
            return Rejected(
                problem, hint="Give its final address: https instead of http, or another path."
            )
        return (
            self._server.error(
                self.status, self.headers, b"" if encoded else await self._beginning()
            )
            if self.status >= 400
            else None
        )

    async def _beginning(self) -> bytes:
        body = bytearray()
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + ERROR_S)
        with suppress(BackendError):  # what came is enough
            async for piece in self._pieces(MAX_ERROR):
                body += piece
        return bytes(body)


class Http:
    """One server: its address, and the key that goes there and nowhere else.

    `name` and `key_name` (the variable that holds the key) are for messages, `start` is the hint
    where nobody answers.
    A user and password in the address become Basic authentication; `url` is without them. `direct`:
    no proxy on the way, as for
    every private address.
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
        self.name, self._key_name, self._start, self._direct = name, key_name, start, direct
        self.url = str(given.copy_with(userinfo=b"")).rstrip("/")
        if not key.isascii() or not key.isprintable():
            key = address = ""  # some tracebacks show local values
            raise UsageError(
                f"{key_name or 'The key'} holds characters that no key has.", hint="Copy it again."
            )
        basic = base64.b64encode(unquote(given.userinfo.decode()).encode()).decode()
        self._headers = {"accept-encoding": "identity", "user-agent": "devpipe"} | dict(headers)
        self._headers |= {header: f"{scheme} {key}".strip()} if key else {}
        self._headers |= (
            {"Authorization": f"Basic {basic}"} if basic else {}
        )  # whoever wrote it into the address means this host
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
        host = httpx.URL(self.url).host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return bool(_OWN_NAMES.fullmatch(host))
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in ipaddress.ip_network(net) for net in _OWN_NETS.split())

    async def get_json(self, path: str, *, patience: Patience = QUICK) -> dict[str, Any]:
        async with self._asked("GET", path, None, patience) as answer:
            return await answer.json()

    async def post_json(
        self, path: str, body: Mapping[str, Any], *, patience: Patience
    ) -> dict[str, Any]:
        async with self._asked("POST", path, body, patience) as answer:
            return await answer.json()

    async def get_bytes(self, path: str, *, limit: int, patience: Patience) -> bytes:
        """A file.

        Raises Rejected where there is none, TooLarge where it has more than `limit` bytes.
        """
        async with self._asked("GET", path, None, patience) as answer:
            return await answer.whole(limit)

    async def post_file(
        self, path: str, name: str, data: bytes, *, fields: Mapping[str, str], patience: Patience
    ) -> dict[str, Any]:
        """POST a PNG as the field `image` of a form, with other fields."""
        form = httpx.Request(
            "POST", "http://form", files={"image": (name, data, "image/png")}, data=dict(fields)
        )
        async with self._asked(
            "POST", path, (form.headers["content-type"], form.read()), patience
        ) as answer:
            return await answer.json()

    def websocket(self, path: str) -> tuple[str, dict[str, str]]:
        """The address of a websocket there, and the headers that let us in."""
        headers = {
            name: value for name, value in self._headers.items() if name != "accept-encoding"
        }
        return f"ws{self.url.removeprefix('http')}/{path.lstrip('/')}", headers

    def stream(
        self, path: str, body: Mapping[str, Any], *, patience: Patience
    ) -> AbstractAsyncContextManager[Answer]:
        """POST `body`.

        Raises our error for a status of 300 and more; leaving the block closes the connection,
        which stops the work.
        """
        return self._asked("POST", path, body, patience)

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: _Body, patience: Patience
    ) -> AsyncIterator[Answer]:
        deadline = asyncio.get_running_loop().time() + patience.total
        response = await self._sent(method, path, body, patience, deadline)
        try:
            answer = Answer(self, response, deadline)
            if problem := await answer.problem():
                raise problem
            yield answer
        finally:
            with suppress(httpx.HTTPError, OSError):
                await response.aclose()

    async def _sent(
        self, method: str, path: str, body: _Body, patience: Patience, deadline: float
    ) -> httpx.Response:
        times = httpx.Timeout(
            connect=patience.connect, read=patience.read, write=patience.write, pool=patience.pool
        )
        media_type, content = "application/json", None
        if body is not None:
            media_type, content = (
                body
                if isinstance(body, tuple)
                else (media_type, json.dumps(body, allow_nan=False).encode())
            )
        client, url = self._client(), f"{self.url}/{path.lstrip('/')}"
        request = client.build_request(
            method,
            url,
            content=content,
            headers=self._headers | {"content-type": media_type},
            timeout=times,
        )
        try:
            async with asyncio.timeout_at(deadline):
                return await client.send(request, stream=True, follow_redirects=False)
        except (httpx.HTTPError, OSError) as error:
            problem = self._unanswered(error)
        raise problem

    def _unanswered(self, error: Exception) -> Unavailable:
        if isinstance(
            error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError
        ):
            reason = _one_line(self._redact(str(error))) or "it did not answer in time"
            return Unavailable(
                f"{self.name} cannot be reached at {self.url}: {reason}.", hint=self._start
            )
        if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
            return Unavailable(f"{self.name} did not speak HTTP.", hint=_ADDRESS, sent=True)
        what = "took too long to answer" if _is_slow(error) else "closed the connection"
        return Unavailable(f"{self.name} {what}.", hint=_AGAIN, sent=True)

    def _client(self) -> httpx.AsyncClient:
        """The pool of this event loop; connections of another one can be neither used nor closed
        here.
        """
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop:
            self._open = loop, self._new_client()
        return self._open[1]

    def _new_client(self) -> httpx.AsyncClient:
        own = self._transport
        if own is None and (
            self._direct or self.private
        ):  # a transport of its own goes past any proxy; reading certificates takes 20 ms
            own = httpx.AsyncHTTPTransport(verify=self.url.startswith("https"))
        with suppress(ImportError, ValueError):  # their words may hold the proxy's password
            return httpx.AsyncClient(transport=own)
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
        opened, self._open = self._open, None
        if opened and opened[0] is asyncio.get_running_loop():
            await opened[1].aclose()


def base_url(text: str, default_port: int, *, variable: str = "The address") -> str:
    """The address of a server, from what people write: `localhost`, `:11434`, `0.0.0.0:80`,
    `http://host/path`.

    `default_port` is for an address without a scheme, as Ollama reads OLLAMA_HOST. Raises
    UsageError that names `variable`.
    """
    scheme, mark, rest = (
        text.strip().partition("://") if "://" in text else ("http", "", text.strip())
    )
    authority, _, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    host = f"[{host}]" if host.count(":") > 1 and "[" not in host else host
    host = f"127.0.0.1{host}" if host.startswith(":") or not host else host
    with suppress(httpx.InvalidURL):
        url = httpx.URL(f"{scheme}://{user}{at}{host}/{path}".rstrip("/"))
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(url.host, url.host)
        port = (
            url.port if mark or re.search(r":\d+$", host) else default_port
        )  # httpx forgets a :80
        odd = (
            url.query
            or url.fragment
            or re.search(r"[\s%]", here)
            or (port or 1) > 65535
            or text.strip().isdigit()
        )
        if url.scheme in ("http", "https") and not odd:
            return str(url.copy_with(host=here, port=port)).rstrip("/")
    raise UsageError(
        f"{variable} is not the address of a server.",
        hint=f"Write it like http://127.0.0.1:{default_port}.",
    )


def vendor_error(
    name: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | Mapping[str, Any],
    *,
    key_name: str = "",
    redact: Redactor | None = None,
) -> BackendError:
    """Our error for what a vendor answered; status 0 for an error inside an answer, whose own code
    then decides.

    `redact` takes the key out of it. A hint names `key_name`, the variable that holds the key.
    """
    said = _said(status, body, redact or Redactor())
    problem = f"{name} answered {said.status or 'with an error'}" + (
        f": {said.message.rstrip('.')}." if said.message else "."
    )
    if hint := _final(said, _lower(headers), key_name or "its key"):
        return Rejected(problem, hint=hint, vendor=said)
    if said.status == 429:
        return RateLimited(
            problem,
            hint="Wait, then try again.",
            retry_after=retry_after(headers, body),
            vendor=said,
        )
    return Unavailable(problem, hint=_AGAIN, vendor=said, sent=said.status not in (503, 529))


def _final(said: VendorAnswer, headers: Mapping[str, str], key_name: str) -> str:
    """What to do where the same request would fail again; empty where it may not."""
    words, can_wait = (
        f"{said.code} {said.kind}",
        fields(said.metadata.get("availability")).get("retryable", True),
    )
    can_wait = can_wait and headers.get("x-should-retry") != "false"
    if said.kind == "moderation":
        return "Change the text."
    if said.status == 402 or _UNPAID.search(words):
        return "Add credit there, or choose another model."
    if said.status == 413 or (said.status != 429 and _TOO_LONG.search(f"{words} {said.message}")):
        return "Shorten the text, or choose a model that reads more."
    if said.status in (401, 403):
        return f"Check {key_name}."
    if said.status == 404:
        return "`devpipe check` lists the models there."
    passing = (
        said.status in (0, 408, 499) or said.status >= 500 or (said.status == 429 and can_wait)
    )
    return "" if passing else "Choose another model."


def _said(status: int, body: bytes | Mapping[str, Any], redact: Redactor) -> VendorAnswer:
    raw = _MARKUP.sub(" ", body.decode("utf-8", "replace")) if isinstance(body, bytes) else ""
    try:
        answer = fields(body if isinstance(body, Mapping) else _json(body))
        told = redact.value(
            {name: answer[name] for name in answer if name == "node_errors"} | _fields(answer)
        )
    except RecursionError:
        told = {}
    extra, known = (
        fields(told.get("metadata")),
        ("error", "message", "detail", "errors", "title", "code", "metadata", "choices"),
    )
    code = _word(told.get("code")) or _word(fields(told.get("availability")).get("code"))
    kinds = [told.get(name) for name in ("type", "error_type", "name", "error_id")] + [
        extra.get("error_type")
    ]
    kind = next(filter(None, map(_word, kinds)), "")
    if extra.get("reasons") or re.search(
        r"(?i)moderation|content_(filter|policy)", f"{code} {kind}"
    ):
        kind = "moderation"
    message = _KEYLIKE.sub("[redacted]", _one_line(_message(told) or redact(raw)))
    metadata = {name: value for name, value in told.items() if name not in known} | dict(extra)
    return VendorAnswer(
        status if status >= 400 else _inner_status(told, f"{code} {kind}"),
        code,
        kind,
        message,
        metadata,
    )


def _fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What describes the error: `error`, that of the first choice, or the answer itself."""
    choices = answer.get("choices")
    found = answer.get("error") or (
        fields(choices[0]).get("error") if isinstance(choices, list) and choices else None
    )
    return dict(found if isinstance(found, Mapping) else answer)


def _message(told: Mapping[str, Any]) -> str:
    return next(
        filter(
            None,
            (_text(told.get(name)) for name in ("message", "error", "detail", "errors", "title")),
        ),
        "",
    )


def _text(value: object) -> str:
    """A text, or those of a list: plain ones, or FastAPI's with the place that each is about."""
    if not isinstance(value, list):
        return value.strip() if isinstance(value, str) else ""
    return "; ".join(filter(None, (_item(fields(item), item) for item in value)))


def _item(told: Mapping[str, Any], item: object) -> str:
    place = told.get("loc") if isinstance(told.get("loc"), list) else []
    words = ".".join(map(_word, place or [])), _word(told.get("msg") or told.get("message") or item)
    return ": ".join(filter(None, words))


def _inner_status(told: Mapping[str, Any], words: str) -> int:
    said = [_number(told.get(name)) or 0 for name in ("http_status", "code", "status")]
    found = [int(number) for number in said if 400 <= number < 600] + [
        status for word, status in _BY_WORD if word.search(words)
    ]
    return found[0] if found else 0


def retry_after(headers: Mapping[str, str], body: bytes | Mapping[str, Any]) -> float | None:
    """How many seconds to wait, at most LONGEST_WAIT, as the vendor says it in headers, fields or
    prose; None where it does not.
    """
    told, said = (
        _lower(headers),
        _fields(fields(body if isinstance(body, Mapping) else _json(body))),
    )
    milliseconds, prose = _number(told.get("retry-after-ms")), _IN_PROSE.search(_message(said))
    found = (
        None if milliseconds is None else milliseconds / 1000,
        _number(told.get("retry-after")),
        _until(told.get("retry-after", ""), told.get("date", "")),
        _number(fields(said.get("availability")).get("retry_after")),
        _seconds(prose[1]) if prose else None,
    )
    return next(
        (min(max(seconds, 0.0), LONGEST_WAIT) for seconds in found if seconds is not None), None
    )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _seconds(prose: str) -> float:
    """How long `1m30s` or `7 seconds` is."""
    found = re.findall(f"(?i){_TIME}", prose)
    return sum(
        float(number) * _SECONDS["ms" if unit.lower() == "ms" else unit[0].lower()]
        for number, unit in found
    )


def _until(date: str, now: str) -> float | None:
    """Seconds until an HTTP date, by the server's own clock where it tells it."""
    try:
        start = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return (
            parsedate_to_datetime(date).replace(tzinfo=UTC) - start.replace(tzinfo=UTC)
        ).total_seconds()
    except (ValueError, OverflowError):
        return None


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _word(value: object) -> str:
    return _one_line(str(value)) if isinstance(value, str | int) else ""


def _one_line(text: str) -> str:
    """At most MAX_MESSAGE characters on one line, none of which a terminal obeys."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_MESSAGE]).split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def _is_slow(error: Exception) -> bool:
    return isinstance(error, httpx.TimeoutException | TimeoutError)
