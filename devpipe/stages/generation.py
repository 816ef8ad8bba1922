"""Stage 4: makes what an allowing verdict covers, and keeps all files of the result."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from devpipe.aio import in_thread
from devpipe.errors import NotAllowed, Rejected, Unavailable
from devpipe.media.containers import EXTENSIONS, UNKNOWN, is_of, kind_of, measured
from devpipe.media.pictures import is_picture
from devpipe.media.provenance import BY_MODEL, BY_PROCEDURE, Provenance, bare, plays, remuxer, stamp
from devpipe.record.events import ArtifactWritten, VerdictGiven, Warned
from devpipe.safety.check import is_strict
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Services
from devpipe.values import Media, MediaRequest, MediaResult

OPENS = {"image": is_picture, "video": plays, "audio": plays}
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
        place = result.place
        self.output = request.outputs[place]
        self.media_request = (media_request, *media_request.fallback)[place]
        self.procedural = services.media.links[place].backend.procedural
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


def _presentable(made: _Made) -> list[Media]:
    """What may be kept, by what it shows to be.

    Where nothing is shown unchecked, that is no text that came beside a picture, whatever it calls
    itself: no verdict covers its words. And where no text may leave, no file of a kind that cannot
    be freed of its maker's notes.
    """
    found = [replace(media, media_type=_shown(made, media)) for media in made.result.media]
    if made.procedural:
        return found
    kinds = ["image/", "video/", "audio/"]
    if not is_strict(made.request.level):
        kinds.append("text/")
        if not made.only_marked:
            kinds.append("application/")
    kept = [media for media in found if media.media_type.startswith(tuple(kinds))]
    if len(kept) < len(found):
        message = f"{len(found) - len(kept)} of {len(found)} files not kept: {UNKEPT}"
        made.journal.add(Warned(stage="generation", message=message))
    return kept


def _shown(made: _Made, media: Media) -> str:
    """The media type of what a person will see or hear; of what only begins like it, the type of
    mere bytes.
    """
    kind = kind_of(media)
    opens = OPENS.get(kind.partition("/")[0])
    whole = made.procedural or opens is None or opens(media.data)
    return kind if whole else UNKNOWN


def _stamped(made: _Made, kept: list[Media]) -> list[Media]:
    """The files with their provenance inside, their size read from the bytes."""
    medium = made.media_request.medium
    if not any(is_of(media, medium) for media in kept):  # others may come beside what was asked for
        kinds = ", ".join(dict.fromkeys(media.media_type for media in kept))
        raise Rejected(
            f"The backend made {kinds}, and nothing that is {medium}.",
            hint="Correct the output config's medium, or what it is made by.",
        )
    provenance = made.provenance()
    return [
        measured(media, stamp(_bare(made, media.data), media.media_type, provenance))
        for media in kept
    ]


def _bare(made: _Made, data: bytes) -> bytes:
    """A file without what its maker noted in it: the prompt, the name of the job."""
    if made.procedural:
        return data
    try:
        return bare(data)
    except Unavailable:
        if made.only_marked:
            raise
        return data


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
