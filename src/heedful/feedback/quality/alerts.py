"""Patterns that a lead should check. An alert is a question, not a verdict: it names a figure and its cut-off."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from heedful.config import Config, Share
from heedful.feedback.quality import gold
from heedful.feedback.quality.types import ItemKey, Judgement, WrittenDemonstration, latest
from heedful.maths.statistics import ends

RUN = 4

AlertKind = Literal["first_shown", "last_shown", "all_tied", "too_fast", "straight_lining", "copy", "gold", "attention"]


Number = Annotated[int, Field(ge=0, le=100_000)]


class AlertCutoffs(Config):
    """Figures at which an alert starts."""

    least: Number = 10
    """Fewest judgements for an alert about a pattern."""
    position_share: Share = 0.6
    """Share of judgements whose single best answer was the first (or the last) shown."""
    tied_share: Share = 0.8
    """Share of judgements with all answers tied."""
    words_per_minute: float = Field(600.0, gt=0, le=100_000)
    """Fastest believable reading speed, of prompt and answers over the time spent."""
    fast_share: Share = 0.2
    """Share of judgements that were faster than that."""
    straight_share: Share = 0.8
    """Share of judgements in which all answers got the same rating."""
    copied: Share = 0.8
    """Share of a demonstration's sequences of four words that also occur in one answer of a model."""
    gold: Share = 0.6
    """Accuracy on gold items below which an alert starts."""
    least_gold: Number = 5
    """Fewest gold items for an alert about accuracy."""
    attention_missed: Number = 1
    """Number of missed attention items."""


@dataclass(frozen=True)
class Alert:
    """`figure` passed `cutoff` over `n` judgements (of a copy: words). `items` are those to check."""

    labeler: str
    kind: AlertKind
    figure: float
    cutoff: float
    n: int
    text: str
    items: tuple[ItemKey, ...] = ()


def alerts(
    judgements: Iterable[Judgement], written: Iterable[WrittenDemonstration] = (), cutoffs: AlertCutoffs | None = None
) -> list[Alert]:
    """All alerts, by labeler and kind."""
    cutoffs = cutoffs or AlertCutoffs()
    by_labeler: dict[str, list[Judgement]] = {}
    for judged in latest(judgements).values():
        for judgement in judged.values():
            by_labeler.setdefault(judgement.labeler, []).append(judgement)
    found: list[Alert] = []
    for labeler, work in by_labeler.items():
        found += _patterns(labeler, work, cutoffs)
        found += _known_answers(labeler, work, cutoffs)
    found += [alert for demonstration in written for alert in _copy(demonstration, cutoffs)]
    return sorted(found, key=lambda alert: (alert.labeler, alert.kind))


def words_per_minute(judgement: Judgement) -> float | None:
    """Reading speed, or None if time or length is unknown."""
    if judgement.seconds is None or judgement.words is None:
        return None
    return judgement.words / judgement.seconds * 60 if judgement.seconds > 0 else math.inf


def copied(text: str, source: str) -> float:
    """Share of the sequences of four words of `text` that occur in `source`, without case and punctuation.

    A text of fewer words counts as one sequence: 1 if it occurs in `source`, else 0. A text without words gives 0.
    """
    words, among = _words(text), _words(source)
    length = min(RUN, len(words))
    if not length:
        return 0.0
    known = set(_runs(among, length))
    runs = _runs(words, length)
    return sum(run in known for run in runs) / len(runs)


def _patterns(labeler: str, work: list[Judgement], cutoffs: AlertCutoffs) -> Iterator[Alert]:
    shown = [judgement for judgement in work if judgement.order is not None]
    timed = [judgement for judgement in work if words_per_minute(judgement) is not None]
    rated = [judgement for judgement in work if judgement.ratings is not None]
    looks: list[tuple[AlertKind, str, list[Judgement], Callable[[Judgement], bool], float]] = [
        ("first_shown", "the first answer shown is the best", shown, lambda j: _best_shown_at(j, 0),
         cutoffs.position_share),
        ("last_shown", "the last answer shown is the best", shown, lambda j: _best_shown_at(j, -1),
         cutoffs.position_share),
        ("all_tied", "all answers are tied", work, lambda j: len(j.ranking) == 1, cutoffs.tied_share),
        ("too_fast", f"faster than {cutoffs.words_per_minute:.0f} words a minute", timed,
         lambda j: (words_per_minute(j) or 0.0) > cutoffs.words_per_minute, cutoffs.fast_share),
        ("straight_lining", "all answers got the same overall rating", rated, _straight, cutoffs.straight_share),
    ]  # fmt: skip
    for kind, what, among, holds, cutoff in looks:
        items = tuple(judgement.item for judgement in among if holds(judgement))
        share = len(items) / len(among) if among else 0.0
        if len(among) >= cutoffs.least and share >= cutoff:
            text = f"{what}: in {share:.0%} of {len(among)} judgements (cut-off {cutoff:.0%})"
            yield Alert(labeler, kind, share, cutoff, len(among), text, items)


def _known_answers(labeler: str, work: list[Judgement], cutoffs: AlertCutoffs) -> Iterator[Alert]:
    found = gold.accuracy(work).get(labeler)
    if found is None:
        return
    if found.accuracy is not None and found.items >= cutoffs.least_gold and found.accuracy.mean < cutoffs.gold:
        figure = found.accuracy
        text = (
            f"right on {figure.mean:.0%} ({ends(figure, '{:.0%}'.format)}) of the pairs of {found.items} gold "
            f"items (cut-off {cutoffs.gold:.0%})"
        )
        items = tuple(j.item for j in work if j.gold is not None and not j.attention and _wrong(j))
        yield Alert(labeler, "gold", figure.mean, cutoffs.gold, found.items, text, items)
    if found.attention_missed >= cutoffs.attention_missed:
        text = (
            f"{found.attention_missed} of {found.attention_items} attention items missed "
            f"(cut-off {cutoffs.attention_missed})"
        )
        items = tuple(j.item for j in work if j.gold is not None and j.attention and _wrong(j))
        missed, cutoff = float(found.attention_missed), float(cutoffs.attention_missed)
        yield Alert(labeler, "attention", missed, cutoff, found.attention_items, text, items)


def _copy(demonstration: WrittenDemonstration, cutoffs: AlertCutoffs) -> Iterator[Alert]:
    share = max((copied(demonstration.text, source) for source in demonstration.model_texts), default=0.0)
    if share >= cutoffs.copied:
        text = f"{share:.0%} of the demonstration occurs in a model's answer (cut-off {cutoffs.copied:.0%})"
        words = len(_words(demonstration.text))
        yield Alert(demonstration.labeler, "copy", share, cutoffs.copied, words, text, (demonstration.item,))


def _best_shown_at(judgement: Judgement, position: int) -> bool:
    assert judgement.order is not None
    return judgement.ranking[0] == (judgement.order[position],)


def _straight(judgement: Judgement) -> bool:
    overall = [rating.overall for rating in judgement.ratings or ()]
    return len(overall) > 1 and overall[0] is not None and len(set(overall)) == 1


def _wrong(judgement: Judgement) -> bool:
    assert judgement.gold is not None
    found = gold.answer(judgement.ranking, judgement.gold)
    return found.right < found.pairs


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(words: list[str], length: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(length)), strict=False))
