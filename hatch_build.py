"""Puts what `devpipe init` copies into the wheel.

An editable install reads it from the tree: a copy there would grow stale.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DEFAULTS = ("notebooks", "output_configs", "pipelines", "recordings/README.md", "schemas")


class Defaults(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"] |= {name: f"devpipe/defaults/{name}" for name in DEFAULTS}
