"""Accuracy of a reward model on held-out rankings: over non-tied pairs (R6), and by length, labeler and group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.learning.examples import Ranked
from heedful.maths.lengths import LENGTH_BINS, length_bin
from heedful.maths.statistics import Pair, ScoreRows, WinRate, pair_accuracy


def accuracy(rows: Sequence[Ranked], scores: ScoreRows, pairs: Sequence[Pair] | None = None) -> WinRate:
    """Share of pairs that the scores order as people did, equal scores half. `pairs` defaults to all non-tied ones.

    The interval resamples prompts, since several people may have ranked the answers to one prompt.
    """
    prompts = [repr(row.record.prompt) for row in rows]
    return pair_accuracy(scores, _pairs(rows) if pairs is None else pairs, prompts)


def measure(rows: Sequence[Ranked], scores: ScoreRows) -> dict[str, Any]:
    """Accuracy with its interval: overall, of the rule "longer wins", by length difference, labeler and group."""
    pairs = _pairs(rows)
    lengths = [[float(length) for length in row.lengths] for row in rows]
    groups: dict[str, dict[str, list[Pair]]] = {"by_length_difference": {}, "by_labeler": {}, "by_group": {}}
    for _, _, name in LENGTH_BINS:
        inside = [pair for pair in pairs if _length_bin(rows[pair.row], pair) == name]
        groups["by_length_difference"] |= {name: inside} if inside else {}
    for field in ("labeler", "group"):
        names = [getattr(row.record, field) for row in rows]
        for name in sorted(set(names) - {None}):
            groups[f"by_{field}"][name] = [pair for pair in pairs if names[pair.row] == name]
    return {
        "accuracy": accuracy(rows, scores)._asdict(),
        "longer_wins": accuracy(rows, lengths)._asdict(),
        **{
            group: {name: accuracy(rows, scores, chosen)._asdict() for name, chosen in parts.items()}
            for group, parts in groups.items()
        },
    }


def warnings(quality: dict[str, Any]) -> list[str]:
    """What to know before using this reward model, from the figures of `measure`."""
    ours, longer = quality["accuracy"]["rate"], quality["longer_wins"]["rate"]
    if ours <= longer:
        return [
            f"right on {ours:.1%} of {quality['accuracy']['n']} held-out pairs, no better than "
            f"'longer wins' ({longer:.1%}). PPO would learn length. Collect more rankings or start from a better model"
        ]
    return []


def _pairs(rows: Sequence[Ranked]) -> list[Pair]:
    """Pairs of different tiers and different tokens."""
    return [Pair(b, *pair) for b, row in enumerate(rows) for pair in row.pairs]


def _length_bin(row: Ranked, pair: Pair) -> str:
    return length_bin(row.lengths[pair.better], row.lengths[pair.worse])
