"""Checkpoints that survive `kill -9` and a power cut. The latest few and the best are kept.

A step of a stage is a function of config, inputs, seed and step number. So a checkpoint holds weights, optimisers and a
few numbers, and no random state. Tensors are safetensors and numbers are JSON. There is no pickle. SHA256SUMS holds the
hash of each file, as `sha256sum --check` reads it. One bit that differs is an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from heedful import files
from heedful.config import NonFinite, UserError, explain
from heedful.data.formats import sha256
from heedful.files import read_json, write_json
from heedful.training.optimiser import Average

SUMS, STEPS = "SHA256SUMS", "step-" + 8 * "[0-9]"
Part = nn.Module | torch.optim.Optimizer | Average


def check_finite(parts: Mapping[str, Part]) -> None:
    """Raise NonFinite with the name of the first weight that is a NaN or an infinity."""
    for part_name, part in parts.items():
        for name, weight in part.named_parameters() if isinstance(part, nn.Module) else ():
            if not torch.isfinite(weight).all():
                raise NonFinite(f"the weight {part_name}.{name}")


class Best(BaseModel):
    """The best step so far, and its value: lower is better."""

    step: int = Field(ge=0)
    value: float


class State(BaseModel):
    """The numbers of a checkpoint. Stages may add some of their own."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: int = Field(ge=0)
    best: Best | None = None
    kl_coef: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    stopped: str | None = None


def size_of(parts: Mapping[str, Part]) -> int:
    """Bytes of one checkpoint. Adam keeps two numbers for each weight, once it has taken a step."""
    size = 0
    for part in parts.values():
        if isinstance(part, torch.optim.Optimizer):
            weights = [weight for group in part.param_groups for weight in group["params"]]
            size += 2 * sum(weight.numel() * weight.element_size() for weight in weights)
        else:
            size += sum(tensor.numel() * tensor.element_size() for tensor in _tensors(part).values())
    return size


def save(directory: Path, step: int, parts: Mapping[str, Part], facts: dict[str, Any]) -> Path:
    """Write checkpoint `step` under `directory`, whole or not at all, and flush it to the disk."""
    final = at(directory, step)
    with files.replacing(final, sync=True) as temporary:
        temporary.mkdir(parents=True)
        for name, part in parts.items():
            _write(_tensors(part), temporary / f"{name}.safetensors")
        write_json(temporary / "state.json", {"step": step, **facts})
        write_sums(temporary)
    return final


def write_sums(directory: Path) -> None:
    """Write the hash of each file of a directory to SHA256SUMS."""
    lines = [f"{sha256(file)}  {file.name}\n" for file in sorted(directory.iterdir())]
    files.write_text(directory / SUMS, "".join(lines))


def latest(directory: Path) -> Path | None:
    """The newest whole checkpoint."""
    found = sorted(directory.glob(STEPS))
    return found[-1] if found else None


def load(path: Path, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Fill `parts` in place. Returns the facts that were saved with them, `step` among them.

    Raises UserError before any part changes if a file is not as it was written, and if one does not fit its part.
    """
    remedy = f"Delete {path} to continue from the checkpoint before it, or from the start"
    check_sums(path, remedy)
    try:
        facts = State.model_validate(read_json(path / "state.json"))
    except (ValidationError, OSError) as error:
        why = explain(error, State) if isinstance(error, ValidationError) else error.strerror
        raise _damaged(path / "state.json", str(why), remedy) from None
    if path != at(path.parent, facts.step):
        raise _damaged(path / "state.json", f"its step is {facts.step}", remedy)
    tensors = {name: _read(path / f"{name}.safetensors", remedy) for name in parts}
    for name, part in parts.items():
        try:
            _fill(part, tensors[name])
        except (KeyError, ValueError) as error:
            raise _damaged(path / f"{name}.safetensors", f"does not fit the model: {error.args[0]}", remedy) from None
    return facts.model_dump(exclude_unset=True)


def check_sums(path: Path, remedy: str) -> None:
    """Raise UserError with the remedy if a file is not as it was written. Earlier versions of heedful wrote no sums."""
    if not (path / SUMS).exists():
        return
    lines = (path / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if sums.keys() != {file.name for file in path.iterdir()} - {SUMS}:
        raise _damaged(path / SUMS, "it lists other files than there are", remedy)
    for name, digest in sums.items():
        if sha256(path / name) != digest:
            raise _damaged(path / name, "its bytes are not those that were written", remedy)


def _damaged(file: Path, why: str, remedy: str) -> UserError:
    return UserError(f"{file}: damaged ({why}). {remedy}")


def _read(path: Path, remedy: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise _damaged(path, f"cannot be read: {error}", remedy) from None
    return tensors


def at(directory: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return directory / f"step-{step:08d}"


def prune(directory: Path, keep: int, best: int | None) -> None:
    """Keep the last `keep` checkpoints and the one of step `best`."""
    found = sorted(directory.glob(STEPS))
    for path in found[:-keep]:
        if best is None or path != at(directory, best):
            shutil.rmtree(path)


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file(tensors, str(file))
    except SafetensorError as error:
        raise UserError(f"{file}: cannot be written ({error}). The checkpoint before it is kept") from None


def _tensors(part: Part) -> dict[str, Tensor]:
    if isinstance(part, Average | nn.Module):
        return {name: p.detach().contiguous() for name, p in _trained(part).items()}
    return {
        f"{index}.{key}": value.detach().contiguous()
        for index, state in part.state_dict()["state"].items()
        for key, value in state.items()
    }


def _trained(part: nn.Module | Average) -> dict[str, nn.Parameter]:
    """What a checkpoint holds of a model: the weights that are trained. The others come with the model."""
    if isinstance(part, Average):
        return part.weights
    return {name: weight for name, weight in part.named_parameters() if weight.requires_grad}


def _fill(part: Part, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors into a part. Raises KeyError or ValueError, before the part changes, if they do not fit."""
    if isinstance(part, Average | nn.Module):
        parameters = _trained(part)
        _compare(tensors, {name: parameter.shape for name, parameter in parameters.items()})
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
        return
    groups = part.state_dict()["param_groups"]
    trained = [parameter for group in part.param_groups for parameter in group["params"]]
    numbers = [number for group in groups for number in group["params"]]
    shapes = {"step": torch.Size(), **dict.fromkeys(("exp_avg", "exp_avg_sq"))}
    wanted = {
        f"{number}.{key}": parameter.shape if shape is None else shape
        for number, parameter in zip(numbers, trained, strict=True)
        for key, shape in shapes.items()
    }
    _compare(tensors, wanted)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    part.load_state_dict({"state": state, "param_groups": groups})


def _compare(tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> None:
    for name in [*wanted, *(name for name in tensors if name not in wanted)]:
        if name not in tensors or name not in wanted:
            raise KeyError(f"{name} is {'missing' if name in wanted else 'unknown'}")
        if tensors[name].shape != wanted[name]:
            raise ValueError(f"{name} has shape {list(tensors[name].shape)} instead of {list(wanted[name])}")
