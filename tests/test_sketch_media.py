"""Fused, mended, led, moving and sounding sketches: what each promises beyond a single picture."""

from __future__ import annotations

import io
import sys
import wave
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from devpipe.errors import Unavailable
from devpipe.media.containers import seconds_of, sniff
from devpipe.media.pictures import encode_png
from devpipe.offline.sketch import compose, pixels
from devpipe.offline.sketch.control import follow
from devpipe.offline.sketch.film import film
from devpipe.offline.sketch.fusion import fuse
from devpipe.offline.sketch.inpaint import inpaint
from devpipe.offline.sketch.sound import RATE, sound

SIZE = 160
CIRCLE, FISH = "ein roter Kreis auf blauem Grund", "three yellow fish in green water"


def drawn(text: str, seed: int = 7, style: str = "") -> Image.Image:
    return compose(text, seed=seed, width=SIZE, height=SIZE, style=style)


def far(a: Image.Image, b: Image.Image) -> float:
    """How far apart two pictures are, in the mean over all values, of 255."""
    return float(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).mean())


def ring(inside: int = 255, outside: int = 0) -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE), outside)
    ImageDraw.Draw(mask).ellipse((30, 40, 120, 140), fill=inside)
    return mask


def sheet() -> Image.Image:
    """A line drawing: a house-like outline."""
    image = Image.new("RGB", (SIZE, SIZE), "white")
    ImageDraw.Draw(image).polygon(
        [(80, 20), (140, 70), (140, 140), (20, 140), (20, 70)], outline="black", width=3
    )
    return image


def fused(alpha: float, seed: int = 7, style: str = "") -> Image.Image:
    return fuse(CIRCLE, FISH, alpha=alpha, seed=seed, width=SIZE, height=SIZE, style=style)


def test_fusion_begins_with_one_text_and_ends_with_the_other() -> None:
    assert encode_png(fused(0)) == encode_png(drawn(CIRCLE)) and encode_png(fused(1)) == encode_png(
        drawn(FISH)
    )


def test_fusion_moves_steadily_from_one_picture_to_the_other() -> None:
    """Nearer to the second with every step of alpha, and no step is the half-transparent overlay of
    both.
    """
    steps = [fused(alpha) for alpha in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    to_second = [far(step, steps[-1]) for step in steps]
    assert to_second == sorted(to_second, reverse=True) and len(set(to_second)) == 6
    overlay = Image.blend(steps[0], steps[-1], 0.5)
    assert far(fused(0.5), overlay) > 8
    assert float(pixels.edges(pixels.to_lab(fused(0.5))).mean()) > 1.1 * float(
        pixels.edges(pixels.to_lab(overlay)).mean()
    )


def test_fusion_has_colours_between_those_of_both() -> None:
    means = [pixels.statistics(pixels.to_lab(fused(alpha)))[0] for alpha in (0, 0.5, 1)]
    between = means[0] + (means[2] - means[0]) / 2
    assert np.abs(means[1] - between).max() < 0.05
    red, blue = ("ein weißer Kreis auf rotem Grund", "ein weißer Kreis auf blauem Grund")
    pure = np.asarray(compose(red, seed=7, width=SIZE, height=SIZE), np.int16)[2, 2]
    half = np.asarray(fuse(red, blue, alpha=0.5, seed=7, width=SIZE, height=SIZE), np.int16)
    assert (np.abs(half - pure).max(axis=2) < 25).mean() < 0.05  # neither keeps its own ground


@pytest.mark.parametrize("style", ["", "bauhaus", "dada"])
def test_another_seed_fuses_otherwise_and_the_same_equally(style: str) -> None:
    assert encode_png(fused(0.5, style=style)) == encode_png(fused(0.5, style=style))
    assert far(fused(0.5, style=style), fused(0.5, 8, style)) > 2


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("grey", [255, 128])
def test_inpainting_leaves_every_pixel_outside_the_mask(strength: float, grey: int) -> None:
    base = drawn("a house and a tree in a green meadow, sunny day")
    mask = ring(grey)
    result = np.asarray(inpaint(base, mask, "ein gelber Mond", strength=strength, seed=3))
    outside = np.asarray(mask) == 0
    assert np.array_equal(result[outside], np.asarray(base)[outside])
    assert np.abs(result[~outside].astype(int) - np.asarray(base)[~outside]).mean() > 0.5


def test_inpainting_leaves_noise_outside_the_mask() -> None:
    """Also colours that no calculation gives back exactly."""
    base = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    )
    result = np.asarray(inpaint(base, ring(), CIRCLE, strength=1, seed=3))
    assert np.array_equal(
        result[np.asarray(ring()) == 0], np.asarray(base)[np.asarray(ring()) == 0]
    )


def test_inpainting_shows_what_the_text_says_and_is_soft_at_the_rim() -> None:
    """A red circle in a grey picture reddens the middle of the mask, and not its edge."""
    base = Image.new("RGB", (SIZE, SIZE), (120, 120, 120))
    result = np.asarray(inpaint(base, ring(), "ein roter Kreis", strength=1, seed=3)).astype(int)
    redness = result[..., 0] - result[..., 2]
    inside = np.asarray(ring()) > 0
    rim = inside & ~(pixels.blurred(inside.astype(np.float32), 2) > 0.8)
    assert redness[inside].max() > 60 and np.abs(redness[rim]).mean() < 12
    white = Image.new("RGB", (SIZE, SIZE), "white")
    change = 255 - np.asarray(
        inpaint(white, ring(), "a storm in the dark night", strength=1, seed=3)
    ).astype(int).mean(axis=2)
    assert change[rim].mean() < 0.4 * change[inside & ~rim].mean()


def test_inpainting_nothing_with_no_strength_or_an_empty_mask() -> None:
    base = drawn(FISH)
    for mask, strength in ((ring(), 0.0), (Image.new("L", (SIZE, SIZE)), 1.0)):
        assert encode_png(inpaint(base, mask, CIRCLE, strength=strength, seed=1)) == encode_png(
            base
        )
    everything = Image.new("L", (60, 50), 255)  # of another size, and nothing left around it
    assert far(inpaint(base, everything, CIRCLE, strength=1, seed=1), base) > 10
    speck = Image.new("L", (SIZE, SIZE))
    speck.putpixel((5, 5), 255)
    assert inpaint(base, speck, CIRCLE, strength=1, seed=1).size == base.size


def led(strength: float, control: Image.Image | None = None, text: str = CIRCLE) -> Image.Image:
    return follow(control or sheet(), text, strength=strength, seed=7, width=SIZE, height=SIZE)


def test_control_without_strength_is_the_text_alone() -> None:
    assert encode_png(led(0)) == encode_png(drawn(CIRCLE))


def test_the_edges_of_the_control_image_are_drawn() -> None:
    """The stronger, the more the result's edges lie where the control image has them; its areas
    have different colours.
    """
    lines = np.asarray(sheet().convert("L")) < 128

    def share(image: Image.Image) -> float:
        found = pixels.edges(pixels.to_lab(image))
        near = pixels.blurred(lines.astype(np.float32), 2) > 0.05
        return float(found[near].mean() / found[~near].mean())

    shares = [share(led(strength)) for strength in (0, 0.5, 1)]
    assert shares[0] < shares[1] < shares[2] and shares[2] > 3
    result = np.asarray(led(1)).astype(int)
    assert np.median(result[lines], axis=0).min() > 200  # light ink on the dark ground
    assert (
        np.abs(
            result[100:130, 40:120].mean(axis=(0, 1)) - result[2:12, 2:12].mean(axis=(0, 1))
        ).max()
        > 40
    )


def test_control_keeps_the_colours_of_the_text() -> None:
    mean = np.asarray(led(1, text="ein grüner Kreis auf dunkelgrünem Grund")).mean(axis=(0, 1))
    assert mean[1] > mean[0] and mean[1] > mean[2]


@pytest.mark.parametrize(
    "control",
    [
        Image.new("RGB", (40, 90), "grey"),
        Image.effect_noise((100, 60), 80),
        Image.new("L", (8, 8), 255),
    ],
)
def test_any_control_image_can_be_followed(control: Image.Image) -> None:
    """Without an edge, full of edges, of another shape."""
    assert led(1, control).size == (SIZE, SIZE)
    assert encode_png(led(0.7, control)) == encode_png(led(0.7, control))


def frames_of(data: bytes) -> list[np.ndarray[Any, np.dtype[np.int16]]]:
    if sniff(data) == "video/mp4":
        with av.open(io.BytesIO(data)) as container:
            return [
                frame.to_ndarray(format="rgb24").astype(np.int16)
                for frame in container.decode(video=0)
            ]
    image, frames = Image.open(io.BytesIO(data)), []
    for index in range(image.n_frames):
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")).astype(np.int16))
    return frames


def rolled(text: str, kind: str, style: str = "", seed: int = 7) -> bytes:
    return film(
        text, seed=seed, width=SIZE, height=SIZE - 31, frames=8, fps=10, format=kind, style=style
    )


@pytest.mark.parametrize("kind", ["webp", "mp4"])
@pytest.mark.parametrize(
    "text",
    [
        "a cat in the rain",
        "Schnee fällt auf ein Haus",
        "ein Stern dreht sich",
        "eine Blume wächst",
        "fish swim",
        "",
        "🙂",
    ],
)
def test_a_film_moves_and_comes_round(kind: str, text: str) -> None:
    """As many frames as asked, each a little different from the one before, the last as near to the
    first as any two neighbours.
    """
    data = rolled(text, kind)
    frames = frames_of(data)
    assert len(frames) == 8 and sniff(data) == {"webp": "image/webp", "mp4": "video/mp4"}[kind]
    assert frames[0].shape == {"webp": (129, 160, 3), "mp4": (128, 160, 3)}[kind]
    steps = [
        float(np.abs(frames[i] - frames[i - 1]).mean()) for i in range(8)
    ]  # the first: from the last to the first
    assert min(steps) > 0.15 and steps[0] < 1.6 * max(steps[1:])
    assert kind == "mp4" or seconds_of(data) == pytest.approx(0.8)


@pytest.mark.parametrize("kind", ["webp", "mp4"])
def test_a_film_is_equal_to_the_byte(kind: str) -> None:
    assert len({rolled("zwei rote Dreiecke tanzen", kind, "bauhaus") for _ in range(8)}) == 1
    assert rolled(FISH, kind, seed=8) != rolled(FISH, kind)


def test_what_the_text_does_is_what_moves() -> None:
    """A growing flower covers more in the middle of the film than at its beginning; a swimming fish
    keeps its size.
    """
    grown, swum = (
        frames_of(rolled(text, "webp"))
        for text in ("eine rote Blume wächst auf der Wiese", "a red fish swims")
    )

    def area(frame: np.ndarray[Any, np.dtype[np.int16]]) -> int:
        return int((frame[..., 0] - frame[..., 1] > 90).sum())

    assert area(grown[4]) > 1.3 * area(grown[0])
    assert 0.8 < area(swum[2]) / area(swum[0]) < 1.25


def test_every_frame_is_told() -> None:
    told: list[tuple[int, int]] = []
    film(
        CIRCLE,
        seed=1,
        width=64,
        height=64,
        frames=3,
        fps=5,
        tell=lambda step, steps: told.append((step, steps)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_mp4_without_pyav_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(Unavailable, match=r'pip install "devpipe-lab\[video\]"'):
        rolled(CIRCLE, "mp4")


def samples(data: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    with wave.open(io.BytesIO(data)) as file:
        assert file.getparams()[:3] == (2, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32767


@pytest.mark.parametrize(
    "text",
    [
        "a cat in the rain",
        "Die Nacht. Der Mond!",
        "",
        "🙂",
        "日本語のテキスト",
        "brrr",
        "x" * 9000,
        "....",
        "\x00\ud800",
    ],
)
def test_a_sound_is_pleasant(text: str) -> None:
    """It has its length, never clips, begins and ends in silence without a click, and is heard all
    the time.
    """
    wanted = samples(sound(text, seed=3, seconds=3))
    assert len(wanted) == 3 * RATE and 0.6 < np.abs(wanted).max() < 0.8
    assert (
        np.abs(wanted[:20]).max() < 0.01
        and np.abs(wanted[-20:]).max() < 0.001
        and np.abs(np.diff(wanted, 2, axis=0)).max() < 0.04
    )
    loudness = [
        np.sqrt((wanted[at : at + RATE // 2] ** 2).mean())
        for at in range(0, len(wanted), RATE // 2)
    ]
    assert min(loudness[:-1]) > 0.02 and np.abs(wanted.mean(axis=0)).max() < 0.005


def test_a_sound_follows_its_text() -> None:
    """Equal arguments, equal bytes; another word, seed or mood sounds otherwise; light is higher
    than dark.
    """
    assert sound(CIRCLE, seed=3, seconds=2) == sound(CIRCLE, seed=3, seconds=2)
    assert (
        len(
            {
                sound(t, seed=s, seconds=1)
                for t, s in ((CIRCLE, 3), (CIRCLE, 4), (FISH, 3), (CIRCLE + " traurig", 3))
            }
        )
        == 4
    )

    def height(text: str) -> float:
        spectrum = np.abs(np.fft.rfft(samples(sound(text, seed=3, seconds=4)).mean(axis=1)))
        return float((spectrum * np.arange(len(spectrum))).sum() / spectrum.sum())

    assert height("white day la la la") > height("black night la la la")
