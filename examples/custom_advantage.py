"""An advantage estimator of your own, in a loop that is built from heedful's parts.

GRPO compares each answer with the mean of its group. This estimator takes the median, which one lucky answer does not
move. Everything else is shared: sampling, scores, log-probs, the update, checkpoints and resume.

    python examples/custom_advantage.py runs/sft runs/reward prompts.jsonl runs/median
"""

from __future__ import annotations

import sys

from torch import Tensor

from heedful.configs.grpo import GRPOConfig
from heedful.learning import rollouts
from heedful.learning.experience import Experience, describe, logprobs, old_logprobs, response_mask, score
from heedful.learning.networks import Networks, open_networks
from heedful.learning.online import Online, open_online
from heedful.maths.kl import k1
from heedful.maths.masks import keep
from heedful.stages import grpo
from heedful.training import order


def median_advantages(rewards_GK: Tensor) -> Tensor:
    """Advantages of K answers to each of G prompts: each reward minus the median of its group."""
    return rewards_GK - rewards_GK.median(1, keepdim=True).values


def train(config: GRPOConfig, out: str, *, resume: bool = False) -> None:
    with open_online("median", config, out, resume=resume) as s:
        if not s.finished:
            nets = open_networks(config, s.ranks)
            run = Online(config, s, nets)
            for step in run.steps():
                experience = collect(config, nets, run, step)
                metrics = describe(experience, kl_coef=run.kl_coef)
                metrics |= grpo.learn(config, nets, run, experience, step)
                run.log(step, metrics, experience)
            run.finish()


def collect(config: GRPOConfig, nets: Networks, run: Online, step: int) -> Experience:
    """Sample K answers to each prompt, and give each its advantage."""
    K, passes, temperature = config.samples_per_prompt, run.passes, config.generation.temperature
    prompts = order.endless(config.seed, step, config.rollout_batch // K, len(run.questions))
    asked = [run.questions[i] for i in prompts for _ in range(K)]
    samples = rollouts.generate(nets.engine, asked, config.generation, config.seed, step, passes.ranks)
    episodes = rollouts.episodes(nets.tokenizer, asked, samples)
    mask_BT = response_mask(episodes)

    scores = score(nets.reward, episodes, missing_eos_penalty=config.missing_eos_penalty, passes=passes)
    old_BT = old_logprobs(nets.policy, episodes, exact=nets.engine.exact, temperature=temperature, passes=passes)
    ref_BT = logprobs(nets.reference, episodes, temperature=temperature, passes=passes)

    advantages_B = median_advantages(scores.total_B.view(-1, K)).flatten()
    return Experience(
        episodes, scores, mask_BT, old_BT, ref_BT, k1(old_BT, ref_BT), keep(advantages_B[:, None], mask_BT)
    )


if __name__ == "__main__":
    policy, reward, prompt_file, run_directory = sys.argv[1:]
    train(GRPOConfig(policy=policy, reward=[reward], prompts=prompt_file), run_directory)
