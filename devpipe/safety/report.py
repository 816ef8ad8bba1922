"""How good is the check as it is set up here? Labelled texts go through Stage 1, and people see how
often it was right.

print(await report(engine, "labelled.csv", level="kids"))
"""

from __future__ import annotations

import asyncio
import csv
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from devpipe.config.settings import Settings
from devpipe.errors import UsageError
from devpipe.media.sheets import SheetRow, read_sheet
from devpipe.record.events import VerdictGiven
from devpipe.text.clean import clean

_Z = 1.959964  # 95 %
_HINT = 'It needs the columns text,label and may have category; every label is "safe" or "unsafe".'
_COLUMNS = ("text", "label", "category")
_TOLD = ("allowed", "method", "categories", "cause", "judge", "digest", "policy", "seconds")


@dataclass(frozen=True, slots=True)
class Case:
    """One text, and whether people call it safe or unsafe."""

    text: str
    label: str
    category: str = ""


def read(path: str | os.PathLike[str]) -> list[Case]:
    """The labelled texts of a CSV file or an Excel workbook.

    Raises UsageError that names the line.
    """
    sheet = read_sheet(Path(path), needed=("text", "label"))
    unknown = [name for name in sheet.columns if name not in (*_COLUMNS, "")]
    if unknown:
        raise UsageError(f"{sheet.file} has a column `{unknown[0]}`.", hint=_HINT)
    return [_case(row) for row in sheet.rows]


def _case(row: SheetRow) -> Case:
    label = row.cells["label"].strip().lower()
    if label not in ("safe", "unsafe"):
        raise UsageError(f"{row.place}: the label is {label[:40]!r}.", hint=_HINT)
    text = clean(row.cells["text"].strip(), what=f"text in {row.place}")
    return Case(text, label, row.cells.get("category", "").strip())


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the 95 % interval by Wilson (1927); none of none is no share."""

    part: int
    of: int
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_all(cls, part: int, of: int) -> Share:
        if not of:
            return cls(part, of)
        share, more = part / of, _Z**2 / of
        middle, half = share + more / 2, _Z * math.sqrt(share * (1 - share) / of + more / of / 4)
        return cls(
            part,
            of,
            share,
            max(0.0, (middle - half) / (1 + more)),
            min(1.0, (middle + half) / (1 + more)),
        )

    def __str__(self) -> str:
        return (
            "{value:.3f}  ({low:.3f} to {high:.3f}; {part} of {of})".format(**asdict(self))
            if self.of
            else "-      (of none)"
        )


@dataclass(frozen=True)
class Report:
    """What the check made of labelled texts.

    `rows` has each text with what people and the check say of it, and why.
    """

    level: str
    judge: str  # as the settings name it; empty: rules alone
    rows: tuple[dict[str, Any], ...]

    def _blocked(self, label: str, category: str = "") -> Share:
        allowed = [
            row["allowed"]
            for row in self.rows
            if row["label"] == label and category in ("", row["category"])
        ]
        return Share.of_all(allowed.count(False), len(allowed))

    @property
    def shares(self) -> dict[str, Share]:
        """precision, recall, over_refusal; and `unchecked`, texts blocked only because no verdict
        could be had.
        """
        hits, wrong = self._blocked("unsafe"), self._blocked("safe")
        unchecked = Share.of_all(
            sum("unchecked" in row["categories"] for row in self.rows), len(self.rows)
        )
        precision = Share.of_all(hits.part, hits.part + wrong.part)
        return {
            "precision": precision,
            "recall": hits,
            "over_refusal": wrong,
            "unchecked": unchecked,
        }

    @property
    def categories(self) -> dict[str, Share]:
        """Recall by the categories that people gave."""
        names = sorted({row["category"] for row in self.rows if row["label"] == "unsafe"} - {""})
        return {name: self._blocked("unsafe", name) for name in names}

    @property
    def misses(self) -> list[dict[str, Any]]:
        """The texts about which the check was wrong."""
        return [row for row in self.rows if row["allowed"] == (row["label"] == "unsafe")]

    def __str__(self) -> str:
        by = f"judge {self.judge}" if self.judge else "rules alone, no judge"
        lines = [
            f"{len(self.rows)} texts at level {self.level}, {by}; shares with their 95 % interval"
        ]
        lines += [f"{name.replace('_', '-'):<16}{share}" for name, share in self.shares.items()]
        lines += [f"  {name:<14}{share}" for name, share in self.categories.items()]
        return "\n".join(
            lines
            + [
                f"missed: {row['label']} {row['text'][:90]!r} {row['category']} {row['cause']}"
                for row in self.misses
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Everything as one JSON object."""
        by_name = {name: asdict(share) for name, share in self.categories.items()}
        about = {
            "level": self.level,
            "judge": self.judge,
            "policy": self.rows[0]["policy"],
            "texts": len(self.rows),
        }
        return (
            about
            | {name: asdict(share) for name, share in self.shares.items()}
            | {"categories": by_name, "misses": self.misses}
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """All rows as CSV; an apostrophe goes before what a spreadsheet would take for a
        formula.
        """
        with Path(path).open("w", encoding="utf-8-sig", newline="") as file:
            out = csv.DictWriter(file, self.rows[0])
            out.writeheader()
            for row in self.rows:
                cells = row | {"categories": " ".join(row["categories"])}
                out.writerow(
                    {
                        name: f"'{cell}" if str(cell).startswith(tuple("=+-@\t\r")) else cell
                        for name, cell in cells.items()
                    }
                )


class ChecksTexts(Protocol):
    """An engine, as far as a report asks it."""

    settings: Settings

    async def check_text(self, text: str, *, safety: str | None = None) -> VerdictGiven:
        """The verdict of Stage 1 on a text, which is recorded nowhere."""


async def report(
    engine: ChecksTexts,
    cases: str | os.PathLike[str] | Iterable[Case],
    *,
    level: str | None = None,
    concurrency: int = 4,
) -> Report:
    """Every text through Stage 1 as the engine's settings have it; nothing is recorded.

    `level` is the engine's or a stricter one. `cases` is a CSV file (columns text, label, category)
    or values. Raises UsageError.
    """
    chosen = read(cases) if isinstance(cases, str | os.PathLike) else list(cases)
    free = asyncio.Semaphore(concurrency)

    async def row(case: Case) -> dict[str, Any]:
        async with free:
            verdict = await engine.check_text(case.text, safety=level)
        return asdict(case) | verdict.model_dump(include={*_TOLD}) | {"level": verdict.level}

    rows = await asyncio.gather(*map(row, chosen))
    return Report(rows[0]["level"], engine.settings.models["judge"], tuple(rows))
