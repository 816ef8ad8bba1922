"""Every prompt that a person wrote into a file comes back, or one line says where it does not fit."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from engines import engine_in, small_media, small_picture
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openpyxl.chart import BarChart, Reference
from shell import REPOSITORY, Done, here

from devpipe import ConfigError, Settings, UsageError
from devpipe.batch.notebooks import declared
from devpipe.batch.plan import Plan
from devpipe.cli import main
from devpipe.comfyui.adopt import read as read_graph
from devpipe.comfyui.doctor import saved_info
from devpipe.safety.report import Case
from devpipe.safety.report import read as read_cases
from devpipe.testing import ScriptedBackend

SMALL = "parameters: {width: [64], height: [64]}\n"


def put(folder: Path, name: str, content: bytes | str) -> Path:
    """A file of these bytes, or of this text in UTF-8."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def workbook(folder: Path, *rows: list[Any], name: str = "plan.xlsx", **more: list[Any]) -> Path:
    """An Excel workbook: a sheet of these rows, and others by their titles."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for title, cells in more.items():
        book.create_sheet(title).append(cells)
    book.save(folder / name)
    return folder / name


def prompts(path: Path) -> list[str]:
    return [item.prompt for item in Plan.read(path).items()]


@pytest.fixture
def devpipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.chdir(tmp_path)
    return here(tmp_path / "recordings")


# Files as people and their programs write them.


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("leer.csv", "\ufeffprompt;seed\r\nein Kreis;7\r\n;\r\n;\r\n", [("ein Kreis", 7)]),
        ("sep.csv", "sep=;\r\nprompt;seed\r\nein Kreis, rot;7\r\n", [("ein Kreis, rot", 7)]),
        ("sep.csv", '\ufeff"sep=|"\nprompt|seed\na, b; c|7\n', [("a, b; c", 7)]),
        ("tab.csv", "prompt\tseed\nein Haus, rot\t7\n", [("ein Haus, rot", 7)]),
        ("gross.csv", "Prompt;Seed\r\nein Kreis;7\r\n", [("ein Kreis", 7)]),
        ("GROSS.CSV", "SEED,PROMPT\n7,a cat\n", [("a cat", 7)]),
        ("zahl.csv", 'prompt,seed\na cat,7.0\na dog,\n"a, b",9\n', [("a cat", 7), ("a dog", 1), ("a, b", 9)]),
        ("zahl.csv", "prompt;seed\na cat;7,0\n", [("a cat", 7)]),
        ("ohne.csv", "prompt\nein Haus; bei Nacht\n", [("ein Haus; bei Nacht", 1)]),
        ("rand.csv", "prompt,seed,,\na cat,7,,\n,,,\n", [("a cat", 7)]),
        ("kopf.csv", "\n\n prompt , Text Seed\na cat,3\n", [("a cat", 1)]),
        ("quer.csv", 'prompt\na "red" bird\n"""so"", he said"\n', [('a "red" bird', 1), ('"so", he said', 1)]),
        ("mac.csv", "prompt,seed\ra cat,1\ra dog,2\r", [("a cat", 1), ("a dog", 2)]),
        ("w.tsv", "prompt\na cat, a dog\n", [("a cat, a dog", 1)]),
        ("a.txt", "a cat\n\n  \r\na dog, wet; #2\n", [("a cat", 1), ("a dog, wet; #2", 1)]),
        ("A.TXT", "\ufeffein H\u2028aus\u0085s", [("ein H\u2028aus\u0085s", 1)]),
        ("u.txt", codecs.BOM_UTF16_LE + "prompt\tseed\r\nein Löwe\t7\r\n".encode("utf-16-le"), [("ein Löwe", 7)]),
        ("u.csv", codecs.BOM_UTF16_BE + "prompt\nein Löwe\n".encode("utf-16-be"), [("ein Löwe", 1)]),
        ("u.txt", "\r\n\r\nprompt\tseed\r\nein Löwe\t7\r\n", [("ein Löwe", 7)]),
        ("s.txt", "\nsep=;\nprompt;seed\na cat;7\n", [("a cat", 7)]),
        ("s.csv", "\r\n;\r\nsep=;\r\nprompt;seed\r\na cat;7\r\n", [("a cat", 7)]),
        ("a.txt", "a prompt, an output\nprompts; all\n", [("a prompt, an output", 1), ("prompts; all", 1)]),
        ("b.csv", "\ufeff\ufeffprompt\na\n", [("a", 1)]),
        ("b.txt", "\ufeff\ufeffa\n\ufeffb\n", [("a", 1), ("\ufeffb", 1)]),
        ("b.json", '\ufeff\ufeff{"prompts": ["a"]}', [("a", 1)]),
        ("p.yaml", "prompts:\r- a\r\n- b\n", [("a", 1), ("b", 1)]),
        ("p.yaml", "prompts:\n- a\u2028- b\x85c\n- 'd\u2029e'\n", [("a - b c", 1), ("d e", 1)]),
        ("p.yaml", "prompts: [1984, true, a]\nexclude: [{prompt: 1984}, {prompts: true}]\n", [("a", 1)]),
        ("p.yaml", "prompts: [a]\nseeds: [1, 2]\nexclude: [{seed: 1.0}]\n", [("a", 2)]),
        ("p.yaml", "prompts: [" + "1" * 5000 + "]\n", [("1" * 5000, 1)]),
        ("p.yaml", "\ufeffprompts: [yes, no, 12:30, 2024-01-01, 0x1F, 007, a#b]\n", [("yes", 1), ("no", 1), ("12:30", 1), ("2024-01-01", 1), ("0x1F", 1), ("007", 1), ("a#b", 1)]),
        ("p.YML", "prompts:\n- a cat\n# a note\n- 'a dog' # another\nseeds: [7.0] # and one\n", [("a cat", 7), ("a dog", 7)]),
        ("p.yaml", "prompts: [1984, 7.0, 007, true, 1e5, .inf]", [("1984", 1), ("7.0", 1), ("007", 1), ("true", 1), ("1e5", 1), (".inf", 1)]),
        ("p.json", '\ufeff{"prompts": ["a\\ncat"], "seeds": [7.0]}', [("a\ncat", 7)]),
    ],
)  # fmt: skip
def test_a_file_is_read_as_its_program_wrote_it(
    tmp_path: Path, name: str, content: bytes | str, read: list[tuple[str, int]]
) -> None:
    """Marks, separators, empty rows and whole numbers of Excel and pandas say nothing else."""
    plan = Plan.read(put(tmp_path, name, content))
    assert [(item.prompt, item.seed) for item in plan.items()] == read


def test_a_workbook_is_a_plan(tmp_path: Path) -> None:
    """Numbers as they are shown, empty rows and sheets passed over, whatever the file says of its
    own size.
    """
    path = workbook(
        tmp_path, ["Prompt", "SEED", "output"], ["ein Haus, rot", 7, None], [], [1984, 8.0, "sketch"],
        ["zwei\nZeilen_x000D_\nhier", None, None], leer=[],
    )  # fmt: skip
    found = [(item.prompt, item.seed) for item in Plan.read(path).items()]
    assert found == [("ein Haus, rot", 7), ("1984", 8), ("zwei\nZeilen\nhier", 1)]
    small = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(small, "w") as target:
        for entry in source.namelist():
            data = source.read(entry)
            target.writestr(
                entry, data.replace(b'<dimension ref="A1:C5"', b'<dimension ref="A1:A2"')
            )
    assert b"A1:A2" in zipfile.ZipFile(small).read("xl/worksheets/sheet1.xml")
    other = put(tmp_path, "KLEIN.XLSX", small.getvalue())
    assert len(Plan.read(other).items()) == 3
    assert len(Plan.read(put(tmp_path, "named_so.csv", small.getvalue())).items()) == 3


@pytest.mark.parametrize("place", [0, 1])
def test_only_sheets_that_hold_cells_count(tmp_path: Path, place: int) -> None:
    """A sheet of a chart is none of them, also where its chart was deleted, nor is an empty one."""
    book = openpyxl.Workbook()
    table = book.active
    for row in (["prompt", "seed"], ["a cat", 7]):
        table.append(row)
    chart = BarChart()
    chart.add_data(Reference(table, min_col=2, min_row=1, max_row=2))
    book.create_chartsheet("Chart", place).add_chart(chart)
    book.create_chartsheet("Deleted", place)
    book.create_sheet("Empty", place)
    book.save(tmp_path / "plan.xlsx")
    assert prompts(tmp_path / "plan.xlsx") == ["a cat"]


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("a_x000B_b", "a\vb"),
        ("a_x000a_b_x000D_\nc", "a\nb\nc"),
        ("a_x005F_x000B_b", "a_x000B_b"),
        ("a _x D83D_", "a _x D83D_"),
        ("a_xD83D__xDE00_", "a😀"),
    ],
)
def test_what_excel_spells_by_its_number_is_read_as_it_shows_it(
    tmp_path: Path, cell: str, read: str
) -> None:
    """A line break or other sign that XML cannot hold, and the underscore before such a number."""
    assert prompts(workbook(tmp_path, ["prompt"], [cell])) == [read]


def test_prompts_of_a_plan_come_from_any_table(tmp_path: Path) -> None:
    """Seen from the plan; columns that no plan knows are notes, those that one knows an error."""
    workbook(tmp_path, ["prompt", "author"], ["a cat", "me"])
    put(tmp_path, "W.TXT", "a dog\n")
    put(tmp_path, "seeds.csv", "prompt,seed\na cat,7\n")
    for file, text in (("plan.xlsx", "a cat"), ("W.TXT", "a dog")):
        assert prompts(put(tmp_path, "p.yaml", f"prompts: {file}\n")) == [text]
    with pytest.raises(UsageError, match=r"seeds\.csv has a column `seed`, which nobody reads"):
        Plan.read(put(tmp_path, "p.yaml", "prompts: seeds.csv\n"))


# What does not fit.


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("k.csv", "prompt\na red bird, flying\nein Haus\na, b, c\n", "k.csv, lines 2 and 4: 2 cells under 1 column. A text with a comma stands in quotes."),
        ("k.csv", "prompt,seed\n\na cat,7,dada\n", "k.csv, line 3: 3 cells under 2"),
        ("k.csv", "prompt,,seed\na cat,in the rain,7\n", "k.csv, line 2"),
        ("k.csv", "prompt\na cat,\n", "k.csv, line 2: 2 cells under 1 column"),
        ("k.csv", "prompt,prompt\na,b\n", "k.csv, line 1: the column `prompt` stands there twice"),
        ("k.csv", "prompt,seed\na cat,7\n,8\n", "k.csv, line 3: the cell under `prompt` is empty"),
        ("k.csv", "prompt,seed\n\"two\nlines\",7\na cat,seven\n", "k.csv, line 4: $.seeds[1]"),
        ("k.csv", "sep=;\nprompt;seed\na cat;7.5\n", "k.csv, line 3: $.seeds[0]"),
        ("k.csv", 'prompt\na cat\n"a dog\nno end\n', "k.csv, line 3: unexpected end"),
        ("k.csv", 'prompt\n"a" cat\n', "k.csv, line 2:"),
        ("k.csv", "prompt,sead\na cat,7\n", "seed"),
        ("k.csv", b"prompt\na cat\nK\xe4fer\n", "k.csv, line 3: not UTF-8"),
        ("k.csv", "prompt\na\rb\0c\n", "k.csv, line 3: a NUL"),
        ("k.csv", "prompt\n", "no rows"),
        ("k.csv", "ein Haus\nein Baum\n", "no column `prompt`"),
        ("k.txt", "a cat\nb\0c\n", "k.txt, line 2: a NUL"),
        ("k.txt", "\n\n", "k.txt is empty"),
        ("k.txt", "prompt,seed\na cat,7\n", "k.txt, line 1: `prompt` heads a column"),
        ("k.txt", "\nSeed; Prompt\n7;a cat\n", "k.txt, line 2: `prompt` heads a column"),
        ("k.txt", '"prompt"|"seed"\n"a cat"|"7"\n', "k.txt, line 1: `prompt` heads a column"),
        ("k.txt", b"a\rK\xe4fer\r", "k.txt, line 2: not UTF-8"),
        ("k.csv", "prompt\r\na\r\n".encode("utf-16-le"), "k.csv, line 1: not UTF-8"),
        ("k.csv", "prompt\r\na\r\n".encode("utf-32"), "k.csv, line 1: not UTF-8"),
        ("k.csv", "prompt\na\n" + "x" * 131_073 + "\n", "k.csv, line 3: a cell of more than 131,072 characters"),
        ("k.csv", "prompt,seed\na,1" + "0" * 5000 + "\n", "k.csv, line 2: $.seeds[0]"),
        ("k.ods", b"PK\3\4", "Save it as .xlsx or .csv"),
        ("k.NUMBERS", b"PK\3\4", "Save it as .xlsx or .csv"),
        ("k.xls", b"\xd0\xcf\x11\xe0", "Save it as .xlsx or .csv"),
        ("k.docx", b"PK\3\4", "Save its prompts as .txt"),
        ("p.yaml", "name: p\nprompts: klasse.ods\n", "p.yaml, line 2: $.prompts: klasse.ods is of a kind that nobody reads"),
        ("p.yaml", "prompts: [a]\nlabels:\n  item: mine\n", "p.yaml, line 3: $.labels.item: is the label by which a batch finds its cells"),
        ("p.json", '{"prompts": ["a"],\n"labels": {"item": "mine"}}', "p.json, line 2: $.labels.item"),
        ("p.yaml", "prompts: [a]\nseeds: [1, 2]\nexclude:\n- seed: true\n", "p.yaml, line 4: $.exclude[0].seed: True is not in seeds"),
        ("p.yaml", "prompts: [a]\nparameters: {x: [true, 0]}\nexclude: [{x: 1}]\n", "p.yaml, line 3: $.exclude[0].x: 1 is not in x"),
        ("p.yaml", "prompts: [a]\nparameters: {x: [1, 2]}\nexclude: [{x: 1.0}]\n", "p.yaml, line 3: $.exclude[0].x: 1.0 is not in x"),
        ("p.yaml", "prompts: [a]\nseeds:\n- 1" + "0" * 5000 + "\n", "p.yaml, line 3: $.seeds[0]: must be a number of at most 308 digits"),
        ("p.yaml", "prompts: [a]\nparameters: {width: [-1" + "0" * 400 + "]}\n", "p.yaml, line 2: $.parameters.width[0]: must be a number of at most 308 digits"),
        ("p.yaml", "prompts: [a]\nrepeats: 1" + "0" * 5000 + "\n", "p.yaml, line 2: $.repeats"),
        ("p.yaml", "prompts: [a]\nseeds: [1e999999999]\n", "p.yaml, line 2: $.seeds[0]: must be a number of at most 308 digits"),
        ("p.yaml", "prompts: [a]\nlabels: {[b]: c}\n", "line 2, column 10: a name must be a word"),
        ("p.yaml", "prompts: [a,\n b\u2028]\nseeds: [x]\n", "p.yaml, line 3: $.seeds[0]"),
        ("p.yaml", "prompts: [a]\rseeds:\r- x\r", "p.yaml, line 3: $.seeds[0]"),
        ("p.yaml", 'prompts: [a]\npipelines: ["\\ud800"]\n', "p.yaml, line 2: $.pipelines[0]: is not valid Unicode"),
        ("p.yaml", 'prompts: [a]\nimages: [{image: "\\ud800"}]\n', "p.yaml, line 2: $.images[0]: is not valid Unicode"),
        ("p.yaml", 'prompts: [a]\nlabels: {"\\ud800": b}\n', "p.yaml, line 2: $.labels"),
        ("p.yaml", "prompts: [a]\nparameters: {width: [64], width: [96]}\n", "line 2, column 27: width stands there twice"),
        ("p.json", '{"prompts": ["a"],\r"seeds": ["x"]}', "p.json, line 2: $.seeds[0]"),
        ("p.json", '{"prompts": ["a"],\r"seeds": [1],\r\n"seeds": [2]}', "in lines 2 and 3"),
        ("p.json", '{"a": 1' + "0" * 5000 + ', "b": 1,\n"b": 2}', "$.b: stands there twice, in lines 1 and 2"),
        ("p.json", '{"prompts": ["a"],\n"parameters": {"width": [1' + "0" * 5000 + "]}}", "p.json, line 2: $.parameters.width[0]: must be a number of at most 308 digits"),
        ("k.txt", "prompt\na cat\n", "k.txt, line 1"),
        ("k.ods", b"PK\3\4", "kind that nobody reads"),
        ("k.toml", "prompts = ['a cat']\n", "kind that nobody reads"),
        ("k.xlsx", b"\xd0\xcf\x11\xe0" + bytes(600), "password"),
        ("k.xlsx", b"PK\3\4" + bytes(600), "no Excel workbook that can be read"),
        ("k.xlsx", "prompt\na cat\n", "no Excel workbook"),
        ("p.yaml", "name: k\nprompts: [a cat]\nseeds: [1]\nprompts: [a dog]\n", "line 4, column 1: prompts stands there twice, in lines 2 and 4"),
        ("p.yaml", "prompts: [a]\nparameters:\n  width: [64]\n  width: [96]\n", "line 4, column 3: width stands there twice, in lines 3 and 4"),
        ("p.yaml", "prompts:\n- a cat\n- a bird #3\n", "line 3, column 9: '#3' would be lost"),
        ("p.yaml", "prompts:\n- a cat\n- 'tis a dog\n- the boys'\n", "line 3, column 3: the quote that opens here"),
        ("p.yaml", "prompts:\n- a cat\n- a dog: wet\n", "p.yaml, line 3: $.prompts[1]"),
        ("p.yaml", "prompts:\n- a cat\n-\n", "p.yaml, line 3: $.prompts[1]"),
        ("p.yaml", 'prompts: [a cat,\n "b\\0c"]\n', "p.yaml, line 2: $.prompts[1]: holds a NUL"),
        ("p.yaml", "prompts: [a]\nb: \0\n", "holds the character '\\x00' in line 2"),
        ("p.yaml", b"prompts: [a,\n K\xe4fer]", "p.yaml, line 2: not UTF-8"),
        ("p.yaml", "prompts: [a]\nparameters:\n width: [.nan]\n", "p.yaml, line 3: $.parameters.width[0]"),
        ("p.yaml", "prompts: [a]\nparameters: {width: [64,\n 1e999]}\n", "p.yaml, line 3: $.parameters.width[1]"),
        ("p.yaml", "prompts: [a]\nseeds: [.inf]\n", "p.yaml, line 2: $.seeds[0]"),
        ("p.yaml", "prompts:\n- &a b\n", "line 2, column 3: anchors"),
        ("p.yaml", "prompts: [a]\nexclude:\n- pipeline: dadaa\n", "p.yaml, line 3: $.exclude[0].pipeline: 'dadaa' is not in pipelines"),
        ("p.yaml", "prompts: &a [b]\nlabels: {<<: {a: b}}\nimages: *a\n", "line 1, column 10: anchors"),
        ("p.yaml", "prompts: [b]\n<<: {prompts: [a]}\n", "no key known"),
        ("p.yaml", "prompts: !!python/name:os.system [b]\n", "line 1, column 10: anchors"),
        ("p.yaml", "prompts: " + "[" * 5000 + "]" * 5000, "line 1, column 41: nested more than 32 deep"),
        ("p.yaml", "".join(f"{' ' * n}a:\n" for n in range(5000)), "nested more than 32 deep"),
        ("p.yaml", "prompts: [a]\n---\nprompts: [b]\n", "line 2"),
        ("p.json", '{"prompts": ["a cat"],\n"prompts": ["a dog"]}', "$.prompts: stands there twice, in lines 1 and 2"),
        ("p.json", '{"prompts": ["a"],\n"labels": {"a": "1",\n"a": "2"}}', "$.labels.a: stands there twice, in lines 2 and 3"),
        ("p.json", '{"prompts": ["a",\n\n7]}', "p.json, line 3: $.prompts[1]"),
        ("p.json", '{"prompts": ["a", "b\\u0000"]}', "p.json, line 1: $.prompts[1]: holds a NUL"),
        ("p.json", '{"prompts": ["a", "\\ud83d"]}', "p.json, line 1: $.prompts[1]: is not valid Unicode"),
        ("p.json", '{"prompts": ["a"], "parameters": {"width": [NaN]}}', "$.parameters.width[0]"),
        ("p.json", '{"prompts": ["a"], "parameters": {"width": [-Infinity]}}', "$.parameters.width[0]"),
        ("p.json", '{"prompts": ' + "[" * 5000 + "]" * 5000 + "}", "nested 5001 deep"),
        ("p.json", '{"prompts": ["a"],\n"seeds": [1' + "0" * 5000 + "]}", "p.json, line 2: $.seeds[0]: must be a number of at most 308 digits"),
        ("p.json", '{"prompts": [\n"a" "b"]}', "line 2, column 5"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "bytes",
)  # fmt: skip
def test_what_does_not_fit_is_refused_where_it_stands(
    tmp_path: Path,
    devpipe: Callable[..., Done],
    name: str,
    content: bytes | str,
    said: str,
) -> None:
    """With its file and line, status 2, and no traceback; nothing is cut off or passed over."""
    with pytest.raises(UsageError) as raised:
        Plan.read(put(tmp_path, name, content))
    assert said in str(raised.value)
    done = devpipe("batch", name, "--dry-run")
    assert done.status == 2 and name in done.err and "Traceback" not in done.err
    assert len(done.err.splitlines()) == len(str(raised.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["prompt"], ["a cat"], ["=A2"]], "row 3: a formula"),
        ([["prompt"], ["a cat"], ["#REF!"]], "row 3: the error #REF!"),
        ([["prompt"], [True]], "row 2: True is no text"),
        ([["prompt"], ["#N/A"]], "row 2: the error #N/A"),
        ([["prompt"], [date(2024, 1, 2)]], "row 2: 2024-01-02 00:00:00 is no text"),
        ([["prompt"], [123456789012345678]], "row 2: 1.234567890123457e+17 is shown as another"),
        ([["prompt"], ["a_xD83D_"]], "row 2: $.prompts[0]: is not valid Unicode"),
        ([["prompt"], ["a_x0000_"]], "row 2: $.prompts[0]: holds a NUL"),
        ([["prompt", "seed"], ["a cat", 7, "lost"]], "row 2: 3 cells under 2 columns"),
        ([["prompt", "seed"], [], [None, 7]], "row 3: the cell under `prompt` is empty"),
        ([["prompt", "seed"], ["a cat", 7.5]], "row 2: $.seeds[0]"),
        ([[], ["text"], ["a cat"]], "no column `prompt`"),
        ([], "no column `prompt`"),
    ],
)
def test_a_cell_that_shows_another_thing_than_it_holds_is_refused(
    tmp_path: Path, rows: list[list[Any]], said: str
) -> None:
    """With its row."""
    with pytest.raises(UsageError) as raised:
        Plan.read(workbook(tmp_path, *rows))
    assert said in str(raised.value) and "plan.xlsx" in str(raised.value)


def test_a_number_in_another_dress_and_a_second_sheet_are_refused(tmp_path: Path) -> None:
    """`50 %` is 0.5 in the file; a second class stands on a sheet of its own."""
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"] = "prompt", 0.5
    book.active["A2"].number_format = "0%"
    book.save(tmp_path / "percent.xlsx")
    with pytest.raises(UsageError, match=r"percent\.xlsx, row 2: 0\.5 is no text"):
        Plan.read(tmp_path / "percent.xlsx")
    for number, shape in ((7.5, "0"), (0.125, "0.00")):
        book.active["A2"], book.active["A2"].number_format = number, shape
        book.save(tmp_path / "rounded.xlsx")
        with pytest.raises(
            UsageError, match=rf"rounded\.xlsx, row 2: {number} is shown as another"
        ):
            Plan.read(tmp_path / "rounded.xlsx")
    two = workbook(tmp_path, ["prompt"], ["a cat"], klasse7b=["prompt", "a dog"])
    with pytest.raises(UsageError, match="2 sheets with something in them: Sheet, klasse7b"):
        Plan.read(two)


def test_what_is_hidden_in_a_workbook_is_said(tmp_path: Path) -> None:
    """Nobody pays for rows that a filter hides; an empty row and what is shown say nothing."""
    book = openpyxl.Workbook()
    for row in (["prompt"], ["a cat"], ["a dog"], [], ["a bird"]):
        book.active.append(row)
    book.active.row_dimensions[4].hidden = True
    book.save(tmp_path / "shown.xlsx")
    assert prompts(tmp_path / "shown.xlsx") == ["a cat", "a dog", "a bird"]
    book.active.row_dimensions[3].hidden = book.active.row_dimensions[5].hidden = True
    book.save(tmp_path / "k.xlsx")
    with pytest.raises(UsageError, match=r"k\.xlsx, rows 3 and 5: hidden\. Show"):
        Plan.read(tmp_path / "k.xlsx")
    lists = book.create_sheet("lists")
    lists.append(["dada"])
    lists.sheet_state = "hidden"
    book.save(tmp_path / "k.xlsx")
    with pytest.raises(
        UsageError, match=r"2 sheets with something in them: Sheet, lists \(hidden\)"
    ):
        Plan.read(tmp_path / "k.xlsx")


@pytest.mark.parametrize("key", ["seeds", "prompts", "repeats", "labels", "parameters"])
def test_python_values_beyond_all_numbers_are_one_fault(key: str) -> None:
    """No message can show 5,000 digits."""
    huge = 10**5000
    value = {"labels": {"a": huge}, "parameters": {"width": [huge]}, "repeats": huge}
    with pytest.raises(UsageError, match="digits"):
        Plan.read({"name": "p", "prompts": ["a"], key: value.get(key, [huge])})


def test_a_workbook_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """By what it says of its parts, before any is unpacked."""
    path = workbook(tmp_path, ["prompt"], ["a cat"])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/large.bin", bytes(170_000_000))
    with pytest.raises(UsageError, match="Split it"):
        Plan.read(path)


# Equal prompts.


def test_equal_prompts_are_done_once_and_named(
    tmp_path: Path, devpipe: Callable[..., Done]
) -> None:
    """With their lines, also where a space alone tells them apart; `--keep-duplicates` makes
    each, and what is done of it is found again.
    """
    content = "prompt\nein Einhorn\nein Drache\n\nein Schloss\n ein Einhorn \n"
    put(tmp_path, "klasse.csv", content)
    dry = devpipe("batch", "klasse.csv", "--dry-run")
    assert dry.status == 0 and dry.out.startswith("3 runs")
    assert "done once: ein Einhorn (klasse.csv, lines 2 and 6)" in dry.out
    assert "--keep-duplicates" in dry.out
    kept = devpipe("batch", "klasse.csv", "--dry-run", "--keep-duplicates")
    assert kept.out.startswith("4 runs from 3 interceptions") and "done once" not in kept.out
    put(tmp_path, "p.yaml", f"prompts:\n- a\n- b\n- a\n{SMALL}")
    done = devpipe("batch", "p.yaml", "--json")
    assert done.json["counts"] == {"completed": 2}
    assert "p.yaml, lines 2 and 4" in "".join(done.json["remarks"])
    every = devpipe("batch", "p.yaml", "--json", "--keep-duplicates").json
    assert every["counts"] == {"completed": 3}
    assert [row["earlier"] for row in every["rows"]] == [True, True, False]
    assert len({row["run_id"] for row in every["rows"]}) == 3
    again = devpipe("batch", "p.yaml", "--json", "--keep-duplicates").json
    assert all(row["earlier"] for row in again["rows"])


def test_equal_rows_are_equal_in_every_column(tmp_path: Path) -> None:
    """A prompt with another seed is another cell; in Python values, the place is the item's."""
    path = put(tmp_path, "k.csv", "prompt,seed\na,1\na,2\nb,1\na,2.0\n")
    plan = Plan.read(path)
    assert [(item.prompt, item.seed) for item in plan.items()] == [("a", 1), ("a", 2), ("b", 1)]
    assert "k.csv, lines 3 and 5" in plan.remarks[1]
    plan = Plan.read({"name": "p", "prompts": ["a", "b", "a"], "keep_duplicates": True})
    assert len({item.key for item in plan.items()}) == 3 and plan.remarks == ()
    deep: Any = "a"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(UsageError, match=r"[Pp]lan"):
        Plan.read({"name": "p", "prompts": deep})
    plan = Plan.read({"name": "p", "prompts": ["a", "b", "a"]})
    assert "$.prompts[0], $.prompts[2]" in plan.remarks[1]
    with pytest.raises(UsageError, match=r"seeds say 3 twice \(p\.yaml, lines 3 and 4\)"):
        Plan.read(put(tmp_path, "p.yaml", "prompts: [a]\nseeds:\n- 3\n- 3\n"))


def test_an_impossible_prompt_is_named_with_its_line(
    tmp_path: Path, devpipe: Callable[..., Done]
) -> None:
    """What the engine refuses, too."""
    put(tmp_path, "k.csv", f"prompt\na cat\n{'x' * 10_001}\n\u200b\n")
    said = devpipe("batch", "k.csv", "--dry-run")
    assert said.status == 2 and "line 3:" in said.err and "10001 characters" in said.err
    assert "line 4:" in said.err and "line 2:" not in said.err


# Own wording.


async def test_own_instructions_second_and_negative_texts_are_axes(tmp_path: Path) -> None:
    """Each reaches the backend, makes cells of its own, and is found again."""
    text = ScriptedBackend(["rewritten"])
    media = ScriptedBackend([small_media()])

    def engine() -> Any:
        models = {"DEVPIPE_MODEL_INTERCEPTION": "script/x"}
        backends = {"script": text, "procedural": media}
        return engine_in(tmp_path / "r", backends=backends, **models)

    plan = {
        "name": "p", "prompts": ["a cat", "a dog"], "instructions": ["As a poem.", "As a list."],
        "pipelines": ["user_defined"], "seeds": [1, 2],
    }  # fmt: skip
    one = engine()
    report = await one.batch(plan)
    assert report.counts == {"completed": 8} and len(text.requests) == 4
    asked = {(request.instruction, request.text) for request in text.requests}
    assert {pair for pair in asked if "poem" in str(pair)} and len(asked) == 4
    assert {row["instruction"] for row in report.to_json()["rows"]} == {"As a poem.", "As a list."}
    assert len(set(one.recordings.runs()["fingerprint"])) == 8
    assert all(row.earlier for row in (await one.batch(plan)).rows)
    two = {
        "name": "q",
        "prompts": ["a cat"],
        "prompts_2": ["rain", "snow"],
        "outputs": ["sketch_fusion"],
    }
    assert (await one.batch(two)).counts == {"completed": 2}
    assert {request.texts["prompt_2"] for request in media.requests if len(request.texts) > 1} == {
        "rain",
        "snow",
    }
    one.close()


def test_negative_prompts_are_a_parameter_of_their_own(tmp_path: Path) -> None:
    """From a table, too; a cell without one has none."""
    path = put(
        tmp_path, "k.csv", 'prompt,negative_prompt,Instruction\na cat,rain,\na dog,,"a, b"\n'
    )
    plan = Plan.read(path)
    cat, dog = (plan.asked(item) for item in plan.items())
    assert cat["parameters"] == {"negative_prompt": "rain"} and not cat["instruction"]
    assert dog["parameters"] == {} and dog["instruction"] == "a, b"
    grid = {
        "name": "p",
        "prompts": ["a"],
        "negative_prompts": ["x", "y"],
        "exclude": [{"negative_prompt": "x"}],
    }
    assert [item.wording for item in Plan.read(grid).items()] == [{"negative_prompt": "y"}]
    with pytest.raises(UsageError, match="negative_prompt"):
        Plan.read(
            {
                "name": "p",
                "prompts": ["a"],
                "negative_prompts": ["x"],
                "parameters": {"negative_prompt": ["y"]},
            }
        )


def test_a_cell_without_new_words_keeps_its_key() -> None:
    """What earlier versions made of a plan is found by this one."""
    (item,) = Plan.read({"name": "p", "prompts": ["a cat"]}).items()
    assert item.key == "c4f8e3e6a455b3cf"


def test_hints_are_those_of_a_plan(tmp_path: Path, devpipe: Callable[..., Done]) -> None:
    """No option of a command that has none."""
    put(
        tmp_path,
        "p.yaml",
        "prompts: [a cat]\npipelines: [user_defined]\noutputs: [sketch_control]\n",
    )
    said = devpipe("batch", "p.yaml", "--dry-run")
    assert said.status == 2 and "in the shell" not in said.err and "=..." not in said.err
    assert "instructions: [...]" in said.err and "images: [{control: FILE}]" in said.err
    more = 'instructions: ["As a poem."]\nimages: [{control: c.png}]\n'
    put(tmp_path, "c.png", small_picture())
    plan = "prompts: [a cat]\npipelines: [user_defined]\noutputs: [sketch_control]\n"
    put(tmp_path, "p.yaml", plan + more)
    assert devpipe("batch", "p.yaml", "--dry-run").status == 0


# What would never end.


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes into: opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("end", ["yaml", "json", "csv", "txt", "xlsx", "tsv"])
def test_a_plan_that_is_no_file_is_one_line(
    pipe: Path, tmp_path: Path, devpipe: Callable[..., Done], end: str
) -> None:
    """A pipe, a device, a folder, a dead link, a name with a NUL."""
    os.symlink(pipe, tmp_path / f"a.{end}")
    os.symlink("/dev/zero", tmp_path / f"b.{end}")
    (tmp_path / f"c.{end}").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / f"d.{end}")
    for name in "abcd":
        done = devpipe("batch", f"{name}.{end}", "--dry-run")
        assert done.status == 2 and done.line and f"{name}.{end} cannot be read" in done.err
    with pytest.raises(UsageError, match="its name holds a NUL"):
        Plan.read(f"a\0.{end}")


def test_prompts_and_pictures_of_a_plan_that_are_no_files_are_said(
    pipe: Path, tmp_path: Path, devpipe: Callable[..., Done]
) -> None:
    """Also in the file that a plan names."""
    os.symlink(pipe, tmp_path / "words.csv")
    put(tmp_path, "p.yaml", "prompts: words.csv\n")
    assert (
        "words.csv cannot be read: it is a folder, pipe or device"
        in devpipe("batch", "p.yaml").line
    )
    put(
        tmp_path,
        "p.yaml",
        'prompts: [a]\noutputs: [sketch_control]\nimages: [{control: "a\\0b"}]\n',
    )
    assert "its name holds a NUL" in devpipe("batch", "p.yaml", "--dry-run").err
    for picture in ("pipe", "/dev/zero", "words.csv"):
        put(
            tmp_path,
            "p.yaml",
            f"prompts: [a]\noutputs: [sketch_control]\nimages: [{{control: {picture}}}]\n",
        )
        done = devpipe("batch", "p.yaml", "--dry-run")
        assert done.status == 2 and "pipe or device" in done.err
        assert devpipe("run", "a", "-o", "sketch_control", "--control", picture).line


async def test_other_readers_neither_wait_nor_fall_over(pipe: Path, tmp_path: Path) -> None:
    """Settings, graphs, what a server said, notebooks, labelled texts, pictures."""
    deep = put(tmp_path, "deep.json", '{"a": ' * 5000 + "1" + "}" * 5000)
    for read in (read_graph, lambda path: saved_info(str(path)), declared):
        for path in (pipe, Path("/dev/zero"), tmp_path, deep, tmp_path / "nowhere", Path("a\0b")):
            with pytest.raises(UsageError):
                read(path)
    twice = put(
        tmp_path,
        "g.json",
        '{"1": {"class_type": "A", "inputs": {}},\n"1": {"class_type": "B", "inputs": {}}}',
    )
    with pytest.raises(UsageError, match="stands there twice, in lines 1 and 2"):
        read_graph(twice)
    engine = engine_in(tmp_path / "r")
    for path in (pipe, "/dev/zero", "a\0b", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            await engine.run("a", pipeline="dada", output="sketch_control", control=path)
    engine.close()


def test_labelled_texts_that_are_no_file_are_one_line(
    pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a plan's; an Excel workbook is read."""
    for path in (pipe, Path("/dev/zero"), tmp_path):
        assert main(["safety-report", str(path), "--home", str(REPOSITORY)]) == 2
        assert "pipe or device" in capsys.readouterr().err
    path = workbook(tmp_path, ["Text", "Label"], ["a cat, wet", "Safe"])
    assert read_cases(path) == [Case("a cat, wet", "safe")]


@pytest.mark.parametrize(
    "content",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a." * 5000 + "a = 1",
        "safety." * 5000 + "a = 1",
        'safety = "kids"\nsafety = "youth"\n',
        "budget_usd = nan\n",
        "budget_usd = 1" + "0" * 5000,
        'safety = "ki\0ds"\n',
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_one_fault(tmp_path: Path, content: str) -> None:
    """Nested 5,000 deep, a key twice, no number, NUL: no default takes its place."""
    put(tmp_path, "devpipe.toml", content)
    with pytest.raises(ConfigError, match=r"devpipe\.toml") as raised:
        Settings.load(tmp_path, {})
    assert len(str(raised.value).splitlines()) == 3


def test_settings_of_a_windows_editor_are_read(tmp_path: Path) -> None:
    """With its mark and its line ends; a pipe in their place is a fault."""
    put(tmp_path, "devpipe.toml", '\ufeff# Einstellungen\r\nsafety = "kids"\r\n')
    assert Settings.load(tmp_path, {}).safety == "kids"
    (tmp_path / "devpipe.toml").unlink()
    os.mkfifo(tmp_path / "devpipe.toml")
    with pytest.raises(ConfigError, match="pipe or device"):
        Settings.load(tmp_path, {})


# A generator of plans.

LETTERS = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",)),
        st.sampled_from(",;\t|\"'#:=-[]{}&*!%@`\\ \n\r\u2028\x85\ufeff\0éß猫🐈"),
    ),
    max_size=24,
)
TRICKY = st.sampled_from(
    ["yes", "null", "~", "1984", "7.0", "1e5", "=1+1", "sep=;", "prompt", "- a", "a: b", "a #b", "<<", "*a", "&a b",
     "_x000B_", "a_x000a_b", "_x005F_", "prompt;seed", "prompt\tseed", "Seed,Prompt", "1" * 400, "-0", "1:30:00", "a\rb", "~ b",
     "2024-01-01", "#REF!", "TRUE", '"', "'", "a\nb", " a", "a, b", "a;b", "_x000D_", "\ufeffa", "prompt,seed"]
)  # fmt: skip
LISTS = st.lists(LETTERS | TRICKY, min_size=1, max_size=6)


def as_yaml(texts: list[str]) -> bytes:
    return yaml.safe_dump({"prompts": texts}, allow_unicode=True).encode()


def as_plain_yaml(texts: list[str]) -> bytes:
    """As a person writes it: no quotes, whatever the text."""
    return ("prompts:\n" + "".join(f"- {text}\n" for text in texts)).encode()


def as_json(texts: list[str]) -> bytes:
    return json.dumps({"prompts": texts}, ensure_ascii=False, indent=1).encode()


def as_csv(texts: list[str], delimiter: str = ",", encoding: str = "utf-8-sig") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["prompt", "seed"], *([text, 7] for text in texts)])
    return out.getvalue().encode(encoding)


def as_plain_csv(texts: list[str]) -> bytes:
    """As a person writes it: no quotes, whatever the text."""
    return ("prompt\n" + "".join(f"{text}\n" for text in texts)).encode()


def as_xlsx(texts: list[str]) -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["prompt"])
    for text in texts:  # Excel spells an underscore by its number where a number would follow
        book.active.append([re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)])
    book.create_chartsheet("Chart", 0)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def as_txt(texts: list[str]) -> bytes:
    return "\n".join(texts).encode()


WRITERS: dict[str, tuple[str, Callable[[list[str]], bytes]]] = {
    "yaml": ("p.yaml", as_yaml),
    "plain yaml": ("p.yaml", as_plain_yaml),
    "json": ("p.json", as_json),
    "csv": ("p.csv", as_csv),
    "semicolons": ("p.CSV", lambda texts: as_csv(texts, ";")),
    "tabs, utf-16": ("p.csv", lambda texts: as_csv(texts, "\t", "utf-16")),
    "plain csv": ("p.csv", as_plain_csv),
    "xlsx": ("p.xlsx", as_xlsx),
    "txt": ("p.txt", as_txt),
}


def words(texts: list[str]) -> list[str]:
    """What must come back: no empty texts, equal ones once, spaces as one; a mark is none."""
    found = (" ".join(text.replace("\ufeff", "").split()) for text in texts)
    return list(dict.fromkeys(text for text in found if text))


@pytest.mark.parametrize("kind", WRITERS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(texts=LISTS)
@example(texts=["a red bird, flying over a house", "ein gelbes Haus; bei Nacht"])
@example(texts=["a cat #3", "yes", "12:30"])
@example(texts=["ein Einhorn", "ein Drache", "ein Einhorn "])
def test_every_prompt_that_was_written_comes_back_or_its_line_is_named(
    tmp_path: Path, kind: str, texts: list[str]
) -> None:
    """540 plans of nine kinds: none loses a word of a prompt in silence."""
    name, write = WRITERS[kind]
    if kind == "plain csv":  # there, a quote at the beginning is one, and may hold several lines
        texts = [text.replace('"', "'") for text in texts]
    try:
        content = write(texts)
    except (openpyxl.utils.exceptions.IllegalCharacterError, ValueError):
        return  # Excel has no such text
    try:
        read = Plan.read(put(tmp_path, name, content)).prompts
    except UsageError as error:
        said = str(error)
        assert any(
            word in said for word in ("line ", "lines ", "row ", "rows ", "is empty", "no rows")
        )
        return
    if kind.startswith("plain") or kind == "txt":  # its lines are all that was written
        texts = [line for text in texts for line in text.replace("\r", "\n").split("\n")]
    assert words(read) == words(texts)
