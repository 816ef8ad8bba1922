"""What of a model's answer is the text? Its talk around it goes by rule; parts and bracketed words
are held to account.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

from devpipe.errors import Rejected
from devpipe.text.clean import visible

MOST_BRACES = 16  # that are tried as the beginning of a JSON object: a hostile answer costs no more
_YES = (
    r"(?:sure(?: thing)?|certainly|of"
    r" course|absolutely|okay|ok|gladly|understood|gerne?|natürlich|klar|selbstverständlich|"
    r"verstanden)"
)
_HERE = (
    r"(?:here(?:['’]s| is| are| comes)|below is|this is|hier(?: ist| sind| kommt)?|das ist) "
    r"(?:the|your|my|an?|d(?:er|ie|as)|(?:d|m)ein\w*|ihr\w*)"
)
_MADE = (
    r"(?: (?:new|final|full|complete|improved|english|german|(?:re|trans|cor)\w+ed|rewritten|image|"
    r"neue\w*|fertige\w*|deutsche\w*|"
    r"englische\w*|(?:um|über|ver|kor)\w+(?:te|ne)[rsn]?),?){0,3}"
)
_WORK = (
    r" ?(?:prompt|text|version|translation|description|rewrit\w+|result|answer|output|"
    r"interpretation|json(?:[- ]objekt| object)?|"
    r"übersetzung|fassung|beschreibung|ergebnis|antwort|ausgabe|bildprompt)"
)
_TAIL = (
    r"(?: (?:(?:re|trans)\w+ed )?(?:in|into|auf|ins) \w+(?: sprache)?| for you| you asked for| für"
    r" dich| wie gewünscht|, \w+|"
    r" (?:of|based on|for|from|zu|von) (?:the|your|de[mnr]|dein\w*) (?:original"
    r" )?(?:text|prompt|input)){0,3}"
)
_SERVE = (
    r"(?:i(?:['’]d| would) be happy to|i(?:['’]ll| will| have|['’]ve)"
    r" (?:rewrit|translat|help)\w*|let me (?:help you|rewrite|translate)|"
    r"ich (?:habe|helfe|übersetze|schreibe) (?:dir|d[ae]\w+|ihr\w*) )"
)
_LABEL = (
    r"(?:(?:image (?:generation )?|final |rewritten |revised )?prompt|(?:translat|correct)ed"
    r" text|rewritten text|"
    r"the (?:translated|rewritten|corrected|revised|final) (?:text|prompt|version) is|"
    r"(?:english |german )?translation(?: \(\w+\))?|bildprompt|"
    r"(?:(?:eng|deut)\w+ )?übersetzung(?: \(\w+\))?|(?:umgeschriebener|übersetzter|korrigierter)"
    r" text|"
    r"(?:output|answer|assistant|antwort|ausgabe)(?!.*\n[^\W\d_]+: ))"  # of no dialogue
)
_ANNOUNCED = (  # on a line of its own, before a blank one
    rf"(?:{_YES}[!.,:]*\s+)?(?:here(?:['’]s| is| are| comes)|below is|hier(?: ist| sind| kommt))\b"
    r"(?=[^\n:]*\b(?:prompt|text|version|translation|interpretation|rewrite|rendition|adaptation|description|result|bildprompt|übersetzung|"
    r"fassung|umschreibung|beschreibung|ergebnis)\b)[^\n:]{0,90}"
)
_BEFORE = re.compile(
    rf"[*_]*(?:{_YES}[!.,:]*"
    rf" )?{_HERE}{_MADE}{_WORK}{_TAIL}[*_]*:[*_]*\s*|{_YES}[!.]*\s*\n\n\s*|(?:{_YES}[!.,]+"
    rf" )?{_SERVE}[^\n]*[.!:]\n\s*|"
    rf"[*_]*{_ANNOUNCED}[*_]*:[*_]*[ \t]*\n\s*\n\s*|"
    rf"[#*_ ]*{_LABEL}[*_]*:[*_]*\s*|[#*_]+"
    rf" *(?:{_LABEL}|text|result|ergebnis|beschreibung)[*_]*:?[*_]*\n\s*|[-*_]{{3,}}\n\s*",
    re.IGNORECASE | re.DOTALL,
)
_OFFER = (
    r"(?:let me know if (?:you(?:['’]d| would| want| need)|this|that|there)|feel free to"
    r" (?:ask|adjust|modify)|"
    r"would you like (?:me to|another (?:version|style)|a different (?:version|style)|any"
    r" changes)|\((?:word|character) count: \d+\)|"
    r"(?:i )?hope (?:this|that) (?:helps|works|captures|meets)|(?:sag|gib) mir (?:gerne?"
    r" )?bescheid|lass mich wissen|"
    r"(?:möchtest du|soll ich)[^\n]*(?:anpass|änder|umschreib)|wenn du (?:möchtest|willst),"
    r" (?:kann|ändere|passe) ich|"
    r"ich hoffe, (?:das|dies) (?:gefällt|hilft|passt))"
)
_REMARK = (  # about the work itself: a drawing may have a note of its own
    r"\(?[*_]*(?:note|explanation|hinweis|anmerkung|erklärung)[*_]*:(?=[^\n]*(?:translat|prompt|rewr|original|bracket|"
    r"instruction|\bi (?:have|kept|used)|übersetz|umgeschrieben|anweisung|\bich"
    r" habe|klammer|beibehalten))[^\n]*(?:\n(?!\n)[^\n]*)*"
)
_AFTER = re.compile(
    rf"(?:(?:\n|(?<=[.!?…\"”“»`*)])[ ]){_OFFER}[^\n]*|\n{_REMARK}|\n[-*_]{{3,}})\s*\Z",
    re.IGNORECASE,
)
_THOUGHT = re.compile(
    r"(?:<think(?:ing)?>)?(?:(?!<think).)*?</think(?:ing)?>", re.IGNORECASE | re.DOTALL
)
_LEFTOVER = re.compile(r"\A\s*(?:<\|\w+\|>|\[/INST\])\s*|(?:<\|\w+\|>|\[/INST\]|</s>)\s*\Z")
_FENCE = re.compile(r"```[\w-]*[ \t]*\n((?:(?!```).)*?)\n?```", re.DOTALL)
_QUOTES = ('""', "“”", "„“", "„”", "»«", "«»", "''", "‘’", "``", "****")
_WORD = re.compile(r"[\u3400-\u9fff]|\d+|(?:(?![\u3040-\u9fff])[^\W\d_])+")
_ENDING = re.compile(r"(?:e[nrsm]?|[ns])\Z")
_SMALL = re.compile(
    r"the|and|but|nor|yet|d(?:er|ie|as|en|em|es)|ein(?:e[nmrs]?)?|und|oder|aber|sowie"
)


def without_chatter(text: str) -> str:
    """The text alone: without thoughts, greetings, labels, fences, quotes around all of it and
    offers of more help.

    Only what a model is known to say about its own work is removed, never all there is.

    >>> answer = 'Sure! Here is your prompt:\\n\\n"A red cat in the rain."\\n\\nI hope this helps!'
    >>> without_chatter(answer)
    'A red cat in the rain.'
    """
    kept = text.strip()
    for _ in range(8):  # each rule may uncover another
        before, kept = kept, _peeled(kept)
        if kept == before:
            break
    return kept


def _peeled(text: str) -> str:
    text = (_LEFTOVER.sub("", text) if "<s>" not in text else text) or text
    text = text.strip()
    for pattern in (_THOUGHT, _BEFORE, _AFTER):
        match = pattern.search(text) if pattern is _AFTER else pattern.match(text)
        if match and (left := text[: match.start()].strip() or text[match.end() :].strip()):
            text = left
    if (fence := _FENCE.fullmatch(text)) and fence[1].strip():
        return fence[1].strip()
    for pair in _QUOTES:
        left, right = pair[: len(pair) // 2], pair[len(pair) // 2 :]
        inside = text[len(left) : -len(right)].strip()
        if (
            inside
            and text.startswith(left)
            and text.endswith(right)
            and left not in inside
            and right not in inside
        ):
            return inside
    return text


def read_parts(text: str, names: Sequence[str]) -> dict[str, str]:
    """The parts that an answer names in its one JSON object, whatever stands around it.

    Raises Rejected that says what is wrong.

    >>> answer = 'Here you go: {"prompt": "a red cat", "prompt_2": "rain"}'
    >>> read_parts(answer, ["prompt", "prompt_2"])
    {'prompt': 'a red cat', 'prompt_2': 'rain'}
    """
    hint = (
        f"Answer with one JSON object and nothing else, its keys: {', '.join(names)}; its values:"
        " texts."
    )
    found = _objects(_THOUGHT.sub("", text, count=1) if _THOUGHT.match(text) else text)
    if len(found) != 1:
        raise Rejected(
            f"The model answered with {len(found) or 'no'} JSON object{'s' * (len(found) > 1)}; one"
            " was asked for.",
            hint=hint,
        )
    if sorted(name for name, _ in found[0]) != sorted(names):
        raise Rejected(
            "The model's parts are"
            f" {', '.join(repr(name)[:40] for name, _ in found[0]) or 'none'}.",
            hint=hint,
        )
    parts = {name: visible(part).strip() for name, part in found[0] if isinstance(part, str)}
    if wrong := [name for name in names if name not in parts]:
        raise Rejected(f"The model's part {wrong[0]!r} is no text.", hint=hint)
    return {name: parts[name] for name in names}


def _objects(text: str) -> list[list[tuple[str, object]]]:
    """The JSON objects in a text as pairs, so that a doubled key is not lost.

    Braces that are no JSON are skipped.
    """
    decoder, found, at = (
        json.JSONDecoder(object_pairs_hook=list),
        list[list[tuple[str, object]]](),
        text.find("{"),
    )
    for _ in range(MOST_BRACES):
        if at < 0:
            break
        try:
            pairs, end = decoder.raw_decode(text, at)
            found.append(pairs)
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found


def missing_words(text: str, parts: Mapping[str, str]) -> list[str]:
    """The words of a text that stand in none of its parts: all with three letters or more, and
    numbers, save articles and conjunctions.

    Case and the endings of nouns and adjectives do not matter; of scripts without spaces each
    ideograph is a word.

    >>> parts = {"prompt": "ein alter Kater", "prompt_2": "rote Vögel"}
    >>> missing_words("Der alte Kater und die 3 roten Vögel", parts)
    ['3']
    """
    there = {_stem(word) for part in parts.values() for word in _words(part)}
    wanted = [word for word in dict.fromkeys(_words(text)) if not _SMALL.fullmatch(word)]
    return [
        word
        for word in wanted
        if (len(word) >= 3 or word[0].isdigit() or "\u3400" <= word[0] <= "\u9fff")
        and _stem(word) not in there
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
        for _ in range(wanted.count(word) - text.count(word)):
            bare = re.search(rf"(?<![\[\w]){re.escape(word[1:-1])}(?![\]\w])", text)
            text = f"{text[: bare.start()]}{word}{text[bare.end() :]}" if bare else text
            lost += [] if bare else [word]
    return text, lost
