"""What is shared by all pages, without a browser: seeds, readiness, visitors, links, endings.

In a real page: tests/browser/test_first_minutes.py.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_widgets import PICTURE, click, idle, seen, small, tree, until, write

from devpipe import Engine
from devpipe.backends.base import Health
from devpipe.cli import new_workspace
from devpipe.errors import Unavailable, UnknownName
from devpipe.record.events import ArtifactWritten
from devpipe.show.host import is_shared_page, served_folder
from devpipe.show.html import file_html, run_html
from devpipe.testing import ScriptedBackend, settings_for_tests
from devpipe.values import LOCAL_COST, TextResult
from devpipe.widgets import Dashboard, RecordingsBrowser, RunPanel
from devpipe.widgets.readiness import find_unreachable, find_unready

VOILA = {"VOILA_PREHEAT": "False", "SERVER_SOFTWARE": "voila/0.5.13"}


class Server(ScriptedBackend):
    """A backend whose server is there or not."""

    def __init__(self, *, ready: bool = True) -> None:
        super().__init__([PICTURE], procedural=False)
        self.ready = ready
        self.looked = 0
        self.answers_looks = threading.Event()
        self.answers_looks.set()

    async def check(self) -> Health:
        self.looked += 1
        while not self.answers_looks.is_set():
            await asyncio.sleep(0)
        return Health(self.ready, detail="nobody answers.", hint="Start it: `studio --serve`.")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with the output `poster` by a backend `studio`, and `stand_in` for it."""
    home = new_workspace.create(tmp_path / "workspace")
    sketch = json.loads((home / "output_configs" / "sketch.json").read_text())
    for name in ("poster", "stand_in"):
        made = sketch | {"name": name, "backend": "studio", "model": "m", "parameters": {}}
        (home / "output_configs" / f"{name}.json").write_text(json.dumps(made))
    return home


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def start(studio: ScriptedBackend | None = None, writer: Any = None, **how: Any) -> Engine:
        settings = replace(settings_for_tests(home), **how)
        backends = {"studio": studio or Server()}
        if writer is not None:
            backends["writer"] = writer
            models = {**settings.models, "interception": "writer"}
            settings = replace(settings, models=models)
        engines.append(Engine(settings=settings, backends=backends))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def german(engine: Engine) -> Dashboard:
    return small(Dashboard(engine, language="de"))


def labels(dash: Dashboard) -> dict[str, str]:
    names = [name for _, name in dash.form.output.options]
    return dict(zip(names, dash.form.output._options_labels, strict=True))


# Seeds.


def test_one_seed_set_is_one_picture(start: Callable[..., Engine]) -> None:
    """Seed 7 three times: equal texts, equal bytes. The text's seed follows, and is shown."""
    dash = german(start())
    files = set()
    for _ in range(3):
        write(dash, "eine rote Katze", "7")
        click(dash, "run")
        assert dash.run and dash.run.summary.started and dash.run.summary.started.text_seed == 7
        files.add(dash.run.files[0].read_bytes())
    assert len(files) == 1
    assert "Seed 7 · Text-Seed 7" in dash.panel.cards["generation"].value


def test_the_texts_seed_can_be_set_by_itself(start: Callable[..., Engine]) -> None:
    """Other words, the same dice for the picture; where neither is set, both are drawn and told."""
    dash = german(start())
    texts = set()
    for text_seed in ("1", "2", "3"):
        write(dash, "eine rote Katze im Regen", "7")
        dash.form.text_seed.value = text_seed
        click(dash, "run")
        assert dash.run and dash.run.seed == 7
        texts.add(dash.run.texts["interception"]["prompt"])
    assert len(texts) > 1
    write(dash, "eine rote Katze im Regen")
    dash.form.text_seed.value = ""
    click(dash, "run")
    assert dash.run and dash.run.summary.started
    assert dash.form.seed.placeholder == f"gelost: {dash.run.seed}"
    drawn = dash.run.summary.started.text_seed
    assert dash.form.text_seed.placeholder == f"gelost: {drawn}"


def test_again_keeps_the_words_unless_their_seed_is_set(start: Callable[..., Engine]) -> None:
    """An earlier run fills both seeds in; a new one for the picture leaves the text as it was."""
    dash = german(start())
    write(dash, "eine rote Katze im Regen", "7")
    dash.form.text_seed.value = "3"
    click(dash, "run")
    assert dash.run
    words, dash.form.text_seed.value = dash.run.texts["interception"], ""
    click(dash, "again_new")
    assert dash.run.texts["interception"] == words
    dash.form.text_seed.value = "4"
    click(dash, "again_same")
    started = dash.run.summary.started
    assert started and started.text_seed == 4 and started.first_stage == "interception"
    dash.history.index = 3  # the first run
    assert (dash.form.seed.value, dash.form.text_seed.value) == ("7", "3")


# Readiness.


async def test_outputs_whose_server_is_away_are_found(start: Callable[..., Engine]) -> None:
    """With the reason, for an adult; those of the paint box are always ready."""
    engine = start(Server(ready=False), safety="adult")
    found = await find_unready(engine, ["poster", "sketch", "sketch_video"])
    assert list(found) == ["poster"] and "studio --serve" in found["poster"][0]
    assert await find_unreachable(engine, "sketch") == ()
    assert await find_unreachable(engine, "poster") == found["poster"]


async def test_an_output_that_another_stands_in_for_is_ready(
    start: Callable[..., Engine], home: Path
) -> None:
    """The chain would go on to the other one, so nothing is refused."""
    config = home / "output_configs" / "poster.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"fallback": ["sketch"]}))
    engine = start(Server(ready=False), safety="adult")
    assert await find_unready(engine, ["poster"]) == {}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"fallback": ["stand_in"]}))
    assert list(await find_unready(engine, ["poster"])) == ["poster"]


async def test_without_a_judge_a_strict_level_makes_nothing(start: Callable[..., Engine]) -> None:
    """That is known before Stage 2 is paid, too."""
    found = await find_unready(start(Server()), ["poster", "sketch"])
    assert list(found) == ["poster"] and "DEVPIPE_MODEL_JUDGE" in found["poster"][0]


def test_an_output_that_cannot_run_is_marked_when_the_page_opens(
    start: Callable[..., Engine],
) -> None:
    """Its label says so, the choice stays, and pressing Run asks no text model."""
    writer = ScriptedBackend([TextResult("umgeschrieben", cost=LOCAL_COST)])
    studio = Server(ready=False)
    engine = start(studio, writer, safety="adult")
    dash = german(engine)
    before = {name: label for name, label in labels(dash).items() if name.startswith("sketch")}
    dash.form.mark_unready(engine.submit(find_unready(engine, ["poster", "sketch"])).result())
    assert labels(dash)["poster"].endswith("– nicht bereit")
    assert before.items() <= labels(dash).items() and dash.form.output.value == "sketch"
    dash.form.output.value = "poster"
    about = dash.form.about["output"].value
    assert "kann hier gerade nicht entstehen" in about
    assert about.index("<details>") < about.index("studio --serve")
    write(dash, "ein Haus")
    click(dash, "run")
    assert "kann hier gerade nicht entstehen" in dash.panel.alert.value
    assert writer.requests == [] and engine.recordings.ids() == []
    studio.ready = True
    click(dash, "run")
    assert dash.run and dash.run.outcome == "completed" and len(writer.requests) == 1
    assert "nicht bereit" not in labels(dash)["poster"]


def test_a_server_that_went_away_meanwhile_costs_nothing(start: Callable[..., Engine]) -> None:
    """It was there when the page opened, and is asked once more before anything is paid."""
    writer = ScriptedBackend([TextResult("umgeschrieben", cost=LOCAL_COST)])
    studio = Server()
    dash = german(start(studio, writer, safety="adult"))
    dash.form.output.value = "poster"
    studio.ready = False
    write(dash, "ein Haus")
    click(dash, "run")
    assert studio.looked == 1 and writer.requests == [] and dash.run is None
    assert not dash.buttons["run"].disabled and dash.buttons["stop"].disabled


def test_a_mistake_is_said_before_anybody_is_asked(start: Callable[..., Engine]) -> None:
    studio = Server()
    dash = german(start(studio, safety="adult"))
    dash.form.output.value = "poster"
    click(dash, "run")
    assert "leer" in dash.panel.alert.value and studio.looked == 0


def test_looking_can_be_stopped_and_begins_once(start: Callable[..., Engine]) -> None:
    """While a server takes its time, a second press begins nothing, and Stop ends the looking."""
    studio = Server()
    studio.answers_looks.clear()
    dash = german(start(studio, safety="adult"))
    dash.form.output.value = "poster"
    write(dash, "ein Haus")
    dash.buttons["run"].click()
    dash.buttons["run"].click()
    assert dash.buttons["run"].disabled and "nachgesehen" in dash.panel.status.value
    dash.buttons["stop"].click()
    idle(dash)
    studio.answers_looks.set()
    assert "Angehalten." in seen(dash) and dash.run is None
    click(dash, "run")
    assert dash.run and dash.run.outcome == "completed"


def test_showing_the_dashboard_looks_around(start: Callable[..., Engine], home: Path) -> None:
    """What a cell shows is asked for, not what a program only makes."""
    for config in (home / "output_configs").glob("*.json"):
        if json.loads(config.read_text())["backend"] == "comfyui":
            config.unlink()  # those would be asked for over the network
    studio = Server(ready=False)
    dash = german(start(studio, safety="adult"))
    assert studio.looked == 0
    dash._repr_mimebundle_()
    until(dash.form.output, "_options_labels", lambda shown: "nicht bereit" in str(shown))
    assert studio.looked == 1 and labels(dash)["poster"].endswith("nicht bereit")


def test_marking_outputs_is_nobodys_act(start: Callable[..., Engine]) -> None:
    """What a person was just told stays in sight while labels change, and their choice, too."""
    dash = german(start())
    dash.form.output.value = "sketch_video"
    dash.buttons["run"].click()
    told = dash.panel.alert.value
    assert "leer" in told
    dash.form.mark_unready({"poster": ["away"], "sketch": ["gone"]})
    assert dash.panel.alert.value == told and dash.form.output.value == "sketch_video"
    assert set(dash.form._controls) == {"sketch", "sketch_video"}
    dash.form.output.index = 0  # by an arrow key: the index is what the page says
    assert dash.form.output.value == dash.form.output.options[0][1]


# What went wrong.


def test_a_failed_start_is_not_beside_a_run_called_done(start: Callable[..., Engine]) -> None:
    """The status speaks of the last act; the run before is shown as such, until the next one."""
    dash = german(start())
    write(dash, "ein Kreis", "7")
    click(dash, "run")
    assert "Fertig" in dash.panel.status.value
    write(dash, "ein Kreis", "sieben")
    dash.buttons["run"].click()
    assert "Fertig" not in dash.panel.status.value and "nichts gestartet" in dash.panel.status.value
    assert "dp-earlier" in dash.panel.widget._dom_classes
    alert = dash.panel.alert.value
    assert "keine ganze Zahl" in alert and "Give" not in alert and "<details>" not in alert
    write(dash, "ein Kreis", "7")
    click(dash, "run")
    assert "dp-earlier" not in dash.panel.widget._dom_classes and dash.panel.alert.value == ""


def test_what_a_backend_says_is_for_adults(start: Callable[..., Engine]) -> None:
    """The page says in German what kind of thing happened; the words of the shell are folded."""
    studio = ScriptedBackend([Unavailable("No studio.", hint="Set STUDIO_URL, or use --local.")])
    engine = start(studio)
    dash = german(engine)
    dash.form.output.value = "poster"
    write(dash, "ein Kreis")
    click(dash, "run")
    assert dash.run is not None
    for page in (dash.panel.alert.value, run_html(dash.run.summary, dash.run.folder)):
        in_sight, _, folded = page.rpartition("<details>")
        assert "nicht zu erreichen" in in_sight and "STUDIO_URL" not in in_sight
        assert "No studio. Set STUDIO_URL, or use --local." in folded


def test_a_fault_of_ours_is_said_in_german_too(start: Callable[..., Engine]) -> None:
    dash = german(start(ScriptedBackend([ZeroDivisionError("oh")])))
    dash.form.output.value = "poster"
    write(dash, "ein Kreis")
    click(dash, "run")
    in_sight, _, folded = dash.panel.alert.value.partition("<details>")
    assert "Fehler in devpipe" in in_sight and "oh" in folded


# Runs without an ending.


def test_an_interrupted_run_has_nothing_under_way(start: Callable[..., Engine]) -> None:
    """Cut off at any event: no card runs, nothing is said to be in the making."""
    run = start().start("ein Kreis", width=64, height=64).wait()
    file = run.folder / "events.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines)):
        file.write_bytes(b"".join(lines[:count]))
        panel = RunPanel(start().recordings.find(run.id), language="de")
        shown = "".join(card.value for card in panel.cards.values())
        assert "dp-is-running" not in shown and "<progress" not in shown
        assert "Unterbrochen" in panel.status.value


def test_a_run_under_way_is_shown_with_the_time(start: Callable[..., Engine]) -> None:
    """What a cell shows stays as it is: "running" alone would be said for ever."""
    begun = threading.Event()

    async def never(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    run = start(ScriptedBackend([never])).start("ein roter Kreis", output="poster")
    assert begun.wait(30)
    assert re.search(r"läuft \(um \d\d:\d\d:\d\d; noch einmal", run_html(run.summary, run.folder))
    run.cancel()


# Visitors.


def test_in_a_shared_page_a_visitor_sees_own_runs_only(
    start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """History, browser, tables, search by id: another visitor's runs are not there."""
    secret = "ein Geheimnis von Mia"
    other = start(environment=VOILA)
    theirs = other.start(secret, pipeline="passthrough", width=64, height=64).wait()
    engine = start(environment=VOILA)
    assert engine.recordings.ids() == [] and len(engine.recordings.runs()) == 0
    dash = german(engine)
    write(dash, "etwas von Tom")
    click(dash, "run")
    assert dash.run is not None
    assert [run_id for _, run_id in dash.history.options] == ["", dash.run.id]
    browser = RecordingsBrowser(engine)
    assert [run_id for _, run_id in browser.list.options] == [dash.run.id]
    tables = engine.recordings
    for table in (tables.runs, tables.stages, tables.texts, tables.events, tables.artifacts,
                  tables.verdicts, tables.attempts):  # fmt: skip
        frame = table()
        assert set(frame["run_id"]) == {dash.run.id} and secret not in frame.to_csv()
    for name in (theirs.id, theirs.id[-6:]):
        with pytest.raises(UnknownName, match="no run") as caught:
            tables.find(name)
        assert theirs.id not in caught.value.hint
    assert secret not in repr([widget.get_state() for widget in tree(dash.widget)])
    assert len(start().recordings.ids()) == 2, "who has the workspace sees all"


def test_the_labels_of_others_are_no_columns_either(start: Callable[..., Engine]) -> None:
    start().start("x y", labels={"child": "Mia"}, width=64, height=64).wait()
    engine = start(environment=VOILA)
    engine.start("a b", width=64, height=64).wait()
    assert "labels.child" not in engine.recordings.runs().columns


@pytest.mark.parametrize(
    ("environment", "shared"),
    [
        (VOILA, True),
        ({"VOILA_BASE_URL": "/"}, True),
        ({"SERVER_SOFTWARE": "nginx", "JPY_PARENT_PID": "1"}, False),
        ({}, False),
    ],
)
def test_a_shared_page_is_known_by_its_host(environment: dict[str, str], shared: bool) -> None:
    assert is_shared_page(environment) is shared


# Links.


@pytest.fixture
def made(start: Callable[..., Engine]) -> tuple[Path, ArtifactWritten]:
    run = start().start("ein Kreis", width=64, height=64).wait()
    return run.folder, run.artifacts[0]


def test_in_a_shared_page_a_files_name_is_the_file(
    made: tuple[Path, ArtifactWritten], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody serves the recordings there: what is small enough is in the page, the rest is named."""
    for name, value in VOILA.items():
        monkeypatch.setenv(name, value)
    folder, artifact = made
    link = file_html(folder, artifact)
    assert re.match(r'<a [^>]*download="[^"/]+\.png" href="data:image/png;base64,', link)
    assert "<a" not in file_html(folder, artifact, limit=10)
    (folder / artifact.path).write_bytes(b"another picture")
    assert "<a" not in file_html(folder, artifact)


def test_a_link_leads_only_where_the_notebooks_server_serves(
    made: tuple[Path, ArtifactWritten],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recordings outside of its folder are named, since a link would be a 404."""
    folder, artifact = made
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    note = runtime / f"jpserver-{os.getpid()}.json"
    assert served_folder() is None and "<a" in file_html(folder, artifact)
    note.write_text(json.dumps({"root_dir": str(home)}))
    assert served_folder() == home and "<a" in file_html(folder, artifact)
    note.write_text(json.dumps({"root_dir": str(home / "notebooks")}))
    assert "<a" not in file_html(folder, artifact) and artifact.path in file_html(folder, artifact)
    note.write_text("torn")
    assert served_folder() is None


def test_a_film_stands_still_until_it_is_started(start: Callable[..., Engine]) -> None:
    """The picture in sight does not move; the one that does is folded, with a button's words."""
    how = {"frames": 8, "width": 64, "height": 64}
    run = start().start("ein roter Kreis", output="sketch_video", parameters=how).wait()
    panel = RunPanel(run.recording, language="de")
    for page in (run_html(run.summary, run.folder), panel.cards["generation"].value):
        still, _, folded = page.partition(
            '<details><summary data-lm-suppress-shortcuts="true"><span'
        )
        assert "data:image/webp" in still and "Film abspielen" in folded
        sources = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
        moves = [b"ANIM" in base64.b64decode(one) for one in sources]
        assert moves == [False, True], "sent once, the moving one"
