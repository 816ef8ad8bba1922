"""Importing does nothing."""

from __future__ import annotations

import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import devpipe

PACKAGE = Path(devpipe.__file__).parent


def in_fresh_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_devpipe_loads_nothing_heavy_and_starts_nothing() -> None:
    """No torch, dask, pandas, widget library or HTTP client, no thread."""
    code = (
        "import sys, threading, devpipe;heavy = {'torch', 'dask', 'pandas', 'ipywidgets', 'httpx',"
        " 'numpy', 'PIL', 'pydantic', 'IPython', 'matplotlib'};print(sorted(heavy &"
        " set(sys.modules)), threading.active_count())"
    )
    assert in_fresh_python(code).split() == ["[]", "1"]


def test_an_engine_needs_no_pandas_and_no_widgets() -> None:
    """What only tables and dashboards need is imported by them."""
    code = (
        "import sys; from devpipe import Engine, Recordings;print(sorted({'pandas', 'ipywidgets',"
        " 'matplotlib', 'IPython', 'papermill', 'av'} & set(sys.modules)))"
    )
    assert in_fresh_python(code).strip() == "[]"


def test_recordings_open_without_backends() -> None:
    """The looking side does not import the making side."""
    code = (
        "import sys; from devpipe.record.reader import Recordings; import"
        " devpipe.record.summary;print(sorted(name for name in sys.modules if"
        " name.startswith(('devpipe.backends', 'devpipe.engine.engine', 'devpipe.stages'))))"
    )
    assert in_fresh_python(code).strip() == "[]"


@pytest.mark.parametrize("room", ["text", "show", "widgets", "safety", "cli"])
def test_importing_a_room_opens_none_of_our_files(room: str) -> None:
    """Sentences, styles and lists are read when they are first needed."""
    code = f"""
import importlib, pathlib, pkgutil, sys
import devpipe

package, opened = str(pathlib.Path(devpipe.__file__).parent), []

def hear(event, arguments):
    name = str(arguments[0]) if event == "open" else ""
    if name.startswith(package) and not name.endswith((".py", ".pyc")) and ".pyc." not in name:
        opened.append(name)

sys.addaudithook(hear)
room = importlib.import_module("devpipe.{room}")
modules = [found.name for found in pkgutil.walk_packages(room.__path__, room.__name__ + ".")]
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(modules), opened)
"""
    count, opened = in_fresh_python(code).split(maxsplit=1)
    assert int(count) > 0 and opened.strip() == "[]"


@pytest.mark.parametrize("name", devpipe.__all__)
def test_every_name_of_the_door_is_there_and_documented(name: str) -> None:
    """A name in __all__ is a promise."""
    assert getattr(devpipe, name).__doc__
    assert name in dir(devpipe)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = devpipe.nothing_here  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", ["record", "config"])
def test_importing_a_room_opens_no_file_of_its_own(room: str) -> None:
    """Word lists, rules and defaults are read by whoever first needs them."""
    modules = [f"devpipe.{room}.{path.stem}" for path in (PACKAGE / room).glob("[a-z]*.py")]
    code = (
        "import importlib, sys; opened = []\n"
        "def note(event, args):\n"
        "    if event == 'open' and isinstance(args[0], str): opened.append(args[0])\n"
        "sys.addaudithook(note)\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"print([path for path in opened if path.startswith({str(PACKAGE)!r})"
        " and not path.endswith(('.py', '.pyc')) and '.pyc.' not in path])"
    )
    assert in_fresh_python(code).strip() == "[]"


def test_no_vendor_escapes_the_contract_of_the_small_engine() -> None:
    """Every backend but the contract and the chain is forbidden there, also one added tomorrow."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["name"].startswith("The small engine")]
    named = {*contract["source_modules"], *contract["forbidden_modules"]}
    backends = {path.stem for path in (PACKAGE / "backends").glob("[a-z]*.py")}
    unnamed = sorted(name for name in backends if f"devpipe.backends.{name}" not in named)
    assert unnamed == [], "name them in [tool.importlinter], where it forbids what a vendor is"


def test_no_module_imports_itself_on_any_way() -> None:
    """Not over other modules, the package around it, inside a function or for a type only.

    The contracts in pyproject.toml hold the rooms apart; they overlook a package and its modules.
    """
    graph = grimp.build_graph("devpipe", exclude_type_checking_imports=False, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    imports["devpipe"] = set()  # the door: it finds each name where it is, when it is asked for
    assert list(graphlib.TopologicalSorter(imports).static_order())
