"""Stage 4: makes what an allowing verdict covers, and keeps all files of the result."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace

from devpipe.aio import in_thread
from devpipe.errors import NotAllowed, Rejected, Unavailable
from devpipe.media.containers import seconds_of, size_of, sniff
from devpipe.media.pictures import is_picture
from devpipe.media.provenance import BY_MODEL, BY_PROCEDURE, Provenance, bare, plays, remuxer, stamp
from devpipe.record.events import ArtifactWritten, VerdictGiven, Warned
from devpipe.safety.check import is_strict
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Services
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


async def run(
    request: RunRequest,
    services: Services,
    media_request: MediaRequest,
    verdict: VerdictGiven | None,
) -> MediaResult:
    """Everything the backend made, on disk with its provenance.

    Nothing is sent without an allowing verdict for it.
    """
    guard(media_request, verdict)
    leaves_marked = request.provenance == "mark" and media_request.medium != "image"
    if leaves_marked and services.media.depicts:
        remuxer()  # raises now, not after the work
    # the verdict that the journal keeps reaches the disk with the intent: nothing is sent earlier
    result = await services.media.make(media_request, services.media_journal.show)
    if result.refused:
        return result
    made = _Made(request, services, media_request, result)
    kept = await in_thread(_presentable, made)
    if not kept:
        raise Rejected(
            "The backend made no file that can be kept.", hint="Try again, or another output."
        )
    written: list[ArtifactWritten] = []

    def files() -> list[tuple[str, bytes]]:
        stamped = _stamped(made, kept)
        for media in stamped:
            extension = EXTENSIONS.get(media.media_type, "bin")
            name = services.journal.file_name(media_request.medium, extension)
            written.append(_written(name, media, result.attempt))
        return [(one.path, media.data) for one, media in zip(written, stamped, strict=True)]

    try:
        await services.journal.write_files(files)
    finally:
        # A cancellation waits for the files: they are there, so the recording names them.
        services.journal.add(*written)
    return result


class _Made:
    """What a backend made, and who it was: the output's own, or one that stood in."""

    def __init__(
        self,
        request: RunRequest,
        services: Services,
        media_request: MediaRequest,
        result: MediaResult,
    ) -> None:
        self.request = request
        self.journal = services.journal
        self.result = result
        self.output = request.outputs[result.place]
        self.media_request = (media_request, *media_request.fallback)[result.place]
        self.procedural = services.media.links[result.place].backend.procedural
        self.only_marked = request.provenance == "mark"

    def provenance(self) -> Provenance:
        """What each file says of how it was made."""
        asked = None
        if not self.only_marked:
            asked = self.journal.redact(
                {
                    **self.media_request.described(),
                    "seed": self.media_request.seed,
                    "output": self.output.name,
                    "pipeline": self.request.pipeline.name,
                }
            )
        model = self.result.model or self.media_request.model
        return Provenance(
            source_type=BY_PROCEDURE if self.procedural else BY_MODEL,
            made_by=f"devpipe {self.output.backend}/{model}",
            note=NOTES[self.procedural],
            request=asked,
        )


def _presentable(made: _Made) -> tuple[Media, ...]:
    """What may be kept, by what it shows to be.

    Where nothing is shown unchecked, that is no text that came beside a picture, whatever it calls
    itself: no verdict covers its words. And where no text may leave, no file of a kind that cannot
    be freed of its maker's notes.
    """
    if made.procedural:
        return made.result.media
    kinds = ["image/", "video/", "audio/"]
    if not is_strict(made.request.level):
        kinds.append("text/")
        if not made.only_marked:
            kinds.append("application/")
    found = [replace(media, media_type=_shown(media)) for media in made.result.media]
    kept = tuple(media for media in found if media.media_type.startswith(tuple(kinds)))
    left = len(found) - len(kept)
    if left:
        message = f"{left} of {len(found)} files not kept: {UNKEPT}"
        made.journal.add(Warned(stage="generation", message=message))
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


def _stamped(made: _Made, kept: tuple[Media, ...]) -> list[Media]:
    """The files with their provenance inside, their type and size read from the bytes."""
    medium = made.media_request.medium
    kinds = [_kind(media) if made.procedural else media.media_type for media in kept]
    fitting = [_fits(media.data, kind, medium) for media, kind in zip(kept, kinds, strict=True)]
    if not any(fitting):  # others may come beside what was asked for
        problem = (
            f"The backend made {', '.join(dict.fromkeys(kinds))}, and nothing that is {medium}."
        )
        raise Rejected(problem, hint="Correct the output config's medium, or what it is made by.")
    provenance = made.provenance()
    stamped = []
    for media, kind in zip(kept, kinds, strict=True):
        data = media.data if made.procedural else _bare(made, media.data)
        stamped.append(_identified(media, kind, stamp(data, kind, provenance)))
    return stamped


def _fits(data: bytes, kind: str, medium: str) -> bool:
    """Whether it is of that medium; an animated picture is a film, too."""
    moves = medium == "video" and kind.startswith("image/") and seconds_of(data) is not None
    return kind in EXTENSIONS and (moves or kind.startswith(FITTING.get(medium, ())))


def _bare(made: _Made, data: bytes) -> bytes:
    """A file without what its maker noted in it: the prompt, the name of the job."""
    try:
        return bare(data)
    except Unavailable:
        if made.only_marked:
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


def _written(name: str, media: Media, attempt: int | None) -> ArtifactWritten:
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
