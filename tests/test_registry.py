"""Backends by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from devpipe.backends.base import Backend
from devpipe.backends.registry import BACKENDS, Backends, open_backend
from devpipe.errors import Rejected, Unavailable, UnknownName
from devpipe.testing import ScriptedBackend, settings_for_tests
from devpipe.values import MediaRequest, TextRequest


def test_every_registered_backend_opens(tmp_path: Path) -> None:
    """Each line of the registry leads to a Backend."""
    for name in BACKENDS:
        assert isinstance(open_backend(name, settings_for_tests(tmp_path)), Backend)


def test_every_registered_backend_stands_in_the_readme() -> None:
    """The docs line is not forgotten."""
    readme = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
    for name in BACKENDS:
        assert f"\n| {name} |" in readme


def test_an_unknown_backend_offers_the_nearest(tmp_path: Path) -> None:
    """A misspelt name says the right one."""
    with pytest.raises(UnknownName, match="procedural"):
        open_backend("procedurall", settings_for_tests(tmp_path))


def test_a_backend_that_cannot_be_imported_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package, and is one a fallback chain can react to."""
    from importlib import metadata

    point = metadata.EntryPoint("faraway", "no_such_package.backend:Faraway", "devpipe.backends")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    with pytest.raises(Unavailable, match="pip install no_such_package"):
        open_backend("faraway", settings_for_tests(tmp_path))


async def test_backends_are_opened_once_and_closed_together(tmp_path: Path) -> None:
    """The same object for the same name, closed with the Engine."""
    given = ScriptedBackend(["x"])
    backends = Backends(settings_for_tests(tmp_path), {"script": given})
    assert backends["script"] is given and backends["procedural"] is backends["procedural"]
    assert {"procedural", "script"} <= set(backends.names())
    await backends.close()
    assert given.closed == 1


async def test_a_backend_rejects_what_it_does_not_override(tmp_path: Path) -> None:
    """The base says which kind of backend to choose instead."""
    backend = Backend(settings_for_tests(tmp_path))
    with pytest.raises(Rejected, match="text backend"):
        await backend.write(TextRequest("interception", "x"), lambda piece: None)
    with pytest.raises(Rejected, match="media backend"):
        await backend.make(MediaRequest("image", {"prompt": "x"}), lambda piece: None)
