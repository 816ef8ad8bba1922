"""A new workspace, with the default pipelines, outputs, notebooks and settings in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from devpipe.config.workspace import is_workspace
from devpipe.debris import is_debris
from devpipe.errors import UsageError

COPIED = ("pipelines", "output_configs", "schemas", "notebooks", "recordings/README.md")
GITIGNORE = "recordings/*\n!recordings/README.md\n.ipynb_checkpoints/\n"


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
            is_ours = not any(part.startswith("__") or is_debris(part) for part in place.parts)
            if path.is_file() and is_ours:
                yield place, path.read_bytes()
    yield Path("devpipe.toml"), Path(__file__).with_name("workspace.toml").read_bytes()
    yield Path(".gitignore"), GITIGNORE.encode()
