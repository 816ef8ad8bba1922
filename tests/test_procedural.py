"""The embedded default as a backend: texts by procedure, media by rule, errors that say
what to do.
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devpipe.backends.base import Backend, Delta, Preview, Progress
from devpipe.config.settings import Settings
from devpipe.errors import Rejected
from devpipe.media.containers import size_of
from devpipe.media.pictures import attachment, encode_png
from devpipe.offline.backend import Procedural
from devpipe.offline.procedures import VERSION, procedure
from devpipe.offline.sketch import compose
from devpipe.testing import BackendContract, settings_for_tests
from devpipe.values import (
    LOCAL_COST,
    Attachment,
    MediaRequest,
    MediaResult,
    TextRequest,
    TextResult,
    derived_seed,
)

TEXT = "Ein roter Kreis auf blauem Grund, und ein Hund bellt."
SMALL = {"width": 96, "height": 64}
Piece = Delta | Progress | Preview


def picture(name: str) -> Attachment:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:48, 24:72] = 255
    return attachment(encode_png(Image.fromarray(pixels)), name=name)


REQUESTS = {
    "sketch": MediaRequest("image", {"prompt": TEXT}, "sketch", seed=7, parameters=SMALL),
    "sketch_fusion": MediaRequest(
        "image",
        {"prompt": TEXT, "prompt_2": "the sea"},
        "sketch_fusion",
        seed=7,
        parameters=SMALL | {"alpha": 0.4},
    ),
    "sketch_inpaint": MediaRequest(
        "image",
        {"prompt": TEXT},
        "sketch_inpaint",
        {"image": picture("image"), "mask": picture("mask")},
        seed=7,
    ),
    "sketch_control": MediaRequest(
        "image",
        {"prompt": TEXT},
        "sketch_control",
        {"control": picture("control")},
        seed=7,
        parameters=SMALL,
    ),
    "sketch_video": MediaRequest(
        "video",
        {"prompt": TEXT},
        "sketch_video",
        seed=7,
        parameters=SMALL | {"frames": 4, "fps": 8},
    ),
    "sketch_sound": MediaRequest(
        "sound", {"prompt": TEXT}, "sketch_sound", seed=7, parameters={"seconds": 1.5}
    ),
}


@pytest.fixture
def backend(tmp_path: Path) -> Procedural:
    return Procedural(settings_for_tests(tmp_path))


class TestProcedural(BackendContract):
    text_request = TextRequest("interception", TEXT, language="de", procedure="cut_up", seed=3)
    media_request = REQUESTS["sketch"]

    def backend(self, settings: Settings) -> Backend:
        return Procedural(settings)


async def made(backend: Procedural, request: MediaRequest) -> tuple[MediaResult, list[Piece]]:
    pieces: list[Piece] = []
    result = await backend.make(request, pieces.append)
    await asyncio.sleep(0)  # what the drawing thread told last
    return result, pieces


async def written(backend: Procedural, request: TextRequest) -> tuple[TextResult, list[Piece]]:
    pieces: list[Piece] = []
    return await backend.write(request, pieces.append), pieces


async def test_it_writes_with_the_procedure_that_was_named(backend: Procedural) -> None:
    """Word by word for those who follow; with the procedure as model and its version as digest, at
    no cost.
    """
    result, pieces = await written(
        backend, TextRequest("interception", TEXT, language="de", procedure="antonyms", seed=3)
    )
    assert result.text == procedure("antonyms").rewrite(TEXT, seed=3, language="de") != TEXT
    assert (result.model, result.digest, result.cost) == ("antonyms", VERSION, LOCAL_COST)
    assert len(pieces) > 5 and all(isinstance(piece, Delta) for piece in pieces)


async def test_each_task_has_its_own_procedure(backend: Procedural) -> None:
    kept, _ = await written(backend, TextRequest("interception", TEXT))
    translated, _ = await written(
        backend, TextRequest("translate", "ein roter Kreis", language="de", output_language="en")
    )
    assert kept.text == TEXT and kept.model == "keep"
    assert "red" in translated.text and translated.model == "translate_en"


@pytest.mark.parametrize("named", ["", "antonyms"])
async def test_parts_are_answered_by_name(backend: Procedural, named: str) -> None:
    result, pieces = await written(
        backend,
        TextRequest("split", TEXT, language="de", procedure=named, parts=("prompt", "prompt_2")),
    )
    assert list(result.parts) == ["prompt", "prompt_2"] and all(result.parts.values())
    assert (
        "".join(piece.text for piece in pieces if isinstance(piece, Delta)).split()
        == " ".join(result.parts.values()).split()
    )


async def test_what_no_procedure_can_do_is_rejected_with_a_way_out(backend: Procedural) -> None:
    with pytest.raises(Rejected, match="DEVPIPE_MODEL_JUDGE"):
        await written(backend, TextRequest("judge", TEXT))
    with pytest.raises(Rejected, match="cut_up"):
        await written(backend, TextRequest("interception", TEXT, procedure="cut_upp"))


@pytest.mark.parametrize("model", REQUESTS)
async def test_every_model_draws_and_repeats_itself(backend: Procedural, model: str) -> None:
    """Equal bytes for an equal request, other bytes for another seed; sent tells model, seed and
    the parameters it heard.
    """
    result, pieces = await made(backend, REQUESTS[model])
    again, _ = await made(backend, REQUESTS[model])
    other, _ = await made(backend, replace(REQUESTS[model], seed=8))
    (media,) = result.media
    assert media.data == again.media[0].data != other.media[0].data
    assert (
        result.sent["model"] == model == result.model and result.sent["seed"] == 7 and result.digest
    )
    assert result.cost == LOCAL_COST
    asked = dict(REQUESTS[model].parameters)
    assert {name: result.sent["parameters"][name] for name in asked} == asked  # type: ignore[index]
    assert isinstance(pieces[-1], Progress) and pieces[-1].step == pieces[-1].steps
    if model == "sketch_sound":
        assert media.seconds == pytest.approx(1.5) and media.width is None
    else:
        assert (media.width, media.height) == size_of(media.data) == (96, 64)
    if model == "sketch_video":
        assert (
            media.seconds == pytest.approx(0.5)
            and sum(isinstance(piece, Progress) for piece in pieces) >= 4
        )


async def test_a_sketch_is_what_compose_draws(backend: Procedural) -> None:
    request = replace(REQUESTS["sketch"], style="bauhaus", languages={"prompt": "de"})
    result, _ = await made(backend, request)
    assert result.media[0].data == encode_png(
        compose(TEXT, seed=7, width=96, height=64, style="bauhaus", language="de")
    )


async def test_count_pictures_begin_with_the_seed_itself(backend: Procedural) -> None:
    """The others have seeds of their own, each of which can be asked for alone."""
    many, _ = await made(backend, replace(REQUESTS["sketch"], parameters=SMALL | {"count": 3}))
    one, _ = await made(backend, REQUESTS["sketch"])
    third, _ = await made(backend, replace(REQUESTS["sketch"], seed=derived_seed(7, 2)))
    assert [many.media[0].data, many.media[2].data] == [one.media[0].data, third.media[0].data]
    assert len({media.data for media in many.media}) == 3


async def test_parameters_have_defaults(backend: Procedural) -> None:
    result, _ = await made(backend, MediaRequest("image", {"prompt": TEXT}, "sketch"))
    assert (result.media[0].width, result.media[0].height) == (768, 768)
    assert result.sent["parameters"] == {"width": 768, "height": 768, "count": 1}


BAD: dict[str, tuple[MediaRequest, str]] = {
    "model": (replace(REQUESTS["sketch"], model="sketch_fuson"), "sketch_fusion"),
    "no model": (replace(REQUESTS["sketch"], model=""), "sketch_video"),
    "size": (replace(REQUESTS["sketch"], parameters={"width": 10**9}), "64 to 2048"),
    "kind": (replace(REQUESTS["sketch"], parameters={"width": "wide"}), "whole number"),
    "fraction": (replace(REQUESTS["sketch"], parameters={"width": 64.5}), "whole number"),
    "truth": (replace(REQUESTS["sketch"], parameters={"count": True}), "count"),
    "share": (replace(REQUESTS["sketch_fusion"], parameters={"alpha": 1.2}), "from 0 to 1"),
    "not a number": (
        replace(REQUESTS["sketch_fusion"], parameters={"alpha": float("nan")}),
        "alpha",
    ),
    "format": (replace(REQUESTS["sketch_video"], parameters={"format": "avi"}), "webp, mp4"),
    "second text": (replace(REQUESTS["sketch_fusion"], texts={"prompt": TEXT}), "prompt_2"),
    "mask": (replace(REQUESTS["sketch_inpaint"], images={"image": picture("image")}), "mask=FILE"),
    "picture": (
        replace(
            REQUESTS["sketch_control"], images={"control": Attachment(b"GIF89a", "image/png", 1, 1)}
        ),
        "PNG, JPEG or WEBP",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_wrong_request_is_rejected_with_what_to_do(backend: Procedural, case: str) -> None:
    request, hint = BAD[case]
    with pytest.raises(Rejected) as caught:
        await made(backend, request)
    assert hint in str(caught.value) and "\n" not in str(caught.value)


async def test_cancelling_stops_the_drawing(backend: Procedural) -> None:
    """Nothing is told after the cancelled call has returned, and the thread ends at its
    next frame.
    """
    pieces: list[Piece] = []
    begun = asyncio.Event()

    def emit(piece: Piece) -> None:
        pieces.append(piece)
        begun.set()

    request = replace(
        REQUESTS["sketch_video"], parameters={"width": 256, "height": 256, "frames": 120}
    )
    task = asyncio.create_task(backend.make(request, emit))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.get_running_loop().shutdown_default_executor()  # waits for the thread
    assert len(pieces) < 120  # a starved loop may cancel late


async def test_the_loop_goes_on_while_it_draws(backend: Procedural) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await made(backend, REQUESTS["sketch_video"])
    ticking.cancel()
    assert ticks > 20


async def test_it_is_always_ready(backend: Procedural) -> None:
    health = await backend.check()
    assert health.ready and set(health.models) == set(REQUESTS) and backend.procedural


def test_the_mp4_of_a_film(tmp_path: Path) -> None:
    async def film() -> Any:
        request = replace(
            REQUESTS["sketch_video"],
            parameters={"width": 97, "height": 65, "frames": 4, "format": "mp4"},
        )
        return (await made(Procedural(settings_for_tests(tmp_path)), request))[0].media[0]

    media = asyncio.run(film())
    assert media.media_type == "video/mp4" and (media.width, media.height) == (96, 64)
    assert io.BytesIO(media.data).read(8)[4:] == b"ftyp"
