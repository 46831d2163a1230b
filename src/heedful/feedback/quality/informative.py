"""What to label next: items about which reward models disagree, or whose aggregate is still open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from heedful.feedback.quality.rankings import Consensus
from heedful.feedback.quality.types import Key


def disagreement(scores: ArrayLike) -> float:
    """How far reward models differ on which of K completions is better, from their scores [models, K]: 0 to 0.25.

    Variance over the models of sigmoid(score_i - score_j), averaged over pairs; a shift of one model's scores does not
    matter. 0 for one model or one completion.
    """
    scores_MK = np.asarray(scores, dtype=np.float64)
    first, second = np.triu_indices(scores_MK.shape[1], k=1)
    if not first.size:
        return 0.0
    chances = np.exp(-np.logaddexp(0.0, scores_MK[:, second] - scores_MK[:, first]))
    return float(chances.var(axis=0).mean())


def by_disagreement(scores: dict[Key, Sequence[Sequence[float]]]) -> list[Key]:
    """Items by the disagreement of their `score_parts` (what `heedful score` writes), most first."""
    found = {item: disagreement(parts) for item, parts in scores.items()}
    return sorted(found, key=lambda item: -found[item])


def by_uncertainty(consensus: Consensus) -> list[Key]:
    """Items by how open their aggregate is, most first."""
    found = {item: aggregate.uncertainty() for item, aggregate in consensus.items.items()}
    return sorted(found, key=lambda item: -found[item])
