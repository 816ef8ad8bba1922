"""Graphs that somebody brings: what is found in them, and the output configs they become."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from engines import REPOSITORY
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from devpipe.cli import adopt as shell
from devpipe.cli import main
from devpipe.cli.new_workspace import create
from devpipe.comfyui.adopt import Adoption, adopt, read
from devpipe.comfyui.checker import problems
from devpipe.config.catalogue import load_catalogue
from devpipe.errors import UsageError
from devpipe.media.provenance import BY_MODEL, Provenance, stamp

INFO: dict[str, Any] = json.loads((REPOSITORY / "tests/graphs/object_info.json").read_bytes())
WILD = REPOSITORY / "tests/graphs/wild"
CATALOGUE = load_catalogue(REPOSITORY)
OUTPUTS = [name for name, output in sorted(CATALOGUE.outputs.items()) if output.graph]


def found(adoption: Adoption) -> dict[str, str]:
    """Where each value goes: "node.input node.input"."""
    return {
        one.name: " ".join(f"{node}.{name}" for node, name in one.best) for one in adoption.guesses
    }


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "vector_fusion_encoders"])
def test_our_own_graphs_are_read_as_we_bound_them(name: str) -> None:
    """Texts, seed, pictures and numbers; also two texts and how much of each."""
    output = CATALOGUE.outputs[name]
    adopted, bound = (
        adopt(output.nodes, INFO),
        {key: {(one.node, one.input) for one in some} for key, some in output.bindings.items()},
    )
    guessed = {one.name: set(one.best) for one in adopted.guesses}
    same = {
        "prompt",
        "prompt_2",
        "negative_prompt",
        "seed",
        "image",
        "mask",
        "control",
        "steps",
        "guidance_scale",
        "frames",
        "alpha",
    }
    same &= set(bound)
    if name == "sdxl":
        bound["width"] = {one for one in bound["width"] if one[0] == "4"}
    assert {key: guessed[key] for key in same} == {
        key: bound[key] for key in same
    } and adopted.medium == output.medium


# Found in public repositories: see tests/graphs/README.md. Prompt, negative and seed as a person
# finds them.
FOUND: dict[str, dict[str, str]] = {
    "flux_txt2img": {"prompt": "6.text", "negative_prompt": "33.text", "seed": "31.seed"},
    "sd15_inpainting": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "3.seed",
        "image": "20.image",
        "mask": "20_mask.image",
    },
    "sd15_multi_output": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "3.seed 14.seed",
    },
    "sdxl_img2img": {
        "prompt": "16.text_g 16.text_l",
        "negative_prompt": "19.text_g 19.text_l",
        "seed": "36.seed",
        "strength": "36.denoise",
    },
    "sdxl_simple_example": {
        "prompt": "6.text 15.text",
        "negative_prompt": "7.text 16.text",
        "seed": "10.noise_seed 11.noise_seed",
    },
    "sdxlturbo_example": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "13.noise_seed",
        "steps": "22.steps",
    },
    "tea_cache_patch_api": {
        "prompt": "6.text",
        "seed": "25.noise_seed",
        "guidance_scale": "26.guidance",
        "steps": "17.steps",
    },
    "tinyterra_BasicSDXL": {
        "prompt": "187.text",
        "negative_prompt": "188.text",
        "seed": "194.noise_seed 195.noise_seed 196.seed 197.seed",
    },
    "txt_to_image_to_video": {
        "prompt": "18.text",
        "negative_prompt": "19.text",
        "seed": "3.seed 17.seed",
        "frames": "12.video_frames",
    },
    "flux2_reference": {"prompt": "2.text", "seed": "15.seed", "image": "22.image"},
    "minimax_h3_i2v": {"prompt": "60.prompt", "seed": "73.noise_seed"},
    "pictor_flux_dev": {"prompt": "6.text", "seed": "3.seed"},
    "pictor_sdxl_ipadapter": {"prompt": "6.text", "negative_prompt": "7.text", "seed": "9.seed"},
    "regional_lora": {"prompt": "45.text", "negative_prompt": "35.text 27.text", "seed": "7.seed"},
    "three_wildcards": {
        "prompt": " ".join(
            f"{one}.{name}" for name in ("wildcard_text", "populated_text") for one in (8, 21, 28)
        ),
        "negative_prompt": "9.text 22.text 29.text",
        "seed": "8.seed 10.seed 21.seed 23.seed 28.seed 30.seed",
    },
    "truss_animate_diff": {"prompt": "3.text", "negative_prompt": "6.text", "seed": "7.seed"},
    "truss_placeholders": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "3.seed",
        "control": "11.image",
    },
    "truss_sdxl_refiner": {
        "prompt": "6.text 15.text",
        "negative_prompt": "7.text 16.text",
        "seed": "10.noise_seed 11.noise_seed",
    },
    "truss_style_transfer": {
        "prompt": "152.text",
        "negative_prompt": "160.text",
        "seed": "18.seed 21.seed",
        "image": "3.image",
    },
    "two_controlnets": {"prompt": "5.text", "negative_prompt": "6.text", "seed": "7.seed"},
    "union_inpaint": {"prompt": "2.text", "negative_prompt": "3.text", "seed": "6.seed"},
    "wan_21_13b_t2v_api": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "3.seed",
        "frames": "40.length",
    },
    "was_clipseg_basic_api": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "3.seed 10.seed",
    },
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_graphs_from_the_wild_are_understood(name: str, tmp_path: Path) -> None:
    """Also those made of custom nodes; each becomes an output without faults."""
    guessed = found(adopt(read(WILD / f"{name}.json"), INFO))
    assert {key: guessed.get(key) for key in FOUND[name]} == FOUND[name]
    assert ("negative_prompt" in guessed) == ("negative_prompt" in FOUND[name])
    home = create(tmp_path / "home")
    assert (
        main(
            [
                "adopt",
                str(WILD / f"{name}.json"),
                "--home",
                str(home),
                "--json",
                "--object-info",
                str(WILD.parent / "object_info.json"),
            ]
        )
        == 0
    )
    catalogue = load_catalogue(home)
    assert not catalogue.faults and name.lower() in catalogue.outputs


def chained(**changes: dict[str, Any]) -> dict[str, Any]:
    """A small graph with a custom sampler, whose seed and text come from primitives."""
    nodes: dict[str, Any] = {
        "1": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "sd3.5_large.safetensors"},
        },
        "2": {"class_type": "PrimitiveString", "inputs": {"value": "a cat in the rain"}},
        "3": {
            "class_type": "StringConcatenate",
            "inputs": {"string_a": ["2", 0], "string_b": "4k", "delimiter": ", "},
        },
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": ["3", 0], "clip": ["1", 1]}},
        "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurred", "clip": ["1", 1]}},
        "6": {
            "class_type": "CFGGuider",
            "inputs": {"model": ["1", 0], "positive": ["4", 0], "negative": ["5", 0], "cfg": 4.5},
        },
        "7": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
        "8": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["7", 0]}},
        "9": {
            "class_type": "BasicScheduler",
            "inputs": {"model": ["1", 0], "scheduler": "simple", "steps": 20, "denoise": 1.0},
        },
        "10": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "11": {
            "class_type": "EmptySD3LatentImage",
            "inputs": {"width": 1024, "height": 768, "batch_size": 1},
        },
        "12": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["8", 0],
                "guider": ["6", 0],
                "sampler": ["10", 0],
                "sigmas": ["9", 0],
                "latent_image": ["11", 0],
            },
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
    assert (width["default"], width["minimum"], width["maximum"], width["multiple_of"]) == (
        1024,
        64,
        2048,
        16,
    )
    frames = adopt(CATALOGUE.outputs["ltx_video"].nodes, INFO).config("x")["parameters"]["frames"]
    assert frames["default"] in frames["choices"] and all(one % 8 == 1 for one in frames["choices"])


def test_one_number_for_two_parameters_is_bound_once() -> None:
    """A primitive that is width and height would make two parameters of one."""
    square = {
        "class_type": "EmptySD3LatentImage",
        "inputs": {"width": ["20", 0], "height": ["20", 0], "batch_size": 1},
    }
    guessed = found(
        adopt(
            chained(
                **{"11": square, "20": {"class_type": "PrimitiveInt", "inputs": {"value": 512}}}
            ),
            INFO,
        )
    )
    assert guessed["width"] == "20.value" and "height" not in guessed


def test_inputs_that_newer_servers_ask_for_are_added() -> None:
    """With the server's own default, and a word about it; links cannot be guessed."""
    loader = {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}}
    nodes = chained(**{"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}, "30": loader})
    adopted = adopt(nodes, INFO)
    assert (
        adopted.graph["30"]["inputs"]["weight_dtype"] == "default"
        and "weight_dtype" not in loader["inputs"]
    )
    assert "node 30: weight_dtype = default was added, which this server asks for." in adopted.notes
    del nodes["13"]["inputs"]["samples"]
    assert "samples" not in adopt(nodes, INFO).graph["13"]["inputs"]


def test_a_text_without_effect_is_no_negative_prompt() -> None:
    """ConditioningZeroOut makes nothing of the text that goes into it."""
    zeroed = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["4", 0]}}
    assert "negative_prompt" not in found(adopt(chained(**{"5": zeroed}), INFO))


def test_custom_nodes_and_model_files_are_named() -> None:
    """What the server lacks, what it has from others, and which files go where; without a server
    that is unknown.
    """
    custom = {"Fancy": {**INFO["VAEDecode"], "python_module": "custom_nodes.fancy-pack"}}
    nodes = chained(
        **{"13": {"class_type": "Fancy", "inputs": {"samples": ["12", 0], "vae": ["1", 2]}}}
    )
    notes = " ".join(adopt(nodes, INFO | custom).notes)
    assert "Fancy (fancy-pack)" in notes and "models/checkpoints/sd3.5_large.safetensors" in notes
    assert "server lacks: Fancy" in " ".join(
        adopt(nodes, INFO).notes
    ) and "--object-info" in " ".join(adopt(nodes).notes)


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_png_of_comfyui_carries_its_graph(tmp_path: Path) -> None:
    """Whole, in a text chunk; a picture from elsewhere says so."""
    text = PngInfo()
    text.add_text(
        "prompt", json.dumps({**chained(), "4": {**chained()["4"], "is_changed": [float("nan")]}})
    )
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


def test_a_picture_of_ours_carries_its_graph_too(tmp_path: Path) -> None:
    """What ComfyUI notes is taken out of it; our own note holds the graph as it was exported."""
    Image.new("RGB", (8, 8)).save(tmp_path / "made.png")
    ours = Provenance(
        BY_MODEL, "devpipe comfyui/x", request={"workflow": {"nodes": chained(), "bindings": {}}}
    )
    (tmp_path / "made.png").write_bytes(
        stamp((tmp_path / "made.png").read_bytes(), "image/png", ours)
    )
    assert read(tmp_path / "made.png") == chained()


@pytest.mark.parametrize(
    "wrap",
    [lambda graph: {"prompt": graph}, lambda graph: {"input": {"workflow": graph, "images": []}}],
)
def test_a_graph_inside_a_request_is_taken_out(tmp_path: Path, wrap: Any) -> None:
    """As people keep them who call a server by hand."""
    assert read(write(tmp_path / "request.json", wrap(chained()))) == chained()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            {"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4},
            r"UI format.*Export \(API\)",
        ),
        ({"1": {"class_type": "SaveImage"}}, "no API export"),
        (["a"], "holds no graph"),
        ("not json", "holds no graph"),
        (b"", "it is empty"),
        (b"\xff\xd8\xff\xe0", "neither JSON nor a PNG"),
        (b'{"1": {"class', "breaks off"),
        ("[" * 100_000, "no graph"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: object, named: str) -> None:
    """With how to export the right one."""
    with pytest.raises(UsageError, match=named):
        path = tmp_path / "file.json"
        path.write_bytes(content) if isinstance(content, bytes) else write(path, content)
        read(path)


def test_a_folder_is_no_graph(tmp_path: Path) -> None:
    """It is called what it is."""
    with pytest.raises(UsageError, match="is a folder"):
        read(tmp_path)


def test_a_graph_without_a_text_is_refused() -> None:
    """Every output of devpipe takes one."""
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(UsageError, match="takes no text"):
        adopt(nodes, INFO)


def test_a_mask_in_a_channel_is_read_from_its_brightness() -> None:
    """Ours are pictures without transparency, white where to change; the person is told that the
    graph was changed for that.
    """
    nodes = chained(**{
        "20": {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "alpha"}},
        "21": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["20", 0]}},
    })  # fmt: skip
    adopted = adopt(nodes, INFO)
    assert (
        adopted.graph["20"]["inputs"]["channel"] == "red"
        and "white is where to change" in adopted.notes[0]
    )
    assert adopted.config("x")["images"] == ["mask"] and nodes["20"]["inputs"]["channel"] == "alpha"


def test_the_command_writes_both_files_and_overwrites_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows its guess; a second time it asks for another name."""
    home, info = create(tmp_path / "home"), str(WILD.parent / "object_info.json")
    call = [
        "adopt",
        str(write(tmp_path / "My Graph.json", chained())),
        "--home",
        str(home),
        "--yes",
        "--object-info",
        info,
    ]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert (
        "prompt           value of node 2 (PrimitiveString): a cat in the rain" in said
        and "my_graph.json" in said
    )
    assert json.loads((home / "output_configs/graphs/my_graph.json").read_bytes()) == chained()
    assert load_catalogue(home).output("my_graph").workflow() is not None
    assert main(call) == 2 and "--name NAME" in capsys.readouterr().err
    assert main([*call, "--name", "other"]) == 0


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [([""], "2.value"), (["2"], "3.string_b"), (["9", "x", "2"], "3.string_b")],
)
def test_a_person_is_asked_where_two_are_possible(
    answers: list[str], chosen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each place with what stands there now; Enter takes the likeliest, and what is no answer is
    asked again.
    """
    adopted, left = adopt(chained(), INFO), iter(answers)
    (group,) = [shell.choose(adopted.guesses[0], adopted.graph, ask=lambda _: next(left))]
    assert " ".join(f"{node}.{name}" for node, name in group) == chosen
    said = capsys.readouterr().out
    assert (
        "2  string_b of node 3 (StringConcatenate): 4k" in said
        and said.count("Please type a number from 1 to 2.") == len(answers) - 1
    )


def test_a_person_may_leave_the_question() -> None:
    """Ctrl-D ends it with a sentence."""
    adopted = adopt(chained(), INFO)

    def leave(_: str) -> str:
        raise EOFError

    with pytest.raises(UsageError, match="Nothing was written"):
        shell.choose(adopted.guesses[0], adopted.graph, ask=leave)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Grünes Blatt (2)", "gruenes_blatt_2"),
        ("été", "ete"),
        ("文生图", "graph"),
        ("1. Versuch", "graph_1_versuch"),
        ("x" * 99, "x" * 60),
    ],
)
def test_any_file_has_a_name_for_its_output(text: str, name: str) -> None:
    """Umlauts are written out, other accents fall, and what has no Latin letters is a graph."""
    assert shell.name_from(text) == name


def test_a_name_that_no_output_can_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written, with one that fits."""
    home = create(tmp_path / "home")
    call = [
        "adopt",
        str(write(tmp_path / "g.json", chained())),
        "--home",
        str(home),
        "--yes",
        "--name",
        "Grünes Blatt",
    ]
    assert main(call) == 2 and "--name gruenes_blatt" in capsys.readouterr().err
    assert not list((home / "output_configs").glob("*latt*"))


def test_what_comes_next_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the options that the output needs."""
    home, output, info = (
        create(tmp_path / "home"),
        CATALOGUE.outputs,
        str(WILD.parent / "object_info.json"),
    )
    for name, told in [
        ("sd35_inpaint", '"a cat in the rain" -o mine0 --image FILE --mask FILE'),
        ("vector_fusion", '--prompt-2 "a storm" -o mine1'),
    ]:
        mine = f"mine{name.startswith('v'):d}"
        assert (
            main(
                [
                    "adopt",
                    str(write(tmp_path / "g.json", dict(output[name].nodes))),
                    "--home",
                    str(home),
                    "--yes",
                    "--name",
                    mine,
                    "--object-info",
                    info,
                ]
            )
            == 0
        )
        assert told in capsys.readouterr().out


# Kinds of graphs that others make.


def sampled(
    text: dict[str, Any], sampler: dict[str, Any], **more: dict[str, Any]
) -> dict[str, str]:
    """What is found in a small graph of nodes that no server here knows."""
    return found(
        adopt(
            {
                "1": text,
                "2": sampler,
                "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
                **more,
            },
            INFO,
        )
    )


def test_one_link_may_bring_both_texts() -> None:
    """As of Wan and of loaders with a pipe: each text in its role."""
    wan = {
        "class_type": "WanVideoTextEncode",
        "inputs": {"positive_prompt": "a cat", "negative_prompt": "dull"},
    }
    guessed = sampled(
        wan,
        {
            "class_type": "WanVideoSampler",
            "inputs": {"text_embeds": ["1", 0], "steps": 6, "seed": 3},
        },
    )
    assert (guessed["prompt"], guessed["negative_prompt"], guessed["seed"]) == (
        "1.positive_prompt",
        "1.negative_prompt",
        "2.seed",
    )
    loader = {
        "class_type": "easy fullLoader",
        "inputs": {"ckpt_name": "x", "positive": "a cat", "negative": "dull"},
    }
    guessed = sampled(
        loader,
        {"class_type": "easy preSampling", "inputs": {"pipe": ["1", 0], "steps": 6, "seed": 3}},
    )
    assert (guessed["prompt"], guessed["negative_prompt"]) == ("1.positive", "1.negative")
    piped = {"class_type": "ToBasicPipe", "inputs": {"positive": ["4", 0], "negative": ["5", 0]}}
    texts = {
        str(one): {"class_type": "CLIPTextEncode", "inputs": {"text": f"text {one}"}}
        for one in (4, 5)
    }
    guessed = sampled(
        piped,
        {
            "class_type": "ImpactKSamplerBasicPipe",
            "inputs": {"basic_pipe": ["1", 0], "steps": 6, "seed": 3},
        },
        **texts,
    )
    assert (guessed["prompt"], guessed["negative_prompt"]) == ("4.text", "5.text")


def test_the_text_that_a_language_model_works_on_is_the_prompt() -> None:
    """Not its instruction, nor what a viewer once showed; whatever its inputs are called."""
    encoder = {"class_type": "CLIPTextEncode", "inputs": {"text": ["4", 0]}}
    more = {
        "4": {
            "class_type": "ShowText",
            "inputs": {"text": ["5", 0], "text2": "A cat sits on a long wall in the rain."},
        },
        "5": {
            "class_type": "Some LLM",
            "inputs": {
                "user_input": ["6", 0],
                "system_message": "You write long prompts for pictures.",
            },
        },
        "6": {"class_type": "AnyText", "inputs": {"text": "a cat"}},
    }
    guessed = sampled(
        encoder,
        {"class_type": "KSampler", "inputs": {"positive": ["1", 0], "steps": 6, "seed": 3}},
        **more,
    )
    assert guessed["prompt"] == "6.text" and "negative_prompt" not in guessed


def test_a_text_that_waits_to_be_put_in_goes_before_a_longer_one() -> None:
    """Programs mark the place: {{prompt}}, PROMPT_HERE, PARAM_PROMPT."""
    for mark in ("{{prompt}}", "PROMPT_HERE", "PARAM_PROMPT", "%prompt%", "your prompt here"):
        joined = {
            "class_type": "StringConcatenate",
            "inputs": {"string_a": "Studio Ghibli, key visual", "string_b": mark},
        }
        nodes = chained(**{"3": joined})
        assert found(adopt(nodes, INFO))["prompt"] == "3.string_b"


def test_a_title_tells_more_than_length_but_for_the_usual_one() -> None:
    """ComfyUI calls both texts "CLIP Text Encode (Prompt)"; a person who writes "Negative prompt"
    means it.
    """
    extra = {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "rude, and much else", "clip": ["1", 1]},
        "_meta": {"title": "CLIP Text Encode (Prompt)"},
    }
    mixed = {
        "class_type": "ConditioningCombine",
        "inputs": {"conditioning_1": ["20", 0], "conditioning_2": ["21", 0]},
    }
    named = {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "", "clip": ["1", 1]},
        "_meta": {"title": "Negative prompt"},
    }
    assert (
        found(adopt(chained(**{"5": mixed, "20": extra, "21": named}), INFO))["negative_prompt"]
        == "21.text"
    )


def test_a_sampler_that_mends_a_part_keeps_its_own_text() -> None:
    """It is offered; one that goes on with the same latent, or stands apart, takes the
    prompt too.
    """
    text = {"class_type": "CLIPTextEncode", "inputs": {"text": "eyes, lashes", "clip": ["1", 1]}}
    sampler: dict[str, Any] = {
        "class_type": "KSampler",
        "inputs": {
            "positive": ["20", 0],
            "negative": ["5", 0],
            "latent_image": ["22", 0],
            "steps": 9,
            "seed": 1,
        },
    }
    encode = {"class_type": "VAEEncode", "inputs": {"pixels": ["13", 0], "vae": ["1", 2]}}
    mending = adopt(chained(**{"20": text, "21": sampler, "22": encode}), INFO)
    assert found(mending)["prompt"] == "2.value" and (("20", "text"),) in mending.guesses[0].others
    going_on = chained(
        **{
            "20": text,
            "21": {**sampler, "inputs": {**sampler["inputs"], "latent_image": ["12", 0]}},
        }
    )
    assert found(adopt(going_on, INFO))["prompt"] == "2.value 20.text"


def test_two_texts_whose_vectors_are_mixed_are_two_texts() -> None:
    """With ComfyUI's own node and with that for extrapolation, whose range is the wider one; 0 is
    the first text.
    """
    fusion = json.loads((REPOSITORY / "tests/graphs/fusion_nodes.json").read_bytes())
    for name, first, low, high in [
        ("vector_fusion", "4.text", 0, 1),
        ("vector_fusion_extrapolation", "4.text", -5, 5),
    ]:
        adopted = adopt(CATALOGUE.outputs[name].nodes, INFO | fusion)
        config = adopted.config("x")
        assert (found(adopted)["prompt"], found(adopted)["prompt_2"], config["pipeline"]) == (
            first,
            "5.text",
            "dual_text_media_generation",
        )
        assert (
            config["parameters"]["alpha"]["minimum"],
            config["parameters"]["alpha"]["maximum"],
        ) == (low, high)
    assert (
        adopt(CATALOGUE.outputs["vector_fusion"].nodes).config("x")["parameters"]["alpha"][
            "maximum"
        ]
        == 1
    )


# What is set right, and said.


def test_numbers_that_a_program_would_put_in_become_numbers() -> None:
    """The server's default, or the number that stands there as a text; the person is told."""
    nodes = chained(**{
        "8": {"class_type": "RandomNoise", "inputs": {"noise_seed": "{{seed}}"}},
        "11": {"class_type": "EmptySD3LatentImage", "inputs": {"width": "%width%", "height": "512", "batch_size": 1}},
    })  # fmt: skip
    for info in (INFO, None):
        adopted = adopt(nodes, info)
        assert (
            adopted.graph["8"]["inputs"]["noise_seed"],
            adopted.graph["11"]["inputs"]["width"],
        ) == (0, 1024)
        assert (
            adopted.graph["11"]["inputs"]["height"] == 512
            and found(adopted)["seed"] == "8.noise_seed"
        )
        assert "node 8: noise_seed was '{{seed}}', it is 0 now." in adopted.notes


def test_folders_are_written_as_the_server_writes_them() -> None:
    """Graphs from Windows name them with another stroke; inputs that this server does not know are
    left out.
    """
    info = json.loads(json.dumps(INFO))
    info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = ["sd/big.safetensors"]
    loader = {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "sd\\big.safetensors", "choose": "x"},
    }
    adopted = adopt(chained(**{"1": loader}), info)
    assert adopted.graph["1"]["inputs"] == {"ckpt_name": "sd/big.safetensors"}
    assert "node 1: choose was left out, which this server does not know." in adopted.notes


def test_a_second_picture_stays_what_it_is_unless_both_name_the_same_file() -> None:
    """The person is told; at a terminal it can be chosen, and where the server lacks it, one
    picture for both.
    """
    nodes = chained(**{
        "20": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "21": {"class_type": "LoadImage", "inputs": {"image": "b.png"}},
        "22": {"class_type": "ImageBatch", "inputs": {"image1": ["20", 0], "image2": ["21", 0]}},
    })  # fmt: skip
    info = json.loads(json.dumps(INFO))
    first, second = ("20", "image"), ("21", "image")
    for there, others in [(["c.png"], ((second,), (first, second))), (["b.png"], ((second,),))]:
        info["LoadImage"]["input"]["required"]["image"][0] = there
        adopted = adopt(nodes, info)
        (guess,) = [one for one in adopted.guesses if one.name == "image"]
        assert (guess.best, guess.others) == ((first,), others)
        assert "node 21: its picture b.png must lie on the server." in adopted.notes
        taken = adopted.chosen(
            lambda one: one.others[-1] if one.name == "image" else one.best
        ).notes
        assert ("node 21 takes the same picture: it named b.png." in taken) is (there == ["c.png"])
        assert "node 21: its picture b.png must lie on the server." not in taken
    nodes["21"]["inputs"]["image"] = "a.png"
    assert found(adopt(nodes, info))["image"] == "20.image 21.image"


def test_a_graph_without_a_seed_says_so() -> None:
    """Its runs differ only by their text."""
    nodes = chained(**{"8": {"class_type": "DisableNoise", "inputs": {}}})
    assert (
        "there is no seed in the graph: the same text gives the same result."
        in adopt(nodes, INFO).notes
    )


def test_the_smallest_length_of_a_film_is_the_nodes() -> None:
    """Mochi takes 7, 13, ...: no choice lies below."""
    info = json.loads(json.dumps(INFO))
    info["EmptyMochi"] = {
        "input": {
            "required": {"length": ["INT", {"default": 25, "min": 7, "max": 1000, "step": 6}]}
        },
        "output": ["LATENT"],
    }
    nodes = chained(**{"11": {"class_type": "EmptyMochi", "inputs": {"length": 37}}})
    choices = adopt(nodes, info).config("x")["parameters"]["frames"]["choices"]
    assert min(choices) >= 7 and 37 in choices and all(one % 6 == 1 for one in choices)


def test_a_number_between_two_steps_is_set_to_the_lower_one() -> None:
    """Servers do not say so, and the page of ComfyUI would have done it."""
    nodes = chained(
        **{
            "11": {
                "class_type": "EmptySD3LatentImage",
                "inputs": {"width": 1000, "height": 768, "batch_size": 1},
            }
        }
    )
    adopted = adopt(nodes, INFO)
    assert (
        adopted.graph["11"]["inputs"]["width"] == 992
        and "node 11: width was 1000, it is 992 now." in adopted.notes
    )
    assert problems(adopted.graph, INFO) == []


def test_a_graph_that_samples_nothing_has_numbers_too() -> None:
    """Nodes that ask a service, or draw without a model."""
    nodes = {
        "1": {
            "class_type": "AskAService",
            "inputs": {"prompt": "a cat", "negative_prompt": "dull", "seed": 3, "width": 512},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    assert found(adopt(nodes, INFO)) == {
        "prompt": "1.prompt",
        "negative_prompt": "1.negative_prompt",
        "seed": "1.seed",
        "width": "1.width",
    }


def test_with_a_picture_the_second_of_two_texts_stays_as_it_is() -> None:
    """The media pipeline of pictures takes one text; the person is told."""
    nodes = dict(CATALOGUE.outputs["vector_fusion"].nodes)
    nodes |= {"30": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    adopted = adopt(nodes, INFO)
    assert "prompt_2" not in adopted.config("x")["bindings"] and adopted.config("x")["images"] == [
        "image"
    ]
    assert "node 5: its text stays as it is, an output with a picture takes one." in adopted.notes


def test_a_long_chain_of_texts_is_followed_to_its_end() -> None:
    """Longer than Python calls itself; links to nodes that are not there lead nowhere."""
    chain: dict[str, Any] = {
        str(one): {"class_type": "Join", "inputs": {"string": [str(one + 1), 0]}}
        for one in range(100, 1500)
    }
    chain["1500"] = {"class_type": "PrimitiveString", "inputs": {"value": "a cat"}}
    chain["90"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    chain["91"] = {
        "class_type": "ControlNetApply",
        "inputs": {"control_net": ["77", 0], "image": ["77", 0], "conditioning": ["100", 0]},
    }
    sampler = {"class_type": "KSampler", "inputs": {"positive": ["91", 0], "steps": 6, "seed": 3}}
    assert sampled({"class_type": "None", "inputs": {}}, sampler, **chain)["prompt"] == "1500.value"


@pytest.mark.parametrize("width", [0, -3, 3, 1e30])
def test_a_number_out_of_all_bounds_breaks_nothing(width: float) -> None:
    """The check says what is wrong with it."""
    nodes = chained(
        **{
            "11": {
                "class_type": "EmptySD3LatentImage",
                "inputs": {"width": width, "height": 768, "batch_size": 1},
            }
        }
    )
    assert adopt(nodes, INFO).config("x")["parameters"]["width"]["default"] == width


def rgthree() -> tuple[dict[str, Any], dict[str, Any]]:
    """A graph with nodes that take more than they declare, and what a server says of them."""
    custom = {"python_module": "custom_nodes.rgthree-comfy"}
    info = {
        "Any Switch (rgthree)": {
            **custom,
            "input": {"required": {}, "optional": {}},
            "output": ["*"],
        },
        "Power Lora Loader (rgthree)": {
            **custom,
            "input": {"optional": {"model": ["MODEL"], "clip": ["CLIP"]}},
            "output": ["MODEL", "CLIP"],
        },
        "Seeder": {
            **custom,
            "input": {"required": {"seed": ["INT", {"min": 0, "step": 8}], "mode": [["a", "b"]]}},
            "output": ["INT"],
        },
    }
    nodes = chained(**{
        "6": {"class_type": "CFGGuider", "inputs": {"model": ["20", 0], "positive": ["21", 0], "negative": ["5", 0], "cfg": 4.5}},
        "20": {"class_type": "Power Lora Loader (rgthree)", "inputs": {
            "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"}, "lora_1": {"on": True, "lora": "a"}, "more": "",
            "model": ["1", 0], "clip": ["1", 1]}},
        "21": {"class_type": "Any Switch (rgthree)", "inputs": {"any_01": ["4", 0]}},
        "22": {"class_type": "Seeder", "inputs": {"seed": 9}},
    })  # fmt: skip
    return nodes, INFO | info


def test_nothing_is_taken_from_custom_nodes() -> None:
    """They are read through what they do not declare, stay as exported, and are told of; the server
    takes them so.
    """
    nodes, info = rgthree()
    adopted = adopt(nodes, info)
    assert (found(adopted)["prompt"], found(adopted)["negative_prompt"]) == ("2.value", "5.text")
    assert adopted.graph == nodes
    said = " ".join(adopted.notes)
    assert (
        "node 21 (Any Switch (rgthree)) does not declare any_01" in said and "lora_1, more" in said
    )
    assert "node 22: it lacks mode, which this server asks for; usual is a." in said
    assert {one.node for one in problems(adopted.graph, info)} == {"22"}


def test_links_and_rows_stay_in_all_nodes() -> None:
    """Servers pass links on by their name, whatever a node declares; only plain values are lost
    there.
    """
    nodes = chained()
    nodes["13"]["inputs"] |= {"more": ["12", 0], "row": {"on": True}, "old": 5}
    adopted = adopt(nodes, INFO)
    assert {*adopted.graph["13"]["inputs"]} == {"samples", "vae", "more", "row"}


def test_a_graph_is_taken_out_of_a_picture_of_any_size(tmp_path: Path) -> None:
    """The pixels are not looked at: 16384 x 16384 of them would be refused as an attack.

    Packed or not, in each kind of text chunk.
    """
    words = json.dumps(chained()).encode()
    texts = {
        b"tEXt": b"prompt\0" + words,
        b"zTXt": b"prompt\0\0" + zlib.compress(words),
        b"iTXt": b"prompt\0\0\0\0\0" + words,
        b"iTXt ": b"prompt\0\1\0en\0P\0" + zlib.compress(words),
    }
    for side in (16384, 12000):
        for kind, text in texts.items():
            (tmp_path / "big.png").write_bytes(png(side, kind.strip(), text))
            assert read(tmp_path / "big.png") == chained()
    (tmp_path / "bad.png").write_bytes(png(8, b"zTXt", b"prompt\0\0junk"))
    with pytest.raises(UsageError, match="cannot be unpacked"):
        read(tmp_path / "bad.png")


def png(side: int, kind: bytes, text: bytes) -> bytes:
    """A picture without pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (kind, text), (b"IDAT", b""), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def inverted(*, straight: bool = False, use: str = "SetLatentNoiseMask") -> Adoption:
    """A graph whose mask is turned round on its way; `straight`: not on all ways."""
    return adopt(
        chained(**{
            "20": {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "red"}},
            "21": {"class_type": "GrowMask", "inputs": {"mask": ["20", 0], "expand": 4, "tapered_corners": True}},
            "22": {"class_type": "InvertMask", "inputs": {"mask": ["21", 0]}},
            "23": {"class_type": use, "inputs": {"samples": ["11", 0], "mask": ["22", 0]}},
            "24": {"class_type": "ImageCompositeMasked", "inputs": {
                "destination": ["13", 0], "source": ["13", 0], "mask": ["20" if straight else "22", 0]}},
        }),
        INFO,
    )  # fmt: skip


def test_a_mask_that_the_graph_turns_round_goes_past_the_inverter() -> None:
    """Ours is white where to change, theirs was black there; the person is told."""
    adopted = inverted()
    assert (
        adopted.graph["23"]["inputs"]["mask"] == adopted.graph["24"]["inputs"]["mask"] == ["21", 0]
    )
    assert (
        "node 22 (InvertMask): the mask goes past it now: what is sent is white where to change."
        in adopted.notes
    )


def test_a_picture_that_becomes_a_mask_may_be_turned_round_before() -> None:
    """It is the mask all the same, and goes past the inverter."""
    nodes = chained(**{
        "20": {"class_type": "LoadImage", "inputs": {"image": "m.png"}},
        "21": {"class_type": "ImageInvert", "inputs": {"image": ["20", 0]}},
        "22": {"class_type": "ImageToMask", "inputs": {"image": ["21", 0], "channel": "red"}},
        "23": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["22", 0]}},
    })  # fmt: skip
    adopted = adopt(nodes, INFO)
    assert adopted.config("x")["images"] == ["mask"] and adopted.graph["22"]["inputs"]["image"] == [
        "20",
        0,
    ]


@pytest.mark.parametrize("graph", [{"straight": True}, {"use": "SomebodysMask"}])
def test_where_it_is_unclear_which_side_of_a_mask_is_meant_the_person_is_told(
    graph: dict[str, Any],
) -> None:
    """The graph stays: a part of it may want the other side."""
    adopted = inverted(**graph)
    assert adopted.graph["23"]["inputs"]["mask"] == ["22", 0]
    assert (
        "node 22 (InvertMask): it turns the mask round; look at a result: what is sent is white"
        " where to change." in adopted.notes
    )


def test_an_output_that_would_have_faults_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are said, and the workspace stays as it was."""
    home, nodes = create(tmp_path / "home"), chained()
    nodes["11"]["inputs"]["width"] = nodes["6"]["inputs"]["cfg"] = 10**300
    before = sorted(home.rglob("*"))
    info = ["--object-info", str(WILD.parent / "object_info.json")]
    assert (
        main(
            [
                "adopt",
                str(write(tmp_path / "g.json", nodes)),
                "--home",
                str(home),
                "--yes",
                "--name",
                "big",
                *info,
            ]
        )
        == 2
    )
    told = capsys.readouterr().err
    assert (
        "Nothing was written" in told
        and "$.parameters" in told
        and sorted(home.rglob("*")) == before
    )


def test_a_file_that_is_too_large_says_how_large_it_may_be(tmp_path: Path) -> None:
    """Of a picture with its graph, most are pixels; a graph alone is smaller."""
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(65_000_000)
    with pytest.raises(UsageError, match="larger than 64,000,000 bytes"):
        read(tmp_path / "big.png")
    with pytest.raises(UsageError, match="has 585 kB, an output's may have 512"):
        read(
            write(
                tmp_path / "big.json",
                chained(
                    **{"2": {"class_type": "PrimitiveString", "inputs": {"value": "x" * 597_000}}}
                ),
            )
        )
