"""The pictures that a call brings or that a recording keeps, decoded and encoded by us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devpipe.errors import UsageError
from devpipe.files import read_plain
from devpipe.record.reader import Recording
from devpipe.values import Attachment

MAX_FILE_BYTES = 64_000_000


def read_attachments(
    given: Mapping[str, Any], *, output: str, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Attachment]:
    """The pictures that an output takes.

    Raises UsageError for one missing, one too many, or one that is no picture.
    """
    for name in needed:
        if name not in given:
            raise UsageError(
                f"Output {output!r} needs a picture as {name}.",
                hint=f"Give {name}=... (--{name} FILE in the shell).",
            )
    possible = {*needed, *optional}
    for name in given:
        if name not in possible:
            raise UsageError(
                f"Output {output!r} takes no {name}.",
                hint=f"Leave it out. It takes: {', '.join(sorted(possible)) or 'none'}.",
            )
    found = {name: _attachment(value, name) for name, value in given.items()}
    if {"image", "mask"} <= found.keys():
        from devpipe.media.pictures import fitted_mask

        found["mask"] = fitted_mask(found["mask"], found["image"])
    return found


def recorded_attachments(recording: Recording) -> dict[str, Attachment]:
    """The pictures that a recorded run was given."""
    return {
        one.name: Attachment(recording.read(one.path), one.media_type, one.width, one.height)
        for one in recording.summary.attachments
    }


def _attachment(value: Any, name: str) -> Attachment:
    from devpipe.media.pictures import attachment, encode_png

    if isinstance(value, Attachment):
        return value
    if isinstance(value, bytes):
        return attachment(value, name=name)
    if isinstance(value, str | os.PathLike):
        try:
            return attachment(read_plain(Path(value), MAX_FILE_BYTES), name=name)
        except OSError as error:
            raise UsageError(
                f"The {name} {os.fspath(value)!r} cannot be read: {error.strerror}.",
                hint="Give a PNG, JPEG or WEBP file.",
            ) from error
    return attachment(encode_png(value), name=name)
