"""FLOPs by 6 N for each trained token and 2 N for each token that a model samples or reads (E7), with N parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Prompt
from heedful.demo import base
from heedful.demo.records import Demo
from heedful.models import load, render
from heedful.runs.run import metrics

OF_TOKEN = {
    "ppo": (2 + 4 * 2, 2 * 6),  # sampled, read by policy, reference, reward and value. Policy and value train on it
    "rloo": (2 + 3 * 2, 6),  # there is no value model
    "grpo": (2 + 3 * 2, 6),
}
"""FLOPs for each parameter and token of an episode, before the training and in each epoch."""
SAMPLED, TRAINED = 2 + 2, 6
"""Of an answer that is sampled and scored, and of a token that a model trains on."""
PREFERENCES = 2 + 6
"""DPO: the reference reads each token once, and the policy trains on it."""


class Counted:
    """Counts tokens and FLOPs of the stages of a demo."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        model, self.tokenizer = load.load_policy(demo.run_at("sft"))
        self.parameters = model.num_parameters()

    @cached_property
    def demonstrations(self) -> list[Demonstration]:
        return formats.read(self.demo.files.demonstrations, Demonstration)

    @cached_property
    def rankings(self) -> list[Comparison]:
        return formats.read(self.demo.files.rankings, Comparison)

    def _length(self, row: Prompt, text: str) -> int:
        return sum(map(len, render.answered(self.tokenizer, row.prompt, text)))

    def shown(self, rows: Sequence[Demonstration]) -> int:
        """Tokens of demonstrations."""
        return sum(self._length(row, row.completion) for row in rows)

    def ranked(self) -> int:
        """Tokens of all answers in the rankings, each with its prompt."""
        return sum(self._length(row, text) for row in self.rankings for text in row.completions)

    def sampled(self, rows: Sequence[Completions]) -> int:
        """Tokens of answers that were sampled, each with its prompt."""
        return sum(self._length(row, text) for row in rows for text in row.completions)

    @cached_property
    def prompt_length(self) -> float:
        """Mean tokens of a prompt for PPO."""
        rows = formats.read(self.demo.files.rl_prompts, Prompt)
        return fmean(len(render.prompt_ids(self.tokenizer, row.prompt)) for row in rows)

    def reward(self) -> float:
        return float(TRAINED * self.parameters * self.demo.settings["reward"]["epochs"] * self.ranked())

    def online(self, method: str, run: Path, epochs: int = 1) -> float:
        """A run of PPO, RLOO or GRPO, without a pretraining mix."""
        batch = self.demo.settings["ppo"]["rollout_batch"]
        tokens = sum(batch * (row["length"] + self.prompt_length) for row in metrics(run))
        read, trained = OF_TOKEN[method]
        return float((read + epochs * trained) * self.parameters * tokens)

    def mixed(self) -> int:
        """Tokens of pretraining text in PPO-ptx, at most: documents are counted with their largest length."""
        own = self.demo.settings["ppo_ptx"]
        return round(self.demo.settings["ppo"]["episodes"] * own["ptx_ratio"] * own.get("ptx_tokens", 224))


def stages(demo: Demo) -> dict[str, Any]:
    """FLOPs of each stage of the demo, their share of pretraining, and the number of labels."""
    assert demo.base is not None
    counted, kept = Counted(demo), base.record(demo.base)
    n, sft = counted.parameters, demo.settings["sft"]["epochs"] * counted.shown(counted.demonstrations)
    flops = {
        "pretrain": 6 * kept["parameters"] * kept["tokens"], "sft": TRAINED * n * sft, "reward": counted.reward(),
        "ppo": counted.online("ppo", demo.run_at("ppo")),
        "ppo_ptx": counted.online("ppo", demo.run_at("ppo_ptx")) + TRAINED * n * counted.mixed(),
    }  # fmt: skip
    return {
        "parameters": n, "flops": flops, "share": {name: own / flops["pretrain"] for name, own in flops.items()},
        "labels": {"demonstrations": len(counted.demonstrations), "rankings": len(counted.rankings)},
    }  # fmt: skip
