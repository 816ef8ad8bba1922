"""Good instructions pass, and each bad one is told why."""

from __future__ import annotations

from pathlib import Path

import pytest

from devpipe.config.catalogue import Catalogue, load_catalogue
from devpipe.config.lint import lint
from devpipe.config.models import InterceptionPipeline

ROOT = Path(__file__).resolve().parents[1]
GOOD = {
    "en": (
        """You mend clocks in a town where nobody is in a hurry, \
and you believe that each thing has an hour of its own; you listen for it first.
Work like this:
1. Find the hour of each thing in the text and say it by its light.
2. Let two things be late.
3. Take one sound of the text and let it tick.
4. Say what each thing is made of, and which part of it is worn.
Do not draw a moral and do not bring in what the text does not contain.
Name no artist, and never write "in the style of". No comment on the task.
"""
        + "Every wheel turns another wheel. " * 20
        + "\nOutput: one paragraph of 60 to 90 words, nothing before or after it."
    ),
    "de": (
        """Du stellst Uhren in einem Ort, in dem niemand es eilig hat, \
und du glaubst, dass jedes Ding seine eigene Stunde hat; auf die hörst du zuerst.
So gehst du vor:
1. Finde die Stunde jedes Dings im Text und nenne sie durch ihr Licht.
2. Zwei Dinge kommen zu spät.
3. Nimm einen Klang aus dem Text und lass ihn ticken.
4. Sage, woraus jedes Ding ist und welcher Teil davon abgenutzt ist.
Zieh keine Lehre und bring nichts Neues herein. Nenne keine Künstlerin und keinen Künstler, und schreibe nie „im Stil von“. Kein Kommentar.
"""
        + "Jedes Rad dreht ein anderes Rad. " * 20
        + "\nAusgabe: ein Absatz mit 60 bis 90 Wörtern, nichts davor und nichts danach."
    ),
}


def messages(
    en: str = GOOD["en"], de: str = GOOD["de"], *, user_instruction: bool = False
) -> list[tuple[str, str]]:
    words = {"en": "Clocks", "de": "Uhren"}
    step = {"name": "wind", "instruction": {"en": en, "de": de}, "procedure": "keep"}
    raw = {
        "kind": "interception",
        "name": "clocks",
        "version": 1,
        "title": words,
        "description": words,
        "user_instruction": user_instruction,
    }
    pipeline = InterceptionPipeline.restore({**raw, "steps": [step]})
    found = lint(Catalogue({"clocks": pipeline}, {}, {}, ()))
    assert all(fault.file == "pipelines/clocks.json" for fault in found)
    return [(fault.path.removeprefix("$.steps[0].instruction"), fault.message) for fault in found]


def changed(language: str, old: str, new: str) -> dict[str, str]:
    assert old in GOOD[language]
    return {language: GOOD[language].replace(old, new)}


def test_the_shipped_instructions_are_good_ones() -> None:
    """The catalogue keeps the rules it asks of others."""
    catalogue = load_catalogue(ROOT)

    assert lint(catalogue) == []
    assert len(catalogue.interceptions) >= 20


def test_a_good_instruction_passes() -> None:
    """The text that the other cases spoil has no fault itself."""
    assert messages() == []


@pytest.mark.parametrize(
    ("language", "old", "new", "message"),
    [
        ("en", "Every wheel turns another wheel. " * 20, "", "allowed: 150 to 400"),
        (
            "de",
            "Jedes Rad dreht ein anderes Rad. " * 20,
            "Jedes Rad dreht. " * 120,
            "allowed: 150 to 400",
        ),
        ("en", "You mend clocks", "Clocks are mended", "begins with no role"),
        ("de", "Du stellst", "Man stellt", "begins with no role"),
        (
            "en",
            ", and you believe that each thing has an hour of its own; you listen for it first",
            "",
            "role without a viewpoint",
        ),
        (
            "de",
            "1. Finde die Stunde jedes Dings im Text und nenne sie durch ihr Licht.\n2. Zwei",
            "Zwei",
            "fewer than 3 operations",
        ),
        ("en", "Name no artist, and", "And", "naming artists"),
        ("en", "Name no artist, and", "Name an artist. And", "naming artists"),
        ("de", "Nenne keine Künstlerin und keinen Künstler, und", "Und", "naming artists"),
        ("en", ', and never write "in the style of"', "", "in the style of"),
        ("de", ", und schreibe nie „im Stil von“", "", "im Stil von"),
        ("en", " of 60 to 90 words", "", "how long"),
        ("de", " mit 60 bis 90 Wörtern", "", "how long"),
        ("en", "one paragraph of", "about", "the form of the answer"),
        ("de", "ein Absatz mit", "etwa", "the form of the answer"),
        ("en", "two things", "{count} things", "placeholder"),
        ("de", "Zwei Dinge", "<Dinge>", "placeholder"),
        ("en", "Let two", "If there are two, let them, otherwise let two", "condition"),
        ("de", "Zwei", "Wenn es Nacht ist, zwei, sonst drei", "condition"),
        ("en", "Let two things be late.", "Make the text more beautiful.", "something better"),
        ("de", "Zwei Dinge kommen zu spät.", "Verbessere den Text.", "something better"),
        (
            "en",
            "Work like this:",
            "You are an AI that feeds an image generator.",
            "stay in the role",
        ),
        ("de", "So gehst du vor:", "Du bist ein Sprachmodell.", "stay in the role"),
    ],
)
def test_each_weakness_is_named(language: str, old: str, new: str, message: str) -> None:
    """Exactly the spoilt language is told, and exactly that."""
    found = messages(**changed(language, old, new))

    assert [f".{language}"] == [path for path, _ in found], found
    assert message in found[0][1]


def test_comments_must_be_forbidden() -> None:
    """Nothing before or after the answer, or no comment: one of them stands there."""
    shorter = GOOD["en"].replace(", nothing before or after it", "")
    assert messages(en=shorter) == []
    assert messages(en=shorter.replace(" No comment on the task.", "")) == [
        (".en", "does not forbid comments on the task: nothing before or after the answer.")
    ]


def test_better_may_be_forbidden() -> None:
    """An instruction may say "do not improve": that is no wish for something better."""
    assert (
        messages(**changed("en", "Do not draw a moral", "Do not improve it, do not draw a moral"))
        == []
    )


def test_both_languages_are_originals() -> None:
    """One text twice is found, and its language too."""
    assert ("", "is the same in both languages: write two originals.") in messages(de=GOOD["en"])


def test_the_words_of_the_user_are_not_judged() -> None:
    """Where the user writes the instruction, the frame around it has no rules."""
    assert messages(en="x", de="y", user_instruction=True) == []
    assert messages(en="x", de="y") != []
