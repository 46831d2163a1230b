"""Who may label (D7): four soft criteria from an onboarding test. They recommend, and a person decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field

from heedful.config import Config, Share, UserError
from heedful.feedback.quality.gold import agreement_with_gold
from heedful.feedback.quality.types import ItemKey, Judgement
from heedful.maths.statistics import Interval, mean_interval, rate_interval


class ScreeningCutoffs(Config):
    """The soft cut-offs of the paper."""

    flags: Share = 0.75
    """Lowest share of texts on whose sensitivity candidate and researchers agree."""
    rankings: Share = 0.75
    """Lowest pairwise agreement with the researchers' rankings."""
    demonstrations: float = Field(6.0, ge=1, le=7)
    """Lowest mean rating (1-7) of the candidate's demonstrations on sensitive prompts."""
    topics: int = Field(1, ge=0, le=200)
    """Fewest topics or groups for which the candidate can spot sensitive speech, as they say."""
    wanted_topics: tuple[str, ...] = ()
    """Topics that count. Empty: all."""


@dataclass(frozen=True)
class Onboarding:
    """A candidate's answers to the onboarding test. An empty part was not asked."""

    labeler: str
    flags: Mapping[ItemKey, bool] = field(default_factory=dict)
    """Whether the candidate flagged each text as sensitive."""
    flags_key: Mapping[ItemKey, bool] = field(default_factory=dict)
    """The same by the researchers. Only texts that both judged count."""
    rankings: Sequence[Judgement] = ()
    """The candidate's rankings. Those of items with a `gold` ranking count."""
    demonstration_ratings: Sequence[float] = ()
    """A rating (1-7) of each demonstration, by people who did not know its author."""
    topics: Sequence[str] | None = None
    """Topics or groups as the candidate stated them. None: not asked."""


@dataclass(frozen=True)
class Criterion:
    """One criterion: its figure (with an interval if it is a mean), its cut-off, and whether it is met.

    `figure` and `met` are None if the criterion was not asked.
    """

    name: str
    figure: float | None
    interval: Interval | None
    cutoff: float
    met: bool | None


@dataclass(frozen=True)
class ScreeningReport:
    """`recommended`: every criterion is met. None if one was not asked and no other fails. A person decides."""

    labeler: str
    criteria: tuple[Criterion, ...]
    recommended: bool | None
    text: str

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        criteria = [
            {**asdict(criterion), "interval": criterion.interval._asdict() if criterion.interval else None}
            for criterion in self.criteria
        ]
        return {**asdict(self), "criteria": criteria}


def screen(answers: Onboarding, cutoffs: ScreeningCutoffs | None = None) -> ScreeningReport:
    """The four criteria of one candidate."""
    cutoffs = cutoffs or ScreeningCutoffs()
    criteria = (
        _of_mean("sensitive flags", _flags(answers), cutoffs.flags),
        _of_mean("rankings", agreement_with_gold(answers.rankings), cutoffs.rankings),
        _of_mean("demonstrations", _demonstrations(answers), cutoffs.demonstrations),
        _topics(answers, cutoffs),
    )
    short = [criterion.name for criterion in criteria if criterion.met is False]
    missing = [criterion.name for criterion in criteria if criterion.met is None]
    if short:
        recommended, text = False, f"{answers.labeler} falls short on {' and '.join(short)}"
    elif missing:
        recommended, text = None, f"{answers.labeler} was not asked for {' and '.join(missing)}"
    else:
        recommended, text = True, f"{answers.labeler} meets all four criteria"
    return ScreeningReport(answers.labeler, criteria, recommended, f"{text}. The cut-offs are soft. A person decides.")


def _flags(answers: Onboarding) -> Interval | None:
    both = [item for item in answers.flags if item in answers.flags_key]
    return rate_interval([answers.flags[item] == answers.flags_key[item] for item in both]) if both else None


def _demonstrations(answers: Onboarding) -> Interval | None:
    wrong = [rating for rating in answers.demonstration_ratings if not 1 <= rating <= 7]
    if wrong:
        raise UserError(f"{answers.labeler}: a demonstration is rated {wrong[0]}. Ratings go from 1 to 7")
    return mean_interval(answers.demonstration_ratings) if answers.demonstration_ratings else None


def _of_mean(name: str, found: Interval | None, cutoff: float) -> Criterion:
    if found is None:
        return Criterion(name, None, None, cutoff, None)
    return Criterion(name, found.mean, found, cutoff, found.mean >= cutoff)


def _topics(answers: Onboarding, cutoffs: ScreeningCutoffs) -> Criterion:
    if answers.topics is None:
        return Criterion("topics", None, None, cutoffs.topics, None)
    wanted = {topic.casefold() for topic in cutoffs.wanted_topics}
    stated = {topic.strip().casefold() for topic in answers.topics if topic.strip()}
    counting = stated & wanted if wanted else stated
    return Criterion("topics", float(len(counting)), None, cutoffs.topics, len(counting) >= cutoffs.topics)
