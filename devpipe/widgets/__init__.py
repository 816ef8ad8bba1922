"""How do people use and watch runs in a notebook? Widgets follow the events and own no facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devpipe.errors import UsageError

if TYPE_CHECKING:
    from devpipe.engine import Engine
    from devpipe.widgets.dashboard import Dashboard


def dashboard(engine: Engine | None = None, *, language: str = "") -> Dashboard:
    """The whole instrument as one panel: prompt, pipeline, output, seed; run, stop, edit, again. German for language="de"."""
    try:
        from devpipe.widgets.dashboard import Dashboard
    except ModuleNotFoundError as error:
        raise UsageError("The dashboard needs ipywidgets, which is not installed.", hint="Run `pip install devpipe[lab]`.") from error
    if engine is None:
        from devpipe.engine import Engine

        engine = Engine()
    return Dashboard(engine, language=language)
