"""The other side of the table: transformers and TRL as their documentation tells people to use them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import work
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessor,
    TrainerCallback,
)


class ForceLengths(LogitsProcessor):
    """End-of-text where a table says so and nowhere else."""

    def __init__(self, table: list[int], start: int) -> None:
        self.table, self.start = torch.tensor(table, device=work.DEVICE), start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        last = self.table[: len(scores)] == input_ids.shape[1] - self.start + 1
        scores = scores.masked_fill(last[:, None], -torch.inf)
        scores[:, work.EOS] = torch.where(last, 0.0, -torch.inf)
        return scores


def left_padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[work.PAD] * (width - len(row)) + row for row in rows], device=work.DEVICE)
    return ids, (ids != work.PAD).long()


def generate(name: str, place: Path, fixed: bool, dtype: torch.dtype) -> Callable[[], dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(place / "policy", dtype=dtype).to(work.DEVICE).eval()
    count = work.EPISODES if fixed else 256
    asked = work.prompts(name, count)
    table = [work.NEW] * count if fixed else work.lengths(count, 128)
    settings = GenerationConfig(
        do_sample=True, top_k=0, max_new_tokens=max(table), pad_token_id=work.PAD,
        eos_token_id=None if fixed else work.EOS,
    )  # fmt: skip

    model.generation_config.eos_token_id = settings.eos_token_id  # else the model's own would be filled in

    @torch.no_grad()
    def once() -> dict[str, Any]:
        made = 0
        for start in range(0, count, work.EPISODES):
            ids, mask = left_padded(asked[start : start + work.EPISODES])
            force = [] if fixed else [ForceLengths(table[start : start + work.EPISODES], ids.shape[1])]
            out = model.generate(ids, attention_mask=mask, generation_config=settings, logits_processor=force)
            new = out[:, ids.shape[1] :]
            ended = (new == work.EOS).cumsum(1) - (new == work.EOS).long()  # 0 up to the end-of-text and with it
            made += new.numel() if fixed else int((ended == 0).sum())
        return {"tokens": made}

    return once


def continuous(name: str, place: Path) -> Callable[[], dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(place / "policy", dtype=torch.float32, attn_implementation="sdpa").to(
        work.DEVICE
    )
    model.eval()
    asked, table = work.prompts(name, 256), work.lengths(256, 128)
    settings = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=128, eos_token_id=-1, pad_token_id=work.PAD)
    # its own choice fills the machine's memory with cache, which on a processor is slower still
    cache = ContinuousBatchingConfig(page_size=64, num_blocks=256, max_batch_tokens=1024, max_requests_per_batch=64)
    manager = model.init_continuous_batching(generation_config=settings, continuous_batching_config=cache)
    manager.start()

    def once() -> dict[str, Any]:
        for ids, limit in zip(asked, table, strict=True):
            manager.add_request(ids, max_new_tokens=limit)
        made = done = 0
        while done < len(asked):
            result = manager.get_result(timeout=60)
            if result is None:
                raise RuntimeError("continuous batching gave no result within a minute")
            if result.is_finished():
                made, done = made + len(result.generated_tokens), done + 1
        return {"tokens": made}

    return once


def quiet(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(place / "out"), "report_to": [], "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True, "learning_rate": 1e-6, "use_cpu": work.DEVICE == "cpu",
        "gradient_checkpointing": False, "dataloader_num_workers": 0, "bf16": False, **more,
    }  # fmt: skip


class Paced(TrainerCallback):
    """A step of the trainer is a repetition: it begins when the driver says so."""

    def __init__(self, worker: work.Worker, facts: dict[str, Any], from_end: bool = False) -> None:
        self.worker, self.facts, self.from_end = worker, facts, from_end

    def _begin(self, control: Any) -> None:
        if not self.worker.wait():
            sys.exit(0)
        self.start = work.clock()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.worker.say(ready=True)
        if self.from_end:
            self._begin(control)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.from_end:
            self._begin(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = work.clock() - self.start
        if self.from_end:
            self.worker.say(seconds=self.seconds, peak_mib=work.peak_mib(), **self.facts)
            self._begin(control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not self.from_end and logs and "loss" in logs:
            loss = float(logs["loss"])
            self.worker.say(seconds=self.seconds, peak_mib=work.peak_mib(), loss=loss, **self.facts)


def ppo(worker: work.Worker, name: str, place: Path, epochs: int, bf16: bool) -> None:
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(place / "policy")
    policy, reference = (AutoModelForCausalLM.from_pretrained(place / "policy", dtype=torch.float32) for _ in range(2))
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(place / "reward", dtype=torch.float32) for _ in range(2)
    )
    asked, table = work.prompts(name), work.lengths(work.EPISODES, work.NEW)
    width = max(map(len, asked))
    policy.generate = functools.partial(policy.generate, logits_processor=[ForceLengths(table, width)])
    settings = PPOConfig(
        **quiet(place, bf16=bf16, per_device_train_batch_size=work.EPISODES, gradient_accumulation_steps=1),
        num_mini_batches=4, num_ppo_epochs=epochs, total_episodes=work.EPISODES * 10_000, response_length=work.NEW,
        stop_token="eos", local_rollout_forward_batch_size=work.EPISODES, num_sample_generations=0, temperature=1.0,
    )  # fmt: skip
    data = Dataset.from_dict({"input_ids": asked})
    facts = {"tokens": sum(table), "prompt_tokens": sum(map(len, asked))}
    trainer = PPOTrainer(
        args=settings, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward,
        value_model=value, train_dataset=data, eval_dataset=data,
        data_collator=lambda rows: {"input_ids": left_padded([row["input_ids"] for row in rows])[0]},
        callbacks=[Paced(worker, facts, from_end=True)],
    )  # fmt: skip
    trainer.train()


def sft(worker: work.Worker, name: str, place: Path, packed: bool, bf16: bool) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(place / "policy")
    model = AutoModelForCausalLM.from_pretrained(place / "policy", dtype=torch.float32)
    rows = work.documents(name)
    settings = SFTConfig(
        **quiet(place, bf16=bf16), per_device_train_batch_size=64 if packed else 16, num_train_epochs=10_000,
        max_length=512, packing=packed,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=settings, processing_class=tokenizer, train_dataset=Dataset.from_dict({"input_ids": rows}),
        callbacks=[Paced(worker, {"tokens": sum(len(row) - 1 for row in rows)})],
    )  # fmt: skip
    trainer.train()


def reward(worker: work.Worker, name: str, place: Path, k: int) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(place / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(place / "reward", dtype=torch.float32)
    rows = work.pairs(name, k)
    settings = RewardConfig(
        **quiet(place), per_device_train_batch_size=len(rows), num_train_epochs=10_000, max_length=1024
    )
    data = Dataset.from_dict({"chosen_ids": [row[0] for row in rows], "rejected_ids": [row[1] for row in rows]})
    trainer = RewardTrainer(
        model=model, args=settings, processing_class=tokenizer, train_dataset=data,
        callbacks=[Paced(worker, {"pairs": len(rows)})],
    )  # fmt: skip
    trainer.train()


def logprobs(name: str, place: Path) -> Callable[[], dict[str, Any]]:
    """As `ours.logprobs`, by the model's own forward and loss."""
    model = AutoModelForCausalLM.from_pretrained(place / "policy", dtype=torch.float32).to(work.DEVICE).eval()
    asked, answered = work.prompts(name), work.prompts(name, 2 * work.EPISODES)[work.EPISODES :]

    @torch.no_grad()
    def once() -> dict[str, Any]:
        total = 0.0
        for prompt, answer in zip(asked, answered, strict=True):
            ids = torch.tensor([prompt + answer], device=work.DEVICE)
            labels = torch.tensor([[-100] * len(prompt) + answer], device=work.DEVICE)
            total += float(model(input_ids=ids, labels=labels).loss) * len(answer)
        return {"loss": total / sum(map(len, answered))}

    return once


if __name__ == "__main__":
    row, shape, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    one = work.Worker()
    if row == "logprobs":
        one.serve(logprobs(shape, folder))
    elif row == "rollout_mixed_continuous":
        one.serve(continuous(shape, folder))
    elif row.startswith("rollout"):
        dtype = torch.bfloat16 if work.is_bfloat16(row) else torch.float32
        one.serve(generate(shape, folder, row.startswith("rollout_fixed"), dtype))
    elif row.startswith("ppo"):
        ppo(one, shape, folder, 4 if row.startswith("ppo_4") else 1, work.is_bfloat16(row))
    elif row.startswith("sft"):
        sft(one, shape, folder, "packed" in row, work.is_bfloat16(row))
    else:
        reward(one, shape, folder, 9 if "9" in row else 2)
    os._exit(0)  # continuous batching leaves a thread behind
