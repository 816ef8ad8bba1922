"""`devpipe adopt`: a ComfyUI graph that somebody brings becomes an output of the workspace."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from devpipe.backends.registry import Backends
from devpipe.cli import EXIT_COMPLETED, Asked
from devpipe.cli.printing import plain, say, say_json
from devpipe.comfyui.adopt import Adoption, adopt, read, written
from devpipe.comfyui.checker import Nodes, title_of
from devpipe.comfyui.doctor import saved_info, server_nodes
from devpipe.comfyui.trace import Group, Guess
from devpipe.config.models import NAME, load_catalogue
from devpipe.config.settings import Settings
from devpipe.errors import UsageError

UMLAUTS: Mapping[int, str] = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ß"): "ss"}


def command(asked: Asked) -> int:
    """`devpipe adopt GRAPH`: an output config and its graph, written into the workspace."""
    place, path = asked.workspace(), Path(asked.graph)
    name = asked.name or named(path.stem)
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"{name!r} cannot be the name of an output.",
            hint=f"Lower-case words joined by _, such as --name {named(name)}.",
        )
    config, nodes = (
        place / "output_configs" / f"{name}.json",
        place / "output_configs" / "graphs" / f"{name}.json",
    )
    if taken := [str(one) for one in (config, nodes) if one.exists()]:
        raise UsageError(f"There is {taken[0]} already.", hint="Choose another name: --name NAME.")
    found = adopt(read(path), saved_info(asked.object_info) or asked.wait(_asked_server(place)))
    asking = not (asked.yes or asked.json) and sys.stdin is not None and sys.stdin.isatty()
    open_ = [] if asking else [(guess.name, one) for guess in found.guesses for one in guess.others]
    others = [f"{name} could also go to: {_group(one, found.graph)}" for name, one in open_]
    found = found.chosen(lambda guess: choose(guess, found.graph) if asking else guess.best)
    if wrong := _faults_of(found, name, place):
        raise UsageError(
            f"Nothing was written, the output would have faults: {' '.join(wrong)}",
            hint="Mend the graph in ComfyUI.",
        )
    _write(found, name, place)
    if asked.json:
        told = {
            "name": name,
            "config": str(config),
            "graph": str(nodes),
            "bindings": found.config(name)["bindings"],
        }
        say_json(told | {"notes": [*others, *found.notes]})
    else:
        lines = [f"{guess.name:<16} {_group(guess.best, found.graph)}" for guess in found.guesses]
        say(
            plain(
                "\n".join(
                    [
                        *lines,
                        *others,
                        *found.notes,
                        f"Wrote {config} and {nodes}.",
                        _next(found.config(name)),
                    ]
                )
            )
        )
    return EXIT_COMPLETED


def _write(found: Adoption, name: str, place: Path) -> None:
    """The output config and its graph, in a workspace."""
    folder = place / "output_configs" / "graphs"
    folder.mkdir(parents=True, exist_ok=True)
    for path, value in [
        (folder / f"{name}.json", found.graph),
        (folder.parent / f"{name}.json", found.config(name)),
    ]:
        path.write_text(written(value), encoding="utf-8")


def _faults_of(found: Adoption, name: str, place: Path) -> list[str]:
    """What would be wrong with the output, tried in a workspace of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if (place / "pipelines").is_dir():
            shutil.copytree(
                place / "pipelines", Path(folder, "pipelines"), ignore_dangling_symlinks=True
            )
        _write(found, name, Path(folder))
        return [
            str(fault)
            for fault in load_catalogue(Path(folder)).faults
            if fault.file == f"output_configs/{name}.json"
        ]


def named(text: str) -> str:
    """The name of an output from any text, such as that of a file: Grünes Blatt (2) becomes
    gruenes_blatt_2.
    """
    latin = unicodedata.normalize("NFKD", text.lower().translate(UMLAUTS))
    words = re.sub(
        r"[^a-z0-9]+", "_", "".join(one for one in latin if not unicodedata.combining(one))
    ).strip("_")
    return words[:60].rstrip("_") if words[:1].isalpha() else f"graph_{words[:54]}".rstrip("_")


def _next(config: Mapping[str, Any]) -> str:
    """What a person can do with a new output."""
    texts = (
        '"a cat" --prompt-2 "a storm"'
        if "prompt_2" in config["bindings"]
        else '"a cat in the rain"'
    )
    pictures = "".join(f" --{name} FILE" for name in config["images"])
    return f"Next:\n  devpipe check\n  devpipe run {texts} -o {config['name']}{pictures}"


async def _asked_server(place: Path) -> Nodes | None:
    backends = Backends(Settings.load(place))
    try:
        return await server_nodes(backends["comfyui"])
    finally:
        await backends.close()


def _group(group: Group, graph: Nodes) -> str:
    value = " ".join(str(graph[group[0][0]]["inputs"][group[0][1]]).split())
    return (
        ", ".join(f"{name} of node {number} ({title_of(graph[number])})" for number, name in group)
        + f": {value[:60]}"
    )


def choose(guess: Guess, graph: Nodes, *, ask: Callable[[str], str] = input) -> Group:
    """The place that the person at the terminal names; the first one where they only press Enter.

    Raises UsageError where they leave.
    """
    places = [guess.best, *guess.others]
    what = (
        "The graph has several texts that could be yours. Which one takes the"
        if guess.name == "prompt"
        else "Which one takes the"
    )
    lines = [f"  {index}  {_group(one, graph)}" for index, one in enumerate(places, 1)]
    say(plain("\n".join([f"{what} {guess.name}? The others stay as they are.", *lines])))
    while True:
        try:
            answer = ask(f"1..{len(places)} (Enter: 1): ").strip() or "1"
        except EOFError as error:
            raise UsageError(
                "Nothing was written: the question was not answered.",
                hint="--yes takes the likeliest place.",
            ) from error
        if answer.isascii() and answer.isdecimal() and 0 < int(answer) <= len(places):
            return places[int(answer) - 1]
        say(f"Please type a number from 1 to {len(places)}.")
