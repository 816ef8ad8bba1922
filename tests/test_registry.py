"""Backends by name."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from devpipe.backends.base import Backend
from devpipe.backends.registry import Backends, open_backend
from devpipe.cli.check import checked
from devpipe.config.backends import BACKENDS
from devpipe.config.settings import Settings
from devpipe.errors import ConfigError, Rejected, Unavailable, UnknownName
from devpipe.testing import ScriptedBackend, settings_for_tests
from devpipe.values import MediaRequest, TextRequest


def register(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package would."""
    point = metadata.EntryPoint(name, target, "devpipe.backends")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])


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


def test_a_backend_that_cannot_be_imported_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package, and is one a fallback chain can react to."""
    register("faraway", "no_such_package.backend:Faraway", monkeypatch)
    with pytest.raises(Unavailable, match="pip install no_such_package"):
        open_backend("faraway", settings_for_tests(tmp_path))


OURS = {
    "no_module": (
        "devpipe.backends.shuot:Shout",
        r"No module named 'devpipe.backends.shuot'.*Mend devpipe.backends.shuot, or its line in",
    ),
    "no_class": (
        "devpipe.offline.backend:Procedurall",
        r"module devpipe.offline.backend has no backend class 'Procedurall'",
    ),
    "no_backend": ("devpipe.offline.backend:VERSION", r"no backend class 'VERSION'"),
    "no_colon": ("devpipe.offline.backend", r"no backend class ''"),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.loopback
async def test_a_wrong_line_in_the_registry_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt module or class is said in one line, and `check` says that the backend is not
    ready.
    """
    target, message = OURS[name]
    register(name, target, monkeypatch)
    with pytest.raises(Unavailable, match=message) as caught:
        open_backend(name, settings_for_tests(tmp_path))
    assert "pip install" not in str(caught.value)
    health = (await checked(tmp_path)).backends[name]
    assert not health.ready and re.search(r"Mend devpipe\.(backends|offline)\.", health.hint)


def test_an_import_that_fails_in_our_own_code_names_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to install devpipe because a backend's file has a misspelt import, nor because
    a module behind it has.
    """
    for module, code in (
        ("outer_room", "import inner_room"),
        ("inner_room", "from devpipe.values import Nonsense"),
    ):
        (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    register("outer", "outer_room:Outer", monkeypatch)
    with pytest.raises(Unavailable, match=r"Nonsense.*Mend inner_room, or its line in") as caught:
        open_backend("outer", settings_for_tests(tmp_path))
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "shout/any",
            (
                "there is no backend 'shout'; .*A new one needs its line in"
                " devpipe/config/backends.py"
            ),
        ),
        ("faraway", "must be backend/model, not 'faraway': say which model of faraway"),
    ],
)
def test_a_model_that_nobody_serves_is_said(
    model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable names a backend that is registered, and one of its models; only the procedures
    need no name.
    """
    register("faraway", "no_such_package.backend:Faraway", monkeypatch)
    with pytest.raises(ConfigError, match=message):
        Settings.load(tmp_path, {"DEVPIPE_MODEL_INTERCEPTION": model})
    served = {"DEVPIPE_MODEL_INTERCEPTION": "faraway/large", "DEVPIPE_MODEL_SPLIT": "procedural"}
    assert Settings.load(tmp_path, served).models["interception"] == "faraway/large"


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
