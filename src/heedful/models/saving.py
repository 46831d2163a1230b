"""Write models: the precision of the files, and values that transformers reads but refuses to write.

A model remembers in which precision its files hold the weights. What a stage makes of it is saved in the same one,
unless `save_dtype` says otherwise.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import GENERATION_CONFIG_NAME

_STORED = "_heedful_stored_dtype"
_CODE = "_heedful_code"
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_log = logging.getLogger(__name__)

# What transformers and safetensors raise where a model cannot be written.
ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)


def note_dtype(model: Any, dtype: Any) -> None:
    """Remember the precision of the files that a model comes from. What is no torch dtype counts as float32."""
    setattr(model, _STORED, dtype if dtype in _FLOATS.values() else torch.float32)


def stored_dtype(model: Any) -> torch.dtype:
    """The precision of the files that the model, or the model it was made from, was loaded from. New: float32."""
    known: torch.dtype = getattr(model, _STORED, torch.float32)
    return known


def output_dtype(model: Any, wanted: str) -> torch.dtype:
    """The precision that `save_dtype` asks for."""
    return stored_dtype(model) if wanted == "auto" else getattr(torch, wanted)


def note_code(model: Any, cls: type[Any]) -> None:
    """Remember a class whose Python files must be saved with the model, if they are not part of transformers."""
    if cls.is_remote_code():
        setattr(model, _CODE, cls)


def dtype_of_files(directory: Path) -> torch.dtype | None:
    """The precision that most weights of a local model directory have. None for a hub name or without floats.

    Files that are damaged count for nothing: the loader says what is wrong with them.
    """
    count: Counter[torch.dtype] = Counter()
    for file in directory.glob("*.safetensors") if directory.is_dir() else ():
        try:
            with safe_open(file, framework="pt") as tensors:
                parts = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118
        except (SafetensorError, OSError):
            continue
        for part in parts:
            if part.get_dtype() in _FLOATS:
                count[_FLOATS[part.get_dtype()]] += math.prod(part.get_shape())
    return count.most_common(1)[0][0] if count else None


def write(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path, dtype: torch.dtype | None = None) -> None:
    """Fill a directory with safetensors in `dtype` (None: the model's own), config and tokenizer."""
    with _weights_in(model, dtype or model.dtype), _any_generation_config(model, directory):
        model.save_pretrained(directory)
    _write_rest(model, tokenizer, directory)


def write_around(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """The same without weights. Their precision is that of the model."""
    with _any_generation_config(model, directory):
        model.save_pretrained(directory, state_dict={})
    for file in directory.glob("*.safetensors"):
        file.unlink()
    _write_rest(model, tokenizer, directory)


def _write_rest(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    if getattr(model, _CODE, None) is not None:
        custom_object_save(getattr(model, _CODE), directory)
    tokenizer.save_pretrained(directory)


def kept_in_float32(model: Any) -> Callable[[str], bool]:
    """Whether a family keeps the weight of a name in float32, whatever the precision of the rest."""
    exempt = {*(getattr(model, "_keep_in_fp32_modules", None) or ())}
    exempt |= {*(getattr(model, "_keep_in_fp32_modules_strict", None) or ())}
    return lambda name: not exempt.isdisjoint(name.split("."))


def float16_or_wider(largest: float) -> torch.dtype:
    """float32 if float16 would make an infinity of the largest weight."""
    if largest <= torch.finfo(torch.float16).max:
        return torch.float16
    _log.warning("a weight is too large for float16. The model is saved in float32")
    return torch.float32


@contextmanager
def _weights_in(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Inside, the weights of a model are in another precision. Afterwards they are the same tensors as before.

    Weights that the family keeps in float32 stay so. So do all, if float16 would make an infinity of a weight.
    """
    exempt = kept_in_float32(model)
    weights = [
        weight
        for name, weight in model.named_parameters()
        if weight.is_floating_point() and weight.dtype != dtype and not exempt(name)
    ]
    if weights and dtype == torch.float16:
        largest = max(float(weight.detach().abs().max()) for weight in weights)
        weights = weights if float16_or_wider(largest) == dtype else []
    before = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.to("cpu", dtype)
        yield
    finally:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data


@contextmanager
def _any_generation_config(model: Any, directory: Path) -> Iterator[None]:
    """Write the generation config as it is, also one whose values contradict each other.

    Public models have a temperature next to do_sample = false. transformers reads that, and refuses to write it.
    """
    if not model.can_generate():
        yield
        return
    generation = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = generation
    generation.to_json_file(directory / GENERATION_CONFIG_NAME)
