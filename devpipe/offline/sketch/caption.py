"""What a screen reader says of a picture: what is shown, on which ground, in which light, and that
rules drew it.
"""

from __future__ import annotations

from devpipe.offline.sketch.reading import Reading, Thing, vocabulary


def caption(reading: Reading, style: str = "", language: str = "") -> str:
    """The alt text of a picture drawn from this reading, in German (`de`) or English.

    >>> from devpipe.offline.sketch.reading import read
    >>> caption(read("ein roter Kreis auf blauem Grund"), language="de")
    'Skizze: ein roter Kreis auf blauem Grund (nach Regeln gezeichnet, kein Diffusionsmodell)'
    """
    german = (language or reading.language) == "de"
    shown = [_german(thing) if german else _english(thing) for thing in reading.known]
    unknown = [
        f"„{t.word[:30]}“" if german else f"“{t.word[:30]}”" for t in reading.things if not t.motif
    ]
    if unknown:
        shown.append(("Formen zu " if german else "forms for ") + ", ".join(unknown))
    *first, last = shown or ["freie Formen" if german else "free forms"]
    said = [", ".join(first) + (" und " if german else " and ") + last if first else last]
    said += [
        f"auf {_adjective(colour)}em Grund" if german else f"on a {colour} ground"
        for colour in reading.of("ground")[:1]
    ]
    traits = (reading.setting, reading.weather, reading.season, reading.light)
    said += [vocabulary()["caption_traits"][trait][german] for trait in traits if trait]
    if style:
        said.append(f"in der Manier „{style}“" if german else f"in the manner “{style}”")
    if german:
        return f"Skizze: {' '.join(said)} (nach Regeln gezeichnet, kein Diffusionsmodell)"
    return f"Sketch: {' '.join(said)} (drawn by rule, not by a diffusion model)"


def _german(thing: Thing) -> str:
    gender, names = vocabulary()["motifs"][thing.motif][1].split(" ", 1)
    many = thing.count > 1
    ending = "e" if many else {"m": "er", "f": "e", "n": "es"}[gender]
    count = vocabulary()["caption_counts"]["de"].split()[thing.count - 1] + (
        "e" if gender == "f" and not many else ""
    )
    return " ".join(
        [count, *(_adjective(c) + ending for c in thing.colours[:1]), names.split("|")[many]]
    )


def _english(thing: Thing) -> str:
    many = thing.count > 1
    words = [*thing.colours[:1], vocabulary()["motifs"][thing.motif][0].split("|")[many]]
    count = (
        "an"
        if not many and words[0][0] in "aeiou"
        else vocabulary()["caption_counts"]["en"].split()[thing.count - 1]
    )
    return " ".join([count, *words])


def _adjective(colour: str) -> str:
    level, _, name = colour.rpartition(" ")
    adjective: str = vocabulary()["colours"][name][1]
    return {"dark": "dunkel", "light": "hell"}.get(level, "") + adjective
