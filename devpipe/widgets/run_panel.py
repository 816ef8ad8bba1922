"""A run as a panel: the four stages as they happen, the verdicts, and what was made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets as ui

from devpipe.engine.run import OpenRun, Run
from devpipe.errors import DevpipeError
from devpipe.media.pictures import decode_first, encode_small
from devpipe.record import events
from devpipe.record.reader import Recording
from devpipe.record.summary import RunSummary, StageSummary
from devpipe.show import html as show
from devpipe.show.host import is_shared_page
from devpipe.show.html import fold, h, known_language
from devpipe.show.language import page_language
from devpipe.text.messages import message
from devpipe.values import STAGES, Stage
from devpipe.widgets.follow import alert_html, follow, guarded
from devpipe.widgets.page_guard import GUARDED, PageGuard

SHOWN_SIDE = 640  # pixels: enough to be projected, about 30 kB on the wire
LARGEST_INLINE = 4_000_000  # bytes of a film or sound that is shown in place
EARLIER = "dp-earlier"  # what is shown is not what was asked for last
BETWEEN_REPAINTS_S = 0.05  # a model may stream a hundred pieces a second


class RunPanel:
    """Shows one run, live or stored; `show` turns to another one with the same widgets.

    `widget` is what is displayed.
    """

    def __init__(self, run: Run | Recording | None = None, *, language: str = "") -> None:
        self.language = page_language(language)
        self.alert = ui.HTML()
        self.notes = ui.HTML()  # what a reader of the run should know
        self.status = ui.HTML().add_class("dp-status")
        self.cards = {stage: ui.HTML().add_class(f"dp-stage-{stage}") for stage in STAGES}
        for at, stage in enumerate(STAGES, 1):
            self.cards[stage].layout.order = str(at)
        self.stages = ui.VBox([self.cards[stage] for stage in STAGES[:3]]).add_class("dp-stages")
        made = ui.VBox([self.cards["generation"]]).add_class("dp-made")
        columns = ui.Box([self.stages, made]).add_class("dp-columns")
        guard = PageGuard(language=self.language)
        self.widget = ui.VBox(
            [
                ui.HTML(f"<style>{_style()}</style>"),
                guard,
                self.status,
                self.alert,
                self.notes,
                columns,
            ]
        )
        self.widget.add_class("dp-panel").add_class(GUARDED)
        self._unfollow: Callable[[], None] = lambda: None
        self.run: Run | Recording | None = None
        self.clear()
        if run is not None:
            self.show(run)

    def __repr__(self) -> str:
        return f"RunPanel({self.run!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def show(self, run: Run | Recording) -> None:
        """Follow this run from now on, and no other."""
        self.clear()
        self.run = run
        self._unfollow = follow(
            run,
            lambda summary, event: self._take(run, summary, event),
            alert=self.alert,
            language=self.language,
        )
        if isinstance(run, Recording) and run.summary.finished is None:
            self._show_unfinished(run)

    def clear(self) -> None:
        """As if nothing had happened yet."""
        self._unfollow()
        self.run, self._unfollow = None, lambda: None
        self._streamed: dict[Stage, str] = {}
        self._streaming: tuple[object, ...] = ()  # which text that is
        self._progress: events.Progressed | events.Queued | None = None
        self._preview: events.Previewed | None = None
        self._repainted = 0.0
        self._due: object | None = None  # the repaint that is waited for
        self.alert.value = ""
        self.notes.value = ""
        self.widget.remove_class(EARLIER)
        self.tell(message("panel.idle", self.language))
        for stage in STAGES:
            self._paint(RunSummary(), stage, "")

    def mark_earlier(self) -> None:
        """What is shown is the run before: what was asked for after it was not started."""
        if self.run is None:
            self.tell(message("dashboard.not_started", self.language))
            return
        self.widget.add_class(EARLIER)
        self.tell(message("dashboard.not_started_shown", self.language))

    def _show_unfinished(self, recording: Recording) -> None:
        """A run without an ending, as it was left: nothing of it is under way here."""
        for stage in STAGES:
            if not recording.summary.stages[stage].outcome:
                self._paint(recording.summary, stage, "not_reached")
        self.tell(message(f"panel.state.{recording.state}", self.language))

    def tell(self, sentence: str) -> None:
        """Say it in the status line, which screen readers read aloud."""
        self.status.value = f'<div role="status" aria-live="polite">{h(sentence)}</div>'

    # Events, in the engine's thread.

    def _take(self, run: Run | Recording, summary: RunSummary, event: events.Event) -> None:
        if run is not self.run:
            return  # an event that was under way while the panel turned to another run
        self._remember(event)
        if event.stored:
            self._show(summary, event)
        else:
            self._soon(summary, event)

    def _soon(self, summary: RunSummary, event: events.Event) -> None:
        """Show it now, or together with what comes within BETWEEN_REPAINTS_S: the last piece before
        a pause is seen, too.
        """
        wait = self._repainted + BETWEEN_REPAINTS_S - time.monotonic()
        if wait > 0 and self._due is not None:
            return

        def show() -> None:
            if self._due is due:
                self._due, self._repainted = None, time.monotonic()
                self._show(summary, event)

        due = self._due = object()
        if wait > 0:
            shown = guarded(show, self.alert, self.language)
            asyncio.get_running_loop().call_later(wait, shown)
        else:
            show()

    def _show(self, summary: RunSummary, event: events.Event) -> None:
        match event:
            case events.RunStarted(first_stage=first):
                self._paint(summary, first, "running")
            case events.RunFinished():
                self._finish(summary)
            case events.Warned():
                notes = show.notes_html(summary, self.language)
                self.notes.value = f'<div class="devpipe">{notes}</div>'
            case events.VerdictGiven(stage=stage):
                self._paint(summary, stage, summary.stages[stage].outcome or "running")
            case events.ArtifactWritten() | events.Previewed():
                self._paint(summary, "generation", "running")
            case (
                events.StageStarted()
                | events.Progressed()
                | events.Queued()
                | events.TextStreamed()
                | events.TextWritten()
            ):
                self._paint(summary, event.stage, "running")
            case events.StageFinished(stage=stage, outcome=outcome):
                self._paint(summary, stage, outcome)
                if (
                    outcome == "completed"
                    and stage != "generation"
                    and not isinstance(self.run, OpenRun)
                ):
                    self._paint(summary, STAGES[STAGES.index(stage) + 1], "running")

    def _remember(self, event: events.Event) -> None:
        """Keep what is never stored, for as long as it is the latest."""
        match event:
            case events.TextStreamed(stage=stage, text=text):
                key = (stage, event.part, event.step, event.iteration)
                begun = self._streamed.get(stage, "") if key == self._streaming else ""
                self._streamed[stage], self._streaming = begun + text, key
            case events.Progressed() | events.Queued():
                self._progress = event
            case events.Previewed():
                self._preview = event
            case events.TextWritten(stage=stage, partial=True):
                self._streamed.pop(stage, None)  # as recorded, it is marked
            case events.StageFinished() | events.RunFinished():
                self._due = None

    def _finish(self, summary: RunSummary) -> None:
        assert summary.finished is not None
        outcome, seconds = summary.finished.outcome, f"{summary.duration_s:.1f}"
        self.tell(message(f"panel.state.{outcome}", self.language, seconds=seconds))
        for stage in STAGES:
            self._paint(
                summary,
                stage,
                summary.stages[stage].outcome
                or ("" if summary.finished.outcome == "completed" else "not_reached"),
            )
        if summary.error is not None:
            error = DevpipeError(summary.error.message, hint=summary.error.hint)
            self.alert.value = alert_html(error, self.language, kind=summary.error.type)

    # HTML.

    def _paint(self, summary: RunSummary, stage: Stage, state: str) -> None:
        number, told = STAGES.index(stage) + 1, summary.stages[stage]
        inside = (
            self._made(summary, state)
            if stage == "generation"
            else self._texts(told) + self._verdict(told)
        )
        name = message(f"panel.stage.{stage}", self.language)
        title = name
        if stage == "interception" and summary.started:
            title += f" · {h(summary.started.pipeline)}"
        self.cards[stage].value = (
            f'<section class="dp-card dp-is-{state or "waiting"}" aria-label="{number}.'
            f' {h(name)}"><h3><span'
            f' class="dp-number">{number}</span>{title}</h3>{inside}</section>'
        )
        if state == "running":
            doing = message(f"panel.doing.{stage}", self.language)
            at = message("panel.at", self.language, number=number, doing=doing)
            self.tell(at + self._how_far(stage))

    def _how_far(self, stage: Stage) -> str:
        match self._progress:
            case events.Progressed(stage=where, step=step, steps=steps, message=note) if (
                where == stage and steps > 1
            ):
                progress = message("panel.progress", self.language, step=step, steps=steps)
                return f" {progress} {note}".rstrip()
            case events.Queued(stage=where, position=position, seconds=seconds) if where == stage:
                if seconds is None:
                    return " " + message("panel.queued", self.language, runs=position)
                about = f"{seconds:.0f}"
                return " " + message(
                    "panel.queued_seconds", self.language, runs=position, seconds=about
                )
        return ""

    def _texts(self, told: StageSummary) -> str:
        if not told.texts:
            return self._unfinished(told)
        texts = "".join(
            f'<p class="dp-text" dir="auto" lang="{h(told.languages[part])}">{h(text)}</p>'
            for part, text in told.texts.items()
        )
        last = {text.part: text for text in told.written if text.final}
        notes = []
        if told.reused_from:
            notes.append(message("panel.reused", self.language))
        if any(text.step == "edit" for text in last.values()):
            notes.append(message("panel.by_user", self.language))
        between = [text for text in told.written if text is not last.get(text.part)]
        return texts + "".join(map(_note, notes)) + self._versions(between)

    def _unfinished(self, told: StageSummary) -> str:
        """The text that is being written, or what was written of one before it was cut off."""
        streamed = self._streamed.get(told.stage, "")
        if streamed:
            return _streaming(streamed)
        cut = [text.text for text in told.written if text.partial]
        if cut:
            return _streaming(cut[-1]) + _note(message("panel.partial", self.language))
        return ""

    def _versions(self, between: list[events.TextWritten]) -> str:
        if not between:
            return ""
        note = f' <span class="dp-note">({message("panel.partial", self.language)})</span>'
        items = "".join(
            '<li dir="auto"'
            f' lang="{h(known_language(text))}">{h(text.text)}{note if text.partial else ""}</li>'
            for text in between
        )
        title = message("panel.steps_made", self.language, count=len(between))
        return fold(title, f"<ol>{items}</ol>")

    def _verdict(self, told: StageSummary) -> str:
        verdict = told.verdict
        if verdict is None or (verdict.allowed and told.stage != "pre_output"):
            return ""
        if verdict.allowed:
            by = h(self._checked_by(verdict.method))
            allowed = message("panel.allowed", self.language, level=verdict.level, method=by)
            return f'<p class="dp-allowed">✓ {allowed}</p>'
        cause = ""
        if verdict.cause:
            cause = fold(message("panel.for_adults", self.language), f"<p>{h(verdict.cause)}</p>")
        return f'<p class="dp-blocked">✗ {h(verdict.reason)}</p>{cause}'

    def _checked_by(self, method: str) -> str:
        """Who gave a verdict, in the page's language: `rules+judge`."""
        names = {
            "rules": message("panel.by_rules", self.language),
            "judge": message("panel.by_judge", self.language),
        }
        return " + ".join(names.get(one, one) for one in method.split("+"))

    def _made(self, summary: RunSummary, state: str) -> str:
        if summary.artifacts and self.run is not None:
            note = self._seeds(summary)
            figures = "".join(
                media_html(self.run.folder, artifact, self.language)
                for artifact in summary.artifacts
            )
            return f'<div class="dp-picture"><p class="dp-note">{h(note)}</p>{figures}</div>'
        reason = summary.stages["generation"].reason
        nothing_yet = message("panel.no_picture", self.language)
        if state != "running":
            return f'<div class="dp-empty"><p>{h(reason) if reason else nothing_yet}</p></div>'
        at = self._progress if isinstance(self._progress, events.Progressed) else None
        bar = (
            f'<progress aria-label="{message("panel.stage.generation", self.language)}"'
            f" {f'value={at.step} max={at.steps}' if at else ''}></progress>"
        )
        seen = self._preview
        before = (
            f'<img alt="" src="{show.data_uri(seen.media_type, seen.data)}">'
            if seen
            else f"<p>{nothing_yet}</p>"
        )
        return f'<div class="dp-empty">{before}{bar}</div>'

    def _seeds(self, summary: RunSummary) -> str:
        """The output, and both seeds: with them the same comes again."""
        if summary.started is None:
            return ""
        seed = f"{message('form.seed', self.language)} {summary.seed}"
        text_seed = f"{message('form.text_seed', self.language)} {summary.started.text_seed}"
        return f"{summary.started.output} · {seed} · {text_seed}"


@lru_cache(maxsize=1)
def _style() -> str:
    """Our rules; those of the room `show` with them, since its HTML stands in our cards."""
    return show.rules() + Path(__file__).with_name("style.css").read_text("utf-8")


def _streaming(text: str) -> str:
    return f'<p class="dp-text dp-streaming" dir="auto">{h(text)}</p>'


def _note(sentence: str) -> str:
    return f'<p class="dp-note">{sentence}</p>'


def media_html(folder: Path, artifact: events.ArtifactWritten, language: str) -> str:
    """A file that a run made, to be seen or heard, with its alternative text and where it lies."""
    if not artifact.media_type.startswith("image/"):
        return show.media_html(folder, artifact, language, limit=LARGEST_INLINE)
    alt = h(artifact.alt)
    try:
        picture = decode_first(Recording(folder).read(artifact.path), error=DevpipeError)
        small = encode_small(picture, SHOWN_SIDE, method=2)
        shown = show.picture_html(folder, artifact, small, language, limit=LARGEST_INLINE)
    except DevpipeError:
        missing = h(message("page.missing", language))
        shown = f'<p class="dp-blocked">{h(artifact.path)} {missing}.</p>'
    place = _place(folder, artifact)
    return f"<figure>{shown}<figcaption>{alt}<br>{place}</figcaption></figure>"


def _place(folder: Path, artifact: events.ArtifactWritten) -> str:
    """Where the file lies; in a shared page, where nobody can go there, the file to be saved."""
    if is_shared_page():
        return show.file_html(folder, artifact)
    return f"<code>{h(Path(*folder.parts[-3:], artifact.path))}</code>"
