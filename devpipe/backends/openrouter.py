"""OpenRouter: many providers behind one key, each answer with its exact price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from devpipe.backends.base import Health
from devpipe.backends.chat import GLANCE, LONGEST_ANSWER, Chat
from devpipe.backends.http import CHAT, Http, base_url
from devpipe.backends.openai_compatible import OpenAICompatible, ids
from devpipe.backends.streams import fields, items
from devpipe.config.settings import Settings
from devpipe.errors import CutOff, Rejected, Unavailable
from devpipe.values import Boundary, Cost, TextRequest

ROUTING: Mapping[str, object] = {
    # a provider that ignores the seed would not be told from one that heeds it
    "require_parameters": True,
    "allow_fallbacks": True,
    "data_collection": "deny",  # what children write is no training data
}
_KEY = "OPENROUTER_API_KEY"
_OPTIONAL = ("seed", "temperature", "stop", "max_tokens", "response_format")


class OpenRouter(OpenAICompatible):
    """openrouter.ai, or by DEVPIPE_OPENROUTER_URL=https://eu.openrouter.ai only what stays in the
    European Union.
    """

    name = "openrouter"
    paid = True
    start = "Are you online? Does DEVPIPE_OPENROUTER_URL, if it is set, name OpenRouter?"

    def __init__(self, settings: Settings, *, transport: object | None = None) -> None:
        Chat.__init__(self, settings)
        url = base_url(
            settings.url(self.name, "https://openrouter.ai"), 443, variable="DEVPIPE_OPENROUTER_URL"
        )
        if not urlsplit(url).path:
            url += "/api/v1"
        self.key = settings.key(_KEY) or ""
        self.http = Http(
            url,
            name="OpenRouter",
            key=self.key,
            key_name=_KEY,
            transport=transport,
            start=self.start,
            direct=self.declared_local,
        )
        self._supported: dict[str, frozenset[str]] = {}
        self._is_openai = False
        self._tells_usage = False

    def boundary(self, model: str) -> Boundary:
        """Never here, wherever the address points: OpenRouter always asks somebody else."""
        return "eu" if self.http.url.startswith("https://eu.openrouter.ai/") else "world"

    async def body(self, request: TextRequest) -> dict[str, Any]:
        """The request, without the parameters that no provider of this model heeds."""
        if not self.key:
            raise Rejected("OpenRouter needs a key.", hint=f"Set {_KEY}.")
        known = await self._parameters(request.model)
        body = await super().body(request)
        if "structured_outputs" not in known and "response_format" in body:
            body["response_format"] = {"type": "json_object"}
        if "reasoning" in known and "max_tokens" in body:  # it counts what the model thinks
            body["max_tokens"] += LONGEST_ANSWER
        unheeded = set(_OPTIONAL) - known
        heeded = {name: value for name, value in body.items() if name not in unheeded}
        return heeded | {"provider": dict(ROUTING)}

    async def _parameters(self, model: str) -> frozenset[str]:
        """What the most able provider of this model heeds.

        Where none is listed, the request itself will tell.
        """
        if model not in self._supported:
            answer = await self.http.get_json(
                f"/models/{quote(model, safe='/:')}/endpoints", timeouts=CHAT
            )
            endpoints = items(fields(answer.get("data")).get("endpoints"))
            able = [
                frozenset(map(str, items(endpoint.get("supported_parameters"))))
                for endpoint in map(fields, endpoints)
            ]
            self._supported[model] = max(
                able,
                key=lambda names: len(names.intersection(_OPTIONAL)),
                default=frozenset(_OPTIONAL),
            )
        return self._supported[model]

    def cost(self, usage: Mapping[str, Any], known: Cost) -> Cost:
        """What OpenRouter charged, and with a key of one's own what the provider did."""
        own = _price(usage.get("cost"))
        if own is None:
            return known
        theirs = 0.0
        if usage.get("is_byok"):
            details = fields(usage.get("cost_details"))
            theirs = _price(details.get("upstream_inference_cost")) or 0.0
        usd = own + theirs
        return Cost(usd, "reported") if math.isfinite(usd) else known

    async def look(self) -> Health:
        """Whether the key is good for something, without spending anything."""
        if not self.key:
            return Health(ready=False, detail="no key.", hint=f"Set {_KEY}.")
        about_key = await self.http.get_json("/key", timeouts=GLANCE)
        left = fields(about_key.get("data")).get("limit_remaining")
        credit = ""
        hint = ""
        if isinstance(left, int | float):
            credit = f", {left:.2f} USD left"
            if left <= 0:
                hint = "Add credit at https://openrouter.ai/credits."
        try:
            listed = await self.http.get_json("/models", timeouts=GLANCE)
            models = ids(items(listed.get("data")))
        except (Unavailable, CutOff):
            models = ()  # the list is long and the line may be slow: the key is what counts
        return Health(not hint, self.http.url + credit, models, hint or self.absent(models))


def _price(value: object) -> float | None:
    """A price in USD, or None where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if value >= 0 else None
