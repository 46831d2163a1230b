"""The golden cases in tests/golden as parametrised tests that cannot forget a case or a field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[1] / "golden"
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])

# Variants that heedful does not offer: (file, variant) -> why.
NOT_OFFERED = {
    ("kl_rewards", "last_token_k3"): "the reward's KL is k1 (P8)",
    ("kl_rewards", "post_eos"): "the score sits at the last real token (P8)",
    ("kl_rewards", "post_eos_k3"): "the score sits at the last real token (P8)",
    ("gae", "post_eos"): "values end at the last real token (P8)",
    ("gae", "trl_classic_whiten_rewards"): "a known mistake: padding leaks through whitened rewards (P11)",
    ("ppo_loss", "post_eos"): "values end at the last real token (P8)",
    ("ppo_loss", "seq_mean"): "the mean is over the tokens of the whole minibatch (P14)",
    ("ppo_step", "post_eos"): "values end at the last real token (P8)",
    ("token_masks", "truncate_after"): "a response ends at EOS, not at a chosen token (P7)",
}
# Fields of offered cases that belong to a variant that is not.
FIELDS_NOT_OFFERED = {
    ("logprobs", "response_tokens"): {"entropy": "metrics estimate it by the mean of -log pi of the samples"},
    ("token_masks", "eos_truncation"): {
        "postprocessed_responses": "the engine stops at EOS, so that nothing is truncated (P7)",
        "response_lengths": "an input of the test: the engine's samples have their lengths",
        "contains_eos": "an input of the test: the engine says why a sample ended",
        "position_ids_hf": "position ids are the exclusive cumulative sum (P6)",
        "scores_subtract_penalty": "a missing EOS replaces the score (P7)",
    },
    ("preference_losses", "rloo_trl"): {"reinforce_loss": "RLOO clips the ratio; at ratio 1 the gradients are equal"},
    ("optim", "adam_epsilon"): {"tensorflow": "Adam is torch's (P19)"},
}
RUN: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Case:
    """One golden case; `check` compares every expected field that is offered."""

    id: str
    group: str
    variant: str
    conformance: str
    inputs: dict[str, Any]
    expected: dict[str, Any]
    rtol: float
    atol: float

    def tensors(self, dtype: torch.dtype, *names: str) -> list[torch.Tensor]:
        """Inputs as tensors: integers stay integers, fractions become `dtype`."""
        return [tensor(self.inputs[name], dtype) for name in names]

    def check(self, results: dict[str, Any], dtype: torch.dtype = torch.float64) -> None:
        """Results under the names of the expected fields, all of them, within the tolerance of `dtype`."""
        skipped = FIELDS_NOT_OFFERED.get((self.group, self.variant), {})
        assert set(results) == set(self.expected) - set(skipped)
        rtol, atol = (self.rtol, self.atol) if dtype == torch.float64 else (1e-4, 1e-5)
        for name, result in results.items():
            if isinstance(result, torch.Tensor):
                assert not result.is_floating_point() or result.dtype == dtype, name
                result = result.detach().numpy()
            np.testing.assert_allclose(result, self.expected[name], rtol=rtol, atol=atol, err_msg=f"{self.id} {name}")


def tensor(data: Any, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    array = torch.tensor(data)
    return torch.tensor(data, dtype=dtype) if array.is_floating_point() else array


def mean(sum_and_count: tuple[torch.Tensor, torch.Tensor]) -> float:
    total, count = sum_and_count
    return total.item() / count.item()


@cache
def load(group: str) -> list[Case]:
    content = json.loads((FOLDER / f"{group}.json").read_text())
    assert content["n_cases"] == len(content["cases"])
    names = Case.__dataclass_fields__.keys() - {"group"}
    return [Case(group=group, **{name: case[name] for name in names}) for case in content["cases"]]


def cases(group: str, *variants: str) -> pytest.MarkDecorator:
    """Parametrise a test by the cases of these variants."""
    RUN.update((group, variant) for variant in variants)
    chosen = [case for case in load(group) if case.variant in variants]
    assert {case.variant for case in chosen} == set(variants)
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.id)
