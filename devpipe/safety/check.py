"""The verdict on a text: allowed only if no rule hits, and, where a judge is configured, the judge says so exactly.

Whatever goes wrong with the judge blocks, at every level: a verdict that could not be had is not an allowing one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from devpipe.errors import BackendError
from devpipe.events import VerdictGiven
from devpipe.safety import judge
from devpipe.safety.rules import Rules, shipped_rules
from devpipe.values import LEVELS, Level, Stage, TextResult

AskJudge = Callable[[str, str], Awaitable[TextResult]]  # (policy text, fenced text) -> the judge's answer

_JUDGED = {
    "en": "This cannot be made here. Try to say it differently.",
    "de": "Das kann hier nicht entstehen. Versuche, es anders zu sagen.",
}
_NO_JUDGE = {
    "en": "This output needs somebody who checks the text first. Please ask your teacher.",
    "de": "Für diese Ausgabe muss erst jemand den Text prüfen. Bitte frage deine Lehrkraft.",
}
NEGATIVE = {"kids": "frightening, violent, nude, gore", "youth": "violent, nude, gore"}


def policy_version(level: Level, *, judged: bool) -> str:
    """Which rules and which judge's policy a verdict follows; another version means: check again."""
    return f"{shipped_rules().policy}/{level}" + (f"/{judge.VERSION}" if judged else "")


def _sentence(texts: Mapping[str, str], language: str) -> str:
    return texts.get(language, texts["en"])


async def check(
    texts: Mapping[str, str], *, stage: Stage, level: Level, sha256: str, language: str, ask_judge: AskJudge | None, needs_judge: bool
) -> VerdictGiven:
    """The verdict on all these texts together, bound to `sha256`. `needs_judge`: rules alone may not allow at kids and youth."""
    began = time.perf_counter()
    whole = "\n".join(texts.values())

    def verdict(*, allowed: bool, method: str, **fields: object) -> VerdictGiven:
        given = {
            "stage": stage, "allowed": allowed, "sha256": sha256, "level": level, "method": method,
            "policy": policy_version(level, judged=ask_judge is not None),
            "negative_prompt": NEGATIVE.get(level, ""), "seconds": time.perf_counter() - began,
        }  # fmt: skip
        return VerdictGiven.model_validate(given | fields)

    rules: Rules = shipped_rules()
    if hits := rules.hits(whole, level):
        return verdict(
            allowed=False,
            method="rules",
            categories=sorted({hit.category for hit in hits}),
            reason=rules.reason(hits[0].category, language),
            cause="Listed terms: " + ", ".join(f"{hit.term!r} ({hit.category}, {hit.language})" for hit in hits),
        )
    if ask_judge is None:
        if needs_judge and LEVELS.index(level) <= LEVELS.index("youth"):
            return verdict(
                allowed=False,
                method="rules",
                categories=["unchecked"],
                reason=_sentence(_NO_JUDGE, language),
                cause=f"At level {level} a picture model needs a judge, and none is set. Set DEVPIPE_MODEL_JUDGE=backend/model, "
                'or change the line `safety = "..."` in devpipe.toml.',
            )
        return verdict(allowed=True, method="rules")
    try:
        answer = await ask_judge(judge.policy_text(level), judge.fenced(whole))
        allowed, categories = judge.read_answer(answer)
    except BackendError as error:
        return verdict(
            allowed=False, method="rules+judge", categories=["unchecked"], reason=_sentence(_JUDGED, language), cause=f"No verdict: {error}"
        )
    judged = {"judge": answer.model, "digest": answer.digest}
    if allowed:
        return verdict(allowed=True, method="rules+judge", **judged)
    cause = "The judge said: " + ", ".join(categories)
    return verdict(
        allowed=False, method="rules+judge", categories=list(categories), reason=_sentence(_JUDGED, language), cause=cause, **judged
    )
