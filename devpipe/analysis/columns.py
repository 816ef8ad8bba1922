"""The tables, each a list of columns.

One line here adds a column: its name, dtype, where its value comes from, and what it means.

A column of RUNS gets a `Seen` (its `summary`, its `events`), one of another table a `Within`: its
`item` is what the row is about,
its `run` the Seen. A value is None where the run does not tell. Rows stand in the order of the
runs, oldest first, and within a run
as things happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from devpipe.errors import RecorderError
from devpipe.record.events import ArtifactWritten, Event, Recorded, TextWritten, VerdictGiven
from devpipe.record.reader import Recording, is_file_name
from devpipe.record.summary import Attempt, RunSummary, StageSummary
from devpipe.values import STAGES, Scalar, canonical_json

DType = Literal["str", "Int64", "float64", "boolean", "datetime64[us, UTC]"]
TIME: DType = "datetime64[us, UTC]"
Row = TypeVar("Row")
Item = TypeVar("Item")
Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: `of` gets the row's thing and gives the value, None where there is none."""

    name: str
    dtype: DType
    of: Callable[[Row], object]
    doc: str


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """One table: what its rows are, and its columns in order."""

    name: str
    rows: Callable[[Seen], Iterable[Row]]
    columns: tuple[Column[Row], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A recording as the tables see it.

    `state` is the outcome, or interrupted, running, damaged or unknown; `note` says what is wrong.
    """

    run_id: str
    state: str
    note: str
    summary: RunSummary
    events: tuple[Recorded, ...] = ()

    @classmethod
    def of(cls, recording: Recording) -> Seen:
        """Whatever lies there; what cannot be read is a run that tells nothing but why."""
        try:
            state, note = _state(recording)
            return cls(recording.id, state, note, recording.summary, recording.events)
        except (RecorderError, OSError) as exc:
            return cls(recording.id, "damaged", str(exc), RunSummary())

    @property
    def artifact(self) -> ArtifactWritten | None:
        return next(iter(self.summary.artifacts), None)

    @property
    def media(self) -> Attempt | None:
        """The latest try at the medium."""
        return next(iter(self.summary.media_attempts[-1:]), None)


def _state(recording: Recording) -> tuple[str, str]:
    notes = [*([recording.damage] if recording.damage else []), *recording.notes]
    started, state = recording.summary.started, str(recording.state)
    if state != "running" and recording.beginning is None:
        notes.append("does not begin with run_started")
        state = "damaged"
    elif state != "running" and started and started.run_id != recording.id:
        notes.append(f"is of run {started.run_id}")
        state = "damaged"
    elif state == "interrupted" and recording.damage and not recording.prefix.torn:
        state = "damaged"  # more than what a dying writer leaves
    return state, "; ".join(notes)


@dataclass(frozen=True, slots=True)
class Within(Generic[Item]):
    """Something inside a run, with its place among the events where it is one."""

    run: Seen
    item: Item
    seq: int | None = None
    at: str = ""


def _each(kind: type[Kind]) -> Callable[[Seen], Iterable[Within[Kind]]]:
    return lambda run: (
        Within(run, one.event, one.seq, one.at) for one in run.events if isinstance(one.event, kind)
    )


def _text(stage: str) -> Callable[[Seen], object]:
    return lambda run: _first(run.summary.stages[stage].texts)


def _text_fingerprint(summary: RunSummary) -> str | None:
    if summary.started is None or summary.stages["interception"].outcome != "completed":
        return None
    return summary.started.fingerprint.get("interception")


def _first(texts: Mapping[str, Any]) -> object:
    return texts.get("prompt", next(iter(texts.values()), None))


def _seconds(stage: str) -> Callable[[Seen], object]:
    return lambda run: (
        run.summary.stages[stage].seconds if run.summary.stages[stage].outcome else None
    )


def _sent(run: Seen) -> dict[str, Any]:
    """What the medium was last asked for: foreign JSON, so nothing about it is sure."""
    return run.media.started.request if run.media else {}


def _sent_text(run: Seen) -> object:
    texts = _sent(run).get("texts")
    return _first(texts) if isinstance(texts, dict) else _text("pre_output")(run)


def _parameters(run: Seen) -> object:
    sent = _sent(run).get(
        "parameters", run.summary.started.parameters if run.summary.started else {}
    )
    scalars = (
        {name: value for name, value in sent.items() if isinstance(value, Scalar)}
        if isinstance(sent, dict)
        else {}
    )
    return canonical_json(scalars) if scalars else None


def _blocked(run: Seen) -> StageSummary | None:
    return next(
        (stage for stage in run.summary.stages.values() if stage.outcome == "blocked"), None
    )


def _path(run: Seen, name: str) -> str | None:
    """Below the folder of all recordings; the tables put that before it."""
    return (
        f"{run.run_id[:4]}-{run.run_id[4:6]}-{run.run_id[6:8]}/{run.run_id}/{name}"
        if is_file_name(name)
        else None
    )


RUNS: Table[Seen] = Table(
    "runs",
    lambda run: [run],
    (
        Column(
            "run_id",
            "str",
            lambda run: run.run_id,
            "Sorts by time; names the folder of the recording.",
        ),
        Column("started_at", TIME, lambda run: run.summary.started_at, "By this machine's clock."),
        Column(
            "finished_at", TIME, lambda run: run.summary.finished_at, "By this machine's clock."
        ),
        Column(
            "state",
            "str",
            lambda run: run.state,
            "The outcome; or interrupted, running, damaged, unknown.",
        ),
        Column(
            "outcome",
            "str",
            lambda run: run.summary.outcome,
            "completed, blocked, failed, cancelled; missing: no ending was written.",
        ),
        Column("note", "str", lambda run: run.note, "What is wrong with the recording itself."),
        Column(
            "pipeline",
            "str",
            lambda run: (s := run.summary.started) and s.pipeline,
            "The interception.",
        ),
        Column(
            "output",
            "str",
            lambda run: (s := run.summary.started) and s.output,
            "The output config.",
        ),
        Column(
            "prompt",
            "str",
            lambda run: ((s := run.summary.started) and _first(s.texts)) or _text("input")(run),
            "What the person wrote.",
        ),
        Column(
            "input_text",
            "str",
            _text("input"),
            "The text after Stage 1. Texts of several parts: the part `prompt`; all are in"
            " texts().",
        ),
        Column("interception_text", "str", _text("interception"), "The text after Stage 2."),
        Column("sent_text", "str", _sent_text, "The text that Stage 4 sent."),
        Column(
            "language",
            "str",
            lambda run: _first(run.summary.stages["input"].languages),
            "Of the input, ISO 639-1.",
        ),
        Column("seed", "Int64", lambda run: run.summary.seed, "Of the medium, as sent."),
        Column(
            "text_seed",
            "Int64",
            lambda run: (s := run.summary.started) and s.text_seed,
            "Of Stages 1 and 2.",
        ),
        Column(
            "safety",
            "str",
            lambda run: (s := run.summary.started) and s.safety,
            "kids, youth, adult, research.",
        ),
        Column(
            "method",
            "str",
            lambda run: (v := run.summary.verdict) and v.method,
            "How the latest verdict was found: rules, judge, rules+judge.",
        ),
        Column(
            "blocked_stage",
            "str",
            lambda run: (b := _blocked(run)) and b.stage,
            "Where a blocked run ended.",
        ),
        Column(
            "reason",
            "str",
            lambda run: (b := _blocked(run)) and (b.reason or (b.verdict and b.verdict.reason)),
            "Why it was blocked, for the person in front of the screen.",
        ),
        Column(
            "cause",
            "str",
            lambda run: v.cause if (v := run.summary.verdict) and not v.allowed else None,
            "What stopped it, for the adult.",
        ),
        Column(
            "categories",
            "str",
            lambda run: (v := run.summary.verdict) and ", ".join(v.categories),
            "Of the latest verdict.",
        ),
        Column("medium", "str", lambda run: _sent(run).get("medium"), "text, image, video, sound."),
        Column(
            "backend",
            "str",
            lambda run: (a := run.media) and a.started.backend,
            "Which made the medium.",
        ),
        Column(
            "model",
            "str",
            lambda run: (a := run.media) and ((a.finished and a.finished.model) or a.started.model),
            "As the backend names it.",
        ),
        Column(
            "digest",
            "str",
            lambda run: (a := run.media) and a.finished and a.finished.digest,
            "Hash of the model's weights or of the rules.",
        ),
        Column(
            "duration_s",
            "float64",
            lambda run: run.summary.started and run.summary.duration_s,
            "Seconds from start to end.",
        ),
        *(
            Column(
                f"seconds_{s}",
                "float64",
                _seconds(s),
                f"Seconds in the stage {s}; missing: it has no ending.",
            )
            for s in STAGES
        ),
        Column(
            "cost_usd",
            "float64",
            lambda run: run.summary.started and run.summary.cost_usd,
            "Of all attempts; missing: unknown, which is not zero.",
        ),
        Column(
            "cost_source",
            "str",
            lambda run: run.summary.started and run.summary.cost_source,
            "reported, price-table <date>, local, unknown.",
        ),
        Column("n_attempts", "Int64", lambda run: len(run.summary.attempts), "Of all stages."),
        Column(
            "parent",
            "str",
            lambda run: (s := run.summary.started) and s.parent,
            "The run that this one goes on from.",
        ),
        Column(
            "fingerprint",
            "str",
            lambda run: (s := run.summary.started) and s.fingerprint.get("generation"),
            "Hash of all that makes the result what it is; equal ones are the same result.",
        ),
        Column(
            "text_fingerprint",
            "str",
            lambda run: _text_fingerprint(run.summary),
            "The same of Stage 2's text, where there is one.",
        ),
        Column(
            "relation",
            "str",
            lambda run: (s := run.summary.started) and s.relation,
            "regenerated, replayed, shared, resumed.",
        ),
        Column(
            "batch",
            "str",
            lambda run: (s := run.summary.started) and s.batch,
            "The batch it belongs to.",
        ),
        Column(
            "artifact",
            "str",
            lambda run: (a := run.artifact) and _path(run, a.path),
            "First file made.",
        ),
        Column(
            "media_type",
            "str",
            lambda run: (a := run.artifact) and a.media_type,
            "Of the first file.",
        ),
        Column("sha256", "str", lambda run: (a := run.artifact) and a.sha256, "Of the first file."),
        Column("bytes", "Int64", lambda run: (a := run.artifact) and a.bytes, "Of the first file."),
        Column(
            "width",
            "Int64",
            lambda run: (a := run.artifact) and a.width,
            "Of the first file, in pixels.",
        ),
        Column(
            "height",
            "Int64",
            lambda run: (a := run.artifact) and a.height,
            "Of the first file, in pixels.",
        ),
        Column(
            "media_seconds",
            "float64",
            lambda run: (a := run.artifact) and a.seconds,
            "How long the first file plays.",
        ),
        Column(
            "alt",
            "str",
            lambda run: (a := run.artifact) and a.alt,
            "What a screen reader says of the first file.",
        ),
        Column("n_artifacts", "Int64", lambda run: len(run.summary.artifacts), "Files made."),
        Column(
            "config_sha256",
            "str",
            lambda run: (s := run.summary.started) and s.config_sha256,
            "Equal for equal configs.",
        ),
        Column(
            "devpipe",
            "str",
            lambda run: (s := run.summary.started) and s.software.get("devpipe"),
            "Version that made the recording.",
        ),
        Column(
            "error_type", "str", lambda run: (e := run.summary.error) and e.type, "Of a failed run."
        ),
        Column(
            "error_message",
            "str",
            lambda run: (e := run.summary.error) and f"{e.message} {e.hint}".strip(),
            "What was wrong, and what to do.",
        ),
        Column(
            "parameters",
            "str",
            _parameters,
            "JSON; runs() shows it as columns `parameters.<name>`: as sent, or asked where nothing"
            " was.",
        ),
        Column(
            "labels",
            "str",
            lambda run: (
                canonical_json(s.labels) if (s := run.summary.started) and s.labels else None
            ),
            "JSON; shown as columns `labels.<name>`.",
        ),
    ),
)


_RUN: tuple[Column[Within[Any]], ...] = (
    Column("run_id", "str", lambda row: row.run.run_id, "As in runs()."),
    Column(
        "pipeline",
        "str",
        lambda row: (s := row.run.summary.started) and s.pipeline,
        "As in runs().",
    ),
    Column(
        "output", "str", lambda row: (s := row.run.summary.started) and s.output, "As in runs()."
    ),
)
_EVENT: tuple[Column[Within[Any]], ...] = (
    Column("seq", "Int64", lambda row: row.seq, "Place among the events of the run."),
    Column("at", TIME, lambda row: row.at, "By this machine's clock."),
)


def _within(
    name: str, rows: Callable[[Seen], Iterable[Within[Item]]], *columns: Column[Within[Item]]
) -> Table[Within[Item]]:
    return Table(name, rows, (*_RUN, *columns))


STAGE_ROWS: Table[Within[StageSummary]] = _within(
    "stages",
    lambda run: (
        Within(run, stage) for stage in run.summary.stages.values() if run.summary.started
    ),
    Column(
        "stage", "str", lambda row: row.item.stage, "input, interception, pre_output, generation."
    ),
    Column(
        "outcome",
        "str",
        lambda row: row.item.outcome,
        "completed, blocked, failed, skipped; missing: no ending, or not reached.",
    ),
    Column("reason", "str", lambda row: row.item.reason, "Why it was blocked."),
    Column(
        "seconds",
        "float64",
        lambda row: row.item.seconds if row.item.outcome else None,
        "How long it took.",
    ),
    Column("reused_from", "str", lambda row: row.item.reused_from, "The run that did the work."),
    Column("language", "str", lambda row: _first(row.item.languages), "Of its text, ISO 639-1."),
    Column(
        "text", "str", lambda row: _first(row.item.texts), "Its resulting text (part `prompt`)."
    ),
)
TEXTS: Table[Within[TextWritten]] = _within(
    "texts",
    _each(TextWritten),
    *_EVENT,
    Column("stage", "str", lambda row: row.item.stage, "As in stages()."),
    Column("part", "str", lambda row: row.item.part, "prompt, prompt_2: which text of several."),
    Column(
        "step",
        "str",
        lambda row: row.item.step,
        "The step of the pipeline, `edit` for the person's own wording.",
    ),
    Column("iteration", "Int64", lambda row: row.item.iteration, "From 0."),
    Column(
        "final", "boolean", lambda row: row.item.final, "Whether it is the result of its stage."
    ),
    Column("by", "str", lambda row: row.item.by, "user, model, procedure, rule."),
    Column("language", "str", lambda row: row.item.language, "ISO 639-1."),
    Column(
        "language_sure",
        "float64",
        lambda row: row.item.language_sure,
        "How sure the language is, 0 to 1, where it was guessed; nothing is done on weak guesses.",
    ),
    Column("text", "str", lambda row: row.item.text, "The text itself."),
)
VERDICTS: Table[Within[VerdictGiven]] = _within(
    "verdicts",
    _each(VerdictGiven),
    *_EVENT,
    Column("stage", "str", lambda row: row.item.stage, "As in stages()."),
    Column("allowed", "boolean", lambda row: row.item.allowed, "Whether the run may go on."),
    Column("level", "str", lambda row: row.item.level, "kids, youth, adult, research."),
    Column("policy", "str", lambda row: row.item.policy, "Version of the rules."),
    Column("method", "str", lambda row: row.item.method, "rules, judge, rules+judge."),
    Column("categories", "str", lambda row: ", ".join(row.item.categories), "What was found."),
    Column("reason", "str", lambda row: row.item.reason, "For the person in front of the screen."),
    Column("cause", "str", lambda row: row.item.cause, "What stopped it, for the adult."),
    Column("judge", "str", lambda row: row.item.judge, "The model that judged."),
    Column("seconds", "float64", lambda row: row.item.seconds, "How long the check took."),
    Column("source", "str", lambda row: row.item.source, "The run it was first given in."),
    Column("sha256", "str", lambda row: row.item.sha256, "Of exactly what was checked."),
)
ARTIFACTS: Table[Within[ArtifactWritten]] = _within(
    "artifacts",
    _each(ArtifactWritten),
    *_EVENT,
    Column("path", "str", lambda row: _path(row.run, row.item.path), "Where it lies."),
    Column("media_type", "str", lambda row: row.item.media_type, "As its bytes say."),
    Column("bytes", "Int64", lambda row: row.item.bytes, "Its size."),
    Column("sha256", "str", lambda row: row.item.sha256, "Its hash; equal for equal files."),
    Column("width", "Int64", lambda row: row.item.width, "In pixels."),
    Column("height", "Int64", lambda row: row.item.height, "In pixels."),
    Column("seconds", "float64", lambda row: row.item.seconds, "How long it plays."),
    Column("alt", "str", lambda row: row.item.alt, "What a screen reader says of it."),
    Column("attempt", "Int64", lambda row: row.item.attempt, "As in attempts()."),
    Column("seed", "Int64", lambda row: row.run.summary.seed, "As in runs()."),
)
ATTEMPTS: Table[Within[Attempt]] = _within(
    "attempts",
    lambda run: (Within(run, attempt) for attempt in run.summary.attempts.values()),
    Column("attempt", "Int64", lambda row: row.item.started.attempt, "From 1, in order."),
    Column("stage", "str", lambda row: row.item.started.stage, "As in stages()."),
    Column(
        "task",
        "str",
        lambda row: row.item.started.task,
        "translate, interception, judge, split, media.",
    ),
    Column("backend", "str", lambda row: row.item.started.backend, "Which was asked."),
    Column(
        "model",
        "str",
        lambda row: row.item.finished.model if row.item.finished else row.item.started.model,
        "As it names itself.",
    ),
    Column(
        "digest",
        "str",
        lambda row: (f := row.item.finished) and f.digest,
        "Hash of the model's weights or of the rules.",
    ),
    Column("seed", "Int64", lambda row: row.item.started.seed, "As sent."),
    Column(
        "outcome",
        "str",
        lambda row: (f := row.item.finished) and f.outcome,
        "completed, refused, failed, cancelled; missing: the process died.",
    ),
    Column("seconds", "float64", lambda row: (f := row.item.finished) and f.seconds, "All in all."),
    Column(
        "queue_s",
        "float64",
        lambda row: (f := row.item.finished) and f.queue_s,
        "Waiting at the provider.",
    ),
    Column(
        "compute_s",
        "float64",
        lambda row: (f := row.item.finished) and f.compute_s,
        "Computing there.",
    ),
    Column(
        "input_tokens",
        "Int64",
        lambda row: (f := row.item.finished) and f.input_tokens,
        "As the provider counts.",
    ),
    Column(
        "output_tokens",
        "Int64",
        lambda row: (f := row.item.finished) and f.output_tokens,
        "As the provider counts.",
    ),
    Column(
        "cost_usd",
        "float64",
        lambda row: (f := row.item.finished) and f.cost_usd,
        "Missing: unknown, which is not zero.",
    ),
    Column(
        "cost_source",
        "str",
        lambda row: (f := row.item.finished) and f.cost_source,
        "reported, price-table <date>, local, unknown.",
    ),
    Column(
        "error_type",
        "str",
        lambda row: (f := row.item.finished) and f.error and f.error.type,
        "Of a failed attempt.",
    ),
    Column(
        "error_message",
        "str",
        lambda row: (f := row.item.finished) and (f.error.message if f.error else f.refused),
        "What was wrong, or the refusal.",
    ),
)
EVENT_ROWS: Table[Within[Event]] = _within(
    "events",
    _each(Event),
    *_EVENT,
    Column("type", "str", lambda row: row.item.type, "run_started, text_written, ..."),
    Column(
        "stage",
        "str",
        lambda row: getattr(row.item, "stage", None),
        "As in stages(), where it has one.",
    ),
    Column(
        "data",
        "str",
        lambda row: row.item.model_dump_json(exclude={"type", "stage"}),
        "All its other fields, as JSON.",
    ),
)

TABLES: tuple[Table[Any], ...] = (
    RUNS,
    STAGE_ROWS,
    TEXTS,
    EVENT_ROWS,
    ARTIFACTS,
    VERDICTS,
    ATTEMPTS,
)
PATHS = ("artifact", "path")  # columns that hold a path below the folder of all recordings
