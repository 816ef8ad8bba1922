"""The process that forks devpipe's commands, so that one of them costs no import.

Started once (`python -m tests.faults.commands`), it reads command lines as JSON, one a line; it says
the process of each, and how it ended.
"""

from __future__ import annotations

import json
import os
import sys

import devpipe.analysis.tables  # and pandas: imported here, in no child
import devpipe.batch.runner
import devpipe.offline.sketch
from devpipe.batch import claims
from devpipe.cli import main as devpipe


def lock_nothing(fd: int, *, wait: bool = False) -> None:
    """Broken: everybody gets every lock."""


def child(arguments: list[str], environ: dict[str, str], said: str, *, locks: bool) -> None:
    """One command; what it says goes into a file."""
    os.environ.update(environ)
    if not locks:
        claims.lock_exclusive = lock_nothing
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    status = 70
    try:
        status = devpipe(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            child(job["arguments"], job["environ"], job["said"], locks=job["locks"])
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
