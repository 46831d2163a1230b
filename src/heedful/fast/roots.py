"""The weights outside of a sharded model's layers, around code that uses more of a model than its own forward.

A layer of a sharded model gathers its weights when it is called, and so does the model itself for what is left:
embeddings, last norm and head. heedful calls the body alone and reads the head's weight, so it says when to gather.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")
METHOD = "_heedful_gathered"


def gathers(model: Any) -> bool:
    """Whether a model is sharded, so that a forward pass is work of all ranks together."""
    return METHOD in getattr(model, "__dict__", {})


def is_shard(module: Any) -> bool:
    """Whether a part of a model is a shard of its own, whose weights only its own forward gathers."""
    return hasattr(module, "unshard")


def recover(model: Any) -> None:
    """After an error in a pass: a sharded model forgets that pass, and can run another one."""
    if gathers(model):
        model.reset_iter_state()


def gathered(model: Any, work: Callable[[], R]) -> R:
    """work(), in which a sharded model's own weights are whole. It must not call the model, but may call its body.

    The result is a tensor, or a tuple of some: the backward pass begins there.
    """
    if not gathers(model):
        return work()
    result: R = getattr(model, METHOD)(work)
    return result


def whole_forward(model: Any, **inputs: Any) -> Any:
    """The model's own forward inside `gathered`."""
    return model.forward(**inputs) if gathers(model) else model(**inputs)
