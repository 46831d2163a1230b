"""Products by oneDNN beside torch's linear layer in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heedful.fast import linear as module
from heedful.fast.linear import Fixed, OneDNNLinear, is_plain, linear, product, put_in, take_out

CALLS: list[int] = []


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN for all sizes, with its calls counted."""
    if module._least(True, False) is None:
        pytest.skip("no oneDNN for this processor")
    CALLS.clear()
    product = module._product

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        CALLS.append(len(x))
        return product(x, weight, bias)

    monkeypatch.setattr(module, "_least", lambda several_threads, gradient: 0)
    monkeypatch.setattr(module, "_product", counted)


def parts(rows: int = 37) -> tuple[Tensor, nn.Linear, Tensor]:
    torch.manual_seed(3)
    return torch.randn(rows, 24, requires_grad=True), nn.Linear(24, 40), torch.randn(rows, 40)


def swapped(layer: nn.Linear) -> nn.Module:
    put_in(layer)
    assert type(layer) is OneDNNLinear
    return layer


@pytest.mark.usefixtures("onednn")
def test_values_and_gradients_are_those_of_a_linear_layer() -> None:
    x, layer, grad = parts()
    wide = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    expected = F.linear(*wide)
    expected.backward(grad.double())
    actual = swapped(layer)(x)
    actual.backward(grad)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip((x, layer.weight, layer.bias), wide, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-5)
    assert len(CALLS) == 2  # forward, and the gradient of x


@pytest.mark.usefixtures("onednn")
def test_a_gradient_that_nobody_wants_is_not_computed() -> None:
    x, layer, grad = parts()
    swapped(layer)(x.detach()).backward(grad)
    assert len(CALLS) == 1


@pytest.mark.usefixtures("onednn")
def test_added_leaves_what_it_adds_to_as_it_was() -> None:
    x, layer, states = parts()
    before = states.clone()
    with torch.inference_mode():
        actual = Fixed(layer.weight, layer.bias).added(states, x)
    torch.testing.assert_close(actual, states + layer(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(states, before)
    assert CALLS == [37]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7, 64, 300])
def test_a_weight_reordered_once_serves_any_number_of_rows(
    dtype: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.backends.mkldnn.is_available() or (
        dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        pytest.skip("no oneDNN for this processor")
    monkeypatch.setattr(module, "_least", lambda several_threads, gradient: module.LEAST_AVX512)
    x, layer, states = (part.to(dtype) for part in parts(rows))
    bound = 1e-5 if dtype == torch.float32 else 3e-2
    with torch.inference_mode():
        fixed = Fixed(layer.weight, layer.bias)
        expected = F.linear(x.double(), layer.weight.double(), layer.bias.double())
        actual, added = fixed(x), fixed.added(states, x)
    assert fixed.reordered is not None
    torch.testing.assert_close(actual.double(), expected, rtol=bound, atol=bound)
    torch.testing.assert_close(added.double(), expected + states.double(), rtol=bound, atol=bound)


def test_a_weight_is_not_copied_where_that_is_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_least", lambda several_threads, gradient: module.LEAST_AVX512)
    _, layer, _ = parts()
    assert Fixed(layer.weight, layer.bias, copy=False).weight is layer.weight


@pytest.mark.usefixtures("onednn")
def test_hooks_are_called() -> None:
    x, layer, _ = parts()
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    swapped(layer)(x)
    assert seen == [(37, 40)]


@pytest.mark.usefixtures("onednn")
def test_other_types_and_autocast_go_the_common_way() -> None:
    x, layer, _ = parts()
    linear(x.double(), layer.weight.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, layer.weight).dtype == torch.bfloat16
    assert not CALLS


def test_the_choice_depends_on_processor_threads_size_and_gradients_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    if module._least.__wrapped__(True, False) is None:
        pytest.skip("no oneDNN for this processor")
    assert module._least.__wrapped__(True, False) == module.LEAST
    assert module._least.__wrapped__(False, False) is None
    assert module._least.__wrapped__(True, True) is None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert module._least.__wrapped__(False, True) == module.LEAST_AVX512_GRADIENT
    assert module._least.__wrapped__(False, False) == module.LEAST_AVX512
    monkeypatch.setattr(module, "_least", lambda several_threads, gradient: 37 * 24 * 40)
    x, layer, _ = parts()
    assert module._pays(x, layer.weight, gradient=False)
    assert not module._pays(x[1:], layer.weight, gradient=False)


@pytest.mark.usefixtures("onednn")
def test_a_product_of_a_training_step_is_chosen_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_least", lambda several_threads, gradient: 1 << 40 if gradient else 0)
    x, layer, _ = parts()
    with torch.no_grad():
        torch.testing.assert_close(product(x, layer.weight, gradient=True), F.linear(x, layer.weight))
        assert not CALLS
        product(x, layer.weight)
        assert CALLS


@pytest.mark.usefixtures("onednn")
def test_it_is_the_same_layer_with_another_forward() -> None:
    class Other(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), Other(5, 6))
    before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    put_in(model)
    assert [type(module) for module in model] == [OneDNNLinear, nn.ReLU, Other]
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == before
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(model[0](x), F.linear(x, model[0].weight, model[0].bias))
    assert is_plain(model[0])
    assert not is_plain(model[2])
    take_out(model)
    assert type(model[0]) is nn.Linear
    model[0].register_forward_hook(lambda *_: None)
    assert not is_plain(model[0])
