"""Judgements as plain values, from which the quality of people's work is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from heedful.data.records import Choice, Comparison, Rating, as_text

ItemKey = int | str
Ranking = tuple[tuple[int, ...], ...]

CHOICES: dict[str, Ranking] = {"a": ((0,), (1,)), "b": ((1,), (0,)), "tie": ((0, 1),)}
"""A choice as a ranking of K = 2."""


@dataclass(frozen=True)
class Judgement:
    """One labeler's judgement of one item: K completions in tiers of indices, best first, ties share a tier.

    A choice between two answers is a ranking of K = 2: see `CHOICES`.
    """

    labeler: str
    item: ItemKey
    ranking: Ranking
    group: str | None = None
    ratings: tuple[Rating, ...] | None = None
    """One for each completion (D9)."""
    order: tuple[int, ...] | None = None
    """Completions in the order shown."""
    seconds: float | None = None
    """Time at work on the item."""
    words: int | None = None
    """Words of the prompt and of all completions."""
    when: datetime | None = None
    gold: Ranking | None = None
    """The known answer, if the item has one."""
    gold_ratings: tuple[Rating, ...] | None = None
    attention: bool = False
    """The item only checks attention."""
    none_acceptable: bool = False

    @property
    def K(self) -> int:
        """Completions of the item."""
        return sum(len(tier) for tier in self.ranking)

    def preferences(self) -> dict[tuple[int, int], int]:
        """1, -1 or 0 for each pair i < j: i ranks before j, after j, or ties with j."""
        return preferences(self.ranking)


@dataclass(frozen=True)
class WrittenDemonstration:
    """A demonstration that a labeler wrote, and the answers of models to its prompt."""

    labeler: str
    item: ItemKey
    text: str
    model_texts: tuple[str, ...] = ()


def preferences(ranking: Sequence[Sequence[int]]) -> dict[tuple[int, int], int]:
    """1, -1 or 0 (tie) for each pair i < j of a ranking."""
    tier_of = {index: tier for tier, indices in enumerate(ranking) for index in indices}
    indices = sorted(tier_of)
    return {
        (i, j): (tier_of[j] > tier_of[i]) - (tier_of[j] < tier_of[i])
        for position, i in enumerate(indices)
        for j in indices[position + 1 :]
    }


def said(rating: Rating, name: str) -> bool | int | None:
    """The overall quality or a flag of a rating, of D9 or of the project's own. None: not asked."""
    if name in Rating.model_fields:
        found: bool | int | None = getattr(rating, name)
        return found
    return (rating.model_extra or {}).get(name)  # an attribute may be a method, such as `copy`


def flag_names(judgements: Iterable[Judgement]) -> list[str]:
    """The flags of D9, and then those of the project's own on which a judgement says something."""
    ratings = [rating for judgement in judgements for rating in judgement.ratings or ()]
    own = {name for rating in ratings for name, value in (rating.model_extra or {}).items() if isinstance(value, bool)}
    return [name for name in Rating.model_fields if name != "overall"] + sorted(own)


def words(*texts: str) -> int:
    """Number of words, as in words per minute."""
    return sum(len(text.split()) for text in texts)


def from_records(records: Iterable[Comparison | Choice]) -> list[Judgement]:
    """Judgements of the rows of a file. Rows with the same prompt and completions are the same item.

    Rows without a labeler are left out.
    """
    items: dict[tuple[str, ...], int] = {}
    found = []
    for record in records:
        if record.labeler is None:
            continue
        texts = (record.a.text, record.b.text) if isinstance(record, Choice) else tuple(record.completions)
        prompt = as_text(record.prompt)
        item = items.setdefault((prompt, *texts), len(items))
        size = words(prompt, *texts)
        none = bool(record.none_acceptable)
        if isinstance(record, Choice):
            ranking = CHOICES[record.preferred]
            found.append(Judgement(record.labeler, item, ranking, record.group, words=size, none_acceptable=none))
        else:
            ranking = tuple(tuple(tier) for tier in record.ranking)
            ratings = tuple(record.ratings) if record.ratings is not None else None
            order = tuple(record.order) if record.order is not None else None
            found.append(
                Judgement(record.labeler, item, ranking, record.group, ratings, order, words=size, none_acceptable=none)
            )
    return found


def latest(judgements: Iterable[Judgement]) -> dict[ItemKey, dict[str, Judgement]]:
    """Judgements by item and labeler. Of several judgements of one labeler on one item the last counts."""
    found: dict[ItemKey, dict[str, Judgement]] = {}
    for judgement in judgements:
        found.setdefault(judgement.item, {})[judgement.labeler] = judgement
    return found
