"""What the servers of text models say on the wire, as far as devpipe and those it is measured
against listen.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar, Literal

Json = dict[str, Any]
Piece = tuple[str, bytes]  # a token, and the bytes sent for it


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request: a `text` is streamed word by word, a list of texts
    token by token.

    Answer("Eins zwei drei", pause=0.05)                     # twenty words a second
    Answer("Eins zwei drei", ending="cut", after=2)          # the connection is lost after two
    words
    Answer("Eins zwei drei", ending="error", after=2, error="out of memory")
    Answer(status=429, error="too many", headers={"Retry-After": "2"})
    """

    text: str | Sequence[str] = ""
    latency: float = 0.0  # seconds before the first byte
    pause: float = 0.0  # seconds between tokens
    status: int = 200
    error: str | Mapping[str, object] = (
        "scripted error"  # a text is put into the vendor's form, an object is sent as it is
    )
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Literal["finish", "cut", "error", "hang"] = "finish"
    after: int | None = None  # tokens before that ending; None: all
    finish: str = "stop"  # or length, content_filter
    refusal: str = ""
    cost: float = 0.0012  # US dollars; OpenRouter tells it
    raw: bytes | Sequence[bytes] | None = (
        None  # this as the body, in these pieces, whatever the protocol
    )
    piece: int = 0  # bytes that reach the client's reader at once; 0: each token whole
    head: bool = True  # False: not even the status line is sent

    @property
    def tokens(self) -> list[str]:
        text = self.refusal or self.text
        return re.findall(r"\s*\S+(?:\s+$)?|\s+$", text) if isinstance(text, str) else list(text)


DROP = Answer(head=False, ending="cut")  # closes the connection before it answers
HANG = Answer(head=False, ending="hang")  # never answers


class Ollama:
    """One answer to one question, as Ollama's own API writes it."""

    media_type: ClassVar[str] = "application/x-ndjson"
    streams: ClassVar[bool] = True  # unless asked not to

    def __init__(self, asked: Json, answer: Answer) -> None:
        self.asked, self.answer = asked, answer
        self.model, self.read, self.wrote = (
            str(asked.get("model", "")),
            len(str(asked.get("messages", "")).split()),
            len(answer.tokens),
        )

    def body(self) -> tuple[int, str, Iterator[Piece]]:
        """Status, media type, and the body in pieces."""
        if self.answer.status >= 400:
            return (
                self.answer.status,
                "application/json",
                iter([("", encoded(self.error(self.answer.status)))]),
            )
        if self.answer.raw is not None:
            raw = [self.answer.raw] if isinstance(self.answer.raw, bytes) else self.answer.raw
            return (
                self.answer.status,
                self.media_type,
                (("raw", piece) for piece in raw[: self.answer.after]),
            )
        if self.asked.get("stream", self.streams):
            return self.answer.status, self.media_type, self.stream()
        whole = encoded(self.failure() if self.answer.ending == "error" else self.whole())
        return (
            self.answer.status,
            "application/json",
            iter([("", whole[: len(whole) // 2] if self.answer.ending == "cut" else whole)]),
        )

    def stream(self) -> Iterator[Piece]:
        for token in self.answer.tokens[: self.answer.after]:
            yield token, self.line(self.part(token))
        if self.answer.ending == "error":
            yield "", self.line(self.failure())
        elif self.answer.ending == "finish":
            yield "", b"".join(map(self.line, self.ends()))

    def line(self, value: Json) -> bytes:
        return encoded(value) + b"\n"

    def part(self, token: str) -> Json:
        return {
            "model": self.model,
            "created_at": _now(),
            "message": {"role": "assistant", "content": token},
            "done": False,
        }

    def ends(self) -> list[Json]:
        counts = {
            "prompt_eval_count": self.read,
            "prompt_eval_duration": 1_000_000,
            "eval_count": self.wrote,
        }
        times = {
            "total_duration": 9_000_000,
            "load_duration": 1_000_000,
            "eval_duration": 7_000_000,
        }
        return [self.part("") | {"done": True, "done_reason": self.answer.finish} | times | counts]

    def whole(self) -> Json:
        return self.ends()[0] | {
            "message": {"role": "assistant", "content": "".join(self.answer.tokens)}
        }

    def failure(self) -> Json:
        """An error inside an answer of status 200."""
        return self.error(500)

    def error(self, status: int) -> Json:
        return (
            self.formed(status, self.answer.error)
            if isinstance(self.answer.error, str)
            else dict(self.answer.error)
        )

    def formed(self, status: int, text: str) -> Json:
        return {"error": text}


class OpenAICompatible(Ollama):
    """The same as server-sent events, as llama.cpp, vLLM, LM Studio and OpenAI write them."""

    media_type = "text/event-stream"
    streams = False

    def stream(self) -> Iterator[Piece]:
        yield from super().stream()
        if self.answer.ending == "finish":
            yield "", b"data: [DONE]\n\n"

    def line(self, value: Json) -> bytes:
        return b"data: " + encoded(value) + b"\n\n"

    def part(self, token: str) -> Json:
        return self.chunk({"refusal" if self.answer.refusal else "content": token})

    def ends(self) -> list[Json]:
        return [self.chunk({}, self.answer.finish), self.chunk() | {"usage": self.usage()}]

    def chunk(self, delta: Json | None = None, finish: str | None = None) -> Json:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return {
            "id": "chat-1",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model,
            "choices": choices,
        }

    def usage(self) -> Json:
        return {
            "prompt_tokens": self.read,
            "completion_tokens": self.wrote,
            "total_tokens": self.read + self.wrote,
        }

    def whole(self) -> Json:
        refusal, text = self.answer.refusal or None, "".join(self.answer.tokens)
        message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
        choices = [{"index": 0, "message": message, "finish_reason": self.answer.finish}]
        return self.chunk() | {
            "object": "chat.completion",
            "choices": choices,
            "usage": self.usage(),
        }

    def formed(self, status: int, text: str) -> Json:
        return {"error": {"message": text, "type": "server_error", "param": None, "code": None}}


class OpenRouter(OpenAICompatible):
    """With comments between the events, the cost, and a refusal as status 403."""

    COMMENT: ClassVar[bytes] = b": OPENROUTER PROCESSING\n\n"

    def body(self) -> tuple[int, str, Iterator[Piece]]:
        if not self.answer.refusal:
            return super().body()
        metadata = {
            "reasons": ["violence"],
            "flagged_input": "...",
            "provider_name": "Test",
            "model_slug": self.model,
        }
        refused = {"error": {"code": 403, "message": self.answer.refusal, "metadata": metadata}}
        return 403, "application/json", iter([("", encoded(refused))])

    def stream(self) -> Iterator[Piece]:
        yield "", self.COMMENT
        for at, (token, data) in enumerate(super().stream()):
            yield token, data if at else data + self.COMMENT

    def usage(self) -> Json:
        return super().usage() | {"cost": self.answer.cost, "is_byok": False}

    def failure(self) -> Json:
        return self.chunk({"content": ""}, "error") | self.error(502)

    def formed(self, status: int, text: str) -> Json:
        return {
            "error": {
                "code": status,
                "message": text,
                "metadata": {"error_type": "provider_unavailable"},
            }
        }


CHATS: Mapping[str, type[Ollama]] = {
    "/api/chat": Ollama,
    "/v1/chat/completions": OpenAICompatible,
    "/api/v1/chat/completions": OpenRouter,
}


def told(path: str, asked: Json, models: Sequence[str]) -> tuple[int, Json]:
    """Status and answer of whatever is looked up: versions, models, keys."""
    if path == "/api/show" and _tagged(asked.get("model", "")) not in map(_tagged, models):
        return 404, {"error": f"model '{asked.get('model', '')}' not found"}
    known = {"general.architecture": "test", "test.context_length": 8192}
    listed: list[Json] = [
        {"id": name, "object": "model", "created": 1_763_805_600, "owned_by": "here"}
        for name in models
    ]
    heeded = ["seed", "temperature", "stop", "max_tokens", "response_format", "structured_outputs"]
    able: Json = {
        "pricing": {"prompt": "0.0000001", "completion": "0.0000004"},
        "context_length": 8192,
        "supported_parameters": heeded,
    }
    found: dict[str, Json] = {
        "/api/version": {"version": "0.12.6"},
        "/api/tags": {"models": [_local(name) for name in models]},
        "/api/ps": {"models": [_local(name) for name in models]},
        "/api/show": (
            _local(asked.get("model", ""))
            | {
                "capabilities": ["completion"],
                "model_info": known,
                "parameters": "num_ctx 8192",
            }
        ),
        "/v1/models": {"object": "list", "data": listed},
        "/api/v1/models": {"data": [one | able for one in listed]},
        "/api/v1/key": {
            "data": {
                "label": "loopback",
                "limit": 5.0,
                "limit_remaining": 4.2,
                "usage": 0.8,
                "is_free_tier": False,
            }
        },
        **{
            f"/api/v1/models/{name}/endpoints": {"data": {"id": name, "endpoints": [able]}}
            for name in models
        },
    }
    return (200, found[path]) if path in found else (404, {"error": f"nothing at {path}"})


def _local(name: str) -> Json:
    """A model as Ollama lists it."""
    details = {
        "format": "gguf",
        "family": "test",
        "families": ["test"],
        "parameter_size": "1B",
        "quantization_level": "Q4_K_M",
    }
    more = {
        "modified_at": _now(),
        "expires_at": _now(),
        "size": 1_000_000,
        "size_vram": 1_000_000,
        "context_length": 8192,
    }
    return {
        "name": _tagged(name),
        "model": _tagged(name),
        "digest": sha256(name.encode()).hexdigest(),
        "details": details,
    } | more


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())


def encoded(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
