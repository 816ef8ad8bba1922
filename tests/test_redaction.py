"""Secrets do not pass the redactor, however they are spelled; other texts pass it unchanged."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devpipe.record.redaction import REDACTED, Redactor

SECRETS = ["sk-Ab12cd34EF56", 'p"a\\ss wörd/+=', "r8_0123456789"]
REDACT = Redactor([*SECRETS, "short"])


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
def test_every_spelling_of_a_secret_is_removed(secret: str, before: str) -> None:
    """Plain, reversed, URL-encoded (upper and lower case), JSON-escaped, in base64 at each
    alignment.
    """
    data = (before + secret + " and more").encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert encode(secret.encode()).decode()[4:-4] not in REDACT(f"x {encode(data).decode()} y")
        assert REDACTED in REDACT(f"x {encode(data).decode()} y")
    lowered = re.sub("%..", lambda code: code[0].lower(), quote(secret, safe=""))
    for spelled in (secret, secret[::-1], quote(secret, safe=""), lowered, quote_plus(secret)):
        assert REDACT(f"<{spelled}>") == f"<{REDACTED}>"
    for ascii_only in (True, False):
        assert REDACT(json.dumps(secret, ensure_ascii=ascii_only)) == f'"{REDACTED}"'


def test_short_strings_are_no_secrets() -> None:
    """What has fewer than eight characters would tear words apart."""
    assert REDACT("a short word") == "a short word"


def test_what_is_named_like_a_secret_is_removed_whatever_it_is() -> None:
    """In JSON values, and in texts that quote JSON, headers or signed URLs."""
    value = {
        "Authorization": "Bearer x",
        "x-api-key": "k",
        "nested": [{"access_token": "t", "token": {"text": "stays"}}],
        "tokens": 5,
    }
    assert REDACT.value(value) == {
        "Authorization": REDACTED, "x-api-key": REDACTED, "nested": [{"access_token": REDACTED, "token": {"text": "stays"}}], "tokens": 5,
    }  # fmt: skip
    for text in (
        '{"api_key": "QQ", "a": 1}', r'{\"api_key\": \"QQ\"}', "{'password': 'QQ'}", '{"token": "Q\\"Q", "a": ""}',
        "Authorization: Bearer QQ",
        "x-api-key: QQ\nnext", "bearer abcdefQQ0123456789", "https://u:QQ@host/x", "https://h/a.png?X-Amz-Signature=QQ&b=1", "https://h/?key=QQ",
        "https://h/a?b=1&sig=QQ#x", "https://h/?access_token=QQ",
    ):  # fmt: skip
        assert "QQ" not in REDACT(text).replace("Q\\", "QQ"), text
        assert REDACT(REDACT(text)) == REDACT(text)
    assert json.loads(REDACT('{"token": "", "name": "x"}')) == {"token": "", "name": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "Ein Token der Zuneigung: der Schlüssel liegt unter der Matte", "basic representational painting", "the key= of C",
        "api design, 5 tokens",
        "input_tokens: 12", "https://example.org/a?page=2&token_count=3", "a secret garden, and its password",
    ],
)  # fmt: skip
def test_ordinary_words_pass(text: str) -> None:
    """A prompt about keys and secrets is a prompt."""
    assert REDACT(text) == text
    assert REDACT.value({"text": text, "max_tokens": "5"}) == {"text": text, "max_tokens": "5"}


def test_bytes_are_read_as_text_and_keep_what_is_none() -> None:
    """Bytes that are no UTF-8 come back as they were."""
    assert (
        REDACT(b"\xff\xfe" + SECRETS[0].encode() + b"\x00")
        == b"\xff\xfe" + REDACTED.encode() + b"\x00"
    )


TEXTS = st.text() | st.sampled_from(SECRETS)


@given(
    st.recursive(
        TEXTS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
    )
)
def test_what_may_not_be_touched_is_not(value: object) -> None:
    """The quick look at a line never overlooks what the thorough one would change."""
    line = json.dumps(value, ensure_ascii=False)
    if not REDACT.may_touch(line):
        assert REDACT.value(value) == value
    clean = json.dumps(REDACT.value(value), ensure_ascii=False)
    assert not any(json.dumps(secret)[1:-1] in clean or secret in clean for secret in SECRETS)
