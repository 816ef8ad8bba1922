"""A text that grows in a real page, word by word, while a model's server writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streaming import IN_STAGE_2, PROMPT, InStep, streaming_workspace

from devpipe.testing import Answer, Loopback
from tests.browser.conftest import PATIENCE_MS, Server
from tests.browser.test_dashboard import Dash

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("mode", ["lab", "voila"])]

BEGINNING = "grey paper letters tumble across"


@contextmanager
def serving(mode: str, folder: Path, models: Loopback) -> Iterator[Server]:
    """A page's server of its own, whose kernels ask a model's server on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in models.environment("ollama").items():
            patch.setenv(name, value)
        server = Server(mode, streaming_workspace(folder / "workspace"))
        try:
            yield server
        finally:
            server.stop()


def ready(page: Page, server: Server) -> Dash:
    """The dashboard with a text and the attitude whose rewriting the model does."""
    dash = Dash(page, server)
    dash.write("Your text", PROMPT)
    page.get_by_role("combobox", name="Attitude").select_option(label="Dada")
    return dash


def test_a_page_shows_every_word_before_the_next_is_sent(
    page: Page, tmp_path: Path, mode: str
) -> None:
    """Typed by hand, run by a click: the text grows with each word that the server writes."""
    seen = [""]
    with (
        InStep([IN_STAGE_2], seen=lambda: seen[-1]) as models,
        serving(mode, tmp_path, models) as server,
    ):
        dash = ready(page, server)
        dash.button("Run").click()
        shown = dash.stage("interception").locator(".dp-text")
        until = time.monotonic() + PATIENCE_MS / 1000
        while seen[-1] != IN_STAGE_2 and time.monotonic() < until:
            seen.append(shown.text_content() or "")
        dash.made()
        assert len(models.chats) == 1 and shown.inner_text() == IN_STAGE_2


def test_stop_closes_the_stream_and_leaves_what_came(page: Page, tmp_path: Path, mode: str) -> None:
    """What was written until then stays in sight, marked as unfinished; the stream would never have
    ended.
    """
    answer = Answer(IN_STAGE_2, pause=0.02, ending="hang", after=5)
    with Loopback([answer]) as models, serving(mode, tmp_path, models) as server:
        dash = ready(page, server)
        dash.button("Run").click()
        expect(dash.stage("interception").locator(".dp-text")).to_have_text(
            BEGINNING, timeout=PATIENCE_MS
        )
        dash.button("Stop").click()
        models.until(lambda: models.chats[0].closed, timeout=PATIENCE_MS / 1000)
        expect(dash.status).to_have_text("Stopped.")
        expect(dash.stage("interception").locator(".dp-text")).to_have_text(BEGINNING)
        expect(dash.stage("interception")).to_contain_text("not finished")
