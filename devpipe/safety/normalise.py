"""What a text may say once spelling tricks are taken away: folded letters, the readings of odd
spellings, decoded parts.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

VERSION = "normalise-3"
REACH = 25  # words to either side that may tell how a word is meant

_NAMED = re.compile(
    r"(?:LATIN|REGIONAL|NEGATIVE|SQUARED|CIRCLED).* (?:LETTER|LIGATURE|SYMBOL) (?:[A-Z]{4,}"
    r" )*([A-Z])(?: WITH .*)?"
)
_BLANK = "\u115f\u1160\u3164\uffa0\u2800\ufffc\ufffd"  # letters and signs that are drawn as nothing
SOFT_HYPHEN = "\u00ad"
_LEET = (
    ("oizeasgtbg", "il"),
    ("olreasbtbp", "li"),
    ("oizeasgtbg", "ii"),
)  # what 0..9 and ! | may stand for, in three readings
_SIGNS = {"@": "a", "$": "s", "+": "t", "(": "c", "<": "c", "{": "c", "^": "a", "&": "a", "°": "o"}
_MAPS = tuple(
    str.maketrans("0123456789!|", digits + bars) | str.maketrans(_SIGNS) for digits, bars in _LEET
)
_LETTERS = re.compile(r"[^\W\d_]+|\d+")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_MIXED = re.compile(
    r"[^\W\d_][^\w\s]{0,3}[0-9@$!|+(<{^&°\\/\[]|[0-9@$!|+)<{^&°\\/\]>][^\w\s]{0,3}[^\W\d_]"
    r"|(?<!\S)[^\W\d_] [0-9@$!|] \S(?!\S)|(?<!\S)[0-9@$!|] [^\W\d_](?!\S)"
)
_EDGES = ".,;:?!\"'()[]{}…„“”‚‘’«»‹›-–—*_~`"
_MASKED = re.compile(r"[a-z*#_.\-?~^%•·'’+=x]*")
_MORSE_SIGNS = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .--"
    " -..- -.-- --.."
)
_MORSE = {sign: chr(97 + n) for n, sign in enumerate(_MORSE_SIGNS.split(" "))}
_DASHES = str.maketrans(
    {"·": ".", "•": ".", "∙": ".", "−": "-", "–": "-", "—": "-", "_": "-", "|": "/"}
)
_ESCAPE = re.compile(
    r"(?:\\+[uUxX]|[uU]\+|0[xX]|%[uU])\{?([0-9a-fA-F]{2,6})\}?(?:[\s,;]+(?=0[xX]|[uU]\+))?"
)
_HEX = re.compile(r"(?<![0-9a-zA-Z])(?:[0-9a-fA-F]{2}[\s:,.-]?){3,}(?![0-9a-zA-Z])")
_BINARY = re.compile(r"(?:(?<![0-9])[01]{7,8}[\s,.-]*){3,}|(?<![0-9])(?:[01]{8}){3,}(?![0-9])")
_NUMBERS = re.compile(r"(?<![0-9])(?:[0-9]{1,3}[\s,;.-]{1,3}){2,}[0-9]{1,3}(?![0-9])")
_DOTS = re.compile(r"(?:[.-]{1,4}[ /\n]{1,3}){2,}[.-]{1,4}")
_BASE = re.compile(r"[A-Za-z0-9+/_-]{6,}={0,6}")
_OPAQUE = re.compile(r"(?<![\w./:#?&=%-])[A-Za-z0-9+/]{20,}={0,2}(?![\w./:])")

_ALIKE = str.maketrans("czv", "ksu")
_TURNED = re.compile("[ɐɔǝɟƃɥᴉɾʞןʅɯɹʇʌʍʎ]")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,80}>|<!--[^<>]{0,80}-->")


@dataclass(frozen=True, slots=True)
class Lookalikes:
    """Signs that are read as Latin letters though they are none."""

    letters: Mapping[str, str]  # of other scripts, by their shapes in the Unicode charts
    drawn: Sequence[tuple[str, str]]  # of several signs, such as |_ for l
    flipped: Mapping[int, int]  # turned by half


@lru_cache(maxsize=1)
def lookalikes() -> Lookalikes:
    """The lookalikes of lookalikes.json."""
    raw = json.loads(Path(__file__).with_name("lookalikes.json").read_text("utf-8"))
    letters = {look: letter for letter, looks in raw["letters"].items() for look in looks}
    drawn = [(signs, letter) for signs, letter in raw["drawn"]]
    return Lookalikes(letters, drawn, str.maketrans(*raw["flipped"]))


class _Folds(dict[int, str]):
    """Character by character what `fold` makes of it, worked out when first met."""

    def __missing__(self, code: int) -> str:
        folded = chr(code)
        for _ in range(
            2
            # a capital may look like another letter than its small form; folding may bring new
            # lookalikes
        ):
            folded = "".join(map(_latin, unicodedata.normalize("NFKD", folded))).casefold()
        self[code] = folded
        return folded


def _latin(char: str) -> str:
    kind = unicodedata.category(char)
    if kind in ("Cc", "Cs"):  # whoever reads the text meets a gap there
        return " "
    if kind in ("Mn", "Me") or is_unseen(char):
        return ""
    if char.isascii():
        return char
    if letter := lookalikes().letters.get(char):
        return letter
    named = _NAMED.fullmatch(unicodedata.name(char, ""))
    return named[1] if named else char


def is_unseen(char: str) -> bool:
    """Whether a sign is drawn as nothing, or as a gap: inside a word it hides, else it parts."""
    return unicodedata.category(char) == "Cf" or char in _BLANK


def parted(text: str) -> str:
    """The text with a space for each sign that is drawn as nothing, or as a gap.

    But for the soft hyphen: that stands inside a word.
    """
    if text.isascii():
        return text
    return "".join(" " if is_unseen(char) and char != SOFT_HYPHEN else char for char in text)


@lru_cache(maxsize=1)
def _folds() -> _Folds:
    return _Folds()


def fold(text: str) -> str:
    """The text in small Latin letters: NFKD, lookalikes and letters in boxes replaced, marks and
    invisible characters gone.
    """
    return text.translate(_folds())


def words(text: str) -> list[str]:
    """Every run of letters, and every number, of a folded text."""
    return _LETTERS.findall(text)


def readings(folded: str) -> list[list[str]]:
    """The word sequences a folded text may mean: as written; around odd spellings without inserted
    signs, and with digits as letters.
    """
    found = [words(folded)]
    chunks = folded.split()
    pieces = [[chunk] if chunk.isalpha() else words(chunk) for chunk in chunks]
    torn = [n for n, piece in enumerate(pieces) if len(piece) > 1 and min(map(len, piece)) < 3]
    for begin, end in _around(torn):
        found.append(
            [
                word
                for piece in pieces[begin:end]
                for word in (piece if min(map(len, piece), default=3) > 2 else _closed(piece))
            ]
        )
    odd = [
        n
        for n, chunk in enumerate(chunks)
        if not chunk.isalpha() and not chunk.strip(_EDGES).isalpha()
    ]
    for table in _MAPS if _MIXED.search(folded) else ():
        for begin, end in _around(odd):
            found.append([word for chunk in chunks[begin:end] if (word := _unleet(chunk, table))])
    return [reading for n, reading in enumerate(found) if reading and reading not in found[:n]]


def _closed(pieces: list[str]) -> list[str]:
    joined = "".join(filter(str.isalpha, pieces))
    return [joined] if joined else pieces


def _around(places: list[int]) -> list[tuple[int, int]]:
    """The stretches of words near these places, near meaning near enough to be context."""
    stretches: list[tuple[int, int]] = []
    for place in places:
        begin, end = max(0, place - REACH), place + REACH + 1
        if stretches and begin <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((begin, end))
    return stretches


def _unleet(chunk: str, table: dict[int, int | str]) -> str:
    if chunk.isalpha() or (
        table is not _MAPS[2] and len(chunk) > 1 and chunk.strip(_EDGES).isdigit()
    ):
        return chunk if chunk.isalpha() else ""
    for drawn, letter in lookalikes().drawn if not chunk.isalnum() else ():
        chunk = chunk.replace(drawn, letter)
    chunk = chunk.rstrip(_EDGES if table is not _MAPS[2] else ".,;:?") if len(chunk) > 1 else chunk
    return _NOT_LETTERS.sub("", chunk.lstrip("\"'").translate(table))


def masked(folded: str, unmasked: Callable[[str], str]) -> list[str]:
    """The words, where some are masked ("p*rno"), with what `unmasked` makes of each pattern: a dot
    for * or #, else a hyphen.
    """
    found: list[str] = []
    any_masked = False
    for chunk in folded.split():
        bare = chunk.strip(".,;:?!\"'()„“”«»")
        pattern = re.sub(r"[^a-z]", "." if "*" in bare or "#" in bare else "-", bare)
        hidden = len(pattern) - sum(map(str.isalpha, pattern))
        word = (
            unmasked(pattern)
            if 0 < hidden <= 3 and len(bare) <= 40 and _MASKED.fullmatch(bare)
            else ""
        )
        any_masked = any_masked or bool(word)
        found.append(word or _NOT_LETTERS.sub("", chunk))
    return [word for word in found if word] if any_masked else []


def runs(sequence: list[str], longest: int) -> Iterator[tuple[int, str]]:
    """Letters written one by one (or in pieces of at most `longest`), put together again, with the
    place where they begin.
    """
    run: list[str] = []
    for place, word in enumerate([*sequence, "   "]):
        if len(word) <= longest and word.isalpha():
            run.append(word)
            continue
        if len(run) >= 3:
            yield place - len(run), "".join(run)
        run = []


def by_ear(word: str) -> str:
    """The word with one letter for letters that sound or look alike: other spellings of it become
    equal.
    """
    return word.replace("ph", "f").replace("x", "kk").translate(_ALIKE)


def rot13(word: str) -> str:
    return codecs.encode(word, "rot13")


def decoded(text: str) -> Iterator[str]:
    """What parts of the text say if they are tags, selectors, escapes, entities, hex, numbers,
    binary, Morse, base32 or base64.
    """
    if not text.isascii():
        yield "".join(chr(ord(c) - 0xE0000) for c in text if 0xE0020 <= ord(c) <= 0xE007E)
        selected = bytes(_selector(ord(c)) for c in text if _selector(ord(c)) >= 0)
        yield selected.decode("utf-8", "ignore")
        if _TURNED.search(text):
            yield text.translate(lookalikes().flipped)[::-1]
    if "<" in text or "-\n" in text:
        yield _TAG.sub("", text).replace("-\n", "")
    if "&" in text:
        yield html.unescape(text)
    if "%" in text:
        yield unquote(text, errors="ignore")
    if "\\" in text or "+" in text or "0x" in text or "%u" in text:
        yield _ESCAPE.sub(lambda match: _char(int(match[1], 16)), text)
    for match in _HEX.finditer(text):
        yield _readable(
            bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", match[0])[: len(match[0]) // 2 * 2] or "00")
        )
    yield from _numbers(text)
    marks = text.translate(_DASHES)
    for match in _DOTS.finditer(marks):
        yield "".join(
            _MORSE.get(sign, " ") for sign in re.split(r" +|(/)|(\n)", match[0].strip()) if sign
        )
    yield from _bases(text)


def _selector(code: int) -> int:
    return (
        code - 0xFE00
        if 0xFE00 <= code <= 0xFE0F
        else code - 0xE0100 + 16
        if 0xE0100 <= code <= 0xE01EF
        else -1
    )


def _char(code: int) -> str:
    return chr(code) if 32 <= code < 0xD800 or 0xE000 <= code < 0x110000 else " "


def _numbers(text: str) -> Iterator[str]:
    for match in _BINARY.finditer(text):
        groups = (
            re.findall(r"[01]{8}", match[0])
            if re.search(r"[01]{8}", match[0])
            else re.findall(r"[01]{7}", match[0])
        )
        yield "".join(_char(int(group, 2)) for group in groups)
    for match in _NUMBERS.finditer(text):
        codes = [int(number) for number in re.findall(r"[0-9]+", match[0])]
        if all(1 <= code <= 26 for code in codes):
            yield "".join(chr(96 + code) for code in codes)
        elif all(32 <= code <= 122 for code in codes):
            yield "".join(map(chr, codes))


def _readable(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if all(c.isprintable() or c.isspace() for c in text) else ""


def _bases(text: str) -> Iterator[str]:
    for match in _BASE.finditer(text):
        token = match[0].rstrip("=")
        if (token[1:].islower() and token.isalpha()) or token.isdigit():
            continue
        yield _readable(
            _unbase(base64.urlsafe_b64decode, token.replace("+", "-").replace("/", "_"), 4)
        )
        if token.isupper():
            yield _readable(_unbase(base64.b32decode, token, 8))


def _unbase(decode: object, token: str, block: int) -> bytes:
    try:
        return decode(token + "=" * (-len(token) % block))  # type: ignore[operator,no-any-return]
    except (binascii.Error, ValueError):
        return b""


def looks_encoded(text: str) -> str:
    """The first long token that looks like an encoding and decodes to no text, or nothing."""
    for match in _OPAQUE.finditer(text):
        token = match[0]
        changes = sum(a.isupper() != b.isupper() for a, b in pairwise(token.rstrip("=")))
        if sum(c.isdigit() for c in token) >= 2 and changes >= 8 and not any(_bases(token)):
            return token
    return ""
