"""Encoders as reward models: classifiers of the hub with one output, and new heads on bare encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DebertaV2Config,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

import tiny
from heedful.config import UserError
from heedful.data.records import Message
from heedful.models import batches, encoders, heads, load, render, scoring

ROWS = [("What is seven plus five?", "Seven plus five is twelve."), ("A list?", "bread"), ("cats and a dog", "two")]
SIZE = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES: dict[str, Any] = {
    "bert": lambda: BertConfig(**SIZE, pad_token_id=0, initializer_range=0.3),
    "deberta": lambda: DebertaV2Config(**SIZE, pad_token_id=0, relative_attention=True, initializer_range=0.3),
    "roberta": lambda: RobertaConfig(
        **SIZE, pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=66, initializer_range=0.3
    ),
    "modernbert": lambda: ModernBertConfig(
        **SIZE, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
        global_attn_every_n_layers=2, initializer_range=0.3,
    ),
}  # fmt: skip


def tokenizer_for(family: str) -> PreTrainedTokenizerFast:
    return tiny.pair_tokenizer(twice=family == "roberta", types=family in ("bert", "deberta"))


def classifier(family: str, path: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    config = FAMILIES[family]()
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(path)
    tokenizer_for(family).save_pretrained(path)
    return path


def batch_of(tokenizer: Any, rows: list[tuple[Any, str]] = ROWS) -> batches.Batch:
    prompts = [render.prompt_ids(tokenizer, prompt) for prompt, _ in rows]
    responses = [render.response_ids(tokenizer, answer, finished=True) for _, answer in rows]
    return batches.collate(prompts, responses, tokenizer.pad_token_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_with_one_output_scores_pairs_as_plain_transformers_does(family: str, tmp_path: Path) -> None:
    path = classifier(family, tmp_path / "rm")
    plain, its_tokenizer = AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    model, tokenizer = load.load_reward(path)
    with torch.no_grad():
        expected = [float(plain(**its_tokenizer(*row, return_tensors="pt")).logits) for row in ROWS]
        found = scoring.rewards(model, batch_of(tokenizer))  # padded, in one batch
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert len({round(score, 4) for score in expected}) == len(ROWS)
    heads.set_reward_bias(model, 2.0)
    with torch.no_grad():
        torch.testing.assert_close(scoring.rewards(model, batch_of(tokenizer)), found + 2.0)


def test_marks_in_a_text_are_text(tmp_path: Path) -> None:
    _, tokenizer = load.load_reward(classifier("bert", tmp_path / "rm"))
    ids = render.prompt_ids(tokenizer, "a [SEP] dog")
    assert ids.count(2) == 1
    assert ids[0] == 1
    assert render.response_ids(tokenizer, "a [CLS] dog", finished=False).count(1) == 0


def test_a_longer_chat_names_its_roles(tmp_path: Path) -> None:
    _, tokenizer = load.load_reward(classifier("bert", tmp_path / "rm"))
    one = [Message(role="user", content="a dog")]
    assert render.prompt_ids(tokenizer, one) == render.prompt_ids(tokenizer, "a dog")
    two = [Message(role="system", content="a cat"), *one]
    assert render.prompt_ids(tokenizer, two) == render.prompt_ids(tokenizer, "System: a cat User: a dog Assistant:")


def test_a_tokenizer_without_marks_joins_the_texts(tmp_path: Path) -> None:
    path = classifier("bert", tmp_path / "rm")
    tiny.tokenizer().save_pretrained(path)
    model, tokenizer = load.load_reward(path)
    assert encoders.pair_of(tokenizer) == encoders.PairMarks([], [], [])
    assert encoders.token_types(model, batch_of(tokenizer, ROWS[:2])) == {}


def test_positions_that_no_token_has_do_not_count(tmp_path: Path) -> None:
    model, _ = load.load_reward(classifier("roberta", tmp_path / "rm"))
    limit = load.context_length(model)
    assert limit == 65  # of 66: RoBERTa counts from behind the padding id, which is 0 here
    ids = [5] * (limit - 1)
    with torch.no_grad():
        assert scoring.rewards(model, batches.collate([ids], [[2]], 0)).isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.tensor([[*ids, 5, 5]]))


def test_an_encoder_gives_no_value_for_each_token(tmp_path: Path) -> None:
    model, tokenizer = load.load_reward(classifier("bert", tmp_path / "rm"))
    with pytest.raises(UserError, match="has no value for each token"):
        scoring.values(model, batch_of(tokenizer))


def bare(path: Path, pooling: dict[str, Any] | None = None) -> Path:
    """A bare encoder, as sentence-transformers keeps it."""
    torch.manual_seed(0)
    BertModel(FAMILIES["bert"]()).save_pretrained(path)
    tiny.pair_tokenizer().save_pretrained(path)
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | pooling))
    return path


MEAN, FIRST = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, {"pooling_mode_cls_token": True}


@pytest.mark.medium
@pytest.mark.parametrize(("pooling", "kind"), [(None, "mean"), (MEAN, "mean"), (FIRST, "first")])
def test_a_bare_encoder_gets_a_head_on_its_pooled_states(
    pooling: dict[str, Any] | None, kind: str, tmp_path: Path
) -> None:
    """Scores by hand, from the saved files with plain transformers, as docs/models.md shows it."""
    reward, tokenizer = load.load_reward_start(bare(tmp_path / "start", pooling), seed=0)
    heads.set_reward_bias(reward, 0.5)
    load.save(reward, tokenizer, tmp_path / "rm")
    body, its_tokenizer = AutoModel.from_pretrained(tmp_path / "rm"), AutoTokenizer.from_pretrained(tmp_path / "rm")
    weight = load_file(tmp_path / "rm" / "model.safetensors")["classifier.weight"]
    assert body.config.heedful_pooling == kind
    expected = []
    with torch.no_grad():
        for row in ROWS:
            states = body(**its_tokenizer(*row, return_tensors="pt")).last_hidden_state[0]
            pooled = states.mean(0) if kind == "mean" else states[0]
            expected.append(float(pooled @ weight[0]) + 0.5)
        again, its_tokenizer = load.load_reward(tmp_path / "rm")
        for model in (reward, again):
            torch.testing.assert_close(scoring.rewards(model, batch_of(its_tokenizer)), torch.tensor(expected))
    start, _ = load.load_reward_start(tmp_path / "rm", seed=1)  # training goes on from there
    assert torch.equal(start.classifier.weight, reward.classifier.weight)


@pytest.mark.medium
def test_a_new_head_follows_the_seed(tmp_path: Path) -> None:
    path = bare(tmp_path / "start")
    first, same, other = (load.load_reward_start(path, seed=seed)[0].classifier.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = bare(tmp_path / "start", {"pooling_mode_max_tokens": True})
    with pytest.raises(UserError, match=r"pooling pooling_mode_max_tokens is not supported\. Use mean or cls"):
        load.load_reward_start(path, seed=0)


def test_an_encoder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an encoder \(BertModel\) cannot write text"):
        load.load_policy(bare(tmp_path / "start"))
