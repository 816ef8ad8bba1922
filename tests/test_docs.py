"""docs/architecture.md is true of the code: what it names exists, and its drawing is the rooms'.

CONTRIBUTING.md names nothing that is not there either.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from functools import lru_cache

import pytest
from engines import REPOSITORY

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
PACKAGE = REPOSITORY / "devpipe"
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
NAMED = re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE + CONTRIBUTING)
LINTER = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@lru_cache
def names(path: str) -> frozenset[str]:
    """Everything that a module defines, methods as Class.method."""
    return frozenset(_defined(ast.parse((PACKAGE / path).read_text("utf-8")).body))


def _defined(body: list[ast.stmt], around: str = "") -> list[str]:
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            found += [around + node.name, *_defined(node.body, f"{around}{node.name}.")]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(around + node.name)
        elif isinstance(node, ast.Assign):
            found += [around + one.id for one in node.targets if isinstance(one, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(around + node.target.id)
    return found


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_what_the_page_names_is_there(path: str, name: str) -> None:
    """Each `file:name` leads to a definition."""
    assert name in names(path)


@pytest.mark.parametrize("page", [PAGE, CONTRIBUTING], ids=["architecture", "contributing"])
def test_the_files_it_names_are_there(page: str) -> None:
    """Seen from devpipe/, or from the repository."""
    files = set(re.findall(r"`([\w/]+\.(?:py|json|md|toml))\b", page)) - {"run.json"}
    assert len(files) > 8
    for file in files:
        assert (PACKAGE / file).exists() or (REPOSITORY / file).exists(), file


def test_the_walk_meets_no_stop_twice() -> None:
    """But for the journal, which everything passes."""
    stops = re.findall(r"`([\w/]+\.py:[\w.]+)`", section("A prompt, stop by stop"))
    twice = {stop for stop, count in Counter(stops).items() if count > 1}
    assert len(stops) > 20
    assert twice <= {"engine/journal.py:RunJournal.commit"}


def test_the_drawing_is_that_of_the_import_rules() -> None:
    """Line by line the layers of pyproject.toml, and each contract by its name."""
    layers, *_ = LINTER["contracts"]
    drawn = section("The rooms").split("```")[1].strip("\n").splitlines()
    wanted = [re.findall(r"\w+", layer) for layer in layers["layers"]]
    assert len(drawn) == len(wanted)
    for line, rooms in zip(drawn, wanted, strict=True):
        said = re.split(r"\s{3,}", line.strip())[0]
        assert sorted(said.split()) == sorted(rooms)
    for contract in LINTER["contracts"]:
        assert f"*{contract['name']}*" in PAGE
