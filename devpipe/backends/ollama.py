"""Models on a machine of one's own, by Ollama's native API.

Its OpenAI imitation can set no window, and loses errors in mid-stream.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from devpipe.backends.base import Health
from devpipe.backends.chat import (
    GLANCE,
    LONGEST_ANSWER,
    Chat,
    Writing,
    as_judge,
    messages,
    parts_schema,
)
from devpipe.backends.http import CHAT, Answer, Http, Timeouts, base_url
from devpipe.backends.streams import fields, items, whole
from devpipe.config.settings import Settings
from devpipe.errors import BackendError, CutOff, Rejected
from devpipe.text.chatter import ending_of
from devpipe.values import LOCAL_COST, Boundary, TextRequest, TextResult

TEMPLATE = 256  # tokens for what the model's template puts around the messages
# One size for all short requests: another window means that the model is loaded again.
SMALLEST_WINDOW = 8192
_ELSEWHERE = ("remote_host", "remote_model")


@dataclass(frozen=True, slots=True)
class _Model:
    """What the server says of a model.

    `window`: tokens it was trained to read; 0 where nobody says.
    """

    digest: str
    window: int
    thinks: bool
    remote: bool  # the server forwards requests for it to somebody else
    asked_at: float


class Ollama(Chat):
    """Ollama on this machine, in the house, or at ollama.com (OLLAMA_HOST)."""

    name = "ollama"
    path = "/api/chat"
    start = "Start it with `ollama serve`, or set OLLAMA_HOST to where it runs."
    # What the server said of a model holds so long: it can be pulled anew while we work.
    fresh_s = 30.0

    def __init__(self, settings: Settings, *, transport: object | None = None) -> None:
        super().__init__(settings)
        told = (
            settings.url("ollama", "127.0.0.1")
            .removesuffix("/")
            .removesuffix("/api")
            .removesuffix("/v1")
        )
        cloud = told.rpartition("://")[2] in ("ollama.com", "www.ollama.com")
        url = "https://ollama.com" if cloud else base_url(told, 11434, variable="OLLAMA_HOST")
        self.http = Http(
            url,
            name="Ollama",
            key=settings.key("OLLAMA_API_KEY") or "" if cloud else "",
            key_name="OLLAMA_API_KEY",
            transport=transport,
            start=self.start,
            direct=self.declared_local,
        )
        # None: a server here may pass a model's texts on to a cloud, and `boundary` tells which
        self.paid = True if super().boundary("") != "local" else None
        self._models: dict[str, _Model] = {}

    def boundary(self, model: str) -> Boundary:
        """As far as the server is; the world for a model that it says it runs elsewhere."""
        tag = model.rpartition(":")[2].lower()
        known = self._models.get(model)
        if tag == "cloud" or tag.endswith("-cloud") or (known and known.remote):
            return "world"
        return super().boundary(model)

    async def digest(self, model: str) -> str:
        """The digest of the model's files, as `ollama list` shows it."""
        return (await self._model(model)).digest

    async def _model(self, name: str) -> _Model:
        known = self._models.get(name)
        if known is None or time.monotonic() - known.asked_at > self.fresh_s:
            self._models[name] = known = await self._looked_up(name)
        return known

    async def _looked_up(self, name: str) -> _Model:
        shown = await self.http.post_json("/api/show", {"model": name}, timeouts=CHAT)
        listed = await self._listed(CHAT)
        info = fields(shown.get("model_info"))
        entry = listed.get(name) or listed.get(f"{name}:latest") or {}
        window = whole(info.get(f"{info.get('general.architecture')}.context_length")) or 0
        remote = any(said.get(field) for said in (shown, entry) for field in _ELSEWHERE)
        return _Model(
            digest=str(entry.get("digest", "")),
            window=window,
            thinks="thinking" in items(shown.get("capabilities")),
            remote=remote,
            asked_at=time.monotonic(),
        )

    async def _listed(self, timeouts: Timeouts) -> dict[str, Mapping[str, Any]]:
        found = map(
            fields, items((await self.http.get_json("/api/tags", timeouts=timeouts)).get("models"))
        )
        named = [(model.get("name") or model.get("model"), model) for model in found]
        return {name: model for name, model in named if isinstance(name, str)}

    async def body(self, request: TextRequest) -> dict[str, Any]:
        """The request in Ollama's words.

        Raises Rejected where it cannot fit into the model's window.
        """
        model = await self._model(request.model)
        self.keep_inside(request)  # now that it is known whether the server forwards it
        asked = messages(request)
        options: dict[str, object] = {"seed": request.seed}
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if request.stop:
            options["stop"] = list(request.stop)
        body: dict[str, Any] = {"model": request.model, "messages": asked, "stream": True}
        body["options"] = options | _room(request, asked, model.window)
        body["shift"] = False  # newer servers then say 400 instead of answering half a prompt
        if model.thinks:
            body["think"] = False
        if request.parts:
            body["format"] = parts_schema(request.parts)
        return body

    def most_tokens(self, body: Mapping[str, Any], request: TextRequest) -> int:
        """Its num_predict: the server counts what the model thinks, too."""
        return int(body["options"]["num_predict"])

    async def chunks(self, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        """The objects of the stream, or the one object of a server that does not stream."""
        async for chunk in answer.ndjson():
            yield chunk
            if chunk.get("done") is True:
                return

    def read(self, chunk: dict[str, Any], writing: Writing) -> None:
        """One object of the stream."""
        if chunk.get("error"):
            raise self.failed(chunk)
        self._check(chunk, writing.request)
        writing.hear({"response": chunk.get("response")} | dict(fields(chunk.get("message"))))
        writing.add(fields(chunk.get("message")).get("content", chunk.get("response")))
        writing.model = str(chunk.get("model") or writing.model)
        if chunk.get("done") is not True:
            return
        writing.input_tokens = whole(chunk.get("prompt_eval_count"))
        writing.output_tokens = whole(chunk.get("eval_count"))
        reason = chunk.get("done_reason")
        if not ending_of(str(reason or "")):
            said = f"with {reason!r}" if reason else "without a reason"
            raise CutOff(
                f"Ollama ended its answer {said}.", hint="Try again, or choose another model."
            )
        writing.finish = str(reason)

    def _check(self, chunk: Mapping[str, Any], request: TextRequest) -> None:
        """Raises Rejected where somebody else answers than was asked."""
        if request.boundary != "world" and any(chunk.get(field) for field in _ELSEWHERE):
            raise Rejected(
                "Ollama had this answered elsewhere.",
                hint="Choose a model that runs here: `ollama list`.",
            )
        as_judge(fields(chunk.get("message")), request)
        name = str(chunk.get("model") or request.model)
        is_same = name.removesuffix(":latest") == request.model.removesuffix(":latest")
        if request.task == "judge" and not is_same:
            raise Rejected(
                f"Ollama let {name} judge instead of {request.model}.",
                hint="Try again, or choose another judge.",
            )

    def unfinished(self, error: BackendError, writing: Writing) -> None:
        """Says how to get a model that is not there."""
        if error.vendor and error.vendor.status == 404 and not writing.begun:
            problem = error.message
            hint = "Its address may be wrong: set OLLAMA_HOST to where Ollama runs."
            if "model" in error.vendor.message.lower():
                name = writing.request.model
                problem = f"Ollama has no model {name!r}."
                hint = f"Run `ollama pull {name}`."
            raise Rejected(problem, hint=hint, vendor=error.vendor) from error
        super().unfinished(error, writing)

    def finished(self, writing: Writing) -> TextResult:
        """The result.

        Raises Rejected where an older server read only a part of the prompt, which it does without
        a word.
        """
        request = writing.request
        model = self._models[request.model]
        asked = messages(request)
        num_ctx = _room(request, asked, model.window)["num_ctx"]
        if _was_cut(writing.input_tokens, _size(asked), num_ctx):
            problem = (
                f"{request.model} has not read the whole prompt: it is longer than its window."
            )
            raise Rejected(problem, hint="Shorten the text, or choose a model that reads more.")
        if self.boundary(request.model) == "local":
            writing.cost = LOCAL_COST
        return writing.result(model.digest)

    async def look(self) -> Health:
        """Its version, and whether it has the models that the settings name."""
        about = await self.http.get_json("/api/version", timeouts=GLANCE)
        version = str(about.get("version", ""))
        listed = await self._listed(GLANCE)
        missing = [
            name for name in self.wanted() if name not in listed and f"{name}:latest" not in listed
        ]
        if not missing and not listed:
            missing = ["mistral-nemo"]  # any will do
        pulls = " and ".join(f"`ollama pull {name}`" for name in missing)
        hint = f"Run {pulls}." if pulls else ""
        return Health(not pulls, self.http.url, tuple(sorted(listed)), hint, version)


def _size(asked: list[dict[str, str]]) -> int:
    """Bytes of the messages: no tokenizer makes more tokens of them."""
    return sum(len(message["content"].encode()) for message in asked)


def _room(request: TextRequest, asked: list[dict[str, str]], window: int) -> dict[str, int]:
    """num_ctx and num_predict: what surely holds a short prompt and most likely a long one.

    In steps, within the model's window.
    """
    size = _size(asked)
    answer = min(request.max_tokens or LONGEST_ANSWER, window // 2 or LONGEST_ANSWER)
    need = min(size, 8000 + size // 3) + TEMPLATE + answer
    step = max(SMALLEST_WINDOW, 1 << (need - 1).bit_length())
    num_ctx = min(step, window or step)
    if size // 4 + TEMPLATE + answer > num_ctx:
        possible = max(0, 3 * (num_ctx - TEMPLATE - answer) - (size - len(request.text.encode())))
        problem = (
            f"{request.model} reads about {possible} characters at once; the text has"
            f" {len(request.text)}."
        )
        raise Rejected(problem, hint="Shorten it, or choose a model that reads more.")
    return {"num_ctx": num_ctx, "num_predict": answer}


def _was_cut(count: int | None, size: int, num_ctx: int) -> bool:
    """Whether the tokens that were read show a prompt cut to the window.

    Since 0.30 it may be cut to the half of it that follows `num_keep`.
    """
    if count is None:
        return size >= num_ctx
    halves = {num_ctx - (num_ctx - keep) // 2 for keep in (4, 5)}
    return count >= num_ctx - 1 or (size >= num_ctx and count in halves)
