"""Settings that PPO, RLOO and GRPO share: they sample from the policy that they train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import Config, Count, Seed
from heedful.configs.shared import Checkpointing, Compute, Generation, Optimiser


class OnlineConfig(Config):
    policy: str
    """Where the policy starts; its frozen copy is the reference (P16)."""
    reward: list[str]
    """Reward-model runs or module:function, each with an optional weight in front (0.5*runs/rm)."""
    prompts: str
    pretrain_data: str | None = None
    """Texts for the pretraining gradient (PPO-ptx, P21); None = no such gradient."""
    tax_data: str | None = None
    """Held-out texts whose loss is logged at every checkpoint: the alignment tax (E6)."""
    seed: Seed = 0
    episodes: Count = 256_000
    rollout_batch: Count = 512
    """Episodes an iteration."""
    minibatch: Count = 64
    epochs: Count = 1
    """Passes over an iteration's episodes."""
    kl_coef: float = Field(default=0.02, ge=0)
    kl_target: float | None = Field(default=None, gt=0)
    """Sequence KL in nats for an adaptive coefficient (P10); None = fixed."""
    kl_horizon: Count = 10_000
    kl_ceiling: float | None = Field(default=None, gt=0)
    """Sequence KL in nats that shall not be passed."""
    at_ceiling: Literal["stop", "raise"] = "stop"
    """Above the ceiling: end the run, or raise the coefficient by half each iteration."""
    clip: float = Field(default=0.2, gt=0)
    missing_eos_penalty: float | None = Field(default=None, ge=-1e6, le=1e6)
    """Score of a response that was cut off by length, in place of its reward (P7); None = its reward."""
    ptx_coef: float = Field(default=27.8, ge=0)
    ptx_ratio: float = Field(default=8.0, gt=0)
    """Pretraining documents an episode."""
    ptx_tokens: int = Field(default=2048, ge=2)
    """Length at which a document is cut into pieces (at most the context)."""
    ema_decay: float = Field(default=0.992, ge=0, lt=1)
    """Of the weights in model/, per policy step (P20); 0 = the raw weights."""
    max_prompt_tokens: Count = 1024
    skip_long: bool = False
    trust_remote_code: bool = False
    optimiser: Optimiser = Optimiser(lr=9e-6, schedule="constant", warmup=10)
    generation: Generation = Generation(max_new_tokens=1024)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()

    @property
    def iterations(self) -> int:
        return max(1, self.episodes // self.rollout_batch)
