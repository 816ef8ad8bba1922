"""devpipe's commands as processes of their own that cost no import: forked from one that has it all.

Started once (`python tests/forked.py FD`), it takes from a socket the files of one command after the
other: its words and environment as JSON, and its three standard streams. It says the process of each,
and how it ended.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

AT_START = ("PYTHON", "LC_", "LANG", "MALLOC")  # read by an interpreter while it starts
COMMAND = b"!"  # what comes with the files of each


class Forker:
    """The process that forks, seen from a test."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._said = ours.makefile("r", encoding="ascii", newline="\n")
        self._environ = dict(os.environ)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def starts_alike(self, environ: Mapping[str, str]) -> bool:
        """Whether an interpreter of this environment would start as the one that forks did."""
        names = {name for name in {*environ, *self._environ} if name.startswith(AT_START)}
        return all(environ.get(name) == self._environ.get(name) for name in names)

    def run(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        cwd: Path,
        stdin: bytes,
        patience_s: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command to its end; past `patience_s` it is killed, and TimeoutExpired raised."""
        job = {"arguments": list(arguments), "environ": dict(environ), "cwd": str(cwd)}
        with contextlib.ExitStack() as opened:
            files = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(4)]
            for file, content in zip(files, (json.dumps(job).encode(), stdin), strict=False):
                file.write(content)
                file.seek(0)
            socket.send_fds(self._socket, [COMMAND], [file.fileno() for file in files])
            pid = int(self._said.readline())
            if not select.select([self._socket], [], [], patience_s)[0]:
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(int(self._said.readline()))
            for file in files[2:]:
                file.seek(0)
            out, err = (file.read() for file in files[2:])
        if status == -signal.SIGKILL:
            raise subprocess.TimeoutExpired(list(arguments), patience_s, out, err)
        return subprocess.CompletedProcess(arguments, status, out, err)

    def close(self) -> None:
        self._said.close()
        self._socket.close()
        self._process.wait()


def become(job: Mapping[str, object], streams: Sequence[int]) -> None:
    """Be the process of one command, from its first line to the interpreter's own end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(job["environ"])  # type: ignore[call-overload]
    os.chdir(str(job["cwd"]))
    time.tzset()
    tempfile.tempdir = None  # it may be another one in this environment
    sys.argv = ["devpipe", *job["arguments"]]  # type: ignore[misc]
    runpy.run_module("devpipe.cli", run_name="__main__", alter_sys=True)


def serve(wire: socket.socket) -> None:
    """Fork once for each command line, until the test's end of the socket closes."""
    while True:
        command, files, _, _ = socket.recv_fds(wire, len(COMMAND), 4)
        if not command:
            return
        pid = os.fork()
        if not pid:
            wire.close()
            with open(files[0], "rb") as job:
                become(json.load(job), files[1:])
            return
        for file in files:
            os.close(file)
        wire.sendall(b"%d\n" % pid)
        wire.sendall(b"%d\n" % os.waitpid(pid, 0)[1])


def prepare() -> None:
    """Import what commands import, and read the model that tells languages apart: 1 s of CPU."""
    import devpipe.analysis.tables
    import devpipe.batch.runner
    import devpipe.cli.dispatch
    import devpipe.offline.sketch
    import devpipe.text.language

    devpipe.text.language.load()
    gc.collect()
    gc.freeze()  # else each child's collector copies all pages of its memory: twice the CPU time


if __name__ == "__main__":
    prepare()
    serve(socket.socket(fileno=int(sys.argv[1])))
