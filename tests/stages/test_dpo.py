"""DPO against numbers from plain transformers and plain Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from heedful.config import UserError, load
from heedful.configs.dpo import DPOConfig
from heedful.configs.shared import Compute
from heedful.files import read_json
from heedful.learning import examples
from heedful.learning.examples import Ranked, TokenLimits
from heedful.learning.passes import Passes
from heedful.models import scoring
from heedful.runs.resumable import Interrupted
from heedful.runs.run import metrics
from heedful.stages import dpo
from heedful.training.parallel import Ranks
from stages import worlds
from stages.test_parallel import two_ranks
from stages.worlds import Files

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)
PASSES = Passes(1, Compute().micro_tokens, ALONE)


def config(files: Files, *sets: str, **changes: Any) -> DPOConfig:
    values = {"model": files.policy, "data": files.rankings, "batch": 8, "valid_fraction": 0.2} | changes
    return load(DPOConfig, None, ["optimiser.lr=1e-3", *sets], **values)


def rankings(files: Files, count: int) -> list[Ranked]:
    return examples.rankings(files.rankings, tiny.tokenizer(), TokenLimits(128, 128, 128))[:count]


def logprob(model: Any, prompt_ids: list[int], response_ids: list[int]) -> float:
    """Summed log-probability of a response, one forward for this row alone."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt_ids + response_ids])).logits[0].double()
    table = logits.log_softmax(-1)
    return sum(float(table[len(prompt_ids) + t - 1, token]) for t, token in enumerate(response_ids))


def margins(policy: Any, reference: Any, rows: list[Ranked]) -> list[float]:
    """log pi/pi_ref of the winner minus that of the loser, for every pair of different tiers."""
    found = []
    for row in rows:
        ratios = [logprob(policy, row.prompt_ids, r) - logprob(reference, row.prompt_ids, r) for r in row.responses]
        for i, rank_i in enumerate(row.ranks):
            for j, rank_j in enumerate(row.ranks):
                if rank_i < rank_j:
                    found.append(ratios[i] - ratios[j])
    return found


@pytest.mark.medium
@pytest.mark.parametrize(
    ("sets", "loss"),
    [
        (["beta=0.1"], lambda h: math.log1p(math.exp(-0.1 * h))),
        (["beta=0.4"], lambda h: math.log1p(math.exp(-0.4 * h))),
        (
            ["label_smoothing=0.2"],
            lambda h: 0.8 * math.log1p(math.exp(-0.1 * h)) + 0.2 * math.log1p(math.exp(0.1 * h)),
        ),
        (["kind=ipo", "beta=0.5"], lambda h: (h - 1.0) ** 2),
    ],
)
def test_the_loss_of_a_step_is_the_mean_over_all_pairs(files: Files, sets: list[str], loss: Any) -> None:
    policy, reference, rows = tiny.policy(seed=3), tiny.policy(seed=4), rankings(files, 5)
    judged = dpo.with_reference(reference, rows, PASSES)
    reported = dpo.gradients(config(files, *sets), policy, judged, PASSES)
    by_hand = margins(policy, reference, rows)
    assert len(by_hand) > len(rows)
    assert reported["loss"] == pytest.approx(sum(map(loss, by_hand)) / len(by_hand), rel=1e-5)
    assert reported["accuracy"] == sum(h > 0 for h in by_hand) / len(by_hand)


def test_the_gradient_is_that_of_the_mean_however_the_batch_is_cut(files: Files) -> None:
    rows = rankings(files, 6)
    judged = dpo.with_reference(tiny.policy(seed=4), rows, PASSES)
    found = []
    for micro_tokens in (16_384, 1):
        policy = tiny.policy(seed=3)
        settings = config(files, f"compute.micro_tokens={micro_tokens}")
        loss = dpo.gradients(settings, policy, judged, PASSES)["loss"]
        found.append((loss, [p.grad.clone() for p in policy.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for whole, cut in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(whole, cut, rtol=1e-4, atol=1e-6)
    assert max(float(grad.abs().max()) for grad in found[0][1]) > 1e-3


def test_a_completion_goes_through_the_model_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(row for row in rankings(files, 24) if len(row.record.pairs()) > len(row.responses))
    seen = []
    forward = scoring.response_logprobs

    def counting(model: Any, batch: Any) -> Any:
        seen.append(len(batch))
        return forward(model, batch)

    monkeypatch.setattr(dpo.scoring, "response_logprobs", counting)
    judged = dpo.with_reference(tiny.policy(), [row], PASSES)
    dpo.gradients(config(files), tiny.policy(), judged, PASSES)
    assert seen == [len(row.responses), len(row.responses)]


@pytest.mark.medium
def test_training_starts_at_log_2_and_learns(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    reference = dpo.with_reference
    monkeypatch.setattr(dpo, "with_reference", lambda *args: calls.append(len(args[1])) or reference(*args))
    dpo.train(config(files, epochs=4), tmp_path / "run")
    rows = metrics(tmp_path / "run")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["loss"] < 0.5
    assert rows[-1]["accuracy"] > 0.8
    assert rows[-1]["reward_w"] > rows[-1]["reward_l"]
    results = read_json(tmp_path / "run" / "manifest.json")["results"]
    assert len(calls) == 2  # training and validation, not once an epoch
    assert sum(calls) == 24
    assert results["rankings"] + calls[1] == 24
    assert results["valid_loss"] == pytest.approx(rows[-1]["valid_loss"], rel=1e-5)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    start = tiny.policy()
    assert not torch.equal(next(model.parameters()), next(start.parameters()))


@pytest.mark.medium
def test_an_interrupted_run_resumes_to_the_same_weights(files: Files, tmp_path: Path) -> None:
    settings = config(files, "checkpoint.every=1", epochs=3)
    whole = worlds.hashes(dpo.train(settings, tmp_path / "whole"))
    gradients, calls = dpo.gradients, []

    def stopping(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return gradients(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpo, "gradients", stopping)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            dpo.train(settings, tmp_path / "run")
    dpo.train(settings, tmp_path / "run", resume=True)
    assert worlds.hashes(tmp_path / "run") == whole


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_two_ranks_do_what_one_does(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"data": files.rankings, "valid_fraction": 0.2, "epochs": 2, "batch": 6, "optimiser": {"lr": 1e-3}}
    small |= {"compute": {"micro_tokens": 128}, "checkpoint": {"every": 2}}
    monkeypatch.setitem(worlds._SMALL, "dpo", lambda files: dict(small))
    one = worlds.parallel_case("dpo-gpt2", files, tmp_path / "one")
    assert worlds.disagreements(one, two_ranks(files, tmp_path / "two", "dpo-gpt2")) == []


@pytest.mark.medium
def test_tied_rankings_are_counted_and_left_out(files: Files, tmp_path: Path) -> None:
    tied = [{"prompt": f"Tied {i}", "completions": ["a", "b"], "ranking": [[0, 1]]} for i in range(3)]
    data = worlds.write(tmp_path / "d.jsonl", [*worlds.rankings(8), *tied])
    dpo.train(config(files, data=data, eval_data=files.rankings), tmp_path / "run")
    results = read_json(tmp_path / "run" / "manifest.json")["results"]
    assert (results["rankings"], results["all_tied"]) == (8, 3)
    assert results["pairs"] == sum(len(row.record.pairs()) for row in rankings(files, 8))
    only = worlds.write(tmp_path / "tied.jsonl", tied)
    with pytest.raises(
        UserError, match=r"tied\.jsonl: no ranked pair to learn from \(3 rankings, every one all tied\)"
    ):
        dpo.train(config(files, data=only, eval_data=files.rankings), tmp_path / "none")
    with pytest.raises(UserError, match=r"tied\.jsonl: no ranked pair left to validate on"):
        dpo.train(config(files, eval_data=only), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_smoothing_belongs_to_dpo(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="label_smoothing belongs to dpo"):
        dpo.train(config(files, kind="ipo", label_smoothing=0.1), tmp_path / "run")


@pytest.mark.parametrize("setting", ["beta=0", "label_smoothing=0.5", "kind=kto"])
def test_settings_out_of_range(files: Files, setting: str) -> None:
    with pytest.raises(UserError, match=setting.partition("=")[0]):
        config(files, setting)
