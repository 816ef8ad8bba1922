"""This machine's settings: read from the environment and `devpipe.toml` once, never recorded."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from devpipe.config.backends import HERE, known
from devpipe.config.chains import Candidate, Chain
from devpipe.config.faults import excerpt, faults_of
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
# ours, and the place in devpipe.toml that each goes before
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "DEVPIPE_RECORDINGS": ("recordings",),
    "DEVPIPE_SAFETY": ("safety",),
    "DEVPIPE_PROVENANCE": ("provenance",),
    "DEVPIPE_BUDGET_USD": ("budget_usd",),
    "DEVPIPE_BOUNDARY": ("boundary",),
    "DEVPIPE_JUDGE_SECONDS": ("judge_seconds",),
    "DEVPIPE_MODEL_TRANSLATE": ("models", "translate"),
    "DEVPIPE_MODEL_INTERCEPTION": ("models", "interception"),
    "DEVPIPE_MODEL_JUDGE": ("models", "judge"),
    "DEVPIPE_MODEL_SPLIT": ("models", "split"),
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
        _check_candidate(candidate, info.context or [candidate.backend])
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


def _check_candidate(candidate: Candidate, backends: list[str]) -> None:
    """Check that a backend is known, and has its model. Raises ValueError."""
    backend = candidate.backend
    if backend not in backends:
        new = f"A new one needs its line in {HERE}."
        raise ValueError(f"there is no backend {backend!r}; {offer(backend, backends)} {new}")
    if not candidate.by_procedure and not candidate.model:
        raise ValueError(f"must be backend/model, not {backend!r}: say which model of {backend}.")


Served = Annotated[str, BeforeValidator(_joined), AfterValidator(_served)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Models(_Strict):
    translate: Served = "procedural"
    interception: Served = "procedural"
    judge: Served = ""
    split: Served = "procedural"

    def by_task(self) -> Mapping[Task, str]:
        """The chains; no procedure judges: where one is named, the rules stand alone."""
        judge = "" if self.judge == "procedural" else self.judge
        return {
            "translate": self.translate,
            "interception": self.interception,
            "judge": judge,
            "split": self.split,
        }


class _File(_Strict):
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
        names = sorted({*known(), *backends})
        in_file, faults = _from_file(home / FILE)
        in_environment = _from_environment(environment)
        faults += [_no_keys(fault) for fault in _faults(in_file, names, FILE)]
        faults += _variables_of(_faults(in_environment, names, "environment"))
        faults += _regions(environment)
        if faults:
            raise ConfigError(faults)
        models = {**in_file.pop("models", {}), **in_environment.pop("models", {})}
        merged = {**in_file, **in_environment, "models": models}
        valid = _File.model_validate(merged, context=names, strict=False)
        return cls(
            home,
            home / Path(valid.recordings).expanduser(),
            valid.safety,
            valid.provenance,
            valid.budget_usd,
            valid.models.by_task(),
            environment,
            boundary=valid.boundary,
            judge_seconds=valid.judge_seconds,
        )

    def key(self, name: str) -> str | None:
        """Look a key up by its owner's name; None where nobody has it.

        From the environment, or else the system keyring (service `devpipe`).
        """
        in_environment = self.environment.get(name, "").strip()
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
        ours = self.environment.get(f"DEVPIPE_{backend.upper()}_URL", "").strip()
        owners = self.environment.get(OWNERS.get(backend, ""), "").strip()
        return ours or owners or default

    def region(self, backend: str) -> Boundary | None:
        """Where a backend's server stands; None where nobody says.

        The variable is DEVPIPE_<BACKEND>_REGION.
        """
        said = self.environment.get(f"DEVPIPE_{backend.upper()}_REGION", "").strip()
        return next((boundary for boundary in BOUNDARIES if boundary == said), None)

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
        return tuple(sorted(usable, key=lambda value: (-len(value), value)))

    def faults(self) -> list[Fault]:
        """List variables that look like ours and that nothing reads."""
        ours = {*VARIABLES, "DEVPIPE_HOME"}
        for name in known():
            ours |= {f"DEVPIPE_{name.upper()}_URL", f"DEVPIPE_{name.upper()}_REGION"}
        faults = []
        for name in sorted(self.environment):
            if name.startswith("DEVPIPE_") and name not in ours:
                message = f"is no variable of devpipe; {offer(name, ours)}"
                faults.append(Fault("environment", name, message))
        return faults


def _from_file(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    try:
        values = tomllib.loads(read_plain(path, MAX_FILE_BYTES).decode("utf-8-sig"))
        excerpt(values)  # RecursionError: a.a.a. ... may be so deep that no message can show it
        return values, []
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [Fault(FILE, "$", f"cannot be read: {error.strerror}. Mend its permissions.")]
    except (ValueError, RecursionError) as error:  # ValueError also for thousands of digits
        return {}, [Fault(FILE, "$", f"is not TOML in UTF-8: {error}.")]


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What our variables say, as devpipe.toml would; an empty one says nothing."""
    values: dict[str, Any] = {}
    for variable, (*tables, name) in VARIABLES.items():
        text = environment.get(variable, "").strip()
        if text:
            holder = values
            for table in tables:
                holder = holder.setdefault(table, {})
            holder[name] = text
    return values


def _faults(values: Mapping[str, Any], backends: list[str], file: str) -> list[Fault]:
    is_strict = file == FILE  # variables are texts, also where a number is meant
    try:
        _File.model_validate(values, context=backends, strict=is_strict)
    except ValidationError as error:
        return faults_of(error, _File, file)
    return []


def _regions(environment: Mapping[str, str]) -> list[Fault]:
    """Places that are none: a text could go where nobody meant it to."""
    faults = []
    for name, value in environment.items():
        if name.startswith("DEVPIPE_") and name.endswith("_REGION"):
            region = value.strip()
            if region and region not in BOUNDARIES:
                message = f"cannot be {region!r}; {offer(region, BOUNDARIES)}"
                faults.append(Fault("environment", name, message))
    return faults


def _no_keys(fault: Fault) -> Fault:
    key = fault.path.rpartition(".")[2]
    if not SECRET.search(key):
        return fault
    message = "keys belong in the environment. Delete it here, and set it there."
    return replace(fault, message=message)


def _variables_of(faults: list[Fault]) -> list[Fault]:
    paths = {".".join(("$", *place)): variable for variable, place in VARIABLES.items()}
    return [replace(fault, path=paths[fault.path]) for fault in faults]


def _userinfo(text: str) -> Iterator[str]:
    for userinfo in re.findall(r"(?:^|//|,)\s*([^/\s,]+)@", text):
        password = userinfo.partition(":")[2]
        for secret in (userinfo, password):
            yield secret
            yield unquote(secret)
