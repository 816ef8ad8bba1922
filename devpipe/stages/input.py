"""Stage 1: each text gets its language, is translated where asked for, and all are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from devpipe.record.events import TextWritten, VerdictGiven, Warned
from devpipe.stages.journal import Where
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Services
from devpipe.stages.texts import Texts, final_text
from devpipe.stages.translation import translated, translation_request
from devpipe.text.language import detect, is_loaded, load
from devpipe.values import canonical_sha256


async def run(
    request: RunRequest, services: Services, texts: Mapping[str, str]
) -> tuple[Texts, VerdictGiven]:
    """The texts as they go on, and the verdict on them and on the person's own instruction."""
    languages = await languages_of(texts)
    taken = Texts(dict(texts), languages, spoken=next(iter(languages.values())))
    verdict = await _verdict(services, checked(texts, request.instruction), taken)
    pipeline = request.pipeline
    if verdict.allowed and (pipeline.translate or pipeline.correct):
        # only now: no model is shown what may not go on
        taken = await _readied(request, services, taken)
        if taken.by_part != texts:
            services.journal.add(verdict)
            verdict = await _verdict(services, taken.by_part, taken)
    for part, text in taken.by_part.items():
        written = TextWritten(
            stage="input",
            part=part,
            text=text,
            language=taken.languages[part],
            by="user" if text == texts[part] else "model",
        )
        services.journal.add(await final_text(services.journal, written))
    services.journal.add(verdict)
    return taken, verdict


async def languages_of(texts: Mapping[str, str]) -> dict[str, str]:
    """The language of each text as it was written."""
    if not is_loaded():
        await asyncio.to_thread(load)
    return {part: detect(text) for part, text in texts.items()}


def checked(texts: Mapping[str, str], instruction: str) -> dict[str, str]:
    """All that a person wrote, by names of which none hides another."""
    if not instruction:
        return dict(texts)
    return {**texts, "the instruction": instruction}


async def _verdict(services: Services, words: Mapping[str, str], texts: Texts) -> VerdictGiven:
    sha256 = canonical_sha256(dict(words))
    return await services.safety.verdict(
        words, stage="input", sha256=sha256, language=texts.person_language
    )


async def _readied(request: RunRequest, services: Services, texts: Texts) -> Texts:
    """The texts corrected and in English, as the pipeline asks.

    They stay as they were where only procedures are there; the recording then says so.
    """
    pipeline = request.pipeline
    if not services.text.has_model("translate"):
        what = "Translation" if pipeline.translate else "Correction"
        message = f"{what} skipped: no text model is set (DEVPIPE_MODEL_TRANSLATE)."
        services.journal.add(Warned(stage="input", message=message))
        return texts
    by_part = dict(texts.by_part)
    languages = dict(texts.languages)
    for part, text in texts.by_part.items():
        language = texts.languages[part]
        target = "en" if pipeline.translate else language
        languages[part] = target
        if pipeline.correct or target != language:
            by_part[part] = await translated(
                services,
                translation_request(text, language, target, correct=True),
                Where("input", step="translate", part=part),
                text_seed=request.text_seed,
                names=("translate", part),
            )
    return Texts(by_part, languages, texts.spoken)
