"""How a run shows itself in a notebook: plain HTML without scripts, readable in light and dark,
every foreign character escaped.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import hashlib
import html
import os
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from devpipe.errors import DevpipeError, RecorderError, RecordingDamaged
from devpipe.media.pictures import thumbnail
from devpipe.record.events import ArtifactWritten, Problem, TextWritten, VerdictGiven
from devpipe.record.reader import DERIVED, Recording
from devpipe.record.summary import RunSummary, StageSummary
from devpipe.show.files import replacing
from devpipe.show.host import is_shared_page, served_folder
from devpipe.show.language import page_language
from devpipe.show.problems import PageProblem, page_problem
from devpipe.show.wording import in_words
from devpipe.text.language import SURE
from devpipe.text.messages import message

Change = Literal["same", "gone", "new"]

EMBEDDED = 1_000_000  # bytes: a film or sound up to this size plays in the page
SAVED_PER_SHOWN = (
    4  # a file to be saved from a page may be so much larger than one that plays there
)
KEYS_STAY = 'data-lm-suppress-shortcuts="true"'  # to JupyterLab: no key is yours here


@lru_cache(maxsize=1)
def style() -> str:
    """The style element that our HTML needs once on a page."""
    return f"<style>\n{rules()}</style>"


def rules() -> str:
    """The rules of that element."""
    return Path(__file__).with_name("style.css").read_text("utf-8")


def run_html(summary: RunSummary, folder: Path) -> str:
    """The four stages with their texts and verdicts, what came of them, and the pictures as
    thumbnails, in the language of the input.

    No list or heading of HTML in it: a notebook's host lays those out in its own way.
    """
    language = _page_language(summary.stages["input"])
    stages = "".join(
        _stage(summary, stage, language)
        for stage in summary.stages.values()
        if stage.outcome or stage.texts
    )
    shown = "".join(f"<div>{media_html(folder, one, language)}</div>" for one in summary.artifacts)
    return (
        f'{style()}<div class="devpipe">{_title(summary, folder, language)}'
        f"{notes_html(summary, language)}<div"
        f' class="run"><div class="stages">{stages}</div><div>{shown}</div></div></div>'
    )


def _page_language(stage: StageSummary) -> str:
    """The language of the input, where that is more than a weak guess; else the machine's."""
    for part, language in stage.languages.items():
        return language if stage.language_sure[part] >= SURE else page_language()
    return "en"


def _title(summary: RunSummary, folder: Path, language: str) -> str:
    started = summary.started
    if summary.cost_usd is None:
        cost = message("page.unknown", language)
    else:
        cost = f"{summary.cost_usd:.4f} USD"
    facts = [
        _state(summary, folder, language),
        f"{message('page.seed', language)} {summary.seed if summary.seed is not None else '-'}",
        f"{message('page.text_seed', language)} {started.text_seed if started else '-'}",
        f"{message('page.cost', language)} {cost} ({summary.cost_source})",
        f"{summary.duration_s:.1f} s",
        started.run_id if started else "",
    ]
    named = f"{started.pipeline} → {started.output}" if started else "-"
    return (
        f'<div class="title"><strong>{h(named)}</strong><br><small>{h(" · ".join(facts))}</small>'
        f"</div>{_error(summary.error, language)}"
    )


def _error(error: Problem | None, language: str) -> str:
    if error is None:
        return ""
    problem = page_problem(DevpipeError(error.message, hint=error.hint), language, kind=error.type)
    return f'<div class="tile" role="note">{problem_html(problem, language)}</div>'


def notes_html(summary: RunSummary, language: str) -> str:
    """What a reader of the run should know, a line each: who stood in, what was not used."""
    notes = dict.fromkeys(in_words("page", note, language) for note in summary.notes)
    lines = "".join(f"<p>{h(note)}</p>" for note in notes)
    return f'<div class="tile" role="note">{lines}</div>' if lines else ""


def problem_html(problem: PageProblem, language: str) -> str:
    """What went wrong in a page's words; the exact ones are folded, for an adult."""
    sentences = "".join(f"<p>{h(sentence)}</p>" for sentence in problem.sentences)
    if not problem.details:
        return sentences
    return sentences + fold(message("page.exact_words", language), f"<p>{h(problem.details)}</p>")


def fold(title: str, inside: str) -> str:
    """What is out of sight until somebody opens it, by mouse or by keyboard.

    The attribute tells JupyterLab to leave its keys alone: Enter is to open it.
    """
    summary = f"<summary {KEYS_STAY}>{h(title)}</summary>"
    return f"<details>{summary}{inside}</details>"


def _state(summary: RunSummary, folder: Path, language: str) -> str:
    """How the run ended; of one that is under way, when it was looked at: this page stays so."""
    if summary.outcome:
        return message(f"page.state.{summary.outcome}", language)
    try:
        state: str = Recording(folder).state
    except RecorderError:
        state = "damaged"
    shown = message(f"page.state.{state}", language)
    if state != "running":
        return shown
    now = time.strftime("%H:%M:%S")
    return message("page.as_of", language, state=shown, time=now)


def _stage(summary: RunSummary, stage: StageSummary, language: str) -> str:
    notes = []
    if stage.outcome:
        notes += [message(f"page.state.{stage.outcome}", language), f"{stage.seconds:.2f} s"]
    if stage.reused_from:
        notes.append(f"{message('page.reused', language)} {stage.reused_from}")
    attempts = summary.media_attempts if stage.stage == "generation" else []
    notes += [f"{one.started.backend} {one.started.model}" for one in attempts]
    texts = "".join(
        f'<div class="text"{_marks(_known(stage, part))}>{_text(summary, stage, part)}</div>'
        for part in stage.texts
    )
    name = h(message(f"page.stage.{stage.stage}", language))
    title = f"{name} <small>{h(' · '.join(note for note in notes if note))}</small>"
    inside = f"{texts}{_steps(stage, language)}{_verdict(stage.verdict, language)}"
    return f'<div class="stage"><div class="name">{title}</div>{inside}</div>'


def _text(summary: RunSummary, stage: StageSummary, part: str) -> str:
    """The text; that of Stage 2 with what it did to the input."""
    before = summary.stages["input"].texts.get(part)
    if stage.stage != "interception" or before is None:
        return h(stage.texts[part])
    tags = {"same": "{}", "gone": "<del>{}</del>", "new": "<ins>{}</ins>"}
    return "".join(
        tags[change].format(h(words.strip())) + " "
        for change, words in word_diff(before, stage.texts[part])
    )


def _steps(stage: StageSummary, language: str) -> str:
    between = [one for one in stage.written if not one.final]
    if not between:
        return ""
    items = "".join(f"<li{_marks(known_language(one))}>{h(one.text)}</li>" for one in stage.written)
    title = f"{message('page.steps', language)}: {len(stage.written)}"
    return fold(title, f"<ol>{items}</ol>")


def _verdict(verdict: VerdictGiven | None, language: str) -> str:
    if verdict is None:
        return ""
    decision = message("page.allowed" if verdict.allowed else "page.state.blocked", language)
    told = f"{decision} · {verdict.level} · {verdict.method}"
    if verdict.allowed:
        return f"<div><small>✓ {h(told)}</small></div>"
    cause = h(": ".join(filter(None, [", ".join(verdict.categories), verdict.cause])))
    folded = fold(message("page.for_adults", language), cause) if cause else ""
    return f'<div class="tile"><p>{h(verdict.reason)}</p><small>✗ {h(told)}</small>{folded}</div>'


def media_html(
    folder: Path,
    artifact: ArtifactWritten,
    language: str,
    *,
    name: str = "",
    near: Path | None = None,
    limit: int = EMBEDDED,
) -> str:
    """One file: a picture as a thumbnail with its alt text, a film or sound of up to `limit` bytes
    to play, else its name alone.

    What leads there is called `name`: see `file_html`.
    """
    alt = artifact.alt or message("page.picture", language)
    caption = file_html(folder, artifact, name=name, near=near, limit=SAVED_PER_SHOWN * limit)
    kind = artifact.media_type.partition("/")[0]
    if kind in ("video", "audio") and artifact.bytes > limit:
        return f"<figure><p>{h(alt)}</p><figcaption>{caption}</figcaption></figure>"
    data = shown_bytes(folder, artifact)
    if data is None:
        missing = h(message("page.missing", language))
        return f'<p class="tile" role="note">{h(artifact.path)} {missing}.</p>'
    if kind == "image":
        shown = picture_html(folder, artifact, data, language, limit=limit)
    elif kind in ("video", "audio") and re.fullmatch(r"[a-z0-9/+.-]+", artifact.media_type):
        shown = (
            f'<{kind} controls {KEYS_STAY} aria-label="{h(alt)}"'
            f' src="{data_uri(artifact.media_type, data)}"></{kind}>'
        )
    else:
        shown = f"<p>{h(alt)}</p>"
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def picture_html(
    folder: Path, artifact: ArtifactWritten, still: bytes, language: str, *, limit: int
) -> str:
    """A picture by its thumbnail; one that moves (up to `limit` bytes) once somebody starts it.

    Nothing moves by itself: who is distracted by it could not stop it, an image has no controls.
    """
    alt = h(artifact.alt or message("page.picture", language))
    shown = f'<img alt="{alt}" src="{data_uri("image/webp", still)}">'
    if artifact.seconds is None or artifact.bytes > limit:
        return shown
    moving = _whole(folder, artifact)
    if moving is None or not re.fullmatch(r"[a-z0-9/+.-]+", artifact.media_type):
        return shown
    start = h(message("page.play", language))
    stop = h(message("page.stop_playing", language))
    summary = f'<span class="start">▶ {start}</span><span class="stop">■ {stop}</span>'
    film = f'<img alt="{alt}" src="{data_uri(artifact.media_type, moving)}">'
    return (
        f'<div class="devpipe-film"><div class="still">{shown}</div>'
        f"<details><summary {KEYS_STAY}>{summary}</summary>{film}</details></div>"
    )


def file_html(
    folder: Path,
    artifact: ArtifactWritten,
    *,
    name: str = "",
    near: Path | None = None,
    limit: int = SAVED_PER_SHOWN * EMBEDDED,
) -> str:
    """What leads to a file, and leads there where the page is shown.

    A link, its path as seen from `near`, the working directory by default: in Jupyter that of the
    notebook. In a shared page nobody serves the recordings: the file itself, up to `limit` bytes,
    to be saved. Where the notebook's server does not serve it, the path as text.
    """
    path = os.path.relpath(folder / Path(artifact.path).name, near or Path.cwd())
    shown = h(name or path)
    if near is None and is_shared_page():
        return _saved(folder, artifact, name, limit) or f"<code>{shown}</code>"
    served = served_folder() if near is None else None
    if served is not None and not folder.resolve().is_relative_to(served.resolve()):
        return f"<code>{shown}</code>"
    return f'<a {KEYS_STAY} href="{h(quote(path))}">{shown}</a>'


def _saved(folder: Path, artifact: ArtifactWritten, name: str, limit: int) -> str:
    """A link that holds the file itself; empty where it is larger, or not what was recorded."""
    if artifact.bytes > limit or not re.fullmatch(r"[a-z0-9/+.-]+", artifact.media_type):
        return ""
    data = _whole(folder, artifact)
    if data is None:
        return ""
    file = Path(artifact.path).name
    whole = data_uri(artifact.media_type, data)
    return f'<a {KEYS_STAY} download="{h(file)}" href="{whole}">{h(name or file)}</a>'


def shown_bytes(folder: Path, artifact: ArtifactWritten) -> bytes | None:
    """A picture's thumbnail (WEBP, 256 pixels; of an animated one its first frame), other files
    whole; None where the file is not there or not what was recorded.

    Thumbnails are made once and lie in `.index/` beside the recordings, named by their picture's
    hash.
    """
    if not artifact.media_type.startswith("image/"):
        return _whole(folder, artifact)
    kept = folder.parent.parent / DERIVED / f"{artifact.sha256}.webp"
    if not re.fullmatch("[0-9a-f]{64}", artifact.sha256):
        return None
    with contextlib.suppress(OSError):
        return kept.read_bytes()
    try:
        small = thumbnail(_whole(folder, artifact) or b"")
    except DevpipeError:
        return None
    with contextlib.suppress(OSError):
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(kept) as file:
            file.write_bytes(small)
    return small


def _whole(folder: Path, artifact: ArtifactWritten) -> bytes | None:
    try:
        data = Recording(folder).path(artifact.path).read_bytes()
    except (RecordingDamaged, OSError):
        return None
    return data if hashlib.sha256(data).hexdigest() == artifact.sha256 else None


def word_diff(a: str, b: str) -> list[tuple[Change, str]]:
    """What became of text `a` in text `b`, in pieces of whole words with the space after them.

    >>> word_diff("a red cat", "a blue cat")
    [('same', 'a '), ('gone', 'red '), ('new', 'blue '), ('same', 'cat')]
    """
    before, after = (re.findall(r"\s*\S+\s*", text) for text in (a, b))
    pieces: list[tuple[Change, str]] = []
    for tag, i, j, k, m in _matcher(before, after).get_opcodes():
        if tag == "equal":
            pieces.append(("same", "".join(after[k:m])))
            continue
        pieces += [("gone", "".join(before[i:j]))] if j > i else []
        pieces += [("new", "".join(after[k:m]))] if m > k else []
    return pieces


def similarity(a: str, b: str) -> float:
    """How alike two texts are, 0..1: the share of their words that stay, in order (difflib's ratio,
    Ratcliff and Obershelp).

    >>> similarity("a red cat", "a blue cat")
    0.6666666666666666
    """
    return _matcher(a.split(), b.split()).ratio()


def _matcher(a: Sequence[str], b: Sequence[str]) -> difflib.SequenceMatcher[str]:
    return difflib.SequenceMatcher(None, [word.strip() for word in a], [word.strip() for word in b])


def data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def known_language(text: TextWritten) -> str:
    """The language of a text; empty where it is a weak guess, which no voice is to read it by."""
    return text.language if text.language_sure >= SURE else ""


def _known(stage: StageSummary, part: str) -> str:
    return stage.languages.get(part, "") if stage.language_sure.get(part, 1.0) >= SURE else ""


def _marks(language: str) -> str:
    """What a screen reader and the browser need to read a text in its own language and
    direction.
    """
    return (
        f' dir="auto" lang="{language}"' if re.fullmatch("[a-z]{2,3}", language) else ' dir="auto"'
    )


def h(text: object) -> str:
    """Text as HTML.

    Everything foreign passes here: prompts, answers of models, file names, errors.
    """
    return html.escape(str(text))
