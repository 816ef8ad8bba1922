"""What a screen reader says of a picture: what is shown, on which ground, in which light, and that rules drew it."""

from __future__ import annotations

from devpipe.sketch.reading import Reading, Thing, vocabulary

_SHADES = {"dark": "dunkel", "light": "hell"}


def caption(reading: Reading, style: str = "", language: str = "") -> str:
    """The alt text of a picture drawn from this reading, in German (`de`) or English.

    >>> from devpipe.sketch.reading import read
    >>> caption(read("ein roter Kreis auf blauem Grund"), language="de")
    'Skizze: ein roter Kreis auf blauem Grund (nach Regeln gezeichnet, kein Diffusionsmodell)'
    """
    german = (language or reading.language) == "de"
    lang = "de" if german else "en"
    shown = [_thing(thing, lang) for thing in reading.known]
    unknown = [f"„{t.word[:30]}“" if german else f"“{t.word[:30]}”" for t in reading.things if not t.motif]
    if unknown:
        shown.append(("Formen zu " if german else "forms for ") + ", ".join(unknown))
    what = _joined(shown, " und " if german else " and ") or ("freie Formen" if german else "free forms")
    where = [
        vocabulary()["caption_traits"][trait][german]
        for trait in (reading.setting, reading.weather, reading.season, reading.light)
        if trait
    ]
    ground = [_ground(colour, lang) for colour in reading.of("ground")[:1]]
    manner = [] if not style else [f"in der Manier „{style}“" if german else f"in the manner “{style}”"]
    sentence = " ".join([what, *ground, *where, *manner])
    return (
        f"Skizze: {sentence} (nach Regeln gezeichnet, kein Diffusionsmodell)"
        if german
        else f"Sketch: {sentence} (drawn by rule, not by a diffusion model)"
    )


def _joined(parts: list[str], last: str) -> str:
    return last.join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _thing(thing: Thing, lang: str) -> str:
    entry = vocabulary()["motifs"][thing.motif]
    many = thing.count > 1
    if lang == "de":
        gender, names = entry[1].split(" ", 1)
        ending = "e" if many else {"m": "er", "f": "e", "n": "es"}[gender]
        count = _number(thing.count, lang) + ("e" if gender == "f" and not many else "")
        return " ".join([count, *(_german(c) + ending for c in thing.colours[:1]), names.split("|")[many]])
    words = [*thing.colours[:1], entry[0].split("|")[many]]
    count = "an" if not many and words[0][0] in "aeiou" else _number(thing.count, lang)
    return " ".join([count, *words])


def _number(count: int, lang: str) -> str:
    words: list[str] = vocabulary()["caption_counts"][lang].split()
    return words[count - 1]


def _ground(colour: str, lang: str) -> str:
    return f"auf {_german(colour)}em Grund" if lang == "de" else f"on a {colour} ground"


def _german(colour: str) -> str:
    level, _, name = colour.rpartition(" ")
    adjective: str = vocabulary()["colours"][name][1]
    return _SHADES.get(level, "") + adjective
