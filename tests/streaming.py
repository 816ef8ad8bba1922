"""What the tests of streaming share: a workspace whose runs stream in three stages, texts to
stream, and how late they were seen.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from devpipe.config import workspace
from devpipe.testing import Answer, Loopback
from devpipe.testing.loopback import Asked

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
AT_ONCE_S = 0.1  # the promise: a token is seen this soon after the server has sent it
TERMINAL = re.compile(r"\x1b\[\w")
STREAMING = re.compile(r'<p class="dp-text[^>]*>(.*?)</p>', re.DOTALL)


def streaming_workspace(folder: Path) -> Path:
    """A workspace with the pipeline `spoken`, which translates, and the output `foreign`, which
    translates once more.
    """
    home = workspace.create(folder)
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
