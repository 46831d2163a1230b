"""Dawid-Skene by hand and next to crowd-kit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from heedful.config import UserError
from heedful.data.records import Rating
from heedful.feedback.quality import flags
from heedful.feedback.quality.flags import Vote
from heedful.feedback.quality.types import Judgement


def simulated(
    accuracies: dict[str, float], units: int = 300, classes: int = 3, seed: int = 0
) -> tuple[list[Vote], list]:
    """Votes of labelers who are right as often as said and else guess among the other classes."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, p=[0.6, 0.3, 0.1], size=units).tolist()
    votes: list[Vote] = []
    for unit, true in enumerate(truth):
        for name in rng.permutation(list(accuracies))[:4].tolist():
            right = rng.random() < accuracies[name]
            votes.append((name, unit, true if right else int(rng.choice([c for c in range(3) if c != true]))))
    return votes, truth


TEAM = {"a": 0.95, "b": 0.9, "c": 0.6, "d": 0.5, "e": 0.4, "spam": 0.34}


def test_one_step_by_hand() -> None:
    """Shares 1, 2/3, 1/3 of class yes give the prior 2/3 and x's errors; the next posterior follows by Bayes."""
    votes: list[Vote] = [
        ("x", 1, "yes"), ("y", 1, "yes"), ("z", 1, "yes"),
        ("x", 2, "yes"), ("y", 2, "yes"), ("z", 2, "no"),
        ("x", 3, "yes"), ("y", 3, "no"), ("z", 3, "no"),
    ]  # fmt: skip
    found = flags.dawid_skene(votes, iterations=1)
    yes, no = found.classes.index("yes"), found.classes.index("no")
    np.testing.assert_allclose(found.prior[yes], 2 / 3)
    x, y, z = (found.errors[found.labelers.index(name)] for name in "xyz")
    np.testing.assert_allclose([x[yes, yes], x[no, yes]], [1, 1], atol=1e-9)
    np.testing.assert_allclose([y[yes, yes], y[no, yes]], [(1 + 2 / 3) / 2, 1 / 3], atol=1e-9)
    np.testing.assert_allclose([z[yes, yes], z[no, yes]], [1 / 2, 0], atol=1e-9)
    # unit 3: yes 2/3 * 1 * 1/6 * 1/2, no 1/3 * 1 * 2/3 * 1
    np.testing.assert_allclose(found.posterior[2, yes], (1 / 18) / (1 / 18 + 2 / 9), atol=1e-9)


def test_it_knows_whom_to_believe() -> None:
    votes, truth = simulated(TEAM, 300)
    found = flags.dawid_skene(votes)
    order = [found.classes.index(c) for c in range(3)]
    guessed = found.posterior[:, order].argmax(axis=1)
    named = dict(zip(found.units, guessed.tolist(), strict=True))
    counts: dict[int, list[int]] = {}
    for _, unit, said in votes:
        counts.setdefault(unit, [0, 0, 0])[said] += 1
    majority = [int(np.argmax(counts[unit])) for unit in range(len(truth))]
    ours = np.mean([named[unit] == true for unit, true in enumerate(truth)])
    assert ours > np.mean(np.array(majority) == truth) + 0.03
    diagonal = {name: found.errors[i][order, order].mean() for i, name in enumerate(found.labelers)}
    assert diagonal["a"] > 0.85 > 0.6 > diagonal["spam"]


def test_smoothing_keeps_a_single_vote_from_being_certain() -> None:
    votes: list[Vote] = [("x", unit, True) for unit in range(5)] + [("y", 0, False)]
    sure, smooth = flags.dawid_skene(votes), flags.dawid_skene(votes, smoothing=1.0)
    assert sure.errors[0].max() > 0.999
    assert smooth.errors[0].max() < 0.95


def test_flags_of_completions() -> None:
    """Two who agree outvote the third; what one alone said counts too; what nobody was asked is not there."""

    def rated(name: str, item: int, *said: bool | None) -> Judgement:
        return Judgement(name, item, ((0, 1, 2),), ratings=tuple(Rating(violent=value) for value in said))

    work = [rated(name, item, True, False, False) for item in range(8) for name in ("x", "y")]
    work += [rated("z", item, False, False, True) for item in range(8)]
    work.append(rated("x", 9, True, False, None))
    found = flags.flag(work, "violent")
    assert found[3, 0] > 0.9
    assert max(found[3, 1], found[3, 2]) < 0.1
    assert found[9, 0] > 0.5 > found[9, 1]
    assert (9, 2) not in found
    assert flags.flag(work, "sexual") == {}
    assert set(flags.flag([rated("x", 1, False)], "violent").values()) == {0.0}


def test_no_votes() -> None:
    with pytest.raises(UserError, match="no votes"):
        flags.dawid_skene([])


@pytest.mark.slow
def test_beside_crowd_kit() -> None:
    votes, _ = simulated(TEAM, 150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from crowdkit.aggregation import DawidSkene

        frame = pd.DataFrame(votes, columns=["worker", "task", "label"])
        theirs = DawidSkene(n_iter=200, tol=1e-9).fit(frame)
    ours = flags.dawid_skene(votes)
    at = theirs.probas_.loc[list(ours.units), list(ours.classes)].to_numpy()
    np.testing.assert_allclose(ours.posterior, at, atol=1e-3)
    np.testing.assert_allclose(ours.prior, theirs.priors_.loc[list(ours.classes)], atol=1e-3)
