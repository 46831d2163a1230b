"""The loop of PPO: what is kept, what stops it, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from heedful.config import NonFinite, UserError
from heedful.files import read_json
from heedful.learning import examples, online, rollouts
from heedful.learning.examples import TokenLimits
from heedful.learning.experience import describe
from heedful.learning.steps import Learner
from heedful.rollout.types import Stream
from heedful.runs.run import metrics
from heedful.stages import ppo
from heedful.training.stage_run import StageRun
from stages import worlds
from stages.turns import LETTER, PLAIN, Turn
from stages.worlds import Files


@pytest.fixture(scope="module")
def run(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a reward of two parts, every checkpoint kept, one update an iteration."""
    return worlds.train(
        "ppo", files, tmp_path_factory.mktemp("ppo") / "run",
        reward=[f"0.5*{files.judge}", f"2*{LETTER}"], minibatch=8, ema_decay=0.6, checkpoint={"every": 1, "keep": 9},
    )  # fmt: skip


@pytest.mark.medium
def test_the_first_minibatch_of_every_iteration_has_ratio_one(run: Path) -> None:
    rows = metrics(run)
    assert len(rows) == 4
    assert all(row["logprob_gap"] < 3e-5 for row in rows)
    assert any(row["logprob_gap"] > 0 for row in rows)  # rounding, since sampling and scoring are two computations
    assert abs(rows[0]["kl"]) < 1e-5
    assert all(abs(row["kl"]) > 1e-3 for row in rows[1:])
    assert all(row["ratio"] == pytest.approx(1.0, abs=1e-5) for row in rows)  # one minibatch an iteration


@pytest.mark.medium
def test_low_precision_runs_and_stays_near(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", episodes=16, compute={"dtype": "bfloat16"})
    rows = metrics(run)
    assert all(row["logprob_gap"] < 0.2 for row in rows)
    assert abs(rows[0]["kl"]) < 0.05
    assert read_json(run / "manifest.json")["results"]["signs"] == []
    assert load_file(run / "model" / "model.safetensors")["model.norm.weight"].dtype == torch.float32


@pytest.mark.medium
def test_a_reward_is_a_weighted_sum_whose_parts_are_logged(files: Files, run: Path) -> None:
    row = metrics(run)[0]
    judge, letter = row[f"score/{files.judge}"], row[f"score/{LETTER}"]
    assert letter > 0
    assert row["score"] == pytest.approx(0.5 * judge + 2 * letter, abs=1e-6)
    alone = Turn(worlds.config("ppo", files)).experience
    assert judge == pytest.approx(alone.scores.raw_B.mean().item(), abs=1e-5)
    assert not any(key.startswith("score/") for key in describe(alone, kl_coef=0.1))


@pytest.mark.medium
def test_without_pretraining_data_there_is_no_pretraining_gradient(files: Files, tmp_path: Path, run: Path) -> None:
    assert "ptx_loss" in metrics(run)[0]
    plain = worlds.train("ppo", files, tmp_path / "run", episodes=8, pretrain_data=None)
    assert "ptx_loss" not in metrics(plain)[0]


def test_the_model_is_the_average_and_the_checkpoints_hold_both(files: Files, run: Path) -> None:
    steps = sorted((run / "checkpoints").glob("step-*"))
    assert len(steps) == 4
    average = load_file(Path(files.policy) / "model.safetensors")
    for step in steps:
        raw = load_file(step / "policy.safetensors")
        average = {name: 0.6 * weight + 0.4 * raw[name] for name, weight in average.items()}
    saved = load_file(run / "model" / "model.safetensors")
    for name, weight in average.items():
        torch.testing.assert_close(saved[name], weight, rtol=0, atol=1e-6)
    assert max(float((raw[name] - saved[name]).abs().max()) for name in raw) > 1e-4


@pytest.mark.medium
def test_no_averaging_gives_the_raw_weights(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", episodes=16, ema_decay=0.0, **PLAIN)
    raw = load_file(run / "checkpoints" / "step-00000002" / "policy.safetensors")
    saved = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(raw[name], saved[name]) for name in raw)


def test_the_manifest_says_where_the_value_net_came_from(files: Files, run: Path) -> None:
    manifest = read_json(run / "manifest.json")
    assert manifest["value_from"] == manifest["results"]["value_from"] == f"{files.judge} (reward model, with its head)"
    assert set(manifest["parents"]) == {"policy", "reward.0"}
    assert set(manifest["data"]) == {"prompts", "pretrain_data"}
    assert manifest["results"]["steps"] == 4


def test_samples_can_be_read(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 16  # four at each of four checkpoints
    assert all(row["prompt"].startswith("Say ") and isinstance(row["score"], float) for row in rows)
    assert {row["step"] for row in rows} == {0, 1, 2, 3}


@pytest.mark.medium
def test_the_average_answers_but_the_raw_policy_is_sampled(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And samples name the iteration whose weights made them."""
    seen, versions = [], []
    generate = rollouts.generate

    def noted(engine: Any, *rest: Any) -> Any:
        samples = generate(engine, *rest)
        seen.append(engine.model)
        versions.extend(sample.versions for sample in samples)
        return samples

    monkeypatch.setattr(rollouts, "generate", noted)
    config = worlds.config("ppo", files, episodes=16, **PLAIN)
    nets: list[ppo.PPONetworks] = []
    networks = ppo._networks
    monkeypatch.setattr(ppo, "_networks", lambda *a: nets.append(networks(*a)) or nets[-1])
    ppo.train(config, tmp_path / "run")
    assert seen == [nets[0].policy] * 2
    assert versions == [[(0, 0)]] * 8 + [[(1, 0)]] * 8
    assert nets[0].average.model is not nets[0].policy


@pytest.mark.medium
def test_one_stream_an_episode(files: Files, turn: Turn) -> None:
    """Row r of an iteration is what the stream (seed, iteration, r) gives, alone or in company."""
    config = turn.config
    for row in (0, 6):
        sample = turn.experience.episodes[row]
        (alone,) = turn.nets.engine.generate([sample.prompt_ids], [Stream(0, 0, row)], config.generation)
        assert alone.response_ids == sample.response_ids
    assert len({tuple(sample.response_ids) for sample in turn.experience.episodes}) == 8


@pytest.mark.medium
def test_ppo_learns_what_is_rewarded(files: Files, tmp_path: Path) -> None:
    """The share of the letter e in the answers, from 5 %, within six iterations."""
    changes = {
        "reward": [LETTER], "episodes": 6 * 64, "rollout_batch": 64, "minibatch": 16, "kl_coef": 0.0,
        "optimiser": {"lr": 2e-2}, "value_optimiser": {"lr": 5e-3}, "compute": {"micro_tokens": 4096},
        "checkpoint": {"every": 100}, **PLAIN,
    }  # fmt: skip
    scores = [row["score"] for row in metrics(worlds.train("ppo", files, tmp_path / "run", **changes))]
    assert scores[0] < 0.06
    assert scores[-1] > 3 * scores[0]


@pytest.mark.parametrize(
    ("changes", "kl", "expected"),
    [
        ({}, 50.0, 0.1),
        ({"kl_target": 5.0, "kl_horizon": 100}, 10.0, 0.1 * (1 + 0.2 * 8 / 100)),
        ({"kl_target": 5.0, "kl_horizon": 400}, 4.5, 0.1 * (1 - 0.1 * 8 / 400)),
        ({"kl_ceiling": 6.0, "at_ceiling": "raise"}, 6.5, 0.15),
        ({"kl_ceiling": 6.0, "at_ceiling": "raise"}, 5.5, 0.09),  # it had been raised
        ({"kl_ceiling": 6.0, "at_ceiling": "raise", "kl_coef": 0.095}, 5.5, 0.095),  # down to that of the config
        ({"kl_ceiling": 6.0, "at_ceiling": "raise", "kl_coef": 0.2}, 5.5, 0.1),
        ({"kl_ceiling": 6.0, "at_ceiling": "raise", "kl_target": 5.5}, 5.5, 0.1),  # the target moves it alone
        ({"kl_ceiling": 6.0, "kl_coef": 0.1}, 5.5, 0.1),
    ],
)
def test_the_next_coefficient(files: Files, changes: dict[str, Any], kl: float, expected: float) -> None:
    found = online.next_kl_coef(worlds.config("ppo", files, **changes), 0.1, kl, 3)
    assert found == (pytest.approx(expected), None)


def test_a_ceiling_acts_without_a_penalty_and_lets_go(files: Files) -> None:
    """From 0 to the paper's 0.02, up by half, down by a tenth, and back to 0."""
    config, coefs, coef = worlds.config("ppo", files, kl_coef=0.0, kl_ceiling=6.0, at_ceiling="raise"), [], 0.0
    for done, kl in enumerate([5.0, 7.0, 7.0, *[5.0] * 5]):
        coef, _ = online.next_kl_coef(config, coef, kl, done)
        coefs.append(coef)
    assert coefs == pytest.approx([0, 0.02, 0.03, 0.027, 0.0243, 0.02187, 0, 0])
    online._check("ppo", config)


@pytest.mark.medium
def test_passing_the_ceiling_stops_the_run_for_good(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", kl_ceiling=0.001, **PLAIN)
    manifest = read_json(run / "manifest.json")
    assert manifest["status"] == "finished"
    kl = [row["kl"] for row in metrics(run)]
    assert len(kl) < 4
    assert kl[-1] > 0.001 >= max(kl[:-1])
    assert manifest["results"]["stopped"].startswith(f"stopped after iteration {len(kl)}: sequence KL")
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    assert newest.name == f"step-{len(kl):08d}"


@pytest.mark.medium
def test_a_stop_survives_a_crash_right_after_it(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageRun, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            worlds.train("ppo", files, tmp_path / "run", kl_ceiling=0.001, **PLAIN)
    steps = len(metrics(tmp_path / "run"))
    worlds.train("ppo", files, tmp_path / "run", resume=True, kl_ceiling=0.001, **PLAIN)
    assert len(metrics(tmp_path / "run")) == steps
    assert read_json(tmp_path / "run" / "manifest.json")["results"]["stopped"]


@pytest.mark.medium
def test_above_the_ceiling_the_coefficient_grows(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", kl_ceiling=0.001, at_ceiling="raise", kl_coef=0.02, **PLAIN)
    coefs = [row["kl_coef"] for row in metrics(run)]
    assert len(coefs) == 4
    assert coefs[-1] in [pytest.approx(0.02 * 1.5**n) for n in (1, 2, 3)]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    """`poison(network, step)`: a NaN in one weight of a network after that step was saved."""
    nets: list[ppo.PPONetworks] = []
    networks, checkpoint = ppo._networks, StageRun.checkpoint

    def arrange(network: str, step: int) -> None:
        def then(run: StageRun, now: int, *args: Any, **kwargs: Any) -> None:
            checkpoint(run, now, *args, **kwargs)
            if now == step:
                with torch.no_grad():
                    next(getattr(nets[-1], network).parameters()).fill_(float("nan"))

        monkeypatch.setattr(StageRun, "checkpoint", then)

    monkeypatch.setattr(ppo, "_networks", lambda *args: nets.append(networks(*args)) or nets[-1])
    yield arrange
    monkeypatch.undo()


@pytest.mark.medium
@pytest.mark.parametrize(
    ("network", "named"),
    [
        ("policy", "a logit of the sampled policy"),
        ("value", "the value net's output"),
        ("reference", "the log-probability under the reference"),
    ],
)
def test_a_nan_in_the_weights_stops_cleanly_and_keeps_the_last_good_checkpoint(
    files: Files, tmp_path: Path, poison: Callable[[str, int], None], network: str, named: str
) -> None:
    poison(network, 1)
    with pytest.raises(UserError, match=f"{named} is not finite at step 3. The checkpoint of step 2 is kept") as stop:
        worlds.train("ppo", files, tmp_path / "run", **PLAIN)
    assert "\n" not in str(stop.value)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["status"] == "failed"
    assert named in manifest["reason"]
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
def test_a_run_that_failed_goes_on_when_the_cause_is_gone(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = ppo.learn

    def fail_once(config: Any, nets: Any, run: Any, experience: Any, step: int) -> Any:
        if step == 3:
            raise NonFinite("gradient of policy.x")
        return learn(config, nets, run, experience, step)

    whole = worlds.train("ppo", files, tmp_path / "whole", **PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(ppo, "learn", fail_once)
        with pytest.raises(UserError, match=r"gradient of policy\.x is not finite at step 4. The checkpoint of step 2"):
            worlds.train("ppo", files, tmp_path / "run", **PLAIN)
    worlds.train("ppo", files, tmp_path / "run", resume=True, **PLAIN)
    assert worlds.hashes(tmp_path / "run") == worlds.hashes(whole)
    assert "reason" not in read_json(tmp_path / "run" / "manifest.json")


@pytest.mark.medium
def test_a_reward_that_is_no_number(files: Files, tmp_path: Path) -> None:
    judge = tiny.reward(seed=1)
    judge.score.weight.data.fill_(float("nan"))
    broken = worlds.save(tmp_path / "judge", judge)
    with pytest.raises(UserError, match=f"the score of {broken} is not finite at step 1. There is no checkpoint yet"):
        worlds.train("ppo", files, tmp_path / "run", reward=[broken], **PLAIN)
    with pytest.raises(UserError, match=r"returned nan\. A reward must be a finite number"):
        worlds.train("ppo", files, tmp_path / "other", reward=["stages.worlds:no_number"], **PLAIN)


@pytest.mark.medium
def test_every_schedule_begins_at_a_tenth(files: Files, tmp_path: Path) -> None:
    """An iteration at a rate of 0 would be sampled for nothing."""
    optimiser = {"lr": 1e-3, "schedule": "cosine", "warmup": 3}
    run = worlds.train("ppo", files, tmp_path / "run", optimiser=optimiser, **PLAIN)
    assert [row["lr"] for row in metrics(run)][:2] == pytest.approx([1e-4, 4e-4])


@pytest.mark.medium
def test_weights_that_the_last_step_broke_are_not_kept(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "rate", lambda *_: 1e38)
    changes = PLAIN | {"episodes": 8, "minibatch": 8}
    with pytest.raises(UserError, match=r"the weight policy\.\S+ is not finite at step 1. There is no checkpoint yet"):
        worlds.train("ppo", files, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": {"top_p": 0.9}}, "PPO samples from the policy itself"),
        ({"kl_target": 1.0, "kl_coef": 0.0}, "kl_target multiplies kl_coef, and 0 stays 0"),
        ({"generation": {"top_k": 5}}, "PPO samples from the policy itself"),
        ({"generation": {"temperature": 0.0}}, "PPO samples from the policy itself"),
        ({"minibatch": 3}, "rollout_batch 8 is not a multiple of minibatch 3"),
        (
            {"generation": {"max_new_tokens": 128}},
            "max_new_tokens 128 leaves no room for a prompt: .* 128 tokens in all",
        ),
        ({"max_prompt_tokens": 3}, r"prompt 1 has \d+ tokens, the most here is 3"),
        ({"reward": []}, "no reward given"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    files: Files, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        worlds.train("ppo", files, tmp_path / "run", **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_prompt_may_fill_the_context_up_to_the_answer(files: Files, tmp_path: Path) -> None:
    """Context 128, 28 new tokens: 100 tokens of prompt are fine, 101 are not, and skip_long leaves them out."""
    tokenizer = tiny.tokenizer()
    words = {n: "§" * n for n in range(1, 120)}
    fitting = {len(examples.render.prompt_ids(tokenizer, text)): text for text in words.values()}
    long = {n: fitting.get(n) or fitting[n - 1] + "§" for n in (100, 102)}
    sizes = sorted(len(examples.render.prompt_ids(tokenizer, text)) for text in long.values())
    data = worlds.write(tmp_path / "p.jsonl", [{"prompt": long[100]}, {"prompt": long[102]}])
    limits = TokenLimits(128, 1024, 0).leaving_room(28)
    assert sizes[0] <= 100 < sizes[1]
    with pytest.raises(UserError, match=r"prompt 2 has .* tokens, the most here is 100 .context 128."):
        examples.questions(data, tokenizer, limits)
    limits = TokenLimits(128, 1024, 0, skip_long=True).leaving_room(28)
    assert len(examples.questions(data, tokenizer, limits)) == 1


@pytest.mark.slow
def test_micro_batches_and_recomputed_activations_change_nothing(files: Files, tmp_path: Path) -> None:
    changes = {"episodes": 16, "ema_decay": 0.0}
    results = [
        load_file(worlds.train("ppo", files, tmp_path / name, **changes, compute=compute) / "model/model.safetensors")
        for name, compute in (
            ("one", {"micro_tokens": 10_000}),
            ("many", {"micro_tokens": 30}),
            ("again", {"micro_tokens": 10_000, "activation_checkpointing": True}),
        )
    ]
    for other in results[1:]:
        for name, weight in results[0].items():
            torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-5)
