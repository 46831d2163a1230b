"""Ensembles and folds over labelers: who is left out, what members share, figures by hand, and a resume."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tiny
from heedful.config import UserError
from heedful.learning import examples
from heedful.learning.examples import TokenLimits
from heedful.learning.rankings import Rankings
from heedful.rewards.functions import Ensemble, open_reward
from heedful.runs.manifest import Manifest, model_path
from heedful.stages import reward_folds
from stages import worlds
from stages.worlds import Files

SMALL: dict[str, Any] = {"epochs": 1, "batch": 12, "demonstrations": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """30 rankings: 12 of ann, 8 of bo, 5 of cy, 3 of di, 2 of ed."""
    names = ["ann"] * 12 + ["bo"] * 8 + ["cy"] * 5 + ["di"] * 3 + ["ed"] * 2
    rows = [row | {"labeler": name} for row, name in zip(worlds.rankings(30), names, strict=True)]
    return worlds.write(tmp_path_factory.mktemp("folds") / "rankings.jsonl", rows)


def test_groups_of_about_equal_data(files: Files, data: str) -> None:
    groups = reward_folds.labeler_groups(worlds.config("reward", files, data=data, folds=2))
    assert groups == [["ann", "di"], ["bo", "cy", "ed"]]  # 15 and 15
    assert len(reward_folds.labeler_groups(worlds.config("reward", files, data=data, folds=5))) == 5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"folds": 6}, "names 5 labelers for 6 folds. Lower folds"),
        ({"folds": 1}, "leaves nobody to train on"),
        ({"folds": 2, "members": 2}, "exclude each other"),
        ({"folds": 2, "valid_fraction": 0.0}, "Set valid_fraction above 0"),
        ({"folds": 2, "eval_data": "x.jsonl"}, "Leave eval_data out"),
    ],
)
def test_folds_that_cannot_be_are_one_line(
    files: Files, data: str, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        worlds.train("reward", files, tmp_path / "run", data=data, **changes)
    assert not (tmp_path / "run").exists()


def test_one_labeler_for_five_folds(files: Files, tmp_path: Path) -> None:
    rows = [row | {"labeler": "ann"} for row in worlds.rankings(6)]
    data = worlds.write(tmp_path / "one.jsonl", rows)
    with pytest.raises(UserError, match="names 1 labeler for 5 folds"):
        worlds.train("reward", files, tmp_path / "run", data=data, folds=5)


def test_a_fold_leaves_labelers_and_their_prompts_out(files: Files, tmp_path: Path) -> None:
    """bo ranks two prompts that ann ranks in training, one that she does not, and one that is held out."""
    one = worlds.rankings(6)
    rows = [row | {"labeler": "ann"} for row in one[:3]]
    rows += [row | {"labeler": "bo"} for row in (one[0], one[1], one[3])] + [one[4] | {"labeler": None}]
    found = examples.rankings(worlds.write(tmp_path / "rows.jsonl", rows), tiny.tokenizer(), TokenLimits(128, 128, 128))
    held = examples.rankings(
        worlds.write(tmp_path / "held.jsonl", [one[5] | {"labeler": name} for name in ("ann", "bo")]),
        tiny.tokenizer(), TokenLimits(128, 128, 128),
    )  # fmt: skip
    fold = reward_folds.without(Rankings(found, held, {}), ["bo"], "rows")
    assert [row.record.labeler for row in fold.training] == ["ann"] * 3
    assert [row.record.labeler for row in fold.validation] == ["ann"]
    assert [row.record.prompt for row in fold.new_labelers] == [one[3]["prompt"], one[5]["prompt"]]
    with pytest.raises(UserError, match="no ranking is left for new labelers in the fold without nobody"):
        reward_folds.without(Rankings(found, held, {}), ["nobody"], "rows")


def test_the_summary_by_hand() -> None:
    """Fold means .6 and .8: .7 ± .1. The seeds are averaged first."""
    found = [
        {"fold": fold, "seed": seed, "new": new, "known": 0.5}
        for fold, seed, new in ((1, 0, 0.5), (2, 0, 0.8), (1, 1, 0.7), (2, 1, 0.8))
    ]
    told = reward_folds.summary(found, [["a"], ["b"]])
    assert told["new_labelers"] == "70.0 ± 10.0 % (paper 69.6 ± 0.9 %)"
    assert told["new_labelers_error"] == pytest.approx(0.1)
    assert told["known_labelers"] == "50.0 ± 0.0 % (paper 72.4 ± 0.4 %)"
    assert told["seeds"] == 2


@pytest.mark.slow
def test_folds_and_fold_seeds_train_and_resume(files: Files, data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = SMALL | {"data": data, "folds": 2, "fold_seeds": 2, "valid_fraction": 0.3}
    worlds.train("reward", files, out, **changes)
    first = Manifest.read(out / "manifest.json")
    assert first.status == "finished"
    assert [(one["fold"], one["seed"]) for one in first.results["runs"]] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    inner = Manifest.read(out / "folds" / "seed-1-fold-2" / "manifest.json").results
    assert inner["new_labelers"]["accuracy"]["rate"] == first.results["runs"][3]["new"]
    assert set(inner["valid"]["by_labeler"]) <= {"ann", "di"}
    assert set(inner["new_labelers"]["by_labeler"]) <= {"bo", "cy", "ed"}
    assert not list(out.rglob("*.safetensors"))
    shutil.rmtree(out / "folds" / "seed-1-fold-2")
    worlds.train("reward", files, out, resume=True, **changes)
    assert Manifest.read(out / "manifest.json").results == first.results
    with pytest.raises(UserError, match="leaves no model"):
        model_path(out)


@pytest.mark.slow
def test_members_share_what_is_held_out_and_make_an_ensemble(files: Files, data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = SMALL | {"data": data, "members": 2, "seed": 4}
    worlds.train("reward", files, out, **changes)
    manifests = [Manifest.read(out / "members" / name / "manifest.json") for name in ("1", "2")]
    assert [one.seed for one in manifests] == [4, 5]
    held = [Counter(row["n"] for row in one.results["valid"]["by_labeler"].values()) for one in manifests]
    assert held[0] == held[1]
    assert worlds.hashes(out / "members" / "1") != worlds.hashes(out / "members" / "2")
    results = Manifest.read(out / "manifest.json").results
    assert results["reward"] == f"min({out}/members/1,{out}/members/2)"
    alone = worlds.train("reward", files, tmp_path / "alone", **(changes | {"members": 1}))
    assert worlds.hashes(alone) == worlds.hashes(out / "members" / "1")
    opened = open_reward([results["reward"]], compute=worlds.config("reward", files).compute, device="cpu")
    assert isinstance(opened.parts[0].score, Ensemble)
    with pytest.raises(UserError, match=r"an ensemble\. Name one of its members"):
        model_path(out)
    worlds.train("reward", files, out, resume=True, **changes)
