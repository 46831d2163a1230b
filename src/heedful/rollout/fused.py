"""The Llama family one token a row at a time: few operators, and no work on padding.

Projections that read the same input are one, keys and values stay in place in the cache, and what a family's own
forward does around them (masks, positions, caches, copies) is done once a step or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from heedful.fast.attention import attend
from heedful.fast.layout import Layout, pack
from heedful.fast.linear import Fixed, OneDNNLinear, is_plain
from heedful.models import scoring
from heedful.models.batches import right_pad
from heedful.rollout.cache import Part, RowCache

_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
PREFILL_TOKENS = 8_192
COPIED_BYTES = 1 << 30  # weights up to here are copied, joined and laid out; more would cost too much memory
# A step computes a multiple of so many rows: a product of a new number of rows costs oneDNN a millisecond and 0.6 MiB.
STEP_ROWS = 8
WIDE = 256  # width of all queries from which summing values up as rows of a table beats products on a CPU


class FusedDecoder:
    """Keys and values in one preallocated cache; a prompt that several rows share is computed once."""

    def __init__(self, model: Any, max_rows: int, columns: int) -> None:
        body = model.base_model
        head = model.get_output_embeddings()
        self.model = model
        # on a CPU torch would copy keys and values in bfloat16 before each batched product
        on_cpu = model.device.type == "cpu"
        self.kept_as = torch.promote_types(model.dtype, torch.float32) if on_cpu else model.dtype
        self.cache = RowCache(len(body.layers), max_rows, columns, self.kept_as)
        weights = [*body.layers.parameters(), *head.parameters()]
        copy = sum(p.numel() * p.element_size() for p in weights) <= COPIED_BYTES
        with torch.inference_mode():
            self.layers = [_Layer(layer, copy) for layer in body.layers]
            self.head = Fixed(head.weight, head.bias) if copy and is_plain(head) else head
            self.cos, self.sin = rotation_of(body.rotary_emb, torch.arange(columns + 1, device=model.device))

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
        logits = []
        for group in scoring.passes(self.model, [len(prompt) for prompt in distinct], PREFILL_TOKENS):
            place = {distinct[index]: row for row, index in enumerate(group)}
            rows = [tuple(prompt) for prompt in prompts if tuple(prompt) in place]
            row_of = torch.tensor([place[row] for row in rows], device=self.model.device)
            ids_BS, _ = right_pad([distinct[index] for index in group], 0, device=self.model.device)
            lengths = [len(distinct[index]) for index in group]
            layout = pack(ids_BS, lengths, [1] * len(group), range(len(group)))
            new = self.cache.admit(max(lengths), np.array([len(row) for row in rows]))
            logits.append(self._prefill(layout, lengths, new, row_of)[row_of])
        return torch.cat(logits)

    def _prefill(self, layout: Layout, lengths: list[int], new: slice, row_of_N: Tensor) -> Tensor:
        """Logits after the last token of each distinct prompt. Its keys and values go to the places `new` of the cache,
        real columns last, once for each row.
        """
        lengths_B1 = torch.tensor(lengths, device=layout.place_BS.device)[:, None]
        S = layout.place_BS.shape[1]
        columns_BS = (torch.arange(S, device=lengths_B1.device) - (S - lengths_B1)).clamp(min=0)
        place_BS = layout.place_BS.gather(1, columns_BS)
        rotation = self.cos[layout.positions_N], self.sin[layout.positions_N]
        states_ND = self.model.base_model.embed_tokens(layout.ids_N)
        for layer, cache in zip(self.layers, self.cache.layers, strict=True):
            q, k, v = layer.project(states_ND, rotation)
            cache.put(new, k[place_BS].transpose(1, 2), v[place_BS].transpose(1, 2), row_of_N)
            out_ND = attend(q, k, v, layout, 1.0).flatten(1)
            if layer is self.layers[-1]:
                states_ND, out_ND = states_ND[place_BS[:, -1]], out_ND[place_BS[:, -1]]
            states_ND = layer.finish(states_ND, out_ND)
        return self._logits(states_ND)

    @torch.inference_mode()
    def step(self, tokens_N: Tensor) -> Tensor:
        at, device = self.cache.timeline, tokens_N.device
        starts_N = torch.from_numpy(at.starts[: at.rows]).to(device)
        more = -at.rows % STEP_ROWS
        positions_M = F.pad(at.end - starts_N, (0, more))
        rotation = self.cos[positions_M], self.sin[positions_M]
        states_MD = self.model.base_model.embed_tokens(F.pad(tokens_N, (0, more)))
        nothing = [states_MD.new_zeros(more, self.layers[0].output_width)] if more else []
        parts = [(part, self._hidden(part, starts_N), self._places(part)) for part in at.parts()]
        for layer, cache in zip(self.layers, self.cache.layers, strict=True):
            q, k, v = layer.project(states_MD, rotation)
            cache.update(k[: at.rows].unsqueeze(2), v[: at.rows].unsqueeze(2))
            outs = [_attend(q[part.rows], cache, part, *how) for part, *how in parts] + nothing
            states_MD = layer.finish(states_MD, torch.cat(outs) if len(outs) > 1 else outs[0])
        self.cache.advance()
        return self._logits(states_MD)[: at.rows]

    @torch.inference_mode()
    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self.cache.remove(done_N)

    def _hidden(self, part: Part, starts_N: Tensor) -> Tensor | None:
        """bias_nC: -inf in front of where a row begins; None where all begin at the same column."""
        at, starts_n = self.cache.timeline, starts_N[part.rows]
        if (at.starts[part.rows] == part.start).all():
            return None
        hidden_nC = torch.arange(part.start, at.end + 1, device=starts_n.device) < starts_n[:, None]
        return torch.zeros(hidden_nC.shape, dtype=self.kept_as, device=starts_n.device).masked_fill_(
            hidden_nC, -torch.inf
        )

    def _places(self, part: Part) -> Tensor | None:
        """places_LC: for each query of each row (L), where what it sees stands in a table of all values; None where
        products are better.
        """
        at, layer = self.cache.timeline, self.layers[0]
        if self.kept_as != torch.float32 or self.model.device.type != "cpu" or layer.output_width < WIDE:
            return None
        heads = layer.keys
        dtype = torch.int32 if len(at.starts) * heads * at.columns < 1 << 31 else torch.int64
        heads_L = torch.arange(part.rows.start * heads, part.rows.stop * heads, dtype=dtype)
        heads_L = heads_L.repeat_interleave(layer.queries // heads)
        return heads_L[:, None] * at.columns + torch.arange(part.start, at.end + 1, dtype=dtype)

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
        q, k = rotated(turned, *rotation).split((self.queries, self.keys), dim=1)
        return q * attention.scaling, k, v

    def finish(self, states_ND: Tensor, out_ND: Tensor) -> Tensor:
        """The rest of the layer, from what attention gave."""
        mlp = self.layer.mlp
        states_ND = self.output.added(states_ND, out_ND)
        gate, up = self.gated(_norm(self.layer.post_attention_layernorm, states_ND)).chunk(2, -1)
        return self.down.added(states_ND, mlp.act_fn(gate).mul_(up))


class _Joined:
    """Linear modules of one input as one, or side by side where a copy of their weights would be too large."""

    def __init__(self, modules: list[Any], copy: bool) -> None:
        self.modules = modules
        bias = torch.cat([m.bias for m in modules]) if modules[0].bias is not None else None
        self.whole = Fixed(torch.cat([module.weight for module in modules]), bias) if copy else None

    def __call__(self, x_ND: Tensor) -> Tensor:
        if self.whole is None:
            return torch.cat([module(x_ND) for module in self.modules], dim=-1)
        return self.whole(x_ND)


def _norm(module: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


def _attend(q_NHE: Tensor, cache: Any, part: Part, bias_NC: Tensor | None, places_LC: Tensor | None) -> Tensor:
    """Each row's query over its keys and values [N heads C E]: out_ND. Batched products, or rows of a table summed up:
    with one query a row they cost less than the fused kernel.
    """
    keys, values = cache.read(part)
    N, heads, C, E = keys.shape
    queries = q_NHE.to(keys.dtype).reshape(N * heads, -1, E)
    # keys first: read so, they come up to twice as fast where they are not in the processor's cache
    scores = torch.bmm(keys.reshape(N * heads, C, E), queries.transpose(1, 2)).transpose(1, 2).reshape(N, -1, C)
    if bias_NC is not None:
        scores += bias_NC[:, None]
    weights = scores.softmax(-1)
    if places_LC is not None:
        starts_L = torch.arange(0, places_LC.numel(), C, dtype=places_LC.dtype)
        out, *_ = torch.embedding_bag(
            cache.values.view(-1, E), places_LC.view(-1), starts_L, per_sample_weights=weights.view(-1)
        )
    else:
        out = torch.bmm(weights.view(N * heads, -1, C), values.reshape(N * heads, C, E))
    return out.view(N, -1).to(q_NHE.dtype)


def is_llama(body: Any) -> bool:
    """Whether a body is built of the parts that this decoder knows. Trying it shows the rest."""
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
        and all(type(module) in (nn.Linear, OneDNNLinear) for module in linear)
        and all(hasattr(part, "variance_epsilon") for part in (layer.input_layernorm, layer.post_attention_layernorm))
        and hasattr(attention, "scaling")
        and hasattr(attention, "head_dim")
    )


def _names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def rotation_of(rotary: Any, positions_N: Tensor) -> tuple[Tensor, Tensor]:
    """(cos_N1E, sin_N1E) of rotary embeddings, each over half a head's width, in float32."""
    cos, sin = rotary(torch.empty(0, dtype=torch.float32, device=positions_N.device), positions_N[None])
    half = cos.shape[-1] // 2
    return cos[0, :, None, :half], sin[0, :, None, :half]


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
