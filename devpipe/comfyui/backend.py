"""Graphs run by ComfyUI (COMFYUI_URL; several, comma-separated, are a pool).

Every job is accounted for: it ends in all its files, or in an error of its own kind.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode

from devpipe.backends.base import Backend, Emit, Health
from devpipe.backends.http import QUICK, Timeouts, TooLarge, base_url
from devpipe.backends.streams import fields, items
from devpipe.comfyui.checker import filled
from devpipe.comfyui.doctor import SENTINEL, sentinels, without_sentinels
from devpipe.comfyui.server import DEAD_S, SUBMIT, ComfyHttp, Job, Server, complaints
from devpipe.config.settings import Settings
from devpipe.errors import (
    BackendError,
    CutOff,
    RateLimited,
    Rejected,
    Unavailable,
    UsageError,
    VendorAnswer,
)
from devpipe.media.containers import size_of, sniff
from devpipe.values import LOCAL_COST, Attachment, Boundary, Cost, Media, MediaRequest, MediaResult

FETCH = Timeouts(30, 900)
NODES_S = 30.0  # so old may be what a server said of its nodes, where many graphs are checked
FIRST_LOOK_S, LONGEST_LOOK_S, HEARD_LOOK_S = 0.005, 1.0, 0.25
BETWEEN = (502, 504)  # says something in between; ComfyUI itself never does
LACKING = {
    "value_not_in_list",
    "missing_node_type",
    "custom_validation_failed",
}  # a file, or a node: another server may have it
SHOWING = (
    "PreviewImage",
    "PreviewAny",
    "PreviewAudio",
    "MaskPreview",
)  # give something whenever they run
HINTS = {
    "OutOfMemory": "Make it smaller, or free its memory.",
    "SafetensorError": "Its model file is not whole: download it again.",
}
START = "Start it (python main.py), or set COMFYUI_URL to where it runs."


class Lost(Unavailable):
    """The server no longer knows a job that it had: it was restarted, or somebody deleted
    the job.
    """


class ServerGone(Unavailable):
    """The server stopped answering while it had the job."""


class Interrupted(Unavailable):
    """Somebody else stopped the job."""


class NodeFailed(Rejected):
    """A node of the graph failed while it ran."""


class Lacking(Rejected):
    """The server has not all the nodes and files that the graph needs."""


class PartlyRefused(Rejected):
    """The server would have run a part of the graph only: it was taken back."""


class FileMissing(Rejected):
    """The job succeeded, and a file that it names is not there."""


class ComfyUI(Backend):
    """Runs the graph of a request, with its values put in, on the least busy server."""

    gone_s = 60.0  # so long may a server be away: a restart takes 14 s and more
    stalled_s = 180.0  # so long may it accept connections and answer nothing
    lost_s = 0.5  # so long must a job be nowhere
    late_s = 10.0  # so long may the socket be behind what HTTP tells
    max_file, max_files = 2**29, 2**30  # bytes: of one, and of all of a job

    def __init__(self, settings: Settings, *, transport: object | None = None) -> None:
        super().__init__(settings)
        told = [one for one in settings.url("comfyui", "127.0.0.1").split(",") if one.strip()]
        if not told:
            raise UsageError(
                "COMFYUI_URL names no server.", hint="Write it like http://127.0.0.1:8188."
            )
        urls = dict.fromkeys(base_url(one, 8188, variable="COMFYUI_URL") for one in told)
        token = settings.key("COMFYUI_TOKEN") or ""
        self.servers = [
            Server(
                ComfyHttp(
                    url,
                    name="ComfyUI",
                    key=token,
                    key_name="COMFYUI_TOKEN",
                    transport=transport,
                    start=START,
                )
            )
            for url in urls
        ]

    def boundary(self, model: str) -> Boundary:
        local = all(server.http.private for server in self.servers)
        return self.settings.region("comfyui") or ("local" if local else "world")

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        """All files of a run of the request's graph.

        A job that its server has forgotten is sent once more, under an id that follows from its
        own. One that a dead
        process of ours may have sent is looked for first.
        """
        if request.workflow is None:
            raise Rejected(
                "ComfyUI needs a graph.",
                hint="Name one in the output config: `devpipe adopt GRAPH.json` writes it.",
            )
        id = request.request_id or str(uuid.uuid4())
        again = str(uuid.uuid5(uuid.UUID(id), "again"))
        try:
            left = await self._left(request, (id, again), emit) if request.sent_before else None
            return left or await self._made(request, id, emit)
        except Lost:
            return await self._made(request, again, emit)

    async def _left(
        self, request: MediaRequest, ids: Iterable[str], emit: Emit
    ) -> MediaResult | None:
        """The result of a job that one of the servers has under one of these ids; None where none
        knows of it.
        """
        assert request.workflow is not None
        if Job("", emit, request.workflow.nodes).streaming:
            return None  # its pictures went to a socket that is no more
        server, id = await self._holder(tuple(ids))
        if server is None:
            return None
        async with self._at(server, Job(id, emit)) as job:
            names = {name: _named(image) for name, image in request.images.items()}
            job.graph = filled(request.workflow, request, images=names, prefix=f"devpipe/{id}")
            job.sent_at = time.monotonic()
            return await self._result(server, job, request)

    async def _holder(self, ids: tuple[str, ...]) -> tuple[Server | None, str]:
        """Which server has a job under one of these ids.

        One that does not answer may be it, and is waited for.
        """
        silent, until, delay = list(self.servers), time.monotonic() + self.gone_s, 10 * FIRST_LOOK_S
        while True:
            told = await asyncio.gather(*(server.knows(ids) for server in silent))
            for server, id in zip(silent, told, strict=True):
                if id:
                    return server, id
            silent = [server for server, id in zip(silent, told, strict=True) if id is None]
            if not silent or time.monotonic() > until:
                break
            delay = _longer(delay)
            await asyncio.sleep(delay)
        if len(silent) == len(self.servers):
            raise self._nobody()
        for server in silent:
            server.dead_until = (
                time.monotonic() + DEAD_S
            )  # it may still have the job, and does not get it twice
        return None, ""

    async def _made(self, request: MediaRequest, id: str, emit: Emit) -> MediaResult:
        """One job, at the first of the servers that takes it; from then on it stays there."""
        assert request.workflow is not None
        failed: BackendError | None = None
        for server in await self._by_load():
            async with self._at(server, Job(id, emit)) as job:
                try:
                    names = {
                        name: await server.upload(_named(image), image.data)
                        for name, image in request.images.items()
                    }
                    job.graph = filled(
                        request.workflow, request, images=names, prefix=f"devpipe/{id}"
                    )
                    await self._submit(server, job)
                except (Unavailable, RateLimited, Lacking) as error:
                    if error.sent:
                        raise
                    if not isinstance(error, Lacking):
                        server.dead_until = time.monotonic() + DEAD_S
                    failed = failed if isinstance(failed, Lacking) else self._placed(error, server)
                    continue
                return await self._result(server, job, request)
        assert failed is not None
        raise failed

    async def _by_load(self) -> list[Server]:
        """The servers that answer, the least busy first. Raises Unavailable where none does."""
        if len(self.servers) == 1:
            return self.servers
        for _ in range(2):
            loads = await asyncio.gather(*(server.load() for server in self.servers))
            found = [
                (one, load)
                for one, load in zip(self.servers, loads, strict=True)
                if load is not None
            ]
            if found:
                return [
                    one
                    for one, _ in sorted(found, key=lambda pair: max(pair[1], len(pair[0].jobs)))
                ]
            for server in self.servers:
                server.dead_until = 0.0
        raise self._nobody()

    def _nobody(self) -> Unavailable:
        return Unavailable(
            f"No ComfyUI answers at {', '.join(server.http.url for server in self.servers)}.",
            hint=START,
        )

    @asynccontextmanager
    async def _at(self, server: Server, job: Job) -> AsyncIterator[Job]:
        """The job as one of the server's; what is still left of it there at the end is stopped."""
        server.jobs[job.id] = job
        try:
            yield job
        except BackendError as error:
            self._placed(error, server)
            raise
        finally:
            try:
                if job.sent_at and not job.over:
                    await asyncio.shield(server.stopping(job))
            finally:
                server.leave(job)

    def _placed(self, error: BackendError, server: Server) -> BackendError:
        """The error, which says of several servers which one it comes from."""
        if len(self.servers) > 1 and server.http.url not in error.message:
            error.message = f"{error.message.removesuffix('.')} (at {server.http.url})."
        return error

    async def _submit(self, server: Server, job: Job) -> None:
        """Send the graph. Raises Rejected with all that the server finds wrong in it."""
        body = {"prompt": job.graph, "prompt_id": job.id, "client_id": await server.listen()}
        job.sent_at = time.monotonic()
        try:
            told = await self._posted(server, job, body)
        except (Unavailable, CutOff) as error:
            if error.sent and (error.vendor is None or error.vendor.status in BETWEEN):
                return  # it may have arrived: its id will tell
            job.over = True
            if error.vendor is None or error.vendor.status != 500:
                raise
            raise Rejected(
                error.message, hint="Look into the log of ComfyUI.", vendor=error.vendor
            ) from error
        except (Rejected, RateLimited) as error:
            job.over = True
            if error.vendor is None or error.vendor.status != 400:
                raise
            raise _refused(error.vendor, error.message, job) from error
        if found := complaints(told.get("node_errors"), job.title):
            raise PartlyRefused(
                f"ComfyUI would have run a part of the graph only: {'; '.join(found)}.",
                hint="Run `devpipe check`.",
            )

    async def _posted(self, server: Server, job: Job, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the server answers.

        A prompt that is on its way when its run is cancelled can be stopped when it is there, and
        is.
        """
        posting = asyncio.ensure_future(server.http.post_json("/prompt", body, timeouts=SUBMIT))
        posting.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # also where nobody waits for it any more
        try:
            return await asyncio.shield(posting)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({posting}, timeout=0.5)
            finally:
                if not posting.done():
                    server.stopping(job, posting)
            raise

    async def _result(self, server: Server, job: Job, request: MediaRequest) -> MediaResult:
        entry = await self._ended(server, job)
        await self._heard(server, job)
        job.over, took, compute = True, time.monotonic() - job.sent_at, _seconds(entry)
        _check(entry, job)
        media = [
            _media(data, kind, request) async for data, kind in self._files(server, job, entry)
        ]
        if compute is not None:
            server.usual_s = (
                compute if server.usual_s is None else 0.7 * server.usual_s + 0.3 * compute
            )
        return MediaResult(
            tuple(media),
            model=request.model,
            sent={"prompt_id": job.id, "server": server.http.url, "graph": dict(job.graph)},
            cost=LOCAL_COST if server.http.private else Cost(),
            queue_s=None if compute is None else max(0.0, took - compute),
            compute_s=compute,
        )

    async def _ended(self, server: Server, job: Job) -> Mapping[str, Any]:
        """The history's entry of the job, once it is there.

        Events only shorten the wait: a socket can be silent for many reasons, and tells nobody.
        Raises Lost or ServerGone.
        """
        delay, answered, absent_since = FIRST_LOOK_S, time.monotonic(), None
        while True:
            if not await _news(job, delay) and delay < HEARD_LOOK_S and server.hears(job):
                delay = HEARD_LOOK_S  # the socket lives: it will say when the job is over
                continue
            try:
                entry, known = await server.look(job)
            except BackendError as error:
                self._still_there(error, time.monotonic() - answered)
                delay = _longer(delay, error)
                continue
            answered = time.monotonic()
            if entry is not None:
                return entry
            absent_since = None if known else absent_since or answered
            if absent_since and answered - absent_since >= self.lost_s:
                job.over = True
                raise Lost(
                    "ComfyUI has lost the job: it was restarted, or somebody deleted it.",
                    hint="Start the run again.",
                    sent=True,
                )
            await server.resume()
            server.tell(job)
            delay = _longer(delay)

    def _still_there(self, error: BackendError, silent_s: float) -> None:
        """Raises where a job's server has answered nothing else for too long: one bad answer, or
        some, say nothing of the job.
        """
        if silent_s <= (
            self.stalled_s if error.sent or isinstance(error, RateLimited) else self.gone_s
        ):
            return
        if isinstance(error, Rejected):
            raise error
        raise ServerGone(
            f"ComfyUI stopped answering while it had the job: {error.message}",
            hint=START,
            sent=True,
        ) from error

    async def _heard(self, server: Server, job: Job) -> None:
        """Wait for the pictures that come by the socket alone: where somebody stalls it, the
        history is there before them.
        """
        until = time.monotonic() + self.late_s
        while job.streaming and not job.ended and server.listens and time.monotonic() < until:
            await _news(job, LONGEST_LOOK_S)

    async def _files(
        self, server: Server, job: Job, entry: Mapping[str, Any]
    ) -> AsyncIterator[tuple[bytes, str]]:
        """Every file and text of the job with the type that its bytes show."""
        left = self.max_files
        for picture in job.streamed:
            yield picture, sniff(picture)
        for node, output in _in_order(entry):
            if isinstance(output, str):
                yield output.encode(), "text/plain"
                continue
            path = "/view?" + urlencode(
                {key: output.get(key, "") for key in ("filename", "subfolder", "type")}
            )
            data = await self._file(server, path, min(self.max_file, left))
            if not data:
                problem = (
                    f"ComfyUI no longer has {output['filename']} of node {node}"
                    f" ({job.title(node)})."
                )
                raise FileMissing(problem, hint="Start the run again.")
            left -= len(data)
            yield data, _kind(data)

    async def _file(self, server: Server, path: str, limit: int) -> bytes:
        """A file, also where the server is away for a while: a restart leaves its files.

        Empty where there is none.
        """
        delay, until = 10 * FIRST_LOOK_S, math.inf
        while True:
            try:
                return await server.http.get_bytes(path, limit=limit, timeouts=FETCH)
            except BackendError as error:
                if (status := error.vendor.status if error.vendor else 0) == 404:
                    return b""
                if status == 400 or isinstance(error, TooLarge) or time.monotonic() > until:
                    raise
                until = min(
                    until, time.monotonic() + self.gone_s
                )  # whatever the first attempt took
                delay = _longer(delay, error)
            await asyncio.sleep(delay)

    async def object_info(self) -> dict[str, Any]:
        """What the first server that answers says of all its nodes."""
        return await (await self._by_load())[0].nodes(time.monotonic())

    async def dry_run(self, graph: Mapping[str, Any]) -> list[str]:
        """What the server finds wrong in the graph; nothing is queued.

        There is no call for that. But an output one of whose inputs is neither a link nor a value
        fails, after all before it was checked.
        """
        server = (await self._by_load())[0]
        known = await server.nodes(time.monotonic() - NODES_S)
        job = Job(str(uuid.uuid4()), lambda _: None, sentinels(graph, known))
        if not any(SENTINEL in node["inputs"].values() for node in job.graph.values()):
            return ["no output can be checked without running it."]
        async with self._at(server, job):
            try:
                await self._submit(server, job)
            except Rejected as error:
                told = fields(error.vendor and error.vendor.metadata).get("node_errors")
                return complaints(without_sentinels(told), job.title) if told else [error.message]
        return ["an output could not be checked without running it."]

    async def check(self) -> Health:
        """Which of the servers answer, and their versions."""
        found = await asyncio.gather(
            *(server.http.get_json("/system_stats", timeouts=QUICK) for server in self.servers),
            return_exceptions=True,
        )
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, BackendError):
                raise answer
        problems, told = (
            [one for one in found if isinstance(one, BackendError)],
            [_told(one) for one in found],
        )
        ready, count = len(problems) < len(found), len(found) - len(problems)
        hint = "" if ready else problems[0].hint if isinstance(problems[0], Rejected) else START
        if len(found) == 1:
            detail = problems[0].message if problems else self.servers[0].http.url
            return Health(ready, detail, hint=hint, version=told[0] if ready else "")
        each = "; ".join(
            f"{server.http.url} ({one})" for server, one in zip(self.servers, told, strict=True)
        )
        return Health(ready, f"{count} of {len(found)} servers: {each}.", hint=hint)

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.servers))


def _named(image: Attachment) -> str:
    return f"devpipe-{image.sha256[:32]}.png"


def _told(stats: object) -> str:
    """Which version a server says that it has, or what it says instead."""
    if isinstance(stats, BackendError):
        return (
            f"answered {stats.vendor.status}"
            if stats.vendor and stats.vendor.status
            else "does not answer"
        )
    return str(fields(fields(stats).get("system")).get("comfyui_version", "?"))


def _longer(delay: float, error: BackendError | None = None) -> float:
    """How long to wait next, in seconds; after an error that says how long, not less."""
    told = error.retry_after if isinstance(error, RateLimited) else None
    return max(min(delay * 1.5, LONGEST_LOOK_S), told or 0.0)


def _refused(answer: VendorAnswer, words: str, job: Job) -> Rejected:
    """What is wrong with the graph; Lacking where another server may take it."""
    told = fields(answer.metadata.get("node_errors"))
    found = complaints(told, job.title)
    message = f"ComfyUI does not take the graph; {'; '.join(found)}." if found else words
    kinds = {
        fields(one).get("type")
        for node in told.values()
        for one in items(fields(node).get("errors"))
    } | {answer.kind}
    unknown = "invalid_prompt" in kinds and "does not exist" in words  # a node, before 0.33
    return (Lacking if unknown or kinds & LACKING else Rejected)(
        message, hint="Run `devpipe check`.", vendor=answer
    )


async def _news(job: Job, delay: float) -> bool:
    """Wait for news of the job, at most `delay` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(delay):
            await job.news.wait()
    found = job.news.is_set()
    job.news.clear()
    return found


def _messages(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the server noted of a job, by kind."""
    noted = fields(entry.get("status")).get("messages") or ()
    return {str(one[0]): fields(one[1]) for one in noted if isinstance(one, list) and len(one) == 2}


def _seconds(entry: Mapping[str, Any]) -> float | None:
    """How long the job ran, by the server's clock."""
    noted = _messages(entry)
    began, ended = (
        fields(noted.get(kind)).get("timestamp")
        for kind in ("execution_start", "execution_success")
    )
    return (ended - began) / 1000 if isinstance(began, int) and isinstance(ended, int) else None


def _check(entry: Mapping[str, Any], job: Job) -> None:
    """Raises unless the job succeeded and every output of its graph is there."""
    noted, status = _messages(entry), fields(entry.get("status"))
    if "execution_interrupted" in noted:
        raise Interrupted(
            "Somebody stopped the job at ComfyUI.", hint="Start the run again.", sent=True
        )
    if status and status.get("completed") is not True:
        raise _node_failed(fields(noted.get("execution_error")), job)
    for node in _expected(job):
        if not fields(entry.get("outputs")).get(node):
            raise FileMissing(
                f"ComfyUI made no file at node {node} ({job.title(node)}).",
                hint="Look into the log of ComfyUI.",
            )
    for node in job.streaming:
        if not job.streamed or node not in job.heard:
            problem = (
                f"The pictures of node {node} ({job.title(node)}), which ComfyUI sends and does not"
                " keep, have not all arrived."
            )
            raise FileMissing(problem, hint="Start the run again.")


def _expected(job: Job) -> list[str]:
    """The nodes that must have given something.

    Where the graph saves nothing, also those that only show: beside something saved, a switch may
    rightly leave them out.
    """
    saving = [
        node
        for node, told in job.graph.items()
        if "filename_prefix" in fields(fields(told).get("inputs"))
    ]
    return saving or [
        node
        for node, told in job.graph.items()
        if not job.streaming and fields(told).get("class_type") in SHOWING
    ]


# of a folder: may hold spaces, but does not go on behind a file's ending
_NAME = r"""(?:(?!\.\w{1,12}['"),;\]]*\s)[^\\/:*?"<>|])+"""
_PATHS = re.compile(
    rf"(?P<url>\b(?!file:)[A-Za-z][\w+.-]+://\S+)|(?:(?<![A-Za-z])[A-Za-z]:[\\/]+|"
    rf"\\\\)(?:{_NAME}[\\/]+)*"
    rf"|(?<![\w/.])\.{{0,2}}/+(?=[^\s/])(?:{_NAME}/+)*|(?:[^\s\\/'\"]+\\+)+"
)


def _node_failed(told: Mapping[str, Any], job: Job) -> NodeFailed:
    """What failed, without the server's paths and without a traceback."""
    node, words = told.get("node_id"), " ".join(str(told.get("exception_message", "")).split())
    words = _PATHS.sub(lambda found: found["url"] or "", words)[:300]
    kind = str(told.get("exception_type", "")).rpartition(".")[2]
    hint = next(
        (hint for sign, hint in HINTS.items() if sign in kind), "Look into the log of ComfyUI."
    )
    return NodeFailed(
        f"ComfyUI failed at node {node} ({job.title(node)}): {kind}: {words.rstrip('.')}.",
        hint=hint,
    )


def _in_order(entry: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | str]]:
    """What was saved goes before what the graph only shows on its way, such as the edges it draws
    by; that may be made first.
    """
    return sorted(
        _outputs(entry),
        key=lambda one: isinstance(one[1], Mapping) and one[1].get("type") == "temp",
    )


def _outputs(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """Every file and every text that the nodes gave, with their node."""
    for node, told in fields(entry.get("outputs")).items():
        for kind, given in fields(told).items():
            for item in items(given):
                if (isinstance(item, Mapping) and item.get("filename")) or (
                    kind == "text" and isinstance(item, str)
                ):
                    yield node, item


def _kind(data: bytes) -> str:
    """The media type by the bytes; of what has no mark, text is told by being UTF-8."""
    if (kind := sniff(data)) == "application/octet-stream" and b"\0" not in data:
        with suppress(UnicodeDecodeError):
            return "text/plain" if data.decode() else kind
    return kind


def _media(data: bytes, kind: str, request: MediaRequest) -> Media:
    width, height = size_of(data)
    return Media(
        data,
        kind,
        width or None,
        height or None,
        alt=request.texts.get("prompt") or "made by ComfyUI",
    )
