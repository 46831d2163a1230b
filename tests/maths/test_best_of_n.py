from __future__ import annotations

import numpy as np

from heedful.maths.kl import best_of_n_kl
from maths import golden


@golden.cases("best_of_n", "analytic_kl")
def test_golden_kl(case):
    kls = [best_of_n_kl(n) for n in case.inputs["n"]]
    case.check({"kl": kls, "d": np.sqrt(kls)})
