"""Stage 2: the pipeline's steps rewrite the text, each step and each iteration a recorded text of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from devpipe.config.chains import Candidate
from devpipe.config.models import Step
from devpipe.errors import Rejected
from devpipe.record.events import TextWritten
from devpipe.stages.context import Context, Where
from devpipe.stages.input import Texts, final_text
from devpipe.text.chatter import missing_words, read_parts
from devpipe.values import TextRequest, TextResult, derived_seed


async def run(context: Context, texts: Texts, *, instruction: str = "") -> Texts:
    """The rewritten texts. A pipeline without steps passes them on as they are."""
    current = texts
    for step in context.pipeline.steps:
        for iteration in range(step.iterations):
            last = step is context.pipeline.steps[-1] and iteration == step.iterations - 1
            current = await _rewrite(context, step, iteration, current, instruction, last=last)
    if not context.pipeline.steps:
        for part, text in texts.by_part.items():
            context.hold(
                await final_text(
                    context, "interception", part, text, texts.languages[part], by="rule"
                )
            )
    return current


async def _rewrite(
    context: Context, step: Step, iteration: int, texts: Texts, instruction: str, *, last: bool
) -> Texts:
    """One iteration of one step over all texts, recorded when all of them are there."""
    written, languages, told = dict[str, str](), dict[str, str](), dict[str, Any]()
    for part, text in _asked(step, texts).items():
        language = texts.languages[part]
        target = _target_language(context, step, iteration, language)
        request = _request(context, step, iteration, part, text, language, target, instruction)
        where = Where("interception", step.name, iteration, part)
        answers, result, candidate = (
            await _split(context, request, where)
            if step.parts
            else await _whole(context, request, where)
        )
        written |= answers
        languages |= dict.fromkeys(answers, target)
        by = "procedure" if candidate.by_procedure else "model"
        told |= {name: {"by": by, "raw": result.raw} for name in answers}
    for part, answer in written.items():
        fields = {"step": step.name, "iteration": iteration} | told[part]
        if last:
            context.hold(
                await final_text(context, "interception", part, answer, languages[part], **fields)
            )
        else:
            context.hold(
                TextWritten(
                    stage="interception", part=part, text=answer, language=languages[part], **fields
                )
            )
    return Texts(written, languages)


_Answer = tuple[Mapping[str, str], TextResult, Candidate]  # by part, as it came, by whom


async def _whole(context: Context, request: TextRequest, where: Where) -> _Answer:
    result, candidate = await context.ask(request, where)
    return {where.part: result.text}, result, candidate


async def _split(context: Context, request: TextRequest, where: Where) -> _Answer:
    """The parts that are not empty.

    A model's must hold every word of the text; it is told once what is wrong, then Rejected is
    raised.
    """
    result, candidate = await context.ask(request, where)
    try:
        parts = _parts(request, result, candidate)
    except Rejected as wrong:
        context.partial(where, result.text)
        told = f"{request.instruction}\n\nYour first answer was wrong. {wrong}"
        again = replace(request, instruction=told, seed=derived_seed(request.seed, "again"))
        result, candidate = await context.ask(again, where)
        parts = _parts(request, result, candidate)
    raw = "" if result.parts else result.raw or result.text
    return (
        {name: text for name, text in parts.items() if text.strip()},
        replace(result, raw=raw),
        candidate,
    )


def _parts(request: TextRequest, result: TextResult, candidate: Candidate) -> Mapping[str, str]:
    """The parts of an answer. Raises Rejected for one that cannot be read, or that lost words."""
    parts = result.parts or read_parts(result.text, request.parts)
    same = request.output_language == request.language and not candidate.by_procedure
    if same and (missing := missing_words(request.text, parts)):
        hint = "Every word of the text belongs into one of the parts."
        raise Rejected(f"These words are missing: {', '.join(missing)[:500]}.", hint=hint)
    return parts


def _asked(step: Step, texts: Texts) -> dict[str, str]:
    """A step that answers in parts takes all texts as one; any other takes each for itself."""
    if not step.parts:
        return dict(texts.by_part)
    first = next(iter(texts.by_part))
    return {first: "\n".join(texts.by_part.values())}


def _target_language(context: Context, step: Step, iteration: int, language: str) -> str:
    """The language of this iteration: the step's own while it passes through languages, at the end
    the output's.
    """
    if step.languages and iteration < step.iterations - 1:
        return step.languages[iteration % len(step.languages)]
    if step.output_language == "same":
        return context.language if step.languages else language
    return step.output_language


def _request(
    context: Context,
    step: Step,
    iteration: int,
    part: str,
    text: str,
    language: str,
    target: str,
    instruction: str,
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
