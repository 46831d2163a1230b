"""LoRA: one base in memory, adapters that start at zero, and runs that end as plain models or as adapters."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from heedful.config import UserError, build
from heedful.configs.dpo import DPOConfig
from heedful.configs.shared import Compute, Generation, Lora
from heedful.learning.networks import open_networks
from heedful.models import adapters, heads, load
from heedful.rollout.engine import open_engine
from heedful.rollout.types import Stream
from heedful.runs.run import Run, metrics
from heedful.stages import dpo, ppo
from heedful.training.optimiser import Average
from heedful.training.parallel import join_ranks
from stages import worlds
from stages.worlds import Files

pytest.importorskip("peft")
STARTS = {"sft": "model", "reward": "model", "dpo": "model", **dict.fromkeys(worlds.ONLINE, "policy")}
LORA = {"rank": 4}
IDS = torch.tensor([[7, 3, 19, 4, 11, 6]])


def adapted(family: str = "llama", **settings: Any) -> Any:
    """A tiny policy with adapters that are not zero."""
    model = adapters.add(tiny.policy(family), Lora(rank=4, **settings), seed=0, base="here")
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def by_hand(alpha: float, targets: tuple[str, ...]) -> Any:
    """The same adapters added to the weights of a plain model: W + alpha / 4 * B A."""
    model, plain = adapted(alpha=alpha, targets=list(targets)), tiny.policy()
    trained = dict(model.named_parameters())
    for name, weight in plain.named_parameters():
        if name.split(".")[-2] in targets:
            a, b = (trained[name.replace("weight", f"lora_{x}.default.weight")] for x in "AB")
            weight.data += alpha / 4 * b.data @ a.data
    return logits(model), logits(plain)


@pytest.mark.parametrize(("alpha", "targets"), [(8.0, ("q_proj", "down_proj")), (2.0, ("v_proj",))])
def test_alpha_and_targets_are_those_of_the_paper(alpha: float, targets: tuple[str, ...]) -> None:
    found, expected = by_hand(alpha, targets)
    assert (found - logits(tiny.policy())).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_without_adapters_it_is_the_base_bit_for_bit_and_merged_it_gives_the_same_logits(family: str) -> None:
    model, base = adapted(family), tiny.policy(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bare, merged = adapters.without(model), adapters.merged(model)
    assert torch.equal(logits(bare), logits(base))
    assert bare.state_dict().keys() == merged.state_dict().keys() == base.state_dict().keys()
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-5)
    assert (logits(merged) - logits(base)).abs().max() > 1e-2
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    tensors = {p.data_ptr() for p in base.parameters()} | {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in bare.parameters()} <= tensors  # counted once


@pytest.mark.medium
def test_sampling_reads_the_adapters_with_the_fast_decoder() -> None:
    model, tokenizer = adapted(), tiny.tokenizer()
    asked = ([[5, 6, 7]], [Stream(0, 0, 0)], Generation(max_new_tokens=12))
    engine = open_engine(model, tokenizer, Compute())
    (sample,) = engine.generate(*asked)
    (merged,) = open_engine(adapters.merged(model), tokenizer, Compute()).generate(*asked)
    (bare,) = open_engine(tiny.policy(), tokenizer, Compute()).generate(*asked)
    assert engine.decoder == open_engine(tiny.policy(), tokenizer, Compute()).decoder
    assert sample.response_ids == merged.response_ids != bare.response_ids


def test_a_head_is_trained_whole_and_copies_keep_what_is_frozen() -> None:
    reward = adapters.add(tiny.reward(seed=1), Lora(rank=2), seed=0, base="here")
    trained = {name for name, weight in reward.named_parameters() if weight.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"score.weight"}
    average = Average(reward, 0.5)
    assert set(average.weights) == trained
    with torch.no_grad():
        reward.score.weight += 2
    frozen = reward.model.embed_tokens.weight.clone()
    average.update()
    assert torch.equal(average.model.model.embed_tokens.weight, frozen)
    torch.testing.assert_close(average.model.score.weight, reward.score.weight - 1)


@pytest.mark.medium
def test_ppo_holds_each_base_once(files: Files) -> None:
    config = worlds.config("ppo", files, lora=LORA, reward=[files.judge], ema_decay=0.9)
    ranks = join_ranks(config.compute)
    nets = ppo._networks(config, ranks)
    judge = nets.reward.parts[0].score.model
    pairs = [(nets.policy, nets.reference), (nets.policy, nets.average.model), (nets.value, judge)]
    for adapted_model, other in pairs:
        base = {p.data_ptr() for p in adapted_model.parameters() if not p.requires_grad}
        shared = base & {p.data_ptr() for p in other.parameters()}
        assert base == shared, "a base tensor is in memory twice"
    assert nets.value.score.weight.data_ptr() != judge.score.weight.data_ptr()
    from_policy = heads.value_from_policy(adapters.without(nets.policy), share=True)
    assert from_policy.model.embed_tokens.weight.data_ptr() == nets.policy.model.embed_tokens.weight.data_ptr()
    assert open_networks(config, ranks).reference.state_dict().keys() == tiny.policy().state_dict().keys()


@pytest.mark.medium
@pytest.mark.parametrize("stage", STARTS)
def test_a_run_with_lora_leaves_a_plain_model_and_checkpoints_of_what_is_trained(
    files: Files, tmp_path: Path, stage: str
) -> None:
    if stage == "dpo":
        values = {"model": files.policy, "data": files.rankings, "lora": LORA, "optimiser": {"lr": 0.02}}
        run = dpo.train(build(DPOConfig, values, "the test"), tmp_path / "run")
    else:
        run = worlds.train(stage, files, tmp_path / "run", lora=LORA, optimiser={"lr": 0.02})
    part = "policy" if stage in worlds.ONLINE else "model"
    kept = load_file(sorted((run / "checkpoints").iterdir())[-1] / f"{part}.safetensors")
    assert {name.split(".")[-3] for name in kept if name != "score.weight"} == {"lora_A", "lora_B"}
    reader = load.load_reward if stage == "reward" else load.load_policy
    model, _ = reader(run)
    assert not adapters.found(model)
    start = load_file(Path(files.policy) / "model.safetensors")
    changed = {
        name.split(".")[-2] for name, w in model.state_dict().items() if name in start and not w.equal(start[name])
    }
    assert {"q_proj", "down_proj"} <= changed <= {*"q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()}


@pytest.mark.medium
def test_recomputed_activations_and_padded_rows_change_nothing(files: Files, tmp_path: Path) -> None:
    ways = ({}, {"activation_checkpointing": True}, {"fast": False}, {"micro_tokens": 64})
    losses = [
        [row["loss"] for row in metrics(worlds.train("sft", files, tmp_path / str(i), lora=LORA, compute=way))]
        for i, way in enumerate(ways)
    ]
    assert losses[0][0] - losses[0][-1] > 0.01
    assert all(other == pytest.approx(losses[0], abs=1e-4) for other in losses[1:])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["reward", "ppo"])
def test_a_resumed_run_ends_with_the_same_bytes(files: Files, tmp_path: Path, stage: str) -> None:
    run = worlds.train(stage, files, tmp_path / "run", lora=LORA, checkpoint={"every": 1, "keep": 9})
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for step in sorted((other / "checkpoints").iterdir())[1:]:
        shutil.rmtree(step)
    shutil.rmtree(other / "model")
    worlds.train(stage, files, other, resume=True, lora=LORA, checkpoint={"every": 1, "keep": 9})
    assert metrics(other) == metrics(run)
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (run, other)]
    assert weights[0] == weights[1]


@pytest.mark.medium
def test_an_adapter_alone_loads_on_its_own_base_and_on_no_other(files: Files, tmp_path: Path) -> None:
    start = worlds.save(tmp_path / "start", tiny.policy())
    for stage, reader in (("sft", load.load_policy), ("reward", load.load_reward)):
        lr = {"lr": 0.02}
        merged = worlds.train(stage, files, tmp_path / f"{stage}-m", lora=LORA, optimiser=lr, model=start)
        alone = worlds.train(stage, files, tmp_path / stage, lora=LORA | {"save": "adapter"}, optimiser=lr, model=start)
        assert not (alone / "model" / "model.safetensors").exists()
        (one, _), (other, _) = reader(merged), reader(alone)
        for name, tensor in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    peft = importlib.import_module("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that transformers has replaced
        theirs = peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "sft" / "model"))
    torch.testing.assert_close(logits(theirs), logits(load.load_policy(tmp_path / "sft")[0]), atol=1e-5, rtol=1e-5)
    worlds.save(Path(start), tiny.policy(seed=5))
    with pytest.raises(UserError, match=r"a LoRA adapter of other weights than .* has now\. Give its own base$"):
        load.load_policy(tmp_path / "sft")


def test_what_lora_cannot_do_is_refused_in_one_line(files: Files, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^lora\.targets: LlamaForCausalLM has no linear layer query\. It has down_proj, "
    ):
        worlds.train("sft", files, tmp_path / "run", lora=LORA | {"targets": ["query"]})
    with pytest.raises(UserError, match=r"^--special-tokens need trained embeddings, and LoRA freezes them"):
        worlds.train("sft", files, tmp_path / "run", lora=LORA, special_tokens=["<a>"])
    assert not (tmp_path / "run").exists()


@pytest.mark.medium
def test_without_matrices_the_manifest_says_so(files: Files, tmp_path: Path) -> None:
    run = worlds.train("sft", files, tmp_path / "run")
    assert Run.open(run).manifest.config["lora"] == {
        "rank": 0, "alpha": None, "targets": [], "load_in_4bit": False, "save": "merged",
    }  # fmt: skip


@pytest.mark.medium
def test_a_base_from_bfloat16_files_stays_in_bfloat16_and_loses_nothing(tmp_path: Path) -> None:
    """One base for policy and reference. What is trained is in float32, and the merged weights are rounded once."""
    load.save(tiny.policy(), tiny.tokenizer(), tmp_path / "base", dtype=torch.bfloat16)
    model, _ = load.load_policy(tmp_path / "base")
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    adapters.add(model, Lora(rank=4), seed=0, base=str(tmp_path / "base"))
    reference = load.place(adapters.without(model), "cpu", Compute(dtype="bfloat16"))
    load.place(model, "cpu", Compute(dtype="bfloat16"), trained=True)
    for weight in model.parameters():
        assert weight.dtype == (torch.float32 if weight.requires_grad else torch.bfloat16)
        if "lora_B" in "".join(name for name, one in model.named_parameters() if one is weight):
            torch.nn.init.normal_(weight, std=0.3)
    for name, weight in reference.named_parameters():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight.float(), before[name])
    trained = dict(model.named_parameters())
    for name, weight in adapters.merged(model).named_parameters():
        layer = name.removesuffix(".weight")
        if f"{layer}.lora_A.default.weight" not in trained:
            continue
        a, b = (trained[f"{layer}.lora_{x}.default.weight"] for x in "AB")
        assert torch.equal(weight, (before[name] + 2 * (b @ a)).to(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(input_ids=IDS).logits.isfinite().all()
    exact = adapters.add(load.load_policy(tmp_path / "base")[0], Lora(rank=4), seed=0, base="x")
    load.place(exact, "cpu", Compute())
    assert {weight.dtype for weight in exact.parameters()} == {torch.float32}
