"""What must differ from one iteration, micro-batch or step to the next, and what must not be lost between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.files import rows_of
from heedful.learning import examples, online, steps
from heedful.learning.examples import TokenLimits
from heedful.learning.passes import Passes
from heedful.models import heads
from heedful.runs.run import metrics
from heedful.stages import reward
from heedful.training.metrics import Means
from stages import plain, worlds
from stages.test_resume import Crash, at_step, crash
from stages.turns import ALONE, PLAIN, Turn
from stages.worlds import Files

STILL: dict[str, Any] = {
    "optimiser": {"lr": 0.0}, "reward": ["stages.worlds:count_e"], "ema_decay": 0.0, "checkpoint": {"every": 1}, **PLAIN
}  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("stage", worlds.ONLINE)
def test_every_iteration_samples_anew(files: Files, tmp_path: Path, stage: str) -> None:
    """One prompt, and a policy that does not move: only the random streams can make another text."""
    prompts = worlds.write(tmp_path / "one.jsonl", [{"prompt": "Say red"}])
    run = worlds.train(stage, files, tmp_path / "run", prompts=prompts, episodes=24, **STILL)
    texts = [[row["completion"] for row in rows_of(run / "samples.jsonl") if row["step"] == i] for i in range(3)]
    assert len(texts[0]) == 4
    assert len({tuple(sorted(texts[i])) for i in range(3)}) == 3


@pytest.mark.medium
def test_every_iteration_has_an_order_of_its_own(files: Files) -> None:
    turn = Turn(worlds.config("ppo", files, epochs=2, **PLAIN))
    number = {id(episode): i for i, episode in enumerate(turn.experience.episodes)}
    orders = [
        [number[id(e)] for minibatch in turn.run.minibatches(turn.experience, step) for e in minibatch.rows.episodes]
        for step in range(4)
    ]
    passes = [order[half : half + 8] for order in orders for half in (0, 8)]
    assert all(sorted(one) == list(range(8)) for one in passes)
    assert len({tuple(one) for one in passes}) == 8


@pytest.mark.medium
def test_the_penalty_of_a_missing_end_reaches_the_returns(files: Files) -> None:
    """With γ = λ = 1 the first return of an answer is its whole reward."""
    config = worlds.config("ppo", files, missing_eos_penalty=-50.0, gamma=1.0, lam=1.0, kl_coef=0.0, **PLAIN)
    e = Turn(config).experience
    finished = torch.tensor([episode.finished for episode in e.episodes])
    assert e.returns_BT is not None
    assert not finished.all()
    torch.testing.assert_close(e.returns_BT[:, 0], torch.where(finished, e.scores.raw_B, -50.0), atol=1e-4, rtol=0)


MOVING = {"target": {"kl_target": 1e-3, "kl_horizon": 8}, "ceiling": {"kl_ceiling": 1e-9, "at_ceiling": "raise"}}


@pytest.mark.medium
@pytest.mark.parametrize("moving", MOVING.values(), ids=MOVING)
def test_a_coefficient_that_has_moved_survives_a_resume(files: Files, tmp_path: Path, moving: dict[str, Any]) -> None:
    changes = {"reward": ["stages.worlds:count_e"], "optimiser": {"lr": 1e-2}, **PLAIN, **moving}
    worlds.train("ppo", files, tmp_path / "whole", **changes)
    with pytest.raises(Crash), at_step(2, crash):
        worlds.train("ppo", files, tmp_path / "run", **changes)
    worlds.train("ppo", files, tmp_path / "run", resume=True, **changes)
    coefs, whole = ([row["kl_coef"] for row in metrics(tmp_path / name)] for name in ("run", "whole"))
    assert coefs == whole
    assert len(set(coefs[:3])) > 1  # it had moved before


@pytest.mark.medium
def test_the_bias_counts_every_demonstration_once(files: Files) -> None:
    """Passes of unequal size: the mean of their means is another number."""
    model = tiny.reward()
    rows = [row for _, row in examples.demonstrations(files.demos, tiny.tokenizer(), TokenLimits(128, 128, 128))]
    passes = Passes(1, 150, ALONE)
    cut = passes.cut(model, rows)
    assert len({len(part) for part in cut}) > 1
    each = [reward.mean_score(model, [row], Passes(1, 10_000, ALONE)) for row in rows]
    of_means = sum(sum(each[i] for i in part) / len(part) for part in cut) / len(cut)
    assert reward.mean_score(model, rows, passes) == pytest.approx(sum(each) / len(each), abs=1e-5)
    assert abs(of_means - sum(each) / len(each)) > 1e-4  # else the mistake would not show


@pytest.mark.medium
def test_the_value_gradient_is_that_of_the_mean_over_the_minibatch(files: Files) -> None:
    """However it is cut: each token counts once, in a long answer as in a short one."""
    turn = Turn(worlds.config("ppo", files, **PLAIN))
    gradients = []
    for micro_tokens in (10_000, 40):
        passes = dataclasses.replace(turn.passes, micro_tokens=micro_tokens)
        minibatch = steps.minibatch(turn.experience, list(range(8)), model=turn.nets.value, passes=passes)
        means = Means()
        steps.value_gradients(turn.nets.value, minibatch, clip=0.2, passes=passes, means=means)
        ALONE.sum_gradients(turn.nets.value)
        gradients.append(
            (len(minibatch.passes), plain.gradient_norm(turn.nets.value), means.reduce(ALONE)["value_loss"])
        )
        turn.nets.value.zero_grad()
    (one, norm, loss), (several, other_norm, other_loss) = gradients
    assert one == 1 < several
    assert (other_norm, other_loss) == (pytest.approx(norm, rel=1e-4), pytest.approx(loss, rel=1e-4))


@pytest.mark.medium
def test_a_new_reward_head_has_its_scale(files: Files) -> None:
    """Normal with standard deviation 1/sqrt(D + 1), here of 1,024 weights, and without a bias of its own (R1)."""
    model = heads.reward_from_policy(tiny.policy(hidden=1024, layers=1), seed=0)
    weight = model.score.weight.detach()
    assert float(weight.std()) == pytest.approx(1025**-0.5, rel=0.08)
    assert abs(float(weight.mean())) < 3 * 1025**-0.5 / 32
    other = heads.reward_from_policy(tiny.policy(hidden=1024, layers=1), seed=1)
    assert not torch.equal(model.score.weight, other.score.weight)


@pytest.mark.parametrize("stage", worlds.ONLINE)
def test_the_rate_comes_down_to_the_end_of_the_run(files: Files, stage: str) -> None:
    """Linear over the iterations: 50 episodes are six of eight."""
    config = worlds.config(stage, files, episodes=50, optimiser={"lr": 0.6, "schedule": "linear", "warmup": 0})
    assert config.iterations == 6
    learner = steps.Learner("policy", None, None, config.optimiser)  # type: ignore[arg-type]
    assert [learner.rate(i, config.iterations) for i in range(6)] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.medium
@pytest.mark.parametrize("stage", worlds.ONLINE)
def test_the_logged_rate_is_that_of_its_iteration(files: Files, tmp_path: Path, stage: str) -> None:
    changes = STILL | {"optimiser": {"lr": 1e-9, "schedule": "linear", "warmup": 0}}
    run = worlds.train(stage, files, tmp_path / "run", episodes=24, **changes)
    assert [row["lr"] for row in metrics(run)] == pytest.approx([1e-9, 1e-9 * 2 / 3, 1e-9 / 3], rel=1e-5)


def quarter(prompts: list[Any], completions: list[str]) -> list[float]:
    """A reward that is always a quarter."""
    return [0.25] * len(completions)


@pytest.mark.medium
def test_the_reward_of_samples_is_a_mean(files: Files, tmp_path: Path) -> None:
    run = worlds.train(
        "sft", files, tmp_path / "run", epochs=1, prompts=files.prompts, select_samples=6,
        select_with="stages.test_iterations:quarter", generation={"max_new_tokens": 3},
    )  # fmt: skip
    assert [row["valid_reward"] for row in metrics(run) if "valid_reward" in row] == [0.25]


@pytest.mark.medium
@pytest.mark.parametrize(("stage", "name"), [("sft", "valid_loss"), ("reward", "valid_accuracy")])
def test_the_last_step_is_validated_whatever_the_number_of_evaluations(
    files: Files, tmp_path: Path, stage: str, name: str
) -> None:
    """Two in five steps: after the second, the fourth, and the last."""
    data = worlds.write(tmp_path / "data.jsonl", (worlds.demonstrations if stage == "sft" else worlds.rankings)(20))
    held_out = {"valid_data": files.demos} if stage == "sft" else {"eval_data": files.rankings}
    run = worlds.train(stage, files, tmp_path / "run", data=data, batch=4, epochs=1, evaluations=2, **held_out)
    assert len(metrics(run)) == 5
    assert [row["step"] for row in metrics(run) if name in row] == [1, 3, 4]


def test_next_coefficient_is_set_from_the_kl_of_its_iteration(files: Files) -> None:
    """Not from that of the run's start: the update follows each logged KL."""
    config, coef = worlds.config("ppo", files, kl_target=1.0, kl_horizon=8, kl_coef=0.1), 0.1
    for kl, expected in ((2.0, 0.12), (0.5, 0.096), (1.0, 0.096)):
        coef, _ = online.next_kl_coef(config, coef, kl, 1)
        assert coef == pytest.approx(expected)
