"""How runs show themselves: alone, in a grid, in plots."""

from __future__ import annotations

import io
import re
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from devpipe.analysis import plots
from devpipe.analysis.compare import grid
from devpipe.analysis.tables import Tables
from devpipe.errors import UnknownName
from devpipe.record.reader import Recording
from devpipe.show.html import KEYS_STAY, run_html, similarity, word_diff
from tests import recording_maker as make

ATTACK = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script></div></table>"


class Page(HTMLParser):
    """What a browser would make of the HTML: tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def shown(recording: Recording) -> Page:
    return Page(run_html(recording.summary, recording.folder))


def is_harmless(page: Page) -> bool:
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    return (
        not page.named("script")
        and not handlers
        and not any((value or "").startswith("javascript") for value in links)
    )


def test_a_run_shows_texts_verdicts_and_a_small_picture(tmp_path: Path) -> None:
    """All stages with their texts, what Stage 2 changed, seed, cost, and the picture as a thumbnail
    with alt text and path.
    """
    files = {"03_image.png": make.picture(size=(1024, 768))}
    page = shown(make.completed(tmp_path, files=files))
    (image,) = page.named("img")
    assert (
        image["alt"] == "Eine Skizze: Katze"
        and (image["src"] or "").startswith("data:image/webp;base64,")
        and len(image["src"] or "") < 20_000
    )
    for said in (
        "1 Eingabe",
        "4 Erzeugung",
        make.PROMPT,
        "zerrissen",
        "erlaubt · youth · rules",
        "Seed 7",
        "Text-Seed 3",
        "0.0000 USD",
        "03_image.png",
    ):
        assert said in page.said, said
    assert page.named("ins") and page.named("del") and is_harmless(page)
    assert all(
        attributes["lang"] == "de" for attributes in page.named("dd") if "lang" in attributes
    )


def test_a_blocked_run_shows_the_friendly_reason_and_folds_the_cause(tmp_path: Path) -> None:
    """The child reads the reason; the cause stands in a closed fold, for the adult."""
    html = run_html((recording := make.blocked(tmp_path)).summary, recording.folder)
    assert (
        html.index("Das können wir nicht zeichnen.")
        < html.index(f"<details><summary {KEYS_STAY}>Die Ursache")
        < html.index("rule weapons: Waffe")
    )
    assert (
        "<details open" not in html and "blockiert" in html and "2 Interception" not in html
    )  # it never came to that


def test_an_error_and_its_hint_are_shown(tmp_path: Path) -> None:
    """A failed run says what was wrong and what to do."""
    assert (
        "ComfyUI does not answer. Start it, or set COMFYUI_URL."
        in shown(make.failed(tmp_path)).said
    )


def test_nothing_foreign_becomes_html(tmp_path: Path) -> None:
    """Tags in prompts, answers, alt texts, labels, reasons, errors and names are shown as text, in
    a run and in a grid.
    """
    whole = make.completed(
        tmp_path, prompt=ATTACK, rewritten=ATTACK * 2, alt=ATTACK, pipeline=ATTACK, output=ATTACK
    )
    other = make.blocked(tmp_path, reason=ATTACK, texts={"prompt": ATTACK}, pipeline=ATTACK)
    strange = make.story(make.at(9), files={}, pipeline=ATTACK, labels={ATTACK: ATTACK})
    strange.insert(-2, make.artifact("../../" + ATTACK, b"", media_type=ATTACK, sha256=ATTACK))
    third = make.write(tmp_path, strange)
    pages = [shown(recording) for recording in (whole, other, third)]
    pages += [
        Page(grid([whole, other, third], rows=f"labels.{ATTACK}")._repr_html_()),
        Page(grid([whole, other, third])._repr_html_()),
    ]
    for page in pages:
        assert is_harmless(page) and not [
            image for image in page.named("img") if image.get("src") == "x"
        ]
    assert all(ATTACK in page.said for page in pages[:2])


def test_a_missing_or_changed_picture_is_said(tmp_path: Path) -> None:
    """A picture that is not the recorded one is not shown; nor is one outside the recording."""
    recording = make.completed(tmp_path)
    (recording.folder / "03_image.png").write_bytes(make.picture("blue"))
    page = shown(recording)
    assert not page.named("img") and "fehlt oder wurde verändert" in page.said
    events = make.story(make.at(3), files={})
    events.insert(-2, make.artifact("../secret.png", make.picture()))
    (tmp_path / "2026-11-22").mkdir(exist_ok=True)
    (tmp_path / "2026-11-22" / "secret.png").write_bytes(make.picture())
    assert not shown(make.write(tmp_path, events)).named("img")


def test_thumbnails_are_made_once(tmp_path: Path) -> None:
    """The second showing reads the thumbnail that the first one kept beside the recordings, its
    owner's only.
    """
    recording = make.completed(tmp_path)
    first = run_html(recording.summary, recording.folder)
    (kept,) = (tmp_path / ".index").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (recording.folder / "03_image.png").unlink()
    assert run_html(recording.summary, recording.folder) == first


def test_films_and_sounds_play_or_are_linked(tmp_path: Path) -> None:
    """A small one plays in the page, with a name for screen readers; a large one is a link."""
    small = make.completed(
        tmp_path, files={"03_sound.wav": b"RIFF" + b"\0" * 100}, media_type="audio/wav", alt="Regen"
    )
    assert shown(small).named("audio") == [
        {
            "controls": None,
            "data-lm-suppress-shortcuts": "true",  # in JupyterLab the space bar plays it
            "aria-label": "Regen",
            "src": shown(small).named("audio")[0]["src"],
        }
    ]
    large = shown(
        make.completed(tmp_path, files={"03_video.mp4": bytes(1_500_000)}, media_type="video/mp4")
    )
    assert not large.named("video") and (large.named("a")[0]["href"] or "").endswith("03_video.mp4")


def test_word_diff_puts_both_texts_together_again() -> None:
    """What stays and goes is the old text, what stays and comes the new one; spaces and lines
    included.
    """
    before, after = "Eine rote Katze\nim Regen", "Eine blaue Katze\nim Regen, nass"
    pieces = word_diff(before, after)
    assert "".join(words for change, words in pieces if change != "gone") == after
    assert "".join(words for change, words in pieces if change != "new") == before
    assert ("gone", "rote ") in pieces and ("new", "blaue ") in pieces
    assert word_diff("", "") == [] and similarity("", "") == 1.0 and similarity("a b", "c d") == 0.0


def test_ten_thousand_characters_are_compared_at_once() -> None:
    """Even a text of one word again and again takes no time."""
    assert (
        similarity("a " * 5000, "b a " * 2500) < 1
        and word_diff("a " * 5000, "a " * 5000)[0][0] == "same"
    )


def test_a_grid_has_labels_thumbnails_and_reasons(tmp_path: Path) -> None:
    """Rows and columns are named; a blocked or failed run is a tile with its reason; what was not
    run is a dash.
    """
    runs = [
        make.completed(tmp_path, pipeline="dada", seed=10), make.completed(tmp_path, pipeline="dada", seed=2, color="blue"),
        make.failed(tmp_path, pipeline="bauhaus", seed=10), make.blocked(tmp_path, pipeline="cliche_filter", seed=2),
    ]  # fmt: skip
    page = Page(grid(runs)._repr_html_())
    assert re.findall(r"dada|bauhaus|cliche_filter", page.said) == [
        "dada",
        "bauhaus",
        "cliche_filter",
    ]
    assert [attributes["scope"] for attributes in page.named("th")] == [
        "col",
        "col",
        "row",
        "row",
        "row",
    ]
    assert page.said.index("2") < page.said.index("10")  # numbers in order
    assert [image["alt"] for image in page.named("img")] == ["Eine Skizze: Katze"] * 2
    assert (
        "blockiert: Das können wir nicht zeichnen." in page.said
        and "fehlgeschlagen: ComfyUI" in page.said
        and "–" in page.said
    )
    assert repr(grid(runs)) == "Grid(3 pipeline x 2 seed, 4 runs)" and is_harmless(page)


def test_several_runs_in_one_cell_are_folded(tmp_path: Path) -> None:
    """The first is shown, the others are in a fold; the table of runs gives the same grid as the
    recordings.
    """
    runs = [make.completed(tmp_path, run_id=make.at(second)) for second in range(3)]
    html = grid(runs)._repr_html_()
    assert html.count("<img") == 3 and "+ 2 weitere" in html
    assert grid(Tables(tmp_path).runs())._repr_html_() == html


def test_a_grid_takes_any_column_and_names_the_nearest(tmp_path: Path) -> None:
    """Labels and parameters are axes, too."""
    runs = [
        make.completed(tmp_path, parameters={"alpha": alpha}, labels={"who": "x"})
        for alpha in (0.5, 0.25)
    ]
    assert list(grid(runs, rows="labels.who", columns="parameters.alpha").cells) == [
        ("x", "0.25"),
        ("x", "0.5"),
    ]
    with pytest.raises(UnknownName, match="pipeline"):
        grid(runs, rows="pipelines")


def test_a_grid_becomes_a_page_and_a_contact_sheet(tmp_path: Path) -> None:
    """The page needs no other file; the sheet shows each picture in its place, and reasons in
    words.
    """
    runs = [
        make.completed(tmp_path / "r", seed=1),
        make.completed(tmp_path / "r", seed=2, color="blue"),
        make.blocked(tmp_path / "r", seed=2),
    ]
    page = grid(runs).to_html(tmp_path / "grid.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and [
        entry.name for entry in tmp_path.iterdir() if entry.is_file()
    ] == ["grid.html"]
    assert all((image["src"] or "").startswith("data:") for image in Page(page).named("img"))
    assert [link["href"] for link in Page(page).named("a")] == [
        f"r/{run.folder.parent.name}/{run.id}/03_image.png" for run in runs[:2]
    ]
    sheet = np.asarray(grid(runs).contact_sheet()).astype(int)
    red, blue = (
        np.argwhere(abs(sheet - color).sum(axis=2) < 60) for color in ((255, 0, 0), (0, 0, 255))
    )
    assert len(red) > 2000 and len(blue) > 2000 and red[:, 1].max() < blue[:, 1].min()
    assert Image.fromarray(sheet.astype(np.uint8)).width > 512


def test_a_grid_of_a_hundred_pictures_stays_small(tmp_path: Path) -> None:
    """Thumbnails only: far below the 3 MB that a page of a hundred may have."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((64, 64)).resize((512, 512)).save(out, "PNG")
    files = {"03_image.png": out.getvalue()}
    runs = [make.completed(tmp_path, files=files, seed=seed) for seed in range(1, 6)]
    assert len(grid(runs * 20)._repr_html_()) < 3_000_000


def test_looking_at_a_run_needs_no_pandas_and_no_engine() -> None:
    """A recording opens on a laptop: what shows a run loads neither pandas, matplotlib, a backend
    nor a widget library.
    """
    code = (
        "import sys, devpipe.show.html, devpipe.analysis.tables, devpipe.analysis.export,"
        " devpipe.analysis.replay; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {
        "pandas",
        "numpy",
        "matplotlib",
        "httpx",
        "ipywidgets",
        "devpipe.engine",
        "devpipe.backends",
        "devpipe.widgets",
    } & set(loaded)


def test_plots_draw_any_table(tmp_path: Path) -> None:
    """Each plot takes the table of runs, also an empty one, and says what it shows."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    empty = Tables(tmp_path).runs()
    for act in (make.completed, make.blocked, make.failed, make.interrupted):
        act(tmp_path, pipeline="dada")
    make.completed(tmp_path, pipeline="passthrough", rewritten=make.PROMPT, color="blue")
    for runs in (Tables(tmp_path).runs(), empty):
        for plot in (plots.durations, plots.outcomes, plots.text_change, plots.palettes):
            axes = plot(runs)
            assert axes.get_title() and axes.get_xlabel() + axes.get_ylabel()
            axes.figure.canvas.draw()  # type: ignore[attr-defined]
            pyplot.close()
    axes = plots.text_change(Tables(tmp_path).runs())
    means = sorted(line.get_segments()[0][0][1] for line in axes.collections)  # type: ignore[attr-defined]
    assert means[0] == 0 and means[1] == pytest.approx(1 - similarity(make.PROMPT, make.REWRITTEN))
    pyplot.close()


def test_a_palette_is_of_the_picture() -> None:
    """A picture of two colours gives these, the larger first."""
    image = Image.new("RGB", (80, 80), "red")
    image.paste("blue", (0, 0, 80, 20))
    out = io.BytesIO()
    image.save(out, "PNG")
    (first, share), (second, rest), *_ = plots.palette(out.getvalue(), 2)
    assert (
        first[0] > 200 > first[2]
        and second[2] > 200 > second[0]
        and share == pytest.approx(0.75, abs=0.03)
        and share + rest == pytest.approx(1)
    )
