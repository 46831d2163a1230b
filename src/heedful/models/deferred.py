"""Models whose weights are still in their files: parameters on the meta device, and where each of them comes from.

A sharded model never is whole on any rank. It is built without weights, changed like any other (a head, adapters),
cut between the ranks, and then each rank reads its rows of each parameter.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.conversion_mapping import get_model_conversion_mapping

from heedful.models.saving import kept_in_float32

_SOURCES = "_heedful_sources"


class WeightSource(Protocol):
    """Where the rows of a parameter come from."""

    def rows(self, first: int, stop: int) -> Tensor:
        """Rows [first, stop) along the first dimension, on any device and in any precision."""
        ...


@dataclass(frozen=True)
class InFile:
    """A tensor of a safetensors file. Rows beyond its last one are zeros: a pad token that was added."""

    file: Path
    name: str
    shape: tuple[int, ...]

    def rows(self, first: int, stop: int) -> Tensor:
        with safe_open(self.file, framework="pt") as tensors:
            found: Tensor = tensors.get_slice(self.name)[min(first, self.shape[0]) : min(stop, self.shape[0])]
        lacking = stop - first - len(found)
        return found if not lacking else torch.cat([found, found.new_zeros(lacking, *self.shape[1:])])


@dataclass(frozen=True)
class InMemory:
    """A tensor that is there."""

    tensor: Tensor

    def rows(self, first: int, stop: int) -> Tensor:
        return self.tensor[first:stop]


@dataclass(frozen=True)
class Scaled:
    """Another source times a number."""

    source: WeightSource
    factor: float

    def rows(self, first: int, stop: int) -> Tensor:
        return self.source.rows(first, stop) * self.factor


class Sources(dict[str, WeightSource]):
    """Sources by parameter. A copy of a model has the same ones."""

    def __deepcopy__(self, memo: Any) -> Sources:
        return Sources(self)


def sources_of(model: Any) -> Sources:
    """The sources of a model's parameters, by name. One without a source here is in memory."""
    found: Sources | None = getattr(model, _SOURCES, None)
    return found if found is not None else Sources()


def set_sources(model: Any, sources: Mapping[str, WeightSource]) -> None:
    """Note where the parameters of a model come from. Names that it does not have are left out."""
    names = {name for name, _ in model.named_parameters()}
    setattr(model, _SOURCES, Sources({name: source for name, source in sources.items() if name in names}))


def renamed(model: Any, names: Callable[[str], str]) -> None:
    """Follow a change of the names of parameters."""
    if sources := sources_of(model):
        set_sources(model, {names(name): source for name, source in sources.items()})


def scale(model: Any, part: str, factor: float) -> None:
    """Multiply the parameters of a part of the model, wherever they are."""
    sources = Sources(sources_of(model))
    for name, parameter in model.get_submodule(part).named_parameters():
        if parameter.is_meta:
            sources[f"{part}.{name}"] = Scaled(sources[f"{part}.{name}"], factor)
        else:
            with torch.no_grad():
                parameter.mul_(factor)
    if sources:
        set_sources(model, sources)


def build(cls: Any, source: str, config: Any, **how: Any) -> Any | None:
    """The model of a folder without its weights, or None if its files must be loaded by transformers.

    That is so for a model of the hub, and where the files hold other tensors than the model has.
    """
    tensors = _tensors_in(Path(source))
    if not tensors or getattr(config, "quantization_config", None) is not None:
        return None
    with parameters_on_meta():
        model = cls.from_config(config, dtype=torch.float32, **how) if hasattr(cls, "from_config") else cls(config)
    model.tie_weights()
    if get_model_conversion_mapping(model, add_legacy=False):
        return None
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if any(name not in tensors or tensors[name].shape != shape for name, shape in shapes.items()):
        return None
    buffers = {name for name, _ in model.named_buffers()}
    if tensors.keys() - shapes.keys() - buffers:  # transformers says what becomes of them, such as of a head not tied
        return None
    if model.can_generate():
        with contextlib.suppress(OSError):
            model.generation_config = GenerationConfig.from_pretrained(source, local_files_only=True)
    set_sources(model, tensors)
    return model


@contextlib.contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Inside, new modules have their parameters on the meta device. Buffers, as of rotary embeddings, are computed."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def emptied(model: Any, dtype: torch.dtype) -> Any:
    """Move every parameter to the meta device, in float32 if it is trained, else in `dtype`. Returns the model.

    Tied parameters stay tied. What was in memory becomes a source.
    """
    exempt = kept_in_float32(model)
    sources = Sources(sources_of(model))
    kinds: dict[int, torch.dtype] = {}
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            sources[name] = InMemory(parameter.detach())
        keeps = parameter.requires_grad or exempt(name) or name.startswith("score.")  # a scalar head
        kinds[id(parameter)] = torch.float32 if keeps else dtype
    made: dict[int, nn.Parameter] = {}
    replaced = []  # alive until the end, so that no id is used twice
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                empty = torch.empty(parameter.shape, device="meta", dtype=kinds[id(parameter)])
                made[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
                replaced.append(parameter)
            module._parameters[name] = made[id(parameter)]
    set_sources(model, sources)
    return model


def copied(model: Any) -> Any:
    """A copy of a deferred model that shares its config, so that a later note in the config counts for both."""
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    return copy.deepcopy(model, dict(configs))


def _tensors_in(folder: Path) -> dict[str, InFile]:
    """What the safetensors files of a folder hold.

    Nothing if one is damaged, or if two hold the same name: the loader of transformers says why, and which one counts.
    """
    found: dict[str, InFile] = {}
    for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    if name in found:
                        return {}
                    found[name] = InFile(file, name, tuple(tensors.get_slice(name).get_shape()))
        except (SafetensorError, OSError):
            return {}
    return found
