"""heedful plan: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, T5Config

import tiny
from heedful.cli import main
from heedful.models import load


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main(["plan", *arguments])
    return end.value.code


def test_a_reward_model_may_start_from_an_encoder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    BertConfig(architectures=["BertModel"], num_hidden_layers=1).save_pretrained(tmp_path)
    assert not run("reward", "--model", str(tmp_path), "--json")
    assert json.loads(capsys.readouterr().out)["models"]["model"]["held"] > 0


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    given = "--gpus 1,8 --gpu a100-80 sft --model meta-llama/Llama-3.1-8B --compute.dtype bfloat16"
    assert not run(*given.split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sft on a100-80 (79.2 GiB): model llama-3.1-8b"
    assert [line.split() for line in lines if line.startswith(("GPUs", "optimiser"))] == [
        ["GPUs", "1", "8"],
        ["optimiser", "59.8", "59.8"],
    ]
    assert any(line.startswith("1 GPU: use --") for line in lines)
    assert any("a step" in line for line in lines)
    assert lines[-1].startswith("Assumed: 35% of the card's bfloat16 rate")


def test_rows_for_scripts_and_settings_of_the_stage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Options go to the stage, a config file and --set too. A reward that is not there is as large as the policy."""
    (tmp_path / "ppo.toml").write_text(
        'policy = "qwen3-0.6b"\nprompts = "p"\nreward = ["later"]\n[lora]\nrank = 4\n', encoding="utf-8"
    )
    given = [
        "ppo", "--config", str(tmp_path / "ppo.toml"), "--lora.rank", "8", "--set", "ema_decay=0", "--gpu", "24",
        "--json",
    ]  # fmt: skip
    assert not run(*given)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["gpu"] == {"name": "24 GiB", "memory": 24 << 30}
    assert set(told["models"]) == {"policy", "reward.0", "value"}
    linear = 28 * (1024 + 2048 + 2 * (1024 + 1024) + 2048 + 1024 + 2 * (1024 + 3072) + 3072 + 1024)
    assert told["models"]["policy"]["trained"] == 8 * linear
    assert told["assumed"][0] == "later has the shape of qwen3-0.6b"
    assert [one["gpus"] for one in told["plans"]] == [1, 2, 4, 8]
    for one in told["plans"]:
        assert one["times"] is None
        assert one["total"] >= max(one["parts"].values())


def test_the_model_of_a_preset_or_a_folder_is_planned(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert not run("reward", "--preset", "qwen3-0.6b")
    assert "model qwen3-0.6b" in capsys.readouterr().out
    load.save(tiny.policy("gpt2"), tiny.tokenizer(), tmp_path / "gpt2")
    assert not run("dpo", "--model", str(tmp_path / "gpt2"), "--json")
    count = sum(weight.numel() for weight in tiny.policy("gpt2").parameters())
    assert json.loads(capsys.readouterr().out)["models"]["model"]["held"] == count
    assert not run("pretrain", "--depth", "4")
    assert "a new model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fly", "heedful plan fly: no such training stage. Choose from pretrain, sft, reward, ppo"),
        ("sft --model qwen3-4b --gpu abacus", "--gpu abacus: not known. Give its memory in GiB, such as 24, or one of"),
        ("sft --model qwen3-4b --gpus 1,x", "--gpus 1,x: write numbers with commas between them, such as 1,2,4,8"),
        ("sft --model no/where", "no/where: no config.json of this model is here or in the hub's cache"),
        ("sft --model qwen3-4b --colour red", "No such option '--colour'"),
        ("sft", "--model is missing"),
        ("sft --model qwen3-4b --gpus ²", "--gpus ²: write numbers with commas between them, such as 1,2,4,8"),
        ("sft --model qwen3-4b --engine-gib nan", "Invalid value for '--engine-gib': nan is not a finite number"),
        ("sft --model bert", "bert: an encoder (BertModel) cannot write text. Give a causal language model."),
        ("dpo --model bert", "bert: an encoder (BertModel) cannot write text. Give a causal language model."),
        ("ppo --policy bert", "bert: an encoder (BertModel) cannot write text. Give a causal language model."),
        ("dpo --model qwen3-4b --reference bert", "bert: an encoder (BertModel) cannot write text."),
        ("ppo --policy qwen3-4b --reference bert", "bert: an encoder (BertModel) cannot write text."),
        ("pretrain --model bert", "bert: an encoder (BertModel) cannot write text."),
        ("sft --model t5", "t5: t5 is no causal language model. Give one, such as Llama or Qwen."),
        ("reward --model t5", "t5: t5 is no causal language model. Give one, such as Llama or Qwen."),
        ("sft --model=", "the options: 'model': is empty. Give a path or a name"),
        ("ppo --policy qwen3-4b --reward min(a", "min(a: the bracket is not closed. Write min(A,B), mean(A,B) or"),
        ("ppo --policy qwen3-4b --reward min(a,b))", "min(a,b)): 'b)' is no plain member. Name models and functions"),
        ("ppo --policy qwen3-4b --reward=", "the options: 'reward.0': is empty. Give a path or a name"),
        (
            "ppo --policy qwen3-4b --engine.kind vllm --engine.urls nonsense",
            "the options: 'engine.urls': 'nonsense' is no address of a server. Write it as http://HOST:PORT",
        ),
        ("ppo --policy qwen3-4b --engine.urls http://a:b", "the options: 'engine.urls': 'http://a:b' is no address"),
        ("sft --model broken", "broken: its config.json cannot be read ("),
        (
            "sft --model qwen3-4b --lora.rank 4 --lora.targets nosuch",
            "lora.targets: qwen3-4b has no linear layer of these names. It has down_proj, gate_proj, k_proj",
        ),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    BertConfig(architectures=["BertModel"]).save_pretrained(tmp_path / "bert")
    T5Config().save_pretrained(tmp_path / "t5")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "nosuch"}', encoding="utf-8")
    assert run(*given.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
