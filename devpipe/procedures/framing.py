"""Procedures that look at the things of a text with the eyes of another practice: workshop, easel, darkroom, drawing board, orbit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle

from devpipe.procedures.grammar import find_noun, lower_start
from devpipe.procedures.scene import Part, bare, colours_in, joined, of_kind, parts, things
from devpipe.procedures.words import Page, capital, sentence, table, wordset


def _rest(found: Sequence[Part], used: Sequence[Part]) -> list[Part]:
    drawn = set(used)
    return [part for part in found if part not in drawn]


def reduce_to_forms(page: Page) -> str:
    """Every thing as circle, square or triangle in a primary colour (Kandinsky's questionnaire, Bauhaus 1923; Itten's lessons)."""
    found = parts(page)
    named = [_as_form(part, page) for part in found]
    return " ".join([page.phrase("reduce_to_forms.head"), *named, page.phrase("reduce_to_forms.close")])


def _as_form(part: Part, page: Page) -> str:
    """One thing as a form: how many, which form, which colour, what it stands for, where."""
    form = form_of(part.lemma, page.language)
    one, many, primary = table(page.language, "form_names")[form]
    several = part.plural or part.kind == "weather" or part.count.casefold() not in ("", *wordset(page.language, "ones"))
    shape = f"{part.count} {many}".strip() if several else one
    colour = " ".join([*part.colours]) or primary
    itself = part.noun.casefold() in (one.split()[-1].casefold(), many.split()[-1].casefold())
    named = part.noun if find_noun(part.noun, page.language) else bare(part, page.language)
    label = "" if itself else f" = {named}"
    place = table(page.language, "positions").get(part.lead if part.kind in ("thing", "ground") else "in", "")
    return sentence(f"{place}: {shape}, {colour}{label}" if place else f"{shape}, {colour}{label}")


@lru_cache(maxsize=4096)
def form_of(lemma: str, language: str) -> str:
    """The elementary form a thing is reduced to; things unknown are shared out by their length."""
    forms = table(language, "forms")
    low = lemma.casefold()
    known = next((form for form, members in forms.items() if low in members), None)
    return (
        known
        or next((form for form, members in forms.items() if any(len(m) > 3 and low.endswith(m) for m in members)), None)
        or ("circle", "square", "triangle")[len(lemma) % 3]
    )


def ekphrasis_renaissance(page: Page) -> str:
    """The text as an ordered composition in three planes, with light and a gesture (Alberti, "De pictura", 1435)."""
    found = parts(page)
    light = of_kind(found, "time") or of_kind(found, "season")
    solid = [part for part in things(found) if part is not light] or found[:1]
    near, depth = _by_depth(solid)
    key = "ekphrasis_renaissance."
    middle = ", ".join(bare(part, page.language) for part in depth[:-1]) or page.phrase(key + "middles")
    far = bare(depth[-1], page.language) if depth else page.phrase(key + "fars")
    rest = _rest(found, [*near, *depth, *([light] if light else [])])
    said = [
        page.phrase(key + "foreground").format(main=joined([*near, *rest])),
        page.phrase(key + "middle").format(middle=middle),
        page.phrase(key + "background").format(far=far),
        page.phrase(key + "timed" if light else key + "light").format(light=light and light.text),
        page.phrase(key + "gesture"),
        page.phrase(key + "surface"),
    ]
    return " ".join(said)


def _by_depth(solid: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Things up front and things further back: what is named first stands in front."""
    first = [part for place, part in enumerate(solid) if not place or (place < 2 and part.lead and len(solid) > 2)]
    return first, _rest(solid, first)


def literati(page: Page) -> str:
    """Few things, much empty paper, a season (scholar painting since Su Shi, 11th century: the idea before the likeness)."""
    found = parts(page)
    season = of_kind(found, "season")
    solid = [part for part in found if part is not season]
    main, second = (solid or found)[:2], (solid or found)[2:]
    key = "literati."
    said = [page.phrase(key + "brush").format(main=joined(main))]
    said += [page.phrase(key + "second").format(second=joined(second))] if second else []
    return " ".join(
        [
            *said,
            page.phrase(key + "empty"),
            sentence(season.text) if season and solid else page.phrase(key + "season"),
            page.phrase(key + "close"),
        ]
    )


def blueprint(page: Page) -> str:
    """The text as a working drawing: views, numbered parts, dimensions (Gaspard Monge, "Géométrie descriptive", 1799)."""
    found = parts(page)
    key, solid = "blueprint.", things(found)
    lines = [_listed(number, part, page) for number, part in enumerate(solid, 1)]
    lines += [page.phrase(key + "place").format(text=part.text) for part in _rest(found, solid)]
    head = page.phrase(key + "head").format(
        scale=page.dice.pick(("1:1", "1:5", "1:10", "1:20", "1:50", "1:100")), sheet=1 + page.dice.below(9)
    )
    return " ".join([head, page.phrase(key + "views"), page.phrase(key + "parts"), "; ".join(lines) + ".", page.phrase(key + "notes")])


def _listed(number: int, part: Part, page: Page) -> str:
    place = table(page.language, "positions").get(part.lead, "")
    line = page.phrase("blueprint.part").format(n=number, text=bare(part, page.language), size=_size(part, page))
    return f"{line}, {place}" if place else line


def _size(part: Part, page: Page) -> str:
    """A dimension that fits the form: a diameter for round things, two or three edges for others."""
    edges = [str(20 + 5 * page.dice.below(96)) for _ in range(3)]
    if form_of(part.lemma, page.language) in ("circle", "semicircle", "arc"):
        return f"Ø {edges[0]} mm"
    return " × ".join(edges[: 2 if form_of(part.lemma, page.language) in ("plane", "line") else 3]) + " mm"


def story(page: Page) -> str:
    """The text as a very small story: beginning, turn, end (Aristotle, "Poetics" 7: a whole has beginning, middle and end)."""
    found = parts(page)
    end = next((at for at, part in enumerate(found) if at and not part.lead), len(found))
    first, rest = found[: min(end, 3)], found[min(end, 3) :]
    main, key = joined(first), "story."
    said = [page.phrase(key + "first").format(a=main)]
    said += [page.phrase(key + "then").format(b=joined(rest))] if rest else []
    return " ".join([*said, page.phrase(key + "turn"), page.phrase(key + "end").format(a=first[0].text)])


def planetary(page: Page) -> str:
    """The text seen from the planet, with its unseen neighbours (Humboldt, "Naturgemälde", 1807: everything is interconnection)."""
    found = parts(page)
    known = table(page.language, "ecology")
    told = list(dict.fromkeys(known[part.lemma.casefold()] for part in found if part.lemma.casefold() in known))
    text = lower_text(page)
    said = capital(page.phrase("planetary.open").format(text=text, Text=capital(text)))
    return " ".join([sentence(said), *(told[:3] or page.some("planetary.general", 2)), page.phrase("planetary.close")])


def lower_text(page: Page) -> str:
    """The whole text without its final stop, ready to stand inside a sentence."""
    return lower_start(page.text.rstrip(" ."), page.language)


def photograph(page: Page) -> str:
    """The text as a print from film: material, lens, light, the traces of the process (Moholy-Nagy, "Malerei Photographie Film", 1925)."""
    found = parts(page)
    mono = wordset(page.language, "mono")
    colourful = any(colour not in mono for part in found for colour in part.colours)
    coloured = colourful or (not any(part.colours for part in found) and page.dice.chance(0.6))
    light = of_kind(found, "time")
    key = "photograph."
    made = ", ".join([page.phrase(key + ("colour" if coloured else "mono")), page.phrase(key + "lens"), page.phrase(key + "time")])
    shone = page.phrase(key + "timed").format(light=light.text) if light else page.phrase(key + "light")
    return " ".join([sentence(page.text), sentence(made), shone, page.phrase(key + "trace")])


def expressionist(page: Page) -> str:
    """The text as a cry: short, hard, leaning (August Stramm's telegram style, 1914; the woodcuts of the years before)."""
    fierce = cycle(page.some("expressionist.fierce", 9))
    after = cycle(page.some("expressionist.place", 9))
    shapes = cycle(page.some("expressionist.shape", 20))
    cries = []
    for part in parts(page):
        text = " ".join(f"{next(fierce)} {word}" if colours_in([word], page.language) else word for word in part.text.split(" "))
        cries.append(f"{capital(text)} – {next(after) if part.lead else f'{next(shapes)}, {next(shapes)}'}!")
    return " ".join([*cries, page.phrase("expressionist.close")])
