"""Where do pipelines, outputs and recordings lie? Finding the workspace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from devpipe.errors import UsageError


def find_home(start: Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Find the workspace: $DEVPIPE_HOME, or the nearest one upwards.

    A workspace has pipelines/ and output_configs/. Raises UsageError where none is.
    """
    named = (os.environ if environ is None else environ).get("DEVPIPE_HOME", "").strip()
    if named:
        home = Path(named).expanduser().absolute()
        if not is_workspace(home):
            raise UsageError(
                f"DEVPIPE_HOME is {named!r}, which is no workspace.",
                hint=f"Correct it, or run `devpipe init {named}`.",
            )
        return home
    place = (start or Path.cwd()).absolute()
    for folder in (place, *place.parents):
        if is_workspace(folder):
            return folder
    raise UsageError(
        f"There is no workspace in {place} or above it.",
        hint="Run `devpipe init DIR`, then `cd DIR`; or set DEVPIPE_HOME.",
    )


def is_workspace(folder: Path) -> bool:
    """Whether a folder has pipelines/ and output_configs/."""
    return (folder / "pipelines").is_dir() and (folder / "output_configs").is_dir()
