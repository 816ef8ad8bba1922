"""Where pipelines, outputs and recordings lie: finding a workspace, and making a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from devpipe.errors import UsageError

COPIED = ("pipelines", "output_configs", "schemas", "notebooks", "recordings/README.md")
GITIGNORE = "recordings/*\n!recordings/README.md\n.ipynb_checkpoints/\n"


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


def defaults() -> Path:
    """The folder of the default pipelines, outputs, schemas and notebooks.

    Inside an installed package, or the repository.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "defaults"
    return installed if installed.is_dir() else package.parent


def create(target: Path) -> Path:
    """A new workspace with the defaults in it.

    Raises UsageError, and leaves everything as it was, where a file would be overwritten.
    """
    target = target.expanduser().absolute()
    if is_workspace(target):
        raise UsageError(
            f"{target} is a workspace already; nothing was changed.", hint="Choose another folder."
        )
    files = dict(_files(defaults()))
    present = [str(path) for path in files if (target / path).exists()]
    if present:
        raise UsageError(
            f"{target} has {', '.join(present)} already; nothing was changed.",
            hint="Choose an empty folder.",
        )
    written: list[Path] = []
    try:
        for path, data in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            with (target / path).open("xb") as file:
                written.append(target / path)
                file.write(data)
    except OSError as error:
        for done in written:
            done.unlink(missing_ok=True)
        raise UsageError(
            f"{error.filename or target} cannot be written: {error.strerror}.",
            hint="Choose another folder.",
        ) from error
    return target


def _files(source: Path) -> Iterator[tuple[Path, bytes]]:
    """What a workspace begins with: paths within it, and their bytes."""
    for name in COPIED:
        for path in sorted((source / name).rglob("*")) or [source / name]:
            place = path.relative_to(source)
            if path.is_file() and not any(part.startswith((".", "__")) for part in place.parts):
                yield place, path.read_bytes()
    yield Path("devpipe.toml"), Path(__file__).with_name("workspace.toml").read_bytes()
    yield Path(".gitignore"), GITIGNORE.encode()
