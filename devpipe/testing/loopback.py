"""A server on this machine that speaks the protocols of text models by a script: for tests, and for
benchmarks.

It knows Ollama's own API, the OpenAI-compatible one (below /v1) and OpenRouter's (below /api/v1).
Delays, errors and cuts are the
script's, to the byte and, as far as the machine is not busy, to the millisecond; what was asked and
when each piece was written is kept.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h11

from devpipe.engine.loop import LoopThread
from devpipe.testing.protocols import CHATS, Answer, Json, encoded, told

PATIENCE_S = 10.0
KEY = "sk-loopback-0123456789"
BASES = {"ollama": "", "openai_compatible": "/v1", "openrouter": "/api/v1"}
Script = Answer | str | Callable[[Json], Answer | str]


@dataclass(slots=True)
class Asked:
    """One request, and what became of its answer. Times are those of `time.monotonic()`."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: Json
    at: float
    written: list[tuple[float, str]] = field(
        default_factory=list
    )  # when each token was sent, just before it was
    finished: float | None = None  # when the script's answer was over
    closed: float | None = None  # when the client closed the connection before that


class Loopback:
    """Answers by its script, one after the other, the last one again and again; a function gets the
    request's body.

    >>> with Loopback([Answer("Eins zwei drei", pause=0.05)]) as server:
    ...     environment = server.environment("ollama")  # for Settings.load, or a process of its own
    >>> sorted(environment), server.chats  # by request: body, when each word and the client went
    (['DEVPIPE_MODEL_INTERCEPTION', 'OLLAMA_HOST'], [])

    Versions, lists of models and the like it answers by itself; `requests` holds those, too. It
    runs in a thread of its own.
    """

    def __init__(
        self, script: Iterable[Script] = ("ok",), *, models: Sequence[str] = ("test",)
    ) -> None:
        self.script = list(script)
        self.models = models
        self.requests: list[Asked] = []
        self._accepted = 0
        self._faults: list[Exception] = []
        self._changed = threading.Condition()
        self._thread = LoopThread("devpipe-loopback")

    def __enter__(self) -> Self:
        self._server = self._thread.submit(
            asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        ).result(PATIENCE_S)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections. Raises what the script's functions raised."""
        self._thread.call(self._server.close)
        self._thread.close()
        if error is None and self._faults:
            raise self._faults[0]

    @property
    def chats(self) -> list[Asked]:
        """The requests that the script answered."""
        return [asked for asked in self.requests if asked.path in CHATS]

    @property
    def connections(self) -> int:
        """How often anybody has connected until now."""
        for _ in range(5):  # turns of the loop, in which it accepts whoever waits
            self._thread.submit(asyncio.sleep(0)).result(PATIENCE_S)
        return self._accepted

    def environment(
        self, backend: str, *, tasks: Sequence[str] = ("interception",), model: str = "test"
    ) -> dict[str, str]:
        """Variables by which devpipe asks this server: as `ollama`, `openai_compatible` or
        `openrouter`, for these tasks.
        """
        variable = "OLLAMA_HOST" if backend == "ollama" else f"DEVPIPE_{backend.upper()}_URL"
        key = {"OPENROUTER_API_KEY": KEY} if backend == "openrouter" else {}
        return (
            {variable: self.url + BASES[backend]}
            | key
            | {f"DEVPIPE_MODEL_{task.upper()}": f"{backend}/{model}" for task in tasks}
        )

    def until(self, condition: Callable[[], object], *, timeout: float = PATIENCE_S) -> None:
        """Wait until something about the requests holds; AssertionError where it does not
        in time.
        """
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"not within {timeout} s: {self.requests}"
            )

    # In the server's thread.

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        try:
            await self._serve(h11.Connection(h11.SERVER), reader, writer)
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # the client has gone, or speaks no HTTP
        except asyncio.CancelledError:
            pass  # the server closes; asyncio would report a handler that ends as cancelled
        except Exception as error:  # the script's: raised where the server is closed
            self._faults.append(error)
        finally:
            writer.close()
            self._note()

    async def _serve(
        self, wire: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request after the other, as long as both sides keep to HTTP."""
        while (asked := await _request(wire, reader)) is not None:
            self.requests.append(asked)
            self._note()
            sending = asyncio.ensure_future(self._answer(wire, asked, writer))
            await _watch(wire, reader, sending)
            sending.cancel()
            await asyncio.wait({sending})
            if sending.cancelled() or isinstance(sending.exception(), ConnectionError):
                asked.closed = time.monotonic()
                return
            sending.result()
            if wire.our_state is not h11.DONE or wire.their_state is not h11.DONE:
                return
            wire.start_next_cycle()
            self._note()

    async def _answer(
        self, wire: h11.Connection, asked: Asked, writer: asyncio.StreamWriter
    ) -> None:
        answer, status, media_type, pieces = self._composed(asked)
        due = time.monotonic() + answer.latency
        await asyncio.sleep(answer.latency)
        if answer.head:
            headers = [("content-type", media_type), *answer.headers.items()]
            writer.write(wire.send(h11.Response(status_code=status, headers=headers)) or b"")
        for token, data in pieces:
            await asyncio.sleep(
                max(0.0, due - time.monotonic())
            )  # from a fixed beginning: a late token makes no later ones late
            if token:
                asked.written.append((time.monotonic(), token))
                due += answer.pause
            await _write(wire, writer, data, answer)
            self._note()
        if answer.ending == "hang":
            await asyncio.Event().wait()
        if answer.head and answer.ending != "cut":
            writer.write(wire.send(h11.EndOfMessage()) or b"")
        asked.finished = time.monotonic()

    def _composed(self, asked: Asked) -> tuple[Answer, int, str, Iterable[tuple[str, bytes]]]:
        """The answer, and its status, media type and body."""
        if asked.path not in CHATS or asked.method != "POST":
            status, found = told(asked.path, asked.body, self.models)
            return Answer(), status, "application/json", [("", encoded(found))]
        one = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        answer = one(asked.body) if callable(one) else one
        answer = Answer(answer) if isinstance(answer, str) else answer
        status, media_type, pieces = CHATS[asked.path](asked.body, answer).body()
        return answer, status, media_type, pieces if answer.head or answer.raw else []


class Canary(Loopback):
    """Counts whoever connects, and tells nobody anything: where nothing may be sent, `connections`
    stays 0.
    """

    async def _serve(
        self, wire: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Close at once."""


async def _request(wire: h11.Connection, reader: asyncio.StreamReader) -> Asked | None:
    """The next request on a connection; None where there is no more."""
    head, body = h11.Request(method="GET", target="/", headers=[("host", "")]), b""
    while True:
        match event := wire.next_event():
            case h11.Request():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                path = head.target.decode().partition("?")[0]
                return Asked(
                    head.method.decode(), path, headers, json.loads(body or b"{}"), time.monotonic()
                )
            case h11.NEED_DATA:
                wire.receive_data(await reader.read(65_536))
            case _:
                return None


async def _watch(
    wire: h11.Connection, reader: asyncio.StreamReader, sending: asyncio.Task[None]
) -> None:
    """Until the answer is sent, or the client has gone."""
    while not sending.done() and not reader.at_eof():
        hearing = asyncio.ensure_future(reader.read(65_536))
        await asyncio.wait([sending, hearing], return_when=asyncio.FIRST_COMPLETED)
        hearing.cancel()
        await asyncio.wait([hearing])
        if hearing.cancelled() or hearing.exception() is not None:
            return  # the answer is sent, or the connection was reset
        wire.receive_data(hearing.result())


async def _write(
    wire: h11.Connection, writer: asyncio.StreamWriter, data: bytes, answer: Answer
) -> None:
    size = answer.piece or len(data)
    for start in range(0, len(data), size or 1):
        part = data[
            start : start + size
        ]  # a chunk of its own: the client's reader gets just this, whatever TCP joins
        writer.write((wire.send(h11.Data(part)) or b"") if answer.head else part)
        await writer.drain()
