"""How is a picture composed from words? Rules read the text, lay out what it names, and draw it in
a manner; no model is asked.
"""

from devpipe.offline.sketch.caption import caption
from devpipe.offline.sketch.reading import Mention, Reading, Thing, read
from devpipe.offline.sketch.styles import STYLES, compose, draw

VERSION = "1"  # raised when any picture changes: recorded as the digest

__all__ = ["STYLES", "VERSION", "Mention", "Reading", "Thing", "caption", "compose", "draw", "read"]
