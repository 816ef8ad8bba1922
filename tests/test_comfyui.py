"""The ComfyUI client against a server that plays recordings of real ones, and misbehaves as they
do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import naive_comfyui as naive
import pytest
from engines import engine_in, small_picture
from scripted_comfyui import TROUBLE, Comfy, Play, preview, recorded
from websockets.asyncio.client import connect

from devpipe.backends.base import Piece, Preview, Progress, Queued
from devpipe.backends.http import TooLarge
from devpipe.comfyui import doctor
from devpipe.comfyui import server as comfyui_wire
from devpipe.comfyui.backend import (
    ComfyUI,
    FileMissing,
    Interrupted,
    Lacking,
    Lost,
    NodeFailed,
    PartlyRefused,
    ServerGone,
)
from devpipe.config.settings import Settings
from devpipe.errors import BackendError, Rejected, Unavailable, UsageError
from devpipe.media.pictures import attachment
from devpipe.testing import BackendContract, ScriptedBackend
from devpipe.values import Binding, MediaRequest, Workflow

pytestmark = pytest.mark.loopback
PATIENCE_S = 60
WIRE = Path(__file__).parent / "comfy_wire"
ID = "5f0b6b0e-7c35-4d55-9a55-5b1a8c1f2a10"
NODES = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
    },
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "x"},
        "_meta": {"title": "Keep it"},
    },
}
GRAPH = Workflow(NODES, {"seed": (Binding("1", "color"),)})


class Patient(ComfyUI):
    """Whose waiting has an end: a test that hangs tells nothing."""

    async def make(self, asked: MediaRequest, emit: Any) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await super().make(asked, emit)


def client(*servers: Comfy, **environ: str) -> ComfyUI:
    urls = ",".join(server.url for server in servers)
    backend = Patient(
        Settings.load(Path(__file__).parents[1], environ={"COMFYUI_URL": urls} | environ)
    )
    backend.gone_s, backend.lost_s = 0.3, 0.05
    return backend


def request(seed: int = 7, **more: Any) -> MediaRequest:
    return MediaRequest("image", {}, workflow=GRAPH, seed=seed, **more)


async def made(server: Comfy, asked: MediaRequest | None = None) -> tuple[Any, list[Piece]]:
    """What comes of one request, and what was said on the way."""
    backend, pieces = client(server), list[Piece]()
    try:
        return await backend.make(asked or request(), pieces.append), pieces
    finally:
        await backend.close()


class TestContract(BackendContract):
    media_request = request(request_id=ID)

    def backend(self, settings: Settings) -> ComfyUI:
        return Alone(settings)


class Alone(ComfyUI):
    """With a server of its own, in whichever loop it is used."""

    async def make(self, asked: MediaRequest, emit: Any) -> Any:
        async with Comfy() as server:
            backend = client(server)
            try:
                found = await backend.make(asked, emit)
            finally:
                await backend.close()
            return found.__class__(found.media)  # without times and the port


# Good runs.


async def test_a_run_ends_in_its_files_under_an_id_that_was_known_before() -> None:
    async with Comfy() as server:
        result, pieces = await made(server, request(request_id=ID))
    assert [media.media_type for media in result.media] == ["image/png"]
    assert (result.sent["prompt_id"], result.sent["server"]) == (ID, server.url)
    assert result.compute_s == pytest.approx(0.001) and result.cost.usd == 0
    assert [piece for piece in pieces if isinstance(piece, Progress)] == [
        Progress(1, 2, "EmptyImage"),
        Progress(2, 2, "Keep it"),
    ]
    (sent,) = server.prompts()
    assert (
        sent["prompt_id"] == ID
        and sent["prompt"]["1"]["inputs"]["color"] == 7
        and ID in sent["prompt"]["9"]["inputs"]["filename_prefix"]
    )


@pytest.mark.parametrize("jobs_api", [False, True])
async def test_a_socket_that_is_silent_only_takes_longer(jobs_api: bool) -> None:
    async with Comfy([Play(silent=True)], jobs_api=jobs_api) as server:
        result, pieces = await made(server)
    assert result.media and not pieces and server.happened["silent"]
    asked = [
        path.split("/")[1]
        for method, path, _ in server.asked
        if method == "GET" and "view" not in path
    ]
    assert asked.index("api" if jobs_api else "queue") < asked.index(
        "history"
    )  # read the other way round, it misses a job that ends in between


async def test_a_socket_that_really_is_not_read_stalls_everybody_but_us() -> None:
    big = preview(small_picture() + bytes(12_000_000))
    async with Comfy([Play(events=[big, big]), Play()]) as server:
        sleeper = await connect(
            f"ws{server.url[4:]}/ws?clientId=sleeper", max_queue=1, max_size=None
        )
        backend = client(server)
        # previews for all
        await backend.servers[0].http.post_json(
            "/prompt", {"prompt": NODES}, timeouts=comfyui_wire.SUBMIT
        )
        await eventually(lambda: server.happened["stalled"])
        result, pieces = await made(server)
        assert result.media and not pieces
        sleeper.transport.abort()
        await backend.close()


@pytest.mark.parametrize(
    "play",
    [Play(early=True), Play(late=3), Play(nowhere=2), Play(no_end=True)],
    ids=["early", "late", "nowhere", "no_end"],
)
async def test_odd_orders_of_events_and_answers_do_no_harm(play: Play) -> None:
    """Events before the answer, a success before its history, a fast job that one look misses, no
    end mark.
    """
    fault = next(name for name in ("early", "late", "nowhere", "no_end") if getattr(play, name))
    async with Comfy([play]) as server:
        result, _ = await made(server)
    assert result.media and server.happened[fault] and len(server.prompts()) == 1


# What others' clients did, and ours on the same server.


@dataclass
class Pitfall:
    """A fault, a client that falls into it with what it then tells its user, and what ours tells.

    `met`: whether our client meets the fault at all; from some it keeps away. Where `ours` is
    empty, it has a test of its own below.
    """

    name: str
    naive: Callable[[naive.Naive], Awaitable[str]]
    told: str
    fault: str
    plays: Callable[[], list[Play]] = lambda: [Play()]
    ours: str = "completed"
    met: bool = True


def error() -> list[Play]:
    return [
        next(
            one for one in recorded(WIRE / "runtime_error.json") if one.ending == "execution_error"
        )
    ]


def soon() -> asyncio.Event:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, event.set)
    return event


REFUSED: list[tuple[int, Any, str]] = [
    (400, {"error": {"type": "x", "message": "x"}, "node_errors": {}}, "KeyError"), (500, TROUBLE, "JSONDecodeError"),
    (413, b"Maximum request body size exceeded", "JSONDecodeError"), (403, b"", "JSONDecodeError"),
]  # fmt: skip
PITFALLS = [
    Pitfall("1 a socket that nobody reads stalls all", naive.waits_for_the_mark, "hangs", "stalled"),
    Pitfall("2 the old socket takes the new one with it", naive.reconnects_under_its_id, "hangs", "unregistered",
            lambda: [Play(cut="lost"), Play()], met=False),
    Pitfall("3 success before the history", naive.looks_once_after_the_success, "lost", "late", lambda: [Play(late=1)]),
    Pitfall("3 the job ends between two looks", naive.reads_the_history_before_the_queue, "lost", "between",
            lambda: [Play(between=True, silent=True)]),
    Pitfall("3 for a moment it is nowhere", naive.believes_one_look, "lost", "nowhere", lambda: [Play(nowhere=2)]),
    Pitfall("3 no end mark without a client id", naive.waits_without_a_client_id, "hangs", "unheard", met=False),
    Pitfall("3 an empty queue is no ending", naive.waits_for_an_empty_queue, "completed, and it runs", "idle",
            lambda: [Play(hold=soon())]),
    Pitfall("4 nothing for ever after a restart", naive.polls_the_history_for_ever, "hangs", "forget",
            lambda: [Play(forget=True), Play()]),
    Pitfall("4 a lost job looks like one that is over", naive.takes_what_is_not_queued_for_done, "completed", "forget",
            lambda: [Play(forget=True)], "Lost"),
    Pitfall("4 the socket ends with 1006", naive.waits_for_the_mark, "ConnectionClosedError", "cut lost", lambda: [Play(cut="lost")]),
    Pitfall("5 the old name of a deleted file", naive.asks_for_the_same_again, "404", "cached", ours=""),
    Pitfall("6 numbers of files come again", naive.keeps_the_name_only, "somebody else's picture", "reused", met=False),
    Pitfall("6 a path outside", naive.saves_where_the_person_says, "error", "outside", met=False),
    *(Pitfall(f"7 answer {status}", naive.reads_every_answer_as_its_prompt, told, "refused",
              lambda status=status, body=body: [Play(reply=(status, body))], "Rejected") for status, body, told in REFUSED),
    Pitfall("7 403 for a page", naive.sends_an_origin, "JSONDecodeError", "403", met=False),
    Pitfall("7 413 for a picture", naive.sends_a_big_picture, "JSONDecodeError", "413", ours=""),
    Pitfall("7 paths of the server", naive.shows_what_the_server_says, "a path of the server", "execution_error", error, "NodeFailed"),
    Pitfall("8 what is over is still listed", naive.takes_what_is_listed_for_running, "hangs", "listed"),
    Pitfall("8 all nodes again and again", naive.counts_the_states, "step 4 of 2", "listed"),
    Pitfall("9 recv() without an end", naive.waits_for_the_mark, "hangs", "silent", lambda: [Play(silent=True)]),
    Pitfall("9 the end mark never comes", naive.waits_for_the_mark, "hangs", "no_end", lambda: [Play(no_end=True)]),
    Pitfall("200 for a part of the graph", naive.ignores_what_comes_with_200, "success", "partly",
            lambda: [Play(node_errors={"1": {"errors": [{"message": "x"}]}})], "PartlyRefused"),
]  # fmt: skip


@pytest.mark.parametrize("pitfall", PITFALLS, ids=[one.name for one in PITFALLS])
async def test_a_naive_client_falls_into_each_pitfall_and_ours_into_none(pitfall: Pitfall) -> None:
    async with troubled(pitfall) as server:
        patience = naive.HANGS_S if pitfall.told == "hangs" else PATIENCE_S
        assert await naive.said(server, pitfall.naive, patience=patience) == pitfall.told
        assert server.happened[pitfall.fault]
    async with troubled(pitfall) as server:
        assert not pitfall.ours or (await told(server), bool(server.happened[pitfall.fault])) == (
            pitfall.ours,
            pitfall.met,
        )


def troubled(pitfall: Pitfall) -> Comfy:
    server = Comfy(pitfall.plays())
    if pitfall.fault == "stalled":
        server.reads.clear()
    server.upload_limit = 1000 if pitfall.fault == "413" else server.upload_limit
    return server


async def told(server: Comfy) -> str:
    """What our client tells its user, whose graph would save outside of the server's folder."""
    outside = {**NODES["9"], "inputs": {"images": ["1", 0], "filename_prefix": "/home/me/picture"}}
    graph = Workflow({**NODES, "9": outside}, GRAPH.bindings)
    try:
        return (
            "completed"
            if (await made(server, MediaRequest("image", {}, workflow=graph, seed=7)))[0].media
            else "nothing"
        )
    except BackendError as error:
        assert "/srv/" not in f"{error} {error.hint}"
        return type(error).__name__


# Sockets.


async def test_after_a_lost_socket_the_run_goes_on_and_the_next_one_has_events_again() -> None:
    async with Comfy([Play(cut="lost"), Play()]) as server:
        backend, pieces = client(server), list[Piece]()
        assert (await backend.make(request(1), pieces.append)).media
        pieces.clear()
        assert (await backend.make(request(2), pieces.append)).media
        await backend.close()
    assert (
        server.happened["cut lost"]
        and not server.happened["unregistered"]
        and len(set(server.clients)) == 2
    )
    assert pieces


async def test_a_socket_that_said_nothing_all_the_time_is_given_up_and_the_next_run_has_a_new_one() -> (
    None
):
    async with Comfy([Play(), Play(silent=True), Play()]) as server:
        backend, pieces = client(server), list[Piece]()
        await backend.make(request(1), pieces.append)
        assert pieces and server.sockets  # kept for the next run
        pieces.clear()
        await backend.make(request(2), pieces.append)
        await eventually(lambda: not server.sockets)
        assert server.happened["left"] and not pieces
        await backend.make(request(3), pieces.append)
        await backend.close()
    assert pieces


async def test_after_a_confirmed_close_it_follows_the_same_run_again() -> None:
    play = Play(cut="closed", hold=asyncio.Event())
    async with Comfy([play]) as server:
        backend, pieces = client(server), list[Piece]()
        making = asyncio.ensure_future(backend.make(request(), pieces.append))
        await server.until(lambda: server.happened["cut closed"])
        await eventually(lambda: len(server.clients) == 2)
        play.hold.set()
        assert (await making).media
        await backend.close()
    assert len(set(server.clients)) == 1 and len(server.prompts()) == 1


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_frames_of_any_size_are_read() -> None:
    big, pieces = preview(small_picture() + b"\0" * 12_600_000), list[Piece]()
    play = Play(
        events=[{"type": "executing", "data": {"node": "1"}}, big, big], hold=asyncio.Event()
    )
    async with Comfy([play]) as server:
        backend = client(server)
        making = asyncio.ensure_future(backend.make(request(), pieces.append))
        await eventually(
            lambda: (
                [len(piece.data) for piece in pieces if isinstance(piece, Preview)]
                == [len(big) - 8] * 2
            )
        )
        assert play.hold
        play.hold.set()
        assert (await making).media
        await backend.close()


@pytest.mark.parametrize("name", ["sd15_t2i_previews_type1", "sd15_t2i_previews_type4"])
async def test_recorded_previews_and_steps_are_shown(name: str) -> None:
    async with Comfy(recorded(WIRE / f"{name}.json")[:1]) as server:
        play = server.plays[0]
        server.files |= files_of(play)
        backend, pieces = client(server), list[Piece]()
        result = await backend.make(
            MediaRequest("image", {}, workflow=saved_as(play)), pieces.append
        )
        await backend.close()
    assert result.media and any(
        isinstance(piece, Preview) and piece.media_type == "image/jpeg" for piece in pieces
    )
    assert any(isinstance(piece, Progress) and piece.steps > 1 for piece in pieces)


def saved_as(play: Play) -> Workflow:
    """A graph whose outputs are those of the play."""
    assert play.outputs is not None
    nodes = {
        node: {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
        for node in play.outputs
    } or {"9": NODES["9"]}
    return Workflow({"1": NODES["1"], **nodes}, {"seed": (Binding("1", "color"),)})


def files_of(play: Play) -> dict[str, bytes]:
    found = {}
    for output in (play.outputs or {}).values():
        for items in output.values():
            found |= {
                f"{one['subfolder']}/{one['filename']}": small_picture()
                for one in items
                if isinstance(one, dict)
            }
    return found


async def test_pictures_that_come_by_the_socket_alone_are_results_and_no_previews() -> None:
    plays = recorded(WIRE / "save_image_websocket.json")
    assert len(plays) == 2
    for play in plays:
        nodes = {
            "1": NODES["1"],
            "9": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
        }
        async with Comfy([play]) as server:
            graph = Workflow(nodes, {"seed": (Binding("1", "color"),)})
            result, pieces = await made(server, MediaRequest("image", {}, workflow=graph))
        assert [media.width for media in result.media] == [64, 64] and not any(
            isinstance(piece, Preview) for piece in pieces
        )


STREAMING = Workflow(
    {"1": NODES["1"], "9": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}},
    GRAPH.bindings,
)


async def test_a_left_job_whose_pictures_went_by_the_socket_is_run_again() -> None:
    async with Comfy(
        [Play(events=[preview(small_picture(), metadata={"node_id": "9"})])]
    ) as server:
        asked = MediaRequest("image", {}, workflow=STREAMING, request_id=ID)
        await made(server, asked)
        result, _ = await made(server, replace(asked, sent_before=True))
        assert result.media and [one["prompt_id"] for one in server.prompts()] == [ID, ID]


async def test_a_picture_by_the_socket_that_says_its_node_needs_no_other_event() -> None:
    """Who comes back in the middle of a node has missed its beginning."""
    async with Comfy(
        [Play(events=[preview(small_picture(), metadata={"node_id": "9"})])]
    ) as server:
        result, pieces = await made(server, MediaRequest("image", {}, workflow=STREAMING))
    assert len(result.media) == 1 and not any(isinstance(piece, Preview) for piece in pieces)


async def test_pictures_by_the_socket_are_waited_for_while_somebody_stalls_it() -> None:
    frame = preview(small_picture(), metadata={"node_id": "9"})
    async with Comfy([Play(events=[frame])]) as server:
        backend = client(server)
        server.reads.clear()
        making = asyncio.ensure_future(
            backend.make(
                MediaRequest("image", {}, workflow=STREAMING, request_id=ID), lambda _: None
            )
        )
        await server.until(
            lambda: ID in server.history and any(ID in path for _, path, _ in server.asked)
        )
        await asyncio.wait({making}, timeout=0.1)
        server.reads.set()
        assert len((await making).media) == 1 and server.happened["stalled"]
        await backend.close()


RUNNING = [{"type": "executing", "data": {"node": node}} for node in ("1", "9")]


async def test_pictures_of_a_node_during_which_the_socket_was_lost_are_missing() -> None:
    """Whether they are all is known to nobody."""
    play = Play(events=[*RUNNING, preview(small_picture(), metadata={"node_id": "9"})], cut="lost")
    async with Comfy([play]) as server:
        with pytest.raises(FileMissing, match="not all arrived"):
            await made(server, MediaRequest("image", {}, workflow=STREAMING))
    assert server.happened["cut lost"] == 1 == server.happened["execution_success"]


async def test_pictures_of_a_node_that_had_ended_when_the_socket_was_lost_are_all() -> None:
    play = Play(
        events=[RUNNING[1], preview(small_picture(), metadata={"node_id": "9"}), RUNNING[0]],
        cut="lost",
    )
    async with Comfy([play]) as server:
        result, _ = await made(server, MediaRequest("image", {}, workflow=STREAMING))
    assert len(result.media) == 1 and server.happened["cut lost"] == 1


@pytest.mark.parametrize("kind", ["PreviewImage", "PreviewAny", "PreviewAudio", "MaskPreview"])
async def test_a_graph_that_only_shows_must_show_something(kind: str) -> None:
    shown = Workflow(
        {"1": NODES["1"], "8": {"class_type": kind, "inputs": {"images": ["1", 0]}}}, GRAPH.bindings
    )
    async with Comfy([Play(outputs={})]) as server:
        with pytest.raises(FileMissing, match=f"node 8 .{kind}"):
            await made(server, MediaRequest("image", {}, workflow=shown))
    assert server.happened["execution_success"] == 1


async def test_beside_what_is_saved_a_switch_may_leave_out_what_is_only_shown() -> None:
    both = Workflow(
        {**NODES, "8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}},
        GRAPH.bindings,
    )
    picture = {"filename": "a.png", "subfolder": "m", "type": "output"}
    async with Comfy([Play(outputs={"9": {"images": [picture]}})]) as server:
        server.files["m/a.png"] = small_picture()
        result, _ = await made(server, MediaRequest("image", {}, workflow=both))
    assert len(result.media) == 1


async def test_a_picture_by_the_socket_that_never_comes_is_missing() -> None:
    async with Comfy([Play(events=[])]) as server:
        with pytest.raises(FileMissing, match="SaveImageWebsocket"):
            await made(server, MediaRequest("image", {}, workflow=STREAMING))
    assert server.happened["idle"]


class Crowded(Comfy):
    """While a file is fetched, a preview of somebody's prompt without a client comes to all."""

    async def _routed(self, method: str, path: str, query: Any, told: Any, body: bytes) -> Any:
        if path == "/view":
            self.happened["crowded"] += 1
            await self._send(None, preview(small_picture((1, 2, 3))), Play())
        return await super()._routed(method, path, query, told, body)


async def test_a_preview_of_others_is_not_taken_for_one_of_the_job_that_was_the_last() -> None:
    async with Crowded() as server:
        result, pieces = await made(server)
    assert (
        result.media
        and server.happened["crowded"]
        and not any(isinstance(piece, Preview) for piece in pieces)
    )


async def test_events_of_others_are_nobodys() -> None:
    others = [
        {"type": kind, "data": {"prompt_id": "other", "node": None, "value": 1, "max": 2}}
        for kind in ("executing", "progress", "new_kind")
    ]
    odd = [
        {"type": "progress", "data": {"value": "x", "max": None}},
        b"\0\0\0\x09junk",
        b"\1",
        preview(b"no picture"),
        preview(b"", metadata={}),
    ]
    async with Comfy([Play(events=[*others, *odd])]) as server:
        result, pieces = await made(server)
    assert result.media and pieces == []


# Endings.


async def test_a_restart_loses_the_job_and_it_is_sent_again_once() -> None:
    async with Comfy([Play(forget=True), Play()]) as server:
        result, _ = await made(server, request(request_id=ID))
    again = str(uuid.uuid5(uuid.UUID(ID), "again"))
    assert [one["prompt_id"] for one in server.prompts()] == [ID, again] and result.sent[
        "prompt_id"
    ] == again
    assert server.happened["forget"] == 1 and result.media


async def test_a_job_that_is_lost_twice_is_lost() -> None:
    async with Comfy([Play(forget=True)]) as server:
        with pytest.raises(Lost, match="lost the job"):
            await made(server)
    assert server.happened["forget"] == 2 and len(server.prompts()) == 2


async def test_a_killed_server_is_gone_and_one_that_comes_back_has_lost_the_job() -> None:
    play = Play(hold=asyncio.Event())
    async with Comfy([play, Play()]) as server:
        backend = client(server)
        making = asyncio.ensure_future(backend.make(request(), lambda _: None))
        await server.until(lambda: server.executed)
        await server.kill()
        backend.gone_s = 10.0
        await server.start()
        assert (await making).media and len(server.prompts()) == 2
        await backend.close()
    async with Comfy([play]) as server:
        backend = client(server)
        making = asyncio.ensure_future(backend.make(request(), lambda _: None))
        await server.until(lambda: server.executed)
        await server.kill()
        with pytest.raises(ServerGone):
            await making
        await backend.close()


async def test_an_answer_that_is_lost_on_its_way_is_asked_for_by_its_id() -> None:
    async with Comfy([Play(drop=True)]) as server:
        result, _ = await made(server, request(request_id=ID))
    assert server.happened["drop"] == 1 == len(server.prompts()) and result.sent["prompt_id"] == ID


async def test_a_file_of_another_kind_is_kept_beside_those_asked_for(tmp_path: Path) -> None:
    """A graph may also give a text, or a film beside its picture; a run for a picture needs one
    picture at least.
    """
    picture = {"filename": "a.png", "subfolder": "m", "type": "output"}
    plays = [
        Play(outputs={"9": {"images": [picture], "text": ["eins"]}}),
        Play(outputs={"9": {"text": ["eins"]}}),
    ]
    async with Comfy(plays) as server:
        server.files["m/a.png"] = small_picture()
        engine = engine_in(tmp_path, COMFYUI_URL=server.url, DEVPIPE_SAFETY="research")
        run = await engine.run("a cat", pipeline="overdrive", output="sd35_large", seed=7)
        assert [artifact.media_type for artifact in run.artifacts] == ["image/png", "text/plain"]
        with pytest.raises(Rejected, match="made text/plain, and nothing that is image"):
            await engine.run("a cat", pipeline="overdrive", output="sd35_large", seed=7)
        engine.close()


ENDINGS = {
    "execution_error": (NodeFailed, "node 2"),
    "execution_interrupted": (Interrupted, "stopped"),
}


@pytest.mark.parametrize("name", ["runtime_error", "interrupted_run"])
async def test_a_recorded_bad_ending_is_an_error_of_its_own(name: str) -> None:
    play = next(one for one in recorded(WIRE / f"{name}.json") if one.ending != "success")
    kind, words = ENDINGS[play.ending]
    async with Comfy([play]) as server:
        with pytest.raises(kind, match=words) as caught:
            await made(server)
    assert "/srv" not in str(caught.value) and "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("torch.OutOfMemoryError", "smaller"),
        ("safetensors.SafetensorError", "download it again"),
        ("ValueError", "log"),
    ],
)
async def test_a_node_that_failed_says_what_to_do(kind: str, hint: str) -> None:
    async with Comfy(
        [Play(ending="execution_error", error={"node_id": "1", "exception_type": kind})]
    ) as server:
        with pytest.raises(NodeFailed) as caught:
            await made(server)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (r"Cannot open C:\Users\Anna Lena Meier\models\x.safetensors", "Cannot open x.safetensors"),
        (r"No file: 'C:\\Users\\Anna Lena\\b.bin', 'D:\\c.bin'", "No file: 'b.bin', 'c.bin'"),
        ("C:/Users/Anna/x.pt and /Users/Anna Lena/y.pt, too", "x.pt and y.pt, too"),
        ("/home/J. B. Fox/m/a.bin is missing", "a.bin is missing"),
        (r"\\school\Anna Lena\x.pt is locked", "x.pt is locked"),
        (
            "Get it from https://huggingface.co/acme/model/file.bin",
            "Get it from https://huggingface.co/acme/model/file.bin",
        ),
        (
            "shapes 64/32/16 and 1 / 2 / 3 do not match",
            "shapes 64/32/16 and 1 / 2 / 3 do not match",
        ),
        ("models/checkpoints/x.bin is small", "models/checkpoints/x.bin is small"),
    ],
)
async def test_what_a_node_says_keeps_its_words_and_loses_folders(words: str, told: str) -> None:
    error = {"node_id": "1", "exception_type": "OSError", "exception_message": words}
    async with Comfy([Play(ending="execution_error", error=error)]) as server:
        with pytest.raises(NodeFailed) as caught:
            await made(server)
    assert caught.value.message == f"ComfyUI failed at node 1 (EmptyImage): OSError: {told}."


async def test_a_graph_that_is_refused_names_every_fault() -> None:
    plays = recorded(WIRE / "validation_errors.json")
    refused = [play for play in plays if play.reply]
    assert len(refused) > 15
    for play in refused:
        async with Comfy([play]) as server:
            with pytest.raises(Rejected) as caught:
                await made(server)
        assert server.happened["refused"] == 1 and caught.value.hint
        assert play.reply and isinstance(play.reply[1], dict | bytes)
        for node in play.reply[1].get("node_errors", {}) if isinstance(play.reply[1], dict) else {}:
            assert f"node {node} (" in str(caught.value)


async def test_a_graph_that_would_run_in_part_is_taken_back() -> None:
    partly = next(play for play in recorded(WIRE / "validation_surprises.json") if play.node_errors)
    partly.hold = asyncio.Event()
    async with Comfy([partly]) as server:
        with pytest.raises(PartlyRefused, match="part of the graph"):
            await made(server, request(request_id=ID))
        asked = [(path, body) for method, path, body in server.asked if method == "POST"]
    assert asked[1:] == [("/queue", {"delete": [ID]}), ("/interrupt", {"prompt_id": ID})]


async def test_a_file_that_was_deleted_is_missing() -> None:
    async with Comfy([Play(deleted=True)]) as server:
        with pytest.raises(FileMissing, match="Keep it"):
            await made(server)
        assert server.happened["deleted"]


async def test_equal_requests_never_get_the_file_of_before() -> None:
    """The server gives the old name for an equal graph, and a deleted name to the next file: ours
    are all different.
    """
    async with Comfy() as server:
        first, _ = await made(server, request(3))
        server.files.clear()
        second, _ = await made(server, request(3))
        assert not server.happened["cached"] and first.media and second.media
        for id in (str(uuid.uuid4()), str(uuid.uuid4())):  # what a naive client sends
            await naive_post(server, NODES, id)
        await server.until(lambda: len(server.history) == 4)
        assert server.happened["cached"] == 1


async def naive_post(server: Comfy, nodes: Any, id: str) -> None:
    backend = client(server)
    await backend.servers[0].http.post_json(
        "/prompt", {"prompt": nodes, "prompt_id": id}, timeouts=comfyui_wire.SUBMIT
    )
    await backend.close()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((500, b"500 Internal Server Error"), Rejected),
        ((403, b""), Rejected),
        ((413, b"too large"), Rejected),
        ((503, b""), BackendError),
    ],
)
async def test_other_answers_end_it_at_once(reply: Any, kind: type[Exception]) -> None:
    async with Comfy([Play(reply=reply)]) as server:
        with pytest.raises(kind):
            await made(server)
    assert server.happened["refused"] == 1 and "/interrupt" not in [
        path for _, path, _ in server.asked
    ]


async def test_a_success_without_its_file_is_none() -> None:
    async with Comfy([Play(outputs={})]) as server:
        with pytest.raises(FileMissing, match="made no file"):
            await made(server)


async def test_files_of_every_kind_are_fetched_and_named_by_their_bytes() -> None:
    kinds = {
        "a.mp4": b"\0\0\0\x18ftypmp42", "b.webm": b"\x1aE\xdf\xa3....webm", "c.flac": b"fLaC....", "d.mp3": b"ID3.....",
        "e.opus": b"OggS....", "f.png": b"RIFF....WEBPVP8 ",
    }  # fmt: skip
    output = {
        "images": [{"filename": name, "subfolder": "m", "type": "output"} for name in kinds],
        "text": ["eins"],
        "animated": [True],
    }
    async with Comfy([Play(outputs={"9": output})]) as server:
        server.files |= {f"m/{name}": data for name, data in kinds.items()}
        result, _ = await made(server)
    found = [
        "video/mp4",
        "video/webm",
        "audio/flac",
        "audio/mpeg",
        "audio/ogg",
        "image/webp",
        "text/plain",
    ]
    assert [media.media_type for media in result.media] == found


async def test_more_bytes_than_allowed_are_not_read() -> None:
    async with Comfy() as server:
        backend = client(server)
        backend.max_file = 20
        with pytest.raises(TooLarge, match="more than"):
            await backend.make(request(), lambda _: None)
        await backend.close()
        assert sum(path == "/view" for _, path, _ in server.asked) == 1


async def test_files_are_found_under_any_name() -> None:
    names = [
        "mit Ümläut.png",
        "a b.png",
        "a&b.png",
        "a+b.png",
        "a#b.png",
        "100%.png",
        "a?b=c.png",
        "a%20b.png",
    ]
    output = {
        "images": [{"filename": name, "subfolder": "ä & b", "type": "output"} for name in names]
    }
    async with Comfy([Play(outputs={"9": output})]) as server:
        server.files = {f"ä & b/{name}": small_picture((at, 0, 0)) for at, name in enumerate(names)}
        result, _ = await made(server)
    assert [media.data for media in result.media] == [*server.files.values()]


async def test_a_result_of_a_hundred_files_has_them_all_in_order() -> None:
    files = {f"{at}.png": small_picture((at, 0, 0), 8) for at in range(100)}
    output = {"images": [{"filename": name, "subfolder": "m", "type": "output"} for name in files]}
    async with Comfy([Play(outputs={"9": output})]) as server:
        server.files = {f"m/{name}": data for name, data in files.items()}
        result, _ = await made(server)
    assert [media.data for media in result.media] == [*files.values()]


class Odd(Comfy):
    """Its history has 30 MB, and a text in another encoding with half an emoji."""

    def _past(self, id: str) -> Any:
        found = super()._past(id)
        if not found:
            return found
        found[id]["outputs"] = {"9": {**found[id]["outputs"]["9"], "text": ["gr@n \ud83d"]}}
        self.happened["odd"] += 1
        return json.dumps(found | {"more": "x" * 30_000_000}).encode().replace(b"@", b"\xfc")


async def test_a_large_history_and_a_text_of_another_encoding_are_read() -> None:
    async with Odd() as server:
        result, _ = await made(server)
    assert [media.media_type for media in result.media] == [
        "image/png",
        "text/plain",
    ] and server.happened["odd"]
    assert result.media[1].data.decode() == "gr\ufffdn \ufffd"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("größer\n".encode(), "text/plain"),
        ("größer\n".encode("latin-1"), "application/octet-stream"),
    ],
)
async def test_a_file_of_text_is_text_if_its_bytes_are(text: bytes, kind: str) -> None:
    output = {"files": [{"filename": "a.txt", "subfolder": "m", "type": "output"}]}
    async with Comfy([Play(outputs={"9": output})]) as server:
        server.files["m/a.txt"] = text
        result, _ = await made(server)
    assert [(media.media_type, media.data) for media in result.media] == [(kind, text)]


# Something in between.


@pytest.mark.parametrize("path", ["/queue", "/history", "/view", "/api/jobs"])
async def test_a_proxy_that_fails_for_a_while_costs_no_job(path: str) -> None:
    async with Comfy([Play(silent=True)], jobs_api=path.startswith("/api")) as server:
        server.proxy[path] = 2
        result, _ = await made(server)
    assert result.media and server.happened["502"] == 2 and len(server.prompts()) == 1


SOON = json.dumps({"message": "Slow down, try again in 0.01s"}).encode()
ODD = {
    "429": (429, SOON), "403": (403, b""), "404": (404, b""), "302": (302, b""), "half": (200, b'{"a": '), "list": (200, [1]),
    "nothing": (200, b""), "error": (200, {"error": "busy"}), "other": (200, {"a": 1}), "page": (200, b"<html>Please log in"),
    "mixed": (200, {"queue_running": [], "queue_pending": [[None, "x"], ["a", "y"], [1, "z"]]}),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/queue", "/history", "/api/jobs"])
@pytest.mark.parametrize("odd", ODD)
async def test_one_odd_answer_of_something_in_between_costs_no_job(path: str, odd: str) -> None:
    async with Comfy(jobs_api=path.startswith("/api")) as server:
        server.proxy[path], server.between, server.moved = 1, ODD[odd], "nowhere"
        result, _ = await made(server)
        assert not server.interrupted
    assert result.media and server.happened[str(ODD[odd][0])] == 1 == len(server.prompts())


@pytest.mark.parametrize("odd", ["429", "403", "302", "page"])
async def test_one_odd_answer_instead_of_a_file_costs_no_job(odd: str) -> None:
    async with Comfy() as server:
        server.proxy["/view"], server.between = 1, ODD[odd]
        result, _ = await made(server)
    assert result.media and server.happened[str(ODD[odd][0])] == 1 == len(server.prompts())


@pytest.mark.parametrize("path", ["/queue", "/history", "/view", "/api/jobs"])
async def test_an_answer_that_ends_in_the_middle_is_asked_for_again(path: str) -> None:
    async with Comfy(jobs_api=path.startswith("/api")) as server:
        server.halves[path], server.moved = 2, "nowhere"
        result, _ = await made(server)
    assert result.media and server.happened["half"] == 2 and len(server.prompts()) == 1


async def test_a_file_that_took_long_and_was_cut_off_is_asked_for_again() -> None:
    async with Comfy() as server:
        backend = client(server)
        backend.gone_s, server.halves["/view"] = 0.0, 1
        assert (await backend.make(request(), lambda _: None)).media and server.happened[
            "half"
        ] == 1
        await backend.close()


@pytest.mark.parametrize(
    ("status", "kind"), [(403, Rejected), (404, Rejected), (429, ServerGone), (502, ServerGone)]
)
async def test_who_is_refused_all_the_time_ends_and_leaves_no_job_behind(
    status: int, kind: type[Exception]
) -> None:
    async with Comfy([Play(hold=asyncio.Event())]) as server:
        backend, server.moved = client(server), "nowhere"
        backend.gone_s = backend.stalled_s = 0.1
        server.proxy["GET /queue"] = server.proxy["/api/jobs"] = 1000
        server.between = (status, b"")
        with pytest.raises(kind):
            await backend.make(request(request_id=ID), lambda _: None)
        assert server.happened[str(status)] > 1 and server.interrupted == {ID}
        await backend.close()


async def test_a_file_that_is_forbidden_for_ever_is_an_error_of_its_own() -> None:
    async with Comfy() as server:
        server.proxy["/view"], server.between = 1000, (403, b"")
        with pytest.raises(Rejected, match="403") as caught:
            await made(server)
    assert not isinstance(caught.value, FileMissing) and server.happened["403"] > 1


async def test_an_empty_file_is_none() -> None:
    picture = {"filename": "a.png", "subfolder": "m", "type": "output"}
    async with Comfy([Play(outputs={"9": {"images": [picture]}})]) as server:
        server.files["m/a.png"] = b""
        with pytest.raises(FileMissing, match=r"a\.png of node 9"):
            await made(server)


@pytest.mark.parametrize("told", [b'{"prompt_id": ', b"<html>Please log in", b"", b"[]"])
async def test_a_prompt_that_arrived_though_its_answer_says_nothing_is_run_once(
    told: bytes,
) -> None:
    async with Comfy([Play(garbled=told or b" ")]) as server:
        result, _ = await made(server, request(request_id=ID))
    assert (
        server.happened["garbled"] == 1 == len(server.prompts()) and result.sent["prompt_id"] == ID
    )


@pytest.mark.parametrize("status", [404, 405])
async def test_an_address_where_something_else_is_says_so(status: int) -> None:
    async with Comfy() as server:
        server.proxy["/"], server.between = 1000, (status, b"")
        backend = client(server)
        for asked in (
            backend.make(request(), lambda _: None),
            backend.object_info(),
            backend.dry_run(NODES),
        ):
            with pytest.raises(Rejected, match="There is no ComfyUI at http") as caught:
                await asked
            assert "COMFYUI_URL" in caught.value.hint
        health = await backend.check()
        await backend.close()
    assert (
        server.happened[str(status)] > 3
        and health.detail.startswith("There is no ComfyUI")
        and "COMFYUI_URL" in health.hint
    )


async def test_a_file_that_a_restart_interrupts_is_fetched_afterwards() -> None:
    async with Comfy() as server:
        backend = client(server)
        backend.gone_s = 10.0
        server.proxy["/view"] = 1
        making = asyncio.ensure_future(backend.make(request(), lambda _: None))
        await server.until(lambda: server.happened["502"])
        await server.kill()
        await server.start()
        assert (await making).media and len(server.prompts()) == 1
        await backend.close()


async def test_a_file_that_never_comes_is_an_error() -> None:
    async with Comfy() as server:
        server.proxy["/view"] = 1000
        with pytest.raises(Unavailable, match="502"):
            await made(server)
    assert server.happened["502"] > 1


async def test_a_prompt_that_arrived_though_a_proxy_gave_up_is_run_once() -> None:
    async with Comfy([Play(gateway=True)]) as server:
        result, _ = await made(server, request(request_id=ID))
    assert server.happened["504"] == 1 == len(server.prompts()) and result.sent["prompt_id"] == ID


async def test_a_prompt_that_a_proxy_did_not_let_through_is_sent_again() -> None:
    async with Comfy() as server:
        server.proxy["/prompt"] = 1
        result, _ = await made(server, request(request_id=ID))
    assert result.media and server.happened["502"] == 1 and len(server.executed) == 1


# Pictures.


async def test_pictures_go_up_under_names_of_ours_and_once() -> None:
    picture, mask = (
        attachment(small_picture(), name="image"),
        attachment(small_picture((255, 255, 255)), name="mask"),
    )
    nodes = {
        "4": {"class_type": "LoadImage", "inputs": {"image": "theirs.png"}},
        "5": {"class_type": "LoadImageMask", "inputs": {"image": "theirs.png", "channel": "red"}}, **NODES,
    }  # fmt: skip
    bindings = {
        "seed": (Binding("1", "color"),),
        "image": (Binding("4", "image"),),
        "mask": (Binding("5", "image"),),
    }
    asked = MediaRequest(
        "image", {}, workflow=Workflow(nodes, bindings), images={"image": picture, "mask": mask}
    )
    async with Comfy() as server:
        await made(server, asked)
        names = [server.prompts()[0]["prompt"][node]["inputs"]["image"] for node in "45"]
        assert [server.files[f"/{name}"] for name in names] == [picture.data, mask.data]
        assert all(name.startswith("devpipe-") for name in names)
        server.files[f"/{names[0]}"] = b"somebody's"
        await made(server, asked)
        renamed = server.prompts()[1]["prompt"]["4"]["inputs"]["image"]
        assert renamed != names[0] and server.files[f"/{renamed}"] == picture.data
        server.upload_limit = 10
        with pytest.raises(Rejected, match="takes no picture"):
            await made(server, asked)
        assert server.happened["413"]


# Others.


async def test_a_cancelled_run_is_stopped_at_the_server_and_only_it() -> None:
    play = Play(hold=asyncio.Event())
    async with Comfy([play]) as server:
        backend = client(server)
        runs = [
            asyncio.ensure_future(backend.make(request(seed), lambda _: None)) for seed in (1, 2, 3)
        ]
        await server.until(lambda: server.running and len(server.pending) == 2)
        ids = [one["prompt_id"] for one in server.prompts()]
        for run in (runs[0], runs[2]):
            run.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({runs[0], runs[2]})
        await server.until(lambda: ids[1] in server.executed)
        assert server.interrupted == {ids[0]} and ids[2] not in server.executed
        play.hold.set()
        async with server.changed:
            server.changed.notify_all()
        assert (await runs[1]).media
        await backend.close()


async def cancelled_in_its_post(server: Comfy) -> tuple[ComfyUI, asyncio.Future[Any]]:
    """A run that is cancelled while its prompt is on its way to the server."""
    backend = client(server)
    run = asyncio.ensure_future(backend.make(request(request_id=ID), lambda _: None))
    await eventually(lambda: server.happened["slow"])
    run.cancel()
    return backend, run


async def test_a_run_that_is_cancelled_while_its_prompt_is_on_its_way_is_stopped_when_it_is_there() -> (
    None
):
    play = Play(slow=asyncio.Event(), hold=asyncio.Event())
    async with Comfy([play]) as server:
        backend, run = await cancelled_in_its_post(server)
        await asyncio.wait({run}, timeout=0.1)
        assert play.slow and not run.done()
        play.slow.set()
        await asyncio.wait({run})
        assert not server.pending and (server.interrupted == {ID} or not server.executed)
        await backend.close()


async def test_a_prompt_that_arrives_long_after_its_run_was_cancelled_is_stopped_too() -> None:
    play = Play(slow=asyncio.Event(), hold=asyncio.Event())
    async with Comfy([play]) as server:
        backend, run = await cancelled_in_its_post(server)
        await asyncio.wait({run})
        assert run.cancelled() and not server.prompts()[1:] and not server.pending
        assert play.slow
        play.slow.set()
        await server.until(lambda: server.interrupted == {ID})
        await backend.close()


async def test_closing_waits_a_moment_only_for_a_prompt_that_never_arrives() -> None:
    async with Comfy([Play(slow=asyncio.Event())]) as server:
        backend, run = await cancelled_in_its_post(server)
        await asyncio.wait({run})
        async with asyncio.timeout(PATIENCE_S):
            await backend.close()
        ours = [task for task in asyncio.all_tasks() if "devpipe" in repr(task)]
        assert not ours


async def test_a_run_that_is_cancelled_twice_is_stopped_and_left() -> None:
    play = Play(hold=asyncio.Event())
    async with Comfy([play]) as server:
        backend = client(server)
        run = asyncio.ensure_future(backend.make(request(request_id=ID), lambda _: None))
        await server.until(lambda: server.running)
        server.hangs["POST /queue"] = asyncio.Event()
        run.cancel()
        await eventually(lambda: server.happened["hangs"])
        run.cancel()
        await asyncio.wait({run})
        assert not backend.servers[0].jobs
        server.hangs["POST /queue"].set()
        await server.until(lambda: server.interrupted == {ID})
        await backend.close()


@pytest.mark.parametrize("waits", [True, False])
async def test_an_older_server_is_interrupted_only_where_nobody_else_can_be_hit(
    waits: bool,
) -> None:
    """Before 0.3.57 an interrupt hits whatever runs."""
    play = Play(hold=asyncio.Event())
    async with Comfy([play], version="0.3.40") as server:
        backend = client(server)
        run = asyncio.ensure_future(backend.make(request(request_id=ID), lambda _: None))
        await server.until(lambda: server.running)
        if waits:
            await naive_post(server, NODES, "somebody's")
        run.cancel()
        await asyncio.wait({run})
        assert server.interrupted == (set() if waits else {ID})
        assert ("/interrupt" in [path for _, path, _ in server.asked]) != waits
        await backend.close()


async def test_what_waits_says_how_many_come_first_and_how_long_it_may_take() -> None:
    plays = [Play(seconds=4.0), Play(hold=asyncio.Event()), Play()]
    async with Comfy(plays) as server:
        backend, pieces = client(server), list[Piece]()
        await backend.make(request(1), lambda _: None)
        first = asyncio.ensure_future(backend.make(request(2), lambda _: None))
        await server.until(lambda: server.running)
        second = asyncio.ensure_future(backend.make(request(3), pieces.append))
        await eventually(lambda: any(isinstance(piece, Queued) for piece in pieces))
        assert plays[1].hold is not None
        plays[1].hold.set()
        async with server.changed:
            server.changed.notify_all()
        await asyncio.gather(first, second)
        await backend.close()
    assert next(piece for piece in pieces if isinstance(piece, Queued)) == Queued(1, 4.0)


@pytest.mark.parametrize("jobs_api", [False, True])
async def test_a_job_that_waits_behind_others_says_each_change_of_its_place(jobs_api: bool) -> None:
    others = [Play(hold=asyncio.Event()), Play(hold=asyncio.Event())]
    async with Comfy([*others, Play()], jobs_api=jobs_api) as server:
        for name in ("a", "b"):
            await naive_post(server, NODES, name)
        backend, pieces = client(server), list[Piece]()
        making = asyncio.ensure_future(backend.make(request(), pieces.append))
        for place, other in ((2, others[0]), (1, others[1])):
            await eventually(lambda place=place: Queued(place) in pieces)
            await eventually(
                lambda: sum("jobs" in path or path == "/queue" for _, path, _ in server.asked) > 2
            )
            assert other.hold is not None
            other.hold.set()
            async with server.changed:
                server.changed.notify_all()
        assert (await making).media
        await backend.close()
    assert [piece for piece in pieces if isinstance(piece, Queued)] == [
        Queued(2),
        Queued(1),
    ] and len(server.prompts()) == 3


async def test_of_several_servers_the_least_busy_one_gets_the_run_and_a_dead_one_none() -> None:
    busy = Play(hold=asyncio.Event())
    async with Comfy([busy]) as one, Comfy() as other, Comfy() as dead:
        backend = client(dead, one, other)
        await dead.kill()
        waiting = asyncio.ensure_future(backend.make(request(1), lambda _: None))
        await one.until(lambda: one.running)
        for seed in (2, 3):
            assert (await backend.make(request(seed), lambda _: None)).sent["server"] == other.url
        assert len(other.prompts()) == 2 and len(one.prompts()) == 1
        assert backend.servers[0].dead_until > time.monotonic() + 20
        await dead.start()
        backend.servers[0].dead_until = 0.0  # 30 s later
        assert (await backend.make(request(4), lambda _: None)).sent["server"] == dead.url
        waiting.cancel()
        await asyncio.wait({waiting})
        await backend.close()


async def test_a_server_that_is_too_busy_to_say_how_busy_comes_last_and_is_not_dead() -> None:
    async with Comfy() as slow, Comfy() as other:
        backend = client(slow, other)
        for server in backend.servers:
            server.quick_s = 0.2
        slow.hangs["GET /prompt"] = other.hangs["GET /prompt"] = asyncio.Event()
        assert (await backend.make(request(1), lambda _: None)).sent["server"] == slow.url
        other.hangs.clear()
        assert (await backend.make(request(2), lambda _: None)).sent["server"] == other.url
        await other.kill()
        assert (await backend.make(request(3), lambda _: None)).sent["server"] == slow.url
        assert (
            slow.happened["hangs"] == 3
            and backend.servers[1].dead_until
            and not backend.servers[0].dead_until
        )
        await backend.close()


def refusal(kind: str, *, node: bool = True, message: str = "Not there") -> Play:
    faults = {
        "1": {"errors": [{"type": kind, "message": message, "details": "", "extra_info": {}}]}
    }
    error = {
        "type": "prompt_outputs_failed_validation" if node else kind,
        "message": message,
        "details": "",
        "extra_info": {},
    }
    return Play(reply=(400, {"error": error, "node_errors": faults if node else {}}))


NO_NODE = "Cannot execute because node Wild does not exist."


@pytest.mark.parametrize(
    "play",
    [
        refusal("value_not_in_list"),
        refusal("missing_node_type", node=False),
        refusal("invalid_prompt", node=False, message=NO_NODE),
    ],
    ids=["file", "node", "older"],
)
async def test_a_server_that_lacks_what_a_graph_needs_is_passed_over(play: Play) -> None:
    async with Comfy([play]) as bare, Comfy() as other:
        backend = client(bare, other)
        for seed in (1, 2):
            assert (await backend.make(request(seed), lambda _: None)).sent["server"] == other.url
        assert (
            bare.happened["refused"] == 2 == len(other.prompts())
            and not backend.servers[0].dead_until
        )
        other.plays = [play]
        with pytest.raises(Lacking, match=bare.url):
            await backend.make(request(3), lambda _: None)
        other.plays = [Play(reply=(503, b""))]
        with pytest.raises(Lacking, match=bare.url):
            await backend.make(request(4), lambda _: None)
        await backend.close()
        assert (bare.happened["refused"], other.happened["refused"]) == (4, 2)


async def test_a_graph_that_is_wrong_everywhere_is_sent_to_one_server() -> None:
    async with Comfy([refusal("value_smaller_than_min")]) as one, Comfy() as other:
        backend = client(one, other)
        with pytest.raises(Rejected, match="node 1"):
            await backend.make(request(), lambda _: None)
        await backend.close()
        assert one.happened["refused"] == 1 and not other.prompts()


async def test_an_error_names_its_server_where_there_are_several() -> None:
    plays = [Play(ending="execution_error", error={"node_id": "1", "exception_type": "ValueError"})]
    async with Comfy(plays) as one, Comfy() as other:
        for backend, named in ((client(one, other), True), (client(one), False)):
            with pytest.raises(NodeFailed) as caught:
                await backend.make(request(), lambda _: None)
            assert str(caught.value).count(one.url) == named
            await backend.close()


async def test_a_check_of_several_servers_says_what_each_is() -> None:
    async with Comfy() as one, Comfy(version="0.33.0") as other:
        backend = client(one, other)
        found = await backend.check()
        assert (
            found.ready
            and found.detail == f"2 of 2 servers: {one.url} (0.3.64); {other.url} (0.33.0)."
        )
        await other.kill()
        found = await backend.check()
        assert (
            found.ready
            and found.detail
            == f"1 of 2 servers: {one.url} (0.3.64); {other.url} (does not answer)."
            and not found.hint
        )
        one.proxy["/"], one.between = 1, (503, b"")
        found = await backend.check()
        assert (
            not found.ready
            and found.detail.startswith(f"0 of 2 servers: {one.url} (answered 503); ")
            and found.hint
        )
        await backend.close()


@pytest.mark.parametrize("text", [",", " , ,", ", "])
def test_a_list_of_servers_without_one_names_the_variable(text: str) -> None:
    with pytest.raises(UsageError, match="COMFYUI_URL"):
        ComfyUI(Settings.load(Path(__file__).parents[1], environ={"COMFYUI_URL": text}))


def test_a_server_that_is_named_twice_is_one() -> None:
    backend = ComfyUI(
        Settings.load(
            Path(__file__).parents[1], environ={"COMFYUI_URL": "gpu:8188, http://gpu:8188/,gpu"}
        )
    )
    assert [server.http.url for server in backend.servers] == ["http://gpu:8188"]


async def test_a_socket_that_hangs_is_waited_for_once() -> None:
    async with Comfy() as server:
        backend = client(server)
        backend.servers[0].quick_s = 0.2
        server.hangs["GET /ws"] = asyncio.Event()
        for seed in (1, 2, 3):
            assert (await backend.make(request(seed), lambda _: None)).media
        assert server.happened["hangs"] == 1 and not server.clients
        server.hangs["GET /ws"].set()
        backend.servers[0]._deaf_until = 0.0  # 10 s later
        assert (await backend.make(request(4), lambda _: None)).media
        assert backend.servers[0].listens
        await backend.close()


async def test_a_left_job_is_waited_for_while_its_server_is_away() -> None:
    async with Comfy() as one, Comfy() as other:
        first = client(one)
        await first.make(request(request_id=ID), lambda _: None)
        await first.close()
        for servers in ((one,), (other, one)):
            backend = client(*servers)
            backend.gone_s = 10.0
            one.proxy["/"], one.happened["502"] = 3, 0
            found = await backend.make(request(request_id=ID, sent_before=True), lambda _: None)
            assert found.sent["server"] == one.url and one.happened["502"] == 3
            await backend.close()
        assert len(one.prompts()) == 1 and not other.prompts()


async def test_a_left_job_whose_server_stays_away_is_sent_to_another() -> None:
    async with Comfy() as one, Comfy() as other:
        backend = client(one, other)
        await one.kill()
        found = await backend.make(request(request_id=ID, sent_before=True), lambda _: None)
        assert found.sent["server"] == other.url and len(other.prompts()) == 1
        # it was looked for there
        assert sum(path.startswith("/history") for _, path, _ in other.asked) >= 2
        await backend.close()


async def test_a_left_job_is_not_sent_again_to_a_server_that_says_nothing() -> None:
    async with Comfy() as server:
        backend = client(server)
        server.proxy["/queue"] = server.proxy["/api/jobs"] = 1000
        with pytest.raises(Unavailable, match=server.url):
            await backend.make(request(request_id=ID, sent_before=True), lambda _: None)
        assert server.happened["502"] > 1 and not server.prompts()
        await backend.close()


async def test_runs_that_begin_together_are_spread() -> None:
    async with Comfy() as one, Comfy() as other:
        backend = client(one, other)
        await asyncio.gather(*(backend.make(request(seed), lambda _: None) for seed in range(1, 9)))
        await backend.close()
        assert len(one.prompts()) == len(other.prompts()) == 4


async def test_a_server_that_takes_nothing_passes_the_run_on_and_is_left_alone_for_a_while() -> (
    None
):
    async with Comfy([Play(reply=(503, b""))]) as full, Comfy() as other:
        backend = client(full, other)
        for seed in (1, 2):
            assert (await backend.make(request(seed), lambda _: None)).sent["server"] == other.url
        await backend.close()
    assert full.happened["refused"] == 1 and len(other.prompts()) == 2


async def test_where_no_server_answers_the_error_says_so() -> None:
    async with Comfy() as one, Comfy() as other:
        urls = one, other
    for servers in (urls, urls[:1]):
        backend = client(*servers)
        with pytest.raises(Unavailable) as caught:
            await backend.make(request(), lambda _: None)
        health = await backend.check()
        assert "COMFYUI_URL" in caught.value.hint and not health.ready and health.hint
        await backend.close()


async def test_a_dry_run_queues_nothing_and_tells_the_faults_alone() -> None:
    known = {
        "SaveImage": {
            "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING"]}},
            "output_node": True,
        },
        "PreviewImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True},
    }
    sentinel = {
        "type": "bad_linked_input",
        "message": "Bad linked input",
        "details": "filename_prefix",
        "extra_info": {"received_value": doctor.SENTINEL},
    }
    small = {
        "type": "value_smaller_than_min",
        "message": "Value 0 smaller than min of 1",
        "details": "width",
        "extra_info": {},
    }
    answer = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "x"},
        "node_errors": {"9": {"errors": [sentinel]}, "1": {"errors": [small]}},
    }
    async with Comfy([Play(reply=(400, answer))], object_info=known) as server:
        backend = client(server)
        found = await backend.dry_run(
            {**NODES, "8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
        )
        await backend.close()
        sent = server.prompts()[0]["prompt"]
    assert found == ["node 1 (EmptyImage): Value 0 smaller than min of 1: width"]
    assert (
        sent["8"]["inputs"]["images"] == sent["9"]["inputs"]["filename_prefix"] == doctor.SENTINEL
        and not server.executed
    )
    assert sent["8, images"]["inputs"] == {"images": ["1", 0], "filename_prefix": doctor.SENTINEL}


async def test_many_dry_runs_ask_once_what_the_server_has() -> None:
    """With many custom nodes the answer has megabytes; asked anew, it is the latest."""
    known = {
        "SaveImage": {"input": {"required": {"filename_prefix": ["STRING"]}}, "output_node": True}
    }
    refused = Play(
        reply=(
            400,
            {
                "error": {"type": "prompt_outputs_failed_validation", "message": "x"},
                "node_errors": {},
            },
        )
    )
    async with Comfy([refused] * 3, object_info=known) as server:
        backend = client(server)
        assert await backend.object_info() == known
        for _ in range(3):
            await backend.dry_run(NODES)
        assert (
            len(server.prompts()) == 3
            and [path for _, path, _ in server.asked].count("/object_info") == 1
        )
        server.object_info = {}
        assert await backend.object_info() == {}
        await backend.close()


async def test_a_token_goes_to_the_server_and_its_socket_and_nowhere_into_the_result() -> None:
    async with Comfy() as server:
        backend = client(server, COMFYUI_TOKEN="sesame-123456")
        result = await backend.make(request(), lambda _: None)
        address, headers = backend.servers[0].http.websocket("/ws")
        await backend.close()
    assert (
        headers["Authorization"] == "Bearer sesame-123456"
        and "sesame" not in repr(result) + address
    )


async def test_nodes_that_are_not_run_again_count_as_done() -> None:
    """Else a run that repeats most of the one before it ends at 1 of 2."""
    saving, picture = (
        {"type": "executing", "data": {"node": "9"}},
        {"filename": "p.png", "subfolder": "m", "type": "output"},
    )
    async with Comfy(
        [Play(cached=["1"], events=[saving], outputs={"9": {"images": [picture]}})]
    ) as server:
        server.files["m/p.png"] = small_picture()
        _, pieces = await made(server)
    assert [piece for piece in pieces if isinstance(piece, Progress)] == [Progress(2, 2, "Keep it")]


async def test_files_that_were_saved_come_before_passing_previews() -> None:
    """A graph that shows the edges it draws by runs that node first; the picture is what was asked
    for.
    """
    edges, picture = (
        {"filename": f"{name}.png", "subfolder": "m", "type": kind}
        for name, kind in (("e", "temp"), ("p", "output"))
    )
    async with Comfy(
        [Play(outputs={"8": {"images": [edges]}, "9": {"images": [picture]}})]
    ) as server:
        server.files |= {"m/e.png": small_picture((0, 0, 0)), "m/p.png": small_picture((9, 9, 9))}
        result, _ = await made(server)
    assert [media.data for media in result.media] == [
        small_picture((9, 9, 9)),
        small_picture((0, 0, 0)),
    ]


async def test_a_token_does_not_follow_a_socket_that_is_said_to_be_elsewhere() -> None:
    async with Comfy() as server, Comfy() as other:
        server.moved = f"ws{other.url[4:]}"
        backend = client(server, COMFYUI_TOKEN="sesame-123456")
        result = await backend.make(request(), lambda _: None)
        await backend.close()
    assert result.media and server.happened["moved"] and not other.clients and not other.asked


# In a run.


@pytest.mark.parametrize("level", ["kids", "youth"])
async def test_in_a_run_previews_come_after_the_verdict_and_are_kept_by_nobody(
    tmp_path: Path, level: str
) -> None:
    pictures = [small_picture((5, 5, 5)), small_picture((9, 9, 9))]
    running: Any = {"type": "executing", "data": {"node": "3"}}
    step = {"type": "progress", "data": {"node": "3", "value": 2, "max": 4}}
    async with Comfy([Play(events=[running, step, *map(preview, pictures)])]) as server:
        environ = {
            "COMFYUI_URL": server.url,
            "DEVPIPE_MODEL_JUDGE": "judge/x",
            "DEVPIPE_SAFETY": level,
        }
        engine = engine_in(tmp_path, backends={"judge": ScriptedBackend(["SAFE"])}, **environ)
        run = engine.start("a cat", pipeline="overdrive", output="sd35_large", seed=7)
        happened = [one async for one in run]
        await run
        engine.close()
    events = [getattr(one, "event", one) for one in happened]
    kinds = [event.type for event in events]
    assert run.outcome == "completed", run.error
    assert kinds.index("previewed") > max(
        at for at, kind in enumerate(kinds) if kind == "verdict_given"
    )
    assert [event.data for event in events if event.type == "previewed"] == pictures
    title = sent_title(server, "3")
    assert [
        (event.step, event.steps, event.message) for event in events if event.type == "progressed"
    ][1:] == [(2, 4, title)]
    started = next(
        event for event in events if event.type == "attempt_started" and event.stage == "generation"
    )
    assert [started.request_id] == [one["prompt_id"] for one in server.prompts()]
    stored = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    for picture in pictures:
        assert not any(
            one in data
            for data in stored
            for one in (picture, base64.b64encode(picture), picture[40:60])
        )
    assert any(data.startswith(b"\x89PNG") for data in stored)  # the picture itself


def sent_title(server: Comfy, node: str) -> str:
    found = server.prompts()[0]["prompt"][node]
    return str(found.get("_meta", {}).get("title", found["class_type"]))


async def test_a_prompt_that_is_blocked_reaches_no_server(tmp_path: Path) -> None:
    async with Comfy() as server:
        environ = {
            "COMFYUI_URL": server.url,
            "DEVPIPE_MODEL_JUDGE": "judge/x",
            "DEVPIPE_SAFETY": "kids",
        }
        engine = engine_in(tmp_path, backends={"judge": ScriptedBackend(["UNSAFE"])}, **environ)
        run = engine.start("a cat", pipeline="overdrive", output="sd35_large", seed=7)
        happened = [one async for one in run]
        engine.close()
    kinds = [getattr(one, "event", one).type for one in happened]
    assert run.outcome == "blocked" and "previewed" not in kinds and not server.prompts()


async def test_what_the_person_sees_of_a_queue() -> None:
    from devpipe.record.events import Queued as Event
    from devpipe.widgets.run_panel import RunPanel

    panel = RunPanel(language="de")
    panel._progress = Event(stage="generation", position=3, seconds=20.4)
    assert panel._how_far("generation") == " 3 davor, etwa 20 s" and panel._how_far("input") == ""
