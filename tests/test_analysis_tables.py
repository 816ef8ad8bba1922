"""Recordings as tables."""

from __future__ import annotations

import json
import shutil
import stat
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from devpipe.analysis import index
from devpipe.analysis.columns import RUNS, TABLES, Column, DType, Seen
from devpipe.analysis.tables import Tables
from devpipe.errors import UnknownName, UsageError
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from tests import recording_maker as make

NAMES = [table.name for table in TABLES]


def read(tables: Tables, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = getattr(tables, name)()
    return frame


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with one run of every kind, in this order."""
    recordings = tmp_path / "recordings"
    make.completed(
        recordings,
        run_id=make.at(1),
        seed=7,
        labels={"group": "a"},
        parameters={"alpha": 0.5, "format": "webp", "count": 2},
    )
    make.blocked(recordings, run_id=make.at(2), labels={"group": "b"})
    make.failed(recordings, run_id=make.at(3), parent=make.at(1), relation="regenerated")
    make.interrupted(recordings, run_id=make.at(4))
    return recordings


@pytest.mark.parametrize("name", NAMES)
def test_every_column_has_its_name_place_dtype_and_meaning(
    name: str, root: Path, tmp_path: Path
) -> None:
    """A column added to columns.py is checked here without another line: it is there, documented,
    and of its dtype, full or empty.
    """
    described = Tables(root).columns(name)
    assert described["column"].is_unique and described["doc"].str.len().gt(5).all()
    for frame in (
        read(Tables(root), name),
        read(Tables(root), name),
        read(Tables(tmp_path / "none"), name),
    ):  # parsed, from the index, empty
        for column, dtype in zip(described["column"], described["dtype"], strict=True):
            if name == "runs" and column in ("labels", "parameters"):
                assert column not in frame
            else:
                assert str(frame[column].dtype) == dtype, column
        shown = [column for column in described["column"] if column in frame]
        assert list(frame.columns[: len(shown)]) == shown


@pytest.mark.parametrize("name", NAMES)
def test_the_index_gives_the_same_table_as_the_recordings(name: str, root: Path) -> None:
    """What comes from the index is, value by value, what comes from the recordings, missing ones
    too.
    """
    parsed = read(Tables(root), name)
    assert len(parsed)
    pd.testing.assert_frame_equal(read(Tables(root), name), parsed)


def test_runs_tells_what_happened(root: Path) -> None:
    """One row per run, oldest first, with what was asked, what came of it and why it ended."""
    runs = Tables(root).runs()
    assert list(runs["state"]) == ["completed", "blocked", "failed", "interrupted"]
    whole, blocked, failed, interrupted = (row for _, row in runs.iterrows())
    assert (whole["pipeline"], whole["output"], whole["seed"], whole["text_seed"]) == (
        "dada",
        "sketch",
        7,
        3,
    )
    assert (whole["prompt"], whole["sent_text"]) == (make.PROMPT, make.REWRITTEN)
    assert (whole["width"], whole["height"], whole["n_artifacts"], whole["media_type"]) == (
        64,
        48,
        1,
        "image/png",
    )
    assert (
        Path(whole["artifact"]).is_absolute()
        and Path(whole["artifact"]).read_bytes() == make.picture()
    )
    assert (whole["seconds_generation"], whole["cost_usd"], whole["cost_source"]) == (
        0.25,
        0.0,
        "local",
    )
    assert whole["started_at"].tzname() == "UTC" and whole["started_at"] <= whole["finished_at"]
    assert (blocked["blocked_stage"], blocked["categories"]) == ("input", "weapons")
    assert blocked["reason"].startswith("Das können") and blocked["cause"].endswith("Waffe")
    assert (failed["error_type"], failed["relation"]) == (
        "Unavailable",
        "regenerated",
    ) and "COMFYUI_URL" in failed["error_message"]
    assert (
        pd.isna(interrupted["outcome"])
        and pd.isna(interrupted["seconds_generation"])
        and pd.isna(interrupted["artifact"])
    )


def test_labels_and_sent_parameters_are_columns_of_their_own_kind(root: Path) -> None:
    """`labels.<name>` are strings; `parameters.<name>` have the dtype of their values, NA where a
    run has none.
    """
    runs = Tables(root).runs()
    assert runs["labels.group"].fillna("-").tolist() == ["a", "b", "-", "-"]
    assert (
        runs["parameters.alpha"].dtype == "float64"
        and runs["parameters.alpha"][0] == 0.5
        and pd.isna(runs["parameters.alpha"][1])
    )
    assert runs["parameters.count"].dtype == "Int64" and runs["parameters.format"].dtype == "str"
    assert runs["parameters.width"].tolist() == [64, 64, 64, 64]


def test_other_tables_have_a_row_per_thing(root: Path) -> None:
    """Four stages a run; each text, verdict, attempt, file and event its row, found by run_id and
    seq.
    """
    tables = Tables(root)
    first = tables.runs()["run_id"][0]
    assert len(tables.stages()) == 16
    assert tables.texts()[lambda frame: frame["run_id"] == first]["text"].tolist() == [
        make.PROMPT,
        make.REWRITTEN,
    ]
    assert tables.verdicts()["allowed"].tolist().count(False) == 1
    assert tables.attempts()[lambda frame: frame["run_id"] == first]["task"].tolist() == [
        "interception",
        "media",
    ]
    assert tables.artifacts()["seed"].tolist() == [7]
    events = tables.events()[lambda frame: frame["run_id"] == first]
    assert (
        events["seq"].tolist() == list(range(len(events)))
        and events["type"].iloc[-1] == "run_finished"
    )
    assert json.loads(events["data"].iloc[-1])["outcome"] == "completed"


def test_only_new_and_changed_runs_are_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run that did not change is never opened again; a new, a changed and a deleted one
    are seen at once.
    """
    opened: list[str] = []
    real = index.Seen.of
    monkeypatch.setattr(
        index.Seen, "of", lambda recording: opened.append(recording.id) or real(recording)
    )
    before = Tables(root).runs()
    opened.clear()
    assert len(Tables(root).runs()) == 4
    assert opened == [before["run_id"][3]]  # the interrupted one may go on at any time
    opened.clear()
    new = make.completed(root, run_id=make.at(0), seed=9, prompt="Ein geheimer Wunsch")
    assert Tables(root).runs()["seed"].tolist()[0] == 9 and opened == [new.id, before["run_id"][3]]
    assert b"Ein geheimer Wunsch" in (root / ".index" / "runs").read_bytes()
    shutil.rmtree(new.folder)
    assert Tables(root).runs()["run_id"].tolist() == before["run_id"].tolist()
    assert (
        b"Ein geheimer Wunsch" not in (root / ".index" / "runs").read_bytes()
    )  # who deletes a run deletes its texts
    damaged = root / "2026-11-22" / before["run_id"][0] / "events.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert Tables(root).runs()["state"].tolist()[0] == "damaged"


def test_a_run_that_goes_on_is_followed(tmp_path: Path) -> None:
    """A run being written is `running`; its ending appears in the next table."""
    run_id = make.at(5)
    events = make.story(run_id)
    recorder = Recorder.create(tmp_path, run_id, redact=Redactor())
    recorder.record(*events[:5])
    assert Tables(tmp_path).runs()["state"].tolist() == ["running"]
    recorder.record(*events[5:])
    recorder.close()
    assert Tables(tmp_path).runs()["state"].tolist() == ["completed"]


@pytest.mark.parametrize("wound", ["torn", "flipped", "empty", "other code", "garbage"])
def test_an_index_that_is_torn_or_of_other_code_is_made_again(wound: str, root: Path) -> None:
    """Whatever happened to the index, the table is right and the index is whole again
    afterwards.
    """
    expected = Tables(root).runs()
    file = root / ".index" / "runs"
    whole = file.read_bytes()
    other = (
        whole[9:].replace(b'["', b'["0', 1).replace(b"Unavailable", b"Available!!")
    )  # sound, but made by other code
    file.write_bytes({
        "torn": whole[: len(whole) // 2], "flipped": whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], "empty": b"",
        "other code": b"%08x\n" % zlib.crc32(other) + other, "garbage": b"\0" * 3000,
    }[wound])  # fmt: skip
    pd.testing.assert_frame_equal(Tables(root).runs(), expected)
    assert file.read_bytes() == whole


def test_the_index_is_private_and_moves_with_the_recordings(root: Path, tmp_path: Path) -> None:
    """Only its owner may read it; moved elsewhere, the paths in the tables are the new ones."""
    Tables(root).runs()
    file = root / ".index" / "runs"
    assert (
        stat.S_IMODE(file.stat().st_mode) == 0o600
        and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    )
    assert [entry.name for entry in file.parent.iterdir()] == ["runs"]
    moved = root.rename(tmp_path / "elsewhere")
    assert Path(Tables(moved).runs()["artifact"][0]).parents[2] == moved


def test_a_folder_that_cannot_be_written_still_gives_tables(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a place for the index the recordings are read each time."""
    (root / ".index").write_text("a file where the folder would be")
    assert len(Tables(root).runs()) == 4


def test_without_pyarrow_the_tables_are_the_same(root: Path) -> None:
    """pyarrow is an extra: strings are then made one by one, with the same values and
    missing ones.
    """
    expected = Tables(root).runs()
    with pd.option_context("mode.string_storage", "python"):
        plain = Tables(root).runs()
    assert plain["note"].dtype.storage == "python"  # type: ignore[union-attr]
    assert (
        plain.astype(object)
        .where(plain.notna(), None)
        .equals(expected.astype(object).where(expected.notna(), None))
    )


def test_damaged_and_foreign_folders_are_rows_with_a_note(tmp_path: Path) -> None:
    """Nothing that lies in the folder raises: it is a row of state `damaged` that says why."""
    whole = make.completed(tmp_path, run_id=make.at(1))
    day = whole.folder.parent
    (day / make.at(2)).mkdir()
    for name, content in {
        make.at(3): b"not json\n",
        make.at(4): b"",
        make.at(5): (whole.folder / "events.jsonl").read_bytes(),
    }.items():
        (day / name).mkdir()
        (day / name / "events.jsonl").write_bytes(content)
    lines = (whole.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (day / make.at(6)).mkdir()
    (day / "notes.txt").write_text("mine")
    (day / "somebody's folder").mkdir()
    runs = Tables(tmp_path).runs()
    assert runs["state"].tolist() == ["completed", *["damaged"] * 5]
    assert runs["note"].notna().tolist() == [False, *[True] * 5]
    assert f"is of run {whole.id}" in runs["note"][4] and "cannot be read" in runs["note"][1]
    (whole.folder / "events.jsonl").write_bytes(b"".join([*lines[:5], b"x" + lines[5], *lines[6:]]))
    changed = Tables(tmp_path).runs().iloc[0]
    assert (changed["state"], changed["note"]) == (
        "damaged",
        "line 6: not a whole line",
    ) and changed["pipeline"] == "dada"
    (whole.folder / "events.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:40])
    assert (
        Tables(tmp_path).runs()["state"][0] == "interrupted"
    )  # a torn tail is what a dead process leaves


def test_values_of_a_wrong_kind_are_missing(tmp_path: Path) -> None:
    """Foreign JSON in a recording never breaks a table."""
    events = make.story(make.at(1))
    events[14] = events[14].model_copy(
        update={"seed": 2**70, "request": {"texts": "x", "parameters": [1], "medium": 7}}
    )
    make.write(tmp_path, events)
    run = Tables(tmp_path).runs().iloc[0]
    assert pd.isna(run["seed"]) and run["medium"] == "7" and pd.isna(run["sent_text"])


def test_a_file_name_that_leads_out_of_the_recording_is_no_path(tmp_path: Path) -> None:
    """A foreign recording cannot make a table point elsewhere."""
    events = make.story(make.at(1))
    events.insert(-2, make.artifact("../../../etc/passwd", b""))
    make.write(tmp_path, events)
    assert (
        Tables(tmp_path).artifacts()["path"].isna().all()
        and Tables(tmp_path).runs()["artifact"].isna().all()
    )


def test_many_runs_stay_in_order_however_they_arrive(tmp_path: Path) -> None:
    """Runs that appear between known ones take their place, in every table."""
    ids = sorted(make.at(second) for second in range(8))
    for run_id in ids[::2]:
        make.blocked(tmp_path, run_id=run_id)
    Tables(tmp_path).texts(), Tables(tmp_path).stages()
    for run_id in ids[1::2]:
        make.completed(tmp_path, run_id=run_id)
    assert Tables(tmp_path).runs()["run_id"].tolist() == ids
    assert Tables(tmp_path).stages()["run_id"].tolist() == [
        run_id for run_id in ids for _ in range(4)
    ]
    assert (
        Tables(tmp_path).texts()["text"].tolist() == [make.PROMPT, make.PROMPT, make.REWRITTEN] * 4
    )


@pytest.mark.parametrize(
    ("dtype", "of", "message"),
    [
        (
            "str",
            lambda run: run.summary.nonsense,
            "AttributeError: .*nonsense.*it must give a str or None",
        ),
        ("Int64", lambda run: 0.5, "TypeError: 0.5 is no int"),
        ("float64", lambda run: "much", "ValueError: .*much"),
        ("boolean", lambda run: "yes", "TypeError"),
    ],
)
def test_a_column_that_fails_is_named(
    dtype: DType, of: Callable[[Seen], object], message: str, root: Path
) -> None:
    """Whoever adds a column reads in one line which one raises, or gives what its dtype cannot
    hold.
    """
    column = Column("mood", dtype, of, "How it felt.")
    with pytest.raises(
        UsageError, match=f"Column 'mood' of the table runs fails: {message}"
    ) as caught:
        index.frame_of(map(Seen.of, Tables(root)), replace(RUNS, columns=(*RUNS.columns, column)))
    assert "\n" not in str(caught.value)


def test_an_unknown_table_offers_the_known_ones(tmp_path: Path) -> None:
    """`columns("run")` says what is meant."""
    with pytest.raises(UnknownName, match="Did you mean runs"):
        Tables(tmp_path).columns("run")
