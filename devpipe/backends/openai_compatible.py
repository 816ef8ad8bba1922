"""Whatever speaks OpenAI's chat completions: llama.cpp, vLLM, LM Studio, OpenAI itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

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
        self.key = (
            settings.key("OPENAI_API_KEY") or "" if told else ""
        )  # whoever listens on a default port gets no key
        self.http = Http(
            url + "/v1" * (not parts.path),
            name=f"The server at {parts.hostname}",
            key=self.key,
            key_name="OPENAI_API_KEY",
            transport=transport,
            start=self.start,
            direct=self.declared_local,
        )
        self.region = _OPENAI.get(parts.hostname or "")
        self.paid = self.boundary("") != "local"
        self._is_openai, self._tells_usage = self.region is not None, True

    async def body(self, request: TextRequest) -> dict[str, Any]:
        """The request as chat completions spell it."""
        longest = {
            "max_tokens": request.max_tokens or (LONGEST_ANSWER if self.paid else None)
        }  # one's own server ends with its window
        if self._is_openai:  # what it thinks counts there, too
            longest = {"max_completion_tokens": request.max_tokens or 4 * LONGEST_ANSWER}
        schema = {"name": "parts", "strict": True, "schema": parts_schema(request.parts)}
        wanted = {
            "model": request.model or "default",
            "messages": messages(request),
            "stream": True,
            "seed": request.seed,
            "stream_options": {"include_usage": True} if self._tells_usage else None,
            "temperature": request.temperature,
            "stop": list(request.stop) or None,
            **longest,
            "response_format": (
                {"type": "json_schema", "json_schema": schema} if request.parts else None
            ),
        }
        return {name: value for name, value in wanted.items() if value is not None}

    async def ask(self, body: Mapping[str, Any], writing: Writing) -> None:
        """Send it; once more without `stream_options` where a server of one's own does not know
        them and says so.
        """
        try:
            await super().ask(body, writing)
        except Rejected as error:
            said = error.vendor
            if (
                self.paid
                or writing.begun
                or not said
                or said.status not in (400, 422)
                or "stream_options" not in f"{said.message} {said.metadata}"
            ):
                raise
            self._tells_usage = False
            await super().ask(
                {name: value for name, value in body.items() if name != "stream_options"}, writing
            )

    async def chunks(self, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        """The events of the stream; some servers end it with [DONE], some just end it."""
        async for event in answer.sse():
            if event.data.strip() == "[DONE]":
                return
            yield (
                _vendors(event.data)
                if event.event == "error"
                else json_object(event.data, name=self.http.name)
            )

    def read(self, chunk: dict[str, Any], writing: Writing) -> None:
        """One chunk, or a whole answer; the last chunk may hold the usage and no choice."""
        choices = items(chunk.get("choices"))
        first = fields(choices[0]) if choices else {}
        said, finish = (
            fields(first.get("delta") or first.get("message")),
            first.get("finish_reason"),
        )
        writing.hear(said)
        writing.add(_text(said.get("content")))
        writing.refused += str(said.get("refusal") or "")
        if (
            chunk.get("error")
            or first.get("error")
            or chunk.get("object") == "error"
            or finish == "error"
        ):
            raise self.failed(chunk)
        if len(choices) > 1 or first.get("index") not in (None, 0):
            raise Rejected(
                f"{self.http.name} sent more than the one answer that was asked for.",
                hint="Choose another model.",
            )
        as_judge(said, writing.request)
        writing.model = str(chunk.get("model") or writing.model)
        writing.finish = str(finish or writing.finish)
        writing.begun = writing.begun or bool(writing.finish)
        if finish == "content_filter":
            writing.refused = (
                writing.refused or "The provider's content filter stopped this answer."
            )
        if usage := fields(chunk.get("usage")):
            writing.input_tokens, writing.output_tokens = (
                whole(usage.get("prompt_tokens")),
                whole(usage.get("completion_tokens")),
            )
        writing.cost = self.cost(usage, writing.cost)

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
        by = next(
            (
                model["owned_by"]
                for model in map(fields, served)
                if isinstance(model.get("owned_by"), str)
            ),
            "",
        )
        where = f"{self.http.url} ({by})" if by and not self._is_openai else self.http.url
        return Health(ready=True, detail=where, models=ids(served), hint=self.absent(ids(served)))

    def absent(self, models: Sequence[str]) -> str:
        """Which models the settings name that are not among those served, where any are told.

        Some servers take any name.
        """
        missing = [
            name
            for name in self.wanted()
            if models and name not in models and name.partition(":")[0] not in models
        ]
        return f"Not among its models: {', '.join(missing)}." if missing else ""


def ids(served: list[Any]) -> tuple[str, ...]:
    """The names of the models that a server lists."""
    return tuple(
        sorted(model["id"] for model in map(fields, served) if isinstance(model.get("id"), str))
    )


def _vendors(data: str) -> dict[str, Any]:
    """The error that an event of that name holds, as JSON or in words."""
    try:
        told = json_object(data, name="")
    except BackendError:
        return {"error": data}
    return told if told.get("error") else {"error": told or "an error without words"}


def _text(content: object) -> object:
    """The text of a message that comes in typed parts, without what the model thinks."""
    if not isinstance(content, list):
        return content
    return "".join(
        str(part.get("text") or "") for part in map(fields, content) if part.get("type") == "text"
    )
