"""What the experiments share: runs of the demo's world, policies trained from them, and their measured answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from heedful.commands import rejection
from heedful.config import Config, build
from heedful.configs.dpo import DPOConfig
from heedful.configs.grpo import GRPOConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.rejection import RejectionConfig
from heedful.configs.rloo import RLOOConfig
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.demo import data, loop
from heedful.demo.parallel import get_ready, side_by_side
from heedful.demo.records import Demo
from heedful.demo.settings import DemoSettings
from heedful.files import read_json, write_json
from heedful.inference import score
from heedful.maths.statistics import win_rate
from heedful.report.tables import ModelResult, head_to_head
from heedful.reproduce import world
from heedful.reproduce.parts import Figures, Folders
from heedful.runs.run import Run
from heedful.sandbox import labelers
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World
from heedful.stages import dpo, grpo, ppo, rloo

START = "fig1"
"""The part that trains the models of the demo. Everything begins with them."""


class Method(NamedTuple):
    """A way to train a policy: its config, and its function."""

    config: type[Config]
    train: Callable[..., Any]


METHODS = {
    "ppo": Method(PPOConfig, ppo.train), "rloo": Method(RLOOConfig, rloo.train),
    "grpo": Method(GRPOConfig, grpo.train), "dpo": Method(DPOConfig, dpo.train),
    "rejection": Method(RejectionConfig, rejection.train),
}  # fmt: skip
SECTIONS = {"dpo": "reward", "rejection": "sft"}
"""Sections of the demo's settings that a method begins with. By default those of PPO."""


def opened(before: Folders, seed: int, changes: DemoSettings) -> Demo:
    """The demo in the folder of the part that trained its models."""
    return loop.opened(before[START] / "demo", seed, base_model=world.BASE, changes=changes)


def train(
    demo: Demo, method: str, out: Path, *, start: str | None = None, reward: str | None = None, ptx: bool = False,
    changes: DemoSettings | None = None,
) -> Path:  # fmt: skip
    """Train or continue a policy from the SFT model, and return its model reference.

    `start` and `reward` name other models than those of the demo. `changes` are settings of the method.
    """
    kind, files = METHODS[method], demo.files
    given = demo.settings[SECTIONS.get(method, "ppo")] | (demo.settings["ppo_ptx"] if ptx else {}) | (changes or {})
    start, reward = start or demo.ref("sft"), reward or demo.ref("reward")
    if method == "dpo":
        inputs: dict[str, Any] = {"model": start, "data": files.rankings, "eval_data": files.valid_rankings}
    elif method == "rejection":
        inputs = {"model": start, "reward": [reward], "data": files.rl_prompts, "generation": demo.generation}
    else:
        inputs = {"policy": start, "reward": [reward], "prompts": files.rl_prompts, "generation": demo.generation}
        inputs |= {"pretrain_data": files.corpus} if ptx else {}
    known = {name: value for name, value in given.items() if name in kind.config.model_fields}
    config = build(kind.config, {**known, **inputs, "seed": demo.seed}, f"settings of {method}")
    began = time.perf_counter()
    try:
        kind.train(config, out, resume=True)
    finally:
        write_json(_clock(out), {"seconds": spent(out) + time.perf_counter() - began})
    return out / rejection.TRAINED if method == "rejection" else out


def spent(out: Path) -> float:
    """Seconds that a training took in all calls, but for those that were killed."""
    return float(read_json(_clock(out))["seconds"]) if _clock(out).exists() else 0.0


def _clock(out: Path) -> Path:
    return out.with_name(f"{out.name}-spent.json")


def measure(demo: Demo, name: str, model: Path, sft: Path, path: Path, prompts: str | None = None) -> ModelResult:
    """The answers of a policy to the test prompts, or to another file of prompts, judged by the truth. It is kept."""

    def found() -> ModelResult:
        ask = world.examiner(demo)
        if prompts is not None:
            ask.prompts = formats.read(prompts, Prompt)
        return ask.model(name, model, sft)

    return kept(path, found)


def prompted(demo: Demo, name: str, base: Path, path: Path) -> ModelResult:
    """The answers of a base model with a few-shot prefix, judged by the truth. They are kept."""
    return kept(path, lambda: world.examiner(demo).prompted(name, base))


def kept(path: Path, found: Callable[[], ModelResult]) -> ModelResult:
    """The result in a file, which the first call writes."""
    if not path.exists():
        write_json(path, asdict(found()))
    return ModelResult(**read_json(path))


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run calls on all cores."""
    get_ready()
    return side_by_side(calls)


def trained_and_measured(demo: Demo, folder: Path, runs: dict[str, dict[str, Any]]) -> dict[str, ModelResult]:
    """Train a policy for each entry, with its arguments of `train`, and measure all. Two run at a time."""
    return dict(
        zip(runs, together([partial(_one, demo, folder, name, how) for name, how in runs.items()]), strict=True)
    )


def _one(demo: Demo, folder: Path, name: str, how: dict[str, Any]) -> ModelResult:
    settings = {"method": "ppo", **how}
    model = train(demo, out=folder / name, **settings)
    return measure(demo, name, model, demo.run_at("sft"), folder / f"{name}.json")


def users(demo: Demo) -> list[str | None]:
    """The user of each test prompt."""
    return [prompt.user for prompt in formats.read(demo.files.test_prompts, Prompt)]


def wins(a: ModelResult, b: ModelResult, clusters: list[str | None]) -> Figures:
    """How often A beats B by the truth."""
    return head_to_head(a, b, clusters)._asdict()


def preferred(
    made: World, people: Sequence[Labeler], prompts: Sequence[Prompt], a: ModelResult, b: ModelResult
) -> Figures:
    """How often labelers prefer the answers of A to those of B, ties half. They take turns."""
    outcomes = []
    for i, (prompt, *pair) in enumerate(zip(prompts, a.completions, b.completions, strict=True)):
        who, rng = people[i % len(people)], Random(f"preferred {made.seed} {i}")
        ranking, _ = labelers.rank(made, prompt.prompt, pair, who, rng)
        outcomes.append(0.5 if len(ranking) == 1 else float(ranking[0] == [0]))
    return win_rate(outcomes, [prompt.user for prompt in prompts])._asdict()


def crew(demo: Demo, made: World, *groups: str, noise: float | None = None) -> list[Labeler]:
    """The labelers of some groups, with the noise of the demo's or their own `noise`."""
    everyone = data.people(made, demo.files, loop.sampled(demo, "ranked_prompts"))
    return [replace(one, noise=one.noise if noise is None else noise) for one in everyone if one.group in groups]


def proxies(demo: Demo, found: dict[str, ModelResult], path: Path) -> dict[str, float]:
    """By name, the mean score of the answers to the test prompts under the demo's reward model."""
    asked = formats.read(demo.files.test_prompts, Prompt)
    formats.write(str(path), [
        Completions(prompt=prompt.prompt, completions=list(texts))
        for prompt, *texts in zip(asked, *(one.completions for one in found.values()), strict=True)
    ])  # fmt: skip
    scored = path.with_name(f"{path.stem}-scored.jsonl")
    score.run(build(ScoreConfig, {"reward": [demo.ref("reward")], "data": str(path)}, "score"), scored, resume=True)
    rows = [row.scores or [] for row in formats.read(str(scored), Completions)]
    return {name: fmean(row[place] for row in rows) for place, name in enumerate(found)}


def tax(found: ModelResult, sft: ModelResult) -> float | None:
    """Nats a token on held-out base text above the SFT model."""
    return None if found.corpus_loss is None or sft.corpus_loss is None else found.corpus_loss - sft.corpus_loss


def accuracy(run: Path) -> float:
    """The accuracy of a reward model on held-out pairs."""
    return float(Run.open(run).manifest.results["valid"]["accuracy"]["rate"])
