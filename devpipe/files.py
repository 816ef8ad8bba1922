"""Reading a file that a person named: whole, of a possible size, and a file indeed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_plain(path: Path, limit: int) -> bytes:
    """Read a plain file of at most `limit` bytes.

    Raises OSError, also for a pipe or device, which would never end, and for a file that is larger.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a NUL") from error
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a folder, pipe or device, and no file")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes")
    return data
