"""The same figures from plain transformers and plain Python, row by row, to compare with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from heedful.learning.examples import Example, Ranked


def pieces(tokenizer: Any, texts: list[str], most: int) -> list[Example]:
    """Documents with EOS, cut after every `most` tokens; of a piece of one token there is nothing to learn."""
    rows = []
    for text in texts:
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        while len(ids) > 1:
            rows.append(Example(ids[:1], ids[1:most]))
            ids = ids[most:]
    return rows


def response_loss(model: Any, row: Example) -> Tensor:
    """Summed cross-entropy of a response, one forward for this row alone."""
    ids = torch.tensor([row.prompt_ids + row.response_ids])
    logits_TV = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1]
    return -logits_TV.log_softmax(-1)[range(len(row.response_ids)), row.response_ids].sum()


def mean_response_loss(model: Any, rows: list[Example]) -> Tensor:
    """Mean over all response tokens of all rows."""
    return sum(response_loss(model, row) for row in rows) / sum(len(row.response_ids) for row in rows)


def score(model: Any, prompt_ids: list[int], response_ids: list[int]) -> Tensor:
    """A classifier's plain output, one forward for this row alone."""
    return model(input_ids=torch.tensor([prompt_ids + response_ids])).logits[0, 0]  # type: ignore[no-any-return]


def ranking_loss(model: Any, row: Ranked, normaliser: str = "k_choose_2") -> tuple[Tensor, list[float]]:
    """(loss of one ranking, the margins of its pairs)."""
    scores = [score(model, row.prompt_ids, response) for response in row.responses]
    K, total, margins = len(scores), torch.zeros(()), []
    for w in range(K):
        for l in range(K):  # noqa: E741
            if row.ranks[w] < row.ranks[l]:
                total = total + torch.log1p(torch.exp(-(scores[w] - scores[l])))
                margins.append((scores[w] - scores[l]).item())
    return total / (K * (K - 1) / 2 if normaliser == "k_choose_2" else len(margins)), margins


def gradient_norm(model: Any) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
