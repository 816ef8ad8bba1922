"""The exit status of a command: 0 completed, 3 blocked, 1 failed, 2 usage, 130 interrupted."""

from __future__ import annotations

from collections.abc import Sequence

from devpipe.cli.stops import EXIT_INTERRUPTED
from devpipe.errors import DevpipeError, UsageError

EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, EXIT_BLOCKED = 0, 1, 2, 3
_BY_OUTCOME = {
    "completed": EXIT_COMPLETED,
    "blocked": EXIT_BLOCKED,
    "cancelled": EXIT_INTERRUPTED,
}
_WORST_FIRST = (EXIT_INTERRUPTED, EXIT_USAGE, EXIT_FAILED, EXIT_BLOCKED, EXIT_COMPLETED)


def status_of_outcome(outcome: str | None) -> int:
    """The status for how a run ended; failed for any other word."""
    return _BY_OUTCOME.get(outcome or "", EXIT_FAILED)


def status_of_error(error: DevpipeError) -> int:
    """2 where the person can correct what they typed or configured, else 1."""
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def worst(statuses: Sequence[int]) -> int:
    """The status that a shell must hear of several; failed where there is none."""
    return min(statuses, key=_WORST_FIRST.index, default=EXIT_FAILED)


__all__ = [
    "EXIT_BLOCKED",
    "EXIT_COMPLETED",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "status_of_error",
    "status_of_outcome",
    "worst",
]
