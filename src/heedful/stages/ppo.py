"""PPO and PPO-ptx (section 3.5 and C.4 of the paper, items P1-P24).

`iteration` is the algorithm. `learn` is its update. The rest opens the run and the value net.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.ppo import PPOConfig
from heedful.learning import networks
from heedful.learning.experience import (
    Experience,
    correct,
    describe,
    logprobs,
    old_logprobs,
    response_mask,
    score,
    values,
)
from heedful.learning.networks import open_networks
from heedful.learning.online import Online, open_online
from heedful.learning.steps import Learner, policy_step, update_metrics, value_step
from heedful.maths.advantages import gae, whiten
from heedful.maths.kl import shaped_rewards
from heedful.maths.losses import policy_loss
from heedful.models import adapters, heads, load, render
from heedful.models.shards import Shards, unplaced
from heedful.rewards.functions import ModelScorer, Reward
from heedful.training import optimiser as optim
from heedful.training.checkpoint import SavedPart
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks


@dataclass
class PPONetworks(networks.Networks):
    """The policy's side, and a value net of its own (P16)."""

    critic: Learner
    """The value net and its optimiser."""
    value_from: str

    @property
    def value(self) -> Any:
        return self.critic.model

    @property
    def parts(self) -> dict[str, SavedPart]:
        return super().parts | {"value": self.value, "value_optimiser": self.critic.adam}


def train(config: PPOConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Train the policy towards the reward with a KL penalty, and return the run directory.

    `out`/model is the averaged policy.
    """
    with open_online("ppo", config, out, resume=resume, models={"value": config.value}) as s:
        if not s.finished:
            nets = _networks(config, s.ranks)
            run = Online(config, s, nets, whiten_rewards=config.whiten_rewards, value_from=nets.value_from)
            run.check_reads(nets.value, nets.value_from)
            for step in run.steps():
                metrics, experience = iteration(config, nets, run, step)
                run.log(step, metrics, experience)
            run.finish()
    return Path(out)


def iteration(config: PPOConfig, nets: PPONetworks, run: Online, step: int) -> tuple[dict[str, float], Experience]:
    """One iteration (P22): sample, score, shape rewards, estimate advantages, then update on every minibatch."""
    passes, kl_coef, temperature = run.passes, run.kl_coef, config.generation.temperature
    episodes = run.rollouts.episodes(step)  # P3
    mask_BT = response_mask(episodes)

    scores = score(nets.reward, episodes, missing_eos_penalty=config.missing_eos_penalty, passes=passes)  # P7
    logprobs_BT = old_logprobs(nets.policy, episodes, exact=nets.engine.exact, temperature=temperature, passes=passes)
    ref_logprobs_BT = logprobs(
        nets.reference, episodes, temperature=temperature, passes=passes, name="the reference"
    )  # P4, P5
    values_BT = values(nets.value, episodes, passes=passes)  # P16

    rewards_BT, kl_BT = shaped_rewards(scores.total_B, logprobs_BT, ref_logprobs_BT, mask_BT, kl_coef)  # P8
    advantages_BT, returns_BT = advantages(
        rewards_BT, values_BT, mask_BT, gamma=config.gamma, lam=config.lam, whiten_rewards=config.whiten_rewards
    )  # P11-P13
    experience = Experience(
        episodes, scores, mask_BT, logprobs_BT, ref_logprobs_BT, kl_BT, advantages_BT, values_BT, returns_BT
    )
    experience, mismatch = correct(
        experience, level=config.corrected, measured=config.one_action, cap=config.correction_cap
    )
    metrics = describe(experience, kl_coef=kl_coef) | mismatch
    metrics |= learn(config, nets, run, experience, step)  # P14, P15, P20, P21
    return metrics, experience


def advantages(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float, whiten_rewards: bool
) -> tuple[Tensor, Tensor]:
    """(advantages_BT, returns_BT): rewards whitened if wanted, GAE, advantages whitened over the batch (P11-P13)."""
    if whiten_rewards:
        rewards_BT = whiten(rewards_BT, mask_BT, shift_mean=False)
    advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, gamma, lam)
    return whiten(advantages_BT, mask_BT), returns_BT


def learn(config: PPOConfig, nets: PPONetworks, run: Online, experience: Experience, step: int) -> dict[str, float]:
    """`epochs` passes over shuffled minibatches. Return metrics over all of them."""
    means = Means()
    lr, value_lr = (learner.rate(step, config.iterations) for learner in (nets.learner, nets.critic))

    def clipped(logprobs_BT: Tensor, e: Experience) -> Any:
        return policy_loss(logprobs_BT, e.logprobs_BT, e.advantages_BT, e.mask_BT, config.clip)  # P14

    for minibatch in run.minibatches(experience, step):
        policy_step(
            nets.learner, minibatch, clipped, count=minibatch.tokens, temperature=config.generation.temperature, lr=lr,
            mix=run.mix, passes=run.passes, means=means,
        )  # fmt: skip
        clip = config.value_clip or math.inf
        value_step(nets.critic, minibatch, clip=clip, lr=value_lr, passes=run.passes, means=means)  # P15
        nets.average.update()  # P20
    return update_metrics(means, run.passes.ranks) | {"lr": lr}


def _networks(config: PPOConfig, ranks: Ranks) -> PPONetworks:
    """The policy's side and the value net."""
    nets = open_networks(config, ranks)
    value, value_from = _value_net(config, nets.policy, nets.tokenizer, nets.reward, ranks.shards)
    adapters.add(value, config.lora, seed=config.seed + 1, base=config.policy)
    load.place(value, ranks.device, config.compute, trained=True, shards=ranks.shards)
    critic = Learner("value", value, optim.adam(value, config.value_optimiser), config.value_optimiser)
    return PPONetworks(**vars(nets), critic=critic, value_from=value_from)


def _value_net(
    config: PPOConfig, policy: Any, tokenizer: PreTrainedTokenizerBase, reward: Reward, shards: Shards | None
) -> tuple[Any, str]:
    """Where the value net starts, and its name.

    That is `config.value`, else the first reward model that shares the tokenizer, with its head and bias, else the
    policy's body with a head of 0.
    """
    if config.value is not None:
        value, its_tokenizer = load.load_reward(config.value, trust_remote_code=config.trust_remote_code, shards=shards)
        if not heads.reads_last_token(value):
            raise UserError(
                f"{config.value}: {type(value).__name__} gives one number a row. A value net reads each token"
            )
        if not render.same_tokens(its_tokenizer, tokenizer):
            raise UserError(f"{config.value}: a value net reads the policy's tokens, but its tokenizer is another one")
        return value, f"{config.value} (given)"
    for part in reward.members():
        if isinstance(part.score, ModelScorer) and part.score.same_tokens and heads.reads_last_token(part.score.model):
            start = unplaced(part.score.model)
            if shards is not None:
                start.requires_grad_(True)
            value = heads.value_from_reward(start, part.weight, share=bool(config.lora.rank))
            return value, f"{part.name} (reward model, with its head)"
    policy = unplaced(policy)
    start = adapters.without(policy) if adapters.found(policy) else policy
    return heads.value_from_policy(start, share=bool(config.lora.rank)), f"{config.policy} (policy's body, zero head)"
