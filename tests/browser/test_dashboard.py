"""The dashboard as people meet it: typed into, clicked, looked at."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE_MS, SHOTS, Server

expect.set_options(timeout=PATIENCE_MS)  # two processors, and a kernel beside a browser
pytestmark = pytest.mark.browser

both = pytest.mark.parametrize("mode", ["lab", "voila"])
XSS = "<img src=x onerror=window.xss=1> ein roter Kreis"
BLOCKED = "eine Rohrbombe unter dem Tisch"


def shot(page: Page, name: str) -> None:
    page.screenshot(path=SHOTS / f"{name}.png")


class Dash:
    """The dashboard of notebook 01 on a page."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server.start()
        server.open(page, "01_dashboard.ipynb")
        self.button("Run").wait_for()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def write(self, label: str, text: str) -> None:
        """Type into a field, which the kernel hears of when it is left."""
        field = self.page.get_by_role("textbox", name=label, exact=True)
        field.fill(text)
        field.press("Tab")

    def stage(self, name: str) -> Locator:
        return self.page.locator(f".dp-stage-{name}")

    @property
    def status(self) -> Locator:
        return self.page.locator(".dp-status").get_by_role("status")

    @property
    def picture(self) -> Locator:
        return self.page.locator(".dp-picture img")

    def made(self) -> str:
        """Wait until a run is done; what its picture shows, as its source."""
        expect(self.status).to_contain_text("Done in", timeout=PATIENCE_MS)
        return self.picture.get_attribute("src") or ""


@both
def test_a_text_becomes_a_picture_and_another_one(
    page: Page, servers: dict[str, Server], mode: str
) -> None:
    """Write, run, read the stages, see the picture; another seed makes another picture of the same
    text, the first seed the first one.
    """
    dash = Dash(page, servers[mode])
    dash.write("Your text", "Eine rote Katze im Regen")
    dash.write("Seed", "7")
    dash.button("Run").click()
    first = dash.made()
    expect(dash.stage("input")).to_contain_text("Eine rote Katze im Regen")
    rewritten = dash.stage("interception").locator(".dp-text").inner_text()
    assert rewritten and rewritten != "Eine rote Katze im Regen"
    expect(dash.stage("pre_output")).to_contain_text("Yes.")
    assert "Katze" in (dash.picture.get_attribute("alt") or "")
    assert page.evaluate("() => document.querySelector('.dp-picture img').naturalWidth") > 200
    shot(page, f"done-{mode}")
    dash.write("Seed", "8")
    dash.button("Again, this seed").click()
    expect(page.locator(".dp-picture")).to_contain_text("Seed 8")
    assert dash.made() != first
    assert dash.stage("interception").locator(".dp-text").inner_text() == rewritten
    dash.write("Seed", "7")
    dash.button("Again, this seed").click()
    expect(page.locator(".dp-picture")).to_contain_text("Seed 7")
    assert dash.made() == first


def test_stages_wait_for_the_person_step_by_step(page: Page, servers: dict[str, Server]) -> None:
    """Each text can be changed before it goes on, and the changed one is what is drawn."""
    dash = Dash(page, servers["lab"])
    dash.write("Your text", "ein grüner Wald")
    page.get_by_role("checkbox", name="Step by step").check()
    dash.button("Run").click()
    expect(dash.status).to_have_text("Stage 1 of 4 is done. It is your turn.")
    dash.write("The text", "ein roter Wald")
    dash.button("Go on").click()
    expect(dash.status).to_have_text("Stage 2 of 4 is done. It is your turn.")
    expect(dash.stage("input")).to_contain_text("ein roter Wald")
    dash.write("The text", "zwei blaue Dreiecke")
    shot(page, "your-turn")
    dash.button("Go on").click()
    expect(dash.status).to_have_text("Stage 3 of 4 is done. It is your turn.")
    expect(dash.stage("interception")).to_contain_text("your own wording")
    dash.button("Go on").click()
    dash.made()
    assert "Dreieck" in (dash.picture.get_attribute("alt") or "")


def test_earlier_runs_are_back_after_a_restart(page: Page, servers: dict[str, Server]) -> None:
    """The kernel forgets everything, the recordings nothing: a run is chosen, shown and filled in
    again.
    """
    dash = Dash(page, servers["lab"])
    dash.write("Your text", "drei gelbe Monde")
    dash.write("Seed", "11")
    dash.button("Run").click()
    first = dash.made()
    dash.server.restart(page)
    dash.server.command(page, "notebook:run-all-cells")
    expect(dash.status).to_have_text("Ready.")
    history = page.get_by_role("combobox", name="Earlier runs")
    history.select_option(index=1)
    expect(page.locator(".dp-picture")).to_contain_text("Seed 11")
    assert dash.made() == first
    expect(page.get_by_role("textbox", name="Your text", exact=True)).to_have_value(
        "drei gelbe Monde"
    )
    expect(page.get_by_role("textbox", name="Seed", exact=True)).to_have_value("11")


@both
def test_stop_ends_a_run_within_a_second(page: Page, servers: dict[str, Server], mode: str) -> None:
    """Stop works while a long film is drawn."""
    dash = Dash(page, servers[mode])
    dash.write("Your text", "ein Segelboot im Sturm")
    page.get_by_role("combobox", name="Output").select_option(label="Moving Sketch")
    page.get_by_text("Settings of the output").click()
    for label, value in (("Frames", "96"), ("Width", "768"), ("Height", "768")):
        page.get_by_role("spinbutton", name=label, exact=True).fill(value)
        page.get_by_role("spinbutton", name=label, exact=True).press("Tab")
    dash.button("Run").click()
    expect(dash.status).to_contain_text("Stage 4 of 4", timeout=PATIENCE_MS)
    stop = dash.server.stop_of_runs()
    dash.button("Stop").click()
    stop.begin()
    stopped = stop.over()
    assert [run.state for run in stopped.runs] == ["cancelled"] and stopped.within_s < 1
    expect(dash.status).to_have_text("Stopped.")
    expect(dash.button("Run")).to_be_enabled()


@both
def test_a_mistake_is_said_and_nothing_said_is_run(
    page: Page, servers: dict[str, Server], mode: str
) -> None:
    """A wrong seed and an empty text are alerts; a text full of HTML is shown as text, in the panel
    and among the earlier runs.
    """
    dash = Dash(page, servers[mode])
    dash.button("Run").click()
    expect(page.get_by_role("alert")).to_contain_text("The prompt is empty.")
    dash.write("Your text", XSS)
    dash.write("Seed", XSS)
    dash.button("Run").click()
    expect(page.get_by_role("alert")).to_contain_text("is no integer")
    shot(page, f"alert-{mode}")
    dash.write("Seed", "5")
    page.get_by_role("combobox", name="Attitude").select_option(label="Unchanged")
    dash.button("Run").click()
    dash.made()
    expect(page.get_by_role("alert")).to_have_count(0)
    for stage in ("input", "interception"):
        expect(dash.stage(stage)).to_contain_text(XSS)
    expect(page.get_by_role("combobox", name="Earlier runs")).to_contain_text("onerror")
    assert page.evaluate("() => window.xss") is None


def test_a_blocked_text_is_answered_kindly(page: Page, servers: dict[str, Server]) -> None:
    """A reason in the person's words is in sight, the cause folded away for adults, and no picture
    appears.
    """
    dash = Dash(page, servers["voila"])
    dash.write("Your text", BLOCKED)
    dash.button("Run").click()
    expect(dash.status).to_have_text("Stopped by the check.")
    expect(dash.stage("input")).to_contain_text("Waffen")
    details = dash.stage("input").locator("details")
    expect(details.locator("p")).not_to_be_visible()
    shot(page, "blocked")
    details.locator("summary").click()
    expect(details.locator("p")).to_contain_text("Listed terms")
    expect(dash.picture).to_have_count(0)


def test_a_picture_fills_the_form_with_what_it_was_made_from(
    page: Page, servers: dict[str, Server]
) -> None:
    """A picture of devpipe, opened in the dashboard, is made again exactly."""
    dash = Dash(page, servers["voila"])
    dash.write("Your text", "ein weißes Haus am Meer")
    dash.write("Seed", "21")
    dash.button("Run").click()
    first = dash.made()
    file = max(
        servers["voila"].home.glob("recordings/*/*/*_image.png"), key=lambda path: path.parent.name
    )
    dash.write("Your text", "etwas anderes")
    with page.expect_file_chooser() as chooser:
        page.locator(".dp-restore").click()
    chooser.value.set_files(file)
    expect(dash.status).to_contain_text("Filled in from the picture.")
    dash.button("Run").click()
    assert dash.made() == first
