"""The sentences for people: complete, used, and shown in the language that is asked for."""

from __future__ import annotations

import ast
import json
import re
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import devpipe
from devpipe.record.reader import State
from devpipe.safety.policy import UNSAFE
from devpipe.safety.rules import shipped_rules
from devpipe.show.language import page_language
from devpipe.text.messages import (
    MESSAGES,
    Messages,
    machine_language,
    message,
    primary,
)
from devpipe.values import STAGES
from devpipe.widgets.dashboard import PARTS
from devpipe.widgets.form import FIRST, PICTURES

PACKAGE = Path(devpipe.__file__).parent
WRITTEN = ("prompt", "prompt_2", "instruction")
BUTTONS = ("run", "stop", "again_same", "again_new", "go_on")
JUDGED = ("unchecked", "no_judge", "too_long", "injection", "other")
FAMILIES: dict[str, Iterable[str]] = {  # where the code puts a name into a key: which names
    "form.": (*WRITTEN, *(f"{name}_hint" for name in WRITTEN), *FIRST, *PICTURES),
    "dashboard.": (*BUTTONS, *(part.replace("prompt", "edit") for part in PARTS)),
    "panel.stage.": STAGES,
    "panel.doing.": STAGES,
    "panel.state.": get_args(State),
    "page.stage.": STAGES,
    "page.state.": (*get_args(State), "damaged"),
    "refusal.": {*shipped_rules().lists["en"].categories, *JUDGED},
}


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), f"a key stands there twice: {pairs}"
    return dict(pairs)


ENTRIES: dict[str, dict[str, Any]] = json.loads(MESSAGES.read_text("utf-8"), object_pairs_hook=once)


def gaps(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def asked() -> Iterator[tuple[str, str]]:
    """The key of each call of `message` in the package, up to where a name is put in."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "message":
                for choice in choices(node.args[0]):
                    yield choice, f"{file.name}:{node.lineno}"


def choices(key: ast.expr) -> Iterator[str]:
    if isinstance(key, ast.IfExp):
        yield from choices(key.body)
        yield from choices(key.orelse)
    elif isinstance(key, ast.JoinedStr):
        assert isinstance(key.values[0], ast.Constant)
        yield str(key.values[0].value)
    elif isinstance(key, ast.Constant):
        yield str(key.value)


@pytest.mark.parametrize("key", ENTRIES)
def test_each_sentence_is_there_in_english_and_german(key: str) -> None:
    """No sentence is empty, and each says the same with the same gaps, in the order it likes."""
    sentences = dict(ENTRIES[key])
    example = sentences.pop("example", {})
    assert {"en", "de"} <= set(sentences)
    for language, sentence in sentences.items():
        assert re.fullmatch("[a-z]{2,3}", language) and sentence.strip() == sentence != ""
        assert gaps(sentence) == set(example), language
        said = message(key, language, **example)
        assert all(str(value) in said for value in example.values()) and "{" not in said


def test_each_key_that_the_code_asks_for_is_there_and_each_that_is_there_is_asked_for() -> None:
    """A sentence that nobody says is deleted; one that somebody would miss is written."""
    families = {prefix: {prefix + name for name in names} for prefix, names in FAMILIES.items()}
    used = set[str]()
    for key, place in asked():
        assert key in ENTRIES or key in families, f"{place} asks for {key!r}"
        used |= families.get(key, {key})
    assert used == set(ENTRIES)
    assert set(families) <= {key for key, _ in asked()}


def test_a_third_language_is_shown_where_it_has_a_sentence(tmp_path: Path) -> None:
    """One line in the file, and that sentence is French; the others are said in English."""
    entry = ENTRIES["panel.progress"] | {"fr": "{step} sur {steps}"}
    file = tmp_path / "messages.json"
    idle = {"en": "Ready.", "de": "Bereit."}  # without French, whatever the shipped file says
    changed = ENTRIES | {"panel.progress": entry, "panel.idle": idle}
    file.write_text(json.dumps(changed), encoding="utf-8")
    messages = Messages.read(file)
    assert messages.message("panel.progress", "fr", step=4, steps=20) == "4 sur 20"
    assert messages.message("panel.progress", "fr-CA", step=4, steps=20) == "4 sur 20"
    assert messages.message("panel.progress", "de", step=4, steps=20) == "4 von 20"
    assert messages.message("panel.idle", "fr") == "Ready."


@pytest.mark.parametrize("language", ["", "tr", "C", "example"])
def test_a_language_that_we_do_not_speak_is_answered_in_english(language: str) -> None:
    """Whatever is given as a language, the person reads a sentence."""
    assert message("form.seed_drawn", language, seed=7) == "drawn: 7"


def test_an_unknown_key_or_a_gap_left_open_is_a_fault_of_ours() -> None:
    """Nobody reads half a sentence."""
    with pytest.raises(KeyError, match="nothing"):
        message("panel.nothing", "en")
    with pytest.raises(KeyError, match="seed"):
        message("form.seed_drawn", "en")


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LC_ALL": "de_AT.UTF-8", "LANG": "en_GB.UTF-8"}, "de"),
        ({"LC_ALL": "", "LC_MESSAGES": "fr_FR", "LANG": "en_GB.UTF-8"}, "fr"),
        ({"LANG": "de"}, "de"),
        ({"LC_ALL": "C.UTF-8", "LANG": "de_DE"}, "c"),
    ],
)
def test_a_page_speaks_as_it_is_asked_to_or_as_its_machine_does(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], language: str
) -> None:
    """The order is that of POSIX: LC_ALL, LC_MESSAGES, LANG, the first that is not empty."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert machine_language() == page_language() == language
    assert page_language("en-US") == "en"
    assert primary("deu") == "deu"


def test_each_category_that_a_judge_may_name_has_a_sentence() -> None:
    """A child is told why, in words meant for that."""
    assert {f"refusal.{category}" for category in UNSAFE} <= set(ENTRIES)
