"""RLOO: REINFORCE with a leave-one-out baseline (docs/maths.md).

`learning.groups.compare` samples and compares answers, and `learn` is the update.
A whole answer is one action, so there is no value net.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from heedful.configs.rloo import RLOOConfig
from heedful.learning.experience import Experience
from heedful.learning.groups import compare
from heedful.learning.networks import Networks, open_networks
from heedful.learning.online import Online, open_online
from heedful.learning.steps import policy_step, update_metrics
from heedful.maths.advantages import leave_one_out
from heedful.maths.losses import rloo_loss
from heedful.training.metrics import Means


def train(config: RLOOConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Train the policy towards the reward with a KL penalty, and return the run directory.

    `out`/model is the averaged policy.
    """
    with open_online("rloo", config, out, resume=resume) as s:
        if not s.finished:
            nets = open_networks(config, s.ranks)
            run = Online(config, s, nets)
            for step in run.steps():
                metrics, experience = iteration(config, nets, run, step)
                run.log(step, metrics, experience)
            run.finish()
    return Path(out)


def iteration(config: RLOOConfig, nets: Networks, run: Online, step: int) -> tuple[dict[str, float], Experience]:
    """One iteration: sample K answers to each prompt, compare each with the mean of the others, then update."""
    metrics, experience = compare(config, nets, run, step, leave_one_out)
    return metrics | learn(config, nets, run, experience, step), experience


def learn(config: RLOOConfig, nets: Networks, run: Online, experience: Experience, step: int) -> dict[str, float]:
    """`epochs` passes over shuffled minibatches. Return metrics over all of them."""
    means, lr = Means(), nets.learner.rate(step, config.iterations)
    in_loss = run.kl_coef if config.kl_in == "loss" else 0.0

    def loss(logprobs_BT: Tensor, e: Experience) -> Any:
        advantages_B = e.advantages_BT[:, 0]
        return rloo_loss(
            logprobs_BT, e.logprobs_BT, e.ref_logprobs_BT, advantages_B, e.mask_BT, config.clip, kl_coef=in_loss
        )

    for minibatch in run.minibatches(experience, step):
        policy_step(
            nets.learner, minibatch, loss, count=config.minibatch, temperature=config.generation.temperature, lr=lr,
            mix=run.mix, passes=run.passes, means=means,
        )  # fmt: skip
        nets.average.update()
    return update_metrics(means, run.passes.ranks) | {"lr": lr}
