"""How long a waiting cell's run goes on after an interrupt, on each ipykernel of the tests (bar:
under 1 s, until it is on disk).

python benchmarks/interrupts.py [ROUNDS]
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

from devpipe.cli import new_workspace
from tests.test_kernels import BEGIN, LONG, UNTIL_DRAWING, VERSIONS, Kernel

WAITING = ("await run", "run.wait()", "async for happening in run: pass")


def measured(kernel: Kernel, waiting: str) -> float:
    """Seconds by the recording's own times."""
    kernel.run(f"run = {LONG}")
    kernel.run(UNTIL_DRAWING)
    return kernel.interrupt(kernel.begin(waiting)).wall_s


def main(rounds: int) -> None:
    for version in VERSIONS:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            contextlib.closing(
                Kernel(version, new_workspace.create(Path(folder) / "workspace"))
            ) as kernel,
        ):
            kernel.run(BEGIN)
            for waiting in WAITING:
                taken = [1000 * measured(kernel, waiting) for _ in range(rounds)]
                print(
                    f"ipykernel {version:8} {waiting:34} {statistics.median(taken):6.0f} ms   max"
                    f" {max(taken):6.0f}   (bar: under 1000)"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
