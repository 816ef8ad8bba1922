"""What a share cannot do is no failed disk: it is noted once, and the run goes on."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from engines import engine_in
from shell import SMALL, here

from devpipe.analysis.verify import remarks, verify
from devpipe.errors import RecorderError, RecorderPoisoned
from devpipe.record.events import RunFinished, Warned
from devpipe.record.reader import Recording, Recordings
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from tests import recording_maker as make

RUN_ID = make.at(1)
REDACT = Redactor()
REFUSED = ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EISDIR"]
SAID = "cannot make folders durable"


class Share:
    """A file system whose fsync fails for some files: `number` is what the system says."""

    def __init__(self, number: int, *, of: Callable[[int], bool]) -> None:
        self.refused = 0
        self._number = number
        self._of = of
        self._real = os.fsync

    def fsync(self, fd: int) -> None:
        if self._of(os.fstat(fd).st_mode):
            self.refused += 1
            raise OSError(self._number, os.strerror(self._number))
        self._real(fd)


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Share]:
    """Put such a file system below this process."""

    def mount(name: str, *, of: Callable[[int], bool] = stat.S_ISDIR) -> Share:
        made = Share(getattr(errno, name), of=of)
        monkeypatch.setattr(os, "fsync", made.fsync)
        return made

    return mount


def warnings_of(recording: Recording) -> list[str]:
    return [one.event.message for one in recording.events if isinstance(one.event, Warned)]


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_ends_well_where_no_folder_is_synced(
    tmp_path: Path, share: Callable[..., Share], name: str
) -> None:
    """Its recording says so, once, in `run.json`'s time, too; every byte of it is right."""
    mounted = share(name)
    engine = engine_in(tmp_path)
    run = engine.start("ein Haus", pipeline="dada", output="sketch", seed=1, parameters={"width": 64, "height": 64}).wait()  # fmt: skip
    engine.close()
    assert run.outcome == "completed"
    assert mounted.refused > 0
    assert [said for said in warnings_of(run.recording) if SAID in said] == [
        warnings_of(run.recording)[-1]
    ]
    assert isinstance(run.recording.events[-1].event, RunFinished)
    assert verify(run.recording) == []


def test_a_local_disk_is_not_noted(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    run = engine.start("ein Haus", parameters={"width": 64, "height": 64}).wait()
    engine.close()
    assert not [said for said in warnings_of(run.recording) if SAID in said]


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EBADF"])
def test_a_folder_that_fails_still_poisons(
    tmp_path: Path, share: Callable[..., Share], name: str
) -> None:
    """Only what a file system does not know is lived with."""
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    mounted = share(name)
    with pytest.raises(Exception, match=RUN_ID):
        recorder.write_files([("01_image.png", b"1")])
    with pytest.raises(RecorderPoisoned, match="not written further"):
        recorder.record(make.started(RUN_ID))
    assert mounted.refused == 1
    recorder.close()


@pytest.mark.parametrize("name", ["EIO", *REFUSED])
def test_a_file_that_fails_still_poisons(
    tmp_path: Path, share: Callable[..., Share], name: str
) -> None:
    """Whatever the system says: its bytes may be lost."""
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    mounted = share(name, of=stat.S_ISREG)
    with pytest.raises(RecorderPoisoned, match="may be lost"):
        recorder.write_files([("01_image.png", b"1")])
    with pytest.raises(RecorderPoisoned, match="not written further"):
        recorder.record(make.started(RUN_ID))
    assert mounted.refused == 1
    recorder.close()


def test_a_run_that_is_killed_has_said_it(tmp_path: Path, share: Callable[..., Share]) -> None:
    """As soon as it was met: a dead process writes no ending, and who resumes says it not again."""
    share("EINVAL")
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    recorder.record(make.started(RUN_ID))
    recorder.write_files([("01_image.png", b"1")])
    assert not warnings_of(Recording(recorder.folder))
    recorder.record(Warned(message="any event"))
    (said, _) = warnings_of(Recording(recorder.folder))
    assert SAID in said
    recorder.close()
    recorder = Recorder.resume(recorder.folder, redact=REDACT)
    recorder.record(RunFinished(outcome="failed"))
    recorder.close()
    assert warnings_of(Recording(recorder.folder)).count(said) == 1


def test_a_resumed_run_notes_it_once(tmp_path: Path, share: Callable[..., Share]) -> None:
    share("EINVAL")
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    recorder.record(make.started(RUN_ID))
    recorder.write_files([("01_image.png", b"1")])
    recorder.close()
    recorder = Recorder.resume(recorder.folder, redact=REDACT)
    recorder.record(RunFinished(outcome="failed"))
    recorder.close()
    assert len(warnings_of(Recording(recorder.folder))) == 1


@pytest.mark.parametrize("name", ["ENOTSUP", "EINVAL", "ENOTTY"])
def test_a_drive_that_cannot_be_told_to_empty_its_cache_is_lived_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """macOS on a share or a FAT stick: the files were synced, the drive cannot be asked for more."""
    asked = []

    def control(fd: int, command: int, *more: int) -> int:
        asked.append(command)
        raise OSError(getattr(errno, name), "not there")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    recorder.record(make.started(RUN_ID))
    recorder.write_files([("01_image.png", b"1")])
    recorder.record(RunFinished(outcome="failed"))
    recorder.close()
    assert set(asked) == {51}
    assert len(warnings_of(Recording(recorder.folder))) == 1


def test_a_drive_that_fails_to_empty_its_cache_poisons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def control(fd: int, command: int, *more: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    with pytest.raises(RecorderPoisoned, match="may be lost"):
        recorder.write_files([("01_image.png", b"1")])
    recorder.close()


def test_a_hint_that_a_file_system_does_not_know_is_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """posix_fadvise asks the system to begin: where it cannot, the fsync does it all."""
    asked = []

    def advise(fd: int, *more: int) -> None:
        asked.append(fd)
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    recorder.record(make.started(RUN_ID), RunFinished(outcome="failed"))
    recorder.close()
    assert asked
    assert verify(Recording(recorder.folder)) == []


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "ENOSYS"])
def test_where_nobody_can_lock_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A run copied to such a share is interrupted, not running for ever."""
    recorder = Recorder.create(tmp_path, RUN_ID, redact=REDACT)
    recorder.record(make.started(RUN_ID))
    assert Recording(recorder.folder).state == "running"
    recorder.close()

    def flock(fd: int, operation: int) -> None:
        raise OSError(getattr(errno, name), "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert Recording(recorder.folder).state == "interrupted"


@pytest.mark.loopback  # `check` asks for servers
def test_the_person_is_told_in_one_line(tmp_path: Path, share: Callable[..., Share]) -> None:
    """By `run` and by `show` of it, by `check` beforehand, and by `batch` once for all its runs."""
    share("EINVAL")
    devpipe = here(tmp_path / "recordings")
    done = devpipe("run", "ein Haus", "--seed", "1", *SMALL)
    assert (done.status, done.out.count(SAID), done.err) == (0, 1, "")
    (recording,) = Recordings(tmp_path / "recordings")
    assert devpipe("show", recording.id).out.count(SAID) == 1
    assert devpipe("check").out.count(SAID) == 1
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "name: small\nprompts: [ein Haus, ein Baum]\nparameters: {width: [64], height: [64]}\n"
    )
    done = devpipe("batch", str(plan))
    assert (done.status, done.out.count(SAID)) == (0, 0)
    assert SAID in done.line


@pytest.mark.loopback  # `check` asks for servers
def test_a_local_disk_is_not_spoken_of(tmp_path: Path) -> None:
    devpipe = here(tmp_path / "recordings")
    assert SAID not in devpipe("run", "ein Haus", "--seed", "1", *SMALL).out
    assert SAID not in devpipe("check").out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make.completed(tmp_path / "recordings", run_id=RUN_ID)
    return Recordings(tmp_path / "recordings").find(RUN_ID).folder


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_share_without_modes_damages_nothing(run: Path, mode: int) -> None:
    """Everything there has the modes that the share was mounted with: a note, in one line."""
    for path in (run, *run.iterdir()):
        path.chmod(mode)
    devpipe = here(run.parents[1])
    done = devpipe("verify", "--all")
    assert done.status == 0
    assert done.out.count("can be read by others") == 1
    assert verify(Recording(run)) == []


def test_a_copy_that_lost_its_modes_is_whole(run: Path) -> None:
    """As a sync client, or an archive, brings it to another machine."""
    for path in run.iterdir():
        path.chmod(0o644)
    run.chmod(0o755)
    assert verify(Recording(run)) == []
    assert [note for note in remarks(Recording(run)) if "can be read by others" in note]


def test_what_stands_out_is_a_fault(run: Path) -> None:
    """One file, or the folder alone, that others can read: somebody opened it."""
    (run / "events.jsonl").chmod(0o644)
    assert verify(Recording(run)) == ["events.jsonl: can be read by others"]
    (run / "events.jsonl").chmod(0o600)
    run.chmod(0o755)
    assert verify(Recording(run)) == ["the folder can be read by others"]
    assert remarks(Recording(run)) == []


@pytest.mark.parametrize(("module", "call"), [(fcntl, "flock"), (os, "fchmod"), (os, "chmod")])
@pytest.mark.parametrize("name", ["ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_what_a_run_cannot_do_without_is_said_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str, name: str
) -> None:
    """A lock, and rights of one's own: what is missing, and where to go."""

    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(getattr(errno, name), "Operation not supported")

    monkeypatch.setattr(module, call, refuse)
    with pytest.raises(RecorderError, match=r"lock files, or keep them private.*local disk"):
        Recorder.create(tmp_path, RUN_ID, redact=REDACT)
