"""Ensembles of rewards: what they compute, what a manifest says of them, and which are refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.score import ScoreConfig
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.data.records import Completions
from heedful.inference import score
from heedful.models import load
from heedful.rewards.functions import ModelScorer, Reward, open_reward
from heedful.rewards.specs import models_of, split_weight
from heedful.rollout.types import Episode
from heedful.runs.manifest import Manifest, manifest_path

CODE = """
def one(prompts, completions): return [1.0, 4.0, None][: len(completions)]
def two(prompts, completions): return [5.0, 2.0, 1.0][: len(completions)]
"""
EPISODES = [Episode("p", [], [], text, True) for text in ("red", "blue", "green")]


@pytest.fixture(autouse=True)
def _functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judging.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "judging", raising=False)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two reward models of one tokenizer, and one of another."""
    root = tmp_path_factory.mktemp("judges")
    for name, seed in (("a", 1), ("b", 2)):
        load.save(tiny.reward(seed=seed), tiny.tokenizer(), root / name)
    load.save(tiny.reward(seed=3, vocab=300), tiny.tokenizer(vocab=300), root / "c")
    return [str(root / name) for name in "abc"]


def opened(*specs: str) -> Reward:
    return open_reward(specs, compute=Compute(), device="cpu")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("min(judging:one, judging:two)", [1.0, 2.0]),
        ("mean(judging:one,judging:two)", [3.0, 3.0]),
        ("mean-0.5*std(judging:one,judging:two)", [3.0 - 0.5 * 2.0, 3.0 - 0.5 * 1.0]),  # both differ by 2 and 1 from it
        ("2*min(judging:one,judging:two)", [2.0, 4.0]),
        ("-1*mean-1*std(judging:one,judging:two)", [-1.0, -2.0]),
    ],
)
def test_ensembles_by_hand(spec: str, expected: list[float]) -> None:
    total, parts = opened(spec)(EPISODES[:2])
    assert total.tolist() == pytest.approx(expected)
    assert list(parts) == [split_weight(spec)[1]]


def test_without_the_opinion_of_a_member_there_is_none() -> None:
    reward = opened("min(judging:one,judging:two)", "judging:two")
    total, parts = reward(EPISODES)
    assert math.isnan(parts["min(judging:one,judging:two)"][2])
    assert total.tolist() == [1 + 5, 2 + 2, 1.0]


@pytest.mark.medium
def test_models_are_members_of_ensembles(judges: list[str]) -> None:
    a, b, _ = judges
    alone = torch.stack([opened(one)(EPISODES)[0] for one in (a, b)])
    reward = opened(f"0.5*mean-2*std({a},{b})", "judging:two")
    assert reward(EPISODES[:2])[0].tolist() == pytest.approx(
        (0.5 * (alone.mean(0) - 2 * alone.std(0, unbiased=False)))[:2].add(torch.tensor([5.0, 2.0])).tolist(), abs=1e-5
    )
    assert list(reward.models) == [a, b]
    assert [(part.name, part.weight) for part in reward.members()] == [(a, 0.5), (b, 0.5), ("judging:two", 1.0)]
    assert models_of([f"0.5*min({a},judging:one,{b})", a]) == {"reward.0.0": a, "reward.0.2": b, "reward.1": a}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("min(judging:one)", "two members or more"),
        ("min()", "two members or more"),
        ("mean-0.5*sdt(judging:one,judging:two)", "no ensemble is called that"),
        ("min(judging:one,)", "two members or more"),
        ("mean(judging:one,judging:one)", "names a member twice"),
        ("min(0.5*judging:one,judging:two)", "'0.5\\*judging:one' is no plain member"),
        ("min(mean(judging:one,judging:two),judging:two)", "is no plain member"),
    ],
)
def test_what_is_no_ensemble_is_one_line(spec: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        opened(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        (["judging:one", "judging:two", "judging:one"], r"judging:one: is given twice as a reward.*as 2\*judging:one"),
        (["2*judging:one", "-0.5*judging:one"], r"Give it once, as 1\.5\*judging:one"),
        (["min(judging:one,judging:two)", "min(judging:one, judging:two)"], "is given twice"),
        (["0*judging:one"], r"0\*judging:one: the weight 0 makes all answers equal"),
        (["0*judging:one", "-0*judging:two"], "the weight 0 makes all answers equal"),
    ],
)
def test_rewards_that_are_given_twice_or_say_nothing_are_refused(specs: list[str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        opened(*specs)


def test_a_model_is_given_twice_whatever_its_path_says(judges: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = judges
    monkeypatch.chdir(Path(a).parent)
    for names in (["a", f"0.5*{a}"], ["./a", "a"], [b, a, f"{a}/../a"]):
        with pytest.raises(UserError, match="is given twice as a reward"):
            opened(*names)


def test_a_weight_of_0_next_to_others_is_said(caplog: pytest.LogCaptureFixture) -> None:
    total, parts = opened("0*judging:one", "judging:two")(EPISODES[:2])
    assert (total.tolist(), parts["judging:one"].tolist()) == ([5.0, 2.0], [1.0, 4.0])
    assert caplog.messages == ["0*judging:one: the weight is 0, so this reward is measured and changes no sum"]


def test_members_of_unlike_tokenizers_are_refused(judges: list[str]) -> None:
    a, _, c = judges
    with pytest.raises(UserError, match="have different tokenizers\\. Choose reward models"):
        opened(f"min({a},{c})")


@pytest.mark.medium
def test_score_takes_ensembles(judges: list[str], tmp_path: Path) -> None:
    """The scores of a file are those of the members, put together; the manifest names each member."""
    a, b, _ = judges
    rows = [Completions(prompt="Say it", completions=["red", "blue house"])]
    formats.write(tmp_path / "rows.jsonl", rows)
    found = {}
    for spec in (a, b, f"min({a},{b})"):
        out = tmp_path / "out.jsonl"
        score.run(ScoreConfig(reward=[spec], data=str(tmp_path / "rows.jsonl")), out, overwrite=True)
        found[spec] = formats.read(out, Completions)[0].scores
    assert found[f"min({a},{b})"] == pytest.approx([min(pair) for pair in zip(found[a], found[b], strict=True)])
    assert set(Manifest.read(manifest_path(out)).parents) == {"reward.0.0", "reward.0.1"}


def test_an_ensemble_whose_members_move_is_the_same() -> None:
    """A run that is resumed knows a member by its weights, not by its place."""
    source = {"data": {"path": "d", "sha256": "0"}}

    def begun(*refs: str) -> Manifest:
        config = ScoreConfig(reward=[f"min({refs[0]},{refs[1]})"], data="d")
        parents = {f"reward.0.{j}": {"ref": ref, "weights_sha256": ref[-1]} for j, ref in enumerate(refs)}
        return Manifest.begin("score", config, parents, source)

    one, moved, other = begun("r/a", "r/b"), begun("s/a", "s/b"), begun("r/a", "r/c")
    assert one.changes(moved).refused == ""
    assert "another config" in one.changes(other).refused


def test_the_value_of_a_row_is_that_of_its_own_pass(judges: list[str]) -> None:
    scorer = opened(judges[0]).parts[0].score
    assert isinstance(scorer, ModelScorer)
    many = scorer([*EPISODES, *EPISODES[::-1]])
    assert many.tolist() == pytest.approx([float(scorer([e])[0]) for e in (*EPISODES, *EPISODES[::-1])], abs=1e-5)


def test_equal_answers_are_scored_once(judges: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = opened(judges[0]).parts[0].score
    assert isinstance(scorer, ModelScorer)
    cut = Episode("p", [], [], "red", False)  # ends without a stop token, so it is another answer
    episodes = [*EPISODES, cut, *EPISODES[::-1]]
    alone = [scorer([episode]).item() for episode in episodes]
    seen: list[int] = []
    over = scorer.over
    monkeypatch.setattr(scorer, "over", lambda rows, compute: seen.append(len(rows)) or over(rows, compute))
    assert scorer(episodes).tolist() == pytest.approx(alone, abs=1e-5)
    assert seen == [4]
    assert len(set(alone)) == 4
