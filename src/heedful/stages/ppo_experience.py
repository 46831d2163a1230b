"""What one PPO iteration learns from: sampled episodes with rewards, log-probs, values and advantages.

Every rank computes a share and all ranks then hold the whole batch, so that statistics are global by construction
(P13).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heedful.config import NonFinite
from heedful.configs.ppo import PPOConfig
from heedful.learning.rollouts import readable as readable_prompt
from heedful.maths.advantages import gae, whiten
from heedful.maths.kl import shaped_rewards
from heedful.maths.masks import length_mask, penalise_missing_eos
from heedful.models import batches, scoring
from heedful.models.batches import Batch
from heedful.rollout.types import Episode, Sample
from heedful.training.parallel import Ranks

if TYPE_CHECKING:
    from heedful.stages.ppo import Networks


@dataclass
class Experience:
    """B episodes. Tensors are on the CPU; a *_BT value at t belongs to response token t, padding is 0."""

    episodes: list[Episode]
    raw_scores_B: Tensor
    """Rewards before the KL penalty, as the reward function gave them."""
    scores_B: Tensor
    """The same with missing-EOS penalties in place (P7)."""
    part_scores: dict[str, Tensor]
    mask_BT: Tensor
    logprobs_BT: Tensor = field(default_factory=lambda: torch.empty(0))
    ref_logprobs_BT: Tensor = field(default_factory=lambda: torch.empty(0))
    values_BT: Tensor = field(default_factory=lambda: torch.empty(0))
    kl_BT: Tensor = field(default_factory=lambda: torch.empty(0))
    advantages_BT: Tensor = field(default_factory=lambda: torch.empty(0))
    returns_BT: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and response together."""
        return [len(e.prompt_ids) + len(e.response_ids) for e in self.episodes]

    def check_finite(self) -> None:
        """Raises NonFinite with the name of the first tensor that holds a NaN or an infinity."""
        for name, tensor in (
            ("the log-probability under the policy", self.logprobs_BT),
            ("the log-probability under the reference", self.ref_logprobs_BT),
            ("the value net's output", self.values_BT),
        ):
            if not torch.isfinite(tensor).all():
                raise NonFinite(name)

    def batch(self, chosen: list[int], pad_id: int) -> Batch:
        return batches.collate(
            [self.episodes[i].prompt_ids for i in chosen], [self.episodes[i].response_ids for i in chosen], pad_id
        )


def score(config: PPOConfig, nets: Networks, episodes: list[Episode], ranks: Ranks) -> Experience:
    """Rewards of the texts; a response without EOS may get the fixed penalty instead (P7)."""
    lengths = [len(e.prompt_ids) + len(e.response_ids) for e in episodes]

    def scored(chosen: list[int]) -> tuple[list[int], Tensor]:
        total_b, parts = nets.reward([episodes[i] for i in chosen])
        return chosen, torch.stack([total_b, *parts.values()], dim=1)

    table = torch.empty(len(episodes), 1 + len(nets.reward.parts))
    for chosen, scores in ranks.each(batches.micro_batches(lengths, max_tokens=config.compute.micro_tokens), scored):
        table[chosen] = scores
    scores_B = table[:, 0]
    if config.missing_eos_penalty is not None:
        finished_B = torch.tensor([e.finished for e in episodes])
        scores_B = penalise_missing_eos(scores_B, finished_B, config.missing_eos_penalty)
    lengths_B = torch.tensor([len(e.response_ids) for e in episodes])
    mask_BT = length_mask(lengths_B, int(lengths_B.max()))
    parts = {part.name: table[:, i + 1] for i, part in enumerate(nets.reward.parts)}
    return Experience(episodes, table[:, 0], scores_B, parts, mask_BT)


@torch.no_grad()
def add_logprobs_and_values(
    config: PPOConfig, nets: Networks, experience: Experience, samples: list[Sample], ranks: Ranks
) -> None:
    """Old and reference log-probs at the sampling temperature (P4), values before each token (P16).

    In float32 the sampler's log-probs are kept; in lower precision they are computed by the training forward (P5).
    """
    temperature = config.generation.temperature

    def logprobs(model: Any, batch: Batch) -> Tensor:
        return scoring.response_logprobs(model, batch, temperature)

    def over(model: Any, compute: Callable[[Any, Batch], Tensor]) -> Tensor:
        """out_BT over all episodes, shared among the ranks."""

        def computed(chosen: list[int]) -> tuple[list[int], Tensor]:
            batch = experience.batch(chosen, nets.tokenizer.pad_token_id).to(ranks.device)
            with ranks.autocast():
                return chosen, compute(model, batch).float().cpu()

        out_BT = torch.zeros(experience.mask_BT.shape)
        passes = scoring.passes(model, experience.lengths, config.compute.micro_tokens, ranks.size)
        for chosen, values_bt in ranks.each(passes, computed):
            out_BT[chosen, : values_bt.shape[1]] = values_bt
        return out_BT

    if config.compute.dtype == "float32" and all(sample.logprobs is not None for sample in samples):
        experience.logprobs_BT = torch.zeros(experience.mask_BT.shape)
        experience.logprobs_BT[experience.mask_BT] = torch.tensor([x for s in samples for x in s.logprobs or []])
    else:
        experience.logprobs_BT = over(nets.policy, logprobs)
    experience.ref_logprobs_BT = over(nets.reference, logprobs)
    experience.values_BT = over(nets.value, scoring.values)
    experience.check_finite()


def add_advantages(config: PPOConfig, experience: Experience, beta: float) -> None:
    """Per-token reward (P8), optionally whitened (P11); GAE (P12); advantages whitened over the whole batch (P13)."""
    e = experience
    rewards_BT, e.kl_BT = shaped_rewards(e.scores_B, e.logprobs_BT, e.ref_logprobs_BT, e.mask_BT, beta)
    if config.whiten_rewards:
        rewards_BT = whiten(rewards_BT, e.mask_BT, shift_mean=False)
    advantages_BT, e.returns_BT = gae(rewards_BT, e.values_BT, e.mask_BT, config.gamma, config.lam)
    e.advantages_BT = whiten(advantages_BT, e.mask_BT)


def describe(experience: Experience, beta: float) -> dict[str, float]:
    """What is known before the update. Means over sequences, but entropy: over tokens."""
    e = experience
    kl_B, lengths_B = e.kl_BT.sum(1), e.mask_BT.sum(1).float()
    metrics = {
        "score": float(e.raw_scores_B.mean()),
        "score_std": float(e.raw_scores_B.std(unbiased=False)),
        "kl": float(kl_B.mean()),
        "kl_coef": beta,
        "reward": float((e.scores_B - beta * kl_B).mean()),
        "entropy": float(-e.logprobs_BT.sum() / e.mask_BT.sum()),  # mean of -log pi(sampled token): unbiased
        "length": float(lengths_B.mean()),
        "finished": sum(episode.finished for episode in e.episodes) / len(e.episodes),
    }
    if len(e.part_scores) > 1:
        metrics |= {f"score/{name}": float(scores_B.mean()) for name, scores_B in e.part_scores.items()}
    return metrics


def readable(experience: Experience, count: int) -> list[dict[str, Any]]:
    """The first episodes for samples.jsonl."""
    return [
        {"prompt": readable_prompt(e.prompt), "completion": e.completion, "score": round(float(score), 4)}
        for e, score in zip(experience.episodes[:count], experience.raw_scores_B, strict=False)
    ]
