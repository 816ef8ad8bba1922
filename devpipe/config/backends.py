"""Which backends may a file or a setting name, and which procedures of the embedded one?

Third parties register under the entry point group `devpipe.backends`. The classes
that stand here are imported by `devpipe.backends.registry`, when a backend is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

HERE = "devpipe/config/backends.py"  # where messages send whoever adds or mends a line


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a backend's class is, and what to install where its import fails."""

    target: str  # "module:Class"
    install: str = ""  # for pip, where a package that it imports is missing; empty: that package


BACKENDS: Mapping[str, Entry] = {
    "procedural": Entry("devpipe.offline.backend:Procedural"),
    "transformers": Entry(
        "devpipe.backends.transformers:Transformers", install='"devpipe-lab[local]"'
    ),
    "ollama": Entry("devpipe.backends.ollama:Ollama"),
    "openai_compatible": Entry("devpipe.backends.openai_compatible:OpenAICompatible"),
    "openrouter": Entry("devpipe.backends.openrouter:OpenRouter"),
    "comfyui": Entry("devpipe.comfyui.backend:ComfyUI"),
}
# Those of devpipe.offline.procedures (a test compares them): a pipeline is checked without loading
# their word lists and grammars.
PROCEDURES = (
    "amplify",
    "antonyms",
    "blueprint",
    "chinese_whispers",
    "cut_up",
    "ekphrasis_renaissance",
    "expressionist",
    "exquisite",
    "harmonize",
    "keep",
    "lipogram",
    "literati",
    "markov",
    "n_plus_7",
    "photograph",
    "pig_latin",
    "planetary",
    "reduce_to_forms",
    "slang",
    "split",
    "story",
    "translate_en",
    "uncliche",
)


def known() -> dict[str, Entry]:
    """All registered backends, ours first; an entry point cannot replace one of ours."""
    points = metadata.entry_points(group="devpipe.backends")
    return {point.name: Entry(point.value) for point in points} | dict(BACKENDS)
