"""The last layer computes only the tokens whose result is read.

A reward model reads one token a row and a policy those of its response. In the last layer the other tokens need keys
and values only. Its query and output projections and its MLP work token by token, so hooks hand them the wanted tokens
alone and put their results back in place, with 0 elsewhere. The layer's own forward stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WANTED = "_heedful_wanted_M"


def wanted_of(module: nn.Module) -> Tensor | None:
    """The tokens that a part of the last layer computes. None: all."""
    found: Tensor | None = module.__dict__.get(WANTED)
    return found


def install(body: nn.Module) -> None:
    """Hook the parts of the last layer, if there is one."""
    layers = getattr(body, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return
    layers[-1].register_forward_pre_hook(_note, with_kwargs=True)
    for part in _parts(layers[-1]):
        part.register_forward_pre_hook(_select)
        part.register_forward_hook(_put_back)


def _parts(layer: nn.Module) -> list[nn.Module]:
    attention = getattr(layer, "self_attn", None)
    found = [getattr(layer, "mlp", None), *(getattr(attention, name, None) for name in ("q_proj", "o_proj"))]
    return [part for part in found if isinstance(part, nn.Module)]


def _note(layer: nn.Module, args: Any, kwargs: Any) -> None:
    """Before the last layer runs: tell its parts what this pass wants. A recomputed forward tells them again."""
    layout = kwargs.get("layout")
    attention = getattr(layer, "self_attn", None)
    for part in (*_parts(layer), *([attention] if isinstance(attention, nn.Module) else [])):
        part.__dict__[WANTED] = None if layout is None else layout.wanted_M


def _select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    wanted_M = wanted_of(module)
    if wanted_M is None:
        return None
    module.__dict__[WANTED + "_of"] = args[0].shape[1]
    return (args[0].index_select(1, wanted_M), *args[1:])


def _put_back(module: nn.Module, args: Any, out_1MY: Tensor) -> Tensor | None:
    wanted_M = wanted_of(module)
    if wanted_M is None:
        return None
    whole = out_1MY.new_zeros(1, module.__dict__[WANTED + "_of"], out_1MY.shape[-1])
    return torch.index_copy(whole, 1, wanted_M, out_1MY)


HOOKS = (_note, _select, _put_back)
"""Hooks that change nothing of what a part computes at the wanted tokens."""


def remove(body: nn.Module) -> None:
    """Take our hooks out, also those that a copy of a body has brought along."""
    for module in body.modules():
        module.__dict__.pop(WANTED, None)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in HOOKS]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
