"""Which language is a text in, and how sure is that? Offline.

The script of its letters decides first; then py3langid (BSD, its model ships in the wheel), weighed
by how often somebody writes in a language, and by letters that a language does not have. Chosen and
measured on short prompts by benchmarks/short_prompts.py.
"""

from __future__ import annotations

import math
import tempfile
import threading
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from devpipe.errors import DevpipeError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

HOUSE_LANGUAGES = ("de", "en")
# Nothing is done on a guess below this: benchmarks/short_prompts.py says how it was chosen, and
# prints how often it is wrong.
SURE = 0.97
STRONG = 0.85  # below this, what is written in their letters is called one of the house languages
LACKING = 3  # by so much each letter that a language does not have lowers its log-likelihood

_READING = threading.Lock()  # lru_cache alone lets each thread read its own 40 MB


class Guess(NamedTuple):
    """The language that a text is probably in, and how sure that is, 0 to 1.

    ISO 639-1; empty where the script of its letters is unknown to us.
    """

    language: str
    sure: float


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    # 0.1 s and 40 MB: only when a run needs it.
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_DIR / MODEL_FILE, norm_probs=False)


def is_loaded() -> bool:
    """Whether the model has been read."""
    return _identifier.cache_info().currsize > 0


def load() -> None:
    """Read the model (0.3 s the first time); `guess` then takes a tenth of a millisecond.

    Of many runs that begin together, one reads it.
    """
    try:
        with _READING:
            _identifier()
    except OSError as error:  # py3langid unpacks it into a temporary file
        hint = f"Free some space in {tempfile.gettempdir()}, or set TMPDIR."
        raise DevpipeError(
            f"The language model cannot be unpacked: {error.strerror or error}.", hint=hint
        ) from error


@lru_cache(maxsize=256)
def guess(text: str) -> Guess:
    """What language a text is in; in doubt it is one of the house's, where its letters allow.

    A text without letters is called English, and nobody is sure of that; one in a script that
    languages.toml does not name has no language. The same texts come again and again: the latest
    guesses are remembered.
    """
    text = unicodedata.normalize("NFKC", text.lower() if text.isupper() else text)
    letters = [letter for letter in text.lower() if letter.isalpha()]
    if not letters:
        return Guess("en", 0.0)
    likelihoods = _likelihoods(text, letters)
    if not likelihoods:
        return Guess("", 0.0)
    together = sum(likelihoods.values())
    best = max(likelihoods, key=likelihoods.__getitem__)
    if likelihoods[best] < STRONG * together and "de" in likelihoods:
        best = max(HOUSE_LANGUAGES, key=likelihoods.__getitem__)
    return Guess(best, round(likelihoods[best] / together, 3))


def share_letters(one: str, other: str) -> bool:
    """Whether two languages are written in the same script."""
    return any(
        one in languages and other in languages for languages in _tables()["scripts"].values()
    )


def _likelihoods(text: str, letters: list[str]) -> dict[str, float]:
    """By language, of those that are written in the script that most letters are in."""
    tables = _tables()
    # the first word of a letter's name, e.g. LATIN, CYRILLIC, CJK
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in letters)
    told_apart = "".join(tables["letters"].values())
    telling = [letter for letter in letters if letter in told_apart]
    # word ends tell much, in a text of one word most: 53 wrong guesses of 250 became 36
    ranked = dict(_identifier().rank(f" {text} "))
    weighed = {}
    for language in tables["scripts"].get(scripts.most_common(1)[0][0], ()):
        own = tables["letters"].get(language, told_apart)
        lacking = sum(letter not in own for letter in telling)
        weight = tables["weights"].get(language, tables["weights"]["OTHER"])
        weighed[language] = ranked[language] + math.log(weight) - LACKING * lacking
    most = max(weighed.values(), default=0.0)
    return {language: math.exp(value - most) for language, value in weighed.items()}


@lru_cache(maxsize=1)
def _tables() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("languages.toml").read_text("utf-8"))
