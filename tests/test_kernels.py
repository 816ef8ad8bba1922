"""devpipe on each ipykernel that people bring: VS Code, hubs and Binder images have their own.

What differs between them is where widget callbacks run, and when: in the main thread after the
cell, in it during an awaiting cell, or in
a thread of their own (facts: ipykernel 6, 7.0 to 7.3, 7.4).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client import BlockingKernelClient, KernelManager

from devpipe.cli import new_workspace
from devpipe.record.reader import Recordings
from tests.stopping import Stop, Stopped

KERNELS = Path(__file__).parents[1] / ".kernels"
VERSIONS = sorted(
    path.stem.removeprefix("kernels-") for path in Path(__file__).parent.glob("kernels-*.lock")
)
BEGIN = "from devpipe import Engine; engine = Engine(); small = {'width': 64, 'height': 64}"
LONG = "engine.start('ein Boot', output='sketch_video', frames=96, width=768, height=768)"
UNTIL_DRAWING = """
async for happening in run:
    if getattr(getattr(happening, "event", None), "task", "") == "media":
        break
"""


class Kernel:
    """A started kernel of one ipykernel version, in a workspace of its own."""

    def __init__(self, version: str, home: Path) -> None:
        folder = KERNELS / f"ipykernel-{version}"
        assert folder.is_dir(), f"ipykernel {version} is not installed for the tests: make kernels"
        self.home = home
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env={**os.environ, "PYTHONPATH": str(folder)}, cwd=str(home))
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> str:
        """The text of the value that the cell ends with; fails with the cell's error."""
        reply, messages = self.settle(self.client.execute(code))
        assert reply["status"] == "ok", "\n".join(reply["traceback"])
        return "".join(
            m["content"]["data"]["text/plain"]
            for m in messages
            if m["msg_type"] == "execute_result"
        )

    def settle(
        self, cell: str, *, timeout: float = 60
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Wait for the end of a cell by the id of its request: its reply, and what it sent."""
        messages = []
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") == cell:
                messages.append(message)
                if (
                    message["msg_type"] == "status"
                    and message["content"]["execution_state"] == "idle"
                ):
                    break
        while (reply := self.client.get_shell_msg(timeout=timeout))["parent_header"][
            "msg_id"
        ] != cell:
            pass
        return reply["content"], messages

    def begin(self, code: str) -> str:
        """Send a cell and wait until it runs, past its print, which reaches us a moment later; its
        id.
        """
        cell: str = self.client.execute(f"print('begun')\n{code}")
        while "begun" not in str(
            (message := self.client.get_iopub_msg(timeout=60))["content"].get("text")
        ):
            assert message["msg_type"] != "error"
        return cell

    def click(self, model_id: str) -> None:
        """What a page sends when a button is clicked."""
        content = {"comm_id": model_id, "data": {"method": "custom", "content": {"event": "click"}}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def stop(self) -> Stop:
        """The beginning of a stop, which says how long it took."""
        return Stop(self.home / "recordings", self.manager.provisioner.pid)

    def interrupt(self, cell: str) -> Stopped:
        """Interrupt a cell that waits for the latest run, and wait until all runs are cancelled on
        disk.
        """
        stop = self.stop()
        self.manager.interrupt_kernel()
        reply, _ = self.settle(cell)
        assert reply.get("ename") in ("KeyboardInterrupt", "CancelledError"), reply
        stopped = stop.over()  # the cell may end before
        assert {run.state for run in stopped.runs} == {"cancelled"}
        return stopped

    def outcomes(self) -> list[str]:
        """The states of all runs on disk, in alphabetical order."""
        return sorted(run.state for run in Recordings(self.home / "recordings"))

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(params=VERSIONS)
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(request.param, new_workspace.create(tmp_path / "workspace"))
    assert kernel.run("import ipykernel; ipykernel.__version__") == repr(request.param)
    yield kernel
    kernel.close()


def test_cells_callbacks_and_magics_make_runs(kernel: Kernel) -> None:
    """An awaiting cell, a gathering one, a click between cells and one during an awaiting cell, and
    the magic: each makes its runs.
    """
    kernel.run(BEGIN)
    assert kernel.run("run = await engine.run('ein Kreis', **small); run.outcome") == "'completed'"
    gathered = (
        "import asyncio; [r.outcome for r in await asyncio.gather(*[engine.run('ein Kreis', seed=s,"
        " **small) for s in (1, 2)])]"
    )
    assert kernel.run(gathered) == "['completed', 'completed']"
    kernel.run(
        "from devpipe.widgets import Dashboard; d = Dashboard(engine); d.form.texts['prompt'].value"
        " = 'ein Haus'"
    )
    button = json.loads(kernel.run("d.buttons['run'].model_id").replace("'", '"'))
    kernel.click(button)
    assert kernel.run("d.run.wait().outcome, d.panel.alert.value") == "('completed', '')"
    cell = kernel.begin(f"first = d.run; other = await {LONG.replace('96', '12')}")
    kernel.click(button)
    assert kernel.settle(cell)[0]["status"] == "ok"
    assert kernel.run("d.run is not first and d.run.wait().outcome") == "'completed'"
    kernel.run("%load_ext devpipe")
    assert kernel.run(
        "%%intercept dada --seed 7 --set width=64 --set height=64\nein Kreis\n"
    ).startswith("Run(dada > sketch, seed 7, completed")
    assert kernel.outcomes() == ["completed"] * 7


def test_interrupting_a_waiting_cell_cancels_its_run(kernel: Kernel) -> None:
    """However it waits: within a second the work has stopped and `cancelled` is on disk, and the
    kernel goes on.
    """
    kernel.run(f"{BEGIN}; import devpipe; devpipe.load_ipython_extension(get_ipython())")
    for waiting in ("await run", "run.wait()", "async for happening in run: pass"):
        kernel.run(f"run = {LONG}")
        kernel.run(UNTIL_DRAWING)
        assert kernel.interrupt(kernel.begin(waiting)).within_s < 1, waiting
    cell = kernel.client.execute(
        "%%intercept dada -o sketch_video --set frames=96 --set width=768 --set height=768\nein"
        " Boot\n"
    )
    while "Stage 4" not in str(kernel.client.get_iopub_msg(timeout=60)["content"]):
        pass
    assert kernel.interrupt(cell).within_s < 1
    assert kernel.run("(await engine.run('ein Kreis', **small)).outcome") == "'completed'"
    assert kernel.outcomes() == ["cancelled"] * 4 + ["completed"]


@pytest.mark.parametrize("kernel", VERSIONS[-1:], indirect=True)
def test_a_run_that_goes_on_after_it_was_told_to_stop_is_caught(kernel: Kernel) -> None:
    """One that works for another second and a half takes more than a second, by every measure."""
    kernel.run(BEGIN)
    kernel.run(f"import asyncio, time; run = {LONG}")
    kernel.run(UNTIL_DRAWING)
    stop = kernel.stop()
    kernel.run(
        "until = time.process_time() + 1.5\nwhile time.process_time() < until: await"
        " asyncio.sleep(0.05)\nrun.cancel()"
    )
    stopped = stop.over()
    assert [run.state for run in stopped.runs] == ["cancelled"] and stopped.within_s > 1
