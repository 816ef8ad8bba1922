"""Tables without reading every recording again: what finished runs said is kept beside them, column
by column, in `.index/`.

Derived and safe to delete. A run is read again where its events.jsonl changed, all of them where
the code that reads them did.
A file is a line with the CRC-32 of the rest, a line of JSON, and the columns' bytes as Arrow lays
them out: with pyarrow these
are the table, without it strings are made one by one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

from devpipe.analysis.columns import TIME, DType, Seen, Table
from devpipe.errors import UsageError
from devpipe.record.reader import DERIVED, EVENTS, Recording, Recordings, run_folder
from devpipe.show.files import replacing
from devpipe.values import Outcome

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]

_ALIGNED = 64  # bytes
# A run's events.jsonl as we know it (size and time of its last change), its rows, and whether it
# has its ending and so will not change.
_RUN = [("id", "S24"), ("size", "i8"), ("time", "i8"), ("rows", "i8"), ("ended", "?")]
_WORTH_SAVING = 100  # reading one run again takes as long as writing so many rows
_READERS = (
    "analysis/columns.py",
    "analysis/index.py",
    "record/summary.py",
    "record/events.py",
    "record/reader.py",
)


def read_table(recordings: Recordings, table: Table[Any]) -> pd.DataFrame:
    """The table over all recordings, oldest first; only new and changed ones are opened."""
    file = recordings.root / DERIVED / table.name
    now = _scan(recordings)
    stored = _load(file, table) or _Part.of([], now[:0], table)
    if len(stored.runs) == len(now) and _among(now, stored.runs).all():
        return stored.frame
    kept = stored.only(_among(stored.runs, now))
    new = now[~_among(now, kept.runs)]
    fresh = _Part.of(
        (Seen.of(Recording(run_folder(recordings.root, run_id.decode()))) for run_id in new["id"]),
        new,
        table,
    )
    whole = kept.joined(fresh)
    if len(kept.runs) < len(stored.runs) or int(fresh.runs["ended"].sum()) * _WORTH_SAVING > len(
        whole.runs
    ):
        _save(file, whole.only(whole.runs["ended"]), table)
    return whole.frame


def frame_of(rows: Iterable[Any], table: Table[Any]) -> pd.DataFrame:
    """A table's columns over these rows."""
    import pandas as pd

    values: list[list[object]] = [[] for _ in table.columns]
    found: dict[str, pd.Series[Any]] = {}
    column = None
    try:
        for row in rows:
            for column, of_column in zip(table.columns, values, strict=True):
                of_column.append(column.of(row))
            column = None
        for column, own in zip(table.columns, values, strict=True):
            found[column.name] = series(own, column.dtype)
    except Exception as error:  # any: a column's function is whatever its author wrote
        if column is None:
            raise  # the rows themselves
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        hint = (
            f"Mend its line in devpipe/analysis/columns.py: it must give a {column.dtype} or None."
        )
        raise UsageError(
            f"Column {column.name!r} of the table {table.name} fails: {why}.", hint=hint
        ) from error
    return pd.DataFrame(found)


def _among(ours: Array, other: Array) -> Array:
    """For each of our runs, whether it stands in the other, unchanged."""
    import numpy as np

    if not len(other):
        return np.zeros(len(ours), bool)
    near = other[np.searchsorted(other["id"], ours["id"]).clip(max=len(other) - 1)]
    found: Array = (
        (near["id"] == ours["id"]) & (near["size"] == ours["size"]) & (near["time"] == ours["time"])
    )
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """Some runs (as _RUN, by id), and their rows."""

    runs: Array
    frame: pd.DataFrame

    @classmethod
    def of(cls, seen: Iterable[Seen], runs: Array, table: Table[Any]) -> _Part:
        counts, ended = [], []

        def rows() -> Iterator[
            Any
        ]:  # one run at a time: all events of all runs would fill the memory
            for run in seen:
                of_run = list(table.rows(run))
                counts.append(len(of_run))
                ended.append(run.state in get_args(Outcome))
                yield from of_run

        frame = frame_of(rows(), table)
        runs["rows"], runs["ended"] = counts, ended
        return cls(runs, frame)

    def only(self, keep: Array) -> _Part:
        import numpy as np

        if keep.all():
            return self
        return _Part(
            self.runs[keep], self.frame[np.repeat(keep, self.runs["rows"])].reset_index(drop=True)
        )

    def joined(self, other: _Part) -> _Part:
        """Both, by time of run."""
        import numpy as np
        import pandas as pd

        if not len(self.runs) or not len(other.runs):
            return self if len(self.runs) else other
        runs = np.concatenate([self.runs, other.runs])
        rows = np.argsort(np.repeat(runs["id"], runs["rows"]), kind="stable")
        frame = pd.concat([self.frame, other.frame], ignore_index=True)
        if (np.diff(rows) < 0).any():
            frame = frame.take(rows).reset_index(drop=True)
        return _Part(runs[np.argsort(runs["id"], kind="stable")], frame)


class Stat(Protocol):
    """Says what lies at a path; links are not followed."""

    def __call__(self, path: str) -> os.stat_result: ...


@contextlib.contextmanager
def _stat_below(folder: Path) -> Iterator[Stat]:
    """A way to ask what lies below this folder.

    From an open folder the way to each file is short: a third of the time of asking by whole path.
    """
    if os.stat not in os.supports_dir_fd:
        yield lambda path: os.stat(folder / path, follow_symlinks=False)
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield lambda path: os.stat(path, dir_fd=opened, follow_symlinks=False)
    finally:
        os.close(opened)


def _scan(recordings: Recordings) -> Array:
    """The runs that lie there now. A folder without events is one, too."""
    import numpy as np

    ids = recordings.ids()[::-1]
    sizes, times = [-1] * len(ids), [-1] * len(ids)
    for day, runs in groupby(enumerate(ids), key=lambda numbered: numbered[1][:8]):
        with _stat_below(recordings.root / f"{day[:4]}-{day[4:6]}-{day[6:]}") as stat:
            for number, run_id in runs:
                try:
                    known = stat(f"{run_id}/{EVENTS}")
                except OSError:
                    continue
                sizes[number], times[number] = known.st_size, known.st_mtime_ns
    found = np.zeros(len(ids), _RUN)
    found["id"], found["size"], found["time"] = ids, sizes, times
    return found


def series(values: list[object], dtype: DType) -> pd.Series[Any]:
    """The values as a column.

    What is out of the range of its dtype is missing: recordings may come from anywhere.

    Raises TypeError or ValueError for values of another type.
    """
    import pandas as pd

    if dtype == TIME:
        return pd.to_datetime(
            pd.Series(values, dtype="str"), utc=True, errors="coerce", format="ISO8601"
        ).astype(TIME)
    if dtype == "Int64":
        if strange := [v for v in values if not isinstance(v, int | None)]:
            raise TypeError(f"{strange[0]!r} is no int")
        values = [v if isinstance(v, int) and abs(v) < 2**63 else None for v in values]
    if dtype == "str":
        values = [None if v is None or v == "" else str(v) for v in values]
    return pd.Series(values, dtype=dtype)


def _fingerprint(table: Table[Any]) -> str:
    """Another one where the same recordings may give another table."""
    files = resources.files("devpipe")
    code = b"".join(files.joinpath(name).read_bytes() for name in _READERS)
    return hashlib.sha256(
        code + repr([(column.name, column.dtype) for column in table.columns]).encode()
    ).hexdigest()


def _save(file: Path, part: _Part, table: Table[Any]) -> None:
    """Write the index anew; where the folder cannot be written, the next reader reads the runs
    again.
    """
    blocks = {"runs": part.runs}
    for column in table.columns:
        blocks |= {
            f"{column.name}:{name}": block
            for name, block in _blocks(part.frame[column.name], column.dtype)
        }
    body = [
        json.dumps(
            [
                _fingerprint(table),
                [[name, block.dtype.str, len(block)] for name, block in blocks.items()],
            ]
        ).encode()
        + b"\n"
    ]
    for block in blocks.values():
        data = block.tobytes()
        body.append(data + b"\0" * (-len(data) % _ALIGNED))
    whole = b"".join(body)
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_bytes(b"%08x\n" % zlib.crc32(whole) + whole)


def _load(file: Path, table: Table[Any]) -> _Part | None:
    """What is kept of the table; None where there is nothing, or it is torn, or of other code."""
    import numpy as np
    import pandas as pd

    try:
        data = file.read_bytes()
        if int(data[:8], 16) != zlib.crc32(memoryview(data)[9:]):
            return None
        at = data.index(b"\n", 9) + 1
        fingerprint, described = json.loads(data[9:at])
    except (OSError, ValueError):
        return None
    if fingerprint != _fingerprint(table):
        return None
    blocks: dict[str, Array] = {}
    for name, dtype, length in described:
        blocks[name] = np.frombuffer(data, dtype, length, at)
        at += -(-blocks[name].nbytes // _ALIGNED) * _ALIGNED
    columns = {
        column.name: _from_blocks(column.name, blocks, column.dtype) for column in table.columns
    }
    return _Part(blocks["runs"].view(_RUN), pd.DataFrame(columns, copy=False))


def _blocks(column: pd.Series[Any], dtype: DType) -> Iterator[tuple[str, Array]]:
    """A column as plain arrays."""
    import numpy as np

    valid = column.notna().to_numpy(bool)
    if dtype == "str":
        texts = [
            text.encode() if known else b""
            for text, known in zip(column.tolist(), valid, strict=True)
        ]
        yield "offsets", np.cumsum([0, *map(len, texts)], dtype=np.int64)
        yield "bytes", np.frombuffer(b"".join(texts), np.uint8)
        yield "valid", np.packbits(valid, bitorder="little")
    elif dtype == TIME:
        yield "values", column.dt.tz_localize(None).to_numpy("datetime64[us]").view(np.int64)
    elif dtype == "float64":
        yield "values", column.to_numpy(np.float64)
    else:
        yield "values", column.fillna(0).to_numpy(np.int64 if dtype == "Int64" else np.bool_)
        yield "valid", valid


def _from_blocks(name: str, blocks: Mapping[str, Array], dtype: DType) -> Any:
    """The column again, as something pandas takes without a copy where it can."""
    import numpy as np
    import pandas as pd

    if dtype == "str":
        return _strings(blocks[f"{name}:offsets"], blocks[f"{name}:bytes"], blocks[f"{name}:valid"])
    values = blocks[f"{name}:values"]
    if dtype == TIME:
        return pd.to_datetime(values.view("datetime64[us]"), utc=True)
    if dtype == "float64":
        return values.copy()
    array = pd.arrays.IntegerArray if dtype == "Int64" else pd.arrays.BooleanArray
    return array(values.copy(), np.logical_not(blocks[f"{name}:valid"]))


def _strings(offsets: Array, data: Array, valid: Array) -> Any:
    import numpy as np
    import pandas as pd

    length = len(offsets) - 1
    dtype: Any = pd.StringDtype(na_value=np.nan)
    if dtype.storage == "pyarrow":
        import pyarrow

        buffers = [pyarrow.py_buffer(valid), pyarrow.py_buffer(offsets), pyarrow.py_buffer(data)]
        return dtype.__from_arrow__(
            pyarrow.Array.from_buffers(pyarrow.large_string(), length, buffers)
        )
    known = np.unpackbits(valid, count=length, bitorder="little")
    text = data.tobytes()
    return pd.array(
        [
            text[a:b].decode() if k else None
            for a, b, k in zip(offsets[:-1], offsets[1:], known, strict=True)
        ],
        dtype="str",
    )
