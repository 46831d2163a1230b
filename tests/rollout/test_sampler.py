from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedful.config import NonFinite
from heedful.configs.shared import Generation
from heedful.rollout.sampler import sample


def logits_of(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def draw_all(logits_1V: torch.Tensor, draws: list[float], settings: Generation) -> list[int]:
    tokens, _ = sample(
        logits_1V.expand(len(draws), -1), torch.tensor(draws, dtype=torch.float64), [settings] * len(draws)
    )
    return tokens.tolist()


@pytest.mark.medium
@given(st.integers(1, 90), st.integers(0, 1000), st.sampled_from([0.5, 1.0, 1.7]))
def test_the_token_is_the_first_whose_cumulative_probability_exceeds_the_draw(V: int, seed: int, t: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, V).astype(np.float32)
    logits[rng.random(V) < 0.3] = -np.inf
    logits[rng.integers(V)] = 0.0
    weights = np.exp(logits.astype(np.float64) / t)
    cumulative = np.cumsum(weights) / weights.sum()
    draws = [0.0, 1 - 2**-53, *rng.random(20)]
    for draw, token in zip(
        draws, draw_all(torch.from_numpy(logits[None]), draws, Generation(temperature=t)), strict=True
    ):
        assert weights[token] > 0
        below = cumulative[token - 1] if token else 0.0
        assert below - 1e-6 <= draw <= cumulative[token] + 1e-6


def test_a_draw_on_a_boundary_belongs_to_the_next_token() -> None:
    assert draw_all(logits_of([0.25, 0.25, 0.5]), [0.0, 0.25, 0.5, 0.75], Generation()) == [0, 1, 2, 2]
    sparse = logits_of([0.0] * 60 + [0.5, 0.0, 0.5] + [0.0] * 30)
    assert draw_all(sparse, [0.0, 0.5, 1 - 2**-53], Generation()) == [60, 62, 62]


def test_rounding_at_the_boundaries_never_reaches_a_forbidden_token() -> None:
    """Draws within a few roundings of where blocks of tokens meet; a block is 20 wide here and its ends are
    forbidden.
    """
    generator = torch.Generator().manual_seed(0)
    logits_NV = 3 * torch.randn(300, 400, generator=generator)
    logits_NV[:, ::20] = logits_NV[:, 19::20] = -torch.inf
    weights_NV = (logits_NV - logits_NV.amax(-1, keepdim=True)).exp()
    upto_NG = weights_NV.double().cumsum(-1)[:, 19::20]
    for block in range(20):
        for steps in (-2, -1, 0, 1):
            draws_N = upto_NG[:, block] / upto_NG[:, -1] + steps * 2.0**-53
            tokens_N, _ = sample(logits_NV, draws_N.clamp(max=1 - 2**-53), [Generation()] * 300)
            assert (weights_NV.gather(-1, tokens_N[:, None]) > 0).all()


def test_frequencies_are_the_probabilities() -> None:
    probabilities = [0.05, 0.0, 0.4, 0.25, 0.0, 0.3, 0.0]
    draws = [(i + 0.5) / 2000 for i in range(2000)]
    counts = np.bincount(draw_all(logits_of(probabilities), draws, Generation()), minlength=7)
    assert counts.tolist() == [2000 * p for p in probabilities]


def test_temperature_sharpens_sampling_and_logprobs() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    tokens, logprobs = sample(logits, torch.tensor([0.0], dtype=torch.float64), [Generation(temperature=0.5)])
    assert tokens.tolist() == [0]
    assert float(logprobs) == pytest.approx(2 - np.log(np.exp([2.0, 4.0, 0.0]).sum()), abs=1e-6)


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 5e-324])
def test_a_temperature_near_zero_takes_the_best_and_breaks_no_other_row(temperature: float) -> None:
    logits = torch.tensor([[80.0, -300.0, 81.0]]).repeat(2, 1)
    plain = Generation()
    tokens, logprobs = sample(logits, torch.tensor([0.0, 0.0]), [Generation(temperature=temperature), plain])
    alone = sample(logits[1:], torch.tensor([0.0]), [plain])
    assert (tokens.tolist(), logprobs.tolist()) == ([2, int(alone[0])], [0.0, float(alone[1])])


def test_temperature_zero_takes_the_best_and_reports_plain_logprobs() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    tokens, logprobs = sample(logits, torch.tensor([0.99], dtype=torch.float64), [Generation(temperature=0.0)])
    assert tokens.tolist() == [1]
    assert float(logprobs) == pytest.approx(2 - np.log(np.exp([1.0, 2.0, 0.0]).sum()), abs=1e-6)


DRAWS = [(i + 0.5) / 1000 for i in range(1000)]
PROBABILITIES = [0.1, 0.3, 0.15, 0.25, 0.2]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (Generation(top_k=2), [1, 3]),
        (Generation(top_k=9), [0, 1, 2, 3, 4]),
        (Generation(top_p=0.5), [1, 3]),
        (Generation(top_p=0.56), [1, 3, 4]),
        (Generation(top_p=0.01), [1]),
        (Generation(top_k=3, top_p=0.5), [1, 3]),
        (Generation(top_k=3, top_p=0.9), [1, 3, 4]),
        (Generation(top_k=1), [1]),
    ],
)
def test_top_k_and_top_p_keep_the_best_and_their_proportions(settings: Generation, kept: list[int]) -> None:
    tokens = draw_all(logits_of(PROBABILITIES), DRAWS, settings)
    counts = np.bincount(tokens, minlength=5)
    total = sum(PROBABILITIES[token] for token in kept)
    expected = [PROBABILITIES[token] / total * 1000 if token in kept else 0 for token in range(5)]
    assert np.abs(counts - expected).max() <= 1
    _, logprobs = sample(logits_of(PROBABILITIES), torch.tensor([0.0], dtype=torch.float64), [settings])
    assert float(logprobs.exp()) == pytest.approx(PROBABILITIES[kept[0]], abs=1e-6)


def test_half_precision_logits_are_worked_in_float32() -> None:
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(0)).bfloat16()
    _, logprobs = sample(logits, torch.tensor([0.3], dtype=torch.float64), [Generation()])
    assert logprobs.dtype == torch.float32


def test_every_row_has_its_own_settings() -> None:
    """Probabilities .1 .3 .15 .25 .2, all rows with the draw 0.5."""
    kinds = [
        Generation(),  # cumulative .1 .4 .55: the third token
        Generation(temperature=0.0),  # the largest
        Generation(top_k=2),  # .3 and .25 of .55: the second
        Generation(top_p=0.6),  # .3, .25 and .2 of .75, in order of the tokens: the second of them
        Generation(temperature=0.5, top_k=1),
        Generation(temperature=2.0),
    ]
    logits_NV = logits_of(PROBABILITIES).expand(len(kinds), -1)
    draws_N = torch.full((len(kinds),), 0.5, dtype=torch.float64)
    tokens_N, logprobs_N = sample(logits_NV, draws_N, kinds)
    assert tokens_N.tolist() == [2, 1, 1, 3, 1, 2]
    roots = np.sqrt(PROBABILITIES)
    expected = [0.15, 0.3, 0.3, 0.25, 0.3**2 / np.square(PROBABILITIES).sum(), roots[2] / roots.sum()]
    assert logprobs_N.exp().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_broken_logits_stop_the_sampling(broken: float) -> None:
    with pytest.raises(NonFinite, match="a logit of the sampled policy"):
        sample(torch.tensor([[0.0, broken]]), torch.tensor([0.5], dtype=torch.float64), [Generation()])
