"""What is wrong with a file, in our words: where, what is allowed, the nearest right name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from devpipe.config.spelling import PATTERNS
from devpipe.errors import Fault, offer


class Strict(BaseModel):
    """Base of what files say: unknown keys and wrong types are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def faults_of(error: ValidationError, model: type[BaseModel], file: str) -> list[Fault]:
    """Say pydantic's findings in our words: place, problem, what is allowed."""
    return [
        Fault(file, json_path("$", *detail["loc"]), _message(detail, model))
        for detail in error.errors(include_url=False)
    ]


def summary_of(error: ValidationError, model: type[BaseModel], name: str) -> str:
    """Say one of pydantic's findings, without full stop, and count the others.

    A key that is not known comes first: it tells that another version wrote this.
    """
    findings = error.errors(include_url=False)
    first = min(findings, key=lambda finding: finding["type"] != "extra_forbidden")
    if first["type"] == "extra_forbidden":
        *holder, key = first["loc"]
        summary = f"{json_path(name, *holder)}: unknown key {str(key)!r}"
    else:
        message = _message(first, model).removesuffix(".")
        summary = f"{json_path(name, *first['loc'])}: {message}"
    if len(findings) > 1:
        summary += f", and {len(findings) - 1} more"
    return summary


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind = detail["type"]
    if kind in ("extra_forbidden", "missing"):
        return _key_message(detail, model)
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    context = detail.get("ctx", {})
    value = excerpt(detail["input"])
    if kind == "literal_error":
        allowed = re.findall(r"[a-z_]{3,}", context["expected"])
        return f"cannot be {value}; {offer(str(detail['input']), allowed)}"
    if kind == "model_type":
        keys = ", ".join(_keys(_model_at(model, detail["loc"])))
        return f"must be an object with {keys}, not {value}."
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERNS[context['pattern']]}, not {value}."
    return f"{detail['msg'].removeprefix('Input ')}, not {value}."


def _key_message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Say what is wrong with a key that is unknown or missing."""
    *place, key = detail["loc"]
    fields = _keys(_model_at(model, place))
    if detail["type"] == "missing":
        return f"is missing: {fields[str(key)].description or key}"
    return f"is no key known here; {offer(str(key), fields)}"


def _model_at(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """Find the model that stands at this place.

    Of each field's type, that is the model inside it.
    """
    for key in place:
        field = _keys(model).get(str(key))
        if field:
            model = next(_models(field.annotation), model)
    return model


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def json_path(at: str, *keys: int | str) -> str:
    """The JSON path from `at` over these keys.

    >>> json_path("$", "steps", 0, "name of it")
    '$.steps[0]["name of it"]'
    """
    for key in keys:
        if key == "[key]":  # pydantic's mark for the key itself
            continue
        if isinstance(key, int):
            at += f"[{key}]"
        elif re.fullmatch(r"[$\w]+", key):
            at += f".{key}"
        else:
            at += f"[{json.dumps(key)}]"
    return at


def excerpt(value: object) -> str:
    """A value as JSON, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
