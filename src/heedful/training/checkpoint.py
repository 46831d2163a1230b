"""Checkpoints that survive `kill -9`. The latest few and the best are kept.

A step of a stage is a function of config, inputs, seed and step number. So a checkpoint holds weights, optimisers and a
few numbers, and no random state. Tensors are safetensors and numbers are JSON. There is no pickle.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from heedful import files
from heedful.config import NonFinite, UserError
from heedful.files import read_json, write_json
from heedful.training.optimiser import Average

Part = nn.Module | torch.optim.Optimizer | Average


def check_finite(parts: Mapping[str, Part]) -> None:
    """Raise NonFinite with the name of the first weight that is a NaN or an infinity."""
    for part_name, part in parts.items():
        for name, weight in part.named_parameters() if isinstance(part, nn.Module) else ():
            if not torch.isfinite(weight).all():
                raise NonFinite(f"the weight {part_name}.{name}")


def save(directory: Path, step: int, parts: Mapping[str, Part], facts: dict[str, Any]) -> Path:
    """Write checkpoint `step` under `directory`, whole or not at all."""
    final = directory / f"step-{step:08d}"
    with files.replacing(final) as temporary:
        temporary.mkdir(parents=True)
        for name, part in parts.items():
            _write(_tensors(part), temporary / f"{name}.safetensors")
        write_json(temporary / "state.json", {"step": step, **facts})
    return final


def latest(directory: Path) -> Path | None:
    """The newest whole checkpoint."""
    found = sorted(directory.glob("step-*"))
    return found[-1] if found else None


def load(path: Path, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Fill `parts` in place. Returns the facts that were saved with them, `step` among them."""
    for name, part in parts.items():
        _fill(part, _read(path / f"{name}.safetensors"))
    facts: dict[str, Any] = read_json(path / "state.json")
    return facts


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). Remove {path.parent} to continue from the checkpoint before it"
        ) from None
    return tensors


def prune(directory: Path, keep: int, best: int | None) -> None:
    """Keep the last `keep` checkpoints and the one of step `best`."""
    found = sorted(directory.glob("step-*"))
    for path in found[:-keep]:
        if best is None or path.name != f"step-{best:08d}":
            shutil.rmtree(path)


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file(tensors, str(file))
    except SafetensorError as error:
        raise UserError(f"{file}: cannot be written ({error}). The checkpoint before it is kept") from None


def _tensors(part: Part) -> dict[str, Tensor]:
    if isinstance(part, Average):
        part = part.model
    if isinstance(part, nn.Module):
        return {name: p.detach().contiguous() for name, p in part.named_parameters()}
    return {
        f"{index}.{key}": value.detach().contiguous()
        for index, state in part.state_dict()["state"].items()
        for key, value in state.items()
    }


def _fill(part: Part, tensors: dict[str, Tensor]) -> None:
    if isinstance(part, Average):
        part = part.model
    if isinstance(part, nn.Module):
        with torch.no_grad():
            for name, parameter in part.named_parameters():
                parameter.copy_(tensors[name])
        return
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})
