"""How long the table of all runs takes, against reading the same table from Parquet, in interleaved
rounds.

    python benchmarks/tables.py [N] [--rounds 9] [--folder DIR]

N recordings (2,000) of 18 events are written down first. `warm` is the first call of a new Tables
object in a process that has pandas.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from devpipe.analysis.tables import Tables
from devpipe.record.events import Event
from devpipe.record.reader import DERIVED, run_folder
from tests.recording_maker import story

WORDS = (
    "eine",
    "rote",
    "Katze",
    "im",
    "Regen",
    "unter",
    "hohen",
    "blauen",
    "Häusern",
    "tanzt",
    "zwischen",
    "Papier",
    "und",
    "Schatten",
)
PIPELINES = ("dada", "bauhaus", "expressionism", "overdrive")


def line(seq: int, event: Event) -> bytes:
    text = (
        b'{"v":1,"seq":%d,"at":"2026-11-22T14:15:%02d.123456Z",' % (seq, seq)
        + event.model_dump_json().encode()[1:-1]
    )
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)


def write(root: Path, first: int, last: int) -> None:
    """Recordings as the recorder leaves them, without its fsyncs and pictures."""
    for number in range(first, last):
        drawn = random.Random(number)
        run_id = (
            f"202611{number // 5000 % 28 + 1:02d}"
            f"-{number // 3600 % 24:02d}{number // 60 % 60:02d}{number % 60:02d}-"
            + "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz234567", k=8))
        )
        prompt, rewritten = (" ".join(drawn.choices(WORDS, k=k)) for k in (8, 60))
        events = story(
            run_id,
            seed=number + 1,
            prompt=prompt,
            rewritten=rewritten,
            pipeline=drawn.choice(PIPELINES),
            batch="benchmark",
            labels={"group": drawn.choice("abc")},
            parameters={"alpha": drawn.choice((0.0, 0.25, 0.5, 0.75, 1.0))},
            files={"04_image.png": run_id.encode()},
            config={"pipeline": {"instruction": " ".join(drawn.choices(WORDS, k=250))}},
        )
        folder = run_folder(root, run_id)
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_bytes(
            b"".join(line(seq, event) for seq, event in enumerate(events))
        )


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def measure(root: Path, count: int, rounds: int) -> None:
    tables, parquet = Tables(root), root / "runs.parquet"
    cold = timed(tables.runs)
    runs = tables.runs()
    assert len(runs) == count
    runs.to_parquet(parquet)
    acts = {
        "Parquet": lambda: pd.read_parquet(parquet),
        "runs(), warm": tables.runs,
        "folder scan alone": lambda: scan(tables),
    }
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            taken[name].append(timed(act))
    base = statistics.median(taken["Parquet"])
    print(
        f"{count} runs, {runs.shape[1]} columns, index"
        f" {sum(f.stat().st_size for f in (root / DERIVED).iterdir()) / 1e6:.1f} MB"
    )
    print(
        f"{'runs(), no index':22} {cold * 1e3:9.1f} ms  {cold / base:6.2f} x  "
        f" {cold / count * 1e3:.3f} ms per run"
    )
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(
            f"{name:22} {median * 1e3:9.1f} ms  {median / base:6.2f} x   best"
            f" {min(seconds) * 1e3:.1f} ms"
        )
    write(root, count, count + max(1, count // 100))
    print(f"{'runs(), 1 % new':22} {timed(tables.runs) * 1e3:9.1f} ms")


def scan(tables: Tables) -> int:
    return sum(
        os.stat(f"{tables.root}/{i[:4]}-{i[4:6]}-{i[6:8]}/{i}/events.jsonl").st_size
        for i in tables.ids()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        write(root, 0, arguments.count)
        measure(root, arguments.count, arguments.rounds)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
