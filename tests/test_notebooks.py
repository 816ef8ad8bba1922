"""The notebooks run from top to bottom, offline, twice with the same result; a batch's notebook
takes no wrong parameter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from devpipe.batch.notebooks import NotebookFailed, declared, parameters, run_notebook
from devpipe.cli import new_workspace
from devpipe.errors import UnknownName, UsageError
from devpipe.record.reader import Recordings

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ALL = sorted(
    path.relative_to(NOTEBOOKS).as_posix()
    for path in NOTEBOOKS.rglob("*.ipynb")
    if ".ipynb_checkpoints" not in path.parts
)
EXPLORED = [name for name in ALL if not name.startswith("batch/")]
MAX_BYTES = 200_000
MAX_LINES = 15  # a longer cell has found something missing in the package


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the notebooks in it, recordings outside it."""
    home = new_workspace.create(tmp_path / "workspace")
    shutil.copytree(NOTEBOOKS, home / "notebooks", dirs_exist_ok=True)
    monkeypatch.setenv("DEVPIPE_RECORDINGS", str(tmp_path / "recordings"))
    return home


def test_there_are_the_notebooks_that_the_readme_names() -> None:
    """A numbered path for people, and one for batches."""
    assert ALL == [
        "00_start.ipynb",
        "01_dashboard.ipynb",
        "02_compare.ipynb",
        "03_recordings.ipynb",
        "batch/sweep.ipynb",
    ]


@pytest.mark.parametrize("name", ALL)
def test_notebooks_are_committed_clean_and_thin(name: str) -> None:
    """No outputs, no counts, small, short cells, and the kernel that everybody has."""
    path = NOTEBOOKS / name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < MAX_BYTES
    assert notebook.metadata.kernelspec.name == "python3" and "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert len(cell.source.splitlines()) <= MAX_LINES, cell.source
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            assert "def " not in cell.source, "what needs a function belongs in the package"


@pytest.mark.parametrize("name", EXPLORED)
def test_a_notebook_run_twice_says_the_same_twice(home: Path, tmp_path: Path, name: str) -> None:
    """Executed once, then compared by nbval, strictly: only times and ids may differ, not a word
    and not a pixel of a thumbnail.
    """
    notebook = home / "notebooks" / name
    _python(
        "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", str(notebook)
    )
    shutil.rmtree(tmp_path / "recordings", ignore_errors=True)  # the dashboard alone makes none
    options = [
        "--nbval",
        "--nbval-current-env",
        "--nbval-cell-timeout=120",
        f"--nbval-sanitize-with={NOTEBOOKS / 'sanitize.cfg'}",
    ]
    _python(
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        f"--rootdir={home}",
        "-p",
        "no:cacheprovider",
        *options,
        str(notebook),
    )
    assert name == "01_dashboard.ipynb" or Recordings(tmp_path / "recordings").ids()


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def test_a_sweep_is_run_with_its_parameters_and_kept(home: Path, tmp_path: Path) -> None:
    """papermill fills in what is given; the executed copy holds it and its results, and the
    recordings are its batch.
    """
    given = {"prompts": ["ein blauer Mond"], "seeds": [5], "width": 64}
    kept = run_notebook(
        home / "notebooks" / "batch" / "sweep.ipynb", tmp_path / "kept.ipynb", given
    )
    copy = nbformat.read(kept, as_version=4)
    injected = [
        cell for cell in copy.cells if "injected-parameters" in cell.metadata.get("tags", ())
    ]
    assert len(injected) == 1 and "ein blauer Mond" in injected[0].source
    assert "2 completed" in str(copy.cells) and kept.stat().st_size < 1_000_000
    runs = list(Recordings(tmp_path / "recordings"))
    assert {run.summary.seed for run in runs} == {5} and len(runs) == 2
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["kept.ipynb"]


def test_a_misspelt_parameter_starts_nothing(home: Path, tmp_path: Path) -> None:
    """papermill itself would write a line into its log and go on with the default."""
    with pytest.raises(UnknownName, match="Did you mean width"):
        run_notebook(
            home / "notebooks" / "batch" / "sweep.ipynb", tmp_path / "kept.ipynb", {"widht": 64}
        )
    assert not (tmp_path / "kept.ipynb").exists() and not (tmp_path / "recordings").exists()


def test_papermill_itself_ends_with_an_error_on_a_misspelt_parameter(
    home: Path, tmp_path: Path
) -> None:
    """Also from the shell: the cell after the parameters finds the name that nobody asked for."""
    sweep = [
        str(home / "notebooks" / "batch" / "sweep.ipynb"),
        str(tmp_path / "kept.ipynb"),
        "--cwd",
        str(home / "notebooks" / "batch"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", *sweep, "-p", "widht", "64"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0 and "Did you mean width" in done.stderr
    assert not (tmp_path / "recordings").exists()


def _notebook(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path


def test_a_failing_notebook_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    """The copy shows the cell that raised; the error names it."""
    notebook = _notebook(tmp_path / "broken.ipynb", "a = 1", "print(a)", "1 / 0")
    with pytest.raises(NotebookFailed, match="ZeroDivisionError") as caught:
        run_notebook(notebook, tmp_path / "kept.ipynb", {"a": 2})
    assert str(tmp_path / "kept.ipynb") in caught.value.hint
    assert "ZeroDivisionError" in (tmp_path / "kept.ipynb").read_text()


def test_a_notebook_whose_kernel_dies_has_failed(tmp_path: Path) -> None:
    """A kernel that is gone is a failure with a name, not a copy that looks whole."""
    notebook = _notebook(tmp_path / "dying.ipynb", "a = 1", "import os; os._exit(1)")
    with pytest.raises(NotebookFailed, match="kernel"):
        run_notebook(notebook, tmp_path / "kept.ipynb", {})


def test_declared_are_the_names_of_the_parameters_cell(tmp_path: Path) -> None:
    """Annotated ones count, too; no such cell, or no notebook, is a usage error."""
    assert declared(
        _notebook(tmp_path / "a.ipynb", "a = 1\nb: int | None = None\nprint(a)", "c = 1")
    ) == ["a", "b"]
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "b.ipynb")
    (tmp_path / "c.ipynb").write_text("{}")
    for name, said in (("b", "no cell tagged"), ("c", "is no notebook"), ("d", "cannot be read")):
        with pytest.raises(UsageError, match=said):
            declared(tmp_path / f"{name}.ipynb")


def test_parameters_are_of_the_kinds_asked_for() -> None:
    """Whatever else a notebook has is left alone; a stranger, a missing one and one of another kind
    are named.
    """
    around = {
        "_x": 1,
        "In": [],
        "get_ipython": print,
        "os": os,
        "run_notebook": run_notebook,
        "Path": Path,
    }
    assert parameters(around | {"a": [1], "b": "x"}, a=list[int], b=str) == {"a": [1], "b": "x"}
    with pytest.raises(UnknownName, match="Did you mean seeds"):
        parameters({"seeds": [1], "seed": 2}, seeds=list[int])
    with pytest.raises(UsageError, match="no value"):
        parameters({}, a=int)
    with pytest.raises(UsageError, match=r"list\[int\].*-y"):
        parameters({"a": "[1, 2]"}, a=list[int])
    with pytest.raises(UsageError, match="kind int"):
        parameters({"a": True}, a=int)
