"""The body of the Llama family (Llama, Mistral, Qwen2, Qwen3, ...) on packed rows: the same numbers with less work.

`fits` finds out whether a model is built like that, by its parts and by trying; any other goes through its own forward.
Nothing is computed on padding, a shared prompt is computed once, the last layer stops at the positions that are read,
and the elementwise operations pass over memory as seldom as they can.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN

from heedful.fast.linear import through
from heedful.fast.packing import Packing, pack

_SILU = (nn.SiLU, type(ACT2FN["silu"]))
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}


def fits(model: Any) -> bool:
    """Whether `states_at` gives what the model's own body gives: tried once a model, then remembered."""
    known: bool | None = getattr(model, "_heedful_is_llama", None)
    if known is None:
        known = _is_built_so(model.base_model) and _try(model)
        model._heedful_is_llama = known
    return known


def states_at(model: Any, packing: Packing, wanted_M: Tensor | None = None) -> Tensor:
    """states_MD of the body, normalised, at the wanted ones of the N tokens (None: all)."""
    body, back_M = model.base_model, None
    if wanted_M is not None and _by_rows(body.layers[-1], packing):
        wanted_M, back_M = wanted_M.unique(return_inverse=True)
    some = back_M is not None
    states_ND = body.embed_tokens(packing.ids_N)
    rotation = rotation_of(body.rotary_emb, packing.positions_N)
    for layer in body.layers:
        only = wanted_M if layer is body.layers[-1] else None
        if getattr(layer, "gradient_checkpointing", False) and model.training and torch.is_grad_enabled():
            states_ND = checkpoint(_layer, layer, states_ND, rotation, packing, only, some, use_reentrant=False)
        else:
            states_ND = _layer(layer, states_ND, rotation, packing, only, some)
    states_MD = norm(body.norm, states_ND)
    return states_MD if back_M is None else states_MD.index_select(0, back_M)


def _layer(
    layer: Any,
    states_ND: Tensor,
    rotation: tuple[Tensor, Tensor],
    packing: Packing,
    only_M: Tensor | None,
    some: bool,
) -> Tensor:
    """`only_M`: tokens to go on with after attention (None: all); `some`: they alone, ascending, have queries."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs_ND = norm(layer.input_layernorm, states_ND)
    asking_MD, turned, at_M = inputs_ND, rotation, only_M if some else None
    if at_M is not None:
        asking_MD = inputs_ND.index_select(0, at_M)
        turned = rotation[0].index_select(0, at_M), rotation[1].index_select(0, at_M)
    q, k, v = (
        through(proj, x).unflatten(-1, (-1, attention.head_dim))
        for proj, x in ((attention.q_proj, asking_MD), (attention.k_proj, inputs_ND), (attention.v_proj, inputs_ND))
    )
    if hasattr(attention, "q_norm"):
        q, k = norm(attention.q_norm, q), norm(attention.k_norm, k)
    q, k = _Rotate.apply(q, *turned), _Rotate.apply(k, *rotation)
    out_MD = packing.attend(q, k, v.to(q.dtype), attention.scaling, at_M).flatten(1)
    if only_M is not None:
        states_ND, out_MD = states_ND.index_select(0, only_M), out_MD if some else out_MD.index_select(0, only_M)
    states_ND = states_ND + through(attention.o_proj, out_MD)
    inputs_ND = norm(layer.post_attention_layernorm, states_ND)
    gate, up = through(mlp.gate_proj, inputs_ND), through(mlp.up_proj, inputs_ND)
    hidden = _GatedSiLU.apply(gate, up) if type(mlp.act_fn) in _SILU else mlp.act_fn(gate) * up
    return states_ND + through(mlp.down_proj, hidden)


def _by_rows(layer: Any, packing: Packing) -> bool:
    """What `Packing.attend` will find for the queries of a layer."""
    proj = layer.self_attn.o_proj
    device = proj.weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else proj.weight.dtype
    return packing.by_rows(proj.in_features, dtype)


def norm(module: Any, x: Tensor) -> Tensor:
    """RMS norm over the last axis by a module's weight."""
    y: Tensor = _RMSNorm.apply(x, module.weight, module.variance_epsilon)
    return y


def rotation_of(rotary: Any, positions_N: Tensor) -> tuple[Tensor, Tensor]:
    """(cos_N1E, sin_N1E) of rotary embeddings, each over half a head's width, in float32."""
    cos, sin = rotary(torch.empty(0, dtype=torch.float32, device=positions_N.device), positions_N[None])
    half = cos.shape[-1] // 2
    return cos[0, :, None, :half], sin[0, :, None, :half]


def _is_built_so(body: Any) -> bool:
    """Parts and settings, as far as they can be seen; `_try` sees the rest."""
    config = body.config.get_text_config()
    if not all(hasattr(body, name) for name in ("embed_tokens", "layers", "norm", "rotary_emb")):
        return False
    settings = ("sliding_window", "attn_logit_softcapping", "attention_dropout")
    if any(getattr(config, name, None) for name in settings):
        return False
    # these look at the longest row of the batch
    if getattr(body.rotary_emb, "rope_type", "") not in ("default", "linear", "llama3", "yarn"):
        return False
    return all(_is_layer(layer) for layer in body.layers) and hasattr(body.norm, "variance_epsilon")


def _is_layer(layer: Any) -> bool:
    if _names(layer) != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    linear = [getattr(attention, name, None) for name in sorted(_ATTENTION)]
    linear += [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    return (
        _names(attention) in (_ATTENTION, _ATTENTION | {"q_norm", "k_norm"})
        and _names(mlp) == {"gate_proj", "up_proj", "down_proj", "act_fn"}
        and all(type(module) is nn.Linear for module in linear)
        and all(hasattr(part, "variance_epsilon") for part in (layer.input_layernorm, layer.post_attention_layernorm))
        and hasattr(attention, "scaling")
        and hasattr(attention, "head_dim")
    )


def _names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


@torch.no_grad()
def _try(model: Any) -> bool:
    """Two rows with a prompt in common and one without, packed and by the model's own forward.

    Without autocast: the answer must not depend on who asks first, else policy and reference might go different ways.
    """
    width = int(model.config.get_text_config().vocab_size)
    tokens = [index * 7 % width for index in range(1, 32)]
    rows = [tokens[:12] + tokens[20:26], tokens[:12] + tokens[26:29], tokens[5:20]]
    longest = max(map(len, rows))
    ids_BS = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    training = model.training
    model.eval()
    try:
        with torch.autocast(model.device.type, enabled=False):
            expected_BSD = model.base_model(input_ids=ids_BS, use_cache=False).last_hidden_state.float()
            packing = pack(ids_BS, [len(row) for row in rows], [12, 12, 1], [0, 0, 2])
            actual_ND = states_at(model, packing).float()
    except (AttributeError, TypeError, RuntimeError):  # built of the same parts, and yet put together otherwise
        return False
    finally:
        model.train(training)
    tolerance = (1e-4 if model.dtype == torch.float32 else 5e-2) * float(expected_BSD.abs().max())
    return all(
        bool((actual_ND[packing.place_BS[b, : len(row)]] - expected_BSD[b, : len(row)]).abs().max() <= tolerance)
        for b, row in enumerate(rows)
    )


class _RMSNorm(torch.autograd.Function):
    """weight * x / rms(x) in float32 at least; saves x and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        grad, wide = grads[0].to(scale.dtype), x.to(scale.dtype)
        product = grad * wide
        by_weight = product @ weight.to(scale.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (scale.flatten() @ product.flatten(0, -2)).to(weight.dtype)
        factor = scale.pow(3).mul_(by_weight[..., None]).div_(x.shape[-1])
        grad_x = (grad * weight).mul_(scale).addcmul_(wide, factor, value=-1)
        return grad_x.to(x.dtype), grad_weight, None


class _GatedSiLU(torch.autograd.Function):
    """silu(gate) * up; the first factor is computed anew in the backward pass, not kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grads[0] * up, gate), F.silu(gate).mul_(grads[0])


class _Rotate(torch.autograd.Function):
    """Rotary embedding of x_NHE: the halves of a head are parts of complex numbers; back by the inverse rotation."""

    @staticmethod
    def forward(ctx: Any, x_NHE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotated(x_NHE, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotated(grads[0], cos, sin, -1), None, None


def rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: int = 1) -> Tensor:
    """x [N heads E] turned by the angles of `rotation_of`, or back (sign -1)."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, -1)
    # both halves in one product: written into halves of a tensor they take three times as long
    out = (x.unflatten(-1, (2, -1)) * cos[..., None, :]).flatten(-2)
    out_first, out_second = out.chunk(2, -1)
    out_first.addcmul_(second, sin, value=-sign)
    out_second.addcmul_(first, sin, value=sign)
    return out
