"""The ComfyUI client against a server that plays recordings of real ones, and misbehaves as they do."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from engines import engine_in, small_picture

from devpipe.backends import comfyui, comfyui_wire
from devpipe.backends.base import Piece, Preview, Progress, Queued
from devpipe.backends.comfyui import ComfyUI, FileMissing, Interrupted, Lost, NodeFailed, PartlyRefused, ServerGone
from devpipe.backends.comfyui_wire import Server
from devpipe.errors import BackendError, Rejected, Unavailable
from devpipe.pictures import attachment
from devpipe.settings import Settings
from devpipe.testing import BackendContract, ScriptedBackend
from devpipe.testing.comfy import Comfy, Play, preview, recorded
from devpipe.values import Binding, MediaRequest, Workflow

pytestmark = pytest.mark.loopback
PATIENCE_S = 10
WIRE = Path(__file__).parent / "comfy_wire"
ID = "5f0b6b0e-7c35-4d55-9a55-5b1a8c1f2a10"
NODES = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}, "_meta": {"title": "Keep it"}},
}
GRAPH = Workflow(NODES, {"seed": (Binding("1", "color"),)})


def client(*servers: Comfy, kind: type[ComfyUI] = ComfyUI, **environ: str) -> ComfyUI:
    urls = ",".join(server.url for server in servers)
    backend = kind(Settings.load(Path(__file__).parents[1], environ={"COMFYUI_URL": urls} | environ))
    backend.gone_s, backend.lost_s = 0.3, 0.05
    return backend


def request(seed: int = 7, **more: Any) -> MediaRequest:
    return MediaRequest("image", {}, workflow=GRAPH, seed=seed, **more)


async def made(server: Comfy, asked: MediaRequest | None = None, *, kind: type[ComfyUI] = ComfyUI) -> tuple[Any, list[Piece]]:
    """What comes of one request, and what was said on the way."""
    backend, pieces = client(server, kind=kind), list[Piece]()
    try:
        async with asyncio.timeout(PATIENCE_S):
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
    assert [piece for piece in pieces if isinstance(piece, Progress)] == [Progress(1, 2, "EmptyImage"), Progress(2, 2, "Keep it")]
    (sent,) = server.prompts()
    assert (
        sent["prompt_id"] == ID and sent["prompt"]["1"]["inputs"]["color"] == 7 and ID in sent["prompt"]["9"]["inputs"]["filename_prefix"]
    )


@pytest.mark.parametrize("jobs_api", [False, True])
async def test_a_socket_that_is_silent_only_takes_longer(jobs_api: bool) -> None:
    async with Comfy([Play(silent=True)], jobs_api=jobs_api) as server:
        began = time.monotonic()
        result, pieces = await made(server)
    assert result.media and not pieces and server.happened["silent"] and time.monotonic() - began < 1
    asked = [path.split("/")[1] for method, path, _ in server.asked if method == "GET" and "view" not in path]
    assert asked.index("api" if jobs_api else "queue") < asked.index(
        "history"
    )  # read the other way round, it misses a job that ends in between


async def test_somebody_who_does_not_read_stalls_the_events_and_not_us() -> None:
    async with Comfy() as server:
        server.reads.clear()
        result, _ = await made(server)
    assert result.media and server.happened["stalled"]


class WaitsForTheMark(ComfyUI):
    async def _ended(self, server: Server, job: Any) -> Any:
        async with asyncio.timeout(0.5):
            await job.news.wait()
        return await server.history(job)


@pytest.mark.parametrize("play", [Play(silent=True), Play(no_end=True)])
async def test_a_naive_client_that_trusts_the_events_hangs(play: Play) -> None:
    async with Comfy([play]) as server:
        with pytest.raises(TimeoutError):
            await made(server, kind=WaitsForTheMark)
        assert (await made(server))[0].media


@pytest.mark.parametrize(
    "play", [Play(early=True), Play(late=3), Play(nowhere=2), Play(no_end=True)], ids=["early", "late", "nowhere", "no_end"]
)
async def test_odd_orders_of_events_and_answers_do_no_harm(play: Play) -> None:
    """Events before the answer, a success before its history, a fast job that one look misses, no end mark."""
    fault = next(name for name in ("early", "late", "nowhere", "no_end") if getattr(play, name))
    async with Comfy([play]) as server:
        result, _ = await made(server)
    assert result.media and server.happened[fault] and len(server.prompts()) == 1


class BelievesOneLook(ComfyUI):
    lost_s = 0.0

    async def make(self, asked: MediaRequest, emit: Any) -> Any:
        self.lost_s = 0.0
        return await self._made(asked, ID, emit)


async def test_a_naive_client_that_believes_one_look_loses_a_fast_job() -> None:
    async with Comfy([Play(nowhere=2, silent=True)]) as server:
        with pytest.raises(Lost):
            await made(server, kind=BelievesOneLook)
        assert server.happened["nowhere"] and ID in server.history


# Sockets.


async def test_after_a_lost_socket_the_run_goes_on_and_the_next_one_has_events_again() -> None:
    async with Comfy([Play(cut="lost"), Play()]) as server:
        backend, pieces = client(server), list[Piece]()
        assert (await backend.make(request(1), pieces.append)).media
        pieces.clear()
        assert (await backend.make(request(2), pieces.append)).media
        await backend.close()
    assert server.happened["cut lost"] and not server.happened["unregistered"] and len(set(server.clients)) == 2
    assert pieces


class SameIdAgain(Server):
    async def _open(self) -> None:
        self._socket = None  # whether its close was confirmed does not matter to this one
        await super()._open()


async def test_a_naive_client_that_reconnects_under_its_id_hears_nothing_more() -> None:
    async with Comfy([Play(cut="lost"), Play()]) as server:
        backend, pieces = client(server), list[Piece]()
        backend.servers = [SameIdAgain(one.http) for one in backend.servers]
        await backend.make(request(1), pieces.append)
        pieces.clear()
        await backend.make(request(2), pieces.append)
        await backend.close()
    assert server.happened["unregistered"] and not pieces


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
    big = preview(small_picture() + b"\0" * 12_600_000)
    running = {"type": "executing", "data": {"node": "1"}}
    async with Comfy([Play(events=[running, big, big])]) as server:
        result, pieces = await made(server)
    assert result.media and [len(piece.data) for piece in pieces if isinstance(piece, Preview)] == [len(big) - 8] * 2


@pytest.mark.parametrize("name", ["sd15_t2i_previews_type1", "sd15_t2i_previews_type4"])
async def test_recorded_previews_and_steps_are_shown(name: str) -> None:
    async with Comfy(recorded(WIRE / f"{name}.json")[:1]) as server:
        play = server.plays[0]
        server.files |= files_of(play)
        backend, pieces = client(server), list[Piece]()
        result = await backend.make(MediaRequest("image", {}, workflow=saved_as(play)), pieces.append)
        await backend.close()
    assert result.media and any(isinstance(piece, Preview) and piece.media_type == "image/jpeg" for piece in pieces)
    assert any(isinstance(piece, Progress) and piece.steps > 1 for piece in pieces)


def saved_as(play: Play) -> Workflow:
    """A graph whose outputs are those of the play."""
    assert play.outputs is not None
    nodes = {node: {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}} for node in play.outputs} or {"9": NODES["9"]}
    return Workflow({"1": NODES["1"], **nodes}, {"seed": (Binding("1", "color"),)})


def files_of(play: Play) -> dict[str, bytes]:
    found = {}
    for output in (play.outputs or {}).values():
        for items in output.values():
            found |= {f"{one['subfolder']}/{one['filename']}": small_picture() for one in items if isinstance(one, dict)}
    return found


async def test_pictures_that_come_by_the_socket_alone_are_results_and_no_previews() -> None:
    plays = recorded(WIRE / "save_image_websocket.json")
    assert len(plays) == 2
    for play in plays:
        nodes = {"1": NODES["1"], "9": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}}
        async with Comfy([play]) as server:
            graph = Workflow(nodes, {"seed": (Binding("1", "color"),)})
            result, pieces = await made(server, MediaRequest("image", {}, workflow=graph))
        assert [media.width for media in result.media] == [64, 64] and not any(isinstance(piece, Preview) for piece in pieces)


async def test_events_of_others_are_nobodys() -> None:
    others = [
        {"type": kind, "data": {"prompt_id": "other", "node": None, "value": 1, "max": 2}} for kind in ("executing", "progress", "new_kind")
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
    assert [one["prompt_id"] for one in server.prompts()] == [ID, again] and result.sent["prompt_id"] == again
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
    """A graph may also give a text, or a film beside its picture; a run for a picture needs one picture at least."""
    picture = {"filename": "a.png", "subfolder": "m", "type": "output"}
    plays = [Play(outputs={"9": {"images": [picture], "text": ["eins"]}}), Play(outputs={"9": {"text": ["eins"]}})]
    async with Comfy(plays) as server:
        server.files["m/a.png"] = small_picture()
        engine = engine_in(tmp_path, COMFYUI_URL=server.url, DEVPIPE_SAFETY="research")
        run = await engine.run("a cat", pipeline="overdrive", output="sd35_large", seed=7)
        assert [artifact.media_type for artifact in run.artifacts] == ["image/png", "text/plain"]
        with pytest.raises(Rejected, match="text/plain for image"):
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
    """The server gives the old name for an equal graph, and a deleted name to the next file: ours are all different."""
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
    await backend.servers[0].http.post_json("/prompt", {"prompt": nodes, "prompt_id": id}, patience=comfyui_wire.SUBMIT)
    await backend.close()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [((500, b"500 Internal Server Error"), Rejected), ((403, b""), Rejected), ((413, b"too large"), Rejected), ((503, b""), BackendError)],
)
async def test_other_answers_end_it_at_once(reply: Any, kind: type[Exception]) -> None:
    async with Comfy([Play(reply=reply)]) as server:
        with pytest.raises(kind):
            await made(server)
    assert server.happened["refused"] == 1 and "/interrupt" not in [path for _, path, _ in server.asked]


async def test_a_success_without_its_file_is_none() -> None:
    async with Comfy([Play(outputs={})]) as server:
        with pytest.raises(FileMissing, match="made no file"):
            await made(server)


async def test_files_of_every_kind_are_fetched_and_named_by_their_bytes() -> None:
    kinds = {
        "a.mp4": b"\0\0\0\x18ftypmp42", "b.webm": b"\x1aE\xdf\xa3....webm", "c.flac": b"fLaC....", "d.mp3": b"ID3.....",
        "e.opus": b"OggS....", "f.png": b"RIFF....WEBPVP8 ",
    }  # fmt: skip
    output = {"images": [{"filename": name, "subfolder": "m", "type": "output"} for name in kinds], "text": ["eins"], "animated": [True]}
    async with Comfy([Play(outputs={"9": output})]) as server:
        server.files |= {f"m/{name}": data for name, data in kinds.items()}
        result, _ = await made(server)
    found = ["video/mp4", "video/webm", "audio/flac", "audio/mpeg", "audio/ogg", "image/webp", "text/plain"]
    assert [media.media_type for media in result.media] == found


async def test_more_bytes_than_allowed_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyui, "MAX_FILE", 20)
    async with Comfy() as server:
        with pytest.raises(BackendError, match="more than"):
            await made(server)


# Pictures.


async def test_pictures_go_up_under_names_of_ours_and_once() -> None:
    picture, mask = attachment(small_picture(), name="image"), attachment(small_picture((255, 255, 255)), name="mask")
    nodes = {
        "4": {"class_type": "LoadImage", "inputs": {"image": "theirs.png"}},
        "5": {"class_type": "LoadImageMask", "inputs": {"image": "theirs.png", "channel": "red"}}, **NODES,
    }  # fmt: skip
    bindings = {"seed": (Binding("1", "color"),), "image": (Binding("4", "image"),), "mask": (Binding("5", "image"),)}
    asked = MediaRequest("image", {}, workflow=Workflow(nodes, bindings), images={"image": picture, "mask": mask})
    async with Comfy() as server:
        await made(server, asked)
        names = [server.prompts()[0]["prompt"][node]["inputs"]["image"] for node in "45"]
        assert [server.files[f"/{name}"] for name in names] == [picture.data, mask.data]
        assert all(name.startswith("devpipe-") for name in names)
        server.upload_limit = 10
        with pytest.raises(Rejected, match="takes no picture"):
            await made(server, asked)
        assert server.happened["413"]


# Others.


async def test_a_cancelled_run_is_stopped_at_the_server_and_only_it() -> None:
    play = Play(hold=asyncio.Event())
    async with Comfy([play]) as server:
        backend = client(server)
        runs = [asyncio.ensure_future(backend.make(request(seed), lambda _: None)) for seed in (1, 2, 3)]
        await server.until(lambda: server.running and len(server.pending) == 2)
        ids = [one["prompt_id"] for one in server.prompts()]
        began = time.monotonic()
        for run in (runs[0], runs[2]):
            run.cancel()
        await asyncio.wait({runs[0], runs[2]})
        assert time.monotonic() - began < 1
        await server.until(lambda: ids[1] in server.executed)
        assert server.interrupted == {ids[0]} and ids[2] not in server.executed
        play.hold.set()
        async with server.changed:
            server.changed.notify_all()
        assert (await runs[1]).media
        await backend.close()


@pytest.mark.parametrize("waits", [True, False])
async def test_an_older_server_is_interrupted_only_where_nobody_else_can_be_hit(waits: bool) -> None:
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


async def test_runs_that_begin_together_are_spread() -> None:
    async with Comfy() as one, Comfy() as other:
        backend = client(one, other)
        await asyncio.gather(*(backend.make(request(seed), lambda _: None) for seed in range(1, 9)))
        await backend.close()
        assert len(one.prompts()) == len(other.prompts()) == 4


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
    known = {"SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING"]}}, "output_node": True}}
    sentinel = {
        "type": "bad_linked_input",
        "message": "Bad linked input",
        "details": "filename_prefix",
        "extra_info": {"received_value": comfyui._SENTINEL},
    }
    small = {"type": "value_smaller_than_min", "message": "Value 0 smaller than min of 1", "details": "width", "extra_info": {}}
    answer = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "x"},
        "node_errors": {"9": {"errors": [sentinel]}, "1": {"errors": [small]}},
    }
    async with Comfy([Play(reply=(400, answer))], object_info=known) as server:
        backend = client(server)
        found = await backend.dry_run({**NODES, "8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}})
        await backend.close()
        sent = server.prompts()[0]["prompt"]
    assert found == ["node 1 (EmptyImage): Value 0 smaller than min of 1: width"]
    assert sent["8"]["class_type"] == "SaveImage" and sent["8"]["inputs"]["filename_prefix"] == comfyui._SENTINEL and not server.executed


async def test_a_token_goes_to_the_server_and_its_socket_and_nowhere_into_the_result() -> None:
    async with Comfy() as server:
        backend = client(server, COMFYUI_TOKEN="sesame-123456")
        result = await backend.make(request(), lambda _: None)
        address, headers = backend.servers[0].http.websocket("/ws")
        await backend.close()
    assert headers["Authorization"] == "Bearer sesame-123456" and "sesame" not in repr(result) + address


# In a run.


async def test_in_a_run_previews_come_after_the_verdict_and_the_queue_and_steps_are_told(tmp_path: Path) -> None:
    step = {"type": "progress", "data": {"node": "3", "value": 2, "max": 4}}
    running = {"type": "executing", "data": {"node": "3"}}
    async with Comfy([Play(events=[running, step, preview(small_picture())])]) as server:
        environ = {"COMFYUI_URL": server.url, "DEVPIPE_MODEL_JUDGE": "judge/x", "DEVPIPE_SAFETY": "kids"}
        engine = engine_in(tmp_path, backends={"judge": ScriptedBackend(["SAFE"])}, **environ)
        run = engine.start("a cat", pipeline="overdrive", output="sd35_large", seed=7)
        happened = [one async for one in run]
        await run
        engine.close()
    events = [getattr(one, "event", one) for one in happened]
    kinds = [event.type for event in events]
    assert run.outcome == "completed", run.error
    assert kinds.index("previewed") > max(at for at, kind in enumerate(kinds) if kind == "verdict_given")
    assert any(event.type == "progressed" and (event.step, event.steps) == (2, 4) for event in events)
    started = next(event for event in events if event.type == "attempt_started" and event.stage == "generation")
    assert [started.request_id] == [one["prompt_id"] for one in server.prompts()]
    assert not any(one.event.type == "previewed" for one in run.recording.events)


async def test_what_the_person_sees_of_a_queue() -> None:
    from devpipe.events import Queued as Event
    from devpipe.widgets.run_panel import RunPanel

    panel = RunPanel(language="de")
    panel._progress = Event(stage="generation", position=3, seconds=20.4)
    assert panel._how_far("generation") == " 3 davor, etwa 20 s" and panel._how_far("input") == ""
