"""SFT: what is trained on, with what weight, which checkpoint is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import dialects
import tiny
from heedful.config import UserError
from heedful.configs.shared import Compute
from heedful.data.records import Prompt
from heedful.files import read_json
from heedful.learning import examples, rollouts
from heedful.learning.examples import Example, Question, TokenLimits
from heedful.models import load, render
from heedful.rollout.engine import open_engine
from heedful.rollout.types import Sample
from heedful.runs.run import metrics
from heedful.stages import sft
from heedful.training import order
from stages import plain, worlds
from stages.worlds import Files

PLAIN = {"pretrain_data": None}
STILL = {"optimiser": {"lr": 0.0}, "epochs": 1, "batch": 100}
TOKENIZER = tiny.tokenizer()


def demonstrations(path: str, most: int = 128) -> list[Example]:
    return [example for _, example in examples.demonstrations(path, TOKENIZER, TokenLimits(128, 128, most))]


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run / "manifest.json")["results"]
    return found


@pytest.mark.medium
@pytest.mark.parametrize("most", [128, 3])
def test_the_loss_is_the_mean_over_response_tokens_and_eos(files: Files, tmp_path: Path, most: int) -> None:
    """With at most 3 response tokens the rest is cut and no EOS takes its place."""
    run = worlds.train(
        "sft", files, tmp_path / "run", valid_data=files.demos, max_response_tokens=most, **PLAIN, **STILL
    )
    rows = demonstrations(files.demos, most)
    ends = [row.response_ids[-1] == TOKENIZER.eos_token_id for row in rows]
    assert all(ends) if most == 128 else not all(ends)
    model = AutoModelForCausalLM.from_pretrained(files.policy).eval()
    loss = plain.mean_response_loss(model, rows)
    loss.backward()
    (logged,) = metrics(run)
    assert [logged["loss"], logged["valid_loss"]] == pytest.approx([loss.item()] * 2, abs=1e-5)
    assert logged["gradient_norm"] == pytest.approx(plain.gradient_norm(model), rel=1e-4)


@pytest.mark.medium
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_texts_have_their_weight_and_their_share(files: Files, tmp_path: Path, fraction: float) -> None:
    run = worlds.train(
        "sft", files, tmp_path / "run", valid_data=files.demos, pretrain_fraction=fraction, epochs=1, batch=12,
        optimiser={"lr": 0.0}, compute={"micro_tokens": 200},
    )  # fmt: skip
    documents = plain.pieces(TOKENIZER, worlds.texts(files), 128)
    count = {0.1: 1, 0.5: 12}[fraction]  # rows beside the 12 demonstrations
    demos = demonstrations(files.demos)
    for step, logged in enumerate(metrics(run)):
        model = AutoModelForCausalLM.from_pretrained(files.policy).eval()
        asked = [demos[i] for i in order.epochs(0, step, 12, 24)]
        texts = [documents[i] for i in order.endless(0, step, count, len(documents), stream=1)]
        losses = [plain.mean_response_loss(model, rows) for rows in (asked, texts)]
        ((1 - fraction) * losses[0] + fraction * losses[1]).backward()
        assert logged["loss"] == pytest.approx(losses[0].item(), abs=1e-5)
        assert logged["pretrain_loss"] == pytest.approx(losses[1].item(), abs=1e-5)
        assert logged["gradient_norm"] == pytest.approx(plain.gradient_norm(model), rel=1e-4)
    assert len(metrics(run)) == 2


@pytest.mark.medium
def test_the_best_checkpoint_by_validation_loss_is_the_model(files: Files, tmp_path: Path) -> None:
    """A rate so high that it soon gets worse."""
    run = worlds.train(
        "sft", files, tmp_path / "run", epochs=3, evaluations=9, optimiser={"lr": 0.03, "schedule": "constant"}, **PLAIN
    )
    losses = [row["valid_loss"] for row in metrics(run)]
    best = losses.index(min(losses))
    assert best < len(losses) - 1
    assert results(run)["best_step"] == best + 1
    assert results(run)["valid_loss"] == pytest.approx(min(losses), abs=1e-5)
    checkpoint = load_file(run / "checkpoints" / f"step-{best + 1:08d}" / "model.safetensors")
    saved = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(saved[name], checkpoint[name]) for name in saved)


@pytest.mark.medium
def test_a_reward_can_pick_the_checkpoint(files: Files, tmp_path: Path) -> None:
    changes = {
        "epochs": 3, "evaluations": 9, "optimiser": {"lr": 0.03, "schedule": "constant"}, "prompts": files.prompts,
        "select_samples": 5, "generation": {"max_new_tokens": 6}, "checkpoint": {"keep": 1, "every": 1}, **PLAIN,
        "seed": 1,
    }  # fmt: skip
    run = worlds.train("sft", files, tmp_path / "run", select_with=files.judge, **changes)
    logged = metrics(run)
    assert read_json(run / "manifest.json")["parents"].keys() == {"model", "reward.0"}
    rewards = [row["valid_reward"] for row in logged]
    best, by_loss = rewards.index(max(rewards)), min(logged, key=lambda row: row["valid_loss"])["step"]
    assert best != by_loss
    assert results(run)["best_step"] == best + 1
    assert results(run)["valid_reward"] == pytest.approx(max(rewards), abs=1e-5)
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == sorted({f"step-{best + 1:08d}", f"step-{len(logged):08d}"})
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in samples] == [row["step"] for row in logged for _ in range(4)]
    assert all(row["prompt"].startswith("Say ") for row in samples)


@pytest.mark.medium
def test_select_samples_is_how_many_prompts_are_answered_and_generation_says_how(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    generate = sft.rollouts.generate
    monkeypatch.setattr(sft.rollouts, "generate", lambda *a: answers.append(generate(*a)) or answers[-1])
    changes = {"select_with": "stages.worlds:count_e", "prompts": files.prompts, **PLAIN, **STILL}
    worlds.train("sft", files, tmp_path / "run", select_samples=3, generation={"max_new_tokens": 2}, **changes)
    ((*samples,),) = answers
    assert len(samples) == 3
    assert max(len(sample.response_ids) for sample in samples) == 2


@pytest.mark.parametrize("half", [{"select_with": "stages.worlds:count_e"}, {"prompts": "x"}])
def test_selection_needs_both_halves(files: Files, tmp_path: Path, half: dict[str, str]) -> None:
    with pytest.raises(UserError, match="--select-with needs --prompts"):
        worlds.train("sft", files, tmp_path / "run", **half)


@pytest.mark.medium
def test_dropout_is_refused_where_there_is_none(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dropout 0\.1: LlamaForCausalLM has no residual dropout\. Set dropout=0"):
        worlds.train("sft", files, tmp_path / "run", dropout=0.1)
    run = worlds.train("sft", files, tmp_path / "run", dropout=None, **PLAIN, **STILL)  # the default: none to be had
    assert metrics(run)[0]["loss"] == pytest.approx(loss_without(files.policy, files), abs=1e-5)


def loss_without(model: str, files: Files) -> float:
    """Training loss without dropout on the rows that are not held out."""
    rows = examples.demonstrations(files.demos, TOKENIZER, TokenLimits(128, 128, 128))
    kept = [rows[i][1] for i in examples.divided([record for record, _ in rows], 0.1, 0, print)[0]]
    with torch.no_grad():
        return float(plain.mean_response_loss(AutoModelForCausalLM.from_pretrained(model).eval(), kept))


@pytest.mark.medium
def test_dropout_works_in_training_and_not_in_validation(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpt2 = str(files.root / "policy-gpt2")
    logged = {}
    for name, dropout in (("default", None), ("again", 0.2), ("more", 0.5), ("none", 0.0)):
        run = worlds.train("sft", files, tmp_path / name, model=gpt2, dropout=dropout, **PLAIN, **STILL)
        (logged[name],) = metrics(run)
    assert logged["none"]["loss"] == pytest.approx(loss_without(gpt2, files), abs=1e-5)
    losses = [logged[name]["loss"] for name in ("none", "default", "more")]
    assert min(abs(a - b) for a, b in ((losses[0], losses[1]), (losses[1], losses[2]))) > 0.01
    assert logged["default"] == logged["again"]  # the paper's 0.2, and what it draws follows from the seed
    assert len({row["valid_loss"] for row in logged.values()}) == 1
    assert "residual dropout 0.2 (the paper's)" in capsys.readouterr().err


@pytest.mark.slow
def test_micro_batches_and_recomputed_activations_change_nothing(files: Files, tmp_path: Path) -> None:
    weights = [
        load_file(worlds.train("sft", files, tmp_path / name, epochs=1, compute=compute) / "model/model.safetensors")
        for name, compute in (
            ("one", {"micro_tokens": 10_000}),
            ("many", {"micro_tokens": 1}),
            ("again", {"micro_tokens": 10_000, "activation_checkpointing": True}),
        )
    ]
    for other in weights[1:]:
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-5)  # 2.3e-6 was seen; as in PPO's test


@pytest.mark.medium
def test_recomputing_activations_draws_the_same_dropout(files: Files, tmp_path: Path) -> None:
    gpt2 = str(files.root / "policy-gpt2")
    losses = [
        metrics(
            worlds.train("sft", files, tmp_path / str(on), model=gpt2, dropout=0.3, epochs=1, batch=12, **PLAIN,
                         compute={"activation_checkpointing": on})
        )
        for on in (False, True)
    ]  # fmt: skip
    for one, other in zip(*losses, strict=True):
        assert other == pytest.approx(one, rel=1e-5)


@pytest.mark.medium
def test_every_demonstration_is_seen_once_an_epoch(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Example]] = []
    gradients = sft._gradients

    def note(config: Any, model: Any, examples: list[Example], *rest: Any) -> Any:
        seen.append(examples)
        return gradients(config, model, examples, *rest)

    monkeypatch.setattr(sft, "_gradients", note)
    worlds.train("sft", files, tmp_path / "run", epochs=2, batch=7, valid_data=files.demos, **PLAIN)
    assert [len(rows) for rows in seen] == [7, 7, 7, 3] * 2
    everything = sorted(demonstrations(files.demos), key=repr)
    for epoch in (seen[:4], seen[4:]):
        assert sorted((row for rows in epoch for row in rows), key=repr) == everything


@pytest.mark.medium
def test_nothing_to_train_or_to_validate_on(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leave none to train on\. Give more of them, or another valid_fraction"):
        worlds.train("sft", files, tmp_path / "run", valid_fraction=1.0)
    with pytest.raises(UserError, match=r"one\.jsonl:1: .*Required: prompt, completion"):
        worlds.train("sft", files, tmp_path / "run", data=worlds.write(tmp_path / "one.jsonl", [{"prompt": "Say red"}]))
    empty = worlds.write(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match=r"empty\.jsonl: no rows"):
        worlds.train("sft", files, tmp_path / "run", data=empty)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_model_learns_the_answers(files: Files, tmp_path: Path) -> None:
    run = worlds.train("sft", files, tmp_path / "run", epochs=4, optimiser={"lr": 5e-3}, **PLAIN)
    logged = metrics(run)
    assert logged[-1]["loss"] < 0.7 * logged[0]["loss"]
    assert logged[-1]["valid_loss"] < logged[0]["loss"]
    model, _ = load.load_policy(run)
    with torch.no_grad():
        after = float(plain.mean_response_loss(model, demonstrations(files.demos)))
        before = float(plain.mean_response_loss(load.load_policy(files.policy)[0], demonstrations(files.demos)))
    assert after < before - 1


@pytest.mark.medium
def test_a_saved_model_stops_at_the_end_of_a_turn(files: Files, tmp_path: Path) -> None:
    """A base model with a template: its EOS ends documents, and the template ends turns with another token."""
    tokenizer = dialects.tokenizer("chatml")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    base = worlds.save(tmp_path / "base", tiny.policy(vocab=len(tokenizer)), tokenizer)
    out = worlds.train("sft", files, tmp_path / "run", model=base, epochs=1, pretrain_data=None)
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert model.generation_config.eos_token_id == [end, 0]
    assert model.config.eos_token_id == end
    model, loaded = load.load_policy(out)
    assert open_engine(model, loaded, Compute()).stops.tolist() == [0, end]
    reward = worlds.train("reward", files, tmp_path / "rm", model=str(out), epochs=1)
    assert render.end_id(load.load_reward(reward)[1]) == end


@pytest.mark.medium
def test_special_tokens_are_learned_and_seen_by_rewards(files: Files, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}", "completion": f"it is <answer>{i}</answer>"} for i in range(8)]
    data = worlds.write(tmp_path / "d.jsonl", rows)
    tokens = ["<answer>", "</answer>"]
    run = worlds.train("sft", files, tmp_path / "sft", data=data, epochs=1, batch=4, special_tokens=tokens)
    model, tokenizer = load.load_policy(run)
    answer = tokenizer.convert_tokens_to_ids("<answer>")
    assert answer == tiny.VOCAB
    start, _ = load.load_policy(files.policy)
    begun = start.get_input_embeddings().weight[render.encode(tiny.tokenizer(), "<answer>")].mean(0)
    assert (model.get_input_embeddings().weight[answer] - begun).abs().max() > 1e-4
    question = Question("Say 1", [9], Prompt(prompt="Say 1"))
    sample = Sample([9], [*render.encode(tokenizer, "<answer>1"), 0], "stop")
    (episode,) = rollouts.episodes(tokenizer, [question], [sample])
    assert episode.completion == "<answer>1"
