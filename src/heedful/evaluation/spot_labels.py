"""What people said about the answers of a spot check: the share that is bad among suspicious and among random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.evaluation.result import Result
from heedful.evaluation.spot_check import CHOSEN, RANDOM, SIGNS, SUSPICIOUS, key
from heedful.files import Row, rows_of
from heedful.maths.statistics import ends, rate_interval, sums_interval


@dataclass(frozen=True)
class Said:
    """One judgement of one answer. `worse`: 1 if the answer of the first measurement is better, 0.5 for a tie."""

    row: Row
    bad: float
    worse: float

    @property
    def prompt(self) -> str:
        return key(self.row)[0]


def read(path: str | Path, labels: str, most: int) -> Result:
    """The shares with their intervals over prompts, from comparisons of a snapshot.

    An answer whose quality is at most `most` is bad. UserError if no row is about the spot check of this run.
    """
    chosen = rows_of(Path(path) / CHOSEN)
    if not chosen:
        raise UserError(f"{path}: no spot check was sent. Send one with heedful spot-check {path} --queue PROJECT")
    known = {(*key(row), row["first"]): row for row in chosen}
    said, left_out = [], {"not_of_this_check": 0, "without_rating": 0}
    for judged in formats.read(labels, Comparison):
        place, row = _found(judged, known)
        if row is None:
            left_out["not_of_this_check"] += 1
            continue
        overall = judged.ratings[place].overall if judged.ratings is not None else None
        if overall is None:
            left_out["without_rating"] += 1
            continue
        ranks = judged.ranks()
        worse = 0.5 * (ranks[place] > ranks[1 - place]) + 0.5 * (ranks[place] >= ranks[1 - place])
        said.append(Said(row, float(overall <= most), worse))
    if not said:
        reasons = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in left_out.items() if count)
        raise UserError(f"{labels}: no judgement to use ({reasons or 'no rows'}). Freeze the project of the spot check")
    by_sign = {name: [one for one in said if one.row["sign"] == name] for name in SIGNS}
    arms = {arm: [one for one in said if arm in one.row["arms"]] for arm in (SUSPICIOUS, RANDOM)}
    return {
        "bad_at_most": most,
        "judgements": len(said),
        "left_out": left_out,
        "arms": {arm: _arm(own, [row for row in chosen if arm in row["arms"]]) for arm, own in arms.items()},
        "difference": _difference(arms[SUSPICIOUS], arms[RANDOM]),
        "by_sign": {name: _share(own) for name, own in by_sign.items() if own},
    }


def _found(judged: Comparison, known: dict[tuple[str, str, str], Row]) -> tuple[int, Row | None]:
    """The place of the checked answer in a judged pair, and its row."""
    if len(judged.completions) == 2:
        for place in (0, 1):
            row = known.get((repr(judged.prompt), judged.completions[place], judged.completions[1 - place]))
            if row is not None:
                return place, row
    return 0, None


def _arm(said: Sequence[Said], chosen: Sequence[Row]) -> Result:
    judged = {key(one.row) for one in said}
    return {"sent": len(chosen), "judged": len(judged)} | ({"bad": _share(said), "worse": _worse(said)} if said else {})


def _share(said: Sequence[Said]) -> Result:
    return rate_interval([one.bad for one in said], [one.prompt for one in said])._asdict()


def _worse(said: Sequence[Said]) -> Result:
    return rate_interval([one.worse for one in said], [one.prompt for one in said])._asdict()


def _difference(suspicious: Sequence[Said], random: Sequence[Said]) -> Result | None:
    """The bad share of suspicious answers minus that of random ones, with a bootstrap over prompts."""
    if not suspicious or not random:
        return None
    terms = [[one.bad, 1, 0, 0] for one in suspicious] + [[0, 0, one.bad, 1] for one in random]
    prompts = [one.prompt for one in (*suspicious, *random)]

    def gap(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3], dtype=np.float64)

    return sums_interval(gap, terms, prompts, n=len(terms))._asdict()


def describe(result: Result) -> str:
    """The shares as lines for the terminal."""
    most = result["bad_at_most"]
    lines = [f"bad = overall quality of at most {most} of 7. Intervals of 95 % count prompts"]
    for arm, found in result["arms"].items():
        told = f"{arm:<10}  {found['judged']:>4} of {found['sent']} answers judged"
        if "bad" in found:
            told += f"   bad {_told(found['bad'])}   worse than the first answer {_told(found['worse'])}"
        lines.append(told)
    if (gap := result["difference"]) is not None:
        points = "{:+.1f}".format
        bounds = ends(gap, lambda value: points(100 * value))
        lines.append(f"suspicious minus random: {points(100 * gap['mean'])} points ({bounds})")
    lines += [f"  chosen by {name}: bad {_told(found)}" for name, found in result["by_sign"].items()]
    left = [f"{count} {name.replace('_', ' ')}" for name, count in result["left_out"].items() if count]
    return "\n".join([*lines, *([f"left out: {', '.join(left)}"] if left else [])])


def _told(found: Result) -> str:
    return f"{found['mean']:.1%} ({ends(found)}, n = {found['n']})"
