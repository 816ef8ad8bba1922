"""The embedded default: texts by procedures from the history of art, media drawn by our own rules.

No network, no key, no GPU; equal (text, seed, parameters) give equal bytes. What it makes is a
sketch, not the
work of a diffusion model, and its captions and files say so.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from devpipe.backends.base import Backend, Delta, Emit, Health, Progress
from devpipe.errors import Rejected, UnknownName, nearest
from devpipe.media import containers, pictures
from devpipe.values import (
    LOCAL_COST,
    Boundary,
    Media,
    MediaRequest,
    MediaResult,
    Scalar,
    TextRequest,
    TextResult,
    derived_seed,
)

if TYPE_CHECKING:
    from PIL.Image import Image

_BY_TASK = {"translate": "translate_en", "split": "split", "interception": "keep"}
_RANGES: Mapping[str, tuple[float, float, float]] = {  # default, least, most
    "width": (768, 64, 2048),
    "height": (768, 64, 2048),
    "count": (1, 1, 16),
    "frames": (24, 2, 120),
    "fps": (12, 1, 30),
    "alpha": (0.5, 0, 1),
    "strength": (0.8, 0, 1),
    "seconds": (6.0, 1, 60),
}
_FORMATS = ("webp", "mp4")
_HEARS: Mapping[str, tuple[str, ...]] = {  # each model and its parameters
    "sketch": ("width", "height", "count"),
    "sketch_fusion": ("width", "height", "alpha", "count"),
    "sketch_inpaint": ("strength", "count"),
    "sketch_control": ("width", "height", "strength", "count"),
    "sketch_video": ("width", "height", "frames", "fps", "format", "count"),
    "sketch_sound": ("seconds", "count"),
}

_Numbers = Mapping[str, float]
Tell = Callable[[int, int], None]  # step, steps; raises where nobody waits any more


class Procedural(Backend):
    """Writes by procedure and draws by rule."""

    procedural = True

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The text as the named procedure rewrites it, streamed word by word."""
        name = request.procedure or _BY_TASK.get("split" if request.parts else request.task, "")
        if not name:
            raise Rejected(
                f"No procedure can {request.task}.",
                hint=f"Set DEVPIPE_MODEL_{request.task.upper()} to a text model.",
            )
        result = await asyncio.to_thread(_rewrite, name, request)
        for piece in re.findall(r"\s*\S+\s*", result.text):
            emit(Delta(piece))
        return result

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        """The pictures, film or sound, drawn in a thread; cancelling stops the drawing at its next
        step.
        """
        numbers = _checked(request)
        loop, left = asyncio.get_running_loop(), threading.Event()

        def tell(step: int, steps: int) -> None:
            if left.is_set():
                raise asyncio.CancelledError
            loop.call_soon_threadsafe(emit, Progress(step, steps))

        try:
            return await asyncio.to_thread(_make, request, numbers, tell)
        finally:
            left.set()

    def boundary(self, model: str) -> Boundary:
        return "local"

    async def digest(self, model: str) -> str:
        """The version of our own rules: of the drawings, or of the procedures for texts."""
        if model:
            from devpipe.offline.sketch import VERSION
        else:
            from devpipe.offline.procedures import VERSION
        return VERSION

    async def check(self) -> Health:
        """Always ready."""
        return Health(ready=True, detail="embedded", models=tuple(_HEARS))


def _rewrite(name: str, request: TextRequest) -> TextResult:
    from devpipe.offline.procedures import VERSION, procedure

    try:
        chosen = procedure(name)
    except UnknownName as error:
        raise Rejected(error.message, hint=error.hint) from error
    language = chosen.writes(request.text, request.language)
    if request.parts:
        parts = chosen.split(
            request.text, seed=request.seed, language=request.language, parts=request.parts
        )
        return TextResult(
            "\n".join(parts.values()),
            parts=parts,
            model=name,
            digest=VERSION,
            cost=LOCAL_COST,
            language=language,
        )
    text = chosen.rewrite(
        request.text,
        seed=request.seed,
        language=request.language,
        output_language=request.output_language,
    )
    return TextResult(text, model=name, digest=VERSION, cost=LOCAL_COST, language=language)


class _Manner(TypedDict):
    seed: int
    style: str
    language: str


def _texts(request: MediaRequest) -> tuple[str, ...]:
    """The names of the texts that the model reads."""
    return ("prompt", "prompt_2") if request.model == "sketch_fusion" else ("prompt",)


def _manner(request: MediaRequest) -> _Manner:
    said = {request.languages.get(name, "") for name in _texts(request)}
    language = (
        said.pop() if len(said) == 1 else ""
    )  # two texts in two languages: each is looked at by itself
    return {"seed": request.seed, "style": request.style, "language": language}


def _image(request: MediaRequest, name: str) -> Image:
    if name not in request.images:
        raise Rejected(
            f"{request.model} needs the picture {name!r}.",
            hint=f"Give {name}=FILE.",
        )
    return pictures.decode(request.images[name].data, what=name, error=Rejected)


def _format(request: MediaRequest) -> str:
    return str(request.parameters.get("format", _FORMATS[0]))


def _checked(request: MediaRequest) -> _Numbers:
    """The numbers that the drawers need, every one present and in range."""
    if request.model not in _HEARS:
        near = nearest(request.model, _HEARS) or list(_HEARS)
        raise Rejected(
            f"There is no sketch model {request.model!r}.",
            hint=f"Choose one of: {', '.join(near)}.",
        )
    for name in _texts(request):
        if name not in request.texts:
            raise Rejected(
                f"{request.model} needs the text {name!r}.",
                hint="Give one text for each input of the media pipeline.",
            )
    numbers = {name: _number(request.parameters, name) for name in _RANGES}
    if _format(request) not in _FORMATS:
        raise Rejected(
            f"There is no format {_format(request)!r}.",
            hint=f"Choose one of: {', '.join(_FORMATS)}.",
        )
    return numbers


def _number(given: Mapping[str, Scalar], name: str) -> float:
    default, least, most = _RANGES[name]
    value = given.get(name, default)
    kind = int if isinstance(default, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise Rejected(
            f"{name} is {value!r}.",
            hint=f"Give a {'whole ' * (kind is int)}number from {least} to {most}.",
        )
    return value


def _make(request: MediaRequest, numbers: _Numbers, tell: Tell) -> MediaResult:
    from devpipe.offline.sketch import VERSION

    media, count = [], int(numbers["count"])
    for index in range(count):
        seed = derived_seed(request.seed, index) if index else request.seed
        media.append(_media(_drawn(replace(request, seed=seed), numbers, tell), request, numbers))
        tell(index + 1, count)
    used = {**numbers, "format": _format(request)}
    sent = {
        "model": request.model,
        "seed": request.seed,
        "parameters": {name: used[name] for name in _HEARS[request.model]},
    }
    return MediaResult(
        tuple(media), model=request.model, digest=VERSION, sent=sent, cost=LOCAL_COST
    )


def _media(drawn: Image | bytes, request: MediaRequest, numbers: _Numbers) -> Media:
    from devpipe.offline.sketch import caption, read

    language = _manner(request)["language"]
    alt = " / ".join(
        caption(read(request.texts[name], language), request.style, language)
        for name in _texts(request)
    )
    if not isinstance(drawn, bytes):
        return Media(pictures.encode_png(drawn), "image/png", drawn.width, drawn.height, alt=alt)
    kind = containers.sniff(drawn)
    if kind == "audio/wav":
        return Media(drawn, kind, seconds=containers.seconds_of(drawn), alt=alt)
    width, height = int(numbers["width"]), int(numbers["height"])
    even = 2 if kind == "video/mp4" else 1  # H.264 has no odd sides
    return Media(
        drawn,
        kind,
        width - width % even,
        height - height % even,
        numbers["frames"] / numbers["fps"],
        alt=alt,
    )


def _drawn(request: MediaRequest, numbers: _Numbers, tell: Tell) -> Image | bytes:
    """One file of the model that the request names."""
    from devpipe.offline.sketch import compose
    from devpipe.offline.sketch.control import follow
    from devpipe.offline.sketch.film import film
    from devpipe.offline.sketch.fusion import fuse
    from devpipe.offline.sketch.inpaint import inpaint
    from devpipe.offline.sketch.sound import sound

    texts, manner = [request.texts[name] for name in _texts(request)], _manner(request)
    width, height, strength = int(numbers["width"]), int(numbers["height"]), numbers["strength"]
    match request.model:
        case "sketch":
            return compose(*texts, width=width, height=height, **manner)
        case "sketch_fusion":
            return fuse(*texts, alpha=numbers["alpha"], width=width, height=height, **manner)
        case "sketch_inpaint":
            return inpaint(
                _image(request, "image"),
                _image(request, "mask"),
                *texts,
                strength=strength,
                **manner,
            )
        case "sketch_control":
            return follow(
                _image(request, "control"),
                *texts,
                strength=strength,
                width=width,
                height=height,
                **manner,
            )
        case "sketch_video":
            frames, fps = int(numbers["frames"]), int(numbers["fps"])
            return film(
                *texts,
                frames=frames,
                fps=fps,
                format=_format(request),
                tell=tell,
                width=width,
                height=height,
                **manner,
            )
        case _:
            return sound(
                *texts, seed=request.seed, seconds=numbers["seconds"], language=manner["language"]
            )
