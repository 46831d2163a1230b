"""Models in another form: adapters on a base (peft), and quantised weights. Both become plain models when they load.

heedful computes and saves plain weights. So an adapter is merged into its base, and quantised weights are computed
back. Both need packages that heedful does not install.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import ADAPTER_CONFIG_NAME, ADAPTER_SAFE_WEIGHTS_NAME, ADAPTER_WEIGHTS_NAME

from heedful.config import UserError
from heedful.files import read_json
from heedful.runs.manifest import adapters, parent

# Packages by their names on the index, by quant_method of the config. Others are named by transformers' own message.
_PACKAGES = {
    "aqlm": ("aqlm", "accelerate"),
    "auto-round": ("auto-round",),
    "awq": ("gptqmodel", "accelerate"),
    "bitnet": ("accelerate",),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed-tensors",),
    "eetq": ("kernels", "accelerate"),
    "fp8": ("accelerate",),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq", "accelerate"),
    "mxfp4": ("kernels", "accelerate"),
    "quanto": ("optimum-quanto", "accelerate"),
    "torchao": ("torchao",),
}


# What quantised weights have next to them: of GPTQ and AWQ, bitsandbytes, FP8 and compressed-tensors, MLX, gpt-oss
_COMMON = {"scales", "biases", "input_scale", "weight_scale"}
"""Of these, names that a plain module may also have."""
_SCALES = _COMMON | {
    "qweight", "qzeros", "g_idx", "SCB", "weight_format", "weight_scale_inv", "weight_packed", "weight_zero_point",
    "absmax", "quant_map", "down_proj_blocks", "gate_up_proj_blocks", "weight_scale_2",
}  # fmt: skip
_STORED = {"awq", "bitsandbytes", "fp8", "gptq", "mxfp4"}
"""Methods whose files hold integers, or numbers of one byte."""
_PLAIN = {"F64", "F32", "F16", "BF16"}


# What peft raises for an adapter that it cannot read, or that has another base
_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, NotImplementedError, SafetensorError,
)  # fmt: skip
BASE = "heedful_base.json"
"""Next to an adapter that heedful has made: the hash of the weights that it was trained on."""


@dataclass(frozen=True)
class Adapter:
    """What the folder of an adapter says of itself."""

    ref: str
    kind: str
    """As in "LoRA adapter"."""
    base: str
    """The model that it was trained on."""
    classifies: bool
    """Whether its base has a head of one number instead of one for text."""

    @property
    def named(self) -> str:
        """As in "a LoRA adapter"."""
        return f"{'an' if self.kind[0] in 'AEIO' else 'a'} {self.kind} adapter"


def adapters_of(ref: str) -> list[Adapter]:
    """The adapters to load for `ref`: that one, and those that its base is, too. Empty for a whole model.

    Raises UserError if one cannot be loaded, or if the base is not there.
    """
    found = []
    for folder, base in adapters(ref):
        adapter = _described(str(folder), base)
        check_peft(adapter)
        check_base(adapter)
        path = Path(base)
        if not path.is_dir() and (path.is_absolute() or base.startswith(".") or "\\" in base):
            raise UserError(
                f"{adapter.ref}: {adapter.named} of {base}, which does not exist. Correct "
                "base_model_name_or_path in its adapter_config.json"
            )
        found.append(adapter)
    return found


def _described(ref: str, base: str) -> Adapter:
    found = read_json(Path(ref) / ADAPTER_CONFIG_NAME)
    kind = str(found.get("peft_type", "unknown")).replace("LORA", "LoRA").replace("_", " ")
    return Adapter(ref, kind, base, found.get("task_type") == "SEQ_CLS")


def check_peft(adapter: Adapter) -> None:
    """Raise UserError if the package that loads adapters is missing, or the weights are."""
    if importlib.util.find_spec("peft") is None:
        auto = "AutoPeftModelForSequenceClassification" if adapter.classifies else "AutoPeftModelForCausalLM"
        raise UserError(
            f"{adapter.ref}: {adapter.named} of {adapter.base}. Install peft to load it, or merge it where "
            f"peft is installed: {auto}.from_pretrained(...).merge_and_unload().save_pretrained(...)"
        )
    if not any((Path(adapter.ref) / name).is_file() for name in (ADAPTER_SAFE_WEIGHTS_NAME, ADAPTER_WEIGHTS_NAME)):
        raise UserError(f"{adapter.ref}: {adapter.named} without {ADAPTER_SAFE_WEIGHTS_NAME}. Save it again.")


def check_base(adapter: Adapter) -> None:
    """Raise UserError if the base has other weights than when heedful trained the adapter."""
    file = Path(adapter.ref) / BASE
    if not file.is_file():
        return
    trained_on = read_json(file).get("weights_sha256")
    there = parent(adapter.base).get("weights_sha256")
    if None not in (trained_on, there) and trained_on != there:
        raise UserError(
            f"{adapter.ref}: {adapter.named} of other weights than {adapter.base} has now. Give its own base"
        )


def merged(model: Any, adapter: Adapter) -> Any:
    """The base with the adapter merged into its weights. Raises UserError if the adapter does not fit."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            plain = _merged(model, adapter, said)
        except UserError:
            raise
        except _ERRORS as error:
            if "NaN" in str(error):
                raise UserError(f"{adapter.ref}: the adapter holds NaN. Give an earlier checkpoint of it") from None
            why = re.sub(r"^Error\(s\) in loading [^:]*: ", "", " ".join(str(error).split()))
            why = re.split(r": copying a param|\.(?:\s|$)", why)[0][:200]
            raise UserError(
                f"{adapter.ref}: {adapter.named} that does not fit {adapter.base} ({why}). Give its own base, or save "
                "the adapter again"
            ) from None
    vars(plain).pop("peft_config", None)
    plain._hf_peft_config_loaded = False
    return plain.requires_grad_(True)


def _merged(model: Any, adapter: Adapter, said: list[warnings.WarningMessage]) -> Any:
    peft: Any = importlib.import_module("peft")
    weights = peft.load_peft_weights(adapter.ref, device="cpu")
    _resize(model, weights)
    with_adapter = peft.PeftModel.from_pretrained(model, adapter.ref)
    if with_adapter.active_peft_config.is_prompt_learning:
        raise UserError(
            f"{adapter.ref}: {adapter.named} puts vectors before the input, which no plain model holds. "
            "Give an adapter of weights, such as LoRA"
        )
    if any("missing adapter keys" in str(warning.message) for warning in said):
        raise UserError(f"{adapter.ref}: {adapter.named} that does not fit {adapter.base}. Give its own base")
    used = peft.get_peft_model_state_dict(with_adapter, save_embedding_layers=False).keys()
    surplus = sorted(name for name in weights.keys() - used if ".lora_" in name)
    if surplus:
        raise UserError(
            f"{adapter.ref}: has weights that its adapter_config.json does not name, such as {surplus[0]}. "
            "Save the adapter again"
        )
    if not callable(getattr(with_adapter, "merge_and_unload", None)):
        raise UserError(f"{adapter.ref}: {adapter.named} cannot be merged into {adapter.base}. Give a whole model")
    return with_adapter.merge_and_unload(safe_merge=True)


def _resize(model: Any, weights: dict[str, Any]) -> None:
    """Give a base the rows of its adapter's embeddings, if the adapter was trained with more tokens."""
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table).rpartition(".")[2]
    ours = {key: tensor for key, tensor in weights.items() if f".{name}." in key and key.endswith(".weight")}
    rows = {
        tensor.shape[0] for key, tensor in ours.items()
        if "lora_" not in key and tensor.shape[1:] == table.weight.shape[1:]
    } - {table.weight.shape[0]}  # fmt: skip
    if rows:
        model.resize_token_embeddings(max(rows), mean_resizing=False)


def plain(model: Any, ref: str) -> Any:
    """The model itself, or one of quantised weights computed back to float32."""
    if getattr(model, "hf_quantizer", None) is None:
        return model
    try:
        model = model.dequantize(dtype=torch.float32).float().requires_grad_(True)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError):
        raise UserError(
            f"{ref}: {_quantised(model.config)} weights cannot be computed back to plain ones. "
            "Give the model that they were made from"
        ) from None
    vars(model).pop("_weight_conversions", None)  # they would be applied again when it is saved
    return model


def check_stored(ref: str, config: Any) -> None:
    """Raise UserError if config.json calls the plain weights of a folder quantised: loading would round them."""
    method = _method(config)
    if method not in _STORED:
        return
    names, dtypes = set(), set()
    for name, dtype in _tensors(ref):
        names.add(name.rpartition(".")[2])
        dtypes.add(dtype)
    if dtypes and dtypes <= _PLAIN and not names & _SCALES:
        raise UserError(
            f"{ref}: config.json calls its weights {_quantised(config)}, but the files hold plain ones. "
            "Delete quantization_config there"
        )


def check_plain(ref: str, model: Any, report: dict[str, Any]) -> None:
    """Raise UserError if weights are quantised and the model has not read them so: their scales are not used."""
    if getattr(model, "hf_quantizer", None) is not None:
        return
    known = {name for name, _ in model.named_parameters()}
    if (name := next(_integers(ref, known), None)) is not None:
        raise UserError(f"{ref}: {name} holds integers, which are quantised. Give the model that they were made from")
    for name in sorted(report["unexpected_keys"]):
        module, _, last = name.rpartition(".")
        if last in _SCALES and (last not in _COMMON or f"{module}.weight" in known):
            raise UserError(
                f"{ref}: holds quantised weights ({name}) in a form that its config.json does not tell or that "
                "transformers does not read. Give the model that they were made from"
            )


def _integers(ref: str, names: Container[str]) -> Iterator[str]:
    """The parameters that the files of a model hold as integers."""
    return (name for name, dtype in _tensors(ref) if name in names and dtype.startswith(("I", "U")))


def folder_of(ref: str) -> Path:
    """The folder with the files of a model: `ref`, or where the cache has a model of the hub."""
    folder = Path(ref)
    if folder.is_dir():
        return folder
    cached = huggingface_hub.try_to_load_from_cache(ref, "config.json")
    return Path(cached).parent if isinstance(cached, str) else folder


def _tensors(ref: str) -> Iterator[tuple[str, str]]:
    """(name, dtype) of each tensor in the files of a folder, or of a hub model in the cache."""
    for file in sorted(folder_of(ref).glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                yield name, tensors.get_slice(name).get_dtype()


def explain_quantised(config: Any, said: str) -> str | None:
    """Why quantised weights do not load, and what they need. None for a model with plain weights."""
    method = _method(config)
    if method is None and getattr(config, "quantization_config", None):
        form = "quantised weights, of which its config.json names no `quant_method`, as MLX writes them"
        return f"{form}. Give the model that they were made from"
    if method is None:
        return None
    lacking = [name for name in _PACKAGES.get(method, ()) if not _installed(name)]
    remedy = f"Install {' and '.join(lacking)} to load it" if lacking else f"transformers says: {said}"
    return f"{_quantised(config)} weights. {remedy}, or give the model that they were made from"


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _method(config: Any) -> str | None:
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


def _quantised(config: Any) -> str:
    """As in "4-bit bitsandbytes"."""
    found = config.quantization_config
    values = found if isinstance(found, dict) else found.to_dict()
    bits = values.get("bits") or (4 if values.get("load_in_4bit") else 8 if values.get("load_in_8bit") else None)
    return f"{bits}-bit {_method(config)}" if bits else str(_method(config))
