"""PPO and PPO-ptx (section 3.5 and C.4 of the paper; items P1-P24).

`iteration` is the algorithm; around it are the loop with its checkpoints, and the networks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.ppo import PPOConfig
from heedful.data import formats
from heedful.learning import examples, likelihood, rollouts
from heedful.learning.examples import Example, Limits, Question
from heedful.maths.kl import adapt_kl_coef
from heedful.models import load, render
from heedful.rewards.functions import ModelScorer, Reward, models_of, open_reward
from heedful.rollout.engine import open_engine
from heedful.rollout.types import Engine
from heedful.stages import ppo_experience, ppo_signs, ppo_update
from heedful.stages.ppo_experience import Experience
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.checkpoint import Part
from heedful.training.optimiser import Average
from heedful.training.parallel import Ranks, recompute_activations
from heedful.training.session import Session, session


@dataclass
class Networks:
    """The four models, their optimisers, and who samples."""

    policy: Any
    reference: Any
    value: Any
    reward: Reward
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    average: Average
    policy_adam: torch.optim.Optimizer
    value_adam: torch.optim.Optimizer
    value_from: str

    @property
    def parts(self) -> dict[str, Part]:
        return {
            "policy": self.policy, "value": self.value, "average": self.average,
            "policy_optimiser": self.policy_adam, "value_optimiser": self.value_adam,
        }  # fmt: skip


def train(config: PPOConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Move the policy towards the reward under the KL leash; returns the run directory. `out`/model is the averaged
    policy.
    """
    _check(config)
    files = {"prompts": config.prompts, "pretrain_data": config.pretrain_data, "tax_data": config.tax_data}
    models = {"policy": config.policy, "value": config.value, **models_of(config.reward)}
    with session(
        "ppo", config, out, models=models,
        data={role: formats.fingerprint(path) for role, path in files.items() if path},
        compute=config.compute, checkpointing=config.checkpoint, resume=resume,
    ) as s:  # fmt: skip
        if not s.finished:
            _loop(config, s)
    return Path(out)


def iteration(
    config: PPOConfig,
    nets: Networks,
    questions: list[Question],
    texts: list[Example],
    step: int,
    beta: float,
    ranks: Ranks,
) -> tuple[dict[str, float], Experience]:
    """One turn (P22): sample, score, shape, estimate advantages; then a policy and a value step for every minibatch."""
    asked = [questions[i] for i in order.endless(config.seed, step, config.rollout_batch, len(questions))]
    samples = rollouts.generate(nets.engine, asked, config.generation, config.seed, step, ranks)  # P3
    episodes = rollouts.episodes(nets.tokenizer, asked, samples)
    experience = ppo_experience.score(config, nets, episodes, ranks)  # P7: rewards of the text
    ppo_experience.add_logprobs_and_values(config, nets, experience, samples, ranks)  # P4, P5, P16
    ppo_experience.add_advantages(config, experience, beta)  # P8, P11-P13
    metrics = ppo_experience.describe(experience, beta)
    metrics |= ppo_update.learn(config, nets, experience, texts, step, ranks)  # P14, P15, P20, P21
    return metrics, experience


def _loop(config: PPOConfig, s: Session) -> None:
    nets = _networks(config, s.ranks)
    limits = Limits(load.context_length(nets.policy), config.max_prompt_tokens, 0, config.skip_long)
    questions = examples.questions(
        config.prompts, nets.tokenizer, limits.leaving_room(config.generation.max_new_tokens)
    )
    texts, tax = (_texts(path, config, nets) for path in (config.pretrain_data, config.tax_data))
    total = max(1, config.episodes // config.rollout_batch)
    if s.run is not None:
        s.run.set_status("running", value_from=nets.value_from)
    first = s.restore(nets.parts)
    beta: float = s.facts.get("kl_coef", config.kl_coef)
    stopped: str | None = s.facts.get("stopped")
    watch = ppo_signs.Watch(config, s.history)
    for step in s.steps(first, total if stopped is None else first):
        s.seed(config.seed, step)
        metrics, experience = iteration(config, nets, questions, texts, step, beta, s.ranks)
        if s.due(step) and tax:
            pad = nets.tokenizer.pad_token_id
            metrics["corpus_loss"] = likelihood.mean_loss(nets.average.model, tax, pad, config.compute, s.ranks)
        s.log(step, metrics, show=("reward", "score", "kl", "length"))
        if s.due(step):
            s.sample(step, ppo_experience.readable(experience, 4))
        for sign in watch.see(metrics):
            s.say(f"ppo: {sign}")
        beta, stopped = _next_beta(config, beta, metrics["kl"], step + 1)
        s.checkpoint(step, nets.parts, always=stopped is not None, kl_coef=beta, stopped=stopped)
        if stopped is not None:
            s.say(f"ppo: {stopped}")
            break
    last = s.history[-1] if s.history else {}
    results: dict[str, Any] = {
        "steps": len(s.history), "stopped": stopped, "value_from": nets.value_from, "signs": watch.messages,
        **{key: last[key] for key in ("score", "kl", "reward", "length", "entropy") if key in last},
    }  # fmt: skip
    s.finish(lambda directory: load.save(nets.average.model, nets.tokenizer, directory), results)


def _next_beta(config: PPOConfig, beta: float, kl: float, done: int) -> tuple[float, str | None]:
    """The KL coefficient of the next iteration, and why to stop now, if so (P10)."""
    if config.kl_target is not None:
        beta = adapt_kl_coef(beta, kl, config.kl_target, config.kl_horizon, config.rollout_batch)
    if config.kl_ceiling is not None and kl > config.kl_ceiling:
        if config.at_ceiling == "stop":
            return (
                beta,
                f"stopped after iteration {done}: sequence KL {kl:.2f} passed the ceiling of {config.kl_ceiling:g}",
            )
        beta *= 1.5
    return beta, None


def _networks(config: PPOConfig, ranks: Ranks) -> Networks:
    """Policy, frozen reference, value net, reward; all without dropout (P16, P17)."""
    policy, tokenizer = load.load_policy(config.policy, trust_remote_code=config.trust_remote_code)
    policy.to(ranks.device)
    reference = copy.deepcopy(policy).requires_grad_(False)
    reward = open_reward(
        config.reward, policy_tokenizer=tokenizer, device=ranks.device, micro_tokens=config.compute.micro_tokens,
        dtype=ranks.dtype, trust_remote_code=config.trust_remote_code,
    )  # fmt: skip
    value, value_from = _value_net(config, policy, tokenizer, reward)
    value.to(ranks.device)
    if config.compute.activation_checkpointing:
        recompute_activations(policy)
        recompute_activations(value)
    engine = open_engine(policy, tokenizer, config.compute)
    return Networks(
        policy, reference, value, reward, tokenizer, engine, Average(policy, config.ema_decay),
        optim.adam(policy, config.optimiser), optim.adam(value, config.value_optimiser), value_from,
    )  # fmt: skip


def _value_net(config: PPOConfig, policy: Any, tokenizer: PreTrainedTokenizerBase, reward: Reward) -> tuple[Any, str]:
    """`--value`, else the first reward model that shares the tokenizer, head and bias included; else body of the
    policy, head 0.
    """
    if config.value is not None:
        value, its_tokenizer = load.load_reward(config.value, trust_remote_code=config.trust_remote_code)
        if not render.same_tokens(its_tokenizer, tokenizer):
            raise UserError(f"{config.value}: a value net reads the policy's tokens, and its tokenizer is another one")
        return value, f"{config.value} (given)"
    for part in reward.parts:
        if isinstance(part.score, ModelScorer) and part.score.same_tokens:
            return load.value_from_reward(part.score.model, part.weight), f"{part.name} (reward model, with its head)"
    return load.value_from_policy(policy), f"{config.policy} (policy's body, zero head)"


def _texts(path: str | None, config: PPOConfig, nets: Networks) -> list[Example]:
    if path is None:
        return []
    return examples.documents(path, nets.tokenizer, min(config.ptx_tokens, load.context_length(nets.policy)))


def _check(config: PPOConfig) -> None:
    if config.generation.top_p < 1 or config.generation.top_k > 0 or config.generation.temperature <= 0:
        raise UserError(
            "PPO samples from the policy itself: generation needs top_p = 1, top_k = 0 and a temperature above 0, "
            "else the KL to the reference is wrong"
        )
    if config.kl_target is not None and config.kl_coef == 0:
        raise UserError("kl_target multiplies kl_coef, and 0 stays 0: give a kl_coef above 0 to begin with")
    if config.rollout_batch % config.minibatch:
        raise UserError(
            f"rollout_batch {config.rollout_batch} is not a multiple of minibatch {config.minibatch}; change one"
        )
