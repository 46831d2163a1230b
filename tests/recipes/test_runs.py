"""Both recipes from the first line to the last, on made-up rows, shrunk by QUICK=1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heedful.data import formats
from heedful.data.records import Comparison

ROOT = Path(__file__).resolve().parents[2]


def run(recipe: str, out: Path, python: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "recipes" / recipe / "run")],
        env={**os.environ, "PYTHON": str(python), "OUT": str(out), "QUICK": "1", **environment},
        capture_output=True, text=True, cwd=out.parent,
    )  # fmt: skip


def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tldr(data: Path, encoder: Path, python: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("tldr", out, python, DATA=str(data), ENCODER=str(encoder))
    assert done.returncode == 0, done.stderr
    found = results(out)
    whole = found["reward_model"]["all"]
    assert whole["reward model"]["n"] == 4 * 6 + 4 * 5  # pairs of the eight held-out posts
    assert whole["bag of words"]["mean"] > 0.9  # one word decides here
    assert whole["longer wins"]["mean"] == pytest.approx(by_hand(out))
    assert found["people"]["n"] == 2 * 1 + 2 * 3  # pairs of judgements; w3 disagrees with both others
    assert found["people"]["mean"] == pytest.approx((2 + 2) / 8)
    assert found["policies"]["prompts"] == 8
    assert 0 <= found["policies"]["wins_by_its_own_reward_model"]["mean"] <= 1
    assert "by the reward model it was trained on" in done.stdout
    assert whole["on an encoder"]["n"] == whole["reward model"]["n"]
    assert "reward model minus on an encoder" in whole
    for name in ("ppo_encoder", "best_of_n"):
        assert 0 <= found["on_an_encoder"][name]["wins_by_reward_model_from_scratch"]["mean"] <= 1
    assert "best of n SFT answers, by the bag of words" in done.stdout


def by_hand(out: Path) -> float:
    rows = formats.read(out / "valid_comparisons.jsonl.gz", Comparison)
    pairs = [[len(row.completions[k]) for k in pair] for row in rows for pair in row.pairs()]
    return sum((better > worse) + 0.5 * (better == worse) for better, worse in pairs) / len(pairs)


@pytest.mark.slow
def test_convarg(data: Path, encoder: Path, python: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("convarg", out, python, DATA=str(data), ENCODER=str(encoder))
    assert done.returncode == 0, done.stderr
    found = results(out)
    assert list(found["by_debate"]) == ["Is coffee good?", "Is tea good?"]
    for values in (found["all"], *found["by_debate"].values(), *found["by_length_difference"].values()):
        for name in ("reward, encoder", "reward, gold", "reward, votes", "bag of words"):
            found_here = values[name]
            if found_here["low"] is None:  # fewer than ten arguments, or all outcomes alike
                assert values is not found["all"]
            else:
                assert found_here["low"] <= found_here["mean"] <= found_here["high"]
    assert found["all"]["longer wins"]["mean"] > 0.9
    assert found["all"]["reward, gold"]["n"] == 24
    assert 0.6 < found["all"]["one labeler"]["mean"] < 1
    assert sum(found["account"]["single_votes"].values()) == found["account"]["training_pairs"] == 48
    stage = json.loads((out / "reward_votes" / "manifest.json").read_text(encoding="utf-8"))["results"]
    assert stage["all_tied"] == found["account"]["single_votes"].get("tie", 0)

    ranked = formats.read(out / "comparisons_ranked.jsonl.gz", Comparison)
    pairs = [(row.completions[a], row.completions[b]) for row in ranked for a, b in row.pairs()]
    gold = formats.read(out / "comparisons_gold.jsonl.gz", Comparison)
    assert sorted(pairs) == sorted({(row.completions[a], row.completions[b]) for row in gold for a, b in row.pairs()})
    assert found["account"]["different_pairs"] == len(pairs)
    assert max(len(row.completions) for row in ranked) > 2

    ids = [run_id(out / name) for name in ("base", "reward_gold", "reward_votes")]
    (out / "scored_votes.jsonl.gz").unlink()
    again = run("convarg", out, python, DATA=str(data), ENCODER=str(encoder))
    assert again.returncode == 0, again.stderr
    assert [run_id(out / name) for name in ("base", "reward_gold", "reward_votes")] == ids
    assert {key: results(out)[key] for key in ("all", "by_debate")} == {key: found[key] for key in ("all", "by_debate")}


def run_id(path: Path) -> str:
    return str(json.loads((path / "manifest.json").read_text(encoding="utf-8"))["id"])


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DATA": ""}, "DATA is not set"),
        ({"DATA": "/nowhere"}, "/nowhere: no such folder"),
        ({"DATA": str(ROOT)}, "missing"),
    ],
)
@pytest.mark.parametrize("recipe", ["tldr", "convarg"])
def test_without_the_data_a_recipe_says_so_and_stops(
    recipe: str, environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = run(recipe, tmp_path / "out", Path(sys.executable), **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
