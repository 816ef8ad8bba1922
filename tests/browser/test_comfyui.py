"""What a real page shows of a job at a ComfyUI server: its place in the queue, its steps, its
preview, its picture.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import small_picture
from playwright.sync_api import Page, expect
from scripted_comfyui import Comfy, Play, preview

from devpipe.cli import new_workspace
from devpipe.engine.loop import LoopThread
from tests.browser.conftest import Server
from tests.browser.test_dashboard import Dash, shot

pytestmark = pytest.mark.browser

SAMPLER = "7"
STEPS = [
    {"type": "executing", "data": {"node": SAMPLER}},
    {"type": "progress", "data": {"node": SAMPLER, "value": 2, "max": 4}},
    preview(small_picture()),
]


class Busy:
    """A scripted ComfyUI in a thread of its own: somebody else's job runs until `next` is called,
    ours until the second call.
    """

    def __init__(self) -> None:
        self.thread, self.holds = LoopThread("comfyui"), [asyncio.Event(), asyncio.Event()]
        self.comfy = Comfy([Play(hold=self.holds[0]), Play(events=STEPS, hold=self.holds[1])])
        self.do(self.comfy.start())
        others = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "theirs"}}}
        body = json.dumps({"prompt": others, "prompt_id": "theirs", "client_id": "they"}).encode()
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{self.comfy.url}/prompt", body
        ).close()

    def do(self, work: Coroutine[Any, Any, object]) -> None:
        self.thread.submit(work).result(10)

    def next(self) -> None:
        async def release() -> None:
            self.holds.pop(0).set()
            async with self.comfy.changed:
                self.comfy.changed.notify_all()

        self.do(release())

    def close(self) -> None:
        self.do(self.comfy.kill())
        self.thread.close()


@pytest.fixture(params=["lab", "voila"])
def own(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, Busy]]:
    """A page's server of its own, whose kernels ask that ComfyUI."""
    busy = Busy()
    monkeypatch.setenv("COMFYUI_URL", busy.comfy.url)
    monkeypatch.setenv("DEVPIPE_SAFETY", "adult")  # a stricter level asks a judge
    server = Server(request.param, new_workspace.create(tmp_path / "workspace"))
    yield server, busy
    server.stop()
    busy.close()


def test_a_page_shows_the_queue_the_steps_the_preview_and_the_picture(
    page: Page, own: tuple[Server, Busy]
) -> None:
    server, busy = own
    dash = Dash(page, server)
    dash.write("Your text", "a red house")
    page.get_by_role("combobox", name="Output").select_option(label="Stable Diffusion 3.5 Large")
    dash.button("Run").click()
    expect(dash.status).to_contain_text("1 before it")
    busy.next()
    expect(dash.status).to_contain_text("2 of 4 Sampler")
    before = dash.stage("generation").locator("img")
    expect(before).to_be_visible()
    expect(dash.stage("generation").locator("progress")).to_have_attribute("value", "2")
    assert (
        page.evaluate("() => document.querySelector('.dp-stage-generation img').naturalWidth") > 0
    )
    assert not list(server.home.glob("recordings/**/*.png")), "a preview is never stored"
    shot(page, f"comfyui-{server.mode}")
    busy.next()
    assert dash.made() != ""
    assert len(list(server.home.glob("recordings/**/*.png"))) == 1
