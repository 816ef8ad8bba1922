"""A model of what a power loss may leave: calls replayed from a trace, and disks drawn from what
was not yet made durable.

What was not fsynced may be there in part: any prefix of a file's writes, the last of them cut short
or with zeros in it; any
subset of a folder's new, renamed and removed names. What was fsynced is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(eq=False)
class File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    waiting: list[tuple[int, bytes] | int] = field(
        default_factory=list
    )  # (offset, data) or the length it is cut to

    def change(self, what: tuple[int, bytes] | int) -> None:
        self.waiting.append(what)
        _apply(self.content, what)

    def sync(self) -> None:
        self.durable, self.waiting = bytes(self.content), []

    def after_power_loss(self, chance: random.Random) -> bytes:
        left = bytearray(self.durable)
        count = chance.randint(0, len(self.waiting))
        for number, what in enumerate(self.waiting[:count], 1):
            _apply(
                left,
                _damaged(what, chance) if number == count and isinstance(what, tuple) else what,
            )
        return bytes(left)


def _apply(content: bytearray, what: tuple[int, bytes] | int) -> None:
    if isinstance(what, int):
        del content[what:]
        content.extend(bytes(what - len(content)))
    else:
        offset, data = what
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


def _damaged(what: tuple[int, bytes], chance: random.Random) -> tuple[int, bytes]:
    offset, data = what
    first, last = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
    return chance.choice([what, (offset, data[:first]), (offset, data[:first] + bytes(len(data) - first)),
                          (offset, data[:first] + bytes(last - first) + data[last:])])  # fmt: skip


@dataclass(eq=False)
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    waiting: list[dict[str, File | Folder | None]] = field(
        default_factory=list
    )  # each is there as a whole or not at all

    def change(self, names: dict[str, File | Folder | None]) -> None:
        self.waiting.append(names)
        _rename(self.names, names)

    def sync(self) -> None:
        self.durable, self.waiting = dict(self.names), []

    def after_power_loss(self, chance: random.Random) -> dict[str, File | Folder]:
        left = dict(self.durable)
        share = chance.choice([0.0, 0.5, 1.0])
        for names in self.waiting:
            if chance.random() < share:
                _rename(left, names)
        return left


def _rename(folder: dict[str, File | Folder], names: dict[str, File | Folder | None]) -> None:
    for name, what in names.items():
        if what is None:
            folder.pop(name, None)
        else:
            folder[name] = what


class Disk:
    """The calls of one process, replayed from `strace -xx`; `notes` are the lines it wrote to
    `notes_fd`.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.notes_fd = base, -1
        self.root = Folder()
        self.notes: list[bytes] = []
        self._open: dict[int, File | Folder] = {}
        self.calls = 0

    def load(self) -> None:
        """Take what is below the base as durable."""
        _load(self.root, self.base)

    def replay(self, log: list[str]) -> Iterator[None]:
        """Apply the calls one by one; the disk may be asked for its outcomes after each."""
        for line in log:
            match = _CALL.match(line)
            if match and int(match[3]) >= 0:
                self._call(match[1], match[2], int(match[3]))
                yield

    def _call(self, name: str, arguments: str, result: int) -> None:
        self.calls += 1
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(arguments)]
        numbers = [
            int(n) for n in re.findall(r"(?<![\w\"])\d+(?![\w\"])", _STRING.sub("", arguments))
        ]
        handler = getattr(self, f"_{name}", None)
        if handler:
            handler(texts, numbers, arguments, result)

    def _at(self, path: bytes, arguments: str, which: int = 0) -> tuple[Folder, str]:
        """The folder and the last name that a path means; relative ones begin at the `which`-th
        descriptor named before a path.
        """
        text = path.decode()
        if not text.startswith("/"):
            fd = int(re.findall(r"(\d+), \"", arguments)[which])
            folder = self._open[fd]
            assert isinstance(folder, Folder)
            return folder, text
        parts = Path(text).relative_to(self.base).parts
        here: File | Folder = self.root
        for part in parts[:-1]:
            assert isinstance(here, Folder)
            here = here.names[part]
        assert isinstance(here, Folder)
        return here, parts[-1] if parts else ""

    def _mkdir(self, texts: list[bytes], numbers: list[int], arguments: str, result: int) -> None:
        folder, name = self._at(texts[0], arguments)
        folder.change({name: Folder()})

    def _openat(self, texts: list[bytes], numbers: list[int], arguments: str, result: int) -> None:
        folder, name = self._at(texts[0], arguments)
        if name and name not in folder.names:
            assert "O_CREAT" in arguments
            folder.change({name: File()})
        self._open[result] = folder.names[name] if name else folder

    def _close(self, texts: list[bytes], numbers: list[int], arguments: str, result: int) -> None:
        self._open.pop(numbers[0], None)

    def _write(self, texts: list[bytes], numbers: list[int], arguments: str, result: int) -> None:
        if numbers[0] == self.notes_fd:
            self.notes.append(texts[0])
        else:
            file = self._file(numbers[0])  # all files of a recording are only appended to
            file.change((len(file.content), texts[0][:result]))

    def _pwrite64(
        self, texts: list[bytes], numbers: list[int], arguments: str, result: int
    ) -> None:
        self._file(numbers[0]).change((numbers[-1], texts[0][:result]))

    def _ftruncate(
        self, texts: list[bytes], numbers: list[int], arguments: str, result: int
    ) -> None:
        self._file(numbers[0]).change(numbers[1])

    def _fsync(self, texts: list[bytes], numbers: list[int], arguments: str, result: int) -> None:
        self._open[numbers[0]].sync()

    _fdatasync = _fsync

    def _renameat(
        self, texts: list[bytes], numbers: list[int], arguments: str, result: int
    ) -> None:
        (source, old), (target, new) = (
            self._at(texts[0], arguments),
            self._at(texts[1], arguments, 1),
        )
        assert source is target
        source.change({new: source.names[old], old: None})

    def _unlinkat(
        self, texts: list[bytes], numbers: list[int], arguments: str, result: int
    ) -> None:
        folder, name = self._at(texts[0], arguments)
        folder.change({name: None})

    def _file(self, fd: int) -> File:
        file = self._open[fd]
        assert isinstance(file, File)
        return file

    def outcome(self, chance: random.Random) -> dict[str, bytes | None]:
        """One disk that a power loss at this moment may leave: path -> bytes, None for a folder."""
        left: dict[str, bytes | None] = {}
        _leave(self.root, "", chance, left)
        return left


def _leave(folder: Folder, path: str, chance: random.Random, left: dict[str, bytes | None]) -> None:
    for name, what in folder.after_power_loss(chance).items():
        if isinstance(what, Folder):
            left[f"{path}{name}"] = None
            _leave(what, f"{path}{name}/", chance, left)
        else:
            left[f"{path}{name}"] = what.after_power_loss(chance)


def _load(folder: Folder, path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            below = Folder()
            _load(below, entry)
            folder.names[entry.name] = below
        elif entry.is_file():
            file = File(bytearray(entry.read_bytes()))
            file.sync()
            folder.names[entry.name] = file
    folder.sync()


def materialise(left: dict[str, bytes | None], base: Path) -> None:
    """Put an outcome on a real file system."""
    base.mkdir(mode=0o700)
    for path, data in left.items():
        if data is None:
            (base / path).mkdir(mode=0o700)
        else:
            (base / path).write_bytes(data)
            (base / path).chmod(0o600)
