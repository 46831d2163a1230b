"""The fast path of a model's forward: put in, tried, and taken out. And the hidden states that it gives.

The fast path changes nothing of what the model is: its own forward runs, with our attention function
(fast/attention.py) and, on a CPU, oneDNN in its linear layers (fast/linear.py). So hooks, adapters and sharding work.
Where a family does not fit, rows are padded and everything is transformers' own. On packed rows, layers can be compiled
(fast/compiled.py) and use Liger's kernels (fast/liger.py). Those are tried too, with a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from heedful.fast import attention, compiled, liger, linear, trim
from heedful.fast.layout import Layout, pack
from heedful.fast.roots import gathered, gathers, recover

# Relative difference to the padded forward that still is rounding
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
ROUGH = 5e-2  # of lower precisions
_ERRORS = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Extras:
    """What a user wants on top of packed rows. `dtype`: of the passes, in which they are tried."""

    compiled: bool = False
    liger: bool = False
    dtype: torch.dtype = torch.float32

    def check(self, device: torch.device) -> None:
        """Raise UserError for an extra that cannot run on this device at all."""
        if self.liger:
            liger.check(device)


def states_at(model: Any, layout: Layout, wanted_M: Tensor | None = None) -> Tensor:
    """states_MD of the body at the wanted tokens of the layout (None: all N), by the model's own forward."""
    back_M = None
    if wanted_M is not None:
        wanted_M, back_M = wanted_M.unique(return_inverse=True)
        layout = replace(layout, wanted_M=wanted_M)
    with attention.packed():
        out = model.base_model(
            input_ids=layout.ids_N[None], position_ids=layout.positions_N[None], use_cache=False, layout=layout
        )
    states_ND: Tensor = out.last_hidden_state[0]
    return states_ND if back_M is None or wanted_M is None else states_ND.index_select(0, wanted_M[back_M])


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Inside, the model is in eval mode. Afterwards it is in the mode that it had."""
    training = model.training
    if training:  # a walk over all modules would cost as much as a step of a small model
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def restore(model: Any) -> None:
    """Take out of a model what `put_in` and `put_in_extras` have put into it."""
    config = model.base_model.config
    compiled.remove(model)
    liger.remove(model)
    trim.remove(model.base_model)
    config._attn_implementation = attention.before(config._attn_implementation)
    linear.take_out(model)


def put_in(model: Any) -> str:
    """Put the fast path into a model. Returns "", or why it does not fit. Then nothing of it stays in the model."""
    why = _unfit(model) or _try(model)
    if why:
        restore(model)
    return why


@torch.no_grad()
def _try(model: Any) -> str:
    """Three rows, two of which share a prompt: packed, and padded by the model's own forward. What is wrong, or ""."""
    body = model.base_model
    rows, ids_BS = _trial_rows(model)
    try:
        with eval_mode(model), torch.autocast(model.device.type, enabled=False):
            expected_BSD = gathered(model, lambda: body(input_ids=ids_BS, use_cache=False).last_hidden_state).float()
            _install(model)
            layout = pack(ids_BS, [len(row) for row in rows], [12, 12, 1], [0, 0, 2])
            whole_ND = gathered(model, lambda: states_at(model, layout)).float()
            ends_M = torch.stack([layout.place_BS[b, len(row) - 1] for b, row in enumerate(rows)])
            ends_MD = gathered(model, lambda: states_at(model, layout, ends_M)).float()
    except _ERRORS as error:
        recover(model)
        return f"{type(model).__name__} does not take packed rows: {_said(error)}"
    apart = max(
        float((whole_ND[layout.place_BS[b, : len(row)]] - expected_BSD[b, : len(row)]).abs().max())
        for b, row in enumerate(rows)
    )
    apart = max(apart, float((ends_MD - whole_ND[ends_M]).abs().max()))
    if not apart <= TOLERANCE.get(model.dtype, ROUGH) * float(expected_BSD.abs().max()):
        return f"{type(model).__name__} gives other numbers on packed rows"
    return ""


def put_in_extras(model: Any, wanted: Extras, padded: str) -> tuple[Extras, str]:
    """Put in what is wanted on top of packed rows, and compare. `padded`: why rows are padded, else "".

    Returns what is used, and the setting that is not followed, with its reason, else "".
    """
    used, refused = Extras(dtype=wanted.dtype), ""
    if not (wanted.compiled or wanted.liger):
        return used, ""
    if padded:
        return used, f"{'compute.compile' if wanted.compiled else 'compute.liger'} needs packed rows, and {padded}"
    expected = _trial(model, wanted.dtype)
    if wanted.liger:  # first, to be compiled too
        refused = _tried(model, wanted.dtype, expected, "compute.liger", liger.install)
        used = replace(used, liger=not refused)
    if wanted.compiled and not refused:
        refused = _tried(model, wanted.dtype, expected, "compute.compile", _compile)
        used = replace(used, compiled=not refused)
    if refused:
        restore(model)
        _install(model)
        used = Extras(dtype=wanted.dtype)
    return used, refused


def _tried(model: Any, dtype: torch.dtype, expected: list[Tensor], setting: str, extra: Callable[[Any], int]) -> str:
    """Put something into a model and compare. Returns what is wrong with it, or ""."""
    name = type(model).__name__
    errors: tuple[type[Exception], ...] = (*_ERRORS, *liger.errors(), ImportError, OSError)
    try:
        if not extra(model):
            return f"{setting}: nothing of {name} is known to it"
        found = _trial(model, dtype)
    except errors as error:
        recover(model)
        return f"{setting}: {name} does not run with it: {_said(error)}"
    for ours, theirs in zip(found, expected, strict=True):
        apart = float((ours - theirs).abs().max())
        if not apart <= TOLERANCE.get(dtype, ROUGH) * float(theirs.abs().max()):
            return f"{setting}: {name} gives other numbers with it"
    return ""


def _compile(model: Any) -> int:
    config = model.base_model.config
    config._attn_implementation = attention.install(attention.before(config._attn_implementation) or "", apart=True)
    linear.take_out(model)  # a compiled layer has its own products
    return compiled.install(model)


def _trial(model: Any, dtype: torch.dtype) -> list[Tensor]:
    """[states of three packed rows, gradient of the first weight that learns]. A sharded model has no gradient here."""
    rows, ids_BS = _trial_rows(model)
    layout = pack(ids_BS, [len(row) for row in rows], [12, 12, 1], [0, 0, 2])
    learning = [] if gathers(model) else [weight for weight in model.base_model.parameters() if weight.requires_grad]
    lower = torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)
    with eval_mode(model), lower, torch.set_grad_enabled(bool(learning)):
        states_ND = gathered(model, lambda: states_at(model, layout)).float()
        found = [states_ND.detach()]
        if learning:
            ramp = torch.linspace(-1, 1, states_ND.numel(), device=states_ND.device).view_as(states_ND)
            found += torch.autograd.grad((states_ND * ramp).sum(), learning[:1])
    return found


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _unfit(model: Any) -> str:
    """Why a model is not tried, "" if it is. A short trial cannot see these."""
    body = model.base_model
    if body is model or not getattr(body, "_supports_attention_backend", False):
        return f"{type(model).__name__} does not use transformers' attention interface"
    if getattr(body.config.get_text_config(), "attention_chunk_size", None):
        return f"{type(model).__name__} attends in chunks"
    return ""


def _install(model: Any) -> None:
    body = model.base_model
    before = body.config._attn_implementation
    body.config._attn_implementation = attention.install(before)
    trim.install(body)
    linear.put_in(model)


def _trial_rows(model: Any) -> tuple[list[list[int]], Tensor]:
    """(rows, ids_BS): two rows that share twelve tokens and one of its own."""
    width = int(model.config.get_text_config().vocab_size)
    tokens = [index * 7 % width for index in range(1, 32)]
    rows = [tokens[:12] + tokens[20:26], tokens[:12] + tokens[26:29], tokens[5:20]]
    longest = max(map(len, rows))
    return rows, torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
