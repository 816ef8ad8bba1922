"""`devpipe check`: which configs are usable, which backends are there, and the one next step for
whatever is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from devpipe.backends.base import Health
from devpipe.backends.registry import Backends
from devpipe.cli.workspace import nearest, unsynced
from devpipe.comfyui.doctor import unnamed_models, unready
from devpipe.config.backends import known
from devpipe.config.catalogue import Catalogue, load_catalogue
from devpipe.config.chains import Candidate, Chain, outside
from devpipe.config.lint import lint
from devpipe.config.settings import VARIABLES, Settings
from devpipe.errors import ConfigError, DevpipeError, Fault, offer
from devpipe.safety.check import is_strict
from devpipe.values import Boundary

PATIENCE_S = 2.0  # with the start of Python, everything is said within 3 s
SHOWN_MODELS = 8


@dataclass(frozen=True, slots=True)
class Checked:
    """All faults, and the health of each backend."""

    usable: Mapping[str, list[str]]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    backends: Mapping[str, Health]
    unready: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # outputs that cannot be used now, and why
    stand_ins: Mapping[str, str] = field(
        default_factory=dict
    )  # who is asked in the place of an output or a text model that cannot be used now

    def to_json(self) -> dict[str, Any]:
        return {
            "usable": dict(self.usable),
            "faults": [
                {"file": fault.file, "path": fault.path, "message": fault.message}
                for fault in self.faults
            ],
            "warnings": list(self.warnings),
            "backends": {
                name: {
                    name: list(value) if isinstance(value, tuple) else value
                    for name, value in asdict(health).items()
                }
                for name, health in self.backends.items()
            },
            "unready": {name: list(reasons) for name, reasons in self.unready.items()},
            "stand_ins": dict(self.stand_ins),
        }

    def __str__(self) -> str:
        lines = [
            f"{len(names)} usable {kind}: {', '.join(names) or 'none'}"
            for kind, names in self.usable.items()
        ]
        lines += [_backend_line(name, health) for name, health in self.backends.items()]
        lines += self._unready_lines()
        lines += [f"{other} stands in for {name}" for name, other in self.stand_ins.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in self.faults] or ["no faults in the files"]
        return "\n".join(line.rstrip() for line in lines)

    def _unready_lines(self) -> list[str]:
        """A line for each reason, with all outputs that it holds up."""
        outputs: dict[str, list[str]] = {}
        for name, reasons in self.unready.items():
            for reason in dict.fromkeys(reasons):
                outputs.setdefault(reason, []).append(name)
        return [f"NOT READY {', '.join(names)}: {reason}" for reason, names in outputs.items()]


def _backend_line(name: str, health: Health) -> str:
    state = "ready" if health.ready else "NOT READY"
    known = [health.detail, health.version, _some(health.models), health.hint]
    return f"backend {name}: {state} {' '.join(filter(None, known))}"


async def checked(home: Path, object_info: Mapping[str, Any] | None = None) -> Checked:
    """Look at everything, also where the settings are broken; asks all backends at the same time,
    with patience of a few seconds.

    `object_info`: what a ComfyUI server said of its nodes; graphs are then checked against it, and
    no server is asked.
    """
    faults: tuple[Fault, ...] = ()
    try:
        settings = Settings.load(home)
    except ConfigError as error:
        settings = Settings(home, home / "recordings", environment=os.environ)
        faults = error.faults
    backends = Backends(settings)
    names = backends.names()
    looking = asyncio.create_task(asyncio.to_thread(_catalogue, home))
    healths = await asyncio.gather(*[health_of(backends, name) for name in names])
    catalogue, linted = await looking
    health = dict(zip(names, healths, strict=True))
    waiting = await unready(catalogue, backends, health, object_info)
    makers = sorted(
        {one.backend for one in catalogue.outputs.values() if health[one.backend].ready}
    )
    usable = {
        "interceptions": catalogue.interceptions,
        "media pipelines": catalogue.media,
        "outputs": catalogue.outputs,
    }
    found = Checked(
        usable={kind: sorted(found) for kind, found in usable.items()},
        faults=(*faults, *catalogue.faults, *linted),
        warnings=(
            *map(str, unread_variables(settings)),
            *_outside(settings, backends),
            *_judgeless(settings, backends, makers),
            *_unwritable(settings.recordings),
            *unsynced(settings.recordings),
            *unnamed_models(catalogue),
        ),
        backends=health,
        unready=waiting,
        stand_ins=_stand_ins(catalogue, waiting) | _text_stand_ins(settings, backends, health),
    )
    await backends.close()
    return found


def _catalogue(home: Path) -> tuple[Catalogue, list[Fault]]:
    catalogue = load_catalogue(home)
    return catalogue, list(lint(catalogue))


def _stand_ins(catalogue: Catalogue, waiting: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The output that is made in the place of each one that cannot be made now."""
    found = {}
    for name in waiting:
        ready = [other for other in catalogue.outputs[name].fallback if other not in waiting]
        if ready:
            found[name] = ready[0]
    return found


def _text_stand_ins(
    settings: Settings, backends: Backends, health: Mapping[str, Health]
) -> dict[str, str]:
    """The text model that is asked in the place of the first one of each task."""
    found = {}
    for task, models in settings.models.items():
        chain = Chain.read(models)
        within = [
            one for one in chain.candidates if not outside(_place(backends, one), chain.boundary)
        ]
        ready = [one for one in within if one.backend in health and health[one.backend].ready]
        if ready and ready[0] != within[0]:
            found[f"models.{task} ({within[0]})"] = str(ready[0])
    return found


def unread_variables(settings: Settings) -> list[Fault]:
    """List variables that look like ours and that nothing reads."""
    ours = {*VARIABLES.values(), "DEVPIPE_HOME", "DEVPIPE_LANGUAGE"}
    for name in known():
        ours |= {f"DEVPIPE_{name.upper()}_URL", f"DEVPIPE_{name.upper()}_REGION"}
    faults = []
    for name in sorted(settings.environment):
        if name.startswith("DEVPIPE_") and name not in ours:
            message = f"is no variable of devpipe; {offer(name, ours)}"
            faults.append(Fault("environment", name, message))
    return faults


def _some(models: Sequence[str]) -> str:
    """The first models by name, and how many more there are."""
    if not models:
        return ""
    shown = ", ".join(models[:SHOWN_MODELS])
    more = len(models) - SHOWN_MODELS
    return f"models: {shown} and {more} more." if more > 0 else f"models: {shown}."


async def health_of(backends: Backends, name: str, *, patience: float = PATIENCE_S) -> Health:
    """What a backend says of itself within so many seconds; whatever goes wrong, an answer."""
    try:
        return await asyncio.wait_for(backends[name].check(), patience)
    except TimeoutError:
        return Health(
            ready=False, hint=f"It did not answer within {patience:.0f} s: is its address right?"
        )
    except DevpipeError as error:
        return Health(ready=False, detail=error.message, hint=error.hint)
    except Exception as error:  # a third party's backend: its fault must not hide the others
        return Health(
            ready=False,
            detail=f"{type(error).__name__}: {error}",
            hint="Tell those who made this backend.",
        )


def _outside(settings: Settings, backends: Backends) -> list[str]:
    """The tasks whose models all stand outside of their boundary."""
    found = []
    for task, models in settings.models.items():
        chain = Chain.read(models)
        if chain.candidates and all(
            outside(_place(backends, one), chain.boundary) for one in chain.candidates
        ):
            found.append(
                f"models.{task}: nothing will be asked, all of {chain} lies outside of"
                f" {chain.boundary!r}."
            )
    return found


def _judgeless(settings: Settings, backends: Backends, names: Sequence[str]) -> list[str]:
    """The media backends that make nothing at this level until there is a judge."""
    found = {name: missing_judge(settings, backends, name) for name in names}
    return [f"{name}: {need}" for name, need in found.items() if need]


def missing_judge(settings: Settings, backends: Backends, name: str) -> str:
    """What a media backend lacks where it makes nothing without a judge; else empty."""
    if settings.models["judge"] or not is_strict(settings.safety):
        return ""
    try:
        if backends[name].procedural:
            return ""
    except DevpipeError:  # it cannot be opened: said elsewhere
        return ""
    return (
        f"at level {settings.safety} it makes nothing without a judge: set"
        " DEVPIPE_MODEL_JUDGE=backend/model."
    )


def _place(backends: Backends, candidate: Candidate) -> Boundary:
    try:
        return backends[candidate.backend].boundary(candidate.model)
    except DevpipeError:  # said elsewhere
        return "local"


def _unwritable(folder: Path) -> list[str]:
    existing = nearest(folder)
    if existing.is_dir() and os.access(existing, os.W_OK):
        return []
    return [f"{folder} cannot be written: set DEVPIPE_RECORDINGS to a folder that can."]
