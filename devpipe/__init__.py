"""devpipe: a prompt goes in, four stages act on it, a picture comes out, and everything that
happened is on disk.

from devpipe import Engine
engine = Engine()
run = await engine.run("a cat in the rain", pipeline="dada", output="sketch", seed=7)
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # what type checkers call True; importing `typing` takes ten times as long
if TYPE_CHECKING:
    from devpipe.config.settings import Settings
    from devpipe.engine.engine import Engine
    from devpipe.engine.run import OpenRun, Run
    from devpipe.errors import BackendError, ConfigError, DevpipeError, RecorderError, UsageError
    from devpipe.record.reader import Recording, Recordings
    from devpipe.version import __version__

_HOMES = {  # loaded where first used: `import devpipe` itself does nothing
    "Engine": "engine.engine",
    "Run": "engine.run",
    "OpenRun": "engine.run",
    "Recording": "record.reader",
    "Recordings": "record.reader",
    "Settings": "config.settings",
    "DevpipeError": "errors",
    "UsageError": "errors",
    "ConfigError": "errors",
    "BackendError": "errors",
    "RecorderError": "errors",
    "__version__": "version",
}

__all__ = [
    "BackendError",
    "ConfigError",
    "DevpipeError",
    "Engine",
    "OpenRun",
    "RecorderError",
    "Recording",
    "Recordings",
    "Run",
    "Settings",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'devpipe' has no attribute {name!r}")
    return getattr(importlib.import_module(f"devpipe.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def load_ipython_extension(ipython: object) -> None:
    """`%load_ext devpipe`: the magics %%intercept and %devpipe."""
    from devpipe.magics import DevpipeMagics

    DevpipeMagics(ipython).register()
