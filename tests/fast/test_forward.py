"""Models on packed rows, by their own forward, compared with padded rows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import tiny
from heedful.configs.shared import TrainingCompute
from heedful.fast import api, attention, linear, rows, trim
from heedful.maths import padding
from heedful.models import batches, dropout, heads, load, scoring

PAD = 1
SHARED = [*tiny.prompts(2, seed=5, longest=20), *tiny.prompts(2, seed=6, longest=9)]
PROMPTS = [SHARED[i] for i in (0, 1, 0, 2, 0, 1, 3)]
RESPONSES = [*tiny.prompts(6, seed=7, longest=16), []]
BATCH = batches.collate(PROMPTS, RESPONSES, PAD)
# Small and sharp: with wide random weights a cap or a window that is left out shows.
SMALL = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3,
    "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 0,
}  # fmt: skip
GPT = {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {}, "Mistral": {"sliding_window": 5}, "Qwen2": {}, "Qwen3": {"head_dim": 8},
    "Qwen3Moe": {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "Gemma": {"head_dim": 8},
    "Gemma2": {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "Gemma3Text": {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}, "Phi3": {}, "Olmo2": {},
    "Olmo3": {"sliding_window": 5}, "SmolLM3": {}, "Granite": {}, "Cohere2": {"sliding_window": 5},
    "Glm4": {"head_dim": 8}, "Starcoder2": {"sliding_window": 5}, "GPT2": {}, "GPTNeoX": {}, "Ernie4_5": {},
}  # fmt: skip
PADDED = {"Falcon": "attention interface", "GptOss": "s_aux", "Mamba": "attention interface"}


def model_of(family: str, **more: Any) -> Any:
    settings = {"GPT2": GPT, "Mamba": {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2}}.get(family, SMALL)
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**settings, **FAMILIES.get(family, {}), **more})
    return dropout.set_dropout(AutoModelForCausalLM.from_config(config).eval(), 0.0)


def both(model: Any, work: Any) -> list[list[Tensor]]:
    """[result, gradients] of work(model), padded and packed."""
    found = []
    for fast in (False, True):
        assert api.choose(model, fast).packed is fast
        model.zero_grad()
        result = work(model)
        (result * torch.linspace(-1, 1, result.numel()).view(result.shape)).sum().backward()
        found.append([result.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    return found


def close(packed: Tensor, padded: Tensor, largest: float = 1.0) -> None:
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_the_same_on_packed_rows(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probs and gradients, with shared prompts, by both ways of attending that a CPU has."""
    model = model_of(family)
    for enough in (0, 1 << 40):
        monkeypatch.setattr(rows, "ENOUGH", enough)
        padded, packed = both(model.train(), lambda model: scoring.response_logprobs(model, BATCH))
        largest = max(float(x.abs().max()) for x in padded[1:])
        for ours, theirs in zip(packed, padded, strict=True):
            close(ours, theirs, largest)


@pytest.mark.parametrize("family", PADDED)
def test_a_family_that_does_not_fit_is_padded_and_says_why(family: str) -> None:
    more = {"num_local_experts": 4, "head_dim": 8} if family == "GptOss" else {}
    model = model_of(family, **more)
    path = api.choose(model)
    assert not path.packed
    assert PADDED[family] in path.why
    assert str(path).startswith("padded rows (")
    assert not model.config._attn_implementation.startswith(attention.PREFIX)
    scoring.response_logprobs(model, BATCH)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_values_and_scores_are_those_of_padded_rows(family: str) -> None:
    model = tiny.reward(family)
    for work in (scoring.values, scoring.rewards):
        for packed, padded in zip(*both(model, lambda model, work=work: work(model, BATCH)), strict=True):
            close(packed, padded, float(padded.abs().max()))


def test_hooks_and_wrapped_layers_are_part_of_it() -> None:
    """A layer that adds something to a projection, as an adapter does, is computed and trained on packed rows."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base, self.more = base, nn.Linear(base.in_features, base.out_features, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.base(x) + self.more(x)
            return y

    torch.manual_seed(0)
    model = tiny.policy("llama")
    plain = scoring.response_logprobs(model, BATCH)
    layer = model.model.layers[-1]
    for holder, name in (
        (layer.self_attn, "q_proj"),
        (layer.mlp, "up_proj"),
        (model.model.layers[0].self_attn, "v_proj"),
    ):
        setattr(holder, name, Adapted(getattr(holder, name)))
    seen = []
    layer.mlp.down_proj.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    found = both(model, lambda model: scoring.response_logprobs(model, BATCH))
    for packed, padded in zip(*found, strict=True):
        close(packed, padded, float(padded.abs().max()))
    assert len(seen) >= 2
    assert not torch.allclose(found[1][0], plain, atol=1e-3)
    assert layer.self_attn.q_proj.more.weight.grad.abs().max() > 0


def test_the_last_layer_computes_what_is_read() -> None:
    """And a copy does so for itself."""
    model = tiny.reward("llama")
    assert api.path(model).packed
    for one in (model, copy.deepcopy(model)):
        layers = one.model.layers
        counts: list[list[int]] = [[] for _ in layers]

        def note(module: nn.Module, args: Any, counts: list[list[int]] = counts, layers: Any = layers) -> None:
            counts[[layer.mlp.gate_proj for layer in layers].index(module)].append(args[0].shape[1])

        handles = [layer.mlp.gate_proj.register_forward_pre_hook(note) for layer in layers]
        scoring.rewards(one, BATCH)
        assert counts[-1] == [len(PROMPTS)]
        assert {n for found in counts[:-1] for n in found} == {len(BATCH.layout.ids_N)}
        for handle in handles:
            handle.remove()


def test_fast_false_is_transformers_own_padded_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.policy("llama")
    before = model.config._attn_implementation
    assert api.choose(model).packed
    assert model.config._attn_implementation == attention.PREFIX + before
    assert api.choose(model, False).why == "compute.fast is false"
    assert model.config._attn_implementation == before
    assert not any(type(module) is linear.OneDNNLinear for module in model.modules())
    assert not any(hook in trim.HOOKS for m in model.modules() for hook in m._forward_hooks.values())
    called = []
    model.register_forward_hook(lambda *_: called.append(1))
    monkeypatch.setattr(api, "states_at", None)
    scoring.response_logprobs(model, BATCH)
    scoring.response_loss(model, BATCH)
    assert called == [1, 1]


def test_generation_by_transformers_and_the_saved_folder_are_untouched(tmp_path: Any) -> None:
    """A model with the fast path in it generates through a cache as before, and its config names no attention."""
    model = tiny.policy("llama")
    ids, mask = padding.left_pad([[5, 6, 7], [8, 9]], PAD)
    settings = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = model.generate(ids, **settings)
    assert api.choose(model).packed
    assert torch.equal(model.generate(ids, **settings), expected)
    model.save_pretrained(tmp_path)
    assert attention.PREFIX not in (tmp_path / "config.json").read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("change", ["scaled", "norm"])
def test_a_model_that_mixes_rows_or_breaks_is_padded(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.policy()
    if change == "scaled":  # something that sees all tokens of the pass
        mlp = model.model.layers[0].mlp
        forward_of = mlp.forward
        monkeypatch.setattr(mlp, "forward", lambda x: forward_of(x) + x.mean(1, keepdim=True))
    else:
        monkeypatch.setattr(model.model.norm, "forward", lambda x: x.reshape(3, 18, -1))
    path = api.choose(model)
    assert not path.packed
    assert ("other numbers" in path.why) is (change == "scaled")
    assert not any(hook in trim.HOOKS for m in model.modules() for hook in m._forward_hooks.values())


@pytest.mark.parametrize("autocast", [False, True])
def test_who_asks_first_does_not_matter(autocast: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert api.path(tiny.policy()).packed


def test_bfloat16_by_autocast_is_near_float32() -> None:
    model = tiny.reward()
    plain = scoring.rewards(model, BATCH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = scoring.rewards(model, BATCH)
    scores.sum().backward()
    torch.testing.assert_close(scores, plain, rtol=0.05, atol=0.05)


def test_no_row_sees_another() -> None:
    """The gradient by the embedding of tokens that only other rows hold is exactly 0."""
    model = tiny.policy()
    api.choose(model)
    ids = [[10, 11, 12, 13], [20, 21, 22], [30, 31, 32, 33]]
    batch = batches.collate([row[:1] for row in ids], [row[1:] for row in ids], PAD)
    api.states_at(model, batch.layout)[batch.layout.place_BS[1, :3]].sum().backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [20, 21, 22]


def test_a_completion_sees_its_prompt_and_itself_alone() -> None:
    model = tiny.policy()
    api.choose(model)
    batch = batches.collate([[10, 11, 12]] * 2, [[20, 21], [30, 31, 32]], PAD)
    assert any(row.before for row in batch.layout.rows)
    api.states_at(model, batch.layout)[batch.layout.place_BS[1, 4]].sum().backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [10, 11, 12, 30, 31]


def test_activations_are_recomputed_where_that_is_asked_for() -> None:
    found, kept = [], []
    for recomputed in (False, True):
        model = tiny.policy().train()
        if recomputed:
            load.place(model, "cpu", TrainingCompute(activation_checkpointing=True), trained=True)
        sizes: list[int] = []

        def note(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = scoring.response_logprobs(model, BATCH).sum()
        found.append(torch.autograd.grad(loss, list(model.parameters())))
        kept.append(sum(sizes))
    torch.testing.assert_close(found[0], found[1])
    assert kept[1] < kept[0] / 2


def test_attention_dropout_is_refused_and_not_left_out() -> None:
    model = tiny.policy("llama").train()
    assert api.choose(model).packed
    model.model.layers[0].self_attn.attention_dropout = 0.1
    with pytest.raises(attention.Unsupported, match="dropout"):
        scoring.response_logprobs(model, BATCH)


def test_a_value_net_from_a_placed_policy_is_packed_and_can_be_taken_back() -> None:
    """The copied body brings the policy's hooks and attention along. They must not count twice."""
    policy = tiny.policy("llama")
    assert api.choose(policy).packed
    value = heads.value_from_policy(policy)
    assert api.choose(value).packed
    packed = scoring.values(value, BATCH)
    api.choose(value, False)
    assert not value.base_model.config._attn_implementation.startswith(attention.PREFIX)
    assert not any(hook in trim.HOOKS for m in value.modules() for hook in m._forward_pre_hooks.values())
    close(packed, scoring.values(value, BATCH))
    scoring.response_logprobs(policy, BATCH)
