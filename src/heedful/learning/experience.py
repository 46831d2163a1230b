"""What one iteration learns from: sampled episodes with scores, log-probs, values and advantages.

Each function takes what it needs by name and knows no algorithm. Every rank computes a share of the work. Afterwards
all ranks hold the whole batch, so statistics over it are global by construction (P13).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedful.learning.passes import Passes, total_lengths
from heedful.learning.rollouts import readable as readable_prompt
from heedful.maths import correction
from heedful.maths.correction import CorrectionLevel
from heedful.maths.masks import length_mask, penalise_missing_eos
from heedful.models import batches, scoring
from heedful.models.batches import Batch
from heedful.rewards.functions import Reward
from heedful.rollout.types import Episode


def response_mask(episodes: list[Episode]) -> Tensor:
    """mask_BT, True at the response tokens."""
    lengths_B = torch.tensor([len(e.response_ids) for e in episodes])
    return length_mask(lengths_B, int(lengths_B.max()))


@dataclass(frozen=True)
class Scores:
    """Rewards of B episodes before any KL penalty."""

    raw_B: Tensor
    """As the reward function gave them."""
    total_B: Tensor
    """The same with missing-EOS penalties in place (P7)."""
    parts: dict[str, Tensor]
    """Each part of a weighted sum, without its weight. NaN where it has no opinion."""


def score(reward: Reward, episodes: list[Episode], *, missing_eos_penalty: float | None, passes: Passes) -> Scores:
    """Score the texts. A response without EOS gets `missing_eos_penalty` instead, unless that is None (P7)."""

    def scored(chosen: list[int]) -> tuple[list[int], Tensor]:
        total_b, parts = reward([episodes[i] for i in chosen])
        return chosen, torch.stack([total_b, *parts.values()], dim=1)

    table = torch.empty(len(episodes), 1 + len(reward.parts))
    micro_batches, ranks = batches.micro_batches(total_lengths(episodes), max_tokens=passes.micro_tokens), passes.ranks
    if ranks.shards is not None:  # one part after the other: the ranks share each pass of a model
        columns = {
            part.name: part.together(episodes, micro_batches, ranks.each_pass, ranks.each) for part in reward.parts
        }
        table = torch.stack([reward.total(columns, episodes), *columns.values()], dim=1)
    else:
        for chosen, scores in ranks.each(micro_batches, scored):
            table[chosen] = scores
    raw_B = total_B = table[:, 0]
    if missing_eos_penalty is not None:
        finished_B = torch.tensor([e.finished for e in episodes])
        total_B = penalise_missing_eos(raw_B, finished_B, missing_eos_penalty)
    return Scores(raw_B, total_B, {part.name: table[:, i + 1] for i, part in enumerate(reward.parts)})


def logprobs(model: Any, episodes: list[Episode], *, temperature: float, passes: Passes, name: str) -> Tensor:
    """logprobs_BT of the response tokens at the sampling temperature (P4). `name`: the model, for messages."""

    def compute(model: Any, batch: Batch) -> Tensor:
        return scoring.response_logprobs(model, batch, temperature)

    return passes.over(model, episodes, compute, f"the log-probability under {name}")


def old_logprobs(policy: Any, episodes: list[Episode], *, exact: bool, temperature: float, passes: Passes) -> Tensor:
    """logprobs_BT of the policy before the update.

    The sampler's own log-probs are kept if they are `exact` and of the present weights. Otherwise the training forward
    computes them (P5).
    """
    if not exact or any(e.logprobs is None or e.age for e in episodes):
        return logprobs(policy, episodes, temperature=temperature, passes=passes, name="the policy")
    return sampler_logprobs(episodes)


def sampler_logprobs(episodes: list[Episode]) -> Tensor:
    """logprobs_BT as the sampler gave them."""
    mask_BT = response_mask(episodes)
    logprobs_BT = torch.zeros(mask_BT.shape)
    logprobs_BT[mask_BT] = torch.tensor([x for e in episodes for x in e.logprobs or []])
    return logprobs_BT


def correct(
    e: Experience, *, level: CorrectionLevel | None, measured: CorrectionLevel, cap: float
) -> tuple[Experience, dict[str, float]]:
    """Weigh the advantages with truncated importance weights, if the sampler was not the old policy. With metrics.

    The loss of a token is its advantage times something that is not negative, so this weighs the loss. The KL penalty
    of a loss and the value net are as they were. `level` None: weigh nothing, and measure at the level `measured`.
    """
    if any(episode.logprobs is None for episode in e.episodes):
        return e, {}
    sampler_BT = sampler_logprobs(e.episodes)
    if torch.equal(sampler_BT, e.logprobs_BT):
        return e, {}
    how = (e.logprobs_BT, sampler_BT, e.mask_BT, cap, level or measured)
    metrics = {f"mismatch/{name}": value for name, value in correction.mismatch(*how).items()}
    metrics["mismatch/age"] = sum(episode.age for episode in e.episodes) / len(e.episodes)
    if level is None:
        return e, metrics
    weights_BT = correction.truncated_weights(*how)
    return dataclasses.replace(e, advantages_BT=e.advantages_BT * weights_BT), metrics


def values(value: Any, episodes: list[Episode], *, passes: Passes) -> Tensor:
    """values_BT of a value net: [:, t] is read before response token t is seen (P16)."""
    return passes.over(value, episodes, scoring.values, "the value net's output")


@dataclass(frozen=True)
class Experience:
    """B episodes. Tensors are on the CPU. A *_BT value at t belongs to response token t, and padding is 0."""

    episodes: list[Episode]
    scores: Scores
    mask_BT: Tensor
    logprobs_BT: Tensor
    """Of the policy before this iteration's update."""
    ref_logprobs_BT: Tensor
    kl_BT: Tensor
    """Log-ratio of policy and reference at each token: a row sums to its sequence KL in nats."""
    advantages_BT: Tensor
    """One advantage for a whole response is repeated at each of its tokens."""
    values_BT: Tensor | None = None
    """Of algorithms with a value net, as are the returns."""
    returns_BT: Tensor | None = None

    def rows(self, chosen: list[int], T: int, device: torch.device) -> Experience:
        """Some of the episodes: their first T columns on `device`."""
        scores = Scores(self.scores.raw_B[chosen], self.scores.total_B[chosen], {})
        tensors = {
            field.name: x_BT[chosen, :T].to(device)
            for field in dataclasses.fields(self)
            if isinstance(x_BT := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, episodes=[self.episodes[i] for i in chosen], scores=scores, **tensors)


def describe(e: Experience, *, kl_coef: float) -> dict[str, float]:
    """Metrics known before the update: means over sequences, of the entropy over tokens."""
    kl_B, lengths_B = e.kl_BT.sum(1), e.mask_BT.sum(1).float()
    metrics = {
        "score": float(e.scores.raw_B.mean()),
        "score_std": float(e.scores.raw_B.std(unbiased=False)),
        "kl": float(kl_B.mean()),
        "kl_coef": kl_coef,
        "reward": float((e.scores.total_B - kl_coef * kl_B).mean()),
        "entropy": float(-e.logprobs_BT.sum() / e.mask_BT.sum()),  # mean of -log pi(sampled token): unbiased
        "length": float(lengths_B.mean()),
        "finished": sum(episode.finished for episode in e.episodes) / len(e.episodes),
    }
    if len(e.scores.parts) > 1:
        for name, scores_B in e.scores.parts.items():
            silent_B = scores_B.isnan()
            if not silent_B.all():
                metrics[f"score/{name}"] = float(scores_B.nanmean())
            if silent_B.any():
                metrics[f"no_opinion/{name}"] = float(silent_B.float().mean())
    return metrics


def readable(experience: Experience, count: int) -> list[dict[str, Any]]:
    """The first episodes for samples.jsonl."""
    return [
        {"prompt": readable_prompt(e.prompt), "completion": e.completion, "score": round(float(score), 4)}
        for e, score in zip(experience.episodes[:count], experience.scores.raw_B, strict=False)
    ]
