"""What do editors know of our files? The JSON Schemas in `schemas/`, made from the models.

`python -m devpipe.cli.schemas` writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from devpipe.config.models import InterceptionPipeline, MediaPipeline, OutputConfig


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of the two kinds of files, by file name."""
    pipeline: TypeAdapter[Any] = TypeAdapter(
        Annotated[InterceptionPipeline | MediaPipeline, Field(discriminator="kind")]
    )
    found = {
        "pipeline": pipeline.json_schema(by_alias=True),
        "output_config": OutputConfig.model_json_schema(by_alias=True),
    }
    return {
        f"{name}.schema.json": {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        for name, schema in found.items()
    }


def write_schemas(folder: Path) -> None:
    """Write `schemas()` into a folder, as they are committed."""
    for name, schema in schemas().items():
        (folder / name).write_text(
            json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    write_schemas(Path(__file__).parents[2] / "schemas")
