"""A vendor's error answer becomes one of our errors: who reacts, what to do, how long to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from devpipe.backends.streams import TRY_AGAIN, fields, number, parsed_json
from devpipe.errors import BackendError, RateLimited, Rejected, Unavailable, VendorAnswer
from devpipe.record.redaction import Redactor

MAX_MESSAGE = 500  # characters
LONGEST_WAIT = 120.0  # seconds
_KEYLIKE = re.compile(r"\b(?:sk|pk|hf|r8|gsk)[-_][\w*.-]{8,}")
_MARKUP = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>")
_TIME = r"(\d+(?:\.\d+)?)\s*(ms|h(?:ours?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)(?![a-z])\s*"
_IN_PROSE = re.compile(rf"(?i)(?:\bin|\bafter|\bfor|~)\s*~?((?:{_TIME})+)")
_SECONDS = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}
_TOO_LONG = re.compile(r"(?i)exceed[a-z_]*.{0,40}context|context.{0,40}exceed|maximum context")
_UNPAID = re.compile(r"(?i)insufficient_(quota|credit)|billing|payment_required")
_BY_WORD = (  # where nobody said a status
    (_UNPAID, 402),
    (re.compile(r"(?i)rate_?limit"), 429),
    (re.compile(r"(?i)overload"), 529),
    (re.compile(r"(?i)api_key|auth"), 401),
    (re.compile(r"(?i)not_?found"), 404),
    (re.compile(r"(?i)invalid_?request|bad_?request|context_(length|size)"), 400),
)


def vendor_error(
    name: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | Mapping[str, Any],
    *,
    key_name: str = "",
    redact: Redactor | None = None,
) -> BackendError:
    """Our error for what a vendor answered; status 0 for an error inside an answer, whose own code
    then decides.

    `redact` takes the key out of it. A hint names `key_name`, the variable that holds the key.
    """
    said = _said(status, body, redact or Redactor())
    problem = f"{name} answered {said.status or 'with an error'}" + (
        f": {said.message.rstrip('.')}." if said.message else "."
    )
    if hint := _final(said, _lower(headers), key_name or "its key"):
        return Rejected(problem, hint=hint, vendor=said)
    if said.status == 429:
        return RateLimited(
            problem,
            hint="Wait, then try again.",
            retry_after=retry_after(headers, body),
            vendor=said,
        )
    return Unavailable(problem, hint=TRY_AGAIN, vendor=said, sent=said.status not in (503, 529))


def _final(said: VendorAnswer, headers: Mapping[str, str], key_name: str) -> str:
    """What to do where the same request would fail again; empty where it may not."""
    words, can_wait = (
        f"{said.code} {said.kind}",
        fields(said.metadata.get("availability")).get("retryable", True),
    )
    can_wait = can_wait and headers.get("x-should-retry") != "false"
    if said.kind == "moderation":
        return "Change the text."
    if said.status == 402 or _UNPAID.search(words):
        return "Add credit there, or choose another model."
    if said.status == 413 or (said.status != 429 and _TOO_LONG.search(f"{words} {said.message}")):
        return "Shorten the text, or choose a model that reads more."
    if said.status in (401, 403):
        return f"Check {key_name}."
    if said.status == 404:
        return "`devpipe check` lists the models there."
    passing = (
        said.status in (0, 408, 499) or said.status >= 500 or (said.status == 429 and can_wait)
    )
    return "" if passing else "Choose another model."


def _said(status: int, body: bytes | Mapping[str, Any], redact: Redactor) -> VendorAnswer:
    raw = _MARKUP.sub(" ", body.decode("utf-8", "replace")) if isinstance(body, bytes) else ""
    try:
        answer = fields(body if isinstance(body, Mapping) else parsed_json(body))
        told = redact.value(
            {name: answer[name] for name in answer if name == "node_errors"} | _fields(answer)
        )
    except RecursionError:
        told = {}
    extra, known = (
        fields(told.get("metadata")),
        ("error", "message", "detail", "errors", "title", "code", "metadata", "choices"),
    )
    code = _word(told.get("code")) or _word(fields(told.get("availability")).get("code"))
    kinds = [told.get(name) for name in ("type", "error_type", "name", "error_id")] + [
        extra.get("error_type")
    ]
    kind = next(filter(None, map(_word, kinds)), "")
    if extra.get("reasons") or re.search(
        r"(?i)moderation|content_(filter|policy)", f"{code} {kind}"
    ):
        kind = "moderation"
    message = _KEYLIKE.sub("[redacted]", one_line(_message(told) or redact(raw)))
    metadata = {name: value for name, value in told.items() if name not in known} | dict(extra)
    return VendorAnswer(
        status if status >= 400 else _inner_status(told, f"{code} {kind}"),
        code,
        kind,
        message,
        metadata,
    )


def _fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What describes the error: `error`, that of the first choice, or the answer itself."""
    choices = answer.get("choices")
    found = answer.get("error") or (
        fields(choices[0]).get("error") if isinstance(choices, list) and choices else None
    )
    return dict(found if isinstance(found, Mapping) else answer)


def _message(told: Mapping[str, Any]) -> str:
    return next(
        filter(
            None,
            (_text(told.get(name)) for name in ("message", "error", "detail", "errors", "title")),
        ),
        "",
    )


def _text(value: object) -> str:
    """A text, or those of a list: plain ones, or FastAPI's with the place that each is about."""
    if not isinstance(value, list):
        return value.strip() if isinstance(value, str) else ""
    return "; ".join(filter(None, (_item(fields(item), item) for item in value)))


def _item(told: Mapping[str, Any], item: object) -> str:
    place = told.get("loc") if isinstance(told.get("loc"), list) else []
    words = ".".join(map(_word, place or [])), _word(told.get("msg") or told.get("message") or item)
    return ": ".join(filter(None, words))


def _inner_status(told: Mapping[str, Any], words: str) -> int:
    said = [number(told.get(name)) or 0 for name in ("http_status", "code", "status")]
    found = [int(number) for number in said if 400 <= number < 600] + [
        status for word, status in _BY_WORD if word.search(words)
    ]
    return found[0] if found else 0


def retry_after(headers: Mapping[str, str], body: bytes | Mapping[str, Any]) -> float | None:
    """How many seconds to wait, at most LONGEST_WAIT, as the vendor says it in headers, fields or
    prose; None where it does not.
    """
    told, said = (
        _lower(headers),
        _fields(fields(body if isinstance(body, Mapping) else parsed_json(body))),
    )
    milliseconds, prose = number(told.get("retry-after-ms")), _IN_PROSE.search(_message(said))
    found = (
        None if milliseconds is None else milliseconds / 1000,
        number(told.get("retry-after")),
        _until(told.get("retry-after", ""), told.get("date", "")),
        number(fields(said.get("availability")).get("retry_after")),
        _seconds(prose[1]) if prose else None,
    )
    return next(
        (min(max(seconds, 0.0), LONGEST_WAIT) for seconds in found if seconds is not None), None
    )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _seconds(prose: str) -> float:
    """How long `1m30s` or `7 seconds` is."""
    found = re.findall(f"(?i){_TIME}", prose)
    return sum(
        float(number) * _SECONDS["ms" if unit.lower() == "ms" else unit[0].lower()]
        for number, unit in found
    )


def _until(date: str, now: str) -> float | None:
    """Seconds until an HTTP date, by the server's own clock where it tells it."""
    try:
        start = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return (
            parsedate_to_datetime(date).replace(tzinfo=UTC) - start.replace(tzinfo=UTC)
        ).total_seconds()
    except (ValueError, OverflowError):
        return None


def _word(value: object) -> str:
    return one_line(str(value)) if isinstance(value, str | int) else ""


def one_line(text: str) -> str:
    """At most MAX_MESSAGE characters on one line, none of which a terminal obeys."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_MESSAGE]).split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
