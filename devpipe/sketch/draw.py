"""From words to a picture: `compose(text)`, or `draw(reading)` where the reading is already there."""

from __future__ import annotations

from PIL import Image

from devpipe.sketch.reading import Reading, read
from devpipe.sketch.scene import Scene
from devpipe.sketch.styles import style_of


def compose(text: str, *, seed: int, width: int, height: int, style: str = "", language: str = "") -> Image.Image:
    """A picture of the text, RGB, the same bytes for the same arguments.

    >>> compose("ein roter Kreis auf blauem Grund", seed=7, width=64, height=64).size
    (64, 64)
    """
    return draw(read(text, language), seed=seed, width=width, height=height, style=style)


def draw(reading: Reading, *, seed: int, width: int, height: int, style: str = "") -> Image.Image:
    """A picture of what was read, in a manner of `STYLES`; a name unknown there gets a manner from its letters."""
    manner = style_of(style)
    over = 3 if max(width, height) <= 200 else 2
    scene = Scene.of(reading, seed=seed, width=width, height=height, over=over)
    manner.paint(scene)
    return manner.finish(scene, scene.canvas.finished())
