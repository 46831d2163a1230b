"""Rows in the shape of the public ones. The recipes are no part of the package: the root of the checkout has them."""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import tiny

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

WORDS = "the a my his of and to in was is said went saw old red little dog boat letter garden friend morning".split()
DEBATES = [f"Is {thing} good?" for thing in ("apple pie", "bread", "coffee", "dew", "early rising")]


def prose(draw: random.Random, low: int, high: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(low, high))).capitalize() + "."


def comparisons(draw: random.Random, posts: int) -> Iterable[dict[str, Any]]:
    """Four summaries a post and all six pairs, or five; the one that says "dog" more often is the better."""
    for number in range(posts):
        post = {"subreddit": "tales", "title": prose(draw, 3, 8), "post": prose(draw, 40, 200)}
        summaries = [f"{prose(draw, 6, 12)} {'dog ' * k}" for k in range(4)]
        pairs = [(better, worse) for better in range(4) for worse in range(better)]
        for better, worse in pairs[number % 2 :]:
            yield {"id": f"made-up-{number}", **post, "chosen": summaries[better], "rejected": summaries[worse]}


def judgements(draw: random.Random) -> Iterable[dict[str, Any]]:
    for number in range(6):
        post = {"post": prose(draw, 40, 60), "summary_a": f"{number} a", "summary_b": f"{number} b"}
        for worker in ("w1", "w2", "w3")[: 1 + number % 3]:
            yield {**post, "worker": worker, "choice": "a" if worker != "w3" else "b"}


def arguments(draw: random.Random, debates: list[str]) -> Iterable[dict[str, Any]]:
    """Pairs of one stance; the longer one is the more convincing, most people say. Every fifth row is not strict."""
    for debate in debates:
        texts = [f"{debate[3]} {prose(draw, 3 * k + 3, 3 * k + 5)}" for k in range(8)]
        for number in range(24):
            short, long = sorted(draw.sample(range(8), 2))
            a, b = (short, long) if number % 2 else (long, short)
            gold = "b" if number % 2 else "a"
            votes = [gold] * 3 + draw.choices(["a", "b", "tie"], k=2)
            yield {
                "id": f"{debate}/{number}", "debate": debate, "description": "", "stance": "Yes", "gold": gold,
                "response_a": texts[a], "response_b": texts[b], "strict": number % 5 != 0, "majority": gold,
                "votes": [{"worker": f"w{i}", "vote": v, "reason": "", "competence": 0.5} for i, v in enumerate(votes)],
            }  # fmt: skip


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder without a head."""
    return Path(tiny.encoder(tmp_path_factory.mktemp("encoder"), context=1024))


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the recipes want it in DATA, all of it made up."""
    root, draw = tmp_path_factory.mktemp("public"), random.Random(0)
    for side, posts, passages, debates in (("train", 24, 40, DEBATES), ("valid", 8, 10, ["Is tea good?"])):
        write(root / "tldr_comparisons" / f"{side}.jsonl.gz", comparisons(draw, posts))
        write(root / "books_text" / f"{side}.jsonl.gz", ({"text": prose(draw, 200, 400)} for _ in range(passages)))
        write(root / "ukp_convarg" / f"{side}.jsonl.gz", arguments(draw, debates))
    write(root / "tldr_comparisons" / "worker_comparisons.jsonl.gz", judgements(draw))
    return root
