"""What does a plan's YAML or JSON say, and in which line? Nothing that stands there is passed over.

YAML is read as its version 1.2 says: `yes`, `no`, `on`, `12:30` and `2024-01-01` are texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devpipe.config.faults import json_path
from devpipe.config.strict_json import MAX_DEPTH, parse_object, whole
from devpipe.errors import ConfigError, Fault, UsageError
from devpipe.files import read_plain
from devpipe.media.sheets import Place, line_of

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16_000_000
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:\n]|[^\s\[\]{},:"]+')  # of JSON
_TEXTS = re.compile(
    r"\$\.(?:(?:prompts|prompts_2|instructions|negative_prompts)\[\d+\]"
    r"|exclude\[\d+\]\.(?:prompts?|prompts?_2|instructions?|negative_prompts?))"
)
_INT = "tag:yaml.org,2002:int"
_NEW_LINES = re.compile(r"\r\n?")
# Ends of lines in YAML 1.1, as PyYAML has it: no editor counts them, and between words they are
# spaces.
_NO_ENDS = dict.fromkeys(map(ord, "\x85\u2028\u2029"), " ")
_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))
_ITEM = re.compile(r"\n( *)- ")
_COMMENT = re.compile(r"[ \t]+#[^\n]*")
_NOT_IN_YAML = re.compile(r"[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Document:
    """The names and values of a file, and the place of each by its JSON path."""

    values: dict[str, Any]
    places: Mapping[str, Place]


def read_document(path: Path) -> Document:
    """The table in a .yaml or .json file. Raises UsageError that names the line."""
    try:
        text = read_plain(path, MAX_BYTES).decode("utf-8-sig").lstrip("\ufeff")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Give a .yaml, .json, .csv, .txt or .xlsx file.",
        ) from error
    except UnicodeDecodeError as error:
        line = line_of(error.object, error.start)
        raise UsageError(f"{path}, line {line}: not UTF-8.", hint="Save it as UTF-8.") from error
    text = _NEW_LINES.sub("\n", text)
    try:
        if path.suffix.lower() == ".json":
            return _from_json(path.name, text)
        return _from_yaml(path.name, text)
    except yaml.MarkedYAMLError as error:
        raise _not_valid(path, error.problem, error.problem_mark or error.context_mark) from error
    except json.JSONDecodeError as error:
        raise UsageError(
            f"Plan {path} is not valid: line {error.lineno}, column {error.colno}: {error.msg}.",
            hint="Mend it.",
        ) from error
    except ValueError as error:
        raise UsageError(f"Plan {path} is not valid: it {error}.", hint="Mend it.") from error


def _not_valid(path: Path, problem: str | None, mark: yaml.Mark | None) -> UsageError:
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return UsageError(f"Plan {path} is not valid: {where}{problem}.", hint="Mend it.")


def _from_json(file: str, text: str) -> Document:
    values, faults = parse_object(text)
    if faults:
        raise ConfigError([Fault(file, *fault) for fault in faults], hint="Mend the plan.")
    places = {entry.path: Place(file, "line", entry.line) for entry in _entries(text)}
    return Document(values, places)


# JSON.


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key or an item of a JSON text, and where it stands."""

    path: str
    line: int


@dataclass(slots=True)
class _Holder:
    """An object or list that is being read."""

    path: str
    is_list: bool
    items: int = 0

    def entry(self, token: str, line: int) -> _Entry:
        """The entry that begins with this token."""
        key = self.items if self.is_list else json.loads(token)
        self.items += 1
        return _Entry(json_path(self.path, key), line)


def _entries(text: str) -> Iterator[_Entry]:
    """Every key and item of a valid JSON object, in order.

    >>> [(entry.path, entry.line) for entry in _entries('{"a": [7,\\n8]}')]
    [('$.a', 1), ('$.a[0]', 1), ('$.a[1]', 2)]
    """
    holders: list[_Holder] = []
    path = "$"
    line = 1
    is_new = False
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
            continue
        if is_new and token not in ("]", "}"):
            entry = holders[-1].entry(token, line)
            path = entry.path
            yield entry
        is_new = token in ("[", "{", ",")
        if token in ("[", "{"):
            holders.append(_Holder(path, token == "["))
        elif token in ("]", "}"):
            holders.pop()


# YAML.


class _Loader(yaml.SafeLoader):
    """YAML that means what it looks like.

    No aliases (a few hundred bytes of them can stand for gigabytes), no tags, no deep nesting.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent) or event.anchor or getattr(event, "tag", ""):
            problem = "anchors (&name), aliases (*name) and tags (!name) are not allowed"
            raise _fault(problem, event.start_mark)
        if self._depth >= MAX_DEPTH:
            raise _fault(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _whole(loader: _Loader, node: yaml.Node) -> int | float:
    return whole(str(node.value))


_Loader.add_constructor(_INT, _whole)


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_CORE = (  # YAML 1.2, section 10.3.2; numbers as JSON spells them
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
)
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first
    )


def _from_yaml(file: str, text: str) -> Document:
    forbidden = _NOT_IN_YAML.search(text)
    if forbidden:
        line = text.count("\n", 0, forbidden.start()) + 1
        raise ValueError(f"holds the character {forbidden[0]!r} in line {line}")
    text = text.translate(_NO_ENDS)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(
                f"Plan {file} is not a table of names and values.", hint="Begin with `name: ...`."
            )
        places = {}
        for path, line in _checked_entries(node, "$", text):
            places[path] = Place(file, "line", line)
        return Document(loader.construct_document(node), places)
    finally:
        loader.dispose()


def _checked_entries(node: yaml.Node, at: str, text: str) -> Iterator[tuple[str, int]]:
    """Every key and item with its line.

    Raises MarkedYAMLError where a key stands there twice, or where a text would lose something.
    """
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            path = json_path(at, index)
            _take_as_text(item, path, text)
            yield path, item.start_mark.line + 1
            yield from _checked_entries(item, path, text)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault("a name must be a word, and not a list or table", key.start_mark)
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in lines:
                problem = f"{name} stands there twice, in lines {lines[name]} and {line}"
                raise _fault(problem, key.start_mark)
            lines[name] = line
            _take_as_text(value, json_path(at, name), text)
            yield json_path(at, name), line
            yield from _checked_entries(value, json_path(at, name), text)


def _take_as_text(node: yaml.Node, path: str, text: str) -> None:
    """Read 007 and true as they stand there, where a text is what is meant."""
    if _TEXTS.fullmatch(path) and isinstance(node, yaml.ScalarNode):
        _refuse_lost_end(node, text)
        if node.tag in _NUMBERS:
            node.tag = _TEXT


def _refuse_lost_end(node: yaml.ScalarNode, text: str) -> None:
    """Refuse a comment behind a text without quotes, and items inside of quotes.

    Either may be a part of what was meant as a text: `#3`, or what follows `- 'tis a cat`.
    """
    if node.style is None:
        comment = _COMMENT.match(text, node.end_mark.index)
        if comment:
            lost = comment[0].strip()[:40]
            raise _fault(
                f"{lost!r} would be lost: put the text in quotes, or the comment on a line of its"
                " own",
                node.end_mark,
            )
    elif node.style in ("'", '"'):
        inside = text[node.start_mark.index : node.end_mark.index]
        for item in _ITEM.finditer(inside):
            if len(item[1]) < node.start_mark.column:
                raise _fault(
                    "the quote that opens here closes behind another item; close it, or put"
                    " the whole text in quotes",
                    node.start_mark,
                )
