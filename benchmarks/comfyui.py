"""What a prompt costs us at a real ComfyUI: 200 model-free prompts, 8 at a time; our processor
time, and time to the bytes.

python benchmarks/comfyui.py [URL]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

from devpipe import Settings
from devpipe.comfyui.backend import ComfyUI
from devpipe.values import Binding, MediaRequest, Workflow

GRAPH = Workflow(
    {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    },
    {"seed": (Binding("1", "color"),)},
)
COUNT, AT_ONCE, LIMIT_MS = 200, 8, 10.0


async def measured(url: str) -> tuple[float, list[float]]:
    """Seconds of processor time for all, and of waiting for each while nothing else runs."""
    client, gate = (
        ComfyUI(Settings.load(Path(__file__).parents[1], environ={"COMFYUI_URL": url})),
        asyncio.Semaphore(AT_ONCE),
    )
    first = time.time_ns() % 10_000_000

    async def one(seed: int) -> float:
        async with gate:
            began = time.perf_counter()
            result = await client.make(
                MediaRequest("image", {}, workflow=GRAPH, seed=seed), lambda _: None
            )
            assert len(result.media) == 1
            return time.perf_counter() - began

    alone = [await one(first + at) for at in range(50)][10:]
    began = time.process_time()
    await asyncio.gather(*(one(first + at) for at in range(1000, 1000 + COUNT)))
    used = time.process_time() - began
    await client.close()
    return used, alone


def main() -> int:
    used, alone = asyncio.run(
        measured(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8188")
    )
    each = used * 1000 / COUNT
    print(f"{COUNT} prompts, {AT_ONCE} at a time: {each:.1f} ms of CPU each (limit {LIMIT_MS:.0f})")
    print(
        f"one at a time: {statistics.median(alone) * 1000:.1f} ms from the call to the bytes"
        " (median)"
    )
    return each >= LIMIT_MS


if __name__ == "__main__":
    sys.exit(main())
