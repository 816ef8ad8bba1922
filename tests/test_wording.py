"""What errors say where they are read: one language a message, in the words of the place."""

from __future__ import annotations

import argparse
import json
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engines import engine_in, small_picture
from IPython.core.error import UsageError as OneLine
from shell import REPOSITORY, SMALL, Done, here, recordings
from test_magics import Shell

import devpipe
from devpipe.cli.parser import COMMANDS, Parser, parser
from devpipe.errors import DevpipeError
from devpipe.show.problems import page_problem
from devpipe.show.wording import HINTS, SENTENCES, in_words
from devpipe.text.messages import machine_language

ENGLISH = frozenset(
    [
        "the",
        "is",
        "are",
        "not",
        "of",
        "with",
        "there",
        "give",
        "write",
        "use",
        "it",
        "its",
        "this",
        "that",
        "which",
        "did",
        "you",
        "mean",
        "choose",
        "cannot",
        "must",
        "or",
        "and",
        "has",
        "have",
        "to",
        "from",
        "no",
        "your",
        "does",
        "save",
        "argument",
    ]
)
GERMAN = frozenset(
    [
        "der",
        "das",
        "den",
        "dem",
        "ein",
        "eine",
        "einen",
        "ist",
        "nicht",
        "kein",
        "keine",
        "keinen",
        "keines",
        "und",
        "oder",
        "mit",
        "gibt",
        "gib",
        "schreibe",
        "nimm",
        "wähle",
        "zu",
        "auf",
        "von",
        "sich",
        "lässt",
        "siehe",
        "fehlt",
        "meintest",
        "du",
        "deine",
        "berichtige",
        "zweimal",
        "mach",
    ]
)
SPOKEN = {"en": "C.UTF-8", "de": "de_DE.UTF-8"}
# what is quoted is in no language: values, commands, files, what an option is called
QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|--?[\w-]+|\S*[/{_]\S*")
PACKAGE = Path(devpipe.__file__).parent
HINTS_BY_NAME: dict[str, dict[str, str]] = json.loads(HINTS.read_text("utf-8"))
SAID: dict[str, dict[str, str]] = json.loads(SENTENCES.read_text("utf-8"))


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", QUOTED.sub(" ", text).lower()))


def assert_one_language(text: str, language: str) -> None:
    """No word of the other language, and one of this: names alone tell nothing."""
    own, other = (ENGLISH, GERMAN) if language == "en" else (GERMAN, ENGLISH)
    words = words_of(text)
    assert not words & other, f"{sorted(words & other)} in {text!r}"
    assert words & own, f"of no language: {text!r}"


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the machine speak a language."""
    monkeypatch.delenv("DEVPIPE_LANGUAGE", raising=False)

    def speak(language: str) -> None:
        monkeypatch.setenv("LC_ALL", SPOKEN[language])

    return speak


# The lists.


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def sources() -> str:
    """All that our code can raise, its strings joined, and what hints make of it."""
    files = "".join(one.read_text("utf-8") for one in sorted(PACKAGE.rglob("*.py")))
    joined = re.sub(r'"\s*f?"', "", files).replace("\\n", "\n").replace('\\"', '"')
    return joined + HINTS.read_text("utf-8").replace('\\"', '"')


BY_OTHERS = re.compile(  # what argparse, pydantic, the system and httpx say, or ours put together
    r"(?:There are: none|Make it smaller|It takes: |Give a number|it holds the|{name} must be|{run} is |--set {name}"
    r"|The following|Argument|Unrecognized|%%intercept:|should be|No such|Permission|Is a dir"
    r"|Not a dir|No space|Disk quota|File (?:exists|too|name)|Read-only|Input/output|Too many levels"
    r"|Invalid argument|All connection|Connection refused|\[Errno|unexpected end|The line cannot)"
)


@pytest.mark.parametrize("name", HINTS_BY_NAME)
def test_each_hint_is_said_in_the_words_of_its_places(name: str) -> None:
    """As its example is raised, in each language, and without a keyword of Python in a shell."""
    entry = HINTS_BY_NAME[name]
    for place in ("shell", "cell"):
        if place not in entry:
            continue
        said = in_words(place, entry["example"], "en")
        assert said != entry["example"]
        assert_one_language(in_words(place, entry["example"], "de"), "de")
        assert place == "cell" or not re.search(r'=\.\.\.|="|=True|=FILE|=N\b', said), said
    longest = max(re.split(r"\{\w+\}", entry["raised"]), key=len).strip()
    assert longest in sources() or longest.startswith("There is no "), "nobody raises it any more"


def test_each_sentence_is_raised_and_says_the_same_in_each_language() -> None:
    """A sentence that nobody raises is deleted; no gap is lost, but foreign words."""
    text = sources()
    for raised, said in SAID.items():
        pieces = [re.sub(r"\s+", " ", one) for one in re.split(r"\{\w+\}", raised)]
        longest = max(pieces, key=len).strip(" .:;,?`")
        if not BY_OTHERS.match(raised) and not raised.startswith(("There is no ", "there is no ")):
            words = longest.split(" ")
            core = " ".join(words[:4])
            assert core in text or longest in text, f"nobody raises {raised!r} any more"
        for sentence in said.values():
            assert gaps(sentence) <= gaps(raised) <= gaps(sentence) | {"problem", "kind"}, raised


def test_a_message_with_an_unknown_sentence_stays_english() -> None:
    """Half a translation is two languages at once: the hint stays as the error is."""
    known, unknown = "The prompt is empty.", "The moon is made of cheese."
    for text in (f"{known} {unknown}", f"{unknown} {known}", f"{known}\n  {unknown}"):
        assert in_words("shell", text, "de") == text
    hint = 'Give instruction="...".'
    assert in_words("shell", f"{unknown} {hint}", "de") == f'{unknown} Give --instruction "...".'
    assert in_words("shell", known, "tr") == known
    assert in_words("shell", f"  {known}\n\n {known}", "de").count("Der Prompt ist leer.") == 2


def test_what_is_said_once_is_said_once() -> None:
    """A text that nobody can translate, of any length, takes no time to speak of."""
    text = " ".join(["word"] * 3000)
    assert in_words("shell", text, "de") == text


def test_the_language_may_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook and a shell alike, whatever the machine speaks."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("DEVPIPE_LANGUAGE", "de")
    assert machine_language() == "de"
    assert in_words("cell", "The prompt is empty.") == "Der Prompt ist leer."
    monkeypatch.setenv("DEVPIPE_LANGUAGE", "")
    assert machine_language() == "c"


# The shell.


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of one run, and files that are wrong each in its own way."""
    folder = tmp_path_factory.mktemp("aloud")
    assert here(folder / "recordings")("run", "a cat", *SMALL).status == 0
    files = {
        "twice.yaml": "name: x\nname: y\nprompts: [a]\n",
        "key.yaml": "name: x\nprompts: [a]\nfoo: 3\n",
        "names.yaml": "name: x\nprompts: [a]\npipelines: [dadda]\noutputs: [nope]\n",
        "needs.yaml": "name: x\nprompts: [a]\npipelines: [user_defined]\noutputs: [sketch_control]\n",
        "broken.yaml": "name: [x\n",
        "text.yaml": "only a text\n",
        "kind.yaml": "name: x\nprompts: [a]\nseeds: [x]\n",
        "zip.yaml": "name: x\nprompts: [a, b]\nseeds: [1]\nzip: [[prompts, seeds]]\n",
        "zipped.yaml": "name: x\nprompts: [a, b]\nzip: [[prompts, nope]]\n",
        "out.yaml": "name: x\nprompts: [a]\nexclude: [{pipelines: dada}]\n",
        "broken.json": "{",
        "plan.csv": "prompt,seed\na,b,c\n",
        "column.csv": "prompt,colour\na,b\n",
        "empty.csv": "prompt\n",
        "none.csv": "text\na\n",
        "quote.csv": 'prompt\n"a\n',
        "nothing.txt": "\n",
        "old.xlsx": "no workbook",
        "graph.json": "[1, 2]",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "latin.csv").write_bytes(b"prompt\nK\xe4se\n")
    (folder / "no_picture.png").write_bytes(b"%PDF-1.7")
    (folder / "cut.png").write_bytes(small_picture()[:60])
    (folder / "folder.yaml").mkdir()
    return folder


def wrong_lines() -> list[list[str]]:
    """Command lines that are wrong in every way that a person can be: `@` is the shelf."""
    plans = ("twice.yaml", "key.yaml", "names.yaml", "needs.yaml", "broken.yaml", "text.yaml")
    plans += ("kind.yaml", "zip.yaml", "zipped.yaml", "out.yaml", "broken.json", "plan.csv")
    plans += ("column.csv", "empty.csv", "none.csv", "quote.csv", "nothing.txt", "old.xlsx")
    plans += ("latin.csv", "folder.yaml", "gone.yaml", "gone.docx")
    lines = [["batch", f"@/{plan}"] for plan in plans]
    for command in ("show", "verify", "replay", "resume", "regenerate"):
        lines += [[command, name] for name in ("nope", "latest", "", "20250101-000000-aaaaaaaa")]
    lines += [
        ["run", "a", "-p", "nope"],
        ["run", "a", "-p", "dadda"],
        ["run", "a", "-p", "text_to_image"],
        ["run", "a", "-o", "nope"],
        ["run", "a", "-o", "sketsh"],
        ["run", "a", "-o", ""],
        ["run", "a", "-p", "user_defined"],
        ["run", "a", "--instruction", "x"],
        ["run", "a", "-o", "sketch_control"],
        ["run", "a", "-o", "sketch_inpaint"],
        ["run", "a", "-o", "sketch_inpaint", "--image", "@/no_picture.png"],
        ["run", "a", "-o", "sketch_inpaint", "--image", "@/cut.png"],
        ["run", "a", "-o", "sketch_inpaint", "--image", "@/gone.png"],
        ["run", "a", "--image", "@/cut.png"],
        ["run", "a", "--prompt-2", "b"],
        ["run", ""],
        ["run", "x" * 20000],
        ["run", "a", "--seed", "0"],
        ["run", "a", "--seed", "x", "--text-seed", "-1", "--safety", "research"],
        ["run", "a", "--safety", "nope"],
        ["run", "a", "--set", "width"],
        ["run", "a", "--set", "=3"],
        ["run", "a", "--set", "width=1", "--set", "width=2"],
        ["run", "a", "--set", "width=5"],
        ["run", "a", "--set", "widht=5"],
        ["run", "a", "--set", "seed=5"],
        ["run", "a", "--set", "nothing_like_it=5"],
        ["run", "a", "b"],
        ["run", "a", "-o", "sd35_large"],
        ["regenerate", "RUN", "--seed", "x"],
        ["regenerate", "RUN", "-p", "nope"],
        ["regenerate", "RUN", "-o", "nope"],
        ["resume", "RUN"],
        ["verify"],
        ["verify", "RUN", "--all"],
        ["list", "nope"],
        ["list", "recordngs"],
        ["list", "--limit", "x"],
        ["list", "recordings", "--ready"],
        ["list", "recordings", "--state", "nope"],
        ["list", "--state", "failed"],
        ["list", "recordings", "--match", "nothing like this"],
        ["batch", "@/key.yaml", "--progress", "nan"],
        ["batch", "@/key.yaml", "--concurrency", "x"],
        ["batch", "@/key.yaml", "--budget", "x"],
        ["adopt", "@/gone.json"],
        ["adopt", "@/graph.json"],
        ["adopt", "@/broken.json"],
        ["export", "x.nope"],
        ["init", str(REPOSITORY)],
        ["safety-report", "@/gone.csv"],
        ["safety-report", "@/none.csv"],
        ["check", "--object-info", "@/gone.json"],
        ["check", "--object-info", "@/graph.json"],
        ["--home", "/nowhere", "list"],
        ["runn", "a"],
        ["nothing_like_it"],
        [],
    ]
    return lines


def usage_lines() -> Iterator[list[str]]:
    """Each option of each command without its value, and one that it has not."""
    (commands,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    for name in COMMANDS:
        its_parser: Parser = commands.choices[name]
        yield [name, "--nothing-like-it"]
        needed = ["x" for one in its_parser._actions if not one.option_strings and not one.nargs]
        if needed:
            yield [name]
        for action in its_parser._actions:
            option = (action.option_strings or [""])[-1]
            if option and action.nargs is None:
                yield [name, *needed, option]
            elif option not in ("", "--help"):
                yield [name, *needed, f"{option}=x"]


def typed(shelf: Path, line: list[str]) -> Done:
    folder = shelf / "recordings"
    (run,) = recordings(folder)
    words = [run.id if word == "RUN" else word.replace("@", str(shelf)) for word in line]
    return here(folder)(*words)


@pytest.mark.parametrize("language", SPOKEN)
@pytest.mark.loopback
def test_every_error_of_the_shell_is_in_the_persons_language(
    shelf: Path, speaking: Callable[[str], None], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command with a bad argument of each kind, in German and in English: one language."""
    speaking(language)
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    found = []
    for line in (*wrong_lines(), *(usage_lines() if language == "de" else ())):
        done = typed(shelf, line)
        told = done.err.partition("devpipe: ")[2]
        try:
            assert done.status in (0, 1, 2) and told, (line, done)
            assert_one_language(told, language)
        except AssertionError as error:
            found.append(f"{line}: {error}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("language", SPOKEN)
def test_settings_that_are_wrong_are_told_in_the_persons_language(
    shelf: Path, speaking: Callable[[str], None], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable, with a value that is none."""
    speaking(language)
    wrong = {
        "DEVPIPE_SAFETY": "yuth",
        "DEVPIPE_PROVENANCE": "nope",
        "DEVPIPE_BOUNDARY": "lokal",
        "DEVPIPE_BUDGET_USD": "much",
        "DEVPIPE_MODEL_JUDGE": "foo/x",
        "DEVPIPE_MODEL_INTERCEPTION": "ollama",
        "DEVPIPE_OLLAMA_REGION": "moon",
        "DEVPIPE_HOME": "/nowhere",
    }
    for name, value in wrong.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            if name == "DEVPIPE_HOME":
                text = f"DEVPIPE_HOME is {value!r}, which is no workspace."
                told = in_words("shell", f"{text} Correct it, or run `devpipe init {value}`.")
            else:
                told = typed(shelf, ["run", "a"]).err
            assert_one_language(told, language)


def test_many_names_are_three(shelf: Path) -> None:
    """Of what there are many of, the three nearest are named, and how to list all."""
    for kind, line in (
        ("pipelines", ["run", "a", "-p", "nope"]),
        ("outputs", ["run", "a", "-o", "nope"]),
        ("recordings", ["show", "nope"]),
    ):
        told = typed(shelf, line).err
        assert re.search(rf"devpipe list {kind}", told), told
        names = re.search(r"There are: (.*?)\. `", told)
        assert names and len(names[1].split(", ")) <= 4, told
    for line in (["nothing_like_it"], ["run", "a", "-p", "text_to_image"]):
        told = typed(shelf, line).err
        assert told.count(",") <= 4, told


# Cells and pages.


@pytest.mark.parametrize("language", SPOKEN)
def test_an_error_of_a_cell_is_in_its_words_and_in_one_language(
    tmp_path: Path, speaking: Callable[[str], None], language: str
) -> None:
    """What can be typed there: no option that a cell has not, no keyword of Python."""
    speaking(language)
    engine = engine_in(tmp_path)
    shell = Shell(engine=engine)
    devpipe.load_ipython_extension(shell)

    def told(magic: tuple[str, str], *texts: str) -> str:
        with pytest.raises(OneLine) as caught:
            shell.magics[magic](*texts)
        return str(caught.value)

    cell = ("cell", "intercept")
    errors = [
        told(cell, line, text)
        for line, text in (
            ("nope", "a cat"), ("dadda", "a cat"), ("dada -o nope", "a cat"), ("dada", " "),
            ("user_defined", "a cat"), ("dada --instruction x", "a cat"),
            ("dada --seed x --safety nope", "a cat"), ("dada --sed 7", "a cat"), ("dada --seed", "a"),
            ("dada --set width", "a cat"), ("dada --set widht=1", "a cat"), ("dada 'x", "a cat"),
            ("dada -o sketch_control", "a cat"), ("dada -o sketch_fusion --set seed=4", "a cat"),
        )
    ]  # fmt: skip
    errors += [told(("line", "devpipe"), line) for line in ("lst", "list outpts", "show nope")]
    engine.close()
    for error in errors:
        assert_one_language(error, language)
        assert not re.search(r'--join|--mask|--control|--image|instruction="|`devpipe ', error)
    assert any('--instruction "..."' in error for error in errors)


def test_exact_words_on_a_page_are_in_its_language() -> None:
    """Also those that are folded, for an adult."""
    error = DevpipeError("/x cannot be read: Permission denied.", hint="Mend it.")
    assert_one_language(page_problem(error, "de").details, "de")
    assert page_problem(error, "en").details == str(error)


def test_nothing_that_is_raised_speaks_of_two_places_or_in_two_languages() -> None:
    """Each place says its own; the code says neither `in the shell` nor a German sentence."""
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text("utf-8")
        assert "in the shell)" not in text, file
        if file.name == "tour.py" or {"offline", "safety", "text", "comfyui"} & set(file.parts):
            continue  # examples and vocabularies
        for said in re.findall(r'"([^"\n]{20,})"', text):
            assert len(words_of(said) & GERMAN) < 2, (file.name, said)
