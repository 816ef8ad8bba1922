"""The texts that go from stage to stage, and how a stage's resulting text is written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from devpipe.record.events import TextWritten
from devpipe.stages.journal import Journal
from devpipe.stages.request import Words
from devpipe.values import Stage


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by their input name, the language of each, and the language of the person."""

    by_part: Words
    languages: Words  # ISO 639-1
    spoken: str = ""  # the person's, for the sentences they read

    @property
    def person_language(self) -> str:
        """The language of the person; where nobody said, that of the first text."""
        return self.spoken or next(iter(self.languages.values()), "en")

    def overlaid(self, others: Texts) -> Texts:
        """These texts with others in their place or beside them."""
        return replace(
            self,
            by_part={**self.by_part, **others.by_part},
            languages={**self.languages, **others.languages},
        )

    def written(
        self, part: str, stage: Stage, by: Literal["user", "model", "rule"] = "rule"
    ) -> TextWritten:
        """One of these texts as an event."""
        text = self.by_part[part]
        return TextWritten(stage=stage, part=part, text=text, language=self.languages[part], by=by)


async def add_final(journal: Journal, texts: Iterable[TextWritten]) -> None:
    """Keep texts as their stage's results."""
    for text in texts:
        journal.add(await final_text(journal, text))


async def final_text(journal: Journal, text: TextWritten) -> TextWritten:
    """The text as its stage's result; it also lies in a file that a person opens."""
    kind = text.stage if text.part == "prompt" else f"{text.stage}_{text.part}"
    path = journal.file_name(kind, "txt")
    sha256 = await journal.write_text(path, text.text)
    return text.model_copy(update={"final": True, "path": path, "sha256": sha256})
