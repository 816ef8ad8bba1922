"""Stage 1: each text gets its language, is translated where the pipeline asks, and all of them are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from devpipe.events import TextWritten, VerdictGiven, Warned
from devpipe.stages.context import Context, Where
from devpipe.stages.language import detect, is_loaded, load
from devpipe.values import TextRequest, canonical_sha256, derived_seed


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by their input name, and the language of each."""

    by_part: Mapping[str, str]
    languages: Mapping[str, str]


async def run(context: Context, texts: Mapping[str, str], *, instruction: str = "") -> tuple[Texts, VerdictGiven]:
    """The texts as they go on, and the verdict on them (the user's own instruction is checked with them)."""
    if not is_loaded():
        await asyncio.to_thread(load)
    taken, languages = dict(texts), {part: detect(text) for part, text in texts.items()}
    context.language = next(iter(languages.values()))
    checked = {**texts, "instruction": instruction} if instruction else dict(texts)
    verdict = await _verdict(context, checked)
    if context.pipeline.translate and verdict.allowed:  # no model is asked to translate what may not go on
        taken, languages = await _translated(context, taken, languages)
        if taken != texts:
            context.hold(verdict)
            verdict = await _verdict(context, taken)
    context.hold(*[await final_text(context, "input", part, taken[part], languages[part], by="user") for part in taken], verdict)
    return Texts(taken, languages), verdict


async def _verdict(context: Context, texts: Mapping[str, str]) -> VerdictGiven:
    return await context.verdict(texts, stage="input", sha256=canonical_sha256(dict(texts)), needs_judge=False)


async def _translated(context: Context, texts: dict[str, str], languages: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The texts in English, by the model of the task `translate`; as they were where only procedures are there."""
    if context.models["translate"].partition("/")[0] == "procedural":
        context.hold(Warned(stage="input", message="Translation skipped: no text model is set (DEVPIPE_MODEL_TRANSLATE)."))
        return texts, languages
    for part, text in texts.items():
        if languages[part] != "en":
            seed = derived_seed(context.text_seed, "translate", part)
            request = TextRequest("translate", text, language=languages[part], output_language="en", seed=seed)
            result = await context.write(request, Where("input", step="translate", part=part))
            context.hold(
                TextWritten(stage="input", step="translate", part=part, text=result.text, by="model", language="en", raw=result.raw)
            )
            texts, languages = texts | {part: result.text}, languages | {part: "en"}
    return texts, languages


async def final_text(
    context: Context, stage: str, part: str, text: str, language: str, *, by: str, step: str = "", iteration: int = 0, raw: str = ""
) -> TextWritten:
    """The event of a stage's resulting text; the text also lies in a file that a person opens."""
    path = context.file_name(stage if part == "prompt" else f"{stage}_{part}", "txt")
    sha256 = await context.write_text(path, text)
    fields = {"stage": stage, "part": part, "text": text, "final": True, "by": by, "language": language, "path": path}
    return TextWritten.model_validate(fields | {"sha256": sha256, "step": step, "iteration": iteration, "raw": raw})
