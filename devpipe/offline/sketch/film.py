"""A short film of a text: its picture taken apart into things and ground, each thing moved as the
text says, in a loop.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from devpipe.errors import Unavailable
from devpipe.offline.sketch import pixels
from devpipe.offline.sketch.reading import Reading, fold, read, vocabulary
from devpipe.offline.sketch.styles import draw
from devpipe.values import derived_seed

_FALLING = {
    "rain": (150, 3, 0.05),
    "storm": (240, 4, 0.06),
    "snow": (150, 1, 0.0),
}  # how many, screens a loop, streak's length
_LEAST, _MOST = 0.004, 9  # share of the picture a thing covers at least; things that move
_SIDE = 256  # pixels of the longer side in which things are told apart


@dataclass(frozen=True, slots=True)
class _Sprite:
    """One thing cut out, where its middle stands, and how it moves."""

    image: Image.Image
    x: float
    y: float
    motion: str
    offset: float  # of its phase, 0..1

    def at(self, phase: float, unit: float) -> tuple[Image.Image, float, float]:
        """Its picture and middle at a phase of the loop; the same at 0 and 1."""
        wave, calm = math.sin(math.tau * (phase + self.offset)), math.sin(math.tau * phase)
        if self.motion == "turn":
            spun = self.image.rotate(-360 * phase, Image.Resampling.BICUBIC)
            return spun, self.x + 0.03 * unit * calm, self.y + 0.015 * unit * wave
        if self.motion == "grow":
            scale = 1 - 0.3 * (0.5 + 0.5 * math.cos(math.tau * phase))
            size = max(1, round(self.image.width * scale)), max(1, round(self.image.height * scale))
            return (
                self.image.resize(size, Image.Resampling.BILINEAR),
                self.x,
                self.y + (self.image.height - size[1]) * 0.3,
            )
        if self.motion == "drift":
            return self.image, self.x + 0.09 * unit * calm, self.y + 0.018 * unit * wave
        if self.motion == "leap":
            return (
                self.image,
                self.x + 0.03 * unit * calm,
                self.y - 0.1 * unit * abs(math.sin(math.tau * (phase + self.offset) / 2)),
            )
        return (
            self.image.rotate(2.2 * wave, Image.Resampling.BICUBIC),
            self.x,
            self.y + 0.006 * unit * wave,
        )


def film(
    text: str,
    *,
    seed: int,
    width: int,
    height: int,
    frames: int,
    fps: int,
    format: str = "webp",
    style: str = "",
    language: str = "",
    tell: Callable[[int, int], None] = lambda step, steps: None,
) -> bytes:
    """A film of the text that ends where it begins, as animated WEBP or as MP4 (H.264); `tell`
    hears of every frame.

    MP4 needs `pip install "devpipe-lab[video]"`, else Unavailable, and cuts odd sizes down to
    even ones.
    """
    reading = read(text, language)
    picture = draw(reading, seed=seed, width=width, height=height, style=style)
    if (
        reading.weather in _FALLING
    ):  # it falls in the film: the ground has its colours, not its drops
        season = "winter" if reading.weather == "snow" else reading.season
        dry = draw(
            replace(reading, weather="", season=season),
            seed=seed,
            width=width,
            height=height,
            style=style,
        )
        colours = pixels.statistics(pixels.to_lab(picture))
        picture = pixels.to_image(pixels.recoloured(pixels.to_lab(dry), colours))
    rng = np.random.default_rng(derived_seed(seed, reading.key, "film"))
    ground, sprites = _apart(picture, _motion(reading, text), rng)
    drops = rng.random((_FALLING.get(reading.weather, (0, 0, 0))[0], 3))

    def drawn() -> Iterator[Image.Image]:
        for index in range(frames):
            yield _frame(ground, sprites, drops, reading.weather, index / frames)
            tell(index + 1, frames)

    return {"webp": _webp, "mp4": _mp4}[format](drawn(), fps)


def _frame(
    ground: Image.Image,
    sprites: list[_Sprite],
    drops: NDArray[np.float64],
    weather: str,
    phase: float,
) -> Image.Image:
    """The ground with everything on it, seen by a camera that breathes: a little nearer and a
    little aside, and back.
    """
    unit, calm, zoom = (
        min(ground.size),
        math.sin(math.tau * phase),
        1 - 0.03 - 0.015 * math.cos(math.tau * phase),
    )
    wide, high = ground.width * zoom, ground.height * zoom
    left, top = (
        (ground.width - wide) / 2 + 0.008 * unit * calm,
        (ground.height - high) / 2 + 0.004 * unit * calm,
    )
    frame = ground.resize(
        ground.size, Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high)
    )
    for sprite in sprites:
        image, x, y = sprite.at(phase, unit)
        frame.paste(image, (round(x - image.width / 2), round(y - image.height / 2)), image)
    if weather in _FALLING:
        _fall(frame, drops, phase, weather)
    return frame


def _motion(reading: Reading, text: str) -> str:
    words = [fold(word) for word in text.split()]  # `motions` are beginnings of words, folded
    for motion, stems in vocabulary()["motions"].items():
        if any(word.startswith(tuple(stems.split())) for word in words):
            return str(motion)
    if {thing.motif for thing in reading.known} & set(vocabulary()["round"].split()):
        return "turn"
    return "drift" if {thing.habitat for thing in reading.known} & {"air", "water"} else "sway"


def _apart(
    picture: Image.Image, motion: str, rng: np.random.Generator
) -> tuple[Image.Image, list[_Sprite]]:
    """The picture without its things, and its things."""
    lab = pixels.to_lab(picture)
    figure = pixels.figure(lab)
    size = (
        max(8, picture.width * _SIDE // max(picture.size)),
        max(8, picture.height * _SIDE // max(picture.size)),
    )
    small = np.asarray(Image.fromarray(figure).resize(size, Image.Resampling.BOX))
    names = pixels.regions(small < 0.4)
    areas = np.bincount(names.ravel())
    moving = [
        name
        for name in range(1, min(len(areas), _MOST + 1))
        if _LEAST < areas[name] / names.size < 0.45
    ]
    sprites = [_cut(picture, figure, names == name, motion, rng.random()) for name in moving]
    shape = Image.fromarray(np.isin(names, moving).astype(np.float32)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    gone = pixels.smoothstep(pixels.blurred(np.asarray(shape), min(picture.size) / 70), 0.02, 0.15)
    return pixels.to_image(pixels.filled(lab, 1 - gone)), sprites


def _cut(
    picture: Image.Image, figure: pixels.Field, where: NDArray[np.bool_], motion: str, offset: float
) -> _Sprite:
    mask = Image.fromarray(where.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    alpha = pixels.smoothstep(
        pixels.blurred(np.asarray(mask), min(picture.size) / 130), 0.1, 0.6
    ) * pixels.smoothstep(figure, 0.1, 0.6)
    layer = picture.convert("RGBA")
    layer.putalpha(Image.fromarray(np.rint(alpha * 255).astype(np.uint8)))
    left, top, right, bottom = layer.getchannel("A").getbbox() or (0, 0, 1, 1)
    x, y, half = (
        (left + right) / 2,
        (top + bottom) / 2,
        math.ceil(math.hypot(right - left, bottom - top) / 2) + 2,
    )
    return _Sprite(
        layer.crop((round(x) - half, round(y) - half, round(x) + half, round(y) + half)),
        round(x),
        round(y),
        motion,
        offset,
    )


def _fall(frame: Image.Image, drops: NDArray[np.float64], phase: float, weather: str) -> None:
    """Rain or snow, each drop a whole number of screens a loop."""
    _, speed, long = _FALLING[weather]
    pen, unit = ImageDraw.Draw(frame, "RGBA"), min(frame.size)
    for x, y, near in drops:
        turns = speed + (near > 0.6)
        y = ((y + turns * phase) % 1 * 1.2 - 0.1) * frame.height
        x = (
            x * 1.1 - 0.05 + (0.02 * math.sin(math.tau * (phase * turns + near)) if not long else 0)
        ) * frame.width
        if long:
            reach = long * unit * (0.5 + near)
            pen.line(
                (x, y, x - reach * 0.25, y + reach),
                (232, 238, 246, round(70 + 90 * near)),
                max(1, round(unit * 0.004 * near)),
            )
        else:
            r = unit * (0.003 + 0.007 * near**2)
            pen.ellipse((x - r, y - r, x + r, y + r), (255, 255, 255, round(130 + 110 * near)))


def _webp(frames: Iterator[Image.Image], fps: int) -> bytes:
    out, first = io.BytesIO(), next(frames)
    first.save(
        out,
        "WEBP",
        save_all=True,
        append_images=frames,
        duration=round(1000 / fps),
        loop=0,
        quality=80,
        method=2,
    )
    return out.getvalue()


def _mp4(frames: Iterator[Image.Image], fps: int) -> bytes:
    try:
        import av
    except ImportError as error:
        raise Unavailable(
            "MP4 needs PyAV.",
            hint='Run `pip install "devpipe-lab[video]"`, or choose the format webp.',
        ) from error
    out, first = io.BytesIO(), next(frames)
    size = first.width // 2 * 2, first.height // 2 * 2  # yuv420p knows no odd sides
    with av.open(out, "w", format="mp4") as container:
        # Without mbtree=0 equal frames gave 11 different files in 60 tries, with it one (PyAV
        # 18.1).
        h264 = "libx264" in av.codecs_available
        options = {"crf": "20", "x264-params": "mbtree=0"} if h264 else {"qscale": "3"}
        stream = container.add_stream("libx264" if h264 else "mpeg4", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_count = (
            1  # several threads may cut the film differently each time
        )
        for image in itertools.chain([first], frames):
            pixel = np.asarray(image)[: size[1], : size[0]]
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format="rgb24")
                )
            )
        container.mux(stream.encode())
    return out.getvalue()
