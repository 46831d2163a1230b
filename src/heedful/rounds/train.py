"""What a round computes: answers to rank, the reward model on all rounds, and the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.config import UserError, build
from heedful.configs.ppo import PPOConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.sample import SampleConfig
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.inference import sampling
from heedful.rounds import promotions
from heedful.rounds.choose import PROMPTS
from heedful.rounds.state import ROUNDS, Round
from heedful.runs.manifest import Manifest, manifest_path

SAMPLES, RANKED = "samples-{}.jsonl", "ranked.jsonl"
SEED_STEP = 1_000
"""Between the seeds of two rounds, so that no two rounds sample alike."""


def sample(one: Round) -> dict[str, Any]:
    """Sample K answers to each prompt: one of each other model, the rest of the served model. Equal ones count once."""
    plan, prompts = one.plan, one.path / PROMPTS
    if not prompts.is_file():
        raise UserError(f"{prompts}: missing. Choose prompts, or put a file there")
    serving = promotions.serving(one.folder, plan)
    models = [serving, *plan.others]
    files = []
    for number, (model, k) in enumerate(zip(models, [plan.k - len(plan.others), *[1] * len(plan.others)], strict=True)):
        out = one.path / SAMPLES.format(number)
        values = {
            "model": model, "prompts": str(prompts), "k": k, "seed": seed_of(one) + number, "skip_long": True,
            "generation": plan.generation, "compute": plan.compute,
        }  # fmt: skip
        files.append(sampling.run(build(SampleConfig, values, "the plan"), out, resume=True))
    rows = merged([formats.read(str(path), Completions) for path in files])
    formats.write(one.path / RANKED, rows)
    return {"prompts": len(rows), "models": models}


def merged(files: list[list[Completions]]) -> list[Completions]:
    """One row of different answers for each prompt that all models have answered with two different ones or more."""
    by_prompt: dict[str, dict[int, Completions]] = {}
    for number, rows in enumerate(files):
        for row in rows:
            by_prompt.setdefault(str(row.row()["prompt"]), {})[number] = row
    found = []
    for rows_of_prompt in by_prompt.values():
        texts: dict[str, Any] = {}
        for row in rows_of_prompt.values():
            for text, model in zip(row.completions, row.models or [], strict=True):
                texts.setdefault(text, model)
        if len(rows_of_prompt) == len(files) and len(texts) > 1:
            told = {k: v for k, v in rows_of_prompt[0].row().items() if k not in ("finish", "token_ids")}
            found.append(
                Completions.model_validate(told | {"completions": list(texts), "models": list(texts.values())})
            )
    if not found:
        raise UserError("no prompt has two different answers. Raise generation.temperature or k")
    return found


def reward(one: Round) -> dict[str, Any]:
    """Train the reward model on the rankings of all rounds, from the first SFT model."""
    from heedful.stages import reward as stage  # needs torch

    plan, out = one.plan, one.place("reward")
    values: dict[str, Any] = {"seed": plan.seed, "compute": plan.compute.model_dump(), **plan.reward}
    values |= {"model": plan.sft, "data": str(one.latest("rankings")), "demonstrations": plan.demonstrations}
    stage.train(build(RewardConfig, values, "the plan, section reward"), out, resume=True)
    return results(out)


def ppo(one: Round) -> dict[str, Any]:
    """Train the policy on the prompts of all rounds: from the first SFT model, or from the served one."""
    from heedful.stages import ppo as stage

    plan, out, prompts = one.plan, one.place("ppo"), one.place("all-prompts.jsonl")
    found = [
        row
        for number in range(1, one.number + 1)
        if (path := one.folder / ROUNDS / f"{number:03d}" / PROMPTS).is_file()
        for row in formats.read(str(path), Prompt)
    ]
    formats.write(prompts, found)
    last = plan.start == "last"
    values: dict[str, Any] = {"seed": plan.seed, "skip_long": True, "compute": plan.compute.model_dump(), **plan.ppo}
    values |= {
        "policy": one.facts("sample").get("models", [None])[0] or promotions.serving(one.folder, plan)
        if last else plan.sft,
        "reference": plan.sft if last else None, "reward": [str(one.latest("reward"))], "prompts": str(prompts),
        "pretrain_data": plan.pretrain_data, "tax_data": plan.tax_data, "generation": plan.generation.model_dump(),
    }  # fmt: skip
    stage.train(build(PPOConfig, values, "the plan, section ppo"), out, resume=True)
    return results(out)


def results(run: Path) -> dict[str, Any]:
    """The results and the time of a run, as its manifest tells them."""
    manifest = Manifest.read(manifest_path(run))
    return {"run": str(run), "seconds": manifest.seconds, "results": manifest.results}


def seed_of(one: Round) -> int:
    """The seed of the samples of a round."""
    return (one.plan.seed + SEED_STEP * one.number) % 2**31
