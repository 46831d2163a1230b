"""Write a sharded model as plain Hugging Face files, weight by weight. No rank ever holds more than one of them whole.

The files have the bytes that `save_pretrained` would write. Where a family's files hold other tensors than its modules,
the model is put together in the memory of the main rank instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from heedful.files import write_text
from heedful.models import deferred, saving, shards
from heedful.models.shards import Plain

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}  # as they are sorted
PER_FILE = "50GB"  # as in save_pretrained


class TensorFile:
    """A safetensors file whose tensors are written in any order, each once."""

    def __init__(self, path: Path, tensors: Iterable[tuple[str, tuple[int, ...], torch.dtype]]) -> None:
        """`tensors`: name, shape and precision of each. The larger precision comes first, then names count."""
        kinds = list(_NAMES)
        ordered = sorted(tensors, key=lambda one: (kinds.index(one[2]), one[0]))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._starts: dict[str, int] = {}
        end = 0
        for name, shape, dtype in ordered:
            start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
            self._starts[name] = start
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self._stream: IO[bytes] = path.open("wb")
        self._stream.write(len(text).to_bytes(8, "little") + text)
        self._data = self._stream.tell()

    def put(self, name: str, tensor: Tensor) -> None:
        """Write one of the tensors."""
        self._stream.seek(self._data + self._starts[name])
        self._stream.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)

    def close(self) -> None:
        self._stream.close()


class _Folder:
    """The weights of a model as one file or several with an index."""

    def __init__(self, model: Any, directory: Path) -> None:
        """`model`: on the meta device, in the precision of the files."""
        held = remove_tied_weights_from_state_dict(model.state_dict(), model)
        split = split_torch_state_dict_into_shards(
            held, filename_pattern="model{suffix}.safetensors", max_shard_size=PER_FILE
        )
        self._of = {name: file for file, names in split.filename_to_tensors.items() for name in names}
        self._dtypes = {name: held[name].dtype for name in self._of}
        self._files = {
            file: TensorFile(directory / file, [(name, tuple(held[name].shape), held[name].dtype) for name in names])
            for file, names in split.filename_to_tensors.items()
        }
        if split.is_sharded:
            about = {"total_parameters": model.num_parameters(), **split.metadata}
            index = {"metadata": about, "weight_map": split.tensor_to_filename}
            write_text(directory / "model.safetensors.index.json", json.dumps(index, indent=2, sort_keys=True) + "\n")

    def put(self, name: str, weight: Tensor) -> None:
        if name in self._of:
            self._files[self._of[name]].put(name, weight.to("cpu", self._dtypes[name]))

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def write(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path | None, dtype: torch.dtype) -> None:
    """Fill a directory as `saving.write` does. All ranks call this together, with None where nothing is written.

    An error is raised after the last weight, so that no rank waits for another.
    """
    plain = Plain(model)
    if not is_plain(plain.model):
        whole = shards.assembled(model, torch.float32, device=torch.device("cpu"), keep=directory is not None)
        if directory is not None:
            saving.write(whole, tokenizer, directory, dtype)
        return
    dtype = _wide_enough(model, dtype)
    folder, failure = None, None
    if directory is not None:
        try:
            _cast(plain.model, dtype)
            saving.write_around(plain.model, tokenizer, directory)
            folder = _Folder(plain.model, directory)
        except saving.ERRORS as error:
            failure = error
    for name, weight in plain.weights():
        if folder is not None and failure is None:
            try:
                folder.put(name, weight)
            except saving.ERRORS as error:
                failure = error
    if folder is not None:
        folder.close()
    if failure is not None:
        raise failure


def with_trained(model: Any) -> Any:
    """A copy of a sharded model on the meta device, but for the weights that are trained. All ranks call this."""
    made = deferred.copied(shards.unplaced(model))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            weight = nn.Parameter(shards.whole(parameter).to("cpu", copy=True))
            at, _, last = name.rpartition(".")
            made.get_submodule(at)._parameters[last] = weight
    return made


def is_plain(model: Any) -> bool:
    """Whether the tensors of a model's files are its parameters."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    changed = getattr(model, "_weight_conversions", None) or get_model_conversion_mapping(model, add_legacy=False)
    return not changed and not getattr(model, "_keys_to_ignore_on_save", None) and set(model.state_dict()) <= parameters


def _cast(model: Any, dtype: torch.dtype) -> None:
    exempt = saving.kept_in_float32(model)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if exempt(name) else dtype)


def _wide_enough(model: Any, dtype: torch.dtype) -> torch.dtype:
    """float32 if float16 would make an infinity of a weight. The same answer on every rank."""
    if dtype != torch.float16:
        return dtype
    here = [shards.local(parameter) for parameter in model.parameters()]
    largest = torch.stack([part.abs().max().double() for part in here if part.numel()]).max()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return saving.float16_or_wider(float(largest))
