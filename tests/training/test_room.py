"""A run that cannot fit ends before a model is loaded. The rest is checked when the rows are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.dpo import DPOConfig
from heedful.configs.grpo import GRPOConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.rloo import RLOOConfig
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import TrainingCompute
from heedful.learning.examples import Example, Question, Ranked
from heedful.learning.passes import ranking_shape, step_shape
from heedful.learning.rollouts import sampled
from heedful.models import load
from heedful.planning.job import StepShape
from heedful.stages import dpo, grpo, ppo, pretrain, reward, rloo, sft
from heedful.training import machine, room
from heedful.training.parallel import Ranks

GIB = 1 << 30
ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)
OFFLINE = {"model": "llama-3.1-8b", "data": "rows.jsonl"}
ONLINE = {"policy": "llama-3.1-8b", "reward": ["not-there"], "prompts": "rows.jsonl"}
STAGES = [
    (sft, SFTConfig(**OFFLINE)), (reward, RewardConfig(**OFFLINE)), (dpo, DPOConfig(**OFFLINE)),
    (ppo, PPOConfig(**ONLINE)), (rloo, RLOOConfig(**ONLINE)), (grpo, GRPOConfig(**ONLINE)),
    (pretrain, PretrainConfig(data="rows.jsonl", model="llama-3.1-8b")),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "config"), STAGES, ids=lambda one: getattr(one, "__name__", ""))
def test_every_stage_asks_before_it_loads_a_model(
    stage: Any, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 billion parameters in 64 GiB: weights and Adam's moments alone are more."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"prompt": "a", "text": "a"}\n', encoding="utf-8")
    monkeypatch.setattr(machine, "free", lambda device: 64 * GIB)
    for name in ("load_policy", "load_reward", "load_reward_start"):
        monkeypatch.setattr(load, name, lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(
        UserError, match=r"run: needs about \d+\.\d GiB of memory, 64\.0 GiB are free\. The most are .*\. "
    ):
        stage.train(config, tmp_path / "run")


def test_a_run_that_only_the_longest_rows_break_is_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    config = SFTConfig(model="qwen3-0.6b", data="d")
    monkeypatch.setattr(machine, "free", lambda device: 24 * GIB)
    room.check_config("sft", config, ALONE, tmp_path / "run", said.append)
    assert said[0].startswith("run: may need ")
    assert (
        said[0].endswith("use --compute.activation-checkpointing and --compute.micro-tokens 4096")
        or "use --" in said[0]
    )
    said.clear()
    monkeypatch.setattr(machine, "free", lambda device: 200 * GIB)
    room.check_config("sft", config, ALONE, tmp_path / "run", said.append)
    room.check_config("sft", SFTConfig(model="nobody/nothing", data="d"), ALONE, tmp_path, said.append)
    assert said == []


def test_with_the_rows_known_a_run_is_refused_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.policy()
    count = sum(weight.numel() for weight in model.parameters())
    config = SFTConfig(model="m", data="d", compute=TrainingCompute(micro_tokens=1024))
    said: list[str] = []

    def check(free: int) -> None:
        monkeypatch.setattr(machine, "free", lambda device: free)
        room.check_loaded("sft", config, {"model": model}, StepShape(4096, 128), ALONE, tmp_path / "run", said.append)

    check(GIB)
    assert said[0].startswith(f"run: memory: weights {4 * count / 2**20:.0f} MiB, optimiser ")
    assert said[0].endswith("1.0 GiB free")
    with pytest.raises(UserError, match=r"beyond its weights.*activations.*Use --compute\.activation-checkpointing"):
        check(12 * count + int(0.6 * 2**24))
    with pytest.raises(UserError, match="Take a smaller model, or more memory"):
        check(8 * count)


def test_the_rows_of_a_step() -> None:
    """Five rows of at most 4 + 3 tokens; two rankings of at most 3 answers with 2 + 5 tokens."""
    rows = [Example([1] * 4, [1] * 3), Example([1] * 2, [1])]
    assert step_shape(rows, 5, losses=2) == StepShape(step=35, longest=7, losses=2)
    one = Ranked([1] * 2, [[1] * 5, [1]], [0, 1], [5, 1], None)  # type: ignore[arg-type]
    other = Ranked([1], [[1]] * 3, [0, 1, 2], [1] * 3, None)  # type: ignore[arg-type]
    assert ranking_shape([one, other], 2) == StepShape(step=2 * 3 * 7, longest=7, whole=10)
    asked = [Question("", [1] * 10, None), Question("", [1] * 4, None)]  # type: ignore[arg-type]
    settings = config_of_16().generation
    assert sampled(asked, settings, 3) == {"sampled": 3, "columns": 26}
    assert sampled(asked, settings, 9) == {"sampled": 8, "columns": 26}


def config_of_16() -> Any:
    return SFTConfig(model="m", data="d").model_copy(
        update={"generation": SFTConfig(model="m", data="d").generation.model_copy(
            update={"max_new_tokens": 16, "max_rows": 8})}
    )  # fmt: skip


def groups(folder: Path, version: int, limits: dict[str, int | str], used: int, files: int) -> tuple[Path, Path]:
    """Control groups as the kernel shows them, and /proc/self/cgroup."""
    root = folder / "cgroup"
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for path, limit in limits.items():
        here = (root if version == 2 else root / "memory") / path
        here.mkdir(parents=True, exist_ok=True)
        (here / names[0]).write_text(f"{limit}\n")
        (here / names[1]).write_text(f"{used}\n")
        (here / "memory.stat").write_text(f"anon 5\n{'total_' * (version == 1)}inactive_file {files}\n")
    own = folder / "own"
    own.write_text("0::/a/b\n" if version == 2 else "3:cpu,cpuacct:/a/b\n2:memory:/a/b\n")
    return root, own


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_container_counts_and_pages_of_files_do_not(version: int, tmp_path: Path) -> None:
    unlimited = "max" if version == 2 else 9_223_372_036_854_771_712
    root, own = groups(tmp_path, version, {"": unlimited, "a": 1000, "a/b": 4000}, used=700, files=200)
    assert machine.container_free(root, own) == 1000 - (700 - 200)
    assert machine.container_free(tmp_path / "none", own) >= 1 << 60
    assert machine.container_free(root, tmp_path / "none") >= 1 << 60
    full, own = groups(tmp_path / "full", version, {"a/b": 100}, used=700, files=0)
    assert machine.container_free(full, own) == 0


def test_ranks_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "container_free", lambda: 1000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.free(torch.device("cpu")) == 250
