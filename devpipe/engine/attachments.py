"""The pictures that a call brings or that a recording keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devpipe.errors import UsageError
from devpipe.record.reader import Recording
from devpipe.values import Attachment


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
                hint=f"Give {name}=FILE.",
            )
    possible = {*needed, *optional}
    for name in given:
        if name not in possible:
            raise UsageError(
                f"Output {output!r} takes no {name}.",
                hint=f"Leave it out. It takes: {', '.join(sorted(possible)) or 'none'}.",
            )
    if not given:
        return {}
    from devpipe.media.pictures import fitted_mask, user_picture

    found = {name: user_picture(value, name=name) for name, value in given.items()}
    if {"image", "mask"} <= found.keys():
        found["mask"] = fitted_mask(found["mask"], found["image"])
    return found


def recorded_attachments(recording: Recording) -> dict[str, Attachment]:
    """The pictures that a recorded run was given."""
    return {
        one.name: Attachment(recording.read(one.path), one.media_type, one.width, one.height)
        for one in recording.summary.attachments
    }
