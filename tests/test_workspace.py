"""Finding a workspace, and making one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from devpipe.cli.new_workspace import create, defaults
from devpipe.config.catalogue import load_catalogue
from devpipe.config.settings import Settings
from devpipe.config.workspace import find_home
from devpipe.errors import UsageError


def workspace(folder: Path) -> Path:
    for name in ("pipelines", "output_configs"):
        (folder / name).mkdir(parents=True)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_nearest_folder_upwards_is_the_workspace(tmp_path: Path) -> None:
    """From any folder inside; a folder with only one of the two is none."""
    inner = workspace(workspace(tmp_path / "outer") / "a" / "inner")
    (inner / "notebooks" / "pipelines").mkdir(parents=True)

    assert inner == find_home(inner / "notebooks", {})
    assert inner == find_home(inner, {})
    assert tmp_path / "outer" == find_home(tmp_path / "outer" / "a", {})


def test_the_current_folder_is_where_the_search_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook finds the workspace it lies in."""
    monkeypatch.chdir(workspace(tmp_path / "here"))

    assert tmp_path / "here" == find_home(environ={})


def test_the_environment_names_another_workspace(tmp_path: Path) -> None:
    """DEVPIPE_HOME goes before the search; an empty one says nothing."""
    here, there = workspace(tmp_path / "here"), workspace(tmp_path / "there")

    assert there == find_home(here, {"DEVPIPE_HOME": str(there)})
    assert here == find_home(here, {"DEVPIPE_HOME": " "})


def test_no_workspace_says_what_to_do(tmp_path: Path) -> None:
    """The message names `devpipe init`; a wrong DEVPIPE_HOME is named, not silently passed over."""
    with pytest.raises(UsageError, match="devpipe init DIR"):
        find_home(tmp_path, {})
    with pytest.raises(UsageError, match=r"DEVPIPE_HOME is .*nowhere"):
        find_home(workspace(tmp_path / "here"), {"DEVPIPE_HOME": str(tmp_path / "nowhere")})


def test_a_new_workspace_is_complete(tmp_path: Path) -> None:
    """It has the default pipelines, outputs, schemas and notebooks, sound ones, and the level
    visible in devpipe.toml.
    """
    home = create(tmp_path / "new" / "place")

    catalogue = load_catalogue(home)
    assert catalogue.faults == ()
    assert set(load_catalogue(defaults()).outputs) == set(catalogue.outputs)
    assert 'safety = "youth"' in (home / "devpipe.toml").read_text().splitlines()
    assert Settings.load(home, {}).safety == "youth"
    assert {
        "devpipe.toml",
        ".gitignore",
        "schemas/pipeline.schema.json",
        "recordings/README.md",
    } <= set(snapshot(home))
    assert home == find_home(home / "notebooks", {})


def test_every_line_of_the_new_settings_can_be_used(tmp_path: Path) -> None:
    """What devpipe.toml shows as a comment is right once the # is gone."""
    home = create(tmp_path / "new")
    lines = (home / "devpipe.toml").read_text().splitlines()
    text = "\n".join(line.removeprefix("# ") if " = " in line else line for line in lines)
    (home / "devpipe.toml").write_text(text)

    settings = Settings.load(home, {}, backends=["ollama"])
    assert {
        "safety",
        "provenance",
        "recordings",
        "budget_usd",
        "boundary",
        "judge_seconds",
        "models",
    } == set(tomllib.loads(text))
    assert (settings.models["judge"], settings.budget_usd) == ("local: ollama/llama-guard3:1b", 5.0)


def test_a_workspace_is_never_overwritten(tmp_path: Path) -> None:
    """A second `init` changes nothing."""
    home = create(tmp_path / "new")
    (home / "pipelines" / "dada.json").write_text("mine")
    before = snapshot(home)

    with pytest.raises(UsageError, match="is a workspace already"):
        create(home)
    assert before == snapshot(home)


def test_a_file_of_the_person_is_never_overwritten(tmp_path: Path) -> None:
    """A folder that has one of the files is refused with their names, before anything is
    written.
    """
    (tmp_path / "devpipe.toml").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(UsageError, match=r"has devpipe\.toml already; nothing was changed"):
        create(tmp_path)
    assert {"devpipe.toml", "notes.txt"} == set(snapshot(tmp_path))


def test_a_folder_with_other_files_becomes_a_workspace(tmp_path: Path) -> None:
    """What lies there stays."""
    (tmp_path / "notes.txt").write_text("mine")

    create(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """One line says which place it is; what was written until then is gone."""
    (tmp_path / "schemas").write_text("a file where a folder must be")

    with pytest.raises(UsageError, match="cannot be written"):
        create(tmp_path)
    assert {"schemas"} == set(snapshot(tmp_path))
    with pytest.raises(UsageError, match="cannot be written"):
        create(tmp_path / "schemas" / "below")
