"""What can be made here now? Asked when a page opens, so that nobody pays for a text first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from devpipe.backends.base import Health
from devpipe.cli.check import health_of, missing_judge
from devpipe.comfyui.doctor import UNTOLD, unready
from devpipe.config.models import OutputConfig
from devpipe.engine.engine import Engine

PATIENCE_S = 8.0  # a server at work may be slow to answer; who presses Run can wait for it

Reasons = Mapping[str, Sequence[str]]  # by output: why it cannot be made now, for an adult


async def find_unready(engine: Engine, outputs: Iterable[str] = ()) -> Reasons:
    """Which of these outputs (all, where none is named) cannot be made now, and why.

    Their servers are asked, and whether these would take their graphs; nothing is made. One that
    others may stand in for is left out where one of them can be made. Runs in the engine's thread.
    """
    catalogue = engine.catalogue
    named = list(outputs) or list(catalogue.outputs)
    wanted = _with_fallbacks(named, catalogue.outputs)
    health = await _healths(engine, wanted.values())
    told = await unready(replace(catalogue, outputs=wanted), engine.backends, health)
    found = {name: _certain(reasons) for name, reasons in told.items() if _certain(reasons)}
    found |= _without_server(engine, wanted, health)
    return _not_stood_in(named, found, wanted)


async def find_unreachable(engine: Engine, output: str) -> Sequence[str]:
    """Why nobody who could make this output can be reached now; empty where somebody can."""
    wanted = _with_fallbacks([output], engine.catalogue.outputs)
    health = await _healths(engine, wanted.values())
    found = _without_server(engine, wanted, health)
    return _not_stood_in([output], found, wanted).get(output, ())


def _certain(reasons: Sequence[str]) -> list[str]:
    """Without what a server did not say: that keeps nobody from trying."""
    return [reason for reason in reasons if not reason.startswith(UNTOLD)]


def _with_fallbacks(
    names: Iterable[str], outputs: Mapping[str, OutputConfig]
) -> dict[str, OutputConfig]:
    named = [outputs[name] for name in names]
    others = [outputs[other] for output in named for other in output.fallback]
    return {output.name: output for output in (*named, *others)}


async def _healths(engine: Engine, outputs: Iterable[OutputConfig]) -> dict[str, Health]:
    names = sorted({output.backend for output in outputs})
    asked = (health_of(engine.backends, name, patience=PATIENCE_S) for name in names)
    return dict(zip(names, await asyncio.gather(*asked), strict=True))


def _without_server(
    engine: Engine, outputs: Mapping[str, OutputConfig], health: Mapping[str, Health]
) -> dict[str, list[str]]:
    """The outputs whose backend is not there, or makes nothing at this level without a judge."""
    found = {}
    for name, output in outputs.items():
        state = health[output.backend]
        judge = missing_judge(engine.settings, engine.backends, output.backend)
        if not state.ready:
            found[name] = [f"backend {output.backend}: {state.detail} {state.hint}".strip()]
        elif judge:
            found[name] = [f"{output.backend}: {judge}"]
    return found


def _not_stood_in(
    names: Iterable[str], found: Mapping[str, list[str]], outputs: Mapping[str, OutputConfig]
) -> Reasons:
    """Those of these outputs for which no other one can stand in."""
    return {
        name: found[name]
        for name in names
        if name in found and all(other in found for other in outputs[name].fallback)
    }
