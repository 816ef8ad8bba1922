"""Recordings of older and newer versions are read, listed, shown and tabled as far as they are
understood, and say what was skipped.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recording_maker import PROMPT, at, completed, interrupted
from shell import here

from devpipe.analysis.columns import TABLES
from devpipe.analysis.tables import Tables
from devpipe.analysis.verify import verify
from devpipe.errors import UsageError
from devpipe.record.reader import EVENTS, SUMMARY, Recording
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.show.html import run_html
from devpipe.widgets.run_panel import RunPanel

Fields = dict[str, Any]
Change = Callable[[list[Fields]], None]


def respelled(recording: Recording, change: Change, *, version: int) -> Recording:
    """The recording as another version would have written it: its lines changed, whole again."""
    file = recording.folder / EVENTS
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    change(lines)
    whole = b""
    for seq, fields in enumerate(lines):
        head = {"v": version, "seq": seq, "at": fields.pop("at"), "type": fields.pop("type")}
        body = {name: value for name, value in fields.items() if name not in ("v", "seq", "crc")}
        line = json.dumps(head | body, ensure_ascii=False, separators=(",", ":"))[:-1].encode()
        whole += line + b',"crc":"%08x"}\n' % zlib.crc32(line)
    file.write_bytes(whole)
    (recording.folder / SUMMARY).unlink(missing_ok=True)
    return Recording(recording.folder)


def unknown_fields(lines: list[Fields]) -> None:
    for fields in lines:
        fields |= {"mood": "blue", "weather": {"rain": [1, 2]}}


def unknown_events(lines: list[Fields]) -> None:
    dream = {"at": lines[0]["at"], "type": "dream_dreamt", "of": "sheep"}
    lines[3:3] = [dict(dream)]
    lines[9:9] = [dict(dream)]


def unknown_config(lines: list[Fields]) -> None:
    lines[0]["config"] = {"pipeline": {"name": "dada", "mood": 1}, "output": ["?"], "moods": None}


def no_config(lines: list[Fields]) -> None:
    del lines[0]["config"]


def bare_fields(lines: list[Fields]) -> None:
    """Only what every version wrote."""
    for name in ("config", "config_sha256", "software", "labels", "batch", "provenance", "writer"):
        lines[0].pop(name, None)
    for fields in lines[1:]:
        for name in ("seconds", "digest", "judge", "raw", "queue_s", "sent", "alt", "source"):
            fields.pop(name, None)


def unknown_stage(lines: list[Fields]) -> None:
    stage = {"at": lines[0]["at"], "type": "stage_started", "stage": "exhibition"}
    lines[-1:-1] = [stage, stage | {"type": "stage_finished", "outcome": "completed"}]


def unreadable_beginning(lines: list[Fields]) -> None:
    lines[0]["safety"] = "seniors"


def unreadable_ending(lines: list[Fields]) -> None:
    lines[-1]["outcome"] = "exhibited"


SAME = (unknown_fields, unknown_config, no_config, bare_fields)
SKIPPING = (unknown_events, unknown_stage, unreadable_beginning, unreadable_ending)
SKIPPED = {
    unknown_events: "line 4: skipped: dream_dreamt of schema version 2: ",
    unknown_stage: "stage_started of schema version 2: ",
    unreadable_beginning: "line 1: skipped: run_started of schema version 2: ",
    unreadable_ending: "run_finished of schema version 2: ",
}


@pytest.mark.parametrize("change", [*SAME, *SKIPPING])
@pytest.mark.parametrize("version", [0, 2])
def test_a_recording_of_another_version_is_read(
    change: Change, version: int, tmp_path: Path
) -> None:
    """Whole, its pictures too, and as HTML."""
    recording = respelled(completed(tmp_path), change, version=version)
    assert recording.damage == ""
    assert verify(recording) == []
    assert recording.finished
    assert recording.summary.stages["input"].texts == {"prompt": PROMPT}
    assert recording.read("03_image.png").startswith(b"\x89PNG")
    assert PROMPT in run_html(recording.summary, recording.folder)


def test_a_summary_may_say_more_or_less(tmp_path: Path) -> None:
    """A later version adds fields to run.json, an older one had fewer; another value is a fault."""
    recording = completed(tmp_path)
    file = recording.folder / SUMMARY
    of_today = recording.summary.to_json()
    stages = of_today["stages"]
    later = of_today | {"mood": "blue", "stages": stages | {"input": stages["input"] | {"tone": 1}}}
    older = {name: value for name, value in of_today.items() if name != "relation"}
    wrong = of_today | {"mood": "blue", "pipeline": "bauhaus"}
    for written, faults in ((later, 0), (older, 0), (wrong, 1)):
        file.write_text(json.dumps(written))
        file.chmod(0o600)
        assert len(verify(Recording(recording.folder))) == faults


@pytest.mark.parametrize("change", SKIPPING)
def test_what_a_later_version_wrote_is_named(change: Change, tmp_path: Path) -> None:
    """Its line, its type and its version."""
    recording = respelled(completed(tmp_path), change, version=2)
    assert SKIPPED[change] in recording.notes[0]


@pytest.mark.parametrize("change", [*SAME, *SKIPPING])
def test_it_stands_in_every_table(change: Change, tmp_path: Path) -> None:
    """Beside a run of today, on the first reading and from the index."""
    respelled(completed(tmp_path, run_id=at(1)), change, version=2)
    completed(tmp_path, run_id=at(2))
    for _ in range(2):
        tables = Tables(tmp_path)
        for table in TABLES:
            assert len(getattr(tables, table.name)()) > 0
        runs = tables.runs()
        assert runs["prompt"].tolist() == [PROMPT, PROMPT]
        assert "damaged" not in runs["state"].tolist()
        assert runs["note"].notna().tolist() == [change in SKIPPING, False]


def test_an_ending_of_a_later_version_is_one(tmp_path: Path) -> None:
    """The run is over, in a way that is not known here; it is not gone on with."""
    recording = respelled(completed(tmp_path), unreadable_ending, version=2)
    before = (recording.folder / EVENTS).read_bytes()
    assert (recording.finished, recording.state) == (True, "unknown")
    with pytest.raises(UsageError, match="has its ending already"):
        Recorder.resume(recording.folder, redact=Redactor())
    assert (recording.folder / EVENTS).read_bytes() == before
    assert "unbekannt" in run_html(recording.summary, recording.folder)
    assert "only a newer version" in RunPanel(recording, language="en").status.value


def test_what_only_a_later_version_understands_is_not_gone_on_with(tmp_path: Path) -> None:
    """A writer that does not know what was done would do it twice."""
    recording = respelled(interrupted(tmp_path), unknown_events, version=2)
    before = (recording.folder / EVENTS).read_bytes()
    with pytest.raises(UsageError, match=r"dream_dreamt of schema version 2.*version that made it"):
        Recorder.resume(recording.folder, redact=Redactor())
    assert (recording.folder / EVENTS).read_bytes() == before


@pytest.mark.parametrize("change", [*SAME, *SKIPPING])
def test_the_shell_lists_and_shows_it(change: Change, tmp_path: Path) -> None:
    """As text and as JSON; what was skipped is said beside it."""
    recording = respelled(completed(tmp_path), change, version=2)
    command = here(tmp_path)
    listed = command("list", "recordings", "--json")
    assert [row["run_id"] for row in listed.json] == [recording.id]
    assert command("list", "recordings").status == 0
    shown = command("show", recording.id)
    assert shown.status == 0
    assert PROMPT in shown.out
    assert ("skipped" in shown.err) == (change in SKIPPING)
    assert "devpipe resume" not in shown.err
    assert command("show", recording.id, "--json").json["run_id"] == recording.id
