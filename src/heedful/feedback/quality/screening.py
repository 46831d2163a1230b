"""Who may label (D7): four soft criteria from an onboarding test. They recommend; a person decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedful.config import Config
from heedful.feedback.quality.types import Judgement, Key
from heedful.maths.statistics import Interval


class Cutoffs(Config):
    """The paper's soft cut-offs."""

    flags: float = 0.75
    """Least share of sensitive flags as the researchers set them."""
    rankings: float = 0.75
    """Least pairwise agreement with the researchers' rankings."""
    demonstrations: float = 6.0
    """Least mean rating, 1-7, of the candidate's demonstrations on sensitive prompts."""
    topics: int = 1
    """Least number of topics or groups for which the candidate says to spot sensitive speech."""
    wanted_topics: tuple[str, ...] = ()
    """Of which topics; none = any."""


@dataclass(frozen=True)
class Test:
    """A candidate's answers beside the researchers'. An empty part was not asked."""

    __test__ = False

    labeler: str
    flags: Mapping[Key, bool] = field(default_factory=dict)
    """Whether each text was flagged as sensitive."""
    flags_key: Mapping[Key, bool] = field(default_factory=dict)
    rankings: Sequence[Judgement] = ()
    """Judgements of items that have a `gold` ranking."""
    demonstration_ratings: Sequence[float] = ()
    """A rating 1-7 for each demonstration, given by people who did not know whose it was."""
    topics: Sequence[str] = ()


@dataclass(frozen=True)
class Criterion:
    """One criterion: its figure, its cut-off, and whether it is met (None: it was not asked)."""

    name: str
    figure: float | None
    interval: Interval | None
    cutoff: float
    met: bool | None
    text: str


@dataclass(frozen=True)
class Report:
    """`recommended`: every criterion that was asked is met; None where something is missing. A person decides."""

    labeler: str
    criteria: tuple[Criterion, ...]
    recommended: bool | None
    text: str

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        raise NotImplementedError


def screen(test: Test, cutoffs: Cutoffs | None = None) -> Report:
    """The four criteria of one candidate."""
    raise NotImplementedError
