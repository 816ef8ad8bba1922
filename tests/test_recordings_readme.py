"""recordings/README.md is true: its reader, which knows nothing of devpipe, reads what our recorder
writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devpipe.record import events
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.values import new_run_id

README = Path(__file__).parents[1] / "recordings" / "README.md"


@pytest.fixture
def reader() -> dict[str, Callable[..., Any]]:
    """The functions of the page's Python block."""
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, README, "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of three events and two files."""
    run_id = new_run_id()
    recorder = Recorder.create(tmp_path, run_id, redact=Redactor([]))
    recorder.record(
        events.RunStarted(
            run_id=run_id, pipeline="dada", output="sketch", text_seed=1, safety="youth"
        )
    )
    text = 'Ein „Fuchs", "crc":"00000000"}\n'
    sha256 = recorder.write_text("01_input.txt", text)
    recorder.record(
        events.TextWritten(stage="input", text=text, final=True, path="01_input.txt", sha256=sha256)
    )
    recorder.record(events.RunFinished(outcome="completed"))
    recorder.close()
    return recorder.folder


def test_reads_what_the_recorder_writes(
    reader: dict[str, Callable[..., Any]], folder: Path
) -> None:
    """Every event comes back in order, and every file is found unchanged."""
    found = reader["read"](folder)
    assert [event["type"] for event in found] == ["run_started", "text_written", "run_finished"]
    assert reader["damaged_files"](folder, found) == []


def test_believes_nothing_after_a_changed_byte(
    reader: dict[str, Callable[..., Any]], folder: Path
) -> None:
    """A changed line, a missing line and a torn end each stop the reader there; a changed file is
    named.
    """
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged, believed in (
        ([lines[0], lines[1].replace(b"Fuchs", b"Luchs"), lines[2]], 1),
        ([lines[0], lines[2]], 1),
        ([*lines[:2], lines[2][:-3]], 2),
    ):
        path.write_bytes(b"".join(damaged))
        assert len(reader["read"](folder)) == believed
    (folder / "01_input.txt").write_text("Ein Luchs")
    assert reader["damaged_files"](folder, reader["read"](folder)) == ["01_input.txt"]


def test_names_every_event() -> None:
    """The page says of each type of event what it tells."""
    page = README.read_text(encoding="utf-8")
    types = {event.model_fields["type"].default for event in events.StoredEvent.__args__}
    assert {name for name in types if f"`{name}`" not in page} == set()
