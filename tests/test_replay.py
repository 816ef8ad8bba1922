"""What a replay says."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image, PngImagePlugin

from devpipe.analysis.replay import Replay
from devpipe.record.events import Event
from devpipe.record.reader import Recording
from tests import recording_maker as make


def pair(tmp_path: Path, first: Recording, **how: object) -> Replay:
    return Replay.of(first, make.completed(tmp_path / "again", **how))  # type: ignore[arg-type]


def test_equal_runs_are_bit_equal(tmp_path: Path) -> None:
    """The same texts and bytes: nothing differs, and it says what was compared."""
    source = make.completed(tmp_path)
    replay = pair(tmp_path, source)
    assert (
        replay.equal
        and replay.outcome_equal
        and replay.differences == ()
        and replay.source_id == source.id != replay.run_id
    )
    assert str(replay) == "bit-equal: 2 texts, 1 file"
    assert json.loads(json.dumps(replay.to_json())) == {
        "equal": True, "source_id": source.id, "run_id": replay.run_id, "outcome_equal": True, "texts": 2, "files": 1, "differences": [],
        "notes": [],
    }  # fmt: skip


def test_a_text_that_differs_is_named_with_its_likeness(tmp_path: Path) -> None:
    """One word of two hundred is enough, in any stage."""
    replay = pair(
        tmp_path,
        make.completed(tmp_path, rewritten="one two three four"),
        rewritten="one two three five",
    )
    assert not replay.equal and replay.differences == (
        "interception rewrite: text differs, 75% of its words stay",
    )
    assert (
        str(replay).startswith("1 difference in 2 texts, 1 file; interception")
        and "<li>interception" in replay._repr_html_()
    )


def test_an_iteration_that_differs_counts(tmp_path: Path) -> None:
    """Equal ends by other ways are not equal."""

    def story(word: str) -> list[Event]:
        events = make.story(make.at(1))
        events.insert(8, make.text("interception", word, final=False, step="rewrite", iteration=1))
        return events

    replay = Replay.of(
        make.write(tmp_path / "a", story("x")), make.write(tmp_path / "b", story("y"))
    )
    assert (
        replay.differences == ("interception rewrite 1: text differs, 0% of its words stay",)
        and replay.texts == 3
    )


def test_pictures_are_compared_by_bytes_then_pixels(tmp_path: Path) -> None:
    """Equal pixels in other bytes, other pixels and another size are told apart."""
    source = make.completed(tmp_path)
    note = PngImagePlugin.PngInfo()
    note.add_text("who", "x")
    out = io.BytesIO()
    Image.open(io.BytesIO(make.picture())).save(out, "PNG", pnginfo=note)
    said = [
        pair(tmp_path, source, files={"03_image.png": data}).differences
        for data in (
            out.getvalue(),
            make.picture("black"),
            make.picture(size=(32, 32)),
            b"RIFF0000WAVE",
        )
    ]
    assert said == [
        ("03_image.png: pixels equal, bytes differ",), ("03_image.png: pixels differ by 85 of 255 on average",),
        ("03_image.png: size differs: 64x48, now 32x32",), (f"03_image.png: bytes differ ({len(make.picture())}, now 12)",),
    ]  # fmt: skip


def test_a_file_changed_since_or_missing_is_never_equal(tmp_path: Path) -> None:
    """What was recorded counts, not what lies there now; one file more is a difference."""
    source = make.completed(tmp_path)
    (source.folder / "03_image.png").write_bytes(make.picture("blue"))
    assert "cannot be compared" in pair(tmp_path, source, color="blue").differences[0]
    two = make.completed(tmp_path, files={"a.png": make.picture(), "b.png": make.picture()})
    assert (
        "b.png: only in the source"
        in pair(tmp_path, two, files={"a.png": make.picture()}).differences
    )


def test_another_ending_is_a_difference(tmp_path: Path) -> None:
    """A run that is blocked now does not equal the one that came through."""
    replay = Replay.of(make.completed(tmp_path), make.blocked(tmp_path))
    assert (
        not replay.outcome_equal
        and not replay.equal
        and replay.differences[0] == "outcome: completed, now blocked"
    )
    assert Replay.of(make.blocked(tmp_path), make.blocked(tmp_path)).equal
