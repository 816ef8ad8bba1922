"""Stage 1: each text gets its language, is translated where asked for, and all are checked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from devpipe.record.events import VerdictGiven
from devpipe.stages.request import RunRequest, Words
from devpipe.stages.services import Services
from devpipe.stages.texts import Text, Texts, add_final
from devpipe.stages.translation import has_translator, translated
from devpipe.text.language import guess, is_loaded, load


async def run(request: RunRequest, services: Services, texts: Words) -> tuple[Texts, VerdictGiven]:
    """The texts as they go on, and the verdict on them and on the person's own instruction."""
    taken = await guessed(texts)
    spoken = taken.person_language
    taken = replace(taken, spoken=spoken)  # also when it has been translated
    verdict = await services.safety.verdict(
        checked(texts, request.instruction), stage="input", language=spoken
    )
    pipeline = request.pipeline
    what = "Translation" if pipeline.translate else "Correction"
    asks = pipeline.translate or pipeline.correct
    # only now: no model is shown what may not go on
    if verdict.allowed and asks and has_translator(services, "input", what):
        taken = await translated(
            request,
            services,
            taken,
            "en" if pipeline.translate else "",
            stage="input",
            correct=pipeline.correct,
        )
        if taken.by_part != texts:
            services.journal.add(verdict)
            verdict = await services.safety.verdict(taken.by_part, stage="input", language=spoken)
    results = [
        taken.written(part, "input", "user" if text == texts[part] else "model")
        for part, text in taken.by_part.items()
    ]
    await add_final(services.journal, results)
    services.journal.add(verdict)
    return taken, verdict


async def guessed(texts: Words) -> Texts:
    """Texts as somebody wrote them, the language of each as it is guessed."""
    if not is_loaded():
        await asyncio.to_thread(load)
    return Texts({part: Text(words, *guess(words)) for part, words in texts.items()})


def checked(texts: Words, instruction: str) -> Words:
    """All that a person wrote, by names of which none hides another."""
    if not instruction:
        return dict(texts)
    return {**texts, "the instruction": instruction}
