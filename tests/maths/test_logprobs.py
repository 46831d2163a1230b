from __future__ import annotations

import math

import pytest
import torch

from heedful.maths import logprobs
from heedful.maths.masks import keep
from maths import golden


def response_part(logits_BSV, input_ids_BS, prompt_length):
    """Logits and tokens of the response through the one token shift."""
    B, S, V = logits_BSV.shape
    index_BT = logprobs.predecessors(torch.full((B,), prompt_length), S - prompt_length)
    return logits_BSV.gather(1, index_BT[..., None].expand(-1, -1, V)), input_ids_BS[:, prompt_length:]


def nll(logprobs_BT, mask_BT):
    """Cross-entropy in nats over real tokens, as (sum, count)."""
    return -keep(logprobs_BT, mask_BT).sum(), mask_BT.sum()


@golden.DTYPES
@golden.cases("logprobs", "response_tokens")
def test_golden_response_tokens(case, dtype):
    logits_BSV, input_ids_BS = case.tensors(dtype, "logits", "input_ids")
    logits_BTV, tokens_BT = response_part(logits_BSV, input_ids_BS, case.inputs["context_length"])
    temperature = case.inputs["temperature"]
    case.check({"logprobs": logprobs.token_logprobs(logits_BTV, tokens_BT, temperature)}, dtype)


@golden.DTYPES
@golden.cases("logprobs", "sequence_sum")
def test_golden_sequence_sum(case, dtype):
    logits_BSV, labels_BS = case.tensors(dtype, "logits", "labels")
    logits_BTV, tokens_BT = response_part(logits_BSV, labels_BS, 1)
    mask_BT = tokens_BT != -100
    logprobs_BT = logprobs.token_logprobs(logits_BTV, tokens_BT.clamp(min=0))
    case.check(
        {
            "sum_logprobs": torch.where(mask_BT, logprobs_BT, 0.0).sum(-1),
            "n_tokens": mask_BT.sum(-1),
            "mean_nll": golden.mean(nll(logprobs_BT, mask_BT)),
        },
        dtype,
    )


@golden.DTYPES
@golden.cases("logprobs", "ptx_gradient")
def test_golden_ptx_gradient(case, dtype):
    logits_NV, tokens_N, ppo_grad_NV = case.tensors(dtype, "logits", "next_tokens", "ppo_grad_wrt_logits")
    logits_NV.requires_grad_()
    total, count = nll(logprobs.token_logprobs(logits_NV, tokens_N), torch.ones_like(tokens_N).bool())
    (case.inputs["ptx_coef"] * total / count).backward()
    scaled_NV = logits_NV.grad.clone()
    logits_NV.grad.add_(ppo_grad_NV)
    case.check(
        {"ptx_loss": golden.mean((total, count)), "scaled_ptx_grad": scaled_NV, "accumulated_grad": logits_NV.grad},
        dtype,
    )


def test_the_shift_by_hand():
    assert logprobs.predecessors(torch.tensor([1, 4]), 3).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 12, 1 << 18])
def test_gradient_and_value_agree_with_autograd_whatever_the_chunk(monkeypatch, chunk, temperature):
    monkeypatch.setitem(logprobs._CHUNK_ELEMENTS, "cpu", chunk)
    generator = torch.Generator().manual_seed(0)
    logits_BTV = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens_BT = torch.randint(0, 5, (2, 3), generator=generator)
    assert torch.autograd.gradcheck(lambda x: logprobs.token_logprobs(x, tokens_BT, temperature), logits_BTV)
    probs_BTV = (logits_BTV / temperature).softmax(-1)
    expected_BT = probs_BTV.gather(-1, tokens_BT[..., None])[..., 0].log()
    torch.testing.assert_close(logprobs.token_logprobs(logits_BTV, tokens_BT, temperature), expected_BT)


def test_bf16_logits_give_float32_results_and_a_bf16_gradient():
    generator = torch.Generator().manual_seed(0)
    logits_NV = (4 * torch.randn(6, 300, generator=generator)).bfloat16().requires_grad_()
    tokens_N = torch.arange(6)
    logprobs_N = logprobs.token_logprobs(logits_NV, tokens_N, 0.9)
    exact_N = torch.log_softmax(logits_NV.detach().double() / 0.9, -1)[tokens_N, tokens_N]
    assert logprobs_N.dtype == torch.float32
    torch.testing.assert_close(logprobs_N.double(), exact_N, rtol=1e-5, atol=1e-5)
    logprobs_N.sum().backward()
    assert logits_NV.grad.dtype == torch.bfloat16
    torch.testing.assert_close(logits_NV.grad.float().sum(-1), torch.zeros(6), rtol=0, atol=1e-2)


def test_temperature_by_hand():
    logits_BV, token_B = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1])
    assert logprobs.token_logprobs(logits_BV, token_B).exp().item() == pytest.approx(3 / 4)
    assert logprobs.token_logprobs(logits_BV, token_B, 0.5).exp().item() == pytest.approx(9 / 10)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
def test_garbage_logits_at_padding_leak_nowhere(garbage):
    generator = torch.Generator().manual_seed(0)
    logits_BTV = torch.randn(2, 3, 4, generator=generator)
    mask_BT = torch.tensor([[True, True, False], [True, False, False]])
    logits_BTV[~mask_BT] = garbage
    logits_BTV.requires_grad_()
    total, _ = nll(logprobs.token_logprobs(logits_BTV, torch.zeros(2, 3).long()), mask_BT)
    total.backward()
    assert total.isfinite()
    assert logits_BTV.grad[mask_BT].abs().min() > 0
    assert logits_BTV.grad[~mask_BT].eq(0).all()
