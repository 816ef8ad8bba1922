"""What a call may say of a run: typed for editors, checked as a whole, every fault named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Self, TypedDict, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from devpipe.errors import UsageError
from devpipe.values import Scalar, seed_in_range

Prompt = str | Mapping[str, str]  # one text, or several by their input names
T = TypeVar("T")


class RunOptions(TypedDict, total=False):
    """The keywords of `engine.start`, `run` and `open`.

    Seeds are whole numbers from 1 to 2**31-1, drawn where absent. A picture is a path, its bytes,
    or a PIL image. Parameters stand in `parameters` or directly: what an output takes beyond the
    ones named here, too.
    """

    seed: int | None  # of the medium
    text_seed: int | None  # of Stages 1 and 2
    image: Any
    mask: Any
    control: Any
    instruction: str | None  # the person's own, for pipelines that take one
    safety: str | None  # never looser than the workspace's
    labels: Mapping[str, str] | None
    batch: str
    parameters: Mapping[str, Scalar] | None
    width: int  # pixels
    height: int  # pixels
    steps: int
    guidance_scale: float
    negative_prompt: str
    strength: float
    count: int
    frames: int
    fps: float
    seconds: float
    alpha: float


class Changes(RunOptions, total=False):
    """The keywords of `engine.regenerate`: what is to be other than in the recorded run.

    The rest is read from the recording. With `today` pipeline and output are taken as their files
    say now.
    """

    prompt: Prompt | None
    pipeline: str | None
    output: str | None
    text: Prompt | None  # own wording of Stage 2's result
    today: bool


def _as_fault(check: Callable[[Any], Any]) -> BeforeValidator:
    """A check of ours as a validator: pydantic collects its UsageErrors with all others."""

    def validate(value: Any) -> Any:
        try:
            return check(value)
        except UsageError as error:
            raise PydanticCustomError("usage", "{error}", {"error": error}) from error

    return BeforeValidator(validate)


def of_kind(name: str, value: Any, kind: Any, wanted: str) -> Any:
    """The value, where it is of this kind. Raises UsageError."""
    if not isinstance(value, kind):
        shown = f"{name} is {str(value)[:40]!r}, a {type(value).__name__}."
        raise UsageError(shown, hint=f"Give {wanted}.")
    return value


def _text(name: str) -> Callable[[Any], Any]:
    return lambda value: "" if value is None else of_kind(name, value, str, "text")


def _table(name: str) -> Callable[[Any], Any]:
    return lambda value: (
        {} if value is None else of_kind(name, value, Mapping, "a table of names and values")
    )


def _labels(value: Any) -> dict[str, str]:
    table = _table("labels")(value)
    return {name: _text(f"label {name}")(text) for name, text in table.items()}


class RunArguments(BaseModel):
    """The keywords of a call, each of its kind; those it does not name are parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)

    seed: Annotated[int | None, _as_fault(seed_in_range)] = None
    text_seed: Annotated[int | None, _as_fault(partial(seed_in_range, name="text_seed"))] = None
    image: Any = None
    mask: Any = None
    control: Any = None
    instruction: Annotated[str, _as_fault(_text("instruction"))] = ""
    safety: Any = None  # checked against the workspace's level
    labels: Annotated[dict[str, Any], _as_fault(_labels)] = {}
    batch: Annotated[str, _as_fault(_text("batch"))] = ""
    parameters: Annotated[dict[str, Any], _as_fault(_table("parameters"))] = {}

    @classmethod
    def read(cls, options: Mapping[str, Any], faults: Faults) -> Self:
        """The arguments of a call, without those that are wrong: these go to the faults."""
        given = dict(options)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            for detail in error.errors():
                faults.add(_usage_error(detail))
                given.pop(str(detail["loc"][0]), None)
            return cls.model_validate(given)

    @property
    def asked(self) -> dict[str, Any]:
        """All parameters as asked, whichever way they were given."""
        return {**self.parameters, **(self.model_extra or {})}

    @property
    def pictures(self) -> dict[str, Any]:
        """The pictures that were given, by what they are."""
        given = {"image": self.image, "mask": self.mask, "control": self.control}
        return {name: value for name, value in given.items() if value is not None}


def _usage_error(detail: Any) -> UsageError:
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, UsageError):
        return error
    place = ".".join(map(str, detail["loc"]))
    return UsageError(f"{place}: {detail['msg']}.", hint="Correct it.")


class Faults:
    """Everything wrong with a call, gathered before it is refused."""

    def __init__(self) -> None:
        self._found: list[UsageError] = []

    def add(self, fault: UsageError) -> None:
        self._found.append(fault)

    def attempt(self, act: Callable[..., T], *values: Any, **named: Any) -> T | None:
        """What an act gives; None where it raised a UsageError, which is kept."""
        try:
            return act(*values, **named)
        except UsageError as fault:
            self.add(fault)
            return None

    def raise_any(self) -> None:
        """Raise what was found, if anything was."""
        if self._found:
            raise self.error()

    def error(self) -> UsageError:
        """One fault as it is, several as one UsageError that names all."""
        if len(self._found) == 1:
            return self._found[0]
        lines = "".join(f"\n  {fault}" for fault in self._found)
        hint = "\nMend them all, then try again."
        return UsageError(f"{len(self._found)} things are wrong:{lines}", hint=hint)
