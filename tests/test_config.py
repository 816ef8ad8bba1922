"""Pipelines and outputs: strict files, every fault named, the others usable."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devpipe.cli.run_options import value_of
from devpipe.cli.schemas import schemas
from devpipe.config.catalogue import Catalogue, load_catalogue
from devpipe.config.models import InterceptionPipeline, OutputConfig
from devpipe.config.strict_json import MAX_DEPTH, MAX_FILE_BYTES
from devpipe.errors import ConfigError, UnknownName, UsageError

ROOT = Path(__file__).resolve().parents[1]
OWN_FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("pipelines", "output_configs")
    for path in sorted(ROOT.glob(f"{folder}/*.json"))
]
WORDS = {"en": "Words", "de": "Wörter"}
Spoil = Callable[[dict[str, Any]], object]


class Workspace:
    """A small workspace in a temporary folder: two media pipelines, two interceptions, one
    output.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        titled = {"version": 1, "title": WORDS, "description": WORDS}
        single = {
            "kind": "media",
            **titled,
            "texts": ["prompt"],
            "images": [],
            "optional_images": ["image", "mask"],
        }
        step = {"name": "rewrite", "instruction": WORDS, "procedure": "cut_up"}
        self.put("pipelines/single.json", {"name": "single", **single})
        self.put("pipelines/dual.json", {"name": "dual", **single, "texts": ["prompt", "prompt_2"]})
        self.put(
            "pipelines/dada.json",
            {"name": "dada", "kind": "interception", **titled, "steps": [step]},
        )
        self.put(
            "pipelines/plain.json", {"name": "plain", "kind": "interception", **titled, "steps": []}
        )
        width = {
            "type": "integer",
            "default": 768,
            "minimum": 64,
            "maximum": 2048,
            "description": WORDS,
        }
        output = {
            "pipeline": "single",
            "medium": "image",
            "backend": "procedural",
            "parameters": {"width": width},
        }
        self.put("output_configs/sketch.json", {"name": "sketch", **titled, **output})

    def put(self, file: str, content: object) -> None:
        path = self.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)

    def get(self, file: str) -> Any:
        return json.loads((self.home / file).read_bytes())

    def spoil(self, file: str, spoil: Spoil) -> Catalogue:
        raw = self.get(file)
        spoil(raw)
        self.put(file, raw)
        return self.load()

    def load(self) -> Catalogue:
        return load_catalogue(self.home)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def faults(catalogue: Catalogue) -> dict[str, str]:
    """The faults by file and path."""
    return {f"{fault.file} {fault.path}": fault.message for fault in catalogue.faults}


def test_a_sound_workspace_has_no_faults(workspace: Workspace) -> None:
    """All files of a sound workspace are usable under their names."""
    catalogue = workspace.load()

    assert not catalogue.faults
    assert sorted(catalogue.interceptions) == ["dada", "plain"]
    assert sorted(catalogue.media) == ["dual", "single"]
    assert catalogue.output("sketch").parameters["width"].default == 768


DADA, SINGLE, SKETCH = "pipelines/dada.json", "pipelines/single.json", "output_configs/sketch.json"


def top(**changes: object) -> Spoil:
    return lambda raw: raw.update(changes)


def step(**changes: object) -> Spoil:
    return lambda raw: raw["steps"][0].update(changes)


def parameter(name: str) -> Spoil:
    return lambda raw: raw["parameters"].update({name: raw["parameters"]["width"]})


SPOILT: list[tuple[str, str, Spoil, str, list[str]]] = [
    ("unknown key", DADA, top(stlye="dada"), "$.stlye", ["no key known", "did you mean 'style'"]),
    (
        "unknown key inside",
        DADA,
        step(instrction=WORDS),
        "$.steps[0].instrction",
        ["did you mean 'instruction'"],
    ),
    (
        "unknown language",
        DADA,
        lambda raw: raw["title"].update(fr="Mots"),
        "$.title.fr",
        ["Allowed: de, en"],
    ),
    (
        "missing language",
        DADA,
        step(instruction={"en": "x"}),
        "$.steps[0].instruction.de",
        ["is missing: German"],
    ),
    (
        "empty instruction",
        DADA,
        lambda raw: raw["steps"][0]["instruction"].update(de=" \n"),
        "$.steps[0].instruction.de",
        ["not empty"],
    ),
    (
        "bad step name",
        DADA,
        step(name="Re write"),
        "$.steps[0].name",
        ["lower-case words", '"Re write"'],
    ),
    (
        "unknown procedure",
        DADA,
        step(procedure="cutup"),
        "$.steps[0].procedure",
        ["did you mean 'cut_up'", "and others"],
    ),
    (
        "two steps of one name",
        DADA,
        lambda raw: raw["steps"].append(raw["steps"][0]),
        "$.steps",
        ["two steps are named 'rewrite'"],
    ),
    (
        "too many iterations",
        DADA,
        step(iterations=33),
        "$.steps[0].iterations",
        ["less than or equal to 32", "33"],
    ),
    ("a text for a number", DADA, top(version="1"), "$.version", ["valid integer", '"1"']),
    (
        "no language code",
        DADA,
        step(languages=["fr", "german"]),
        "$.steps[0].languages[1]",
        ["two letters"],
    ),
    (
        "bad output language",
        DADA,
        step(output_language="English"),
        "$.steps[0].output_language",
        ["'same'"],
    ),
    (
        "parts of no media pipeline",
        DADA,
        step(parts=["a", "b"]),
        "$.steps",
        ["['prompt', 'prompt_2']"],
    ),
    (
        "parts before the end",
        DADA,
        lambda raw: raw["steps"].insert(
            0, {**raw["steps"][0], "name": "split", "parts": ["prompt", "prompt_2"]}
        ),
        "$.steps",
        ["only the last"],
    ),
    (
        "wrong kind",
        DADA,
        top(kind="interceptoin"),
        "$.kind",
        ['cannot be "interceptoin"', "'interception'"],
    ),
    (
        "name of another file",
        DADA,
        top(name="plain"),
        "$.name",
        ["the name of plain.json already", "Allowed: 'dada'"],
    ),
    ("name of no file", DADA, top(name="dadaa"), "$.name", ["not the name of the file"]),
    ("no texts", SINGLE, top(texts=[]), "$.texts", ["at least 1 item"]),
    ("unknown picture", SINGLE, top(images=["masc"]), "$.images[0]", ["did you mean 'mask'"]),
    (
        "unknown backend",
        SKETCH,
        top(backend="procedual"),
        "$.backend",
        ["did you mean 'procedural'"],
    ),
    (
        "unknown media pipeline",
        SKETCH,
        top(pipeline="singel"),
        "$.pipeline",
        ["no media pipeline", "did you mean 'single'"],
    ),
    (
        "an interception for a media pipeline",
        SKETCH,
        top(pipeline="dada"),
        "$.pipeline",
        ["no media pipeline", "dual, single"],
    ),
    (
        "a picture the pipeline lacks",
        SKETCH,
        top(images=["control"]),
        "$.images",
        ["control", "Allowed: image, mask"],
    ),
    (
        "missing graph",
        SKETCH,
        top(graph="flux.json"),
        "$.graph",
        ["no graph 'flux.json'", "Allowed: none"],
    ),
    ("graph elsewhere", SKETCH, top(graph="../sketch.json"), "$.graph", ["without folders"]),
    ("unknown medium", SKETCH, top(medium="picture"), "$.medium", ["Allowed: image, sound, video"]),
    (
        "a text as output",
        SKETCH,
        top(medium="text"),
        "$.medium",
        ['cannot be "text"', "Allowed: image, sound, video"],
    ),
    ("negative price", SKETCH, top(price_usd=-1), "$.price_usd", ["greater than or equal to 0"]),
    ("no object", SKETCH, top(title="Sketch"), "$.title", ["must be an object with en, de"]),
    ("a vendor's spelling", SKETCH, parameter("cfg"), "$.parameters.cfg", ["'guidance_scale'"]),
    ("a seed", SKETCH, parameter("seed"), "$.parameters.seed", ["not declared"]),
    ("odd parameter name", SKETCH, parameter("A b"), '$.parameters["A b"]', ["lower-case words"]),
]
WIDTH_SPOILT: list[tuple[str, dict[str, object], str, list[str]]] = [
    ("default too small", {"default": 63}, "default", ["must be 64..2048", "63"]),
    ("default too large", {"default": 2049}, "default", ["must be 64..2048"]),
    ("default of another type", {"default": "768"}, "default", ["must be an integer", '"768"']),
    ("default a fraction", {"default": 768.0}, "default", ["must be an integer"]),
    ("default a list", {"default": [768]}, "default", ["must be a text, a finite number"]),
    ("default no choice", {"choices": [512, 1024]}, "default", ["must be 512 or 1024"]),
    ("default no multiple", {"multiple_of": 500}, "default", ["multiple of 500"]),
    ("a choice out of range", {"choices": [768, 4096]}, "choices", ["must be 64..2048", "4096"]),
    ("maximum below minimum", {"maximum": 10}, "maximum", ["below the minimum", "64 or more"]),
    (
        "limits of a text",
        {"type": "string", "default": "x", "maximum": None},
        "minimum",
        ["a string has no minimum"],
    ),
    ("unknown type", {"type": "int"}, "type", ["'integer'"]),
    ("unknown key", {"min": 3}, "min", ["did you mean 'minimum'"]),
    ("a huge number", {"default": 10**400, "maximum": None}, "default", ["a finite number"]),
]
SPOILT += [
    (
        f"width: {name}",
        SKETCH,
        lambda raw, change=change: raw["parameters"]["width"].update(change),
        f"$.parameters.width.{path}",
        messages,
    )
    for name, change, path, messages in WIDTH_SPOILT
]


@pytest.mark.parametrize(
    ("file", "spoil", "path", "messages"),
    [case[1:] for case in SPOILT],
    ids=[case[0] for case in SPOILT],
)
def test_each_fault_is_named(
    workspace: Workspace, file: str, spoil: Spoil, path: str, messages: list[str]
) -> None:
    """A fault says where it is, what is wrong, what is allowed; the file is then not usable, and
    the others are.
    """
    catalogue = workspace.spoil(file, spoil)
    found = faults(catalogue)

    assert f"{file} {path}" in found
    assert all(message in found[f"{file} {path}"] for message in messages), found
    assert Path(file).stem not in {
        **catalogue.interceptions,
        **catalogue.media,
        **catalogue.outputs,
    }
    assert "plain" in catalogue.interceptions and "dual" in catalogue.media


def test_all_faults_of_all_files_are_listed_at_once(workspace: Workspace) -> None:
    """Several faults in one object, in several objects and in several files are all there, each
    once.
    """
    workspace.spoil(
        DADA,
        lambda raw: (
            raw.update(stlye="x", version=0, kind="media_"),
            raw["steps"][0].update(procedure="x", extra=1),
        ),
    )
    width = {"type": "integer", "default": 1, "minimum": 64, "maximum": 3, "maxmium": 3}
    catalogue = workspace.spoil(
        SKETCH,
        lambda raw: raw.update(
            backend="x", pipeline="y", parameters={"width": width, "cfg": width}
        ),
    )

    of_width = ["default", "description", "maximum", "maxmium"]
    in_sketch = [
        "$.backend",
        "$.pipeline",
        *(f"$.parameters.{name}.{path}" for name in ("width", "cfg") for path in of_width),
        "$.parameters.cfg",
    ]
    in_dada = ["$.kind", "$.steps[0].extra", "$.steps[0].procedure", "$.stlye", "$.version"]
    assert sorted(
        [f"{DADA} {path}" for path in in_dada] + [f"{SKETCH} {path}" for path in in_sketch]
    ) == sorted(faults(catalogue))
    assert len(catalogue.faults) == len(faults(catalogue))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON: line 1, column 1"),
        (b'{\n  "name": "dada",\n  oops\n}', "is not JSON: line 3, column 3"),
        (b'{"name": "d\xe4da"}', "is not UTF-8 at byte 11"),
        (b"[1, 2]", "must be an object in braces"),
        (b"7" * 5000, "must be an object in braces"),
        (
            b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
            f"nested {MAX_DEPTH + 1} deep. Allowed: {MAX_DEPTH}",
        ),
        (b"[" * 100_000, "nested 100000 deep"),
        (b'{"name": "' + b"x" * MAX_FILE_BYTES + b'"}', f"Allowed: {MAX_FILE_BYTES:,}"),
        (b'{"name": "\\ud800"}', "JSON"),
        (b"\x00" * 10, "is not JSON"),
    ],
    ids=[
        "empty",
        "syntax",
        "latin-1",
        "list",
        "digits",
        "deep",
        "very-deep",
        "large",
        "surrogate",
        "zeros",
    ],
)
def test_a_file_that_is_no_json_object_is_a_fault(
    workspace: Workspace, content: bytes, message: str
) -> None:
    """Whatever bytes a file has: one fault for it, and the other files work."""
    workspace.put(DADA, content)
    catalogue = workspace.load()

    assert [fault.file for fault in catalogue.faults] == [DADA]
    assert message in catalogue.faults[0].message
    assert list(catalogue.interceptions) == ["plain"] and list(catalogue.outputs) == ["sketch"]


def test_nesting_is_counted_outside_of_texts(workspace: Workspace) -> None:
    """Brackets and quotation marks inside a text do not count."""
    assert not workspace.spoil(DADA, lambda raw: raw["title"].update(en='{[\\"' * 50)).faults


def test_keys_that_stand_twice_are_faults(workspace: Workspace) -> None:
    """Python would take the last one without a word; each is named by its place, also inside, and
    the file is not usable.
    """
    lines = json.dumps(workspace.get(SKETCH), indent=1).splitlines()
    at = next(number for number, line in enumerate(lines) if '"minimum": 64' in line)
    lines[at : at + 1] = ['"minimum": 64, "description_":', '"}: \\"", "minimum":1,']
    lines[1:1] = ['"medium": "image", "note_": [{"medium": 1}, {}],']
    workspace.put(SKETCH, "\n".join(lines).encode())
    catalogue = workspace.load()

    medium = next(number for number, line in enumerate(lines, 1) if line.startswith(' "medium"'))
    assert (
        faults(catalogue).items()
        >= {
            f"{SKETCH} $.medium": f"stands there twice, in lines 2 and {medium}. Delete one.",
            f"{SKETCH} $.parameters.width.minimum": (
                f"stands there twice, in lines {at + 2} and {at + 3}. Delete one."
            ),
        }.items()
    )
    assert not catalogue.outputs


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_faults(workspace: Workspace, number: str) -> None:
    """Python's JSON reads them; as a limit, a default or a price they would allow everything or
    nothing.
    """
    text = (
        json.dumps(workspace.get(SKETCH)).replace("64,", f"{number},").replace("768,", f"{number},")
    )
    workspace.put(
        SKETCH, text.replace('"version": 1', f'"version": 1, "price_usd": {number}').encode()
    )

    assert {
        f"{SKETCH} $.{path}"
        for path in ("parameters.width.default", "parameters.width.minimum", "price_usd")
    } == set(faults(workspace.load()))


def test_a_byte_order_mark_is_no_fault(workspace: Workspace) -> None:
    """Windows editors put one there."""
    workspace.put(DADA, b"\xef\xbb\xbf" + json.dumps(workspace.get(DADA)).encode())

    assert not workspace.load().faults


def test_what_is_no_file_is_a_fault(workspace: Workspace, tmp_path: Path) -> None:
    """A link, a folder, a pipe that would block and a file that is gone are named; none of them
    stops the others.
    """
    (workspace.home / "pipelines/link.json").symlink_to(workspace.home / DADA)
    (workspace.home / "pipelines/dead.json").symlink_to(tmp_path / "nowhere")
    (workspace.home / "pipelines/folder.json").mkdir()
    os.mkfifo(workspace.home / "pipelines/pipe.json")
    catalogue = workspace.load()

    assert sorted(Path(fault.file).stem for fault in catalogue.faults) == [
        "dead",
        "folder",
        "link",
        "pipe",
    ]
    assert all("link, folder or device" in fault.message for fault in catalogue.faults)
    assert "dada" in catalogue.interceptions


@contextmanager
def without_root() -> Iterator[None]:
    """Root may read everything: what is inside is done as nobody in particular."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_unreadable_file_is_a_fault() -> None:
    """Without the permission to read a file, its fault says so, and the others are usable."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        Path(folder).chmod(0o755)
        (workspace.home / DADA).chmod(0)
        workspace.load()  # imports what it needs while it may
        with without_root():
            catalogue = workspace.load()

    assert {f"{DADA} $": "cannot be read: Permission denied. Mend its permissions."} == faults(
        catalogue
    )
    assert list(catalogue.interceptions) == ["plain"]


def test_files_that_are_never_read_are_named(workspace: Workspace) -> None:
    """A configuration with another ending does not disappear silently; notes and hidden files may
    lie there.
    """
    for name in ("new.yaml", "dada.JSON", "notes.md", ".hidden.yaml.swp", "dada.json~"):
        workspace.put(f"pipelines/{name}", b"")

    assert [fault.file for fault in workspace.load().faults] == [
        "pipelines/dada.JSON",
        "pipelines/new.yaml",
    ]


def test_a_missing_folder_is_a_fault(tmp_path: Path) -> None:
    """An empty folder is no crash: both missing folders are named."""
    assert [fault.file for fault in load_catalogue(tmp_path).faults] == [
        "output_configs/",
        "pipelines/",
    ]


def test_a_broken_file_is_asked_for_by_name(workspace: Workspace) -> None:
    """Asking for what is broken names all its faults and no other file's; unknown names offer the
    nearest.
    """
    workspace.spoil(DADA, lambda raw: raw.update(version=0, x=1))
    catalogue = workspace.spoil(SKETCH, lambda raw: raw.update(y=1))

    with pytest.raises(ConfigError) as caught:
        catalogue.interception("dada")
    assert {"$.version", "$.x"} == {fault.path for fault in caught.value.faults}
    with pytest.raises(ConfigError):
        catalogue.output("sketch")
    with pytest.raises(UnknownName, match="Did you mean plain"):
        catalogue.interception("plian")
    with pytest.raises(UnknownName, match="no output"):
        catalogue.output("../pipelines/plain")
    with pytest.raises(UnknownName, match="no media pipeline 'plain'"):
        catalogue.media_pipeline("plain")
    with pytest.raises(UsageError, match="is a media pipeline"):
        catalogue.interception("single")


@pytest.mark.parametrize("content", [b"{", b"{}"], ids=["no JSON", "no fields"])
def test_an_output_is_unusable_with_its_media_pipeline(
    workspace: Workspace, content: bytes
) -> None:
    """A broken media pipeline is a fault of the outputs that take it, which say where to look."""
    workspace.put("pipelines/dual.json", content)
    catalogue = workspace.spoil(SKETCH, lambda raw: raw.update(pipeline="dual"))

    assert "pipelines/dual.json has faults" in faults(catalogue)[f"{SKETCH} $.pipeline"]
    with pytest.raises(ConfigError):
        catalogue.output("sketch")


def test_a_number_of_5000_digits_is_a_fault_of_its_place(workspace: Workspace) -> None:
    """In our words, not in Python's."""
    raw = (workspace.home / SKETCH).read_text("utf-8")
    workspace.put(SKETCH, raw.replace("2048", "1" + "0" * 5000).encode())
    (fault,) = load_catalogue(workspace.home).faults
    assert fault.path.startswith("$.parameters.width") and "set_int_max" not in fault.message


def test_a_file_that_is_not_read_is_named_as_it_is(workspace: Workspace) -> None:
    """Not as the one that would have been read, and only where that is not there."""
    workspace.put("pipelines/fresh.yaml", b"name: fresh")
    workspace.put("pipelines/plain.yaml", b"name: plain")
    workspace.put("output_configs/poster.YML", b"name: poster")
    catalogue = workspace.spoil(SKETCH, lambda raw: raw.update(pipeline="fresh"))
    said = faults(catalogue)[f"{SKETCH} $.pipeline"]
    assert "pipelines/fresh.yaml has faults" in said and "fresh.json" not in str(catalogue.faults)
    for get, name, file in (
        (catalogue.interception, "fresh", "pipelines/fresh.yaml"),
        (catalogue.output, "poster", "output_configs/poster.YML"),
    ):
        with pytest.raises(
            ConfigError, match=r"is not read\. Allowed: file names that end in \.json"
        ) as caught:
            get(name)
        assert [fault.file for fault in caught.value.faults] == [file]
    assert catalogue.interception("plain").name == "plain"
    catalogue = workspace.spoil(SKETCH, lambda raw: raw.update(pipeline="plain"))
    assert "'plain' is no media pipeline" in faults(catalogue)[f"{SKETCH} $.pipeline"]
    for content in (b"{", b"{}"):
        workspace.put("pipelines/plain.json", content)
        catalogue = workspace.spoil(SKETCH, lambda raw: raw.update(pipeline="plain"))
        assert "pipelines/plain.json has faults" in faults(catalogue)[f"{SKETCH} $.pipeline"]


def test_a_graph_is_read(workspace: Workspace) -> None:
    """A graph that is there is no fault, a broken or linked one is, and the nearest one is
    offered.
    """
    workspace.put(
        "output_configs/graphs/flux.json",
        {"1": {"class_type": "Draw", "inputs": {"text": "", "width": 8}}},
    )
    bindings = {
        "prompt": [{"node": "1", "input": "text"}],
        "width": [{"node": "1", "input": "width"}],
    }
    assert not workspace.spoil(
        SKETCH, lambda raw: raw.update(graph="flux.json", bindings=bindings)
    ).faults
    assert (
        "did you mean 'flux.json'"
        in faults(workspace.spoil(SKETCH, lambda raw: raw.update(graph="fluxx.json")))[
            f"{SKETCH} $.graph"
        ]
    )
    workspace.put("output_configs/graphs/broken.json", b'{"1": ')
    assert (
        "line 1, column 7"
        in faults(workspace.spoil(SKETCH, lambda raw: raw.update(graph="broken.json")))[
            f"{SKETCH} $.graph"
        ]
    )
    (workspace.home / "output_configs/graphs/link.json").symlink_to(workspace.home / SKETCH)
    assert (
        "link"
        in faults(workspace.spoil(SKETCH, lambda raw: raw.update(graph="link.json")))[
            f"{SKETCH} $.graph"
        ]
    )


def test_backends_beside_the_registered_ones_may_be_named(workspace: Workspace) -> None:
    """An Engine with a backend of its own can use outputs that name it."""
    workspace.spoil(SKETCH, lambda raw: raw.update(backend="scripted"))

    assert "sketch" in load_catalogue(workspace.home, backends=["scripted"]).outputs


def test_the_pictures_a_run_must_bring(workspace: Workspace) -> None:
    """The output says which; where it says none, its media pipeline does."""
    catalogue = workspace.spoil(
        SINGLE, lambda raw: raw.update(images=["image"], optional_images=["mask"])
    )
    assert catalogue.required_images(catalogue.output("sketch")) == ("image",)
    catalogue = workspace.spoil(SKETCH, lambda raw: raw.update(images=["mask"]))
    assert catalogue.required_images(catalogue.output("sketch")) == ("mask",)


VALUES = {
    "width": {
        "type": "integer",
        "default": 512,
        "minimum": 64,
        "maximum": 2048,
        "multiple_of": 64,
        "description": WORDS,
    },
    "guidance_scale": {"type": "number", "default": 5, "minimum": 0, "description": WORDS},
    "strength": {"type": "number", "default": 0.3, "multiple_of": 0.1, "description": WORDS},
    "format": {
        "type": "string",
        "default": "webp",
        "choices": ["webp", "mp4"],
        "description": WORDS,
    },
    "negative_prompt": {"type": "string", "default": "", "description": WORDS},
    "tiled": {"type": "boolean", "default": False, "description": WORDS},
}


@pytest.fixture
def output(workspace: Workspace) -> OutputConfig:
    return workspace.spoil(SKETCH, lambda raw: raw.update(parameters=VALUES)).output("sketch")


def test_parameters_are_filled_in(output: OutputConfig) -> None:
    """What nobody says is the default, in one spelling per type: equal requests have equal
    hashes.
    """
    defaults = {
        "width": 512,
        "guidance_scale": 5.0,
        "strength": 0.3,
        "format": "webp",
        "negative_prompt": "",
        "tiled": False,
    }

    resolved = output.resolve({})
    assert json.dumps(defaults) == json.dumps(resolved)
    assert json.dumps(output.resolve({"guidance_scale": 7})) == json.dumps(
        output.resolve({"guidance_scale": 7.0})
    )


def test_all_faults_of_parameters_are_in_one_error(output: OutputConfig) -> None:
    """Unknown names come with the nearest, vendors' names with ours, values with what is allowed;
    in one line.
    """
    asked = {
        "widht": 64,
        "cfg": 3,
        "seed": 7,
        "width": 100,
        "guidance_scale": float("nan"),
        "format": "gif",
        "tiled": 1,
        "strength": True,
    }

    with pytest.raises(UsageError) as caught:
        output.resolve(asked)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "there is no parameter 'widht', did you mean 'width'?",
        "'cfg': here it is 'guidance_scale'",
        "give the seed as seed",
        "width must be a multiple of 64, not 100",
        "guidance_scale must be a number",
        'format must be "webp" or "mp4", not "gif"',
        "tiled must be a boolean, not 1",
        "strength must be a number, not true",
        "It takes: width, guidance_scale",
    ):
        assert part in message


@pytest.mark.parametrize(
    "value", [63, 2049, 64.0, "64", True, None, [64], 10**400, float("inf")], ids=str
)
def test_a_value_out_of_bounds_is_refused(output: OutputConfig, value: Any) -> None:
    """Types are not guessed: a text, a fraction or true is no width."""
    with pytest.raises(UsageError, match="width must be"):
        output.resolve({"width": value})


def test_numbers_of_numpy_are_numbers(output: OutputConfig) -> None:
    """Values out of a table are taken, and leave as plain Python values."""
    numpy = pytest.importorskip("numpy")
    resolved = output.resolve(
        {"width": numpy.int64(64), "guidance_scale": numpy.float32(2), "strength": numpy.int32(1)}
    )

    assert [resolved[name] for name in ("width", "guidance_scale", "strength")] == [64, 2.0, 1.0]
    assert [int, float, float] == [
        type(resolved[name]) for name in ("width", "guidance_scale", "strength")
    ]


def test_multiples_of_a_fraction_are_exact_enough(output: OutputConfig) -> None:
    """0.7 is a multiple of 0.1, whatever binary fractions say; 0.7001 is none."""
    assert output.resolve({"strength": 0.7})["strength"] == 0.7
    with pytest.raises(UsageError, match=r"multiple of 0\.1"):
        output.resolve({"strength": 0.7001})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("width", "64", 64), ("width", "-3", -3), ("width", "1_0", "1_0"), ("width", "6.5", "6.5"), ("width", "٣", "٣"), ("width", "", ""),
        ("guidance_scale", "7", 7.0), ("guidance_scale", ".5", 0.5), ("guidance_scale", "1e2", 100.0), ("guidance_scale", "0,5", "0,5"),
        ("guidance_scale", "nan", "nan"), ("tiled", "True", True), ("tiled", "false", False), ("tiled", "1", "1"),
        ("format", "30", "30"), ("nowhere", "30", "30"),
    ],
)  # fmt: skip
def test_a_text_from_the_command_line_means_a_value(
    output: OutputConfig, name: str, text: str, value: object
) -> None:
    """By the declared type; what means nothing stays text, which `resolve` then refuses."""
    parsed = value_of(output, name, text)

    assert (value, type(value)) == (parsed, type(parsed))


def test_a_very_long_text_is_refused(output: OutputConfig) -> None:
    """A text parameter is as long as a prompt may be, no longer."""
    with pytest.raises(UsageError, match="at most 10,000 characters"):
        output.resolve({"negative_prompt": "x" * 10_001})


def test_a_snapshot_restores_the_configuration(workspace: Workspace) -> None:
    """What a recording keeps of a configuration is plain JSON and gives the same configuration
    back, without the workspace.
    """
    catalogue = workspace.load()
    snapshot = json.loads(json.dumps(catalogue.output("sketch").snapshot()))
    again = OutputConfig.restore(snapshot)

    assert snapshot == again.snapshot() and "$schema" not in snapshot
    assert (
        catalogue.interception("dada").steps
        == InterceptionPipeline.restore(catalogue.interception("dada").snapshot()).steps
    )


def test_words_are_german_or_english(workspace: Workspace) -> None:
    """Every language but German is answered in English."""
    title = workspace.load().output("sketch").title

    assert [title.in_(language) for language in ("de", "en", "tr")] == ["Wörter", "Words", "Words"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_json_value_crashes_the_catalogue(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    """Whatever a file or a field of it holds, loading ends with faults that can be printed."""
    workspace = Workspace(tmp_path_factory.mktemp("any"))
    workspace.put(DADA, json.dumps(value).encode("utf-8", "surrogatepass"))
    raw = workspace.get(SKETCH)
    raw["parameters"]["width"]["default"] = value
    raw["kind"] = value
    workspace.put(SKETCH, raw)
    catalogue = workspace.load()

    assert {DADA, SKETCH} == {fault.file for fault in catalogue.faults}
    assert all(str(fault).startswith(fault.file) for fault in catalogue.faults)


def test_the_shipped_files_are_sound() -> None:
    """Every pipeline and output of the repository is usable."""
    catalogue = load_catalogue(ROOT)

    assert catalogue.faults == ()
    assert {
        "sketch",
        "sketch_fusion",
        "sketch_inpaint",
        "sketch_control",
        "sketch_video",
        "sketch_sound",
    } <= set(catalogue.outputs)
    assert catalogue.required_images(catalogue.output("sketch_control")) == ("control",)
    assert catalogue.required_images(catalogue.output("sketch_inpaint")) == ("image", "mask")
    assert all(
        parameter.title
        for output in catalogue.outputs.values()
        for parameter in output.parameters.values()
    )


@pytest.mark.parametrize("file", OWN_FILES)
def test_the_shipped_files_validate_against_the_schema_they_name(file: str) -> None:
    """An editor that follows `$schema` finds the file, and finds no fault; and it does find a wrong
    key.
    """
    raw = json.loads((ROOT / file).read_bytes())
    schema = json.loads(((ROOT / file).parent / raw["$schema"]).read_bytes())
    validator = jsonschema.Draft202012Validator(schema)

    validator.check_schema(schema)
    assert list(validator.iter_errors(raw)) == []
    spoilt = copy.deepcopy(raw)
    spoilt["title"]["fr"] = "Titre"
    assert not validator.is_valid(spoilt)


NOT_OURS: dict[str, tuple[object, str]] = {
    "a key of a later version": ({"mood": "blue"}, "output: unknown key 'mood'."),
    "a key deep inside": (
        {"parameters": {"width": {"type": "integer", "mood": 1}}},
        "output.parameters.width: unknown key 'mood', and 2 more.",
    ),
    "a value of a later version": (
        {"medium": "scent"},
        'output.medium: cannot be "scent"; Allowed: image, sound, video.',
    ),
    "no config": (None, "output: is missing."),
    "a list": ([1], "output: must be an object, not [1]."),
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_snapshot_that_this_version_cannot_read_is_one_usage_error(
    name: str, workspace: Workspace
) -> None:
    """One line, with the run, the place, and what to do."""
    change, message = NOT_OURS[name]
    snapshot = workspace.load().output("sketch").snapshot()
    recorded = snapshot | change if isinstance(change, dict) else change
    with pytest.raises(UsageError) as caught:
        OutputConfig.restore(recorded, run_id="20261122-141503-k3v9x2ma", name="output")
    assert str(caught.value) == (
        "Run 20261122-141503-k3v9x2ma was made with a config that this version cannot read:"
        f" {message} It can be looked at, but not made again: use the version that recorded it."
    )


def test_a_snapshot_without_a_run_is_refused_in_one_line(workspace: Workspace) -> None:
    """Where nobody says which run it is of."""
    with pytest.raises(UsageError, match=r"^A run was made .*: \$: unknown key 'mood'\. It can"):
        InterceptionPipeline.restore(
            workspace.load().interception("dada").snapshot() | {"mood": "blue"}
        )


def test_the_committed_schemas_are_those_of_the_models() -> None:
    """Mend with `python -m devpipe.cli.schemas`."""
    committed = {
        path.name: json.loads(path.read_bytes())
        for path in (ROOT / "schemas").glob("*.schema.json")
    }

    assert schemas() == committed
