"""What the folder of a model says and heedful reads in another way is told, and settled the same way each time."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import tiny
from heedful.models import deferred, load, template_arguments
from heedful.rollout.local import LocalEngine

OTHER = "{{ messages[0].content }}!"


def folder(path: Path, *, kind: str = "policy", template: bool = True) -> Path:
    tokenizer = tiny.tokenizer(template=template)
    load.save(tiny.policy("llama") if kind == "policy" else tiny.reward("llama"), tokenizer, path)
    return path


def changed(path: Path, name: str, **values: Any) -> None:
    file = path / name
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values))


def with_own_head(path: Path) -> torch.Tensor:
    """A folder of which config.json says tied, and whose files hold a head of zeros and ones."""
    weights = load_file(path / "model.safetensors")
    head = torch.arange(weights["model.embed_tokens.weight"].numel()).remainder(2).float()
    weights["lm_head.weight"] = head.view_as(weights["model.embed_tokens.weight"])
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    changed(path, "config.json", tie_word_embeddings=True)
    return weights["lm_head.weight"]


def drop_a_layer(path: Path) -> None:
    changed(path, "config.json", num_hidden_layers=1)


def give_dropout(path: Path) -> None:
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    changed(path, "tokenizer.json", model=tokenizer["model"] | {"dropout": 0.5})


def give_second_template(path: Path) -> None:
    changed(path, "tokenizer_config.json", chat_template=OTHER)


def give_activation(path: Path) -> None:
    changed(path, "config.json", sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_a_layer, "weights without a place in config.json are not used: model.layers.1.input_layernorm.weight,"),
        (with_own_head, "hold a head of its own, though config.json has tie_word_embeddings = true. The head is used"),
        (give_dropout, "tokenizer.json has a BPE dropout of 0.5. It is not used"),
        (give_second_template, "chat_template.jinja and tokenizer_config.json hold different chat templates. That of"),
        (give_activation, "config.json puts Sigmoid on the score. It is not used"),
        (lambda path: None, None),
    ],
)
def test_contradictions_in_a_folder_are_told_once(
    change: Any, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder(tmp_path / "model", kind="reward" if change is give_activation else "policy")
    change(path)
    read = load.load_reward if change is give_activation else load.load_policy
    with caplog.at_level(logging.WARNING):
        read(path)
        read(path)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]


def test_a_head_of_its_own_is_used_and_saved_as_such(tmp_path: Path) -> None:
    head = with_own_head(folder(tmp_path / "model"))
    model, tokenizer = load.load_policy(tmp_path / "model")
    assert torch.equal(model.lm_head.weight, head)
    load.save(model, tokenizer, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(load_file(tmp_path / "again" / "model.safetensors")["lm_head.weight"], head)
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert deferred.build(type(model), str(tmp_path / "model"), config) is None  # it would be tied


def test_texts_keep_their_tokens_under_a_dropout(tmp_path: Path) -> None:
    path = folder(tmp_path / "model")
    expected = load.load_policy(path)[1].encode("The old miller of Arden")
    give_dropout(path)
    _, tokenizer = load.load_policy(path)
    assert all(tokenizer.encode("The old miller of Arden") == expected for _ in range(20))


def test_the_template_of_an_older_file_is_used_where_there_is_no_other(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", template=False)
    changed(path, "chat_template.json", chat_template=OTHER)
    assert load.load_policy(path)[1].chat_template == OTHER


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"repetition_penalty": 1.5, "top_k": 20}, "has repetition_penalty = 1.5, top_k = 20. This is not used"),
        ({"eos_token_id": 0}, None),
    ],
)
def test_what_a_model_wants_of_sampling_is_told(
    values: dict[str, Any], said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder(tmp_path / "model")
    changed(path, "generation_config.json", **values)
    model, tokenizer = load.load_policy(path)
    with caplog.at_level(logging.WARNING):
        LocalEngine(model, tokenizer)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]


@pytest.mark.parametrize(
    ("template", "arguments", "said"),
    [
        ("{{ strftime_now('%d %b %Y') }}" + tiny.TEMPLATE, {}, "Give a template without it"),
        (
            "{% if day is not defined %}{% set day = strftime_now('%d') %}{% endif %}{{ day }}" + tiny.TEMPLATE, {},
            "Give a fixed one as template.day",
        ),
        (
            "{% if day is not defined %}{% set day = strftime_now('%d') %}{% endif %}{{ day }}" + tiny.TEMPLATE,
            {"day": "1 May"}, None,
        ),
        ("{% set day = strftime_now('%d') %}" + tiny.TEMPLATE, {}, None),
        (tiny.TEMPLATE, {}, None),
    ],
)  # fmt: skip
def test_a_template_that_writes_todays_date_is_told(template: str, arguments: dict[str, Any], said: str | None) -> None:
    tokenizer = tiny.tokenizer(template=True)
    tokenizer.chat_template = template
    template_arguments.give(tokenizer, arguments)
    told = template_arguments.tell_date(tokenizer)
    assert told is None if said is None else str(told).endswith(said)
