"""The rankings of a reward model: what it trains on, what is held out, and how a fold takes other ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from heedful.configs.reward import RewardConfig
from heedful.learning import examples
from heedful.learning.examples import Ranked, TokenLimits


@dataclass(frozen=True)
class Rankings:
    """The rankings of a run."""

    training: list[Ranked]
    validation: list[Ranked]
    tied: dict[str, int]
    """Numbers of rankings that are all tied, by file."""
    new_labelers: list[Ranked] = field(default_factory=list)
    """Rankings of labelers who have none in training (R6)."""


Read = Callable[[RewardConfig, PreTrainedTokenizerBase, TokenLimits, Callable[[str], None]], Rankings]


def divided(
    config: RewardConfig, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits, say: Callable[[str], None]
) -> Rankings:
    """The rankings to train on and those that are held out."""
    return Rankings(*examples.divided_rankings(config, tokenizer, limits, say))
