"""The texts that go from stage to stage, and how a stage's resulting text is written down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from devpipe.record.events import TextWritten
from devpipe.stages.journal import Journal
from devpipe.stages.request import Words
from devpipe.text.language import SURE, share_letters
from devpipe.text.messages import machine_language
from devpipe.values import Stage


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by their input name, the language of each, and the language of the person."""

    by_part: Words
    languages: Words  # ISO 639-1; empty: of an unknown script
    spoken: str = ""  # the person's, for the sentences they read
    sure: Mapping[str, float] = field(default_factory=dict)  # of languages that were guessed

    @classmethod
    def of(cls, written: Collection[TextWritten], spoken: str) -> Texts:
        """Texts as they are written down."""
        return cls(
            {one.part: one.text for one in written},
            {one.part: one.language for one in written},
            spoken,
            {one.part: one.language_sure for one in written},
        )

    def under(self, parts: Words) -> Texts:
        """Some of these texts under new names, each with the name that it has here."""
        return Texts(
            {name: self.by_part[part] for name, part in parts.items()},
            {name: self.languages[part] for name, part in parts.items()},
            sure={name: self.how_sure(part) for name, part in parts.items()},
        )

    def how_sure(self, part: str) -> float:
        """How sure the language of a part is, 0 to 1; 1 where it was not guessed."""
        return self.sure.get(part, 1.0)

    def known(self, part: str) -> str:
        """The language of a part to act on; empty where it is a weak guess."""
        return self.languages[part] if self.how_sure(part) >= SURE else ""

    @property
    def person_language(self) -> str:
        """The language of the person: where nobody said, that of the first text.

        Where that is a weak guess, it is the machine's, if it is written in the same letters.
        """
        if self.spoken or not self.languages:
            return self.spoken or "en"
        part, language = next(iter(self.languages.items()))
        own = machine_language()
        if not self.known(part) and share_letters(own, language):
            return own
        return language or "en"

    def overlaid(self, others: Texts) -> Texts:
        """These texts with others in their place or beside them."""
        return replace(
            self,
            by_part={**self.by_part, **others.by_part},
            languages={**self.languages, **others.languages},
            sure={**self.sure, **others.sure},
        )

    def written(
        self, part: str, stage: Stage, by: Literal["user", "model", "rule"] = "rule"
    ) -> TextWritten:
        """One of these texts as an event."""
        return TextWritten(
            stage=stage,
            part=part,
            text=self.by_part[part],
            language=self.languages[part],
            language_sure=self.how_sure(part),
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
