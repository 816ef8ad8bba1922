"""The commands of the shell: what they print, where, and how they end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import DEVPIPE, PATIENCE_S, REPOSITORY, SMALL, Done, environment, recordings, shell

from devpipe.analysis.verify import verify
from devpipe.cli import commands, main
from devpipe.cli.parser import COMMANDS, command_of
from devpipe.cli.screen import Screen
from devpipe.record.events import AttemptStarted, RunStarted, TextWritten
from devpipe.record.reader import Recording
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.values import new_run_id

Command = Callable[..., Done]
FIELDS = {
    "run_id", "outcome", "recording", "parent", "pipeline", "output", "seed", "text_seed", "stages", "artifacts",
    "cost_usd", "cost_source", "duration_s", "error",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


@pytest.fixture
def devpipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The console script in this process."""
    monkeypatch.setenv("DEVPIPE_HOME", str(REPOSITORY))
    monkeypatch.setenv("DEVPIPE_RECORDINGS", str(folder))

    def call(*arguments: str) -> Done:
        status = main(arguments)
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return call


@pytest.fixture
def workspace(tmp_path: Path, devpipe: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of its own, to be broken; the current folder."""
    home = tmp_path / "work shop"
    assert devpipe("init", str(home)).status == 0
    monkeypatch.delenv("DEVPIPE_HOME")
    monkeypatch.delenv("DEVPIPE_RECORDINGS")
    monkeypatch.chdir(home)
    return home


def test_a_run_is_shown_stage_by_stage_and_ends_with_its_files(
    devpipe: Command, folder: Path
) -> None:
    """All four stages, their texts and verdicts, the picture and the recording; nothing on
    stderr.
    """
    done = devpipe("run", "ein roter Kreis", "-p", "dada", "--seed", "7", *SMALL)
    (recording,) = recordings(folder)
    assert done.status == 0 and done.err == ""
    assert [
        line[2:] for line in done.out.splitlines() if line[:2] in ("1 ", "2 ", "3 ", "4 ")
    ] == list(recording.summary.stages)
    for shown in (
        *recording.summary.stages["interception"].texts.values(),
        "allowed by rules",
        str(recording.folder / "03_image.png"),
    ):
        assert shown in done.out
    assert "\x1b" not in done.out, "only a terminal is written over"


def test_json_is_one_object_and_nothing_else(devpipe: Command, folder: Path) -> None:
    """Every promised field, absolute paths of files that exist."""
    told = devpipe("run", "ein roter Kreis", "--seed", "7", *SMALL, "--json").json
    assert (
        told.keys() >= FIELDS
        and told["outcome"] == "completed"
        and told["seed"] == 7
        and told["error"] is None
    )
    assert (
        told["stages"]["input"]["texts"] == {"prompt": "ein roter Kreis"}
        and told["stages"]["input"]["language"] == "de"
    )
    assert told["stages"]["pre_output"].keys() >= {"allowed", "method", "level", "reason"}
    assert told["stages"]["generation"].keys() >= {"backend", "model", "sent", "attempts"}
    (artifact,) = told["artifacts"]
    assert Path(artifact["path"]).stat().st_size == artifact["bytes"] and (
        artifact["width"],
        artifact["height"],
    ) == (64, 64)
    assert Path(told["recording"]) == recordings(folder)[0].folder


def test_equal_calls_give_equal_bytes_and_another_seed_does_not(devpipe: Command) -> None:
    """The shell's seed is the medium's seed."""
    hashes = [
        devpipe(
            "run",
            "ein roter Kreis auf blauem Grund",
            "-p",
            "passthrough",
            "--seed",
            seed,
            *SMALL,
            "--json",
        ).json["artifacts"][0]["sha256"]
        for seed in ("7", "7", "8")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_several_outputs_are_a_list(devpipe: Command) -> None:
    """One object per output, in their order; Stages 1 and 2 are shared."""
    done = devpipe("run", "a cat", "-p", "dada", "-o", "sketch", "-o", "sketch_sound", "--json")
    assert [one["output"] for one in done.json] == ["sketch", "sketch_sound"]
    assert done.json[1]["parent"] == done.json[0]["run_id"]
    assert done.status == 0


def test_a_blocked_prompt_has_its_own_exit_status(devpipe: Command) -> None:
    """3, with the reason for the person and no error: nothing went wrong."""
    done = devpipe("run", "ein Hakenkreuz", "--json")
    assert done.status == 3 and done.json["outcome"] == "blocked" and done.json["error"] is None
    assert done.json["stages"]["input"]["allowed"] is False and done.json["artifacts"] == []
    shown = devpipe("run", "ein Hakenkreuz")
    assert shown.status == 3 and "blocked: " in shown.out


def test_set_reads_each_value_by_the_type_that_the_output_declares(devpipe: Command) -> None:
    """Integers, numbers and words reach the backend as what they are."""
    told = devpipe(
        "run",
        "a cat",
        "-o",
        "sketch_fusion",
        "--prompt-2",
        "a dog",
        "--set",
        "alpha=0.25",
        *SMALL,
        "--json",
    ).json
    sent = told["stages"]["generation"]["sent"]["parameters"]
    assert sent["alpha"] == 0.25 and sent["width"] == 64 and type(sent["width"]) is int
    refused = devpipe("run", "a cat", "--set", "width=wide")
    assert refused.status == 2 and "width must be an integer" in refused.line


def test_regenerate_asks_no_text_backend(devpipe: Command, folder: Path) -> None:
    """Stage 4 alone, from a run found by the end of its id; the parent is named."""
    first = devpipe("run", "a cat", "-p", "dada", "--seed", "7", *SMALL, "--json").json
    again = devpipe("regenerate", first["run_id"][-8:], "--seed", "8", "--json").json
    assert again["parent"] == first["run_id"] and again["seed"] == 8
    (made,) = [recording for recording in recordings(folder) if recording.id == again["run_id"]]
    tasks = [one.event.task for one in made.events if isinstance(one.event, AttemptStarted)]
    assert tasks == ["media"]
    assert again["artifacts"][0]["sha256"] != first["artifacts"][0]["sha256"]
    branch = devpipe(
        "regenerate",
        first["run_id"],
        "--text",
        "a blue cat",
        "--set",
        "width=96",
        "--seed",
        "7",
        "--json",
    ).json
    assert (
        branch["stages"]["interception"]["texts"] == {"prompt": "a blue cat"}
        and branch["artifacts"][0]["width"] == 96
    )


def test_replay_says_what_is_equal(devpipe: Command) -> None:
    """A procedural run is bit-equal, and the exit status says so."""
    run_id = devpipe("run", "a cat", "-p", "dada", "--seed", "7", *SMALL, "--json").json["run_id"]
    done = devpipe("replay", run_id)
    assert done.status == 0 and "equal" in done.out
    assert devpipe("replay", run_id, "--json").json["equal"] is True


def test_show_shows_a_recording_as_it_was_shown_live(devpipe: Command, folder: Path) -> None:
    """The same lines, and the same JSON."""
    live = devpipe("run", "a cat", "-p", "dada", *SMALL)
    (run,) = recordings(folder)
    run_id = run.id
    drawn = f"seed {run.summary.seed} (drawn)"  # when it began, that was still to come
    assert devpipe("show", run_id).out == live.out.replace("seed to be drawn", drawn)
    assert devpipe("show", run_id, "--json").json["outcome"] == "completed"


def test_verify_finds_a_changed_byte(devpipe: Command, folder: Path) -> None:
    """One recording or all; the exit status says whether all is well."""
    devpipe("run", "a cat", *SMALL)
    devpipe("run", "a dog", *SMALL)
    whole, harmed = recordings(folder)
    assert devpipe("verify", "--all").status == 0
    picture = harmed.folder / "03_image.png"
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    done = devpipe("verify", "--all")
    assert (
        done.status == 1 and f"{whole.id}  ok" in done.out and f"{harmed.id}  DAMAGED" in done.out
    )
    assert devpipe("verify", whole.id).status == 0
    told = devpipe("verify", harmed.id, "--json")
    assert told.status == 1 and told.json["ok"] is False and told.json["runs"][harmed.id]


@pytest.mark.parametrize("left", [b"", b'{"v":1,"seq":1,"at'])
def test_what_a_dead_writer_left_unacknowledged_is_no_damage(
    devpipe: Command, folder: Path, left: bytes
) -> None:
    """A torn tail and a file without its event go with `resume`; what was acknowledged is whole,
    and verify says both.
    """
    recorder = Recorder.create(folder, new_run_id(), redact=Redactor())
    recorder.record(
        RunStarted(
            run_id=recorder.run_id, pipeline="dada", output="sketch", text_seed=1, safety="youth"
        )
    )
    recorder.close()
    with (recorder.folder / "events.jsonl").open("ab") as events:
        events.write(left)
    (recorder.folder / "01_input.txt").touch(mode=0o600)
    done = devpipe("verify", "--all")
    assert done.status == 0 and f"devpipe resume {recorder.run_id}" in done.out


@pytest.mark.parametrize("left", ["", "events.jsonl"])
def test_a_run_that_died_before_its_first_event_is_no_damage(
    devpipe: Command, folder: Path, left: str
) -> None:
    """Nothing was acknowledged, so nothing is lost; resuming it is refused in one line."""
    run = folder / "2026-11-22" / "20261122-141503-k3v2x2ma"
    run.mkdir(parents=True, mode=0o700)
    if left:
        (run / left).touch(mode=0o600)
    assert devpipe("verify", "--all").status == 0
    assert devpipe("resume", run.name).status == 2


def test_resume_finishes_a_run_whose_process_died(devpipe: Command, folder: Path) -> None:
    """In its own recording; a finished one is refused with what to do instead."""
    first = devpipe("run", "a cat", "-p", "dada", "--seed", "7", *SMALL, "--json").json
    events = Path(first["recording"]) / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    for name in ("run.json", "03_image.png"):
        (events.parent / name).unlink()
    events.write_bytes(b"".join(lines[:-4]))
    assert recordings(folder)[0].state == "interrupted"
    done = devpipe("resume", first["run_id"], "--json")
    assert done.status == 0 and done.json["run_id"] == first["run_id"] and done.json["seed"] == 7
    assert done.json["artifacts"][0]["sha256"] == first["artifacts"][0]["sha256"]
    assert devpipe("verify", "--all").status == 0
    refused = devpipe("resume", first["run_id"])
    assert refused.status == 2 and "devpipe regenerate" in refused.line


def test_runs_that_died_together_are_finished_in_order(devpipe: Command, folder: Path) -> None:
    """A run that waited for another's texts says which one to resume first."""
    told = devpipe(
        "run", "a cat", "-p", "dada", "-o", "sketch", "-o", "sketch_sound", "--seed", "7", "--json"
    ).json
    leader, other = (Path(one["recording"]) for one in told)
    for run, kept in (
        (leader, b'"stage_started","stage":"interception"'),
        (other, b'"run_started"'),
    ):
        lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
        (run / "events.jsonl").write_bytes(
            b"".join(lines[: 1 + next(n for n, line in enumerate(lines) if kept in line)])
        )
        (run / "run.json").unlink()
    refused = devpipe("resume", other.name)
    assert refused.status == 2 and f"devpipe resume {leader.name}" in refused.line
    for run, before in zip((leader, other), told, strict=True):
        again = devpipe("resume", run.name, "--json").json
        assert (
            again["stages"]["interception"]["texts"] == told[0]["stages"]["interception"]["texts"]
        )
        assert again["artifacts"][0]["sha256"] == before["artifacts"][0]["sha256"]
    assert devpipe("verify", "--all").status == 0


@pytest.mark.loopback
def test_lists_are_one_line_each(
    devpipe: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipelines, outputs, backends and recordings, for people and for programs; damaged recordings
    do not disappear.
    """
    monkeypatch.delenv("COLUMNS", raising=False)  # no terminal: each line as long as it is
    devpipe("run", "zwei\nZeilen", "-p", "dada", *SMALL)
    assert "dada" in devpipe("list").out and "sketch_video" in devpipe("list", "outputs").out
    first_words = {line.split()[0] for line in devpipe("list", "backends").out.splitlines()}
    assert {"ollama", "openrouter", "procedural"} <= first_words
    run_id = recordings(folder)[0].id
    _, line = devpipe("list", "recordings").out.splitlines()
    assert line.split() == [run_id, "completed", "dada", "sketch", "zwei", "Zeilen"]
    (told,) = devpipe("list", "recordings", "--json").json
    assert told == {
        "run_id": run_id,
        "state": "completed",
        "pipeline": "dada",
        "output": "sketch",
        "prompt": "zwei\nZeilen",
    }
    (recordings(folder)[0].folder / "events.jsonl").write_bytes(b"x\n")
    assert [one["state"] for one in devpipe("list", "recordings", "--json").json] == ["damaged"]
    assert {one["name"] for one in devpipe("list", "outputs", "--json").json} >= {
        "sketch",
        "sketch_video",
    }


@pytest.mark.loopback
def test_check_names_what_is_usable(devpipe: Command) -> None:
    """Every pipeline and output by name, and whether each backend is there."""
    done = devpipe("check")
    assert done.status == 0 and "no faults" in done.out and "backend procedural: ready" in done.out
    told = devpipe("check", "--json").json
    assert {"dada", "user_defined"} <= set(told["usable"]["interceptions"]) and "sketch" in told[
        "usable"
    ]["outputs"]
    assert told["faults"] == [] and told["backends"]["procedural"]["ready"] is True


@pytest.mark.loopback
def test_a_broken_config_is_named_and_stops_nothing_else(devpipe: Command, workspace: Path) -> None:
    """`check` names all faults and exits with 2; other pipelines run, the broken one says why it
    does not.
    """
    (workspace / "pipelines" / "dada.json").write_text("{")
    (workspace / "output_configs" / "sketch_sound.json").write_text('{"name": "sketch_sound"}')
    done = devpipe("check")
    assert done.status == 2
    for named in (
        "pipelines/dada.json",
        "output_configs/sketch_sound.json",
        "bauhaus",
        "sketch_video",
    ):
        assert named in done.out
    told = devpipe("check", "--json")
    assert (
        told.status == 2
        and "dada" not in told.json["usable"]["interceptions"]
        and len(told.json["faults"]) > 2
    )
    assert devpipe("run", "a cat", "-p", "bauhaus", *SMALL).status == 0
    refused = devpipe("run", "a cat", "-p", "dada", "--json")
    assert (
        refused.status == 2 and refused.json["error"]["faults"][0]["file"] == "pipelines/dada.json"
    )
    assert len(recordings(workspace / "recordings")) == 1


@pytest.mark.loopback
def test_check_tells_of_broken_settings_and_looks_on(
    devpipe: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """devpipe.toml, a misspelt variable and a folder that cannot be written, all at once."""
    (workspace / "devpipe.toml").write_text('safety = "yuth"\n')
    (workspace / "recordings").rename(workspace / "away")
    (workspace / "recordings").write_text("in the way")
    monkeypatch.setenv("DEVPIPE_SAFTY", "kids")
    done = devpipe("check")
    assert done.status == 2
    for said in (
        "fault: devpipe.toml: $.safety",
        "youth",
        "DEVPIPE_SAFTY",
        "DEVPIPE_SAFETY",
        "cannot be written",
        "21 usable",
    ):
        assert said in done.out
    assert devpipe("run", "a cat").status == 2


@pytest.mark.loopback
def test_an_instruction_that_breaks_the_rules_is_a_fault(devpipe: Command, workspace: Path) -> None:
    """The lint belongs to `check`; the pipeline still runs."""
    path = workspace / "pipelines" / "dada.json"
    config = json.loads(path.read_text("utf-8"))
    config["steps"][0]["instruction"]["en"] = "Make it better."
    path.write_text(json.dumps(config), "utf-8")
    done = devpipe("check")
    assert done.status == 2 and "$.steps[0].instruction.en" in done.out
    assert devpipe("run", "a cat", "-p", "dada", *SMALL).status == 0


def test_outside_a_workspace_the_way_in_is_said(
    devpipe: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command that needs one says `devpipe init DIR`; so does a wrong --home."""
    monkeypatch.delenv("DEVPIPE_HOME")
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["run", "a cat"],
        ["check"],
        ["list"],
        ["verify", "--all"],
        ["lab"],
        ["--home", str(tmp_path), "list"],
    ):
        done = devpipe(*arguments)
        assert done.status == 2 and "devpipe init" in done.line


def test_the_home_may_stand_before_or_after_the_command(
    devpipe: Command, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--home names the workspace; without it the nearest folder upwards is meant."""
    (workspace / "pipelines" / "dada.json").unlink()
    assert "dada" not in devpipe("list").out
    monkeypatch.chdir(workspace / "notebooks")
    assert "dada" not in devpipe("list").out
    monkeypatch.chdir(tmp_path)
    assert "dada" not in devpipe("--home", str(workspace), "list").out
    assert "dada" not in devpipe("list", "--home", str(workspace)).out


def test_init_makes_a_workspace_once(devpipe: Command, workspace: Path) -> None:
    """It says what to type next, in words that a shell takes; a second time it changes nothing."""
    again = devpipe("init", str(workspace))
    assert again.status == 2 and "nothing was changed" in again.line
    other = devpipe("init", "new one")
    assert "cd 'new one'" in other.out
    assert devpipe("init", str(workspace / "third"), "--json").json == {
        "home": str(workspace / "third")
    }


@pytest.mark.parametrize("name", ["runs.csv", "runs.xlsx", "runs.parquet", "runs.zip"])
def test_export_writes_what_it_says(devpipe: Command, tmp_path: Path, name: str) -> None:
    """Every kind of file, and its path on stdout."""
    run_id = devpipe("run", "a cat", *SMALL, "--json").json["run_id"]
    done = devpipe("export", str(tmp_path / name), "--runs", run_id)
    assert done.status == 0 and all(Path(line).stat().st_size for line in done.out.splitlines())


def test_export_refuses_what_it_cannot_write(devpipe: Command, tmp_path: Path) -> None:
    """An ending it does not know, and a folder that is not there."""
    devpipe("run", "a cat", *SMALL)
    assert devpipe("export", str(tmp_path / "runs.doc")).status == 2
    assert devpipe("export", str(tmp_path / "no" / "runs.csv")).line


def test_the_tour_shows_two_prompts_and_two_pipelines(devpipe: Command, folder: Path) -> None:
    """A German and an English prompt, dada and bauhaus, and where the last picture and recording
    are.
    """
    done = devpipe("tour")
    assert done.status == 0 and done.err == ""
    runs = sorted(recordings(folder), key=lambda run: run.summary.started_at)
    assert [(run.summary.started and run.summary.started.pipeline, run.summary.stages["input"].languages["prompt"]) for run in runs] == [
        ("dada", "de"), ("bauhaus", "de"), ("dada", "en"), ("bauhaus", "en"),
    ]  # fmt: skip
    said = dict(
        line.split("  ", 1)
        for line in done.out.splitlines()
        if line.startswith(("picture", "recording"))
    )
    assert (
        Path(said["picture"].strip()).exists()
        and verify(Recording(Path(said["recording"].strip()))) == []
    )
    assert len(devpipe("tour", "--json").json) == 4


def test_help_and_version_are_there(devpipe: Command) -> None:
    """For the program and for every command; no command at all is wrong usage."""
    assert "COMMAND" in devpipe("--help").out and "--seed" in devpipe("run", "--help").out
    assert devpipe("--version").out.startswith("devpipe ")
    assert devpipe().status == 2


def test_the_lab_opens_on_the_workspace(workspace: Path, tmp_path: Path) -> None:
    """JupyterLab gets the workspace as its root, and what stands after --."""
    assert (tmp_path / "work shop") == workspace
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$DEVPIPE_HOME" "$@"\n')
    python.chmod(0o755)
    code = (
        f"import sys; sys.executable = {str(python)!r}; from devpipe.cli import main; main(['lab',"
        " '--', '--no-browser'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=workspace / "notebooks",
    )
    assert done.stdout.splitlines() == [
        str(workspace), "-m", "jupyter", "lab", f"--ServerApp.root_dir={workspace}", "--LabApp.default_url=/lab/tree/notebooks",
        "--no-browser",
    ]  # fmt: skip


def test_a_process_of_its_own_behaves_the_same(folder: Path) -> None:
    """`python -m devpipe.cli`: JSON on stdout, nothing on stderr, the status to the shell."""
    done = shell(folder, "run", "ein roter Kreis", *SMALL, "--json")
    assert done.status == 0 and done.err == "" and done.json["outcome"] == "completed"


@pytest.mark.parametrize("module", ["devpipe", "devpipe.cli"])
def test_python_dash_m_is_the_console_script(module: str) -> None:
    """The help names the command that people type, however it was started."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: devpipe [-h]") and done.stderr == ""


def test_each_command_is_one_file_and_each_file_is_a_command() -> None:
    """A file that is not in the table would be a command that nobody can call."""
    folder = Path(commands.__file__).parent
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert files == set(COMMANDS.values()) and len(COMMANDS) == len(files)
    assert all(command_of(name).HELP.endswith(".") for name in COMMANDS)


def test_the_help_loads_nothing_that_it_does_not_need() -> None:
    """Tables, engines and vendors are imported by the commands that use them."""
    code = (
        "import sys; from devpipe.cli import main; main(['--help']); print(sorted({'pandas',"
        " 'pydantic', 'httpx', 'numpy', 'PIL', 'devpipe.engine.engine'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_console_script_is_installed() -> None:
    """The name people type."""
    assert shutil.which("devpipe", path=str(Path(sys.executable).parent))


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """What a person sees of a command, control sequences and all."""
    process, terminal = None, b""
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [*DEVPIPE, *arguments], stdout=follower, stderr=follower, env=environment(folder)
        )
        os.close(follower)
        with contextlib.suppress(OSError):  # Linux says so when the last writer has gone
            while piece := os.read(leader, 65536):
                terminal += piece
    finally:
        os.close(leader)
    assert process.wait(PATIENCE_S) == 0
    return terminal.decode()


def test_a_terminal_sees_progress_grow(folder: Path) -> None:
    """On one line that is written over, and gone when the stage has ended.

    How texts grow is in test_streaming.py.
    """
    seen = on_a_terminal(
        folder, "run", "a cat in the rain", "-p", "stille_post", "-o", "sketch_video", *SMALL
    )
    overs = [line for line in seen.replace("\r\n", "\n").split("\r\x1b[K") if line.strip()]
    assert sum(" of " in line and "\n" not in line for line in overs) > 5
    assert "completed in" in seen


def test_a_terminal_sees_each_run_of_a_batch(folder: Path, tmp_path: Path) -> None:
    """One line per finished run, numbered."""
    plan = {"prompts": ["a cat"], "seeds": [1, 2, 3], "parameters": {"width": [64], "height": [64]}}
    (tmp_path / "p.yaml").write_text(json.dumps(plan))
    seen = on_a_terminal(folder, "batch", str(tmp_path / "p.yaml"))
    assert [line.split()[:2] for line in seen.splitlines()[:3]] == [
        [f"{n}/3", "completed"] for n in (1, 2, 3)
    ]


def test_an_iteration_that_changes_nothing_is_shown_too(tmp_path: Path) -> None:
    """Only the result of a stage that its step has just shown is not said twice."""
    out = io.StringIO()
    screen = Screen(tmp_path, out=out)
    told = {"part": "prompt", "text": "a cat", "by": "model", "language": "en"}
    screen(TextWritten(stage="interception", step="whisper", iteration=0, **told))
    screen(TextWritten(stage="interception", step="whisper", iteration=1, final=True, **told))
    assert [line.strip() for line in out.getvalue().splitlines()] == [
        "a cat  [en]",
        "2. a cat  [en]",
    ]
    screen(TextWritten(stage="input", step="correct", **told))
    screen(TextWritten(stage="input", final=True, **told))
    assert out.getvalue().count("a cat") == 3
