"""The ComfyUI client against a real server, whose own floor is measured in the same run: `pytest
tests/test_comfyui_real.py --comfyui-url http://127.0.0.1:8188`.

Sampling needs weights of Stable Diffusion 1.5 there: real ones, or those of noise that
tests/random_weights.py makes. Previews need the
server's option `--preview-method latent2rgb`. Killing needs a server of its own: `--comfyui-command
"python main.py --port {port} ..."`.
Tests reach this machine only; a server elsewhere is brought here by `ssh -L 8188:127.0.0.1:8188
HOST`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shlex
import signal
import socket
import statistics
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines import REPOSITORY, small_picture
from test_graphs import CATALOGUE, OUTPUTS, PLANTED, graph, node_of
from websockets.asyncio.client import connect

from devpipe import Engine
from devpipe.analysis.verify import verify
from devpipe.backends.base import Health, Piece, Progress, Queued
from devpipe.backends.registry import Backends
from devpipe.cli import main
from devpipe.cli.new_workspace import create
from devpipe.comfyui.adopt import adopt, read
from devpipe.comfyui.backend import ComfyUI, Interrupted, ServerGone
from devpipe.comfyui.checker import input_of, problems
from devpipe.comfyui.doctor import trial, unready
from devpipe.config.catalogue import load_catalogue
from devpipe.config.settings import Settings
from devpipe.engine.run import Run
from devpipe.errors import DevpipeError
from devpipe.media.pictures import attachment, decode, encode_png
from devpipe.values import Binding, MediaRequest, Workflow

pytestmark = pytest.mark.loopback
TRIVIAL = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
    },
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def working(steps: int, size: int) -> dict[str, Any]:
    """A graph that is not quick: its picture is made large and small again, which also servers with
    a GPU leave to their processor.
    """
    scaled = {
        str(at): {"class_type": "ImageScale", "inputs": {
            "image": [str(at - 1), 0], "upscale_method": "lanczos", "width": side, "height": side, "crop": "disabled"}}
        for at, side in enumerate([size, 64] * (steps // 2), 2)
    }  # fmt: skip
    return {
        **TRIVIAL,
        **scaled,
        "9": {**TRIVIAL["9"], "inputs": {"images": [str(steps + 1), 0], "filename_prefix": "x"}},
    }


SLOW, BRIEF = working(6, 3072), working(2, 2048)  # about 2 and 0.3 s
SEED = {"seed": (Binding("1", "color"),)}


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    given: str = request.config.getoption("--comfyui-url")
    if not given:
        pytest.skip("needs a real ComfyUI: --comfyui-url http://127.0.0.1:8188")
    return given


@pytest.fixture
async def clients_of() -> AsyncIterator[Callable[[str], ComfyUI]]:
    """Makes clients of a server, or of several."""
    found = list[ComfyUI]()

    def make(url: str) -> ComfyUI:
        found.append(ComfyUI(Settings.load(REPOSITORY, environ={"COMFYUI_URL": url})))
        return found[-1]

    yield make
    for one in found:
        await one.close()


@pytest.fixture
def clients(url: str, clients_of: Callable[[str], ComfyUI]) -> list[ComfyUI]:
    """Two clients of the same server."""
    return [clients_of(url), clients_of(url)]


@pytest.fixture
def info(url: str) -> dict[str, Any]:
    """What the server says of its nodes."""
    found: dict[str, Any] = httpx.get(f"{url}/object_info", timeout=60).json()
    return found


def asked(nodes: dict[str, Any], seed: int) -> MediaRequest:
    return MediaRequest("image", {}, workflow=Workflow(nodes, SEED), seed=seed)


def ignore(_: Piece) -> None:
    """Nobody follows."""


async def floor(url: str, count: int) -> list[float]:
    """Seconds from POST to the picture's bytes of the barest client: one socket, one prompt at a
    time, no checks.
    """
    times, me = [], str(uuid.uuid4())
    async with (
        httpx.AsyncClient(base_url=url) as http,
        connect(f"ws{url[4:]}/ws?clientId={me}", max_size=None) as socket,
    ):
        for at in range(count):
            graph = json.loads(json.dumps(TRIVIAL))
            graph["1"]["inputs"]["color"], graph["9"]["inputs"]["filename_prefix"] = (
                at + 70_000,
                f"devpipe/floor-{me}-{at}",
            )
            began = time.perf_counter()
            (await http.post("/prompt", json={"prompt": graph, "client_id": me})).raise_for_status()
            while (event := json.loads(await socket.recv()))["type"] != "executed":
                pass
            (
                await http.get("/view", params=event["data"]["output"]["images"][0])
            ).raise_for_status()
            times.append(time.perf_counter() - began)
            while (event := json.loads(await socket.recv()))["type"] != "executing" or event[
                "data"
            ]["node"]:
                pass
    return times


async def test_300_runs_are_all_accounted_for_and_quick(
    url: str, clients: list[ComfyUI], record_property: Any
) -> None:
    client = clients[0]
    for seed in range(
        1, 6
    ):  # the first prompt after a pause waits for the server's garbage collection
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
    graphs = [
        {
            "1": {**TRIVIAL["1"], "_meta": {"title": name}},
            "9": {**TRIVIAL["9"], "_meta": {"title": name}},
        }
        for name in "AB"
    ]
    made = await asyncio.gather(*(
        clients[who].make(asked(graphs[who], seed + 10 * who), seen[who].append) for seed in range(2000, 2010) for who in (0, 1)
    ))  # fmt: skip
    assert (
        len({result.sent["prompt_id"] for result in made})
        == len({result.media[0].data for result in made})
        == 20
    )
    for who, name in enumerate("AB"):
        assert {piece.message for piece in seen[who] if isinstance(piece, Progress)} == {name}


async def test_a_cancelled_run_ends_at_the_server_and_the_others_do_not(
    clients: list[ComfyUI],
) -> None:
    told: list[Piece] = []
    running = asyncio.ensure_future(clients[0].make(asked(SLOW, 3000), told.append))
    async with asyncio.timeout(60):
        while not any(
            isinstance(piece, Progress) and piece.message == "ImageScale" for piece in told
        ):
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


async def test_50_runs_cancelled_at_any_moment_leave_nothing_and_hit_nobody(
    url: str, clients: list[ComfyUI]
) -> None:
    """One after the other and many at once, while somebody else has ten jobs there."""
    dice = random.Random(7)

    async def doomed(seed: int) -> bool:
        run = asyncio.ensure_future(clients[0].make(asked(SLOW, seed), ignore))
        await asyncio.sleep(1.5 * dice.random() ** 3)
        run.cancel()
        await asyncio.wait({run})
        return run.cancelled()

    others = [
        asyncio.ensure_future(clients[1].make(asked(BRIEF, seed), ignore))
        for seed in range(6000, 6010)
    ]
    cancelled = [await doomed(seed) for seed in range(6100, 6130)]
    cancelled += await asyncio.gather(*(doomed(seed) for seed in range(6200, 6220)))
    assert sum(cancelled) > 25 and all(one.media for one in await asyncio.gather(*others))
    async with asyncio.timeout(30), httpx.AsyncClient(base_url=url) as http:
        while (queue := (await http.get("/queue")).json())["queue_running"] or queue[
            "queue_pending"
        ]:
            await asyncio.sleep(0.1)  # the node that runs is not cut short


async def test_a_run_behind_others_says_how_many_come_first(clients: list[ComfyUI]) -> None:
    told: list[Piece] = []
    others = [
        asyncio.ensure_future(clients[1].make(asked(SLOW, seed), ignore))
        for seed in range(6300, 6303)
    ]
    await asyncio.sleep(0.2)
    assert (await clients[0].make(asked(TRIVIAL, 6310), told.append)).media
    await asyncio.gather(*others)
    positions = [piece.position for piece in told if isinstance(piece, Queued)]
    assert positions[0] == 3 and positions == sorted(positions, reverse=True)


FRAMES = {**TRIVIAL["1"], "inputs": {**TRIVIAL["1"]["inputs"], "batch_size": 4}}
SILENCE = {
    "class_type": "EmptyAudio",
    "inputs": {"duration": 1.0, "sample_rate": 44100, "channels": 2},
}
LATENT = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
FILM = {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}}
KINDS: list[
    tuple[str, dict[str, Any], dict[str, Any], list[str]]
] = [  # the last node, what it takes, its source, what comes
    ("SaveImage", {"images": ["1", 0]}, FRAMES, ["image/png"] * 4),
    ("PreviewImage", {"images": ["1", 0]}, FRAMES, ["image/png"] * 4),
    ("SaveImageWebsocket", {"images": ["1", 0]}, FRAMES, ["image/png"] * 4),
    (
        "SaveAnimatedWEBP",
        {"images": ["1", 0], "fps": 6.0, "lossless": True, "quality": 80, "method": "default"},
        FRAMES,
        ["image/webp"],
    ),
    (
        "SaveAnimatedPNG",
        {"images": ["1", 0], "fps": 6.0, "compress_level": 4},
        FRAMES,
        ["image/png"],
    ),
    (
        "SaveWEBM",
        {"images": ["1", 0], "codec": "vp9", "fps": 24.0, "crf": 32.0},
        FRAMES,
        ["video/webm"],
    ),
    (
        "SaveVideo",
        {"video": ["2", 0], "format": "auto", "codec": "auto"},
        FRAMES,
        ["video/mp4"],
    ),
    ("SaveAudio", {"audio": ["1", 0]}, SILENCE, ["audio/flac"]),
    ("SaveAudioMP3", {"audio": ["1", 0], "quality": "V0"}, SILENCE, ["audio/mpeg"]),
    ("SaveAudioOpus", {"audio": ["1", 0], "quality": "64k"}, SILENCE, ["audio/ogg"]),
    ("PreviewAudio", {"audio": ["1", 0]}, SILENCE, ["audio/flac"]),
    (
        "PreviewAny",
        {"source": ["1", 0]},
        {"class_type": "PrimitiveString", "inputs": {"value": "hallo"}},
        ["text/plain"],
    ),
    ("SaveLatent", {"samples": ["1", 0]}, LATENT, ["application/octet-stream"]),
]


@pytest.mark.parametrize(
    ("kind", "inputs", "source", "types"), KINDS, ids=[one[0] for one in KINDS]
)
async def test_files_of_every_kind_are_fetched(
    kind: str,
    inputs: dict[str, Any],
    source: dict[str, Any],
    types: list[str],
    clients: list[ComfyUI],
    info: dict[str, Any],
) -> None:
    """Twice the same graph: the second time the server repeats nothing that it need not."""
    nodes = {"1": source, "9": {"class_type": kind, "inputs": inputs}}
    if "video" in inputs:
        nodes["2"] = FILM
    if lacking := {node["class_type"] for node in nodes.values()} - info.keys():
        pytest.skip(f"the server lacks {', '.join(lacking)}")
    if input_of(info, kind, "filename_prefix"):
        nodes["9"]["inputs"] = {**inputs, "filename_prefix": "x"}
    for _ in range(2):
        result = await clients[0].make(
            MediaRequest("image", {}, workflow=Workflow(nodes, {})), ignore
        )
        assert [media.media_type for media in result.media] == types and all(
            media.data for media in result.media
        )


async def test_pixels_under_the_mask_alone_come_from_the_other_picture(
    clients: list[ComfyUI],
) -> None:
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
    images = {
        "image": attachment(small_picture((200, 30, 40)), name="image"),
        "mask": attachment(mask, name="mask"),
    }
    result = await clients[0].make(
        MediaRequest("image", {}, workflow=Workflow(nodes, bindings), images=images, seed=255),
        ignore,
    )
    picture = decode(result.media[0].data)
    assert near(picture.getpixel((5, 5)), (0, 0, 255)) and picture.getpixel((60, 5)) == (
        200,
        30,
        40,
    )


def near(one: Any, other: Any) -> bool:
    """Newer servers make a plain picture with 16 bits a value, and round down."""
    return all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))


def half_white() -> bytes:
    from PIL import Image

    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    return encode_png(mask)


async def test_a_dry_run_leaves_queue_and_history_alone(url: str, clients: list[ComfyUI]) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        before = (await http.get("/history")).json().keys()
        assert (
            await clients[0].dry_run(
                {**TRIVIAL, "8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
            )
            == []
        )
        broken = {
            **TRIVIAL,
            "1": {"class_type": "EmptyImage", "inputs": {**TRIVIAL["1"]["inputs"], "width": 0}},
        }
        (found,) = await clients[0].dry_run(broken)
        assert "node 1" in found and "width" in found
        assert (await http.get("/history")).json().keys() == before
        assert (await http.get("/queue")).json() == {"queue_running": [], "queue_pending": []}


PASSED_ON: dict[str, dict[str, Any]] = {  # an output without a file's name, on which others hang
    "PreviewAny": {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "x"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        "3": {"class_type": "StringLength", "inputs": {"string": ["2", 0]}},
        "4": {
            "class_type": "EmptyImage",
            "inputs": {"width": ["3", 0], "height": 64, "batch_size": 1, "color": 1},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
    },
    "PreviewImage": {
        **TRIVIAL,
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    },
    "MaskPreview": {
        "1": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}},
        "2": {"class_type": "MaskPreview", "inputs": {"mask": ["1", 0]}},
        "4": {"class_type": "MaskToImage", "inputs": {"mask": ["2", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
    },
}


@pytest.mark.parametrize("kind", PASSED_ON)
async def test_a_dry_run_reaches_what_lies_before_and_behind_an_output_that_passes_on(
    kind: str, url: str, clients: list[ComfyUI], info: dict[str, Any]
) -> None:
    """A sound graph has no fault, a spoilt one has one on either side, and nothing is queued."""
    shown = {number: node for number, node in PASSED_ON[kind].items() if number in "12"}
    spoilt: dict[str, Any] = json.loads(json.dumps(shown))
    spoilt["1"]["inputs"].popitem()
    async with httpx.AsyncClient(base_url=url) as http:
        before = (await http.get("/history")).json().keys()
        assert await clients[0].dry_run(shown) == []
        (found,) = await clients[0].dry_run(spoilt)
        assert found.startswith("node 1 ")
        if info[kind]["output"]:
            assert await clients[0].dry_run(PASSED_ON[kind]) == []
            (found,) = await clients[0].dry_run(
                {
                    **PASSED_ON[kind],
                    "9": {**PASSED_ON[kind]["9"], "inputs": {"filename_prefix": "x"}},
                }
            )
            assert found.startswith("node 9 ")
        assert (await http.get("/history")).json().keys() == before
        assert (await http.get("/queue")).json() == {"queue_running": [], "queue_pending": []}


async def test_8_at_a_time_cost_little_of_our_processor(
    clients: list[ComfyUI], record_property: Any
) -> None:
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


# Whole runs, of graphs that somebody brings.


def engine_with(folder: Path, url: str, info: dict[str, Any], **graphs: dict[str, Any]) -> Engine:
    """An engine with a workspace of its own, which has adopted the graphs."""
    home = create(folder / "home") if not (folder / "home").exists() else folder / "home"
    for name, nodes in graphs.items():
        adopted = adopt(nodes, info)
        (home / "output_configs/graphs" / f"{name}.json").write_text(json.dumps(adopted.graph))
        (home / "output_configs" / f"{name}.json").write_text(json.dumps(adopted.config(name)))
    environ = {
        "COMFYUI_URL": url,
        "DEVPIPE_RECORDINGS": str(folder / "recordings"),
        "DEVPIPE_SAFETY": "research",
    }
    return Engine(settings=Settings.load(home, environ=environ))


def weights(info: dict[str, Any], node: str, name: str) -> str:
    """A file of Stable Diffusion 1.5 that the server has."""
    told = input_of(info, node, name)
    for file in (told and told.options) or ():
        if re.search(r"sd[-_]?v?1[-_.]?5|v1[-_]5", str(file), re.I):
            return str(file)
    folder = {"ckpt_name": "checkpoints", "control_net_name": "controlnet"}[name]
    pytest.skip(
        f"the server lists no file of SD1.5 in models/{folder}: `python tests/random_weights.py"
        " MODELS` makes one; then restart it"
    )


def sd15(info: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Text to picture, as small and quick as can be."""
    nodes: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": weights(info, "CheckpointLoaderSimple", "ckpt_name")}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurred", "clip": ["1", 1]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {
            "seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }  # fmt: skip
    for name, change in changes.items():
        node = nodes.get(name[1:], {"inputs": {}})
        nodes[name[1:]] = node | change | {"inputs": node["inputs"] | change["inputs"]}
    return nodes


def inpainting(info: dict[str, Any], **latent: Any) -> dict[str, Any]:
    """Node 4 is the latent picture; what lies outside of the mask comes from the picture itself."""
    nodes = sd15(
        info,
        _10={"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        _11={"class_type": "LoadImageMask", "inputs": {"image": "example.png", "channel": "red"}},
        _12={"class_type": "ImageCompositeMasked", "inputs": {
            "destination": ["10", 0], "source": ["6", 0], "x": 0, "y": 0, "resize_source": False, "mask": ["11", 0]}},
        _9={"inputs": {"images": ["12", 0]}},
    )  # fmt: skip
    return {**nodes, **latent, "4": latent["4"]}


async def sampled(engine: Engine, output: str, **how: Any) -> Run:
    """A run that completed, with its steps and previews seen on the way and not stored."""
    run = engine.start("a red cat", output=output, seed=time.time_ns() % 2**31, **how)
    seen = [getattr(one, "event", one) for one in [one async for one in run]]
    engine.close()
    assert (run.outcome, run.error) == ("completed", None) and verify(run.recording) == []
    assert {
        (one.step, one.steps)
        for one in seen
        if one.type == "progressed" and one.message == "KSampler"
    } >= {(1, 2), (2, 2)}
    assert any(one.type == "previewed" for one in seen), (
        "no preview came: start the server with --preview-method latent2rgb"
    )
    assert not {one.event.type for one in run.recording.events} & {
        "previewed",
        "progressed",
        "queued",
    }
    assert [(one.media_type, one.width, one.height) for one in run.artifacts] == [
        ("image/png", 64, 64)
    ]
    return run


async def test_sd15_makes_a_picture_of_a_text(
    tmp_path: Path, url: str, info: dict[str, Any]
) -> None:
    """The recording holds text, seed and graph, and where they went."""
    run = await sampled(engine_with(tmp_path, url, info, small=sd15(info)), "small")
    (sent,) = [
        one.event.request
        for one in run.recording.events
        if one.event.type == "attempt_started" and one.event.stage == "generation"
    ]
    assert sent["texts"]["prompt"] == "a red cat"
    assert sent["workflow"]["bindings"]["seed"] == [
        {"node": "5", "input": "seed", "title": "KSampler"}
    ]


INPAINTING: dict[str, dict[str, Any]] = {
    "VAEEncodeForInpaint": {
        "4": {
            "class_type": "VAEEncodeForInpaint",
            "inputs": {"pixels": ["10", 0], "vae": ["1", 2], "mask": ["11", 0], "grow_mask_by": 6},
        },
    },
    "SetLatentNoiseMask": {
        "13": {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["1", 2]}},
        "4": {
            "class_type": "SetLatentNoiseMask",
            "inputs": {"samples": ["13", 0], "mask": ["11", 0]},
        },
    },
}


@pytest.mark.parametrize("method", INPAINTING)
async def test_sd15_changes_no_pixel_outside_of_the_mask(
    method: str, tmp_path: Path, url: str, info: dict[str, Any]
) -> None:
    """The left half is white in the mask; a picture with every shade shows a change of one
    of them.
    """
    engine = engine_with(tmp_path, url, info, inpaint=inpainting(info, **INPAINTING[method]))
    before = shades()
    run = await sampled(engine, "inpaint", image=encode_png(before), mask=half_white())
    after = decode(run.files[0].read_bytes()).convert("RGB")
    left, right = (0, 0, 32, 64), (32, 0, 64, 64)
    assert (
        after.crop(right).tobytes() == before.crop(right).tobytes()
        and after.crop(left).tobytes() != before.crop(left).tobytes()
    )


def shades() -> Any:
    from PIL import Image

    picture = Image.new("RGB", (64, 64))
    picture.putdata([(at % 256, (at * 7) % 256, at // 16) for at in range(64 * 64)])
    return picture


async def test_sd15_obeys_a_controlnet(tmp_path: Path, url: str, info: dict[str, Any]) -> None:
    """The edges of a picture of ours lead it."""
    nodes = sd15(
        info,
        _10={"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        _11={"class_type": "Canny", "inputs": {"image": ["10", 0], "low_threshold": 0.1, "high_threshold": 0.3}},
        _12={"class_type": "ControlNetLoader", "inputs": {"control_net_name": weights(info, "ControlNetLoader", "control_net_name")}},
        _13={"class_type": "ControlNetApplyAdvanced", "inputs": {
            "positive": ["2", 0], "negative": ["3", 0], "control_net": ["12", 0], "image": ["11", 0],
            "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}},
        _5={"inputs": {"positive": ["13", 0], "negative": ["13", 1]}},
    )  # fmt: skip
    run = await sampled(
        engine_with(tmp_path, url, info, control=nodes), "control", control=half_white()
    )
    assert [
        one.event.name for one in run.recording.events if one.event.type == "attachment_written"
    ] == ["control"]


# Graphs that are checked and not run.


@pytest.mark.parametrize("name", OUTPUTS)
async def test_the_server_takes_each_graph_of_ours(
    name: str, clients: list[ComfyUI], info: dict[str, Any]
) -> None:
    """Files of no bytes are enough for that: it is checked whether they are there."""
    graph = trial(CATALOGUE, CATALOGUE.outputs[name])
    found = problems(graph, info)
    if found and all(
        re.search("no node class|is missing on the server", one.message) for one in found
    ):
        pytest.skip("; ".join(map(str, found)))
    assert (found, await clients[0].dry_run(graph)) == ([], [])


WILD = sorted((REPOSITORY / "tests/graphs/wild").glob("*.json"))


@pytest.mark.parametrize("path", WILD, ids=lambda path: path.stem)
async def test_each_adopted_graph_passes_the_check(
    path: Path, tmp_path: Path, url: str, info: dict[str, Any]
) -> None:
    """Graphs of others, as `devpipe adopt` writes them; only for files that this server lacks stand
    others that it lists.
    """
    nodes = read(path)
    if lacking := sorted({node["class_type"] for node in nodes.values()} - {*info}):
        pytest.skip(f"the server lacks {', '.join(lacking)}")
    home = create(tmp_path / "home")
    (home / "info.json").write_text(json.dumps(info))
    assert (
        main(
            [
                "adopt",
                str(path),
                "--yes",
                "--name",
                "wild",
                "--home",
                str(home),
                "--object-info",
                str(home / "info.json"),
            ]
        )
        == 0
    )
    graph, config = (
        home / "output_configs/graphs/wild.json",
        json.loads((home / "output_configs/wild.json").read_bytes()),
    )
    bound = {(one["node"], one["input"]) for some in config["bindings"].values() for one in some}
    graph.write_text(json.dumps(with_files_of(info, json.loads(graph.read_bytes()), but=bound)))
    backends = Backends(Settings.load(home, environ={"COMFYUI_URL": url}))
    found = await unready(
        load_catalogue(home),
        backends,
        {name: Health(name == "comfyui") for name in backends.names()},
    )
    await backends.close()
    assert found.get("wild", []) == []


def with_files_of(
    info: dict[str, Any], nodes: dict[str, Any], *, but: set[tuple[str, str]]
) -> dict[str, Any]:
    """The graph with files that the server has, where it names others; `but` for inputs that each
    run fills.
    """
    for number, node in nodes.items():
        for name, value in node["inputs"].items():
            told = input_of(info, node["class_type"], name)
            if (number, name) in but or not told or told.options is None or value in told.options:
                continue
            if re.search(r"\.\w{2,12}$", str(value)):
                if not told.options:
                    pytest.skip(
                        f"the server lists no file for {name} of node {number}"
                        f" ({node['class_type']})"
                    )
                node["inputs"][name] = told.options[0]
    return nodes


async def test_what_the_server_finds_in_a_graph_we_find_too(
    clients: list[ComfyUI], info: dict[str, Any]
) -> None:
    """The 16 faults planted when the facts were measured, those that no server ever names, and one
    where no output needs the node.
    """
    named, compared = 0, 0
    for name, kind, field, value, _ in [*PLANTED, ("sd35_large", "", "", None, [])]:
        sound = graph(name)
        if any("no node class" in one.message for one in problems(sound, info)):
            continue
        spoilt = graph(name)
        place = planted(spoilt, kind, field, value)
        ours = set(problems(spoilt, info)) - set(problems(sound, info))
        theirs = set(await clients[0].dry_run(spoilt)) - set(await clients[0].dry_run(sound))
        assert place in {(one.node, one.input) for one in ours}, (name, kind, field, value)
        assert {said.split()[1] for said in theirs if said.startswith("node ")} <= {
            one.node for one in ours
        }, (theirs, ours)
        compared, named = compared + 1, named + bool(theirs)
    print(f"\n{compared} planted faults: the server names {named}, we name {compared}")
    if not compared:
        pytest.skip("the server has the nodes of none of these graphs")


def planted(nodes: dict[str, Any], kind: str, field: str, value: object) -> tuple[str, str]:
    """Spoil an input of the graph; its node and name.

    Without a class: in a node that nothing needs.
    """
    if not kind:
        nodes["77"] = {
            "class_type": "EmptyImage",
            "inputs": {"width": 0, "height": 64, "batch_size": 1, "color": 0},
        }
        return "77", "width"
    inputs = node_of(nodes, kind)
    inputs.pop(field) if value is None else inputs.update({field: value})
    return next(number for number, node in nodes.items() if node["inputs"] is inputs), field


# A server that is killed.


@dataclass
class OwnServer:
    """A server of this test's own, in a process group of its own."""

    command: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        line = self.command.replace("{port}", str(self.port))
        self.process = subprocess.Popen(
            shlex.split(line),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with asyncio.timeout(180), httpx.AsyncClient() as http:
            while self.process.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(f"{self.url}/system_stats", timeout=5)).is_success:
                        return
                await asyncio.sleep(0.2)
        pytest.fail(f"`{line}` ended with {self.process.returncode} before it answered")

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    command: str = request.config.getoption("--comfyui-command")
    if not command:
        pytest.skip(
            'needs a ComfyUI to kill: --comfyui-command "python /path/to/ComfyUI/main.py --cpu'
            ' --port {port}"'
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = OwnServer(command, port)
    yield server
    server.kill()


COLOURS = [0x123456 + 0x0A1407 * at for at in range(12)]


async def test_a_server_killed_in_the_middle_of_its_queue_leaves_no_false_success(
    own: OwnServer, clients_of: Callable[[str], ComfyUI]
) -> None:
    """Twelve jobs, of which three are over when it dies; after the restart each ends in its own
    picture, or in an error of its own.
    """
    await own.start()
    client = clients_of(own.url)
    client.gone_s = 180.0
    jobs = [asyncio.ensure_future(client.make(asked(BRIEF, colour), ignore)) for colour in COLOURS]
    while sum(job.done() for job in jobs) < 3:
        await asyncio.sleep(0.01)
    own.kill()
    before = [job.done() for job in jobs]
    await own.start()
    ended = await asyncio.gather(*jobs, return_exceptions=True)
    async with httpx.AsyncClient(base_url=own.url) as http:
        again = (await http.get("/history")).json()
    assert sum(before) < len(jobs), "all jobs were over before the server was killed"
    for colour, was_over, result in zip(COLOURS, before, ended, strict=True):
        assert not isinstance(result, BaseException) or isinstance(result, DevpipeError), result
        if not isinstance(result, BaseException):
            assert (result.sent["prompt_id"] in again) is not was_over
            assert near(
                decode(result.media[0].data).getpixel((32, 32)),
                (colour >> 16, colour >> 8 & 255, colour & 255),
            )
    made = sum(not isinstance(one, BaseException) for one in ended)
    print(
        f"\n12 jobs, {sum(before)} over before the kill; {made} completed, {12 - made} ended in an"
        " error"
    )
    assert made > sum(before)


async def test_of_two_servers_one_dies_and_the_other_goes_on(
    url: str, own: OwnServer, clients_of: Callable[[str], ComfyUI]
) -> None:
    """Runs stick to their server: those of the dead one end in an error, at once new ones go to the
    other.
    """
    await own.start()
    client = clients_of(f"{url},{own.url}")
    client.gone_s = 3.0
    jobs = [asyncio.ensure_future(client.make(asked(BRIEF, colour), ignore)) for colour in COLOURS]
    while sum(job.done() for job in jobs) < 3:
        await asyncio.sleep(0.01)
    own.kill()
    ended = await asyncio.gather(*jobs, return_exceptions=True)
    gone = [one for one in ended if isinstance(one, BaseException)]
    assert gone and all(isinstance(one, ServerGone) for one in gone), gone
    made = [one for one in ended if not isinstance(one, BaseException)]
    assert sum(one.sent["server"] == url for one in made) > 3
    assert (await client.make(asked(TRIVIAL, 7), ignore)).sent["server"] == url
