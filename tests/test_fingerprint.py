"""One identity for batch, regenerate, replay and resume: what was made, not what it is called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contexts import Written
from engines import REPOSITORY

from devpipe import Engine, Settings, UsageError
from devpipe.backends.base import Backend
from devpipe.batch.weights import Match
from devpipe.errors import Unavailable
from devpipe.record.events import AttemptStarted, RunStarted, Warned
from devpipe.values import STAGES, TextResult

SMALL = {"width": 64, "height": 64}
HOUSE = "ein Haus am See"


class Workshop:
    """A workspace of its own with the pipeline `meins`, and engines on it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        for name in ("pipelines", "output_configs"):
            shutil.copytree(REPOSITORY / name, self.home / name)
        self.pipeline = self.home / "pipelines" / "meins.json"
        dada = (self.home / "pipelines" / "dada.json").read_text("utf-8")
        self.pipeline.write_text(dada.replace('"name": "dada"', '"name": "meins"'), "utf-8")
        self._engines: list[Engine] = []

    def engine(self, *, models: dict[str, str] | None = None, **backends: Backend) -> Engine:
        """An engine as a new process would make it."""
        environ = {f"DEVPIPE_MODEL_{task.upper()}": chain for task, chain in (models or {}).items()}
        settings = Settings.load(self.home, environ=environ, backends=backends)
        self._engines.append(Engine(settings=settings, backends=backends))
        return self._engines[-1]

    def edit(self, file: Path, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a config file as a person would."""
        config = json.loads(file.read_text("utf-8"))
        change(config)
        file.write_text(json.dumps(config), "utf-8")

    def amplify(self) -> None:
        """Make `meins` another attitude under the same name."""
        self.edit(self.pipeline, lambda config: config["steps"][0].update(procedure="amplify"))

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.close()


def plan(*prompts: str, **more: Any) -> dict[str, Any]:
    parameters = {name: [value] for name, value in SMALL.items()}
    given = {"name": "haltung", "prompts": list(prompts), "pipelines": ["meins"]}
    return given | {"parameters": parameters} | more


def outcomes(report: Any) -> list[tuple[bool, str]]:
    """Of each cell whether it was done earlier, and why what was there is another result."""
    return [(row.earlier, row.stale) for row in report.rows]


# Case 01: the same names, another thing.


async def test_a_cell_of_an_edited_pipeline_is_stale_and_made_anew(workshop: Workshop) -> None:
    """The interception is the experimental factor: an old text never stands for a new attitude."""
    first = await workshop.engine().batch(plan(HOUSE))
    workshop.amplify()
    engine = workshop.engine()
    forecast = engine.forecast(plan(HOUSE))
    assert (forecast.done, forecast.stale) == (0, 1) and "pipeline" in str(forecast)
    second = await engine.batch(plan(HOUSE))
    assert outcomes(second) == [(False, "pipeline")] and "stale" in str(second)
    runs = engine.recordings.runs()
    assert set(runs["run_id"]) == {first.rows[0].run_id, second.rows[0].run_id}
    third = await workshop.engine().batch(plan(HOUSE))
    assert outcomes(third) == [(True, "")] and third.rows[0].run_id == second.rows[0].run_id


async def test_a_cell_of_another_text_model_is_stale(workshop: Workshop) -> None:
    """The model that would be asked is asked, and counted on the second time."""
    await workshop.engine().batch(plan(HOUSE))
    model = Written("Ein ganz anderer Text vom Modell")
    for earlier, stale in ((False, "models"), (True, "")):
        engine = workshop.engine(models={"interception": "near/x"}, near=model)
        assert outcomes(await engine.batch(plan(HOUSE))) == [(earlier, stale)]
    assert len(model.requests) == 1


async def test_a_cell_of_other_weights_under_the_same_name_is_stale(workshop: Workshop) -> None:
    """`llama3:latest` is another model after a pull; one that is down leaves the cell unverified."""
    models = {"interception": "near/x"}
    await _batch_with(workshop, models, weights="sha256:a", now="sha256:a")
    same = await _batch_with(workshop, models, weights="sha256:a", now="sha256:a")
    assert outcomes(same) == [(True, "")] and not same.rows[0].unverified
    down = await _batch_with(workshop, models, weights="", now="")
    assert outcomes(down) == [(True, "")] and down.rows[0].unverified
    assert "unverified" in str(down)
    other = await _batch_with(workshop, models, weights="sha256:b", now="sha256:b")
    assert outcomes(other) == [(False, "the model's weights")]


async def _batch_with(workshop: Workshop, models: dict[str, str], *, weights: str, now: str) -> Any:
    answer = TextResult("Ein Text.", model="x", digest=weights)
    return await workshop.engine(models=models, near=Written(answer, digest=now)).batch(plan(HOUSE))


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda config: config.update(title={"en": "Mine", "de": "Meins"}), ""),
        (lambda config: config.update(price_usd=1.0), ""),
        (lambda config: config["parameters"]["width"]["description"].update(en="How wide."), ""),
        (lambda config: config.update(version=2), "output"),
        (lambda config: config["parameters"]["contrast"].update(default=2.0), "parameters"),
    ],
    ids=["title", "price", "words", "version", "default"],
)
async def test_an_output_is_another_where_something_else_is_sent(
    workshop: Workshop, change: Callable[[dict[str, Any]], None], stale: str
) -> None:
    """What people only read decides nothing; a default that nobody overrides is sent."""
    contrast = {"type": "number", "description": {"en": "x", "de": "x"}, "default": 1.0}
    sketch = workshop.home / "output_configs" / "sketch.json"
    workshop.edit(sketch, lambda config: config["parameters"].update(contrast=contrast))
    await workshop.engine().batch(plan(HOUSE))
    workshop.edit(sketch, change)
    assert outcomes(await workshop.engine().batch(plan(HOUSE))) == [(not stale, stale)]


async def test_an_edited_output_keeps_the_text(workshop: Workshop) -> None:
    """Stage 2 is untouched: no text model is asked, and no text is paid for, again."""
    model = Written("Ein Text vom Modell.")
    models = {"interception": "near/x"}
    await workshop.engine(models=models, near=model).batch(plan(HOUSE))
    sketch = workshop.home / "output_configs" / "sketch.json"
    workshop.edit(sketch, lambda config: config.update(version=9))
    report = await workshop.engine(models=models, near=model).batch(plan(HOUSE))
    assert outcomes(report) == [(False, "output")] and len(model.requests) == 1


# Case 03: one line more.


async def test_one_more_line_makes_only_the_new_cells(workshop: Workshop) -> None:
    """The batch has the name that the person chose; each cell is what it is."""
    first = await workshop.engine().batch(plan("ein Haus", "ein Baum"))
    grown = plan("ein Haus", "ein Baum", "ein Boot")
    forecast = workshop.engine().forecast(grown)
    assert (forecast.runs, forecast.done, forecast.interceptions) == (3, 2, 1)
    second = await workshop.engine().batch(grown)
    assert outcomes(second) == [(True, ""), (True, ""), (False, "")]
    assert second.batch == first.batch == "haltung"
    assert len(workshop.engine().recordings.runs()) == 3


# Case 08: a derived run reads the recording.


async def _source(workshop: Workshop) -> Any:
    how: dict[str, Any] = {"pipeline": "meins", "seed": 1, "text_seed": 5, **SMALL}
    return await workshop.engine().run(HOUSE, **how)


def _asked(run: Any) -> list[str]:
    return [one.event.task for one in run.events if isinstance(one.event, AttemptStarted)]


@pytest.mark.parametrize("fate", ["edited", "deleted", "broken"])
async def test_regenerate_reuses_the_text_whatever_became_of_the_file(
    workshop: Workshop, fate: str
) -> None:
    """Another seed is another picture of the same text; the run says that the file has changed."""
    source = await _source(workshop)
    if fate == "edited":
        workshop.amplify()
    elif fate == "deleted":
        workshop.pipeline.unlink()
    else:
        workshop.pipeline.write_text("{", "utf-8")
    again = await workshop.engine().regenerate(source.id, seed=3)
    assert again.texts == source.texts and _asked(again) == ["media"]
    notes = [one.event.message for one in again.events if isinstance(one.event, Warned)]
    assert len(notes) == 1 and "pipelines/meins.json" in notes[0] and "today=True" in notes[0]


async def test_a_named_pipeline_is_read_as_it_is_now(workshop: Workshop) -> None:
    """`-p meins` rewrites, and so does `today`, where the file was edited; else nothing changes."""
    source = await _source(workshop)
    engine = workshop.engine()
    for changes in ({"pipeline": "meins"}, {"today": True}):
        assert _asked(await engine.regenerate(source.id, seed=3, **changes)) == ["media"]
    workshop.amplify()
    for changes in ({"pipeline": "meins"}, {"today": True}):
        again = await engine.regenerate(source.id, seed=3, **changes)
        assert again.texts["interception"] != source.texts["interception"]
        assert not [one for one in again.events if isinstance(one.event, Warned)]


async def test_another_text_model_changes_no_derived_run(workshop: Workshop) -> None:
    """The recording says who wrote the text; only `today` asks who would write it now."""
    source = await _source(workshop)
    model = Written("Ein ganz anderer Text vom Modell")
    engine = workshop.engine(models={"interception": "near/x"}, near=model)
    again = await engine.regenerate(source.id, seed=3)
    assert again.texts == source.texts and model.requests == []
    now = await engine.regenerate(source.id, seed=3, today=True)
    assert now.texts["interception"]["prompt"] == "Ein ganz anderer Text vom Modell"


# What a fingerprint is.


async def test_a_recording_holds_the_fingerprint_of_what_it_asked(workshop: Workshop) -> None:
    """The same that the engine computes of the same request, and from the recording."""
    run = await _source(workshop)
    engine = workshop.engine()
    started = run.events[0].event
    assert isinstance(started, RunStarted) and list(started.fingerprint) == list(STAGES)
    how: dict[str, Any] = {"pipeline": "meins", "output": "sketch", "seed": 1, "text_seed": 5}
    asked = engine.fingerprint(engine.request(HOUSE, **how, **SMALL))
    assert asked.by_stage() == started.fingerprint
    assert engine.recorded_fingerprint(run.id).by_stage() == started.fingerprint


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"prompt": "ein Boot"}, "input"),
        ({"pipeline": "bauhaus"}, "interception"),
        ({"text_seed": 6}, "interception"),
        ({"output": "sketch_sound", "parameters": {}}, "pre_output"),
        ({"parameters": {"width": 128}}, "pre_output"),
        ({"seed": 2}, "generation"),
        ({"safety": "kids"}, None),
        ({"labels": {"class": "7b"}}, None),
        ({"batch": "other"}, None),
    ],
    ids=str,
)
def test_each_part_belongs_to_the_stage_it_decides(
    workshop: Workshop, change: dict[str, Any], first: str | None
) -> None:
    """Level, labels and batch decide no result."""
    engine = workshop.engine()

    def fingerprint(**changed: Any) -> Any:
        how: dict[str, Any] = {"pipeline": "meins", "output": "sketch", "seed": 1, "text_seed": 5}
        how |= {"parameters": SMALL} | changed
        return engine.fingerprint(engine.request(how.pop("prompt", HOUSE), **how))

    one, other = fingerprint(), fingerprint(**change)
    assert next(iter(one.differences(other)), None) == first
    same = [stage for stage in STAGES if one.by_stage()[stage] == other.by_stage()[stage]]
    assert same == list(STAGES[: STAGES.index(first)] if first else STAGES)


def test_a_renamed_pipeline_is_the_same(workshop: Workshop) -> None:
    """A name is never an identity, neither of a file nor of what is in it."""
    engine = workshop.engine()
    how: dict[str, Any] = {"output": "sketch", "seed": 1, "text_seed": 5}
    one = engine.fingerprint(engine.request(HOUSE, pipeline="meins", **how))
    assert one == engine.fingerprint(engine.request(HOUSE, pipeline="dada", **how))


async def test_an_interrupted_run_that_would_ask_others_says_so(workshop: Workshop) -> None:
    """Resume goes on with the models of today, and a reader of the recording knows."""
    model = Written("Ein Text.")
    engine = workshop.engine(models={"interception": "near/x"}, near=model)
    run = await engine.run(HOUSE, pipeline="meins", **SMALL)
    events = run.folder / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    kept = next(
        n for n, line in enumerate(lines) if b'"stage_started","stage":"interception"' in line
    )
    events.write_bytes(b"".join(lines[:kept]))
    resumed = await workshop.engine().resume(run.id)
    notes = [one.event.message for one in resumed.events if isinstance(one.event, Warned)]
    assert resumed.outcome == "completed" and any("another models" in note for note in notes)


def test_weights_that_nobody_can_tell_now_are_unverified(workshop: Workshop) -> None:
    """A digest that is known on both sides decides; one that is known on one leaves it open."""
    from devpipe.batch.weights import match_digests

    asked = [("near", "x"), ("procedural", "")]
    known = {("near", "x"): "a", ("procedural", ""): "1"}
    assert match_digests(asked, known, known) is Match.SAME
    assert match_digests(asked, known, {("procedural", ""): "1"}) is Match.UNVERIFIED
    assert match_digests(asked, known, known | {("near", "x"): "b"}) is Match.STALE
    assert match_digests(asked, {}, known) is Match.SAME


# Configs that cannot be understood.


@pytest.mark.parametrize("damage", ["newer", "missing"])
async def test_a_recording_of_a_newer_version_is_said_in_one_line(
    workshop: Workshop, damage: str
) -> None:
    """It can be looked at; made again it cannot be, and each call says so."""
    from recording_maker import rewritten_started

    run = await _source(workshop)

    def change(started: dict[str, Any]) -> None:
        if damage == "newer":
            started["config"]["pipeline"]["attitude"] = {"of": "tomorrow"}
        else:
            del started["config"]["output"]

    rewritten_started(run.folder, change)
    engine = workshop.engine()
    assert engine.recordings.find(run.id).summary.outcome == "completed"
    for call in (engine.replay(run.id), engine.regenerate(run.id, seed=2)):
        with pytest.raises(UsageError) as caught:
            await call
        assert run.id in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreachable_server_tells_no_digest(workshop: Workshop) -> None:
    """Neither a server that is down nor a missing package stops a forecast."""

    class Down(Written):
        async def digest(self, model: str) -> str:
            raise Unavailable("Down.")

    engine = workshop.engine(models={"interception": "near/x"}, near=Down())
    assert engine.forecast(plan(HOUSE)).runs == 1


def test_the_shell_regenerates_from_the_recording_and_today_on_demand(
    workshop: Workshop, tmp_path: Path
) -> None:
    """Case 08 as it was typed: --seed, --set and a deleted file keep the text; --today rewrites."""
    import shell as terminal

    def shell(*words: str) -> dict[str, Any]:
        made = tmp_path / "made"
        done = terminal.shell(made, *words, "--json", DEVPIPE_HOME=str(workshop.home))
        assert done.status == 0, done.err
        told: dict[str, Any] = done.json
        return told

    small = ("--set", "width=64", "--set", "height=64")
    run = shell("run", HOUSE, "-p", "meins", "--seed", "1", "--text-seed", "5", *small)
    text = run["stages"]["interception"]["texts"]
    workshop.amplify()
    again = shell("regenerate", run["run_id"], "--seed", "3")
    assert again["stages"]["interception"]["texts"] == text
    assert again["stages"]["interception"]["reused_from"] == run["run_id"]
    now = shell("regenerate", run["run_id"], "--seed", "3", "--today")
    assert now["stages"]["interception"]["texts"] != text
    workshop.pipeline.unlink()
    (workshop.home / "output_configs" / "sketch.json").unlink()
    wider = shell("regenerate", run["run_id"], "--seed", "4", "--set", "width=128")
    assert (
        wider["stages"]["interception"]["texts"] == text and wider["artifacts"][0]["width"] == 128
    )


# What a review met.


async def test_a_looser_level_is_no_result_of_a_stricter_batch(workshop: Workshop) -> None:
    """A cell at kids is made, and checked, at kids; a stricter result serves a looser plan."""
    await workshop.engine().batch(plan(HOUSE, safety="youth"))
    kids = await workshop.engine().batch(plan(HOUSE, safety="kids"))
    assert outcomes(kids) == [(False, "the safety level")]
    youth = await workshop.engine().batch(plan(HOUSE, safety="youth"))
    assert outcomes(youth) == [(True, "")]
    levels = list(workshop.engine().recordings.runs()["safety"])
    assert sorted(levels) == ["kids", "youth"]


async def test_each_run_serves_one_of_several_equal_cells(workshop: Workshop) -> None:
    """Two spellings of one text, kept apart, are two runs; run again, each has its own."""
    twice = plan("ein Haus", "ein Haus ") | {"keep_duplicates": True}
    first = await workshop.engine().batch(twice)
    second = await workshop.engine().batch(twice)
    made = [row.run_id for row in first.rows]
    assert [row.run_id for row in second.rows] == made and len(set(made)) == 2
    assert outcomes(second) == [(True, ""), (True, "")]


async def test_a_renamed_pipeline_finds_its_results(workshop: Workshop) -> None:
    """The cell's name is another, its result is the same: nothing is made or bought again."""
    await workshop.engine().batch(plan(HOUSE))
    renamed = workshop.pipeline.with_name("unser.json")
    text = workshop.pipeline.read_text("utf-8").replace('"name": "meins"', '"name": "unser"')
    renamed.write_text(text, "utf-8")
    workshop.pipeline.unlink()
    report = await workshop.engine().batch(plan(HOUSE, pipelines=["unser"]))
    assert outcomes(report) == [(True, "")]


async def test_a_batch_of_the_time_before_fingerprints_is_found(workshop: Workshop) -> None:
    """Its name had a hash of the grid; what it tells is equal, and who wrote the text unverified."""
    from recording_maker import rewritten_started

    report = await workshop.engine().batch(plan(HOUSE))
    folder = workshop.engine().recordings.find(report.rows[0].run_id).folder

    def older(started: dict[str, Any]) -> None:
        started["batch"] = "haltung-9ed7ff54"
        del started["fingerprint"], started["models"]

    rewritten_started(folder, older)
    shutil.rmtree(folder.parents[1] / ".index", ignore_errors=True)
    again = await workshop.engine().batch(plan(HOUSE))
    assert outcomes(again) == [(True, "")] and again.rows[0].unverified
    workshop.amplify()
    assert outcomes(await workshop.engine().batch(plan(HOUSE))) == [(False, "pipeline")]


async def test_own_wording_belongs_to_the_fingerprint_of_all_that_take_it_over(
    workshop: Workshop,
) -> None:
    """A child of an edited text is not the child of the text that was edited."""
    engine = workshop.engine()
    source = await _source(workshop)
    edited = await engine.regenerate(source.id, text="ein roter Drache", seed=7)
    child = await engine.regenerate(edited.id, seed=8)
    other = await engine.regenerate(source.id, seed=8)
    hashes = [run.events[0].event.fingerprint["generation"] for run in (edited, child, other)]
    assert len(set(hashes)) == 3
    for run, sha256 in zip((edited, child, other), hashes, strict=True):
        assert engine.recorded_fingerprint(run.id).sha256() == sha256


async def test_an_open_run_has_no_fingerprint_before_it_has_a_text(workshop: Workshop) -> None:
    """What is not known is not hashed; afterwards the recording tells it."""
    engine = workshop.engine()
    found = []
    for text in ("eine Katze", "ein Hund"):
        run = engine.open(pipeline="meins", text_seed=1, seed=3, **SMALL)
        await run.input(text)
        await run.intercept()
        await run.check()
        await run.generate()
        started = run.events[0].event
        assert isinstance(started, RunStarted) and started.fingerprint == {}
        found.append(engine.recorded_fingerprint(run.id).sha256())
    assert None not in found and len(set(found)) == 2


async def test_wording_that_was_given_up_is_not_taken_for_the_run(workshop: Workshop) -> None:
    """Only what stands at the end is the person's; a replay is equal."""
    engine = workshop.engine()
    run = engine.open(pipeline="meins", text_seed=1, seed=3, **SMALL)
    await run.input(HOUSE)
    await run.intercept()
    await run.check("ein Drache")
    await run.intercept()
    await run.check()
    await run.generate()
    again = await engine.regenerate(run.id, safety="kids", seed=3)
    assert "Drache" not in again.texts["interception"]["prompt"]


async def test_a_second_text_is_kept_where_stage_3_changed_only_one(workshop: Workshop) -> None:
    """A fusion regenerated under another seed has both of its texts."""
    engine = workshop.engine()
    how: dict[str, Any] = {"pipeline": "meins", "output": "sketch_fusion", "text_seed": 5}
    run = await engine.run("ein roter Drache", seed=1, **how)
    again = await engine.regenerate(run.id, seed=2)
    sent = [one.summary.media_attempts[-1].started.request["texts"] for one in (run, again)]
    assert again.outcome == "completed" and sent[0] == sent[1] and len(sent[1]) == 2


async def test_a_person_is_answered_in_their_language_also_in_a_derived_run(
    workshop: Workshop,
) -> None:
    """Stage 1 translated what they wrote; a refusal is still said in the words they speak."""
    workshop.edit(workshop.pipeline, lambda config: config.update(translate=True))
    engine = workshop.engine(models={"translate": "near/x"}, near=Written("A house by the lake."))
    german = "Das alte Haus steht am Ufer des Sees und wartet auf den Regen."
    run = await engine.run(german, pipeline="meins", seed=1, text_seed=1, **SMALL)
    assert run.texts["input"] == {"prompt": "A house by the lake."}
    again = await engine.regenerate(run.id, text="ein Hakenkreuz auf einer Fahne")
    blocked = workshop.engine()
    alone = await blocked.run("Das ist ein Hakenkreuz auf einer Fahne.", **SMALL)
    assert again.outcome == alone.outcome == "blocked"
    assert again.verdicts[-1].reason == alone.verdicts[-1].reason
