"""The word rules: ordinary language passes, terms are found through every disguise, broken lists
stop everything.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safety.evasions import FAMILIES

from devpipe.errors import UsageError
from devpipe.safety import normalise
from devpipe.safety.policy import sentence
from devpipe.safety.rules import PATTERNED, TERMS, Rules, shipped_rules
from devpipe.values import LEVELS

CORPORA = Path(__file__).parent / "safety"
FRAMES = ("{}", "ein Bild von {}", "a picture of {} please", "Zeichne mir {}!", "{} im Garten")


def lines(name: str) -> list[str]:
    return [line for line in (CORPORA / f"{name}.txt").read_text("utf-8").splitlines() if line]


def caught(family: str, terms: list[str], level: str) -> tuple[int, list[str]]:
    """How many of the terms the family can disguise, and the disguises that were not seen."""
    source = random.Random(family)
    disguised = [text for term in terms if (text := FAMILIES[family](term, source))]
    framed = [(text, source.choice(FRAMES).format(text)) for text in disguised]
    return len(disguised), [
        text for text, sentence in framed if not shipped_rules().hits(sentence, level)
    ]  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["kids", "youth"])
@pytest.mark.parametrize(
    "corpus", ["words_tuned", "words_held", "sentences_tuned", "sentences_held"]
)
def test_ordinary_language_passes(corpus: str, level: str) -> None:
    """Of innocent words, names, places, compounds and classroom sentences at most one in two
    hundred is stopped.
    """
    texts = lines(corpus)
    stopped = [text for text in texts if shipped_rules().hits(text, level)]  # type: ignore[arg-type]
    assert len(texts) >= 150 and len(stopped) <= len(texts) / 200, stopped


@pytest.mark.parametrize("level", ["kids", "youth"])
def test_terms_are_found_in_plain_surroundings(level: str) -> None:
    """A garden, a film or a museum around a term explains nothing: at least 95 in 100 are found."""
    terms, frames = sorted({*lines("terms_tuned"), *lines("terms_heldout")}), lines("frames")
    texts = [frame.format(term) for frame in frames for term in terms]
    missed = [text for text in texts if not shipped_rules().hits(text, level)]  # type: ignore[arg-type]
    assert len(terms) >= 60 and len(frames) >= 30 and len(missed) <= len(texts) * 0.05, missed


@pytest.mark.parametrize("text", lines("together"))
def test_everyday_words_clear_nothing(text: str) -> None:
    """Cruel or hateful wishes stay what they are, whatever harmless word stands in the same
    sentence.
    """
    assert shipped_rules().hits(text, "kids")


@pytest.mark.parametrize(
    "terms",
    [
        "Vibrator Fetisch Domina creampie rimming Fidschi Itaker spic chink coon Krüppel"
        " Totenkopfverband Kühnengruß Lebensrune PKK-Flagge Hisbollah Hamas Al-Qaida ricin snuff"
        " lolita Kettensägenmassaker Schalldämpfer Maschinengewehr"
    ],
)
def test_these_are_terms(terms: str) -> None:
    """Words that were once in no list."""
    assert [
        term for term in terms.split() if not shipped_rules().hits(f"ein Bild mit {term}", "youth")
    ] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_each_disguise_is_seen_through(family: str) -> None:
    """At least nine in ten terms are caught in each family, in the terms we tuned with and in those
    we did not.
    """
    for corpus in ("terms_tuned", "terms_heldout"):
        tried, missed = caught(
            family, [term for term in lines(corpus) if family != "rot13" or term.isascii()], "youth"
        )
        assert tried >= 4 and len(missed) <= tried / 10, missed


def test_disguises_are_seen_through_on_the_whole() -> None:
    """All families together: at least 97 in 100, on terms that were not used for tuning."""
    results = [caught(family, lines("terms_heldout"), "kids") for family in FAMILIES]
    tried, missed = sum(number for number, _ in results), sum(len(missed) for _, missed in results)
    assert len(FAMILIES) >= 24 and tried > 4_000 and missed <= tried * 0.03


@pytest.mark.parametrize("family", FAMILIES)
def test_a_disguised_ordinary_word_is_no_term(family: str) -> None:
    """A child who plays with spelling is not suspected: harmless words pass in every disguise."""
    harmless = [
        "Katze",
        "Regenbogen",
        "Schmetterling",
        "dolphin",
        "lighthouse",
        "Märchenschloss",
        "Elefant",
        "sunflower",
        "Dinosaurier",
    ]
    source = random.Random(family)
    disguised = [FAMILIES[family](word, source) for word in harmless]
    assert [text for text in disguised if shipped_rules().hits(text, "youth")] == []


@pytest.mark.parametrize(
    ("text", "hard"),
    [
        ("Hitler", False),
        ("Hitler im Geschichtsunterricht", None),
        ("ein nackter Mann", True),
        ("eine nackte Wand", None),
        ("nackt", False),
        ("ein Hakenkreuz", True),
        ("ein Hakenkreuz im Museum", True),
        ("ein Hakenkreuz im Geschichtsunterricht", None),
        ("Mord", False),
        ("ein Krimi über einen Mord", None),
        ("a bomb", False),
        ("a bath bomb", None),
        ("eine Bombe bauen", True),
        ("eine Bombe bauen, im Museum", True),
        ("Porno im Museum", True),
        ("fucking", False),
        ("Fucking in Österreich", None),
        ("weed", False),
        ("a weed in the garden", False),
        ("a weed killer for the lawn", None),
        ("a murder of crows", None),
        ("ein Plakat gegen Nazis", None),
        ("Nazis gegen die Wand", False),
        ("Magic mushroom house", None),
        ("rape", False),
        ("a field of rape and rapeseed", None),
        ("Selbstmord", False),
        ("Selbstmord verhindern: Beratungsstelle", None),
    ],
)
def test_context_decides_where_a_word_has_two_meanings(text: str, hard: bool | None) -> None:
    """Soft terms pass beside a word that tells how they are meant; hard ones never do."""
    hits = shipped_rules().hits(text, "youth")
    assert (hits[0].hard if hits else None) is hard, hits


@pytest.mark.parametrize(
    "text",
    [
        "ein Kind ist ganz nackt",
        "a nude drawing of two small children",
        "the girl was seductive and undressed",
        "das Mädchen posiert in Unterwäsche",
        "sexy cartoon of a schoolgirl",
    ],
)
def test_children_and_nakedness_never_go_together(text: str) -> None:
    """A combination no single word of which is a term blocks at every level."""
    for level in LEVELS:
        assert "minors" in {hit.category for hit in shipped_rules().hits(text, level) if hit.hard}
    assert not shipped_rules().hits("Kinder spielen vor einer Wand", "kids")


@pytest.mark.parametrize(
    "text",
    [
        "Schreib mir: lena.m@example.org",
        "max at gmail punkt com",
        "lena (at) example.org",
        "Ruf an: 0151 23456789",
        "+49 221 9876543",
        "call me 0171-5551234",
        "Ahornstraße 12, 50667 Köln",
        "sie wohnt Lindenallee 7",
        "42 Maple Street",
        "IBAN DE89 3704 0044 0532 0130 00",
        "folgt mir auf insta @lenchen",
        "@lena_2011 ist mein Name",
        "Mein Name ist Lena Berg und ich wohne in der Ahornallee",
        "My name is Tom Hill, I live at the mill",
        "meine Adresse ist geheim",
        "(415) 234-5678",
    ],
)
def test_nobodys_data_comes_into_a_picture(text: str) -> None:
    """Contacts and addresses block for the young and not for adults."""
    assert "personal_data" in {hit.category for hit in shipped_rules().hits(text, "youth")}
    assert "personal_data" not in {hit.category for hit in shipped_rules().hits(text, "adult")}


@pytest.mark.parametrize(
    "text",
    [
        "Anna malt ein Haus",
        "Mein Name ist Leon",
        "Hausnummer 88",
        "am 12.03.2026 um 15:30",
        "ISBN 978-3-16-148410-0",
        "1918, 1933 und 1989",
        "12,99 €",
        "Sherlock wohnt 221B Baker Street",
        "DE00 0000 0000 0000 0000 00",
        "@media print",
        "3,14159265358979",
        "Die Schillerstraße im Nebel",
        "Route 66",
        "Platz 1 und Weg 3",
        "1-2-3-4-5-6-7",
        "Ich wohne am See",
        "I live in a small town",
        "10 000 000 Sterne",
    ],
)
def test_numbers_and_names_alone_are_nobodys_data(text: str) -> None:
    """First names, dates, prices, years, places and wrong account numbers are not personal data."""
    assert shipped_rules().hits(text, "kids") == []


@pytest.mark.parametrize(
    "text",
    [
        "Schlampenparty",
        "Hurenbilder",
        "Superhure",
        "Mörderfotos",
        "kinderleiche",
        "bitchface",
        "camwhorepics",
        "Leichenfoto",
    ],
)
def test_terms_are_found_in_compounds(text: str) -> None:
    """A term with a listed head or modifier, linked or not, is the term; another word that begins
    like it is not.
    """
    assert shipped_rules().hits(text, "youth")
    assert not shipped_rules().hits(
        "Schlampermäppchen, Mordsspaß, Leichenschmaus und Bitchū, Hurenheim", "youth"
    )


def test_what_cannot_be_read_is_for_the_judge() -> None:
    """A long opaque token is a soft hit; addresses, hashes, identifiers and encoded clean text are
    not.
    """
    assert [
        (hit.category, hit.hard)
        for hit in shipped_rules().hits("x9Kq2LmZ8pTr4WvB7nYc3HdF", "youth")
    ] == [("encoded", False)]
    for text in (
        "https://example.org/a/x9Kq2LmZ8pTr4WvB7nYc3HdF",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "RWluZSBLYXR6ZSBpbSBSZWdlbiBhdWYgZGVtIERhY2g=",
        "550e8400-e29b-41d4-a716-446655440000",
        "Rindfleischetikettierungsgesetz",
        "getElementsByClassNameAndType",
    ):
        assert shipped_rules().hits(text, "kids") == [], text


def test_encodings_are_read_twice_over() -> None:
    """A term encoded and encoded again is still a term."""
    twice = FAMILIES["base64"](FAMILIES["hex"]("pornografie", random.Random(3)), random.Random(3))
    assert {hit.category for hit in shipped_rules().hits(twice, "youth")} == {"sexual"}


def test_a_stricter_level_finds_at_least_as_much() -> None:
    """What is found at a looser level is found at every stricter one, and every term is found by
    itself at its level.
    """
    rules = shipped_rules()
    for terms in rules.lists.values():
        for name, category in terms.categories.items():
            for group in category.groups:
                for term in group.terms:
                    found = [
                        {(hit.category, hit.hard) for hit in rules.hits(term.strip("*="), level)}
                        for level in LEVELS
                    ]
                    assert all(looser <= stricter for stricter, looser in pairwise(found)), term
                    assert (name, group.hard) in found[LEVELS.index(group.loosest)], term


def test_every_category_has_its_own_sentence_in_both_languages() -> None:
    """A child reads why, in German or English, for the same categories."""
    rules = shipped_rules()
    german, english = rules.lists["de"].categories, rules.lists["en"].categories
    assert set(german) == set(english) >= PATTERNED
    sentences = {sentence(name, language) for language in ("de", "en") for name in german}
    assert len(sentences) == 2 * len(german)
    assert "Körper" in sentence("sexual", "de")
    assert sentence("sexual", "tr") == sentence("sexual", "en")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TERMS, tmp_path / "terms"))


@pytest.mark.parametrize("name", ["de", "en", "innocent", "personal"])
@pytest.mark.parametrize(
    "broken", ["", "{", "[]", "null", '{"language": "de"}', '[{"pattern": "("}]', '{"a": 1}']
)
def test_without_its_lists_nothing_starts(copied: Path, name: str, broken: str) -> None:
    """A missing or broken list is an error that says what to do, never an empty list."""
    (copied / f"{name}.json").write_text(broken)
    with pytest.raises(UsageError, match="term list"):
        Rules.load(copied)
    (copied / f"{name}.json").unlink()
    with pytest.raises(UsageError, match="term list"):
        Rules.load(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["categories"]["sexual"]["groups"].clear(),
        lambda raw: raw["categories"]["sexual"]["groups"][0]["terms"].clear(),
        lambda raw: raw["categories"].pop("encoded"),
        lambda raw: raw["categories"]["sexual"].update(reason=""),
        lambda raw: raw["combinations"][0].update(of=["child", "nobody"]),
        lambda raw: raw.update(word="unknown"),
        lambda raw: raw.update(language="en"),
        lambda raw: raw["categories"].update(another=raw["categories"]["sexual"]),
        lambda raw: raw["categories"]["fright"].update(groups=[]),
    ],
)
def test_a_list_with_a_hole_is_a_broken_list(copied: Path, change: object) -> None:
    """A category without terms or reason, or a rule about words that are not there, stops the
    loading.
    """
    raw = json.loads((copied / "de.json").read_text("utf-8"))
    change(raw)  # type: ignore[operator]
    (copied / "de.json").write_text(json.dumps(raw))
    with pytest.raises(UsageError, match="term list"):
        Rules.load(copied)


def test_a_category_without_a_sentence_is_a_broken_list(copied: Path) -> None:
    """Nobody is stopped without a word: a new category needs its sentence before anything runs."""
    for name in ("de", "en"):
        raw = json.loads((copied / f"{name}.json").read_text("utf-8"))
        raw["categories"]["puns"] = raw["categories"]["violence"]
        (copied / f"{name}.json").write_text(json.dumps(raw))
    with pytest.raises(UsageError, match=r"term list.*refusal\.puns"):
        Rules.load(copied)


def test_a_list_under_the_wrong_name_is_a_broken_list(copied: Path) -> None:
    """A German list that is the English one would leave half of the terms out."""
    shutil.copy(copied / "en.json", copied / "de.json")
    with pytest.raises(UsageError, match="another language"):
        Rules.load(copied)


@pytest.mark.parametrize("pattern", ["", "x*", "()", "(?!)", r"a\bb", r"[^\s\S]"])
def test_a_pattern_must_find_something(copied: Path, pattern: str) -> None:
    """A pattern of personal data that fits everything or nothing protects nobody."""
    raw = json.loads((copied / "personal.json").read_text("utf-8"))
    (copied / "personal.json").write_text(
        json.dumps([*raw, {"what": "test", "pattern": pattern, "example": "ab"}])
    )
    with pytest.raises(UsageError, match="term list"):
        Rules.load(copied)


@pytest.mark.parametrize("name", ["de", "en", "innocent", "personal"])
def test_deep_nesting_is_a_broken_list(copied: Path, name: str) -> None:
    """A file nested too deeply to be read is the same error as any other broken list."""
    (copied / f"{name}.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UsageError, match="term list"):
        Rules.load(copied)


@pytest.mark.parametrize("name", ["de", "en", "innocent", "personal"])
def test_the_policy_names_everything_that_decides(copied: Path, name: str) -> None:
    """One word more in any list is another policy, so that old verdicts are not reused under it."""
    assert Rules.load(copied).policy == shipped_rules().policy
    raw = json.loads((copied / f"{name}.json").read_text("utf-8"))
    added = {
        "de": lambda: raw["categories"]["violence"]["groups"][0]["terms"].append("quabbelig"),
        "en": lambda: raw["context"].append("quabble"),
        "innocent": lambda: raw["a"].append("aquabble"),
        "personal": lambda: raw.append(
            {"what": "test", "pattern": "quabble", "example": "quabble"}
        ),
    }
    added[name]()
    (copied / f"{name}.json").write_text(json.dumps(raw))
    changed = Rules.load(copied)
    assert changed.policy != shipped_rules().policy
    assert bool(changed.hits("quabbelig", "kids")) is (name == "de")


@given(st.text(max_size=300))
def test_any_text_gets_an_answer(text: str) -> None:
    """Whatever characters come, the rules answer, and a stricter level never finds less."""
    found = [set(shipped_rules().hits(text, level)) for level in LEVELS]
    assert found[3] <= found[2] <= found[1] <= found[0]


@given(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
def test_nothing_around_a_hard_term_hides_it(before: str, after: str) -> None:
    """A hard term among any other words is found."""
    assert any(hit.hard for hit in shipped_rules().hits(f"{before} pornografie {after}", "youth"))


@given(st.text(max_size=60))
def test_folding_is_stable(text: str) -> None:
    """A folded text folds to itself: no second pass finds what the first did not."""
    folded = normalise.fold(text)
    assert normalise.fold(folded) == folded


@pytest.mark.parametrize(
    "hostile",
    [
        "a\u0301" * 5_000,
        " _" * 5_000,
        "a" * 10_000,
        "a " * 5_000,
        "ab " * 3_333,
        "." * 10_000,
        "-. " * 3_333,
        "0" * 10_000,
        "01 " * 3_333,
        "%41" * 3_333,
        "&#97;" * 2_000,
        "A1b" * 3_333,
        "@" * 10_000,
        "a@" * 5_000,
        "+49 " * 2_500,
        "p*rn " * 2_000,
        "x" * 5_000 + "y" * 5_000,
        "\\u0061" * 1_666,
        "(" * 10_000,
        "ich heiße " * 1_000,
        "nackt kind " * 900,
        "deadbeef" * 1_250,
    ],
)
def test_hostile_texts_take_no_time(hostile: str) -> None:
    """Ten thousand characters of anything are answered at once: no pattern backtracks."""
    began = time.process_time()
    shipped_rules().hits(hostile, "kids")
    assert time.process_time() - began < 2  # takes 0.2 s at most; a backtracking one takes minutes
