"""Bradley-Terry-Davidson with reliability: by brute force, beside choix and crowd-kit, on labelers of known noise."""

from __future__ import annotations

import warnings
from itertools import combinations

import choix
import numpy as np
import pytest

from heedful.feedback.quality import rankings
from heedful.feedback.quality.rankings import Aggregate, Consensus
from heedful.feedback.quality.types import Judgement, Ranking

FIRST, TIE, SECOND = ((0,), (1,)), ((0, 1),), ((1,), (0,))


def people(*given: Ranking) -> list[Judgement]:
    return [Judgement(f"l{n}", 1, ranking) for n, ranking in enumerate(given)]


def alike(judgements: list[Judgement], reliability: float, tie: float) -> Aggregate:
    """The aggregate of item 1 where everybody's reliability and the tie parameter are given."""
    known = Consensus({}, {judgement.labeler: reliability for judgement in judgements}, tie)
    return rankings.aggregate(judgements, known).items[1]


def test_two_completions_by_brute_force() -> None:
    """Davidson's model in its own words: pi_1, pi_2 and tie * sqrt(pi_1 pi_2) share the chances."""
    work, reliability, tie = people(FIRST, FIRST, FIRST, TIE, SECOND), 1.3, 0.6
    x = np.linspace(-2, 2, 40_001)  # strengths are x and -x
    one, two = np.exp(reliability * x), np.exp(-reliability * x)
    total = one + two + tie * np.sqrt(one * two)
    posterior = 3 * np.log(one / total) + np.log(tie / total) + np.log(two / total) - x**2
    found = alike(work, reliability, tie)
    np.testing.assert_allclose(found.strengths, [x[posterior.argmax()], -x[posterior.argmax()]], atol=1e-4)
    curvature = -np.gradient(np.gradient(posterior, x), x)[posterior.argmax()]
    c = found.covariance
    assert c[0, 0] + c[1, 1] - 2 * c[0, 1] == pytest.approx(4 / curvature, rel=1e-3)  # the gap is 2x


def test_against_choix() -> None:
    """Without ties and with one reliability it is Bradley-Terry with a penalty; a pair of K = 4 weighs a half."""
    rng = np.random.default_rng(0)
    work = people(*(tuple((int(k),) for k in rng.permutation([0, 0.7, 1.1, 2] + rng.gumbel(size=4)).argsort())
                    for _ in range(9)))  # fmt: skip
    wins = [(i, j) if side == 1 else (j, i) for one in work for (i, j), side in one.preferences().items()]
    theirs = choix.opt_pairwise(4, wins, alpha=1.0, tol=1e-10)  # half of (penalty 1/2 over weight 1/2), per square
    np.testing.assert_allclose(alike(work, 1.0, 0.0).strengths, theirs, atol=1e-5)


def test_a_single_ranking_comes_back_and_opposites_tie() -> None:
    for K in (2, 4, 9):
        one: Ranking = tuple((k,) for k in reversed(range(K)))
        found = rankings.aggregate(people(one)).items[1]
        assert found.ranking() == one
        assert found.strengths.sum() == pytest.approx(0.0, abs=1e-9)
        opposite: Ranking = tuple((k,) for k in range(K))
        both = rankings.aggregate(people(one, opposite)).items[1]
        assert both.ranking() == (tuple(range(K)),)
        assert both.uncertainty() == pytest.approx(1.0)
        assert found.uncertainty() < 0.95
        assert (found.judgements, both.judgements) == (1, 2)
    tiers: Ranking = ((2,), (0, 3), (1,))
    assert rankings.aggregate(people(tiers)).items[1].ranking() == tiers


def test_how_sure_a_tier_has_to_be() -> None:
    found = rankings.aggregate(people(((0,), (1,), (2,)), ((0,), (2,), (1,)), ((0,), (1,), (2,)))).items[1]
    assert 0.525 < found.better(1, 2) < 0.75 < found.better(0, 1) < found.better(0, 2)
    assert found.better(2, 1) == pytest.approx(1 - found.better(1, 2))
    assert found.ranking() == ((0,), (1,), (2,))
    assert found.ranking(sure=0.75) == ((0,), (1, 2))


def simulated(
    noises: list[float | None], items: int, per_item: int, K: int = 4, seed: int = 0
) -> tuple[list[Judgement], np.ndarray]:
    """Rankings of true strengths through each labeler's noise (None: noise alone); near ones are tied."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(items, K))
    work = []
    for item in range(items):
        for number in rng.choice(len(noises), per_item, replace=False).tolist():
            noise = noises[number]
            seen = rng.normal(size=K) if noise is None else truth[item] + noise * rng.normal(size=K)
            tiers: list[list[int]] = []
            for k in np.argsort(-seen).tolist():
                if tiers and seen[tiers[-1][0]] - seen[k] < 0.2:
                    tiers[-1].append(k)
                else:
                    tiers.append([k])
            work.append(Judgement(f"l{number}", item, tuple(map(tuple, tiers)), group="ab"[number % 2]))
    return work, truth


def share_right(found: Consensus, truth: np.ndarray) -> float:
    return float(np.mean([
        (found.items[item].strengths[i] - found.items[item].strengths[j]) * (truth[item, i] - truth[item, j]) > 0
        for item in range(len(truth)) for i, j in combinations(range(truth.shape[1]), 2)
    ]))  # fmt: skip


@pytest.mark.medium
def test_reliability_is_learned_together_with_the_order() -> None:
    work, truth = simulated([0.3, 0.3, 0.8, 1.6, None, None], items=250, per_item=3)
    found = rankings.aggregate(work)
    reliability = found.reliability
    assert min(reliability[name] for name in ("l0", "l1", "l2")) > reliability["l3"] > 0.3
    assert max(abs(reliability["l4"]), abs(reliability["l5"])) < 0.25
    equal = rankings.aggregate(work, Consensus({}, {}, found.tie))
    assert share_right(found, truth) > share_right(equal, truth) + 0.05
    turned = [Judgement("l0", j.item, j.ranking[::-1]) if j.labeler == "l0" else j for j in work]
    assert rankings.aggregate(turned).reliability["l0"] < -0.3


def test_nobody_is_judged_by_items_that_she_alone_has_seen() -> None:
    work, _ = simulated([0.3, None], items=60, per_item=1)
    assert set(rankings.aggregate(work).reliability.values()) == {1.0}


@pytest.mark.medium
def test_the_parameters_of_its_own_model_are_recovered() -> None:
    rng = np.random.default_rng(2)
    reliability, tie = np.array([1.6, 1.2, 0.8, 0.2]), 0.5
    work = []
    for item in range(1500):
        d = reliability * np.subtract(*rng.normal(size=2))
        weights = np.stack([np.exp(d / 2), np.full(4, tie), np.exp(-d / 2)])
        for labeler, chances in enumerate((weights / weights.sum(axis=0)).T):
            side = rng.choice(3, p=chances)
            work.append(Judgement(f"l{labeler}", item, (FIRST, TIE, SECOND)[side]))
    found = rankings.aggregate(work)
    # pairs of K = 2 count whole; the prior of a reliability pulls a little towards 1
    np.testing.assert_allclose([found.reliability[f"l{n}"] for n in range(4)], reliability, atol=0.2)
    assert found.tie == pytest.approx(tie, abs=0.05)


def test_known_reliabilities_are_kept() -> None:
    work = people(FIRST, SECOND)
    trusting = rankings.aggregate(work, Consensus({}, {"l0": 2.0, "l1": 0.1}, 0.3))
    assert trusting.reliability == {"l0": 2.0, "l1": 0.1}
    assert trusting.tie == pytest.approx(0.3)
    assert trusting.items[1].ranking() == FIRST


def test_items_of_different_size_and_none_at_all() -> None:
    work = [Judgement("x", "two", SECOND), Judgement("x", "three", ((2,), (1,), (0,)))]
    items = rankings.aggregate(work).items
    assert {key: item.ranking() for key, item in items.items()} == {"two": SECOND, "three": ((2,), (1,), (0,))}
    assert [len(item.strengths) for item in items.values()] == [2, 3]
    assert rankings.aggregate([]).items == {}


@pytest.mark.slow
def test_beside_crowd_kit() -> None:
    """Their labels are global, so each completion of each item is one; compared is the order within an item.

    Their skills do not tell these labelers apart, so reliability is checked against the truth above.
    """
    work, _ = simulated([0.3, 0.5, 0.8, 1.2, 2.0, None], items=40, per_item=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from crowdkit.aggregation import NoisyBradleyTerry

        rows = [
            (one.labeler, *(f"{one.item}:{k}" for k in (i, j, i if side == 1 else j)))
            for one in work for (i, j), side in one.preferences().items() if side
        ]  # fmt: skip
        theirs = NoisyBradleyTerry().fit(pd.DataFrame(rows, columns=["worker", "left", "right", "label"]))
    found = rankings.aggregate(work)
    same = [
        (item.strengths[i] > item.strengths[j]) == (theirs.scores_[f"{key}:{i}"] > theirs.scores_[f"{key}:{j}"])
        for key, item in found.items.items() for i, j in combinations(range(4), 2)
    ]  # fmt: skip
    assert np.mean(same) > 0.9
