"""Models cut into shards learn what whole ones learn, and leave the same files."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from heedful.config import UserError
from heedful.configs.shared import Lora, TrainingCompute
from heedful.files import read_json
from heedful.models import adapters, deferred, heads, shards, streamed
from heedful.runs.run import metrics
from heedful.training import checkpoint, parallel
from heedful.training.parallel import Ranks
from heedful.training.pieces import StoredPiece
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


def apart(one: Path, other: Path, *parts: str) -> dict[str, float]:
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
        elif name == "config.json":  # with the bias of a reward model
            configs = [read_json(run / "model" / name) for run in (one, other)]
            biases = [config.pop(heads.BIAS, 0.0) for config in configs]
            assert configs[0] == configs[1]
            found["bias"] = abs(biases[0] - biases[1])
        else:
            assert (one / "model" / name).read_bytes() == (other / "model" / name).read_bytes(), name
    ends = [checkpoint.latest(run / "checkpoints") for run in (one, other)]
    for part in parts:
        stored = [StoredPiece(end, part) for end in ends if end is not None]
        assert stored[0].shapes == stored[1].shapes
        wholes = [{key: one.rows(key, torch.empty(shape)) for key, shape in one.shapes.items()} for one in stored]
        found[part] = max(float((wholes[0][key] - wholes[1][key]).abs().max()) for key in wholes[0])
    return found


def same_bytes_as_save_pretrained(model: Path, tmp_path: Path) -> None:
    again = AutoModelForCausalLM.from_pretrained(model)
    again.save_pretrained(tmp_path)
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / name).read_bytes() == (model / name).read_bytes(), name


@pytest.mark.medium
def test_sft_in_shards_is_sft(files: worlds.Files, tmp_path: Path) -> None:
    """Losses, norms, clipped gradients, weights and Adam's moments to 1e-6, with packed rows and several micro-batches.

    The files are those of a run without shards.
    """
    more = {"optimiser": {"clip_norm": 0.5}}
    one = worlds.parallel_case("sft-llama", files, tmp_path / "one", **more)
    two = two_shards(files, tmp_path / "two", "sft-llama", **more)
    found = apart(one, two, "model", "optimiser")
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


@pytest.mark.medium
def test_ppo_in_shards_is_ppo(files: worlds.Files, tmp_path: Path) -> None:
    """Policy, value net, reference, reward model and average in shards, and samples from gathered weights."""
    # a larger epsilon: Adam turns the rounding of a gradient of almost 0 into a step
    more: dict[str, Any] = {"episodes": 8, "optimiser": {"eps": 1e-5}, "value_optimiser": {"eps": 1e-5}}
    one = worlds.parallel_case("ppo-llama", files, tmp_path / "one", **more)
    two = two_shards(files, tmp_path / "two", "ppo-llama", **more)
    found = apart(one, two, "policy", "average", "value")
    assert {key: value for key, value in found.items() if value > 1e-6} == {}
    assert (one / "samples.jsonl").read_text() == (two / "samples.jsonl").read_text()
    same_bytes_as_save_pretrained(two / "model", tmp_path / "again")


@pytest.mark.medium
def test_one_process_has_no_shards_and_says_so(
    files: worlds.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = worlds.train("sft", files, tmp_path / "run", compute={"shard": "full"}, epochs=1)
    assert "sft: compute.shard full is none with one process. Start several with torchrun\n" in capsys.readouterr().err
    assert read_json(run / "manifest.json")["shard"] == "none"


@pytest.mark.parametrize(
    ("shard", "size", "local", "device", "shape"),
    [
        ("none", 8, 8, "cuda", ()), ("full", 8, 4, "cpu", (8,)), ("full", 1, 1, "cuda", ()),
        ("auto", 8, 8, "cuda", (8,)), ("auto", 8, 8, "cpu", ()), ("hybrid", 8, 4, "cuda", (2, 4)),
    ],
)  # fmt: skip
def test_the_mesh(
    shard: Any, size: int, local: int, device: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert parallel.shape_of(TrainingCompute(shard=shard), size, device) == shape


@pytest.mark.parametrize(("size", "local"), [(8, 8), (8, 1), (7, 2)])
def test_hybrid_needs_machines_of_one_size(size: int, local: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    with pytest.raises(UserError, match=rf"compute.shard hybrid: .* here are {size} ranks, {local} on this machine"):
        parallel.shape_of(TrainingCompute(shard="hybrid"), size, "cuda")


def test_rows_are_those_of_chunk() -> None:
    for length in range(1, 9):
        for count in range(1, 6):
            parts = list(torch.arange(length).chunk(count))
            for place in range(count):
                first, stop = shards.rows_of(length, place, count)
                expected = parts[place].tolist() if place < len(parts) else []
                assert list(range(first, stop)) == expected


def test_a_file_written_in_any_order_has_the_bytes_of_safetensors(tmp_path: Path) -> None:
    tensors = {
        "b.weight": torch.randn(3, 5), "a": torch.randn(7).bfloat16(), "c": torch.randn(2, 2).half(),
        "B": torch.randn(4).bfloat16(), "\u00e9": torch.empty(0, 3),
    }  # fmt: skip
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    ours = streamed.TensorFile(tmp_path / "ours", [(name, tuple(x.shape), x.dtype) for name, x in tensors.items()])
    for name in sorted(tensors, key=len):
        ours.put(name, tensors[name])
    ours.close()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_weights_stay_in_their_files_only_where_these_are_clear(tmp_path: Path) -> None:
    """Surplus tensors, and two files of one name, are for the loader of transformers, which reports them."""
    folder = Path(worlds.save(tmp_path / "plain", tiny.policy()))
    config = tiny.policy().config
    build = functools.partial(deferred.build, type(tiny.policy()), str(folder), config)
    model = build()
    assert all(parameter.is_meta for parameter in model.parameters())
    with pytest.raises(UserError, match=r"^lora\.load_in_4bit needs whole models\. Leave out compute\.shard"):
        adapters.add(model, Lora(rank=4, load_in_4bit=True), seed=0, base=str(folder))
    weights = load_file(folder / "model.safetensors")
    save_file({"model.norm.weight": weights["model.norm.weight"] * 2}, folder / "other.safetensors")
    assert build() is None
    (folder / "other.safetensors").unlink()
    save_file({**weights, "model.extra.weight": torch.zeros(2)}, folder / "model.safetensors")
    assert build() is None


def test_a_family_without_layers_is_refused() -> None:
    model = tiny.policy()
    model._no_split_modules = None
    with pytest.raises(UserError, match="LlamaForCausalLM does not name its layers, so it cannot be cut into shards"):
        shards.put(model, None)  # type: ignore[arg-type]


def test_a_rank_without_a_pass_repeats_one_that_does_not_count() -> None:
    """3 passes on 2 ranks with shards: both make 2. Without shards each does its own."""
    cut: Any = object()
    dealt = [Ranks(rank, 2, torch.device("cpu"), torch.float32, shards=cut).deal("abc") for rank in range(2)]
    assert dealt == [[("a", True), ("c", True)], [("b", True), ("a", False)]]
    assert Ranks(1, 2, torch.device("cpu"), torch.float32).deal("abc") == [("b", True)]
    assert Ranks(1, 2, torch.device("cpu"), torch.float32, shards=cut).deal("") == []
