"""Shared by the recipes: read public rows, shorten texts, accuracy with intervals, lines of a table."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedful.data.records import Comparison
from heedful.demo.measure import matmul_rate
from heedful.maths.lengths import LENGTH_BINS, length_bin
from heedful.maths.statistics import FEWEST, Interval, ends

CUT = " ..."
Pair = tuple[str, str]  # better, worse
BINS = [name for _, _, name in LENGTH_BINS]


def rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a gzipped JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text if it fits, else as many of its first words as fit, followed by " ..."."""
    if fits(text):
        return text
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    kept = bisect_left(range(len(ends)), True, key=lambda word: not fits(text[: ends[word]] + CUT))
    return text[: ends[kept - 1]] + CUT if kept else CUT.strip()


def rankings(pairs: Iterable[Pair], most: int | None = None) -> list[list[str]]:
    """Combine judged (better, worse) pairs to rankings of at most `most` texts, best first.

    Every pair is in exactly one ranking, and people judged every two texts of a ranking. Greedy: take the longest
    ranking, then the longest one of the other pairs, and so on.
    """
    left, found = dict.fromkeys(pairs), []
    while left:
        found.append(_longest(left, most))
        for pair in itertools.combinations(found[-1], 2):
            del left[pair]
    return found


def _longest(pairs: Iterable[Pair], most: int | None) -> list[str]:
    """The first of the longest lists in which people judged every item better than all later items."""
    judged = dict.fromkeys(pairs)
    best: list[str] = []

    def extend(ranking: list[str], worse: list[str]) -> None:
        nonlocal best
        best = max(best, ranking, key=len)
        for item in worse:
            if len(best) == most or len(ranking) + len(worse) <= len(best):
                return
            extend([*ranking, item], [other for other in worse if (item, other) in judged])

    extend([], list(dict.fromkeys(item for pair in judged for item in pair)))
    return best


def outcomes(rankings: Sequence[Comparison], scores: Sequence[Sequence[float]]) -> list[float]:
    """For every judged pair: 1 if the better answer has the higher score, 0.5 for equal scores, else 0."""
    return [
        0.5 + 0.5 * float(np.sign(score[better] - score[worse]))
        for ranking, score in zip(rankings, scores, strict=True)
        for better, worse in ranking.pairs()
    ]


def lengths(rankings: Sequence[Comparison]) -> list[list[float]]:
    """Characters of each completion: the scores of "longer wins"."""
    return [[float(len(text)) for text in ranking.completions] for ranking in rankings]


def length_bins(rankings: Sequence[Comparison]) -> list[str]:
    """For every judged pair, the name of its bin: by how much the longer answer is longer."""
    return [
        length_bin(*(len(ranking.completions[k]) for k in pair)) for ranking in rankings for pair in ranking.pairs()
    ]


def over_answers(values: Sequence[float], pairs: Sequence[tuple[Hashable, Hashable]]) -> Interval:
    """Mean over pairs with a 95 % interval that allows for answers that several pairs share.

    If one answer is in twenty pairs, these are not twenty independent observations. The variance is that of Aronow,
    Samii & Assenova 2015, and at least that of independent pairs.
    """
    index = {name: i for i, name in enumerate(dict.fromkeys(end for pair in pairs for end in pair))}
    errors = np.asarray(values, dtype=np.float64) - np.mean(values)
    shared = np.zeros(len(index))
    for side in (0, 1):
        np.add.at(shared, [index[pair[side]] for pair in pairs], errors)
    alone = np.square(errors).sum()
    spread = 1.96 * float(np.sqrt(max(np.square(shared).sum() - alone, alone))) / len(errors)
    mean = float(np.mean(values))
    if len(index) < FEWEST or not spread:
        return Interval(mean, None, None, len(errors))
    return Interval(mean, mean - spread, mean + spread, len(errors))


def compare(right: dict[str, list[float]], interval: Callable[[list[float]], Interval]) -> dict[str, dict[str, Any]]:
    """Accuracy of each judge, and the lead of the first judge over each other one on the same pairs."""
    first, *others = right
    found = {name: interval(values)._asdict() for name, values in right.items()}
    for other in others:
        ahead = [ours - theirs for ours, theirs in zip(right[first], right[other], strict=True)]
        found[f"{first} minus {other}"] = interval(ahead)._asdict()
    return found


def percent(found: dict[str, Any]) -> str:
    """A share with its interval, in percent."""
    return f"{100 * found['mean']:6.1f}   {ends(found, lambda share: f'{100 * share:5.1f}')}   n {found['n']}"


def duration(out: Path) -> dict[str, Any]:
    """Minutes of each step so far, from the log of times, and the speed of this machine."""
    spent: dict[str, float] = {}
    for line in (out / "times.tsv").read_text(encoding="utf-8").splitlines():
        name, seconds = line.split("\t")
        spent[name] = round(spent.get(name, 0.0) + float(seconds) / 60, 2)
    return {"minutes": spent, "matmul_gflops": round(matmul_rate(), 1)}


def duration_line(found: dict[str, Any]) -> str:
    """The duration as a sentence."""
    steps = ", ".join(f"{name} {minutes:.1f}" for name, minutes in found["minutes"].items() if minutes >= 0.1)
    total, rate = sum(found["minutes"].values()), found["matmul_gflops"]
    return f"{total:.1f} minutes ({steps}). This machine multiplies matrices at {rate:.0f} GFLOP/s (float32)."
