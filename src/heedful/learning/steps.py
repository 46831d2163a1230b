"""The update of one iteration: minibatches, the policy step and the value step (P14-P21).

The steps know no algorithm: a policy step takes the loss as a function of the new log-probs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedful.configs.shared import Optimiser
from heedful.learning import likelihood
from heedful.learning.examples import Example
from heedful.learning.experience import Experience
from heedful.learning.passes import Passes
from heedful.maths.losses import SumCount, explained_variance, value_loss
from heedful.models import scoring
from heedful.models.batches import Batch
from heedful.training import optimiser as optim
from heedful.training import order
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks

# (new logprobs_BT, the same rows of the experience) -> (sum, count, metrics)
Loss = Callable[[Tensor, Experience], tuple[Tensor, Tensor, Mapping[str, SumCount | Tensor]]]


@dataclass(frozen=True)
class Learner:
    """A model that learns, with its optimiser. `name` stands before its weights in messages."""

    name: str
    model: Any
    adam: torch.optim.Optimizer
    settings: Optimiser

    def rate(self, step: int, total: int) -> float:
        """Learning rate of an iteration. Warm-up starts at a tenth: an iteration at 0 would be sampled for nothing."""
        return optim.learning_rate(self.settings, step, total, first=0.1)

    def update(self, lr: float, means: Means, ranks: Ranks) -> None:
        """One optimiser step with the gradients of all ranks."""
        ranks.sum_gradients(self.model)
        norm = optim.step(self.model, self.adam, self.settings, lr, f"{self.name}.")
        means.add({f"{self.name}_gradient_norm": (norm, 1)})


@dataclass(frozen=True)
class Minibatch:
    """Some episodes, and this rank's forward passes over them: laid out once for all models."""

    number: int
    """Of all minibatches of the run."""
    first: bool
    """Whether the policy is still the one that sampled."""
    rows: Experience
    passes: list[tuple[Experience, Batch, bool]]
    """With each: whether it counts (`Ranks.deal`)."""

    @property
    def tokens(self) -> int:
        return int(self.rows.mask_BT.sum())


def minibatch(
    experience: Experience, chosen: list[int], *, number: int = 0, first: bool = True, model: Any, passes: Passes
) -> Minibatch:
    """The chosen episodes, with passes as `model` needs them."""
    rows = experience.rows(chosen, experience.mask_BT.shape[1], torch.device("cpu"))
    laid_out = []
    for part, counts in passes.ranks.deal(passes.cut(model, rows.episodes)):
        batch = passes.batch([rows.episodes[i] for i in part])
        laid_out.append((rows.rows(part, batch.T, passes.ranks.device), batch, counts))
    return Minibatch(number, first, rows, laid_out)


@dataclass(frozen=True)
class PretrainingMix:
    """Texts whose loss is added to the policy's (PPO-ptx, P21)."""

    texts: list[Example]
    coef: float
    rows: int
    """Texts a minibatch."""
    seed: int


def policy_step(
    policy: Learner,
    minibatch: Minibatch,
    loss: Loss,
    *,
    count: int,
    temperature: float,
    lr: float,
    mix: PretrainingMix | None = None,
    passes: Passes,
    means: Means,
) -> None:
    """One step of the policy on the mean loss: the sum over the minibatch divided by `count`, plus the mix."""
    policy.model.train()
    gap = policy_gradients(
        policy.model, minibatch, loss, count=count, temperature=temperature, passes=passes, means=means
    )
    if minibatch.first:
        means.largest("logprob_gap", gap)
    if mix is not None:
        pretraining_gradients(policy.model, mix, minibatch.number, passes=passes, means=means)
    policy.update(lr, means, passes.ranks)
    policy.model.eval()


def value_step(value: Learner, minibatch: Minibatch, *, clip: float, lr: float, passes: Passes, means: Means) -> None:
    """One step of the value net on the mean loss over the minibatch's tokens (P15)."""
    value.model.train()
    value_gradients(value.model, minibatch, clip=clip, passes=passes, means=means)
    value.update(lr, means, passes.ranks)
    value.model.eval()


def policy_gradients(
    policy: Any, minibatch: Minibatch, loss: Loss, *, count: int, temperature: float, passes: Passes, means: Means
) -> Tensor:
    """Add the policy's gradients of one minibatch.

    Returns the largest |log-prob - old log-prob|. Before the first step of an iteration it is rounding alone (P5, P17).
    """
    gap = torch.zeros((), device=passes.ranks.device)
    for rows, batch, counts in minibatch.passes:
        with passes.ranks.autocast():
            logprobs_BT = scoring.response_logprobs(policy, batch, temperature)
        total, real, found = loss(logprobs_BT, rows)
        metrics: dict[str, Any] = dict(found)
        passes.ranks.backward(total * counts / count, policy)
        if not counts:
            continue
        means.largest("ratio_max", metrics.pop("ratio_max"))
        means.add({"policy_loss": (total, real), **metrics})
        gap = torch.maximum(gap, ((logprobs_BT.detach() - rows.logprobs_BT).abs() * rows.mask_BT).max())
    return gap


def value_gradients(value: Any, minibatch: Minibatch, *, clip: float, passes: Passes, means: Means) -> None:
    """Add the value net's gradients of one minibatch, a mean over its tokens (P15)."""
    for rows, batch, counts in minibatch.passes:
        assert rows.values_BT is not None
        assert rows.returns_BT is not None
        with passes.ranks.autocast():
            values_BT = scoring.values(value, batch)
        total, real, metrics = value_loss(values_BT, rows.values_BT, rows.returns_BT, rows.mask_BT, clip)
        passes.ranks.backward(total * counts / minibatch.tokens, value)
        if counts:
            means.add({"value_loss": (total, real), **{f"value/{key}": pair for key, pair in metrics.items()}})


def pretraining_gradients(policy: Any, mix: PretrainingMix, number: int, *, passes: Passes, means: Means) -> None:
    """Add `mix.coef` x the gradient of the mean loss on texts to the policy's, in the same buffer (P21)."""
    chosen = [mix.texts[i] for i in order.endless(mix.seed, number, mix.rows, len(mix.texts), stream=2)]
    likelihood.add_gradients(policy, chosen, passes, means, "ptx_loss", weight=mix.coef)


def update_metrics(means: Means, ranks: Ranks) -> dict[str, float]:
    """Metrics over all minibatches. The value net's moments become the explained variance, if the returns vary."""
    metrics = means.reduce(ranks)
    moments = {
        key: metrics.pop(f"value/{key}", 0.0) for key in ("error", "error_squared", "returns", "returns_squared")
    }
    explained = explained_variance(moments)
    return metrics | ({"explained_variance": explained} if math.isfinite(explained) else {})
