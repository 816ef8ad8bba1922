"""How late each word of a model is seen: on a terminal, through a pipe, in a panel, and in real
pages (bar: p95 under 100 ms).

python benchmarks/streaming.py [--pages]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devpipe import Engine, Settings
from devpipe.testing import Answer, Loopback
from devpipe.values import STAGES
from tests import streaming
from tests.streaming import IN_STAGE_2, PROMPT, WRITERS, Seen, delays, figures

BAR_MS = 100
WATCH = """() => {
    const place = document.querySelector('.dp-stage-interception');
    window.seen = [];
    const look = () => {
        const text = place.querySelector('.dp-text')?.textContent ?? '';
        if (text === window.seen.at(-1)?.[1]) return;
        requestAnimationFrame(() => window.seen.push([Date.now() / 1000, text]));
    };
    const changes = {subtree: true, childList: true, characterData: true};
    new MutationObserver(look).observe(place, changes);
}"""


def by_command(watch: Callable[..., None], home: Path, backend: str) -> list[float]:
    """`devpipe run` as a process of its own; seconds from the socket to whoever reads."""
    seen = Seen()
    with Loopback(streaming.three_stages()) as server:
        watch(home, server, backend, seen)
        return [delay for asked in server.chats for delay in delays(asked, seen)]


def by_panel(home: Path, backend: str) -> list[float]:
    """A panel in this process, which repaints twenty times a second at most."""
    with (
        Loopback(streaming.three_stages()) as server,
        closing_engine(home, server, backend) as engine,
    ):
        run = engine.start(PROMPT, pipeline="spoken", output="foreign")
        _, seen = streaming.watched(run)
        run.wait()
        return [
            delay
            for asked, stage in zip(server.chats, STAGES, strict=False)
            for delay in delays(asked, seen[stage])
        ]


@contextmanager
def closing_engine(home: Path, server: Loopback, backend: str) -> Iterator[Engine]:
    engine = Engine(
        settings=Settings.load(home, environ=server.environment(backend, tasks=WRITERS))
    )
    yield engine
    engine.close()


def by_page(mode: str, folder: Path) -> list[float]:
    """The dashboard in a headless browser, until a word is painted."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM, FLAGS, PATIENCE_MS, Server
    from tests.browser.test_dashboard import Dash

    with (
        Loopback([Answer(" ".join([IN_STAGE_2] * 3), latency=0.5, pause=0.04)]) as models,
        sync_playwright() as play,
    ):
        os.environ.update(models.environment("ollama"))
        server = Server(mode, streaming.streaming_workspace(folder / mode / "workspace"))
        page = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
        page.set_default_timeout(PATIENCE_MS)
        try:
            dash = Dash(page, server)
            dash.write("Your text", PROMPT)
            page.get_by_role("combobox", name="Attitude").select_option(label="Dada")
            page.evaluate(WATCH)
            dash.button("Run").click()
            dash.made()
            ahead = time.time() - time.monotonic()  # the page's clock has another beginning
            return delays(
                models.chats[-1],
                [(at - ahead, text) for at, text in page.evaluate("() => window.seen")],
            )
        finally:
            server.stop()


def told(name: str, measured: list[float]) -> None:
    found = figures(measured)
    print(
        f"{name:32} {found['median']:7.1f} ms   p95 {found['p95']:7.1f}   max {found['max']:7.1f}  "
        f" (bar: p95 under {BAR_MS})"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = streaming.streaming_workspace(Path(folder) / "workspace")
        for backend in streaming.BACKENDS:
            told(f"terminal, {backend}", by_command(streaming.on_a_terminal, home, backend))
            told(f"pipe, {backend}", by_command(streaming.through_a_pipe, home, backend))
            told(f"panel, {backend}", by_panel(home, backend))
        for mode in ("lab", "voila") if "--pages" in sys.argv else ():
            told(f"page, {mode}", by_page(mode, Path(folder)))


if __name__ == "__main__":
    main()
