"""The dashboard as people meet it: typed into, clicked, looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE_MS, Server

pytestmark = pytest.mark.browser

both = pytest.mark.parametrize("mode", ["lab", "voila"])
XSS = "<img src=x onerror=window.xss=1> ein roter Kreis"


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
def test_a_text_becomes_a_picture_and_another_one(page: Page, servers: dict[str, Server], mode: str) -> None:
    """Write, run, read the stages, see the picture; another seed makes another picture of the same text, the first seed the first one."""
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
    page.screenshot(path=Path(__file__).parents[2] / "shots" / f"done-{mode}.png")
    dash.write("Seed", "8")
    dash.button("Again, this seed").click()
    expect(page.locator(".dp-picture")).to_contain_text("Seed 8")
    assert dash.made() != first
    assert dash.stage("interception").locator(".dp-text").inner_text() == rewritten
    dash.write("Seed", "7")
    dash.button("Again, this seed").click()
    expect(page.locator(".dp-picture")).to_contain_text("Seed 7")
    assert dash.made() == first
