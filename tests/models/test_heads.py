"""Reward models and value nets of families for which transformers has no sequence classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    Cohere2Config,
    GraniteConfig,
    GranitePreTrainedModel,
    Llama4TextConfig,
    ModernBertDecoderConfig,
    OlmoeConfig,
)
from transformers.modeling_layers import GenericForSequenceClassification

import tiny
from heedful.config import UserError
from heedful.models import batches, dropout, heads, load, scoring

BATCH = batches.collate(tiny.prompts(3), tiny.prompts(3, seed=1), pad_id=1)
SIZE = {"vocab_size": tiny.VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None}
GATED = SIZE | IDS | {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 128}
CONFIGS: dict[str, Any] = {
    "granite": lambda: GraniteConfig(**GATED),
    "cohere2": lambda: Cohere2Config(**GATED),
    "olmoe": lambda: OlmoeConfig(**GATED, num_experts=4, num_experts_per_tok=2),
    # its body is not where its base class says
    "llama4": lambda: Llama4TextConfig(
        **GATED, head_dim=8, intermediate_size_mlp=64, num_local_experts=2, attention_chunk_size=64
    ),
    # transformers has a classifier, but not on the causal body
    "bart": lambda: BartConfig(
        vocab_size=tiny.VOCAB, d_model=32, encoder_layers=1, decoder_layers=2, decoder_attention_heads=4,
        encoder_attention_heads=4, decoder_ffn_dim=64, encoder_ffn_dim=64, max_position_embeddings=128, **IDS,
    ),
    "bert": lambda: BertConfig(**SIZE, **IDS, intermediate_size=64, is_decoder=True),
    # and here not with a linear score
    "modernbert-decoder": lambda: ModernBertDecoderConfig(
        **SIZE, intermediate_size=64, eos_token_id=0, pad_token_id=1, bos_token_id=2, cls_token_id=2, sep_token_id=3
    ),
}  # fmt: skip
NAMES = {
    "granite": "GraniteForSequenceClassification",
    "cohere2": "Cohere2ForSequenceClassification",
    "olmoe": "OlmoeForSequenceClassification",
    "llama4": "Llama4ForSequenceClassification",
    "bart": "BartCausalForSequenceClassification",
    "bert": "BertLMHeadModelForSequenceClassification",
    "modernbert-decoder": "ModernBertDecoderCausalForSequenceClassification",
}


def policy_of(family: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family]())
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3) if weight.dim() > 1 else weight
    return dropout.set_dropout(model, 0.0).eval()


def read_by_head(policy: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """The states that a policy's own head reads."""
    seen: list[torch.Tensor] = []
    hook = policy.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    policy(input_ids=input_ids, use_cache=False)
    hook.remove()
    return seen[0]


@pytest.mark.medium
@pytest.mark.parametrize("family", CONFIGS)
def test_any_causal_family_gets_a_scalar_head_that_loads_again(family: str, tmp_path: Path) -> None:
    policy = policy_of(family)
    reward = heads.reward_from_policy(policy, seed=0)
    heads.set_reward_bias(reward, -1.5)
    assert type(reward).__name__ == NAMES[family]
    with torch.no_grad():
        by_hand = []
        for row, length in zip(BATCH.input_ids_BS, BATCH.lengths_B.tolist(), strict=True):
            if family in ("bert", "modernbert-decoder"):  # a layer between body and head belongs to the head
                state = policy.base_model(input_ids=row[None, :length], use_cache=False).last_hidden_state[0, -1]
            else:
                state = read_by_head(policy, row[None, :length])[0, -1]
            by_hand.append(float(state @ reward.score.weight[0]) - 1.5)
        torch.testing.assert_close(scoring.rewards(reward, BATCH), torch.tensor(by_hand), rtol=1e-4, atol=1e-4)
        load.save(reward, tiny.tokenizer(), tmp_path / "rm")
        again, _ = load.load_reward(tmp_path / "rm")
        assert type(again).__name__ == NAMES[family]
        torch.testing.assert_close(scoring.rewards(again, BATCH), scoring.rewards(reward, BATCH))
        assert scoring.values(heads.value_from_policy(policy), BATCH).abs().sum() == 0
        value = heads.value_from_reward(again, 2.0)
        torch.testing.assert_close(scoring.rewards(value, BATCH), 2 * torch.tensor(by_hand), rtol=1e-4, atol=2e-4)


def test_plain_transformers_reads_a_head_that_it_has_no_class_for(tmp_path: Path) -> None:
    """As docs/models.md shows it, in both ways."""
    reward = heads.reward_from_policy(policy_of("granite"), seed=0)
    load.save(reward, tiny.tokenizer(), tmp_path / "rm")

    class GraniteForSequenceClassification(GenericForSequenceClassification, GranitePreTrainedModel):
        pass

    plain = GraniteForSequenceClassification.from_pretrained(tmp_path / "rm")
    body = AutoModel.from_pretrained(tmp_path / "rm")
    weight = load_file(tmp_path / "rm" / "model.safetensors")["score.weight"]
    ids = BATCH.input_ids_BS
    with torch.no_grad():
        expected = scoring.rewards(reward, BATCH)
        torch.testing.assert_close(plain(ids, attention_mask=ids != 1).logits[:, 0], expected, rtol=1e-4, atol=1e-4)
        last = body(ids).last_hidden_state[torch.arange(3), BATCH.lengths_B - 1]
        torch.testing.assert_close((last @ weight.T)[:, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.medium
def test_a_reward_model_of_a_policy_with_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "modeling_own.py").write_text(
        "from transformers import GraniteConfig, GraniteForCausalLM\n\n\n"
        "class OwnConfig(GraniteConfig):\n    model_type = 'own'\n\n\n"
        "class OwnForCausalLM(GraniteForCausalLM):\n    config_class = OwnConfig\n"
    )
    policy = policy_of("granite")
    policy.save_pretrained(tmp_path / "start")
    tiny.tokenizer().save_pretrained(tmp_path / "start")
    file = tmp_path / "start" / "config.json"
    own = {"model_type": "own", "architectures": ["OwnForCausalLM"]}
    auto = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    file.write_text(json.dumps(json.loads(file.read_text()) | own | {"auto_map": auto}))
    reward, tokenizer = load.load_reward_start(tmp_path / "start", seed=0, trust_remote_code=True)
    load.save(reward, tokenizer, tmp_path / "rm")
    again, _ = load.load_reward(tmp_path / "rm", trust_remote_code=True)
    assert type(again).__name__ == "OwnForSequenceClassification"
    with torch.no_grad():
        assert torch.equal(scoring.rewards(again, BATCH), scoring.rewards(reward, BATCH))
    with pytest.raises(UserError, match="its own code"):
        load.load_reward(tmp_path / "rm")


def test_the_bias_of_a_head_counts() -> None:
    reward = tiny.reward(bias=0.25)
    with torch.no_grad():
        before = scoring.rewards(reward, BATCH)
        weight = reward.score.weight
        reward.score = nn.Linear(weight.shape[1], 1)
        reward.score.weight.copy_(weight)
        reward.score.bias.fill_(3.0)
        torch.testing.assert_close(scoring.rewards(reward, BATCH), before + 3.0)
        value = heads.value_from_reward(reward, -2.0)
        torch.testing.assert_close(scoring.rewards(value, BATCH), -2 * (before + 3.0))


@pytest.mark.medium
def test_where_pad_and_end_are_one_token_a_score_is_read_before_the_end(tmp_path: Path) -> None:
    """As in many models of the hub: transformers skips the pad, so they were trained to be read one token earlier."""
    reward = tiny.reward(bias=0.0)
    load.save(reward, tiny.tokenizer(), tmp_path / "rm")
    file = tmp_path / "rm" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": 0}))
    responses = [[*ids, 0] for ids in tiny.prompts(3, seed=1)]  # 0 is EOS
    batch = batches.collate(tiny.prompts(3), responses, pad_id=1)
    right = batches.collate(tiny.prompts(3), responses, pad_id=0)  # padded with EOS, as it was trained
    with torch.no_grad():
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
        ids = right.input_ids_BS
        expected = plain(ids, attention_mask=(ids != 0).long()).logits[:, 0]
        model, _ = load.load_reward(tmp_path / "rm")
        torch.testing.assert_close(scoring.rewards(model, batch), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(scoring.rewards(reward, batch), expected, atol=1e-3)
        start, _ = load.load_reward_start(tmp_path / "rm", seed=0)  # what is trained here is read at the end
        torch.testing.assert_close(scoring.rewards(start, batch), scoring.rewards(reward, batch), rtol=1e-5, atol=1e-5)


def test_an_architecture_that_transformers_does_not_know(tmp_path: Path) -> None:
    load.save(heads.reward_from_policy(policy_of("granite"), seed=0), tiny.tokenizer(), tmp_path / "rm")
    file = tmp_path / "rm" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["OtherForSequenceClassification"]}))
    with pytest.raises(UserError, match="OtherForSequenceClassification is an architecture that the installed"):
        load.load_reward(tmp_path / "rm")
