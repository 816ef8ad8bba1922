"""What is wrong with a file, in our words: where, what is allowed, the nearest right name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from devpipe.config.spelling import PATTERNS
from devpipe.errors import Fault, offer


def faults_of(error: ValidationError, model: type[BaseModel], file: str) -> list[Fault]:
    """Pydantic's findings in our words: where, what is wrong, what is allowed, the nearest right
    name.
    """
    return [
        Fault(file, json_path("$", *detail["loc"]), _message(detail, model))
        for detail in error.errors(include_url=False)
    ]


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    fields = _keys(_holder(model, detail["loc"][:-1]))
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "extra_forbidden":
        return f"is no key known here; {offer(key, fields)}"
    if kind == "missing":
        return f"is missing: {fields[key].description or key}"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    shown = excerpt(detail["input"])
    if kind == "literal_error":
        return (
            f"cannot be {shown};"
            f" {offer(str(detail['input']), re.findall(r'[a-z_]{3,}', context['expected']))}"
        )
    if kind == "model_type":
        return (
            f"must be an object with {', '.join(_keys(_holder(model, detail['loc'])))}, not"
            f" {shown}."
        )
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERNS[context['pattern']]}, not {shown}."
    return f"{detail['msg'].removeprefix('Input ')}, not {shown}."


def _holder(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The model that holds the key at this place: of each field's type, the model inside it."""
    for key in loc:
        if field := _keys(model).get(str(key)):
            model = next(_models(field.annotation), model)
    return model


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def json_path(at: str, *loc: int | str) -> str:
    for key in loc:
        if key != "[key]":  # pydantic's mark for the key itself
            at += (
                f"[{key}]"
                if isinstance(key, int)
                else f".{key}"
                if re.fullmatch(r"[$\w]+", key)
                else f"[{json.dumps(key)}]"
            )
    return at


def excerpt(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
