"""Which models are asked for a task, in which order, and how far may a text travel?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from devpipe.values import BOUNDARIES, Boundary


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text model of a chain."""

    backend: str
    model: str = ""

    @property
    def by_procedure(self) -> bool:
        return self.backend == "procedural"

    def __str__(self) -> str:
        return f"{self.backend}/{self.model}" if self.model else self.backend


@dataclass(frozen=True, slots=True)
class Chain:
    """Text models in their order, and the boundary that no request leaves."""

    candidates: tuple[Candidate, ...] = ()
    boundary: Boundary = "world"

    @classmethod
    @lru_cache(maxsize=64)
    def read(cls, text: str) -> Chain:
        """Read the chain that a setting spells: `a/x`, or `local: a/x, b/y`.

        An empty text is a chain of none.

        >>> Chain.read("eu: ollama/llama3:8b, procedural").candidates[0]
        Candidate(backend='ollama', model='llama3:8b')
        """
        head, colon, rest = text.partition(":")
        boundary = boundary_of(head.strip()) if colon else None
        models = rest if boundary else text
        candidates = []
        for spelled in models.split(",") if models.strip() else []:
            backend, _, model = spelled.strip().partition("/")
            candidates.append(Candidate(backend, model))
        return cls(tuple(candidates), boundary or "world")

    def within(self, boundary: Boundary) -> Chain:
        """This chain, where another boundary holds besides its own: the stricter one counts."""
        return Chain(self.candidates, min(self.boundary, boundary, key=BOUNDARIES.index))

    @property
    def by_model(self) -> bool:
        """Whether a model is asked first: no candidate, or a procedure alone, is none."""
        return bool(self.candidates) and not self.candidates[0].by_procedure

    def __str__(self) -> str:
        prefix = f"{self.boundary}: " if self.boundary != "world" and self.by_model else ""
        return prefix + ", ".join(map(str, self.candidates))


def boundary_of(name: str) -> Boundary | None:
    """The boundary of this name; None where none is called so."""
    return next((boundary for boundary in BOUNDARIES if boundary == name), None)


def outside(location: Boundary, boundary: Boundary) -> bool:
    """True if data at `location` would cross `boundary`. Unknown locations count as 'world'."""
    inside = BOUNDARIES[: BOUNDARIES.index(boundary) + 1]
    return boundary != "world" and location not in inside
