"""Services a stage uses: journal, text models, safety check, media backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from devpipe.backends.chain import Chained, media_chain, opened, text_chain
from devpipe.backends.registry import Backends
from devpipe.config.chains import Candidate, Chain, outside
from devpipe.errors import BackendError, CutOff, Rejected
from devpipe.record.events import VerdictGiven, Warned
from devpipe.safety.check import check, covers, policy_version
from devpipe.stages.journal import (
    LONGEST_TEXT,
    Growing,
    Journal,
    PlacedJournal,
    Where,
    add_partial,
)
from devpipe.stages.request import RunRequest, Words
from devpipe.text.chatter import (
    ending_of,
    is_whole,
    marks_in,
    shortened,
    without_chatter,
    without_thoughts,
)
from devpipe.text.clean import visible
from devpipe.values import (
    Stage,
    Task,
    TextRequest,
    TextResult,
    canonical_sha256,
    idempotency_key,
)

BY_PROCEDURE = "procedural"  # the backend whose texts are a procedure's, not a model's


class Refused(Exception):
    """A vendor's no, in its own words: it ends the run as `blocked`."""


@dataclass(frozen=True, slots=True)
class TextModels:
    """The text backend of each task: the settings' chain of models, and how an answer is read."""

    run: RunRequest
    chains: Mapping[Task, str]
    backends: Backends
    journal: Journal
    growing: Growing = field(default_factory=Growing)

    def has_model(self, task: Task) -> bool:
        """Whether a language model is there for a task, and not only a procedure."""
        return Chain.read(self.chains[task]).by_model

    async def write(self, request: TextRequest, where: Where) -> TextResult:
        """The text that answers a request, by the first model of the task that can be reached.

        Raises Refused for a model's no, CutOff or Rejected for an answer that is none, and the
        last error of the chain where nobody answered.
        """
        result = await self._ask(request, where, silent=False)
        if result.refused:
            raise Refused(result.refused)
        return self._accepted(result, request, where)

    async def judge(self, request: TextRequest, where: Where) -> TextResult:
        """A judge's answer as it came, shown to nobody."""
        return await self._ask(request, where, silent=True)

    async def _ask(self, request: TextRequest, where: Where, *, silent: bool) -> TextResult:
        chain = Chain.read(self.chains[request.task])
        journal = PlacedJournal(self.journal, where, self.growing, silent=silent)
        request = replace(
            request,
            boundary=chain.boundary,
            level=self.run.level,
            idempotency_key=idempotency_key(
                self.run.run_id, *where, request.task, request.text, request.seed
            ),
        )
        backend = text_chain(request.task, chain, self.backends, journal)
        return await backend.write(request, journal.show)

    def _accepted(self, result: TextResult, request: TextRequest, where: Where) -> TextResult:
        """The answer, if it is one: whole, not empty, without control characters and chatter."""
        text = visible(result.text)
        parts = {
            name: visible(result.parts[name]) for name in request.parts if name in result.parts
        }
        if not text.strip() and not any(parts.values()):
            raise Rejected(
                f"The model answered with {'nothing but thoughts' if result.raw else 'nothing'}.",
                hint="Try again, or another model; or switch its thinking off.",
            )
        if len(text) + sum(map(len, parts.values())) > LONGEST_TEXT:
            raise Rejected(
                f"The model answered with more than {LONGEST_TEXT} characters.",
                hint="Try again, or another model.",
            )
        kept = text
        if result.backend != BY_PROCEDURE:
            kept = without_thoughts(text) if request.parts else without_chatter(text)
            try:
                kept = self._to_its_end(kept, result.finish_reason, request, where)
            except BackendError:
                add_partial(self.journal, where, text)
                raise
        raw = result.raw or (text if kept.strip() != text.strip() else "")
        return replace(result, text=kept, parts=parts, raw=visible(raw[:LONGEST_TEXT]))

    def _to_its_end(self, text: str, word: str, request: TextRequest, where: Where) -> str:
        """The text, if it is whole; `word`: the server's for why it ended."""
        if marks := marks_in(text):
            raise Rejected(
                f"The answer holds the model's own marks: {', '.join(marks[:3])}.",
                hint="Give the server the model's reasoning parser (vLLM: --reasoning-parser;"
                " llama.cpp: --jinja --reasoning-format auto; Ollama: a newer version), or choose"
                " another model.",
            )
        if not ending_of(word):
            raise Rejected(
                f"The server ended the answer with {word!r}, a word that devpipe does not know.",
                hint="Choose another model or another server.",
            )
        if ending_of(word) == "whole" and (word == "stop" or is_whole(text)):
            return text
        text, unit = shortened(text) if request.shorten else ("", "")
        if not text:
            raise CutOff(
                f"The model's answer ended early ({word}), at {request.max_tokens} tokens.",
                hint="Try again, choose another model, or allow more in `length` of the step.",
            )
        self.journal.add(
            Warned(
                stage=where.stage,
                message=f"An answer was cut at {request.max_tokens} tokens ({word}): it ends at its"
                f" last whole {unit}, after {len(text)} characters.",
            )
        )
        return text

    async def judge_digest(self) -> str | None:
        """The identity of the judge's weights now.

        Empty where there is no judge or nobody can tell; None where the judge cannot be asked.
        """
        chain = Chain.read(self.chains["judge"])
        for candidate in chain.candidates:
            backend = opened(self.backends, candidate.backend)
            if not outside(backend.boundary(candidate.model), chain.boundary):
                try:
                    return await backend.digest(candidate.model)
                except BackendError:
                    return None
        return None if chain.candidates else ""


@dataclass(frozen=True, slots=True)
class SafetyCheck:
    """May these texts be shown, or made into something? Asked of the rules and of the judge."""

    run: RunRequest
    text: TextModels
    judge_seconds: float

    async def verdict(
        self,
        texts: Words,
        *,
        stage: Stage,
        language: str,
        sha256: str = "",
        needs_judge: bool = False,
    ) -> VerdictGiven:
        """The verdict on these texts, not yet recorded: that is for whoever acts on it.

        `sha256` is of what it is bound to, where that is more than the texts.
        """

        async def ask(instruction: str, message: str) -> TextResult:
            return await self.text.judge(
                TextRequest(
                    "judge",
                    message,
                    instruction=instruction,
                    language="en",
                    seed=self.run.text_seed,
                    temperature=0.0,
                ),
                Where(stage, step="judge"),
            )

        judge = self.text.chains["judge"]
        return await check(
            texts,
            stage=stage,
            level=self.run.level,
            sha256=sha256 or canonical_sha256(dict(texts)),
            language=language,
            ask_judge=ask if judge else None,
            needs_judge=needs_judge,
            judge_model=judge,
            patience_s=self.judge_seconds,
        )

    async def verdict_still_holds(self, verdict: VerdictGiven | None, sha256: str) -> bool:
        """Whether a verdict is valid for this hash under today's level, rules and judge."""
        if verdict is None:
            return False
        digest = await self.text.judge_digest()
        if digest is None:
            return False
        level = self.run.level
        policy = policy_version(level, judge=self.text.chains["judge"])
        return covers(verdict, sha256=sha256, level=level, policy=policy, digest_now=digest)


class Services:
    """All that a stage may use besides the values it is given."""

    def __init__(
        self,
        request: RunRequest,
        chains: Mapping[Task, str],
        backends: Backends,
        journal: Journal,
        *,
        judge_seconds: float,
    ) -> None:
        self.journal = journal
        self.text = TextModels(request, chains, backends, journal)
        self.safety = SafetyCheck(request, self.text, judge_seconds)
        self.media_journal = PlacedJournal(journal, Where("generation"), self.text.growing)

    @cached_property
    def media(self) -> Chained:
        """The output's backend and those who stand in for it; opened when Stage 3 asks for it."""
        candidates = [Candidate(output.backend, output.model) for output in self.text.run.outputs]
        return media_chain(candidates, self.text.backends, self.media_journal)
