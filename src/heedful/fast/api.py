"""The one entry point of this package. Other packages import nothing else of it, and a test sees to that.

How a model's forward runs is chosen once for each model: `choose` tries the fast path and keeps it if it gives the
numbers of the padded forward. `path` says what was chosen. `states_at` computes hidden states on packed rows (`pack`),
`head_logits` and `head_loss` go on from there. `open_decoder` decodes token by token. `gathered` is for sharded models,
`footprint` for the memory plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedful.fast import cross_entropy, decoder, forward, rows
from heedful.fast.compiled import layers_of
from heedful.fast.decoding import Decoder, fastest, open_decoder
from heedful.fast.forward import Extras, eval_mode, states_at
from heedful.fast.layout import Layout, pack
from heedful.fast.linear import is_plain, linear
from heedful.fast.roots import gather_by_fsdp, gathered, gathers, whole_forward

__all__ = [
    "Decoder",
    "Extras",
    "Footprint",
    "ForwardPath",
    "Layout",
    "choose",
    "choose_like",
    "eval_mode",
    "fastest",
    "footprint",
    "gather_by_fsdp",
    "gathered",
    "gathers",
    "head_logits",
    "head_loss",
    "layers_of",
    "open_decoder",
    "pack",
    "path",
    "states_at",
    "whole_forward",
]

_PATH = "_heedful_path"
NO_EXTRAS = Extras()


@dataclass(frozen=True)
class ForwardPath:
    """How a model's forward runs, as manifests record it.

    `packed`: on packed rows. `fast`: whether the user wants the fast path. Else everything is transformers' own.
    `why`: the reason where rows are padded, else "". `refused`: the setting that is not followed, and why, else "".
    """

    packed: bool
    fast: bool = True
    why: str = ""
    extras: Extras = NO_EXTRAS
    refused: str = ""

    def __str__(self) -> str:
        if not self.packed:
            return f"padded rows ({self.why})"
        more = ", compiled layers" if self.extras.compiled else ""
        return f"packed rows{more}{', Liger kernels' if self.extras.liger else ''}"


def path(model: Any) -> ForwardPath:
    """The path of a model. One that nobody chose for takes the fast path where it fits."""
    known: ForwardPath | None = getattr(model, _PATH, None)
    return known if known is not None else choose(model)


def choose(model: Any, fast: bool = True, extras: Extras = NO_EXTRAS) -> ForwardPath:
    """Put the fast path into a model if it gives the padded forward's numbers, or take it out again.

    Tries it on three short rows, in eval mode and without autocast, so that the answer depends on the model alone.
    Then `extras` are tried in the same way against the fast path.
    """
    forward.restore(model)
    why = forward.put_in(model) if fast else "compute.fast is false"
    used, refused = forward.put_in_extras(model, extras, why)
    chosen = ForwardPath(not why, fast, why, used, refused)
    setattr(model, _PATH, chosen)
    return chosen


def choose_like(model: Any, other: Any) -> ForwardPath:
    """Choose for a model what was chosen for another one."""
    known = path(other)
    return choose(model, known.fast, known.extras)


def head_logits(head: Any, states_ND: Tensor, tokens: int) -> Tensor:
    """Logits by an output head, at least those of the first `tokens` rows of its weight. A plain head stops there."""
    if not is_plain(head) or tokens >= len(head.weight):
        logits_NV: Tensor = head(states_ND)
        return logits_NV
    return linear(states_ND, *_first_rows(head, tokens))


def head_loss(head: Any, states_ND: Tensor, tokens_N: Tensor, tokens: int) -> Tensor | None:
    """Sum of -log softmax(logits)[token] over the first `tokens` logits of a head, in nats, with gradients (once).

    No logits are kept. None if the head is more than a linear layer, or if there are no gradients.
    """
    if not torch.is_grad_enabled() or not is_plain(head):
        return None
    return cross_entropy.cross_entropy(states_ND, *_first_rows(head, tokens), tokens_N)


def _first_rows(head: Any, tokens: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a plain head, without the rows after the last token."""
    bias = head.bias
    if tokens >= len(head.weight):
        return head.weight, bias
    return head.weight[:tokens], None if bias is None else bias[:tokens]


@dataclass(frozen=True)
class Footprint:
    """What the fast path holds on one kind of device, as far as a memory plan must know it."""

    logits: int
    """Numbers that `head_loss` has at a time, at most."""
    attended: int
    """Mean length of rows up to which attention keeps its weights for the backward pass. 0 if it keeps none."""
    copied: int
    """Bytes of weights up to which a decoder makes its own copy."""
    joined: frozenset[str] | None
    """Last parts of the names of the linear layers in that copy. None: all weights are in it."""


def footprint(device: str) -> Footprint:
    """What the fast path holds on a "cpu" or on "cuda"."""
    on_cpu = device == "cpu"
    joined = None if on_cpu else decoder.JOINED  # a CPU lays out all weights in another order
    return Footprint(cross_entropy.LOGITS[device], rows.MOST if on_cpu else 0, decoder.COPIED_BYTES, joined)
