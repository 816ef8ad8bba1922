"""The server that speaks by a script: what it says on the wire, when, and what it has seen."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from devpipe.config.settings import Settings
from devpipe.testing import DROP, HANG, Answer, Canary, Loopback

pytestmark = pytest.mark.loopback
PATIENCE_S = 60
CLOSE = {"Connection": "close"}
CHAT = {
    "ollama": "/api/chat",
    "openai_compatible": "/v1/chat/completions",
    "openrouter": "/api/v1/chat/completions",
}
every_protocol = pytest.mark.parametrize("backend", CHAT)
WORDS = "Eins zwei drei"
TOKENS = ["Eins", " zwei", " drei"]


def connect(server: Loopback) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE_S)


def ask(server: Loopback, backend: str, **body: Any) -> http.client.HTTPResponse:
    """A chat request; the answer's head has been read. Its connection ends with it."""
    connection = connect(server)
    with contextlib.ExitStack() as opened:
        opened.callback(connection.close)
        connection.request(
            "POST",
            CHAT[backend],
            json.dumps({"model": "test", "stream": True, "messages": []} | body),
            CLOSE,
        )
        answer = connection.getresponse()
        opened.pop_all()
        return answer


def look(server: Loopback, path: str, method: str = "GET", **body: Any) -> tuple[int, Any]:
    connection = connect(server)
    connection.request(method, path, json.dumps(body) if body else None, CLOSE)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def objects(backend: str, data: bytes) -> list[Any]:
    """The JSON objects of a stream; of SSE also the end mark, as text."""
    lines = data.decode().split("\n" if backend == "ollama" else "\n\n")
    events = [line.removeprefix("data: ") for line in lines if line and not line.startswith(":")]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


def texts(backend: str, events: list[Any]) -> list[str]:
    """The pieces of text, without empty ones."""
    if backend == "ollama":
        found = [event.get("message", {}).get("content", "") for event in events]
    else:
        deltas = [
            choice["delta"]
            for event in events
            if event != "[DONE]"
            for choice in event.get("choices", ())
        ]
        found = [delta.get("content") or delta.get("refusal") or "" for delta in deltas]
    return [text for text in found if text]


@every_protocol
def test_a_text_streams_word_by_word_and_ends_as_its_protocol_says(backend: str) -> None:
    """Every token is a piece of its own, then come the end mark, the counts, and
    OpenRouter's cost.
    """
    with Loopback([WORDS]) as server:
        answer = ask(server, backend)
        data = answer.read()
    assert answer.status == 200 and texts(backend, objects(backend, data)) == TOKENS
    events = objects(backend, data)
    if backend == "ollama":
        assert answer.getheader("content-type") == "application/x-ndjson"
        assert (
            events[-1]["done"] is True
            and events[-1]["done_reason"] == "stop"
            and events[-1]["eval_count"] == 3
        )
        assert [event["done"] for event in events[:-1]] == [False] * 3
    else:
        assert answer.getheader("content-type") == "text/event-stream"
        assert (
            events[-1] == "[DONE]"
            and events[-2]["choices"] == []
            and events[-2]["usage"]["completion_tokens"] == 3
        )
        assert events[-3]["choices"][0]["finish_reason"] == "stop"
        assert (
            ("cost" in events[-2]["usage"])
            == (backend == "openrouter")
            == (b": OPENROUTER PROCESSING\n\n" in data)
        )


@every_protocol
def test_an_answer_in_one_piece_says_the_same(backend: str) -> None:
    """Without streaming the text is whole, with its counts."""
    with Loopback([WORDS]) as server:
        whole = json.loads(ask(server, backend, stream=False).read())
    message = whole["message"] if backend == "ollama" else whole["choices"][0]["message"]
    assert message["content"] == WORDS and message["role"] == "assistant"
    assert (
        whole["eval_count"] if backend == "ollama" else whole["usage"]["completion_tokens"]
    ) == 3


def test_streaming_unasked_is_as_its_protocol_has_it() -> None:
    """Ollama streams unless told not to, the others the other way round."""
    with Loopback([WORDS]) as server:
        for backend, path in CHAT.items():
            connection = connect(server)
            connection.request("POST", path, json.dumps({"model": "test", "messages": []}), CLOSE)
            kind = str(connection.getresponse().getheader("content-type"))
            assert ("json" in kind and "ndjson" not in kind) == (backend != "ollama")


def test_a_text_keeps_every_space_and_a_list_is_sent_as_it_is() -> None:
    """What is streamed is what was scripted, in any script of the world."""
    for text in ("  zwei  Worte \n", "\u2028 Ä \x85", ["a", "b c", "🦊"], ""):
        assert "".join(Answer(text).tokens) == "".join(text)
    assert Answer(["a", "b c"]).tokens == ["a", "b c"]


@every_protocol
def test_the_rate_is_the_scripts(backend: str) -> None:
    """Latency before the first byte, then one token per pause, none of them early; how late they
    are is the machine's.
    """
    with Loopback([Answer("x " * 20, latency=0.2, pause=0.01)]) as server:
        asked_at = time.monotonic()
        answer = ask(server, backend)
        assert time.monotonic() - asked_at >= 0.2, "not even the status comes earlier"
        answer.read()
        (asked,) = server.chats
    times = [at for at, _ in asked.written]
    assert len(times) == 20 and times[0] - asked_at >= 0.2
    assert all(at - asked.at > 0.2 + 0.01 * count - 0.001 for count, at in enumerate(times))
    assert asked.finished and asked.finished >= times[-1] and asked.closed is None


def test_bytes_come_in_the_pieces_that_were_asked_for() -> None:
    """Each piece is a chunk of HTTP of its own: nothing on the way can join them."""
    with Loopback(
        [Answer("Übermut", piece=1), Answer(raw=[b"abc", b"de"]), Answer(raw=b"abcde", piece=2)]
    ) as server:
        for sizes in ({1}, {3, 2}, {2, 1}):
            with socket.create_connection(urlsplit(server.url).netloc.split(":")) as raw:
                raw.sendall(request("/api/chat"))
                head, _, body = read_all(raw).partition(b"\r\n\r\n")
            assert b"transfer-encoding: chunked" in head.lower()
            assert chunk_sizes(body) == sizes


def request(path: str) -> bytes:
    body = b'{"model": "test", "messages": []}'
    return (
        b"POST %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
        % (path.encode(), len(body), body)
    )


def read_all(raw: socket.socket) -> bytes:
    raw.settimeout(PATIENCE_S)
    data = b""
    while piece := raw.recv(65_536):
        data += piece
    return data


def chunk_sizes(body: bytes) -> set[int]:
    sizes = set()
    while body:
        size, _, body = body.partition(b"\r\n")
        sizes.add(int(size, 16))
        body = body[int(size, 16) + 2 :]
    return sizes - {0}


@every_protocol
def test_an_answer_can_be_cut_after_some_tokens(backend: str) -> None:
    """The client sees them, then the connection ends without its end mark."""
    with Loopback([Answer(WORDS, ending="cut", after=2)]) as server:
        with pytest.raises(http.client.IncompleteRead) as cut:
            ask(server, backend).read()
        assert texts(backend, objects(backend, cut.value.partial)) == TOKENS[:2]
        assert [token for _, token in server.chats[0].written] == TOKENS[:2]


@every_protocol
def test_an_error_can_come_inside_the_stream(backend: str) -> None:
    """After some tokens, at status 200, as each vendor writes it, and nothing after it."""
    with Loopback([Answer(WORDS, ending="error", after=1, error="out of memory")]) as server:
        events = objects(backend, ask(server, backend).read())
    assert texts(backend, events) == TOKENS[:1]
    error = events[-1]["error"]
    assert (error if backend == "ollama" else error["message"]) == "out of memory"
    if backend == "openrouter":
        assert events[-1]["choices"][0]["finish_reason"] == "error" and error["code"] == 502


@every_protocol
def test_a_status_has_its_headers_and_the_vendors_body(backend: str) -> None:
    """A text is put into the vendor's form, an object is sent as it is; the script goes on with the
    next answer.
    """
    script = [
        Answer(status=429, error="slow down", headers={"Retry-After": "2"}),
        Answer(status=503, error={"odd": 1}),
        "ok",
    ]
    with Loopback(script) as server:
        first, second = ask(server, backend), ask(server, backend)
        error = json.loads(first.read())["error"]
        assert first.status == 429 and first.getheader("retry-after") == "2"
        assert (error if backend == "ollama" else error["message"]) == "slow down"
        assert second.status == 503 and json.loads(second.read()) == {"odd": 1}
        assert [ask(server, backend).status for _ in range(3)] == [200] * 3, (
            "the last one again and again"
        )


def test_a_refusal_is_said_as_each_vendor_says_it() -> None:
    """As a text, in a field of its own, or as a status with reasons."""
    with Loopback([Answer(refusal="I cannot.")]) as server:
        assert (
            "".join(texts("ollama", objects("ollama", ask(server, "ollama").read()))) == "I cannot."
        )
        events = objects("openai_compatible", ask(server, "openai_compatible").read())
        assert (
            "".join(event["choices"][0]["delta"].get("refusal", "") for event in events[:2])
            == "I cannot."
        )
        refused = ask(server, "openrouter")
        assert refused.status == 403 and json.loads(refused.read())["error"]["metadata"]["reasons"]


@every_protocol
def test_raw_bytes_go_out_as_they_are(backend: str) -> None:
    """Whatever the protocol would say."""
    with Loopback([Answer(raw=b"data: nonsense\n\n")]) as server:
        assert ask(server, backend).read() == b"data: nonsense\n\n"


def test_a_connection_can_be_dropped_before_any_answer() -> None:
    """Not even a status line comes."""
    with Loopback([DROP]) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server, "ollama")
        assert server.chats[0].written == []


def test_what_is_no_http_can_be_sent() -> None:
    """A body without a head reaches the client bare."""
    with (
        Loopback([Answer(raw=b"SSH-2.0\r\n", head=False)]) as server,
        pytest.raises(http.client.BadStatusLine),
    ):
        ask(server, "ollama")


@pytest.mark.parametrize("answer", [HANG, Answer(WORDS, ending="hang", after=1)])
def test_a_hanging_answer_ends_when_the_client_goes(answer: Answer) -> None:
    """The server sees when, and that the answer was never over."""
    with Loopback([answer]) as server:
        with socket.create_connection(urlsplit(server.url).netloc.split(":")) as raw:
            raw.sendall(request("/api/chat"))
            server.until(
                lambda: server.chats and len(server.chats[0].written) == (1 if answer.head else 0)
            )
            assert server.chats[0].closed is None
        server.until(lambda: server.chats[0].closed)
        (asked,) = server.chats
        assert asked.closed and asked.finished is None


def test_a_client_that_goes_in_the_middle_is_seen_at_once() -> None:
    """Also between two tokens far apart; no token is written after it."""
    with Loopback([Answer(WORDS, pause=3600)]) as server:
        with socket.create_connection(urlsplit(server.url).netloc.split(":")) as raw:
            raw.sendall(
                request("/v1/chat/completions")
                .replace(b'"messages"', b'"stream":1,"messages"')
                .replace(b": 33", b": 44")
            )
            raw.recv(10)
        server.until(lambda: server.chats[0].closed)
        assert [token for _, token in server.chats[0].written] == TOKENS[:1]


def test_one_connection_carries_many_requests() -> None:
    """Kept open between them, so that pooling can be seen."""
    with Loopback([WORDS, Answer(status=500), WORDS]) as server:
        connection = connect(server)
        for status in (200, 500, 200):
            connection.request("POST", "/api/chat", '{"model": "test"}')
            answer = connection.getresponse()
            assert answer.status == status and answer.read()
        connection.close()
        assert server.connections == 1 and len(server.chats) == 3


def test_every_request_is_kept_as_it_came() -> None:
    """Method, path, headers by lower-case name, the JSON body, and when."""
    with Loopback([WORDS]) as server:
        before = time.monotonic()
        connection = connect(server)
        connection.request(
            "POST",
            "/api/chat?x=1",
            '{"model": "m", "options": {"seed": 7}}',
            {"Authorization": "Bearer k", "Connection": "close"},
        )
        connection.getresponse().read()
        look(server, "/api/tags")
        chat, tags = server.requests
    assert (chat.method, chat.path, chat.body) == (
        "POST",
        "/api/chat",
        {"model": "m", "options": {"seed": 7}},
    )
    assert (
        chat.headers["authorization"] == "Bearer k"
        and before <= chat.at <= tags.at <= time.monotonic()
    )
    assert (tags.method, tags.path, tags.body) == ("GET", "/api/tags", {}) and server.chats == [
        chat
    ]


def test_a_function_of_the_request_answers_it() -> None:
    """So that one server can be judge and writer; what the function raises is heard of."""
    with Loopback([lambda body: f"you said {body['messages'][0]['content']}"]) as server:
        said = objects(
            "ollama", ask(server, "ollama", messages=[{"role": "user", "content": "Hallo"}]).read()
        )
        assert "".join(texts("ollama", said)) == "you said Hallo"

    def broken(body: Any) -> str:
        raise AssertionError("not this question")

    with (
        pytest.raises(AssertionError, match="not this question"),
        Loopback([broken]) as server,
        pytest.raises(ConnectionError),
    ):
        ask(server, "ollama")


def test_what_there_is_can_be_looked_up() -> None:
    """Versions, models, keys; an unknown model or path is not found."""
    with Loopback(models=("gemma", "mistral:7b")) as server:
        tags, shown = (
            look(server, "/api/tags")[1],
            look(server, "/api/show", "POST", model="gemma")[1],
        )
        assert [model["name"] for model in tags["models"]] == ["gemma:latest", "mistral:7b"]
        assert shown["model_info"]["test.context_length"] == 8192 and shown["capabilities"] == [
            "completion"
        ]
        assert look(server, "/api/show", "POST", model="other")[0] == 404
        assert look(server, "/api/version")[1]["version"] and look(server, "/api/ps")[1]["models"]
        assert [model["id"] for model in look(server, "/v1/models")[1]["data"]] == [
            "gemma",
            "mistral:7b",
        ]
        assert isinstance(look(server, "/api/v1/models")[1]["data"][0]["pricing"]["prompt"], str)
        assert look(server, "/api/v1/key")[1]["data"]["limit_remaining"] == 4.2
        assert look(server, "/nowhere")[0] == 404 and server.chats == []


@every_protocol
def test_its_environment_sets_devpipe_to_it(backend: str, tmp_path: Path) -> None:
    """The address under the name its owner uses, a key where one is needed, and the model of each
    task.
    """
    with Loopback() as server:
        told = server.environment(backend, tasks=("interception", "judge"), model="gemma")
        settings = Settings.load(tmp_path, environ=told, backends=[backend])
    assert settings.url(backend, "").startswith(server.url)
    assert CHAT[backend].startswith(settings.url(backend, "").removeprefix(server.url))
    assert bool(settings.key("OPENROUTER_API_KEY")) == (backend == "openrouter")
    assert {told["DEVPIPE_MODEL_INTERCEPTION"], told["DEVPIPE_MODEL_JUDGE"]} == {f"{backend}/gemma"}


def test_a_canary_counts_and_tells_nothing() -> None:
    """Every attempt to connect, even one that says nothing; not a byte comes back."""
    with Canary() as canary:
        for count in range(1, 50):
            with socket.create_connection(urlsplit(canary.url).netloc.split(":")):
                assert canary.connections == count
        with pytest.raises(ConnectionError):
            ask(canary, "openrouter")
        assert canary.connections == 50 and canary.requests == []
    with Canary() as canary:
        assert canary.connections == 0


def test_it_can_be_opened_again_and_leaves_nothing_behind() -> None:
    """After the block its port is closed and hanging answers are over."""
    server = Loopback([HANG])
    for _ in range(2):
        with server:
            url = urlsplit(server.url)
            raw = socket.create_connection((url.hostname, url.port))
            raw.sendall(request("/api/chat"))
            server.until(lambda: server.chats)
        assert read_all(raw) == b""
        raw.close()
        server.requests.clear()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.hostname, url.port))


CROWD = """
import asyncio, json, sys, time
async def one(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    body = b'{"model": "test", "messages": []}'
    writer.write(b"POST /api/chat HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    seen = []
    while line := await reader.readline():
        if line.startswith(b"{"):
            seen.append(time.monotonic())
    writer.close()
    return seen
async def main(host, port, count):
    print(json.dumps(await asyncio.gather(*[one(host, port) for _ in range(count)])))
asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_a_hundred_streams_go_on_at_once() -> None:
    """Each at twenty tokens a second for a second, from a process of its own: one after the other
    would take a hundred seconds.
    """
    with Loopback([Answer("x " * 20, latency=0.5, pause=0.05)]) as server:
        url = urlsplit(server.url)
        done = subprocess.run(
            [sys.executable, "-c", CROWD, str(url.hostname), str(url.port), "100"],
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
            env=dict(os.environ),
        )
        assert len(server.chats) == 100
        first, last = ([asked.written[at][0] for asked in server.chats] for at in (0, -1))
    arrivals = json.loads(done.stdout)
    assert len(arrivals) == 100 and {len(seen) for seen in arrivals} == {21}
    assert max(last) - min(first) < (sum(last) - sum(first)) / 10
