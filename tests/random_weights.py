"""Weights of Stable Diffusion 1.5's kind made of noise: with them a real ComfyUI samples, shows
previews and obeys a ControlNet.

`python tests/random_weights.py MODELS` writes checkpoints/sd15_noise.safetensors (0.6 GB) and
controlnet/sd15_noise_canny.safetensors into
MODELS, which is the server's folder `models` or one named in its --extra-model-paths-config. The
pictures are noise, the protocol is real.
Text encoder and VAE are as large as the published ones; the UNet has fewer levels: servers count
them. https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

WIDTH, TEXT, TIME = (
    320,
    768,
    1280,
)  # channels of the UNet, of a word, of the time: by these a server knows the kind
LEVELS = (320, 640)
VAE = (128, 256, 512, 512)
HINT = (3, 16, 16, 32, 32, 96, 96, 256, WIDTH)
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def under(prefix: str, shapes: Shapes) -> Shapes:
    return ((f"{prefix}.{name}", shape) for name, shape in shapes)


def norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def linear(name: str, out: int, into: int) -> Shapes:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def conv(name: str, out: int, into: int, size: int = 3) -> Shapes:
    yield f"{name}.weight", (out, into, size, size)
    yield f"{name}.bias", (out,)


def residual(into: int, out: int) -> Shapes:
    yield from norm("in_layers.0", into)
    yield from conv("in_layers.2", out, into)
    yield from linear("emb_layers.1", out, TIME)
    yield from norm("out_layers.0", out)
    yield from conv("out_layers.3", out, out)
    if into != out:
        yield from conv("skip_connection", out, into, 1)


def transformer(size: int) -> Shapes:
    block = "transformer_blocks.0"
    yield from norm("norm", size)
    yield from conv("proj_in", size, size, 1)
    for at, context in enumerate((size, TEXT), 1):
        for name, into in (("to_q", size), ("to_k", context), ("to_v", context)):
            yield f"{block}.attn{at}.{name}.weight", (size, into)
        yield from linear(f"{block}.attn{at}.to_out.0", size, size)
    for at in (1, 2, 3):
        yield from norm(f"{block}.norm{at}", size)
    yield from linear(f"{block}.ff.net.0.proj", 8 * size, size)
    yield from linear(f"{block}.ff.net.2", size, 4 * size)
    yield from conv("proj_out", size, size, 1)


def block(name: str, into: int, out: int) -> Shapes:
    yield from under(f"{name}.0", residual(into, out))
    yield from under(f"{name}.1", transformer(out))


def downward() -> Shapes:
    """The half that UNet and ControlNet have in common: its blocks give LEVELS, with one step down
    between.
    """
    yield from linear("time_embed.0", TIME, WIDTH)
    yield from linear("time_embed.2", TIME, TIME)
    yield from conv("input_blocks.0.0", WIDTH, 4)
    yield from block("input_blocks.1", WIDTH, LEVELS[0])
    yield from conv("input_blocks.2.0.op", LEVELS[0], LEVELS[0])
    yield from block("input_blocks.3", LEVELS[0], LEVELS[1])
    yield from block("middle_block", LEVELS[1], LEVELS[1])
    yield from under("middle_block.2", residual(LEVELS[1], LEVELS[1]))


def unet() -> Shapes:
    low, high = LEVELS
    yield from downward()
    yield from block("output_blocks.0", high + high, high)
    yield from block("output_blocks.1", high + low, high)
    yield from conv("output_blocks.1.2.conv", high, high)
    yield from block("output_blocks.2", high + low, low)
    yield from block("output_blocks.3", low + WIDTH, low)
    yield from norm("out.0", WIDTH)
    yield from conv("out.2", 4, WIDTH)


def controlnet() -> Shapes:
    yield from downward()
    for at, size in enumerate((WIDTH, LEVELS[0], LEVELS[0], LEVELS[1])):
        yield from conv(f"zero_convs.{at}.0", size, size, 1)
    for at, (into, out) in enumerate(pairwise(HINT)):
        yield from conv(f"input_hint_block.{2 * at}", out, into)
    yield from conv("middle_block_out.0", LEVELS[1], LEVELS[1], 1)


def text_encoder() -> Shapes:
    yield "embeddings.token_embedding.weight", (49408, TEXT)
    yield "embeddings.position_embedding.weight", (77, TEXT)
    for at in range(12):
        layer = f"encoder.layers.{at}"
        for name in ("layer_norm1", "layer_norm2"):
            yield from norm(f"{layer}.{name}", TEXT)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{layer}.self_attn.{name}", TEXT, TEXT)
        yield from linear(f"{layer}.mlp.fc1", 4 * TEXT, TEXT)
        yield from linear(f"{layer}.mlp.fc2", TEXT, 4 * TEXT)
    yield from norm("final_layer_norm", TEXT)


def vae_residual(name: str, into: int, out: int) -> Shapes:
    for at, size in enumerate((into, out), 1):
        yield from norm(f"{name}.norm{at}", size)
        yield from conv(f"{name}.conv{at}", out, size)
    if into != out:
        yield from conv(f"{name}.nin_shortcut", out, into, 1)


def vae_middle() -> Shapes:
    yield from vae_residual("mid.block_1", VAE[-1], VAE[-1])
    yield from norm("mid.attn_1.norm", VAE[-1])
    for name in ("q", "k", "v", "proj_out"):
        yield from conv(f"mid.attn_1.{name}", VAE[-1], VAE[-1], 1)
    yield from vae_residual("mid.block_2", VAE[-1], VAE[-1])


def vae_levels(name: str, sizes: Sequence[int], blocks: int) -> Iterator[tuple[int, str, int, int]]:
    """(level, block's name, channels in, channels out); going up, the levels are numbered from the
    last one.
    """
    into = sizes[0]
    for at, out in enumerate(sizes):
        level = at if name == "down" else len(sizes) - 1 - at
        for number in range(blocks):
            yield level, f"{name}.{level}.block.{number}", into, out
            into = out


def vae_encoder() -> Shapes:
    yield from conv("conv_in", VAE[0], 3)
    for _, name, into, out in vae_levels("down", VAE, 2):
        yield from vae_residual(name, into, out)
    for level, size in enumerate(VAE[:-1]):
        yield from conv(f"down.{level}.downsample.conv", size, size)
    yield from vae_middle()
    yield from norm("norm_out", VAE[-1])
    yield from conv("conv_out", 8, VAE[-1])


def vae_decoder() -> Shapes:
    yield from conv("conv_in", VAE[-1], 4)
    yield from vae_middle()
    for _, name, into, out in vae_levels("up", VAE[::-1], 3):
        yield from vae_residual(name, into, out)
    for level, size in enumerate(VAE):
        if level:
            yield from conv(f"up.{level}.upsample.conv", size, size)
    yield from norm("norm_out", VAE[0])
    yield from conv("conv_out", 3, VAE[0])


def checkpoint() -> Shapes:
    yield from under("model.diffusion_model", unet())
    yield from under("cond_stage_model.transformer.text_model", text_encoder())
    yield from under("first_stage_model.encoder", vae_encoder())
    yield from under("first_stage_model.decoder", vae_decoder())
    yield from conv("first_stage_model.quant_conv", 8, 8, 1)
    yield from conv("first_stage_model.post_quant_conv", 4, 4, 1)


def noise(name: str, shape: tuple[int, ...], dice: np.random.Generator) -> bytes:
    """Values of 16 bits that neither grow nor fade on their way through many layers; norms change
    nothing.
    """
    if len(shape) == 1:
        return np.full(
            shape, 1 if "norm" in name and name.endswith("weight") else 0, "<f2"
        ).tobytes()
    scale = np.prod(shape[1:]) ** -0.5
    return (dice.standard_normal(shape, np.float32) * scale).astype("<f2").tobytes()


def write(path: Path, shapes: Shapes) -> Path:
    """The format: https://github.com/huggingface/safetensors#format"""
    path.parent.mkdir(parents=True, exist_ok=True)
    at, header, found, dice = 0, {}, dict(shapes), np.random.default_rng(15)
    for name, shape in found.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": (at, at + size)}
        at += size
    head = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, shape in found.items():
            file.write(noise(name, shape, dice))
    return path


def main(folder: Path) -> None:
    print(write(folder / "checkpoints" / "sd15_noise.safetensors", checkpoint()))
    print(write(folder / "controlnet" / "sd15_noise_canny.safetensors", controlnet()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
