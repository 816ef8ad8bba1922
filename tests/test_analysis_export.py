"""Recordings to take away."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import openpyxl
import pandas as pd
import pytest

from devpipe.analysis.export import export
from devpipe.analysis.tables import Tables
from devpipe.analysis.verify import verify
from devpipe.errors import RecorderError, UnknownName, UsageError
from devpipe.record.reader import Recordings
from tests import recording_maker as make

FORMULAS = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Runs whose prompts a spreadsheet would take for formulas, and a plain one."""
    root = tmp_path / "recordings"
    for second, prompt in enumerate([*FORMULAS, "Übermut, \x07 und\nmehr"]):
        make.completed(root, run_id=make.at(second), prompt=prompt, labels={"who": prompt.strip()})
    return Tables(root)


def test_csv_holds_all_runs_and_no_formula(tables: Tables, tmp_path: Path) -> None:
    """Every cell that a spreadsheet would run gets an apostrophe; umlauts survive; the home folder
    is not told.
    """
    (out,) = export(tables, tmp_path / "runs.csv")
    rows = list(csv.DictReader(io.StringIO(out.read_bytes().decode("utf-8-sig"), newline="")))
    assert len(rows) == 7 and not [
        cell
        for row in rows
        for cell in row.values()
        if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    ]
    assert (
        rows[0]["prompt"] == "'=HYPERLINK(1)" == rows[0]["labels.who"]
        and rows[6]["prompt"].startswith("Übermut")
        and rows[0]["seed"] == "7"
    )
    assert rows[0]["artifact"].startswith("2026-11-22/") and str(tmp_path) not in out.read_text(
        encoding="utf-8"
    )
    assert out.stat().st_mode & 0o077 == 0 and {entry.name for entry in tmp_path.iterdir()} == {
        "recordings",
        "runs.csv",
    }


def test_xlsx_has_a_sheet_per_table(tables: Tables, tmp_path: Path) -> None:
    """Texts are texts, never formulas; control characters that Excel refuses become spaces."""
    (out,) = export(tables, tmp_path / "runs.xlsx")
    book = openpyxl.load_workbook(out)
    assert book.sheetnames == ["runs", "stages", "texts", "artifacts", "verdicts", "attempts"]
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"] and "'=HYPERLINK(1)" in [
        cell.value for cell in cells
    ]
    assert "Übermut,   und\nmehr" in [cell.value for cell in cells]


def test_parquet_is_the_table_of_runs(tables: Tables, tmp_path: Path) -> None:
    """Statistics get the values as they are."""
    (out,) = export(tables, tmp_path / "runs.PARQUET")
    expected = tables.runs().drop(columns="artifact")
    pd.testing.assert_frame_equal(pd.read_parquet(out).drop(columns="artifact"), expected)


def test_zip_stands_for_itself(tables: Tables, tmp_path: Path) -> None:
    """Unpacked, its recordings verify byte by byte, and the crate names every file that is
    there.
    """
    chosen = tables.runs()["run_id"].tolist()[1:3]
    (out,) = export(tables, tmp_path / "share.zip", runs=[chosen[0], chosen[1][-8:]])
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(out) as file:
        for entry in file.infolist():
            file.extract(entry, unpacked)
            os.chmod(unpacked / entry.filename, entry.external_attr >> 16 & 0o777)
    there = Recordings(unpacked / "recordings")
    assert there.ids()[::-1] == chosen and [verify(recording) for recording in there] == [[], []]
    graph = {
        item["@id"]: item
        for item in json.loads((unpacked / "ro-crate-metadata.json").read_text())["@graph"]
    }
    files = {unquote(name) for name, item in graph.items() if item["@type"] == "File"}
    present = {
        entry.relative_to(unpacked).as_posix() for entry in unpacked.rglob("*") if entry.is_file()
    }
    assert files == present - {"ro-crate-metadata.json"}
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"} and {
        "name",
        "description",
        "datePublished",
        "license",
    } <= set(graph["./"])
    assert all(part["@id"] in graph for item in graph.values() for part in item.get("hasPart", []))
    assert Tables(there.root).runs()["prompt"].tolist() == FORMULAS[1:3]
    assert str(tmp_path) not in (unpacked / "runs.csv").read_text(encoding="utf-8")


def test_equal_recordings_give_equal_zips(tables: Tables, tmp_path: Path) -> None:
    """Nothing of the moment of packing is in it."""
    assert (
        export(tables, tmp_path / "a.zip")[0].read_bytes()
        == export(tables, tmp_path / "b.zip")[0].read_bytes()
    )


def test_damaged_recordings_are_packed_as_they_are(tables: Tables, tmp_path: Path) -> None:
    """What is there of them comes along; links out of the folder do not."""
    first, second, third = list(tables)[:3]
    (first.folder / "events.jsonl").unlink()
    (second.folder / "03_image.png").unlink()
    (third.folder / "03_image.png").unlink()
    (third.folder / "03_image.png").symlink_to("/etc/hostname")
    names = zipfile.ZipFile(export(tables, tmp_path / "share.zip")[0]).namelist()
    assert len([name for name in names if name.endswith("events.jsonl")]) == 6
    assert len([name for name in names if name.endswith(".png")]) == 4


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "parquet", "zip"])
def test_no_runs_are_exported_too(suffix: str, tmp_path: Path) -> None:
    """An empty workspace gives a file without rows."""
    assert export(Tables(tmp_path / "none"), tmp_path / f"out.{suffix}")[0].stat().st_size > 0


def test_what_cannot_be_written_says_what_to_do(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown suffix lists the known ones; an unknown run is named; a missing package says what
    to install; nothing is left behind.
    """
    with pytest.raises(UsageError, match=r"\.csv, \.xlsx, \.parquet, \.zip"):
        export(tables, tmp_path / "runs.ods")
    with pytest.raises(UnknownName, match="nobody"):
        export(tables, tmp_path / "runs.csv", runs=["nobody"])
    with pytest.raises(RecorderError, match="Choose another folder"):
        export(tables, tmp_path / "nowhere" / "runs.csv")
    for name, suffix in (("openpyxl.cell.cell", "xlsx"), ("pyarrow", "parquet")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(UsageError, match=r'pip install "devpipe-lab\[export\]"'):
                export(tables, tmp_path / f"runs.{suffix}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["recordings"]
