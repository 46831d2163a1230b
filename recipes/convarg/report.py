"""Results: both reward models, two baselines and the labelers compared, on all held-out debates and on each."""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from heedful.data import formats
from heedful.data.records import Comparison
from heedful.evaluation import baselines
from heedful.files import read_json, write_json
from heedful.maths.statistics import agreement
from recipes import shared

VOTE = {"a": 1, "b": -1, "tie": 0}


def judges(out: Path) -> tuple[list[Comparison], dict[str, list[float]], float]:
    """The held-out pairs, the outcome of each judge on each pair, and the penalty that the bag of words chose."""
    training = formats.read(out / "comparisons_gold.jsonl.gz", Comparison)
    pairs = [(row.completions[better], row.completions[worse]) for row in training for better, worse in row.pairs()]
    bag = baselines.BagOfWords(pairs, [str(row.group) for row in training])
    models = [name for name in ("encoder", "gold", "votes") if (out / f"scored_{name}.jsonl.gz").exists()]
    scored = {name: formats.read(out / f"scored_{name}.jsonl.gz", Comparison) for name in models}
    gold = scored["gold"]
    scores = {
        **{f"reward, {name}": [row.scores or [] for row in rows] for name, rows in scored.items()},
        "longer wins": shared.lengths(gold),
        "bag of words": [bag.scores(row.completions) for row in gold],
    }
    return gold, {name: shared.outcomes(gold, found) for name, found in scores.items()}, bag.penalty


def compared(rows: Sequence[Comparison], right: dict[str, list[float]], chosen: Sequence[bool]) -> dict[str, Any]:
    """Accuracies on the chosen pairs, the labelers last. The intervals resample arguments."""
    inside = list(compress(rows, chosen))
    ends = [(_argument(row, row.completions[0]), _argument(row, row.completions[1])) for row in inside]
    interval = partial(shared.over_answers, pairs=ends)
    found = shared.compare({name: list(compress(values, chosen)) for name, values in right.items()}, interval)
    return {**found, **labelers(inside, interval)}


def _argument(row: Comparison, text: str) -> Hashable:
    return row.group, row.stance, text  # type: ignore[attr-defined]


def labelers(rows: Sequence[Comparison], interval: Any) -> dict[str, Any]:
    """How often one labeler agrees with the gold label (a tie counts half), and with another labeler.

    The gold label comes from these same votes. So the first figure is higher than an independent judge could reach.
    """
    means, width = [], max(len(row.votes) for row in rows)  # type: ignore[attr-defined]
    choices = np.zeros((width, len(rows)), dtype=np.int8)
    for column, row in enumerate(rows):
        votes = [VOTE[vote] for vote in row.votes]  # type: ignore[attr-defined]
        choices[: len(votes), column] = votes
        gold = 1 if row.ranking[0] == [0] else -1
        means.append(float(np.mean([0.5 + 0.5 * gold * vote for vote in votes])))
    found = agreement(choices)
    return {
        "one labeler": interval(means)._asdict(),
        "each other": {"mean": found.rate, "n": found.pairs},
    }


def table(found: dict[str, Any]) -> str:
    """The figures as text: one line for each set of pairs, one column for each judge."""
    account, whole = found["account"], found["all"]
    columns = [name for name in whole if "minus" not in name]
    sets = {"all": whole, **found["by_debate"]}
    sets |= {f"lengths differ by {name}": values for name, values in found["by_length_difference"].items()}
    lines = ["right on strict pairs of held-out debates, in %, with 95 % intervals", ""]
    lines.append(f"{'':<32}" + "".join(f"{name:>16}" for name in columns) + f"{'pairs':>8}")
    for title, values in sets.items():
        cells = "".join(f"{_cell(values[name]):>16}" for name in columns)
        lines.append(f"{title[:30]:<32}{cells}{values[columns[0]]['n']:>8}")
    lines.append("")
    lines += [f"{name:<36}{shared.percent(value)}" for name, value in whole.items() if "minus" in name]
    votes = ", ".join(f"{count} {name}" for name, count in account["single_votes"].items())
    lines += [
        "",
        f"Trained on {account['training_pairs']} pairs of {account['training_arguments']} arguments in "
        f"{len(account['training_debates'])} other debates. Single votes: {votes}.",
    ]
    return "\n".join([*lines, shared.duration_line(found["duration"])])


def _cell(value: dict[str, Any]) -> str:
    around = f" ±{50 * (value['high'] - value['low']):4.1f}" if value.get("low") is not None else ""
    return f"{100 * value['mean']:.1f}{around}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rows, right, penalty = judges(out)
    bins = shared.length_bins(rows)
    found = {
        "account": read_json(out / "account.json"),
        "base_valid_loss": read_json(out / "base" / "manifest.json")["results"]["valid_loss"],
        "all": compared(rows, right, [True] * len(rows)),
        "by_debate": {
            name: compared(rows, right, [row.group == name for row in rows])
            for name in sorted({str(row.group) for row in rows})
        },
        "by_length_difference": {
            name: compared(rows, right, [bin == name for bin in bins])
            for name in sorted(set(bins), key=shared.BINS.index)
        },
        "bag_of_words_penalty": penalty,
        "duration": shared.duration(out),
    }
    write_json(out / "results.json", found)
    print(table(found))


if __name__ == "__main__":
    main()
