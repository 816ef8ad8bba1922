"""What went wrong, in the words of the page where it is read, in the person's language.

Errors are English and stand where they are raised, with a hint for cell or shell; recordings keep
them so. problems.json lists those that a person at a page can mend themselves: how they are raised,
with an example, and what the page says, in its languages. Of all others it says what kind of thing
happened; the exact words are folded, for an adult.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from devpipe.errors import (
    CutOff,
    DevpipeError,
    NotAllowed,
    Parked,
    RateLimited,
    RecorderError,
    RecorderFull,
    Rejected,
    Unavailable,
    UsageError,
)
from devpipe.show.wording import in_words
from devpipe.text.messages import Messages, message

PROBLEMS = Path(__file__).with_name("problems.json")
CONTROLS = ("prompt_2", "prompt", "instruction", "image", "mask", "control", "text_seed", "seed")
SEVERAL = re.compile(r"\d+ things are wrong:\n")
KINDS = {  # the most special first: what a page says of an error that nobody there can mend
    "parked": Parked,
    "usage": UsageError,
    "not_allowed": NotAllowed,
    "full": RecorderFull,
    "recorder": RecorderError,
    "unavailable": Unavailable,
    "rate_limited": RateLimited,
    "rejected": Rejected,
    "cut_off": CutOff,
}


@dataclass(frozen=True, slots=True)
class PageProblem:
    """An error as a page says it: its sentences, and the exact words for an adult."""

    sentences: tuple[str, ...]
    details: str = ""


@dataclass(frozen=True, slots=True)
class _Problems:
    """Errors by how they are raised, what a page says of each, and of each kind of error."""

    raised: Mapping[str, re.Pattern[str]]
    known: Messages
    kinds: Messages

    def say(self, error: str, language: str) -> str:
        """The page's sentence; empty where the error is none that a person there can mend."""
        for name, raised in self.raised.items():
            found = raised.match(error)
            if found is not None:
                gaps = found.groupdict().items()
                values = {gap: _named(value, language) for gap, value in gaps}
                return self.known.message(name, language, **values)
        return ""


def fault(language: str) -> str:
    """What a page says of an error that is none of ours."""
    return _problems().kinds.message("fault", language)


def page_problem(error: DevpipeError, language: str, *, kind: str = "") -> PageProblem:
    """An error in the page's words; `kind` is the class's name where only a recording knows it."""
    whole = str(error)
    problems = _problems()
    known = [problems.say(one, language) for one in _several(whole)]
    if all(known):
        return PageProblem(tuple(dict.fromkeys(known)))
    sentences = [sentence for sentence in known if sentence]
    name = kind or type(error).__name__
    general = problems.kinds.message(_kind(name), language)
    return PageProblem((*sentences, general), in_words("page", whole, language))


def _several(error: str) -> Iterator[str]:
    """The faults that one error names together, each by itself."""
    several = SEVERAL.match(error)
    if several is None:
        yield error
        return
    for line in error[several.end() :].splitlines():
        if line.startswith("  "):
            yield line.strip()


def _kind(name: str) -> str:
    for kind, error in KINDS.items():
        if name in _names(error):
            return kind
    return "other" if name in _names(DevpipeError) else "fault"


def _names(error: type[DevpipeError]) -> set[str]:
    """The names of an error and of all that are of its kind."""
    return {error.__name__}.union(*(_names(one) for one in error.__subclasses__()))


def _named(value: str, language: str) -> str:
    """What a control is called on the page, where the value names one."""
    control = value.removeprefix("text ")  # `text prompt`: the person's own wording of it
    return message(f"form.{control}", language) if control in CONTROLS else value


@lru_cache(maxsize=1)
def _problems() -> _Problems:
    entries = json.loads(PROBLEMS.read_text("utf-8"))
    raised = {name: _pattern(entry["raised"]) for name, entry in entries["known"].items()}
    return _Problems(raised, Messages(entries["known"]), Messages(entries["kinds"]))


def _pattern(raised: str) -> re.Pattern[str]:
    """The message of an error as a pattern: `{what}` is a control of the page, any other gap
    stands for anything.
    """
    parts = re.split(r"\{(\w+)\}", raised)
    spelled = [re.escape(part) for part in parts]
    for at in range(1, len(parts), 2):
        gap = parts[at]
        values = f"(?:text )?(?:{'|'.join(CONTROLS)})" if gap == "what" else ".+?"
        spelled[at] = f"(?P<{gap}>{values})"
    return re.compile("".join(spelled) + r"(?=\W|$)", re.DOTALL)
