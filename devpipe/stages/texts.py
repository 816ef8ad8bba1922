"""The texts that go from stage to stage, and how a stage's resulting text is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from devpipe.record.events import TextWritten
from devpipe.stages.journal import Journal
from devpipe.values import Stage

Author = Literal["user", "model", "procedure", "rule"]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by their input name, the language of each, and the language of the person."""

    by_part: Mapping[str, str]
    languages: Mapping[str, str]  # ISO 639-1
    spoken: str = ""  # the person's, for the sentences they read

    @property
    def person_language(self) -> str:
        """The language of the person; where nobody said, that of the first text."""
        return self.spoken or next(iter(self.languages.values()), "en")


async def final_text(
    journal: Journal,
    stage: Stage,
    part: str,
    text: str,
    language: str,
    *,
    by: Author,
    step: str = "",
    iteration: int = 0,
    raw: str = "",
) -> TextWritten:
    """The event of a stage's resulting text; the text also lies in a file that a person opens."""
    path = journal.file_name(stage if part == "prompt" else f"{stage}_{part}", "txt")
    sha256 = await journal.write_text(path, text)
    return TextWritten(
        stage=stage,
        part=part,
        text=text,
        final=True,
        by=by,
        language=language,
        path=path,
        sha256=sha256,
        step=step,
        iteration=iteration,
        raw=raw,
    )
