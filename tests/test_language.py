"""Which language a text is in: its script first, then a guess, and nothing is done on a weak one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contexts import Desk, Written
from engines import engine_in
from test_stages import SMALL, changed, stage_1

from benchmarks import short_prompts
from devpipe import Engine
from devpipe.backends.chat import messages
from devpipe.record.events import TextWritten, Warned
from devpipe.show.html import run_html
from devpipe.stages import interception, pre_output
from devpipe.stages.texts import Text, Texts
from devpipe.text.language import SURE, guess, load
from devpipe.values import SAME, TextRequest

# Words of children, each of them told apart wrongly by some detector; the language they are in.
WORDS = {
    "Rotkäppchen": "de",
    "Känguru": "de",
    "Löwe": "de",
    "Haus": "de",
    "ein Bär": "de",
    "Hexe": "de",
    "Fee": "de",
    "Pinguin": "de",
    "Dinosaurier": "de",
    "köpek": "tr",
    "kedi": "tr",
    "deniz": "tr",
    "дом": "ru",
    "собака": "ru",
    "кіт": "uk",
    "قط": "ar",
    "chat": "fr",
    "pisică": "ro",
    "kot": "pl",
    "casa": "es",
    "a cat": "en",
}
NAMES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "pl": "Polish",
    "ro": "Romanian",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
}
WEAK = "kedi"  # of which nobody is sure
LONG = "Die alte Katze sitzt am Fenster und zählt drei blaue Vögel."


@pytest.fixture(autouse=True)
def _model() -> None:
    load()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = engine_in(tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def german(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose pages are German."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")


def order(request: TextRequest) -> str:
    """What a chat model is told about the language of its answer."""
    system = messages(request)[0]["content"]
    _, _, told = system.partition("Write your answer in ")
    return told.partition(".")[0]


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ("猫", {"zh", "ja"}),
        ("犬", {"zh", "ja"}),
        ("龙", {"zh"}),
        ("ねこ", {"ja"}),
        ("ネコ", {"ja"}),
        ("猫が好き", {"ja"}),
        ("고양이", {"ko"}),
        ("кошка", {"ru"}),
        ("їжак", {"uk"}),
        ("дом", {"ru", "uk", "bg", "mk", "sr"}),
        ("قطة", {"ar"}),
        ("گربه", {"fa"}),
        ("γάτα", {"el"}),
        ("חתול", {"he"}),
        ("แมว", {"th"}),
        ("बिल्ली", {"hi", "mr", "ne"}),
        ("კატა", {"ka"}),
        ("կատու", {"hy"}),
        ("ᏪᏌ", {""}),  # Cherokee, of which the model knows nothing
        ("𐍃𐌺𐌰𐍄𐍄𐍃", {""}),  # Gothic
        ("ein Bild von 猫", {"de"}),  # most of its letters are Latin
        ("猫 und 犬 und 龍", {"de"}),
        ("ＨＡＵＳ", {"de", "en"}),  # the letters of a Japanese keyboard
    ],
)
def test_the_script_decides_first(text: str, languages: set[str]) -> None:
    """What is not written in their letters is neither German nor English."""
    assert guess(text).language in languages


@pytest.mark.parametrize("text", ["", "   ", "12345", "🐱🐶", "!?", "3 + 4 = 7"])
def test_of_a_text_without_letters_nobody_is_sure(text: str) -> None:
    assert guess(text).sure == 0.0


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", LONG),
        ("de", "Das Café am See ist gelb und hat drei Stühle"),
        ("en", "two children fly a kite over the harbour at dusk, the sea is silver"),
        ("tr", "yaşlı kedi pencerede oturuyor ve üç mavi kuş sayıyor"),
        ("sv", "den gamla katten sitter vid fönstret och räknar tre blå fåglar"),
        ("nl", "de oude kat zit bij het raam en telt drie blauwe vogels"),
        ("it", "il vecchio gatto siede alla finestra e conta tre uccelli blu"),
        ("pt", "o velho gato está sentado à janela e conta três pássaros azuis"),
        ("cs", "stará kočka sedí u okna a počítá tři modré ptáky"),
        ("hu", "az öreg macska az ablaknál ül és három kék madarat számol"),
        ("sq", "macja e vjetër ulet pranë dritares dhe numëron tre zogj blu"),
        ("vi", "con mèo già ngồi bên cửa sổ và đếm ba con chim xanh"),
    ],
)
def test_a_sentence_is_known_whatever_language_the_house_speaks(language: str, text: str) -> None:
    """Also one that few children write in: what is likely beforehand yields to a sentence."""
    assert guess(text).language == language
    assert guess(text).sure >= SURE


@pytest.mark.parametrize("which", short_prompts.AT_MOST_WRONG)
def test_what_is_acted_on_is_right(which: str) -> None:
    """The benchmark's bounds, on the half that was tuned and on the one set aside."""
    told = short_prompts.answers(short_prompts.ours(), which)
    acted = [one for one in told if one.sure >= SURE]
    wrong = [one for one in acted if one.wrong]
    assert len(told) == 250 and len({one.language for one in told}) == 10
    assert len(wrong) <= short_prompts.AT_MOST_WRONG[which] * len(acted), wrong
    assert len(acted) >= 0.7 * len(told)
    assert sum(one.wrong for one in told) <= 50  # 85 of the half set aside, before


async def test_no_model_is_ordered_to_answer_in_a_language_that_is_not_the_texts() -> None:
    """It is told the right one or none; what was guessed, and how sure, is recorded."""
    model = Written("an answer")
    desk = Desk({"interception": "near/x"}, near=model)
    for text, language in WORDS.items():
        taken = await stage_1(desk, prompt=text)
        await interception.run(desk.request, desk.services, taken)
        assert order(model.asked[-1]) in ("", NAMES[language]), text
        written = [one for one in desk.all(TextWritten) if one.stage == "input"][-1]
        guessed = guess(text)
        assert (written.language, written.language_sure) == (guessed.language, guessed.sure)
    assert len(model.asked) == len(WORDS)


async def test_a_sure_guess_is_ordered_as_before() -> None:
    model = Written("eine Antwort")
    desk = Desk({"interception": "near/x"}, near=model)
    taken = await stage_1(desk, prompt=LONG)
    await interception.run(desk.request, desk.services, taken)
    assert [order(request) for request in model.asked] == ["German"]


async def test_the_pipelines_language_comes_before_any_guess() -> None:
    model = Written("an answer")
    desk = Desk({"interception": "near/x"}, pipeline="translate_en", near=model)
    taken = await stage_1(desk, prompt=WEAK)
    rewritten = await interception.run(desk.request, desk.services, taken)
    assert [order(request) for request in model.asked] == ["English"]
    assert rewritten.parts["prompt"].known_language == "en"


async def test_what_is_not_surely_english_is_translated() -> None:
    """`Fee` is a German fairy, and an English price."""
    model = Written("a fairy")
    desk = Desk({"translate": "near/x"}, change=changed(translate=True), near=model)
    taken = await stage_1(desk, prompt="Fee")
    (request,) = model.asked
    assert "Translate it." in request.instruction and order(request) == "English"
    prompt = taken.parts["prompt"]
    assert (prompt.words, prompt.known_language) == ("a fairy", "en")


async def test_a_correction_keeps_a_language_that_nobody_knows() -> None:
    model = Written("Kedi")
    desk = Desk({"translate": "near/x"}, change=changed(correct=True), near=model)
    await stage_1(desk, prompt=WEAK)
    (request,) = model.asked
    assert request.output_language == SAME and order(request) == ""
    assert "Correct" in request.instruction and "Translate" not in request.instruction


async def test_an_output_gets_its_language_unless_the_text_is_surely_in_it() -> None:
    """In Stage 3, too, nobody takes a weak guess for what the output asks."""
    for text, asked in {"Fee": 1, "a cat in the rain": 0, LONG: 1}.items():
        model = Written("a fairy")
        desk = Desk({"translate": "near/x"}, near=model)
        output = desk.request.output.model_copy(update={"translate_to": "en"})
        desk.asked(output=output)
        taken = await stage_1(desk, prompt=text)
        await pre_output.run(desk.request, desk.services, taken, original=taken)
        assert len(model.asked) == asked, text
        assert all("Translate it." in request.instruction for request in model.asked)


async def test_a_drawing_reads_a_text_by_its_own_words_where_the_guess_is_weak() -> None:
    desk = Desk()
    taken = await stage_1(desk, prompt=WEAK)
    media, _ = await pre_output.run(desk.request, desk.services, taken, original=taken)
    assert media.languages == {"prompt": ""}


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize(
    ("text", "language"), [(WEAK, "de"), ("a cat in the rain", "en"), ("дом", "ru"), ("ᏪᏌ", "en")]
)
async def test_whispers_come_back_in_the_persons_language(text: str, language: str) -> None:
    """Where their few words do not tell, in that of their machine, if it has the same letters."""
    model = Written("whispered")
    desk = Desk({"interception": "near/x"}, pipeline="stille_post", near=model)
    taken = await stage_1(desk, prompt=text)
    await interception.run(desk.request, desk.services, taken)
    assert [one.output_language for one in model.asked][-2:] == ["sw", language]


@pytest.mark.parametrize(
    ("prompt", "language"),
    [("a cat in the rain", "en"), ("Die Katze sitzt im Regen und wartet", "de")],
)
async def test_offline_no_whisper_is_called_another_language_than_it_is_in(
    engine: Engine, prompt: str, language: str
) -> None:
    """No procedure knows French: the text keeps its language, and its words are looked up in it."""
    run = await engine.run(prompt, pipeline="stille_post", seed=1, text_seed=1, **SMALL)
    assert {text.language for text in run.summary.stages["interception"].written} == {language}


async def test_offline_a_text_is_recorded_in_the_language_of_its_phrases(engine: Engine) -> None:
    """Which are English or German; a text whose own words were only turned keeps its language."""
    german = "Die Katze sitzt im Regen und wartet"
    russian = "Чёрный кот спит на крыше"
    for prompt, pipeline, language in (
        ("кот", "dada", "en"),
        (russian, "bauhaus", "en"),
        (russian, "stille_post", "ru"),
        (russian, "split_and_combine", "ru"),
        (russian, "user_defined", "ru"),
        (german, "dada", "de"),
        ("a cat in the rain", "dada", "en"),
    ):
        own = {"instruction": "As a poem."} if pipeline == "user_defined" else {}
        output = {"output": "sketch_fusion"} if pipeline == "split_and_combine" else {}
        asked = {**SMALL, **output, **own}
        run = await engine.run(prompt, pipeline=pipeline, seed=1, text_seed=1, **asked)
        written = run.summary.stages["interception"]
        assert set(written.languages.values()) == {language}, pipeline
        if prompt == "кот":
            assert set(written.language_sure.values()) == {0.5}, "and the cat is Russian"


async def test_the_procedure_that_translates_says_so_only_where_it_did(engine: Engine) -> None:
    """German becomes English; of Turkish it knows no word."""
    for prompt, language in {
        "Die Katze sitzt im Regen und wartet": "en",
        "yaşlı kedi pencerede oturuyor ve üç mavi kuş sayıyor": "tr",
    }.items():
        run = await engine.run(prompt, pipeline="translate_en", seed=1, text_seed=1, **SMALL)
        assert run.summary.stages["interception"].languages == {"prompt": language}


@pytest.mark.parametrize(("machine", "said"), [("de_DE.UTF-8", "de"), ("C.UTF-8", "en")])
def test_a_person_reads_sentences_in_the_language_of_their_machine(
    monkeypatch: pytest.MonkeyPatch, machine: str, said: str
) -> None:
    """Where their own few words do not tell which they speak."""
    monkeypatch.setenv("LC_ALL", machine)
    weak = guess(WEAK)
    texts = Texts({"prompt": Text(WEAK, "en", weak.sure)})
    assert texts.person_language == said
    assert Texts({"prompt": Text(LONG, "fr")}).person_language == "fr"


@pytest.mark.usefixtures("german")
async def test_a_page_is_not_in_the_language_of_a_weak_guess(engine: Engine) -> None:
    """Nor does a screen reader pronounce a text by it; the tables say how sure it was."""
    weak = await engine.run(WEAK, seed=1, text_seed=1, **SMALL)
    html = run_html(weak.summary, weak.folder)
    assert "Fertig" in html or "fertig" in html
    assert f'lang="{guess(WEAK).language}"' not in html
    sure = await engine.run("a cat in the rain", seed=1, text_seed=1, **SMALL)
    assert 'lang="en"' in run_html(sure.summary, sure.folder)


async def test_a_derived_run_knows_what_its_source_was_not_sure_of(tmp_path: Path) -> None:
    """Regenerated with another pipeline, the model is told no language either."""
    model = Written("a text")
    engine = engine_in(tmp_path, backends={"near": model}, DEVPIPE_MODEL_INTERCEPTION="near/x")
    run = await engine.run(WEAK, pipeline="dada", seed=1, text_seed=1, **SMALL)
    await engine.regenerate(run.id, pipeline="bauhaus")
    assert [order(request) for request in model.asked] == ["", ""]
    engine.close()


async def test_own_wording_in_another_language_is_not_taken_for_the_one_before(
    tmp_path: Path,
) -> None:
    """A German sentence in place of an English one is German, and few words change nothing."""
    engine = engine_in(tmp_path)
    languages = []
    for wording in (LONG, "Hexe"):
        run = engine.open(pipeline="passthrough", text_seed=1, **SMALL)
        await run.input("a cat in the rain")
        await run.intercept()
        await run.check(wording)
        languages.append(run.summary.stages["interception"].languages["prompt"])
        await run.generate(seed=1)
    assert languages == ["de", "en"]
    engine.close()


async def test_a_recording_that_says_nothing_of_sureness_is_taken_at_its_word() -> None:
    """One of a time before: its language was acted on then."""
    told: dict[str, Any] = {"stage": "input", "text": "x", "language": "de", "final": True}
    assert TextWritten.model_validate(told).language_sure == 1.0


async def test_nothing_is_said_of_a_translation_that_an_english_text_does_not_need() -> None:
    desk = Desk()
    output = desk.request.output.model_copy(update={"translate_to": "en"})
    desk.asked(output=output)
    taken = await stage_1(desk, prompt="a cat in the rain")
    await pre_output.run(desk.request, desk.services, taken, original=taken)
    await desk.commit()
    assert desk.all(Warned) == []
