"""One answer from many flags: Dawid and Skene's model, with the errors of each labeler, estimated together by EM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heedful.feedback.quality.types import Judgement, Key
from heedful.maths.statistics import Floats


@dataclass(frozen=True)
class DawidSkene:
    """`posterior` [units, classes]; `errors` [labelers, true, said]; `prior` [classes]."""

    units: tuple[object, ...]
    labelers: tuple[str, ...]
    classes: tuple[object, ...]
    posterior: Floats
    errors: Floats
    prior: Floats

    def competence(self) -> dict[str, float]:
        """Chance of each labeler to say what is true."""
        raise NotImplementedError


def dawid_skene(votes: Sequence[tuple[str, object, object]]) -> DawidSkene:
    """Of votes (labeler, unit, class)."""
    raise NotImplementedError


def flag(judgements: Iterable[Judgement], name: str) -> dict[tuple[Key, int], float]:
    """Probability that a flag of D9 holds, for every (item, completion) of which somebody said."""
    raise NotImplementedError
