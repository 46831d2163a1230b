"""Every family goes through SFT, reward model and PPO, and what comes out loads with plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from heedful.models import load, render, scoring
from heedful.models.batches import collate
from heedful.runs.run import Run, metrics
from stages import worlds

ONE_STEP = {"epochs": 1, "batch": 64, "compute": {"micro_tokens": 1024}}


@pytest.mark.medium
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_one_step_of_sft_reward_and_ppo(files: worlds.Files, tmp_path: Path, family: str) -> None:
    start = worlds.save(tmp_path / "start", tiny.policy(family))
    sft = worlds.train("sft", files, tmp_path / "sft", model=start, **ONE_STEP)
    judge = worlds.train("reward", files, tmp_path / "judge", model=str(sft), **ONE_STEP)
    ppo = worlds.train(
        "ppo", files, tmp_path / "ppo", policy=str(sft), reward=[str(judge)], episodes=4, rollout_batch=4, ema_decay=0.5
    )
    assert [len(metrics(run)) for run in (sft, judge, ppo)] == [1, 1, 1]
    for before, after in ((start, sft / "model"), (sft / "model", ppo / "model")):
        assert moved(before, after) > 1e-5
        plain_text_model(after)
    first = metrics(ppo)[0]
    assert first["logprob_gap"] < 1e-5
    assert abs(first["kl"]) < 1e-4
    same_score_without_heedful(judge)


def moved(before: str | Path, after: str | Path) -> float:
    a, b = (load_file(Path(path) / "model.safetensors") for path in (before, after))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def plain_text_model(path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    ours, _ = load.load_policy(path)
    ids_1S = torch.tensor([render.prompt_ids(tokenizer, "Say red")])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids_1S).logits, ours(ids_1S).logits)


def same_score_without_heedful(run: Path) -> None:
    """Plain transformers' score plus the bias in the config is our score; a batch of two, so that padding matters."""
    ours, tokenizer = load.load_reward(run)
    plain = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    assert plain.num_labels == 1
    assert plain.config.heedful_reward_bias != 0
    prompt = render.prompt_ids(tokenizer, "Say red")
    responses = [render.response_ids(tokenizer, text, finished=True) for text in ("red", "the cat of the river")]
    batch = collate([prompt, prompt], responses, tokenizer.pad_token_id)
    with torch.no_grad():
        expected_B = scoring.rewards(ours, batch)
        alone = [plain(torch.tensor([prompt + response])).logits[0, 0] for response in responses]
        mask_BS = torch.arange(batch.input_ids_BS.shape[1]) < batch.lengths_B[:, None]
        together_B1 = plain(batch.input_ids_BS, attention_mask=mask_BS.long()).logits
    bias = plain.config.heedful_reward_bias
    torch.testing.assert_close(torch.stack(alone) + bias, expected_B, rtol=0, atol=1e-5)
    torch.testing.assert_close(together_B1[:, 0] + bias, expected_B, rtol=0, atol=1e-5)


@pytest.mark.medium
def test_chat_models_answer_in_their_template(files: worlds.Files, tmp_path: Path) -> None:
    """Messages, a chat template, a tokenizer whose pad is its EOS: the whole road with other ids."""
    tokenizer: Any = tiny.tokenizer(template=True, pad=tiny.EOS, vocab=tiny.VOCAB - 1)
    start = worlds.save(tmp_path / "start", tiny.policy("gpt2"), tokenizer)
    demos = [{"prompt": [{"role": "user", "content": f"Say {i}"}], "completion": f"{i} it is"} for i in range(12)]
    data = worlds.write(tmp_path / "chats.jsonl", demos)
    sft = worlds.train("sft", files, tmp_path / "sft", model=start, data=data, **ONE_STEP)
    judge = worlds.train("reward", files, tmp_path / "judge", model=str(sft), **ONE_STEP)
    ppo = worlds.train(
        "ppo", files, tmp_path / "ppo", policy=str(sft), reward=[str(judge)], prompts=data, episodes=4, rollout_batch=4
    )
    saved = AutoTokenizer.from_pretrained(ppo / "model")
    assert (saved.get_vocab(), saved.pad_token) == (tokenizer.get_vocab(), tiny.EOS)  # as it came in
    manifest = Run.open(ppo).manifest  # the model has one row more than the tokenizer
    beyond = f"{tiny.VOCAB - 1} of {tiny.VOCAB} rows are tokens. The others are never sampled"
    assert (manifest.ids, manifest.decoder) == ({"policy": beyond}, {"policy": "cached"})
    assert render.prompt_ids(saved, "Say 1")[0] == saved.convert_tokens_to_ids("<|im_start|>")
    same_score_without_heedful(judge)
