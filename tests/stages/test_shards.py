"""Models cut into shards learn what whole ones learn, and leave the same files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from heedful.files import read_json
from heedful.runs.run import metrics
from heedful.training import checkpoint
from heedful.training.pieces import Stored
from stages import worlds
from stages.test_parallel import join, processes

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
CPU = torch.device("cpu")


def sharded_rank(rank: int, port: int, files: worlds.Files, out: Path, case: str, more: dict[str, Any]) -> None:
    join(rank, port, more.pop("size", 2))
    os.environ.update(more.pop("environment", {}))
    worlds.parallel_case(case, files, out, **{"compute": {"shard": "full"}, **more})


def two_shards(files: worlds.Files, out: Path, case: str, **more: Any) -> Path:
    """The case on two ranks with shards."""
    assert processes(sharded_rank, (files, out, case, more)) == [0, 0]
    return out / case


def apart(one: Path, other: Path, parts: dict[str, str]) -> dict[str, float]:
    """The largest difference of what two runs log, of their models, and of parts of their last checkpoints."""
    rows = list(zip(metrics(one), metrics(other), strict=True))
    assert rows
    found = {}
    for a, b in rows:
        assert a.keys() == b.keys()
        for key in a:
            found[key] = max(found.get(key, 0.0), abs(a[key] - b[key]) / max(1.0, abs(a[key])))
    names = sorted(path.name for path in (one / "model").iterdir())
    assert names == sorted(path.name for path in (other / "model").iterdir())
    for name in names:
        if name.endswith(".safetensors"):
            a, b = load_file(one / "model" / name), load_file(other / "model" / name)
            assert a.keys() == b.keys()
            found["model"] = max(float((a[key] - b[key]).abs().max()) for key in a)
        else:
            assert (one / "model" / name).read_bytes() == (other / "model" / name).read_bytes(), name
    ends = [checkpoint.latest(run / "checkpoints") for run in (one, other)]
    for part in parts:
        stored = [Stored(end, part) for end in ends if end is not None]
        assert stored[0].shapes == stored[1].shapes
        wholes = [{key: one.rows(key, torch.empty(shape)) for key, shape in one.shapes.items()} for one in stored]
        found[part] = max(float((wholes[0][key] - wholes[1][key]).abs().max()) for key in wholes[0])
    return found


def same_bytes_as_save_pretrained(model: Path, tmp_path: Path) -> None:
    again = AutoModelForCausalLM.from_pretrained(model)
    again.save_pretrained(tmp_path)
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / name).read_bytes() == (model / name).read_bytes(), name


def test_sft_in_shards_is_sft(files: worlds.Files, tmp_path: Path) -> None:
    """Losses, norms, clipped gradients, weights and Adam's moments to 1e-6, with packed rows and several micro-batches.

    The files are those of a run without shards.
    """
    more = {"optimiser": {"clip_norm": 0.5}}
    one = worlds.parallel_case("sft-llama", files, tmp_path / "one", **more)
    two = two_shards(files, tmp_path / "two", "sft-llama", **more)
    found = apart(one, two, dict.fromkeys(("model", "optimiser"), ""))
    assert {key: value for key, value in found.items() if value > 1e-6} == {}
    assert min(row["gradient_norm"] for row in metrics(one)) > 0.5
    manifest = read_json(two / "manifest.json")
    assert manifest["forward"] == {"model": "packed rows"}
    assert manifest["shard"] == "full, 2 shards"
    last = checkpoint.latest(two / "checkpoints")
    assert last is not None
    assert sorted(path.name for path in last.iterdir()) == [
        "SHA256SUMS", "index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "optimiser-00001-of-00002.safetensors", "optimiser-00002-of-00002.safetensors", "state.json",
    ]  # fmt: skip
    checkpoint.check_sums(last, "")
    same_bytes_as_save_pretrained(two / "model", tmp_path / "again")


def test_ppo_in_shards_is_ppo(files: worlds.Files, tmp_path: Path) -> None:
    """Policy, value net, reference, reward model and average in shards, and samples from gathered weights."""
    # a larger epsilon: Adam turns the rounding of a gradient of almost 0 into a step
    more: dict[str, Any] = {"episodes": 8, "optimiser": {"eps": 1e-5}, "value_optimiser": {"eps": 1e-5}}
    one = worlds.parallel_case("ppo-llama", files, tmp_path / "one", **more)
    two = two_shards(files, tmp_path / "two", "ppo-llama", **more)
    found = apart(one, two, dict.fromkeys(("policy", "average", "value"), ""))
    assert {key: value for key, value in found.items() if value > 1e-6} == {}
    assert (one / "samples.jsonl").read_text() == (two / "samples.jsonl").read_text()
    same_bytes_as_save_pretrained(two / "model", tmp_path / "again")
