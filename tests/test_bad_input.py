"""What a person gets wrong, and what a machine does at the wrong moment: one clear line that says
what to do, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from engines import engine_in, small_media
from shell import (
    DEVPIPE,
    PATIENCE_S,
    SMALL,
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

from devpipe import Run
from devpipe.analysis.verify import verify
from devpipe.testing import ScriptedBackend

Command = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


@pytest.fixture
def devpipe(folder: Path) -> Command:
    return here(folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "at least one word"),
        ([" \n\t"], "at least one word"),
        (["\x00\x07\x1b"], "at least one word"),
        (["x" * 50_000], "at most 10000"),
        (["half \udc80"], "UTF-8"),
        (["-x"], "after --"),
        (["a cat", "another"], "in quotes"),
        (["a cat", "--set", "width=64", "--set", "width=96"], "width stands there twice"),
        (["a cat", "-p", "bauhuas"], "bauhaus"),
        (["a cat", "-p", "single_text_media_generation"], "is a media pipeline"),
        (["a cat", "-o", "sketsh"], "sketch"),
        (["a cat", "-o", ""], "There are: "),
        (["a cat", "--set", "widht=64"], "width"),
        (["a cat", "--set", "width"], "NAME=VALUE"),
        (["a cat", "--set", "=64"], "NAME=VALUE"),
        (["a cat", "--set", "width=1e9"], "must be an integer"),
        (["a cat", "--set", "width=99999999"], "64..2048"),
        (["a cat", "--set", "seed=3"], "--seed"),
        (["a cat", "--seed", "seven"], "whole number"),
        (["a cat", "--seed", "0"], "whole number"),
        (["a cat", "--seed", "1.5"], "whole number"),
        (["a cat", "--seed", str(2**31)], "whole number"),
        (["a cat", "--text-seed", "-1"], "whole number"),
        (["a cat", "--safety", "research"], "devpipe.toml"),
        (["a cat", "--safety", "yuoth"], "youth"),
        (["a cat", "--image", "no.png", "-o", "sketch"], "takes no image"),
        (["a cat", "-o", "sketch_inpaint"], "--image"),
        (
            ["a cat", "-o", "sketch_inpaint", "--image", "no.png", "--mask", "no.png"],
            "No such file",
        ),
        (["a cat", "--instruction", "shout"], "user_defined"),
        (["a cat", "-p", "user_defined"], "--instruction"),
        (["a cat", "--prompt-2", "a dog"], "prompt_2"),
        (["a cat", "-o", "sketch_fusion", "--prompt-2", ""], "at least one word"),
        (["a cat", "--home", "/no/where"], "devpipe init"),
    ],
)
def test_a_wrong_call_is_one_line_and_starts_nothing(
    devpipe: Command, folder: Path, arguments: list[str], said: str
) -> None:
    """Status 2, what is wrong and what to do on stderr; with --json the same as an object; no
    recording.
    """
    done = devpipe("run", *arguments)
    assert done.status == 2 and said in done.line and done.out == ""
    told = devpipe("run", "--json", *arguments)
    assert told.status == 2 and told.line == done.line
    assert told.json["run_id"] is None and told.json["outcome"] is None
    assert said in " ".join(told.json["error"][name] for name in ("message", "hint"))
    assert recordings(folder) == []


@pytest.mark.parametrize(
    "arguments", [["show"], ["verify"], ["regenerate"], ["replay"], ["resume"]]
)
def test_an_unknown_run_is_said(devpipe: Command, arguments: list[str]) -> None:
    """By its id, by a part of one, and by what could never be one."""
    for name in ("20200101-000000-nothing2", "nothing2", "../../etc", ""):
        done = devpipe(*arguments, name)
        assert done.status == 2 and done.line


@pytest.mark.parametrize(
    "content", [b"", b"this is no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100)]
)
def test_a_picture_that_is_no_picture_is_refused(
    devpipe: Command, folder: Path, tmp_path: Path, content: bytes
) -> None:
    """Before anything starts, with what is possible instead; so is a folder."""
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    for wrong in (path, tmp_path):
        done = devpipe("run", "a cat", "-o", "sketch_control", "--control", str(wrong))
        assert done.status == 2 and done.line
    assert recordings(folder) == []


@pytest.mark.parametrize(
    "prompt",
    [
        "🐈🌧️🏠",
        "قطة في المطر",
        "חתול בגשם",
        "a\x07 red\x1b[31m cat",
        "- a list\n- of two",
        "-5",
        "z\u0300\u0301" * 50,
    ],
)
def test_unusual_prompts_are_drawn(devpipe: Command, prompt: str) -> None:
    """Emoji, right to left, control characters, lists: nothing a terminal would obey is printed."""
    done = devpipe("run", prompt, "-p", "dada", *SMALL)
    assert done.status == 0 and "\x1b" not in done.out and "\x07" not in done.out


def test_a_prompt_that_begins_with_a_dash_goes_after_two(devpipe: Command) -> None:
    """As the message for it says."""
    done = devpipe("run", *SMALL, "--json", "--", "-x marks the spot")
    assert done.json["stages"]["input"]["texts"] == {"prompt": "-x marks the spot"}


def test_messages_do_not_steer_the_terminal(devpipe: Command) -> None:
    """What a person typed comes back as text."""
    assert (
        "\x1b" not in devpipe("run", "a cat", "-p", "\x1b[2J").err + devpipe("show", "\x1b[2J").err
    )


@pytest.mark.parametrize(
    ("stdin", "status"),
    [
        (b"ein Fuchs im Schnee", 0), (b"\xef\xbb\xbfa fox\r\n", 0), (b"", 2), (b"\xff\xfe\xff", 2),
        (b"x" * 50_000, 2), ("ü".encode() * 500_000, 2),
    ],
)  # fmt: skip
def test_a_prompt_from_standard_input(folder: Path, stdin: bytes, status: int) -> None:
    """UTF-8 with or without its mark, whatever the terminal speaks; anything else is one line."""
    done = shell(folder, "run", "-", *SMALL, "--json", stdin=stdin, PYTHONIOENCODING="ascii")
    assert done.status == status
    assert (
        done.json["stages"]["input"]["texts"]["prompt"] in ("ein Fuchs im Schnee", "a fox")
        if status == 0
        else done.line
    )


def test_recordings_that_cannot_be_written_are_said(devpipe: Command, folder: Path) -> None:
    """A file in the way: nothing is made, status 1, and the setting that mends it."""
    folder.write_text("in the way")
    done = devpipe("run", "a cat", *SMALL)
    assert done.status == 1 and "DEVPIPE_RECORDINGS" in done.line
    told = devpipe("run", "a cat", *SMALL, "--json")
    assert (
        told.status == 1
        and told.json["outcome"] is None
        and "DEVPIPE_RECORDINGS" in told.json["error"]["hint"]
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_recordings_are_said(devpipe: Command, folder: Path) -> None:
    """As a person meets them."""
    folder.mkdir(mode=0o500)
    assert "DEVPIPE_RECORDINGS" in devpipe("run", "a cat", *SMALL).line


@pytest.mark.parametrize("blocks", [0, 1, 8])
def test_a_full_disk_is_one_line_and_loses_nothing(
    folder: Path, devpipe: Command, blocks: int
) -> None:
    """Wherever it fills up: status 1, what was acknowledged verifies, and with space the run is
    finished.
    """
    done = shell(
        folder,
        "run",
        "a cat in the rain",
        "-p",
        "dada",
        "--seed",
        "7",
        before=f"ulimit -f {blocks}",
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert done.status == 1 and "Free some space" in done.line
    assert faults_after_kill(folder, devpipe) == []


def test_output_that_nobody_reads_stops_nothing(folder: Path) -> None:
    """`| head -1`: the run is finished and recorded, and nobody complains."""
    line = f'"$@" 2>"{folder}.err" | head -1; echo "${{PIPESTATUS[0]}}"'
    command = ["bash", "-c", line, "bash", *DEVPIPE, "run", "a cat", *SMALL]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(folder),
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0" and Path(f"{folder}.err").read_text() == ""
    assert [run.state for run in recordings(folder)] == ["completed"]


@pytest.mark.parametrize(
    ("redirected", "status"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">/dev/full", 1)]
)
def test_closed_and_full_streams_are_no_traceback(
    folder: Path, redirected: str, status: int
) -> None:
    """The run is recorded all the same."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirected}', "bash", *DEVPIPE, "run", "a cat", *SMALL],
        capture_output=True, text=True, env=environment(folder), timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (
        done.returncode == status
        and "Traceback" not in done.stderr
        and len(done.stderr.splitlines()) == status
    )
    assert [run.state for run in recordings(folder)] == ["completed"]


@pytest.mark.parametrize("more", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "LANG": "C"}])
def test_a_terminal_that_knows_ascii_only(folder: Path, more: dict[str, str]) -> None:
    """People get question marks, programs the exact text."""
    told = shell(folder, "run", "ein grüner Löwe 🦁", *SMALL, "--json", **more)
    assert told.json["stages"]["input"]["texts"]["prompt"] == "ein grüner Löwe 🦁"
    shown = shell(folder, "show", told.json["run_id"], **more)
    assert shown.status == 0 and " L" in shown.out and shown.err == ""


async def test_a_run_cancelled_at_any_moment_accounts_for_every_file(folder: Path) -> None:
    """Also while files are being written, and cancelled again meanwhile: each recording has its
    ending, and no file without an event.
    """
    engine = engine_in(
        folder, backends={"procedural": ScriptedBackend(["rewritten", small_media()])}
    )
    ended = set()
    for turns in [
        round(1.25**n) for n in range(45)
    ]:  # of the engine's loop: some microseconds each
        engine.backends["procedural"].answers[:] = ["rewritten", small_media()]  # type: ignore[attr-defined]
        run = engine.start("a cat", pipeline="dada", seed=7, text_seed=7)

        def wait(turns: int, left: int, run: Run = run) -> None:
            if turns:
                asyncio.get_running_loop().call_soon(wait, turns - 1, left)
                return
            run.cancel()
            if left:
                asyncio.get_running_loop().call_soon(wait, 3, left - 1)

        engine._thread.call(lambda turns=turns: wait(turns, 3))  # type: ignore[misc]
        await run
        ended.add(run.outcome)
        assert run.done and (
            not run.folder.exists() or (run.recording.finished and verify(run.recording) == [])
        )
    assert "cancelled" in ended
    engine.close()


def test_a_signal_before_anything_was_started_ends_it_at_once(folder: Path) -> None:
    """While the prompt is being read: one line, one object, nothing recorded."""
    for number in (signal.SIGINT, signal.SIGTERM):
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen(
            [*DEVPIPE, "run", "-", "--json"],
            stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(folder),
        )  # fmt: skip
        os.write(writing, b"x" * 20_000)
        while struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, bytes(4)))[0]:
            pass  # until all is read, and it waits for more
        done = strike(process, number)
        os.close(writing)
        os.close(reading)
        assert done.status == 130 and done.line == "devpipe: interrupted."
        assert done.json["error"]["type"] == "Interrupted" and recordings(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lines", [1, 6, 14])
def test_a_stopped_run_has_its_ending(folder: Path, number: int, lines: int) -> None:
    """Ctrl-C and SIGTERM: status 130, one line, a recording whose outcome is on disk."""
    process = started(
        folder,
        "run",
        "a cat in the rain",
        "-p",
        "stille_post",
        "-o",
        "sketch",
        "-o",
        "sketch_sound",
    )
    done = strike(process, number, lines=lines)
    assert faults_after_stop(done, folder, number) == []
    assert done.status == 130 and done.line == "devpipe: interrupted. What was done is recorded."


def test_a_stopped_run_is_told_as_json(folder: Path) -> None:
    """One list, every run with its outcome."""
    process = started(
        folder, "run", "a cat", "-p", "stille_post", "-o", "sketch", "-o", "sketch_video", "--json"
    )
    day = folder / "x"
    while process.poll() is None and not list(folder.glob("*/*/events.jsonl")):
        day.exists()  # until it has begun
    done = strike(process, signal.SIGINT)
    assert done.status == 130 and faults_after_stop(done, folder, signal.SIGINT) == []
    assert {one["outcome"] for one in done.json} <= {"cancelled", "completed"}


def test_an_ignored_signal_stays_ignored(folder: Path) -> None:
    """As `nohup` and `&` in a script ask for."""
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *DEVPIPE, "run", "a cat", *SMALL]
    process = subprocess.Popen(
        command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    done = strike(process, signal.SIGINT, lines=1)
    assert done.status == 0 and done.err == ""


@pytest.mark.parametrize("lines", [1, 7, 15])
def test_a_killed_run_can_be_finished(folder: Path, devpipe: Command, lines: int) -> None:
    """`kill -9`: all that was acknowledged verifies, and `devpipe resume` finishes every
    interrupted run.
    """
    process = started(
        folder,
        "run",
        "a cat in the rain",
        "-p",
        "stille_post",
        "-o",
        "sketch",
        "-o",
        "sketch_sound",
    )
    strike(process, signal.SIGKILL, lines=lines)
    assert [run.state for run in recordings(folder)].count("interrupted") >= 1
    assert faults_after_kill(folder, devpipe) == []
