"""One PPO iteration taken apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heedful.configs.ppo import PPOConfig
from heedful.learning import examples, rollouts
from heedful.learning.examples import Limits
from heedful.stages import ppo, ppo_experience, ppo_update
from heedful.stages.ppo import Networks
from heedful.stages.ppo_experience import Experience
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)
LETTER = "stages.worlds:count_e"
PLAIN: dict[str, Any] = {"pretrain_data": None}


class Turn:
    """One iteration taken apart: networks, questions, samples and the experience before the update."""

    def __init__(self, config: PPOConfig, world: Ranks = ALONE) -> None:
        self.config = config
        self.nets = ppo._networks(config, world)
        limits = Limits(128, config.max_prompt_tokens, 0).leaving_room(config.generation.max_new_tokens)
        questions = examples.questions(config.prompts, self.nets.tokenizer, limits)
        asked = [questions[i] for i in order.endless(config.seed, 0, config.rollout_batch, len(questions))]
        self.samples = rollouts.generate(self.nets.engine, asked, config.generation, config.seed, 0, world)
        episodes = rollouts.episodes(self.nets.tokenizer, asked, self.samples)
        self.experience = ppo_experience.score(config, self.nets, episodes, world)
        ppo_experience.add_logprobs_and_values(config, self.nets, self.experience, self.samples, world)
        ppo_experience.add_advantages(config, self.experience, config.kl_coef)


def gradients(config: PPOConfig, nets: Networks, e: Experience, chosen: list[int], means: Means) -> Tensor:
    """Those of one minibatch to policy and value net; the largest gap of the log-probs."""
    minibatch = ppo_update._minibatch(config, nets, e, chosen, ALONE)
    gap = ppo_update._policy_gradients(config, nets, e, minibatch, means, ALONE)
    ppo_update._value_gradients(config, nets, e, minibatch, means, ALONE)
    return gap
