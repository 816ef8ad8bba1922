"""Language models of a few kilobytes, made on the spot, for tests of what runs them.

Importing this needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

MARKS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor"
    " %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
POSITIONS = 400  # tokens, which are bytes here


def tokenizer(*, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token per byte, and the marks of a chat."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(
        models.BPE({letter: number for number, letter in enumerate([*MARKS, *alphabet])}, [])
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    told = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=MARKS[0], additional_special_tokens=MARKS[1:]
    )
    told.chat_template = template
    return told


def sizes(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": 256 + len(MARKS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": POSITIONS, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0, **more,
    }  # fmt: skip


class ScriptedConfig(LlamaConfig):
    model_type = "devpipe_scripted"
    script: list[int] | None = None  # the tokens it says
    odds: list[float] | None = None  # of the tokens that follow the marks; instead of a script


class Scripted(LlamaForCausalLM):
    """Says what its config tells it to; `before` is called with each step's number and the tokens
    of its input.
    """

    config_class = ScriptedConfig
    before: ClassVar[Callable[[int, list[int]], None]]
    loaded: ClassVar[int] = 0

    def __init__(self, config: ScriptedConfig) -> None:
        super().__init__(config)
        type(self).loaded += 1
        self.step = 0

    def forward(self, input_ids: Any, **rest: Any) -> Any:  # type: ignore[override]
        self.step = self.step + 1 if input_ids.shape[1] == 1 else 0
        type(self).before(self.step, input_ids[0].tolist())
        answer = super().forward(input_ids, **rest)
        answer.logits[:] = -torch.inf
        if self.config.script:
            answer.logits[0, -1, [*self.config.script, 0][self.step]] = 0
        else:
            answer.logits[0, -1, len(MARKS) : len(MARKS) + len(self.config.odds)] = torch.tensor(
                self.config.odds
            ).log()
        return answer


AutoConfig.register(ScriptedConfig.model_type, ScriptedConfig)
AutoModelForCausalLM.register(ScriptedConfig, Scripted)


def save(folder: Path, network: Any, *, template: str | None = TEMPLATE) -> Path:
    logging.disable_progress_bar()
    network.save_pretrained(folder)
    tokenizer(template=template).save_pretrained(folder)
    return folder


def random_model(folder: Path, *, weights: int = 0, **generation: Any) -> Path:
    """A model whose weights are noise: the same noise for the same number."""
    with torch.random.fork_rng():
        torch.manual_seed(weights)
        network = LlamaForCausalLM(LlamaConfig(**sizes(initializer_range=0.2)))
    network.generation_config.update(**generation)
    return save(folder, network)


def scripted_model(
    folder: Path,
    says: str = "",
    *,
    odds: list[float] | None = None,
    template: str | None = TEMPLATE,
    positions: int = POSITIONS,
) -> Path:
    """A model that answers with these words, then with its end mark; or draws bytes by their odds,
    and never ends.
    """
    script = tokenizer()(says)["input_ids"] if says else None
    save(
        folder,
        Scripted(
            ScriptedConfig(**sizes(script=script, odds=odds, max_position_embeddings=positions))
        ),
        template=template,
    )
    Scripted.loaded = 0
    return folder
