"""Plain values that travel between the rooms: what is asked of a backend, and what comes back."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from devpipe.errors import UsageError

Stage = Literal["input", "interception", "pre_output", "generation"]
STAGES: tuple[Stage, ...] = get_args(Stage)

Medium = Literal["text", "image", "video", "sound"]
Outcome = Literal["completed", "blocked", "failed", "cancelled"]
Task = Literal["translate", "interception", "judge", "split"]
Level = Literal["kids", "youth", "adult", "research"]
LEVELS: tuple[Level, ...] = get_args(Level)  # the strictest first
Boundary = Literal["local", "eu", "world"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)  # each allows those before it

Scalar = str | int | float | bool
MAX_SEED = 2**31 - 1
MAX_PROMPT_CHARACTERS = 10_000
SAME = "same"  # as a language: that of the text


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture brought by the user, already decoded, stripped and encoded again by us."""

    data: bytes
    media_type: str
    width: int
    height: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Media:
    """One file that a backend made. `alt` is what a screen reader says of it."""

    data: bytes = field(repr=False)
    media_type: str
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attempt cost. `usd` is None where nobody told: unknown is not zero."""

    usd: float | None = None
    source: str = "unknown"  # reported | price-table <date> | local | unknown


LOCAL_COST = Cost(0.0, "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How any request travels: it decides nothing of what is made, and is not compared."""

    level: Level = field(default="kids", compare=False)  # of the run: strictest where nobody says
    deadline: float | None = field(default=None, compare=False)  # time.monotonic(); None: none
    # a UUID of this attempt, recorded before anything is sent: the vendor's name for the job
    request_id: str = field(default="", compare=False)
    idempotency_key: str = field(default="", compare=False)  # equal for each try of the same act


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What every answer says. A refusal is one: `refused` then holds the vendor's words."""

    digest: str = ""  # of the model's weights or of the procedure's version
    refused: str = ""
    cost: Cost = Cost()
    # the vendor's spelling of what was asked, without the texts
    sent: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextRequest(Request):
    """One text asked of a text backend.

    `parts` names the parts to answer with (a semantic split); empty means one text.
    `procedure` names the artistic procedure that stands in where no language model is configured.
    """

    task: Task
    text: str
    instruction: str = ""
    language: str = "en"  # of `text`, ISO 639-1; empty: unknown
    # ISO 639-1; empty: the language of `text`; SAME: whatever that is, nobody being sure of it
    output_language: str = ""
    model: str = ""
    seed: int = 1  # 1..2**31-1
    procedure: str = ""
    temperature: float | None = None
    parts: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()  # the answer ends before any of these
    max_tokens: int | None = None  # of the answer
    # an answer cut there ends at its last sentence; else it is none. For us: no backend reads it
    shorten: bool = field(default=False, compare=False)
    # how far the text may travel; a backend further away raises Rejected before it sends anything
    boundary: Boundary = "world"

    @property
    def answer_language(self) -> str:
        """The language of an answer that does as it is told."""
        return self.language if self.output_language in ("", SAME) else self.output_language


@dataclass(frozen=True, slots=True)
class TextResult(Result):
    """What a text backend answered."""

    text: str
    parts: Mapping[str, str] = field(default_factory=dict)  # by the names of TextRequest.parts
    model: str = ""
    finish_reason: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None
    raw: str = ""  # the answer before our reading of it, where the two differ
    backend: str = ""  # who answered; filled in where the attempt is written down
    # of the answer, ISO 639-1, where it may be another than was asked; empty: as it was asked
    language: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where one of our values goes: an input of a node of a ComfyUI graph.

    `title`: what the graph calls that node.
    """

    node: str
    input: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A ComfyUI graph as it was exported, and which of its inputs take which of our values."""

    nodes: Mapping[str, Any]  # API format, verbatim
    bindings: Mapping[str, tuple[Binding, ...]]  # by our names: prompt, seed, steps, image, ...

    def described(self) -> dict[str, object]:
        """The same as JSON values."""
        return {
            "nodes": dict(self.nodes),
            "bindings": {
                name: [asdict(one) for one in some] for name, some in self.bindings.items()
            },
        }


@dataclass(frozen=True, slots=True)
class MediaRequest(Request):
    """One medium asked of a media backend, in our words.

    The verdict's hash covers every field that decides what is made, but the seed: those that only
    say how the request travels come last and are not compared.
    """

    medium: Medium
    texts: Mapping[str, str]  # by the input names of the media pipeline: prompt, prompt_2
    model: str = ""
    # image, mask (white = change), control
    images: Mapping[str, Attachment] = field(default_factory=dict)
    seed: int = 1  # 1..2**31-1
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    style: str = ""  # the interception's manner, for backends that draw by rule; others ignore it
    languages: Mapping[str, str] = field(default_factory=dict)  # of texts, ISO 639-1
    workflow: Workflow | None = None  # for backends that run graphs
    # what is asked instead, in this order, of those who stand in: the same texts and pictures
    fallback: tuple[MediaRequest, ...] = ()
    # how far texts and pictures may travel: nobody further away is asked
    boundary: Boundary = field(default="world", compare=False)
    # a process that died may have sent it: the job may be there
    sent_before: bool = field(default=False, compare=False)

    def described(self) -> dict[str, object]:
        """The request as JSON values, pictures by their hash: what is recorded and hashed."""
        values: dict[str, object] = {
            "medium": self.medium,
            "model": self.model,
            "texts": dict(self.texts),
            "images": {name: image.sha256 for name, image in self.images.items()},
            "parameters": dict(self.parameters),
            "style": self.style,
            "languages": dict(self.languages),
        }
        if self.workflow is not None:
            values["workflow"] = self.workflow.described()
        return values

    def sha256(self) -> str:
        """Hash of all that would be sent, to whoever stands in too; without the seed.

        The same request under another seed is the same request.
        """
        return self.sha256_of(self.described())

    def sha256_of(self, described: Mapping[str, object]) -> str:
        """The same, of a description that was made already."""
        if not self.fallback:
            return canonical_sha256(described)
        return canonical_sha256([described, *(one.described() for one in self.fallback)])


@dataclass(frozen=True, slots=True)
class MediaResult(Result):
    """What a media backend made: all its files."""

    media: tuple[Media, ...]
    model: str = ""
    queue_s: float | None = None
    compute_s: float | None = None
    # filled in around the backend: in which attempt, and by which link of the chain
    attempt: int | None = None
    place: int = 0


def canonical_json(value: object) -> str:
    """The one spelling of a JSON value that we hash: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def canonical_sha256(value: object) -> str:
    """Hash of a JSON value in its one spelling."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def idempotency_key(*names: object) -> str:
    """The name of one act of one run: equal for each try of it, also after a crash."""
    return hashlib.sha256("\x1f".join(map(str, names)).encode()).hexdigest()


def derived_seed(seed: int, *names: object) -> int:
    """A seed in 1..2**31-1 for one random step, fixed by the run's seed and the step's name."""
    digest = hashlib.sha256("/".join([str(seed), *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") % MAX_SEED + 1


def draw_seed() -> int:
    """A new seed in 1..2**31-1, the range that every backend takes."""
    return secrets.randbelow(MAX_SEED) + 1


def seed_in_range(seed: object, *, name: str = "seed") -> int | None:
    """The seed as an int in 1..2**31-1, or None. Raises UsageError."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int):
        try:
            seed = int(str(seed))
        except ValueError:
            raise UsageError(
                f"The {name} {str(seed)[:40]!r} is no integer.",
                hint=f"Give a whole number from 1 to {MAX_SEED}.",
            ) from None
    if not 1 <= seed <= MAX_SEED:
        raise UsageError(
            f"The {name} is out of range.", hint=f"Give a whole number from 1 to {MAX_SEED}."
        )
    return seed


def new_run_id(now: datetime | None = None) -> str:
    """An id that sorts by time and that nobody else draws: 20261122-141503-k3v9x2ma (UTC)."""
    drawn = base64.b32encode(secrets.token_bytes(5)).decode().lower()
    begun = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{begun:%Y%m%d-%H%M%S}-{drawn}"
