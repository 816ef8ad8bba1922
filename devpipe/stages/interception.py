"""Stage 2: the pipeline's steps rewrite the text; each step and iteration is a recorded text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from devpipe.config.models import Step
from devpipe.errors import Rejected
from devpipe.record.events import TextWritten, Warned
from devpipe.stages.journal import Where, add_partial
from devpipe.stages.request import RunRequest, Words
from devpipe.stages.services import BY_PROCEDURE, Services
from devpipe.stages.texts import Text, Texts, add_final
from devpipe.text.chatter import missing_words, read_parts
from devpipe.text.messages import message
from devpipe.values import SAME, TextRequest, TextResult, derived_seed

MIXED = 0.5  # below what is acted on: such a text may be translated


async def run(request: RunRequest, services: Services, texts: Texts) -> Texts:
    """The rewritten texts. A pipeline without steps passes them on as they are."""
    texts = replace(texts, spoken=texts.person_language)  # their own language changes on the way
    written: list[TextWritten] = []
    for step in request.pipeline.steps:
        # by what the step began with: whispers that may each be longer than the last have no end
        limits = {part: step.length.of(text) for part, text in _asked(step, texts).items()}
        for iteration in range(step.iterations):
            services.journal.add(*written)
            where = Where("interception", step.name, iteration)
            written = await _rewritten(request, services, step, where, texts, limits)
            texts = Texts.of(written, texts.spoken)
    if not request.pipeline.steps:
        written = [texts.written(part, "interception") for part in texts.parts]
    services.journal.add(*unused_instruction(request, written))
    await add_final(services.journal, written)
    return texts


def unused_instruction(request: RunRequest, written: Iterable[TextWritten]) -> list[Warned]:
    """A note where the person's instruction reached nobody: a procedure reads none."""
    languages = [one.language for one in written if request.instruction and one.by == "procedure"]
    notes = [message("interception.instruction_unused", language) for language in languages[:1]]
    return [Warned(stage="interception", message=note) for note in notes]


async def _rewritten(
    request: RunRequest,
    services: Services,
    step: Step,
    where: Where,
    texts: Texts,
    limits: Mapping[str, int],
) -> list[TextWritten]:
    """The texts after one iteration of a step, to be recorded when all of them are there."""
    written = []
    for part, text in _asked(step, texts).items():
        where = where._replace(part=part)
        most = limits.get(part) or step.length.of(text)
        text_request = _text_request(request, step, where, text, texts, most)
        result = await _answer(services, text_request, where)
        parts = result.parts if step.parts else {part: result.text}
        language = result.language or text_request.answer_language
        sure = _sureness(language, result, text_request, texts.parts[part])
        for name, rewritten in parts.items():
            written.append(
                TextWritten(
                    **where._replace(part=name)._asdict(),
                    text=rewritten,
                    language=language,
                    language_sure=sure,
                    by="procedure" if result.backend == BY_PROCEDURE else "model",
                    raw=result.raw,
                )
            )
    return written


def _sureness(language: str, result: TextResult, request: TextRequest, before: Text) -> float:
    """How sure the language of an answer is.

    A model was told it; a procedure says in which it wrote. Where that is neither what was asked
    nor the text's own, its phrases stand among words of another language.
    """
    is_own = result.language or request.output_language == SAME
    if language == before.language and is_own:
        return before.sure
    return 1.0 if language == request.output_language else MIXED


async def _answer(services: Services, request: TextRequest, where: Where) -> TextResult:
    """The answer; of a step in parts, with those that are not empty.

    A model's parts must hold every word of the text; it is told once what is wrong, then Rejected
    is raised.
    """
    result = await services.text.write(request, where)
    if not request.parts:
        return result
    try:
        parts = _parts(request, result)
    except Rejected as wrong:
        add_partial(services.journal, where, result.text)
        again = replace(
            request,
            instruction=f"{request.instruction}\n\nYour first answer was wrong. {wrong}",
            seed=derived_seed(request.seed, "again"),
        )
        result = await services.text.write(again, where)
        parts = _parts(request, result)
    raw = "" if result.parts else result.raw or result.text
    filled = {name: text for name, text in parts.items() if text.strip()}
    return replace(result, parts=filled, raw=raw)


def _parts(request: TextRequest, result: TextResult) -> Words:
    """The parts of an answer. Raises Rejected for one that cannot be read, or that lost words."""
    parts = result.parts or read_parts(result.text, request.parts)
    if result.backend != BY_PROCEDURE and request.answer_language == request.language:
        missing = missing_words(request.text, parts)
        if missing:
            raise Rejected(
                f"These words are missing: {', '.join(missing)[:500]}.",
                hint="Every word of the text belongs into one of the parts.",
            )
    return parts


def _asked(step: Step, texts: Texts) -> Words:
    """A step that answers in parts takes all texts as one; any other takes each for itself."""
    if not step.parts:
        return texts.by_part
    first = next(iter(texts.parts))
    return {first: "\n".join(texts.by_part.values())}


def _text_request(
    request: RunRequest, step: Step, where: Where, text: str, texts: Texts, max_tokens: int
) -> TextRequest:
    guessed = texts.parts[where.part]
    own = step.instruction.in_(guessed.language) if step.instruction else ""
    return TextRequest(
        "split" if step.parts else "interception",
        text,
        instruction=f"{own}\n\n{request.instruction}".strip(),
        language=guessed.language,
        output_language=_target_language(
            step, where.iteration, guessed.known_language or SAME, texts.person_language
        ),
        seed=derived_seed(request.text_seed, step.name, where.iteration, where.part),
        procedure=step.procedure,
        temperature=step.temperature,
        parts=step.parts,
        max_tokens=max_tokens,
        shorten=step.length.cut == "sentence",
    )


def _target_language(step: Step, iteration: int, language: str, person_language: str) -> str:
    """The language in which an iteration answers.

    A step that passes through languages has one for each iteration but its last, which answers in
    the output's language; "same" then means the person's. Nobody orders an answer in a language
    that is a weak guess.
    """
    if step.languages and iteration < step.iterations - 1:
        return step.languages[iteration % len(step.languages)]
    if step.output_language != "same":
        return step.output_language
    return person_language if step.languages else language
