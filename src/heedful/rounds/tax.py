"""The alignment tax: the loss of a model on held-out texts (E6)."""

from __future__ import annotations

import torch

from heedful.configs.shared import Compute
from heedful.learning import examples, likelihood
from heedful.learning.passes import Passes
from heedful.models import load
from heedful.models.devices import device_of
from heedful.training.parallel import Ranks


def loss(ref: str, texts: str, compute: Compute) -> float:
    """Loss in nats a token on a file of texts."""
    model, tokenizer = load.load_policy(ref)
    device = device_of(compute)
    load.place(model, device, compute)
    alone = Ranks(0, 1, device, torch.float32)
    rows = examples.documents(texts, tokenizer, load.context_length(model))
    return likelihood.mean_loss(model, rows, Passes(tokenizer.pad_token_id, compute.micro_tokens, alone))
