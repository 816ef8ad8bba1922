"""What a command opens of its workspace: the recordings, or an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
