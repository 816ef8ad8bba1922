"""How do people use and watch runs in a notebook? Widgets follow the events and own no facts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from devpipe.errors import UsageError

if TYPE_CHECKING:
    from devpipe.widgets.browser import RecordingsBrowser
    from devpipe.widgets.dashboard import Dashboard
    from devpipe.widgets.run_panel import RunPanel

_HOMES = {"Dashboard": "dashboard", "RunPanel": "run_panel", "RecordingsBrowser": "browser"}

_NEEDED = ("ipywidgets", "anywidget")

__all__ = ["Dashboard", "RecordingsBrowser", "RunPanel"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'devpipe.widgets' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"devpipe.widgets.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise UsageError(
            f"Widgets need {error.name}, which is not installed.",
            hint='Run `pip install "devpipe-lab[lab]"`.',
        ) from error
