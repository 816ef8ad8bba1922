"""Old artistic procedures that rewrite a text: what stands in for a language model where none is
configured.

Every procedure is pure: the same text, seed, language and iteration give the same text on every
machine. Texts without
a word stay as they are; a language we have no word lists for is handled with English ones and keeps
all its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from devpipe.errors import UnknownName
from devpipe.offline.procedures import cutting, framing, hearing, turning
from devpipe.offline.procedures.words import Dice, Language, Page, clean, words

VERSION = "019dbf30cc82"  # digest of what the procedures answer: a test recomputes it


@dataclass(frozen=True, slots=True)
class Procedure:
    """One way to rewrite a text."""

    name: str
    act: Callable[[Page], str]

    @property
    def source(self) -> str:
        """What it does and where it comes from."""
        return " ".join((self.act.__doc__ or "").split())

    def writes(self, text: str, language: str) -> str:
        """The language of what it makes of a text: that of its own phrases, where it has any.

        Where it only turns the text's words, it is the text's own.
        """
        if self._leaves(text):
            return language
        if self.act is turning.translate_en:
            return "en" if _ours(language) == "de" else language
        return language if self.act in _WITHOUT_PHRASES else _ours(language)

    def _leaves(self, text: str) -> bool:
        """Whether the text stays as it is."""
        return self.act is cutting.keep or not words(clean(text))

    def rewrite(
        self,
        text: str,
        *,
        seed: int,
        language: str,
        output_language: str = "",
        iteration: int = 0,
        iterations: int = 1,
        parts: Sequence[str] = (),
    ) -> str:
        """The text rewritten; with `parts`, the parts one per line.

        `iterations` is how many rounds there will be: none looks ahead.
        """
        if parts:
            return "\n".join(self.split(text, seed=seed, language=language, parts=parts).values())
        if self._leaves(text):
            return text
        cleaned = clean(text)
        return self.act(
            Page(
                cleaned,
                _ours(language),
                Dice(seed, self.name, iteration, language, cleaned),
                output_language,
            )
        )

    def split(
        self, text: str, *, seed: int, language: str, parts: Sequence[str] = ("prompt", "prompt_2")
    ) -> dict[str, str]:
        """The rewritten text by the names of its parts: cut at its loosest joints, every word in
        exactly one part.
        """
        whole = clean(self.rewrite(text, seed=seed, language=language))
        return cutting.split(Page(whole, _ours(language), Dice(seed, self.name, "parts")), parts)


def _ours(language: str) -> Language:
    return "de" if language[:2].casefold() == "de" else "en"


_ACTS: tuple[Callable[[Page], str], ...] = (
    turning.amplify,
    turning.antonyms,
    framing.blueprint,
    hearing.chinese_whispers,
    cutting.cut_up,
    framing.ekphrasis_renaissance,
    framing.expressionist,
    cutting.exquisite,
    turning.harmonize,
    cutting.keep,
    cutting.lipogram,
    framing.literati,
    cutting.markov,
    cutting.n_plus_7,
    framing.photograph,
    turning.pig_latin,
    framing.planetary,
    framing.reduce_to_forms,
    turning.slang,
    framing.story,
    turning.translate_en,
    turning.uncliche,
)
_WITHOUT_PHRASES = frozenset(  # they turn, swap or leave out the words that are there
    {hearing.chinese_whispers, cutting.lipogram, cutting.n_plus_7, turning.pig_latin}
)
PROCEDURES: Mapping[str, Procedure] = MappingProxyType(
    {
        name: Procedure(name, act)
        for name, act in sorted([("split", cutting.keep), *((act.__name__, act) for act in _ACTS)])
    }
)


def procedure(name: str) -> Procedure:
    """The procedure of that name; UnknownName offers the nearest ones."""
    if name not in PROCEDURES:
        raise UnknownName("procedure", name, PROCEDURES)
    return PROCEDURES[name]
