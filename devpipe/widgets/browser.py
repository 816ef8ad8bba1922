"""All runs of a workspace, newest first, to pick one and look at it."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

import ipywidgets as ui

from devpipe.engine.engine import Engine
from devpipe.record.reader import Recording, Recordings
from devpipe.show.language import page_language
from devpipe.text.messages import message
from devpipe.widgets.follow import guarded
from devpipe.widgets.page_guard import GUARDED
from devpipe.widgets.run_panel import RunPanel

COUNT = 200


class RecordingsBrowser:
    """A list of the latest runs; the chosen one is shown below it."""

    def __init__(self, engine: Engine, *, language: str = "") -> None:
        self.recordings: Recordings = engine.recordings  # in a shared page the visitor's own
        self.panel = RunPanel(language=language)
        self.list = ui.Select(
            options=options(self.recordings, COUNT, page_language(language)),
            index=None,
            rows=12,
            description=message("browser.runs", page_language(language)),
        )
        self.list.add_class("dp-runs")
        self.list.observe(guarded(self._chosen, self.panel.alert, language), "value")
        self.widget = ui.VBox([self.list, self.panel.widget])
        self.widget.add_class("dp-browser").add_class(GUARDED)

    def __repr__(self) -> str:
        return f"RecordingsBrowser({len(self.list.options)} runs)"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def _chosen(self, change: Any) -> None:
        if change["new"]:
            self.panel.show(self.recordings.find(change["new"]))


def options(recordings: Recordings, count: int, language: str) -> list[tuple[str, str]]:
    """(label, run id) of the latest runs."""
    latest = sorted(
        itertools.islice(recordings, count),
        key=lambda recording: recording.summary.started_at,
        reverse=True,
    )
    return [
        (_label(recording, language), recording.id) for recording in latest
    ]  # ids order runs by the second only


def _label(recording: Recording, language: str) -> str:
    summary = recording.summary
    started = summary.started
    if started is None:
        return f"{recording.id} {message('page.state.damaged', language)}"
    when = datetime.fromisoformat(summary.started_at).astimezone().strftime("%d.%m. %H:%M:%S")
    prompt = next(iter((started.texts or summary.stages["input"].texts).values()), "")
    return f"{when}  {started.pipeline} → {started.output}  {' '.join(prompt.split())[:60]}"
