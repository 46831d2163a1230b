"""The files in examples/ run, and give the numbers of the stages that they explain."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from heedful.configs.shared import Compute
from heedful.models import load
from heedful.rewards.functions import open_reward
from heedful.rollout.types import Episode
from heedful.runs.run import metrics
from stages import worlds

FOLDER = Path(__file__).parents[2] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("world"))


@pytest.mark.medium
def test_ppo_in_200_lines_gives_the_numbers_of_the_stage(
    files: worlds.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len((FOLDER / "ppo_in_200_lines.py").read_text(encoding="utf-8").splitlines()) <= 200
    plain = example("ppo_in_200_lines", monkeypatch)
    same: dict[str, Any] = {"rollout_batch": 8, "minibatch": 4, "kl_coef": 0.1, "gamma": 0.99, "lam": 0.9, "seed": 3}
    run = worlds.train(
        "ppo", files, tmp_path / "run", episodes=24, pretrain_data=None, ema_decay=0.0, **same,
        optimiser={"lr": 2e-3}, value_optimiser={"lr": 1e-3},
    )  # fmt: skip
    tokenizer, policy = AutoTokenizer.from_pretrained(files.policy), AutoModelForCausalLM.from_pretrained(files.policy)
    texts = [json.loads(line)["prompt"] for line in Path(files.prompts).read_text(encoding="utf-8").splitlines()]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    settings = plain.Settings(**same, iterations=3, max_new_tokens=12, lr=2e-3, value_lr=1e-3)
    found = list(plain.train(policy, plain.Scorer(files.judge), prompts, tokenizer.eos_token_id, settings))
    assert len(found) == 3
    for ours, theirs in zip(metrics(run), found, strict=True):
        assert theirs == pytest.approx({name: ours[name] for name in theirs}, abs=2e-4)
    trained, _ = load.load_policy(run)
    for name, weight in policy.named_parameters():
        torch.testing.assert_close(weight, trained.get_parameter(name), rtol=0, atol=1e-4)


@pytest.mark.medium
def test_a_reward_of_ones_own(files: worlds.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example("custom_reward", monkeypatch)
    reward = open_reward(["custom_reward:one_sentence"], compute=Compute(), device=torch.device("cpu"))
    texts = ["Yes, it is.", "Yes. It is a cat.", "well"]
    total_B, _ = reward([Episode("Is it?", [], [], text, True) for text in texts])
    assert total_B.tolist() == [1.0, 0.5, 0.5]
    rows = [{"prompt": f"Say {i}", "answer": "e"} if i % 2 else {"prompt": f"Say {i}"} for i in range(8)]
    prompts = worlds.write(tmp_path / "prompts.jsonl", rows)
    three = [files.judge, "0.5*custom_reward:one_sentence", "2*custom_reward:exact"]
    run = worlds.train("ppo", files, tmp_path / "run", reward=three, prompts=prompts, episodes=8, pretrain_data=None)
    first = metrics(run)[0]
    assert {"score/custom_reward:one_sentence", "score/custom_reward:exact"} <= first.keys()
    assert first["no_opinion/custom_reward:exact"] == 0.5
    assert "no_opinion/custom_reward:one_sentence" not in first


@pytest.mark.medium
def test_an_advantage_of_ones_own(files: worlds.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    median = example("custom_advantage", monkeypatch)
    rewards_GK = torch.tensor([[1.0, 2.0, 9.0], [4.0, 4.0, 7.0]])
    assert median.median_advantages(rewards_GK).tolist() == [[-1.0, 0.0, 7.0], [0.0, 0.0, 3.0]]
    config = worlds.config("grpo", files, episodes=16, pretrain_data=None)
    median.train(config, str(tmp_path / "run"))
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[0]["policy_gradient_norm"] > 0
    load.load_policy(tmp_path / "run")
