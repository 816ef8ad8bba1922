"""What durability costs: one run of 12 events and a 50 kB picture, against plain append-only files,
in interleaved rounds.

    python benchmarks/recorder.py [--rounds 200] [--folder DIR]

Prints medians in milliseconds and their ratio to the plain file with one fsync at the end;
`--folder` chooses the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path

from devpipe.engine.loop import Fsyncs
from devpipe.record.events import (
    ArtifactWritten,
    AttemptFinished,
    AttemptStarted,
    Event,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    TextWritten,
    VerdictGiven,
)
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.values import new_run_id

TEXT = "Eine Katze sitzt im Regen und zählt die Tropfen, die von den roten Dächern fallen. " * 4
PICTURE = os.urandom(50_000)
SHA256 = hashlib.sha256(PICTURE).hexdigest()
REDACT = Redactor(["sk-0123456789abcdefghijklmnop", "r8_ABCDEFGHIJKLMNOPQRSTUVWXYZ"])

Batches = list[list[Event]]


def batches() -> Batches:
    """The 12 events as the engine writes them; the picture comes before the last batch."""
    verdict = VerdictGiven(
        stage="pre_output", allowed=True, sha256=SHA256, level="youth", policy="1", method="rules"
    )
    artifact = ArtifactWritten(
        path="03_image.png",
        media_type="image/png",
        sha256=SHA256,
        bytes=len(PICTURE),
        width=512,
        height=512,
    )
    started = RunStarted(
        run_id="x",
        pipeline="dada",
        output="sketch",
        texts={"prompt": TEXT},
        text_seed=7,
        safety="youth",
    )
    return [
        [
            started,
            StageStarted(stage="input"),
            TextWritten(stage="input", text=TEXT, final=True),
            verdict,
        ],
        [
            StageStarted(stage="interception"),
            TextWritten(stage="interception", text=TEXT, final=True),
            verdict,
            AttemptStarted(
                attempt=1,
                stage="generation",
                task="media",
                backend="procedural",
                request={"texts": {"prompt": TEXT}},
            ),
        ],
        [
            AttemptFinished(attempt=1, stage="generation", outcome="completed", seconds=0.1),
            artifact,
            StageFinished(stage="generation", outcome="completed"),
            RunFinished(outcome="completed", seconds=0.2),
        ],
    ]


def recorder(root: Path, pool: Executor | None = None) -> None:
    """Ours: lock, checksums, redaction, every durable event on disk when acknowledged,
    folders too.
    """
    run = Recorder.create(root, new_run_id(), redact=REDACT, pool=pool)
    first, second, last = batches()
    run.record(*first)
    run.record(*second)
    run.write_files([("03_image.png", PICTURE)])
    run.record(*last)
    run.close()


def plain(root: Path, *, each: bool, picture: bool = False) -> None:
    """The plain file: a JSON line per event, a picture beside it."""
    folder = root / new_run_id()
    folder.mkdir()
    with open(folder / "events.jsonl", "ab", buffering=0) as file:
        for event in (event for batch in batches() for event in batch):
            if isinstance(event, AttemptFinished):
                with open(folder / "03_image.png", "wb", buffering=0) as image:
                    image.write(PICTURE)
                    if picture:
                        os.fsync(image.fileno())
            file.write(json.dumps(event.model_dump(mode="json")).encode() + b"\n")
            if each:
                os.fsync(file.fileno())
        os.fsync(file.fileno())


def fsyncs(root: Path) -> None:
    """The floor of what the promises cost: two batches of events, the picture, the ending, each
    fsynced before the next.
    """
    folder = root / new_run_id()
    folder.mkdir()
    with (
        open(folder / "events.jsonl", "ab", buffering=0) as file,
        open(folder / "03_image.png", "wb", buffering=0) as image,
    ):
        for batch in range(4):
            (image if batch == 2 else file).write(PICTURE if batch == 2 else TEXT.encode() * 4)
            os.fsync((image if batch == 2 else file).fileno())


PEERS: dict[str, Callable[[Path], None]] = {
    "plain file, one fsync": lambda root: plain(root, each=False),
    "plain file and picture, one fsync each": lambda root: plain(root, each=False, picture=True),
    "plain file, fsync for each event": lambda root: plain(root, each=True),
    "plain files, fsync at our four points": fsyncs,
    "devpipe recorder, fsyncs in a row": recorder,
}


def measure(
    peers: Mapping[str, Callable[[Path], None]], rounds: int, root: Path
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of wall clock and of CPU, by peer."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            peer(root)
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (_median_ms(wall for wall, _ in rounds_), _median_ms(cpu for _, cpu in rounds_))
        for name, rounds_ in taken.items()
    }


def _median_ms(seconds: Iterable[float]) -> float:
    return statistics.median(seconds) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, Fsyncs() as pool:
        peers = PEERS | {
            "devpipe recorder, as the engine uses it": lambda root: recorder(root, pool)
        }
        measure(peers, 5, Path(folder))
        medians = measure(peers, arguments.rounds, Path(folder))
    base = medians["plain file, one fsync"][0]
    for name, (wall, cpu) in medians.items():
        print(f"{name:42} {wall:7.3f} ms   {cpu:7.3f} ms CPU   {wall / base:5.2f} x")


if __name__ == "__main__":
    main()
