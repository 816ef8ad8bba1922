"""Is this a prompt we can take? Checked before anything starts."""

from __future__ import annotations

import unicodedata

from devpipe.errors import UsageError
from devpipe.values import MAX_PROMPT_CHARACTERS

_KEPT_CONTROLS = "\n\t"
_JOINERS = "\u200c\u200d"  # spelling of Persian and of emoji


def visible(text: str) -> str:
    """The text without control characters, line ends as \\n."""
    if text.isprintable():
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(filter(_is_visible, lines))


def _is_visible(character: str) -> bool:
    return character in _KEPT_CONTROLS or unicodedata.category(character) not in ("Cc", "Cs")


def clean(text: object, *, what: str = "prompt") -> str:
    """The text without control characters, line ends as \\n.

    Raises UsageError where nothing usable remains.
    """
    if not isinstance(text, str):
        raise UsageError(f"The {what} is a {type(text).__name__}.", hint="Give it as text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"The {what} is not valid Unicode (character {error.start}).",
            hint="Save it as UTF-8 and try again.",
        ) from error
    kept = visible(text)
    if not any(map(_is_written, kept)):
        raise UsageError(f"The {what} is empty.", hint="Write at least one word.")
    if len(kept) > MAX_PROMPT_CHARACTERS:
        raise UsageError(
            f"The {what} has {len(kept)} characters; at most {MAX_PROMPT_CHARACTERS} are possible.",
            hint="Shorten it.",
        )
    return kept.strip()


def _is_written(character: str) -> bool:
    """Whether a character is more than a space or a mark of control."""
    return character in _JOINERS or unicodedata.category(character)[0] not in "CZ"
