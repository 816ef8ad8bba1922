"""What every page of ours needs from the browser: keys that stay in it, and a word when it is dead.

An ipywidgets page is a guest. In JupyterLab the notebook around it takes keys as commands (`b`
adds a cell, `d d` deletes this one); and when its kernel is gone, what it said last stays for ever.
Put a `PageGuard` anywhere inside a widget that has the class GUARDED: that one is guarded as a
whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
from traitlets import Unicode

from devpipe.show.host import is_shared_page
from devpipe.show.language import page_language
from devpipe.text.messages import message

GUARDED = "dp-guarded"
_HERE = Path(__file__).parent


class PageGuard(anywidget.AnyWidget):
    """Unseen while all is well. Keys: Escape, Ctrl and Meta pass, all others stay in the page.

    The focus comes back to a button that was disabled while its work was under way.

    `lost` is said in the place of everything else once the page has no kernel any more.
    """

    lost = Unicode().tag(sync=True)

    def __init__(self, *, language: str = "", **traits: Any) -> None:
        spoken = page_language(language)
        lost = message("panel.lost_shared" if is_shared_page() else "panel.lost", spoken)
        # as texts, read once it is needed: given as files, anywidget would watch them
        self._esm = (_HERE / "page_guard.js").read_text("utf-8")
        self._css = (_HERE / "page_guard.css").read_text("utf-8")
        super().__init__(lost=lost, **traits)
