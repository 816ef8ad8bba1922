"""What can be made from here now? Asked before anything is started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from devpipe.cli.parser import Arguments
from devpipe.cli.printing import complain
from devpipe.cli.workspace import engine_of
from devpipe.errors import Unavailable

if TYPE_CHECKING:
    from devpipe.backends.base import Health
    from devpipe.config.models import InterceptionPipeline
    from devpipe.engine.engine import Engine

Reasons = Mapping[str, Sequence[str]]  # by name: why it cannot be used now
EMBEDDED = "procedural"  # the backend that is always there
_NEEDS_A_MODEL = "it needs a text model: set DEVPIPE_MODEL_INTERCEPTION=backend/model."


def unready_outputs(arguments: Arguments) -> Reasons:
    """The outputs that cannot be made now, and why; their servers are asked."""
    with engine_of(arguments) as engine:
        return arguments.stops.wait(_unready(engine), only_looks=True)


def unready_pipelines(engine: Engine) -> Reasons:
    """The interceptions that would do nothing: no procedure stands in for their text model."""
    from devpipe.config.chains import Chain

    if Chain.read(engine.settings.models["interception"]).by_model:
        return {}
    found = engine.catalogue.interceptions.items()
    return {name: [_NEEDS_A_MODEL] for name, pipeline in found if _only_keeps(pipeline)}


def _only_keeps(pipeline: InterceptionPipeline) -> bool:
    procedures = {step.procedure for step in pipeline.steps}
    return procedures == {"keep"}


def require_reachable(arguments: Arguments, engine: Engine, outputs: Sequence[str]) -> None:
    """Say which of these outputs nobody can make who can be reached now.

    Raises Unavailable where that are all of them: no text is paid for whose picture cannot be made,
    and nobody is sent for a judge first. Raises UnknownName for an output that is none.
    """
    far = [name for name in outputs if engine.catalogue.output(name).backend != EMBEDDED]
    if not far:
        return
    with engine_of(arguments) as looking:
        found = arguments.stops.wait(_unreachable(looking, far), only_looks=True)
    lines = [
        f"Output {name} cannot be made now: {' '.join(reasons)}" for name, reasons in found.items()
    ]
    if len(found) == len(outputs):
        hint = "`devpipe list outputs --ready` names those that can be made."
        raise Unavailable(" ".join(lines), hint=hint)
    for line in lines:
        complain(line, home=arguments.home)


async def _unready(engine: Engine) -> Reasons:
    from devpipe.cli.reachable import find_unready

    try:
        return await find_unready(engine)
    finally:
        await engine.backends.close()


async def _unreachable(engine: Engine, outputs: Sequence[str]) -> Reasons:
    from devpipe.cli.reachable import find_unreachable

    try:
        found = {name: await find_unreachable(engine, name) for name in outputs}
    finally:
        await engine.backends.close()
    missing = {name: _of_backends(reasons) for name, reasons in found.items()}
    return {name: reasons for name, reasons in missing.items() if reasons}


def _of_backends(reasons: Sequence[str]) -> list[str]:
    """Without the lack of a judge, which the run's own verdict says."""
    return [reason for reason in reasons if reason.startswith("backend ")]


def healths(arguments: Arguments) -> Mapping[str, Health]:
    """What each backend says of itself."""
    with engine_of(arguments) as engine:
        return arguments.stops.wait(_healths(engine), only_looks=True)


async def _healths(engine: Engine) -> Mapping[str, Health]:
    from devpipe.cli.check import health_of

    names = engine.backends.names()
    try:
        found = await asyncio.gather(*(health_of(engine.backends, name) for name in names))
    finally:
        await engine.backends.close()
    return dict(zip(names, found, strict=True))
