"""Linear layers by the faster of two libraries: the one that torch's own layer calls (MKL), or oneDNN.

On AMD processors MKL stays below AVX-512, and it shares products of few rows out badly between threads
(docs/performance.md). The choice depends on the machine, the number of threads, the size, and whether there will be
gradients. It never depends on a measurement, so that the same run gives the same numbers.

`put_in(model)` makes every plain linear layer of a model a `OneDNNLinear`: the same weights, another forward. Adapters
that wrap a linear layer, its hooks and its state dict work as before.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from heedful.fast.trim import HOOKS

# Multiplications from which oneDNN is faster. With AVX-512: without gradients, and with them, where the number of rows
# changes from step to step and each new one costs a millisecond. Without AVX-512: several threads, no gradient.
LEAST_AVX512, LEAST_AVX512_GRADIENT = 1 << 22, 1 << 27
LEAST = 1 << 25
ROWS = 64  # for which `Fixed` reorders weights. Other numbers of rows use the same order


class OneDNNLinear(nn.Linear):
    """nn.Linear with another forward, on a CPU in float32. Elsewhere the same as nn.Linear."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def put_in(model: nn.Module) -> None:
    """Give every plain linear layer of a model on a CPU the forward of `OneDNNLinear`."""
    if _least(True, gradient=False) is None:
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.device.type == "cpu":
            module.__class__ = OneDNNLinear


def take_out(model: nn.Module) -> None:
    """Undo `put_in`."""
    for module in model.modules():
        if type(module) is OneDNNLinear:
            module.__class__ = nn.Linear  # type: ignore[assignment]


def is_plain(module: Any) -> bool:
    """Whether a module is a linear layer of no other kind, without hooks but ours: weight and bias are all it does."""
    if type(module) not in (nn.Linear, OneDNNLinear):
        return False
    hooks = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks]
    return all(hook in HOOKS for found in hooks for hook in found.values())


def linear(x: Tensor, weight_YX: Tensor, bias_Y: Tensor | None = None) -> Tensor:
    """x [... X] times weight' + bias: [... Y], with gradients (once)."""
    if not torch.is_grad_enabled():
        return product(x, weight_YX, bias_Y)
    if not _pays(x, weight_YX, gradient=True):
        return F.linear(x, weight_YX, bias_Y)
    y_NY: Tensor = _OneDNN.apply(x.flatten(0, -2), weight_YX, bias_Y)
    return y_NY.view(*x.shape[:-1], -1)


def product(x: Tensor, weight_YX: Tensor, bias_Y: Tensor | None = None, *, gradient: bool = False) -> Tensor:
    """The same without a graph. `gradient`: it is part of a training step nevertheless."""
    if _pays(x, weight_YX, gradient):
        return _product(x, weight_YX, bias_Y)
    return F.linear(x, weight_YX, bias_Y)


class Fixed:
    """y = x weight' + bias without gradients, for a weight that many calls use.

    With AVX-512 and `copy`, the weight is copied once into the order that oneDNN reads. That counts most for few rows.
    """

    def __init__(self, weight_YX: Tensor, bias_Y: Tensor | None = None, copy: bool = True) -> None:
        self.reordered, self.bias = _reordered(weight_YX) if copy else None, bias_Y
        self.weight = weight_YX if self.reordered is None else self.reordered

    def __call__(self, x_NX: Tensor) -> Tensor:
        if self.reordered is not None:
            return _product(x_NX, self.reordered, self.bias)
        return linear(x_NX, self.weight, self.bias)

    def added(self, states_NY: Tensor, x_NX: Tensor) -> Tensor:
        """states + y, in a new tensor."""
        if self.reordered is not None or _pays(x_NX, self.weight, gradient=False):
            return self(x_NX).add_(states_NY)
        if self.bias is not None:
            states_NY = states_NY + self.bias
        return torch.addmm(states_NY, x_NX, self.weight.t())


def _reordered(weight_YX: Tensor) -> Tensor | None:
    if weight_YX.device.type != "cpu" or weight_YX.dtype not in (torch.float32, torch.bfloat16):
        return None
    if _least(torch.get_num_threads() > 1, gradient=False) != LEAST_AVX512:
        return None
    if weight_YX.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    reordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_YX, ROWS)
    return reordered


def _pays(x: Tensor, weight_YX: Tensor, gradient: bool) -> bool:
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight_YX.dtype != torch.float32:
        return False
    least = _least(torch.get_num_threads() > 1, gradient)
    if least is None or torch.is_autocast_enabled("cpu"):
        return False
    return x.numel() * weight_YX.shape[0] >= least


@cache
def _least(several_threads: bool, gradient: bool) -> int | None:
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return None
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return LEAST_AVX512_GRADIENT if gradient else LEAST_AVX512
    return LEAST if several_threads and not gradient else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


class _OneDNN(torch.autograd.Function):
    """MKL computes the gradient of the weight: oneDNN would first reorder both factors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grads[0].contiguous()
        return (
            _product(grad, weight.t(), None) if of_x else None,
            grad.t() @ x if of_weight else None,
            grad.sum(0) if of_bias else None,
        )
