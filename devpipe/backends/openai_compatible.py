"""Whatever speaks OpenAI's chat completions: llama.cpp, vLLM, LM Studio, OpenAI itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from devpipe.backends.base import Health
from devpipe.backends.chat import (
    GLANCE,
    LONGEST_ANSWER,
    LONGEST_THOUGHT,
    Chat,
    Writing,
    as_judge,
    messages,
    parts_schema,
)
from devpipe.backends.http import Answer, Http, base_url
from devpipe.backends.streams import fields, items, json_object, whole
from devpipe.config.settings import Settings
from devpipe.errors import BackendError, Rejected
from devpipe.values import LOCAL_COST, Boundary, Cost, TextRequest

_OPENAI: Mapping[str, Boundary] = {"api.openai.com": "world", "eu.api.openai.com": "eu"}
_URL = "DEVPIPE_OPENAI_COMPATIBLE_URL"


class OpenAICompatible(Chat):
    """The server at DEVPIPE_OPENAI_COMPATIBLE_URL or OPENAI_BASE_URL; without either, llama.cpp's
    own port on this machine.
    """

    name = "openai_compatible"
    path = "/chat/completions"
    start = f"Start a server there (llama-server, `vllm serve`, LM Studio), or set {_URL}."

    def __init__(self, settings: Settings, *, transport: object | None = None) -> None:
        super().__init__(settings)
        told = settings.url(self.name, "")
        url = base_url(told or "127.0.0.1", 8080, variable=_URL)
        parts = urlsplit(url)
        self.key = ""
        if told:  # whoever listens on a default port gets no key
            self.key = settings.key("OPENAI_API_KEY") or ""
        if not parts.path:
            url += "/v1"
        self.http = Http(
            url,
            name=f"The server at {parts.hostname}",
            key=self.key,
            key_name="OPENAI_API_KEY",
            transport=transport,
            start=self.start,
            direct=self.declared_local,
        )
        self.region = _OPENAI.get(parts.hostname or "")
        self.paid = self.boundary("") != "local"
        self._is_openai = self.region is not None
        self._tells_usage = True

    async def body(self, request: TextRequest) -> dict[str, Any]:
        """The request as chat completions spell it."""
        schema = {"name": "parts", "strict": True, "schema": parts_schema(request.parts)}
        wanted = {
            "model": request.model or "default",
            "messages": messages(request),
            "stream": True,
            "seed": request.seed,
            "stream_options": {"include_usage": True} if self._tells_usage else None,
            "temperature": request.temperature,
            "stop": list(request.stop) or None,
            **self._longest(request),
            "response_format": (
                {"type": "json_schema", "json_schema": schema} if request.parts else None
            ),
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _longest(self, request: TextRequest) -> dict[str, int]:
        """How many tokens the answer may have, under the name that the server knows."""
        longest = request.max_tokens or LONGEST_ANSWER  # without an end, some never stop
        if self._is_openai:  # what it thinks counts there, too
            return {"max_completion_tokens": longest + LONGEST_THOUGHT}
        return {"max_tokens": longest}

    def most_tokens(self, body: Mapping[str, Any], request: TextRequest) -> int:
        """Its limit under either name; without one, where no provider heeds it, the longest."""
        longest = (request.max_tokens or LONGEST_ANSWER) + LONGEST_THOUGHT
        return int(body.get("max_tokens") or body.get("max_completion_tokens") or longest)

    async def ask(self, body: Mapping[str, Any], writing: Writing) -> None:
        """Send it; once more without `stream_options` to a server of one's own that lacks them."""
        try:
            await super().ask(body, writing)
        except Rejected as error:
            if self.paid or writing.begun or not _lacks_stream_options(error):
                raise
            self._tells_usage = False
            simpler = {name: value for name, value in body.items() if name != "stream_options"}
            await super().ask(simpler, writing)

    async def chunks(self, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        """The events of the stream; some servers end it with [DONE], some just end it."""
        async for event in answer.sse():
            if event.data.strip() == "[DONE]":
                return
            if event.event == "error":
                yield _vendors(event.data)
            else:
                yield json_object(event.data, name=self.http.name)

    def read(self, chunk: dict[str, Any], writing: Writing) -> None:
        """One chunk, or a whole answer; the last chunk may hold the usage and no choice."""
        choices = items(chunk.get("choices"))
        first = fields(choices[0]) if choices else {}
        said = fields(first.get("delta") or first.get("message"))
        writing.hear({**said, "thoughts": _thoughts(said.get("content"))})
        writing.add(_text(said.get("content")))
        writing.refused += str(said.get("refusal") or "")
        if _is_error(chunk, first):
            raise self.failed(chunk)
        if len(choices) > 1 or first.get("index") not in (None, 0):
            raise Rejected(
                f"{self.http.name} sent more than the one answer that was asked for.",
                hint="Choose another model.",
            )
        as_judge(said, writing.request)
        writing.model = str(chunk.get("model") or writing.model)
        self._read_end(first.get("finish_reason"), writing)
        usage = fields(chunk.get("usage"))
        if usage:
            writing.input_tokens = whole(usage.get("prompt_tokens"))
            writing.output_tokens = whole(usage.get("completion_tokens"))
        writing.cost = self.cost(usage, writing.cost)

    def _read_end(self, finish: object, writing: Writing) -> None:
        """Why the answer ended, where this chunk says so."""
        writing.finish = str(finish or writing.finish)
        writing.begun = writing.begun or bool(writing.finish)
        if finish == "content_filter" and not writing.refused:
            writing.refused = "The provider's content filter stopped this answer."

    def cost(self, usage: Mapping[str, Any], known: Cost) -> Cost:
        """What it cost, as far as this part of the answer tells."""
        return known if self.paid else LOCAL_COST

    async def look(self) -> Health:
        """Which models it serves."""
        if self._is_openai and not self.key:
            return Health(
                ready=False, detail=f"{self.http.url}: no key.", hint="Set OPENAI_API_KEY."
            )
        served = items((await self.http.get_json("/models", timeouts=GLANCE)).get("data"))
        models = ids(served)
        owners = [model.get("owned_by") for model in map(fields, served)]
        named = [owner for owner in owners if isinstance(owner, str)]
        where = self.http.url
        if named and named[0] and not self._is_openai:
            where += f" ({named[0]})"
        return Health(ready=True, detail=where, models=models, hint=self.absent(models))

    def absent(self, models: Sequence[str]) -> str:
        """Which models the settings name that are not among those served.

        Empty where none are told: some servers take any name.
        """
        if not models:
            return ""
        served = set(models)
        missing = [name for name in self.wanted() if not {name, name.partition(":")[0]} & served]
        return f"Not among its models: {', '.join(missing)}." if missing else ""


def ids(served: list[Any]) -> tuple[str, ...]:
    """The names of the models that a server lists."""
    names = [model.get("id") for model in map(fields, served)]
    return tuple(sorted(name for name in names if isinstance(name, str)))


def _is_error(chunk: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    """Whether a chunk, or the first choice in it, holds an error."""
    if chunk.get("error") or first.get("error"):
        return True
    return chunk.get("object") == "error" or first.get("finish_reason") == "error"


def _lacks_stream_options(error: Rejected) -> bool:
    """Whether a server says that it does not know `stream_options`."""
    said = error.vendor
    if said is None or said.status not in (400, 422):
        return False
    return "stream_options" in f"{said.message} {said.metadata}"


def _vendors(data: str) -> dict[str, Any]:
    """The error that an event of that name holds, as JSON or in words."""
    try:
        told = json_object(data, name="")
    except BackendError:
        return {"error": data}
    return told if told.get("error") else {"error": told or "an error without words"}


def _thoughts(content: object) -> list[Any]:
    """What a message in typed parts holds beside its text: Mistral puts thoughts there."""
    return [part for part in items(content) if fields(part).get("type") != "text"]


def _text(content: object) -> object:
    """The text of a message that comes in typed parts, without what the model thinks."""
    if not isinstance(content, list):
        return content
    return "".join(
        str(part.get("text") or "") for part in map(fields, content) if part.get("type") == "text"
    )
