"""Recordings to take away: a table for a spreadsheet or for statistics, or a ZIP that stands for
itself.
"""

from __future__ import annotations

import json
import mimetypes
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from devpipe.analysis.tables import Tables
from devpipe.errors import RecorderError, RecordingDamaged, UsageError
from devpipe.record.reader import EVENTS, SUMMARY, Recording, run_folder
from devpipe.show.files import replacing

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so
_EXCEL_CELL = 32_000  # characters: Excel holds 32,767


def export(tables: Tables, out: Path, *, runs: Sequence[str] = ()) -> list[Path]:
    """Write these runs (all, where none is named) to OUT.csv, .xlsx, .parquet or .zip and give back
    the files written.

    Paths in the tables begin at the folder of the recordings. Raises UsageError for another suffix
    or a package that is missing,
    UnknownName for a run that is not there. OUT appears whole or not at all.
    """
    ids = sorted({tables.find(run).id for run in runs})
    write = _WRITERS.get(out.suffix.lower())
    if write is None:
        raise UsageError(
            f"{out.name!r} names no format we write.", hint=f"Use one of: {', '.join(_WRITERS)}."
        )
    try:
        with replacing(out.absolute()) as file:
            write(tables, file, ids)
    except ImportError as exc:
        raise UsageError(
            f"{out.suffix} needs {exc.name}.", hint='Install it: pip install "devpipe-lab[export]".'
        ) from exc
    except OSError as exc:
        raise RecorderError(
            f"{out} cannot be written: {exc.strerror}.",
            hint="Choose another folder, or free some space.",
        ) from exc
    return [out]


def _frame(tables: Tables, name: str, ids: Sequence[str]) -> pd.DataFrame:
    """A table of these runs, its paths as they are in the ZIP: nobody's home folder is told."""
    frame: pd.DataFrame = getattr(tables, name)()
    frame = frame[frame["run_id"].isin(ids)] if ids else frame
    for column in frame.columns.intersection(["artifact", "path"]):
        frame = frame.assign(
            **{column: frame[column].str.removeprefix(f"{os.path.abspath(tables.root)}/")}
        )
    return frame


def _csv(tables: Tables, file: Path, ids: Sequence[str]) -> None:
    file.write_bytes(_as_csv(_frame(tables, "runs", ids)))


def _as_csv(frame: pd.DataFrame) -> bytes:
    text = _harmless(frame).to_csv(
        index=False, lineterminator="\r\n"
    )  # so that texts with either of the two are quoted
    return text.encode("utf-8-sig")  # Excel needs the mark to see umlauts


def _xlsx(tables: Tables, file: Path, ids: Sequence[str]) -> None:
    import openpyxl.cell.cell
    import pandas as pd

    with file.open("wb") as out, pd.ExcelWriter(out, engine="openpyxl") as writer:
        for name in ("runs", "stages", "texts", "artifacts", "verdicts", "attempts"):
            frame = _harmless(_frame(tables, name, ids))
            for column in frame.columns:
                if frame[column].dtype == "str":
                    text = frame[column].str.replace(
                        openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE, " ", regex=True
                    )
                    frame[column] = text.str.slice(0, _EXCEL_CELL)
                elif str(frame[column].dtype).startswith("datetime"):
                    frame[column] = frame[column].dt.tz_localize(
                        None
                    )  # Excel knows no time zones; ours is UTC
            frame.to_excel(writer, sheet_name=name, index=False, freeze_panes=(1, 1))


def _parquet(tables: Tables, file: Path, ids: Sequence[str]) -> None:
    import pyarrow  # noqa: F401  # pandas names no package in what it raises

    _frame(tables, "runs", ids).to_parquet(file, engine="pyarrow")


def _harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """With an apostrophe before every text that a spreadsheet would take for a formula."""
    texts = {name: frame[name] for name in frame.columns if frame[name].dtype == "str"}
    return frame.assign(
        **{
            name: text.mask(text.str.startswith(_FORMULA, na=False), "'" + text)
            for name, text in texts.items()
        }
    )


def _zip(tables: Tables, file: Path, ids: Sequence[str]) -> None:
    recordings = [Recording(run_folder(tables.root, run_id)) for run_id in ids] or list(tables)[
        ::-1
    ]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
        packed = {recording.id: list(_pack(out, recording)) for recording in recordings}
        table = _frame(tables, "runs", list(packed) or [""])
        out.writestr(_entry("runs.csv"), _as_csv(table))
        out.writestr(_entry("README.md"), Path(__file__).with_name("export.md").read_bytes())
        out.writestr(
            _entry("ro-crate-metadata.json"),
            json.dumps(_crate(packed, table), ensure_ascii=False, indent=1),
        )


def _pack(out: zipfile.ZipFile, recording: Recording) -> Iterator[tuple[str, int]]:
    """Put the events of a run and the files that they name into the ZIP; gives the name and size of
    each.
    """
    folder = f"recordings/{recording.folder.parent.name}/{recording.id}/"
    out.writestr(_entry(folder, mode=0o40700), b"")
    try:
        named = [EVENTS, SUMMARY, *recording.files]
    except RecorderError:
        named = [EVENTS]
    for name in named:
        try:
            path = recording.path(name)
        except RecordingDamaged:
            # not there, or no plain file: `verify` says so of the original and of the copy
            continue
        entry = _entry(folder + name, compress=path.suffix in (".jsonl", ".json", ".txt", ".wav"))
        entry.file_size = path.stat().st_size
        with path.open("rb") as source, out.open(entry, "w") as target:
            shutil.copyfileobj(source, target)
        yield folder + name, entry.file_size


def _entry(name: str, *, mode: int = 0o100600, compress: bool = True) -> zipfile.ZipInfo:
    """One entry without the time of day: equal recordings give equal ZIPs.

    The mode keeps it its owner's when unpacked.
    """
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    return entry


def _crate(packed: Mapping[str, list[tuple[str, int]]], runs: pd.DataFrame) -> dict[str, Any]:
    """RO-Crate 1.1: what lies in the ZIP, for machines."""
    started = dict(zip(runs["run_id"], runs["started_at"], strict=True))
    told = dict(
        zip(
            runs["run_id"],
            runs["pipeline"].fillna("?") + " > " + runs["output"].fillna("?"),
            strict=True,
        )
    )
    latest = max(
        (at for at in started.values() if at == at), default=datetime.now(UTC)
    )  # NaT is not itself
    graph: list[dict[str, Any]] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": "Recordings of devpipe",
            "datePublished": f"{latest:%Y-%m-%d}",
            "description": (
                f"{len(packed)} runs of prompt interception: texts, verdicts, pictures, and every"
                " event on the way."
            ),
            "license": "Ask whoever gave you these recordings.",
            "hasPart": [
                {"@id": "runs.csv"},
                {"@id": "README.md"},
                *({"@id": _place(files)} for files in packed.values() if files),
            ],
        },
        {
            "@id": "runs.csv",
            "@type": "File",
            "name": "One row per run",
            "encodingFormat": "text/csv",
        },
        {
            "@id": "README.md",
            "@type": "File",
            "name": "How to read this",
            "encodingFormat": "text/markdown",
        },
    ]
    for run_id, files in ((run_id, files) for run_id, files in packed.items() if files):
        date = (
            {"dateCreated": started[run_id].isoformat()}
            if run_id in started and started[run_id] == started[run_id]
            else {}
        )
        parts = [{"@id": quote(name)} for name, _ in files]
        graph.append(
            {
                "@id": _place(files),
                "@type": "Dataset",
                "name": f"{run_id}: {told.get(run_id)}",
                "hasPart": parts,
            }
            | date
        )
        graph += [
            {
                "@id": quote(name),
                "@type": "File",
                "contentSize": str(size),
                "encodingFormat": _media_type(name),
            }
            for name, size in files
        ]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


def _place(files: list[tuple[str, int]]) -> str:
    return quote(files[0][0].rpartition("/")[0]) + "/"


def _media_type(name: str) -> str:
    return (
        "application/jsonl"
        if name.endswith(".jsonl")
        else mimetypes.guess_type(name)[0] or "application/octet-stream"
    )


_WRITERS: dict[str, Callable[[Tables, Path, Sequence[str]], None]] = {
    ".csv": _csv,
    ".xlsx": _xlsx,
    ".parquet": _parquet,
    ".zip": _zip,
}
