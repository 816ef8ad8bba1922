"""What a person hears of what happened: in the shell, in the recording, in a list, in a batch."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from engines import engine_in
from shell import SMALL, here, recordings, shell, started

from devpipe.batch.plan import Plan
from devpipe.batch.progress import Progress
from devpipe.batch.report import Report, Row
from devpipe.batch.runner import Batch
from devpipe.cli.columns import columns_of
from devpipe.cli.parser import COMMANDS, EXAMPLES, Arguments, command_of, parser
from devpipe.cli.screen import Screen
from devpipe.cli.stops import Stops
from devpipe.record.events import (
    AttemptFinished,
    AttemptStarted,
    Progressed,
    RunFinished,
    RunStarted,
    Warned,
)
from devpipe.record.reader import Recording
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.record.summary import Attempt
from devpipe.show.html import run_html
from devpipe.values import new_run_id

OWN = ["-p", "user_defined", "--instruction", "turn it into a sonnet"]
NOWHERE = {"COMFYUI_URL": "http://127.0.0.1:9"}  # nobody listens there
UNUSED = "Your instruction was not used"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


def notes_of(recording: Recording) -> list[str]:
    return [one.event.message for one in recording.events if isinstance(one.event, Warned)]


def interrupted(folder: Path) -> str:
    """The id of a run whose process died at its beginning."""
    recorder = Recorder.create(folder, new_run_id(), redact=Redactor())
    begun = RunStarted(
        run_id=recorder.run_id, pipeline="dada", output="sketch", text_seed=1, safety="youth"
    )
    recorder.record(begun)
    recorder.close()
    return recorder.run_id


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


def test_a_text_that_is_taken_over_keeps_its_iteration(folder: Path) -> None:
    """A run that shares or reuses the text calls it what its source calls it."""
    outputs = ["-o", "sketch", "-o", "sketch_sound"]
    done = shell(folder, "run", "a cat in the rain", "-p", "stille_post", *outputs, "--json")
    first, second = (one["run_id"] for one in done.json)
    again = shell(folder, "regenerate", first, "--seed", "8", "--json").json["run_id"]
    runs = {run.id: run.summary.stages["interception"].written[-1] for run in recordings(folder)}
    assert runs[first].iteration > 0
    assert {runs[one].iteration for one in (second, again)} == {runs[first].iteration}


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
    assert done.status == 2 and meant in done.line and len(done.line) < 260


def test_without_a_command_the_help_is_shown(folder: Path) -> None:
    """On stderr, with examples, as wrong usage."""
    done = shell(folder)
    assert done.status == 2 and "Examples" in done.err and "safety-report" in done.err


# What it cost.


def drawing(folder: Path) -> subprocess.Popen[str]:
    """A process that has begun to draw a film, which takes it a while."""
    options = ["-o", "sketch_video", "--set", "frames=96", "--set", "width=1024"]
    process = started(folder, "run", "a cat", *options, "--set", "height=1024")
    assert process.stdout
    for line in process.stdout:
        if re.search(r"^ +seed \d+$", line.rstrip()):
            break
    return process


def test_a_local_attempt_that_was_killed_cost_nothing(folder: Path) -> None:
    """What is made on this machine is free, also where nobody wrote how it ended."""
    process = drawing(folder)
    process.kill()
    process.communicate()
    (run,) = recordings(folder)
    assert any(isinstance(one.event, AttemptStarted) for one in run.events)
    assert not any(isinstance(one.event, RunFinished) for one in run.events)
    told = shell(folder, "show", run.id, "--json").json
    assert (told["cost_usd"], told["cost_source"]) == (0.0, "local")


def test_a_local_attempt_that_was_stopped_cost_nothing(folder: Path) -> None:
    """Ctrl-C writes how it ended, and that it was free."""
    process = drawing(folder)
    process.send_signal(signal.SIGINT)
    process.communicate()
    (run,) = recordings(folder)
    assert run.state == "cancelled"
    assert (run.summary.cost_usd, run.summary.cost_source) == (0.0, "local")


# What cannot be made from here.


def test_an_output_whose_server_is_down_names_the_server(folder: Path) -> None:
    """Before anything is started or paid, and before anybody is sent for a judge."""
    for command in (["run", "a cat", "-o", "sd35_large"], ["run", "a cat", "-o", "sdxl", "--json"]):
        done = shell(folder, *command, **NOWHERE)
        assert done.status == 1 and "comfyui" in done.line and "COMFYUI_URL" in done.line
        assert "teacher" not in done.err + done.out
    assert not recordings(folder)
    assert shell(folder, "run", "a cat", *SMALL).status == 0
    (run,) = recordings(folder)
    done = shell(folder, "regenerate", run.id, "-o", "sd35_large", **NOWHERE)
    assert done.status == 1 and "COMFYUI_URL" in done.line


def test_an_output_that_is_down_does_not_stop_its_siblings(folder: Path) -> None:
    """It is named, and the other one is made."""
    outputs = ["-o", "sketch", "-o", "sd35_large"]
    done = shell(folder, "run", "a cat", *outputs, "--json", **NOWHERE)
    assert "COMFYUI_URL" in done.err.splitlines()[0]
    assert done.json[0]["outcome"] == "completed"


def test_a_batch_whose_server_is_down_pays_for_no_text(folder: Path, tmp_path: Path) -> None:
    """It names the server and ends; one whose cells are all done ends as it did."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: down\nprompts: [a cat]\noutputs: [sd35_large]\n")
    done = shell(folder, "batch", str(plan), **NOWHERE)
    assert done.status == 1 and "COMFYUI_URL" in done.line and not recordings(folder)


# Lists.

HEADERS = {
    "pipelines": ["NAME", "READY", "ABOUT"],
    "outputs": ["NAME", "READY", "MEDIUM", "BACKEND", "ABOUT"],
    "backends": ["NAME", "READY", "ABOUT"],
    "recordings": ["RUN ID", "STATE", "PIPELINE", "OUTPUT", "PROMPT"],
}


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Recordings of two pipelines; one is blocked, one has a long Chinese prompt."""
    folder = tmp_path / "recordings"
    call = here(folder)
    assert call("run", "a cat in the rain", *SMALL).status == 0
    assert call("run", "猫" * 120, "-p", "bauhaus", *SMALL).status == 0
    assert call("run", "ein Hakenkreuz", *SMALL).status == 3
    return folder


@pytest.mark.parametrize("name", HEADERS)
def test_a_list_has_headers_and_fits_the_terminal(full: Path, name: str) -> None:
    """No line is wider than the terminal, also on a narrow one and with Chinese in it."""
    for width in (30, 72, 300):
        done = shell(full, "list", name, COLUMNS=str(width), **NOWHERE)
        lines = done.out.splitlines()
        assert done.status == 0 and max(map(columns_of, lines)) <= width
        assert all(header in done.out for header in HEADERS[name])
    assert re.split(r"\s{2,}", lines[0]) == HEADERS[name]


def test_a_wrapped_list_leaves_no_word_out(folder: Path) -> None:
    """On any terminal the descriptions are whole."""
    whole = shell(folder, "list", "outputs", "--json", **NOWHERE).json
    words = shell(folder, "list", "outputs", COLUMNS="100", **NOWHERE).out.split()
    for row in whole:
        for word in row["about"].split():
            assert word in words, (row["name"], word)


def test_a_list_marks_what_is_ready(folder: Path) -> None:
    """What cannot be made now says why, and --ready leaves it out."""
    done = shell(folder, "list", "outputs", COLUMNS="300", **NOWHERE)
    table, _, reasons = done.out.partition("not ready: ")
    rows = {line.split()[0]: line.split()[1] for line in table.splitlines()[1:]}
    assert rows["sketch"] == "yes" and rows["sdxl"] == "no"
    assert "sdxl" in reasons and "COMFYUI_URL" in reasons
    ready = shell(folder, "list", "outputs", "--ready", "--json", **NOWHERE).json
    assert "sketch" in {row["name"] for row in ready} and all(row["ready"] for row in ready)
    assert "sdxl" not in {row["name"] for row in ready}
    told = {row["name"]: row for row in shell(folder, "list", "pipelines", "--json").json}
    assert told["dada"]["ready"] and not told["user_defined"]["ready"]
    assert "DEVPIPE_MODEL_INTERCEPTION" in told["user_defined"]["why"][0]


def test_a_list_takes_a_limit_and_filters(full: Path) -> None:
    """The newest first; what was left out is said on stderr."""
    call = here(full)
    newest = call("list", "recordings", "--limit", "1")
    ids = re.findall(r"\d{8}-\d{6}-\w{8}", newest.out)
    assert len(ids) == 1 and "1 of 3 recordings" in newest.err
    assert len(call("list", "recordings", "--limit", "2", "--json").json) == 2
    (blocked,) = call("list", "recordings", "--state", "blocked", "--json").json
    assert blocked["state"] == "blocked"
    (bauhaus,) = call("list", "recordings", "--match", "BAUHAUS", "--json").json
    assert bauhaus["pipeline"] == "bauhaus"
    nothing = call("list", "recordings", "--match", "nothing like this")
    assert nothing.status == 0 and nothing.out == "" and "no recordings" in nothing.err
    for wrong in (
        ["--limit", "0"],
        ["--limit", "-3"],
        ["--limit", "x"],
        ["--state", "blokked"],
        ["--ready"],
    ):
        assert call("list", "recordings", *wrong).status == 2, wrong
    assert call("list", "outputs", "--state", "blocked").status == 2


# Help.


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_examples_that_it_takes(folder: Path, name: str) -> None:
    """They stand there as they are typed, and the command line understands them."""
    shown = here(folder)(name, "--help").out
    examples = command_of(name).EXAMPLES
    for line in (*examples, *EXAMPLES):
        words = shlex.split(line.partition("|")[2] or line)
        words = words[words.index("devpipe") + 1 :]
        upto = min((words.index(one) for one in (">", "&") if one in words), default=len(words))
        with Stops(json=False, last=False) as stops:
            assert parser().parse_args(words[:upto], namespace=Arguments(stops)).command
    assert examples and all(f"\n  {line}\n" in shown for line in examples)


# Progress.


def test_a_batch_says_how_far_it_is_where_there_is_no_terminal(
    folder: Path, tmp_path: Path
) -> None:
    """Under nohup and in CI: what is done, what is blocked, and how long the rest may take."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "name: slow\nprompts: [a cat, a dog, a cow, ein Hakenkreuz]\n"
        "parameters: {width: [64], height: [64]}\n"
    )
    done = shell(folder, "batch", str(plan), "--progress", "0", "--concurrency", "1", "--json")
    lines = [line for line in done.err.splitlines() if line.startswith("batch slow: ")]
    assert done.status == 3 and done.json["counts"] == {"completed": 3, "blocked": 1}
    assert lines[-1] == "batch slow: 4 of 4 done, 1 blocked"
    assert any(re.search(r"[123] of 4 done, .*about \d.* left$", line) for line in lines)


@pytest.mark.parametrize("pause", ["nan", "inf", "-1", "soon"])
def test_a_pause_that_is_none_is_wrong_usage(folder: Path, pause: str) -> None:
    """One line, before anything is read."""
    assert here(folder)("batch", "plan.yaml", f"--progress={pause}").status == 2


def test_a_blocked_batch_ends_as_blocked_each_time(folder: Path, tmp_path: Path) -> None:
    """Also where nothing was left to do; a whole one ends as completed."""
    plan = tmp_path / "plan.yaml"
    small = "parameters: {width: [64], height: [64]}\n"
    plan.write_text(f"name: mixed\nprompts: [a cat, ein Hakenkreuz]\n{small}")
    statuses = [shell(folder, "batch", str(plan)).status for _ in range(2)]
    assert statuses == [3, 3]
    plan.write_text(f"name: whole\nprompts: [a cat]\n{small}")
    assert shell(folder, "batch", str(plan)).status == 0


def test_progress_says_a_line_every_few_seconds() -> None:
    """Not for each cell, and none that repeats itself sooner."""
    now = [0.0]
    said: list[str] = []
    progress = Progress(said.append, clock=lambda: now[0])
    plan = Plan.read({"name": "clock", "prompts": ["a", "b", "c", "d"]})
    report = Report("clock", [Row(item) for item in plan.items()])
    for second, row in enumerate(report.rows, start=1):
        now[0] = second * 3.0
        row.outcome = "completed"
        progress.add(report)
    assert said == [
        "batch clock: 2 of 4 done, about 6 s left",
        "batch clock: 4 of 4 done",
    ]


def test_a_run_says_how_far_it_is_where_there_is_no_terminal() -> None:
    """A line of its own every few seconds, and none in between."""
    now = [0.0]
    out = io.StringIO()
    screen = Screen(Path("run"), out=out, clock=lambda: now[0])
    for step in range(12):
        now[0] = float(step)
        screen(Progressed(stage="generation", step=step, steps=12))
    assert [line.strip() for line in out.getvalue().splitlines()] == ["5 of 12", "10 of 12"]


async def test_a_batch_in_a_notebook_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to ask for it."""
    with contextlib.closing(engine_in(tmp_path)) as engine:
        plan = {"name": "cell", "prompts": ["a cat"], "parameters": {"width": [64], "height": [64]}}
        batch = Batch(engine, plan)
        batch.progress.every_s = 0.0
        await batch.run()
    assert "batch cell: 1 of 1 done" in capsys.readouterr().err


# Hints and next lines.


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["run", "a cat", "-p", "user_defined"], 'Give --instruction "...".'),
        (["run", "a cat", "-p", "dada", "--instruction", "x"], "Use -p user_defined."),
        (["run", "a cat", "-o", "sketch_control"], "Give --control FILE."),
        (["run", "a cat", "-o", "sketch_inpaint"], "Give --image FILE."),
    ],
)
def test_a_hint_names_what_there_is_in_the_shell(folder: Path, typed: list[str], said: str) -> None:
    """No keyword of a cell; in German where the machine speaks it."""
    english = shell(folder, *typed, LC_ALL="C.UTF-8")
    assert english.status == 2 and said in english.err and "in the shell" not in english.err
    german = shell(folder, *typed, LC_ALL="de_DE.UTF-8")
    assert german.status == 2 and said not in german.err and "in the shell" not in german.err


def test_a_next_line_can_be_typed_as_it_stands(folder: Path, tmp_path: Path) -> None:
    """With the DEVPIPE_* and the --home that were given; what it says works."""
    home = tmp_path / "my workshop"
    made = shell(folder, "init", str(home))
    assert f"DEVPIPE_HOME={shlex.quote(str(home))}" in made.out, "the old one would be found"
    run_id = interrupted(folder)
    for command in (["show", run_id], ["verify", run_id]):
        done = shell(folder, "--home", str(home), *command)
        line = next(one for one in (done.out + done.err).splitlines() if "resume" in one)
        assert f"DEVPIPE_RECORDINGS={shlex.quote(str(folder))}" in line
        assert f"devpipe resume {run_id} --home {shlex.quote(str(home))}" in line


def test_no_next_line_shows_a_secret(folder: Path) -> None:
    """A password in an address, or a key, is repeated nowhere."""
    secret = {
        "DEVPIPE_COMFYUI_URL": "http://me:hunter2@127.0.0.1:9",
        "DEVPIPE_MY_TOKEN": "hunter2",
    }
    run_id = interrupted(folder)
    done = shell(folder, "show", run_id, **secret)
    assert "devpipe resume" in done.err and "hunter2" not in done.err + done.out


@pytest.mark.parametrize(
    ("location", "paid", "cost"),
    [
        ("local", False, (0.0, "local")),
        ("local", True, (None, "unknown")),
        ("world", False, (None, "unknown")),
        ("eu", True, (None, "unknown")),
    ],
)
def test_only_what_is_made_here_and_not_paid_is_free(
    location: str, paid: bool, cost: tuple[float | None, str]
) -> None:
    """A rented server may charge for what was broken off, and nobody knows how much."""
    begun = AttemptStarted(
        attempt=1, stage="generation", task="media", backend="any", paid=paid, location=location
    )
    failed = AttemptFinished(attempt=1, stage="generation", outcome="failed")
    untold = AttemptFinished(attempt=1, stage="generation", outcome="completed")
    assert Attempt(begun).cost == Attempt(begun, failed).cost == cost
    assert Attempt(begun, untold).cost == (None, "unknown")


def test_show_reads_as_run_did(folder: Path) -> None:
    """Line by line, but for the seed, which is known by then; notes stand behind their text."""
    done = shell(folder, "run", "a cat in the rain", *OWN, *SMALL)
    (run,) = recordings(folder)
    seed = f"seed {run.summary.seed} (drawn)"
    assert shell(folder, "show", run.id).out == done.out.replace("seed to be drawn", seed)
    assert UNUSED in run_html(run.summary, run.folder)
    assert UNUSED in shell(folder, "replay", run.id).out
