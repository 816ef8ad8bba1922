"""Old artistic procedures that rewrite a text: what stands in for a language model where none is configured.

Every procedure is pure: the same text, seed, language and iteration give the same text on every machine. Texts without
a word stay as they are; a language we have no word lists for is handled with English ones and keeps all its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from devpipe.errors import UnknownName
from devpipe.procedures import cutting, framing, glossary, hearing, turning
from devpipe.procedures.words import Dice, Language, Page, clean, words

VERSION = "019dbf30cc82"  # digest of what the procedures answer: a test recomputes it


@dataclass(frozen=True, slots=True)
class Procedure:
    """One way to rewrite a text, with the source it comes from."""

    name: str
    source: str
    act: Callable[[Page], str]

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
        """The text rewritten; with `parts`, the parts one per line. `iterations` is how many rounds there will be: none looks ahead."""
        if parts:
            return "\n".join(self.split(text, seed=seed, language=language, parts=parts).values())
        cleaned = clean(text)
        if self.act is cutting.keep or not words(cleaned):
            return text
        dice = Dice(seed, self.name, iteration, language, cleaned)
        return self.act(Page(cleaned, _ours(language), dice, output_language))

    def split(self, text: str, *, seed: int, language: str, parts: Sequence[str] = ("prompt", "prompt_2")) -> dict[str, str]:
        """The rewritten text by the names of its parts: cut at its loosest joints, every word in exactly one part."""
        whole = clean(self.rewrite(text, seed=seed, language=language))
        page = Page(whole, _ours(language), Dice(seed, self.name, "parts"))
        return cutting.split(page, parts)


def _ours(language: str) -> Language:
    return "de" if language[:2].casefold() == "de" else "en"


def _named(name: str, act: Callable[[Page], str]) -> Procedure:
    return Procedure(name, (act.__doc__ or "").strip().splitlines()[0], act)


_ACTS: dict[str, Callable[[Page], str]] = {
    "amplify": turning.amplify,
    "antonyms": turning.antonyms,
    "blueprint": framing.blueprint,
    "chinese_whispers": hearing.chinese_whispers,
    "cut_up": cutting.cut_up,
    "ekphrasis_renaissance": framing.ekphrasis_renaissance,
    "expressionist": framing.expressionist,
    "exquisite": cutting.exquisite,
    "harmonize": turning.harmonize,
    "keep": cutting.keep,
    "lipogram": cutting.lipogram,
    "literati": framing.literati,
    "markov": cutting.markov,
    "n_plus_7": cutting.n_plus_7,
    "photograph": framing.photograph,
    "pig_latin": turning.pig_latin,
    "planetary": framing.planetary,
    "reduce_to_forms": framing.reduce_to_forms,
    "slang": turning.slang,
    "split": cutting.keep,
    "story": framing.story,
    "translate_en": glossary.translate_en,
    "uncliche": turning.uncliche,
}

PROCEDURES: Mapping[str, Procedure] = MappingProxyType({name: _named(name, act) for name, act in _ACTS.items()})


def procedure(name: str) -> Procedure:
    """The procedure of that name; UnknownName offers the nearest ones."""
    if name not in PROCEDURES:
        raise UnknownName("procedure", name, PROCEDURES)
    return PROCEDURES[name]
