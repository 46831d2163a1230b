"""The update of one PPO iteration: a policy step and a value step for every minibatch, with the pretraining gradient
(P14-P21).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heedful.maths.losses import explained_variance, policy_loss, value_loss
from heedful.models import scoring
from heedful.stages import likelihood
from heedful.stages.inputs import Example
from heedful.stages.ppo_experience import Experience
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import World

if TYPE_CHECKING:
    from heedful.stages.ppo import Networks, PPOConfig


def learn(
    config: PPOConfig, nets: Networks, experience: Experience, texts: list[Example], step: int, world: World
) -> dict[str, float]:
    """`epochs` passes over shuffled minibatches; returns metrics over all of them."""
    means, norms = Means(), Means()
    total = max(1, config.episodes // config.rollout_batch)
    lr = optim.learning_rate(config.optimiser, step, total)
    value_lr = optim.learning_rate(config.value_optimiser, step, total)
    nets.policy.train()
    nets.value.train()
    per_pass = config.rollout_batch // config.minibatch
    for update in range(config.epochs * per_pass):
        number = step * config.epochs * per_pass + update
        chosen = order.epochs(config.seed, number, config.minibatch, config.rollout_batch, stream=1)
        gap = _minibatch_gradients(config, nets, experience, chosen, means, world)
        if update == 0:
            norms.largest("logprob_gap", gap)
        if texts:
            _pretraining_gradients(config, nets, texts, number, means, world)
        world.sum_gradients(nets.policy)
        world.sum_gradients(nets.value)
        policy_norm = optim.step(nets.policy, nets.policy_adam, config.optimiser, lr, "policy.")
        value_norm = optim.step(nets.value, nets.value_adam, config.value_optimiser, value_lr, "value.")
        nets.average.update()
        norms.add({"policy_gradient_norm": (policy_norm, 1), "value_gradient_norm": (value_norm, 1)})
    nets.policy.eval()
    nets.value.eval()
    metrics = means.reduce(world)
    explained = explained_variance({key.removeprefix("value/"): v for key, v in metrics.items()})
    if math.isfinite(explained):  # it is not where all returns are equal
        metrics["explained_variance"] = explained
    dropped = ("value/error", "value/error_squared", "value/returns", "value/returns_squared")
    return {key: v for key, v in metrics.items() if key not in dropped} | norms.reduce(world) | {"lr": lr}


def _minibatch_gradients(
    config: PPOConfig, nets: Networks, experience: Experience, chosen: list[int], means: Means, world: World
) -> Tensor:
    """Add policy and value gradients of one minibatch, each a mean over its tokens (P14).

    Returns the largest |log-prob - old log-prob|: before the first step of an iteration it must be rounding only (P5,
    P17).
    """
    e, device = experience, world.device
    count = e.mask_BT[chosen].sum().item()
    gap = torch.zeros(())
    lengths = e.lengths
    tokens = [lengths[i] for i in chosen]
    for part in world.share(scoring.passes(nets.policy, tokens, config.compute.micro_tokens, world.size)):
        rows = [chosen[i] for i in part]
        batch = e.batch(rows, nets.tokenizer.pad_token_id).to(device)
        mask_BT = batch.response_mask_BT
        old_BT, advantages_BT, old_values_BT, returns_BT = (
            x_BT[rows, : batch.T].to(device) for x_BT in (e.logprobs_BT, e.advantages_BT, e.values_BT, e.returns_BT)
        )
        with world.autocast():
            logprobs_BT = scoring.response_logprobs(nets.policy, batch, config.generation.temperature)
        total, real, found = policy_loss(logprobs_BT, old_BT, advantages_BT, mask_BT, config.clip)
        metrics: dict[str, Any] = dict(found)
        world.backward(total / count, nets.policy)
        means.largest("ratio_max", metrics.pop("ratio_max"))
        means.add({"policy_loss": (total, real), **metrics})
        gap = torch.maximum(gap, ((logprobs_BT.detach() - old_BT).abs() * mask_BT).max().cpu())
        with world.autocast():
            values_BT = scoring.values(nets.value, batch)
        total, real, value_metrics = value_loss(values_BT, old_values_BT, returns_BT, mask_BT, config.value_clip)
        world.backward(total / count, nets.value)
        means.add({"value_loss": (total, real), **{f"value/{key}": pair for key, pair in value_metrics.items()}})
    return gap


def _pretraining_gradients(
    config: PPOConfig, nets: Networks, texts: list[Example], number: int, means: Means, world: World
) -> None:
    """Add ptx_coef x the gradient of the mean pretraining loss to the policy's, in the same buffer (P21)."""
    rows = max(1, round(config.minibatch * config.ptx_ratio))
    chosen = [texts[i] for i in order.endless(config.seed, number, rows, len(texts), stream=2)]
    count = likelihood.targets(chosen)
    for total, real in likelihood.losses(nets.policy, chosen, nets.tokenizer.pad_token_id, config.compute, world):
        world.backward(config.ptx_coef * total / count, nets.policy)
        means.add({"ptx_loss": (total, real)})
