"""Backends by name, imported where first used; their table is `devpipe.config.backends`."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from devpipe.backends.base import Backend, Wrapper
from devpipe.config.backends import HERE, known
from devpipe.errors import Unavailable, UnknownName

if TYPE_CHECKING:
    from devpipe.config.settings import Settings

_LINE = f"its line in {HERE}"


def open_backend(name: str, settings: Settings) -> Backend:
    """A new backend object.

    Raises UnknownName, or Unavailable that says what to install or to mend.
    """
    entries = known()
    if name not in entries:
        raise UnknownName("backend", name, entries)
    module, _, attribute = entries[name].target.partition(":")
    try:
        backend = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise Unavailable(
            f"Backend {name!r} cannot be loaded: {error}.",
            hint=_help(error, module, entries[name].install),
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise Unavailable(
            f"Backend {name!r} cannot be loaded: the module {module} has no backend class"
            f" {attribute!r}.",
            hint=f"Mend {module}, or {_LINE}.",
        )
    return backend(settings)


def _help(error: ImportError, module: str, install: str) -> str:
    """What to do about an import that failed: install a foreign package, or mend a module."""
    package = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package != "devpipe":
        return f"Run `pip install {install or package}`."
    return f"Mend {_failed_module(error) or module}, or {_LINE}."


def _failed_module(error: ImportError) -> str:
    """The last of the modules that were being imported; empty where the first was not found."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    failed = [name for name in modules if name != __name__ and not name.startswith("importlib")]
    return failed[-1] if failed else ""


class Backends:
    """The backends of one Engine: opened at first use, closed together.

    `wrappers` go around each of them, the innermost first, inside of those that every chain has.
    """

    def __init__(
        self,
        settings: Settings,
        given: Mapping[str, Backend] | None = None,
        wrappers: Sequence[Wrapper] = (),
    ) -> None:
        self._settings = settings
        self._given = dict(given or {})
        self.wrappers = tuple(wrappers)
        self._open = dict(self._given)

    def __getitem__(self, name: str) -> Backend:
        if name not in self._open:
            self._open[name] = open_backend(name, self._settings)
        return self._open[name]

    def names(self) -> list[str]:
        return sorted({*known(), *self._given})

    async def close(self) -> None:
        """Close them all. Those opened here are opened anew when asked for again."""
        opened = self._open
        self._open = dict(self._given)
        for backend in opened.values():
            await backend.close()
