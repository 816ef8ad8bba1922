"""A plan becomes runs: each text rewritten once, nothing done twice, no more spent than allowed."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import engine_in, small_media, small_picture
from shell import Done, here

from devpipe import Engine, UsageError
from devpipe.analysis.verify import verify
from devpipe.batch.plan import Plan
from devpipe.batch.report import Report
from devpipe.batch.runner import Batch
from devpipe.errors import ConfigError, Parked, Rejected, Unavailable, UnknownName
from devpipe.record.events import AttemptStarted
from devpipe.testing import ScriptedBackend
from devpipe.text import language
from devpipe.values import Cost, MediaResult

SMALL: dict[str, list[Any]] = {"width": [64], "height": [64]}
GRID = {
    "name": "grid", "prompts": ["a cat", "a dog"], "pipelines": ["dada", "bauhaus", "the_opposite"],
    "outputs": ["sketch", "sketch_fusion"], "seeds": [1, 2, 3],
}  # fmt: skip


class Paid(ScriptedBackend):
    """A backend that costs money."""

    paid = True


def paid_media(usd: float | None) -> MediaResult:
    return MediaResult(
        (small_media(),),
        model="script",
        cost=Cost(usd, "reported" if usd is not None else "unknown"),
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = engine_in(tmp_path)
    yield made
    made.close()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Engines with a text and a media backend of the test's own."""
    made = []

    def engine(
        text: ScriptedBackend | None = None,
        media: ScriptedBackend | None = None,
        folder: str = "r",
        **environ: str,
    ) -> Engine:
        backends = {
            "script": text or ScriptedBackend(["rewritten"]),
            "procedural": media or ScriptedBackend([small_media()]),
        }
        models = {
            f"DEVPIPE_MODEL_{task}": "script/x" for task in ("INTERCEPTION", "TRANSLATE", "SPLIT")
        }
        made.append(engine_in(tmp_path / folder, backends=backends, **models, **environ))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def tasks(engine: Engine) -> list[str]:
    """What backends were asked for, in all recordings."""
    return [
        one.event.task
        for run in engine.recordings
        for one in run.events
        if isinstance(one.event, AttemptStarted)
    ]


def priced(engine: Engine, usd: float | None, *outputs: str) -> Engine:
    """The engine with a price for these outputs."""
    for name in outputs or ("sketch",):
        engine.catalogue.outputs[name] = engine.catalogue.outputs[name].model_copy(
            update={"price_usd": usd}
        )  # type: ignore[index]
    return engine


# The plan.


def test_a_plan_is_the_product_of_its_lists() -> None:
    """Every combination once, each with a key of its own."""
    items = Plan.read(GRID).items()
    assert len(items) == 36 == len({item.key for item in items})
    assert len({(item.prompt, item.pipeline, item.text_seed) for item in items}) == 6


def test_zipped_lists_go_side_by_side() -> None:
    """Also parameters; what is not zipped is crossed."""
    plan = Plan.read(
        {
            **GRID,
            "zip": [["pipelines", "seeds", "width"], ["prompts", "outputs"]],
            "parameters": {"width": [64, 96, 128]},
        }
    )
    cells = {
        (item.prompt, item.output, item.pipeline, item.seed, item.parameters["width"])
        for item in plan.items()
    }
    assert (
        len(cells) == 6
        and ("a cat", "sketch", "bauhaus", 2, 96) in cells
        and ("a cat", "sketch_fusion", "dada", 1, 64) not in cells
    )


def test_excluded_cells_are_left_out() -> None:
    """By the name of a list or of one of its values; all values of a rule must agree."""
    plan = Plan.read({**GRID, "exclude": [{"pipeline": "dada", "output": "sketch"}, {"seeds": 3}]})
    assert len(plan.items()) == 36 - 6 - 12 + 2
    with pytest.raises(UsageError, match="no cell left"):
        Plan.read({**GRID, "exclude": [{"prompt": "a cat"}, {"prompt": "a dog"}]})


def test_repeats_have_seeds_of_their_own() -> None:
    """The first has the plan's seed, the others ones derived from it: the same in every try."""
    plan = {"name": "again", "prompts": ["a cat"], "seeds": [5], "repeats": 3}
    seeds = [item.seed for item in Plan.read(plan).items()]
    assert (
        seeds[0] == 5
        and len(set(seeds)) == 3
        and seeds == [item.seed for item in Plan.read(plan).items()]
    )


def test_a_plan_comes_from_files(tmp_path: Path) -> None:
    """YAML with its prompts in a CSV beside it, and a CSV with one row per run, also as a German
    spreadsheet writes it.
    """
    (tmp_path / "words.csv").write_text(
        'prompt,author\n"a cat, wet",me\n"zwei\nZeilen",you\n', "utf-8"
    )
    (tmp_path / "plan.yaml").write_text(
        "prompts: words.csv\npipelines: [dada]\nimages: [a.png]\n", "utf-8"
    )
    plan = Plan.read(tmp_path / "plan.yaml")
    assert plan.name == "plan" and plan.prompts == ["a cat, wet", "zwei\nZeilen"]
    assert plan.asked(plan.items()[0])["image"] == tmp_path / "a.png"
    (tmp_path / "my rows.csv").write_bytes(
        "\ufeffprompt;pipeline;seed\r\nein Löwe;dada;3\r\neine Maus;bauhaus;4\r\n".encode()
    )
    rows = Plan.read(str(tmp_path / "my rows.csv"))
    assert rows.name == "my-rows" and [(i.prompt, i.pipeline, i.seed) for i in rows.items()] == [
        ("ein Löwe", "dada", 3),
        ("eine Maus", "bauhaus", 4),
    ]
    (tmp_path / "plan.json").write_text(json.dumps(GRID), "utf-8")
    assert Plan.read(tmp_path / "plan.json").items() == Plan.read(GRID).items()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promts": ["x"]}, "prompts"),
        ({"seeds": [0]}, "seeds"),
        ({"seeds": ["x"]}, "seeds"),
        ({"seeds": [True]}, "seeds"),
        ({"text_seeds": [2**31]}, "text_seeds"),
        ({"prompts": []}, "prompts"),
        ({"parameters": {"width": []}}, "width"),
        ({"zip": [["pipeline", "seeds"]]}, "pipelines"),
        ({"zip": [["outputs", "seeds"]]}, "different length"),
        ({"zip": [["seeds"], ["seeds"]]}, "twice"),
        ({"exclude": [{"widht": 64}]}, "There is no list"),
        ({"seeds": [1, 1]}, "same cell twice"),
        ({"repeats": 0}, "repeats"),
        ({"seeds": list(range(1, 20_000))}, "Split it"),
        ({"name": "../x"}, r"\$\.name"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    """When it is read, with the place."""
    with pytest.raises(UsageError, match=said):
        Plan.read({**GRID, **changes})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("plan.yaml", b"prompts: [", "not valid"),
        ("plan.yaml", b"- a\n- b\n", "Begin with"),
        ("plan.yaml", b"a: &x [1]\nb: *x\n", "aliases"),
        ("plan.yaml", b"\xff\xfe", "UTF-8"),
        ("plan.json", b"[" * 100_000, "not valid"),
        ("plan.csv", b"text\nx\n", "column `prompt`"),
        ("plan.csv", b"prompt,pipline\nx,dada\n", "pipeline"),
        ("plan.csv", b"prompt,seed\nx,seven\n", "seeds"),
        ("plan.csv", b"", "column `prompt`"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """In one sentence that says where; so is one that is not there."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        Plan.read(tmp_path / name)
    with pytest.raises(UsageError, match="No such file"):
        Plan.read(tmp_path / "other.yaml")


# The runs.


async def test_each_text_is_rewritten_once(scripted: Callable[..., Engine]) -> None:
    """3 pipelines x 2 outputs x 2 prompts x 3 seeds are 36 pictures but 6 interceptions, at the
    backend and in the recordings.
    """
    text = ScriptedBackend(["rewritten"])
    engine = scripted(text)
    report = await engine.batch(GRID, concurrency=6)
    assert report.complete and report.counts == {"completed": 36}
    assert len(text.requests) == 6
    assert (tasks(engine).count("interception"), tasks(engine).count("media")) == (6, 36)
    runs = engine.recordings.runs()
    assert (runs["batch"] == Plan.read(GRID).batch).all() and runs["labels.item"].nunique() == 36
    assert (runs["relation"] == "shared").sum() == 30
    assert sorted(runs["run_id"]) == sorted(row.run_id for row in report.rows)
    table = report.table()
    assert (
        len(table) == 36
        and list(table["seed"][:3]) == [1, 2, 3]
        and set(table["outcome"]) == {"completed"}
    )
    assert all(verify(run) == [] for run in engine.recordings)


async def test_another_text_seed_is_another_interception_and_another_picture_is_not(
    engine: Engine, tmp_path: Path
) -> None:
    """Cells share texts where Stages 1 and 2 are asked the same: no picture changes that."""
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(small_picture(size=64 + number))
    images = [{"control": str(tmp_path / f"{number}.png")} for number in (1, 2)]
    plan = {
        "name": "p",
        "prompts": ["a cat"],
        "pipelines": ["dada"],
        "outputs": ["sketch_control"],
        "text_seeds": [1, 2],
        "seeds": [3, 4],
    }
    report = await engine.batch({**plan, "images": images, "parameters": SMALL})
    assert report.counts == {"completed": 8} and tasks(engine).count("interception") == 2
    assert len(engine.recordings.runs()["sha256"].unique()) == 8


async def test_a_plan_run_again_does_nothing_twice(scripted: Callable[..., Engine]) -> None:
    """Completed and blocked cells are results; the rows say that they are of an earlier try."""
    text, media = ScriptedBackend(["rewritten"]), ScriptedBackend([small_media()])
    plan = {**GRID, "prompts": ["a cat", "ein Hakenkreuz"], "labels": {"class": "7b"}}
    first = await scripted(text, media).batch(plan)
    assert first.counts == {"completed": 18, "blocked": 18} and first.complete
    asked = len(text.requests), len(media.requests)
    second = await scripted(text, media).batch(plan)
    assert second.counts == first.counts and all(row.earlier for row in second.rows)
    assert [row.run_id for row in second.rows] == [row.run_id for row in first.rows]
    assert (len(text.requests), len(media.requests)) == asked
    assert set(scripted(text, media).recordings.runs()["labels.class"]) == {"7b"}


async def test_failed_cells_stop_nobody_and_are_tried_again(
    scripted: Callable[..., Engine],
) -> None:
    """With the texts that they have already: the second try asks the text backend nothing."""
    text = ScriptedBackend(["rewritten"])
    down = ScriptedBackend(
        [
            lambda request: (
                Unavailable("away.", hint="later.") if request.seed == 2 else small_media()
            )
        ]
    )
    first = await scripted(text, down).batch(GRID)
    assert first.counts == {"completed": 24, "failed": 12} and not first.complete
    assert {row.error for row in first.rows if row.outcome == "failed"} == {
        "away. later."
    } and "12 x away. later." in str(first)
    assert len(text.requests) == 6
    engine = scripted(text)
    assert engine.forecast(GRID).to_json() == {
        "runs": 36,
        "interceptions": 0,
        "done": 24,
        "cost_usd": 0.0,
        "stale": 0,
        "unverified": 0,
        "remarks": [],
    }
    second = await engine.batch(GRID)
    assert second.counts == {"completed": 36} and sum(row.earlier for row in second.rows) == 24
    assert len(text.requests) == 6


async def test_a_failed_interception_is_made_by_the_next_cell(
    scripted: Callable[..., Engine],
) -> None:
    """The cells of one text do not all fail with the first."""
    text = ScriptedBackend([Rejected("no.", hint="so."), "rewritten"])
    report = await scripted(text).batch(
        {"name": "p", "prompts": ["a cat"], "pipelines": ["dada"], "seeds": [1, 2, 3]}
    )
    assert report.counts == {"completed": 2, "failed": 1} and len(text.requests) == 2


async def test_no_more_than_asked_run_at_a_time(scripted: Callable[..., Engine]) -> None:
    """And as many as asked do."""
    now, most, three = 0, 0, asyncio.Barrier(3)

    def make(request: object) -> object:
        async def with_two_others() -> object:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await three.wait()
            now -= 1
            return small_media()

        return with_two_others()

    plan = {"name": "p", "prompts": [f"cat {number}" for number in range(12)]}
    report = await scripted(media=ScriptedBackend([make])).batch(plan, concurrency=3)
    assert report.complete and most == 3


@pytest.mark.parametrize("told", [1.0, None])
async def test_a_budget_holds_however_many_run(
    scripted: Callable[..., Engine], told: float | None
) -> None:
    """16 at a time, 1 USD each, a budget of 5: exactly 5 are started, also where the backend does
    not say what it took.
    """
    media = Paid([paid_media(told)])
    plan = {"name": "p", "prompts": ["a cat"], "seeds": list(range(1, 33))}
    report = await priced(scripted(media=media), 1.0).batch(plan, concurrency=16, budget_usd=5)
    assert (
        len(media.requests) == 5
        and report.counts == {"completed": 5, "not_started": 27}
        and report.spent_usd == 5
    )
    assert "27 x Budget of 5" in str(report)
    again = await priced(scripted(media=media), 1.0).batch(plan, concurrency=16, budget_usd=5)
    assert len(media.requests) == 5 and again.spent_usd == 5, "what earlier tries cost counts"
    await priced(scripted(media=media), 1.0).batch(plan, budget_usd=7)
    assert len(media.requests) == 7


async def test_what_was_not_spent_is_free_again(scripted: Callable[..., Engine]) -> None:
    """A cheaper answer, and a run that never reached the backend, give their reservation back."""
    cheap = Paid([paid_media(0.25)])
    plan = {"name": "p", "prompts": ["a cat", "ein Hakenkreuz"], "seeds": [1, 2, 3, 4]}
    report = await priced(scripted(media=cheap), 1.0).batch(plan, concurrency=1, budget_usd=2)
    assert report.counts == {"completed": 4, "blocked": 4} and report.spent_usd == 1.0


async def test_a_budget_that_nobody_could_keep_is_refused(scripted: Callable[..., Engine]) -> None:
    """An unknown price, a paid text backend, no number: before anything starts."""
    plan = {"name": "p", "prompts": ["a cat"]}
    media = Paid([paid_media(1.0)])
    with pytest.raises(UsageError, match="price of sketch"):
        await priced(scripted(media=media), None).batch(plan, budget_usd=5)
    with pytest.raises(UsageError, match="price of script/x"):
        await priced(scripted(Paid(["x"]), media), 1.0).batch(plan, budget_usd=5)
    for budget in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="not possible"):
            await priced(scripted(media=media), 1.0).batch(plan, budget_usd=budget)
    assert media.requests == []
    engine = scripted(media=media, DEVPIPE_BUDGET_USD="0")
    assert (await priced(engine, 1.0).batch(plan)).counts == {"not_started": 1}


async def test_all_faults_of_a_plan_are_told_before_anything_starts(
    scripted: Callable[..., Engine],
) -> None:
    """Unknown names, wrong parameters, empty prompts and missing pictures in one error."""
    media = ScriptedBackend([small_media()])
    plan = {
        "name": "p", "prompts": ["a cat", "  "], "pipelines": ["dadda"], "outputs": ["sketch", "sketh", "sketch_control"],
        "parameters": {"width": [64, 9]}, "safety": "youth",
    }  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        await scripted(media=media).batch(plan)
    assert {"dada"} <= {
        word for fault in raised.value.faults for word in fault.message.replace("?", "").split()
    }
    with pytest.raises(ConfigError) as raised:
        await scripted(media=media).batch({**plan, "pipelines": ["dada"]})
    said = "\n".join(fault.message for fault in raised.value.faults)
    for part in ("sketh", "64..2048", "at least one word", "picture as control"):
        assert part in said
    with pytest.raises(UsageError, match="Concurrency 0"):
        await scripted(media=media).batch({"name": "p", "prompts": ["a cat"]}, concurrency=0)
    assert media.requests == [] and list(scripted(media=media).recordings) == []


async def test_cancelling_a_batch_cancels_its_runs(scripted: Callable[..., Engine]) -> None:
    """Every run that was under way has its ending on disk; the report says what is left; a second
    try does the rest.
    """
    begun, hold = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def make(request: object) -> object:
        async def wait() -> object:
            if len(media.requests) >= 4:
                loop.call_soon_threadsafe(begun.set)
                await asyncio.Event().wait()
            return small_media()

        return wait()

    media = ScriptedBackend([make])
    batch = Batch(scripted(media=media), Plan.read(GRID), concurrency=3)
    task = asyncio.ensure_future(batch.run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    states = [run.state for run in batch.engine.recordings]
    assert set(states) == {"completed", "cancelled"} and states.count("completed") >= 1
    assert all(verify(run) == [] for run in batch.engine.recordings)
    assert batch.report.counts["completed"] == states.count("completed") and batch.report.counts[
        "cancelled"
    ] == states.count("cancelled")
    assert (await scripted().batch(GRID)).counts == {"completed": 36}
    assert not hold.is_set()


def test_runs_that_begin_together_read_the_language_model_once() -> None:
    """It takes 0.3 s and 40 MB each time."""
    language._identifier.cache_clear()
    threads = [threading.Thread(target=language.load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert language._identifier.cache_info().misses == 1


async def test_a_batch_that_is_under_way_is_not_begun_again(
    scripted: Callable[..., Engine],
) -> None:
    """A second process would do everything twice: it is told which run is at work."""
    begun, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def make(request: object) -> object:
        async def wait() -> object:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), loop))
            return small_media()

        return wait()

    plan = {"name": "p", "prompts": ["a cat"]}
    first = asyncio.ensure_future(scripted(media=ScriptedBackend([make])).batch(plan))
    await begun.wait()
    with pytest.raises(UsageError, match="under way"):
        await scripted().batch(plan)
    go.set()
    assert (await first).complete


async def test_a_regenerated_run_is_no_result_of_the_cell(scripted: Callable[..., Engine]) -> None:
    """It has its parent's labels, but another seed."""
    plan = {"name": "p", "prompts": ["a cat"], "seeds": [1]}
    failed = await scripted(media=ScriptedBackend([Unavailable("away.", hint="later.")])).batch(
        plan
    )
    engine = scripted()
    await engine.regenerate(failed.rows[0].run_id, seed=9)
    report = await engine.batch(plan)
    assert not report.rows[0].earlier and report.rows[0].outcome == "completed"


async def test_a_batch_holds_no_runs_that_are_over(scripted: Callable[..., Engine]) -> None:
    """Memory does not grow with the plan: at most those of the workers are left."""
    import gc

    from devpipe.engine.run import Run

    engine = scripted()
    plan = {
        "name": "p",
        "prompts": [f"cat {number}" for number in range(20)],
        "seeds": list(range(1, 11)),
    }
    report = await engine.batch(plan, concurrency=8)
    assert report.counts == {"completed": 200}
    gc.collect()
    assert (
        not engine._unfinished
        and len([one for one in gc.get_objects() if isinstance(one, Run)]) <= 8
    )


# The shell.


@pytest.fixture
def devpipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.chdir(tmp_path)
    return here(tmp_path / "recordings")


def test_a_batch_from_the_shell(devpipe: Callable[..., Done], tmp_path: Path) -> None:
    """A dry run says what would be done; the batch does it; a second one finds it done."""
    plan = {
        "prompts": ["a cat", "ein Hakenkreuz"],
        "pipelines": ["dada"],
        "seeds": [1, 2],
        "parameters": SMALL,
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(plan), "utf-8")
    assert devpipe("batch", "sweep.yaml", "--dry-run").out.startswith(
        "4 runs from 2 interceptions; 0 done already"
    )
    done = devpipe("batch", "sweep.yaml", "--concurrency", "2")
    assert done.status == 3 and "2 blocked, 2 completed" in done.out and done.err == ""
    told = devpipe("batch", "sweep.yaml", "--resume", "--json")
    assert (
        told.status == 3
        and told.json["complete"]
        and all(row["earlier"] for row in told.json["rows"])
    )
    assert devpipe("batch", "sweep.yaml", "--dry-run", "--json").json["done"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["no.yaml"],
        ["plan.yaml", "--concurrency", "0"],
        ["plan.yaml", "--concurrency", "x"],
        ["plan.yaml", "--budget", "nan"],
    ],
)
def test_a_wrong_batch_is_one_line(
    devpipe: Callable[..., Done], tmp_path: Path, arguments: list[str]
) -> None:
    """Status 2, and one JSON object where that was asked for."""
    (tmp_path / "plan.yaml").write_text("prompts: [a cat]\n", "utf-8")
    assert devpipe("batch", *arguments).status == 2
    told = devpipe("batch", "--json", *arguments)
    assert told.status == 2 and told.json["error"]["message"] and told.line


def test_a_report_says_what_became_of_the_plan() -> None:
    """Also of one that has not begun."""
    report = Report("b")
    assert report.complete and str(report).startswith("batch b: ")
    with pytest.raises(UnknownName):
        Plan.read({"name": "p", "prompts": ["x"], "zip": [["colours"]]})


def died_while_paying(engine: Engine) -> str:
    """Cut the only recording off where a paid request had been sent, as kill -9 leaves it."""
    (recording,) = list(engine.recordings)
    log = recording.folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    sent = next(
        i
        for i, line in enumerate(lines)
        if b'"attempt_started"' in line and b'"task":"media"' in line
    )
    log.write_bytes(b"".join(lines[: sent + 1]))
    for path in recording.folder.iterdir():
        if path.suffix == ".png" or path.name == "run.json":
            path.unlink()
    return recording.id


async def test_a_paid_request_whose_fate_is_unknown_is_never_sent_again(
    scripted: Callable[..., Engine],
) -> None:
    """Neither resume nor the plan run again pays a second time; the message says what a person can
    do.
    """
    plan = {"name": "one", "prompts": ["a cat"], "pipelines": ["dada"]}
    first = scripted(media=Paid([small_media()]))
    assert (await first.batch(plan)).complete
    run_id = died_while_paying(first)
    media = Paid([small_media()])
    second = scripted(media=media)
    with pytest.raises(Parked, match="may have been charged"):
        await second.resume(run_id)
    report = await second.batch(plan)
    assert (
        media.requests == []
        and not report.complete
        and "may have been charged" in report.rows[0].error
    )


async def test_an_interrupted_run_takes_its_price_once(scripted: Callable[..., Engine]) -> None:
    """What it spends is counted when it goes on: a budget of one picture makes one picture."""
    plan = {"name": "one", "prompts": ["a cat"], "pipelines": ["dada"]}
    made = await scripted(media=ScriptedBackend([small_media()])).batch(plan)
    folder = scripted().recordings.find(made.rows[0].run_id).folder
    events = folder / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    kept = next(n for n, line in enumerate(lines) if b'"stage":"interception"' in line)
    events.write_bytes(b"".join(lines[:kept]))
    media = Paid([paid_media(1.0)])
    report = await priced(scripted(media=media), 1.0).batch(plan, budget_usd=1)
    assert report.complete and report.spent_usd == 1.0 and len(media.requests) == 1


async def test_a_fault_in_one_cell_leaves_the_others_theirs(
    scripted: Callable[..., Engine],
) -> None:
    """Also an error that is none of ours."""
    media = ScriptedBackend([small_media(), ValueError("a fault"), small_media()])
    report = await scripted(media=media).batch(
        GRID | {"name": "fault", "seeds": [1]}, concurrency=1
    )
    assert report.counts == {"completed": 11, "failed": 1}
    assert [row.error for row in report.rows if row.error] == ["ValueError: a fault"]


async def test_a_cell_whose_earlier_text_no_longer_fits_begins_anew(
    scripted: Callable[..., Engine],
) -> None:
    """A recording that was deleted since does not stop its cell for ever."""
    plan = GRID | {
        "name": "anew",
        "prompts": ["a cat"],
        "pipelines": ["dada"],
        "outputs": ["sketch"],
        "seeds": [1, 2],
    }
    first = scripted(media=ScriptedBackend([small_media(), ValueError("a fault")]))
    assert (await first.batch(plan, concurrency=1)).counts == {"completed": 1, "failed": 1}
    second = scripted()
    batch = Batch(second, Plan.read(plan), concurrency=1)
    for recording in second.recordings:
        shutil.rmtree(recording.folder)
    assert (await batch.run()).counts == {"completed": 2}
