"""How far answers are from those that a reward model learned from, in the space of its last hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heedful.data import formats
from heedful.data.records import Comparison, as_text
from heedful.evaluation.result import Result
from heedful.evaluation.trust_data import JudgedPair, Scored, drawn, episodes_of, unreadable
from heedful.maths.separation import auroc, rank_correlation
from heedful.maths.statistics import Floats, wins
from heedful.rewards.distance import MOST_ANSWERS, Distance, measurable
from heedful.rewards.functions import Reward
from heedful.rollout.types import Episode


@dataclass(frozen=True)
class Far:
    """Distances of the held-out answers, in the order of their rows."""

    distance: Distance
    held_out: list[list[float]]

    @classmethod
    def of(cls, distance: Distance, found: Scored) -> Far:
        """Measure the held-out answers."""
        flat, rows = distance.of(found.flat).tolist(), []
        for own in found.episodes:
            rows.append(flat[: len(own)])
            flat = flat[len(own) :]
        return cls(distance, rows)


def measure(
    far: Far,
    found: Scored,
    judged: Sequence[JudgedPair],
    others: Mapping[str, list[Episode]],
    truth: Sequence[float] | None,
) -> Result:
    """AUROC of the distance for each set of `others` from held-out answers, and its rank correlation with the error.

    The error of a pair is 1 if the reward orders it wrong, and its distance that of its farther answer. With a `truth`
    of every held-out answer, the error of an answer is how far its score is from a line through scores and truth.
    """
    inside = np.concatenate([np.asarray(row) for row in far.held_out])
    result: Result = {
        "of": far.distance.name, "answers": far.distance.answers, "shrinkage": far.distance.gaussian.shrinkage,
        "training_95": far.distance.bound, "held_out_beyond": float(np.mean(inside > far.distance.bound)),
    }  # fmt: skip
    result["auroc"] = {}
    for name, episodes in others.items():
        outside = far.distance.of(episodes)
        owners = [repr(episode.prompt) for episode in episodes]
        separated = auroc(inside, outside, (found.owners, owners))._asdict()
        result["auroc"][name] = separated | {"beyond": float(np.mean(outside > far.distance.bound))}
    farther = [max(far.held_out[pair.row][k] for k in (pair.better, pair.worse)) for pair in judged]
    wrong = 1 - wins(np.array([pair.margins["reward"] for pair in judged]))
    result["correlation_with_wrong_pairs"] = rank_correlation(
        farther, wrong, [pair.prompt for pair in judged]
    )._asdict()
    if truth is not None:
        scores = np.array([score for row in found.scores for score in row])
        result["correlation_with_error"] = rank_correlation(
            inside, np.abs(residuals(scores, np.asarray(truth))), found.owners
        )._asdict()
    return result


def residuals(scores: Floats, truth: Floats) -> Floats:
    """Scores minus the straight line through truth and scores with the least squares."""
    if not np.ptp(truth):
        return scores - scores.mean()
    slope, level = np.polyfit(truth, scores, 1)
    return np.asarray(scores - (slope * truth + level), dtype=np.float64)


def learned(
    reward: Reward, training: str | None, why_not: str, without: set[str], seed: int
) -> tuple[Distance | None, str]:
    """The distance from the training answers, or why there is none."""
    model = measurable(reward)
    if model is None:
        return None, "no reward model whose score is a linear function of the last hidden state"
    if training is None:
        return None, why_not
    rows = [row for row in formats.read(training, Comparison) if row.split not in ("valid", "test")]
    kept = [row for row in rows if as_text(row.prompt) not in without]
    flat = drawn([episode for row in kept for episode in episodes_of(row)], MOST_ANSWERS, seed)
    readable = [episode for episode in flat if unreadable(reward, [episode]) is None]
    if len(readable) < 20:
        held_out = "to prompts that are not held out, " if len(kept) < len(rows) else ""
        return None, f"{training} has {len(readable)} answers {held_out}that the model can read. It takes 20"
    return Distance.fit(*model, readable), ""
