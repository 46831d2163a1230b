"""QLoRA: the frozen layers in 4 bits, and runs that end as plain models."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from heedful.config import UserError
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import Compute, Generation, Lora
from heedful.models import adapters, load
from heedful.rollout.engine import open_engine, open_policy_engine
from heedful.rollout.types import Stream
from heedful.runs.run import metrics
from heedful.stages import ppo
from heedful.training.parallel import join_ranks
from stages import worlds
from stages.test_lora import logits
from stages.worlds import Files

pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")
QLORA = {"rank": 4, "load_in_4bit": True}
# The 16 values of NF4, from the paper (Dettmers et al. 2023, appendix E)
NF4 = torch.tensor([
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0, 0.0795803, 0.1609302,
    0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
])  # fmt: skip


def held(**settings: Any) -> Any:
    """A tiny policy in 4 bits with adapters that are not zero."""
    model = adapters.add(tiny.policy(), Lora(**QLORA, **settings), seed=0, base="here")
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    return model


def nearest(weight: torch.Tensor) -> torch.Tensor:
    """NF4 by hand: each block of 64 numbers by its largest, then the nearest of the 16 values."""
    blocks = weight.flatten().view(-1, 64)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    return (NF4[(blocks / largest)[..., None].sub(NF4).abs().argmin(-1)] * largest).view_as(weight)


@pytest.mark.parametrize("targets", [[], ["q_proj"]])
def test_layers_of_the_body_are_those_of_the_paper_and_the_rest_is_as_it_was(targets: list[str]) -> None:
    plain = tiny.policy()
    lora = Lora(rank=4, load_in_4bit=True, targets=targets)
    merged = adapters.merged(adapters.add(tiny.policy(), lora, seed=0, base="here"))
    weights = merged.state_dict()
    assert weights.keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        if "_proj" not in name:
            assert torch.equal(weights[name], weight), name
            continue
        off = (weights[name] - nearest(weight)).abs() / weight.abs().max()
        # the scales are rounded too, to 8 bits, which may turn a number half way between two values over
        assert off.quantile(0.99) < 0.02, name
        assert not torch.equal(weights[name], weight)


@pytest.mark.parametrize("targets", [[], ["q_proj", "down_proj"]])
def test_merged_it_gives_the_same_logits_and_the_base_is_in_memory_once(targets: list[str]) -> None:
    model = held(targets=targets)
    bare, merged = adapters.without(model), adapters.merged(model)
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-5)
    assert not adapters.in_4_bits(merged)
    assert (logits(bare) - logits(model)).abs().max() > 1e-2
    mine = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in bare.parameters()} <= mine
    small = [p for p in model.parameters() if p.dtype == torch.uint8]
    assert sum(p.numel() for p in small) * 2 == sum(
        p.numel() for name, p in tiny.policy().named_parameters() if "_proj" in name
    )


@pytest.mark.medium
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_samples_as_the_merged_model_does_and_stays_small(dtype: Any) -> None:
    model, tokenizer, compute = held(), tiny.tokenizer(), Compute(dtype=dtype)
    asked = ([[5, 6, 7]], [Stream(0, 0, 0)], Generation(max_new_tokens=8))
    engine = open_engine(model, tokenizer, compute)
    assert adapters.in_4_bits(engine.computing())
    (sample,) = engine.generate(*asked)
    (merged,) = open_engine(adapters.merged(model), tokenizer, compute).generate(*asked)
    if dtype == "float32":
        assert sample.response_ids == merged.response_ids
        assert sample.logprobs == pytest.approx(merged.logprobs, abs=1e-4)
    assert all(p.dtype != torch.uint8 or isinstance(p, nn.Parameter) for p in model.parameters())


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_a_run_learns_and_leaves_a_plain_model(files: Files, tmp_path: Path, stage: str) -> None:
    every = {"every": 1, "keep": 9}
    run = worlds.train(stage, files, tmp_path / "run", lora=QLORA, optimiser={"lr": 0.02}, checkpoint=every)
    reader = load.load_reward if stage == "reward" else load.load_policy
    model, _ = reader(run)
    assert not adapters.in_4_bits(model)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    rows = metrics(run)
    if stage == "sft":
        assert rows[0]["loss"] - rows[-1]["loss"] > 0.01
    if stage == "ppo":
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)  # the reference is the same base of 4 bits


@pytest.mark.medium
def test_a_resumed_run_ends_with_the_same_bytes(files: Files, tmp_path: Path) -> None:
    every = {"every": 1, "keep": 9}
    whole = worlds.train("sft", files, tmp_path / "whole", lora=QLORA, checkpoint=every)
    shutil.copytree(whole, tmp_path / "cut")
    for step in sorted((tmp_path / "cut" / "checkpoints").iterdir())[1:]:
        shutil.rmtree(step)
    shutil.rmtree(tmp_path / "cut" / "model")
    worlds.train("sft", files, tmp_path / "cut", resume=True, lora=QLORA, checkpoint=every)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


@pytest.mark.medium
def test_ppo_holds_the_policys_base_once(files: Files) -> None:
    config = worlds.config("ppo", files, lora=QLORA, reward=[files.judge])
    nets = ppo._networks(config, join_ranks(config.compute))
    base = {p.data_ptr() for p in nets.policy.parameters() if not p.requires_grad}
    assert base == base & {p.data_ptr() for p in nets.reference.parameters()}
    assert adapters.in_4_bits(nets.value)


def test_what_it_cannot_do_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^lora\.load_in_4bit is for frozen weights\. Give lora\.rank, such as 16"):
        adapters.add(tiny.policy(), Lora(load_in_4bit=True), seed=0, base="here")
    with pytest.raises(UserError, match=r"^lora\.load_in_4bit: GPT2LMHeadModel has no linear layer that bitsandbytes"):
        adapters.add(tiny.policy("gpt2"), Lora(**QLORA), seed=0, base="here")
    served = EngineConfig(kind="vllm", urls=["http://localhost:1"], sync="adapter")
    with pytest.raises(UserError, match=r"^engine\.sync adapter: the server's base is not in 4 bits"):
        open_policy_engine(held(), tiny.tokenizer(), Compute(), served, lambda do: do())
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name))
    with pytest.raises(UserError, match=r"^lora\.load_in_4bit needs bitsandbytes\. pip install"):
        adapters.add(tiny.policy(), Lora(**QLORA), seed=0, base="here")
