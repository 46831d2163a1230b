"""Packed rows against each row alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tiny
from heedful.fast import attention, llama, packing
from heedful.models import batches, scoring
from heedful.models.batches import Batch
from heedful.training.parallel import recompute_activations

PAD = 1
SHARED = [*tiny.prompts(2, seed=5, longest=20), *tiny.prompts(2, seed=6, longest=9)]
PROMPTS = [SHARED[i] for i in (0, 1, 0, 2, 0, 1, 3)]
RESPONSES = [*tiny.prompts(6, seed=7, longest=16), []]
BATCH = batches.collate(PROMPTS, RESPONSES, PAD)


@pytest.fixture(params=[0, 1 << 40], ids=["row by row", "side by side"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every attention of a test goes one way; that it did is checked when the test is over."""
    calls, by_rows = [], packing.row_by_row
    monkeypatch.setattr(packing, "row_by_row", lambda *a: calls.append(1) or by_rows(*a))
    for name in ("ENOUGH", "ENOUGH_NARROW"):
        monkeypatch.setattr(attention, name, request.param)
    yield request.node.callspec.id
    assert bool(calls) == (request.param == 0)


def alone(row: int) -> Batch:
    return batches.collate([PROMPTS[row]], [RESPONSES[row]], PAD)


def test_a_shared_prompt_is_laid_down_once_and_nothing_is_padded() -> None:
    packed = packing.pack(torch.tensor([[5, 6, 7, 8], [9, 2, 1, 1], [5, 6, 4, 1]]), [4, 2, 3], [2, 1, 2], [0, 1, 0])
    assert packed.ids_N.tolist() == [5, 6, 9, 2, 7, 8, 4]
    assert packed.positions_N.tolist() == [0, 1, 0, 1, 2, 3, 2]
    assert [packed.place_BS[b, :n].tolist() for b, n in enumerate([4, 2, 3])] == [[0, 1, 4, 5], [2, 3], [0, 1, 6]]
    assert len(BATCH.packing.ids_N) == sum(map(len, SHARED)) + sum(map(len, RESPONSES))


def test_rows_without_much_in_common_are_laid_end_to_end_longest_first() -> None:
    packed = packing.pack(torch.tensor([[5, 6, 7, 1], [9, 2, 3, 4]]), [3, 4], [1, 1], [0, 0])
    assert packed.branches  # one of seven tokens
    packed = packing.pack(torch.tensor([[5] * 12, [5] * 12]), [12, 12], [1, 1], [0, 0])  # one of 24
    assert not packed.branches
    assert packed.positions_N.tolist() == [*range(12), *range(12)]


def test_rows_of_unlike_length_are_no_block() -> None:
    widths = [
        [block.rows, len(block.source)]
        for block in batches.collate([[3]] * 4, [[4] * n for n in (20, 3, 17, 2)], PAD).packing.blocks
    ]
    assert widths == [[2, 42], [1, 4], [1, 3]]


def test_blocks_as_a_gpu_gets_them_hold_more_rows_and_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, lengths = tiny.policy("llama"), (20, 3, 17, 8)
    rows = [[3]] * 4, [[4 + n % 5] * n for n in lengths]
    narrow, wide = batches.collate(*rows, PAD), batches.collate(*rows, PAD)
    assert [block.rows for block in narrow.packing.blocks] == [2, 1, 1]
    monkeypatch.setitem(packing.STRETCH, "cpu", packing.STRETCH["cuda"])
    assert [block.rows for block in wide.packing.blocks] == [3, 1]  # 21, 18 and 9 tokens, and 4
    with torch.no_grad():
        torch.testing.assert_close(scoring.response_logprobs(policy, wide), scoring.response_logprobs(policy, narrow))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_values_scores_and_logprobs_are_those_of_each_row_alone(family: str, way: str) -> None:
    policy, reward = tiny.policy(family), tiny.reward(family)
    assert llama.fits(policy)
    assert llama.fits(reward)
    with torch.no_grad():
        logprobs, values = scoring.response_logprobs(policy, BATCH), scoring.values(reward, BATCH)
        scores = scoring.rewards(reward, BATCH)
        for row, response in enumerate(RESPONSES):
            T = len(response)
            for whole, one in (
                (logprobs[row, :T], scoring.response_logprobs(policy, alone(row))[0]),
                (values[row, :T], scoring.values(reward, alone(row))[0]),
                (scores[row], scoring.rewards(reward, alone(row))[0]),
            ):
                torch.testing.assert_close(whole, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_gradients_are_those_of_the_padded_forward(family: str, way: str) -> None:
    model = tiny.reward(family).double()  # but for the scores, which are float32
    weights_BT = torch.randn(BATCH.response_mask_BT.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for fits in (True, False):
        model._heedful_is_llama = fits
        model.zero_grad()
        ((scoring.values(model, BATCH) * weights_BT).sum() + scoring.rewards(model, BATCH).square().sum()).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for packed, padded in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5 * max(1.0, float(padded.abs().max())))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("how", ["side by side", "row by row", "row by row in pieces"])
def test_plain_products_and_the_fused_kernel_give_the_same_attention(
    family: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows alone and rows that go on from a prompt, keys shared by several heads (qwen3) or not; gradients, too."""
    found, calls = [], []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **kw: calls.append(1) or fused(*a, **kw)
    )
    monkeypatch.setattr(packing, "MANY", 1)  # some tokens are in no row
    batch = batches.collate(PROMPTS, RESPONSES, PAD)
    assert batch.packing.spare
    for by_kernel in (False, True):
        monkeypatch.setattr(attention, "SHORT", 0 if by_kernel else 1000)
        monkeypatch.setattr(attention, "ENOUGH", 0 if "row" in how and not by_kernel else 1 << 40)
        monkeypatch.setattr(attention, "PIECE", 5 if "pieces" in how else 128)
        model = tiny.policy(family)
        assert llama.fits(model)
        calls.clear()
        whole_ND = llama.states_at(model, batch.packing)
        assert bool(calls) == by_kernel
        whole_ND.pow(3).sum().backward()
        found.append([whole_ND.detach(), *(p.grad for p in model.base_model.parameters())])
    for plain, kernel in zip(*found, strict=True):
        torch.testing.assert_close(plain, kernel, rtol=1e-5, atol=1e-5 * max(1.0, float(kernel.abs().max())))


@pytest.mark.parametrize("piece", [2, 128])
def test_row_by_row_answers_for_the_tokens_that_are_asked_for(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of them, also none of a row."""
    monkeypatch.setattr(attention, "PIECE", piece)
    q, k, v, _ = (torch.randn(24, 2, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4))
    rows = [attention.Row(0, 9, 0, 0), attention.Row(9, 12, 9, 0), attention.Row(12, 20, 2, 5)]
    at = torch.tensor([0, 3, 4, 5, 6, 12, 14, 19, 21])
    found = []
    for asked in (None, at):
        inputs = [x.clone().requires_grad_() for x in (q if asked is None else q[at], k, v)]
        out = attention.row_by_row(*inputs, rows, 0.3, asked)
        out = out[at] if asked is None else out
        out.pow(3).sum().backward()
        grad = inputs[0].grad[at] if asked is None else inputs[0].grad
        found.append([out.detach(), grad, inputs[1].grad, inputs[2].grad])
    for whole, some in zip(*found, strict=True):
        torch.testing.assert_close(some, whole)
    keys = torch.cat([k[2:7], k[12:15]])  # by hand: the third token of the last row
    weights = (0.3 * torch.einsum("he,che->hc", q[14], keys)).softmax(-1)
    torch.testing.assert_close(found[1][0][6], torch.einsum("hc,che->he", weights, torch.cat([v[2:7], v[12:15]])))


def test_weights_are_kept_for_a_backward_pass_alone() -> None:
    kept = []
    q, k, v = (torch.randn(9, 2, 8) for _ in range(3))

    def note(x: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(x.shape))
        return x

    for learning in (False, True):
        kept.clear()
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), torch.set_grad_enabled(learning):
            attention.row_by_row(*inputs, [attention.Row(0, 9, 0, 0)], 0.3)
        assert kept == ([(9, 2, 8)] * 3 + [(2, 9, 9)] if learning else [])


def test_row_by_row_is_for_rows_that_are_long_for_their_width_and_not_too_long() -> None:
    chosen: dict[torch.dtype, list[tuple[int, int]]] = {torch.float32: [], torch.bfloat16: []}
    for length in (60, 200, 600):
        packed = batches.collate([[3]] * 2, [[4] * (length - 1)] * 2, PAD).packing
        for dtype, found in chosen.items():
            found += [(width, length) for width in (128, 256, 1024) if packed.by_rows(width, dtype)]
    assert chosen[torch.float32] == [(1024, 60), (256, 200), (1024, 200)]
    assert chosen[torch.bfloat16] == [(256, 60), (1024, 60), (128, 200), (256, 200), (1024, 200)]
    branched = batches.collate([[3] * 30] * 2, [[4] * 10, [5] * 20], PAD).packing
    assert branched.reach == (30 * 30 + 10 * 40 + 20 * 50) / 60


@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (5, 9), (128, 128), (1, 512), (128, 513), (60, 1100)])
def test_a_query_sees_what_comes_before_it(queries: int, tokens: int) -> None:
    expected = torch.zeros(tokens, tokens).masked_fill_(~torch.ones(tokens, tokens).tril().bool(), -torch.inf)
    assert torch.equal(attention._hidden(queries, tokens, torch.float32), expected[-queries:])


def test_under_autocast_all_layers_go_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the last asks for what is read alone, though float32 weights by themselves would go side by side."""
    asked = []
    by_rows = packing.row_by_row
    monkeypatch.setattr(packing, "row_by_row", lambda *a: asked.append(a[5]) or by_rows(*a))
    monkeypatch.setattr(attention, "ENOUGH", 1 << 40)
    monkeypatch.setattr(attention, "ENOUGH_NARROW", 0)
    model = tiny.reward()
    assert llama.fits(model)
    plain = scoring.rewards(model, BATCH)
    assert not asked
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = scoring.rewards(model, BATCH)
    scores.sum().backward()
    layers = model.config.num_hidden_layers
    assert [at is None for at in asked] == [True] * (layers - 1) + [False]
    assert len(asked[-1]) == len(PROMPTS)
    torch.testing.assert_close(scores, plain, rtol=0.05, atol=0.05)


def test_row_by_row_in_bfloat16_is_computed_in_float32_and_works_under_inference_mode_first() -> None:
    attention._staircase.cache_clear()
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(40, 2, 8, generator=source) for _ in range(3))
    rows = [attention.Row(0, 25, 0, 0), attention.Row(25, 40, 0, 9)]
    with torch.inference_mode():
        attention.row_by_row(q, k, v, rows, 0.3)
    narrow = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    wide = [x.detach().float().requires_grad_() for x in narrow]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outs = [attention.row_by_row(*inputs, rows, 0.3) for inputs in (narrow, wide)]
    assert outs[0].dtype == torch.bfloat16
    assert torch.equal(outs[0], outs[1].bfloat16())
    for out in outs:
        out.float().sum().backward()
    for x, y in zip(narrow, wide, strict=True):
        torch.testing.assert_close(x.grad.float(), y.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("shared", [True, False])
def test_many_tokens_are_filled_up_and_the_numbers_stay(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for many in (10_000, 1):
        monkeypatch.setattr(packing, "MANY", many)
        batch = BATCH if shared else batches.collate([[3, 4]], [[5, 6, 7]], PAD)
        batch = Batch(batch.input_ids_BS, batch.lengths_B, batch.prompt_lengths_B, batch.firsts)
        count = len(batch.packing.ids_N)
        assert (count % packing.ROUND == 0) is (many == 1)
        model = tiny.policy()
        logprobs_BT = scoring.response_logprobs(model, batch)
        logprobs_BT.sum().backward()
        found.append([logprobs_BT.detach(), *(p.grad for p in model.parameters())])
    for as_they_are, filled_up in zip(*found, strict=True):
        torch.testing.assert_close(filled_up, as_they_are, rtol=1e-5, atol=1e-5)


def test_no_row_sees_another(way: str) -> None:
    """The gradient of one row's log-probs by the embedding of tokens that stand in other rows alone is exactly 0."""
    model = tiny.policy()
    ids = [[10, 11, 12, 13], [20, 21, 22], [30, 31, 32, 33]]
    batch = batches.collate([row[:1] for row in ids], [row[1:] for row in ids], PAD)
    model.get_input_embeddings().weight.requires_grad_()
    states = llama.states_at(model, batch.packing)[batch.packing.place_BS[1, :3]]
    states.sum().backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [20, 21, 22]


def test_a_completion_sees_its_prompt_and_itself_alone(way: str) -> None:
    model = tiny.policy()
    batch = batches.collate([[10, 11, 12]] * 2, [[20, 21], [30, 31, 32]], PAD)
    assert batch.packing.branches
    llama.states_at(model, batch.packing)[batch.packing.place_BS[1, 4]].sum().backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [10, 11, 12, 30, 31]


@pytest.mark.parametrize("change", ["scaled", "norm", "window"])
def test_a_model_that_is_put_together_otherwise_goes_its_own_way(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.policy("mistral") if change == "window" else tiny.policy()
    if change == "scaled":  # as Granite does: the same parts, another sum
        attention = model.model.layers[0].self_attn
        forward = attention.forward
        monkeypatch.setattr(attention, "forward", lambda *a, **k: (0.5 * forward(*a, **k)[0], None))
    if change == "norm":
        model.model.norm = torch.nn.LayerNorm(model.config.hidden_size)
    assert not llama.fits(model)


@pytest.mark.parametrize("autocast", [False, True])
def test_who_asks_first_does_not_matter(autocast: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert llama.fits(tiny.policy())


def test_activations_are_computed_anew_where_that_is_asked_for(way: str) -> None:
    found, kept = [], []
    for anew in (False, True):
        model = tiny.policy().train()
        if anew:
            recompute_activations(model)
        sizes: list[int] = []

        def note(x: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = scoring.response_logprobs(model, BATCH).sum()
        found.append(torch.autograd.grad(loss, list(model.parameters())))
        kept.append(sum(sizes))
    torch.testing.assert_close(found[0], found[1])
    assert kept[1] < kept[0] / 2
