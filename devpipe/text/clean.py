"""Is this a prompt we can take? Checked before anything starts."""

from __future__ import annotations

import unicodedata

from devpipe.errors import UsageError
from devpipe.values import MAX_PROMPT_CHARACTERS

_JOINERS = "\u200c\u200d"  # spelling of Persian and of emoji
_SEEN_AS = (
    # Unicode's controls, and halves of pairs
    dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)], " ")
    # what ends a line, also on slides, in PDFs and on mainframes
    | dict.fromkeys(map(ord, "\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"), "\n")
    | {ord("\t"): "\t"}
)


def visible(text: str) -> str:
    """The text with line ends as \\n, and a space for any other control character.

    None is just taken away: what it parted would grow into one word.
    """
    return text.replace("\r\n", "\n").translate(_SEEN_AS)


def clean(text: object, *, what: str = "prompt") -> str:
    """The text as `visible` makes it, without space around it.

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
