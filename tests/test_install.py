"""`make install` takes what the lock names and nothing else, also on the day after newer versions
came out.

pip before 23.3, as Python 3.11 and 3.12 bring it, asks its index once more where a package is
wanted with an extra
(`coverage[toml]`): the newest version has no hash in the lock, and everybody's installation fails
on the day on which it comes out.
Here the index is a folder of toy wheels with the names, versions and extras of the lock, and with a
newer version of each; make
runs its own recipe against it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pip
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from test_setup import ROOT, locked

LOCK, MAKEFILE = ROOT / "requirements.lock", ROOT / "Makefile"
INSTALL_LINE = "install --no-deps --require-hashes --requirement requirements.lock"
# let pip resolve, and failed
LINE_OF_YESTERDAY = "install --require-hashes --requirement requirements.lock"
# a make or a person around us must not reach in
FOREIGN = re.compile(r"PIP_\w+|MAKE\w*|MFLAGS|PYTHON\w*|VENV|VIRTUAL_ENV")
PIP = Path(str(pip.__file__)).parent
PATIENCE_S = 600
TAG = "py3-none-any"
NAME = "devpipe-lab"
PYTHON = """#!/bin/sh
# This Python; an environment that it makes has our pip, where ensurepip would take five seconds to unpack another.
if [ "$1 $2" = "-m venv" ]; then shift 2; set -- -c "$MAKE_VENV" "$@"; fi
exec "$THIS_PYTHON" "$@"
"""
MAKE_VENV = """
import os, pathlib, sys, venv
*options, folder = sys.argv[1:]
venv.create(folder, clear="--clear" in options, symlinks=True)
(site,) = pathlib.Path(folder).glob("lib/python3*/site-packages")
(site / "pip").symlink_to(os.environ["THIS_PIP"])
"""
TOY_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = '''
"""Builds a toy devpipe with the dependencies of the real one, and needs no other package for it."""

import shutil

WHEEL = "{wheel}"


def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy(WHEEL, folder) and WHEEL
'''


def here(pin: Requirement) -> bool:
    """Whether the lock means this system and this Python."""
    return pin.marker is None or pin.marker.evaluate()


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


def newer(version: str) -> str:
    """The version that comes out tomorrow: whatever allows the locked one allows it, too."""
    *head, last = Version(version).release
    return ".".join(str(number) for number in (*head, last + 1))


def toy_wheel(folder: Path, name: str, version: str, real: Message) -> Path:
    """An empty wheel that requires, and offers as extras, what the real distribution does."""
    told = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    told += [
        f"{key}: {value}"
        for key in ("Requires-Dist", "Provides-Extra")
        for value in real.get_all(key, [])
    ]
    stem = f"{re.sub('[-.]+', '_', name)}-{version}"
    files = {
        f"{stem}.dist-info/METADATA": "\n".join(told) + "\n",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: {TAG}\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{stem}.dist-info/RECORD"] = "\n".join([*rows, f"{stem}.dist-info/RECORD,,"]) + "\n"
    path = folder / f"{stem}-{TAG}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_inside, text in files.items():
            wheel.writestr(name_inside, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def metadata(name: str) -> Message:
    found: Message = importlib.metadata.distribution(name).metadata  # type: ignore[assignment]
    return found


def toy_index(folder: Path) -> str:
    """Fill a package index, each package of the lock in two versions; the lock with the hashes of
    the locked ones.
    """
    lines = []
    for pin in locked(LOCK):
        sha256 = "0" * 64  # of another system or Python: pip must not look for it
        if here(pin):
            page = folder / canonicalize_name(pin.name)
            page.mkdir()
            real = metadata(pin.name)
            wheels = [
                toy_wheel(page, pin.name, version, real)
                for version in (version_of(pin), newer(version_of(pin)))
            ]
            sha256 = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
            links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in wheels)
            (page / "index.html").write_text(f"<!doctype html><title>{pin.name}</title>{links}")
        lines.append(f"{pin} --hash=sha256:{sha256}\n")
    return "".join(lines)


class Clone:
    """What make needs of the repository, and an index that it cannot look past."""

    def __init__(
        self, folder: Path, *, index: Path, makefile: str, lock: str, project: Message
    ) -> None:
        self.folder, self.index = folder, index
        self.folder.mkdir()
        wheel = toy_wheel(self.folder, NAME, "1", project)
        (self.folder / "backend.py").write_text(BACKEND.format(wheel=wheel.name))
        (self.folder / "pyproject.toml").write_text(TOY_PROJECT)
        (self.folder / "hatch_build.py").touch()
        (self.folder / "python").write_text(PYTHON)
        (self.folder / "python").chmod(0o755)
        (self.folder / "Makefile").write_text(makefile)
        (self.folder / "requirements.lock").write_text(lock)

    def install(self) -> subprocess.CompletedProcess[str]:
        """`make install` as a person calls it, with no index but the folder: nothing of it needs a
        network.
        """
        told = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
        told |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.index.as_uri()}
        told |= {"THIS_PYTHON": sys.executable, "THIS_PIP": str(PIP), "MAKE_VENV": MAKE_VENV}
        command = ["make", "install", "PYTHON=./python"]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=told,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @property
    def installed(self) -> dict[str, str]:
        """Name and version of everything in the environment."""
        site = next((self.folder / ".venv" / "lib").glob("python3*")) / "site-packages"
        return {
            canonicalize_name(one.name): one.version
            for one in importlib.metadata.distributions(path=[str(site)])
        }


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder of toy wheels, and the lock with their hashes."""
    folder = tmp_path_factory.mktemp("index")
    yield folder, toy_index(folder)
    shutil.rmtree(folder)


@pytest.fixture
def clone(tmp_path: Path, index: tuple[Path, str]) -> Iterator[Callable[..., Clone]]:
    """Makes the one clone of a test, of this repository's Makefile and lock unless told otherwise;
    deletes it.
    """
    folder = tmp_path / "a clone"  # people have folders with a space

    def make(**other: Any) -> Clone:
        usual = {"makefile": MAKEFILE.read_text(), "lock": index[1], "project": metadata(NAME)}
        return Clone(folder, index=index[0], **usual | other)

    yield make
    shutil.rmtree(folder, ignore_errors=True)  # a test that fails early has made none


def test_make_installs_the_locked_versions_beside_newer_ones(clone: Callable[..., Clone]) -> None:
    """Everything that the lock names for this Python, in the locked version, and nothing else."""
    made = clone()
    done = made.install()
    assert done.returncode == 0, done.stdout + done.stderr
    locked_here = {
        canonicalize_name(pin.name): version_of(pin) for pin in locked(LOCK) if here(pin)
    }
    assert made.installed == locked_here | {NAME: "1"}


@pytest.mark.skipif(
    Version(pip.__version__) >= Version("23.3"),
    reason="this pip keeps to the lock by itself (pypa/pip#12095)",
)
def test_a_line_that_lets_pip_resolve_is_caught(clone: Callable[..., Clone]) -> None:
    """The line of yesterday meets the newer version of a package that is wanted with an extra, and
    has no hash for it.
    """
    makefile = MAKEFILE.read_text()
    assert INSTALL_LINE in makefile
    done = clone(makefile=makefile.replace(INSTALL_LINE, LINE_OF_YESTERDAY)).install()
    assert (
        done.returncode
        and "In --require-hashes mode, all requirements must have their versions pinned"
        in done.stderr
    ), done
    assert re.search(r"(coverage|bleach|jsonschema)\[[a-z-]+\]", done.stderr), done.stderr


def test_a_lock_that_lacks_a_package_is_caught(
    clone: Callable[..., Clone], index: tuple[Path, str]
) -> None:
    """pip check proves the lock complete, which --no-deps takes on trust, and says what is
    missing.
    """
    lock = "".join(
        line
        for line in index[1].splitlines(keepends=True)
        if line.startswith(("ptyprocess==", "terminado=="))
    )
    assert lock.count("\n") == 2
    done = clone(lock=lock, project=Message()).install()
    assert done.returncode and "requires tornado, which is not installed" in done.stdout, done
