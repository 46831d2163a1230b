"""The attention function that transformers' own models call for packed rows.

`install` registers it with transformers' AttentionInterface. A model with that implementation keeps its own forward:
its layers hand queries, keys and values of all N tokens to `attention`, together with the keyword `layout`. Without a
layout (a padded batch, a cache) the function is the one that the model had before, with the masks that belong to it.

One layout, three ways, the fastest that fits:

- on CUDA `varlen`: torch's kernel for rows of variable length, if the installed torch has one that takes our arguments
- on a CPU `row_by_row` (fast/rows.py), where rows are long enough for it
- else `by_blocks`: rows of similar length as padded blocks, each one call of SDPA

Letters: docs/conventions.md and fast/layout.py. H heads of width E, keys and values can have fewer.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from heedful.fast.layout import Layout
from heedful.fast.rows import for_heads, row_by_row, row_by_row_pays
from heedful.fast.trim import wanted_of

PREFIX, APART = "heedful_", "apart_"
# What layers hand on to attention functions that says nothing about the attention itself.
_OF_NO_EFFECT = {
    "position_ids",
    "use_cache",
    "cache_position",
    "output_attentions",
    "output_hidden_states",
    "is_causal",
}
_packed: ContextVar[bool] = ContextVar("packed", default=False)


class Unsupported(TypeError):
    """A layer asks for something that attention of packed rows does not do."""


def install(before: str, *, apart: bool = False) -> str:
    """The name of our attention for a model whose implementation is `before`, made known to transformers.

    `apart`: layers are compiled, and their attention runs between the compiled parts. It branches on every layout.
    """
    name, function = f"{PREFIX}{APART if apart else ''}{before}", partial(attention, before=before)
    AttentionInterface.register(name, torch.compiler.disable(function) if apart else function)
    AttentionMaskInterface.register(name, partial(_mask, before=before))
    return name


def before(name: str | None) -> str | None:
    """The implementation that a model with this one had before `install`."""
    return None if name is None else name.removeprefix(PREFIX).removeprefix(APART)


@contextlib.contextmanager
def packed() -> Iterator[None]:
    """Inside, models build no attention mask: the layout takes its place."""
    token = _packed.set(True)
    try:
        yield
    finally:
        _packed.reset(token)


def _mask(*args: Any, before: str, **kwargs: Any) -> Any:
    return None if _packed.get() else ALL_MASK_ATTENTION_FUNCTIONS[before](*args, **kwargs)


def _attention_of(before: str, module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """transformers' function of that name. Its eager attention is in the module of each family."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    found: Callable[..., tuple[Tensor, Any]] = ALL_ATTENTION_FUNCTIONS.get_interface(before, eager)
    return found


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    *,
    before: str = "sdpa",
    **more: Any,
) -> tuple[Tensor, Any]:
    """[1 N H E] of query [1 H N E] over key and value [1 H' N E], each row of the layout by itself.

    `sliding_window`: a token sees so many, itself included. `softcap`: scores become cap * tanh(score / cap).
    Raises Unsupported for any other setting that changes attention, so that no family is computed wrongly in silence.
    """
    if layout is None:
        known = {"sliding_window": sliding_window, "softcap": softcap} | more
        plain = _attention_of(before, module)
        return plain(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **known)
    asked = [name for name, value in more.items() if value is not None and name not in _OF_NO_EFFECT]
    if asked or dropout or not getattr(module, "is_causal", True):
        raise Unsupported(f"{type(module).__name__} asks for {', '.join(asked) or 'dropout or two-way attention'}")
    q_NHE, k_NHE, v_NHE = (x[0].transpose(0, 1) for x in (query, key, value))
    if q_NHE.is_cuda and torch.is_autocast_enabled("cuda"):  # rotary embeddings leave queries and keys in float32
        q_NHE, k_NHE, v_NHE = (x.to(torch.get_autocast_dtype("cuda")) for x in (q_NHE, k_NHE, v_NHE))
    scale = q_NHE.shape[-1] ** -0.5 if scaling is None else scaling
    out_NHE = attend(q_NHE, k_NHE, v_NHE.to(q_NHE.dtype), layout, scale, sliding_window, softcap, wanted_of(module))
    return out_NHE[None], None


def attend(
    q_NHE: Tensor,
    k_NHE: Tensor,
    v_NHE: Tensor,
    layout: Layout,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    wanted_M: Tensor | None = None,
) -> Tensor:
    """out_NHE, 0 for spare tokens. Queries outside `wanted_M` (None: all) may be left out, their result is 0 then."""
    if uses_varlen(q_NHE, softcap):
        return by_varlen(q_NHE, k_NHE, v_NHE, layout, scale, window)
    width = q_NHE.shape[1] * q_NHE.shape[2]
    if q_NHE.device.type == "cpu" and softcap is None and row_by_row_pays(width, layout.reach, q_NHE.dtype):
        return row_by_row(q_NHE, k_NHE, v_NHE, layout.rows, scale, window, wanted_M)
    return by_blocks(q_NHE, k_NHE, v_NHE, layout, scale, window, softcap)


def uses_varlen(q_NHE: Tensor, softcap: float | None) -> bool:
    """torch's kernel is for half precision and common head widths, on GPUs from Ampere on. It cannot cap scores."""
    if not q_NHE.is_cuda or softcap is not None or q_NHE.element_size() != 2 or varlen() is None:
        return False
    width, generation = q_NHE.shape[2], torch.cuda.get_device_capability(q_NHE.device)
    return width % 8 == 0 and width <= 256 and generation >= (8, 0)


@cache
def varlen() -> Callable[..., Tensor] | None:
    """torch's attention for rows of variable length, if it takes what we pass. Decided by its signature."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    takes = set(inspect.signature(varlen_attn).parameters)
    found: Any = varlen_attn
    return found if {"cu_seq_q", "cu_seq_k", "scale", "window_size", "enable_gqa"} <= takes else None


def by_varlen(q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, layout: Layout, scale: float, window: int | None) -> Tensor:
    """One kernel for all rows. A query that continues a shared prompt sees a gathered copy of the prompt's keys."""
    kernel, at = varlen(), layout.bounds
    assert kernel is not None
    if at.gather is not None:
        k_NHE, v_NHE = k_NHE.index_select(0, at.gather), v_NHE.index_select(0, at.gather)
    left = -1 if window is None else window - 1
    out = kernel(
        q_NHE, k_NHE, v_NHE, at.queries, at.keys, at.longest_query, at.longest_key,
        scale=scale, window_size=(left, 0), enable_gqa=q_NHE.shape[1] != k_NHE.shape[1],
    )  # fmt: skip
    return out


def by_blocks(
    q_NHE: Tensor,
    k_NHE: Tensor,
    v_NHE: Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Every group of similar rows as one padded block, by SDPA, or by plain products where scores are capped."""
    k_NHE, v_NHE = (for_heads(x, q_NHE.shape[1]) for x in (k_NHE, v_NHE))
    outs = []
    for block in layout.blocks:
        own = slice(block.first, block.first + len(block.slots))
        q = block.pad(q_NHE[own]).transpose(1, 2)
        seen = (block.pad(x[own]) if block.seen is None else block.see(x) for x in (k_NHE, v_NHE))
        k, v = (x.transpose(1, 2) for x in seen)
        causal = block.seen is None and (window is None or q.shape[2] <= window)
        bias = None if causal and softcap is None else block.bias_GTC(window)[:, None].to(q.dtype)
        if softcap is None or bias is None:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None, scale=scale)
        else:
            out = _by_products(q, k, v, bias, scale, softcap)
        outs.append(block.lay(out.transpose(1, 2)))
    if layout.spare:
        outs.append(q_NHE.new_zeros(layout.spare, *q_NHE.shape[1:]).to(outs[0].dtype))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _by_products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, softcap: float) -> Tensor:
    """[G H T E] with capped scores, which SDPA cannot compute."""
    scores = (q @ k.transpose(-1, -2)).float() * scale
    scores = softcap * (scores / softcap).tanh() + bias
    return scores.softmax(-1).to(v.dtype) @ v
