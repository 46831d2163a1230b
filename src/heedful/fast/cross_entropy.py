"""The cross-entropy of an output head with its gradients at once, part by part: logits are never kept.

The loss of language modelling (S1, P21) is a plain sum, so that what flows back into it is one number, and up to that
number the gradients are known while the logits are at hand. (The idea is that of Liger Kernel, arXiv 2410.10989.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heedful.fast.linear import product

LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}  # at a time: few beside what a pass keeps, enough rows for fast products


def cross_entropy(states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, tokens_N: Tensor) -> Tensor:
    """Sum over N of -log softmax(states weight' + bias)[token], in nats, float32 at least. With gradients (once).

    Products are in autocast's precision where that is on, sums over parts in that of the weight.
    """
    total: Tensor = _CrossEntropy.apply(states_ND, weight_VD, bias_V, tokens_N)
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, tokens_N: Tensor) -> Tensor:
        of_states, of_weight, of_bias, _ = ctx.needs_input_grad
        device = states_ND.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
        weight, bias = weight_VD.to(low), None if bias_V is None else bias_V.to(low)
        exact = torch.promote_types(low, torch.float32)
        total = torch.zeros((), dtype=exact, device=states_ND.device)
        grad_states = torch.empty_like(states_ND) if of_states else None
        grad_weight = torch.zeros_like(weight_VD) if of_weight else None
        grad_bias = torch.zeros_like(bias_V) if of_bias and bias_V is not None else None
        rows = max(1, LOGITS.get(device, 1 << 23) // len(weight_VD))
        with torch.autocast(device, enabled=False):
            for start in range(0, len(tokens_N), rows):
                part, tokens_n1 = slice(start, start + rows), tokens_N[start : start + rows, None]
                x_nD = states_ND[part].to(low)
                logprobs_nV = torch.log_softmax(product(x_nD, weight, bias, gradient=True), -1, dtype=exact)
                total -= logprobs_nV.gather(-1, tokens_n1).sum()
                grad_nV = logprobs_nV.exp_().scatter_add_(-1, tokens_n1, -torch.ones_like(tokens_n1, dtype=exact))
                if grad_bias is not None:
                    grad_bias += grad_nV.sum(0)
                grad_nV = grad_nV.to(low)
                if grad_states is not None:
                    grad_states[part] = product(grad_nV, weight.t(), gradient=True)
                if grad_weight is not None:
                    _add_product(grad_weight, grad_nV, x_nD)
        ctx.grads = grad_states, grad_weight, grad_bias
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        own, ctx.grads = ctx.grads, ()  # nobody else has them: no copy of a whole head while they are scaled
        return (*(None if grad is None else grad.mul_(grads[0].to(grad.dtype)) for grad in own), None)


def _add_product(total_VD: Tensor, grad_nV: Tensor, x_nD: Tensor) -> None:
    if total_VD.dtype == grad_nV.dtype:
        total_VD.addmm_(grad_nV.t(), x_nD)
    else:
        total_VD += grad_nV.t() @ x_nD
