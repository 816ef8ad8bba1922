"""Widgets without a page or a kernel: controls are set, buttons clicked, and what people would see
is read.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ipywidgets import HTML
from ipywidgets.widgets.widget import _instances

from devpipe import Engine
from devpipe.cli import new_workspace
from devpipe.errors import Unavailable, UsageError
from devpipe.media.pictures import encode_png
from devpipe.offline.sketch import compose
from devpipe.testing import ScriptedBackend, settings_for_tests
from devpipe.values import LOCAL_COST, Media, TextResult
from devpipe.widgets import Dashboard, RecordingsBrowser, RunPanel
from devpipe.widgets.follow import follow, guarded

XSS = "<img src=x onerror=window.xss=1>"
PATIENCE_S = 30
PICTURE = Media(
    encode_png(compose("ein Kreis", seed=1, width=64, height=64)),
    "image/png",
    alt=f"ein Kreis {XSS}",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with one more output, `scripted`, made by whatever backend a test brings."""
    home = new_workspace.create(tmp_path / "workspace")
    sketch = json.loads((home / "output_configs" / "sketch.json").read_text())
    scripted = sketch | {
        "name": "scripted",
        "backend": "script",
        "model": "script",
        "parameters": {},
    }
    (home / "output_configs" / "scripted.json").write_text(json.dumps(scripted))
    return home


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Engine]]:
    """Makes engines on the workspace: their media by a script, their texts too where `texts` are
    given.
    """
    engines: list[Engine] = []

    def start(*answers: Any, texts: list[Any] | None = None) -> Engine:
        settings = settings_for_tests(home)
        backends = {
            "script": ScriptedBackend(answers or [PICTURE]),
            "writer": ScriptedBackend(texts or [""]),
        }
        if texts:
            settings = replace(settings, models={**settings.models, "interception": "writer"})
        engines.append(Engine(settings=settings, backends=backends))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture
def dash(start: Callable[..., Engine]) -> Iterator[Dashboard]:
    dash = small(Dashboard(start(), language="en"))
    yield dash
    dash.close()


def small(dash: Dashboard) -> Dashboard:
    """Pictures that are quickly drawn."""
    for name in ("width", "height"):
        dash.form._controls["sketch"][name].value = 64
    return dash


def until(widget: Any, name: str, holds: Callable[[Any], bool]) -> None:
    """Wait for the engine's thread to bring a trait to a value."""
    reached = threading.Event()

    def look(_: object = None) -> None:
        if holds(getattr(widget, name)):
            reached.set()

    widget.observe(look, name)
    look()
    assert reached.wait(PATIENCE_S), f"{name} stayed {getattr(widget, name)!r}"
    widget.unobserve(look, name)


def idle(dash: Dashboard) -> None:
    until(dash.buttons["run"], "disabled", lambda disabled: not disabled)


def click(dash: Dashboard, button: str) -> None:
    """Click and wait until nothing is under way."""
    dash.buttons[button].click()
    idle(dash)


def write(dash: Dashboard, text: str, seed: str = "") -> None:
    dash.form.texts["prompt"].value, dash.form.seed.value = text, seed


def seen(dash: Dashboard) -> str:
    """All HTML of the dashboard."""
    return "".join(
        widget.value
        for widget in tree(dash.widget)
        if isinstance(widget, HTML) and "<style>" not in widget.value
    )


def tree(widget: Any) -> list[Any]:
    return [widget, *(found for child in getattr(widget, "children", ()) for found in tree(child))]


def turn(dash: Dashboard, stage: int) -> None:
    """Wait until it is the person's turn after this stage."""
    until(dash.panel.status, "value", lambda value: f"Stage {stage} of 4 is done" in value)


def upload(widget: Any, data: bytes) -> None:
    file = {
        "name": "a.png",
        "type": "image/png",
        "size": len(data),
        "content": memoryview(data),
        "last_modified": datetime.now(UTC),
    }
    widget.value = (file,)


def recordings(dash: Dashboard) -> list[str]:
    return dash.engine.recordings.ids()


def test_a_run_shows_every_stage_and_the_picture(dash: Dashboard) -> None:
    """After Run the texts of the stages, the verdict, and the picture with its alternative text are
    there.
    """
    write(dash, "eine rote Katze", "7")
    click(dash, "run")
    assert dash.run is not None and dash.run.outcome == "completed" and dash.run.seed == 7
    cards = {stage: card.value for stage, card in dash.panel.cards.items()}
    assert "eine rote Katze" in cards["input"] and "dp-is-completed" in cards["input"]
    assert dash.run.texts["interception"]["prompt"][:20] in cards["interception"].replace(
        "&quot;", '"'
    )
    assert "checked by rules" in cards["pre_output"]
    assert re.search(
        r'<img alt="[^"]*Katze[^"]*" src="data:image/webp;base64,', cards["generation"]
    )
    assert (
        "Done in" in dash.panel.status.value
        and 'role="status" aria-live="polite"' in dash.panel.status.value
    )
    assert dash.panel.alert.value == ""


def test_again_makes_another_picture_of_the_same_text(dash: Dashboard) -> None:
    """This seed, a seed typed in, a new seed: each is a run of its own whose parent is the one
    shown; the text is not written anew.
    """
    write(dash, "eine rote Katze", "7")
    click(dash, "run")
    first = dash.run
    seeds = []
    for button, typed in (("again_same", ""), ("again_same", "8"), ("again_new", "9")):
        parent = dash.run
        dash.form.seed.value = typed
        click(dash, button)
        assert dash.run is not None and parent is not None and first is not None
        assert dash.run.summary.started and dash.run.summary.started.parent == parent.id
        assert dash.run.texts["interception"] == first.texts["interception"]
        assert "taken over" in dash.panel.cards["interception"].value
        seeds.append(dash.run.seed)
    assert seeds[:2] == [7, 8] and seeds[2] not in (7, 8, 9)
    assert f"drawn: {seeds[2]}" in dash.form.seed.placeholder and dash.form.seed.value == ""


def test_what_the_form_says_is_what_is_asked(dash: Dashboard) -> None:
    """Settings of the output reach the run."""
    write(dash, "ein Kreis")
    dash.form._controls["sketch"]["width"].value = 96
    click(dash, "run")
    assert (
        dash.run
        and dash.run.summary.started
        and dash.run.summary.started.parameters == {"width": 96, "height": 64, "count": 1}
    )


def test_the_number_of_widgets_stays(dash: Dashboard) -> None:
    """Fifty pictures need no widget more than one."""
    write(dash, "ein Kreis")
    click(dash, "run")
    before = len(_instances)
    for _ in range(49):
        click(dash, "again_new")
    assert len(_instances) == before
    assert len(recordings(dash)) == 50


def test_a_cell_run_three_times_has_one_dashboard(start: Callable[..., Engine]) -> None:
    """Each build closes the one before, its widgets too; one click is one recording."""
    Dashboard(start()).close()
    before = len(_instances)
    engine = start()
    built = [small(Dashboard(engine)) for _ in range(3)]
    one = len(_instances) - before
    assert built[0].widget.comm is None and built[2].widget.comm is not None
    write(built[2], "ein Kreis")
    click(built[2], "run")
    assert len(recordings(built[2])) == 1
    built[2].close()
    assert one < 200 and len(_instances) == before


@pytest.mark.parametrize(
    ("text", "seed", "said"),
    [
        ("", "", "The prompt is empty."),
        ("x" * 50_000, "", "at most 10000"),
        ("\x00\x07", "", "empty"),
        ("ok", "1.5", "no integer"),
    ],
)
def test_a_mistake_is_an_alert(dash: Dashboard, text: str, seed: str, said: str) -> None:
    """A mistake is said where it is seen, with what to do, and nothing is recorded; the next act
    takes it away.
    """
    write(dash, text, seed)
    dash.buttons["run"].click()
    assert 'role="alert"' in dash.panel.alert.value and said in dash.panel.alert.value
    assert recordings(dash) == [] and not dash.buttons["run"].disabled
    write(dash, "ein Kreis")
    click(dash, "run")
    assert dash.panel.alert.value == ""


@pytest.mark.parametrize("text", ["🦊🌧️🏠", "قطة حمراء في المطر", "a\u202eb"])
def test_any_script_is_taken(dash: Dashboard, text: str) -> None:
    """Emoji and right-to-left texts go through, each shown in its own direction."""
    dash.form.pipeline.value = "passthrough"
    write(dash, text)
    click(dash, "run")
    assert dash.run and dash.run.outcome == "completed"
    assert (
        'dir="auto"' in dash.panel.cards["input"].value and text in dash.panel.cards["input"].value
    )


def test_what_others_say_is_shown_and_not_run(start: Callable[..., Engine]) -> None:
    """HTML in a prompt, a model's answer, an alternative text and a server's error stands there as
    text.
    """
    engine = start(
        PICTURE,
        Unavailable(f"no {XSS}", hint=f"try {XSS}"),
        texts=[TextResult(f"rewritten {XSS}", model=XSS, cost=LOCAL_COST)],
    )
    dash = Dashboard(engine, language="en")
    dash.form.output.value = "scripted"
    for said in ("rewritten &lt;img", "no &lt;img"):
        write(dash, f"ein Kreis {XSS}")
        click(dash, "run")
        assert said in seen(dash) and XSS not in seen(dash)
    assert "try &lt;img" in dash.panel.alert.value
    dash.close()


def test_a_failed_run_says_why(start: Callable[..., Engine]) -> None:
    """A backend's error is an alert with its hint; the stage that failed is marked."""
    dash = Dashboard(
        start(Unavailable("The studio is closed.", hint="Come back tomorrow.")), language="en"
    )
    dash.form.output.value = "scripted"
    write(dash, "ein Kreis")
    click(dash, "run")
    assert (
        "The studio is closed." in dash.panel.alert.value
        and "Come back tomorrow." in dash.panel.alert.value
    )
    assert "dp-is-failed" in dash.panel.cards["generation"].value
    dash.close()


def test_a_recording_that_cannot_be_written_is_said(
    start: Callable[..., Engine], home: Path
) -> None:
    """Where even the first event finds no place, the person hears of it."""
    dash = Dashboard(start(), language="en")
    (home / "recordings" / "README.md").unlink()
    (home / "recordings").rmdir()
    (home / "recordings").write_text("in the way")
    write(dash, "ein Kreis")
    dash.buttons["run"].click()
    until(dash.panel.alert, "value", lambda value: 'role="alert"' in value)
    dash.close()


def test_a_fault_of_ours_is_seen_with_its_details() -> None:
    """No exception in a callback is swallowed, whatever it is."""
    alert = HTML()

    def broken() -> None:
        raise ZeroDivisionError(XSS)

    guarded(broken, alert)()
    assert (
        "ZeroDivisionError" in alert.value
        and "<details>" in alert.value
        and "test_widgets.py" in alert.value
    )
    assert XSS not in alert.value and 'role="alert"' in alert.value


def test_stop_ends_what_is_under_way(start: Callable[..., Engine]) -> None:
    """Stop cancels the run and the backend's work; then another one can begin."""
    begun = threading.Event()

    async def never(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    engine = start(never)
    dash = Dashboard(engine, language="en")
    dash.form.output.value = "scripted"
    write(dash, "ein Kreis")
    dash.buttons["run"].click()
    assert (
        begun.wait(PATIENCE_S)
        and dash.buttons["run"].disabled
        and not dash.buttons["stop"].disabled
    )
    dash.buttons["run"].click()
    dash.buttons["stop"].click()
    idle(dash)
    assert dash.run and dash.run.outcome == "cancelled" and "Stopped." in dash.panel.status.value
    assert engine.backends["script"].cancelled == 1 and len(recordings(dash)) == 1  # type: ignore[attr-defined]
    dash.close()


def test_step_by_step_each_text_can_be_changed(dash: Dashboard) -> None:
    """After each stage the person sees its text and may change it; what is drawn is the last
    wording.
    """
    dash.stepwise.value = True
    write(dash, "ein Wald", "5")
    dash.buttons["run"].click()
    turn(dash, 1)
    assert dash.edits["prompt"].value == "ein Wald" and dash.turn.layout.display is None
    dash.edits["prompt"].value = "ein roter Wald"
    dash.buttons["go_on"].click()
    turn(dash, 2)
    assert dash.run and dash.edits["prompt"].value == dash.run.texts["interception"]["prompt"]
    dash.edits["prompt"].value = "zwei blaue Kreise"
    dash.buttons["go_on"].click()
    turn(dash, 3)
    assert "your own wording" in dash.panel.cards["interception"].value
    click(dash, "go_on")
    assert dash.run.outcome == "completed" and dash.run.seed == 5
    assert (
        dash.run.texts["input"]["prompt"] == "ein roter Wald"
        and dash.run.texts["interception"]["prompt"] == "zwei blaue Kreise"
    )
    assert dash.turn.layout.display == "none"


def test_a_text_emptied_on_the_way_can_be_mended(dash: Dashboard) -> None:
    """A wording that cannot be taken is an alert; the run waits for a better one."""
    dash.stepwise.value = True
    write(dash, "ein Wald")
    dash.buttons["run"].click()
    turn(dash, 1)
    dash.buttons["go_on"].click()
    turn(dash, 2)
    dash.edits["prompt"].value = "  "
    dash.buttons["go_on"].click()
    until(dash.panel.alert, "value", lambda value: "is empty" in value)
    until(dash.buttons["go_on"], "disabled", lambda disabled: not disabled)
    dash.edits["prompt"].value = "ein Kreis"
    dash.buttons["go_on"].click()
    turn(dash, 3)
    click(dash, "go_on")
    assert dash.run and dash.run.outcome == "completed"


def test_a_run_that_waits_can_be_stopped(dash: Dashboard) -> None:
    """Stop also ends a run whose next step nobody has asked for."""
    dash.stepwise.value = True
    write(dash, "ein Wald")
    dash.buttons["run"].click()
    turn(dash, 1)
    click(dash, "stop")
    assert dash.run and dash.run.outcome == "cancelled" and dash.turn.layout.display == "none"


def test_two_texts_are_edited_side_by_side(dash: Dashboard) -> None:
    """An interception that answers in two parts offers both."""
    dash.form.pipeline.value, dash.form.output.value = "split_and_combine", "sketch_fusion"
    dash.stepwise.value = True
    write(dash, "ein Haus am Meer und ein Wald voller Vögel")
    dash.buttons["run"].click()
    turn(dash, 1)
    assert dash.edits["prompt_2"].layout.display == "none"
    dash.buttons["go_on"].click()
    turn(dash, 2)
    assert dash.edits["prompt_2"].layout.display is None and dash.edits["prompt_2"].value
    click(dash, "stop")


def test_a_blocked_text_is_answered_kindly(dash: Dashboard) -> None:
    """The reason is in sight, the cause folded, nothing was drawn, and it is no error."""
    write(dash, "eine Rohrbombe")
    click(dash, "run")
    assert dash.run and dash.run.outcome == "blocked"
    card = dash.panel.cards["input"].value
    assert 'class="dp-blocked"' in card and "<details>" in card.split("dp-blocked")[1]
    assert "Stopped by the check." in dash.panel.status.value and dash.panel.alert.value == ""
    assert "<img" not in dash.panel.cards["generation"].value


def test_earlier_runs_come_back_with_a_new_engine(
    dash: Dashboard, start: Callable[..., Engine]
) -> None:
    """What a dead kernel showed is chosen from the list: the panel as it was, and the form filled
    in.
    """
    write(dash, "drei gelbe Monde", "11")
    click(dash, "run")
    shown = {stage: card.value for stage, card in dash.panel.cards.items()}
    again = Dashboard(start(), language="en")
    assert "drei gelbe Monde" in again.history.options[1][0]
    again.history.index = 1
    assert {stage: card.value for stage, card in again.panel.cards.items()} == shown
    asked = again.form.asked()
    assert (
        asked["prompt"] == {"prompt": "drei gelbe Monde"}
        and asked["seed"] == 11
        and asked["parameters"]["width"] == 64
    )
    click(again, "again_new")
    assert (
        again.run
        and again.run.summary.started
        and again.run.summary.started.relation == "regenerated"
    )
    again.close()


def test_a_picture_is_made_again_from_itself(dash: Dashboard) -> None:
    """A picture of ours fills the form with its request; Run then makes the same bytes."""
    write(dash, "ein weißes Haus am Meer", "21")
    click(dash, "run")
    assert dash.run
    first = dash.run.files[0].read_bytes()
    write(dash, "etwas anderes", "1")
    upload(dash.picture, first)
    assert dash.panel.alert.value == "" and dash.form.seed.value == "21"
    assert dash.form.texts["prompt"].value == dash.run.texts["interception"]["prompt"]
    click(dash, "run")
    assert dash.run.files[0].read_bytes() == first


def test_a_picture_that_says_nothing_is_refused(dash: Dashboard) -> None:
    """Someone else's picture, no picture, and a request that cannot be filled in are alerts; the
    form stays.
    """
    write(dash, "mein Text")
    for data in (PICTURE.data, b"no picture", b""):
        upload(dash.picture, data)
        assert "does not say how it was made" in dash.panel.alert.value
    assert dash.form.texts["prompt"].value == "mein Text"


@pytest.mark.parametrize(
    "request_",
    [
        {"texts": {}},
        {"texts": "x"},
        {"texts": {"prompt": "x"}, "pipeline": "nope", "output": "sketch"},
        {"seed": 0},
    ],
)
def test_a_strange_request_in_a_picture_changes_nothing(
    dash: Dashboard, request_: dict[str, Any]
) -> None:
    """Metadata are foreign data: what this workspace cannot do is said, and the form stays as it
    was.
    """
    from devpipe.media.provenance import BY_PROCEDURE, Provenance, stamp

    told = {"texts": {"prompt": "x"}, "pipeline": "dada", "output": "sketch", "seed": 1} | request_
    write(dash, "mein Text", "3")
    upload(
        dash.picture,
        stamp(PICTURE.data, "image/png", Provenance(BY_PROCEDURE, "devpipe", request=told)),
    )
    assert 'role="alert"' in dash.panel.alert.value
    assert (dash.form.texts["prompt"].value, dash.form.seed.value, dash.form.pipeline.value) == (
        "mein Text",
        "3",
        "dada",
    )


def test_the_form_shows_what_the_choice_needs(dash: Dashboard) -> None:
    """A second text, an instruction and pictures are asked for only where they are used, and
    settings are the output's own.
    """

    def shown() -> set[str]:
        form = dash.form
        widgets = {
            "prompt_2": form.texts["prompt_2"],
            "instruction": form.instruction,
            **form.uploads,
        }
        return {name for name, widget in widgets.items() if widget.layout.display != "none"}

    assert shown() == set()
    dash.form.output.value = "sketch_fusion"
    assert shown() == {"prompt_2"} and "alpha" in dash.form.asked()["parameters"]
    dash.form.output.value = "sketch_inpaint"
    assert shown() == {"image", "mask"}
    dash.form.output.value, dash.form.pipeline.value = "sketch_control", "user_defined"
    assert shown() == {"control", "instruction"}


def test_a_missing_picture_is_asked_for(dash: Dashboard) -> None:
    """An output that needs a picture says so; with it the run goes through."""
    dash.form.output.value = "sketch_control"
    write(dash, "ein Kreis")
    dash.buttons["run"].click()
    assert "needs a picture as control" in dash.panel.alert.value
    upload(dash.form.uploads["control"], PICTURE.data)
    for name in ("width", "height"):
        dash.form._controls["sketch_control"][name].value = 64
    click(dash, "run")
    assert (
        dash.run
        and dash.run.outcome == "completed"
        and dash.run.summary.attachments[0].name == "control"
    )


def test_every_control_has_a_name_and_safety_is_none_of_them(dash: Dashboard) -> None:
    """Screen readers find a name on each control; the safety level is shown and cannot be set."""
    controls = [
        widget
        for widget in tree(dash.widget)
        if "description" in widget.trait_names() and not isinstance(widget, HTML)
    ]
    assert len(controls) > 15 and all(widget.description.strip() for widget in controls)
    assert "Safety: youth" in seen(dash)
    assert not any("afety" in widget.description for widget in controls)


def test_it_speaks_german(start: Callable[..., Engine]) -> None:
    """Labels, status and titles are German on request."""
    dash = Dashboard(start(), language="de")
    assert dash.buttons["run"].description == "Los" and "Bereit." in dash.panel.status.value
    assert ("Das Gegenteil", "the_opposite") in dash.form.pipeline.options
    dash.close()


def test_a_stored_run_looks_as_it_did_live(start: Callable[..., Engine]) -> None:
    """One fold: the panel of a recording is the panel that followed the run, also with many
    iterations.
    """
    run = start().start("ein roter Kreis", pipeline="stille_post", seed=3, width=64, height=64)
    live = RunPanel(run, language="en")
    run.wait()
    until(live.status, "value", lambda value: "Done in" in value)
    stored = RunPanel(run.recording, language="en")
    assert {s: c.value for s, c in live.cards.items()} == {
        s: c.value for s, c in stored.cards.items()
    }
    assert live.status.value == stored.status.value
    assert "On the way: 7" in stored.cards["interception"].value
    assert (
        repr(stored) == f"RunPanel({run.recording!r})"
        and "text/plain" in stored._repr_mimebundle_()
    )


@pytest.mark.parametrize("output", ["sketch_video", "sketch_sound"])
def test_films_and_sounds_are_played_in_place(start: Callable[..., Engine], output: str) -> None:
    """What moves or sounds has its element and its name."""
    how = {
        "sketch_video": {"frames": 8, "width": 64, "height": 64, "format": "mp4"},
        "sketch_sound": {"seconds": 1.0},
    }[output]
    run = start().start("ein roter Kreis", output=output, parameters=how)
    panel = RunPanel(run.wait().recording)
    element = {"sketch_video": "<video controls", "sketch_sound": "<audio controls"}[output]
    assert (
        element in panel.cards["generation"].value
        and 'aria-label="' in panel.cards["generation"].value
    )


def test_a_film_that_is_gone_is_missed_in_the_language_of_the_page(
    start: Callable[..., Engine],
) -> None:
    """Also what comes from the room `show` speaks as the page does."""
    how = {"frames": 8, "width": 64, "height": 64, "format": "mp4"}
    run = start().start("ein roter Kreis", output="sketch_video", parameters=how).wait()
    run.files[0].unlink()
    for language, said in [("de", "fehlt oder wurde verändert"), ("en", "is missing or changed")]:
        panel = RunPanel(run.recording, language=language)
        assert said in panel.cards["generation"].value


def test_text_appears_while_it_is_written(start: Callable[..., Engine]) -> None:
    """Pieces of a text are shown as they stream, before the stage ends."""
    seen: list[str] = []
    go_on = threading.Event()

    async def wait(_: object) -> TextResult:
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        return TextResult(f"{XSS} und viele Wörter", cost=LOCAL_COST)

    run = start(texts=[wait]).start("ein Kreis", pipeline="dada", output="scripted")
    panel = RunPanel(run, language="en")
    panel.cards["interception"].observe(lambda change: seen.append(change["new"]), "value")
    go_on.set()
    run.wait()
    assert any(
        "dp-streaming" in value and "&lt;img" in value for value in seen
    ) and "<img" not in "".join(seen)


def test_a_run_whose_process_died_says_so(start: Callable[..., Engine]) -> None:
    """A recording without an ending is shown as interrupted."""
    run = start().start("ein Kreis", width=64, height=64).wait()
    events = run.folder / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:6]))
    panel = RunPanel(start().recordings.find(run.id), language="en")
    assert "Interrupted" in panel.status.value


def test_a_callback_that_fails_is_seen_and_called_again(start: Callable[..., Engine]) -> None:
    """Whoever follows a run hears of all its events, also after a mistake of their own."""
    alert, heard = HTML(), []

    def on_event(summary: Any, event: Any) -> None:
        heard.append((summary.events, event.type))
        raise KeyError("mine")

    run = start().start("ein Kreis", width=64, height=64)
    follow(run, on_event, alert=alert)
    run.wait()
    kinds = [kind for _, kind in heard]
    assert "KeyError" in alert.value and kinds[0] == "run_started" and kinds[-1] == "run_finished"
    assert heard[-1][0] == len(run.events)


def test_without_an_alert_of_its_own_a_widget_gets_one_below_the_cell(
    start: Callable[..., Engine], capsys: Any
) -> None:
    """What goes wrong in a callback is seen there, also where the widget has no place for it."""
    run = start().start("ein Kreis", width=64, height=64).wait()
    before = set(_instances)
    follow(run, lambda summary, event: 1 / 0)
    (alert,) = [
        widget
        for name, widget in _instances.items()
        if name not in before and isinstance(widget, HTML)
    ]
    assert "ZeroDivisionError" in alert.value and "HTML(" in capsys.readouterr().out


def test_a_panel_follows_one_run_at_a_time(start: Callable[..., Engine]) -> None:
    """After it has turned to another run the first one changes nothing in it."""
    engine = start()
    first, second = (
        engine.start(text, pipeline="passthrough", width=64, height=64)
        for text in ("erster Text", "zweiter Text")
    )
    panel = RunPanel(first)
    panel.show(second)
    first.wait(), second.wait()
    until(panel.cards["input"], "value", lambda value: "zweiter" in value)
    assert "erster" not in "".join(card.value for card in panel.cards.values())


def test_the_browser_shows_the_chosen_run(start: Callable[..., Engine]) -> None:
    """All runs, newest first; choosing one opens it."""
    engine = start()
    runs = [
        engine.start(text, pipeline="passthrough", width=64, height=64).wait()
        for text in ("alt", "neu")
    ]
    browser = RecordingsBrowser(engine, language="en")
    assert [run_id for _, run_id in browser.list.options] == [runs[1].id, runs[0].id]
    browser.list.value = runs[0].id
    assert (
        "alt" in browser.panel.cards["input"].value and repr(browser) == "RecordingsBrowser(2 runs)"
    )


def test_without_ipywidgets_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing widget library is a sentence, not a traceback."""
    import sys

    import devpipe.widgets

    for name in [name for name in sys.modules if name.startswith("devpipe.widgets.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(UsageError, match=r"pip install .*devpipe-lab\[lab\]"):
        _ = devpipe.widgets.Dashboard
