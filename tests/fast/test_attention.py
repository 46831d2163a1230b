"""Every way of attending in packed rows, compared with attention computed row by row from its definition."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.fast import attention, layout, rows
from heedful.fast.attention import attend
from heedful.fast.layout import Layout, PackedRow
from heedful.models import batches

PAD = 1
# Three rows share a prompt of 9 tokens, two are alone. One of the three has no token of its own.
PROMPTS = [[2] * 9, [3] * 4, [2] * 9, [2] * 9, [5] * 2]
RESPONSES = [[6] * 7, [7] * 11, [8] * 3, [], [9] * 1]
SCALE = 0.3


@pytest.fixture(params=["rows", "rows in pieces", "blocks", "varlen"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every attention of a test goes one way. That it did is checked when the test is over."""
    calls: list[str] = []

    def noted(module: Any, name: str) -> None:
        before = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a: calls.append(name) or before(*a))

    for name in ("row_by_row", "by_blocks", "by_varlen"):
        noted(attention, name)
    monkeypatch.setattr(rows, "ENOUGH", 0 if "rows" in request.param else 1 << 40)
    monkeypatch.setattr(rows, "PIECE", 4 if "pieces" in request.param else 128)
    if request.param == "varlen":  # as on a GPU, with a kernel of ours in place of torch's
        monkeypatch.setattr(attention, "varlen", lambda: kernel)
        monkeypatch.setattr(attention, "uses_varlen", lambda q, softcap: True)
    yield request.param
    expected = {"rows": "row_by_row", "rows in pieces": "row_by_row", "blocks": "by_blocks", "varlen": "by_varlen"}
    assert set(calls) == {expected[request.param]}


def kernel(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int,
    *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """What torch's `varlen_attn` computes: the last query of a row sees the row's last key."""
    assert enable_gqa == (q.shape[1] != k.shape[1])
    assert window_size[1] == 0
    window = None if window_size[0] < 0 else window_size[0] + 1
    outs = []
    spans = zip(cu_q.tolist(), cu_q.tolist()[1:], cu_k.tolist(), cu_k.tolist()[1:], strict=False)
    for a, b, c, d in spans:
        assert b - a <= max_q
        assert d - c <= max_k
        outs.append(plain(q[a:b], k[c:d], v[c:d], d - c - (b - a), scale, window, None))
    return torch.cat(outs)


def plain(
    q: Tensor, k: Tensor, v: Tensor, before: int, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Attention of one row from its definition, one query after the other: [T H E]."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    outs = []
    for t in range(len(q)):
        first = 0 if window is None else max(0, before + t - window + 1)
        keys, values = k[first : before + t + 1], v[first : before + t + 1]
        scores = torch.einsum("he,che->hc", q[t], keys) * scale
        if softcap is not None:
            scores = softcap * (scores / softcap).tanh()
        outs.append(torch.einsum("hc,che->he", scores.softmax(-1), values))
    return torch.stack(outs)


def expected(q: Tensor, k: Tensor, v: Tensor, at: Layout, window: int | None, softcap: float | None) -> Tensor:
    outs = []
    for row in at.rows:
        own = slice(row.start, row.stop)
        seen = [torch.cat([x[row.prompt : row.prompt + row.before], x[own]]) for x in (k, v)]
        outs.append(plain(q[own], *seen, row.before, SCALE, window, softcap))
    return torch.cat([*outs, torch.zeros(at.spare, *q.shape[1:])])


def qkv(at: Layout, kv_heads: int = 4, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    sizes = (4, kv_heads, kv_heads)
    return [torch.randn(len(at.ids_N), heads, 8, generator=source).to(dtype).requires_grad_() for heads in sizes]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 1, 5])
def test_attention_is_that_of_each_row_with_its_gradients(
    kv_heads: int, window: int | None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "varlen":
        monkeypatch.setattr(layout, "MANY", 1)  # some tokens are in no row
    at = batches.collate(PROMPTS, RESPONSES, PAD).layout
    assert any(row.before for row in at.rows)
    found = []
    for how in (attend, expected):
        inputs = qkv(at, kv_heads)
        out = how(*inputs, at, SCALE, window, None) if how is attend else how(*inputs, at, window, None)
        (out**3).sum().backward()
        found.append([out.detach(), *(x.grad for x in inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
def test_capped_scores(window: int | None) -> None:
    at = batches.collate(PROMPTS, RESPONSES, PAD).layout
    found = []
    for ours in (True, False):
        q, k, v = qkv(at, 2)
        out = attend(q * 9, k, v, at, SCALE, window, 2.0) if ours else expected(q * 9, k, v, at, window, 2.0)
        (out**3).sum().backward()
        found.append([out.detach(), q.grad, k.grad, v.grad])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found[0][0], attend(q * 9, k, v, at, SCALE, window), atol=0.1)  # the cap is felt


def test_padding_far_behind_the_end_of_a_row_makes_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a window, a padding query would see nothing at all. Its softmax must not reach the gradients."""
    monkeypatch.setitem(layout.STRETCH, "cpu", 4.0)
    at = batches.collate([[2], [3]], [[4] * 39, [5] * 12], PAD).layout
    assert len(at.groups) == 1
    q, k, v = qkv(at)
    out = attend(q, k, v, at, SCALE, 4, 5.0)
    out.sum().backward()
    assert all(torch.isfinite(x).all() for x in (out, q.grad, k.grad, v.grad))
    torch.testing.assert_close(out, expected(q, k, v, at, 4, 5.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("piece", [2, 128])
@pytest.mark.parametrize("window", [None, 3])
def test_row_by_row_answers_for_the_tokens_that_are_wanted(
    piece: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of them, also none of a row. The others are 0."""
    monkeypatch.setattr(rows, "PIECE", piece)
    lying = [PackedRow(0, 9, 0, 0), PackedRow(9, 12, 9, 0), PackedRow(12, 20, 2, 5)]
    wanted = torch.tensor([0, 3, 4, 5, 6, 12, 14, 19, 21])
    source = torch.Generator().manual_seed(0)
    tensors = [torch.randn(24, 2, 8, generator=source) for _ in range(3)]
    found = []
    for some in (None, wanted):
        inputs = [x.clone().requires_grad_() for x in tensors]
        out = rows.row_by_row(*inputs, lying, SCALE, window, some)
        out[wanted].pow(3).sum().backward()
        found.append([out[wanted].detach(), *(x.grad for x in inputs)])
        others = [n for n in range(24) if n not in wanted.tolist()]
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole)
    assert not out[others].any()


def test_weights_are_kept_for_a_backward_pass_alone() -> None:
    kept = []
    q, k, v = (torch.randn(9, 2, 8) for _ in range(3))

    def note(x: Tensor) -> Tensor:
        kept.append(tuple(x.shape))
        return x

    for learning in (False, True):
        kept.clear()
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), torch.set_grad_enabled(learning):
            rows.row_by_row(*inputs, [PackedRow(0, 9, 0, 0)], SCALE)
        assert kept == ([(9, 2, 8)] * 3 + [(2, 9, 9)] if learning else [])


def test_row_by_row_is_for_rows_that_are_long_for_their_width_and_not_too_long() -> None:
    chosen = {
        dtype: [
            (width, reach)
            for reach in (60, 200, 600)
            for width in (128, 256, 1024)
            if rows.row_by_row_pays(width, reach, dtype)
        ]
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert chosen[torch.float32] == [(1024, 60), (256, 200), (1024, 200)]
    assert chosen[torch.bfloat16] == [(256, 60), (1024, 60), (128, 200), (256, 200), (1024, 200)]


@pytest.mark.parametrize("window", [None, 1, 7, 600])
@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (5, 9), (128, 128), (1, 512), (128, 513), (60, 1100)])
def test_a_query_sees_what_comes_before_it(queries: int, tokens: int, window: int | None) -> None:
    ahead = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = (ahead >= 0) & (ahead < (window or tokens))
    whole = torch.zeros(tokens, tokens).masked_fill_(~seen, -torch.inf)[-queries:]
    first = 0 if window is None else max(0, tokens - queries - window + 1)
    assert torch.equal(rows._hidden(queries, first, tokens, window, torch.float32), whole[:, first:])


def test_bfloat16_is_computed_in_float32_and_works_after_inference_mode() -> None:
    rows._staircase.cache_clear()
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(40, 2, 8, generator=source) for _ in range(3))
    lying = [PackedRow(0, 25, 0, 0), PackedRow(25, 40, 0, 9)]
    with torch.inference_mode():
        rows.row_by_row(q, k, v, lying, SCALE)
    narrow = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    wide = [x.detach().float().requires_grad_() for x in narrow]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outs = [rows.row_by_row(*inputs, lying, SCALE) for inputs in (narrow, wide)]
    assert outs[0].dtype == torch.bfloat16
    assert torch.equal(outs[0], outs[1].bfloat16())
    for out in outs:
        out.float().sum().backward()
    for x, y in zip(narrow, wide, strict=True):
        torch.testing.assert_close(x.grad.float(), y.grad, rtol=1e-2, atol=1e-3)


def test_the_kernel_of_torch_is_taken_by_what_it_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    accepted = attention.varlen.__wrapped__()
    assert accepted is varlen.varlen_attn or "enable_gqa" not in varlen.varlen_attn.__kwdefaults__
    monkeypatch.setattr(varlen, "varlen_attn", lambda q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, is_causal: None)
    assert attention.varlen.__wrapped__() is None
    monkeypatch.setitem(__import__("sys").modules, "torch.nn.attention.varlen", None)
    assert attention.varlen.__wrapped__() is None


@pytest.mark.parametrize(
    ("size", "width", "generation", "softcap", "taken"),
    [
        (2, 64, (8, 0), None, True), (2, 256, (9, 0), None, True), (4, 64, (9, 0), None, False),
        (2, 20, (9, 0), None, False), (2, 512, (9, 0), None, False), (2, 64, (7, 5), None, False),
        (2, 64, (9, 0), 30.0, False),
    ],
)  # fmt: skip
def test_the_kernel_is_for_half_precision_common_widths_and_recent_gpus(
    size: int, width: int, generation: Any, softcap: float | None, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    monkeypatch.setattr(attention, "varlen", lambda: kernel)
    on_gpu: Any = SimpleNamespace(is_cuda=True, element_size=lambda: size, shape=(5, 2, width), device="cuda")
    assert attention.uses_varlen(on_gpu, softcap) is taken
    assert not attention.uses_varlen(torch.zeros(5, 2, width, dtype=torch.bfloat16), softcap)  # a CPU
