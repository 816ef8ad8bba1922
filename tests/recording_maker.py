"""Recordings for tests, written by the real recorder: whole runs as the engine would leave them,
without an engine.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from devpipe.record.events import (
    ArtifactWritten,
    AttemptFinished,
    AttemptStarted,
    Event,
    Problem,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    TextWritten,
    VerdictGiven,
)
from devpipe.record.reader import Recording
from devpipe.record.recorder import Recorder
from devpipe.record.redaction import Redactor
from devpipe.values import new_run_id

PROMPT = "Eine rote Katze im Regen"
REWRITTEN = "Eine Katze im Regen, zerrissen und neu geklebt"


def picture(color: str = "red", *, size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    """The bytes of a picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind)
    return out.getvalue()


def started(run_id: str, **fields: Any) -> RunStarted:
    """The first event; every field may be given."""
    values: dict[str, Any] = {
        "pipeline": "dada",
        "output": "sketch",
        "texts": {"prompt": PROMPT},
        "text_seed": 3,
        "safety": "youth",
    }
    values |= {
        "software": {"devpipe": "0.1.0"},
        "config_sha256": "c" * 64,
        "parameters": {"width": 64},
    }
    return RunStarted(run_id=run_id, **values | fields)


def text(stage: str, words: str, **fields: Any) -> TextWritten:
    return TextWritten.model_validate(
        {"stage": stage, "text": words, "final": True, "language": "de"} | fields
    )


def verdict(stage: str, **fields: Any) -> VerdictGiven:
    values = {
        "stage": stage,
        "allowed": True,
        "sha256": "0" * 64,
        "level": "youth",
        "policy": "1",
        "method": "rules",
    }
    return VerdictGiven.model_validate(values | fields)


def story(
    run_id: str, *, seed: int = 7, prompt: str = PROMPT, rewritten: str = REWRITTEN, parameters: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None, media_type: str = "image/png", alt: str = "Eine Skizze: Katze", **fields: Any,
) -> list[Event]:  # fmt: skip
    """The events of a run that came to its end; `files` are its artifacts."""
    request = {
        "medium": "image",
        "texts": {"prompt": rewritten},
        "parameters": {"width": 64, "height": 48} | dict(parameters or {}),
    }
    return [
        started(run_id, **{"texts": {"prompt": prompt}, "seed": seed} | fields),
        StageStarted(stage="input"), text("input", prompt, by="user"), verdict("input"),
        StageFinished(stage="input", outcome="completed", seconds=0.01),
        StageStarted(stage="interception"),
        AttemptStarted(attempt=1, stage="interception", task="interception", backend="procedural", seed=11),
        AttemptFinished(attempt=1, stage="interception", outcome="completed", seconds=0.02, cost_usd=0.0, cost_source="local"),
        text("interception", rewritten, by="procedure", step="rewrite"),
        StageFinished(stage="interception", outcome="completed", seconds=0.03),
        StageStarted(stage="pre_output"), verdict("pre_output"), StageFinished(stage="pre_output", outcome="completed", seconds=0.02),
        StageStarted(stage="generation"),
        AttemptStarted(attempt=2, stage="generation", task="media", backend="procedural", model="sketch", seed=seed, request=request),
        AttemptFinished(attempt=2, stage="generation", outcome="completed", model="sketch", seconds=0.2, cost_usd=0.0, cost_source="local"),
        *[artifact(name, data, media_type=media_type, alt=alt) for name, data in (files or {}).items()],
        StageFinished(stage="generation", outcome="completed", seconds=0.25),
        RunFinished(outcome="completed", seconds=0.4),
    ]  # fmt: skip


def artifact(name: str, data: bytes, **fields: Any) -> ArtifactWritten:
    values = {
        "path": name,
        "media_type": "image/png",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    return ArtifactWritten.model_validate(
        values | {"width": 64, "height": 48, "attempt": 2} | fields
    )


def write(root: Path, events: list[Event], files: Mapping[str, bytes] | None = None) -> Recording:
    """These events as a recording, closed whether they have an ending or not."""
    assert isinstance(events[0], RunStarted)
    recorder = Recorder.create(root, events[0].run_id, redact=Redactor())
    if files:
        recorder.write_files(list(files.items()))
    recorder.record(*events[:-1])
    recorder.record(events[-1])
    recorder.close()
    return Recording(recorder.folder)


def completed(root: Path, *, run_id: str = "", color: str = "red", **how: Any) -> Recording:
    """A run that made a picture of one colour. Keywords as in `story`."""
    files = how.pop("files", None) or {"03_image.png": picture(color)}
    return write(root, story(run_id or new_run_id(), files=files, **how), files)


def blocked(
    root: Path, *, run_id: str = "", reason: str = "Das können wir nicht zeichnen.", **fields: Any
) -> Recording:
    """A run that ended in Stage 1."""
    said = verdict(
        "input", allowed=False, reason=reason, cause="rule weapons: Waffe", categories=["weapons"]
    )
    first = started(run_id or new_run_id(), **fields)
    return write(root, [
        first, StageStarted(stage="input"), text("input", first.texts["prompt"], by="user"), said,
        StageFinished(stage="input", outcome="blocked", reason=reason, seconds=0.01), RunFinished(outcome="blocked", seconds=0.02),
    ])  # fmt: skip


def failed(root: Path, *, run_id: str = "", **fields: Any) -> Recording:
    """A run whose backend could not be reached."""
    events = story(run_id or new_run_id(), **fields)[:-4]
    problem = Problem(
        type="Unavailable", message="ComfyUI does not answer.", hint="Start it, or set COMFYUI_URL."
    )
    return write(
        root,
        [
            *events,
            StageFinished(stage="generation", outcome="failed"),
            RunFinished(outcome="failed", error=problem),
        ],
    )


def interrupted(root: Path, *, run_id: str = "", **fields: Any) -> Recording:
    """A run whose process died after Stage 2."""
    return write(root, story(run_id or new_run_id(), **fields)[:10])


def at(second: int) -> str:
    """A run id of that second of a fixed day: sorts as its seconds do."""
    return new_run_id(datetime(2026, 11, 22, 14, second // 60, second % 60, tzinfo=UTC))


def rewritten_started(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first event of a stored run as another version might have written it."""
    events = folder / "events.jsonl"
    first, *rest = events.read_bytes().splitlines(keepends=True)
    values = json.loads(first)
    del values["crc"]
    change(values)
    line = json.dumps(values, ensure_ascii=False, separators=(",", ":"))[:-1].encode()
    events.write_bytes(b"".join([line, b',"crc":"%08x"}\n' % zlib.crc32(line), *rest]))
