"""The Mahalanobis distance of an answer from those that a reward model learned from.

A reward model is fitted to the answers of its training data. Far from them its scores are guesses, and a policy that
optimises them ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedful.config import NonFinite
from heedful.maths.separation import Gaussian, shrunk_gaussian
from heedful.models import heads, scoring
from heedful.rewards.functions import ModelScorer, Reward
from heedful.rollout.types import Episode

BOUND = 0.95
MOST_ANSWERS = 2_000
"""Training answers that are enough for a distance."""


@dataclass(frozen=True)
class Distance:
    """Distances by the last hidden states of one reward model."""

    name: str
    scorer: ModelScorer
    gaussian: Gaussian
    bound: float
    """The distance that 95 % of the training answers do not exceed."""
    answers: int
    """Training answers behind it."""

    @classmethod
    def fit(cls, name: str, scorer: ModelScorer, episodes: Sequence[Episode]) -> Distance:
        """Fit it to training answers.

        A covariance fits its own answers too well. So the bound is measured on one half of them by the other half, and
        the other way round.
        """
        states_ND = states(name, scorer, episodes)
        return cls(name, scorer, shrunk_gaussian(states_ND), split_half_bound(states_ND), len(states_ND))

    def of(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        """The distance of each answer."""
        return self.gaussian.distances(states(self.name, self.scorer, episodes))


def split_half_bound(states_ND: NDArray[np.float64]) -> float:
    """The distance that 95 % of the rows do not exceed, each half measured by the other."""
    halves = np.arange(len(states_ND)) % 2 == 0
    seen = [shrunk_gaussian(states_ND[side]).distances(states_ND[~side]) for side in (halves, ~halves)]
    return float(np.quantile(np.concatenate(seen), BOUND))


def states(name: str, scorer: ModelScorer, episodes: Sequence[Episode]) -> NDArray[np.float64]:
    """states_ND: the last hidden state of each answer, where its score is read."""
    found = scorer.over([scorer.ids(episode) for episode in episodes], scoring.last_states).double().numpy()
    if not np.isfinite(found).all():
        raise NonFinite(f"a hidden state of {name}")
    return np.asarray(found, dtype=np.float64)


def measurable(reward: Reward) -> tuple[str, ModelScorer] | None:
    """The first reward model whose last hidden states can be read. Encoders pool in their own way."""
    for part in reward.members():
        if isinstance(part.score, ModelScorer) and heads.reads_last_token(part.score.model):
            return part.name, part.score
    return None
