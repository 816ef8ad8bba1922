"""Recordings open on any system, also where Python has no fcntl and folders cannot be opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

RECORDINGS = Path(__file__).parent / "recordings" / "v1"
RUN_ID = "20261122-141503-k3v4x2ma"
MODULES = [
    f"devpipe.{path.parent.name}.{path.stem}".removesuffix(".__init__")
    for room in ("record", "show", "analysis")
    for path in sorted((Path(__file__).parents[1] / "devpipe" / room).glob("*.py"))
]
WITHOUT_POSIX = '''
import importlib.abc, os, sys, tempfile

class Missing(importlib.abc.MetaPathFinder):
    """Modules that Windows does not have."""

    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "grp", "pwd", "resource", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules.pop(name, None)
for name in (
    "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fchown", "fdatasync", "fork",
    "geteuid", "getuid", "posix_fadvise", "pread", "pwrite",
):
    if hasattr(os, name):
        delattr(os, name)
os.supports_dir_fd.clear()

def only_files(path, flags, mode=0o777, *, dir_fd=None, open=os.open):
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return open(path, flags, mode)

def without_folder(path, *, dir_fd=None, follow_symlinks=True, stat=os.stat):
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    return stat(path, follow_symlinks=follow_symlinks)

os.open, os.stat = only_files, without_folder
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "recordings"
    shutil.copytree(RECORDINGS, root)
    return root


def on_a_bare_system(code: str, *arguments: str) -> str:
    """What this code prints in a Python that has nothing of POSIX."""
    whole = WITHOUT_POSIX + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", whole, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_looking_rooms_import() -> None:
    """Each module of record, show and analysis; and a missing module would be seen."""
    code = """
        import importlib
        for name in sys.argv[1:]:
            importlib.import_module(name)
        try:
            import fcntl
        except ModuleNotFoundError:
            print("imported without fcntl")
        """
    assert on_a_bare_system(code, *MODULES) == "imported without fcntl"


def test_a_recording_is_read_shown_and_tabled(root: Path) -> None:
    """Events, files, checksums, the HTML of the run and the tables, first and from their index."""
    code = f"""
        from pathlib import Path
        from devpipe.analysis.tables import Tables
        from devpipe.analysis.verify import verify
        from devpipe.record.reader import Recording, Recordings
        from devpipe.show.html import run_html

        root = Path(sys.argv[1])
        recording = Recordings(root).find("{RUN_ID}")
        print(recording.state, len(recording.files), len(run_html(recording.summary, recording.folder)) > 500)
        print(verify(recording))
        for _ in range(2):
            runs = Tables(root).runs()
            print(runs["run_id"].tolist(), runs["state"].tolist())
        """
    said = on_a_bare_system(code, str(root)).splitlines()
    assert said == [
        "completed 4 True",
        "[]",
        f"['{RUN_ID}'] ['completed']",
        f"['{RUN_ID}'] ['completed']",
    ]


def test_a_link_is_no_file_of_a_recording(root: Path) -> None:
    """Where the system cannot refuse to follow one, we look before."""
    picture = root / "2026-11-22" / RUN_ID / "04_image.png"
    picture.rename(picture.with_suffix(".elsewhere"))
    picture.symlink_to(picture.with_suffix(".elsewhere"))
    code = f"""
        from pathlib import Path
        from devpipe.errors import RecordingDamaged
        from devpipe.record.reader import Recordings
        try:
            Recordings(Path(sys.argv[1])).find("{RUN_ID}").read("04_image.png")
        except RecordingDamaged as error:
            print(error)
        """
    assert "04_image.png cannot be read: Too many levels" in on_a_bare_system(code, str(root))


def test_who_wants_to_write_is_told_what_is_missing(root: Path) -> None:
    """Nothing is made on disk."""
    code = """
        from pathlib import Path
        from devpipe.errors import RecorderError
        from devpipe.record.recorder import Recorder
        from devpipe.record.redaction import Redactor
        try:
            Recorder.create(Path(sys.argv[1]) / "new", "20261122-141503-k3v2x2ma", redact=Redactor())
        except RecorderError as error:
            print(error)
        """
    said = on_a_bare_system(code, str(root))
    assert said == (
        "This system cannot write recordings: it has no O_DIRECTORY, O_NOFOLLOW, fchmod, fcntl."
        " They can be read here; run devpipe on Linux, macOS or WSL."
    )
    assert not (root / "new").exists()
