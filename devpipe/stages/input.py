"""Stage 1: each text gets its language, is translated where asked for, and all are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from devpipe.config.models import InterceptionPipeline
from devpipe.record.events import TextWritten, VerdictGiven
from devpipe.stages.request import RunRequest
from devpipe.stages.services import Services
from devpipe.stages.texts import Texts, final_text
from devpipe.stages.translation import has_translator, translated
from devpipe.text.language import detect, is_loaded, load


async def run(
    request: RunRequest, services: Services, texts: Mapping[str, str]
) -> tuple[Texts, VerdictGiven]:
    """The texts as they go on, and the verdict on them and on the person's own instruction."""
    languages = await languages_of(texts)
    taken = Texts(dict(texts), languages, spoken=next(iter(languages.values())))
    spoken = taken.person_language
    words = checked(texts, request.instruction)
    verdict = await services.safety.verdict(words, stage="input", language=spoken)
    # only now: no model is shown what may not go on
    if verdict.allowed and _readies(request.pipeline, services):
        taken = await translated(
            services,
            taken,
            "en" if request.pipeline.translate else "",
            stage="input",
            names=(request.text_seed, "translate"),
            correct=request.pipeline.correct,
        )
        if taken.by_part != texts:
            services.journal.add(verdict)
            verdict = await services.safety.verdict(taken.by_part, stage="input", language=spoken)
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


def _readies(pipeline: InterceptionPipeline, services: Services) -> bool:
    """Whether the pipeline asks for texts corrected or in English, and a model is there for it."""
    what = "Translation" if pipeline.translate else "Correction"
    asks = pipeline.translate or pipeline.correct
    return asks and has_translator(services, "input", what)


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
