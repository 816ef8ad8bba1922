"""What other programs leave beside our files is nothing: no damage, no config, no weights."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
from engines import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from shell import Done, here

import devpipe
from devpipe.analysis.export import export
from devpipe.analysis.tables import Tables
from devpipe.analysis.verify import remarks, verify
from devpipe.cli import main
from devpipe.cli.new_workspace import create
from devpipe.config.catalogue import load_catalogue
from devpipe.config.settings import Settings
from devpipe.config.spelling import NAME
from devpipe.debris import is_debris
from devpipe.record.events import RunFinished
from devpipe.record.reader import OWN_FILES, Recording, Recordings, is_file_name
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from tests import recording_maker as make

TABLE: dict[str, list[str]] = tomllib.loads(
    Path(devpipe.__file__).with_name("debris.toml").read_text("utf-8")
)
EXAMPLES = [name for names in TABLE.values() for name in names]
RUN_ID = make.at(1)
APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0"
# copies that a person made: they are told of
COPIES = ["dada (1).json", "dada - Copy.json", "dada-mine.json", "Dada.json"]


def scatter(folder: Path) -> None:
    """Every example in the table, as files, locks that lead nowhere, and folders."""
    for name in EXAMPLES:
        (folder / name).write_bytes(APPLE_DOUBLE)
    (folder / ".#lock.json").symlink_to("anna@host.4711:1764500000")
    (folder / ".AppleDesktop").mkdir()
    (folder / "@eaDir.json").mkdir()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make.completed(tmp_path / "recordings", run_id=RUN_ID)
    return Recordings(tmp_path / "recordings").find(RUN_ID).folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with the default files."""
    return create(tmp_path / "workspace")


@pytest.mark.parametrize("pattern", TABLE)
def test_each_pattern_is_for_names_that_are_met(pattern: str) -> None:
    """And one of them for none of the others."""
    others = [re.compile(other, re.DOTALL) for other in TABLE if other != pattern]
    assert all(re.fullmatch(pattern, name, re.DOTALL) for name in TABLE[pattern])
    assert all(map(is_debris, TABLE[pattern]))
    assert [name for name in TABLE[pattern] if not any(one.fullmatch(name) for one in others)]


@given(st.from_regex(NAME, fullmatch=True))
def test_no_pipeline_or_output_can_be_called_like_debris(name: str) -> None:
    assert not is_debris(f"{name}.json")


@given(st.from_regex(OWN_FILES, fullmatch=True).filter(is_file_name))
def test_no_file_of_a_run_is_called_like_debris(name: str) -> None:
    assert not is_debris(name)


def test_nothing_of_ours_is_called_like_debris() -> None:
    """Of all that a workspace begins with; nor what a person may put there."""
    ours = [path.name for path in REPOSITORY.glob("*/*.json")]
    ours += [path.name for path in (REPOSITORY / "output_configs/graphs").iterdir()]
    assert len(ours) > 30
    others = [
        "events.jsonl",
        "run.json",
        "01_input.txt",
        "notes.docx",
        "war_conflict.json",
        *COPIES,
    ]
    assert [name for name in (*ours, *others) if is_debris(name)] == []


# Recordings.


def test_a_visited_recording_is_whole(run: Path) -> None:
    """Opened in Finder and Explorer, synchronised, edited beside: not one word of it."""
    scatter(run)
    assert (verify(Recording(run)), remarks(Recording(run))) == ([], [])


def test_an_unknown_file_is_a_note(run: Path) -> None:
    """Named, in order, and no damage."""
    (run / "notes.docx").write_bytes(b"")
    (run / "06_image.png").write_bytes(b"")
    (run / "05 copy.png").mkdir()
    recording = Recording(run)
    assert verify(recording) == []
    assert remarks(recording) == ["also there: 05 copy.png, 06_image.png, notes.docx"]


def test_damage_beside_debris_is_still_damage(run: Path) -> None:
    scatter(run)
    (image,) = (name for name in Recording(run).files if name.endswith(".png"))
    (run / image).write_bytes(b"other")
    assert [problem for problem in verify(Recording(run)) if image in problem]
    (run / "events.jsonl").unlink()
    assert [problem for problem in verify(Recording(run)) if "cannot be read" in problem]


def test_the_empty_folder_of_a_dead_writer_is_none_of_its_faults(tmp_path: Path) -> None:
    """A file manager has looked into it."""
    folder = tmp_path / "2026-11-22" / RUN_ID
    folder.mkdir(parents=True, mode=0o700)
    assert verify(Recording(folder)) == []
    (folder / ".DS_Store").write_bytes(b"")
    assert (verify(Recording(folder)), remarks(Recording(folder))) == ([], [])


def test_the_shell_says_so(run: Path, tmp_path: Path) -> None:
    """`verify --all` ends with 0: debris is not mentioned, a stranger is named once."""
    scatter(run)
    call = here(tmp_path / "recordings")
    done = call("verify", "--all")
    assert (done.status, done.out) == (0, f"{run.name}  ok\n1 recordings, none damaged\n")
    (run / "notes.docx").write_bytes(b"")
    done = call("verify", run.name)
    assert (done.status, done.out) == (0, f"{run.name}  ok\n  also there: notes.docx\n")
    told = call("verify", run.name, "--json").json
    assert told == {
        "ok": True,
        "runs": {run.name: []},
        "notes": {run.name: ["also there: notes.docx"]},
    }


def test_lists_tables_and_exports_know_nothing_of_it(run: Path, tmp_path: Path) -> None:
    """Debris in every folder of the recordings, also of other days' folders."""
    root = tmp_path / "recordings"
    before = tmp_path / "before.zip"
    after = tmp_path / "after.zip"
    export(Tables(root), before)
    for folder in (root, run.parent, run, root / ".index"):
        folder.mkdir(exist_ok=True)
        scatter(folder)
    conflict = run.with_name(f"{run.name} (conflicted copy)")
    shutil.copytree(run, conflict, symlinks=True)
    (root / "2026-11-23").write_bytes(APPLE_DOUBLE)
    assert Recordings(root).ids() == [run.name]
    assert list(Tables(root).runs()["run_id"]) == [run.name]
    export(Tables(root), after)
    assert before.read_bytes() == after.read_bytes()
    with zipfile.ZipFile(after) as packed:
        assert not [name for name in packed.namelist() if is_debris(Path(name).name)]


def interrupted(root: Path) -> Path:
    """A run whose writer died with a torn line, and files that no event names."""
    recorder = Recorder.create(root, RUN_ID, redact=Redactor())
    recorder.record(make.started(RUN_ID))
    recorder.write_text("01_input.txt", "unnamed")
    recorder.close()
    with (recorder.folder / "events.jsonl").open("ab") as events:
        events.write(b'{"v":1,"seq":1')
    return recorder.folder


def test_a_resumed_run_deletes_nothing_of_others(tmp_path: Path) -> None:
    """Only what its dead writer left: neither debris, also folders, nor what a person put there."""
    folder = interrupted(tmp_path)
    scatter(folder)
    (folder / "01_input.sync-conflict-20261122-101500-ABCDEFG.txt").write_text("a copy")
    (folder / "notes.docx").write_bytes(b"mine")
    there = {path.name for path in folder.iterdir()}
    recorder = Recorder.resume(folder, redact=Redactor())
    recorder.record(RunFinished(outcome="failed"))
    recorder.close(json.dumps(Recording(folder).summary.to_json()).encode())
    left = {path.name for path in folder.iterdir()}
    assert there - left == {"01_input.txt"}
    assert left - there == {"run.json"}
    assert (verify(Recording(folder)), remarks(Recording(folder))) == (
        [],
        ["also there: notes.docx"],
    )


# Pipelines and outputs.


@pytest.mark.parametrize("folder", ["pipelines", "output_configs", "output_configs/graphs"])
def test_debris_is_no_config(home: Path, folder: str) -> None:
    """It is neither usable nor a fault: the catalogue is as it was."""
    before = load_catalogue(home)
    scatter(home / folder)
    dada = (home / "pipelines/dada.json").read_bytes()
    conflict = "dada.sync-conflict-20261122-101500-ABCDEFG.json"
    (home / folder / conflict).write_bytes(dada)
    after = load_catalogue(home)
    assert after.faults == before.faults == ()
    assert after.interceptions.keys() == before.interceptions.keys()
    assert after.outputs.keys() == before.outputs.keys()


@pytest.mark.parametrize("name", [*COPIES, "dada.yaml"])
def test_a_persons_copy_is_told_of(home: Path, name: str) -> None:
    """What nobody's program leaves is not passed over."""
    shutil.copy(home / "pipelines/dada.json", home / "pipelines" / name)
    assert [fault.file for fault in load_catalogue(home).faults] == [f"pipelines/{name}"]


def test_no_debris_is_offered_as_a_graph(home: Path) -> None:
    """The nearest name is one that can be taken."""
    graphs = home / "output_configs/graphs"
    names = sorted(path.name for path in graphs.glob("*.json"))
    config = next(
        path
        for path in sorted((home / "output_configs").glob("*.json"))
        if json.loads(path.read_text()).get("graph") == names[0]
    )
    raw = json.loads(config.read_text())
    config.write_text(json.dumps(raw | {"graph": f"x{names[0]}"}))
    (graphs / f"._{names[0]}").write_bytes(APPLE_DOUBLE)
    said = "\n".join(map(str, load_catalogue(home).faults))
    assert names[0] in said
    assert "._" not in said


def in_workspace(home: Path, *arguments: str) -> Done:
    """The console script on this workspace."""
    call = here(home / "recordings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shell.REPOSITORY", home)
        return call(*arguments)


@pytest.mark.loopback
def test_the_shell_lists_what_it_listed(home: Path) -> None:
    before = in_workspace(home, "list", "outputs")
    for folder in ("pipelines", "output_configs"):
        scatter(home / folder)
    after = in_workspace(home, "list", "outputs")
    assert (after.status, after.out, after.err) == (0, before.out, "")


def test_debris_is_not_in_the_way_of_a_new_workspace(home: Path, tmp_path: Path) -> None:
    """A folder that was opened in a file manager counts as empty."""
    target = tmp_path / "target"
    target.mkdir()
    scatter(target)
    files = {path.relative_to(home) for path in home.rglob("*") if path.is_file()}
    assert main(["init", str(target)]) == 0
    assert {path for path in files if not (target / path).is_file()} == set()


# Settings.


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_settings_of_notepad_are_read(tmp_path: Path, mark: bytes, end: bytes) -> None:
    """With a byte order mark and Windows' line ends."""
    (tmp_path / "devpipe.toml").write_bytes(
        mark + b"# Einstellungen" + end + b'safety = "kids"' + end
    )
    assert Settings.load(tmp_path, {}).safety == "kids"


def test_settings_in_utf_16_say_what_to_do(tmp_path: Path) -> None:
    """As older PowerShells write them; nothing is guessed."""
    (tmp_path / "devpipe.toml").write_bytes('safety = "kids"\n'.encode("utf-16"))
    with pytest.raises(devpipe.errors.ConfigError, match="save it as UTF-8"):
        Settings.load(tmp_path, {})
