"""How good scores are beside a truth or beside people: accuracy over pairs (R6) and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from heedful.data.records import Comparison
from heedful.maths.statistics import Interval, WinRate, mean_interval, win_rate

Scores = Sequence[Sequence[float]]
"""One row a prompt, one number a completion."""


class Bin(NamedTuple):
    """Pairs whose predicted probability is near `predicted`, and how often the prediction came true."""

    predicted: float
    observed: Interval


def preferences(comparisons: Sequence[Comparison]) -> list[list[float]]:
    """People's rankings as numbers: the higher the better, equal in a tie."""
    return [[-float(tier) for tier in comparison.ranks()] for comparison in comparisons]


def pair_accuracy(scores: Scores, truth: Scores, prompts: Sequence[int] | None = None) -> WinRate:
    """Share of the pairs that differ in truth on which the scores have the right sign, equal scores counting half.

    Pairs of one prompt are one cluster of the interval; `prompts` numbers that of each row (None: each has its own).
    Raises ValueError where no pair differs.
    """
    outcomes = [(0.5 + 0.5 * np.sign(score), row) for row, score in _pairs(scores, truth)]
    if not outcomes:
        raise ValueError("no two completions of a prompt differ in truth")
    clusters = [row if prompts is None else prompts[row] for _, row in outcomes]
    return win_rate([outcome for outcome, _ in outcomes], clusters)


def calibration(scores: Scores, truth: Scores, prompts: Sequence[int] | None = None, bins: int = 8) -> list[Bin]:
    """Among pairs of about equal sigmoid(score difference), the share where the higher-scored one is the better.

    Bins of equal size; a reward model trained on the ranking loss (R2) should observe what it predicts.
    """
    rows = [(1 / (1 + np.exp(-abs(score))), prompt, score > 0) for prompt, score in _pairs(scores, truth) if score]
    rows.sort(key=lambda row: row[0])
    found = []
    for part in np.array_split(np.arange(len(rows)), min(bins, max(1, len(rows)))):
        if part.size:
            chosen = [rows[index] for index in part]
            clusters = [row[1] if prompts is None else prompts[row[1]] for row in chosen]
            right = mean_interval([float(row[2]) for row in chosen], clusters)
            found.append(Bin(float(np.mean([row[0] for row in chosen])), right))
    return found


def _pairs(scores: Scores, truth: Scores) -> Iterator[tuple[int, float]]:
    """(prompt, score of the better less that of the worse) of every pair that differs in truth."""
    for prompt, (row, true) in enumerate(zip(scores, truth, strict=True)):
        for i in range(len(true)):
            for j in range(i):
                better, worse = (i, j) if true[i] > true[j] else (j, i)
                if true[better] != true[worse]:
                    yield prompt, row[better] - row[worse]
