"""The architecture of a model that pretraining makes from nothing."""

from __future__ import annotations

import math
from typing import Any

from transformers import LlamaConfig

from heedful.configs.pretrain import PretrainConfig


def config_of(config: PretrainConfig, vocabulary: int, **tokens: Any) -> LlamaConfig:
    """A Llama-shaped config. `tokens`: the ids of special tokens."""
    width = config.hidden
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=math.ceil(width * 8 / 3 / 32) * 32,
        num_hidden_layers=config.depth,
        num_attention_heads=width // 32,
        max_position_embeddings=config.context,
        initializer_range=0.02 * math.sqrt(768 / width),  # GPT-2's at its width: a narrow model needs more
        tie_word_embeddings=True,
        **tokens,
    )
