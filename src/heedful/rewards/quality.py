"""How good a reward model is on held-out rankings: accuracy over non-tied pairs (R6), and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from heedful.learning.examples import Ranked
from heedful.maths.statistics import WinRate, win_rate

LENGTH_BINS = ((0.0, 0.25, "under 25 %"), (0.25, 1.0, "25 to 100 %"), (1.0, float("inf"), "over 100 %"))


def accuracy(rows: Sequence[Ranked], scores: Sequence[Sequence[float]]) -> WinRate:
    """Share of non-tied pairs with the right sign, equal scores counting half; the interval resamples prompts."""
    return _rate(_outcomes(rows, scores, anyone))


def measure(rows: Sequence[Ranked], scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Accuracy with its interval: overall, of "longer wins", by labeler, by group, by length difference."""
    lengths = [[float(length) for length in row.lengths] for row in rows]
    quality: dict[str, Any] = {
        "accuracy": _described(accuracy(rows, scores)),
        "longer_wins": _described(accuracy(rows, lengths)),
        "by_length_difference": {},
    }
    for low, high, name in LENGTH_BINS:
        inside = _outcomes(rows, scores, between(low, high))
        if inside:
            quality["by_length_difference"][name] = _described(_rate(inside))
    for field in ("labeler", "group"):
        names = sorted({getattr(row.record, field) for row in rows} - {None})
        quality[f"by_{field}"] = {name: _described(_rate(_outcomes(rows, scores, by(field, name)))) for name in names}
    return quality


Chosen = Callable[[Ranked, int, int], bool]


def anyone(row: Ranked, better: int, worse: int) -> bool:
    return True


def between(low: float, high: float) -> Chosen:
    """Pairs whose relative length difference lies in [low, high)."""

    def chosen(row: Ranked, better: int, worse: int) -> bool:
        return low <= _difference(row, better, worse) < high

    return chosen


def by(field: str, name: str) -> Chosen:
    """Pairs of one labeler or group."""

    def chosen(row: Ranked, better: int, worse: int) -> bool:
        return bool(getattr(row.record, field) == name)

    return chosen


def warnings(quality: dict[str, Any]) -> list[str]:
    """What a person should know before using this reward model."""
    ours, longer = quality["accuracy"]["rate"], quality["longer_wins"]["rate"]
    if ours <= longer:
        return [
            f"right on {ours:.1%} of {quality['accuracy']['n']} held-out pairs, no better than "
            f"'longer wins' ({longer:.1%}); "
            "PPO would learn length. Give more rankings or a better start"
        ]
    return []


Pair = tuple[float, int]


def _outcomes(rows: Sequence[Ranked], scores: Sequence[Sequence[float]], chosen: Chosen) -> list[Pair]:
    """(1, 0.5 or 0; index of the prompt) for every chosen pair."""
    found = []
    prompts: dict[str, int] = {}
    for row, score in zip(rows, scores, strict=True):
        index = prompts.setdefault(repr(row.record.prompt), len(prompts))  # several people may have ranked one
        for w, l in row.record.pairs():  # noqa: E741
            if chosen(row, w, l):
                found.append((float(score[w] > score[l]) + 0.5 * float(score[w] == score[l]), index))
    return found


def _rate(outcomes: list[Pair]) -> WinRate:
    return win_rate([outcome for outcome, _ in outcomes], clusters=[cluster for _, cluster in outcomes])


def _difference(row: Ranked, w: int, l: int) -> float:  # noqa: E741
    """How much longer the longer of the two is, relative to the shorter."""
    short, long = sorted((row.lengths[w], row.lengths[l]))
    return (long - short) / max(1, short)


def _described(rate: WinRate) -> dict[str, float]:
    return {"rate": rate.rate, "low": rate.low, "high": rate.high, "n": rate.n}
