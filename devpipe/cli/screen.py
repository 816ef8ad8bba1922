"""What a person sees in a terminal: each stage as it happens, then where the files are."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from devpipe.cli.hints import in_words_of_the_shell
from devpipe.cli.printing import plain, say
from devpipe.engine.events import LiveEvent
from devpipe.record.events import (
    ArtifactWritten,
    AttemptFinished,
    AttemptStarted,
    Event,
    Progressed,
    Queued,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
    StageFinished,
    StageReused,
    StageStarted,
    TextStreamed,
    TextWritten,
    VerdictGiven,
    Warned,
)
from devpipe.text.language import SURE
from devpipe.values import STAGES

_INDENT = " " * 17
EVERY_S = 5.0  # between two lines of progress where they are not written over


_Place = tuple[str, str, str, int]  # stage, part, step and iteration: which text of a run is meant


def _place(event: TextWritten | TextStreamed) -> _Place:
    return event.stage, event.part, event.step, event.iteration


def _name(event: TextWritten | TextStreamed) -> str:
    number = f"{event.iteration + 1}. " if event.iteration else ""
    return number + (f"{event.part}: " if event.part != "prompt" else "")


def _language_tag(event: TextWritten) -> str:
    """The language of a text; with a question mark where it is a weak guess."""
    doubt = "?" if event.language_sure < SURE else ""
    return f"{event.language}{doubt}" or "?"


def _meanwhile(event: Progressed | Queued) -> str:
    """What is said while a person waits, and then written over."""
    if isinstance(event, Progressed):
        return f"{event.step} of {event.steps} {event.message}"
    waiting = f"waiting: {event.position} before this one"
    return waiting if event.seconds is None else f"{waiting}, about {event.seconds:.0f} s"


def _line_about(event: Event, folder: Path) -> str:
    """The line about an event other than a text; nothing for what people need not see."""
    match event:
        case StageStarted(stage=stage):
            return f"{STAGES.index(stage) + 1} {stage}"
        case StageReused(stage=stage, run_id=run_id):
            return f"{STAGES.index(stage) + 1} {stage:<14} reused from {run_id}"
        case VerdictGiven():
            return _verdict(event)
        case AttemptStarted(task="media", seed=seed):
            return f"{_INDENT}seed {seed}"
        case AttemptFinished(stage="generation"):
            return _attempt(event)
        case ArtifactWritten():
            return _file(event, folder)
        case StageFinished(outcome="blocked"):
            return f"{_INDENT}blocked: {event.reason}"
    return _line_about_run(event, folder)


def _line_about_run(event: Event, folder: Path) -> str:
    match event:
        case RunResumed(cut_bytes=0):
            return "resumed"
        case RunResumed(cut_bytes=cut):
            return f"resumed; a torn tail of {cut} bytes was cut off"
        case RunFinished():
            return f"{event.outcome} in {event.seconds:.2f} s   recording {folder}\n"
    return ""


def _beginning(event: RunStarted, drawn: str) -> str:
    """What was asked for; `drawn` says what is known of a seed that nobody gave."""
    seed = drawn if event.seed is None else event.seed
    line = (
        f"{event.pipeline} > {event.output}   safety {event.safety}, seed {seed},"
        f" text seed {event.text_seed}, run {event.run_id}"
    )
    if event.instruction:
        line += f"\n{'instruction':<{len(_INDENT) - 1}} {event.instruction}"
    return line


def _verdict(event: VerdictGiven) -> str:
    decision = "allowed" if event.allowed else f"blocked ({', '.join(event.categories)})"
    line = f"{_INDENT}{decision} by {event.method} at level {event.level}"
    return f"{line}\n{_INDENT}{event.cause}" if event.cause else line


def _attempt(event: AttemptFinished) -> str:
    problem = f": {event.error.message}" if event.error else ""
    made_by = f"{event.backend}/{event.model}"
    return f"{_INDENT}{made_by} {event.outcome} in {event.seconds:.2f} s{problem}"


def _file(event: ArtifactWritten, folder: Path) -> str:
    size = ""
    if event.width:
        size = f"{event.width} x {event.height}, "
    elif event.seconds:
        size = f"{event.seconds:.1f} s, "
    kilobytes = math.ceil(event.bytes / 1000)
    return f"{_INDENT}{folder / event.path}  ({size}{kilobytes} kB)"


class Screen:
    """Follows one run and prints it.

    Texts grow as they are written; a note waits until the texts of its step are there, so that a
    recording reads as the run did. `drawn` says what is known of a seed that nobody gave, which is
    drawn, and said, in Stage 4. Progress shows on a terminal on a line that is written over,
    elsewhere (nohup, CI) on a line of its own every few seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        drawn: str = "to be drawn",
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.drawn = drawn
        self.clock = clock
        self._said_at = clock()
        self.out = out or sys.stdout
        self.live = self.out.isatty()
        # why the output could not be written: the run goes on, unseen
        self.failed: OSError | None = None
        self._growing: _Place | None = None  # the text on the line that has no end yet
        self._grown: dict[_Place, str] = {}
        # the latest text of each stage and part, and where it was made
        self._shown: dict[tuple[str, str], tuple[_Place, str]] = {}
        self._notes: list[Warned] = []  # those that wait for the texts of their step

    def __call__(self, event: LiveEvent) -> None:
        event = event.event if isinstance(event, Recorded) else event
        match event:
            case TextStreamed():
                self._grow(event)
            case TextWritten():
                self._text(event)
            case Progressed() | Queued():
                self._pass_time(_meanwhile(event))
            case Warned():
                self._notes.append(event)
            case _:
                self.say_notes()
                self._about(event)

    def say_notes(self) -> None:
        """Print the notes that wait: nothing more comes before them."""
        notes, self._notes = self._notes, []
        for note in notes:
            self._line(f"{_INDENT}note: {in_words_of_the_shell(note.message)}")

    def _about(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            line = _beginning(event, self.drawn)
        else:
            line = _line_about(event, self.folder)
        if line:
            self._line(line)

    def _pass_time(self, text: str) -> None:
        """Say how far it is: on a terminal at once, in a file every few seconds."""
        if self.live:
            self._fleeting(text)
        elif self.clock() - self._said_at >= EVERY_S:
            self._line(_INDENT + text.strip())

    def _fleeting(self, text: str) -> None:
        """A line that the next one is written over."""
        self._end_line()
        self._say("\r\x1b[K" + _INDENT + plain(text).replace("\n", " ")[-60:], end="")

    def _text(self, event: TextWritten) -> None:
        """A text that is written; where it has been seen growing, only what is now known of it."""
        place = _place(event)
        tag = "partial" if event.partial else _language_tag(event)
        grown = self._grown.pop(place, None)
        made, shown = self._shown.get((event.stage, event.part), (place, None))
        self._shown[event.stage, event.part] = place, "" if event.partial else event.text
        if event.final and shown == event.text and (not event.step or made == place):
            return  # the step that made it has shown it
        if grown is None or grown.strip() != event.text.strip():
            self._line(f"{_INDENT}{_name(event)}{event.text}  [{tag}]")
        elif place == self._growing:
            self._end_line(f"  [{tag}]")

    def _grow(self, event: TextStreamed) -> None:
        """One more piece of a text."""
        place = _place(event)
        if place not in self._grown:
            self._end_line()
            self._grown[place] = ""
        if place != self._growing and event.text:
            self._end_line()
            self._growing = place
            self._say(self._clear + _INDENT + _name(event), end="")
        self._grown[place] += event.text
        self._say(plain(event.text).replace("\n", "\n" + _INDENT), end="")

    @property
    def _clear(self) -> str:
        return "\r\x1b[K" if self.live else ""

    def _end_line(self, text: str = "") -> None:
        if self._growing is not None:
            self._growing = None
            self._say(text)

    def _line(self, text: str) -> None:
        self._end_line()
        self._say(self._clear + plain(text).replace("\n", "\n" + _INDENT).rstrip(" "))

    def _say(self, text: str, end: str = "\n") -> None:
        self._said_at = self.clock()
        try:
            say(text, out=self.out, end=end)
        except OSError as error:
            self.failed = error
