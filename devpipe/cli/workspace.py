"""What a command opens of its workspace: the recordings, or an engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from devpipe.cli.parser import Arguments

if TYPE_CHECKING:
    from devpipe.analysis.tables import Tables
    from devpipe.engine.engine import Engine
    from devpipe.record.reader import Recording


def recordings_of(arguments: Arguments) -> Tables:
    """The recordings of the workspace; needs no engine and no backend."""
    from devpipe.analysis.tables import Tables
    from devpipe.config.settings import Settings

    return Tables(Settings.load(arguments.workspace()).recordings)


@contextlib.contextmanager
def engine_of(arguments: Arguments) -> Iterator[Engine]:
    """An engine on the workspace, closed at the end."""
    from devpipe.engine.engine import Engine

    engine = Engine(arguments.workspace())
    try:
        yield engine
    finally:
        engine.close()


def how_to_go_on(recording: Recording, arguments: Arguments) -> str:
    """What a person may type after an interrupted run, as the end of a sentence; else nothing."""
    if recording.state == "interrupted" and recording.events:
        return f": {arguments.next_line('resume', recording.id)}"
    return ""


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next((one for one in (folder, *folder.parents) if one.exists()), folder)


def unsynced(folder: Path) -> list[str]:
    """Say it where a folder, or the nearest above it, lies where no fsync makes it durable."""
    from devpipe.record.files import sync
    from devpipe.record.recorder import UNSYNCED

    try:
        fd = os.open(nearest(folder), os.O_RDONLY | os.O_DIRECTORY)
    except (AttributeError, OSError):  # a system, or a folder, that cannot be written: said before
        return []
    try:
        return [] if sync(fd) else [f"{folder}: {UNSYNCED.message}"]
    except OSError as error:
        return [f"{folder}: {error.strerror}. Check the disk."]
    finally:
        os.close(fd)
