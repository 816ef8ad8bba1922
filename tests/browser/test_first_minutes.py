"""What a person meets in the first minutes: in JupyterLab and in Voila, by mouse and by keyboard
alone, light and dark.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from devpipe.cli import new_workspace
from devpipe.record.reader import Recordings
from tests.browser.conftest import PATIENCE_MS, SHOTS, Server
from tests.browser.test_dashboard import Dash, shot

expect.set_options(timeout=PATIENCE_MS)
pytestmark = pytest.mark.browser

both = pytest.mark.parametrize("mode", ["lab", "voila"])
themes = pytest.mark.parametrize("theme", ["light", "dark"])
ENOUGH = 4.5  # WCAG 2.2, 1.4.3: contrast of text
GERMAN = 'from devpipe.widgets import Dashboard\n\nDashboard(language="de")'
PANEL = "from devpipe.widgets import Dashboard\n\nDashboard()"
SHOWN = """\
from devpipe import Engine

engine = Engine()
run = await engine.run("Eine rote Katze im Regen", pipeline="{pipeline}", seed=7, text_seed=7, width=256, height=256)
run"""
FILM = """\
from devpipe import Engine

engine = Engine()
run = await engine.run("Eine rote Katze", output="sketch_video", seed=7, frames=24, width=128, height=128)
run"""
GRID = """\
from devpipe import Engine
from devpipe.analysis.compare import grid

engine = Engine()
runs = [
    await engine.run("Eine rote Katze im Regen", pipeline=name, seed=seed, text_seed=1, width=256, height=256)
    for name in ("dada", "passthrough")
    for seed in (1, 2)
]
grid(runs)"""
LIST = """\
from devpipe import Engine

engine = Engine()
engine.recordings.runs()[["run_id", "prompt"]]"""


def notebook(server: Server, name: str, *cells: str) -> str:
    """A notebook of these code cells in the server's workspace."""
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{number:02}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (server.home / "notebooks" / name).write_text(json.dumps(content))
    return name


def open_page(page: Page, server: Server, name: str, *cells: str, theme: str = "light") -> None:
    """Open a notebook of these cells, all of them run, in this theme."""
    server.start()
    server.open(page, notebook(server, name, *cells), theme=theme)


class German(Dash):
    """The dashboard with German labels."""

    def __init__(self, page: Page, server: Server, *, theme: str = "light") -> None:
        self.page, self.server = page, server
        open_page(page, server, "deutsch.ipynb", GERMAN, theme=theme)
        self.button("Los").wait_for()

    def made(self) -> str:
        expect(self.status).to_contain_text("Fertig in")
        return self.picture.get_attribute("src") or ""


def fresh(mode: str, folder: Path) -> Server:
    """A server of its own, on a workspace of its own."""
    return Server(mode, new_workspace.create(folder / "workspace"))


@pytest.fixture
def own(mode: str, tmp_path: Path) -> Iterator[Server]:
    server = fresh(mode, tmp_path)
    yield server
    server.stop()


# What a run looks like.


def boxes(place: Locator) -> list[dict[str, float]]:
    return [box for box in (one.bounding_box() for one in place.all()) if box]


@both
@pytest.mark.parametrize("width", [900, 1280])
def test_a_run_shows_its_stages_one_below_the_other(
    page: Page, servers: dict[str, Server], mode: str, width: int
) -> None:
    """No stylesheet of the host tears title and text apart: each title stands above its texts, all
    begin at the same edge, nothing overlaps.
    """
    page.set_viewport_size({"width": width, "height": 900})
    open_page(page, servers[mode], "show.ipynb", SHOWN.format(pipeline="stille_post"))
    shown = page.locator(".devpipe").first
    expect(shown).to_contain_text("4 Erzeugung")
    expect(shown.locator("img")).to_be_visible()
    shot(page, f"run-{mode}-{width}")
    titles = [
        shown.get_by_text(name, exact=False).first.bounding_box()
        for name in ("1 Eingabe", "2 Interception", "3 Prüfung vor der Ausgabe", "4 Erzeugung")
    ]
    texts = shown.get_by_text("Eine rote Katze im Regen").first.bounding_box()
    assert all(titles) and texts
    lefts = {round(box["x"]) for box in titles if box}
    assert max(lefts) - min(lefts) <= 2, f"titles begin at {sorted(lefts)}"
    tops = [box["y"] for box in titles if box]
    assert tops == sorted(tops)
    assert texts["y"] >= titles[0]["y"] + titles[0]["height"] - 1  # type: ignore[index]
    assert abs(texts["x"] - titles[0]["x"]) <= 2  # type: ignore[index]
    room = shown.bounding_box()
    assert room and page.evaluate("e => e.scrollWidth - e.clientWidth", shown.element_handle()) <= 1


@both
def test_a_grid_keeps_its_own_manner(page: Page, servers: dict[str, Server], mode: str) -> None:
    """Cells of a comparison are read from the left, and have the same ground in each row."""
    open_page(page, servers[mode], "grid.ipynb", GRID)
    cells = page.locator(".devpipe td, .devpipe th")
    expect(page.locator(".devpipe img")).to_have_count(4)
    shot(page, f"grid-{mode}")
    looks = cells.evaluate_all(
        "all => all.map(e => [getComputedStyle(e).textAlign, getComputedStyle(e.parentElement).backgroundColor].join())"
    )
    assert {look.split(",")[0] for look in looks} <= {"left", "start"}
    assert len({look.partition(",")[2] for look in looks}) == 1


# Keys.


def cells(page: Page) -> int:
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").count()


def test_keys_stay_in_the_page_but_escape_ctrl_and_meta_pass(
    page: Page, servers: dict[str, Server]
) -> None:
    """In JupyterLab arrows move within a list and letters do nothing to the notebook."""
    dash = Dash(page, servers["lab"])
    before = cells(page)
    output = page.get_by_role("combobox", name="Output")
    output.focus()
    chosen = output.input_value()
    page.keyboard.press("ArrowDown")
    expect(output).to_be_focused()
    expect(output).not_to_have_value(chosen)
    page.keyboard.press("ArrowUp")
    expect(output).to_have_value(chosen)
    for place in (output, dash.button("Run"), page.get_by_role("checkbox", name="Step by step")):
        place.focus()
        for key in (
            "b",
            "a",
            "d",
            "d",
            "x",
            "m",
            "y",
            "k",
            "j",
            "0",
            "0",
            "Shift+Enter",
            "Alt+Enter",
        ):
            page.keyboard.press(key)
            expect(place).to_be_focused()
        assert cells(page) == before
    expect(dash.button("Run")).to_be_visible()
    output.focus()
    page.keyboard.press("b")
    page.keyboard.press("Control+s")
    saved = "() => window.jupyterapp.shell.currentWidget.context.model.dirty === false"
    page.wait_for_function(saved, timeout=PATIENCE_MS)
    output.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.evaluate("() => document.querySelector('.jp-Notebook .jp-Cell.jp-mod-active').focus()")
    page.keyboard.press("b")
    expect(page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")).to_have_count(before + 1)


@both
def test_a_run_by_keyboard_alone(page: Page, servers: dict[str, Server], mode: str) -> None:
    """Written, chosen, folded open, made and made again without a mouse."""
    dash = Dash(page, servers[mode])
    page.get_by_role("textbox", name="Your text", exact=True).focus()
    page.keyboard.type("ein blaues Haus")
    reached: list[str] = []
    name = "() => document.activeElement?.innerText || document.activeElement?.getAttribute('aria-label') || document.activeElement?.labels?.[0]?.innerText || document.activeElement?.tagName"
    pressed = False
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(str(page.evaluate(name)).strip())
        if "Settings of the output" in reached[-1] and not pressed:
            pressed = True
            page.keyboard.press("Enter")
            expect(page.get_by_role("spinbutton", name="Width", exact=True)).to_be_visible()
        if reached[-1] == "Width":
            break
    assert "Run" in reached and "Seed" in reached and "Text seed" in reached, reached
    assert any("Settings of the output" in one for one in reached) and reached[-1] == "Width", (
        reached
    )
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("128")
    page.keyboard.press("Tab")
    dash.button("Run").focus()
    page.keyboard.press("Enter")
    dash.made()
    expect(dash.button("Run")).to_be_focused()  # though it was disabled in between
    shot(page, f"keyboard-{mode}")
    dash.button("Again, new seed").focus()
    page.keyboard.press("Space")
    dash.made()


@both
def test_what_is_folded_in_a_run_opens_by_keyboard(
    page: Page, servers: dict[str, Server], mode: str
) -> None:
    """Also in the plain HTML of a run, Enter opens what is folded, and no key reaches the notebook."""
    open_page(page, servers[mode], "folded.ipynb", SHOWN.format(pipeline="stille_post"))
    folded = page.locator(".devpipe details").first
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(folded.locator("li").first).to_be_visible()
    before = cells(page)
    for key in ("b", "a", "d", "d"):
        page.keyboard.press(key)
    expect(folded.locator("summary")).to_be_focused()
    assert cells(page) == before
    page.keyboard.press("Space")
    expect(folded.locator("li").first).not_to_be_visible()


# Seeds.


@both
def test_the_same_seed_is_the_same_picture(
    page: Page, servers: dict[str, Server], mode: str
) -> None:
    """Seed 7, three times: one picture. The text's seed is shown, can be set, and set otherwise
    gives other words.
    """
    dash = Dash(page, servers[mode])
    dash.write("Your text", "Eine rote Katze im Regen")
    dash.write("Seed", "7")
    made = []
    for _ in range(3):
        dash.button("Run").click()
        expect(dash.button("Run")).to_be_enabled()
        made.append(dash.made())
    assert len(set(made)) == 1
    words = dash.stage("interception").locator(".dp-text").inner_text()
    expect(page.locator(".dp-picture")).to_contain_text("Text seed 7")
    dash.write("Text seed", "12345")
    dash.button("Run").click()
    expect(page.locator(".dp-picture")).to_contain_text("Text seed 12345")
    dash.made()
    assert dash.stage("interception").locator(".dp-text").inner_text() != words
    shot(page, f"seeds-{mode}")


# What can be made here.


@both
def test_an_output_that_cannot_run_says_so_before_anything_is_paid(
    page: Page, servers: dict[str, Server], mode: str
) -> None:
    """Outputs without their server are marked when the page opens; Run begins nothing."""
    dash = Dash(page, servers[mode])
    server = servers[mode]
    output = page.get_by_role("combobox", name="Output")
    expect(
        output.locator("option", has_text="Stable Diffusion 3.5 Large – not ready")
    ).to_have_count(1)
    options = output.locator("option").all_inner_texts()
    assert all("not ready" not in one for one in options if one.startswith("Sketch"))
    before = Recordings(server.home / "recordings").ids()
    output.select_option(label="Stable Diffusion 3.5 Large – not ready")
    expect(page.locator(".dp-form")).to_contain_text("cannot be made here now")
    dash.write("Your text", "a red house")
    dash.button("Run").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be made here now")
    expect(dash.button("Run")).to_be_enabled()
    shot(page, f"not-ready-{mode}")
    assert Recordings(server.home / "recordings").ids() == before


# What went wrong.


@both
@themes
def test_a_german_page_says_in_german_what_went_wrong(
    page: Page, servers: dict[str, Server], mode: str, theme: str
) -> None:
    """The words are those of the page, in its language; the run before is no longer called done."""
    dash = German(page, servers[mode], theme=theme)
    dash.write("Dein Text", "ein roter Kreis")
    dash.button("Los").click()
    dash.made()
    alert = page.get_by_role("alert").first
    for label, text, said in (
        ("Seed", "sieben", "keine ganze Zahl"),
        ("Text-Seed", "0", "Text-Seed"),
        ("Dein Text", "", "leer"),
    ):
        dash.write("Seed", "")
        dash.write("Text-Seed", "")
        dash.write("Dein Text", "ein roter Kreis")
        dash.write(label, text)
        dash.button("Los").click()
        expect(alert).to_contain_text(said)
        visible = alert.inner_text()
        assert not re.search(r"\bGive\b|\bThe\b|--|`|=\.\.\.|in the shell", visible), visible
        expect(dash.status).not_to_contain_text("Fertig")
    shot(page, f"german-{mode}-{theme}")
    dash.write("Dein Text", "ein roter Kreis")
    dash.button("Los").click()
    dash.made()
    expect(page.get_by_role("alert")).to_have_count(0)


# A kernel that is gone.


@both
def test_a_page_whose_kernel_died_says_so(page: Page, own: Server, mode: str) -> None:
    """Killed in the midst of a run: nothing is said to be under way any more, and what to do."""
    dash = Dash(page, own)
    page.get_by_role("combobox", name="Output").select_option(label="Moving Sketch")
    page.get_by_text("Settings of the output").click()
    for label, value in (("Frames", "96"), ("Width", "768"), ("Height", "768")):
        page.get_by_role("spinbutton", name=label, exact=True).fill(value)
        page.get_by_role("spinbutton", name=label, exact=True).press("Tab")
    dash.write("Your text", "ein Segelboot im Sturm")
    dash.button("Run").click()
    expect(dash.status).to_contain_text("Stage 4 of 4")
    if mode == "lab":
        own.restart(page)
    else:
        assert own.process is not None
        for child in psutil.Process(own.process.pid).children(recursive=True):
            if "ipykernel_launcher" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
    lost = page.locator(".dp-lost [role=alert]")
    expect(lost).to_contain_text("connection")
    expect(page.locator("progress")).to_be_hidden()
    expect(dash.status).to_be_hidden()
    shot(page, f"lost-{mode}")
    assert ("Shift" if mode == "lab" else "Load it again") in lost.inner_text()


# Files and visitors.


def test_every_link_of_a_page_leads_somewhere_in_voila(
    page: Page, servers: dict[str, Server]
) -> None:
    """What a file's name offers is the file itself, never a 404."""
    server = servers["voila"]
    open_page(page, server, "links.ipynb", SHOWN.format(pipeline="dada"), GRID)
    expect(page.locator(".devpipe img")).to_have_count(5)
    links = page.locator(".devpipe a")
    for link in links.all():
        href = link.evaluate("e => e.href")
        if href.startswith("data:"):
            assert link.get_attribute("download")
        else:
            assert page.request.get(href).ok, href
    with page.expect_download() as waiting:
        links.first.click()
    saved = Path(waiting.value.path()).read_bytes()
    files = [one.read_bytes() for one in server.home.glob("recordings/*/*/*_image.png")]
    assert saved in files


@pytest.mark.parametrize("name", ["00_start", "02_compare", "03_recordings"])
def test_no_link_of_our_notebooks_is_dead_in_voila(
    page: Page, servers: dict[str, Server], name: str
) -> None:
    server = servers["voila"].start()
    server.open(page, f"{name}.ipynb")
    expect(page.locator(".devpipe img").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    links = page.locator("a[href]").evaluate_all("all => all.map(e => [e.href, e.download])")
    assert len(links) > 1
    for href, download in links:
        assert download or page.request.get(href).ok, href


def test_every_file_link_leads_somewhere_in_lab(page: Page, servers: dict[str, Server]) -> None:
    open_page(page, servers["lab"], "links.ipynb", SHOWN.format(pipeline="dada"))
    link = page.locator(".devpipe a").first
    expect(link).to_have_attribute("href", re.compile("/files/recordings/"))
    assert page.request.get(link.evaluate("e => e.href")).ok


def test_a_visitor_sees_own_runs_only(chromium: Browser, tmp_path: Path) -> None:
    """In Voila each visitor has a kernel: what others wrote stands nowhere on the page."""
    server = fresh("voila", tmp_path).start()
    secret = "ein Geheimnis von Mia"
    try:
        notebook(server, "list.ipynb", PANEL, LIST)
        pages = []
        for text in (secret, "etwas von Tom"):
            page = chromium.new_context().new_page()
            page.set_default_timeout(PATIENCE_MS)
            server.open(page, "01_dashboard.ipynb")
            dash = Dash.__new__(Dash)
            dash.page, dash.server = page, server
            dash.button("Run").wait_for()
            history = page.get_by_role("combobox", name="Earlier runs")
            expect(history.locator("option")).to_have_count(1)
            dash.write("Your text", text)
            dash.button("Run").click()
            dash.made()
            expect(history.locator("option")).to_have_count(2)
            expect(history.locator("option").last).to_contain_text(text)
            pages.append(page)
        assert secret not in pages[1].content()
        other = chromium.new_context().new_page()
        server.open(other, "list.ipynb")
        expect(other.get_by_role("button", name="Run", exact=True)).to_be_visible()
        expect(other.locator("table.dataframe")).to_be_visible()
        assert "Mia" not in other.content() and "Tom" not in other.content()
    finally:
        server.stop()


# Looks.

CONTRASTS = """root => {
  const canvas = new OffscreenCanvas(1, 1), brush = canvas.getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = e => {
    let stack = [];
    for (let at = e; at; at = at.parentElement) {
      const c = rgba(getComputedStyle(at).backgroundColor); if (c[3] > 0) stack.push(c); if (c[3] >= 1) break;
    }
    return stack.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const opacity = e => { let o = 1; for (let at = e; at; at = at.parentElement) o *= +getComputedStyle(at).opacity; return o; };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const found = [];
  const look = (e, text, colour) => {
    const below = ground(e), ink = rgba(colour); ink[3] *= opacity(e);
    const [a, b] = [light(over(ink, below)), light(below)].sort((x, y) => y - x);
    found.push([text.slice(0, 40), +((a + .05) / (b + .05)).toFixed(2)]);
  };
  for (const e of root.querySelectorAll('*')) {
    if (!e.checkVisibility({visibilityProperty: true}) || e.closest('style,option,:disabled,img,svg')) continue;
    const own = [...e.childNodes].filter(n => n.nodeType === 3 && n.data.trim()).map(n => n.data.trim()).join(' ');
    if (own) look(e, own, getComputedStyle(e).color);
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(e.tagName)) {
      look(e, e.value || e.tagName, getComputedStyle(e).color);
      if (e.placeholder) look(e, 'placeholder: ' + e.placeholder, getComputedStyle(e, '::placeholder').color);
    }
  }
  return found;
}"""


def faint(place: Locator) -> list[Any]:
    """The texts of a place that are too faint to be read, with their contrast."""
    found = place.evaluate(CONTRASTS)
    assert len(found) > 3
    return [one for one in found if one[1] < ENOUGH]


@both
@themes
def test_every_text_can_be_read(
    page: Page, servers: dict[str, Server], mode: str, theme: str
) -> None:
    """While nothing runs, when it is done, and when something was blocked or wrong."""
    dash = German(page, servers[mode], theme=theme)
    panel = page.locator(".dp-dashboard")
    assert faint(panel) == []
    shot(page, f"waiting-{mode}-{theme}")
    dash.write("Dein Text", "eine rote Katze")
    dash.button("Los").click()
    dash.made()
    assert faint(panel) == []
    shot(page, f"done-{mode}-{theme}")
    dash.write("Seed", "sieben")
    dash.button("Los").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    assert faint(panel) == []
    dash.write("Seed", "")
    dash.write("Dein Text", "eine Rohrbombe unter dem Tisch")
    dash.button("Los").click()
    expect(dash.status).to_have_text("Von der Prüfung angehalten.")
    for folded in page.locator(".dp-dashboard details summary").all():
        folded.click()
    assert faint(panel) == []
    shot(page, f"blocked-{mode}-{theme}")
    dash.write("Dein Text", "ein Wald")
    page.get_by_role("checkbox", name="Schritt für Schritt").check()
    dash.button("Los").click()
    expect(dash.button("Weiter")).to_be_enabled()
    assert faint(panel) == []
    dash.button("Stopp").click()
    expect(dash.status).to_have_text("Angehalten.")
    assert faint(panel) == []


@both
@themes
def test_every_text_of_a_run_can_be_read(
    page: Page, servers: dict[str, Server], mode: str, theme: str
) -> None:
    """The same holds for the plain HTML of a run and of a comparison."""
    open_page(page, servers[mode], "read.ipynb", SHOWN.format(pipeline="dada"), GRID, theme=theme)
    expect(page.locator(".devpipe img")).to_have_count(5)
    for folded in page.locator(".devpipe details summary").all():
        folded.click()
    shot(page, f"read-{mode}-{theme}")
    for shown in page.locator(".devpipe").all():
        assert faint(shown) == []


@both
def test_a_moving_picture_can_be_stopped(page: Page, servers: dict[str, Server], mode: str) -> None:
    """A film stands still until somebody starts it, and stands still again when they stop it."""
    open_page(page, servers[mode], "film.ipynb", FILM)
    shown = page.locator(".devpipe").first
    still = shown.locator("img").first
    expect(still).to_be_visible()
    moving = shown.locator("details img")
    expect(moving).not_to_be_visible()
    play = shown.locator("summary").filter(has_text="abspielen")
    play.focus()
    page.keyboard.press("Enter")
    expect(moving).to_be_visible()
    assert still.get_attribute("src") != moving.get_attribute("src")
    shot(page, f"film-{mode}")
    shown.locator("summary").filter(has_text="anhalten").click()
    expect(moving).not_to_be_visible()
    expect(still).to_be_visible()


@both
def test_a_moving_picture_in_the_dashboard_can_be_stopped(
    page: Page, servers: dict[str, Server], mode: str
) -> None:
    dash = Dash(page, servers[mode])
    page.get_by_role("combobox", name="Output").select_option(label="Moving Sketch")
    page.get_by_text("Settings of the output").click()
    for label, value in (("Frames", "8"), ("Width", "128"), ("Height", "128")):
        page.get_by_role("spinbutton", name=label, exact=True).fill(value)
        page.get_by_role("spinbutton", name=label, exact=True).press("Tab")
    dash.write("Your text", "ein Segelboot im Sturm")
    dash.button("Run").click()
    expect(dash.status).to_contain_text("Done in")
    made = page.locator(".dp-picture")
    moving = made.locator("details img")
    expect(made.locator("img").first).to_be_visible()
    expect(moving).not_to_be_visible()
    made.locator("summary").click()
    expect(moving).to_be_visible()
    made.locator("summary").click()
    expect(moving).not_to_be_visible()
    assert SHOTS.exists()
