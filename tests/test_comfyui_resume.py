"""What becomes of a job at a ComfyUI server whose client dies, and is started again with
`resume`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engines import engine_in
from scripted_comfyui import Comfy, Play

from devpipe.analysis.verify import verify

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.skipif(os.name != "posix", reason="kills a process"),
]

SCRIPT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, 'tests')
from engines import engine_in
engine = engine_in(Path(sys.argv[1]), COMFYUI_URL=sys.argv[2], DEVPIPE_SAFETY='adult')
asyncio.run(engine.run('a cat', pipeline='passthrough', output='sd35_large', seed=7))
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Comfy]:
    """A server that runs a job of a client that was killed."""
    async with Comfy([Play(hold=asyncio.Event()), Play()]) as comfy:
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SCRIPT, str(tmp_path), comfy.url, cwd=Path(__file__).parents[1]
        )
        async with asyncio.timeout(60), comfy.changed:
            await comfy.changed.wait_for(lambda: comfy.running)
        run.kill()
        assert await run.wait() == -9
        yield comfy


async def release(server: Comfy) -> None:
    for one in server.running:
        assert one[4].hold is not None
        one[4].hold.set()
    async with server.changed:
        server.changed.notify_all()


async def resumed(server: Comfy, folder: Path) -> list[str]:
    """The ids that the one run's attempts had at the server, and that it is complete."""
    engine = engine_in(folder, COMFYUI_URL=server.url, DEVPIPE_SAFETY="adult")
    (recording,) = list(engine.recordings)
    resuming = engine.start_resumed(recording.id)
    async with asyncio.timeout(60), server.changed:
        looks = len(server.asked)
        await server.changed.wait_for(lambda: len(server.asked) > looks + 1)
    await release(server)
    run = await resuming
    engine.close()
    assert run.outcome == "completed" and len(run.artifacts) == 1 and verify(run.recording) == []
    return [attempt.started.request_id for attempt in run.summary.media_attempts]


async def test_a_job_that_still_runs_is_waited_for(server: Comfy, tmp_path: Path) -> None:
    ids = await resumed(server, tmp_path)
    assert (
        len(ids) == 2
        and set(ids) == {one["prompt_id"] for one in server.prompts()}
        and len(server.prompts()) == 1
    )


async def test_a_job_that_has_ended_meanwhile_is_fetched(server: Comfy, tmp_path: Path) -> None:
    await release(server)
    await server.until(lambda: server.history)
    ids = await resumed(server, tmp_path)
    assert len(server.prompts()) == 1 and set(ids) == set(server.history)


async def test_a_job_that_its_server_has_forgotten_is_sent_again(
    server: Comfy, tmp_path: Path
) -> None:
    await server.kill()
    await server.start()
    ids = await resumed(server, tmp_path)
    assert [one["prompt_id"] for one in server.prompts()] == ids and len(set(ids)) == 1
