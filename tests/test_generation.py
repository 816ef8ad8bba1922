"""What Stage 4 keeps of what a backend made, and what it does not."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from engines import engine_in, small_media, small_picture
from PIL import Image
from test_provenance import FILES, SECRET, TOLD, film

from devpipe.engine.run import Run
from devpipe.errors import Rejected, Unavailable
from devpipe.media.containers import sniff
from devpipe.media.provenance import read
from devpipe.record.events import Warned
from devpipe.testing import ScriptedBackend
from devpipe.values import Media, MediaResult


async def made(
    folder: Path, *media: Media, output: str = "sketch", **environ: str
) -> tuple[Run, ScriptedBackend]:
    """A run whose backend, which may depict anything, made these."""
    backend = ScriptedBackend([MediaResult(media)], procedural=False)
    environ = {"DEVPIPE_SAFETY": "adult", "DEVPIPE_MODEL_JUDGE": "judge/x"} | environ
    engine = engine_in(
        folder, backends={"judge": ScriptedBackend(["SAFE"]), "procedural": backend}, **environ
    )
    try:
        return await engine.run("a cat", output=output), backend
    finally:
        engine.close()


def stored(run: Run) -> list[bytes]:
    return [(run.folder / artifact.path).read_bytes() for artifact in run.artifacts]


@pytest.mark.parametrize("provenance", ["full", "mark"])
@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "mp4", "webm", "flac"])
async def test_no_note_of_the_maker_stays_in_a_file(
    tmp_path: Path, name: str, provenance: str
) -> None:
    """It would carry the text out of a workshop, and make files of equal requests unequal; ours
    says what we say.
    """
    data = TOLD[name]
    kind = sniff(data)
    output = {"image": "sketch", "video": "sketch_video", "audio": "sketch_sound"}[
        kind.partition("/")[0]
    ]
    run, _ = await made(tmp_path, Media(data, kind), output=output, DEVPIPE_PROVENANCE=provenance)
    (kept,) = stored(run)
    assert SECRET.encode() in data and SECRET.encode() not in kept
    told = read(kept)
    if kind.startswith("image/"):
        assert told and (told.request is None) is (provenance == "mark")


async def test_nothing_is_asked_for_that_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyAV no film can be freed of its maker's notes; that is said before the work, not
    after it.
    """
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(Unavailable, match="PyAV"):
        await made(
            tmp_path / "mark",
            Media(FILES["mp4"], "video/mp4"),
            output="sketch_video",
            DEVPIPE_PROVENANCE="mark",
        )
    run, backend = await made(
        tmp_path / "full", Media(FILES["mp4"], "video/mp4"), output="sketch_video"
    )
    assert run.outcome == "completed" and len(backend.requests) == 1


def gif() -> bytes:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [(gif(), "image/gif"), (film("PNG"), "image/png"), (film("WEBP"), "image/webp")],
)
async def test_an_animated_picture_is_a_film(tmp_path: Path, data: bytes, kind: str) -> None:
    run, _ = await made(tmp_path, Media(data, kind), output="sketch_video")
    assert run.outcome == "completed"
    assert [(artifact.media_type, artifact.seconds) for artifact in run.artifacts] == [(kind, 0.3)]


@pytest.mark.parametrize(
    ("level", "kept"), [("kids", 1), ("youth", 1), ("adult", 2), ("research", 2)]
)
async def test_a_text_that_was_made_too_reaches_nobody_unchecked(
    tmp_path: Path, level: str, kept: int
) -> None:
    """The verdict was on other words."""
    text = Media(b"how to build a pipe bomb", "text/plain")
    run, _ = await made(tmp_path, small_media(), text, DEVPIPE_SAFETY=level)
    assert run.outcome == "completed" and len(run.artifacts) == kept
    noted = [one.event for one in run.recording.events if isinstance(one.event, Warned)]
    assert len(noted) == 2 - kept
    assert (b"pipe bomb" in b"".join(one.read_bytes() for one in run.folder.iterdir())) is (
        kept == 2
    )


LIES = [
    b"GIF89a",
    b"ID3 ",
    b"OggS",
    b"fLaC",
    b"leafftyp",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF....WEBP",
    b"RIFF....WAVE",
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    ("level", "provenance"), [("kids", "full"), ("kids", "mark"), ("youth", "full")]
)
async def test_a_text_that_begins_like_a_picture_is_none(
    tmp_path: Path, lie: bytes, level: str, provenance: str
) -> None:
    told = Media(lie + b" how to build a pipe bomb", "image/png")
    run, _ = await made(
        tmp_path, small_media(), told, DEVPIPE_SAFETY=level, DEVPIPE_PROVENANCE=provenance
    )
    assert run.outcome == "completed" and len(run.artifacts) == 1
    assert b"pipe bomb" not in b"".join(one.read_bytes() for one in run.folder.iterdir())
    assert sum(isinstance(one.event, Warned) for one in run.recording.events) == 1


@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "webm", "mp4"])
async def test_a_damaged_file_is_no_result(tmp_path: Path, name: str) -> None:
    """It is not kept as an empty one, and the run does not call itself complete."""
    data = TOLD[name]
    kind = sniff(data)
    cut = data[: len(data) // 3] if kind.startswith("image/") else data[:200]
    with pytest.raises(Rejected):
        await made(
            tmp_path,
            Media(cut, kind),
            output="sketch" if kind.startswith("image/") else "sketch_video",
        )


async def test_under_the_mark_no_file_stays_that_cannot_be_freed_of_words(tmp_path: Path) -> None:
    latent = Media(b"\x10\0\0\0" + SECRET.encode(), "application/octet-stream")
    run, _ = await made(tmp_path / "mark", small_media(), latent, DEVPIPE_PROVENANCE="mark")
    assert len(run.artifacts) == 1 and SECRET.encode() not in b"".join(stored(run))
    run, _ = await made(tmp_path / "full", small_media(), latent)
    assert len(run.artifacts) == 2


async def test_a_mask_of_another_size_gets_that_of_its_picture_without_a_grey_rim(
    tmp_path: Path,
) -> None:
    mask = Image.new("L", (30, 30), 0)
    mask.paste(255, (0, 0, 13, 30))
    backend = ScriptedBackend([small_media()])
    engine = engine_in(tmp_path, backends={"procedural": backend})
    await engine.run("a cat", output="sketch_inpaint", image=small_picture(size=64), mask=mask)
    engine.close()
    (request,) = [one for one in backend.requests if hasattr(one, "images")]
    sent = request.images["mask"]
    with Image.open(io.BytesIO(sent.data)) as found:
        assert (sent.width, sent.height) == found.size == (64, 64) and {
            value for _, value in found.getcolors() or []
        } == {0, 255}
