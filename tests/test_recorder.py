"""The recorder: what it acknowledges is on disk, whatever comes; the long versions of these tests
are in tests/faults.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import socket
import stat
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from devpipe.analysis.verify import verify
from devpipe.errors import (
    RecorderError,
    RecorderFull,
    RecorderPoisoned,
    RecordingDamaged,
    RunLocked,
    UsageError,
)
from devpipe.record.events import (
    ArtifactWritten,
    Event,
    Progressed,
    RunFinished,
    RunResumed,
    RunStarted,
    TextWritten,
    VerdictGiven,
    Warned,
)
from devpipe.record.reader import Recording
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.record.summary import RunSummary
from devpipe.values import new_run_id
from tests.faults.harness import Nursery, violations
from tests.faults.test_crashes import killed_at_random

RUN_ID = "20261122-141503-k3v2x2ma"
REDACT = Redactor(["sk-0123456789"])
VERDICT = VerdictGiven(
    stage="input", allowed=False, sha256="0" * 64, level="kids", policy="1", method="rules"
)


def started(**more: object) -> RunStarted:
    fields = {
        "run_id": RUN_ID,
        "pipeline": "dada",
        "output": "sketch",
        "text_seed": 7,
        "safety": "kids",
    }
    return RunStarted.model_validate(fields | more)


def artifact(name: str, data: bytes) -> ArtifactWritten:
    return ArtifactWritten(
        path=name, media_type="image/png", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)
    )


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder.create(tmp_path / "recordings", RUN_ID, redact=REDACT)
    yield recorder
    recorder.close()


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    """This process with less of something."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def written(recorder: Recorder) -> list[Event]:
    return [one.event for one in Recording(recorder.folder).events]


def test_ids_sort_by_time_and_are_of_one_form() -> None:
    """UTC whatever the zone, and drawn anew each time."""
    early, late = (
        datetime(2026, 11, 22, 14, 15, 3, tzinfo=UTC),
        datetime(2026, 11, 22, 14, 15, 4, tzinfo=timezone(timedelta(hours=-9))),
    )
    assert new_run_id(early).startswith("20261122-141503-") and new_run_id(late).startswith(
        "20261122-231504-"
    )
    assert new_run_id(early) < new_run_id(late)
    assert all(re.fullmatch(r"\d{8}-\d{6}-[a-z2-7]{8}", new_run_id()) for _ in range(100))
    assert len({new_run_id(early) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o277])
def test_only_the_owner_can_read(tmp_path: Path, mask: int) -> None:
    """Folders 0700 and files 0600 whatever the umask."""
    before = os.umask(mask)
    try:
        recorder = Recorder.create(tmp_path / "recordings", RUN_ID, redact=REDACT)
        recorder.record(started())
        recorder.write_text("01_input.txt", "x")
        recorder.write_files([("02_image.png", b"x")])
        recorder.close(b"{}")
    finally:
        os.umask(before)
    assert recorder.folder == tmp_path / "recordings" / "2026-11-22" / RUN_ID
    for path in [recorder.folder.parent, recorder.folder, *recorder.folder.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_line_is_as_the_design_says(recorder: Recorder) -> None:
    """Version, number, time, type, fields, and a checksum of the bytes before it."""
    (one,) = recorder.record(started())
    line = (recorder.folder / "events.jsonl").read_bytes()
    said = json.loads(line)
    assert list(said)[:4] == ["v", "seq", "at", "type"] and list(said)[-1] == "crc"
    assert (said["v"], said["seq"], said["at"], said["run_id"]) == (1, 0, one.at, RUN_ID)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", one.at)
    body = line[: line.rindex(b',"crc"')]
    assert line == body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def test_live_and_stored_are_the_same(recorder: Recorder) -> None:
    """What `record` gives back is what a reader finds, also where secrets were removed."""
    live = [
        *recorder.record(
            started(texts={"prompt": "my key is sk-0123456789"}, labels={"class": "7b"})
        ),
        *recorder.record(VERDICT, Warned(message="https://host/a?signature=abc")),
    ]
    assert list(Recording(recorder.folder).events) == live
    assert [one.seq for one in live] == [0, 1, 2]


class Counted(Recorder):
    """Counts its writes and fsyncs."""

    writes = syncs = 0

    def _append(self, data: bytes) -> None:
        self.writes += 1
        super()._append(data)

    def _sync(self, *fds: int) -> None:
        self.syncs += 1
        super()._sync(*fds)


def test_events_that_belong_together_cost_one_write_and_one_fsync(tmp_path: Path) -> None:
    """None is synced where none is durable."""
    recorder = Counted.create(tmp_path, RUN_ID, redact=REDACT)
    assert isinstance(recorder, Counted)
    recorder.record(started(), Warned(message="a"))
    assert (recorder.writes, recorder.syncs) == (1, 0)
    recorder.record(Warned(message="b"), VERDICT, VERDICT)
    assert (recorder.writes, recorder.syncs) == (2, 1)
    recorder.close()


def test_a_pool_changes_no_promise(tmp_path: Path) -> None:
    """With threads for its fsyncs a run is the same; one that fails in a thread poisons the
    recorder as ever.
    """
    with ThreadPoolExecutor(3) as pool:
        recorder = Recorder.create(tmp_path / "a", RUN_ID, redact=REDACT, pool=pool)
        recorder.record(started(), VERDICT)
        recorder.write_files([("01_image.png", b"1"), ("02_image.png", b"2")])
        recorder.record(
            artifact("01_image.png", b"1"),
            artifact("02_image.png", b"2"),
            RunFinished(outcome="completed"),
        )
        recorder.close()
    assert verify(Recording(recorder.folder)) == []

    class Failing(ThreadPoolExecutor):
        def map(
            self, fn: Callable[..., Any], *iterables: Iterable[Any], **more: Any
        ) -> Iterator[Any]:
            return super().map(fn, [*list(*iterables)[:-1], 10**6])  # the last is no descriptor

    with Failing(3) as pool:
        recorder = Recorder.create(tmp_path / "b", RUN_ID, redact=REDACT, pool=pool)
        with pytest.raises(RecorderPoisoned, match="Bad file descriptor"):
            recorder.record(started(), VERDICT)
        with pytest.raises(RecorderPoisoned, match="not written further"):
            recorder.record(VERDICT)
        recorder.close()


def test_transient_events_are_refused(recorder: Recorder) -> None:
    """They are shown, never stored; what came with them is not stored either."""
    with pytest.raises(TypeError, match="Progressed"):
        recorder.record(started(), Progressed(stage="generation", step=1, steps=2))
    assert written(recorder) == []
    recorder.record(started())


def test_an_event_that_is_too_large_is_refused_and_the_run_goes_on(recorder: Recorder) -> None:
    """A megabyte fits; more does not, and says so before anything is written."""
    recorder.record(started())
    with pytest.raises(RecorderError, match=r"TextWritten takes \d+ bytes"):
        recorder.record(TextWritten(stage="input", text="x" * 1_000_000))
    recorder.record(TextWritten(stage="input", text="x" * 999_000))
    assert len(written(recorder)) == 2


def test_no_text_can_break_a_line(recorder: Recorder) -> None:
    """Newlines of all kinds, NUL, controls and emoji come back as they were; half a surrogate pair
    becomes U+FFFD.
    """
    text = '\n\r\u2028\u2029\x85\x00\x01\x1f\x7f\x1b[31m \u202eabc 🐈 \ufeff}"\\,'
    recorder.record(
        started(config={"raw": "half \ud83d", "\udc00": ["\ud83d\ude00"]}, texts={"prompt": text})
    )
    event = written(recorder)[0]
    assert isinstance(event, RunStarted)
    assert event.texts == {"prompt": text}
    assert event.config == {"raw": "half \ufffd", "\ufffd": ["😀"]}
    assert (
        recorder.write_text("01_input.txt", "a\ud83db\x00")
        == hashlib.sha256("a\ufffdb\x00".encode()).hexdigest()
    )
    with pytest.raises(RecorderError, match="cannot be written as JSON"):
        recorder.record(started(config={"what": object()}))
    assert len(written(recorder)) == 1


def test_secrets_stop_at_the_door(recorder: Recorder) -> None:
    """In events, keys and text files; pictures are bytes and stay as they are."""
    secret = "sk-0123456789"
    sha256 = recorder.write_text("01_input.txt", f"a {secret} b")
    recorder.write_files([("02_image.png", secret.encode())])
    text = TextWritten(
        stage="input", text=f"a {secret} b", path="01_input.txt", sha256="of the text before"
    )
    _, one = recorder.record(
        started(config={secret: {"headers": {"Authorization": "anything"}}}), text
    )
    assert isinstance(one.event, TextWritten) and one.event.sha256 == sha256
    recorder.record(artifact("02_image.png", secret.encode()), RunFinished(outcome="completed"))
    recorder.close(b'{"a": "' + secret.encode() + b'"}')
    for name in ("events.jsonl", "01_input.txt", "run.json"):
        assert secret.encode() not in (recorder.folder / name).read_bytes()
    assert b"anything" not in (recorder.folder / "events.jsonl").read_bytes()
    (recorder.folder / "run.json").unlink()
    assert verify(Recording(recorder.folder)) == []


def test_a_secret_that_is_a_word_of_ours_is_an_error_of_ours(tmp_path: Path) -> None:
    """Removing it would make the line unreadable; the person is told to change it."""
    recorder = Recorder.create(tmp_path, RUN_ID, redact=Redactor(["completed"]))
    recorder.record(started())
    with pytest.raises(RecorderError, match="Change that secret"):
        recorder.record(RunFinished(outcome="completed"))
    recorder.close()


def test_a_full_disk_stops_the_run_and_loses_nothing(recorder: Recorder) -> None:
    """A short write is cut off again, the error says what to do, nothing is acknowledged after it,
    and the run can be resumed.
    """
    recorder.record(started(), VERDICT)
    size = (recorder.folder / "events.jsonl").stat().st_size
    with (
        limited(resource.RLIMIT_FSIZE, size + 50),
        pytest.raises(RecorderFull, match="devpipe resume"),
    ):
        recorder.record(Warned(message="x" * 500))
    assert (recorder.folder / "events.jsonl").stat().st_size == size
    with pytest.raises(RecorderPoisoned, match="devpipe resume"):
        recorder.record(VERDICT)
    with pytest.raises(RecorderPoisoned, match="devpipe resume"):
        recorder.write_files([("a.png", b"")])
    with pytest.raises(RecorderPoisoned, match="devpipe resume"):
        recorder.write_text("a.txt", "")
    recorder.close(b"{}")
    assert not (recorder.folder / "run.json").exists()
    resumed = Recorder.resume(recorder.folder, redact=REDACT)
    resumed.record(RunFinished(outcome="failed"))
    resumed.close()
    assert verify(Recording(recorder.folder)) == []


def test_an_error_before_the_first_event_names_the_folder_and_the_setting(tmp_path: Path) -> None:
    """A file where the folder should be; no descriptors left."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RecorderError, match=r"file.*DEVPIPE_RECORDINGS"):
        Recorder.create(tmp_path / "file", RUN_ID, redact=REDACT)
    with limited(resource.RLIMIT_NOFILE, 3), pytest.raises(RecorderError, match="ulimit -n"):
        Recorder.create(tmp_path / "recordings", RUN_ID, redact=REDACT)
    with pytest.raises(UsageError, match="no run id"):
        Recorder.create(tmp_path, "../evil", redact=REDACT)


def test_a_second_writer_is_told_by_whom(recorder: Recorder) -> None:
    """Pid, host and since, also of one that has written nothing yet; the first goes on undisturbed;
    a closed one is no writer.
    """
    with pytest.raises(RunLocked, match="by another process"):
        Recorder.resume(recorder.folder, redact=REDACT)
    recorder.record(started())
    with pytest.raises(RunLocked, match=rf"process {os.getpid()} on .+ since \d{{4}}-"):
        Recorder.resume(recorder.folder, redact=REDACT)
    with pytest.raises(RecorderError, match="already"):
        Recorder.create(recorder.folder.parent.parent, RUN_ID, redact=REDACT)
    recorder.record(VERDICT)
    recorder.close()
    Recorder.resume(recorder.folder, redact=REDACT).close()
    assert [type(event) for event in written(recorder)] == [RunStarted, VerdictGiven, RunResumed]


def test_one_id_has_one_owner(tmp_path: Path) -> None:
    """Of 20 threads that create the same run one succeeds."""
    made: list[object] = []

    def create() -> None:
        try:
            made.append(Recorder.create(tmp_path, RUN_ID, redact=REDACT))
        except RecorderError as error:
            made.append(error)

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owners = [one for one in made if isinstance(one, Recorder)]
    assert len(made) == 20 and len(owners) == 1
    owners[0].close()


def test_threads_do_not_mix_lines(recorder: Recorder) -> None:
    """Events of several threads stand one after another, each batch together."""
    recorder.record(started())

    def write(n: int) -> None:
        for i in range(20):
            recorder.record(Warned(message=f"{n} {i} a"), Warned(message=f"{n} {i} b"))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [event.message for event in written(recorder) if isinstance(event, Warned)]
    assert len(messages) == 320
    assert all(a[:-1] == b[:-1] for a, b in zip(messages[::2], messages[1::2], strict=True))


def test_files_are_new_and_named_by_us(recorder: Recorder) -> None:
    """No name leaves the folder, hides, replaces a file or is one of the recorder's own."""
    for name in (
        "../x",
        "a/b",
        ".hidden",
        "",
        "events.jsonl",
        "run.json",
        ".lock",
        "a\0b",
        "x" * 101,
        "ä.png",
        "-rf",
    ):
        with pytest.raises(RecorderError, match="no name"):
            recorder.write_files([("fine.png", b""), (name, b"")])
        with pytest.raises(RecorderError, match="no name"):
            recorder.write_text(name, "")
    assert not (recorder.folder / "fine.png").exists()
    recorder.write_files([("01_image.png", b"first")])
    with pytest.raises(RecorderError, match="exists"):
        recorder.write_files([("01_image.png", b"second")])
    assert (recorder.folder / "01_image.png").read_bytes() == b"first"


def test_an_end_is_an_end(recorder: Recorder) -> None:
    """After run_finished nothing is recorded, after close neither; close may be called twice, and
    resume is refused.
    """
    recorder.record(started(), RunFinished(outcome="completed"))
    with pytest.raises(RecorderError, match="closed"):
        recorder.record(VERDICT)
    recorder.close(json.dumps(RunSummary.of(Recording(recorder.folder).events).to_json()).encode())
    recorder.close(b"not this")
    with pytest.raises(RecorderError, match="closed"):
        recorder.write_text("a.txt", "")
    with pytest.raises(UsageError, match="devpipe regenerate"):
        Recorder.resume(recorder.folder, redact=REDACT)
    assert verify(Recording(recorder.folder)) == []


WRITER = f"process {os.getpid()} on {socket.gethostname()}"


def interrupted(recorder: Recorder, torn: bytes = b'{"v":1,"seq":3,"at":"2026') -> None:
    """What a killed process leaves: a torn line, a file without its event, a text whose bytes were
    lost.
    """
    sha256 = recorder.write_text("01_input.txt", "hello")
    recorder.write_files([("02_image.png", b"picture")])
    recorder.record(
        started(),
        TextWritten(stage="input", text="hello", path="01_input.txt", sha256=sha256),
        artifact("02_image.png", b"picture"),
    )
    recorder.write_files([("03_image.png", b"nobody knows me")])
    recorder.close()
    with open(recorder.folder / "events.jsonl", "ab") as file:
        file.write(torn)
    (recorder.folder / "01_input.txt").write_bytes(b"")


def test_resume_heals_what_a_dead_writer_left(recorder: Recorder) -> None:
    """The torn tail goes and is counted, unacknowledged files go, texts come back from their
    events, numbers go on.
    """
    interrupted(recorder)
    assert Recording(recorder.folder).damage == "line 4: not a whole line"
    resumed = Recorder.resume(recorder.folder, redact=REDACT)
    assert written(resumed)[-1] == RunResumed(cut_bytes=25, writer=WRITER)
    assert not (recorder.folder / "03_image.png").exists()
    assert (recorder.folder / "01_input.txt").read_text() == "hello"
    (one,) = resumed.record(RunFinished(outcome="completed"))
    assert one.seq == 4
    resumed.close()
    assert verify(Recording(recorder.folder)) == []


@pytest.mark.parametrize(
    "torn", [b"", b"\0" * 4096, b"\n", b"{}\n", b"\xff\xfe\n\n\0", b'{"v":1,"seq":3']
)
def test_any_tail_is_cut(recorder: Recorder, torn: bytes) -> None:
    """Zeros, empty lines, foreign bytes: what was acknowledged before them is kept."""
    interrupted(recorder, torn)
    Recorder.resume(recorder.folder, redact=REDACT).close()
    assert written(recorder)[3:] == [RunResumed(cut_bytes=len(torn), writer=WRITER)]


def test_resume_refuses_more_than_a_torn_tail(recorder: Recorder) -> None:
    """Damage before events that were durable is not a tear: nothing is cut, nothing removed."""
    interrupted(recorder, b"")
    Recorder.resume(recorder.folder, redact=REDACT).close()
    events = recorder.folder / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(b"hello", b"hallo"))
    before = {path.name: path.read_bytes() for path in recorder.folder.iterdir()}
    with pytest.raises(RecordingDamaged, match="line 2: checksum"):
        Recorder.resume(recorder.folder, redact=REDACT)
    assert {path.name: path.read_bytes() for path in recorder.folder.iterdir()} == before


def test_resume_refuses_damage_before_an_ending(recorder: Recorder) -> None:
    """A run that has its ending, wherever it is damaged, is never cut, even if nothing else in it
    was durable.
    """
    recorder.record(started())
    recorder.record(Warned(message="hello"))
    recorder.record(Warned(message="b"), RunFinished(outcome="completed"))
    recorder.close()
    events = recorder.folder / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(b"hello", b"hallo"))
    before = events.read_bytes()
    with pytest.raises(RecordingDamaged, match="line 2: checksum"):
        Recorder.resume(recorder.folder, redact=REDACT)
    assert events.read_bytes() == before
    assert verify(Recording(recorder.folder)) == ["events.jsonl: line 2: checksum"]


def test_resume_refuses_a_run_whose_picture_was_changed(recorder: Recorder) -> None:
    """Nothing is built on a file that is not what its event says."""
    interrupted(recorder)
    (recorder.folder / "02_image.png").write_bytes(b"other")
    with pytest.raises(RecordingDamaged, match=r"02_image\.png"):
        Recorder.resume(recorder.folder, redact=REDACT)


def test_resume_refuses_what_is_no_recording(tmp_path: Path) -> None:
    """A missing folder, an empty one, a file of events without a beginning."""
    folder = tmp_path / RUN_ID
    with pytest.raises(RecorderError):
        Recorder.resume(folder, redact=REDACT)
    folder.mkdir()
    with pytest.raises(RecorderError):
        Recorder.resume(folder, redact=REDACT)
    (folder / "events.jsonl").write_bytes(b"")
    with pytest.raises(RecordingDamaged, match="run_started"):
        Recorder.resume(folder, redact=REDACT)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def test_a_forked_copy_does_not_write(nursery: Nursery, tmp_path: Path) -> None:
    """It is refused, and its closing leaves the lock to the one that may."""
    with nursery.job(tmp_path, "fork") as job:
        pass
    assert job.notes.ended, job.notes
    assert verify(Recording(job.run)) == []


def test_ten_kills_lose_nothing(nursery: Nursery, tmp_path: Path) -> None:
    """The short form of the 200 in tests/faults."""
    for seed in range(10):
        job = killed_at_random(nursery, tmp_path / str(seed), 1000 + seed)
        assert job.notes.events and not violations(job.run, job.notes)
