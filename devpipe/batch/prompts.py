"""What does a table of prompts ask for? A plan with one row a cell, or the prompts of a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devpipe.batch.documents import Document
from devpipe.errors import UnknownName, UsageError
from devpipe.media.sheets import Place, Sheet, read_sheet

AXES = {  # the lists of a plan by their columns: what they hold of one cell
    "prompt": "prompts",
    "prompt_2": "prompts_2",
    "instruction": "instructions",
    "negative_prompt": "negative_prompts",
    "pipeline": "pipelines",
    "output": "outputs",
    "seed": "seeds",
    "text_seed": "text_seeds",
    "image": "images",
}
TEXTS = ("prompt", "prompt_2", "instruction", "negative_prompt")
_HINT = re.compile(r"Give (\w+)=(?:\"\.\.\.\"|FILE)\.")  # of a single run
_WHOLE = re.compile(
    r"(\d{1,10})(?:[.,]0{1,2})?"
)  # 7.0: so pandas writes 7 beside an empty cell; 1,000 is no 1


def plan_of(sheet: Sheet, unwritten: Mapping[str, Any]) -> Document:
    """The plan in a table: the columns go side by side. An empty cell says nothing: `unwritten`."""
    for column in sheet.columns:
        if column and column not in AXES:
            raise UnknownName(f"column of a plan ({sheet.file}):", column, AXES)
    columns = [column for column in sheet.columns if column]
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for column in columns:
        axis = AXES[column]
        values[axis] = [_value(column, row.cells.get(column), unwritten) for row in sheet.rows]
        for index, row in enumerate(sheet.rows):
            places[f"$.{axis}[{index}]"] = row.place
    values["zip"] = [[AXES[column] for column in columns]]
    return Document(values, places)


def _value(column: str, cell: str | None, unwritten: Mapping[str, Any]) -> Any:
    if cell is None:
        return unwritten[AXES[column]]
    if column in TEXTS:
        return cell
    text = cell.strip()
    whole = _WHOLE.fullmatch(text) if column in ("seed", "text_seed") else None
    return int(whole[1]) if whole else text


def prompts_of(path: Path) -> tuple[list[str], list[Place]]:
    """The texts in the column `prompt` of a table, and their places. Others are people's notes.

    Raises UsageError where a column is one that only a plan of its own could follow.
    """
    sheet = read_sheet(path, needed=("prompt",))
    for column in sheet.columns:
        if column in AXES and column != "prompt":
            raise UsageError(
                f"{sheet.file} has a column `{column}`, which nobody reads where a plan names the"
                " file in `prompts`.",
                hint=f"Run the file itself (devpipe batch {sheet.file}), or delete the column.",
            )
    return [row.cells["prompt"] for row in sheet.rows], [row.place for row in sheet.rows]


def in_words_of_a_plan(text: str) -> str:
    """What an error says of a single run, with hints that a plan can follow.

    >>> in_words_of_a_plan("It needs a picture. Give mask=FILE.")
    'It needs a picture. Name it in the plan: images: [{mask: FILE}].'
    """
    return _HINT.sub(_hint, text)


def _hint(match: re.Match[str]) -> str:
    name = match[1]
    if name in AXES and name != "image":
        return f"Write it into the plan: {AXES[name]}: [...] (in a table: a column `{name}`)."
    return f"Name it in the plan: images: [{{{name}: FILE}}]."
