"""How are names spelled in a file, and which of our names do vendors spell otherwise?"""

from __future__ import annotations

from collections.abc import Mapping

NAME = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
STYLE = r"^([a-z][a-z0-9]*(_[a-z0-9]+)*)?$"
LANGUAGE = r"^[a-z]{2}$"
LANGUAGE_OR_NONE = r"^([a-z]{2})?$"
LANGUAGE_OR_SAME = r"^(same|[a-z]{2})$"
GRAPH = r"^([A-Za-z0-9][A-Za-z0-9_-]*\.json)?$"
PATTERNS: Mapping[str, str] = {
    NAME: "lower-case words joined by _, e.g. stille_post",
    STYLE: "empty, or lower-case words joined by _",
    LANGUAGE: "a language code of two letters, e.g. de",
    LANGUAGE_OR_NONE: "empty, or a language code of two letters, e.g. en",
    LANGUAGE_OR_SAME: "'same', or a language code of two letters, e.g. de",
    GRAPH: "the name of a .json file in output_configs/graphs, without folders",
    r"\S": "text that is not empty",
}
SYNONYMS: Mapping[str, str] = {  # vendors' spellings of our parameters
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "scale": "guidance_scale",
    "num_inference_steps": "steps",
    "inference_steps": "steps",
    "num_steps": "steps",
    "sampling_steps": "steps",
    "denoise": "strength",
    "denoising_strength": "strength",
    "image_strength": "strength",
    "prompt_strength": "strength",
    "num_frames": "frames",
    "frame_count": "frames",
    "length": "frames",
    "frame_rate": "fps",
    "framerate": "fps",
    "duration": "seconds",
    "duration_seconds": "seconds",
    "seconds_total": "seconds",
    "audio_length": "seconds",
    "n": "count",
    "num_images": "count",
    "num_outputs": "count",
    "batch_size": "count",
    "samples": "count",
    "negative": "negative_prompt",
    "neg_prompt": "negative_prompt",
    "noise_seed": "seed",
    "random_seed": "seed",
}
