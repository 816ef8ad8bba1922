"""Is a recording as its events say? Every byte of it, and nothing beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from devpipe.errors import RecorderError
from devpipe.record.events import RunFinished, RunStarted
from devpipe.record.files import is_open_to_others
from devpipe.record.reader import EVENTS, SUMMARY, SUMMARY_PART, Recording, read_file


def verify(recording: Recording) -> list[str]:
    """List everything that is wrong with a recording, each in a sentence.

    Empty if every byte is as its events say.

    What a dead writer left after its last acknowledged event, a torn tail or a file without event,
    is not wrong: `resume` clears it.
    """
    return list(_problems(recording))


def _problems(recording: Recording) -> Iterator[str]:
    is_folder = recording.folder.is_dir()
    if is_folder and _is_unborn(recording):
        yield from _strangers(recording)
        return
    if recording.damage and not _ends_open(recording):
        yield f"{EVENTS}: {recording.damage}"
    if is_folder:
        yield from _wrong_order(recording)
        yield from _wrong_files(recording)
        if os.path.lexists(recording.folder / SUMMARY) and not _summary_agrees(recording):
            yield f"{SUMMARY}: is not what the events say. It is derived from them: delete it."
        yield from _strangers(recording)


def _ends_open(recording: Recording) -> bool:
    """Whether there is no ending, and at most a torn tail in its place."""
    missing = recording.damage and not recording.damage.startswith("line ")
    return not (recording.finished or recording.prefix.rest or missing)


def _is_unborn(recording: Recording) -> bool:
    """Whether the writer died before its first event was acknowledged."""
    left = {entry.name for entry in os.scandir(recording.folder)}
    nothing_whole = not recording.prefix.lines and _ends_open(recording)
    return not left or (nothing_whole and SUMMARY not in left)


def _wrong_order(recording: Recording) -> Iterator[str]:
    """What is wrong with the two ends of the run."""
    beginning = recording.beginning
    if beginning is None:
        yield f"{EVENTS}: does not begin with run_started"
    elif isinstance(beginning, RunStarted) and beginning.run_id != recording.id:
        yield f"{EVENTS}: is of run {beginning.run_id}"
    for recorded in recording.events[:-1]:
        if isinstance(recorded.event, RunFinished):
            yield f"{EVENTS}: goes on after the end of the run"


def _wrong_files(recording: Recording) -> Iterator[str]:
    for name in recording.files:
        try:
            recording.read(name)
        except RecorderError as exc:
            yield str(exc)


def _summary_agrees(recording: Recording) -> bool:
    """Whether run.json says what the events say, as far as this version understands both."""
    try:
        written = json.loads(read_file(recording.folder, SUMMARY))
    except (RecorderError, ValueError):
        return False
    if recording.notes:
        return True  # who reads only some of the events cannot tell
    now = json.loads(json.dumps(recording.summary.to_json()))
    return recording.finished and _agree(now, written)


def _agree(now: object, written: object) -> bool:
    """Whether two summaries agree; one of them may say more.

    Fields are added in time: an older version wrote fewer than we know, a later one more.
    """
    if isinstance(now, dict) and isinstance(written, dict):
        one_has_all = now.keys() <= written.keys() or written.keys() <= now.keys()
        shared = now.keys() & written.keys()
        return one_has_all and all(_agree(now[key], written[key]) for key in shared)
    if isinstance(now, list) and isinstance(written, list):
        return len(now) == len(written) and all(map(_agree, now, written))
    return now == written


def _strangers(recording: Recording) -> Iterator[str]:
    """Files nobody named, and modes that let others read."""
    if is_open_to_others(recording.folder.stat()):
        yield "the folder can be read by others"
    expected = {*recording.files, EVENTS, SUMMARY, SUMMARY_PART}
    for entry in os.scandir(recording.folder):
        if entry.name not in expected:
            if not _ends_open(recording):
                yield f"{entry.name}: no event names it"
        elif is_open_to_others(entry.stat(follow_symlinks=False)):
            yield f"{entry.name}: can be read by others"
