"""The scripted ComfyUI beside recordings of real ones: it says the same, in the same order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines import small_picture
from scripted_comfyui import Comfy, Play, preview, recorded
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

pytestmark = pytest.mark.loopback
WIRE = Path(__file__).parent / "comfy_wire"
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "color": 1}},
    "8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a/b"}},
}
FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


@asynccontextmanager
async def asking(server: Comfy) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        yield http


@asynccontextmanager
async def listening(
    server: Comfy, client: str = "me", *, flags: bool = False
) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws{server.url[4:]}/ws?clientId={client}", max_size=None) as socket:
        assert json.loads(await socket.recv()) == status(0, sid=client)
        if flags:
            await socket.send(FLAGS)
            assert json.loads(await socket.recv())["type"] == "feature_flags"
        yield socket


def status(remaining: int, **more: str) -> dict[str, Any]:
    return {
        "type": "status",
        "data": {"status": {"exec_info": {"queue_remaining": remaining}}, **more},
    }


async def events(socket: ClientConnection) -> list[Any]:
    """All up to the end mark."""
    found: list[Any] = []
    async with asyncio.timeout(60):
        while not found or found[-1][:2] != ("executing", None):
            message = await socket.recv()
            found.append(
                told(json.loads(message)) if isinstance(message, str) else ("frame", message[3])
            )
    return found


def told(event: Any) -> tuple[Any, ...]:
    """What of an event stays the same from run to run."""
    data = event["data"]
    states = (
        {node: one["state"] for node, one in data.get("nodes", {}).items()}
        if event["type"] == "progress_state"
        else data.get("nodes")
    )
    return (
        event["type"],
        data.get("node", data.get("node_id")),
        states,
        sorted(data),
        data.get("status"),
    )


def entries(name: str) -> list[Any]:
    found: list[Any] = json.loads((WIRE / f"{name}.json").read_text("utf-8"))["entries"]
    return found


def posts(name: str) -> list[tuple[Any, list[Any]]]:
    """Each prompt that was run, and what one socket heard until its end mark."""
    found: list[tuple[Any, list[Any]]] = []
    for one in entries(name):
        if (
            one["kind"] == "http"
            and one["request"]["path"] == "/prompt"
            and one["response"]["status"] == 200
        ):
            found.append(
                (
                    one["request"].get("json", {})
                    | {"prompt_id": one["response"]["json"]["prompt_id"]},
                    [],
                )
            )
        if found and one["kind"] in ("ws_text", "ws_binary"):
            found[-1][1].append(
                told(one["json"]) if one["kind"] == "ws_text" else ("frame", one["event_type"])
            )
    return found


def lasting(heard: list[Any]) -> list[Any]:
    """Without what says how long the queue is: that depends on how fast prompts come, and one comes
    with the socket.
    """
    return [one for one in heard if one[0] not in ("status", "feature_flags")]


@pytest.mark.parametrize("name", sorted(file.stem for file in WIRE.glob("*.json")))
async def test_a_recording_is_played_as_it_was(name: str) -> None:
    plays = [play for play in recorded(WIRE / f"{name}.json") if not play.reply]
    flags = any(one["kind"] == "ws_sent" for one in entries(name))
    async with (
        Comfy(plays) as server,
        asking(server) as http,
        listening(server, flags=flags) as socket,
    ):
        for body, heard in posts(name):
            if not heard:
                continue  # nobody listened
            await http.post("/prompt", json=body | {"client_id": "me"})
            assert lasting(await events(socket)) == lasting(heard)
    assert plays or name == "validation_errors"


@pytest.mark.parametrize("name", ["success_modelfree", "cached_rerun"])
async def test_without_a_script_it_says_what_the_real_one_said(name: str) -> None:
    """The same events and statuses, in the same order, and answers of the same shape."""
    async with Comfy() as server, asking(server) as http, listening(server) as socket:
        heard = [one for _, events in posts(name) for one in events]
        found: list[Any] = []
        for one in entries(name):
            if one["kind"] != "http":
                continue
            asked, answer = one["request"], one["response"]
            body = (
                asked["json"] | {"prompt_id": answer["json"]["prompt_id"], "client_id": "me"}
                if "json" in asked
                else None
            )
            got = await http.request(
                asked["method"], asked["path"], params=asked.get("params"), json=body
            )
            assert got.status_code == answer["status"]
            if "json" in answer:
                assert shape(got.json()) == shape(answer["json"])
            found += await events(socket) if body else []
        assert [one for one in found if one[0] != "feature_flags"] == heard[-len(found) :]


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)


async def test_jobs_are_told_with_the_keys_of_the_real_one() -> None:
    head = {"id", "status", "priority", "create_time", "outputs_count"}
    play = Play(hold=asyncio.Event())
    async with Comfy([play], version="0.8.0", jobs_api=True) as server, asking(server) as http:
        for id in ("one", "two"):
            await http.post("/prompt", json={"prompt": GRAPH, "prompt_id": id, "client_id": "me"})
        await server.until(lambda: server.running)
        found = {id: (await http.get(f"/api/jobs/{id}")).json() for id in ("one", "two")}
        assert [(set(one), one["status"]) for one in found.values()] == [
            (head, "in_progress"),
            (head, "pending"),
        ]
        absent = await http.get("/api/jobs/three")
        assert (absent.status_code, absent.json()) == (404, {"error": "Job not found"}) and (
            await http.get("/jobs/one")
        ).status_code == 404
        await http.post("/interrupt", json={"prompt_id": "one"})
        await server.until(lambda: "one" in server.history)
        over = (await http.get("/api/jobs/one")).json()
    assert over["status"] == "failed" and set(over) > head | {
        "execution_status",
        "outputs",
        "workflow",
        "execution_end_time",
    }
    assert (
        over["execution_status"]["messages"][-1][0] == "execution_interrupted"
        and "execution_error" not in over
    )


async def test_a_restart_leaves_the_files_and_nothing_else() -> None:
    async with Comfy() as server:
        async with asking(server) as http, listening(server) as socket:
            await http.post(
                "/prompt", json={"prompt": GRAPH, "prompt_id": "one", "client_id": "me"}
            )
            await events(socket)
            outputs = (await http.get("/history/one")).json()["one"]["outputs"]
            files = [outputs[node]["images"][0] for node in "98"]
            assert [(await http.get("/view", params=file)).status_code for file in files] == [
                200,
                200,
            ]
            await server.kill()
            with pytest.raises(ConnectionClosedError) as caught:
                await socket.recv()
        assert caught.value.rcvd is None  # 1006
        await server.start()
        async with asking(server) as http:
            assert [(await http.get("/view", params=file)).status_code for file in files] == [
                200,
                404,
            ]
            assert (await http.get("/history/one")).json() == {}
            assert (await http.get("/queue")).json() == {"queue_running": [], "queue_pending": []}
            assert (await http.post("/prompt", json={"prompt": GRAPH})).json()["number"] == 0


async def test_an_interrupt_hits_whom_it_names_and_without_a_name_whoever_runs() -> None:
    async with Comfy([Play(hold=asyncio.Event())]) as server, asking(server) as http:
        await http.post("/interrupt", json={"prompt_id": "one"})  # idle: no effect on what comes
        for id, body in (("one", {"prompt_id": "one"}), ("two", {})):
            await http.post("/prompt", json={"prompt": GRAPH, "prompt_id": id, "client_id": "me"})
            await server.until(lambda: server.running)
            assert (
                await http.post("/interrupt", json={"prompt_id": "another"})
            ).status_code == 200 and server.running
            await http.post("/interrupt", json=body)
            await server.until(lambda id=id: id in server.history)
        assert (
            server.interrupted == {"one", "two"} and server.happened["execution_interrupted"] == 2
        )
        assert (await http.post("/interrupt", content=b"[]")).status_code == 500


async def test_who_hears_what() -> None:
    """Progress of a prompt without a client goes to all, the rest of it to nobody; metadata of
    previews to whom they were promised.
    """
    frame = preview(small_picture(), metadata={"node_id": "1"})
    async with (
        Comfy([Play(events=[frame])]) as server, asking(server) as http,
        listening(server, "a", flags=True) as a, listening(server, "b") as b,
    ):  # fmt: skip
        for more in ({"client_id": "a"}, {"client_id": "b"}, {}):
            await http.post("/prompt", json={"prompt": GRAPH, **more})
            await server.until(lambda: not server.running and not server.pending)
        heard = [[await kind(socket) for _ in range(15)] for socket in (a, b)]
    assert [one for one in heard[0] if one != "status"] == [
        "execution_start",
        "execution_cached",
        4,
        "execution_success",
        "executing",
        1,
    ]
    assert [one for one in heard[1] if one != "status"] == [
        "execution_start",
        "execution_cached",
        1,
        "execution_success",
        "executing",
        1,
    ]
    assert heard[0].count("status") == 9 == heard[1].count("status")


async def kind(socket: ClientConnection) -> Any:
    message = await socket.recv()
    return json.loads(message)["type"] if isinstance(message, str) else message[3]


async def test_who_comes_back_hears_which_node_runs() -> None:
    play = Play(hold=asyncio.Event())
    async with Comfy([play]) as server, asking(server) as http:
        async with listening(server):
            await http.post("/prompt", json={"prompt": GRAPH, "client_id": "me"})
            await server.until(lambda: server.node == "9")
        async with connect(f"ws{server.url[4:]}/ws?clientId=me") as socket:
            assert [json.loads(await socket.recv()) for _ in range(2)] == [
                status(1, sid="me"), {"type": "executing", "data": {"node": "9"}},
            ]  # fmt: skip


async def test_uploads_are_renamed_where_other_bytes_have_the_name() -> None:
    async with Comfy() as server, asking(server) as http:

        async def up(data: bytes, **fields: str) -> Any:
            answer = await http.post(
                "/upload/image", files={"image": ("a.png", data, "image/png")}, data=fields
            )
            return answer.json()["name"] if answer.status_code == 200 else answer.status_code

        assert [
            await up(b"1"),
            await up(b"1"),
            await up(b"2"),
            await up(b"2", overwrite="true"),
        ] == [
            "a.png",
            "a.png",
            "a (1).png",
            "a.png",
        ]
        assert [
            await up(b"1", subfolder="x"),
            await up(b"1", subfolder="../x"),
            await up(b"1", type="odd"),
        ] == ["a.png", 400, 500]
        server.upload_limit = 100
        assert await up(bytes(200)) == 413 and server.happened["413"] == 1
        assert (await http.post("/upload/image", data={"x": "1"})).status_code == 400


async def test_odd_requests_are_answered_as_the_real_one_does() -> None:
    async with Comfy() as server, asking(server) as http:
        found = [
            (await http.request(method, path, json=body)).status_code
            for method, path, body in (
                ("DELETE", "/queue", None), ("DELETE", "/history/x", None), ("PUT", "/prompt", {}), ("POST", "/prompt", [1]),
                ("GET", "/view", None), ("GET", "/view?filename=a.png&type=odd", None), ("GET", "/view?filename=../a.png", None),
                ("GET", "/view?filename=a.png", None), ("GET", "/api/queue", None), ("GET", "/nothing", None), ("POST", "/queue", None),
                ("GET", "/view?filename=a.png&subfolder=../x", None), ("GET", "/interrupt", None), ("POST", "/nothing", None),
            )
        ]  # fmt: skip
        assert found == [405, 405, 405, 400, 404, 400, 400, 404, 200, 404, 500, 403, 404, 405]
        refused = await http.get("/queue", headers={"Origin": "http://elsewhere.example"})
        assert (refused.status_code, refused.content, server.happened["403"]) == (403, b"", 1)
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws{server.url[4:]}/ws", origin="http://elsewhere.example")  # type: ignore[arg-type]
