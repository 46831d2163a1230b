"""Each failure sign of P24 shows on the history that has it, and on no healthy one."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.learning.signs import SIGNS, Setup, Watch

Rows = list[dict[str, float]]
HEALTHY: dict[str, float] = {
    "score": 0.0, "score_std": 1.0, "kl": 0.0, "entropy": 2.0, "length": 20.0, "finished": 0.95, "clipfrac": 0.05,
    "approx_kl": 0.01, "ratio": 1.0, "ratio_max": 1.8, "value_loss": 0.3, "explained_variance": 0.3, "ptx_loss": 3.0,
    "logprob_gap": 1e-6,
}  # fmt: skip


def rows(count: int, **changes: Any) -> Rows:
    """A run in which the score and the KL rise and flatten; `changes`: a value, or a function of the iteration."""
    history = []
    for i in range(count):
        row = HEALTHY | {"score": 1 - 0.9**i, "kl": 5 * (1 - 0.9**i), "entropy": 2.0 - 0.02 * i}
        row |= {key: value(i) if callable(value) else value for key, value in changes.items()}
        history.append(row)
    return history


def shown(history: Rows, setup: Setup | None = None) -> list[str]:
    watch = Watch(setup or Setup(), [])
    for row in history:
        watch.see(row)
    return watch.reported


SICK: dict[str, tuple[Rows, dict[str, Any]]] = {
    "negative KL": (rows(6, kl=lambda i: -0.1 * (i > 1)), {}),
    "KL at the start": (rows(1, kl=0.01), {}),
    "numerics drift": (rows(2, logprob_gap=0.01), {}),
    "sampler and policy apart": (rows(3, **{"mismatch/kl": lambda i: 0.02 * (i + 1)}), {}),
    "ratio runs away": (rows(3, ratio_max=lambda i: 300.0 if i == 2 else 2.0), {}),
    "nothing moves": (rows(6, clipfrac=0.0, approx_kl=0.0), {}),
    "over-optimisation": (rows(20, kl=lambda i: 0.05 * i**2, score=lambda i: 0.1 * i), {}),
    "no end": (rows(10, finished=lambda i: 0.95 - 0.1 * i), {}),
    "value net fails": (rows(8, value_loss=lambda i: 9.0 if i == 7 else 0.3), {}),
    "entropy collapse": (rows(10, entropy=lambda i: 2.0 * 0.7**i, kl=lambda i: 0.01 * i), {}),
    "pretraining lost": (rows(12, ptx_loss=lambda i: 3.0 + 0.05 * i), {}),
    "flat groups": (rows(5, flat_groups=lambda i: 0.5 if i < 1 else 0.9), {}),
    "equal scores": (rows(3, score_std=0.0), {}),
    "constant scores": (rows(2, score_std=0.0), {"whiten_rewards": True}),
}


def test_a_healthy_run_shows_none() -> None:
    assert shown(rows(40)) == []
    assert shown(rows(40), Setup(whiten_rewards=True)) == []


@pytest.mark.parametrize("name", [sign.name for sign in SIGNS])
def test_each_sign_shows_where_it_should(name: str) -> None:
    history, changes = SICK[name]
    watch = Watch(Setup(**changes), [])
    messages = [(i, message) for i, row in enumerate(history, start=1) for message in watch.see(row)]
    ((iteration, message),) = messages  # once, however long it lasts
    remedy = next(sign.remedy for sign in SIGNS if sign.name == name)
    assert message.startswith(f"iteration {iteration}: {name}: ")
    assert message.endswith(f". {remedy}")
    assert watch.reported == [name]
    assert watch.messages == [message]


@pytest.mark.parametrize(
    ("name", "history"),
    [
        ("negative KL", rows(1, kl=-1.5)),
        ("ratio runs away", rows(1, ratio=1.3)),
        ("ratio runs away", rows(1, clipfrac=0.6)),
        ("value net fails", rows(12, explained_variance=-0.1)),
    ],
)
def test_other_ways_to_the_same_sign(name: str, history: Rows) -> None:
    assert name in shown(history)


@pytest.mark.parametrize(
    "history",
    [
        rows(6, kl=lambda i: -0.01 * (i > 0)),  # noise
        rows(1, kl=1e-4),
        rows(4, clipfrac=0.0, approx_kl=0.0),  # warm-up
        rows(20, kl=lambda i: 0.4 * i, score=lambda i: 0.1 * i),  # a straight line
        rows(20, kl=lambda i: 0.05 * i**2, score=lambda i: -0.1 * i),  # no score to blame
        rows(10, finished=0.3),  # it never ended by itself
        rows(12, explained_variance=lambda i: -0.1 if i % 3 else 0.1),
        rows(10, entropy=lambda i: 2.0 * 0.7**i, kl=lambda i: 1.0 * i),  # paid for with KL
        rows(12, ptx_loss=lambda i: 3.0 - 0.05 * i),
        rows(2, score_std=0.0),  # rewards are not whitened
        rows(9, flat_groups=lambda i: 0.9 if i % 3 else 0.5),
    ],
)
def test_what_only_looks_like_a_sign(history: Rows) -> None:
    assert shown(history) == []


def test_low_precision_may_drift_more() -> None:
    low = Setup(low_precision=True)
    assert shown(rows(2, logprob_gap=0.05), low) == []
    assert shown(rows(2, logprob_gap=0.3), low) == ["numerics drift"]


def test_a_resumed_run_does_not_report_again() -> None:
    past, _ = SICK["negative KL"]
    watch = Watch(Setup(), past)
    assert watch.reported == ["negative KL"]
    assert watch.see(rows(1, kl=-2.0)[0]) == []
    assert len(watch.history) == len(past) + 1


def test_rows_without_text_or_variance_do_not_matter() -> None:
    history = [{k: v for k, v in row.items() if k not in ("ptx_loss", "explained_variance")} for row in rows(20)]
    assert shown(history) == []


def one(**changes: float) -> dict[str, float]:
    return HEALTHY | changes


def after(first: Rows, **changes: float) -> Rows:
    """Healthy rows of these figures, and one more with `changes`."""
    return [*first, one(**changes)]


# (sign, a history just short of it, the same just beyond)
THRESHOLDS: list[tuple[str, Rows, Rows]] = [
    ("negative KL", [one(kl=-1.0)], [one(kl=-1.01)]),
    ("negative KL", rows(3, kl=-0.05), rows(3, kl=-0.06)),
    ("negative KL", rows(2, kl=-0.06), rows(3, kl=-0.06)),
    ("negative KL", rows(4, kl=lambda i: -0.9 if i != 2 else -0.04), rows(3, kl=-0.9)),
    ("KL at the start", [one(kl=0.001)], [one(kl=0.0011)]),
    ("KL at the start", [one(kl=-0.001)], [one(kl=-0.0011)]),
    ("numerics drift", [one(logprob_gap=0.001)], [one(logprob_gap=0.0011)]),
    ("ratio runs away", [one(ratio=1.2)], [one(ratio=1.21)]),
    ("ratio runs away", [one(ratio=0.81)], [one(ratio=0.79)]),
    ("ratio runs away", [one(ratio_max=100.0)], [one(ratio_max=100.1)]),
    ("ratio runs away", [one(clipfrac=0.5)], [one(clipfrac=0.51)]),
    ("nothing moves", rows(4, clipfrac=0.0, approx_kl=0.0), rows(5, clipfrac=0.0, approx_kl=0.0)),
    ("nothing moves", rows(5, clipfrac=0.0, approx_kl=1e-10), rows(5, clipfrac=0.0, approx_kl=0.9e-10)),
    ("nothing moves", rows(5, clipfrac=1e-9, approx_kl=0.0), rows(5, clipfrac=0.0, approx_kl=0.0)),
    (
        "nothing moves",
        rows(8, clipfrac=lambda i: 0.05 * (i < 4), approx_kl=0.0),
        rows(8, clipfrac=lambda i: 0.05 * (i < 3), approx_kl=0.0),
    ),
    ("over-optimisation", rows(11, kl=lambda i: 0.12 * i**2), rows(12, kl=lambda i: 0.12 * i**2)),
    ("over-optimisation", rows(12, kl=lambda i: 9.9 * i**2 / 121), rows(12, kl=lambda i: 10.1 * i**2 / 121)),
    # thirds 0, 5, and 5 + 6 or more: growth of 1.2 times that of a line
    ("over-optimisation", rows(12, kl=lambda i: [0, 5, 11.0][i // 4]), rows(12, kl=lambda i: [0, 5, 11.1][i // 4])),
    ("over-optimisation", rows(12, kl=lambda i: [5, 5, 11.0][i // 4]), rows(12, kl=lambda i: [0, 4, 11.0][i // 4])),
    (
        "over-optimisation",
        rows(12, kl=lambda i: [0, 4, 11][i // 4], score=0.0),
        rows(12, kl=lambda i: [0, 4, 11][i // 4]),
    ),
    ("over-optimisation", rows(12, kl=lambda i: [5, 8, 11.5][i // 4]), rows(12, kl=lambda i: [5, 8, 12.0][i // 4])),
    ("over-optimisation", rows(12, kl=lambda i: [9.9, 10, 10][i // 4]), rows(12, kl=lambda i: [9.9, 10, 10.5][i // 4])),
    ("no end", after(rows(2), finished=0.5), rows(3, finished=lambda i: [0.9, 0.3, 0.2][i])),
    ("no end", rows(3, finished=lambda i: [0.6, 0.44, 0.44][i]), rows(3, finished=lambda i: [0.6, 0.25, 0.25][i])),
    (
        "no end",
        rows(4, finished=lambda i: [0.9, 0.5, 0.5, 0.51][i]),
        rows(4, finished=lambda i: [0.9, 0.5, 0.5, 0.49][i]),
    ),
    (
        "no end",
        rows(4, finished=lambda i: [0.9, 0.1, 0.1, 0.1][i], score=1.0),
        rows(4, finished=lambda i: [0.9, 0.1, 0.1, 0.1][i], score=lambda i: [1, 0, 0, 1.1][i]),
    ),
    ("value net fails", after(rows(4), value_loss=9.0), after(rows(5), value_loss=9.0)),
    ("value net fails", after(rows(6), value_loss=3.0), after(rows(6), value_loss=3.01)),
    (
        "value net fails",  # the median is of all losses before the last
        rows(6, value_loss=lambda i: [0.1, 0.1, 9, 9, 9, 50][i]),
        rows(6, value_loss=lambda i: [0.1, 0.1, 9, 9, 9, 91][i]),
    ),
    (
        "value net fails",  # without the last, which would make its own limit higher
        rows(6, value_loss=lambda i: [1, 1, 1, 10, 10, 10.0][i]),
        rows(6, value_loss=lambda i: [1, 1, 1, 10, 10, 10.1][i]),
    ),
    ("value net fails", rows(9, explained_variance=-0.1), rows(10, explained_variance=-0.1)),
    (
        "value net fails",
        rows(10, explained_variance=lambda i: 0.01 if i == 5 else -0.1),
        rows(10, explained_variance=lambda i: 0.5 if i < 5 else 0.0),
    ),
    ("entropy collapse", after(rows(1, entropy=2.0), entropy=0.4), after(rows(1, entropy=2.0), entropy=0.39)),
    ("entropy collapse", after(rows(1), entropy=0.1, kl=1.0), after(rows(1), entropy=0.1, kl=0.99)),
    ("pretraining lost", rows(9, ptx_loss=lambda i: 3.0 + (i > 3)), rows(10, ptx_loss=lambda i: 3.0 + (i > 3))),
    # the mean of the last five against that of the first three
    (
        "pretraining lost",
        rows(10, ptx_loss=lambda i: 3.0 + 0.09 * (i > 4)),
        rows(10, ptx_loss=lambda i: 3.0 + 0.11 * (i > 4)),
    ),
    (
        "pretraining lost",
        rows(10, ptx_loss=lambda i: [3.4, 3.4, 3.4, 3, 3, 3.49, 3.49, 3.49, 3.49, 3.49][i]),
        rows(10, ptx_loss=lambda i: [3.4, 3.4, 3.1, 3.9, 3.9, 3.45, 3.45, 3.45, 3.45, 3.45][i]),
    ),
    ("flat groups", rows(3, flat_groups=0.8), rows(3, flat_groups=0.81)),
    ("equal scores", rows(3, score_std=1e-30), rows(3, score_std=0.0)),
    ("equal scores", rows(3, score_std=0.0, flat_groups=0.0), rows(3, score_std=0.0)),
    ("equal scores", rows(2, score_std=0.0), rows(3, score_std=0.0)),
    ("flat groups", rows(2, flat_groups=0.9), rows(3, flat_groups=0.9)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "short", "beyond"), THRESHOLDS)
def test_each_sign_begins_at_its_threshold(name: str, short: Rows, beyond: Rows) -> None:
    assert name not in shown(short)
    assert name in shown(beyond)


def test_constant_scores_begin_where_whitening_divides_by_nothing() -> None:
    whitened = Setup(whiten_rewards=True)
    assert shown([one(score_std=1e-4)], whitened) == []
    assert shown([one(score_std=0.9e-4)], whitened) == ["constant scores"]


def test_low_precision_drifts_from_a_fifth() -> None:
    low = Setup(low_precision=True)
    assert shown([one(logprob_gap=0.2)], low) == []
    assert shown([one(logprob_gap=0.21)], low) == ["numerics drift"]


def test_a_reference_of_its_own_starts_with_a_kl() -> None:
    assert shown([one(kl=3.0)], Setup(other_reference=True)) == []


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([one(kl=-1.5)], "sequence KL -1.500"),
        (
            after(rows(1, finished=0.9), finished=0.0, score=2.0),
            "45% of the responses end by themselves, 90% did at first",
        ),
        (
            after(rows(1, entropy=2.0), entropy=0.25, kl=0.5),
            "entropy 0.250 nats a token, was 2.000, at a KL of only 0.50",
        ),
        (rows(10, ptx_loss=lambda i: 3.0 if i < 5 else 4.0), "pretraining loss 4.000, was 3.000"),
        (rows(3, flat_groups=0.9), "90% of the prompts"),
        ([one(ratio=1.3, clipfrac=0.6)], "ratio mean 1.30, max 1.8, clip fraction 0.60"),
        (after(rows(6), value_loss=9.0), "value loss 9, ten times its median"),
        (rows(10, explained_variance=-0.25), "explained variance -0.25 after 10 iterations"),
    ],
)
def test_a_sign_tells_its_figure(history: Rows, told: str) -> None:
    watch = Watch(Setup(), [])
    assert told in " ".join(message for row in history for message in watch.see(row))
