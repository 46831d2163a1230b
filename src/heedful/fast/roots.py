"""The weights outside of a sharded model's layers, around code that uses more of a model than its own forward.

A layer of a sharded model gathers its weights when it is called, and so does the model itself for what is left:
embeddings, last norm and head. heedful calls the body alone and reads the head's weight, so it says when to gather.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")
_METHOD = "_heedful_gathered"


def gather_by_fsdp(model: Any) -> None:
    """Let `gathered` gather the weights of a model that `fully_shard` has cut."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    setattr(model, _METHOD, _call)
    register_fsdp_forward_method(model, _METHOD)


def _call(work: Callable[[], Any]) -> Any:
    return work()


def gathers(model: Any) -> bool:
    """Whether a model is sharded, so that a forward pass is work of all ranks together."""
    return _METHOD in getattr(model, "__dict__", {})


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
    result: R = getattr(model, _METHOD)(work)
    return result


def whole_forward(model: Any, **inputs: Any) -> Any:
    """The model's own forward inside `gathered`."""
    return model.forward(**inputs) if gathers(model) else model(**inputs)
