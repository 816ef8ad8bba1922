"""What a page says of what went wrong: in its own words, in the person's language, of every error."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devpipe import Engine, errors
from devpipe.cli import new_workspace
from devpipe.errors import DevpipeError, UsageError
from devpipe.media.pictures import decode, encode_png
from devpipe.offline.sketch import compose
from devpipe.show.problems import PROBLEMS, page_problem
from devpipe.testing import settings_for_tests
from devpipe.text.clean import clean
from devpipe.values import seed_in_range

ENTRIES: dict[str, dict[str, dict[str, str]]] = json.loads(PROBLEMS.read_text("utf-8"))
KNOWN = ENTRIES["known"]
SHELL = ("--", "`", "=...", "in the shell", "await ", "devpipe ")  # nothing of it is on a page
STILL = encode_png(compose("ein Kreis", seed=1, width=64, height=64))


def all_errors(of: type[DevpipeError] = DevpipeError) -> list[type[DevpipeError]]:
    found = [of]
    for one in of.__subclasses__():
        found += all_errors(one) if one.__module__ == errors.__name__ else []
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_each_error_is_said_in_english_and_german_in_the_words_of_the_page(name: str) -> None:
    """Its example becomes its own sentence, whole, and nothing is left for an adult."""
    entry = KNOWN[name]
    for language in ("en", "de"):
        problem = page_problem(UsageError(entry["example"]), language)
        (sentence,) = problem.sentences
        assert problem.details == "" and "{" not in sentence
        assert not any(words in sentence for words in SHELL), sentence
        pieces = [text for text, *_ in string.Formatter().parse(entry[language]) if text]
        assert all(piece in sentence for piece in pieces), f"{sentence!r} is not of {name}"


def raised(act: Callable[[], Any]) -> DevpipeError:
    with pytest.raises(DevpipeError) as caught:
        act()
    return caught.value


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(settings=settings_for_tests(new_workspace.create(tmp_path / "workspace")))


def acts(engine: Engine) -> dict[str, Callable[[], Any]]:
    """Calls that go wrong as a person at a page can make them, by the sentence they get."""

    def ask(prompt: Any = "ein Kreis", **how: Any) -> Any:
        return engine.request(prompt, **{"pipeline": "dada", "output": "sketch", **how})

    image = {"output": "sketch_inpaint", "mask": STILL}
    return {
        "empty_prompt": lambda: ask(" "),
        "empty": lambda: clean("", what="text prompt"),
        "too_long": lambda: ask("x" * 50_000),
        "not_text": lambda: ask("\ud800"),
        "no_integer": lambda: seed_in_range("1.5"),
        "out_of_range": lambda: ask(text_seed=0),
        "no_instruction": lambda: ask(pipeline="user_defined"),
        "no_image": lambda: ask(**image),
        "no_mask": lambda: ask(output="sketch_inpaint", image=STILL),
        "no_control": lambda: ask(output="sketch_control"),
        "no_such_picture": lambda: ask(**image, image=b"%PDF-1.7"),
        "picture_damaged": lambda: decode(STILL[:200], what="image"),
        "setting": lambda: ask(parameters={"width": 5}),
        "output_gone": lambda: ask(output="poster"),
        "pipeline_gone": lambda: ask(pipeline="nope"),
        "run_gone": lambda: engine.recordings.find("20261122-141503-k3v9x2ma"),
    }


def test_the_sentences_meet_the_errors_as_they_are_raised_today(engine: Engine) -> None:
    """Who rewords an error in the code hears of it here, not a child at a page."""
    for name, act in acts(engine).items():
        error = raised(act)
        problem = page_problem(error, "de")
        begin = KNOWN[name]["de"].partition("{")[0]
        assert problem.sentences[0].startswith(begin), f"{name}: {error}"
        assert problem.details == "", f"{name}: {error}"


def test_several_faults_are_said_each_for_itself(engine: Engine) -> None:
    """Two things wrong at once are two sentences; one that nobody there can mend is folded."""
    both = raised(
        lambda: engine.request("", pipeline="dada", output="sketch", text_seed="x", seed=0)
    )
    sentences = page_problem(both, "de").sentences
    assert len(sentences) == 3 and page_problem(both, "de").details == ""
    one = raised(lambda: engine.request("", pipeline="dada", output="sketch", safety="everything"))
    told = page_problem(one, "de")
    assert len(told.sentences) == 2 and "everything" in told.details
    assert "everything" not in " ".join(told.sentences)


@pytest.mark.parametrize("error", all_errors())
@pytest.mark.parametrize("language", ["en", "de"])
def test_of_every_error_a_page_says_what_kind_of_thing_happened(
    error: type[DevpipeError], language: str
) -> None:
    """Each class has its sentence, also by its name alone, as a recording keeps it; the exact words
    stay for an adult.
    """
    made = error.__new__(error)
    DevpipeError.__init__(made, "COMFYUI_URL is wrong.", hint="Run `devpipe check`.")
    live = page_problem(made, language)
    kept = page_problem(
        DevpipeError("COMFYUI_URL is wrong.", hint="Run `devpipe check`."),
        language,
        kind=error.__name__,
    )
    assert live == kept and live.details == "COMFYUI_URL is wrong. Run `devpipe check`."
    assert live.sentences[0] in {kind[language] for kind in ENTRIES["kinds"].values()}
    assert not any(words in live.sentences[0] for words in SHELL[:4])


def test_kinds_are_told_apart() -> None:
    """Who cannot be reached is another thing than who refuses, or than a fault of ours."""
    names = (
        "UnknownName",
        "Unavailable",
        "RateLimited",
        "Rejected",
        "CutOff",
        "RecorderFull",
        "KeyError",
    )
    told = [page_problem(DevpipeError("x"), "de", kind=name).sentences for name in names]
    assert len(set(told)) == len(names)
    assert "devpipe" in told[-1][0]


def test_a_sentence_about_something_else_is_not_taken_for_a_control() -> None:
    """Only what the page has is named: another thing that is empty gets the general sentence."""
    problem = page_problem(UsageError("The judge's answer is empty."), "de")
    assert problem.details and "judge" not in problem.sentences[0]
