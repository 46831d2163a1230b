"""KL divergence of best-of-n sampling."""

from __future__ import annotations

import math


def kl(n: int) -> float:
    """KL divergence in nats between the best of n samples and the policy: ln n - (n - 1) / n (O2).

    Exact if scores never tie, else an upper bound. Source: Stiennon et al. 2020, footnote 15.

    >>> kl(1), round(kl(4), 3)
    (0.0, 0.636)
    """
    return math.log(n) - (n - 1) / n
