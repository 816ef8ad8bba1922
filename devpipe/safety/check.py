"""The verdict on a text: allowed only if no rule hits, and, where a judge is configured, the judge
says so exactly.

Whatever goes wrong with the judge blocks, at every level: a verdict that could not be had is not an
allowing one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from devpipe.errors import RecorderError
from devpipe.record.events import VerdictGiven
from devpipe.safety import judge
from devpipe.safety.policy import NEGATIVE, policy_name, sentence
from devpipe.safety.rules import Hit, shipped_rules
from devpipe.values import LEVELS, Level, Stage, TextResult

AskJudge = Callable[
    [str, str], Awaitable[TextResult]
]  # (system text, message) -> the judge's answer
PATIENCE_S = 8.0


def policy_version(level: Level, *, judge: str = "") -> str:
    """Which rules, which judge and which policy a verdict follows; another version means: check
    again.
    """
    return f"{shipped_rules().policy}/{level}" + (f"/{policy_name()}/{judge}" if judge else "")


def covers(
    verdict: VerdictGiven | None, *, sha256: str, level: Level, policy: str, digest_now: str
) -> bool:
    """Whether an allowing verdict covers this hash, at this level, by this policy and by the
    judge's weights as they are now.

    A judge whose weights nobody can tell is asked again.
    """
    if verdict is None or not verdict.allowed or (verdict.method != "rules" and not digest_now):
        return False
    return (verdict.sha256, verdict.level, verdict.policy, verdict.digest) == (
        sha256,
        level,
        policy,
        digest_now,
    )


class _Found(NamedTuple):
    """What a verdict says besides what it is about."""

    allowed: bool
    method: str = "rules"
    categories: tuple[str, ...] = ()
    reason: str = ""
    cause: str = ""
    judge: str = ""
    digest: str = ""


async def check(
    texts: Mapping[str, str],
    *,
    stage: Stage,
    level: Level,
    sha256: str,
    language: str,
    ask_judge: AskJudge | None,
    needs_judge: bool,
    judge_model: str = "",
    patience_s: float = PATIENCE_S,
) -> VerdictGiven:
    """The verdict on all these texts together, bound to `sha256`.

    `needs_judge`: rules alone may not allow at kids and youth.

    `judge_model` is the judge as configured, `patience_s` how long each of its answers may take.
    Raises UsageError where a term
    list is missing or broken, RecorderError where asking cannot be recorded.
    """
    began, together = time.perf_counter(), "\n".join(texts.values())
    hits = shipped_rules().hits(together, level)
    found = _by_rules(hits, level, language, alone=ask_judge is None, needs_judge=needs_judge)
    if ask_judge and found.allowed:
        judging = _Judging(together, level, language, judge_model, ask_judge, patience_s)
        found = await judging.found(found.categories)
    policy = policy_version(level, judge=(judge_model or "judge") if ask_judge else "")
    bound = {
        "stage": stage,
        "sha256": sha256,
        "level": level,
        "policy": policy,
        "negative_prompt": NEGATIVE.get(level, ""),
    }
    return VerdictGiven.model_validate(
        {**found._asdict(), **bound, "seconds": time.perf_counter() - began}
    )


def is_strict(level: Level) -> bool:
    """Whether nothing may be allowed without a judge where a model can depict anything."""
    return LEVELS.index(level) <= LEVELS.index("youth")


def _by_rules(
    hits: list[Hit], level: Level, language: str, *, alone: bool, needs_judge: bool
) -> _Found:
    """What the rules say.

    Words that only their context can judge are for the judge; without one they block the young.
    """
    categories = tuple(sorted({hit.category for hit in hits}))
    listed = ", ".join(
        dict.fromkeys(f"{hit.term!r} ({hit.category}, {hit.language})" for hit in hits)
    )
    hard = [hit for hit in hits if hit.hard or (alone and is_strict(level))]
    if hard:
        return _Found(
            False,
            categories=categories,
            reason=sentence(hard[0].category, language),
            cause=f"Listed terms: {listed}",
        )
    if alone and needs_judge and is_strict(level):
        cause = (
            f"At level {level} a picture model needs a judge, and none is set. Set"
            ' DEVPIPE_MODEL_JUDGE=backend/model, or change the line `safety = "..."` in'
            " devpipe.toml."
        )
        return _Found(
            False, categories=("unchecked",), reason=sentence("no_judge", language), cause=cause
        )
    return _Found(
        True, categories=categories, cause=f"Noted, not blocked: {listed}" if hits else ""
    )


@dataclass(frozen=True, slots=True)
class _Judging:
    """A judge at work on one text."""

    text: str
    level: Level
    language: str
    model: str
    ask: AskJudge
    patience_s: float

    async def found(self, noticed: tuple[str, ...]) -> _Found:
        """Allowed where every look gives exactly the allowing answer; what was `noticed` asks for a
        second look.
        """
        if judge.speaks_to_judge(self.text):
            if is_strict(self.level):
                return self._unasked(
                    "injection", "No verdict: the text tells its judge what to answer.", "injection"
                )
            noticed = (*noticed, "injection")
        if len(self.text) > judge.LONGEST:
            cause = (
                f"No verdict: the text has {len(self.text)} characters, and a judge reads at most"
                f" {judge.LONGEST} whole."
            )
            return self._unasked("unchecked", cause, "too_long")
        found = await self._look(())
        return await self._look(noticed) if found.allowed and noticed else found

    async def _look(self, focus: tuple[str, ...]) -> _Found:
        try:
            answer = await self._answer(
                *judge.question(self.text, self.level, model=self.model, focus=focus)
            )
            allowed, named = judge.read_answer(answer, self.model)
        except RecorderError:  # nothing may happen that cannot be written down
            raise
        except TimeoutError:
            return self._failed(
                f"it did not answer within {self.patience_s:g} s. Loading a model takes longer: set"
                " DEVPIPE_JUDGE_SECONDS."
            )
        # any, also a fault of ours or of a backend: without an exact answer nothing passes
        except Exception as error:
            return self._failed(" ".join(str(error).split())[:500] or type(error).__name__)
        by = {"method": "rules+judge", "judge": str(answer.model), "digest": str(answer.digest)}
        if allowed:
            return _Found(
                True,
                categories=focus,
                cause=f"Looked at twice: {', '.join(focus)}" if focus else "",
                **by,
            )
        return _Found(
            False,
            categories=named,
            reason=sentence(named[0], self.language),
            cause=f"The judge said: {', '.join(named)}",
            **by,
        )

    async def _answer(self, instruction: str, message: str) -> TextResult:
        """The answer, if it came in time.

        One that comes late, although it was called off, is none.
        """
        until = time.monotonic() + self.patience_s
        async with asyncio.timeout(self.patience_s):
            answer = await self.ask(instruction, message)
        if time.monotonic() > until:
            raise TimeoutError
        return answer

    def _unasked(self, category: str, cause: str, reason: str) -> _Found:
        return _Found(
            False, categories=(category,), reason=sentence(reason, self.language), cause=cause
        )

    def _failed(self, why: str) -> _Found:
        return _Found(
            False,
            "rules+judge",
            ("unchecked",),
            sentence("unchecked", self.language),
            f"No verdict: the judge failed: {why}",
        )
