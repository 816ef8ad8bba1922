"""Stage 4: makes what an allowing verdict covers, and keeps all files of the result."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace

from devpipe.aio import in_thread
from devpipe.backends.base import Backend
from devpipe.errors import NotAllowed, Rejected, Unavailable
from devpipe.media.containers import seconds_of, size_of, sniff
from devpipe.media.pictures import is_picture
from devpipe.media.provenance import BY_MODEL, BY_PROCEDURE, Provenance, bare, plays, remuxer, stamp
from devpipe.record.events import ArtifactWritten, VerdictGiven, Warned
from devpipe.safety.check import is_strict
from devpipe.stages.context import Context
from devpipe.values import Media, MediaRequest, MediaResult

EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "image/gif": "gif",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "text/plain": "txt",
}
FITTING = {
    "image": ("image/",),
    "video": ("video/", "image/webp", "image/gif"),
    "sound": ("audio/",),
}  # they may move
UNKEPT = "no picture, film or sound that can be opened, and not checked."
NOTES = {
    True: "A sketch drawn by rules, not by a diffusion model.",
    False: "Made by a generative model.",
}


def guard(request: MediaRequest, verdict: VerdictGiven | None) -> None:
    """Raises NotAllowed unless the verdict allows exactly this request."""
    if verdict is None or not verdict.allowed:
        raise NotAllowed(
            "Stage 4 has no allowing verdict.", hint="Check the text first: `await run.check()`."
        )
    if verdict.sha256 != request.sha256():
        raise NotAllowed(
            "The verdict is for another text or other parameters.",
            hint="Check again: `await run.check(text)`.",
        )


async def run(context: Context, request: MediaRequest, verdict: VerdictGiven | None) -> MediaResult:
    """Everything the backend made, on disk with its provenance.

    Nothing is sent without an allowing verdict for it.
    """
    guard(request, verdict)
    backend = context.backends[context.output.backend]
    if context.provenance == "mark" and not backend.by_rule and request.medium != "image":
        remuxer()  # raises now, not after the work
    started = context.media_attempt(request)
    await context.record(
        started
    )  # the verdict held before it reaches the disk with it: nothing is sent earlier
    result = await context.make(backend, request, started)
    if result.refused:
        return result
    media = await in_thread(_presentable, context, backend, result.media)
    if not media:
        raise Rejected(
            "The backend made no file that can be kept.", hint="Try again, or another output."
        )
    written: list[ArtifactWritten] = []

    def files() -> list[tuple[str, bytes]]:
        stamped = _stamped(context, backend, request, replace(result, media=media))
        names = [
            context.file_name(request.medium, EXTENSIONS.get(media.media_type, "bin"))
            for media in stamped
        ]
        written.extend(
            _written(name, media, started.attempt)
            for name, media in zip(names, stamped, strict=True)
        )
        return [(name, media.data) for name, media in zip(names, stamped, strict=True)]

    try:
        await context.write_files(files)
    # a cancellation waits for the files: they are there, so their events belong to the recording
    finally:
        context.hold(*written)
    return result


def _presentable(context: Context, backend: Backend, made: tuple[Media, ...]) -> tuple[Media, ...]:
    """What may be kept, by what it shows to be.

    Where nothing is shown unchecked, that is no text that came beside a picture, whatever it calls
    itself: no verdict covers its
    words. And where no text may leave, no file of a kind that cannot be freed of its maker's notes.
    """
    if backend.by_rule:
        return made
    found = [replace(media, media_type=_shown(media)) for media in made]
    open_to = (
        ()
        if is_strict(context.level)
        else ("text/",)
        if context.provenance == "mark"
        else ("text/", "application/")
    )
    kept = tuple(
        media
        for media in found
        if media.media_type.startswith(("image/", "video/", "audio/", *open_to))
    )
    if len(kept) < len(found):
        context.hold(
            Warned(
                stage="generation",
                message=f"{len(found) - len(kept)} of {len(found)} files not kept: {UNKEPT}",
            )
        )
    return kept


def _shown(media: Media) -> str:
    """The media type of what a person will see or hear; of what only begins like it, the type of
    mere bytes.
    """
    kind = _kind(media)
    whole = (
        is_picture(media.data)
        if kind.startswith("image/")
        else plays(media.data)
        if kind.startswith(("video/", "audio/"))
        else True
    )
    return kind if whole else "application/octet-stream"


def _stamped(
    context: Context, backend: Backend, request: MediaRequest, result: MediaResult
) -> list[Media]:
    """The files with their provenance inside, their type and size read from the bytes."""
    full = context.provenance == "full"
    provenance = Provenance(
        source_type=BY_PROCEDURE if backend.by_rule else BY_MODEL,
        made_by=f"devpipe {context.output.backend}/{result.model or request.model}",
        note=NOTES[backend.by_rule],
        request=(
            context.redact(
                {
                    **request.described(),
                    "seed": request.seed,
                    "output": context.output.name,
                    "pipeline": context.pipeline.name,
                }
            )
            if full
            else None
        ),
    )
    kinds = [_kind(media) if backend.by_rule else media.media_type for media in result.media]
    if not any(
        _fits(media.data, kind, request.medium)
        for media, kind in zip(result.media, kinds, strict=True)
    ):  # others came with it
        problem = (
            f"The backend made {', '.join(dict.fromkeys(kinds))}, and nothing that is"
            f" {request.medium}."
        )
        raise Rejected(problem, hint="Correct the output config's medium, or what it is made by.")
    bared = [
        media.data if backend.by_rule else _bare(context, media.data) for media in result.media
    ]
    return [
        _identified(media, kind, stamp(data, kind, provenance))
        for media, kind, data in zip(result.media, kinds, bared, strict=True)
    ]


def _fits(data: bytes, kind: str, medium: str) -> bool:
    """Whether it is of that medium; an animated picture is a film, too."""
    moves = medium == "video" and kind.startswith("image/") and seconds_of(data) is not None
    return kind in EXTENSIONS and (moves or kind.startswith(FITTING.get(medium, ())))


def _bare(context: Context, data: bytes) -> bytes:
    """A file without what its maker noted in it: the prompt, the name of the job."""
    try:
        return bare(data)
    except Unavailable:
        if context.provenance == "mark":
            raise
        return data


def _kind(media: Media) -> str:
    """The media type that the bytes say; the backend's word alone does not count, but for a
    text.
    """
    found = sniff(media.data)
    if media.media_type == "text/plain" and found == "application/octet-stream":
        with suppress(UnicodeDecodeError):
            media.data.decode()
            return "text/plain"
    return found


def _identified(media: Media, found: str, data: bytes) -> Media:
    width, height = size_of(data) if found.startswith("image/") else (media.width, media.height)
    return Media(
        data,
        found,
        width,
        height,
        media.seconds if media.seconds is not None else seconds_of(data),
        media.alt,
    )


def _written(name: str, media: Media, attempt: int) -> ArtifactWritten:
    return ArtifactWritten(
        path=name,
        media_type=media.media_type,
        sha256=hashlib.sha256(media.data).hexdigest(),
        bytes=len(media.data),
        width=media.width,
        height=media.height,
        seconds=media.seconds,
        alt=media.alt,
        attempt=attempt,
    )
