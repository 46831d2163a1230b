"""Agreement by hand: what is compared with what, and what is resampled."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from heedful.data.records import Rating
from heedful.feedback.quality import agreement
from heedful.feedback.quality.types import CHOICES, Judgement
from heedful.maths.statistics import Interval

FIRST = (("ann", 1, "a", "g"), ("bob", 1, "a", "g"), ("cleo", 1, "b", "h"))
SECOND = (("ann", 2, "a", "g"), ("bob", 2, "tie", "g"), ("cleo", 2, "a", "h"))
ALONE = (("ann", 3, "a", "g"),)


def choices(*rows: tuple[str, int, str, str], when: datetime | None = None) -> list[Judgement]:
    return [Judgement(name, item, CHOICES[preferred], group, when=when) for name, item, preferred, group in rows]


def ranked(name: str, item: int, *tiers: tuple[int, ...]) -> Judgement:
    return Judgement(name, item, tiers)


def mean(found: Interval | None) -> float:
    assert found is not None
    return found.mean


def test_a_preference_table_has_a_unit_for_every_pair_of_shared_items() -> None:
    table = agreement.preference_table(
        [ranked("bob", 7, (2,), (0, 1)), ranked("ann", 7, (0,), (1,), (2,)), ranked("ann", 8, (0,), (1,))]
    )
    assert table.labelers == ("ann", "bob")
    assert table.items == (7, 7, 7)  # nobody shares item 8
    np.testing.assert_array_equal(table.values, [[1, 1, 1], [0, -1, -1]])  # pairs 01, 02, 12


def test_pairwise_rate_leaves_the_indifferent_out() -> None:
    """Of item 1 ann and bob agree, cleo disagrees with both; of item 2 only ann and cleo take a side."""
    table = agreement.preference_table(choices(*FIRST, *SECOND, *ALONE))
    found = agreement.pairwise_rate(table)
    assert found is not None
    assert (found.mean, found.n) == (2 / 4, 4)
    assert (found.low, found.high) == (None, None)  # two items
    rates = agreement.by_labeler(table)
    assert {name: mean(rate) for name, rate in rates.items()} == {"ann": 2 / 3, "bob": 1 / 2, "cleo": 1 / 3}


def test_the_last_judgement_of_a_labeler_counts() -> None:
    changed = [*choices(*FIRST), *choices(("cleo", 1, "a", "h"))]
    assert mean(agreement.pairwise_rate(agreement.preference_table(changed))) == 1.0


def test_two_labelers_by_hand() -> None:
    """20 both a, 5 a and b, 10 b and a, 15 both b: kappa 0.4, rate 0.7; ten ties of one change the kappa alone."""
    said = ["aa"] * 20 + ["ab"] * 5 + ["ba"] * 10 + ["bb"] * 15
    rows = [(name, item, side, "g") for item, pair in enumerate(said) for name, side in zip("xy", pair, strict=True)]
    (pair,) = agreement.by_pair(agreement.preference_table(choices(*rows)))
    assert (pair.first, pair.second, pair.items) == ("x", "y", 50)
    assert mean(pair.rate) == pytest.approx(0.7)
    assert mean(pair.cohen) == pytest.approx(0.4)
    ties = [(name, item, side, "g") for item in range(50, 60) for name, side in (("x", "tie"), ("y", "a"))]
    (tied,) = agreement.by_pair(agreement.preference_table(choices(*rows, *ties)))
    assert mean(tied.rate) == pytest.approx(0.7)
    expected = (25 * 40 + 25 * 20) / 3600  # x says a 25, b 25, tie 10; y says a 40, b 20
    assert mean(tied.cohen) == pytest.approx((35 / 60 - expected) / (1 - expected))


def test_pairs_with_few_shared_items_can_be_left_out() -> None:
    table = agreement.preference_table(choices(*FIRST, *SECOND, ("ann", 4, "a", "g"), ("bob", 4, "a", "g")))
    pairs = agreement.by_pair(table, least_items=3)
    assert [(pair.first, pair.second, pair.items) for pair in pairs] == [("ann", "bob", 3)]
    assert len(agreement.by_pair(table)) == 3


def test_fleiss_and_alpha_by_hand() -> None:
    """Three labelers say of four items aaa, aab, bbb, aaa."""
    said = ["aaa", "aab", "bbb", "aaa"]
    rows = [(name, item, side, "g") for item, three in enumerate(said) for name, side in zip("xyz", three, strict=True)]
    found = agreement.summary(agreement.preference_table(choices(*rows)))
    assert (found.labelers, found.items) == (3, 4)
    assert mean(found.fleiss) == pytest.approx(0.625)
    # coincidences: aa 3 + 1 + 3, ab = ba 1, bb 3; n_a 8, n_b 4, n 12
    assert mean(found.alpha) == pytest.approx(1 - (2 / 12) / (2 * 8 * 4 / (12 * 11)))
    assert mean(found.rate) == pytest.approx(10 / 12)


def test_what_is_undefined_is_none() -> None:
    empty = agreement.summary(agreement.preference_table([]))
    assert empty == agreement.Summary(0, 0, None, None, None)
    one = agreement.summary(agreement.preference_table(choices(*[(n, i, "a", "g") for n in "xy" for i in range(3)])))
    assert (one.fleiss, one.alpha) == (None, None)
    assert mean(one.rate) == 1.0
    ties = agreement.summary(agreement.preference_table(choices(("x", 1, "tie", "g"), ("y", 1, "a", "g"))))
    assert ties.rate is None


def test_pairs_of_one_item_are_one_cluster() -> None:
    """Two labelers agree in all ten pairs of five items and in none of five more: ten observations, not a hundred."""
    up, down = tuple((k,) for k in range(5)), tuple((k,) for k in reversed(range(5)))
    work = [Judgement("x", item, up) for item in range(10)]
    work += [Judgement("y", item, up if item < 5 else down) for item in range(10)]
    found = agreement.pairwise_rate(agreement.preference_table(work))
    assert found is not None
    assert (found.mean, found.n) == (0.5, 100)
    assert (found.low, found.high) == (pytest.approx(0.2, abs=0.101), pytest.approx(0.8, abs=0.101))


def test_groups_within_and_between() -> None:
    work = choices(*FIRST, *SECOND, ("dan", 1, "b", "h"))
    within = agreement.by_group(work)
    assert list(within) == ["g", "h"]
    assert mean(within["g"].rate) == mean(within["h"].rate) == 1.0
    between = agreement.between_groups(work, "g", "h")
    assert between is not None
    assert (between.mean, between.n) == (1 / 5, 5)  # item 1: ann and bob against cleo and dan; item 2: ann and cleo
    assert agreement.between_groups(work, "g", "nobody") is None


def test_time_is_that_of_the_last_judgement_in_utc() -> None:
    monday = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    before = (monday - timedelta(hours=1)).astimezone(timezone(timedelta(hours=9)))  # Sunday, where it is not UTC
    work = choices(*FIRST, when=before) + choices(*SECOND[:2], when=before) + choices(SECOND[2], when=monday)
    undated = choices(("ann", 9, "a", "g"), ("bob", 9, "b", "g"))
    weeks = agreement.over_time(work + undated)
    assert [(day, mean(found.rate)) for day, found in weeks] == [
        (date(2026, 11, 16), 1 / 3), (date(2026, 11, 23), 1.0)
    ]  # fmt: skip
    assert [day for day, _ in agreement.over_time(work, "day")] == [date(2026, 11, 22), date(2026, 11, 23)]
    assert [day for day, _ in agreement.over_time(work, "month")] == [date(2026, 11, 1)]


def test_flags_and_overall_ratings_have_units_of_their_own() -> None:
    def rated(name: str, *ratings: tuple[int, bool | None]) -> Judgement:
        given = tuple(Rating(overall=overall, hallucination=flag) for overall, flag in ratings)
        return Judgement(name, 1, ((0, 1, 2),), ratings=given)

    work = [rated("x", (7, True), (4, False), (1, None)), rated("y", (6, True), (4, True), (1, False))]
    flags = agreement.flag_table(work, "hallucination")
    np.testing.assert_array_equal(flags.values, [[1, 0, np.nan], [1, 1, 0]])
    rate = agreement.pairwise_rate(flags)
    assert rate is not None
    assert (rate.mean, rate.n) == (0.5, 2)  # False is an opinion too
    overall = agreement.overall_table(work)
    np.testing.assert_array_equal(overall.values, [[7, 4, 1], [6, 4, 1]])
    assert mean(agreement.alpha(overall, "interval")) > 0.9 > mean(agreement.alpha(overall, "nominal"))
