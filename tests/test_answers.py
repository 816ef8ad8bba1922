"""A model's answer: what of it is the text, which parts it names, and which words it lost."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import pytest

from devpipe.errors import Rejected
from devpipe.text import chatter
from devpipe.text.chatter import (
    Patterns,
    bracketed,
    is_whole,
    marks_in,
    missing_words,
    read_parts,
    with_brackets,
    without_chatter,
)

TEXT = "A red cat sits in the rain, its fur like wet paper."
TEXT_DE = "Eine rote Katze sitzt im Regen, ihr Fell wie nasses Papier."
POEM = "The rain came down,\n\nthe cat looked up:\nnothing was dry."

TALK = [
    "Here is your prompt: {}",
    "Here is your prompt:\n\n{}",
    "Here's the rewritten prompt:\n{}",
    "Here’s a revised version of the text:\n\n{}",
    "Here is the translated text in English:\n\n{}",
    "Here is the translation you asked for: {}",
    "Below is the final image prompt:\n{}",
    "This is the transformed text:\n{}",
    "**Here is your prompt:**\n\n{}",
    "Sure! Here is your prompt:\n\n{}",
    "Sure, here's the rewritten text:\n\n{}",
    "Sure thing! Here is the new description: {}",
    "Certainly! Here is the text, translated:\n\n{}",
    "Of course! Below is the English translation:\n{}",
    "Absolutely! Here’s your new, improved prompt:\n\n{}",
    "Okay, here is my interpretation:\n\n{}",
    "Sure!\n\n{}",
    "Certainly.\n\n{}",
    "Sure! I'd be happy to help with that.\n\n{}",
    "I have rewritten the text for you:\n{}",
    "I’ll translate this for you.\n\n{}",
    "Let me rewrite that for you:\n{}",
    "Gerne, hier ist dein Prompt: {}",
    "Gerne! Hier ist die Übersetzung:\n\n{}",
    "Natürlich! Hier ist der umgeschriebene Text:\n{}",
    "Klar, hier ist deine neue Fassung:\n\n{}",
    "Hier ist der übersetzte Text auf Englisch:\n\n{}",
    "Hier kommt die neue Beschreibung:\n{}",
    "Selbstverständlich.\n\n{}",
    "Gern!\n\n{}",
    "Ich habe den Text für dich umgeschrieben:\n{}",
    "Prompt: {}",
    "**Prompt:** {}",
    "### Prompt\n{}",
    "## Rewritten text:\n\n{}",
    "Image prompt: {}",
    "Translation: {}",
    "Übersetzung: {}",
    "**Übersetzung:**\n{}",
    "Bildprompt:\n{}",
    "Here is the text translated into German:\n\n{}",
    "Hier ist die Übersetzung in englischer Sprache:\n{}",
    "English translation: {}",
    "**Deutsche Übersetzung:** {}",
    "**Image Generation Prompt:**\n\n{}",
    "Revised prompt: {}",
    "Output: {}",
    "Antwort: {}",
    "Assistant: {}",
    "**Result:**\n{}",
    "# Ergebnis\n\n{}",
    '"{}"',
    "“{}”",
    "„{}“",
    "»{}«",
    "'{}'",
    "`{}`",
    "**{}**",
    "```\n{}\n```",
    "```text\n{}\n```",
    "Here is your prompt:\n```\n{}\n```",
    'Sure! Here is your prompt:\n\n"{}"',
    "---\n{}\n---",
    "{}\n\nLet me know if you'd like any changes!",
    "{} Let me know if you want another version.",
    "{}\n\nFeel free to adjust it to your liking.",
    "{}\n\nWould you like me to try another style?",
    "{}\n\nI hope this helps!",
    "{}\n\nHope this captures what you had in mind.",
    "{}\n\nNote: I kept the words in brackets as they were.",
    "{}\n\n(Note: the translation keeps the original tone.)",
    "{}\n\n*Note:* This prompt follows all of your instructions.\nIt names no artist.",
    "{}\n\nHinweis: Ich habe den Text nur leicht umgeschrieben.",
    "{}\n\n**Anmerkung:** Die Wörter in Klammern wurden beibehalten.",
    "{}\n\nErklärung: Die Übersetzung folgt dem Original.",
    "{}\n\nSag mir gerne Bescheid, wenn du etwas ändern willst!",
    "{}\n\nLass mich wissen, ob es passt.",
    "{}\n\nMöchtest du, dass ich noch etwas anpasse?",
    "{}\n\nIch hoffe, das gefällt dir!",
    "Here is your rewritten prompt in the style of Dada:\n\n{}",
    "Certainly! Here's a Dada-inspired version of your prompt:\n\n{}",
    "Here is the text rewritten as a Dada poem:\n\n{}",
    "Gerne! Hier ist dein Prompt im Stil des Bauhaus:\n\n{}",
    "Here's a Bauhaus interpretation:\n\n{}",
    "The translated text is:\n\n{}",
    "Translation (English): {}",
    "{}\n\nWould you like another version?",
    "{}\n\n(Word count: 23)",
    "{}<|eot_id|>",
    "{}</s>",
    "[/INST] {}",
    "{} [/INST]",
    "<|start_header_id|>{}<|eot_id|><|eot_id|>",
    "<think>The user wants a prompt. Here is one: a dog.</think>\n\n{}",
    "<think>\n\n</think>\n{}",
    "The user wants a cat. I write it.\n</think>\n\n{}",
    (
        'Sure! Here is your prompt:\n\n---\n\n**Prompt:** "{}"\n\n---\n\nNote: I kept its original'
        " meaning.\n\nLet me know if you need more!"
    ),
]


@pytest.mark.parametrize("talk", TALK, ids=range(len(TALK)))
@pytest.mark.parametrize("text", [TEXT, TEXT_DE, POEM], ids=["en", "de", "poem"])
def test_talk_around_the_text_goes(talk: str, text: str) -> None:
    """Greetings, labels, fences, quotes around everything, explanations and offers are not the
    text.
    """
    assert without_chatter(talk.format(text)) == text


TABLES: dict[str, dict[str, str]] = tomllib.loads(
    Path(chatter.__file__).with_name("chatter.toml").read_text("utf-8")
)
LITERAL = ("thoughts", "monologues", "told", "endings")  # tables without patterns
MARKS = ("mark", "token", "speaker", "stray")  # what is seen, and refused
HANGING = ("hanging", "open")  # what no whole text ends with
LINES = [(table, line) for table, lines in TABLES.items() if table not in LITERAL for line in lines]


def without_line(table: str, line: str) -> Patterns:
    """The patterns but one line."""
    lines = {other: example for other, example in TABLES[table].items() if other != line}
    return Patterns.of(TABLES | {table: lines})


@pytest.mark.parametrize(
    ("table", "line"), [one for one in LINES if one[0] not in ("small", *MARKS, *HANGING)]
)
def test_each_line_of_talk_takes_its_example_away_and_is_needed_for_it(
    table: str, line: str
) -> None:
    """chatter.toml: no line without an example, none that another one makes superfluous."""
    answer = TABLES[table][line].format(TEXT)
    assert without_chatter(answer) == TEXT
    assert without_chatter(answer, without_line(table, line)) != TEXT


@pytest.mark.parametrize(("table", "line"), [one for one in LINES if one[0] in MARKS])
def test_each_mark_is_seen_in_the_middle_of_a_text_by_its_line_alone(table: str, line: str) -> None:
    """chatter.toml: what no prompt holds, each with an example that no other line sees."""
    text = f"Eine Katze {TABLES[table][line]} im Regen."
    assert marks_in(text)
    if line not in ("<mark>", "<token>"):  # these name whole tables, which also stand elsewhere
        assert not without_line(table, line).marks.search(text)


@pytest.mark.parametrize(("table", "line"), [one for one in LINES if one[0] in HANGING])
def test_each_hanging_word_is_seen_by_its_line_alone(table: str, line: str) -> None:
    """chatter.toml: what no whole text ends with; a word that only ends alike is whole."""
    text = TABLES[table][line]
    assert not is_whole(text) and is_whole(f"{text} Regen")
    if line != r"(?<!\w)<open>":
        assert not without_line(table, line).hanging.search(text)


@pytest.mark.parametrize("line", TABLES["small"])
def test_each_small_word_may_be_left_out_by_its_line_alone(line: str) -> None:
    """chatter.toml: articles and conjunctions, each with an example."""
    text = TABLES["small"][line]
    assert missing_words(text, {}) == []
    assert missing_words(text, {}, without_line("small", line)) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "Here is where the river bends: two boats, one of them red.",
        "Here is where the river bends:\n\ntwo boats, one of them red.",
        "Here is the sea:\n\nthe text of the waves.",
        "The text is:\n\nshort.",
        "<s>A dog</s> a cat, and a <s>mouse</s>",
        "Would you like another apple?",
        "Here is the house of my grandmother: small, blue, with a crooked roof.",
        "Here is the text of the old song: la la la.",
        "Here are three birds: one sings, two listen.",
        "Here the road ends.",
        "Below is the valley: fog, a bell, nothing else.",
        "This is my grandmother: she laughs.",
        "Hier ist die Stelle, wo der Fluss biegt: zwei Boote.",
        "Hier ist es still: kein Wind, kein Vogel.",
        "Hier kommt der Regen: erst leise, dann laut.",
        "Das ist mein Haus: klein und schief.",
        "Das ist die Antwort des Waldes: Schweigen.",
        "Sure as the sun, the cat returns.",
        "Sure! she cried, and jumped into the puddle.",
        "Sure!\nsaid the cat,\nand left.",
        "Of course the moon is square.",
        "Okay, the sun rises.\nThe street is still asleep.",
        "Klar wie Wasser steht der Himmel über der Stadt.",
        "Gerne säße die Katze im Regen.",
        "Natürlich ist der Mond viereckig.",
        "I will rise and go now, and go to the lake.",
        "I have three cats:\none is red.",
        "Ich habe drei Katzen:\neine ist rot.",
        "Let me help, said the mouse. The elephant laughed.",
        "Prompt, the train left at noon.",
        "Answer: the owl.\nQuestion: who?\nAnswer: you.",
        "Antwort: die Eule.\nFrage: wer?",
        "Text: a grey page.",
        "Result: a burnt cake and a happy child.",
        "Ergebnis: ein verbrannter Kuchen.",
        '"Come in," said the spider, "it is dry here."',
        "„Komm rein“, sagte die Spinne, „hier ist es trocken.“",
        "'Tis the season, and the cats' paws are wet in the snow o' the lane'",
        "**Red** cat, **blue** rain",
        "```\none\n```\nand\n```\ntwo\n```",
        "Front view, side view, plan.\n\nNote: all dimensions in millimetres.",
        "Vorderansicht, Draufsicht.\n\nHinweis: alle Maße in Millimetern.",
        "A letter ends here.\n\nLet me know if the moon comes down.",
        "The sign says: feel free to dream.",
        "She wrote: I hope this winter ends.",
        "Would you like me to be a tree?",
        "Ich hoffe, der Regen hört auf.",
        "Möchtest du ein Baum sein?",
        "A cat thinks: <i>rain</i>.",
        "Line one\n---\nline two",
        "1. a cat\n2. a dog",
        "Title: The cat\n\nIt rains.",
        "A note: the bell rang twice.",
        "Note: the letter on the table reads 'come home'.",
        "eine Katze [Feierabend] im Regen",
        "The prompt arrived too late: the stage was empty.",
        "My answer: no.",
    ],
)
def test_a_text_of_its_own_stays(text: str) -> None:
    """What only begins or ends like talk is content, and not a letter of it goes."""
    assert without_chatter(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Sure!",
        "Here is your prompt:",
        "Prompt:",
        '""',
        "```\n```",
        "---",
        "<think>a</think>",
        "Let me know if you want more.",
        "**",
    ],
)
def test_something_is_always_left(text: str) -> None:
    """Where all of it looks like talk, all of it stays: an empty text would be worse."""
    assert without_chatter(text) == text.strip() != ""


@pytest.mark.parametrize(
    "piece",
    [
        "\n",
        "Note: ",
        "{",
        "```\n",
        "Sure! ",
        '"',
        "<think>",
        "Let me know if ",
        " ",
        "[a]",
        '{"a":',
        "-",
    ],
)
def test_hostile_answers_are_read_at_once(piece: str) -> None:
    """A hundred thousand characters of anything take less than half a second; no pattern backtracks
    without end.
    """
    answer = "x" + piece * (100_000 // len(piece)) + "y"
    began = time.process_time()
    without_chatter(answer)
    with pytest.raises(Rejected):
        read_parts(answer, ["prompt"])
    # takes 0.04 s at most; a backtracking one takes minutes
    assert time.process_time() - began < 0.5


NAMES = ("prompt", "prompt_2")
GOOD = {"prompt": "a red cat", "prompt_2": "in the rain"}


@pytest.mark.parametrize(
    "answer",
    [
        "{}", "```json\n{}\n```", "```\n{}\n```", "Here is the JSON object:\n{}", "{}\n\nLet me know if you want changes!",
        "Sure {{as asked}}: {}", "<think>maybe {{\"prompt\": \"no\"}}</think>{}", "  {}  \n", "Gerne, hier ist das Ergebnis: {} Viel Spaß!",
    ],
)  # fmt: skip
def test_parts_are_read_whatever_stands_around_them(answer: str) -> None:
    """One JSON object with exactly the names asked for, in the order asked for."""
    swapped = {name: GOOD[name] for name in reversed(NAMES)}
    read = read_parts(answer.format(json.dumps(swapped)), NAMES)
    assert read == GOOD and list(read) == list(NAMES)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("a red cat in the rain", "no JSON object"),
        ("", "no JSON object"),
        ('["a", "b"]', "no JSON object"),
        ('{"prompt": "a", "prompt_2": "b"', "no JSON object"),
        ('{"prompt": "a"}', "'prompt'"),
        ('{"prompt": "a", "prompt_2": "b", "note": "c"}', "'note'"),
        ('{"prompt": "a", "prompt": "b", "prompt_2": "c"}', "'prompt', 'prompt', 'prompt_2'"),
        ('{"prompt": "a", "prompt_2": null}', "'prompt_2' is no text"),
        ('{"prompt": "a", "prompt_2": ["b"]}', "'prompt_2' is no text"),
        ('{"prompt": "a", "prompt_2": {"prompt": "b"}}', "'prompt_2' is no text"),
        ('{"prompt": 1, "prompt_2": "b"}', "'prompt' is no text"),
        ('{"prompt": "a", "prompt_2": "b"} or {"prompt": "b", "prompt_2": "a"}', "2 JSON objects"),
        ("{}", "none"),
        ("{'prompt': 'a', 'prompt_2': 'b'}", "no JSON object"),
    ],
)
def test_what_is_no_answer_in_parts_is_rejected(answer: str, said: str) -> None:
    """Nothing is guessed: the error says what came, and its hint what was asked for."""
    with pytest.raises(Rejected, match="model") as caught:
        read_parts(answer, NAMES)
    assert said in caught.value.message and "prompt, prompt_2" in caught.value.hint


def test_control_characters_do_not_come_in_through_json() -> None:
    """An escape sequence in a part becomes a space, as in every text."""
    assert read_parts('{"prompt": "a\\u001b[31m cat\\ud800", "prompt_2": " b\\r\\n"}', NAMES) == {
        "prompt": "a [31m cat",
        "prompt_2": "b",
    }


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        (
            "Der alte Kater schläft und die roten Vögel fliegen.",
            "ein alter Kater",
            "rote Vögel fliegen, er schläft",
        ),
        ("a red cat in the rain", "a red cat", "the rain"),
        ("two cats, or one dog", "two cat", "one dog"),
        ("The CAT's hat", "cat's", "Hat"),
        ("STRASSE und Straße", "straße", ""),
        ("the boy’s [Feierabend] kite", "boy's kite", "[Feierabend]"),
        ("3 Häuser, Nr. 88", "3 Häuser", "88"),
        ("红色的猫在雨中", "红色的猫", "在雨中"),
        ("赤いねこと雨", "赤い猫", "雨"),
        ("кот под дождём", "кот", "под дождём"),
        ("Müde\u0301r Kater", "müdér kater", ""),
    ],
)
def test_every_word_accounted_for_passes(text: str, first: str, second: str) -> None:
    """Case, articles, conjunctions and endings do not matter."""
    assert missing_words(text, {"prompt": first, "prompt_2": second}) == []


@pytest.mark.parametrize(
    ("text", "first", "second", "missing"),
    [
        ("a red cat in the rain", "a cat", "rain", ["red"]),
        ("a red cat under the bridge", "a red cat", "the bridge", ["under"]),
        ("a cat, a cat and a dog", "", "", ["cat", "dog"]),
        ("3 birds", "birds", "", ["3"]),
        ("a category", "cat", "", ["category"]),
        ("a cat", "category", "", ["cat"]),
        ("stark am start", "start", "", ["stark"]),
        ("红猫", "红", "", ["猫"]),
        ("Sand und Sang", "Sang", "", ["sand"]),
        ("no big house", "house", "", ["big"]),
        ("das Eis", "Eier", "", ["eis"]),
    ],
)
def test_every_lost_word_is_named(text: str, first: str, second: str, missing: list[str]) -> None:
    """Once each, in the order of the text; a word inside another is not that word."""
    assert missing_words(text, {"prompt": first, "prompt_2": second}) == missing


@pytest.mark.parametrize(
    ("answer", "wanted", "kept", "lost"),
    [
        ("a [Feierabend] mood", ["[Feierabend]"], "a [Feierabend] mood", []),
        ("a Feierabend mood", ["[Feierabend]"], "a [Feierabend] mood", []),
        ("a leisure mood", ["[Feierabend]"], "a leisure mood", ["[Feierabend]"]),
        ("Feierabende", ["[Feierabend]"], "Feierabende", ["[Feierabend]"]),
        ("VorFeierabend", ["[Feierabend]"], "VorFeierabend", ["[Feierabend]"]),
        ("a [x] and x", ["[x]", "[x]"], "a [x] and [x]", []),
        ("a [x]", ["[x]", "[x]"], "a [x]", ["[x]"]),
        ("a C++ (\\1) book", ["[C++]", "[(\\1)]"], "a [C++] [(\\1)] book", []),
        ("[feierabend]", ["[Feierabend]"], "[feierabend]", ["[Feierabend]"]),
    ],
)
def test_bracketed_words_are_held_to_account(
    answer: str, wanted: list[str], kept: str, lost: list[str]
) -> None:
    """Letter by letter, as often as they were there; where only the brackets went, they are put
    back.
    """
    assert with_brackets(answer, wanted) == (kept, lost)


def test_brackets_are_found() -> None:
    """Not across lines, not empty, the inner ones of nested ones."""
    assert bracketed("a [b c] d [e] [] [f\ng] [[h]]") == ["[b c]", "[e]", "[h]"]
