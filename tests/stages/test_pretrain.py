"""Pretraining: one dial, its own tokenizer, the loss by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from heedful import config
from heedful.config import UserError
from heedful.configs.pretrain import PretrainConfig
from heedful.files import read_json
from heedful.learning import examples, likelihood
from heedful.learning.examples import Example
from heedful.models import load, render
from heedful.runs.run import metrics
from heedful.stages import pretrain
from heedful.training import order
from stages import plain, worlds
from stages.worlds import Files

TEXTS = ["The cat sat.", "A river, a stone; 12 + 30 = 42."] * 9


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run / "manifest.json")["results"]
    return found


@pytest.fixture(scope="module")
def run(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.train("pretrain", files, tmp_path_factory.mktemp("base") / "run")


@pytest.mark.medium
def test_the_first_step_by_hand(files: Files, run: Path) -> None:
    config = worlds.config("pretrain", files)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    rows = plain.pieces(tokenizer, pretrain._texts(config)[0], 16)
    chosen = [rows[i] for i in order.ByLength(0, [len(row) for row in rows], 64)(0)]
    assert len(chosen) > 3
    model = pretrain.new_model(config, tokenizer)
    loss = plain.mean_response_loss(model, chosen)
    loss.backward()
    first = metrics(run)[0]
    assert first["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert first["gradient_norm"] == pytest.approx(plain.gradient_norm(model), rel=1e-4)
    assert first["tokens"] == sum(map(len, chosen))


def test_it_loads_with_plain_transformers_and_its_loss_is_as_reported(files: Files, run: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert (model.config.pad_token_id, model.config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    _, held_out = pretrain._texts(worlds.config("pretrain", files))
    with torch.no_grad():
        loss = plain.mean_response_loss(model, plain.pieces(tokenizer, held_out, 16)).item()
    assert results(run)["valid_loss"] == pytest.approx(loss, abs=1e-5)
    assert metrics(run)[-1]["valid_loss"] == pytest.approx(loss, abs=1e-5)
    assert results(run)["parameters"] == model.num_parameters()


def test_the_dial(files: Files) -> None:
    tokenizer = pretrain.new_tokenizer(TEXTS, 300, 64)
    shapes = {}
    for depth in (1, 2, 6):
        config = PretrainConfig(data="x", depth=depth, context=64)
        made = pretrain.new_model(config, tokenizer).config
        shapes[depth] = (made.num_hidden_layers, made.hidden_size, made.num_attention_heads, made.intermediate_size)
        assert made.max_position_embeddings == 64
        assert made.vocab_size == len(tokenizer)
        assert made.tie_word_embeddings
    assert shapes == {1: (1, 64, 2, 192), 2: (2, 64, 2, 192), 6: (6, 192, 6, 512)}


def test_the_seed_sets_the_weights(files: Files) -> None:
    tokenizer = pretrain.new_tokenizer(TEXTS, 300, 16)
    a, again, other = (
        pretrain.new_model(PretrainConfig(data="x", depth=1, seed=seed), tokenizer).model.embed_tokens.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(a, again)
    assert not torch.equal(a, other)


def test_the_tokenizer_writes_any_text(run: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert len(tokenizer) == results(run)["vocabulary"] == 300
    for text in ("The red house. 12 + 3 = 15\n\n\ttabs  and spaces", "Грüße 漢字 🙂 \x00", "<|endoftext|> <|pad|>"):
        ids = render.encode(tokenizer, text)
        assert render.response_text(tokenizer, ids) == text
        assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)
    assert tokenizer.model_max_length == 16


@pytest.mark.parametrize(
    ("changes", "epoch", "steps"),
    [
        ({"tokens": 320, "batch_tokens": 64}, [4, 8, 8], 6),
        ({"tokens": 321, "batch_tokens": 64}, [4, 8, 8], 7),
        ({"tokens": 1, "batch_tokens": 160}, [20], 1),
        ({"tokens": 480, "batch_tokens": 0}, [4, 16], 6),  # eight times the context of 16
        ({"tokens": 72, "batch_tokens": 1}, [1] * 20, 9),
    ],
)
def test_tokens_and_batches_make_steps(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], epoch: list[int], steps: int
) -> None:
    """Twenty documents of eight tokens."""
    sizes: list[int] = []
    monkeypatch.setattr(examples, "document_rows", lambda *_: [Example([5], [6] * 7)] * 20)
    monkeypatch.setattr(pretrain, "_gradients", lambda model, rows, *_: sizes.append(len(rows)) or 1.0)
    monkeypatch.setattr(pretrain.optim, "step", lambda *_: 1.0)
    run = worlds.train("pretrain", files, tmp_path / "run", checkpoint={"every": 100}, **changes)
    n = len(epoch)
    for start in range(0, steps - n + 1, n):
        assert sorted(sizes[start : start + n]) == epoch
    assert results(run)["steps"] == len(sizes) == steps
    assert results(run)["tokens"] == metrics(run)[-1]["tokens"] == 8 * sum(sizes)


@pytest.mark.medium
def test_twenty_tokens_a_parameter_unless_told(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "_gradients", lambda *_: 1.0)
    monkeypatch.setattr(pretrain.optim, "step", lambda *_: 1.0)
    monkeypatch.setattr(pretrain.StageRun, "log", lambda *_, **__: None)
    monkeypatch.setattr(likelihood, "mean_loss", lambda *_: 1.0)
    monkeypatch.setattr(examples, "document_rows", lambda *_: [Example([5], [6] * 15)] * 500)
    changes = {"tokens": 0, "batch_tokens": 16 * 500, "checkpoint": {"every": 10_000}}
    made = results(worlds.train("pretrain", files, tmp_path / "run", **changes))
    assert made["steps"] == math.ceil(20 * made["parameters"] / (16 * 500)) > 100


@pytest.mark.parametrize(
    ("lr", "depth", "expected"), [(0.0, 1, 3e-3 * math.sqrt(2)), (0.0, 6, 3e-3 * math.sqrt(128 / 192)), (0.01, 1, 0.01)]
)
def test_the_rate_falls_with_the_width(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lr: float, depth: int, expected: float
) -> None:
    monkeypatch.setattr(pretrain, "_gradients", lambda *_: 1.0)
    monkeypatch.setattr(pretrain.optim, "step", lambda *_: 1.0)
    run = worlds.train(
        "pretrain",
        files,
        tmp_path / "run",
        depth=depth,
        tokens=1,
        optimiser={"lr": lr, "schedule": "constant", "warmup": 0},
    )
    assert metrics(run)[0]["lr"] == pytest.approx(expected, rel=1e-6)


def test_a_width_of_its_own(files: Files) -> None:
    config = worlds.config("pretrain", files, width=96)
    model = pretrain.new_model(config, pretrain.new_tokenizer(TEXTS, 300, 16))
    assert (model.config.hidden_size, model.config.num_attention_heads) == (96, 3)
    assert model.config.num_hidden_layers == config.depth


@pytest.mark.medium
def test_a_model_trained_further_begins_where_it_was(files: Files, run: Path, tmp_path: Path) -> None:
    settings = worlds.config("pretrain", files).model_dump(exclude_unset=True)
    chosen = {key: value for key, value in settings.items() if key not in ("depth", "vocab_size")}
    further = pretrain.train(PretrainConfig(**chosen, model=str(run)), tmp_path / "run")
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    rows = plain.pieces(tokenizer, pretrain._texts(worlds.config("pretrain", files))[0], 16)
    first = [rows[i] for i in order.ByLength(0, [len(row) for row in rows], 64)(0)]
    assert metrics(further)[0]["loss"] == pytest.approx(plain.mean_response_loss(model, first).item(), abs=1e-5)
    assert not (further / "tokenizer").exists()
    text = "A river, a stone"
    assert AutoTokenizer.from_pretrained(further / "model")(text).input_ids == tokenizer(text).input_ids
    assert "weights_sha256" in read_json(further / "manifest.json")["parents"]["model"]
    with pytest.raises(UserError, match=r"width: sets the size of a new model, and model = "):
        pretrain.train(PretrainConfig(**chosen, model=str(run), width=64), tmp_path / "other")
    with pytest.raises(UserError, match="context: 17 is more than the 16 of the model"):
        pretrain.train(PretrainConfig(**{**chosen, "context": 17}, model=str(run)), tmp_path / "other")


def test_validation_texts_of_their_own(files: Files, tmp_path: Path) -> None:
    other = worlds.write(tmp_path / "valid.jsonl", [{"text": text} for text in TEXTS])
    config = worlds.config("pretrain", files, valid_data=other)
    training, validation = pretrain._texts(config)
    assert (len(training), validation) == (60, TEXTS)
    training, validation = pretrain._texts(worlds.config("pretrain", files))
    assert (len(training), len(validation)) == (59, 1)
    run = worlds.train("pretrain", files, tmp_path / "run", valid_data=other, tokens=64)
    assert set(read_json(run / "manifest.json")["data"]) == {"data", "valid_data"}


def test_one_text_is_trained_on(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = worlds.write(tmp_path / "one.jsonl", [{"text": "alone and long enough to learn from"}])
    run = worlds.train("pretrain", files, tmp_path / "run", data=one, tokens=64)
    assert "no text is held out, so there is no validation loss" in capsys.readouterr().err
    assert "valid_loss" not in read_json(run / "manifest.json")["results"]


def test_a_vocabulary_beyond_all_bounds() -> None:
    """The trainer of tokenizers would end the process over the memory it asks for."""
    with pytest.raises(UserError, match=r"'vocab_size': .* at most 1048576, not 99999999999"):
        config.load(PretrainConfig, None, ["vocab_size=99999999999"], data="x")


@pytest.mark.medium
def test_it_learns(files: Files, tmp_path: Path) -> None:
    run = worlds.train("pretrain", files, tmp_path / "run", tokens=30 * 64, optimiser={"lr": 5e-3})
    logged = metrics(run)
    assert logged[-1]["loss"] < logged[0]["loss"] - 1
    assert logged[-1]["valid_loss"] < logged[0]["loss"] - 1


@pytest.mark.medium
@pytest.mark.parametrize(
    "compute",
    [{"micro_tokens": 1}, {"micro_tokens": 48}, {"micro_tokens": 10_000}, {"activation_checkpointing": True}],
    ids=str,
)
def test_micro_batches_change_nothing(files: Files, tmp_path: Path, run: Path, compute: dict[str, Any]) -> None:
    other = worlds.train("pretrain", files, tmp_path / "run", compute=compute)
    one, two = (load_file(path / "model" / "model.safetensors") for path in (run, other))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6)


@pytest.mark.medium
def test_the_tokenizer_gets_the_chat_template(files: worlds.Files, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    (tmp_path / "own.jinja").write_text(template, encoding="utf-8")
    out = worlds.train("pretrain", files, tmp_path / "run", chat_template=str(tmp_path / "own.jinja"), tokens=64)
    assert load.load_policy(out)[1].chat_template == template
    for given, expected in (("", template), (f"{template}!", f"{template}!")):
        changes = {"model": str(out), "data": files.texts, "context": 16, "tokens": 64, "batch_tokens": 64}
        further = pretrain.train(PretrainConfig(**changes, chat_template=given), tmp_path / f"further{len(given)}")
        assert load.load_policy(further)[1].chat_template == expected
