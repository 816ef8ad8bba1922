"""`devpipe check`: which configs are usable, which backends are there, and the one next step for whatever is missing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devpipe.backends.base import Health
from devpipe.errors import DevpipeError, Fault
from devpipe.lint import lint

if TYPE_CHECKING:
    from devpipe.engine import Engine

PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Checked:
    """All faults, and the health of each backend."""

    usable: Mapping[str, int]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    backends: Mapping[str, Health]

    def to_json(self) -> dict[str, Any]:
        return {
            "usable": dict(self.usable),
            "faults": [{"file": fault.file, "path": fault.path, "message": fault.message} for fault in self.faults],
            "warnings": list(self.warnings),
            "backends": {
                name: {"ready": health.ready, "detail": health.detail, "models": list(health.models), "hint": health.hint}
                for name, health in self.backends.items()
            },
        }

    def __str__(self) -> str:
        lines = [f"{kind:<14} {count} usable" for kind, count in self.usable.items()]
        for name, health in self.backends.items():
            lines.append(f"{name:<14} " + ("ready" if health.ready else f"not there. {health.hint}") + (f" {health.detail}" if health.detail else ""))
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in self.faults] or ["no faults"]
        return "\n".join(lines)


async def checked(engine: Engine) -> Checked:
    """Look at everything; asks each backend at the same time, with patience for the slowest of a few seconds."""
    catalogue = engine.catalogue
    names = engine.backends.names()
    healths = await asyncio.gather(*[_health(engine, name) for name in names])
    return Checked(
        usable={"interceptions": len(catalogue.interceptions), "media": len(catalogue.media), "outputs": len(catalogue.outputs)},
        faults=(*catalogue.faults, *lint(catalogue)),
        warnings=(*map(str, engine.settings.faults()), *_unwritable(engine)),
        backends=dict(zip(names, healths, strict=True)),
    )


async def _health(engine: Engine, name: str) -> Health:
    try:
        return await asyncio.wait_for(engine.backends[name].check(), PATIENCE_S)
    except TimeoutError:
        return Health(ready=False, hint=f"It did not answer within {PATIENCE_S:.0f} s: is its address right?")
    except DevpipeError as error:
        return Health(ready=False, detail=error.message, hint=error.hint)


def _unwritable(engine: Engine) -> list[str]:
    folder = engine.settings.recordings
    existing = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    return [] if os.access(existing, os.W_OK) else [f"{folder} cannot be written: set DEVPIPE_RECORDINGS to a folder that can."]
