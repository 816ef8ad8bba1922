"""Stage 3: what exactly would be sent, and may it? The verdict is bound to the hash of it all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from devpipe.config.models import OutputConfig
from devpipe.errors import UsageError
from devpipe.record.events import VerdictGiven
from devpipe.safety.check import is_strict
from devpipe.safety.policy import NEGATIVE
from devpipe.stages.request import Parameters, RunRequest, Words
from devpipe.stages.services import Services
from devpipe.stages.texts import Texts, add_final
from devpipe.stages.translation import has_translator, translated
from devpipe.values import MediaRequest, idempotency_key


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier run has of Stage 3: its texts as fitted and translated, and its verdict."""

    texts: Texts | None = None
    verdict: VerdictGiven | None = None


NOTHING_BEFORE = Before()


async def run(
    request: RunRequest,
    services: Services,
    texts: Texts,
    *,
    original: Texts,
    before: Before = NOTHING_BEFORE,
) -> tuple[MediaRequest, VerdictGiven]:
    """The request for Stage 4 and the verdict on it.

    An earlier verdict is reused only if it still holds for exactly this request.
    """
    missing = services.media.missing
    if missing is not None:
        raise missing
    fitted = fit(texts, request.media_pipeline.texts, original)
    if before.texts is not None:  # a recording keeps of these only what Stage 3 changed
        fitted = fitted.overlaid(before.texts.parts)
    elif _needs_translation(request, services, fitted):
        verdict = await services.safety.verdict(
            fitted.by_part, stage="pre_output", language=original.person_language
        )
        if not verdict.allowed:  # no model is asked to translate what may not be made
            services.journal.add(verdict)
            return _media_request(request, fitted), verdict
        fitted = await translated(
            request,
            services,
            fitted,
            request.output.translate_to,
            stage="pre_output",
            names=[request.output.name],
        )
    media_request = _media_request(request, fitted)
    verdict = await _verdict(request, services, media_request, original, before.verdict)
    given = texts.by_part
    changed = [part for part, words in fitted.by_part.items() if words != given.get(part)]
    results = [fitted.written(part, "pre_output") for part in changed]
    await add_final(services.journal, results)
    services.journal.add(verdict)
    return media_request, verdict


async def _verdict(
    request: RunRequest,
    services: Services,
    media_request: MediaRequest,
    original: Texts,
    earlier: VerdictGiven | None,
) -> VerdictGiven:
    """The earlier verdict where it still holds, else a new one."""
    sha256 = media_request.sha256()
    depicts = services.media.depicts
    if earlier is not None:
        holds = await services.safety.verdict_still_holds(earlier, sha256)
        # one by rules alone was given to a backend that draws by rule; this one needs a judge
        too_weak = earlier.method == "rules" and depicts and is_strict(request.level)
        if holds and not too_weak:
            return earlier
    return await services.safety.verdict(
        _words_sent(request, media_request),
        stage="pre_output",
        sha256=sha256,
        language=original.person_language,
        needs_judge=depicts,
    )


def fit(texts: Texts, wanted: tuple[str, ...], original: Texts) -> Texts:
    """The texts under the names that the media pipeline takes.

    Two parts for an output that takes one are joined. One text for an output that takes two: the
    second is what the person wrote, so that a fusion lies between what was said and what was made
    of it.
    """
    parts = dict(texts.parts)
    if len(wanted) == 1 and len(parts) > 1:
        first = next(iter(parts.values()))
        parts[wanted[0]] = replace(first, words=", ".join(texts.by_part.values()))
    if len(wanted) == 2 and wanted[1] not in parts:
        parts[wanted[1]] = original.parts["prompt"]
    missing = [name for name in wanted if name not in parts]
    if missing:
        raise UsageError(
            f"The output takes the text(s) {', '.join(missing)}, which nobody gave.",
            hint="Give them by name.",
        )
    return Texts({name: parts[name] for name in wanted})


def _media_request(request: RunRequest, texts: Texts) -> MediaRequest:
    """What would be sent to the output's backend, and to each that stands in for it."""
    first, *others = [_for_output(request, output, texts) for output in request.outputs]
    return replace(first, fallback=tuple(others)) if others else first


def _for_output(request: RunRequest, output: OutputConfig, texts: Texts) -> MediaRequest:
    return MediaRequest(
        medium=output.medium,
        model=output.model,
        texts=texts.by_part,
        images=dict(request.images),
        parameters=_with_negative(request, output),
        style=request.pipeline.style,
        languages={part: text.known_language for part, text in texts.parts.items()},
        workflow=output.workflow(),
        boundary=request.boundary,
        level=request.level,
        idempotency_key=idempotency_key(request.run_id, output.name),
    )


def _parameters(request: RunRequest, output: OutputConfig) -> Parameters:
    """The run's parameters; of an output that stands in those asked that it takes, else its own."""
    if output is request.output:
        return request.parameters
    taken = {}
    for name, declared in output.parameters.items():
        value = request.asked.get(name, declared.default)
        taken[name] = declared.cast(declared.default if declared.problem(value) else value)
    return taken


def _with_negative(request: RunRequest, output: OutputConfig) -> Parameters:
    """The parameters, the level's negative prompt added where the output takes one."""
    parameters = _parameters(request, output)
    ours = NEGATIVE.get(request.level, "")
    if "negative_prompt" not in output.parameters or not ours:
        return dict(parameters)
    given = str(parameters.get("negative_prompt") or "")
    if ours not in given:
        given = f"{given}, {ours}".strip(", ")
    return {**parameters, "negative_prompt": given}


def _words_sent(request: RunRequest, media_request: MediaRequest) -> Words:
    """Every word that would be sent to anybody, without those that are ours.

    Ours are the level's negative prompt, and what a config says by default. A parameter may be
    called like a text: its name says that it is one.
    """
    words = dict(media_request.texts)
    for place, output in enumerate(request.outputs):
        for name, value in _parameters(request, output).items():
            declared = output.parameters.get(name)
            default = declared.default if declared else None
            if isinstance(value, str) and value != default:
                words[f"parameter {name} of output {place}"] = value
    return words


def _needs_translation(request: RunRequest, services: Services, texts: Texts) -> bool:
    """Whether the output asks for another language, and a text model is there to translate.

    Where it is not, that is recorded.
    """
    target = request.output.translate_to
    if not target or all(text.known_language == target for text in texts.parts.values()):
        return False
    return has_translator(
        services,
        "pre_output",
        f"Translation to {target!r}, which {request.output.name} is made for,",
    )
