"""Which language is a text in? Offline, by py3langid (BSD; its model ships in the wheel)."""

from __future__ import annotations

import tempfile
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from devpipe.errors import DevpipeError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

CANDIDATES = [
    "de",
    "en",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "pl",
    "sv",
    "tr",
    "ru",
    "uk",
    "ar",
    "fa",
    "he",
    "el",
    "zh",
    "ja",
    "ko",
]
HOUSE_LANGUAGES = ("de", "en")
# Below this, on short texts, the model's first guess is worse than choosing between the house's.
SURE = 0.6

_READING = threading.Lock()  # lru_cache alone lets each thread read its own 40 MB


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    # 0.1 s and 40 MB: only when a run needs it.
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_DIR / MODEL_FILE, norm_probs=True)
    identifier.set_languages(CANDIDATES)
    return identifier


def is_loaded() -> bool:
    """Whether the model has been read."""
    return _identifier.cache_info().currsize > 0


def load() -> None:
    """Read the model (0.3 s the first time); `detect` then takes microseconds.

    Of many runs that begin together, one reads it.
    """
    try:
        with _READING:
            _identifier()
    except OSError as error:  # py3langid unpacks it into a temporary file
        raise DevpipeError(
            f"The language model cannot be unpacked: {error.strerror or error}.",
            hint=f"Free some space in {tempfile.gettempdir()}, or set TMPDIR.",
        ) from error


def detect(text: str) -> str:
    """ISO 639-1 code of the text's language; English where the text has no letters at all."""
    if not any(character.isalpha() for character in text):
        return "en"
    ranked: dict[str, float] = dict(_identifier().rank(text))
    best = max(ranked, key=ranked.__getitem__)
    return best if ranked[best] >= SURE else max(HOUSE_LANGUAGES, key=ranked.__getitem__)
