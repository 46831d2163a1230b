"""Accuracy of a reward on held-out judgements, next to "longer wins", a bag of words and labelers' agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heedful.data import formats
from heedful.data.records import Comparison, as_text
from heedful.evaluation.baselines import BagOfWords
from heedful.evaluation.result import Result
from heedful.evaluation.trust_data import JudgedPair, Scored, drawn
from heedful.maths.lengths import LENGTH_BINS
from heedful.maths.statistics import mean_interval, rate_interval, ratio_interval, wins

MOST_PAIRS = 8_000  # that the bag of words learns from: it holds the features of all their answers
SLICES = ("labeler", "group", "use_case", "length_difference", "tier_distance")


def longer(found: Scored) -> list[list[float]]:
    """Characters of each answer: the scores of "longer wins"."""
    return [[float(len(text)) for text in row.completions] for row in found.rows]


def bag_of_words(training: str, without: set[str], seed: int) -> tuple[BagOfWords | None, Result]:
    """A bag of words of the training pairs of other prompts than `without`, and what it learned from."""
    rows = [row for row in formats.read(training, Comparison) if row.split not in ("valid", "test")]
    pairs = [
        (row.completions[better], row.completions[worse], as_text(row.prompt))
        for row in rows
        if as_text(row.prompt) not in without
        for better, worse in row.pairs()
        if row.completions[better] != row.completions[worse]
    ]
    chosen = drawn(pairs, MOST_PAIRS, seed)
    if len({prompt for *_, prompt in chosen}) < 2:
        return None, {"why": f"{training} has fewer than two prompts that are not held out"}
    bag = BagOfWords([(better, worse) for better, worse, _ in chosen], [prompt for *_, prompt in chosen], seed=seed)
    return bag, {"pairs": len(chosen), "penalty": bag.penalty}


def by_bag(bag: BagOfWords, found: Scored) -> list[list[float]]:
    """Scores of the answers by a bag of words."""
    return [bag.scores(row.completions) for row in found.rows]


def pairs(judged: Sequence[JudgedPair]) -> Result:
    """Share of pairs that each judge orders as people did, equal scores half, and how far labelers agree (D12)."""
    prompts = [pair.prompt for pair in judged]
    found: Result = {
        name: rate_interval(wins(np.array([pair.margins[name] for pair in judged])), prompts)._asdict()
        for name in judged[0].margins
    }
    shared = [pair for pair in judged if pair.others]
    terms = [(pair.agreeing, pair.others) for pair in shared]
    agreement = ratio_interval(terms, [pair.prompt for pair in shared])._asdict() if shared else None
    return found | {"agreement": agreement}


def leads(judged: Sequence[JudgedPair]) -> Result:
    """By how much the reward is right more often than each baseline, on the same pairs."""
    right = {name: wins(np.array([pair.margins[name] for pair in judged])) for name in judged[0].margins}
    prompts = [pair.prompt for pair in judged]
    return {
        name: mean_interval(right["reward"] - values, prompts)._asdict()
        for name, values in right.items()
        if name != "reward"
    }


def slices(judged: Sequence[JudgedPair]) -> dict[str, Result]:
    """The same as `pairs` for the pairs of each labeler, group, use case, length difference and tier distance."""
    found: dict[str, Result] = {}
    for title in SLICES:
        parts: dict[str, list[JudgedPair]] = {}
        for pair in judged:
            name = getattr(pair, title)
            if name is not None:
                parts.setdefault(name, []).append(pair)
        if parts:
            found[title] = {name: pairs(parts[name]) for name in sorted(parts, key=_place)}
    return found


def _place(name: str) -> tuple[int, int, str]:
    """Bins of length come in their order, numbers by size, and names by the alphabet."""
    bins = [bin for _, _, bin in LENGTH_BINS]
    if name in bins:
        return 0, bins.index(name), name
    return (1, int(name), name) if name.isdecimal() else (2, 0, name)


def best_of_k(found: Scored, judges: dict[str, list[list[float]]]) -> Result:
    """How often each judge's favourite of the K answers is one of those that people ranked first, by chance too.

    Rankings in which all answers are tied are left out. If a judge has several favourites, each counts in part.
    """
    chosen = [i for i, row in enumerate(found.rows) if len(row.ranking) > 1]
    prompts = [found.prompts[i] for i in chosen]
    result: Result = {}
    for name, scores in {"reward": found.scores, **judges}.items():
        hits = []
        for i in chosen:
            top = np.flatnonzero(np.asarray(scores[i]) == max(scores[i]))
            hits.append(float(np.isin(top, found.rows[i].ranking[0]).mean()))
        result[name] = rate_interval(hits, prompts)._asdict()
    chance = [len(found.rows[i].ranking[0]) / len(found.rows[i].completions) for i in chosen]
    return result | {"chance": float(np.mean(chance))}
