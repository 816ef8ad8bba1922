"""A notebook as one job of a batch: papermill fills its `parameters` cell and runs it.

What papermill lets pass is an error here.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from devpipe.errors import DevpipeError, UnknownName, UsageError
from devpipe.files import read_plain

_IPYTHON = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})
_HOW: dict[str, Any] = {"kernel_name": "python3", "language": "python", "progress_bar": False}
MAX_BYTES = 64_000_000  # of a notebook, with the pictures in it
_STRICT = ConfigDict(strict=True)


class NotebookFailed(DevpipeError):
    """A cell of a notebook raised; the executed copy shows where."""


def parameters(namespace: Mapping[str, Any], **kinds: Any) -> dict[str, Any]:
    """The parameters of a notebook, each of its kind, asked for in the cell after the `parameters`
    cell.

        parameters(globals(), prompts=list[str], width=int)

    papermill sets a misspelt name beside the right one and goes on; here it is an UnknownName that
    offers the nearest. A value of
    another kind is a UsageError.
    """
    for name, value in namespace.items():
        ours = (
            name.startswith("_")
            or name in _IPYTHON
            or isinstance(value, ModuleType | FunctionType | type)
        )
        if name not in kinds and not ours:
            raise UnknownName("parameter", name, kinds)
    missing = [name for name in kinds if name not in namespace]
    if missing:
        raise UsageError(
            f"The parameter {missing[0]!r} has no value.",
            hint="Give it one in the cell tagged `parameters`.",
        )
    return {name: _checked(name, namespace[name], kind) for name, kind in kinds.items()}


def _checked(name: str, value: Any, kind: Any) -> Any:
    try:
        return TypeAdapter(kind, config=_STRICT).validate_python(value)
    except ValidationError as error:
        wanted = (
            getattr(kind, "__name__", str(kind)) if not getattr(kind, "__args__", ()) else str(kind)
        )
        in_shell = "In the shell, lists are given with -y: papermill ... -y 'seeds: [1, 2]'."
        hint = in_shell if isinstance(value, str) else "Correct its value."
        raise UsageError(
            f"The parameter {name} is {value!r}, not of the kind {wanted}.", hint=hint
        ) from error


def declared(notebook: Path) -> list[str]:
    """The names that the notebook's `parameters` cell sets.

    Raises UsageError where there is no such cell.
    """
    cells = [
        cell for cell in _read(notebook).cells if "parameters" in cell.metadata.get("tags", ())
    ]
    if not cells:
        raise UsageError(
            f"{notebook} has no cell tagged `parameters`.", hint="Tag the one that sets them."
        )
    lines = [
        line
        for line in ast.parse(cells[0].source).body
        if isinstance(line, ast.Assign | ast.AnnAssign)
    ]
    targets = [
        target
        for line in lines
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
    ]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _read(notebook: Path) -> Any:
    import nbformat

    try:
        text = read_plain(notebook, MAX_BYTES).decode()
        return nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise UsageError(
            f"{notebook} cannot be read: {error.strerror}.", hint="Check its path."
        ) from error
    except (
        UnicodeDecodeError,
        RecursionError,
        nbformat.reader.NotJSONError,
        nbformat.ValidationError,
    ) as error:
        raise UsageError(
            f"{notebook} is no notebook.", hint="Give a file that ends in .ipynb."
        ) from error


def run_notebook(notebook: Path, output: Path, given: Mapping[str, Any]) -> Path:
    """Run a notebook with these parameters in its own folder, and keep the executed copy as
    `output`, whole or not at all.

    Raises UnknownName before anything runs, and NotebookFailed where a cell raised: the copy then
    shows it.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    known = declared(notebook)
    for name in given:
        if name not in known:
            raise UnknownName("parameter", name, known)
    part = output.with_name(f".{output.stem}.part.ipynb")
    try:
        papermill.execute_notebook(
            str(notebook), str(part), parameters=dict(given), cwd=str(notebook.parent), **_HOW
        )
    except papermill.PapermillExecutionError as error:
        os.replace(part, output)
        hint = f"See cell {error.cell_index} of {output}."
        raise NotebookFailed(
            f"{notebook.name} failed: {error.ename}: {error.evalue}", hint=hint
        ) from error
    except (DeadKernelError, CellTimeoutError) as error:
        os.replace(part, output)
        raise NotebookFailed(
            f"{notebook.name} failed: its kernel died or hung.", hint=f"See how far {output} came."
        ) from error
    os.replace(part, output)
    return output
