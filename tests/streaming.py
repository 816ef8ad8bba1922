"""What the tests of streaming share: a workspace whose runs stream in three stages, a server that
waits for who watches, and how late.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from devpipe.cli import new_workspace
from devpipe.engine.run import Run
from devpipe.testing import Answer, Loopback
from devpipe.testing.loopback import Asked
from devpipe.testing.protocols import Piece
from devpipe.values import STAGES
from devpipe.widgets import RunPanel
from tests.shell import DEVPIPE, PATIENCE_S

BACKENDS = ("ollama", "openai_compatible", "openrouter")
WRITERS = ("translate", "interception")
PROMPT = "eine rote Katze auf dem Dach"
IN_STAGE_1 = (
    "a red cat walks slowly over the wet roof while the evening sun sinks behind seven old chimneys"
)
IN_STAGE_2 = (
    "grey paper letters tumble across a crooked stage where spoons applaud and every umbrella hums"
    " its own upside down lullaby"
)
IN_STAGE_3 = (
    "graue Buchstaben aus Papier purzeln über eine schiefe Bühne auf der Löffel klatschen und jeder"
    " Schirm ein Schlaflied summt"
)
Seen = list[tuple[float, str]]  # what was there to be read, and since when
TERMINAL = re.compile(r"\x1b\[\w")
STREAMING = re.compile(r'<p class="dp-text[^>]*>(.*?)</p>', re.DOTALL)


def streaming_workspace(folder: Path) -> Path:
    """A workspace with the pipeline `spoken`, which translates, and the output `foreign`, which
    translates once more.
    """
    home = new_workspace.create(folder)
    dada = json.loads((home / "pipelines" / "dada.json").read_text())
    sketch = json.loads((home / "output_configs" / "sketch.json").read_text())
    sketch["parameters"]["width"]["default"] = sketch["parameters"]["height"]["default"] = 64
    (home / "pipelines" / "spoken.json").write_text(
        json.dumps(dada | {"name": "spoken", "translate": True})
    )
    (home / "output_configs" / "foreign.json").write_text(
        json.dumps(sketch | {"name": "foreign", "translate_to": "de"})
    )
    return home


def three_stages(pause: float = 0.01) -> list[Answer]:
    """One text for each of Stages 1 to 3: slowly, quicker, and all tokens at once."""
    return [
        Answer(IN_STAGE_1, latency=0.02, pause=2 * pause),
        Answer(IN_STAGE_2, latency=0.02, pause=pause),
        Answer(IN_STAGE_3, latency=0.02),
    ]


class InStep(Loopback):
    """Sends a token when all text before it is seen: nothing is seen because of what comes after
    it, on a busy machine either.
    """

    def __init__(
        self,
        script: Iterable[Answer | str] = (),
        *,
        seen: Callable[[], str],
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(script)
        self.seen, self.patience_s = seen, patience_s

    def _composed(self, asked: Asked) -> tuple[Answer, int, str, Iterable[Piece]]:
        answer, status, media_type, pieces = super()._composed(asked)
        return answer, status, media_type, self.in_step(pieces)

    def in_step(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The pieces; the server's only thread waits between them."""
        text = ""
        for token, data in pieces:
            yield token, data
            text += token
            until = time.monotonic() + self.patience_s
            while text not in self.seen():
                assert time.monotonic() < until, f"sent and never seen: {text!r}"
                time.sleep(0.001)


def latest(seen: Seen) -> str:
    """What stands there now."""
    return seen[-1][1] if seen else ""


def run_command(
    home: Path,
    server: Loopback,
    backend: str,
    tasks: tuple[str, ...] = ("interception",),
    **streams: int,
) -> subprocess.Popen[bytes]:
    """`devpipe run` as a process of its own; its output may be a pipe or a terminal."""
    arguments = ("run", PROMPT, "-p", "spoken", "-o", "foreign")
    told = os.environ | {"DEVPIPE_HOME": str(home)} | server.environment(backend, tasks=tasks)
    return subprocess.Popen(
        [*DEVPIPE, *arguments],
        stdin=subprocess.DEVNULL,
        env=told,
        **{"stdout": -1, "stderr": -1} | streams,
    )


def read(descriptor: int, seen: Seen, *, until: str | None = None) -> None:
    """All that is written there, or up to a text, with the time at which each piece of it was
    there; each with all before it.
    """
    data = b""
    with contextlib.suppress(OSError):  # Linux says so when the last writer of a terminal has gone
        while piece := os.read(descriptor, 65_536):
            data += piece
            seen.append((time.monotonic(), TERMINAL.sub("", data.decode(errors="replace"))))
            if until is not None and until in latest(seen):
                break


def on_a_terminal(home: Path, server: Loopback, backend: str, seen: Seen) -> None:
    leader, follower = pty.openpty()
    process = run_command(home, server, backend, WRITERS, stdout=follower, stderr=follower)
    os.close(follower)
    read(leader, seen)
    os.close(leader)
    assert process.wait(PATIENCE_S) == 0, latest(seen)


def through_a_pipe(home: Path, server: Loopback, backend: str, seen: Seen) -> None:
    with run_command(home, server, backend, WRITERS) as process:
        assert process.stdout and process.stderr
        read(process.stdout.fileno(), seen)
        assert process.wait(PATIENCE_S) == 0 and process.stderr.read() == b""


def watched(run: Run) -> tuple[RunPanel, dict[str, Seen]]:
    """A panel that follows a run, and what each of its cards has shown when."""
    panel, seen = RunPanel(run, language="en"), {stage: Seen() for stage in STAGES}
    for stage, card in panel.cards.items():
        card.observe(
            lambda change, stage=stage: seen[stage].append(
                (time.monotonic(), shown_in(change["new"]))
            ),
            "value",
        )
    return panel, seen


def shown_in(card: str) -> str:
    """The text that a card of the panel shows."""
    return html.unescape("".join(STREAMING.findall(card)))


def delays(asked: Asked, seen: Sequence[tuple[float, str]]) -> list[float]:
    """How long after each token was sent all text up to it was first seen; infinite where it never
    was.
    """
    found, text, at = [], "", 0
    for sent, token in asked.written:
        text += token
        while at < len(seen) and text not in seen[at][1]:
            at += 1
        found.append(seen[at][0] - sent if at < len(seen) else float("inf"))
    return found


def late(server: Loopback, seen: Sequence[tuple[float, str]]) -> list[float]:
    """The delays of all tokens of all texts."""
    return [delay for asked in server.chats for delay in delays(asked, seen)]


def figures(measured: Iterable[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum, in milliseconds."""
    ordered = sorted(measured)
    return {
        name: round(1000 * ordered[min(int(part * len(ordered)), len(ordered) - 1)], 1)
        for name, part in (("median", 0.5), ("p95", 0.95), ("max", 1))
    }
