"""Many judgements as one: the agreement of a file, and one ranking for each item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.config import UserError
from heedful.data.records import Choice, Comparison
from heedful.feedback.quality import agreement, flags, rankings
from heedful.feedback.quality.groups import opposed
from heedful.feedback.quality.rankings import Aggregate, Consensus
from heedful.feedback.quality.types import CHOICES, ItemKey, Judgement, flag_names, from_records
from heedful.maths.statistics import Interval

OF_ONE = (
    "labeler", "group", "order", "ratings", "none_acceptable", "judgement", "judged", "seconds", "instructions", "note",
)  # fmt: skip
"""Fields that tell of a single judgement."""
ALIKE = Consensus({}, {}, tie=1.0)
"""Every labeler counts the same: one item says too little about whom to trust."""


def figures(records: Sequence[Comparison | Choice]) -> dict[str, Any]:
    """Agreement on preferences, on the overall rating and on each flag. Reliability of each labeler. JSON-able."""
    work = from_records(records)
    if not work:
        raise UserError("no row with a labeler. Check the file, and the name of the group")
    preferences = agreement.summary(agreement.preference_table(work))
    flagged = {name: agreement.alpha(agreement.flag_table(work, name)) for name in flag_names(work)}
    return {
        "judgements": len(work),
        "none_acceptable": sum(judgement.none_acceptable for judgement in work),
        "labelers": len({judgement.labeler for judgement in work}),
        "items": len({judgement.item for judgement in work}),
        "items_of_several_labelers": preferences.items,
        "same_preference": _rate(preferences.rate),
        "same_preference_within": {name: _rate(found.rate) for name, found in agreement.by_group(work).items()},
        "fleiss_kappa": _coefficient(preferences.fleiss),
        "alpha": _coefficient(preferences.alpha),
        "alpha_of_overall_quality": _coefficient(agreement.alpha(agreement.overall_table(work), "ordinal")),
        "alpha_of_flags": {name: _coefficient(found) for name, found in flagged.items() if found is not None},
        "pairs_on_which_groups_oppose": len(opposed(work)),
        "reliability": rankings.aggregate(work).reliability,
    }


def combined(records: Sequence[Comparison | Choice]) -> list[Comparison | Choice]:
    """One row for each item: the ranking that its judgements give together, and the flags that probably hold.

    Each row also has `judgements`, how many there were, and `uncertainty` in bits (`rankings.Aggregate.uncertainty`).
    """
    named = [record for record in records if record.labeler is not None]
    work = from_records(named)
    first: dict[ItemKey, Comparison | Choice] = {}
    for record, judgement in zip(named, work, strict=True):
        first.setdefault(judgement.item, record)
    ratings = _ratings(work)
    found = rankings.aggregate(work).items
    return [_row(record, found[item], ratings) for item, record in first.items()]


def of_item(work: Sequence[Judgement]) -> dict[str, Aggregate]:
    """The judgements of one item as one: of everybody, and of each group if there are several. Empty without two."""
    sets = {"everybody": list(work)}
    groups = sorted({judgement.group for judgement in work if judgement.group is not None})
    if len(groups) > 1:
        sets |= {group: [judgement for judgement in work if judgement.group == group] for group in groups}
    if len(work) < 2:
        return {}
    return {name: found for name, some in sets.items() for found in rankings.aggregate(some, ALIKE).items.values()}


def _row(
    record: Comparison | Choice, found: Aggregate, ratings: dict[tuple[ItemKey, int], dict[str, bool]]
) -> Comparison | Choice:
    row = {name: value for name, value in record.row().items() if name not in OF_ONE}
    row |= {"judgements": found.judgements, "uncertainty": round(found.uncertainty(), 4)}
    if isinstance(record, Choice):
        side = next(name for name, tiers in CHOICES.items() if tiers == found.ranking())
        return Choice.model_validate(row | {"preferred": side})
    K = len(record.completions)
    rated = [ratings.get((found.item, k), {}) for k in range(K)]
    row |= {"ratings": rated} if any(rated) else {}
    return Comparison.model_validate(row | {"ranking": found.ranking()})


def _ratings(work: Sequence[Judgement]) -> dict[tuple[ItemKey, int], dict[str, bool]]:
    """By (item, completion): whether each flag that somebody judged is more likely set than not."""
    found: dict[tuple[ItemKey, int], dict[str, bool]] = {}
    for name in flag_names(work):
        for place, chance in flags.flag(work, name).items():
            found.setdefault(place, {})[name] = chance > 0.5
    return found


def _rate(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else {"rate": found.mean, "low": found.low, "high": found.high, "n": found.n}


def _coefficient(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict()
