"""Settings of `heedful ppo`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, Share
from heedful.configs.online import OnlineConfig
from heedful.configs.shared import ModelRef, Optimiser
from heedful.configs.stage import SAMPLED, ChartSpec, Stage


class PPOConfig(OnlineConfig):
    panels = {"value": INPUT, "gamma": "Advantages and clipping"}

    value: ModelRef | None = None
    """Start of the value net. none = the first reward model that shares the tokenizer, with its head. If there is no
    such model: the policy's body.
    """
    gamma: Share = 1.0
    """Discount of later rewards (P12)."""
    lam: Share = 0.95
    """λ of generalised advantage estimation (P12)."""
    value_clip: float | None = Field(default=0.2, gt=0, le=1e6)
    """Range of a value around its old value (P15). none = no clipping."""
    whiten_rewards: bool = False
    """Divide the rewards by their standard deviation first (P11)."""
    value_optimiser: Optimiser = Optimiser(lr=9e-6, schedule="constant")


COMMAND = Stage(
    name="ppo",
    help="Train a policy with PPO or PPO-ptx: more reward, with a KL penalty.",
    config=PPOConfig,
    function="heedful.stages.ppo:train",
    details="Each iteration samples `rollout_batch` answers and learns from them. `rollout_batch` must be a "
    "multiple of `minibatch`. The run watches for signs of failure and names each sign with a remedy.",
    place=40,
    heading="PPO",
    headline=("score", "kl"),
    charts=(
        *SAMPLED,
        ChartSpec("Loss on mixed-in text", "nats a token", {"ptx_loss": "loss"}, "The pretraining text of PPO-ptx."),
        ChartSpec(
            "Value net", "explained variance", {"explained_variance": "explained"},
            "1 means that it foresees the return of every answer, 0 that it knows only their mean.",
        ),
    ),
    online=True,
)  # fmt: skip
