"""How many statements the small engine has: what a stranger reads in an evening (bar: 4,700).

A statement is what Python's grammar calls one, without docstrings: line breaks, comments and
documentation cost nothing.

python benchmarks/size.py
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "devpipe"
BAR = 4700
SMALL_ENGINE: Mapping[str, tuple[str, ...]] = {  # by what is read together: patterns of its files
    "the ground": (
        "__init__.py",
        "version.py",
        "values.py",
        "errors.py",
        "aio.py",
        "debris.py",
        "files.py",
    ),
    "record": ("record/**/*.py",),
    "config": ("config/**/*.py",),
    "text": ("text/**/*.py",),
    "backends, their contract and chain": (
        "backends/__init__.py",
        "backends/base.py",
        "backends/registry.py",
        "backends/chain.py",
        "backends/attempts.py",
        "backends/retrying.py",
    ),
    "stages": ("stages/**/*.py",),
    "engine": ("engine/**/*.py",),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def statements(source: str) -> int:
    """The statements of a module, also inside functions and classes; docstrings are none.

    >>> statements('def f():\\n    "Says it."\\n    return 1')
    2
    """
    nodes = list(ast.walk(ast.parse(source)))
    documented = [node for node in nodes if isinstance(node, DOCUMENTED)]
    docstrings = sum(ast.get_docstring(node, clean=False) is not None for node in documented)
    return sum(isinstance(node, ast.stmt) for node in nodes) - docstrings


def files(patterns: tuple[str, ...]) -> Iterator[Path]:
    """The files of one part. Raises SystemExit for a pattern that has none."""
    for pattern in patterns:
        found = sorted(PACKAGE.glob(pattern))
        if not found:
            raise SystemExit(f"devpipe/{pattern} is not there: correct SMALL_ENGINE in {__file__}.")
        yield from found


def main() -> int:
    total = 0
    for part, patterns in SMALL_ENGINE.items():
        size = sum(statements(path.read_text("utf-8")) for path in files(patterns))
        total += size
        print(f"{size:6,}  {part}")
    print(f"{total:6,}  statements in the small engine, of at most {BAR:,}")
    if total > BAR:
        print("Simplify, delete, or move out what it need not know.", file=sys.stderr)
    return int(total > BAR)


if __name__ == "__main__":
    sys.exit(main())
