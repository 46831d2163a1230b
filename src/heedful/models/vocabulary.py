"""How a tokenizer and a model fit together: the pad, and the rows of the embedding table.

The tokenizer that is saved with a model reads and writes every text like the one that came in. So a token that text
needs never becomes the pad.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.models import render
from heedful.models.ids import set_ids

_PAD_NAME = re.compile(r"(^|[\W_])pad(ding)?([\W_]|$)", re.IGNORECASE)
_SPARE_NAME = re.compile(r"reserved|unused|extra_id|placeholder|dummy", re.IGNORECASE)
_NEW_PADS = ("<|pad|>", "<|padding|>", "<|heedful_pad|>")


def fit(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Check that a tokenizer fits a model, allow only its ids, set a pad if a token is free, and the end of a turn."""
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise UserError(
            f"{name}: the tokenizer has ids up to {highest}, the model embeds {rows}. Use its own tokenizer."
        )
    set_ids(model, tokenizer)
    # torch gives this row no gradient, and in many models it is that of EOS
    model.get_input_embeddings().padding_idx = None
    set_pad(model, tokenizer)
    render.ensure_end(tokenizer, model.config, getattr(model, "generation_config", None))


def set_pad(model: Any, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Set a pad that is neither EOS nor BOS in tokenizer and configs. False if no token is free: all stays as it is.

    It is the first of these that exists: the tokenizer's own pad, a special token named like a pad, a reserved one, an
    unknown-token that text never needs. No token is added, so texts have the same ids as before.
    """
    configs = _configs(model)
    taken = {*render.stop_ids(tokenizer, *configs), tokenizer.bos_token_id}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in taken:
        free = _free_token(tokenizer, taken)
        if free is None:
            return False
        tokenizer.pad_token = free
    for config in configs:
        config.pad_token_id = tokenizer.pad_token_id
    return True


def ensure_pad(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """`set_pad`, else add a pad token, with a row of zeros in the embedding table where none is spare.

    A reward model needs one: transformers reads its score at the last token that is not the pad.
    """
    if set_pad(model, tokenizer):
        return
    vocabulary = tokenizer.get_vocab()
    name = next(name for name in _NEW_PADS if name not in vocabulary)
    tokenizer.add_special_tokens({"pad_token": name})
    pad = tokenizer.pad_token_id
    if pad >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(pad + 1, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[pad] = 0.0
    set_ids(model, tokenizer)
    for config in _configs(model):
        config.pad_token_id = pad


def _configs(model: Any) -> list[Any]:
    generation = getattr(model, "generation_config", None)
    return [model.config, model.config.get_text_config(), *([generation] if generation is not None else [])]


def _free_token(tokenizer: PreTrainedTokenizerBase, taken: set[int | None]) -> str | None:
    """A special token that no text needs, as `set_pad` says."""
    special = {id_: token.content for id_, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special}
    unknown = tokenizer.unk_token_id
    spare = {id_: name for id_, name in special.items() if id_ not in taken and id_ != unknown}
    for pattern in (_PAD_NAME, _SPARE_NAME):
        for name in spare.values():
            if pattern.search(name):
                return name
    if unknown in special and unknown not in taken and unknown not in render.encode(tokenizer, render.RARE_TEXT):
        return special[unknown]
    return None
