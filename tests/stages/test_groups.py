"""RLOO and GRPO: groups of answers, their advantages, losses and gradients, from first principles."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from heedful.config import NonFinite, UserError
from heedful.files import read_json
from heedful.learning import steps
from heedful.learning.experience import Experience
from heedful.learning.networks import open_networks
from heedful.learning.online import Online
from heedful.runs.run import metrics
from heedful.stages import grpo, rloo
from heedful.training.metrics import Means
from heedful.training.stage_run import StageRun
from stages import worlds
from stages.test_ppo_update import same_gradients
from stages.turns import ALONE, LETTER, PLAIN
from stages.worlds import Files

MODULES: dict[str, ModuleType] = {"rloo": rloo, "grpo": grpo}
BOTH = pytest.mark.parametrize("stage", ["rloo", "grpo"])


class GroupTurn:
    """One iteration without its update. The reference is another model, so that the KL is not 0."""

    def __init__(self, stage: str, files: Files, **changes: Any) -> None:
        self.module, self.config = MODULES[stage], worlds.config(stage, files, **(PLAIN | changes))
        self.nets = open_networks(self.config, ALONE)
        self.nets.reference = tiny.policy(seed=3)
        self.run = Online(
            self.config,
            StageRun(stage, self.config, Path("run"), ALONE, None),
            self.nets,
        )
        with patch.object(self.module, "learn", lambda *_: {}):
            self.metrics, self.experience = self.module.iteration(self.config, self.nets, self.run, 0)

    def gradients(self, experience: Experience | None = None) -> dict[str, float]:
        """Those of the first minibatch, in the policy; returns its metrics."""
        means, passes = Means(), self.run.passes

        def policy_step(learner: Any, minibatch: Any, loss: Any, *, count: int, temperature: float, **_: Any) -> None:
            steps.policy_gradients(
                learner.model, minibatch, loss, count=count, temperature=temperature, passes=passes, means=means
            )
            raise KeyboardInterrupt

        with patch.object(self.module, "policy_step", policy_step), pytest.raises(KeyboardInterrupt):
            self.module.learn(self.config, self.nets, self.run, experience or self.experience, 0)
        ALONE.sum_gradients(self.nets.policy)
        return means.reduce(ALONE)


@pytest.mark.medium
@BOTH
@pytest.mark.parametrize("samples_per_prompt", [2, 4])
def test_a_prompt_has_k_answers_side_by_side(files: Files, stage: str, samples_per_prompt: int) -> None:
    e = GroupTurn(stage, files, samples_per_prompt=samples_per_prompt).experience
    prompts = [str(episode.prompt) for episode in e.episodes]
    assert len(prompts) == 8
    groups = [prompts[start : start + samples_per_prompt] for start in range(0, 8, samples_per_prompt)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) == 8 // samples_per_prompt
    assert len({tuple(episode.response_ids) for episode in e.episodes}) == 8


def by_hand(stage: str, rewards: list[float], scale_rewards: bool) -> list[float]:
    """Advantages of one group in plain Python."""
    total, mean = sum(rewards), statistics.fmean(rewards)
    if stage == "rloo":
        return [r - (total - r) / (len(rewards) - 1) for r in rewards]
    return [(r - mean) / (statistics.stdev(rewards) + 1e-4 if scale_rewards else 1) for r in rewards]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("stage", "kl_in", "scale_rewards"),
    [("rloo", "reward", None), ("rloo", "loss", None), ("grpo", "loss", True), ("grpo", "reward", False)],
)
@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_advantages_by_hand(files: Files, stage: str, kl_in: str, scale_rewards: bool | None, kl_coef: float) -> None:
    changes = {} if scale_rewards is None else {"scale_rewards": scale_rewards}
    e = GroupTurn(stage, files, samples_per_prompt=4, kl_in=kl_in, kl_coef=kl_coef, **changes).experience
    kl = e.kl_BT.sum(1).tolist()
    assert min(map(abs, kl)) > 0.01
    rewards = [
        score - kl_coef * one if kl_in == "reward" else score
        for score, one in zip(e.scores.total_B.tolist(), kl, strict=True)
    ]
    expected = [a for start in (0, 4) for a in by_hand(stage, rewards[start : start + 4], bool(scale_rewards))]
    for b, advantage in enumerate(expected):
        assert e.advantages_BT[b][e.mask_BT[b]].tolist() == pytest.approx(
            [advantage] * int(e.mask_BT[b].sum()), abs=1e-4
        )
        assert not e.advantages_BT[b][~e.mask_BT[b]].any()


def plain_logprobs(model: Any, prompt_ids: list[int], response_ids: list[int]) -> Tensor:
    logits_TV = model(input_ids=torch.tensor([prompt_ids + response_ids])).logits[0, len(prompt_ids) - 1 : -1]
    return logits_TV.log_softmax(-1)[range(len(response_ids)), response_ids]  # type: ignore[no-any-return]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("stage", "loss_type", "kl_in"),
    [
        ("rloo", None, "reward"),
        ("rloo", None, "loss"),
        ("grpo", "grpo", "loss"),
        ("grpo", "bnpo", "loss"),
        ("grpo", "dr_grpo", "loss"),
        ("grpo", "grpo", "reward"),
    ],
)
def test_the_first_gradients_from_first_principles(files: Files, stage: str, loss_type: str | None, kl_in: str) -> None:
    """At ratio 1 the surrogate's gradient is -A grad log pi; the KL in the loss adds that of exp(-d) - 1 + d."""
    changes = {} if loss_type is None else {"loss_type": loss_type}
    turn = GroupTurn(stage, files, kl_in=kl_in, kl_coef=0.5, minibatch=8, **changes)
    e = turn.experience
    turn.gradients()
    policy, reference = AutoModelForCausalLM.from_pretrained(files.policy).eval(), tiny.policy(seed=3)
    tokens = int(e.mask_BT.sum())
    for b, episode in enumerate(e.episodes):
        logprobs_T = plain_logprobs(policy, episode.prompt_ids, episode.response_ids)
        d_T = logprobs_T - plain_logprobs(reference, episode.prompt_ids, episode.response_ids).detach()
        losses_T = -e.advantages_BT[b, 0] * logprobs_T
        losses_T = losses_T + (0.5 * (torch.exp(-d_T) - 1 + d_T) if kl_in == "loss" else 0)
        divisor = {None: 8, "grpo": 8 * len(d_T), "bnpo": tokens, "dr_grpo": 8 * 12}[loss_type]
        (losses_T.sum() / divisor).backward()
    same_gradients(turn.nets.policy, policy)


@pytest.mark.medium
@BOTH
def test_the_seed_and_the_temperature_are_passed_on(files: Files, stage: str) -> None:
    first = GroupTurn(stage, files).experience
    other = GroupTurn(stage, files, seed=1).experience
    warm = GroupTurn(stage, files, generation={"temperature": 1.5})
    assert [e.prompt for e in first.episodes] != [e.prompt for e in other.episodes]
    episode = warm.experience.episodes[0]
    ids = torch.tensor([episode.prompt_ids + episode.response_ids])
    logits_TV = tiny.policy(seed=3)(input_ids=ids).logits[0, len(episode.prompt_ids) - 1 : -1].detach() / 1.5
    expected_T = logits_TV.log_softmax(-1)[range(len(episode.response_ids)), episode.response_ids]
    torch.testing.assert_close(warm.experience.ref_logprobs_BT[0, : len(expected_T)], expected_T, rtol=0, atol=1e-5)
    assert warm.gradients()["ratio"] == pytest.approx(1.0, abs=1e-4)  # the update divides by it too


@pytest.mark.medium
@BOTH
@pytest.mark.parametrize(("epochs", "pretrain_data"), [(1, True), (2, False)])
def test_every_epoch_is_another_pass(files: Files, stage: str, epochs: int, pretrain_data: bool) -> None:
    turn = GroupTurn(stage, files, epochs=epochs, pretrain_data=files.texts if pretrain_data else None)
    seen: list[set[str]] = []

    def policy_step(learner: Any, minibatch: Any, loss: Any, *, mix: Any, **_: Any) -> None:
        assert (mix is not None) is pretrain_data
        seen.append({episode.completion for episode in minibatch.rows.episodes})

    with patch.object(turn.module, "policy_step", policy_step):
        turn.module.learn(turn.config, turn.nets, turn.run, turn.experience, 0)
    assert [len(rows) for rows in seen] == [4] * 2 * epochs
    for epoch in range(epochs):
        assert len(seen[2 * epoch] | seen[2 * epoch + 1]) == 8


@pytest.mark.medium
@BOTH
def test_the_average_and_the_ceiling(files: Files, tmp_path: Path, stage: str) -> None:
    """`ema_decay` 0 leaves the raw weights, 0.6 their average; `kl_ceiling` stops the run and is in its results."""
    for ema_decay in (0.0, 0.6):
        run = worlds.train(stage, files, tmp_path / f"{ema_decay}", ema_decay=ema_decay, kl_ceiling=1e-3, **PLAIN)
        steps_done = len(metrics(run))
        assert steps_done < 4
        assert read_json(run / "manifest.json")["results"]["stopped"].startswith(
            f"stopped after iteration {steps_done}: sequence KL"
        )
        raw = load_file(run / "checkpoints" / f"step-{steps_done:08d}" / "policy.safetensors")
        saved = load_file(run / "model" / "model.safetensors")
        assert all(torch.equal(raw[name], saved[name]) for name in raw) is (ema_decay == 0.0)


@pytest.mark.medium
@BOTH
@pytest.mark.parametrize("clip", [0.5, 0.001])
def test_a_tight_clip_cuts(files: Files, stage: str, clip: float) -> None:
    """Old log-probs are moved by 0.02 a token: ratios of 1.02, and of up to 1.27 for an answer of 12."""
    turn = GroupTurn(stage, files, clip=clip)
    e = turn.experience
    found = turn.gradients(dataclasses.replace(e, logprobs_BT=e.logprobs_BT - 0.02 * e.mask_BT))
    assert found["ratio"] == pytest.approx(1.02 if stage == "grpo" else math.exp(0.02 * 12), abs=0.03)
    assert (found["clipfrac"] > 0.2) is (clip < 0.1)


@pytest.mark.medium
@BOTH
def test_a_missing_eos_penalty_replaces_the_score(files: Files, stage: str) -> None:
    plain, penalised = (GroupTurn(stage, files, missing_eos_penalty=penalty).experience for penalty in (None, -9.0))
    unfinished = torch.tensor([not episode.finished for episode in plain.episodes])
    assert unfinished.any()
    assert torch.equal(plain.scores.total_B, plain.scores.raw_B)
    expected_B = torch.where(unfinished, -9.0, plain.scores.raw_B)
    assert torch.equal(penalised.scores.total_B, expected_B)


@pytest.mark.medium
@BOTH
def test_a_broken_reference_is_named(files: Files, stage: str) -> None:
    turn = GroupTurn(stage, files)
    next(turn.nets.reference.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFinite, match="the log-probability under the reference"):
        turn.module.iteration(turn.config, turn.nets, turn.run, 0)


@pytest.mark.medium
@BOTH
def test_equal_rewards_teach_nothing(files: Files, tmp_path: Path, stage: str) -> None:
    changes = PLAIN | {"reward": ["stages.test_groups:same"], "kl_coef": 0.0, "episodes": 8, "ema_decay": 0.0}
    run = worlds.train(stage, files, tmp_path / "run", **changes)
    (row,) = metrics(run)
    assert row["flat_groups"] == 1.0
    assert row["policy_gradient_norm"] == 0.0
    assert GroupTurn(stage, files).metrics["flat_groups"] == 0.0


def same(prompts: list[Any], completions: list[str]) -> list[float]:
    return [1.0 for _ in completions]


@pytest.mark.medium
@BOTH
def test_it_learns_what_is_rewarded(files: Files, tmp_path: Path, stage: str) -> None:
    """The share of the letter e in the answers, from 5 %, within six iterations. A blank line ends each prompt."""
    rows = [json.loads(line) for line in Path(files.prompts).read_text(encoding="utf-8").splitlines()]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row | {"prompt": row["prompt"] + "\n\n"}) + "\n" for row in rows))
    changes = PLAIN | {
        "reward": [LETTER], "episodes": 6 * 64, "rollout_batch": 64, "minibatch": 16, "kl_coef": 0.0,
        "samples_per_prompt": 8, "optimiser": {"lr": 2e-2}, "compute": {"micro_tokens": 4096},
        "checkpoint": {"every": 100}, "prompts": str(prompts),
    }  # fmt: skip
    scores = [row["score"] for row in metrics(worlds.train(stage, files, tmp_path / "run", **changes))]
    assert scores[0] < 0.06
    assert scores[-1] > 3 * scores[0]


@BOTH
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_per_prompt": 3}, "rollout_batch 8 is not a multiple of samples_per_prompt 3. Change one"),
        ({"samples_per_prompt": 1}, "'samples_per_prompt': must be at least 2"),
        ({"generation": {"top_p": 0.9}}, "samples from the policy itself"),
        ({"kl_in": "nowhere"}, "'kl_in'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    files: Files, tmp_path: Path, stage: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        worlds.train(stage, files, tmp_path / "run", **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()
