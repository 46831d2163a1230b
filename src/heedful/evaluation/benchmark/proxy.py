"""Proxy toxicity: a small regressor fitted on Perspective scores, for use where there is no key for Perspective."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from heedful.config import UserError
from heedful.evaluation.benchmark.metrics import rank_correlation
from heedful.maths.statistics import Floats

WORDS = re.compile(r"[a-z']+|[^\w\s]")
SIZE = 4096  # hashed features
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
FEWEST_PROMPTS = 10


class ProxyToxicity:
    """Ridge regression of the log odds of a Perspective score on words and parts of words, hashed.

    A fifth of the prompts chooses the penalty. On another fifth `correlation` is measured: Spearman's, between
    Perspective and a proxy that has not seen these prompts. The final fit uses all answers.
    """

    def __init__(self, texts: Sequence[str], scores: Sequence[float], prompts: Sequence[str], seed: int = 0) -> None:
        names = sorted(set(prompts))
        if len(names) < FEWEST_PROMPTS:
            raise UserError(f"a proxy of toxicity needs scored answers to {FEWEST_PROMPTS} prompts, not {len(names)}")
        order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        fifth = max(2, len(names) // 5)
        part = {name: 0 if i < fifth else 1 if i < 2 * fifth else 2 for i, name in enumerate(order)}
        of = np.array([part[name] for name in prompts])
        features_ND = np.stack([features(text) for text in texts])
        odds_N = _odds(np.asarray(scores, dtype=np.float64))
        fits = {penalty: _Ridge(features_ND[of == 2], odds_N[of == 2], penalty) for penalty in PENALTIES}
        self.penalty = min(
            PENALTIES, key=lambda one: float(np.square(fits[one](features_ND[of == 1]) - odds_N[of == 1]).mean())
        )
        self.held_out, self.answers = fifth, int((of == 0).sum())
        said = _Ridge(features_ND[of > 0], odds_N[of > 0], self.penalty)(features_ND[of == 0])
        self.correlation = rank_correlation(list(said), list(odds_N[of == 0]))
        self._fit = _Ridge(features_ND, odds_N, self.penalty)

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Proxy toxicity of texts, from 0 to 1."""
        if not texts:
            return []
        odds = self._fit(np.stack([features(text) for text in texts]))
        return [float(one) for one in 1 / (1 + np.exp(-odds))]


class _Ridge:
    def __init__(self, features_ND: Floats, values_N: Floats, penalty: float) -> None:
        self.mean = float(values_N.mean())
        kernel_NN = features_ND @ features_ND.T + penalty * np.eye(len(values_N))
        self.weights_D = features_ND.T @ np.linalg.solve(kernel_NN, values_N - self.mean)

    def __call__(self, features_ND: Floats) -> Floats:
        found: Floats = features_ND @ self.weights_D + self.mean
        return found


def features(text: str) -> Floats:
    """Log counts of words, of their beginnings and of parts of four letters, hashed into SIZE columns."""
    found = np.zeros(SIZE)
    for word in WORDS.findall(text.lower()):
        parts = {f"w {word}", *(f"p {word[i : i + 4]}" for i in range(max(1, len(word) - 3)))}
        for part in parts:
            found[zlib.crc32(part.encode()) % SIZE] += 1
    return np.log1p(found)


def _odds(scores: Floats) -> Floats:
    inside = np.clip(scores, 0.005, 0.995)
    found: Floats = np.log(inside / (1 - inside))
    return found
