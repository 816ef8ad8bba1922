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

from devpipe.config.chains import Candidate, Chain
from devpipe.config.models import faults_of
from devpipe.config.workspace import find_home
from devpipe.errors import ConfigError, Fault, offer
from devpipe.values import BOUNDARIES, Boundary, Level, Task

FILE = "devpipe.toml"
SECRET = re.compile(r"(^|_)(API_?KEY|ACCESS_KEY|SECRET_KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
OWNERS: Mapping[str, str] = {
    "ollama": "OLLAMA_HOST",
    "openai": "OPENAI_BASE_URL",
    "openai_compatible": "OPENAI_BASE_URL",
    "comfyui": "COMFYUI_URL",
}
VARIABLES: Mapping[
    str, tuple[str, ...]
] = {  # ours, and the place in devpipe.toml that each goes before
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
    return (
        ", ".join(models)
        if isinstance(models, list) and all(isinstance(one, str) for one in models)
        else models
    )


def _served(models: str, info: ValidationInfo) -> str:
    """The chain, every backend known, every model named, procedures only where they may
    stand in.
    """
    head, _, rest = (text.strip() for text in models.partition(":"))
    if head not in BOUNDARIES and "/" not in head and "/" in rest:
        raise ValueError(f"there is no boundary {head!r}; {offer(head, BOUNDARIES)}")
    chain = Chain.read(models)
    if models.strip() and not chain.candidates:
        raise ValueError(f"names no model after {models.strip()!r}.")
    for candidate in chain.candidates:
        _known(candidate, info.context or [candidate.backend])
    last = -1 if info.field_name in ("interception", "split") else None
    if len(chain.candidates) > 1 and any(
        candidate.by_procedure for candidate in chain.candidates[:last]
    ):
        raise ValueError(
            "'procedural' may only stand last, and only for interception and split. Delete it, or"
            " what follows it."
        )
    return str(chain)


def _known(candidate: Candidate, known: list[str]) -> None:
    backend, model = candidate.backend, candidate.model
    if backend not in known:
        new = "A new one needs its line in devpipe/backends/registry.py."
        raise ValueError(f"there is no backend {backend!r}; {offer(backend, known)} {new}")
    if not candidate.by_procedure and not model:
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
        judge = (
            "" if self.judge == "procedural" else self.judge
        )  # no procedure judges: the rules then stand alone
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
    models: Mapping[Task, str] = field(
        default_factory=lambda: _Models().by_task()
    )  # chains, each with the boundary that holds for it
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    boundary: Boundary = "world"  # no text model further away is asked, whatever a chain says
    judge_seconds: float = 8.0
    _from_keyring: dict[str, str] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # the redactor must know them too

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
        home = (
            find_home(environ=environment) if home is None else Path(home).expanduser().absolute()
        )
        known = sorted({*_registered(), *backends})
        asked, unread = _from_file(home / FILE)
        told = _from_environment(environment)
        faults = (
            unread
            + [_no_keys(fault) for fault in _faults(asked, known, FILE)]
            + _variables_of(_faults(told, known, "environment"))
        )
        if faults := faults + _regions(environment):
            raise ConfigError(faults)
        models = {**asked.pop("models", {}), **told.pop("models", {})}
        found = _File.model_validate(
            {**asked, **told, "models": models}, context=known, strict=False
        )
        recordings = home / Path(found.recordings).expanduser()
        return cls(
            home,
            recordings,
            found.safety,
            found.provenance,
            found.budget_usd,
            found.models.by_task(),
            environment,
            boundary=found.boundary,
            judge_seconds=found.judge_seconds,
        )

    def key(self, name: str) -> str | None:
        """A key by its owner's name, from the environment or else the system keyring (service
        `devpipe`); None where neither has it.
        """
        if found := self.environment.get(name, "").strip():
            return found
        if name not in self._from_keyring and importlib.util.find_spec("keyring"):
            keyring = importlib.import_module("keyring")
            try:
                self._from_keyring[name] = (keyring.get_password("devpipe", name) or "").strip()
            except keyring.errors.KeyringError:
                return None
        return self._from_keyring.get(name) or None

    def url(self, backend: str, default: str) -> str:
        """Where a backend is: DEVPIPE_<BACKEND>_URL, else its owner's variable, as written there,
        else the default.
        """
        own = self.environment.get(f"DEVPIPE_{backend.upper()}_URL", "").strip()
        return own or self.environment.get(OWNERS.get(backend, ""), "").strip() or default

    def region(self, backend: str) -> Boundary | None:
        """Where the person says that a backend's server stands (DEVPIPE_<BACKEND>_REGION); None:
        nobody says.
        """
        said = self.environment.get(f"DEVPIPE_{backend.upper()}_REGION", "").strip()
        return next((one for one in BOUNDARIES if one == said), None)

    def secrets(self) -> tuple[str, ...]:
        """All that must never be written down, longest first: keys, tokens, passwords, also those
        inside addresses.
        """
        found = {value for name, value in self.environment.items() if SECRET.search(name)} | set(
            self._from_keyring.values()
        )
        found |= {
            secret
            for name, value in self.environment.items()
            if name.endswith(("_URL", "_HOST"))
            for secret in _userinfo(value)
        }
        usable = {value.strip() for value in found if len(value.strip()) >= SHORTEST_SECRET}
        return tuple(sorted(usable, key=lambda value: (-len(value), value)))

    def faults(self) -> list[Fault]:
        """Variables that look like ours and are not: nothing reads them. For `devpipe check`."""
        known = {
            *VARIABLES,
            "DEVPIPE_HOME",
            *(
                f"DEVPIPE_{name.upper()}_{what}"
                for name in _registered()
                for what in ("URL", "REGION")
            ),
        }
        strange = sorted(
            name for name in self.environment if name.startswith("DEVPIPE_") and name not in known
        )
        return [
            Fault("environment", name, f"is no variable of devpipe; {offer(name, known)}")
            for name in strange
        ]


def _registered() -> Iterable[str]:
    from devpipe.backends import registry

    return registry.known()


def _from_file(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    try:
        return tomllib.loads(path.read_bytes().decode()), []
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [Fault(FILE, "$", f"cannot be read: {error.strerror}. Mend its permissions.")]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [Fault(FILE, "$", f"is not TOML in UTF-8: {error}.")]


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What our variables say, as devpipe.toml would; an empty one says nothing."""
    told: dict[str, Any] = {}
    for variable, (*above, name) in VARIABLES.items():
        if text := environment.get(variable, "").strip():
            (told.setdefault(above[0], {}) if above else told)[name] = text
    return told


def _faults(asked: Mapping[str, Any], known: list[str], file: str) -> list[Fault]:
    try:
        _File.model_validate(
            asked, context=known, strict=file == FILE
        )  # variables are texts, also where a number is meant
    except ValidationError as error:
        return faults_of(error, _File, file)
    return []


def _regions(environment: Mapping[str, str]) -> list[Fault]:
    """Places that are none: a text could go where nobody meant it to."""
    said = {
        name: text.strip()
        for name, text in environment.items()
        if name.startswith("DEVPIPE_") and name.endswith("_REGION")
    }
    wrong = {name: text for name, text in said.items() if text and text not in BOUNDARIES}
    return [
        Fault("environment", name, f"cannot be {text!r}; {offer(text, BOUNDARIES)}")
        for name, text in wrong.items()
    ]


def _no_keys(fault: Fault) -> Fault:
    secret = SECRET.search(fault.path.rpartition(".")[2])
    return (
        replace(fault, message="keys belong in the environment. Delete it here, and set it there.")
        if secret
        else fault
    )


def _variables_of(faults: list[Fault]) -> list[Fault]:
    paths = {".".join(("$", *place)): variable for variable, place in VARIABLES.items()}
    return [replace(fault, path=paths[fault.path]) for fault in faults]


def _userinfo(text: str) -> Iterator[str]:
    for userinfo in re.findall(r"(?:^|//|,)\s*([^/\s,]+)@", text):
        for part in (userinfo, userinfo.partition(":")[2]):
            yield from (part, unquote(part))
