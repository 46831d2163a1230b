"""Learning from groups: K answers to each prompt, compared with each other. RLOO and GRPO share it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from heedful.configs.online import GroupConfig
from heedful.learning.experience import Experience, correct, describe, logprobs, old_logprobs, response_mask, score
from heedful.learning.networks import Networks
from heedful.learning.online import Online
from heedful.maths.kl import k1
from heedful.maths.masks import keep


def compare(
    config: GroupConfig, nets: Networks, run: Online, step: int, advantages: Callable[[Tensor], Tensor]
) -> tuple[dict[str, float], Experience]:
    """Sample K answers to each prompt and score them. `advantages` maps rewards_GK to advantages_GK.

    Returns metrics and the experience. All tokens of an answer get its advantage.
    """
    K = config.samples_per_prompt
    passes, kl_coef, temperature = run.passes, run.kl_coef, config.generation.temperature
    episodes = run.rollouts.episodes(step)
    mask_BT = response_mask(episodes)

    scores = score(nets.reward, episodes, missing_eos_penalty=config.missing_eos_penalty, passes=passes)
    logprobs_BT = old_logprobs(nets.policy, episodes, exact=nets.engine.exact, temperature=temperature, passes=passes)
    ref_logprobs_BT = logprobs(nets.reference, episodes, temperature=temperature, passes=passes, name="the reference")

    kl_BT = k1(logprobs_BT, ref_logprobs_BT)
    rewards_B = scores.total_B - kl_coef * kl_BT.sum(1) if config.kl_in == "reward" else scores.total_B
    rewards_GK = rewards_B.view(-1, K)
    advantages_BT = keep(advantages(rewards_GK).view(-1, 1), mask_BT)
    experience = Experience(episodes, scores, mask_BT, logprobs_BT, ref_logprobs_BT, kl_BT, advantages_BT)
    experience, mismatch = correct(
        experience, level=config.corrected, measured=config.one_action, cap=config.correction_cap
    )
    metrics = describe(experience, kl_coef=kl_coef) | mismatch
    return metrics | {"flat_groups": flat_groups(rewards_GK)}, experience


def flat_groups(rewards_GK: Tensor) -> float:
    """Share of the prompts whose K answers have equal rewards: their advantages are 0."""
    return float((rewards_GK.amax(1) == rewards_GK.amin(1)).float().mean())
