"""Checkpoints that survive `kill -9` and a power cut. The latest few and the best are kept.

A step of a stage is a function of config, inputs, seed and step number. So a checkpoint holds weights, optimisers and a
few numbers, and no random state. Tensors are safetensors and numbers are JSON. There is no pickle. SHA256SUMS holds the
hash of each file, as `sha256sum --check` reads it. One bit that differs is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from heedful import files
from heedful.config import NonFinite, UserError, explain
from heedful.data.formats import sha256
from heedful.files import read_json, write_json
from heedful.models import shards
from heedful.training import pieces
from heedful.training.optimiser import Average
from heedful.training.parallel import Ranks
from heedful.training.pieces import StoredPiece

SUMS, STEPS = "SHA256SUMS", "step-" + 8 * "[0-9]"
SHARED = "All machines must write the same folder"
SavedPart = nn.Module | torch.optim.Optimizer | Average


def check_finite(parts: Mapping[str, SavedPart], ranks: Ranks | None = None) -> None:
    """Raise NonFinite with the name of the first weight that is a NaN or an infinity."""
    bad = [
        f"{part_name}.{name}"
        for part_name, part in parts.items()
        for name, weight in (part.named_parameters() if isinstance(part, nn.Module) else ())
        if not torch.isfinite(shards.local(weight)).all()
    ]
    if ranks is not None and ranks.shards is not None:
        bad = [name for found in ranks.gather(bad) for name in found]
    if bad:
        raise NonFinite(f"the weight {bad[0]}")


class Best(BaseModel):
    """The best step so far, and its value: lower is better."""

    step: int = Field(ge=0)
    value: float


class CheckpointState(BaseModel):
    """The numbers of a checkpoint. Stages may add some of their own."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: int = Field(ge=0)
    best: Best | None = None
    kl_coef: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    stopped: str | None = None


def size_of(parts: Mapping[str, SavedPart]) -> int:
    """Bytes of one checkpoint. Adam keeps two numbers for each weight, once it has taken a step."""
    size = 0
    for part in parts.values():
        if isinstance(part, torch.optim.Optimizer):
            weights = [weight for group in part.param_groups for weight in group["params"]]
            size += 2 * sum(weight.numel() * weight.element_size() for weight in weights)
        else:
            size += sum(tensor.numel() * tensor.element_size() for tensor in _tensors(part).values())
    return size


def save(
    directory: Path, step: int, parts: Mapping[str, SavedPart], facts: dict[str, Any], ranks: Ranks | None = None
) -> Path:
    """Write checkpoint `step` under `directory`, whole or not at all, and flush it to the disk.

    The main rank writes it. With shards every rank writes its own, and all ranks call this together.
    """
    final = at(directory, step)
    with contextlib.ExitStack() as stack:
        folder = final
        if ranks is None or ranks.main:
            folder = stack.enter_context(files.replacing(final, sync=True))
            folder.mkdir(parents=True)
        lines: list[str] = []
        if ranks is not None and ranks.shards is not None:
            lines = _save_shards(ranks.broadcast(folder), parts, ranks)
        else:
            for name, part in parts.items():
                _write(_tensors(part), folder / f"{name}.safetensors")
        if ranks is None or ranks.main:
            write_json(folder / "state.json", {"step": step, **facts})
            write_sums(folder, lines)
    return final


def _save_shards(folder: Path, parts: Mapping[str, SavedPart], ranks: Ranks) -> list[str]:
    """Write the shards of this rank, and on the main rank the index. Returns the lines for SHA256SUMS of all ranks.

    If one rank cannot write, all raise UserError. With copies on several machines the first one writes.
    """
    assert ranks.shards is not None
    tensors = {name: _tensors(part) for name, part in parts.items()}
    place, count = ranks.shards.place, ranks.shards.count
    lines: list[str] = []
    failure: UserError | None = None
    try:
        for name, own in tensors.items() if ranks.rank < count else ():
            file = folder / pieces.name_of(name, place, count)
            _write({key: shards.local(tensor).contiguous() for key, tensor in own.items()}, file)
            files.flush(file)
            lines.append(f"{sha256(file)}  {file.name}\n")
        if ranks.main:
            write_json(folder / pieces.INDEX, pieces.index_of(tensors, count))
    except UserError as error:
        failure = error
    except OSError as error:
        failure = UserError(
            f"{folder}: rank {ranks.rank} cannot write its shards ({error.strerror or error}). {SHARED}"
        )
    found = ranks.gather((lines, failure))
    for _, failed in found:
        if failed is not None:
            raise failed
    return [line for own, _ in found for line in own]


def write_sums(directory: Path, lines: Sequence[str] = ()) -> None:
    """Write the hash of each file of a directory to SHA256SUMS. `lines`: those that are known already."""
    known = {line.partition("  ")[2].rstrip("\n") for line in lines}
    new = [f"{sha256(file)}  {file.name}\n" for file in directory.iterdir() if file.name not in known]
    files.write_text(directory / SUMS, "".join(sorted([*lines, *new], key=lambda line: line.partition("  ")[2])))


def latest(directory: Path) -> Path | None:
    """The newest whole checkpoint."""
    found = sorted(directory.glob(STEPS))
    return found[-1] if found else None


def load(path: Path, parts: Mapping[str, SavedPart], ranks: Ranks | None = None) -> dict[str, Any]:
    """Fill `parts` in place. Returns the facts that were saved with them, `step` among them.

    With `ranks` that hold shards, the main rank alone checks the files.

    Raises UserError before any part changes if a file is not as it was written, and if one does not fit its part.
    """
    remedy = f"Delete {path} to continue from the checkpoint before it, or from the start"
    if ranks is None or ranks.shards is None:
        check_sums(path, remedy)
    else:
        ranks.once(lambda: check_sums(path, remedy))
    try:
        facts = CheckpointState.model_validate(read_json(path / "state.json"))
    except (ValidationError, OSError) as error:
        why = explain(error, CheckpointState) if isinstance(error, ValidationError) else error.strerror
        raise _damaged(path / "state.json", str(why), remedy) from None
    if path != at(path.parent, facts.step):
        raise _damaged(path / "state.json", f"its step is {facts.step}", remedy)
    stored = {name: _open(path, name, remedy) for name in parts}
    for name, part in parts.items():
        try:
            _compare(stored[name].shapes, _wanted(part))
        except (KeyError, ValueError) as error:
            raise _damaged(path / f"{name}.safetensors", f"does not fit the model: {error.args[0]}", remedy) from None
    for name, part in parts.items():
        _fill(part, stored[name])
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


def _open(path: Path, part: str, remedy: str) -> StoredPiece:
    try:
        return StoredPiece(path, part)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path / f"{part}.safetensors", f"cannot be read: {error}", remedy) from None


def at(directory: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return directory / f"step-{step:08d}"


def prune(directory: Path, keep: int, best: int | None) -> None:
    """Keep the last `keep` checkpoints and the one of step `best`."""
    found = sorted(directory.glob(STEPS))
    for path in found[:-keep]:
        if best is None or path != at(directory, best):
            files.remove_directory(path)


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(file))
    except SafetensorError as error:
        raise UserError(f"{file}: cannot be written ({error}). The checkpoint before it is kept") from None


def _tensors(part: SavedPart) -> dict[str, Tensor]:
    if isinstance(part, Average | nn.Module):
        return {name: p.detach() for name, p in _trained(part).items()}
    return {
        f"{index}.{key}": value.detach()
        for index, state in part.state_dict()["state"].items()
        for key, value in state.items()
    }


def _trained(part: nn.Module | Average) -> dict[str, nn.Parameter]:
    """What a checkpoint holds of a model: the weights that are trained. The others come with the model."""
    if isinstance(part, Average):
        return part.weights
    return {name: weight for name, weight in part.named_parameters() if weight.requires_grad}


def _wanted(part: SavedPart) -> dict[str, torch.Size]:
    """The shapes that a checkpoint of this part has."""
    if isinstance(part, Average | nn.Module):
        return {name: parameter.shape for name, parameter in _trained(part).items()}
    return {
        f"{number}.{key}": parameter.shape if shape is None else shape
        for number, parameter in _numbered(part)
        for key, shape in _MOMENTS.items()
    }


_MOMENTS = {"step": torch.Size(), **dict.fromkeys(("exp_avg", "exp_avg_sq"))}


def _numbered(adam: torch.optim.Optimizer) -> list[tuple[int, Tensor]]:
    """The parameters of an optimiser with their numbers in its state."""
    trained = [parameter for group in adam.param_groups for parameter in group["params"]]
    numbers = [number for group in adam.state_dict()["param_groups"] for number in group["params"]]
    return list(zip(numbers, trained, strict=True))


@torch.no_grad()
def _fill(part: SavedPart, stored: StoredPiece) -> None:
    """Copy what is stored into a part that it fits. A rank reads what it holds."""
    if isinstance(part, Average | nn.Module):
        for name, weight in _trained(part).items():
            shards.local(weight).copy_(stored.rows(name, weight))
        return
    state: dict[int, dict[str, Tensor]] = {}
    for number, parameter in _numbered(part):
        for key, shape in _MOMENTS.items():
            mine = stored.rows(f"{number}.{key}", parameter)
            if shape is None:
                mine = shards.like(parameter, mine.to(parameter.device))
            state.setdefault(number, {})[key] = mine
    part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})


def _compare(shapes: Mapping[str, torch.Size], wanted: Mapping[str, torch.Size]) -> None:
    for name in [*wanted, *(name for name in shapes if name not in wanted)]:
        if name not in shapes or name not in wanted:
            raise KeyError(f"{name} is {'missing' if name in wanted else 'unknown'}")
        if shapes[name] != wanted[name]:
            raise ValueError(f"{name} has shape {list(shapes[name])} instead of {list(wanted[name])}")
