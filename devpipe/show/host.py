"""Who shows the page? What a file's link may be, and whether others look at it, hangs on that."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

_VOILA = ("VOILA_PREHEAT", "VOILA_BASE_URL")  # Voila sets them for each of its kernels


def is_shared_page(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this kernel serves a visitor of a page that others visit, too: in Voila.

    The visitor has a kernel of their own, but the workspace is everybody's.
    """
    known = os.environ if environment is None else environment
    return any(name in known for name in _VOILA)


def served_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """The folder whose files the notebook's server serves; None where nobody can tell.

    The server notes it in its runtime folder, under the process id that its kernels are told.
    """
    known = os.environ if environment is None else environment
    server = known.get("JPY_PARENT_PID", "")
    if not server.isdecimal():
        return None
    try:
        from jupyter_core.paths import jupyter_runtime_dir

        note = Path(jupyter_runtime_dir(), f"jpserver-{server}.json")
        return Path(json.loads(note.read_text("utf-8"))["root_dir"])
    except (ImportError, OSError, ValueError, KeyError, TypeError):
        return None  # another kind of server: its links are tried as they are
