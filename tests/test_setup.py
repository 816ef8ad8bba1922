"""The files that install devpipe agree with each other, and the tests are really cut off from the
network.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import socket
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKED_EXTRAS = {"browser", "dev", "export", "lab", "video"}
PINS = {
    "pillow": (">=13,<14", "12.3.0"),
    "jupyter-server": (">=2.20", "2.19.1"),
    "ipykernel": (">=7.4,<8", "7.3.0"),
    "distributed": (">=2026.1", "2025.12.0"),
}
BREAKING = {"numpy": "3.0", "pandas": "4.0", "pillow": "14.0", "websockets": "18.0"}
PIN_LINE = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; [a-zA-Z0-9_'.*<>=!() -]+)? \\")
HASH_LINE = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
LOCKS = [ROOT / "requirements.lock", *sorted((ROOT / "tests").glob("kernels-*.lock"))]
LOCAL_LOCK = ROOT / "tests" / "local.lock"
MODULES = sorted((ROOT / "devpipe").rglob("*.py"))


def by_name(lines: list[str]) -> dict[str, Requirement]:
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared(*, extras: set[str]) -> dict[str, Requirement]:
    """What pyproject.toml asks for: the core and these extras."""
    optional = project()["optional-dependencies"]
    return by_name(
        [*project()["dependencies"], *(line for extra in extras for line in optional[extra])]
    )


def locked(path: Path) -> list[Requirement]:
    return [
        Requirement(line.rstrip("\\ "))
        for line in path.read_text().splitlines()
        if "==" in line and not line.startswith(" ")
    ]


def conda() -> dict[str, Requirement]:
    """What environment.yml asks for, by conda and by pip, without python, pip and devpipe
    itself.
    """
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [
        entry
        for entry in entries
        if isinstance(entry, str) and entry != "pip" and not entry.startswith("python>")
    ]
    return by_name(
        lines
        + [
            line
            for entry in entries
            if isinstance(entry, dict)
            for line in entry["pip"]
            if not line.startswith("-")
        ]
    )


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
    return names


def test_conda_and_pip_ask_for_the_same() -> None:
    """environment.yml names each dependency that the lock is made from, with the same versions, and
    no other.
    """
    assert {name: str(r.specifier) for name, r in conda().items()} == {
        name: str(r.specifier) for name, r in declared(extras=LOCKED_EXTRAS).items()
    }


def test_every_extra_is_locked_or_known() -> None:
    """A new extra is added to the lock; only dask, which nobody needs on one machine, and torch, of
    many builds, stay out of it.
    """
    assert set(project()["optional-dependencies"]) == LOCKED_EXTRAS | {"dask", "local"}


def test_people_are_told_to_install_our_package() -> None:
    """Hints and pages name devpipe-lab with an extra that it has: `devpipe` on PyPI is somebody
    else's.
    """
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
    told = [
        (path.name, *found)
        for path in (*MODULES, *pages)
        for found in re.findall(r"(devpipe[\w-]*)\[(\w+)\]", path.read_text("utf-8"))
    ]
    extras = {*project()["optional-dependencies"], "shout"}  # of the README's example
    assert len(told) > 8
    assert [one for one in told if one[1] != project()["name"] or one[2] not in extras] == []


def test_python_3_11_everywhere() -> None:
    """pip and conda both ask for Python 3.11 or newer."""
    assert project()["requires-python"] == ">=3.11"
    assert "python>=3.11" in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def test_lock_satisfies_pyproject() -> None:
    """Each dependency is in the lock, and each of its locked versions is one that pyproject.toml
    allows.
    """
    pins = locked(ROOT / "requirements.lock")
    for name, requirement in declared(extras=LOCKED_EXTRAS).items():
        versions = [
            next(iter(pin.specifier)).version for pin in pins if canonicalize_name(pin.name) == name
        ]
        assert versions, f"{name} is missing: make lock"
        assert all(requirement.specifier.contains(version) for version in versions), (
            f"{name} is stale: make lock"
        )


def test_what_runs_local_models_is_pinned_beside_the_lock() -> None:
    """The extra `local` is what tests/local.lock and the Makefile's TORCH pin; what
    requirements.lock pins as well has one version.
    """
    text = re.search(r"^TORCH = (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert text
    ours, theirs = (
        {pin.name: str(pin.specifier) for pin in locked(path)}
        for path in (LOCAL_LOCK, ROOT / "requirements.lock")
    )
    assert not set(ours) & set(theirs)
    pins = {**theirs, **ours, "torch": f"=={text[1]}"}
    for name, requirement in by_name(project()["optional-dependencies"]["local"]).items():
        assert requirement.specifier.contains(pins[name].removeprefix("==")), (
            f"{name} is stale: make lock"
        )


def test_lock_knows_other_systems() -> None:
    """What only macOS needs is locked under a marker, so that one file installs on Linux
    and macOS.
    """
    markers = {pin.name: str(pin.marker) for pin in locked(ROOT / "requirements.lock")}
    assert "darwin" in markers["appnope"].lower()


@pytest.mark.parametrize("path", [*LOCKS, LOCAL_LOCK], ids=lambda path: path.name)
def test_lock_holds_pins_and_hashes_only(path: Path) -> None:
    """Each package is pinned and followed by at least one hash; no host, path or option of pip
    stands anywhere.
    """
    hashes = {"": 1}
    current = ""
    for line in path.read_text().splitlines():
        if PIN_LINE.fullmatch(line):
            current = line
            hashes[current] = 0
        else:
            assert HASH_LINE.fullmatch(line), line
            hashes[current] += 1
    assert len(hashes) > 1
    assert all(hashes.values())


def test_each_extra_kernel_has_its_lock() -> None:
    """The kernels that make installs for the tests are those locked, each at the version that its
    file is named after.
    """
    versions = re.search(r"^KERNELS = (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert versions
    assert [f"kernels-{version}.lock" for version in versions[1].split()] == [
        path.name for path in LOCKS[1:]
    ]
    for path in LOCKS[1:]:
        assert f"ipykernel=={path.stem.removeprefix('kernels-')}" in {
            str(pin) for pin in locked(path)
        }


@pytest.mark.parametrize("name", PINS)
def test_known_holes_stay_closed(name: str) -> None:
    """Versions with known holes or other behaviour are excluded by pyproject.toml itself."""
    specifier = declared(extras=LOCKED_EXTRAS | {"dask"})[name].specifier
    wanted, too_old = PINS[name]
    assert set(str(specifier).split(",")) == set(wanted.split(","))
    assert not specifier.contains(too_old)


@pytest.mark.parametrize("name", BREAKING)
def test_a_major_version_nobody_has_tried_is_not_installed(name: str) -> None:
    """Each of these took something away with its last ones; pip and conda stay below the next."""
    for specifier in (declared(extras=set())[name].specifier, conda()[name].specifier):
        assert not specifier.contains(BREAKING[name])


def test_every_import_is_declared() -> None:
    """What a module imports is the standard library, devpipe, or named in pyproject.toml: nothing
    is there by chance.
    """
    distributions = importlib.metadata.packages_distributions()
    names = set(declared(extras=LOCKED_EXTRAS | {"dask", "local"})) | {
        "pydantic-core"
    }  # one release with pydantic, pinned by it
    for path in MODULES:
        for package in imported(path) - set(sys.stdlib_module_names) - {"devpipe"}:
            found = {canonicalize_name(name) for name in distributions.get(package, [package])}
            assert names & found, (
                f"{path} imports {package}: name it in pyproject.toml and environment.yml, then"
                " make lock"
            )


def test_one_door_to_the_network() -> None:
    """httpx is imported in devpipe/backends/http.py alone: every limit and every redaction stands
    there.
    """
    assert {path for path in MODULES if "httpx" in imported(path)} <= {
        ROOT / "devpipe" / "backends" / "http.py"
    }


@pytest.mark.parametrize(
    "url", ["http://example.org/", "http://192.0.2.1/", "http://127.0.0.1:9/", "http://[::1]:9/"]
)
def test_network_is_refused(url: str, network: object) -> None:
    """A test that opens a connection, even to this machine, gets an error that says how to do
    without.
    """
    with pytest.raises(Exception, match="MockTransport"):
        urllib.request.urlopen(url)
    network.refused.clear()


@pytest.mark.loopback
def test_loopback_is_open_where_marked(network: object) -> None:
    """A marked test reaches a server on this machine, and nothing else."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername() == server.getsockname()
    with pytest.raises(Exception, match="MockTransport"):
        socket.create_connection(("192.0.2.1", 80))
    network.refused.clear()
