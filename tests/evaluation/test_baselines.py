from __future__ import annotations

import random

import numpy as np
import pytest

from heedful.evaluation import baselines
from heedful.evaluation.baselines import BagOfWords

WORDS = "river stone bread apple miller wind seven house".split()


def planted(count: int, seed: int = 0) -> tuple[list[tuple[str, str]], list[str]]:
    """Answers of one length; whichever says "kind" more often is better. Ten groups."""
    draw, pairs = random.Random(seed), []
    for _ in range(count):
        kind, unkind = draw.choices(WORDS, k=6), draw.choices(WORDS, k=6)
        kind[draw.randrange(6)] = "kind"
        pairs.append((" ".join(kind), " ".join(unkind)))
    return pairs, [f"g{i % 10}" for i in range(count)]


def right(bag: BagOfWords, pairs: list[tuple[str, str]]) -> float:
    better, worse = (bag.scores([pair[side] for pair in pairs]) for side in (0, 1))
    return float(np.mean([x > y for x, y in zip(better, worse, strict=True)]))


def test_finds_the_word_that_people_like() -> None:
    bag = BagOfWords(*planted(300))
    assert right(bag, planted(100, seed=1)[0]) == 1.0
    assert bag.scores(["Kind river."])[0] > bag.scores(["stone river."])[0]


def test_finds_length_where_length_is_all() -> None:
    draw = random.Random(0)
    texts = [
        (" ".join(draw.choices(WORDS, k=n)), " ".join(draw.choices(WORDS, k=m))) for n, m in [(9, 5), (4, 2)] * 100
    ]
    assert right(BagOfWords(texts, [str(i % 7) for i in range(200)]), [("stone " * 8, "stone " * 3)]) == 1.0


def test_word_pairs_count() -> None:
    """The words are the same, the order is not."""
    pairs = [(f"not bad {word}", f"bad not {word}") for word in WORDS] * 10
    bag = BagOfWords(pairs, [str(i % 8) for i in range(80)])
    assert right(bag, [("a not bad horse", "a bad not horse")]) == 1.0


def test_without_anything_to_learn_the_penalty_is_the_highest_and_chance_is_what_comes_out() -> None:
    pairs, groups = planted(400)
    draw = random.Random(3)
    noise = [pair if draw.random() < 0.5 else pair[::-1] for pair in pairs]
    bag = BagOfWords(noise, groups)
    assert bag.penalty == 0.3
    assert abs(bag.scores(["kind river"])[0] - bag.scores(["stone river"])[0]) < 0.1


def test_groups_are_left_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of groups of 3, 30 and 300 pairs one is left out while the penalty is chosen; at last all are fitted."""
    sizes: list[int] = []
    fitted = baselines._fitted
    monkeypatch.setattr(baselines, "_fitted", lambda x, ends, c: sizes.append(len(ends)) or fitted(x, ends, c))
    BagOfWords(planted(333)[0], ["a"] * 3 + ["b"] * 30 + ["c"] * 300)
    *choosing, last = sizes
    assert last == 333
    assert len(choosing) == len(baselines.PENALTIES)
    assert set(choosing) in ({330}, {303}, {33})


def test_the_weights_are_at_the_optimum() -> None:
    """One feature (length) and one pair: log-odds w d solve d sigmoid(-w d) = 2 c w."""
    bag = BagOfWords([("one two three", "four")] * 2, ["x", "y"], size=0)
    d = np.log(4) - np.log(2)
    w = (bag.scores(["one two three"])[0] - bag.scores(["four"])[0]) / d
    assert d / (1 + np.exp(w * d)) == pytest.approx(2 * bag.penalty * w, rel=1e-3)
