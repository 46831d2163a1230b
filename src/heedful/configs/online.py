"""Settings that PPO, RLOO and GRPO share: they sample from the policy that they train."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heedful.config import INPUT, MOST, REST, Count, Seed
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import (
    MOST_EPOCHS,
    FilePath,
    Generation,
    ModelRef,
    Optimiser,
    RewardRef,
    RunRef,
    TextStageConfig,
)


class OnlineConfig(TextStageConfig):
    panels = {
        "policy": INPUT, "seed": "Iterations", "kl_coef": "KL penalty", "watch": "Watched rewards",
        "clip": "Advantages and clipping", "ptx_coef": "Pretraining mix (ptx)", "ema_decay": REST,
    }  # fmt: skip
    may_change = ("peak_from", "preflight")
    may_grow = ("episodes",)
    one_action: ClassVar[Literal["token", "sequence"]] = "token"
    """What has one probability ratio in the loss: a token, or the whole answer."""

    policy: ModelRef
    """Start of the policy."""
    reference: ModelRef | None = None
    """Frozen model from which the KL is measured. none = the start of the policy (P16). In a second round, name the
    first SFT model to stay close to it.
    """
    reward: list[RewardRef]
    """Reward model, or Python function as module:function, with an optional weight: 0.5*runs/reward. Several add up.
    An ensemble is "min(A,B)", "mean(A,B)" or "mean-0.5*std(A,B)".
    """
    prompts: FilePath
    """Prompts to answer. Rows with split "valid" or "test" are left out."""
    pretrain_data: FilePath | None = None
    """Texts for the pretraining gradient (PPO-ptx, P21). Without them there is none."""
    tax_data: FilePath | None = None
    """Held-out texts. Their loss is logged at every checkpoint: the alignment tax (E6)."""
    seed: Seed = 0
    """Random seed."""
    episodes: Count = 256_000
    """Answers to sample in all, rounded down to whole iterations, at least one."""
    rollout_batch: Count = 512
    """Answers sampled in an iteration."""
    minibatch: Count = 64
    """Answers in a gradient step."""
    epochs: int = Field(default=1, ge=1, le=MOST_EPOCHS)
    """Passes over the answers of an iteration."""
    ahead: int = Field(default=0, ge=0, le=1)
    """Iterations that sampling is ahead of learning. With 1 the next answers are sampled while the policy learns from
    those before, so each answer is one update old when it is used.
    """
    correction: Literal["auto", "token", "sequence", "off"] = "auto"
    """Weight of what was sampled with other weights: how much likelier the policy makes each token, or the whole answer
    (sequence). auto = with `ahead` 1 tokens, in RLOO answers. With 0 none.
    """
    correction_cap: float = Field(default=2.0, ge=1, le=1e6)
    """Largest weight of the correction."""
    kl_coef: float = Field(default=0.02, ge=0, le=1e6)
    """Penalty for each nat of KL from the reference, β (P10)."""
    kl_target: float | None = Field(default=None, gt=0, le=1e6)
    """KL of an answer in nats that an adaptive coefficient aims at (P10). none = the coefficient is fixed."""
    kl_horizon: Count = 10_000
    """Episodes over which the adaptive coefficient adapts."""
    kl_ceiling: float | None = Field(default=None, gt=0, le=1e6)
    """Largest KL of an answer in nats. none = no limit."""
    at_ceiling: Literal["stop", "raise"] = "stop"
    """What happens above the ceiling: the run stops, or each iteration raises the coefficient by half (from 0 to 0.02).
    Below the ceiling the raised coefficient comes down again, by a tenth in each iteration.
    """
    watch: list[RewardRef] = []
    """Rewards that are measured and not optimised, such as a second reward model or a truth. Repeatable. The best
    checkpoint by the first of them is kept.
    """
    watch_every: Count = 10
    """Iterations between two measurements of the watched rewards."""
    watch_prompts: int = Field(default=64, ge=10, le=MOST)
    """Prompts that are answered in each measurement, the same each time, at most all of them."""
    on_alarm: Literal["warn", "stop"] = "warn"
    """What happens if the reward rises over three measurements while a watched one falls beyond its interval. stop =
    the run ends, and model/ holds the best checkpoint by the first watched reward.
    """
    peak_from: RunRef | None = None
    """Earlier run that optimised the same reward and watched another. A check compares the KL at which the watched one
    was highest with the budget: `kl_ceiling`, else `kl_target`.
    """
    preflight: Literal["warn", "stop", "off"] = "warn"
    """Checks before the first step: does each reward model beat "longer wins", are the prompts like those that it
    learned from, and does the KL budget end before the peak. warn = say what fails, stop = end the command, off = no
    checks.
    """
    clip: float = Field(default=0.2, gt=0, le=1e6)
    """Range of the policy's probability ratio around 1 (P14)."""
    missing_eos_penalty: float | None = Field(default=None, ge=-1e6, le=1e6)
    """Score of an answer that the length limit cut off (P7). none = its reward."""
    ptx_coef: float = Field(default=27.8, ge=0, le=1e6)
    """Weight of the pretraining loss, γ (P21)."""
    ptx_ratio: float = Field(default=8.0, gt=0, le=10_000)
    """Pretraining documents for each answer."""
    ptx_tokens: int = Field(default=2048, ge=2, le=MOST)
    """Length of a pretraining document in tokens, at most the context. Longer ones are cut into pieces."""
    ema_decay: float = Field(default=0.992, ge=0, lt=1)
    """Decay of the average of the weights in model/, at each policy step (P20). 0 = the raw weights."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    optimiser: Optimiser = Optimiser(lr=9e-6, schedule="constant", warmup=10)
    engine: EngineConfig = EngineConfig()
    generation: Generation = Generation(max_new_tokens=1024)

    @property
    def corrected(self) -> Literal["token", "sequence"] | None:
        """What the correction weighs. None: there is none."""
        if self.correction == "auto":
            return self.one_action if self.ahead else None
        return None if self.correction == "off" else self.correction

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return max(1, self.episodes // self.rollout_batch)


class GroupConfig(OnlineConfig):
    """Settings of algorithms that compare the answers to one prompt with each other."""

    panels = {"samples_per_prompt": "Iterations", "kl_in": "KL penalty"}

    samples_per_prompt: int = Field(default=8, ge=2, le=1_000_000)
    """Answers to each prompt (K). `rollout_batch` counts answers, so it is a multiple of this."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where the KL penalty acts: on the score of an answer before the comparison, or on each token in the loss (k3)."""
