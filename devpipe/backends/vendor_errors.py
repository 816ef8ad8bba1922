"""A vendor's error answer becomes one of our errors: who reacts, what to do, how long to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from devpipe.backends.streams import TRY_AGAIN, fields, items, number, parsed_json
from devpipe.errors import BackendError, RateLimited, Rejected, Unavailable, VendorAnswer
from devpipe.record.redaction import Redactor

Body = bytes | Mapping[str, Any]  # as it came, or the JSON object that it spells

MAX_MESSAGE = 500  # characters
LONGEST_WAIT = 120.0  # seconds

_KEYLIKE = re.compile(r"\b(?:sk|pk|hf|r8|gsk)[-_][\w*.-]{8,}")
_MARKUP = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>")
_TIME = r"(\d+(?:\.\d+)?)\s*(ms|h(?:ours?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)(?![a-z])\s*"
_IN_PROSE = re.compile(rf"(?i)(?:\bin|\bafter|\bfor|~)\s*~?((?:{_TIME})+)")
_SECONDS = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}
_TOO_LONG = re.compile(r"(?i)exceed[a-z_]*.{0,40}context|context.{0,40}exceed|maximum context")
_UNPAID = re.compile(r"(?i)insufficient_(quota|credit)|billing|payment_required")
_MODERATED = re.compile(r"(?i)moderation|content_(filter|policy)")
# The status that a vendor's word stands for, where nobody said one.
_BY_WORD = (
    (_UNPAID, 402),
    (re.compile(r"(?i)rate_?limit"), 429),
    (re.compile(r"(?i)overload"), 529),
    (re.compile(r"(?i)api_key|auth"), 401),
    (re.compile(r"(?i)not_?found"), 404),
    (re.compile(r"(?i)invalid_?request|bad_?request|context_(length|size)"), 400),
)
# Where vendors put the same thing, the likeliest first.
_MESSAGES = ("message", "error", "detail", "errors", "title")
_KINDS = ("type", "error_type", "name", "error_id")
_STATUSES = ("http_status", "code", "status")
_READ = {*_MESSAGES, "code", "metadata", "choices"}  # the rest is kept as metadata


def vendor_error(
    name: str,
    status: int,
    headers: Mapping[str, str],
    body: Body,
    *,
    key_name: str = "",
    redact: Redactor | None = None,
) -> BackendError:
    """Our error for what a vendor answered.

    Status 0 is for an error inside an answer, whose own code then decides. `redact` takes the key
    out of it. A hint names `key_name`, the variable that holds the key.
    """
    answer = _vendor_answer(status, body, redact or Redactor())
    problem = f"{name} answered {answer.status or 'with an error'}"
    if answer.message:
        problem += f": {answer.message.rstrip('.')}"
    problem += "."
    hint = _final_hint(answer, _lower(headers), key_name or "its key")
    if hint:
        return Rejected(problem, hint=hint, vendor=answer)
    if answer.status == 429:
        wait = retry_after(headers, body)
        return RateLimited(problem, hint="Wait, then try again.", retry_after=wait, vendor=answer)
    may_be_done = answer.status not in (503, 529)
    return Unavailable(problem, hint=TRY_AGAIN, vendor=answer, sent=may_be_done)


# What to do.


def _final_hint(answer: VendorAnswer, headers: Mapping[str, str], key_name: str) -> str:
    """What to do where the same request would fail again; empty where it may not."""
    words = f"{answer.code} {answer.kind}"
    if answer.kind == "moderation":
        return "Change the text."
    if answer.status == 402 or _UNPAID.search(words):
        return "Add credit there, or choose another model."
    if _is_too_long(answer, words):
        return "Shorten the text, or choose a model that reads more."
    if answer.status in (401, 403):
        return f"Check {key_name}."
    if answer.status == 404:
        return "`devpipe check` lists the models there."
    if _may_pass(answer, headers):
        return ""
    return "Choose another model."


def _is_too_long(answer: VendorAnswer, words: str) -> bool:
    if answer.status == 413:
        return True
    if answer.status == 429:
        return False
    return bool(_TOO_LONG.search(f"{words} {answer.message}"))


def _may_pass(answer: VendorAnswer, headers: Mapping[str, str]) -> bool:
    """Whether the same request may succeed later, or elsewhere."""
    if answer.status == 429:
        availability = fields(answer.metadata.get("availability"))
        is_final = headers.get("x-should-retry") == "false"
        return bool(availability.get("retryable", True)) and not is_final
    return answer.status in (0, 408, 499) or answer.status >= 500


# What the vendor said.


def _vendor_answer(status: int, body: Body, redact: Redactor) -> VendorAnswer:
    """A vendor's error in our one shape, with nothing secret left in it."""
    described = _redacted(body, redact)
    more = fields(described.get("metadata"))
    code = _code(described)
    kind = _kind(described, more)
    if more.get("reasons") or _MODERATED.search(f"{code} {kind}"):
        kind = "moderation"
    if status < 400:
        status = _inner_status(described, f"{code} {kind}")
    message = one_line(_message(described) or redact(_prose(body)))
    rest = {name: value for name, value in described.items() if name not in _READ}
    return VendorAnswer(
        status=status,
        code=code,
        kind=kind,
        message=_KEYLIKE.sub("[redacted]", message),
        metadata=rest | dict(more),
    )


def _redacted(body: Body, redact: Redactor) -> dict[str, Any]:
    """What describes the error, without secrets; empty where it is nested too deep."""
    try:
        answer = _object(body)
        described = _description(answer)
        if "node_errors" in answer:
            described = {"node_errors": answer["node_errors"]} | described
        redacted: dict[str, Any] = redact.value(described)
    except RecursionError:
        return {}
    return redacted


def _object(body: Body) -> Mapping[str, Any]:
    return fields(parsed_json(body) if isinstance(body, bytes) else body)


def _description(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What describes the error: `error`, that of the first choice, or the answer itself."""
    error = answer.get("error")
    if not error:
        choices = items(answer.get("choices"))
        error = fields(choices[0]).get("error") if choices else None
    return dict(error if isinstance(error, Mapping) else answer)


def _prose(body: Body) -> str:
    """What stands in an answer that is no JSON, such as a web page, without its markup."""
    return _MARKUP.sub(" ", body.decode("utf-8", "replace")) if isinstance(body, bytes) else ""


def _code(described: Mapping[str, Any]) -> str:
    return _word(described.get("code")) or _word(fields(described.get("availability")).get("code"))


def _kind(described: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    for value in (*(described.get(name) for name in _KINDS), more.get("error_type")):
        kind = _word(value)
        if kind:
            return kind
    return ""


def _message(described: Mapping[str, Any]) -> str:
    for name in _MESSAGES:
        text = _text(described.get(name))
        if text:
            return text
    return ""


def _text(value: object) -> str:
    """A text, or those of a list: plain ones, or FastAPI's with the place that each is about."""
    if isinstance(value, str):
        return value.strip()
    return "; ".join(filter(None, map(_item, items(value))))


def _item(item: object) -> str:
    told = fields(item)
    place = ".".join(map(_word, items(told.get("loc"))))
    text = _word(told.get("msg") or told.get("message") or item)
    return ": ".join(filter(None, (place, text)))


def _inner_status(described: Mapping[str, Any], words: str) -> int:
    """The status that an error names itself, or that its words stand for; 0 where there is none."""
    for name in _STATUSES:
        told = number(described.get(name))
        if told is not None and 400 <= told < 600:
            return int(told)
    for pattern, status in _BY_WORD:
        if pattern.search(words):
            return status
    return 0


# How long to wait.


def retry_after(headers: Mapping[str, str], body: Body) -> float | None:
    """Seconds to wait, at most LONGEST_WAIT, as the vendor says it in headers, fields or prose.

    None where it does not say.
    """
    described = _description(_object(body))
    wait = _wait_in_headers(_lower(headers))
    if wait is None:
        wait = number(fields(described.get("availability")).get("retry_after"))
    if wait is None:
        wait = _wait_in_prose(_message(described))
    return None if wait is None else min(max(wait, 0.0), LONGEST_WAIT)


def _wait_in_headers(headers: Mapping[str, str]) -> float | None:
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    told = headers.get("retry-after", "")
    seconds = number(told)
    return _until(told, headers.get("date", "")) if seconds is None else seconds


def _until(date: str, now: str) -> float | None:
    """Seconds until an HTTP date, by the server's own clock where it tells it."""
    try:
        start = parsedate_to_datetime(now) if now else datetime.now(UTC)
        end = parsedate_to_datetime(date)
        return (end.replace(tzinfo=UTC) - start.replace(tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None


def _wait_in_prose(message: str) -> float | None:
    """The seconds that a sentence asks for: `in 1m30s`, `after 7 seconds`."""
    told = _IN_PROSE.search(message)
    if told is None:
        return None
    seconds = 0.0
    for count, unit in re.findall(f"(?i){_TIME}", told[1]):
        short = unit.lower()
        seconds += float(count) * _SECONDS["ms" if short == "ms" else short[0]]
    return seconds


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


# Words.


def _word(value: object) -> str:
    return one_line(str(value)) if isinstance(value, str | int) else ""


def one_line(text: str) -> str:
    """At most MAX_MESSAGE characters on one line, none of which a terminal obeys."""
    printable = [c if c.isprintable() else " " for c in text[: 4 * MAX_MESSAGE]]
    line = " ".join("".join(printable).split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
