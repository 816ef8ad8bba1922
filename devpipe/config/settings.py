"""This machine's settings: read from the environment and `devpipe.toml` once, never recorded."""

from __future__ import annotations

import importlib.util
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
)

from devpipe.config.backends import HERE, known
from devpipe.config.chains import Candidate, Chain, boundary_of
from devpipe.config.faults import Strict, excerpt, faults_of
from devpipe.config.strict_json import MAX_FILE_BYTES
from devpipe.config.workspace import find_home
from devpipe.errors import ConfigError, Fault, offer
from devpipe.files import read_plain
from devpipe.values import BOUNDARIES, Boundary, Level, Task

FILE = "devpipe.toml"
SECRET = re.compile(r"(^|_)(API_?KEY|ACCESS_KEY|SECRET_KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
OWNERS: Mapping[str, str] = {
    "ollama": "OLLAMA_HOST",
    "openai": "OPENAI_BASE_URL",
    "openai_compatible": "OPENAI_BASE_URL",
    "comfyui": "COMFYUI_URL",
}
# places in devpipe.toml, and our variables that go before them
VARIABLES: Mapping[str, str] = {
    "recordings": "DEVPIPE_RECORDINGS",
    "safety": "DEVPIPE_SAFETY",
    "provenance": "DEVPIPE_PROVENANCE",
    "budget_usd": "DEVPIPE_BUDGET_USD",
    "boundary": "DEVPIPE_BOUNDARY",
    "judge_seconds": "DEVPIPE_JUDGE_SECONDS",
    "models.translate": "DEVPIPE_MODEL_TRANSLATE",
    "models.interception": "DEVPIPE_MODEL_INTERCEPTION",
    "models.judge": "DEVPIPE_MODEL_JUDGE",
    "models.split": "DEVPIPE_MODEL_SPLIT",
}
SHORTEST_SECRET = 6  # a shorter one would black out ordinary words in recordings


def _joined(models: object) -> object:
    """A list of models as the one text that a variable would hold."""
    if isinstance(models, list) and all(isinstance(model, str) for model in models):
        return ", ".join(models)
    return models


def _served(models: str, info: ValidationInfo) -> str:
    """Spell a chain whose backends are known and whose models are named.

    Procedures stand only where they may stand in.
    """
    _check_boundary(models)
    chain = Chain.read(models)
    if models.strip() and not chain.candidates:
        raise ValueError(f"names no model after {models.strip()!r}.")
    for candidate in chain.candidates:
        _check_candidate(candidate, info.context or ())
    may_end_by_procedure = info.field_name in ("interception", "split")
    by_model = chain.candidates[:-1] if may_end_by_procedure else chain.candidates
    if len(chain.candidates) > 1 and any(candidate.by_procedure for candidate in by_model):
        raise ValueError(
            "'procedural' may only stand last, and only for interception and split. Delete it, or"
            " what follows it."
        )
    return str(chain)


def _check_boundary(models: str) -> None:
    """Check the boundary that a chain begins with. Raises ValueError."""
    prefix, _, chain = models.partition(":")
    head = prefix.strip()
    if head not in BOUNDARIES and "/" not in head and "/" in chain:
        raise ValueError(f"there is no boundary {head!r}; {offer(head, BOUNDARIES)}")


def _check_candidate(candidate: Candidate, backends: Collection[str]) -> None:
    """Check that a backend is known, and has its model. Raises ValueError."""
    backend = candidate.backend
    if backend not in backends:
        new = f"A new one needs its line in {HERE}."
        raise ValueError(f"there is no backend {backend!r}; {offer(backend, backends)} {new}")
    if not candidate.by_procedure and not candidate.model:
        raise ValueError(f"must be backend/model, not {backend!r}: say which model of {backend}.")


Served = Annotated[str, BeforeValidator(_joined), AfterValidator(_served)]


class _Models(Strict):
    translate: Served = "procedural"
    interception: Served = "procedural"
    judge: Served = ""
    split: Served = "procedural"

    def by_task(self) -> Mapping[Task, str]:
        """The chains; no procedure judges: where one is named, the rules stand alone."""
        return {
            "translate": self.translate,
            "interception": self.interception,
            "judge": "" if self.judge == "procedural" else self.judge,
            "split": self.split,
        }


class _File(Strict):
    """What devpipe.toml may say."""

    recordings: str = Field("recordings", min_length=1)
    safety: Level = "youth"
    provenance: Literal["full", "mark"] = "full"
    budget_usd: float | None = Field(None, ge=0)
    boundary: Boundary = "world"
    judge_seconds: float = Field(8.0, gt=0, le=600)
    models: _Models = _Models()


@dataclass(frozen=True, slots=True)
class Settings:
    """What this machine has and allows. `environment` holds keys: it is never shown."""

    home: Path
    recordings: Path
    safety: Level = "youth"
    provenance: Literal["full", "mark"] = "full"
    budget_usd: float | None = None
    # chains, each with the boundary that holds for it
    models: Mapping[Task, str] = field(default_factory=lambda: _Models().by_task())
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    boundary: Boundary = "world"  # no text model further away is asked, whatever a chain says
    judge_seconds: float = 8.0
    # the redactor must know them too
    _from_keyring: dict[str, str] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        chains = {
            task: str(Chain.read(models).within(self.boundary))
            for task, models in self.models.items()
        }
        object.__setattr__(self, "models", chains)

    @classmethod
    def load(
        cls,
        home: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        backends: Iterable[str] = (),
    ) -> Settings:
        """The settings of a workspace; the environment goes before devpipe.toml.

        Raises ConfigError with all faults of both.

        `backends` are known besides the registered ones. A relative folder is seen from the
        workspace.
        """
        environment = dict(os.environ if environ is None else environ)
        if home is None:
            home = find_home(environ=environment)
        else:
            home = Path(home).expanduser().absolute()
        names = {*known(), *backends}
        in_file, faults = _from_file(home / FILE)
        in_environment = _from_environment(environment)
        faults += map(_without_key, _faults(in_file, names, FILE))
        faults += map(_of_variable, _faults(in_environment, names, "environment"))
        faults += _regions(environment)
        if faults:
            raise ConfigError(faults)
        models = {**in_file.pop("models", {}), **in_environment.pop("models", {})}
        merged = {**in_file, **in_environment, "models": models}
        valid = _File.model_validate(merged, context=names, strict=False)
        stated = dict(valid) | {
            "recordings": home / Path(valid.recordings).expanduser(),
            "models": valid.models.by_task(),
        }
        return cls(home, environment=environment, **stated)

    def key(self, name: str) -> str | None:
        """Look a key up by its owner's name; None where nobody has it.

        From the environment, or else the system keyring (service `devpipe`).
        """
        in_environment = _variable(self.environment, name)
        if in_environment:
            return in_environment
        if name not in self._from_keyring and importlib.util.find_spec("keyring"):
            keyring = importlib.import_module("keyring")
            try:
                self._from_keyring[name] = (keyring.get_password("devpipe", name) or "").strip()
            except keyring.errors.KeyringError:
                return None
        return self._from_keyring.get(name) or None

    def url(self, backend: str, default: str) -> str:
        """Where a backend is, as the environment spells it, else the default.

        DEVPIPE_<BACKEND>_URL goes before the variable of its owner.
        """
        ours = _variable(self.environment, f"DEVPIPE_{backend.upper()}_URL")
        return ours or _variable(self.environment, OWNERS.get(backend, "")) or default

    def region(self, backend: str) -> Boundary | None:
        """Where a backend's server stands; None where nobody says.

        The variable is DEVPIPE_<BACKEND>_REGION.
        """
        return boundary_of(_variable(self.environment, f"DEVPIPE_{backend.upper()}_REGION"))

    def secrets(self) -> tuple[str, ...]:
        """All that must never be written down, longest first.

        Keys, tokens, passwords, also those inside addresses.
        """
        values = set(self._from_keyring.values())
        for name, value in self.environment.items():
            if SECRET.search(name):
                values.add(value)
            if name.endswith(("_URL", "_HOST")):
                values.update(_userinfo(value))
        stripped = {value.strip() for value in values}
        usable = [value for value in stripped if len(value) >= SHORTEST_SECRET]
        return tuple(sorted(sorted(usable), key=len, reverse=True))


def _from_file(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    try:
        values = tomllib.loads(read_plain(path, MAX_FILE_BYTES).decode("utf-8-sig"))
        excerpt(values)  # RecursionError: a.a.a. ... may be so deep that no message can show it
        return values, []
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        message = f"cannot be read: {error.strerror}. Mend its permissions."
    except (ValueError, RecursionError) as error:  # ValueError also for thousands of digits
        message = f"is not TOML in UTF-8: {error}. Mend it, and save it as UTF-8."
    return {}, [Fault(FILE, "$", message)]


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What our variables say, as devpipe.toml would; an empty one says nothing."""
    values: dict[str, Any] = {}
    for place, variable in VARIABLES.items():
        text = _variable(environment, variable)
        if text:
            table, _, name = place.rpartition(".")
            holder = values.setdefault(table, {}) if table else values
            holder[name] = text
    return values


def _faults(values: Mapping[str, Any], backends: Collection[str], file: str) -> list[Fault]:
    try:  # variables are texts, also where a number is meant
        _File.model_validate(values, context=backends, strict=file == FILE)
    except ValidationError as error:
        return faults_of(error, _File, file)
    return []


def _regions(environment: Mapping[str, str]) -> Iterator[Fault]:
    """Places that are none: a text could go where nobody meant it to."""
    for name, value in environment.items():
        region = value.strip()
        is_ours = name.startswith("DEVPIPE_") and name.endswith("_REGION")
        if is_ours and region not in ("", *BOUNDARIES):
            message = f"cannot be {region!r}; {offer(region, BOUNDARIES)}"
            yield Fault("environment", name, message)


def _without_key(fault: Fault) -> Fault:
    """The fault as it is, but for a key: that it stands there at all is the fault."""
    if not SECRET.search(fault.path.rpartition(".")[2]):
        return fault
    message = "keys belong in the environment. Delete it here, and set it there."
    return replace(fault, message=message)


def _of_variable(fault: Fault) -> Fault:
    """The fault, in the variable that said it."""
    return replace(fault, path=VARIABLES[fault.path.removeprefix("$.")])


def _userinfo(text: str) -> Iterator[str]:
    for userinfo in re.findall(r"(?:^|//|,)\s*([^/\s,]+)@", text):
        password = userinfo.partition(":")[2]
        yield from (userinfo, unquote(userinfo), password, unquote(password))
