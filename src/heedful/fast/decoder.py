"""One decoder for plain models of the Llama family: a token a row at a time, with few operators and no padding.

This is the one second copy of a layer in heedful. It exists because a step computes little for each row, so that the
operators around the products count. Projections of the same input are one product, and keys and values stay in place in
the cache. Masks and positions are computed once a step. `compute.fast = false` goes around it.

`fits` looks at the parts of a model. `fast.decoding` also tries it against the model's own forward, since parts
of the same names can be put together in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from heedful.fast.cache import CachePart, Prefill, RowCache, prefills
from heedful.fast.linear import Fixed, is_plain, linear
from heedful.fast.trim import HOOKS

PREFILL_TOKENS = 8_192
COPIED_BYTES = 1 << 30  # weights up to here are copied, joined and laid out. More would take too much memory
# A step computes a multiple of STEP_ROWS rows, a prefill of PREFILL_ROUND tokens. A product of a new number of rows
# costs oneDNN a millisecond and 0.6 MiB.
STEP_ROWS, PREFILL_ROUND = 8, 16
WIDE = 256  # width of all queries from which summing values up as rows of a table beats products on a CPU

_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj"}
JOINED = frozenset({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"})
"""Linear layers that share their input with others: their weights are joined in a copy."""
# Settings that change a layer without a part of their own. On small random weights a trial does not see them.
_UNSEEN = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "no_rope_layers")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def fits(model: Any) -> bool:
    """Whether a model has the parts of a plain Llama: linear layers without adapters, and no hook that would not fire.

    The embedding may have hooks, since its own forward runs.
    """
    body, head = getattr(model, "base_model", model), model.get_output_embeddings()
    if body is model or head is None or not all(hasattr(body, name) for name in ("embed_tokens", "rotary_emb")):
        return False
    config = body.config.get_text_config()
    if any(getattr(config, name, None) for name in _UNSEEN):
        return False
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        return False
    # other kinds of rotation look at the longest row of the batch
    if getattr(body.rotary_emb, "rope_type", "") not in ("default", "linear", "llama3", "yarn"):
        return False
    unhooked = (module for module in model.modules() if module is not body.embed_tokens)
    if any(hook not in HOOKS for module in unhooked for name in _HOOKS for hook in getattr(module, name).values()):
        return False
    return all(_is_layer(layer) for layer in body.layers) and hasattr(body.norm, "variance_epsilon")


def _is_layer(layer: Any) -> bool:
    if _names(layer) != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    if _names(attention) not in (_ATTENTION, _ATTENTION | {"q_norm", "k_norm"}) or _names(mlp) != _MLP | {"act_fn"}:
        return False
    linear = [getattr(attention, name) for name in _ATTENTION] + [getattr(mlp, name) for name in _MLP]
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    return (
        all(is_plain(module) for module in linear)
        and all(hasattr(norm, "variance_epsilon") for norm in norms)
        and all(hasattr(attention, name) for name in ("scaling", "head_dim"))
    )


def _names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


class FastDecoder:
    """Keys and values in one preallocated cache. A prompt that several rows share is computed once."""

    def __init__(self, model: Any, max_rows: int) -> None:
        # on a CPU torch would copy keys and values in bfloat16 before each batched product
        on_cpu = model.device.type == "cpu"
        self.kept_as = torch.promote_types(model.dtype, torch.float32) if on_cpu else model.dtype
        self.cache = RowCache(len(model.base_model.layers), max_rows, self.kept_as)
        self.cos = self.sin = torch.empty(0)
        self.use(model)

    def use(self, model: Any) -> None:
        """Read the weights of a model, now and for all steps to come."""
        body, head = model.base_model, model.get_output_embeddings()
        self.model = model
        weights = [*body.layers.parameters(), *head.parameters()]
        copy = sum(p.numel() * p.element_size() for p in weights) <= COPIED_BYTES
        with torch.inference_mode():
            self.layers = [_Layer(layer, copy) for layer in body.layers]
            self.head = Fixed(head.weight, head.bias) if copy and is_plain(head) else head

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> Tensor:
        new = self.cache.admit([len(prompt) for prompt in prompts], rooms)
        parts, rows = [], []
        for prefill in prefills(prompts, PREFILL_TOKENS):
            parts.append(self._prefill(prefill, new.start)[prefill.of])
            rows += prefill.rows
        return torch.cat(parts)[np.argsort(rows)]

    def _prefill(self, prefill: Prefill, first: int) -> Tensor:
        """Logits after the last token of each prompt. Keys and values go to the rows of the cache from `first` on.

        Layers see the N tokens of all prompts end to end. Attention pads them on the right, where a causal mask hides
        the padding, and the cache takes them padded on the left. For the prompts [a b c] and [d e]:

            tokens  a b c d e        right_BS  0 1 2        left_BS  0 1 2        real_N  0 1 2 3 4
            places  0 1 2 3 4                  3 4 4                 3 3 4
        """
        device = self.model.device
        # 1) Tokens end to end, filled up to a multiple of PREFILL_ROUND.
        lengths_B1 = torch.tensor([len(prompt) for prompt in prefill.prompts], device=device)[:, None]
        N, S = int(lengths_B1.sum()), int(lengths_B1.max())
        more = -N % PREFILL_ROUND
        ids_N = torch.tensor([token for prompt in prefill.prompts for token in prompt] + [0] * more, device=device)
        # 2) Where the tokens lie: in rows padded on the right, in rows padded on the left, and back.
        starts_B1, columns_S = lengths_B1.cumsum(0) - lengths_B1, torch.arange(S, device=device)
        right_BS = starts_B1 + columns_S.minimum(lengths_B1 - 1)
        left_BS = starts_B1 + (columns_S - (S - lengths_B1)).clamp(min=0)
        real_N = (columns_S < lengths_B1).flatten().nonzero().squeeze(1)
        rotation = self._rotation(F.pad(real_N % S, (0, more)))
        rows, cached_NS = [first + row for row in prefill.rows], left_BS[prefill.of]
        # 3) The layers. The last one goes on with the last token of each prompt alone.
        states_ND = self.model.base_model.embed_tokens(ids_N)
        for layer, cache in zip(self.layers, self.cache.layers, strict=True):
            q, k, v = layer.project(states_ND, rotation)
            cache.put(rows, *(_gathered(x, cached_NS).transpose(1, 2) for x in (k, v)))
            out_ND = F.pad(_causal(q, k, v, right_BS).flatten(0, 1).index_select(0, real_N), (0, 0, 0, more))
            if layer is self.layers[-1]:
                states_ND, out_ND = states_ND[left_BS[:, -1]], out_ND[left_BS[:, -1]]
            states_ND = layer.finish(states_ND, out_ND)
        return self._logits(states_ND)

    @torch.inference_mode()
    def step(self, tokens_N: Tensor) -> Tensor:
        # 1) What all layers share: positions, and for each part of the rows its mask.
        at, device = self.cache.timeline, tokens_N.device
        starts_N = torch.from_numpy(at.starts[: at.rows]).to(device)
        more = -at.rows % STEP_ROWS
        rotation = self._rotation(F.pad(at.end - starts_N, (0, more)))
        states_MD = self.model.base_model.embed_tokens(F.pad(tokens_N, (0, more)))
        nothing = [states_MD.new_zeros(more, self.layers[0].output_width)] if more else []
        parts = [(part, self._hidden(part, starts_N), self._places(part)) for part in at.parts()]
        # 2) Every layer writes the column at `end` and attends part by part.
        for layer, cache in zip(self.layers, self.cache.layers, strict=True):
            q, k, v = layer.project(states_MD, rotation)
            cache.write(k[: at.rows], v[: at.rows])
            outs = [_attend(q[part.rows], cache, part, bias, places) for part, bias, places in parts] + nothing
            states_MD = layer.finish(states_MD, torch.cat(outs) if len(outs) > 1 else outs[0])
        self.cache.advance()
        return self._logits(states_MD)[: at.rows]

    @torch.inference_mode()
    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self.cache.remove(done_N)

    def _rotation(self, positions_N: Tensor) -> tuple[Tensor, Tensor]:
        """(cos_N1E, sin_N1E) over half a head's width, from a table for all columns so far."""
        if len(self.cos) <= self.cache.timeline.columns:
            positions = torch.arange(self.cache.timeline.columns + 1, device=positions_N.device)
            like = torch.empty(0, dtype=torch.float32, device=positions_N.device)
            cos, sin = self.model.base_model.rotary_emb(like, positions[None])
            half = cos.shape[-1] // 2
            self.cos, self.sin = cos[0, :, None, :half], sin[0, :, None, :half]
        return self.cos[positions_N], self.sin[positions_N]

    def _hidden(self, part: CachePart, starts_N: Tensor) -> Tensor | None:
        """bias_nC: -inf in front of a row's first column. None where all rows start at the same column."""
        at, starts_n = self.cache.timeline, starts_N[part.rows]
        if (at.starts[part.rows] == part.start).all():
            return None
        hidden_nC = torch.arange(part.start, at.end + 1, device=starts_n.device) < starts_n[:, None]
        return torch.zeros(hidden_nC.shape, dtype=self.kept_as, device=starts_n.device).masked_fill_(
            hidden_nC, -torch.inf
        )

    def _places(self, part: CachePart) -> tuple[Tensor, Tensor] | None:
        """For each query of each row (L): the rows of a table of all values that it sees [L C], and where they start.

        None where products are faster. Row i, key head h and column c of the cache are row (i heads + h) columns + c.
        """
        at, layer = self.cache.timeline, self.layers[0]
        if self.kept_as != torch.float32 or self.model.device.type != "cpu" or layer.output_width < WIDE:
            return None
        heads, C = layer.keys, at.end + 1 - part.start
        dtype = torch.int32 if len(at.starts) * heads * at.columns < 1 << 31 else torch.int64
        heads_L = torch.arange(part.rows.start * heads, part.rows.stop * heads, dtype=dtype)
        heads_L = heads_L.repeat_interleave(layer.queries // heads)
        places_LC = heads_L[:, None] * at.columns + torch.arange(part.start, at.end + 1, dtype=dtype)
        return places_LC.view(-1), torch.arange(0, places_LC.numel(), C, dtype=dtype)

    def _logits(self, states_ND: Tensor) -> Tensor:
        logits_NV: Tensor = self.head(_norm(self.model.base_model.norm, states_ND))
        return logits_NV


class _Layer:
    """Weights of one layer, those with the same input joined."""

    def __init__(self, layer: Any, copy: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer, self.width = layer, attention.head_dim
        self.queries = attention.q_proj.out_features // self.width
        self.keys = attention.k_proj.out_features // self.width
        self.inputs = _Joined([attention.q_proj, attention.k_proj, attention.v_proj], copy)
        self.gated = _Joined([mlp.gate_proj, mlp.up_proj], copy)
        self.output_width = attention.o_proj.in_features
        self.output, self.down = (Fixed(m.weight, m.bias, copy) for m in (attention.o_proj, mlp.down_proj))

    def project(self, states_ND: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (scaled), keys and values [N heads E], rotated."""
        attention = self.layer.self_attn
        whole = self.inputs(_norm(self.layer.input_layernorm, states_ND)).unflatten(-1, (-1, self.width))
        turned, v = whole.split((self.queries + self.keys, self.keys), dim=1)
        if hasattr(attention, "q_norm"):
            q, k = turned.split((self.queries, self.keys), dim=1)
            turned = torch.cat([_norm(attention.q_norm, q), _norm(attention.k_norm, k)], dim=1)
        q, k = _rotated(turned, *rotation).split((self.queries, self.keys), dim=1)
        return q * attention.scaling, k, v

    def finish(self, states_ND: Tensor, out_ND: Tensor) -> Tensor:
        """The rest of the layer after attention."""
        mlp = self.layer.mlp
        states_ND = self.output.added(states_ND, out_ND)
        gate, up = self.gated(_norm(self.layer.post_attention_layernorm, states_ND)).chunk(2, -1)
        return self.down.added(states_ND, mlp.act_fn(gate).mul_(up))


class _Joined:
    """Linear modules of one input as one product, or one after the other where a copy of the weights is too large."""

    def __init__(self, modules: list[Any], copy: bool) -> None:
        self.modules = modules
        bias = torch.cat([m.bias for m in modules]) if modules[0].bias is not None else None
        self.whole = Fixed(torch.cat([module.weight for module in modules]), bias) if copy else None

    def __call__(self, x_ND: Tensor) -> Tensor:
        if self.whole is None:
            # not through the modules: the hooks of the last layer belong to packed rows
            return torch.cat([linear(x_ND, module.weight, module.bias) for module in self.modules], dim=-1)
        return self.whole(x_ND)


def _norm(module: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


def _rotated(x_NHE: Tensor, cos_N1E: Tensor, sin_N1E: Tensor) -> Tensor:
    """Rotary embedding: the halves of a head are the parts of complex numbers."""
    cos, sin = cos_N1E.to(x_NHE.dtype), sin_N1E.to(x_NHE.dtype)
    first, second = x_NHE.chunk(2, -1)
    # both halves in one product: written into halves of a tensor they take three times as long
    out = (x_NHE.unflatten(-1, (2, -1)) * cos[..., None, :]).flatten(-2)
    out_first, out_second = out.chunk(2, -1)
    out_first.addcmul_(second, sin, value=-1)
    out_second.addcmul_(first, sin)
    return out


def _gathered(x_NHE: Tensor, places_BS: Tensor) -> Tensor:
    """x[places] [B S heads E]. Indexing takes three times as long as an embedding of whole rows."""
    return F.embedding(places_BS, x_NHE.flatten(1)).unflatten(-1, x_NHE.shape[1:])


def _causal(q: Tensor, k: Tensor, v: Tensor, right_BS: Tensor) -> Tensor:
    """Attention [B S D] of tokens [N heads E] (queries scaled) that lie in rows padded on the right."""
    q, k, v = (_gathered(states, right_BS).transpose(1, 2) for states in (q, k, v))
    shared = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=shared)
    return out.transpose(1, 2).flatten(2)


def _attend(
    q_NHE: Tensor, cache: Any, part: CachePart, bias_NC: Tensor | None, places: tuple[Tensor, Tensor] | None
) -> Tensor:
    """out_ND of each row's query over its keys and values [N heads C E], by batched products or by sums of table rows.

    With one query a row both cost less than the fused kernel.
    """
    keys, values = cache.read(part)
    N, heads, C, E = keys.shape
    queries = q_NHE.to(keys.dtype).reshape(N * heads, -1, E)
    # keys first: this reads them up to twice as fast where they are not in the processor's cache
    scores = torch.bmm(keys.reshape(N * heads, C, E), queries.transpose(1, 2)).transpose(1, 2).reshape(N, -1, C)
    if bias_NC is not None:
        scores += bias_NC[:, None]
    weights = scores.softmax(-1)
    if places is not None:
        out, *_ = torch.embedding_bag(cache.values.view(-1, E), *places, per_sample_weights=weights.view(-1))
    else:
        out = torch.bmm(weights.view(N * heads, -1, C), values.reshape(N * heads, C, E))
    return out.view(N, -1).to(q_NHE.dtype)
