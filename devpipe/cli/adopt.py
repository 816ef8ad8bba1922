"""How does a ComfyUI graph that somebody brings become an output of the workspace?"""

from __future__ import annotations

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devpipe.backends.registry import Backends
from devpipe.cli.printing import plain, say
from devpipe.cli.stops import Stops
from devpipe.comfyui.adopt import Adoption, adopt, read, written
from devpipe.comfyui.doctor import saved_info, server_nodes
from devpipe.comfyui.trace import Group, Guess
from devpipe.config.catalogue import load_catalogue
from devpipe.config.settings import Settings
from devpipe.config.spelling import NAME
from devpipe.config.workflow import Nodes, title_of
from devpipe.errors import UsageError

UMLAUTS: Mapping[int, str] = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ß"): "ss"}


@dataclass(frozen=True, slots=True)
class NewOutput:
    """An output that is not there yet: its name, and the workspace that it shall be in."""

    name: str
    workspace: Path

    @classmethod
    def of(cls, name: str, workspace: Path) -> NewOutput:
        """Raises UsageError where the name is none, or taken."""
        if not re.fullmatch(NAME, name):
            raise UsageError(
                f"{name!r} cannot be the name of an output.",
                hint=f"Lower-case words joined by _, such as --name {name_from(name)}.",
            )
        new = cls(name, workspace)
        for file in (new.config, new.graph):
            if file.exists():
                raise UsageError(
                    f"There is {file} already.", hint="Choose another name: --name NAME."
                )
        return new

    @property
    def config(self) -> Path:
        """The file of the output config."""
        return self.workspace / "output_configs" / f"{self.name}.json"

    @property
    def graph(self) -> Path:
        """The file of the graph."""
        return self.workspace / "output_configs" / "graphs" / f"{self.name}.json"

    def write(self, adoption: Adoption) -> None:
        """Write both files. Raises UsageError, and writes nothing, where they would have faults."""
        if faults := self._faults(adoption):
            raise UsageError(
                f"Nothing was written, the output would have faults: {' '.join(faults)}",
                hint="Mend the graph in ComfyUI.",
            )
        self._write(adoption)

    def _faults(self, adoption: Adoption) -> list[str]:
        """What would be wrong with the output, tried in a workspace of its own."""
        pipelines = self.workspace / "pipelines"
        with tempfile.TemporaryDirectory() as folder:
            trial = NewOutput(self.name, Path(folder))
            if pipelines.is_dir():
                shutil.copytree(
                    pipelines, trial.workspace / "pipelines", ignore_dangling_symlinks=True
                )
            trial._write(adoption)
            return [
                str(fault)
                for fault in load_catalogue(trial.workspace).faults
                if fault.file == f"output_configs/{self.name}.json"
            ]

    def _write(self, adoption: Adoption) -> None:
        self.graph.parent.mkdir(parents=True, exist_ok=True)
        self.graph.write_text(written(adoption.graph), encoding="utf-8")
        self.config.write_text(written(adoption.config(self.name)), encoding="utf-8")

    def to_json(self, adoption: Adoption) -> dict[str, Any]:
        """What was written, and where each value goes."""
        return {
            "name": self.name,
            "config": str(self.config),
            "graph": str(self.graph),
            "bindings": adoption.config(self.name)["bindings"],
        }

    def next_steps(self, adoption: Adoption, next_line: Callable[..., str]) -> list[str]:
        """What was written, and what a person can do with it, by commands that find it."""
        config = adoption.config(self.name)
        texts = ["a cat in the rain"]
        if "prompt_2" in config["bindings"]:
            texts = ["a cat", "--prompt-2", "a storm"]
        pictures = [word for name in config["images"] for word in (f"--{name}", "FILE")]
        run = next_line("run", *texts, "-o", self.name, *pictures)
        return [
            f"Wrote {self.config} and {self.graph}.",
            f"Next:\n  {next_line('check')}\n  {run}",
        ]


def name_from(text: str) -> str:
    """The name of an output from any text, such as that of a file: Grünes Blatt (2) becomes
    gruenes_blatt_2.
    """
    latin = unicodedata.normalize("NFKD", text.lower().translate(UMLAUTS))
    words = re.sub(
        r"[^a-z0-9]+", "_", "".join(one for one in latin if not unicodedata.combining(one))
    ).strip("_")
    return words[:60].rstrip("_") if words[:1].isalpha() else f"graph_{words[:54]}".rstrip("_")


def adoption_of(file: Path, object_info: str | None, workspace: Path, stops: Stops) -> Adoption:
    """What can be made of the graph in a file.

    By what the file `object_info` says of a server's nodes, else by what the workspace's server
    says. Raises UsageError for another file.
    """
    graph = read(file)
    nodes = saved_info(object_info) or stops.wait(_nodes_of_server(workspace))
    return adopt(graph, nodes)


async def _nodes_of_server(workspace: Path) -> Nodes | None:
    backends = Backends(Settings.load(workspace))
    try:
        return await server_nodes(backends["comfyui"])
    finally:
        await backends.close()


def places(adoption: Adoption) -> list[str]:
    """Where each value goes, a line each."""
    return [f"{guess.name:<16} {_group(guess.best, adoption.graph)}" for guess in adoption.guesses]


def other_places(adoption: Adoption) -> list[str]:
    """Where a value could go as well, a line each."""
    return [
        f"{guess.name} could also go to: {_group(other, adoption.graph)}"
        for guess in adoption.guesses
        for other in guess.others
    ]


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
