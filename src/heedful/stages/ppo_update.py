"""The update of one PPO iteration: a policy step and a value step for every minibatch, with the pretraining gradient
(P14-P21).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heedful.configs.ppo import PPOConfig
from heedful.learning import likelihood
from heedful.learning.examples import Example
from heedful.maths.losses import explained_variance, policy_loss, value_loss
from heedful.models import scoring
from heedful.models.batches import Batch
from heedful.stages.ppo_experience import Experience
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks

if TYPE_CHECKING:
    from heedful.stages.ppo import Networks


def learn(
    config: PPOConfig, nets: Networks, experience: Experience, texts: list[Example], step: int, ranks: Ranks
) -> dict[str, float]:
    """`epochs` passes over shuffled minibatches; returns metrics over all of them."""
    means, norms = Means(), Means()
    total = max(1, config.episodes // config.rollout_batch)
    lr, value_lr = (
        optim.learning_rate(settings, step, total, first=0.1)  # an iteration at 0 would be sampled for nothing
        for settings in (config.optimiser, config.value_optimiser)
    )
    nets.policy.train()
    nets.value.train()
    per_pass = config.rollout_batch // config.minibatch
    for update in range(config.epochs * per_pass):
        number = step * config.epochs * per_pass + update
        chosen = order.epochs(config.seed, number, config.minibatch, config.rollout_batch, stream=1)
        minibatch = _minibatch(config, nets, experience, chosen, ranks)
        gap = _policy_gradients(config, nets, experience, minibatch, means, ranks)
        if update == 0:
            norms.largest("logprob_gap", gap)
        if texts:
            _pretraining_gradients(config, nets, texts, number, means, ranks)
        ranks.sum_gradients(nets.policy)
        policy_norm = optim.step(nets.policy, nets.policy_adam, config.optimiser, lr, "policy.")
        _value_gradients(config, nets, experience, minibatch, means, ranks)  # when the policy's are gone
        ranks.sum_gradients(nets.value)
        value_norm = optim.step(nets.value, nets.value_adam, config.value_optimiser, value_lr, "value.")
        nets.average.update()
        norms.add({"policy_gradient_norm": (policy_norm, 1), "value_gradient_norm": (value_norm, 1)})
    nets.policy.eval()
    nets.value.eval()
    metrics = means.reduce(ranks)
    explained = explained_variance({key.removeprefix("value/"): v for key, v in metrics.items()})
    if math.isfinite(explained):  # it is not where all returns are equal
        metrics["explained_variance"] = explained
    dropped = ("value/error", "value/error_squared", "value/returns", "value/returns_squared")
    return {key: v for key, v in metrics.items() if key not in dropped} | norms.reduce(ranks) | {"lr": lr}


@dataclass(frozen=True)
class Minibatch:
    """Response tokens of all of it, and this rank's passes, (episodes, batch) each: laid out once for both nets."""

    tokens: int
    passes: list[tuple[list[int], Batch]]


def _minibatch(config: PPOConfig, nets: Networks, e: Experience, chosen: list[int], ranks: Ranks) -> Minibatch:
    lengths = e.lengths
    tokens = [lengths[i] for i in chosen]
    parts = ranks.share(scoring.passes(nets.policy, tokens, config.compute.micro_tokens, ranks.size))
    rows = [[chosen[i] for i in part] for part in parts]
    batches = [(some, e.batch(some, nets.tokenizer.pad_token_id).to(ranks.device)) for some in rows]
    return Minibatch(int(e.mask_BT[chosen].sum()), batches)


def _policy_gradients(
    config: PPOConfig, nets: Networks, e: Experience, minibatch: Minibatch, means: Means, ranks: Ranks
) -> Tensor:
    """Add the policy's gradients of one minibatch, a mean over its tokens (P14).

    Returns the largest |log-prob - old log-prob|: before the first step of an iteration it must be rounding only (P5,
    P17).
    """
    gap = torch.zeros(())
    for rows, batch in minibatch.passes:
        mask_BT = batch.response_mask_BT
        old_BT, advantages_BT = (x_BT[rows, : batch.T].to(ranks.device) for x_BT in (e.logprobs_BT, e.advantages_BT))
        with ranks.autocast():
            logprobs_BT = scoring.response_logprobs(nets.policy, batch, config.generation.temperature)
        total, real, found = policy_loss(logprobs_BT, old_BT, advantages_BT, mask_BT, config.clip)
        metrics: dict[str, Any] = dict(found)
        ranks.backward(total / minibatch.tokens, nets.policy)
        means.largest("ratio_max", metrics.pop("ratio_max"))
        means.add({"policy_loss": (total, real), **metrics})
        gap = torch.maximum(gap, ((logprobs_BT.detach() - old_BT).abs() * mask_BT).max().cpu())
    return gap


def _value_gradients(
    config: PPOConfig, nets: Networks, e: Experience, minibatch: Minibatch, means: Means, ranks: Ranks
) -> None:
    """Add the value net's gradients of one minibatch, a mean over its tokens (P15)."""
    for rows, batch in minibatch.passes:
        old_BT, returns_BT = (x_BT[rows, : batch.T].to(ranks.device) for x_BT in (e.values_BT, e.returns_BT))
        with ranks.autocast():
            values_BT = scoring.values(nets.value, batch)
        total, real, metrics = value_loss(values_BT, old_BT, returns_BT, batch.response_mask_BT, config.value_clip)
        ranks.backward(total / minibatch.tokens, nets.value)
        means.add({"value_loss": (total, real), **{f"value/{key}": pair for key, pair in metrics.items()}})


def _pretraining_gradients(
    config: PPOConfig, nets: Networks, texts: list[Example], number: int, means: Means, ranks: Ranks
) -> None:
    """Add ptx_coef x the gradient of the mean pretraining loss to the policy's, in the same buffer (P21)."""
    rows = max(1, round(config.minibatch * config.ptx_ratio))
    chosen = [texts[i] for i in order.endless(config.seed, number, rows, len(texts), stream=2)]
    count = likelihood.targets(chosen)
    for total, real in likelihood.losses(nets.policy, chosen, nets.tokenizer.pad_token_id, config.compute, ranks):
        ranks.backward(config.ptx_coef * total / count, nets.policy)
        means.add({"ptx_loss": (total, real)})
