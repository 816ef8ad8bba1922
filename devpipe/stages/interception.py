"""Stage 2: the pipeline's steps rewrite the text, each step and each iteration a recorded text of its own."""

from __future__ import annotations

from devpipe.config import Step
from devpipe.events import TextWritten
from devpipe.stages.context import Context, Where
from devpipe.stages.input import Texts, final_text
from devpipe.values import TextRequest, TextResult, derived_seed


async def run(context: Context, texts: Texts, *, instruction: str = "") -> Texts:
    """The rewritten texts. A pipeline without steps passes them on as they are."""
    current, by = texts, "rule"
    for step in context.pipeline.steps:
        by = "procedure" if context.models["split" if step.parts else "interception"].partition("/")[0] == "procedural" else "model"
        for iteration in range(step.iterations):
            last = step is context.pipeline.steps[-1] and iteration == step.iterations - 1
            current = await _rewrite(context, step, iteration, current, instruction, by, last=last)
    if not context.pipeline.steps:
        context.hold(
            *[await final_text(context, "interception", part, text, texts.languages[part], by=by) for part, text in texts.by_part.items()]
        )
    return current


async def _rewrite(context: Context, step: Step, iteration: int, texts: Texts, instruction: str, by: str, *, last: bool) -> Texts:
    """One iteration of one step over all texts."""
    written, languages = {}, {}
    for part, text in _asked(step, texts).items():
        language = texts.languages[part]
        target = _target_language(context, step, iteration, language)
        result = await context.write(
            _request(context, step, iteration, part, text, language, target, instruction), Where("interception", step.name, iteration, part)
        )
        for name, answer in _answers(step, part, result).items():
            written[name], languages[name] = answer, target
    for part, text in written.items():
        await _record(context, step, iteration, part, text, languages[part], by, last=last)
    return Texts(written, languages)


def _asked(step: Step, texts: Texts) -> dict[str, str]:
    """A step that answers in parts takes all texts as one; any other takes each for itself."""
    if not step.parts:
        return dict(texts.by_part)
    first = next(iter(texts.by_part))
    return {first: "\n".join(texts.by_part.values())}


def _answers(step: Step, part: str, result: TextResult) -> dict[str, str]:
    if step.parts:
        return {name: text for name, text in result.parts.items() if text.strip()}  # nothing left over is no second text
    return {part: result.text}


def _target_language(context: Context, step: Step, iteration: int, language: str) -> str:
    """The language of this iteration: the step's own while it passes through languages, at the end the output's."""
    if step.languages and iteration < step.iterations - 1:
        return step.languages[iteration % len(step.languages)]
    if step.output_language == "same":
        return context.language if step.languages else language
    return step.output_language


def _request(
    context: Context, step: Step, iteration: int, part: str, text: str, language: str, target: str, instruction: str
) -> TextRequest:
    own = step.instruction.in_(language) if step.instruction else ""
    return TextRequest(
        "split" if step.parts else "interception",
        text,
        instruction=f"{own}\n\n{instruction}".strip(),
        language=language,
        output_language=target,
        seed=derived_seed(context.text_seed, step.name, iteration, part),
        procedure=step.procedure,
        temperature=step.temperature,
        parts=step.parts,
    )


async def _record(context: Context, step: Step, iteration: int, part: str, text: str, language: str, by: str, *, last: bool) -> None:
    if last:
        event = await final_text(context, "interception", part, text, language, by=by, step=step.name, iteration=iteration)
    else:
        fields = {"stage": "interception", "step": step.name, "iteration": iteration, "part": part, "text": text}
        event = TextWritten.model_validate(fields | {"by": by, "language": language})
    context.hold(event)
