"""What a picture shows of its words: read right, drawn the same every time, in a manner that can be
told.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from devpipe.offline.sketch import STYLES, caption, compose, read
from devpipe.offline.sketch.canvas import lettering
from devpipe.offline.sketch.forms import motif
from devpipe.offline.sketch.reading import vocabulary

CIRCLE = "ein roter Kreis auf blauem Grund"
FOUR = ("bauhaus", "dada", "technical_drawing", "expressionism")
HOSTILE = (
    "",
    "   ",
    "🙂🙂🎉",
    "שלום עולם",
    "مرحبا بالعالم",
    "日本の猫",
    "\x00\x07\x1b[31m",
    "a" * 10_000,
    "ein Vogel und ein Haus, " * 420,
    "\ud800 x",
    "9" * 50,
    "!?.,;",
)


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _frequent_hues(image: Image.Image, bins: int = 12) -> list[int]:
    """The hues by frequency among the saturated pixels, in bins of 30 degrees centred on red."""
    hsv = np.asarray(image.convert("HSV")).reshape(-1, 3).astype(float)
    hues = hsv[hsv[:, 1] > 0.2 * 255, 0] / 256
    counts = np.bincount(np.floor(hues * bins + 0.5).astype(int) % bins, minlength=bins)
    return [int(i) for i in np.argsort(-counts)[:2]]


def _look(image: Image.Image) -> np.ndarray:
    """A picture in few numbers: a coarse colour histogram and how much edge there is."""
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX)).astype(int)
    histogram = np.bincount((small // 64 @ np.array([16, 4, 1])).ravel(), minlength=64) / 4096
    grey = small.mean(axis=2)
    return np.append(histogram, np.abs(np.diff(grey, axis=1)).mean() / 40)


def _motifs(text: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {t.motif or t.word: (t.count, t.colours) for t in read(text).things}


@pytest.mark.parametrize(
    ("text", "things", "grounds"),
    [
        (CIRCLE, {"circle": (1, ("red",))}, ("blue",)),
        ("a red circle on a blue background", {"circle": (1, ("red",))}, ("blue",)),
        (
            "mit rotem Kreis und zwei grünen Dreiecken vor dunkelblauem Hintergrund",
            {"circle": (1, ("red",)), "triangle": (2, ("green",))},
            ("dark blue",),
        ),
        ("drei kleine Vögel im Regen", {"bird": (3, ())}, ()),
        ("Kreise, Bäume und Häuser", {"circle": (3, ()), "tree": (3, ()), "house": (3, ())}, ()),
        ("fünf schwarze Katzen", {"cat": (5, ("black",))}, ()),
        ("the old houses and two mice", {"house": (3, ()), "rabbit": (2, ())}, ()),
        ("ein Kreis in Rot", {"circle": (1, ("red",))}, ()),
        (
            "The circle is red, the square is dark blue.",
            {"circle": (1, ("red",)), "square": (1, ("dark blue",))},
            (),
        ),
        ("zwei dunkelgrüne Segelboote", {"boat": (2, ("dark green",))}, ()),
        ("no cats, only dogs", {"dog": (3, ())}, ()),
        ("ein Apfelbaum", {"tree": (1, ())}, ()),
        ("ein Häuschen und DREI BÄUMCHEN", {"house": (1, ()), "tree": (3, ())}, ()),
    ],
)
def test_words_in_their_inflected_forms_are_read(
    text: str, things: dict[str, object], grounds: tuple[str, ...]
) -> None:
    """Inflections, plurals, compounds, numbers, predicates and negations give the things, counts
    and colours that a reader sees.
    """
    reading = read(text)
    assert {k: v for k, v in _motifs(text).items() if k in vocabulary()["motifs"]} == things
    assert reading.of("ground") == grounds


@pytest.mark.parametrize(
    ("text", "trait", "value"),
    [
        ("Eine Katze im Regen", "weather", "rain"), ("Winterwald", "season", "winter"), ("der Nachthimmel", "light", "night"),
        ("at sunset", "light", "dusk"), ("ein trauriger Hund", "mood", "sad"), ("a joyful dog", "mood", "joy"),
        ("am Meer", "setting", "sea"),
        ("ein zerbrochener Stuhl", "texture", "rough"), ("im dichten Nebel", "weather", "fog"), ("abstrakte Formen", "abstraction", 1.0),
    ],
)  # fmt: skip
def test_light_season_weather_mood_and_place_are_read(text: str, trait: str, value: object) -> None:
    """A text's circumstances reach the reading."""
    assert getattr(read(text), trait) == value


def test_size_and_position_are_read_and_shown() -> None:
    """`left` and `right` go to the thing they stand with, `big` and `small` change its size, and
    the picture obeys.
    """
    house, tree = read("a big red house on the left and a small green tree on the right").things
    assert (house.place, tree.place) == (("left",), ("right",)) and house.size > 2 * tree.size
    picture = np.asarray(
        compose("ein rotes Quadrat links auf blauem Grund", seed=3, width=120, height=120)
    ).astype(int)
    red = picture[..., 0] > picture[..., 2] + 60
    assert red[:, :60].sum() > 5 * red[:, 60:].sum()


def test_ambiguous_words_follow_the_language() -> None:
    """German `See` is a lake and English `see` is not; a hut is no hat."""
    assert read("der See", "de").setting == "sea" and read("I see you", "en").setting == ""
    assert _motifs("ein Hut") == {"hat": (1, ())} and _motifs("a hut in the woods")["house"] == (
        1,
        (),
    )


def test_every_motif_can_be_drawn() -> None:
    """Each motif of the vocabulary has parts, within reach of its square."""
    for name in vocabulary()["motifs"]:
        points = np.concatenate([part.points for part in motif(name)])
        assert len(points) > 1 and np.abs(points).max() < 1.35, name


def test_pictures_are_equal_to_the_byte_in_another_process() -> None:
    """The same text, seed, size and style give the same bytes, whatever the hash seed of the
    process.
    """
    jobs = [("Eine Katze und ein Xyzzy im Sturm", style) for style in (*STYLES, "unheard_of")]
    code = (
        "import hashlib, sys; from devpipe.offline.sketch import compose\nfor text, style in"
        f" {jobs!r}: print(hashlib.sha256(compose(text, seed=5, width=96, height=72,"
        " style=style).tobytes()).hexdigest())"
    )
    for hash_seed in ("0", "4242"):
        env = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        answer = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert answer.stdout.split() == [
            _digest(compose(text, seed=5, width=96, height=72, style=style)) for text, style in jobs
        ]


@pytest.mark.parametrize("seed", [1, 7, 8, 42, 2**31 - 1])
def test_named_colours_are_the_most_frequent_hues(seed: int) -> None:
    """A red circle on blue is mostly red and blue, under any seed and proportion."""
    for width, height in ((256, 256), (320, 180), (90, 200)):
        assert set(_frequent_hues(compose(CIRCLE, seed=seed, width=width, height=height))) == {0, 8}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_colours_without_a_thing_are_the_only_ones(seed: int) -> None:
    """Where the text names two colours and nothing else, the forms have these two and no third."""
    picture = compose("Rot und Blau", seed=seed, width=200, height=200)
    hsv = np.asarray(picture.convert("HSV")).reshape(-1, 3).astype(float)
    saturated = hsv[hsv[:, 1] > 0.5 * 255, 0] / 256 * 360
    assert (
        len(saturated) > 400
        and np.mean((np.abs((saturated + 180) % 360 - 180) < 30) | (np.abs(saturated - 230) < 30))
        > 0.95
    )


@pytest.mark.parametrize("style", [*STYLES, "a newcomer's own"])
def test_the_seed_and_the_text_change_the_picture(style: str) -> None:
    """In every manner another seed gives another picture, and another text one that differs
    visibly.
    """
    one, two, other = (
        compose(t, seed=s, width=96, height=96, style=style)
        for t, s in ((CIRCLE, 7), (CIRCLE, 8), ("drei Häuser bei Nacht", 7))
    )
    assert one.mode == "RGB" and _digest(one) != _digest(two)
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean() > 6


def test_unknown_words_shape_the_drawing_too() -> None:
    """Two texts of words that nobody taught us give two pictures that differ visibly."""
    one, two = (
        np.asarray(compose(t, seed=7, width=128, height=128)).astype(int)
        for t in ("Blörk", "Fnuzel")
    )
    assert np.abs(one - two).mean() > 8


def _pairs() -> Iterator[tuple[str, str]]:
    return itertools.combinations(FOUR, 2)


def test_manners_can_be_told_apart() -> None:
    """Pictures of one manner resemble each other more than pictures of another: colour and edge
    alone find it.
    """
    texts = (CIRCLE, "a cat in the rain", "zwei Menschen vor einem Haus")
    looks = {
        (style, text): _look(compose(text, seed=7, width=256, height=256, style=style))
        for style in FOUR
        for text in texts
    }
    for (style, text), look in looks.items():
        others = {key: np.abs(look - other).sum() for key, other in looks.items() if key[1] != text}
        assert min(others, key=lambda key: others[key])[0] == style, (style, text)
    for a, b in _pairs():
        assert np.abs(looks[a, CIRCLE] - looks[b, CIRCLE]).sum() > 0.5


def test_newcomers_styles_have_manners_of_their_own() -> None:
    """Two style names that we do not know draw the same text differently, and not as no style
    would.
    """
    pictures = [
        _digest(compose("a cat", seed=7, width=64, height=64, style=style))
        for style in ("", "my_style", "your_style")
    ]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_gives_a_picture(text: str) -> None:
    """Empty, foreign, broken and endless texts are drawn, with something to see."""
    for style in ("", "dada", "technical_drawing", "stille_post"):
        picture = np.asarray(compose(text, seed=3, width=80, height=64, style=style))
        assert picture.shape == (64, 80, 3) and picture.std() > 2


@pytest.mark.parametrize("style", STYLES)
def test_any_size_is_drawn(style: str) -> None:
    """From the smallest size to long strips, the picture has exactly the size asked for."""
    for size in ((64, 64), (400, 64), (64, 300)):
        assert (
            compose("a cat in the rain", seed=1, width=size[0], height=size[1], style=style).size
            == size
        )


def test_umlauts_are_lettered() -> None:
    """The typeface of Pillow has no umlauts: ours carry two dots, and letters that it lacks give no
    lettering.
    """
    plain, dotted = lettering("uber", 60), lettering("über", 60)
    assert plain is not None and dotted is not None and plain.size == dotted.size
    assert np.asarray(dotted).sum() > np.asarray(plain).sum()
    assert lettering("日本", 60) is None


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        (
            CIRCLE,
            "de",
            (
                "Skizze: ein roter Kreis auf blauem Grund (nach Regeln gezeichnet, kein"
                " Diffusionsmodell)"
            ),
        ),
        (
            CIRCLE,
            "en",
            "Sketch: a red circle on a blue ground (drawn by rule, not by a diffusion model)",
        ),
        (
            "zwei dunkelgrüne Segelboote auf dem Meer bei Nacht",
            "de",
            (
                "Skizze: zwei dunkelgrüne Boote am Wasser bei Nacht (nach Regeln gezeichnet, kein"
                " Diffusionsmodell)"
            ),
        ),
        ("an owl", "en", "Sketch: an owl (drawn by rule, not by a diffusion model)"),
        ("", "de", "Skizze: freie Formen (nach Regeln gezeichnet, kein Diffusionsmodell)"),
    ],
)
def test_the_caption_says_what_is_shown(text: str, language: str, said: str) -> None:
    """The alt text is a sentence in the user's language that says what is drawn, and that rules
    drew it.
    """
    assert caption(read(text), "", language) == said


def test_the_caption_names_the_manner_and_the_unknown_words() -> None:
    """What the vocabulary lacks is named as form, and a manner is named."""
    assert caption(read("Die Würde des Menschen", "de"), "dada", "de").startswith(
        "Skizze: ein Mensch und Formen zu „Würde“ in der Manier „dada“"
    )
