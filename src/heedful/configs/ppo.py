"""Settings of `heedful ppo`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Share
from heedful.configs.online import OnlineConfig
from heedful.configs.shared import Optimiser
from heedful.configs.stage import SAMPLED, ChartSpec, Stage


class PPOConfig(OnlineConfig):
    value: str | None = None
    """Where the value net starts; None = the first reward model with its head if it shares the tokenizer, else the
    policy's body.
    """
    gamma: Share = 1.0
    lam: Share = 0.95
    value_clip: float = Field(default=0.2, gt=0)
    whiten_rewards: bool = False
    value_optimiser: Optimiser = Optimiser(lr=9e-6, schedule="constant")


COMMAND = Stage(
    name="ppo",
    help="PPO (or PPO-ptx) towards a reward, with a KL penalty.",
    config=PPOConfig,
    function="heedful.stages.ppo:train",
    place=40,
    heading="PPO",
    charts=(
        *SAMPLED,
        ChartSpec("Loss on mixed-in text", "nats a token", {"ptx_loss": "loss"}, "The pretraining text of PPO-ptx."),
        ChartSpec(
            "Value net", "explained variance", {"explained_variance": "explained"},
            "1: it foresees the return of every answer; 0: it knows only their mean.",
        ),
    ),
    unit="iteration",
    score_over_kl=True,
)  # fmt: skip
