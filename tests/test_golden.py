"""What came of a few hundred requests before still comes of them: every event's content and every
byte drawn.
"""

from __future__ import annotations

import json
from pathlib import Path

from golden.requests import HASHES, hashes


async def test_equal_requests_give_what_they_gave_before(tmp_path: Path) -> None:
    """264 runs over all interceptions and drawn outputs, regenerated, edited and blocked ones among
    them.
    """
    made = await hashes(tmp_path)
    assert made == json.loads(HASHES.read_text())
