"""Real pages: JupyterLab and Voila on a workspace of their own, in headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from devpipe.cli import new_workspace
from tests.stopping import Stop

SHOTS = Path(__file__).parents[2] / "shots"  # kept by CI, ignored by git
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
PATIENCE_MS = 60_000
NO_NEWS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}
# anywidget says so where its module took over 2 s to load; it is shown all the same once it is there
SLOW = "[anywidget] Failed to initialize model."
KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"


@dataclass
class Server:
    """A JupyterLab or Voila server on the notebooks of a workspace."""

    mode: str
    home: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None
    base: str = ""

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.mode}.log"

    def start(self) -> Server:
        """Start it and wait until it answers; nothing happens where it runs already."""
        if self.process is not None:
            return self
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(port), cwd=self.home, env=_private(self.home.parent / f"{self.mode}-home"), stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._wait()
        return self

    def _command(self, port: int) -> list[str]:
        if self.mode == "voila":
            options = [
                "--no-browser",
                "--Voila.ip=127.0.0.1",
                f"--port={port}",
                "--Voila.port_retries=0",
            ]
            return [sys.executable, "-m", "voila", str(self.home / "notebooks"), *options]
        options = [
            "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.home}", f"--IdentityProvider.token={self.token}", "--ServerApp.terminals_enabled=False",
            "--expose-app-in-browser", "--LabApp.extension_manager=readonly",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]  # fmt: skip
        return [sys.executable, "-m", "jupyterlab", *options]

    def _wait(self) -> None:
        assert self.process is not None
        probe = (
            f"{self.base}/api/status?token={self.token}"
            if self.mode == "lab"
            else f"{self.base}/voila/static/favicon.ico"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(900):
            assert self.process.poll() is None, (
                f"{self.mode} ended early:\n{self.log.read_text()[-3000:]}"
            )
            try:
                opener.open(probe, timeout=1).close()
                return
            except urllib.error.HTTPError as answer:  # an answer all the same
                answer.close()
                return
            except OSError:
                # a server that starts has no event to wait for: its port is asked until it answers
                time.sleep(0.1)
        raise AssertionError(f"{self.mode} did not answer:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def stop_of_runs(self) -> Stop:
        """What says how long the runs of its kernels go on after they are told to stop."""
        assert self.process is not None
        return Stop(self.home / "recordings", self.process.pid)

    def open(self, page: Page, notebook: str, *, theme: str = "light") -> None:
        """Open a notebook with all its cells run, or on their way."""
        if self.mode == "voila":
            page.goto(f"{self.base}/voila/render/{notebook}?theme={theme}")
            return
        page.goto(f"{self.base}/lab/tree/notebooks/{notebook}?token={self.token}&reset")
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for(
            timeout=PATIENCE_MS
        )
        page.wait_for_function(f"() => {KERNEL}?.status === 'idle'", timeout=PATIENCE_MS)
        self.wear(page, theme)
        self.command(page, "notebook:run-all-cells")

    def wear(self, page: Page, theme: str) -> None:
        """Turn JupyterLab light or dark, and wait until it is."""
        light = "true" if theme == "light" else "false"
        page.evaluate(
            "name => { window.jupyterapp.commands.execute('apputils:change-theme', {theme: name}) }",
            f"JupyterLab {theme.title()}",
        )
        page.locator(f"body[data-jp-theme-light={light}]").wait_for(
            state="attached", timeout=PATIENCE_MS
        )

    def command(self, page: Page, name: str) -> None:
        """Start a command of JupyterLab; not to be waited for here, a promise in `evaluate` has no
        time limit.
        """
        page.evaluate("name => { window.jupyterapp.commands.execute(name) }", name)

    def restart(self, page: Page) -> None:
        """Restart the notebook's kernel and wait until the new one is there."""
        again = (
            f"{KERNEL}.restart().then(() => {KERNEL}.requestKernelInfo()).then(() => {{"
            " window.restarted = true })"
        )
        page.evaluate(f"() => {{ window.restarted = false; {again} }}")
        # it has answered; its status may lag behind
        page.wait_for_function("() => window.restarted", timeout=PATIENCE_MS)


def _private(home: Path) -> dict[str, str]:
    """No setting, workspace or kernel of this machine's person gets in."""
    env = os.environ | {
        "HOME": str(home),
        "JUPYTER_PLATFORM_DIRS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "LC_ALL": "C.UTF-8",
    }
    env |= {
        f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    env |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    overrides = home / "config" / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(json.dumps(NO_NEWS))
    return env


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace as `devpipe init` makes it."""
    return new_workspace.create(tmp_path_factory.mktemp("browser") / "workspace")


@pytest.fixture(scope="session")
def servers(home: Path) -> Iterator[dict[str, Server]]:
    """Both servers, not started yet: that needs the network's guard to be open for a test."""
    both = {mode: Server(mode, home) for mode in ("lab", "voila")}
    yield both
    for server in both.values():
        server.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(
    chromium: Browser, servers: dict[str, Server], request: pytest.FixtureRequest
) -> Iterator[Page]:
    """An empty page.

    Whatever it shows at the end is kept as a screenshot, after a failure with its content and the
    logs.
    """
    context = chromium.new_context(viewport={"width": 1440, "height": 950})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    errors = [error for error in errors if error != SLOW]
    SHOTS.mkdir(exist_ok=True)
    name = request.node.name.replace("[", "-").replace("]", "")
    page.screenshot(path=SHOTS / f"{name}.png")
    if request.node.stash.get(FAILED, False):
        (SHOTS / f"{name}.html").write_text(page.content())
        for server in servers.values():
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(server.log, SHOTS / f"{name}-{server.mode}.log")
    context.close()
    assert not errors, errors


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report
