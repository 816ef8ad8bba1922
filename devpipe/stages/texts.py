"""The texts that go from stage to stage, and how a stage's resulting text is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devpipe.record.events import TextWritten
from devpipe.stages.journal import Journal


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


async def final_text(journal: Journal, text: TextWritten) -> TextWritten:
    """The text as its stage's result; it also lies in a file that a person opens."""
    kind = text.stage if text.part == "prompt" else f"{text.stage}_{text.part}"
    path = journal.file_name(kind, "txt")
    sha256 = await journal.write_text(path, text.text)
    return text.model_copy(update={"final": True, "path": path, "sha256": sha256})
