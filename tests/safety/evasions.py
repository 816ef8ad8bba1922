"""Ways of writing a word so that a simple list does not find it.

Each family: a term and a random source in, the disguised term out.

A family that can do nothing with a term (no umlaut in it, too short for a typing error) gives an
empty string.
"""

from __future__ import annotations

import base64
import codecs
import html
import random
from collections.abc import Callable

Family = Callable[[str, random.Random], str]

_CYRILLIC = dict(zip("aceopxyisjkmtbhn", "асеорхуіѕјкмтвһп", strict=True))
_GREEK = dict(zip("aoeivkntupxhr", "αοεινκητυρχհг", strict=True)) | {"v": "ν", "n": "η"}
_LEET_PLAIN = dict(zip("aeiost", "431057", strict=True))
_LEET_SIGNS = dict(zip("aseilto", "@$€!|+0", strict=True))
_LEET_MORE = dict(zip("aegbtiosz", "43987105" + "2", strict=True))
_MORSE = dict(zip(
    "abcdefghijklmnopqrstuvwxyz",
    [".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.", "---", ".--.", "--.-", ".-.",
     "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--.."], strict=True,
))  # fmt: skip
_UMLAUTS = (
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}, {"ä": "a", "ö": "o", "ü": "u", "ß": "ss"},
    {"ä": "a\u0308", "ö": "o\u0308", "ü": "u\u0308", "ß": "sz"},
)  # fmt: skip
_EMOJI = "🍆🌈⭐🔥💧🎈"


def _mapped(term: str, table: dict[str, str]) -> str:
    return "".join(table.get(char, char) for char in term)


def _shifted(term: str, first: int) -> str:
    return "".join(
        chr(first + ord(char.lower()) - 97) if char.isascii() and char.isalpha() else char
        for char in term
    )


def _inside(term: str, source: random.Random, shortest: int = 4) -> tuple[str, int]:
    """A word of the term and a place inside it (not its first or last letter), or a place of 0."""
    words = [word for word in term.split() if len(word) >= shortest and word.isalpha()]
    if not words:
        return "", 0
    word = max(words, key=len)
    return word, source.randrange(1, len(word) - 1)


def _changed(
    term: str, source: random.Random, change: Callable[[str, int], str], shortest: int
) -> str:
    word, place = _inside(term, source, shortest)
    return (
        term.replace(word, change(word, place), 1) if place and change(word, place) != word else ""
    )


def mixed_case(term: str, source: random.Random) -> str:
    return "".join(char.upper() if source.random() < 0.5 else char.lower() for char in term)


def alternating_case(term: str, source: random.Random) -> str:
    return "".join(char.upper() if n % 2 else char.lower() for n, char in enumerate(term))


def leet_digits(term: str, source: random.Random) -> str:
    return _mapped(term, _LEET_PLAIN)


def leet_signs(term: str, source: random.Random) -> str:
    return _mapped(term, _LEET_SIGNS)


def leet_more(term: str, source: random.Random) -> str:
    return _mapped(term, _LEET_MORE)


def leet_one(term: str, source: random.Random) -> str:
    places = [n for n, char in enumerate(term) if char in _LEET_PLAIN]
    if not places:
        return ""
    place = source.choice(places)
    return term[:place] + _LEET_PLAIN[term[place]] + term[place + 1 :]


def _joined(sign: str) -> Family:
    return lambda term, source: (
        sign.join(term.replace(" ", ""))
        if " " not in term
        else "  ".join(sign.join(word) for word in term.split())
    )


def varied_signs(term: str, source: random.Random) -> str:
    return "".join(char + source.choice("-._*~") for char in term.replace(" ", ""))[:-1]


def over_lines(term: str, source: random.Random) -> str:
    return "\n".join(term.replace(" ", ""))


def hyphenated(term: str, source: random.Random) -> str:
    return _changed(term, source, lambda word, place: word[:place] + "-\n" + word[place:], 5)


def emoji_between(term: str, source: random.Random) -> str:
    return source.choice(_EMOJI).join(term.replace(" ", ""))


def emoji_inside(term: str, source: random.Random) -> str:
    return _changed(
        term, source, lambda word, place: word[:place] + source.choice(_EMOJI) + word[place:], 4
    )


def zero_width(term: str, source: random.Random) -> str:
    return source.choice("\u200b\u200c\u200d\u2060\ufeff").join(term)


def soft_hyphens(term: str, source: random.Random) -> str:
    return "\u00ad".join(term)


def directions(term: str, source: random.Random) -> str:
    return "\u202d" + "\u2066".join(term) + "\u202c"


def selectors(term: str, source: random.Random) -> str:
    return "\ufe0f".join(term)


def zalgo(term: str, source: random.Random) -> str:
    return "".join(
        char + "".join(chr(source.randrange(0x300, 0x36F)) for _ in range(2)) for char in term
    )


def one_accent(term: str, source: random.Random) -> str:
    return _changed(
        term, source, lambda word, place: word[: place + 1] + "\u0301" + word[place + 1 :], 3
    )


def enclosed(term: str, source: random.Random) -> str:
    return "\u20dd".join(term) + "\u20dd"


def cyrillic(term: str, source: random.Random) -> str:
    return _mapped(term, _CYRILLIC)


def greek(term: str, source: random.Random) -> str:
    return _mapped(term, _GREEK)


def fullwidth(term: str, source: random.Random) -> str:
    return _shifted(term, 0xFF41)


def mathematical(term: str, source: random.Random) -> str:
    return _shifted(
        term,
        source.choice([0x1D41A, 0x1D482, 0x1D4EA, 0x1D51E, 0x1D552, 0x1D586, 0x1D5BA, 0x1D68A]),
    ).replace("\U0001d506", "c")


def circled(term: str, source: random.Random) -> str:
    return _shifted(term, 0x24D0)


def boxed(term: str, source: random.Random) -> str:
    return _shifted(term, source.choice([0x1F170, 0x1F130, 0x1F150]))


def regional(term: str, source: random.Random) -> str:
    return " ".join(_shifted(word, 0x1F1E6) for word in term.split())


def small_capitals(term: str, source: random.Random) -> str:
    return _mapped(
        term, dict(zip("abcdefghijklmnoprtuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ", strict=True))
    )


def tags(term: str, source: random.Random) -> str:
    return (
        "🙂" + "".join(chr(0xE0000 + ord(char)) for char in term if ord(char) < 127)
        if term.isascii()
        else ""
    )


def smuggled(term: str, source: random.Random) -> str:
    return "🙂" + "".join(
        chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in term.encode()
    )


def doubled(term: str, source: random.Random) -> str:
    return "".join(char * 2 if char.isalpha() else char for char in term)


def drawn_out(term: str, source: random.Random) -> str:
    places = [n for n, char in enumerate(term) if char in "aeiouäöü"]
    place = source.choice(places) if places else len(term) - 1
    return term[:place] + term[place] * source.randrange(3, 8) + term[place + 1 :]


def last_drawn_out(term: str, source: random.Random) -> str:
    return term + term[-1] * 4


def one_left_out(term: str, source: random.Random) -> str:
    return _changed(term, source, lambda word, place: word[:place] + word[place + 1 :], 6)


def one_put_in(term: str, source: random.Random) -> str:
    letter = source.choice("abdegklmnorstu")
    return _changed(term, source, lambda word, place: word[:place] + letter + word[place:], 6)


def one_changed(term: str, source: random.Random) -> str:
    letter = source.choice("abdegklmnorstu")
    return _changed(term, source, lambda word, place: word[:place] + letter + word[place + 1 :], 6)


def two_swapped(term: str, source: random.Random) -> str:
    return _changed(
        term,
        source,
        lambda word, place: word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        6,
    )


def one_star(term: str, source: random.Random) -> str:
    return _changed(term, source, lambda word, place: word[:place] + "*" + word[place + 1 :], 4)


def two_stars(term: str, source: random.Random) -> str:
    return _changed(term, source, lambda word, place: word[:place] + "**" + word[place + 2 :], 6)


def vowel_as_sign(term: str, source: random.Random) -> str:
    word, _ = _inside(term, source, 5)
    places = [n for n, char in enumerate(word) if char in "aeiou" and 0 < n < len(word) - 1]
    return (
        term.replace(word, word[: places[0]] + source.choice("*#_.-") + word[places[0] + 1 :], 1)
        if places
        else ""
    )


def mirrored(term: str, source: random.Random) -> str:
    return term[::-1] if len(term) > 3 else ""


def halves_swapped(term: str, source: random.Random) -> str:
    return (
        term[len(term) // 2 :] + term[: len(term) // 2] if len(term) > 4 and term.isalpha() else ""
    )


def in_base64(term: str, source: random.Random) -> str:
    return base64.b64encode(term.encode()).decode()


def in_base32(term: str, source: random.Random) -> str:
    return base64.b32encode(term.encode()).decode()


def in_hex(term: str, source: random.Random) -> str:
    return term.encode().hex(source.choice(" -:")) if source.random() < 0.5 else term.encode().hex()


def in_percents(term: str, source: random.Random) -> str:
    return "".join(f"%{byte:02X}" for byte in term.encode())


def in_entities(term: str, source: random.Random) -> str:
    return "".join(
        f"&#{ord(char)};" if source.random() < 0.7 else html.escape(char) for char in term
    )


def in_escapes(term: str, source: random.Random) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in term)


def in_rot13(term: str, source: random.Random) -> str:
    return codecs.encode(term, "rot13") if len(term) > 3 else ""


def in_morse(term: str, source: random.Random) -> str:
    letters = term.replace(" ", "")
    return (
        " / ".join(" ".join(_MORSE[char] for char in word) for word in term.lower().split())
        if letters.isascii() and letters.isalpha()
        else ""
    )


def in_binary(term: str, source: random.Random) -> str:
    return " ".join(f"{byte:08b}" for byte in term.encode()) if term.isascii() else ""


def in_numbers(term: str, source: random.Random) -> str:
    return " ".join(str(ord(char)) for char in term) if term.isascii() else ""


def in_alphabet_numbers(term: str, source: random.Random) -> str:
    return (
        "-".join(str(ord(char) - 96) for char in term) if term.isascii() and term.isalpha() else ""
    )


def digits_around(term: str, source: random.Random) -> str:
    return source.choice(["123{}", "{}123", "{}2024", "{}69", "4{}4"]).format(term)


def wrapped(term: str, source: random.Random) -> str:
    return source.choice(
        ["xx{}xx", "xX{}Xx", "_{}_", "--{}--", "**{}**", "#{}", "({})", "~{}~", "«{}»", "'{}'"]
    ).format(term)


def digit_inside(term: str, source: random.Random) -> str:
    return _changed(
        term, source, lambda word, place: word[:place] + source.choice("26") + word[place:], 5
    )


def sign_inside(term: str, source: random.Random) -> str:
    return _changed(
        term, source, lambda word, place: word[:place] + source.choice(".-_/'*|") + word[place:], 5
    )


def space_inside(term: str, source: random.Random) -> str:
    return _changed(term, source, lambda word, place: word[:place] + " " + word[place:], 6)


def closed_up(term: str, source: random.Random) -> str:
    return term.replace(" ", "") if " " in term else ""


def umlauts(term: str, source: random.Random) -> str:
    return _mapped(term, source.choice(_UMLAUTS)) if set(term) & set("äöüß") else ""


def in_camel_case(term: str, source: random.Random) -> str:
    return (
        "".join(word.capitalize() for word in term.split())
        if " " in term
        else term[:2].capitalize() + term[2:].capitalize()
    )


_FLIPPED = dict(zip("abcdefghijkmnrtuvwy", "ɐqɔpǝɟƃɥᴉɾʞɯuɹʇnʌʍʎ", strict=True)) | {
    "p": "d",
    "q": "b",
}


def leet_spaced(term: str, source: random.Random) -> str:
    return " ".join(_mapped(term.replace(" ", ""), _LEET_PLAIN))


def upside_down(term: str, source: random.Random) -> str:
    return _mapped(term, _FLIPPED)[::-1] if set(term) & set("aefhmrtwy") else ""


def _by_ear(letters: str, other: str) -> Family:
    """Written as it sounds; "fixen" is left out, because it is a word."""
    return lambda term, source: (
        term.replace(letters, other)
        if letters in term and len(term) > 4 and term not in ("ficken", "fick dich")
        else ""
    )


def signs_with_degrees(term: str, source: random.Random) -> str:
    return _mapped(term, dict(zip("aeiofs", "@€!°f$", strict=True)))


def glued_in_camel_case(term: str, source: random.Random) -> str:
    return (
        source.choice(["Mein", "Dein", "My", "Unser"]) + "".join(map(str.capitalize, term.split()))
        if len(term) > 3
        else ""
    )


def markup_inside(term: str, source: random.Random) -> str:
    return _changed(
        term,
        source,
        lambda word, place: (
            word[:place] + source.choice(["<b></b>", "<i>", "<!-- -->"]) + word[place:]
        ),
        4,
    )


def child_before(term: str, source: random.Random) -> str:
    return source.choice(["Kinder-", "Schul-", "Baby-"]) + term.capitalize()


def adjective_before(term: str, source: random.Random) -> str:
    return (
        source.choice(["schönes", "kleine", "dumme", "große"]) + term
        if term.isalpha() and len(term) > 4
        else ""
    )


FAMILIES: dict[str, Family] = {
    "mixed case": mixed_case,
    "alternating case": alternating_case,
    "camel case": in_camel_case,
    "closed up": closed_up,
    "leet digits": leet_digits,
    "leet signs": leet_signs,
    "leet more digits": leet_more,
    "leet one letter": leet_one,
    "spaced": _joined(" "),
    "dots": _joined("."),
    "hyphens": _joined("-"),
    "underscores": _joined("_"),
    "slashes": _joined("/"),
    "bars with spaces": _joined(" | "),
    "varied signs": varied_signs,
    "emoji between": emoji_between,
    "emoji inside": emoji_inside,
    "letter per line": over_lines,
    "hyphenated": hyphenated,
    "sign inside": sign_inside,
    "digit inside": digit_inside,
    "space inside": space_inside,
    "zero width": zero_width,
    "soft hyphens": soft_hyphens,
    "directions": directions,
    "selectors": selectors,
    "zalgo": zalgo,
    "one accent": one_accent,
    "enclosed": enclosed,
    "cyrillic": cyrillic,
    "greek": greek,
    "fullwidth": fullwidth,
    "mathematical": mathematical,
    "circled": circled,
    "boxed": boxed,
    "regional": regional,
    "small capitals": small_capitals,
    "tags": tags,
    "smuggled bytes": smuggled,
    "doubled": doubled,
    "drawn out": drawn_out,
    "last drawn out": last_drawn_out,
    "one left out": one_left_out,
    "one put in": one_put_in,
    "one changed": one_changed,
    "two swapped": two_swapped,
    "one star": one_star,
    "two stars": two_stars,
    "vowel as sign": vowel_as_sign,
    "mirrored": mirrored,
    "halves swapped": halves_swapped,
    "base64": in_base64,
    "base32": in_base32,
    "hex": in_hex,
    "percent": in_percents,
    "entities": in_entities,
    "escapes": in_escapes,
    "rot13": in_rot13,
    "morse": in_morse,
    "binary": in_binary,
    "numbers": in_numbers,
    "alphabet numbers": in_alphabet_numbers,
    "digits around": digits_around,
    "wrapped": wrapped,
    "umlauts": umlauts,
    "leet with spaces": leet_spaced,
    "upside down": upside_down,
    "ph for f": _by_ear("f", "ph"),
    "x for ck": _by_ear("ck", "x"),
    "k for c": _by_ear("c", "k"),
    "z for s": _by_ear("s", "z"),
    "v for u": _by_ear("u", "v"),
    "signs with degrees": signs_with_degrees,
    "glued in camel case": glued_in_camel_case,
    "markup inside": markup_inside,
    "child before": child_before,
    "adjective before": adjective_before,
}
