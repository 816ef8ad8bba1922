"""What of a model's answer is the text?

Its thoughts, marks and talk around it go by rule (chatter.toml); parts and bracketed words are held
to account.
"""

from __future__ import annotations

import html
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from devpipe.errors import Rejected
from devpipe.text.clean import visible

Pairs = list[tuple[str, object]]
LONGEST_TAIL = 400  # characters of marks behind an answer
MOST_BRACES = 16  # that are tried as the beginning of a JSON object: a hostile answer costs no more
_FENCE = re.compile(r"```[\w-]*[ \t]*\n((?:(?!```).)*?)\n?```", re.DOTALL)
_QUOTES = [
    pair.split()
    for pair in ('" "', "“ ”", "„ “", "„ ”", "» «", "« »", "' '", "‘ ’", "` `", "** **")
]
_WORD = re.compile(r"[\u3400-\u9fff]|\d+|(?:(?![\u3040-\u9fff])[^\W\d_])+")
_ENDING = re.compile(r"(?:e[nrsm]?|[ns])\Z")
# Where a text that was cut may end, the best first.
_WHOLE = {
    # A single letter or a number before the full stop is an abbreviation.
    "sentence": re.compile(
        r"""(?:(?<!\d)(?<!\b[^\W\d_])\.|[!?…؟۔।॥])["'”’“»«)\]*]*(?=\s|\Z)|[。！？][”’」』）]*"""
    ),
    "line": re.compile(r"(?<=\S)(?=\s*\n)"),
    # In scripts that part no words (Thai to Burmese, Khmer, kana, ideographs) each sign is one.
    "word": re.compile(r"(?<=\S)(?=\s)|(?<=[\u0e00-\u109f\u1780-\u17ff\u3040-\u9fff])"),
}
_STRUCK = re.compile(r"(?is)<s>((?:(?!</?s>).)*)</s>")  # HTML's, not the two marks of Llama 2


@dataclass(frozen=True, slots=True)
class Patterns:
    """What is taken away before and after a text, and the words that a split may leave out.

    In them (?i) says that case does not matter, (?s) that a dot is the end of a line, too.
    """

    before: re.Pattern[str]
    after: re.Pattern[str]
    small: re.Pattern[str]
    lead: re.Pattern[str]  # thoughts, and marks of a turn, in front of an answer
    tail: re.Pattern[str]  # marks behind it
    openings: tuple[str, ...]  # of thoughts, in small letters
    thought: re.Pattern[str]  # the beginning of one, or as "end" its end
    marks: re.Pattern[str]  # what no prompt holds
    endings: Mapping[str, str]  # "whole" or "cut", by a server's word for the end, folded
    hanging: re.Pattern[str]  # what no whole text ends with

    @classmethod
    def of(cls, tables: Mapping[str, Mapping[str, str]]) -> Patterns:
        """Compile tables as they stand in chatter.toml."""
        thoughts = {**tables["thoughts"], **tables["monologues"]}
        layers = [
            *(_any_of([begin]) + ".*?" + _any_of([end]) for begin, end in thoughts.items()),
            *(f"{re.escape(begin)}.*?{re.escape(end)}" for begin, end in tables["told"].items()),
            f"(?!{_any_of(thoughts)}){_any_line(tables, 'turn')}",
        ]
        begun, ended = _any_of(tables["thoughts"]), _any_of(tables["thoughts"].values())
        return cls(
            before=re.compile("(?is)" + _any_line(tables, "before")),
            after=re.compile(rf"(?i){_any_line(tables, 'after')}\s*\Z"),
            small=re.compile(_any_line(tables, "small")),
            lead=re.compile(rf"(?is)\A(?:\s*(?:{'|'.join(layers)}))*\s*"),
            tail=re.compile(rf"(?i)(?:{_any_line(tables, 'end')}\s*)+\Z"),
            openings=tuple(begin.lower() for begin in thoughts),
            thought=re.compile(
                f"(?i){begun}|"
                rf"(?P<end>{_any_line(tables, 'closed')}{ended}|{ended}(?=[ \t]*(?:\n|\Z)))"
            ),
            marks=re.compile(f"(?i){_any_line(tables, 'stray')}|{begun}|{ended}"),
            endings={_folded(word): meaning for word, meaning in tables["endings"].items()},
            hanging=re.compile(rf"(?i){_any_line(tables, 'hanging')}\s*\Z"),
        )


def _any_of(texts: Iterable[str]) -> str:
    """A pattern for any of these texts, letter by letter; but a tag may hold attributes."""
    spelled = "|".join(map(re.escape, texts))
    return re.sub(r"(?<=[\w\"])>(?=[|)])", r"(?:\\s[^<>]{0,200}|/)?>", f"(?:{spelled})")


def _folded(word: str) -> str:
    """A server's word for the end without its way of parting words: endTurn is end-turn."""
    return re.sub(r"(?i)\A(?:finish|stop)[\W_]*reason(?=.)|[\W_]", "", word).lower()


def _any_line(tables: Mapping[str, Mapping[str, str]], name: str) -> str:
    """A pattern for any line of a table, with the tables that its lines name put in."""
    lines = "|".join(tables[name])
    names = f"<({'|'.join(tables)})>"
    return re.sub(names, lambda inner: _any_line(tables, inner[1]), f"(?:{lines})")


@lru_cache(maxsize=1)
def shipped_patterns() -> Patterns:
    """The patterns of chatter.toml."""
    return Patterns.of(tomllib.loads(Path(__file__).with_name("chatter.toml").read_text("utf-8")))


def without_chatter(text: str, patterns: Patterns | None = None) -> str:
    """The text alone, without what a model is known to say about its own work.

    Thoughts, greetings, labels, fences, quotes around all of it and offers of more help go; never
    all there is. `patterns`: others than those of chatter.toml.

    >>> answer = 'Sure! Here is your prompt:\\n\\n"A red cat in the rain."\\n\\nI hope this helps!'
    >>> without_chatter(answer)
    'A red cat in the rain.'
    """
    patterns = patterns or shipped_patterns()
    kept = text.strip()
    for _ in range(8):  # each rule may uncover another
        before = kept
        kept = _peeled(before, patterns)
        if kept == before:
            break
    return kept


def without_thoughts(text: str, patterns: Patterns | None = None) -> str:
    """The answer without what a model thought before it and without the marks of its turn.

    All of it where nothing would be left: then it holds `marks_in` it.

    >>> without_thoughts("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    ...                  "<|channel|>final<|message|>A red cat.<|return|>")
    'A red cat.'
    """
    patterns = patterns or shipped_patterns()
    kept = patterns.lead.sub("", text)
    first = patterns.thought.search(kept)
    if first and first["end"]:
        kept = patterns.lead.sub("", kept[first.end() :])
    # its end alone: to look for what ends the text at each of its letters takes seconds
    kept = kept[:-LONGEST_TAIL] + patterns.tail.sub("", kept[-LONGEST_TAIL:].rstrip())
    kept += "</s>" * (kept.count("<s>") - kept.count("</s>"))  # where HTML strikes something out
    return kept.strip() or text.strip()


def marks_in(text: str) -> list[str]:
    """The marks of thoughts and turns that stand in a text, each once: no answer holds one.

    Also as a page spells them (&lt;think&gt;), and in letters of full width.

    >>> marks_in("analysis<|message|>Hm.<|end|>")
    ['<|message|>', '<|end|>']
    """
    spelled = unicodedata.normalize("NFKC", html.unescape(_STRUCK.sub(r"\1", text)))
    return list(dict.fromkeys(mark[0] for mark in shipped_patterns().marks.finditer(spelled)))


def ending_of(word: str) -> str:
    """What a server's word for the end of an answer means: "whole", "cut", or "" where unknown.

    >>> ending_of("stop"), ending_of("endTurn"), ending_of("MAX-TOKENS"), ending_of("tool_calls")
    ('whole', 'whole', 'cut', '')
    """
    return shipped_patterns().endings.get(_folded(word), "")


def is_whole(text: str) -> bool:
    """Whether a text may be the whole answer: nothing in it is left open, it ends with no "and".

    >>> is_whole("A red cat sits"), is_whole("A red cat sits, and"), is_whole("A (red")
    (True, False, False)
    """
    return (
        text.count("```") % 2 == 0
        and all(text.count(left) <= text.count(right) for left, right in ("()", "[]", "{}"))
        and not shipped_patterns().hanging.search(text)
    )


def shortened(text: str) -> tuple[str, str]:
    """What is whole of a text that was cut, and what it ends at: a sentence, else a line or word.

    >>> shortened('It rains. "Come in!" The cat, z. B. 3. is')
    ('It rains. "Come in!"', 'sentence')
    >>> shortened("the rain,\\nthe ca"), shortened("a cat in the ra"), shortened("aaaaaaa")
    (('the rain', 'line'), ('a cat in the', 'word'), ('', ''))
    """
    for unit, ending in _WHOLE.items():
        end = max((end.end() for end in ending.finditer(text)), default=0)
        if whole := text[:end].rstrip(" \n,:;(-–—"):
            return whole, unit
    return "", ""


def _peeled(text: str, patterns: Patterns) -> str:
    """The text without one layer of talk."""
    text = without_thoughts(text, patterns)
    text = _without(patterns.before.match(text), text)
    text = _without(patterns.after.search(text), text)
    fenced = _FENCE.fullmatch(text)
    if fenced and fenced[1].strip():
        return fenced[1].strip()
    return _unquoted(text)


def _without(talk: re.Match[str] | None, text: str) -> str:
    """The text without a match at its beginning or end; all of it where nothing would be left."""
    sides = (text[: talk.start()], text[talk.end() :]) if talk else ()
    return next((side.strip() for side in sides if side.strip()), text)


def _unquoted(text: str) -> str:
    """The text without the quotes that stand around all of it."""
    for left, right in _QUOTES:
        inside = text[len(left) : -len(right)].strip()
        is_around = text.startswith(left) and text.endswith(right)
        if is_around and inside and left not in inside and right not in inside:
            return inside
    return text


def read_parts(text: str, names: Sequence[str]) -> dict[str, str]:
    """The parts that an answer names in its one JSON object, whatever stands around it.

    Raises Rejected that says what is wrong.

    >>> answer = 'Here you go: {"prompt": "a red cat", "prompt_2": "rain"}'
    >>> read_parts(answer, ["prompt", "prompt_2"])
    {'prompt': 'a red cat', 'prompt_2': 'rain'}
    """
    objects = _objects(without_thoughts(text))
    if problem := _parts_problem(objects, names):
        raise Rejected(
            problem,
            hint="Answer with one JSON object and nothing else, its keys: "
            f"{', '.join(names)}; its values: texts.",
        )
    parts = dict(objects[0])
    return {name: visible(str(parts[name])).strip() for name in names}


def _parts_problem(objects: Sequence[Pairs], names: Sequence[str]) -> str:
    """What is wrong with the JSON objects of an answer; empty where nothing is."""
    if len(objects) != 1:
        count = f"{len(objects)} JSON objects" if objects else "no JSON object"
        return f"The model answered with {count}; one was asked for."
    keys = [name for name, _ in objects[0]]
    if sorted(keys) != sorted(names):
        return f"The model's parts are {', '.join(repr(name)[:40] for name in keys) or 'none'}."
    parts = dict(objects[0])
    others = [name for name in names if not isinstance(parts[name], str)]
    return f"The model's part {others[0]!r} is no text." if others else ""


def _objects(text: str) -> list[Pairs]:
    """The JSON objects after a model's thoughts, as pairs, so that a doubled key is not lost.

    Braces that are no JSON are skipped.
    """
    decoder = json.JSONDecoder(object_pairs_hook=list)
    objects: list[Pairs] = []
    end = 0
    for _ in range(MOST_BRACES):
        at = text.find("{", end)
        if at < 0:
            break
        try:
            pairs, end = decoder.raw_decode(text, at)
            objects.append(pairs)
        except (ValueError, RecursionError):
            end = at + 1
    return objects


def missing_words(
    text: str, parts: Mapping[str, str], patterns: Patterns | None = None
) -> list[str]:
    """The words of a text that stand in none of its parts.

    Numbers and words of three letters or more count, articles and conjunctions do not. Case and the
    endings of nouns and adjectives do not matter; of scripts without spaces each ideograph is a
    word. `patterns`: as for `without_chatter`.

    >>> parts = {"prompt": "ein alter Kater", "prompt_2": "rote Vögel"}
    >>> missing_words("Der alte Kater und die 3 roten Vögel", parts)
    ['3']
    """
    small = (patterns or shipped_patterns()).small
    kept = {_stem(word) for part in parts.values() for word in _words(part)}
    return [
        word
        for word in dict.fromkeys(_words(text))
        if _stem(word) not in kept and not small.fullmatch(word)
    ]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _stem(word: str) -> str:
    stem = _ENDING.sub("", word)
    return stem if len(stem) >= 3 else word


def bracketed(text: str) -> list[str]:
    """The words in [square brackets], which no translation touches."""
    return re.findall(r"\[[^\[\]\n]+\]", text)


def with_brackets(text: str, wanted: Sequence[str]) -> tuple[str, list[str]]:
    """The text with the bracketed words of its original, and those that it lost.

    Brackets alone that were lost are put back.

    >>> with_brackets("a Feierabend mood", ["[Feierabend]", "[Dackel]"])
    ('a [Feierabend] mood', ['[Dackel]'])
    """
    lost = []
    for word in dict.fromkeys(wanted):
        bare = rf"(?<![\[\w]){re.escape(word[1:-1])}(?![\]\w])"
        missing = wanted.count(word) - text.count(word)
        if missing > 0:
            text, restored = re.subn(bare, word.replace("\\", r"\\"), text, count=missing)
            lost += [word] * (missing - restored)
    return text, lost
