"""A part of a picture drawn anew: only inside the mask, and so that it belongs to what surrounds
it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from devpipe.offline.sketch import pixels
from devpipe.offline.sketch.pixels import Field, Lab
from devpipe.offline.sketch.styles import compose

_HARMONY = 0.4  # how far the drawing's colours go towards those around it
_GROUND = 0.18  # how much of the drawing's own ground is seen
_LEAST = 96  # pixels: a drawing smaller than that has no room for its things


def inpaint(
    image: Image.Image,
    mask: Image.Image,
    text: str,
    *,
    strength: float,
    seed: int,
    style: str = "",
    language: str = "",
) -> Image.Image:
    """The image with the text drawn where the mask is white, RGB; where the mask is 0, every pixel
    stays what it is.

    The edge is soft inside the mask. `strength` 0 changes nothing, 1 covers all that was there.
    """
    original = image.convert("RGB")
    grey = mask.convert("L").resize(image.size, Image.Resampling.NEAREST)
    wanted: Field = np.asarray(np.asarray(grey) / 255, np.float32)
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    if not len(rows) or strength <= 0:
        return original
    left, top, right, bottom = (
        int(columns[0]),
        int(rows[0]),
        int(columns[-1]) + 1,
        int(rows[-1]) + 1,
    )
    lab, room = pixels.to_lab(original), (slice(top, bottom), slice(left, right))
    new = _drawn(text, right - left, bottom - top, seed, style, language)
    if (wanted == 0).any():
        new = _settled(new, pixels.filled(lab, (wanted == 0).astype(np.float32))[room])
    inside = pixels.blurred(
        (wanted > 0).astype(np.float32), max(1.0, float(wanted.sum()) ** 0.5 / 40)
    )
    soft = (
        pixels.smoothstep(inside, 0.5, 0.95) * wanted
    )  # rising from 0 at the rim of the mask to full a little inside
    cover = (soft * strength)[room][..., None]
    painted = np.asarray(pixels.to_image(lab[room] * (1 - cover) + new * cover))
    result = np.array(original)
    # The promise is not left to rounding.
    result[room] = np.where(wanted[room][..., None] > 0, painted, result[room])
    return Image.fromarray(result)


def _drawn(text: str, width: int, height: int, seed: int, style: str, language: str) -> Lab:
    scale = max(1.0, _LEAST / min(width, height))
    size = min(2048, round(width * scale)), min(2048, round(height * scale))
    drawing = compose(
        text, seed=seed, width=size[0], height=size[1], style=style, language=language
    )
    return pixels.to_lab(drawing.resize((width, height), Image.Resampling.LANCZOS))


def _settled(drawing: Lab, around: Lab) -> Lab:
    """The drawing's things before the surrounding's colours, its own ground only shining
    through.
    """
    shown = (_GROUND + (1 - _GROUND) * pixels.figure(drawing))[..., None]
    target = pixels.between(pixels.statistics(drawing), pixels.statistics(around), _HARMONY)
    toned = drawing + (target[0] - pixels.statistics(drawing)[0])
    return np.asarray(around * (1 - shown) + toned * shown, np.float32)
