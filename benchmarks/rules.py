"""What the rules of the safety check cost: a short prompt (bar: under 1 ms), ten thousand
characters of prose (bar: under 100 ms).

python benchmarks/rules.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from devpipe.safety.rules import Rules, shipped_rules

PROMPT = "Eine rote Katze sitzt im Regen auf dem Dach und liest ein Buch"
PROSE = Path(__file__).parents[1] / "tests" / "safety" / "sentences_held.txt"


def processor_ms(rules: Rules, text: str, times: int) -> float:
    began = time.process_time()
    for number in range(times):
        rules.hits(f"{text} {began} {number}", "youth")  # a text that was looked at is known
    return 1000 * (time.process_time() - began) / times


def main(rounds: int) -> None:
    rules, prose = shipped_rules(), " ".join(PROSE.read_text("utf-8").split())[:10_000]
    rules.hits(prose, "youth")  # what is compiled once
    short = statistics.median(processor_ms(rules, PROMPT, 20) for _ in range(rounds))
    long = statistics.median(processor_ms(rules, prose, 1) for _ in range(rounds))
    print(f"{len(PROMPT):6} characters {short:8.3f} ms CPU   (bar: under 1)")
    print(f"{len(prose):6} characters {long:8.3f} ms CPU   (bar: under 100)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
