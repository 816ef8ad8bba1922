"""Stage 3: what exactly would be sent, and may it? The verdict is bound to the hash of
every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from devpipe.errors import UsageError
from devpipe.record.events import VerdictGiven, Warned
from devpipe.safety.check import covers, is_strict, policy_version
from devpipe.safety.policy import NEGATIVE
from devpipe.stages.context import Context, Where
from devpipe.stages.input import Texts, final_text, translated
from devpipe.values import Attachment, MediaRequest, Scalar, TextRequest, canonical_sha256


async def run(
    context: Context,
    texts: Texts,
    *,
    original: Texts,
    images: Mapping[str, Attachment],
    parameters: Mapping[str, Scalar],
    ready: Texts | None = None,
    reuse: VerdictGiven | None = None,
) -> tuple[MediaRequest, VerdictGiven]:
    """The request for Stage 4 and the verdict on it.

    A reused verdict counts only for the same text, level and policy.

    `ready`: the texts as an earlier run has fitted and translated them for this output.
    """
    fitted = ready or fit(texts, context.media_pipeline.texts, original)
    if ready is None and _is_foreign(context, fitted):
        before = await context.verdict(
            fitted.by_part,
            stage="pre_output",
            sha256=canonical_sha256(fitted.by_part),
            needs_judge=False,
        )
        if not before.allowed:  # no model is asked to translate what may not be made
            context.hold(before)
            return _request(context, fitted, images, parameters), before
        fitted = await _translated(context, fitted)
    request = _request(context, fitted, images, parameters)
    sha256 = request.sha256()
    by_rule = context.backends[context.output.backend].by_rule
    verdict = await still_valid(context, reuse, sha256)
    if verdict and verdict.method == "rules" and not by_rule and is_strict(context.level):
        verdict = None  # it was given to a backend that draws by rule: this one needs a judge
    if verdict is None:
        verdict = await context.verdict(
            _checked(context, request, parameters),
            stage="pre_output",
            sha256=sha256,
            needs_judge=not by_rule,
        )
    sent = [
        await final_text(context, "pre_output", part, text, fitted.languages[part], by="rule")
        for part, text in fitted.by_part.items()
        if text != texts.by_part.get(part)
    ]
    context.hold(*sent, verdict)
    return request, verdict


def fit(texts: Texts, wanted: tuple[str, ...], original: Texts) -> Texts:
    """The texts under the names that the media pipeline takes.

    Two parts for an output that takes one are joined. One text for an output that takes two: the
    second is what the
    person wrote, so that a fusion lies between what was said and what was made of it.
    """
    by_part, languages = dict(texts.by_part), dict(texts.languages)
    if len(wanted) == 1 and len(by_part) > 1:
        return Texts(
            {wanted[0]: ", ".join(by_part.values())}, {wanted[0]: next(iter(languages.values()))}
        )
    if len(wanted) == 2 and wanted[1] not in by_part:
        by_part[wanted[1]], languages[wanted[1]] = (
            original.by_part["prompt"],
            original.languages["prompt"],
        )
    if missing := [name for name in wanted if name not in by_part]:
        raise UsageError(
            f"The output takes the text(s) {', '.join(missing)}, which nobody gave.",
            hint="Give them by name.",
        )
    return Texts(
        {name: by_part[name] for name in wanted}, {name: languages[name] for name in wanted}
    )


def _with_negative(context: Context, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The parameters, the level's negative prompt added where the output takes one."""
    ours = NEGATIVE.get(context.level, "")
    if "negative_prompt" not in context.output.parameters or not ours:
        return dict(parameters)
    given = str(parameters.get("negative_prompt") or "")
    return dict(parameters) | {
        "negative_prompt": given if ours in given else f"{given}, {ours}".strip(", ")
    }


def _checked(
    context: Context, request: MediaRequest, parameters: Mapping[str, Scalar]
) -> dict[str, str]:
    """Every word that would be sent, without those that are ours: the level's negative prompt, and
    what the config says by default.
    """
    defaults = {name: parameter.default for name, parameter in context.output.parameters.items()}
    words = {
        name: value
        for name, value in parameters.items()
        if isinstance(value, str) and value != defaults.get(name)
    }
    return {
        **request.texts,
        **{f"parameter {name}": value for name, value in words.items()},
    }  # one may be called like a text


def _request(
    context: Context,
    texts: Texts,
    images: Mapping[str, Attachment],
    parameters: Mapping[str, Scalar],
) -> MediaRequest:
    return MediaRequest(
        medium=context.output.medium,
        model=context.output.model,
        texts=dict(texts.by_part),
        images=dict(images),
        parameters=_with_negative(context, parameters),
        style=context.pipeline.style,
        languages=dict(texts.languages),
        workflow=context.output.workflow(),
    )


def _is_foreign(context: Context, texts: Texts) -> bool:
    """Whether the output asks for another language, and a text model is there to translate.

    Where it is not, that is recorded.
    """
    target = context.output.translate_to
    if not target or all(language == target for language in texts.languages.values()):
        return False
    if not context.has_model("translate"):
        skipped = (
            f"Translation to {target!r}, which {context.output.name} is made for, skipped: no text"
            " model is set"
        )
        context.hold(Warned(stage="pre_output", message=f"{skipped} (DEVPIPE_MODEL_TRANSLATE)."))
        return False
    return True


async def still_valid(
    context: Context, verdict: VerdictGiven | None, sha256: str
) -> VerdictGiven | None:
    """The verdict, if it allows exactly this by the level, the lists and the judge of today."""
    if verdict is None:
        return None
    policy, digest = (
        policy_version(context.level, judge=context.models["judge"]),
        await context.judge_digest(),
    )
    covered = digest is not None and covers(
        verdict, sha256=sha256, level=context.level, policy=policy, digest_now=digest
    )
    return verdict if covered else None


async def _translated(context: Context, texts: Texts) -> Texts:
    """The texts in the language the output asks for."""
    target = context.output.translate_to
    by_part, languages = dict(texts.by_part), dict(texts.languages)
    for part, text in texts.by_part.items():
        if languages[part] != target:
            where, seeded = (
                Where("pre_output", step="translate", part=part),
                ("translate", context.output.name, part),
            )
            request = TextRequest(
                "translate", text, language=languages[part], output_language=target
            )
            by_part[part], languages[part] = (
                await translated(context, request, where, seeded),
                target,
            )
    return replace(texts, by_part=by_part, languages=languages)
