"""KL divergence of best-of-n sampling. Conventions: docs/conventions.md."""

from __future__ import annotations

import math


def kl(n: int) -> float:
    """KL divergence in nats from the policy to the best of its n samples (O2): ln n - (n - 1) / n.

    Exact if scores never tie, else an upper bound. Example: kl(1) is 0 and kl(4) is 1.386 - 0.75 = 0.636.
    Source: Stiennon et al. 2020, section G.3.
    """
    return math.log(n) - (n - 1) / n
