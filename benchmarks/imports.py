"""How long `import devpipe` takes beside `import httpx`: alternating fresh processes, medians, and
the ratio (bar: under 3).

python benchmarks/imports.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys


def microseconds(module: str) -> int:
    """Cumulative import time as `-X importtime` tells it."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    return int(told.splitlines()[-1].split("|")[1])


def main(rounds: int) -> None:
    pairs = [(microseconds("devpipe"), microseconds("httpx")) for _ in range(rounds)]
    ours, theirs = (statistics.median(column) / 1000 for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"import devpipe  {ours:.1f} ms\nimport httpx    {theirs:.1f} ms\nratio          "
        f" {ratio:.2f}   (bar: under 3)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
