"""Nothing changes with the amount of padding, the order of the batch, or the cut into micro-batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths import losses, masks
from heedful.maths.advantages import gae, whiten
from heedful.maths.kl import shaped_rewards
from heedful.maths.logprobs import token_logprobs

NAMES = "scores", "logits", "tokens", "old_logprobs", "ref_logprobs", "values", "old_values", "mask"
V = 5


@st.composite
def batches(draw):
    """A rollout batch in float64, its padding full of garbage."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    B, T = len(lengths), max(lengths)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch = {name: normal(B, T) for name in NAMES[3:7]}
    batch |= {"scores": normal(B), "logits": normal(B, T, V)}
    batch["tokens"] = torch.randint(0, V, (B, T), generator=generator)
    batch["mask"] = masks.length_mask(torch.tensor(lengths), T)
    return pad(batch, draw(st.integers(0, 2)))


def pad(batch, extra, garbage=(math.nan, math.inf, -1e30)):
    """The batch with `extra` more positions, and garbage in every padded one."""
    padded = {"scores": batch["scores"]}
    for name in NAMES[1:]:
        tensor = batch[name]
        fill = tensor.new_zeros(len(tensor), extra, *tensor.shape[2:])
        padded[name] = torch.cat([tensor, fill], dim=1)
    kinds = torch.tensor(garbage, dtype=torch.float64)
    for name in NAMES[3:7] + ("logits",):
        tensor, padding = padded[name], ~padded["mask"]
        rubbish = kinds[torch.arange(tensor.numel()) % len(kinds)].view_as(tensor)
        tensor[padding] = rubbish[padding]
    return padded


def rollout(batch):
    """Per-token results of the part without gradient."""
    mask_BT = batch["mask"]
    rewards_BT, kl_BT = shaped_rewards(
        batch["scores"], batch["old_logprobs"], batch["ref_logprobs"], mask_BT, kl_coef=0.1
    )
    whitened_BT = whiten(rewards_BT, mask_BT, shift_mean=False, unbiased=True)
    advantages_BT, returns_BT = gae(rewards_BT, batch["old_values"], mask_BT, 0.97, 0.9)
    results = kl_BT, rewards_BT, whitened_BT, returns_BT, whiten(advantages_BT, mask_BT)
    return dict(zip(("kl", "rewards", "whitened", "returns", "advantages"), results, strict=True))


def update(batch, advantages_BT, returns_BT):
    """Sums, counts and gradients of the losses: ({name: (sum, count)}, ratio_max, gradients)."""
    mask_BT = batch["mask"]
    logits_BTV, values_BT = (batch[name].clone().requires_grad_() for name in ("logits", "values"))
    logprobs_BT = token_logprobs(logits_BTV, batch["tokens"], 0.7)
    *policy, metrics = losses.policy_loss(logprobs_BT, batch["old_logprobs"], advantages_BT, mask_BT, 0.2)
    *value, value_metrics = losses.value_loss(values_BT, batch["old_values"], returns_BT, mask_BT, 0.2)
    three = logprobs_BT, batch["old_logprobs"], batch["ref_logprobs"]
    *rloo, rloo_metrics = losses.rloo_loss(*three, advantages_BT[:, 0], mask_BT, 0.2, 0.1)
    grpo = {
        kind: losses.grpo_loss(*three, advantages_BT, mask_BT, 0.2, 0.1, kind, 9)[:2]
        for kind in ("grpo", "bnpo", "dr_grpo")
    }
    (policy[0] + value[0] + rloo[0] + 3 * sum(pair[0] for pair in grpo.values())).backward()
    ratio_max = metrics.pop("ratio_max")
    pairs = {"policy": policy, "value": value, "rloo": rloo, **grpo, **metrics}
    pairs |= {f"rloo/{name}": pair for name, pair in rloo_metrics.items() if name != "ratio_max"}
    pairs |= {f"value/{name}": pair for name, pair in value_metrics.items()}
    return pairs, ratio_max, {"logits": logits_BTV.grad, "values": values_BT.grad}


def assert_same_sums(found, expected):
    assert found.keys() == expected.keys()
    for name, pair in expected.items():
        for got, wanted in zip(found[name], pair, strict=True):
            np.testing.assert_allclose(got.detach(), wanted.detach(), rtol=1e-9, atol=1e-9, err_msg=name)


def take(batch, rows):
    return {name: tensor[rows] for name, tensor in batch.items()}


@pytest.mark.medium
@settings(max_examples=25)
@given(batches(), st.integers(1, 4))
def test_padding_changes_nothing_and_garbage_in_it_leaks_nowhere(batch, extra):
    wider = pad(batch, extra)
    T, mask_BT = batch["mask"].shape[1], wider["mask"]
    narrow, wide = rollout(batch), rollout(wider)
    for name in narrow:
        torch.testing.assert_close(wide[name][:, :T], narrow[name], rtol=1e-9, atol=1e-9)
        assert not wide[name][~mask_BT].any(), name
    sums, ratio_max, gradients = update(batch, narrow["advantages"], narrow["returns"])
    dirty = {name: torch.where(mask_BT, wide[name], math.nan) for name in ("advantages", "returns")}
    wide_sums, wide_ratio_max, wide_gradients = update(wider, dirty["advantages"], dirty["returns"])
    assert_same_sums(wide_sums, sums)
    torch.testing.assert_close(wide_ratio_max, ratio_max)
    for name, gradient in wide_gradients.items():
        torch.testing.assert_close(gradient[:, :T], gradients[name], rtol=1e-9, atol=1e-9)
        assert not gradient[~mask_BT].any(), name


@pytest.mark.medium
@settings(max_examples=25)
@given(batches(), st.randoms())
def test_the_order_of_the_batch_changes_nothing(batch, random):
    rows = torch.tensor(random.sample(range(len(batch["scores"])), len(batch["scores"])))
    straight, shuffled = rollout(batch), rollout(take(batch, rows))
    for name in straight:
        torch.testing.assert_close(shuffled[name], straight[name][rows], rtol=1e-9, atol=1e-9)
    sums, ratio_max, gradients = update(batch, straight["advantages"], straight["returns"])
    other_sums, other_ratio_max, other_gradients = update(
        take(batch, rows), shuffled["advantages"], shuffled["returns"]
    )
    assert_same_sums(other_sums, sums)
    torch.testing.assert_close(other_ratio_max, ratio_max)
    for name, gradient in other_gradients.items():
        torch.testing.assert_close(gradient, gradients[name][rows], rtol=1e-9, atol=1e-9)


@pytest.mark.medium
@settings(max_examples=25)
@given(batches(), st.integers(1, 5))
def test_micro_batches_add_up(batch, size):
    results = rollout(batch)
    sums, ratio_max, gradients = update(batch, results["advantages"], results["returns"])
    parts, part_masks = [], []
    for rows in torch.arange(len(batch["scores"])).split(size):
        T = int(batch["mask"][rows].sum(-1).max())  # a micro-batch is padded to its own longest row
        part = {name: tensor[:, :T] if tensor.dim() > 1 else tensor for name, tensor in take(batch, rows).items()}
        parts.append(update(part, results["advantages"][rows, :T], results["returns"][rows, :T]))
        part_masks.append(part["mask"])
    together = {name: [sum(part[0][name][i] for part in parts) for i in (0, 1)] for name in sums}
    assert_same_sums(together, sums)
    torch.testing.assert_close(torch.stack([part[1] for part in parts]).max(), ratio_max)
    for name, gradient in gradients.items():
        pieces = torch.cat([part[2][name].flatten(0, 1) for part in parts])
        real = torch.cat([mask_BT.flatten() for mask_BT in part_masks])
        torch.testing.assert_close(pieces[real], gradient[batch["mask"]], rtol=1e-9, atol=1e-9)


@st.composite
def rankings(draw):
    """Rewards, ranks with ties and a mask of prompts with 1 to 5 completions."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    mask_BK = masks.length_mask(torch.tensor(lengths), max(lengths))
    rewards_BK = torch.randn(mask_BK.shape, generator=generator, dtype=torch.float64)
    return torch.where(mask_BK, rewards_BK, math.nan), torch.randint(0, 3, mask_BK.shape, generator=generator), mask_BK


def ranking(rewards_BK, ranks_BK, mask_BK, normaliser):
    rewards_BK = rewards_BK.clone().requires_grad_()
    *loss, metrics = losses.ranking_loss(rewards_BK, ranks_BK, mask_BK, normaliser)
    loss[0].backward()
    return {"loss": loss, **metrics}, rewards_BK.grad


@settings(max_examples=25)
@given(rankings(), st.sampled_from(["k_choose_2", "valid_pairs"]), st.integers(1, 3), st.randoms())
def test_ranking_loss_knows_neither_padding_nor_order_nor_micro_batches(data, normaliser, extra, random):
    B, K = data[0].shape
    sums, gradient_BK = ranking(*data, normaliser)
    torch.testing.assert_close(gradient_BK.sum(-1), torch.zeros(B, dtype=torch.float64), rtol=0, atol=1e-12)
    assert not gradient_BK[~data[2]].any()

    fills = torch.full((B, extra), math.inf), torch.full((B, extra), -7), torch.zeros(B, extra).bool()
    wide_sums, wide_gradient_BK = ranking(
        *(torch.cat([tensor, fill.to(tensor.dtype)], dim=1) for tensor, fill in zip(data, fills, strict=True)),
        normaliser,
    )
    assert_same_sums(wide_sums, sums)
    torch.testing.assert_close(wide_gradient_BK[:, :K], gradient_BK)

    rows, columns = (torch.tensor(random.sample(range(n), n)) for n in (B, K))
    other_sums, other_gradient_BK = ranking(*(tensor[rows][:, columns] for tensor in data), normaliser)
    assert_same_sums(other_sums, sums)
    torch.testing.assert_close(other_gradient_BK, gradient_BK[rows][:, columns])

    parts = [ranking(*row, normaliser) for row in zip(*(tensor.split(1) for tensor in data), strict=True)]
    together = {name: [sum(part[0][name][i] for part in parts) for i in (0, 1)] for name in sums}
    assert_same_sums(together, sums)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), gradient_BK)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6), st.sampled_from(["dpo", "ipo"]))
def test_dpo_micro_batches_add_up(seed, n, size, kind):
    four = torch.randn(4, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    *loss, metrics = losses.dpo_loss(*four, 0.3, kind=kind)
    parts = [losses.dpo_loss(*part, 0.3, kind=kind) for part in four.split(size, dim=1)]
    together = {name: [sum(part[2][name][i] for part in parts) for i in (0, 1)] for name in metrics}
    together["loss"] = [sum(part[i] for part in parts) for i in (0, 1)]
    assert_same_sums(together, {"loss": loss, **metrics})
