"""Models cut into shards (FSDP2): every rank keeps some rows of each parameter, of its gradient and of Adam's moments.

A layer's weights are gathered for the time of its forward and backward pass, and those outside of layers for the time
of a pass of the whole model (fast/roots.py). All ranks therefore run the same number of passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heedful.config import UserError
from heedful.fast.api import gather_by_fsdp, gathers, layers_of
from heedful.models import deferred
from heedful.models.deferred import WeightSource, sources_of

_SKELETON = "_heedful_skeleton"
LORA_A, LORA_B, BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


@dataclass(frozen=True)
class Shards:
    """How models are cut. `mesh`: a DeviceMesh with the dimension "shard", and "replicate" before it for hybrid."""

    mesh: Any
    device: torch.device
    dtype: torch.dtype
    """Of the passes. Frozen weights are kept in it, trained ones in float32."""

    def __str__(self) -> str:
        if self.mesh.ndim == 1:
            return f"full, {self.count} shards"
        return f"hybrid, {self.mesh.size() // self.count} copies of {self.count} shards"

    @property
    def group(self) -> Any:
        """The ranks that hold the shards of one copy."""
        return self.mesh.get_group("shard")

    @property
    def count(self) -> int:
        """Shards of one copy."""
        return int(self.mesh.size(self.mesh.mesh_dim_names.index("shard")))

    @property
    def place(self) -> int:
        """Which of them this rank holds."""
        return int(self.mesh.get_local_rank("shard"))


@dataclass(frozen=True)
class _InShard:
    """This rank's rows of a parameter of another model that is cut in the same way."""

    parameter: nn.Parameter

    def rows(self, first: int, stop: int) -> Tensor:
        found = local(self.parameter)
        assert len(found) == stop - first
        return found


def rows_of(length: int, place: int, count: int) -> tuple[int, int]:
    """[first, stop) of the rows that shard `place` of `count` holds: those of torch.chunk. 5 rows on 2: 0-3 and 3-5."""
    each = -(-length // count)
    return min(place * each, length), min((place + 1) * each, length)


def is_sharded(model: Any) -> bool:
    """Whether a model is cut into shards."""
    return gathers(model)


def is_shard(module: Any) -> bool:
    """Whether a part of a model is a shard of its own, whose weights only its own forward gathers."""
    return hasattr(module, "unshard")


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor: its shard, or all of one that is not cut."""
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found.detach()


def span(tensor: Tensor) -> tuple[int, int]:
    """[first, stop) of the rows of a tensor that this rank holds."""
    mesh = getattr(tensor, "device_mesh", None)
    if mesh is None:
        return 0, len(tensor)
    count = int(mesh.size(mesh.mesh_dim_names.index("shard")))
    return rows_of(tensor.shape[0], int(mesh.get_local_rank("shard")), count)


def like(tensor: Any, mine: Tensor) -> Tensor:
    """A tensor that is cut as this one is, of which this rank holds `mine`."""
    if not hasattr(tensor, "device_mesh"):
        return mine
    from torch.distributed.tensor import DTensor

    made: Tensor = DTensor.from_local(
        mine, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
    return made


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, on every rank. All ranks ask for it together."""
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found.detach()


def put(model: Any, shards: Shards) -> Any:
    """Cut a model into shards on the device of this rank, and read them. Returns the model.

    Raises UserError for a family that does not say what its layers are.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    layers = _layers(model)
    deferred.emptied(model, shards.dtype)
    skeleton = deferred.copied(model)
    lower = shards.dtype != torch.float32
    exact = torch.float64 if shards.device.type == "cpu" and not lower else torch.float32
    policy = MixedPrecisionPolicy(
        param_dtype=shards.dtype if lower else None, reduce_dtype=exact, cast_forward_inputs=False
    )
    # the scalar head in float32: a lower precision would round scores to a few bits
    own = MixedPrecisionPolicy(reduce_dtype=exact, cast_forward_inputs=False)
    head = getattr(model, "score", None)
    parts = [(layer, policy) for layer in layers]
    parts += [(head, own)] if lower and isinstance(head, nn.Linear) else []
    for module, how in [*parts, (model, policy)]:
        fully_shard(module, mesh=shards.mesh, mp_policy=how, reshard_after_forward=True)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo and others have no sum that multiplies
        module.set_reduce_scatter_unused_params(True, recurse=False)
    sources = sources_of(skeleton)
    _fill(model, shards, sources)
    here: dict[str, WeightSource] = {name: _InShard(parameter) for name, parameter in model.named_parameters()}
    in_files: dict[str, WeightSource] = {
        name: source for name, source in sources.items() if isinstance(source, deferred.InFile)
    }
    deferred.set_sources(skeleton, here | in_files)  # nothing whole stays in memory
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(shards.device)
    gather_by_fsdp(model)
    skeleton._heedful_shards = shards
    model.__dict__[_SKELETON] = skeleton
    return model


def _layers(model: Any) -> list[nn.Module]:
    """The layers of a model, by the names that its family gives them."""
    layers = layers_of(model)
    odd = [
        name for name, parameter in model.named_parameters() if parameter.ndim == 0 or not parameter.is_floating_point()
    ]
    if not layers or odd:
        why = f"has the weight {odd[0]} that has no rows of floats" if odd else "does not name its layers"
        raise UserError(f"{type(model).__name__} {why}, so it cannot be cut into shards. Use compute.shard = none")
    return layers


@torch.no_grad()
def _fill(model: Any, shards: Shards, sources: dict[str, WeightSource]) -> None:
    """Give every parameter its rows. A parameter that several modules share stays one."""
    made: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        mine = sources[name].rows(*span(parameter)).to(shards.device, parameter.dtype, copy=True).contiguous()
        made[id(parameter)] = nn.Parameter(like(parameter, mine), parameter.requires_grad)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = made[id(parameter)]


def unplaced(model: Any) -> Any:
    """A copy of a sharded model before it was cut, to change it and cut it again. Any other model is itself.

    Its weights are those of the files that the model came from, or what its shards hold now.
    """
    if not is_sharded(model):
        return model
    return deferred.copied(model.__dict__[_SKELETON])


def shards_of(model: Any) -> Shards:
    """How a sharded model is cut."""
    found: Shards = model.__dict__[_SKELETON]._heedful_shards
    return found


def twin(model: Any) -> Any:
    """A sharded model with the same weights as this one has now, all in the precision of this one."""
    made = unplaced(model)
    deferred.set_sources(made, {name: _InShard(parameter) for name, parameter in model.named_parameters()})
    return put(made, shards_of(model))


class Plain:
    """A sharded model as its family's plain one: names and shapes, without adapters, and its weights one by one."""

    def __init__(self, model: Any) -> None:
        self._parameters = dict(model.named_parameters())
        self._names = {name.replace(BASE, "."): name for name in self._parameters if ".lora_" not in name}
        self._model = model
        self.model: Any = _without_adapters(deferred.copied(model.__dict__[_SKELETON]))
        """The plain model on the meta device."""
        self.device = shards_of(model).device

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight with its name, whole and with its adapter added. All ranks go through them together."""
        for name, own in self._names.items():
            yield name, self._whole(own)

    def _whole(self, name: str) -> Tensor:
        weight = whole(self._parameters[name])
        layer = name.partition(BASE)[0]
        if BASE not in name or not name.endswith(".weight") or layer + LORA_A not in self._parameters:
            return weight
        a, b = (whole(self._parameters[layer + end]) for end in (LORA_A, LORA_B))
        adapter = self._model.get_submodule(layer)
        product = b @ a
        product = (product.T if adapter.fan_in_fan_out else product) * adapter.scaling["default"]
        return weight.float() + product.float()


def assembled(model: Any, dtype: torch.dtype, *, device: torch.device | None = None, keep: bool = True) -> Any:
    """A whole plain model with the weights that a sharded one has now. All ranks make it together.

    `keep`: whether this rank needs it. One that does not gets None.
    """
    plain = Plain(model)
    at = device or plain.device
    made: dict[str, nn.Parameter] = {}
    for name, weight in plain.weights():
        if keep:
            made[name] = nn.Parameter(weight.to(at, dtype, copy=True), requires_grad=False)
    if not keep:
        return None
    by_id = {id(parameter): made[name] for name, parameter in plain.model.named_parameters()}
    for module in plain.model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = by_id[id(parameter)]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(at)
    return plain.model.eval()


def _without_adapters(skeleton: Any) -> Any:
    for name, module in list(skeleton.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
            skeleton.set_submodule(name, module.get_base_layer())
    for attribute in ("_heedful_lora", "peft_config"):
        vars(skeleton).pop(attribute, None)
    return skeleton
