"""One flag from many: Dawid and Skene's model of the errors of labelers, fitted by EM (docs/quality.md).

Votes are (labeler, unit, class) triples. A unit is anything hashable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.config import UserError
from heedful.feedback.quality.types import Judgement, Key, latest
from heedful.maths.statistics import Floats

Vote = tuple[str, Any, Any]
FLOOR = 1e-10  # of a probability


@dataclass(frozen=True)
class DawidSkene:
    """`posterior` [units, classes]; `errors` [labelers, true, said]; `prior` [classes]."""

    units: tuple[Any, ...]
    labelers: tuple[str, ...]
    classes: tuple[Any, ...]
    posterior: Floats
    errors: Floats
    prior: Floats


def dawid_skene(votes: Sequence[Vote], *, smoothing: float = 0.0, iterations: int = 200) -> DawidSkene:
    """True classes and errors of each labeler (Dawid and Skene 1979) from the majority onwards.

    `smoothing` is a count added to each cell of each labeler's errors; 0 is maximum likelihood.
    """
    found = _Votes.of(votes)
    posterior = found.shares()
    for _ in range(iterations):
        prior = np.maximum(posterior.mean(axis=0), FLOOR)
        errors = np.full((len(found.labelers), len(found.classes), len(found.classes)), smoothing + FLOOR)
        np.add.at(errors.transpose(0, 2, 1), (found.labeler, found.said), posterior[found.unit])
        errors /= errors.sum(axis=2, keepdims=True)
        scores = np.tile(np.log(prior), (len(found.units), 1))
        np.add.at(scores, found.unit, np.log(errors[found.labeler, :, found.said]))
        before, posterior = posterior, _softmax(scores)
        if np.abs(posterior - before).max() < 1e-6:
            break
    return DawidSkene(found.units, found.labelers, found.classes, posterior, errors, prior)


def flag(judgements: Iterable[Judgement], name: str) -> dict[tuple[Key, int], float]:
    """Probability that a flag of D9 holds, for every (item, completion) of which somebody said."""
    votes: list[Vote] = [
        (labeler, (item, k), said)
        for item, judged in latest(judgements).items()
        for labeler, judgement in judged.items()
        for k, rating in enumerate(judgement.ratings or ())
        if (said := getattr(rating, name)) is not None
    ]
    if not votes:
        return {}
    found = dawid_skene(votes, smoothing=1.0)
    if True not in found.classes:
        return dict.fromkeys(found.units, 0.0)
    holds = found.posterior[:, found.classes.index(True)]
    return dict(zip(found.units, holds.tolist(), strict=True))


@dataclass(frozen=True)
class _Votes:
    """Votes as numbers: the labeler, the unit and the class said of each."""

    labelers: tuple[str, ...]
    units: tuple[Any, ...]
    classes: tuple[Any, ...]
    labeler: NDArray[np.int64]
    unit: NDArray[np.int64]
    said: NDArray[np.int64]

    @staticmethod
    def of(votes: Sequence[Vote]) -> _Votes:
        if not votes:
            raise UserError("no votes to aggregate")
        names, numbers = zip(*(_numbered(part) for part in zip(*votes, strict=True)), strict=True)
        return _Votes(*names, *numbers)

    def shares(self) -> Floats:
        """Share of each unit's votes for each class."""
        counts = np.zeros((len(self.units), len(self.classes)))
        np.add.at(counts, (self.unit, self.said), 1.0)
        return counts / counts.sum(axis=1, keepdims=True)


def _numbered(values: Sequence[Any]) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    number = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return tuple(number), np.fromiter((number[value] for value in values), dtype=np.int64, count=len(values))


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
