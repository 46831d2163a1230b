"""Load and save Hugging Face causal LMs, and make reward models and value nets from them.

Every model is returned in eval mode, with every dropout at 0 (P17). Reward and value models are plain
`AutoModelForSequenceClassification` with one label. heedful adds `config.heedful_reward_bias` to their score (R5, P16).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING
from transformers.utils import logging as transformers_logging

from heedful import files
from heedful.config import UserError
from heedful.configs.shared import Compute, Lora, TrainingCompute
from heedful.fast import api as fast
from heedful.models import adapters, deferred, encoders, heads, saving, streamed, unread, variants, vocabulary
from heedful.models.dropout import set_dropout
from heedful.models.heads import BIAS
from heedful.models.shards import Shards, is_sharded, put
from heedful.runs.manifest import check_there, model_path

_log = logging.getLogger(__name__)
ModelKind = Literal["policy", "reward", "encoder"]

# What transformers raises for a directory with broken files, such as a config with 0 heads or an unknown dtype.
_LOAD_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError,
    SafetensorError, StrictDataclassError, AssertionError, RuntimeError, MemoryError,
)  # fmt: skip


def load_policy(
    ref: str | Path,
    *,
    dtype: str | torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    shards: Shards | None = None,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a causal LM: a run, a directory or a hub name. Raises UserError for any other model.

    `shards`: weights may stay in their files until `place` cuts the model.
    """
    return _load("policy", ref, dtype, trust_remote_code, shards)


def load_reward(
    ref: str | Path,
    *,
    dtype: str | torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    shards: Shards | None = None,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a reward or value model. Raises UserError for a model without a trained scalar head."""
    return _load("reward", ref, dtype, trust_remote_code, shards)


def load_reward_start(
    ref: str | Path, *, seed: int, trust_remote_code: bool = False, shards: Shards | None = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) to train as a reward model: a reward model, or a causal LM or an encoder with a new head."""
    kind = _start_of(str(ref), trust_remote_code)
    model, tokenizer = _load(kind, ref, torch.float32, trust_remote_code, shards)
    if kind == "policy":
        model = heads.reward_from_policy(model, seed=seed)
    elif kind == "encoder":
        model = encoders.reward_from_encoder(model, seed=seed, pooling=encoders.pooling_of(model_path(ref)))
    else:
        heads.note_unread(model, None)  # from here on it learns to be read at the end of a turn
        heads.set_reward_bias(model, heads.reward_bias(model))
    if encoders.pair_of(tokenizer) is None:
        vocabulary.ensure_pad(model, tokenizer)
    return model, tokenizer


def save(model: Any, tokenizer: PreTrainedTokenizerBase, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write safetensors, config and tokenizer as one directory, whole or not at all. Replaces an older one.

    `dtype`: the precision of the weights in the files. None: that of the model.
    """
    _written(Path(path), "model", lambda folder: saving.write(model, tokenizer, folder, dtype))


def save_adapter(model: Any, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write a trained adapter and the tokenizer as one directory, whole or not at all."""

    def write(folder: Path) -> None:
        adapters.write(model, folder)
        tokenizer.save_pretrained(folder)

    _written(path, "adapter", write)


def writer(
    model: Any, tokenizer: PreTrainedTokenizerBase, save_dtype: str, lora: Lora
) -> Callable[[Path | None], None]:
    """What writes a stage's model: a function of the directory. `save_dtype`: as in the config of the stage.

    A trained adapter is merged into its base, or with `lora.save` = "adapter" written alone. Ranks other than the main
    one call the function with None: a sharded model is gathered by all of them.
    """

    def write(directory: Path | None) -> None:
        alone, dtype = adapters.found(model) and lora.save == "adapter", saving.output_dtype(model, save_dtype)
        if is_sharded(model):
            _write_shards(model, tokenizer, directory, None if alone else dtype)
        elif directory is not None and alone:
            save_adapter(model, tokenizer, directory)
        elif directory is not None:
            save(adapters.merged(model), tokenizer, directory, dtype)

    return write


def _write_shards(
    model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path | None, dtype: torch.dtype | None
) -> None:
    """Write a sharded model, or without `dtype` its adapter alone."""
    if dtype is None:
        trained = streamed.with_trained(model)
        if directory is not None:
            save_adapter(trained, tokenizer, directory)
    elif directory is None:
        streamed.write(model, tokenizer, None, dtype)
    else:
        _written(directory, "model", lambda folder: streamed.write(model, tokenizer, folder, dtype))


def _written(path: Path, what: str, write: Callable[[Path], None]) -> None:
    try:
        with files.replacing(path) as temporary, _quiet():
            temporary.mkdir(parents=True)
            write(temporary)
    except saving.ERRORS as error:
        raise UserError(f"{path}: cannot write the {what} ({_brief(error)})") from None


def place(
    model: Any,
    device: torch.device | str,
    compute: Compute,
    *,
    trained: bool = False,
    shards: Shards | None = None,
) -> Any:
    """Move a model to a device, or cut it into shards, and choose how its forward runs there. Returns the model.

    `trained`: there will be backward passes, for which `compute` may ask to recompute activations. Raises UserError
    for a trained model that does not run as `compute` wants it. A frozen one then runs without, and a warning says so.
    """
    if shards is not None:
        put(model, shards)
    else:
        model.to(device)
        adapters.lower(model, getattr(torch, compute.dtype))
    refused = fast.choose(model, compute.fast, _extras(compute)).refused
    if refused and trained:
        raise UserError(f"{refused}. Leave that setting out")
    if refused:
        _log.warning("%s. This model computes without it", refused)
    if trained and isinstance(compute, TrainingCompute) and compute.activation_checkpointing:
        # the name that this version of transformers has for it
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    return model


def _extras(compute: Compute) -> fast.Extras:
    if not isinstance(compute, TrainingCompute):
        return fast.Extras()
    return fast.Extras(compute.compile == "layer", compute.liger, getattr(torch, compute.dtype))


def context_length(model: Any) -> int:
    """The maximum number of tokens that the model reads. A large number if its config sets no limit."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit - _positions_left_out(model)
    return 1 << 30


def _positions_left_out(model: Any) -> int:
    """The positions that no token has. RoBERTa and its relatives count from behind the padding id."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def _load(
    kind: ModelKind, ref: str | Path, dtype: str | torch.dtype, trust_remote_code: bool, shards: Shards | None = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    ref = model_path(ref)
    found = variants.adapters_of(ref)
    adapter = found[0] if found else None
    source = model_path(found[-1].base) if found else ref
    try:
        config, shared = _config(source, trust_remote_code), _shared(source, trust_remote_code)
    except UserError as error:
        raise UserError(f"{found[-1].ref}: {found[-1].named} of {error}" if found else str(error)) from None
    if adapter is not None and adapter.classifies:
        _as_classifier(source, config, trust_remote_code)
    check_kind(ref, config, kind)
    variants.check_stored(source, config)
    stored = saving.dtype_of_files(Path(source)) or config.dtype  # before the loader writes its own there
    padding = config.get_text_config().pad_token_id
    with _quiet(), _explained(source, config, **shared):
        tokenizer = AutoTokenizer.from_pretrained(_tokenizer_at(ref, source), **shared)
        if found and _tokenizer_at(source, ref) == source != _tokenizer_at(ref, source):
            vocabulary.check_extends(tokenizer, AutoTokenizer.from_pretrained(source, **shared), ref, source)
        cls = _class_of(kind, source, config, trust_remote_code)
        wanted = shards is not None and adapter is None and not trust_remote_code
        model, report = (deferred.build(cls, source, config) if wanted else None), None
        if model is None:
            model, report = cls.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # the report lists them, and they are refused below
                output_loading_info=True,
                **shared,
            )
    from_adapter = adapter is not None and adapter.classifies
    if report is not None:
        variants.check_plain(source, model, report)
        unread.tell_weights(source, report["unexpected_keys"])
        _check_whole(source, report, "score." if from_adapter else "pooler" if kind == "encoder" else "")
    model = variants.plain(model, source)
    unread.settle(source, model, tokenizer, variants.folder_of(_tokenizer_at(ref, source)))
    for one in reversed(found):
        with _quiet(), _explained(one.ref, None, **shared):
            model = variants.merged(model, one)
    pairs = kind == "encoder" or (kind == "reward" and not heads.reads_last_token(model))
    if pairs and not tokenizer.chat_template:
        encoders.read_pairs(model, tokenizer, ref)
    vocabulary.fit(model, tokenizer, ref, marks=encoders.pair_of(tokenizer) is None)
    saving.note_dtype(model, stored)
    heads.note_unread(model, padding)
    return set_dropout(model, 0.0).eval(), tokenizer


def _config(ref: str, trust_remote_code: bool) -> Any:
    shared = _shared(ref, trust_remote_code)
    with _quiet(), _explained(ref, None, **shared):
        return AutoConfig.from_pretrained(ref, **shared)


def _as_classifier(ref: str, config: Any, trust_remote_code: bool) -> None:
    """Change the config of a base to that of a reward model, whose head an adapter has."""
    if not _has_scalar_head(config.architectures):
        config.architectures = [heads.classifier_of(_causal_class(ref, config, trust_remote_code), config).__name__]
        config.num_labels = 1


_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def _tokenizer_at(ref: str, source: str) -> str:
    """Where the tokenizer of a model is. An adapter may have one of its own."""
    return ref if any((Path(ref) / name).exists() for name in _TOKENIZERS) else source


def _check_whole(ref: str, report: dict[str, Any], unused: str) -> None:
    """Raise UserError if weights are missing, but for those with `unused` in their names."""
    lacking = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    lacking = [key for key in lacking if not (unused and unused in key)]
    if lacking:
        more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
        raise UserError(
            f"{ref}: the weights lack {lacking[0]}{more} in the shape of config.json. Save the model again."
        )


def _shared(ref: str, trust_remote_code: bool) -> dict[str, bool]:
    """Arguments for every loader of transformers. Raises UserError for a path that does not exist."""
    check_there(ref)
    return {"local_files_only": Path(ref).is_dir(), "trust_remote_code": trust_remote_code}


def _class_of(kind: ModelKind, ref: str, config: Any, trust_remote_code: bool) -> Any:
    """The class that loads a model: one of transformers, or one that heedful made for its reward models."""
    if kind == "policy":
        return AutoModelForCausalLM
    if kind == "encoder":
        return AutoModel
    name, own = config.architectures[0], heads.library_classifier(config)
    if own is not None and own.__name__ == name:
        return own
    if type(config) in MODEL_MAPPING and encoders.is_encoder(config):
        made = encoders.classifier_of(config)
        if made.__name__ == name:
            return made
    causal = _causal_class(ref, config, trust_remote_code)
    if causal is not None:
        made = heads.classifier_of(causal, config)
        if made.__name__ == name:
            return made
    if own is None and AutoModelForSequenceClassification.__name__ not in (getattr(config, "auto_map", None) or {}):
        raise UserError(f"{ref}: {name} is an architecture that the installed transformers does not know.")
    return AutoModelForSequenceClassification


def _causal_class(ref: str, config: Any, trust_remote_code: bool) -> Any:
    """The causal class of a config, or None. A model with code of its own names it in its config."""
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    own = (getattr(config, "auto_map", None) or {}).get(AutoModelForCausalLM.__name__)
    return get_class_from_dynamic_module(own, ref) if own is not None and trust_remote_code else None


def _start_of(ref: str, trust_remote_code: bool) -> ModelKind:
    """What a reward model can start from at `ref`."""
    ref = model_path(ref)
    found = variants.adapters_of(ref)
    config = _config(model_path(found[-1].base) if found else ref, trust_remote_code)
    if _has_scalar_head(config.architectures) or (found and found[0].classifies):
        return "reward"
    return "encoder" if encoders.is_encoder(config) else "policy"


def _has_scalar_head(architectures: Any) -> bool:
    names = architectures if isinstance(architectures, list) else []
    return any(str(name).endswith(heads.CLASSIFIER) for name in names)


def check_start(ref: str, config: Any) -> None:
    """Raise UserError for a model from which no reward model can start."""
    if not (_has_scalar_head(config.architectures) or encoders.is_encoder(config)):
        check_kind(ref, config, "policy")


def check_kind(ref: str, config: Any, kind: ModelKind) -> None:
    """Raise UserError for a model of another kind, as its config tells."""
    names = config.architectures if isinstance(config.architectures, list) and config.architectures else [""]
    is_reward = _has_scalar_head(names)
    if kind == "reward" and not is_reward:
        raise UserError(
            f"{ref}: {names[0] or 'this model'} has no scalar head. Train a reward model with `heedful reward`."
        )
    if kind == "reward" and config.num_labels != 1:
        raise UserError(f"{ref}: its head has {config.num_labels} outputs, a reward model has one")
    bias = getattr(config, BIAS, 0.0)
    if kind == "reward" and not (isinstance(bias, int | float) and math.isfinite(bias)):
        raise UserError(f"{ref}: {BIAS} in its config.json is {bias!r}. Write a number, or delete it.")
    if kind == "policy" and is_reward:
        raise UserError(f"{ref}: a reward model ({names[0]}) cannot write text. Give a causal language model.")
    own_code = AutoModelForCausalLM.__name__ in (getattr(config, "auto_map", None) or {})
    name = names[0] or config.model_type
    if kind == "policy" and encoders.is_encoder(config):
        raise UserError(f"{ref}: an encoder ({name}) cannot write text. Give a causal language model.")
    if kind == "policy" and not own_code and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(f"{ref}: {name} is no causal language model. Give one, such as Llama or Qwen.")


class _explained:  # noqa: N801
    """A context that turns what transformers raises for a damaged or absent model into one line."""

    def __init__(self, ref: str | Path, config: Any, *, local_files_only: bool, trust_remote_code: bool) -> None:
        self._ref, self._config = str(ref), config
        self._how = local_files_only, trust_remote_code

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # tokenizers raises Exception itself for a tokenizer.json that it cannot read
        if isinstance(error, UserError) or not (isinstance(error, _LOAD_ERRORS) or type(error) is Exception):
            return
        why = None if self._config is None else variants.explain_quantised(self._config, _brief(error))
        why = f"{self._ref}: {why}" if why is not None else _explain(self._ref, *self._how, error)
        raise UserError(why) from None


def _explain(ref: str, local: bool, trusted: bool, error: Exception) -> str:
    if not trusted and "trust_remote_code" in str(error):
        return f"{ref}: the model comes with its own code. Read it, and allow it with trust_remote_code."
    there = {file.suffix for file in Path(ref).iterdir()} if local else set()
    if {".bin", ".pt", ".pth"} & there and ".safetensors" not in there:
        return f"{ref}: its weights are pickles, which can hold code. Save the model as safetensors (save_pretrained)"
    if {".gguf", ".onnx"} & there and ".safetensors" not in there:
        form = "GGUF" if ".gguf" in there else "ONNX"
        return f"{ref}: holds {form} weights, which cannot be trained. Give the model that they were made from"
    if local and any(_is_pointer(file) for file in Path(ref).glob("*.safetensors")):
        return f"{ref}: its weights are pointers of Git LFS. Fetch them there with: git lfs pull"
    if local and not any((Path(ref) / name).exists() for name in _TOKENIZERS):
        return f"{ref}: has no tokenizer. Save one there (tokenizer.save_pretrained)"
    if local:
        return f"{ref}: not a complete model directory ({_brief(error)})"
    return f"{ref}: no such directory, and the hub does not give it ({_brief(error)}). Check the path or the name"


def _is_pointer(file: Path) -> bool:
    """Whether a file is what Git leaves in place of a large one."""
    with open(file, "rb") as opened:
        return opened.read(40).startswith(b"version https://git-lfs")


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
