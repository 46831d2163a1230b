"""Sampling ahead: the next answers are drawn while the policy learns, and weighted for that."""

from __future__ import annotations

import dataclasses
import os
import runpy
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.shared import Lora, TrainingCompute
from heedful.files import read_json
from heedful.learning import experience, rollouts
from heedful.learning.ahead import Rollouts
from heedful.maths.statistics import ends, win_rate
from heedful.models import adapters, load
from heedful.rollout.engine import open_engine
from heedful.rollout.local import SamplingLoop
from heedful.rollout.types import Episode, SampledToken, Stream
from heedful.runs.run import metrics
from heedful.stages import ppo
from stages import worlds
from stages.test_resume import FORK, assert_same
from stages.turns import LETTER, PLAIN, Turn
from stages.worlds import Files

AHEAD: dict[str, Any] = {"ahead": 1, "episodes": 24, "checkpoint": {"every": 2}, **PLAIN}
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


def killed_before_the_update(stage: str, files: Files, out: Path) -> None:
    """Iteration 2 has its answers, and those of the next are being sampled."""
    episodes = Rollouts.episodes

    def then(self: Rollouts, step: int) -> list[Episode]:
        found = episodes(self, step)
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Rollouts.episodes = then  # type: ignore[method-assign]
    worlds.train(stage, files, out, **AHEAD)


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["ppo", "rloo"])
def test_a_run_killed_between_rollout_and_update_ends_with_the_same_bytes(
    files: Files, tmp_path: Path, stage: str
) -> None:
    whole = worlds.train(stage, files, tmp_path / "whole", **AHEAD)
    child = FORK.Process(target=killed_before_the_update, args=(stage, files, tmp_path / "run"))
    child.start()
    child.join(300)
    assert child.exitcode == -signal.SIGKILL
    state = read_json(tmp_path / "run" / "checkpoints" / "step-00000002" / "state.json")
    assert len(state["ahead"]) == 8  # the answers of the third iteration
    assert_same(worlds.train(stage, files, tmp_path / "run", resume=True, **AHEAD), whole)
    rows = metrics(whole)
    assert [row.get("mismatch/age") for row in rows] == [None, 1.0, 1.0]
    assert all(0 < row["mismatch/kl"] < 0.05 and 0.9 < row["mismatch/effective"] < 1 for row in rows[1:])
    assert all(row["logprob_gap"] < 1e-4 for row in rows)  # the ratio starts at 1: it is not that of the sampler


@pytest.mark.medium
def test_answers_come_from_the_weights_before_while_the_policy_learns(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread waits for the update to begin, and yet samples from the weights before it."""
    learning, drawn, draw, step = threading.Event(), {}, rollouts.draw, ppo.policy_step

    def waits(*args: Any, iteration: int, **rest: Any) -> Any:
        if iteration:
            assert threading.current_thread() is not threading.main_thread()
            assert learning.wait(300)
        drawn[iteration] = draw(*args, iteration=iteration, **rest)
        return drawn[iteration]

    def learns(*args: Any, **rest: Any) -> None:
        step(*args, **rest)  # the weights have moved
        learning.set()

    monkeypatch.setattr(rollouts, "draw", waits)
    monkeypatch.setattr(ppo, "policy_step", learns)
    changes = AHEAD | {"ahead": 1, "episodes": 16, "optimiser": {"lr": 0.1}}
    worlds.train("ppo", files, tmp_path / "run", **changes)
    config = worlds.config("ppo", files)
    engine = open_engine(*load.load_policy(files.policy), config.compute)
    for iteration in (0, 1):
        samples = [sample for (sample,) in drawn[iteration]]
        streams = [Stream(0, iteration, row) for row in range(8)]
        assert samples == engine.generate([s.prompt_ids for s in samples], streams, config.generation)


@pytest.mark.medium
def test_an_error_of_the_update_ends_the_thread(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would sample for hours. A thread in the midst of torch would abort the process."""
    sampling, step = threading.Event(), SamplingLoop.step

    def endless(self: SamplingLoop) -> list[SampledToken]:
        if threading.current_thread() is threading.main_thread():
            return step(self)
        sampling.set()
        return []

    def breaks(*args: Any, **rest: Any) -> None:
        assert sampling.wait(300)
        raise UserError("the update fails")

    monkeypatch.setattr(SamplingLoop, "step", endless)
    monkeypatch.setattr(ppo, "policy_step", breaks)
    with pytest.raises(UserError, match="the update fails"):
        worlds.train("ppo", files, tmp_path / "run", **AHEAD)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rollout")]


@pytest.mark.medium
def test_an_error_of_the_thread_is_that_of_the_run(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = rollouts.draw

    def lost(*args: Any, iteration: int, **rest: Any) -> Any:
        if iteration == 2:
            raise UserError("no inference server is left")
        return draw(*args, iteration=iteration, **rest)

    monkeypatch.setattr(rollouts, "draw", lost)
    with pytest.raises(UserError, match=r"^no inference server is left$"):
        worlds.train("ppo", files, tmp_path / "run", **AHEAD)
    assert len(metrics(tmp_path / "run")) == 1


@pytest.fixture(scope="module")
def turn(files: Files) -> Turn:
    return Turn(worlds.config("ppo", files, **PLAIN))


@pytest.mark.parametrize("correction", ["auto", "token", "sequence", "off"])
@pytest.mark.parametrize("stage", ["ppo", "rloo"])
def test_advantages_are_weighted_by_the_correction(files: Files, turn: Turn, stage: str, correction: str) -> None:
    """Each token is e^0.1 times as likely as when it was sampled. `correction_cap` cuts."""
    if stage == "rloo" and correction == "token":
        with pytest.raises(UserError, match=r"^RLOO takes a whole answer as one action"):
            worlds.train(stage, files, "never", correction=correction)
        return
    e = turn.experience
    older = [dataclasses.replace(one, logprobs=[x - 0.1 for x in one.logprobs or []], age=1) for one in e.episodes]
    config = worlds.config(stage, files, ahead=1, correction=correction, correction_cap=1.5, **PLAIN)
    how: Any = {"level": config.corrected, "measured": config.one_action, "cap": config.correction_cap}
    found, said = experience.correct(dataclasses.replace(e, episodes=older), **how)
    lengths = e.mask_BT.sum(1, keepdim=True)
    whole = correction == "sequence" or stage == "rloo"
    weights = {True: (0.1 * lengths).exp().clamp(max=1.5), False: torch.tensor(0.1).exp()}[whole]
    expected = e.advantages_BT * (1 if correction == "off" else weights)
    torch.testing.assert_close(found.advantages_BT, expected)
    assert said["mismatch/difference"] == pytest.approx(0.1, rel=1e-4)
    assert said["mismatch/age"] == 1
    assert said["mismatch/capped"] == pytest.approx(float((lengths > 4).float().mean()) if whole else 0)
    assert experience.correct(e, **how) == (e, {})  # the sampler is the old policy


@pytest.mark.medium
def test_a_policy_that_runs_away_shows_the_sign(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", **(AHEAD | {"optimiser": {"lr": 0.1}, "reward": [LETTER]}))
    signs = read_json(run / "manifest.json")["results"]["signs"]
    assert any("sampler and policy apart: KL" in sign for sign in signs)


@pytest.mark.medium
def test_what_is_unused_or_cannot_work_is_said(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"second copy of the policy, which 4 bits do not have. Take engine.kind"):
        worlds.train("ppo", files, tmp_path / "run", ahead=1, lora={"rank": 2, "load_in_4bit": True})
    for number, (changes, said) in enumerate([
        ({"correction": "sequence"}, "grpo: correction is unused with engine.kind = local and ahead = 0"),
        ({"correction_cap": 3.0}, "grpo: correction_cap is unused, since there is no correction"),
    ]):  # fmt: skip
        worlds.train("grpo", files, tmp_path / str(number), episodes=8, **changes, **PLAIN)
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(("wins", "said"), [(60, "within"), (90, "OUTSIDE")])
def test_the_comparison_says_whether_it_stays_in_the_interval(wins: int, said: str) -> None:
    """100 answers without sampling ahead, of which 60 win."""
    table = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "ahead.py"))["table"]

    def judged(count: int) -> dict[str, Any]:
        outcomes = [1.0] * count + [0.0] * (100 - count)
        rate = win_rate(outcomes)._asdict()
        return {"wins": rate, "outcomes": outcomes, "users": [str(i) for i in range(100)], "kl": 1.0}

    mismatch = {f"mismatch/{name}": 0.5 for name in ("kl", "capped", "effective")}
    found = table({1: {"judge": {"0": judged(60), "1": judged(wins)}, "ppo-1": mismatch}})
    assert found[-1] == f"ahead = 1 is {said} the interval of ahead = 0"
    assert f"60.0% ({ends(win_rate(judged(60)['outcomes']))})" in found[1]


@pytest.mark.parametrize("lora", [0, 2])
def test_a_copy_shares_no_weight_that_learns(lora: int) -> None:
    """With adapters it shares the base."""
    model = tiny.policy()
    adapters.add(model, Lora(rank=lora), seed=0, base="base")
    engine = open_engine(model, tiny.tokenizer(), TrainingCompute())
    with engine.gathered(apart=True):
        copied = {p.data_ptr() for p in engine.computing().parameters()}
        trained = {p.data_ptr() for p in model.parameters() if p.requires_grad}
        frozen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
        assert not copied & trained
        assert bool(copied & frozen) is bool(lora)
        assert not engine.computing().training
    assert engine.sampled is model
