"""GRPO: PPO's clipped loss with advantages relative to a group of answers (docs/maths.md).

`learning.groups.compare` samples and compares answers, and `learn` is the update.
All tokens of an answer share one advantage, without a value net.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from heedful.configs.grpo import GRPOConfig
from heedful.learning.experience import Experience
from heedful.learning.groups import compare
from heedful.learning.networks import Networks, open_networks
from heedful.learning.online import Online, open_online
from heedful.learning.steps import policy_step, update_metrics
from heedful.maths.advantages import group_relative
from heedful.maths.losses import grpo_count, grpo_loss
from heedful.training.metrics import Means


def train(config: GRPOConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Train the policy towards the reward with a KL penalty, and return the run directory.

    `out`/model is the averaged policy.
    """
    with open_online("grpo", config, out, resume=resume) as s:
        if not s.finished:
            nets = open_networks(config, s.ranks)
            run = Online(config, s, nets)
            for step in run.steps():
                metrics, experience = iteration(config, nets, run, step)
                run.log(step, metrics, experience)
            run.finish()
    return Path(out)


def iteration(config: GRPOConfig, nets: Networks, run: Online, step: int) -> tuple[dict[str, float], Experience]:
    """One iteration: sample K answers to each prompt, compare each with their mean, then update."""
    metrics, experience = compare(
        config, nets, run, step, lambda rewards_GK: group_relative(rewards_GK, scale=config.scale_rewards)
    )
    return metrics | learn(config, nets, run, experience, step), experience


def learn(config: GRPOConfig, nets: Networks, run: Online, experience: Experience, step: int) -> dict[str, float]:
    """`epochs` passes over shuffled minibatches. Return metrics over all of them."""
    means, lr = Means(), nets.learner.rate(step, config.iterations)
    in_loss = run.kl_coef if config.kl_in == "loss" else 0.0
    longest = config.generation.max_new_tokens

    def loss(logprobs_BT: Tensor, e: Experience) -> Any:
        return grpo_loss(
            logprobs_BT, e.logprobs_BT, e.ref_logprobs_BT, e.advantages_BT, e.mask_BT, config.clip, kl_coef=in_loss,
            loss_type=config.loss_type, longest=longest,
        )  # fmt: skip

    for minibatch in run.minibatches(experience, step):
        count = int(grpo_count(minibatch.rows.mask_BT, config.loss_type, longest))
        policy_step(
            nets.learner, minibatch, loss, count=count, temperature=config.generation.temperature, lr=lr,
            mix=run.mix, passes=run.passes, means=means,
        )  # fmt: skip
        nets.average.update()
    return update_metrics(means, run.passes.ranks) | {"lr": lr}
