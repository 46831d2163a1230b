"""The gradients of PPO and PPO-ptx from first principles."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from heedful.learning import steps
from heedful.learning.online import Online
from heedful.stages import ppo
from heedful.training import order
from heedful.training.metrics import Means
from stages import plain, worlds
from stages.turns import ALONE, PLAIN, Turn, gradients
from stages.worlds import Files


@pytest.mark.medium
def test_the_first_gradients_from_first_principles(files: Files) -> None:
    """At ratio 1 the policy's is -mean(A grad log pi), the value net's mean((V - R) grad V), each over all tokens."""
    config = worlds.config("ppo", files, **PLAIN)
    turn = Turn(config)
    e, nets = turn.experience, turn.nets
    chosen = [6, 1, 3, 4]
    gap = gradients(turn, e, chosen, Means())
    for net in (nets.policy, nets.value):
        ALONE.sum_gradients(net)
    policy = AutoModelForCausalLM.from_pretrained(files.policy).eval()
    value = AutoModelForSequenceClassification.from_pretrained(files.judge).eval()
    tokens = sum(len(e.episodes[b].response_ids) for b in chosen)
    for b in chosen:
        episode = e.episodes[b]
        P, T = len(episode.prompt_ids), len(episode.response_ids)
        ids = torch.tensor([episode.prompt_ids + episode.response_ids])
        logprobs_T = policy(ids).logits[0, P - 1 : -1].log_softmax(-1)[range(T), episode.response_ids]
        (-(e.advantages_BT[b, :T] * logprobs_T).sum() / tokens).backward()
        values_T = value.score(value.model(ids).last_hidden_state[0, P - 1 : -1])[:, 0] + 0.25
        (0.5 * (values_T - e.returns_BT[b, :T]).square().sum() / tokens).backward()
    same_gradients(nets.policy, policy)
    same_gradients(nets.value, value)
    assert 0 < float(gap) < 1e-5


def same_gradients(ours: Any, theirs: Any) -> None:
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        scale = max(1.0, float(expected[name].grad.abs().max()))
        torch.testing.assert_close(parameter.grad / scale, expected[name].grad / scale, rtol=0, atol=2e-5)


@pytest.mark.medium
@pytest.mark.parametrize(("coef", "ratio"), [(0.5, 0.5), (27.8, 2.0)])
def test_the_pretraining_gradient_is_coef_times_that_of_the_mean_loss(
    files: Files, turn: Turn, coef: float, ratio: float
) -> None:
    config = worlds.config("ppo", files, ptx_coef=coef, ptx_ratio=ratio, ptx_tokens=64)
    mix = Online(config, turn.run.s, turn.nets).mix
    assert mix is not None
    documents = plain.pieces(turn.nets.tokenizer, worlds.texts(files), 64)
    means = Means()
    steps.pretraining_gradients(turn.nets.policy, mix, 3, passes=turn.passes, means=means)
    ALONE.sum_gradients(turn.nets.policy)
    rows = order.endless(0, 3, round(4 * ratio), len(documents), stream=2)
    assert len(rows) == 4 * ratio
    assert len({len(documents[i]) for i in rows}) > 1
    policy = AutoModelForCausalLM.from_pretrained(files.policy).eval()
    loss = plain.mean_response_loss(policy, [documents[i] for i in rows])
    (coef * loss).backward()
    assert means.reduce(ALONE)["ptx_loss"] == pytest.approx(loss.item(), abs=1e-5)
    same_gradients(turn.nets.policy, policy)
    assert all(parameter.grad is None for parameter in turn.nets.value.parameters())
    turn.nets.policy.zero_grad()


@pytest.mark.parametrize("epochs", [1, 2])
def test_every_epoch_passes_once_over_the_episodes(
    files: Files, turn: Turn, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    averaged = []
    monkeypatch.setattr(turn.nets.average, "update", lambda: averaged.append(len(seen)))

    def note(experience: Any, chosen: list[int], *, number: int, first: bool, **_: Any) -> steps.Minibatch:
        assert number == 4 * epochs + len(seen)  # those of the first iteration came before
        assert first is (not seen)
        seen.append(chosen)
        return steps.Minibatch(number, first, experience, [])

    monkeypatch.setattr(steps, "minibatch", note)
    config = worlds.config("ppo", files, epochs=epochs, minibatch=2, **PLAIN)  # no loss: no step moves a weight
    metrics = ppo.learn(config, turn.nets, Online(config, turn.run.s, turn.nets), turn.experience, 1)
    assert [len(rows) for rows in seen] == [2] * 4 * epochs
    for epoch in range(epochs):
        assert sorted(sum(seen[epoch * 4 : epoch * 4 + 4], [])) == list(range(8))  # noqa: RUF017
    assert averaged == list(range(1, 4 * epochs + 1))  # after every step
    assert "explained_variance" not in metrics  # NaN, where no returns were seen, is not a number to log


@pytest.mark.medium
def test_without_a_value_clip_none_reaches_the_loss(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, seen = Turn(worlds.config("ppo", files, value_clip=None, generation={"temperature": 1.5}, **PLAIN)), []
    monkeypatch.setattr(ppo, "value_step", lambda *_, clip, **__: seen.append(clip))
    metrics = ppo.learn(turn.config, turn.nets, turn.run, turn.experience, 0)
    assert seen == [float("inf")] * 2
    assert metrics["logprob_gap"] < 1e-5  # it learns at the temperature of sampling, too


@pytest.mark.parametrize(("clip", "value_clip"), [(0.2, 0.2), (0.001, 0.2), (0.2, 0.001), (0.2, None)])
def test_clipping(files: Files, turn: Turn, clip: float, value_clip: float | None) -> None:
    """Old log-probs and values are moved away by 0.1: a tight clip cuts, a wide one does not."""
    config = worlds.config("ppo", files, clip=clip, value_clip=value_clip)
    e = turn.experience
    assert e.values_BT is not None
    moved = {"logprobs_BT": e.logprobs_BT - 0.1 * e.mask_BT, "values_BT": e.values_BT - 0.1 * e.mask_BT}
    means = Means()
    gradients(turn, dataclasses.replace(e, **moved), list(range(8)), means, config=config)
    metrics = means.reduce(ALONE)
    assert (metrics["clipfrac"] > 0.2) is (clip < 0.1)
    assert (metrics["value/clipfrac"] > 0.2) is (value_clip is not None and value_clip < 0.1)
    for net in (turn.nets.policy, turn.nets.value):
        ALONE.sum_gradients(net)
        net.zero_grad()
