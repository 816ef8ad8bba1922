"""Where the extra `local` is not installed, its backend says how to get it, and everything else
goes on.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from devpipe.backends.registry import open_backend
from devpipe.errors import Unavailable
from devpipe.testing import settings_for_tests
from devpipe.values import TextRequest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="torch is installed here"
)


def test_check_says_what_to_install(tmp_path: Path) -> None:
    """Not ready, with the command."""
    health = asyncio.run(open_backend("transformers", settings_for_tests(tmp_path)).check())
    assert (
        not health.ready
        and 'pip install "devpipe-lab[local]"' in health.hint
        and "not installed" in health.detail
    )


@pytest.mark.parametrize("model", ["org/model", "folder"])
def test_asking_for_a_text_says_what_to_install(tmp_path: Path, model: str) -> None:
    """Unavailable, so that the next model of a chain is asked; its digest is unknown."""
    (tmp_path / "folder").mkdir()
    backend = open_backend("transformers", settings_for_tests(tmp_path))
    with pytest.raises(Unavailable, match=r'pip install "devpipe-lab\[local\]"'):
        asyncio.run(
            backend.write(TextRequest("interception", "x", model=model), lambda piece: None)
        )
    assert asyncio.run(backend.digest("org/model")) == ""
