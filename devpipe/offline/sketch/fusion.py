"""Two texts in one picture: their colours meet in between, and their motifs are woven into each
other.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image

from devpipe.offline.sketch import pixels
from devpipe.offline.sketch.pixels import Field, Lab
from devpipe.offline.sketch.styles import compose
from devpipe.values import derived_seed

_NOISE, _FIGURE = 0.4, 1.0  # what decides who is seen where: chance, and whose thing is there
_SOFT, _CRISP = 0.9, 0.08  # half the width of a seam, between grounds and at things


def fuse(
    text: str,
    text_2: str,
    *,
    alpha: float,
    seed: int,
    width: int,
    height: int,
    style: str = "",
    language: str = "",
) -> Image.Image:
    """The picture between two texts: exactly the first's at alpha 0, exactly the second's at 1,
    RGB.

    In between both take on the colours that lie at alpha on the way from one to the other (in
    OKLab), and the
    second shows through the first in a share alpha of the area: in soft islands that keep its
    motifs whole.
    """
    drawn = partial(compose, seed=seed, width=width, height=height, style=style, language=language)
    if alpha <= 0 or alpha >= 1:
        return drawn(text_2 if alpha >= 1 else text)
    first, second = pixels.to_lab(drawn(text)), pixels.to_lab(drawn(text_2))
    shared = pixels.between(pixels.statistics(first), pixels.statistics(second), alpha)
    cover = _cover(first, second, alpha, np.random.default_rng(derived_seed(seed, "fusion")))[
        ..., None
    ]
    return pixels.to_image(
        pixels.recoloured(first, shared) * (1 - cover) + pixels.recoloured(second, shared) * cover
    )


def _cover(first: Lab, second: Lab, alpha: float, rng: np.random.Generator) -> Field:
    """How much of the second is seen at each pixel; about alpha in the mean."""
    height, width = first.shape[:2]
    figures = pixels.figure(first), pixels.figure(second)
    wish = _NOISE * pixels.noise(rng, width, height, cells=2) + _FIGURE * (figures[1] - figures[0])
    middle, spread = np.quantile(wish[::2, ::2], 1 - alpha), float(wish.std())
    soft = spread * (
        _SOFT - (_SOFT - _CRISP) * np.maximum(*figures)
    )  # grounds flow into each other, things end where they end
    return pixels.smoothstep((wish - float(middle)) / soft, -1, 1)
