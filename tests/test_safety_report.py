"""The safety report: labelled texts through Stage 1, and how often the check was right."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import pytest
from engines import REPOSITORY, engine_in

from devpipe import Engine
from devpipe.cli import main
from devpipe.errors import UsageError
from devpipe.safety.report import Case, Report, Share, read, report
from devpipe.testing import ScriptedBackend
from devpipe.values import TextRequest

EXAMPLE = REPOSITORY / "notebooks" / "safety_example.csv"
CASES = [
    Case("a cat", "safe"), Case("a grim cat", "safe"), Case("Sieg Heil auf einer Fahne", "unsafe", "extremism"),
    Case("a grim dog", "unsafe", "violence"), Case("somebody hurts a puppy", "unsafe", "violence"),
]  # fmt: skip


def says(request: TextRequest) -> str:
    return "UNSAFE: violence" if "grim" in request.text else "SAFE"


def engine_with(folder: Path, answer: object, **environ: str) -> tuple[Engine, ScriptedBackend]:
    judging = ScriptedBackend([answer])  # type: ignore[list-item]
    return (
        engine_in(folder, backends={"judge": judging}, DEVPIPE_MODEL_JUDGE="judge/x", **environ),
        judging,
    )


async def made(engine: Engine, cases: object = CASES, **how: object) -> Report:
    try:
        return await report(engine, cases, **how)  # type: ignore[arg-type]
    finally:
        await asyncio.to_thread(engine.close)


async def test_texts_are_judged_as_stage_1_would_and_counted(tmp_path: Path) -> None:
    """Rules first, then the judge; precision, recall, over-refusal, recall by category, and the
    misses with their cause.
    """
    engine, judging = engine_with(tmp_path, says)
    done = await made(engine)
    assert len(judging.requests) == 4  # the flag is the rules' own
    assert {name: (share.part, share.of) for name, share in done.shares.items()} == {
        "precision": (2, 3), "recall": (2, 3), "over_refusal": (1, 2), "unchecked": (0, 5),
    }  # fmt: skip
    assert {name: (share.part, share.of) for name, share in done.categories.items()} == {
        "extremism": (1, 1),
        "violence": (1, 2),
    }
    assert [(row["text"], row["label"], row["cause"]) for row in done.misses] == [
        ("a grim cat", "safe", "The judge said: violence"), ("somebody hurts a puppy", "unsafe", ""),
    ]  # fmt: skip
    assert "judge judge/x" in str(done) and "missed: unsafe 'somebody hurts a puppy'" in str(done)
    assert not list(tmp_path.iterdir())  # nothing of it is recorded


async def test_a_judge_that_is_down_is_told_apart(tmp_path: Path) -> None:
    """Texts blocked because no verdict could be had are counted as such: they say nothing about how
    good the judge is.
    """
    engine, _ = engine_with(tmp_path, "I do not know")
    done = await made(engine)
    assert (
        done.shares["unchecked"].part,
        done.shares["recall"].part,
        done.shares["over_refusal"].part,
    ) == (4, 3, 2)
    assert "answered in none of its forms" in str(done)


async def test_no_more_texts_are_asked_at_once_than_said(tmp_path: Path) -> None:
    """A local model is not asked for a thousand answers at a time."""
    under_way, most = 0, 0
    three = asyncio.Barrier(3)

    async def counted(_: object) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        async with asyncio.timeout(60):
            await three.wait()
        under_way -= 1
        return "SAFE"

    engine, judging = engine_with(tmp_path, counted)
    await made(engine, [Case(f"cat {n}", "safe") for n in range(30)], concurrency=3)
    assert most == 3 and len(judging.requests) == 30


async def test_the_level_may_be_stricter_never_looser(tmp_path: Path) -> None:
    """As for a run."""
    engine, _ = engine_with(tmp_path, says)
    assert (await made(engine, level="kids")).level == "kids"
    engine, _ = engine_with(tmp_path, says)
    with pytest.raises(UsageError, match="looser"):
        await made(engine, level="adult")


def test_intervals_are_wilsons() -> None:
    """Against published values (Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29)."""
    for part, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        share = Share.of_all(part, of)
        assert share.low is not None and share.high is not None
        assert round(share.low, 4) == low and round(share.high, 4) == high
    assert Share.of_all(0, 0).value is None and "of none" in str(Share.of_all(0, 0))
    assert Share.of_all(7, 7).high == 1.0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no column `text`"),
        (b"text,label\n", "no rows under its columns"),
        (b"text,label\n\n,\n", "no rows under its columns"),
        (b"text,text,label\na,b,safe\n", "line 1: the column `text` stands there twice"),
        (b"text;marke\na;safe\n", "no column `label`"),
        (b"text,label,reason\na,safe,x\n", "a column `reason`"),
        (b"text,label\na cat,safe\na dog\n", "line 3: the cell under `label` is empty"),
        (
            b"text,label\na cat, in the rain,safe\n",
            "line 2: 3 cells under 2 columns. A text with a comma stands in quotes.",
        ),
        (b"text,label\na cat,safe\na dog,\n", "line 3: the cell under `label` is empty"),
        (b"text,label\na cat,harmless\n", "line 2: the label is 'harmless'"),
        (b"text,label\n ,safe\n", "line 2: the cell under `text` is empty"),
        (b"text,label\n" + b"x" * 10_001 + b",safe\n", "line 2 has 10001 characters"),
        (b'text,label\na cat,safe\n"a dog,safe\n', "line 3: unexpected end"),
        (b"text,label\nK\xe4fer,safe\n", "line 2: not UTF-8"),
        (b"text,label\n" + b"x" * 200_000 + b",safe\n", "line 2: a cell of more than"),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else value,
)
def test_a_file_that_cannot_be_read_says_where(
    tmp_path: Path, content: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the place, and exit status 2."""
    (tmp_path / "l.csv").write_bytes(content)
    assert main(["safety-report", str(tmp_path / "l.csv"), "--home", str(REPOSITORY)]) == 2
    said = capsys.readouterr()
    assert told in said.err and said.err.count("\n") == 1 and said.out == ""


def test_a_spreadsheets_csv_is_read(tmp_path: Path) -> None:
    """With semicolons, a mark at the beginning, columns in any order, labels in capitals, an empty
    last line.
    """
    (tmp_path / "l.csv").write_bytes(
        '\ufefflabel;text;category\r\nUnsafe;ein, zwei;hate\r\nsafe;"drei\nvier";\r\n\r\n'.encode()
    )
    assert read(tmp_path / "l.csv") == [
        Case("ein, zwei", "unsafe", "hate"),
        Case("drei\nvier", "safe"),
    ]
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)


def test_the_command_prints_a_table_json_and_a_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example goes through the rules; what a spreadsheet would run is quoted; exit status 0."""
    labelled = tmp_path / "l.csv"
    labelled.write_text("text,label\n=1+1 ein Haus,safe\na cat,safe\n")
    out = tmp_path / "out.csv"
    assert main(["safety-report", str(EXAMPLE), "--home", str(REPOSITORY), "--level", "kids"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("24 texts at level kids, rules alone") and all(
        word in said for word in ("precision", "recall", "over-refusal")
    )
    assert (
        main(["safety-report", str(labelled), "--home", str(REPOSITORY), "--json", "-o", str(out)])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (
        told["texts"] == 2
        and told["over_refusal"]["value"] == 0.0
        and told["recall"]["value"] is None
        and told["misses"] == []
    )
    rows = list(csv.DictReader(out.read_text("utf-8-sig").splitlines()))
    assert [row["text"] for row in rows] == ["'=1+1 ein Haus", "a cat"] and rows[0][
        "allowed"
    ] == "True"


def test_the_example_has_both_labels_and_the_rules_refuse_nothing_harmless_of_it(
    tmp_path: Path,
) -> None:
    """Half of it safe; the rules alone find some of the unsafe ones and none of the safe ones."""
    cases = read(EXAMPLE)
    assert sum(case.label == "safe" for case in cases) == len(cases) / 2 == 12
    done = asyncio.run(made(engine_in(tmp_path), cases))
    assert done.shares["over_refusal"].part == 0, str(done)
    assert done.shares["recall"].part >= 4
