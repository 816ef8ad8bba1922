"""A ComfyUI on this machine that runs nothing: it plays prompts as a script or a recording says, and misbehaves as real ones do.

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
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from PIL import Image
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from devpipe.pictures import encode_png

Json = dict[str, Any]
Event = Json | bytes
Reply = tuple[int, Any]  # status, and JSON or bytes
NAMED = re.compile(r"(.*?)_(\d+)_\.\w+")


@dataclass
class Play:
    """What becomes of one prompt. Faults are counted in `Comfy.happened` under their names when they happen."""

    reply: Reply | None = None  # instead of taking the prompt
    node_errors: Json = field(default_factory=dict)  # with status 200: a part of it runs
    events: list[Event] | None = None  # between execution_start and its success; None: as they are for the graph
    outputs: Json | None = None  # None: one picture for each node with a file prefix
    ending: str = "success"  # or execution_error, execution_interrupted
    error: Json = field(default_factory=dict)
    seconds: float = 0.001  # as the server counts it
    hold: asyncio.Event | None = None  # runs until this is set
    drop: bool = False  # the connection is lost instead of an answer
    early: bool = False  # all events come before the answer
    silent: bool = False  # no event comes
    no_end: bool = False  # the end mark does not come
    late: int = 0  # so many looks into the history find nothing, though it has succeeded
    nowhere: int = 0  # so many looks find the job neither here nor there
    cut: str = ""  # while it runs the socket ends: "lost" without a close, "closed" with one
    forget: bool = False  # the server restarts while it runs
    deleted: bool = False  # its files are gone when they are asked for


def recorded(file: Path) -> list[Play]:
    """The plays of a recording of a real server: one for each prompt that was sent, with its answer, events and outputs."""
    entries, plays = json.loads(file.read_text("utf-8"))["entries"], []
    for at, entry in enumerate(entries):
        if entry["kind"] == "http" and (entry["request"]["method"], entry["request"]["path"]) == ("POST", "/prompt"):
            answer = entry["response"]
            told = answer.get("json") or {}
            if answer["status"] != 200:
                plays.append(Play(reply=(answer["status"], told or answer.get("text", "").encode())))
                continue
            plays.append(_played(told["prompt_id"], entries[at:], told.get("node_errors") or {}))
    return plays


def _played(prompt_id: str, entries: list[Json], node_errors: Json) -> Play:
    told, play, running = [one for one in entries if one["kind"] in ("ws_text", "ws_binary")], Play(node_errors=node_errors), False
    play.events, play.outputs = [], {}
    for one in told:
        data = one.get("json", {}).get("data", {})
        running = (data.get("prompt_id") == prompt_id) if "prompt_id" in data else running
        kind = one.get("json", {}).get("type", "frame")
        if not running or kind in ("status", "execution_start", "execution_cached", "execution_success"):
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


class _Socket:
    def __init__(self, protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
        self.protocol, self.writer, self.types4 = protocol, writer, False

    async def send(self, event: Event) -> None:
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
    """One server. `asked` holds every request as (method, path, body), `happened` counts the faults that came about.

    Plays are taken in the order of the prompts, the last one again and again.
    """

    def __init__(
        self, plays: Iterable[Play] = (), *, version: str = "0.3.64", jobs_api: bool = False, object_info: Json | None = None
    ) -> None:
        self.plays = list(plays) or [Play()]
        self.version, self.jobs_api, self.object_info = version, jobs_api, object_info or {}
        self.asked: list[tuple[str, str, Any]] = []
        self.happened: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.executed: list[str] = []  # ids, in the order of their beginning
        self.clients: list[str] = []  # ids of the sockets, as they came
        self.sockets: dict[str, _Socket] = {}
        self.reads = asyncio.Event()  # cleared: somebody's socket does not read, and everybody waits
        self.reads.set()
        self.changed = asyncio.Condition()
        self.upload_limit = 100_000_000
        self._zombies: set[str] = set()
        self._last: tuple[Json, Json] = ({}, {})
        self._port = 0
        self._forget()

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
        for fault in ended:
            if isinstance(fault, Exception):
                raise fault  # of a play

    def _forget(self) -> None:
        self.number = 0
        self.pending: list[tuple[int, str, Json, Json, Play]] = []
        self.running: list[tuple[int, str, Json, Json, Play]] = []
        self.history: dict[str, Json] = {}
        self.sockets.clear()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._looks: Counter[str] = Counter()
        self._playing: dict[str, Play] = {}
        self.interrupted: set[str] = set()

    async def until(self, condition: Any) -> None:
        """Wait until something holds that a request or an event changes."""
        async with asyncio.timeout(10), self.changed:
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
                url, query = urlsplit(target), dict(parse_qsl(urlsplit(target).query))
                if url.path == "/ws":
                    return await self._listen(head, query.get("clientId", ""), reader, writer)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                status, told = await self._reply(method, url.path, query, body)
                data = told if isinstance(told, bytes) else json.dumps(told).encode()
                kind = "application/octet-stream" if isinstance(told, bytes) else "application/json"
                writer.write(f"HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side has gone
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _listen(self, head: bytes, client: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol(max_size=None)
        protocol.receive_data(head)
        request = protocol.events_received()[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        socket = self.sockets[client] = _Socket(protocol, writer)
        self.clients.append(client)
        if client in self._zombies:  # the old socket of this client is noticed to be dead only now, and takes the new one with it
            self._zombies.discard(client)
            del self.sockets[client]
            self.happened["unregistered"] += 1
        await socket.send({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client}})
        while data := await reader.read(65536):
            protocol.receive_data(data)
            for frame in protocol.events_received():
                socket.types4 |= b"supports_preview_metadata" in getattr(frame, "data", b"")
                if getattr(frame, "opcode", None) is Opcode.CLOSE:
                    self.happened["left"] += 1
            await socket.flush()
        if self.sockets.get(client) is socket:
            del self.sockets[client]

    async def _reply(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Reply:
        told: Any = json.loads(body) if body[:1] == b"{" else body
        self.asked.append((method, path, told))
        try:
            match method, path.strip("/").split("/"):
                case "POST", ["prompt"]:
                    return await self._prompt(told)
                case "GET", ["prompt"]:
                    return 200, {"exec_info": {"queue_remaining": len(self.pending) + len(self.running)}}
                case "GET", ["queue"]:
                    return 200, {"queue_running": self._shown(self.running), "queue_pending": self._shown(self.pending[::-1])}
                case "POST", ["queue"]:
                    self.pending = [one for one in self.pending if one[1] not in told.get("delete", ())]
                    return 200, b""
                case "POST", ["interrupt"]:
                    return self._interrupt(told.get("prompt_id") if self.version > "0.3.56" else None)
                case "GET", ["history", id]:
                    return 200, self._past(id)
                case "GET", ["api", "jobs", id] if self.jobs_api:
                    return self._job(id)
                case "GET", ["view"]:
                    data = self.files.get(f"{query['subfolder']}/{query['filename']}")
                    return (200, data) if data is not None else (404, b"")
                case "POST", ["upload", "image"]:
                    return self._upload(body)
                case "GET", ["system_stats"]:
                    return 200, {"system": {"comfyui_version": self.version}}
                case "GET", ["object_info"]:
                    return 200, self.object_info
            return 404, b"404: Not Found"
        finally:
            async with self.changed:
                self.changed.notify_all()

    # What a server does.

    async def _prompt(self, told: Json) -> Reply:
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        if play.reply:
            self.happened["refused"] += 1
            return play.reply
        id = told.get("prompt_id", str(self.number))
        self.pending.append((self.number, id, told["prompt"], {"client_id": told.get("client_id")}, play))
        self._playing[id], self.number = play, self.number + 1
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
            self._tasks.add(self._worker)
        if play.drop:
            self.happened["drop"] += 1
            raise ConnectionError
        if play.early:
            await self.until(lambda: id in self.history)
            self.happened["early"] += 1
        return 200, {"prompt_id": id, "number": self.number - 1, "node_errors": play.node_errors}

    async def _work(self) -> None:
        while self.pending:
            self.running = [self.pending.pop(0)]
            await self._run(*self.running[0])
            async with self.changed:
                self.changed.notify_all()

    async def _run(self, number: int, id: str, graph: Json, extra: Json, play: Play) -> None:
        client = extra["client_id"]
        self.executed.append(id)
        await self._send(None, {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}}}, play)
        await self._send(client, {"type": "execution_start", "data": {"prompt_id": id}}, play)
        outputs = self._outputs(graph, play)
        for event in self._events(graph, outputs) if play.events is None else play.events:
            await self._send(client, self._of(event, id, client), play)
        if play.cut and (socket := self.sockets.get(client)):
            await self._cut(client, socket, play)
        async with self.changed:
            self.changed.notify_all()
        if play.forget:
            self.happened["forget"] += 1
            self.pending, self.running, self.history, self.number = [], [], {}, 0
            return
        while play.hold and not play.hold.is_set() and id not in self.interrupted:
            async with self.changed:
                await self.changed.wait_for(lambda: play.hold is None or play.hold.is_set() or id in self.interrupted)
        await self._end(number, id, graph, extra, play, outputs)

    async def _end(self, number: int, id: str, graph: Json, extra: Json, play: Play, outputs: Json) -> None:
        ending = "execution_interrupted" if id in self.interrupted else f"execution_{play.ending.removeprefix('execution_')}"
        good = ending == "execution_success"
        last = {"prompt_id": id, "timestamp": 1000 + int(play.seconds * 1000)} | ({} if good else play.error | {"prompt_id": id})
        noted = [["execution_start", {"prompt_id": id, "timestamp": 1000}], [ending, last]]
        status = {"status_str": "success" if good else "error", "completed": good, "messages": noted}
        entry = {"prompt": [number, id, graph, extra, list(outputs)], "outputs": outputs if good else {}, "status": status}
        await self._send(extra["client_id"], {"type": ending, "data": last}, play)
        self.running, self.history[id] = [], entry
        await self._send(None, {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}}, play)
        if not play.no_end:
            await self._send(extra["client_id"], {"type": "executing", "data": {"node": None, "prompt_id": id}}, play)
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
        """To one client, or to all; each waits until the one before has read."""
        if play.silent:
            self.happened["silent"] += 1
            return
        self.happened["stalled"] += not self.reads.is_set()
        sockets = [self.sockets[client]] if client in self.sockets else list(self.sockets.values()) if client is None else []
        for socket in sockets:
            if self.reads.is_set():
                with suppress(ConnectionError):
                    await socket.send(event)

    def _of(self, event: Event, id: str, client: str) -> Event:
        """The event as this prompt's."""
        if isinstance(event, bytes):
            size = int.from_bytes(event[4:8], "big")
            told = event[8 : 8 + size] if event[:4] == b"\0\0\0\4" else b""
            return preview(event[8 + size :], metadata=json.loads(told) | {"prompt_id": id}) if told else event
        return event | {"data": event["data"] | {"prompt_id": id}} if event["data"].get("prompt_id") != "other" else event

    def _events(self, graph: Json, outputs: Json) -> list[Event]:
        events: list[Event] = []
        for node in graph:
            nodes = {node: {"value": 0.0, "max": 1.0, "state": "running", "node_id": node}}
            events += [{"type": "progress_state", "data": {"nodes": nodes}}, {"type": "executing", "data": {"node": node}}]
            events += [{"type": "executed", "data": {"node": node, "output": outputs[node]}}] if node in outputs else []
        return events

    def _outputs(self, graph: Json, play: Play) -> Json:
        """One picture for each node with a file prefix, numbered after what lies there; for the graph of before, the files of before."""
        if play.outputs is not None or graph == self._last[0]:
            self.happened["cached"] += play.outputs is None
            return self._last[1] if play.outputs is None else play.outputs
        found = {}
        for node, told in graph.items():
            if prefix := told["inputs"].get("filename_prefix"):
                folder, _, name = str(prefix).rpartition("/")
                taken = [int(match[2]) for file in self.files if (match := NAMED.fullmatch(file)) and match[1] == f"{folder}/{name}"]
                file = f"{name}_{max(taken, default=0) + 1:05d}_.png"
                self.files[f"{folder}/{file}"] = encode_png(Image.new("RGB", (16, 16), (len(self.executed) * 40 % 256, 90, 200)))
                found[node] = {"images": [{"filename": file, "subfolder": folder, "type": "output"}]}
        self._last = graph, found
        return found

    # What it answers.

    def _shown(self, queue: list[Any]) -> list[Json]:
        return [[*one[:4], []] for one in queue if self._looks[one[1]] >= one[4].nowhere]  # type: ignore[misc]

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
            return 200, {"id": id, "status": "completed" if self.history[id]["status"]["completed"] else "failed"}
        states = [("in_progress", self.running), ("pending", self.pending)]
        found = [state for state, queue in states if any(one[1] == id for one in queue)]
        return (200, {"id": id, "status": found[0]}) if found else (404, {"error": "Job not found"})

    def _interrupt(self, id: str | None) -> Reply:
        """Without an id, and before 0.3.57 with any, it hits whatever runs."""
        self.interrupted |= {one[1] for one in self.running if id in (None, one[1])}
        return 200, b""

    def _upload(self, body: bytes) -> Reply:
        name = (re.search(rb'filename="([^"]+)"', body) or [b"", b""])[1].decode()
        data = body.split(b"image/png\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0]
        if len(data) > self.upload_limit:
            self.happened["413"] += 1
            return 413, b"Maximum request body size exceeded"
        self.files[f"/{name}"] = data
        return 200, {"name": name, "subfolder": "", "type": "input"}
