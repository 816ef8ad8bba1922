"""Is a recording as its events say? Every byte of it, and what else lies there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from devpipe.debris import is_debris
from devpipe.errors import RecorderError
from devpipe.record.events import RunFinished, RunStarted
from devpipe.record.reader import EVENTS, OWN_FILES, SUMMARY, Recording, read_file


def verify(recording: Recording) -> list[str]:
    """List everything that is wrong with a recording, each in a sentence.

    Empty if every byte is as its events say.

    What a dead writer left after its last acknowledged event, a torn tail or a file without event,
    is not wrong: `resume` clears it. Nor is what others put beside the files of a run.
    """
    return list(_problems(recording))


def remarks(recording: Recording) -> list[str]:
    """Say what else a person may want to know of the folder of a recording; none of it is damage.

    What lies there though no event speaks of it, and whether all of it can be read by others, as on
    a share that keeps no modes, or after a copy. What file managers, sync clients and editors leave
    (`devpipe.debris`) is not even that.
    """
    names = sorted(
        entry.name for entry in _entries(recording) if _is_unnamed(entry.name, recording)
    )
    found = [f"also there: {', '.join(names)}"] if names else []
    if _is_all_open(recording):
        found.append("all of it can be read by others: `chmod -R go=` the folder, where that works")
    return found


def _problems(recording: Recording) -> Iterator[str]:
    is_folder = recording.folder.is_dir()
    if is_folder and _is_unborn(recording):
        yield from _open_to_others(recording)
        return
    if recording.damage and not _ends_open(recording):
        yield f"{EVENTS}: {recording.damage}"
    if is_folder:
        yield from _wrong_order(recording)
        yield from _wrong_files(recording)
        if os.path.lexists(recording.folder / SUMMARY) and not _summary_agrees(recording):
            yield f"{SUMMARY}: is not what the events say. It is derived from them: delete it."
        yield from _open_to_others(recording)


def _ends_open(recording: Recording) -> bool:
    """Whether there is no ending, and at most a torn tail in its place."""
    missing = recording.damage and not recording.damage.startswith("line ")
    return not (recording.finished or recording.prefix.rest or missing)


def _is_unborn(recording: Recording) -> bool:
    """Whether the writer died before its first event was acknowledged."""
    left = {entry.name for entry in _entries(recording)}
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


def _open_to_others(recording: Recording) -> Iterator[str]:
    """What others can read, where the rest is its owner's alone."""
    if _is_all_open(recording):
        return
    if _is_open_to_others(recording.folder.stat()):
        yield "the folder can be read by others"
    for entry in _own_entries(recording):
        if _is_open_to_others(entry.stat(follow_symlinks=False)):
            yield f"{entry.name}: can be read by others"


def _is_all_open(recording: Recording) -> bool:
    """Whether folder and files can be read by others: no hand did that, but a file system or copy.

    Shares and sticks (CIFS, FAT, drvfs) know no modes; what copies between machines loses them.
    """
    own = _own_entries(recording)
    states = [entry.stat(follow_symlinks=False) for entry in own]
    return bool(own) and all(map(_is_open_to_others, [recording.folder.stat(), *states]))


def _own_entries(recording: Recording) -> list[os.DirEntry[str]]:
    """The files of the run that lie there."""
    ours = {*recording.files, EVENTS, SUMMARY}
    return [entry for entry in _entries(recording) if entry.name in ours]


def _entries(recording: Recording) -> list[os.DirEntry[str]]:
    """What lies in the folder, but for debris."""
    if not recording.folder.is_dir():
        return []
    with os.scandir(recording.folder) as entries:
        return [entry for entry in entries if not is_debris(entry.name)]


def _is_unnamed(name: str, recording: Recording) -> bool:
    """Whether no event speaks of it, and it is not what a dead writer left."""
    if name in (*recording.files, EVENTS, SUMMARY):
        return False
    return not (_ends_open(recording) and OWN_FILES.fullmatch(name))


def _is_open_to_others(status: os.stat_result) -> bool:
    """Whether others than the owner have rights, on systems with users."""
    return hasattr(os, "getuid") and status.st_mode & 0o077 != 0
