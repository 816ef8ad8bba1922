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
    return "".join(
        character
        for character in text.replace("\r\n", "\n").replace("\r", "\n")
        if character in _KEPT_CONTROLS or unicodedata.category(character) not in ("Cc", "Cs")
    )


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
    # more than spaces and marks of control
    if not any(c in _JOINERS or unicodedata.category(c)[0] not in "CZ" for c in kept):
        raise UsageError(f"The {what} is empty.", hint="Write at least one word.")
    if len(kept) > MAX_PROMPT_CHARACTERS:
        raise UsageError(
            f"The {what} has {len(kept)} characters; at most {MAX_PROMPT_CHARACTERS} are possible.",
            hint="Shorten it.",
        )
    return kept.strip()
