"""The quality functions on judgements of real people, next to the figures that their collectors published.

    python benchmarks/real_judgements.py DATA

DATA is a folder with pandalm_human (pairs of answers, the same three annotators) and tldr_comparisons (summaries,
dozens of workers), each as JSON Lines.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heedful.feedback.quality import agreement
from heedful.feedback.quality.types import CHOICES, Judgement
from heedful.maths.statistics import Interval, ends

PUBLISHED_KAPPAS = {("1", "2"): 0.85, ("1", "3"): 0.88, ("2", "3"): 0.86}  # of PandaLM's 999 pairs; 663 are here
OTHER = {"a": "b", "b": "a", "tie": "tie"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    pandalm(data / "pandalm_human")
    tldr(data / "tldr_comparisons")


def pandalm(folder: Path) -> dict[tuple[str, str], Interval]:
    """Cohen's kappa of each two annotators."""
    print("pandalm_human, Cohen's kappa of two annotators")
    work = [
        Judgement(str(number), row["id"], CHOICES[vote])
        for row in rows(folder / "pairs.jsonl.gz")
        for number, vote in enumerate(row["votes"], start=1)
    ]
    table = agreement.preference_table(work)
    kappas = {}
    for pair in agreement.by_pair(table, draws=2000):
        published = PUBLISHED_KAPPAS[pair.first, pair.second]
        assert pair.cohen is not None
        kappas[pair.first, pair.second] = pair.cohen
        apart = pair.cohen.mean - published
        print(f"  {pair.first} and {pair.second}: {shown(pair.cohen)}, published {published}, apart {apart:+.3f}")
    found = agreement.summary(table, draws=2000)
    print(f"  all: Fleiss' kappa {shown(found.fleiss)}, alpha {shown(found.alpha)}, pairwise {shown(found.rate)}")
    return kappas


def tldr(folder: Path) -> agreement.Summary:
    """Pairwise agreement of workers; a pair of summaries is one item in whichever order it was shown."""
    work = []
    for row in rows(folder / "worker_comparisons.jsonl.gz"):
        texts = sorted((row["summary_a"], row["summary_b"]))
        choice = row["choice"] if texts[0] == row["summary_a"] else OTHER[row["choice"]]
        work.append(Judgement(row["worker"], json.dumps([row["post_id"], *texts]), CHOICES[choice]))
    table = agreement.preference_table(work)
    found = agreement.summary(table, draws=2000)
    judged = Counter(table.items[column] for column in np.nonzero(~np.isnan(table.values))[1])
    print(f"tldr_comparisons, {found.labelers} workers, {found.items} pairs of summaries judged by several")
    print(f"  pairwise {shown(found.rate)}; alpha {shown(found.alpha)}; judgements of an item: {most(judged)}")
    ratings = agreement.summary(rating_table(folder), "ordinal", draws=2000)
    print(f"  overall rating 1-7: ordinal alpha {shown(ratings.alpha)} over {ratings.items} posts")
    return found


def rating_table(folder: Path) -> agreement.AgreementTable:
    """Overall ratings of summaries, resampled by post."""
    given: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows(folder / "worker_ratings.jsonl.gz"):
        if row["overall"] is not None:
            given.setdefault((row["post_id"], row["summary_id"]), {})[row["worker"]] = row["overall"]
    shared = {unit: by_worker for unit, by_worker in given.items() if len(by_worker) > 1}
    workers = sorted({worker for by_worker in shared.values() for worker in by_worker})
    values = np.full((len(workers), len(shared)), np.nan)
    for column, by_worker in enumerate(shared.values()):
        for worker, value in by_worker.items():
            values[workers.index(worker), column] = value
    return agreement.AgreementTable(tuple(workers), tuple(post for post, _ in shared), values)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def shown(found: Interval | None) -> str:
    return "undefined" if found is None else f"{found.mean:.3f} ({ends(found, '{:.3f}'.format)}, n {found.n})"


def most(judged: Counter[Any]) -> str:
    counts = sorted(judged.values())
    return f"median {counts[len(counts) // 2]}, most {counts[-1]}"


if __name__ == "__main__":
    main()
