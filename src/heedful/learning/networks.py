"""The networks of the policy's side, which every online algorithm has: policy, reference, reward, average."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.dpo import DPOConfig
from heedful.configs.online import OnlineConfig
from heedful.learning.steps import Learner
from heedful.models import adapters, load, render, vocabulary
from heedful.rewards.functions import Reward, open_reward
from heedful.rollout.engine import open_policy_engine
from heedful.rollout.types import Engine
from heedful.training import optimiser as optim
from heedful.training.checkpoint import SavedPart
from heedful.training.optimiser import Average
from heedful.training.parallel import Ranks


@dataclass
class Networks:
    """All without dropout (P16, P17). `engine` samples from the policy's present weights."""

    learner: Learner
    """The policy and its optimiser."""
    reference: Any
    """Frozen: a copy of the policy's start, or a model of its own."""
    reward: Reward
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    average: Average
    """Moving average of the policy's weights: what the run leaves as its model (P20)."""

    @property
    def policy(self) -> Any:
        return self.learner.model

    @property
    def parts(self) -> dict[str, SavedPart]:
        """What a checkpoint holds."""
        return {"policy": self.policy, "average": self.average, "policy_optimiser": self.learner.adam}


def open_networks(config: OnlineConfig, ranks: Ranks) -> Networks:
    """Load the policy, the reference and the reward, and copy the average."""
    policy, tokenizer = load.load_policy(config.policy, trust_remote_code=config.trust_remote_code, shards=ranks.shards)
    vocabulary.use_template(policy, tokenizer, config.template)
    adapters.add(policy, config.lora, seed=config.seed, base=config.policy)
    compute = config.compute
    if ranks.shards is None:  # before anything is moved to the device
        adapters.lower(policy, ranks.dtype)
    reference = open_reference(config, policy, tokenizer, ranks)
    reward = open_reward(
        config.reward, policy_tokenizer=tokenizer, compute=compute, device=ranks.device,
        trust_remote_code=config.trust_remote_code, shards=ranks.shards,
    )  # fmt: skip
    load.place(policy, ranks.device, compute, trained=True, shards=ranks.shards)
    learner = Learner("policy", policy, optim.adam(policy, config.optimiser), config.optimiser)
    engine = open_policy_engine(policy, tokenizer, compute, config.engine, ranks.once)
    return Networks(learner, reference, reward, tokenizer, engine, Average(policy, config.ema_decay))


def open_reference(
    config: OnlineConfig | DPOConfig, policy: Any, tokenizer: PreTrainedTokenizerBase, ranks: Ranks
) -> Any:
    """The frozen model that `config.reference` names, else a copy of the policy. Raises UserError for other tokens."""
    where: Any = {"device": ranks.device, "compute": config.compute, "shards": ranks.shards}
    if config.reference is None and adapters.found(policy):
        return load.place(adapters.without(policy), **where)
    if config.reference is None:
        return load.place(copy.deepcopy(policy).requires_grad_(False), **where)
    reference, its_tokenizer = load.load_policy(
        config.reference, trust_remote_code=config.trust_remote_code, shards=ranks.shards
    )
    vocabulary.use_template(reference, its_tokenizer, config.template)
    if not render.same_tokens(its_tokenizer, tokenizer):
        raise UserError(f"{config.reference}: a reference reads the policy's tokens, but its tokenizer is another one")
    return load.place(reference.requires_grad_(False), **where)
