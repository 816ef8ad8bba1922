"""The seam for widgets: follow a run, live or stored, and show whatever goes wrong on the way.

    status = ipywidgets.HTML()
    follow(run, lambda summary, event: setattr(status, "value", h(event.type)))

Events arrive in the engine's thread. Setting a widget's `.value` there works on every ipykernel;
printing does not (the text ends up
nowhere), nor may a callback wait for anything, or ask the run itself: all that is known stands in
the `summary` it is given.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec

from devpipe.engine.events import LiveEvent
from devpipe.engine.run import Run
from devpipe.errors import DevpipeError
from devpipe.record.events import Event, Recorded
from devpipe.record.reader import Recording
from devpipe.record.summary import RunSummary
from devpipe.show.html import h

P = ParamSpec("P")
OnEvent = Callable[[RunSummary, Event], object]
Alert = Any  # an ipywidgets.HTML


def alert_html(error: BaseException) -> str:
    """An error as a message that screen readers announce; for a fault of ours the details are
    folded below it.
    """
    if isinstance(error, DevpipeError):
        return (
            '<div role="alert"'
            f' class="dp-alert"><p>{h(error.message)}</p><p>{h(error.hint)}</p></div>'
        )
    where = "".join(traceback.format_exception(error))
    said = (
        f"<p>{h(type(error).__name__)}: {h(error)}</p><p>This is a fault of devpipe: please report"
        " it.</p>"
    )
    return (
        '<div role="alert"'
        f' class="dp-alert">{said}<details><summary>Details</summary>'
        f"<pre>{h(where)}</pre></details></div>"
    )


def guarded(callback: Callable[P, object], alert: Alert) -> Callable[P, None]:
    """The same callback, its errors shown in `alert`: without this, an exception in a callback is
    seen nowhere.
    """

    @functools.wraps(callback)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:  # any: nobody stands above a widget's callback
            alert.value = alert_html(error)

    return shown


def follow(
    run: Run | Recording, on_event: OnEvent, *, alert: Alert | None = None
) -> Callable[[], None]:
    """Call `on_event(summary, event)` for each event of a run, the past ones first; gives back what
    ends it.

    The summary is the state after the event, by the fold that reads recordings. Errors of the
    callback, and that of a run that
    could not write its ending (a full disk), are shown in `alert`, an ipywidgets.HTML; without one,
    below the cell.
    """
    if alert is None:
        from IPython.display import display
        from ipywidgets import HTML

        # empty, and so unseen, until something goes wrong
        display(alert := HTML())  # type: ignore[no-untyped-call]
    summary = RunSummary()

    def take(event: LiveEvent) -> None:
        if isinstance(event, Recorded):
            summary.add(event)
        on_event(summary, event.event if isinstance(event, Recorded) else event)

    def ended() -> None:
        if summary.finished is None and isinstance(run, Run) and run.failure is not None:
            raise run.failure

    if isinstance(run, Recording):
        for recorded in run.events:
            guarded(take, alert)(recorded)
        return lambda: None
    unfollow = run.follow(guarded(take, alert))
    run.when_ended(guarded(ended, alert))
    return unfollow
