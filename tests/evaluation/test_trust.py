"""Whether a reward can be trusted: every figure by hand on a reward that is a function, and whole on a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import tiny
from heedful import cli
from heedful.config import UserError
from heedful.configs.reward import RewardConfig
from heedful.configs.trust import TrustConfig
from heedful.data import formats
from heedful.evaluation import trust, trust_accuracy, trust_data, trust_shortcuts, trust_text
from heedful.models import load
from heedful.rewards import distance
from heedful.rewards.functions import ModelScorer, Reward, open_reward
from heedful.rollout.types import Episode
from heedful.runs.manifest import Manifest, parent

CODE = """
def good(prompts, completions): return [float(c.split().count("good")) for c in completions]
def length(prompts, completions): return [float(len(c)) for c in completions]
def twin(prompts, completions): return length(prompts, completions)
def flat(prompts, completions): return [0.0 for c in completions]
"""
WORDS = "red blue green dog cat tree house river stone bread".split()


@pytest.fixture(autouse=True)
def _functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rated.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "rated", raising=False)


def put(name: str, rows: list[dict[str, Any]]) -> str:
    formats.write(Path(name), rows)
    return name


def row(prompt: str, answers: list[str], ranking: list[list[int]], **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completions": answers, "ranking": ranking, **more}


def good() -> Reward:
    return open_reward(["rated:good"], compute=TrustConfig(reward=["x"], data="d").compute, device="cpu")


ROWS = [
    row("p", ["good good", "good", "a much longer answer"], [[0], [1], [2]], labeler="ann", group="in", use_case="qa"),
    row("p", ["good", "good good"], [[0], [1]], labeler="bo", group="out", use_case="qa"),
    row("q", ["bad", "good"], [[0], [1]], labeler="bo", group="out", use_case="chat"),
    row("q", ["good", "bad"], [[1], [0]], labeler="cy", group="in", use_case="chat"),
    row("r", ["same", "same", "good"], [[0], [2], [1]], labeler="ann", group="in"),
]


@pytest.fixture
def judged() -> tuple[trust_data.Scored, list[trust_data.JudgedPair]]:
    found = trust_data.read(put("held.jsonl", ROWS), good(), None, 0)
    return found, trust_data.judged(found, {"longer_wins": trust_accuracy.longer(found)})


def test_pairs_by_hand(judged: Any) -> None:
    """Pairs: 3 right; 1 wrong; 1 wrong; 1 wrong; in the last row "same" over "good" is wrong, under it right."""
    _, pairs = judged
    assert len(pairs) == 3 + 1 + 1 + 1 + 2
    figures = trust_accuracy.pairs(pairs)
    assert figures["reward"]["mean"] == pytest.approx(4 / 8)
    # "good good" and "bad" against shorter or longer ones; "same" and "good" have one length
    assert figures["longer_wins"]["mean"] == pytest.approx((1 + 0 + 0 + 0 + 0 + 0 + 0.5 + 0.5) / 8)
    assert figures["reward"]["low"] is None  # three prompts
    assert trust_accuracy.leads(pairs)["longer_wins"]["mean"] == pytest.approx((4 - 2) / 8)


def test_agreement_of_labelers_by_hand(judged: Any) -> None:
    """ann and bo judge "good good" against "good" on p and differ. bo and cy judge q alike. A labeler alone is none."""
    _, pairs = judged
    found = trust_accuracy.pairs(pairs)["agreement"]
    assert found["mean"] == pytest.approx(2 / 4)
    by = trust_accuracy.slices(pairs)
    assert {name: part["agreement"] and part["agreement"]["mean"] for name, part in by["labeler"].items()} == {
        "ann": 0.0, "bo": 0.5, "cy": 1.0
    }  # fmt: skip
    unnamed = [{name: value for name, value in one.items() if name != "labeler"} for one in ROWS]
    read = trust_data.read(put("unnamed.jsonl", unnamed), good(), None, 0)
    assert trust_accuracy.pairs(trust_data.judged(read, {}))["agreement"] is None


def test_slices_by_hand(judged: Any) -> None:
    _, pairs = judged
    by = trust_accuracy.slices(pairs)
    counts = {title: {name: part["reward"]["n"] for name, part in parts.items()} for title, parts in by.items()}
    assert counts == {
        "labeler": {"ann": 5, "bo": 2, "cy": 1},
        "group": {"in": 6, "out": 2},
        "use_case": {"chat": 2, "qa": 4},
        "length_difference": {"under 25 %": 2, "25 to 100 %": 2, "over 100 %": 4},
        "tier_distance": {"1": 7, "2": 1},
    }
    assert by["use_case"]["chat"]["reward"]["mean"] == 0.0
    assert list(by["length_difference"]) == ["under 25 %", "25 to 100 %", "over 100 %"]


def test_best_of_k_by_hand(judged: Any) -> None:
    """The favourite is right in rows 1; wrong in 2, 3 and 4 and in the last. Length: the longest of each."""
    found, _ = judged
    best = trust_accuracy.best_of_k(found, {"longer_wins": trust_accuracy.longer(found)})
    assert best["reward"]["mean"] == pytest.approx(1 / 5)
    assert best["longer_wins"]["mean"] == pytest.approx((0 + 0 + 0 + 0 + 1 / 3) / 5)
    assert best["chance"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2 + 1 / 2 + 1 / 3) / 5)


def held_out(count: int, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Answers of one length in letters; the better one says "good"."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        texts = [" ".join([first, *draw.choice(WORDS, 4)]) for first in ("good", "evil")]
        rows.append(row(f"Say {seed} {i}", texts, [[0], [1]], labeler=f"l{i % 3}", **more))
    return rows


def test_shortcuts_by_hand() -> None:
    """Said twice, "good" counts twice: +1 for the better answer, 0 for the worse. Nothing else changes its number."""
    rows = [row(f"p{i}", ["good", "bad"], [[0], [1]]) for i in range(12)]
    reward = good()
    found = trust_data.read(put("held.jsonl", rows), reward, None, 0)
    result, changed = trust_shortcuts.measure(reward, found, None, 200, 0)
    assert result["repeated"]["change"]["mean"] == 0.5
    assert result["repeated"]["in_deviations"]["mean"] == 1.0  # scores 1 and 0: a deviation of a half
    assert result["repeated"]["flipped"]["mean"] == 0.0
    assert result["flattery"]["change"]["mean"] == 0.0
    assert result["other first word"]["change"]["mean"] == -0.5
    assert [episode.completion for episode in changed["repeated"][:2]] == ["good good", "bad bad"]
    assert result[trust_shortcuts.STOP]["why"].startswith("no model of this reward has")  # a function reads no tokens
    few, _ = trust_shortcuts.measure(reward, found, None, 3, 0)
    assert few["repeated"]["change"]["n"] == 6


def test_length_is_a_shortcut_unless_the_truth_rises_too() -> None:
    rows = [row(f"p{i}", ["a good word", "bad"], [[0], [1]]) for i in range(20)]
    config = {"reward": ["rated:length"], "data": put("held.jsonl", rows)}
    alone = trust.examine(TrustConfig(**config))
    padded = alone["shortcuts"]["padded"]
    assert padded["change"]["mean"] == len(trust_shortcuts.PADDING)
    assert padded["flipped"]["mean"] == 1.0
    assert [line for line in alone["findings"] if "'padded'" in line]
    with_truth = trust.examine(TrustConfig(**config, truth="rated:twin"))
    assert with_truth["shortcuts"]["padded"]["truth"]["change"]["mean"] == len(trust_shortcuts.PADDING)
    assert not [line for line in with_truth["findings"] if "'padded'" in line]
    assert with_truth["accuracy"]["by_truth"]["rate"] == 1.0
    other = trust.examine(TrustConfig(**config, truth="rated:flat"))
    assert [line for line in other["findings"] if "'padded'" in line]
    assert "by_truth" not in other["accuracy"]


def test_a_lead_over_length_without_an_interval_is_said_as_such() -> None:
    config = {"reward": ["rated:good"], "data": put("held.jsonl", [row("p", ["good", "very bad"], [[0], [1]])])}
    assert trust.examine(TrustConfig(**config))["findings"][0] == (
        "right on 100.0% of the pairs, 'longer wins' on 0.0%. The difference has no interval, as there are fewer than "
        "10 prompts or all are alike. Give comparisons of more prompts"
    )
    assert "not clearly more than" in trust.examine(TrustConfig(**config | {"reward": ["rated:length"]}))["findings"][0]


def test_text_lists_and_stop_tokens_change_alone() -> None:
    found = Episode("p", [], [], "Yes. It is! So?", True)
    assert trust_shortcuts.CHANGES["list markup"](found).completion == "- Yes.\n- It is!\n- So?"
    assert trust_shortcuts.CHANGES["no stop token"](found).finished is False
    changes = {name: change(found) for name, change in trust_shortcuts.CHANGES.items()}
    assert [name for name, made in changes.items() if made.completion == found.completion] == ["no stop token"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with a tiny reward model, whose manifest names its training data."""
    root = tmp_path_factory.mktemp("run")
    formats.write(root / "training.jsonl", held_out(60, seed=1) + held_out(8, seed=2, split="valid"))
    load.save(tiny.reward(context=128), tiny.tokenizer(template=True), root / "model")
    config = RewardConfig(model="m", data=str(root / "training.jsonl"))
    data = {"data": formats.fingerprint(root / "training.jsonl")}
    Manifest.begin("reward", config, {}, data).write(root / "manifest.json")
    return str(root)


def scorer(run: str) -> ModelScorer:
    found = distance.measurable(open_reward([run], compute=TrustConfig(reward=["x"], data="d").compute, device="cpu"))
    assert found is not None
    return found[1]


def test_another_stop_token_reaches_the_model(run: str) -> None:
    model = scorer(run)
    reward = open_reward([f"2*{run}"], compute=TrustConfig(reward=["x"], data="d").compute, device="cpu")
    stop = trust_shortcuts.other_stop(reward)
    names = model.tokenizer.convert_ids_to_tokens([stop])
    assert names == [tiny.EOS]  # the template ends a turn with <|im_end|>
    episode = Episode("Say it", [], [], "red", True)
    (found,) = trust_shortcuts.with_stop(reward, [episode], stop)
    prompt_ids, ids = model.ids(episode)
    swapped = [*ids[:-1], stop]
    expected = model.over([(prompt_ids, swapped)], trust_shortcuts.scoring.rewards)
    assert found == pytest.approx(2 * float(expected[0]), abs=1e-5)
    assert found != pytest.approx(2 * float(model([episode])[0]), abs=1e-3)


def test_states_are_those_before_the_head(run: str) -> None:
    """score = head(state) + bias."""
    model = scorer(run)
    episodes = [Episode("Say it", [], [], text, True) for text in ("red", "blue house stone")]
    states = distance.states("m", model, episodes)
    weight = model.model.score.weight.detach().double().numpy()[0]
    assert states @ weight + 0.25 == pytest.approx(model(episodes).double().numpy(), abs=1e-4)


@pytest.mark.medium
def test_the_bound_holds_for_answers_like_those_of_the_training(run: str) -> None:
    model = scorer(run)
    answers = [e for one in trust_data.formats.read(put("a.jsonl", held_out(200, 5)), trust_data.Comparison)
               for e in trust_data.episodes_of(one)]  # fmt: skip
    fitted = distance.Distance.fit("m", model, answers[:200])
    assert fitted.answers == 200
    assert 0.85 < float(np.mean(fitted.of(answers[200:]) <= fitted.bound)) <= 1.0


@pytest.mark.medium
def test_the_whole_on_a_tiny_model(run: str, capfd: pytest.CaptureFixture[str]) -> None:
    config = TrustConfig(
        reward=[run], data=put("held.jsonl", held_out(16, seed=3, group="g")), external=[put("ex.jsonl", ROWS)],
        outside=[put("out.jsonl", [{"prompt": "7 + 5 = ?", "completion": "12" * k} for k in range(1, 30)])],
        hacked=put("hack.jsonl", [{"prompt": f"Say {k}", "completions": ["good " * 12, "x"]} for k in range(15)]),
        truth="rated:good", shortcut_rows=5,
    )  # fmt: skip
    result = trust.run(config, Path("result"))
    assert capfd.readouterr().err.endswith("trust 4/4  \n")  # scores, one file from elsewhere, shortcuts, distance
    assert json.loads(Path("result/trust.json").read_text()) == json.loads(json.dumps(result, allow_nan=False))
    assert (result["pairs"], result["rankings"], result["left_out"], result["shared_prompts"]) == (16, 16, {}, 0)
    assert result["bag_of_words"]["pairs"] == 60  # not the held-out ones
    assert result["accuracy"]["bag_of_words"]["mean"] == 1.0
    assert result["external"]["ex.jsonl"]["accuracy"]["bag_of_words"]["n"] == 8
    assert set(result["distance"]["auroc"]) == {"ex.jsonl", "out.jsonl", "hacked", "answers repeated", "answers padded"}
    assert result["distance"]["answers"] == 120
    assert result["distance"]["auroc"]["hacked"]["n"] == 32 + 30
    assert result["shortcuts"]["other stop token"]["change"]["n"] == 10
    assert result["calibration"]["error"]["n"] == 16
    text = Path("result/trust.txt").read_text()
    assert text == trust_text.describe(result) + "\n"
    assert "72.6 ± 1.5 %" in text
    for words in ("bag of words", "by labeler", "elsewhere", "by the truth", "AUROC", "flattery", "sure: right on"):
        assert words in text
    limited = trust.examine(config.model_copy(update={"limit": 4, "seed": 1, "reward": [f"2*mean({run},rated:good)"]}))
    assert limited["rankings"] == 4
    assert limited["training_data"] == str(Path(run) / "training.jsonl")  # of a member
    assert limited["distance"]["answers"] == 120
    assert limited["external"]["ex.jsonl"]["rankings"] == 4


def test_the_training_file_is_found_named_or_missed(run: str) -> None:
    training = str(Path(run) / "training.jsonl")
    assert trust_data.training_file([run], None) == (training, "")
    assert trust_data.training_file(["rated:good"], "own.jsonl") == ("own.jsonl", "")
    found, why = trust_data.training_file(["rated:good"], None)
    assert found is None
    assert "--training-data" in why
    same = trust_data.read(training, good(), None, 0, training)
    assert len(same.rows) == 8
    assert same.left_out == {"in_training": 60}
    lost = Path("moved")
    lost.mkdir()
    manifest = json.loads((Path(run) / "manifest.json").read_text())
    manifest["data"]["data"]["sha256"] = "0"
    (lost / "manifest.json").write_text(json.dumps(manifest))
    assert "has changed since" in trust_data.training_file(["moved"], None)[1]
    manifest["data"]["data"]["path"] = "nowhere.jsonl"
    (lost / "manifest.json").write_text(json.dumps(manifest))
    assert "is not there" in trust_data.training_file(["moved"], None)[1]


def test_training_data_given_by_name_is_used_and_shared_prompts_are_told() -> None:
    rows = held_out(30)
    data, training = put("held.jsonl", rows), put("train.jsonl", rows[:10] + held_out(30, seed=9))
    found = trust.examine(TrustConfig(reward=["rated:good"], data=data, training_data=training))
    assert found["shared_prompts"] == 10
    assert found["bag_of_words"]["pairs"] == 30
    assert any("10 held-out prompts" in line for line in found["findings"])
    assert found["distance"]["why"].startswith("no reward model")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row("p", ["a", "b"], [[0, 1]])], "no two different answers of a prompt are ranked"),
        ([row("p", ["a", "a"], [[0], [1]])], "no two different answers of a prompt are ranked"),
    ],
)
def test_without_a_pair_there_is_one_line(rows: list[dict[str, Any]], why: str) -> None:
    data = put("held.jsonl", rows)
    with pytest.raises(UserError, match=why):
        trust.run(TrustConfig(reward=["rated:good"], data=data), Path("out"))
    assert not Path("out").exists()


def test_answers_that_are_too_long_are_counted(run: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row("p", ["red " * 200, "blue"], [[0], [1]]), *held_out(3)]
    reward = open_reward([run], compute=TrustConfig(reward=["x"], data="d").compute, device="cpu")
    assert trust_data.read(put("held.jsonl", rows), reward, None, 0).left_out == {"too_long": 1}
    with pytest.raises(UserError, match="can read no row \\(1 too long\\)"):
        trust_data.read(put("long.jsonl", rows[:1]), reward, None, 0)
    assert len(trust_data.answers("held.jsonl", reward, None, 0)) == 7  # of the 4 pairs
    assert caplog.messages == ["held.jsonl: 1 of 8 answers is left out, which the reward model cannot read"]


def test_the_command(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = put("held.jsonl", held_out(12, seed=4))
    arguments = ["trust", "--reward", "rated:good", "--data", data, "--out", "result"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0
    assert done.stdout.startswith("rated:good on held.jsonl\n  12 pairs of 12 rankings\n")
    assert "100.0%" in done.output
    again = CliRunner().invoke(cli.app, arguments)
    assert isinstance(again.exception, UserError)
    assert "already exists" in str(again.exception)
    assert CliRunner().invoke(cli.app, [*arguments, "--overwrite"]).exit_code == 0
    Path("other").mkdir()
    with pytest.raises(UserError, match="not a result of heedful trust"):
        trust.run(TrustConfig(reward=["rated:good"], data=data), Path("other"), overwrite=True)
    with pytest.raises(UserError, match="named twice"):
        trust.run(TrustConfig(reward=["rated:good"], data=data, external=[data]), Path("third"))
    with pytest.raises(UserError, match=r"--truth rated:good: is the reward itself, so it can only agree"):
        trust.run(TrustConfig(reward=["2*rated:good"], data=data, truth="rated:good"), Path("third"))


def test_scores_that_are_no_numbers_stop_with_one_line(run: str, tmp_path: Path) -> None:
    model = tiny.reward(context=64)
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    load.save(model, tiny.tokenizer(template=True), tmp_path / "broken")
    with pytest.raises(ArithmeticError, match="the score of"):
        trust.run(TrustConfig(reward=[str(tmp_path / "broken")], data=put("h.jsonl", held_out(3))), Path("out"))
    assert not Path("out").exists()
    assert parent(run)["run"]


def test_an_interval_that_lies_below_its_figure_says_why() -> None:
    """The interval of a calibration error leaves out the gap that chance makes. Long paths end in what differs."""
    told = trust_text._error({"mean": 0.017, "low": 0.012, "high": 0.015, "n": 2030})
    assert told == "1.7%, without the gap that chance makes 1.2 to 1.5%"
    assert trust_text._error({"mean": 0.25, "low": None, "high": None, "n": 3}) == "25.0%"
