"""What every test gets: no network, and none of the person's keys, settings or Jupyter files."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import hypothesis
import pytest

FOREIGN_SETTINGS = re.compile(
    r"(DEVPIPE|OLLAMA|OPENAI|OPENROUTER|REPLICATE|STABILITY|COMFYUI|JUPYTER|IPYTHON)\w*"
    r"|PYTHON(PATH|UNBUFFERED|DONTWRITEBYTECODE)|\w+_proxy",
    re.I,
)
collect_ignore = (
    [] if importlib.util.find_spec("torch") else ["tiny_models.py"]
)  # doctests would import it
PRIVATE_FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
)


class NetworkRefused(OSError):
    """A test tried to leave this process.

    Fake the wire with httpx.MockTransport, or mark the test `loopback`.
    """


class NetworkGuard:
    """Refuses every connection and name look-up of this process; `refused` lists what was tried
    since the test began.

    Kernels are reached over ZeroMQ's own sockets, and child processes have their own: both are left
    alone.
    """

    def __init__(self) -> None:
        self.loopback = False
        self.refused: list[str] = []

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit hook: sees what any library does, whichever way it calls the system."""
        if event in ("socket.connect", "socket.sendto"):
            if args[0].family in (socket.AF_INET, socket.AF_INET6):
                self._check(str(args[1][0]), loopback_allowed=self.loopback)
        elif event == "socket.getaddrinfo" and args[0]:
            host = args[0].decode() if isinstance(args[0], bytes) else args[0]
            self._check(host, loopback_allowed=True)

    def _check(self, host: str, *, loopback_allowed: bool) -> None:
        if loopback_allowed and is_loopback(host):
            return
        self.refused.append(host)
        raise NetworkRefused(f"{host}: {NetworkRefused.__doc__}")


def is_loopback(host: str) -> bool:
    """True for this machine's own addresses, which need no network to be looked up or reached."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


GUARD = pytest.StashKey[NetworkGuard]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--comfyui-url", default="", help="a real ComfyUI, for tests/test_comfyui_real.py"
    )
    parser.addoption(
        "--comfyui-command",
        default="",
        help="starts another ComfyUI on {port}, to be killed and restarted by one of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    _hear_interrupts()
    _forget_deadlines()
    guard = config.stash[GUARD] = NetworkGuard()
    sys.addaudithook(guard.audit)
    folder = tempfile.TemporaryDirectory(prefix="devpipe-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in [name for name in os.environ if FOREIGN_SETTINGS.fullmatch(name)]:
        patch.delenv(name)
    # Each look is at every installed package, 5 ms; none comes or goes while tests run.
    patch.setattr(metadata, "entry_points", cache(metadata.entry_points))
    for name in PRIVATE_FOLDERS:
        patch.setenv(name, str(Path(folder.name, name.lower())))


def _hear_interrupts() -> None:
    """Undo what a script does to whatever it runs in the background: each process of a test would
    inherit an ignored Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN:
        signal.signal(hangup, signal.SIG_DFL)  # started under nohup: children would ignore it


def _forget_deadlines() -> None:
    """Fail no example of Hypothesis for its 0.2 s: those tell how busy the machine is."""
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def network(request: pytest.FixtureRequest) -> Iterator[NetworkGuard]:
    """The guard, open to this machine for tests marked `loopback` or `browser`; a swallowed refusal
    fails the test all the same.
    """
    guard = request.config.stash[GUARD]
    guard.refused.clear()
    guard.loopback = any(request.node.get_closest_marker(name) for name in ("loopback", "browser"))
    yield guard
    guard.loopback = False
    assert not guard.refused, f"tried to reach {guard.refused}"
