"""Procedures that look at the things of a text with the eyes of another practice: workshop, easel,
darkroom, drawing board, orbit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle

from devpipe.offline.procedures.grammar import find_noun, lower_start
from devpipe.offline.procedures.scene import Part, bare, colours_in, joined, of_kind, parts, things
from devpipe.offline.procedures.words import Page, capital, sentence, table, wordset


def _rest(found: Sequence[Part], used: Sequence[Part | None]) -> list[Part]:
    drawn = set(used)
    return [part for part in found if part not in drawn]


def reduce_to_forms(page: Page) -> str:
    """Every thing as circle, square or triangle in a primary colour (Kandinsky's questionnaire,
    Bauhaus 1923; Itten's lessons).
    """
    named = [_as_form(part, page) for part in parts(page)]
    return " ".join(
        [page.phrase("reduce_to_forms.head"), *named, page.phrase("reduce_to_forms.close")]
    )


def _as_form(part: Part, page: Page) -> str:
    """One thing as a form: how many, which form, which colour, what it stands for, where."""
    form = form_of(part.lemma, page.language)
    one, many, primary = table(page.language, "form_names")[form]
    several = (
        part.plural
        or part.kind == "weather"
        or part.count.casefold() not in ("", *wordset(page.language, "ones"))
    )
    shape = f"{part.count} {many}".strip() if several else one
    colour = " ".join([*part.colours]) or primary
    itself = part.noun.casefold() in (one.split()[-1].casefold(), many.split()[-1].casefold())
    named = part.noun if find_noun(part.noun, page.language) else bare(part, page.language)
    label = "" if itself else f" = {named}"
    place = table(page.language, "positions").get(
        part.lead if part.kind in ("thing", "ground") else "in", ""
    )
    return sentence(f"{place}: {shape}, {colour}{label}" if place else f"{shape}, {colour}{label}")


@lru_cache(maxsize=4096)
def form_of(lemma: str, language: str) -> str:
    """The elementary form a thing is reduced to; things unknown are shared out by their length."""
    low, forms = lemma.casefold(), table(language, "forms").items()
    known = [form for form, members in forms if low in members]
    known += [
        form for form, members in forms if any(len(m) > 3 and low.endswith(m) for m in members)
    ]
    return known[0] if known else ("circle", "square", "triangle")[len(lemma) % 3]


def ekphrasis_renaissance(page: Page) -> str:
    """The text as an ordered composition in three planes, with light and a gesture (Alberti, "De
    pictura", 1435).
    """
    found = parts(page)
    light = of_kind(found, "time") or of_kind(found, "season")
    solid = _rest(things(found), [light]) or found[:1]
    front = 2 if len(solid) > 2 and solid[1].lead else 1  # what is named first stands in front
    near, depth, key = solid[:front], solid[front:], "ekphrasis_renaissance."
    middle = ", ".join(bare(part, page.language) for part in depth[:-1]) or page.phrase(
        key + "middles"
    )
    far = bare(depth[-1], page.language) if depth else page.phrase(key + "fars")
    said = [
        page.phrase(key + "foreground", main=joined([*near, *_rest(found, [*solid, light])])),
        page.phrase(key + "middle", middle=middle),
        page.phrase(key + "background", far=far),
        page.phrase(key + "timed" if light else key + "light", light=light and light.text),
    ]
    return " ".join([*said, page.phrase(key + "gesture"), page.phrase(key + "surface")])


def literati(page: Page) -> str:
    """Few things, much empty paper, a season (scholar painting since Su Shi, 11th century: the idea
    before the likeness).
    """
    found = parts(page)
    season = of_kind(found, "season")
    solid = _rest(found, [season])
    main, second = (solid or found)[:2], (solid or found)[2:]
    said = [page.phrase("literati.brush", main=joined(main))]
    said += [page.phrase("literati.second", second=joined(second))] if second else []
    said.append(page.phrase("literati.empty"))
    said.append(sentence(season.text) if season and solid else page.phrase("literati.season"))
    return " ".join([*said, page.phrase("literati.close")])


def blueprint(page: Page) -> str:
    """The text as a working drawing: views, numbered parts, dimensions (Gaspard Monge, "Géométrie
    descriptive", 1799).
    """
    found = parts(page)
    key, solid = "blueprint.", things(found)
    lines = [_listed(number, part, page) for number, part in enumerate(solid, 1)]
    lines += [page.phrase(key + "place", text=part.text) for part in _rest(found, solid)]
    head = page.phrase(key + "head")
    head = head.format(
        scale=page.dice.pick(("1:1", "1:5", "1:10", "1:20", "1:50", "1:100")),
        sheet=1 + page.dice.below(9),
    )
    return " ".join(
        [
            head,
            page.phrase(key + "views"),
            page.phrase(key + "parts"),
            "; ".join(lines) + ".",
            page.phrase(key + "notes"),
        ]
    )


def _listed(number: int, part: Part, page: Page) -> str:
    """A part with a dimension that fits its form: a diameter for round things, two or three edges
    for others.
    """
    line, form = page.phrase("blueprint.part"), form_of(part.lemma, page.language)
    edges = [str(20 + 5 * page.dice.below(96)) for _ in range(3)]
    shown = (
        "Ø " + edges[0]
        if form in ("circle", "semicircle", "arc")
        else " × ".join(edges[: 2 if form in ("plane", "line") else 3])
    )
    line = line.format(n=number, text=bare(part, page.language), size=shown + " mm")
    place = table(page.language, "positions").get(part.lead, "")
    return f"{line}, {place}" if place else line


def story(page: Page) -> str:
    """The text as a very small story: beginning, turn, end (Aristotle, "Poetics" 7: a whole has
    beginning, middle and end).
    """
    found = parts(page)
    end = next((at for at, part in enumerate(found) if at and not part.lead), len(found))
    first, rest = found[: min(end, 3)], found[min(end, 3) :]
    said = [page.phrase("story.first", a=joined(first))]
    said += [page.phrase("story.then", b=joined(rest))] if rest else []
    return " ".join([*said, page.phrase("story.turn"), page.phrase("story.end", a=first[0].text)])


def planetary(page: Page) -> str:
    """The text seen from the planet, with its unseen neighbours (Humboldt, "Naturgemälde", 1807:
    everything is interconnection).
    """
    known = table(page.language, "ecology")
    told = list(
        dict.fromkeys(
            known[lemma] for part in parts(page) if (lemma := part.lemma.casefold()) in known
        )
    )
    text = lower_start(page.text.rstrip(" ."), page.language)
    said = capital(page.phrase("planetary.open", text=text, Text=capital(text)))
    return " ".join(
        [
            sentence(said),
            *(told[:3] or page.some("planetary.general", 2)),
            page.phrase("planetary.close"),
        ]
    )


def photograph(page: Page) -> str:
    """The text as a print from film: material, lens, light, the traces of the process (Moholy-Nagy,
    "Malerei Photographie Film", 1925).
    """
    found = parts(page)
    mono = wordset(page.language, "mono")
    colourful = any(colour not in mono for part in found for colour in part.colours)
    coloured = colourful or (not any(part.colours for part in found) and page.dice.chance(0.6))
    light = of_kind(found, "time")
    key = "photograph."
    made = ", ".join(
        [
            page.phrase(key + ("colour" if coloured else "mono")),
            page.phrase(key + "lens"),
            page.phrase(key + "time"),
        ]
    )
    shone = page.phrase(key + "timed" if light else key + "light", light=light and light.text)
    return " ".join([sentence(page.text), sentence(made), shone, page.phrase(key + "trace")])


def expressionist(page: Page) -> str:
    """The text as a cry: short, hard, leaning (August Stramm's telegram style, 1914; the woodcuts
    of the years before).
    """
    fierce = cycle(page.some("expressionist.fierce", 9))
    after = cycle(page.some("expressionist.place", 9))
    shapes = cycle(page.some("expressionist.shape", 20))
    cries = []
    for part in parts(page):
        text = " ".join(
            f"{next(fierce)} {word}" if colours_in([word], page.language) else word
            for word in part.text.split(" ")
        )
        cries.append(
            f"{capital(text)} – {next(after) if part.lead else f'{next(shapes)}, {next(shapes)}'}!"
        )
    return " ".join([*cries, page.phrase("expressionist.close")])
