"""Graphs that somebody brings: what is found in them, and the output configs they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engines import REPOSITORY
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from devpipe.adopt import Adoption, adopt, read
from devpipe.cli import graphs as shell
from devpipe.cli import main
from devpipe.config import load_catalogue
from devpipe.errors import UsageError
from devpipe.graphs import problems
from devpipe.workspace import create

INFO: dict[str, Any] = json.loads((REPOSITORY / "tests/graphs/object_info.json").read_bytes())
WILD = REPOSITORY / "tests/graphs/wild"
CATALOGUE = load_catalogue(REPOSITORY)
OUTPUTS = [name for name, output in sorted(CATALOGUE.outputs.items()) if output.graph]


def found(adoption: Adoption) -> dict[str, str]:
    """Where each value goes: "node.input node.input"."""
    return {one.name: " ".join(f"{node}.{name}" for node, name in one.best) for one in adoption.guesses}


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "vector_fusion_encoders"])
def test_our_own_graphs_are_read_as_we_bound_them(name: str) -> None:
    """Texts, seed, pictures and numbers; of two texts that are blended, one is a guess and the other is offered."""
    output = CATALOGUE.outputs[name]
    adopted, bound = adopt(output.nodes, INFO), {key: {(one.node, one.input) for one in some} for key, some in output.bindings.items()}
    guessed = {one.name: set(one.best) for one in adopted.guesses}
    if name == "vector_fusion":
        guess = adopted.guesses[0]
        assert {guess.best, *guess.others} == {tuple(bound[one]) for one in ("prompt", "prompt_2")}
        return
    same = {"prompt", "prompt_2", "negative_prompt", "seed", "image", "mask", "control", "steps", "guidance_scale", "frames"} & set(bound)
    if name == "sdxl":
        bound["width"] = {one for one in bound["width"] if one[0] == "4"}
    assert {key: guessed[key] for key in same} == {key: bound[key] for key in same} and adopted.medium == output.medium


# Found in public repositories: see tests/graphs/wild/README.md. Prompt, negative and seed as a person finds them.
FOUND: dict[str, dict[str, str]] = {
    "flux_txt2img": {"prompt": "6.text", "negative_prompt": "33.text", "seed": "31.seed"},
    "sd15_inpainting": {"prompt": "6.text", "negative_prompt": "7.text", "seed": "3.seed", "image": "20.image", "mask": "20_mask.image"},
    "sd15_multi_output": {"prompt": "6.text", "negative_prompt": "7.text", "seed": "3.seed 14.seed"},
    "sdxl_img2img": {
        "prompt": "16.text_g 16.text_l",
        "negative_prompt": "19.text_g 19.text_l",
        "seed": "36.seed",
        "strength": "36.denoise",
    },
    "sdxl_simple_example": {"prompt": "6.text 15.text", "negative_prompt": "7.text 16.text", "seed": "10.noise_seed 11.noise_seed"},
    "sdxlturbo_example": {"prompt": "6.text", "negative_prompt": "7.text", "seed": "13.noise_seed", "steps": "22.steps"},
    "tea_cache_patch_api": {"prompt": "6.text", "seed": "25.noise_seed", "guidance_scale": "26.guidance", "steps": "17.steps"},
    "tinyterra_BasicSDXL": {"prompt": "187.text", "negative_prompt": "188.text", "seed": "194.noise_seed 195.noise_seed 196.seed 197.seed"},
    "txt_to_image_to_video": {"prompt": "18.text", "negative_prompt": "19.text", "seed": "3.seed 17.seed", "frames": "12.video_frames"},
    "wan_21_13b_t2v_api": {"prompt": "6.text", "negative_prompt": "7.text", "seed": "3.seed", "frames": "40.length"},
    "was_clipseg_basic_api": {"prompt": "6.text 15.text", "negative_prompt": "7.text", "seed": "3.seed 10.seed"},
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_graphs_from_the_wild_are_understood(name: str, tmp_path: Path) -> None:
    """Also those made of custom nodes; each becomes an output without faults."""
    guessed = found(adopt(read(WILD / f"{name}.json"), INFO))
    assert {key: guessed.get(key) for key in FOUND[name]} == FOUND[name]
    assert ("negative_prompt" in guessed) == ("negative_prompt" in FOUND[name])
    home = create(tmp_path / "home")
    assert (
        main(["adopt", str(WILD / f"{name}.json"), "--home", str(home), "--json", "--object-info", str(WILD.parent / "object_info.json")])
        == 0
    )
    catalogue = load_catalogue(home)
    assert not catalogue.faults and name.lower() in catalogue.outputs


def chained(**changes: dict[str, Any]) -> dict[str, Any]:
    """A small graph with a custom sampler, whose seed and text come from primitives."""
    nodes: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd3.5_large.safetensors"}},
        "2": {"class_type": "PrimitiveString", "inputs": {"value": "a cat in the rain"}},
        "3": {"class_type": "StringConcatenate", "inputs": {"string_a": ["2", 0], "string_b": "4k", "delimiter": ", "}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": ["3", 0], "clip": ["1", 1]}},
        "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurred", "clip": ["1", 1]}},
        "6": {"class_type": "CFGGuider", "inputs": {"model": ["1", 0], "positive": ["4", 0], "negative": ["5", 0], "cfg": 4.5}},
        "7": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
        "8": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["7", 0]}},
        "9": {"class_type": "BasicScheduler", "inputs": {"model": ["1", 0], "scheduler": "simple", "steps": 20, "denoise": 1.0}},
        "10": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "11": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 768, "batch_size": 1}},
        "12": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"noise": ["8", 0], "guider": ["6", 0], "sampler": ["10", 0], "sigmas": ["9", 0], "latent_image": ["11", 0]},
        },
        "13": {"class_type": "VAEDecode", "inputs": {"samples": ["12", 0], "vae": ["1", 2]}},
        "14": {"class_type": "SaveImage", "inputs": {"images": ["13", 0], "filename_prefix": "x"}},
    }
    return nodes | changes


def test_values_behind_primitives_and_guiders_are_found() -> None:
    """The text's own place, not what is glued to it; the other one is offered."""
    adopted = adopt(chained(), INFO)
    assert problems(adopted.graph, INFO) == []
    assert found(adopted) == {
        "prompt": "2.value", "negative_prompt": "5.text", "seed": "7.value", "width": "11.width", "height": "11.height",
        "steps": "9.steps", "guidance_scale": "6.cfg", "count": "11.batch_size",
    }  # fmt: skip
    assert adopted.guesses[0].others == ((("3", "string_b"),),)
    other = adopted.chosen(lambda guess: guess.others[0])
    assert found(other)["prompt"] == "3.string_b" and not other.guesses[0].others


def test_parameters_keep_to_the_limits_of_their_nodes() -> None:
    """Default, range and step; a length that is one more than a multiple becomes a choice."""
    width = adopt(chained(), INFO).config("x")["parameters"]["width"]
    assert (width["default"], width["minimum"], width["maximum"], width["multiple_of"]) == (1024, 64, 2048, 16)
    frames = adopt(CATALOGUE.outputs["ltx_video"].nodes, INFO).config("x")["parameters"]["frames"]
    assert frames["default"] in frames["choices"] and all(one % 8 == 1 for one in frames["choices"])


def test_one_number_for_two_parameters_is_bound_once() -> None:
    """A primitive that is width and height would make two parameters of one."""
    square = {"class_type": "EmptySD3LatentImage", "inputs": {"width": ["20", 0], "height": ["20", 0], "batch_size": 1}}
    guessed = found(adopt(chained(**{"11": square, "20": {"class_type": "PrimitiveInt", "inputs": {"value": 512}}}), INFO))
    assert guessed["width"] == "20.value" and "height" not in guessed


def test_inputs_that_newer_servers_ask_for_are_added() -> None:
    """With the server's own default, and a word about it; links cannot be guessed."""
    loader = {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}}
    nodes = chained(**{"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}, "30": loader})
    adopted = adopt(nodes, INFO)
    assert adopted.graph["30"]["inputs"]["weight_dtype"] == "default" and "weight_dtype" not in loader["inputs"]
    assert "node 30: weight_dtype = default was added, which this server asks for." in adopted.notes
    del nodes["13"]["inputs"]["samples"]
    assert "samples" not in adopt(nodes, INFO).graph["13"]["inputs"]


def test_a_text_without_effect_is_no_negative_prompt() -> None:
    """ConditioningZeroOut makes nothing of the text that goes into it."""
    zeroed = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["4", 0]}}
    assert "negative_prompt" not in found(adopt(chained(**{"5": zeroed}), INFO))


def test_custom_nodes_and_model_files_are_named() -> None:
    """What the server lacks, what it has from others, and which files go where; without a server that is unknown."""
    custom = {"Fancy": {**INFO["VAEDecode"], "python_module": "custom_nodes.fancy-pack"}}
    nodes = chained(**{"13": {"class_type": "Fancy", "inputs": {"samples": ["12", 0], "vae": ["1", 2]}}})
    notes = " ".join(adopt(nodes, INFO | custom).notes)
    assert "Fancy (fancy-pack)" in notes and "models/checkpoints/sd3.5_large.safetensors" in notes
    assert "server lacks: Fancy" in " ".join(adopt(nodes, INFO).notes) and "--object-info" in " ".join(adopt(nodes).notes)


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_png_of_comfyui_carries_its_graph(tmp_path: Path) -> None:
    """Whole, in a text chunk; a picture from elsewhere says so."""
    text = PngInfo()
    text.add_text("prompt", json.dumps({**chained(), "4": {**chained()["4"], "is_changed": [float("nan")]}}))
    Image.new("RGB", (8, 8)).save(tmp_path / "made.png", pnginfo=text)
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    made = read(tmp_path / "made.png")
    assert made.pop("4") == {**chained().pop("4"), "is_changed": None} and made == {
        key: one for key, one in chained().items() if key != "4"
    }
    (tmp_path / "cut.png").write_bytes((tmp_path / "made.png").read_bytes()[:20])
    for name in ("cut.png", "bare.png"):
        with pytest.raises(UsageError, match="carries none"):
            read(tmp_path / name)


@pytest.mark.parametrize("wrap", [lambda graph: {"prompt": graph}, lambda graph: {"input": {"workflow": graph, "images": []}}])
def test_a_graph_inside_a_request_is_taken_out(tmp_path: Path, wrap: Any) -> None:
    """As people keep them who call a server by hand."""
    assert read(write(tmp_path / "request.json", wrap(chained()))) == chained()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}, r"UI format.*Export \(API\)"),
        ({"1": {"class_type": "SaveImage"}}, "no API export"),
        (["a"], "holds no graph"),
        ("not json", "holds no graph"),
        ("[" * 100_000, "no graph"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: object, named: str) -> None:
    """With how to export the right one."""
    with pytest.raises(UsageError, match=named):
        read(write(tmp_path / "file.json", content))


def test_a_graph_without_a_text_is_refused() -> None:
    """Every output of devpipe takes one."""
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(UsageError, match="takes no text"):
        adopt(nodes, INFO)


def test_a_mask_in_a_channel_is_read_from_its_brightness() -> None:
    """Ours are pictures without transparency, white where to change; the person is told that the graph was changed for that."""
    nodes = chained(**{
        "20": {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "alpha"}},
        "21": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["20", 0]}},
    })  # fmt: skip
    adopted = adopt(nodes, INFO)
    assert adopted.graph["20"]["inputs"]["channel"] == "red" and "white is where to change" in adopted.notes[0]
    assert adopted.config("x")["images"] == ["mask"] and nodes["20"]["inputs"]["channel"] == "alpha"


def test_the_command_writes_both_files_and_overwrites_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows its guess; a second time it asks for another name."""
    home, info = create(tmp_path / "home"), str(WILD.parent / "object_info.json")
    call = ["adopt", str(write(tmp_path / "My Graph.json", chained())), "--home", str(home), "--yes", "--object-info", info]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "prompt           value of node 2: a cat in the rain" in said and "my_graph.json" in said
    assert json.loads((home / "output_configs/graphs/my_graph.json").read_bytes()) == chained()
    assert load_catalogue(home).output("my_graph").workflow() is not None
    assert main(call) == 2 and "--name NAME" in capsys.readouterr().err
    assert main([*call, "--name", "other"]) == 0


@pytest.mark.parametrize(("answer", "chosen"), [("", "2.value"), ("2", "3.string_b"), ("9", "2.value")])
def test_a_person_is_asked_where_two_are_possible(answer: str, chosen: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each place with what stands there now; Enter takes the likeliest."""
    adopted = adopt(chained(), INFO)
    (group,) = [shell.choose(adopted.guesses[0], adopted.graph, ask=lambda _: answer)]
    assert " ".join(f"{node}.{name}" for node, name in group) == chosen
    assert "2  string_b of node 3: 4k" in capsys.readouterr().out
