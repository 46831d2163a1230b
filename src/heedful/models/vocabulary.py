"""How a tokenizer and a model fit together: the pad, the rows of the embedding table, and tokens that you add.

The tokenizer that is saved with a model reads and writes every text like the one that came in. So a token that text
needs never becomes the pad.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.models import render, template_arguments, templates
from heedful.models.ids import set_ids

_PAD_NAME = re.compile(r"(^|[\W_])pad(ding)?([\W_]|$)", re.IGNORECASE)
_SPARE_NAME = re.compile(r"reserved|unused|extra_id|placeholder|dummy", re.IGNORECASE)
_NEW_PADS = ("<|pad|>", "<|padding|>", "<|heedful_pad|>")


def fit(model: Any, tokenizer: PreTrainedTokenizerBase, name: str, *, marks: bool = True) -> None:
    """Check that a tokenizer fits a model, and allow only its ids.

    `marks`: also set a pad if a token is free for it, and the end of a turn. An encoder has its own.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        token = next(token for token, id_ in tokenizer.get_vocab().items() if id_ == highest)
        raise UserError(
            f"{name}: the tokenizer has ids up to {highest}, the model embeds {rows}. Use its own tokenizer, or take "
            f"{token!r} out of this one."
        )
    set_ids(model, tokenizer)
    # torch gives this row no gradient, and in many models it is that of EOS
    model.get_input_embeddings().padding_idx = None
    if marks:
        set_pad(model, tokenizer)
        render.ensure_end(tokenizer, model.config, getattr(model, "generation_config", None))


def check_extends(tokenizer: PreTrainedTokenizerBase, base: PreTrainedTokenizerBase, ref: str, named: str) -> None:
    """Raise UserError if a tokenizer gives other ids than that of the base, beyond tokens that were added."""
    own = tokenizer.get_vocab()
    other = next((token for token, id_ in base.get_vocab().items() if own.get(token, id_) != id_), None)
    if other is not None or len(own) < len(base):
        such = f", such as {other!r}" if other is not None else ""
        raise UserError(f"{ref}: its tokenizer gives other ids than that of {named}{such}. Give the adapter's own base")


def use_template(model: Any, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Give the chat template arguments of its own, or replace it, and let pad and end of a turn follow."""
    if arguments:
        template_arguments.give(tokenizer, arguments)
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


def add_tokens(model: Any, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> PreTrainedTokenizerBase:
    """The tokenizer with tokens that texts spell, such as <answer>, each one id, and rows for them in the model.

    A new row begins as the mean of the rows that spelled the token before. A special token that the tokenizer has
    already becomes such a token: prompts and answers may then spell it, and reward functions see it.
    """
    _check_addable(tokenizer, names)
    spelled = {name: render.encode(tokenizer, name) for name in names if name not in tokenizer.get_vocab()}
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer = _reloaded(tokenizer)
    ids = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in spelled}
    if max(ids.values(), default=0) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(ids.values()) + 1, mean_resizing=False)
    head = model.get_output_embeddings()
    weights = [model.get_input_embeddings().weight, head.weight, *([head.bias] if head.bias is not None else [])]
    with torch.no_grad():
        for weight in {id(one): one for one in weights}.values():
            for name, id_ in ids.items():
                weight[id_] = weight[spelled[name]].mean(0)
    set_ids(model, tokenizer)
    return tokenizer


def _check_addable(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> None:
    known, added = tokenizer.get_vocab(), tokenizer.added_tokens_encoder
    for name in names:
        where = f"special_tokens: '{name}'"
        if not name or name != name.strip():
            raise UserError(f"{where} is empty or begins or ends with a space. Write the token alone")
        if known.get(name) in templates.facts(tokenizer).hidden - _without_role(tokenizer):
            raise UserError(f"{where} ends or frames a turn, or is the pad of this tokenizer. Choose another name")
        if name in known and name not in added:
            raise UserError(f"{where} is an ordinary token of this tokenizer already. Choose another name")


def _without_role(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Special tokens that are not EOS, BOS, pad or the like, and that the chat template does not write."""
    roles = ("eos", "bos", "pad", "unk", "sep", "cls", "mask")
    taken = {getattr(tokenizer, f"{role}_token_id", None) for role in roles} | {templates.facts(tokenizer).end}
    source = str(tokenizer.chat_template or "")
    return {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.content not in source} - taken


def _reloaded(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer as it comes back from a folder: only then is a former special token an ordinary one everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        again: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    again.name_or_path = tokenizer.name_or_path
    return again


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
