"""Clients of ComfyUI that do what others did before, each with what it then tells its user."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import httpx
from scripted_comfyui import Comfy
from websockets.asyncio.client import connect

HANGS_S = 0.4
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
    },
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "naive"}},
}


class Naive:
    """A socket and an HTTP client, as tutorials use them."""

    def __init__(self, server: Comfy) -> None:
        self.server, self.id, self.me = server, str(uuid.uuid4()), uuid.uuid4().hex
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.http = await self._open.enter_async_context(
            httpx.AsyncClient(base_url=self.server.url, timeout=5)
        )
        self.socket = await self._open.enter_async_context(
            connect(f"ws{self.server.url[4:]}/ws?clientId={self.me}", max_queue=None)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def post(self, graph: Any = GRAPH, **more: Any) -> httpx.Response:
        return await self.http.post(
            "/prompt", json={"prompt": graph, "prompt_id": self.id, "client_id": self.me} | more
        )

    async def events(self) -> AsyncIterator[tuple[str, Any]]:
        async for message in self.socket:
            if isinstance(message, str):
                told = json.loads(message)
                yield told["type"], told["data"]

    async def entry(self) -> Any:
        return (await self.http.get(f"/history/{self.id}")).json().get(self.id)

    async def queued(self) -> bool:
        return self.id in (await self.http.get("/queue")).text

    async def fetch(self) -> str:
        """The status of the file's answer, and its bytes."""
        answer = await self.http.get(
            "/view", params=(await self.entry())["outputs"]["9"]["images"][0]
        )
        return f"{answer.status_code} {answer.content.hex()}"


async def said(
    server: Comfy, client: Callable[[Naive], Awaitable[str]], *, patience: float = HANGS_S
) -> str:
    """What such a client tells its user: `hangs` where it never says anything, the name of the
    exception that it did not expect.
    """
    async with Naive(server) as naive:
        try:
            async with asyncio.timeout(patience):
                return await client(naive)
        except TimeoutError:
            return "hangs"
        except Exception as error:  # whatever kind these clients die of is what the tests compare
            return type(error).__name__


async def waits_for_the_mark(naive: Naive) -> str:
    await naive.post()
    async for kind, data in naive.events():
        if kind == "executing" and data["node"] is None:
            return "completed"
    return "the socket ended"


async def waits_without_a_client_id(naive: Naive) -> str:
    await naive.http.post("/prompt", json={"prompt": GRAPH, "prompt_id": naive.id})
    async for kind, data in naive.events():
        if kind == "executing" and data["node"] is None:
            return "completed"
    return "the socket ended"


async def looks_once_after_the_success(naive: Naive) -> str:
    await naive.post()
    async for kind, _ in naive.events():
        if kind == "execution_success":
            return "completed" if await naive.entry() else "lost"
    return "the socket ended"


async def reads_the_history_before_the_queue(naive: Naive) -> str:
    await naive.post()
    while not await naive.entry():
        if not await naive.queued():
            return "lost"
    return "completed"


async def waits_for_an_empty_queue(naive: Naive) -> str:
    await naive.post()
    async for kind, data in naive.events():
        if kind == "status" and data["status"]["exec_info"]["queue_remaining"] == 0:
            return "completed" if naive.id in naive.server.history else "completed, and it runs"
    return "the socket ended"


async def polls_the_history_for_ever(naive: Naive) -> str:
    await naive.post()
    while not await naive.entry():
        await asyncio.sleep(0.01)
    return "completed"


async def takes_what_is_not_queued_for_done(naive: Naive) -> str:
    await naive.post()
    while await naive.queued():
        await asyncio.sleep(0.01)
    return "completed"


async def asks_for_the_same_again(naive: Naive) -> str:
    await waits_for_the_mark(naive)
    naive.server.files.clear()
    naive.id = str(uuid.uuid4())
    await waits_for_the_mark(naive)
    return (await naive.fetch())[:3]


async def keeps_the_name_only(naive: Naive) -> str:
    """Another's prompt runs between the end of its own and the look at the file, which somebody has
    tidied away.
    """
    await waits_for_the_mark(naive)
    mine = await naive.fetch()
    naive.server.files.clear()
    other = {**GRAPH, "1": {**GRAPH["1"], "inputs": {"color": 2}}}
    await naive.http.post("/prompt", json={"prompt": other, "prompt_id": "somebody's"})
    await naive.server.until(lambda: "somebody's" in naive.server.history)
    now = await naive.fetch()
    return "somebody else's picture" if now[:3] == "200" and now != mine else "completed"


async def saves_where_the_person_says(naive: Naive) -> str:
    await naive.post(
        {
            **GRAPH,
            "9": {
                **GRAPH["9"],
                "inputs": {"images": ["1", 0], "filename_prefix": "/home/me/picture"},
            },
        }
    )
    await naive.server.until(lambda: naive.id in naive.server.history)
    return str((await naive.entry())["status"]["status_str"])


async def reads_every_answer_as_its_prompt(naive: Naive) -> str:
    return str((await naive.post()).json()["prompt_id"])


async def sends_an_origin(naive: Naive) -> str:
    return str((await naive.http.get("/queue", headers={"Origin": "http://a-page.example"})).json())


async def sends_a_big_picture(naive: Naive) -> str:
    return str(
        (
            await naive.http.post(
                "/upload/image", files={"image": ("a.png", bytes(2000), "image/png")}
            )
        ).json()["name"]
    )


async def shows_what_the_server_says(naive: Naive) -> str:
    await naive.post()
    await naive.server.until(lambda: naive.id in naive.server.history)
    told = (await naive.entry())["status"]["messages"][-1][1]
    return (
        "a path of the server"
        if "/srv/" in told["exception_message"] + "".join(told["traceback"])
        else "an error"
    )


async def takes_what_is_listed_for_running(naive: Naive) -> str:
    await naive.post()
    async for kind, data in naive.events():
        if kind == "progress_state" and not data["nodes"]:
            return "completed"
    return "the socket ended"


async def counts_the_states(naive: Naive) -> str:
    await naive.post()
    count = 0
    async for kind, data in naive.events():
        count += kind == "progress_state"
        if kind == "executing" and data["node"] is None:
            return f"step {count} of {len(GRAPH)}"
    return "the socket ended"


async def ignores_what_comes_with_200(naive: Naive) -> str:
    (await naive.post()).raise_for_status()
    await naive.server.until(lambda: naive.id in naive.server.history)
    return str((await naive.entry())["status"]["status_str"])


async def believes_one_look(naive: Naive) -> str:
    await naive.post()
    return "running" if await naive.queued() else "completed" if await naive.entry() else "lost"


async def reconnects_under_its_id(naive: Naive) -> str:
    await naive.post()
    await naive.socket.wait_closed()
    naive.id = str(uuid.uuid4())
    async with connect(f"ws{naive.server.url[4:]}/ws?clientId={naive.me}") as naive.socket:
        return await waits_for_the_mark(naive)
