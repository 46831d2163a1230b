"""KL divergence: estimators, rewards with a KL penalty, the KL coefficient, best of n. Letters: docs/conventions.md.

The estimators k1, k2 and k3 are those of Schulman 2020, "Approximating KL divergence".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heedful.maths.masks import keep


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate KL(pi || pi_ref) from samples of pi by log pi - log pi_ref, in nats: unbiased, may be negative (P9)."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate the KL divergence by half the squared log-ratio, in nats: biased, with low variance (P9)."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate KL(pi || pi_ref) by exp(-d) - 1 + d with d = `k1`, in nats: unbiased and never negative (P9)."""
    log_ratio = ref_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def sequence_kl(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sequence KL kl_B in nats: `k1` summed over the real tokens of each row (P9).

    Its mean over samples of the policy estimates KL(policy || reference) of whole answers.
    """
    return keep(k1(logprobs_BT, ref_logprobs_BT), mask_BT).sum(-1)


def shaped_rewards(
    scores_B: Tensor, logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor, kl_coef: float
) -> tuple[Tensor, Tensor]:
    """Rewards with a KL penalty: (rewards_BT, kl_BT), where kl_BT is `k1` in nats at each real token (P8).

    Each real token costs kl_coef * k1. The last real token also gets the score. Padding is 0. Each row's mask must be a
    non-empty prefix. A row of `kl_BT` sums to its sequence KL, a row of `rewards_BT` to score - kl_coef * KL.
    Source: Ouyang et al. 2022, equation 2.

    A response of two tokens and one place of padding, score 2. Token 1 is 0.5 nats likelier than under the reference:

    >>> logprobs_BT, ref_logprobs_BT = torch.tensor([[-1.0, -1.0, 0.0]]), torch.tensor([[-1.5, -1.0, 0.0]])
    >>> rewards_BT, kl_BT = shaped_rewards(torch.tensor([2.0]), logprobs_BT, ref_logprobs_BT, logprobs_BT < 0, 0.5)
    >>> rewards_BT.tolist(), kl_BT.tolist()
    ([[-0.25, 2.0, 0.0]], [[0.5, 0.0, 0.0]])
    """
    lengths_B = mask_BT.sum(-1)
    assert bool((lengths_B > 0).all()), "a response has at least one token"
    kl_BT = keep(k1(logprobs_BT, ref_logprobs_BT), mask_BT)
    steps_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    scores_BT = keep(scores_B[:, None], steps_T == lengths_B[:, None] - 1)
    return scores_BT - kl_coef * kl_BT, kl_BT


def adapt_kl_coef(kl_coef: float, kl: float, target: float, horizon: float, episodes: int) -> float:
    """Next KL coefficient (P10): kl_coef * (1 + error * episodes / horizon), error = clip(kl / target - 1, -0.2, 0.2).

    `kl` is the mean sequence KL in nats, `target` the one to reach. `episodes` counts those since the last update.
    Source: Ziegler et al. 2019, section 2.2.

    A KL of twice the target raises the coefficient by at most 20 % in one horizon:

    >>> round(adapt_kl_coef(0.1, kl=12.0, target=6.0, horizon=1000, episodes=100), 6)
    0.102
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * episodes / horizon)


def best_of_n_kl(n: int) -> float:
    """KL divergence in nats between the best of n samples and the policy: ln n - (n - 1) / n (O2).

    Exact if scores never tie, else an upper bound. Source: Stiennon et al. 2020, footnote 15.

    >>> best_of_n_kl(1), round(best_of_n_kl(4), 3)
    (0.0, 0.636)
    """
    return math.log(n) - (n - 1) / n
