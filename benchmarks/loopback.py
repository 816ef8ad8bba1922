"""How well the loopback server keeps its script's rate: 100 streams of twenty tokens a second at
once (bar: 1.3 of the script's time).

python benchmarks/loopback.py [STREAMS]
"""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

from devpipe.testing import Answer, Loopback
from tests.test_loopback import CROWD

TOKENS, PAUSE_S = 20, 0.05


def main(streams: int) -> None:
    with Loopback([Answer("x " * TOKENS, latency=0.5, pause=PAUSE_S)]) as server:
        url = urlsplit(server.url)
        crowd = [sys.executable, "-c", CROWD, str(url.hostname), str(url.port), str(streams)]
        subprocess.run(crowd, capture_output=True, check=True)
        spans = sorted(asked.written[-1][0] - asked.written[0][0] for asked in server.chats)
    script = (TOKENS - 1) * PAUSE_S
    print(
        f"{streams} streams   median {spans[len(spans) // 2] / script:.2f}   longest"
        f" {spans[-1] / script:.2f}   (bar: under 1.3)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
