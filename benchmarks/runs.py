"""What a run costs besides drawing: 1,000 offline runs in one process at 256 x 256, CPU and memory.

    python benchmarks/runs.py [RUNS]

Ours is measured with a backend that hands out answers made before; the drawing is measured apart,
on the same requests.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from devpipe import Engine, Settings
from devpipe.backends.base import Backend, Emit
from devpipe.offline.backend import Procedural
from devpipe.values import MediaRequest, MediaResult, TextRequest, TextResult

ASKED = {"pipeline": "dada", "output": "sketch", "text_seed": 1, "width": 256, "height": 256}
RECORDINGS = Path(__file__).parents[1] / "build" / "measured"
KEPT_S = 600
PROMPT = "drei kleine Vögel im Regen"


class Ready(Backend):
    """Asks the procedural backend once for each kind of request and gives its answer from
    then on.
    """

    procedural = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.drawer = Procedural(settings)
        self.text: TextResult | None = None
        self.media: MediaResult | None = None
        self.requests: list[MediaRequest] = []

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        self.text = self.text or await self.drawer.write(request, emit)
        return self.text

    async def make(self, request: MediaRequest, emit: Emit) -> MediaResult:
        if len(self.requests) < 100:
            self.requests.append(request)
        self.media = self.media or await self.drawer.make(request, emit)
        return self.media


def rss_mb() -> float:
    """Memory of this process now, in MB (Linux); its peak elsewhere."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


async def cpu_ms(engine: Engine, runs: int) -> float:
    """CPU milliseconds per run of everything in this process."""
    began = time.process_time()
    for seed in range(1, runs + 1):
        await engine.run(PROMPT, seed=seed, **ASKED)  # type: ignore[arg-type]
    return (time.process_time() - began) / runs * 1e3


async def drawing_ms(backend: Ready) -> float:
    """CPU milliseconds per picture of the drawing alone."""
    began = time.process_time()
    for request in backend.requests:
        await backend.drawer.make(request, lambda _: None)
    return (time.process_time() - began) / len(backend.requests) * 1e3


def fresh(parent: Path) -> Path:
    """A new folder for recordings.

    What measurements left KEPT_S ago and earlier is deleted after this one.

    ext4 does not use the inodes of files deleted in the last minutes and looks at each of them for
    every new file: where 8,000 files
    have just been deleted, making one costs 0.3 ms instead of 0.01.
    """
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


async def measure(runs: int) -> None:
    folder = fresh(RECORDINGS)
    settings = Settings.load(environ={"DEVPIPE_RECORDINGS": str(folder)})
    ready = Ready(settings)
    engine, whole = (
        Engine(settings=settings, backends={"procedural": ready}),
        Engine(settings=settings),
    )
    await cpu_ms(engine, 20)  # what is loaded once
    print(
        f"{runs} runs, engine and recorder  {await cpu_ms(engine, runs):6.2f} ms CPU per run  "
        " (bar: under 5)"
    )
    print(f"drawing one picture          {await drawing_ms(ready):6.2f} ms CPU")
    await cpu_ms(whole, 50)
    before = rss_mb()
    print(f"{runs} runs with drawing          {await cpu_ms(whole, runs):6.2f} ms CPU per run")
    print(f"memory grown by these        {rss_mb() - before:6.1f} MB   (bar: under 20)")
    engine.close()
    whole.close()
    for older in RECORDINGS.iterdir():
        if time.time() - older.stat().st_mtime > KEPT_S:
            shutil.rmtree(older)


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
