"""The ComfyUI client against a real server, whose own floor is measured in the same run: `pytest tests/test_comfyui_real.py --comfyui-url http://127.0.0.1:8188`."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines import small_picture
from websockets.asyncio.client import connect

from devpipe.backends.base import Piece, Progress
from devpipe.backends.comfyui import ComfyUI, Interrupted
from devpipe.pictures import attachment
from devpipe.settings import Settings
from devpipe.values import Binding, MediaRequest, Workflow

pytestmark = pytest.mark.loopback
TRIVIAL = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}
BLUR = {"class_type": "ImageBlur", "inputs": {"blur_radius": 31, "sigma": 10.0}}
STEPS = [{**BLUR, "inputs": {"image": [str(at - 1), 0], **BLUR["inputs"]}} for at in range(2, 8)]
SLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": 1, "color": 1}},
    **{str(at): node for at, node in enumerate(STEPS, 2)},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "x"}},
}
SEED = {"seed": (Binding("1", "color"),)}


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    given: str = request.config.getoption("--comfyui-url")
    if not given:
        pytest.skip("needs a real ComfyUI: --comfyui-url http://127.0.0.1:8188")
    return given


@pytest.fixture
async def clients(url: str) -> AsyncIterator[list[ComfyUI]]:
    """Two clients of the same server."""
    found = [ComfyUI(Settings.load(Path(__file__).parents[1], environ={"COMFYUI_URL": url})) for _ in range(2)]
    yield found
    for one in found:
        await one.close()


def asked(nodes: dict[str, Any], seed: int) -> MediaRequest:
    return MediaRequest("image", {}, workflow=Workflow(nodes, SEED), seed=seed)


def ignore(_: Piece) -> None:
    """Nobody follows."""


async def floor(url: str, count: int) -> list[float]:
    """Seconds from POST to the picture's bytes of the barest client: one socket, one prompt at a time, no checks."""
    times, me = [], str(uuid.uuid4())
    async with httpx.AsyncClient(base_url=url) as http, connect(f"ws{url[4:]}/ws?clientId={me}", max_size=None) as socket:
        for at in range(count):
            graph = json.loads(json.dumps(TRIVIAL))
            graph["1"]["inputs"]["color"], graph["9"]["inputs"]["filename_prefix"] = at + 70_000, f"devpipe/floor-{me}-{at}"
            began = time.perf_counter()
            (await http.post("/prompt", json={"prompt": graph, "client_id": me})).raise_for_status()
            while (event := json.loads(await socket.recv()))["type"] != "executed":
                pass
            (await http.get("/view", params=event["data"]["output"]["images"][0])).raise_for_status()
            times.append(time.perf_counter() - began)
            while (event := json.loads(await socket.recv()))["type"] != "executing" or event["data"]["node"]:
                pass
    return times


async def test_300_runs_are_all_accounted_for_and_quick(url: str, clients: list[ComfyUI], record_property: Any) -> None:
    client = clients[0]
    for seed in range(1, 6):  # the first prompt after a pause waits for the server's garbage collection
        await client.make(asked(TRIVIAL, seed), ignore)
    bare = await floor(url, 100)
    ids, pictures, times = set(), set(), []
    for seed in range(1000, 1300):
        began = time.perf_counter()
        result = await client.make(asked(TRIVIAL, seed), ignore)
        times.append(time.perf_counter() - began)
        assert [media.media_type for media in result.media] == ["image/png"]
        ids.add(result.sent["prompt_id"])
        pictures.add(result.media[0].data)
    bare += await floor(url, 100)
    ours, theirs = statistics.median(times) * 1000, statistics.median(bare) * 1000
    print(f"\n300 completed; POST to bytes {ours:.1f} ms, floor {theirs:.1f} ms")
    record_property("ms", (ours, theirs))
    assert len(ids) == len(pictures) == 300
    assert ours < 2 * theirs + 2


async def test_two_clients_see_only_their_own(clients: list[ComfyUI]) -> None:
    seen: list[list[Piece]] = [[], []]
    graphs = [{"1": {**TRIVIAL["1"], "_meta": {"title": name}}, "9": {**TRIVIAL["9"], "_meta": {"title": name}}} for name in "AB"]
    made = await asyncio.gather(*(
        clients[who].make(asked(graphs[who], seed + 10 * who), seen[who].append) for seed in range(2000, 2010) for who in (0, 1)
    ))  # fmt: skip
    assert len({result.sent["prompt_id"] for result in made}) == len({result.media[0].data for result in made}) == 20
    for who, name in enumerate("AB"):
        assert {piece.message for piece in seen[who] if isinstance(piece, Progress)} == {name}


async def test_a_cancelled_run_ends_at_the_server_and_the_others_do_not(clients: list[ComfyUI]) -> None:
    told: list[Piece] = []
    running = asyncio.ensure_future(clients[0].make(asked(SLOW, 3000), told.append))
    async with asyncio.timeout(60):
        while not any(isinstance(piece, Progress) and piece.message == "ImageBlur" for piece in told):
            await asyncio.sleep(0.01)
    waiting = asyncio.ensure_future(clients[0].make(asked(TRIVIAL, 3001), ignore))
    others = asyncio.ensure_future(clients[1].make(asked(SLOW, 3002), ignore))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    for run in (running, waiting):
        run.cancel()
    await asyncio.wait({running, waiting})
    assert time.monotonic() - began < 1.5 and running.cancelled() and waiting.cancelled()
    assert (await others).media


async def test_a_run_that_somebody_else_stops_says_so(url: str, clients: list[ComfyUI]) -> None:
    told: list[Piece] = []
    running = asyncio.ensure_future(clients[0].make(asked(SLOW, 4000), told.append))
    async with asyncio.timeout(60):
        while not told:
            await asyncio.sleep(0.01)
    async with httpx.AsyncClient(base_url=url) as http:
        await http.post("/interrupt")
    with pytest.raises(Interrupted):
        await running


async def test_pixels_under_the_mask_alone_come_from_the_other_picture(clients: list[ComfyUI]) -> None:
    """White means: change here."""
    nodes = {
        "4": {"class_type": "LoadImage", "inputs": {"image": "x"}},
        "5": {"class_type": "LoadImageMask", "inputs": {"image": "x", "channel": "red"}},
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
        "6": {"class_type": "ImageCompositeMasked", "inputs": {
            "destination": ["4", 0], "source": ["1", 0], "x": 0, "y": 0, "resize_source": False, "mask": ["5", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }  # fmt: skip
    bindings = SEED | {"image": (Binding("4", "image"),), "mask": (Binding("5", "image"),)}
    mask = half_white()
    images = {"image": attachment(small_picture((200, 30, 40)), name="image"), "mask": attachment(mask, name="mask")}
    result = await clients[0].make(MediaRequest("image", {}, workflow=Workflow(nodes, bindings), images=images, seed=255), ignore)
    from devpipe.pictures import decode

    picture = decode(result.media[0].data)
    assert picture.getpixel((5, 5)) == (0, 0, 255) and picture.getpixel((60, 5)) == (200, 30, 40)


def half_white() -> bytes:
    from PIL import Image

    from devpipe.pictures import encode_png

    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    return encode_png(mask)


async def test_a_dry_run_leaves_queue_and_history_alone(url: str, clients: list[ComfyUI]) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        before = (await http.get("/history")).json().keys()
        assert await clients[0].dry_run({**TRIVIAL, "8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}) == []
        broken = {**TRIVIAL, "1": {"class_type": "EmptyImage", "inputs": {**TRIVIAL["1"]["inputs"], "width": 0}}}
        (found,) = await clients[0].dry_run(broken)
        assert "node 1" in found and "width" in found
        assert (await http.get("/history")).json().keys() == before
        assert (await http.get("/queue")).json() == {"queue_running": [], "queue_pending": []}


async def test_8_at_a_time_cost_little_of_our_processor(clients: list[ComfyUI], record_property: Any) -> None:
    gate, client = asyncio.Semaphore(8), clients[0]

    async def one(seed: int) -> None:
        async with gate:
            assert (await client.make(asked(TRIVIAL, seed), ignore)).media

    await one(4999)
    began, at = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one(seed) for seed in range(5000, 5200)))
    cpu, wall = (time.process_time() - began) * 1000 / 200, (time.perf_counter() - at) * 1000 / 200
    print(f"\n200 prompts, 8 at a time: {cpu:.1f} ms of CPU, {wall:.1f} ms each")
    record_property("cpu_ms", cpu)
    assert cpu < 10
