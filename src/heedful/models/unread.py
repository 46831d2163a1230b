"""What the folder of a model says and heedful does not use, or uses in another way: one line for each."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.files import read_json

_log = logging.getLogger(__name__)
_SAMPLING = (
    "bad_words_ids", "begin_suppress_tokens", "do_sample", "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "guidance_scale", "length_penalty", "max_length", "max_new_tokens",
    "min_length", "min_new_tokens", "min_p", "no_repeat_ngram_size", "num_beams", "penalty_alpha",
    "repetition_penalty", "sequence_bias", "stop_strings", "suppress_tokens", "temperature", "top_h", "top_k", "top_p",
    "typical_p",
)  # fmt: skip
"""Fields of a generation config that change what a model writes."""
_JINJA, _TEMPLATE_JSON, _TOKENIZER_CONFIG = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
_MOST_NAMED = 3


def tell_weights(ref: str, unexpected: Collection[str]) -> None:
    """Log the weights in a model's files for which config.json has no place, such as further layers."""
    if unexpected:
        names = sorted(unexpected)
        more = f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
        _say(f"{ref}: weights without a place in config.json are not used: {', '.join(names[:_MOST_NAMED])}{more}")


def settle(ref: str, model: Any, tokenizer: PreTrainedTokenizerBase, tokens_at: Path) -> None:
    """Settle where the files of a model or its tokenizer contradict each other. Log which one counts."""
    _untie(ref, model)
    _tell_activation(ref, model.config)
    _settle_template(tokenizer, tokens_at)
    _settle_tokens(tokenizer, ref)


def _untie(ref: str, model: Any) -> None:
    """Correct a config that calls the head tied to the embedding where the files hold a head of its own."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    configs = [model.config, model.config.get_text_config()]
    if head is None or head.weight is table.weight or not any(one.tie_word_embeddings for one in configs):
        return
    for one in configs:
        one.tie_word_embeddings = False
    _say(
        f"{ref}: the files hold a head of its own, though config.json has tie_word_embeddings = true. "
        "The head is used, and saved models say false"
    )


def _settle_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Use the chat template of chat_template.json if there is no other. Log which of two templates counts."""
    if not tokenizer.chat_template:
        older = _read(folder / _TEMPLATE_JSON).get("chat_template")
        if isinstance(older, str):
            tokenizer.chat_template = older
        return
    other = _read(folder / _TOKENIZER_CONFIG).get("chat_template")
    named = tokenizer.chat_template
    own = named.get("default") if isinstance(named, dict) else named
    if (folder / _JINJA).is_file() and isinstance(other, str) and other.strip() != str(own).strip():
        _say(
            f"{folder}: {_JINJA} and {_TOKENIZER_CONFIG} hold different chat templates. That of {_JINJA} is used. "
            "Delete the other one"
        )


def _settle_tokens(tokenizer: PreTrainedTokenizerBase, ref: str) -> None:
    """Switch off BPE dropout, with which a text has other tokens each time."""
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if (share := getattr(model, "dropout", None)) is not None and share > 0:
        _say(f"{ref}: tokenizer.json has a BPE dropout of {share:g}. It is not used: texts keep their tokens")
        model.dropout = None


def tell_sampling(tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
    """Log what the generation config of a model wants of sampling. The settings of heedful decide instead."""
    wanted = getattr(model, "generation_config", None)
    if wanted is None:
        return
    differing = wanted.to_diff_dict()
    said = [f"{name} = {differing[name]}" for name in _SAMPLING if differing.get(name) is not None]
    if said:
        _say(
            f"{tokenizer.name_or_path}: generation_config.json has {', '.join(said)}. This is not used: the settings "
            "under generation decide"
        )


def _tell_activation(ref: str, config: Any) -> None:
    """Log the activation that sentence-transformers puts on a score. Scores here are the numbers before it."""
    own = getattr(config, "sentence_transformers", None)
    named = own.get("activation_fn") if isinstance(own, dict) else None
    named = named or getattr(config, "sbert_ce_default_activation_function", None)
    if isinstance(named, str) and not named.endswith("Identity"):
        _say(f"{ref}: config.json puts {named.rpartition('.')[2]} on the score. It is not used: scores are before it")


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Empty if the file is not there, or holds something else."""
    try:
        found = read_json(path) if path.is_file() else {}
    except (UserError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@functools.lru_cache(maxsize=256)  # a command loads a model several times, and says this once
def _say(line: str) -> None:
    _log.warning("%s", line)
