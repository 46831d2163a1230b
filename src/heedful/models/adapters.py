"""LoRA (Hu et al. 2021): small trained matrices next to frozen weights. The layers are those of peft.

With `lora.load_in_4bit` the frozen linear layers are those of bitsandbytes (QLoRA, Dettmers et al. 2023).

A model keeps its class, its names and its forward. Only its linear layers become peft's, so that the fast path, scoring
and heads work as before. Copies share the frozen tensors: a base is in memory once, however many models use it.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from heedful.config import UserError, install
from heedful.configs.shared import Lora
from heedful.files import write_json
from heedful.models import deferred, saving
from heedful.models.heads import CLASSIFIER
from heedful.models.variants import BASE
from heedful.runs.manifest import model_path, parent

NAME = "default"  # peft's for the only adapter of a model
HEADS = ("score", "classifier")


def add(model: Any, settings: Lora, *, seed: int, base: str) -> Any:
    """Freeze a model and put trained matrices next to its linear layers. Rank 0 changes nothing. Returns the model.

    A scalar head stays trained as it is. `base`: the reference of the model, for the files of an adapter. The matrices
    change nothing until the first step: one of each pair is 0. Raises UserError without peft or for an unknown target.
    """
    if not settings.rank:
        if settings.load_in_4bit:
            raise UserError("lora.load_in_4bit is for frozen weights. Give lora.rank, such as 16, as well")
        return model
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"lora.rank {settings.rank} needs peft. {install('lora')}")
    peft: Any = importlib.import_module("peft")
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or 2 * settings.rank,
        target_modules=_targets(model, settings.targets),
        task_type="SEQ_CLS" if _head(model) else "CAUSAL_LM",
        base_model_name_or_path=_absolute(base),
    )
    sources = {id(parameter): source for name, parameter in model.named_parameters()
               if (source := deferred.sources_of(model).get(name)) is not None}  # fmt: skip
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that only matter when peft writes a model
        if settings.load_in_4bit:
            _hold_in_4_bits(model)
        peft.inject_adapter_in_model(config, model, adapter_name=NAME)
    if sources:  # the base's parameters have other names now
        named = {name: sources[id(weight)] for name, weight in model.named_parameters() if id(weight) in sources}
        deferred.set_sources(model, named)
    _draw(model, seed)
    for parameter in getattr(model, _head(model) or "", nn.Module()).parameters():
        parameter.requires_grad_(True)
    vars(model).pop("is_loaded_in_4bit", None)
    model._heedful_lora = config
    return model


@torch.no_grad()
def _draw(model: Any, seed: int) -> None:
    """Begin as peft does: the first matrix of each pair as in a new linear layer, the second one 0."""
    generator = torch.Generator().manual_seed(seed)
    for layer in _layers(model):
        for matrices in (layer.lora_A, layer.lora_B):
            if matrices[NAME].weight.is_meta:  # the base is still in its files
                matrices[NAME].to_empty(device="cpu")
        first, second = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        bound = first.shape[1] ** -0.5
        first.copy_(torch.empty(first.shape).uniform_(-bound, bound, generator=generator))
        second.zero_()


def _layers(model: Any) -> list[Any]:
    layer_class = importlib.import_module("peft.tuners.lora").LoraLayer
    return [module for module in model.modules() if isinstance(module, layer_class)]


def found(model: Any) -> bool:
    """Whether a model has adapters."""
    return getattr(model, "_heedful_lora", None) is not None


def in_4_bits(model: Any) -> bool:
    """Whether frozen weights of a model are held in 4 bits."""
    return any(_is_4_bit(module) for module in model.modules())


def lower(model: Any, dtype: torch.dtype) -> None:
    """Keep the frozen weights of an adapted model in the precision of its passes, if that is the one of its files.

    Then nothing is lost. All models that share these weights have them so.
    """
    if not found(model) or saving.stored_dtype(model) != dtype or in_4_bits(model):
        return
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(dtype)


def share(model: Any) -> Any:
    """A copy of a model that has the same frozen tensors, and copies of the trained ones."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters() if not weight.requires_grad})


def without(model: Any) -> Any:
    """The model as it was before `add`, in the same tensors: the reference of a policy, the base of a value net."""
    return _plain(model, lambda layer: layer.get_base_layer())


def merged(model: Any) -> Any:
    """A plain model in which each adapted weight is base + trained product. A model without adapters is itself.

    Weights of 4 bits are those that the model computes with.
    """
    if not found(model):
        return model
    plain = _plain(model, _merged_layer)
    for name, module in list(plain.named_modules()):
        if _is_4_bit(module):  # a layer without adapter
            plain.set_submodule(name, _computed_back(module))
    return plain


def write(model: Any, directory: Path) -> None:
    """Write the adapter alone, in peft's format, with the hash of the base that it belongs to."""
    peft: Any = importlib.import_module("peft")
    config = model._heedful_lora
    weights = peft.get_peft_model_state_dict(model, adapter_name=NAME)
    head = _head(model)
    if head:
        config.modules_to_save = [head]
        weights |= {f"{head}.{name}": tensor for name, tensor in getattr(model, head).state_dict().items()}
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
        str(directory / "adapter_model.safetensors"), metadata={"format": "pt"},
    )  # fmt: skip
    config.save_pretrained(str(directory))
    write_json(directory / BASE, {"weights_sha256": parent(config.base_model_name_or_path).get("weights_sha256")})


def _plain(model: Any, make: Any) -> Any:
    layer_class = importlib.import_module("peft.tuners.lora").LoraLayer
    copied = share(model)
    for name, module in list(copied.named_modules()):
        if isinstance(module, layer_class):
            copied.set_submodule(name, make(module))
    for attribute in ("_heedful_lora", "peft_config"):
        vars(copied).pop(attribute, None)
    deferred.renamed(copied, lambda name: name.replace(".base_layer.", "."))
    return copied.requires_grad_(False).eval()


def _merged_layer(layer: Any) -> nn.Module:
    base: Any = layer.get_base_layer()
    if _is_4_bit(base):
        base = _computed_back(base)
    plain = copy.copy(base)
    plain._parameters = dict(base._parameters)
    delta = layer.get_delta_weight(NAME)
    weight = base.weight.detach().to(delta.dtype) + delta
    plain.weight = nn.Parameter(weight.to(base.weight.dtype), requires_grad=False)
    return plain


def _hold_in_4_bits(model: Any) -> None:
    """Make the linear layers of the body bitsandbytes' ones: normal floats of 4 bits, with scales of 8 bits.

    Layers that are so already stay. The head and everything else keep their precision.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"lora.load_in_4bit needs bitsandbytes. {install('qlora')}")
    if deferred.sources_of(model):
        raise UserError("lora.load_in_4bit needs whole models. Leave out compute.shard, or load_in_4bit")
    modules = dict(model.named_modules())
    layers = {name: modules[name] for name in _linear(model) if isinstance(modules[name], nn.Linear)}
    if not layers:
        raise UserError(f"lora.load_in_4bit: {type(model).__name__} has no linear layer that bitsandbytes can hold")
    for name, layer in layers.items():
        if not _is_4_bit(layer):
            model.set_submodule(name, _quantised(layer))
    model.is_loaded_in_4bit = True  # peft asks


def _quantised(layer: nn.Linear) -> Any:
    library: Any = importlib.import_module("bitsandbytes")
    with torch.device("meta"):  # the weight below replaces its own
        held = library.nn.Linear4bit(layer.in_features, layer.out_features, bias=False, quant_type="nf4")
    held.weight = library.nn.Params4bit(
        layer.weight.detach(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=held
    ).to(layer.weight.device)
    held.bias = layer.bias
    held.support_avx512bf16_for_cpu = False  # it would change the weights at the first forward, and compute in bfloat16
    return held


def _computed_back(held: Any) -> nn.Linear:
    """A plain layer with the weights that a layer of 4 bits computes with."""
    library: Any = importlib.import_module("bitsandbytes")
    weight = library.functional.dequantize_4bit(held.weight.data, held.weight.quant_state)
    with torch.device("meta"):
        plain = nn.Linear(held.in_features, held.out_features, bias=False)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = held.bias
    return plain


def _is_4_bit(module: nn.Module) -> bool:
    return type(module).__name__ == "Linear4bit" and type(module).__module__.startswith("bitsandbytes.")


def _linear(model: Any) -> list[str]:
    """The names of the linear layers of the body."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return [
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head and name != _head(model)
    ]  # fmt: skip


def _targets(model: Any, wanted: list[str]) -> list[str]:
    """Last parts of the names of the linear layers to adapt: all of the body, or those that are wanted."""
    linear = {name.rpartition(".")[2] for name in _linear(model)}
    unknown = sorted(set(wanted) - linear)
    if unknown or not linear:
        raise UserError(
            f"lora.targets: {type(model).__name__} has no linear layer {unknown[0] if unknown else 'at all'}. "
            f"It has {', '.join(sorted(linear)) or 'none'}"
        )
    return sorted(wanted or linear)


def _head(model: Any) -> str | None:
    """The name of the scalar head of a reward or value model."""
    if not type(model).__name__.endswith(CLASSIFIER):
        return None
    return next((name for name in HEADS if isinstance(getattr(model, name, None), nn.Module)), None)


def _absolute(base: str) -> str:
    where = model_path(base)
    return str(Path(where).resolve()) if Path(where).is_dir() else where
