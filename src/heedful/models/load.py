"""Load and save Hugging Face causal LMs, and make reward models and value nets from them.

Every model is returned in eval mode, with every dropout at 0 (P17). Reward and value models are plain
`AutoModelForSequenceClassification` with one label. heedful adds `config.heedful_reward_bias` to their score (R5, P16).
"""

from __future__ import annotations

import copy
import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from heedful import files
from heedful.config import UserError
from heedful.configs.shared import Compute
from heedful.fast import forward
from heedful.models import vocabulary
from heedful.models.heads import BIAS, reward_bias, set_reward_bias
from heedful.runs.manifest import model_path

# Names of residual dropout, which acts on what a layer adds to the residual stream. Architectures keep it as an
# attribute inside a decoder layer, or in the config.
_RESIDUAL_DROPOUT = {
    "dropout",
    "hidden_dropout",
    "post_attention_dropout",
    "post_mlp_dropout",
    "resid_pdrop",
    "resid_attn_dropout",
    "resid_dropout",
    "resid_mlp_dropout",
    "residual_dropout",
}


# What transformers raises for a directory with broken files, such as a config with 0 heads or an unknown dtype.
_LOAD_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError,
    SafetensorError, StrictDataclassError,
)  # fmt: skip


def load_policy(
    ref: str | Path, *, dtype: str | torch.dtype = torch.float32, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a causal LM: a run, a directory or a hub name. Raises UserError for any other model."""
    return _load(AutoModelForCausalLM, ref, dtype, trust_remote_code)


def load_reward(
    ref: str | Path, *, dtype: str | torch.dtype = torch.float32, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a reward or value model. Raises UserError for a model without a trained scalar head."""
    return _load(AutoModelForSequenceClassification, ref, dtype, trust_remote_code)


def reward_from_policy(policy: Any, *, seed: int) -> Any:
    """A reward model: a copy of the policy's body with a new head, normal with std 1/sqrt(D + 1), and bias 0 (R1)."""
    model = value_from_policy(policy)
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(weight.shape, generator=generator, dtype=torch.float32) / (weight.shape[1] + 1) ** 0.5
    weight.data.copy_(normal)
    return model


def load_reward_start(
    ref: str | Path, *, seed: int, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) to train as a reward model: a reward model, or a causal LM with a new head."""
    if _is_reward(ref):
        model, tokenizer = load_reward(ref, trust_remote_code=trust_remote_code)
    else:
        policy, tokenizer = load_policy(ref, trust_remote_code=trust_remote_code)
        model = reward_from_policy(policy, seed=seed)
    vocabulary.ensure_pad(model, tokenizer)
    return model, tokenizer


def value_from_reward(reward: Any, weight: float = 1.0) -> Any:
    """A value net: a copy of the whole reward model with head and bias (P16).

    `weight`: the weight of the reward model in the reward. It multiplies head and bias: values are sums of rewards.
    """
    value = set_dropout(copy.deepcopy(reward), 0.0).eval()
    with torch.no_grad():
        value.score.weight.mul_(weight)
    set_reward_bias(value, weight * reward_bias(value))
    return value


def save(model: Any, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Write safetensors, config and tokenizer as one directory, whole or not at all. Replaces an older one."""
    path = Path(path)
    try:
        with files.replacing(path) as temporary, _quiet():
            temporary.mkdir(parents=True)
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot write the model ({_brief(error)})") from None


def place(model: Any, device: torch.device | str, compute: Compute, *, trained: bool = False) -> Any:
    """Move a model to a device and choose how its forward runs there. Returns the model.

    `trained`: there will be backward passes, for which `compute` may ask to recompute activations.
    """
    model.to(device)
    forward.choose(model, compute.fast)
    if trained and compute.activation_checkpointing:
        # the name that this version of transformers has for it
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    return model


def set_dropout(model: Any, p: float) -> Any:
    """Set residual dropout to `p` (S1) and every other dropout to 0. Returns the model.

    Raises UserError for p > 0 if the architecture has no residual dropout. Llama, Qwen, Gemma and Mistral have none:
    their dropout is in the attention.
    """
    if not 0.0 <= p < 1.0:
        raise UserError(f"dropout {p}: must be at least 0 and less than 1")
    if p > 0 and not has_dropout(model):
        raise UserError(f"dropout {p}: {type(model).__name__} has no residual dropout. Set dropout=0.")
    for holder, field, residual in _dropouts(model):
        setattr(holder, field, p if residual else 0.0)
    return model


@torch.no_grad()
def has_dropout(model: Any) -> bool:
    """Whether the architecture has residual dropout. Compares two forward passes with it."""
    before = [(holder, field, getattr(holder, field)) for holder, field, _ in _dropouts(model)]
    training = model.training
    ids_BS = torch.zeros(1, 4, dtype=torch.long, device=model.device)
    for holder, field, residual in _dropouts(model):
        setattr(holder, field, 0.5 if residual else 0.0)
    model.train()
    try:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            first, second = (model(input_ids=ids_BS, use_cache=False).logits for _ in range(2))
    finally:
        model.train(training)
        for holder, field, value in before:
            setattr(holder, field, value)
    return not torch.equal(first, second)


def context_length(model: Any) -> int:
    """The maximum number of tokens that the model reads. A large number if its config sets no limit."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return 1 << 30


def _load(
    auto_class: Any, ref: str | Path, dtype: str | torch.dtype, trust_remote_code: bool
) -> tuple[Any, PreTrainedTokenizerBase]:
    ref = model_path(ref)
    local = Path(ref).is_dir()
    if not local and (Path(ref).exists() or ref.startswith((".", "/", "~")) or ref.count("/") > 1):
        raise UserError(f"{ref}: no such model directory")
    wants_reward = auto_class is AutoModelForSequenceClassification
    shared = {"local_files_only": local, "trust_remote_code": trust_remote_code}
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(ref, **shared)
            _check_kind(ref, config, wants_reward)
            tokenizer = AutoTokenizer.from_pretrained(ref, **shared)
            model, report = auto_class.from_pretrained(
                ref,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # the report lists them, and they are refused below
                output_loading_info=True,
                **shared,
            )
        except UserError:
            raise
        except _LOAD_ERRORS as error:
            raise UserError(_explain(ref, local, trust_remote_code, error)) from None
    lacking = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if lacking:
        more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
        raise UserError(
            f"{ref}: the weights lack {lacking[0]}{more} in the shape of config.json. Save the model again."
        )
    vocabulary.fit(model, tokenizer, ref)
    return set_dropout(model, 0.0).eval(), tokenizer


def _is_reward(ref: str | Path) -> bool:
    """Whether the config says that the model is a reward model. False for broken files: the loader explains those."""
    path = Path(model_path(ref)) / "config.json"
    try:
        return _has_scalar_head(json.loads(path.read_bytes()).get("architectures"))
    except (OSError, ValueError, AttributeError):
        return False


def _has_scalar_head(architectures: Any) -> bool:
    names = architectures if isinstance(architectures, list) else []
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def _check_kind(ref: str, config: Any, wants_reward: bool) -> None:
    names = config.architectures if isinstance(config.architectures, list) and config.architectures else [""]
    is_reward = _has_scalar_head(names)
    if wants_reward and not is_reward:
        raise UserError(
            f"{ref}: {names[0] or 'this model'} has no scalar head. Train a reward model with `heedful reward`."
        )
    if wants_reward and config.num_labels != 1:
        raise UserError(f"{ref}: its head has {config.num_labels} outputs, a reward model has one")
    bias = getattr(config, BIAS, 0.0)
    if wants_reward and not (isinstance(bias, int | float) and math.isfinite(bias)):
        raise UserError(f"{ref}: {BIAS} in its config.json is {bias!r}. Write a number, or delete it.")
    if is_reward and not wants_reward:
        raise UserError(f"{ref}: a reward model ({names[0]}) cannot write text. Give a causal language model.")


def _explain(ref: str, local: bool, trusted: bool, error: Exception) -> str:
    if not trusted and "trust_remote_code" in str(error):
        return f"{ref}: the model comes with its own code. Read it, and allow it with trust_remote_code."
    if local:
        return f"{ref}: not a complete model directory ({_brief(error)})"
    return f"{ref}: no such directory, and the hub does not give it ({_brief(error)})"


def value_from_policy(policy: Any) -> Any:
    """A sequence classifier with one label: a copy of the policy's body, and a head of zeros.

    It is the value net for rewards that are not models.
    """
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    setattr(config, BIAS, 0.0)
    try:
        with torch.device("meta"):  # the body below replaces it, so that it needs no weights
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        raise UserError(
            f"{type(policy).__name__}: transformers has no sequence classifier for it. Choose another architecture."
        ) from None
    if not isinstance(getattr(model, "score", None), nn.Linear) or model.base_model_prefix != policy.base_model_prefix:
        raise UserError(
            f"{type(model).__name__} does not consist of a body and a linear score. Choose another architecture."
        )
    body = copy.deepcopy(policy.base_model)
    sample: Tensor = next(body.parameters())
    model.score = nn.Linear(
        model.score.in_features, 1, bias=model.score.bias is not None, device=sample.device, dtype=sample.dtype
    )
    for parameter in model.score.parameters():
        nn.init.zeros_(parameter)
    setattr(model, model.base_model_prefix, body)
    return set_dropout(model, 0.0).eval()


def _dropouts(model: Any) -> Iterator[tuple[Any, str, bool]]:
    """Every dropout of a model and its config: (object, field with the probability, whether it is residual)."""
    for name, module in model.named_modules():
        in_layer = any(part.isdigit() for part in name.split("."))
        for attribute, child in module.named_children():
            if isinstance(child, nn.Dropout):
                yield child, "p", in_layer and attribute in _RESIDUAL_DROPOUT
        for attribute in _numbers_named_dropout(module):
            yield module, attribute, in_layer and attribute in _RESIDUAL_DROPOUT
    for config in {id(part): part for part in (model.config, model.config.get_text_config())}.values():
        for attribute in _numbers_named_dropout(config):
            yield config, attribute, attribute in _RESIDUAL_DROPOUT


def _numbers_named_dropout(holder: object) -> list[str]:
    return [name for name, value in vars(holder).items() if "drop" in name and type(value) in (float, int)]


def _not_about_masks(record: logging.LogRecord) -> bool:
    # GPT-2 and others warn about right-padded causal batches, which need no mask (models/batches.py).
    return "passing in an `attention_mask`" not in str(record.msg)


logging.getLogger("transformers.modeling_utils").addFilter(_not_about_masks)


class _quiet:  # noqa: N801
    """Turn off the advice and the progress bars of transformers. heedful's messages say what a user needs."""

    def __enter__(self) -> None:
        self.verbosity = transformers_logging.get_verbosity()
        self.bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers_logging.set_verbosity(self.verbosity)
        if self.bars:
            transformers_logging.enable_progress_bar()


def _brief(error: BaseException) -> str:
    """The first sentence of an error."""
    return re.split(r"\.(?:\s|$)", " ".join(str(error).split()))[0][:200] or type(error).__name__
