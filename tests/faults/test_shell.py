"""Real processes stopped, killed and starved at random moments, many times over."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from shell import (
    DEVPIPE,
    PATIENCE_S,
    Done,
    environment,
    faults_after_kill,
    faults_after_stop,
    here,
    recordings,
    shell,
    started,
    strike,
)

from devpipe.analysis.verify import verify
from devpipe.record.events import AttemptStarted

pytestmark = pytest.mark.faults

RUN = (
    "run",
    "a cat in the rain",
    "-p",
    "stille_post",
    "-o",
    "sketch",
    "-o",
    "sketch_sound",
    "-o",
    "sketch_fusion",
)
TIMES = 40
LINES = 60  # that such a run prints


def at_random(folder: Path, number: int, seed: int, *command: str) -> Done:
    """The command, hit half the time by the clock, half the time shortly after one of its lines."""
    draw = random.Random(seed)
    process = started(folder, *command)
    if seed % 2:
        return strike(process, number, delay=draw.uniform(0, 3))
    return strike(process, number, lines=draw.randrange(1, LINES), delay=draw.uniform(0, 0.02))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_moment_leaves_endings_and_one_line(tmp_path: Path, number: int) -> None:
    """40 of each: status 130, or 0 where it was over; never a traceback of ours; every recording
    has its ending and verifies.
    """
    ended, found = [], {}
    for seed in range(TIMES):
        folder = tmp_path / str(seed)
        done = at_random(folder, number, seed, *RUN)
        ended.append(done.status)
        if wrong := faults_after_stop(done, folder, number):
            found[seed] = wrong
    assert found == {}
    assert ended.count(130) > TIMES // 4, ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_end_it_at_once(tmp_path: Path, number: int) -> None:
    """Whoever presses Ctrl-C twice does not wait; what was acknowledged stays whole."""
    for seed in range(10):
        process = started(tmp_path / str(seed), *RUN)
        assert process.stdout
        for _ in range(1 + 4 * seed):
            process.stdout.readline()
        process.send_signal(number)
        done = strike(process, number)
        assert done.status in (0, 130) and len(done.err.splitlines()) <= 1, done
        assert all(verify(recording) == [] for recording in recordings(tmp_path / str(seed)))


def test_kills_at_any_moment_lose_nothing_and_can_be_finished(tmp_path: Path) -> None:
    """40 times `kill -9`: what was acknowledged verifies, and `devpipe resume` finishes every
    interrupted run.
    """
    interrupted, found = 0, {}
    for seed in range(TIMES):
        folder = tmp_path / str(seed)
        at_random(folder, signal.SIGKILL, seed, *RUN)
        interrupted += sum(recording.state == "interrupted" for recording in recordings(folder))
        if wrong := faults_after_kill(folder, here(folder)):
            found[seed] = wrong
    assert found == {}
    assert interrupted > TIMES // 4


@pytest.fixture
def plan(tmp_path: Path) -> str:
    """24 runs from 4 interceptions."""
    values = {
        "name": "killed", "prompts": ["a cat", "ein Hund"], "pipelines": ["dada", "stille_post"], "outputs": ["sketch", "sketch_sound"],
        "seeds": [1, 2, 3],
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(json.dumps(values), "utf-8")
    return str(tmp_path / "plan.yaml")


def test_a_killed_batch_goes_on_where_it_was(tmp_path: Path, plan: str) -> None:
    """After each of ten kills only missing cells are made, interrupted runs in their own
    recordings; each text is rewritten once.
    """
    folder, finished = tmp_path / "recordings", set[str]()
    for seed in range(10):
        process = started(folder, "batch", plan, "--concurrency", "3", "--json")
        wanted = len(over(folder)) + random.Random(seed).randrange(3)
        while process.poll() is None and len(over(folder)) <= wanted:
            pass  # until so many cells have their ending
        strike(process, signal.SIGKILL)
        before, finished = finished, {run.id for run in recordings(folder) if run.finished}
        assert before <= finished
        assert here(folder)("verify", "--all").status == 0
    report = shell(folder, "batch", plan, "--json").json
    assert report["complete"] and report["counts"] == {"completed": 24}
    assert {row["run_id"] for row in report["rows"] if row["earlier"]} == finished
    runs = [run for run in recordings(folder) if run.events]
    assert {run.state for run in runs} == {"completed"} and len(runs) == 24
    texts = [
        one.event
        for run in runs
        for one in run.events
        if isinstance(one.event, AttemptStarted) and one.event.task == "interception"
    ]
    assert len(texts) <= (1 + 8) * 2 + 10 * 3, (
        "a rewriting is repeated only where its own run was killed"
    )
    assert {
        run.summary.started.parent
        for run in runs
        if run.summary.started and run.summary.started.parent
    } <= {run.id for run in runs}


def over(folder: Path) -> set[str]:
    """Quickly: those that have their summary."""
    return {path.parent.name for path in folder.glob("*/*/run.json")}


def test_a_stopped_batch_leaves_endings(tmp_path: Path, plan: str) -> None:
    """Ctrl-C at twelve random moments: one line, one report, every run with its ending; then the
    rest is done.
    """
    folder = tmp_path / "recordings"
    for seed in range(12):
        process = started(folder, "batch", plan, "--concurrency", "3", "--json")
        before = len(over(folder))
        while process.poll() is None and len(over(folder)) <= before:
            pass
        done = strike(process, signal.SIGINT, delay=random.Random(seed).uniform(0, 0.05))
        assert faults_after_stop(done, folder, signal.SIGINT) == []
        counts = done.json["counts"]
        assert sum(counts.values()) == 24 and (done.status == 0 or counts["completed"] < 24)
        if done.status == 0:
            break
    assert shell(folder, "batch", plan, "--json").json["counts"] == {"completed": 24}


@pytest.mark.parametrize("kilobytes", [0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 400])
def test_files_that_may_not_grow_are_one_line(tmp_path: Path, kilobytes: int) -> None:
    """Wherever the limit hits: status 1 and what to do; with space again the run is finished."""
    folder = tmp_path / "recordings"
    done = shell(
        folder,
        "run",
        "a cat in the rain",
        "-p",
        "stille_post",
        "--seed",
        "7",
        before=f"ulimit -f {2 * kilobytes}",
    )
    assert (done.status == 1 and "Free some space" in done.line) or (done.status, done.err) == (
        0,
        "",
    )
    assert faults_after_kill(folder, here(folder)) == []


def mounted(folder: Path, options: str, *arguments: str) -> Done:
    """A command with a file system of its own under `folder`, in a name space of its own; what it
    leaves is copied out.
    """
    unshare = shutil.which("unshare")
    able = (
        unshare
        and subprocess.run(
            [unshare, "-rm", "mount", "-t", "tmpfs", "none", folder],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    if not able:
        pytest.skip("this machine lets nobody mount")
    kept = folder.with_name("kept")
    script = (
        f'mount -t tmpfs -o {options} none "{folder}" && {{ "$@"; s=$?; cp -a "{folder}" "{kept}";'
        " exit $s; }"
    )
    command = [str(unshare), "-rm", "sh", "-c", script, "sh", *DEVPIPE, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(folder),
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_read_only_disk_is_one_line(tmp_path: Path) -> None:
    """The setting that mends it, and no picture."""
    (tmp_path / "recordings").mkdir()
    done = mounted(tmp_path / "recordings", "ro", "run", "a cat")
    assert done.status == 1 and "DEVPIPE_RECORDINGS" in done.line


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 256, 384])
def test_a_disk_that_is_really_full_is_one_line(tmp_path: Path, kilobytes: int) -> None:
    """A tmpfs of every size: status 1 and what to do; moved to a larger disk, the run is
    finished.
    """
    (tmp_path / "recordings").mkdir()
    done = mounted(
        tmp_path / "recordings",
        f"size={kilobytes}k",
        "run",
        "a cat in the rain",
        "-p",
        "stille_post",
        "--seed",
        "7",
    )
    assert (done.status == 1 and "space" in done.line) or (done.status, done.err) == (0, "")
    kept = tmp_path / "kept"
    assert faults_after_kill(kept, here(kept)) == []
