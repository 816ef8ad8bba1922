"""What a run costs besides drawing: 1,000 offline runs in one process, CPU and memory.

    python benchmarks/runs.py [RUNS]

The drawing is measured apart: the same requests are drawn again without an engine, and the difference is ours.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

from devpipe import Engine, Settings
from devpipe.backends.procedural import Procedural
from devpipe.events import AttemptStarted
from devpipe.values import MediaRequest, TextRequest

SIZE = {"width": 256, "height": 256}


def rss_mb() -> float:
    """Memory of this process now, in MB (Linux: /proc; elsewhere its peak)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def ignore(_: object) -> None:
    """Nobody follows."""


async def draw_again(settings: Settings, requests: list[AttemptStarted]) -> float:
    """CPU seconds of the backend alone for these attempts."""
    backend = Procedural(settings)
    began = time.process_time()
    for asked in requests:
        request = dict(asked.request)
        if asked.task == "media":
            request.pop("seed")
            await backend.make(MediaRequest(**request | {"seed": asked.seed or 1}), ignore)
        else:
            await backend.write(TextRequest(task=asked.task, seed=asked.seed or 1, **request), ignore)  # type: ignore[arg-type]
    return time.process_time() - began


async def measure(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.load(environ={"DEVPIPE_RECORDINGS": folder})
        engine = Engine(settings=settings)
        for seed in range(1, 51):  # everything that is loaded once
            await engine.run("drei kleine Vögel im Regen", pipeline="dada", seed=seed, text_seed=1, **SIZE)
        memory, cpu, wall, requests = rss_mb(), time.process_time(), time.perf_counter(), []
        for seed in range(1, runs + 1):
            run = await engine.run("drei kleine Vögel im Regen", pipeline="dada", seed=seed, text_seed=1, **SIZE)
            requests += [one.event for one in run.events if isinstance(one.event, AttemptStarted)]
        cpu, wall, grown = time.process_time() - cpu, time.perf_counter() - wall, rss_mb() - memory
        drawing = await draw_again(settings, requests)
        engine.close()
        print(f"runs                      {runs}")
        print(f"wall per run              {wall / runs * 1e3:.2f} ms")
        print(f"CPU per run, all          {cpu / runs * 1e3:.2f} ms")
        print(f"CPU per run, the backend  {drawing / runs * 1e3:.2f} ms")
        print(f"CPU per run, our share    {(cpu - drawing) / runs * 1e3:.2f} ms   (bar: under 5)")
        print(f"memory grown              {grown:.1f} MB   (bar: under 20)")


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
