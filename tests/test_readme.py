"""The README's examples run, and what it lists is what there is."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml
from engines import REPOSITORY, engine_in

from devpipe.batch.plan import Plan
from devpipe.cli import main

README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return [inspect.cleandoc(code) for code in re.findall(rf"^ *```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository as workspace, recordings elsewhere."""
    monkeypatch.setenv("DEVPIPE_HOME", str(REPOSITORY))
    monkeypatch.setenv("DEVPIPE_RECORDINGS", str(tmp_path))


async def test_the_python_tour_runs() -> None:
    """As a notebook would run it, with await at top level."""
    (tour, *_) = blocks("python")
    names: dict[str, object] = {}
    code = compile(tour, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)
    assert names["proof"].equal  # type: ignore[attr-defined]
    assert len(names["table"]) == 5  # type: ignore[arg-type]
    names["engine"].close()  # type: ignore[attr-defined]


def test_the_shell_tour_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of the tour ends with status 0."""
    (tour,) = blocks("shell")
    for line in tour.splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert "bauhaus" in capsys.readouterr().out


def test_the_backend_example_keeps_the_contract(tmp_path: Path) -> None:
    """What the README tells newcomers to write works as written."""
    _, example, *_ = blocks("python")
    names: dict[str, type] = {}
    exec(compile(example, "README.md", "exec"), names)
    shout = names["Shout"](engine_in(tmp_path).settings)
    from devpipe.testing import BackendContract
    from devpipe.values import TextRequest

    class Contract(BackendContract):
        text_request = TextRequest("interception", "a cat in the rain")

        def backend(self, settings: object) -> object:  # type: ignore[override]
            return shout

    for name in dir(Contract):
        if name.startswith("test_"):
            check = getattr(Contract(), name)
            check(tmp_path) if "tmp_path" in inspect.signature(check).parameters else check()


def test_the_plan_is_a_plan() -> None:
    """Two prompts, three pipelines, three seeds."""
    (plan,) = blocks("yaml")
    assert len(Plan.read(yaml.safe_load(plan)).items()) == 18


def test_what_it_lists_is_what_there_is(tmp_path: Path) -> None:
    """No pipeline and no output is missing from the lists, and none is invented."""
    catalogue = engine_in(tmp_path).catalogue
    listed = re.search(r"\*\*Interceptions\*\*.*?: (.*?)\. Each", README, re.DOTALL)
    assert listed and re.split(r",\s+", listed[1]) == sorted(catalogue.interceptions)
    for output in catalogue.outputs:
        assert re.search(rf"\b{output}\b", README)


def test_the_tree_names_every_folder_and_module() -> None:
    """A part of the package without a line in the tree has no reason to exist."""
    tree = README.split("## The tree")[1].split("## How to add")[0]
    package = REPOSITORY / "devpipe"
    names = {path.stem for path in package.iterdir() if (path.suffix == ".py" or path.is_dir()) and not path.name.startswith("_")}
    assert names - {"defaults"} <= set(re.findall(r"\w+", tree))


def test_its_pictures_exist() -> None:
    """Relative links lead somewhere."""
    for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (REPOSITORY / link).is_file(), link

