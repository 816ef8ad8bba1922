"""The texts that go from stage to stage, and how a stage's resulting text is written down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from devpipe.record.events import TextWritten
from devpipe.stages.journal import Journal
from devpipe.text.language import SURE, share_letters
from devpipe.text.messages import machine_language
from devpipe.values import Stage


@dataclass(frozen=True, slots=True)
class Text:
    """A text and the language that it is in."""

    words: str
    language: str  # ISO 639-1; empty: of an unknown script
    sure: float = 1.0  # 0 to 1; below 1 where the language was guessed

    @property
    def known_language(self) -> str:
        """The language to act on; empty where it is a weak guess."""
        return self.language if self.sure >= SURE else ""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by their input name, and the language of the person."""

    parts: Mapping[str, Text]
    spoken: str = ""  # the person's, for the sentences they read

    @classmethod
    def of(cls, written: Collection[TextWritten], spoken: str) -> Texts:
        """Texts as they are written down."""
        parts = {one.part: Text(one.text, one.language, one.language_sure) for one in written}
        return cls(parts, spoken)

    @property
    def by_part(self) -> dict[str, str]:
        """The words alone."""
        return {part: text.words for part, text in self.parts.items()}

    @property
    def person_language(self) -> str:
        """The language of the person: where nobody said, that of the first text.

        Where that is a weak guess, it is the machine's, if it is written in the same letters.
        """
        if self.spoken or not self.parts:
            return self.spoken or "en"
        first = next(iter(self.parts.values()))
        own = machine_language()
        if not first.known_language and share_letters(own, first.language):
            return own
        return first.language or "en"

    def overlaid(self, others: Mapping[str, Text]) -> Texts:
        """These texts with others in their place or beside them."""
        return replace(self, parts={**self.parts, **others})

    def written(
        self, part: str, stage: Stage, by: Literal["user", "model", "rule"] = "rule"
    ) -> TextWritten:
        """One of these texts as an event."""
        text = self.parts[part]
        return TextWritten(
            stage=stage,
            part=part,
            text=text.words,
            language=text.language,
            language_sure=text.sure,
            by=by,
        )


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
