"""How are files of a recording opened, locked and replaced, on systems with and without POSIX?

Reading works everywhere. Writing asks for more: an exclusive lock that dies with its process,
folders that can be opened and synced, and files made below an open folder. Windows has none of the
three.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from devpipe.errors import RecorderError

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # where it is missing, `check_system` lets nobody write
# O_NONBLOCK: a pipe is opened, and refused
_TO_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | NO_LINK | getattr(os, "O_NONBLOCK", 0)
# what a file system says to an fsync it does not know: shares (CIFS, drvfs, sshfs) of that of a
# folder, macOS of F_FULLFSYNC on shares and FAT
_UNKNOWN_TO_IT = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EISDIR,
)


def open_to_read(path: Path) -> int:
    """Open a file without following a link. Raises OSError."""
    if not NO_LINK and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return os.open(path, _TO_READ)


def check_system() -> None:
    """Raises RecorderError, naming it, where this system lacks what a recording is written with."""
    missing = [name for name in ("O_DIRECTORY", "O_NOFOLLOW", "fchmod") if not hasattr(os, name)]
    try:
        import fcntl  # noqa: F401  # only to see whether it is there
    except ImportError:
        missing.append("fcntl")
    if missing:
        raise RecorderError(
            f"This system cannot write recordings: it has no {', '.join(missing)}.",
            hint="They can be read here; run devpipe on Linux, macOS or WSL.",
        )


def lock_exclusive(fd: int, *, wait: bool = False) -> None:
    """Lock the file for this process; the kernel frees it with the process.

    Raises BlockingIOError where another one has it, unless it shall `wait`. Only where
    `check_system` passes.
    """
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def is_locked(file: Path) -> bool:
    """Whether a process has the file open for writing. Where nobody can lock, nobody writes.

    The kernel says so, and forgets it with the process.
    """
    try:
        import fcntl

        fd = open_to_read(file)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as exc:
        return isinstance(exc, BlockingIOError)  # else the file system has no locks
    finally:
        os.close(fd)
    return False


class SyncError(OSError):
    """A failed fsync, told from other failures."""


def sync(fd: int) -> bool:
    """Make what was written durable, on the disk itself. Raises SyncError.

    False where the file system cannot do all of that: it knows no fsync of a folder, or no way to
    empty the drive's cache. The fsync of a file must succeed everywhere.
    """
    import fcntl

    may_be_unknown = os.path.isdir(fd)
    try:
        os.fsync(fd)
        may_be_unknown = True
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves it in the drive's cache
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    except OSError as exc:
        if may_be_unknown and exc.errno in _UNKNOWN_TO_IT:
            return False
        raise SyncError(exc.errno, exc.strerror) from exc
    return True


def begin_to_write(fds: list[int]) -> None:
    """Ask the system to begin writing these files.

    One commit of the file system's journal then serves all fsyncs: a quarter of the time.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # only a hint: a file system need not know it
            for fd in fds:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
