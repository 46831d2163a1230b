from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Gemma3Config,
    T5Config,
)

import tiny
from heedful.config import UserError
from heedful.models import batches, dropout, heads, load, scoring

BATCH = batches.collate(tiny.prompts(3), tiny.prompts(3, seed=1), pad_id=1)
WITH_DROPOUT = ("gpt2", "gpt_neox")


def saved(tmp_path: Path, model: Any, tokenizer: Any = None) -> str:
    path = tmp_path / "model"
    load.save(model, tokenizer or tiny.tokenizer(), path)
    return str(path)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_policy_comes_back_and_plain_transformers_reads_it(family: str, tmp_path: Path) -> None:
    model = tiny.policy(family)
    path = saved(tmp_path, model)
    again, tokenizer = load.load_policy(path)
    plain = AutoModelForCausalLM.from_pretrained(path)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert torch.equal(weight, plain.state_dict()[name])
    assert AutoTokenizer.from_pretrained(path).encode("Tom") == tokenizer.encode("Tom")
    assert not again.training
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    assert [file.suffix for file in Path(path).glob("model*")] == [".safetensors"]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_reward_model_is_the_plain_score_plus_the_bias(family: str, tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.reward(family, bias=-1.5))
    plain = AutoModelForSequenceClassification.from_pretrained(path)
    assert plain.config.heedful_reward_bias == -1.5
    assert plain.config.pad_token_id == 1
    ids = BATCH.input_ids_BS
    with torch.no_grad():
        expected = plain(ids, attention_mask=ids != 1).logits[:, 0] + plain.config.heedful_reward_bias
        model, _ = load.load_reward(path)
        torch.testing.assert_close(scoring.rewards(model, BATCH), expected, rtol=1e-5, atol=1e-5)
        value = heads.value_from_reward(model)
        torch.testing.assert_close(scoring.rewards(value, BATCH), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_new_head_sits_on_a_copy_of_the_policys_body(family: str) -> None:
    policy = tiny.policy(family)
    reward, same, other = (heads.reward_from_policy(policy, seed=seed) for seed in (0, 0, 1))
    for name, weight in policy.base_model.state_dict().items():
        assert torch.equal(weight, reward.base_model.state_dict()[name])
    assert torch.equal(reward.score.weight, same.score.weight)
    assert not torch.equal(reward.score.weight, other.score.weight)
    assert reward.config.heedful_reward_bias == 0.0  # written even when it is 0: whoever reads the file finds it
    assert scoring.rewards(reward, BATCH).tolist() != [0.0] * 3
    next(iter(reward.base_model.parameters())).data.add_(1.0)
    assert not torch.equal(next(reward.base_model.parameters()), next(policy.base_model.parameters()))


def test_the_head_has_the_papers_spread() -> None:
    weight = heads.reward_from_policy(tiny.policy(hidden=512), seed=0).score.weight.detach()
    assert weight.shape == (1, 512)
    assert float(weight.std()) == pytest.approx(513**-0.5, rel=0.1)
    assert abs(float(weight.mean())) < 3 / 512


def test_a_value_net_without_a_reward_model_starts_at_zero() -> None:
    value = heads.value_from_policy(tiny.policy())
    assert scoring.values(value, BATCH).abs().sum() == 0
    assert any(p.requires_grad for p in value.parameters())


def test_a_value_net_is_separate_from_its_reward_model() -> None:
    reward = tiny.reward()
    value = heads.value_from_reward(reward)
    value.score.weight.data.zero_()
    heads.set_reward_bias(value, 9.0)
    assert reward.score.weight.abs().sum() > 0
    assert heads.reward_bias(reward) == 0.25


def test_a_value_net_predicts_the_weighted_reward() -> None:
    reward = tiny.reward(bias=0.25)
    with torch.no_grad():
        expected = -2 * scoring.rewards(reward, BATCH)
        found = scoring.rewards(heads.value_from_reward(reward, -2.0), BATCH)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_training_starts_from_a_policy_or_from_a_reward_model(tmp_path: Path) -> None:
    model, _ = load.load_reward_start(saved(tmp_path, tiny.policy()), seed=0)
    assert heads.reward_bias(model) == 0
    model, _ = load.load_reward_start(saved(tmp_path, tiny.reward(bias=3.0)), seed=0)
    assert heads.reward_bias(model) == 3.0


def test_a_pad_is_found_on_loading_and_saved(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(pad=None, extra=("<|reserved_0|>",))
    path = saved(tmp_path, tiny.policy(vocab=len(tokenizer), pad_token_id=None), tokenizer)
    model, tokenizer = load.load_policy(path)
    assert tokenizer.pad_token == "<|reserved_0|>"
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    path = saved(tmp_path, model, tokenizer)
    assert AutoTokenizer.from_pretrained(path).pad_token == "<|reserved_0|>"
    assert AutoModelForCausalLM.from_pretrained(path).config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_dropout_is_off_unless_set(family: str, tmp_path: Path) -> None:
    attention = {"attn_pdrop": 0.5, "embd_pdrop": 0.5} if family == "gpt2" else {"attention_dropout": 0.5}
    residual = {"gpt2": {"resid_pdrop": 0.5}, "gpt_neox": {"hidden_dropout": 0.5}}.get(family, {})
    path = saved(tmp_path, AutoModelForCausalLM.from_config(tiny.config(family, **attention, **residual)))
    model, _ = load.load_policy(path)
    with torch.no_grad():
        once, twice = (scoring.response_logprobs(model.train(), BATCH) for _ in range(2))
    assert torch.equal(once, twice)
    assert dropout.has_dropout(model) == (family in WITH_DROPOUT)
    if family in WITH_DROPOUT:
        dropout.set_dropout(model, 0.2)
        once, twice = (scoring.response_logprobs(model, BATCH) for _ in range(2))
        assert not torch.equal(once, twice)
        dropout.set_dropout(model, 0.0)
        assert torch.equal(*(scoring.response_logprobs(model, BATCH) for _ in range(2)))
    else:
        with pytest.raises(UserError, match=r"no residual dropout\. Set dropout=0"):
            dropout.set_dropout(model, 0.2)


def test_residual_dropout_drops_the_given_share() -> None:
    model = dropout.set_dropout(tiny.policy("gpt2"), 0.2)
    kept = []
    model.transformer.h[0].mlp.register_forward_hook(lambda _, __, out: kept.append((out != 0).float().mean()))
    ids = torch.randint(8, tiny.VOCAB, (8, 64))
    model.train()(ids)
    assert float(kept[0]) == pytest.approx(0.8, abs=0.02)
    assert model.transformer.h[0].attn.attn_dropout.p == 0


def test_dropout_read_from_the_config_is_honoured() -> None:
    from transformers import FalconConfig

    config = FalconConfig(vocab_size=tiny.VOCAB, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    model = dropout.set_dropout(AutoModelForCausalLM.from_config(config), 0.3).train()
    once, twice = (scoring.response_logprobs(model, BATCH) for _ in range(2))
    assert not torch.equal(once, twice)


def test_looking_for_dropout_leaves_everything_as_it_was() -> None:
    model = dropout.set_dropout(tiny.policy("gpt2"), 0.3).train()
    state = torch.get_rng_state()
    assert dropout.has_dropout(model)
    assert torch.equal(state, torch.get_rng_state())
    assert model.transformer.h[0].mlp.dropout.p == model.config.resid_pdrop == 0.3
    assert model.training
    with pytest.raises(UserError, match="less than 1"):
        dropout.set_dropout(model, 1.0)


def test_context_length() -> None:
    assert [load.context_length(tiny.policy(family, context=96)) for family in tiny.FAMILIES] == [96] * 6


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_dtype(dtype: Any, tmp_path: Path) -> None:
    assert load.load_policy(saved(tmp_path, tiny.policy()), dtype=dtype)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("ref", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_missing_directory(ref: str) -> None:
    with pytest.raises(UserError, match=f"{ref}: no such model directory"):
        load.load_policy(ref)


def test_a_name_the_hub_cannot_give() -> None:
    with pytest.raises(UserError, match=r"nobody/nothing: no such directory, and the hub does not give it"):
        load.load_policy("nobody/nothing")


def damage(path: str, kind: str) -> None:
    folder = Path(path)
    weights = folder / "model.safetensors"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif kind == "no json":
        (folder / "config.json").write_text("{")
    elif kind == "other width":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    elif kind == "other type":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))

    elif kind == "no object":
        (folder / "config.json").write_text("[]")
    elif kind == "empty":
        (folder / "config.json").write_text("")
    elif kind in ODD:
        name, changes = ODD[kind]
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(found | changes))


def broken_tokenizers() -> dict[str, str]:
    """Kinds of damage to tokenizer.json, by a name."""
    good = json.loads(tiny.tokenizer().backend_tokenizer.to_str())
    model = good["model"]
    found = {"deep": "[" * 100_000, "no model": json.dumps({k: v for k, v in good.items() if k != "model"})}
    for key in (
        "version",
        "truncation",
        "padding",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "decoder",
        "model",
    ):
        found |= {f"{key} {odd!r}": json.dumps(good | {key: odd}) for odd in ("x", 3)}
    for key in ("type", "dropout", "unk_token", "fuse_unk", "vocab", "merges"):
        found[f"model.{key}"] = json.dumps(good | {"model": model | {key: 3}})
    for number in (-1, 2**40):
        found[f"ids {number}"] = json.dumps(good | {"model": model | {"vocab": dict.fromkeys(model["vocab"], number)}})
    return found


@pytest.mark.medium
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.policy())
    for kind, content in broken_tokenizers().items():
        (Path(path) / "tokenizer.json").write_text(content)
        with pytest.raises(UserError, match=f"^{path}: not a complete model directory") as caught:
            load.load_policy(path)
        assert "\n" not in str(caught.value), kind


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "no heads": ("config.json", {"num_attention_heads": 0}),
    "a vocabulary beyond memory": ("config.json", {"vocab_size": 10**12}),
    "a negative vocabulary": ("config.json", {"vocab_size": -1}),
    "odd dtype": ("config.json", {"dtype": "foo"}),
    "odd eos": ("tokenizer_config.json", {"eos_token": {"content": "a"}}),
}
KINDS = ["truncated", "no weights", "no tokenizer", "no json", "other width", "other type", "no object", "empty", *ODD]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_directory_is_one_line(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.policy())
    damage(path, kind)
    with pytest.raises(UserError) as caught:
        load.load_policy(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["no json", "no object", "empty"])
def test_a_start_whose_config_is_broken_is_one_line(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.policy())
    damage(path, kind)
    with pytest.raises(UserError, match=f"^{path}: not a complete model directory") as caught:
        load.load_reward_start(path, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bias", [None, "1", math.nan])
def test_a_bias_that_is_no_number(bias: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.reward())
    config = Path(path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {heads.BIAS: bias}))
    with pytest.raises(UserError, match=f"^{path}: heedful_reward_bias in its config.json is .* Write a number"):
        load.load_reward(path)


def test_weights_that_are_not_all_there(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = saved(tmp_path, tiny.policy())
    weights = load_file(f"{path}/model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, f"{path}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the weights lack model\.norm\.weight"):
        load.load_policy(path)


def test_a_policy_is_no_reward_model_and_the_reverse(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LlamaForCausalLM has no scalar head\. Train a reward model"):
        load.load_reward(saved(tmp_path, tiny.policy()))
    with pytest.raises(UserError, match=r"a reward model .* cannot write text"):
        load.load_policy(saved(tmp_path, tiny.reward()))


def test_a_head_of_several_outputs_is_no_reward_model(tmp_path: Path) -> None:
    config = tiny.config("llama", num_labels=3)
    path = saved(tmp_path, AutoModelForSequenceClassification.from_config(config))
    with pytest.raises(UserError, match="its head has 3 outputs"):
        load.load_reward(path)


@pytest.mark.medium
def test_a_model_that_also_sees_is_a_policy_and_a_start_of_a_reward_model(tmp_path: Path) -> None:
    """Such as Gemma 3 from 4B on. Its config has a part for text, and no end of text of its own."""
    text = tiny.config("gemma").to_dict() | {"model_type": "gemma3_text"}
    sight = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
             "image_size": 28, "patch_size": 14}  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=sight, mm_tokens_per_image=4, image_token_index=9)
    assert not hasattr(config, "eos_token_id")
    model = AutoModelForCausalLM.from_config(config)
    tokenizer = tiny.tokenizer(template=True)
    model.save_pretrained(tmp_path / "seeing")
    tokenizer.save_pretrained(tmp_path / "seeing")
    policy, _ = load.load_policy(tmp_path / "seeing")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (policy.config.eos_token_id, policy.generation_config.eos_token_id) == (end, [end, 0])
    reward, _ = load.load_reward_start(tmp_path / "seeing", seed=0)
    load.save(reward, tokenizer, tmp_path / "rm")
    again, _ = load.load_reward(tmp_path / "rm")
    torch.testing.assert_close(scoring.rewards(again, BATCH), scoring.rewards(reward, BATCH))


@pytest.mark.parametrize("kind", ["pickles", "no tokenizer", "translates"])
def test_what_a_folder_lacks_is_named(kind: str, tmp_path: Path) -> None:
    folder = Path(saved(tmp_path, tiny.policy()))
    if kind == "pickles":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        reason = "its weights are pickles, which can hold code. Save the model as safetensors"
    elif kind == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
        reason = "has no tokenizer. Save one there"
    else:
        T5Config(vocab_size=9, architectures=["T5ForConditionalGeneration"]).save_pretrained(folder)
        reason = "T5ForConditionalGeneration is no causal language model"
    with pytest.raises(UserError) as caught:
        load.load_policy(folder)
    assert str(caught.value).startswith(f"{folder}: {reason}")


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.policy(vocab=300))
    with pytest.raises(UserError, match="the tokenizer has ids up to 319, the model embeds 300"):
        load.load_policy(path)


def test_a_failed_save_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, tiny.policy())
    before = (Path(path) / "model.safetensors").read_bytes()
    model, tokenizer = tiny.policy(seed=1), tiny.tokenizer()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    replace = os.replace
    last_step = lambda file, to: full() if file.suffix == ".tmp" else replace(file, to)  # noqa: E731
    for owner, name, broken in ((tokenizer, "save_pretrained", full), (os, "replace", last_step)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            with pytest.raises(UserError, match=r"cannot write the model .*No space left"):
                load.save(model, tokenizer, path)
        assert (Path(path) / "model.safetensors").read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_save_replaces_the_old_model_whole(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny.policy())
    (Path(path) / "leftover.txt").write_text("old")
    assert saved(tmp_path, tiny.policy(seed=1)) == path
    assert not (Path(path) / "leftover.txt").exists()
    shutil.rmtree(path)
