"""What is equal when a run is done again: its texts letter by letter, its files bit by bit, or how
far apart they are.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from devpipe.errors import DevpipeError, RecorderError
from devpipe.media.pictures import decode
from devpipe.record.events import ArtifactWritten
from devpipe.record.reader import Recording
from devpipe.show.html import similarity

Place = tuple[str, str, int, str]  # stage, step, iteration, part


@dataclass(frozen=True, slots=True)
class Replay:
    """A run and its repetition, compared.

    `differences` has one line for each thing that is not equal.
    """

    source_id: str
    run_id: str
    outcome_equal: bool
    texts: int
    files: int
    differences: tuple[str, ...]
    notes: tuple[str, ...] = ()  # of the repetition: who stood in, what was not used

    @classmethod
    def of(cls, source: Recording, again: Recording) -> Replay:
        """Compare two recordings, every file read again and checked against its hash."""
        before, after = _texts(source), _texts(again)
        outcomes = source.summary.outcome, again.summary.outcome
        files = list(zip_longest(source.summary.artifacts, again.summary.artifacts))
        differences = (
            [f"outcome: {outcomes[0]}, now {outcomes[1]}"] if outcomes[0] != outcomes[1] else []
        )
        differences += _text_differences(before, after)
        differences += [
            found for one, other in files if (found := _file_difference(source, one, again, other))
        ]
        return cls(
            source.id,
            again.id,
            outcomes[0] == outcomes[1],
            len({*before, *after}),
            len(files),
            tuple(differences),
            tuple(dict.fromkeys(again.summary.notes + _makers(source, again))),
        )

    @property
    def equal(self) -> bool:
        """All texts of all stages are equal, all files are bit-equal, and the run ended the same
        way.
        """
        return not self.differences

    def __str__(self) -> str:
        told = "; ".join([self._title(), *self.differences])
        return "\n".join([told, *(f"note: {note}" for note in self.notes)])

    def _title(self) -> str:
        compared = f"{_count(self.texts, 'text')}, {_count(self.files, 'file')}"
        return (
            f"bit-equal: {compared}"
            if self.equal
            else f"{_count(len(self.differences), 'difference')} in {compared}"
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        sign = "✓" if self.equal else "≠"
        ids = (
            f"<code>{html.escape(self.source_id)}</code> → <code>{html.escape(self.run_id)}</code>"
        )
        told = (*self.differences, *self.notes)
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in told)
        return f"<p>{sign} {ids}: {html.escape(self._title())}</p><ul>{lines}</ul>"

    def to_json(self) -> dict[str, Any]:
        """Everything as one JSON object."""
        return (
            {"equal": self.equal}
            | asdict(self)
            | {
                "differences": list(self.differences),
                "notes": list(self.notes),
            }
        )


def _makers(source: Recording, again: Recording) -> list[str]:
    """Say it where the files of the two runs were made by different ones."""
    before, now = _maker(source), _maker(again)
    if before and now and before != now:
        return [f"made by {now}; what is compared with it was made by {before}."]
    return []


def _maker(recording: Recording) -> str:
    """Who made a run's files: backend/model; empty where nobody did."""
    for attempt in recording.summary.media_attempts:
        if attempt.finished and attempt.finished.outcome == "completed":
            return f"{attempt.started.backend}/{attempt.started.model}"
    return ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _texts(recording: Recording) -> dict[Place, str]:
    """Every whole text by where it was made; the latest one where a resumed run made it twice."""
    written = [
        text
        for stage in recording.summary.stages.values()
        for text in stage.written
        if not text.partial
    ]
    return {(text.stage, text.step, text.iteration, text.part): text.text for text in written}


def _text_differences(before: dict[Place, str], after: dict[Place, str]) -> Iterator[str]:
    for place in {**before, **after}:
        stage, step, iteration, part = place
        name = " ".join(
            word
            for word in (stage, step, str(iteration or ""), part if part != "prompt" else "")
            if word
        )
        if place not in before or place not in after:
            yield f"{name}: text only in {'the source' if place in before else 'the repetition'}"
        elif before[place] != after[place]:
            yield (
                f"{name}: text differs, {similarity(before[place], after[place]):.0%} of its words"
                " stay"
            )


def _file_difference(
    source: Recording, one: ArtifactWritten | None, again: Recording, other: ArtifactWritten | None
) -> str:
    """One line, or "" for bit-equal files."""
    if one is not None and other is None:
        return f"{one.path}: only in the source"
    if one is None or other is None:
        return f"{other.path if other else '?'}: only in the repetition"
    try:
        before, after = source.read(one.path), again.read(other.path)
    except RecorderError as exc:
        return f"{one.path}: cannot be compared: {exc}"
    if before == after:
        return ""
    return f"{one.path}: {_distance(before, after)}"


def _distance(before: bytes, after: bytes) -> str:
    import numpy as np

    try:
        one, other = (np.asarray(decode(data).convert("RGB"), np.int16) for data in (before, after))
    except DevpipeError:  # a film or a sound
        return f"bytes differ ({len(before)}, now {len(after)})"
    if one.shape != other.shape:
        return f"size differs: {one.shape[1]}x{one.shape[0]}, now {other.shape[1]}x{other.shape[0]}"
    if np.array_equal(one, other):
        return "pixels equal, bytes differ"
    return f"pixels differ by {np.abs(one - other).mean():.3g} of 255 on average"
