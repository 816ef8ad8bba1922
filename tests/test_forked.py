"""A forked command of the tests is what a started one is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from shell import DEVPIPE, PATIENCE_S, SMALL, environment, forker, recordings, shell

COMMANDS = {
    "help": ["--help"],
    "nothing": [],
    "unknown": ["runn"],
    "wrong": ["run", "a cat", "--seed", "x"],
    "run": ["run", "a cat", *SMALL, "--seed", "1", "--text-seed", "1"],
    "standard input": ["run", "-", *SMALL, "--seed", "1", "--text-seed", "1", "--json"],
}
UNLIKE = re.compile(
    r"\d{8}-\d{6}-\w{8}|\d{4}-\d\d-\d\d(T[\d:.]+Z)?|[\d.]+ s\b|(_s|seconds)\": [\d.]+"
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_forked_command_ends_and_says_the_same(tmp_path: Path, name: str) -> None:
    """Status and both streams, but for ids and times."""
    environ, stdin = environment(tmp_path), b"eine Katze im Regen"
    assert forker().starts_alike(environ)
    forked = shell(tmp_path, *COMMANDS[name], stdin=stdin)
    started = subprocess.run(
        [*DEVPIPE, *COMMANDS[name]],
        input=stdin,
        capture_output=True,
        env=environ,
        timeout=PATIENCE_S,
        check=False,
    )
    assert forked.status == started.returncode
    assert UNLIKE.sub("~", forked.out) == UNLIKE.sub("~", started.stdout.decode())
    assert UNLIKE.sub("~", forked.err) == UNLIKE.sub("~", started.stderr.decode())
    assert len(recordings(tmp_path)) in (0, 2)


@pytest.mark.parametrize("name", ["PYTHONIOENCODING", "LC_ALL", "LANG"])
def test_what_an_interpreter_reads_at_its_start_is_not_forked(tmp_path: Path, name: str) -> None:
    assert not forker().starts_alike(environment(tmp_path, **{name: "other"}))


def test_a_command_that_does_not_end_is_killed_and_said(tmp_path: Path) -> None:
    """The next is carried out all the same."""
    film = ["run", "a boat", "-o", "sketch_video", "--set", "frames=96"]
    with pytest.raises(subprocess.TimeoutExpired):
        forker().run(film, environment(tmp_path), tmp_path, b"", 0.0)
    assert shell(tmp_path, "--version").status == 0
