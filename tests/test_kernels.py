"""devpipe on each ipykernel that people bring: VS Code, hubs and Binder images have their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient, KernelManager

KERNELS = Path(__file__).parents[1] / ".kernels"
VERSIONS = sorted(path.stem.removeprefix("kernels-") for path in Path(__file__).parent.glob("kernels-*.lock"))


@contextmanager
def kernel(version: str) -> Iterator[BlockingKernelClient]:
    """A client of a started kernel of this ipykernel version."""
    folder = KERNELS / f"ipykernel-{version}"
    assert folder.is_dir(), f"ipykernel {version} is not installed for the tests: make kernels"
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "PYTHONPATH": str(folder)})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def result(client: BlockingKernelClient, code: str) -> str:
    """The text of the value that the cell ends with; fails with the cell's error."""
    reply = client.execute_interactive(code, timeout=60, output_hook=(texts := []).append)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(m["content"]["data"]["text/plain"] for m in texts if m["msg_type"] == "execute_result")


@pytest.mark.parametrize("version", VERSIONS)
def test_kernel_of_each_version_runs(version: str) -> None:
    """A kernel of exactly this version starts beside our own packages and computes."""
    with kernel(version) as client:
        assert result(client, "import ipykernel; ipykernel.__version__") == repr(version)
        assert result(client, "1 + 1") == "2"
