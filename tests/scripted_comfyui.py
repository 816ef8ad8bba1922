"""A ComfyUI on this machine that runs nothing: it plays prompts as a script or a recording says,
and misbehaves as real ones do.

async with Comfy([Play(silent=True)]) as server:
    backend = ComfyUI(settings)  # with COMFYUI_URL = server.url
    ...
assert server.happened["silent"]
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from PIL import Image
from websockets.exceptions import InvalidState
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from devpipe.media.containers import sniff
from devpipe.media.pictures import encode_png

Json = dict[str, Any]
Event = Json | bytes
Reply = tuple[int, Any]  # status, and JSON or bytes
NAMED = re.compile(r"(.*?)_(\d+)_\.\w+")
TROUBLE = b"500 Internal Server Error\n\nServer got itself in trouble"
NO_PROMPT = {
    "type": "no_prompt",
    "message": "No prompt provided",
    "details": "No prompt provided",
    "extra_info": {},
}
OUTSIDE = {
    "exception_type": "Exception",
    "exception_message": "**** ERROR: Saving image outside the output folder is not allowed.",
}
FILES = ("output", "input", "temp")
STUCK_S = 1.0  # whose socket takes nothing for so long does not read
TEMP = "/ComfyUI_temp_"
SHOWN = ("PreviewImage", "PreviewAny", "SaveImageWebsocket")  # outputs without a file prefix
TO_ALL = ("progress", "progress_state", "frame")  # where a prompt names no client


@dataclass
class Play:
    """What becomes of one prompt.

    Faults are counted in `Comfy.happened` under their names when they happen.
    """

    reply: Reply | None = None  # instead of taking the prompt
    node_errors: Json = field(default_factory=dict)  # with status 200: a part of it runs
    events: list[Event] | None = (
        None  # between execution_start and its success; None: as they are for the graph
    )
    cached: list[str] = field(
        default_factory=list
    )  # nodes that are not run again, where `events` are given
    outputs: Json | None = None  # None: one picture for each node with a file prefix
    ending: str = "success"  # or execution_error, execution_interrupted
    error: Json = field(default_factory=dict)
    seconds: float = 0.001  # as the server counts it
    hold: asyncio.Event | None = None  # runs until this is set
    slow: asyncio.Event | None = None  # is on its way until this is set
    drop: bool = False  # the connection is lost instead of an answer
    gateway: bool = False  # something in between answers 504, though the prompt is taken
    garbled: bytes = b""  # the answer with status 200, though the prompt is taken
    early: bool = False  # all events come before the answer
    silent: bool = False  # no event comes
    no_end: bool = False  # the end mark does not come
    between: bool = (
        False  # runs until somebody has looked for it once, and ends before the next look
    )
    late: int = 0  # so many looks into the history find nothing, though it has succeeded
    nowhere: int = 0  # so many looks find the job neither here nor there
    cut: str = ""  # while it runs the socket ends: "lost" without a close, "closed" with one
    forget: bool = False  # the server restarts while it runs
    deleted: bool = False  # its files are gone when they are asked for

    def waits(self) -> bool:
        return self.between or (self.hold is not None and not self.hold.is_set())


def recorded(file: Path) -> list[Play]:
    """The plays of a recording of a real server: one for each prompt that was sent, with its
    answer, events and outputs.
    """
    entries, plays = json.loads(file.read_text("utf-8"))["entries"], []
    for at, entry in enumerate(entries):
        if entry["kind"] == "http" and (entry["request"]["method"], entry["request"]["path"]) == (
            "POST",
            "/prompt",
        ):
            answer = entry["response"]
            told = answer.get("json") or {}
            if answer["status"] != 200:
                plays.append(
                    Play(reply=(answer["status"], told or answer.get("text", "").encode()))
                )
                continue
            plays.append(_played(told["prompt_id"], entries[at:], told.get("node_errors") or {}))
    return plays


def _played(prompt_id: str, entries: list[Json], node_errors: Json) -> Play:
    told, play, running = (
        [one for one in entries if one["kind"] in ("ws_text", "ws_binary")],
        Play(node_errors=node_errors),
        False,
    )
    play.events, play.outputs = [], {}
    for one in told:
        data = one.get("json", {}).get("data", {})
        running = (data.get("prompt_id") == prompt_id) if "prompt_id" in data else running
        kind = one.get("json", {}).get("type", "frame")
        if running and kind == "execution_cached":
            play.cached = data["nodes"]
        if not running or kind in (
            "status",
            "execution_start",
            "execution_cached",
            "execution_success",
        ):
            continue
        if kind in ("execution_error", "execution_interrupted"):
            play.ending, play.error = kind, data
        elif kind == "frame":
            play.events.append(base64.b64decode(one["base64"]))
        elif kind != "executing" or data["node"] is not None:
            play.events.append(one["json"])
            play.outputs |= {data["node"]: data["output"]} if kind == "executed" else {}
    return play


def preview(picture: bytes, *, format: int = 2, metadata: Json | None = None) -> bytes:
    """A binary frame of type 1, or of type 4 with metadata."""
    if metadata is None:
        return b"\0\0\0\1" + format.to_bytes(4, "big") + picture
    told = json.dumps(metadata).encode()
    return b"\0\0\0\4" + len(told).to_bytes(4, "big") + told + picture


def _split(frame: bytes) -> tuple[Json | None, bytes]:
    """The metadata of a frame of type 4, None for another, and what follows."""
    end = 8 + int.from_bytes(frame[4:8], "big")
    return (
        (json.loads(frame[8:end]), frame[end:]) if frame[:4] == b"\0\0\0\4" else (None, frame[8:])
    )


def _plain(event: Event) -> Event:
    """A frame of type 1 instead of one of type 4, as those get it who did not ask for the other."""
    told, picture = _split(event) if isinstance(event, bytes) else (None, b"")
    return (
        event if told is None else preview(picture, format=1 if picture[:2] == b"\xff\xd8" else 2)
    )


class _Socket:
    def __init__(self, protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
        self.protocol, self.writer, self.types4 = protocol, writer, False

    async def send(self, event: Event) -> None:
        event = event if self.types4 else _plain(event)
        if isinstance(event, bytes):
            self.protocol.send_binary(event)
        else:
            self.protocol.send_text(json.dumps(event).encode())
        await self.flush()

    async def flush(self) -> None:
        for data in self.protocol.data_to_send():
            self.writer.write(data) if data else self.writer.write_eof()
        await self.writer.drain()


class Comfy:
    """One server.

    `asked` holds every request as (method, path, body), `happened` counts the faults that came
    about.

    Plays are taken in the order of the prompts, the last one again and again.
    """

    def __init__(
        self,
        plays: Iterable[Play] = (),
        *,
        version: str = "0.3.64",
        jobs_api: bool = False,
        object_info: Json | None = None,
    ) -> None:
        self.plays = list(plays) or [Play()]
        self.version, self.jobs_api, self.object_info = version, jobs_api, object_info or {}
        self.asked: list[tuple[str, str, Any]] = []
        self.happened: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.executed: list[str] = []  # ids, in the order of their beginning
        self.clients: list[str] = []  # ids of the sockets, as they came
        self.sockets: dict[str, _Socket] = {}
        self.reads = (
            asyncio.Event()
        )  # cleared: somebody's socket does not read, and everybody waits
        self.reads.set()
        self.changed = asyncio.Condition()
        self.upload_limit = 104_857_600  # bytes of any body
        self.proxy: dict[
            str,
            int,
            # so many requests that begin so ("/queue", "GET /queue") are answered by something in
            # between
        ] = {}
        self.between: Reply = (502, b"<html><h1>502 Bad Gateway</h1></html>")  # what that answers
        self.halves: dict[
            str, int
        ] = {}  # so many answers to requests whose path begins so end in the middle
        self.hangs: dict[str, asyncio.Event] = {}  # requests that begin so ("GET /ws") wait for it
        self.moved = ""  # where the socket is said to be
        self._names: set[str] = set()  # of all files that ever were
        self._zombies: set[str] = set()
        self._port = 0
        self._forget()
        self._unconnected()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """As `kill -9` does: connections are reset, queue and history are gone; files stay."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget()
        self._unconnected()
        for fault in ended:
            if isinstance(fault, Exception):
                raise fault  # of a play

    def _forget(self) -> None:
        """What a restart leaves: files, but those in `temp`."""
        self.number, self.node = 0, ""
        self.pending: list[tuple[float, str, Json, Json, Play]] = []
        self.running: list[tuple[float, str, Json, Json, Play]] = []
        self.history: dict[str, Json] = {}
        self._last: tuple[Json, Json] = ({}, {})
        self._looks: Counter[str] = Counter()
        self._playing: dict[str, Play] = {}
        self.interrupted: set[str] = set()
        self.files = {name: data for name, data in self.files.items() if not name.startswith(TEMP)}
        self.sockets.clear()

    def _unconnected(self) -> None:
        self._outbox: asyncio.Queue[tuple[list[_Socket], Event]] = asyncio.Queue()
        self._stuck = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._publisher: asyncio.Task[None] | None = None

    async def until(self, condition: Any) -> None:
        """Wait until something holds that a request or an event changes."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(condition)

    def prompts(self) -> list[Json]:
        """What was sent to be run."""
        return [body for method, path, body in self.asked if (method, path) == ("POST", "/prompt")]

    # Connections.

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                url, query = (
                    urlsplit(target),
                    dict(parse_qsl(urlsplit(target).query, keep_blank_values=True)),
                )
                origin = re.search(rb"(?i)\r\norigin: \w+://(.*)\r\n", head)
                foreign = origin is not None and b"host: " + origin[1] not in head.lower()
                await self._hang(f"{method} {url.path}")
                if url.path == "/ws" and self.moved:
                    self.happened["moved"] += 1
                    writer.write(
                        f"HTTP/1.1 302 -\r\nlocation: {self.moved}/ws\r\ncontent-length: 0\r\n\r\n".encode()
                    )
                    continue
                if url.path == "/ws" and not foreign:
                    return await self._listen(
                        head, query.get("clientId") or uuid.uuid4().hex, reader, writer
                    )
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.happened["403"] += foreign
                answer = _written(
                    *(403, b"") if foreign else await self._reply(method, url.path, query, body)
                )
                if self._counted(self.halves, method, url.path, "half"):
                    writer.write(answer[:-3])
                    return
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side has gone
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _hang(self, asked: str) -> None:
        for beginning, event in self.hangs.items():
            if asked.startswith(beginning) and not event.is_set():
                self.happened["hangs"] += 1
                await event.wait()

    def _counted(self, faults: dict[str, int], method: str, path: str, fault: str) -> bool:
        """Whether one of the faults that are left for this path happens now."""
        for beginning, count in faults.items():
            if count and beginning in (
                path[: len(beginning)],
                f"{method} {path}"[: len(beginning)],
            ):
                faults[beginning] -= 1
                self.happened[fault] += 1
                return True
        return False

    async def _listen(
        self, head: bytes, client: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        protocol = ServerProtocol(max_size=None)
        protocol.receive_data(head)
        request = protocol.events_received()[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        socket = self.sockets[client] = _Socket(protocol, writer)
        self.clients.append(client)
        if (
            client in self._zombies
            # the old socket of this client is noticed to be dead only now, and takes the new one
            # with
            # it
        ):
            self._zombies.discard(client)
            del self.sockets[client]
            self.happened["unregistered"] += 1
        await socket.send(self._status(sid=client))
        if self.node and any(one[3].get("client_id") == client for one in self.running):
            await socket.send(
                {"type": "executing", "data": {"node": self.node}}
            )  # to whom comes back
        while data := await reader.read(65536):
            protocol.receive_data(data)
            for frame in protocol.events_received():
                if re.search(
                    rb'"feature_flags".*"supports_preview_metadata": true',
                    getattr(frame, "data", b""),
                ):
                    socket.types4 = True
                    told = {"supports_preview_metadata": True, "max_upload_size": self.upload_limit}
                    await socket.send({"type": "feature_flags", "data": told})
                if getattr(frame, "opcode", None) is Opcode.CLOSE:
                    self.happened["left"] += 1
            await socket.flush()
        self.happened["unregistered"] += (
            self.sockets.pop(client, socket) is not socket
        )  # whichever socket that id has now

    async def _reply(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Reply:
        told: Any = json.loads(body) if body[:1] in (b"{", b"[") else body
        self.asked.append((method, path, told))
        try:
            return self._fault(method, path, body) or await self._looked(
                path, await self._routed(method, path, query, told, body)
            )
        finally:
            async with self.changed:
                self.changed.notify_all()

    async def _looked(self, path: str, reply: Reply) -> Reply:
        """The reply, which is no longer true when it arrives."""
        running = self.running[0] if self.running and self.running[0][4].between else None
        if running and path.startswith(("/queue", "/history", "/api/jobs")):
            running[4].between = False
            self.happened["between"] += 1
            async with self.changed:
                self.changed.notify_all()
            await self.until(lambda: running[1] in self.history)
        return reply

    def _fault(self, method: str, path: str, body: bytes) -> Reply | None:
        if self._counted(self.proxy, method, path, str(self.between[0])):
            return self.between
        if len(body) > self.upload_limit:
            self.happened["413"] += 1
            return (
                413,
                f"Maximum request body size {self.upload_limit} exceeded, actual body size"
                f" {len(body)}".encode(),
            )
        return None

    async def _routed(
        self, method: str, path: str, query: Mapping[str, str], told: Any, body: bytes
    ) -> Reply:
        match method, path.removeprefix("/api").strip("/").split("/"):
            case "POST", ["prompt"]:
                return await self._prompt(told)
            case "GET", ["prompt"]:
                return 200, {
                    "exec_info": {"queue_remaining": len(self.pending) + len(self.running)}
                }
            case "GET", ["queue"]:
                return 200, {
                    "queue_running": self._shown(self.running),
                    "queue_pending": self._shown(self.pending[::-1]),
                }
            case "POST", ["queue"] if isinstance(told, dict):
                self.pending = [
                    one
                    for one in self.pending
                    if not told.get("clear") and one[1] not in told.get("delete", ())
                ]
                return 200, b""
            case "POST", ["interrupt"] if isinstance(told, dict | bytes):
                return self._interrupt(
                    told.get("prompt_id")
                    if isinstance(told, dict) and self._interrupts_by_id
                    else None
                )
            case "POST", ["queue" | "interrupt"]:
                return 500, TROUBLE
            case "GET", ["history", id]:
                return 200, self._past(id)
            case "GET", ["jobs", id] if self.jobs_api and path.startswith("/api/"):
                return self._job(id)
            case "GET", ["view"]:
                return self._view(query)
            case "POST", ["upload", "image"]:
                return self._upload(body)
            case "GET", ["system_stats"]:
                return 200, {"system": {"comfyui_version": self.version}}
            case "GET", ["object_info"]:
                return 200, self.object_info
        return (404, b"") if method == "GET" else (405, b"405: Method Not Allowed")

    # What a server does.

    async def _prompt(self, told: Json) -> Reply:
        if not isinstance(told, dict) or "prompt" not in told:
            return 400, {"error": NO_PROMPT, "node_errors": {}}
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        if play.reply:
            self.happened["refused"] += 1
            return play.reply
        if play.slow:
            self.happened["slow"] += 1
            await play.slow.wait()
        id, number = (
            str(told.get("prompt_id", uuid.uuid4())),
            told.get("number", -self.number if told.get("front") else self.number),
        )
        extra = told.get("extra_data", {}) | (
            {"client_id": told["client_id"]} if "client_id" in told else {}
        )
        self.pending.append(
            (
                number,
                id,
                told["prompt"],
                extra | ({"create_time": 1000} if self.jobs_api else {}),
                play,
            )
        )
        self.pending.sort(key=lambda one: one[0])
        self._playing[id], self.number = play, self.number + 1
        await self._send(None, self._status(), play)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
            self._tasks.add(self._worker)
        self.happened["partly"] += bool(play.node_errors)
        if play.drop:
            self.happened["drop"] += 1
            raise ConnectionError
        if play.gateway:
            self.happened["504"] += 1
            return 504, b"<html><h1>504 Gateway Time-out</h1></html>"
        if play.garbled:
            self.happened["garbled"] += 1
            return 200, play.garbled
        if play.early:
            await self.until(lambda: id in self.history)
            self.happened["early"] += 1
        return 200, {"prompt_id": id, "number": number, "node_errors": play.node_errors}

    async def _work(self) -> None:
        while self.pending:
            self.running = [self.pending.pop(0)]
            await self._run(*self.running[0])
            async with self.changed:
                self.changed.notify_all()

    async def _run(self, number: float, id: str, graph: Json, extra: Json, play: Play) -> None:
        client = extra.get("client_id")
        self.executed.append(id)
        await self._send(None, self._status(), play)
        await self._send(
            client, {"type": "execution_start", "data": {"prompt_id": id, "timestamp": 1000}}, play
        )
        outputs, cached = self._outputs(graph, play)
        await self._send(
            client,
            {
                "type": "execution_cached",
                "data": {"nodes": cached, "prompt_id": id, "timestamp": 1000},
            },
            play,
        )
        for event in _events(id, graph, outputs, cached) if play.events is None else play.events:
            await self._send(client, self._of(event, id), play)
        if play.cut and client and (socket := self.sockets.get(client)):
            await self._cut(client, socket, play)
        async with self.changed:
            self.changed.notify_all()
        if outside := next((node for node, told in graph.items() if _is_outside(told)), ""):
            self.happened["outside"] += 1
            play = replace(play, ending="execution_error", error=OUTSIDE | {"node_id": outside})
        if play.forget:
            self.happened["forget"] += 1
            for left in self.sockets.values():
                left.writer.transport.abort()
            return self._forget()
        async with self.changed:
            await self.changed.wait_for(lambda: id in self.interrupted or not play.waits())
        await self._end(number, id, graph, extra, play, outputs, cached)

    async def _end(
        self,
        number: float,
        id: str,
        graph: Json,
        extra: Json,
        play: Play,
        outputs: Json,
        cached: list[str],
    ) -> None:
        ending = (
            "execution_interrupted"
            if id in self.interrupted
            else f"execution_{play.ending.removeprefix('execution_')}"
        )
        good, client = ending == "execution_success", extra.get("client_id")
        where = {
            "node_id": self.node,
            "node_type": graph.get(self.node, {}).get("class_type"),
            "executed": [],
        }
        last = ({} if good else where | play.error) | {
            "prompt_id": id,
            "timestamp": 1000 + int(play.seconds * 1000),
        }
        begun = {"prompt_id": id, "timestamp": 1000}
        noted = [
            ["execution_start", begun],
            ["execution_cached", {"nodes": cached} | begun],
            [ending, last],
        ]
        status = {
            "status_str": "success" if good else "error",
            "completed": good,
            "messages": noted,
        }
        made = outputs if good else play.outputs or {}
        meta = {
            node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
            for node in made
        }
        entry = {
            "prompt": [number, id, graph, extra, _targets(graph)],
            "outputs": made,
            "status": status,
            "meta": meta,
        }
        await self._send(client, {"type": ending, "data": last}, play)
        self.running, self.history[id], self.node = [], entry, ""
        self.happened[ending] += 1
        await self._send(None, self._status(), play)
        if not play.no_end:
            await self._send(
                client, {"type": "executing", "data": {"node": None, "prompt_id": id}}, play
            )
        self.happened["no_end"] += play.no_end

    async def _cut(self, client: str, socket: _Socket, play: Play) -> None:
        self.happened[f"cut {play.cut}"] += 1
        del self.sockets[client]
        if play.cut == "closed":
            socket.protocol.send_close(1012)
            await socket.flush()
        else:
            self._zombies.add(client)
            socket.writer.transport.abort()

    async def _send(self, client: str | None, event: Event, play: Play) -> None:
        """One after the other; while somebody does not read, they pile up, and what runs does not
        wait for them.
        """
        if isinstance(event, dict) and event["type"] == "executing":
            self.node = event["data"]["node"] or ""
        if play.silent:
            self.happened["silent"] += 1
            return
        self.happened["listed"] += (
            isinstance(event, dict) and len(event["data"].get("nodes", ())) > 1
        )
        self._outbox.put_nowait(self._addressed(client, event))
        if self._publisher is None or self._publisher.done():
            self._publisher = asyncio.ensure_future(self._publish())
            self._tasks.add(self._publisher)
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._stuck or not self.reads.is_set() else STUCK_S):
                return await self._outbox.join()
        self._stuck = True
        self.happened["stalled"] += 1

    def _addressed(self, client: str | None, event: Event) -> tuple[list[_Socket], Event]:
        """Status goes to all.

        Where a prompt names no client, its progress and previews go to all too, and the rest to
        nobody.
        """
        kind = event["type"] if isinstance(event, dict) else "frame"
        if kind == "status" or (client is None and kind in TO_ALL):
            return list(self.sockets.values()), _plain(event)
        self.happened["unheard"] += client not in self.sockets
        return [self.sockets[client]] if client in self.sockets else [], event

    async def _publish(self) -> None:
        while True:
            sockets, event = await self._outbox.get()
            await self.reads.wait()
            for socket in sockets:
                with suppress(ConnectionError, InvalidState):
                    await socket.send(event)
            self._outbox.task_done()
            self._stuck = not self._outbox.empty()

    def _status(self, **more: str) -> Json:
        remaining = len(self.pending) + len(self.running)
        self.happened["idle"] += not remaining
        return {
            "type": "status",
            "data": {"status": {"exec_info": {"queue_remaining": remaining}}} | more,
        }

    def _of(self, event: Event, id: str) -> Event:
        """The event as this prompt's."""
        if isinstance(event, bytes):
            told, picture = _split(event)
            return event if told is None else preview(picture, metadata=told | {"prompt_id": id})
        return (
            event | {"data": event["data"] | {"prompt_id": id}}
            if event["data"].get("prompt_id") != "other"
            else event
        )

    def _outputs(self, graph: Json, play: Play) -> tuple[Json, list[str]]:
        """One picture for each node with a file prefix, numbered after what lies there; for the
        graph of before, the files of before.

        And the nodes that are not run again.
        """
        if play.outputs is not None:
            return play.outputs, play.cached
        cached, before = _unchanged(graph, self._last[0]), self._last[1]
        saved = {node: told for node, told in graph.items() if _saves(told)}
        outputs = {
            node: before[node] if node in cached else {"images": [self._saved(told)]}
            for node, told in saved.items()
        }
        self.happened["cached"] += len(cached) == len(graph)
        self._last = graph, outputs
        return outputs, cached

    def _saved(self, node: Json) -> Json:
        kind = "output" if "filename_prefix" in node["inputs"] else "temp"
        folder, _, name = str(
            node["inputs"].get("filename_prefix", TEMP.strip("/") + "abcde")
        ).rpartition("/")
        taken = [
            int(match[2])
            for file in self.files
            if (match := NAMED.fullmatch(file)) and match[1] == f"{folder}/{name}"
        ]
        file = f"{name}_{max(taken, default=0) + 1:05d}_.png"
        self.happened["reused"] += f"{folder}/{file}" in self._names
        self._names.add(f"{folder}/{file}")
        self.files[f"{folder}/{file}"] = encode_png(
            Image.new("RGB", (16, 16), (len(self.executed) * 40 % 256, 90, 200))
        )
        return {"filename": file, "subfolder": folder, "type": kind}

    # What it answers.

    def _shown(self, queue: list[Any]) -> list[Json]:
        return [
            [*one[:4], _targets(one[2])] for one in queue if self._looks[one[1]] >= one[4].nowhere
        ]  # type: ignore[misc]

    def _past(self, id: str) -> Json:
        play, self._looks[id] = self._playing.get(id, Play()), self._looks[id] + 1
        fault = "late" if play.late else "nowhere"
        if self._looks[id] <= play.late + play.nowhere and (id in self.history or play.nowhere):
            self.happened[fault] += 1
            return {}
        if play.deleted and id in self.history:
            self.happened["deleted"] += bool(self.files)
            self.files.clear()
        return {id: self.history[id]} if id in self.history else {}

    def _job(self, id: str) -> Reply:
        if id in self.history:
            return 200, _job_of(self.history[id])
        states = [("in_progress", self.running), ("pending", self.pending)]
        found = [(one, state) for state, queue in states for one in queue if one[1] == id]
        return (200, _job_head(*found[0])) if found else (404, {"error": "Job not found"})

    @property
    def _interrupts_by_id(self) -> bool:
        return tuple(int(part) for part in self.version.split(".")) > (0, 3, 56)

    def _interrupt(self, id: str | None) -> Reply:
        """Without an id, and before 0.3.57 with any, it hits whatever runs."""
        self.interrupted |= {one[1] for one in self.running if id in (None, one[1])}
        return 200, b""

    def _view(self, query: Mapping[str, str]) -> Reply:
        name, kind = query.get("filename", ""), query.get("type", "output")
        if not name:
            return 404, b""
        if kind not in FILES or name.startswith("/") or ".." in name:
            return 400, b""
        if ".." in query.get("subfolder", ""):
            return 403, b""
        data = self.files.get(f"{query.get('subfolder', '')}/{name}")
        return (200, data) if data is not None else (404, b"")

    def _upload(self, body: bytes) -> Reply:
        """Other bytes under a name that is taken get another name, unless they may replace what is
        there.
        """
        parts = {
            name.decode(): value
            for name, value in re.findall(rb'(?s)name="(\w+)".*?\r\n\r\n(.*?)\r\n--', body)
        }
        folder, kind = (parts.get(name, b"").decode() for name in ("subfolder", "type"))
        named = re.search(rb'filename="([^"]+)"', body)
        if named is None or ".." in folder:
            return 400, b""
        if (kind or "input") not in FILES:
            return 500, TROUBLE
        name, data, free = (
            named[1].decode(),
            parts["image"],
            parts.get("overwrite") in (b"true", b"1"),
        )
        stem, dot, end = name.rpartition(".")
        names = [name, *(f"{stem} ({at}){dot}{end}" for at in range(1, 100))]
        name = next(one for one in names if free or self.files.get(f"{folder}/{one}", data) == data)
        self.files[f"{folder}/{name}"] = data
        return 200, {"name": name, "subfolder": folder, "type": kind or "input"}


def _written(status: int, told: Any) -> bytes:
    data = told if isinstance(told, bytes) else json.dumps(told).encode()
    page = "text/html" if data[:1] == b"<" else "text/plain; charset=utf-8"
    kind = sniff(data) if status < 400 and data[:5] != b"<html" else page
    kind = kind if isinstance(told, bytes) else "application/json; charset=utf-8"
    header = f"content-type: {kind}\r\n" if data else ""
    return f"HTTP/1.1 {status} -\r\n{header}content-length: {len(data)}\r\n\r\n".encode() + data


def _unchanged(graph: Json, before: Json) -> list[str]:
    """The nodes that need not run again: equal to those of the prompt before, and so is all that
    leads to them.
    """
    found: list[str] = []
    for node, told in graph.items():
        links = [str(value[0]) for value in told["inputs"].values() if isinstance(value, list)]
        if before.get(node) == told and all(link in found for link in links):
            found.append(node)
    return found


def _saves(node: Json) -> bool:
    return "filename_prefix" in node["inputs"] or node["class_type"] == "PreviewImage"


def _is_outside(node: Json) -> bool:
    return str(node["inputs"].get("filename_prefix", "")).startswith(("/", "../"))


def _targets(graph: Json) -> list[str]:
    """The nodes that a prompt is run for."""
    return [node for node, told in graph.items() if _saves(told) or told["class_type"] in SHOWN]


def _events(id: str, graph: Json, outputs: Json, cached: list[str]) -> list[Event]:
    """What a run says of its nodes; of those that are not run again, only what they once gave."""
    events: list[Event] = []
    states: list[Json] = []
    for node in graph:
        made = (
            [
                {
                    "type": "executed",
                    "data": {"node": node, "display_node": node, "output": outputs[node]},
                }
            ]
            if node in outputs
            else []
        )
        if node in cached:
            events += [*made, _states(states := [*states, _state(id, node, 1.0)])] if made else []
            continue
        events += [
            _states([*states, _state(id, node, 0.0)]),
            {"type": "executing", "data": {"node": node, "display_node": node}},
            *made,
        ]
        events.append(_states(states := [*states, _state(id, node, 1.0)]))
    return events


def _state(id: str, node: str, value: float) -> Json:
    names = {
        "node_id": node,
        "prompt_id": id,
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }
    return {"value": value, "max": 1.0, "state": "finished" if value else "running"} | names


def _states(states: list[Json]) -> Json:
    """All nodes so far, again and again."""
    return {"type": "progress_state", "data": {"nodes": {one["node_id"]: one for one in states}}}


def _job_head(one: tuple[float, str, Json, Json, Play], status: str) -> Json:
    return {
        "id": one[1],
        "status": status,
        "priority": one[0],
        "create_time": 1000,
        "outputs_count": 0,
    }


def _job_of(entry: Json) -> Json:
    """A job that is over, as the jobs API tells it; one that was interrupted has failed too."""
    number, id, graph, extra, _ = entry["prompt"]
    noted = dict(entry["status"]["messages"])
    head = _job_head(
        (number, id, graph, extra, Play()),
        "completed" if entry["status"]["completed"] else "failed",
    )
    times = {
        "execution_start_time": 1000,
        "execution_end_time": entry["status"]["messages"][-1][1]["timestamp"],
    }
    fault = {"execution_error": noted["execution_error"]} if "execution_error" in noted else {}
    told = {
        "outputs": entry["outputs"],
        "execution_status": entry["status"],
        "workflow": {"prompt": graph, "extra_data": extra},
    }
    return head | times | fault | told | {"outputs_count": len(entry["outputs"])}
