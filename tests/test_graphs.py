"""Graphs: where our values go in them, what is sent, what a server would not take."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engines import REPOSITORY, engine_in, small_media

from devpipe.backends.base import Backend, Health
from devpipe.backends.registry import Backends
from devpipe.cli import main
from devpipe.cli.new_workspace import create
from devpipe.comfyui import doctor
from devpipe.comfyui.checker import filled, problems
from devpipe.comfyui.doctor import saved_info, trial, unready
from devpipe.config.catalogue import load_catalogue
from devpipe.config.models import OutputConfig
from devpipe.config.settings import Settings
from devpipe.config.workflow import shape_fault
from devpipe.errors import DevpipeError, Rejected, Unavailable, UsageError
from devpipe.record.events import AttemptStarted, RunStarted
from devpipe.testing import ScriptedBackend
from devpipe.values import Binding, MediaRequest, MediaResult, Workflow

CATALOGUE = load_catalogue(REPOSITORY)
OUTPUTS = [name for name, output in sorted(CATALOGUE.outputs.items()) if output.graph]
INFO: dict[str, Any] = json.loads((REPOSITORY / "tests/graphs/object_info.json").read_bytes())
FUSION: dict[str, Any] = json.loads((REPOSITORY / "tests/graphs/fusion_nodes.json").read_bytes())
Nodes = dict[str, Any]


def graph(name: str = "sd35_large") -> Nodes:
    return copy.deepcopy(dict(CATALOGUE.outputs[name].nodes))


def test_all_promised_graphs_are_there() -> None:
    """Pictures, fusions, films and sounds."""
    assert set(OUTPUTS) == {
        "sd35_large", "sd35_large_turbo", "flux1_dev", "flux1_schnell", "vector_fusion", "vector_fusion_encoders",
        "vector_fusion_extrapolation", "sd35_inpaint",
        "sd35_controlnet_canny", "sd35_controlnet_depth", "sd35_img2img", "sdxl", "ltx_video", "wan_video", "wan_video_image",
        "stable_audio", "ace_step",
    }  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_server_takes_each_graph(name: str) -> None:
    """With the files that the config names it has nothing against the graph; all of them have a
    folder and a source.
    """
    output = CATALOGUE.outputs[name]
    assert problems(trial(CATALOGUE, output), INFO | FUSION) == []
    loaded = {
        value
        for node in output.nodes.values()
        for value in node["inputs"].values()
        if str(value).endswith(".safetensors")
    }
    assert {one.file for one in output.models} == loaded and all(
        one.folder and one.from_ for one in output.models
    )


async def test_all_values_that_parameters_may_have_are_taken_by_their_nodes() -> None:
    """A limit beyond that of the node would fail in the middle of a run; outputs without a graph
    are not looked at.
    """
    backends = Backends(Settings.load(REPOSITORY, environ={}))
    healths = dict.fromkeys(backends.names(), Health(ready=True))
    assert await unready(CATALOGUE, backends, healths, INFO | FUSION) == {}
    narrow = copy.deepcopy(INFO)
    narrow["EmptySD3LatentImage"]["input"]["required"]["width"][1]["max"] = 1536
    found = await unready(CATALOGUE, backends, healths, narrow)
    (told,) = [one for one in found["sd35_large"] if "width" in one]
    assert (
        "the parameter width may be 2048, but width of node 6 must be 16..1536, not 2048." in told
    )
    assert "output_configs/sd35_large.json" in told
    assert "sketch" not in found and "sdxl" not in found


async def test_outputs_of_a_backend_that_is_not_there_are_not_ready() -> None:
    """They are no faults: everybody begins without a server."""
    backends = Backends(Settings.load(REPOSITORY, environ={}))
    healths = {name: Health(ready=name == "procedural") for name in backends.names()}
    found = await unready(CATALOGUE, backends, healths)
    assert sorted(found) == OUTPUTS and found["sdxl"] == ["backend comfyui is not ready."]


class Server(Backend):
    """Says what it has, and refuses what it is told to."""

    def __init__(
        self, said: list[str] | DevpipeError, info: Nodes | DevpipeError = INFO | FUSION
    ) -> None:
        super().__init__(Settings.load(REPOSITORY, environ={}))
        self.said, self.info = said, info
        self.asked: list[Nodes] = []
        self.busy = 0

    async def object_info(self) -> Nodes:
        if isinstance(self.info, DevpipeError):
            raise self.info
        return self.info

    async def dry_run(self, graph: Nodes) -> list[str]:
        assert not self.busy
        self.busy += 1
        await asyncio.sleep(0)
        self.busy -= 1
        self.asked.append(graph)
        if isinstance(self.said, DevpipeError):
            raise self.said
        return self.said


async def looked_at(server: Server) -> dict[str, Any]:
    backends = Backends(server.settings, {"comfyui": server})
    return dict(
        await unready(CATALOGUE, backends, dict.fromkeys(backends.names(), Health(ready=True)))
    )


async def test_what_only_the_server_can_say_is_told() -> None:
    """Its own check comes where ours finds nothing; pictures that come with a run are stood
    in for.
    """
    server = Server(["node 9 (Save): no space left"])
    found = await looked_at(server)
    assert sorted(found) == OUTPUTS and found["sdxl"] == ["node 9 (Save): no space left"]
    assert not [
        node
        for graph in server.asked
        for node in graph.values()
        if node["class_type"].startswith("LoadImage")
    ]
    assert await looked_at(Server([])) == {}


async def test_a_server_is_asked_about_one_graph_after_another() -> None:
    """Many at once would share the patience meant for each."""
    server = Server([])
    assert await looked_at(server) == {} and len(server.asked) == len(OUTPUTS) and not server.busy


async def test_absent_custom_nodes_leave_the_other_outputs_usable() -> None:
    """The one that needs them says what to install."""
    found = await looked_at(Server([], INFO))
    assert list(found) == ["vector_fusion_extrapolation"]
    assert (
        "no node class 'ai4artsed_conditioning_fusion'" in found["vector_fusion_extrapolation"][0]
    )
    assert "github.com/joeriben/ai4artsed_comfyui_nodes" in found["vector_fusion_extrapolation"][0]


def sentineled(graph: Nodes) -> Nodes:
    """A graph as a dry run sends it, to a server that knows viewers besides."""
    viewer = {"output": ["STRING"], "output_node": True}
    more = {
        "PreviewAny": {**viewer, "input": {"required": {"source": ["*", {}]}}},
        "MaskPreview": {**viewer, "input": {"required": {"mask": ["MASK", {}]}}},
        "MaskToImage": {"input": {"required": {"mask": ["MASK", {}]}}, "output": ["IMAGE"]},
        "SolidMask": {"input": {"required": {}}, "output": ["MASK"]},
        "Blind": {**viewer, "input": {"required": {"rows": ["COMFY_AUTOGROW_V3", {}]}}},
    }
    return doctor.sentinels(graph, INFO | more)


NO = doctor.SENTINEL
EMPTY = {"class_type": "EmptyImage", "inputs": {}}
STRING = {"class_type": "PrimitiveString", "inputs": {"value": "x"}}


def test_every_output_of_a_dry_run_is_one_that_the_server_refuses() -> None:
    """Its file name is no text; where it has none, what it would have shown goes to a saver beside
    it, which has one.
    """
    saved = sentineled(
        {
            "8": EMPTY,
            "9": {
                "class_type": "SaveImage",
                "inputs": {"images": ["8", 0], "filename_prefix": "x"},
            },
        }
    )
    assert saved == {
        "8": EMPTY,
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": NO}},
    }
    shown = sentineled(
        {"8": EMPTY, "9": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}}
    )
    assert shown["9"]["inputs"] == {"images": NO}
    assert (shown["9, images"]["class_type"], shown["9, images"]["inputs"]) == (
        "SaveImage",
        {"images": ["8", 0], "filename_prefix": NO},
    )


def test_a_text_and_a_mask_that_are_only_shown_are_checked_too() -> None:
    """A text goes where a file's name would stand; a mask is made a picture first."""
    text = sentineled(
        {"8": STRING, "9": {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}}}
    )
    assert text["9, source"]["inputs"] == {"images": NO, "filename_prefix": ["8", 0]} and text["9"][
        "inputs"
    ] == {"source": NO}
    mask = sentineled(
        {
            "8": {"class_type": "SolidMask", "inputs": {}},
            "9": {"class_type": "MaskPreview", "inputs": {"mask": ["8", 0]}},
        }
    )
    assert mask["9, mask"]["inputs"] == {"mask": ["8", 0]}
    assert mask["9, mask as a picture"]["inputs"] == {
        "images": ["9, mask", 0],
        "filename_prefix": NO,
    }


def test_an_output_that_others_need_stays_in_a_dry_run() -> None:
    """Without it they would be said to want what is there; one that the server could not refuse
    goes, with all that hangs on it.
    """
    nodes = {
        "8": STRING,
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}},
        "6": {**STRING, "inputs": {"value": ["7", 0]}},
    }
    assert sentineled(nodes)["6"]["inputs"] == {"value": ["7", 0]} and sentineled(nodes)["7"][
        "inputs"
    ] == {"source": NO}
    assert sentineled({**nodes, "7": {"class_type": "Blind", "inputs": {"rows.0": ["8", 0]}}}) == {
        "8": STRING
    }


async def test_a_server_that_does_not_answer_is_not_trusted() -> None:
    """Its silence is told, and not waited for again; without a word about its nodes nothing can be
    said of graphs.
    """
    silent = Server(Unavailable("gone"))
    found = await looked_at(silent)
    assert "did not say" in found["sdxl"][0] and sorted(found) == OUTPUTS and len(silent.asked) == 1
    assert "did not say" in (await looked_at(Server([], Unavailable("gone"))))["sdxl"][0]


# What our values become.


def request(name: str, **texts: str) -> tuple[Workflow, MediaRequest]:
    output = CATALOGUE.outputs[name]
    workflow = output.workflow()
    assert workflow is not None
    return workflow, MediaRequest("image", texts, seed=7, parameters=output.resolve({}))


def test_values_go_where_they_are_bound() -> None:
    """One text into two encoders, one width into three nodes, all else as it was exported."""
    workflow, asked = request("sdxl", prompt="a cat")
    sent = filled(workflow, asked, images={}, prefix="run")
    text = next(
        node["inputs"] for node in sent.values() if node["class_type"] == "CLIPTextEncodeSDXL"
    )
    assert (
        text["text_g"] == text["text_l"] == "a cat"
        and text["width"] == text["target_width"] == 1024
    )
    assert (
        next(node["inputs"]["seed"] for node in sent.values() if node["class_type"] == "KSampler")
        == 7
    )
    assert workflow.nodes == graph("sdxl"), "the graph itself stays as it is"


def test_fusion_says_how_near_each_text_is() -> None:
    """alpha 0 is the first text: it stands where the strength does not count."""
    workflow, asked = request("vector_fusion", prompt="a cat", prompt_2="a bridge")
    sent = filled(workflow, asked, images={}, prefix="run")
    average = next(
        node["inputs"] for node in sent.values() if node["class_type"] == "ConditioningAverage"
    )
    assert (
        sent[average["conditioning_from"][0]]["inputs"]["text"] == "a cat"
        and average["conditioning_to_strength"] == 0.5
    )
    assert sent[average["conditioning_to"][0]]["inputs"]["text"] == "a bridge"


def test_every_output_node_has_a_prefix_of_its_own() -> None:
    """Also where the graph's own prefix is a link, or a node's number is no file name."""
    nodes = {
        "1": {"class_type": "SaveImage", "inputs": {"filename_prefix": ["9", 0]}},
        "4:2": {"class_type": "SaveImage", "inputs": {}},
    }
    nodes["4:2"]["inputs"] = {"filename_prefix": "x"}
    sent = filled(Workflow(nodes, {}), MediaRequest("image", {}), images={}, prefix="devpipe/id")
    assert [node["inputs"]["filename_prefix"] for node in sent.values()] == [
        "devpipe/id_1",
        "devpipe/id_4-2",
    ]


@pytest.mark.parametrize(
    ("bindings", "asked", "named"),
    [
        ({}, MediaRequest("image", {"prompt": "a cat"}), "'prompt'"),
        ({}, MediaRequest("image", {}, parameters={"steps": 3}), "'steps'"),
        ({"image": (Binding("1", "image"),)}, MediaRequest("image", {}), "needs 'image'"),
        (
            {"prompt": (Binding("2", "text"),)},
            MediaRequest("image", {"prompt": "a"}),
            "'text' of a node '2'",
        ),
    ],
)
def test_what_cannot_be_bound_is_refused(
    bindings: dict[str, tuple[Binding, ...]], asked: MediaRequest, named: str
) -> None:
    """No word of a request is dropped in silence."""
    with pytest.raises(Rejected, match=named):
        filled(
            Workflow({"1": {"class_type": "LoadImage", "inputs": {"image": "x"}}}, bindings),
            asked,
            images={},
            prefix="run",
        )


# Faults of config files.


def planted(
    home: Path,
    spoil: Callable[[dict[str, Any]], object],
    nodes: Callable[[Nodes], object] = lambda nodes: None,
) -> dict[str, str]:
    """The faults of a workspace whose sd35_large was spoilt, by JSON path."""
    config = json.loads((home / "output_configs/sd35_large.json").read_bytes())
    spoil(config)
    (home / "output_configs/sd35_large.json").write_text(json.dumps(config))
    own = graph()
    nodes(own)
    (home / "output_configs/graphs/sd35_large.json").write_text(json.dumps(own))
    catalogue = load_catalogue(home)
    assert "sd35_large" not in catalogue.outputs and "sdxl" in catalogue.outputs
    return {
        fault.path: fault.message
        for fault in catalogue.faults
        if fault.file == "output_configs/sd35_large.json"
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return create(tmp_path / "workspace")


@pytest.mark.parametrize(
    ("spoil", "path", "named"),
    [
        (
            lambda c: c["bindings"]["seed"][0].update(node="88"),
            "$.bindings.seed[0].node",
            "did you mean '7'? Allowed: 1 (Model)",
        ),
        (
            lambda c: c["bindings"]["steps"][0].update(input="step"),
            "$.bindings.steps[0].input",
            "did you mean 'steps'?",
        ),
        (
            lambda c: c["bindings"]["prompt"][0].update(title="Txt"),
            "$.bindings.prompt[0].title",
            "is 'Text', not 'Txt'",
        ),
        (
            lambda c: c["bindings"].update(cfg=[{"node": "1", "input": "ckpt_name"}]),
            "$.bindings.cfg",
            "no text, picture or parameter",
        ),
        (
            lambda c: c["bindings"].pop("width"),
            "$.parameters.width",
            "Bind it to an input of the graph, or delete it.",
        ),
        (
            lambda c: c["bindings"].pop("prompt"),
            "$.bindings.prompt",
            "Bind it to an input of the graph.",
        ),
        (
            lambda c: c["parameters"].pop("width"),
            "$.bindings.width",
            "declare it under parameters, or delete the binding",
        ),
        (lambda c: c["bindings"].pop("seed"), "$.bindings.seed", "Bind it to 'seed' of node '7'"),
        (
            lambda c: c["bindings"]["prompt"][0].update(input="clip"),
            "$.bindings.prompt[0].input",
            "comes from node '2'",
        ),
        (
            lambda c: c["bindings"]["prompt"][0].update(node="7", input="steps", title=""),
            "$.bindings.prompt[0].input",
            "integer values",
        ),
        (
            lambda c: c["bindings"]["height"][0].update(input="width"),
            "$.bindings.height[0]",
            "takes 'width' already",
        ),
        (lambda c: c.update(nodes={"1": {}}), "$.nodes", "a file of its own"),
        (lambda c: c.update(graph=""), "$.bindings", "name one as `graph`"),
        (lambda c: [c.pop("graph"), c.pop("bindings")], "$.graph", "ComfyUI runs graphs"),
    ],
)
def test_a_wrong_binding_is_named(
    home: Path, spoil: Callable[[dict[str, Any]], object], path: str, named: str
) -> None:
    """With the place in the file and the nearest right name; the other outputs stay usable."""
    assert named in planted(home, spoil)[path]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"nodes": [], "links": [], "version": 0.4}', "Export (API)"),
        ('{"1": {"class_type": "A"}}', "no node with class_type and inputs"),
        ('{"1": {"class_type": "A", "inputs": {"x": NaN}}}', "NaN"),
        ('{"1": {"class_type": "A", "inputs": {"x": "\\ud800"}}}', "half a character"),
        ("{}", "no nodes"),
    ],
)
def test_a_file_that_is_no_graph_says_how_to_get_one(home: Path, content: str, named: str) -> None:
    """Above all an export in the UI format, which looks like one."""
    (home / "output_configs/graphs/sdxl.json").write_text(content)
    (fault,) = load_catalogue(home).faults
    assert (fault.file, fault.path) == (
        "output_configs/sdxl.json",
        "$.graph",
    ) and named in fault.message


# Faults that a server would find, or overlook.


def node_of(nodes: Nodes, kind: str) -> dict[str, Any]:
    return next(node["inputs"] for node in nodes.values() if node["class_type"] == kind)


PLANTED: list[
    tuple[str, str, str, object, list[str]]
] = [  # the wire's sixteen, then what no server says
    (
        "sd35_large",
        "CheckpointLoaderSimple",
        "ckpt_name",
        "sd3.5_larg.safetensors",
        ["models/checkpoints/", "Nearest there: sd3.5_large"],
    ),
    (
        "sd35_large",
        "TripleCLIPLoader",
        "clip_name3",
        "t5.safetensors",
        ["'t5.safetensors' is missing", "models/text_encoders/"],
    ),
    (
        "vector_fusion_encoders",
        "CLIPTextEncodeSD3",
        "empty_padding",
        "maybe",
        ["Allowed: none, empty_prompt"],
    ),
    ("sd35_large", "EmptySD3LatentImage", "width", 1001, ["a multiple of 16 more, not 1001"]),
    ("sd35_large", "EmptySD3LatentImage", "width", 20000, ["16..16384, not 20000"]),
    (
        "vector_fusion",
        "ConditioningAverage",
        "conditioning_to_strength",
        1.5,
        ["0.0..1.0, not 1.5"],
    ),
    (
        "vector_fusion",
        "ConditioningAverage",
        "conditioning_to_strength",
        -0.5,
        ["0.0..1.0, not -0.5"],
    ),
    (
        "vector_fusion",
        "ConditioningAverage",
        "conditioning_to_strength",
        1.0000001,
        ["not 1.0000001"],
    ),
    (
        "vector_fusion",
        "ConditioningAverage",
        "conditioning_to_strength",
        "nan",
        ["must be a number, not 'nan'"],
    ),
    ("flux1_dev", "FluxGuidance", "guidance", 200, ["0.0..100.0, not 200"]),
    ("flux1_dev", "DualCLIPLoader", "type", "fluxx", ["did you mean 'flux'?"]),
    (
        "flux1_dev",
        "VAELoader",
        "vae_name",
        "aee.safetensors",
        ["models/vae/, from black-forest-labs/FLUX.1-dev", "Nearest there: ae"],
    ),
    ("flux1_dev", "KSampler", "sampler_name", "eulr", ["did you mean 'euler'?"]),
    ("wan_video", "EmptyHunyuanLatentVideo", "length", None, ["is missing", "INT"]),
    ("sd35_large", "KSampler", "seed", 2**64, ["0..18446744073709551615"]),
    (
        "sd35_large",
        "VAEDecode",
        "vae",
        ["1", 1],
        ["needs VAE, but slot 1 of node '1' (Model) is CLIP", "Slot 2"],
    ),
    ("sd35_large", "KSampler", "steps", 28.5, ["a whole number, not 28.5"]),
    ("sd35_large", "KSampler", "model", "sd3.5", ["needs a link to a MODEL"]),
    (
        "sd35_large",
        "KSampler",
        "stepz",
        3,
        ["is no input of KSampler", "did you mean 'steps'?"],
    ),
    ("sd35_large", "KSampler", "model", ["77", 0], ["node '77', which is not in the graph"]),
    (
        "sd35_large",
        "KSampler",
        "modell",
        ["1", 0],
        ["is no input of KSampler", "it may be passed on or fail"],
    ),
    ("sd35_large", "KSampler", "steps", 10**400, ["1..10000, not 1000"]),
    ("sd35_large", "KSampler", "model", ["1", 5], ["slot 5", "0 (MODEL), 1 (CLIP), 2 (VAE)"]),
    ("sd35_large", "KSampler", "model", ["1", 0, 0], ["is a list, and no link"]),
    ("ltx_video", "SamplerCustom", "add_noise", "false", ["true or false, not 'false'"]),
    ("sd35_large", "CLIPTextEncode", "text", {"a": 1}, ["must be a text"]),
]


@pytest.mark.parametrize(("name", "kind", "field", "value", "named"), PLANTED)
def test_a_planted_fault_is_found(
    name: str, kind: str, field: str, value: object, named: list[str]
) -> None:
    """One finding: which node by its title, which input, what is wrong, what is allowed.

    None stands for an input left out.
    """
    nodes = graph(name)
    (
        node_of(nodes, kind).update({field: value})
        if value is not None
        else node_of(nodes, kind).pop(field)
    )
    sources = {"aee.safetensors": "black-forest-labs/FLUX.1-dev"}
    (found,) = problems(nodes, INFO, sources=sources)
    title = next(node["_meta"]["title"] for node in nodes.values() if node["class_type"] == kind)
    assert (found.title, found.input) == (title, field) and all(
        one in str(found) for one in named
    ), str(found)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [("KSampler", "seed", 2**64 - 1), ("CLIPTextEncode", "text", 5), ("KSampler", "steps", "20")],
)
def test_what_servers_take_is_no_fault(kind: str, field: str, value: object) -> None:
    """The largest seed, a number for a text, a number as a text."""
    nodes = graph()
    node_of(nodes, kind)[field] = value
    assert problems(nodes, INFO) == []


def test_faults_of_the_graph_as_a_whole() -> None:
    """A class that is not there, a circle, no output, and a fault in a node that nothing uses."""
    nodes = graph()
    nodes["20"] = {
        "class_type": "ImageScale",
        "inputs": {
            "image": ["21", 0],
            "upscale_method": "magic",
            "width": 8,
            "height": 8,
            "crop": "center",
        },
    }
    nodes["21"] = {"class_type": "ImageInvert", "inputs": {"image": ["20", 0]}}
    nodes["22"] = {"class_type": "KSamplr", "inputs": {}}
    said = "\n".join(map(str, problems(nodes, INFO)))
    assert (
        "node 20 (ImageScale), upscale_method: cannot be 'magic'" in said
        and "the nodes 20, 21 wait for each other" in said
    )
    assert "no node class 'KSamplr'" in said and "Or is 'KSampler' meant?" in said
    del nodes["9"], nodes["22"]
    assert "no node writes or shows anything" in "\n".join(map(str, problems(nodes, INFO)))


@pytest.mark.loopback
def test_check_works_from_a_saved_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No server is asked; what is missing stands with its folder and where it comes from, and is no
    fault.
    """
    info = copy.deepcopy(INFO)
    info["UNETLoader"]["input"]["required"]["unet_name"][0].remove("flux1-schnell.safetensors")
    (home / "info.json").write_text(json.dumps(info))
    assert (
        main(["check", "--json", "--home", str(home), "--object-info", str(home / "info.json")])
        == 0
    )
    (reason,) = json.loads(capsys.readouterr().out)["unready"]["flux1_schnell"]
    assert "put it into models/diffusion_models/, from black-forest-labs/FLUX.1-schnell" in reason
    assert main(["check", "--home", str(home), "--object-info", str(home / "devpipe.toml")]) == 2


# Recordings.


async def test_a_run_holds_its_graph_and_the_id_of_its_job(tmp_path: Path, home: Path) -> None:
    """The id is on disk before anything is sent; the graph is replayed as it was, whatever its file
    says today.
    """
    seen: list[MediaRequest] = []

    def make(asked: object) -> MediaResult:
        assert isinstance(asked, MediaRequest)
        seen.append(asked)
        return MediaResult((small_media(),))

    engine = engine_in(tmp_path / "recordings", backends={"comfyui": ScriptedBackend([make])})
    run = await engine.run("a red cat", output="sd35_large", seed=7, text_seed=7)
    started = next(one.event for one in run.events if isinstance(one.event, RunStarted))
    attempt = [one.event for one in run.events if isinstance(one.event, AttemptStarted)][-1]
    assert (
        started.config["output"]["nodes"] == graph()
        and OutputConfig.restore(started.config["output"]).workflow() == seen[0].workflow
    )
    assert str(uuid.UUID(attempt.request_id)) == attempt.request_id == seen[0].request_id
    assert attempt.request["workflow"]["nodes"] == graph() and attempt.sha256 == seen[0].sha256()
    assert (
        (await engine.replay(run.id)).equal
        and seen[1].workflow == seen[0].workflow
        and seen[1].request_id != seen[0].request_id
    )
    engine.close()


def test_the_verdict_covers_the_graph() -> None:
    """Another graph, or another binding, is another request; another id is not."""
    workflow, asked = request("sd35_large", prompt="a cat")
    with_graph = MediaRequest("image", asked.texts, workflow=workflow)
    bindings = {**workflow.bindings, "prompt": workflow.bindings["seed"]}
    others = [
        MediaRequest("image", asked.texts),
        MediaRequest("image", asked.texts, workflow=Workflow(workflow.nodes, bindings)),
    ]
    assert all(other.sha256() != with_graph.sha256() for other in others)
    assert (
        MediaRequest("image", asked.texts, workflow=workflow, request_id="x").sha256()
        == with_graph.sha256()
    )


def test_outputs_without_a_graph_are_recorded_as_before() -> None:
    """Their snapshots have no empty keys: those of older recordings stay equal."""
    assert not {"nodes", "bindings", "models"} & set(CATALOGUE.outputs["sketch"].snapshot())
    assert "workflow" not in MediaRequest("image", {}).described() and shape_fault(graph()) == ""


def test_a_graph_takes_exactly_its_pictures(tmp_path: Path) -> None:
    """A mask for an output that has no use for it is refused before anything starts."""
    engine = engine_in(tmp_path)
    sketch = engine.catalogue.output("sketch_control")
    for pictures, problem in (
        ({}, "needs a picture as image"),
        ({"image": b"", "mask": b""}, "takes no mask. Leave it out. It takes: image."),
    ):
        with pytest.raises(UsageError, match=problem):
            engine.start("a cat", pipeline="dada", output="sd35_img2img", **pictures)
    assert "mask" in engine.catalogue.media_pipeline(sketch.pipeline).optional_images
    engine.close()


def test_a_node_that_asks_for_more_since_then_gets_it_and_older_servers_ignore_it() -> None:
    """ImageScaleToTotalPixels: resolution_steps; every server so far takes the graph."""
    newer = copy.deepcopy(INFO)
    newer["ImageScaleToTotalPixels"]["input"]["required"]["resolution_steps"] = [
        "INT",
        {"default": 1, "min": 1, "max": 256},
    ]
    graph = trial(CATALOGUE, CATALOGUE.outputs["sd35_img2img"])
    assert problems(graph, INFO) == problems(graph, newer) == []


def test_an_object_info_with_a_note_of_whose_it_is_is_read(tmp_path: Path) -> None:
    """And anything else is refused with how to save one."""
    path = tmp_path / "info.json"
    path.write_text(json.dumps({"server": "ComfyUI", "nodes_on_server": 383, "object_info": INFO}))
    assert saved_info(str(path)) == INFO
    for other in ("{}", "[1]", "no json", json.dumps({"object_info": {"KSampler": {}}})):
        path.write_text(other)
        with pytest.raises(UsageError, match="is no object_info"):
            saved_info(str(path))


def test_a_picture_that_only_the_server_could_have_is_told_in_plain_words() -> None:
    """It belongs in input/, not in a list of choices."""
    info = copy.deepcopy(INFO)
    info["LoadImage"]["input"]["required"]["image"] = [["other.png"], {"image_upload": True}]
    (found,) = [one for one in problems(graph("sd35_img2img"), info) if one.input == "image"]
    assert "is not in the server's folder input/" in found.message


def test_custom_nodes_may_take_more_than_they_declare() -> None:
    """Any number of links, and rows that their page makes."""
    info = INFO | {
        "Any Switch": {
            "input": {"optional": {}},
            "output": ["*"],
            "python_module": "custom_nodes.some",
        }
    }
    nodes = graph()
    nodes["20"] = {
        "class_type": "Any Switch",
        "inputs": {"any_01": node_of(nodes, "KSampler")["model"], "row_1": {"on": True}},
    }
    node_of(nodes, "KSampler")["model"] = ["20", 0]
    assert problems(nodes, info) == []


@pytest.mark.parametrize(
    "told",
    [
        {
            "input": {"required": {"a": ["INT", {"min": "0", "max": "10", "step": "8"}]}},
            "output": None,
        },
        {"input": {"required": {"a": []}}, "output": {}},
        {"input": {"required": None, "optional": {"a": [["x", 3], None]}}},
        {
            "input": {"required": None, "optional": None, "hidden": None},
            "python_module": "custom_nodes.odd",
        },
        {"input": None, "python_module": None},
        None,
    ],
)
def test_what_a_node_says_of_itself_may_have_any_shape(told: object) -> None:
    """Anybody writes custom nodes; what is no limit does not limit."""
    nodes = graph()
    nodes["20"] = {"class_type": "Odd", "inputs": {"a": 3}}
    nodes["21"] = {"class_type": "Odd", "inputs": {"a": ["20", 0]}}
    assert all(one.node in ("20", "21") for one in problems(nodes, INFO | {"Odd": told}))


async def test_one_graph_that_cannot_be_checked_does_not_hide_the_others(home: Path) -> None:
    """Whatever goes wrong in it is told of it alone."""

    class Broken(dict[str, Any]):
        def get(self, key: str, default: object = None) -> Any:
            if key == "StableAudioConditioning" or key == "EmptyLatentAudio":
                raise RuntimeError("broken")
            return super().get(key, default)

    backends = Backends(Settings.load(REPOSITORY, environ={}))
    found = await unready(
        CATALOGUE,
        backends,
        dict.fromkeys(backends.names(), Health(ready=True)),
        Broken(INFO | FUSION),
    )
    assert (
        "stable_audio" in found
        and "RuntimeError: broken" in found["stable_audio"][0]
        and "sd35_large" not in found
    )


def test_a_picture_whose_transparency_is_the_mask_is_stood_in_for_twice() -> None:
    """Each slot of its loader has something of its own kind in a dry run."""
    output = CATALOGUE.outputs["sd35_img2img"]
    (loader,) = [
        number for number, node in output.nodes.items() if node["class_type"] == "LoadImage"
    ]
    grown = {
        "class_type": "GrowMask",
        "inputs": {"mask": [loader, 1], "expand": 1, "tapered_corners": True},
    }
    sent = trial(CATALOGUE, output.model_copy(update={"nodes": {**output.nodes, "30": grown}}))
    new, slot = sent["30"]["inputs"]["mask"]
    assert (sent[loader]["class_type"], sent[new]["class_type"], slot) == (
        "EmptyImage",
        "SolidMask",
        0,
    )


@pytest.mark.loopback
def test_a_model_file_that_no_node_names_is_a_warning(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output can be used all the same: a custom node may load it without naming it."""
    path = home / "output_configs/sdxl.json"
    config = json.loads(path.read_bytes())
    config["models"].append({"file": "old.safetensors", "folder": "vae"})
    path.write_text(json.dumps(config))
    assert (
        main(
            [
                "check",
                "--json",
                "--home",
                str(home),
                "--object-info",
                str(REPOSITORY / "tests/graphs/object_info.json"),
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    (warning,) = [one for one in told["warnings"] if "models" in one]
    assert (
        "output_configs/sdxl.json" in warning
        and "old.safetensors" in warning
        and "sdxl" not in told["unready"]
    )
