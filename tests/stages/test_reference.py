"""A reference of its own, and models that must read as many tokens as the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.files import read_json
from heedful.learning.examples import TokenLimits, rankings
from heedful.learning.passes import Passes
from heedful.models import load, render
from heedful.runs.manifest import parent
from heedful.runs.run import metrics
from heedful.stages import dpo
from stages import worlds
from stages.turns import ALONE, PLAIN, Turn
from stages.worlds import Files

STILL: dict[str, Any] = {
    "episodes": 8, "optimiser": {"lr": 0.0}, "reward": ["stages.worlds:count_e"], "ema_decay": 0.0, **PLAIN
}  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return worlds.save(tmp_path_factory.mktemp("other") / "model", tiny.policy(seed=5))


@pytest.mark.medium
@pytest.mark.parametrize("stage", worlds.ONLINE)
def test_the_kl_is_measured_from_the_named_reference(
    files: Files, other: str, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy does not move, and yet there is a KL: that of two models. No sign calls it a fault."""
    run = worlds.train(stage, files, tmp_path / "run", reference=other, **STILL)
    (row,) = metrics(run)
    assert row["kl"] > 0.01
    assert "KL at the start" not in capsys.readouterr().err
    assert read_json(run / "manifest.json")["parents"]["reference"] == parent(other)
    same = worlds.train(stage, files, tmp_path / "same", reference=files.policy, **STILL)
    assert metrics(same)[0]["kl"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.medium
def test_the_reference_of_dpo(files: Files, other: str, tmp_path: Path) -> None:
    data = {"model": files.policy, "data": files.rankings, "valid_fraction": 0.2}
    config = dpo.DPOConfig(reference=other, optimiser={"lr": 1e-3}, **data)
    dpo.train(config, tmp_path / "run")
    rows = rankings(files.rankings, tiny.tokenizer(), TokenLimits(128, 128, 128))[:3]
    model, _ = load.load_policy(other)
    (expected, *_), (found, *_) = (
        dpo.with_reference(one, rows, Passes(1, 1000, ALONE)) for one in (model, load.load_policy(files.policy)[0])
    )
    assert not torch.allclose(expected.reference_K, found.reference_K)
    first, plain = metrics(tmp_path / "run")[0], tmp_path / "plain"
    dpo.train(config.model_copy(update={"reference": None}), plain)
    assert metrics(plain)[0]["loss"] == pytest.approx(0.6931, abs=1e-4)  # at the start both are one model
    assert abs(first["loss"] - 0.6931) > 1e-3
    assert read_json(tmp_path / "run" / "manifest.json")["parents"]["reference"] == parent(other)


def test_a_reference_with_other_tokens_is_refused(files: Files, tmp_path: Path) -> None:
    foreign = worlds.save(tmp_path / "foreign", tiny.policy(), tiny.tokenizer(vocab=300))
    with pytest.raises(UserError, match="a reference reads the policy's tokens, but its tokenizer is another one"):
        worlds.train("ppo", files, tmp_path / "run", reference=foreign, **STILL)


@pytest.mark.medium
@pytest.mark.parametrize("role", ["reward", "value", "reference"])
def test_a_model_with_a_shorter_context_is_refused_at_the_start(files: Files, tmp_path: Path, role: str) -> None:
    """Not in the middle of the run, when the first long answer comes."""
    turn = Turn(worlds.config("ppo", files, **PLAIN))
    short = (
        tiny.reward(context=turn.run.longest - 1) if role != "reference" else tiny.policy(context=turn.run.longest - 1)
    )
    model = worlds.save(tmp_path / "short", short)
    with pytest.raises(UserError, match=f"short.*reads at most {turn.run.longest - 1} tokens, the longest prompt with"):
        worlds.train("ppo", files, tmp_path / "run", **{**PLAIN, role: [model] if role == "reward" else model})
    assert not (tmp_path / "run").exists()


@pytest.mark.medium
def test_a_reward_model_with_other_tokens_is_judged_by_the_prompts(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = Turn(worlds.config("ppo", files, **PLAIN))
    foreign = tiny.tokenizer(vocab=280)
    longest = max(len(render.prompt_ids(foreign, question.prompt)) for question in turn.run.questions)
    sizes = (longest, longest + 4)
    models = {size: worlds.save(tmp_path / f"rm-{size}", tiny.reward(context=size), foreign) for size in sizes}
    with pytest.raises(UserError, match=f"reads at most {longest} tokens, the longest prompt alone has {longest}"):
        Turn(worlds.config("ppo", files, reward=[models[longest]], **PLAIN))
    capsys.readouterr()
    with pytest.raises(UserError, match="Lower generation"):
        Turn(worlds.config("ppo", files, reward=[models[longest + 4]], **PLAIN))
    assert "an answer of about 4 would end the run with an error" in capsys.readouterr().err
