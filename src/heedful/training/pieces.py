"""What a checkpoint holds of one part, as whole tensors or as the shards of several ranks.

A run on one process, or on ranks that hold models whole, writes `PART.safetensors`. With shards every rank writes
`PART-RANK-of-RANKS.safetensors`, and `index.json` has the whole shapes. Both can be read by any number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from heedful.files import read_json
from heedful.models import shards

INDEX = "index.json"


def name_of(part: str, place: int, count: int) -> str:
    """The file of a shard. Counted from 1, as in files of large models."""
    return f"{part}-{place + 1:05d}-of-{count:05d}.safetensors"


def index_of(tensors: Mapping[str, Mapping[str, Tensor]], count: int) -> dict[str, Any]:
    """What index.json holds: the number of shards, and the whole shape of each tensor of each part."""
    shapes = {part: {name: list(tensor.shape) for name, tensor in own.items()} for part, own in tensors.items()}
    return {"shards": count, "parts": shapes}


class StoredPiece:
    """One part of a checkpoint. Raises SafetensorError, OSError or KeyError for what cannot be read."""

    def __init__(self, checkpoint: Path, part: str) -> None:
        if (checkpoint / INDEX).exists():
            index = read_json(checkpoint / INDEX)
            self._count = int(index["shards"])
            self._files = [checkpoint / name_of(part, place, self._count) for place in range(self._count)]
            self.shapes = {name: torch.Size(shape) for name, shape in index["parts"][part].items()}
            return
        self._count, self._files = 1, [checkpoint / f"{part}.safetensors"]
        with safe_open(self._files[0], framework="pt") as tensors:
            names = list(tensors.keys())
            self.shapes = {name: torch.Size(tensors.get_slice(name).get_shape()) for name in names}

    def rows(self, name: str, like: Tensor) -> Tensor:
        """What this rank holds of a tensor that is cut as `like` is."""
        shape = self.shapes[name]
        if not shape:
            with safe_open(self._files[0], framework="pt") as tensors:
                number: Tensor = tensors.get_tensor(name)
            return number
        first, stop = shards.span(like)
        found = []
        for place, file in enumerate(self._files):
            begin, end = shards.rows_of(shape[0], place, self._count)
            if first < end and begin < stop:
                with safe_open(file, framework="pt") as tensors:
                    found.append(tensors.get_slice(name)[max(first, begin) - begin : min(stop, end) - begin])
        if not found:  # fewer rows than ranks
            return torch.empty(0, *shape[1:], dtype=like.dtype)
        return found[0] if len(found) == 1 else torch.cat(found)
