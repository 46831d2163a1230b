"""Products of linear layers by the faster of two libraries: the one that torch's own layer calls (MKL), or oneDNN.

On AMD processors MKL stays below AVX-512, and it shares products of few rows out badly between threads
(docs/performance.md). Which one is used depends on the machine, the number of threads, the size and whether there will
be gradients, never on a measurement, so that the same run gives the same numbers.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Multiplications from which oneDNN is ahead. With AVX-512: without gradients, and with them, where the numbers of rows
# change from step to step and each new one has its price; without AVX-512, of several threads and no gradient.
LEAST_AVX512, LEAST_AVX512_GRADIENT = 1 << 22, 1 << 27
LEAST = 1 << 25
ROWS = 64  # for which `Fixed` lays weights out; other numbers are served by the same order


def linear(x_NX: Tensor, weight_YX: Tensor, bias_Y: Tensor | None = None) -> Tensor:
    """y_NY = x weight' + bias, with gradients (once)."""
    if not torch.is_grad_enabled():
        return product(x_NX, weight_YX, bias_Y)
    if not _pays(x_NX, weight_YX, gradient=True):
        return F.linear(x_NX, weight_YX, bias_Y)
    y_NY: Tensor = _OneDNN.apply(x_NX, weight_YX, bias_Y)
    return y_NY


def product(x_NX: Tensor, weight_YX: Tensor, bias_Y: Tensor | None = None, *, gradient: bool = False) -> Tensor:
    """The same, without a graph; `gradient`: it is part of a training step all the same."""
    if _pays(x_NX, weight_YX, gradient):
        return _product(x_NX, weight_YX, bias_Y)
    return F.linear(x_NX, weight_YX, bias_Y)


class Fixed:
    """y = x weight' + bias without gradients, of a weight that stays as it is over many calls. With AVX-512, and if
    `copy`, it is copied once into the order in which oneDNN reads it, which counts for few rows most of all.
    """

    def __init__(self, weight_YX: Tensor, bias_Y: Tensor | None = None, copy: bool = True) -> None:
        self.laid_out, self.bias = _laid_out(weight_YX) if copy else None, bias_Y
        self.weight = weight_YX if self.laid_out is None else self.laid_out

    def __call__(self, x_NX: Tensor) -> Tensor:
        if self.laid_out is not None:
            return _product(x_NX, self.laid_out, self.bias)
        return linear(x_NX, self.weight, self.bias)

    def added(self, states_NY: Tensor, x_NX: Tensor) -> Tensor:
        """states + y, in a new tensor."""
        if self.laid_out is not None or _pays(x_NX, self.weight, gradient=False):
            return self(x_NX).add_(states_NY)
        if self.bias is not None:
            states_NY = states_NY + self.bias
        return torch.addmm(states_NY, x_NX, self.weight.t())


def _laid_out(weight_YX: Tensor) -> Tensor | None:
    if weight_YX.device.type != "cpu" or weight_YX.dtype not in (torch.float32, torch.bfloat16):
        return None
    if _least(torch.get_num_threads() > 1, gradient=False) != LEAST_AVX512:
        return None
    if weight_YX.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_YX, ROWS)
    return laid_out


def through(module: Any, x_NX: Tensor) -> Tensor:
    """module(x) of any module, by `linear` where it is a plain linear layer without hooks."""
    y_NY: Tensor = linear(x_NX, module.weight, module.bias) if is_plain(module) else module(x_NX)
    return y_NY


def is_plain(module: Any) -> bool:
    hooked = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return type(module) is nn.Linear and not any(getattr(module, name) for name in hooked)


def _pays(x_NX: Tensor, weight_YX: Tensor, gradient: bool) -> bool:
    if x_NX.device.type != "cpu" or x_NX.dtype != torch.float32 or weight_YX.dtype != torch.float32:
        return False
    least = _least(torch.get_num_threads() > 1, gradient)
    return least is not None and len(x_NX) * weight_YX.numel() >= least and not torch.is_autocast_enabled("cpu")


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
    """The gradient of the weight is left to MKL: oneDNN would first lay both factors out anew."""

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
