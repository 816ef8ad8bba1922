"""The magics in a shell: text in, a run out, and one line for a mistake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError as OneLine

import devpipe
from devpipe import Engine
from devpipe.cli import new_workspace
from devpipe.magics import DevpipeMagics
from devpipe.testing import settings_for_tests


class Shell:
    """As much of IPython's shell as the magics touch."""

    def __init__(self, **variables: Any) -> None:
        self.user_ns = variables
        self.magics: dict[tuple[str, str], Callable[..., Any]] = {}

    def register_magic_function(
        self, function: Callable[..., Any], *, magic_kind: str, magic_name: str
    ) -> None:
        self.magics[magic_kind, magic_name] = function


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(settings=settings_for_tests(new_workspace.create(tmp_path / "workspace")))
    yield engine
    engine.close()


@pytest.fixture
def shell(engine: Engine) -> Shell:
    shell = Shell(engine=engine, animal="Katze", size=64)
    devpipe.load_ipython_extension(shell)
    return shell


def intercept(shell: Shell, line: str, cell: str) -> Any:
    return shell.magics["cell", "intercept"](line, cell)


def look(shell: Shell, line: str) -> Any:
    return shell.magics["line", "devpipe"](line)


def test_a_cell_becomes_a_run(shell: Shell) -> None:
    """Pipeline, output, seed and settings are on the line, the text below it; the ended run comes
    back.
    """
    run = intercept(
        shell,
        "bauhaus -o sketch --seed 7 --text-seed 3 --set width=64 --set height=64",
        "eine rote Katze\n",
    )
    assert run.outcome == "completed" and run.seed == 7
    started = run.summary.started
    assert (started.pipeline, started.text_seed, started.texts, started.parameters) == (
        "bauhaus", 3, {"prompt": "eine rote Katze"}, {"width": 64, "height": 64},
    )  # fmt: skip


def test_variables_stand_for_their_values(shell: Shell) -> None:
    """{name} and $name of the notebook are filled in; unknown ones, prices and code stay text."""
    run = intercept(
        shell,
        "passthrough --set width=64 --set height=64",
        "eine {animal}, $animal, {dog}, $5, {1 + 1}",
    )
    assert run.texts["input"]["prompt"] == "eine Katze, Katze, {dog}, $5, {1 + 1}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dadda", "Did you mean dada"), ("dada --seed x", "no integer"), ("dada --sed 7", "unrecognized arguments"),
        ("dada 'x", "Close the quote"),
        ("dada --set widht=1", "did you mean 'width'"), ("dada --set width", "NAME=VALUE"), ("dada -o skech", "Did you mean sketch"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(shell: Shell, engine: Engine, line: str, said: str) -> None:
    """IPython's own usage error, which it prints without a traceback; nothing is started."""
    with pytest.raises(OneLine, match=said):
        intercept(shell, line, "ein Kreis")
    assert engine.recordings.ids() == []


def test_an_interrupt_while_the_cell_is_told_stops_the_run(
    shell: Shell, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between two waits: the run is cancelled all the same, and so is its recording."""

    class Shown:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            met.append(data["text/plain"])
            raise KeyboardInterrupt

    met: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Shown())
    with pytest.raises(KeyboardInterrupt):
        intercept(shell, "dada -o sketch_video --set frames=96", "ein Boot")
    (run,) = engine.recordings
    assert len(met) == 1 and run.state == "cancelled"


def test_a_blocked_text_is_a_result(shell: Shell) -> None:
    """The run comes back with its outcome, as everywhere."""
    assert intercept(shell, "dada", "eine Rohrbombe").outcome == "blocked"


@pytest.mark.loopback
def test_looking_around(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """check prints, list gives tables, show gives a recording; anything else says what there is."""
    run = intercept(shell, "passthrough --set width=64 --set height=64", "ein Kreis")
    look(shell, "check")
    assert "no faults" in capsys.readouterr().out
    assert "dada" in set(look(shell, "list")["name"]) and "sketch" in set(
        look(shell, "list outputs")["name"]
    )
    assert list(look(shell, "list recordings")["run_id"]) == [run.id]
    assert look(shell, f"show {run.id}").id == run.id
    for line, said in (
        ("lst", "Did you mean list"),
        ("list outpts", "Did you mean outputs"),
        ("show nope", "no run"),
    ):
        with pytest.raises(OneLine, match=said):
            look(shell, line)


def test_without_an_engine_of_the_notebook_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workspace is found as everywhere, and the engine is made once."""
    monkeypatch.setenv("DEVPIPE_HOME", str(new_workspace.create(tmp_path / "other")))
    magics = DevpipeMagics(Shell())
    assert magics.engine is magics.engine and magics.engine.settings.home == tmp_path / "other"
    assert not any(
        thread.name == "devpipe-engine" for thread in threading.enumerate() if not thread.daemon
    )
