"""The options that `run` and `regenerate` share: how they are written, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devpipe.cli.parser import Arguments
from devpipe.errors import UsageError
from devpipe.values import Scalar

if TYPE_CHECKING:
    from devpipe.config.models import OutputConfig

_SHARED = ("seed", "text_seed", "safety", "instruction", "image", "mask", "control")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What a person may say of any run that they ask for."""
    parser.add_argument(
        "--instruction", metavar="TEXT", help="your own instruction, for the pipeline user_defined"
    )
    parser.add_argument("--seed", metavar="N", help="of the medium; drawn where absent")
    parser.add_argument("--text-seed", metavar="N", help="of Stages 1 and 2; drawn where absent")
    parser.add_argument(
        "--safety",
        metavar="LEVEL",
        help="kids, youth, adult or research; never looser than the workspace's",
    )
    parser.add_argument("--image", metavar="FILE", help="a PNG, JPEG or WEBP")
    parser.add_argument(
        "--mask", metavar="FILE", help="a PNG, JPEG or WEBP: white is where to change"
    )
    parser.add_argument("--control", metavar="FILE", help="a PNG, JPEG or WEBP")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, e.g. width=512; may be repeated",
    )


def run_options(arguments: Arguments) -> dict[str, Any]:
    """The shared options that were given, under the engine's names."""
    values = {name: getattr(arguments, name) for name in _SHARED}
    return {name: value for name, value in values.items() if value is not None}


def parameters_of(output: OutputConfig, settings: Sequence[str]) -> Mapping[str, Scalar]:
    """--set NAME=VALUE, each value read by the type that the output config declares.

    Raises UsageError for a setting without name or value.
    """
    parameters: dict[str, Scalar] = {}
    for setting in settings:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or not name:
            raise UsageError(
                f"--set {setting!r} has no {'value' if name else 'name'}.",
                hint="Write --set NAME=VALUE.",
            )
        if name in parameters:
            raise UsageError(f"--set {name} stands there twice.", hint="Delete one.")
        parameters[name] = value_of(output, name, value)
    return parameters


def value_of(output: OutputConfig, name: str, text: str) -> Scalar:
    """Read a parameter's value from a text, by the type that the output declares.

    A text that means none of this type stays as it is.
    """
    declared = output.parameters.get(name)
    kind = declared.type if declared else "string"
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    return text
