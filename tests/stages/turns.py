"""One PPO iteration taken apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from heedful.configs.ppo import PPOConfig
from heedful.learning import steps
from heedful.learning.experience import Experience
from heedful.learning.online import Online
from heedful.maths.losses import policy_loss
from heedful.stages import ppo
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks
from heedful.training.stage_run import StageRun

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)
LETTER = "stages.worlds:count_e"
PLAIN: dict[str, Any] = {"pretrain_data": None}


class Turn:
    """One iteration without its update: networks, passes and the experience."""

    def __init__(self, config: PPOConfig, world: Ranks = ALONE) -> None:
        self.config = config
        self.nets = ppo._networks(config, world)
        self.run = Online(config, StageRun("ppo", config, Path("run"), world, None), self.nets)
        self.passes = self.run.passes
        with patch.object(ppo, "learn", lambda *_: {}):
            _, self.experience = ppo.iteration(config, self.nets, self.run, 0)


def gradients(turn: Turn, e: Experience, chosen: list[int], means: Means, *, config: PPOConfig | None = None) -> Tensor:
    """Those of one minibatch to policy and value net; the largest gap of the log-probs."""
    config, nets, passes = config or turn.config, turn.nets, turn.passes
    minibatch = steps.minibatch(e, chosen, model=nets.policy, passes=passes)

    def loss(logprobs_BT: Tensor, rows: Experience) -> Any:
        return policy_loss(logprobs_BT, rows.logprobs_BT, rows.advantages_BT, rows.mask_BT, config.clip)

    temperature = config.generation.temperature
    gap = steps.policy_gradients(
        nets.policy, minibatch, loss, count=minibatch.tokens, temperature=temperature, passes=passes, means=means
    )
    steps.value_gradients(nets.value, minibatch, clip=config.value_clip or math.inf, passes=passes, means=means)
    return gap
