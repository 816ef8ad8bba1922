"""Backends by name, imported where first used; third parties register the entry point group `devpipe.backends`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from devpipe.backends.base import Backend
from devpipe.errors import Unavailable, UnknownName

if TYPE_CHECKING:
    from devpipe.settings import Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a backend's class is, and what to install where its import fails."""

    target: str  # "module:Class"
    install: str = ""


BACKENDS: Mapping[str, Entry] = {
    "procedural": Entry("devpipe.backends.procedural:Procedural"),
}


def known() -> dict[str, Entry]:
    """All registered backends, ours first; an entry point cannot replace one of ours."""
    found = metadata.entry_points(group="devpipe.backends")
    return {point.name: Entry(point.value) for point in found} | dict(BACKENDS)


def open_backend(name: str, settings: Settings) -> Backend:
    """A new backend object. Raises UnknownName, or Unavailable that says what to install."""
    entries = known()
    if name not in entries:
        raise UnknownName("backend", name, entries)
    module, _, attribute = entries[name].target.partition(":")
    try:
        backend: type[Backend] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise Unavailable(
            f"Backend {name!r} cannot be loaded: {error}.", hint=f"Run `pip install {entries[name].install or module.split('.')[0]}`."
        ) from error
    return backend(settings)


class Backends:
    """The backends of one Engine: opened at first use, closed together."""

    def __init__(self, settings: Settings, given: Mapping[str, Backend] | None = None) -> None:
        self._settings = settings
        self._open: dict[str, Backend] = dict(given or {})

    def __getitem__(self, name: str) -> Backend:
        if name not in self._open:
            self._open[name] = open_backend(name, self._settings)
        return self._open[name]

    def names(self) -> list[str]:
        return sorted({*known(), *self._open})

    async def close(self) -> None:
        while self._open:
            await self._open.popitem()[1].close()
