"""All recordings as pandas tables: one row per run, stage, text, event, artifact, verdict or
attempt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.analysis import columns
from devpipe.analysis.columns import TABLES, DType, Seen, Table
from devpipe.analysis.index import frame_of, read_table, series
from devpipe.errors import UnknownName
from devpipe.record.reader import Recording, Recordings
from devpipe.show.host import is_shared_page

if TYPE_CHECKING:
    import pandas as pd


class Tables(Recordings):
    """All runs below one folder, found by id and as tables.

    Rows stand in the order of the run ids: oldest first, to the second. Columns, their order and
    dtypes are the same for every
    workspace, also for an empty one; `columns()` says what each means. After them come
    `labels.<name>` (str) and
    `parameters.<name>` (Int64, float64, boolean or str, as their values are). Missing values are
    NA. What cannot be read is a row
    of state `damaged` with a `note`.
    """

    def runs(self) -> pd.DataFrame:
        """One row per run."""
        return _expanded(self._read(columns.RUNS))

    def stages(self) -> pd.DataFrame:
        """Four rows per run, one per stage."""
        return self._read(columns.STAGE_ROWS)

    def texts(self) -> pd.DataFrame:
        """One row per text: of each stage, step, iteration and part."""
        return self._read(columns.TEXTS)

    def events(self) -> pd.DataFrame:
        """One row per event: everything."""
        return self._read(columns.EVENT_ROWS)

    def artifacts(self) -> pd.DataFrame:
        """One row per file made."""
        return self._read(columns.ARTIFACTS)

    def verdicts(self) -> pd.DataFrame:
        """One row per safety check."""
        return self._read(columns.VERDICTS)

    def attempts(self) -> pd.DataFrame:
        """One row per try of one backend."""
        return self._read(columns.ATTEMPTS)

    def columns(self, table: str = "runs") -> pd.DataFrame:
        """What the columns of a table mean: name, dtype, doc."""
        import pandas as pd

        found = next((one for one in TABLES if one.name == table), None)
        if found is None:
            raise UnknownName("table", table, [one.name for one in TABLES])
        return pd.DataFrame(
            [(c.name, c.dtype, c.doc) for c in found.columns], columns=["column", "dtype", "doc"]
        )

    def _read(self, table: Table[Any]) -> pd.DataFrame:
        """With whole paths: the index holds them below the folder, so that it may be moved."""
        frame = read_table(self, table)
        for name in frame.columns.intersection(list(columns.PATHS)):
            frame[name] = f"{os.path.abspath(self.root)}/" + frame[name]
        return frame


class OwnTables(Tables):
    """The runs of one visitor, by their ids: what a page that others visit, too, may show."""

    def __init__(self, root: Path, own: Collection[str]) -> None:
        super().__init__(root)
        self._own = own

    def ids(self) -> list[str]:
        """The ids of the visitor's runs, newest first."""
        return [run_id for run_id in super().ids() if run_id in self._own]

    def find(self, name: str) -> Recording:
        """The visitor's run of this id; another one is not there."""
        found = super().find(name)
        if found.id not in self._own:
            raise UnknownName("run", name, self.ids())
        return found

    def _read(self, table: Table[Any]) -> pd.DataFrame:
        """The visitor's rows of the table over all: the index is of all recordings."""
        frame = Tables(self.root)._read(table)
        return frame[frame["run_id"].isin(list(self._own))].reset_index(drop=True)


def recordings_for(root: Path, own: Collection[str], environment: Mapping[str, str]) -> Tables:
    """The recordings that whoever looks may see: all, or in a shared page their own."""
    return OwnTables(root, own) if is_shared_page(environment) else Tables(root)


def runs_frame(recordings: Iterable[Recording]) -> pd.DataFrame:
    """The table of runs over these recordings, wherever they lie."""
    recordings = list(recordings)
    frame = frame_of([Seen.of(recording) for recording in recordings], columns.RUNS)
    for at, (recording, path) in enumerate(zip(recordings, frame["artifact"], strict=True)):
        if isinstance(path, str):
            frame.loc[at, "artifact"] = str(recording.folder.absolute() / Path(path).name)
    return _expanded(frame)


def _expanded(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column for each label and parameter, instead of their JSON."""
    import pandas as pd

    found: dict[str, Any] = {}
    for name in ("labels", "parameters"):
        codes, texts = pd.factorize(frame.pop(name))
        objects = json.loads(f"[{','.join(texts.tolist())}]")  # at once: a third of the time
        for key in sorted({key for one in objects for key in one}):
            values = [*(one.get(key) for one in objects), None]  # the last for code -1: no object
            found[f"{name}.{key}"] = series(values, _dtype(values)).take(codes).array
    return pd.DataFrame({name: column.array for name, column in frame.items()} | found, copy=False)


def _dtype(values: list[object]) -> DType:
    kinds = {type(value) for value in values if value is not None}
    return (
        "boolean"
        if kinds == {bool}
        else "Int64"
        if kinds == {int}
        else "float64"
        if kinds <= {int, float}
        else "str"
    )
