"""Texts seen while they are written: from a server's socket to the terminal, the pipe and the
panel, and what stops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shell import DEVPIPE, PATIENCE_S, recordings
from streaming import (
    BACKENDS,
    IN_STAGE_1,
    IN_STAGE_2,
    IN_STAGE_3,
    PROMPT,
    WRITERS,
    InStep,
    Seen,
    latest,
    on_a_terminal,
    read,
    run_command,
    shown_in,
    streaming_workspace,
    three_stages,
    through_a_pipe,
    watched,
)
from test_kernels import VERSIONS, Kernel

from devpipe import Engine, Settings
from devpipe.errors import CutOff
from devpipe.record.events import TextStreamed, TextWritten
from devpipe.testing import Answer, Loopback
from devpipe.widgets import RunPanel

pytestmark = pytest.mark.loopback
every_backend = pytest.mark.parametrize("backend", BACKENDS)
SLOWLY = Answer(IN_STAGE_2, pause=0.05)
ENDLESS = Answer(IN_STAGE_2, pause=0.02, ending="hang", after=5)
BEGINNING = "grey paper letters tumble across"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return streaming_workspace(tmp_path / "workspace")


@pytest.fixture
def engine(home: Path) -> Iterator[Callable[..., Engine]]:
    """Makes engines on the workspace that ask a server."""
    made: list[Engine] = []

    def make(
        server: Loopback, backend: str = "ollama", tasks: tuple[str, ...] = ("interception",)
    ) -> Engine:
        made.append(
            Engine(settings=Settings.load(home, environ=server.environment(backend, tasks=tasks)))
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def sent(server: Loopback) -> list[str]:
    """The texts that it has sent, each as far as it has come."""
    return ["".join(token for _, token in asked.written) for asked in server.chats]


@every_backend
@pytest.mark.parametrize("watch", [on_a_terminal, through_a_pipe])
def test_every_token_is_on_the_screen_before_the_next_is_sent(
    home: Path, backend: str, watch: Callable[..., None]
) -> None:
    """In all stages that a model writes in, on a terminal and through a pipe; each text stands
    there once.
    """
    seen = Seen()
    with InStep([IN_STAGE_1, IN_STAGE_2, IN_STAGE_3], seen=lambda: latest(seen)) as server:
        watch(home, server, backend, seen)
        assert sent(server) == [IN_STAGE_1, IN_STAGE_2, IN_STAGE_3]
    screen = latest(seen)
    assert [screen.count(text) for text in (IN_STAGE_1, IN_STAGE_2, IN_STAGE_3)] == [
        1,
        1,
        1,
    ], screen
    assert f"{IN_STAGE_2}  [en]" in screen and "completed in" in screen


@every_backend
def test_json_is_still_one_object(home: Path, backend: str) -> None:
    """With --json nothing streams: stdout is one object, all texts in it."""
    arguments = ["run", PROMPT, "-p", "spoken", "-o", "foreign", "--json"]
    with Loopback(three_stages()) as server:
        told = os.environ | {"DEVPIPE_HOME": str(home)} | server.environment(backend, tasks=WRITERS)
        done = subprocess.run(
            [*DEVPIPE, *arguments], capture_output=True, env=told, timeout=PATIENCE_S, check=True
        )
    assert done.stdout.count(b"\n") == 1 and done.stderr == b""
    assert IN_STAGE_3 in done.stdout.decode() and IN_STAGE_1 in done.stdout.decode()


@every_backend
def test_the_panel_shows_every_token_before_the_next_is_sent(
    engine: Callable[..., Engine], backend: str
) -> None:
    """Each card of a stage that a model writes in."""
    cards: dict[str, Seen] = {}
    with InStep(
        [IN_STAGE_1, IN_STAGE_2, IN_STAGE_3], seen=lambda: "\n".join(map(latest, cards.values()))
    ) as server:
        run = engine(server, backend, WRITERS).start(PROMPT, pipeline="spoken", output="foreign")
        _, seen = watched(run)
        cards |= seen
        assert run.wait().outcome == "completed"
        assert sent(server) == [IN_STAGE_1, IN_STAGE_2, IN_STAGE_3]


def test_a_token_that_is_seen_late_is_caught() -> None:
    """Where a screen keeps each token back until the next one comes, the next one never comes."""
    sent: list[str] = []
    server = InStep(seen=lambda: "".join(sent[:-1]), patience_s=0.1)
    with pytest.raises(AssertionError, match="sent and never seen: 'one'"):
        for token, _ in server.in_step([("one", b""), (" two", b"")]):
            sent.append(token)


@every_backend
def test_the_panel_stays_quick(engine: Callable[..., Engine], backend: str) -> None:
    """No more than about twenty updates a second however quick the model is, and all of the text in
    the end.
    """
    with Loopback([Answer(" ".join([IN_STAGE_2] * 10), pause=0.004)]) as server:
        run = engine(server, backend).start(PROMPT, pipeline="spoken", output="foreign")
        panel, seen = watched(run)
        assert run.wait().outcome == "completed"
        written = server.chats[0].written
    assert (
        len(written) == 200
        and len(seen["interception"]) < 20 * (written[-1][0] - written[0][0]) + 10
    )
    assert (
        IN_STAGE_2 in panel.cards["interception"].value
        and "dp-streaming" not in panel.cards["interception"].value
    )


def test_the_last_tokens_before_a_pause_are_shown_too(engine: Callable[..., Engine]) -> None:
    """A model that writes a few words at once and then thinks: all of them are seen, not only the
    first.
    """
    with Loopback([Answer(IN_STAGE_2, ending="hang", after=5)]) as server:
        run = engine(server).start(PROMPT, pipeline="dada")
        panel, seen = watched(run)
        server.until(lambda: server.chats and len(server.chats[0].written) == 5, timeout=PATIENCE_S)
        reached = soon(lambda: shown_in(panel.cards["interception"].value) == BEGINNING)
        assert reached, seen["interception"]
        run.cancel()
        assert run.wait().outcome == "cancelled"


def test_a_stage_that_has_ended_is_not_painted_as_running_again(
    engine: Callable[..., Engine],
) -> None:
    """A repaint that was still to come when the stage ended does not come after it."""
    with Loopback() as server:
        run = engine(server).start(PROMPT, pipeline="stille_post", width=512, height=512)
        panel, states = RunPanel(run, language="en"), list[str]()
        panel.cards["interception"].observe(
            lambda change: states.append(re.findall("dp-is-([a-z]+)", change["new"])[0]), "value"
        )
        run.wait()
    assert states.count("running") >= 2 and set(states[states.index("completed") :]) == {
        "completed"
    }, states


def soon(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Whether something comes true in time."""

    async def look() -> bool:
        until = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return found

    return asyncio.run(look())


async def test_whoever_iterates_a_run_gets_every_token(engine: Callable[..., Engine]) -> None:
    """In order, with its place, before the text itself."""
    with Loopback([Answer(IN_STAGE_2)]) as server:
        run = engine(server).start(PROMPT, pipeline="dada", width=64, height=64)
        happenings = [getattr(one, "event", one) async for one in run]
        tokens = [token for _, token in server.chats[0].written]
    streamed = [event for event in happenings if isinstance(event, TextStreamed)]
    (written,) = [
        event
        for event in happenings
        if isinstance(event, TextWritten) and event.stage == "interception"
    ]
    assert [event.text for event in streamed] == tokens and {event.step for event in streamed} == {
        "cut_up"
    }
    assert happenings.index(streamed[-1]) < happenings.index(written) and written.text == IN_STAGE_2


async def test_whoever_is_stopped_while_iterating_finds_the_ending_on_disk(
    engine: Callable[..., Engine],
) -> None:
    """As with `await run`: the next line of a notebook sees a run that is over."""
    with Loopback([ENDLESS]) as server:
        run = engine(server).start(PROMPT, pipeline="dada")

        async def iterate() -> None:
            async for _ in run:
                pass

        iterating = asyncio.ensure_future(iterate())
        streaming = lambda: server.chats and len(server.chats[0].written) == 5  # noqa: E731
        await asyncio.to_thread(server.until, streaming, timeout=PATIENCE_S)
        iterating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await iterating
        assert run.done and run.recording.state == "cancelled"


BAD_ENDINGS = [
    Answer(IN_STAGE_2, pause=0.01, ending="cut", after=5),
    Answer(IN_STAGE_2, pause=0.01, ending="error", after=5, error="out of memory"),
    Answer(BEGINNING, pause=0.01, finish="length"),
]


@every_backend
@pytest.mark.parametrize("answer", BAD_ENDINGS, ids=["cut", "error", "length"])
def test_a_text_that_is_cut_off_stays_in_sight_and_is_marked(
    engine: Callable[..., Engine], backend: str, answer: Answer
) -> None:
    """In the panel and in the recording, as partial and never as a result; the error says what to
    do.
    """
    pipeline = "pig_latin" if answer.finish == "length" else "dada"  # its step refuses what is cut
    with Loopback([answer]) as server:
        run = engine(server, backend).start(PROMPT, pipeline=pipeline)
        panel, _ = watched(run)
        with pytest.raises(CutOff) as cut:
            run.wait()
        assert len(server.chats) == 1, "sent once"
    assert cut.value.hint and run.outcome == "failed" and run.texts.get("interception", {}) == {}
    (partial,) = [text for text in run.summary.stages["interception"].written if text.partial]
    assert partial.text == BEGINNING and not partial.final
    card = panel.cards["interception"].value
    assert shown_in(card) == BEGINNING and "not finished" in card
    assert RunPanel(run.recording, language="en").cards["interception"].value == card, (
        "the recording shows the same"
    )
    assert "dp-is-failed" in card


def test_a_text_that_begins_anew_takes_the_place_of_the_first(
    engine: Callable[..., Engine],
) -> None:
    """A model that is asked a second time is not read as going on with its first answer."""
    cards: dict[str, Seen] = {}
    answers = ["a red cat on the roof", "one red [Katze] over the roof"]
    with InStep(answers, seen=lambda: "\n".join(map(latest, cards.values()))) as server:
        run = engine(server, "ollama", WRITERS).start(
            "eine rote [Katze] auf dem Dach", pipeline="spoken", width=64, height=64
        )
        _, seen = watched(run)
        cards |= seen
        run.wait()
    assert not any("one" in text and "cat" in text for _, text in seen["input"])


def test_a_text_that_is_cut_off_is_marked_on_the_screen(home: Path) -> None:
    """What came stands there once, marked; the reason is a line on stderr."""
    with Loopback(BAD_ENDINGS[:1]) as server, run_command(home, server, "ollama") as process:
        out, err = (stream.decode() for stream in process.communicate(timeout=PATIENCE_S))
    assert process.returncode == 1 and len(err.splitlines()) == 1
    assert f"{BEGINNING}  [partial]\n" in out and out.count("letters") == 1 and "failed in" in out


def test_a_text_that_is_taken_otherwise_than_it_came_has_a_line_of_its_own(home: Path) -> None:
    """What a model says around its text is seen growing, with the result below it."""
    chatter = Answer(f"Here is your prompt:\n{IN_STAGE_2}")
    with Loopback([chatter]) as server, run_command(home, server, "ollama") as process:
        out = process.communicate(timeout=PATIENCE_S)[0].decode()
    lines, result = [line.strip() for line in out.splitlines()], f"{IN_STAGE_2}  [de]"
    assert process.returncode == 0 and [
        lines.count(one) for one in ("Here is your prompt:", IN_STAGE_2, result)
    ] == [1, 1, 1], out


@every_backend
def test_ctrl_c_closes_the_stream_and_keeps_what_came(home: Path, backend: str) -> None:
    """Exit status 130, one line, the recording `cancelled` with its partial text; the server sees
    its endless stream closed.
    """
    with Loopback([ENDLESS]) as server, run_command(home, server, backend) as process:
        assert process.stdout
        read(process.stdout.fileno(), Seen(), until=BEGINNING)
        process.send_signal(signal.SIGINT)
        server.until(lambda: server.chats[0].closed, timeout=PATIENCE_S)
        out, err = (stream.decode() for stream in process.communicate(timeout=PATIENCE_S))
        assert server.chats[0].finished is None
    (recording,) = recordings(home / "recordings")
    assert process.returncode == 130 and err == "devpipe: interrupted. What was done is recorded.\n"
    assert (
        recording.state == "cancelled" and out.startswith("  [partial]\n") and "cancelled in" in out
    )
    assert [
        text.text for text in recording.summary.stages["interception"].written if text.partial
    ] == [BEGINNING]


@every_backend
def test_a_run_that_is_cancelled_closes_its_stream(
    engine: Callable[..., Engine], backend: str
) -> None:
    """Also before the first token has come."""
    for answer in (ENDLESS, Answer(head=False, ending="hang")):
        with Loopback([answer]) as server:
            run = engine(server, backend).start(PROMPT, pipeline="dada")

            def begun(answer: Answer = answer, server: Loopback = server) -> bool:
                return bool(server.chats) and bool(not answer.head or server.chats[0].written)

            server.until(begun, timeout=PATIENCE_S)
            run.cancel()
            server.until(lambda server=server: server.chats[0].closed, timeout=PATIENCE_S)
            assert run.wait().outcome == "cancelled"


@pytest.mark.parametrize("version", VERSIONS)
def test_interrupting_a_cell_closes_the_stream_it_waits_for(
    home: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the cell waits: `cancelled` on disk, the endless stream closed, and the next run
    streams.
    """
    with Loopback([ENDLESS] * 3 + [Answer(IN_STAGE_2)]) as server:
        for name, value in server.environment("ollama").items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(Kernel(version, home)) as kernel:
            kernel.run("from devpipe import Engine; engine = Engine()")
            for count, waiting in enumerate(
                ("await run", "run.wait()", "async for happening in run: pass"), 1
            ):
                kernel.run("run = engine.start('ein Boot', pipeline='dada')")
                cell = kernel.begin(waiting)
                server.until(
                    lambda count=count: (
                        [len(asked.written) for asked in server.chats] == [5] * count
                    ),
                    timeout=PATIENCE_S,
                )
                kernel.interrupt(cell)
                server.until(lambda: server.chats[-1].closed, timeout=PATIENCE_S)
            again = (
                "(await engine.run('ein Boot', pipeline='dada', width=64,"
                " height=64)).texts['interception']['prompt']"
            )
            assert kernel.run(again) == repr(IN_STAGE_2)
