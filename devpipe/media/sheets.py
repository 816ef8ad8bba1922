"""What does a person's table hold? CSV as programs write it, an Excel workbook, a text a line.

What does not fit is an error with its line, so that no text is lost without a word; what programs
leave behind (a byte order mark, `sep=;`, empty rows) says nothing and is passed over.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devpipe.errors import UsageError
from devpipe.files import read_plain

WORKBOOKS = (".xlsx", ".xlsm")
SUFFIXES = (".csv", ".tsv", ".txt", *WORKBOOKS)
_TABLES = (".xls", ".xlsb", ".xlt", ".xltx", ".ods", ".fods", ".numbers", ".gsheet")
_DOCUMENTS = (".doc", ".docx", ".odt", ".rtf", ".pages", ".gdoc", ".pdf", ".md")
MAX_BYTES = 16_000_000
MAX_UNPACKED_BYTES = 160_000_000  # of a workbook, which is a zip file
_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0"  # a workbook before 2007, or one with a password
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel's "Unicode text"
_DELIMITERS = ",;\t"
_LIST_DELIMITERS = _DELIMITERS + "|"  # what might part the columns of a list's first line
_SEPARATOR = re.compile(
    r'(?:[,;\t ]*(?:\r\n|\r|\n))*"?sep=([^\w\s"]|\t)"?[,;\t ]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE
)
_LINE_END = re.compile(r"\r\n|\r|\n")  # as CSV has it: not U+2028, form feed or their kin
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_AS_WRITTEN = re.compile(r"General|@|0|#,##0|0\.(0+)")  # number formats that show the number
_ROW = re.compile(rb"<(?:\w+:)?row\s[^>]*>")  # of a sheet's XML, as are these
_ROW_NUMBER = re.compile(rb'\sr="(\d{1,7})"')
_HIDDEN = re.compile(rb'\shidden="(?:1|true)"')
_VALUE = re.compile(rb"<(?:\w+:)?(?:v|is)\b")
_UNROUNDED = ("General", "@")
_AS_TEXT = "Format the cell as text, and write it there again."


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file something stands."""

    file: str
    unit: str  # line, or row of a workbook
    number: int

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row: its cells by column, without those where nothing is written."""

    place: Place
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as people fill one in; the columns' names in small letters, `_` for spaces."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[SheetRow, ...]


@dataclass(frozen=True, slots=True)
class _Cells:
    """A row as it stands there."""

    place: Place
    texts: list[str]

    @property
    def width(self) -> int:
        """How many cells there are, without empty ones at the end."""
        return max((n for n, text in enumerate(self.texts, 1) if text.strip()), default=0)


def is_sheet(path: Path) -> bool:
    """Whether a file's name says that it is a table."""
    return path.suffix.lower() in SUFFIXES


def of_another_kind(path: Path) -> str:
    """What to do with a file whose name says another kind; empty where that might be a plan's.

    >>> of_another_kind(Path("klasse.ods"))
    'Save it as .xlsx or .csv, and give that file.'
    """
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return "Save it as .xlsx or .csv, and give that file."
    if suffix in _DOCUMENTS:
        return "Save its prompts as .txt, one a line, and give that file."
    return ""


def line_of(data: bytes, at: int) -> int:
    """The number of the line in which a byte stands, whatever ends the lines.

    >>> line_of(b"a\\r\\nb\\rc", 5)
    3
    """
    return len(_LINE_END_BYTES.findall(data[:at])) + 1


def read_sheet(path: Path, *, needed: tuple[str, ...]) -> Sheet:
    """Read a table whose every row has the columns `needed`.

    A .txt file without columns is a text a line where one column is needed. Raises UsageError that
    names the line.
    """
    try:
        data = read_plain(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            hint=f"Give a file that ends in {', '.join(SUFFIXES)}.",
        ) from error
    if data.startswith((_ZIP, _OLE)) or path.suffix.lower() in WORKBOOKS:
        return _table(path.name, _workbook_rows(path.name, data), needed)
    text = _decoded(path.name, data)
    if path.suffix.lower() == ".txt" and not _has_columns(text, needed):
        return _list(path.name, text, needed)
    usual = "\t" if path.suffix.lower() == ".tsv" else ""
    return _table(path.name, _csv_rows(path.name, text, usual or _delimiter(text, needed)), needed)


# Tables.


def _table(file: str, rows: Iterable[_Cells], needed: tuple[str, ...]) -> Sheet:
    """The table under its first row, which names the columns."""
    written = [row for row in rows if row.width]
    columns = _columns(file, written, needed)
    _refuse_surplus(written[1:], columns)
    found = []
    for row in written[1:]:
        pairs = zip(columns, row.texts, strict=False)
        cells = {name: text for name, text in pairs if text.strip()}
        found.append(SheetRow(row.place, cells))
    for name in needed:
        empty = [row.place for row in found if name not in row.cells]
        if empty:
            raise UsageError(
                f"{said(empty)}: the cell under `{name}` is empty.",
                hint="Fill it in, or delete the row.",
            )
    return Sheet(file, columns, tuple(found))


def _columns(file: str, written: list[_Cells], needed: tuple[str, ...]) -> tuple[str, ...]:
    """The columns' names. Raises UsageError where one is missing or stands there twice."""
    columns = _spelled(written[0].texts) if written else []
    for name in needed:
        if name not in columns:
            raise UsageError(
                f"{file} has no column `{name}`.",
                hint=f"Its first line names the columns: {', '.join(needed)}.",
            )
    if len(written) < 2:
        raise UsageError(f"{file} has no rows under its columns.", hint="Write at least one.")
    for name, count in Counter(columns).items():
        if name and count > 1:
            raise UsageError(
                f"{written[0].place}: the column `{name}` stands there twice.", hint="Delete one."
            )
    return tuple(columns)


def _spelled(names: Iterable[str]) -> list[str]:
    return [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names]


def _refuse_surplus(rows: Iterable[_Cells], columns: tuple[str, ...]) -> None:
    """Refuse texts that stand under no column. Raises UsageError with all their lines."""
    surplus = []
    for row in rows:
        under_nothing = any(
            text.strip() for text, name in zip(row.texts, columns, strict=False) if not name
        )
        if len(row.texts) > len(columns) or under_nothing:
            surplus.append(row)
    if surplus:
        named = sum(map(bool, columns))
        raise UsageError(
            f"{said([row.place for row in surplus])}: {len(surplus[0].texts)} cells under {named}"
            f" {'column' if named == 1 else 'columns'}.",
            hint="A text with a comma stands in quotes.",
        )


def said(places: Iterable[Place], *, most: int = 10) -> str:
    """Some places of one file as people say them.

    >>> said([Place("a.csv", "line", 2), Place("a.csv", "line", 5), Place("a.csv", "line", 9)])
    'a.csv, lines 2, 5 and 9'
    """
    first, *others = places
    numbers = [str(first.number), *(str(place.number) for place in others)]
    if len(numbers) > most:
        numbers = [*numbers[:most], f"{len(numbers) - most} more"]
    if len(numbers) == 1:
        return str(first)
    return f"{first.file}, {first.unit}s {', '.join(numbers[:-1])} and {numbers[-1]}"


# Text files.


def _decoded(file: str, data: bytes) -> str:
    """The text in UTF-8, or in UTF-16 where it begins with that mark."""
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(Place(file, "line", line_of(data, error.start))) from error
    before, nul, _ = text.partition("\0")
    if nul:
        place = Place(file, "line", len(_LINE_END.findall(before)) + 1)
        if len(before) < 4:  # each letter in two bytes or four, without the mark that says so
            raise _not_utf8(place)
        raise UsageError(f"{place}: a NUL, which no text holds.", hint="Delete it there.")
    return text.lstrip("\ufeff")  # a program put its mark before another's


def _not_utf8(place: Place) -> UsageError:
    return UsageError(f"{place}: not UTF-8.", hint="Save it in UTF-8 (in Excel: CSV UTF-8).")


def _csv_rows(file: str, text: str, delimiter: str) -> Iterator[_Cells]:
    """The rows of a CSV file, each with the line where it begins."""
    separator = _SEPARATOR.match(text)
    before = 0
    if separator:
        text = text[separator.end() :]
        delimiter = separator[1]
        before = len(_LINE_END.findall(separator[0]))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    place = Place(file, "line", before + 1)
    try:
        for texts in reader:
            yield _Cells(place, texts)
            place = Place(file, "line", before + reader.line_num + 1)
    except csv.Error as error:
        problem = str(error)
        if "field limit" in problem:
            problem = f"a cell of more than {csv.field_size_limit():,} characters"
        raise UsageError(f"{place}: {problem}.", hint="Mend the quotes there.") from error


def _delimiter(text: str, needed: tuple[str, ...]) -> str:
    """What parts the cells: that under which the first line has most of the needed columns."""
    header = _first_line(text)

    def fit(delimiter: str) -> tuple[int, int]:
        names = _spelled(_header_cells(header, delimiter))
        found = len(set(needed) & set(names))
        return found, len(names) if found else 0

    return max(_DELIMITERS, key=fit)  # the first of equal ones: a comma


def _first_line(text: str) -> str:
    """The first line in which anything is written."""
    lines = (match[0] for match in re.finditer(r"[^\r\n]+", text))
    return next((line for line in lines if line.strip(" ;,\t")), "")


def _header_cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line, without quotes around them."""
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _has_columns(text: str, needed: tuple[str, ...]) -> bool:
    """Whether a .txt file is a table: Excel's "Unicode text" is one."""
    names = _spelled(_header_cells(_first_line(text), "\t"))
    is_table = len(names) > 1 and set(needed) <= set(names)
    return len(needed) > 1 or is_table or _SEPARATOR.match(text) is not None


def _list(file: str, text: str, needed: tuple[str, ...]) -> Sheet:
    """A text a line; empty lines are passed over."""
    rows = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if line.strip():
            rows.append(SheetRow(Place(file, "line", number), {needed[0]: line}))
    if not rows:
        raise UsageError(f"{file} is empty.", hint=f"Write one {needed[0]} a line.")
    first = rows[0]
    for delimiter in _LIST_DELIMITERS:
        if needed[0] in _spelled(_header_cells(first.cells[needed[0]], delimiter)):
            raise UsageError(
                f"{first.place}: `{needed[0]}` heads a column, and in a .txt file every line is a"
                f" {needed[0]}.",
                hint="Delete that line; or save the file as .csv, if it is a table.",
            )
    return Sheet(file, needed, tuple(rows))


# Workbooks.


def _workbook_rows(file: str, data: bytes) -> list[_Cells]:
    """The rows of the one sheet of a workbook that holds anything."""
    if not data.startswith(_ZIP):
        raise UsageError(
            f"{file} is no Excel workbook, or an old one, or has a password.",
            hint="Save it as .xlsx without a password, or as CSV.",
        )
    try:
        sheets = _sheets(file, data)
    except UsageError:
        raise
    except ImportError as error:
        raise UsageError(
            f"{file} is an Excel workbook; openpyxl is not installed.",
            hint="Install it (pip install openpyxl), or save the file as CSV.",
        ) from error
    except Exception as error:  # a file made of wrong parts raises whatever openpyxl met
        raise UsageError(
            f"{file} is no Excel workbook that can be read: {type(error).__name__}.",
            hint="Save it anew as .xlsx, or as CSV.",
        ) from error
    filled = [title for title, rows in sheets.items() if rows]
    if len(filled) > 1:
        raise UsageError(
            f"{file} has {len(filled)} sheets with something in them: {', '.join(filled)}.",
            hint="Leave one, and save the others as files of their own.",
        )
    rows = sheets[filled[0]] if filled else []
    numbers = _hidden_rows(data) if rows else frozenset()
    hidden = [row.place for row in rows if row.place.number in numbers]
    if hidden:
        raise UsageError(f"{said(hidden)}: hidden.", hint="Show what is hidden, or delete it.")
    return rows


def _hidden_rows(data: bytes) -> frozenset[int]:
    """The numbers of hidden rows; openpyxl tells them only where it unfolds the whole workbook."""
    numbers: set[int] = set()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            xml = archive.read(name) if name.startswith("xl/worksheets/sheet") else b""
            if not _VALUE.search(xml):
                continue
            rows = (match[0] for match in _ROW.finditer(xml))
            hidden = [_ROW_NUMBER.search(row) for row in rows if _HIDDEN.search(row)]
            numbers.update(int(number[1]) for number in hidden if number)
    return frozenset(numbers)


def _sheets(file: str, data: bytes) -> dict[str, list[_Cells]]:
    """The rows of every sheet by its title. Raises UsageError for a zip bomb."""
    from openpyxl.reader.excel import ExcelReader

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise UsageError(
            f"{file} has {unpacked:,} bytes inside; at most {MAX_UNPACKED_BYTES:,} are read.",
            hint="Split it.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and drop-down lists, which it leaves out
        reader = ExcelReader(io.BytesIO(data), read_only=True)
        # a sheet of a chart holds no cell, and one whose chart was deleted cannot be read
        reader.read_chartsheet = lambda sheet, rel: None
        reader.read()
        return {_title(sheet): _sheet_rows(file, sheet) for sheet in reader.wb.worksheets}


def _title(sheet: Any) -> str:
    return str(sheet.title if sheet.sheet_state == "visible" else f"{sheet.title} (hidden)")


def _sheet_rows(file: str, sheet: Any) -> list[_Cells]:
    sheet.reset_dimensions()  # what a file says of its size may be too small
    rows = []
    for number, cells in enumerate(sheet.iter_rows(), 1):
        place = Place(file, "row", number)
        row = _Cells(place, [_cell_text(place, cell) for cell in cells])
        if row.width:  # a workbook may have a million cells with a format and nothing else
            rows.append(_Cells(place, row.texts[: row.width]))
    return rows


def _cell_text(place: Place, cell: Any) -> str:
    """What a cell shows. Raises UsageError where it shows another thing than it holds."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "f":
        raise UsageError(f"{place}: a formula.", hint="Copy it, and paste its value in its place.")
    if cell.data_type == "e":
        raise UsageError(f"{place}: the error {value}.", hint="Correct it there.")
    if isinstance(value, str):
        return _unescaped(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    shape = _AS_WRITTEN.fullmatch(cell.number_format)
    if not is_number or not shape:
        raise UsageError(f"{place}: {value!s:.40} is no text and no number.", hint=_AS_TEXT)
    written = str(value)
    is_rounded = cell.number_format not in _UNROUNDED and value != round(value, len(shape[1] or ""))
    if is_rounded or "e" in written:
        raise UsageError(f"{place}: {written} is shown as another number.", hint=_AS_TEXT)
    return written


def _unescaped(text: str) -> str:
    """A text without Excel's spelling of signs that XML cannot hold: `_x000B_`, `_x005F_`."""
    from openpyxl.utils.escape import unescape

    whole = str(unescape(text)).encode("utf-16-le", "surrogatepass")
    return whole.decode("utf-16-le", "surrogatepass").replace("\r\n", "\n")
