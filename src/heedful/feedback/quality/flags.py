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
from heedful.feedback.quality.types import ItemKey, Judgement, latest, said
from heedful.maths.statistics import Floats

Vote = tuple[str, Any, Any]
FLOOR = 1e-10  # of a probability


@dataclass(frozen=True)
class DawidSkene:
    """`posterior` [units, classes]. `errors` [labelers, true, said]. `prior` [classes]."""

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
    if not votes:
        raise UserError("no votes to aggregate")
    (labelers, labeler), (units, unit), (classes, said) = (_numbered(part) for part in zip(*votes, strict=True))
    # 1) Start from each unit's share of votes for each class.
    posterior = np.zeros((len(units), len(classes)))
    np.add.at(posterior, (unit, said), 1.0)
    posterior /= posterior.sum(axis=1, keepdims=True)
    for _ in range(iterations):
        # 2) Prior and errors that fit these classes best.
        prior = np.maximum(posterior.mean(axis=0), FLOOR)
        errors = np.full((len(labelers), len(classes), len(classes)), smoothing + FLOOR)
        np.add.at(errors.transpose(0, 2, 1), (labeler, said), posterior[unit])
        errors /= errors.sum(axis=2, keepdims=True)
        # 3) Classes that fit this prior and these errors.
        scores = np.tile(np.log(prior), (len(units), 1))
        np.add.at(scores, unit, np.log(errors[labeler, :, said]))
        before, posterior = posterior, _softmax(scores)
        if np.abs(posterior - before).max() < 1e-6:
            break
    return DawidSkene(units, labelers, classes, posterior, errors, prior)


def flag(judgements: Iterable[Judgement], name: str) -> dict[tuple[ItemKey, int], float]:
    """Probability that a flag holds, for every (item, completion) of which somebody said."""
    votes: list[Vote] = [
        (labeler, (item, k), value)
        for item, judged in latest(judgements).items()
        for labeler, judgement in judged.items()
        for k, rating in enumerate(judgement.ratings or ())
        if (value := said(rating, name)) is not None
    ]
    if not votes:
        return {}
    found = dawid_skene(votes, smoothing=1.0)
    if True not in found.classes:
        return dict.fromkeys(found.units, 0.0)
    holds = found.posterior[:, found.classes.index(True)]
    return dict(zip(found.units, holds.tolist(), strict=True))


def _numbered(values: Sequence[Any]) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """Distinct values in the order of their first occurrence, and the number of each value among them."""
    number = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return tuple(number), np.fromiter((number[value] for value in values), dtype=np.int64, count=len(values))


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
