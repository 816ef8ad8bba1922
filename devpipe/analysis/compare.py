"""Runs side by side: a labelled grid of thumbnails, in which a blocked or failed run is a result, too."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from devpipe.analysis.show import STYLE, h, media_html, shown_bytes, words_of
from devpipe.analysis.tables import runs_frame
from devpipe.errors import UnknownName, UsageError
from devpipe.events import ArtifactWritten
from devpipe.recordings import Recording

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

_TILE, _EDGE, _LABEL = 256, 8, 110  # pixels of the contact sheet


class HasRecording(Protocol):
    """A run handle: it knows its recording."""

    @property
    def recording(self) -> Recording: ...


@dataclass(frozen=True, slots=True)
class Tile:
    """One run in a grid: its first file, or in words why there is none."""

    run_id: str
    state: str
    said: str
    language: str
    folder: Path
    artifact: ArtifactWritten | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Tile:
        """From a row of the table of runs."""
        known = {name: None if value != value else value for name, value in row.items()}  # NaN is not itself
        said = known["reason"] or known["error_message"] or known["note"] or ""
        path = Path(known["artifact"] or "")
        alt = known["alt"] or f"{known['pipeline']}, {known['output']}, {known['seed']}: {str(known['prompt'])[:80]}"
        fields = {name: known[name] for name in ("media_type", "sha256", "bytes", "width", "height")}
        artifact = ArtifactWritten(path=path.name, alt=alt, seconds=known["media_seconds"], **fields) if known["artifact"] else None
        return cls(known["run_id"], known["state"], said, known["language"] or "en", path.parent, artifact)

    def html(self, near: Path | None) -> str:
        words = words_of(self.language)
        if self.artifact:
            return media_html(self.folder, self.artifact, words, near=near)
        return f'<div class="tile" role="note"><strong>{h(words[self.state])}</strong><br>{h(self.said or words["no file"])}</div>'
