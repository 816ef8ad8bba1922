"""One ComfyUI server on the wire: a socket for what is nice to know in time, HTTP for what counts.

Figures: 0.3.64 and 0.8.0, measured.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from devpipe.backends.base import Emit, Preview, Progress, Queued
from devpipe.backends.http import QUICK, Http, Timeouts
from devpipe.backends.streams import fields, items, whole
from devpipe.config.workflow import title_of
from devpipe.errors import BackendError, RateLimited, Rejected, Unavailable
from devpipe.media.containers import sniff

LOAD = Timeouts(30, 30, connect=1)
POLL = Timeouts(30, 30)  # a server that loads a model may be silent for long
SUBMIT = Timeouts(120, 120)
MAX_FRAME = 2**28  # bytes: a node may send whole pictures; 2048 x 2048 of noise are 12.6 MB
# a socket nobody needs is closed: one that is not read (a sleeping laptop) stalls the events of
# everybody
IDLE_S = 30.0
DEAD_S = 30.0
DEAF_S = 10.0  # so long no socket is asked for where the last one did not open in time
STOP_S = 1.0
BUSY = 10**6  # prompts, where a server has no time to say how many
BY_ID = (0, 3, 57)  # older servers stop whatever runs, whoever's it is
NOWHERE = (
    404,
    405,
)  # ComfyUI has all the paths that are asked for, but for those of which a look says so
_STREAMED = "SaveImageWebsocket"


@dataclass(eq=False)
class Job:
    """One prompt of ours at a server."""

    id: str
    emit: Emit
    graph: Mapping[str, Any] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    sent_at: float = 0.0
    ended: bool = False  # the end mark has come: the history holds it by now
    over: bool = False  # nothing of it is left to be stopped
    node: str = ""
    begun: set[str] = field(default_factory=set)
    streamed: list[bytes] = field(default_factory=list)
    heard: set[str] = field(
        default_factory=set
    )  # nodes during which the socket was there all the time
    torn: bool = False  # it was lost since the node began
    position: int = 0  # how many come first
    told: int = 0  # what was last said of that

    @property
    def streaming(self) -> list[str]:
        """The nodes whose pictures come by the socket and nowhere else."""
        return [
            node for node, told in self.graph.items() if fields(told).get("class_type") == _STREAMED
        ]

    def enter(self, node: str) -> None:
        """A node begins, so that the one before it has sent all that it sends."""
        self.heard |= set() if self.torn else {self.node}
        self.node, self.torn = node, False

    def title(self, node: object) -> str:
        """What the person calls a node of the graph; nodes that others put into it have no name
        here.
        """
        found = self.graph.get(str(node))
        return title_of(found) if found else str(node)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """Our key goes to this server and nowhere else."""
        return exc


class ComfyHttp(Http):
    def error(
        self, status: int, headers: Mapping[str, str], body: bytes | Mapping[str, Any]
    ) -> BackendError:
        """`vendor_error`; of a path that every ComfyUI has, it says that there is none at this
        address.
        """
        found = super().error(status, headers, body)
        if status not in NOWHERE:
            return found
        hint = "Set COMFYUI_URL to the address at which its page opens, without anything after it."
        return Rejected(
            f"There is no ComfyUI at {self.url} (it answered {status}).",
            hint=hint,
            vendor=found.vendor,
        )


class Server:
    """One server: its jobs of ours, its socket, and its answers to what they ask."""

    quick_s = 2.0  # so long may it take to open a socket, and to say how busy it is

    def __init__(self, http: Http) -> None:
        self.http = http
        self.jobs: dict[str, Job] = {}
        self.dead_until = 0.0
        self.usual_s: float | None = None  # how long a job took here lately
        self.has_jobs_api: bool | None = None
        self._version: tuple[int, ...] | None = None
        self._client_id = str(uuid.uuid4())
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening: asyncio.Lock | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None
        self._deaf_until = 0.0
        self._stopping: set[asyncio.Task[None]] = set()
        self._heard_at = 0.0
        self._running: Job | None = None  # which the frames without an id belong to
        self._queue: tuple[float, Mapping[str, Any]] = (0.0, {})
        self._nodes: tuple[float, dict[str, Any]] = (0.0, {})

    # The socket.

    async def listen(self) -> str:
        """The client id to give with a prompt; its events come from now on, if the server has a
        socket for us.
        """
        if self._idle:
            self._idle.cancel()
        if self._reader is not None and self._reader.get_loop() is not asyncio.get_running_loop():
            self._forget()
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            streams = any(job.streaming for job in self.jobs.values())
            if not self.listens and (streams or time.monotonic() >= self._deaf_until):
                await self._open()
        return self._client_id

    async def _open(self) -> None:
        """Connect anew.

        The old client id is only safe after a confirmed close: else, when the server notices that
        the
        old socket has gone, it unregisters the new one, and all is silence."""
        if self._socket is not None and self._socket.protocol.close_rcvd is None:
            self._client_id = str(uuid.uuid4())
        self._running = None  # it may have ended meanwhile
        address, headers = self.http.websocket(f"/ws?clientId={self._client_id}")
        try:
            self._socket = await _Connect(
                address,
                additional_headers=headers,
                user_agent_header=None,
                compression=None,
                max_size=MAX_FRAME,
                open_timeout=self.quick_s,
                ping_interval=None,
                close_timeout=STOP_S,
                proxy=None if self.http.private else True,
            )
            self._reader = asyncio.ensure_future(self._read(self._socket))
            await self._socket.send(
                json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            )
        except TimeoutError:
            self._deaf_until = time.monotonic() + DEAF_S
        except (OSError, WebSocketException):
            pass  # HTTP alone tells

    async def _read(self, socket: ClientConnection) -> None:
        """Always, and at once: who does not read stalls the server's events for everybody."""
        with suppress(ConnectionClosed):
            async for message in socket:
                self._heard_at = time.monotonic()
                if isinstance(message, str):
                    self._take(message)
                else:
                    self._frame(message)
        for job in self.jobs.values():
            job.torn = True
            job.news.set()

    def _take(self, message: str) -> None:
        if message.startswith('{"type": "progress_state"'):
            return  # repeats all nodes each time; `progress` says the same
        try:
            told = fields(json.loads(message))
        except ValueError:
            return
        data = fields(told.get("data"))
        job = self.jobs.get(str(data.get("prompt_id")))
        if job is None:
            return  # somebody else's, or one that is over
        match told.get("type"):
            case "execution_start":
                job.position = 0
            case "execution_cached":
                job.begun.update(str(node) for node in data.get("nodes") or ())
            case "execution_success":
                job.enter("")
            case "executing" if data.get("node") is None:
                job.enter("")
                job.ended = True
                job.news.set()
                self._running = None if self._running is job else self._running
            case "executing":
                self._running = job
                job.enter(str(data["node"]))
                job.begun.add(job.node)
                job.emit(
                    Progress(
                        min(len(job.begun), len(job.graph)), len(job.graph), job.title(job.node)
                    )
                )
            case "progress":
                step, steps = whole(data.get("value")), whole(data.get("max"))
                if step is not None and steps:
                    job.emit(Progress(step, steps, job.title(data.get("node") or job.node)))

    def _frame(self, frame: bytes) -> None:
        """A picture on its way: type 1 is the running job's, type 4 says whose it is.

        Others are for pages of ComfyUI's own.
        """
        kind, size = struct.unpack_from(">II", frame) if len(frame) >= 8 else (0, 0)
        job, picture, node = self._running, frame[8:], self._running.node if self._running else ""
        if kind == 4:
            with suppress(ValueError):
                told = fields(json.loads(frame[8 : 8 + size]))
                job, picture, node = (
                    self.jobs.get(str(told.get("prompt_id"))),
                    frame[8 + size :],
                    str(told.get("node_id")),
                )
        if (
            kind not in (1, 4)
            or job is None
            or job.id not in self.jobs
            or not sniff(picture).startswith("image/")
        ):
            return
        if node in job.streaming:
            job.streamed.append(picture)
            job.node = node  # though nothing said that it begins
        else:
            job.emit(Preview(picture, sniff(picture)))

    async def resume(self) -> None:
        """Follow the jobs again under the same id, where the server has surely let go of the old
        socket.
        """
        if self._socket is not None and self._socket.protocol.close_rcvd is not None:
            await self.listen()

    @property
    def listens(self) -> bool:
        return self._reader is not None and not self._reader.done()

    def hears(self, job: Job) -> bool:
        """Whether the socket has said anything since the job was sent: each prompt makes it
        say so.
        """
        return self._heard_at > job.sent_at and self.listens

    def leave(self, job: Job) -> None:
        """The job is over.

        A socket that was silent all the time is given up, an idle one is closed after a while.
        """
        self.jobs.pop(job.id, None)
        if not self.jobs:
            wait = IDLE_S if self.hears(job) else 0.0
            self._idle = asyncio.get_running_loop().call_later(wait, self._hang_up)

    def _hang_up(self) -> None:
        if not self.jobs and self._socket is not None and self._reader is not None:
            self._closing = asyncio.ensure_future(self._socket.close())

    def _forget(self) -> None:
        self._socket = self._reader = self._opening = None
        self._client_id = str(uuid.uuid4())

    async def close(self) -> None:
        if self._idle:
            self._idle.cancel()
        if self._reader is not None and self._reader.get_loop() is asyncio.get_running_loop():
            assert self._socket is not None
            await self._socket.close()
            await asyncio.wait({self._reader})
        await self._stopped()
        self._forget()
        await self.http.close()

    # HTTP.

    async def load(self) -> int | None:
        """How many prompts wait or run, BUSY where it has no time to say; None where it does not
        answer, or did not lately.
        """
        if time.monotonic() < self.dead_until:
            return None
        try:
            async with asyncio.timeout(self.quick_s):
                told = await self.http.get_json("/prompt", timeouts=LOAD)
        except (TimeoutError, RateLimited):
            return BUSY
        except BackendError:
            self.dead_until = time.monotonic() + DEAD_S
            return None
        return whole(fields(told.get("exec_info")).get("queue_remaining")) or 0

    async def upload(self, name: str, data: bytes) -> str:
        """A picture of ours as the server calls it; the same bytes under the same name are stored
        once.
        """
        try:
            told = await self.http.post_file(
                "/upload/image", name, data, fields={"type": "input"}, timeouts=SUBMIT
            )
        except Rejected as error:
            if error.vendor and error.vendor.status == 413:
                raise Rejected(
                    f"{self.http.name} takes no picture of {len(data):,} bytes.",
                    hint="Use a smaller one.",
                ) from error
            raise
        return "/".join(filter(None, (str(told.get("subfolder", "")), str(told.get("name", name)))))

    async def look(self, job: Job) -> tuple[Mapping[str, Any] | None, bool]:
        """The job's entry in the history, if it is over, and whether the server knows the job at
        all.

        The queue is read first: read after the history, it misses a job that ends in between (102
        of 300 fast ones).
        """
        if job.ended and (entry := await self.history(job)):
            return entry, True
        if self.has_jobs_api is not False and (status := await self._status(job)) is not None:
            if status in ("pending", "in_progress"):
                job.position = await self._position(job) or 0 if status == "pending" else 0
                return None, True
            return (entry := await self.history(job)), entry is not None
        position = await self._position(job)
        if position is None:
            return (entry := await self.history(job)), entry is not None
        job.position = position
        return None, True

    async def knows(self, ids: Iterable[str]) -> str | None:
        """Under which of these ids it has a job, or has had; empty where under none, None where it
        does not answer.
        """
        try:
            async with asyncio.timeout(self.quick_s):
                for id in ids:
                    if (await self.look(Job(id, lambda _: None)))[1]:
                        return id
        except (BackendError, TimeoutError):
            return None
        return ""

    async def history(self, job: Job) -> Mapping[str, Any] | None:
        found = (await self.http.get_json(f"/history/{job.id}", timeouts=POLL)).get(job.id)
        return found if isinstance(found, Mapping) else None

    async def _status(self, job: Job) -> str | None:
        """What the jobs API says; None where the server has none (before 0.6)."""
        try:
            told = await self.http.get_json(f"/api/jobs/{job.id}", timeouts=POLL)
        except Rejected as error:
            self.has_jobs_api = bool(error.vendor and "Job not found" in error.vendor.message)
            return "absent" if self.has_jobs_api else None
        self.has_jobs_api = True
        return str(told.get("status"))

    async def _position(self, job: Job) -> int | None:
        """How many come before the job; None where it is not in the queue."""
        running, pending = await self.queue(max(job.sent_at, time.monotonic() - 0.25))
        if job.id in running:
            return 0
        return len(running) + pending.index(job.id) if job.id in pending else None

    async def queue(self, since: float) -> tuple[list[str], list[str]]:
        """The ids that run and those that wait, in their order, at some moment after `since`: one
        look serves all jobs.
        """
        if self._queue[0] <= since:
            self._queue = time.monotonic(), await self.http.get_json("/queue", timeouts=POLL)
        lists = [self._queue[1].get(name) for name in ("queue_running", "queue_pending")]
        if not all(isinstance(some, list) for some in lists):
            raise Unavailable(
                f"{self.http.name} sent something that is not its queue.",
                hint="Is it this server?",
                sent=True,
            )
        running, pending = (
            [one for one in items(some) if isinstance(one, list) and len(one) > 1] for some in lists
        )
        return [str(one[1]) for one in running], [
            str(one[1]) for one in sorted(pending, key=_number)
        ]

    async def nodes(self, since: float) -> dict[str, Any]:
        """What it says of all its nodes, at some moment after `since`: one answer of megabytes
        serves many checks.
        """
        if self._nodes[0] <= since:
            self._nodes = (
                time.monotonic(),
                await self.http.get_json("/object_info", timeouts=SUBMIT),
            )
        return self._nodes[1]

    async def version(self) -> tuple[int, ...]:
        """(0, 3, 64), or () where it does not say."""
        if self._version is None:
            told = fields((await self.http.get_json("/system_stats", timeouts=QUICK)).get("system"))
            parts = str(told.get("comfyui_version", "")).lstrip("v").split(".")
            self._version = (
                tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
            )
        return self._version

    def stopping(self, job: Job, posting: asyncio.Future[Any] | None = None) -> asyncio.Task[None]:
        """Stop the job, whoever waits for that or does not; where its prompt is still on its way,
        when that is there.
        """

        async def stop() -> None:
            if posting is not None:
                await asyncio.gather(posting, return_exceptions=True)
            await self.stop(job)

        task = asyncio.ensure_future(stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        return task

    async def _stopped(self) -> None:
        """Wait a moment for what is still being stopped, and give up what takes longer."""
        tasks = {task for task in self._stopping if task.get_loop() is asyncio.get_running_loop()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def stop(self, job: Job) -> None:
        """Take the job off the queue, or interrupt it: within a second, and nobody else's."""
        with suppress(BackendError, TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._tell(
                    "/queue", {"delete": [job.id]}
                )  # first: it must not start in between
                if await self.version() >= BY_ID or await self.queue(time.monotonic()) == (
                    [job.id],
                    [],
                ):
                    await self._tell("/interrupt", {"prompt_id": job.id})

    async def _tell(self, path: str, body: Mapping[str, Any]) -> None:
        async with self.http.stream(path, body, timeouts=QUICK):
            pass  # the answer is empty

    def tell(self, job: Job) -> None:
        """Say how many jobs come first, where that has changed."""
        if job.position and job.position != job.told:
            job.emit(
                Queued(job.position, None if self.usual_s is None else job.position * self.usual_s)
            )
        job.told = job.position


def _number(item: list[Any]) -> float:
    """The place of a prompt in the queue, which is told in no order."""
    return item[0] if isinstance(item[0], int | float) else 0


def complaints(node_errors: object, job_title: Callable[[object], str]) -> list[str]:
    """What a server finds wrong in a graph: the node by its title, what is wrong, the details."""
    found = []
    for node, told in fields(node_errors).items():
        for error in fields(told).get("errors") or ():
            said = fields(error)
            details = str(said.get("details", "")).partition(" not in [")  # and all that there is
            found.append(
                f"node {node} ({job_title(node)}): {said.get('message', '')}: {details[0]}"[:300]
            )
    return found
