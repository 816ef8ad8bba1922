"""The README's examples run, and what it lists is what there is."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from engines import REPOSITORY, engine_in

from devpipe import Engine, Run, Settings
from devpipe.analysis import columns
from devpipe.analysis.index import frame_of
from devpipe.backends.base import Emit
from devpipe.batch.plan import Plan
from devpipe.cli import main
from devpipe.config.backends import BACKENDS
from devpipe.errors import Unavailable
from devpipe.record.events import Warned
from devpipe.values import MediaRequest, MediaResult

README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return [
        inspect.cleandoc(code)
        for code in re.findall(rf"^ *```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    ]


def block(mark: str) -> str:
    """The one Python example that has this."""
    (found,) = (code for code in blocks("python") if mark in code)
    return found


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository as workspace, recordings elsewhere."""
    monkeypatch.setenv("DEVPIPE_HOME", str(REPOSITORY))
    monkeypatch.setenv("DEVPIPE_RECORDINGS", str(tmp_path))


async def test_the_python_tour_runs() -> None:
    """As a notebook would run it, with await at top level."""
    tour, *_ = blocks("python")
    names: dict[str, object] = {}
    code = compile(tour, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)
    assert names["proof"].equal  # type: ignore[attr-defined]
    assert len(names["table"]) == 5  # type: ignore[arg-type]


@pytest.mark.loopback
def test_the_shell_tour_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of the tour ends with status 0."""
    (tour,) = blocks("shell")
    for line in tour.splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert "bauhaus" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Shout", "Card"])
def test_a_backend_example_keeps_the_contract(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the README tells newcomers to write, and the tests it tells them to inherit, work as
    written.
    """
    module = ModuleType(f"devpipe.backends.{name.lower()}")
    exec(compile(block(f"class {name}("), "README.md", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names: dict[str, type] = {}
    exec(compile(block(f"class Test{name}("), "README.md", "exec"), names)
    checks = [check for check in dir(names[f"Test{name}"]) if check.startswith("test_")]
    for check in checks:
        asked = getattr(names[f"Test{name}"](), check)
        asked(tmp_path) if "tmp_path" in inspect.signature(asked).parameters else asked()
    assert len(checks) > 5


def written(name: str) -> type:
    """The class of a README's example."""
    names: dict[str, type] = {}
    exec(compile(block(f"class {name}("), "README.md", "exec"), names)
    return names[name]


def card_run(home: Path, card: type, wrappers: tuple[type, ...] = ()) -> Run:
    """A run to the output config that the README describes in two lines, made by this backend."""
    sketch = REPOSITORY / "output_configs/sketch.json"
    config = json.loads(sketch.read_bytes()) | {"name": "card"}
    for said in ('"medium": "image", "backend": "card", "model": "card"', '"fallback": ["sketch"]'):
        assert f"`{said}`" in README
        config |= json.loads(f"{{{said}}}")
    shutil.copytree(REPOSITORY / "pipelines", home / "pipelines")
    (home / "output_configs").mkdir()
    (home / "output_configs/card.json").write_text(json.dumps(config))
    shutil.copy(sketch, home / "output_configs")
    settings = Settings.load(home, {}, backends=["card", "procedural"])
    engine = Engine(settings=settings, backends={"card": card(settings)}, wrappers=wrappers)
    run = engine.start("a cat", output="card", seed=7, width=64, height=64).wait()
    engine.close()
    assert run.outcome == "completed"
    return run


def warnings(run: Run) -> list[str]:
    return [one.event.message for one in run.events if isinstance(one.event, Warned)]


def test_the_media_backend_draws_an_output(tmp_path: Path) -> None:
    """With the output config's line that the README names, a run ends with its picture."""
    run = card_run(tmp_path, written("Card"))
    assert [one.alt for one in run.artifacts] == ["A card in #000007 for: a cat"]
    assert warnings(run) == []


def test_a_sketch_stands_in_for_the_media_backend(tmp_path: Path) -> None:
    """Where it cannot be reached, and the recording says so."""

    class Down(written("Card")):  # type: ignore[misc]
        async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
            raise Unavailable("The card is out of ink.", hint="Fill it up.")

    run = card_run(tmp_path, Down)
    assert len(run.artifacts) == 1
    assert warnings(run) == ["procedural/sketch stands in for card/card: The card is out of ink."]


def test_the_wrapping_backend_is_around_each(tmp_path: Path) -> None:
    """As one of an engine's wrappers it sees what is made, and what it notes is recorded."""

    class Impatient(written("Noticed")):  # type: ignore[misc]
        slow_s = -1.0

    assert warnings(card_run(tmp_path / "slow", written("Card"), (Impatient,))) == [
        "card/card took 0 s."
    ]
    assert warnings(card_run(tmp_path / "quick", written("Card"), (written("Noticed"),))) == []


def test_the_column_is_a_column(tmp_path: Path) -> None:
    """As one line more in RUNS it gives a value of its dtype."""
    column = eval(block("Column("), vars(columns))
    engine = engine_in(tmp_path)
    run = engine.start("a cat", width=64, height=64).wait()
    engine.close()
    frame = frame_of(
        [columns.Seen.of(run.recording)],
        replace(columns.RUNS, columns=(*columns.RUNS.columns, column)),
    )
    assert frame[column.name].dtype == column.dtype and frame[column.name].tolist() == [0]


def test_the_widget_follows_runs(tmp_path: Path) -> None:
    """As written it counts the events of a run that is under way, and of one on disk."""
    names: dict[str, type] = {}
    exec(compile(block("class EventCounter"), "README.md", "exec"), names)
    engine = engine_in(tmp_path)
    run = engine.start("a cat", width=64, height=64)
    live = names["EventCounter"](run)
    run.wait()
    engine.close()
    stored = names["EventCounter"](engine.recordings.find(run.id))
    assert "now run_finished" in live.widget.value
    assert stored.widget.value == f"{len(run.recording.events)} events, now run_finished"


def test_the_plan_is_a_plan() -> None:
    """Two prompts, three pipelines, three seeds."""
    (plan,) = blocks("yaml")
    assert len(Plan.read(yaml.safe_load(plan)).items()) == 18


def test_nothing_it_lists_is_invented(tmp_path: Path) -> None:
    """Each pipeline, output and backend it names exists.

    One that is added later need not be named.
    """
    catalogue = engine_in(tmp_path).catalogue
    for kind, there in (("Interceptions", catalogue.interceptions), ("Outputs", catalogue.outputs)):
        listed = re.search(rf"\*\*{kind}\*\*.*?: (.*?)\.\s", README, re.DOTALL)
        assert listed
        names = re.split(r",\s+", re.sub(r"\s+\([^)]*\)", "", listed[1]))
        assert len(names) > 5 and set(names) <= set(there)
    table = README.split("| backend | makes | needs |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) <= set(BACKENDS)


def test_the_tree_names_every_folder_and_module() -> None:
    """A part of the package without a line in the tree has no reason to exist."""
    tree = README.split("## The tree")[1].split("## How to add")[0]
    package = REPOSITORY / "devpipe"
    names = {
        path.stem
        for path in package.iterdir()
        if (path.suffix == ".py" or path.is_dir()) and not path.name.startswith("_")
    }
    assert names - {"defaults"} <= set(re.findall(r"\w+", tree))


def test_its_links_lead_somewhere() -> None:
    """Pictures and pages of ours exist."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 1
    for link in links:
        assert (REPOSITORY / link).is_file(), link
