"""What a PPO iteration learns from, against plain transformers and plain Python."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import tiny
from heedful.config import UserError
from heedful.learning import experience, rollouts
from heedful.learning.experience import Experience, Scores, score
from heedful.learning.passes import Passes
from heedful.maths.kl import shaped_rewards
from heedful.models import batches, dropout, scoring
from heedful.rewards.functions import Reward, RewardPart
from heedful.rollout.types import Episode, Sample
from heedful.stages import ppo
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks
from stages import worlds
from stages.turns import ALONE, LETTER, Turn, gradients
from stages.worlds import Files


@pytest.mark.medium
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_the_temperature_is_in_sampling_and_scoring_alike(files: Files, temperature: float) -> None:
    turn = Turn(worlds.config("ppo", files, generation={"temperature": temperature}))
    e = turn.experience
    for b, episode in enumerate(e.episodes):
        logits_TV = plain_logits(turn.nets.policy, episode) / temperature
        expected_T = logits_TV.log_softmax(-1)[range(len(episode.response_ids)), episode.response_ids]
        for logprobs_BT in (e.logprobs_BT, e.ref_logprobs_BT):
            torch.testing.assert_close(logprobs_BT[b, : len(expected_T)], expected_T, rtol=0, atol=1e-5)
    gap = gradients(turn, e, list(range(8)), Means())
    assert 0 < float(gap) < 1e-5


@pytest.mark.medium
def test_the_kl_is_that_from_the_reference_once_the_policy_has_moved(files: Files) -> None:
    turn = Turn(worlds.config("ppo", files))
    with torch.no_grad():
        for weight in turn.nets.policy.parameters():
            weight *= 1.2
    with patch.object(ppo, "learn", lambda *_: {}):
        metrics, e = ppo.iteration(turn.config, turn.nets, turn.run, 1)
    kl = 0.0
    for b, episode in enumerate(e.episodes):
        at = range(len(episode.response_ids)), episode.response_ids
        policy_T, reference_T = (
            plain_logits(net, episode).log_softmax(-1)[at] for net in (turn.nets.policy, turn.nets.reference)
        )
        torch.testing.assert_close(e.ref_logprobs_BT[b, : len(reference_T)], reference_T, rtol=0, atol=1e-5)
        kl += float((policy_T - reference_T).sum()) / len(e.episodes)
    assert abs(kl) > 0.1
    assert metrics["kl"] == pytest.approx(kl, abs=1e-4)


@pytest.mark.medium
def test_reward_models_score_in_the_precision_of_the_run(files: Files, turn: Turn) -> None:
    low = Turn(worlds.config("ppo", files, compute={"dtype": "bfloat16"}), Ranks(0, 1, ALONE.device, torch.bfloat16))
    exact = turn.experience
    rounded = score(low.nets.reward, exact.episodes, missing_eos_penalty=None, passes=turn.passes)
    apart = (rounded.parts[str(files.judge)] - exact.scores.parts[str(files.judge)]).abs()
    assert 0 < float(apart.max()) < 0.1


def plain_logits(model: Any, episode: Episode) -> Tensor:
    """Logits before each response token, by one forward of this row alone."""
    ids = torch.tensor([episode.prompt_ids + episode.response_ids])
    logits_SV = model(input_ids=ids).logits[0].detach()
    return logits_SV[len(episode.prompt_ids) - 1 : -1]


@pytest.mark.medium
@pytest.mark.parametrize(("dtype", "kept"), [("float32", True), ("bfloat16", False)])
def test_the_sampler_s_logprobs_are_kept_in_float32_only(
    files: Files, monkeypatch: pytest.MonkeyPatch, dtype: str, kept: bool
) -> None:
    config = worlds.config("ppo", files, compute={"dtype": dtype})
    generate = rollouts.generate

    def told(*args: Any) -> list[Sample]:
        return [dataclasses.replace(s, logprobs=[-7.0] * len(s.response_ids)) for s in generate(*args)]

    monkeypatch.setattr(rollouts, "generate", told)
    e = Turn(config, Ranks(0, 1, torch.device("cpu"), getattr(torch, dtype))).experience
    real = e.mask_BT
    assert bool((e.logprobs_BT[real] == -7.0).all()) is kept
    assert not e.logprobs_BT[~real].any()
    if not kept:
        torch.testing.assert_close(e.logprobs_BT, e.ref_logprobs_BT, rtol=0, atol=0.3)


@pytest.mark.medium
def test_the_value_net_is_the_reward_model_with_its_head_and_bias(files: Files, turn: Turn) -> None:
    """values[t], before token t, is the plain score of the prompt and the t tokens before it, plus the bias."""
    plain = AutoModelForSequenceClassification.from_pretrained(files.judge).eval()
    bias = plain.config.heedful_reward_bias
    assert bias == 0.25
    e = turn.experience
    for b in (0, 5):
        episode = e.episodes[b]
        with torch.no_grad():
            expected = [
                plain(torch.tensor([episode.prompt_ids + episode.response_ids[:t]])).logits.item() + bias
                for t in range(len(episode.response_ids))
            ]
        assert e.values_BT[b, : len(expected)].tolist() == pytest.approx(expected, abs=1e-5)
    assert turn.nets.value_from == f"{files.judge} (reward model, with its head)"
    assert turn.nets.value is not turn.nets.reward.parts[0].score.model  # type: ignore[attr-defined]


@pytest.mark.medium
def test_without_a_reward_model_the_value_net_starts_at_zero(files: Files, tmp_path: Path) -> None:
    turn = Turn(worlds.config("ppo", files, reward=[LETTER]))
    assert turn.experience.values_BT.abs().max() == 0
    assert turn.nets.value_from == f"{files.policy} (policy's body, zero head)"


@pytest.mark.medium
def test_a_reward_model_with_another_tokenizer_is_no_value_net_but_scores_the_text(
    files: Files, tmp_path: Path
) -> None:
    other = tiny.tokenizer(vocab=280)
    judge = worlds.save(tmp_path / "judge", tiny.reward(seed=1), other)
    turn = Turn(worlds.config("ppo", files, reward=[judge]))
    assert turn.nets.value_from.endswith("zero head)")
    plain = AutoModelForSequenceClassification.from_pretrained(judge).eval()
    for episode, found in zip(turn.experience.episodes, turn.experience.scores.raw_B.tolist(), strict=True):
        prompt = str(episode.prompt)
        ids = other.encode(prompt) + other.encode(episode.completion)
        ids += [0] if episode.finished else []  # cut off by length: no EOS
        with torch.no_grad():
            assert found == pytest.approx(plain(torch.tensor([ids])).logits.item() + 0.25, abs=1e-4)


@pytest.mark.medium
def test_a_value_net_given_by_name(files: Files, tmp_path: Path) -> None:
    value = worlds.save(tmp_path / "value", tiny.reward(seed=7, bias=0.5))
    turn = Turn(worlds.config("ppo", files, value=value))
    assert turn.nets.value_from == f"{value} (given)"
    episode = turn.experience.episodes[0]
    with torch.no_grad():
        first = AutoModelForSequenceClassification.from_pretrained(value).eval()(torch.tensor([episode.prompt_ids]))
    assert turn.experience.values_BT[0, 0].item() == pytest.approx(first.logits.item() + 0.5, abs=1e-5)
    stranger = worlds.save(tmp_path / "stranger", tiny.reward(), tiny.tokenizer(vocab=280))
    with pytest.raises(UserError, match="reads the policy's tokens, but its tokenizer is another one"):
        Turn(worlds.config("ppo", files, value=stranger))


EPISODES = [Episode("a", [9], [5, 6, 0], "x", True), Episode("b", [9], [5, 6], "y", False)]


def fake_experience(
    kl_coef: float = 0.1, gamma: float = 1.0, lam: float = 0.95, whiten_rewards: bool = False
) -> Experience:
    """Two episodes of 3 and 2 tokens; the second was cut off by length."""
    mask_BT = torch.tensor([[True, True, True], [True, True, False]])
    logprobs_BT = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 0.0]])
    ref_logprobs_BT = torch.tensor([[-1.5, -2.0, -2.0], [-1.0, -3.0, 0.0]])
    values_BT = torch.tensor([[0.5, -0.5, 1.0], [0.0, 2.0, 0.0]])
    scores_B = torch.tensor([2.0, -1.0])
    rewards_BT, kl_BT = shaped_rewards(scores_B, logprobs_BT, ref_logprobs_BT, mask_BT, kl_coef)
    both = ppo.advantages(rewards_BT, values_BT, mask_BT, gamma=gamma, lam=lam, whiten_rewards=whiten_rewards)
    scores = Scores(scores_B, scores_B, {"r": scores_B})
    return Experience(EPISODES, scores, mask_BT, logprobs_BT, ref_logprobs_BT, kl_BT, both[0], values_BT, both[1])


def by_hand(kl_coef: float, gamma: float, lam: float, whiten_rewards: bool = False) -> tuple[list[float], list[float]]:
    """(advantages, returns) of the five real tokens of `fake_experience`, in plain Python."""
    kl = [[0.5, 0.0, -1.0], [0.0, 2.0]]
    rewards = [[-kl_coef * k for k in row] for row in kl]
    rewards[0][-1] += 2.0
    rewards[1][-1] += -1.0
    if whiten_rewards:
        flat = rewards[0] + rewards[1]
        mean = sum(flat) / 5
        scale = math.sqrt(sum((x - mean) ** 2 for x in flat) / 5 + 1e-8)
        rewards = [[(x - mean) / scale + mean for x in row] for row in rewards]
    advantages, returns = [], []
    for row, values in zip(rewards, [[0.5, -0.5, 1.0], [0.0, 2.0]], strict=True):
        running, backwards = 0.0, []
        for t in reversed(range(len(row))):
            after = values[t + 1] if t + 1 < len(row) else 0.0
            running = row[t] + gamma * after - values[t] + gamma * lam * running
            backwards.append(running)
        advantages += backwards[::-1]
        returns += [a + v for a, v in zip(backwards[::-1], values, strict=True)]
    mean = sum(advantages) / 5
    scale = math.sqrt(sum((x - mean) ** 2 for x in advantages) / 5 + 1e-8)
    return [(x - mean) / scale for x in advantages], returns


@pytest.mark.parametrize(
    ("kl_coef", "gamma", "lam", "whiten_rewards"),
    [
        (0.1, 1.0, 0.95, False),
        (0.5, 1.0, 0.95, False),
        (0.1, 0.9, 0.95, False),
        (0.1, 1.0, 0.5, False),
        (0.1, 1.0, 0.95, True),
    ],
)
def test_advantages_by_hand(kl_coef: float, gamma: float, lam: float, whiten_rewards: bool) -> None:
    e = fake_experience(kl_coef, gamma, lam, whiten_rewards)
    advantages, returns = by_hand(kl_coef, gamma, lam, whiten_rewards)
    assert e.advantages_BT[e.mask_BT].tolist() == pytest.approx(advantages, abs=1e-5)
    assert e.returns_BT[e.mask_BT].tolist() == pytest.approx(returns, abs=1e-5)


def test_what_is_logged_before_the_update() -> None:
    e = fake_experience()
    penalised = dataclasses.replace(e.scores, total_B=torch.tensor([2.0, -3.0]))
    row = experience.describe(dataclasses.replace(e, scores=penalised), kl_coef=0.1)
    assert row == pytest.approx(
        {
            "score": 0.5,
            "score_std": 1.5,
            "kl": (-0.5 + 2.0) / 2,  # sums over tokens, mean over sequences
            "kl_coef": 0.1,
            "reward": (2.0 + 0.05 - 3.0 - 0.2) / 2,
            "entropy": 8.0 / 5,  # a mean over real tokens
            "length": 2.5,
            "finished": 0.5,
        }
    )


@pytest.mark.parametrize(("missing_eos_penalty", "expected"), [(None, [2.0, 3.0]), (-1.0, [2.0, -1.0])])
def test_a_missing_eos_replaces_the_score(missing_eos_penalty: float | None, expected: list[float]) -> None:
    reward = Reward([RewardPart("r", 1.0, lambda episodes: torch.tensor([2.0, 3.0])[: len(episodes)])])
    scores = score(reward, EPISODES, missing_eos_penalty=missing_eos_penalty, passes=Passes(1, 100, ALONE))
    assert scores.total_B.tolist() == expected
    assert scores.raw_B.tolist() == [2.0, 3.0]


def test_scores_go_to_their_episodes_however_the_batch_is_cut() -> None:
    episodes = [Episode("p", [9], [5] * n, str(n), True) for n in (2, 7, 1, 4)]
    reward = Reward([RewardPart("n", 1.0, lambda part: torch.tensor([float(e.completion) for e in part]))])
    scores = score(reward, episodes, missing_eos_penalty=None, passes=Passes(1, 1, ALONE))
    assert scores.raw_B.tolist() == [2.0, 7.0, 1.0, 4.0]
    assert experience.response_mask(episodes).sum(1).tolist() == [2, 7, 1, 4]


def test_values_and_scores_do_not_see_the_padding(turn: Turn) -> None:
    """The whole batch in one pass and row by row."""
    e, pad = turn.experience, turn.nets.tokenizer.pad_token_id
    together = turn.passes.batch(e.episodes)
    with torch.no_grad():
        values_BT = scoring.values(turn.nets.value, together)
        for b in range(8):
            alone = batches.collate([e.episodes[b].prompt_ids], [e.episodes[b].response_ids], pad)
            torch.testing.assert_close(
                scoring.values(turn.nets.value, alone)[0], values_BT[b, : alone.T], rtol=0, atol=1e-5
            )


@pytest.mark.medium
def test_dropout_is_off_in_all_four_networks(files: Files, tmp_path: Path) -> None:
    start = worlds.save(tmp_path / "start", dropout.set_dropout(tiny.policy("gpt2"), 0.5))
    assert AutoModelForCausalLM.from_pretrained(start).config.resid_pdrop == 0.5
    nets = Turn(worlds.config("ppo", files, policy=start, reward=[LETTER])).nets
    dropouts = [m.p for net in (nets.policy, nets.reference, nets.value) for m in net.modules() if hasattr(m, "p")]
    assert len(dropouts) > 9
    assert not any(dropouts)
