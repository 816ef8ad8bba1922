"""A few hundred runs whose bytes and events must stay equal: requests, and the hash of all that
came of each.

`python tests/golden/requests.py` writes hashes.json anew; do that only where a change of what comes
out is meant, and say so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from devpipe import Engine, Settings

REPOSITORY = Path(__file__).parents[2]
HASHES = Path(__file__).with_name("hashes.json")
PROMPTS = (
    "ein roter Kreis auf blauem Grund",
    "a cat in the rain",
    "Die alte Katze sitzt am Fenster und zählt 3 blaue Vögel. Draußen regnet es!",
    "two children fly a kite over the harbour at dusk, the sea is silver",
)
BLOCKED = ("a nude woman", "wie baue ich eine Bombe")
UNTOLD = {  # differs from run to run, or tells of the machine
    "run_id", "seconds", "software", "writer", "request_id", "parent", "source", "config_sha256",
    "language_sure",  # these hashes are older
}  # fmt: skip


def told(value: Any) -> Any:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {name: told(item) for name, item in value.items() if name not in UNTOLD}
    return [told(item) for item in value] if isinstance(value, list) else value


LATER = ("models", "fingerprint")  # fields of run_started that these hashes are older than


def sha256_of(run: Any) -> str:
    """Hash of a run's events and files."""
    events = []
    for recorded in run.events:
        event = recorded.event.model_dump(mode="json", exclude_defaults=True)
        if recorded.event.type == "run_started":
            event = {name: value for name, value in event.items() if name not in LATER}
        events.append(told(event) | {"type": recorded.event.type})
    spelled = json.dumps(events, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(
        b"\n".join([spelled.encode(), *(file.read_bytes() for file in run.files)])
    ).hexdigest()[:16]


def picture(colour: str) -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (128, 128), colour)
    ImageDraw.Draw(image).ellipse((30, 30, 90, 90), fill="white")
    return image


def mask() -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(image).rectangle((40, 40, 100, 100), fill=255)
    return image


async def all_runs(engine: Engine) -> AsyncIterator[tuple[str, Any]]:
    """Each run under its name, in a fixed order."""
    small: dict[str, Any] = {"width": 256, "height": 256}
    texts = [
        name
        for name, pipeline in sorted(engine.catalogue.interceptions.items())
        if not pipeline.user_instruction
    ]
    for pipeline in texts:
        for index, prompt in enumerate(PROMPTS):
            for seed in (7, 8, 123_456_789):
                how = {"seed": seed, "text_seed": seed + 1, **small}
                yield (
                    f"{pipeline} {index} {seed}",
                    await engine.run(prompt, pipeline=pipeline, output="sketch", **how),
                )
    for prompt in BLOCKED:
        yield (
            f"blocked {prompt}",
            await engine.run(prompt, pipeline="dada", output="sketch", seed=1, text_seed=1),
        )
    own: dict[str, Any] = {
        "pipeline": "user_defined",
        "instruction": "make it sound like a telegram",
        "seed": 3,
        "text_seed": 3,
    }
    yield "user_defined", await engine.run(PROMPTS[1], output="sketch", **own, **small)
    both = {"prompt": PROMPTS[0], "prompt_2": PROMPTS[1]}
    for alpha in (0.0, 0.5, 1.0):
        yield (
            f"fusion {alpha}",
            await engine.run(both, output="sketch_fusion", seed=5, text_seed=5, alpha=alpha),
        )
    yield (
        "fusion of one",
        await engine.run(
            PROMPTS[2], pipeline="split_and_combine", output="sketch_fusion", seed=5, text_seed=5
        ),
    )
    for seed in (1, 2):
        inpainted = {"image": picture("navy"), "mask": mask(), "seed": seed, "text_seed": 1}
        yield f"inpaint {seed}", await engine.run(PROMPTS[0], output="sketch_inpaint", **inpainted)
        controlled = {"control": picture("black"), "seed": seed, "text_seed": 1}
        yield (
            f"control {seed}",
            await engine.run(PROMPTS[1], pipeline="bauhaus", output="sketch_control", **controlled),
        )
    yield (
        "sound",
        await engine.run(PROMPTS[1], output="sketch_sound", seed=5, text_seed=5, seconds=1.0),
    )
    siblings = await engine.run(
        PROMPTS[0], pipeline="dada", output=["sketch", "sketch_sound"], seed=5, text_seed=5
    )
    for sibling in siblings:
        yield f"sibling {sibling.summary.started.output}", sibling
    source = siblings[0]
    for name, changes in {
        "seed": {"seed": 9},
        "text_seed": {"text_seed": 9, "seed": 5},
        "pipeline": {"pipeline": "bauhaus", "seed": 5},
        "prompt": {"prompt": PROMPTS[1], "seed": 5},
        "text": {"text": "Drei rote Kreise tanzen.", "seed": 5},
        "parameters": {"parameters": {"width": 512}, "seed": 5},
        "output": {"output": "sketch_sound", "seed": 5},
        "safety": {"safety": "kids", "seed": 5},
    }.items():
        yield f"regenerate {name}", await engine.regenerate(source.id, **changes)
    opened = engine.open(pipeline="stille_post", output="sketch", text_seed=4, **small)
    await opened.input(PROMPTS[0])
    await opened.intercept()
    await opened.check("Ein gelber Kreis auf grünem Grund")
    await opened.generate(seed=4)
    yield "step by step", opened


async def hashes(recordings: Path) -> dict[str, str]:
    engine = Engine(
        settings=Settings.load(REPOSITORY, environ={"DEVPIPE_RECORDINGS": str(recordings)})
    )
    try:
        runs = {name: run async for name, run in all_runs(engine)}
        found = {name: sha256_of(run) for name, run in runs.items()}
        for name in ("dada 1 7", "fusion 0.5", "inpaint 1", "regenerate pipeline", "step by step"):
            found[f"replay {name}"] = str(await engine.replay(runs[name].id))
        return found
    finally:
        engine.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = asyncio.run(hashes(Path(folder)))
    before = json.loads(HASHES.read_text()) if HASHES.exists() else {}
    if "--check" in sys.argv:
        different = [name for name in {**before, **made} if before.get(name) != made.get(name)]
        print(f"{len(made)} runs, {len(different)} of them differ: {different}")
        sys.exit(bool(different))
    HASHES.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
