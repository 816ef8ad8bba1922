"""The embedded default: texts by procedures from the history of art, media drawn by our own rules.

No network, no key, no GPU; equal (text, seed, parameters) give equal bytes. What it makes is a sketch, not the
work of a diffusion model, and its captions and files say so.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypedDict

from devpipe import pictures
from devpipe.backends.base import Backend, Delta, Emit, Health, Progress
from devpipe.errors import Rejected, UnknownName, nearest
from devpipe.values import LOCAL_COST, Boundary, Media, MediaRequest, MediaResult, Scalar, TextRequest, TextResult, derived_seed

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

Tell = Callable[[int, int], None]  # step, steps; raises where nobody waits any more


class Procedural(Backend):
    """Writes by procedure and draws by rule."""

    by_rule: ClassVar[bool] = True

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The text as the named procedure rewrites it, streamed word by word."""
        name = request.procedure or _BY_TASK.get("split" if request.parts else request.task, "")
        if not name:
            raise Rejected(f"No procedure can {request.task}.", hint=f"Set DEVPIPE_MODEL_{request.task.upper()} to a text model.")
        result = await asyncio.to_thread(_rewrite, name, request)
        for piece in re.findall(r"\s*\S+\s*", result.text):
            emit(Delta(piece))
        return result

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        """The pictures, film or sound, drawn in a thread; cancelling stops the drawing at its next step."""
        order = _order(request)
        loop, left = asyncio.get_running_loop(), threading.Event()

        def tell(step: int, steps: int) -> None:
            if left.is_set():
                raise asyncio.CancelledError
            loop.call_soon_threadsafe(emit, Progress(step, steps))

        try:
            return await asyncio.to_thread(_make, order, tell)
        finally:
            left.set()

    def boundary(self, model: str) -> Boundary:
        return "local"

    async def check(self) -> Health:
        """Always ready."""
        return Health(ready=True, detail="embedded", models=tuple(_MODELS))


def _rewrite(name: str, request: TextRequest) -> TextResult:
    from devpipe.procedures import VERSION, procedure

    try:
        chosen = procedure(name)
    except UnknownName as error:
        raise Rejected(error.message, hint=error.hint) from error
    parts: dict[str, str] = {}
    if request.parts:
        parts = chosen.split(request.text, seed=request.seed, language=request.language, parts=request.parts)
        text = "\n".join(parts.values())
    else:
        text = chosen.rewrite(request.text, seed=request.seed, language=request.language, output_language=request.output_language)
    return TextResult(text, parts=parts, model=name, digest=VERSION, cost=LOCAL_COST)


class _Manner(TypedDict):
    seed: int
    style: str
    language: str


class _Canvas(_Manner):
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Order:
    """A request as the drawers need it: every value present and in range."""

    request: MediaRequest
    seed: int
    numbers: Mapping[str, float]
    format: str

    @property
    def prompt(self) -> str:
        return self.request.texts["prompt"]

    @property
    def manner(self) -> _Manner:
        said = {self.request.languages.get(name, "") for name in _MODELS[self.request.model].texts}
        language = said.pop() if len(said) == 1 else ""  # two texts in two languages: each is looked at by itself
        return {"seed": self.seed, "style": self.request.style, "language": language}

    @property
    def canvas(self) -> _Canvas:
        return {**self.manner, "width": int(self.numbers["width"]), "height": int(self.numbers["height"])}

    def image(self, name: str) -> Image:
        if name not in self.request.images:
            raise Rejected(f"{self.request.model} needs the picture {name!r}.", hint=f"Give it: --{name} FILE.")
        return pictures.decode(self.request.images[name].data, what=name, error=Rejected)


def _order(request: MediaRequest) -> _Order:
    if request.model not in _MODELS:
        near = nearest(request.model, _MODELS) or list(_MODELS)
        raise Rejected(f"There is no sketch model {request.model!r}.", hint=f"Choose one of: {', '.join(near)}.")
    for name in _MODELS[request.model].texts:
        if name not in request.texts:
            raise Rejected(f"{request.model} needs the text {name!r}.", hint="Give one text for each input of the media pipeline.")
    numbers = {name: _number(request.parameters, name) for name in _RANGES}
    chosen = str(request.parameters.get("format", _FORMATS[0]))
    if chosen not in _FORMATS:
        raise Rejected(f"There is no format {chosen!r}.", hint=f"Choose one of: {', '.join(_FORMATS)}.")
    return _Order(request, request.seed, numbers, chosen)


def _number(given: Mapping[str, Scalar], name: str) -> float:
    default, least, most = _RANGES[name]
    value = given.get(name, default)
    kind = int if isinstance(default, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise Rejected(f"{name} is {value!r}.", hint=f"Give a {'whole ' * (kind is int)}number from {least} to {most}.")
    return value


def _make(order: _Order, tell: Tell) -> MediaResult:
    from devpipe.sketch import VERSION

    model, count = _MODELS[order.request.model], int(order.numbers["count"])
    media = []
    for index in range(count):
        seed = derived_seed(order.seed, index) if index else order.seed
        media.append(_media(model.draw(replace(order, seed=seed), tell), order))
        tell(index + 1, count)
    used = {**order.numbers, "format": order.format}
    return MediaResult(
        tuple(media),
        model=order.request.model,
        digest=VERSION,
        sent={"model": order.request.model, "seed": order.seed, "parameters": {name: used[name] for name in model.hears}},
        cost=LOCAL_COST,
    )


def _media(drawn: Image | bytes, order: _Order) -> Media:
    from devpipe.sketch import caption, read

    manner = order.manner
    readings = [read(order.request.texts[name], manner["language"]) for name in _MODELS[order.request.model].texts]
    alt = " / ".join(caption(reading, manner["style"], manner["language"]) for reading in readings)
    if not isinstance(drawn, bytes):
        return Media(pictures.encode_png(drawn), "image/png", drawn.width, drawn.height, alt=alt)
    kind = pictures.sniff(drawn)
    if kind == "audio/wav":
        return Media(drawn, kind, seconds=pictures.seconds_of(drawn), alt=alt)
    width, height = order.canvas["width"], order.canvas["height"]
    even = 2 if kind == "video/mp4" else 1  # H.264 has no odd sides
    return Media(drawn, kind, width - width % even, height - height % even, order.numbers["frames"] / order.numbers["fps"], alt=alt)


def _sketch(order: _Order, tell: Tell) -> Image:
    from devpipe.sketch import compose

    return compose(order.prompt, **order.canvas)


def _fusion(order: _Order, tell: Tell) -> Image:
    from devpipe.sketch.fusion import fuse

    return fuse(order.prompt, order.request.texts["prompt_2"], alpha=order.numbers["alpha"], **order.canvas)


def _inpaint(order: _Order, tell: Tell) -> Image:
    from devpipe.sketch.inpaint import inpaint

    return inpaint(order.image("image"), order.image("mask"), order.prompt, strength=order.numbers["strength"], **order.manner)


def _control(order: _Order, tell: Tell) -> Image:
    from devpipe.sketch.control import follow

    return follow(order.image("control"), order.prompt, strength=order.numbers["strength"], **order.canvas)


def _film(order: _Order, tell: Tell) -> bytes:
    from devpipe.sketch.film import film

    frames, fps = int(order.numbers["frames"]), int(order.numbers["fps"])
    return film(order.prompt, frames=frames, fps=fps, format=order.format, tell=tell, **order.canvas)


def _sound(order: _Order, tell: Tell) -> bytes:
    from devpipe.sketch.sound import sound

    return sound(order.prompt, seed=order.seed, seconds=order.numbers["seconds"], language=order.manner["language"])


@dataclass(frozen=True, slots=True)
class _Model:
    """How one model draws one file, which parameters it hears and which texts it reads."""

    draw: Callable[[_Order, Tell], Image | bytes]
    hears: tuple[str, ...]
    texts: tuple[str, ...] = ("prompt",)


_MODELS: Mapping[str, _Model] = {
    "sketch": _Model(_sketch, ("width", "height", "count")),
    "sketch_fusion": _Model(_fusion, ("width", "height", "alpha", "count"), ("prompt", "prompt_2")),
    "sketch_inpaint": _Model(_inpaint, ("strength", "count")),
    "sketch_control": _Model(_control, ("width", "height", "strength", "count")),
    "sketch_video": _Model(_film, ("width", "height", "frames", "fps", "format", "count")),
    "sketch_sound": _Model(_sound, ("seconds", "count")),
}
