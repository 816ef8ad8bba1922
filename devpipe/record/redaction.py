"""Which bytes never enter a recording?

The machine's keys, however they are spelled, and what is named like one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
MIN_SECRET = 6  # characters; shorter ones would tear ordinary words apart

_NAMES = (
    r"(?:proxy[-_])?authorization|(?:[a-z]+[-_]){0,3}api[-_]?(?:key|token)|(?:access|refresh|auth|"
    r"session|bearer|csrf|xsrf|id)[-_]token|token|"
    r"(?:client[-_])?secret(?:[-_]key)?|access[-_]key|private[-_]key|password|passwd|set-cookie|"
    r"cookie|x[-_]auth[-_]token|x[-_]amz[-_]security[-_]token"
)
_KEY = re.compile(_NAMES, re.IGNORECASE)
_NAMED = (  # what is found in a text by its name, and what stands there instead
    (  # `"token": "..."`, also escaped, also with '
        re.compile(
            rf"""(?is)((?P<q>\\*["'])(?:{_NAMES})(?P=q)\s*:\s*)(?P<v>\\*["'])"""
            r"""(?!\[redacted\])(?:(?!(?P=v))(?:\\.|.))+"""
        ),
        rf"\1\g<v>{REDACTED}",
    ),
    (  # `Authorization: Bearer ...` on a line of its own
        re.compile(
            r"(?i)((?:(?:proxy-)?authorization|x-api-key|set-cookie|cookie)[ \t]*:["
            r" \t]*)(?!\[redacted\])[^\s\"'\\][^\r\n\"'\\]*"
        ),
        rf"\1{REDACTED}",
    ),
    (
        re.compile(r"(?i)((?:bearer|basic)[ \t]+)(?=\S*\d)[a-z0-9._~+/=-]{16,}"),
        rf"\1{REDACTED}",
    ),
    (  # in the query of a URL
        re.compile(
            r"(?i)([?&;](?:[a-z0-9]+[-_])*(?:awsaccesskeyid|signature|sig|token|key|keyid|"
            r"credential|secret|password)=)(?!\[redacted\])[^&#\s\"'<>\\]+"
        ),
        rf"\1{REDACTED}",
    ),
    (  # before the host of a URL
        re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://)[^/\s\"'<>@\\]*:[^/\s\"'<>@\\]+@"),
        rf"\1{REDACTED}@",
    ),
)
# One of these must stand in a text, or in the JSON that spells it, for any pattern above to match:
# looking for them is fast. They are as long as they can be: "token" alone stands in the name of an
# event's field, "key" in every monkey.
_MARKS = (
    "authorization",
    "apikey",
    "api-key",
    "api_key",
    "apitoken",
    "api-token",
    "api_token",
    'token"',
    "token'",
    "token\\",
    "token=",
    "secret",
    "passw",
    "cookie",
    "access-key",
    "access_key",
    "private-key",
    "private_key",
    "bearer ",
    "bearer\t",
    "bearer\\",
    "basic ",
    "basic\t",
    "basic\\",
    "signature=",
    "sig=",
    "key=",
    "keyid=",
    "credential=",
)
_STEMS = (
    "auth",
    "key",
    "token",
    "secret",
    "passw",
    "cookie",
    "bearer",
    "basic",
    "sig",
    "credential",
)
_MARKS_BY_STEM: Mapping[str, tuple[str, ...]] = {  # the stem is looked for first
    stem: tuple(mark for mark in _MARKS if stem in mark) for stem in _STEMS
}


class Redactor:
    """Replaces every secret in a text by "[redacted]".

    Known secrets are found plain, reversed, URL-encoded, JSON-escaped and in base64 at any
    alignment; values named like a
    secret (`authorization`, `x-api-key`, `token`, signed URLs) are removed whatever they are.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= MIN_SECRET
            for spelling in _spellings(secret)
        }
        self._spellings = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))

    @overload
    def __call__(self, text: str) -> str: ...
    @overload
    def __call__(self, text: bytes) -> bytes: ...
    def __call__(self, text: str | bytes) -> str | bytes:
        """Give the text back without secrets.

        Bytes are read as UTF-8, whatever else they hold stays as it is.
        """
        if isinstance(text, bytes):
            return self(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        text = self._without_known(text)
        if _holds_mark(text):
            for pattern, replacement in _NAMED:
                text = pattern.sub(replacement, text)
        return text

    def may_touch(self, line: str) -> bool:
        """False only if `value` would change nothing in the JSON value that `line` spells."""
        return _holds_mark(line) or self._without_known(line) != line

    def value(self, value: Any) -> Any:
        """Give a JSON value back without secrets, in every text of it.

        In keys too, and all of what stands under a secret's name.
        """
        if isinstance(value, str):
            return self(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self._without_known(key): self._named(key, item) for key, item in value.items()}
        return value

    def _named(self, key: str, item: Any) -> Any:
        if isinstance(item, str) and item and _KEY.fullmatch(key):
            return REDACTED
        return self.value(item)

    def _without_known(self, text: str) -> str:
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, REDACTED)
        return text


def _holds_mark(text: str) -> bool:
    lower = text.lower()
    for stem, marks in _MARKS_BY_STEM.items():  # asked for every line of every recording
        if stem in lower and any(mark in lower for mark in marks):
            return True
    return "://" in lower and "@" in lower


def _spellings(secret: str) -> Iterator[str]:
    """Spell the secret as answers, tracebacks, URLs and headers may."""
    plain = {secret, secret.strip(), secret[::-1]}
    for spelling in plain.union(_url_encoded(secret), _base64(secret)):
        yield spelling
        yield json.dumps(spelling)[1:-1]
        yield json.dumps(spelling, ensure_ascii=False)[1:-1]


def _url_encoded(secret: str) -> Iterator[str]:
    for encoded in (
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    ):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda escape: escape[0].lower(), encoded)


def _base64(secret: str) -> Iterator[str]:
    """Spell the secret in base64, for each place it may begin at.

    Only the characters that depend on the secret alone.
    """
    data = secret.encode("utf-8", "replace")
    for offset in range(3):
        first = -(-offset * 8 // 6)  # rounded up: six bits a character
        last = (offset + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(offset) + data).decode()[first:last]
