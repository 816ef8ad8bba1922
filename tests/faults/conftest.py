"""Writers to kill, and the reason where this machine cannot trace them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.harness import STRACE, Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def strace() -> None:
    if not STRACE:
        pytest.skip("strace is not installed: apt-get install strace")
