"""An advantage estimator of your own, in a loop that is built from heedful's parts.

GRPO compares each answer with the mean of its group. This estimator takes the median, which one lucky answer does not
move. Everything else is shared: sampling, scores, log-probs, the update, checkpoints and resume.

    python examples/custom_advantage.py runs/sft runs/reward prompts.jsonl runs/median
"""

from __future__ import annotations

import sys

from torch import Tensor

from heedful.configs.grpo import GRPOConfig
from heedful.learning.groups import compare
from heedful.learning.networks import open_networks
from heedful.learning.online import Online, open_online
from heedful.stages import grpo


def median_advantages(rewards_GK: Tensor) -> Tensor:
    """Advantages of K answers to each of G prompts: each reward minus the median of its group."""
    return rewards_GK - rewards_GK.median(1, keepdim=True).values


def train(config: GRPOConfig, out: str, *, resume: bool = False) -> None:
    with open_online("median", config, out, resume=resume) as s:
        if not s.finished:
            nets = open_networks(config, s.ranks)
            run = Online(config, s, nets)
            for step in run.steps():
                metrics, experience = compare(config, nets, run, step, median_advantages)
                metrics |= grpo.learn(config, nets, run, experience, step)
                run.log(step, metrics, experience)
            run.finish()


if __name__ == "__main__":
    policy, reward, prompt_file, run_directory = sys.argv[1:]
    train(GRPOConfig(policy=policy, reward=[reward], prompts=prompt_file), run_directory)
