"""Runs side by side: a labelled grid of thumbnails, in which a blocked or failed run is a result,
too.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from devpipe.analysis.tables import runs_frame
from devpipe.errors import UnknownName
from devpipe.record.events import ArtifactWritten
from devpipe.record.reader import Recording
from devpipe.show.files import replacing
from devpipe.show.html import EMBEDDED, fold, h, media_html, shown_bytes, style
from devpipe.text.messages import message

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

_TILE, _EDGE, _LABEL, _HEAD = 256, 8, 120, 44  # pixels of the contact sheet
_WITHOUT_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "…": "..."}
)
_WHOLE_PAGE = 2_000_000  # bytes of films and sounds in one grid


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
    others: int = 0  # files of the run that are not shown

    @classmethod
    def of(cls, row: dict[str, Any]) -> Tile:
        """From a row of the table of runs."""
        said = row["reason"] or row["error_message"] or row["note"] or ""
        path = Path(row["artifact"] or "")
        alt = (
            row["alt"]
            or f"{row['pipeline']}, {row['output']}, {row['seed']}: {str(row['prompt'])[:80]}"
        )
        fields = {name: row[name] for name in ("media_type", "sha256", "bytes", "width", "height")}
        artifact = (
            ArtifactWritten(path=path.name, alt=alt, seconds=row["media_seconds"], **fields)
            if row["artifact"]
            else None
        )
        return cls(
            row["run_id"],
            row["state"],
            said,
            row["language"] or "en",
            path.parent,
            artifact,
            max(0, row["n_artifacts"] - 1),
        )

    @property
    def reason(self) -> str:
        """What stands in the place of a picture."""
        state = message(f"page.state.{self.state}", self.language)
        return f"{state}: {self.said or message('page.no_file', self.language)}"

    def html(self, near: Path | None, limit: int) -> str:
        """The file and how many more there are, or the reason."""
        if self.artifact is None:
            return f'<div class="tile" role="note">{h(self.reason)}</div>'
        others = ""
        if self.others:
            others = f"<small>+ {self.others} {h(message('page.more', self.language))}</small>"
        return (
            media_html(
                self.folder, self.artifact, self.language, name=self.run_id, near=near, limit=limit
            )
            + others
        )


@dataclass(frozen=True)
class Grid:
    """Runs by two of their columns.

    Shows itself in a notebook; `to_html` and `contact_sheet` are for elsewhere.
    """

    rows: str
    columns: str
    cells: dict[tuple[str, str], list[Tile]]

    def __repr__(self) -> str:
        runs = sum(map(len, self.cells.values()))
        return (
            f"Grid({len(self._labels(0))} {self.rows} x {len(self._labels(1))} {self.columns},"
            f" {runs} runs)"
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _repr_html_(self, near: Path | None = None) -> str:
        head = "".join(f'<th scope="col">{h(label)}</th>' for label in self._labels(1))
        body = "".join(
            f'<tr><th scope="row">{h(row)}</th>'
            + "".join(f"<td>{self._cell(row, column, near)}</td>" for column in self._labels(1))
            + "</tr>"
            for row in self._labels(0)
        )
        caption = f"<caption>{h(self.rows)} × {h(self.columns)}</caption>"
        return (
            f'{style()}<div class="devpipe'
            f' scroll"><table>{caption}<tr><td></td>{head}</tr>{body}</table></div>'
        )

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """The grid as a page of its own, thumbnails inside."""
        file = Path(path).absolute()
        head = (
            '<meta charset="utf-8"><meta name="color-scheme" content="light'
            f' dark"><title>{h(self)}</title>'
        )
        page = (
            "<!doctype"
            f" html><html><head>{head}</head><body>{self._repr_html_(file.parent)}</body></html>"
        )
        with replacing(file) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return file

    def contact_sheet(self) -> Image.Image:
        """The grid as one picture, with its labels; of each cell the first run."""
        from PIL import Image

        columns, rows = self._labels(1), self._labels(0)
        step = _TILE + _EDGE
        sheet = Image.new("RGB", (_LABEL + len(columns) * step, _HEAD + len(rows) * step), "white")
        for x, column in enumerate(columns):
            _write(sheet, (_LABEL + x * step, 4), column, 30)
        for y, row in enumerate(rows):
            _write(sheet, (4, _HEAD + y * step), row, 12)
            for x, column in enumerate(columns):
                for tile in self.cells.get((row, column), [])[:1]:
                    _draw(sheet, (_LABEL + x * step, _HEAD + y * step), tile)
        return sheet

    def _labels(self, axis: int) -> list[str]:
        return list(dict.fromkeys(label[axis] for label in self.cells))

    def _cell(self, row: str, column: str, near: Path | None) -> str:
        tiles = self.cells.get((row, column), [])
        limit = min(EMBEDDED, _WHOLE_PAGE // max(1, sum(map(len, self.cells.values()))))
        first, *others = [tile.html(near, limit) for tile in tiles] or ["–"]
        if not others:
            return first
        more = message("page.more", tiles[0].language)
        return first + fold(f"+ {len(others)} {more}", "".join(others))


def grid(
    runs: pd.DataFrame | Iterable[HasRecording | Recording],
    *,
    rows: str = "pipeline",
    columns: str = "seed",
) -> Grid:
    """These runs by two columns of `runs()`: pipeline, output, seed, prompt, labels.<name>,
    parameters.<name>, ...

    Takes run handles, recordings, or (a part of) the table `runs()`. Numbers stand in order, other
    labels as they come.
    """
    import pandas as pd

    frame = (
        runs
        if isinstance(runs, pd.DataFrame)
        else runs_frame(run if isinstance(run, Recording) else run.recording for run in runs)
    )
    for name in (rows, columns):
        if name not in frame.columns:
            raise UnknownName("column", name, frame.columns)
    order = [
        (
            sorted(_known(frame[name]))
            if pd.api.types.is_numeric_dtype(frame[name])
            else _known(frame[name])
        )
        for name in (rows, columns)
    ]
    cells: dict[tuple[str, str], list[Tile]] = {
        (_label(row), _label(column)): [] for row in order[0] for column in order[1]
    }
    for values in (
        frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
    ):
        row = dict(zip(frame.columns, values, strict=True))
        cells.setdefault((_label(row[rows]), _label(row[columns])), []).append(Tile.of(row))
    return Grid(rows, columns, cells)


def _known(column: pd.Series[Any]) -> list[Any]:
    return list(column.dropna().unique())


def _label(value: object) -> str:
    return "–" if value is None else str(value)


def _draw(sheet: Image.Image, at: tuple[int, int], tile: Tile) -> None:
    from PIL import ImageDraw

    from devpipe.media.pictures import decode, thumbnail

    data = (
        shown_bytes(tile.folder, tile.artifact)
        if tile.artifact and tile.artifact.media_type.startswith("image/")
        else None
    )
    if data is not None:
        picture = decode(thumbnail(data))  # of a film its first frame
        sheet.paste(
            picture.convert("RGB"),
            (at[0] + (_TILE - picture.width) // 2, at[1] + (_TILE - picture.height) // 2),
        )
        return
    ImageDraw.Draw(sheet).rectangle((*at, at[0] + _TILE - 1, at[1] + _TILE - 1), outline="gray")
    _write(
        sheet,
        (at[0] + 8, at[1] + 8),
        f"{tile.artifact.media_type}: {tile.artifact.alt}" if tile.artifact else tile.reason,
        32,
    )


def _write(sheet: Image.Image, at: tuple[int, int], text: str, width: int) -> None:
    """Text in lines of so many characters."""
    from PIL import ImageDraw, ImageFont

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    try:
        import matplotlib

        font = ImageFont.truetype(
            os.path.join(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 14
        )
    except (ImportError, OSError):  # Pillow's own font has no umlauts
        font, text = ImageFont.load_default(15), text.translate(_WITHOUT_UMLAUTS)
    lines = textwrap.wrap(text, width, max_lines=12, placeholder=" …")
    ImageDraw.Draw(sheet).multiline_text(at, "\n".join(lines), fill="black", font=font)
