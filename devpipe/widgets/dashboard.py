"""The whole instrument as one panel.

Nothing in it blocks the kernel, and nothing is known here that is not in a recording.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ClassVar

import ipywidgets as ui
from pydantic import ValidationError

from devpipe.cli.reachable import find_unreachable, find_unready
from devpipe.engine.engine import Engine
from devpipe.engine.run import OpenRun, Run
from devpipe.errors import BackendError, UsageError
from devpipe.media import provenance
from devpipe.record.reader import Recording
from devpipe.show.language import page_language
from devpipe.text.messages import message
from devpipe.widgets.browser import options
from devpipe.widgets.follow import PageError, guarded
from devpipe.widgets.form import Filled, Form
from devpipe.widgets.page_guard import GUARDED
from devpipe.widgets.run_panel import RunPanel

EARLIER_RUNS = 30
PARTS = ("prompt", "prompt_2")


class Dashboard:
    """Write, run, stop, edit between the stages, and again: `Dashboard()` as the last line of a
    cell shows it.

    Without an engine it makes its own for the workspace. German for language="de". A new dashboard
    on a workspace closes the one
    before: a button that survives its cell would act twice.
    """

    _open: ClassVar[weakref.WeakSet[Dashboard]] = weakref.WeakSet()

    def __init__(self, engine: Engine | None = None, *, language: str = "") -> None:
        self.engine: Engine = engine or Engine()
        self.language = page_language(language)
        for other in [
            one for one in self._open if one.engine.settings.home == self.engine.settings.home
        ]:
            other.close()
        self._open.add(self)
        self.form = Form(self.engine.catalogue, language=self.language)
        self.panel = RunPanel(language=self.language)
        self.run: Run | None = None  # the latest one started here
        self.shown: Run | Recording | None = None
        self._from_picture: dict[str, str] = {}
        self._looking: Future[Sequence[str]] | None = None  # whether an output can be made now
        acts: dict[str, Callable[[], None]] = {
            "run": self._start,
            "stop": self._stop,
            "again_same": lambda: self._again(same_seed=True),
            "again_new": lambda: self._again(same_seed=False),
            "go_on": self._go_on,
        }
        self.buttons = {name: self._button(name, act) for name, act in acts.items()}
        self.buttons["run"].button_style = "primary"
        self.stepwise = ui.Checkbox(
            description=message("dashboard.steps", self.language), indent=False
        ).add_class("dp-steps")
        self.edits = {part: self._editor(part) for part in PARTS}
        invitation = ui.HTML(f"<p>{message('dashboard.yours', self.language)}</p>")
        self.turn = ui.VBox([invitation, *self.edits.values(), self.buttons["go_on"]]).add_class(
            "dp-turn"
        )
        self.panel.stages.children += (self.turn,)
        self.history = ui.Dropdown(
            description=message("dashboard.history", self.language)
        ).add_class("dp-history")
        self.picture = ui.FileUpload(
            description=message("dashboard.restore", self.language),
            accept="image/*,video/mp4,audio/wav",
        ).add_class("dp-restore")
        self.widget = self._laid_out()
        self._list_history()
        self._settle()
        self._observe(self.history, self._reopen)
        self._observe(self.picture, self._restore)
        self._observe(self.form.output, lambda _: self._settle())

    def __repr__(self) -> str:
        return (
            f"Dashboard({str(self.engine.settings.home)!r}, safety {self.engine.settings.safety})"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        self.look_around()
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def look_around(self) -> None:
        """Ask who can make what now, and mark the outputs that nobody can; happens on display."""
        self.engine.submit(find_unready(self.engine)).add_done_callback(
            guarded(
                lambda found: self.form.mark_unready(found.result()),
                self.panel.alert,
                self.language,
            )
        )

    def close(self) -> None:
        """Take the panel off the page and end what it waits for; a whole run goes on and is found
        in the recordings.
        """
        self._open.discard(self)
        self.panel.clear()
        if isinstance(self.run, OpenRun):
            self.run.cancel()
        _close(self.widget)

    # Building.

    def _button(self, name: str, act: Callable[[], None]) -> Any:
        button = ui.Button(description=message(f"dashboard.{name}", self.language))
        button.on_click(self._guarded(lambda _: act()))
        classes = {
            "again_same": "dp-regenerate-same",
            "again_new": "dp-regenerate-new",
            "go_on": "dp-go-on",
        }
        return button.add_class(classes.get(name, f"dp-{name}"))

    def _editor(self, part: str) -> Any:
        """Where the person rewords a text between the stages."""
        name = part.replace("prompt", "edit")
        area = ui.Textarea(rows=4, description=message(f"dashboard.{name}", self.language))
        return area.add_class("dp-" + name.replace("_", "-"))

    def _guarded(self, callback: Callable[[Any], object]) -> Callable[[Any], None]:
        """A callback of a person's act: what the last one went wrong with is off the page first."""

        def fresh(given: Any) -> None:
            self.panel.alert.value = ""
            with self._marking_earlier():
                callback(given)

        return guarded(fresh, self.panel.alert, self.language)

    @contextmanager
    def _marking_earlier(self) -> Iterator[None]:
        """Where an act goes wrong, what is shown is no longer called its result."""
        try:
            yield
        except Exception:  # any: it is raised again
            if not self._busy:
                self.panel.mark_earlier()
            raise

    def _observe(self, widget: Any, callback: Callable[[Any], object]) -> None:
        act = self._guarded(callback)  # an emptied control is nobody's act
        widget.observe(lambda change: act(change["new"]) if change["new"] else None, "value")

    def _laid_out(self) -> Any:
        level = message("dashboard.safety", self.language, level=self.engine.settings.safety)
        where = message("dashboard.safety_where", self.language)
        safety = f'<p class="dp-safety" title="{where}">{level}</p>'
        pressed = ui.HBox([self.buttons["run"], self.buttons["stop"]]).add_class("dp-buttons")
        again = ui.HBox([self.buttons["again_same"], self.buttons["again_new"]]).add_class(
            "dp-buttons"
        )
        asked = [
            *self.form.rows,
            pressed,
            self.stepwise,
            self.form.seed,
            self.form.text_seed,
            again,
            self.form.settings.widget,
            self.history,
            self.picture,
        ]
        form = ui.VBox([*asked, ui.HTML(safety)]).add_class("dp-form")
        return ui.Box([form, self.panel.widget]).add_class("dp-dashboard").add_class(GUARDED)

    # What people do.

    def _start(self) -> None:
        if self._busy:
            return
        asked = self.form.asked()
        # Whoever sets one seed means it: the text's follows, where it has none of its own.
        asked["text_seed"] = asked["text_seed"] or asked["seed"]
        self.engine.request(**asked)  # what a person can mend is said before anybody is asked
        self._when_ready(asked["output"], lambda: self._begin(asked))

    def _begin(self, asked: dict[str, Any]) -> None:
        texts = asked["prompt"]
        if self.stepwise.value:
            run = self._opened(asked)
            self._act(run, run.input(texts))
        elif self._from_picture == texts:
            run = self._opened(asked)
            self._act(run, self._remake(run, texts))
        else:
            self._show(self.engine.start(**asked))

    def _when_ready(self, output: str, begin: Callable[[], None]) -> None:
        """Begin, if somebody can make the output: who cannot be reached would fail only after
        Stage 2 was paid.
        """
        if self._is_procedural(output):
            begin()
            return
        self.panel.tell(message("dashboard.looking", self.language))
        looking = self._looking = self.engine.submit(self._reasons(output))
        self._settle()

        def looked(found: Future[Sequence[str]]) -> None:
            with self._marking_earlier():
                try:
                    self._refuse(output, found)
                    begin()
                finally:  # until here nobody can press Run a second time
                    self._looking = None
                    self._settle()

        looking.add_done_callback(guarded(looked, self.panel.alert, self.language))

    def _is_procedural(self, output: str) -> bool:
        """Whether the paint box makes it, which is always there."""
        try:
            return self.engine.backends[self.engine.catalogue.output(output).backend].procedural
        except BackendError:  # it cannot be opened, as the look around will say
            return False

    async def _reasons(self, output: str) -> Sequence[str]:
        """Why nobody can make an output now."""
        if not self.form.unready(output):
            return await find_unreachable(self.engine, output)
        found = await find_unready(self.engine, [output])
        return found.get(output, ())

    def _refuse(self, output: str, found: Future[Sequence[str]]) -> None:
        """Raise what keeps an output from being made; nothing where it can be."""
        if found.cancelled():
            raise PageError(message("panel.state.cancelled", self.language))
        reasons = found.result()
        self.form.mark_unready({**self.form.reasons, output: reasons})
        if reasons:
            cannot = message("form.cannot_be_made", self.language)
            raise PageError(cannot, details=" ".join(reasons))

    def _stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        elif self.run is not None:
            self.run.cancel()

    def _again(self, *, same_seed: bool) -> None:
        if self.shown is None or self._busy:
            return
        asked = self.form.asked()
        typed = asked.pop("seed")
        seed = (typed or self.shown.summary.seed) if same_seed else None
        if asked["text_seed"] is None:
            del asked["text_seed"]  # that of the run itself
        if not same_seed:
            self.form.seed.value = ""
        shown = self.shown.id
        self._when_ready(
            asked["output"], lambda: self._show(self.engine.start_again(shown, seed=seed, **asked))
        )

    def _go_on(self) -> None:
        """The next step of an open run, with the person's wording of its text."""
        run = self.run
        if not isinstance(run, OpenRun) or run.done:
            return
        stages = run.summary.stages
        before = dict(stages["interception"].texts or stages["input"].texts)
        edited = {part: area.value for part, area in self.edits.items() if part in before}
        if not stages["interception"].outcome:
            self._act(run, self._intercept(run, edited if edited != before else None))
        elif not stages["pre_output"].outcome or edited != before:
            self._act(run, run.check(edited))
        else:
            self._act(run, run.generate(self.form.asked()["seed"]))

    def _reopen(self, run_id: str) -> None:
        if self._busy:
            return
        self.shown = self.engine.recordings.find(run_id)
        self.panel.show(self.shown)
        if asked := Filled.of(self.shown.summary):
            self.form.fill(asked)
        self._settle()

    def _restore(self, files: Any) -> None:
        """Fill the form with the request that a picture carries."""
        data = bytes(files[0]["content"])
        self.picture.value = ()
        found = provenance.read(data)
        if found is None or found.request is None:
            raise PageError(message("dashboard.no_request", self.language))
        try:
            asked = Filled.model_validate(found.request)
        except ValidationError as error:
            raise PageError(message("dashboard.strange_request", self.language)) from error
        self.form.fill(asked)
        self._from_picture = asked.texts
        self.panel.tell(message("dashboard.restored", self.language))

    # What follows from it, partly in the engine's thread.

    def _opened(self, asked: dict[str, Any]) -> OpenRun:
        run = self.engine.open(**{name: value for name, value in asked.items() if name != "prompt"})
        self._show(run)
        return run

    def _show(self, run: Run) -> None:
        self.run = self.shown = run
        self.panel.show(run)
        self._settle()
        run.when_ended(guarded(lambda: self._ended(run), self.panel.alert, self.language))

    def _act(self, run: OpenRun, act: Coroutine[Any, Any, object]) -> None:
        """Take a step in the engine's thread; then it is the person's turn again."""
        self._settle()

        async def step() -> None:
            await act
            self._offer(run)

        self.engine.submit(step()).add_done_callback(
            guarded(lambda taken: self._taken(run, taken.result), self.panel.alert, self.language)
        )

    def _taken(self, run: OpenRun, result: Callable[[], object]) -> None:
        """A step has ended; where it could not be taken (an empty text), the person may mend it and
        go on.
        """
        try:
            result()
        except UsageError:
            self._offer(run)
            raise

    async def _remake(self, run: OpenRun, texts: dict[str, str]) -> None:
        """All stages, Stage 2's result being what the picture was made from."""
        await self._intercept(run, texts)
        if not run.done:
            await run.check(texts)
        if not run.done:
            await run.generate()

    async def _intercept(self, run: OpenRun, edited: dict[str, str] | None) -> None:
        if edited is not None:
            await run.input(edited)
        if not run.done:
            await run.intercept()

    def _offer(self, run: OpenRun) -> None:
        """Show the text the run has come to, to be edited."""
        if run.done or run is not self.run:
            return
        stages = run.summary.stages
        texts = stages["interception"].texts or stages["input"].texts
        for part, area in self.edits.items():
            area.value, area.layout.display = texts.get(part, ""), None if part in texts else "none"
        done = sum(bool(stage.outcome) for stage in stages.values())
        self.turn.layout.order = str(done)  # below the card of that stage
        self._settle(turn=bool(texts))
        self.panel.tell(message("dashboard.your_turn", self.language, number=done))

    def _ended(self, run: Run) -> None:
        if run is self.run:
            self.form.tell_seeds(run.summary)
            self._list_history()
            self._settle()

    @property
    def _busy(self) -> bool:
        """Whether something is under way that was begun here."""
        return self._looking is not None or (self.run is not None and not self.run.done)

    def _settle(self, *, turn: bool = False) -> None:
        """Which buttons can be pressed now."""
        busy = self._busy
        started = self.shown.summary.started if self.shown and not busy else None
        again = started is not None and started.output == self.form.output.value
        can = {
            "run": not busy,
            "stop": busy,
            "again_same": again,
            "again_new": again,
            "go_on": turn,
        }
        for name, button in self.buttons.items():
            button.disabled = not can[name]
        self.history.disabled = busy
        self.turn.layout.display = None if turn else "none"

    def _list_history(self) -> None:
        self.history.options = [
            (message("dashboard.choose", self.language), ""),
            # in a shared page, the visitor's own
            *options(self.engine.recordings, EARLIER_RUNS, self.language),
        ]
        self.history.index = 0


def _close(widget: Any) -> None:
    """Close a widget and everything in it, the models of its layout and style, too."""
    for child in (*getattr(widget, "children", ()), widget.layout, getattr(widget, "style", None)):
        if child is not None and child is not widget:
            _close(child) if hasattr(child, "layout") else child.close()
    widget.close()
