"""Every error devpipe raises, and who reacts to it.

    DevpipeError                    its message ends with what to do; `hint` repeats that part
      UsageError                    the person mends the call: exit status 2
        ConfigError                 files to mend; `faults` lists all of them
        UnknownName                 a name that does not exist; offers the nearest ones
        Parked                      a run died while a paid request was under way: a person decides
      NotAllowed                    Stage 4 was asked to send what no verdict allows: nothing is
                                    sent
      RecorderError                 the run stops before its next act
        RecorderFull                no space left: free some, then `devpipe resume`
        RecorderPoisoned            an earlier write or fsync failed; open the recording again
        RunLocked                   another process writes this run
        RecordingDamaged            a recording cannot be read further than said
      BackendError                  `vendor` holds what the vendor said; `sent`: it may have been
                                    done, and charged
        Unavailable                 -> the next backend of the chain
        RateLimited                 -> wait `retry_after` seconds
        Rejected                    -> stop: the request is wrong, and would be wrong again
        CutOff                      -> stop: the answer ended early; `partial` holds what came

A blocked prompt, a vendor's refusal and a cancelled run are outcomes, not errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FEW = 10  # so many names stand in a message; of more, the three nearest


class DevpipeError(Exception):
    """Base of all our errors. `str(error)` is one line: what is wrong, then what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(DevpipeError):
    """The call is wrong; nothing was started."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in one configuration file."""

    file: str
    path: str  # JSON path, e.g. $.parameters.width.minimum
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.message}"


class ConfigError(UsageError):
    """One or more configuration files are wrong; `faults` holds all of them."""

    def __init__(
        self, faults: Sequence[Fault], *, hint: str = "Mend them, then run `devpipe check`."
    ) -> None:
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(
            f"{len(faults)} configuration fault(s):\n{lines}\n",
            hint=hint,
        )
        self.faults = tuple(faults)


class UnknownName(UsageError):
    """A pipeline, output, parameter, backend or run that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = few(name, known)
        near = nearest(name, names)
        hint = f"There are: {', '.join(names) or 'none'}."
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        super().__init__(f"There is no {kind} {name!r}.", hint=hint)


class Parked(UsageError):
    """Nobody knows whether a paid request was charged; it is never sent again by itself."""


class NotAllowed(DevpipeError):
    """Stage 4 has no allowing verdict for exactly what would be sent."""


class RecorderError(DevpipeError):
    """The recording cannot be written or read."""


class RecorderFull(RecorderError):
    """The disk or the quota is full."""


class RecorderPoisoned(RecorderError):
    """A write or fsync failed earlier: nothing more is acknowledged by this recorder."""


class RunLocked(RecorderError):
    """Another process is writing this run."""


class RecordingDamaged(RecorderError):
    """A recording is not readable, or not what its events say."""


@dataclass(frozen=True, slots=True)
class VendorAnswer:
    """A vendor's error, read into one shape; nothing secret is left in it."""

    status: int  # of HTTP, or said inside the answer; 0 where nobody said
    code: str = ""
    kind: str = ""  # the vendor's word; "moderation" where it refused the content
    message: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


class BackendError(DevpipeError):
    """A backend could not do what it was asked."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        vendor: VendorAnswer | None = None,
        sent: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.vendor = vendor
        self.sent = sent


class Unavailable(BackendError):
    """Not reachable, not installed, overloaded: another backend may do it."""


class RateLimited(BackendError):
    """Too many requests. `retry_after` in seconds, or None where nobody said."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retry_after: float | None = None,
        vendor: VendorAnswer | None = None,
    ) -> None:
        super().__init__(message, hint=hint, vendor=vendor)
        self.retry_after = retry_after


class Rejected(BackendError):
    """The backend says the request itself is wrong."""


class CutOff(BackendError):
    """An answer ended before its end mark."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        partial: str = "",
        vendor: VendorAnswer | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message, hint=hint, vendor=vendor, sent=sent)
        self.partial = partial


def nearest(name: str, known: Iterable[str], *, count: int = 3, cutoff: float = 0.6) -> list[str]:
    """The known names closest to a misspelt one, best first; `cutoff` 0: however far they are."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=cutoff)


def few(name: str, known: Iterable[str]) -> list[str]:
    """All names where they are few; of many the three nearest, and that there are others."""
    names = sorted(known)
    return names if len(names) <= FEW else [*nearest(name, names, cutoff=0), "and others"]


def offer(name: str, known: Iterable[str]) -> str:
    """What may stand in the place of a wrong name, the nearest first."""
    names = few(name, known)
    near = nearest(name, names, count=1)
    allowed = f"Allowed: {', '.join(names) or 'none'}."
    return f"did you mean {near[0]!r}? {allowed}" if near else allowed
