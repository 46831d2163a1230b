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
    "ratio runs away": (rows(3, ratio_max=lambda i: 300.0 if i == 2 else 2.0), {}),
    "nothing moves": (rows(6, clipfrac=0.0, approx_kl=0.0), {}),
    "over-optimisation": (rows(20, kl=lambda i: 0.05 * i**2, score=lambda i: 0.1 * i), {}),
    "no end": (rows(10, finished=lambda i: 0.95 - 0.1 * i), {}),
    "value net fails": (rows(8, value_loss=lambda i: 9.0 if i == 7 else 0.3), {}),
    "entropy collapse": (rows(10, entropy=lambda i: 2.0 * 0.7**i, kl=lambda i: 0.01 * i), {}),
    "pretraining lost": (rows(12, ptx_loss=lambda i: 3.0 + 0.05 * i), {}),
    "flat groups": (rows(5, flat_groups=lambda i: 0.5 if i < 1 else 0.9), {}),
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
