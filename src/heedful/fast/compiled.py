"""Each decoder layer of a model as compiled code (`compute.compile = "layer"`): torch fuses the operators of a layer.

Only passes on packed rows are compiled, with any number of tokens. Attention runs between the compiled parts, since it
looks at each layout. What surrounds a layer's forward stays outside: hooks, recomputation, the gathering of shards. A
layer gets a subclass of its class and keeps its parameters, so names of weights do not change.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import nn

BACKEND = "inductor"
# Variants of one piece of code: with and without gradients, with adapters, in another precision, with a window
VARIANTS = 64
_PLAIN = "_heedful_plain_class"


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The outermost modules that a family calls its layers, also where shards have changed their classes."""
    names = {*(getattr(model, "_no_split_modules", None) or ())}
    layers = [module for module in model.modules() if names & {cls.__name__ for cls in type(module).__mro__}]
    inner = {id(part) for layer in layers for part in layer.modules() if part is not layer}
    return [layer for layer in layers if id(layer) not in inner]


def install(model: nn.Module) -> int:
    """Compile the layers of a model. Returns their number. Nothing is compiled before the first pass."""
    layers = layers_of(model)
    # dynamo looks at the gradients of hidden states
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf Tensor", UserWarning)
    for layer in layers:
        plain: Any = type(layer)
        layer.__class__ = _class_of(plain, BACKEND)
    return len(layers)


def remove(model: nn.Module) -> None:
    """Undo `install`."""
    for module in model.modules():
        plain = vars(type(module)).get(_PLAIN)
        if plain is not None:
            module.__class__ = plain


@cache
def _class_of(plain: Any, backend: str) -> type[nn.Module]:
    """A class of layers whose forward is compiled where a pass has a layout.

    transformers recomputes activations around the forward of such a subclass, so that part is not compiled.
    """
    dynamo: Any = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, VARIANTS)
    own: Any = plain.forward
    compiled: Any = torch.compile(own, backend=backend, dynamic=True)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (own if kwargs.get("layout") is None else compiled)(self, *args, **kwargs)

    made: type[nn.Module] = type(
        plain.__name__, (plain,), {"forward": forward, "__module__": plain.__module__, _PLAIN: plain}
    )
    return made
