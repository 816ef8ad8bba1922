"""A text that grows in a real page, word by word, while a model's server writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streaming import AT_ONCE_S, IN_STAGE_2, PROMPT, delays, figures, streaming_workspace

from devpipe.testing import Answer, Loopback
from tests.browser.conftest import PATIENCE_MS, Server
from tests.browser.test_dashboard import Dash

pytestmark = pytest.mark.browser

BEGINNING = "grey paper letters tumble across"
WATCH = """() => {
    const place = document.querySelector('.dp-stage-interception');
    window.seen = [];
    const look = () => {
        const text = place.querySelector('.dp-text')?.textContent ?? '';
        if (text !== window.seen.at(-1)?.[1]) requestAnimationFrame(() => window.seen.push([Date.now() / 1000, text]));
    };
    new MutationObserver(look).observe(place, {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture(params=["lab", "voila"])
def own(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, Loopback]]:
    """A page's server of its own, whose kernels ask a model's server on this machine."""
    with Loopback() as models:
        for name, value in models.environment("ollama").items():
            monkeypatch.setenv(name, value)
        server = Server(request.param, streaming_workspace(tmp_path / "workspace"))
        yield server, models
        server.stop()


def test_a_page_shows_every_word_at_once(page: Page, own: tuple[Server, Loopback]) -> None:
    """Typed by hand, run by a click: each token is painted within a tenth of a second of the
    server's writing it.
    """
    server, models = own
    models.script[:] = [Answer(" ".join([IN_STAGE_2] * 3), latency=0.5, pause=0.04)]
    dash = Dash(page, server)
    dash.write("Your text", PROMPT)
    page.get_by_role("combobox", name="Attitude").select_option(label="Dada")
    page.evaluate(WATCH)
    for _ in range(3):  # a machine that does other work meanwhile is asked again
        page.evaluate("() => { window.seen = [] }")
        dash.button("Run").click()
        dash.button("Run").and_(page.locator(":enabled")).wait_for()
        dash.made()
        ahead = time.time() - time.monotonic()  # the page's clock has another beginning
        seen = [(at - ahead, text) for at, text in page.evaluate("() => window.seen")]
        asked = models.chats[-1]
        found = figures(delays(asked, seen))
        print(
            f"{server.mode}: seen after {found} ms, {len(asked.written)} tokens in {len(seen)}"
            " paintings"
        )
        assert 20 < len(seen) < 20 * (asked.written[-1][0] - asked.written[0][0]) + 10, (
            "it grows, and the page stays quick"
        )
        if found["p95"] < 1000 * AT_ONCE_S:
            break
    assert found["p95"] < 1000 * AT_ONCE_S and found["max"] < 1000, found
    assert dash.stage("interception").locator(".dp-text").inner_text() == " ".join([IN_STAGE_2] * 3)


def test_stop_closes_the_stream_and_leaves_what_came(
    page: Page, own: tuple[Server, Loopback]
) -> None:
    """What was written until then stays in sight, marked as unfinished."""
    server, models = own
    models.script[:] = [Answer(IN_STAGE_2, pause=0.02, ending="hang", after=5)]
    dash = Dash(page, server)
    dash.write("Your text", PROMPT)
    page.get_by_role("combobox", name="Attitude").select_option(label="Dada")
    dash.button("Run").click()
    expect(dash.stage("interception").locator(".dp-text")).to_have_text(
        BEGINNING, timeout=PATIENCE_MS
    )
    dash.button("Stop").click()
    stopped = time.monotonic()
    models.until(lambda: models.chats[0].closed)
    assert (models.chats[0].closed or 0) - stopped < 1
    expect(dash.status).to_have_text("Stopped.")
    expect(dash.stage("interception").locator(".dp-text")).to_have_text(BEGINNING)
    expect(dash.stage("interception")).to_contain_text("not finished")
