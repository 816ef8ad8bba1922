"""Whether the instructions of the interceptions are good ones: what `devpipe check` says beyond "the file is valid".

An instruction says how, the input says what: a role with a viewpoint, operations, prohibitions, the form of the answer; in English and in
German, both originals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from devpipe.config import Catalogue, InterceptionPipeline, Step
from devpipe.errors import Fault

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = ("en", "de")
WORDS = range(150, 401)
ROLE_WORDS = 25  # a role that has a viewpoint takes more than its name
OPERATIONS = 3
NEGATION: Mapping[Language, str] = {
    "en": r"\b(no|not|never|nothing|none|without|avoid|forbidden|prohibited|taboo)\b|n't\b",
    "de": r"\b(nicht|nie|niemals|nichts|kein\w*|ohne|vermeide\w*|verboten|untersagt|tabu|unterlass\w*)\b",
}
NEEDED: Mapping[str, Mapping[Language, str]] = {  # message -> what must stand there
    'begins with no role: "You ..." / "Du ...", and how that person sees things': {"en": r"\AYou \w+", "de": r"\ADu \w+"},
    "does not say how long the answer is: words, sentences, lines or keys in the last paragraph": {
        "en": r"\b(words?|sentences?|lines?|keys)\b.*\Z",
        "de": r"\b(Wort|Wörtern?|Satz|Sätzen?|Zeilen?|Schlüsseln?)\b.*\Z",
    },
    "does not say the form of the answer: a paragraph, lines, a list, ... in the last paragraph": {
        "en": r"\b(paragraphs?|lines?|list|object|poem|dialogue|translation)\b.*\Z",
        "de": r"\b(Ab(satz|sätze\w*)|Zeilen?|Liste|\w*-?Objekt|Gedicht|Dialog|Fassung)\b.*\Z",
    },
    "does not forbid comments on the task: nothing before or after the answer": {
        "en": r"\bnothing (before|after)\b|\bcomment",
        "de": r"\bdavor\b|kommentier|\bKommentar|\bBemerkung",
    },
}
FORBIDS: Mapping[str, Mapping[Language, str]] = {  # message -> what a sentence with a negation must name
    "does not forbid naming artists": {"en": r"\bartists?\b", "de": r"künstler"},
    'does not forbid "in the style of" / "im Stil von"': {"en": r"in the style of", "de": r"im stil von"},
}
AVOIDED: Mapping[str, Mapping[Language, str]] = {  # message -> what must not stand there
    "has a placeholder: the text comes by itself": dict.fromkeys(LANGUAGES, r"[{}]|<\w[^>]*>|\[\[|%\(|%[sd]\b|\$\w+"),
    "has a condition: that is code": {
        "en": r"(?i)\bif\b[^.]*\b(else|otherwise)\b|\bdepending on\b",
        "de": r"(?i)\b(wenn|falls)\b[^.]*\b(sonst|andernfalls)\b|\bje nachdem\b",
    },
    "speaks of machines that write or draw: stay in the role": {
        "en": r"\b(language model|AI|chatbot|helpful assistant|(image|picture) generator|prompt engineer\w*|diffusion model)\b",
        "de": r"\b(Sprachmodell\w*|KI|künstliche Intelligenz|Chatbot|hilfreicher Assistent|Bildgenerator\w*|Diffusionsmodell\w*)\b",
    },
}
BETTER: Mapping[Language, str] = {
    "en": r"\b(improve|enhance|optimi[sz]e|beautify)\b|\bmake \w+( \w+)? (better|nicer|prettier|more (beautiful|interesting|creative))\b",
    "de": r"\b(verbesser|optimier|verschöner)\w*|\bmach\w* \w+( \w+)? (besser|schöner|kreativer|interessanter)\b",
}


def lint(catalogue: Catalogue) -> list[Fault]:
    """What could be better about each instruction; passthrough has none, and where the user writes it theirs is not judged."""
    pipelines = (pipeline for pipeline in catalogue.interceptions.values() if not pipeline.user_instruction)
    return [fault for pipeline in pipelines for fault in _pipeline(pipeline)]


def _pipeline(pipeline: InterceptionPipeline) -> Iterator[Fault]:
    for index, step in enumerate(pipeline.steps):
        for place, message in _step(step):
            yield Fault(f"pipelines/{pipeline.name}.json", f"$.steps[{index}].instruction{place}", f"{message}.")


def _step(step: Step) -> Iterator[tuple[str, str]]:
    if step.instruction.en.split() == step.instruction.de.split():
        yield "", "is the same in both languages: write two originals"
    for language in LANGUAGES:
        yield from ((f".{language}", message) for message in _text(step.instruction.in_(language), language))


def _text(text: str, language: Language) -> Iterator[str]:
    negated, plain = _sentences(text, language)
    if (words := len(text.split())) not in WORDS:
        yield f"has {words} words; allowed: {WORDS.start} to {WORDS.stop - 1}"
    if len(text.partition("\n")[0].split()) < ROLE_WORDS:
        yield f"has a role without a viewpoint: its first paragraph has fewer than {ROLE_WORDS} words"
    if len(re.findall(r"^\s*(\d+[.)]|[-*•])\s", text, re.MULTILINE)) < OPERATIONS:
        yield f"names fewer than {OPERATIONS} operations: one numbered line each"
    yield from (message for message, pattern in NEEDED.items() if not re.search(pattern[language], text))
    yield from (message for message, pattern in FORBIDS.items() if not re.search(pattern[language], negated, re.IGNORECASE))
    yield from (message for message, pattern in AVOIDED.items() if re.search(pattern[language], text))
    if re.search(BETTER[language], plain, re.IGNORECASE):
        yield "asks for something better: say which operation makes it different"


def _sentences(text: str, language: Language) -> tuple[str, str]:
    """The sentences that forbid something, and the others."""
    sides: tuple[list[str], list[str]] = ([], [])
    for sentence in re.split(r"(?<=[.!?])\s|\n", text):
        sides[0 if re.search(NEGATION[language], sentence, re.IGNORECASE) else 1].append(sentence)
    return "\n".join(sides[0]), "\n".join(sides[1])
