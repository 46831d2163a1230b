"""Liger's Triton kernels for norms and MLPs (`compute.liger`), in a model that is loaded already.

Liger also replaces classes in the modules of transformers. Models that are made later must stay plain, so `install`
puts those back. Its rotary embedding works by such a replacement alone and is left out. Its losses are left out too:
fast/cross_entropy.py never holds all logits either.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import torch
from torch import nn

from heedful.config import UserError
from heedful.config import install as how_to_install

_NOT_USED = {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
_BOUND = ("forward", "extra_repr", "_get_name")


def check(device: torch.device) -> None:
    """Raise UserError where Liger's kernels cannot run."""
    if device.type == "cpu":
        raise UserError("compute.liger: Liger's kernels need a GPU, and this run computes on a CPU. Leave it out")
    if importlib.util.find_spec("liger_kernel") is None:
        raise UserError(f"compute.liger needs liger-kernel. {how_to_install('liger')}")


def errors() -> tuple[type[Exception], ...]:
    """What Triton raises for a kernel that it cannot build or run, if Triton is loaded."""
    found: type[Exception] | None = getattr(sys.modules.get("triton.errors"), "TritonError", None)
    return () if found is None else (found,)


def install(model: nn.Module) -> int:
    """Put Liger's kernels into the parts of a model that it knows. Returns how many there are."""
    patches: Any = importlib.import_module("liger_kernel.transformers.monkey_patch")
    homes = {cls.__module__ for module in model.modules() for cls in type(module).__mro__}
    families = [vars(sys.modules[name]) for name in homes if name.startswith("transformers.models.")]
    before = [dict(family) for family in families]
    try:
        patches._apply_liger_kernel_to_instance(model, **_NOT_USED)
    finally:
        for family, kept in zip(families, before, strict=True):
            family.update(kept)
    return sum(_is_liger(module) for module in model.modules())


def remove(model: nn.Module) -> None:
    """Undo `install`."""
    for module in model.modules():
        if _is_liger(module):
            for name in _BOUND:
                module.__dict__.pop(name, None)


def _is_liger(module: nn.Module) -> bool:
    bound = module.__dict__.get("forward")
    return getattr(getattr(bound, "__func__", None), "__module__", "").startswith("liger_kernel.")
