"""Our side of the table: the stages' own functions on the work of `work.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import work

from heedful.configs.ppo import PPOConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import Compute, Generation, Optimiser, TrainingCompute
from heedful.learning.ahead import Rollouts
from heedful.learning.examples import Example, Question, Ranked
from heedful.learning.online import Online
from heedful.learning.passes import Passes
from heedful.models import batches, load, scoring
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Sample, Stream
from heedful.stages import ppo, reward, sft
from heedful.training import optimiser as optim
from heedful.training.parallel import Ranks, join_ranks

Work = Callable[[], dict[str, Any]]


class Forced(LocalEngine):
    """An engine whose responses end when a table says so."""

    def __init__(self, model: Any, tokenizer: Any, table: list[int], dtype: torch.dtype | None = None) -> None:
        super().__init__(model, tokenizer, dtype)
        self.table, self.stops = table, np.array([-1])

    def generate(self, prompts: Any, streams: Any, settings: Any) -> list[Sample]:
        of = {limit: settings.model_copy(update={"max_new_tokens": limit}) for limit in set(self.table)}
        return super().generate(prompts, streams, [of[self.table[stream.row]] for stream in streams])


def rollout(name: str, place: Path, count: int, table: list[int], dtype: str) -> Work:
    model, tokenizer = load.load_policy(place / "policy", dtype=dtype)
    engine, asked = Forced(model.to(work.DEVICE), tokenizer, table), work.prompts(name, count)
    settings = Generation(max_new_tokens=max(table))
    turn = iter(range(1_000_000))

    def once() -> dict[str, Any]:
        number = next(turn)
        samples = engine.generate(asked, [Stream(0, number, row) for row in range(count)], settings)
        return {"tokens": sum(len(sample.response_ids) for sample in samples)}

    return once


def ppo_iteration(
    name: str, place: Path, epochs: int, dtype: Any, ranks: Ranks, count: int = work.EPISODES, length: int = 0
) -> Work:
    """`count` episodes in minibatches of 16; `length`: of every response, 0 = the table's."""
    config = PPOConfig(
        policy=str(place / "policy"), reward=[str(place / "reward")], prompts="-", episodes=10**6,
        rollout_batch=count, minibatch=16, epochs=epochs, kl_coef=0.05, ema_decay=0.0,
        generation=Generation(max_new_tokens=work.NEW, max_rows=work.EPISODES), compute=TrainingCompute(dtype=dtype),
    )  # fmt: skip
    nets = ppo._networks(config, ranks)
    table = [length] * count if length else work.lengths(count, work.NEW)
    nets.engine = Forced(nets.policy, nets.tokenizer, table, ranks.dtype)
    run: Any = object.__new__(Online)  # what an iteration reads of it, without a run directory
    run.config, run.nets, run.mix, run.kl_coef = config, nets, None, config.kl_coef
    run.passes = Passes(nets.tokenizer.pad_token_id, config.compute.micro_tokens, ranks)
    run.questions = [Question("", ids, None) for ids in work.prompts(name, count)]  # type: ignore[arg-type]
    run.rollouts = Rollouts(config, nets, run.questions, ranks)
    turn = iter(range(1_000_000))

    def once() -> dict[str, Any]:
        _, experience = ppo.iteration(config, nets, run, next(turn))
        responses = sum(len(e.response_ids) for e in experience.episodes)
        return {"tokens": responses, "prompt_tokens": sum(len(e.prompt_ids) for e in experience.episodes)}

    return once


def sft_step(name: str, place: Path, compute: TrainingCompute, ranks: Ranks) -> Work:
    config = SFTConfig(model="-", data="-", compute=compute)
    model, tokenizer = load.load_policy(place / "policy")
    load.place(model, work.DEVICE, compute, trained=True)
    adam = optim.adam(model.train(), Optimiser(lr=1e-6))
    rows = [Example(ids[:1], ids[1:]) for ids in work.documents(name)]

    passes = Passes(tokenizer.pad_token_id, config.compute.micro_tokens, ranks)

    def once() -> dict[str, Any]:
        metrics = sft._gradients(config, model, rows, [], passes)
        optim.step(model, adam, config.optimiser, 1e-6)
        return {"loss": metrics["loss"], "tokens": sum(len(row.response_ids) for row in rows)}

    return once


def reward_step(name: str, place: Path, k: int, ranks: Ranks) -> Work:
    config = RewardConfig(model="-", data="-")
    model, tokenizer = load.load_reward(place / "reward")
    adam = optim.adam(model.to(work.DEVICE).train(), Optimiser(lr=1e-6))
    rows = [
        Ranked(prompt, completions, list(range(k)), [1] * k, None)  # type: ignore[arg-type]
        for prompt, completions in work.rankings(name, k)
    ]

    passes = Passes(tokenizer.pad_token_id, config.compute.micro_tokens, ranks)

    def once() -> dict[str, Any]:
        metrics = reward._gradients(config, model, rows, 1.0, passes)
        optim.step(model, adam, config.optimiser, 1e-6)
        return {"loss": metrics["loss"], "pairs": len(work.pairs(name, k))}

    return once


def logprobs(name: str, place: Path) -> Work:
    """Mean log-prob of fixed responses: the PPO rows' check that both sides compute the same."""
    model, _ = load.load_policy(place / "policy")
    asked, answered = work.prompts(name), work.prompts(name, 2 * work.EPISODES)[work.EPISODES :]
    batch = batches.collate(asked, answered, work.PAD).to(work.DEVICE)

    def once() -> dict[str, Any]:
        with torch.no_grad():
            total = scoring.response_logprobs(model.to(work.DEVICE), batch).sum()
        return {"loss": -float(total) / sum(map(len, answered))}

    return once


def open_row(row: str, name: str, place: Path) -> Work:
    dtype = "bfloat16" if work.is_bfloat16(row) else "float32"
    if row == "logprobs":
        return logprobs(name, place)
    if row.startswith("rollout_fixed"):
        return rollout(name, place, work.EPISODES, [work.NEW] * work.EPISODES, dtype)
    if row.startswith("rollout_mixed"):
        return rollout(name, place, 256, work.lengths(256, 128), dtype)
    ranks = join_ranks(Compute())
    ranks = Ranks(ranks.rank, ranks.size, ranks.device, getattr(torch, dtype))
    if row.startswith("ppo"):
        return ppo_iteration(name, place, 4 if row.startswith("ppo_4") else 1, dtype, ranks)
    if row.startswith("growth"):
        return ppo_iteration(name, place, 1, dtype, ranks, int(row.split("_")[1]), 25)
    if row.startswith("sft"):
        compute = TrainingCompute(dtype=dtype, compile="layer" if "compiled" in row else "none", liger="liger" in row)
        return sft_step(name, place, compute, ranks)
    return reward_step(name, place, 9 if "9" in row else 2, ranks)


if __name__ == "__main__":
    worker = work.Worker()
    worker.serve(open_row(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
