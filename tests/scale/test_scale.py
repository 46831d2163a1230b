"""Shards in every stage, on two and four ranks: equal numbers, kills, other numbers of ranks. `make test-scale`."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.fast import compiled
from heedful.files import read_json
from heedful.models import load
from heedful.runs.resumable import Interrupted
from heedful.runs.run import metrics
from heedful.training import checkpoint
from stages import worlds
from stages.test_parallel import processes
from stages.test_resume import at_step
from stages.test_shards import apart, sharded_rank, two_shards
from training.test_meeting import free_port

pytestmark = [
    pytest.mark.skipif(not os.environ.get("HEEDFUL_TEST_SCALE"), reason="shards in every stage: run make test-scale"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]
NEARLY = {"eps": 1e-5}  # Adam turns the rounding of a gradient of almost 0 into a step
ADAM: dict[str, Any] = {"optimiser": NEARLY}
ONLINE: dict[str, Any] = {"episodes": 8, "optimiser": NEARLY, "value_optimiser": NEARLY}
LORA = {"lora": {"rank": 4}}
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "pretrain": ("pretrain-", {}, ("model", "optimiser")),
    "sft": ("sft-llama", ADAM | {"compute": {"shard": "full", "activation_checkpointing": True}}, ("model",)),
    "sft padded": ("sft-llama", ADAM | {"compute": {"shard": "full", "fast": False}}, ("model",)),
    "sft qwen3": ("sft-qwen3", ADAM, ("model",)),
    "sft lora": ("sft-llama", ADAM | LORA, ("model", "optimiser")),
    "reward": ("reward-llama", ADAM, ("model", "optimiser")),
    "reward lora": ("reward-llama", ADAM | LORA, ("model",)),
    "dpo": ("dpo-llama", ADAM, ("model", "optimiser")),
    "dpo lora": ("dpo-llama", ADAM | LORA, ("model",)),
    "ppo": ("ppo-llama", ONLINE, ("policy", "value", "average")),
    "ppo lora": ("ppo-llama", ONLINE | LORA, ("policy", "value", "average")),
    "rloo": ("rloo-llama", {"episodes": 8, "optimiser": {"eps": 1e-2}}, ("policy", "average")),
    "grpo": ("grpo-llama", {name: ONLINE[name] for name in ("episodes", "optimiser")}, ("policy", "average")),
    "grpo lora": ("grpo-llama", {name: ONLINE[name] for name in ("episodes", "optimiser")} | LORA, ("policy",)),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    world = worlds.make(tmp_path_factory.mktemp("scale"))
    worlds._SMALL.setdefault("dpo", lambda files: {"data": files.rankings, "batch": 8, "valid_fraction": 0.2})
    worlds.save(world.root / "policy-qwen3", tiny.policy("qwen3", tie_word_embeddings=False))
    return world


@pytest.mark.parametrize("name", CASES)
def test_full_is_none(files: worlds.Files, tmp_path: Path, name: str) -> None:
    case, more, parts = CASES[name]
    alone = more | {"compute": {key: value for key, value in more.get("compute", {}).items() if key != "shard"}}
    one = worlds.parallel_case(case, files, tmp_path / "one", **alone)
    two = two_shards(files, tmp_path / "two", case, **more)
    found = apart(one, two, *parts)
    exact = {"model", "bias", *parts}  # figures are logged with 7 digits
    assert {key: value for key, value in found.items() if value > (1e-6 if key in exact else 5e-6)} == {}
    assert read_json(two / "manifest.json")["shard"] == "full, 2 shards"


def test_compiled_layers_are_plain_ones(files: worlds.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With shards, adapters and recomputed activations. By dynamo alone, to be quick."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    one = worlds.parallel_case("sft-llama", files, tmp_path / "one", **ADAM, **LORA)
    compute = {"shard": "full", "compile": "layer", "activation_checkpointing": True}
    two = two_shards(files, tmp_path / "two", "sft-llama", compute=compute, **ADAM, **LORA)
    assert {key: value for key, value in apart(one, two, "model").items() if value > 5e-6} == {}
    assert read_json(two / "manifest.json")["forward"] == {"model": "packed rows, compiled layers"}


def test_a_compiled_run_resumes_to_the_same_bits(
    files: worlds.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    more = {"compute": {"compile": "layer"}}
    whole = worlds.parallel_case("sft-llama", files, tmp_path / "whole", **more)
    with pytest.raises(Interrupted), at_step(0, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        worlds.parallel_case("sft-llama", files, tmp_path / "run", **more)
    again = worlds.parallel_case("sft-llama", files, tmp_path / "run", resume=True, **more)
    assert set(apart(whole, again, "model").values()) == {0.0}


def test_padded_gpt2(files: worlds.Files, tmp_path: Path) -> None:
    """The bias of its keys has a true gradient of 0, and Adam makes steps of the rounding: only losses are equal."""
    one = worlds.parallel_case("sft-gpt2", files, tmp_path / "one", compute={"fast": False})
    two = two_shards(files, tmp_path / "two", "sft-gpt2", compute={"shard": "full", "fast": False})
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_an_adapter_alone_is_that_of_one_process(files: worlds.Files, tmp_path: Path) -> None:
    more = {"lora": {"rank": 4, "save": "adapter"}} | ADAM
    one = worlds.parallel_case("sft-llama", files, tmp_path / "one", **more)
    two = two_shards(files, tmp_path / "two", "sft-llama", **more)
    models = [load.load_policy(run / "model")[0] for run in (one, two)]
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert float((a - b).detach().abs().max()) <= 1e-6


def test_low_precision_runs_and_learns(files: worlds.Files, tmp_path: Path) -> None:
    """bfloat16 passes over float32 shards. Frozen models keep bfloat16. Losses are near those of one process."""
    for case, key in (("sft-llama", "loss"), ("ppo-llama", "value_loss")):
        more: dict[str, Any] = {} if case == "sft-llama" else {"episodes": 8}
        one = worlds.parallel_case(case, files, tmp_path / "one", compute={"dtype": "bfloat16"}, **more)
        two = two_shards(files, tmp_path / "two", case, compute={"shard": "full", "dtype": "bfloat16"}, **more)
        for a, b in zip(metrics(one), metrics(two), strict=True):
            assert a[key] == pytest.approx(b[key], rel=0.1)


def test_hybrid_is_full(files: worlds.Files, tmp_path: Path) -> None:
    """Two "machines" of two ranks: the same numbers, and the first copy alone is in checkpoints."""
    one = worlds.parallel_case("sft-llama", files, tmp_path / "one", **ADAM)
    more = {"size": 4, "compute": {"shard": "hybrid"}, "environment": {"LOCAL_WORLD_SIZE": "2"}, **ADAM}
    assert processes(sharded_rank, (files, tmp_path / "four", "sft-llama", more), 4) == [0] * 4
    four = tmp_path / "four" / "sft-llama"
    found = apart(one, four, "model", "optimiser")
    assert {key: value for key, value in found.items() if value > 1e-6} == {}
    assert read_json(four / "manifest.json")["shard"] == "hybrid, 2 copies of 2 shards"


def command(files: worlds.Files, out: Path, *more: str) -> list[str]:
    how = ["--batch", "4", "--epochs", "8", "--optimiser.lr", "1e-3", "--checkpoint.every", "1", *more]
    where = ["--model", files.policy, "--data", files.demos, "--out", str(out)]
    return [sys.executable, "-m", "heedful", "sft", *where, "--compute.shard", "full", *how]


def start(files: worlds.Files, out: Path, rank: int, port: int, *more: str, **place: str) -> subprocess.Popen[str]:
    names = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        command(files, out, *more), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | names | place,
    )  # fmt: skip


def pair(files: worlds.Files, out: Path, *more: str, **place: str) -> list[subprocess.Popen[str]]:
    port = free_port()
    return [start(files, out, rank, port, *more, **place) for rank in range(2)]


def end(ranks: list[subprocess.Popen[str]]) -> None:
    """Kill what is left, and close the pipes."""
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        with contextlib.suppress(ValueError):  # read already
            rank.communicate(timeout=60)


def wait_for(out: Path, steps: int) -> None:
    until = time.monotonic() + 120
    while len(metrics(out) if (out / "metrics.jsonl").exists() else []) < steps:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("dead", [0, 1])
def test_a_killed_rank_ends_the_other_with_its_name(files: worlds.Files, tmp_path: Path, dead: int) -> None:
    ranks = pair(files, tmp_path / "run")
    try:
        wait_for(tmp_path / "run", 3)
        ranks[dead].kill()
        began = time.monotonic()
        _, said = ranks[1 - dead].communicate(timeout=100)
        assert time.monotonic() - began < 60
    finally:
        end(ranks)
    assert ranks[1 - dead].returncode == 2
    lines = [line for line in said.splitlines() if line.startswith(f"rank {dead} of 2 has died")]
    assert len(lines) == 1, said
    assert lines[0].endswith("start all ranks again with --resume")
    assert "Traceback" not in said


def test_a_stopped_rank_is_named(files: worlds.Files, tmp_path: Path) -> None:
    ranks = pair(files, tmp_path / "run", HEEDFUL_RANK_TIMEOUT="5")
    try:
        wait_for(tmp_path / "run", 3)
        ranks[1].send_signal(signal.SIGSTOP)
        _, said = ranks[0].communicate(timeout=100)
    finally:
        end(ranks)
    assert ranks[0].returncode == 2, said
    assert "Traceback" not in said
    assert "--resume" in said.splitlines()[-1]


def test_kills_at_random_moments_cost_nothing_but_time(files: worlds.Files, tmp_path: Path) -> None:
    """The same number of ranks: the same bytes, also of the last checkpoint."""
    for rank in pair(files, tmp_path / "whole"):
        _, said = rank.communicate(timeout=200)
        assert rank.returncode == 0, said
    draw, out, steps = random.Random(1), tmp_path / "run", len(metrics(tmp_path / "whole"))
    for kill in range(2):
        ranks = pair(files, out, *(["--resume"] if kill else []))
        before = len(metrics(out)) if (out / "metrics.jsonl").exists() else 0
        wait_for(out, min(before + draw.randint(1, 4), steps - 2))
        time.sleep(draw.random() / 10)
        end(ranks)
    for rank in pair(files, out, "--resume"):
        _, said = rank.communicate(timeout=200)
        assert rank.returncode == 0, said
    assert worlds.hashes(out) == worlds.hashes(tmp_path / "whole")
    assert (out / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    ends = [checkpoint.latest(run / "checkpoints") for run in (out, tmp_path / "whole")]
    assert None not in ends
    sums = [(end / checkpoint.SUMS).read_text() for end in ends if end is not None]
    tensors = [[line for line in text.splitlines() if line.endswith(".safetensors")] for text in sums]
    assert tensors[0] == tensors[1]
    assert len(tensors[0]) == 4


def stopping_rank(
    rank: int, port: int, files: worlds.Files, out: Path, case: str, step: int, more: dict[str, Any]
) -> None:
    try:
        with at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            sharded_rank(rank, port, files, out, case, more)
    except Interrupted:
        os._exit(7)


@pytest.mark.parametrize("case", ["sft-llama", "ppo-llama"])
def test_two_ranks_then_one_then_two(files: worlds.Files, tmp_path: Path, case: str) -> None:
    """Checkpoints of two ranks are read by one and the other way round, Adam's moments and the average with them."""
    more: dict[str, Any] = ADAM if case == "sft-llama" else ONLINE | {"episodes": 24}
    one = worlds.parallel_case(case, files, tmp_path / "one", **more)
    out = tmp_path / "run"
    assert processes(stopping_rank, (files, out, case, 0, dict(more))) == [7, 7]
    assert len(metrics(out / case)) == 1
    with pytest.raises(Interrupted), at_step(1, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        worlds.parallel_case(case, files, out, resume=True, **more)
    assert len(metrics(out / case)) == 2
    assert processes(sharded_rank, (files, out, case, more | {"resume": True})) == [0, 0]
    found = apart(one, out / case, "model" if case == "sft-llama" else "policy")
    assert {key: value for key, value in found.items() if value > (1e-6 if case == "sft-llama" else 5e-6)} == {}
    shutil.rmtree(out)


def test_a_full_disk_of_one_rank_ends_all_in_one_line(files: worlds.Files, tmp_path: Path) -> None:
    assert processes(full_disk_rank, (files, tmp_path)) == [5, 5]
    assert checkpoint.latest(tmp_path / "sft-llama" / "checkpoints") is None
    assert not list((tmp_path / "sft-llama" / "checkpoints").glob(".*"))


def full_disk_rank(rank: int, port: int, files: worlds.Files, out: Path) -> None:
    if rank == 1:

        def full(tensors: dict[str, torch.Tensor], file: Path) -> None:
            raise UserError(f"{file}: cannot be written (no space)")

        checkpoint._write = full  # type: ignore[assignment]
    try:
        sharded_rank(rank, port, files, out, "sft-llama", {})
    except UserError as error:
        os._exit(5 if "no space" in str(error) else 1)
