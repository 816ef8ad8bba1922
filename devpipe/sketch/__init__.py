"""How is a picture composed from words? Rules read the text, lay out what it names, and draw it in a manner; no model is asked."""

from devpipe.sketch.draw import compose, draw
from devpipe.sketch.reading import Mention, Reading, Thing, read
from devpipe.sketch.styles import STYLES

__all__ = ["STYLES", "Mention", "Reading", "Thing", "compose", "draw", "read"]
