"""What to label next: items at random, or those on which reward models disagree or are unsure.

A difference of rewards is the log-odds of a preference (R2), so M models give M probabilities p_m for a pair of
completions. With H the entropy of a binary choice, averaged over all pairs of a prompt:

    uncertainty  = H(mean p)                 all models together are unsure
    disagreement = H(mean p) - mean H(p)     each model is sure, and they contradict each other (BALD, arXiv 1112.5745)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.feedback.schema import Item

Policy = Literal["random", "disagreement", "uncertainty"]
BATCH = 1000


def uncertainty(scores_MK: Sequence[Sequence[float]]) -> float:
    """Mean entropy of the models' mean preference over all pairs, in bits (0 to 1)."""
    return float(np.mean(_entropy(_preferences(scores_MK).mean(axis=0))))


def disagreement(scores_MK: Sequence[Sequence[float]]) -> float:
    """The part of the uncertainty that comes from disagreement between models, in bits. 0 for one model."""
    p = _preferences(scores_MK)
    return float(np.mean(_entropy(p.mean(axis=0)) - _entropy(p).mean(axis=0)))


def rank(policy: Policy, scores: Mapping[str, Sequence[float]] | None, draw: float) -> float:
    """An item's rank in the queue, the lowest first. Items without scores come last, in random order."""
    if policy == "random" or not scores:
        return draw
    values = list(scores.values())
    return -1.0 - (uncertainty(values) if policy == "uncertainty" else disagreement(values))


def rerank(db: Session, project_id: int, policy: Policy) -> None:
    """Rank all items of a project again."""
    if policy == "random":
        db.execute(sa.update(Item).where(Item.project_id == project_id).values(rank=Item.draw))
        return
    last = 0
    while True:
        chosen = sa.select(Item.id, Item.scores, Item.draw).where(Item.project_id == project_id, Item.id > last)
        rows = db.execute(chosen.order_by(Item.id).limit(BATCH)).all()
        if not rows:
            return
        ranks = [{"id": id, "rank": rank(policy, scores, draw)} for id, scores, draw in rows]
        db.execute(sa.update(Item), ranks)
        last = rows[-1].id


def _preferences(scores_MK: Sequence[Sequence[float]]) -> np.ndarray:
    """Each model's probability that i is better than j, for all pairs i < j [M, pairs]."""
    scores = np.asarray(scores_MK, dtype=np.float64)
    i, j = np.triu_indices(scores.shape[1], k=1)
    return 0.5 * (1.0 + np.tanh((scores[:, i] - scores[:, j]) / 2.0))  # a sigmoid that does not overflow


def _entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of a binary choice with probability p, in bits."""
    inner = np.clip(p, 1e-300, 1.0), np.clip(1.0 - p, 1e-300, 1.0)
    return -(p * np.log2(inner[0]) + (1.0 - p) * np.log2(inner[1]))
