"""PPO: what an iteration learns from and what it does with that, against plain transformers and plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import tiny
from heedful import runs
from heedful.config import UserError
from heedful.models import batches, load, scoring
from heedful.models.reward_functions import Episode, Part, Reward
from heedful.rollout.types import Sample, Stream
from heedful.stages import inputs, ppo, ppo_experience, ppo_update, rollouts
from heedful.stages.inputs import Limits
from heedful.stages.ppo_experience import Experience
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import Compute, World
from heedful.training.session import Session
from stages import worlds
from stages.worlds import Files

ALONE = World(0, 1, torch.device("cpu"), torch.float32)
LETTER = "stages.worlds:count_e"
PLAIN = {"pretrain_data": None}


class Turn:
    """One iteration taken apart: networks, questions, samples and the experience before the update."""

    def __init__(self, config: ppo.PPOConfig, world: World = ALONE) -> None:
        self.config = config
        self.nets = ppo._networks(config, world)
        limits = Limits(128, config.max_prompt_tokens, 0).leaving_room(config.generation.max_new_tokens)
        questions = inputs.questions(config.prompts, self.nets.tokenizer, limits)
        asked = [questions[i] for i in order.endless(config.seed, 0, config.rollout_batch, len(questions))]
        self.samples = rollouts.generate(self.nets.engine, asked, config.generation, config.seed, 0, world)
        episodes = rollouts.episodes(self.nets.tokenizer, asked, self.samples)
        self.experience = ppo_experience.score(config, self.nets, episodes, world)
        ppo_experience.add_logprobs_and_values(config, self.nets, self.experience, self.samples, world)
        ppo_experience.add_advantages(config, self.experience, config.kl_coef)


@pytest.fixture(scope="module")
def turn(files: Files) -> Turn:
    return Turn(worlds.config("ppo", files))


@pytest.fixture(scope="module")
def run(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a reward of two parts, every checkpoint kept, one update an iteration."""
    return worlds.train(
        "ppo", files, tmp_path_factory.mktemp("ppo") / "run",
        reward=[f"0.5*{files.judge}", f"2*{LETTER}"], minibatch=8, ema_decay=0.6, checkpoint={"every": 1, "keep": 9},
    )  # fmt: skip


# --- what is sampled and how it is scored


def test_the_first_minibatch_of_every_iteration_has_ratio_one(run: Path) -> None:
    rows = runs.metrics(run)
    assert len(rows) == 4
    assert all(0 < row["logprob_gap"] < 1e-5 for row in rows)
    assert abs(rows[0]["kl"]) < 1e-5
    assert all(abs(row["kl"]) > 1e-3 for row in rows[1:])
    assert all(row["ratio"] == pytest.approx(1.0, abs=1e-5) for row in rows)  # one minibatch an iteration


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_the_temperature_is_in_sampling_and_scoring_alike(files: Files, temperature: float) -> None:
    turn = Turn(worlds.config("ppo", files, generation={"temperature": temperature}))
    e = turn.experience
    for b, episode in enumerate(e.episodes):
        logits_TV = plain_logits(turn.nets.policy, episode) / temperature
        expected_T = logits_TV.log_softmax(-1)[range(len(episode.response_ids)), episode.response_ids]
        for logprobs_BT in (e.logprobs_BT, e.ref_logprobs_BT):
            torch.testing.assert_close(logprobs_BT[b, : len(expected_T)], expected_T, rtol=0, atol=1e-5)
    gap = ppo_update._minibatch_gradients(turn.config, turn.nets, e, list(range(8)), Means(), ALONE)
    assert 0 < float(gap) < 1e-5


def plain_logits(model: Any, episode: Episode) -> Tensor:
    """Logits before each response token, by one forward of this row alone."""
    ids = torch.tensor([episode.prompt_ids + episode.response_ids])
    logits_SV = model(input_ids=ids).logits[0].detach()
    return logits_SV[len(episode.prompt_ids) - 1 : -1]


@pytest.mark.parametrize(("dtype", "kept"), [("float32", True), ("bfloat16", False)])
def test_the_sampler_s_logprobs_are_kept_in_float32_only(files: Files, turn: Turn, dtype: str, kept: bool) -> None:
    config = worlds.config("ppo", files, compute={"dtype": dtype})
    world = World(0, 1, torch.device("cpu"), getattr(torch, dtype))
    told = [Sample(s.prompt_ids, s.response_ids, s.finish, [-7.0] * len(s.response_ids)) for s in turn.samples]
    e = ppo_experience.score(config, turn.nets, turn.experience.episodes, world)
    ppo_experience.add_logprobs_and_values(config, turn.nets, e, told, world)
    real = e.mask_BT
    assert bool((e.logprobs_BT[real] == -7.0).all()) is kept
    assert not e.logprobs_BT[~real].any()
    if not kept:
        torch.testing.assert_close(e.logprobs_BT, turn.experience.logprobs_BT, rtol=0, atol=0.3)
        assert not torch.equal(e.logprobs_BT, turn.experience.logprobs_BT)


def test_low_precision_runs_and_stays_near(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", episodes=16, compute={"dtype": "bfloat16"})
    rows = runs.metrics(run)
    assert all(row["logprob_gap"] < 0.2 for row in rows)
    assert abs(rows[0]["kl"]) < 0.05
    assert runs.read_json(run / "manifest.json")["results"]["signs"] == []
    assert load_file(run / "model" / "model.safetensors")["model.norm.weight"].dtype == torch.float32


def test_dropout_is_off_in_all_four_networks(files: Files, tmp_path: Path) -> None:
    start = worlds.save(tmp_path / "start", load.set_dropout(tiny.policy("gpt2"), 0.5))
    assert AutoModelForCausalLM.from_pretrained(start).config.resid_pdrop == 0.5
    nets = Turn(worlds.config("ppo", files, policy=start, reward=[LETTER])).nets
    dropouts = [m.p for net in (nets.policy, nets.reference, nets.value) for m in net.modules() if hasattr(m, "p")]
    assert len(dropouts) > 9
    assert not any(dropouts)


# --- networks


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


def test_without_a_reward_model_the_value_net_starts_at_zero(files: Files, tmp_path: Path) -> None:
    turn = Turn(worlds.config("ppo", files, reward=[LETTER]))
    assert turn.experience.values_BT.abs().max() == 0
    assert turn.nets.value_from == f"{files.policy} (policy's body, zero head)"


def test_a_reward_model_with_another_tokenizer_is_no_value_net_but_scores_the_text(
    files: Files, tmp_path: Path
) -> None:
    other = tiny.tokenizer(vocab=280)
    judge = worlds.save(tmp_path / "judge", tiny.reward(seed=1), other)
    turn = Turn(worlds.config("ppo", files, reward=[judge]))
    assert turn.nets.value_from.endswith("zero head)")
    plain = AutoModelForSequenceClassification.from_pretrained(judge).eval()
    for episode, score in zip(turn.experience.episodes, turn.experience.raw_scores_B.tolist(), strict=True):
        prompt = str(episode.prompt)
        ids = other.encode(prompt if prompt[-1:].isspace() else prompt + "\n\n") + other.encode(episode.completion)
        ids += [0] if episode.finished else []  # cut off by length: no EOS
        with torch.no_grad():
            assert score == pytest.approx(plain(torch.tensor([ids])).logits.item() + 0.25, abs=1e-4)


def test_a_value_net_given_by_name(files: Files, tmp_path: Path) -> None:
    value = worlds.save(tmp_path / "value", tiny.reward(seed=7, bias=0.5))
    turn = Turn(worlds.config("ppo", files, value=value))
    assert turn.nets.value_from == f"{value} (given)"
    episode = turn.experience.episodes[0]
    with torch.no_grad():
        first = AutoModelForSequenceClassification.from_pretrained(value).eval()(torch.tensor([episode.prompt_ids]))
    assert turn.experience.values_BT[0, 0].item() == pytest.approx(first.logits.item() + 0.5, abs=1e-5)
    stranger = worlds.save(tmp_path / "stranger", tiny.reward(), tiny.tokenizer(vocab=280))
    with pytest.raises(UserError, match="reads the policy's tokens, and its tokenizer is another one"):
        Turn(worlds.config("ppo", files, value=stranger))


# --- rewards and advantages


def fake_experience(**changes: Any) -> Experience:
    """Two episodes of 3 and 2 tokens; the second was cut off by length."""
    episodes = [Episode("a", [9], [5, 6, 0], "x", True), Episode("b", [9], [5, 6], "y", False)]
    mask_BT = torch.tensor([[True, True, True], [True, True, False]])
    values: dict[str, Any] = {
        "logprobs_BT": torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 0.0]]),
        "ref_logprobs_BT": torch.tensor([[-1.5, -2.0, -2.0], [-1.0, -3.0, 0.0]]),
        "values_BT": torch.tensor([[0.5, -0.5, 1.0], [0.0, 2.0, 0.0]]),
    }
    scores_B = torch.tensor([2.0, -1.0])
    return Experience(episodes, scores_B, scores_B.clone(), {"r": scores_B}, mask_BT, **(values | changes))


def by_hand(beta: float, gamma: float, lam: float, whiten_rewards: bool = False) -> tuple[list[float], list[float]]:
    """(advantages, returns) of the five real tokens of `fake_experience`, in plain Python."""
    kl = [[0.5, 0.0, -1.0], [0.0, 2.0]]
    rewards = [[-beta * k for k in row] for row in kl]
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
    ("beta", "gamma", "lam", "whiten_rewards"),
    [
        (0.1, 1.0, 0.95, False),
        (0.5, 1.0, 0.95, False),
        (0.1, 0.9, 0.95, False),
        (0.1, 1.0, 0.5, False),
        (0.1, 1.0, 0.95, True),
    ],
)
def test_advantages_by_hand(files: Files, beta: float, gamma: float, lam: float, whiten_rewards: bool) -> None:
    config = worlds.config("ppo", files, gamma=gamma, lam=lam, whiten_rewards=whiten_rewards)
    e = fake_experience()
    ppo_experience.add_advantages(config, e, beta)
    advantages, returns = by_hand(beta, gamma, lam, whiten_rewards)
    assert e.advantages_BT[e.mask_BT].tolist() == pytest.approx(advantages, abs=1e-5)
    assert e.returns_BT[e.mask_BT].tolist() == pytest.approx(returns, abs=1e-5)


def test_what_is_logged_before_the_update(files: Files) -> None:
    e = fake_experience()
    e.scores_B = torch.tensor([2.0, -3.0])  # as a penalty would leave it
    ppo_experience.add_advantages(worlds.config("ppo", files), e, 0.1)
    row = ppo_experience.describe(e, 0.1)
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


@pytest.mark.parametrize(("penalty", "expected"), [(None, [2.0, 3.0]), (-1.0, [2.0, -1.0])])
def test_a_missing_eos_replaces_the_score(files: Files, penalty: float | None, expected: list[float]) -> None:
    config = worlds.config("ppo", files, missing_eos_penalty=penalty)
    reward = Reward([Part("r", 1.0, lambda episodes: torch.tensor([2.0, 3.0])[: len(episodes)])])
    e = ppo_experience.score(config, SimpleNamespace(reward=reward), fake_experience().episodes, ALONE)  # type: ignore[arg-type]
    assert e.scores_B.tolist() == expected
    assert e.raw_scores_B.tolist() == [2.0, 3.0]


def test_a_reward_is_a_weighted_sum_whose_parts_are_logged(files: Files, run: Path) -> None:
    row = runs.metrics(run)[0]
    judge, letter = row[f"score/{files.judge}"], row[f"score/{LETTER}"]
    assert letter > 0
    assert row["score"] == pytest.approx(0.5 * judge + 2 * letter, abs=1e-6)
    alone = Turn(worlds.config("ppo", files)).experience
    assert judge == pytest.approx(alone.raw_scores_B.mean().item(), abs=1e-5)
    assert "score/r" not in ppo_experience.describe(fake_advantages(files), 0.1)


def fake_advantages(files: Files) -> Experience:
    e = fake_experience()
    ppo_experience.add_advantages(worlds.config("ppo", files), e, 0.1)
    return e


def test_scores_go_to_their_episodes_however_the_batch_is_cut(files: Files) -> None:
    config = worlds.config("ppo", files, compute={"micro_tokens": 1})
    episodes = [Episode("p", [9], [5] * n, str(n), True) for n in (2, 7, 1, 4)]
    reward = Reward([Part("n", 1.0, lambda part: torch.tensor([float(e.completion) for e in part]))])
    e = ppo_experience.score(config, SimpleNamespace(reward=reward), episodes, ALONE)  # type: ignore[arg-type]
    assert e.scores_B.tolist() == [2.0, 7.0, 1.0, 4.0]
    assert e.mask_BT.sum(1).tolist() == [2, 7, 1, 4]


# --- gradients


def test_the_first_gradients_from_first_principles(files: Files) -> None:
    """At ratio 1 the policy's is -mean(A grad log pi), the value net's mean((V - R) grad V), each over all tokens."""
    config = worlds.config("ppo", files, **PLAIN)
    turn = Turn(config)
    e, nets = turn.experience, turn.nets
    chosen = [6, 1, 3, 4]
    gap = ppo_update._minibatch_gradients(config, nets, e, chosen, Means(), ALONE)
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


def same_gradients(ours: Any, plain: Any) -> None:
    expected = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        scale = max(1.0, float(expected[name].grad.abs().max()))
        torch.testing.assert_close(parameter.grad / scale, expected[name].grad / scale, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("coef", "ratio"), [(0.5, 0.5), (27.8, 2.0)])
def test_the_pretraining_gradient_is_coef_times_that_of_the_mean_loss(
    files: Files, turn: Turn, coef: float, ratio: float
) -> None:
    config = worlds.config("ppo", files, ptx_coef=coef, ptx_ratio=ratio)
    texts_BS = ppo._texts(config.pretrain_data, config, turn.nets)
    assert texts_BS is not None
    assert texts_BS.shape[1] == 16
    means = Means()
    ppo_update._pretraining_gradients(config, turn.nets, texts_BS, 3, means, ALONE)
    ALONE.sum_gradients(turn.nets.policy)
    rows = order.endless(0, 3, round(4 * ratio), len(texts_BS), stream=2)
    assert len(rows) == 4 * ratio
    plain = AutoModelForCausalLM.from_pretrained(files.policy).eval()
    loss = plain(input_ids=texts_BS[rows], labels=texts_BS[rows]).loss
    (coef * loss).backward()
    assert means.reduce(ALONE)["ptx_loss"] == pytest.approx(loss.item(), abs=1e-5)
    same_gradients(turn.nets.policy, plain)
    assert all(parameter.grad is None for parameter in turn.nets.value.parameters())
    turn.nets.policy.zero_grad()


def test_without_pretraining_data_there_is_no_pretraining_gradient(files: Files, tmp_path: Path, run: Path) -> None:
    assert "ptx_loss" in runs.metrics(run)[0]
    plain = worlds.train("ppo", files, tmp_path / "run", episodes=8, pretrain_data=None)
    assert "ptx_loss" not in runs.metrics(plain)[0]


@pytest.mark.parametrize("epochs", [1, 2])
def test_every_epoch_passes_once_over_the_episodes(
    files: Files, turn: Turn, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, averaged = [], []
    monkeypatch.setattr(turn.nets.average, "update", lambda: averaged.append(len(seen)))

    def note(config: Any, nets: Any, experience: Any, chosen: list[int], *_: Any) -> Tensor:
        seen.append(chosen)
        return torch.zeros(())

    monkeypatch.setattr(ppo_update, "_minibatch_gradients", note)
    monkeypatch.setattr(ppo_update, "explained_variance", lambda means: float("nan"))
    config = worlds.config("ppo", files, epochs=epochs, minibatch=2, optimiser={"lr": 0.0}, value_optimiser={"lr": 0.0})
    metrics = ppo_update.learn(config, turn.nets, turn.experience, None, 1, ALONE)
    assert [len(rows) for rows in seen] == [2] * 4 * epochs
    for epoch in range(epochs):
        assert sorted(sum(seen[epoch * 4 : epoch * 4 + 4], [])) == list(range(8))  # noqa: RUF017
    assert averaged == list(range(1, 4 * epochs + 1))  # after every step
    assert "explained_variance" not in metrics  # NaN is not a number to log


@pytest.mark.parametrize(("clip", "value_clip"), [(0.2, 0.2), (0.001, 0.2), (0.2, 0.001)])
def test_clipping(files: Files, turn: Turn, clip: float, value_clip: float) -> None:
    """Old log-probs and values are moved away by 0.1: a tight clip cuts, a wide one does not."""
    config = worlds.config("ppo", files, clip=clip, value_clip=value_clip)
    e = Turn(config).experience
    e.logprobs_BT -= 0.1 * e.mask_BT
    e.values_BT -= 0.1 * e.mask_BT
    means = Means()
    ppo_update._minibatch_gradients(config, turn.nets, e, list(range(8)), means, ALONE)
    metrics = means.reduce(ALONE)
    assert (metrics["clipfrac"] > 0.2) is (clip < 0.1)
    assert (metrics["value/clipfrac"] > 0.2) is (value_clip < 0.1)
    for net in (turn.nets.policy, turn.nets.value):
        ALONE.sum_gradients(net)
        net.zero_grad()


# --- the loop


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


def test_no_averaging_gives_the_raw_weights(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", episodes=16, ema_decay=0.0, **PLAIN)
    raw = load_file(run / "checkpoints" / "step-00000002" / "policy.safetensors")
    saved = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(raw[name], saved[name]) for name in raw)


def test_the_manifest_says_where_the_value_net_came_from(files: Files, run: Path) -> None:
    manifest = runs.read_json(run / "manifest.json")
    assert manifest["value_from"] == manifest["results"]["value_from"] == f"{files.judge} (reward model, with its head)"
    assert set(manifest["parents"]) == {"policy", "reward.0"}
    assert set(manifest["data"]) == {"prompts", "pretrain_data"}
    assert manifest["results"]["steps"] == 4


def test_samples_can_be_read(run: Path) -> None:
    rows = [runs.json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 16  # four at each of four checkpoints
    assert all(row["prompt"].startswith("Say ") and isinstance(row["score"], float) for row in rows)
    assert {row["step"] for row in rows} == {0, 1, 2, 3}


def test_the_average_answers_but_the_raw_policy_is_sampled(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    generate = rollouts.generate
    monkeypatch.setattr(
        rollouts, "generate", lambda engine, *rest: seen.append(engine.model) or generate(engine, *rest)
    )
    config = worlds.config("ppo", files, episodes=8, **PLAIN)
    nets: list[ppo.Networks] = []
    networks = ppo._networks
    monkeypatch.setattr(ppo, "_networks", lambda *a: nets.append(networks(*a)) or nets[-1])
    ppo.train(config, tmp_path / "run")
    assert seen == [nets[0].policy]
    assert nets[0].average.model is not nets[0].policy


def test_one_stream_an_episode(files: Files, turn: Turn) -> None:
    """Row r of an iteration is what the stream (seed, iteration, r) gives, alone or in company."""
    config = turn.config
    for row in (0, 6):
        sample = turn.samples[row]
        (alone,) = turn.nets.engine.generate([sample.prompt_ids], [Stream(0, 0, row)], config.generation)
        assert alone.response_ids == sample.response_ids
    assert len({tuple(sample.response_ids) for sample in turn.samples}) == 8


def test_ppo_learns_what_is_rewarded(files: Files, tmp_path: Path) -> None:
    """The share of the letter e in the answers, from 5 %, within six iterations."""
    changes = {
        "reward": [LETTER], "episodes": 6 * 64, "rollout_batch": 64, "minibatch": 16, "kl_coef": 0.0,
        "optimiser": {"lr": 2e-2}, "value_optimiser": {"lr": 5e-3}, "compute": {"micro_tokens": 4096},
        "checkpoint": {"every": 100}, **PLAIN,
    }  # fmt: skip
    scores = [row["score"] for row in runs.metrics(worlds.train("ppo", files, tmp_path / "run", **changes))]
    assert scores[0] < 0.06
    assert scores[-1] > 3 * scores[0]


# --- the coefficient of the KL


@pytest.mark.parametrize(
    ("changes", "kl", "expected"),
    [
        ({}, 50.0, 0.1),
        ({"kl_target": 5.0, "kl_horizon": 100}, 10.0, 0.1 * (1 + 0.2 * 8 / 100)),
        ({"kl_target": 5.0, "kl_horizon": 400}, 4.5, 0.1 * (1 - 0.1 * 8 / 400)),
        ({"kl_ceiling": 6.0, "at_ceiling": "raise"}, 6.5, 0.15),
        ({"kl_ceiling": 6.0, "at_ceiling": "raise"}, 5.5, 0.1),
        ({"kl_ceiling": 6.0}, 5.5, 0.1),
    ],
)
def test_the_next_coefficient(files: Files, changes: dict[str, Any], kl: float, expected: float) -> None:
    assert ppo._next_beta(worlds.config("ppo", files, **changes), 0.1, kl, 3) == (pytest.approx(expected), None)


def test_passing_the_ceiling_stops_the_run_for_good(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", kl_ceiling=0.001, **PLAIN)
    manifest = runs.read_json(run / "manifest.json")
    assert manifest["status"] == "finished"
    kl = [row["kl"] for row in runs.metrics(run)]
    assert len(kl) < 4
    assert kl[-1] > 0.001 >= max(kl[:-1])
    assert manifest["results"]["stopped"].startswith(f"stopped after iteration {len(kl)}: sequence KL")
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    assert newest.name == f"step-{len(kl):08d}"


def test_a_stop_survives_a_crash_right_after_it(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            worlds.train("ppo", files, tmp_path / "run", kl_ceiling=0.001, **PLAIN)
    steps = len(runs.metrics(tmp_path / "run"))
    worlds.train("ppo", files, tmp_path / "run", resume=True, kl_ceiling=0.001, **PLAIN)
    assert len(runs.metrics(tmp_path / "run")) == steps
    assert runs.read_json(tmp_path / "run" / "manifest.json")["results"]["stopped"]


def test_above_the_ceiling_the_coefficient_grows(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", kl_ceiling=0.001, at_ceiling="raise", kl_coef=0.02, **PLAIN)
    betas = [row["kl_coef"] for row in runs.metrics(run)]
    assert len(betas) == 4
    assert betas[-1] in [pytest.approx(0.02 * 1.5**n) for n in (1, 2, 3)]


# --- what can go wrong


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    """`poison(network, step)`: a NaN in one weight of a network after that step was logged."""
    nets: list[ppo.Networks] = []
    networks, log = ppo._networks, Session.log

    def arrange(network: str, step: int) -> None:
        def then(session: Session, now: int, *args: Any, **kwargs: Any) -> None:
            log(session, now, *args, **kwargs)
            if now == step:
                with torch.no_grad():
                    next(getattr(nets[-1], network).parameters()).fill_(float("nan"))

        monkeypatch.setattr(Session, "log", then)

    monkeypatch.setattr(ppo, "_networks", lambda *args: nets.append(networks(*args)) or nets[-1])
    yield arrange
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("network", "named"), [("policy", "a logit of the sampled policy"), ("value", "the value net's output")]
)
def test_a_nan_in_the_weights_stops_cleanly_and_keeps_the_last_good_checkpoint(
    files: Files, tmp_path: Path, poison: Callable[[str, int], None], network: str, named: str
) -> None:
    poison(network, 1)
    with pytest.raises(UserError, match=f"{named} is not finite at step 3; the checkpoint of step 2 is kept") as stop:
        worlds.train("ppo", files, tmp_path / "run", **PLAIN)
    assert "\n" not in str(stop.value)
    manifest = runs.read_json(tmp_path / "run" / "manifest.json")
    assert manifest["status"] == "failed"
    assert named in manifest["reason"]
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
def test_a_run_that_failed_goes_on_when_the_cause_is_gone(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = ppo_update.learn

    def fail_once(config: Any, nets: Any, experience: Any, texts_BS: Any, step: int, world: World) -> Any:
        if step == 3:
            raise ppo_update.optim.NonFinite("gradient of policy.x")
        return learn(config, nets, experience, texts_BS, step, world)

    whole = worlds.train("ppo", files, tmp_path / "whole", **PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(ppo_update, "learn", fail_once)
        with pytest.raises(UserError, match=r"gradient of policy\.x is not finite at step 4; the checkpoint of step 2"):
            worlds.train("ppo", files, tmp_path / "run", **PLAIN)
    worlds.train("ppo", files, tmp_path / "run", resume=True, **PLAIN)
    assert worlds.hashes(tmp_path / "run") == worlds.hashes(whole)
    assert "reason" not in runs.read_json(tmp_path / "run" / "manifest.json")


def test_a_reward_that_is_no_number(files: Files, tmp_path: Path) -> None:
    judge = tiny.reward(seed=1)
    judge.score.weight.data.fill_(float("nan"))
    broken = worlds.save(tmp_path / "judge", judge)
    with pytest.raises(UserError, match=f"the score of {broken} is not finite at step 1; there is no checkpoint yet"):
        worlds.train("ppo", files, tmp_path / "run", reward=[broken], **PLAIN)
    with pytest.raises(UserError, match="returned nan; a reward must be a finite number"):
        worlds.train("ppo", files, tmp_path / "other", reward=["stages.worlds:no_number"], **PLAIN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": {"top_p": 0.9}}, "PPO samples from the policy itself"),
        ({"generation": {"top_k": 5}}, "PPO samples from the policy itself"),
        ({"generation": {"temperature": 0.0}}, "PPO samples from the policy itself"),
        ({"minibatch": 3}, "rollout_batch 8 is not a multiple of minibatch 3"),
        (
            {"generation": {"max_new_tokens": 128}},
            "max_new_tokens 128 leaves no room for a prompt: .* 128 tokens in all",
        ),
        ({"max_prompt_tokens": 3}, r"prompt 1 has \d+ tokens, the most here is 3"),
        ({"ptx_tokens": 100_000, "pretrain_data": "one line"}, "fewer than 128 tokens in all"),
        ({"reward": []}, "no reward given"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    files: Files, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if changes.get("pretrain_data"):
        changes = changes | {
            "pretrain_data": worlds.write(tmp_path / "short.jsonl", [{"text": changes["pretrain_data"]}])
        }
    with pytest.raises(UserError, match=message) as refused:
        worlds.train("ppo", files, tmp_path / "run", **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_prompt_may_fill_the_context_up_to_the_answer(files: Files, tmp_path: Path) -> None:
    """Context 128, 28 new tokens: 100 tokens of prompt are fine, 101 are not, and skip_long leaves them out."""
    tokenizer = tiny.tokenizer()
    words = {n: "§" * n for n in range(1, 120)}
    fitting = {len(inputs.render.prompt_ids(tokenizer, text)): text for text in words.values()}
    long = {n: fitting.get(n) or fitting[n - 1] + "§" for n in (100, 102)}
    sizes = sorted(len(inputs.render.prompt_ids(tokenizer, text)) for text in long.values())
    data = worlds.write(tmp_path / "p.jsonl", [{"prompt": long[100]}, {"prompt": long[102]}])
    limits = Limits(128, 1024, 0).leaving_room(28)
    assert sizes[0] <= 100 < sizes[1]
    with pytest.raises(UserError, match=r"prompt 2 has .* tokens, the most here is 100 .context 128."):
        inputs.questions(data, tokenizer, limits)
    limits = Limits(128, 1024, 0, skip_long=True).leaving_room(28)
    assert len(inputs.questions(data, tokenizer, limits)) == 1


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


def test_values_and_scores_do_not_see_the_padding(turn: Turn) -> None:
    """The whole batch in one pass and row by row."""
    e, pad = turn.experience, turn.nets.tokenizer.pad_token_id
    together = e.batch(list(range(8)), pad)
    with torch.no_grad():
        values_BT = scoring.values(turn.nets.value, together)
        for b in range(8):
            alone = batches.collate([e.episodes[b].prompt_ids], [e.episodes[b].response_ids], pad)
            torch.testing.assert_close(
                scoring.values(turn.nets.value, alone)[0], values_BT[b, : alone.T], rtol=0, atol=1e-5
            )


def test_compute_is_read(files: Files) -> None:
    assert Compute().model_dump() == {
        "device": "auto", "dtype": "float32", "micro_tokens": 16_384, "activation_checkpointing": False,
    }  # fmt: skip
