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
from devpipe.show.html import fold, h, problem_html
from devpipe.show.language import page_language
from devpipe.show.problems import PageProblem, fault, page_problem
from devpipe.text.messages import message

P = ParamSpec("P")
OnEvent = Callable[[RunSummary, Event], object]
Alert = Any  # an ipywidgets.HTML


class PageError(DevpipeError):
    """An error that is raised in the page's own words; `details` is for an adult."""

    def __init__(self, sentence: str, *, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


def alert_html(error: BaseException, language: str = "", *, kind: str = "") -> str:
    """An error as a message that screen readers announce, in the words of the page.

    What only an adult understands is folded below it: the exact words, and of a fault of ours where
    it happened. `kind`: the name of the error's class, where only a recording knows it.
    """
    spoken = page_language(language)
    if isinstance(error, PageError):
        inside = problem_html(PageProblem((error.message,), error.details), spoken)
    elif isinstance(error, DevpipeError):
        inside = problem_html(page_problem(error, spoken, kind=kind), spoken)
    else:
        where = "".join(traceback.format_exception(error))
        exact = f"<p>{h(type(error).__name__)}: {h(error)}</p><pre>{h(where)}</pre>"
        folded = fold(message("page.exact_words", spoken), exact)
        inside = f"<p>{h(fault(spoken))}</p>{folded}"
    return f'<div role="alert" class="dp-alert">{inside}</div>'


def guarded(callback: Callable[P, object], alert: Alert, language: str = "") -> Callable[P, None]:
    """The same callback, its errors shown in `alert`: without this, an exception in a callback is
    seen nowhere. `language` is the page's; without one, that of this machine.
    """

    @functools.wraps(callback)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:  # any: nobody stands above a widget's callback
            alert.value = alert_html(error, language)

    return shown


def follow(
    run: Run | Recording, on_event: OnEvent, *, alert: Alert | None = None, language: str = ""
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
            guarded(take, alert, language)(recorded)
        return lambda: None
    unfollow = run.follow(guarded(take, alert, language))
    run.when_ended(guarded(ended, alert, language))
    return unfollow
