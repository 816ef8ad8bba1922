"""What a person hears of what happened: in the shell, in the recording, in a list, in a batch."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from shell import REPOSITORY, SMALL, Done, recordings, shell, started

from devpipe.record.events import AttemptStarted, RunFinished, Warned
from devpipe.record.reader import Recording

OWN = ["-p", "user_defined", "--instruction", "turn it into a sonnet"]
UNUSED = "Your instruction was not used"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


def notes_of(recording: Recording) -> list[str]:
    return [one.event.message for one in recording.events if isinstance(one.event, Warned)]


# An instruction that reaches nobody.


def test_an_instruction_that_no_model_followed_is_said_everywhere(folder: Path) -> None:
    """In the run, its JSON, in `show`, and in every run that takes the text over."""
    done = shell(folder, "run", "a cat in the rain", *OWN, *SMALL)
    assert done.status == 0 and UNUSED in done.out
    (run,) = recordings(folder)
    assert UNUSED in shell(folder, "show", run.id).out
    (note,) = shell(folder, "show", run.id, "--json").json["notes"]
    assert UNUSED in note
    again = shell(folder, "regenerate", run.id, "--seed", "8", *SMALL)
    assert again.status == 0 and again.out.count(UNUSED) == 1
    several = shell(folder, "run", "a cat", *OWN, "-o", "sketch", "-o", "sketch_sound", "--json")
    assert [len(one["notes"]) for one in several.json] == [1, 1]


def test_it_is_said_in_the_language_of_the_text(folder: Path) -> None:
    """A German text is answered in German."""
    done = shell(folder, "run", "eine kleine Katze sitzt allein im Regen", *OWN, *SMALL)
    assert "Deine Anweisung wurde nicht benutzt" in done.out


def test_a_pipeline_without_an_instruction_of_ones_own_has_nothing_to_say(folder: Path) -> None:
    """Its procedure is what was asked for."""
    done = shell(folder, "run", "a cat in the rain", "-p", "dada", *SMALL, "--json")
    assert done.status == 0 and done.json["notes"] == []


# What was asked for, and drawn.


def test_both_seeds_and_the_instruction_are_said(folder: Path) -> None:
    """Those that were given, and those that were drawn; live and in `show`."""
    done = shell(folder, "run", "a cat", *OWN, "--seed", "7", "--text-seed", "9", *SMALL)
    assert "seed 7, text seed 9" in done.out and "turn it into a sonnet" in done.out
    drawn = shell(folder, "run", "a cat", *OWN, *SMALL)
    newest = next(
        one for one in recordings(folder) if one.summary.started and not one.summary.started.seed
    )
    assert newest.summary.started
    shown = shell(folder, "show", newest.id)
    for said in (drawn.out, shown.out):
        assert f"seed {newest.summary.seed}\n" in said
        assert f"text seed {newest.summary.started.text_seed}" in said
        assert "turn it into a sonnet" in said


# What nobody knows by that name.


def test_a_run_that_is_not_there_names_the_three_nearest(folder: Path) -> None:
    """Whatever was typed, three ids and not all of them."""
    for number in range(40):
        (folder / "2026-11-22" / f"20261122-1415{number:02d}-k3v9x2m{number % 10}").mkdir(
            parents=True
        )
    for name in ("nope", "20261122-141507-k3v9x2zz", "20250101-000000-aaaaaaaa"):
        line = shell(folder, "show", name).line
        assert 1 <= len(re.findall(r"\d{8}-\d{6}-\w{8}", line.replace(repr(name), ""))) <= 3, line


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["runn", "a cat"], "'run'"),
        (["list", "recordngs"], "'recordings'"),
        (["run", "a cat", "--sed", "7"], "'--seed'"),
        (["run", "a cat", "-p", "bauhas"], "bauhaus"),
        (["run", "a cat", "-o", "sketsh"], "sketch"),
    ],
)
def test_a_misspelt_word_offers_the_nearest(folder: Path, typed: list[str], meant: str) -> None:
    """One line, and what was probably meant."""
    done = shell(folder, *typed)
    assert done.status == 2 and meant in done.line and len(done.line) < 200


def test_without_a_command_the_help_is_shown(folder: Path) -> None:
    """On stderr, with examples, as wrong usage."""
    done = shell(folder)
    assert done.status == 2 and "Examples" in done.err and "safety-report" in done.err


# What it cost.


def test_a_local_attempt_that_was_killed_cost_nothing(folder: Path) -> None:
    """What is made on this machine is free, also where nobody wrote how it ended."""
    options = ["-o", "sketch_video", "--set", "frames=96", "--set", "width=1024"]
    process = started(folder, "run", "a cat", *options, "--set", "height=1024")
    assert process.stdout
    for line in process.stdout:
        if re.search(r"^ +seed \d+$", line.rstrip()):
            break
    process.kill()
    process.communicate()
    (run,) = recordings(folder)
    assert any(isinstance(one.event, AttemptStarted) for one in run.events)
    assert not any(isinstance(one.event, RunFinished) for one in run.events)
    told = shell(folder, "show", run.id, "--json").json
    assert (told["cost_usd"], told["cost_source"]) == (0.0, "local")


def test_a_local_attempt_that_was_stopped_cost_nothing(folder: Path) -> None:
    """Ctrl-C writes how it ended, and that it was free."""
    options = ["-o", "sketch_video", "--set", "frames=96", "--set", "width=1024"]
    process = started(folder, "run", "a cat", *options, "--set", "height=1024")
    assert process.stdout
    for line in process.stdout:
        if re.search(r"^ +seed \d+$", line.rstrip()):
            break
    process.send_signal(signal.SIGINT)
    process.communicate()
    (run,) = recordings(folder)
    assert run.state == "cancelled"
    assert (run.summary.cost_usd, run.summary.cost_source) == (0.0, "local")
