"""Scoring against the plain computation: each sequence alone, all logits, transformers' own forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma2Config

import tiny
from heedful.config import UserError
from heedful.fast import api, cross_entropy
from heedful.maths import padding
from heedful.models import batches, heads, scoring
from maths import golden

PAD = 1
PROMPTS = tiny.prompts(4, seed=3, longest=12)
RESPONSES = [*tiny.prompts(3, seed=4, longest=14), []]
BATCH = batches.collate(PROMPTS, RESPONSES, PAD)


def plain_logprobs(model: Any, temperature: float = 1.0) -> Tensor:
    """logprobs_BT, one unpadded sequence at a time."""
    logprobs_BT = torch.zeros(len(PROMPTS), BATCH.T)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        logits_SV = model(torch.tensor([prompt + response])).logits[0] / temperature
        for t, token in enumerate(response):
            probabilities_V = logits_SV[len(prompt) - 1 + t].softmax(-1)
            logprobs_BT[row, t] = probabilities_V[token].log()
    return logprobs_BT


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logprobs_equal_the_plain_computation(family: str) -> None:
    model = tiny.policy(family)
    assert scoring.head_is_exact(model)
    for temperature in (1.0, 0.7):
        with torch.no_grad():
            close(scoring.response_logprobs(model, BATCH, temperature), plain_logprobs(model, temperature))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_padding_is_never_seen(family: str) -> None:
    model, reward = tiny.policy(family), tiny.reward(family)
    expected = scoring.response_logprobs(model, BATCH), scoring.values(reward, BATCH), scoring.rewards(reward, BATCH)
    garbage = torch.nn.functional.pad(BATCH.input_ids_BS, (0, 5), value=PAD)
    empty = torch.arange(garbage.shape[1]) >= BATCH.lengths_B[:, None]
    garbage[empty] = torch.randint(8, tiny.VOCAB, (int(empty.sum()),))
    wider = batches.Batch(garbage, BATCH.lengths_B, BATCH.prompt_lengths_B)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = batches.Batch(BATCH.input_ids_BS[order], BATCH.lengths_B[order], BATCH.prompt_lengths_B[order])
    for batch, rows in ((wider, torch.arange(4)), (shuffled, order)):
        close(scoring.response_logprobs(model, batch), expected[0][rows])
        close(scoring.values(reward, batch), expected[1][rows])
        close(scoring.rewards(reward, batch), expected[2][rows])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_left_padded_forward_gives_the_same(family: str) -> None:
    """Position ids from the mask (P6): what a user of plain transformers would compute."""
    model = tiny.policy(family)
    rows = [prompt + response for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    ids, mask = padding.left_pad(rows, PAD)
    with torch.no_grad():
        logits = model(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits.log_softmax(-1)
    actual = scoring.response_logprobs(model, BATCH).detach()
    for row, response in enumerate(RESPONSES):
        T, S = len(response), ids.shape[1]
        expected = logits[row, S - T - 1 : S - 1].gather(-1, torch.tensor(response, dtype=torch.long)[:, None])
        close(actual[row, :T], expected[:, 0])


def gradients(model: Any, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("in_parts", [False, True])
def test_gradients_equal_those_of_the_plain_computation(
    family: str, in_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.policy(family)
    weights = torch.randn(len(PROMPTS), BATCH.T, generator=torch.Generator().manual_seed(0))
    expected = gradients(model, (weights * plain_logprobs(model)).sum())
    if in_parts:
        monkeypatch.setattr(scoring, "MAX_LOGITS", 5 * tiny.VOCAB)
    actual = gradients(model, (weights * scoring.response_logprobs(model, BATCH)).sum())
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_many_logits_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.policy()
    with torch.no_grad():
        expected = scoring.response_logprobs(model, BATCH)
        rows = []
        model.lm_head.register_forward_hook(lambda _, __, logits: rows.append(logits.shape[0]))
        monkeypatch.setattr(scoring, "MAX_LOGITS", 5 * tiny.VOCAB)
        actual = scoring.response_logprobs(model, BATCH)
    close(actual, expected)
    assert max(rows) == 5
    assert sum(rows) == sum(map(len, RESPONSES))


def test_the_head_meets_response_positions_only() -> None:
    model = tiny.policy()
    scoring.head_is_exact(model)
    rows = []
    model.lm_head.register_forward_hook(lambda _, __, logits: rows.append(logits.shape[:-1].numel()))
    scoring.response_logprobs(model, BATCH)
    assert rows == [sum(map(len, RESPONSES))]


def test_a_head_with_a_soft_cap_falls_back_to_all_logits() -> None:
    config = tiny.config("gemma").to_dict() | {"sliding_window": 9, "final_logit_softcapping": 2.0}
    del config["model_type"], config["architectures"]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Gemma2Config(**config)).eval()
    assert not scoring.head_is_exact(model)
    with torch.no_grad():
        close(scoring.response_logprobs(model, BATCH), plain_logprobs(model))


def test_trying_the_head_leaves_the_mode() -> None:
    model = tiny.policy().train()
    scoring.response_logprobs(model, BATCH)
    assert model.training


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_rewards_equal_plain_transformers_plus_bias(family: str) -> None:
    model = tiny.reward(family, bias=0.75)
    with torch.no_grad():
        mask = BATCH.input_ids_BS != PAD
        expected = model(BATCH.input_ids_BS, attention_mask=mask).logits[:, 0] + 0.75
        close(scoring.rewards(model, BATCH), expected)
    assert scoring.rewards(model, BATCH).std() > 0.1


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_values_are_read_before_their_token(family: str) -> None:
    """values[:, t] is the score of the sequence cut before response token t; the last token of a row is never read."""
    model = tiny.reward(family)
    with torch.no_grad():
        values = scoring.values(model, BATCH)
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
            for t in range(BATCH.T):
                if t < len(response):
                    before = batches.collate([prompt], [response[:t]], PAD)
                    close(values[row, t], scoring.rewards(model, before)[0])
                else:
                    assert values[row, t] == 0


def test_a_policy_has_no_score() -> None:
    with pytest.raises(UserError, match="no scalar head"):
        scoring.rewards(tiny.policy(), BATCH)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_document_reads_nothing_of_its_neighbours(family: str) -> None:
    """From position 0 and from its second token on, whatever stands beside it and how long that is."""
    model = tiny.policy(family)
    rows = tiny.prompts(6, seed=5, shortest=2, longest=30)
    with torch.no_grad():
        for chosen in ([0], [0, 1, 2], [2, 0], [5, 4, 3, 0, 1, 2]):
            batch = batches.collate([rows[i][:1] for i in chosen], [rows[i][1:] for i in chosen], PAD)
            logprobs_BT = scoring.response_logprobs(model, batch)
            assert batch.response_mask_BT.sum(-1).tolist() == [len(rows[i]) - 1 for i in chosen]
            for place, i in enumerate(chosen):
                logits_SV = model(torch.tensor([rows[i]])).logits[0, :-1].log_softmax(-1)
                expected = logits_SV.gather(-1, torch.tensor(rows[i][1:])[:, None])[:, 0]
                close(logprobs_BT[place, : len(rows[i]) - 1], expected)


def test_lower_precision_gives_float32_results() -> None:
    model, reward = tiny.policy().bfloat16(), tiny.reward().bfloat16()
    assert scoring.response_logprobs(model, BATCH).dtype == torch.float32
    scores = scoring.rewards(reward, BATCH)
    assert scores.dtype == torch.float32
    assert (scores != scores.bfloat16().float()).any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scoring.rewards(heads.value_from_reward(reward).float(), BATCH).dtype == torch.float32


def test_passes_of_rows_without_padding_are_as_they_stand_and_one_for_each_rank() -> None:
    packed, padded = tiny.policy("llama"), tiny.policy("llama")
    api.choose(padded, False)
    assert scoring.passes(packed, [3, 9, 4, 1], 100) == [[0, 1, 2, 3]]
    assert scoring.passes(packed, [3, 9, 4, 1], 12) == [[0, 1], [2, 3]]
    assert scoring.passes(packed, [30, 9, 4, 1], 12) == [[0], [1], [2, 3]]  # one row may be too long
    assert scoring.passes(packed, [5, 5, 5, 5], 100, ranks=2) == [[0, 1], [2, 3]]
    assert scoring.passes(packed, [], 100) == []
    assert scoring.passes(padded, [3, 9, 4, 1], 12) == [[1], [2, 0, 3]]  # by length: 9, then 3 x 4


def plain_loss(model: Any) -> Tensor:
    """Sum over all response tokens, from transformers' own logits and torch's own cross-entropy."""
    total = torch.zeros(())
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        if response:
            logits_SV = model(torch.tensor([prompt + response])).logits[0]
            targets_T = torch.tensor(response)
            total = total + torch.nn.functional.cross_entropy(
                logits_SV[len(prompt) - 1 : -1], targets_T, reduction="sum"
            )
    return total


@pytest.mark.parametrize("rows", [1, 3, 1000])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_loss_and_its_gradients_equal_the_plain_computation(
    family: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cross_entropy.LOGITS, "cpu", rows * tiny.VOCAB)
    model = tiny.policy(family)
    (0.5 * plain_loss(model)).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss = scoring.response_loss(model, BATCH)
    (0.5 * loss).backward()
    close(loss.detach(), plain_loss(model).detach())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected.get(name), rtol=1e-4, atol=1e-5)


def test_the_loss_keeps_no_logits_for_its_gradient() -> None:
    kept: list[int] = []
    targets = sum(map(len, RESPONSES))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        scoring.response_loss(tiny.policy("llama"), BATCH)
        assert targets * tiny.VOCAB not in kept
        scoring.response_logprobs(tiny.policy("llama"), BATCH)
        assert targets * tiny.VOCAB in kept


def test_the_loss_in_bfloat16_is_that_of_float32_but_for_rounding() -> None:
    found = []
    for on in (False, True):
        model = tiny.policy("llama")
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            loss = scoring.response_loss(model, BATCH)
        loss.backward()
        assert loss.dtype == torch.float32
        found.append((loss.item(), model.get_output_embeddings().weight.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=5e-3)
    assert 0 < float((found[1][1] - found[0][1]).norm() / found[0][1].norm()) < 5e-2


def test_a_head_with_hooks_is_called_as_it_is() -> None:
    model, calls = tiny.policy("llama"), []
    expected = scoring.response_loss(model, BATCH).item()
    model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    assert scoring.response_loss(model, BATCH).item() == pytest.approx(expected, rel=1e-6)
    assert calls


@golden.DTYPES
@golden.cases("logprobs", "ptx_gradient")
def test_golden_ptx_gradient(case: golden.Case, dtype: torch.dtype) -> None:
    logits_NV, tokens_N, ppo_grad_NV = case.tensors(dtype, "logits", "next_tokens", "ppo_grad_wrt_logits")
    head_VV = torch.eye(logits_NV.shape[-1], dtype=dtype)
    total = cross_entropy.cross_entropy(logits_NV.requires_grad_(), head_VV, None, tokens_N)
    (case.inputs["ptx_coef"] * total / len(tokens_N)).backward()
    scaled_NV = logits_NV.grad
    assert scaled_NV is not None
    ptx_loss = total / len(tokens_N)
    case.check({"ptx_loss": ptx_loss, "scaled_ptx_grad": scaled_NV, "accumulated_grad": scaled_NV + ppo_grad_NV}, dtype)
