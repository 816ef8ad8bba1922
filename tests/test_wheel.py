"""What people get from the wheel, without the repository; and from the tree alone, uninstalled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from devpipe import __version__
from devpipe.record.events import RunStarted
from devpipe.record.reader import Recording

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """The standard output of a command; fails with everything it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without network from what the lock installed."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        ROOT,
    )
    return next(folder.glob("devpipe_lab-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a new environment that holds the wheel, and sees our dependencies but not
    this tree.
    """
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    # A folder named in a .pth is searched, but its own .pth files, such as the one of our editable
    # install, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + os.linesep)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--ignore-installed",
        wheel,
    )
    return environment / "bin"


def test_wheel_carries_the_defaults(wheel: Path) -> None:
    """Everything that `devpipe init` copies is in the wheel, as it is in the tree; recordings and
    tests are not.
    """
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("notebooks", "output_configs", "pipelines", "schemas"):
        files = [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".json", ".ipynb") and ".ipynb_checkpoints" not in path.parts
        ]
        assert {f"devpipe/defaults/{path.relative_to(ROOT).as_posix()}" for path in files} <= names
    assert "devpipe/defaults/recordings/README.md" in names
    assert not [name for name in names if name.startswith("tests/") or "recordings/20" in name]


def test_wheel_carries_all_of_devpipe(wheel: Path) -> None:
    """Every module and every data file of the package is in the wheel."""
    files = {
        path
        for path in (ROOT / "devpipe").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(
        zipfile.ZipFile(wheel).namelist()
    )


def test_installed_wheel_runs_without_the_repository(installed: Path, tmp_path: Path) -> None:
    """`devpipe init DIR; cd DIR; devpipe run "..."` makes a picture and a recording in DIR."""
    where = run(installed / "python", "-c", "import devpipe; print(devpipe.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    run(installed / "devpipe", "init", "lab", cwd=tmp_path)
    lab = tmp_path / "lab"
    answer = json.loads(
        run(installed / "devpipe", "run", "a red circle", "--seed", "7", "--json", cwd=lab)
    )
    assert answer["outcome"] == "completed"
    assert Path(lab, answer["recording"]).is_relative_to(lab / "recordings")
    assert len(answer["artifacts"]) == 1
    run(installed / "devpipe", "verify", answer["run_id"], cwd=lab)


@pytest.fixture
def uninstalled(tmp_path: Path) -> dict[str, str]:
    """An environment that finds this tree and our dependencies, and no distribution of ours."""
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "devpipe" not in path.name:
            (dependencies / path.name).symlink_to(path)
    search = os.pathsep.join(map(str, (ROOT, dependencies)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEVPIPE_")}
    return {**kept, "PYTHONPATH": search, "DEVPIPE_RECORDINGS": str(tmp_path / "recordings")}


def test_an_uninstalled_tree_runs(uninstalled: dict[str, str], tmp_path: Path) -> None:
    """On PYTHONPATH alone it says its version and makes a run, whose recording names it."""
    python = (sys.executable, "-S")  # -S: no site-packages, so no editable install either
    ask = "import importlib.metadata as m; print([d.name for d in m.distributions()])"
    found = run(*python, "-c", ask, env=uninstalled, cwd=tmp_path)
    assert "pydantic" in found and "devpipe" not in found
    devpipe = (*python, "-m", "devpipe")
    assert run(*devpipe, "--version", env=uninstalled, cwd=tmp_path).split()[-1] == __version__
    told = run(*devpipe, "run", "a red circle", "--seed", "7", "--json", env=uninstalled, cwd=ROOT)
    answer = json.loads(told)
    assert answer["outcome"] == "completed"
    started = Recording(Path(ROOT, answer["recording"])).beginning
    assert isinstance(started, RunStarted)
    assert started.software["devpipe"] == __version__
