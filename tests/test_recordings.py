"""Recordings are readable as far as they are whole, never further, and say what is wrong
with them.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from devpipe.analysis.verify import verify
from devpipe.errors import RecorderError, RecordingDamaged, UnknownName, UsageError
from devpipe.record.events import Recorded, StoredEvent, Warned
from devpipe.record.reader import (
    Prefix,
    Recording,
    Recordings,
    UnknownEvent,
    parse_line,
    read_prefix,
    run_folder,
)
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.values import new_run_id
from tests.faults.writer import RUN_ID, Witness, started, whole_run

GOLDEN = Path(__file__).parent / "recordings"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of recordings with one finished run in it."""
    root = tmp_path / "recordings"
    with open(os.devnull, "w") as notes:
        whole_run(Witness(Recorder.create(root, RUN_ID, redact=Redactor()), notes.fileno()))
    return root


@pytest.fixture
def run(root: Path) -> Path:
    return run_folder(root, RUN_ID)


def line(
    seq: int, fields: str, *, at: str = "2026-11-22T14:15:03.000000Z", version: int = 1
) -> bytes:
    body = f'{{"v":{version},"seq":{seq},"at":"{at}",{fields}'.encode()
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def test_a_whole_recording_verifies(run: Path) -> None:
    """State, events, files and summary agree."""
    recording = Recording(run)
    assert (
        recording.id,
        recording.state,
        recording.finished,
        recording.damage,
        recording.notes,
    ) == (RUN_ID, "completed", True, "", ())
    assert [one.seq for one in recording.events] == list(range(len(recording.events)))
    assert recording.summary.outcome == "completed"
    assert verify(recording) == []
    assert recording.read("02_input.txt") == b"Eine Katze im Regen"
    assert recording.path("04_image.png").read_bytes() == recording.read("04_image.png")
    assert repr(recording) == f"<Recording {RUN_ID} completed, 13 events>"


HARM: dict[str, Callable[[Path], object]] = {
    "04_image.png of run 20261122-141503-k3v2x2ma is not what was recorded": lambda run: (run / "04_image.png").write_bytes(b"other"),
    "04_image.png cannot be read": lambda run: (run / "04_image.png").unlink(),
    "02_input.txt of run 20261122-141503-k3v2x2ma is not what was recorded": lambda run: (run / "02_input.txt").write_bytes(b"other"),
    "04_image.png: can be read by others": lambda run: (run / "04_image.png").chmod(0o644),
    "the folder can be read": lambda run: run.chmod(0o755),
    "run.json: is not what": lambda run: (run / "run.json").write_text((run / "run.json").read_text().replace("dada", "dodo")),
    "events.jsonl: line 3: checksum": lambda run: (run / "events.jsonl").write_bytes(
        (run / "events.jsonl").read_bytes().replace(b'"stage_started"', b'"stage_starteb"')
    ),
    "run.json: is not what the events say": lambda run: (run / "events.jsonl").write_bytes(
        b"".join((run / "events.jsonl").read_bytes().splitlines(keepends=True)[:-1])
    ),
    "events.jsonl: is of run": lambda run: (run / "events.jsonl").write_bytes(
        (run / "events.jsonl").read_bytes().replace((run / "events.jsonl").read_bytes().splitlines()[0], _other_run())
    ),
    "events.jsonl: goes on after": lambda run: (run / "events.jsonl").write_bytes(
        (run / "events.jsonl").read_bytes() + line(13, '"type":"warned","message":"late"')
    ),
    "is no plain file": lambda run: ((run / "04_image.png").unlink(), os.mkfifo(run / "04_image.png", 0o600)),
    "cannot be read: Too many levels of symbolic links": lambda run: (
        (run / "04_image.png").rename(run.parent / "away"), (run / "04_image.png").symlink_to(run.parent / "away"),
    ),
    "events.jsonl cannot be read": lambda run: (run / "events.jsonl").unlink(),
}  # fmt: skip


def _other_run() -> bytes:
    body = '"type":"run_started","run_id":"20261122-141503-aaaaaaaa","pipeline":"dada","output":"sketch","text_seed":7,"safety":"kids"'
    return line(0, body)[:-1]


@pytest.mark.parametrize("problem", HARM)
def test_verify_names_what_is_wrong(run: Path, problem: str) -> None:
    """Each harm is found and named, and none raises."""
    HARM[problem](run)
    assert [found for found in verify(Recording(run)) if problem in found]


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../b", "..", "", ".lock", "04_image.png/x", "a\0b"]
)
def test_no_name_leads_out_of_the_folder(run: Path, name: str) -> None:
    """Neither for a path nor for bytes; and a name that no event says is offered the nearest."""
    (run.parent / "secret").write_text("not yours")
    with pytest.raises(RecordingDamaged):
        Recording(run).path(name)
    with pytest.raises(UnknownName):
        Recording(run).read(name)
    with pytest.raises(UnknownName, match=r"04_image\.png"):
        Recording(run).read("04_image.jpg")


def test_a_forged_event_leads_nowhere(tmp_path: Path) -> None:
    """A recording from elsewhere may name any path: it is not followed."""
    run = tmp_path / RUN_ID
    run.mkdir(mode=0o700)
    (tmp_path / "secret").write_bytes(b"secret")
    sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of those bytes
    event = f'"type":"artifact_written","path":"../secret","media_type":"image/png","sha256":"{sha256}","bytes":6'
    (run / "events.jsonl").write_bytes(line(0, event))
    with pytest.raises(RecordingDamaged, match="no file of a recording"):
        Recording(run).read("../secret")
    assert any("../secret" in problem for problem in verify(Recording(run)))


def test_a_live_run_is_running_and_a_dead_one_interrupted(tmp_path: Path) -> None:
    """The kernel's lock decides, not a file's age; the empty folder of a run that is being made is
    no error.
    """
    recorder = Recorder.create(tmp_path, RUN_ID, redact=Redactor())
    assert (Recording(recorder.folder).state, Recording(recorder.folder).events) == ("running", ())
    recorder.record(started())
    assert Recording(recorder.folder).state == "running"
    recorder.close()
    assert Recording(recorder.folder).state == "interrupted"
    assert verify(Recording(recorder.folder)) == []
    (recorder.folder / "events.jsonl").unlink()
    gone = Recording(recorder.folder)
    assert gone.events == () and gone.state == "interrupted" and "cannot be read" in gone.damage


def test_what_a_later_version_wrote_is_skipped_with_a_note() -> None:
    """Unknown types are skipped, unknown fields ignored; the rest is read as ever."""
    data = line(0, '"type":"warned","message":"a","mood":"blue"', version=2) + line(
        1, '"type":"dreamt","of":"sheep"', version=2
    )
    data += line(2, '"type":"warned","message":"b"')
    prefix = read_prefix(data)
    assert prefix.damage == "" and prefix.size == len(data)
    assert [type(one.event) for one in prefix.lines] == [Warned, UnknownEvent, Warned]
    unknown = prefix.lines[1].event
    assert isinstance(unknown, UnknownEvent) and unknown.why.startswith(
        "dreamt of schema version 2: "
    )
    notes = Recording(Path("/nowhere"), prefix=prefix).notes
    assert notes == (f"line 2: skipped: {unknown.why}",)
    assert len(Recording(Path("/nowhere"), prefix=prefix).events) == 2


def test_order_is_by_number_whatever_the_clock_said() -> None:
    """A clock that goes back an hour changes nothing."""
    chance = random.Random(1)
    hours = [chance.randrange(24) for _ in range(500)]
    data = b"".join(
        line(n, f'"type":"warned","message":"{n}"', at=f"2026-10-25T{hour:02}:00:00.000000Z")
        for n, hour in enumerate(hours)
    )
    assert [one.seq for one in read_prefix(data).lines] == list(range(500))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"", "not a whole line"),
        (b"{}", "not a whole line"),
        (b"\x00" * 100, "not a whole line"),
        (b'{"v":1,"seq":-1,"at":"","type":"warned","crc":"00000000"}', "not a whole line"),
        (b"x" * 1_000_001, "longer"),
        (line(0, '"type":"warned","message":"a"')[:-1].replace(b"warned", b"wanded"), "checksum"),
    ],
)
def test_a_line_that_is_not_one_is_damage(bad: bytes, why: str) -> None:
    """With the reason; nothing else is ever raised."""
    with pytest.raises(RecordingDamaged, match=why):
        parse_line(bad)


def test_deep_and_huge_values_do_not_harm_the_reader() -> None:
    """A line may be valid in its checksum and hostile in its JSON."""
    for value in ("[" * 50_000 + "]" * 50_000, "9" * 10_000, "NaN", '"\\ud800"', "1e999"):
        recorded = parse_line(line(0, f'"type":"run_started","config":{{"a":{value}}}')[:-1])
        assert recorded.seq == 0


Mutation = Callable[[bytes, random.Random], bytes]


def flipped(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def swapped(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    a, b = chance.sample(range(len(lines)), 2)
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def doubled(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def dropped(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.pop(chance.randrange(len(lines)))
    return b"".join(lines)


def overwritten(data: bytes, chance: random.Random) -> bytes:
    at, size = chance.randrange(len(data)), chance.randrange(1, 200)
    return data[:at] + chance.choice([bytes(size), chance.randbytes(size)]) + data[at + size :]


def grown(data: bytes, chance: random.Random) -> bytes:
    return data + chance.choice([bytes(4096), b"\n", b"{}\n", chance.randbytes(50), data[:100]])


MUTATIONS: list[Mutation] = [flipped, cut, swapped, doubled, dropped, overwritten, grown]


def missed(data: bytes, read: Callable[[bytes], Prefix]) -> list[str]:
    """Of 1,000 changed files those whose change was not seen, or whose whole part was not kept."""
    lines = read(data).lines
    wrong = []
    for number in range(1000):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        changed = mutation(data, random.Random(number))
        if changed == data:
            continue
        prefix = read(changed)
        if not prefix.damage and len(prefix.lines) >= len(lines):
            wrong.append(f"{number} {mutation.__name__}: not seen")
        if prefix.lines != lines[: len(prefix.lines)] or len(prefix.lines) < _untouched(
            data, changed
        ):
            wrong.append(f"{number} {mutation.__name__}: not the valid prefix")
    return wrong


def _untouched(data: bytes, changed: bytes) -> int:
    """How many lines stand before the first byte that differs."""
    same = next(
        (at for at, (a, b) in enumerate(zip(data, changed, strict=False)) if a != b),
        min(len(data), len(changed)),
    )
    return data[:same].count(b"\n")


def test_1000_changed_files_are_all_seen(run: Path) -> None:
    """R10: no exception, every real change found, what stands before it kept.

    (A file cut between two lines has lost its ending.)
    """
    assert missed((run / "events.jsonl").read_bytes(), read_prefix) == []


def without_checksum(data: bytes) -> Prefix:
    """A reader that takes every line's word for it."""
    believed = re.sub(
        rb'(?m)^(.*),"crc":"[^"\n]{8}"\}$',
        lambda m: m[1] + b',"crc":"%08x"}' % zlib.crc32(m[1]),
        data,
    )
    return read_prefix(believed)


def test_a_reader_without_checksum_is_caught(run: Path) -> None:
    """R5: the same 1,000 files show that the checksum is needed."""
    assert len(missed((run / "events.jsonl").read_bytes(), without_checksum)) > 100


def test_a_run_is_found_by_a_part_of_its_id(root: Path) -> None:
    """By prefix or suffix where only one has it; a wrong name is offered the nearest, a common one
    asks for more.
    """
    Recorder.create(root, "20261123-090000-k3v2x2ma", redact=Redactor()).close()
    recordings = Recordings(root)
    assert recordings.ids() == ["20261123-090000-k3v2x2ma", RUN_ID]
    assert [recording.id for recording in recordings] == recordings.ids()
    assert recordings.find(RUN_ID).id == recordings.find("20261122").id == RUN_ID
    with pytest.raises(UsageError, match="2 runs"):
        recordings.find("k3v2x2ma")
    with pytest.raises(UnknownName, match=RUN_ID):
        recordings.find("20261122-141503-k3v2x2mb")
    for name in ("", "..", "../..", "nothing"):
        with pytest.raises(UsageError):
            recordings.find(name)


def test_foreign_folders_and_links_are_no_recordings(root: Path, tmp_path: Path) -> None:
    """Links out of the folder are not followed, other names not listed, a missing folder is
    empty.
    """
    outside = tmp_path / "outside"
    shutil.copytree(root / "2026-11-22", outside)
    (root / "2026-11-24").symlink_to(outside)
    (root / "2026-11-22" / "20261122-141503-aaaaaaaa").symlink_to(outside / RUN_ID)
    (root / "2026-11-22" / "notes").mkdir()
    (root / "README.md").write_text("")
    assert Recordings(root).ids() == [RUN_ID]
    with pytest.raises(UsageError):
        Recordings(root).find("20261122-141503-aaaaaaaa")
    assert Recordings(tmp_path / "missing").ids() == []


def test_10000_events_open_within_a_second(tmp_path: Path) -> None:
    """A long run stays readable (R16); generous here, since machines of tests are busy."""
    recorder = Recorder.create(tmp_path, new_run_id(), redact=Redactor())
    for _ in range(10):
        recorder.record(*[Warned(message="x" * 100)] * 1000)
    recorder.close()
    began = os.times()
    assert len(Recording(recorder.folder).events) == 10_000
    assert os.times().user - began.user < 1


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
def test_recordings_of_all_versions_are_read_for_ever(tmp_path: Path, version: str) -> None:
    """They load, verify and say what they always said.

    Never edit them; add one for a new version.
    """
    shutil.copytree(GOLDEN / version, tmp_path / version)
    recordings = Recordings(tmp_path / version)
    for recording in recordings:
        recording.folder.chmod(0o700)  # git keeps no modes
        for path in recording.folder.iterdir():
            path.chmod(0o600)
        assert (verify(recording), recording.notes) == ([], ())
        stored = [
            json.loads(line)
            for line in (recording.folder / "events.jsonl").read_text().splitlines()
        ]
        for one, said in zip(recording.events, stored, strict=True):
            now = json.loads(one.event.model_dump_json())
            assert {name: now[name] for name in said if name in now} == {
                name: said[name] for name in said if name in now
            }
            assert set(said) <= {*now, "v", "seq", "at", "crc"}
        assert recording.summary.outcome == "completed"
    assert recordings.ids()


def test_the_first_golden_recording_has_every_event() -> None:
    """So that a change to any of them is seen."""
    events = [one.event for recording in Recordings(GOLDEN / "v1") for one in recording.events]
    assert {type(event) for event in events} == set(StoredEvent.__args__)
    assert all(
        isinstance(one, Recorded)
        for recording in Recordings(GOLDEN / "v1")
        for one in recording.events
    )
    assert issubclass(RecordingDamaged, RecorderError)
