"""What a screen reader says of a picture: what is shown, on which ground, in which light, and that rules drew it."""

from __future__ import annotations

from devpipe.sketch.reading import Reading, Thing, vocabulary

_COUNTS = {
    "de": ("", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"),
    "en": ("", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
}
_SHADES = {"dark": "dunkel", "light": "hell"}
_TRAITS = {
    "de": {"night": "bei Nacht", "day": "bei Tag", "dawn": "im Morgengrauen", "dusk": "in der Dämmerung", "rain": "im Regen", "snow": "im Schnee",
           "fog": "im Nebel", "storm": "im Sturm", "wind": "im Wind", "sea": "am Wasser", "meadow": "auf einer Wiese", "desert": "in der Wüste",
           "street": "auf der Straße", "room": "in einem Raum", "space": "im Weltraum", "sky": "unter freiem Himmel",
           "winter": "im Winter", "spring": "im Frühling", "summer": "im Sommer", "autumn": "im Herbst"},
    "en": {"night": "at night", "day": "by day", "dawn": "at dawn", "dusk": "at dusk", "rain": "in the rain", "snow": "in the snow", "fog": "in the fog",
           "storm": "in a storm", "wind": "in the wind", "sea": "by the water", "meadow": "in a meadow", "desert": "in the desert", "street": "in the street",
           "room": "in a room", "space": "in space", "sky": "under the sky", "winter": "in winter", "spring": "in spring", "summer": "in summer",
           "autumn": "in autumn"},
}  # fmt: skip


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
    where = [_TRAITS[lang][trait] for trait in (reading.setting, reading.weather, reading.season, reading.light) if trait]
    ground = [_ground(colour, lang) for colour in reading.of("ground")[:1]]
    manner = [] if not style else [f"in der Manier „{style}“" if german else f"in the manner “{style}”"]
    sentence = " ".join([what, *ground, *where, *manner])
    return f"Skizze: {sentence} (nach Regeln gezeichnet, kein Diffusionsmodell)" if german else f"Sketch: {sentence} (drawn by rule, not by a diffusion model)"


def _joined(parts: list[str], last: str) -> str:
    return last.join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _thing(thing: Thing, lang: str) -> str:
    entry = vocabulary()["motifs"][thing.motif]
    many = thing.count > 1
    if lang == "de":
        gender, names = entry[1].split(" ", 1)
        ending = "e" if many else {"m": "er", "f": "e", "n": "es"}[gender]
        count = _COUNTS["de"][thing.count] + ("e" if gender == "f" and not many else "")
        return " ".join([count, *(_german(c) + ending for c in thing.colours[:1]), names.split("|")[many]])
    words = [*thing.colours[:1], entry[0].split("|")[many]]
    count = "an" if not many and words[0][0] in "aeiou" else _COUNTS["en"][thing.count]
    return " ".join([count, *words])


def _ground(colour: str, lang: str) -> str:
    return f"auf {_german(colour)}em Grund" if lang == "de" else f"on a {colour} ground"


def _german(colour: str) -> str:
    level, _, name = colour.rpartition(" ")
    adjective: str = vocabulary()["colours"][name][1]
    return _SHADES.get(level, "") + adjective
