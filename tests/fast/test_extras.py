"""Compiled layers and Liger's kernels: the same losses and gradients, what is refused, and that both come out again."""

from __future__ import annotations

import copy
import logging
import sys
from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers.models.llama import modeling_llama

import tiny
from heedful.config import UserError
from heedful.configs.shared import TrainingCompute
from heedful.fast import api, attention, compiled, forward, liger, linear
from heedful.models import batches, load, scoring

BATCH = batches.collate(tiny.prompts(3, seed=5, longest=9), tiny.prompts(3, seed=7, longest=8), 1)
LAYER = TrainingCompute(compile="layer")


def learn(model: Any) -> list[Tensor]:
    """[log-probs, gradients]."""
    model.zero_grad()
    logprobs_BT = scoring.response_logprobs(model, BATCH)
    (logprobs_BT * torch.linspace(-1, 1, logprobs_BT.numel()).view_as(logprobs_BT)).sum().backward()
    return [logprobs_BT.detach(), *(weight.grad.clone() for weight in model.parameters())]


@pytest.mark.medium
def test_compiled_layers_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By dynamo alone, which needs no compiler. One layer, in training mode, with recomputed activations."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep all of it
    model = load.place(tiny.policy("llama", num_hidden_layers=1), "cpu", TrainingCompute(), trained=True)
    names, plain = list(dict(model.named_parameters())), learn(model)
    ran: list[int] = []
    attend = attention.attend
    monkeypatch.setattr(attention, "attend", lambda *args: ran.append(1) or attend(*args))
    monkeypatch.setattr(forward, "_trial", lambda model, dtype: [torch.ones(1)])  # compiling costs time
    recomputed = LAYER.model_copy(update={"activation_checkpointing": True})
    load.place(model, "cpu", recomputed, trained=True)
    assert str(api.path(model)) == "packed rows, compiled layers"
    torch._dynamo.utils.counters.clear()
    ran.clear()
    for ours, theirs in zip(learn(model.train()), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert len(ran) == 2  # the layer's forward, and again in the backward pass
    found = torch._dynamo.utils.counters
    assert found["stats"]["unique_graphs"] >= 2  # before and after attention
    assert [why for why in found["graph_break"] if "disable" not in why] == []
    assert list(dict(model.named_parameters())) == names
    assert type(copy.deepcopy(model).model.layers[0]).forward is type(model.model.layers[0]).forward
    api.choose(model)
    assert type(model.model.layers[0]) is modeling_llama.LlamaDecoderLayer
    assert str(api.path(model)) == "packed rows"
    assert attention.APART not in model.config._attn_implementation


def test_layers_that_do_not_compile_are_refused_in_training_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(code: Any, **how: Any) -> Any:
        def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("no working C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(compiled, "BACKEND", "broken")
    said = "compute.compile: LlamaForCausalLM does not run with it: RuntimeError: no working C++ compiler"
    with pytest.raises(UserError, match=rf"^{said}\. Leave that setting out$".replace("+", r"\+")):
        load.place(tiny.policy("llama"), "cpu", LAYER, trained=True)
    model = load.place(tiny.policy("llama"), "cpu", LAYER)
    assert f"{said}. This model computes without it" in caplog.text
    assert str(api.path(model)) == "packed rows"
    assert type(model.model.layers[0]) is modeling_llama.LlamaDecoderLayer
    scoring.response_logprobs(model, BATCH)


def test_layers_with_other_numbers_and_padded_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(code: Any, **how: Any) -> Any:
        return lambda self, *args, **kwargs: code(self, *args, **kwargs) * 1.01

    monkeypatch.setattr(torch, "compile", wrong)
    monkeypatch.setattr(compiled, "BACKEND", "wrong")
    with pytest.raises(UserError, match=r"compute\.compile: LlamaForCausalLM gives other numbers with it"):
        load.place(tiny.policy("llama"), "cpu", LAYER, trained=True)
    monkeypatch.setattr(forward, "_unfit", lambda model: "LlamaForCausalLM attends in circles")
    with pytest.raises(UserError, match=r"^compute\.compile needs packed rows, and LlamaForCausalLM attends in circ"):
        load.place(tiny.policy("llama"), "cpu", LAYER, trained=True)
    with pytest.raises(ValidationError, match="compile works on the fast path alone"):
        TrainingCompute(compile="layer", fast=False)
    with pytest.raises(ValidationError, match="liger works on the fast path alone"):
        TrainingCompute(liger=True, fast=False)


class FakeNorm(nn.Module):
    """Stands in for a Triton kernel."""

    ran = 0
    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        FakeNorm.ran += 1
        out: Tensor = FakeNorm.factor * self.weight * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
        return out


FakeNorm.forward.__module__ = "liger_kernel.transformers.rms_norm"


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A liger_kernel that replaces norms as the real one does: the class in transformers, and those of the model."""

    def apply(model: Any, *, rope: bool, cross_entropy: bool, fused_linear_cross_entropy: bool) -> None:
        assert {rope, cross_entropy, fused_linear_cross_entropy} == {False}
        if model.config.model_type != "llama":
            return
        modeling_llama.LlamaRMSNorm = FakeNorm
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.__dict__["forward"] = MethodType(FakeNorm.forward, module)

    for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    made = sys.modules["liger_kernel.transformers.monkey_patch"]
    made._apply_liger_kernel_to_instance = apply  # type: ignore[attr-defined]
    monkeypatch.setattr(FakeNorm, "factor", 1.0)
    return made


def test_ligers_kernels_are_in_this_model_alone(kernels: ModuleType) -> None:
    plain_class = modeling_llama.LlamaRMSNorm
    model = load.place(tiny.policy("llama"), "cpu", TrainingCompute(), trained=True)
    plain = learn(model)
    load.place(model, "cpu", TrainingCompute(liger=True), trained=True)
    assert str(api.path(model)) == "packed rows, Liger kernels"
    FakeNorm.ran = 0
    for ours, theirs in zip(learn(model), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert FakeNorm.ran == 2 * len(model.model.layers) + 1
    assert modeling_llama.LlamaRMSNorm is plain_class
    copied = copy.deepcopy(model)
    assert copied.model.norm.forward.__self__ is copied.model.norm
    api.choose(model)
    learn(model)
    assert FakeNorm.ran == 2 * len(model.model.layers) + 1
    assert not any("forward" in vars(module) for module in model.modules())


def test_liger_is_refused_where_it_cannot_work(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TrainingCompute(liger=True)
    with pytest.raises(UserError, match=r"^compute\.liger: nothing of GPT2LMHeadModel is known to it\. Leave that"):
        load.place(tiny.policy("gpt2"), "cpu", wanted, trained=True)
    monkeypatch.setattr(FakeNorm, "factor", 1.5)
    with pytest.raises(UserError, match=r"^compute\.liger: LlamaForCausalLM gives other numbers with it"):
        load.place(tiny.policy("llama"), "cpu", wanted, trained=True)
    with pytest.raises(UserError, match=r"^compute\.liger: Liger's kernels need a GPU, and this run computes on a CPU"):
        liger.check(torch.device("cpu"))
    monkeypatch.setattr(liger.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^compute\.liger needs liger-kernel\. pip install .*liger"):
        liger.check(torch.device("cuda"))


def test_a_copy_in_shards_is_chosen_for_like_its_model(kernels: ModuleType) -> None:
    """The average of a sharded policy is another model with the same settings."""
    model, other = (load.place(tiny.policy("llama"), "cpu", TrainingCompute()) for _ in range(2))
    api.choose(model, extras=api.Extras(liger=True))
    assert str(api.choose_like(other, model)) == "packed rows, Liger kernels"
    assert api.choose(model, False).extras == api.Extras()
    assert linear.is_plain(model.lm_head)
