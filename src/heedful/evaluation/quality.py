"""How well scores agree with a truth or with people: rankings as numbers, and calibration (R2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from heedful.data.records import Comparison
from heedful.maths.statistics import Interval, ScoreRows, ordered_pairs, rate_interval


class Bin(NamedTuple):
    """Pairs whose predicted probability is near `predicted`, and how often the prediction came true."""

    predicted: float
    observed: Interval


def preferences(comparisons: Sequence[Comparison]) -> list[list[float]]:
    """Rankings as numbers, one row a comparison: the higher the better, equal in a tie."""
    return [[-float(tier) for tier in comparison.ranks()] for comparison in comparisons]


def calibration(scores: ScoreRows, truth: ScoreRows, prompts: Sequence[int] | None = None, bins: int = 8) -> list[Bin]:
    """Among pairs of about equal sigmoid(score difference), the share where the higher-scored one is better.

    Bins hold equally many pairs, pairs of equal scores are left out. A reward model trained on the ranking loss (R2)
    should observe what it predicts. `prompts` numbers the prompt of each row, for the interval.
    """
    margins = [(row, scores[row][better] - scores[row][worse]) for row, better, worse in ordered_pairs(truth)]
    rows = [(1 / (1 + np.exp(-abs(margin))), row, margin > 0) for row, margin in margins if margin]
    rows.sort(key=lambda row: row[0])
    found = []
    for part in np.array_split(np.arange(len(rows)), min(bins, max(1, len(rows)))):
        if part.size:
            chosen = [rows[index] for index in part]
            clusters = [row[1] if prompts is None else prompts[row[1]] for row in chosen]
            right = rate_interval([float(row[2]) for row in chosen], clusters)
            found.append(Bin(float(np.mean([row[0] for row in chosen])), right))
    return found
