"""Adapter folders and quantised folders: plain models where the packages are there, else one line."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from heedful.config import UserError
from heedful.models import batches, heads, load, scoring
from heedful.runs.manifest import parent

BATCH = batches.collate(tiny.prompts(3), tiny.prompts(3, seed=1), pad_id=1)
RANK, ALPHA = 4, 8
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def adapter(path: Path, base: str, *, task: str = "CAUSAL_LM", **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write the folder of a LoRA adapter for the queries of the first layer. Returns its tensors."""
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.randn(RANK, 32, generator=draw),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": torch.randn(32, RANK, generator=draw),
        **more,
    }
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA", "task_type": task, "base_model_name_or_path": base, "r": RANK, "lora_alpha": ALPHA,
        "target_modules": ["q_proj"], "layers_to_transform": [0],
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(described))
    return tensors


def delta(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    a, b = (tensors[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{x}.weight"] for x in "AB")
    return ALPHA / RANK * b @ a


def saved(path: Path, model: Any) -> str:
    load.save(model, tiny.tokenizer(), path)
    return str(path)


@needs_peft
def test_an_adapter_is_merged_into_its_base(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", tiny.policy())
    tensors = adapter(tmp_path / "adapter", base)
    model, tokenizer = load.load_policy(tmp_path / "adapter")
    plain, _ = load.load_policy(base)
    expected = {name: weight.clone() for name, weight in plain.named_parameters()}
    expected["model.layers.0.self_attn.q_proj.weight"] += delta(tensors)
    found = dict(model.named_parameters())
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name])
        assert weight.requires_grad
    assert tokenizer.get_vocab() == tiny.tokenizer().get_vocab()
    load.save(model, tokenizer, tmp_path / "merged")  # the whole model, without a trace of the adapter
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    again, _ = load.load_policy(tmp_path / "merged")
    assert torch.equal(again.model.layers[0].self_attn.q_proj.weight, found["model.layers.0.self_attn.q_proj.weight"])


@needs_peft
def test_a_reward_model_can_be_an_adapter_with_a_head(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", tiny.policy())
    head = torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    tensors = adapter(tmp_path / "adapter", base, task="SEQ_CLS", **{"base_model.model.score.weight": head})
    model, _ = load.load_reward(tmp_path / "adapter")
    by_hand = heads.reward_from_policy(tiny.policy(), seed=0)
    with torch.no_grad():
        by_hand.score.weight.copy_(head)
        by_hand.model.layers[0].self_attn.q_proj.weight += delta(tensors)
        torch.testing.assert_close(scoring.rewards(model, BATCH), scoring.rewards(by_hand, BATCH), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="a reward model"):
        load.load_policy(tmp_path / "adapter")


@needs_peft
def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", tiny.policy("gpt_neox"))
    adapter(tmp_path / "adapter", base)
    with pytest.raises(UserError) as caught:
        load.load_policy(tmp_path / "adapter")
    assert str(caught.value).startswith(f"{tmp_path / 'adapter'}: ")
    assert "\n" not in str(caught.value)


def test_without_peft_one_line_names_the_adapter_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = saved(tmp_path / "base", tiny.policy())
    adapter(tmp_path / "adapter", base)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    for open_it in (load.load_policy, load.load_reward):
        with pytest.raises(
            UserError, match=f"a LoRA adapter of {base}. Install peft to load it, or merge it"
        ) as caught:
            open_it(tmp_path / "adapter")
        assert "\n" not in str(caught.value)


@needs_peft
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_model_name_or_path": "/nowhere/base"}, "a LoRA adapter of /nowhere/base, which does not exist"),
        ({"base_model_name_or_path": None}, "names no base. Write its folder or hub name"),
        ({"base_model_name_or_path": "C:\\models\\base"}, "a LoRA adapter of .*, which does not exist"),
        ({"base_model_name_or_path": "../adapter"}, "an adapter of itself"),
        ({"layers_to_transform": [1]}, "a LoRA adapter that does not fit"),
        ("surplus", "has weights that its adapter_config.json does not name, such as .*layers.1.*lora_A.weight"),
        ({"r": 8}, r"a LoRA adapter that does not fit .* \(size mismatch for .*\). Give its own base, or save"),
        ({"target_modules": ["nothing"]}, r"that does not fit .* \(Target modules .*nothing.* not found in the base"),
        ({"base_model_name_or_path": "nobody/nothing"}, "a LoRA adapter of nobody/nothing: no such directory"),
        ("other tokenizer", "its tokenizer gives other ids than that of .*, such as .* Give the adapter's own base"),
        ("nan", "the adapter holds NaN. Give an earlier checkpoint of it"),
        ("virtual tokens", "a PROMPT TUNING adapter puts vectors before the input, which no plain model holds"),
        ("no weights", "a LoRA adapter without adapter_model.safetensors"),
        ("no json", "adapter_config.json: damaged"),
    ],
    ids=str,
)
def test_a_damaged_adapter_is_one_line(change: Any, said: str, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", saved(tmp_path / "base", tiny.policy()))
    file = tmp_path / "adapter" / "adapter_config.json"
    if change == "no weights":
        (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    elif change == "no json":
        file.write_text("{")
    elif change in ("surplus", "nan"):
        tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        more = {name.replace("layers.0", "layers.1"): weight.clone() for name, weight in tensors.items()}
        broken = {name: weight * torch.nan for name, weight in tensors.items()}
        save_file(broken if change == "nan" else tensors | more, tmp_path / "adapter" / "adapter_model.safetensors")
    elif change == "other tokenizer":
        tiny.tokenizer(template=True).save_pretrained(tmp_path / "adapter")
    elif change == "virtual tokens":
        peft = importlib.import_module("peft")
        settings = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft calls transformers by an old name
            tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), settings)
            tuned.save_pretrained(tmp_path / "adapter")
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=said) as caught:
        load.load_policy(tmp_path / "adapter")
    assert "\n" not in str(caught.value)


@needs_peft
def test_an_adapter_of_an_adapter_and_a_base_named_from_its_folder(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", tiny.policy())
    tensors = adapter(tmp_path / "one", "../base")
    adapter(tmp_path / "two", str(tmp_path / "one"))
    plain, model = (load.load_policy(path)[0] for path in (base, tmp_path / "two"))
    (expected, found) = (one.model.layers[0].self_attn.q_proj.weight for one in (plain, model))
    torch.testing.assert_close(found, expected + 2 * delta(tensors))
    before = parent(tmp_path / "two")["weights_sha256"]
    saved(tmp_path / "base", tiny.policy(seed=1))
    assert parent(tmp_path / "two")["weights_sha256"] != before


@needs_peft
def test_an_adapter_with_more_tokens_than_its_base(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", tiny.policy(tie_word_embeddings=False))
    rows = torch.randn(tiny.VOCAB + 2, 32, generator=torch.Generator().manual_seed(2))
    names = ("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight")
    adapter(tmp_path / "adapter", base, **{names[0]: rows, names[1]: rows + 1})
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(tmp_path / "adapter")
    model, found = load.load_policy(tmp_path / "adapter")
    assert len(found) == tiny.VOCAB + 2
    assert torch.equal(model.get_input_embeddings().weight, rows)
    assert torch.equal(model.get_output_embeddings().weight, rows + 1)


def test_the_parents_of_a_run_know_the_base_of_an_adapter(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", tiny.policy())
    adapter(tmp_path / "adapter", base)
    before = parent(tmp_path / "adapter")["weights_sha256"]
    saved(tmp_path / "base", tiny.policy(seed=1))
    assert parent(tmp_path / "adapter")["weights_sha256"] != before


def called_quantised(folder: Path, quantised: dict[str, Any]) -> str:
    """A model of plain weights whose config.json calls them quantised."""
    path = saved(folder, tiny.policy())
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": quantised}))
    return path


@pytest.mark.parametrize(
    ("quantised", "named"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "4-bit bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "8-bit bitsandbytes"),
        ({"quant_method": "gptq", "bits": 3}, "3-bit gptq"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
@pytest.mark.parametrize("shards", [False, True])
def test_plain_weights_that_are_called_quantised_are_refused(
    quantised: dict[str, Any], named: str, shards: bool, tmp_path: Path
) -> None:
    """A config.json from a quantised copy: transformers would round the weights as they load."""
    path = called_quantised(tmp_path / "model", quantised)
    if shards:
        (tmp_path / "model" / "model.safetensors").unlink()
        tiny.policy().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
        for file in (tmp_path / "shards").glob("*.safetensors*"):
            file.rename(tmp_path / "model" / file.name)
        assert len([*(tmp_path / "model").glob("*.safetensors")]) > 1
    said = f"config.json calls its weights {named}, but the files hold plain ones. Delete quantization_config there"
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {said}')}$"):
        load.load_policy(path)


@pytest.mark.parametrize(
    ("quantised", "said"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"4-bit bitsandbytes weights\. Install bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, r"4-bit gptq weights\. Install gptqmodel and optimum to load it"),
        ({"quant_method": "awq", "bits": 4}, r"4-bit awq weights\. Install gptqmodel"),
        ({"quant_method": "compressed-tensors"}, r"compressed-tensors weights\. Install compressed-tensors to load it"),
        ({"quant_method": "vptq"}, r"vptq weights\. transformers says: .*vptq"),
    ],
    ids=lambda value: value["quant_method"] if isinstance(value, dict) else "",
)
def test_quantised_weights_without_their_packages_are_one_line(
    quantised: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(quantised["quant_method"].replace("-", "_")) is not None:
        pytest.skip("its package is installed")
    path = called_quantised(tmp_path / "model", quantised)
    weights = tmp_path / "model" / "model.safetensors"
    name = "model.layers.0.self_attn.q_proj"
    packed = {f"{name}.qweight": torch.ones(4, 32, dtype=torch.int32)}
    save_file(_packed(load_file(weights), name) | packed, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"^{path}: {said}") as caught:
        load.load_policy(path)
    assert "\n" not in str(caught.value)
    assert "or give the model that they were made from" in str(caught.value)


def _packed(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key != f"{name}.weight"}


@pytest.mark.parametrize(
    ("config", "parts", "said"),
    [
        ({}, {"qweight": torch.int32, "scales": torch.float16}, r"holds quantised weights \(.*q_proj\.qweight\)"),
        ({"quantization": {"bits": 4}}, {"weight": torch.int32, "scales": torch.float16}, r".*weight holds integers"),
        ({}, {"weight": torch.int8}, r".*q_proj\.weight holds integers, which are quantised\. Give the model"),
        ({}, {"weight": torch.float32, "weight_scale": torch.float32}, r"holds quantised weights \(.*weight_scale\)"),
        (
            {"quantization_config": {"bits": 4}},
            {"weight": torch.int32},
            r"quantised weights, of which .* as MLX writes",
        ),
        ({"quantization_config": {"quant_method": "exl2"}}, {"qweight": torch.int32}, r"holds quantised weights"),
    ],
)
def test_quantised_weights_that_nobody_reads_so_are_refused(
    config: dict[str, Any], parts: dict[str, torch.dtype], said: str, tmp_path: Path
) -> None:
    """Their numbers would be taken for weights, without their scales."""
    path, name = saved(tmp_path / "model", tiny.policy()), "model.layers.0.self_attn.q_proj"
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors = _packed(tensors, name) | {
        f"{name}.{part}": torch.ones(32, 32, dtype=kind) for part, kind in parts.items()
    }
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(UserError, match=f"^{path}: {said}"):
        load.load_policy(path)


def test_integers_of_a_hub_model_are_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    kept = tmp_path / "models--a--small" / "snapshots" / ("0" * 40)
    saved(kept, tiny.policy())
    (kept.parent.parent / "refs").mkdir()
    (kept.parent.parent / "refs" / "main").write_text("0" * 40)
    assert load.load_policy("a/small")[0].config.hidden_size == 32
    name, weights = "model.layers.0.self_attn.q_proj", kept / "model.safetensors"
    tensors = _packed(load_file(weights), name) | {f"{name}.weight": torch.ones(32, 32, dtype=torch.int8)}
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"^a/small: .*q_proj\.weight holds integers, which are quantised"):
        load.load_policy("a/small")


def test_weights_in_another_form_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", tiny.policy())
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(UserError, match=r"its weights are pointers of Git LFS\. Fetch them there with: git lfs pull"):
        load.load_policy(path)
    weights.rename(tmp_path / "model" / "model-q4.gguf")
    with pytest.raises(UserError, match=r"model: holds GGUF weights, which cannot be trained\. Give the model that"):
        load.load_policy(path)
    with pytest.raises(UserError, match=r"model-q4\.gguf: .*, but GGUF weights, which cannot be trained\. Give"):
        load.load_policy(tmp_path / "model" / "model-q4.gguf")
    with pytest.raises(UserError, match=r"config\.json: .*, but a file\. Give a folder with config\.json"):
        load.load_policy(tmp_path / "model" / "config.json")
    with pytest.raises(UserError, match=r"an address of the hub\. Write the name alone: Qwen/Qwen3-0\.6B$"):
        load.load_policy("https://huggingface.co/Qwen/Qwen3-0.6B")


@pytest.mark.medium
def test_quantised_weights_become_plain_ones(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    base, settings = saved(tmp_path / "base", tiny.policy(hidden=64)), BitsAndBytesConfig(load_in_4bit=True)
    AutoModelForCausalLM.from_pretrained(base, quantization_config=settings).save_pretrained(tmp_path / "small")
    tiny.tokenizer().save_pretrained(tmp_path / "small")
    model, tokenizer = load.load_policy(tmp_path / "small")
    load.save(model, tokenizer, tmp_path / "plain")
    again, _ = load.load_policy(tmp_path / "plain")
    exact, _ = load.load_policy(base)
    weight, found = (one.model.layers[0].self_attn.q_proj.weight for one in (exact, again))
    assert found.dtype == torch.float32
    assert not torch.equal(weight, found)
    assert float((weight - found).detach().abs().max()) < 0.3 * float(weight.detach().abs().max())
