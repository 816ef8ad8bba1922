"""Chains of text models: who stands in for whom, what is never asked, and what is never
paid twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from contexts import REPOSITORY, Desk, Streamed, Written
from engines import engine_in

from devpipe.analysis.verify import verify
from devpipe.backends.base import Backend, Emit
from devpipe.backends.chain import may_hop
from devpipe.backends.registry import Backends
from devpipe.backends.retrying import wait_for
from devpipe.config.chains import Chain, outside
from devpipe.errors import BackendError, CutOff, RateLimited, Rejected, Unavailable, UnknownName
from devpipe.record.events import AttemptFinished, AttemptStarted, TextStreamed, TextWritten, Warned
from devpipe.stages.journal import Where
from devpipe.stages.services import BY_PROCEDURE, Refused
from devpipe.testing import DROP, Answer, Canary, Loopback, settings_for_tests
from devpipe.values import BOUNDARIES, TextRequest, TextResult

HERE = Where("interception", "cut_up")
ASK = TextRequest("interception", "a cat", instruction="Cut it up.")
DOWN = Unavailable("It is down.", hint="Start it.")


async def ask(desk: Desk, request: TextRequest = ASK) -> TextResult:
    return await desk.services.text.write(request, HERE)


def outcomes(desk: Desk) -> list[tuple[str, str]]:
    """Of each attempt: who was asked, and how it ended."""
    ended = {one.attempt: one.outcome for one in desk.all(AttemptFinished)}
    return [(f"{one.backend}/{one.model}", ended[one.attempt]) for one in desk.all(AttemptStarted)]


@pytest.mark.parametrize(
    ("text", "candidates", "boundary"),
    [
        ("", [], "world"),
        ("procedural", ["procedural"], "world"),
        ("ollama/llama3:8b", ["ollama/llama3:8b"], "world"),
        ("openrouter/openai/gpt-5", ["openrouter/openai/gpt-5"], "world"),
        ("a/x, b/y:z", ["a/x", "b/y:z"], "world"),
        ("local: a/x:1,b/y", ["a/x:1", "b/y"], "local"),
        ("  eu :a/x , procedural", ["a/x", "procedural"], "eu"),
        ("world: a/x", ["a/x"], "world"),
        ("local/x", ["local/x"], "world"),
    ],
)
def test_a_chain_is_read_as_it_is_written(text: str, candidates: list[str], boundary: str) -> None:
    """The prefix is a boundary only before the first model; a colon inside a model's name is its
    own.
    """
    chain = Chain.read(text)
    assert ([str(one) for one in chain.candidates], chain.boundary) == (candidates, boundary)
    assert Chain.read(str(chain)) == chain


@pytest.mark.parametrize("own", BOUNDARIES)
@pytest.mark.parametrize("other", BOUNDARIES)
def test_the_stricter_boundary_counts(own: str, other: str) -> None:
    """Of the chain's and the workspace's."""
    text = f"{own}: a/x"
    stricter = min(own, other, key=("local", "eu", "world").index)
    assert Chain.read(text).within(other).boundary == stricter  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "boundary", "out"),
    [
        ("local", "local", False), ("eu", "local", True), ("world", "local", True),
        ("local", "eu", False), ("eu", "eu", False), ("world", "eu", True),
        ("local", "world", False), ("eu", "world", False), ("world", "world", False),
        ("", "local", True), ("moon", "eu", True), (None, "eu", True),
    ],
)  # fmt: skip
def test_what_leaves_a_boundary(place: str, boundary: str, out: bool) -> None:
    """Each lies inside the next; a place that nobody knows lies outside."""
    assert outside(place, boundary) is out  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "free", "paid"),
    [
        (Unavailable("x"), True, True),
        (Unavailable("x", sent=True), True, False),
        (RateLimited("x"), True, True),
        (Rejected("x"), False, False),
        (CutOff("x"), False, False),
        (BackendError("x"), False, False),
    ],
)
def test_when_the_next_may_be_asked(error: BackendError, free: bool, paid: bool) -> None:
    """Not after a fault of the request or half an answer, and never where the first may be
    charged.
    """
    assert (may_hop(error, paid=False), may_hop(error, paid=True)) == (free, paid)


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        (None, 2.0),
        (0.0, 0.0),
        (3.5, 3.5),
        (20.0, 20.0),
        (20.1, None),
        (-1.0, 0.0),
        (float("nan"), None),
    ],
)
def test_how_long_a_rate_limit_is_waited_out(retry_after: float | None, wait: float | None) -> None:
    """As long as was said, at most 20 s; a little where nobody said."""
    assert wait_for(RateLimited("x", retry_after=retry_after)) == wait


def test_only_a_rate_limit_is_waited_out() -> None:
    """Nothing else gets better by waiting."""
    assert [wait_for(error) for error in (Unavailable("x"), Rejected("x"), CutOff("x"))] == [
        None
    ] * 3


async def test_the_next_model_stands_in_and_both_attempts_are_recorded() -> None:
    """The failed attempt with its error, a note that says who stood in, the attempt that
    answered.
    """
    first, second = Written(DOWN), Written("a drawn cat")
    desk = Desk({"interception": "one/x, two/y"}, one=first, two=second)
    assert (await ask(desk)).text == "a drawn cat"
    await desk.commit()
    assert outcomes(desk) == [("one/x", "failed"), ("two/y", "completed")]
    failed = desk.all(AttemptFinished)[0].error
    assert failed and (failed.type, failed.message, failed.hint) == (
        "Unavailable",
        "It is down.",
        "Start it.",
    )
    assert [one.model for one in second.asked] == ["y"]
    order = [event.type for event in desk.events]
    assert order == [
        "attempt_started",
        "attempt_finished",
        "warned",
        "attempt_started",
        "attempt_finished",
    ]
    (note,) = desk.all(Warned)
    assert (
        note.stage == "interception"
        and "two/y stands in for one/x" in note.message
        and "It is down." in note.message
    )


async def test_who_answers_first_is_the_only_one_asked() -> None:
    """A chain costs nothing where its first model works."""
    second = Written("no")
    desk = Desk({"interception": "one/x, two/y"}, one=Written("yes"), two=second)
    assert (await ask(desk)).text == "yes"
    assert second.requests == [] and desk.all(Warned) == []


async def test_an_exhausted_chain_raises_its_last_error_and_says_what_was_tried() -> None:
    """With the type, so that whoever reacts reacts to the last."""
    desk = Desk(
        {"interception": "one/x, two/y, three/z"},
        one=Written(DOWN), two=Written(RateLimited("Busy.", retry_after=60)), three=Written(Unavailable("Gone.", hint="Wait.")),
    )  # fmt: skip
    with pytest.raises(Unavailable) as caught:
        await ask(desk)
    assert caught.value.message == "Gone."
    assert (
        caught.value.hint
        == "Wait. Tried in this order: one/x (Unavailable), two/y (RateLimited), three/z"
        " (Unavailable)."
    )
    assert [outcome for _, outcome in outcomes(desk)] == ["failed"] * 3


async def test_a_single_model_fails_as_it_always_did() -> None:
    """Its own error, untouched."""
    with pytest.raises(Unavailable) as caught:
        await ask(
            Desk({"interception": "one/x"}, one=Written(Unavailable("Down.", hint="Start it.")))
        )
    assert str(caught.value) == "Down. Start it."


@pytest.mark.parametrize(
    "error",
    [Rejected("Wrong."), CutOff("Half.", partial="a dra"), BackendError("?"), ValueError("theirs")],
)
async def test_what_would_be_wrong_again_is_not_tried_elsewhere(error: Exception) -> None:
    """The request is at fault, or an answer was begun: the run ends with that error."""
    second = Written("no")
    with pytest.raises(type(error)) as caught:
        await ask(Desk({"interception": "one/x, two/y"}, one=Written(error), two=second))
    assert caught.value is error and second.requests == []


async def test_a_refusal_is_no_failure() -> None:
    """Nobody else is asked until somebody says yes."""
    second = Written("yes")
    with pytest.raises(Refused, match="I cannot"):
        await ask(
            Desk(
                {"interception": "one/x, two/y"},
                one=Written(TextResult("", refused="I cannot")),
                two=second,
            )
        )
    assert second.requests == []


async def test_money_is_never_spent_twice() -> None:
    """A paid model that may have worked is not replaced; a free one that may have worked is."""
    lost = Unavailable("No answer.", sent=True)
    second = Written("no")
    desk = Desk(
        {"interception": "one/x, two/y"}, one=Written(lost, place="world", paid=True), two=second
    )
    with pytest.raises(Unavailable) as caught:
        await ask(desk)
    assert (
        caught.value is lost
        and second.requests == []
        and [one.paid for one in desk.all(AttemptStarted)] == [True]
    )
    desk = Desk({"interception": "one/x, two/y"}, one=Written(lost), two=second)
    assert (await ask(desk)).text == "no"


async def test_a_paid_model_that_was_never_reached_is_replaced() -> None:
    """Nothing was sent, so nothing is spent."""
    desk = Desk({"interception": "one/x, two/y"}, one=Written(DOWN, paid=True), two=Written("yes"))
    assert (await ask(desk)).text == "yes"


async def test_a_rate_limit_is_waited_out_once_and_recorded() -> None:
    """The same model again, as an attempt of its own, with the same seed."""
    busy = Written(RateLimited("Too many.", retry_after=3), "a drawn cat")
    desk = Desk({"interception": "one/x, two/y"}, one=busy, two=Written("no"))
    assert (await ask(desk)).text == "a drawn cat"
    assert desk.waits == [3] and outcomes(desk) == [("one/x", "failed"), ("one/x", "completed")]
    assert busy.asked[0] == busy.asked[1]
    (note,) = desk.all(Warned)
    assert "one/x is asked again after 3 s" in note.message
    assert note in desk.before_wait, "it was only told after the wait"


async def test_a_second_rate_limit_is_not_waited_out() -> None:
    """Then the next model is asked."""
    desk = Desk(
        {"interception": "one/x, two/y"},
        one=Written(RateLimited("Too many.", retry_after=1)),
        two=Written("yes"),
    )
    assert (await ask(desk)).text == "yes"
    assert desk.waits == [1] and outcomes(desk) == [
        ("one/x", "failed"),
        ("one/x", "failed"),
        ("two/y", "completed"),
    ]


async def test_a_long_rate_limit_is_not_waited_out() -> None:
    """The next model is there at once."""
    desk = Desk(
        {"interception": "one/x, two/y"},
        one=Written(RateLimited("Tomorrow.", retry_after=86_400)),
        two=Written("yes"),
    )
    assert (await ask(desk)).text == "yes"
    assert desk.waits == []


async def test_a_rate_limit_at_the_end_is_the_error() -> None:
    """With its type and its time, for whoever can wait."""
    with pytest.raises(RateLimited) as caught:
        await ask(
            Desk(
                {"interception": "one/x"}, one=Written(RateLimited("Tomorrow.", retry_after=86_400))
            )
        )
    assert caught.value.retry_after == 86_400


async def test_followers_are_told_that_a_text_begins_anew() -> None:
    """Half a sentence of the model that failed is not glued to the next one's; it is kept as
    partial.
    """
    first = Written(Streamed("half ", "a sen", then=Unavailable("Broken.", sent=True)))
    desk = Desk({"interception": "one/x, two/y"}, one=first, two=Written("a drawn cat"))
    await ask(desk)
    assert desk.seen.strip() == "a drawn cat"
    pieces = [one for one in desk.emitted if isinstance(one, TextStreamed)]
    assert [one.text for one in pieces if one.restarted] == [""] and [one.text for one in pieces][
        :2
    ] == ["half ", "a sen"]
    assert [(one.text, one.partial, one.by) for one in desk.all(TextWritten)] == [
        ("half a sen", True, "model")
    ]


async def test_nothing_begins_anew_where_nothing_was_seen() -> None:
    """A follower hears of a restart only of what it shows."""
    desk = Desk({"interception": "one/x, two/y"}, one=Written(DOWN), two=Written("a cat"))
    await ask(desk)
    await desk.services.text.write(ASK, Where("interception", "cut_up", 1))
    assert not any(one.restarted for one in desk.emitted if isinstance(one, TextStreamed))


async def test_a_procedure_may_stand_last() -> None:
    """A school without its server still draws, and the recording says by what."""
    desk = Desk({"interception": "local: one/x, procedural"}, one=Written(DOWN))
    result = await ask(
        desk, TextRequest("interception", "a red cat in the rain", procedure="cut_up")
    )
    assert result.text and result.backend == BY_PROCEDURE
    assert outcomes(desk) == [("one/x", "failed"), ("procedural/", "completed")]


async def test_a_backend_that_cannot_be_loaded_is_an_attempt_that_failed() -> None:
    """A missing package is recorded with what to install, and the next is asked."""

    class Unloadable(Backends):
        def __getitem__(self, name: str) -> Backend:
            if name == "one":
                raise Unavailable("Backend 'one' cannot be loaded.", hint="Run `pip install one`.")
            return super().__getitem__(name)

    desk = Desk({"interception": "one/x, two/y"})
    desk.backends = Unloadable(settings_for_tests(REPOSITORY), {"two": Written("yes")})
    desk.asked()
    assert (await ask(desk)).text == "yes"
    assert outcomes(desk) == [("one/x", "failed"), ("two/y", "completed")]
    error = desk.all(AttemptFinished)[0].error
    assert error and error.hint == "Run `pip install one`."


async def test_an_unknown_backend_is_a_wrong_name_not_a_hop() -> None:
    """Nothing hides a misspelling."""
    with pytest.raises(UnknownName):
        await ask(Desk({"interception": "nobody/x, procedural"}))


@pytest.mark.parametrize("models", ["", "eu: far/x"])
async def test_without_any_model_to_ask_the_variable_is_named(models: str) -> None:
    """Nothing is asked, and the message says which setting to change."""
    far = Written("no", place="world", paid=True)
    with pytest.raises(Rejected, match="DEVPIPE_MODEL_INTERCEPTION"):
        await ask(Desk({"interception": models}, far=far))
    assert far.requests == []


# The privacy boundary, with a listener that counts whoever connects.


class Far(Written):
    """A backend elsewhere: being asked anything is a connection."""

    def __init__(self, canary: Canary, place: str = "world", *, paid: bool = True) -> None:
        super().__init__("from afar", place=place, paid=paid)
        self.canary = canary

    async def _connect(self) -> None:
        where = urlsplit(self.canary.url)
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.close()
        await writer.wait_closed()

    async def digest(self, model: str) -> str:
        await self._connect()
        return ""

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        await self._connect()
        return await super().write(request, emit)


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as made:
        yield made


FAILURES = {
    "down": DOWN, "lost": Unavailable("No answer.", sent=True), "busy": RateLimited("Busy.", retry_after=1),
    "full": RateLimited("Tomorrow.", retry_after=999), "rejected": Rejected("Wrong."), "cut": CutOff("Half.", partial="hal"),
    "unknown": BackendError("?"), "bug": RuntimeError("bug"), "os": ConnectionError("reset"),
    "refused": TextResult("", refused="No."), "length": TextResult("half a", finish_reason="length"), "empty": "", "blank": " \x00",
    "endless": "x" * 200_000, "streamed": Streamed("half", then=Unavailable("Gone.", sent=True)), "cancelled": asyncio.CancelledError(),
}  # fmt: skip


@pytest.mark.loopback
@pytest.mark.parametrize("boundary", ["local", "eu"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_chain_never_leaves_its_boundary(
    canary: Canary, boundary: str, failure: str
) -> None:
    """Every local model failing in every way: nothing outside is asked, whatever stands in the
    chain, and the note says so.
    """
    places = {"local": ("eu", "world", "moon"), "eu": ("world", "moon")}[boundary]
    far = {
        f"far{number}": Far(canary, place, paid=bool(number % 2))
        for number, place in enumerate(places)
    }
    chain = f"{boundary}: far0/big, near/x, " + ", ".join(f"{name}/big" for name in far)
    near = Written(FAILURES[failure])
    for task in ("interception", "judge", "translate", "split"):
        desk = Desk({task: chain}, near=near, **far)
        with pytest.raises(
            (BackendError, Refused, RuntimeError, ConnectionError, asyncio.CancelledError)
        ):
            result = await ask(desk, TextRequest(task, "my name is Ann"))  # type: ignore[arg-type]
            assert task != "judge" or result.text != "from afar"
            raise Rejected("a judge's answer is read elsewhere")
        await desk.commit()
        assert near.asked[-1].boundary == boundary
        assert {one.backend for one in desk.all(AttemptStarted)} == {"near"}
        assert any(
            "far0/big was not asked" in note.message and boundary in note.message
            for note in desk.all(Warned)
        )
    assert canary.connections == 0 and not any(one.requests for one in far.values())


@pytest.mark.loopback
async def test_the_canary_sings(canary: Canary) -> None:
    """Without a boundary the same chain goes out: the test above could fail."""
    desk = Desk({"interception": "near/x, far/big"}, near=Written(DOWN), far=Far(canary))
    assert (await ask(desk)).text == "from afar"
    assert canary.connections == 1


async def test_what_lies_inside_is_asked() -> None:
    """`eu` allows what is local or in the EU, in the chain's order."""
    desk = Desk(
        {"interception": "eu: far/x, near/y, here/z"},
        far=Written("no", place="world"),
        near=Written(DOWN, place="eu"),
        here=Written("yes"),
    )
    assert (await ask(desk)).text == "yes"
    assert outcomes(desk) == [("near/y", "failed"), ("here/z", "completed")]


async def test_a_backend_that_does_not_say_where_it_is_is_far_away() -> None:
    """Somebody else's backend that never heard of boundaries is not local because nobody
    asked it.
    """

    class Silent(Written):
        boundary = Backend.boundary

    with pytest.raises(Rejected):
        await ask(Desk({"interception": "local: one/x"}, one=Silent("no")))
    assert (await ask(Desk({"interception": "one/x"}, one=Silent("yes")))).text == "yes"


async def test_a_request_says_how_far_it_may_go() -> None:
    """The backend refuses, too; the recording tells."""
    one = Written("yes")
    desk = Desk({"interception": "eu: one/x"}, one=one)
    await ask(desk)
    assert one.asked[0].boundary == "eu" and desk.all(AttemptStarted)[0].request["boundary"] == "eu"
    desk = Desk({"interception": "one/x"}, one=one)
    await ask(desk)
    assert (
        one.asked[1].boundary == "world" and "boundary" not in desk.all(AttemptStarted)[0].request
    )


# The same over the wire, with backends of ours.

SERVER_FAILURES = {
    "closed": DROP, "500": Answer(status=500), "503": Answer(status=503), "404": Answer(status=404), "400": Answer(status=400),
    "401": Answer(status=401), "429": Answer(status=429, headers={"Retry-After": "60"}), "cut": Answer("one two", ending="cut", after=1),
    "error inside": Answer("one two three", ending="error", after=1), "error at once": Answer("one", ending="error", after=0),
    "empty": Answer(""), "length": Answer("one", finish="length"), "garbage": Answer(raw=b"<html>"), "half": Answer(raw=b'{"message"'),
}  # fmt: skip


@pytest.mark.loopback
@pytest.mark.parametrize("failure", SERVER_FAILURES)
async def test_no_failure_on_the_wire_sends_a_text_further(
    tmp_path: Path, canary: Canary, failure: str
) -> None:
    """A local server failing in each way, and a far one that would be next, for texts and for
    verdicts: nothing reaches it.
    """
    with Loopback([SERVER_FAILURES[failure]]) as server:
        far = {
            "OPENROUTER_API_KEY": "sk-or-0123456789",
            "DEVPIPE_OPENROUTER_URL": canary.url,
            "DEVPIPE_OPENROUTER_REGION": "world",
        }
        for task in ("INTERCEPTION", "JUDGE"):
            chain = {f"DEVPIPE_MODEL_{task}": "local: ollama/test, openrouter/big"}
            engine = engine_in(
                tmp_path / task, **server.environment("ollama", tasks=()) | far | chain
            )
            run = engine.start("a red cat in the rain", pipeline="dada", width=64, height=64)
            if task == "INTERCEPTION":
                with pytest.raises(BackendError):
                    await run
            else:
                assert (await run).outcome == "blocked"
            assert {
                one.event.backend for one in run.events if isinstance(one.event, AttemptStarted)
            } <= {"ollama", "procedural"}
            engine.close()
        assert server.chats
    assert canary.connections == 0


@pytest.mark.loopback
async def test_another_server_stands_in_over_the_wire(tmp_path: Path) -> None:
    """The hop, from one protocol to another: two attempts, one text."""
    with (
        Loopback([Answer(status=503)]) as busy,
        Loopback(["Sure! Here is your prompt:\n\na drawn cat"]) as ready,
    ):
        chain = {"DEVPIPE_MODEL_INTERCEPTION": "local: ollama/test, openai_compatible/test"}
        servers = busy.environment("ollama", tasks=()) | ready.environment(
            "openai_compatible", tasks=()
        )
        engine = engine_in(tmp_path, **servers | chain)
        run = await engine.run("a red cat", pipeline="dada", width=64, height=64)
        assert run.outcome == "completed" and run.texts["interception"] == {"prompt": "a drawn cat"}
        attempts = [
            one.started.backend
            for one in run.summary.attempts.values()
            if one.started.task == "interception"
        ]
        assert attempts == ["ollama", "openai_compatible"] and verify(run.recording) == []
        engine.close()
