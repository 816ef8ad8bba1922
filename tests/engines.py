"""Engines for tests: the repository's catalogue, recordings in a temporary folder, an empty
environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from devpipe import Engine, Settings
from devpipe.backends.base import Backend
from devpipe.media.pictures import encode_png
from devpipe.values import Media

REPOSITORY = Path(__file__).parents[1]


def settings_in(
    folder: Path, *, backends: Mapping[str, Backend] | None = None, **environ: str
) -> Settings:
    """Settings of this repository's workspace, with recordings in `folder`."""
    known = ["procedural", *(backends or {})]
    return Settings.load(
        REPOSITORY, environ={"DEVPIPE_RECORDINGS": str(folder)} | environ, backends=known
    )


def engine_in(
    folder: Path, *, backends: Mapping[str, Backend] | None = None, **environ: str
) -> Engine:
    return Engine(settings=settings_in(folder, backends=backends, **environ), backends=backends)


def small_picture(colour: tuple[int, int, int] = (200, 30, 40), size: int = 64) -> bytes:
    """A PNG of one colour."""
    from PIL import Image

    return encode_png(Image.new("RGB", (size, size), colour))


def small_media() -> Media:
    return Media(small_picture(), "image/png", 64, 64, alt="a red square")
