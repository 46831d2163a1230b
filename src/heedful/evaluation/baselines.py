"""A bag of words: the baseline that a reward model must beat. The other baseline, "longer wins", needs no code."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

WORD = re.compile(r"\w+|[^\w\s]")
PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


class BagOfWords:
    """Logistic regression on the difference of two answers in log counts of words and word pairs and in log length.

    `pairs` are (better, worse). A fifth of the `groups` (posts, topics) is held out to choose the penalty on the
    squared weights. The final fit uses all pairs.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], groups: Sequence[str], size: int = 4000, seed: int = 0
    ) -> None:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        common = Counter(token for text in texts for token in set(_tokens(text))).most_common(size)
        self._column = {token: column for column, (token, n) in enumerate(common) if n > 2}
        features_MD, row = self._features(texts), {text: i for i, text in enumerate(texts)}
        ends = torch.tensor([[row[better], row[worse]] for better, worse in pairs])

        names = np.array(sorted(set(groups)), dtype=object)
        apart = set(np.random.default_rng(seed).permutation(names)[: max(1, len(names) // 5)])
        apart_N = torch.tensor([group in apart for group in groups])

        def loss_apart(penalty: float) -> float:
            return float(_loss(features_MD @ _fitted(features_MD, ends[~apart_N], penalty), ends[apart_N]))

        self.penalty = min(PENALTIES, key=loss_apart)
        self._weights_D = _fitted(features_MD, ends, self.penalty)

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Scores of answers. Higher is better. Only differences have a meaning."""
        scores: list[float] = (self._features(texts) @ self._weights_D).tolist()
        return scores

    def _features(self, texts: Sequence[str]) -> Tensor:
        counts = np.zeros((len(texts), len(self._column) + 1), dtype=np.float32)
        for i, text in enumerate(texts):
            for token, n in Counter(_tokens(text)).items():
                if token in self._column:
                    counts[i, self._column[token]] = n
            counts[i, -1] = len(WORD.findall(text))
        return torch.from_numpy(np.log1p(counts))


def _tokens(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return words + [" ".join(pair) for pair in itertools.pairwise(words)]


def _loss(scores_M: Tensor, ends: Tensor) -> Tensor:
    return softplus(scores_M[ends[:, 1]] - scores_M[ends[:, 0]]).mean()


def _fitted(features_MD: Tensor, ends: Tensor, penalty: float) -> Tensor:
    weights_D = torch.zeros(features_MD.shape[1], requires_grad=True)
    search = torch.optim.LBFGS([weights_D], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = _loss(features_MD @ weights_D, ends) + penalty * weights_D.square().sum()
        loss.backward()
        return loss

    search.step(closure)
    return weights_D.detach()
