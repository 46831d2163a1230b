"""Convert the public rows to records.

It writes texts for pretraining, strict pairs of the training debates, and strict pairs of the held-out debates. The
training pairs come three times: with the gold label, the same as rankings, and with the vote of one labeler each.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from heedful.data import formats
from heedful.data.records import Comparison, Text
from heedful.files import write_json
from recipes import shared

ARGUMENT_COPIES = 4  # copies of each training argument, since the books are a hundred times as much text
BOOK_SHARE = {"train": 2, "valid": 5}  # every second passage, every fifth one
LONGEST = 6  # arguments in a ranking
RESPONSES = ("response_a", "response_b")
TIERS = {"a": [[0], [1]], "b": [[1], [0]], "tie": [[0, 1]]}
Row = dict[str, Any]


def held_out(debates: Iterable[str]) -> set[str]:
    """The third of every four debates in alphabetical order."""
    return set(sorted(set(debates))[2::4])


def comparison(row: Row, preferred: str, **more: Any) -> Comparison:
    """A pair with one judgement. `group` is the debate."""
    return Comparison(
        prompt=_prompt(row["debate"], row["stance"]),
        id=row["id"],
        completions=[row[response] for response in RESPONSES],
        ranking=TIERS[preferred],
        group=row["debate"],
        **more,
    )


def _prompt(debate: str, stance: str) -> str:
    return f"{debate}\nStance: {stance}\nA convincing argument:\n\n"


def ranked(rows: list[Row]) -> list[Comparison]:
    """The gold labels of pairs as rankings of up to LONGEST arguments for one stance."""
    sides: dict[tuple[str, str], list[shared.Pair]] = {}
    for row in rows:
        better, worse = (row[f"response_{side}"] for side in ("ab" if row["gold"] == "a" else "ba"))
        sides.setdefault((row["debate"], row["stance"]), []).append((better, worse))
    return [
        Comparison(
            prompt=_prompt(debate, stance), completions=texts, ranking=[[k] for k in range(len(texts))], group=debate
        )
        for (debate, stance), pairs in sides.items()
        for texts in shared.rankings(pairs, LONGEST)
    ]


def one_vote(row: Row, draw: float) -> Comparison:
    """The pair with the judgement of one of its labelers, drawn at random. "Equally convincing" is a tie."""
    vote = row["votes"][int(draw * len(row["votes"]))]
    return comparison(row, vote["vote"], labeler=vote["worker"])


def split(data: Path, pairs: int | None) -> tuple[list[Row], list[Row]]:
    """Strict pairs of training debates, and of held-out debates. At most `pairs` of each debate."""
    train, valid = (
        [row for row in shared.rows(data / "ukp_convarg" / f"{side}.jsonl.gz") if row["strict"]]
        for side in ("train", "valid")
    )
    apart = held_out(row["debate"] for row in train)
    training = [row for row in train if row["debate"] not in apart]
    testing = [row for row in train if row["debate"] in apart] + valid
    if pairs is not None:
        training, testing = _first(training, pairs), _first(testing, pairs)
    return training, testing


def _first(found: list[Row], pairs: int) -> list[Row]:
    seen: Counter[str] = Counter()
    kept = []
    for row in found:
        seen[row["debate"]] += 1
        if seen[row["debate"]] <= pairs:
            kept.append(row)
    return kept


def texts(training: list[Row], data: Path, side: str, passages: int | None) -> list[Text]:
    """Passages of books. The training side also has the arguments of the training debates."""
    arguments = dict.fromkeys(row[response] for row in training for response in RESPONSES)
    books = shared.rows(data / "books_text" / f"{side}.jsonl.gz")[:: BOOK_SHARE[side]][:passages]
    own = list(arguments) * ARGUMENT_COPIES if side == "train" else []
    return [Text(text=text) for text in own + [row["text"] for row in books]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, help="Use only the first PAIRS strict pairs of each debate.")
    parser.add_argument("--passages", type=int, help="Use only the first PASSAGES passages of the books.")
    given = parser.parse_args()
    training, testing = split(given.data, given.pairs)
    for side, name in (("train", "texts"), ("valid", "valid_texts")):
        formats.write(given.out / f"{name}.jsonl.gz", texts(training, given.data, side, given.passages))
    draws = np.random.default_rng(0).random(len(training))
    made = {
        "comparisons_gold": [comparison(row, row["gold"]) for row in training],
        "comparisons_ranked": ranked(training),
        "comparisons_votes": [one_vote(row, draw) for row, draw in zip(training, draws, strict=True)],
        "valid_comparisons": [
            comparison(row, row["gold"], stance=row["stance"], votes=[vote["vote"] for vote in row["votes"]])
            for row in testing
        ],
    }
    for name, records in made.items():
        formats.write(given.out / f"{name}.jsonl.gz", records)
    account = {
        "training_debates": sorted({row["debate"] for row in training}),
        "held_out_debates": sorted({row["debate"] for row in testing}),
        "training_pairs": len(training),
        "training_arguments": len({row[response] for row in training for response in RESPONSES}),
        "different_pairs": sum(len(row.pairs()) for row in made["comparisons_ranked"]),
        "rankings_by_size": dict(sorted(Counter(len(row.completions) for row in made["comparisons_ranked"]).items())),
        "single_votes": dict(
            Counter(_name(record, row) for record, row in zip(made["comparisons_votes"], training, strict=True))
        ),
    }
    write_json(given.out / "account.json", account)


def _name(vote: Comparison, row: Row) -> str:
    if len(vote.ranking) == 1:
        return "tie"
    return "as gold" if vote.ranking == TIERS[row["gold"]] else "against gold"


if __name__ == "__main__":
    main()
